"""The cache key of a model: a digest of all that its compiled form depends on.

Neither onnx nor the compiler is imported for it, so that a cached model starts quickly.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vitrify.cache import Cache
from vitrify.errors import ArgumentTypeError, InvalidModelError, NoSuchFileError
from vitrify.options import CompileOptions
from vitrify.toolchain.locate import locate

_LEAF = 4 << 20
#: A file changed more recently than this (seconds) might change again within one tick of its times.
_SETTLED = 2.0
_PACKAGE = Path(__file__).resolve().parent
#: What a compile does not run through.
_APART = frozenset({"cli", "runtime", "__pycache__"})

# Where tensors are in a ModelProto: message -> field number -> message (onnx.proto).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LOCATION = b"\x0a\x08location"


class ModelDigest(NamedTuple):
    """``external`` are the names of external data files, relative to the model's directory."""

    digest: str
    external: tuple[str, ...]


def model_key(model: object, options: CompileOptions, cache: Cache) -> str:
    """The key of ``model`` (a path, bytes, or a ``ModelProto``) under ``options``.

    The digest of a file is remembered in ``cache`` for as long as the file's identity, size and times
    stay the same. Raises NoSuchFileError, InvalidModelError (cannot be read), InvalidArgumentError (not
    a model at all), ToolchainError (no compiler).
    """
    parts = ["2", locate().fingerprint, _code_digest(), _packages(), options.identity()]
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        found = _file_digest(path, cache)
        parts.append(found.digest)
        for name in found.external:
            parts += [name, _external_digest(path, name, cache)]
    else:
        parts.append(_tree_digest(serialized(model)))
    parts += [f"{label} {version} {identity}" for label, version, identity in custom_ops_of(model)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def serialized(model: object) -> bytes:
    """The bytes of a model given as bytes or as a protobuf message. Raises InvalidArgumentError."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    serialize = getattr(model, "SerializeToString", None)
    if callable(serialize):
        _check_nesting(model)
        return bytes(serialize())
    raise ArgumentTypeError(
        "not a model", expected="a path, bytes, or an onnx.ModelProto", actual=type(model).__name__
    )


def custom_ops_of(model: object) -> list[tuple[str, int, str]]:
    """Label, version and identity of the registered custom ops of the domains that ``model`` imports."""
    ops = sys.modules.get("vitrify.custom_ops")  # who has registered one has imported it; others are spared that
    if ops is None or not ops.known_domains():
        return []
    if not isinstance(model, (str, os.PathLike)):
        domains = imported_domains(serialized(model))
    else:
        try:
            if not os.path.isfile(model):  # opening a pipe would wait for a writer
                return []
            with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                domains = imported_domains(data)
        except (OSError, ValueError):  # no such file, or an empty one, of which the digest says so
            return []
    found: list[tuple[str, int, str]] = ops.identities(sorted(domains))
    return found


def imported_domains(data: bytes | mmap.mmap) -> set[str]:
    """The domains that a serialized ``ModelProto`` and its functions import; of malformed bytes, those before the
    defect."""
    found: set[str] = set()
    with memoryview(data) as view:
        for number, value in islice(_fields(view), _MOST_FIELDS):
            several = [value] if number == 8 else [v for n, v in _fields(value) if n == 9] if number == 25 else []
            found.update(bytes(dict(_fields(v)).get(1, b"")).decode("utf-8", "replace") for v in several)
    return found


_MOST_FIELDS = 1 << 20  # of a model; more come of malformed bytes
_NESTED = 32  # graphs inside each other: protobuf reads 100 messages deep, of which each graph takes three


def _check_nesting(model: object) -> None:
    """Protobuf crashes on messages that are nested too deeply, so they are counted before it writes them."""
    graphs = [model.graph] if hasattr(model, "graph") else []
    graphs += getattr(model, "functions", ())  # they have nodes just as graphs do
    for _ in range(_NESTED + 1):
        attributes = [a for graph in graphs for node in graph.node for a in node.attribute]
        graphs = [graph for a in attributes for graph in ([a.g] if a.HasField("g") else a.graphs)]
        if not graphs:
            return
    raise InvalidModelError(f"the model's graphs are nested more than {_NESTED} deep")


def _code_digest() -> str:
    """Changes when a source of the compiler does; from sizes and times, which cost no reading."""
    digest = hashlib.sha256()
    for path, found in sorted(_sources(_PACKAGE), key=lambda source: source[0]):
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def compiler_sources() -> list[tuple[str, str]]:
    """The files that a compile runs through: their names in the package, and their paths."""
    return sorted((Path(path).relative_to(_PACKAGE).as_posix(), path) for path, _ in _sources(_PACKAGE))


@cache
def _packages() -> str:
    """Changes when one of the packages that have a part in constants does, or Python; they are not imported here."""
    found = [f"python {sys.version}"]
    for name in ("numpy", "onnx", "ml_dtypes"):
        spec = find_spec(name)
        if spec is not None and spec.origin:
            status = os.stat(spec.origin)
            found.append(f"{spec.origin} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(found)


def _sources(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            if entry.name not in _APART:
                yield from _sources(Path(entry.path))
        elif entry.name.endswith((".py", ".c", ".h")):
            yield entry.path, entry.stat()


def _file_digest(path: Path, cache: Cache) -> ModelDigest:
    try:
        found = os.stat(path)
        real = os.path.realpath(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe would block, a device may never end
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise InvalidModelError(f"{path} is {kind}", expected="an ONNX file, or an artifact")
        memo = _memo_key(real, found)
        if kept := cache.read_object(memo):
            digest, external = json.loads(kept)
            return ModelDigest(digest, tuple(external))
        with open(real, "rb") as file:
            if not found.st_size:
                data: bytes | mmap.mmap = b""
            else:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        result = ModelDigest(_tree_digest(data), tuple(sorted(external_files(data))))
        if time.time() - max(found.st_mtime, found.st_ctime) > _SETTLED:
            cache.write_object(memo, json.dumps(result).encode())
        return result
    except FileNotFoundError:
        raise NoSuchFileError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"{path} cannot be read: {error}") from None


def _external_digest(model: Path, name: str, cache: Cache) -> str:
    """A name that leads nowhere counts as such: the compiler refuses it and says why."""
    if "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
        return "refused"
    try:
        return _file_digest(model.parent / name, cache).digest
    except (NoSuchFileError, InvalidModelError):
        return "missing"


def _memo_key(real: str, found: os.stat_result) -> str:
    times = (found.st_mtime_ns, found.st_ctime_ns)
    identity = ("model", real, found.st_dev, found.st_ino, found.st_size, times)
    return hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()


def _tree_digest(data: bytes | mmap.mmap) -> str:
    """SHA-256 over the SHA-256 of each 4 MiB: large files are hashed on several threads."""
    view = memoryview(data)
    leaves = [view[at : at + _LEAF] for at in range(0, len(view), _LEAF)]
    if len(leaves) > 2:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 8)) as pool:
            digests = list(pool.map(_leaf_digest, leaves))
    else:
        digests = [_leaf_digest(leaf) for leaf in leaves]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _leaf_digest(leaf: memoryview) -> bytes:
    return hashlib.sha256(leaf).digest()


# ---- external data


def external_files(data: bytes | mmap.mmap) -> set[str]:
    """The locations of external data in a serialized ``ModelProto``; of malformed bytes, those before the
    defect (the front end refuses such a model)."""
    if data.find(_LOCATION) < 0:
        return set()
    found: set[str] = set()
    with memoryview(data) as view:
        _walk(view, "model", found)
    return found


def _walk(view: memoryview, message: str, found: set[str]) -> None:
    fields = _MESSAGES.get(message, {})
    for number, value in _fields(view):
        inner = fields.get(number)
        if inner == "entry":
            pair = dict(_fields(value))
            if bytes(pair.get(1, b"")) == b"location":
                found.add(bytes(pair.get(2, b"")).decode("utf-8", "surrogateescape"))
        elif inner:
            _walk(value, inner, found)


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of one protobuf message; stops at what is malformed."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(view, at)
            if at + length > end:
                return
            yield tag >> 3, view[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(view, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 70:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, len(view)

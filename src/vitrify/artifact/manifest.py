"""The manifest of an artifact: what it computes, for which CPUs, and the digest of every file.

It is one line of JSON in a single accepted spelling: parsing and encoding again must give the same
bytes. Its last member is the SHA-256 of everything before, so that damage to the manifest itself
shows. The schema is closed: unknown, missing, repeated and ill-typed members are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ..errors import ArtifactError
from .dtypes import BY_NAME

FORMAT = 1
MAX_BYTES = 64 << 20
LEAF_BYTES = 1 << 20
MANIFEST_NAME = "manifest.json"

#: A count, or an expression over the model's named dims.
Amount = int | str


class Port(NamedTuple):
    """An input or output. A dim is a number, the name of a dim, or an expression over named dims."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


class Meta(NamedTuple):
    """What the model says about itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = {}


class Node(NamedTuple):
    """A node of the source model; failures of a run name it by its index in the manifest."""

    name: str
    op: str


class Kernel(NamedTuple):
    """One kernel call of the plan: the source nodes it stands for, its work and its memory traffic."""

    name: str
    nodes: tuple[int, ...] = ()
    flops: Amount = 0
    bytes: Amount = 0


class Target(NamedTuple):
    """The code for one kind of CPU. ``features`` are needed besides what the target's name implies;
    ``weights`` is None for a model without constants. Memory is in bytes, scratch per thread."""

    target: str
    features: tuple[str, ...]
    payload: str
    weights: str | None
    arena_bytes: Amount
    scratch_bytes: int
    peak_bytes: Amount
    kernels: tuple[Kernel, ...] = ()


class FileEntry(NamedTuple):
    """``sha256`` has one digest for each MiB of the file, so that they can be checked in parallel and
    an error can say where the damage is. An empty file has none."""

    size: int
    sha256: tuple[str, ...]


class Manifest(NamedTuple):
    """Everything about an artifact but the bytes of its files."""

    vitrify: str
    meta: Meta
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    targets: tuple[Target, ...]
    nodes: tuple[Node, ...] = ()
    files: Mapping[str, FileEntry] = {}


T = TypeVar("T")
Parser = Callable[[Any, str], T]

_HEX = frozenset("0123456789abcdef")
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_MAX_NAME = 200


def _refuse(where: str, expected: str, actual: object) -> ArtifactError:
    shown = repr(actual)
    return ArtifactError(
        f"manifest: {where or 'the document'} is ill-formed",
        expected=expected,
        actual=shown if len(shown) <= 80 else shown[:77] + "...",
        hint="the artifact is damaged or was not written by this version; compile the model again",
    )


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _refuse(where, "a string", value)
    return value


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _refuse(where, "an integer from 0 to 2**63 - 1", value)
    return value


def _integer(value: Any, where: str) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise _refuse(where, "a 64-bit integer", value)
    return value


def _amount(value: Any, where: str) -> Amount:
    return value if type(value) is str and value else _count(value, where)


def _dtype(value: Any, where: str) -> str:
    if type(value) is not str or value not in BY_NAME:
        raise _refuse(where, "one of " + " ".join(BY_NAME), value)
    return value


def _file_name(value: Any, where: str) -> str:
    if (
        type(value) is not str
        or not 0 < len(value) <= _MAX_NAME
        or not _NAME_CHARACTERS.issuperset(value)
        or value[0] in "._-"
        or value == MANIFEST_NAME
    ):
        raise _refuse(where, "a plain file name", value)
    return value


def _digest(value: Any, where: str) -> str:
    if type(value) is not str or len(value) != 64 or not _HEX.issuperset(value):
        raise _refuse(where, "64 lowercase hexadecimal digits", value)
    return value


def _optional_file(value: Any, where: str) -> str | None:
    return None if value is None else _file_name(value, where)


def _several(item: Parser[T]) -> Parser[tuple[T, ...]]:
    def parse(value: Any, where: str) -> tuple[T, ...]:
        if type(value) is not list:
            raise _refuse(where, "a list", value)
        return tuple([item(element, f"{where}[{index}]") for index, element in enumerate(value)])

    return parse


def _mapping(key: Parser[str], item: Parser[T]) -> Parser[dict[str, T]]:
    def parse(value: Any, where: str) -> dict[str, T]:
        if type(value) is not dict:
            raise _refuse(where, "an object", value)
        return {key(name, where): item(element, f"{where}[{name!r}]") for name, element in value.items()}

    return parse


def _record(cls: Callable[..., T], **fields: Parser[Any]) -> Parser[T]:
    names = list(fields)

    def parse(value: Any, where: str) -> T:
        if type(value) is not dict or list(value) != names:
            raise _refuse(where, f"an object with the members {', '.join(names)}", value)
        return cls(*[parser(value[name], f"{where}.{name}") for name, parser in fields.items()])

    return parse


_port = _record(Port, name=_text, dtype=_dtype, dims=_several(_amount))
_meta = _record(
    Meta, producer_name=_text, graph_name=_text, domain=_text, description=_text, version=_integer,
    custom_metadata_map=_mapping(_text, _text),
)  # fmt: skip
_kernel = _record(Kernel, name=_text, nodes=_several(_count), flops=_amount, bytes=_amount)
_target = _record(
    Target, target=_text, features=_several(_text), payload=_file_name, weights=_optional_file,
    arena_bytes=_amount, scratch_bytes=_count, peak_bytes=_amount, kernels=_several(_kernel),
)  # fmt: skip
_manifest = _record(
    Manifest, vitrify=_text, meta=_meta, inputs=_several(_port), outputs=_several(_port),
    targets=_several(_target), nodes=_several(_record(Node, name=_text, op=_text)),
    files=_mapping(_file_name, _record(FileEntry, size=_count, sha256=_several(_digest))),
)  # fmt: skip


def check(manifest: Manifest) -> None:
    """Raises ArtifactError where the parts of a manifest do not fit together."""
    for kind, ports in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [port.name for port in ports]
        if len(set(names)) != len(names):
            raise _refuse(kind, "names that differ", names)
    if not manifest.targets:
        raise _refuse("targets", "at least one target", [])
    used = {name for target in manifest.targets for name in (target.payload, target.weights) if name}
    if used != set(manifest.files):
        raise _refuse("files", f"exactly the files that targets use: {sorted(used)}", sorted(manifest.files))
    for name, entry in manifest.files.items():
        leaves = -(-entry.size // LEAF_BYTES)
        if len(entry.sha256) != leaves:
            raise _refuse(f"files[{name!r}].sha256", f"{leaves} digests", len(entry.sha256))
    for target in manifest.targets:
        for kernel in target.kernels:
            if any(node >= len(manifest.nodes) for node in kernel.nodes):
                raise _refuse(f"kernel {kernel.name!r}", f"nodes below {len(manifest.nodes)}", kernel.nodes)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(member) for name, member in value._asdict().items()}
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return value


def _dump(document: Mapping[str, Any]) -> bytes:
    # Lone surrogates (a damaged name) must not make writing or checking fail with a Unicode error.
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def encode(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``. Raises ArtifactError for a manifest that would not parse back."""
    document = {"format": FORMAT, **_plain(manifest)}
    body = _dump(document)
    document["sha256"] = hashlib.sha256(body).hexdigest()
    encoded = _dump(document) + b"\n"
    if parse(encoded) != manifest:
        raise ArtifactError("manifest: its parts have the wrong types", hint="sequences must be tuples")
    return encoded


def parse(encoded: bytes) -> Manifest:
    """The manifest in ``encoded``; ArtifactError for anything but what :func:`encode` writes."""
    if len(encoded) > MAX_BYTES:
        raise _refuse("", f"at most {MAX_BYTES} bytes", len(encoded))
    try:
        document = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise _refuse("", "JSON", str(error)) from None
    if type(document) is not dict or "format" not in document:
        raise _refuse("", "an object with the member format", document)
    found = document.pop("format")
    if found != FORMAT or type(found) is not int:
        raise ArtifactError(
            "manifest: the format is not the one this version reads", expected=FORMAT, actual=found,
            hint="compile the model again with this version, or install the version that wrote the artifact",
        )  # fmt: skip
    stated = document.pop("sha256", None)
    body = _dump({"format": found, **document})
    digest = hashlib.sha256(body).hexdigest()
    if stated != digest or encoded != body[:-1] + b',"sha256":"' + digest.encode() + b'"}\n':
        raise _refuse("", f"the SHA-256 {stated}", digest)
    manifest: Manifest = _manifest(document, "")
    check(manifest)
    return manifest

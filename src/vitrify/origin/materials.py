"""What goes into an artifact: the model's files, the programs and packages that make it, custom ops."""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from vitrify.errors import InvalidModelError, NoSuchFileError
from vitrify.model_key import compiler_sources, custom_ops_of, external_files, serialized
from vitrify.toolchain.locate import locate

PACKAGES = ("onnx", "ml_dtypes", "numpy")


class Material(NamedTuple):
    """``sha256`` is None where a version says enough. ``package`` is its name on PyPI, empty for what is none."""

    name: str
    version: str
    sha256: str | None = None
    package: str = ""


class Model(NamedTuple):
    """The digest of the model's file, and of its external data by name, relative to the model."""

    sha256: str
    external: tuple[tuple[str, str], ...] = ()


class Materials(NamedTuple):
    """``tools`` begin with vitrify itself and the C compiler. ``custom_ops`` are labels with version and identity."""

    model: Model
    tools: tuple[Material, ...]
    custom_ops: tuple[Material, ...] = ()


def materials_of(model: Any) -> Materials:
    """Those of a compile of ``model`` (a path, bytes, or a ``ModelProto``) by this process. Raises NoSuchFileError,
    InvalidModelError, ToolchainError."""
    ops = tuple(Material(label, str(number), identity) for label, number, identity in custom_ops_of(model))
    return Materials(model_digests(model), tools(), ops)


def model_digests(model: Any) -> Model:
    """SHA-256 of the file, or of the bytes. External data that is not there has no digest: the compiler says why."""
    if not isinstance(model, (str, os.PathLike)):
        return Model(hashlib.sha256(serialized(model)).hexdigest())
    path = Path(model)
    external = []
    try:
        with open(path, "rb") as file:
            empty = not os.fstat(file.fileno()).st_size
            data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for name in sorted(external_files(data)):
            inside = not os.path.isabs(name) and ".." not in Path(name).parts and "\0" not in name
            if inside and (path.parent / name).is_file():
                external.append((name, _file_digest(path.parent / name)))
    except FileNotFoundError:
        raise NoSuchFileError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"{path} cannot be read: {error}") from None
    return Model(hashlib.sha256(data).hexdigest(), tuple(external))


def tools() -> tuple[Material, ...]:
    """What would compile here."""
    from vitrify import __version__

    program = locate()
    found = program.path.resolve().stat()
    digest = _program_digest(program.path, found.st_size, found.st_mtime_ns)
    if program.zig:
        compiler = Material("ziglang", _version("ziglang"), digest, "ziglang")
    else:
        from vitrify.toolchain.zig import Compiler

        compiler = Material("clang", Compiler().version, digest)
    packages = tuple(Material(name, _version(name), None, name) for name in PACKAGES)
    python = Material("python", platform.python_version())
    return Material("vitrify", __version__, _sources_digest(), "vitrify"), compiler, *packages, python


@cache
def _sources_digest() -> str:
    """SHA-256 over names and digests of the compiler's sources: between two versions these change too."""
    digest = hashlib.sha256()
    for name, path in compiler_sources():
        digest.update(f"{_file_digest(Path(path))}  {name}\n".encode())
    return digest.hexdigest()


@cache
def _program_digest(path: Path, size: int, changed: int) -> str:
    return _file_digest(path)


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # imported from a tree that was not installed
        return "unknown"

"""PlatformError: code that is not for this machine, or says so in one place and not in another."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vitrify.errors import PlatformError

from .forge import PAYLOAD, Parts, base
from .table import attack, changed

_NONE = "no target of the artifact runs on this"


def _target(**members: Any) -> Callable[[Path], None]:
    return changed(lambda parts: parts.target.update(members))


def with_payload(image: bytes, parts: Parts) -> None:
    """The artifact with another library as its payload, listed and signed."""
    parts.files[PAYLOAD] = image
    parts.list_files()


def _library(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from tests.artifact.gate.libraries import payload

        changed(partial(with_payload, payload(name)))(path)

    return write


def _header(offset: int, content: bytes) -> Callable[[Path], None]:
    def change(parts: Parts) -> None:
        image = bytearray(base().files[PAYLOAD])
        image[offset : offset + len(content)] = content
        with_payload(bytes(image), parts)

    return changed(change)


attack("platforms/feature", PlatformError, _NONE, _target(features=["no_such_feature"]), stage="run")
attack("platforms/target", PlatformError, _NONE, _target(target="x86-64-v9"), stage="run")
attack("platforms/aarch64", PlatformError, _NONE, _target(target="aarch64", architecture="aarch64"), stage="run")
attack("platforms/label-aarch64", PlatformError, _NONE, _target(target="aarch64"), stage="run")
attack("platforms/macos", PlatformError, _NONE, _target(os="macos"), stage="run")
attack("platforms/windows", PlatformError, _NONE, _target(os="windows"), stage="run")
attack("platforms/architecture", PlatformError, _NONE, _target(architecture="aarch64"), stage="run")
attack("platforms/macos-name", PlatformError, _NONE, _target(target="macos-x86_64", os="macos"), stage="run")
attack("platforms/windows-arm", PlatformError, "no such platform", _target(
    os="windows", architecture="aarch64"), stage="verify")  # fmt: skip
for _name in ("aarch64", "macos-aarch64", "macos-x86_64", "windows-x86_64"):
    attack(f"platforms/library-{_name}", PlatformError, "for another (machine|system)", _library(_name), stage="run")
attack("platforms/machine", PlatformError, "for another machine", _header(18, struct.pack("<H", 183)), stage="run")
attack("platforms/class-32", PlatformError, "of another class", _header(4, b"\1"), stage="run")
attack("platforms/big-endian", PlatformError, "of another class", _header(5, b"\2"), stage="run")
attack("platforms/freebsd", PlatformError, "for another system", _header(7, b"\x09"), stage="run")

"""LimitError: artifacts that are larger, deeper, or made of more parts than any is."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

from vitrify.errors import LimitError

from .forge import OWNER, Member, Parts, base, dumps, envelope, listed, signature, write_file, write_folder, zipped
from .table import attack, changed, members

_TEXT = '{"a":%s}'


def _manifest(make: Callable[[dict[str, object]], bytes]) -> Callable[[Path], None]:
    """The artifact signed over this manifest."""

    def write(path: Path) -> None:
        parts = base()
        write_file(path, parts.members(make(parts.manifest)))

    return write


def _set(name: str, text: str) -> Callable[[dict[str, object]], bytes]:
    def make(manifest: dict[str, object]) -> bytes:
        return dumps({**manifest, name: "MARK"}).replace(b'"MARK"', text.encode())

    return make


def _details(make: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(parts: Parts) -> None:
        parts.files["details.json"] = make(parts.files["details.json"])
        parts.list_files()

    return changed(change)


def _sparse(name: str, size: int, *, listed_too: bool = False) -> Callable[[Path], None]:
    """A directory in which a file says that it is this long."""

    def write(path: Path) -> None:
        parts = base()
        if listed_too:
            parts.manifest["files"][name]["size"] = size
        write_folder(path, parts.members())
        os.truncate(path / name, size)

    return write


def _many_signatures(count: int) -> Callable[[Path], None]:
    def change(files: dict[str, bytes]) -> None:
        document = json.loads(files["signature.json"])
        document["signatures"] = [signature(f"{i:064x}", bytes(64)) for i in range(count)]
        files["signature.json"] = dumps(document)

    return members(change)


def _million(path: Path) -> None:
    """The directory alone: its records would take 49 MB."""
    path.write_bytes(bytes(1000) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65534, 65534, 978, 0, 0))


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def _many_files(path: Path) -> None:
    write_folder(path, base().members())
    for index in range(4097):
        (path / f"f{index}").touch()


def _far(path: Path) -> None:
    path.write_bytes(zipped(listed(base().members())))
    os.truncate(path, 1 << 32)


attack("limits/huge-file", LimitError, "the file is too large", _far)
attack("limits/huge-manifest", LimitError, "manifest.json is too large", _manifest(
    lambda manifest: dumps({**manifest, "vitrify": "0" * (1 << 20)})))  # fmt: skip
attack("limits/sparse-manifest", LimitError, "manifest.json is too large", _sparse("manifest.json", 1 << 40))
attack("limits/sparse-signature", LimitError, "envelope is too large", _sparse("signature.json", 1 << 40))
attack("limits/sparse-details-listed", LimitError, "details.json is too large", _sparse(
    "details.json", 1 << 40, listed_too=True))  # fmt: skip
attack("limits/huge-details", LimitError, "details.json is too large", _details(lambda _: bytes((64 << 20) + 1)))
attack("limits/nesting", LimitError, "nested too deeply", _manifest(_set("vitrify", _deep(100_000))))
attack("limits/nesting-17", LimitError, "nested too deeply", _manifest(_set("vitrify", _deep(16))))
attack("limits/nesting-details", LimitError, "nested too deeply", _details(lambda _: _deep(1_000_000).encode()))
attack("limits/nesting-objects", LimitError, "nested too deeply", _manifest(
    _set("vitrify", '{"a":' * 50_000 + "1" + "}" * 50_000)))  # fmt: skip
attack("limits/entries", LimitError, "too many members", lambda path: path.write_bytes(zipped(
    [Member(b"%06d" % i, b"") for i in range(5000)])))  # fmt: skip
attack("limits/entries-claimed", LimitError, "too many members", _million)
attack("limits/directory-claimed", LimitError, "too many members", lambda path: path.write_bytes(
    bytes(1 << 21) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 1 << 21, 0, 0)))  # fmt: skip
attack("limits/files", LimitError, "too many files", _many_files)
attack("limits/digits", LimitError, "an integer is too large", _manifest(_set("vitrify", "1" * 5000)))
attack("limits/negative-digits", LimitError, "an integer is too large", _manifest(_set("vitrify", "-" + "1" * 5000)))
attack("limits/integer", LimitError, "an integer is too large", _manifest(_set("vitrify", str(1 << 53))))
attack("limits/size", LimitError, "an integer is too large", changed(
    lambda parts: parts.manifest["files"]["details.json"].update(size=1 << 63)))  # fmt: skip
attack("limits/signatures", LimitError, "too many signatures", _many_signatures(17))
attack("limits/envelope", LimitError, "envelope is too large", _many_signatures(2000))
attack("limits/statement", LimitError, "nested too deeply", members(lambda files: files.update({
    "signature.json": envelope(_deep(1000).encode(), [OWNER])})))  # fmt: skip
attack("limits/base64", LimitError, "envelope is too large", members(lambda files: files.update({
    "signature.json": dumps({"payload": base64.b64encode(bytes(1 << 18)).decode()})})))  # fmt: skip
attack("limits/amount", LimitError, "an expression is too long", changed(
    lambda parts: parts.target.update(arena_bytes="+".join(["n"] * 40_000))))  # fmt: skip

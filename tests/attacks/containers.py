"""ContainerError: files that are not the one valid encoding of their contents."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vitrify.errors import ContainerError

from .forge import LEAVES, PAYLOAD, WEIGHTS, Member, base, listed, write_folder, zipped
from .table import attack, changed

_END = 22


def _bytes(make: Callable[[list[Member]], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(make(listed(base().members())))

    return write


def _refused(name: str, message: str, make: Callable[[list[Member]], bytes]) -> None:
    attack(f"containers/{name}", ContainerError, message, _bytes(make))


def _with(members: list[Member], name: str, **changes: Any) -> list[Member]:
    """The members, with fields of one of them replaced."""
    return [m._replace(**changes) if m.name == name.encode() else m for m in members]


def _both(members: list[Member], name: str, **fields: Any) -> bytes:
    """The same change in a member's two headers."""
    return zipped(_with(members, name, local=fields, central=fields))


def _deflated(members: list[Member]) -> bytes:
    found = next(m for m in members if m.name == b"details.json")
    packer = zlib.compressobj(wbits=-15)
    content = packer.compress(found.content) + packer.flush()
    fields = {"method": 8, "size": len(found.content), "crc": zlib.crc32(found.content)}
    return zipped(_with(members, "details.json", content=content, local=fields, central=fields))


def _descriptor(members: list[Member]) -> bytes:
    found = next(m for m in members if m.name == b"details.json")
    size, crc = len(found.content), zlib.crc32(found.content)
    after = struct.pack("<4s3I", b"PK\7\10", crc, size, size)
    return zipped(_with(
        members, "details.json", local={"flags": 8, "crc": 0, "stored": 0, "size": 0}, central={"flags": 8},
        after=after,
    ))  # fmt: skip


def _zip64(members: list[Member]) -> bytes:
    plain = zipped(members)
    *_, count, length, start, _ = struct.unpack("<4s4H2IH", plain[-_END:])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(plain) - _END, 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return plain[:-_END] + record + locator + end


def _overlapping(members: list[Member]) -> bytes:
    """Two entries of the directory name the same content."""
    made = zipped(members)
    first, second = (m.name for m in members[:2])
    table = made.index(b"PK\1\2")
    at = made.index(second, table) - 46
    return made[: at + 42] + struct.pack("<I", made.index(first) - 30) + made[at + 46 :]


def _two_ends(members: list[Member]) -> bytes:
    made = zipped(members)
    return made + made[-_END:]


def _shorter(made: bytes, less: int) -> bytes:
    """The directory ends so many bytes early, and says so."""
    end = list(struct.unpack("<4s4H2IH", made[-_END:]))
    end[5] -= less
    return made[: -_END - less] + struct.pack("<4s4H2IH", *end)


def _one_more(name: bytes, members: list[Member]) -> bytes:
    return zipped(sorted([*members, Member(name, b"")], key=lambda member: member.name))


def _misaligned(members: list[Member]) -> bytes:
    return zipped(_with(members, WEIGHTS, before=b""))


def _padded(members: list[Member]) -> bytes:
    made = bytearray(zipped(members))
    made[made.index(base().files[WEIGHTS]) - 30 - len(WEIGHTS) - 1] = 1
    return bytes(made)


_refused("duplicate-name", "order of their names", lambda m: zipped([m[0], *m]))
_refused("duplicate-manifest", "order of their names", lambda m: zipped([
    *m[:3], m[2]._replace(content=m[2].content.replace(b"f32", b"i32")), *m[3:]
]))  # fmt: skip
_refused("case-collision", "cannot name a member", lambda m: zipped([Member(b"Details.json", b"{}"), *m]))
_refused("nfc", "not ASCII", lambda m: zipped([*m, Member("é".encode(), b"")]))
_refused("nfd", "not ASCII", lambda m: zipped([*m, Member("e\u0301".encode(), b"")]))
for _name, _text in {
    "parent": "../a", "parent-inside": "a/../b", "absolute": "/etc/a", "drive": "c:a", "unc": "\\\\host\\a",
    "backslash": "a\\b", "nul": "a\0.json", "empty-name": "", "dot": ".", "deep": "a/b/c", "space": "a b",
    "folder": "a/", "hidden": ".a", "option": "-a", "newline": "a\nb", "long": "a" * 201,
}.items():  # fmt: skip
    _refused(f"name-{_name}", "cannot name a member", partial(_one_more, _text.encode()))
_refused("file-and-folder", "a member and a folder", partial(_one_more, b"payload"))
_refused("prefix", "does not lie just before", lambda m: b"#!/bin/sh\n" + zipped(m))
_refused("prefix-counted", "differs from the one valid", lambda m: zipped(m, prefix=b"#!/bin/sh\n"))
_refused("trailing", "does not end with the end record", lambda m: zipped(m, trailing=b"\0"))
_refused("trailing-comment", "does not end with the end record", lambda m: zipped(
    m, trailing=b"hi", end={"comment_length": 2}))  # fmt: skip
_refused("comment-length", "of a comment", lambda m: zipped(m, end={"comment_length": 2}))
_refused("gap", "the directory is at byte", lambda m: zipped(m, gap=b"\0"))
_refused("two-ends", "does not lie just before", _two_ends)
_refused("other-disk", "of other disks", lambda m: zipped(m, end={"disk": 1}))
_refused("count", "other disks", lambda m: zipped(m, end={"here": 1}))
_refused("count-of-both", "differs from the one valid", lambda m: zipped(m, end={"here": 5, "count": 5}))
_refused("truncated", "does not end with the end record", lambda m: zipped(m)[:-1])
_refused("short", "too short for an archive", lambda m: zipped(m)[:21])
_refused("cut-off-name", "differs from the one valid", lambda m: _shorter(zipped(m), 1))
_refused("cut-off-record", "cut off or has no mark", lambda m: _shorter(zipped(m), len(m[-1].name) + 1))
_refused("record-mark", "cut off or has no mark", lambda m: zipped(
    _with(m, "details.json", central={"mark": b"PK\1\3"})))  # fmt: skip
_refused("local-name", "what precedes details.json", lambda m: zipped(
    _with(m, "details.json", local={"name": b"details.jsom"})))  # fmt: skip
_refused("local-size", "what precedes details.json", lambda m: zipped(_with(m, "details.json", local={"size": 9})))
_refused("local-extra", "the directory (is at byte|differs)", lambda m: zipped(
    _with(m, "details.json", local={"extra_length": 4, "extra": b"abcd"})))  # fmt: skip
_refused("local-mark", "what precedes", lambda m: zipped(_with(m, "details.json", local={"mark": b"PK\3\5"})))
_refused("local-crc", "what precedes", lambda m: zipped(_with(m, PAYLOAD, local={"crc": 1})))
_refused("crc", "checksum is not the manifest's", lambda m: _both(m, PAYLOAD, crc=1))
_refused("crc-of-manifest", "checksum", lambda m: _both(m, "manifest.json", crc=1))
_refused("crc-of-signature", "checksum", lambda m: _both(m, "signature.json", crc=1))
_refused("extra", "flags, extra fields", lambda m: zipped(
    _with(m, "details.json", central={"extra_length": 4, "extra": b"abcd"})))  # fmt: skip
_refused("encrypted", "flags, extra fields", lambda m: _both(m, "details.json", flags=1))
_refused("utf-8-flag", "flags, extra fields", lambda m: _both(m, "details.json", flags=0x800))
_refused("date", "differs from the one valid encoding", lambda m: _both(m, "details.json", date=34))
_refused("mode", "differs from the one valid", lambda m: zipped(
    _with(m, "details.json", central={"external": 0o104755 << 16})))  # fmt: skip
_refused("symlink-mode", "differs from the one valid", lambda m: zipped(
    _with(m, "details.json", central={"external": 0o120777 << 16})))  # fmt: skip
_refused("other-offset", "differs from the one valid", lambda m: zipped(
    _with(m, "details.json", central={"header": 7})))  # fmt: skip
_refused("overlap", "differs from the one valid encoding", _overlapping)
_refused("deflated", "compressed", _deflated)
_refused("sizes-differ", "compressed", lambda m: zipped(_with(m, "details.json", central={"stored": 5})))
_refused("descriptor", "flags, extra fields|the directory is at byte", _descriptor)
_refused("zip64", "zip64", _zip64)
_refused("misaligned", "the directory is at byte", _misaligned)
_refused("nonzero-padding", f"what precedes {WEIGHTS}", _padded)
_refused("no-manifest", "there is no manifest.json", lambda m: zipped([x for x in m if x.name != b"manifest.json"]))
_refused("empty", "there is no manifest.json", lambda m: zipped([]))
attack("containers/missing", ContainerError, "cannot be opened", lambda path: None)


def _link(path: Path) -> None:
    changed(lambda parts: None)(path.with_name("real.vit"))
    path.symlink_to("real.vit")


def _linked_folder(path: Path) -> None:
    write_folder(path.with_name("real"), base().members())
    path.symlink_to("real")


def _folder(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_folder(path, base().members())
        change(path)

    return write


def _moved(path: Path, name: str) -> Path:
    """The file, now outside the artifact."""
    kept = path.with_name("kept")
    (path / name).rename(kept)
    return kept


def _loop(path: Path) -> None:
    (path / LEAVES).unlink()
    (path / LEAVES).symlink_to(path / LEAVES)


attack("containers/symlink", ContainerError, "cannot be opened", _link)
attack("containers/symlink-to-folder", ContainerError, "cannot be opened", _linked_folder)
attack("containers/fifo", ContainerError, "not a regular file", os.mkfifo)
attack("containers/device", ContainerError, "cannot be opened", lambda path: path.symlink_to("/dev/zero"))
for _name, _change in {
    "symlink": lambda p: (p / PAYLOAD).symlink_to(_moved(p, PAYLOAD)),
    "symlink-loop": _loop,
    "symlink-to-proc": lambda p: (_moved(p, PAYLOAD), (p / PAYLOAD).symlink_to("/proc/self/mem")),
    "hardlink": lambda p: os.link(p / PAYLOAD, p.with_name("other")),
    "fifo": lambda p: (_moved(p, PAYLOAD), os.mkfifo(p / PAYLOAD)),
    "folder-for-file": lambda p: (_moved(p, PAYLOAD), (p / PAYLOAD).mkdir()),
    "linked-inside": lambda p: (p / "payload").rename(p.with_name("kept"))
    and (p / "payload").symlink_to(p.with_name("kept")),
}.items():  # fmt: skip
    attack(f"containers/folder-{_name}", ContainerError, "regular file", _folder(_change))
for _name, _change in {
    "upper": lambda p: (p / "Details.json").write_bytes(b""),
    "unicode": lambda p: (p / "é").write_bytes(b""),
    "not-unicode": lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff")).write_bytes(b""),
    "deep": lambda p: (p / "payload" / "x" / "y").mkdir(parents=True),
    "hidden": lambda p: (p / ".hidden").write_bytes(b""),
    "hidden-folder": lambda p: (p / ".git").mkdir(),
}.items():  # fmt: skip
    attack(f"containers/folder-{_name}", ContainerError, "cannot name a member|regular file", _folder(_change))
attack("containers/folder-no-manifest", ContainerError, "there is no manifest.json", _folder(
    lambda p: _moved(p, "manifest.json")))  # fmt: skip
def _model(path: Path) -> None:
    """What is no archive at all, by the name of one."""
    path.write_bytes(b"\x08\x07\x12\x04test" * 9)


attack("containers/onnx-named-vit", ContainerError, "does not end with the end record", _model)

"""The one file of an artifact: a zip archive with exactly one valid encoding, and the same files as a directory.

Members are stored as they are, in the order of their names; weights, which are mapped, at multiples of 64 KiB with
zeros before their headers. Every byte that is no member's content follows from names,
sizes and checksums, so a reader writes those bytes again and compares: what any unzip program shows is what was
signed, and no two programs can be shown two things.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from ..errors import ContainerError, LimitError, RaceError
from .record import Record

SUFFIX = ".vit"  # of artifacts that are one file
MARK = b"PK\3\4"  # how the file begins
MAP_ALIGNMENT = 1 << 16  # a page, on every system
MAPPED = "weights/"  # members under this name are mapped
MAX_MEMBERS = 4096
MAX_NAME = 200
MAX_BYTES = (1 << 32) - 1  # beyond, only as a directory: zip64 would be a second encoding

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
_MADE_BY, _NEEDED = 3 << 8 | 20, 10  # Unix, for the file mode; stored members need version 1.0
_DATE = 1 << 5 | 1  # 1980-01-01, the first that zip knows
_MODE = (stat.S_IFREG | 0o644) << 16
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("._-")


#: What a refusal of a damaged file tells its reader to do.
DAMAGED = "the artifact is damaged or was not written by this tool; fetch it again, or build it again"


class Entry(Record):
    """A member to be: its name, size in bytes and CRC-32."""

    name: str
    size: int
    crc32: int


class Place(Record):
    """Where a member's header and its content begin."""

    entry: Entry
    header: int
    data: int


def check_name(name: str) -> None:
    """Raises ContainerError for what is not one or two lower-case ASCII words joined by a slash."""
    words = name.split("/")
    if (
        len(name) > MAX_NAME
        or len(words) > 2
        or not all(word and word[0] in _FIRST and _REST.issuperset(word) for word in words)
    ):
        raise ContainerError(
            f"{name[:MAX_NAME]!r} cannot name a member",
            expected="one or two words of lower-case letters, digits, '.', '_' and '-', joined by '/'",
        )


def check_names(names: Iterable[str]) -> None:
    """Raises ContainerError for a bad name, and for one that is the folder of another."""
    taken = set(names)
    for name in taken:
        check_name(name)
    both = sorted({name.partition("/")[0] for name in taken if "/" in name} & taken)
    if both:
        raise ContainerError(f"{both[0]!r} is a member and a folder of members")


def places(entries: Iterable[Entry]) -> tuple[list[Place], int]:
    """Where every member lies, and where the directory of the archive begins."""
    found, at = [], 0
    for entry in sorted(entries):
        alignment = MAP_ALIGNMENT if entry.name.startswith(MAPPED) else 1
        header = LOCAL.size + len(entry.name)
        data = -(-(at + header) // alignment) * alignment
        found.append(Place(entry, data - header, data))
        at = data + entry.size
    return found, at


def local_header(entry: Entry) -> bytes:
    """What precedes a member's content."""
    name = entry.name.encode("ascii")
    return LOCAL.pack(
        MARK, _NEEDED, 0, 0, 0, _DATE, entry.crc32, entry.size, entry.size, len(name), 0
    ) + name  # fmt: skip


def directory(found: list[Place], start: int) -> bytes:
    """The archive's directory, which begins at ``start``, and its end record."""
    records = b"".join(
        CENTRAL.pack(
            b"PK\1\2", _MADE_BY, _NEEDED, 0, 0, 0, _DATE, entry.crc32, entry.size, entry.size,
            len(entry.name), 0, 0, 0, 0, _MODE, header,
        ) + entry.name.encode("ascii")
        for entry, header, _ in found
    )  # fmt: skip
    return records + END.pack(b"PK\5\6", 0, 0, len(found), len(found), len(records), start, 0)


def write_archive(file: BinaryIO, members: Mapping[str, tuple[Entry, Iterable[bytes | memoryview]]]) -> None:
    """Writes the archive: for each name, what it will be and its content in pieces.

    Raises ContainerError for a bad name and for content that is not of the stated size; LimitError where the
    archive would be larger than 4 GiB or have more than 4096 members.
    """
    check_names(members)
    if len(members) > MAX_MEMBERS:
        raise LimitError("too many members", expected=f"at most {MAX_MEMBERS}", actual=len(members))
    found, start = places(entry for entry, _ in members.values())
    size = start + END.size + sum(CENTRAL.size + len(name) for name in members)
    if size > MAX_BYTES:
        raise LimitError(
            "the artifact is too large for one file", expected=f"at most {MAX_BYTES} bytes", actual=size,
            hint="write it as a directory",
        )  # fmt: skip
    at = 0
    for entry, header, data in found:
        file.write(bytes(header - at) + local_header(entry))
        written = 0
        for piece in members[entry.name][1]:
            written += len(piece)
            file.write(piece)
        if written != entry.size:
            raise ContainerError(f"{entry.name}: wrong size", expected=entry.size, actual=written)
        at = data + written
    file.write(directory(found, start))


def check_writers(status: os.stat_result, path: str) -> None:
    """Raises RaceError for a file that anybody may write to, and for a directory in which anybody may exchange files:
    what was checked there need not be what is used. (Who owns it, or is of its group, is trusted with it.)"""
    if status.st_mode & stat.S_IWOTH and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        raise RaceError(
            "others can write here", path=path, expected="its owner and group alone can",
            actual=f"mode {stat.S_IMODE(status.st_mode):o}", hint=f"chmod o-w {path}",
        )  # fmt: skip


def check_place(path: str) -> None:
    """Raises RaceError where anybody may exchange what is at ``path``, ContainerError where nobody can look."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        status = os.stat(folder)
    except OSError as error:
        raise ContainerError(f"cannot be opened: {error.strerror}", path=folder) from None
    check_writers(status, folder)


def read_exactly(fd: int, start: int, size: int, path: str) -> bytes:
    """``size`` bytes from ``start``. RaceError where there are fewer."""
    parts = []
    while size:
        try:
            part = os.pread(fd, min(size, 1 << 26), start)
        except OSError as error:
            raise ContainerError(f"cannot be read: {error.strerror}", path=path) from None
        if not part:
            raise RaceError("the file became shorter while it was read", path=path)
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)

"""Mach-O's compressed tables: what dyld rebases and binds, and the trie of exports (``mach-o/loader.h``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .image import LONGEST_NAME, Image

if TYPE_CHECKING:
    from .macho import Segment

_POINTER, _MAX_EXPORTS = 8, 4096
_OVERFLOW = 1 << 64


class _Bytes:
    """The bytes of one table, read in order."""

    __slots__ = ("at", "data", "image", "what")

    def __init__(self, image: Image, offset: int, size: int, what: str) -> None:
        image.bound(offset, size, what)
        self.data = bytes(image.data[offset : offset + size])
        self.at, self.image, self.what = 0, image, what

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise self.image.refused(f"{self.what} is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """An unsigned LEB128 number of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value < _OVERFLOW:
                    return value
                break
        raise self.image.refused(f"a number in {self.what} is longer than 64 bits")

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if not 0 <= end - self.at < LONGEST_NAME:
            raise self.image.refused(f"a name in {self.what} does not end")
        text = self.data[self.at : end]
        self.at = end + 1
        if not all(33 <= byte < 127 for byte in text):
            raise self.image.refused(f"a name in {self.what} is not printable ASCII", actual=text)
        return text.decode("ascii")


def _targets(segments: Sequence[Segment], index: int, offset: int, count: int, skip: int) -> bool:
    """Whether ``count`` pointers from ``offset``, ``skip`` bytes apart, are in data of the file."""
    if index >= len(segments) or not segments[index].access & 2 or count < 1:
        return False
    last = offset + (count - 1) * (_POINTER + skip) + _POINTER
    return last <= segments[index].file_size


def check_rebasing(image: Image, offset: int, size: int, segments: Sequence[Segment]) -> None:
    """What the loader adds the base to must be pointers in data."""
    if not size:
        return
    table = _Bytes(image, offset, size, "the rebasing table")
    segment, at = len(segments), 0
    while table.at < size:
        byte = table.byte()
        code, low = byte & 0xF0, byte & 0x0F
        count, skip = 0, 0
        if code == 0x00:
            break
        if code == 0x10 and low == 1:
            continue
        if code == 0x20:
            segment, at = low, table.number()
        elif code == 0x30:
            at += table.number()
        elif code == 0x40:
            at += low * _POINTER
        elif code == 0x50:
            count = low
        elif code == 0x60:
            count = table.number()
        elif code == 0x70:
            count, skip = 1, table.number()
        elif code == 0x80:
            count, skip = table.number(), table.number()
        else:
            raise image.refused("an operation of the rebasing table", actual=f"{byte:#x}")
        if code >= 0x50:
            if not _targets(segments, segment, at, count, skip):
                raise image.refused("a rebased pointer is not in data", actual=f"{count} at {at:#x} of {segment}")
            at += count * (_POINTER + skip)
        if at >= _OVERFLOW:
            raise image.refused("the rebasing table wraps round", actual=f"{at:#x}")
    if any(table.data[table.at :]):
        raise image.refused("the rebasing table goes on after its end")


def check_binding(image: Image, offset: int, size: int, segments: Sequence[Segment], only: str) -> None:
    """What the loader looks up elsewhere must be ``only``, of the first library, into data."""
    if not size:
        return
    table = _Bytes(image, offset, size, "the binding table")
    library, segment, at, name = 0, len(segments), 0, ""
    while table.at < size:
        byte = table.byte()
        code, low = byte & 0xF0, byte & 0x0F
        if code == 0x00:
            break
        if code == 0x10:
            library = low
        elif code == 0x30:
            library = -1  # any library, or the program
        elif code == 0x40 and low == 0:
            name = table.text()
        elif byte == 0x51:
            continue
        elif code == 0x70:
            segment, at = low, table.number()
        elif byte == 0x80:
            at += table.number()
        elif byte == 0x90:
            if name != only or library != 1:
                raise image.refused(f"the library needs {name!r} from elsewhere (an undefined symbol)", expected=only)
            if not _targets(segments, segment, at, 1, 0):
                raise image.refused("a bound pointer is not in data", actual=f"{at:#x} of {segment}")
            at += _POINTER
        else:
            raise image.refused("an operation of the binding table", actual=f"{byte:#x}")
    if any(table.data[table.at :]):
        raise image.refused("the binding table goes on after its end")


def exported(image: Image, offset: int, size: int) -> dict[str, int]:
    """Names and addresses of the exports, in the trie at ``offset``."""
    if not size:
        return {}
    table = _Bytes(image, offset, size, "the exports")
    found: dict[str, int] = {}
    waiting, seen = [(0, "")], {0}
    while waiting:
        table.at, name = waiting.pop()
        length = table.number()
        children = table.at + length
        if length:
            flags, address = table.number(), table.number()
            if flags or table.at != children:
                raise image.refused(f"{name!r} is no plain export", expected="flags 0", actual=f"flags {flags:#x}")
            found[name] = address
        table.at = children
        for _ in range(table.byte()):
            longer, place = name + table.text(), table.number()
            if place in seen or place >= size or len(longer) >= LONGEST_NAME or len(seen) > _MAX_EXPORTS:
                raise image.refused("the exports are no tree of names", actual=f"{longer!r} at {place}")
            seen.add(place)
            waiting.append((place, longer))
    return found

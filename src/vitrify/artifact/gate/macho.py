"""Mach-O: libraries for macOS (``mach-o/loader.h``, ``nlist.h``)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import numpy as np

from .image import Image, disjoint, shown
from .opcodes import check_binding, check_rebasing, exported

_HEADER = Struct("<8I")
_COMMAND = Struct("<II")
_SEGMENT = Struct("<II16sQQQQiiII")
_SECTION = Struct("<16s16sQQ8I")
_SYMBOL = np.dtype([("name", "<u4"), ("type", "u1"), ("section", "u1"), ("flags", "<u2"), ("value", "<u8")])

_MAGIC, _LIBRARY = 0xFEEDFACF, 6
_MACHINES = {"aarch64": (0x0100000C, (0,)), "x86_64": (0x01000007, (3,))}
_PAGES = {"aarch64": 0x4000, "x86_64": 0x1000}
_KNOWN_FLAGS = 0x1 | 0x4 | 0x80 | 0x100000  # no undefined symbols, for dyld, two-level names, re-exports nothing
_SYSTEM = "/usr/lib/libSystem.B.dylib"
_LINKER = "/usr/lib/dyld"
_BINDER = "dyld_stub_binder"
#: What the linker adds to the exports of every library.
_LINKER_DEFINED = frozenset({"__mh_dylib_header", "___dso_handle"})

_SYMTAB, _DYSYMTAB, _LOAD_DYLIB, _ID_DYLIB, _DYLINKER, _SEGMENT_64, _INFO = 0x2, 0xB, 0xC, 0xD, 0xE, 0x19, 0x80000022
_UUID, _SIGNATURE, _STARTS, _IN_CODE, _SOURCE, _BUILD = 0x1B, 0x1D, 0x26, 0x29, 0x2A, 0x32
_COMMANDS = {
    _SYMTAB: 24, _DYSYMTAB: 80, _LOAD_DYLIB: None, _ID_DYLIB: None, _DYLINKER: None, _SEGMENT_64: None,
    _UUID: 24, _SIGNATURE: 16, _INFO: 48, _STARTS: 16, _IN_CODE: 16, _SOURCE: 16, _BUILD: None,
}  # fmt: skip
_BAD_COMMANDS = {
    0x4: "a thread", 0x5: "a thread", 0x11: "ROUTINES (code run at load)", 0x1A: "ROUTINES (code run at load)",
    0x18: "another library (weak)", 0x8000001C: "RPATH (a path to search)", 0x8000001F: "another library (re-exported)",
    0x20: "another library (lazy)", 0x80000023: "another library (upward)", 0x21: "encrypted code",
    0x27: "an environment for the loader", 0x2C: "encrypted code", 0x80000018: "another library (weak)",
    0x80000028: "MAIN (an entry point)", 0x80000033: "EXPORTS_TRIE", 0x80000034: "DYLD_CHAINED_FIXUPS",
}  # fmt: skip
#: By name: what may be done with a segment's memory (1 read, 2 write, 4 execute).
_SEGMENTS = {"__TEXT": 5, "__DATA_CONST": 3, "__DATA": 3, "__LINKEDIT": 1}
_PLAIN = (0, 1, 2, 3, 4, 6, 14)  # regular, zeros, strings, constants, addresses
_BAD_SECTIONS = {
    7: "lazily bound addresses", 8: "stubs of functions elsewhere", 9: "code run at load", 10: "code run at unload",
    13: "functions that replace others'", 17: "thread-local storage", 18: "thread-local storage",
    19: "thread-local storage", 20: "thread-local storage", 21: "thread-local storage", 22: "code run at load",
}  # fmt: skip
_MAX_COMMANDS, _MAX_SYMBOLS = 32, 1 << 16


class Segment(NamedTuple):
    """A mapped part; its sections are checked with it."""

    name: str
    address: int
    memory_size: int
    offset: int
    file_size: int
    access: int


def examine(image: Image, arch: str, exports: tuple[str, ...]) -> None:
    """See :func:`vitrify.artifact.gate.examine`."""
    commands = _commands(image, arch)
    segments, sections = _segments(image, commands, arch)
    _libraries(image, commands)
    linkedit = next(s for s in segments if s.name == "__LINKEDIT")
    info = _fields(image, commands, _INFO, Struct("<10I"))
    symbols = _fields(image, commands, _SYMTAB, Struct("<4I"))
    dynamic = _fields(image, commands, _DYSYMTAB, Struct("<18I"))
    _tables(image, commands, linkedit, info, symbols, dynamic)
    if info[4:8] != (info[4], 0, info[6], 0):
        raise image.refused("the library has weak or lazy bindings", actual=f"{info[5]} and {info[7]} bytes")
    check_rebasing(image, info[0], info[1], segments)
    check_binding(image, info[2], info[3], segments, _BINDER)
    found = exported(image, info[8], info[9])
    for name, address in found.items():
        if not any(s.address <= address < s.address + s.memory_size for s in segments[:-1]):
            raise image.refused(f"{name!r} is not in the library", actual=f"{address:#x}")
    _symbols(image, symbols, sections, segments, found)
    image.check_exports((_plain(image, n) for n in found if n not in _LINKER_DEFINED), exports)


def _plain(image: Image, name: str) -> str:
    if not name.startswith("_"):
        raise image.refused("an export is no name of C", expected="a leading underscore", actual=repr(name))
    return name[1:]


def _commands(image: Image, arch: str) -> list[tuple[int, int, int]]:
    """Kind, place and size of the load commands."""
    magic, machine, subtype, kind, count, size, flags, reserved = image.unpack(_HEADER, 0, "the Mach-O header")
    image.require("the Mach-O magic number", hex(magic), hex(_MAGIC))
    wanted, subtypes = _MACHINES[arch]
    if machine != wanted or subtype not in subtypes:
        expected, actual = f"{wanted:#x}.{subtypes[0]}", f"{machine:#x}.{subtype}"
        raise image.elsewhere("the library is for another machine", expected=expected, actual=actual)
    image.require("the kind of file (6: library)", kind, _LIBRARY)
    if flags & ~_KNOWN_FLAGS or reserved:
        raise image.refused("the header's flags", expected=f"{_KNOWN_FLAGS:#x}", actual=f"{flags:#x}")
    if not 0 < count <= _MAX_COMMANDS:
        raise image.refused("the number of load commands", expected=f"1 to {_MAX_COMMANDS}", actual=count)
    image.bound(_HEADER.size, size, "the load commands")
    at, end, found = _HEADER.size, _HEADER.size + size, []
    for _ in range(count):
        kind, length = image.unpack(_COMMAND, at, "a load command")
        if length % 8 or length < 8 or at + length > end:
            raise image.refused("a load command's size", actual=f"{length} bytes at {at} of {end}")
        if kind not in _COMMANDS:
            raise image.refused(f"the library has {_BAD_COMMANDS.get(kind, f'load command {kind:#x}')}")
        if _COMMANDS[kind] not in (None, length):
            raise image.refused(f"load command {kind:#x} is of another size", expected=_COMMANDS[kind], actual=length)
        found.append((int(kind), at, int(length)))
        at += length
    image.require("the size of the load commands", at, end)
    once = [kind for kind, _, _ in found if kind not in (_SEGMENT_64, _LOAD_DYLIB)]
    if len(set(once)) != len(once):
        raise image.refused("a load command that may be there once is there twice")
    return found


def _fields(image: Image, commands: list[tuple[int, int, int]], kind: int, layout: Struct) -> tuple[int, ...]:
    """The numbers of the one command of ``kind``."""
    for found, at, _ in commands:
        if found == kind:
            return image.unpack(layout, at + 8, "a load command")
    raise image.refused(f"the library lacks load command {kind:#x}")


def _segments(
    image: Image, commands: list[tuple[int, int, int]], arch: str
) -> tuple[list[Segment], list[tuple[int, int]]]:
    """The segments in order of address, and (address, size) of all sections in theirs."""
    segments: list[Segment] = []
    sections: list[tuple[int, int]] = []
    page, end = _PAGES[arch], 0
    for kind, at, length in commands:
        if kind != _SEGMENT_64:
            continue
        _, _, raw, address, size, offset, stored, most, first, count, flags = image.unpack(_SEGMENT, at, "a segment")
        name = raw.rstrip(b"\0").decode("latin-1")
        access = _SEGMENTS.get(name)
        if most & 6 == 6 or first & 6 == 6:
            raise image.refused(f"segment {name!r} is writable and executable")
        if access is None or (most, first) != (access, access) or flags & ~0x10:
            known = shown([*_SEGMENTS])
            raise image.refused("a segment that no payload has", expected=known, actual=(name, most, first))
        image.bound(offset, stored, f"segment {name}")
        if address != end or offset % page or stored > size or address + size > 1 << 32:
            place = f"{address:#x}+{size}"
            raise image.refused(f"the place of segment {name}", expected=f"{end:#x}", actual=place)
        if length != _SEGMENT.size + count * _SECTION.size:
            raise image.refused(f"the sections of segment {name}", expected=f"{length} bytes", actual=count)
        segment = Segment(name, address, size, offset, stored, access)
        sections += _sections(image, segment, image.rows(_SECTION, at + _SEGMENT.size, count, "the sections"))
        segments.append(segment)
        end = -(-(address + size) // page) * page
    names = [s.name for s in segments]
    if names != [n for n in _SEGMENTS if n in names] or not {"__TEXT", "__LINKEDIT"} <= set(names):
        raise image.refused("the segments", expected=shown([*_SEGMENTS]), actual=shown(names))
    headers = commands[-1][1] + commands[-1][2]
    if (segments[0].address, segments[0].offset) != (0, 0) or segments[0].file_size < headers:
        raise image.refused("the headers are not in __TEXT")
    if not disjoint((s.offset, s.file_size) for s in segments):
        raise image.refused("segments overlap in the file")
    if any(address < headers for address, _ in sections) or not disjoint(sections):
        raise image.refused("sections overlap, or the headers")
    return segments, sections


def _sections(image: Image, segment: Segment, rows: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    found = []
    for row in rows:
        home, address, size, offset, _, _, relocations, flags = row[1:9]
        kind = flags & 0xFF
        if kind not in _PLAIN:
            what = _BAD_SECTIONS.get(kind, f"a section of kind {kind}")
            raise image.refused(f"segment {segment.name} has {what}")
        if relocations or flags & ~0x800004FF or bytes(home).rstrip(b"\0") != segment.name.encode():
            raise image.refused(f"a section of {segment.name}", actual=f"flags {flags:#x}, {relocations} relocations")
        inside = segment.address <= address and address + size <= segment.address + segment.memory_size
        apart = kind != 1 and (offset - segment.offset, offset + size <= segment.offset + segment.file_size) != (
            address - segment.address, True,
        )  # fmt: skip
        if not inside or (apart and size):
            raise image.refused(f"a section is not where segment {segment.name} is", actual=f"{address:#x}+{size}")
        found.append((address, size))
    return found


def _libraries(image: Image, commands: list[tuple[int, int, int]]) -> None:
    names: dict[int, list[str]] = {_LOAD_DYLIB: [], _ID_DYLIB: [], _DYLINKER: []}
    for kind, at, length in commands:
        if kind in names:
            fixed = 12 if kind == _DYLINKER else 24
            start = image.unpack(_COMMAND, at + 4, "a load command")[1]
            if start != fixed or start >= length:
                raise image.refused("the name of a load command", actual=f"at {start} of {length}")
            names[kind].append(image.name(at + start, at + length, "a library's name"))
    if names[_LOAD_DYLIB] not in ([], [_SYSTEM]):
        raise image.refused("the library needs another library", expected=_SYSTEM, actual=shown(names[_LOAD_DYLIB]))
    if names[_DYLINKER] not in ([], [_LINKER]):
        raise image.refused("the library names a loader", expected=_LINKER, actual=shown(names[_DYLINKER]))
    if len(names[_ID_DYLIB]) != 1:
        raise image.refused("the library has no name")


def _tables(
    image: Image, commands: list[tuple[int, int, int]], linkedit: Segment, info: tuple[int, ...],
    symbols: tuple[int, ...], dynamic: tuple[int, ...],
) -> None:  # fmt: skip
    """All tables lie in __LINKEDIT, apart from each other."""
    ranges = [info[i : i + 2] for i in range(0, 10, 2)]
    ranges += [(symbols[0], symbols[1] * 16), (symbols[2], symbols[3])]
    ranges += [(dynamic[12], dynamic[13] * 4)]
    if any(dynamic[i] for i in (7, 9, 11, 15, 17)):
        raise image.refused("the library has tables that no payload has", actual=dynamic)
    for kind, at, _ in commands:
        if kind in (_SIGNATURE, _STARTS, _IN_CODE):
            ranges.append(image.unpack(_COMMAND, at + 8, "a load command"))
    for offset, size in ranges:
        if size and not (linkedit.offset <= offset and offset + size <= linkedit.offset + linkedit.file_size):
            raise image.refused("a table is outside __LINKEDIT", actual=f"{size} bytes at {offset}")
    if not disjoint((offset, size) for offset, size in ranges):
        raise image.refused("tables overlap")
    image.require("the size of the file", image.size, linkedit.offset + linkedit.file_size)


def _symbols(
    image: Image, table: tuple[int, ...], sections: list[tuple[int, int]], segments: list[Segment],
    found: dict[str, int],
) -> None:  # fmt: skip
    """The symbol table tells what the exports tell: plain local symbols, the exports, and dyld's own function."""
    offset, count, strings, size = table
    if count > _MAX_SYMBOLS:
        raise image.refused("the number of symbols", expected=f"at most {_MAX_SYMBOLS}", actual=count)
    rows = image.array(_SYMBOL, offset, count, "the symbols' table")
    local = rows["type"] & 0xEF == 0x0E
    outside = local & ((rows["section"] == 0) | (rows["section"] > len(sections)))
    if outside.any() or (rows["name"] >= size).any():
        raise image.refused("a symbol's section or name does not exist")
    seen: dict[str, int] = {}
    for row in rows[~local].tolist()[: len(found) + 2]:
        at, kind, section, _, value = row
        name = image.name(strings + at, strings + size, "a symbol's name")
        if kind == 1 and section == 0 and name == _BINDER:
            continue
        if kind & ~0xE == 1 and kind & 0xE == 0:
            raise image.refused(f"the library needs {name!r} from elsewhere (an undefined symbol)")
        if kind != 0x0F or not 0 < section <= len(sections):
            raise image.refused(f"symbol {name!r} is no plain export", actual=f"type {kind:#x}")
        seen[name] = value
    if seen != found:
        names = sorted(set(seen) ^ set(found)) or sorted(found)
        raise image.refused("symbol table and exports differ", actual=shown(names))

"""PE32+: libraries for Windows (Microsoft's "PE Format")."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import numpy as np

from .image import Image, disjoint

_DOS = Struct("<2s58sI")
_COFF = Struct("<4sHHIIIHH")
_OPTIONAL = Struct("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII")
_DIRECTORY = Struct("<II")
_SECTION = Struct("<8sIIIIIIHHI")
_EXPORTS = Struct("<IIHHIIIIIII")
_BLOCK = Struct("<II")

_MACHINE = 0x8664
_PE32_PLUS = 0x20B
_CHARACTERISTICS = 0x2022  # executable, large addresses, library; relocations are not stripped
_NEEDED_FLAGS = 0x0140  # placed anywhere, data is not executable
_KNOWN_FLAGS = _NEEDED_FLAGS | 0x0020  # anywhere in 64 bits
_DIRECTORIES = (
    "exports", "imports", "resources", "exception handlers", "certificates", "base relocations", "debug data",
    "architecture data", "a global pointer", "thread-local storage (TLS)", "load configuration", "bound imports",
    "import addresses", "delayed imports", ".NET code", "a reserved directory",
)  # fmt: skip
_EXPORT, _RELOCATION = 0, 5
_CODE, _DATA = 0x60000020, 0xC0000040
_KINDS = (_CODE, _DATA, 0x40000040, 0x42000040, 0xC0000080)  # rx, rw, r, r and discardable, zeros
_X, _W = 0x20000000, 0x80000000
_PAGE, _BLOCK_SIZE = 0x1000, 0x200
_MAX_SECTIONS, _MAX_EXPORTS = 16, 4096
_DIR64 = 10


class _Section(NamedTuple):
    name: bytes
    memory_size: int
    address: int
    file_size: int
    offset: int
    relocations: int
    lines: int
    relocation_count: int
    line_count: int
    kind: int


def examine(image: Image, arch: str, exports: tuple[str, ...]) -> None:
    """See :func:`vitrify.artifact.gate.examine`; ``arch`` is x86_64."""
    sections, directories = _headers(image)
    _exports(image, sections, directories[_EXPORT], exports)
    _relocations(image, sections, directories[_RELOCATION], directories[_EXPORT])


def _headers(image: Image) -> tuple[list[_Section], list[tuple[int, int]]]:
    magic, _, at = image.unpack(_DOS, 0, "the DOS header")
    image.require("the DOS magic number", magic, b"MZ")
    if not _DOS.size <= at <= 1024 or at % 8:
        raise image.refused("the place of the PE header", expected=f"{_DOS.size} to 1024", actual=at)
    signature, machine, count, _, symbols, symbol_count, size, flags = image.unpack(_COFF, at, "the PE header")
    image.require("the PE signature", signature, b"PE\0\0")
    if machine != _MACHINE:
        raise image.elsewhere("the library is for another machine", expected=f"{_MACHINE:#x}", actual=f"{machine:#x}")
    at += _COFF.size
    fields = image.unpack(_OPTIONAL, at, "the optional header")
    if fields[0] != _PE32_PLUS:
        raise image.elsewhere("the library is of another class", expected=f"{_PE32_PLUS:#x}", actual=f"{fields[0]:#x}")
    if not 0 < count <= _MAX_SECTIONS:
        raise image.refused("the number of sections", expected=f"1 to {_MAX_SECTIONS}", actual=count)
    image.require("the symbol table, which debuggers read", (symbols, symbol_count), (0, 0))
    image.require("the characteristics", f"{flags:#x}", f"{_CHARACTERISTICS:#x}")
    image.require("the size of the optional header", size, _OPTIONAL.size + 16 * _DIRECTORY.size)
    span, headers = _optional(image, fields)
    at += _OPTIONAL.size
    directories = [(int(a), int(s)) for a, s in image.rows(_DIRECTORY, at, 16, "the data directories")]
    named = dict(zip(_DIRECTORIES, directories, strict=True))
    if bad := [n for n, place in named.items() if place != (0, 0) and n not in ("exports", "base relocations")]:
        raise image.refused(f"the library has {', '.join(bad)}", expected="exports and base relocations")
    at += 16 * _DIRECTORY.size
    image.bound(0, headers, "the headers")
    if at + count * _SECTION.size > headers:
        raise image.refused("the size of the headers", actual=headers)
    return _sections(image, at, count, span, headers), directories


def _optional(image: Image, fields: tuple[int, ...]) -> tuple[int, int]:
    """The sizes of the image in memory and of its headers."""
    image.require("the entry point", fields[6], 0)
    base, alignment, file_alignment = fields[8:11]
    image.require("the alignments", (alignment, file_alignment), (_PAGE, _BLOCK_SIZE))
    if base % 0x10000 or base >= 1 << 47:
        raise image.refused("the preferred address", actual=f"{base:#x}")
    _, span, headers, _, subsystem, flags = fields[17:23]
    image.require("reserved fields", (fields[17], fields[27]), (0, 0))
    if subsystem not in (2, 3):
        raise image.refused("the subsystem", expected="2 or 3: Windows programs", actual=subsystem)
    if flags & ~_KNOWN_FLAGS or ~flags & _NEEDED_FLAGS:
        raise image.refused("the library's flags", expected=f"{_KNOWN_FLAGS:#x}", actual=f"{flags:#x}")
    image.require("the number of data directories", fields[28], 16)
    return span, headers


def _sections(image: Image, at: int, count: int, span: int, headers: int) -> list[_Section]:
    """The sections: one after the other in the file and in memory, with nothing before, between or behind."""
    sections = [_Section(*row) for row in image.rows(_SECTION, at, count, "the section headers")]
    address, offset = -(-headers // _PAGE) * _PAGE, headers
    for section in sections:
        if section.kind & _X and section.kind & _W:
            raise image.refused(f"section {section.name!r} is writable and executable")
        if section.kind not in _KINDS or section[5:9] != (0, 0, 0, 0):
            kinds = ", ".join(hex(kind) for kind in _KINDS)
            raise image.refused("a section that no payload has", expected=f"of kind {kinds}", actual=section)
        if section.address != address or not 0 < section.memory_size < 1 << 31:
            raise image.refused("a section's place in memory", expected=f"{address:#x}", actual=section)
        address = -(-(address + section.memory_size) // _PAGE) * _PAGE
        if not section.file_size and not section.offset:
            continue
        image.bound(section.offset, section.file_size, "a section")
        if section.offset != offset or section.file_size % _BLOCK_SIZE:
            raise image.refused("a section's place in the file", expected=offset, actual=section)
        offset += section.file_size
    image.require("the size in memory", span, address)
    image.require("the size of the file", image.size, offset)
    return sections


def _place(image: Image, sections: list[_Section], address: int, size: int, what: str) -> int:
    """Where in the file [address, address + size) is, which must be in a section that is only read."""
    for section in sections:
        stored = min(section.file_size, section.memory_size)
        if section.address <= address and address + size <= section.address + stored:
            if section.kind & (_X | _W):
                break
            return address - section.address + section.offset
    raise image.refused(f"{what} is not in a section that is only read", actual=f"{size} bytes at {address:#x}")


def _exports(image: Image, sections: list[_Section], directory: tuple[int, int], exports: tuple[str, ...]) -> None:
    start, size = directory
    if not size:
        raise image.refused("the library exports nothing", expected=", ".join(exports))
    if size < _EXPORTS.size:
        raise image.refused("the export directory's size", actual=size)
    low = _place(image, sections, start, size, "the export directory")
    fields = image.unpack(_EXPORTS, low, "the export directory")
    flags, _, _, _, title, base, functions, names, addresses, name_places, ordinals = fields
    image.require("the export directory's flags and first number", (flags, base), (0, 1))
    if functions != names or not 0 < names <= _MAX_EXPORTS:
        raise image.refused("exports without a name", expected=f"1 to {_MAX_EXPORTS}", actual=(functions, names))
    tables = ((addresses, 4 * names), (name_places, 4 * names), (ordinals, 2 * names))
    for address, length in tables:
        if address < start + _EXPORTS.size or address + length > start + size:
            raise image.refused("an export table is outside its directory", actual=f"{length} bytes at {address:#x}")
    if not disjoint(tables):
        raise image.refused("the export tables overlap")
    delta, end = low - start, low + size
    image.name(title + delta, end, "the library's name")
    found = []
    for (place,) in image.rows(Struct("<I"), name_places + delta, names, "the exports' names"):
        if not start <= place < start + size:
            raise image.refused("an export's name is outside its directory", actual=f"{place:#x}")
        found.append(image.name(place + delta, end, "an export's name"))
    image.check_exports(found, exports)
    image.require("the order of the exports", found, sorted(found))
    numbers = [row[0] for row in image.rows(Struct("<H"), ordinals + delta, names, "the exports' numbers")]
    image.require("the exports' numbers", sorted(numbers), list(range(names)))
    for (address,) in image.rows(Struct("<I"), addresses + delta, names, "the exports' addresses"):
        if start <= address < start + size:
            raise image.refused("an export is forwarded to another library", actual=f"{address:#x}")
        if not any(s.address <= address < s.address + s.memory_size for s in sections):
            raise image.refused("an export is not in the library", actual=f"{address:#x}")


def _relocations(
    image: Image, sections: list[_Section], directory: tuple[int, int], exports: tuple[int, int]
) -> None:
    """Addresses of data that the loader adds the base to; none in code, and none in what was examined."""
    address, left = directory
    if not left:
        return
    at = _place(image, sections, address, left, "the base relocations")
    kept = (exports, directory)
    previous = -1
    while left:
        page, size = image.unpack(_BLOCK, at, "a block of base relocations")
        if size % 4 or not _BLOCK.size < size <= min(left, _BLOCK.size + 2 * (_PAGE + 2)) or page % _PAGE:
            raise image.refused("a block of base relocations", actual=f"{size} bytes for {page:#x}")
        if page <= previous:
            raise image.refused("base relocations are out of order", actual=f"{page:#x} after {previous:#x}")
        words = image.array("<u2", at + _BLOCK.size, (size - _BLOCK.size) // 2, "base relocations")
        if words[-1] == 0:  # fills the block
            words = words[:-1]
        if (words >> 12 != _DIR64).any():
            raise image.refused("a base relocation of another kind", expected=_DIR64, actual=int((words >> 12).max()))
        targets = (words & 0xFFF).astype(np.int64) + page
        fits = np.zeros(len(targets), bool)
        for section in sections:
            if not section.kind & _X:
                stored = min(section.file_size, section.memory_size)
                fits |= (targets >= section.address) & (targets + 8 <= section.address + stored)
        for start, length in kept:
            fits &= (targets + 8 <= start) | (targets >= start + length)
        if not fits.all():
            raise image.refused("a base relocation is not in data", actual=f"{int(targets[~fits][0]):#x}")
        previous, at, left = page, at + size, left - size

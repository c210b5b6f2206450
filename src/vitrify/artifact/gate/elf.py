"""ELF: shared libraries for Linux (System V ABI, gABI chapters 4 and 5)."""

from __future__ import annotations

from struct import Struct

import numpy as np

from ..record import Record
from .image import Image, disjoint, shown

_HEADER = Struct("<4s5B7sHHIQQQIHHHHHH")
_SEGMENT = Struct("<IIQQQQQQ")
_DYNAMIC = Struct("<qQ")
_SYMBOL = Struct("<IBBHQQ")
_WORD = Struct("<I")

_MACHINES = {"x86_64": 62, "aarch64": 183}
_RELATIVE = {"x86_64": 8, "aarch64": 1027}
_INDIRECT = {"x86_64": 37, "aarch64": 1032}

_LOAD, _TABLE, _HEADERS = 1, 2, 6
_STACK, _RELRO = 0x6474E551, 0x6474E552
_SEGMENTS = {_LOAD: "LOAD", _TABLE: "DYNAMIC", _HEADERS: "PHDR", _STACK: "GNU_STACK", _RELRO: "GNU_RELRO"}
_BAD_SEGMENTS = {3: "INTERP (a program's loader)", 4: "NOTE", 7: "TLS (thread-local storage)",
                 0x6474E550: "GNU_EH_FRAME", 0x6474E553: "GNU_PROPERTY"}  # fmt: skip
_X, _W, _R = 1, 2, 4

_TAGS = {4: "HASH", 5: "STRTAB", 6: "SYMTAB", 7: "RELA", 8: "RELASZ", 9: "RELAENT", 10: "STRSZ", 11: "SYMENT",
         0x6FFFFEF5: "GNU_HASH", 0x6FFFFFF9: "RELACOUNT"}  # fmt: skip
_BAD_TAGS = {
    1: "NEEDED (another library)", 2: "PLTRELSZ", 3: "PLTGOT", 12: "INIT (code run at load)",
    13: "FINI (code run at unload)", 14: "SONAME", 15: "RPATH (a path to search)", 16: "SYMBOLIC", 17: "REL",
    20: "PLTREL", 21: "DEBUG", 22: "TEXTREL (code written at load)", 23: "JMPREL", 24: "BIND_NOW",
    25: "INIT_ARRAY (code run at load)", 26: "FINI_ARRAY (code run at unload)",
    29: "RUNPATH (a path to search)", 30: "FLAGS", 32: "PREINIT_ARRAY (code run at load)", 36: "RELR",
    0x6FFFFEFB: "DEPAUDIT (another library)", 0x6FFFFEFC: "AUDIT (another library)", 0x6FFFFFFB: "FLAGS_1",
    0x7FFFFFFD: "AUXILIARY (another library)", 0x7FFFFFFF: "FILTER (another library)",
}  # fmt: skip
_FLAGS_TAG, _TEXTREL_FLAG = 30, 4
_MAX_SEGMENTS, _MAX_TAGS, _MAX_SYMBOLS = 16, 64, 4096
_MAX_ADDRESS = 1 << 32


class _Segment(Record):
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def end(self) -> int:
        return self.address + self.memory_size


def examine(image: Image, arch: str, exports: tuple[str, ...]) -> None:
    """See :func:`vitrify.artifact.gate.examine`."""
    segments = _segments(image, _header(image, arch))
    loads = _loads(image, segments)
    tables = _dynamic(image, segments, loads)
    symbols = _symbols(image, tables, loads, exports)
    _hash(image, tables, loads, len(symbols))
    _gnu_hash(image, tables, loads, symbols)
    _relocations(image, tables, segments, loads, arch)
    if not any(load.flags & _X for load in loads):
        raise image.refused("a library without code")


def _header(image: Image, arch: str) -> int:
    """The number of program headers."""
    (magic, width, order, version, system, abi, pad, kind, machine, version2, entry, table, sections, flags,
     size, entry_size, count, section_size, section_count, _) = image.unpack(_HEADER, 0, "the ELF header")  # fmt: skip
    image.require("the ELF magic number", magic, b"\x7fELF")
    if (width, order) != (2, 1):
        raise image.elsewhere(
            "the library is of another class", expected="64 bits, little-endian", actual=f"class {width}, order {order}"
        )
    if machine != _MACHINES[arch]:
        raise image.elsewhere("the library is for another machine", expected=_MACHINES[arch], actual=machine)
    if system not in (0, 3) or abi:  # 3: GNU, of libraries with IFUNC, which are refused for that
        raise image.elsewhere("the library is for another system", expected="ABI 0", actual=f"ABI {system}.{abi}")
    image.require("the ELF version and padding", (version, version2, pad), (1, 1, bytes(7)))
    image.require("the ELF type (3: shared library)", kind, 3)
    image.require("the entry point", entry, 0)
    image.require("the ELF flags", flags, 0)
    image.require("sizes and place of the headers", (size, entry_size, table), (_HEADER.size, _SEGMENT.size, 64))
    if not 0 < count <= _MAX_SEGMENTS:
        raise image.refused("too many program headers", expected=f"1 to {_MAX_SEGMENTS}", actual=count)
    # section headers are for debuggers, no loader reads them; here they must only be where they say
    if sections or section_count:
        image.require("the size of section headers", section_size, 64)
        image.bound(sections, section_size * section_count, "the section headers")
    return int(count)


def _segments(image: Image, count: int) -> list[_Segment]:
    segments = [_Segment(*row) for row in image.rows(_SEGMENT, 64, count, "the program headers")]
    for segment in segments:
        if segment.type not in _SEGMENTS:
            found = _BAD_SEGMENTS.get(segment.type, hex(segment.type))
            raise image.refused("a segment that no payload has", expected=shown([*_SEGMENTS.values()]), actual=found)
        if segment.flags & ~(_R | _W | _X) or segment.physical not in (segment.address, 0):
            raise image.refused("a segment's flags or physical address", actual=segment)
        if segment.flags & _W and segment.flags & _X:
            raise image.refused(f"a {_SEGMENTS[segment.type]} segment is writable and executable")
    once = [s.type for s in segments if s.type != _LOAD]
    for kind in (_TABLE, _STACK):
        if kind not in once:
            raise image.refused(f"a library without {_SEGMENTS[kind]} segment")
    if len(set(once)) != len(once):
        names = shown([_SEGMENTS[kind] for kind in once])
        raise image.refused("a segment that may be there once is there twice", actual=names)
    return segments


def _loads(image: Image, segments: list[_Segment]) -> list[_Segment]:
    """The mapped segments: they cover the headers, follow each other, and share no page."""
    loads = [s for s in segments if s.type == _LOAD]
    end = 0
    for load in loads:
        image.bound(load.offset, load.file_size, "a segment")
        align = load.alignment
        if align not in (0x1000, 0x4000, 0x10000) or (load.address - load.offset) % align:
            raise image.refused("a segment's alignment", actual=f"{align} for {load.offset} at {load.address:#x}")
        if load.file_size > load.memory_size or load.end > _MAX_ADDRESS or not load.memory_size:
            raise image.refused("a segment's sizes", actual=load)
        if load.address // align * align < end:
            raise image.refused("segments overlap or are out of order", expected=f"at least {end:#x}", actual=load)
        if load.flags not in (_R, _R | _X, _R | _W) or (load.flags & _X and load.file_size != load.memory_size):
            raise image.refused("a segment's access", expected="r, rx or rw, code as long as in the file", actual=load)
        end = -(-load.end // align) * align
    if not disjoint((s.offset, s.file_size) for s in loads):
        raise image.refused("segments overlap in the file")
    first = 64 + _SEGMENT.size * len(segments)
    if not loads or (loads[0].offset, loads[0].address, loads[0].flags) != (0, 0, _R) or loads[0].file_size < first:
        raise image.refused("the headers are not in a first segment that is only read")
    for segment in segments:
        if segment.type == _STACK:
            image.require("the stack's segment (6: not executable)", segment, _Segment(_STACK, _R | _W, *[0] * 6))
        if segment.type == _HEADERS:
            expected = _Segment(_HEADERS, _R, 64, 64, segment.physical, first - 64, first - 64, 8)
            image.require("the headers' segment", segment, expected)
        if segment.type in (_RELRO, _TABLE):
            home = _home(loads, segment.address, segment.memory_size)
            usual = (_R, 1) if segment.type == _RELRO else (_R | _W, 8)
            what = f"{_SEGMENTS[segment.type]}'s access and alignment"
            image.require(what, (segment.flags, segment.alignment), usual)
            if home is None or not home.flags & _W or segment.offset - segment.address != home.offset - home.address:
                raise image.refused(f"{_SEGMENTS[segment.type]} is not in a segment of data", actual=segment)
    return loads


def _home(loads: list[_Segment], address: int, size: int) -> _Segment | None:
    """The segment that holds [address, address + size)."""
    return next((s for s in loads if s.address <= address and address + size <= s.end), None)


def _dynamic(image: Image, segments: list[_Segment], loads: list[_Segment]) -> dict[str, int]:
    """The values of the dynamic table by tag."""
    place = next(s for s in segments if s.type == _TABLE)
    count, rest = divmod(place.file_size, _DYNAMIC.size)
    if rest or not 0 < count <= _MAX_TAGS or place.memory_size != place.file_size:
        raise image.refused("the dynamic table's size", expected=f"at most {_MAX_TAGS} entries", actual=place.file_size)
    rows = image.rows(_DYNAMIC, place.offset, count, "the dynamic table")
    if rows[-1] != (0, 0):
        raise image.refused("the dynamic table does not end")
    found: dict[str, int] = {}
    for tag, value in rows[: rows.index((0, 0))]:
        if tag == _FLAGS_TAG and value & _TEXTREL_FLAG:
            raise image.refused("the dynamic table has FLAGS with TEXTREL (code written at load)")
        if tag not in _TAGS:
            raise image.refused(
                f"the dynamic table has {_BAD_TAGS.get(tag, f'tag {tag:#x}')}",
                expected=f"nothing but {', '.join(_TAGS.values())}", actual=f"value {value:#x}",
            )  # fmt: skip
        if _TAGS[tag] in found:
            raise image.refused(f"the dynamic table has {_TAGS[tag]} twice")
        found[_TAGS[tag]] = value
    if any(row != (0, 0) for row in rows[len(found) :]):
        raise image.refused("the dynamic table goes on after its end")
    missing = [t for t in ("STRTAB", "STRSZ", "SYMTAB", "SYMENT", "HASH", "GNU_HASH") if t not in found]
    if missing:
        raise image.refused("the dynamic table lacks entries", expected=shown(missing), actual=shown(sorted(found)))
    image.require("the size of symbols", found["SYMENT"], _SYMBOL.size)
    return found


def _constant(image: Image, loads: list[_Segment], address: int, size: int, what: str) -> int:
    """Where in the file the table at ``address`` is, which must be in a segment that is only read."""
    home = _home(loads, address, size)
    if home is None or home.flags != _R or address + size > home.address + home.file_size:
        raise image.refused(f"{what} is not in a segment that is only read", actual=f"{size} bytes at {address:#x}")
    return address - home.address + home.offset


def _symbols(
    image: Image, tables: dict[str, int], loads: list[_Segment], exports: tuple[str, ...]
) -> list[str]:
    """The names of the symbols, the null symbol's first."""
    place = _constant(image, loads, tables["HASH"], 8, "HASH")
    count = int(image.unpack(Struct("<II"), place, "HASH")[1])
    if not 0 < count <= _MAX_SYMBOLS:
        raise image.refused("the number of symbols", expected=f"1 to {_MAX_SYMBOLS}", actual=count)
    strings, size = tables["STRTAB"], tables["STRSZ"]
    if not 0 < size <= image.size:
        raise image.refused("the size of the names", actual=size)
    strings = _constant(image, loads, strings, size, "the names' table")
    place = _constant(image, loads, tables["SYMTAB"], count * _SYMBOL.size, "the symbols' table")
    rows = image.rows(_SYMBOL, place, count, "the symbols' table")
    image.require("the null symbol", rows[0], (0,) * 6)
    image.require("the ends of the names' table", (image.data[strings], image.data[strings + size - 1]), (0, 0))
    names = [""]
    for offset, info, other, section, address, length in rows[1:]:
        if offset >= size:
            raise image.refused("a symbol's name is not in the names' table", expected=f"below {size}", actual=offset)
        name = image.name(strings + offset, strings + size, "a symbol's name")
        _check_symbol(image, name, info, other, section)
        home = _home(loads, address, length)
        if home is None or bool(home.flags & _X) != (info & 15 == 2):
            raise image.refused(f"{name!r} is not in the library", actual=f"{length} bytes at {address:#x}")
        names.append(name)
    image.check_exports(names[1:], exports)
    return names


def _check_symbol(image: Image, name: str, info: int, other: int, section: int) -> None:
    if section == 0:
        raise image.refused(f"the library needs {name!r} from elsewhere (an undefined symbol)")
    bad = {6: "thread-local (TLS)", 10: "chosen by code that runs at load (IFUNC)"}
    if info & 15 in bad:
        raise image.refused(f"symbol {name!r} is {bad[info & 15]}")
    if info not in (0x11, 0x12) or other != 0 or section >= 0xFF00:
        raise image.refused(
            f"symbol {name!r} is no plain export", expected="a global function or object of a section",
            actual=f"info {info:#x}, visibility {other}, section {section:#x}",
        )  # fmt: skip


def _hash(image: Image, tables: dict[str, int], loads: list[_Segment], symbols: int) -> None:
    """HASH: chains of symbols that exist and come to an end."""
    place = _constant(image, loads, tables["HASH"], 8, "HASH")
    buckets = int(image.unpack(_WORD, place, "HASH")[0])
    if not 0 < buckets <= _MAX_SYMBOLS:
        raise image.refused("the number of HASH buckets", expected=f"1 to {_MAX_SYMBOLS}", actual=buckets)
    _constant(image, loads, tables["HASH"], 8 + 4 * (buckets + symbols), "HASH")
    words = [row[0] for row in image.rows(_WORD, place + 8, buckets + symbols, "HASH")]
    chains, seen = words[buckets:], set()
    for at in words[:buckets]:
        while at:
            if at >= symbols or at in seen:
                raise image.refused("HASH names a symbol that does not exist, or one twice", actual=at)
            seen.add(at)
            at = chains[at]
    image.require("the null symbol's chain and the number of symbols in HASH", (chains[0], len(seen)), (0, symbols - 1))


def _gnu_hash(image: Image, tables: dict[str, int], loads: list[_Segment], symbols: list[str]) -> None:
    """GNU_HASH, which glibc looks names up in: the same symbols as SYMTAB's, and no others."""
    at = tables["GNU_HASH"]
    place = _constant(image, loads, at, 16, "GNU_HASH")
    buckets, first, bloom, _ = image.unpack(Struct("<4I"), place, "GNU_HASH")
    if not (0 < buckets <= _MAX_SYMBOLS and 0 < bloom <= _MAX_SYMBOLS and first == 1) or bloom & (bloom - 1):
        raise image.refused("GNU_HASH's sizes", actual=f"{buckets} buckets, {bloom} words, first symbol {first}")
    hashed = len(symbols) - first
    _constant(image, loads, at, 16 + 8 * bloom + 4 * (buckets + hashed), "GNU_HASH")
    rows = image.rows(_WORD, place + 16 + 8 * bloom, buckets + hashed, "GNU_HASH")
    words = [row[0] for row in rows]
    expected = [_gnu_hash_of(name) for name in symbols[first:]]
    order = [value % buckets for value in expected]
    starts = [first + order.index(b) if b in order else 0 for b in range(buckets)]
    last = [i + 1 == hashed or order[i + 1] != order[i] for i in range(hashed)]
    chains = [value & ~1 | ends for value, ends in zip(expected, last, strict=True)]
    if order != sorted(order) or words != starts + chains:
        raise image.refused("GNU_HASH does not name the exports")


def _gnu_hash_of(name: str) -> int:
    value = 5381
    for byte in name.encode("ascii"):
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _relocations(
    image: Image, tables: dict[str, int], segments: list[_Segment], loads: list[_Segment], arch: str
) -> None:
    """Addresses that the loader adds the base to: of data, to places in the library, and not in the dynamic table,
    where they could move what was examined."""
    given = [t for t in ("RELA", "RELASZ", "RELAENT", "RELACOUNT") if t in tables]
    if not given:
        return
    if len(given) < 4:
        raise image.refused("relocations are described in part", actual=shown(given))
    count, rest = divmod(tables["RELASZ"], 24)
    if rest or tables["RELAENT"] != 24 or count > image.size // 24:
        raise image.refused("the relocations' sizes", actual=f"{tables['RELASZ']} bytes")
    place = _constant(image, loads, tables["RELA"], 24 * count, "the relocations' table")
    rows = image.array("<u8", place, 3 * count, "the relocations' table").reshape(count, 3)
    targets, kinds, values = rows[:, 0], rows[:, 1], rows[:, 2]
    if (wrong := kinds[kinds != _RELATIVE[arch]]).size:
        kind = int(wrong[0])
        said = " (IRELATIVE: code run at load)" if kind & 0xFFFFFFFF == _INDIRECT[arch] else ""
        raise image.refused(f"relocation of another kind{said}", expected=f"type {_RELATIVE[arch]}", actual=hex(kind))
    image.require("the number of relative relocations", tables["RELACOUNT"], count)
    fits = np.zeros(count, bool)
    for load in loads:
        if load.flags & _W and load.file_size >= 8:
            fits |= (targets >= load.address) & (targets <= load.address + load.file_size - 8)
    dynamic = next(s for s in segments if s.type == _TABLE)
    fits &= (targets + np.uint64(8) <= dynamic.address) | (targets >= dynamic.end)
    if not fits.all():
        raise image.refused("a relocation is not in data", actual=f"address {int(targets[~fits][0]):#x}")
    if (values > loads[-1].end).any():
        raise image.refused("a relocation points out of the library", actual=f"{int(values.max()):#x}")

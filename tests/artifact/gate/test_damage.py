"""Damaged and made-up libraries: refused with this module's two errors, never with another, whatever is changed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrify.artifact.gate import Platform, examine
from vitrify.errors import NativeCodeError, PlatformError
from vitrify.lower.target import TARGETS

from .libraries import EXPORTS, check, payload

NAMES = ("x86-64-v3", "aarch64", "windows-x86_64", "macos-aarch64", "macos-x86_64")


def passes(image: bytes, name: str) -> bool:
    """Whether ``image`` passes; another exception than a refusal fails the test."""
    try:
        check(image, name)
    except (NativeCodeError, PlatformError) as error:
        assert str(error)
        return False
    return True


def test_nothing_and_noise() -> None:
    generator = random.Random(1)
    for name in NAMES:
        for size in (0, 1, 3, 4, 63, 64, 65, 4096):
            noise = generator.randbytes(size)
            assert not passes(noise, name) and not passes(payload(name)[:4] + noise, name)


@pytest.mark.parametrize("name", NAMES)
def test_truncation(name: str) -> None:
    image = payload(name)
    generator = random.Random(2)
    cuts = {*range(1, 1024), *(generator.randrange(len(image)) for _ in range(500)), len(image) - 1}
    # section headers of ELF are behind what is mapped, and part of the file all the same
    assert not [cut for cut in sorted(cuts) if passes(image[:cut], name)]


def elf_unread(image: bytes) -> Iterator[tuple[int, int]]:
    """(start, size) of what may change without a change of meaning: the place of section headers, the bloom filter,
    and what is data: addresses in the library, which stay in it."""
    yield 40, 8  # section headers' offset
    yield 60, 4  # their number, and which has their names
    rows = [struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * i) for i in range(image[56])]
    dynamic = next(row for row in rows if row[0] == 2)
    tags = dict(struct.iter_unpack("<qQ", image[dynamic[2] : dynamic[2] + dynamic[5]]))
    yield tags[6] + 24 + 6, 18  # the symbol's section, address and size
    yield tags[0x6FFFFEF5] + 12, 4 + 8 * struct.unpack_from("<I", image, tags[0x6FFFFEF5] + 8)[0]
    names_end, end = tags[5] + tags[10], tags[7] + tags[8]
    yield names_end, tags[7] - names_end  # padding
    yield dynamic[2] + 16 * list(tags).index(10) + 8, 8  # a size of names that takes of the padding
    yield end, next(row for row in rows if row[0] == 1)[5] - end  # constants
    for place in range(tags[7], tags[7] + tags[8], 24):
        yield place, 8
        yield place + 16, 8
    for index, row in enumerate(rows):
        start = 64 + 56 * index
        yield start + 24, 8  # physical addresses, which nothing reads: 0 passes
        if row[0] == 0x6474E552:  # which data are read-only after relocation
            yield start, 56
        if row[0] == 1:
            yield start + 32, 24  # sizes, as far as segments stay apart and tables in them
            if not row[5]:  # zeros: from nowhere in the file, and whether they are written
                yield start + 4, 12


@pytest.mark.parametrize("name", ["x86-64-v3", "aarch64"])
def test_every_bit_of_elf(name: str) -> None:
    image = bytearray(payload(name))
    rows = [struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * i) for i in range(image[56])]
    dynamic = next(row for row in rows if row[0] == 2)
    unread = {at + i for at, size in elf_unread(bytes(image)) for i in range(size)}
    tables = range(next(row for row in rows if row[0] == 1)[5])
    for at in (*tables, *range(dynamic[2], dynamic[2] + dynamic[5])):
        for bit in range(8):
            image[at] ^= 1 << bit
            if passes(bytes(image), name):
                assert at in unread, f"bit {bit} of byte {at:#x}"
            image[at] ^= 1 << bit


@pytest.mark.parametrize("name", ["windows-x86_64", *NAMES[3:]])
def test_every_bit_of_headers(name: str) -> None:
    """Of PE and Mach-O: refused, or a field that no loader acts on."""
    image = bytearray(payload(name))
    harmless = _pe_unread(image) if name.startswith("windows") else _macho_unread(image)
    end = 0x400 if name.startswith("windows") else 32 + struct.unpack_from("<I", image, 20)[0]
    for at in range(end):
        for bit in range(8):
            image[at] ^= 1 << bit
            if passes(bytes(image), name):
                assert at in harmless, f"bit {bit} of byte {at:#x}"
            image[at] ^= 1 << bit


def _pe_unread(image: bytearray) -> set[int]:
    """The DOS program, dates, versions, sizes of code, the preferred address, the stack's sizes, names of sections,
    and zeros behind the headers."""
    header = struct.unpack_from("<I", image, 60)[0]
    optional = header + 24
    sections = optional + 240
    count = struct.unpack_from("<H", image, header + 6)[0]
    unread = {*range(2, 60), *range(64, header), *range(header + 8, header + 12)}
    unread |= {*range(optional + 2, optional + 16), *range(optional + 20, optional + 32)}
    unread |= {*range(optional + 40, optional + 52), *range(optional + 64, optional + 72)}
    unread |= {*range(optional + 72, optional + 104)}
    for index in range(count):
        start = sections + 40 * index
        unread |= {*range(start, start + 12), *range(start + 36, start + 40)}
    return unread | {*range(sections + 40 * count, 0x400)}


def _macho_unread(image: bytearray) -> set[int]:
    """Versions, identity, flags without effect, names of sections, sizes that stay in their segment, and places of
    tables that only debuggers read."""
    unread = {*range(24, 28)}
    at = 32
    for _ in range(struct.unpack_from("<I", image, 16)[0]):
        kind, size = struct.unpack_from("<II", image, at)
        if kind == 0x19:
            unread |= {*range(at + 32, at + 56), *range(at + 68, at + 72)}  # sizes; flags
            for section in range(at + 72, at + size, 80):
                # the name; place and size; alignment; flags, and what indirect symbols it has
                for first, last in ((0, 16), (32, 60), (64, 80)):
                    unread |= {*range(section + first, section + last)}
        elif kind in (0x1B, 0x2A, 0x32, 0xB, 0x26, 0x29, 0x1D, 0x2):
            unread |= {*range(at + 8, at + size)}
        elif kind in (0xC, 0xD):
            unread |= {*range(at + 12, at + 24)}  # date and versions
            unread |= {*range(at + 24, at + size)} if kind == 0xD else set()
        elif kind in (0x80000022,):
            unread |= {*range(at + 8, at + size)}
        elif kind == 0xE:
            unread |= {*range(at + 12 + len("/usr/lib/dyld") + 1, at + size)}
        if kind == 0xC:
            unread |= {*range(at + 24 + len("/usr/lib/libSystem.B.dylib") + 1, at + size)}
        at += size
    return unread


@pytest.mark.parametrize("name", NAMES)
def test_extreme_words(name: str) -> None:
    """Every aligned word of the headers as a size or place that would overflow."""
    image = payload(name)
    for at in range(0, 1024, 4):
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF):
            passes(image[:at] + struct.pack("<I", value) + image[at + 4 :], name)
        passes(image[:at] + b"\xff" * 8 + image[at + 8 :], name)


def _mutations(size: int) -> st.SearchStrategy[list[tuple[int, bytes]]]:
    places = st.one_of(st.integers(0, min(size, 2048) - 1), st.integers(0, size - 1))
    return st.lists(st.tuples(places, st.binary(min_size=1, max_size=16)), min_size=1, max_size=6)


def _mutated(image: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(image)
    for at, data in changes:
        changed[at : at + len(data)] = data
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutations(name: str, data: st.DataObject) -> None:
    image = payload(name)
    passes(_mutated(image, data.draw(_mutations(len(image)))), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_mutations(name: str) -> None:
    image, generator = payload(name), random.Random(name)
    target = TARGETS[name]
    for _ in range(50_000):
        changed = bytearray(image)
        for _ in range(generator.randrange(1, 5)):
            at = generator.randrange(min(len(changed), generator.choice((512, 2048, len(changed)))))
            changed[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        exports = generator.choice((EXPORTS, (), ("other",)))
        try:
            examine(bytes(changed), Platform(target.os, target.arch), exports, path="lib")
        except (NativeCodeError, PlatformError):
            continue
        assert exports == EXPORTS

"""What a library is refused for when any place of its headers and tables is changed: every check is met by some change,
and says what it says. ``refusals.txt`` has these words; a check that is taken out, or stands behind another that is
always first, is missing from what comes out."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from vitrify.errors import ArtifactError, NativeCodeError

from .libraries import EXPORTED, EXPORTS, PLAIN, check, library, payload

LIST = Path(__file__).with_name("refusals.txt")
NAMES = ("x86-64-v3", "macos-aarch64", "windows-x86_64")
_RARE = 2  # changes; what fewer give may be by chance


def words(error: ArtifactError) -> str:
    """The first words of a refusal, without numbers and names."""
    return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'", "#", str(error).split("\n")[0].removeprefix("lib: ").split("; ")[0])


def places(image: bytes, name: str) -> Iterator[int]:
    """Headers and tables."""
    if name == "macos-aarch64":
        (links,) = struct.unpack_from("<Q", image, image.index(b"__LINKEDIT") + 32)
        yield from chain(range(2200), range(links, len(image)))
    elif name == "windows-x86_64":
        optional = struct.unpack_from("<I", image, 60)[0] + 24
        (sections,) = struct.unpack_from("<H", image, optional - 18)
        rows = [
            struct.unpack_from("<4I", image, optional + 240 + 40 * number + 8) for number in range(sections)
        ]  # fmt: skip
        yield from range(1100)
        for entry in (0, 5):  # exports and relocations
            address, size = struct.unpack_from("<II", image, optional + 112 + 8 * entry)
            start = next(address - at + offset for span, at, _, offset in rows if at <= address < at + span)
            yield from range(start, start + size)
    else:
        yield from chain(range(2400), range(len(image) - 2400, len(image)))


def changes(image: bytes, at: int) -> Iterator[bytes]:
    """The library with something else at a place: single bits, zeros, ones, and what stands beside it."""
    found = [bytes([image[at] ^ 1 << bit]) for bit in (0, 1, 3, 5, 7)]
    found += [b"\0" * 4, b"\xff" * 2, b"\xff" * 4, b"\0" * 8, image[max(at - 4, 0) : at], image[max(at - 8, 0) : at]]
    for word in found:
        yield (image[:at] + word + image[at + len(word) :])[: len(image)]


def expected() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in LIST.read_text().splitlines():
        name, _, said = line.partition(": ")
        found.setdefault(name, set()).add(said)
    return found


def met(name: str) -> Counter[str]:
    """How often each refusal comes."""
    image, found = payload(name), Counter[str]()
    for at in places(image, name):
        for changed in changes(image, at):
            try:
                check(changed, name)
            except ArtifactError as error:
                found[words(error)] += 1
    return found


def refused(image: bytes, name: str, message: str, exports: tuple[str, ...] = EXPORTS) -> None:
    with pytest.raises(NativeCodeError, match=message):
        check(image, name, exports)


TWO = PLAIN + EXPORTED + "int vt_sibling(int x) { return x; }"
BOTH = ("vt_payload", "vt_sibling")


def test_two_symbols_of_one_name() -> None:
    image = bytearray(library("x86-64-v3", TWO, ("-z", "noexecstack")))
    check(bytes(image), "x86-64-v3", BOTH)
    rows = [struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * i) for i in range(image[56])]
    dynamic = next(row for row in rows if row[0] == 2)
    tags = dict(struct.iter_unpack("<qQ", image[dynamic[2] : dynamic[2] + dynamic[5]]))
    symbols = tags[6]
    image[symbols + 48 : symbols + 52] = image[symbols + 24 : symbols + 28]
    refused(bytes(image), "x86-64-v3", "exports a name twice", BOTH)


def test_exports_out_of_order() -> None:
    image = library("windows-x86_64", TWO, ("-noentry",))
    check(image, "windows-x86_64", BOTH)
    swapped = image.replace(b"vt_payload\0vt_sibling\0", b"vt_sibling\0vt_payload\0")
    assert swapped != image
    refused(swapped, "windows-x86_64", "order of the exports", BOTH)


def commands(image: bytes) -> list[tuple[int, int, int]]:
    """(kind, place, size) of the load commands of a Mach-O library."""
    found, at = [], 32
    for _ in range(struct.unpack_from("<I", image, 16)[0]):
        kind, size = struct.unpack_from("<II", image, at)
        found.append((kind, at, size))
        at += size
    return found


def test_without_a_command() -> None:
    """Each load command taken out in turn: some are none that a payload must have."""
    image = payload("macos-aarch64")
    count, total = struct.unpack_from("<II", image, 16)
    said = set()
    for _, at, size in commands(image):
        end = 32 + total
        fewer = image[:at] + image[at + size : end] + bytes(size) + image[end:]
        fewer = fewer[:16] + struct.pack("<II", count - 1, total - size) + fewer[24:]
        try:
            check(fewer, "macos-aarch64")
        except NativeCodeError as error:
            said.add(words(error))
    assert said >= {"the segments", "the place of segment __LINKEDIT", "the library lacks load command #"}
    # the library's name becomes that of one it needs, and the system's, which it needs, becomes its name
    names = [at for kind, at, _ in commands(image) if kind == 0xD]
    refused(image[: names[0]] + b"\x0c" + image[names[0] + 1 :], "macos-aarch64", "no name|needs another library")


@pytest.mark.parametrize("name", NAMES)
def test_every_refusal(name: str) -> None:
    assert not expected()[name] - met(name).keys()


if __name__ == "__main__":  # writes the list anew
    LIST.write_text("".join(
        f"{name}: {said}\n" for name in NAMES for said, count in sorted(met(name).items()) if count >= _RARE
    ))  # fmt: skip

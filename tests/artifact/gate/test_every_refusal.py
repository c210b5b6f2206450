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

from vitrify.errors import ArtifactError

from .libraries import check, payload

LIST = Path(__file__).with_name("refusals.txt")
NAMES = ("x86-64-v3", "macos-aarch64", "windows-x86_64")
_RARE = 8  # changes: another version of the compiler may write libraries in which fewer give no such refusal


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


@pytest.mark.parametrize("name", NAMES)
def test_every_refusal(name: str) -> None:
    assert not expected()[name] - met(name).keys()


if __name__ == "__main__":  # writes the list anew
    LIST.write_text("".join(
        f"{name}: {said}\n" for name in NAMES for said, count in sorted(met(name).items()) if count >= _RARE
    ))  # fmt: skip

"""NativeCodeError: libraries with more in them than code, constants and the listed exports. Each is the artifact's own
payload with one field of its headers changed; libraries that were really built so are in ``tests/artifact/gate``."""

from __future__ import annotations

import struct
from collections.abc import Callable

from vitrify.errors import NativeCodeError

from .forge import PAYLOAD, Parts, base
from .platforms import with_payload
from .table import attack, changed

LOAD, DYNAMIC, STACK, RELRO = 1, 2, 0x6474E551, 0x6474E552


class Elf:
    """A library whose headers can be written."""

    def __init__(self, image: bytes) -> None:
        self.image = bytearray(image)

    def put(self, offset: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, self.image, offset, *values)

    def segment(self, kind: int, number: int = 0) -> int:
        """Where the header of a segment of this kind is."""
        places = range(64, 64 + 56 * self.image[56], 56)
        return [at for at in places if struct.unpack_from("<I", self.image, at)[0] == kind][number]

    def code(self) -> int:
        """The header of the segment that is run."""
        places = range(64, 64 + 56 * self.image[56], 56)
        return next(at for at in places if struct.unpack_from("<II", self.image, at) == (LOAD, 5))

    def tag(self, tag: int) -> int:
        """Where the entry of the dynamic table with this tag is."""
        offset, size = (struct.unpack_from("<Q", self.image, self.segment(DYNAMIC) + at)[0] for at in (8, 32))
        found = range(offset, offset + size, 16)
        return next(at for at in found if struct.unpack_from("<Q", self.image, at)[0] == tag)

    def value(self, tag: int) -> int:
        """What the entry says: a table's address, which is its offset in a payload's first segment."""
        found: int = struct.unpack_from("<Q", self.image, self.tag(tag) + 8)[0]
        return found

    def end_before(self, tag: int) -> None:
        """The dynamic table without the entry of this tag: those behind it move up."""
        at = self.tag(tag)
        end = self.tag(0)
        self.image[at : end + 16] = self.image[at + 16 : end + 16] + bytes(16)

    def symbol(self) -> int:
        """Where the first export's symbol is."""
        return self.value(6) + 24


def _case(name: str, message: str, change: Callable[[Elf], object]) -> None:
    def write(parts: Parts) -> None:
        elf = Elf(base().files[PAYLOAD])
        change(elf)
        with_payload(bytes(elf.image), parts)

    attack(f"native/{name}", NativeCodeError, message, changed(write), stage="run")


def _image(name: str, message: str, make: Callable[[bytes], bytes]) -> None:
    attack(f"native/{name}", NativeCodeError, message, changed(
        lambda parts: with_payload(make(parts.files[PAYLOAD]), parts)), stage="run")  # fmt: skip


def _manifest(name: str, message: str, exports: list[str]) -> None:
    attack(f"native/{name}", NativeCodeError, message, changed(
        lambda parts: parts.target.update(exports=exports)), stage="run")  # fmt: skip


# another entry in place of RELACOUNT, which the loader could do without
_COUNT = 0x6FFFFFF9
for _name, _tag in {
    "needed": 1, "init": 12, "fini": 13, "soname": 14, "rpath": 15, "symbolic": 16, "rel": 17, "debug": 21,
    "textrel": 22, "plt": 23, "bind-now": 24, "constructor": 25, "destructor": 26, "runpath": 29, "flags": 30,
    "early-constructor": 32, "relr": 36, "depaudit": 0x6FFFFEFB, "audit": 0x6FFFFEFC, "flags-1": 0x6FFFFFFB,
    "auxiliary": 0x7FFFFFFD, "filter": 0x7FFFFFFF, "versions": 0x6FFFFFFE, "unknown": 0x12345,
    "negative": 0xFFFFFFFFFFFFFFFF,
}.items():  # fmt: skip
    _case(f"tag-{_name}", "the dynamic table has", lambda e, t=_tag: e.put(e.tag(_COUNT), "Q", t))  # type: ignore[misc]
_case("tag-twice", "twice", lambda e: e.put(e.tag(_COUNT), "Q", 10))
_case("tag-missing", "lacks entries", lambda e: e.end_before(0x6FFFFEF5))
_case("tags-after-the-end", "goes on after its end", lambda e: (
    e.end_before(_COUNT), e.end_before(9), e.put(e.tag(0) + 16, "Q", 1)))  # fmt: skip
_case("relocations-in-part", "described in part", lambda e: e.end_before(_COUNT))
_case("two-stacks", "there twice", lambda e: e.put(e.segment(RELRO), "56B", *e.image[e.segment(STACK) :][:56]))
for _name, _kind in {"interpreter": 3, "note": 4, "tls": 7, "eh-frame": 0x6474E550, "unknown": 0x60000001}.items():
    _case(f"segment-{_name}", "a segment that no payload has", lambda e, k=_kind: e.put(e.segment(RELRO), "I", k))  # type: ignore[misc]
_case("writable-code", "writable and executable", lambda e: e.put(e.code() + 4, "I", 7))
_case("executable-data", "access|writable and executable", lambda e: e.put(e.segment(LOAD, -1) + 4, "I", 7))
_case("executable-headers", "headers are not in a first segment", lambda e: e.put(e.segment(LOAD) + 4, "I", 5))
_case("executable-stack", "writable and executable", lambda e: e.put(e.segment(STACK) + 4, "I", 7))
_case("no-stack", "without GNU_STACK|there twice", lambda e: e.put(e.segment(STACK), "I", RELRO))
_case("entry", "the entry point", lambda e: e.put(24, "Q", 0x1000))
_case("program", "the ELF type", lambda e: e.put(16, "H", 2))
_case("relocatable", "the ELF type", lambda e: e.put(16, "H", 1))
_case("version", "ELF version", lambda e: e.put(6, "B", 2))
_case("padding", "ELF version and padding", lambda e: e.put(9, "B", 1))
_case("magic", "magic number", lambda e: e.put(0, "B", 0x7E))
_case("flags", "the ELF flags", lambda e: e.put(48, "I", 1))
_case("header-size", "sizes and place of the headers", lambda e: e.put(52, "H", 65))
_case("headers-elsewhere", "sizes and place of the headers", lambda e: e.put(32, "Q", 128))
_case("headers-far", "sizes and place of the headers", lambda e: e.put(32, "Q", 1 << 63))
_case("no-headers", "too many program headers", lambda e: e.put(56, "H", 0))
_case("many-headers", "too many program headers", lambda e: e.put(56, "H", 0xFFFF))
_case("sections-far", "section headers is cut off", lambda e: e.put(40, "Q", 1 << 62))
_case("segment-far", "a segment is cut off", lambda e: e.put(e.code() + 8, "Q", (1 << 64) - 1))
_case("segment-size", "a segment is cut off", lambda e: e.put(e.code() + 32, "Q", (1 << 64) - 1))
_case("segment-memory", "a segment's sizes|overlap", lambda e: e.put(e.segment(LOAD, -1) + 40, "Q", (1 << 64) - 1))
_case("segment-alignment", "a segment's alignment", lambda e: e.put(e.code() + 48, "Q", 3))
_case("segment-overlap", "overlap or are out of order", lambda e: e.put(e.code() + 16, "QQ", *struct.unpack_from(
    "<QQ", e.image, e.code() + 8)[:1] * 2))  # fmt: skip
_case("dynamic-size", "the dynamic table's size", lambda e: e.put(e.segment(DYNAMIC) + 32, "Q", 17))
_case("dynamic-in-code", "not in a segment of data|DYNAMIC", lambda e: e.put(e.segment(DYNAMIC) + 16, "QQ", 0, 0))
_case("undefined-symbol", "an undefined symbol", lambda e: e.put(e.symbol() + 6, "H", 0))
_case("ifunc", "IFUNC", lambda e: e.put(e.symbol() + 4, "B", 0x1A))
_case("thread-local", "TLS", lambda e: e.put(e.symbol() + 4, "B", 0x16))
_case("weak-symbol", "is no plain export", lambda e: e.put(e.symbol() + 4, "B", 0x21))
_case("hidden-symbol", "is no plain export", lambda e: e.put(e.symbol() + 5, "B", 2))
_case("symbol-far", "is not in the library", lambda e: e.put(e.symbol() + 8, "Q", 1 << 40))
_case("symbol-name", "not in the names' table", lambda e: e.put(e.symbol(), "I", 1 << 30))
_case("other-export", "what the manifest does not list", lambda e: e.put(e.value(5) + 1, "B", ord("w")))
_case("symbols-count", "number of symbols|is cut off|is not in a segment", lambda e: e.put(e.value(4) + 4, "I", 0xFFFF))
_case("hash-loop", "HASH", lambda e: e.put(e.value(4) + 8, "I", 1 << 20))
_case("gnu-hash", "GNU_HASH", lambda e: e.put(e.value(0x6FFFFEF5), "I", 0))
_case("relocation-kind", "IRELATIVE", lambda e: e.put(e.value(7) + 8, "Q", 37))
_case("relocation-symbol", "relocation of another kind", lambda e: e.put(e.value(7) + 8, "Q", 1 << 32 | 1))
_case("relocation-into-code", "a relocation is not in data", lambda e: e.put(e.value(7), "Q", struct.unpack_from(
    "<Q", e.image, e.code() + 16)[0]))  # fmt: skip
_case("relocation-into-dynamic", "a relocation is not in data", lambda e: e.put(e.value(7), "Q", struct.unpack_from(
    "<Q", e.image, e.segment(DYNAMIC) + 16)[0]))  # fmt: skip
_case("relocation-out", "points out of the library", lambda e: e.put(e.value(7) + 16, "Q", 1 << 63))
_case("relocations-size", "the relocations' sizes|cut off|is not in a segment", lambda e: e.put(
    e.tag(8) + 8, "Q", 24 * (1 << 40)))  # fmt: skip
_image("truncated", "cut off", lambda image: image[: len(image) // 2])
_image("header-only", "cut off", lambda image: image[:64])
_image("cut-header", "cut off", lambda image: image[:63])
_image("no-bytes", "cut off", lambda image: b"")
_image("script", "magic number", lambda image: b"#!/bin/sh\nexit 1\n".ljust(4096, b"\n"))
_manifest("export-more", "does not export what the manifest lists", ["vt_payload", "vt_other"])
_manifest("export-other", "what the manifest does not list", ["vt_other"])
_manifest("export-none", "what the manifest does not list", [])

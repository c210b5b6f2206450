"""What a native library may hold, decided from its bytes before anything maps it.

A payload is code, constants and the exports that the manifest lists; it needs nothing from the system's loader but
to be placed. Every header, table and name the loader would read is read here first, within bounds; what is not on
the list of what the toolchain writes is refused, known or not. The signature decides whom to trust; this only keeps
a trusted signer's mistake, and a broken file, from running anything while it is loaded.
"""

from __future__ import annotations

from ...errors import PlatformError
from ..record import Record
from .image import Image

_FORMATS = {b"\x7fELF": "ELF", b"\xcf\xfa\xed\xfe": "Mach-O", b"\xca\xfe\xba\xbe": "Mach-O of several machines"}
_WANTED = {"linux": "ELF", "macos": "Mach-O", "windows": "PE"}
_ARCHITECTURES = {"linux": ("x86_64", "aarch64"), "macos": ("aarch64", "x86_64"), "windows": ("x86_64",)}


class Platform(Record):
    """``os`` is linux, macos or windows; ``arch`` is x86_64 or aarch64."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}"


def examine(image: bytes | memoryview, platform: Platform, exports: tuple[str, ...], *, path: str) -> None:
    """Returns if ``image`` is a library for ``platform`` that exports exactly ``exports`` and asks for nothing else.

    ``path`` names it in messages. Raises PlatformError where the header speaks of another system, machine or class
    than ``platform``, or ``platform`` is none that is known; NativeCodeError for everything else that is amiss.
    """
    if platform.arch not in _ARCHITECTURES.get(platform.os, ()):
        known = ", ".join(f"{os}-{arch}" for os, archs in _ARCHITECTURES.items() for arch in archs)
        raise PlatformError("payloads are made for no such platform", path=path, expected=known, actual=platform)
    wanted = _WANTED[platform.os]
    opened = Image(image, path)
    found = _format(bytes(opened.data[:4]))
    if found not in (wanted, None):
        raise PlatformError(
            "the library is for another system than the manifest says", path=path,
            expected=f"{wanted} for {platform}", actual=found,
        )  # fmt: skip
    _examine(opened, platform, exports)


def _examine(image: Image, platform: Platform, exports: tuple[str, ...]) -> None:
    # a process loads payloads of one system: it imports the reader of one format
    if platform.os == "linux":
        from . import elf

        elf.examine(image, platform.arch, exports)
    elif platform.os == "macos":
        from . import macho

        macho.examine(image, platform.arch, exports)
    else:
        from . import pe

        pe.examine(image, platform.arch, exports)


def _format(magic: bytes) -> str | None:
    return "PE" if magic[:2] == b"MZ" else _FORMATS.get(magic)

"""Reading a library within its bounds: every offset and count is checked here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NativeCodeError, PlatformError

if TYPE_CHECKING:
    import numpy.typing as npt

LONGEST_NAME = 256
_SHOWN = 8
_HINT = "a payload is built by `vitrify compile`, which writes nothing else; build it again"


class Image:
    """The bytes of a library. Reads outside them raise NativeCodeError that says what was to be read."""

    __slots__ = ("data", "path", "size")

    def __init__(self, data: bytes | memoryview, path: str) -> None:
        self.data = memoryview(data).cast("B")
        self.path = path
        self.size = len(self.data)

    def refused(self, message: str, *, expected: object = None, actual: object = None) -> NativeCodeError:
        return NativeCodeError(message, path=self.path, expected=expected, actual=actual, hint=_HINT)

    def elsewhere(self, message: str, *, expected: object, actual: object) -> PlatformError:
        """The error of a header that speaks of another platform."""
        return PlatformError(message, path=self.path, expected=expected, actual=actual)

    def require(self, what: str, actual: object, expected: object) -> None:
        """``actual`` must equal ``expected``."""
        if actual != expected:
            raise self.refused(f"{what} differs", expected=expected, actual=actual)

    def bound(self, offset: int, size: int, what: str) -> None:
        """[offset, offset + size) must lie in the file."""
        if offset < 0 or size < 0 or offset > self.size - size:
            raise self.refused(
                f"{what} is cut off", expected=f"bytes within the file's {self.size}",
                actual=f"{size} bytes at {offset}",
            )  # fmt: skip

    def unpack(self, layout: Struct, offset: int, what: str) -> tuple[Any, ...]:
        self.bound(offset, layout.size, what)
        return layout.unpack_from(self.data, offset)

    def rows(self, layout: Struct, offset: int, count: int, what: str) -> list[tuple[Any, ...]]:
        self.bound(offset, layout.size * count, what)
        return list(layout.iter_unpack(self.data[offset : offset + layout.size * count]))

    def array(self, dtype: npt.DTypeLike, offset: int, count: int, what: str) -> npt.NDArray[Any]:
        """``count`` elements at ``offset``, not copied; it need not be aligned."""
        self.bound(offset, np.dtype(dtype).itemsize * count, what)
        return np.frombuffer(self.data, dtype, count, offset)

    def name(self, offset: int, end: int, what: str) -> str:
        """The printable ASCII text at ``offset``, whose terminating zero lies before ``end``."""
        self.bound(offset, 0, what)
        text, zero, _ = bytes(self.data[offset : min(end, offset + LONGEST_NAME, self.size)]).partition(b"\0")
        if not zero:
            raise self.refused(f"{what} does not end", expected=f"at most {LONGEST_NAME - 1} bytes and a zero")
        if not all(33 <= byte < 127 for byte in text):
            raise self.refused(f"{what} is not printable ASCII", actual=text)
        return text.decode("ascii")

    def check_exports(self, found: Iterable[str], exports: tuple[str, ...]) -> None:
        """What the library exports must be what the manifest lists, each once."""
        names = list(found)
        if len(set(names)) != len(names):
            raise self.refused("the library exports a name twice", actual=shown(sorted(names)))
        for message, differing in (
            ("the library exports what the manifest does not list", sorted(set(names) - set(exports))),
            ("the library does not export what the manifest lists", sorted(set(exports) - set(names))),
        ):
            if differing:
                raise self.refused(message, expected=shown(sorted(exports)), actual=shown(differing))


def shown(names: Sequence[str]) -> str:
    """At most the first few of ``names``."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", and {more} more" if more > 0 else "") or "none"


def disjoint(ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether no two of the (start, size) overlap."""
    taken = sorted((start, start + size) for start, size in ranges if size)
    return all(one[1] <= other[0] for one, other in pairwise(taken))

"""What an engine computed beside what another did, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_TOLERANCE = 1e-4  # of an output's largest element: what orders of summation make of a deep network in float32
_STEPS = 4  # of a narrow type: outputs are rounded to it, and what came before may have been, too
BF16_TOLERANCE = 0.1  # products in bfloat16: asked for


@dataclass(frozen=True)
class Difference:
    """One output. ``largest`` is the largest absolute difference divided by the largest finite element that was
    expected (by 1 where that is 0); infinite where shapes differ or a NaN is in either array: NaN equals nothing.
    ``differing`` of ``elements`` are farther apart than ``tolerance``, integers and bools where they differ at all;
    the farthest is ``found`` at ``index`` and not ``expected``."""

    output: str
    tolerance: float
    largest: float
    elements: int
    differing: int
    index: tuple[int, ...] = ()
    found: str = ""
    expected: str = ""

    @property
    def passes(self) -> bool:
        return self.differing == 0

    def __str__(self) -> str:
        if self.passes:
            return f"{self.output!r}: largest difference {self.largest:.1e}"
        if not self.index and self.elements != 1:
            return f"{self.output!r}: {self.found}, not {self.expected}"
        count = f"{self.differing:,} of {self.elements:,} element{'s' * (self.elements != 1)} differ"
        place = f"[{', '.join(map(str, self.index))}]"
        return f"{self.output!r}: {count}, the most at {place}: {self.found}, not {self.expected}"


def default_tolerance(dtype: np.dtype[Any], *, bf16: bool = False) -> float:
    """What outputs of a type may differ by unless a caller says so: 0 for integers and bools, four steps of a
    narrow floating-point type."""
    if dtype.kind in "biu" or dtype.name.lstrip("u").startswith("int"):
        return 0.0
    return max(BF16_TOLERANCE if bf16 else _TOLERANCE, _STEPS * _epsilon(dtype))


def _epsilon(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def compare_output(name: str, found: Array, expected: Array, tolerance: float | None = None) -> Difference:
    """One output. Without a ``tolerance`` :func:`default_tolerance` of its type decides."""
    allowed = default_tolerance(expected.dtype) if tolerance is None else tolerance
    if found.shape != expected.shape or found.dtype != expected.dtype:
        shown = [f"{array.dtype} {list(array.shape)}" for array in (found, expected)]
        return Difference(name, allowed, float("inf"), max(expected.size, 2), max(expected.size, 1), (), *shown)
    if not expected.size:
        return Difference(name, allowed, 0.0, 0, 0)
    with np.errstate(all="ignore"):
        wide, other = _wide(found), _wide(expected)
        finite = np.abs(other[np.isfinite(other)])
        scale = float(finite.max(initial=0.0)) or 1.0
        apart = np.where(found == expected, 0.0, np.abs(wide - other) / scale)  # inf equals inf, a NaN nothing
        apart = np.where(np.isnan(apart), np.inf, apart)
        # exact types: 64-bit integers may be equal in double precision and differ
        wrong = (found != expected) if allowed == 0 else apart > allowed
    worst = int(np.argmax(np.where(wrong, apart, -1.0))) if wrong.any() else int(np.argmax(apart))
    index = tuple(int(i) for i in np.unravel_index(worst, expected.shape))
    values = (f"{array[index]:.9g}" if array.dtype.kind == "f" else str(array[index]) for array in (found, expected))
    return Difference(name, allowed, float(apart.max()), expected.size, int(wrong.sum()), index, *values)


def _wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def difference(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest :attr:`Difference.largest` of several outputs; infinite for another number of them."""
    if len(found) != len(expected):
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max((compare_output("", np.asarray(a), np.asarray(b)).largest for a, b in pairs), default=0.0)

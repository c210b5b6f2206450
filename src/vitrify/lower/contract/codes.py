"""Weights as the codes of a few bits they are quantised to, with a scale and a zero point for each block of terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BLOCKS = (256, 128, 64, 32, 16)


@dataclass(frozen=True, eq=False)
class Codes:
    """``(numbers - points) * scales`` in f32, all [terms, columns] (perhaps views that repeat)."""

    numbers: Array  # u8
    points: Array
    scales: Array

    @property
    def turned(self) -> Codes:
        return Codes(self.numbers.T, self.points.T, self.scales.T)

    @property
    def bits(self) -> int:
        """Of a code in memory: 4 or 8."""
        return 4 if int(self.numbers.max(initial=0)) < 16 else 8

    def block(self) -> int:
        """Terms that share scales and zero points; 0 where so few do that codes are not worth it."""
        terms = len(self.numbers)
        return next((b for b in BLOCKS if terms % b == 0 and self._shared(b)), 0)

    def _shared(self, block: int) -> bool:
        parts = (a.reshape(-1, block, a.shape[1]) for a in (self.points, self.scales))
        return all(bool((p == p[:, :1]).all()) for p in parts)


def packed(codes: Codes, columns: int) -> Array:
    """``[panel][terms * bits / 8][columns]``: two neighbouring terms in a byte of 4-bit codes, the first one low."""
    whole = _panels(codes.numbers, columns)
    if codes.bits == 8:
        return whole
    return np.ascontiguousarray(whole[:, ::2] | whole[:, 1::2] << 4)


def per_block(values: Array, block: int, columns: int) -> Array:
    """``[panel][block][columns]`` in f32."""
    return _panels(np.asarray(values[::block], np.float32), columns)


def _panels(array: Array, columns: int) -> Array:
    terms, n = array.shape
    panels = -(-n // columns)
    padded = np.zeros((terms, panels * columns), array.dtype)
    padded[:, :n] = array
    return np.ascontiguousarray(padded.reshape(terms, panels, columns).transpose(1, 0, 2))

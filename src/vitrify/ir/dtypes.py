"""Element types: one row each, in the order of the codes that payloads use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np


class Kind(Enum):
    FLOAT = "float"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOL = "bool"


@dataclass(frozen=True)
class DType:
    """``bits`` is the width of the number; ``itemsize`` the bytes one element takes in memory."""

    name: str
    code: int
    kind: Kind
    bits: int
    onnx: str
    numpy_name: str
    exponent: int = 0  # floats: bits of the exponent
    mantissa: int = 0  # floats: stored bits of the significand

    @property
    def itemsize(self) -> int:
        return max(self.bits // 8, 1)

    @property
    def is_float(self) -> bool:
        return self.kind is Kind.FLOAT

    @property
    def is_int(self) -> bool:
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED)

    @property
    def is_bool(self) -> bool:
        return self.kind is Kind.BOOL

    @property
    def compute(self) -> DType:
        """The type arithmetic happens in: narrow floats compute in f32, integers of 4 and 2 bits in 8."""
        if self.is_float and self.bits < 32:
            return F32
        if self.bits < 8:
            return I8 if self.kind is Kind.SIGNED else U8
        return self

    @property
    def numpy(self) -> np.dtype[Any]:
        return _numpy(self.numpy_name)

    def min(self) -> float | int:
        """The least value, -inf where there is one."""
        if self.kind is Kind.SIGNED:
            return -(1 << (self.bits - 1))
        return float("-inf") if self.is_float else 0

    def max(self) -> float | int:
        """The greatest value, inf where there is one."""
        if self.is_float:
            return float("inf")
        if self.is_bool:
            return 1
        return (1 << (self.bits - (self.kind is Kind.SIGNED))) - 1

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


@cache
def _numpy(name: str) -> np.dtype[Any]:
    if hasattr(np, name):
        return np.dtype(name)
    import ml_dtypes  # only for types NumPy lacks

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def _rows() -> tuple[DType, ...]:
    f, s, u = Kind.FLOAT, Kind.SIGNED, Kind.UNSIGNED
    specs = [
        ("f64", f, 64, "double", "float64", 11, 52),
        ("f32", f, 32, "float", "float32", 8, 23),
        ("f16", f, 16, "float16", "float16", 5, 10),
        ("bf16", f, 16, "bfloat16", "bfloat16", 8, 7),
        ("f8e4m3fn", f, 8, "float8e4m3fn", "float8_e4m3fn", 4, 3),
        ("f8e4m3fnuz", f, 8, "float8e4m3fnuz", "float8_e4m3fnuz", 4, 3),
        ("f8e5m2", f, 8, "float8e5m2", "float8_e5m2", 5, 2),
        ("f8e5m2fnuz", f, 8, "float8e5m2fnuz", "float8_e5m2fnuz", 5, 2),
        ("i64", s, 64, "int64", "int64", 0, 0),
        ("i32", s, 32, "int32", "int32", 0, 0),
        ("i16", s, 16, "int16", "int16", 0, 0),
        ("i8", s, 8, "int8", "int8", 0, 0),
        ("u64", u, 64, "uint64", "uint64", 0, 0),
        ("u32", u, 32, "uint32", "uint32", 0, 0),
        ("u16", u, 16, "uint16", "uint16", 0, 0),
        ("u8", u, 8, "uint8", "uint8", 0, 0),
        ("i4", s, 4, "int4", "int4", 0, 0),
        ("u4", u, 4, "uint4", "uint4", 0, 0),
        ("bool", Kind.BOOL, 8, "bool", "bool", 0, 0),
        ("i2", s, 2, "int2", "int2", 0, 0),
        ("u2", u, 2, "uint2", "uint2", 0, 0),
    ]
    return tuple(DType(n, i, k, b, o, p, e, m) for i, (n, k, b, o, p, e, m) in enumerate(specs))


DTYPES = _rows()
(
    F64, F32, F16, BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ,
    I64, I32, I16, I8, U64, U32, U16, U8, I4, U4, BOOL, I2, U2,
) = DTYPES  # fmt: skip

BY_NAME = {t.name: t for t in DTYPES}
BY_ONNX = {t.onnx: t for t in DTYPES}
FLOATS = tuple(t for t in DTYPES if t.is_float)
WIDE_FLOATS = (F64, F32, F16, BF16)
INTS = tuple(t for t in DTYPES if t.is_int)
SIGNED = tuple(t for t in DTYPES if t.kind is Kind.SIGNED)
UNSIGNED = tuple(t for t in DTYPES if t.kind is Kind.UNSIGNED)
NUMBERS = FLOATS + INTS


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The row of a NumPy dtype (native byte order); KeyError for those that are not tensors' types."""
    for row in DTYPES:
        if row.numpy_name == dtype.name:
            return row
    raise KeyError(dtype.name)

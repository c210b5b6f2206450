"""Casts between all pairs of dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Array, Model
from vitrify.ir.dtypes import DTYPES, F32, F64, DType

SIZE = 53
NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 7.9, -8.1, 15.6, 127.5, 128.0, -128.6, 255.9, 256.0, 300.0,
           32767.5, -32768.7, 65504.0, 65536.0, 2147483520.0, 2147483648.0, -2147483904.0, 4294967295.0, 4294967296.0,
           9.2e18, 9.3e18, -9.3e18, 1.8446742974197924e19, 1.9e19, 448.0, 464.0, 500.0, -57344.0, 61440.0, 1e-3, 1e-8,
           3.4e38, np.inf, -np.inf, np.nan]  # fmt: skip


def values(dtype: DType) -> Array:
    rng = np.random.default_rng(1)
    if dtype.is_bool:
        return np.asarray(rng.random(SIZE) < 0.5)
    if dtype.is_float:
        numbers = np.resize(np.asarray(NUMBERS), SIZE)
        with np.errstate(over="ignore"):
            return numbers.astype(np.float64 if dtype is F64 else np.float32).astype(dtype.numpy)
    low, high = int(dtype.min()), int(dtype.max())
    pool = [
        v for v in (low, low + 1, high, high - 1, 0, 1, -1, 5, 100, 1 << 20, 1 << 40, (1 << 53) + 1) if low <= v <= high
    ]
    return np.asarray(rng.choice(np.asarray(pool, dtype=object), SIZE)).astype(dtype.compute.numpy).astype(dtype.numpy)


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_every_pair(source: DType) -> None:
    m = Model()
    x = m.input(values(source))
    first = m.input(values(source)[7])
    for to in DTYPES:
        if to is not source:
            m.result(m.cast(x, to))
    for to in DTYPES[::3]:
        if to is not source:
            m.result(m.cast(first, to))
    m.check()


def test_saturation_switched_off() -> None:
    m = Model()
    x = m.input(values(F32))
    for to in DTYPES:
        if to.is_float and to.bits == 8:
            m.result(m.cast(x, to, saturate=False))
    m.check()


def test_there_and_back_rounds_in_one_kernel() -> None:
    m = Model()
    x = m.input(values(F32))
    for to in DTYPES:
        if to is not F32:
            m.result(m.map("neg", m.cast(m.cast(x, to), F32)))
    assert len(m.check().target.kernels) == len(DTYPES) - 1

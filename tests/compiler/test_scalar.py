"""Every row of the scalar table on every dtype it takes, special values among the arguments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.compiler.harness import Array, Model, sample
from vitrify.ir.dtypes import BOOL, F32, F64, FLOATS, INTS, DType
from vitrify.ir.scalar import SCALAR, ScalarFunction

SIZE = 83  # five vectors of 16, and a partial one
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-30, 3e38, -3e38, 88.0]
WHOLE = [0, 1, -1, 2, -2, 3, 7, -7, 100, -100]
DIVISION = ("quotient", "floormod", "fmod")
# Narrow floats compute in f32, so that a row is one more conversion: one of every kind is enough.
NARROW = tuple("add div fma exp pow sigmoid min relu sign round fmod lt isnan isinf where".split())
# The oracle's own error in f64: the argument of erfc and exp is rounded, and x * x of it is magnified.
ORACLE = {"gelu": 1e3, "gelu_tanh": 1e3}


def arguments(dtype: DType, count: int, seed: int, *, divisor: bool) -> list[Array]:
    """``count`` arrays that meet many pairs of special values."""
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return [rng.random(SIZE) < 0.5 for _ in range(count)]
    if dtype.is_float:
        kinds = [rng.choice(SPECIAL, SIZE), rng.uniform(-3, 3, SIZE), rng.uniform(-50, 50, SIZE)]
        arrays = [
            np.select([rng.random(SIZE) < 0.4, rng.random(SIZE) < 0.6], kinds[:2], kinds[2]) for _ in range(count)
        ]
        with np.errstate(over="ignore"):
            return [a.astype(np.float64 if dtype is F64 else np.float32).astype(dtype.numpy) for a in arrays]
    low, high = int(dtype.min()), int(dtype.max())
    pool = [v for v in (*WHOLE, low, low + 1, high, high - 1) if low <= v <= high]
    found = [
        rng.choice(np.asarray(pool, dtype=object), SIZE).astype(dtype.compute.numpy).astype(dtype.numpy)
        for _ in range(count)
    ]
    if divisor:
        wide = found[-1].astype(dtype.compute.numpy)
        found[-1] = np.where(wide == 0, dtype.compute.numpy.type(1), wide).astype(dtype.numpy)
    return found


def add_row(m: Model, row: ScalarFunction, dtype: DType, seed: int) -> None:
    divisor = dtype.is_int and row.name in DIVISION
    arrays = arguments(dtype, row.arity, seed, divisor=divisor)
    if row.name == "where":
        arrays[0] = arguments(BOOL, 1, seed, divisor=False)[0]
    if row.name in ("shl", "shr"):
        bits = dtype.bits
        arrays[1] = (np.arange(SIZE) % bits).astype(dtype.compute.numpy).astype(dtype.numpy)
    values = [m.input(a) for a in arrays]
    exact = row.ulp == 0 and row.name != "fma" and not (row.name == "fmod" and dtype.is_float)
    m.result(
        m.map(row.name, *values), ulps=0 if exact else row.ulp + 1 + (ORACLE.get(row.name, 0) if dtype is F64 else 0)
    )


def rows(dtype: DType) -> list[ScalarFunction]:
    return [r for r in SCALAR.values() if dtype in r.dtypes]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_floats(dtype: DType) -> None:
    m = Model()
    for seed, row in enumerate(rows(dtype)):
        add_row(m, row, dtype, seed)
    m.check()


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.bits < 32], ids=str)
def test_narrow_floats(dtype: DType) -> None:
    m = Model()
    for seed, name in enumerate(NARROW):
        add_row(m, SCALAR[name], dtype, seed)
    m.check()


@pytest.mark.parametrize("dtype", [*INTS, BOOL], ids=str)
def test_integers(dtype: DType) -> None:
    m = Model()
    for seed, row in enumerate(rows(dtype)):
        add_row(m, row, dtype, seed)
    m.check()


@pytest.mark.parametrize("dtype", [F32, *(d for d in INTS if d.bits != 16)], ids=str)
def test_without_vectors(dtype: DType) -> None:
    """Scalars take other code than vectors."""
    m = Model()
    names = [r.name for r in rows(dtype) if r.ulp == 0]
    for name in names:
        row = SCALAR[name]
        for values in itertools.islice(
            zip(*arguments(dtype, row.arity, 5, divisor=name in DIVISION and dtype.is_int), strict=True), 3
        ):
            arrays = [np.asarray(v) for v in values]
            if name == "where":
                arrays[0] = np.asarray(True)
            if name in ("shl", "shr"):
                arrays[1] = np.asarray(dtype.bits - 1).astype(dtype.numpy)
            m.result(m.map(name, *[m.input(a) for a in arrays]), ulps=1 if name in ("fma", "fmod") else 0)
    m.check()


def test_rows_that_share_a_kernel() -> None:
    """A long chain of rows of many dtypes in one kernel."""
    m = Model()
    x = m.input(sample(F32, (7, 45)))
    value = x
    for name in ("exp", "tanh", "sigmoid", "abs", "sqrt", "log1p"):
        value = m.map(name, value)
    chosen = m.map("where", m.map("lt", x, m.scalar(0.0, x)), value, m.map("neg", value))
    m.result(chosen, ulps=64)
    assert len(m.check().target.kernels) == 1

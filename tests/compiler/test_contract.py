"""Contractions in whole graphs; the templates themselves have tests of their own."""

from __future__ import annotations

import pytest

from tests.compiler.harness import Model, kernel_count, sample
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, F16, F32, F64, I8, I32, I64, U8, U32, DType

N, K = Dim.symbol("n"), Dim.symbol("k", 1)


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16, I8, U8, I32, U32, I64], ids=str)
def test_dtypes_and_accumulators(dtype: DType) -> None:
    m = Model()
    x, y = m.input(sample(dtype, (5, 17))), m.input(sample(dtype, (17, 19), 1))
    for to in {dtype, F32, F64} | ({I32, I64} if dtype.is_int else set()):
        m.result(m.contract(x, y, over=((1,), (0,)), dtype=to), ulps=8 if to.is_float else 0, scale=64)
    m.check()


@pytest.mark.parametrize("source", [F32, F64], ids=str)
@pytest.mark.parametrize("to", [F32, F64], ids=str)
def test_depths_that_only_the_run_knows(source: DType, to: DType) -> None:
    m = Model()
    x = m.input(sample(source, (5, 3, 7)), (K, 3, 7))
    m.result(m.contract(x, x, over=((0, 2), (0, 2)), dtype=to), ulps=64, scale=64)
    m.result(
        m.contract(x, x, over=((0,), (0,)), dtype=to),
        m.contract(x, x, over=((0, 1, 2), (0, 1, 2)), dtype=to),
        ulps=64,
        scale=64,
    )
    m.check({"x0": sample(source, (1, 3, 7))}, {"x0": sample(source, (40, 3, 7))})


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_small_and_empty(depth: int) -> None:
    m = Model()
    for rows, columns in ((0, 3), (3, 0), (1, 1), (1, 17), (17, 1)):
        x, y = m.input(sample(F32, (rows, depth))), m.input(sample(F32, (depth, columns)))
        m.result(m.map("add", m.contract(x, y, over=((1,), (0,))), m.fill(1.0, F32, (rows, columns))), ulps=4, scale=16)
    m.check()


def test_sums_of_nothing() -> None:
    m = Model()
    x, y = m.input(sample(I32, (0, 3, 5)), (0, 3, N)), m.input(sample(I32, (0, 3, 64)))
    m.result(m.contract(x, m.permute(x, (2, 1, 0)), batch=((2,), (0,)), over=((0,), (2,))))
    m.result(m.map("not", m.contract(y, y, over=((0,), (0,)))))
    m.result(m.contract(m.cast(x, F32), m.cast(y, F32), over=((0, 1), (0, 1))))
    m.check({"x0": sample(I32, (0, 3, 40)), "x1": m.feeds["x1"]})


def test_epilogues_of_a_contraction_are_one_kernel() -> None:
    m = Model()
    x, w = m.input(sample(F32, (9, 33)), (N, 33)), m.constant(sample(F32, (33, 21), 1))
    y = m.contract(x, w, over=((1,), (0,)))
    z = m.map("gelu", m.map("add", y, m.constant(sample(F32, (21,), 2))))
    m.result(m.permute(z, (1, 0)), ulps=64, scale=64)
    session = m.check({"x0": sample(F32, (1, 33))}, {"x0": sample(F32, (0, 33))}, {"x0": sample(F32, (64, 33))})
    assert kernel_count(session) == 1


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("target", ["x86-64-v3", None])
def test_functions_of_few_columns(dtype: DType, target: str | None) -> None:
    """Vectors as narrow as the result still have vector math."""
    m = Model()
    for columns in (1, 2, 3, 5):
        x, y = m.input(sample(dtype, (7, 5, columns))), m.input(sample(dtype, (columns, 5, 7), 1))
        batched = m.contract(x, y, batch=((0, 2), (2, 0)), over=((1,), (1,)))
        plain = m.contract(x, y, over=((0, 1), (2, 1)))
        m.result(
            m.map("cos", batched), m.map("exp", plain), m.map("tanh", m.permute(batched, (1, 0))), ulps=2048, scale=1
        )
    m.check(target=target)


def test_a_value_that_a_contraction_and_others_read() -> None:
    m = Model()
    x = m.input(sample(F32, (7, 12)))
    y = m.map("exp", m.pad(x, (1, 0), (1, 0), 0))
    windows = m.window(y, (0,), (3,), (1,), (1,))
    product = m.contract(windows, m.constant(sample(F32, (12, 3, 8), 1)), over=((1, 2), (0, 1)))
    m.result(
        product, m.map("neg", y), m.reduce("sum", product, (1,)), m.map("mul", product, product), ulps=1024, scale=64
    )
    m.check()
    m.check(level=0)


def test_operands_that_are_views_of_one_another() -> None:
    m = Model()
    x = m.input(sample(F32, (6, 6)))
    flipped, turned = m.flip(x, 0), m.permute(x, (1, 0))
    for a, b in ((x, flipped), (flipped, turned), (turned, x), (x, x)):
        m.result(m.contract(a, b, over=((1,), (0,))), ulps=16, scale=32)
    m.result(
        m.contract(m.map("add", x, turned), m.slice(x, (5, 0), (-1, 1), (6, 6)), over=((1,), (0,))), ulps=32, scale=64
    )
    m.check()

"""Transpositions that are turned in registers: whole and partial squares, every size of element, what follows them."""

from __future__ import annotations

import pytest

from tests.compiler.harness import Model, kernel_count, sample
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, I8, I16, I64, U4, DType

N = Dim.symbol("n")
MATRICES = [(1, 300), (300, 9), (16, 16), (37, 19), (129, 257), (128, 128), (8, 130), (31, 15)]


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16, I64, I16, I8, U4, BOOL], ids=str)
def test_elements_of_every_size(dtype: DType) -> None:
    m = Model()
    for i, shape in enumerate(MATRICES):
        m.result(m.permute(m.input(sample(dtype, shape, i)), (1, 0)))
    planes = m.input(sample(dtype, (2, 33, 5, 13)))
    m.result(m.permute(planes, (0, 2, 3, 1)), m.permute(planes, (3, 1, 0, 2)))
    m.check()


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_symbolic_sizes(target: str) -> None:
    m = Model()
    x, y = m.input(sample(F32, (33, 140)), (N, 140)), m.input(sample(F16, (3, 20, 33)), (3, 20, N))
    m.result(m.permute(x, (1, 0)), m.permute(y, (0, 2, 1)), m.permute(y, (2, 1, 0)))
    more = [{"x0": sample(F32, (n, 140), n), "x1": sample(F16, (3, 20, n), n)} for n in (0, 1, 16, 130)]
    m.check(*more, target=target)


def test_what_is_computed_with_turned_values() -> None:
    m = Model()
    x, y, bias = m.input(sample(F32, (47, 130))), m.input(sample(F32, (130, 47), 1)), m.input(sample(F32, (47,), 2))
    turned = m.permute(x, (1, 0))
    m.result(m.map("relu", m.map("add", m.map("mul", turned, y), bias)))  # one kernel, contiguous and turned loads
    m.result(m.map("sub", turned, m.permute(m.map("neg", x), (1, 0))))
    assert kernel_count(m.check()) == 2


def test_a_long_expression_and_several_turned_loads() -> None:
    m = Model()
    x, y = m.input(sample(F32, (65, 40))), m.input(sample(F32, (65, 40), 1))
    value = m.map("add", m.permute(x, (1, 0)), m.permute(y, (1, 0)))
    for _ in range(3):
        value = m.map("mul", m.map("add", value, value), m.permute(x, (1, 0)))
    m.result(value, ulps=2)
    steps = m.input(sample(F32, (33, 64, 3), 4))
    m.result(m.permute(m.slice(steps, (32, 1, 0), (-1, 2, 1), (33, 31, 3)), (1, 0, 2)))
    m.result(m.permute(m.slice(steps, (32, 0, 2), (-2, 1, 1), (17, 64, 1)), (2, 1, 0)))
    m.check()

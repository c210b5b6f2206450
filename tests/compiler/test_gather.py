"""Gathers: one index and several, at several axes, scalar and vector, in range and out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Model, compile_graph, sample
from vitrify.errors import IndexOutOfRangeError
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F32, I8, I32, I64, U4, U8, DType

N = Dim.symbol("n")


@pytest.mark.parametrize("constant", [False, True])
def test_axes_and_indices(constant: bool) -> None:
    m = Model()
    rng = np.random.default_rng(0)
    array = sample(F32, (5, 6, 7, 9))
    x = m.constant(array) if constant else m.input(array)
    for axis in range(4):
        for shape in ((), (1,), (19,), (2, 3)):
            for count in range(1, 5 - axis):
                indices = [m.input(rng.integers(0, array.shape[axis + k], shape)) for k in range(count)]
                m.result(m.gather(x, axis, *indices))
    m.check()


@pytest.mark.parametrize("dtype", [F32, BF16, I8, U4, I64, BOOL], ids=str)
def test_dtypes(dtype: DType) -> None:
    m = Model()
    x = m.input(sample(dtype, (11, 21)))
    for index in (I64, I32, U8, I8):
        i = m.input(np.random.default_rng(1).integers(0, 11, (35,)).astype(index.numpy))
        m.result(m.gather(x, 0, i), m.gather(x, 1, i))
    m.check()


def test_of_what_is_computed() -> None:
    m = Model()
    x = m.input(sample(F32, (13, 17)))
    i = m.input(np.random.default_rng(2).integers(0, 13, (23,)))
    value = m.map("exp", m.permute(x, (1, 0)))
    found = m.gather(value, 1, i)
    m.result(found, m.reduce("sum", found, (1,)), m.map("add", found, m.constant(sample(F32, (23,), 5))), ulps=32)
    j = m.map("floormod", m.map("add", i, m.scalar(5, i)), m.scalar(13, i))
    m.result(
        m.gather(x, 0, j),
        m.gather(m.gather(x, 0, i), 0, m.map("floormod", j, m.scalar(7, j))),
        m.gather(m.flip(x, 0), 0, j),
    )
    m.result(m.pad(m.gather(x, 0, i), (1, 0), (0, 2), 3), m.concat([m.gather(x, 0, i), m.gather(x, 0, j)], 1))
    m.check()


def test_symbolic() -> None:
    m = Model()
    x = m.input(sample(F32, (5, 18)), (N, 18))
    i = m.input(np.asarray([4, 0, 2]), (Dim.symbol("k"),))
    m.result(
        m.gather(x, 0, i),
        m.gather(m.map("neg", x), 0, i),
        m.map("add", m.gather(x, 0, i), m.constant(sample(F32, (18,), 1))),
    )
    m.check(
        {"x0": sample(F32, (1, 18)), "x1": np.zeros(40, np.int64)},
        {"x0": sample(F32, (0, 18)), "x1": np.zeros(0, np.int64)},
    )


@pytest.mark.parametrize("bad", [13, -1, 1 << 40, -(1 << 62)])
@pytest.mark.parametrize(("axis", "shape"), [(0, (21,)), (1, (21,)), (0, ())])
def test_out_of_range_names_the_node(bad: int, axis: int, shape: tuple[int, ...]) -> None:
    m = Model()
    x = m.input(sample(F32, (13, 13)))
    good = np.full(shape, 12)
    i = m.input(good)
    with m.sourced("Gather 'lookup'"):
        found = m.gather(x, axis, i)
    m.result(m.map("neg", found))
    session = compile_graph(m.graph())
    for place in {0, max(good.size - 1, 0), good.size // 2}:
        wrong = good.copy()
        wrong.reshape(-1)[place] = bad
        with pytest.raises(IndexOutOfRangeError, match="lookup"):
            session.run(None, {"x0": m.feeds["x0"], "x1": wrong})
    session.run(None, m.feeds)


def test_positions_that_padding_hides_are_not_reported() -> None:
    """What a pad or a concat does not read is no error: both are computed with masks."""
    m = Model()
    x = m.input(sample(F32, (4, 20)))
    i = m.input(np.asarray([3, 1, 0, 2, 1]))
    y = m.gather(x, 0, i)
    m.result(m.map("neg", m.pad(y, (2, 3), (3, 2), 1)), m.map("neg", m.concat([y, m.map("neg", y), y], 0)))
    m.check()

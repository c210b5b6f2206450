"""Sorting and suppression: every algorithm, dtype and layout against the interpreter, and that against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import Model
from tests.random_graphs import elements
from vitrify.errors import VitrifyError
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, DTYPES, F16, F32, F64, I64, U8, DType
from vitrify.ir.graph import TypeRuleError
from vitrify.ir.interpret import interpret
from vitrify.lower.target import TARGETS

Array = np.ndarray[Any, Any]
N = Dim.symbol("n")


def rows(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Few different values, so that many are equal; NaN, infinities and zeros of both signs among floats."""
    data = elements(np.random.default_rng(seed), dtype, shape, True)
    half = data.reshape(-1)[: data.size // 2]
    data.reshape(-1)[data.size - half.size :] = half
    return data


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: DType) -> None:
    m = Model()
    for shape, axis, count in [((3, 40), 1, 40), ((130, 2), 0, 5), ((2, 300), 1, 7)]:
        x = m.input(rows(dtype, shape))
        m.result(*m.sort(x, axis, count=count, descending=count == 7))
    m.result(*m.sort(x, 1, descending=True))
    m.check()


@pytest.mark.parametrize("size", [0, 1, 2, 17, 64, 1000])
@pytest.mark.parametrize("dtype", [F32, BOOL], ids=str)
def test_every_size(dtype: DType, size: int) -> None:
    """Of whole sorts, of parts, and of empty rows, with the size known and not."""
    m = Model()
    data = rows(dtype, (3, size), seed=size)
    for shape in (None, [3, N]):
        x = m.input(data, shape)
        for count in {size, min(size, 1), size // 5}:
            m.result(*m.sort(x, 1, count=count, descending=count % 2 == 0))
    m.result(*m.sort(m.input(np.zeros((0, size), np.float32)), 1))
    m.check()


def test_sizes_of_the_run() -> None:
    m = Model()
    x = m.input(rows(F32, (300, 3)), [N, 3])
    m.result(*m.sort(x, 0, count=N // 3, descending=True), *m.sort(m.permute(x, [1, 0]), 1))
    m.check(*({"x0": rows(F32, (n, 3), n)} for n in (0, 1, 2, 17, 1025)))


@pytest.mark.parametrize("dtype", [F32, F64, F16, I64, U8], ids=str)
def test_few_of_many(dtype: DType) -> None:
    """Rows of numbers that differ, lie in order, in reverse, are mostly equal, or mostly NaN."""
    data = np.random.default_rng(1).permuted(np.arange(5 * 3001).reshape(5, 3001) % 2503, axis=1).astype(dtype.numpy)
    data[1], data[2] = np.sort(data[1]), -np.sort(-data[2].astype(np.float32)).astype(dtype.numpy)
    data[3, 5:] = data[3, 5]
    if dtype.is_float:
        data[4, ::2] = np.nan
    m = Model()
    x, y = m.input(data), m.input(data, [5, N])
    for count in (1, 33, 700):
        for value in (x, y):
            m.result(*m.sort(value, 1, count=count, descending=True), *m.sort(value, 1, count=count))
    m.result(*m.sort(m.input(data, [5, N]), 1, count=N // 50, descending=True))
    m.check()


def test_every_target() -> None:
    for name in TARGETS:
        if name.startswith("x86"):
            m = Model()
            m.result(*m.sort(m.input(rows(F64, (4, 700))), 1, count=30, descending=True))
            m.check(target=name)


def test_of_what_is_computed_and_into_what_follows() -> None:
    """Sorts between elementwise work and views, several tasks, results read again."""
    m = Model()
    x = m.input(rows(F32, (70, 9, 33), 3))
    values, places = m.sort(m.map("neg", m.permute(x, [2, 0, 1])), 2, count=4)
    m.result(m.map("abs", values), m.concat([places, m.map("add", places, m.constant(1, I64))], 2))
    m.check(threads=2)


def test_order_of_nan_zeros_and_equals() -> None:
    b = Builder()
    x = parameter("x", F32, (7,))
    outputs = [*b.sort(x, 0), *b.sort(x, 0, descending=True)]
    data = np.array([np.nan, 0.0, np.inf, -0.0, -np.inf, np.nan, 0.0], np.float32)
    up, up_at, down, down_at = interpret(b.build([x], outputs), [data])
    assert up_at.tolist() == [4, 1, 3, 6, 2, 0, 5]
    assert down_at.tolist() == [0, 5, 2, 1, 3, 6, 4]
    np.testing.assert_array_equal(up, data[up_at])
    np.testing.assert_array_equal(down, data[down_at])


def test_more_than_there_are() -> None:
    m = Model()
    x = m.input(rows(F32, (9,)), [N])
    m.result(*m.sort(x, 0, count=5))
    session = m.check()
    with pytest.raises(VitrifyError):
        session.run(None, {"x0": np.zeros(4, np.float32)})
    with pytest.raises(TypeRuleError, match="the first 8"):
        Builder().sort(parameter("x", F32, (7,)), 0, count=8)


# ---- Suppress


def boxes(images: int, count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    low = rng.random((images, count, 2)) * 4
    return np.concatenate([low, low + rng.random((images, count, 2)) * 3 - 0.2], 2).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 7, 16, 17, 90])
def test_suppress(count: int) -> None:
    m = Model()
    corners, order = boxes(2, count), np.zeros((2, 3, count), np.int64)
    for row in order.reshape(6, count):
        row[:] = np.random.default_rng(count).permutation(count)
    valid = np.array([[count, 0, count // 2], [count + 5, 1, -1]], np.int64)
    inputs = [m.input(a) for a in (corners, order, valid)]
    for limit, threshold in ((1000, 0.2), (3, 0.0), (0, 0.5), (1000, 1.0), (-1, -2.0)):
        m.result(m.suppress(*inputs, m.constant(limit, I64), m.constant(threshold, F32)))
    m.check()


def test_suppress_of_a_box_outside() -> None:
    m = Model()
    order = m.input(np.array([[[0, 1]]], np.int64))
    one = m.input(np.array([[2]], np.int64))
    m.result(m.suppress(m.input(boxes(1, 2)), order, one, m.constant(9, I64), m.constant(0.5, F32)))
    session = m.check()
    for bad in (2, -1, 2**62):
        with pytest.raises(VitrifyError):
            session.run(None, {**m.feeds, "x0": np.array([[[0, bad]]], np.int64)})

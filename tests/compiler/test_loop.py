"""Loops that the run ends: by a limit, by a condition, with results whose size only the run knows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Model, body, sample
from vitrify.errors import ShapeError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F32, I64, DType
from vitrify.ir.graph import Value

N = Dim.symbol("n")
S = Dim.symbol("s")


def running(m: Model, limit: Value, stop: Value, x: Value, *, trips: str = "trips") -> tuple[Value, ...]:
    """Adds ``x`` to a sum until its first element reaches ``stop``: the sum, and all the sums before."""

    def step(b: Builder, t: Value, total: Value, x: Value, stop: Value) -> list[Value]:
        new = b.map("add", total, x)
        first = b.reshape(b.slice_axis(new, 0, 0, 1), ())
        return [b.map("lt", first, stop), new, total, t]

    inputs = [("t", I64, ()), ("total", x.dtype, x.shape), ("x", x.dtype, x.shape), ("stop", x.dtype, ())]
    start = m.fill(0, x.dtype, x.shape)
    return m.add(g.Loop(body(inputs, step), 1, trips), limit, m.constant(True), start, x, stop)


@pytest.mark.parametrize("dtype", [F32, I64], ids=str)
def test_limits_and_conditions(dtype: DType) -> None:
    m = Model()
    limit, stop = m.input(np.asarray(5, np.int64)), m.input(np.asarray(100), dtype=dtype)
    x = m.input(np.asarray([3, 1, 4, 1, 5, 9, 2]), (N,), dtype)
    total, sums, steps = running(m, limit, stop, x)
    m.result(total, sums, steps, m.reduce("sum", sums, (0,)), m.map("add", total, x))
    feeds = [
        {"x0": np.asarray(limit), "x1": np.asarray(stop, dtype.numpy), "x2": np.arange(1, 1 + n).astype(dtype.numpy)}
        for limit, stop, n in [(0, 9, 3), (-4, 9, 3), (1, 9, 1), (70, 50, 17), (2**62, 300, 5), (3, -1, 2)]
    ]
    m.check(*feeds)


def test_carried_values_that_grow() -> None:
    m = Model()
    limit = m.input(np.asarray(6, np.int64))
    x = m.input(sample(F32, (2, 3)), (N, 3))
    b = Builder()
    t, kept, row = parameter("t", I64, ()), parameter("kept", F32, (S, 3)), parameter("x", F32, (N, 3))
    longer = b.concat([kept, b.map("mul", row, b.expand_to(b.cast(t, F32), (N, 3)))], 0)
    inside = b.build([t, kept, row], [b.constant(True), longer, b.reduce("sum", kept, (0,))])
    op = g.Loop(inside, 1, "trips", ("s",), ("length",))
    longest, sums = m.add(op, limit, m.constant(True), x, x)
    m.result(longest, sums, m.reduce("sum", longest, (0,)), ulps=8, scale=64)
    sizes = [(0, 2), (1, 0), (2, 1), (9, 5), (40, 3)]
    m.check(*({"x0": np.asarray(k), "x1": sample(F32, (n, 3), k)} for k, n in sizes))


def test_entries_whose_size_the_run_finds_out() -> None:
    m = Model()
    limit, size = m.input(np.asarray(4, np.int64)), m.input(np.asarray(3, np.int64))
    growth = m.input(np.asarray(0, np.int64))
    b = Builder()
    t, n, more = (parameter(k, I64, ()) for k in ("t", "n", "more"))
    b.one(g.BindDim("inner"), b.map("add", n, b.map("mul", t, more)))
    inner = Dim.symbol("inner")
    entry = b.map("add", b.iota((inner,), 0), b.expand_to(t, (inner,)))
    op = g.Loop(b.build([t, n, more], [b.constant(True), entry]), 0, "trips", (), ("width",))
    m.result(*m.add(op, limit, m.constant(True), size, growth))
    cases = [(0, 7), (1, 0), (5, 1), (3, 100)]
    zero, one = np.asarray(0), np.asarray(1)
    session = m.check(*({"x0": np.asarray(a), "x1": np.asarray(b), "x2": zero} for a, b in cases))
    with pytest.raises(ShapeError):
        session.run(None, {**m.feeds, "x2": one})


def test_loops_inside_loops_and_branches() -> None:
    m = Model()
    limit, c = m.input(np.asarray(3, np.int64)), m.input(np.asarray(True))
    x = m.input(sample(F32, (5,)), (N,))

    def outer(b: Builder, t: Value, total: Value, limit: Value) -> list[Value]:
        def inner(b: Builder, t: Value, total: Value, i: Value) -> list[Value]:
            new = b.map("add", total, b.expand_to(b.cast(b.map("add", t, i), F32), total.shape))
            return [b.constant(True), new, new]

        step = body([("t", I64, ()), ("total", F32, (N,)), ("i", I64, ())], inner)
        last, all_ = b.add(g.Loop(step, 1, "inner"), b.map("add", t, limit), b.constant(True), total, t)
        return [b.constant(True), last, b.reduce("sum", all_, (0, 1))]

    op = g.Loop(body([("t", I64, ()), ("total", F32, (N,)), ("limit", I64, ())], outer), 1, "outer")
    m.result(*m.add(op, limit, c, x, limit), ulps=8, scale=300)
    m.check(*({**m.feeds, "x0": np.asarray(k), "x1": np.asarray(c)} for k in (0, 1, 5) for c in (False, True)))


def test_a_number_of_trips_that_alone_is_read() -> None:
    m = Model()
    limit, stop = m.input(np.asarray(5, np.int64)), m.input(np.asarray(9), dtype=F32)
    running(m, limit, stop, m.input(sample(F32, (3,)), (N,)))
    m.result(m.dim(Dim.symbol("trips")))
    m.check(*({**m.feeds, "x0": np.asarray(k)} for k in (0, 1, 9)))

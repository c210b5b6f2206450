"""Branches, repetition, and dims that the run finds out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.compiler.harness import Model, body, compile_graph, sample
from vitrify.errors import DivisionError, ShapeError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import BOOL, F32, I8, I32, I64, U8, DType
from vitrify.ir.graph import Graph, Value

N = Dim.symbol("n")
Build = Callable[..., Value | list[Value]]


def branch(m: Model | Builder, condition: Value, then: Build, otherwise: Build, *captured: Value) -> tuple[Value, ...]:
    inputs = [(f"c{i}", v.dtype, v.shape) for i, v in enumerate(captured)]
    return m.add(g.If(body(inputs, then), body(inputs, otherwise)), condition, *captured)


def flags(m: Model) -> list[dict[str, np.ndarray]]:
    """The model's feeds with every combination of its bools."""
    names = [k for k, v in m.feeds.items() if v.dtype == np.bool_ and v.ndim == 0]
    return [
        {**m.feeds, **{n: np.asarray(bool(i >> k & 1)) for k, n in enumerate(names)}} for i in range(1 << len(names))
    ]


def test_branches() -> None:
    m = Model()
    c = m.input(np.asarray(True))
    x = m.input(sample(F32, (3, 5)), (N, 5))
    y = m.map("exp", x)
    m.result(
        *branch(
            m,
            c,
            lambda b, x, y: [b.map("neg", y), x, x],
            lambda b, x, y: [x, b.map("add", x, y), b.constant(np.float32(2)) if False else y],
            x,
            y,
        ),
        ulps=4,
    )
    m.result(*branch(m, c, lambda b: b.constant(sample(I8, (4,))), lambda b: b.constant(sample(I8, (4,), 1))))
    m.result(
        *branch(m, m.map("not", c), lambda b, x: b.reduce("sum", x, (1,)), lambda b, x: b.reduce("max", x, (1,)), x),
        ulps=8,
        scale=8,
    )
    m.check(*flags(m), {"x0": np.asarray(False), "x1": sample(F32, (0, 5))})


def test_branches_inside_branches() -> None:
    m = Model()
    c, d = m.input(np.asarray(True)), m.input(np.asarray(False))
    x = m.input(sample(F32, (6, 7)))

    def inner(b: Builder, d: Value, x: Value) -> Value:
        doubled = b.map("add", x, x)
        return branch(b, d, lambda b, x, y: b.map("mul", x, y), lambda b, x, y: b.flip(y, 0), x, doubled)[0]

    (first,) = branch(m, c, inner, lambda b, d, x: x, d, x)
    (second,) = branch(m, d, lambda b, d, x: b.map("tanh", x), inner, c, first)
    m.result(first, second, m.concat([first, second], 0), ulps=4)
    m.check(*flags(m))


def test_one_body_for_both_branches_and_two_nodes() -> None:
    m = Model()
    c, x = m.input(np.asarray(True)), m.input(sample(F32, (9,)))
    twice: Graph = body([("x", F32, (9,))], lambda b, x: b.map("exp", b.reduce("sum", b.map("add", x, x), (0,))))
    m.result(*m.add(g.If(twice, twice), c, x), *m.add(g.If(twice, twice), m.map("not", c), m.map("neg", x)), ulps=64)
    m.check(*flags(m))


def recurrent(b: Builder, t: Value, h: Value, xt: Value, w: Value) -> list[Value]:
    new = b.map("tanh", b.map("add", b.contract(h, w, over=((1,), (0,))), b.map("add", xt, b.cast(t, F32))))
    return [new, b.map("mul", new, new), t]


@pytest.mark.parametrize("trips", [N, 3, 1, 0], ids=str)
def test_scan(trips: DimLike) -> None:
    m = Model()
    size = 4 if isinstance(trips, Dim) else trips
    h, w = m.input(sample(F32, (2, 8))), m.input(sample(F32, (8, 8), 1, low=-0.5, high=0.5))
    xs = m.input(sample(F32, (size, 2, 8), 2), (trips, 2, 8))
    op = g.Scan(
        body([("t", I64, ()), ("h", F32, (2, 8)), ("xt", F32, (2, 8)), ("w", F32, (8, 8))], recurrent), trips, 1, 1
    )
    last, stacked, positions = m.add(op, h, xs, w)
    m.result(m.map("neg", last), last, stacked, positions, m.reduce("sum", stacked, (0,)), ulps=64, scale=4)
    more = [{**m.feeds, "x2": sample(F32, (k, 2, 8), k)} for k in (0, 1, 2, 7)] if isinstance(trips, Dim) else []
    m.check(*more)


def test_scan_that_swaps_what_it_carries() -> None:
    """Carried values must not be overwritten before they are read."""
    m = Model()
    a, b = m.input(sample(I32, (5,))), m.input(sample(I32, (5,), 1))

    def step(b: Builder, t: Value, x: Value, y: Value) -> list[Value]:
        return [y, b.map("add", x, y), x]

    op = g.Scan(body([("t", I64, ()), ("x", I32, (5,)), ("y", I32, (5,))], step), 7, 2, 0)
    m.result(*m.add(op, a, b), *m.add(op, a, a))
    m.check()


def test_scan_inside_scan_inside_branch() -> None:
    m = Model()
    c = m.input(np.asarray(True))
    xs = m.input(sample(I64, (3, 4)), (N, 4))

    def inner(b: Builder, t: Value, total: Value, x: Value, weight: Value) -> list[Value]:
        new = b.map("add", total, b.map("mul", x, weight))
        return [new, new]

    def outer(b: Builder, t: Value, total: Value, row: Value) -> list[Value]:
        op = g.Scan(body([("t", I64, ()), ("total", I64, ()), ("x", I64, ()), ("w", I64, ())], inner), 4, 1, 1)
        last, steps = b.add(op, total, row, b.map("add", t, b.constant(1, I64)))
        return [last, steps, b.map("floormod", last, b.constant(5, I64))]

    def scanned(b: Builder, xs: Value) -> list[Value]:
        op = g.Scan(body([("t", I64, ()), ("total", I64, ()), ("row", I64, (4,))], outer), N, 1, 1)
        return list(b.add(op, b.constant(0, I64), xs))

    def plain(b: Builder, xs: Value) -> list[Value]:
        total = b.reduce("sum", xs, (0, 1))
        return [total, b.map("neg", xs), b.reduce("max", xs, (1,))]

    m.result(*branch(m, c, scanned, plain, xs))
    for k in (0, 1, 5):
        more = {"x0": np.asarray(True), "x1": sample(I64, (k, 4), k)}
        m.check(more, {**more, "x0": np.asarray(False)})


def test_scan_with_branches_and_softmax_inside() -> None:
    m = Model()
    xs = m.input(sample(F32, (6, 5, 33)))
    h = m.input(sample(F32, (5, 33), 3))

    def step(b: Builder, t: Value, h: Value, x: Value) -> list[Value]:
        e = b.map("exp", b.map("sub", x, b.reduce("max", x, (1,), keepdims=True)))
        p = b.map("div", e, b.reduce("sum", e, (1,), keepdims=True))
        even = b.map("eq", b.map("floormod", t, b.constant(2, I64)), b.constant(0, I64))
        (new,) = branch(b, even, lambda b, h, p: b.map("add", h, p), lambda b, h, p: b.flip(h, 1), h, p)
        return [new, b.concat([new, p], 0)]

    m.result(
        *m.add(g.Scan(body([("t", I64, ()), ("h", F32, (5, 33)), ("x", F32, (5, 33))], step), 6, 1, 1), h, xs),
        ulps=64,
        scale=4,
    )
    m.check()


# ---- dims that the run finds out


def bind(m: Model | Builder, value: Value, name: str) -> Dim:
    m.one(g.BindDim(name), value)
    return Dim.symbol(name)


def test_late_dims() -> None:
    m = Model()
    k = m.input(np.asarray(5))
    x = m.input(sample(F32, (3, 4)))
    d = bind(m, k, "k0")
    line = m.iota((d,), 0)
    wide = m.expand_to(m.reshape(x, (3, 4, 1)), (3, 4, d))
    m.result(
        line,
        m.map("mul", line, line),
        m.reduce("sum", line, (0,)),
        wide,
        m.permute(wide, (2, 0, 1)),
        m.reshape(wide, (12 * d,)),
    )
    m.result(
        m.pad(x, (0, d), (d, 0), 1),
        m.concat([line, line], 0),
        m.reduce("sum", wide, (2,)),
        m.reduce("max", m.cast(wide, F32), (0, 1)),
        ulps=16,
        scale=64,
    )
    e = bind(m, m.map("add", m.reduce("sum", line, (0,)), m.constant(2, I64)), "k1")
    m.result(m.iota((e,), 0, U8), m.cast(m.dim(e * d), F32))
    m.check(*({**m.feeds, "x0": np.asarray(v)} for v in (0, 1, 16, 33)))


def test_late_results_of_branches_and_scans() -> None:
    m = Model()
    k, c = m.input(np.asarray(3)), m.input(np.asarray(True))
    d = bind(m, k, "k0")
    line = m.iota((d,), 0)
    m.result(*branch(m, c, lambda b, x: b.map("neg", x), lambda b, x: x, line))

    def step(b: Builder, t: Value, h: Value, x: Value, whole: Value) -> list[Value]:
        return [b.map("add", h, x), b.map("mul", whole, b.expand_to(t, (d,)))]

    op = g.Scan(body([("t", I64, ()), ("h", I64, ()), ("x", I64, ()), ("w", I64, (d,))], step), d, 1, 1)
    m.result(*m.add(op, m.constant(0, I64), line, line))
    m.check(*({**m.feeds, "x0": np.asarray(v), "x1": np.asarray(f)} for v in (0, 1, 9) for f in (True, False)))


def test_dims_bound_in_a_scan() -> None:
    """Another size at every trip."""
    m = Model()
    sizes = m.input(np.asarray([3, 0, 17, 1]))

    def step(b: Builder, t: Value, total: Value, size: Value) -> list[Value]:
        b.one(g.BindDim("inner"), size)
        line = b.iota((Dim.symbol("inner"),), 0)
        summed = b.reduce("sum", b.map("mul", line, line), (0,))
        return [b.map("add", total, summed), summed]

    op = g.Scan(body([("t", I64, ()), ("total", I64, ()), ("size", I64, ())], step), 4, 1, 1)
    m.result(*m.add(op, m.constant(0, I64), sizes))
    m.check({"x0": np.asarray([0, 0, 0, 100])})


def test_negative_dim_at_run_time() -> None:
    m = Model()
    k = m.input(np.asarray(3))
    with m.sourced("Range 'count'"):
        d = bind(m, k, "k0")
    m.result(m.iota((d,), 0))
    session = compile_graph(m.graph())
    with pytest.raises(ShapeError, match="count"):
        session.run(None, {"x0": np.asarray(-1)})
    assert session.run(None, m.feeds)[0].tolist() == [0, 1, 2]


def test_dims_too_large_for_memory() -> None:
    m = Model()
    x = m.input(sample(F32, (3,)), (N,))
    k = m.input(np.asarray(3))
    d = bind(m, k, "k0")
    m.result(m.expand_to(m.reshape(x, (N, 1)), (N, d)))
    session = compile_graph(m.graph())
    for value in (1 << 62, (1 << 63) - 1):
        with pytest.raises((ShapeError, MemoryError)):
            session.run(None, {**m.feeds, "x1": np.asarray(value)})
    session.run(None, m.feeds)


def test_shape_arithmetic_that_overflows() -> None:
    m = Model()
    x = m.input(np.zeros((0, 5), np.int8), (N, Dim.symbol("k")))
    k = x.shape[1]
    m.result(m.fill(1, I8, (k * (1 << 40), k * (1 << 40))))
    session = compile_graph(m.graph())
    with pytest.raises((ShapeError, MemoryError)):
        session.run(None, m.feeds)


def test_sizes_that_disagree_at_run_time() -> None:
    m = Model()
    x = m.input(sample(F32, (6, 2)), (N, Dim.symbol("k")))
    m.result(m.reshape(x, (3, 4)), m.map("neg", m.reshape(x, (2, 6))))
    session = compile_graph(m.graph())
    session.run(None, m.feeds)
    for shape in ((6, 3), (0, 2), (1, 1)):
        with pytest.raises(ShapeError):
            session.run(None, {"x0": sample(F32, shape)})


def test_reshape_to_a_late_size_that_disagrees() -> None:
    m = Model()
    x, k = m.input(sample(F32, (12,))), m.input(np.asarray(4))
    with m.sourced("Reshape 'split'"):
        d = bind(m, k, "k0")
        y = m.reshape(x, (3, d))
    m.result(m.map("exp", y), m.reduce("sum", y, (1,)), ulps=8, scale=8)
    session = m.check()
    with pytest.raises(ShapeError):
        session.run(None, {**m.feeds, "x1": np.asarray(5)})
    with pytest.raises(ShapeError):
        session.run(None, {**m.feeds, "x1": np.asarray(3)})


def test_sizes_that_become_negative() -> None:
    m = Model()
    x = m.input(sample(F32, (5, 3)), (N, 3))
    m.result(
        m.slice(x, (2, 0), (1, 1), (N - 2, 3)),
        m.reduce("sum", m.slice(x, (2, 0), (1, 1), (N - 2, 3)), (0,)),
        ulps=8,
        scale=8,
    )
    session = m.check({"x0": sample(F32, (2, 3))})
    with pytest.raises(ShapeError):
        session.run(None, {"x0": sample(F32, (1, 3))})


@pytest.mark.parametrize("fn", ["quotient", "floormod", "fmod"])
@pytest.mark.parametrize("dtype", [I64, I32, I8, U8], ids=str)
def test_division_by_zero_names_the_node(fn: str, dtype: DType) -> None:
    m = Model()
    x = m.input(sample(dtype, (37,), low=1), (N,))
    y = m.input(sample(dtype, (37,), 1, low=1), (N,))
    with m.sourced("Div 'ratio'"):
        m.result(m.map(fn, x, y))
    session = m.check({"x0": np.zeros(0, dtype.numpy), "x1": np.zeros(0, dtype.numpy)})
    for place in (0, 15, 16, 36):
        bad = m.feeds["x1"].copy()
        bad[place] = 0
        with pytest.raises(DivisionError, match="ratio"):
            session.run(None, {"x0": m.feeds["x0"], "x1": bad})
    with pytest.raises(DivisionError):
        session.run(None, {"x0": sample(dtype, (1,)), "x1": np.zeros(1, dtype.numpy)})


def test_division_in_reductions_epilogues_and_padding() -> None:
    m = Model()
    x = m.input(sample(I32, (5, 19), low=1))
    y = m.input(sample(I32, (5, 19), 1, low=1))
    q = m.map("quotient", x, y)
    m.result(m.reduce("sum", q, (1,)), m.reduce("sum", q, (0,)), m.pad(q, (1, 2), (3, 1), 9), m.concat([q, x, q], 1))
    w = m.input(np.ones((19, 21), np.int32))
    m.result(
        m.map(
            "quotient",
            m.contract(x, w, over=((1,), (0,))),
            m.expand_to(m.reduce("max", y, (1,), keepdims=True), (5, 21)),
        )
    )
    session = m.check()
    bad = m.feeds["x1"].copy()
    bad[4, 18] = 0
    with pytest.raises(DivisionError):
        session.run(None, {**m.feeds, "x1": bad})


def test_conditions_that_are_constants() -> None:
    m = Model()
    x = m.input(sample(F32, (4,)))
    for value in (True, False):
        m.result(*branch(m, m.constant(value, BOOL), lambda b, x: b.map("neg", x), lambda b, x: b.map("abs", x), x))
    m.check()
    m.check(level=0)


def test_slices_that_leave_their_axis() -> None:
    m = Model()
    x, k = m.input(sample(F32, (9, 3)), (N, 3)), m.input(np.asarray(2))
    d = bind(m, k, "k0")
    with m.sourced("Slice 'part'"):
        part = m.slice(x, (5, 2), (1, -1), (N - 5, 3))
        late = m.slice(x, (d, 0), (2, 1), (2, 3))
        empty = m.slice(x, (d * 100, 0), (1, 1), (0, 3))
    m.result(m.map("neg", part), m.reduce("max", late, (0, 1)), m.reduce("sum", empty, (0,)))
    session = m.check({**m.feeds, "x0": sample(F32, (5, 3))})
    for size, start in ((4, 2), (5, 3), (9, 7)):
        with pytest.raises(ShapeError, match=r"part|the shapes contradict"):
            session.run(None, {"x0": sample(F32, (size, 3)), "x1": np.asarray(start)})


def test_intermediate_sizes_that_become_negative() -> None:
    m = Model()
    x = m.input(sample(F32, (5, 3)), (N, 3))
    with m.sourced("Slice 'rest'"):
        rest = m.slice(x, (0, 0), (1, 1), (N - 2, 3))
    m.result(m.reduce("sum", rest, (0,)), ulps=8, scale=8)
    session = m.check({"x0": sample(F32, (2, 3))})
    with pytest.raises(ShapeError, match="rest"):
        session.run(None, {"x0": sample(F32, (1, 3))})


def test_dims_that_are_bound_twice_must_agree() -> None:
    m = Model()
    x, k = m.input(sample(F32, (4,)), (N,)), m.input(np.asarray(4))
    with m.sourced("Shape 'again'"):
        m.one(g.BindDim("n"), k)
        d = bind(m, k, "k0")
        m.one(g.BindDim("k0"), m.map("abs", k))
    m.result(m.map("neg", x), m.iota((d,), 0))
    session = m.check()
    with pytest.raises(ShapeError, match="again"):
        session.run(None, {**m.feeds, "x1": np.asarray(5)})


def test_dims_bound_in_both_branches() -> None:
    m = Model()
    c, k = m.input(np.asarray(True)), m.input(np.asarray(4))

    def count(scale: int) -> Build:
        def build(b: Builder, k: Value) -> Value:
            b.one(g.BindDim("inner"), b.map("mul", k, b.constant(scale, I64)))
            return b.reduce("sum", b.iota((Dim.symbol("inner"),), 0), (0,))

        return build

    m.result(*branch(m, c, count(2), count(3), k))
    m.check(*({"x0": np.asarray(f), "x1": np.asarray(v)} for f in (True, False) for v in (0, 7)))

"""Memory between kernels: nothing stale is read, nothing needed is overwritten, nothing is left over."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Model, body, compile_graph, sample
from vitrify.errors import OutOfMemoryError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.dims import Dim, DimLike, evaluate
from vitrify.ir.dtypes import F32, I64
from vitrify.ir.graph import Value
from vitrify.lower.model import lower_model
from vitrify.lower.target import V3
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session


def projected(m: Model, x: Value) -> Value:
    """A value that lies in the arena, whatever is fused."""
    size = x.shape[-1]
    assert isinstance(size, int)
    weights = m.constant((np.eye(size) + 0.125).astype(np.float32))
    return m.contract(x, weights, over=((x.rank - 1,), (0,)))


def row_sum(m: Model, x: Value) -> Value:
    return m.expand_to(m.reduce("sum", x, (1,), keepdims=True), x.shape)


IN_PLACE = {
    "elementwise": lambda m, x: m.map("tanh", x),
    "rows": lambda m, x: m.map("mul", x, row_sum(m, x)),
    "flipped rows": lambda m, x: m.map("mul", x, row_sum(m, m.flip(x, 0))),
    "flipped columns": lambda m, x: m.map("mul", x, row_sum(m, m.flip(x, 1))),
    "flipped": lambda m, x: m.map("sub", x, m.flip(x, 0)),
    "transposed": lambda m, x: m.map("sub", x, m.permute(x, (1, 0))),
    "first row": lambda m, x: m.map("sub", x, m.expand_to(m.slice_axis(x, 0, 0, 1), x.shape)),
    "first element": lambda m,
    x: m.map("add", m.map("mul", x, row_sum(m, x)), m.expand_to(m.slice(x, (0, 0), (1, 1), (1, 1)), x.shape)),
    "last column": lambda m,
    x: m.map("add", m.map("mul", x, row_sum(m, x)), m.expand_to(m.slice_axis(x, 1, 39, 1), x.shape)),
    "next row": lambda m, x: m.map("add", row_sum(m, m.pad(m.slice_axis(x, 0, 1, 39), (0, 0), (1, 0), 0)), x),
    "columns": lambda m, x: m.map("mul", x, m.expand_to(m.reduce("sum", m.flip(x, 1), (0,), keepdims=True), x.shape)),
    "shifted": lambda m, x: m.map("add", m.pad(m.slice_axis(x, 1, 1, 39), (0, 0), (0, 1), 3), x),
    "gathered": lambda m, x: m.map("add", m.gather(x, 0, m.constant(np.arange(39, -1, -1))), x),
    "taken by a reshape": lambda m, x: m.map("sub", x, m.reshape(m.permute(x, (1, 0)), x.shape)),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_results_overwrite_only_what_is_needed_no_more(name: str) -> None:
    m = Model()
    x = m.input(sample(F32, (40, 40), low=-1, high=1))
    y = IN_PLACE[name](m, projected(m, x))
    m.result(projected(m, y), ulps=512, scale=64)
    m.check(threads=2)


def mixed(m: Model, x: Value) -> None:
    """Values of many sizes and lives, padding, concats, and results in the middle."""
    n = x.shape[0]
    a = projected(m, x)
    b = m.map("tanh", m.reduce("sum", a, (1,)))
    c = m.pad(projected(m, m.map("mul", a, m.expand_to(m.unsqueeze(b, 1), a.shape))), (1, 0), (1, 2), 0.5)
    d = m.concat([c, m.map("neg", c)], 0)
    e = projected(m, m.slice(d, (2, 1), (1, 1), (n, 24)))
    m.result(e, m.reduce("max", m.permute(d, (1, 0)), (0,)), projected(m, m.map("sub", e, a)), b, ulps=4096, scale=64)


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_session_that_has_run_gives_what_a_fresh_one_gives(symbolic: bool) -> None:
    """Whatever earlier runs left in the arena, also those of other sizes and of NaN."""
    n = Dim.symbol("n", 1) if symbolic else 13
    m = Model()
    x = m.input(sample(F32, (13, 24), low=-1, high=1), (n, 24))
    mixed(m, x)
    graph = m.graph()
    session = compile_graph(graph)
    rows = (13, 40, 1, 13, 17) if symbolic else (13, 13)
    for seed, count in enumerate(rows):
        feeds = {"x0": sample(F32, (count, 24), seed, low=-1, high=1)}
        session.run(None, {"x0": np.full((count, 24), np.nan, np.float32)})
        got = session.run(None, feeds)
        fresh = compile_graph(graph).run(None, feeds)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(got, fresh, strict=True))
    m.check()


def loop(m: Model, x: Value) -> None:
    """A scan whose body has values of its own, reads from before it and is read after it."""
    n = x.shape[0]
    before = projected(m, x)
    scale = m.map("exp", m.reduce("max", before, (0,)))

    def step(b: Builder, t: Value, h: Value, row: Value, scale: Value, weights: Value) -> list[Value]:
        wide = b.contract(b.reshape(row, (1, 24)), weights, over=((1,), (0,)))
        new = b.map("tanh", b.map("add", h, b.contract(wide, weights, over=((1,), (0,)))))
        return [new, b.reshape(b.map("mul", new, b.reshape(scale, (1, 24))), (24,))]

    shapes = [("t", I64, ()), ("h", F32, (1, 24)), ("row", F32, (24,)), ("scale", F32, (24,)), ("w", F32, (24, 24))]
    op = g.Scan(body(shapes, step), n, 1, 1)
    weights = m.constant(sample(F32, (24, 24), 5, low=-0.1, high=0.1))
    last, rows = m.add(op, m.constant(np.zeros((1, 24), np.float32)), before, scale, weights)
    m.result(last, projected(m, m.map("sub", rows, before)), ulps=4096, scale=64)


@pytest.mark.parametrize("n", [16, Dim.symbol("n", 1)], ids=str)
def test_blocks_in_use_at_once_lie_apart(n: DimLike) -> None:
    """In straight code and across loops; but for results that overwrite an operand, which share it whole."""
    m = Model()
    x = m.input(sample(F32, (16, 24), low=-1, high=1), (n, 24))
    mixed(m, x)
    loop(m, x)
    m.check()
    plan = lower_model(optimize(m.graph(), Level.ALL), V3)
    sizes = dict.fromkeys((str(d) for d in plan.safe_names.values()), 16) | {"n": 16}
    spans = [(evaluate(b.offset, sizes), evaluate(b.size, sizes), b) for b in plan.blocks]
    assert len(spans) > 6
    for i, (start, size, block) in enumerate(spans):
        assert start + size <= evaluate(plan.arena_bytes, sizes)
        for other_start, other_size, other in spans[:i]:
            apart = start + size <= other_start or other_start + other_size <= start
            together = block.birth <= other.death and other.birth <= block.death
            assert apart or not together or (start, size) == (other_start, other_size)


def test_the_stated_peak_is_what_a_limit_allows() -> None:
    """Without outputs to speak of, a run passes under a limit of its stated peak and little more."""
    m = Model()
    x = m.input(sample(F32, (4000, 24), low=-1, high=1))
    m.result(m.reduce("sum", projected(m, m.map("tanh", projected(m, x))), (0, 1)), ulps=4096, scale=1e4)
    session = m.check()
    stated = session.target.peak_bytes
    assert isinstance(stated, int) and stated >= 4000 * 24 * 4
    enough = SessionOptions(memory_limit_mb=stated / (1 << 20) + 0.001)
    Session(session.artifact, enough).run(None, m.feeds)
    with pytest.raises(OutOfMemoryError):
        Session(session.artifact, SessionOptions(memory_limit_mb=stated / (1 << 20) - 0.001)).run(None, m.feeds)

"""The same bits on every run, for any number of threads, and for many runs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.compiler.harness import COMPILER, Array, Model, body, compile_artifact, sample
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F32, I64
from vitrify.ir.graph import Graph, Value
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session

N = Dim.symbol("n")


def large(n: object, rows: int) -> Model:
    """Kernels of many tasks: rows, columns, products, softmax, transposes, gathers, a loop."""
    m = Model()
    x = m.input(sample(F32, (rows, 300)), (n, 300))  # type: ignore[list-item]
    w = m.constant(sample(F32, (300, 200), 1, low=-0.2, high=0.2))
    y = m.contract(x, w, over=((1,), (0,)))
    e = m.map("exp", m.map("sub", y, m.reduce("max", y, (1,), keepdims=True)))
    p = m.map("div", e, m.reduce("sum", e, (1,), keepdims=True))
    m.result(p, m.reduce("sum", x, (0,)), m.reduce("sum", x, (1,)), m.reduce("sum", m.map("tanh", x), (0, 1)))
    m.result(m.permute(m.map("sigmoid", x), (1, 0)), m.reduce("argmax", y, (1,)), m.pad(x, (1, 3), (2, 0), 1))
    index = m.constant(np.random.default_rng(0).integers(0, 300, (500,)))
    m.result(m.gather(x, 1, index), m.concat([x, m.map("gelu", y)], 1))

    def step(b: Builder, t: Value, h: Value, x: Value) -> list[Value]:
        return [b.map("tanh", b.map("add", h, x))]

    op = g.Scan(body([("t", I64, ()), ("h", F32, (300,)), ("x", F32, (300,))], step), n, 1, 1)  # type: ignore[arg-type]
    m.result(*m.add(op, m.constant(np.zeros(300, np.float32)), x))
    return m


def sessions(graph: Graph, *threads: int) -> list[Session]:
    path = compile_artifact(graph, compiler=COMPILER)
    return [Session(path, SessionOptions(intra_op_num_threads=k)) for k in threads]


def same_bits(got: list[Array], want: list[Array]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("symbolic", [False, True])
def test_any_number_of_threads(symbolic: bool) -> None:
    m = large(N if symbolic else 700, 700)
    graph = m.graph()
    found = sessions(graph, 1, 2, 3, 8)
    first = found[0].run(None, m.feeds)
    for session in found:
        for _ in range(3):
            assert same_bits(session.run(None, m.feeds), first)


def test_many_runs_at_once() -> None:
    m = large(N, 200)
    feeds = [{"x0": sample(F32, (rows, 300), rows)} for rows in (1, 16, 33, 200)]
    (session,) = sessions(m.graph(), 2)
    wanted = [session.run(None, f) for f in feeds]

    def work(number: int) -> bool:
        order = [(number + k) % len(feeds) for k in range(12)]
        return all(same_bits(session.run(None, feeds[k]), wanted[k]) for k in order)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))

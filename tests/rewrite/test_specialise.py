"""Specialisation: named dims become numbers everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.checks import Model, assert_same, feeds
from vitrify.errors import InvalidArgumentError, ShapeError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, F32
from vitrify.ir.graph import Graph, is_static
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.specialise import specialise

N, T = Dim.symbol("n", 1, 8), Dim.symbol("t", 1)


def _branch(fn: str) -> Graph:
    b = Builder()
    x = parameter("x", F32, (N, T))
    return b.build([x], [b.map(fn, b.map("add", x, b.expand_to(b.cast(b.dim(T * 2), F32), (N, T))))])


def _graph() -> Graph:
    m = Model()
    x, condition = m.input(N, T), m.input(dtype=BOOL)
    (y,) = m.add(g.If(_branch("exp"), _branch("neg")), condition, x)
    windows = m.window(m.reshape(m.pad(y, (0, 1), (0, 2)), (N * (T + 3),)), (0,), (2,), (2,), (1,))
    graph = m.graph(m.reduce("sum", windows, (1,)), m.dim(T + N))
    graph.output_names = ("sums", "size")
    return graph


def test_all_dims() -> None:
    before = _graph()
    after = specialise(before, {"n": 3, "t": 5})
    verify(after)
    assert not after.symbols and after.output_names == ("sums", "size")
    assert [v.name for v in after.inputs] == [v.name for v in before.inputs]
    assert all(is_static(v.shape) for n in after.walk() for v in n.outputs)
    arrays = feeds(before, dims=(("n", 3), ("t", 5)))
    assert_same(interpret(before, arrays), interpret(after, arrays))
    small = optimize(after, Level.ALL)
    assert not any(isinstance(n.op, g.DimValue) for n in small.walk())
    assert_same(interpret(before, arrays), interpret(small, arrays), 1e-6)


def test_some_dims() -> None:
    before = _graph()
    after = specialise(before, {"n": 2})
    verify(after)
    assert set(after.symbols) == {"t"}
    arrays = feeds(before, dims=(("n", 2), ("t", 7)))
    assert_same(interpret(before, arrays), interpret(after, arrays))


def test_the_graph_given_stays_as_it_is() -> None:
    graph = _graph()
    before = [(n.op, n.inputs, n.outputs) for n in graph.walk()]
    optimize(specialise(graph, {"n": 2, "t": 4}), Level.ALL)
    optimize(graph, Level.ALL)
    assert [(n.op, n.inputs, n.outputs) for n in graph.walk()] == before


@pytest.mark.parametrize(("dims", "message"), [({"batch": 2}, "no dim 'batch'"), ({"n": 9}, "out of bounds"),
                                               ({"n": 0}, "out of bounds")])  # fmt: skip
def test_wrong_dims(dims: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        specialise(_graph(), dims)


def test_contradicted_assumptions() -> None:
    graph = _graph()
    graph.assumptions.append((N * 2, T))
    assert specialise(graph, {"n": 2, "t": 4}).assumptions == []
    with pytest.raises(ShapeError, match="contradict"):
        specialise(graph, {"n": 2, "t": 5})
    assert specialise(graph, {"n": 2}).assumptions == [(4, T)]
    assert np.shape(interpret(graph, [np.zeros((2, 4), np.float32), np.asarray(True)])[0]) == (7,)


def _flattening(rate: int) -> Graph:
    """A branch for one number of samples only: ``rate`` of them become two rows."""
    b = Builder()
    x = parameter("x", F32, (T,))
    return b.build([x], [b.reduce("sum", b.reshape(x, (2, rate // 2)), (1,))])


def test_a_branch_that_does_not_fit_refuses_to_run() -> None:
    m = Model()
    x, condition = m.input(T), m.input(dtype=BOOL)
    before = m.graph(m.one(g.If(_flattening(8), _flattening(6)), condition, x))
    after = specialise(before, {"t": 8})
    samples = np.arange(8, dtype=np.float32)
    for level in Level:
        graph = optimize(after, level, dump=lambda _, stage: verify(stage))
        assert_same(interpret(before, [samples, np.asarray(True)]), interpret(graph, [samples, np.asarray(True)]))
        with pytest.raises(ValueError, match="reshape"):
            interpret(graph, [samples, np.asarray(False)])


def test_sizes_that_fit_nowhere() -> None:
    m = Model()
    graph = m.graph(m.reshape(m.input(T), (2, 4)))
    with pytest.raises(ShapeError, match="contradict the model"):
        specialise(graph, {"t": 9})

"""The whole pipeline: random graphs at every level, its order, and its verification."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests import random_graphs as rg
from tests.rewrite import networks as nn
from tests.rewrite.checks import Model, assert_same, feeds
from vitrify.ir import graph as g
from vitrify.ir.dtypes import F32, F64
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.pipeline import PIPELINE, Level, optimize


def _verified(name: str, graph: g.Graph) -> None:
    verify(graph)


@settings(max_examples=150)
@given(rg.random_graphs())
def test_random_graphs_keep_every_element(case: rg.Case) -> None:
    """BASIC is exact, but for reductions and contractions of constants, which any level may take in f64."""
    expected = interpret(case.graph, case.feeds, dims=case.dims)
    after = optimize(case.graph, Level.BASIC, dump=_verified)
    assert_same(expected, interpret(after, case.feeds, dims=case.dims))


@settings(max_examples=150)
@given(rg.random_graphs(dtypes=(F32, F64), functions=rg.WELL_CONDITIONED, max_nodes=10))
@pytest.mark.parametrize("level", [Level.EXTENDED, Level.ALL])
def test_random_graphs_keep_their_values(level: Level, case: rg.Case) -> None:
    expected = interpret(case.graph, case.feeds, dims=case.dims)
    after = optimize(case.graph, level, dump=_verified)
    assert_same(expected, interpret(after, case.feeds, dims=case.dims), 1e-4)


@pytest.mark.parametrize("level", list(Level))
def test_levels(level: Level) -> None:
    m = Model()
    graph = m.graph(nn.relu(m, nn.norm(m, nn.conv(m, m.input(1, 3, 8, 8), 8, 3))))
    seen: list[str] = []
    after = optimize(graph, level, dump=lambda name, _: seen.append(name))
    assert seen == [entry.name for least, entry in PIPELINE if least <= level]
    assert after is graph if level is Level.NONE else seen
    arrays = feeds(graph)
    assert_same(interpret(graph, arrays), interpret(after, arrays), 0 if level <= Level.BASIC else 1e-6)


@pytest.mark.parametrize("level", list(Level))
def test_a_second_run_changes_no_value(level: Level) -> None:
    m = Model()
    x = nn.relu(m, nn.norm(m, nn.conv(m, m.input(1, 4, 8, 8), 8, 3, groups=2)))
    graph = m.graph(nn.conv(m, nn.shuffle(m, x, 2), 4, 1))
    once = optimize(graph, level)
    twice = optimize(once, level)
    assert len(twice.nodes) <= len(once.nodes)
    arrays = feeds(graph)
    assert_same(interpret(once, arrays), interpret(twice, arrays), 1e-6)


def test_debug_verifies_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    m = Model()
    graph = m.graph(m.map("exp", m.input(3)))
    graph.nodes.insert(0, g.make_node(g.Map("neg"), [graph.outputs[0]]))  # used before it is defined
    monkeypatch.setenv("VITRIFY_DEBUG", "1")
    with pytest.raises(ValueError, match="defined"):
        optimize(graph, Level.BASIC)

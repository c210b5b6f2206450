"""Affine folding and merged contractions: fewer ops, results within the stated tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite import networks as nn
from tests.rewrite.checks import Case, Model, assert_same, check_rule, count, feeds
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import interpret
from vitrify.rewrite.merge_contracts import MergeContracts
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.rules import affine as r
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT


def _chain(m: Model, *steps: str) -> Value:
    y = m.input(3, 8)
    for i, fn in enumerate(steps):
        y = m.map(fn, y, m.channels(8, 2, 1, seed=i))
    return y


def _dense(m: Model) -> Value:
    return m.contract(m.input(5, 4), m.weights(8, 4), over=((1,), (1,)))


def _scaled(m: Model, *, reshaped: bool = False) -> Value:
    y = _dense(m)
    y = m.reshape(y, (5, 2, 4)) if reshaped else m.permute(y, (1, 0))
    return m.map("mul", y, m.channels(2, 3, 1) if reshaped else m.channels(8, 2, 0))


def _batched(m: Model) -> Value:
    y = m.contract(m.input(5, 4, 3), m.weights(3, 2, 4), batch=((1,), (2,)), over=((2,), (0,)))
    return m.map("mul", y, m.weights(4, 1, 2, seed=9, low=0.5))


CASES = [
    Case(r.subtract_constant, lambda m: _chain(m, "sub"), special=True),
    Case(r.divide_by_constant, lambda m: _chain(m, "div"), tolerance=3e-7),
    Case(r.merge_constants, lambda m: _chain(m, "add", "add"), tolerance=3e-7),
    Case(r.merge_constants, lambda m: _chain(m, "mul", "mul"), tolerance=3e-7, name="mul"),
    Case(r.normalise, lambda m: _chain(m, "add", "mul", "add"), tolerance=1e-6),
    Case(r.scale_before_shift, lambda m: _chain(m, "mul", "add", "mul"), tolerance=1e-6),
    Case(r.before_movement, _scaled, tolerance=1e-6),
    Case(r.before_movement, lambda m: _scaled(m, reshaped=True), tolerance=1e-6, name="reshape"),
    Case(r.scale_weights, lambda m: m.map("mul", _dense(m), m.channels(8, 2, 1)), tolerance=1e-6, gone=(g.Map,)),
    Case(r.scale_weights, _batched, tolerance=1e-6, gone=(g.Map,), name="batch"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(Case(**{**vars(case), "only": False}), [*MOVEMENT, *FOLDING])


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.AFFINE}


@pytest.mark.parametrize("level", [Level.EXTENDED, Level.ALL])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_normalisation_after_a_convolution_costs_one_shift(level: Level, groups: int) -> None:
    m = Model()
    x = nn.conv(m, m.input(2, 8, 7, 7), 16, 3, groups=groups)
    x = m.map("add", x, m.channels(16, 4, 1, seed=20))  # its bias
    before = m.graph(nn.relu(m, nn.norm(m, x)))
    after = optimize(before, level)
    assert [n.op.fn for n in after.nodes if isinstance(n.op, g.Map)] == ["add", "relu"]
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-5)


def test_weights_that_another_reader_needs_are_not_scaled() -> None:
    m = Model()
    y = _dense(m)
    graph = optimize(m.graph(m.map("mul", y, m.channels(8, 2, 1)), m.map("exp", y)), Level.ALL)
    assert count(graph, g.Contract) == 1 and count(graph, g.Map) == 2


def test_scales_that_would_overflow_stay() -> None:
    m = Model()
    big = m.constant(np.full((1, 8), 1e30, np.float32))
    small = m.map("mul", m.map("mul", m.input(3, 8), big), m.constant(np.full((1, 8), 1e20, np.float32)))
    graph = optimize(m.graph(small), Level.ALL)
    assert count(graph, g.Map) == 2


def _projections(m: Model, rows: g.DimLike) -> Graph:
    x = m.input(rows, 12)
    parts = [m.contract(x, m.weights(16, 12, seed=i), over=((1,), (1,))) for i in range(2)]
    parts.append(m.contract(x, m.weights(12, 2, 10, seed=4), over=((1,), (0,))))
    return m.graph(*parts)


def test_projections_of_one_input_become_one_contraction() -> None:
    m = Model()
    before = _projections(m, 7)
    after = MergeContracts().run(before)
    assert count(after, g.Contract) == 1 and [v.shape for v in after.outputs] == [v.shape for v in before.outputs]
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-6)


@pytest.mark.parametrize("rows", [513, Dim.symbol("n", 1)])
def test_projections_of_many_rows_stay_apart(rows: g.DimLike) -> None:
    graph = _projections(Model(), rows)
    assert MergeContracts().run(graph) is graph


def test_projections_of_bounded_rows_merge() -> None:
    assert count(MergeContracts().run(_projections(Model(), Dim.symbol("n", 1, 64))), g.Contract) == 1


def test_constant_factor_of_a_scalar() -> None:
    m = Model()
    before = m.graph(m.map("mul", _dense(m), m.constant(0.125, F32)))
    after = optimize(before, Level.EXTENDED)
    assert count(after, g.Map) == 0
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-6)

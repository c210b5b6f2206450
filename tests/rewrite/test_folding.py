"""Constant folding: values, and what must stay small."""

from __future__ import annotations

import numpy as np
import pytest

from tests.random_graphs import BACKWARDS, called
from tests.rewrite.checks import Case, Model, assert_same, check_rule, count, feeds
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, F32, I64
from vitrify.ir.graph import Value
from vitrify.ir.interpret import interpret
from vitrify.rewrite.fold_constants import FoldConstants
from vitrify.rewrite.materialise import Materialise
from vitrify.rewrite.rules import folding as r

N = Dim.symbol("n", 1)


def _sizes(m: Model) -> tuple[Value, ...]:
    m.input(N)
    n, two = m.dim(N), m.constant(2, I64)
    doubled = m.map("mul", n, two)
    parts = [m.map(fn, doubled, two) for fn in ("add", "sub", "min", "max", "quotient", "floormod")]
    return (*parts, m.map("neg", n), m.map("lt", n, m.map("add", n, two)), m.map("eq", n, n))


def _fill(m: Model) -> Value:
    m.input(N)
    return m.reshape(m.fill(2.5, F32, (N, 6)), (N, 2, 3))


def _where(m: Model, condition: bool) -> Value:
    x = m.input(2, 3)
    return m.map("where", m.fill(condition, BOOL, (2, 3)), x, m.input(2, 3))


def _where_not(m: Model) -> Value:
    return m.map("where", m.map("not", m.input(4, dtype=BOOL)), m.input(4), m.input(4))


def _gather(m: Model, positions: object) -> Value:
    return m.gather(m.input(2, 7, 3), 1, m.constant(np.asarray(positions), I64))


CASES = [
    Case(r.evaluate_constants, lambda m: m.map("exp", m.weights(3, 4)), gone=(g.Map,)),
    Case(
        r.evaluate_constants,
        lambda m: m.permute(m.weights(3, 4, 5), (2, 0, 1)),
        gone=(g.Permute,),
        name="view",
    ),
    Case(r.call_of_constants, lambda m: called(BACKWARDS[0], m.weights(3, 4), m), gone=(g.Call,)),
    Case(r.sort_constants, lambda m: m.sort(m.weights(3, 4), 1, count=2), gone=(g.Sort,)),
    Case(r.evaluate_constants, lambda m: m.map("add", m.weights(3), m.iota((3,), 0, F32)), name="positions"),
    Case(r.move_one_number, _fill, gone=(g.Reshape,), dims=(("n", 4),)),
    Case(r.move_one_number, lambda m: m.pad(m.fill(0.0, F32, (2,)), (1,), (1,), 0.0), gone=(g.Pad,), name="pad"),
    Case(r.expand_small_integers, lambda m: m.fill(3, I64, (4,)), gone=(g.Expand,), only=False),
    Case(r.compute_before_expanding, lambda m: m.map("exp", m.expand_to(m.input(1, 3), (5, 3)))),
    Case(
        r.compute_before_expanding,
        lambda m: m.map("add", m.expand_to(m.input(1, 3, 1), (5, 3, 4)), m.expand_to(m.input(1, 1, 4), (5, 3, 4))),
        name="partly",
    ),
    Case(r.constant_dim, lambda m: m.dim(5), gone=(g.DimValue,)),
    Case(r.dim_arithmetic, _sizes, gone=(g.Map,), dims=(("n", 3),)),
    Case(r.gather_progression, lambda m: _gather(m, [5, 3, 1]), gone=(g.Gather,)),
    Case(r.gather_progression, lambda m: _gather(m, 4), gone=(g.Gather,), name="scalar"),
    Case(
        r.gather_progression,
        lambda m: m.gather(m.input(4, 2), 0, m.iota((4,), 0)),
        gone=(g.Gather,),
        name="all",
    ),
    Case(r.select_by_constant, lambda m: _where(m, True), gone=(g.Map,), special=True, only=False),
    Case(
        r.select_by_constant,
        lambda m: _where(m, False),
        gone=(g.Map,),
        name="false",
        special=True,
        only=False,
    ),
    Case(r.select_by_constant, _where_not, name="not", special=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(case, r.FOLDING)


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.FOLDING}


def test_large_expansions_stay_one_element() -> None:
    model = Model()
    x = model.input(1)
    big = model.fill(0.25, F32, (1000, 1000, 64))
    y = model.map("add", model.permute(model.map("exp", big), (2, 0, 1)), model.fill(1.0, F32, (64, 1000, 1000)))
    graph = FoldConstants().run(model.graph(model.map("mul", y, x)))
    assert max(n.op.value.size for n in graph.nodes if isinstance(n.op, g.Constant)) == 1


def test_operands_of_contractions_become_arrays() -> None:
    model = Model()
    y = model.contract(model.input(2, 8), model.fill(0.5, F32, (8, 3)), over=((1,), (0,)))
    before = model.graph(y)
    after = Materialise().run(FoldConstants().run(before))
    assert after.nodes[-1].inputs[1].constant is not None
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays))


def test_what_fails_in_a_run_still_does() -> None:
    model = Model()
    position = model.constant(np.asarray([9]), I64)
    gathered = model.gather(model.constant(np.arange(4)), 0, position)
    quotient = model.map("quotient", model.constant(np.asarray([1])), model.constant(np.asarray([0])))
    graph = FoldConstants().run(model.graph(gathered, quotient))
    assert count(graph, g.Gather) == 1 and count(graph, g.Map) == 1
    with pytest.raises(IndexError):
        interpret(graph, [])

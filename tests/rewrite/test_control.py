"""Control flow: known branches, scans of few trips, captured constants, unused results."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.checks import Case, Model, assert_same, check_rule, count, feeds
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, F32, I64
from vitrify.ir.graph import Graph, Type, Value
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.common_subexpressions import CommonSubexpressions
from vitrify.rewrite.dead_code import DeadCode
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.rules import control as r


def _body(fn: str, *types: Type) -> Graph:
    b = Builder()
    inputs = [parameter(f"b{i}", t.dtype, t.shape) for i, t in enumerate(types)]
    return b.build(inputs, [b.map(fn, *inputs[:2]), b.map("exp", inputs[0])])


def _if(m: Model, condition: Value, *inputs: Value) -> tuple[Value, ...]:
    types = [v.type for v in inputs]
    return m.add(g.If(_body("add", *types), _body("mul", *types)), condition, *inputs)


def _scan(m: Model, trips: int) -> tuple[Value, ...]:
    """carried: a running sum and one handed on; scanned x; captured weights; stacked products."""
    x, start, fixed, weights = m.input(trips, 3), m.input(3), m.input(3), m.weights(3)
    b = Builder()
    position = parameter("i", I64, ())
    s, f, row, w = (parameter(n, F32, (3,)) for n in "sfrw")
    product = b.map("mul", b.map("add", row, f), w)
    total = b.map("add", b.map("add", s, product), b.expand_to(b.cast(position, F32), (3,)))
    body = b.build([position, s, f, row, w], [total, f, product])
    return m.add(g.Scan(body, trips, 2, 1), start, fixed, x, weights)


def _loop(m: Model) -> tuple[Value, ...]:
    """carried: a running sum and one handed on; captured weights; stacked products."""
    limit, start, fixed, weights = m.input(dtype=I64), m.input(3), m.input(3), m.weights(3)
    b = Builder()
    position = parameter("i", I64, ())
    s, f, w = (parameter(n, F32, (3,)) for n in "sfw")
    product = b.map("mul", b.map("add", s, f), w)
    body = b.build([position, s, f, w], [b.constant(True), b.map("add", s, product), f, product, f])
    return m.add(g.Loop(body, 2, "trips"), limit, m.constant(True), start, fixed, weights)


CASES = [
    Case(r.known_branch, lambda m: _if(m, m.constant(True), m.input(4), m.input(4)), (g.If,)),
    Case(r.known_branch, lambda m: _if(m, m.constant(False), m.input(4), m.input(4)), (g.If,), name="false"),
    Case(r.constants_into_branches, lambda m: _if(m, m.input(dtype=BOOL), m.input(4), m.weights(4))),
    Case(r.constants_into_scans, lambda m: _scan(m, 3)),
    Case(r.unrepeated_scan, lambda m: _scan(m, 1), (g.Scan,), name="one"),
    Case(r.unrepeated_scan, lambda m: _scan(m, 0), (g.Scan,), name="none"),
    Case(r.invariant_carried, lambda m: _scan(m, 4)),
    Case(r.constants_into_loops, _loop),
    Case(r.unchanged_by_loops, _loop),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(case, [])


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.CONTROL}


def test_constants_fold_inside_bodies() -> None:
    m = Model()
    graph = optimize(m.graph(_if(m, m.input(dtype=BOOL), m.weights(4), m.weights(4, seed=2))[0]), Level.BASIC)
    (node,) = graph.nodes
    assert isinstance(node.op, g.If) and len(node.inputs) == 1
    assert all(count(body, g.Map) == 0 for body in node.op.bodies)


def test_unused_results_of_loops_go() -> None:
    m = Model()
    before = m.graph(_loop(m)[0])
    after = DeadCode().run(before)
    verify(after)
    loop = after.nodes[-1]
    assert isinstance(loop.op, g.Loop) and len(loop.outputs) == 2 and len(loop.op.body.outputs) == 3
    after = optimize(before, Level.BASIC)
    loop = after.nodes[-1]
    assert isinstance(loop.op, g.Loop) and loop.op.carried == 1 and len(loop.op.body.inputs) == 3
    arrays = feeds(before)
    for limit in (0, 1, 4):
        arrays[0] = np.asarray(limit)
        assert_same(interpret(after, arrays), interpret(before, arrays))


def test_loops_stay_where_their_number_of_trips_is_shown() -> None:
    m = Model()
    x = m.input(4)
    _loop(m)
    assert count(DeadCode().run(m.graph(m.map("neg", x))), g.Loop) == 0
    trips = m.dim(Dim.symbol("trips"))
    after = DeadCode().run(m.graph(trips))
    verify(after)
    assert count(after, g.Loop) == 1


def test_unused_results_of_bodies_go() -> None:
    m = Model()
    condition, a, b = m.input(dtype=BOOL), m.input(4), m.input(4)
    exponential = _if(m, condition, a, b)[1]
    total = _scan(m, 3)[1]
    before = m.graph(exponential, total)
    after = DeadCode().run(before)
    verify(after)
    branch, scan = after.nodes
    assert len(branch.outputs) == 1 and len(branch.inputs) == 2
    assert isinstance(scan.op, g.Scan) and (scan.op.carried, scan.op.scanned) == (1, 0) and not scan.op.body.nodes
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays))


def test_dead_code_keeps_what_a_later_trip_needs() -> None:
    m = Model()
    a, b = m.input(2), m.input(2)
    body = Builder()
    position, s, t = parameter("i", I64, ()), parameter("s", F32, (2,)), parameter("t", F32, (2,))
    op = g.Scan(body.build([position, s, t], [body.map("add", s, t), body.map("mul", t, t)]), 3, 2, 0)
    before = m.graph(m.add(op, a, b)[0])
    assert DeadCode().run(before) is before


def test_equal_constants_and_subexpressions_are_one() -> None:
    m = Model()
    x = m.input(4)
    first = m.map("add", x, m.constant(np.arange(4, dtype=np.float32)))
    second = m.map("add", m.constant(np.arange(4, dtype=np.float32)), x)
    negative = m.pad(x, (1,), (0,), -0.0)
    before = m.graph(m.map("mul", first, second), m.pad(x, (1,), (0,), 0.0), negative)
    after = CommonSubexpressions().run(before)
    verify(after)
    assert count(after, g.Constant) == 1 and count(after, g.Map) == 2 and count(after, g.Pad) == 2
    arrays = feeds(before, special=True)
    assert_same(interpret(before, arrays), interpret(after, arrays))


def test_control_flow_with_other_bodies_is_not_the_same() -> None:
    m = Model()
    condition, a, b = m.input(dtype=BOOL), m.input(4), m.input(4)
    types = [a.type, b.type]
    (first,) = m.add(g.If(_one("add", *types), _one("mul", *types)), condition, a, b)
    (second,) = m.add(g.If(_one("sub", *types), _one("mul", *types)), condition, a, b)
    before = m.graph(first, second)
    after = CommonSubexpressions().run(before)
    assert count(after, g.If) == 2
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays))


def _one(fn: str, *types: Type) -> Graph:
    body = _body(fn, *types)
    return Graph(body.inputs, body.outputs[:1], body.nodes)

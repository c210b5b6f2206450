"""Layout: channels-last throughout, and no permute left that moves much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.rewrite import networks as nn
from tests.rewrite.checks import Case, Model, assert_same, check_rule, count, feeds
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F64, I64
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import interpret
from vitrify.rewrite.facts import elements
from vitrify.rewrite.layout import Layout
from vitrify.rewrite.pipeline import PIPELINE, Level, optimize
from vitrify.rewrite.rules import layout as r
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT

N = Dim.symbol("n", 1)


def _last(m: Model, *shape: Any) -> Value:
    """A tensor of this shape that is stored channels-last."""
    rank = len(shape)
    stored = m.input(shape[0], *shape[2:], shape[1])
    return m.permute(stored, (0, rank - 1, *range(1, rank - 1)))


def _flatten(m: Model) -> Value:
    flat = m.reshape(_last(m, 2, 3, 4, 5), (2, 60))
    return m.contract(flat, m.weights(7, 60), over=((1,), (1,)))


def _attention(m: Model) -> Value:
    q, k = (m.permute(m.input(2, 5, 3, 4), (0, 2, 1, 3)) for _ in range(2))
    return m.contract(q, k, batch=((0, 1), (0, 1)), over=((3,), (3,)))


def _stored(m: Model) -> Value:
    grouped = m.contract(m.input(5, 2, 3), m.weights(2, 4, 3), batch=((1,), (0,)), over=((2,), (2,)))
    stored = m.map("relu", m.map("add", m.permute(grouped, (1, 0, 2)), m.channels(4, 3, 2)))
    return m.permute(stored, (0, 2, 1))


def _gather_two(m: Model) -> Value:
    rows, columns = (m.constant(np.asarray(v), I64) for v in ([0, 2], [1, 1]))
    return m.gather(m.permute(m.input(3, 4, 5), (2, 0, 1)), 1, rows, columns)


CASES = [
    Case(r.elementwise_of_permutes, lambda m: m.map("add", _last(m, 2, 3, 4, 5), _last(m, 2, 3, 4, 5))),
    Case(
        r.elementwise_of_permutes,
        lambda m: m.map("mul", _last(m, 2, 8, 4, 5), m.channels(8, 4, 1)),
        name="const",
    ),
    Case(
        r.elementwise_of_permutes,
        lambda m: m.map("add", _last(m, 2, 3, 4, 5), m.input(2, 3, 4, 5)),
        name="tie",
    ),
    Case(r.elementwise_of_permutes, lambda m: m.cast(_last(m, 2, 3, 4), F64), name="cast"),
    Case(r.concat_of_permutes, lambda m: m.concat([_last(m, 2, 3, 4, 5), _last(m, 2, 1, 4, 5)], 1)),
    Case(r.movement_of_permute, lambda m: m.pad(_last(m, 2, 3, 4), (0, 1, 2), (3, 0, 0), 7.0), name="pad"),
    Case(
        r.movement_of_permute,
        lambda m: m.slice(_last(m, 2, 3, 9), (0, 2, 1), (1, -1, 3), (1, 3, 2)),
        name="slice",
    ),
    Case(r.movement_of_permute, lambda m: m.flip(_last(m, 2, 3, 4), 1, 2), name="flip"),
    Case(r.movement_of_permute, lambda m: m.expand_to(_last(m, 2, 3, 1), (2, 3, 6)), name="expand"),
    Case(
        r.movement_of_permute,
        lambda m: m.window(_last(m, 2, 3, 7, 8), (3, 1), (2, 3), (2, 1), (2, 1)),
        name="window",
    ),
    Case(r.reduce_of_permute, lambda m: m.reduce("sum", _last(m, 2, 3, 4, 5), (1, 3)), tolerance=1e-6),
    Case(r.reduce_of_permute, lambda m: m.reduce("argmax", _last(m, 2, 3, 4, 5), (1,)), name="argmax"),
    Case(r.gather_of_permute, lambda m: m.gather(_last(m, 2, 3, 4), 2, m.input(2, 2, dtype=I64))),
    Case(r.gather_of_permute, _gather_two, name="two"),
    Case(r.reshape_of_permute, lambda m: m.reshape(_last(m, 2, 6, 4, 5), (2, 2, 3, 4, 5)), name="split"),
    Case(r.reshape_of_permute, lambda m: m.reshape(_last(m, N, 6, 4, 5), (N, 2, 3, 20)), dims=(("n", 3),)),
    Case(
        r.reshape_of_permute,
        lambda m: m.reshape(m.permute(m.input(2, 4, 5, 3, 6), (0, 4, 3, 1, 2)), (2, 18, 4, 5)),
        name="shuffle",
    ),
    Case(
        r.reshape_undone,
        lambda m: m.reshape(m.map("mul", m.reshape(m.input(3, 2, 4), (3, 8)), m.channels(8, 2, 1)), (3, 2, 4)),
        (g.Reshape,),
        only=False,
    ),
    Case(r.permute_into_store, _stored, tolerance=1e-6),
    Case(r.flattened_permute, _flatten, tolerance=1e-6),
    Case(r.contract_of_permute, _attention, (g.Permute,), tolerance=1e-6, only=False),
    Case(
        r.contract_of_permute,
        lambda m: m.contract(m.permute(m.input(3, 4, 5), (1, 0, 2)), m.weights(5, 6), over=((2,), (0,))),
        tolerance=1e-6,
        name="order",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(case, [*MOVEMENT, *FOLDING])


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in [*r.LAYOUT, *r.SHUFFLE_IN_STORE]}


SHUFFLE = (0, 1, 2, 4, 3)


def moving(graph: Graph) -> list[g.Node]:
    """Permutes of more than a few elements, but those right after the contraction of a grouped convolution,
    which writes its results in that order, and shuffles of channels that lie last."""
    return [
        n
        for n in graph.walk()
        if isinstance(n.op, g.Permute)
        and elements(n.output.shape) > 64
        and not _stored_in_order(n)
        and n.op.perm != SHUFFLE
    ]


def _stored_in_order(node: g.Node) -> bool:
    before = node.inputs[0].node
    return before is not None and isinstance(before.op, g.Contract) and bool(before.op.lhs_batch)


def _network(m: Model) -> Value:
    x = nn.relu(m, nn.norm(m, nn.conv(m, m.input(2, 3, 12, 12), 8, 3, pad=1)))
    x = nn.local_response(m, nn.pool(m, x, 2, 2))
    branch = nn.relu(m, nn.norm(m, nn.conv(m, x, 8, 1)))
    branch = nn.norm(m, nn.conv(m, branch, 8, 3, pad=1, groups=8))
    x = nn.relu(m, m.map("add", x, nn.norm(m, nn.conv(m, branch, 8, 1, groups=2))))
    x = m.concat([nn.conv(m, x, 4, 1), nn.conv(m, x, 6, 3, pad=1), x], 1)
    flat = m.reshape(x, (2, 18 * 36))
    return nn.softmax(m, m.contract(flat, m.weights(18 * 36, 10), over=((1,), (0,))))


def test_no_permute_is_left_inside_a_network() -> None:
    m = Model()
    before = m.graph(_network(m))
    after = optimize(before, Level.ALL)
    assert moving(before) and not moving(after)
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-5)


def test_global_pooling_and_scaling_by_channel() -> None:
    """Squeeze and excite: pooled channels scale the tensor they came from."""
    m = Model()
    x = nn.conv(m, m.input(1, 4, 9, 9), 16, 3)
    gate = m.map("sigmoid", nn.conv(m, m.reduce("sum", x, (2, 3), keepdims=True), 16, 1, seed=4))
    before = m.graph(nn.conv(m, m.map("mul", x, gate), 16, 3, seed=9))
    after = optimize(before, Level.ALL)
    assert len(moving(after)) == 1  # to the channels-first output
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-5)


def test_channel_shuffle_stays_on_the_last_axis() -> None:
    m = Model()
    x = nn.conv(m, m.input(1, 4, 6, 6), 12, 1)
    before = m.graph(m.reduce("max", nn.conv(m, nn.shuffle(m, x, 3), 12, 3, seed=2), (2, 3)))
    after = optimize(before, Level.ALL)
    (left,) = (n for n in after.nodes if isinstance(n.op, g.Permute))
    assert not moving(after) and left.op.perm == SHUFFLE  # type: ignore[attr-defined]
    arrays = feeds(before)
    assert_same(interpret(before, arrays), interpret(after, arrays), 1e-5)


def test_channel_shuffle_is_all_that_moves_after_a_grouped_convolution() -> None:
    m = Model()
    x = nn.relu(m, nn.norm(m, nn.conv(m, m.input(1, 4, 6, 6), 12, 1, groups=2)))
    before = m.graph(m.reduce("max", nn.conv(m, nn.shuffle(m, x, 2), 12, 3, seed=2), (2, 3)))
    after = optimize(before, Level.ALL)
    assert not moving(after) and count(after, g.Permute) == 2
    stored = optimize_with(before, Layout(shuffle_in_store=True))
    assert not moving(stored) and count(stored, g.Permute) == 1
    arrays = feeds(before)
    for graph in (after, stored):
        assert_same(interpret(before, arrays), interpret(graph, arrays), 1e-5)


def optimize_with(graph: Graph, layout: Layout) -> Graph:
    """The passes, with another layout."""
    for _, entry in PIPELINE:
        graph = (layout if isinstance(entry, Layout) else entry).run(graph)
    return graph


def test_results_of_grouped_convolutions_stay_where_they_are_stored() -> None:
    m = Model()
    x = nn.conv(m, m.input(1, 8, 6, 6), 8, 3, groups=8)
    after = optimize(m.graph(m.reduce("max", nn.conv(m, nn.relu(m, x), 4, 1), (2, 3))), Level.ALL)
    (permute,) = (n for n in after.nodes if isinstance(n.op, g.Permute))
    assert isinstance(permute.inputs[0].node.op, g.Contract) and permute.op.perm[-2:] == (0, 4)  # type: ignore[union-attr]

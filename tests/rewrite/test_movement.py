"""Rules of movement: each fires, and no element changes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.checks import Case, Model, check_rule, count
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value
from vitrify.rewrite.grouping import segments
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules import movement as r
from vitrify.rewrite.rules.folding import FOLDING

N = Dim.symbol("n", 1)


def _concat_slice(m: Model, start: int) -> Value:
    return m.slice_axis(m.concat([m.input(2, 3), m.input(2, 4)], 1), 1, start, 3)


def _join(m: Model) -> Value:
    x = m.input(4, 7)
    return m.concat([m.slice_axis(x, 1, 1, 2), m.slice_axis(x, 1, 3, 4)], 1)


def _reshape_symbolic(m: Model) -> tuple[Value, ...]:
    y = m.input(N)
    return y, m.reshape(m.expand_to(m.input(1, 3, 1, 1), (N, 3, 4, 5)), (N, 3, 20))


def _contract_of_one(m: Model) -> Value:
    return m.contract(m.input(2, 5, 3, 1, 1), m.weights(4, 3, 1, 1), over=((2, 3, 4), (1, 2, 3)))


CASES = [
    Case(r.compose_permutes, lambda m: m.permute(m.permute(m.input(2, 3, 5), (2, 0, 1)), (0, 2, 1))),
    Case(
        r.compose_permutes,
        lambda m: m.permute(m.permute(m.input(2, 3, 5), (2, 0, 1)), (1, 2, 0)),
        gone=(g.Permute,),
        name="cancels",
    ),
    Case(r.permute_of_ones, lambda m: m.permute(m.input(3, 1, 5, 1), (0, 3, 2, 1)), gone=(g.Permute,)),
    Case(r.permute_of_expand, lambda m: m.permute(m.expand_to(m.input(1, 3, 1), (4, 3, 2)), (2, 0, 1))),
    Case(r.compose_reshapes, lambda m: m.reshape(m.reshape(m.input(4, 6), (24,)), (3, 8))),
    Case(
        r.compose_reshapes,
        lambda m: m.reshape(m.reshape(m.input(N, 6), (N * 6,)), (N, 2, 3)),
        dims=(("n", 5),),
        name="symbolic",
    ),
    Case(r.reshape_of_expand, lambda m: m.reshape(m.expand_to(m.input(2, 3, 1), (2, 3, 4)), (6, 2, 2))),
    Case(r.reshape_of_expand, _reshape_symbolic, dims=(("n", 2),), name="symbolic"),
    Case(r.compose_expands, lambda m: m.expand_to(m.expand_to(m.input(1, 3, 1), (2, 3, 1)), (2, 3, 4))),
    Case(r.compose_slices, lambda m: m.slice_axis(m.slice_axis(m.input(3, 20), 1, 18, 9, -2), 1, 2, 3, 2)),
    Case(r.slice_of_expand, lambda m: m.slice_axis(m.expand_to(m.input(1, 6), (5, 6)), 0, 1, 3)),
    Case(
        r.slice_of_pad,
        lambda m: m.slice(m.pad(m.input(4, 6), (2, 1), (2, 1), 9.0), (2, 3), (1, 2), (4, 2)),
        gone=(g.Pad,),
    ),
    Case(r.slice_of_concat, lambda m: _concat_slice(m, 0), gone=(g.Concat,), name="first"),
    Case(r.slice_of_concat, lambda m: _concat_slice(m, 4), gone=(g.Concat,), name="second"),
    Case(r.compose_pads, lambda m: m.pad(m.pad(m.input(3, 4), (1, 0), (0, 2), 0.5), (0, 3), (1, 1), 0.5)),
    Case(r.compose_flips, lambda m: m.flip(m.flip(m.input(3, 4, 5), 0, 1), 1, 2)),
    Case(r.compose_flips, lambda m: m.flip(m.input(1, 4), 0), gone=(g.Flip,), name="ones"),
    Case(r.window_of_one, lambda m: m.window(m.input(2, 9, 3), (1,), (1,), (2,), (3,)), gone=(g.Window,)),
    Case(r.window_of_one, lambda m: m.window(m.input(8, 9, 3), (0, 1), (1, 3), (2, 2), (1, 2)), name="partly"),
    Case(r.flatten_concat, lambda m: m.concat([m.concat([m.input(2, 3), m.input(2, 1)], 1), m.input(2, 2)], 1)),
    Case(
        r.flatten_concat,
        lambda m: m.concat([m.input(2, 3), m.input(2, 0)], 1),
        gone=(g.Concat,),
        name="empty",
    ),
    Case(r.join_slices, _join, gone=(g.Concat,)),
    Case(r.reduce_of_one, lambda m: m.reduce("sum", m.input(3, 1, 4), (1,)), gone=(g.Reduce,)),
    Case(r.reduce_of_one, lambda m: m.reduce("max", m.input(3, 1, 4), (1, 2)), name="partly"),
    Case(r.contract_of_one, _contract_of_one, tolerance=1e-6),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(case, [])


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.MOVEMENT}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda m: m.slice_axis(m.pad(m.input(4), (2,), (2,), 1.0), 0, 1, 4), id="slice-keeps-border"),
        pytest.param(lambda m: _concat_slice(m, 2), id="slice-spans-two-pieces"),
        pytest.param(lambda m: m.pad(m.pad(m.input(3), (1,), (0,), 0.0), (1,), (0,), -0.0), id="pads-differ"),
        pytest.param(lambda m: m.reshape(m.expand_to(m.input(2, 1), (2, 3)), (6,)), id="reshape-mixes-repeated"),
    ],
)
def test_no_rule_applies(build: object) -> None:
    model = Model()
    graph = model.graph(build(model))  # type: ignore[operator]
    assert rewrite(graph, r.MOVEMENT) is graph


def test_reshape_whose_check_would_be_lost_stays() -> None:
    model, m = Model(), Dim.symbol("m", 1)
    x = model.input(N, 4)
    y = model.one(g.Reshape((m,)), x)  # only right where m == 4 n, which the run checks
    graph = model.graph(model.one(g.Reshape((2, 2 * N)), y), model.dim(m))
    assert count(rewrite(graph, r.MOVEMENT), g.Reshape) == 2


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2, 6, 1, 4), (2, 2, 3, 4), [((0,), (0,)), ((1,), (1, 2)), ((3,), (3,))]),
        ((4, 6), (3, 8), [((0, 1), (0, 1))]),
        ((N, 3, 4), (N, 12), [((0,), (0,)), ((1, 2), (1,))]),
        ((N, 3, 4), (N * 3, 4), [((0, 1), (0,)), ((2,), (1,))]),
        ((N, 8), (2 * N, 4), [((0, 1), (0, 1))]),
        ((0, 3), (3, 0), None),
        ((1, 1), (1,), []),
    ],
)
def test_segments(before: g.Shape, after: g.Shape, expected: object) -> None:
    assert segments(before, after) == expected


def test_gather_of_constant_positions_reads_no_table() -> None:
    model = Model()
    x = model.input(3, 8)
    graph = model.graph(model.gather(x, 1, model.constant(np.asarray([1, 3, 5]), I64)))
    assert count(rewrite(graph, FOLDING), g.Gather) == 0

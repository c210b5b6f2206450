"""Exact identities: on every kind of number, NaN, infinities and signed zeros included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.rewrite.checks import Case, Model, assert_same, check_rule, count, feeds
from vitrify.ir import graph as g
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, I8, I32, I64, DType
from vitrify.ir.graph import Value
from vitrify.ir.interpret import interpret
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules import arithmetic as r
from vitrify.rewrite.simplify import Simplify


def _with(fn: str, number: float, dtype: DType = F32, *, first: bool = False) -> Callable[[Model], Value]:
    def build(m: Model) -> Value:
        x = m.input(12, dtype=dtype)
        c = m.constant(np.full(1, number), dtype)
        wide = m.one(g.Expand((12,)), c)
        return m.map(fn, wide, x) if first else m.map(fn, x, wide)

    return build


def _twice(outer: str, inner: str, dtype: DType = F32) -> Callable[[Model], Value]:
    return lambda m: m.map(outer, m.map(inner, *([m.input(12, dtype=dtype)] * (2 if inner == "eq" else 1))))


def _same(fn: str, dtype: DType) -> Callable[[Model], Value]:
    def build(m: Model) -> Value:
        x = m.input(12, dtype=dtype)
        return m.map(fn, x, x)

    return build


def _root(exponent: float) -> Callable[[Model], Value]:
    def build(m: Model) -> Value:
        x = m.input(12)
        c = m.constant(np.full(1, exponent, np.float32))
        return m.map("pow", m.map("mul", x, x), m.one(g.Expand((12,)), c))

    return build


def _casts(first: DType, *rest: DType) -> Callable[[Model], Value]:
    def build(m: Model) -> Value:
        y = m.input(12, dtype=first)
        for dtype in rest:
            y = m.one(g.Cast(dtype), y)
        return y

    return build


NEUTRAL = [
    ("mul", 1, F32),
    ("mul", 1, F16),
    ("mul", 1, I32),
    ("div", 1, F32),
    ("quotient", 1, I8),
    ("pow", 1, F32),
    ("add", -0.0, F32),
    ("sub", 0.0, F32),
    ("add", 0, I64),
    ("sub", 0, I32),
    ("xor", 0, I32),
    ("or", 0, BOOL),
    ("and", 1, BOOL),
    ("and", -1, I32),
    ("shl", 0, I32),
]
CASES = [
    *(
        Case(r.neutral_elements, _with(*entry), (g.Map,), special=True, name=f"{entry[0]}-{entry[2]}")
        for entry in NEUTRAL
    ),
    Case(r.neutral_elements, _with("mul", 1, first=True), (g.Map,), special=True, name="left"),
    Case(r.neutral_elements, _same("max", F32), (g.Map,), special=True, name="max"),
    Case(r.absorbing_elements, _with("mul", 0, I32), (g.Map,), name="mul"),
    Case(r.absorbing_elements, _with("and", 0, BOOL), (g.Map,), name="and"),
    Case(r.absorbing_elements, _with("or", 1, BOOL), (g.Map,), name="or"),
    Case(r.absorbing_elements, _same("sub", I32), (g.Map,), name="sub"),
    Case(r.absorbing_elements, _same("le", I64), (g.Map,), name="le"),
    Case(r.unary_of_unary, _twice("neg", "neg"), (g.Map,), special=True),
    Case(r.unary_of_unary, _twice("not", "not", BOOL), (g.Map,), name="not"),
    Case(r.unary_of_unary, _twice("relu", "relu"), special=True, name="relu"),
    Case(r.unary_of_unary, _twice("abs", "neg"), special=True, name="abs"),
    Case(r.unary_of_unary, _twice("floor", "round"), special=True, name="floor"),
    Case(r.unary_of_unary, _twice("not", "eq"), special=True, name="eq"),
    Case(r.powers, _with("pow", 2), special=True, tolerance=2e-7),
    Case(r.powers, _with("pow", 3), special=True, tolerance=2e-7, name="3"),
    Case(r.powers, _with("pow", -1), special=True, tolerance=2e-7, name="-1"),
    Case(r.powers, _with("pow", 0), special=True, name="0"),
    Case(r.powers, _root(0.5), special=True, tolerance=2e-7, name="root"),
    Case(r.powers, _root(0.75), special=True, tolerance=3e-7, name="root of a cube"),
    Case(r.divide_by_power_of_two, _with("div", 8), special=True),
    Case(r.divide_by_power_of_two, _with("div", -0.25, F16), special=True, name="f16"),
    Case(r.rectify, _with("max", 0), special=True),
    Case(r.rectify, _with("max", 0, I32, first=True), name="int"),
    Case(r.subtract_negated, lambda m: m.map("add", m.input(12), m.map("neg", m.input(12))), special=True),
    Case(r.subtract_negated, lambda m: m.map("sub", m.input(12), m.map("neg", m.input(12))), name="sub"),
    Case(r.compose_casts, _casts(F16, F32, F64), special=True),
    Case(r.compose_casts, _casts(I32, F64, F32), name="int-float"),
    Case(r.compose_casts, _casts(BF16, F32, BF16), (g.Cast,), special=True, name="back"),
    Case(r.compose_reductions, lambda m: m.reduce("max", m.reduce("max", m.input(3, 4, 5), (1,)), (0,))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_rule(case, [])


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.ARITHMETIC}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(_with("add", 0.0), id="add-positive-zero"),
        pytest.param(_with("sub", -0.0), id="subtract-negative-zero"),
        pytest.param(_with("mul", 0.0), id="multiply-by-zero"),
        pytest.param(_with("max", -0.0), id="max-with-negative-zero"),
        pytest.param(_with("pow", 0.5), id="root-of-any-sign"),
        pytest.param(_with("div", 3.0), id="divide-by-three"),
        pytest.param(_with("div", 2.0**-130), id="reciprocal-overflows"),
        pytest.param(_with("div", 2.0**127), id="reciprocal-subnormal"),
        pytest.param(_same("sub", F32), id="infinity-minus-infinity"),
        pytest.param(_same("eq", F32), id="nan-equals-nan"),
        pytest.param(_casts(I32, F64, I8), id="wraps-not-saturates"),
        pytest.param(_casts(F32, F16, F32), id="rounds"),
        pytest.param(_casts(I64, F64, F32), id="rounds-twice"),
    ],
)
def test_what_is_not_exact_stays(build: Callable[[Model], Value]) -> None:
    model = Model()
    graph = model.graph(build(model))
    assert rewrite(graph, r.ARITHMETIC) is graph


def test_simplify_keeps_special_values() -> None:
    m = Model()
    x = m.input(12)
    one, zero = m.constant(np.float32(1)), m.constant(np.float32(0))
    y = m.map("add", m.map("mul", m.map("neg", m.map("neg", x)), one), zero)
    before = m.graph(m.map("max", y, zero))
    after = Simplify().run(before)
    assert count(after, g.Map) == 2
    arrays = feeds(before, special=True)
    assert_same(interpret(before, arrays), interpret(after, arrays))

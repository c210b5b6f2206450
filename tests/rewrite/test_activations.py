"""Spelled-out activations are recognised in the spellings of exporters, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import pytest

from tests.rewrite.checks import Case, Model, check_rule
from vitrify.ir import graph as g
from vitrify.ir.graph import Value
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules import activations as r
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT


def _c(m: Model, number: float) -> Value:
    return m.constant(np.float32(number))


def _sigmoid(m: Model) -> Value:
    x = m.input(4, 33)
    return m.map("div", _c(m, 1), m.map("add", m.map("exp", m.map("neg", x)), _c(m, 1)))


def _erf(m: Model, x: Value) -> Value:
    return m.map("add", m.map("erf", m.map("div", x, _c(m, sqrt(2)))), _c(m, 1))


def _gelu(order: int) -> Callable[[Model], Value]:
    def build(m: Model) -> Value:
        x = m.input(4, 33)
        if order == 0:
            return m.map("mul", m.map("mul", x, _erf(m, x)), _c(m, 0.5))
        if order == 1:
            return m.map("mul", m.map("mul", x, _c(m, 0.5)), _erf(m, x))
        if order == 2:
            return m.map("mul", x, m.map("mul", _c(m, 0.5), _erf(m, x)))
        scaled = m.map("mul", x, _c(m, sqrt(0.5)))
        return m.map("mul", _c(m, 0.5), m.map("mul", m.map("add", _c(m, 1), m.map("erf", scaled)), x))

    return build


def _gelu_tanh(m: Model, factor: float = 0.044715) -> Value:
    x = m.input(4, 33)
    cube = m.map("mul", m.map("mul", x, x), x)
    inner = m.map("mul", m.map("add", x, m.map("mul", _c(m, factor), cube)), _c(m, sqrt(2 / pi)))
    return m.map("mul", m.map("mul", _c(m, 0.5), x), m.map("add", _c(m, 1), m.map("tanh", inner)))


def _silu(m: Model) -> Value:
    x = m.input(4, 33)
    return m.map("mul", m.map("sigmoid", x), x)


def _softmax(m: Model) -> Value:
    x = m.input(4, 33)
    e = m.map("exp", m.map("sub", x, m.reduce("max", x, (1,), keepdims=True)))
    return m.map("div", e, m.reduce("sum", e, (1,), keepdims=True))


def _layer_norm(m: Model, epsilon: float = 1e-5) -> Value:
    x = m.input(4, 33)
    mean = m.map("mul", m.reduce("sum", x, (1,), keepdims=True), _c(m, 1 / 33))
    d = m.map("sub", x, mean)
    variance = m.map("mul", m.reduce("sum", m.map("mul", d, d), (1,), keepdims=True), _c(m, 1 / 33))
    return m.map("div", d, m.map("sqrt", m.map("add", variance, _c(m, epsilon))))


def _rsqrt(m: Model) -> Value:
    return m.map("div", _c(m, 1), m.map("sqrt", m.map("exp", m.input(4, 33))))


CASES = [
    Case(r.sigmoid, _sigmoid, tolerance=5e-7),
    Case(r.silu, _silu, tolerance=5e-7),
    *(Case(r.gelu, _gelu(i), tolerance=1e-6, name=str(i)) for i in range(4)),
    Case(r.gelu, _gelu_tanh, tolerance=1e-6, name="tanh"),
    Case(r.reciprocal_root, _rsqrt, tolerance=5e-7),
    Case(r.divide_rows, _softmax, tolerance=5e-7),
    Case(r.divide_rows, _layer_norm, tolerance=5e-7, name="normalisation"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    after = check_rule(Case(**{**vars(case), "only": False}), [*MOVEMENT, *FOLDING])
    functions = {n.op.fn for n in after.nodes if isinstance(n.op, g.Map)}
    assert "div" not in functions or case.rule is r.divide_rows
    if case.rule in (r.gelu, r.silu, r.sigmoid):
        assert functions == {"gelu_tanh" if case.name == "tanh" else case.rule.name}


def test_every_rule_has_a_case() -> None:
    assert {c.rule.name for c in CASES} == {rule.name for rule in r.ACTIVATIONS}


def _other_argument(m: Model) -> Value:
    x, y = m.input(4, 33), m.input(4, 33)
    return m.map("mul", m.map("mul", x, _c(m, 0.5)), _erf(m, y))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda m: _gelu_tanh(m, 0.0447), id="another-constant"),
        pytest.param(_other_argument, id="another-argument"),
        pytest.param(lambda m: _layer_norm(m, 0.0), id="deviation-may-be-0"),
        pytest.param(lambda m: m.map("div", m.input(4, 33), m.input(4, 1)), id="any-divisor"),
    ],
)
def test_what_differs_stays(build: Callable[[Model], Value]) -> None:
    m = Model()
    graph = m.graph(build(m))
    assert rewrite(graph, r.ACTIVATIONS) is graph

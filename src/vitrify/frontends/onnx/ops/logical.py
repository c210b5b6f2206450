"""Comparisons, logic, selection."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.math import operands
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dtypes import BOOL
from vitrify.ir.graph import Value


def _elementwise(name: str, fn: str, since: int) -> None:
    def rule(n: Call) -> Value:
        return n.map(fn, *operands(n))

    op(name, since=since)(rule)


for _name, _fn, _since in (
    ("Equal", "eq", 1), ("Less", "lt", 1), ("Greater", "gt", 1), ("LessOrEqual", "le", 12),
    ("GreaterOrEqual", "ge", 12),
):  # fmt: skip
    _elementwise(_name, _fn, _since)


def _boolean(name: str, fn: str) -> None:
    def rule(n: Call) -> Value:
        x, y = operands(n)
        n.check(x.dtype is BOOL, f"{x.type} is not bool")
        return n.map(fn, x, y)

    op(name)(rule)


for _name, _fn in (("And", "and"), ("Or", "or"), ("Xor", "xor")):
    _boolean(_name, _fn)

for _name, _fn in (("BitwiseAnd", "and"), ("BitwiseOr", "or"), ("BitwiseXor", "xor")):
    _elementwise(_name, _fn, 18)


@op("Not")
def logical_not(n: Call) -> Value:
    x = n.value(0)
    n.check(x.dtype is BOOL, f"{x.type} is not bool")
    return n.b.map("not", x)


@op("BitwiseNot", since=18)
def bitwise_not(n: Call) -> Value:
    return n.b.map("not", n.value(0))


@op("Where", since=9)
def where(n: Call) -> Value:
    return n.map("where", n.value(0), n.value(1), n.value(2))


@op("IsNaN", since=9)
def isnan(n: Call) -> Value:
    return n.b.map("isnan", n.value(0))


@op("IsInf", since=10)
def isinf(n: Call) -> Value:
    x = n.value(0)
    negative = n.attributes.flag("detect_negative", True)
    positive = n.attributes.flag("detect_positive", True)
    if negative and positive:
        return n.b.map("isinf", x)
    if not negative and not positive:
        return n.b.fill(False, BOOL, x.shape)
    return n.map("eq", x, n.number(np.inf if positive else -np.inf, x))

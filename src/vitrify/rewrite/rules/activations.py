"""Spelled-out activations -> one row of the scalar table, which is cheaper and at least as accurate.

Constants must be the nearest of the dtype to the formula's, or within 4 of its ulp (exporters round them)."""

from __future__ import annotations

from math import pi, sqrt

from vitrify.ir import graph as g
from vitrify.ir.graph import Value
from vitrify.rewrite.facts import elements, mapped, never_negative, number, producer
from vitrify.rewrite.rewriter import Results, Rewriter, rule


def _near(value: Value, expected: float) -> bool:
    known = number(value)
    if known is None or not value.dtype.is_float:
        return False
    return bool(abs(known - expected) <= 4 * abs(expected) * 2.0 ** -(value.dtype.mantissa + 1))


def _factors(value: Value, depth: int = 4) -> list[Value]:
    """The leaves of a product; x * x stays whole."""
    both = mapped(value, "mul")
    if both is None or depth == 0 or both[0] is both[1]:
        return [value]
    return [leaf for side in both for leaf in _factors(side, depth - 1)]


def _without(values: list[Value], gone: Value) -> list[Value]:
    at = next(i for i, v in enumerate(values) if v is gone)
    return values[:at] + values[at + 1 :]


def _plus_one(value: Value, fn: str) -> Value | None:
    """u, where ``value`` is 1 + fn(u)."""
    both = mapped(value, "add")
    if both is None:
        return None
    for one, other in (both, both[::-1]):
        inner = mapped(other, fn)
        if inner is not None and _near(one, 1.0):
            return inner[0]
    return None


def _scaled(value: Value, factor: float) -> Value | None:
    """x, where ``value`` is x * factor or x / (1 / factor)."""
    both = mapped(value, "mul")
    if both is not None:
        a, b = both
        return a if _near(b, factor) else b if _near(a, factor) else None
    quotient = mapped(value, "div")
    return quotient[0] if quotient is not None and _near(quotient[1], 1 / factor) else None


@rule(g.Map)
def sigmoid(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """1 / (1 + exp(-x)) -> sigmoid x."""
    if op.fn != "div" or not _near(inputs[0], 1.0):
        return None
    exponent = _plus_one(inputs[1], "exp")
    x = mapped(exponent, "neg") if exponent is not None else None
    return rw.map("sigmoid", x[0]) if x is not None else None


@rule(g.Map)
def silu(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """x * sigmoid x -> silu x."""
    if op.fn != "mul":
        return None
    for x, other in (inputs, inputs[::-1]):
        inner = mapped(other, "sigmoid")
        if inner is not None and inner[0] is x:
            return rw.map("silu", x)
    return None


@rule(g.Map)
def gelu(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """0.5 * x * (1 + erf(x / sqrt 2)) -> gelu x, and 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
    -> gelu_tanh x, the factors in any order."""
    if op.fn != "mul" or inputs[0] is inputs[1]:
        return None
    factors = [leaf for side in inputs for leaf in _factors(side)]
    half = next((v for v in factors if _near(v, 0.5)), None)
    if len(factors) != 3 or half is None:
        return None
    for x, other in _both_orders(_without(factors, half)):
        scaled = _plus_one(other, "erf")
        if scaled is not None and _scaled(scaled, sqrt(0.5)) is x:
            return rw.map("gelu", x)
        inner = _plus_one(other, "tanh")
        if inner is not None and _cubic(inner) is x:
            return rw.map("gelu_tanh", x)
    return None


def _both_orders(pair: list[Value]) -> list[tuple[Value, Value]]:
    return [(pair[0], pair[1]), (pair[1], pair[0])]


def _cubic(value: Value) -> Value | None:
    """x, where ``value`` is sqrt(2 / pi) * (x + 0.044715 * x^3)."""
    total = _scaled(value, sqrt(2 / pi))
    both = mapped(total, "add") if total is not None else None
    if both is None:
        return None
    for x, cube in _both_orders(list(both)):
        factors = _factors(cube)
        small = next((v for v in factors if _near(v, 0.044715)), None)
        if small is None:
            continue
        rest = _without(factors, small)
        square = next((v for v in rest if mapped(v, "mul") == (x, x)), None)
        if square is not None and _without(rest, square) == [x]:
            return x
        if len(rest) == 3 and all(v is x for v in rest):
            return x
    return None


@rule(g.Map)
def reciprocal_root(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """1 / sqrt x -> rsqrt x."""
    root = mapped(inputs[1], "sqrt") if op.fn == "div" and _near(inputs[0], 1.0) else None
    return rw.map("rsqrt", root[0]) if root is not None else None


@rule(g.Map)
def divide_rows(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """x / expand(s) -> x * expand(1 / s), where each s divides 8 elements or more and 1 / s cannot overflow
    (a normalisation's deviation, a softmax's sum): one rounding more, one division per row."""
    node = producer(inputs[1], g.Expand) if op.fn == "div" else None
    if node is None or not _at_least_normal(node.inputs[0]):
        return None
    small = node.inputs[0]
    if elements(inputs[1].shape) < 8 * elements(small.shape):
        return None
    root = mapped(small, "sqrt")
    inverse = rw.map("rsqrt", root[0]) if root is not None else rw.map("div", rw.scalar(1, small), small)
    return rw.map("mul", inputs[0], rw.expand_to(inverse, inputs[1].shape))


def _at_least_normal(value: Value) -> bool:
    """At least 1e-20 (or NaN): a sum of exponentials that holds exp 0, or a root of something >= 0 plus a
    constant."""
    reshaped = producer(value, g.Reshape)
    if reshaped is not None:
        return _at_least_normal(reshaped.inputs[0])
    root = mapped(value, "sqrt")
    if root is not None:
        both = mapped(root[0], "add")
        if both is None:
            return False
        sides = ((both[0], both[1]), (both[1], both[0]))
        return any((number(c) or 0) >= 1e-38 and never_negative(x) for x, c in sides)
    total = producer(value, g.Reduce)
    if total is None or not isinstance(total.op, g.Reduce) or total.op.combiner != "sum":
        return False
    return _holds_zero(mapped(total.inputs[0], "exp"), total.op.axes)


def _holds_zero(argument: tuple[Value, ...] | None, axes: tuple[int, ...]) -> bool:
    """``argument`` is x minus its maximum over ``axes``."""
    both = mapped(argument[0], "sub") if argument is not None else None
    expanded = producer(both[1], g.Expand) if both is not None else None
    if both is None or expanded is None:
        return False
    most = expanded.inputs[0]
    shaped = producer(most, g.Reshape)
    node = producer(shaped.inputs[0] if shaped is not None else most, g.Reduce)
    if node is None or not isinstance(node.op, g.Reduce):
        return False
    return node.op.combiner == "max" and node.inputs[0] is both[0] and set(node.op.axes) == set(axes)


ACTIVATIONS = [sigmoid, silu, gelu, reciprocal_root, divide_rows]

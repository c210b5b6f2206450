"""Elementwise arithmetic."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dtypes import F64
from vitrify.ir.graph import Value


def operands(n: Call) -> tuple[Value, Value]:
    """Both inputs of a binary op. Before opset 7 the second broadcasts only when asked, from an axis on."""
    x, y = n.value(0), n.value(1)
    if n.opset >= 7:
        return x, y
    n.attributes.ignore("consumed_inputs")
    broadcast = n.attributes.flag("broadcast")
    axis = n.attributes.integer("axis", -1)
    if not broadcast:
        return x, n.match(y, x.shape)
    if "axis" in n.attributes:
        trailing = x.rank - n.axis(axis, x.rank) - y.rank
        n.check(trailing >= 0, f"{y.type} does not broadcast to {x.type} from axis {axis}")
        y = n.b.reshape(y, (*y.shape, *([1] * trailing)))
    return x, y


def _binary(name: str, fn: str) -> None:
    op(name)(lambda n: n.map(fn, *operands(n)))


for _name, _fn in (("Add", "add"), ("Sub", "sub"), ("Mul", "mul")):
    _binary(_name, _fn)


def _unary(name: str, fn: str, since: int = 1) -> None:
    def rule(n: Call) -> Value:
        n.attributes.ignore("consumed_inputs")
        return n.b.map(fn, n.value(0))

    op(name, since=since)(rule)


for _name, _fn, _since in (
    ("Neg", "neg", 1), ("Abs", "abs", 1), ("Exp", "exp", 1), ("Log", "log", 1), ("Sqrt", "sqrt", 1),
    ("Floor", "floor", 1), ("Ceil", "ceil", 1), ("Round", "round", 11), ("Sign", "sign", 9),
    ("Erf", "erf", 9), ("Sin", "sin", 7), ("Cos", "cos", 7), ("Tan", "tan", 7), ("Asin", "asin", 7),
    ("Acos", "acos", 7), ("Atan", "atan", 7), ("Sinh", "sinh", 9), ("Cosh", "cosh", 9), ("Asinh", "asinh", 9),
    ("Acosh", "acosh", 9), ("Atanh", "atanh", 9),
):  # fmt: skip
    _unary(_name, _fn, _since)


@op("Reciprocal")
def reciprocal(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x = n.value(0)
    return n.map("div", n.number(1, x), x)


@op("Div")
def div(n: Call) -> Value:
    """Integers truncate."""
    x, y = operands(n)
    return n.map("div" if x.dtype.is_float else "quotient", x, y)


@op("Mod", since=10)
def mod(n: Call) -> Value:
    """The remainder has the sign of the divisor, with ``fmod`` that of the dividend."""
    x, y = n.value(0), n.value(1)
    if n.attributes.flag("fmod"):
        return n.map("fmod", x, y)
    if not x.dtype.is_float:
        return n.map("floormod", x, y)
    rest = n.map("fmod", x, y)
    zero = n.number(0, rest)
    other_sign = n.map("xor", n.map("lt", rest, zero), n.map("lt", y, zero))
    moved = n.map("and", other_sign, n.map("ne", rest, zero))
    return n.map("where", moved, n.map("add", rest, y), rest)


@op("Pow")
def power(n: Call) -> Value:
    """Common constant exponents become what they mean; others are computed in the dtype of the base."""
    x, y = operands(n)
    exponent = n.constant(1)
    if exponent is not None and exponent.size == 1 and y.rank <= x.rank:
        result = _special_power(n, x, float(exponent.reshape(()).astype(np.float64)))
        if result is not None:
            shape = n.broadcast_shape([x.shape, y.shape])
            return n.expand(result, shape)
    if x.dtype is y.dtype:
        return n.map("pow", x, y)
    if x.dtype.is_int and y.dtype.is_float:  # 2 ** 0.5 in integers: computed in floats, then truncated
        wide = F64 if x.dtype.bits >= 32 else y.dtype  # f32 has not all integers of 32 bits
        return n.b.cast(n.map("pow", n.b.cast(x, wide), n.b.cast(y, wide)), x.dtype)
    return n.map("pow", x, n.b.cast(y, x.dtype))


def _special_power(n: Call, x: Value, exponent: float) -> Value | None:
    if exponent == 1:
        return x
    if exponent == 2:
        return n.b.map("mul", x, x)
    if exponent == 3:
        return n.b.map("mul", n.b.map("mul", x, x), x)
    if not x.dtype.is_float:
        return None
    if exponent == 0.5:
        return n.b.map("sqrt", x)
    if exponent == -1:
        return n.map("div", n.number(1, x), x)
    return None


def _variadic(name: str, fn: str) -> None:
    def rule(n: Call) -> Value:
        n.attributes.ignore("consumed_inputs")
        first, *rest = n.values()
        for value in rest:
            first = n.map(fn, first, value)
        return first

    op(name)(rule)


for _name, _fn in (("Sum", "add"), ("Max", "max"), ("Min", "min")):
    _variadic(_name, _fn)


@op("Mean")
def mean(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    first, *rest = values = n.values()
    for value in rest:
        first = n.map("add", first, value)
    return n.map("div", first, n.number(len(values), first)) if rest else first


def clip_to(n: Call, x: Value, low: Value | None, high: Value | None) -> Value:
    """``min(max(x, low), high)``; NaN stays."""
    if low is not None:
        x = n.map("max", x, n.b.reshape(low, ()))
    return x if high is None else n.map("min", x, n.b.reshape(high, ()))


@op("Clip")
def clip_attributes(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x = n.value(0)
    low = n.number(n.attributes.number("min"), x) if "min" in n.attributes else None
    high = n.number(n.attributes.number("max"), x) if "max" in n.attributes else None
    return clip_to(n, x, low, high)


@op("Clip", since=11)
def clip(n: Call) -> Value:
    return clip_to(n, n.value(0), n.optional(1), n.optional(2))


def _cumulative(n: Call, combiner: str, neutral: int) -> Value:
    """A window as long as the axis over the axis with a neutral border, reduced."""
    x = n.value(0)
    axes = n.axes([int(a) for a in n.needed(1, "axis").reshape(-1)], x.rank)
    n.check(len(axes) == 1, f"{len(axes)} axes, not one")
    axis = axes[0]
    exclusive, reverse = n.attributes.flag("exclusive"), n.attributes.flag("reverse")
    size = x.shape[axis]
    if not isinstance(size, int):
        n.unsupported(f"an axis of the symbolic size {size}")
    if size == 0:
        return x
    if reverse:
        x = n.b.flip(x, axis)
    low = [size - 1 + exclusive if i == axis else 0 for i in range(x.rank)]
    padded = n.b.pad(x, low, [0] * x.rank, neutral)
    if exclusive:
        padded = n.b.slice_axis(padded, axis, 0, 2 * size - 1)
    total = n.b.reduce(combiner, n.b.window(padded, [axis], [size], [1], [1]), [x.rank])
    return n.b.flip(total, axis) if reverse else total


@op("CumSum", since=11)
def cumsum(n: Call) -> Value:
    return _cumulative(n, "sum", 0)


@op("CumProd", since=26)
def cumprod(n: Call) -> Value:
    return _cumulative(n, "prod", 1)


@op("BitShift", since=11)
def bit_shift(n: Call) -> Value:
    direction = n.attributes.text("direction", "")
    n.check(direction in ("LEFT", "RIGHT"), f"direction is {direction!r}, not LEFT or RIGHT")
    return n.map("shl" if direction == "LEFT" else "shr", n.value(0), n.value(1))

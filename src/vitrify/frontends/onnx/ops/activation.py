"""Activations."""

from __future__ import annotations

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.math import clip_to
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dtypes import F64
from vitrify.ir.graph import Value


def _unary(name: str, fn: str) -> None:
    def rule(n: Call) -> Value:
        n.attributes.ignore("consumed_inputs")
        return n.b.map(fn, n.value(0))

    op(name)(rule)


for _name, _fn in (("Relu", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("Softplus", "softplus")):
    _unary(_name, _fn)


def select_positive(n: Call, x: Value, otherwise: Value, positive: Value | None = None) -> Value:
    """``positive`` (by default x) where ``x >= 0``, else ``otherwise``."""
    return n.map("where", n.map("ge", x, n.number(0, x)), x if positive is None else positive, otherwise)


def exp_minus_one(n: Call, x: Value) -> Value:
    """``exp(x) - 1`` for what is negative; 0 elsewhere, so that no infinity arises."""
    return n.b.map("expm1", n.map("min", x, n.number(0, x)))


@op("LeakyRelu")
def leaky_relu(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x = n.value(0)
    return select_positive(n, x, n.map("mul", x, n.number(n.attributes.number("alpha", 0.01), x)))


@op("PRelu")
def prelu(n: Call) -> Value:
    """Before opset 7 a slope of rank 1 is one per channel."""
    n.attributes.ignore("consumed_inputs")
    x, slope = n.value(0), n.value(1)
    if n.opset < 7 and slope.rank == 1 and x.rank > 1:
        slope = n.b.reshape(slope, (*slope.shape, *([1] * (x.rank - 2))))
    return select_positive(n, x, n.map("mul", x, slope))


@op("ThresholdedRelu")
def thresholded_relu(n: Call) -> Value:
    x = n.value(0)
    return n.map("where", n.map("gt", x, n.number(n.attributes.number("alpha", 1.0), x)), x, n.number(0, x))


@op("Elu")
def elu(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x = n.value(0)
    return select_positive(n, x, n.map("mul", exp_minus_one(n, x), n.number(n.attributes.number("alpha", 1.0), x)))


@op("Celu", since=12)
def celu(n: Call) -> Value:
    x = n.value(0)
    alpha = n.number(n.attributes.number("alpha", 1.0), x)
    return select_positive(n, x, n.map("mul", exp_minus_one(n, n.map("div", x, alpha)), alpha))


@op("Selu")
def selu(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x = n.value(0)
    early = n.opset < 6
    alpha = n.attributes.number("alpha", 1.6732 if early else 1.67326319217681884765625)
    gamma = n.number(n.attributes.number("gamma", 1.0507 if early else 1.05070102214813232421875), x)
    return n.map("mul", gamma, select_positive(n, x, n.map("mul", exp_minus_one(n, x), n.number(alpha, x))))


def hard_sigmoid_of(n: Call, x: Value, alpha: float, beta: float) -> Value:
    line = n.map("add", n.map("mul", x, n.number(alpha, x)), n.number(beta, x))
    return clip_to(n, line, n.number(0, x), n.number(1, x))


@op("HardSigmoid")
def hard_sigmoid(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    return hard_sigmoid_of(n, n.value(0), n.attributes.number("alpha", 0.2), n.attributes.number("beta", 0.5))


@op("HardSwish", since=14)
def hard_swish(n: Call) -> Value:
    x = n.value(0)
    return n.map("mul", x, hard_sigmoid_of(n, x, 1 / 6, 0.5))


def softsign_of(n: Call, x: Value) -> Value:
    return n.map("div", x, n.map("add", n.b.map("abs", x), n.number(1, x)))


@op("Softsign")
def softsign(n: Call) -> Value:
    return softsign_of(n, n.value(0))


@op("Mish", since=18)
def mish(n: Call) -> Value:
    x = n.value(0)
    return n.b.map("mul", x, n.b.map("tanh", n.b.map("softplus", x)))


@op("Shrink", since=9)
def shrink(n: Call) -> Value:
    given = n.value(0)
    x = n.b.cast(given, F64) if given.dtype.is_int else given  # which have fractions as the attributes do
    bias, lambd = n.attributes.number("bias", 0.0), n.attributes.number("lambd", 0.5)
    above = n.map("where", n.map("gt", x, n.number(lambd, x)), n.map("sub", x, n.number(bias, x)), n.number(0, x))
    result = n.map("where", n.map("lt", x, n.number(-lambd, x)), n.map("add", x, n.number(bias, x)), above)
    return n.b.cast(result, given.dtype)


@op("Gelu", since=20)
def gelu(n: Call) -> Value:
    approximate = n.attributes.text("approximate", "none")
    n.check(approximate in ("none", "tanh"), f"approximate is {approximate!r}, not none or tanh")
    return n.b.map("gelu" if approximate == "none" else "gelu_tanh", n.value(0))


def swish_of(n: Call, x: Value, alpha: float) -> Value:
    """``x * sigmoid(alpha * x)``."""
    if alpha == 1:
        return n.b.map("silu", x)
    return n.map("mul", x, n.b.map("sigmoid", n.map("mul", x, n.number(alpha, x))))


@op("Swish", since=24)
def swish(n: Call) -> Value:
    return swish_of(n, n.value(0), n.attributes.number("alpha", 1.0))


@op("SwiGLU", since=28)
def swiglu(n: Call) -> Value:
    gate = n.value(0)
    return n.map("mul", swish_of(n, gate, n.attributes.number("alpha", 1.0)), n.match(n.value(1), gate.shape))

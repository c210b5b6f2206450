"""Identities of scalar functions that hold exactly for every element, NaN, infinities and -0.0 included
(``x + 0.0`` is not one: it turns -0.0 into 0.0; ``x + -0.0`` is). Two give a result nearer to the exact one
than the bound of the function they replace: ``pow(x, 2)`` and ``pow(x, 3)``."""

from __future__ import annotations

from math import frexp, isfinite

from vitrify.ir import graph as g
from vitrify.ir.dtypes import BOOL, DType
from vitrify.ir.graph import Value
from vitrify.rewrite.facts import is_zero, mapped, never_negative, number, producer
from vitrify.rewrite.rewriter import Results, Rewriter, rule


@rule(g.Map)
def neutral_elements(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """x * 1, x / 1, x + -0.0, x - 0.0, pow(x, 1), x and true, x or false, x xor 0, shifts by 0 -> x."""
    if len(inputs) != 2:
        return None
    a, b = inputs
    match op.fn:
        case "mul":
            return a if number(b) == 1 else b if number(a) == 1 else None
        case "div" | "quotient" | "pow":
            return a if number(b) == 1 else None
        case "add":
            return a if is_zero(b, -1) else b if is_zero(a, -1) else None
        case "sub" | "shl" | "shr":
            return a if is_zero(b, 1) else None
        case "xor":
            return a if is_zero(b) else b if is_zero(a) else None
        case "and":
            return a if _all_ones(b) else b if _all_ones(a) else None
        case "or":
            return a if is_zero(b) else b if is_zero(a) else None
        case "min" | "max" if a is b:
            return a
    return None


def _all_ones(value: Value) -> bool:
    known = number(value)
    if known is None:
        return False
    return known is True if value.dtype is BOOL else known in (-1, value.dtype.max()) and known != 127


@rule(g.Map)
def absorbing_elements(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """Of integers and bool: x * 0, x and 0 -> 0; x or true -> true; x - x, x xor x -> 0; x == x -> true."""
    if len(inputs) != 2 or inputs[0].dtype.is_float:
        return None
    a, b = inputs
    if op.fn in ("mul", "and") and (is_zero(a) or is_zero(b)):
        return a if is_zero(a) else b
    if op.fn == "or" and a.dtype is BOOL and (number(a) or number(b)):
        return a if number(a) else b
    if a is b and op.fn in ("sub", "xor"):
        return rw.fill(False if a.dtype is BOOL else 0, a.dtype, a.shape)
    if a is b and op.fn in ("eq", "le", "ge", "ne", "lt", "gt"):
        return rw.fill(op.fn in ("eq", "le", "ge"), BOOL, a.shape)
    return None


_TWICE = {  # outer: inner functions on whose results it changes nothing
    "relu": ("relu", "abs", "exp", "sigmoid", "sqrt"),
    "abs": ("abs", "exp", "sigmoid"),
    "floor": ("floor", "ceil", "round", "trunc"),
    "ceil": ("floor", "ceil", "round", "trunc"),
    "round": ("floor", "ceil", "round", "trunc"),
    "trunc": ("floor", "ceil", "round", "trunc"),
    "sign": ("sign",),
}


@rule(g.Map)
def unary_of_unary(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """neg(neg x), not(not x) -> x; relu(relu x) -> relu x; abs(neg x) -> abs x; not(a == b) -> a != b."""
    (x,) = inputs[:1]
    if len(inputs) != 1 or x.node is None or not isinstance(x.node.op, g.Map):
        return None
    inner = x.node.op.fn
    if inner in _TWICE.get(op.fn, ()):
        return x
    if op.fn == inner and inner in ("neg", "not"):
        return x.node.inputs[0]
    if op.fn == "abs" and inner == "neg":
        return rw.map("abs", *x.node.inputs)
    if op.fn == "not" and inner in ("eq", "ne"):
        return rw.map("ne" if inner == "eq" else "eq", *x.node.inputs)
    return None


@rule(g.Map)
def powers(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """pow(x, 2) -> x*x; pow(x, 3) -> x*x*x; pow(x, -1) -> 1/x; where x >= 0, pow(x, 0.5) -> sqrt x
    and pow(x, 0.75) -> sqrt x * sqrt sqrt x (local response normalisation; within 1.8 ulp)."""
    if op.fn != "pow":
        return None
    x, exponent = inputs
    known = number(exponent)
    if known == 2:
        return rw.map("mul", x, x)
    if known == 3:
        return rw.map("mul", rw.map("mul", x, x), x)
    if known == 0:
        return rw.scalar(1, x)
    if known == -1 and x.dtype.is_float:
        return rw.map("div", rw.scalar(1, x), x)
    if known == 0.5 and never_negative(x):
        return rw.map("sqrt", x)
    if known == 0.75 and never_negative(x):
        root = rw.map("sqrt", x)
        return rw.map("mul", root, rw.map("sqrt", root))
    return None


@rule(g.Map)
def divide_by_power_of_two(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """x / 8 -> x * 0.125: both round the same exact quotient."""
    if op.fn != "div":
        return None
    x, divisor = inputs
    known = number(divisor)
    if known is None or not isfinite(known) or abs(frexp(known)[0]) != 0.5:
        return None
    most = (1 << (divisor.dtype.exponent - 1)) - 1
    if not 2.0 ** (1 - most) <= abs(1 / known) <= 2.0**most:  # 1 / c is normal, its error 0
        return None
    return rw.map("mul", x, rw.scalar(1 / known, x))


@rule(g.Map)
def rectify(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """max(x, 0) -> relu(x)."""
    if op.fn != "max" or inputs[0].dtype is BOOL:
        return None
    a, b = inputs
    x = a if is_zero(b, 1) else b if is_zero(a, 1) else None
    return rw.map("relu", x) if x is not None else None


@rule(g.Map)
def subtract_negated(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """a + neg(b) -> a - b; a - neg(b) -> a + b."""
    if op.fn not in ("add", "sub"):
        return None
    a, b = inputs
    negated = mapped(b, "neg")
    if negated is not None:
        return rw.map("sub" if op.fn == "add" else "add", a, negated[0])
    negated = mapped(a, "neg") if op.fn == "add" else None
    return rw.map("sub", b, negated[0]) if negated is not None else None


@rule(g.Cast)
def compose_casts(rw: Rewriter, op: g.Cast, inputs: tuple[Value, ...]) -> Results:
    """cast(cast(x)) -> cast(x) where the one between holds every value of x; a cast to the same dtype
    disappears."""
    (x,) = inputs
    if op.dtype is x.dtype:
        return x
    inner = producer(x, g.Cast)
    if inner is None:
        return None
    source = inner.inputs[0]
    # floats saturate when they become integers, integers wrap: the kind must not change on the way
    alike = source.dtype.is_float == x.dtype.is_float or source.dtype is BOOL or not op.dtype.is_int
    if not (alike and _holds_all(x.dtype, source.dtype)):
        return None
    return rw.cast(source, op.dtype, saturate=op.saturate)


def _holds_all(wide: DType, narrow: DType) -> bool:
    """Every value of ``narrow`` is one of ``wide`` (NaN and infinities included)."""
    if narrow is wide or narrow is BOOL:
        return True
    if wide is BOOL:
        return False
    if narrow.is_float:
        ieee = wide.is_float and wide.bits >= 16
        return ieee and wide.exponent >= narrow.exponent and wide.mantissa >= narrow.mantissa
    if wide.is_float:
        return narrow.bits <= wide.mantissa + 1 and wide.bits >= 32
    return bool(wide.min() <= narrow.min() and wide.max() >= narrow.max())


@rule(g.Reduce)
def compose_reductions(rw: Rewriter, op: g.Reduce, inputs: tuple[Value, ...]) -> Results:
    """max over b of max over a -> max over both; the same for min, any and all, which no order changes."""
    inner = producer(inputs[0], g.Reduce)
    if inner is None or not isinstance(inner.op, g.Reduce) or op.combiner not in ("max", "min", "any", "all"):
        return None
    if inner.op.combiner != op.combiner:
        return None
    source = inner.inputs[0]
    left = [a for a in range(source.rank) if a not in inner.op.axes]
    return rw.reduce(op.combiner, source, [*inner.op.axes, *(left[a] for a in op.axes)])


ARITHMETIC = [
    neutral_elements,
    absorbing_elements,
    unary_of_unary,
    powers,
    divide_by_power_of_two,
    rectify,
    subtract_negated,
    compose_casts,
    compose_reductions,
]

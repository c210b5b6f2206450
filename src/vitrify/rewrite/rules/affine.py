"""Per-channel scales and shifts by constants: merged, and scales folded into the weights of contractions.

Re-association: results differ by a few roundings of the largest term (about 2 ulp of the sum of absolute
products per folded factor); an intermediate that would overflow alone may no longer do so, or the reverse.
"""

from __future__ import annotations

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.builder import broadcast_shapes
from vitrify.ir.graph import Node, Value
from vitrify.rewrite.facts import Array, elements, known_array, producer, same_count
from vitrify.rewrite.rewriter import Results, Rewriter, rule
from vitrify.rewrite.rules.layout import inverse


def _split(value: Value, fn: str) -> tuple[Value, Value] | None:
    """``(y, c)`` where ``value`` is ``fn(y, c)`` with c a constant and y none."""
    node = value.node
    if node is None or not isinstance(node.op, g.Map) or node.op.fn != fn or not value.dtype.is_float:
        return None
    return _operands(node.inputs, fn)


def _operands(inputs: tuple[Value, ...], fn: str) -> tuple[Value, Value] | None:
    a, b = inputs
    if constant_source(b) is not None and constant_source(a) is None:
        return a, b
    swapped = fn in ("add", "mul") and constant_source(a) is not None and constant_source(b) is None
    return (b, a) if swapped else None


def constant_source(value: Value) -> Array | None:
    """The array behind a constant, perhaps expanded."""
    node = producer(value, g.Expand)
    return (value if node is None else node.inputs[0]).constant


def _merged(rw: Rewriter, fn: str, a: Value, b: Value) -> Value | None:
    """``fn`` of two constants, where the result is finite and takes no more memory than both."""
    first, second = constant_source(a), constant_source(b)
    if first is None or second is None:
        return None
    shape = broadcast_shapes([first.shape, second.shape])
    if elements(shape) > max(first.size, second.size, 1024):
        return None
    result = rw.map(fn, a, b)
    array = constant_source(result)
    finite = array is not None and bool(np.isfinite(array.astype(np.float64)).all())
    return result if finite else None


@rule(g.Map)
def subtract_constant(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """y - c -> y + (-c), exactly."""
    found = _operands(inputs, "sub") if op.fn == "sub" and inputs[0].dtype.is_float else None
    return rw.map("add", found[0], rw.map("neg", found[1])) if found is not None else None


@rule(g.Map)
def divide_by_constant(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """y / c -> y * (1 / c), where no 1 / c is subnormal or infinite."""
    found = _operands(inputs, "div") if op.fn == "div" else None
    source = constant_source(found[1]) if found is not None else None
    if found is None or source is None:
        return None
    y, c = found
    wide = np.abs(1 / np.where(source == 0, np.nan, source).astype(np.float64))
    least = 2.0 ** (2 - (1 << (y.dtype.exponent - 1)))
    if not np.all(np.isfinite(wide) & (wide >= least) & (wide <= 0.5 / least)):
        return None
    return rw.map("mul", y, rw.map("div", rw.scalar(1, c), c))


@rule(g.Map)
def merge_constants(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """(y + a) + b -> y + (a + b); (y * a) * b -> y * (a * b)."""
    if op.fn not in ("add", "mul"):
        return None
    outer = _operands(inputs, op.fn)
    inner = _split(outer[0], op.fn) if outer is not None else None
    if outer is None or inner is None:
        return None
    both = _merged(rw, op.fn, inner[1], outer[1])
    return rw.map(op.fn, inner[0], both) if both is not None else None


@rule(g.Map)
def scale_before_shift(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """(y + a) * b -> y * b + a * b, where the scale then meets weights or another scale."""
    outer = _operands(inputs, "mul") if op.fn == "mul" else None
    inner = _split(outer[0], "add") if outer is not None else None
    if outer is None or inner is None or not rw.used_once(outer[0]):
        return None
    if _split(inner[0], "mul") is None and not _leads_to_weights(rw, inner[0]):
        return None
    shift = _merged(rw, "mul", inner[1], outer[1])
    return rw.map("add", rw.map("mul", inner[0], outer[1]), shift) if shift is not None else None


@rule(g.Map)
def normalise(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """(y + a) * b + c -> y * b + (a * b + c): a normalisation by constants is one scale and one shift."""
    outer = _operands(inputs, "add") if op.fn == "add" else None
    scaled = _split(outer[0], "mul") if outer is not None else None
    inner = _split(scaled[0], "add") if scaled is not None else None
    if outer is None or scaled is None or inner is None:
        return None
    shift = _merged(rw, "mul", inner[1], scaled[1])
    shift = _merged(rw, "add", shift, outer[1]) if shift is not None else None
    return rw.map("add", rw.map("mul", inner[0], scaled[1]), shift) if shift is not None else None


def _leads_to_weights(rw: Rewriter, value: Value) -> bool:
    """Through movement and shifts that nothing else reads, to a contraction with a constant."""
    while rw.used_once(value):
        node = value.node
        if node is None:
            return False
        if isinstance(node.op, g.Contract):
            return known_array(node.inputs[1]) is not None
        shifted = _split(value, "add")
        if shifted is None and not isinstance(node.op, (g.Permute, g.Reshape)):
            return False
        value = node.inputs[0] if shifted is None else shifted[0]
    return False


def _before_movement(value: Value) -> Value:
    while value.node is not None and isinstance(value.node.op, (g.Permute, g.Reshape)):
        value = value.node.inputs[0]
    return value


@rule(g.Map)
def before_movement(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """permute(y) * c -> permute(y * c), and so for reshapes, on the way to a contraction; for a shift only
    where another one awaits it."""
    found = _operands(inputs, op.fn) if op.fn in ("mul", "add") and inputs[0].dtype.is_float else None
    if found is None or not _leads_to_weights(rw, found[0]):
        return None
    if op.fn == "add" and _split(_before_movement(found[0]), "add") is None:
        return None
    moved, c = found
    node = moved.node
    if node is None:
        return None
    y = node.inputs[0]
    if isinstance(node.op, g.Permute):
        return rw.permute(rw.map(op.fn, y, rw.permute(c, inverse(node.op.perm))), node.op.perm)
    if isinstance(node.op, g.Reshape) and same_count(y.shape, moved.shape):
        before = rw.reshape(c, y.shape)
        return rw.reshape(rw.map(op.fn, y, before), moved.shape) if constant_source(before) is not None else None
    return None


@rule(g.Map)
def scale_weights(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """contract(x, w) * c -> contract(x, w * c), where c is constant and only varies along axes of w."""
    found = _operands(inputs, "mul") if op.fn == "mul" else None
    node = producer(found[0], g.Contract) if found is not None else None
    if found is None or node is None or not rw.used_once(found[0]):
        return None
    contract, (lhs, rhs) = node.op, node.inputs
    factor = _along_weights(rw, node, found[1])
    if factor is None or rhs.constant is None or not isinstance(contract, g.Contract):
        return None
    scaled = rw.map("mul", rhs, factor)
    if scaled.constant is None or not np.isfinite(scaled.constant.astype(np.float64)).all():
        return None
    return rw.one(contract, lhs, scaled)


def _along_weights(rw: Rewriter, node: Node, c: Value) -> Value | None:
    """The factor ``c`` of a contraction's result as one of its right side."""
    op, (lhs, rhs) = node.op, node.inputs
    if not isinstance(op, g.Contract) or rhs.dtype is not c.dtype:
        return None
    expanded = producer(c, g.Expand)
    source = c if expanded is None else expanded.inputs[0]
    batch, left = len(op.lhs_batch), len(op.free(0, lhs.rank))
    if any(n != 1 for n in source.shape[batch : batch + left]):
        return None
    axes = [*op.rhs_batch, *op.free(1, rhs.rank)]  # of the right side, in the order of the result
    squeezed = rw.squeeze(source, *range(batch, batch + left)) if left else source
    ordered = rw.permute(squeezed, sorted(range(len(axes)), key=axes.__getitem__))
    sizes = dict(zip(sorted(axes), ordered.shape, strict=True))
    return rw.expand_to(rw.reshape(ordered, [sizes.get(i, 1) for i in range(rhs.rank)]), rhs.shape)


AFFINE = [
    subtract_constant,
    divide_by_constant,
    merge_constants,
    normalise,
    scale_before_shift,
    before_movement,
    scale_weights,
]

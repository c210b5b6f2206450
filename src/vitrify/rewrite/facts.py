"""What is known of a value from the nodes that make it."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, prod
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, Shape, product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value, is_static

Array = np.ndarray[Any, Any]


def producer(value: Value, structure: type[g.Op]) -> g.Node | None:
    """The node that makes ``value``, where it is of that structure."""
    return value.node if value.node is not None and isinstance(value.node.op, structure) else None


def mapped(value: Value, fn: str) -> tuple[Value, ...] | None:
    """The arguments, where ``value`` is ``fn`` of something."""
    node = value.node
    return node.inputs if node is not None and isinstance(node.op, g.Map) and node.op.fn == fn else None


def element(value: Value) -> Array | None:
    """The one element, as an array of rank 0, of a tensor known to hold the same number everywhere."""
    node = value.node
    if node is not None and isinstance(node.op, g.Expand):
        node = node.inputs[0].node
    if node is not None and isinstance(node.op, g.Constant) and node.op.value.size == 1:
        return node.op.value.reshape(())
    return None


def number(value: Value) -> Any:
    """:func:`element` as a Python number, None where it is not known."""
    array = element(value)
    if array is None:
        return None
    return float(array) if value.dtype.is_float else bool(array) if value.dtype.is_bool else int(array)


def is_zero(value: Value, sign: int | None = None) -> bool:
    """Zero everywhere; for floats with ``sign``, the zero of that sign."""
    known = number(value)
    if known is None or known != 0:
        return False
    return sign is None or not value.dtype.is_float or copysign(1, known) == sign


def known_array(value: Value) -> Array | None:
    """The elements, where compile time knows them: a constant, one expanded (a view), positions."""
    node = value.node
    if node is None or not is_static(value.shape):
        return None
    op = node.op
    if isinstance(op, g.Constant):
        return op.value
    shape = static(value.shape)
    if isinstance(op, g.Expand):
        source = node.inputs[0].constant
        return None if source is None else np.broadcast_to(source, shape)
    if isinstance(op, g.Iota) and prod(shape) <= 1 << 16:
        line = np.arange(shape[op.axis]).astype(op.dtype.numpy)
        return np.broadcast_to(line.reshape([-1 if i == op.axis else 1 for i in range(len(shape))]), shape)
    return None


def stored_elements(value: Value) -> int:
    """Elements of the constant behind ``value``; 0 where there is none."""
    node = value.node
    if node is not None and isinstance(node.op, g.Expand):
        node = node.inputs[0].node
    return node.op.value.size if node is not None and isinstance(node.op, g.Constant) else 0


def static(shape: Shape) -> tuple[int, ...]:
    """The shape as ints; TypeError where it is symbolic."""
    if not is_static(shape):
        raise TypeError(f"{list(shape)} is symbolic")
    return tuple(int(n) for n in shape if isinstance(n, int))


def as_dim(value: Value) -> DimLike | None:
    """The integer that an i64 of rank 0 holds."""
    node = value.node
    if node is None or value.dtype is not I64 or value.rank:
        return None
    if isinstance(node.op, g.DimValue):
        return node.op.value
    return int(node.op.value) if isinstance(node.op, g.Constant) else None


def elements(shape: Sequence[DimLike], symbolic: int = 64) -> int:
    """How many elements, symbolic sizes taken as ``symbolic``: a measure for choosing."""
    return prod(n if isinstance(n, int) else symbolic for n in shape)


def repeated(source: Value, shape: Shape) -> bool:
    """Expanding ``source`` to ``shape`` repeats each element 8 times or more, or it is constant: what can be
    done before the expansion costs next to nothing."""
    return source.constant is not None or elements(source.shape) * 8 <= elements(shape)


def same_count(a: Shape, b: Shape) -> bool:
    """Equally many elements in every run."""
    return product(a) == product(b)


def never_negative(value: Value, depth: int = 8) -> bool:
    """Provably >= 0 or NaN, and never -0.0."""
    node = value.node
    known = number(value)
    if known is not None:
        return bool(known > 0) or is_zero(value, 1)
    if node is None or depth == 0:
        return False
    if isinstance(node.op, g.Map):
        first, last = node.inputs[0], node.inputs[-1]
        if node.op.fn in ("abs", "exp", "exp2", "sigmoid"):
            return True
        if node.op.fn == "mul" and first is last:
            return True
        both = node.op.fn in ("add", "mul", "div", "max", "sqrt")
        return both and never_negative(first, depth - 1) and never_negative(last, depth - 1)
    if isinstance(node.op, g.Pad) and not (node.op.value >= 0 and copysign(1.0, node.op.value) > 0):
        return False
    if isinstance(node.op, (g.Expand, g.Reshape, g.Permute, g.Window, g.Slice, g.Pad)) or (
        isinstance(node.op, g.Reduce) and node.op.combiner == "sum"
    ):
        return never_negative(node.inputs[0], depth - 1)
    return False

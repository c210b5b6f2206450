"""Products of dequantised values become products of the integers they came from.

Sums of integers are exact, and the scales multiply them once: each result is nearer to the exact one than that of
floats, whose products and sums all round. It is what ONNX's QLinearMatMul and QLinearConv compute where a
QuantizeLinear follows, but for where the bias joins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import F32, I8, I16, I32, U8
from vitrify.ir.graph import Op, Value, is_static
from vitrify.rewrite.facts import mapped, producer, static
from vitrify.rewrite.rewriter import Results, Rewriter, rule

Array = np.ndarray[Any, Any]
_LIMIT = 2**31  # sums stay below it


@dataclass(frozen=True)
class Quantized:
    """``movement((x - zero) * scale)``; ``scale`` and ``zero`` broadcast to ``x``."""

    x: Value
    zero: Array
    scale: Array
    movement: tuple[Op, ...]  # the first one applied first


def constant_behind(value: Value) -> Array | None:
    """The elements of a constant that was reshaped, cast, or expanded; not expanded, so they broadcast."""
    node = value.node
    if node is None:
        return None
    if isinstance(node.op, g.Constant):
        return node.op.value
    if not isinstance(node.op, (g.Reshape, g.Expand, g.Cast)):
        return None
    inner = constant_behind(node.inputs[0])
    if inner is None or isinstance(node.op, g.Expand):
        return inner
    if isinstance(node.op, g.Cast):
        return inner.astype(node.op.dtype.numpy) if node.op.dtype in (F32, I32) else None
    fits = is_static(value.shape) and int(np.prod(static(value.shape), dtype=np.int64)) == inner.size
    return inner.reshape(static(value.shape)) if fits else None


def quantized(value: Value) -> Quantized | None:
    """What ``value`` was before DequantizeLinear of bytes, and the movements after it."""
    movement: list[Op] = []
    while value.node is not None and isinstance(value.node.op, (g.Permute, g.Reshape, g.Window, g.Slice, g.Pad)):
        op = value.node.op
        if isinstance(op, g.Pad) and op.value != 0:
            return None
        movement.insert(0, op)
        value = value.node.inputs[0]
    scaled = mapped(value, "mul")
    scale = constant_behind(scaled[1]) if scaled is not None and value.dtype is F32 else None
    cast = producer(scaled[0], g.Cast) if scaled is not None else None
    if cast is None or scale is None:
        return None
    inner, zero = cast.inputs[0], np.zeros((), np.int32)
    less = mapped(inner, "sub")
    if less is not None:
        wide, point = producer(less[0], g.Cast), constant_behind(less[1])
        if wide is None or point is None:
            return None
        inner, zero = wide.inputs[0], point.astype(np.int32)
    if inner.dtype not in (I8, U8) or not np.isfinite(scale).all():
        return None
    return Quantized(inner, zero, scale, tuple(movement))


@rule(g.Contract)
def integer_product(rw: Rewriter, op: g.Contract, inputs: tuple[Value, ...]) -> Results:
    """contract((x - p) * s, (w - q) * t) -> (contract(x, w - q) - p * sum(w - q)) * (s * t), for constant w and p
    of one element, where i32 holds the sums for sure."""
    left = quantized(inputs[0]) if op.dtype is F32 else None
    right = quantized(inputs[1]) if left is not None else None
    if left is None or right is None or left.zero.size != 1 or left.scale.size != 1:
        return None
    weights = _weights(right)
    shape = op.infer([v.type for v in inputs])[0].shape
    columns = shape[len(op.lhs_batch) + len(op.free(0, inputs[0].rank)) :]
    if weights is None or not columns or not is_static(columns) or np.prod(static(columns), dtype=np.int64) < 2:
        return None
    steps = _moved_scale(right, weights[1].shape)
    point = int(left.zero.reshape(()))
    if steps is None or not _holds(op, left, point, weights[1]) or any(steps.shape[a] != 1 for a in op.rhs_contract):
        return None
    x = left.x
    for moved in left.movement:
        x = rw.one(g.Pad(moved.low, moved.high, point) if isinstance(moved, g.Pad) else moved, x)
    lhs_batch, rhs_batch, over = op.lhs_batch, op.rhs_batch, (op.lhs_contract, op.rhs_contract)
    total = rw.contract(x, rw.constant(weights[1], weights[0]), batch=(lhs_batch, rhs_batch), over=over, dtype=I32)
    if point:
        sums = weights[1].astype(np.int64).sum(op.rhs_contract, keepdims=True).astype(np.int32) * np.int32(point)
        total = rw.map("sub", total, _as_result(rw, op, sums, shape, len(inputs[0].shape)))
    factor = steps.astype(np.float32) * np.float32(left.scale.reshape(()))
    scales = _as_result(rw, op, factor, shape, len(inputs[0].shape))
    return rw.map("mul", rw.cast(total, F32), scales)


def _weights(right: Quantized) -> tuple[Any, Array] | None:
    """Constant weights less their zero points, after the movements, in the narrowest type."""
    constant = right.x.constant
    plain = all(isinstance(m, (g.Permute, g.Reshape)) and _static(m) for m in right.movement)
    if constant is None or not plain:
        return None
    array = constant.astype(np.int16) - right.zero.astype(np.int16)
    for moved in right.movement:
        array = _apply(moved, array)
    fits = array.size and array.min() >= -128 and array.max() <= 127
    return (I8, np.ascontiguousarray(array.astype(np.int8))) if fits else (I16, np.ascontiguousarray(array))


def _static(op: Op) -> bool:
    return not isinstance(op, g.Reshape) or is_static(op.shape)


def _apply(op: Op, array: Array) -> Array:
    if isinstance(op, g.Permute):
        return array.transpose(op.perm)
    assert isinstance(op, g.Reshape)
    return array.reshape(static(op.shape))


def _moved_scale(right: Quantized, shape: tuple[int, ...]) -> Array | None:
    """The scales as they broadcast to the moved weights; None where a reshape mixes their axis with others."""
    if right.scale.size == 1:
        return right.scale.reshape((1,) * len(shape))
    before = static(right.x.shape)
    if right.scale.ndim != len(before):
        return None
    whole = np.broadcast_to(right.scale, before)
    for moved in right.movement:
        whole = _apply(moved, whole)
    for axis in range(whole.ndim):
        first = whole.take([0], axis)
        if whole.shape[axis] > 1 and (whole == first).all():
            whole = first
    return whole


def _holds(op: g.Contract, left: Quantized, point: int, weights: Array) -> bool:
    """Whether no sum reaches 2^31, whatever x is."""
    terms = int(np.prod([weights.shape[a] for a in op.rhs_contract], dtype=np.int64))
    low, high = int(left.x.dtype.min()), int(left.x.dtype.max())
    most = max(abs(low - point), abs(high - point), abs(low), abs(high))
    greatest = int(np.abs(weights.astype(np.int32)).max()) if weights.size else 0
    return 2 * terms * most * greatest < _LIMIT


def _as_result(rw: Rewriter, op: g.Contract, array: Array, shape: tuple[DimLike, ...], rank: int) -> Value:
    """An array over the right operand (contracted axes of size 1) over the result: batch, left, right."""
    free = op.free(1, array.ndim)
    turned = array.transpose((*op.rhs_batch, *free, *op.rhs_contract))
    batch, columns = turned.shape[: len(op.rhs_batch)], turned.shape[len(op.rhs_batch) : len(op.rhs_batch) + len(free)]
    rows = (1,) * len(op.free(0, rank))
    return rw.expand_to(rw.constant(np.ascontiguousarray(turned.reshape((*batch, *rows, *columns)))), shape)


QUANTIZED = [integer_product]

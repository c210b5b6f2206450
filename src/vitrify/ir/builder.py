"""Building graphs: each method adds one structure (or the few that broadcasting takes) to its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import I64, DType
from vitrify.ir.graph import Graph, Node, Op, Type, TypeRuleError, Value


class Builder:
    """Appends nodes in order. ``source`` is stamped on every node added while it is set."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.source = ""

    @contextmanager
    def sourced(self, source: str) -> Iterator[None]:
        before, self.source = self.source, source
        try:
            yield
        finally:
            self.source = before

    def add(self, op: Op, *inputs: Value, names: Sequence[str] = ()) -> tuple[Value, ...]:
        """The op's results. Raises :class:`TypeRuleError`."""
        node = g.make_node(op, inputs, self.source, names)
        self.nodes.append(node)
        return node.outputs

    def one(self, op: Op, *inputs: Value) -> Value:
        (value,) = self.add(op, *inputs)
        return value

    # sources
    def constant(self, array: Any, dtype: DType | None = None) -> Value:
        value = np.asarray(array, dtype.numpy if dtype else None)
        return self.one(g.Constant(value if value.flags.c_contiguous else np.ascontiguousarray(value)))

    def scalar(self, number: float | int | bool, like: Value) -> Value:
        """``number`` in the dtype and shape of ``like``."""
        return self.fill(number, like.dtype, like.shape)

    def fill(self, number: float | int | bool, dtype: DType, shape: Shape) -> Value:
        return self.expand_to(self.constant(number, dtype), shape)

    def iota(self, shape: Shape, axis: int, dtype: DType = I64) -> Value:
        return self.one(g.Iota(tuple(shape), axis, dtype))

    def dim(self, value: DimLike) -> Value:
        return self.one(g.DimValue(value))

    # elementwise
    def map(self, fn: str, *inputs: Value) -> Value:
        """NumPy broadcasting, then ``fn``."""
        return self.one(g.Map(fn), *self.broadcast(*inputs))

    def cast(self, x: Value, dtype: DType, *, saturate: bool = True) -> Value:
        return x if x.dtype is dtype else self.one(g.Cast(dtype, saturate), x)

    def bit_cast(self, x: Value, dtype: DType) -> Value:
        return x if x.dtype is dtype else self.one(g.BitCast(dtype), x)

    def broadcast(self, *inputs: Value) -> tuple[Value, ...]:
        """All inputs expanded to their common shape. Raises :class:`TypeRuleError` where there is none."""
        shape = broadcast_shapes([x.shape for x in inputs])
        return tuple(self.expand_to(x, shape) for x in inputs)

    def expand_to(self, x: Value, shape: Shape) -> Value:
        """``x`` with leading axes added and axes of size 1 repeated."""
        shape = tuple(shape)
        if x.rank < len(shape):
            x = self.reshape(x, (1,) * (len(shape) - x.rank) + x.shape)
        return x if x.shape == shape else self.one(g.Expand(shape), x)

    # movement
    def reshape(self, x: Value, shape: Sequence[DimLike]) -> Value:
        return x if x.shape == tuple(shape) else self.one(g.Reshape(tuple(shape)), x)

    def permute(self, x: Value, perm: Sequence[int]) -> Value:
        return x if list(perm) == list(range(x.rank)) else self.one(g.Permute(tuple(perm)), x)

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """Axes of size 1 at these places of the result."""
        rank = x.rank + len(axes)
        at = {a % rank for a in axes}
        old = iter(x.shape)
        return self.reshape(x, [1 if i in at else next(old) for i in range(rank)])

    def squeeze(self, x: Value, *axes: int) -> Value:
        at = {a % x.rank for a in axes}
        return self.reshape(x, [n for i, n in enumerate(x.shape) if i not in at])

    def slice_axis(self, x: Value, axis: int, start: DimLike, size: DimLike, step: int = 1) -> Value:
        starts: list[DimLike] = [0] * x.rank
        steps, sizes = [1] * x.rank, list(x.shape)
        starts[axis], steps[axis], sizes[axis] = start, step, size
        if (start, size, step) == (0, x.shape[axis], 1):
            return x
        return self.one(g.Slice(tuple(starts), tuple(steps), tuple(sizes)), x)

    def slice(
        self, x: Value, starts: Sequence[DimLike], steps: Sequence[int], sizes: Sequence[DimLike]
    ) -> Value:
        return self.one(g.Slice(tuple(starts), tuple(steps), tuple(sizes)), x)

    def pad(
        self, x: Value, low: Sequence[DimLike], high: Sequence[DimLike], value: float | int | bool = 0
    ) -> Value:
        if all(isinstance(v, int) and v == 0 for v in (*low, *high)):
            return x
        return self.one(g.Pad(tuple(low), tuple(high), value), x)

    def flip(self, x: Value, *axes: int) -> Value:
        return self.one(g.Flip(tuple(axes)), x)

    def window(
        self,
        x: Value,
        axes: Sequence[int],
        sizes: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
    ) -> Value:
        return self.one(g.Window(tuple(axes), tuple(sizes), tuple(strides), tuple(dilations)), x)

    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        return inputs[0] if len(inputs) == 1 else self.one(g.Concat(axis), *inputs)

    # reductions and contractions
    def reduce(self, combiner: str, x: Value, axes: Sequence[int], *, keepdims: bool = False) -> Value:
        axes = tuple(sorted(a % x.rank for a in axes))
        if not axes:
            return x
        result = self.one(g.Reduce(combiner, axes), x)
        return self.unsqueeze(result, *axes) if keepdims else result

    def contract(
        self,
        lhs: Value,
        rhs: Value,
        *,
        batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
        over: tuple[Sequence[int], Sequence[int]],
        dtype: DType | None = None,
    ) -> Value:
        """``over`` and ``batch`` are (axes of lhs, axes of rhs); see :class:`vitrify.ir.graph.Contract`."""
        op = g.Contract(tuple(batch[0]), tuple(batch[1]), tuple(over[0]), tuple(over[1]), dtype or lhs.dtype)
        return self.one(op, lhs, rhs)

    def gather(self, x: Value, axis: int, *indices: Value) -> Value:
        return self.one(g.Gather(axis), x, *indices)

    def scatter(self, x: Value, axis: int, updates: Value, *indices: Value, combiner: str = "replace") -> Value:
        """See :class:`vitrify.ir.graph.Scatter`."""
        return self.one(g.Scatter(combiner, axis), x, updates, *indices)

    def sort(
        self, x: Value, axis: int, *, count: DimLike | None = None, descending: bool = False
    ) -> tuple[Value, Value]:
        """The first ``count`` (all) elements along the axis in order, and their positions; see
        :class:`vitrify.ir.graph.Sort`."""
        axis %= x.rank
        values, positions = self.add(g.Sort(axis, x.shape[axis] if count is None else count, descending), x)
        return values, positions

    def suppress(self, boxes: Value, order: Value, valid: Value, limit: Value, threshold: Value) -> Value:
        """See :class:`vitrify.ir.graph.Suppress`."""
        return self.one(g.Suppress(), boxes, order, valid, limit, threshold)

    def build(
        self,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        name: str = "",
        symbols: dict[str, Dim] | None = None,
    ) -> Graph:
        names = tuple(v.name for v in outputs)
        return Graph(tuple(inputs), tuple(outputs), self.nodes, name, dict(symbols or {}), [], names)


def parameter(name: str, dtype: DType, shape: Sequence[DimLike]) -> Value:
    """An input of a graph."""
    return Value(Type(dtype, tuple(shape)), name)


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule. A symbolic size against 1 gives the symbolic one; two different symbolic sizes are
    refused, since only one of them being 1 would make them fit."""
    rank = max(len(s) for s in shapes)
    result: list[DimLike] = []
    for axis in range(rank):
        sizes = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(sizes) > 1:
            raise TypeRuleError("shapes do not broadcast: " + ", ".join(str(list(s)) for s in shapes))
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)

"""Gathers."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.body import Array, Contents
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.symbolic import objects, plain
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Iota, Value


def from_front(n: Call, indices: Value, extent: DimLike, held: Array | None) -> Value:
    """Indices with negative ones counted from the front; constants are checked here."""
    if held is not None and held.size:
        low, high = int(held.min()), int(held.max())
        if isinstance(extent, int):
            n.check(-extent <= low and high < extent, f"indices {low} .. {high} of an axis of size {extent}")
            return indices if low >= 0 else n.b.constant(np.where(held < 0, held + extent, held))
        if low >= 0:
            return indices
    if indices.dtype.min() == 0 or (indices.node is not None and isinstance(indices.node.op, Iota)):
        return indices
    size = n.b.cast(n.b.dim(extent), indices.dtype) if not isinstance(extent, int) else n.number(extent, indices)
    return n.map("where", n.map("lt", indices, n.number(0, indices)), n.map("add", indices, size), indices)


@op("Gather")
def gather(n: Call) -> Value:
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis", 0), x.rank)
    held = n.constant(1)
    size = x.shape[axis]
    if held is not None and held.ndim == 0 and isinstance(size, int):
        at = n.axis(int(held), size)
        return n.b.squeeze(n.b.slice_axis(x, axis, at, 1), axis)
    return n.b.gather(x, axis, from_front(n, n.value(1), x.shape[axis], held))


@symbolic("Gather")
def gather_contents(n: Call, x: Contents, indices: Contents) -> Contents | None:
    axis = n.axis(n.attributes.integer("axis", 0), x.ndim)
    at = plain(indices)
    if at is None:
        return None
    size = x.shape[axis]
    n.check(all(-size <= i < size for i in at), f"indices {at} of an axis of size {size}")
    return objects(np.take(x, np.array(at, np.int64).reshape(indices.shape), axis))


def _positions(n: Call, shape: tuple[DimLike, ...], axis: int) -> Value:
    return n.b.iota(shape, axis, I64)


@op("GatherElements", since=11)
def gather_elements(n: Call) -> Value:
    """A gather over all axes, whose other indices are the positions themselves."""
    x, indices = n.value(0), n.value(1)
    axis = n.axis(n.attributes.integer("axis", 0), x.rank)
    n.check(indices.rank == x.rank, f"indices of rank {indices.rank} for a tensor of rank {x.rank}")
    chosen = n.b.cast(from_front(n, indices, x.shape[axis], n.constant(1)), I64)
    places = [chosen if i == axis else _positions(n, indices.shape, i) for i in range(x.rank)]
    return n.b.gather(x, 0, *places)


@op("GatherND", since=11)
def gather_nd(n: Call) -> Value:
    x, indices = n.value(0), n.value(1)
    batch = n.attributes.integer("batch_dims", 0)
    depth = indices.shape[-1] if indices.rank else 0
    if not isinstance(depth, int):
        n.unsupported("indices whose length only a run knows")
    n.check(0 <= batch < indices.rank and 1 <= depth <= x.rank - batch, f"indices {indices.type} of {x.type}")
    shape = indices.shape[:-1]
    places = [_positions(n, shape, i) for i in range(batch)]
    held = n.constant(1)
    for i in range(depth):
        part = n.b.squeeze(n.b.slice_axis(indices, indices.rank - 1, i, 1), -1)
        constant = None if held is None else np.ascontiguousarray(held[..., i])
        places.append(n.b.cast(from_front(n, part, x.shape[batch + i], constant), I64))
    return n.b.gather(x, 0, *places)


@op("OneHot", since=9)
def one_hot(n: Call) -> Value:
    """``values[1]`` where the position along the new axis is the index, else ``values[0]``."""
    indices, values = n.value(0), n.value(2)
    n.check(n.length(1) == 1 and n.tensor(2).shape == (2,), f"depth and values {values.type}")
    depth = n.dims(1)
    if depth is None:
        held = n.constant(1)
        n.check(held is None or bool(np.isfinite(held).all()), "depth is no number")
        depth = [n.bind(n.value(1)) if held is None else int(held.reshape(-1)[0])]
    axis = n.axis(n.attributes.integer("axis", -1), indices.rank + 1)
    wide = n.b.cast(indices, I64)
    size = n.b.constant(depth[0], I64) if isinstance(depth[0], int) else n.b.dim(depth[0])
    front = n.map("where", n.map("lt", wide, n.number(0, wide)), n.map("add", wide, size), wide)
    shape = (*indices.shape[:axis], depth[0], *indices.shape[axis:])
    hit = n.map("eq", n.b.iota(shape, axis), n.b.unsqueeze(front, axis))
    off, on = (n.b.reshape(n.b.slice_axis(values, 0, i, 1), ()) for i in range(2))
    return n.map("where", hit, on, off)

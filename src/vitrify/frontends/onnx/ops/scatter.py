"""Scatters, and what is written with them: MaxUnpool, Col2Im, cache updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.generator import sizes_of
from vitrify.frontends.onnx.ops.indexing import from_front
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv, maximum, product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value

_REDUCTIONS = {"none": "replace", "add": "sum", "mul": "prod", "min": "min", "max": "max"}
_OF_BOOLS = {"sum": "max", "prod": "min"}


def _scattered(n: Call, x: Value, updates: Value, *places: Value) -> Value:
    """Over the first axes of ``x``, combined as the node says."""
    reduction = n.attributes.text("reduction", "none")
    n.check(reduction in _REDUCTIONS, f"reduction is {reduction!r}, not one of {', '.join(_REDUCTIONS)}")
    combiner = _REDUCTIONS[reduction]
    n.check(updates.dtype is x.dtype, f"updates of {updates.dtype} for a tensor of {x.dtype}")
    combiner = _OF_BOOLS.get(combiner, combiner) if x.dtype.is_bool else combiner
    return n.b.scatter(x, 0, updates, *places, combiner=combiner)


@op("Scatter", since=9)
@op("ScatterElements", since=11)
def scatter_elements(n: Call) -> Value:
    """A scatter over all axes, whose other indices are the positions themselves."""
    x, indices, updates = (n.value(i) for i in range(3))
    axis = n.axis(n.attributes.integer("axis", 0), x.rank)
    n.check(indices.rank == x.rank, f"indices of rank {indices.rank} for a tensor of rank {x.rank}")
    for a, (size, extent) in enumerate(zip(indices.shape, x.shape, strict=True)):
        known = isinstance(size, int) and isinstance(extent, int) and a != axis
        n.check(not known or size <= extent, f"indices {indices.type} for {x.type}: axis {a} is too long")  # type: ignore[operator]
    chosen = n.b.cast(from_front(n, indices, x.shape[axis], n.constant(1)), I64)
    places = [chosen if a == axis else n.b.iota(indices.shape, a) for a in range(x.rank)]
    return _scattered(n, x, n.match(updates, indices.shape), *places)


@op("ScatterND", since=11)
def scatter_nd(n: Call) -> Value:
    x, indices, updates = (n.value(i) for i in range(3))
    depth = indices.shape[-1] if indices.rank else 0
    if not isinstance(depth, int):
        n.unsupported("indices whose length only a run knows")
    n.check(1 <= depth <= x.rank, f"indices {indices.type} of {x.type}")
    held = n.constant(1)
    places = []
    for a in range(depth):
        part = n.b.squeeze(n.b.slice_axis(indices, indices.rank - 1, a, 1), -1)
        constant = None if held is None else np.ascontiguousarray(held[..., a])
        places.append(n.b.cast(from_front(n, part, x.shape[a], constant), I64))
    return _scattered(n, x, n.match(updates, (*indices.shape[:-1], *x.shape[depth:])), *places)


@op("TensorScatter", since=24)
def tensor_scatter(n: Call) -> Value:
    """Entries of a cache from a position on, one position per batch entry; ``circular`` wraps around."""
    cache, update = n.value(0), n.value(1)
    mode = n.attributes.text("mode", "linear")
    n.check(mode in ("linear", "circular"), f"mode is {mode!r}, not linear or circular")
    axis = n.axis(n.attributes.integer("axis", -2), cache.rank)
    n.check(axis > 0, "axis is 0, that of the batch")
    n.check(update.rank == cache.rank, f"update {update.type} for a cache {cache.type}")
    length = update.shape[axis]
    update = n.match(update, (*cache.shape[:axis], length, *cache.shape[axis + 1 :]))
    n.check(update.dtype is cache.dtype, f"update {update.type} for a cache {cache.type}")
    extent = cache.shape[axis]
    fits = not isinstance(length, int) or not isinstance(extent, int) or length <= extent
    n.check(fits, f"update {update.type} is longer than the cache {cache.type}")
    shape = cache.shape[:axis] + (length,)
    places = [n.b.iota(shape, a) for a in range(axis + 1)]
    if n.has(2):
        start = n.match(n.value(2), cache.shape[:1])
        places[axis] = n.map("add", places[axis], n.b.reshape(start, (cache.shape[0], *(1 for _ in range(axis)))))
    if mode == "circular" and extent != 0:
        places[axis] = n.map("floormod", places[axis], n.b.cast(_number(n, extent), I64))
    return n.b.scatter(cache, 0, update, *places)


def _number(n: Call, size: DimLike) -> Value:
    return n.b.constant(size, I64) if isinstance(size, int) else n.b.dim(size)


def _spatial(n: Call, name: str, count: int, default: int, least: int) -> list[int]:
    """One integer per spatial axis."""
    given = n.attributes.integers(name)
    result = [default] * count if given is None else given
    n.check(len(result) == count, f"{name} has {len(result)} entries, not {count}")
    n.check(all(v >= least for v in result), f"{name} {result} has entries below {least}")
    return result


@op("MaxUnpool", since=9)
def max_unpool(n: Call) -> Value:
    """Each element back to where it was the greatest. Positions count through the whole result; a larger
    ``output_shape`` adds zeros behind each axis."""
    x, indices = n.value(0), n.value(1)
    kernel = n.attributes.integers("kernel_shape")
    if kernel is None:
        n.invalid("kernel_shape is missing")
    n.check(x.rank >= 3, f"a tensor of rank {x.rank}, not 3 or more")
    count = x.rank - 2
    n.check(len(kernel) == count and min(kernel) >= 1, f"kernel_shape {kernel} for {x.type}")
    strides = _spatial(n, "strides", count, 1, 1)
    pads = _spatial(n, "pads", 2 * count, 0, 0)
    sizes: list[DimLike] = [
        (extent - 1) * strides[a] + kernel[a] - pads[a] - pads[count + a] for a, extent in enumerate(x.shape[2:])
    ]
    n.check(all(not isinstance(s, int) or s >= 0 for s in sizes), f"pads {pads} leave sizes {list(map(str, sizes))}")
    shape = (*x.shape[:2], *(maximum(s, 0) for s in sizes))
    total = product(shape)
    flat = n.b.fill(0, x.dtype, (total,))
    elements = product(x.shape)
    places = n.b.reshape(n.match(indices, x.shape), (elements,))
    result = n.b.reshape(n.b.scatter(flat, 0, n.b.reshape(x, (elements,)), places), shape)
    if not n.has(2):
        return result
    wanted = sizes_of(n, 2)
    n.check(len(wanted) == x.rank, f"output_shape has {len(wanted)} entries, not {x.rank}")
    more = [a - b for a, b in zip(wanted, shape, strict=True)]
    known = [a for a in more if isinstance(a, int)]
    n.check(min(known, default=0) >= 0, f"output_shape {list(map(str, wanted))} is below {list(map(str, shape))}")
    return n.b.pad(result, [0] * x.rank, more, 0)


@op("Col2Im", since=18)
def col2im(n: Call) -> Value:
    """Columns added up where they lie in the padded image: a scatter over its axes, then the border cut off."""
    x = n.value(0)
    image, block = sizes_of(n, 1), sizes_of(n, 2)
    count = len(image)
    n.check(x.rank == 3, f"a tensor of rank {x.rank}, not 3")
    n.check(count >= 1 and len(block) == count, f"a block of {len(block)} axes for an image of {count}")
    n.check(all(not isinstance(b, int) or b >= 1 for b in block), f"a block of {list(map(str, block))}")
    strides, dilations = _spatial(n, "strides", count, 1, 1), _spatial(n, "dilations", count, 1, 1)
    pads = _spatial(n, "pads", 2 * count, 0, 0)
    padded = [pads[a] + size + pads[count + a] for a, size in enumerate(image)]
    blocks = [
        floordiv(padded[a] - (block[a] - 1) * dilations[a] - 1, strides[a]) + 1 for a in range(count)
    ]  # fmt: skip
    fits = all(not isinstance(b, int) or b >= 0 for b in blocks)
    n.check(fits, f"a block of {list(map(str, block))} does not fit an image of {list(map(str, image))}")
    channels = floordiv(x.shape[1], product(block))
    x = n.match(x, (x.shape[0], channels * product(block), product(blocks)))
    shape = (*block, *blocks)
    places = _in_image(n, shape, strides, dilations)
    updates = n.b.reshape(x, (x.shape[0], channels, *shape))
    empty = n.b.fill(0, x.dtype, (x.shape[0], channels, *padded))
    whole = n.b.scatter(empty, 2, updates, *places, combiner="max" if x.dtype.is_bool else "sum")
    for a, size in enumerate(image):
        whole = n.b.slice_axis(whole, 2 + a, pads[a], size)
    return whole


def _in_image(n: Call, shape: Sequence[DimLike], strides: Sequence[int], dilations: Sequence[int]) -> list[Value]:
    """Per axis: block number * stride + position in the block * dilation, over [block.., number..]."""
    count, places = len(strides), []
    for a in range(count):
        inside = n.b.map("mul", n.b.iota(tuple(shape), a), n.b.constant(dilations[a], I64))
        start = n.b.map("mul", n.b.iota(tuple(shape), count + a), n.b.constant(strides[a], I64))
        places.append(n.b.map("add", start, inside))
    return places


@op("ReverseSequence", since=10)
def reverse_sequence(n: Call) -> Value:
    """Along one of the first two axes, the first ``lengths`` positions of each entry of the other turned."""
    x = n.value(0)
    time, batch = n.attributes.integer("time_axis", 0), n.attributes.integer("batch_axis", 1)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    n.check({time, batch} == {0, 1}, f"time_axis {time} and batch_axis {batch}, not 0 and 1")
    lengths = n.b.cast(n.match(n.value(1), (x.shape[batch],)), I64)
    shape = x.shape[:2]
    held = n.constant(1)
    extent = x.shape[time]
    if held is not None and held.size and isinstance(extent, int):
        inside = int(held.min()) >= 0 and int(held.max()) <= extent
        n.check(inside, f"lengths {int(held.min())} .. {int(held.max())} of an axis of size {extent}")
    step = n.b.iota(shape, time)
    length = n.b.expand_to(n.b.unsqueeze(lengths, time), shape)
    turned = n.b.map("sub", n.b.map("sub", length, n.b.constant(1, I64)), step)
    at = n.b.map("where", n.b.map("lt", step, length), turned, step)
    return n.b.gather(x, 0, *(at if a == time else n.b.iota(shape, a) for a in range(2)))

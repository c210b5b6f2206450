"""CenterCropPad."""

from __future__ import annotations

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.generator import sizes_of
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv, maximum, minimum
from vitrify.ir.graph import Value


@op("CenterCropPad", since=18)
def center_crop_pad(n: Call) -> Value:
    """Each axis cut down to the middle of it, or set in the middle of zeros."""
    x = n.value(0)
    given = n.attributes.integers("axes")
    axes = tuple(range(x.rank)) if given is None else n.axes(given, x.rank)
    sizes = sizes_of(n, 1)
    n.check(len(sizes) == len(axes), f"{len(sizes)} sizes for {len(axes)} axes")
    starts: list[DimLike] = [0] * x.rank
    low, high = list(starts), list(starts)
    kept, target = list(x.shape), list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        own = x.shape[axis]
        target[axis], kept[axis] = size, minimum(own, size)
        starts[axis] = floordiv(maximum(0, own - size), 2)
        low[axis] = floordiv(maximum(0, size - own), 2)
        high[axis] = maximum(0, size - own) - low[axis]
    cut = x if tuple(kept) == x.shape else n.b.slice(x, starts, [1] * x.rank, kept)
    return n.b.reshape(n.b.pad(cut, low, high), target)

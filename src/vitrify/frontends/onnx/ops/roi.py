"""Pooling of regions of interest. How finely a region is sampled may be its own: the finest one sizes the run, but
however large a region is, only its samples near the tensor are taken."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term, positions, size_term
from vitrify.frontends.onnx.ops.convolution import channels_first, channels_last
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Value

LARGEST = 3.4e38  # what a number is finite up to


@dataclass(frozen=True)
class Samples:
    """Along one axis: two elements per sample [R, bins, samples, 2], their weights (0 outside the tensor), and
    which samples the bin has [R, 1 or bins, samples]. ``count`` is how many it has in all, f32[R]; ``left_out``
    [R, bins] says where some of them are not here, since they lie outside; None where all are here."""

    index: Term
    weight: Term
    taken: Term
    count: Term
    left_out: Term | None


def _samples(n: Call, start: Term, length: Term, bins: int, ratio: int, size: DimLike) -> Samples:
    dtype = start.value.dtype
    width = length / bins
    extent = size_term(n, size, dtype)
    base = start.unsqueeze(1) + positions(n, bins, dtype) * width.unsqueeze(1)  # [R, bins]
    left_out = None
    if ratio > 0:
        most: DimLike = ratio
        count = number_term(n, ratio, dtype) + start * 0
        taken = (positions(n, most, dtype) < count.unsqueeze(1)).unsqueeze(1)
    else:
        count = width.apply("ceil")
        count = (count.apply("abs") <= LARGEST).pick(count, 0)  # NaN and infinite regions have no samples
        most = n.bind(count.reduce("max", 0).least((extent + 1) * 2 + 4).most(1).cast(I64).value)
        first = _first(n, start, width, count, bins)
        spacing = (width.cast(F64) / count.cast(F64)).unsqueeze(1)
        base = (first > 0).pick((base.cast(F64) + first * spacing).cast(dtype), base)
        rest = count.cast(F64).unsqueeze(1) - first
        taken = positions(n, most, F64) < rest.unsqueeze(2)
        left_out = (first > 0) | (rest > size_term(n, most, F64))
    step = (positions(n, most, dtype) + 0.5) * width.unsqueeze(1) / count.unsqueeze(1)  # [R, samples]
    at = base.unsqueeze(2) + step.unsqueeze(1)
    inside = (at >= -1) & (at <= extent)
    at = at.clip(0, extent - 1)
    low = at.apply("floor")
    part = at - low
    index = [low, (low + 1).least(extent - 1)]
    weight = [inside.pick(1 - part, 0), inside.pick(part, 0)]
    return Samples(_pair(index).cast(I64).clip(0, size_term(n, size) - 1), _pair(weight), taken, count, left_out)


def _first(n: Call, start: Term, width: Term, count: Term, bins: int) -> Term:
    """How many samples of each bin f64[R, bins] lie before the tensor, less one in case of rounding. Those of bins
    with several lie more than 1/2 apart, so twice the tensor's extent covers what follows."""
    wide = width.cast(F64).unsqueeze(1)
    number = count.cast(F64).unsqueeze(1)
    corner = start.cast(F64).unsqueeze(1) + positions(n, bins, F64) * wide
    return (((-1 - corner) * number / wide - 0.5).apply("ceil") - 1).clip(0, number)


def _pair(both: list[Term]) -> Term:
    n, last = both[0].n, both[0].value.rank
    return Term(n, n.b.concat([t.unsqueeze(last).value for t in both], last))


def _rows(t: Term) -> Term:
    """[R, bins, samples, 2] of the height to [R, bins, 1, samples, 1, 2, 1]."""
    return t.unsqueeze(2, 4, 6)


def _columns(t: Term) -> Term:
    """[R, bins, samples, 2] of the width to [R, 1, bins, 1, samples, 1, 2]."""
    return t.unsqueeze(1, 3, 5)


def _planes(n: Call) -> Value:
    x = n.value(0)
    n.check(x.rank == 4, f"a tensor of rank {x.rank}, not 4")
    for size in x.shape[2:]:
        n.check(size != 0, f"{x.type} has no elements to pool")
    return x


@op("RoiAlign", since=10)
def roi_align(n: Call) -> Value:
    x, a = _planes(n), n.attributes
    mode = a.text("mode", "avg").lower()
    n.check(mode in ("avg", "max"), f"mode is {mode!r}, not avg or max")
    high, wide = a.integer("output_height", 1), a.integer("output_width", 1)
    ratio = a.integer("sampling_ratio", 0)
    n.check(high >= 1 and wide >= 1 and ratio >= 0, f"an output of {high} by {wide}, sampling_ratio {ratio}")
    half = False
    if n.opset >= 16:
        kind = a.text("coordinate_transformation_mode", "half_pixel").lower()
        known = ("half_pixel", "output_half_pixel")
        n.check(kind in known, f"coordinate_transformation_mode is {kind!r}, not one of {', '.join(known)}")
        half = kind == "half_pixel"
    rois, batch = n.value(1), n.value(2)
    n.check(rois.rank == 2 and batch.rank == 1, f"regions {rois.type} of the images {batch.type}")
    rois = n.match(rois, (batch.shape[0], 4))
    dtype = F64 if x.dtype is F64 else F32
    box = Term(n, rois).cast(dtype) * a.number("spatial_scale", 1.0) - (0.5 if half else 0)
    left, top, right, bottom = (box.item(1, i) for i in range(4))
    sides = [bottom - top, right - left]
    if not half:
        sides = [s.most(1) for s in sides]
    ys = _samples(n, top, sides[0], high, ratio, x.shape[2])
    xs = _samples(n, left, sides[1], wide, ratio, x.shape[3])
    image = Term(n, batch).cast(I64).unsqueeze(*range(1, 7))
    index = n.broadcast(image.value, _rows(ys.index).value, _columns(xs.index).value)
    seen = Term(n, n.b.gather(n.b.cast(channels_last(n, x), dtype), 0, *index))
    weight = _rows(ys.weight) * _columns(xs.weight)
    # what has no weight counts as 0, infinities too
    part = weight.differs(0).unsqueeze(7).pick(seen * weight.unsqueeze(7), 0)
    taken = (ys.taken.unsqueeze(2, 4, 5, 6) & xs.taken.unsqueeze(1, 3, 5, 6)).unsqueeze(7)
    if mode == "avg":
        total = taken.pick(part, 0).reduce("sum", 3, 4, 5, 6)
        out = total / (ys.count * xs.count).most(1).unsqueeze(1, 2, 3)
    else:
        best = taken.pick(part, float("-inf")).reduce("max", 3, 4, 5, 6)
        if ys.left_out is not None and xs.left_out is not None:
            zero = (ys.left_out.unsqueeze(2) | xs.left_out.unsqueeze(1)).unsqueeze(3)
            best = zero.pick(best.most(0), best)
        some = (ys.count > 0) & (xs.count > 0)
        out = some.unsqueeze(1, 2, 3).pick(best, 0)
    return n.b.cast(channels_first(n, out.value), x.dtype)


@op("MaxRoiPool")
def max_roi_pool(n: Call) -> Value:
    """The maximum of each bin of whole elements; bins outside the tensor give 0."""
    x, rois = _planes(n), n.value(1)
    shape = n.attributes.integers("pooled_shape") or []
    n.check(len(shape) == 2 and min(shape) >= 1, f"pooled_shape is {shape}, not two sizes")
    n.check(rois.rank == 2, f"regions {rois.type}, not of rank 2")
    dtype = F64 if x.dtype is F64 else F32
    box = Term(n, n.match(rois, (rois.shape[0], 5))).cast(dtype)
    corner = _rounded(box.part(1, 1, 4) * n.attributes.number("spatial_scale", 1.0))
    rows = _bins(n, corner.item(1, 1), corner.item(1, 3), shape[0], x.shape[2])
    columns = _bins(n, corner.item(1, 0), corner.item(1, 2), shape[1], x.shape[3])
    image = box.item(1, 0)
    image = image.equals(image).pick(image, -1).cast(I64).unsqueeze(1, 2, 3, 4)  # NaN is no image
    index = n.broadcast(image.value, rows[0].unsqueeze(2, 4).value, columns[0].unsqueeze(1, 3).value)
    seen = Term(n, n.b.gather(channels_last(n, x), 0, *index))  # [R, PH, PW, H', W', C]
    taken = (rows[1].unsqueeze(2, 4) & columns[1].unsqueeze(1, 3)).unsqueeze(5)
    best = taken.pick(seen, float("-inf")).reduce("max", 3, 4)
    some = taken.reduce("any", 3, 4)
    return channels_first(n, some.pick(best, 0).value)


def _rounded(x: Term) -> Term:
    """To the nearest whole number, halves away from zero."""
    whole = (x.apply("abs") + 0.5).apply("floor")
    return (x < 0).pick(-whole, whole)


def _bins(n: Call, start: Term, end: Term, bins: int, size: DimLike) -> tuple[Term, Term]:
    """Positions i64[R, bins, most] along one axis and whether they lie in the bin."""
    dtype = start.value.dtype
    width = ((end - start + 1).most(1) / bins).unsqueeze(1)
    k, extent = positions(n, bins, dtype), size_term(n, size, dtype)
    first = ((k * width).apply("floor") + start.unsqueeze(1)).clip(0, extent)
    last = (((k + 1) * width).apply("ceil") + start.unsqueeze(1)).clip(0, extent)
    most = n.bind((last - first).reduce("max", 0, 1).most(1).cast(I64).value)
    at = first.unsqueeze(2) + positions(n, most, dtype)
    return at.cast(I64).clip(0, size_term(n, size) - 1), at < last.unsqueeze(2)

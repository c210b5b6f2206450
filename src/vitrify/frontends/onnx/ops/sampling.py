"""Sampling at positions that other tensors give: GridSample, AffineGrid, DeformConv. Channels last inside."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term, positions, size_term
from vitrify.frontends.onnx.ops.convolution import channels_first, channels_last, spatial_of
from vitrify.frontends.onnx.ops.generator import sizes_of
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv
from vitrify.ir.dtypes import F32, F64, I64, DType
from vitrify.ir.graph import Value

MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic", "bicubic": "cubic"}
PADDINGS = ("zeros", "border", "reflection")
CUBIC = -0.75  # the coefficient of ONNX and PyTorch


def _computed_in(dtype: DType) -> DType:
    return F64 if dtype is F64 else F32


def _reflected(x: Term, low: Term, high: Term) -> Term:
    """``x`` mirrored at both ends until it lies between them."""
    span = high - low
    beyond = (x < low).pick(low - x, (x > high).pick(x - high, 0))
    turns = (beyond / span).apply("trunc")
    rest = (span > 0).pick(beyond - turns * span, 0)
    half = turns * 0.5
    even = half.apply("floor").equals(half)
    near_low = (x < low).value
    starts_low = Term(x.n, x.n.map("eq", near_low, even.value))  # both or neither: counted from the low end
    inside = starts_low.pick(low + rest, high - rest)
    return ((x < low) | (x > high)).pick(inside, x)


class _Axis:
    """One axis of the sampled tensor: where its taps are, what they weigh, and which exist. [*P, taps]"""

    def __init__(self, n: Call, size: DimLike, at: Term, mode: str, padding: str, align: bool) -> None:
        dtype = at.value.dtype
        extent = size_term(n, size, dtype)
        self.low = number_term(n, 0 if align else -0.5, dtype)
        self.high = extent - (1 if align else 0.5)
        at = at.apply("round") if mode == "nearest" else at
        if padding == "border" and mode != "cubic":  # whose taps are clamped each, as PyTorch does it
            at = ((at < self.low) | (at > self.high)).pick(at.clip(0, extent - 1), at)
        elif padding == "reflection":
            at = _reflected(at, self.low, self.high)
        first, taps = {"nearest": (0, 1), "linear": (0, 2), "cubic": (-1, 4)}[mode]
        base = at if mode == "nearest" else at.apply("floor")
        rest = at - base
        place = base.unsqueeze(base.value.rank) + (positions(n, taps, dtype) + first)
        if padding == "reflection":
            place = _reflected(place, self.low, self.high).apply("trunc")
        self.exists = (place >= 0) & (place <= extent - 1) if padding == "zeros" else None
        self.index = place.cast(I64).clip(0, size_term(n, size) - 1)
        self.weight = None if mode == "nearest" else _weights(rest, mode)


def _weights(rest: Term, mode: str) -> Term:
    n, last = rest.n, rest.value.rank
    if mode == "linear":
        each = [1 - rest, rest]
    else:
        a = CUBIC
        far, near = rest + 1, 1 - rest
        beyond = near + 1
        each = [
            ((a * far - 5 * a) * far + 8 * a) * far - 4 * a,
            ((a + 2) * rest - (a + 3)) * rest * rest + 1,
            ((a + 2) * near - (a + 3)) * near * near + 1,
            ((a * beyond - 5 * a) * beyond + 8 * a) * beyond - 4 * a,
        ]
    return Term(n, n.b.concat([t.unsqueeze(last).value for t in each], last))


def sampled(n: Call, x: Value, at: Sequence[Term], mode: str, padding: str, *, align: bool) -> Value:
    """``x`` [B, *D, C] at one position per axis of D, each [B, *P], to [B, *P, C]; positions count elements."""
    rank, points = len(at), at[0].value.rank
    for size in x.shape[1:-1]:
        n.check(size != 0, f"{x.type} has no elements to sample")
    axes = [_Axis(n, x.shape[i + 1], a, mode, padding, align) for i, a in enumerate(at)]

    def spread(t: Term, axis: int) -> Term:
        """[*P, taps] to [*P, 1.., taps, ..1]."""
        return t.unsqueeze(*(points + i for i in range(rank) if i != axis))

    batch = positions(n, x.shape[0], I64).unsqueeze(*range(1, points + rank))
    index = n.broadcast(batch.value, *(spread(a.index, i).value for i, a in enumerate(axes)))
    seen = Term(n, n.b.gather(x, 0, *index))
    exists, weight = _product(axes, spread)
    if exists is not None:
        seen = exists.unsqueeze(points + rank).pick(seen, 0)
    if weight is not None:
        seen = seen * weight.cast(seen.value.dtype).unsqueeze(points + rank)
    taps = range(points, points + rank)
    return n.b.squeeze(seen.value, *taps) if mode == "nearest" else seen.reduce("sum", *taps).value


def _product(axes: Sequence[_Axis], spread: object) -> tuple[Term | None, Term | None]:
    assert callable(spread)
    exists: Term | None = None
    weight: Term | None = None
    for i, axis in enumerate(axes):
        if axis.exists is not None:
            here = spread(axis.exists, i)
            exists = here if exists is None else exists & here
        if axis.weight is not None:
            factor = spread(axis.weight, i)
            weight = factor if weight is None else weight * factor
    return exists, weight


@op("GridSample", since=16)
def grid_sample(n: Call) -> Value:
    x, grid = n.value(0), n.value(1)
    rank = x.rank - 2
    mode = n.attributes.text("mode", "linear")
    padding = n.attributes.text("padding_mode", "zeros")
    align = n.attributes.flag("align_corners")
    n.check(mode in MODES, f"mode is {mode!r}, not one of {', '.join(MODES)}")
    n.check(padding in PADDINGS, f"padding_mode is {padding!r}, not one of {', '.join(PADDINGS)}")
    n.check(rank >= 1 and grid.rank == x.rank, f"a grid {grid.type} for {x.type}")
    grid = n.match(grid, (x.shape[0], *grid.shape[1:-1], rank))
    places = Term(n, grid).cast(_computed_in(grid.dtype))
    at = []
    for axis, size in enumerate(x.shape[2:]):
        g = places.item(-1, rank - 1 - axis)  # the grid names the last axis first
        extent = size_term(n, size, g.value.dtype)
        at.append((g + 1) * 0.5 * (extent - 1) if align else ((g + 1) * extent - 1) * 0.5)
    kind = MODES[mode]
    dtype = x.dtype if kind == "nearest" else _computed_in(x.dtype)
    out = sampled(n, n.b.cast(channels_last(n, x), dtype), at, kind, padding, align=align)
    return n.b.cast(channels_first(n, out), x.dtype)


@op("AffineGrid", since=20)
def affine_grid(n: Call) -> Value:
    """``theta @ (x, y, .., 1)`` at every position, in coordinates from -1 to 1."""
    theta = n.value(0)
    align = n.attributes.flag("align_corners")
    sizes = sizes_of(n, 1)
    rank = len(sizes) - 2
    n.check(rank in (2, 3), f"a size of {len(sizes)} numbers, not 4 or 5")
    n.check(theta.rank == 3, f"theta is {theta.type}, not of rank 3")
    theta = n.match(theta, (sizes[0], rank, rank + 1))
    dtype = _computed_in(theta.dtype)
    wide = Term(n, theta).cast(dtype)
    axes = []
    for i, size in enumerate(sizes[2:]):
        step, extent = positions(n, size, dtype), size_term(n, size, dtype)
        line = step * (2 / (extent - 1).most(1)) - 1 if align else (step * 2 + 1) / extent - 1
        if align:
            line = (extent > 1).pick(line, 0)
        axes.append(line.reshape(*(size if j == i else 1 for j in range(rank))))
    rows = []
    for k in range(rank):
        factors = [wide.item(1, k).item(1, j).reshape(sizes[0], *[1] * rank) for j in range(rank + 1)]
        total = factors[rank]
        for j, line in enumerate(reversed(axes)):  # theta's first column is for the last axis
            total = total + factors[j] * line
        rows.append(n.b.expand_to(total.unsqueeze(rank + 1).value, (sizes[0], *sizes[2:], 1)))
    return n.b.cast(n.b.concat(rows, rank + 1), theta.dtype)


@op("DeformConv", since=19)
def deform_conv(n: Call) -> Value:
    """A convolution whose taps are moved by offsets, and weighed by a mask."""
    x, w = n.value(0), n.value(1)
    rank = x.rank - 2
    n.check(rank >= 1 and w.rank == x.rank, f"a convolution of {x.type} with {w.type}")
    kernel = tuple(k for k in w.shape[2:] if isinstance(k, int))
    if len(kernel) < rank:
        n.unsupported(f"a kernel of the symbolic shape {w.type}")
    given = n.attributes.integers("kernel_shape")
    n.check(given is None or tuple(given) == kernel, f"kernel_shape {given} differs from the weights {w.type}")
    group, offset_group = n.attributes.integer("group", 1), n.attributes.integer("offset_group", 1)
    n.check(group >= 1 and offset_group >= 1, f"group is {group}, offset_group {offset_group}")
    x = n.match_axis(x, 1, w.shape[1] * group)
    n.check(floordiv(x.shape[1], offset_group) * offset_group == x.shape[1], f"{x.type} in {offset_group} groups")
    n.check(floordiv(w.shape[0], group) * group == w.shape[0], f"{w.shape[0]} filters in {group} groups")
    seen = _deformed(n, x, kernel, offset_group)  # [N, *O, C, *K]
    outs = seen.shape[1 : rank + 1]
    seen = n.b.reshape(seen, (x.shape[0], *outs, group, w.shape[1], *kernel))
    weights = n.b.reshape(w, (group, floordiv(w.shape[0], group), *w.shape[1:]))
    over = (range(rank + 2, seen.rank), range(2, weights.rank))
    out = n.b.contract(seen, weights, batch=([rank + 1], [0]), over=over)
    out = n.b.reshape(n.b.permute(out, [*range(1, rank + 2), 0, rank + 2]), (x.shape[0], *outs, w.shape[0]))
    bias = n.optional(3)
    if bias is not None:
        out = n.b.map("add", out, n.match(bias, (w.shape[0],)))
    return channels_first(n, out)


def _deformed(n: Call, x: Value, kernel: tuple[int, ...], groups: int) -> Value:
    """What every tap sees: [N, *O, C, *K]."""
    rank, taps = len(kernel), prod(kernel)
    s = spatial_of(n, x.shape[2:], kernel)
    offset = n.value(2)
    n.check(offset.rank == x.rank, f"offsets {offset.type} for {x.type}")
    outs = []
    for i, size in enumerate(x.shape[2:]):
        span = size + s.low[i] + s.high[i] - (kernel[i] - 1) * s.dilations[i] - 1
        outs.append(floordiv(span, s.strides[i]) + 1)
    batch, channels = x.shape[0], x.shape[1]
    moved = Term(n, n.match(offset, (batch, groups * taps * rank, *outs)))
    dtype = _computed_in(x.dtype)
    moved = moved.cast(dtype).reshape(batch * groups, *kernel, rank, *outs)
    at = []
    for i in range(rank):
        shape = [1] * (2 * rank + 1)
        tap = (positions(n, kernel[i], dtype) * s.dilations[i]).reshape(*_at(shape, 1 + i, kernel[i]))
        place = positions(n, outs[i], dtype) * s.strides[i] - size_term(n, s.low[i], dtype)
        at.append(moved.item(rank + 1, i) + tap + place.reshape(*_at(shape, 1 + rank + i, outs[i])))
    each = floordiv(channels, groups)
    split = n.b.reshape(x, (batch * groups, each, *x.shape[2:]))
    seen = sampled(n, n.b.cast(channels_last(n, split), dtype), at, "linear", "zeros", align=True)
    if n.has(4):
        mask = n.match(n.value(4), (batch, groups * taps, *outs))
        wide = n.b.cast(n.b.reshape(mask, (batch * groups, *kernel, *outs, 1)), dtype)
        seen = n.map("mul", seen, wide)
    seen = n.b.reshape(n.b.cast(seen, x.dtype), (batch, groups, *kernel, *outs, each))
    order = [0, *range(2 + rank, 2 + 2 * rank), 1, 2 + 2 * rank, *range(2, 2 + rank)]
    seen = n.b.permute(seen, order)  # [N, *O, groups, each, *K]
    return n.b.reshape(seen, (batch, *outs, channels, *kernel))


def _at(shape: Sequence[DimLike], axis: int, size: DimLike) -> list[DimLike]:
    return [size if i == axis else d for i, d in enumerate(shape)]

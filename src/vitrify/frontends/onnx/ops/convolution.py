"""Convolutions: a contraction over windows, channels last inside."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, ceildiv, floordiv, maximum
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Value


@dataclass(frozen=True)
class Spatial:
    """How windows lie on the spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    low: tuple[DimLike, ...]
    high: tuple[DimLike, ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)


def _attribute(n: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
    values = n.attributes.integers(name)
    result = tuple([default] * rank if values is None else values)
    n.check(
        len(result) == rank and min(result, default=1) >= 1,
        f"{name} is {list(result)} for {rank} spatial axes",
    )
    return result


def spatial_of(n: Call, sizes: tuple[DimLike, ...], kernel: tuple[int, ...]) -> Spatial:
    """Strides, dilations and padding from the attributes; ``auto_pad`` may depend on the sizes."""
    rank = len(sizes)
    strides = _attribute(n, "strides", rank, 1)
    dilations = _attribute(n, "dilations", rank, 1)
    pads = n.attributes.integers("pads")
    auto = n.attributes.text("auto_pad", "NOTSET")
    n.check(auto in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad is {auto!r}")
    low: list[DimLike] = [0] * rank
    high: list[DimLike] = [0] * rank
    if auto == "NOTSET" and pads is not None:
        n.check(len(pads) == 2 * rank and min(pads, default=0) >= 0, f"pads are {pads} for {rank} spatial axes")
        low, high = list(pads[:rank]), list(pads[rank:])
    elif auto.startswith("SAME"):
        for i, size in enumerate(sizes):
            span = (kernel[i] - 1) * dilations[i] + 1
            total = maximum(0, (ceildiv(size, strides[i]) - 1) * strides[i] + span - size)
            half = floordiv(total, 2)
            low[i], high[i] = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
    return Spatial(kernel, strides, dilations, tuple(low), tuple(high))


def channels_last(n: Call, x: Value) -> Value:
    """[N, C, *S] to [N, *S, C]."""
    return n.b.permute(x, [0, *range(2, x.rank), 1])


def channels_first(n: Call, x: Value) -> Value:
    """[N, *S, C] to [N, C, *S]."""
    return n.b.permute(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def padded(n: Call, x: Value, s: Spatial, value: float | int = 0) -> Value:
    """A border around the spatial axes of [N, *S, C]."""
    return n.b.pad(x, [0, *s.low, 0], [0, *s.high, 0], value)


def _kernel_of(n: Call, w: Value) -> tuple[int, ...]:
    kernel = tuple(d for d in w.shape[2:] if isinstance(d, int))
    if len(kernel) < w.rank - 2:
        n.unsupported(f"a kernel of the symbolic shape {w.type}")
    given = n.attributes.integers("kernel_shape")
    n.check(given is None or tuple(given) == kernel, f"kernel_shape {given} differs from the weights {w.type}")
    return kernel


def convolve(n: Call, x: Value, w: Value, dtype: DType | None = None, border: int = 0) -> Value:
    """x [N, C, *S], w [M, C/G, *K] to [N, *O, M], channels last. The padding is of ``border``."""
    n.check(x.rank >= 3 and w.rank == x.rank, f"a convolution of {x.type} with {w.type}")
    group = n.attributes.integer("group", 1)
    n.check(group >= 1, f"group is {group}")
    channels = w.shape[1] * group
    if x.shape[1] != channels:
        n.assume(x.shape[1], channels)
        x = n.match_axis(x, 1, channels)
    s = spatial_of(n, x.shape[2:], _kernel_of(n, w))
    framed = padded(n, channels_last(n, x), s, border)
    axes = list(range(1, s.rank + 1))
    if group == 1:
        seen = n.b.window(framed, axes, s.kernel, s.strides, s.dilations)  # [N, *O, C, *K]
        return n.b.contract(seen, w, over=(range(s.rank + 1, seen.rank), range(1, w.rank)), dtype=dtype)
    return _grouped(n, framed, w, s, group, dtype)


def _grouped(n: Call, border: Value, w: Value, s: Spatial, group: int, dtype: DType | None) -> Value:
    filters = floordiv(w.shape[0], group)
    n.check(filters * group == w.shape[0], f"{w.shape[0]} filters in {group} groups")
    split = n.b.reshape(border, (*border.shape[:-1], group, w.shape[1]))
    seen = n.b.window(split, list(range(1, s.rank + 1)), s.kernel, s.strides, s.dilations)  # [N, *O, G, C/G, *K]
    weights = n.b.reshape(w, (group, filters, *w.shape[1:]))
    out = n.b.contract(
        seen,
        weights,
        batch=([s.rank + 1], [0]),
        over=(range(s.rank + 2, seen.rank), range(2, weights.rank)),
        dtype=dtype,
    )  # [G, N, *O, M/G]
    out = n.b.permute(out, [*range(1, s.rank + 2), 0, s.rank + 2])
    return n.b.reshape(out, (*out.shape[:-2], w.shape[0]))


@op("Conv")
def conv(n: Call) -> Value:
    out = convolve(n, n.value(0), n.value(1))
    bias = n.optional(2)
    if bias is not None:
        n.check(bias.rank == 1, f"a bias of {bias.type}, not of rank 1")
        out = n.b.map("add", out, n.match(bias, (out.shape[-1],)))
    return channels_first(n, out)


@op("ConvTranspose")
def conv_transpose(n: Call) -> Value:
    """A convolution of the input with zeros between its elements and the kernel turned around."""
    x, w = n.value(0), n.value(1)
    rank = x.rank - 2
    n.check(rank >= 1 and w.rank == x.rank, f"a convolution of {x.type} with {w.type}")
    group = n.attributes.integer("group", 1)
    kernel = _kernel_of(n, w)
    strides, dilations = _attribute(n, "strides", rank, 1), _attribute(n, "dilations", rank, 1)
    low, high = _transposed_pads(n, x.shape[2:], kernel, strides, dilations)
    spread = _spread(n, channels_last(n, x), strides)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    before = [r - p for r, p in zip(reach, low, strict=True)]
    after = [r - p for r, p in zip(reach, high, strict=True)]
    border = _fitted(n, spread, before, after)
    # [C, M/G, *K] to [M, C/G, *K], turned around
    filters, inner = w.shape[1], floordiv(w.shape[0], group)
    split = n.b.reshape(w, (group, inner, *w.shape[1:]))
    swapped = n.b.permute(split, [0, 2, 1, *range(3, split.rank)])
    turned = n.b.flip(swapped, *range(3, split.rank))
    seen = n.b.window(
        n.b.reshape(border, (*border.shape[:-1], group, inner)),
        range(1, rank + 1),
        kernel,
        [1] * rank,
        dilations,
    )
    over = (range(rank + 2, seen.rank), range(2, turned.rank))
    out = n.b.contract(seen, turned, batch=([rank + 1], [0]), over=over)
    out = n.b.permute(out, [*range(1, rank + 2), 0, rank + 2])
    out = n.b.reshape(out, (*out.shape[:-2], filters * group))
    bias = n.optional(2)
    if bias is not None:
        out = n.b.map("add", out, n.match(bias, (out.shape[-1],)))
    return channels_first(n, out)


def _spread(n: Call, x: Value, strides: tuple[int, ...]) -> Value:
    """``stride - 1`` zeros after every element but the last of each spatial axis of [N, *S, C]."""
    for i, stride in enumerate(strides):
        if stride == 1:
            continue
        axis = i + 1
        size = x.shape[axis]
        wide = n.b.unsqueeze(x, axis + 1)
        high = [stride - 1 if a == axis + 1 else 0 for a in range(wide.rank)]
        wide = n.b.pad(wide, [0] * wide.rank, high)
        merged = n.b.reshape(wide, (*x.shape[:axis], size * stride, *x.shape[axis + 1 :]))
        x = n.b.slice_axis(merged, axis, 0, size * stride - (stride - 1))
    return x


def _fitted(n: Call, x: Value, before: list[DimLike], after: list[DimLike]) -> Value:
    """A border on the spatial axes of [N, *S, C]; negative amounts cut."""
    for i, (lo, hi) in enumerate(zip(before, after, strict=True)):
        cut_lo = -lo if isinstance(lo, int) and lo < 0 else 0
        cut_hi = -hi if isinstance(hi, int) and hi < 0 else 0
        if cut_lo or cut_hi:
            x = n.b.slice_axis(x, i + 1, cut_lo, x.shape[i + 1] - cut_lo - cut_hi)
    low = [maximum(0, v) for v in before]
    high = [maximum(0, v) for v in after]
    return n.b.pad(x, [0, *low, 0], [0, *high, 0])


def _transposed_pads(
    n: Call,
    sizes: tuple[DimLike, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[list[DimLike], list[DimLike]]:
    """What is cut from the full result on each side, ``output_padding`` taken off the high side."""
    rank = len(sizes)
    extra = n.attributes.integers("output_padding") or [0] * rank
    wanted = n.attributes.integers("output_shape")
    n.check(len(extra) == rank, f"output_padding is {extra} for {rank} spatial axes")
    n.check(wanted is None or len(wanted) in (rank, rank + 2), f"output_shape is {wanted}")
    pads = n.attributes.integers("pads")
    auto = n.attributes.text("auto_pad", "NOTSET")
    n.check(auto in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad is {auto!r}")
    if wanted is None and not auto.startswith("SAME"):
        given = pads if pads is not None and auto == "NOTSET" else [0] * (2 * rank)
        n.check(len(given) == 2 * rank, f"pads are {given} for {rank} spatial axes")
        return list(given[:rank]), [p - e for p, e in zip(given[rank:], extra, strict=True)]
    low: list[DimLike] = []
    high: list[DimLike] = []
    for i, size in enumerate(sizes):
        target = size * strides[i] if wanted is None else wanted[len(wanted) - rank + i]
        full = (size - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
        total = full - target
        half = floordiv(total, 2)
        first, second = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        low.append(first)
        high.append(second - extra[i])
    return low, high

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


def per_axis(n: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
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
    strides = per_axis(n, "strides", rank, 1)
    dilations = per_axis(n, "dilations", rank, 1)
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


def kernel_of(n: Call, w: Value) -> tuple[int, ...]:
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
    s = spatial_of(n, x.shape[2:], kernel_of(n, w))
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

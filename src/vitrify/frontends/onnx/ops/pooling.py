"""Pooling: reductions over windows, channels last inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import Spatial, channels_first, channels_last, padded, spatial_of
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.dims import DimLike, maximum, minimum, product, provably_nonnegative
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value, windows


def _spatial(n: Call, x: Value) -> tuple[Spatial, Spatial]:
    """The windows as the attributes give them, and with the border that ``ceil_mode`` adds."""
    n.check(x.rank >= 3, f"a tensor of rank {x.rank}, not 3 or more")
    kernel = tuple(n.attributes.integers("kernel_shape") or ())
    n.check(len(kernel) == x.rank - 2 and min(kernel) >= 1, f"kernel_shape is {list(kernel)} for {x.type}")
    s = spatial_of(n, x.shape[2:], kernel)
    if not n.attributes.flag("ceil_mode"):
        return s, s
    high: list[DimLike] = []
    for i, size in enumerate(x.shape[2:]):
        total = size + s.low[i] + s.high[i]
        count = windows(total, kernel[i], s.strides[i], s.dilations[i], ceil=True)
        # the last window starts inside the tensor or its low border
        late = (count - 1) * s.strides[i] - (size + s.low[i])
        if provably_nonnegative(late):
            count = count - 1
        elif not provably_nonnegative(-late - 1):
            count = minimum(count, (size + s.low[i] - 1) // s.strides[i] + 1)
        reach = (count - 1) * s.strides[i] + (kernel[i] - 1) * s.dilations[i] + 1
        high.append(s.high[i] + maximum(0, reach - total))
    return s, replace(s, high=tuple(high))


def _windows(n: Call, x: Value, s: Spatial, value: float | int) -> Value:
    """[N, *S, C] to [N, *O, C, *K]."""
    return n.b.window(padded(n, x, s, value), range(1, s.rank + 1), s.kernel, s.strides, s.dilations)


def _combined(n: Call, combiner: str, x: Value, s: Spatial, border: float | int) -> Value:
    """The elements of each window combined: [N, *S, C] to [N, *O, C]. Axis by axis where windows overlap so much that
    this is less work; not for sums of narrow floats, which would be rounded in between."""
    rounded = combiner == "sum" and x.dtype.is_float and x.dtype.bits < 32
    if rounded or not _worth_parting(x.shape[1:-1], s):
        seen = _windows(n, x, s, border)
        return n.b.reduce(combiner, seen, range(s.rank + 2, seen.rank))
    for i in range(s.rank):
        low, high = ([side[i] if a == i + 1 else 0 for a in range(x.rank)] for side in (s.low, s.high))
        framed = n.b.pad(x, low, high, border)
        seen = n.b.window(framed, [i + 1], [s.kernel[i]], [s.strides[i]], [s.dilations[i]])
        x = n.b.reduce(combiner, seen, [x.rank])
    return x


def _worth_parting(sizes: Sequence[DimLike], s: Spatial) -> bool:
    """Whether windows combined along one axis after the other take much less work than all at once."""
    before = [size if isinstance(size, int) else SYMBOLIC for size in sizes]
    pads = [sum(p if isinstance(p, int) else 0 for p in pair) for pair in zip(s.low, s.high, strict=True)]
    after = [
        (size + pad - (k - 1) * d - 1) // stride + 1
        for size, pad, k, stride, d in zip(before, pads, s.kernel, s.strides, s.dilations, strict=True)
    ]
    parted = sum(prod((*after[: i + 1], *before[i + 1 :])) * k for i, k in enumerate(s.kernel))
    return s.rank > 1 and min(s.kernel) > 1 and PARTING * parted <= prod(after) * prod(s.kernel)


SYMBOLIC = 64  # what a symbolic size is taken for
PARTING = 1.6  # an operation more, for what is stored and loaded in between


@op("MaxPool")
def max_pool(n: Call) -> Sequence[Result]:
    x = n.value(0)
    column_major = n.attributes.flag("storage_order")
    _, s = _spatial(n, x)
    planes = channels_last(n, x)
    if n.wanted[1:2] != [True]:
        return [channels_first(n, _combined(n, "max", planes, s, x.dtype.min()))]
    seen = _windows(n, planes, s, x.dtype.min())
    out = n.b.reduce("max", seen, range(s.rank + 2, seen.rank))
    return [channels_first(n, out), channels_first(n, _indices(n, x, seen, s, column_major))]


def _indices(n: Call, x: Value, seen: Value, s: Spatial, column_major: bool) -> Value:
    """Where in the tensor, flattened, each maximum is."""
    shape = seen.shape[: s.rank + 2]
    inside = n.b.reduce("argmax", n.b.reshape(seen, (*shape, product(s.kernel))), [s.rank + 2])
    sizes = x.shape[2:]
    strides: list[DimLike] = [1] * s.rank
    order = range(1, s.rank) if column_major else range(s.rank - 2, -1, -1)
    for i in order:
        near = i - 1 if column_major else i + 1
        strides[i] = strides[near] * sizes[near]
    plane = n.map("add", n.map("mul", n.b.iota(shape, 0), _number(n, x.shape[1])), n.b.iota(shape, s.rank + 1))
    total = n.map("mul", plane, _number(n, product(sizes)))
    for i in range(s.rank):
        below = product(s.kernel[i + 1 :])
        step = n.map("floormod", n.map("quotient", inside, _number(n, below)), _number(n, s.kernel[i]))
        start = n.map("mul", n.b.iota(shape, i + 1), _number(n, s.strides[i]))
        at = n.map("add", start, n.map("mul", step, _number(n, s.dilations[i])))
        at = n.map("sub", at, _number(n, s.low[i]))
        total = n.map("add", total, n.map("mul", at, _number(n, strides[i])))
    return total


def _number(n: Call, value: DimLike) -> Value:
    return n.b.constant(value, I64) if isinstance(value, int) else n.b.dim(value)


@op("AveragePool")
def average_pool(n: Call) -> Value:
    total, count = sums_and_counts(n, n.value(0))
    return channels_first(n, n.map("div", total, count))


def sums_and_counts(n: Call, x: Value) -> tuple[Value, Value]:
    """Of x [N, C, *S] the sums of its windows [N, *O, C], and how many elements each covers, to broadcast."""
    include = n.attributes.flag("count_include_pad")
    plain, s = _spatial(n, x)
    return _combined(n, "sum", channels_last(n, x), s, 0), _count(n, x, plain, s, include)


def _count(n: Call, x: Value, plain: Spatial, s: Spatial, include: bool) -> Value:
    """How many elements each window covers: [*O, 1], or a number where all cover the same."""
    result: Value | None = None
    number = 1
    for i, size in enumerate(x.shape[2:]):
        covered = size + plain.low[i] + plain.high[i] if include else size
        low: DimLike = 0 if include else s.low[i]
        high = s.high[i] - plain.high[i] if include else s.high[i]
        if (low, high) == (0, 0):
            number *= s.kernel[i]
            continue
        along = _axis_count(n, x, covered, low, high, s, i)
        along = n.b.reshape(along, (*along.shape, *([1] * (s.rank - i))))
        result = along if result is None else n.map("mul", result, along)
    if result is None:
        return n.number(number, x)
    return result if number == 1 else n.map("mul", result, n.number(number, result))


def _axis_count(n: Call, x: Value, size: DimLike, low: DimLike, high: DimLike, s: Spatial, axis: int) -> Value:
    args = (s.kernel[axis], s.strides[axis], s.dilations[axis])
    if isinstance(size, int) and isinstance(low, int) and isinstance(high, int) and low + high < CONSTANT_COUNTS - size:
        ones = np.pad(np.ones(size, np.int64), (low, high))
        span = (args[0] - 1) * args[2] + 1
        counts = [ones[i : i + span : args[2]].sum() for i in range(0, len(ones) - span + 1, args[1])]
        return n.b.constant(np.array(counts, np.int64).astype(x.dtype.numpy))
    ones_value = n.b.pad(n.b.fill(1, x.dtype, (size,)), [low], [high])
    return n.b.reduce("sum", n.b.window(ones_value, [0], [args[0]], [args[1]], [args[2]]), [1])


CONSTANT_COUNTS = 2**16  # longer axes count their windows in the run


@op("LpPool")
def lp_pool(n: Call) -> Value:
    """``sum(|x| ** p) ** (1 / p)`` over windows."""
    x = n.value(0)
    order = float(n.attributes.integer("p", 2)) if n.opset >= 2 else n.attributes.number("p", 2.0)
    _, s = _spatial(n, x)
    powers = power_of(n, n.b.map("abs", channels_last(n, x)), order)
    return channels_first(n, power_of(n, _combined(n, "sum", powers, s, 0), 1 / order))


def power_of(n: Call, x: Value, exponent: float) -> Value:
    if exponent == 1:
        return x
    if exponent == 2:
        return n.b.map("mul", x, x)
    return n.b.map("sqrt", x) if exponent == 0.5 else n.map("pow", x, n.number(exponent, x))


def _everywhere(n: Call) -> tuple[Value, range]:
    x = n.value(0)
    n.check(x.rank >= 3, f"a tensor of rank {x.rank}, not 3 or more")
    return x, range(2, x.rank)


def mean_over(n: Call, x: Value, axes: Sequence[int], *, keepdims: bool) -> Value:
    """The mean; integers divide like integers."""
    total = n.b.reduce("sum", x, axes, keepdims=keepdims)
    count = product(x.shape[a] for a in axes)
    divisor = n.number(count, x) if isinstance(count, int) else n.b.cast(n.b.dim(count), x.dtype)
    return n.map("div" if x.dtype.is_float else "quotient", total, divisor)


@op("GlobalAveragePool")
def global_average_pool(n: Call) -> Value:
    return mean_over(n, *_everywhere(n), keepdims=True)


@op("GlobalMaxPool")
def global_max_pool(n: Call) -> Value:
    x, axes = _everywhere(n)
    return n.b.reduce("max", x, axes, keepdims=True)


@op("GlobalLpPool")
def global_lp_pool(n: Call) -> Value:
    x, axes = _everywhere(n)
    order = float(n.attributes.integer("p", 2)) if n.opset >= 2 else n.attributes.number("p", 2.0)
    return power_of(n, n.b.reduce("sum", power_of(n, n.b.map("abs", x), order), axes, keepdims=True), 1 / order)

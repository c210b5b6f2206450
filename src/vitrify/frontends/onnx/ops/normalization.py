"""Normalisations and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import channels_first, channels_last
from vitrify.frontends.onnx.ops.pooling import mean_over, power_of
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.dims import DimLike, floordiv, product
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Value


# Softmax
def softmax_of(n: Call, x: Value, axis: int) -> Value:
    top = n.b.reduce("max", x, [axis], keepdims=True)
    powers = n.b.map("exp", n.map("sub", x, top))
    return n.map("div", powers, n.b.reduce("sum", powers, [axis], keepdims=True))


def log_softmax_of(n: Call, x: Value, axis: int) -> Value:
    shifted = n.map("sub", x, n.b.reduce("max", x, [axis], keepdims=True))
    total = n.b.reduce("sum", n.b.map("exp", shifted), [axis], keepdims=True)
    return n.map("sub", shifted, n.b.map("log", total))


def hardmax_of(n: Call, x: Value, axis: int) -> Value:
    first = n.b.reduce("argmax", x, [axis], keepdims=True)
    return n.b.cast(n.map("eq", n.b.iota(x.shape, axis), first), x.dtype)


def _register(name: str, rule: Callable[[Call, Value, int], Value]) -> None:
    def flattened(n: Call) -> Value:
        """Before opset 13: over everything from the axis on."""
        x = n.value(0)
        axis = n.axis(n.attributes.integer("axis", 1), x.rank)
        if axis == x.rank - 1:
            return rule(n, x, axis)
        flat = n.b.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))
        return n.b.reshape(rule(n, flat, 1), x.shape)

    def along(n: Call) -> Value:
        x = n.value(0)
        return rule(n, x, n.axis(n.attributes.integer("axis", -1), x.rank))

    op(name)(flattened)
    op(name, since=13)(along)


for _name, _rule in (("Softmax", softmax_of), ("LogSoftmax", log_softmax_of), ("Hardmax", hardmax_of)):
    _register(_name, _rule)


# Normalisation
def _stash(n: Call, x: Value) -> DType:
    """The dtype statistics are taken in."""
    code = n.attributes.integer("stash_type", 1)
    dtype = dtype_of(code)
    if dtype is None or not dtype.is_float:
        n.unsupported(f"stash_type {dtype_name(code)}")
    return x.dtype if x.dtype.bits > dtype.bits else dtype


def normalized(n: Call, x: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value, Value]:
    """``(x - mean) / sqrt(variance + epsilon)``, the mean, and the reciprocal deviation."""
    mean = mean_over(n, x, axes, keepdims=True)
    centred = n.map("sub", x, mean)
    variance = mean_over(n, n.b.map("mul", centred, centred), axes, keepdims=True)
    inverse = n.b.map("rsqrt", n.map("add", variance, n.number(epsilon, variance)))
    return n.map("mul", centred, inverse), mean, inverse


@op("LayerNormalization")  # onnxruntime's own before opset 17
def layer_normalization(n: Call) -> Sequence[Result]:
    x, scale, bias = n.value(0), n.value(1), n.optional(2)
    axis = n.axis(n.attributes.integer("axis", -1), x.rank)
    stash = _stash(n, x)
    wide = n.b.cast(x, stash)
    epsilon = n.attributes.number("epsilon", 1e-5)
    out, mean, inverse = normalized(n, wide, range(axis, x.rank), epsilon)
    out = n.map("mul", n.b.cast(out, x.dtype), scale)
    return [out if bias is None else n.map("add", out, bias), mean, inverse]


def root_mean_square(n: Call, x: Value, scale: Value, axis: int, stash: DType, epsilon: float) -> tuple[Value, Value]:
    """``x / sqrt(mean of squares + epsilon) * scale`` in the dtype of the scale, and the reciprocal root."""
    wide = n.b.cast(x, stash)
    squares = mean_over(n, n.b.map("mul", wide, wide), range(axis, x.rank), keepdims=True)
    inverse = n.b.map("rsqrt", n.map("add", squares, n.number(epsilon, wide)))
    return n.map("mul", n.b.cast(n.map("mul", wide, inverse), scale.dtype), scale), inverse


@op("SimplifiedLayerNormalization")
@op("RMSNormalization", since=23)
def rms_normalization(n: Call) -> Sequence[Result]:
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis", -1), x.rank)
    epsilon = n.attributes.number("epsilon", 1e-5)
    return root_mean_square(n, x, n.value(1), axis, _stash(n, x), epsilon)


def per_channel(n: Call, parameter: Value, x: Value) -> Value:
    """A parameter of one element per channel (axis 1), ready to broadcast to ``x``."""
    n.check(x.rank >= 2 and parameter.rank == 1, f"{parameter.type} for the channels of {x.type}")
    return n.b.reshape(n.match(parameter, (x.shape[1],)), (x.shape[1], *([1] * (x.rank - 2))))


@op("BatchNormalization")
def batch_normalization(n: Call) -> Sequence[Result]:
    """``x * scale' + shift'``, both computed from the parameters alone (in inference)."""
    n.attributes.ignore("consumed_inputs")
    x, scale, bias, mean, variance = (n.value(i) for i in range(5))
    epsilon, momentum = n.attributes.number("epsilon", 1e-5), n.attributes.number("momentum", 0.9)
    spatial = n.attributes.flag("spatial", True)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    training = n.attributes.flag("training_mode") or (n.opset < 7 and not n.attributes.flag("is_test"))
    if n.opset < 7 and training and n.wanted.count(True) == 1:
        training = False  # old models omit is_test; with one result they mean inference
    if training and not spatial:
        n.unsupported("training with spatial=0")
    if not spatial:
        return [_affine(n, x, scale, bias, mean, variance, epsilon)]
    running: list[Result] = []
    if training:
        axes = [i for i in range(x.rank) if i != 1]
        wide = n.b.cast(x, mean.dtype)
        now, spread = _statistics(n, wide, axes)
        running = [_moved(n, mean, now, momentum), _moved(n, variance, spread, momentum)]
        mean, variance = now, spread
    scale, bias, mean, variance = (n.match(p, (x.shape[1],)) for p in (scale, bias, mean, variance))
    return [_affine(n, x, scale, bias, mean, variance, epsilon), *running]


def _affine(n: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value, epsilon: float) -> Value:
    wide = mean.dtype if mean.dtype.bits > x.dtype.bits else x.dtype
    scale, bias, mean, variance = (n.b.cast(p, wide) for p in (scale, bias, mean, variance))
    deviation = n.b.map("sqrt", n.map("add", variance, n.number(epsilon, variance)))
    factor = n.b.map("div", scale, deviation)
    shift = n.b.map("sub", bias, n.b.map("mul", mean, factor))
    if factor.rank == 1:
        factor, shift = per_channel(n, factor, x), per_channel(n, shift, x)
    return n.b.cast(n.map("add", n.map("mul", n.b.cast(x, wide), factor), shift), x.dtype)


def _statistics(n: Call, x: Value, axes: list[int]) -> tuple[Value, Value]:
    mean = mean_over(n, x, axes, keepdims=True)
    centred = n.map("sub", x, mean)
    variance = mean_over(n, n.b.map("mul", centred, centred), axes, keepdims=False)
    return n.b.squeeze(mean, *axes), variance


def _moved(n: Call, before: Value, now: Value, momentum: float) -> Value:
    kept = n.map("mul", before, n.number(momentum, before))
    return n.map("add", kept, n.map("mul", now, n.number(1 - momentum, now)))


@op("InstanceNormalization")
def instance_normalization(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    x, scale, bias = n.value(0), n.value(1), n.value(2)
    wide = n.b.cast(x, x.dtype.compute)
    out, _, _ = normalized(n, wide, range(2, x.rank), n.attributes.number("epsilon", 1e-5))
    out = n.b.cast(out, x.dtype)
    return n.map("add", n.map("mul", out, per_channel(n, scale, x)), per_channel(n, bias, x))


@op("GroupNormalization", since=18)
def group_normalization(n: Call) -> Value:
    """Scale and bias are one per group before opset 21, one per channel from it on."""
    x, scale, bias = n.value(0), n.value(1), n.value(2)
    groups = n.attributes.integer("num_groups")
    n.check(groups >= 1 and x.rank >= 2, f"{groups} groups of {x.type}")
    stash = _stash(n, x) if n.opset >= 21 else x.dtype.compute
    inner = floordiv(x.shape[1], groups)
    split = n.b.reshape(n.b.cast(x, stash), (x.shape[0], groups, inner, *x.shape[2:]))
    out, _, _ = normalized(n, split, range(2, split.rank), n.attributes.number("epsilon", 1e-5))
    if n.opset < 21:
        shape: tuple[DimLike, ...] = (groups, *([1] * (split.rank - 2)))
        scale, bias = (n.b.reshape(n.b.cast(p, stash), shape) for p in (scale, bias))
        out = n.map("add", n.map("mul", out, scale), bias)
        return n.b.cast(n.b.reshape(out, x.shape), x.dtype)
    out = n.b.cast(n.b.reshape(out, x.shape), x.dtype)
    return n.map("add", n.map("mul", out, per_channel(n, scale, x)), per_channel(n, bias, x))


@op("LRN")
def local_response(n: Call) -> Value:
    """``x / (bias + alpha / size * sum of squares) ** beta``; the sum is over ``size`` channels around."""
    x = n.value(0)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    size = n.attributes.integer("size")
    n.check(size >= 1, f"size is {size}")
    alpha, beta = n.attributes.number("alpha", 1e-4), n.attributes.number("beta", 0.75)
    bias = n.attributes.number("bias", 1.0)
    last = channels_last(n, x)
    low, high = [0] * x.rank, [0] * x.rank
    low[-1], high[-1] = (size - 1) // 2, size // 2
    border = n.b.pad(n.b.map("mul", last, last), low, high)
    total = n.b.reduce("sum", n.b.window(border, [x.rank - 1], [size], [1], [1]), [x.rank])
    base = n.map("add", n.map("mul", total, n.number(alpha / size, total)), n.number(bias, total))
    return channels_first(n, n.b.map("div", last, power_of(n, base, beta)))


@op("LpNormalization")
def lp_normalization(n: Call) -> Value:
    """``x / norm``, and 0 where the norm is 0."""
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis", -1), x.rank)
    order = n.attributes.integer("p", 2)
    n.check(order in (1, 2), f"p is {order}, not 1 or 2")
    powers = n.b.map("abs", x) if order == 1 else n.b.map("mul", x, x)
    norm = power_of(n, n.b.reduce("sum", powers, [axis], keepdims=True), 1 / order)
    zero = n.map("eq", norm, n.number(0, norm))
    return n.map("div", x, n.map("where", zero, n.number(1, norm), norm))


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(n: Call) -> Value:
    x = n.value(0)
    axes = n.axes(n.attributes.integers("axes") or [0, 2, 3], x.rank)
    mean = mean_over(n, x, axes, keepdims=True)
    centred = n.map("sub", x, mean)
    deviation = n.b.map("sqrt", mean_over(n, n.b.map("mul", centred, centred), axes, keepdims=True))
    return n.map("div", centred, n.map("add", deviation, n.number(1e-9, deviation)))

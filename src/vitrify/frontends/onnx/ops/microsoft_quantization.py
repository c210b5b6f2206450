"""Quantised ops of the domain com.microsoft, which onnxruntime's quantiser writes.

Sums are taken of integers, so they are exact; what is rounded, is rounded half to even, once.
"""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import channels_first
from vitrify.frontends.onnx.ops.matrix import matmul_of
from vitrify.frontends.onnx.ops.pooling import sums_and_counts
from vitrify.frontends.onnx.ops.quantization import (
    Granularity,
    beside,
    centred,
    dequantized,
    dynamic_scale,
    is_zero,
    matmul_of_integers,
    product_of_integers,
    quantized,
    requantized,
    saturated,
)
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, product
from vitrify.ir.dtypes import F32, I32, U8, DType
from vitrify.ir.graph import Value

MICROSOFT = "com.microsoft"


def _single(n: Call, index: int) -> Value:
    """A scale or zero point of one element, as rank 0."""
    s = n.value(index)
    n.check(s.shape in ((), (1,)), f"input {index} is a scale or zero point of {s.type}, not of one element")
    return n.b.reshape(s, ())


def _point(n: Call, index: int) -> Value | None:
    return None if is_zero(n, index) else _single(n, index)


def _real(n: Call, x: int) -> Value:
    """The numbers that input ``x`` stands for; its scale and zero point follow it."""
    return dequantized(n, n.value(x), _single(n, x + 1), _point(n, x + 2))


def _stored(n: Call, x: Value, scale: int, dtype: DType) -> Value:
    """``x`` by the scale at an input, whose zero point follows it."""
    return quantized(n, x, _single(n, scale), _point(n, scale + 1), dtype)


# ---- between floats and integers
def _granularity(n: Call, x: Value) -> Granularity:
    return Granularity(x.shape, n.attributes.integer("axis", 1))


@op("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(n: Call) -> Value:
    x, over = n.value(0), _granularity(n, n.value(0))
    zero = n.optional(2)
    point = None if zero is None or is_zero(n, 2) else over.spread(n, zero)
    return quantized(n, x, over.spread(n, n.value(1)), point, U8 if zero is None else zero.dtype)


@op("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(n: Call) -> Value:
    x, scale = n.value(0), n.value(1)
    over = _granularity(n, x)
    point = None if is_zero(n, 2) else over.spread(n, n.value(2))
    return dequantized(n, x, over.spread(n, scale), point, scale.dtype)


# ---- elementwise
@op("QLinearAdd", domain=MICROSOFT)
def qlinear_add(n: Call) -> Value:
    """Both sides in steps of the result: ``round(a * (scale_a / scale_c) + b * (scale_b / scale_c) + rest)``."""
    a, b, scale = n.value(0), n.value(3), _single(n, 6)
    zero = n.b.constant(0, a.dtype)
    points = [n.b.cast(p if (p := _point(n, i)) is not None else zero, F32) for i in (2, 5, 7)]
    ratios = [n.b.map("exact_div", _single(n, i), scale) for i in (1, 4)]
    shift = n.b.map("add", *(n.b.map("mul", r, p) for r, p in zip(ratios, points, strict=False)))
    rest = n.b.map("sub", points[2], shift)
    total = n.map("fma", n.b.cast(a, F32), ratios[0], rest)
    return saturated(n, n.map("round", n.map("fma", n.b.cast(b, F32), ratios[1], total)), None, a.dtype)


@op("QLinearMul", domain=MICROSOFT)
def qlinear_mul(n: Call) -> Value:
    a, b = n.value(0), n.value(3)
    sides = [_centred(n, x, p) for x, p in ((a, _point(n, 2)), (b, _point(n, 5)))]
    factor = n.b.map("exact_div", n.b.map("mul", _single(n, 1), _single(n, 4)), _single(n, 6))
    return requantized(n, n.map("mul", *sides), factor, _point(n, 7), a.dtype)


def _centred(n: Call, x: Value, point: Value | None) -> Value:
    wide = n.b.cast(x, I32)
    return wide if point is None else n.map("sub", wide, n.b.cast(point, I32))


@op("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(n: Call) -> Value:
    return _stored(n, n.b.map("sigmoid", _real(n, 0)), 3, n.value(0).dtype)


@op("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(n: Call) -> Value:
    x = _real(n, 0)
    # Two roundings, as onnxruntime has them: rules would make one scale of two products.
    slope = n.map("fma", x, n.number(n.attributes.number("alpha", 0.01), x), n.number(-0.0, x))
    positive = n.map("ge", x, n.number(0.0, x))
    return _stored(n, n.map("where", positive, x, slope), 3, n.value(0).dtype)


@op("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(n: Call) -> Value:
    """Over one axis, or as before opset 13 over all axes from ``axis`` on."""
    since = n.attributes.integer("opset")
    x = _real(n, 0)
    axis = n.axis(n.attributes.integer("axis", -1 if since >= 13 else 1), x.rank)
    axes = [axis] if since >= 13 else range(axis, x.rank)
    powers = n.b.map("exp", n.map("sub", x, n.b.reduce("max", x, axes, keepdims=True)))
    total = n.b.reduce("sum", powers, axes, keepdims=True)
    return _stored(n, n.map("div", powers, total), 3, n.value(0).dtype)


@op("QLinearWhere", domain=MICROSOFT)
def qlinear_where(n: Call) -> Value:
    dtype = n.value(1).dtype
    sides = [_moved(n, i, 7, dtype) for i in (1, 4)]
    return n.map("where", n.value(0), *sides)


def _moved(n: Call, x: int, scale: int, dtype: DType) -> Value:
    """Input ``x`` in the steps of another scale and zero point; as it is where they are the same constants."""
    pairs = [(n.constant(x + 1 + i), n.constant(scale + i)) for i in (0, 1)]
    if all(a is not None and b is not None and a.size == b.size == 1 and a.item() == b.item() for a, b in pairs):
        return n.value(x)
    return _stored(n, _real(n, x), scale, dtype)


@op("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(n: Call) -> Value:
    """Inputs: scale and zero point of the result, then tensor, scale and zero point of each part."""
    count, odd = divmod(len(n.inputs) - 2, 3)
    n.check(count >= 1 and not odd, f"{len(n.inputs)} inputs, not 2 and three for each part")
    dtype = n.value(1).dtype
    parts = [_moved(n, 2 + 3 * i, 0, dtype) for i in range(count)]
    axis = n.axis(n.attributes.integer("axis"), parts[0].rank)
    for i, part in enumerate(parts):
        shape = (*parts[0].shape[:axis], part.shape[axis], *parts[0].shape[axis + 1 :])
        parts[i] = n.match(part, shape)
    return n.b.concat(parts, axis)


# ---- means
@op("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(n: Call) -> Value:
    x = n.value(0)
    last = n.attributes.flag("channels_last")
    planes = channels_first(n, x) if last else x
    total, count = sums_and_counts(n, _centred(n, planes, _point(n, 2)))
    mean = n.map("exact_div", n.map("mul", n.b.cast(total, F32), _single(n, 1)), n.b.cast(count, F32))
    out = _stored(n, mean, 3, x.dtype)
    return out if last else channels_first(n, out)


@op("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(n: Call) -> Value:
    rank = n.value(0).rank
    n.check(rank >= 3, f"a tensor of rank {rank}, not 3 or more")
    last = n.attributes.flag("channels_last")
    return _mean(n, range(1, rank - 1) if last else range(2, rank), keepdims=True)


@op("QLinearReduceMean", domain=MICROSOFT)
def qlinear_reduce_mean(n: Call) -> Value:
    rank = n.value(0).rank
    axes = n.axes(n.attributes.integers("axes") or list(range(rank)), rank)
    return _mean(n, axes, keepdims=n.attributes.flag("keepdims", True))


def _mean(n: Call, axes: range | tuple[int, ...], *, keepdims: bool) -> Value:
    x = n.value(0)
    total = n.b.reduce("sum", _centred(n, x, _point(n, 2)), axes, keepdims=keepdims)
    count = product(x.shape[a] for a in axes)
    number = n.b.constant(count, F32) if isinstance(count, int) else n.b.cast(n.b.dim(count), F32)
    factor = n.b.map("exact_div", _single(n, 1), n.b.map("mul", _single(n, 3), number))
    return requantized(n, total, factor, _point(n, 4), x.dtype)


# ---- products
@op("QGemm", domain=MICROSOFT)
def qgemm(n: Call) -> Value:
    """``alpha * scale_a * scale_b * ((A' - zero_a) @ (B' - zero_b) + C)``, in floats where the result has no scale."""
    across = n.attributes.flag("transA"), n.attributes.flag("transB")
    left = centred(n, 0, 2, 1 if across[0] else 0)
    right = centred(n, 3, 5, 0 if across[1] else 1)
    n.check(left[0].rank == right[0].rank == 2, "a product that is not of matrices")
    operands = [_turned(n, v, turn) for pair, turn in zip((left, right), across, strict=True) for v in pair]
    first, second = operands[0], operands[2]
    assert first is not None and second is not None
    total = product_of_integers(n, first, operands[1], second, operands[3])
    bias = n.optional(6)
    if bias is not None:
        n.check(bias.rank <= 2, f"a bias of {bias.type}")
        total = n.b.map("add", total, n.expand(bias, total.shape))
    step = _single(n, 1)
    step = n.map("mul", step, n.number(n.attributes.number("alpha", 1.0), step))
    factor = n.map("mul", step, beside(n, n.value(4), -1, 2))
    if not n.has(7):
        return n.map("mul", n.b.cast(total, F32), factor)
    zero = n.optional(8)
    dtype = n.value(0).dtype if zero is None else zero.dtype
    return requantized(n, total, n.map("exact_div", factor, _single(n, 7)), _point(n, 8), dtype)


def _turned(n: Call, x: Value | None, turn: bool) -> Value | None:
    return n.b.permute(x, [1, 0]) if x is not None and turn and x.rank == 2 else x


def _floats(n: Call, total: Value, factor: Value, bias: int) -> Value:
    """Sums times their scale, and a bias."""
    out = n.map("mul", n.b.cast(total, F32), factor)
    return n.map("add", out, n.value(bias)) if n.has(bias) else out


@op("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(n: Call) -> Value:
    total = matmul_of_integers(n, 0, 4, 1, 5)
    factor = n.map("mul", _single(n, 2), beside(n, n.value(3), -1, max(total.rank, 1)))
    return _floats(n, total, factor, 6)


@op("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(n: Call) -> Value:
    """The left side by the scale and zero point of its own range."""
    a = n.value(0)
    scale, zero = dynamic_scale(n, a)
    right = centred(n, 1, 3, -1)
    total = product_of_integers(n, quantized(n, a, scale, zero, U8), zero, *right)
    factor = n.map("mul", scale, beside(n, n.value(2), -1, max(total.rank, 1)))
    return _floats(n, total, factor, 4)


@op("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(n: Call) -> Value:
    """A [.., K] with weights [N, blocks, bytes] of a few bits each, whose blocks have scales and zero points.

    ``accuracy_level``, a licence to round A, is not used: products and sums are of floats.
    """
    n.attributes.ignore("accuracy_level")
    bits, block = n.attributes.integer("bits", 4), n.attributes.integer("block_size")
    rows, depth = n.attributes.integer("N"), n.attributes.integer("K")
    if bits not in (2, 4, 8):
        n.unsupported(f"weights of {bits} bits")
    if bits == 2 and n.has(4):
        n.unsupported("g_idx with weights of 2 bits")
    if n.attributes.integer("weight_prepacked", 0):
        n.unsupported("weights packed for another machine (weight_prepacked)")
    n.check(block >= 16 and block & (block - 1) == 0, f"block_size is {block}, no power of two from 16 on")
    n.check(rows >= 1 and depth >= 1, f"weights of {rows} x {depth}")
    a, blocks = n.value(0), -(-depth // block)
    n.check(a.rank >= 1, "a product of a scalar")
    weights = _unpacked(n, n.match(n.value(1), (rows, blocks, block * bits // 8)), bits)
    weights = n.b.slice_axis(n.b.reshape(weights, (rows, blocks * block)), 1, 0, depth)
    scales = n.b.reshape(n.value(2), (rows, blocks))
    factor, points = _per_weight(n, scales, depth, block), _nbits_points(n, rows, blocks, bits)
    points = n.b.cast(_per_weight(n, points, depth, block), F32)
    real = n.map("mul", n.map("sub", n.b.cast(weights, F32), points), n.b.cast(factor, F32))
    out = matmul_of(n, a, n.b.permute(n.b.cast(real, a.dtype), [1, 0]))
    return n.map("add", out, n.value(5)) if n.has(5) else out


def _unpacked(n: Call, packed: Value, bits: int) -> Value:
    """The numbers of ``bits`` in bytes, the low ones first, as a new last axis made part of the last one."""
    if bits == 8:
        return packed
    each = 8 // bits
    shifts = n.b.constant(np.arange(each, dtype=np.uint8) * bits)
    parts = n.map("and", n.map("shr", n.b.unsqueeze(packed, -1), shifts), n.b.constant((1 << bits) - 1, U8))
    return n.b.reshape(parts, (*packed.shape[:-1], packed.shape[-1] * each))


def _nbits_points(n: Call, rows: int, blocks: int, bits: int) -> Value:
    """Zero points [N, blocks]: packed bytes, or as many floats as there are scales, or the middle of the range."""
    if not n.has(3):
        return n.b.fill(1 << (bits - 1), U8, (rows, blocks))
    points = n.value(3)
    if points.dtype is not U8:
        return n.b.reshape(points, (rows, blocks))
    width = -(-blocks * bits // 8)
    return n.b.slice_axis(_unpacked(n, n.b.reshape(points, (rows, width)), bits), 1, 0, blocks)


def _per_weight(n: Call, s: Value, depth: int, block: int) -> Value:
    """[N, blocks] to [N, K]: each block's value at every weight of it; ``g_idx`` names the blocks otherwise."""
    if n.has(4):
        index = n.value(4)
        return n.b.gather(s, 1, n.b.slice_axis(n.match(index, (index.shape[0],)), 0, 0, depth))
    wide: tuple[DimLike, ...] = (*s.shape, block)
    repeated = n.b.expand_to(n.b.unsqueeze(s, 2), wide)
    return n.b.slice_axis(n.b.reshape(repeated, (s.shape[0], s.shape[1] * block)), 1, 0, depth)

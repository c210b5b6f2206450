"""Quantisation: floats to small integers and back, and products of these.

A product of quantised values is one contraction of the integers as they are: what the zero points contribute
are sums over one operand, subtracted from the result. All of it is exact modulo 2^32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import channels_first, convolve
from vitrify.frontends.onnx.ops.matrix import matmul_of
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.dims import Shape, ceildiv
from vitrify.ir.dtypes import F32, I8, I16, I32, U8, DType
from vitrify.ir.graph import Value


# ---- scales and zero points
@dataclass(frozen=True)
class Granularity:
    """How scales and zero points spread over a tensor: one for all of it, one per position of ``axis``, or
    with a ``block`` one per so many of them."""

    shape: Shape
    axis: int
    block: int = 0

    @staticmethod
    def of(n: Call, x: Value) -> Granularity:
        """As the attributes of the default domain say."""
        axis = n.attributes.integer("axis", 1) if n.opset >= 13 else 1
        block = n.attributes.integer("block_size", 0) if n.opset >= 21 else 0
        n.check(block >= 0, f"block_size is {block}, not 0 or more")
        return Granularity(x.shape, axis, block)

    def spread(self, n: Call, s: Value) -> Value:
        """``s`` in a shape that broadcasts to the tensor's."""
        if self.block:
            return self._blocked(n, s)
        if s.rank == 0 or s.shape == (1,):
            return n.b.reshape(s, ())
        n.check(s.rank == 1, f"a scale or zero point of {s.type} without block_size, not of rank 0 or 1")
        axis = n.axis(self.axis, len(self.shape))
        s = n.match(s, (self.shape[axis],))
        return n.b.reshape(s, [size if i == axis else 1 for i, size in enumerate(self.shape)])

    def _blocked(self, n: Call, s: Value) -> Value:
        axis, block = n.axis(self.axis, len(self.shape)), self.block
        n.check(s.rank == len(self.shape), f"a scale or zero point of {s.type} for blocks of a rank {len(self.shape)}")
        size = self.shape[axis]
        counts = [ceildiv(d, block) if i == axis else d for i, d in enumerate(self.shape)]
        s = n.b.unsqueeze(n.match(s, tuple(counts)), axis + 1)
        s = n.b.expand_to(s, tuple(block if i == axis + 1 else d for i, d in enumerate(s.shape)))
        whole = n.b.reshape(s, (*counts[:axis], counts[axis] * block, *counts[axis + 1 :]))
        return n.b.slice_axis(whole, axis, 0, size)


def is_zero(n: Call, index: int) -> bool:
    """Whether an input is left out, or a constant of zeros."""
    if not n.has(index):
        return True
    array = n.constant(index)
    return array is not None and not np.any(np.asarray(array, np.float32))


def saturated(n: Call, rounded: Value, zero: Value | None, dtype: DType) -> Value:
    """Whole numbers (f32) plus the zero point, held inside ``dtype``. Sums that f32 rounds lie far outside."""
    total = rounded if zero is None else n.map("add", rounded, n.b.cast(zero, F32))
    if dtype.bits < 8:  # a cast saturates to bytes
        low, high = n.number(dtype.min(), total), n.number(dtype.max(), total)
        total = n.map("min", n.map("max", total, low), high)
    return n.b.cast(total, dtype)


def quantized(n: Call, x: Value, scale: Value, zero: Value | None, dtype: DType, *, saturate: bool = True) -> Value:
    """``x / scale``, to integers rounded half to even, plus ``zero``; all of them broadcast."""
    ratio = n.map("exact_div", x, scale)
    if dtype.is_int:
        return saturated(n, n.b.cast(n.map("round", ratio), F32), zero, dtype)
    ratio = n.b.cast(ratio, F32)
    total = ratio if zero is None else n.map("add", ratio, n.b.cast(zero, F32))
    return n.b.cast(total, dtype, saturate=saturate)


def dequantized(n: Call, x: Value, scale: Value, zero: Value | None, dtype: DType = F32) -> Value:
    """``(x - zero) * scale``, multiplied in f32; all of them broadcast."""
    if zero is not None:
        wide = F32 if x.dtype.is_float else I32
        x = n.map("sub", n.b.cast(x, wide), n.b.cast(zero, wide))
    return n.b.cast(n.map("mul", n.b.cast(x, F32), n.b.cast(scale, F32)), dtype)


def _dtype_attribute(n: Call, name: str) -> DType | None:
    code = n.attributes.integer(name, 0)
    dtype = dtype_of(code)
    if code and dtype is None:
        n.unsupported(f"{name} {dtype_name(code)}")
    return dtype if code else None


@op("QuantizeLinear", since=10)
def quantize_linear(n: Call) -> Value:
    """``precision``, or else the scale's dtype, is what the division happens in."""
    x, scale, zero = n.value(0), n.value(1), n.optional(2)
    over = Granularity.of(n, x)
    wanted = _dtype_attribute(n, "output_dtype") if n.opset >= 21 else None
    precision = _dtype_attribute(n, "precision") if n.opset >= 23 else None
    saturate = n.attributes.flag("saturate", True) if n.opset >= 19 else True
    if wanted is not None and zero is not None and zero.dtype is not wanted:
        n.invalid("output_dtype differs from the zero point's type", expected=zero.dtype, actual=wanted)
    dtype = wanted or (U8 if zero is None else zero.dtype)
    inside = precision or (scale.dtype if scale.dtype.is_float else F32)
    point = None if zero is None or is_zero(n, 2) else over.spread(n, zero)
    ratio = n.b.cast(x, inside), over.spread(n, n.b.cast(scale, inside))
    return quantized(n, *ratio, point, dtype, saturate=saturate)


@op("DequantizeLinear", since=10)
def dequantize_linear(n: Call) -> Value:
    x, scale, zero = n.value(0), n.value(1), n.optional(2)
    over = Granularity.of(n, x)
    dtype = (_dtype_attribute(n, "output_dtype") if n.opset >= 23 else None) or scale.dtype
    point = None if zero is None or is_zero(n, 2) else over.spread(n, zero)
    return dequantized(n, x, over.spread(n, scale), point, dtype)


def dynamic_scale(n: Call, x: Value) -> tuple[Value, Value]:
    """Scale (f32) and zero point (u8), both of rank 0, such that the range of ``x`` and 0 fit a byte."""
    axes = range(x.rank)
    nothing = n.number(0.0, x)
    high = n.map("max", n.b.reduce("max", x, axes), nothing)
    low = n.map("min", n.b.reduce("min", x, axes), nothing)
    span = n.map("sub", high, low)
    flat = n.map("eq", span, nothing)
    scale = n.map("exact_div", n.map("where", flat, n.number(255.0, x), span), n.number(255.0, x))
    scale = n.map("where", flat, n.number(1.0, x), scale)
    point = n.map("round", n.map("neg", n.map("exact_div", low, scale)))
    return scale, n.b.cast(point, U8)


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(n: Call) -> Sequence[Result]:
    x = n.value(0)
    scale, zero = dynamic_scale(n, x)
    return [quantized(n, x, scale, zero, U8), scale, zero]


# ---- products
def centred(n: Call, index: int, zero: int, axis: int, *, widen: bool = False) -> tuple[Value, Value | None]:
    """An operand and its zero point (of rank 1 along ``axis`` of the operand, or of one element, or of the
    operand's rank). Where both are constants and the difference fits i8 (or with ``widen`` i16), that is the
    operand, and there is no point."""
    x = n.value(index)
    if is_zero(n, zero):
        return x, None
    point = n.value(zero)
    if point.rank <= 1 and point.shape in ((), (1,)):
        shape: Shape = ()
    elif point.rank == 1:
        axis %= x.rank
        point = n.match(point, (x.shape[axis],))
        shape = tuple(d if i == axis else 1 for i, d in enumerate(x.shape))
    else:
        n.check(point.rank == x.rank, f"a zero point of {point.type} for {x.type}")
        shape = point.shape
    array, points = n.constant(index), n.constant(zero)
    if array is not None and points is not None and all(isinstance(d, int) for d in shape):
        sizes = tuple(int(d) for d in shape if isinstance(d, int))
        fitting = all(size in (1, d) for size, d in zip(sizes, array.shape, strict=True)) if sizes else True
        n.check(fitting, f"a zero point of {point.type} for {x.type}")
        difference = array.astype(np.int16) - points.astype(np.int16).reshape(sizes)
        fits = not difference.size or (difference.min() >= -128 and difference.max() <= 127)
        if fits or widen:
            return n.b.constant(difference, I8 if fits else I16), None
    return x, n.b.reshape(point, shape)


def matmul_of_integers(n: Call, a: int, zero_a: int, b: int, zero_b: int) -> Value:
    """``(a - zero_a) @ (b - zero_b)`` in i32, of the inputs so numbered."""
    left = centred(n, a, zero_a, -2 if n.tensor(a).rank > 1 else 0)
    return product_of_integers(n, *left, *centred(n, b, zero_b, -1))


def product_of_integers(
    n: Call, left: Value, left_point: Value | None, right: Value, right_point: Value | None
) -> Value:
    """``(left - left_point) @ (right - right_point)`` in i32; the points broadcast to their operands."""
    vector_left, vector_right = left.rank == 1, right.rank == 1
    if vector_left:
        left = n.b.unsqueeze(left, 0)
        n.check(left_point is None or left_point.rank == 0, "a zero point per element of a vector")
    if vector_right:
        right = n.b.unsqueeze(right, 1)
        n.check(right_point is None or right_point.rank == 0, "a zero point per element of a vector")
    out = matmul_of(n, left, right, I32)
    if left_point is not None:  # zero_a * sum over k of (b - zero_b)
        columns = n.b.reduce("sum", _less(n, right, right_point), [-2], keepdims=True)
        out = n.map("sub", out, n.map("mul", n.b.cast(left_point, I32), columns))
    if right_point is not None:
        rows = n.b.reduce("sum", n.b.cast(left, I32), [-1], keepdims=True)
        out = n.map("sub", out, n.map("mul", rows, n.b.cast(right_point, I32)))
    gone = ([-1] if vector_right else []) + ([-2] if vector_left else [])
    return n.b.squeeze(out, *gone) if gone else out


def _less(n: Call, x: Value, point: Value | None) -> Value:
    wide = n.b.cast(x, I32)
    return wide if point is None else n.map("sub", wide, n.b.cast(point, I32))


def convolution_of_integers(n: Call, x: int, zero_x: int, w: int, zero_w: int) -> Value:
    """``x - zero_x`` convolved with ``w - zero_w`` in i32, channels last: [N, *O, M]."""
    seen, seen_point = centred(n, x, zero_x, 1)
    kernel, kernel_point = centred(n, w, zero_w, 0, widen=True)
    n.check(seen.rank >= 3 and kernel.rank == seen.rank, f"a convolution of {seen.type} with {kernel.type}")
    border = n.constant(zero_x) if seen_point is not None else None
    if kernel_point is not None or (seen_point is not None and (border is None or border.size != 1)):
        # Borders of a value only the run knows, or sums over windows: rare, and worth no form of their own.
        return convolve(n, _less(n, seen, seen_point), _less(n, kernel, kernel_point), I32)
    if seen_point is None or border is None:
        return convolve(n, seen, kernel, I32)
    out = convolve(n, seen, kernel, I32, border=int(border.reshape(-1)[0]))
    filters = n.b.reduce("sum", n.b.cast(kernel, I32), range(1, kernel.rank))
    return n.map("sub", out, n.map("mul", n.b.cast(seen_point, I32), filters))


@op("MatMulInteger", since=10)
def matmul_integer(n: Call) -> Value:
    """Products of 8-bit integers less their zero points, in 32 bits."""
    return matmul_of_integers(n, 0, 2, 1, 3)


@op("ConvInteger", since=10)
def conv_integer(n: Call) -> Value:
    """8-bit integers less their zero points, in 32 bits."""
    return channels_first(n, convolution_of_integers(n, 0, 2, 1, 3))


def requantized(n: Call, total: Value, factor: Value, zero: Value | None, dtype: DType) -> Value:
    """Sums (i32) times ``factor``, rounded half to even, plus the zero point."""
    scaled = n.map("mul", n.b.cast(total, F32), n.b.cast(factor, F32))
    return saturated(n, n.map("round", scaled), zero, dtype)


def beside(n: Call, s: Value, axis: int, rank: int) -> Value:
    """A scale of one element, or of one per position of ``axis``, to broadcast to a result of ``rank``."""
    if s.shape in ((), (1,)):
        return n.b.reshape(s, ())
    if s.rank != 1:
        return s
    return n.b.reshape(s, [s.shape[0] if i == axis % rank else 1 for i in range(rank)])


@op("QLinearMatMul", since=10)
def qlinear_matmul(n: Call) -> Value:
    """Inputs: a, its scale and zero point, the same of b, then those of the result."""
    total = matmul_of_integers(n, 0, 2, 3, 5)
    rank = max(total.rank, 1)
    left = beside(n, n.value(1), -2 if n.tensor(0).rank > 1 and n.tensor(3).rank > 1 else -1, rank)
    right = beside(n, n.value(4), -1, rank)
    point = n.value(7)
    result = beside(n, n.value(6), -2, rank), beside(n, point, -2, rank)
    factor = n.map("exact_div", n.map("mul", left, right), result[0])
    return requantized(n, total, factor, result[1], point.dtype)


@op("QLinearConv", since=10)
def qlinear_conv(n: Call) -> Value:
    """Inputs: x, its scale and zero point, the same of w, those of the result, and a bias in i32."""
    total = convolution_of_integers(n, 0, 2, 3, 5)
    bias = n.optional(8)
    if bias is not None:
        n.check(bias.rank == 1, f"a bias of {bias.type}, not of rank 1")
        total = n.b.map("add", total, n.match(bias, (total.shape[-1],)))
    scale = n.value(4)
    scale = n.b.reshape(scale, ()) if scale.shape in ((), (1,)) else n.match(scale, (total.shape[-1],))
    single = [n.value(i) for i in (1, 6, 7)]
    n.check(all(s.shape in ((), (1,)) for s in single), "scales of x and y have one element")
    left, result, point = (n.b.reshape(s, ()) for s in single)
    factor = n.map("exact_div", n.map("mul", left, scale), result)
    return channels_first(n, requantized(n, total, factor, point, point.dtype))

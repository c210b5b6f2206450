"""Fourier transforms.

A transform of few points is a matrix product with a table of cosines and sines. One of ``N = a * b`` points is
``b`` transforms of ``a`` points, a multiplication with roots of unity, and ``a`` transforms of ``b`` points
(Cooley and Tukey, 1965), down to sizes that are products; many points without small factors become a convolution
of a power of two (Bluestein, 1970). Where only a run knows the number of points, tables are computed in the run.

Complex numbers lie along an axis of 2, real and imaginary part; an axis of 1 is real.
"""

from __future__ import annotations

from math import ceil, log, pi

import numpy as np

from vitrify.frontends.onnx.body import Array
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv, maximum, minimum, provably_nonnegative
from vitrify.ir.dtypes import F64, I64, DType
from vitrify.ir.graph import Value

_PRODUCT = 128  # points that one matrix product transforms; more where the number has no factor below
_PRIME = 512  # points from which a convolution pays where there are no factors
_RADIX = 32  # points of the products that a larger transform is made of, at most where factors allow
_MOST = 1 << 24  # points; tables are constants of the model


def _angles(rows: int, columns: int, points: int) -> Array:
    """``2 pi r c / points``, exact before the last rounding."""
    turns = np.outer(np.arange(rows, dtype=np.int64), np.arange(columns, dtype=np.int64)) % points
    return np.asarray(turns * (2 * pi / points))


def _table(
    n: Call, points: DimLike, parts: int, bins: DimLike, sign: int, dtype: DType, scale: float = 1.0
) -> Value:
    """[points, parts, bins, 2]: what a sample's parts add to a bin's; ``sign`` is that of the exponent."""
    if isinstance(points, int) and isinstance(bins, int):
        angles = _angles(points, bins, points)
        cos, sin = np.cos(angles) * scale, np.sin(angles) * (sign * scale)
        rows = [np.stack([cos, sin], -1), np.stack([-sin, cos], -1)][:parts]
        return n.b.constant(np.stack(rows, 1), dtype)
    shape = (points, bins)
    size = n.b.constant(points, I64) if isinstance(points, int) else n.b.dim(points)
    turns = n.b.map("floormod", n.b.map("mul", n.b.iota(shape, 0), n.b.iota(shape, 1)), size)
    step = n.b.map("div", n.b.constant(2 * pi, F64), n.b.cast(size, F64))
    angle = n.b.map("mul", n.b.cast(turns, F64), step)
    real, imaginary = n.b.map("cos", angle), n.b.map("sin", angle)
    imaginary = imaginary if sign > 0 else n.b.map("neg", imaginary)
    pairs = [(real, imaginary), (n.b.map("neg", imaginary), real)][:parts]
    stacked = [n.b.concat([n.b.unsqueeze(v, -1) for v in pair], 2) for pair in pairs]
    whole = n.b.concat([n.b.unsqueeze(v, 1) for v in stacked], 1)
    return n.b.cast(whole, dtype)


def _product(n: Call, x: Value, bins: DimLike, sign: int, scale: float) -> Value:
    """[.., points, parts] -> [.., bins, 2] in one matrix product."""
    table = _table(n, x.shape[-2], int(str(x.shape[-1])), bins, sign, x.dtype, scale)
    return n.b.contract(x, table, over=([x.rank - 2, x.rank - 1], [0, 1]))


def _times(n: Call, x: Value, axis: int, factor: Array) -> Value:
    """Complex products: ``factor`` broadcasts against the parts, which lie along ``axis`` of ``x``."""
    real, imaginary = (n.b.constant(np.expand_dims(v, axis - x.rank), x.dtype) for v in (factor.real, factor.imag))
    a = n.b.slice_axis(x, axis, 0, 1)
    if x.shape[axis] == 1:
        return n.b.concat([n.b.map("mul", a, real), n.b.map("mul", a, imaginary)], axis)
    b = n.b.slice_axis(x, axis, 1, 1)
    first = n.b.map("sub", n.b.map("mul", a, real), n.b.map("mul", b, imaginary))
    second = n.b.map("add", n.b.map("mul", a, imaginary), n.b.map("mul", b, real))
    return n.b.concat([first, second], axis)


def _factor(points: int) -> int | None:
    """The factor of the first stage: the one nearest to what stages of one size would take."""
    found = [a for a in range(2, _PRODUCT + 1) if points % a == 0]
    wanted = log(points) / ceil(log(points) / log(_RADIX) - 1e-9)
    return min(found, key=lambda a: abs(log(a) - wanted)) if found else None


def _transform(n: Call, x: Value, sign: int, scale: float = 1.0) -> Value:
    """[.., points, parts] -> [.., points, 2], not normalised but for ``scale``."""
    points = x.shape[-2]
    if not isinstance(points, int) or points <= _PRODUCT:
        return _product(n, x, points, sign, scale)
    n.check(points <= _MOST, f"a transform of {points} points, more than {_MOST}")
    a = _factor(points)
    if a is None:
        return _product(n, x, points, sign, scale) if points <= _PRIME else _bluestein(n, x, points, sign, scale)
    b, lead, real = points // a, x.rank - 2, x.shape[-1] == 1
    bins = a // 2 + 1 if real else a
    split = n.b.reshape(x, (*x.shape[:-2], a, b, x.shape[-1]))
    table = n.b.permute(_table(n, a, int(str(x.shape[-1])), bins, sign, x.dtype), (0, 1, 3, 2))
    first = n.b.contract(split, table, over=([lead, lead + 2], [0, 1]))  # [.., b, 2, bins]
    turned = _times(n, first, lead + 1, np.exp(sign * 1j * _angles(b, bins, points)))
    rows = n.b.permute(turned, (*range(lead), lead + 2, lead, lead + 1))  # [.., bins, b, 2]
    second = _transform(n, rows, sign, scale)
    if bins < a:  # bin N - k is the conjugate of bin k
        rest = n.b.flip(n.b.slice_axis(second, lead, 1, a - bins), lead, lead + 1)
        second = n.b.concat([second, n.map("mul", rest, n.b.constant(np.array([1, -1]), x.dtype))], lead)
    order = n.b.permute(second, (*range(lead), lead + 1, lead, lead + 2))
    return n.b.reshape(order, (*x.shape[:-2], points, 2))


def _bluestein(n: Call, x: Value, points: int, sign: int, scale: float) -> Value:
    """``j k = (j^2 + k^2 - (k - j)^2) / 2``: a chirp, a convolution with the opposite chirp, a chirp."""
    length = 1 << (2 * points - 2).bit_length()
    square = np.arange(points, dtype=np.int64) ** 2 % (2 * points)
    chirp = np.exp(sign * 1j * pi * square / points)
    kernel = np.zeros(length, np.complex128)
    kernel[:points] = chirp.conj()
    kernel[length - points + 1 :] = chirp[:0:-1].conj()
    axis, last = x.rank - 2, x.rank - 1
    low = [0] * x.rank
    high = [length - points if a == axis else 0 for a in range(x.rank)]
    padded = n.b.pad(_times(n, x, last, chirp), low, high)
    spectrum = _times(n, _transform(n, padded, -1), last, np.fft.fft(kernel))
    result = n.b.slice_axis(_transform(n, spectrum, 1, 1 / length), axis, 0, points)
    return _times(n, result, last, chirp * scale)


def _fitted(n: Call, x: Value, length: DimLike) -> Value:
    """The last axis but one cut, or filled up with zeros."""
    axis = x.rank - 2
    more = maximum(0, length - x.shape[axis])
    x = n.b.pad(x, [0] * x.rank, [more if a == axis else 0 for a in range(x.rank)])
    return n.b.slice_axis(x, axis, 0, length)


def _parts(n: Call, x: Value) -> int:
    parts = x.shape[-1] if x.rank else 0
    if not isinstance(parts, int):
        n.unsupported("whether the input is complex, which only a run knows")
    n.check(x.rank >= 2 and parts in (1, 2), f"{x.type} has no last axis of 1 or 2, real or complex")
    return parts


def _length(n: Call, index: int) -> DimLike:
    """A number of points that an input gives."""
    dims = n.dims(index)
    if dims is None:
        return n.bind(n.value(index))
    n.check(len(dims) == 1, f"input {index} has {len(dims)} elements, not 1")
    n.check(not isinstance(dims[0], int) or dims[0] >= 1, f"a transform of {dims[0]} points")
    return dims[0]


def _half(points: DimLike) -> DimLike:
    return floordiv(points, 2) + 1


def _forward(n: Call, x: Value, onesided: bool) -> Value:
    points = x.shape[-2]
    bins = _half(points) if onesided else points
    if not isinstance(points, int) or points <= _PRODUCT:
        return _product(n, x, bins, -1, 1.0)
    return n.b.slice_axis(_transform(n, x, -1), x.rank - 2, 0, bins)


def _inverse(n: Call, x: Value) -> Value:
    points = x.shape[-2]
    if isinstance(points, int):
        return _transform(n, x, 1, 1 / max(points, 1))
    result = _transform(n, x, 1)
    return n.map("div", result, n.b.cast(n.b.dim(points), x.dtype))


def _inverse_real(n: Call, x: Value, points: DimLike) -> Value:
    """The other half of the spectrum is the conjugate; only the real part of the result is left."""
    axis = x.rank - 2
    x = _fitted(n, x, _half(points))
    rest = n.b.slice_axis(x, axis, 1, points - _half(points))
    signs = n.b.constant(np.array([1, -1]), x.dtype)
    whole = n.b.concat([x, n.map("mul", n.b.flip(rest, axis), signs)], axis)
    return n.b.slice_axis(_inverse(n, whole), x.rank - 1, 0, 1)


@op("DFT", since=17)
def dft(n: Call) -> Value:
    x = n.value(0)
    parts = _parts(n, x)
    if n.opset < 20:
        axis = n.attributes.integer("axis", 1)
    else:
        axes = n.integers(2, "axis") if n.has(2) else [-2]
        n.check(axes is not None and len(axes) == 1, f"axis has shape {n.tensor(2).shape if n.has(2) else ()}")
        (axis,) = axes or [-2]
    axis = n.axis(axis, x.rank)
    n.check(axis < x.rank - 1, f"axis {axis} of {x.type} is that of real and imaginary parts")
    inverse, onesided = n.attributes.flag("inverse"), n.attributes.flag("onesided")
    given = _length(n, 1) if n.has(1) else None
    dtype, last = x.dtype, x.rank - 1
    order = [*(a for a in range(last) if a != axis), axis, last]
    x = n.b.cast(n.b.permute(x, order), dtype.compute)
    extent = x.shape[-2]
    if inverse and onesided:
        n.check(parts == 2, "the inverse of a onesided transform takes complex input")
        result = _inverse_real(n, x, maximum(2 * (extent - 1), 0) if given is None else given)
    else:
        n.check(not onesided or parts == 1, "a onesided transform takes real input")
        x = x if given is None else _fitted(n, x, given)
        result = _inverse(n, x) if inverse else _forward(n, x, onesided)
    back = [order.index(a) for a in range(x.rank)]
    return n.b.cast(n.b.permute(result, back), dtype)


def _frame_length(n: Call, x: Value) -> DimLike:
    window = n.value(2).shape if n.has(2) else None
    n.check(window is None or len(window) == 1, "the window is not of rank 1")
    if n.has(3):
        return _length(n, 3)
    return x.shape[1] if window is None else window[0]


def _frames(n: Call, x: Value, length: DimLike) -> Value:
    """[batch, signal, parts] -> [batch, frames, length, parts]."""
    steps = n.dims(1)
    step = steps[0] if steps is not None and len(steps) == 1 else None
    n.check(not isinstance(step, int) or step >= 1, f"frame_step is {step}")
    extent = x.shape[1]
    too_short = isinstance(extent, int) and isinstance(length, int) and length > extent
    n.check(not too_short, f"frames of {length} for a signal of {extent}")
    if not provably_nonnegative(extent - length):
        n.assume(minimum(0, extent - length), 0)
    if isinstance(step, int) and isinstance(length, int):
        return n.b.permute(n.b.window(x, [1], [length], [step], [1]), (0, 1, 3, 2))
    hop = n.b.cast(n.b.reshape(n.value(1), ()), I64)
    room = n.b.dim(extent - length)
    count = n.bind(n.map("add", n.b.map("quotient", room, hop), n.number(1, hop)))
    shape = (count, length)
    at = n.map("add", n.map("mul", n.b.iota(shape, 0), hop), n.b.iota(shape, 1))
    return n.b.gather(x, 1, at)


@op("STFT", since=17)
def stft(n: Call) -> Value:
    """Frames stay a view of the signal where one product transforms them: the window is part of its table."""
    x = n.value(0)
    parts = _parts(n, x)
    n.check(x.rank == 3, f"a signal of {x.type}, not of rank 3")
    onesided = n.attributes.flag("onesided", True)
    n.check(not onesided or parts == 1, "a onesided transform takes a real signal")
    dtype = x.dtype
    length = _frame_length(n, x)
    window = n.b.cast(n.match(n.value(2), (length,)), dtype.compute) if n.has(2) else None
    frames = _frames(n, n.b.cast(x, dtype.compute), length)
    if not isinstance(length, int) or length <= _PRODUCT or (length <= _PRIME and _factor(length) is None):
        table = _table(n, length, parts, _half(length) if onesided else length, -1, frames.dtype)
        if window is not None:
            table = n.map("mul", table, n.b.reshape(window, (length, 1, 1, 1)))
        result = n.b.contract(frames, table, over=([2, 3], [0, 1]))
    else:
        if window is not None:
            frames = n.map("mul", frames, n.b.unsqueeze(window, -1))
        result = _forward(n, frames, onesided)
    return n.b.cast(result, dtype)

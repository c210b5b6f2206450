"""Windows of signals, and the mel scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv
from vitrify.ir.dtypes import F64, I64, DType
from vitrify.ir.graph import Value

_COSINES = {  # factors of cos(0), -cos(t), cos(2 t) ..
    "HannWindow": (0.5, 0.5),
    "HammingWindow": (25 / 46, 21 / 46),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


def _dtype(n: Call) -> DType:
    code = n.attributes.integer("output_datatype", 1)
    dtype = dtype_of(code)
    if dtype is None or dtype.is_bool:
        n.unsupported(f"output_datatype {dtype_name(code)}")
    return dtype


def _size(n: Call, index: int, least: int) -> DimLike:
    dims = n.dims(index)
    if dims is None:
        return n.bind(n.value(index))
    n.check(len(dims) == 1, f"input {index} has {len(dims)} elements, not 1")
    n.check(not isinstance(dims[0], int) or dims[0] >= least, f"input {index} is {dims[0]}, below {least}")
    return dims[0]


def _wide(n: Call, size: DimLike) -> Value:
    return n.b.constant(size, F64) if isinstance(size, int) else n.b.cast(n.b.dim(size), F64)


def _cosines(n: Call, factors: Sequence[float]) -> Value:
    """A sum of cosines over one period, in f64. Of a symmetric window the period ends at its last sample."""
    dtype = _dtype(n)
    size = _size(n, 0, 0)
    period = _wide(n, size if n.attributes.flag("periodic", True) else size - 1)
    turn = n.map("div", n.b.cast(n.b.iota((size,), 0), F64), period)
    total = n.b.fill(factors[0], F64, (size,))
    for k, factor in enumerate(factors[1:], 1):
        cosine = n.b.map("cos", n.map("mul", turn, n.b.constant(2 * pi * k, F64)))
        total = n.map("add" if k % 2 == 0 else "sub", total, n.map("mul", cosine, n.b.constant(factor, F64)))
    return n.b.cast(total, dtype)


@op("HannWindow", since=17)
def hann_window(n: Call) -> Value:
    return _cosines(n, _COSINES["HannWindow"])


@op("HammingWindow", since=17)
def hamming_window(n: Call) -> Value:
    return _cosines(n, _COSINES["HammingWindow"])


@op("BlackmanWindow", since=17)
def blackman_window(n: Call) -> Value:
    return _cosines(n, _COSINES["BlackmanWindow"])


def _edges(n: Call, bands: DimLike, points: DimLike) -> Value:
    """The spectrogram bin of every band's edge, i64 [bands + 2]: evenly spaced in mel."""

    def mel(index: int) -> Value:
        hertz = n.b.reshape(n.value(index), ())
        inner = n.map("add", n.map("div", hertz, n.number(700, hertz)), n.number(1, hertz))
        return n.b.cast(n.map("mul", n.b.map("log10", inner), n.number(2595, hertz)), F64)

    low, high = mel(3), mel(4)
    step = n.map("div", n.map("sub", high, low), _wide(n, bands + 2))
    at = n.map("add", n.map("mul", n.b.cast(n.b.iota((bands + 2,), 0), F64), step), low)
    exponent = n.map("div", at, n.b.constant(2595, F64))
    power = n.b.map("pow", n.b.fill(10, F64, (bands + 2,)), exponent)
    hertz = n.map("mul", n.map("sub", power, n.b.constant(1, F64)), n.b.constant(700, F64))
    rate = n.b.cast(n.b.reshape(n.value(2), ()), F64)
    bins = n.map("div", n.map("mul", hertz, _wide(n, points + 1)), rate)
    return n.b.cast(n.b.map("floor", bins), I64)


@op("MelWeightMatrix", since=17)
def mel_weight_matrix(n: Call) -> Value:
    """One triangle per band over the bins of a onesided spectrum: from its lower edge up to 1 at the next, and
    down to the one after it."""
    dtype = _dtype(n)
    bands, points = _size(n, 0, 0), _size(n, 1, 0)
    n.check(n.tensor(3).dtype.is_float and n.tensor(4).dtype.is_float, "the edges are no floats")
    edges = n.b.unsqueeze(_edges(n, bands, points), 0)
    shape = (floordiv(points, 2) + 1, bands)
    at = n.b.iota(shape, 0)
    lower, center, upper = (n.b.expand_to(n.b.slice_axis(edges, 1, k, bands), shape) for k in range(3))

    def ratio(above: Value, below: Value) -> Value:
        return n.b.map("div", n.b.cast(above, F64), n.b.cast(below, F64))

    zero, one = n.b.fill(0, F64, shape), n.b.fill(1, F64, shape)
    rise = n.b.map("sub", center, lower)
    rising = n.b.map("and", n.b.map("ge", at, lower), n.b.map("le", at, center))
    up = n.b.map("where", rising, ratio(n.b.map("sub", at, lower), rise), zero)
    peak = n.b.map("where", n.b.map("eq", at, center), one, zero)
    up = n.b.map("where", n.b.map("eq", lower, center), peak, up)
    falling = n.b.map("and", n.b.map("ge", at, center), n.b.map("lt", at, upper))
    down = ratio(n.b.map("sub", upper, at), n.b.map("sub", upper, center))
    return n.b.cast(n.b.map("where", falling, down, up), dtype)

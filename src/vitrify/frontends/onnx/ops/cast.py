"""Changes of dtype, and ops that give their input back."""

from __future__ import annotations

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.body import Contents, Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.symbolic import elementwise
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.ir.dtypes import BOOL, I8, U2, U4, U8, DType
from vitrify.ir.graph import Value

_EARLY_NAMES = {"FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BOOL": 9,
                "FLOAT16": 10, "DOUBLE": 11, "UINT32": 12, "UINT64": 13}  # fmt: skip


def _target(n: Call) -> DType:
    code = _EARLY_NAMES.get(n.attributes.text("to", ""), 0) if n.opset < 6 else n.attributes.integer("to")
    dtype = dtype_of(code)
    if dtype is None:
        n.unsupported(f"a cast to {dtype_name(code)}")
    return dtype


def _convert(n: Call, dtype: DType) -> Value | Tensor:
    n.attributes.ignore("round_mode")  # only float8e8m0, which has no row, rounds by it
    saturate = n.attributes.flag("saturate", True)
    x = n.tensor(0)
    if x.dtype is dtype:
        return x
    if x.dtype.is_float and dtype in (U4, U2):  # negative numbers keep their low bits
        return n.b.cast(n.b.cast(n.value(0), I8), dtype)
    return n.b.cast(n.value(0), dtype, saturate=saturate)


@op("Cast")
def cast(n: Call) -> Value | Tensor:
    return _convert(n, _target(n))


@op("CastLike", since=15)
def cast_like(n: Call) -> Value | Tensor:
    return _convert(n, n.tensor(1).dtype)


@symbolic("Cast")
def cast_contents(n: Call, x: Contents) -> Tensor | None:
    """Between integers and bool; the result of a cast to floats is no size."""
    dtype = _target(n)
    n.attributes.ignore("saturate", "round_mode")
    if dtype is BOOL:
        return n.known(elementwise(lambda v: 1 - n.symbols.equal(v, 0), x), BOOL)
    return n.known(x, dtype) if dtype.is_int else None


@op("BitCast", since=26)
def bit_cast(n: Call) -> Value | Tensor:
    """A bool is a byte of 0 or 1; integers of one size wrap into each other."""
    x, dtype = n.tensor(0), _target(n)
    widths = [8 if d.is_bool else d.bits for d in (x.dtype, dtype)]
    n.check(widths[0] == widths[1], f"{x.dtype} has {widths[0]} bits, {dtype} has {widths[1]}")
    if x.dtype is dtype:
        return x
    whole = n.b.cast(n.value(0), U8) if x.dtype.is_bool else n.value(0)
    if not (whole.dtype.is_float or dtype.is_float):
        return n.b.cast(whole, dtype)
    return n.b.cast(n.b.bit_cast(whole, U8), dtype) if dtype.is_bool else n.b.bit_cast(whole, dtype)


@op("Identity")
def identity(n: Call) -> Tensor:
    return n.tensor(0)

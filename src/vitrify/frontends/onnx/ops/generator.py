"""Constants and ranges."""

from __future__ import annotations

from math import ceil, isfinite

import numpy as np

from vitrify.frontends.onnx.body import CONTENTS_LIMIT, Array, Contents, Tensor, constant_tensor
from vitrify.frontends.onnx.call import MAX_RANK, Call
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.ir.dims import Dim, DimLike, ceildiv, maximum
from vitrify.ir.dtypes import I64, from_numpy
from vitrify.ir.graph import Value


@op("Constant")
def constant(n: Call) -> Tensor:
    n.check(not n.inputs, "takes no inputs")
    n.attributes.refuse(["sparse_value", "value_string", "value_strings"])
    array = _value(n)
    return constant_tensor(array, from_numpy(array.dtype))


def _value(n: Call) -> Array:
    a = n.attributes
    if "value_float" in a:
        return np.array(a.number("value_float"), np.float32)
    if "value_int" in a:
        return np.array(a.integer("value_int"), np.int64)
    if "value_floats" in a:
        return np.array(a.numbers("value_floats"), np.float32)
    if "value_ints" in a:
        return np.array(a.integers("value_ints"), np.int64)
    array = a.tensor("value")
    if array is None:
        n.invalid("has no value")
    return array


def _fill(n: Call) -> Array:
    array = n.attributes.tensor("value")
    if array is None:
        return np.zeros((), np.float32)
    n.check(array.size == 1, f"value has shape {list(array.shape)}, not one element")
    return array.reshape(())


@op("ConstantOfShape", since=9)
def constant_of_shape(n: Call) -> Value:
    return n.b.expand_to(n.b.constant(_fill(n)), sizes_of(n, 0))


@symbolic("ConstantOfShape", since=9)
def constant_of_shape_contents(n: Call, shape: Contents) -> Tensor | None:
    array = _fill(n)
    sizes = [d for d in shape.reshape(-1) if isinstance(d, int)]
    if len(sizes) < shape.size or min(sizes, default=0) < 0 or int(np.prod(sizes, dtype=float)) > CONTENTS_LIMIT:
        return None
    if array.dtype.kind not in "iub":
        return None
    return constant_tensor(np.full(sizes, array), from_numpy(array.dtype))


def sizes_of(n: Call, index: int) -> tuple[DimLike, ...]:
    """A shape that an input gives; sizes that only a run knows get symbols."""
    dims = n.dims(index)
    if dims is not None:
        for d in dims:
            n.check(not isinstance(d, int) or d >= 0, f"the shape {list(map(str, dims))} has a negative size")
        n.check(len(dims) <= MAX_RANK, f"a rank of {len(dims)}")
        return tuple(dims)
    shape = n.b.cast(n.value(index), I64)
    shape = n.b.reshape(shape, (n.length(index),))
    return tuple(n.bind(n.b.slice_axis(shape, 0, i, 1)) for i in range(n.length(index)))


@op("Range", since=11)
def range_(n: Call) -> Value:
    """``start + i * delta`` over an iota; floats multiply, as ONNX's reference does."""
    start = n.b.reshape(n.value(0), ())
    delta = n.b.reshape(n.value(2), ())
    steps = n.b.cast(n.b.iota((_count(n),), 0), start.dtype)
    return n.map("add", n.map("mul", steps, delta), start)


def _count(n: Call) -> DimLike:
    for index, name in enumerate(("start", "limit", "delta")):
        shape = n.tensor(index).shape
        single = all(size == 1 for size in shape if isinstance(size, int))
        n.check(single, f"{name} has shape {list(map(str, shape))}, not one element")
    held = [n.contents(i) for i in range(3)]
    if all(h is not None for h in held):
        start, limit, delta = (h.reshape(-1)[0] for h in held if h is not None)
        if isinstance(delta, int):
            n.check(delta != 0, "delta is 0")
            return maximum(0, ceildiv(limit - start, delta) if delta > 0 else ceildiv(start - limit, -delta))
    arrays = [n.constant(i) for i in range(3)]
    if all(a is not None for a in arrays):
        first, last, step = (float(a.reshape(())) for a in arrays if a is not None)
        n.check(step != 0, "delta is 0")
        n.check(isfinite(first) and isfinite(last) and isfinite(step), f"counts from {first} to {last} by {step}")
        return max(0, ceil((last - first) / step))
    start_value, limit_value, delta_value = (n.b.reshape(n.value(i), ()) for i in range(3))
    if start_value.dtype.is_float:
        span = n.b.map("sub", limit_value, start_value)
        steps = n.b.map("ceil", n.b.map("div", span, delta_value))
    else:
        steps = _integer_steps(n, *(n.b.cast(v, I64) for v in (start_value, limit_value, delta_value)))
    return n.bind(n.map("max", n.b.cast(steps, I64), n.b.constant(0, I64)))


def _integer_steps(n: Call, start: Value, limit: Value, delta: Value) -> Value:
    """Truncation towards zero, then one more where something remains in the direction of ``delta``. A span
    that overflows becomes the largest size there is, which the run refuses."""
    span = n.b.map("sub", limit, start)
    quotient = n.b.map("quotient", span, delta)
    rest = n.b.map("sub", span, n.b.map("mul", quotient, delta))
    zero = n.b.constant(0, I64)
    forward = n.b.map("lt", zero, delta)
    more = n.b.map("and", n.b.map("ne", rest, zero), n.b.map("eq", n.b.map("lt", zero, span), forward))
    steps = n.b.map("add", quotient, n.b.cast(more, I64))
    rises = n.b.map("lt", start, limit)
    overflows = n.b.map("ne", rises, n.b.map("lt", zero, span))
    reached = n.b.map("and", n.b.map("ne", start, limit), n.b.map("eq", rises, forward))
    steps = n.b.map("where", overflows, n.b.constant(2**63 - 1, I64), steps)
    return n.b.map("where", reached, steps, zero)


@symbolic("Range", since=11)
def range_contents(n: Call, start: Contents, limit: Contents, delta: Contents) -> Contents | None:
    if any(c.size != 1 for c in (start, limit, delta)):
        return None  # which the op's rule refuses
    first, last, step = (c.reshape(-1)[0] for c in (start, limit, delta))
    if any(isinstance(v, Dim) for v in (first, last, step)):
        return None
    n.check(step != 0, "delta is 0")
    values = range(first, last, step)
    return np.array(list(values), object) if len(values) <= CONTENTS_LIMIT else None


@op("EyeLike", since=9)
def eye_like(n: Call) -> Value:
    from vitrify.frontends.onnx.arrays import dtype_of

    x = n.tensor(0)
    n.check(x.rank == 2, f"a tensor of rank {x.rank}, not 2")
    dtype = dtype_of(n.attributes.integer("dtype")) if "dtype" in n.attributes else x.dtype
    if dtype is None:
        n.unsupported("the dtype")
    offset = n.attributes.integer("k", 0)
    offset = min(max(offset, -(2**62)), 2**62)  # beyond all axes either way, and no sum overflows
    shifted = n.map("add", n.b.iota(x.shape, 0), n.b.constant(offset, I64))
    return n.b.cast(n.b.map("eq", shifted, n.b.iota(x.shape, 1)), dtype)

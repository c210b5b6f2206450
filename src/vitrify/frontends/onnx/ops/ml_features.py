"""ai.onnx.ml: features made ready for models. Numbers here; strings are host values."""

from __future__ import annotations

from math import isnan

import numpy as np

from vitrify.frontends.onnx.body import Array
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import product
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Value

DOMAIN = "ai.onnx.ml"


def rows_of(n: Call, x: Value) -> Value:
    """A matrix; a vector is one row."""
    n.check(x.rank in (1, 2), f"a tensor of rank {x.rank}, not 1 or 2")
    return x if x.rank == 2 else n.b.unsqueeze(x, 0)


@op("ArrayFeatureExtractor", domain=DOMAIN)
def array_feature_extractor(n: Call) -> Value:
    """Columns by number; a vector gives a row."""
    x, chosen = n.value(0), n.value(1)
    n.check(x.rank >= 1, "a tensor of rank 0")
    held, size = n.constant(1), x.shape[-1]
    if held is not None and held.size and isinstance(size, int):
        low, high = int(held.min()), int(held.max())
        n.check(low >= 0 and high < size, f"columns {low} .. {high} of {size}")
    out = n.b.gather(x, x.rank - 1, n.b.reshape(chosen, (product(chosen.shape),)))
    return n.b.unsqueeze(out, 0) if x.rank == 1 else out


@op("Binarizer", domain=DOMAIN)
def binarizer(n: Call) -> Value:
    x = n.value(0)
    limit = n.attributes.number("threshold", 0.0)
    compared = x if x.dtype.is_float else n.b.cast(x, F64)
    return n.b.cast(n.map("gt", compared, n.number(limit, compared)), x.dtype)


@op("FeatureVectorizer", domain=DOMAIN)
def feature_vectorizer(n: Call) -> Value:
    """The inputs side by side, each cut or filled with zeros to its number of columns."""
    sizes = n.attributes.integers("inputdimensions") or []
    n.check(len(sizes) == len(n.inputs), f"{len(sizes)} inputdimensions for {len(n.inputs)} inputs")
    n.check(min(sizes, default=0) >= 0, f"inputdimensions are {sizes}")
    parts: list[Value] = []
    for index, size in enumerate(sizes):
        x = n.b.cast(rows_of(n, n.value(index)), F32)
        own = x.shape[1]
        if not isinstance(own, int):
            n.unsupported(f"{x.type} with columns that only a run knows")
        if own > size:
            x = n.b.slice_axis(x, 1, 0, size)
        filled = n.b.pad(x, [0, 0], [0, max(0, size - own)])
        parts.append(n.match(filled, (parts[0].shape[0], size)) if parts else filled)
    return n.b.concat(parts, 1)


@op("Imputer", domain=DOMAIN)
def imputer(n: Call) -> Value:
    """Missing values, NaN or a given number, replaced by one value or one per column."""
    x, a = n.value(0), n.attributes
    floats, ints = a.numbers("imputed_value_floats"), a.integers("imputed_value_int64s")
    old_float, old_int = a.number("replaced_value_float", 0.0), a.integer("replaced_value_int64", 0)
    values: list[float] | list[int] | None = floats if x.dtype.is_float else ints
    if not values:
        n.invalid(f"no imputed values for {x.dtype}")
    n.check(x.rank >= 1, "a tensor of rank 0")
    n.check(len(values) == 1 or x.shape[-1] == len(values), f"{len(values)} imputed values for {x.type}")
    new = n.b.constant(np.array(values), x.dtype)
    old: float | int = old_float if x.dtype.is_float else old_int
    missing = n.b.map("isnan", x) if isnan(old) else n.map("eq", x, n.number(old, x))
    return n.map("where", missing, new, x)


@op("Normalizer", domain=DOMAIN)
def normalizer(n: Call) -> Value:
    """Rows over their norm; rows of zeros stay."""
    kind = n.attributes.text("norm", "MAX")
    n.check(kind in ("MAX", "L1", "L2"), f"norm is {kind!r}, not MAX, L1 or L2")
    given = n.value(0)
    x = Term(n, rows_of(n, given)).cast(F64 if given.dtype is F64 else F32)
    if kind == "MAX":
        norm = x.reduce("max", 1, keepdims=True)
    elif kind == "L1":
        norm = x.apply("abs").reduce("sum", 1, keepdims=True)
    else:
        norm = (x * x).reduce("sum", 1, keepdims=True).apply("sqrt")
    out = norm.equals(0).pick(x, x / norm)
    return n.b.reshape(out.cast(F32).value, given.shape)


@op("OneHotEncoder", domain=DOMAIN)
def one_hot_encoder(n: Call) -> Value:
    """1 at the category's place along a new last axis."""
    x, a = n.value(0), n.attributes
    a.refuse(["cats_strings"])
    cats = a.integers("cats_int64s") or []
    n.check(bool(cats), "no categories")
    code = Term(n, n.b.cast(x, I64)).unsqueeze(x.rank)
    hot = code.equals(Term(n, n.b.constant(np.array(cats, np.int64))))
    if a.flag("zeros", True):
        return hot.cast(F32).value
    known = hot.reduce("any", x.rank, keepdims=True)  # an unknown category leaves a table of two entries
    place = known.pick(number_term(n, 0, I64), 2)
    sure = Term(n, n.b.gather(n.b.constant(np.array([1, 0], np.float32)), 0, place.value))
    return (hot.cast(F32) * sure).value


@op("Scaler", domain=DOMAIN)
def scaler(n: Call) -> Value:
    """``(x - offset) * scale``, by one number or one per column."""
    x, a = n.value(0), n.attributes
    offset, scale = a.numbers("offset") or [], a.numbers("scale") or []
    n.check(x.rank >= 1 and bool(offset) and bool(scale), f"needs an offset and a scale for {x.type}")
    for values in (offset, scale):
        n.check(len(values) == 1 or x.shape[-1] == len(values), f"{len(values)} offsets or scales for {x.type}")
    dtype = F64 if x.dtype is F64 else F32
    moved = n.map("sub", n.b.cast(x, dtype), n.b.constant(np.array(offset), dtype))
    return n.b.cast(n.map("mul", moved, n.b.constant(np.array(scale), dtype)), F32)


# LabelEncoder
def _table(n: Call, what: str) -> Array | None:
    """Keys or values, in the attribute of their type."""
    a = n.attributes
    tensor = a.tensor(f"{what}_tensor") if n.opset >= 4 else None
    ints, floats = a.integers(f"{what}_int64s"), a.numbers(f"{what}_floats")
    if tensor is not None:
        n.check(tensor.ndim == 1, f"{what}_tensor has shape {list(tensor.shape)}, not rank 1")
        return tensor
    if ints is not None:
        return np.array(ints, np.int64)
    return None if floats is None else np.array(floats, np.float32)


@op("LabelEncoder", domain=DOMAIN, since=2)
def label_encoder(n: Call) -> Value:
    """The value of a key, or the default. Of equal keys the first counts."""
    x, a = n.value(0), n.attributes
    a.refuse(["keys_strings", "values_strings"])
    keys, values = _table(n, "keys"), _table(n, "values")
    default_int, default_float = a.integer("default_int64", -1), a.number("default_float", -0.0)
    a.ignore("default_string")
    if keys is None or values is None:
        n.invalid("has no numeric keys or values")
    n.check(len(keys) == len(values), f"{len(keys)} keys for {len(values)} values")
    n.check(keys.dtype == x.dtype.numpy, f"keys of {keys.dtype.name} for {x.type}")
    other = a.tensor("default_tensor") if n.opset >= 4 else None
    if other is not None:
        what = f"default_tensor is {other.dtype.name}{list(other.shape)}"
        n.check(other.size == 1 and other.dtype == values.dtype, what)
        default = n.b.constant(other.reshape(()))
    else:
        default = n.b.constant(np.array(default_float if values.dtype.kind == "f" else default_int, values.dtype))
    if not len(keys):
        return n.b.expand_to(default, x.shape)
    return _looked_up(n, Term(n, x), keys, values, Term(n, default))


def _looked_up(n: Call, x: Term, keys: Array, values: Array, default: Term) -> Value:
    holes = np.isnan(keys) if keys.dtype.kind == "f" else np.zeros(len(keys), bool)
    order = np.flatnonzero(~holes)
    unique, first = np.unique(keys[order], return_index=True)
    chosen = values[order][first]
    result = _searched(n, x, unique, chosen, default) if len(unique) else default
    if holes.any() and n.opset >= 4:  # before, NaN equals no key
        missing = Term(n, n.b.constant(values[np.flatnonzero(holes)[0]]))
        result = x.apply("isnan").pick(missing, result)
    return n.b.expand_to(result.value, x.value.shape)


def _searched(n: Call, x: Term, keys: Array, values: Array, default: Term) -> Term:
    """Binary search in sorted keys: each step a gather and a comparison."""
    table, count = n.b.constant(keys), len(keys)
    place = x.cast(I64) * 0
    step = 1 << (count - 1).bit_length() >> 1
    while step:
        further = place + step
        there = Term(n, n.b.gather(table, 0, further.least(count - 1).value))
        place = ((further <= count - 1) & (there <= x)).pick(further, place)
        step >>= 1
    found = Term(n, n.b.gather(table, 0, place.value)).equals(x)
    return found.pick(Term(n, n.b.gather(n.b.constant(values), 0, place.value)), default)

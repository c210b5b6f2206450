"""ai.onnx.ml and TfIdfVectorizer where strings, maps or tables of both are involved: steps of the host program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from vitrify.frontends.onnx.arrays import dtype_of
from vitrify.frontends.onnx.edges import string_array
from vitrify.frontends.onnx.host import STRINGS, Held, dtype_of_kind, inner_kind
from vitrify.frontends.onnx.host_call import HostCall, host
from vitrify.ir.dims import product

ML = "ai.onnx.ml"
_NAMES = {"strings": "string", "int64s": "i64", "floats": "f32"}


def _table(n: HostCall, what: str) -> tuple[list[Any], str]:
    """``keys`` or ``values`` of a LabelEncoder, with the name of their dtype."""
    found: list[tuple[list[Any], str]] = []
    for suffix, read in (
        ("strings", n.attributes.texts), ("int64s", n.attributes.integers), ("floats", n.attributes.numbers)
    ):  # fmt: skip
        items = read(f"{what}_{suffix}")
        if items is not None:
            found.append((list(items), _NAMES[suffix]))
    tensor = n.attributes.raw_tensor(f"{what}_tensor")
    if tensor is not None:
        found.append(_tensor_items(n, tensor, f"{what}_tensor"))
    n.check(len(found) == 1, f"{what} are given {len(found)} times, not once")
    return found[0]


def _tensor_items(n: HostCall, tensor: onnx.TensorProto, name: str) -> tuple[list[Any], str]:
    if tensor.data_type == onnx.TensorProto.STRING:
        return string_array(tensor).reshape(-1).tolist(), "string"
    array, dtype = n.attributes.tensor(name), dtype_of(tensor.data_type)
    if array is None or dtype is None:
        n.invalid(f"attribute {name!r} has no elements")
    return array.reshape(-1).tolist(), dtype.name


@host("LabelEncoder", domain=ML, since=2, alone=True)
def label_encoder(n: HostCall) -> Sequence[Held]:
    keys, key_type = _table(n, "keys")
    values, value_type = _table(n, "values")
    n.check(len(keys) == len(values), f"{len(keys)} keys and {len(values)} values")
    defaults = {
        "string": n.attributes.text("default_string", "_Unused"),
        "i64": n.attributes.integer("default_int64", -1),
        "f32": n.attributes.number("default_float", -0.0),
    }
    given = n.attributes.raw_tensor("default_tensor")
    default = defaults.get(value_type, -0.0 if value_type[0] in "fb" else -1)
    if given is not None:
        items, default_type = _tensor_items(n, given, "default_tensor")
        n.check(len(items) == 1 and default_type == value_type, "default_tensor is not one element of the values' type")
        default = items[0]
    return _encoded(n, keys, key_type, values, value_type, default)


def _encoded(
    n: HostCall, keys: list[Any], key_type: str, values: list[Any], value_type: str, default: Any
) -> Sequence[Held]:
    dtype = dtype_of_kind(n.kind(0))
    own = "string" if n.kind(0) == STRINGS else None if dtype is None else dtype.name
    if own != key_type:
        n.invalid("the input is not of the keys' type", expected=key_type, actual=n.kind(0))
    made = STRINGS if value_type == "string" else f"tensor({_onnx_name(value_type)})"
    return n.step(
        "LabelEncoder", [n.held(0)], [(made, n.shape(0))], keys=keys, values=values, default=[default], dtype=value_type
    )


def _onnx_name(name: str) -> str:
    from vitrify.artifact.dtypes import BY_NAME

    return BY_NAME[name].onnx


@host("LabelEncoder", domain=ML, alone=True)
def label_encoder_classes(n: HostCall) -> Sequence[Held]:
    classes = n.attributes.texts("classes_strings") or []
    return _both_ways(n, classes, list(range(len(classes))))


@host("CategoryMapper", domain=ML, alone=True)
def category_mapper(n: HostCall) -> Sequence[Held]:
    texts, numbers = n.attributes.texts("cats_strings") or [], n.attributes.integers("cats_int64s") or []
    n.check(len(texts) == len(numbers), f"{len(texts)} strings and {len(numbers)} integers")
    return _both_ways(n, texts, numbers)


def _both_ways(n: HostCall, texts: list[str], numbers: list[int]) -> Sequence[Held]:
    """Strings to integers, or integers to strings, by the input's type."""
    default_text = n.attributes.text("default_string", "_Unused")
    default_number = n.attributes.integer("default_int64", -1)
    if n.kind(0) == STRINGS:
        return _encoded(n, texts, "string", numbers, "i64", default_number)
    return _encoded(n, numbers, "i64", texts, "string", default_text)


@host("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(n: HostCall) -> Sequence[Held]:
    """Columns by number, such as class labels by what ArgMax found; a vector gives a row."""
    if n.kind(0) != STRINGS:
        n.unsupported(f"an input of type {n.kind(0)}")
    n.check(n.kind(1) == "tensor(int64)", f"columns are {n.kind(1)}, not tensor(int64)")
    x, at = n.shape(0), n.shape(1)
    n.check(x is None or len(x) >= 1, "a tensor of rank 0")
    made = None if x is None or at is None else (*(x[:-1] or (1,)), product(at))
    return n.step("ArrayFeatureExtractor", [n.held(0), n.held(1)], [(STRINGS, made)])


@host("OneHotEncoder", domain=ML)
def one_hot_encoder(n: HostCall) -> Sequence[Held]:
    n.check(n.kind(0) == STRINGS, f"takes {n.kind(0)}")
    categories = n.attributes.texts("cats_strings")
    if categories is None:
        n.invalid("cats_strings is missing for an input of strings")
    n.check("cats_int64s" not in n.attributes, "has cats_int64s and cats_strings")
    shape = n.shape(0)
    made = None if shape is None else (*shape, len(categories))
    return n.step(
        "OneHotEncoder", [n.held(0)], [("tensor(float)", made)], categories=categories,
        zeros=n.attributes.integer("zeros", 1),
    )  # fmt: skip


@host("DictVectorizer", domain=ML)
def dict_vectorizer(n: HostCall) -> Sequence[Held]:
    kind = n.kind(0)
    key, _, value = inner_kind(kind).partition(",")
    words: list[Any] | None = n.attributes.texts("string_vocabulary")
    numbers = n.attributes.integers("int64_vocabulary")
    n.check((words is None) != (numbers is None), "needs one of string_vocabulary and int64_vocabulary")
    n.check((key == "string") == (words is not None), f"a vocabulary of another type than the keys of {kind}")
    vocabulary = words if words is not None else numbers or []
    dtype = dtype_of_kind(value)
    name = "string" if value == STRINGS else "" if dtype is None else dtype.name
    if not name:
        n.unsupported(f"values of type {value}")
    return n.step(
        "DictVectorizer", [n.held(0)], [(value, (1, len(vocabulary)))], vocabulary=vocabulary, dtype=name
    )


@host("ZipMap", domain=ML, alone=True)
def zip_map(n: HostCall) -> Sequence[Held]:
    words: list[Any] | None = n.attributes.texts("classlabels_strings")
    numbers = n.attributes.integers("classlabels_int64s")
    n.check((words is None) != (numbers is None), "needs one of classlabels_strings and classlabels_int64s")
    labels = words if words is not None else numbers or []
    shape = n.shape(0)
    if shape is not None and isinstance(shape[-1] if shape else 0, int):
        fits = len(shape) in (1, 2) and shape[-1] == len(labels)
        n.check(fits, f"{len(labels)} labels for scores {list(map(str, shape))}")
    key = "string" if words is not None else "int64"
    return n.step("ZipMap", [n.held(0)], [(f"seq(map({key},tensor(float)))", None)], labels=labels)


@host("TfIdfVectorizer", since=9, alone=True)
def tfidf(n: HostCall) -> Sequence[Held]:
    a = n.attributes
    words: list[Any] | None = a.texts("pool_strings")
    numbers = a.integers("pool_int64s")
    n.check((words is None) != (numbers is None), "needs one of pool_strings and pool_int64s")
    n.check((n.kind(0) == STRINGS) == (words is not None), f"a pool of another type than {n.kind(0)}")
    columns = a.integers("ngram_indexes") or []
    shape = n.shape(0)
    if shape is not None:
        n.check(len(shape) in (1, 2), f"a tensor of rank {len(shape)}, not [C] or [N, C]")
    made = None if shape is None else (*shape[:-1], max(columns, default=-1) + 1)
    weights = a.numbers("weights")
    return n.step(
        "TfIdfVectorizer", [n.held(0)], [("tensor(float)", made)],
        mode=a.text("mode", ""), min_gram_length=a.integer("min_gram_length"),
        max_gram_length=a.integer("max_gram_length"), max_skip_count=a.integer("max_skip_count"),
        ngram_counts=a.integers("ngram_counts") or [], ngram_indexes=columns,
        pool=words if words is not None else numbers or [],
        weights=None if weights is None else np.asarray(weights, np.float64),
    )  # fmt: skip

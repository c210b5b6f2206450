"""Tables from keys to values: encoders and vectorizers of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import IndexOutOfRangeError, ShapeError
from .ops import Apply, Array, Failure, Settings, host_op, objects


class _Table:
    """A dict in which NaN finds NaN."""

    def __init__(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if len(keys) != len(values):
            raise Failure("keys and values differ in number", expected=len(keys), actual=len(values))
        pairs = list(zip(keys, values, strict=True))
        self._values = {k: v for k, v in reversed(pairs) if k == k}  # the first of equal keys counts
        self._nans = [v for k, v in pairs if k != k]

    def get(self, key: Any, default: Any) -> Any:
        if key != key:
            return self._nans[0] if self._nans else default
        return self._values.get(key, default)


@host_op("LabelEncoder")
def label_encoder(settings: Settings) -> Apply:
    """``keys`` to ``values`` of ``dtype``, and ``default`` for what is no key."""
    table = _Table(settings.any("keys"), settings.any("values"))
    dtype = settings.dtype()
    defaults = settings.any("default")
    if len(defaults) != 1:
        raise Failure("the default", expected="one value", actual=len(defaults))
    default = defaults[0]

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        found = [table.get(key, default) for key in x.reshape(-1).tolist()]
        return [objects(found, x.shape).astype(dtype)]

    return apply


@host_op("ClassLabels")
def class_labels(settings: Settings) -> Apply:
    """The label at each position."""
    words = settings.texts("labels")
    labels = objects(words, (len(words),))

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        place: Array = inputs[0]
        try:
            return [labels[place]]
        except IndexError:
            raise Failure(
                "a class without a label", IndexOutOfRangeError, expected=f"0 to {len(words) - 1}",
                actual=sorted(set(place.reshape(-1).tolist()) - set(range(len(words)))),
            ) from None  # fmt: skip

    return apply


@host_op("OneHotEncoder")
def one_hot(settings: Settings) -> Apply:
    categories = settings.any("categories")
    places = {c: i for i, c in reversed(list(enumerate(categories)))}
    lenient = settings.integer("zeros", 1) == 1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        keys = x.reshape(-1).tolist()
        if x.dtype.kind == "f":
            keys = [int(k) if np.isfinite(k) else None for k in keys]  # as integers, as ONNX compares them
        result = np.zeros((x.size, len(categories)), np.float32)
        for row, key in enumerate(keys):
            place = places.get(key)
            if place is not None:
                result[row, place] = 1
            elif not lenient:
                raise Failure(
                    "a value that is no category, and zeros is 0", IndexOutOfRangeError, expected=_listed(categories),
                    actual=repr(x.reshape(-1)[row]),
                    hint="feed known categories, or set zeros to 1: then unknown ones give a row of zeros",
                )  # fmt: skip
        return [result.reshape(*x.shape, len(categories))]

    return apply


def _listed(items: Sequence[Any], most: int = 20) -> str:
    more = f", .. ({len(items)} in all)" if len(items) > most else ""
    return f"one of {', '.join(map(repr, items[:most]))}{more}"


@host_op("DictVectorizer")
def dict_vectorizer(settings: Settings) -> Apply:
    vocabulary = settings.any("vocabulary")
    dtype = settings.dtype()
    missing: Any = "" if dtype.kind == "O" else 0

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        given: Mapping[Any, Any] = inputs[0]
        return [objects([given.get(word, missing) for word in vocabulary], (1, len(vocabulary))).astype(dtype)]

    return apply


@host_op("ZipMap")
def zip_map(settings: Settings) -> Apply:
    """Maps from labels to scores, in the labels' order; of equal labels the last counts."""
    labels = settings.any("labels")
    places = dict(sorted((label, place) for place, label in enumerate(labels)))
    keys, columns = list(places), list(places.values())

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        if x.ndim not in (1, 2) or x.shape[-1] != len(labels):
            raise Failure("scores", ShapeError, expected=f"[N, {len(labels)}]", actual=list(x.shape))
        table: Array = x.reshape(-1, len(labels))[:, columns]
        return [[dict(zip(keys, row, strict=True)) for row in table.tolist()]]

    return apply

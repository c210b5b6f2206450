"""Ops on strings, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from .ops import Apply, Array, Failure, Settings, host_op, objects
from .re2 import Pattern, PatternError


@host_op("StringConcat")
def concat(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        a, b = broadcast(*inputs)
        return [objects([x + y for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)], a.shape)]

    return apply


def broadcast(*arrays: Array) -> list[Array]:
    try:
        return [np.asarray(a) for a in np.broadcast_arrays(*arrays)]
    except ValueError:
        shapes = " and ".join(str(list(a.shape)) for a in arrays)
        raise Failure(f"shapes {shapes} do not broadcast", ShapeError) from None


_CASES: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


@host_op("StringNormalizer")
def normalizer(settings: Settings) -> Apply:
    action, sensitive = settings.text("case_change_action", "NONE"), settings.integer("is_case_sensitive", 0) == 1
    if action not in _CASES:
        raise Failure("case_change_action", expected="LOWER, UPPER or NONE", actual=repr(action))
    stops = settings.texts("stopwords") if "stopwords" in settings else []
    change = _CASES[action]
    key: Callable[[str], str] = str if sensitive else str.lower
    dropped = {key(word) for word in stops}

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
            raise Failure("a tensor of another shape", ShapeError, expected="[C] or [1, C]", actual=list(x.shape))
        kept = [change(s) for s in x.reshape(-1) if key(s) not in dropped] or [""]
        return [objects(kept, (*x.shape[:-1], len(kept)))]

    return apply


@host_op("StringSplit")
def split(settings: Settings) -> Apply:
    delimiter = settings.text("delimiter", "") or None  # none: runs of whitespace
    most = settings.integer("maxsplit") if "maxsplit" in settings else -1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        parts = [s.split(delimiter, most) for s in x.reshape(-1)]
        widest = max(map(len, parts), default=0)
        padded = [p for row in parts for p in (*row, *[""] * (widest - len(row)))]
        counts = np.array([len(row) for row in parts], np.int64).reshape(x.shape)
        return [objects(padded, (*x.shape, widest)), counts]

    return apply


@host_op("RegexFullMatch")
def regex(settings: Settings) -> Apply:
    text = settings.text("pattern", "")
    try:
        pattern = Pattern(text)
    except PatternError as error:
        raise Failure(f"pattern {text!r}", expected="a regular expression of RE2", actual=str(error)) from None

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        return [np.array([pattern.fullmatch(s) for s in x.reshape(-1)], bool).reshape(x.shape)]

    return apply


@host_op("CastFromString")
def cast_from_string(settings: Settings) -> Apply:
    dtype = settings.dtype()
    whole = dtype.kind in "iu"

    def number(text: str) -> Any:
        try:
            if "_" in text:
                raise ValueError(text)
            value = (int(text) if whole else float(text)) if dtype.kind != "b" else bool(int(text))
            return np.array(value, object if whole else np.float64 if dtype.kind != "b" else bool).astype(dtype)
        except (ValueError, OverflowError):
            raise Failure("a string that is no number", expected=str(dtype), actual=repr(text)) from None

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        result = np.empty(x.size, dtype)
        with np.errstate(over="ignore"):
            for index, text in enumerate(x.reshape(-1)):
                result[index] = number(text)
        return [result.reshape(x.shape)]

    return apply


@host_op("CastToString")
def cast_to_string(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]

        def text(value: Any) -> str:
            if x.dtype.kind in "iub":
                return str(int(value))
            number = float(value)
            if np.isnan(number):
                return "NaN"
            return f"{number:.8g}" if np.isfinite(number) else ("INF" if number > 0 else "-INF")

        return [objects([text(v) for v in x.reshape(-1)], x.shape)]

    return apply

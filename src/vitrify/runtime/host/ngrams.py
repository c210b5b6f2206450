"""TfIdfVectorizer: how often runs of words of a pool occur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from .ops import Apply, Array, Failure, Settings, host_op

_MODES = ("TF", "IDF", "TFIDF")


@host_op("TfIdfVectorizer")
def tfidf(settings: Settings) -> Apply:
    mode = settings.text("mode")
    if mode not in _MODES:
        raise Failure("mode", expected=" or ".join(_MODES), actual=repr(mode))
    least, most = settings.integer("min_gram_length"), settings.integer("max_gram_length")
    skips = settings.integer("max_skip_count")
    if not 1 <= least <= most or skips < 0:
        raise Failure(
            "gram lengths and skips", expected="1 <= min_gram_length <= max_gram_length and max_skip_count >= 0",
            actual=f"{least}, {most} and {skips}",
        )  # fmt: skip
    columns = settings.integers("ngram_indexes")
    pool = _pool(settings.any("pool"), settings.integers("ngram_counts"), most)
    if len(columns) != len(pool) or any(c < 0 for c in columns):
        raise Failure("ngram_indexes", expected=f"{len(pool)} columns", actual=columns)
    weights = np.array(settings.floats("weights") if "weights" in settings else [1.0] * len(pool), np.float32)
    if len(weights) != len(pool):
        raise Failure("weights", expected=f"{len(pool)} of them", actual=len(weights))
    width = max(columns, default=-1) + 1
    runs = {gram: index for index, gram in enumerate(pool) if len(gram) >= least}

    def row(words: list[Any]) -> Array:
        counts = np.zeros(len(pool), np.float32)
        for length in range(least, most + 1):
            for step in range(1, 2 if length == 1 else skips + 2):
                for start in range(len(words) - (length - 1) * step):
                    found = runs.get(tuple(words[start : start + (length - 1) * step + 1 : step]))
                    if found is not None:
                        counts[found] += 1
        if mode != "TF":
            counts = weights * (counts if mode == "TFIDF" else np.minimum(counts, 1))
        result = np.zeros(width, np.float32)
        np.add.at(result, columns, counts)
        return result

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        if x.ndim not in (1, 2):
            raise Failure("a tensor of another rank", ShapeError, expected="[C] or [N, C]", actual=list(x.shape))
        rows = [row(words) for words in x.reshape(-1, x.shape[-1]).tolist()] if x.size else []
        table = np.array(rows, np.float32).reshape(-1, width) if rows else np.zeros((_rows(x), width), np.float32)
        return [table.reshape(*x.shape[:-1], width)]

    return apply


def _rows(x: Array) -> int:
    return x.shape[0] if x.ndim == 2 else 1


def _pool(items: list[Any], starts: list[int], most: int) -> list[tuple[Any, ...]]:
    """The grams: those of length 1 first, then those of length 2, ...; ``starts`` says where each begins."""
    ordered = sorted(starts) == starts and all(0 <= s <= len(items) for s in starts)
    if not ordered or len(starts) < most:
        raise Failure("ngram_counts", expected=f"{most} ascending positions up to {len(items)}", actual=starts)
    grams: list[tuple[Any, ...]] = []
    for length, (start, stop) in enumerate(zip(starts, [*starts[1:], len(items)], strict=True), 1):
        count = stop - start
        if count % length:
            raise Failure(f"the pool's grams of {length} words", expected=f"a multiple of {length}", actual=count)
        grams += [tuple(items[at : at + length]) for at in range(start, stop, length)]
    return grams

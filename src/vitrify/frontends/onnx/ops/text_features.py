"""Features of token sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from vitrify.frontends.onnx.body import Array
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import maximum
from vitrify.ir.dtypes import BOOL, F32, I64
from vitrify.ir.graph import Value

MOST_DISTANCES = 1024  # between tokens; each is a search of all n-grams


@op("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(n: Call) -> Value:
    """How often each n-gram of the pool occurs, its tokens 1 .. max_skip_count + 1 places apart."""
    n.attributes.refuse(["pool_strings"])
    x = n.value(0)
    n.check(x.rank <= 2 and x.dtype.is_int, f"tokens {x.type}, not integers of rank 1 or 2")
    rows = n.b.cast(n.b.reshape(x, (1,) * (2 - x.rank) + x.shape), I64)
    indexes = n.attributes.integers("ngram_indexes") or []
    n.check(bool(indexes) and min(indexes) >= 0, f"ngram_indexes {indexes[:8]}")
    size = max(indexes) + 1
    n.check(size <= 1 << 31, f"ngram_indexes up to {size - 1}")
    total = n.b.fill(0, F32, (rows.shape[0], size))
    for numbers, grams, distances in _pool(n, indexes):
        if isinstance(rows.shape[1], int):  # further apart two tokens are in no row
            distances = distances[: max(rows.shape[1], 1)]
        n.check(len(distances) <= MOST_DISTANCES, f"{len(distances)} distances, more than {MOST_DISTANCES}")
        found = [_occurrences(n, rows, grams, distance) for distance in distances]
        count = found[0]
        for more in found[1:]:
            count = n.b.map("add", count, more)
        total = n.b.scatter(total, 1, count, n.b.constant([indexes[i] for i in numbers], I64), combiner="sum")
    result = _weighted(n, total, indexes)
    return result if x.rank == 2 else n.b.reshape(result, (size,))


def _pool(n: Call, indexes: Sequence[int]) -> Iterator[tuple[list[int], Array, range]]:
    """Per length: the n-grams' numbers, the n-grams, and how far apart tokens may be. Of equal ones the last counts."""
    a = n.attributes
    pool, starts = a.integers("pool_int64s") or [], a.integers("ngram_counts") or []
    shortest, longest, skips = (a.integer(k) for k in ("min_gram_length", "max_gram_length", "max_skip_count"))
    n.check(1 <= shortest <= longest, f"n-grams of {shortest} to {longest} tokens")
    n.check(skips >= 0, f"max_skip_count is {skips}")
    edges = [*starts, len(pool)]
    ordered = bool(starts) and starts[0] >= 0 and all(p <= q for p, q in pairwise(edges))
    n.check(ordered and longest <= len(starts), f"ngram_counts {starts} of {len(pool)} tokens, up to {longest}-grams")
    number = 0
    for length, (start, end) in enumerate(pairwise(edges), 1):
        count = (end - start) // length
        n.check((end - start) % length == 0, f"{end - start} tokens are no {length}-grams")
        n.check(number + count <= len(indexes), f"{len(indexes)} ngram_indexes, too few for the pool")
        if count and shortest <= length <= longest:
            grams = np.array(pool[start:end], np.int64).reshape(count, length)
            last = {tuple(gram): i for i, gram in enumerate(grams.tolist())}
            kept = sorted(last.values())
            yield [number + i for i in kept], grams[kept], range(1, 2 if length == 1 else skips + 2)
        number += count


def _occurrences(n: Call, rows: Value, grams: Array, distance: int) -> Value:
    """[rows, n-grams]: in how many places all tokens of an n-gram stand ``distance`` apart."""
    count, length = grams.shape
    places = maximum(rows.shape[1] - (length - 1) * distance, 0)
    shape = (rows.shape[0], count, places)
    hit = n.b.fill(True, BOOL, shape)
    for i in range(length):
        part = n.b.slice_axis(rows, 1, i * distance, places)
        tokens = n.b.constant(np.ascontiguousarray(grams[:, i]).reshape(1, count, 1), I64)
        same = n.b.map("eq", n.b.expand_to(n.b.unsqueeze(part, 1), shape), n.b.expand_to(tokens, shape))
        hit = same if i == 0 else n.b.map("and", hit, same)
    return n.b.cast(n.b.reduce("sum", n.b.cast(hit, I64), [2]), F32)


def _weighted(n: Call, count: Value, indexes: Sequence[int]) -> Value:
    """Weights are given in the order of the pool, counts lie where ``indexes`` says."""
    mode = n.attributes.text("mode", "")
    n.check(mode in ("TF", "IDF", "TFIDF"), f"mode is {mode!r}, not TF, IDF or TFIDF")
    weights = n.attributes.numbers("weights")
    fits = weights is None or len(weights) == len(indexes)
    n.check(fits, f"{len(weights or ())} weights for {len(indexes)} ngram_indexes")
    if mode == "IDF":
        count = n.map("min", count, n.number(1, count))
    if mode == "TF" or weights is None:
        return count
    placed = np.ones(max(indexes) + 1, np.float32)
    placed[indexes] = weights
    return n.map("mul", count, n.b.constant(placed))

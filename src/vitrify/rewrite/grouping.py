"""Which axes a reshape splits and merges."""

from __future__ import annotations

from vitrify.ir.dims import Dim, DimLike, Shape, evaluate, symbols

Segment = tuple[tuple[int, ...], tuple[int, ...]]


def segments(before: Shape, after: Shape) -> list[Segment] | None:
    """The finest pairs (axes of ``before``, axes of ``after``) that hold the same elements, in order. Axes of
    size 1 belong to no pair. None where the sizes do not say, or where a size is 0.

    [n, 6, 1, 4] and [n, 2, 3, 4] give (0)(0), (1)(1, 2), (3)(3).
    """
    left = [i for i, n in enumerate(before) if n != 1]
    right = [i for i, n in enumerate(after) if n != 1]
    if 0 in before or 0 in after:
        return None
    result: list[Segment] = []
    i = j = 0
    while i < len(left) or j < len(right):
        a, b = left[i : i + 1], right[j : j + 1]
        i, j = i + 1, j + 1
        if not a or not b:
            return None
        one: DimLike = before[a[0]]
        other: DimLike = after[b[0]]
        while one != other:
            if _sample(one) < _sample(other):
                if i == len(left):
                    return None
                a.append(left[i])
                one, i = one * before[left[i]], i + 1
            else:
                if j == len(right):
                    return None
                b.append(right[j])
                other, j = other * after[right[j]], j + 1
        result.append((tuple(a), tuple(b)))
    return result


def _sample(value: DimLike) -> int:
    """The value where every symbol is large: which of two products still lacks factors."""
    if not isinstance(value, Dim):
        return value
    return evaluate(value, {s.name: 1_000_003 + 2 * len(s.name) + sum(map(ord, s.name)) for s in symbols(value)})

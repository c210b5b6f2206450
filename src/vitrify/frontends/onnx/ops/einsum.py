"""Einsum: sums of products named by letters."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value

# An axis that an ellipsis stands for: "<k" is the k-th from the right of what all ellipses cover.
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Equation:
    operands: tuple[Labels, ...]
    result: Labels


def _parsed(n: Call, text: str, ranks: list[int]) -> Equation:
    terms, arrow, shown = text.replace(" ", "").partition("->")
    sides = terms.split(",")
    n.check(len(sides) == len(ranks), f"equation {text!r} for {len(ranks)} inputs")
    operands = tuple(_labels(n, text, side, rank) for side, rank in zip(sides, ranks, strict=True))
    covered = max(sum(label[0] == "<" for label in side) for side in operands)
    rest = tuple(f"<{k}" for k in range(covered - 1, -1, -1))
    if not arrow:
        letters = [label for side in operands for label in side if label[0] != "<"]
        return Equation(operands, (*rest, *sorted(c for c in set(letters) if letters.count(c) == 1)))
    before, dots, after = shown.partition("...")
    result = (*before, *(rest if dots else ()), *after)
    n.check(all(_is_letter(c) for c in before + after), f"the result of the equation {text!r} is no letters")
    n.check(len(set(result)) == len(result), f"the equation {text!r} gives a letter twice")
    known = {label for side in operands for label in side}
    n.check(set(result) <= known, f"the equation {text!r} gives letters that no input has")
    return Equation(operands, result)


def _is_letter(c: str) -> bool:
    return c.isascii() and c.isalpha()


def _labels(n: Call, text: str, side: str, rank: int) -> Labels:
    before, dots, after = side.partition("...")
    n.check(all(_is_letter(c) for c in before + after), f"the equation {text!r} has a term {side!r}, not of letters")
    covered = rank - len(before) - len(after)
    fits = covered >= 0 if dots else covered == 0
    n.check(fits, f"equation {text!r}: ranks differ, the term {side!r} is for an input of rank {rank}")
    return (*before, *(f"<{k}" for k in range(covered - 1, -1, -1)), *after)


def _diagonal(n: Call, labels: Labels, x: Value) -> tuple[Labels, Value]:
    """Repeated letters once each, at their first place."""
    while len(set(labels)) < len(labels):
        first, second = next((i, j) for i, c in enumerate(labels) for j in range(i + 1, len(labels)) if labels[j] == c)
        x = n.match_axis(x, second, x.shape[first])
        rest = [i for i in range(x.rank) if i not in (first, second)]
        together = n.b.permute(x, [first, second, *rest])
        at = n.b.iota((x.shape[first],), 0, I64)
        x = n.b.gather(together, 0, at, at)
        labels = (labels[first], *(labels[i] for i in rest))
    return labels, x


def _agreed(n: Call, sides: list[tuple[Labels, Value]]) -> list[tuple[Labels, Value]]:
    """Every letter with one size in all operands; axes of size 1 of an ellipsis that broadcast are dropped."""
    sizes: dict[str, DimLike] = {}
    for labels, x in sides:
        for label, size in zip(labels, x.shape, strict=True):
            if label not in sizes or sizes[label] == 1:
                sizes[label] = size
    result: list[tuple[Labels, Value]] = []
    for labels, x in sides:
        gone = [i for i, c in enumerate(labels) if x.shape[i] == 1 and sizes[c] != 1]
        x = n.b.squeeze(x, *gone) if gone else x
        labels = tuple(c for i, c in enumerate(labels) if i not in gone)
        result.append((labels, n.match(x, tuple(sizes[c] for c in labels))))
    return result


def _summed(n: Call, labels: Labels, x: Value, kept: set[str]) -> tuple[Labels, Value]:
    """Axes that nothing else reads are summed."""
    gone = [i for i, c in enumerate(labels) if c not in kept]
    if not gone:
        return labels, x
    return tuple(c for c in labels if c in kept), n.b.reduce("sum", x, gone)


def _product(n: Call, left: Labels, a: Value, right: Labels, b: Value, later: set[str]) -> tuple[Labels, Value]:
    """Both operands in one contraction; letters read later stay."""
    shared = [c for c in left if c in right]
    batch = [c for c in shared if c in later]
    over = [c for c in shared if c not in later]
    left, a = _summed(n, left, a, later | set(right))
    right, b = _summed(n, right, b, later | set(left))
    out = n.b.contract(
        a,
        b,
        batch=([left.index(c) for c in batch], [right.index(c) for c in batch]),
        over=([left.index(c) for c in over], [right.index(c) for c in over]),
    )
    free = [c for c in left if c not in shared] + [c for c in right if c not in shared]
    return (*batch, *free), out


@op("Einsum", since=12)
def einsum(n: Call) -> Value:
    """Diagonals first, then one contraction per pair of operands, from the left."""
    values = n.values()
    equation = _parsed(n, n.attributes.text("equation", ""), [v.rank for v in values])
    sides = [_diagonal(n, labels, x) for labels, x in zip(equation.operands, values, strict=True)]
    sides = _agreed(n, sides)
    labels, total = sides[0]
    for i, (side, value) in enumerate(sides[1:], start=2):
        later = set(equation.result).union(*(s for s, _ in sides[i:]))
        labels, total = _product(n, labels, total, side, value, later)
    labels, total = _summed(n, labels, total, set(equation.result))
    return n.b.permute(total, [labels.index(c) for c in equation.result])

"""Movement as arithmetic on positions: where an element of a view lies in what it views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape, Symbol, product, substitute, symbols
from vitrify.ir.graph import Op

Index = tuple[DimLike, ...]


def source_index(op: Op, index: Index, source: Shape) -> Index:
    """Where the element of ``op``'s result at ``index`` is in its input of shape ``source``, for the
    movements that only rename positions (not pad, not concat)."""
    match op:
        case g.Permute(perm=perm):
            result: list[DimLike] = [0] * len(perm)
            for at, axis in enumerate(perm):
                result[axis] = index[at]
            return tuple(result)
        case g.Expand(shape=shape):
            return tuple(0 if n == 1 and m != 1 else i for i, n, m in zip(index, source, shape, strict=True))
        case g.Reshape(shape=shape):
            return reshape_index(index, shape, source)
        case g.Slice(starts=starts, steps=steps):
            return tuple(s + i * t for i, s, t in zip(index, starts, steps, strict=True))
        case g.Flip(axes=axes):
            return tuple(
                n - 1 - i if a in axes else i for a, (i, n) in enumerate(zip(index, source, strict=True))
            )
        case g.Window(axes=axes, strides=strides, dilations=dilations):
            rank = len(source)
            moved = list(index[:rank])
            for at, (axis, stride, dilation) in enumerate(zip(axes, strides, dilations, strict=True)):
                moved[axis] = index[axis] * stride + index[rank + at] * dilation
            return tuple(moved)
    raise TypeError(f"{op.name} does not rename positions")


RENAMING = (g.Permute, g.Expand, g.Reshape, g.Slice, g.Flip, g.Window)


def reshape_index(index: Index, shape: Shape, source: Shape) -> Index:
    """Row-major position in ``shape`` carried over to ``source``, group of axes by group of axes."""
    if any(isinstance(n, int) and n == 0 for n in source):
        return (0,) * len(source)  # nothing is ever read there
    result: list[DimLike] = []
    for outs, ins in axis_groups(shape, source):
        linear: DimLike = 0
        for axis in outs:
            linear = linear * shape[axis] + index[axis]
        tail: list[DimLike] = []
        for n, axis in enumerate(reversed(ins)):
            size = source[axis]
            if n == len(ins) - 1:
                tail.append(linear)
            else:
                tail.append(linear % size if size != 1 else 0)
                linear = linear // size if size != 1 else linear
        result.extend(reversed(tail))
    return tuple(result)


def axis_groups(a: Shape, b: Shape) -> list[tuple[list[int], list[int]]]:
    """Adjacent axes of ``a`` against adjacent axes of ``b`` with provably the same number of elements, as
    finely as that can be told."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        found = _smallest_match(a, b, i, j)
        if found is None:
            groups.append((list(range(i, len(a))), list(range(j, len(b)))))
            break
        groups.append((list(range(i, found[0])), list(range(j, found[1]))))
        i, j = found
    return groups


def _smallest_match(a: Shape, b: Shape, i: int, j: int) -> tuple[int, int] | None:
    if i == len(a) or j == len(b):  # only ones are left on the other side
        return len(a), len(b)
    for total in range(2, len(a) - i + len(b) - j + 1):
        for take in range(1, total):
            p, q = i + take, j + total - take
            if p <= len(a) and q <= len(b) and product(a[i:p]) == product(b[j:q]):
                # Trailing ones would otherwise be left without a partner at the end.
                if p == len(a) or q == len(b):
                    if product(a[p:]) == product(b[q:]) == 1:
                        return len(a), len(b)
                return p, q
    return None


def row_major(shape: Shape) -> tuple[DimLike, ...]:
    """Strides, in elements."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Linear:
    """``offset + sum(coefficients[name] * name)``; the offset holds every other symbol."""

    offset: DimLike
    coefficients: dict[str, DimLike]


def linear_in(value: DimLike, names: Sequence[str]) -> Linear | None:
    """The linear form in the named indices, or None where one is multiplied with another or divided."""
    if isinstance(value, int):
        return Linear(value, {})
    wanted = set(names)
    coefficients: dict[str, DimLike] = {}
    offset: DimLike = 0
    for monomial, coefficient in value.terms:
        inside = [a for a in monomial if isinstance(a, Symbol) and a.name in wanted]
        hidden = any(
            not isinstance(a, Symbol) and {s.name for s in symbols(Dim([((a,), 1)]))} & wanted
            for a in monomial
        )
        if hidden or len(inside) > 1:
            return None
        rest = tuple(a for a in monomial if a not in inside)
        part: DimLike = Dim([(rest, coefficient)]) if rest else coefficient
        if inside:
            name = inside[0].name
            coefficients[name] = coefficients.get(name, 0) + part
        else:
            offset = offset + part
    return Linear(offset, coefficients)


def mentions(value: DimLike, name: str) -> bool:
    return isinstance(value, Dim) and any(s.name == name for s in symbols(value))


def at(value: DimLike, **positions: DimLike) -> DimLike:
    return substitute(value, positions)

"""Sorting, and what is made of it: selections whose size the data decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape, product
from vitrify.ir.dtypes import BOOL, I64
from vitrify.ir.graph import Value


def integer(n: Call, value: DimLike) -> Value:
    """A size as an i64 of rank 0."""
    return n.b.constant(value, I64) if isinstance(value, int) else n.b.dim(value)


def true_positions(n: Call, flags: Value) -> tuple[Value, Dim]:
    """Where a bool vector is true, in order, and how often: a dim that the run finds out."""
    count = n.bind(n.b.reduce("sum", n.b.cast(flags, I64), [0]))
    _, positions = n.b.sort(flags, 0, count=count, descending=True)
    return positions, count


def coordinates(n: Call, flat: Value, shape: Shape) -> list[Value]:
    """The position on each axis of row-major positions in ``shape``."""
    found: list[Value] = []
    for axis, extent in enumerate(shape):
        below = product(shape[axis + 1 :])
        at = flat if below == 1 else n.map("quotient", flat, integer(n, below))
        found.append(at if axis == 0 else n.map("floormod", at, integer(n, extent)))
    return found


@op("NonZero", since=9)
def nonzero(n: Call) -> Value:
    """[rank, count]; a scalar gives [0, count]."""
    x = n.value(0)
    flags = x if x.dtype is BOOL else n.map("ne", x, n.number(0, x))
    flat, count = true_positions(n, n.b.reshape(flags, (product(x.shape),)))
    if x.rank == 0:
        return n.b.fill(0, I64, (0, count))
    return n.b.concat([n.b.unsqueeze(at, 0) for at in coordinates(n, flat, x.shape)], 0)


@op("Compress", since=9)
def compress(n: Call) -> Value:
    """Slices where the condition is true; what lies beyond the condition goes, and so does what of the condition
    lies beyond the axis."""
    x, condition = n.value(0), n.value(1)
    n.check(condition.rank == 1 and condition.dtype is BOOL, f"the condition is {condition.type}, not a bool vector")
    if "axis" in n.attributes:
        axis = n.axis(n.attributes.integer("axis"), x.rank)
    else:
        x, axis = n.b.reshape(x, (product(x.shape),)), 0
    extent, length = x.shape[axis], condition.shape[0]
    held = n.constant(1)
    if held is not None and isinstance(extent, int):
        return n.b.gather(x, axis, n.b.constant(np.flatnonzero(held[:extent]), I64))
    if isinstance(extent, int) and isinstance(length, int) and length > extent:
        condition = n.b.slice_axis(condition, 0, 0, extent)
    return n.b.gather(x, axis, true_positions(n, condition)[0])


def _top(n: Call, count: DimLike) -> Sequence[Value]:
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis", -1), x.rank)
    largest = n.attributes.flag("largest", True)
    n.attributes.ignore("sorted")  # in order is one of the orders that sorted=0 allows
    size = x.shape[axis]
    if isinstance(count, int):
        n.check(count >= 0, f"k is {count}")
        n.check(not isinstance(size, int) or count <= size, f"k is {count}, of an axis of size {size}")
    return n.b.sort(x, axis, count=count, descending=largest)


@op("TopK")
def top_k_attribute(n: Call) -> Sequence[Value]:
    return _top(n, n.attributes.integer("k"))


@op("TopK", since=10)
def top_k(n: Call) -> Sequence[Value]:
    """Ties: the lower position first. NaN is the greatest."""
    n.check(n.length(1) == 1, f"k has {n.length(1)} elements, not one")
    dims = n.dims(1)
    return _top(n, n.bind(n.value(1)) if dims is None else dims[0])


# ---- Unique


@dataclass(frozen=True)
class _Groups:
    """Equal entries in order: each group's first entry, its size, and the group of every entry."""

    first: Value
    sizes: Value
    group: Value
    count: Dim


@op("Unique", since=11)
def unique(n: Call) -> Sequence[Value]:
    """Entries in order (or, unsorted, as they first appear), first positions, groups and counts. NaN equals NaN."""
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis"), x.rank) if "axis" in n.attributes else None
    if axis is None:
        table = n.b.reshape(x, (product(x.shape), 1))
    else:
        front = n.b.permute(x, [axis, *(a for a in range(x.rank) if a != axis)])
        table = n.b.reshape(front, (x.shape[axis], product(front.shape[1:])))
    order = _lexicographic(n, table)
    groups = _groups(n, order, _starts(n, n.b.gather(table, 0, order)))
    if not n.attributes.flag("sorted", True):
        groups = _by_appearance(n, groups)
    if axis is None:
        y = n.b.gather(n.b.reshape(x, (product(x.shape),)), 0, groups.first)
    else:
        y = n.b.gather(x, axis, groups.first)
    return [y, groups.first, groups.group, groups.sizes]


def _lexicographic(n: Call, table: Value) -> Value:
    """The order of the rows of [rows, columns]: stable sorts by one column after the other, the last one first."""
    rows, columns = table.shape
    if columns == 1:
        return n.b.sort(n.b.reshape(table, (rows,)), 0)[1]
    body = Body(n.symbols, n.body)
    b = body.builder
    b.source = n.source
    position, order, column = (Value(g.Type(d, s)) for d, s in ((I64, ()), (I64, (rows,)), (table.dtype, (rows,))))
    _, moved = b.sort(b.gather(column, 0, order), 0)
    inside = b.build([position, order, column], [b.gather(order, 0, moved)], "by_columns")
    keys = n.b.flip(n.b.permute(table, [1, 0]), 0)
    return n.b.one(g.Scan(inside, columns, 1, 1), n.b.iota((rows,), 0), keys)


def _starts(n: Call, ordered: Value) -> Value:
    """Which rows differ from the one before; the first does."""
    rows, columns = ordered.shape
    before = n.b.slice_axis(n.b.pad(ordered, [1, 0], [0, 0]), 0, 0, rows)
    differ = n.b.map("ne", ordered, before)
    if ordered.dtype.is_float:
        both = n.b.map("and", n.b.map("isnan", ordered), n.b.map("isnan", before))
        differ = n.b.map("and", differ, n.b.map("not", both))
    changed = n.b.reshape(differ, (rows,)) if columns == 1 else n.b.reduce("any", differ, [1])
    return n.map("or", changed, n.map("eq", n.b.iota((rows,), 0), n.b.constant(0, I64)))


def _groups(n: Call, order: Value, starts: Value) -> _Groups:
    """Starts come before the others in a stable partition, so places in it count them: the place of a start is its
    group, and of the ``i`` entries before another one all but its place less ``count`` are starts."""
    (rows,) = order.shape
    at, count = true_positions(n, starts)
    _, parted = n.b.sort(starts, 0, descending=True)
    line = n.b.iota((rows,), 0)
    place = inverse_permutation(n, parted)
    others = n.map("sub", n.map("add", line, integer(n, count - 1)), place)
    group = n.b.scatter(line, 0, n.map("where", starts, place, others), order)
    following = n.b.slice_axis(n.b.pad(at, [0], [1]), 0, 1, count)
    last = n.map("eq", n.b.iota((count,), 0), integer(n, count - 1))
    end = n.map("where", last, integer(n, rows), following)
    return _Groups(n.b.gather(order, 0, at), n.b.map("sub", end, at), group, count)


def inverse_permutation(n: Call, order: Value) -> Value:
    line = n.b.iota(order.shape, 0)
    return n.b.scatter(line, 0, line, order)


def _by_appearance(n: Call, groups: _Groups) -> _Groups:
    first, order = n.b.sort(groups.first, 0)
    rank = inverse_permutation(n, order)
    return _Groups(first, n.b.gather(groups.sizes, 0, order), n.b.gather(rank, 0, groups.group), groups.count)

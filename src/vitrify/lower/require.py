"""What a node asks of sizes that only the run knows, as pairs that must be equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, maximum, minimum, product, provably_nonnegative
from vitrify.ir.graph import Node

Pair = tuple[DimLike, DimLike]


def requirements(node: Node) -> Iterator[Pair]:
    """Pairs for sizes of reshapes, bounds of slices, and sizes that could be negative; none for what is proved."""
    sizes = [n for v in node.outputs for n in v.shape]
    op = node.op
    if isinstance(op, g.Pad):
        sizes += [*op.low, *op.high]
    yield from _nonnegative(sizes)
    if isinstance(op, g.Reshape):
        before, after = product(node.inputs[0].shape), product(op.shape)
        if not (provably_nonnegative(before - after) and provably_nonnegative(after - before)):
            yield before, after
    elif isinstance(op, g.Sort):
        yield from _nonnegative([node.inputs[0].shape[op.axis] - op.count])
    elif isinstance(op, g.Slice):
        for start, step, size, extent in zip(op.starts, op.steps, op.sizes, node.inputs[0].shape, strict=True):
            last = start + (size - 1) * step
            first, end = (start, last) if step > 0 else (last, start)
            # an empty slice may lie anywhere
            outside = [-minimum(first, 0) * size, maximum(end + 1 - extent, 0) * size]
            yield from ((amount, 0) for amount in outside if amount != 0)


def _nonnegative(sizes: Iterable[DimLike]) -> Iterator[Pair]:
    for size in sizes:
        if not provably_nonnegative(size):
            yield minimum(size, 0), 0

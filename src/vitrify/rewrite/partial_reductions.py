"""Reductions of a large tensor to one element go through partial results, so that threads can share them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from vitrify.ir import graph as g
from vitrify.ir.graph import Graph, Value, is_static
from vitrify.rewrite.facts import static
from vitrify.rewrite.rewriter import Results, Rewriter, rewrite, rule

LARGE = 1 << 18  # elements
FEWEST, MOST = 4, 64  # parts
COMBINERS = ("sum", "prod", "min", "max", "any", "all")


@dataclass(frozen=True)
class PartialReductions:
    """The parts follow from the shape alone: results are the same for any number of threads. Last of the rules,
    since others make one reduction of two."""

    name: str = "partial-reductions"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where there is none."""
        return rewrite(graph, [reduce_in_parts])


@rule(g.Reduce)
def reduce_in_parts(rw: Rewriter, op: g.Reduce, inputs: tuple[Value, ...]) -> Results:
    """reduce(x[n, ...]) to one element → reduce(reduce(x[parts, n / parts, ...] but for its first axis))."""
    (x,) = inputs
    if op.combiner not in COMBINERS or x.dtype.compute is not x.dtype or not is_static(x.shape):
        return None
    shape = static(x.shape)
    axis = next((a for a, n in enumerate(shape) if n > 1), None)
    if axis is None or prod(shape) < LARGE or any(n != 1 for a, n in enumerate(shape) if a not in op.axes):
        return None
    parts = next((p for p in range(MOST, FEWEST - 1, -1) if shape[axis] % p == 0), None)
    if parts is None or prod(shape) == parts:
        return None
    divided = (parts, shape[axis] // parts, *shape[axis + 1 :])
    partial = rw.unruled(g.Reshape(divided), x) if divided != shape else x
    partial = rw.unruled(g.Reduce(op.combiner, tuple(range(1, len(divided)))), partial)
    result = rw.unruled(g.Reduce(op.combiner, (0,)), partial)
    kept = tuple(n for a, n in enumerate(shape) if a not in op.axes)
    return rw.unruled(g.Reshape(kept), result) if kept else result

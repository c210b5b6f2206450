"""Determinants."""

from __future__ import annotations

from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Graph, Value


@op("Det", since=11)
def det(n: Call) -> Value:
    """The product of the pivots of an elimination with partial pivoting, one column per step."""
    x = n.value(0)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    dtype, lead = x.dtype, x.shape[:-2]
    size = x.shape[-1]
    x = n.match_axis(x, x.rank - 2, size)
    batch = n.b.fill(1, dtype.compute, lead)
    matrices = n.b.reshape(n.b.cast(x, dtype.compute), (product(lead), size, size))
    found = n.b.reshape(batch, (product(lead),))
    body = _step(n, matrices, found)
    _, result = n.b.add(g.Scan(body, size, 2, 0), matrices, found)
    return n.b.cast(n.b.reshape(result, lead), dtype)


def _step(n: Call, matrices: Value, found: Value) -> Graph:
    """Column ``k``: the row of the greatest entry from ``k`` on becomes row ``k``, and is taken off those below."""
    b: Builder = Body(n.symbols, n.body).builder
    b.source = n.source
    k = parameter("k", I64, ())
    a = parameter("matrices", matrices.dtype, matrices.shape)
    before = parameter("product", found.dtype, found.shape)
    count, size = a.shape[:2]
    rows = b.iota((count, size), 1)
    here = b.expand_to(b.unsqueeze(b.expand_to(b.unsqueeze(k, 0), (count,)), 1), (count, size))
    entries = b.reshape(b.gather(a, 2, k), (count, size))
    candidates = b.map("where", b.map("ge", rows, here), b.map("abs", entries), b.scalar(-1, entries))
    best = b.reduce("argmax", candidates, (1,))
    chosen = b.expand_to(b.unsqueeze(best, 1), (count, size))
    swapped = b.map("where", b.map("eq", rows, chosen), here, rows)
    swapped = b.map("where", b.map("eq", rows, here), chosen, swapped)
    a_swapped = b.gather(a, 0, b.iota((count, size), 0), swapped)
    column = b.gather(a_swapped, 2, k)
    row = b.gather(a_swapped, 1, k)
    pivot = b.gather(row, 1, k)
    sign = b.map("where", b.map("eq", best, b.expand_to(b.unsqueeze(k, 0), (count,))), pivot, b.map("neg", pivot))
    singular = b.map("eq", pivot, b.scalar(0, pivot))
    divisor = b.expand_to(b.unsqueeze(b.map("where", singular, b.scalar(1, pivot), pivot), 1), (count, size))
    below = b.map("where", b.map("gt", rows, here), b.map("div", column, divisor), b.scalar(0, column))
    shape = (count, size, size)
    taken = b.map("mul", b.expand_to(b.unsqueeze(below, 2), shape), b.expand_to(b.unsqueeze(row, 1), shape))
    return b.build([k, a, before], [b.map("sub", a_swapped, taken), b.map("mul", before, sign)], "column")

"""Linear algebra of the domain com.microsoft."""

from __future__ import annotations

from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.microsoft_transformer import MICROSOFT
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Graph, Value


@op("Inverse", domain=MICROSOFT)
def inverse(n: Call) -> Value:
    """Elimination of all other rows with partial pivoting, one column per step, beside the identity."""
    x = n.value(0)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    dtype, size = x.dtype, x.shape[-1]
    x = n.match_axis(x, x.rank - 2, size)
    shape = (product(x.shape[:-2]), size, size)
    matrices = n.b.reshape(n.b.cast(x, dtype.compute), shape)
    unit = n.map("eq", n.b.iota((size, size), 0), n.b.iota((size, size), 1))
    beside = n.b.concat([matrices, n.b.expand_to(n.b.cast(unit, matrices.dtype), shape)], 2)
    (result,) = n.b.add(g.Scan(_column(n, beside), size, 1, 0), beside)
    return n.b.cast(n.b.reshape(n.b.slice_axis(result, 2, size, size), x.shape), dtype)


def _column(n: Call, matrices: Value) -> Graph:
    """Column ``k``: the row of the greatest entry from ``k`` on becomes row ``k``, divided by that entry, and is
    taken off all others."""
    b: Builder = Body(n.symbols, n.body).builder
    b.source = n.source
    k, before = parameter("k", I64, ()), parameter("matrices", matrices.dtype, matrices.shape)
    count, size, width = before.shape
    rows = b.iota((count, size), 1)
    here = b.expand_to(k, (count, size))
    entries = b.gather(before, 2, k)
    candidates = b.map("where", b.map("ge", rows, here), b.map("abs", entries), b.scalar(-1, entries))
    chosen = b.expand_to(b.unsqueeze(b.reduce("argmax", candidates, (1,)), 1), (count, size))
    swapped = b.map("where", b.map("eq", rows, chosen), here, rows)
    swapped = b.map("where", b.map("eq", rows, here), chosen, swapped)
    a = b.gather(before, 0, b.iota((count, size), 0), swapped)
    column, row = b.gather(a, 2, k), b.gather(a, 1, k)
    row = b.map("div", row, b.expand_to(b.unsqueeze(b.gather(column, 1, k), 1), (count, width)))
    shape = (count, size, width)
    pivot = b.expand_to(b.unsqueeze(b.map("eq", rows, here), 2), shape)
    across = b.expand_to(b.unsqueeze(row, 1), shape)
    rest = b.map("sub", a, b.map("mul", b.expand_to(b.unsqueeze(column, 2), shape), across))
    return b.build([k, before], [b.map("where", pivot, across, rest)], "column")

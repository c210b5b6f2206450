"""Ops that move whole axes: permutations, concatenation, splitting, blocks to depth and back."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.body import Contents
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.ir.dims import DimLike, ceildiv, floordiv
from vitrify.ir.graph import Value


def _permutation(n: Call, rank: int) -> list[int]:
    perm = n.attributes.integers("perm")
    if perm is None:
        return list(reversed(range(rank)))
    n.check(sorted(perm) == list(range(rank)), f"perm {perm} of a tensor of rank {rank}")
    return perm


@op("Transpose")
def transpose(n: Call) -> Value:
    x = n.value(0)
    return n.b.permute(x, _permutation(n, x.rank))


@symbolic("Transpose")
def transpose_contents(n: Call, x: Contents) -> Contents:
    return x.transpose(_permutation(n, x.ndim))


@op("Concat")
def concat(n: Call) -> Value:
    default = 1 if n.opset < 4 else None
    values = n.values()
    rank = values[0].rank
    axis = n.axis(n.attributes.integer("axis", default), rank)
    n.check(all(v.rank == rank for v in values), "the inputs' ranks differ")
    shape = values[0].shape
    for v in values[1:]:
        shape = tuple(b if isinstance(b, int) else a for a, b in zip(shape, v.shape, strict=True))
    same = [n.match(v, (*shape[:axis], v.shape[axis], *shape[axis + 1 :])) for v in values]
    return n.b.concat(same, axis)


@symbolic("Concat")
def concat_contents(n: Call, *xs: Contents) -> Contents | None:
    axis = n.attributes.integer("axis", 1 if n.opset < 4 else None)
    ranks = {x.ndim for x in xs}
    if len(ranks) != 1 or not xs[0].ndim:
        return None
    axis = n.axis(axis, xs[0].ndim)
    rests = {x.shape[:axis] + x.shape[axis + 1 :] for x in xs}
    return np.concatenate(xs, axis) if len(rests) == 1 else None


# Split
def _split_sizes(n: Call, total: DimLike) -> list[DimLike]:
    count = n.attributes.integer("num_outputs", len(n.wanted))
    n.check(count == len(n.wanted), f"num_outputs is {count} for {len(n.wanted)} outputs")
    given = n.attributes.integers("split")
    if given is not None:
        return list(given)
    if n.has(1):
        dims = n.dims(1)
        if dims is None:
            n.unsupported("split sizes that only a run knows")
        return dims
    if n.opset < 18:
        n.check(not isinstance(total, int) or total % count == 0, f"{total} does not split into {count}")
        return [floordiv(total, count)] * count
    each = ceildiv(total, count)
    return [each] * (count - 1) + [total - each * (count - 1)]


@op("Split")
def split(n: Call) -> list[Value]:
    x = n.value(0)
    axis = n.axis(n.attributes.integer("axis", 0), x.rank)
    sizes = _split_sizes(n, x.shape[axis])
    n.check(len(sizes) >= len(n.wanted), f"{len(sizes)} parts for {len(n.wanted)} outputs")
    results: list[Value] = []
    start: DimLike = 0
    for size in sizes:
        results.append(n.b.slice_axis(x, axis, start, size))
        start = start + size
    n.assume(start, x.shape[axis])
    return results


@symbolic("Split")
def split_contents(n: Call, x: Contents, sizes: Contents | None = None) -> list[Contents] | None:
    axis = n.axis(n.attributes.integer("axis", 0), x.ndim)
    parts = [s for s in _split_sizes(n, x.shape[axis]) if isinstance(s, int)]
    if sum(parts) != x.shape[axis] or len(parts) < len(n.wanted):
        return None
    return list(np.split(x, np.cumsum(parts)[:-1].tolist(), axis))


# Blocks
@op("DepthToSpace")
def depth_to_space(n: Call) -> Value:
    x = n.value(0)
    n.check(x.rank == 4, f"a tensor of rank {x.rank}, not 4")
    size = n.attributes.integer("blocksize")
    mode = n.attributes.text("mode", "DCR")
    n.check(mode in ("DCR", "CRD") and size >= 1, f"mode {mode!r}, blocksize {size}")
    batch, channels, height, width = x.shape
    depth = floordiv(channels, size * size)
    if mode == "DCR":
        x = n.b.permute(n.b.reshape(x, (batch, size, size, depth, height, width)), (0, 3, 4, 1, 5, 2))
    else:
        x = n.b.permute(n.b.reshape(x, (batch, depth, size, size, height, width)), (0, 1, 4, 2, 5, 3))
    return n.b.reshape(x, (batch, depth, height * size, width * size))


@op("SpaceToDepth")
def space_to_depth(n: Call) -> Value:
    x = n.value(0)
    n.check(x.rank == 4, f"a tensor of rank {x.rank}, not 4")
    size = n.attributes.integer("blocksize")
    mode = n.attributes.text("mode", "DCR")
    n.check(mode in ("DCR", "CRD") and size >= 1, f"mode {mode!r}, blocksize {size}")
    batch, channels, height, width = x.shape
    rows, columns = floordiv(height, size), floordiv(width, size)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    x = n.b.permute(n.b.reshape(x, (batch, channels, rows, size, columns, size)), order)
    return n.b.reshape(x, (batch, channels * size * size, rows, columns))


@op("Trilu", since=14)
def trilu(n: Call) -> Value:
    """The upper or lower triangle of the last two axes, zeros elsewhere."""
    x = n.value(0)
    n.check(x.rank >= 2, f"a tensor of rank {x.rank}, not 2 or more")
    upper = n.attributes.flag("upper", True)
    rows, columns = n.b.iota(x.shape[-2:], 0), n.b.iota(x.shape[-2:], 1)
    if n.has(1):
        size = x.shape[-1], x.shape[-2]  # all diagonals farther out keep, or drop, everything
        most, least = n.b.dim(size[0]), n.map("neg", n.b.dim(size[1]))
        offset = n.map("max", n.map("min", n.b.reshape(n.value(1), ()), most), least)
        rows = n.map("add", rows, offset)
    keep = n.b.map("ge" if upper else "le", columns, rows)
    return n.map("where", keep, x, n.number(0, x))

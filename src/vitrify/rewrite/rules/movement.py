"""Movement: exact, whatever the elements are. Axes of size 1 and order of equal elements are free."""

from __future__ import annotations

from dataclasses import replace

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, Shape, provably_less, provably_nonnegative
from vitrify.ir.graph import Value
from vitrify.rewrite.facts import producer, repeated, same_count
from vitrify.rewrite.grouping import segments
from vitrify.rewrite.rewriter import Results, Rewriter, rule

# ---- permute ---------------------------------------------------------------------------------


@rule(g.Permute)
def compose_permutes(rw: Rewriter, op: g.Permute, inputs: tuple[Value, ...]) -> Results:
    """permute(permute(x, p), q) -> permute(x, p[q]); the identity disappears."""
    (x,) = inputs
    if op.perm == tuple(range(x.rank)):
        return x
    inner = producer(x, g.Permute)
    if inner is None or not isinstance(inner.op, g.Permute):
        return None
    before = inner.op.perm
    return rw.permute(inner.inputs[0], [before[p] for p in op.perm])


@rule(g.Permute)
def permute_of_ones(rw: Rewriter, op: g.Permute, inputs: tuple[Value, ...]) -> Results:
    """A permute that only moves axes of size 1 is a reshape."""
    (x,) = inputs
    moved = [p for p in op.perm if x.shape[p] != 1]
    return rw.reshape(x, [x.shape[p] for p in op.perm]) if moved == sorted(moved) else None


@rule(g.Permute)
def permute_of_expand(rw: Rewriter, op: g.Permute, inputs: tuple[Value, ...]) -> Results:
    """permute(expand(x)) -> expand(permute(x)), where x is much smaller or a constant, or its permute no
    movement: less to move, and constants fold."""
    inner = producer(inputs[0], g.Expand)
    if inner is None:
        return None
    source, shape = inner.inputs[0], inputs[0].shape
    moved = [p for p in op.perm if source.shape[p] != 1]
    if moved != sorted(moved) and not repeated(source, shape):
        return None
    return rw.expand_to(rw.permute(source, op.perm), tuple(shape[p] for p in op.perm))


# ---- reshape and expand ----------------------------------------------------------------------


@rule(g.Reshape)
def compose_reshapes(rw: Rewriter, op: g.Reshape, inputs: tuple[Value, ...]) -> Results:
    """reshape(reshape(x)) -> reshape(x), where that drops no check of sizes; the identity disappears."""
    (x,) = inputs
    if op.shape == x.shape:
        return x
    inner = producer(x, g.Reshape)
    if inner is None:
        return None
    source = inner.inputs[0]
    checked = same_count(source.shape, x.shape) or same_count(x.shape, op.shape)
    return rw.reshape(source, op.shape) if checked else None


@rule(g.Reshape)
def reshape_of_expand(rw: Rewriter, op: g.Reshape, inputs: tuple[Value, ...]) -> Results:
    """reshape(expand(x)) -> expand(reshape(x)), where no axis mixes repeated elements with others."""
    inner = producer(inputs[0], g.Expand)
    if inner is None:
        return None
    source, before = inner.inputs[0], inputs[0].shape
    pairs = segments(before, op.shape)
    if pairs is None:
        return None
    shape: list[DimLike] = [1] * len(op.shape)
    for left, right in pairs:
        repeated = [source.shape[a] == 1 for a in left]
        if any(repeated) and not all(repeated):
            return None
        for b in right:
            shape[b] = 1 if all(repeated) else op.shape[b]
    return rw.expand_to(rw.reshape(source, shape), op.shape)


@rule(g.Expand)
def compose_expands(rw: Rewriter, op: g.Expand, inputs: tuple[Value, ...]) -> Results:
    """expand(expand(x)) -> expand(x); the identity disappears."""
    (x,) = inputs
    if op.shape == x.shape:
        return x
    inner = producer(x, g.Expand)
    return rw.expand_to(inner.inputs[0], op.shape) if inner is not None else None


# ---- slice, pad, flip ------------------------------------------------------------------------


@rule(g.Slice)
def compose_slices(rw: Rewriter, op: g.Slice, inputs: tuple[Value, ...]) -> Results:
    """slice(slice(x)) -> slice(x); the whole of x is x."""
    (x,) = inputs
    axes = zip(op.starts, op.steps, op.sizes, x.shape, strict=True)
    if all(start == 0 and size == extent and (step == 1 or size == 1) for start, step, size, extent in axes):
        return x
    inner = producer(x, g.Slice)
    if inner is None or not isinstance(inner.op, g.Slice):
        return None
    first = inner.op
    starts = [a + t * b for a, t, b in zip(first.starts, first.steps, op.starts, strict=True)]
    return rw.slice(inner.inputs[0], starts, [a * b for a, b in zip(first.steps, op.steps, strict=True)], op.sizes)


@rule(g.Slice)
def slice_of_expand(rw: Rewriter, op: g.Slice, inputs: tuple[Value, ...]) -> Results:
    """slice(expand(x)) -> expand(slice(x)): repeated axes just get shorter."""
    inner = producer(inputs[0], g.Expand)
    if inner is None:
        return None
    source = inner.inputs[0]
    repeated = [n == 1 for n in source.shape]
    starts = [0 if r else s for r, s in zip(repeated, op.starts, strict=True)]
    steps = [1 if r else s for r, s in zip(repeated, op.steps, strict=True)]
    sizes = [1 if r else s for r, s in zip(repeated, op.sizes, strict=True)]
    return rw.expand_to(rw.slice(source, starts, steps, sizes), op.sizes)


@rule(g.Slice)
def slice_of_pad(rw: Rewriter, op: g.Slice, inputs: tuple[Value, ...]) -> Results:
    """slice(pad(x)) -> slice(x), where the border is cut off again."""
    inner = producer(inputs[0], g.Pad)
    if inner is None or not isinstance(inner.op, g.Pad):
        return None
    source, low = inner.inputs[0], inner.op.low
    starts = [s - lo for s, lo in zip(op.starts, low, strict=True)]
    for start, step, size, extent in zip(starts, op.steps, op.sizes, source.shape, strict=True):
        last = start + (size - 1) * step
        for position in (start, last):
            if not (provably_nonnegative(position) and provably_less(position, extent)):
                return None
    return rw.slice(source, starts, op.steps, op.sizes)


@rule(g.Slice)
def slice_of_concat(rw: Rewriter, op: g.Slice, inputs: tuple[Value, ...]) -> Results:
    """slice(concat(a, b)) -> slice(b), where it lies inside b."""
    inner = producer(inputs[0], g.Concat)
    if inner is None or not isinstance(inner.op, g.Concat):
        return None
    axis = inner.op.axis
    start, step, size = op.starts[axis], op.steps[axis], op.sizes[axis]
    last = start + (size - 1) * step
    low, high = (start, last) if step > 0 else (last, start)
    offset: DimLike = 0
    for piece in inner.inputs:
        end = offset + piece.shape[axis]
        if provably_nonnegative(low - offset) and provably_less(high, end):
            starts = [s - offset if i == axis else s for i, s in enumerate(op.starts)]
            return rw.slice(piece, starts, op.steps, op.sizes)
        offset = end
    return None


@rule(g.Pad)
def compose_pads(rw: Rewriter, op: g.Pad, inputs: tuple[Value, ...]) -> Results:
    """pad(pad(x, v), v) -> pad(x, v); no border disappears."""
    (x,) = inputs
    if all(n == 0 for n in (*op.low, *op.high)):
        return x
    inner = producer(x, g.Pad)
    if inner is None or not isinstance(inner.op, g.Pad) or repr(inner.op.value) != repr(op.value):
        return None
    low = [a + b for a, b in zip(inner.op.low, op.low, strict=True)]
    return rw.pad(inner.inputs[0], low, [a + b for a, b in zip(inner.op.high, op.high, strict=True)], op.value)


@rule(g.Flip)
def compose_flips(rw: Rewriter, op: g.Flip, inputs: tuple[Value, ...]) -> Results:
    """flip(flip(x)) -> flip(x) over the axes that only one of them has; axes of size 1 need none."""
    (x,) = inputs
    inner = producer(x, g.Flip)
    axes = set(op.axes)
    if inner is not None and isinstance(inner.op, g.Flip):
        x, axes = inner.inputs[0], axes ^ set(inner.op.axes)
    axes = {a for a in axes if x.shape[a] != 1}
    if inner is None and axes == set(op.axes):
        return None
    return rw.flip(x, *sorted(axes)) if axes else x


# ---- window ----------------------------------------------------------------------------------


@rule(g.Window)
def window_of_one(rw: Rewriter, op: g.Window, inputs: tuple[Value, ...]) -> Results:
    """Windows of one element: every stride-th element, and an axis of size 1."""
    (x,) = inputs
    if 1 not in op.sizes:
        return None
    steps, sizes = [1] * x.rank, list(x.shape)
    for axis, size, stride in zip(op.axes, op.sizes, op.strides, strict=True):
        if size == 1:
            steps[axis], sizes[axis] = stride, (x.shape[axis] - 1) // stride + 1
    y = rw.slice(x, [0] * x.rank, steps, sizes) if tuple(sizes) != x.shape else x
    kept = [i for i, size in enumerate(op.sizes) if size != 1]
    if kept:
        fields = (op.axes, op.sizes, op.strides, op.dilations)
        y = rw.window(y, *(tuple(f[i] for i in kept) for f in fields))
    (result,) = op.infer([x.type])
    return rw.reshape(y, result.shape)


# ---- concat ----------------------------------------------------------------------------------


@rule(g.Concat)
def flatten_concat(rw: Rewriter, op: g.Concat, inputs: tuple[Value, ...]) -> Results:
    """concat(a, concat(b, c)) -> concat(a, b, c), where nothing else reads the inner one; empty pieces and
    concats of one piece disappear."""
    pieces: list[Value] = []
    for value in inputs:
        inner = producer(value, g.Concat)
        nested = inner is not None and inner.op == op and rw.used_once(value)
        pieces.extend(inner.inputs if inner is not None and nested else (value,))
    filled = [v for v in pieces if v.shape[op.axis] != 0] or pieces[:1]
    if len(filled) == len(inputs) > 1:
        return None
    return rw.concat(filled, op.axis)


@rule(g.Concat)
def join_slices(rw: Rewriter, op: g.Concat, inputs: tuple[Value, ...]) -> Results:
    """concat(x[0:2], x[2:5]) -> x[0:5]."""
    joined = [inputs[0]]
    for value in inputs[1:]:
        both = _adjacent(joined[-1], value, op.axis)
        if both is None:
            joined.append(value)
        else:
            source, part = both
            joined[-1] = rw.slice(source, part.starts, part.steps, part.sizes)
    return rw.concat(joined, op.axis) if len(joined) < len(inputs) else None


def _adjacent(a: Value, b: Value, axis: int) -> tuple[Value, g.Slice] | None:
    """The source of both and the slice that covers them, where ``b`` goes on where ``a`` ends."""
    first, second = producer(a, g.Slice), producer(b, g.Slice)
    if first is None or second is None or first.inputs[0] is not second.inputs[0]:
        return None
    p, q = first.op, second.op
    if not isinstance(p, g.Slice) or not isinstance(q, g.Slice) or p.steps != q.steps or p.steps[axis] != 1:
        return None
    if any(p.starts[i] != q.starts[i] or p.sizes[i] != q.sizes[i] for i in range(a.rank) if i != axis):
        return None
    if q.starts[axis] != p.starts[axis] + p.sizes[axis]:
        return None
    sizes = _with(p.sizes, axis, p.sizes[axis] + q.sizes[axis])
    return first.inputs[0], replace(p, sizes=sizes)


def _with(shape: Shape, axis: int, size: DimLike) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


# ---- reduce and contract over axes of size 1 -----------------------------------------------


@rule(g.Reduce)
def reduce_of_one(rw: Rewriter, op: g.Reduce, inputs: tuple[Value, ...]) -> Results:
    """Axes of size 1 need no reduction."""
    (x,) = inputs
    ones = [a for a in op.axes if x.shape[a] == 1]
    if op.combiner.startswith("arg") or (op.axes and not ones):
        return None
    axes = [a for a in op.axes if a not in ones]
    y = rw.reduce(op.combiner, x, axes)
    (result,) = op.infer([x.type])
    return rw.reshape(y, result.shape)


@rule(g.Contract)
def contract_of_one(rw: Rewriter, op: g.Contract, inputs: tuple[Value, ...]) -> Results:
    """Contracted axes of size 1 are dropped on both sides, as long as one axis is left."""
    lhs, rhs = inputs
    pairs = list(zip(op.lhs_contract, op.rhs_contract, strict=True))
    ones = [p for p in pairs if lhs.shape[p[0]] == 1]
    if len(ones) == len(pairs):
        ones = ones[1:]
    if not ones:
        return None
    sides = ([a for a, _ in ones], [b for _, b in ones])

    def left(axes: tuple[int, ...], side: int) -> tuple[int, ...]:
        return tuple(a - sum(gone < a for gone in sides[side]) for a in axes if a not in sides[side])

    slim = g.Contract(
        left(op.lhs_batch, 0),
        left(op.rhs_batch, 1),
        left(op.lhs_contract, 0),
        left(op.rhs_contract, 1),
        op.dtype,
    )
    return rw.one(slim, rw.squeeze(lhs, *sides[0]), rw.squeeze(rhs, *sides[1]))


MOVEMENT = [
    compose_permutes,
    permute_of_ones,
    permute_of_expand,
    compose_reshapes,
    reshape_of_expand,
    compose_expands,
    compose_slices,
    slice_of_expand,
    slice_of_pad,
    slice_of_concat,
    compose_pads,
    compose_flips,
    window_of_one,
    flatten_concat,
    join_slices,
    reduce_of_one,
    contract_of_one,
]

"""Permutes travel towards the outputs until they meet their inverse.

Convolutions come as ``permute to channels-last, compute, permute back``. Each rule takes a permute from
before an op to after it; between two convolutions the two meet and cancel (:mod:`.movement`). What is left
stands at the edges of the graph or where the order of elements truly changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike
from vitrify.ir.graph import Op, Value
from vitrify.rewrite.facts import elements, producer, repeated
from vitrify.rewrite.grouping import segments
from vitrify.rewrite.rewriter import Results, Rewriter, rule

Perm = tuple[int, ...]


def permuted(value: Value) -> tuple[Value, Perm] | None:
    """``(x, perm)`` where ``value`` is a permute of x that may move on.

    One that brings the batch axes of a contraction to their places stays: the contraction stores its results
    in that order."""
    node = producer(value, g.Permute)
    if node is None or not isinstance(node.op, g.Permute):
        return None
    perm, source = node.op.perm, node.inputs[0]
    contract = producer(source, g.Contract)
    if contract is not None and isinstance(contract.op, g.Contract):
        batch = len(contract.op.lhs_batch)
        if perm[:batch] != tuple(range(batch)):
            return None
    return source, perm


def _stored(value: Value) -> bool:
    """A permute that :func:`permuted` keeps where it is."""
    return producer(value, g.Permute) is not None and permuted(value) is None


def inverse(perm: Sequence[int]) -> Perm:
    result = [0] * len(perm)
    for i, p in enumerate(perm):
        result[p] = i
    return tuple(result)


def _restores_channels(perm: Perm) -> bool:
    """From channels-last to channels-first."""
    rank = len(perm)
    return rank >= 3 and perm == (0, rank - 1, *range(1, rank - 1))


def _free(value: Value) -> bool:
    """Its permute costs nothing at run time: a constant, or few elements repeated."""
    node = producer(value, g.Expand)
    return value.constant is not None if node is None else repeated(node.inputs[0], value.shape)


def _common(inputs: Sequence[Value]) -> Perm | None:
    """The permute to take out of all inputs: as much must be freed of one as has to take on its inverse."""
    gain: Counter[Perm] = Counter()
    for value in inputs:
        found = permuted(value)
        if found is not None:
            gain[found[1]] += elements(value.shape)
    if not gain:
        return None
    perm, freed = gain.most_common(1)[0]
    loss = sum(elements(v.shape) for v in inputs if not _carries(v, perm) and not _free(v))
    return perm if loss < freed or (loss == freed and _restores_channels(perm)) else None


def _carries(value: Value, perm: Perm) -> bool:
    found = permuted(value)
    return found is not None and found[1] == perm


@rule(g.Map, g.Cast)
def elementwise_of_permutes(rw: Rewriter, op: Op, inputs: tuple[Value, ...]) -> Results:
    """fn(permute(a), b) -> permute(fn(a, inverse(b)))."""
    perm = _common(inputs)
    if perm is None:
        return None
    back = inverse(perm)
    return rw.permute(rw.unruled(op, *(rw.permute(x, back) for x in inputs)), perm)


@rule(g.Concat)
def concat_of_permutes(rw: Rewriter, op: g.Concat, inputs: tuple[Value, ...]) -> Results:
    """concat(permute(a), permute(b)) -> permute(concat(a, b))."""
    perm = _common(inputs)
    if perm is None:
        return None
    back = inverse(perm)
    return rw.permute(rw.unruled(g.Concat(perm[op.axis]), *(rw.permute(x, back) for x in inputs)), perm)


def _at(perm: Perm, values: Sequence[DimLike]) -> tuple[DimLike, ...]:
    """Per-axis values of the permuted tensor, by the axes before the permute."""
    return tuple(values[i] for i in inverse(perm))


@rule(g.Pad, g.Slice, g.Flip, g.Expand, g.Window)
def movement_of_permute(rw: Rewriter, op: Op, inputs: tuple[Value, ...]) -> Results:
    """pad(permute(x)) -> permute(pad(x)), and so for slice, flip, expand and window."""
    found = permuted(inputs[0])
    if found is None:
        return None
    x, perm = found
    if isinstance(op, g.Expand) and repeated(inputs[0], op.shape):
        return None  # there a permute moves the other way
    moved: Op
    match op:
        case g.Pad(low, high, value):
            moved = g.Pad(_at(perm, low), _at(perm, high), value)
        case g.Slice(starts, steps, sizes):
            ordered = tuple(steps[i] for i in inverse(perm))
            moved = g.Slice(_at(perm, starts), ordered, _at(perm, sizes))
        case g.Flip(axes):
            moved = g.Flip(tuple(sorted(perm[a] for a in axes)))
        case g.Expand(shape):
            moved = g.Expand(_at(perm, shape))
        case g.Window(axes, sizes, strides, dilations):
            moved = g.Window(tuple(perm[a] for a in axes), sizes, strides, dilations)
            perm = (*perm, *range(len(perm), len(perm) + len(axes)))
        case _:
            return None
    return rw.permute(rw.one(moved, x), perm)


def _order(axes: Sequence[int]) -> list[int]:
    """Each axis's place among them."""
    places = sorted(axes)
    return [places.index(a) for a in axes]


@rule(g.Reduce)
def reduce_of_permute(rw: Rewriter, op: g.Reduce, inputs: tuple[Value, ...]) -> Results:
    """sum(permute(x)) -> permute(sum(x)) over the axes that are left."""
    found = permuted(inputs[0])
    if found is None:
        return None
    x, perm = found
    result = rw.reduce(op.combiner, x, [perm[a] for a in op.axes])
    return rw.permute(result, _order([p for i, p in enumerate(perm) if i not in op.axes]))


@rule(g.Gather)
def gather_of_permute(rw: Rewriter, op: g.Gather, inputs: tuple[Value, ...]) -> Results:
    """gather(permute(x), i) -> permute(gather(x, i)), where the gathered axes stay neighbours."""
    found = permuted(inputs[0])
    count = len(inputs) - 1
    if found is None:
        return None
    x, perm = found
    first = perm[op.axis]
    if perm[op.axis : op.axis + count] != tuple(range(first, first + count)):
        return None
    rank = inputs[1].rank

    def place(axis: int) -> int:
        return axis if axis < first else axis - count + rank

    before = [place(p) for p in perm[: op.axis]]
    after = [place(p) for p in perm[op.axis + count :]]
    return rw.permute(rw.gather(x, first, *inputs[1:]), [*before, *range(first, first + rank), *after])


@rule(g.Reshape)
def reshape_of_permute(rw: Rewriter, op: g.Reshape, inputs: tuple[Value, ...]) -> Results:
    """reshape(permute(x)) -> permute(reshape(x)), where the axes that are split or merged adjoin in x.

    Where some are not, they are first brought together, if a permute of whole groups remains to move on: the
    channel shuffle reshape(permute(0,2,1,3,4)) of channels-first becomes one of the last axes alone."""
    found = permuted(inputs[0])
    if found is None:
        return None
    x, perm = found
    pairs = segments(inputs[0].shape, op.shape)
    if pairs is None:
        return None
    groups = [[perm[a] for a in left] for left, _ in pairs]
    order = sorted(range(len(groups)), key=lambda k: max(groups[k]))
    together = [axis for k in order for axis in groups[k]]
    wide = [a for a in range(x.rank) if x.shape[a] != 1]
    if together != wide and order == list(range(len(groups))):
        return None  # nothing would move on
    ones = [a for a in range(x.rank) if x.shape[a] == 1]
    blocks = _blocks([right for _, right in pairs], len(op.shape))
    axes = [*blocks[0], *(a for k in order for a in blocks[1 + k])]
    y = x if together == wide else rw.permute(x, [*ones, *together])
    return rw.permute(rw.reshape(y, [op.shape[a] for a in axes]), inverse(axes))


def _blocks(groups: Sequence[tuple[int, ...]], rank: int) -> list[list[int]]:
    """The axes of each group with those of size 1 that follow them; first, those before all groups."""
    starts = [min(group) for group in groups]
    edges = [0, *starts, rank]
    return [list(range(a, b)) for a, b in pairwise(edges)]


@rule(g.Permute)
def permute_into_store(rw: Rewriter, op: g.Permute, inputs: tuple[Value, ...]) -> Results:
    """permute(fn(stored, c)) -> fn(permute(stored), permute(c)), where a grouped convolution stores its
    results permuted anyway: a channel shuffle costs no pass over the data there."""
    (x,) = inputs
    if not _all_through(rw, x, _stored) or x.node is None or _stored(x):
        return None
    return rw.unruled(x.node.op, *(rw.permute(v, op.perm) for v in x.node.inputs))


@rule(g.Reshape)
def reshape_undone(rw: Rewriter, op: g.Reshape, inputs: tuple[Value, ...]) -> Results:
    """reshape(fn(reshape(x), c)) -> fn(x, reshape(c)), where the outer one restores the shape of x."""
    (x,) = inputs
    if x.node is None or not isinstance(x.node.op, (g.Map, g.Cast)):
        return None

    def restored(leaf: Value) -> bool:
        node = producer(leaf, g.Reshape)
        return node is not None and node.inputs[0].shape == op.shape

    if not _all_through(rw, x, restored):
        return None
    return rw.unruled(x.node.op, *(rw.reshape(v, op.shape) for v in x.node.inputs))


def _all_through(rw: Rewriter, value: Value, fits: Callable[[Value], bool], depth: int = 8) -> bool:
    """``value`` fits, or comes through elementwise ops, each used once, from what fits and from constants."""
    if fits(value):
        return True
    node = value.node
    if node is None or not isinstance(node.op, (g.Map, g.Cast)) or depth == 0 or not rw.used_once(value):
        return False
    leaves = [v for v in node.inputs if not _constant(v)]
    return bool(leaves) and all(_all_through(rw, v, fits, depth - 1) for v in leaves)


def _constant(value: Value) -> bool:
    node = producer(value, g.Expand)
    return (value if node is None else node.inputs[0]).constant is not None


@rule(g.Contract)
def contract_of_permute(rw: Rewriter, op: g.Contract, inputs: tuple[Value, ...]) -> Results:
    """contract(permute(x), w) -> contract(x, w): its axes are named, so any order will do. Where the order of
    free axes changes, the result is permuted."""
    lhs, rhs = inputs
    batch = len(op.lhs_batch)
    free = (op.free(0, lhs.rank), op.free(1, rhs.rank))
    left = permuted(lhs)
    right = permuted(rhs)
    if left is None and right is None:
        return None
    x, p = left if left is not None else (lhs, tuple(range(lhs.rank)))
    y, q = right if right is not None else (rhs, tuple(range(rhs.rank)))

    def through(perm: Perm, axes: Perm) -> Perm:
        return tuple(perm[a] for a in axes)

    moved = g.Contract(
        through(p, op.lhs_batch),
        through(q, op.rhs_batch),
        through(p, op.lhs_contract),
        through(q, op.rhs_contract),
        op.dtype,
    )
    order = list(range(batch))
    order += [batch + k for k in _order(through(p, free[0]))]
    order += [batch + len(free[0]) + k for k in _order(through(q, free[1]))]
    return rw.permute(rw.one(moved, x, y), order)


@rule(g.Contract)
def flattened_permute(rw: Rewriter, op: g.Contract, inputs: tuple[Value, ...]) -> Results:
    """contract(reshape(permute(x), [n, c*h*w]), w) -> contract(reshape(x), w with its rows in x's order),
    for a constant w: the order of a sum is free."""
    lhs, rhs = inputs
    node = producer(lhs, g.Reshape)
    found = permuted(node.inputs[0]) if node is not None else None
    if node is None or found is None or rhs.constant is None:
        return None
    x, perm = found
    pairs = segments(node.inputs[0].shape, lhs.shape)
    if pairs is None:
        return None
    groups = [[perm[a] for a in left] for left, _ in pairs]
    if [a for group in groups for a in sorted(group)] != [a for a in range(x.rank) if x.shape[a] != 1]:
        return None
    weights = rhs
    for group, (_, right) in zip(groups, pairs, strict=True):
        if group == sorted(group):
            continue
        if len(right) != 1 or right[0] not in op.lhs_contract:
            return None
        axis = op.rhs_contract[op.lhs_contract.index(right[0])]
        weights = _reorder(rw, weights, axis, [x.shape[a] for a in group], _order(group))
    return rw.one(op, rw.reshape(x, lhs.shape), weights)


def _reorder(rw: Rewriter, weights: Value, axis: int, sizes: list[DimLike], order: list[int]) -> Value:
    """``weights`` with the positions along ``axis``, which count through ``sizes``, counting through them in
    ascending ``order`` instead."""
    shape = weights.shape
    split = rw.reshape(weights, [*shape[:axis], *sizes, *shape[axis + 1 :]])
    rest = range(axis + len(sizes), split.rank)
    perm = [*range(axis), *(axis + k for k in inverse(order)), *rest]
    return rw.reshape(rw.permute(split, perm), shape)


LAYOUT = [
    elementwise_of_permutes,
    concat_of_permutes,
    movement_of_permute,
    reduce_of_permute,
    gather_of_permute,
    reshape_of_permute,
    flattened_permute,
    contract_of_permute,
]
SHUFFLE_IN_STORE = [reshape_undone, permute_into_store]

"""A scatter: its first input copied, then a kernel that applies the updates.

Rows are what no two updates of different rows can share: the axes that no index names, and those that are named
by their own position (an iota, as in ONNX's ScatterElements). Rows run in any order and in parallel; the
updates of one row follow each other in row-major order, so that the result depends on no number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, product, provably_nonnegative
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Node, Value
from vitrify.lower.emit import Emitter, Leaf
from vitrify.lower.loops import Loops, merge_loops, nested, split_tasks
from vitrify.lower.rewrite_loop import rename
from vitrify.lower.scope import KernelScope
from vitrify.lower.target import Target
from vitrify.lower.views import Index

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering

UPDATE_WORK = 8  # operations, roughly, that one update takes
TASK_WORK = 1 << 14
FUNCTIONS = {"sum": "add", "prod": "mul", "min": "min", "max": "max"}


@dataclass(frozen=True)
class _Axes:
    """The loops of one scatter: ``rows``, the last one in vectors of ``lanes``, around ``updates``."""

    rows: Loops
    updates: Loops
    vector: str | None
    lanes: int


def lower_scatter(low: Lowering, node: Node, materialised: set[Value]) -> None:
    x, updates = node.inputs[:2]
    where = low.placement(node.output)
    copy = g.make_node(g.Permute(tuple(range(x.rank))), [x], node.source).output
    if all(n != 0 for n in x.shape):
        low.materialise(copy, where, materialised)
    if any(n == 0 for n in updates.shape):
        return
    scope = KernelScope(low, materialised - {node.output})
    target = scope.parameter(node.output, where, written=True)
    axes = _axes(node, target, low.target)
    emitter = Emitter(scope, axes.lanes, axes.vector)
    _update(node, target, emitter)
    merged, table = merge_loops(axes.updates, emitter.statements)
    body = nested(merged, rename(tuple(emitter.statements), table))
    work = product(n for _, n in axes.updates) * UPDATE_WORK
    tasks, statements = split_tasks(axes.rows, body, work, axes.lanes, TASK_WORK)
    schedule: tuple[tuple[str, int | str], ...] = (("template", "scatter"), ("lanes", axes.lanes))
    low.call(scope, tasks, tuple(statements), flops=product(updates.shape), anchor=node, schedule=schedule)


def _own_position(table: Value) -> int | None:
    """The axis of the index tensor that its elements count."""
    op = None if table.node is None else table.node.op
    return op.axis if isinstance(op, g.Iota) and op.dtype is I64 else None


def _index(node: Node) -> Index:
    """The loop variables of the updates' axes."""
    return tuple(0 if n == 1 else Dim.index(f"i{a}", n) for a, n in enumerate(node.inputs[1].shape))


def _axes(node: Node, target: Leaf, machine: Target) -> _Axes:
    op, updates, tables = node.op, node.inputs[1], node.inputs[2:]
    assert isinstance(op, g.Scatter)
    start, end = op.axis, op.axis + tables[0].rank
    counted = {start + a for a in map(_own_position, tables) if a is not None}
    loops = {a: (str(i), updates.shape[a]) for a, i in enumerate(_index(node)) if isinstance(i, Dim)}
    free = [a for a in loops if not start <= a < end]
    lanes = machine.lanes(F64 if updates.dtype is F64 else F32)
    moved = len(tables) - tables[0].rank  # an axis behind the indices is this much further in x
    wide = [
        a for a in free
        if target.strides[a if a < start else a + moved] == 1 and not _is_short(updates.shape[a], lanes)
    ]  # fmt: skip
    rows = [a for a in loops if (a in free or a in counted) and a not in wide[:1]] + wide[:1]
    serial = [a for a in loops if a not in rows]
    vector = loops[wide[0]][0] if wide else None
    return _Axes([loops[a] for a in rows], [loops[a] for a in serial], vector, lanes if wide else 1)


def _is_short(extent: DimLike, lanes: int) -> bool:
    return isinstance(extent, int) and 2 * extent < lanes


def _update(node: Node, target: Leaf, emitter: Emitter) -> None:
    """One update, at the loop variables."""
    op, (x, updates, *tables) = node.op, node.inputs
    assert isinstance(op, g.Scatter)
    index, rank = _index(node), tables[0].rank
    chosen = index[op.axis : op.axis + rank]
    positions: list[DimLike] = []
    for k, table in enumerate(tables):
        extent, own = x.shape[op.axis + k], _own_position(table)
        if own is not None and provably_nonnegative(extent - table.shape[own]):
            positions.append(chosen[own])
        else:
            positions.append(emitter.position_of(node, table, chosen, extent))
    place = (*index[: op.axis], *positions, *index[op.axis + rank :])
    value = emitter.read(updates, index)
    if op.combiner == "replace":
        emitter.store(target, x.dtype, place, value)
    else:
        emitter.update(target, x.dtype, place, FUNCTIONS[op.combiner], value)

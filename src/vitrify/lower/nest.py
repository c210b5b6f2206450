"""One kernel for a region of elementwise values, movements and reductions that share a space of positions.

The space is ``outer`` (axes that survive) times ``inner`` (axes that reductions remove). A row is one outer
position. Reductions run in phases, each a sweep over the inner axes; what several phases need and is
expensive is kept in a tile. Vectors run along the last outer axis, or along the last inner one where that is
the one contiguous in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape, product
from vitrify.ir.dtypes import F32, F64
from vitrify.ir.graph import Node, Value
from vitrify.ir.scalar import SCALAR
from vitrify.lower import loop as L
from vitrify.lower.accumulate import Accumulator
from vitrify.lower.emit import Emitter, Environment, Leaf, NotFusable
from vitrify.lower.loop import Stmt
from vitrify.lower.loops import (
    Loops,
    SweepPiece,
    block_tasks,
    contiguous_across,
    merge_loops,
    nested,
    split_tasks,
    vector_loops,
)
from vitrify.lower.rewrite_loop import rename
from vitrify.lower.target import Target
from vitrify.lower.transpose import find_transposition, transposition_tasks, worth_turning
from vitrify.lower.views import RENAMING, Index, linear_in

TASK_WORK = 1 << 14  # operations worth handing to another thread
TILE_ELEMENTS = 1 << 14
PICKED = 4  # elements from lane to lane, up to which a load is some whole vectors and lanes picked from them
TURN = 6.0  # instructions per vector of a square that is turned in registers
MOST_TOGETHER = 24  # statements in a loop that reductions of several vectors share
MOST_AROUND = 128  # statements of theirs outside it
TILE_COST = 8  # a value this expensive is kept rather than computed again


@dataclass
class Region:
    """``space`` is the full shape; ``reduced`` its axes that the region's reductions remove.

    ``outputs`` are stored; each has the shape of the space, of its outer part, or of the outer part with
    ones kept. ``members`` are computed inside.
    """

    space: Shape
    reduced: tuple[int, ...]
    members: list[Node]
    outputs: list[Value]

    @property
    def outer_axes(self) -> tuple[int, ...]:
        return tuple(a for a in range(len(self.space)) if a not in self.reduced)

    @property
    def reductions(self) -> list[Node]:
        return [n for n in self.members if isinstance(n.op, g.Reduce)]

    def kept_shape(self) -> Shape:
        return tuple(1 if a in self.reduced else n for a, n in enumerate(self.space))

    def outer_shape(self) -> Shape:
        return tuple(self.space[a] for a in self.outer_axes)


@dataclass
class NestSchedule:
    """How the region is run; data, so that a search can choose it."""

    vector_axis: int | None  # of the space; None: scalar
    lanes: int
    accumulators: int = 4
    columns: int = 8  # vectors of outer positions that share the loops of the reductions
    task_work: int = TASK_WORK
    merge: bool = True  # neighbouring loops made one where they can be


def lanes_for(region: Region, target: Target) -> int:
    """Lanes of the widest dtype that is computed with (i64 positions take two registers)."""
    wide = any(v.dtype is F64 for n in region.members for v in (*n.inputs, *n.outputs))
    return target.lanes(F64 if wide else F32)


def default_schedule(region: Region, env: Environment, leaves: dict[Value, Leaf], target: Target) -> NestSchedule:
    """Vectors along the axis whose loads and stores cost least."""
    lanes = lanes_for(region, target)
    moves_only = all(isinstance(n.op, RENAMING) and n.output.dtype.itemsize == 8 for n in region.members)
    if region.members and moves_only:
        lanes = target.lanes(F64)
    axes = [a for a, n in enumerate(region.space) if n != 1]
    if any(n.op.combiner.startswith("arg") for n in region.reductions if isinstance(n.op, g.Reduce)):
        axes = [a for a in axes if a not in region.reduced]  # positions are compared one by one
    if not axes:
        return NestSchedule(None, 1)
    probe = NestBuilder(region, env, leaves, NestSchedule(None, 1, merge=False), target)
    moves = [s for s in L.walk(tuple(probe.rows())) if isinstance(s, (L.Let, L.Store))]
    costs = {a: _axis_cost(region, a, lanes, moves) for a in axes}
    return NestSchedule(min(reversed(axes), key=lambda a: costs[a]), lanes)


def _axis_cost(region: Region, axis: int, lanes: int, moves: Sequence[L.Let | L.Store]) -> float:
    """Instructions per element, roughly, with vectors along ``axis``."""
    size, name = region.space[axis], f"i{axis}"
    total = float(len(moves)) / 4
    for move in moves:
        if isinstance(move, L.Store):
            total += _move_cost(move.index, name, lanes, store=True)
        elif isinstance(move.value, L.Load):
            turns = _turns(region, axis, move.value.index, lanes)
            total += min(_move_cost(move.value.index, name, lanes), TURN if turns else lanes * lanes)
        elif isinstance(move.value, L.GatherLoad):
            total += 2 * lanes
    waste = 1.0 if not isinstance(size, int) or size == 0 else -(-size // lanes) * lanes / size
    fold = 0.0
    if axis in region.reduced:
        row = product(region.space[a] for a in region.reduced)
        fold = 12 * len(region.reductions) / row if isinstance(row, int) and row else 0.1
    return total * waste / lanes + fold


def _turns(region: Region, axis: int, position: DimLike, lanes: int) -> bool:
    """Whether a load that vectors along ``axis`` read in steps is contiguous along another."""
    names = [f"i{a}" for a in range(len(region.space))]
    form = linear_in(position, names)
    if form is None or region.reduced or not worth_turning(region.space[axis], lanes):
        return False
    others = [n for a, n in enumerate(region.space) if a != axis and form.coefficients.get(names[a], 0) == 1]
    return any(worth_turning(n, lanes) for n in others)


def _move_cost(position: DimLike, name: str, lanes: int, *, store: bool = False) -> float:
    form = linear_in(position, [name])
    if form is None:
        return 2.0 * lanes
    step = form.coefficients.get(name, 0)
    if not store and isinstance(step, int) and 2 <= step <= PICKED:
        return 2.0 * step - 1
    return 1.0 if step == 1 else 0.5 if step == 0 else 1.5 * lanes


class NestBuilder:
    """Builds the kernel of one region. Raises NotFusable where a member is read off its place."""

    def __init__(
        self,
        region: Region,
        env: Environment,
        leaves: dict[Value, Leaf],
        schedule: NestSchedule,
        target: Target,
    ) -> None:
        self.region, self.env, self.leaves, self.schedule, self.target = region, env, leaves, schedule, target
        self.index: list[DimLike] = [0 if n == 1 else Dim.index(f"i{a}", n) for a, n in enumerate(region.space)]
        self.reads: dict[str, set[Index]] = {}
        vector = schedule.vector_axis
        self.vector = None if vector is None else f"i{vector}"
        self.inner_vector = vector is not None and vector in region.reduced
        self.row = self._emitter(None, "t", lanes=1 if self.inner_vector else schedule.lanes)
        self.tiles: list[L.Tile] = []

    def _emitter(self, parent: Emitter | None, prefix: str, lanes: int, count: DimLike | None = None) -> Emitter:
        variables = frozenset(str(self.index[a]) for a in self.region.reduced) if parent else frozenset()
        vector = self.vector if lanes > 1 else None
        return Emitter(self.env, lanes, vector, count, prefix, reads=self.reads, parent=parent, variables=variables)

    # ---- positions of members

    def outer_index(self) -> Index:
        return tuple(self.index[a] for a in self.region.outer_axes)

    def index_of(self, value: Value) -> Index:
        """The value's index at the current position. NotFusable when its shape is none of the region's."""
        if value.shape == self.region.space:
            return tuple(self.index)
        if value.shape == self.region.outer_shape():
            return self.outer_index()
        if value.shape == self.region.kept_shape():
            return tuple(0 if a in self.region.reduced else i for a, i in enumerate(self.index))
        raise NotFusable(value.name)

    def elementwise(self) -> tuple[str, ...]:
        """Buffers of which a row reads nothing but its own elements."""
        kept = tuple(0 if a in self.region.reduced else i for a, i in enumerate(self.index))
        own = {tuple(self.index), self.outer_index(), kept}
        return tuple(name for name, found in self.reads.items() if len(found) == 1 and found <= own)

    def is_full(self, value: Value) -> bool:
        return bool(self.region.reduced) and value.shape == self.region.space

    # ---- phases

    def phases(self) -> list[list[Node]]:
        """Reductions that do not depend on one another share a sweep."""
        depth: dict[Value, int] = {}
        groups: list[list[Node]] = []
        inside = set(self.region.members)
        for node in self.region.members:
            level = max((depth.get(v, 0) for v in node.inputs), default=0)
            if isinstance(node.op, g.Reduce) and node in inside:
                while len(groups) <= level:
                    groups.append([])
                groups[level].append(node)
                level += 1
            for out in node.outputs:
                depth[out] = level
        return groups

    def kept(self, groups: list[list[Node]]) -> dict[int, list[Value]]:
        """Expensive full values that more than one sweep reads, by the sweep that computes them first."""
        made = {v: n for n in self.region.members for v in n.outputs}
        stored = [v for v in self.region.outputs if self.is_full(v)]
        roots = [[n.inputs[0] for n in group] for group in groups] + [stored]
        seen: dict[Value, list[int]] = {}
        for phase, values in enumerate(roots):
            reached: set[Value] = set()
            stack = list(values)
            while stack:
                value = stack.pop()
                node = made.get(value)
                if value in reached or node is None or isinstance(node.op, g.Reduce):
                    continue
                reached.add(value)
                stack.extend(node.inputs)
            for value in reached:
                seen.setdefault(value, []).append(phase)
        result: dict[int, list[Value]] = {}
        for value, phases in seen.items():
            op = made[value].op
            costly = isinstance(op, g.Map) and SCALAR[op.fn].cost >= TILE_COST and self.is_full(value)
            if costly and len(phases) > 1 and self._tile_fits():
                result.setdefault(phases[0], []).append(value)
        return result

    def _tile_fits(self) -> bool:
        """Scratch has a size known at compile time."""
        row = product(self.region.space[a] for a in self.region.reduced)
        return isinstance(row, int) and row <= TILE_ELEMENTS

    # ---- building

    def build(self) -> tuple[DimLike, tuple[Stmt, ...]]:
        """The number of tasks, and the body of one."""
        tasks, body = self._rows(self.rows())
        return tasks, (*self.tiles, *body)

    def rows(self) -> list[Stmt]:
        """What happens at one outer position (or one vector of them)."""
        groups = self.phases()
        keep = self.kept(groups)
        for phase, group in enumerate(groups):
            self._reduce_phase(group, keep.get(phase, []), f"p{phase}")
        self._output_phase()
        return self.row.statements

    def _tile_for(self, value: Value) -> tuple[Index, str, DimLike]:
        """Local memory for one row of a full value (one vector wide where vectors run along outer axes)."""
        width = 1 if self.inner_vector else self.schedule.lanes
        size: DimLike = width
        address: DimLike = 0
        for axis in self.region.reduced:
            address = address * self.region.space[axis] + self.index[axis]
            size = size * self.region.space[axis]
        if not self.inner_vector and self.vector is not None:
            # Lane 0 of the vector is at the start of its slot: the vector index itself only steps lanes.
            raise NotFusable("a tile across outer vectors")
        name = f"tile{len(self.tiles)}"
        self.tiles.append(L.Tile(name, value.dtype.compute, size + 64))
        return tuple(self.index), name, address

    def _reduce_phase(self, group: list[Node], keep: list[Value], prefix: str) -> None:
        accumulators = [Accumulator(self, node, prefix, k) for k, node in enumerate(group)]
        for a in accumulators:
            a.declare(self.row.statements)
        tiles: dict[Value, tuple[Index, str, DimLike]] = {}
        if self.vector is None or self.inner_vector:
            tiles = {v: self._tile_for(v) for v in keep}

        def piece(lane: int, count: DimLike | None) -> list[Stmt]:
            emitter = self._emitter(
                self.row,
                f"{prefix}{lane}{'m' if count is None else 'z'}",
                self.schedule.lanes if self.vector else 1,
                count,
            )
            emitter.tiles = self.row.tiles
            for value, (index, buffer, address) in tiles.items():
                data = emitter.read(value, index)
                emitter.store(Leaf(buffer, address, ()), value.dtype.compute, (), data)
            for a in accumulators:
                a.step(emitter, lane)
            return emitter.statements

        unroll = max(a.copies for a in accumulators)
        self.row.statements.extend(self._sweep(piece, unroll))
        self.row.tiles.update(tiles)
        for a in accumulators:
            a.finish(self.row)

    def _sweep(self, piece: SweepPiece, unroll: int) -> list[Stmt]:
        """Loops over the inner axes around ``piece(lane, count)``."""
        axes = self._in_order(self.region.reduced)
        loops, table = self._loops(axes, piece(0, None))

        def merged(copy: int, count: DimLike | None) -> list[Stmt]:
            return list(rename(tuple(piece(copy, count)), table))

        if not (self.inner_vector and self.vector):
            return nested(loops, merged(0, None))
        name, extent = loops[-1]
        inner = vector_loops(Dim.index(name, extent), extent, self.schedule.lanes, unroll, merged)
        return nested(loops[:-1], inner)

    def _output_phase(self) -> None:
        full = [v for v in self.region.outputs if self.is_full(v)]
        for value in self.region.outputs:
            if value not in full:
                data = self.row.read(value, self.index_of(value))
                self.row.store(self.leaves[value], value.dtype, self.index_of(value), data)
        if not full:
            return

        def piece(lane: int, count: DimLike | None) -> list[Stmt]:
            emitter = self._emitter(
                self.row,
                f"o{'m' if count is None else 'z'}",
                self.schedule.lanes if self.vector else 1,
                count,
            )
            emitter.tiles = self.row.tiles
            for value in full:
                emitter.store(
                    self.leaves[value],
                    value.dtype,
                    self.index_of(value),
                    emitter.read(value, self.index_of(value)),
                )
            return emitter.statements

        self.row.statements.extend(self._sweep(piece, 1))

    def _in_order(self, axes: Sequence[int]) -> list[int]:
        """Axes worth a loop, the vectors' one innermost."""
        vector = self.schedule.vector_axis
        return [a for a in axes if self.region.space[a] != 1 and a != vector] + [a for a in axes if a == vector]

    # ---- rows and tasks

    def _loops(self, axes: Sequence[int], body: Sequence[Stmt]) -> tuple[Loops, dict[str, DimLike]]:
        loops = [(str(self.index[a]), self.region.space[a]) for a in axes]
        return merge_loops(loops, body) if self.schedule.merge else (loops, {})

    def _rows(self, statements: list[Stmt]) -> tuple[DimLike, list[Stmt]]:
        """The loops over outer positions, split into tasks."""
        axes = self._in_order(self.region.outer_axes)
        loops, table = self._loops(axes, statements)
        body = list(rename(tuple(statements), table))
        inner = product(self.region.space[a] for a in self.region.reduced) * self.cost()
        step = 1 if self.vector is None or self.inner_vector else self.schedule.lanes
        copies = step > 1 and not self.region.reduced
        turned = find_transposition(loops, body, step) if copies else None
        if turned is not None:
            return transposition_tasks(loops, turned, body, inner, step, self.schedule.task_work)
        across = contiguous_across(loops, body) if copies else None
        if across is not None:
            return block_tasks(loops, across, body, inner, step, self.schedule.task_work)
        return split_tasks(loops, body, inner, step, self.schedule.task_work, self._together(body) if step > 1 else 1)

    def _together(self, body: Sequence[Stmt]) -> int:
        """Vectors of outer positions whose reductions share a loop, which reads neighbouring memory then: as many as
        leave it short and its totals in registers."""
        found = list(L.walk(tuple(body)))
        loops = [s for s in found if isinstance(s, L.For)]
        if not loops or not all(isinstance(s, (L.Let, L.Assign, L.Store, L.For)) for s in found):
            return 1
        longest = max(sum(not isinstance(s, L.For) for s in loop.body) for loop in loops)
        around = sum(not isinstance(s, L.For) for s in body)
        most = min(self.schedule.columns, MOST_TOGETHER // max(longest, 1), MOST_AROUND // max(around, 1))
        wide = 1
        while 2 * wide <= most:
            wide *= 2
        return wide

    def cost(self) -> int:
        """Vector instructions for one position, roughly."""
        return 1 + sum(SCALAR[n.op.fn].cost for n in self.region.members if isinstance(n.op, g.Map))

    def flops(self) -> int:
        """Arithmetic operations at one position, a function of the scalar table counted as one."""
        return sum(isinstance(n.op, (g.Map, g.Reduce)) for n in self.region.members)

    def describe(self) -> tuple[tuple[str, int | str], ...]:
        """The schedule as recorded with the kernel."""
        s = self.schedule
        return (
            ("template", "nest"),
            ("lanes", s.lanes),
            ("vector_axis", str(s.vector_axis)),
            ("task_work", s.task_work),
        )

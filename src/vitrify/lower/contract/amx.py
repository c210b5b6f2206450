"""Contractions in bf16 on AMX: the left operand rounded into a copy, or bf16 in memory already; constant
weights packed as bf16. :mod:`amx_int8` lowers bytes the same way.

A step takes two registers of rows and two of columns: 32 x 32 results, 32 terms of each sum at a time (64 of
bytes). Sums are in f32 (i32). The copy has room for the rows a last step reads beyond the end; their results are
not stored. An operand that is bf16 in memory, in one run of rows and with such room, is read where it is.
Where a row of the output is short (at most a register) and the copy holds rows at even distances, registers
run on over the padding from one row into the next, and the results that fall on it are not stored either.
The few channels of a first layer, planes apart in memory, lie next to each other in the copy, padded to two or
four: the terms of one row of the window are then neighbours.

Parameters: ``rows`` (of a matrix register), ``row_block`` (steps, or whole rows of steps, per task),
``panel_block`` (panels of 32 columns per task).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitrify.ir.dims import Dim, DimLike, ceildiv, minimum, provably_nonnegative
from vitrify.ir.dtypes import BF16, F32, DType
from vitrify.lower.contract import copying, emit, gemm, gemm_schedule
from vitrify.lower.contract.axes import Fused, offset_at, singles
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.panels import Array, Panels, dense
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction, Lowered, Temporary
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.tile import Right
from vitrify.lower.loop import Buffer, Data, For, Kernel, Load, Matrix, Stmt, Tile, VType
from vitrify.lower.target import Target

FEATURE = "amx-bf16"
TERMS = 32  # of each sum per instruction
ROWS = 16  # of a matrix register, at most
LANES = 16
COLUMNS = 2 * LANES
STEP_ROWS = 2 * ROWS
FEW_CHANNELS = 4
LEAST_FLOPS = 1 << 19
TASK_FLOPS = 1 << 23


@dataclass(frozen=True)
class Form:
    """What matrix registers hold: terms of ``dtype``, of which ``multiply`` sums neighbours in 32-bit lanes.
    ``divided``: a sum may be cut into any equal parts that registers hold, not only into whole registers."""

    template: str
    dtype: DType
    multiply: str
    task_flops: int = TASK_FLOPS
    divided: bool = False

    @property
    def terms(self) -> int:
        """Of each sum per instruction, at most."""
        return 64 // self.dtype.itemsize

    @property
    def group(self) -> int:
        """Terms in a lane."""
        return 4 // self.dtype.itemsize

    def terms_of(self, geometry: gemm.Geometry) -> int:
        """Neighbouring terms per instruction; 0 where they do not come in whole groups."""
        inner = geometry.loops[-1] if geometry.loops else None
        if inner is None or inner.strides[0] != 1 or not isinstance(inner.extent, int):
            return 0
        if inner.extent % self.terms == 0:
            return self.terms
        if self.divided:
            parts = range(self.terms, 0, -self.group)
            return next((n for n in parts if inner.extent % n == 0), 0)
        return inner.extent if inner.extent < self.terms and inner.extent % self.group == 0 else 0


BF16_TERMS = Form("amx", BF16, "multiply")


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None where bf16 was not granted, the machine has no AMX, or terms do not come in whole groups."""
    p = problem
    fits = target.has(FEATURE) and p.precision is BF16 and p.accumulate is F32 and emit.packable(p)
    if not fits or not p.right or not p.contracted or emit.known(emit.flops(p), LEAST_FLOPS) < LEAST_FLOPS:
        return None
    parts = copying.coordinates(p.lhs, (*p.batch, *p.left, *p.contracted))
    if parts is None or not p.lhs.dtype.is_float:
        return None
    in_place = _in_place(p)
    return plan(p if in_place else _copy(p, "copy").moved(), target, BF16_TERMS, in_place)


def plan(problem: Contraction, target: Target, form: Form, in_place: bool) -> Schedule | None:
    """How steps and tasks divide the problem, whose left operand is as registers take it."""
    p, geometry = problem, geometry_of(problem)
    if not form.terms_of(geometry) or any(not isinstance(loop.extent, int) for loop in geometry.loops):
        return None
    extent = geometry.row.extent
    rows = row_count(extent)
    panels = ceildiv(p.right[-1].extent, COLUMNS)
    steps = emit.known(gemm_steps(geometry, rows), 4)
    groups, blocks = _tasks(p, target, form, emit.known(panels, 2), steps)
    weights = emit.known(emit.size((*p.batch, *p.right, *p.contracted)), 0) * form.dtype.itemsize
    return Schedule.of(
        form.template,
        rows=rows,
        inner=0,
        vectors=2,
        row_block=-(-steps // blocks),
        panel_block=-(-emit.known(panels, 2) // groups),
        by_rows=int(weights <= target.l2_bytes),
        copy=gemm.NOT_COPIED if in_place else gemm.COPIED_BY_KERNEL,
        right=gemm.PACKED,
        prefetch=0,
    )


def row_count(extent: DimLike) -> int:
    """Rows of a matrix register: as few as the same number of registers takes."""
    count = -(-emit.known(extent, ROWS) // ROWS)
    return max(1, -(-emit.known(extent, ROWS) // max(count, 1)))


def _in_place(problem: Contraction) -> bool:
    """Whether the left operand is bf16 already, in rows at even distances, with room beyond the last one."""
    lhs = problem.lhs
    if lhs.dtype is not BF16 or lhs.bounds:
        return False
    g = gemm.Geometry.of(problem, False, False)
    stride = g.row.strides[0]
    if g.units or not g.loops or g.loops[-1].strides[0] != 1 or not isinstance(stride, int):
        return False
    return provably_nonnegative(lhs.room - STEP_ROWS * stride)


def geometry_of(problem: Contraction) -> gemm.Geometry:
    """The loops, with short rows of the output walked as one with their padding."""
    g = gemm.Geometry.of(problem, False, False)
    if not g.units or not isinstance(g.row.extent, int) or g.row.extent > ROWS:
        return g
    outer, pitch = g.units[-1], g.row.strides[0]
    far = outer.strides[0]
    if not (isinstance(far, int) and isinstance(pitch, int) and isinstance(outer.extent, int)) or far % pitch:
        return g
    width = far // pitch
    if width > 2 * g.row.extent or len(outer.parts) != 1 or len(g.row.parts) != 1:
        return g
    extent = (outer.extent - 1) * width + g.row.extent
    gaps = Axis(g.row.parts[0].name, width)  # the row with what separates it from the next
    return replace(g, units=g.units[:-1], row=Fused(extent, (outer.parts[0], gaps), g.row.strides))


def gemm_steps(geometry: gemm.Geometry, rows: int) -> DimLike:
    units = [a for u in geometry.units for a in u.parts]
    return emit.size(units) if units else ceildiv(geometry.row.extent, 2 * rows)


def _tasks(problem: Contraction, target: Target, form: Form, panels: int, steps: int) -> tuple[int, int]:
    """Into how many groups of panels and blocks of rows work divides."""
    work = emit.known(emit.flops(problem), form.task_flops)
    wanted = max(1, min(gemm_schedule.MOST_TASKS, work // form.task_flops))
    k, n = emit.known(emit.size(problem.contracted), 1024), emit.known(problem.right[-1].extent, 1024)
    weights = form.dtype.itemsize * k * n
    groups = max(1, min(panels, wanted, round(2 * weights / target.l2_bytes)))
    return groups, max(1, min(steps, -(-wanted // groups)))


def _copy(problem: Contraction, buffer: str) -> copying.Copy:
    few = _few_channels(problem)
    if few is None:
        return copying.Copy.of(problem, buffer, BF16)
    return copying.Copy.of(_padded(problem, few), buffer, BF16, few.name)


def _few_channels(problem: Contraction) -> Axis | None:
    """The contracted axis of a first layer's channels: short, not a window's, and not along memory."""
    lhs = problem.lhs
    for axis in problem.contracted:
        bounded = any(axis.name in b.strides for b in (*lhs.bounds, *problem.rhs.bounds))
        short = isinstance(axis.extent, int) and 1 < axis.extent <= FEW_CHANNELS
        if short and not bounded and lhs.strides.get(axis.name, 0) not in (0, 1) and lhs.fill == 0:
            parts = copying.coordinates(lhs, (*problem.batch, *problem.left, *problem.contracted)) or []
            if len(parts) > 1 and any([n for n, _ in c.factors] == [axis.name] for c in parts):
                return axis
    return None


def _padded(problem: Contraction, axis: Axis) -> Contraction:
    """The problem with zeros after the last channel, so that their number is even."""
    count = emit.known(axis.extent, 1)
    more = Axis(axis.name, count + count % 2)
    bound = Bound(0, {axis.name: 1}, count)
    lhs = replace(problem.lhs, bounds=(*problem.lhs.bounds, bound))
    rhs = replace(problem.rhs, bounds=(*problem.rhs.bounds, bound))
    contracted = tuple(more if a == axis else a for a in problem.contracted)
    return replace(problem, lhs=lhs, rhs=rhs, contracted=contracted)


def pack(problem: Contraction, geometry: gemm.Geometry, form: Form) -> Array:
    """``[outer][panel][K / terms][2][terms / group][16][group]``: for each matrix register, its groups of terms
    of sixteen columns."""
    lane, terms, group = problem.right[-1], form.terms_of(geometry), form.group
    outer = _outer(problem, geometry)
    whole = dense(problem.rhs, (*outer, *geometry.order, lane))
    if form.dtype is BF16:
        whole = np.asarray(whole, np.float32)
    n = whole.shape[-1]
    array = whole.reshape(-1, emit.known(geometry.k, 0), n)
    panels = -(-n // COLUMNS)
    padded = np.zeros((*array.shape[:2], panels * COLUMNS), form.dtype.numpy)
    padded[:, :, :n] = array
    split = padded.reshape(
        len(array), -1, terms // group, group, panels, 2, LANES
    )  # outer, k, group, term, panel, register, column
    return np.ascontiguousarray(split.transpose(0, 4, 1, 5, 2, 6, 3)).reshape(len(array), -1)


def _outer(problem: Contraction, geometry: gemm.Geometry) -> list[Axis]:
    return [a for a in geometry.outer if a.extent != 1 and problem.rhs.strides.get(a.name, 0) != 0]


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The kernel that rounds and copies, then the one that multiplies."""
    copied = chosen.values["copy"] == gemm.COPIED_BY_KERNEL
    return multiplied(problem, chosen, BF16_TERMS, _copy(problem, f"{name}_lhs") if copied else None, name)


def multiplied(problem: Contraction, chosen: Schedule, form: Form, copy: copying.Copy | None, name: str) -> Lowered:
    """The kernel that copies where there is a copy, then the one that multiplies."""
    moved = problem if copy is None else copy.moved()
    problem = problem if copy is None else copy.problem
    geometry = geometry_of(moved)
    constant = pack(problem, geometry, form)
    strides: dict[str, DimLike] = {}
    step = constant.shape[1]
    for axis in reversed(_outer(problem, geometry)):
        strides[axis.name] = step
        step *= emit.known(axis.extent, 1)
    right = Access(f"{name}_rhs", form.dtype, 0, strides)
    panels = Panels(problem.right[-1].extent, COLUMNS, LANES, False)
    writer = _Kernel(moved, chosen, geometry, panels, right, strides, Names(), LANES, name)
    writer.form = form
    kernel = writer.kernel((), [Buffer(moved.lhs.buffer, form.dtype)])
    if copy is None:
        return Lowered([kernel], [], {f"{name}_rhs": constant})
    slack = 2 * chosen.values["rows"] * geometry.row.strides[0]  # rows a last step reads beyond the end
    return Lowered(
        [copy.kernel(f"{name}_copy"), kernel],
        [Temporary(f"{name}_lhs", form.dtype, copy.size + slack)],
        {f"{name}_rhs": constant},
    )


class _Kernel(gemm.TiledKernel):
    """The tiled kernel with steps on matrix registers instead of tiles of vectors."""

    form: Form

    @property
    def _full_tiles(self) -> DimLike:
        return ceildiv(self.geometry.row.extent, 2 * self.values["rows"])

    def kernel(self, prologue: Body, buffers: list[Buffer]) -> Kernel:
        rows = self.values["rows"]
        pairs = self._terms_each * self.form.dtype.itemsize // BF16.itemsize  # registers know bytes, not terms
        made = super().kernel((Matrix("configure", rows=rows, terms=pairs), *prologue), buffers)
        return replace(made, body=(*made.body, Matrix("release")))

    @property
    def _terms_each(self) -> int:
        return self.form.terms_of(self.geometry)

    @property
    def _row_axes(self) -> list[Axis]:
        """The axes of the row axis as the problem has them, without gaps."""
        axes = {a.name: a for a in self.problem.left}
        return [axes[a.name] for a in self.geometry.row.parts]

    def _spill(self) -> Body:
        return (Tile("finished", self.problem.accumulate, 2 * self.values["rows"] * COLUMNS),)

    def _row_tiles(
        self, position: dict[str, DimLike], right: Right, column: DimLike, first: DimLike, count: DimLike,
        last: Data | None,
    ) -> Body:  # fmt: skip
        rows, extent = self.values["rows"], self.geometry.row.extent

        def step(t: DimLike) -> Body:
            start, bound = self.names.bind("m", (first + t) * (2 * rows))
            left = extent - start
            if isinstance(left, int):
                return (
                    *bound,
                    *self._step(
                        position, right, column, start, min(left, 2 * rows), 1 if left <= rows else 2
                    ),
                )
            two = self._step(position, right, column, start, minimum(left, 2 * rows), 2)
            if isinstance(extent, int) and extent % (2 * rows) in (0, *range(rows + 1, 2 * rows)):
                return (*bound, *two)
            one = self._step(position, right, column, start, left, 1)
            return (*bound, *emit.when(emit.compare("gt", left, rows), two, one))

        return self.names.loop("m", count, step)

    def _step(
        self,
        position: dict[str, DimLike],
        right: Right,
        column: DimLike,
        start: DimLike,
        height: DimLike,
        registers: int,
    ) -> Body:
        """``registers`` of rows times those of columns that exist, then the epilogue."""
        g, lhs, rows = self.geometry, self.problem.lhs, self.values["rows"]
        fixed = {a.name: position[a.name] for a in (*g.outer, *self._units) if a.name in position}
        base, bound = self.names.bind("a", offset_at(lhs, fixed) + start * g.row.strides[0])
        sums = [(i, j, 2 * i + j) for i in range(registers) for j in range(right.vectors)]
        body: list[Stmt] = [*bound, *(Matrix("zero", (t,)) for _, _, t in sums)]
        body += self._sum(base, right, registers, 0, 0, 0)
        body += [
            Matrix("store", (t,), 0, "finished", i * rows * COLUMNS + j * LANES, COLUMNS) for i, j, t in sums
        ]
        zeros = singles((*self.problem.batch, *self.problem.left, *self.problem.right))
        outside = {n: p for n, p in position.items() if n not in ("@group", "@block")}
        lane = self.problem.right[-1].name

        def row(i: DimLike) -> Body:
            at = g.row.position(start + i)
            where = {**zeros, **outside, **at}
            stores = tuple(
                s for v in range(right.vectors)
                for s in self.problem.epilogue.emit(
                    {**where, lane: column + v * LANES},
                    Load("finished", i * COLUMNS + v * LANES, VType(self.problem.accumulate, LANES)), LANES,
                    right.count if v == right.vectors - 1 else None,
                )
            )  # fmt: skip
            exists = [
                emit.compare("lt", at[a.name], a.extent)
                for a, part in zip(self._row_axes, g.row.parts, strict=True)
                if a.extent != part.extent
            ]
            return emit.when(emit.every(exists), stores) if exists else stores

        return (*body, *self.names.loop("r", height, row))

    def _sum(
        self, base: DimLike, right: Right, registers: int, depth: int, at: DimLike, term: DimLike
    ) -> Body:
        """The loops over the contracted axes, the last one by groups of terms."""
        loops = self.geometry.loops
        if depth == len(loops) - 1:
            variable = Dim.index(self.names.fresh("k"), loops[depth].extent)
            body = self._terms(base + at + variable, right, registers, term + variable)
            return (For(variable, loops[depth].extent, body, self._terms_each),)
        loop = loops[depth]
        return self.names.loop(
            "k", loop.extent,
            lambda k: self._sum(
                base, right, registers, depth + 1, at + k * loop.strides[0], term + k * loop.strides[1]
            ),
        )  # fmt: skip

    def _terms(self, at: DimLike, right: Right, registers: int, term: DimLike) -> Body:
        rows, stride = self.values["rows"], self.geometry.row.strides[0]
        lhs = self.problem.lhs.buffer
        body: list[Stmt] = [
            Matrix(
                "load",
                (6 + j,),
                0,
                right.access.buffer,
                right.base + term * COLUMNS + j * (self._terms_each * LANES),
                LANES * self.form.group,
            )
            for j in range(right.vectors)
        ]
        for i in range(registers):
            body.append(Matrix("load", (4 + i,), 0, lhs, at + i * rows * stride, stride))
            body += [Matrix(self.form.multiply, (2 * i + j, 4 + i, 6 + j)) for j in range(right.vectors)]
        return tuple(body)

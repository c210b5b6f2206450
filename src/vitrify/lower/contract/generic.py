"""The template that is right for everything: any strides, bounds, dtypes, ranks and extents.

Each result is one ascending sum over the contracted axes; neighbouring results share vectors where there
is a lane axis.

Parameters: ``lanes`` (results per vector).
"""

from __future__ import annotations

from vitrify.ir.dims import DimLike, ceildiv, minimum
from vitrify.lower.contract import emit
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.problem import Access, Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.loop import Assign, Buffer, Data, Kernel, Let, Register, zero
from vitrify.lower.target import Target

TASK_FLOPS = 1 << 20


def schedule(problem: Contraction, target: Target) -> Schedule:
    """``lanes``: results per vector."""
    lanes = target.lanes(problem.accumulate)
    axis = problem.lane_axis
    bounded = (
        any(axis.name in b.strides for a in (problem.lhs, problem.rhs) for b in a.bounds) if axis else True
    )
    if bounded or axis is None:
        return Schedule.of("generic", lanes=1)
    while isinstance(axis.extent, int) and lanes > 4 and lanes // 2 >= axis.extent:
        lanes //= 2  # no fewer than the vector math has
    return Schedule.of("generic", lanes=lanes)


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """One kernel, no temporaries."""
    return Lowered([_Generic(problem, chosen, name).kernel()])


class _Generic:
    def __init__(self, problem: Contraction, chosen: Schedule, name: str) -> None:
        self.problem = problem
        self.chosen = chosen
        self.name = name
        self.names = Names()
        self.lanes = chosen.values["lanes"]
        self.lane = problem.lane_axis

    def kernel(self) -> Kernel:
        p = self.problem
        outer = tuple(
            a for a in (*p.batch, *p.left, *p.right) if self.lane is None or a.name != self.lane.name
        )
        units = emit.size(outer)
        per_unit = emit.flops(p) // units if isinstance(units, int) and units else 0
        chunk = task_rows(units, per_unit)
        tasks = ceildiv(units, chunk)

        def unit(i: DimLike) -> Body:
            position, bound = emit.decode(self.names, emit.TASK * chunk + i, outer)
            return (*bound, *self._row(position))

        body = self.names.loop("u", minimum(chunk, units - emit.TASK * chunk), unit)
        buffers = [Buffer(a.buffer, a.dtype) for a in (p.lhs, p.rhs)]
        return Kernel(
            self.name, emit.kernel_buffers([*buffers, *p.epilogue.buffers]), emit.all_dims(p), tasks, body,
            emit.flops(p), emit.traffic(p), self.chosen.record(),
        )  # fmt: skip

    def _row(self, position: dict[str, DimLike]) -> Body:
        """Every result along the lane axis."""
        if self.lane is None:
            return self._results(position, 1, None)
        lane, extent, lanes = self.lane.name, self.lane.extent, self.lanes
        if lanes == 1:
            return self.names.loop("n", extent, lambda i: self._results({**position, lane: i}, 1, None))
        full = extent // lanes
        body = self.names.loop("v", full, lambda i: self._results({**position, lane: i * lanes}, lanes, None))
        rest = extent - full * lanes
        if rest == 0:
            return body
        tail = self._results({**position, lane: full * lanes}, lanes, rest)
        return body + (tail if isinstance(rest, int) else emit.when(emit.compare("gt", rest, 0), tail))

    def _results(self, position: dict[str, DimLike], lanes: int, count: DimLike | None) -> Body:
        p = self.problem
        total = self.names.register("sum", p.accumulate, lanes)
        sums = emit.nest(self.names, p.contracted, lambda k: self._term({**position, **k}, total, count))
        results = p.epilogue.emit(position, total, lanes, count)
        return (Let(total, zero(p.accumulate, lanes)), *sums, *results)

    def _term(self, position: dict[str, DimLike], total: Register, count: DimLike | None) -> Body:
        before, lhs = self._operand(self.problem.lhs, position, total.type.lanes, count)
        more, rhs = self._operand(self.problem.rhs, position, total.type.lanes, count)
        return (*before, *more, Assign(total, emit.multiply_add(lhs, rhs, total)))

    def _operand(
        self, access: Access, position: dict[str, DimLike], lanes: int, count: DimLike | None
    ) -> tuple[Body, Data]:
        """The element of each lane, as the accumulator's dtype, and the statements that fetch it."""
        dtype = self.problem.accumulate
        stride = access.strides.get(self.lane.name, 0) if self.lane is not None else 0
        width = lanes if stride != 0 else 1
        index = emit.address(access, position)
        loaded = emit.load(access, index, width, count if width > 1 else None, stride if width > 1 else 1)
        value: Data = emit.convert(loaded, dtype)
        condition = emit.inside(access, position)
        if condition is None:
            return (), emit.splat(value, lanes) if width == 1 else value
        element = self.names.register("x", dtype, width)
        body = (
            Let(element, emit.literal(access.fill, dtype, width)),
            *emit.when(condition, (Assign(element, value),)),
        )
        return body, emit.splat(element, lanes) if width == 1 else element


def task_rows(units: DimLike, flops_per_unit: DimLike) -> int:
    """Rows of results per task: a task long enough to be worth handing out."""
    per_unit = emit.known(flops_per_unit, 4096)
    chunk = max(1, TASK_FLOPS // max(per_unit, 1))
    if isinstance(units, int):
        chunk = min(chunk, max(units, 1))
    return chunk

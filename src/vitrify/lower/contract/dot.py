"""Results one by one, each a dot product of contiguous rows: partial sums, one per lane, then their total.

For contractions without right axes, such as a convolution to one channel. Rows that a bound excludes are
skipped, or multiplied by the fill value where that is not zero.

Parameters: ``lanes`` (terms per vector).
"""

from __future__ import annotations

import numpy as np

from vitrify.ir.dims import DimLike, ceildiv, minimum
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import contracted_order, offset_at, singles
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.generic import task_rows
from vitrify.lower.contract.panels import dense
from vitrify.lower.contract.problem import Access, Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.loop import Assign, Buffer, Data, Fold, Kernel, Let, Register, Stmt, zero
from vitrify.lower.target import Target

LEAST_TERMS = 8  # in a contiguous row


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None where rows are short or not contiguous, or results fill vectors better."""
    p = problem
    order = contracted_order(p.contracted, p.lhs)
    if not order or not p.accumulate.is_float or p.rhs.bounds or any(a.extent != 1 for a in p.right):
        return None
    inner = order[-1]
    if isinstance(inner.extent, int) and inner.extent < LEAST_TERMS:
        return None
    if p.lhs.strides.get(inner.name) != 1 or any(inner.name in b.strides for b in p.lhs.bounds):
        return None
    if not emit.packable(p) and p.rhs.strides.get(inner.name) != 1:
        return None
    return Schedule.of("dot", lanes=target.lanes(p.accumulate))


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """One kernel, no temporaries."""
    lowered = Lowered([])
    rhs = problem.rhs
    if emit.packable(problem):
        outer = [a for a in (*problem.batch, *problem.right) if a.name in rhs.strides]
        axes = [*outer, *contracted_order(problem.contracted, problem.lhs)]
        packed = np.ascontiguousarray(dense(rhs, axes), problem.accumulate.numpy)
        lowered.constants[f"{name}_rhs"] = packed
        strides: dict[str, DimLike] = {}
        step = 1
        for axis, extent in zip(reversed(axes), reversed(packed.shape), strict=True):
            strides[axis.name] = step
            step *= extent
        rhs = Access(f"{name}_rhs", problem.accumulate, 0, strides)
    lowered.kernels.append(_Dot(problem, rhs, chosen, name).kernel())
    return lowered


class _Dot:
    def __init__(self, problem: Contraction, rhs: Access, chosen: Schedule, name: str) -> None:
        self.problem = problem
        self.rhs = rhs
        self.chosen = chosen
        self.name = name
        self.names = Names()
        self.lanes = chosen.values["lanes"]
        self.order = contracted_order(problem.contracted, problem.lhs)

    def kernel(self) -> Kernel:
        p = self.problem
        outer = (*p.batch, *p.left, *p.right)
        results = emit.size(outer)
        chunk = task_rows(results, 2 * emit.size(self.order))
        first = emit.TASK * chunk

        def one(i: DimLike) -> Body:
            position, bound = emit.decode(self.names, first + i, outer)
            return (*bound, *self._result(position))

        body = self.names.loop("u", minimum(chunk, results - first), one)
        buffers = [Buffer(a.buffer, a.dtype) for a in (p.lhs, self.rhs)]
        return Kernel(
            self.name,
            emit.kernel_buffers([*buffers, *p.epilogue.buffers]),
            emit.all_dims(p),
            ceildiv(results, chunk),
            body,
            emit.flops(p),
            emit.traffic(p),
            self.chosen.record(),
        )

    def _result(self, position: dict[str, DimLike]) -> Body:
        p = self.problem
        total = self.names.register("sum", p.accumulate, self.lanes)
        where = {**singles(p.contracted), **position}
        body = emit.nest(self.names, self.order[:-1], lambda k: self._row({**where, **k}, total))
        value = Fold("add", total) if self.lanes > 1 else total
        results = p.epilogue.emit(position, value, 1, None)
        return (Let(total, zero(p.accumulate, self.lanes)), *body, *results)

    def _row(self, position: dict[str, DimLike], total: Register) -> Body:
        """The innermost contracted axis."""
        p, inner, lanes = self.problem, self.order[-1], self.lanes
        outside: list[Stmt] = []

        def step(k: DimLike, count: DimLike | None, inside: bool) -> Body:
            where = {**position, inner.name: k}

            def vector(access: Access) -> Data:
                return emit.convert(emit.load(access, offset_at(access, where), lanes, count), p.accumulate)

            lhs = vector(p.lhs) if inside else emit.literal(p.lhs.fill, p.accumulate, lanes)
            return (Assign(total, emit.multiply_add(lhs, vector(self.rhs), total)),)

        def whole(inside: bool) -> Body:
            full = inner.extent // lanes
            rest = inner.extent - full * lanes
            body = self.names.loop("k", full, lambda k: step(k * lanes, None, inside))
            return body if rest == 0 else body + step(full * lanes, rest, inside)

        condition = emit.inside(p.lhs, position)
        if condition is None:
            return whole(True)
        if p.lhs.fill != 0:
            outside += whole(False)
        return emit.when(condition, whole(True), tuple(outside))

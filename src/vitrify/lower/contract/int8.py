"""Contractions of small integers on vectors, summed in i32: several neighbouring terms in each 32-bit lane.

``dpbusd`` (VNNI) adds four products of u8 with i8. Where both sides are signed, or both are not, the left one is
copied with its sign bits turned, and 128 times the sums of the weights makes up for it in the epilogue. Without
VNNI, and for i16, ``dpwssd`` adds two products of i16; that is every x86-64. Both are exact modulo 2^32.

The left operand is copied, its innermost terms padded to whole lanes, the weights are packed when compiled; then
the tiled template lowers a problem over lanes. Parameters are those of :mod:`gemm`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I8, I16, I32, U8, DType
from vitrify.lower.contract import copying, emit, gemm, gemm_schedule
from vitrify.lower.contract.axes import contracted_order
from vitrify.lower.contract.panels import Array, dense
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction, Epilogue, Lowered, Temporary
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.tile import PAIR
from vitrify.lower.loop import Apply, Buffer, Data, Let, Load, Register, Stmt, VType
from vitrify.lower.target import Target

FEATURE = "vnni"
FEW_CHANNELS = 128  # that are brought together where they lie planes apart


@dataclass(frozen=True)
class Form:
    """How lanes hold terms. ``dtype``: of a term of the copy; ``flipped``: it has its sign bits turned."""

    instruction: str
    terms: int
    dtype: DType
    flipped: bool = False

    @staticmethod
    def of(problem: Contraction, target: Target) -> Form | None:
        lhs, rhs = problem.lhs.dtype, problem.rhs.dtype
        if not target.name.startswith("x86-64") or problem.accumulate is not I32:
            return None
        if target.has(FEATURE) and {lhs, rhs} <= {I8, U8}:
            instruction = "dpbusd" if rhs is I8 else "dpbsud"
            return Form(instruction, 4, U8, lhs is rhs)
        return Form("dpwssd", 2, I16) if {lhs, rhs} <= {I8, U8, I16} else None


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None for other types, moving weights, and terms that do not lie together."""
    form = Form.of(problem, target)
    if form is None or not emit.packable(problem) or not problem.right or problem.rhs.bounds:
        return None
    if problem.right[-1].name not in problem.rhs.strides:
        return None
    copy = copy_of(problem, "copy", form.dtype, _whole_lanes(form), form.flipped)
    grouped = None if copy is None else _grouped(copy.moved(), form)
    found = None if grouped is None else gemm_schedule.estimate(grouped, target)
    return None if found is None else replace(found[1], template="int8")


def _whole_lanes(form: Form) -> Callable[[int], int]:
    return lambda count: -(-count // form.terms) * form.terms


def copy_of(
    problem: Contraction, buffer: str, dtype: DType, whole: Callable[[int], int], flipped: bool = False
) -> copying.Copy | None:
    """The left operand with neighbouring terms side by side, ``whole(n)`` of them where there are n; None where
    they do not get there. In U8 it is the bits of either type, ``flipped`` with their sign bits turned."""
    lhs = problem.lhs
    if dtype is U8:
        lhs = replace(lhs, dtype=U8, fill=(int(lhs.fill) & 255) ^ (128 if flipped else 0))
    inner = _inner(problem)
    if inner is None:
        return None
    padded = _padded(replace(problem, lhs=lhs), inner, whole(emit.known(inner.extent, 1)))
    apart = lhs.strides.get(inner.name, 0) != 1
    if copying.coordinates(padded.lhs, (*padded.batch, *padded.left, *padded.contracted)) is None:
        return None
    copy = copying.Copy.of(padded, buffer, dtype, inner.name if apart else None)
    return replace(copy, flipped=flipped)


def _inner(problem: Contraction) -> Axis | None:
    """The contracted axis whose terms share lanes: along memory, or short, and no window's."""
    lhs = problem.lhs
    parts = copying.coordinates(lhs, (*problem.batch, *problem.left, *problem.contracted)) or []
    alone = {c.factors[0][0] for c in parts if len(c.factors) == 1 and c.factors[0][1] == 1}
    found: Axis | None = None
    for axis in problem.contracted:
        bounded = any(axis.name in b.strides for b in lhs.bounds)
        if axis.name not in alone or bounded or not isinstance(axis.extent, int):
            continue
        if lhs.strides.get(axis.name, 0) == 1:
            return axis
        if axis.extent <= FEW_CHANNELS and len(parts) > 1:
            found = axis
    return found


def _padded(problem: Contraction, axis: Axis, whole: int) -> Contraction:
    """The problem with zero weights after the axis' last term, ``whole`` in all."""
    count = emit.known(axis.extent, 1)
    if count == whole:
        return problem
    more = Axis(axis.name, whole)
    bound = Bound(0, {axis.name: 1}, count)
    lhs = replace(problem.lhs, bounds=(*problem.lhs.bounds, bound))
    rhs = replace(problem.rhs, bounds=(bound,), fill=0)
    contracted = tuple(more if a.name == axis.name else a for a in problem.contracted)
    return replace(problem, lhs=lhs, rhs=rhs, contracted=contracted)


def _grouped(problem: Contraction, form: Form) -> Contraction | None:
    """The problem over lanes, its weights packed so; None where the copy's terms do not share lanes."""
    order = contracted_order(problem.contracted, problem.lhs)
    if not order:
        return None
    inner, strides = order[-1], dict(problem.lhs.strides)
    if strides.pop(inner.name, 0) != 1 or emit.known(inner.extent, 1) % form.terms:
        return None
    lanes: dict[str, DimLike] = {}
    for name, stride in strides.items():
        lanes[name] = stride // form.terms
        if lanes[name] * form.terms != stride:
            return None
    lanes[inner.name] = 1
    short = Axis(inner.name, emit.known(inner.extent, 1) // form.terms)
    contracted = tuple(short if a.name == inner.name else a for a in order)
    rhs = _packed(problem, order, form)
    lhs = Access(problem.lhs.buffer, PAIR, 0, lanes)
    return replace(problem, contracted=contracted, lhs=lhs, rhs=rhs, paired=form.instruction)


def _outer(problem: Contraction) -> list[Axis]:
    return [a for a in (*problem.batch, *problem.right) if a.name in problem.rhs.strides]


def _strides(axes: Sequence[Axis], shape: Sequence[int]) -> dict[str, DimLike]:
    strides: dict[str, DimLike] = {}
    step: DimLike = 1
    for axis, extent in zip(reversed(axes), reversed(shape), strict=True):
        strides[axis.name] = step
        step = step * extent
    return strides


def _packed(problem: Contraction, order: Sequence[Axis], form: Form) -> Access:
    """The weights, the terms of a lane in one u32, as the axes come: batch, right, contracted."""
    outer = _outer(problem)
    whole = dense(problem.rhs, (*outer, *order))
    stored = whole if form.dtype is U8 else whole.astype(form.dtype.numpy)
    groups = np.ascontiguousarray(stored).view(np.uint32)
    return Access(problem.rhs.buffer, PAIR, 0, _strides([*outer, *order], groups.shape), constant=groups)


@dataclass
class Corrected:
    """An epilogue that is given the sum plus a constant per column, from ``buffer``."""

    inner: Epilogue
    buffer: str
    strides: Mapping[str, DimLike]
    cost: int = field(init=False)
    buffers: tuple[Buffer, ...] = field(init=False)
    dims: tuple[str, ...] = field(init=False)
    serial: int = 0

    def __post_init__(self) -> None:
        self.cost, self.dims = self.inner.cost + 1, self.inner.dims
        self.buffers = (*self.inner.buffers, Buffer(self.buffer, I32))

    def emit(self, position: Mapping[str, DimLike], value: Data, lanes: int, count: DimLike | None) -> Sequence[Stmt]:
        """See :class:`vitrify.lower.contract.problem.Epilogue`."""
        at: DimLike = 0
        for name, stride in self.strides.items():
            at = at + position[name] * stride
        self.serial += 1
        kind = VType(I32, lanes)
        total = Register(f"whole_{self.serial}", kind)
        known = Load(self.buffer, at, kind, count if lanes > 1 else None)
        return [Let(total, Apply("add", (value, known))), *self.inner.emit(position, total, lanes, count)]


def _correction(problem: Contraction) -> tuple[Array, dict[str, DimLike]]:
    """What turned sign bits of the left operand take from each result, and where it is."""
    outer = _outer(problem)
    whole = dense(problem.rhs, (*outer, *problem.contracted))
    sums = whole.astype(np.int64).reshape(*whole.shape[: len(outer)], -1).sum(-1)
    return (sums * (-128 if problem.lhs.dtype is I8 else 128)).astype(np.int32), _strides(outer, sums.shape)


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The kernel that copies, then the tiled one. ValueError where terms do not share lanes."""
    form = Form.of(problem, target)
    copy = (
        None if form is None
        else copy_of(problem, f"{name}_lhs", form.dtype, _whole_lanes(form), form.flipped)
    )  # fmt: skip
    grouped = None if form is None or copy is None else _grouped(copy.moved(), form)
    if form is None or copy is None or grouped is None:
        raise ValueError("int8 takes small integers whose terms lie together")
    constants: dict[str, Array] = {}
    if form.flipped:
        buffer = f"{name}_sums"
        constants[buffer], strides = _correction(problem)
        grouped = replace(grouped, epilogue=Corrected(problem.epilogue, buffer, strides))
    values = {**chosen.values, "copy": gemm.NOT_COPIED}
    lowered = gemm.lower(grouped, target, replace(chosen, parameters=tuple(values.items())), name)
    kernel = replace(lowered.kernels[-1], flops=emit.flops(problem))
    return Lowered(
        [copy.kernel(f"{name}_copy"), *lowered.kernels[:-1], kernel],
        [Temporary(f"{name}_lhs", form.dtype, copy.size), *lowered.temporaries], {**lowered.constants, **constants},
    )  # fmt: skip

"""Contractions in bf16 on vectors: ``dpbf16`` adds two products of bf16 to each f32 lane.

The problem becomes one over pairs of neighbouring terms, each pair in one 32-bit lane, and the tiled template
lowers that: the left operand rounded into a copy, constant weights packed as pairs. Parameters are those of
:mod:`gemm`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import BF16, F32
from vitrify.lower.contract import copying, emit, gemm, gemm_schedule, winograd_schedule
from vitrify.lower.contract.axes import contracted_order
from vitrify.lower.contract.panels import dense
from vitrify.lower.contract.problem import Access, Axis, Contraction, Lowered, Temporary
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.tile import PAIR
from vitrify.lower.target import Target

FEATURE = "bf16"
COPY_CYCLES = 0.4  # per element of the left operand


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None where bf16 was not granted, the machine lacks the instruction, or f32 is as fast."""
    p = problem
    fits = target.has(FEATURE) and p.precision is BF16 and p.accumulate is F32 and emit.packable(p)
    if not fits or not p.right or not p.lhs.dtype.is_float:
        return None
    if copying.coordinates(p.lhs, (*p.batch, *p.left, *p.contracted)) is None:
        return None
    copy = copying.Copy.of(p, "copy", BF16)
    paired = _paired_lhs(copy.moved())
    if paired is None:
        return None
    found = gemm_schedule.estimate(paired, target)
    if found is None:
        return None
    slower = 2.0 if target.has("amx-bf16") else 1.0  # what has AMX runs dpbf16 at half the rate of fma
    cycles = slower * found[0] + COPY_CYCLES * emit.known(copy.size, 0)
    for other in (gemm_schedule.estimate(p, target), winograd_schedule.estimate(p, target)):
        if other is not None and other[0] <= cycles:
            return None
    return replace(found[1], template="dpbf16")


def _paired_lhs(problem: Contraction) -> Contraction | None:
    """The problem with its left operand read by pairs of terms (the right one is still by terms); None
    where terms do not pair."""
    order = contracted_order(problem.contracted, problem.lhs)
    if not order:
        return None
    inner, strides = order[-1], dict(problem.lhs.strides)
    if strides.pop(inner.name, 0) != 1 or not isinstance(inner.extent, int) or inner.extent % 2:
        return None
    halved: dict[str, DimLike] = {}
    for name, stride in strides.items():
        halved[name] = stride // 2
        if halved[name] * 2 != stride:
            return None
    halved[inner.name] = 1
    half = Axis(inner.name, inner.extent // 2)
    contracted = tuple(half if a.name == inner.name else a for a in order)
    lhs = Access(problem.lhs.buffer, PAIR, 0, halved)
    rhs = replace(problem.rhs, dtype=PAIR)
    return replace(problem, contracted=contracted, lhs=lhs, rhs=rhs, paired="dpbf16")


def _paired_rhs(problem: Contraction, paired: Contraction) -> Access:
    """The weights as pairs, laid out as the axes come: batch, right, contracted."""
    inner = paired.contracted[-1]
    order = [next(a for a in problem.contracted if a.name == c.name) for c in paired.contracted]
    outer = [a for a in (*problem.batch, *problem.right) if a.name in problem.rhs.strides]
    whole = np.asarray(dense(problem.rhs, (*outer, *order)), np.float32).astype(BF16.numpy)
    pairs = np.ascontiguousarray(whole).view(np.uint32)
    strides: dict[str, DimLike] = {}
    step = 1
    for axis, extent in zip(reversed([*outer, *order[:-1], inner]), reversed(pairs.shape), strict=True):
        strides[axis.name] = step
        step *= extent
    return Access(problem.rhs.buffer, PAIR, 0, strides, constant=pairs)


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The kernel that rounds and copies, then the tiled one. ValueError where terms do not pair."""
    copy = copying.Copy.of(problem, f"{name}_lhs", BF16)
    paired = _paired_lhs(copy.moved())
    if paired is None:
        raise ValueError("dpbf16 takes an even number of neighbouring terms")
    paired = replace(paired, rhs=_paired_rhs(problem, paired))
    values = {**chosen.values, "copy": gemm.NOT_COPIED}
    lowered = gemm.lower(paired, target, replace(chosen, parameters=tuple(values.items())), name)
    kernel = replace(lowered.kernels[-1], flops=emit.flops(problem))
    return Lowered(
        [copy.kernel(f"{name}_copy"), *lowered.kernels[:-1], kernel],
        [Temporary(f"{name}_lhs", BF16, copy.size), *lowered.temporaries], lowered.constants,
    )  # fmt: skip

"""Contractions of bytes on AMX: u8 or i8 on either side, summed exactly (modulo 2^32) in i32.

The left operand is read where it lies if its rows and terms fill registers, or copied with its terms side by side
and padded; weights are packed when compiled. Everything else, the parameters too, is that of :mod:`amx`.
"""

from __future__ import annotations

from dataclasses import replace

from vitrify.ir.dtypes import I8, I32, U8, DType
from vitrify.lower.contract import amx, copying, emit, gemm, int8
from vitrify.lower.contract.problem import Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.target import Target

FEATURE = "amx-int8"
TEMPLATE = "amx_int8"
LEAST_TERMS = 16  # per instruction, below which vectors are as fast
LEAST_ROWS = 3  # below which weights are read faster than they are used
TASK_FLOPS = 1 << 24
TERMS = 64


def _form(problem: Contraction) -> amx.Form:
    def letter(dtype: DType) -> str:
        return "s" if dtype is I8 else "u"

    multiply = f"dpb{letter(problem.lhs.dtype)}{letter(problem.rhs.dtype)}d"
    return amx.Form(TEMPLATE, U8, multiply, TASK_FLOPS, divided=True)


def _whole(count: int) -> int:
    """Terms padded so that they divide into equal parts of at most a register."""
    parts = -(-count // TERMS)
    return parts * (-(-count // (4 * parts)) * 4)


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None for other types, moving weights, terms that do not lie together, and products too small."""
    p = problem
    bytes_ = {p.lhs.dtype, p.rhs.dtype} <= {I8, U8} and p.accumulate is I32
    if not target.has(FEATURE) or not bytes_ or not emit.packable(p) or not p.right or p.rhs.bounds:
        return None
    if p.right[-1].name not in p.rhs.strides or emit.known(emit.flops(p), amx.LEAST_FLOPS) < amx.LEAST_FLOPS:
        return None
    if emit.known(emit.size(p.left), LEAST_ROWS) < LEAST_ROWS:
        return None
    form = _form(p)
    moved = _bits(p)
    in_place = _in_place(p)
    if not in_place:
        copy = _copy(p, "copy")
        if copy is None:
            return None
        moved = copy.moved()
    found = amx.plan(moved, target, form, in_place)
    return found if found is not None and form.terms_of(amx.geometry_of(moved)) >= LEAST_TERMS else None


def _bits(problem: Contraction) -> Contraction:
    """The problem on the bits of either type: which one it is, the instruction knows."""
    return replace(problem, lhs=replace(problem.lhs, dtype=U8))


def _copy(problem: Contraction, buffer: str) -> copying.Copy | None:
    return int8.copy_of(problem, buffer, U8, _whole)


def _in_place(problem: Contraction) -> bool:
    """Whether the left operand's rows, at even distances, and its terms fill registers, nothing beyond them read."""
    if problem.lhs.bounds:
        return False
    g = gemm.Geometry.of(problem, False, False)
    extent = g.row.extent
    if g.units or not g.loops or g.loops[-1].strides[0] != 1 or not isinstance(g.row.strides[0], int):
        return False
    terms = g.loops[-1].extent
    whole = isinstance(terms, int) and (terms % TERMS == 0 or (terms < TERMS and terms % 4 == 0))
    return whole and isinstance(extent, int) and extent % amx.row_count(extent) == 0


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The kernel that copies, where one has to, then the one that multiplies. ValueError where terms do not lie
    together."""
    if chosen.values["copy"] == gemm.NOT_COPIED:
        return amx.multiplied(_bits(problem), chosen, _form(problem), None, name)
    copy = _copy(problem, f"{name}_lhs")
    if copy is None:
        raise ValueError("amx_int8 takes bytes whose terms lie together")
    return amx.multiplied(problem, chosen, _form(problem), copy, name)

"""Which template lowers a contraction, and with which parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitrify.errors import InvalidArgumentError
from vitrify.lower.contract import (
    amx,
    amx_int8,
    coded,
    depthwise,
    dot,
    dpbf16,
    emit,
    gemm,
    gemm_schedule,
    generic,
    int8,
    winograd,
    winograd_schedule,
)
from vitrify.lower.contract.problem import Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.target import Target


@dataclass(frozen=True)
class Template:
    """``schedule`` gives the best parameters, None where the template does not apply."""

    schedule: Callable[[Contraction, Target], Schedule | None]
    lower: Callable[[Contraction, Target, Schedule, str], Lowered]


TEMPLATES: dict[str, Template] = {
    "coded": Template(coded.schedule, coded.lower),
    "amx": Template(amx.schedule, amx.lower),
    "amx_int8": Template(amx_int8.schedule, amx_int8.lower),
    "depthwise": Template(depthwise.schedule, depthwise.lower),
    "dpbf16": Template(dpbf16.schedule, dpbf16.lower),
    "int8": Template(int8.schedule, int8.lower),
    "winograd": Template(winograd_schedule.schedule, winograd.lower),
    "dot": Template(dot.schedule, dot.lower),
    "gemm": Template(gemm_schedule.schedule, gemm.lower),
    "generic": Template(generic.schedule, generic.lower),
}


def choose(problem: Contraction, target: Target) -> Schedule:
    """The first template, from the most special to the most general, that applies."""
    empty = any(a.extent == 0 for a in problem.contracted)  # sums of nothing are not worth tiles
    for template in (TEMPLATES["generic"],) if empty else TEMPLATES.values():
        found = template.schedule(problem, target)
        if found is not None:
            return found
    raise AssertionError("the generic template applies to everything")


def lower_contraction(
    problem: Contraction, target: Target, schedule: Schedule | None = None, *, name: str
) -> Lowered:
    """Kernels that compute ``problem``, the first one named ``name`` or beginning with it; so are the
    temporaries and constants. InvalidArgumentError for a schedule of an unknown template."""
    if any(a.extent == 0 for a in (*problem.batch, *problem.left, *problem.right)):
        return Lowered([emit.empty_kernel(problem, name)])
    chosen = schedule or choose(problem, target)
    if chosen.template not in TEMPLATES:
        raise InvalidArgumentError(
            f"schedule template {chosen.template!r}", expected=f"one of {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[chosen.template].lower(problem, target, chosen, name)

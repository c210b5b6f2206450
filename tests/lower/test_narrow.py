"""Which values lie in memory as bf16."""

from __future__ import annotations

import pytest

from tests.compiler.harness import Model, sample
from vitrify.ir.dtypes import BF16, F32, DType
from vitrify.lower.build import LowerOptions
from vitrify.lower.model import lower_model
from vitrify.lower.target import V4, Target, with_extensions

AMX = with_extensions(V4, "bf16", "amx-bf16")


def written(target: Target, terms: int, granted: bool = True) -> list[DType]:
    """What two products in a row write to, kernel by kernel."""
    m = Model()
    x = m.input(sample(F32, (64, 128)))
    hidden = m.map("relu", m.contract(x, m.constant(sample(F32, (128, terms), 1)), over=((1,), (0,))))
    m.result(m.contract(hidden, m.constant(sample(F32, (terms, 96), 2)), over=((1,), (0,))))
    plan = lower_model(m.graph(), target, LowerOptions(bf16=granted))
    return [b.dtype for call in plan.calls() for b in call.kernel.buffers if b.written]


def test_between_contractions_nothing_is_copied() -> None:
    assert written(AMX, 128) == [BF16, BF16, F32]  # the copy of the input, the hidden value, the result


def test_values_that_something_needs_in_f32_stay() -> None:
    assert written(AMX, 100) == [BF16, F32, F32]  # terms do not fill a matrix register


@pytest.mark.parametrize(("target", "granted"), [(V4, True), (AMX, False)])
def test_only_where_granted_and_there(target: Target, granted: bool) -> None:
    assert BF16 not in written(target, 128, granted)

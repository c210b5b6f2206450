"""bf16 where it was granted: products of rounded operands, summed in f32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.lower.contract.harness import Case, Program, expected, runnable_targets, verify
from tests.lower.contract.problems import conv, dim, matmul
from vitrify.ir.dtypes import BF16
from vitrify.lower.contract import dpbf16
from vitrify.lower.contract.choose import choose
from vitrify.lower.target import V3, V4

TARGETS = runnable_targets()[1:]
PAD = [(1, 1), (1, 1)]
CASES: dict[str, Callable[[], Case]] = {
    "GEMM": lambda: matmul(100, 384, 200, bias=True, relu=True, precision=BF16),
    "GEMM, few rows": lambda: matmul(5, 256, 500, precision=BF16),
    "GEMM, one row": lambda: matmul(1, 640, 1000, precision=BF16),
    "GEMM, odd terms": lambda: matmul(33, 131, 97, precision=BF16),
    "batch": lambda: matmul(40, 64, 72, batch=(3,), shared=False, precision=BF16),
    "1x1": lambda: conv(1, 64, (14, 14), 130, (1, 1), residual=True, relu=True, precision=BF16),
    "1x1, stride 2": lambda: conv(2, 64, (14, 14), 64, (1, 1), strides=[2, 2], precision=BF16),
    "3x3": lambda: conv(1, 64, (15, 15), 70, (3, 3), pads=PAD, bias=True, precision=BF16),
    "3x3, stride 2": lambda: conv(2, 64, (13, 17), 64, (3, 3), pads=PAD, strides=[2, 2], precision=BF16),
    "groups": lambda: conv(1, 64, (12, 12), 64, (3, 3), pads=PAD, groups=2, precision=BF16),
    "first layer": lambda: conv(
        1, 3, (32, 32), 32, (7, 7), strides=[2, 2], pads=[(3, 3), (3, 3)], precision=BF16
    ),
    "first layer, planes": lambda: conv(
        2, 3, (37, 41), 33, (7, 7), strides=[2, 2], pads=[(3, 3), (2, 4)], channels_last=False, precision=BF16
    ),
    "first layer, two planes": lambda: conv(
        1, 2, (40, 40), 64, (3, 3), channels_last=False, bias=True, precision=BF16
    ),
}


def rounded(case: Case) -> Case:
    """The case with operands that bf16 holds exactly: only the order of the sums is left to differ."""
    for name in ("lhs", "rhs"):
        array = case.arrays[name]
        array[:] = array.astype(BF16.numpy).astype(np.float32)
    return case


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_exact_on_rounded_operands(target: object, name: str) -> None:
    case = rounded(CASES[name]())
    chosen = choose(case.problem, target)  # type: ignore[arg-type]
    tolerance = 1e-5 if chosen.template == "winograd" else 4e-6
    verify(case, target, chosen, tolerance)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_within_bf16_of_the_exact_sums(target: object) -> None:
    verify(CASES["3x3"](), target, tolerance=1e-2)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_any_number_of_rows(target: object) -> None:
    program: Program | None = None
    for m in (1, 0, 16, 33, 70):
        case = rounded(matmul(dim("M"), 384, 100, sizes={"M": m}, bias=True, precision=BF16))
        program = verify(case, target, program=program)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["GEMM", "GEMM, few rows", "1x1", "1x1, stride 2", "3x3", "3x3, stride 2"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_left_operand_is_bf16_in_memory(target: object, name: str) -> None:
    """Read where it is, or copied where rows are apart; what lies beyond its end does not matter."""
    case = CASES[name]()
    room = 32 * 384
    lhs = np.concatenate([case.arrays["lhs"].reshape(-1), np.full(room, np.nan, np.float32)])
    case = rounded(replace(case, arrays={**case.arrays, "lhs": lhs}))
    case.arrays["lhs"] = case.arrays["lhs"].astype(BF16.numpy)
    case.problem = replace(case.problem, lhs=replace(case.problem.lhs, dtype=BF16, room=room))
    chosen = choose(case.problem, target)  # type: ignore[arg-type]
    if chosen.template == "amx":
        assert bool(chosen.values["copy"]) == (name not in ("GEMM", "GEMM, few rows", "1x1"))
    verify(case, target, chosen, 1e-5)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:invalid value")  # the reference's own infinities
def test_what_lies_beside_a_window_does_not_matter() -> None:
    """Groups of terms shorter than a register: no zero weight meets a neighbour that may be infinite."""
    for target in (t for t in TARGETS if t.has("amx-bf16")):
        case = rounded(CASES["first layer, planes"]())
        chosen = choose(case.problem, target)
        assert chosen.template == "amx"
        pixels = case.arrays["lhs"].reshape(2, 3, 37, 41)
        pixels[:, :, 20, 20] = np.inf
        index, values, _ = expected(case)
        found = Program(case.problem, target, chosen).run(case)[index]
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(values))


def test_only_where_granted_and_there() -> None:
    assert choose(CASES["GEMM"]().problem, V4).template == "gemm"
    assert choose(CASES["GEMM"]().problem, V3).template == "gemm"
    for target in TARGETS:
        if target.has("amx-bf16"):
            assert choose(CASES["GEMM"]().problem, target).template == "amx"
            assert choose(matmul(100, 384, 200).problem, target).template == "gemm"


@pytest.mark.parametrize(
    "name", ["GEMM", "GEMM, one row", "batch", "1x1, stride 2", "3x3, stride 2", "groups"]
)
def test_pairs_of_terms_on_vectors(name: str) -> None:
    for target in TARGETS[1:2]:
        case = rounded(CASES[name]())
        chosen = dpbf16.schedule(case.problem, target)
        assert chosen is not None
        verify(case, target, chosen)

"""Products with weights of a few bits: right on every machine, and a row's bits the same beside any others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.lower.contract.harness import Case, Program, runnable_targets, verify
from tests.lower.contract.problems import dim, matmul
from vitrify.ir.dims import evaluate
from vitrify.ir.dtypes import BF16, F16
from vitrify.lower.contract.choose import choose
from vitrify.lower.contract.codes import Codes
from vitrify.lower.target import Target, with_extensions

TARGETS = [t for t in runnable_targets() if t.features == ()]
FORMS = [(4, 32, "one"), (4, 16, "each"), (4, 256, "fractions"), (8, 64, "each"), (8, 16, "one"), (2, 128, "each")]


def coded(case: Case, bits: int, block: int, points: str) -> Case:
    """The case with weights that codes stand for."""
    rng, turned = np.random.default_rng(0), case.problem.rhs.strides["k"] == 1
    terms, columns = (evaluate(axes[0].extent, {}) for axes in (case.problem.contracted, case.problem.right))
    blocks = terms // block

    def spread(a: Any) -> Any:
        return np.repeat(np.asarray(a, np.float32), block, 0)

    zeros: Any = np.full((blocks, columns), 1 << (bits - 1))
    if points != "one":
        zeros = rng.integers(0, 1 << bits, (blocks, columns)) + (0.3 if points == "fractions" else 0)
    codes = Codes(
        rng.integers(0, 1 << bits, (terms, columns)).astype(np.uint8), spread(zeros),
        spread(rng.random((blocks, columns)) + 0.1),
    )  # fmt: skip
    codes = codes.turned if turned else codes
    real = (codes.numbers.astype(np.float32) - codes.points) * codes.scales
    arrays = {**case.arrays, "rhs": real.reshape(-1)}
    return replace(case, problem=replace(case.problem, rhs=replace(case.problem.rhs, constant=real, codes=codes)),
                   arrays=arrays)  # fmt: skip


@pytest.mark.parametrize(("bits", "block", "points"), FORMS)
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_right(target: Target, bits: int, block: int, points: str) -> None:
    for m, n, turned in ((1, 200, True), (7, 31, False), (23, 64, True), (100, 33, False)):
        case = coded(matmul(m, 256, n, transpose_rhs=turned, bias=True, pad=3), bits, block, points)
        assert choose(case.problem, target).template == "coded"
        verify(case, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_any_number_of_rows(target: Target) -> None:
    program: Program | None = None
    single: Any = None
    for m in (1, 0, 9, 81, 170):
        case = coded(matmul(dim("M"), 64, 70, sizes={"M": m}), 4, 32, "each")
        case.arrays["lhs"][: 64 * min(m, 1)] = 0.3 * np.arange(64 * min(m, 1))
        program = verify(case, target, program=program)
        if m:
            row = program.run(case)[:70].tobytes()
            single = single or row
            assert row == single


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_narrow_rows(dtype: Any) -> None:
    case = coded(matmul(5, 64, 40), 4, 32, "one")
    lhs = case.arrays["lhs"].astype(dtype.numpy)
    problem = replace(case.problem, lhs=replace(case.problem.lhs, dtype=dtype))
    verify(replace(case, problem=problem, arrays={**case.arrays, "lhs": lhs}), TARGETS[-1])


def test_others_read_the_weights() -> None:
    target = TARGETS[-1]
    plain = coded(matmul(5, 72, 40), 4, 8, "each")  # blocks too short for codes
    assert choose(plain.problem, target).template == "gemm"
    verify(plain, target)
    many = replace(coded(matmul(512, 512, 512), 4, 32, "one").problem, precision=BF16)
    tiles = with_extensions(TARGETS[-1], "bf16", "amx-bf16") if TARGETS[-1].name == "x86-64-v4" else None
    assert tiles is None or choose(many, tiles).template == "amx"

"""Products of small integers: exact, whatever the types, the number of terms and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.lower.contract.harness import Case, Program, cpu_flags, request_amx, runnable_targets, verify
from tests.lower.contract.problems import conv, dim, matmul
from vitrify.ir.dtypes import I8, I16, U8, DType
from vitrify.lower.contract.choose import choose
from vitrify.lower.target import AARCH64, V3, V4, Target, with_extensions

PAD = [(1, 1), (1, 1)]
VNNI = [with_extensions(V4, "vnni")] if "avx512_vnni" in cpu_flags() else []
AMX = [with_extensions(V4, "vnni", "amx-int8")] if "amx_int8" in cpu_flags() and request_amx() else []
TARGETS = [t for t in runnable_targets() if t in (V3, V4)] + VNNI + AMX
TYPES = list(product((U8, I8), (U8, I8)))
CASES: dict[str, Callable[[DType], Case]] = {
    "GEMM": lambda t: matmul(100, 384, 200, bias=True, relu=True, dtype=t),
    "GEMM, one row": lambda t: matmul(1, 640, 333, dtype=t),
    "GEMM, odd terms": lambda t: matmul(33, 131, 97, dtype=t),
    "GEMM, in place": lambda t: matmul(64, 192, 100, bias=True, dtype=t),
    "GEMM, many terms": lambda t: matmul(70, 1021, 130, dtype=t),
    "GEMM, one term": lambda t: matmul(5, 1, 40, dtype=t),
    "GEMM, few columns": lambda t: matmul(37, 70, 3, dtype=t),
    "GEMM, rows apart": lambda t: matmul(20, 30, 40, dtype=t, pad=5),
    "batch": lambda t: matmul(40, 62, 72, batch=(3,), shared=False, dtype=t),
    "1x1": lambda t: conv(1, 64, (14, 14), 130, (1, 1), residual=True, relu=True, dtype=t),
    "3x3": lambda t: conv(1, 33, (15, 15), 70, (3, 3), pads=PAD, bias=True, dtype=t),
    "3x3, stride 2": lambda t: conv(2, 16, (13, 17), 64, (3, 3), pads=PAD, strides=[2, 2], dtype=t),
    "3x3, dilated": lambda t: conv(1, 8, (13, 17), 24, (3, 3), pads=[(2, 2), (2, 2)], dilations=[2, 2], dtype=t),
    "3x3, planes": lambda t: conv(1, 64, (9, 11), 40, (3, 3), pads=PAD, channels_last=False, dtype=t),
    "groups": lambda t: conv(1, 64, (12, 12), 64, (3, 3), pads=PAD, groups=2, dtype=t),
    "first layer": lambda t: conv(
        2, 3, (37, 41), 33, (7, 7), strides=[2, 2], pads=[(3, 3), (2, 4)], channels_last=False, dtype=t
    ),
    "moving weights": lambda t: matmul(20, 30, 40, dtype=t, constant=False),
}


def spread(case: Case, weights: DType, constant: bool = True) -> Case:
    """The case over all of both types' ranges, the ends among them."""
    arrays = dict(case.arrays)
    for name, dtype in (("lhs", case.problem.lhs.dtype), ("rhs", weights)):
        rng, low, high = np.random.default_rng(0), int(dtype.min()), int(dtype.max())
        values = rng.integers(low, high, case.arrays[name].shape, endpoint=True)
        values[rng.random(values.shape) < 0.2] = low
        values[rng.random(values.shape) < 0.2] = high
        arrays[name] = values.astype(dtype.numpy)
    rhs = replace(case.problem.rhs, dtype=weights, constant=arrays["rhs"] if constant else None)
    return replace(case, problem=replace(case.problem, rhs=rhs), arrays=arrays)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_exact(target: Target, name: str) -> None:
    for left, right in TYPES:
        case = spread(CASES[name](left), right, name != "moving weights")
        verify(case, target, choose(case.problem, target))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_sixteen_bits_wrap(target: Target) -> None:
    for right in (I8, I16):
        case = spread(matmul(9, 2001, 33, dtype=I16), right)
        assert choose(case.problem, target).template == "int8"
        verify(case, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_any_number_of_rows(target: Target) -> None:
    program: Program | None = None
    for m in (1, 0, 16, 33, 70):
        case = spread(matmul(dim("M"), 70, 100, sizes={"M": m}, dtype=I8), I8)
        program = verify(case, target, program=program)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_template_is_used(target: Target) -> None:
    for name in ("GEMM", "GEMM, in place", "GEMM, odd terms", "GEMM, many terms", "3x3", "first layer"):
        for left, right in TYPES:
            expected = "amx_int8" if target in AMX else "int8"
            assert choose(spread(CASES[name](left), right).problem, target).template == expected


@pytest.mark.parametrize("target", AMX, ids=lambda t: t.name)
def test_matrix_registers_are_not_worth_few_terms_or_rows(target: Target) -> None:
    for case in (matmul(512, 12, 512, dtype=U8), matmul(2, 2048, 2048, dtype=U8), matmul(8, 64, 8, dtype=U8)):
        assert choose(spread(case, I8).problem, target).template == "int8"


def test_other_machines_use_another() -> None:
    assert choose(CASES["GEMM"](U8).problem, AARCH64).template == "gemm"

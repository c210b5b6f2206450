"""The template for everything: any shape, stride, dtype and extent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.lower.contract.harness import Case, Program, runnable_targets, verify
from tests.lower.contract.problems import conv, dim, matmul
from vitrify.ir.dtypes import BF16, F16, F64, I8, I32, I64, U8, DType
from vitrify.lower.contract import dot, generic

TARGETS = runnable_targets()[:2]


def generically(case: Case, target: Any, tolerance: float = 4e-6) -> None:
    verify(case, target, generic.schedule(case.problem, target), tolerance)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "m, k, n", [(1, 1, 1), (5, 7, 33), (3, 0, 17), (16, 19, 16), (2, 40, 1), (0, 3, 4), (4, 3, 0)]
)
def test_matrix_products(target: Any, m: int, k: int, n: int) -> None:
    generically(matmul(m, k, n, bias=True, relu=True), target)
    generically(matmul(m, k, n, batch=(2,), shared=False, constant=False, transpose_rhs=True), target)


@pytest.mark.parametrize("dtype", [I8, U8, I32, I64, F64, F16, BF16], ids=str)
def test_every_dtype(dtype: DType) -> None:
    generically(matmul(3, 21, 19, dtype=dtype), TARGETS[-1])
    generically(matmul(3, 21, 1, dtype=dtype, transpose_rhs=True), TARGETS[-1])


@pytest.mark.parametrize(
    "case",
    [
        conv(1, 3, (9,), 5, (3,), pads=[(2, 1)], strides=[2]),
        conv(2, 4, (5, 6), 6, (3, 2), pads=[(1, 1), (0, 1)], dilations=[1, 2], groups=2),
        conv(
            1, 2, (4, 5, 3), 3, (2, 3, 3), pads=[(1, 0), (1, 1), (1, 1)], channels_last=False, out_last=False
        ),
        conv(1, 18, (5, 5), 18, (3, 3), pads=[(1, 1), (1, 1)], groups=18, bias=True),
        conv(1, 18, (5, 5), 18, (3, 3), pads=[(1, 1), (1, 1)], groups=18, channels_last=False),
    ],
)
def test_convolutions(case: Case) -> None:
    for target in TARGETS:
        generically(case, target)


def test_one_kernel_serves_every_size() -> None:
    def posed(m: int, n: int, k: int) -> Case:
        return matmul(
            dim("M"), dim("K"), dim("N"), constant=False, sizes={"M": m, "K": k, "N": n}, pad=1, residual=True
        )

    target = TARGETS[-1]
    program: Program | None = None
    for m, n, k in ((1, 1, 1), (7, 35, 5), (3, 16, 0), (0, 4, 4), (4, 0, 4), (2, 5, 130)):
        case = posed(m, n, k)
        program = verify(case, target, generic.schedule(case.problem, target), program=program)


DOTS = {
    "vectors": lambda: matmul(1, 300, 1, transpose_rhs=True),
    "moving": lambda: matmul(7, 37, 1, batch=(3,), shared=False, constant=False, transpose_rhs=True),
    "to one channel": lambda: conv(1, 33, (9, 7), 1, (3, 3), pads=[(1, 1), (1, 2)], bias=True, relu=True),
    "f64": lambda: conv(2, 16, (5, 5), 1, (3, 3), strides=[2, 2], dtype=F64),
    "bf16": lambda: matmul(5, 64, 1, dtype=BF16, transpose_rhs=True),
}


@pytest.mark.parametrize("name", DOTS)
def test_dot_products(name: str) -> None:
    for target in TARGETS:
        case = DOTS[name]()
        chosen = dot.schedule(case.problem, target)
        assert chosen is not None
        verify(case, target, chosen)
    case = DOTS[name]()
    filled = replace(case.problem.lhs, fill=0.5)
    verify(replace(case, problem=replace(case.problem, lhs=filled)), TARGETS[-1])

"""The register-tiled template: matrix products in every layout, and convolutions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lower.contract.harness import Case, Program, runnable_targets, verify
from tests.lower.contract.problems import conv, dim, matmul
from vitrify.ir.dtypes import BF16, F16, F64, I8, I32, I64, U8, DType
from vitrify.lower.contract import gemm_schedule

TARGETS = runnable_targets()[:2]


def tiled(case: Case, target: Any, program: Program | None = None) -> Program:
    found = gemm_schedule.schedule(case.problem, target)
    assert found is not None
    return verify(case, target, found, program=program)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "m, k, n",
    [
        (1, 1, 2),
        (1, 300, 130),
        (5, 7, 33),
        (3, 0, 17),
        (16, 19, 16),
        (31, 40, 97),
        (100, 64, 3),
        (61, 33, 200),
    ],
)
def test_matrix_products(target: Any, m: int, k: int, n: int) -> None:
    tiled(matmul(m, k, n, bias=True, relu=True, pad=3), target)
    tiled(matmul(m, k, n, batch=(2, 3), shared=False, constant=False, transpose_rhs=True), target)
    tiled(matmul(m, k, n, batch=(2,), shared=False, constant=False, residual=True, cost=20), target)
    tiled(matmul(m, k, n, batch=(2,), shared=False, transpose_lhs=True), target)


@pytest.mark.parametrize("dtype", [I8, U8, I32, I64, F64, F16, BF16], ids=str)
def test_every_dtype(dtype: DType) -> None:
    for target in TARGETS:
        tiled(matmul(13, 21, 37, dtype=dtype), target)
        tiled(matmul(13, 21, 37, dtype=dtype, constant=False, transpose_rhs=True), target)


CONVOLUTIONS = {
    "1-D, padded, strided": lambda: conv(1, 3, (9,), 5, (3,), pads=[(2, 1)], strides=[2]),
    "groups, dilated": lambda: conv(
        2, 4, (5, 6), 6, (3, 2), pads=[(1, 1), (0, 1)], dilations=[1, 2], groups=2
    ),
    "3-D, channels first": lambda: conv(
        1, 2, (4, 5, 3), 3, (2, 3, 3), pads=[(1, 0), (1, 1), (1, 1)], channels_last=False, out_last=False
    ),
    "3x3": lambda: conv(1, 32, (14, 14), 70, (3, 3), pads=[(1, 1), (1, 1)], bias=True, relu=True),
    "3x3 on 7x7": lambda: conv(2, 24, (7, 7), 64, (3, 3), pads=[(1, 1), (1, 1)], residual=True, cost=30),
    "1x1": lambda: conv(1, 40, (9, 9), 66, (1, 1), residual=True, relu=True),
    "1x1, stride 2": lambda: conv(2, 40, (9, 9), 33, (1, 1), strides=[2, 2]),
    "first layer": lambda: conv(1, 3, (23, 23), 32, (7, 7), strides=[2, 2], pads=[(3, 3), (3, 3)]),
    "first layer, channels first": lambda: conv(
        1, 3, (23, 23), 32, (7, 7), strides=[2, 2], pads=[(3, 3), (3, 3)], channels_last=False
    ),
    "moving weights": lambda: conv(1, 8, (9, 9), 20, (3, 3), pads=[(1, 1), (1, 1)], constant=False),
    "one output pixel": lambda: conv(1, 16, (3, 3), 20, (3, 3)),
    "larger than its input": lambda: conv(1, 5, (2, 2), 20, (5, 5), pads=[(2, 3), (3, 2)]),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    for target in TARGETS:
        tiled(CONVOLUTIONS[name](), target)


def test_one_kernel_serves_every_size() -> None:
    target = TARGETS[-1]
    for constant, transposed in ((False, False), (False, True)):
        program: Program | None = None
        for m, n, k in ((1, 1, 1), (7, 35, 5), (3, 16, 0), (0, 4, 4), (4, 0, 4), (2, 5, 130), (65, 100, 31)):
            case = matmul(
                dim("M"),
                dim("K"),
                dim("N"),
                constant=constant,
                sizes={"M": m, "K": k, "N": n},
                pad=1,
                residual=True,
                transpose_rhs=transposed,
                batch=(2,),
                shared=False,
            )
            program = tiled(case, target, program)
    program = None
    for m in (1, 0, 5, 16, 67):
        case = matmul(dim("M"), 48, 100, sizes={"M": m}, bias=True, relu=True, cost=20)
        program = tiled(case, target, program)


def test_batches_of_images_of_any_size() -> None:
    target, program = TARGETS[-1], None
    for n, h, w in ((1, 5, 5), (2, 3, 9), (0, 4, 4), (3, 17, 2)):
        case = conv(
            dim("N"),
            12,
            (dim("H", 1), dim("W", 1)),
            20,
            (3, 3),
            pads=[(1, 1), (1, 1)],
            sizes={"N": n, "H": h, "W": w},
        )
        program = tiled(case, target, program)

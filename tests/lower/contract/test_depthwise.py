"""Depthwise convolutions: vectors along the channels, borders without a copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lower.contract.harness import Case, Program, runnable_targets, verify
from tests.lower.contract.problems import conv, dim
from vitrify.ir.dtypes import F64
from vitrify.lower.contract import depthwise

TARGETS = runnable_targets()[:2]
PAD = [(1, 1), (1, 1)]
CASES: dict[str, Callable[[], Case]] = {
    "3x3": lambda: conv(2, 48, (14, 14), 48, (3, 3), pads=PAD, groups=48, bias=True, relu=True),
    "3x3, stride 2, odd": lambda: conv(1, 37, (9, 11), 37, (3, 3), pads=PAD, strides=[2, 2], groups=37),
    "5x5, dilated": lambda: conv(
        1, 20, (12, 9), 20, (5, 5), pads=[(4, 4), (3, 4)], dilations=[2, 2], groups=20
    ),
    "no padding": lambda: conv(1, 33, (6, 21), 33, (3, 3), groups=33, residual=True),
    "1-D": lambda: conv(1, 64, (30,), 64, (7,), pads=[(6, 0)], groups=64),
    "3-D": lambda: conv(1, 16, (4, 5, 6), 16, (3, 3, 3), pads=[(1, 1)] * 3, groups=16),
    "few channels": lambda: conv(1, 3, (8, 8), 3, (3, 3), pads=PAD, groups=3),
    "window larger than the input": lambda: conv(1, 16, (2, 2), 16, (5, 5), pads=[(2, 2), (2, 2)], groups=16),
    "f64": lambda: conv(1, 21, (7, 7), 21, (3, 3), pads=PAD, groups=21, dtype=F64),
    "1x1": lambda: conv(1, 21, (7, 7), 21, (1, 1), pads=[(0, 1), (1, 0)], groups=21),
}


@pytest.mark.parametrize("name", CASES)
def test_depthwise(name: str) -> None:
    for target in TARGETS:
        case = CASES[name]()
        chosen = depthwise.schedule(case.problem, target)
        assert chosen is not None
        verify(case, target, chosen)


def test_one_kernel_serves_every_size() -> None:
    target, program = TARGETS[-1], None
    for n, h, w in ((1, 5, 5), (2, 3, 9), (0, 4, 4), (3, 1, 2), (1, 2, 40)):
        case = conv(
            dim("N"), 24, (dim("H", 1), dim("W", 1)), 24, (3, 3), pads=PAD, groups=24,
            sizes={"N": n, "H": h, "W": w},
        )  # fmt: skip
        program = program or Program(case.problem, target, depthwise.schedule(case.problem, target))
        verify(case, target, program=program)


def test_left_to_others() -> None:
    for case in (
        conv(1, 16, (9, 9), 32, (3, 3), groups=16),
        conv(1, 16, (9, 9), 16, (3, 3), groups=16, channels_last=False),
    ):
        assert depthwise.schedule(case.problem, TARGETS[-1]) is None

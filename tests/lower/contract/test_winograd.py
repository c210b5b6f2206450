"""Winograd convolution: right within its error, chosen only where it may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.lower.contract.harness import Program, expected, runnable_targets, verify
from tests.lower.contract.problems import conv, dim
from vitrify.lower.contract import winograd_schedule
from vitrify.lower.contract.choose import choose
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.transforms import winograd
from vitrify.lower.target import V4

TARGETS = runnable_targets()[:2]
PAD = [(1, 1), (1, 1)]


@pytest.mark.parametrize("m", [2, 4])
def test_the_matrices_filter(m: int) -> None:
    a = winograd(m)
    x, w = np.arange(1.0, m + 3) ** 2, np.array([3.0, -1.0, 0.5])
    got = np.array(a.output) @ ((np.array(a.weights) @ w) * (np.array(a.input) @ x))
    np.testing.assert_allclose(got, [x[i : i + 3] @ w for i in range(m)], rtol=1e-12)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("ahead", [0, 1])
def test_every_edge(target: Any, m: int, ahead: int) -> None:
    for prefetch in (0, 8):
        chosen = Schedule.of(
            "winograd", m=m, block=5, rows=4, vectors=2, panel_block=2, ahead=ahead, prefetch=prefetch
        )
        case = conv(2, 20, (7, 9), 70, (3, 3), pads=PAD, bias=True, relu=True, residual=True)
        verify(case, target, chosen, 1e-5)
        verify(conv(1, 16, (13, 6), 33, (3, 3)), target, chosen, 1e-5)
        verify(conv(1, 17, (5, 8), 32, (3, 3), pads=[(2, 0), (0, 3)]), target, chosen, 1e-5)


def test_error_relative_to_the_largest_output() -> None:
    case = conv(1, 256, (14, 14), 64, (3, 3), pads=PAD)
    chosen = choose(case.problem, V4)
    assert chosen.template == "winograd"
    got = Program(case.problem, TARGETS[-1], chosen).run(case)
    index, values, _ = expected(case)
    assert np.abs(got[index] - values).max() <= 2e-5 * np.abs(values).max()


def test_chosen_where_it_pays() -> None:
    assert choose(conv(1, 64, (56, 56), 64, (3, 3), pads=PAD).problem, V4).template == "winograd"
    for other in (
        conv(1, 64, (56, 56), 64, (3, 3), pads=PAD, accurate=True),
        conv(1, 64, (56, 56), 64, (3, 3), pads=PAD, strides=[2, 2]),
        conv(1, 64, (56, 56), 64, (3, 3), pads=[(2, 2), (2, 2)], dilations=[2, 2]),
        conv(1, 64, (56, 56), 64, (3, 3), pads=PAD, groups=2),
        conv(1, 64, (56, 56), 64, (3, 3), pads=PAD, channels_last=False),
        conv(1, 64, (56, 56), 64, (3, 3), pads=PAD, constant=False),
        conv(1, 3, (56, 56), 64, (3, 3), pads=PAD),
        conv(1, 64, (56,), 64, (3,), pads=[(1, 1)]),
    ):
        assert choose(other.problem, V4).template != "winograd"


def test_one_kernel_serves_every_size() -> None:
    target, program = TARGETS[-1], None
    for n, h, w in ((1, 5, 5), (2, 3, 9), (0, 4, 4), (3, 17, 2)):
        case = conv(
            dim("N"), 32, (dim("H", 1), dim("W", 1)), 40, (3, 3), pads=PAD, sizes={"N": n, "H": h, "W": w}
        )
        chosen = winograd_schedule.schedule(case.problem, target)
        assert chosen is not None
        program = verify(case, target, chosen, 1e-5, program)

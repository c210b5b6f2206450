"""Contractions nobody chose, through the template that is chosen for them; and bits that no schedule changes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.lower.contract.harness import Case, Program, runnable_targets, verify
from tests.lower.contract.problems import conv, matmul
from vitrify.ir.dtypes import F16, F32, F64, I8
from vitrify.lower.contract.choose import choose
from vitrify.lower.contract.schedule import Schedule

TARGETS = runnable_targets()


def random_conv(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 1, 2, 3, 16]))
    per, out_per = (1, 1) if groups == 16 and rng.random() < 0.7 else rng.integers(1, 40, 2)
    kernel = [int(k) for k in rng.integers(1, 4, rank)]
    pads = [(int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2))]
    dilations = [int(d) for d in rng.integers(1, 3, rank)]
    least = [max(1, d * (k - 1) + 1 - a - b) for d, k, (a, b) in zip(dilations, kernel, pads, strict=True)]
    spatial = [int(s + rng.integers(0, 16 if rank < 3 else 5)) for s in least]
    return conv(
        int(rng.integers(1, 3)),
        int(per) * groups,
        spatial,
        int(out_per) * groups,
        kernel,
        strides=[int(s) for s in rng.integers(1, 3, rank)],
        pads=pads,
        dilations=dilations,
        groups=groups,
        channels_last=bool(rng.random() < 0.7),
        out_last=bool(rng.random() < 0.7),
        constant=bool(rng.random() < 0.8),
        dtype=[F32, F32, F32, F64, I8, F16][int(rng.integers(6))],
        bias=bool(rng.random() < 0.5),
        relu=bool(rng.random() < 0.5),
        residual=bool(rng.random() < 0.3),
        cost=int(rng.choice([1, 20])),
        seed=int(rng.integers(1000)),
    )


def random_matmul(rng: np.random.Generator) -> Case:
    m, k, n = (int(rng.choice([1, 2, 3, 5, 8, 17, 31, 64, 100])) for _ in range(3))
    return matmul(
        m,
        k,
        n,
        batch=[int(b) for b in rng.integers(1, 4, int(rng.integers(0, 3)))],
        dtype=[F32, F32, F32, F64, I8, F16][int(rng.integers(6))],
        constant=bool(rng.random() < 0.5),
        shared=bool(rng.random() < 0.5),
        transpose_lhs=bool(rng.random() < 0.3),
        transpose_rhs=bool(rng.random() < 0.5),
        pad=int(rng.integers(0, 3)),
        bias=bool(rng.random() < 0.5),
        residual=bool(rng.random() < 0.3),
        cost=int(rng.choice([1, 20])),
        seed=int(rng.integers(1000)),
    )


@pytest.mark.parametrize("seed", range(24))
def test_random_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verify(random_conv(rng), TARGETS[seed % len(TARGETS)], tolerance=1e-5)


@pytest.mark.parametrize("seed", range(24))
def test_random_products(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    verify(random_matmul(rng), TARGETS[seed % len(TARGETS)])


@pytest.mark.parametrize("n", [70, 96])
def test_the_same_bits_whatever_the_tiles(n: int) -> None:
    target = TARGETS[min(1, len(TARGETS) - 1)]
    for case in (
        matmul(37, 83, n, bias=True, relu=True),
        conv(1, 19, (7, 7), n, (3, 3), pads=[(1, 1), (1, 1)], strides=[1, 2]),
    ):
        chosen = choose(case.problem, target)
        assert chosen.template == "gemm"
        first = Program(case.problem, target, chosen).run(case)
        for rows, vectors, row_block, panel_block in ((1, 1, 1, 1), (3, 2, 2, 1), (8, 3, 3, 9), (14, 2, 1, 2)):
            values = {
                **chosen.values,
                "rows": rows,
                "vectors": vectors,
                "row_block": row_block,
                "panel_block": panel_block,
                "inner": 0,
            }
            values["copy"] = min(values["copy"], 1)
            other = Program(case.problem, target, Schedule("gemm", tuple(values.items()))).run(case)
            assert first.tobytes() == other.tobytes()

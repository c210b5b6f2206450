"""Kernels large enough to be split: every element of every task, whatever the shape."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.compiler.harness import Model, sample
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import F32

SHAPES = [
    (100_003,),
    (1, 70_001),
    (70_001, 1),
    (257, 331),
    (3, 7, 5003),
    (5003, 7, 3),
    (70, 1, 1000),
    (41, 43, 47),
    (2, 65, 9, 77),
]


def operations(m: Model, shape: tuple[int, ...], dims: tuple[DimLike, ...]) -> None:
    x = m.input(sample(F32, shape), dims)
    rank = len(shape)
    m.result(m.map("tanh", x), m.flip(x, rank - 1), m.pad(x, (1,) * rank, (2,) * rank, 3), ulps=4)
    m.result(*(m.permute(x, perm) for perm in {tuple(reversed(range(rank))), (*range(1, rank), 0)}))
    for count in range(1, rank + 1):
        for axes in combinations(range(rank), count):
            m.result(m.reduce("sum", x, axes), ulps=256, scale=np.sqrt(np.prod(shape)))
            m.result(m.map("neg", m.reduce("max", x, axes)))
    e = m.map("exp", m.map("sub", x, m.reduce("max", x, (rank - 1,), keepdims=True)))
    m.result(m.map("div", e, m.reduce("sum", e, (rank - 1,), keepdims=True)), ulps=512)
    m.result(m.concat([x, m.map("neg", x)], 0), m.reduce("argmin", x, (0,)))
    last = m.constant(np.random.default_rng(0).integers(0, shape[0], (301,)))
    m.result(m.gather(x, 0, last) if np.prod(shape) // shape[0] < 5000 else m.map("abs", x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_static(shape: tuple[int, ...]) -> None:
    m = Model()
    operations(m, shape, shape)
    m.check(threads=2)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("shape", [(2, 65, 9, 77), (1, 300, 1, 300)], ids=str)
def test_one_dim_symbolic(shape: tuple[int, ...], axis: int) -> None:
    m = Model()
    dims: list[DimLike] = list(shape)
    dims[axis] = Dim.symbol("n", 1)
    operations(m, shape, tuple(dims))
    m.check(threads=2)


@pytest.mark.parametrize("shape", [(257, 331), (1, 70_001), (70_001, 1), (1, 1)], ids=str)
def test_all_dims_symbolic(shape: tuple[int, ...]) -> None:
    m = Model()
    operations(m, shape, (Dim.symbol("n", 1), Dim.symbol("k", 1)))
    m.check(threads=2)

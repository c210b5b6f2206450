"""Memory between kernels: nothing stale is read, nothing needed is overwritten, nothing is left over."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Model, compile_graph, sample
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Value


def projected(m: Model, x: Value) -> Value:
    """A value that lies in the arena, whatever is fused."""
    size = x.shape[-1]
    assert isinstance(size, int)
    weights = m.constant((np.eye(size) + 0.125).astype(np.float32))
    return m.contract(x, weights, over=((x.rank - 1,), (0,)))


def row_sum(m: Model, x: Value) -> Value:
    return m.expand_to(m.reduce("sum", x, (1,), keepdims=True), x.shape)


IN_PLACE = {
    "elementwise": lambda m, x: m.map("tanh", x),
    "rows": lambda m, x: m.map("mul", x, row_sum(m, x)),
    "flipped rows": lambda m, x: m.map("mul", x, row_sum(m, m.flip(x, 0))),
    "flipped columns": lambda m, x: m.map("mul", x, row_sum(m, m.flip(x, 1))),
    "flipped": lambda m, x: m.map("sub", x, m.flip(x, 0)),
    "transposed": lambda m, x: m.map("sub", x, m.permute(x, (1, 0))),
    "first row": lambda m, x: m.map("sub", x, m.expand_to(m.slice_axis(x, 0, 0, 1), x.shape)),
    "first element": lambda m, x: m.map("add", m.map("mul", x, row_sum(m, x)), m.expand_to(m.slice(x, (0, 0), (1, 1), (1, 1)), x.shape)),
    "last column": lambda m, x: m.map("add", m.map("mul", x, row_sum(m, x)), m.expand_to(m.slice_axis(x, 1, 39, 1), x.shape)),
    "next row": lambda m, x: m.map("add", row_sum(m, m.pad(m.slice_axis(x, 0, 1, 39), (0, 0), (1, 0), 0)), x),
    "columns": lambda m, x: m.map("mul", x, m.expand_to(m.reduce("sum", m.flip(x, 1), (0,), keepdims=True), x.shape)),
    "shifted": lambda m, x: m.map("add", m.pad(m.slice_axis(x, 1, 1, 39), (0, 0), (0, 1), 3), x),
    "gathered": lambda m, x: m.map("add", m.gather(x, 0, m.constant(np.arange(39, -1, -1))), x),
    "taken by a reshape": lambda m, x: m.map("sub", x, m.reshape(m.permute(x, (1, 0)), x.shape)),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_results_overwrite_only_what_is_needed_no_more(name: str) -> None:
    m = Model()
    x = m.input(sample(F32, (40, 40), low=-1, high=1))
    y = IN_PLACE[name](m, projected(m, x))
    m.result(projected(m, y), ulps=512, scale=64)
    m.check(threads=2)

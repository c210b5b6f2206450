"""Movement as arithmetic on positions, and merging of loops: both against enumeration."""

from __future__ import annotations

from itertools import product as cartesian

import numpy as np
import pytest

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, evaluate
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Op
from vitrify.lower import loop as L
from vitrify.lower.loop import VType, zero
from vitrify.lower.loops import merge_loops
from vitrify.lower.rewrite_loop import rename
from vitrify.lower.views import axis_groups, linear_in, reshape_index, row_major, source_index

OPS: list[tuple[Op, tuple[int, ...]]] = [
    (g.Permute((2, 0, 1)), (3, 4, 5)),
    (g.Expand((3, 4, 5)), (3, 1, 5)),
    (g.Reshape((6, 10)), (3, 4, 5)),
    (g.Reshape((3, 2, 2, 5)), (3, 4, 5)),
    (g.Reshape((5, 12)), (3, 4, 5)),
    (g.Reshape((1, 60, 1)), (3, 4, 5)),
    (g.Reshape((3, 4, 5)), (60,)),
    (g.Reshape((2, 1, 3)), (1, 6, 1)),
    (g.Reshape((3, 0)), (0, 4)),
    (g.Slice((1, 3, 0), (1, -1, 2), (2, 4, 3)), (3, 4, 5)),
    (g.Flip((0, 2)), (3, 4, 5)),
    (g.Window((1, 2), (3, 2), (1, 2), (1, 2)), (2, 5, 7)),
]


@pytest.mark.parametrize(("op", "source"), OPS, ids=lambda v: str(v).replace(" ", ""))
def test_every_position(op: Op, source: tuple[int, ...]) -> None:
    from vitrify.ir.builder import parameter
    from vitrify.ir.graph import Type, make_node
    from vitrify.ir.interpret import evaluate_node

    node = make_node(op, [parameter("x", F32, source)])
    array = np.arange(np.prod(source), dtype=np.float32).reshape(source)
    (wanted,) = evaluate_node(node, [array], {})
    assert isinstance(node.output.type, Type)
    index = tuple(Dim.index(f"i{a}", n) if n != 1 else 0 for a, n in enumerate(wanted.shape))
    where = source_index(op, index, source)
    for position in cartesian(*(range(n) for n in wanted.shape)):
        table = {f"i{a}": p for a, p in enumerate(position)}
        assert array[tuple(evaluate(w, table) for w in where)] == wanted[position]


def test_symbolic_reshapes_split_by_groups() -> None:
    n, k = Dim.symbol("n"), Dim.symbol("k")
    assert axis_groups((n, 4, k), (n * 4, k)) == [([0, 1], [0]), ([2], [1])]
    index = (Dim.index("a", n * 4), Dim.index("b", k))
    assert reshape_index(index, (n * 4, k), (n, 4, k)) == (index[0] // 4, index[0] % 4, index[1])
    back = reshape_index(reshape_index(index, (n * 4, k), (n, 4, k)), (n, 4, k), (n * 4, k))
    assert back == index


def test_strides_and_linear_forms() -> None:
    n = Dim.symbol("n")
    i, j = Dim.index("i", n), Dim.index("j", 7)
    assert row_major((3, n, 7)) == (7 * n, 7, 1)
    form = linear_in(i * n * 7 + 3 * j - 2, ["i", "j"])
    assert form is not None and form.coefficients == {"i": 7 * n, "j": 3} and form.offset == -2
    assert linear_in(i * j, ["i", "j"]) is None
    assert linear_in(i // 2 + j, ["i"]) is None and linear_in(i // 2 + j, ["j"]) is not None


def stores(*positions: DimLike) -> list[L.Stmt]:
    return [L.Store("b", p, zero(F32)) for p in positions]


@pytest.mark.parametrize("count", [5, Dim.symbol("n")], ids=str)
def test_loops_that_step_alike_become_one(count: DimLike) -> None:
    i, j, k = Dim.index("i", 3), Dim.index("j", count), Dim.index("k", 4)
    loops: list[tuple[str, DimLike]] = [("i", 3), ("j", count), ("k", 4)]
    whole = i * count * 4 + j * 4 + k
    merged, table = merge_loops(loops, stores(whole))
    assert [extent for _, extent in merged] == [count * 12]
    (statement,) = rename(tuple(stores(whole)), table)
    assert isinstance(statement, L.Store) and str(statement.index) == merged[0][0]
    gaps, _ = merge_loops(loops, stores(i * count * 8 + j * 4 + k))
    assert [extent for _, extent in gaps] == [3, count * 4]
    apart, _ = merge_loops(loops, stores(whole, k))
    assert [extent for _, extent in apart] == [count * 3, 4]
    turned, _ = merge_loops(loops, stores(whole, k * count * 3 + j * 3 + i))
    assert len(turned) == 3
    divided, _ = merge_loops(
        loops, [*stores(whole), L.Let(L.Register("r", VType(F32)), L.Load("a", i // 2, VType(F32)))]
    )
    assert [extent for _, extent in divided] == [3, count * 4]

"""Scatters: every combiner and dtype, one index and several, at several axes, in range and out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.harness import Model, compile_graph, sample
from vitrify.errors import IndexOutOfRangeError
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, I4, I8, I32, I64, U8, DType
from vitrify.ir.graph import SCATTERS, TypeRuleError, Value
from vitrify.ir.interpret import interpret
from vitrify.ir.text import print_graph
from vitrify.ir.text_parse import parse_graph

N = Dim.symbol("n")
K = Dim.symbol("k")


def _indices(m: Model, shape: tuple[int, ...], sizes: tuple[int, ...], seed: int = 0) -> list[Value]:
    rng = np.random.default_rng(seed)
    return [m.input(rng.integers(0, n, shape)) for n in sizes]


@pytest.mark.parametrize("combiner", SCATTERS)
def test_axes_and_indices(combiner: str) -> None:
    m = Model()
    extents = (5, 6, 3, 19)
    x = m.input(sample(F32, extents))
    for axis in range(4):
        for shape in ((), (1,), (19,), (2, 3)):
            for count in (1, 2) if axis < 3 else (1,):
                taken = extents[axis : axis + count]
                updates = m.input(sample(F32, (*extents[:axis], *shape, *extents[axis + count :]), axis))
                m.result(m.scatter(x, axis, updates, *_indices(m, shape, taken), combiner=combiner))
    m.check()


@pytest.mark.parametrize("dtype", [F16, BF16, F64, I4, I8, I64, U8, BOOL], ids=str)
def test_dtypes(dtype: DType) -> None:
    m = Model()
    x, updates = m.input(sample(dtype, (7, 21))), m.input(sample(dtype, (7, 35), 1))
    for index in (I64, I32, U8, I8):
        i = m.input(np.random.default_rng(1).integers(0, 21, (35,)).astype(index.numpy))
        for combiner in ("replace", "min", "max") if dtype.is_bool else SCATTERS:
            m.result(m.scatter(x, 1, updates, i, combiner=combiner))
            m.result(m.scatter(m.permute(x, (1, 0)), 0, m.permute(updates, (1, 0)), i, combiner=combiner))
    m.check()


def test_last_update_stays() -> None:
    m = Model()
    x, i = m.constant(np.zeros((3, 200), np.float32)), m.input(np.asarray([1, 1, 2, 1]))
    updates = m.input(np.repeat(np.arange(4, dtype=np.float32), 200).reshape(4, 200))
    m.result(m.scatter(x, 0, updates, i))
    (got,) = compile_graph(m.graph(), threads=2).run(None, m.feeds)
    assert got[:, 0].tolist() == [0, 3, 2]
    m.check()


@pytest.mark.parametrize("combiner", ["replace", "sum"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_named_by_their_own_position(axis: int, combiner: str) -> None:
    """As ONNX's ScatterElements: they are rows of their own, run by many tasks."""
    m = Model()
    extents, shape = (40, 33, 31), (39, 33, 17)
    x, updates = m.input(sample(F32, extents)), m.input(sample(F32, shape, 1))
    named = m.input(np.random.default_rng(3).integers(0, extents[axis], shape))
    indices = [named if a == axis else m.iota(shape, a) for a in range(3)]
    m.result(m.scatter(x, 0, updates, *indices, combiner=combiner))
    m.check()


def test_many_tasks_give_the_same_bits() -> None:
    m = Model()
    x, updates = m.input(sample(F32, (4, 9, 300))), m.input(sample(F32, (4, 500, 300), 1))
    m.result(m.scatter(x, 1, updates, *_indices(m, (500,), (9,)), combiner="sum"))
    graph = m.graph()
    one, two = (compile_graph(graph, threads=n).run(None, m.feeds)[0] for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    m.check()


def test_of_what_is_computed() -> None:
    m = Model()
    x, updates = m.input(sample(F32, (13, 17))), m.input(sample(F32, (23, 17), 1))
    (i,) = _indices(m, (23,), (13,))
    shifted = m.map("floormod", m.map("add", i, m.scalar(5, i)), m.scalar(13, i))
    first = m.scatter(m.map("neg", x), 0, m.map("tanh", updates), shifted, combiner="sum")
    second = m.scatter(first, 0, m.gather(first, 0, i), shifted, combiner="max")
    m.result(first, second, m.concat([second, x], 0), m.permute(second, (1, 0)), ulps=32)
    m.result(m.reduce("sum", second, (1,)), m.contract(first, second, over=([1], [1])), ulps=256, scale=64)
    m.result(x, m.scatter(x, 0, m.gather(x, 0, i), i))
    m.check()


def test_symbolic_and_empty() -> None:
    m = Model()
    x, updates = m.input(sample(F32, (5, 18)), (N, 18)), m.input(sample(F32, (3, 18), 1), (K, 18))
    i = m.input(np.asarray([4, 0, 2]), (K,))
    m.result(m.scatter(x, 0, updates, i), m.map("exp", m.scatter(x, 0, updates, i, combiner="sum")), ulps=8)
    m.check(
        {"x0": sample(F32, (1, 18)), "x1": sample(F32, (40, 18)), "x2": np.zeros(40, np.int64)},
        {"x0": sample(F32, (0, 18)), "x1": sample(F32, (0, 18)), "x2": np.zeros(0, np.int64)},
        {"x0": sample(F32, (70, 18)), "x1": sample(F32, (0, 18)), "x2": np.zeros(0, np.int64)},
    )


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_static_empty(shape: tuple[int, int]) -> None:
    m = Model()
    x, count = m.input(np.zeros(shape, np.float32)), 0 if shape[0] == 0 else 2
    updates, i = m.input(np.zeros((count, shape[1]), np.float32)), m.input(np.zeros(count, np.int64))
    m.result(m.scatter(x, 0, updates, i, combiner="sum"))
    m.check()


@pytest.mark.parametrize("bad", [13, -1, 1 << 40, -(1 << 62)])
@pytest.mark.parametrize(("axis", "shape"), [(0, (21,)), (1, (21,)), (0, ())])
def test_out_of_range_names_the_node(bad: int, axis: int, shape: tuple[int, ...]) -> None:
    m = Model()
    x, good = m.input(sample(F32, (13, 13))), np.full(shape, 12)
    i = m.input(good)
    updates = m.input(sample(F32, (*((13,) * axis), *shape, *((13,) * (1 - axis)))))
    with m.sourced("ScatterND 'writes'"):
        m.result(m.scatter(x, axis, updates, i))
    graph = m.graph()
    session = compile_graph(graph)
    for place in {0, max(good.size - 1, 0), good.size // 2}:
        wrong = good.copy()
        wrong.reshape(-1)[place] = bad
        feeds = {**m.feeds, "x1": wrong}
        with pytest.raises(IndexOutOfRangeError, match="writes"):
            session.run(None, feeds)
        with pytest.raises(IndexError, match="writes"):
            interpret(graph, feeds)
    session.run(None, m.feeds)


def test_into_an_empty_axis() -> None:
    m = Model()
    x, updates = m.input(np.zeros((0, 3), np.float32)), m.input(sample(F32, (1, 3)))
    m.result(m.scatter(x, 0, updates, m.input(np.zeros(1, np.int64))))
    graph = m.graph()
    with pytest.raises(IndexOutOfRangeError):
        compile_graph(graph).run(None, m.feeds)
    with pytest.raises(IndexError):
        interpret(graph, m.feeds)


def test_text_reads_back() -> None:
    m = Model()
    x, updates = m.input(sample(F32, (4, 5))), m.input(sample(F32, (3, 5)))
    i = m.input(np.zeros(3, np.int64))
    m.result(m.scatter(x, 0, updates, i, combiner="max"), m.scatter(x, 0, updates, i))
    text = print_graph(m.graph())
    assert "scatter.max(" in text and print_graph(parse_graph(text)) == text


def test_ill_typed() -> None:
    m = Model()
    x, i = m.input(sample(F32, (4, 5))), m.input(np.zeros(3, np.int64))
    with pytest.raises(TypeRuleError, match="takes updates"):
        m.scatter(x, 0, m.input(sample(F32, (3, 4))), i)
    with pytest.raises(TypeRuleError, match="takes updates"):
        m.scatter(x, 0, m.input(sample(F64, (3, 5))), i)
    with pytest.raises(TypeRuleError, match="over 1 axes from 2"):
        m.scatter(x, 2, x, i)
    with pytest.raises(TypeRuleError, match="unknown combiner"):
        m.scatter(x, 0, x, i, combiner="mean")
    with pytest.raises(TypeRuleError, match="integer indices"):
        m.scatter(x, 0, x, x)
    flags = m.input(np.zeros((4, 5), bool))
    with pytest.raises(TypeRuleError, match="takes numbers"):
        m.scatter(flags, 1, m.input(np.zeros((4, 3), bool)), i, combiner="sum")


def test_into_memory_that_nobody_reads_again() -> None:
    """The result takes over the block of what it is scattered into, and nothing is copied."""
    from vitrify.lower.model import lower_model
    from vitrify.lower.target import TARGETS

    def templates(again: bool) -> list[str]:
        m = Model()
        x, updates = m.input(sample(F32, (30, 64))), m.input(sample(F32, (8, 64), 1))
        (i,) = _indices(m, (8,), (30,))
        first = m.contract(x, m.constant(sample(F32, (64, 64))), over=([1], [0]))
        second = m.scatter(m.scatter(first, 0, updates, i), 0, m.map("neg", updates), i, combiner="max")
        m.result(m.contract(second, m.constant(sample(F32, (64, 3))), over=([1], [0])), ulps=64, scale=64)
        if again:
            m.result(first, ulps=64, scale=64)
        m.check()
        plan = lower_model(m.graph(), TARGETS["x86-64-v3"])
        return [str(dict(call.kernel.schedule)["template"]) for call in plan.calls()]

    assert templates(again=False).count("nest") == 0
    assert templates(again=True).count("nest") == 1

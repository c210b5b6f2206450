"""Reductions over every subset of axes, with every combiner, and the chains that become one kernel."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.compiler.harness import Array, Model, kernel_count, sample
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, I4, I8, I16, I32, I64, U4, U8, U32, U64, DType
from vitrify.ir.graph import Value

N = Dim.symbol("n")
SUBSETS = [axes for k in (1, 2, 3) for axes in combinations(range(3), k)]
SIZES = (0, 1, 5, 16, 17, 64, 129)


def tolerance(dtype: DType, combiner: str) -> dict[str, float]:
    """Sums of numbers up to 4: an error per addition, at the size of what is added up."""
    if not dtype.is_float or combiner in ("min", "max", "argmin", "argmax"):
        return {}
    return {"ulps": 32, "scale": 8.0} if combiner == "sum" else {"ulps": 64}


def combiners(dtype: DType) -> tuple[str, ...]:
    return ("any", "all", "min", "max") if dtype is BOOL else ("sum", "prod", "min", "max")


def numbers(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Near 1 and of both signs, so that products stay finite."""
    if not dtype.is_float:
        return sample(dtype, shape, seed)
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.9, 1.1, shape) * rng.choice([-1, 1], shape)).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", [F32, I32, BOOL], ids=str)
def test_axes(dtype: DType) -> None:
    m = Model()
    x = m.input(numbers(dtype, (5, 6, 21)))
    for axes in SUBSETS:
        for combiner in combiners(dtype):
            m.result(m.reduce(combiner, x, axes), **tolerance(dtype, combiner))
    m.check()


@pytest.mark.parametrize("dtype", [F64, F16, BF16, I64, I16, I8, I4, U8, U32, U64], ids=str)
def test_dtypes(dtype: DType) -> None:
    m = Model()
    x = m.input(numbers(dtype, (3, 37)))
    for axes in ((0,), (1,)):
        for combiner in combiners(dtype):
            m.result(m.reduce(combiner, x, axes), **tolerance(dtype, combiner))
    m.check()


@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_sizes(axes: tuple[int, ...]) -> None:
    m = Model()
    n, k = Dim.symbol("n"), Dim.symbol("k")
    x = m.input(numbers(F32, (5, 7)), (n, k))
    for combiner in ("sum", "prod", "min", "max"):
        m.result(m.reduce(combiner, x, axes), **tolerance(F32, combiner))
    m.result(
        m.reduce("any", m.map("gt", x, m.scalar(1.0, x)), axes), m.reduce("all", m.map("gt", x, m.scalar(0.0, x)), axes)
    )
    m.check(*({"x0": numbers(F32, (a, b), a + b)} for a in SIZES for b in SIZES))


@pytest.mark.parametrize("size", SIZES)
def test_static_sizes(size: int) -> None:
    m = Model()
    x, y = m.input(numbers(F32, (3, size))), m.input(numbers(F32, (size, 3)))
    for combiner in ("sum", "max"):
        m.result(
            m.reduce(combiner, x, (1,)),
            m.reduce(combiner, y, (0,)),
            m.reduce(combiner, x, (0, 1)),
            **tolerance(F32, combiner),
        )
    m.check()


@pytest.mark.parametrize("dtype", [F32, F64, F16, I32, I8, U64, BOOL], ids=str)
def test_positions_of_extremes(dtype: DType) -> None:
    """Ties go to the first; a NaN is more extreme than any number."""
    m = Model()
    array = sample(dtype, (5, 6, 19), low=-2, high=2)
    if dtype.is_float:
        array = np.round(array.astype(np.float64) * 2).astype(dtype.numpy)
        array[0, 2, 7] = array[3, 4, 3] = array[3, 4, 9] = array[4, 1, 1] = np.nan
        array[1], array[2] = np.inf, -np.inf
    else:
        array[1], array[2] = dtype.max(), dtype.min()
    x = m.input(array)
    for combiner in ("argmin", "argmax"):
        for axis in range(3):
            m.result(m.reduce(combiner, x, (axis,)))
    for combiner in ("min", "max"):
        m.result(m.reduce(combiner, x, (2,)), m.reduce(combiner, x, (0, 1)))
    m.check()


def softmax(m: Model, x: Value, axis: int) -> Value:
    e = m.map("exp", m.map("sub", x, m.reduce("max", x, (axis,), keepdims=True)))
    return m.map("div", e, m.reduce("sum", e, (axis,), keepdims=True))


def log_softmax(m: Model, x: Value, axis: int) -> Value:
    shifted = m.map("sub", x, m.reduce("max", x, (axis,), keepdims=True))
    return m.map("sub", shifted, m.map("log", m.reduce("sum", m.map("exp", shifted), (axis,), keepdims=True)))


def variance(m: Model, x: Value, axis: int) -> Value:
    size = x.shape[axis]
    count = m.scalar(float(size), m.constant(np.float32(0))) if isinstance(size, int) else m.cast(m.dim(size), F32)
    mean = m.map("div", m.reduce("sum", x, (axis,), keepdims=True), count)
    off = m.map("sub", x, mean)
    return m.map("div", m.reduce("sum", m.map("mul", off, off), (axis,), keepdims=True), count)


def layer_norm(m: Model, x: Value, axis: int) -> Value:
    count = m.constant(np.float32(int(str(x.shape[axis]))))
    off = m.map("sub", x, m.map("div", m.reduce("sum", x, (axis,), keepdims=True), count))
    spread = m.map("div", m.reduce("sum", m.map("mul", off, off), (axis,), keepdims=True), count)
    normal = m.map("mul", off, m.map("rsqrt", m.map("add", spread, m.constant(np.float32(1e-5)))))
    shape = [x.shape[axis] if i == axis else 1 for i in range(x.rank)]
    weight = m.constant(sample(F32, [int(str(n)) for n in shape], 4))
    return m.map("add", m.map("mul", normal, weight), m.map("tanh", weight))


CHAINS = {"softmax": softmax, "log_softmax": log_softmax, "variance": variance, "layer_norm": layer_norm}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(("axis", "size"), [(2, 67), (1, 33), (0, 9), (2, 1)])
def test_chains_are_one_kernel(chain: str, axis: int, size: int) -> None:
    m = Model()
    shape = [4, 5, 6]
    shape[axis] = size
    x = m.input(sample(F32, shape))
    m.result(CHAINS[chain](m, x, axis), ulps=64, scale=1)
    session = m.check()
    assert kernel_count(session) == 1 or chain == "layer_norm"  # tanh(weight) folds to a constant


@pytest.mark.parametrize("chain", ["softmax", "log_softmax", "variance"])
@pytest.mark.parametrize("axis", [0, 1])
def test_chains_with_symbolic_sizes(chain: str, axis: int) -> None:
    m = Model()
    n, k = Dim.symbol("n"), Dim.symbol("k", 1)
    x = m.input(sample(F32, (3, 7)), (n, k) if axis else (k, n))
    m.result(CHAINS[chain](m, x, axis), ulps=64, scale=1)
    feeds = [{"x0": sample(F32, (a, b) if axis else (b, a), b)} for a in (0, 1, 17) for b in (1, 16, 17, 129)]
    assert kernel_count(m.check(*feeds)) == 1


def test_softmax_of_infinities_and_nan() -> None:
    m = Model()
    array = sample(F32, (6, 35))
    array[0, 3], array[1, 33], array[2, :], array[3, 2] = np.nan, np.inf, -np.inf, -np.inf
    x = m.input(array)
    m.result(softmax(m, x, 1), log_softmax(m, x, 1), ulps=64, scale=1)
    m.check()


def test_reductions_of_movement_and_of_reductions() -> None:
    m = Model()
    x = m.input(sample(F32, (6, 10, 12)))
    s = m.reduce("sum", x, (2,))
    m.result(s, m.reduce("max", s, (0,)), m.map("mul", x, m.unsqueeze(s, 2)), ulps=16, scale=16)
    m.result(
        m.reduce("sum", m.permute(x, (2, 0, 1)), (0, 2)),
        m.reduce("sum", m.reshape(x, (12, 60)), (0,)),
        ulps=16,
        scale=16,
    )
    m.result(
        m.reduce("sum", m.pad(x, (0, 1, 2), (1, 0, 3), 2), (1, 2)),
        m.reduce("max", m.concat([x, m.map("neg", x)], 1), (1,)),
        ulps=32,
        scale=32,
    )
    windows = m.window(m.pad(x, (0, 1, 1), (0, 1, 1), float("-inf")), (1, 2), (3, 3), (2, 2), (1, 1))
    m.result(m.reduce("max", windows, (3, 4)), m.reduce("argmax", m.reshape(windows, (*windows.shape[:3], 9)), (3,)))
    m.result(m.reduce("sum", m.cast(m.map("gt", x, m.scalar(0.0, x)), I64), (0, 1, 2)))
    m.check()


def test_sums_long_enough_to_be_split() -> None:
    m = Model()
    x = m.input(sample(F32, (3, 100_000)), (N, 100_000))
    m.result(m.reduce("sum", x, (1,)), m.reduce("sum", x, (0,)), m.reduce("sum", x, (0, 1)), ulps=64, scale=1e3)
    m.check()


@pytest.mark.parametrize("dtype", [F32, F16, I4, U4, I8, U64, BOOL], ids=str)
def test_of_nothing(dtype: DType) -> None:
    """The element that changes nothing: of the dtype itself, not of the wider one it computes in."""
    m = Model()
    x = m.input(sample(dtype, (0, 3)), (N, 3))
    y = m.input(sample(dtype, (2, 0)))
    for combiner in combiners(dtype):
        m.result(m.reduce(combiner, x, (0,)), m.reduce(combiner, y, (1,)), m.reduce(combiner, x, (0, 1)))
    m.check()


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_neighbouring_columns_share_loops(target: str) -> None:
    """Blocks of several vectors of columns, what is left of them, and reductions that depend on one another."""
    m = Model()
    for shape, axes in [((5, 300), (0,)), ((3, 7, 129), (1,)), ((7, 3, 1000), (0, 1)), ((2, 9, 64), (1,))]:
        x = m.input(sample(F32, shape))
        total = m.reduce("sum", x, axes, keepdims=True)
        m.result(total, m.reduce("max", x, axes), ulps=8, scale=4)
        m.result(m.reduce("sum", m.map("mul", m.map("sub", x, total), x), axes), ulps=32, scale=64)
    m.check(target=target)


def test_large_reductions_to_one_element() -> None:
    """In parts that depend on the shape alone: the same bits for any number of threads."""
    m = Model()
    x, line, prime = (m.input(sample(F32, s, i)) for i, s in enumerate([(12, 131, 257), (1 << 18,), (262_147,)]))
    whole = m.input(sample(I32, (1, 66, 4001), 3))
    mean = m.map("mul", m.reduce("sum", x, (0, 1, 2), keepdims=True), m.scalar(1 / (12 * 131 * 257), x))
    apart = m.map("sub", x, mean)
    m.result(mean, m.reduce("sum", m.map("mul", apart, apart), (0, 1, 2)), ulps=256, scale=1e3)
    m.result(m.reduce("sum", line, (0,)), m.reduce("sum", prime, (0,)), ulps=256, scale=1e3)
    m.result(m.reduce("max", x, (0, 1, 2)), m.reduce("min", line, (0,)))
    m.result(m.reduce("sum", whole, (1, 2)), m.reduce("max", whole, (0, 1, 2)))
    one, two = (m.check(threads=n).run(None, m.feeds) for n in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))

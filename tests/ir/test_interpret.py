"""The interpreter against the definitions: every structure written out as loops over positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.random_graphs import Case, elements, random_graphs
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import (
    BF16,
    BOOL,
    DTYPES,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F16,
    F32,
    F64,
    FLOATS,
    I4,
    I8,
    I32,
    I64,
    INTS,
    NUMBERS,
    U4,
    U8,
    DType,
)
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import InterpretError, cast, evaluate_node, interpret

Array = np.ndarray[Any, Any]
SHAPES = [(0,), (1,), (7,), (1, 5), (3, 0), (2, 3, 5)]
BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def data(dtype: DType, shape: Sequence[int], seed: int = 0, specials: bool = False) -> Array:
    return elements(np.random.default_rng(seed), dtype, shape, specials)


def run(op: g.Op, *arrays: Array) -> Array:
    """``op`` alone, the shapes of its inputs static."""
    from vitrify.ir.dtypes import from_numpy

    b = Builder()
    inputs = [parameter(f"x{i}", from_numpy(a.dtype), a.shape) for i, a in enumerate(arrays)]
    (result,) = interpret(b.build(inputs, [b.one(op, *inputs)]), list(arrays))
    return result


def same_bits(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


def by_position(shape: Sequence[int], dtype: Any, element: Callable[[tuple[int, ...]], Any]) -> Array:
    result = np.empty(tuple(shape), dtype)
    for position in np.ndindex(*shape):
        result[position] = element(position)
    return result


# Movement: bit for bit, on every dtype.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_movement(dtype: DType, shape: tuple[int, ...]) -> None:
    x = data(dtype, shape, specials=True)
    rank = len(shape)
    perm = tuple(reversed(range(rank)))
    same_bits(run(g.Permute(perm), x), by_position(shape[::-1], x.dtype, lambda p: x[p[::-1]]))
    same_bits(run(g.Reshape((x.size, 1)), x), by_position((x.size, 1), x.dtype, lambda p: x.flat[p[0]]))
    wide = x.reshape(1, *shape)
    expanded = run(g.Expand((3, *shape)), wide)
    same_bits(expanded, by_position((3, *shape), x.dtype, lambda p: x[p[1:]]))
    flipped = by_position(shape, x.dtype, lambda p: x[(shape[0] - 1 - p[0], *p[1:])])
    same_bits(run(g.Flip((0,)), x), flipped)
    joined = run(g.Concat(rank - 1), x, x)
    last = shape[-1]
    same_bits(joined, by_position(joined.shape, x.dtype, lambda p: x[(*p[:-1], p[-1] % last)]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("start", "step", "size"), [(0, 1, 7), (1, 2, 3), (6, -1, 7), (5, -3, 2), (9, 1, 0)])
def test_slice(dtype: DType, start: int, step: int, size: int) -> None:
    x = data(dtype, (7, 2))
    got = run(g.Slice((start, 0), (step, 1), (size, 2)), x)
    same_bits(got, by_position((size, 2), x.dtype, lambda p: x[start + p[0] * step, p[1]]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3,), (0,), (1,)], ids=str)
def test_pad(dtype: DType, shape: tuple[int, ...]) -> None:
    x = data(dtype, shape)
    value: float | int | bool = True if dtype is BOOL else int(dtype.max()) if dtype.is_int else float("-inf")
    got = run(g.Pad((2,), (1,), value), x)
    border = np.asarray(value).astype(x.dtype)
    same_bits(
        got,
        by_position((shape[0] + 3,), x.dtype, lambda p: x[p[0] - 2] if 0 <= p[0] - 2 < len(x) else border),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (2, 3, 2), (3, 2, 3), (7, 1, 1)]
)
def test_window(dtype: DType, size: int, stride: int, dilation: int) -> None:
    x = data(dtype, (2, 7))[:, ::1]
    got = run(g.Window((1,), (size,), (stride,), (dilation,)), x)
    count = (7 - (size - 1) * dilation - 1) // stride + 1
    expected = by_position((2, count, size), x.dtype, lambda p: x[p[0], p[1] * stride + p[2] * dilation])
    same_bits(got, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("positions", [t for t in INTS if t.bits >= 8], ids=str)
def test_gather(dtype: DType, positions: DType) -> None:
    x = data(dtype, (3, 5, 2))
    rows, columns = np.array([[2, 0], [1, 1]], positions.numpy), np.array([[4, 0], [2, 3]], positions.numpy)
    same_bits(
        run(g.Gather(1), x, columns),
        by_position((3, 2, 2, 2), x.dtype, lambda p: x[p[0], columns[p[1:3]], p[3]]),
    )
    got = run(g.Gather(0), x, rows, columns)
    same_bits(got, by_position((2, 2, 2), x.dtype, lambda p: x[rows[p[:2]], columns[p[:2]], p[2]]))
    same_bits(run(g.Gather(1), x, np.array(4, positions.numpy)), x[:, 4])
    same_bits(run(g.Gather(0), x, np.zeros((0, 2), positions.numpy)), np.empty((0, 2, 5, 2), x.dtype))


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_iota(dtype: DType) -> None:
    b = Builder()
    (got,) = interpret(b.build([], [b.iota((2, 7, 1), 1, dtype)]), [])
    same_bits(got, np.broadcast_to(np.arange(7).astype(dtype.numpy).reshape(1, 7, 1), (2, 7, 1)))


# Reductions and contractions.


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("combiner", ["sum", "prod", "min", "max"])
def test_reduce(dtype: DType, shape: tuple[int, ...], combiner: str) -> None:
    """Exact on integers (wrapping) and on extremes; sums and products of floats within 1 unit."""
    x = data(dtype, shape)
    axis = len(shape) - 1
    got = run(g.Reduce(combiner, (axis,)), x)
    fold: Callable[[list[Any]], Any] = {
        "sum": sum, "prod": lambda v: int(np.prod(v)) if dtype.is_int else float(np.prod(v)),
        "min": lambda v: min(v, default=dtype.max()), "max": lambda v: max(v, default=dtype.min()),
    }[combiner]  # fmt: skip
    kind = float if dtype.is_float else int
    for position in np.ndindex(*shape[:axis]):
        exact = fold([kind(v) for v in x[position]])
        if dtype.is_int:
            span, low = 1 << dtype.bits, int(dtype.min())
            assert int(got[position]) == (int(exact) - low) % span + low
        else:
            with np.errstate(all="ignore"):
                rounded = np.asarray(exact, np.float32 if dtype.bits < 64 else np.float64).astype(dtype.numpy)
            unit = 2.0**-dtype.mantissa
            np.testing.assert_allclose(np.float64(got[position]), np.float64(rounded), rtol=unit, atol=1e-300)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_and_all(shape: tuple[int, ...]) -> None:
    x = data(BOOL, shape)
    axes = tuple(range(len(shape)))
    assert run(g.Reduce("any", axes), x) == any(x.flat)
    assert run(g.Reduce("all", axes), x) == all(x.flat)


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_positions_of_extremes(dtype: DType) -> None:
    """The first one counts."""
    low, middle, high = (0, 1, 3) if dtype.max() >= 3 else (-2, 0, 1)
    x = np.array([[middle, high, high, low, low], [middle] * 5]).astype(dtype.numpy)
    np.testing.assert_array_equal(run(g.Reduce("argmax", (1,)), x), [1, 0])
    np.testing.assert_array_equal(run(g.Reduce("argmin", (1,)), x), [3, 0])
    assert run(g.Reduce("argmax", (0,)), x).dtype == np.int64


def test_reductions_propagate_nan() -> None:
    for dtype in FLOATS:
        x = np.array([1, np.nan, 2]).astype(dtype.numpy)
        for combiner in ("sum", "prod", "min", "max"):
            assert np.isnan(np.float32(run(g.Reduce(combiner, (0,)), x))), (dtype, combiner)


def test_narrow_floats_accumulate_wide() -> None:
    ones = np.ones(4096).astype(BF16.numpy)
    assert float(run(g.Reduce("sum", (0,)), ones)) == 4096
    big = np.full(3, 60000, np.float16)
    assert float(run(g.Contract((), (), (0,), (0,), F32), big, big)) == 3 * 60000.0**2
    assert np.isinf(run(g.Contract((), (), (0,), (0,), F16), big, big))


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize(
    "sizes", [(2, 3, 5, 4), (1, 1, 1, 1), (3, 0, 2, 2), (2, 2, 0, 3), (0, 2, 3, 2), (1, 7, 11, 13)]
)
def test_contract(dtype: DType, sizes: tuple[int, int, int, int]) -> None:
    """Exact on integers, wrapping in the result; floats within 2 units of the sum of absolute products."""
    batch, rows, depth, columns = sizes
    a, b = data(dtype, (rows, batch, depth), 1), data(dtype, (batch, depth, columns), 2)
    got = run(g.Contract((1,), (0,), (2,), (1,), dtype), a, b)
    assert got.dtype == dtype.numpy
    assert got.shape == (batch, rows, columns)
    for i, r, c in np.ndindex(batch, rows, columns):
        if dtype.is_int:
            exact = sum(int(a[r, i, k]) * int(b[i, k, c]) for k in range(depth))
            assert int(got[i, r, c]) == (exact - int(dtype.min())) % (1 << dtype.bits) + int(dtype.min())
        else:
            terms = [float(a[r, i, k]) * float(b[i, k, c]) for k in range(depth)]
            bound = 2.0 ** (1 - dtype.mantissa) * sum(map(abs, terms))
            assert abs(float(got[i, r, c]) - sum(terms)) <= bound + 2.0**-16


def test_contract_of_mixed_integers_does_not_wrap_in_the_operands() -> None:
    a, b = np.array([255, 255], np.uint8), np.array([-128, 127], np.int8)
    assert int(run(g.Contract((), (), (0,), (0,), I32), a, b)) == -255
    assert int(run(g.Contract((), (), (0,), (0,), I8), a, b)) == 1
    large = np.array([2**40 + 1, 3], np.int64)
    assert int(run(g.Contract((), (), (0,), (0,), I64), large, large)) == ((2**40 + 1) ** 2 + 9) % 2**64


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_blocks_of_rows_do_not_change_a_contraction(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrify.ir.interpret._BLOCK", block)
    a, b = data(F32, (13, 7), 1), data(F32, (7, 5), 2)
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(run(g.Contract((), (), (1,), (0,)), a, b), expected, rtol=1e-6)


# Casts.


def _float_to_int(value: float, dtype: DType) -> int:
    if np.isnan(value):
        return 0
    low, high = (int(dtype.compute.min()), int(dtype.compute.max()))
    inside = low if value < low else high if value > high else int(value)
    return (inside - int(dtype.min())) % (1 << dtype.bits) + int(dtype.min())


@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_cast(source: DType, to: DType) -> None:
    x = data(source, (65,), specials=True)
    got = run(g.Cast(to, saturate=False), x) if to is not source else x
    for value, result in zip(x, got, strict=True):
        if to.is_bool:
            assert bool(result) == (float(value) != 0)
        elif to.is_int:
            number = float(value) if source.is_float else int(value)
            span, low = 1 << to.bits, int(to.min())
            expected = (
                _float_to_int(float(number), to) if source.is_float else (int(number) - low) % span + low
            )
            assert int(result) == expected, value
        else:
            with np.errstate(all="ignore"):
                wide = np.float64(value) if to is F64 else np.float32(np.float64(value))
                rounded = np.asarray(wide).astype(to.numpy)
            np.testing.assert_array_equal(np.float64(result), np.float64(rounded))


@pytest.mark.parametrize(
    ("dtype", "largest", "beyond"),
    [
        (F8E4M3FN, 448.0, np.nan),
        (F8E4M3FNUZ, 240.0, np.nan),
        (F8E5M2, 57344.0, np.inf),
        (F8E5M2FNUZ, 57344.0, np.nan),
    ],
    ids=str,
)
def test_saturation_of_8_bit_floats(dtype: DType, largest: float, beyond: float) -> None:
    x = np.array([np.inf, 1e9, -np.inf, np.nan, 1.3], np.float32)
    got = run(g.Cast(dtype), x).astype(np.float32)
    np.testing.assert_array_equal(got, np.array([largest, largest, -largest, np.nan, 1.25], np.float32))
    unsaturated = run(g.Cast(dtype, saturate=False), x).astype(np.float32)
    np.testing.assert_array_equal(unsaturated, np.array([beyond, beyond, -beyond, np.nan, 1.25], np.float32))


def test_casts_agree_with_onnxruntime_inside_the_range() -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    x = np.array([0, -0.0, 1.5, -1.5, 2.5, 100.7, -100.7, 0.49], np.float32)
    for dtype in (F64, F16, I8, I32, I64, BOOL, F8E4M3FN, F8E5M2):
        name = dtype.onnx.upper()
        to = getattr(TensorProto, name)
        nodes = [helper.make_node("Cast", ["x"], ["y"], to=to), helper.make_node("Cast", ["y"], ["z"], to=11)]
        if dtype.bits == 8 and dtype.is_float:
            nodes[1] = helper.make_node("Cast", ["y"], ["z"], to=1)
        kind = nodes[1].attribute[0].i
        ends = (helper.make_tensor_value_info("x", 1, [8]), helper.make_tensor_value_info("z", kind, [8]))
        model = helper.make_model(
            helper.make_graph(nodes, "g", [ends[0]], [ends[1]]),
            opset_imports=[helper.make_opsetid("", 21)],
            ir_version=10,
        )
        onnx.checker.check_model(model)
        (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        np.testing.assert_array_equal(cast(x, dtype).astype(np.float64), expected.astype(np.float64))


def test_convolution_agrees_with_onnxruntime() -> None:
    """A window view against the weight: 2 groups, stride 2, dilation 2, in f32 to 1e-5."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import helper

    x, w = data(F32, (2, 4, 9, 8), 1), data(F32, (6, 2, 3, 2), 2)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 0, 1]
    )
    values = [helper.make_tensor_value_info(n, 1, None) for n in "xwy"]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": w})
    b = Builder()
    inputs = [parameter("x", F32, x.shape), parameter("w", F32, w.shape)]
    padded = b.pad(inputs[0], (0, 0, 1, 0), (0, 0, 0, 1), 0.0)
    views = b.window(b.reshape(padded, (2, 2, 2, 10, 9)), (3, 4), (3, 2), (2, 1), (1, 2))
    weights = b.reshape(inputs[1], (2, 3, 2, 3, 2))
    y = b.contract(views, weights, batch=((1,), (0,)), over=((2, 5, 6), (2, 3, 4)))
    y = b.permute(y, (1, 0, 4, 2, 3))
    y = b.reshape(y, (2, 6, *y.shape[3:]))
    (got,) = interpret(b.build(inputs, [y]), [x, w])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# Control, dims, feeds and errors.


def _branches(x: Value) -> tuple[Graph, Graph]:
    bodies = []
    for fn in ("neg", "abs"):
        b, inner = Builder(), parameter("x", x.dtype, x.shape)
        bodies.append(b.build([inner], [b.map(fn, inner)]))
    return bodies[0], bodies[1]


@pytest.mark.parametrize("flag", [False, True])
def test_if(flag: bool) -> None:
    b = Builder()
    c, x = parameter("c", BOOL, ()), parameter("x", F32, (3,))
    graph = b.build([c, x], b.add(g.If(*_branches(x)), c, x))
    values = np.array([1, -2, 3], np.float32)
    (got,) = interpret(graph, [np.array(flag), values])
    np.testing.assert_array_equal(got, -values if flag else np.abs(values))


@pytest.mark.parametrize("trips", [0, 1, 5])
def test_scan(trips: int) -> None:
    """Carries a running sum, stacks it with the position, captures an offset."""
    n, b, inner = Dim.symbol("n"), Builder(), Builder()
    position, carried = parameter("i", I64, ()), parameter("c", F32, (2,))
    row, offset = parameter("row", F32, (2,)), parameter("offset", F32, (2,))
    total = inner.map("add", inner.map("add", carried, row), offset)
    body = inner.build([position, carried, row, offset], [total, total, position])
    x, start = parameter("x", F32, (n, 2)), parameter("start", F32, (2,))
    outputs = b.add(g.Scan(body, n, 1, 1), start, x, start)
    data_, first = data(F32, (trips, 2)), np.ones(2, np.float32)
    last, sums, positions = interpret(b.build([x, start], outputs, symbols={"n": n}), [data_, first])
    expected = [first]
    for r in data_:
        expected.append(expected[-1] + r + first)
    np.testing.assert_array_equal(last, expected[-1])
    np.testing.assert_array_equal(sums, np.array(expected[1:], np.float32).reshape(trips, 2))
    np.testing.assert_array_equal(positions, np.arange(trips))


def test_run_time_dims() -> None:
    b, k = Builder(), Dim.symbol("k")
    x = parameter("x", I64, ())
    bound = b.one(g.BindDim("k"), x)
    graph = b.build([x], [b.iota((k,), 0), b.dim(k * 2 + 1), bound])
    graph.assumptions.append((k % 2, 1))
    positions, odd, same = interpret(graph, [np.array(5)])
    np.testing.assert_array_equal(positions, np.arange(5))
    assert (int(odd), int(same)) == (11, 5)
    with pytest.raises(InterpretError, match="dim k is -1, negative"):
        interpret(graph, [np.array(-1)])
    with pytest.raises(InterpretError, match="assumes"):
        interpret(graph, [np.array(4)])


def _identity(*shape: Any, dtype: DType = F32) -> Graph:
    n, m = Dim.symbol("n", 1, 8), Dim.symbol("m")
    sizes = {"n": n, "m": m, "n+m": n + m, "2*n": n * 2}
    x = parameter("x", dtype, tuple(sizes.get(s, s) for s in shape))
    return Graph((x,), (x,), [], symbols={"n": n, "m": m})


BAD_FEEDS = [
    (_identity(3), {"y": np.zeros(3, np.float32)}, r"expected the inputs \['x'\], got \['y'\]"),
    (_identity(3), {}, r"expected the inputs \['x'\], got \[\]"),
    (_identity(3), [], "expected 1 inputs, got 0"),
    (_identity(3), [np.zeros(3)], "input 'x' is float64, expected float32"),
    (_identity(3), [np.zeros((3, 1), np.float32)], r"has shape \[3, 1\], expected f32\[3\]"),
    (_identity(3), [np.zeros(4, np.float32)], r"has shape \[4\], expected f32\[3\]"),
    (_identity("n", "n"), [np.zeros((2, 3), np.float32)], r"expected f32\[n, n\] = \[2, 2\]"),
    (_identity("n"), [np.zeros(9, np.float32)], "dim n is 9, outside 1 .. 8"),
    (_identity("n"), [np.zeros(0, np.float32)], "dim n is 0, outside 1 .. 8"),
    (_identity("n", "2*n"), [np.zeros((2, 5), np.float32)], r"= \[2, 4\]"),
    (_identity("n+m"), [np.zeros(5, np.float32)], "is not bound; pass it in dims"),
]


@pytest.mark.parametrize(("graph", "feeds", "message"), BAD_FEEDS, ids=[m for *_, m in BAD_FEEDS])
def test_feeds_that_do_not_fit(graph: Graph, feeds: Any, message: str) -> None:
    with pytest.raises(InterpretError, match=message):
        interpret(graph, feeds)


def test_given_dims() -> None:
    x = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(interpret(_identity("n+m"), [x], dims={"n": 2, "m": 3})[0], x)
    with pytest.raises(InterpretError, match=r"= \[6\]"):
        interpret(_identity("n+m"), [x], dims={"n": 2, "m": 4})


def test_assumptions() -> None:
    graph = _identity("n", "m")
    n, m = graph.symbols["n"], graph.symbols["m"]
    graph.assumptions.append((n * 2, m))
    interpret(graph, [np.zeros((2, 4), np.float32)])
    with pytest.raises(InterpretError, match=r"the graph assumes 2\*n == m, got 4 and 5"):
        interpret(graph, [np.zeros((2, 5), np.float32)])


def _symbolic(op: Callable[[Builder, Value, Dim], Value], dtype: DType = F32) -> Graph:
    b, n = Builder(), Dim.symbol("n")
    x = parameter("x", dtype, (n,))
    with b.sourced("Step 'here'"):
        return b.build([x], [op(b, x, n)], symbols={"n": n})


RUN_TIME_ERRORS: list[tuple[Callable[[Builder, Value, Dim], Value], int, str]] = [
    (lambda b, x, n: b.reshape(x, (6,)), 5, r"reshape \(Step 'here'\): \[5\] does not reshape to \[6\]"),
    (lambda b, x, n: b.slice_axis(x, 0, 2, 3), 4, "positions 2 to 4 leave axis 0"),
    (lambda b, x, n: b.slice_axis(x, 0, 0, n - 3), 1, r"negative size in \[-2\]"),
    (lambda b, x, n: b.pad(x, (n - 3,), (0,), 0.0), 1, "negative size"),
    (lambda b, x, n: b.window(x, (0,), (5,), (1,), (1,)), 3, "a window of 5 does not fit axis 0"),
    (lambda b, x, n: b.reduce("argmax", x, [0]), 0, "argmax over an axis of size 0"),
]


@pytest.mark.parametrize(("op", "size", "message"), RUN_TIME_ERRORS, ids=[m for *_, m in RUN_TIME_ERRORS])
def test_run_time_sizes_that_contradict_the_graph(op: Any, size: int, message: str) -> None:
    with pytest.raises(InterpretError, match=message):
        interpret(_symbolic(op), [np.zeros(size, np.float32)])


@pytest.mark.parametrize(("index", "dtype"), [(-1, I64), (3, I64), (3, U8), (2**63 + 1, None)])
def test_gather_out_of_range(index: int, dtype: DType | None) -> None:
    b = Builder()
    array = np.array([0, index], np.uint64 if dtype is None else dtype.numpy)
    with b.sourced("Gather 'tokens'"):
        y = b.gather(b.constant(np.zeros((3, 2), np.float32)), 0, b.constant(array))
    with pytest.raises(IndexError, match=rf"Gather 'tokens'\): index {index} is outside axis 0 of size 3"):
        interpret(b.build([], [y]), [])


def test_outputs_are_fresh_arrays() -> None:
    x = np.zeros((3, 4), np.float32)
    (got,) = interpret(_identity(3, 4), [x])
    got[:] = 1
    assert not x.any()
    transposed, fortran = np.zeros((4, 3), np.float32).T, np.asfortranarray(x)
    for fed in (transposed, fortran, x[::-1]):
        assert interpret(_identity(3, 4), [fed])[0].flags.c_contiguous


def test_evaluate_node_folds_one_node() -> None:
    node = g.make_node(g.Map("add"), [parameter("a", I32, (2,)), parameter("b", I32, (2,))])
    (got,) = evaluate_node(node, [np.array([1, 2], np.int32), np.array([3, 4], np.int32)], {})
    np.testing.assert_array_equal(got, [4, 6])
    sized = g.make_node(g.DimValue(Dim.symbol("n") * 2), [])
    assert evaluate_node(sized, [], {"n": 4})[0] == 8


def test_4_bit_integers_wrap() -> None:
    seven = np.array([7], I4.numpy)
    assert int(run(g.Map("add"), seven, np.array([1], I4.numpy))[0]) == -8
    assert int(run(g.Map("mul"), np.array([15], U4.numpy), np.array([15], U4.numpy))[0]) == 1


@settings(max_examples=150)
@given(random_graphs(specials=True))
def test_random_graphs_run_and_give_what_they_declare(case: Case) -> None:
    first, second = interpret(case.graph, case.feeds), interpret(case.graph, case.feeds)
    for value, a, b in zip(case.graph.outputs, first, second, strict=True):
        assert a.dtype == value.dtype.numpy
        assert a.tobytes() == b.tobytes()

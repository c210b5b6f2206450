"""Attributes, dtypes and opsets of single ops against onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.frontends.onnx.models import assert_same, check, model_of, one_node, run, run_peer, value_info

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 7), (4, 3, 3), {}),
    ((2, 4, 9), (6, 2, 3), {"group": 2, "pads": [1, 2], "strides": [2]}),
    ((1, 3, 8, 7), (5, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ((1, 6, 5, 5), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    ((1, 6, 5, 5), (12, 1, 3, 3), {"group": 6, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 6, 5), (3, 2, 2, 4), {"auto_pad": "SAME_LOWER"}),
    ((1, 2, 6, 5), (3, 2, 2, 4), {"auto_pad": "VALID"}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"strides": [1, 2, 1], "pads": [0, 1, 0, 0, 1, 1]}),
    ((3, 1, 1, 1), (2, 1, 1, 1), {"kernel_shape": [1, 1]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_conv(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any], bias: bool, dynamic: bool) -> None:
    feeds = {"x": floats(*x)}
    constants = {"w": floats(*w, seed=1)} | ({"b": floats(w[0], seed=2)} if bias else {})
    shapes = {"x": ["n", x[1], *(f"s{i}" for i in range(len(x) - 2))]} if dynamic else None
    check(one_node("Conv", feeds, constants=constants, shapes=shapes, **attributes), feeds)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3], "pads": [1, 0, 0, 1]},
        {"strides": [2, 2], "output_padding": [1, 1], "dilations": [2, 1]},
        {"strides": [2, 2], "output_shape": [11, 12]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [3, 2], "pads": [2, 2, 2, 2]},
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(attributes: dict[str, Any], group: int) -> None:
    feeds = {"x": floats(2, 4, 5, 6)}
    constants = {"w": floats(4, 3, 3, 2, seed=1), "b": floats(3 * group, seed=2)}
    check(one_node("ConvTranspose", feeds, constants=constants, group=group, **attributes), feeds)


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "dilations": [2, 3]},
    {"kernel_shape": [5, 4], "pads": [2, 1, 2, 2]},  # so large that one axis comes after the other
    {"kernel_shape": [5, 5], "strides": [2, 1], "pads": [2, 2, 2, 2], "ceil_mode": 1},
]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_with_indices(attributes: dict[str, Any], dynamic: bool, order: int) -> None:
    feeds = {"x": floats(2, 3, 8, 9)}
    shapes = {"x": ["n", "c", "h", "w"]} if dynamic else None
    model = one_node("MaxPool", feeds, outputs=["y", "i"], shapes=shapes, storage_order=order, **attributes)
    check(model, feeds)


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_max_pool(attributes: dict[str, Any], dynamic: bool) -> None:
    feeds = {"x": floats(2, 3, 8, 9)}
    shapes = {"x": ["n", "c", "h", "w"]} if dynamic else None
    check(one_node("MaxPool", feeds, shapes=shapes, **attributes), feeds)


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("dynamic", [False, True])
def test_average_pool(attributes: dict[str, Any], include: int, dynamic: bool) -> None:
    feeds = {"x": floats(2, 3, 8, 9)}
    shapes = {"x": ["n", 3, "h", "w"]} if dynamic else None
    model = one_node("AveragePool", feeds, shapes=shapes, count_include_pad=include, opset=22, **attributes)
    check(model, feeds)


MATMULS = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (1, 6, 3, 4)), ((5, 6, 2, 3), (6, 3, 4)),
    ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((1, 1, 2, 3), (1, 1, 3, 4)),
    ((7, 0, 3), (3, 4)), ((2, 5, 1, 2, 3), (5, 1, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), MATMULS)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    feeds = {"a": floats(*a), "b": floats(*b, seed=1)}
    expected = np.matmul(feeds["a"], feeds["b"])
    assert_same(run(one_node("MatMul", feeds), feeds), [np.asarray(expected)])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.float64, np.float16])
def test_matmul_dtypes(dtype: type) -> None:
    feeds = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.arange(12).reshape(3, 4).astype(dtype)}
    assert_same(run(one_node("MatMul", feeds), feeds), [feeds["a"] @ feeds["b"]])


@pytest.mark.parametrize(("ta", "tb"), list(itertools.product([0, 1], [0, 1])))
@pytest.mark.parametrize("c", [None, (), (4,), (1, 4), (2, 1), (2, 4)])
def test_gemm(ta: int, tb: int, c: tuple[int, ...] | None) -> None:
    feeds = {"a": floats(*((3, 2) if ta else (2, 3))), "b": floats(*((4, 3) if tb else (3, 4)), seed=1)}
    if c is not None:
        feeds["c"] = floats(*c, seed=2)
    check(one_node("Gemm", feeds, transA=ta, transB=tb, alpha=0.5, beta=2.0), feeds)


REDUCED = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"]


@pytest.mark.parametrize("op", [*REDUCED, "ReduceLogSumExp", "ReduceSumSquare", "ReduceLogSum"])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_by_attribute(op: str, axes: list[int] | None, keep: int) -> None:
    feeds = {"x": np.abs(floats(2, 3, 4)) + 0.5}
    attributes: dict[str, Any] = {"keepdims": keep} | ({"axes": axes} if axes else {})
    check(one_node(op, feeds, opset=11, **attributes), feeds)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str, opset: int, axis: int) -> None:
    if opset < 11 and axis < 0:
        axis = 2
    feeds = {"x": floats(2, 3, 4) * 5}
    check(one_node(op, feeds, opset=opset, axis=axis), feeds)


@pytest.mark.parametrize("value", [300.0, -300.0, np.inf])
def test_softmax_of_large_numbers(value: float) -> None:
    feeds = {"x": np.array([[value, 1, 2], [-np.inf, 0, 1]], np.float32)}
    check(one_node("Softmax", feeds), feeds)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_lrn(size: int) -> None:
    x = floats(2, 7, 3, 4)
    squares = np.stack(
        [(x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1] ** 2).sum(axis=1) for c in range(7)], axis=1
    )
    model = one_node("LRN", {"x": x}, size=size, alpha=0.5, beta=0.6, bias=1.5)
    assert_same(run(model, {"x": x}), [x / (1.5 + 0.5 / size * squares) ** np.float32(0.6)])
    if size % 2:  # onnxruntime takes odd sizes alone
        check(model, {"x": x})


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_batch_normalization(opset: int, shape: tuple[int, ...]) -> None:
    feeds = {"x": floats(*shape)}
    constants = {k: np.abs(floats(3, seed=i)) + 0.1 for i, k in enumerate("sbmv")}
    check(one_node("BatchNormalization", feeds, constants=constants, opset=opset, epsilon=1e-3), feeds)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_layer_normalization_with_statistics(axis: int) -> None:
    feeds = {"x": floats(2, 3, 4) * 3 + 1}
    shape = feeds["x"].shape[axis:]
    constants = {"s": floats(*shape, seed=1), "b": floats(*shape, seed=2)}
    check(
        one_node("LayerNormalization", feeds, constants=constants, outputs=["y", "m", "i"], axis=axis),
        feeds,
        rtol=1e-4,
    )


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -1, 1, 0, 1.7])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_pow_of_constant_exponent(exponent: float, shape: tuple[int, ...]) -> None:
    feeds = {"x": np.abs(floats(2, 3)) + 0.1}
    check(one_node("Pow", feeds, constants={"e": np.full(shape, exponent, np.float32)}), feeds)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [[0, 1, 2, 0, 2, 1], [0, 0, 0, 0, 3, 0], [0, -1, 1, 0, 0, -2]])
@pytest.mark.parametrize("dynamic", [False, True])
def test_pad(mode: str, pads: list[int], dynamic: bool) -> None:
    feeds = {"x": floats(2, 5, 6)}
    shapes = {"x": ["a", "b", "c"]} if dynamic else None
    constants = {"p": np.array(pads)}
    check(one_node("Pad", feeds, constants=constants, shapes=shapes, mode=mode), feeds)


SLICES = [
    (0, 3, 1), (-3, -1, 1), (1, 100, 2), (-1, -100, -1), (4, 0, -2), (2**40, 0, -1), (3, 3, 1), (5, 2, 1),
    (-100, 2**62, 3), (0, -(2**62), -1),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end", "step"), SLICES)
@pytest.mark.parametrize("how", ["static", "dynamic", "run time"])
def test_slice(start: int, end: int, step: int, how: str) -> None:
    feeds = {"x": floats(3, 6)}
    at = {"s": np.array([start]), "e": np.array([end])}
    rest = {"a": np.array([1]), "t": np.array([step])}
    shapes = {"x": ["n", "m"]} if how == "dynamic" else None
    if how == "run time":
        model = one_node("Slice", feeds | at, constants=rest, names=["x", "s", "e", "a", "t"])
        check(model, feeds | at)
    else:
        check(
            one_node("Slice", feeds, constants=at | rest, names=["x", "s", "e", "a", "t"], shapes=shapes),
            feeds,
        )


@pytest.mark.parametrize("index", [[0, 2], [-1, -3], [[0, -1], [1, 1]]])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("constant", [False, True])
def test_gather(index: list[Any], axis: int, constant: bool) -> None:
    feeds = {"x": floats(3, 4, 3)}
    indices = {"i": np.array(index)}
    if constant:
        check(one_node("Gather", feeds, constants=indices, axis=axis), feeds)
    else:
        check(one_node("Gather", feeds | indices, axis=axis), feeds | indices)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.float64, np.float16])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_dtypes(op: str, dtype: type) -> None:
    feeds = {"x": np.array([[7], [120], [3]]).astype(dtype), "z": np.array([2, 5, 100, 3]).astype(dtype)}
    if dtype is np.float16 or np.dtype(dtype).itemsize >= 4:
        check(one_node(op, feeds), feeds, rtol=1e-3 if dtype is np.float16 else 1e-6)
    else:
        fn = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}[op]
        assert_same(run(one_node(op, feeds), feeds), [fn(feeds["x"], feeds["z"])])


def test_early_broadcast_from_an_axis() -> None:
    feeds = {"x": floats(2, 3, 4, 5), "z": floats(3, 4, seed=1)}
    model = one_node("Add", feeds, opset=6, axis=1, broadcast=1)
    assert_same(run(model, feeds), [feeds["x"] + feeds["z"][:, :, None]])


def test_early_attributes_of_clip_squeeze_slice_and_pad() -> None:
    x = floats(1, 4, 5)
    nodes = [
        helper.make_node("Clip", ["x"], ["c"], min=-0.5, max=0.5),
        helper.make_node("Squeeze", ["c"], ["q"], axes=[0]),
        helper.make_node("Slice", ["q"], ["s"], starts=[1, -4], ends=[3, 5], axes=[0, 1]),
        helper.make_node("Pad", ["s"], ["p"], pads=[1, 0, 0, 2], value=7.0),
        helper.make_node("Unsqueeze", ["p"], ["y"], axes=[0, 3]),
    ]
    model = model_of(nodes, [value_info("x", x)], ["y"], opset=9)
    check(model, {"x": x})


@pytest.mark.parametrize(
    ("start", "limit", "delta"), [(0, 5, 1), (5, 0, -2), (3, 3, 1), (0, 7, 3), (-4, 4, 3), (4, 0, 1)]
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_range_of_run_time_values(start: int, limit: int, delta: int, dtype: type) -> None:
    feeds = {k: np.array(v, dtype) for k, v in (("s", start), ("l", limit), ("d", delta))}
    model = one_node("Range", feeds)
    assert_same(run(model, feeds), run_peer(model, feeds))


def test_shapes_that_are_tensors_of_the_run() -> None:
    x = floats(2, 3, 4)
    feeds = {"x": x, "shape": np.array([0, -1, 2])}
    check(one_node("Reshape", feeds), feeds)
    feeds = {"x": x[:1], "shape": np.array([5, 3, 1])}
    check(one_node("Expand", feeds), feeds)
    feeds = {"shape": np.array([2, 0, 3])}
    check(one_node("ConstantOfShape", feeds), feeds)


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "bij,bjk->bik", "ij->ji", "ij->", "bhid,bhjd->bhij", "ij,j", "i,j->ij"]
)
def test_einsum(equation: str) -> None:
    sides = equation.split("->")[0].split(",")
    sizes = {c: 2 + i for i, c in enumerate("bhijkd")}
    feeds = {f"x{i}": floats(*(sizes[c] for c in side), seed=i) for i, side in enumerate(sides)}
    check(one_node("Einsum", feeds, equation=equation), feeds)

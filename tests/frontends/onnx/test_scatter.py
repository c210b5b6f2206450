"""Scatters and the ops written with them: interpreter, compiled form and onnxruntime (or ONNX's reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.compiler.harness import compile_graph
from tests.frontends.onnx.models import Array, assert_same, model_of, one_node, run, run_peer, value_info
from vitrify.errors import IndexOutOfRangeError, InvalidModelError, VitrifyError
from vitrify.frontends.onnx import import_onnx


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(0, 2, shape)).astype(dtype)


def integers(high: int, *shape: int, seed: int = 0, low: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


def compiled(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    graph = import_onnx(model)
    return compile_graph(graph).run(None, {v.name: feeds[v.name] for v in graph.inputs})


def reference(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, dict(feeds))]


def agree(
    model: Any, feeds: Mapping[str, Array], expected: list[Array], rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    assert_same(run(model, feeds), expected, rtol=rtol, atol=atol)
    assert_same(compiled(model, feeds), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(axis: int, reduction: str, constant: bool) -> None:
    x, size = floats(5, 7, 11), (5, 7, 11)[axis]
    shape = (4, 6, 3)
    indices = integers(size, *shape, low=-size)
    if reduction == "none":  # onnxruntime promises no order among duplicates
        indices = np.argsort(floats(*shape, seed=2), axis=axis)
    feeds = {"x": x, "i": indices, "u": floats(*shape, seed=1)}
    constants = {"i": feeds.pop("i")} if constant else {}
    model = one_node(
        "ScatterElements", feeds, constants=constants, names=["x", "i", "u"], opset=18, axis=axis, reduction=reduction
    )
    agree(model, feeds, run_peer(model, feeds))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int32", "uint8", "int64", "bool"])
def test_scatter_elements_dtypes(dtype: str) -> None:
    x, u = floats(6, 9, dtype=dtype), floats(6, 9, seed=1, dtype=dtype)
    indices = np.stack([np.random.default_rng(r).permutation(6) for r in range(9)], 1).astype(np.int32)
    model = one_node("ScatterElements", {"x": x, "i": indices, "u": u}, opset=18)
    feeds = {"x": x, "i": indices, "u": u}
    agree(model, feeds, run_peer(model, feeds))


def test_scatter_elements_in_row_major_order() -> None:
    x, u = np.zeros((2, 3), np.float32), np.arange(1, 13, dtype=np.float32).reshape(2, 6)
    feeds = {"x": x, "i": np.array([[0, 1, 0, 2, 1, 0], [2, 2, 2, 0, 0, 1]]), "u": u}
    model = one_node("ScatterElements", feeds, opset=18, axis=1)
    agree(model, feeds, [np.array([[6, 5, 4], [11, 12, 9]], np.float32)])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize(("depth", "shape"), [(1, (5,)), (2, (3, 2)), (3, (7,)), (1, (0,))])
def test_scatter_nd(depth: int, shape: tuple[int, ...], reduction: str) -> None:
    extents = (6, 5, 17)
    rng = np.random.default_rng(3)
    flat = rng.permutation(int(np.prod(extents[:depth])))[: int(np.prod(shape))]
    if reduction != "none" and flat.size:
        flat = rng.choice(flat, flat.size)
    indices = np.stack(np.unravel_index(flat, extents[:depth]), -1).reshape(*shape, depth)
    indices = np.where(rng.random(indices.shape) < 0.5, indices, indices - np.array(extents[:depth]))
    feeds = {"x": floats(*extents), "i": indices, "u": floats(*shape, *extents[depth:], seed=1)}
    model = one_node("ScatterND", feeds, opset=18, reduction=reduction)
    agree(model, feeds, run_peer(model, feeds))


@pytest.mark.parametrize("reduction", ["add", "mul", "min", "max", "none"])
def test_scatter_of_bools(reduction: str) -> None:
    rng = np.random.default_rng(1)
    feeds = {"x": rng.random(9) < 0.5, "i": rng.integers(0, 9, (12, 1)), "u": rng.random(12) < 0.5}
    model = one_node("ScatterND", feeds, opset=18, reduction=reduction)
    agree(model, feeds, reference(model, feeds))


def test_dynamic_sizes() -> None:
    shapes = {"x": ["n", "d"], "i": ["k", 1], "u": ["k", "d"]}
    feeds = {"x": floats(6, 5), "i": integers(6, 4, 1), "u": floats(4, 5, seed=1)}
    model = one_node("ScatterND", feeds, shapes=shapes, opset=18, reduction="add")
    graph = import_onnx(model)
    session = compile_graph(graph)
    for n, k, d in ((6, 4, 5), (1, 9, 1), (30, 0, 33), (0, 0, 4), (5, 64, 16)):
        fed = {"x": floats(n, d), "i": integers(max(n, 1), k, 1), "u": floats(k, d, seed=1)}
        assert_same(session.run(None, fed), run_peer(model, fed), rtol=1e-5, atol=1e-5)


def test_dynamic_scatter_elements() -> None:
    shapes = {"x": ["n", "m"], "i": ["k", "l"], "u": ["k", "l"]}

    def fed(n: int, m: int, k: int, count: int) -> dict[str, Array]:
        return {"x": floats(n, m), "i": integers(max(n, 1), k, count), "u": floats(k, count, seed=1)}

    model = one_node("ScatterElements", fed(4, 5, 3, 5), shapes=shapes, opset=18, reduction="add")
    session = compile_graph(import_onnx(model))
    for feeds in (fed(4, 5, 3, 5), fed(4, 5, 9, 2), fed(1, 1, 0, 1), fed(70, 40, 60, 33)):
        assert_same(session.run(None, feeds), run_peer(model, feeds), rtol=1e-5, atol=1e-5)
    with pytest.raises(IndexOutOfRangeError):
        session.run(None, fed(4, 5, 3, 6))


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, -2, 3])
def test_tensor_scatter(axis: int, mode: str) -> None:
    cache = floats(3, 9, 8, 10)
    axis_at = axis % 4
    update = np.take(floats(3, 9, 8, 10, seed=1), range(4), axis_at)
    feeds = {"c": cache, "u": update, "w": integers(5, 3)}
    if mode == "circular":
        feeds["w"] = feeds["w"] + cache.shape[axis_at] - 2
    model = one_node("TensorScatter", feeds, opset=24, axis=axis, mode=mode)
    expected = cache.copy()
    for b, start in enumerate(feeds["w"]):
        places = (np.arange(4) + start) % cache.shape[axis_at]
        np.moveaxis(expected[b], axis_at - 1, 0)[places] = np.moveaxis(update[b], axis_at - 1, 0)
    agree(model, feeds, [expected])
    start_free = one_node("TensorScatter", {"c": cache, "u": update}, opset=24, axis=axis, mode=mode)
    expected = cache.copy()
    np.moveaxis(expected, axis_at, 0)[:4] = np.moveaxis(update, axis_at, 0)
    agree(start_free, feeds, [expected])


@pytest.mark.parametrize("strides", [[1, 2], [2, 2], [3, 2]])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]])
def test_max_unpool(strides: list[int], pads: list[int]) -> None:
    kernel = (2, 3)  # and sizes that the pooling covers to the last element
    extents = [(n - 1) * strides[a] + kernel[a] - pads[a] - pads[2 + a] for a, n in enumerate((4, 5))]
    x = floats(2, 3, *extents)
    attributes = {"kernel_shape": list(kernel), "strides": strides, "pads": pads}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["v", "i"], **attributes),
        helper.make_node("MaxUnpool", ["v", "i"], ["y"], **attributes),
    ]
    model = model_of(nodes, [value_info("x", x)], ["y", "i"])
    agree(model, {"x": x}, run_peer(model, {"x": x}))


def _folded(
    x: Array, image: list[int], block: list[int], strides: list[int], dilations: list[int], pads: list[int]
) -> Array:
    """Columns added one element at a time."""
    rank = len(image)
    padded = [image[a] + pads[a] + pads[rank + a] for a in range(rank)]
    counts = [(padded[a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1 for a in range(rank)]
    whole = np.zeros((*x.shape[:1], x.shape[1] // int(np.prod(block)), *padded), x.dtype)
    columns = x.reshape(*whole.shape[:2], *block, *counts)
    for inside in np.ndindex(*block):
        for number in np.ndindex(*counts):
            place = tuple(number[a] * strides[a] + inside[a] * dilations[a] for a in range(rank))
            whole[(slice(None), slice(None), *place)] += columns[(slice(None), slice(None), *inside, *number)]
    return whole[(..., *(slice(pads[a], pads[a] + image[a]) for a in range(rank)))]


@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ([5, 5], [1, 5], {}),
        ([9, 7], [3, 2], {"strides": [2, 1], "dilations": [1, 2]}),
        ([9, 7], [3, 3], {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
        ([4, 5, 6], [1, 2, 3], {"dilations": [1, 2, 1]}),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_col2im(image: list[int], block: list[int], attributes: dict[str, Any], constant: bool) -> None:
    rank = len(image)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    count = 1
    for a in range(rank):
        count *= (image[a] + pads[a] + pads[rank + a] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
    x = floats(2, 3 * int(np.prod(block)), count)
    sizes = {"image": np.array(image), "block": np.array(block)}
    feeds = {"x": x} if constant else {"x": x, **sizes}
    model = one_node("Col2Im", feeds, constants=sizes if constant else {}, opset=18, **attributes)
    expected = _folded(x, image, block, strides, dilations, pads)
    agree(model, feeds, [expected])
    if rank == 2:  # onnxruntime orders the axes of larger blocks otherwise
        assert_same([expected], run_peer(model, feeds))


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "float16"])
def test_reverse_sequence(time: int, dtype: str) -> None:
    feeds = {"x": floats(6, 6, 5, dtype=dtype), "l": np.array([6, 1, 3, 2, 5, 4])}
    model = one_node("ReverseSequence", feeds, time_axis=time, batch_axis=1 - time)
    agree(model, feeds, run_peer(model, feeds))


@pytest.mark.parametrize(("size", "batch"), [(1, ()), (3, ()), (5, (2, 3)), (17, (4,)), (0, (2,))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_det(size: int, batch: tuple[int, ...], dtype: str) -> None:
    x = floats(*batch, size, size, dtype=dtype)
    if size > 2:
        x[..., 0, 0] = 0  # the first pivot lies further down
    model = one_node("Det", {"x": x})
    tolerance = 2e-4 if dtype == "float32" else 1e-9
    expected = np.asarray(np.linalg.det(x.astype(np.float64))).astype(dtype)
    scale = float(np.abs(expected).max(initial=1))
    agree(model, {"x": x}, [expected], rtol=tolerance, atol=tolerance * scale)


def test_det_of_singular_matrices() -> None:
    x = np.ones((3, 4, 4), np.float32)
    x[1] = 0
    x[2] = np.eye(4)
    agree(one_node("Det", {"x": x}), {"x": x}, [np.array([0, 0, 1], np.float32)])


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "message"),
    [
        ("ScatterElements", [(3, 3), (2, 3), (2, 3)], {"axis": 2}, "axis 2 of a tensor of rank 2"),
        ("ScatterElements", [(3, 3), (2, 4), (2, 4)], {}, "axis 1 is too long"),
        ("ScatterElements", [(3, 3), (3,), (3,)], {}, "indices of rank 1"),
        ("ScatterElements", [(3, 3), (2, 3), (2, 2)], {}, "sizes differ|differ"),
        ("ScatterElements", [(3, 3), (2, 3), (2, 3)], {"reduction": "mean"}, "reduction is 'mean'"),
        ("ScatterND", [(3, 3), (2, 3), (2,)], {}, "indices i64"),
        ("ScatterND", [(3, 3), (2, 1), (2, 4)], {}, "sizes differ|differ"),
    ],
)
def test_refused(op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any], message: str) -> None:
    x, i, u = shapes
    feeds = {"x": floats(*x), "i": np.zeros(i, np.int64), "u": floats(*u)}
    with pytest.raises(VitrifyError, match=message):
        import_onnx(one_node(op, feeds, opset=18, **attributes))


@pytest.mark.parametrize("bad", [3, -4, 2**40])
@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_indices_out_of_range(op: str, bad: int) -> None:
    i = np.array([[0, 1, bad]]) if op == "ScatterElements" else np.array([[0], [bad]])
    feeds = {"x": floats(3, 3), "u": floats(*(i.shape if op == "ScatterElements" else (2, 3)))}
    model = one_node(op, {**feeds, "i": i}, names=["x", "i", "u"], opset=18)
    with pytest.raises(IndexError, match=op):
        run(model, {**feeds, "i": i})
    with pytest.raises(IndexOutOfRangeError, match=op):
        compiled(model, {**feeds, "i": i})
    if abs(bad) < 2**31:
        with pytest.raises(InvalidModelError, match="indices"):
            import_onnx(one_node(op, feeds, constants={"i": i}, names=["x", "i", "u"], opset=18))


def test_more_refused() -> None:
    x, lengths = floats(3, 4), np.array([2, 2, 9])
    refused = {
        "lengths": one_node("ReverseSequence", {"x": x}, constants={"l": lengths}, time_axis=1, batch_axis=0),
        "time_axis": one_node("ReverseSequence", {"x": x, "l": np.array([1, 2, 3])}, time_axis=0, batch_axis=0),
        "differ": one_node("Det", {"x": x}),
        "axis is 0": one_node("TensorScatter", {"c": floats(2, 3), "u": floats(2, 1)}, opset=24, axis=0),
        "longer than": one_node("TensorScatter", {"c": floats(2, 3, 4), "u": floats(2, 5, 4)}, opset=24),
        "kernel_shape": one_node(
            "MaxUnpool", {"x": floats(1, 1, 2, 2), "i": integers(9, 1, 1, 2, 2)}, kernel_shape=[2]
        ),
    }
    for message, model in refused.items():
        with pytest.raises(VitrifyError, match=message):
            import_onnx(model)
    for bad in (-1, 9):
        model = one_node("ReverseSequence", {"x": x, "l": lengths}, time_axis=1, batch_axis=0)
        with pytest.raises(IndexOutOfRangeError):
            compiled(model, {"x": x, "l": np.array([1, bad, 2]) if bad > 0 else np.array([1, 5, 2])})

"""QDQ graphs multiply integers: which ones, and that results are as near as floats allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.compiler.harness import compile_graph
from vitrify.frontends.onnx import import_onnx
from vitrify.ir import graph as g
from vitrify.ir.dtypes import F32, I32
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.pipeline import Level, optimize

Array = np.ndarray[Any, Any]


def qdq(
    op: str, x: tuple[int | str, ...], weights: Array, scales: Array, points: Array, axis: int, *,
    point: int = 130, quantize: bool = True, dtype: Any = np.uint8, **attributes: Any,
) -> g.Graph:  # fmt: skip
    """``Q(op(DQ(x), DQ(w)))``."""
    constants = {
        "xs": np.float32(0.02), "xz": dtype(point), "w": weights, "ws": scales, "wz": points, "ys": np.float32(0.7),
        "yz": np.uint8(120),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["b"], axis=axis),
        helper.make_node(op, ["a", "b"], ["c"], **attributes),
    ]
    last, kind = "c", TensorProto.FLOAT
    if quantize:
        nodes.append(helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["y"]))
        last, kind = "y", TensorProto.UINT8
    made = helper.make_graph(
        nodes, "qdq", [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), x)],
        [helper.make_tensor_value_info(last, kind, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph = import_onnx(model)
    verify(graph)
    return graph


def products(graph: g.Graph) -> list[Any]:
    return [node.op.dtype for node in graph.walk() if isinstance(node.op, g.Contract)]


def whole(dtype: Any, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(0).integers(info.min, info.max, shape, endpoint=True).astype(dtype)


PER_COLUMN = np.linspace(0.01, 0.03, 12).astype(np.float32)
ONE = np.float32(0.02)
GRAPHS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "matmul": (lambda q: qdq("MatMul", (5, 33), whole(np.int8, 33, 12), ONE, np.int8(0), 1, quantize=q), (5, 33)),
    "columns": (
        lambda q: qdq("MatMul", (2, 5, 33), whole(np.uint8, 33, 12), PER_COLUMN, whole(np.uint8, 12), 1, quantize=q),
        (2, 5, 33),
    ),
    "gemm": (
        lambda q: qdq(
            "Gemm", (5, 33), whole(np.int8, 12, 33), PER_COLUMN, np.zeros(12, np.int8), 0, quantize=q, transB=1
        ),
        (5, 33),
    ),
    "conv": (
        lambda q: qdq(
            "Conv", (1, 4, 9, 8), whole(np.int8, 12, 4, 3, 3), PER_COLUMN, np.zeros(12, np.int8), 0, quantize=q,
            pads=[1, 2, 1, 0],
        ),
        (1, 4, 9, 8),
    ),
    "groups": (
        lambda q: qdq(
            "Conv", (2, 4, 9, 8), whole(np.int8, 12, 2, 3, 3), PER_COLUMN, np.zeros(12, np.int8), 0, quantize=q,
            pads=[1, 1, 1, 1], group=2, strides=[2, 2],
        ),
        (2, 4, 9, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_products_are_of_integers(name: str) -> None:
    make, shape = GRAPHS[name]
    feeds = {"x": whole(np.uint8, *shape)}
    floats = make(False)
    found = optimize(floats, Level.ALL)
    verify(found)
    assert products(found) == [I32] and products(floats) == [F32]
    want, got = interpret(floats, feeds)[0], interpret(found, feeds)[0]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * float(np.abs(want).max()))
    bytes_ = make(True)
    session = compile_graph(bytes_)
    a, b = session.run(None, feeds)[0], interpret(bytes_, feeds)[0]
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1 and (a == b).mean() > 0.99
    np.testing.assert_array_equal(a, interpret(optimize(bytes_, Level.ALL), feeds)[0])


def test_basic_level_keeps_floats() -> None:
    assert products(optimize(GRAPHS["matmul"][0](True), Level.BASIC)) == [F32]


@pytest.mark.parametrize(
    "graph",
    [
        lambda: qdq("MatMul", (5, 70000), np.full((70000, 2), 127, np.int8), ONE, np.int8(0), 1),  # sums may overflow
        lambda: qdq("Conv", (1, 4, 9, 8), whole(np.int8, 4, 1, 3, 3), ONE, np.int8(0), 0, group=4),  # depthwise
        lambda: qdq("MatMul", (5, 33), whole(np.int8, 33, 12), np.linspace(0.1, 0.2, 33, dtype=np.float32),
                    np.zeros(33, np.int8), 0),  # scales along the sum
    ],
)  # fmt: skip
def test_others_stay_floats(graph: Any) -> None:
    assert products(optimize(graph(), Level.ALL)) == [F32]

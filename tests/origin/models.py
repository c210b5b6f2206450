"""Models that artifacts of these tests are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

ALL_TARGETS = ("x86-64-v3", "x86-64-v4", "aarch64", "macos-aarch64", "macos-x86_64", "windows-x86_64")


def _weights(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).integers(-99, 99, shape) / 64).astype(np.float32)


def _model(graph: onnx.GraphProto, **metadata: str) -> onnx.ModelProto:
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9, producer_name="tests")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model


def dense(size: int = 5, seed: int = 0) -> onnx.ModelProto:
    """A product, and an output of integers beside it."""
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["y"]), h.make_node("Relu", ["y"], ["z"]),
        h.make_node("ArgMax", ["z"], ["i"], axis=1),
    ]  # fmt: skip
    inputs = [h.make_tensor_value_info("x", T.FLOAT, ["N", 7])]
    outputs = [h.make_tensor_value_info("z", T.FLOAT, ["N", size]), h.make_tensor_value_info("i", T.INT64, ["N", 1])]
    constants = [numpy_helper.from_array(_weights(7, size, seed=seed), "w")]
    return _model(h.make_graph(nodes, "dense", inputs, outputs, constants), license="Apache-2.0", author="nobody")


def convolutions() -> onnx.ModelProto:
    """Two convolutions, the second over so many channels that its weights are packed, and a mean."""
    nodes = [
        h.make_node("Conv", ["x", "a"], ["p"], pads=[1, 1, 1, 1]), h.make_node("Sigmoid", ["p"], ["q"]),
        h.make_node("Conv", ["q", "b"], ["r"], pads=[1, 1, 1, 1]), h.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]  # fmt: skip
    inputs = [h.make_tensor_value_info("x", T.FLOAT, ["N", 3, 9, 11])]
    outputs = [h.make_tensor_value_info("y", T.FLOAT, ["N", 16, 1, 1])]
    constants = [
        numpy_helper.from_array(_weights(16, 3, 3, 3), "a"), numpy_helper.from_array(_weights(16, 16, 3, 3), "b")
    ]  # fmt: skip
    return _model(h.make_graph(nodes, "convolutions", inputs, outputs, constants))


def external(folder: Path) -> Path:
    """A model whose weights lie beside it."""
    path = folder / "external.onnx"
    onnx.save(dense(64), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def sequences() -> onnx.ModelProto:
    """With a part that sessions run in Python."""
    nodes = [h.make_node("SplitToSequence", ["x"], ["s"], axis=0), h.make_node("Exp", ["x"], ["y"])]
    inputs = [h.make_tensor_value_info("x", T.FLOAT, [3, 2])]
    outputs = [
        h.make_tensor_sequence_value_info("s", T.FLOAT, None), h.make_tensor_value_info("y", T.FLOAT, [3, 2])
    ]  # fmt: skip
    return _model(h.make_graph(nodes, "sequences", inputs, outputs))

"""Small models, and what the front makes of them, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from vitrify.frontends.onnx import import_onnx
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify

Array = np.ndarray[Any, Any]
Shape = Sequence[int | str | None]


def value_info(name: str, array: Array, shape: Shape | None = None) -> onnx.ValueInfoProto:
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, code, array.shape if shape is None else shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        list(inputs),
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def one_node(
    op: str,
    feeds: Mapping[str, Array],
    *,
    constants: Mapping[str, Array] | None = None,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] = ("y",),
    shapes: Mapping[str, Shape] | None = None,
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """One op. ``names`` orders its inputs where some are constants or left out."""
    ordered = list(names) if names is not None else [*feeds, *(constants or {})]
    node = helper.make_node(op, ordered, list(outputs), "node", **attributes)
    inputs = [value_info(k, v, (shapes or {}).get(k)) for k, v in feeds.items()]
    return model_of([node], inputs, [o for o in outputs if o], constants, opset)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], **options: Any) -> list[Array]:
    graph = import_onnx(model, **options)
    verify(graph)
    return interpret(graph, {v.name: feeds[v.name] for v in graph.inputs})


def run_peer(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_typed(model), options)
    return [np.asarray(v) for v in session.run(None, dict(feeds))]


def _typed(model: onnx.ModelProto) -> bytes:
    """The model with the types of its outputs, which onnxruntime wants declared."""
    inferred = onnx.shape_inference.infer_shapes(model)
    data: bytes = inferred.SerializeToString()
    return data


def assert_same(got: Sequence[Array], expected: Sequence[Array], *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Every element, NaN equal to NaN alone."""
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        assert a.shape == b.shape, (a.shape, b.shape)
        exact = a.dtype.kind in "biu"
        wide = (a, b) if exact else (a.astype(np.float64), b.astype(np.float64))
        np.testing.assert_allclose(*wide, rtol=0 if exact else rtol, atol=0 if exact else atol)


def check(model: onnx.ModelProto, feeds: Mapping[str, Array], *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    assert_same(run(model, feeds), run_peer(model, feeds), rtol=rtol, atol=atol)

"""The interpreter, the compiled model and onnxruntime hold the same of one node."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from tests.compiler.harness import COMPILER
from tests.frontends.onnx.models import Array, Shape, assert_same, run, value_info
from vitrify.compiler import build_artifact
from vitrify.frontends.onnx import import_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.session import Session

MICROSOFT = "com.microsoft"


def node_model(
    op: str,
    feeds: Mapping[str, Array | None],
    outputs: Sequence[str] = ("y",),
    *,
    opset: int = 17,
    shapes: Mapping[str, Shape] | None = None,
    types: Mapping[str, np.dtype[Any]] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node over ``feeds`` in this order, None for what is left out. Results have the first input's type."""
    names = [name if array is not None else "" for name, array in feeds.items()]
    given = {name: array for name, array in feeds.items() if array is not None}
    node = helper.make_node(op, names, list(outputs), "node", **attributes)
    inputs = [value_info(k, v, (shapes or {}).get(k)) for k, v in given.items()]
    first = next(iter(given.values())).dtype
    results = [
        helper.make_tensor_value_info(o, helper.np_dtype_to_tensor_dtype((types or {}).get(o, first)), None)
        for o in outputs
        if o
    ]
    graph = helper.make_graph([node], "test", inputs, results)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def fed(feeds: Mapping[str, Array | None]) -> dict[str, Array]:
    return {name: array for name, array in feeds.items() if array is not None}


def compiled(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    graph = import_onnx(model)
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        session = Session(build_artifact(graph, Path(folder, "model"), CompileOptions(), compiler=COMPILER))
        return list(session.run(None, dict(feeds)))


def peer(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(v) for v in session.run(None, dict(feeds))]


def agree(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array | None],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    expected: Sequence[Array] | None = None,
) -> None:
    """``expected`` stands for onnxruntime's results where it has no kernel."""
    given = fed(feeds)
    right = peer(model, given) if expected is None else expected
    assert_same(run(model, given), right, rtol=rtol, atol=atol)
    assert_same(compiled(model, given), right, rtol=rtol, atol=atol)

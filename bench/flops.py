"""Floating-point operations of a model: those of its contractions, two for each multiply-add."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference

Shapes = Mapping[str, list[int]]


def model_flops(model: bytes | Path, inputs: Mapping[str, np.ndarray]) -> int:
    """For ``inputs``' shapes; 0 where shapes depend on what is computed."""
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    for value in proto.graph.input:
        if value.name in inputs:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, inputs[value.name].shape, strict=False):
                dim.dim_value = size
    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    shapes |= {t.name: list(t.dims) for t in inferred.initializer}
    return sum(_node_flops(node, shapes) for node in inferred.node)


def _node_flops(node: onnx.NodeProto, shapes: Shapes) -> int:
    result = shapes.get(node.output[0], [0])
    if node.op_type == "Conv":
        return 2 * math.prod(result) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2 * math.prod(result) * shapes.get(node.input[0], [0, 0])[0 if transposed else 1]
    if node.op_type == "MatMul":
        return 2 * math.prod(result) * shapes.get(node.input[0], [0])[-1]
    return 0

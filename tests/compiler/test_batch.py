"""The same bits for a request alone and inside a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import vitrify

RANDOM = np.random.default_rng(0)
Array = np.ndarray[Any, Any]


def model(nodes: list[Any], x: list[int | str], **weights: Array) -> bytes:
    held = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", T.FLOAT, x)],
        [helper.make_tensor_value_info("y", T.FLOAT, None)], held,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


MODELS = {
    "perceptron": lambda: model(
        [helper.make_node("Gemm", ["x", "w", "b"], ["a"]), helper.make_node("Tanh", ["a"], ["c"]),
         helper.make_node("MatMul", ["c", "v"], ["y"])],
        ["n", 96], w=RANDOM.normal(size=(96, 200)), b=RANDOM.normal(size=200), v=RANDOM.normal(size=(200, 10)),
    ),
    "convolution": lambda: model(
        [helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["a"], ["b"]),
         helper.make_node("GlobalAveragePool", ["b"], ["c"]), helper.make_node("Softmax", ["c"], ["y"], axis=1)],
        ["n", 32, 14, 14], w=RANDOM.normal(size=(48, 32, 3, 3)),
    ),
    "normalisation": lambda: model(
        [helper.make_node("LayerNormalization", ["x", "w"], ["y"])], ["n", 7, 384], w=RANDOM.normal(size=384)
    ),
    "attention": lambda: model(
        [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), helper.make_node("MatMul", ["x", "t"], ["s"]),
         helper.make_node("Softmax", ["s"], ["p"]), helper.make_node("MatMul", ["p", "x"], ["y"])],
        ["n", 33, 64],
    ),
}  # fmt: skip


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_alone_or_together(name: str, bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    options = vitrify.CompileOptions(batch_invariant=True, bf16=bf16)
    session = vitrify.InferenceSession(MODELS[name](), compile_options=options)
    sizes = [d if isinstance(d, int) else 37 for d in session.get_inputs()[0].shape]
    x = RANDOM.normal(size=sizes).astype(np.float32)
    together = session.run(None, {"x": x})[0]
    for size in (1, 2, 7, 36):
        parts = [session.run(None, {"x": x[i : i + size]})[0] for i in range(0, len(x), size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_specialised_forms_are_refused() -> None:
    with pytest.raises(vitrify.InvalidArgumentError, match="batch_invariant"):
        vitrify.CompileOptions(batch_invariant=True, specialize=({"x": (1, 96)},))

"""Attention and what takes its place: forms, sizes and refusals beyond the suite's cases."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.compiler.harness import COMPILER
from tests.frontends.onnx.agreement import agree, compiled, fed, node_model
from tests.frontends.onnx.models import assert_same, run
from vitrify.compiler import build_artifact
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx import import_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array | None]


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def reference(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, fed(feeds))]


def same(op: str, feeds: Feeds, *outputs: str, opset: int = 24, rtol: float = 1e-5, **options: Any) -> None:
    model = node_model(op, feeds, outputs or ("y",), opset=opset, **options)
    agree(model, feeds, rtol=rtol, atol=max(1e-5, rtol), expected=reference(model, feeds))


def heads(query: int, keys: int, *, heads: int = 4, shared: int = 2, size: int = 8, dtype: Any = np.float32) -> Feeds:
    return {
        "q": floats(2, heads, query, size, dtype=dtype),
        "k": floats(2, shared, keys, size, seed=1, dtype=dtype),
        "v": floats(2, shared, keys, size + 3, seed=2, dtype=dtype),
    }


@pytest.mark.parametrize(("query", "keys"), [(1, 1), (7, 7), (1, 33), (5, 3), (0, 3), (17, 40)])
@pytest.mark.parametrize("causal", [0, 1])
def test_sizes(query: int, keys: int, causal: int) -> None:
    same("Attention", heads(query, keys), is_causal=causal)


def test_no_keys_give_zeros() -> None:
    feeds = heads(3, 0)
    model = node_model("Attention", feeds, opset=24)
    agree(model, feeds, expected=[np.zeros((2, 4, 3, 11), np.float32)])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.bool_, np.float32])
@pytest.mark.parametrize("short", [False, True])
def test_masks(rank: int, kind: Any, short: bool) -> None:
    shape = (2, 4, 5, 6 if short else 9)[4 - rank :]
    mask = floats(*shape, seed=5)
    feeds = heads(5, 9) | {"mask": mask > 0 if kind is np.bool_ else mask}
    same("Attention", feeds, is_causal=int(rank == 4))


@pytest.mark.parametrize("mode", range(4))
def test_rows_without_a_key(mode: int) -> None:
    mask = np.ones((5, 9), np.bool_)
    mask[[0, 3]] = False
    feeds = heads(5, 9) | {"mask": mask}
    softcap = 2.0 if mode else 0.0  # the reference gives capped scores as raw ones
    same("Attention", feeds, "y", "", "", "qk", qk_matmul_output_mode=mode, softcap=softcap)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes(dtype: Any) -> None:
    feeds = heads(5, 9, dtype=dtype)
    same("Attention", feeds, rtol=1e-2 if dtype is np.float16 else 1e-9, is_causal=1)
    same("Attention", feeds, rtol=1e-2 if dtype is np.float16 else 1e-5, softmax_precision=1)


def test_bf16() -> None:
    narrow = heads(5, 9, dtype=ml_dtypes.bfloat16)
    wide: Feeds = {name: np.asarray(array, np.float32) for name, array in narrow.items()}
    (exact,) = reference(node_model("Attention", wide, opset=24, is_causal=1), wide)
    model = node_model("Attention", narrow, opset=24, is_causal=1)
    agree(model, narrow, rtol=2**-6, atol=2**-6, expected=[exact.astype(ml_dtypes.bfloat16)])


@pytest.mark.parametrize("past", [0, 1, 6])
@pytest.mark.parametrize("windows", [(-1, -1), (2, 0), (1, 1), (0, 3)])
def test_past_and_windows(past: int, windows: tuple[int, int]) -> None:
    feeds = heads(3, 3) | {"mask": None, "pk": floats(2, 2, past, 8, seed=6), "pv": floats(2, 2, past, 11, seed=7)}
    left, right = windows
    options = {"left_window_size": left, "right_window_size": right}
    same("Attention", feeds, "y", "present_k", "present_v", opset=25, is_causal=int(right == 0), **options)


@pytest.mark.parametrize("causal", [0, 1])
def test_valid_keys(causal: int) -> None:
    feeds = heads(4, 9) | {"mask": None, "pk": None, "pv": None, "valid": np.array([9, 2], np.int64)}
    same("Attention", feeds, is_causal=causal)


def test_sizes_of_the_run() -> None:
    """One model, several lengths of past and query."""
    shapes: dict[str, Any] = {name: [2, 2, "steps", 8] for name in "qkv"}
    shapes |= {name: [2, 2, "past", 8] for name in ("pk", "pv")}
    first = {name: floats(2, 2, 3, 8) for name in "qkv"}
    feeds: Feeds = first | {"mask": None, "pk": floats(2, 2, 4, 8), "pv": floats(2, 2, 4, 8)}
    model = node_model("Attention", feeds, ("y", "a", "b"), opset=23, shapes=shapes, is_causal=1)
    for steps, past in ((1, 0), (5, 2), (1, 17)):
        given = {name: floats(2, 2, steps, 8, seed=i) for i, name in enumerate("qkv")}
        given |= {name: floats(2, 2, past, 8, seed=9) for name in ("pk", "pv")}
        expected = reference(model, dict(given))
        assert_same(run(model, given), expected)
        assert_same(compiled(model, given), expected)


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_linear_attention(rule: str, steps: int) -> None:
    feeds: Feeds = {
        "q": floats(2, steps, 12),
        "k": floats(2, steps, 6, seed=1),
        "v": floats(2, steps, 10, seed=2),
        "past": floats(2, 2, 3, 5, seed=3),
        "decay": -np.abs(floats(2, steps, 2, seed=4)) if "gated" in rule else None,
        "beta": np.abs(floats(2, steps, 2, seed=5)) if "delta" in rule else None,
    }
    options = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule}
    same("LinearAttention", feeds, "y", "state", opset=27, rtol=1e-4, **options)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("past", [False, True])
def test_causal_convolution(size: int, length: int, past: bool) -> None:
    feeds: Feeds = {"x": floats(2, 3, length), "w": floats(3, 1, size, seed=1), "b": floats(3, seed=2)}
    if past:
        feeds["past"] = floats(2, 3, size - 1, seed=3)
    same("CausalConvWithState", feeds, "y", "state", opset=27, activation="silu")


@pytest.mark.parametrize("causal", [0, 1])
def test_bits_for_any_number_of_threads(causal: int) -> None:
    feeds = heads(131, 67, size=37)
    graph = import_onnx(node_model("Attention", feeds, opset=24, is_causal=causal))
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        artifact = build_artifact(graph, Path(folder, "model"), CompileOptions(), compiler=COMPILER)
        found = set()
        for threads in (1, 2, 5):
            options = SessionOptions()
            options.intra_op_num_threads = threads
            found.add(Session(artifact, options).run(None, fed(feeds))[0].tobytes())
    assert len(found) == 1


def test_a_modifier_reads_what_is_around_it() -> None:
    """Graphs of attributes see the names of the graph that holds them."""
    value = helper.make_tensor_value_info("s", 1, None)
    out = helper.make_tensor_value_info("t", 1, None)
    graph = helper.make_graph([helper.make_node("Add", ["s", "bias"], ["t"])], "modifier", [value], [out])
    feeds: Feeds = heads(5, 6)
    node = helper.make_node("FlexAttention", list("qkv"), ["y"], domain="ai.onnx.preview", score_mod=graph)
    given = fed(feeds) | {"bias": floats(5, 6, seed=8)}
    inputs = [helper.make_tensor_value_info(k, 1, v.shape) for k, v in given.items()]
    body = helper.make_graph([node], "test", inputs, [helper.make_tensor_value_info("y", 1, None)])
    imports = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview", 1)]
    model = helper.make_model(body, opset_imports=imports, ir_version=10)
    plain = node_model("Attention", feeds | {"mask": given["bias"]}, opset=24)
    expected = reference(plain, feeds | {"mask": given["bias"]})
    assert_same(run(model, given), expected)
    assert_same(compiled(model, given), expected)


@pytest.mark.parametrize(
    ("feeds", "attributes", "message"),
    [
        (heads(3, 4, heads=3), {}, "heads"),
        (heads(3, 4) | {"v": floats(2, 2, 5, 8)}, {}, "sizes differ"),
        (heads(3, 4) | {"k": floats(2, 2, 4, 7)}, {}, "sizes differ"),
        (heads(3, 4) | {"k": floats(3, 2, 4, 8)}, {}, "sizes differ"),
        (heads(3, 4) | {"mask": floats(3, 5)}, {}, "mask"),
        (heads(3, 4) | {"m": None, "pk": floats(2, 2, 1, 8)}, {}, "together"),
        (heads(3, 4), {"qk_matmul_output_mode": 4}, "not 0 to 3"),
        (heads(3, 4), {"softmax_precision": 6}, "no float type"),
        (heads(3, 4), {"left_window_size": -2}, "windows"),
        (heads(3, 4), {"q_num_heads": 4}, "rank 4"),
        ({name: floats(2, 3, 8) for name in "qkv"}, {}, "rank 3"),
        ({name: floats(2, 3, 8) for name in "qkv"}, {"q_num_heads": 3, "kv_num_heads": 3}, "in 3 heads"),
    ],
)
def test_bad_attention(feeds: Feeds, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        run(node_model("Attention", feeds, opset=25, **attributes), fed(feeds))


@pytest.mark.parametrize(
    ("op", "feeds", "attributes", "message"),
    [
        ("RotaryEmbedding", {"x": floats(1, 2, 8), "c": floats(1, 2, 4), "s": floats(1, 2, 4)}, {}, "heads"),
        ("RotaryEmbedding", {"x": floats(1, 1, 2, 8), "c": floats(1, 2, 3), "s": floats(1, 2, 3)}, {}, "sizes differ"),
        ("RotaryEmbedding", {"x": floats(1, 1, 2, 7), "c": floats(1, 2, 3), "s": floats(1, 2, 3)}, {}, "even"),
        ("CausalConvWithState", {"x": floats(1, 3, 5), "w": floats(2, 1, 3)}, {}, "sizes differ"),
        ("CausalConvWithState", {"x": floats(1, 3, 5), "w": floats(3, 1, 3)}, {"activation": "relu"}, "activation"),
        ("LinearAttention", {n: floats(1, 2, 4) for n in "qkv"}, {"q_num_heads": 2, "kv_num_heads": 2}, "decay"),
        ("SwiGLU", {"a": floats(2, 3), "b": floats(2, 4)}, {}, "sizes differ"),
    ],
)
def test_bad_input(op: str, feeds: Feeds, attributes: dict[str, Any], message: str) -> None:
    outputs = ("y", "state") if op in ("LinearAttention", "CausalConvWithState") else ("y",)
    with pytest.raises(InvalidModelError, match=message):
        run(node_model(op, feeds, outputs, opset=28, **attributes), fed(feeds))

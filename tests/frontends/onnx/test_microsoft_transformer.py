"""Activations, normalisations, embeddings and fused products of com.microsoft against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.agreement import MICROSOFT, agree, fed, node_model
from tests.frontends.onnx.models import run
from vitrify.errors import InvalidModelError, UnsupportedError

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def same(op: str, feeds: dict[str, Array | None], *outputs: str, **options: Any) -> None:
    agree(node_model(op, feeds, outputs or ("y",), domain=MICROSOFT, **options), feeds)


SHAPES = [(2, 3, 8), (1, 1, 1), (3, 0, 7), (5, 17)]


@pytest.mark.parametrize("shape", SHAPES)
def test_activations(shape: tuple[int, ...]) -> None:
    x, bias = floats(*shape) * 3, floats(shape[-1], seed=1)
    for op in ("Gelu", "FastGelu", "QuickGelu"):
        same(op, {"x": x})
    same("QuickGelu", {"x": x}, alpha=0.5)
    same("FastGelu", {"x": x, "b": bias})
    same("BiasGelu", {"x": x, "b": bias})


def test_biases_without_a_peer() -> None:
    x, bias, skip = floats(2, 3, 8), floats(8, seed=1), floats(2, 3, 8, seed=2)
    feeds: dict[str, Array | None] = {"x": x, "b": bias, "s": skip}
    agree(node_model("BiasAdd", feeds, domain=MICROSOFT), feeds, expected=[x + bias + skip])
    feeds = {"x": x, "b": bias}
    left, right = np.split(x + bias, 2, -1)
    from math import erf

    gelu = right * 0.5 * (1 + np.vectorize(erf)(right / np.sqrt(2)))
    agree(node_model("BiasSplitGelu", feeds, domain=MICROSOFT), feeds, expected=[(left * gelu).astype(np.float32)])


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 1, 1), (2, 5, 33), (4, 16)])
@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_normalization(op: str, shape: tuple[int, ...]) -> None:
    simple = op == "SkipSimplifiedLayerNormalization"
    feeds: dict[str, Array | None] = {"x": floats(*shape), "s": floats(*shape, seed=1), "g": floats(shape[-1], seed=2)}
    same(op, feeds, epsilon=1e-5)
    bias = floats(shape[-1], seed=4)
    full = feeds | ({"b": bias} if simple else {"beta": floats(shape[-1], seed=3), "b": bias})
    same(op, full, "y", "", "", "sum", epsilon=0.01)


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_normalization_of_halves(op: str) -> None:
    shapes = {"x": (2, 3, 8), "s": (2, 3, 8), "g": (8,)}
    feeds: dict[str, Array | None] = {
        k: floats(*s, seed=i).astype(np.float16) for i, (k, s) in enumerate(shapes.items())
    }
    agree(node_model(op, feeds, domain=MICROSOFT), feeds, rtol=4e-3, atol=2e-3)


@pytest.mark.parametrize("skip", [(1, 3, 8), (3, 8)])
def test_a_skip_without_batch(skip: tuple[int, ...]) -> None:
    feeds: dict[str, Array | None] = {"x": floats(2, 3, 8), "s": floats(*skip, seed=1), "g": floats(8, seed=2)}
    same("SkipLayerNormalization", feeds)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_before_opset_17(axis: int) -> None:
    feeds: dict[str, Array | None] = {"x": floats(2, 3, 7), "g": floats(7, seed=1)}
    if axis == 1:
        feeds["g"] = floats(3, 7, seed=1)
    for op in ("LayerNormalization", "SimplifiedLayerNormalization"):
        agree(
            node_model(op, feeds, ("y", "", "inverse") if op[0] == "L" else ("y", "inverse"), axis=axis, opset=13),
            feeds,
        )


@pytest.mark.parametrize("positions", [None, 1, 2])
@pytest.mark.parametrize("segments", [False, True])
def test_embedding(positions: int | None, segments: bool) -> None:
    random = np.random.default_rng(0)
    feeds: dict[str, Array | None] = {
        "ids": random.integers(0, 11, (2, 5)).astype(np.int32),
        "segments": random.integers(0, 2, (2, 5)).astype(np.int32) if segments else None,
        "words": floats(11, 9),
        "positions": floats(7, 9, seed=1),
        "table": floats(2, 9, seed=2) if segments else None,
        "gamma": floats(9, seed=3),
        "beta": floats(9, seed=4),
        "mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    }
    if positions is not None:
        feeds["at"] = random.integers(0, 7, (positions, 5)).astype(np.int32)
    types = {"y": np.dtype(np.float32), "count": np.dtype(np.int32), "sum": np.dtype(np.float32)}
    same("EmbedLayerNormalization", feeds, "y", "count", "sum", types=types)


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((3, 4), (4, 5), {"alpha": 0.5}),
        ((4, 3), (4, 5), {"transA": 1}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1, "alpha": -2.0}),
        ((2, 4, 3), (5, 4), {"transA": 1, "transB": 1}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((4, 2, 3), (2, 4, 5), {"transBatchA": 1, "transA": 1}),
        ((2, 3, 4), (4, 2, 5), {"transBatchB": 1}),
        ((0, 4), (4, 5), {"alpha": 0.5}),
    ],
)
def test_fused_matmul(a: tuple[int, ...], b: tuple[int, ...], attributes: dict[str, Any]) -> None:
    same("FusedMatMul", {"a": floats(*a), "b": floats(*b, seed=1)}, **attributes)


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [
        ("Relu", []),
        ("Sigmoid", []),
        ("Tanh", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 0.5]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
def test_fused_conv(activation: str, parameters: list[float]) -> None:
    feeds: dict[str, Array | None] = {"x": floats(2, 3, 7, 5), "w": floats(4, 3, 3, 3, seed=1), "b": floats(4, seed=2)}
    attributes: dict[str, Any] = {"activation": activation, "pads": [1, 1, 1, 1], "strides": [2, 1]}
    if parameters:
        attributes["activation_params"] = parameters
    same("FusedConv", feeds, **attributes)
    same("FusedConv", feeds | {"z": floats(2, 4, 4, 5, seed=3)}, **attributes)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_fused_gemm(activation: str) -> None:
    feeds: dict[str, Array | None] = {"a": floats(5, 3), "b": floats(4, 5, seed=1), "c": floats(4, seed=2)}
    same("FusedGemm", feeds, transA=1, transB=1, alpha=0.5, beta=2.0, activation=activation, activation_alpha=0.25)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 5, 5), (0, 3, 3)])
def test_inverse(shape: tuple[int, ...]) -> None:
    """The first row has a zero on the diagonal, so that rows are exchanged."""
    x = floats(*shape)
    if shape[-1] > 1:
        x[..., 0, 0] = 0
    expected = np.linalg.inv(x)
    agree(node_model("Inverse", {"x": x}, domain=MICROSOFT), {"x": x}, rtol=1e-3, atol=1e-4, expected=[expected])


def test_triangle() -> None:
    same("Trilu", {"x": floats(2, 4, 5), "k": np.array(1, np.int64)}, upper=0)


@pytest.mark.parametrize(
    ("op", "feeds", "attributes", "message"),
    [
        ("BiasGelu", {"x": floats(2, 3), "b": floats(4)}, {}, "sizes differ"),
        ("BiasGelu", {"x": floats(2, 3)}, {}, "input 1 is missing"),
        ("SkipLayerNormalization", {"x": floats(2, 3, 4), "s": floats(2, 2, 4), "g": floats(4)}, {}, "sizes differ"),
        ("FusedMatMul", {"a": floats(2, 3), "b": floats(4, 5)}, {}, "sizes differ"),
        ("FusedMatMul", {"a": floats(2, 3), "b": floats(3, 5)}, {"transBatchA": 1}, "transBatchA"),
        ("FusedConv", {"x": floats(1, 2, 5), "w": floats(3, 2, 3)}, {"activation": "Clip"}, "parameters"),
    ],
)
def test_bad_input(op: str, feeds: dict[str, Array | None], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        run(node_model(op, feeds, domain=MICROSOFT, **attributes), fed(feeds))


def test_unknown_activation() -> None:
    feeds: dict[str, Array | None] = {"x": floats(1, 2, 5), "w": floats(3, 2, 3)}
    with pytest.raises(UnsupportedError, match="activation"):
        run(node_model("FusedConv", feeds, domain=MICROSOFT, activation="Swoosh"), fed(feeds))

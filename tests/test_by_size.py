"""Open dims that meet: equal in the compiled form, and 1 where a feed broadcasts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx.parser import parse_model

import vitrify
from vitrify import CompileOptions, InferenceSession, RunOptions, SessionOptions
from vitrify.errors import InvalidArgumentError, ShapeError

HEADER = '<ir_version: 10, opset_import: ["": 21]>\nmodel '
SUM = "(float[a] x, float[b] y) => (float[c] z) { z = Add(x, y) }"
MODELS = {
    "sum": (SUM, "x y", 1),
    "unnamed": ("(float[N,?] x, float[?,M] y) => (float[P,Q] z) { s = Sub(x, y)  z = Tanh(s) }", "x y", 2),
    "three": (
        "(float[a,b] x, float[c,d] y, float[e,f] w) => (float[g,h] z) { s = Mul(x, y)  z = Add(s, w) }", "x y w", 2
    ),
    "same": ("(float[a,b] x, float[a,b] y) => (float[a,b] z) { z = Max(x, y) }", "x y", 2),
    "constant": (
        "(float[a] x) => (float[b] z) { c = Constant <value_floats = [1.0, 2.0, 3.0]> ()  z = Mul(x, c) }", "x", 1
    ),
    "products": ("(float[a,2,3] x, float[b,3,4] y) => (float[c,2,4] z) { z = MatMul(x, y) }", "x y", 0),
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def values(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def feeds(name: str, sizes: Sequence[int]) -> dict[str, Any]:
    if name == "products":
        return {"x": values(sizes[0], 2, 3), "y": values(sizes[1], 3, 4, seed=1)}
    _, inputs, rank = MODELS[name]
    split = [tuple(sizes[k * rank : (k + 1) * rank]) for k in range(len(inputs.split()))]
    return {k: values(*shape, seed=i) for i, (k, shape) in enumerate(zip(inputs.split(), split, strict=True))}


@pytest.mark.parametrize("name", MODELS)
def test_against_onnxruntime(name: str) -> None:
    text, inputs, rank = MODELS[name]
    data = parse_model(HEADER + text).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session, peer = InferenceSession(data), onnxruntime.InferenceSession(data, options)
    count = len(inputs.split()) * (rank or 1)
    picks = list(itertools.product((1, 3), repeat=count))
    if len(picks) > 20:
        picks = [picks[k] for k in np.random.default_rng(1).permutation(len(picks))[:12]]
    for sizes in (*picks, *picks[:2]):
        feed = feeds(name, sizes)
        (got,), (expected,) = session.run(None, feed), peer.run(None, feed)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_every_way_to_run() -> None:
    session = InferenceSession(parse_model(HEADER + SUM))
    feed = {"x": values(5), "y": values(1, seed=1)}
    expected = feed["x"] + feed["y"]
    np.testing.assert_array_equal(session.run(["z"], feed)[0], expected)
    np.testing.assert_array_equal(session.run(None, feed, RunOptions())[0], expected)
    place = np.empty(5, np.float32)
    session.run_into(None, feed, {"z": place})
    np.testing.assert_array_equal(place, expected)
    np.testing.assert_array_equal(session.run_with_profiling(feed).outputs[0], expected)
    np.testing.assert_array_equal(session.run_batch(None, [feed, feed])[1][0], expected)
    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_cpu_input(name, value)
    binding.bind_output("z")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], expected)
    assert session.run(None, {"x": values(0), "y": values(1)})[0].shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    session = InferenceSession(parse_model(HEADER + SUM))
    for x, y in ((3, 2), (0, 2)):
        with pytest.raises(InvalidArgumentError, match=f"'y': axis 0: expected a = {x} as in 'x', got {y}\n"):
            session.run(None, {"x": values(x), "y": values(y)})
    text = "(float[2,a] x, float[b,3] y) => (float[2,3] z) { z = MatMul(x, y) }"
    product = InferenceSession(parse_model(HEADER + text))
    for x, y in ((4, 1), (1, 4)):
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match=f"= {x} as in 'x', got {y}"):
                product.run(None, {"x": values(2, x), "y": values(y, 3)})


def test_artifacts_say_what_to_do(tmp_path: Path) -> None:
    model = parse_model(HEADER + SUM)
    vitrify.compile(model).save(tmp_path / "model.vit")
    with pytest.raises(InvalidArgumentError, match=r"got 1 \(a dim of 1 is broadcast where input_shapes said so"):
        InferenceSession(tmp_path / "model.vit").run(None, {"x": values(5), "y": values(1)})
    fixed = CompileOptions(input_shapes={"y": [1]})
    vitrify.compile(model, options=fixed).save(tmp_path / "fixed.vit")
    (got,) = InferenceSession(tmp_path / "fixed.vit").run(None, {"x": values(5), "y": values(1)})
    np.testing.assert_array_equal(got, values(5) + values(1))


def test_sizes_that_the_caller_fixed_stay() -> None:
    model = parse_model(HEADER + SUM)
    options = SessionOptions()
    options.add_free_dimension_override_by_name("b", 5)
    session = InferenceSession(model, options)
    assert session.run(None, {"x": values(1), "y": values(5)})[0].shape == (5,)  # a is open
    with pytest.raises(InvalidArgumentError, match="expected 5, got 1"):
        session.run(None, {"x": values(5), "y": values(1)})


def test_dims_that_contradict_name_no_node() -> None:
    text = "(float[n] x, float[m] y) => (float[k] z) { c = Concat <axis = 0> (x, x)  z = Add(c, y) }"
    session = InferenceSession(parse_model(HEADER + text))
    assert session.run(None, {"x": values(3), "y": values(6)})[0].shape == (6,)
    with pytest.raises(ShapeError, match=r"^the shapes contradict the model"):
        session.run(None, {"x": values(3), "y": values(5)})

"""Arguments of wrong types and values nobody has a category for: documented errors that say what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.parser import parse_model

import vitrify
from vitrify.errors import IndexOutOfRangeError, InvalidArgumentError

X = np.ones(3, np.float32)
FEED = {"x": X, "y": X}
SUM = '<ir_version: 10, opset_import: ["": 21]>\nm (float[a] x, float[b] y) => (float[c] z) { z = Add(x, y) }'


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


CALLS: dict[str, Callable[[Any], object]] = {
    "feed": lambda s: s.run(None, [X, X]),
    "names": lambda s: s.run([[1]], FEED),
    "value": lambda s: s.run(None, {"x": object(), "y": X}),
    "run options": lambda s: s.run(None, FEED, 5),
    "output of no such name": lambda s: s.run_into(None, FEED, {"q": X}),
    "memory that is no array": lambda s: s.run_into(None, FEED, {"z": 5}),
    "memory of another dtype": lambda s: s.run_into(None, FEED, {"z": np.ones(3)}),
    "memory without names": lambda s: s.run_into(None, FEED, [X]),
    "binding": lambda s: s.run_with_iobinding(5),
    "callback": lambda s: s.run_async(None, FEED, None, None),
    "batch": lambda s: s.run_batch(None, [5]),
    "input values": lambda s: vitrify.CompileOptions(input_values={"x": [[1], [2, 3]]}),
    "targets": lambda s: vitrify.CompileOptions(targets=5),  # type: ignore[arg-type]
    "specialize": lambda s: vitrify.CompileOptions(specialize=5),  # type: ignore[arg-type]
    "initializers": lambda s: vitrify.SessionOptions().add_external_initializers(5, 5),  # type: ignore[arg-type]
    "provider": lambda s: vitrify.SessionOptions().add_provider("CPUExecutionProvider", 5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_wrong_types(name: str) -> None:
    session = vitrify.InferenceSession(parse_model(SUM))
    with pytest.raises(InvalidArgumentError, match="expected"):
        CALLS[name](session)
    np.testing.assert_array_equal(session.run(None, FEED)[0], X + X)


@pytest.mark.parametrize(
    ("kind", "known", "unknown", "a"),
    [
        (TensorProto.INT64, np.array([2, 1]), np.array([1, 9]), {"cats_int64s": [1, 2]}),
        (TensorProto.STRING, np.array(["b", "a"], object), np.array(["a", "zz"], object), {"cats_strings": ["a", "b"]}),
    ],
)
def test_values_of_no_category(kind: int, known: Any, unknown: Any, a: dict[str, Any]) -> None:
    node = helper.make_node("OneHotEncoder", ["x"], ["y"], "encoder", domain="ai.onnx.ml", zeros=0, **a)
    inputs = [helper.make_tensor_value_info("x", kind, ["N"])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    session = vitrify.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    np.testing.assert_array_equal(session.run(None, {"x": known})[0], np.eye(2)[::-1])
    message = r"encoder.*no category, and zeros is 0; expected one of.*\n.*zeros to 1"
    with pytest.raises(IndexOutOfRangeError, match=message):
        session.run(None, {"x": unknown})


@pytest.mark.parametrize(
    "text",
    [
        "(int64[N] i, float[N] x) => (float[N] z) { j = Neg(i) g = Gather(t, j) z = Mul(g, x) }",
        "(int64[N] i, float[N] x) => (float[N] z) { g = Gather(t, i) h = Exp(g) z = Mul(h, x) }",
    ],
)
def test_indices_into_a_table_of_one_entry_are_checked(text: str) -> None:
    table = "{ t = Constant <value_floats = [1.0]> () "
    header = '<ir_version: 10, opset_import: ["": 21]>\nm '
    session = vitrify.InferenceSession(parse_model(header + text.replace("{ ", table, 1)))
    x = np.arange(37, dtype=np.float32)
    scale = np.float32(np.e) if "Exp" in text else np.float32(1)
    feed = {"i": np.zeros(37, np.int64), "x": x}
    np.testing.assert_allclose(session.run(None, feed)[0], x * scale, rtol=1e-6)
    for place, index in ((0, 5), (36, -7), (20, 2**40)):
        feed["i"] = np.zeros(37, np.int64)
        feed["i"][place] = index
        with pytest.raises(IndexOutOfRangeError):
            session.run(None, feed)

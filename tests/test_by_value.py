"""Models whose shapes follow the elements of inputs: a compiled form for each set of values that is fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

import vitrify
from vitrify.frontends.onnx import import_onnx

X = np.arange(50, dtype=np.float32).reshape(10, 5)


def model(op: str, inputs: dict[str, tuple[int, list[int | str]]], **attributes: Any) -> bytes:
    node = helper.make_node(op, list(inputs), ["y"], name="n", **attributes)
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", T.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def slicing() -> bytes:
    kinds: dict[str, tuple[int, list[int | str]]] = {"x": (T.FLOAT, [10, 5])}
    return model("Slice", kinds | {name: (T.INT64, [1]) for name in ("starts", "ends", "axes", "steps")})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))


def fed(start: int, end: int, axis: int, step: int) -> dict[str, Any]:
    numbers = {"starts": start, "ends": end, "axes": axis, "steps": step}
    return {"x": X, **{name: np.array([n]) for name, n in numbers.items()}}


def test_each_set_of_values() -> None:
    session = vitrify.InferenceSession(slicing())
    assert [i.name for i in session.get_inputs()] == ["x", "starts", "ends", "axes", "steps"]
    assert [o.name for o in session.get_outputs()] == ["y"]
    for _ in range(2):
        np.testing.assert_array_equal(session.run(None, fed(1, 9, 0, 3))[0], X[1:9:3])
        np.testing.assert_array_equal(session.run(["y"], fed(4, -6, 1, -2))[0], X[:, 4::-2])
    np.testing.assert_array_equal(session.run(None, {**fed(0, 1, 0, 1), "starts": [2], "ends": [4]})[0], X[2:4])


def test_sizes_and_axes() -> None:
    reduce = vitrify.InferenceSession(
        model("ReduceSum", {"x": (T.FLOAT, [10, 5]), "axes": (T.INT64, ["n"])}, keepdims=0)
    )
    for axes in ([0], [1], [0, 1], [-1]):
        (found,) = reduce.run(None, {"x": X, "axes": np.array(axes)})
        np.testing.assert_allclose(found, X.sum(tuple(axes)), rtol=1e-6)


def test_what_is_wrong() -> None:
    session = vitrify.InferenceSession(slicing())
    with pytest.raises(vitrify.InvalidArgumentError, match="missing inputs: 'steps'"):
        session.run(None, {k: v for k, v in fed(0, 1, 0, 1).items() if k != "steps"})
    with pytest.raises(vitrify.InvalidArgumentError, match="starts"):
        session.run(None, {**fed(0, 1, 0, 1), "starts": np.array([1.5])})
    with pytest.raises(vitrify.InvalidArgumentError, match="starts"):
        session.run(None, {**fed(0, 1, 0, 1), "starts": np.array([1, 2])})
    with pytest.raises(vitrify.InvalidModelError):
        session.run(None, fed(0, 1, 7, 1))
    with pytest.raises(vitrify.InvalidArgumentError):
        session.run(None, {**fed(0, 1, 0, 1), "other": X})


def test_the_option() -> None:
    values = {name: v for name, v in fed(2, 8, 0, 2).items() if name != "x"}
    artifact = vitrify.compile(slicing(), input_values=values)
    session = vitrify.InferenceSession(artifact.path)
    assert [i.name for i in session.get_inputs()] == ["x"]
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], X[2:8:2])
    with pytest.raises(vitrify.InvalidArgumentError, match="names no input"):
        vitrify.compile(slicing(), input_values={"nobody": [1]})
    with pytest.raises(vitrify.InvalidArgumentError, match="input_values"):
        vitrify.compile(slicing(), input_values={"starts": np.zeros(5000)})


def test_the_importer_says_which_inputs() -> None:
    with pytest.raises(vitrify.UnsupportedError) as refused:
        import_onnx(onnx.load_from_string(slicing()))
    assert set(refused.value.inputs) == {"starts", "ends", "axes", "steps"}

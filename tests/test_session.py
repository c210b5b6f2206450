"""From a model to results through the public names: compile, cache, sessions."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitrify
from vitrify.cache import Cache
from vitrify.model_key import external_files, model_key
from vitrify.options import CompileOptions

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scale_model(factor: float = 2.0) -> onnx.ModelProto:
    """``y = max(x * w, 0)`` of 3 by 4."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 4]) for n in "xy")
    weight = numpy_helper.from_array(np.full((4,), factor, np.float32), "w")
    nodes = [helper.make_node("Mul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    graph = helper.make_graph(nodes, "scale", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "tests"
    return model


def external_model(folder: Path, factor: float) -> Path:
    model = scale_model(factor)
    path = folder / "model.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path


def check(session: vitrify.InferenceSession, factor: float = 2.0) -> None:
    (y,) = session.run(None, {"x": X})
    np.testing.assert_array_equal(y, np.maximum(X * np.float32(factor), 0))


def test_every_form_of_a_model(tmp_path: Path) -> None:
    model, path = scale_model(), tmp_path / "model.onnx"
    onnx.save(model, path)
    for given in (path, str(path), model, model.SerializeToString()):
        check(vitrify.InferenceSession(given))
    artifact = vitrify.compile(model)
    assert not artifact.compiled  # the bytes are the file's, and those of the message
    saved = artifact.save(tmp_path / "model.vit")
    saved.verify()
    check(vitrify.InferenceSession(tmp_path / "model.vit", providers=["CPUExecutionProvider"]))
    with pytest.raises(vitrify.ArtifactError, match="already exists"):
        artifact.save(tmp_path / "model.vit")
    artifact.save(tmp_path / "model.vit", replace=True)


def test_names_of_onnxruntime() -> None:
    options = vitrify.SessionOptions(intra_op_num_threads=1)
    options.graph_optimization_level = vitrify.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = vitrify.InferenceSession(scale_model(), options, [("CPUExecutionProvider", {})])
    check(session)
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [("x", [3, 4], "tensor(float)")]
    assert [o.name for o in session.get_outputs()] == ["y"]
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_modelmeta().producer_name == "tests"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"providers": ["CUDAExecutionProvider"]}, "unknown provider; expected CPUExecutionProvider"),
        ({"providers": "CPUExecutionProvider"}, "providers; expected a list"),
        ({"providers": [("CPUExecutionProvider", {"arena": 1})]}, "unknown option of CPUExecutionProvider"),
        ({"sess_options": {"threads": 1}}, "sess_options; expected vitrify.SessionOptions; got dict"),
        ({"compile_options": "fast"}, "option options; expected CompileOptions"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(vitrify.InvalidArgumentError, match=message):
        vitrify.InferenceSession(scale_model(), **arguments)


def test_refused_models(tmp_path: Path) -> None:
    with pytest.raises(vitrify.NoSuchFileError, match="does not exist"):
        vitrify.InferenceSession(tmp_path / "none.onnx")
    with pytest.raises(vitrify.InvalidModelError):
        vitrify.InferenceSession(b"not a model")
    with pytest.raises(vitrify.InvalidArgumentError, match=r"expected a path, bytes, or an onnx.ModelProto"):
        vitrify.InferenceSession(7)
    with pytest.raises(vitrify.ArtifactError, match="not an artifact"):
        vitrify.InferenceSession(tmp_path)
    artifact = vitrify.compile(scale_model())
    with pytest.raises(vitrify.InvalidArgumentError, match="compiled already"):
        vitrify.InferenceSession(artifact.path, compile_options=CompileOptions())
    with pytest.raises(vitrify.CacheError):
        (tmp_path / "file").write_text("")
        vitrify.compile(scale_model(), cache_dir=tmp_path / "file")


def test_a_damaged_entry_is_built_again(cache: Path) -> None:
    first = vitrify.compile(scale_model())
    payload = next(Path(first.path).glob("payload/*"))
    del first
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(data)
    with pytest.warns(vitrify.CacheWarning, match="damaged entry"):
        check(vitrify.InferenceSession(scale_model()))
    check(vitrify.InferenceSession(scale_model()))


def test_an_artifact_for_another_machine_is_refused() -> None:
    with pytest.raises(vitrify.PlatformError):
        vitrify.InferenceSession(scale_model(), compile_options=CompileOptions(targets=("aarch64",)))


def test_keys(tmp_path: Path, cache: Path) -> None:
    store, options = Cache(), CompileOptions()
    path = tmp_path / "model.onnx"
    onnx.save(scale_model(), path)
    key = model_key(path, options, store)
    assert key == model_key(path.read_bytes(), options, store) == model_key(scale_model(), options, store)
    assert key != model_key(scale_model(3.0), options, store)
    assert key != model_key(path, CompileOptions(accurate=True), store)
    onnx.save(scale_model(3.0), path)  # at once: the size is the same, and so may the times be
    assert model_key(path, options, store) == model_key(scale_model(3.0), options, store)


def test_external_data_counts(tmp_path: Path) -> None:
    path = external_model(tmp_path, 2.0)
    assert external_files(path.read_bytes()) == {"weights.bin"}
    before = model_key(path, CompileOptions(), Cache())
    check(vitrify.InferenceSession(path))
    external_model(tmp_path, 3.0)
    assert model_key(path, CompileOptions(), Cache()) != before
    check(vitrify.InferenceSession(path), 3.0)


@pytest.mark.parametrize("cut", [0, 1, 7, 40, 90])
def test_malformed_bytes_end_the_walk(tmp_path: Path, cut: int) -> None:
    data = external_model(tmp_path, 2.0).read_bytes()
    at = data.index(b"\x0a\x08location")
    for changed in (data[: len(data) - cut], data[:cut] + b"\xff" * 12 + data[cut:], data[: at + 20]):
        external_files(changed)  # no exception


def test_eight_processes_and_a_cold_cache(tmp_path: Path) -> None:
    onnx.save(scale_model(), tmp_path / "model.onnx")
    script = """
        import sys, numpy as np, vitrify
        artifact = vitrify.compile(sys.argv[1])
        (y,) = vitrify.InferenceSession(sys.argv[1]).run(None, {"x": np.ones((3, 4), np.float32)})
        assert (y == 2).all()
        print(artifact.compiled)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "model.onnx")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    results = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0] * 8
    assert sorted(results) == ["False"] * 7 + ["True"]


def test_a_cached_model_needs_none_of_the_compiler(tmp_path: Path) -> None:
    onnx.save(scale_model(), tmp_path / "model.onnx")
    vitrify.compile(tmp_path / "model.onnx")
    script = """
        import sys, vitrify
        vitrify.InferenceSession(sys.argv[1])
        parts = ("ir", "frontends", "rewrite", "lower", "codegen", "compiler", "toolchain.zig")
        names = ["onnx", "ml_dtypes", "typer", *(f"vitrify.{part}" for part in parts)]
        print([name for name in names if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "model.onnx")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_exports() -> None:
    assert set(vitrify.__all__) <= set(dir(vitrify))
    for name in vitrify.__all__:
        assert getattr(vitrify, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vitrify.nothing()

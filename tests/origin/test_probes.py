"""Probes: made at build, carried, run before a session is handed out, and refused where they do not come true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h

import vitrify
from vitrify.artifact.loading import Artifact, load_artifact
from vitrify.artifact.manifest import Manifest
from vitrify.artifact.validation import Awaited
from vitrify.artifact.writing import Part, write_artifact
from vitrify.errors import IntegrityError, InvalidArgumentError, ManifestError, ProbeError
from vitrify.runtime.probes import difference, numbers

from .models import convolutions, dense, sequences


def changed(artifact: Artifact, path: Path, manifest: Manifest, **files: bytes) -> Path:
    """The same artifact with other files or another list of probes, signed again."""
    contents: dict[str, Any] = {
        name: Part(*artifact.locate(name), entry.size)
        for name, entry in artifact.manifest.files.items()
        if entry.role not in ("details", "leaves")
    }
    contents |= {name.replace("__", "/").replace("_", "-"): data for name, data in files.items()}
    write_artifact(path, manifest, contents)
    return path


@pytest.mark.parametrize("model", [dense(), convolutions()], ids=["dense", "convolutions"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_made_up_probes_are_carried_and_run(model: onnx.ModelProto, number: int) -> None:
    artifact = vitrify.compile(model, probes=number, probe_dims={"N": 5} if number else {})
    probes = artifact.manifest.validation
    assert len(probes) == number
    assert {e.role for e in artifact.manifest.files.values()} >= ({"probe"} if number else set())
    for probe in probes:
        assert [given.dims[0] for given in probe.inputs] == [5]
        assert all(a.dims[0] == 5 and (a.file is None) == (a.dtype == "i64") for a in probe.outputs)
    vitrify.InferenceSession(artifact.path).run(None, {"x": np.ones((1, *model_dims(model)), np.float32)})


def model_dims(model: onnx.ModelProto) -> list[int]:
    return [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]


def test_given_probes() -> None:
    feeds = [{"x": np.full((n, 7), n, np.float32)} for n in (1, 4)]
    artifact = vitrify.compile(dense(), probes=feeds)
    stored = [artifact.read(probe.inputs[0].file) for probe in artifact.manifest.validation]
    assert stored == [feed["x"].tobytes() for feed in feeds]
    vitrify.InferenceSession(artifact.path)


def test_parts_in_python_stay_out(tmp_path: Path) -> None:
    artifact = vitrify.compile(sequences(), probes=2)
    assert artifact.manifest.host is not None and len(artifact.manifest.validation) == 2
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert len(vitrify.InferenceSession(artifact.path).run(["s"], {"x": x})[0]) == 3


def test_a_wrong_element_is_refused(tmp_path: Path) -> None:
    artifact = vitrify.compile(dense(), probes=2)
    name = artifact.manifest.validation[1].outputs[0].file
    assert name is not None
    values = np.frombuffer(artifact.read(name), np.float32).copy()
    near, far = values.copy(), values.copy()
    near[3] += 5e-5 * np.abs(values).max()
    far[3] += 5e-4 * np.abs(values).max()
    key = name.replace("-", "_").replace("/", "__")
    vitrify.InferenceSession(str(changed(artifact, tmp_path / "near.vit", artifact.manifest, **{key: near.tobytes()})))
    path = str(changed(artifact, tmp_path / "far.vit", artifact.manifest, **{key: far.tobytes()}))
    with pytest.raises(ProbeError, match=r"probe 1: output 'z'.*\[0, 3\]") as raised:
        vitrify.InferenceSession(path)
    assert raised.value.code == 18
    nan = values.copy()
    nan[0] = np.nan
    path = str(changed(artifact, tmp_path / "nan.vit", artifact.manifest, **{key: nan.tobytes()}))
    with pytest.raises(ProbeError):
        vitrify.InferenceSession(path)


def test_a_wrong_digest_and_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    artifact = vitrify.compile(dense(), probes=1)
    (probe,) = artifact.manifest.validation
    other = probe.outputs[1]._replace(sha256="0" * 64)
    manifest = artifact.manifest._replace(validation=(probe._replace(outputs=(probe.outputs[0], other)),))
    with pytest.raises(ProbeError, match="output 'i'"):
        vitrify.InferenceSession(str(changed(artifact, tmp_path / "digest.vit", manifest)))
    fewer = Awaited("i", "i64", (1, 1), None, None, probe.outputs[1].sha256)
    manifest = artifact.manifest._replace(validation=(probe._replace(outputs=(probe.outputs[0], fewer)),))
    with pytest.raises(ProbeError, match="another shape"):
        vitrify.InferenceSession(str(changed(artifact, tmp_path / "shape.vit", manifest)))


def test_a_changed_probe_file_is_no_probe_failure(tmp_path: Path) -> None:
    artifact = vitrify.compile(dense(), probes=1)
    artifact.save(tmp_path / "a")
    file = tmp_path / "a" / artifact.manifest.validation[0].inputs[0].file
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError):
        vitrify.InferenceSession(str(tmp_path / "a"))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p._replace(inputs=()),
        lambda p: p._replace(inputs=(p.inputs[0]._replace(name="y"),)),
        lambda p: p._replace(inputs=(p.inputs[0]._replace(dtype="f64"),)),
        lambda p: p._replace(inputs=(p.inputs[0]._replace(dims=(2, 8)),)),
        lambda p: p._replace(inputs=(p.inputs[0]._replace(dims=(2, 7, 1)),)),
        lambda p: p._replace(inputs=(p.inputs[0]._replace(dims=(1 << 52, 7)),)),
        lambda p: p._replace(outputs=(p.outputs[0]._replace(tolerance=None), p.outputs[1])),
        lambda p: p._replace(outputs=(p.outputs[0]._replace(tolerance="nan"), p.outputs[1])),
        lambda p: p._replace(outputs=(p.outputs[0]._replace(tolerance="0.5"), p.outputs[1])),
        lambda p: p._replace(outputs=(p.outputs[0]._replace(tolerance="-0x1.0p-3"), p.outputs[1])),
        lambda p: p._replace(outputs=(p.outputs[0]._replace(sha256="0" * 64), p.outputs[1])),
        lambda p: p._replace(outputs=(p.outputs[0], p.outputs[1]._replace(sha256="0" * 63))),
        lambda p: p._replace(outputs=(p.outputs[0], p.outputs[1]._replace(sha256=None))),
        lambda p: p._replace(outputs=p.outputs[:1]),
    ],
)  # fmt: skip
def test_ill_formed_probes_are_no_manifest(tmp_path: Path, change: Any) -> None:
    artifact = vitrify.compile(dense(), probes=1)
    manifest = artifact.manifest._replace(validation=tuple(map(change, artifact.manifest.validation)))
    with pytest.raises(ManifestError):
        changed(artifact, tmp_path / "a.vit", manifest)


def test_what_cannot_be_probed_is_said() -> None:
    for options, named in (
        ({"probes": -1}, "probes"), ({"probes": 1 << 20}, "probes"), ({"probes": "x"}, "probes"),
        ({"probes": 1, "probe_dims": {"M": 3}}, "probe_dims"), ({"probes": 1, "probe_dims": {"N": -1}}, "probe_dims"),
        ({"probes": [{"x": np.ones((2, 7))}]}, "input 'x'"), ({"probes": [{}]}, "input 'x'"),
        ({"probes": [{"x": np.ones((2, 8), np.float32)}]}, "probe 0"),
        ({"probes": [{"x": np.ones((2, 7), np.float32), "y": np.ones(1)}]}, "probe 0"),
        ({"probes": [{"x": np.full((2, 7), np.nan, np.float32)}]}, "NaN"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgumentError, match=named):
            vitrify.compile(dense(), **options)


def test_code_that_computes_something_else_does_not_build(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrify.origin import probes

    interpret = probes.interpret
    monkeypatch.setattr(probes, "interpret", lambda *given: [result + 1 for result in interpret(*given)])
    with pytest.raises(ProbeError):
        vitrify.compile(dense(), probes=1)
    monkeypatch.undo()
    vitrify.InferenceSession(vitrify.compile(dense()).path)


def test_a_model_of_its_own_opens_its_parts(tmp_path: Path) -> None:
    """Forms for other sizes are compiled without probes, whose sizes are not theirs."""
    nodes = [h.make_node("Add", ["x", "y"], ["z"])]
    sides = [h.make_tensor_value_info(name, T.FLOAT, [dim]) for name, dim in (("x", "N"), ("y", "M"))]
    graph = h.make_graph(nodes, "add", sides, [h.make_tensor_value_info("z", T.FLOAT, None)])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9)
    session = vitrify.InferenceSession(model, compile_options=vitrify.CompileOptions(probes=1))
    x, y = np.ones(1, np.float32), np.ones(5, np.float32)
    assert session.run(None, {"x": x, "y": y})[0].shape == (5,)


@pytest.mark.parametrize("name", ["bf16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"])
def test_narrow_floats_are_decoded_without_ml_dtypes(name: str) -> None:
    from vitrify.ir.dtypes import BY_NAME

    width = BY_NAME[name].itemsize * 8
    bits = np.arange(1 << width, dtype=f"uint{width}")
    with np.errstate(all="ignore"):
        assert np.array_equal(numbers(bits, name), bits.view(BY_NAME[name].numpy).astype(np.float64), equal_nan=True)


def test_how_elements_are_compared() -> None:
    expected = np.array([1.0, -4.0, np.inf, 0.0], np.float32)
    found = expected.copy()
    assert difference(found, expected, "f32", 0.0) is None
    found[1] += 4e-4
    assert difference(found, expected, "f32", 2e-4) is None
    assert difference(found, expected, "f32", 5e-5) is not None
    for wrong in (np.nan, -np.inf, 3.0):
        found = expected.copy()
        found[2] = wrong
        assert difference(found, expected, "f32", 1e-3) is not None
    large = np.array([1 << 62], np.int64)
    assert difference(large + 1, large, "i64", 0.0) is not None and difference(large, large, "i64", 0.0) is None
    assert difference(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), "f32", 0.0) is None


def test_loading_alone_runs_nothing(tmp_path: Path) -> None:
    artifact = vitrify.compile(dense(), probes=1)
    assert load_artifact(artifact.path).manifest.validation == artifact.manifest.validation

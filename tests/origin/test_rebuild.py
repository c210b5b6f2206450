"""Artifacts made again, elsewhere: the same bytes, or what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import vitrify
from vitrify.artifact import canonical
from vitrify.artifact.loading import load_artifact
from vitrify.artifact.writing import Part, digests, write_artifact
from vitrify.cli import main
from vitrify.errors import IntegrityError, ManifestError, ToolchainError

from .models import ALL_TARGETS, convolutions, dense, external, sequences


def saved(model: onnx.ModelProto, folder: Path, form: str = "model.vit", **options: Any) -> tuple[Path, Path]:
    path = folder / "model.onnx"
    onnx.save(model, path)
    vitrify.compile(path, **options).save(folder / form)
    return folder / form, path


@pytest.mark.parametrize(
    ("model", "form", "options"),
    [
        (dense(), "model.vit", {"targets": ALL_TARGETS, "probes": 2}),
        (dense(), "model", {"specialize": [{"x": [3, 7]}, {"x": [1, 7]}], "optimization_level": 1}),
        (convolutions(), "model.vit", {"targets": ("x86-64-v4", "aarch64"), "probe_dims": {"N": 3}, "probes": 1}),
        (sequences(), "model.vit", {"input_values": {}, "accurate": True}),
        (dense(), "model.vit", {"probes": [{"x": np.ones((3, 7), np.float32)}], "dim_overrides": {"N": 3}}),
    ],
    ids=["every target", "directory", "convolutions", "in Python", "given probes"],
)  # fmt: skip
def test_the_same_bytes_elsewhere(tmp_path: Path, model: onnx.ModelProto, form: str, options: dict[str, Any]) -> None:
    artifact, path = saved(model, tmp_path, form, **options)
    found = vitrify.rebuild(artifact, path)
    assert found.same, found
    assert found.digest == found.rebuilt and not found.differences
    assert not list(tmp_path.glob("vitrify-rebuild*"))


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_networks_are_the_same_bytes_elsewhere(tmp_path: Path, name: str) -> None:
    from bench.models import light_model

    model = onnx.load_from_string(light_model(name))
    artifact, path = saved(model, tmp_path, targets=ALL_TARGETS if name == "shufflenet" else (), probes=1)
    found = vitrify.rebuild(artifact, path)
    assert found.same, found


@pytest.mark.slow(minutes=1)
def test_loops_are_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    """The voice-activity model: branches, a recurrent layer, sizes that runs find out."""
    from bench.models import speech_model

    path = speech_model()
    vitrify.compile(path, targets=("x86-64-v3", "aarch64")).save(tmp_path / "model.vit")
    assert vitrify.rebuild(tmp_path / "model.vit", path).same


def test_external_data_is_read_from_beside_the_model(tmp_path: Path) -> None:
    path = external(tmp_path)
    vitrify.compile(path, targets="x86-64-v3").save(tmp_path / "a.vit")
    assert vitrify.rebuild(tmp_path / "a.vit", path).same
    (tmp_path / "weights.bin").write_bytes(bytes((tmp_path / "weights.bin").stat().st_size))
    with pytest.raises(IntegrityError, match=r"weights\.bin differs"):
        vitrify.rebuild(tmp_path / "a.vit", path)


def test_another_model_is_refused(tmp_path: Path) -> None:
    artifact, path = saved(dense(), tmp_path, targets="x86-64-v3")
    onnx.save(dense(seed=1), path)
    with pytest.raises(IntegrityError, match="another model"):
        vitrify.rebuild(artifact, path)


def test_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrify.origin import materials

    artifact, path = saved(dense(), tmp_path, targets="x86-64-v3")
    monkeypatch.setattr(materials, "_version", lambda package: "0.0.1")
    with pytest.raises(ToolchainError, match=r"ziglang 0\.0\.1.*onnx 0\.0\.1"):
        vitrify.rebuild(artifact, path)


def resealed(artifact: Path, path: Path, change: Any) -> None:
    """The artifact with other files, signed again."""
    opened = load_artifact(artifact)
    contents: dict[str, Any] = {
        name: Part(*opened.locate(name), entry.size)
        for name, entry in opened.manifest.files.items()
        if entry.role not in ("details", "leaves")
    }
    provenance = json.loads(opened.read("provenance.json"))
    manifest = change(contents, provenance, opened)
    if "provenance.json" in contents:
        contents["provenance.json"] = canonical.dumps(provenance)
    write_artifact(path, manifest, contents)


def test_what_another_compile_would_differ_in_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, path = saved(dense(), tmp_path, targets="x86-64-v3")

    def other_weights(contents: dict[str, Any], provenance: dict[str, Any], opened: Any) -> Any:
        name = "weights/x86-64-v3.bin"
        contents[name] = bytes(opened.manifest.files[name].size)
        digest = digests({name: contents[name]})[name]
        for subject in provenance["subject"]:
            if subject["name"] == name:
                subject["digest"]["sha256"] = digest
        return opened.manifest

    resealed(artifact, tmp_path / "other.vit", other_weights)
    found = vitrify.rebuild(tmp_path / "other.vit", path)
    assert not found.same
    assert {"weights/x86-64-v3.bin", "provenance.json", "manifest.json"} <= set(found.files)
    assert "weights" in {difference.area for difference in found.differences}
    assert main(["rebuild", str(tmp_path / "other.vit"), str(path), "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["same"] is False
    assert main(["rebuild", str(artifact), str(path)]) == 0
    assert "the same bytes again" in capsys.readouterr().out


def test_provenance_of_another_payload_is_refused(tmp_path: Path) -> None:
    artifact, path = saved(dense(), tmp_path, targets="x86-64-v3")

    def other(contents: dict[str, Any], provenance: dict[str, Any], opened: Any) -> Any:
        provenance["subject"][0]["digest"]["sha256"] = "0" * 64
        return opened.manifest

    resealed(artifact, tmp_path / "other.vit", other)
    with pytest.raises(IntegrityError, match="another payload"):
        vitrify.rebuild(tmp_path / "other.vit", path)


def test_without_provenance_there_is_nothing_to_repeat(tmp_path: Path) -> None:
    artifact, path = saved(dense(), tmp_path, targets="x86-64-v3")

    def none(contents: dict[str, Any], provenance: dict[str, Any], opened: Any) -> Any:
        del contents["provenance.json"]
        return opened.manifest

    resealed(artifact, tmp_path / "other.vit", none)
    with pytest.raises(ManifestError, match=r"no provenance\.json"):
        vitrify.rebuild(tmp_path / "other.vit", path)


def test_custom_ops_come_from_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_ops_of_rebuild.py").write_text(OPS)
    monkeypatch.syspath_prepend(tmp_path)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("twice", ["x"], ["y"], domain="own")], "own",
        [onnx.helper.make_tensor_value_info("x", 1, ["N"])], [onnx.helper.make_tensor_value_info("y", 1, ["N"])],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("own", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    import own_ops_of_rebuild

    try:
        artifact, path = saved(model, tmp_path, probes=1)
        assert vitrify.rebuild(artifact, path, modules=["own_ops_of_rebuild"]).same
    finally:
        own_ops_of_rebuild.twice.unregister()
    with pytest.raises(ToolchainError, match="own::twice absent"):
        vitrify.rebuild(artifact, path)


OPS = '''
import vitrify


def same_type(x):
    return vitrify.TensorSpec(x.dtype, x.shape)


@vitrify.custom_op("own", "twice", infer=same_type)
def twice(x):
    return x + x
'''

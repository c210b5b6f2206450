"""The list of parts and the provenance: valid, complete, the same each time, and bound by the signature."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import vitrify
from vitrify.artifact import canonical
from vitrify.artifact.leaks import scan
from vitrify.errors import ManifestError
from vitrify.origin.materials import PACKAGES
from vitrify.origin.provenance import parse_provenance
from vitrify.origin.recorded_options import record_options, recorded_options

from .models import convolutions, dense, external


def documents(artifact: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    found = [artifact.read(name) for name in ("sbom.json", "provenance.json")]
    for name, encoded in zip(("sbom.json", "provenance.json"), found, strict=True):
        scan(encoded, name=name)
        assert canonical.dumps(json.loads(encoded)) == encoded
    return json.loads(found[0]), json.loads(found[1])


def components(sbom: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["bom-ref"].partition("@")[0]: part for part in sbom["components"]}


@pytest.mark.parametrize("model", [dense(), convolutions()], ids=["dense", "convolutions"])
def test_the_list_of_parts_is_valid_and_complete(model: onnx.ModelProto) -> None:
    artifact = vitrify.compile(model, targets="x86-64-v3")
    sbom, _ = documents(artifact)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(artifact.read("sbom.json").decode()) is None
    parts = components(sbom)
    assert {"vitrify", "ziglang", "python", "model", *PACKAGES} == parts.keys()
    assert parts["model"]["hashes"][0]["content"] == hashlib.sha256(model.SerializeToString()).hexdigest()
    assert parts["numpy"]["version"] == np.__version__ and parts["onnx"]["version"] == onnx.__version__
    assert len(parts["ziglang"]["hashes"][0]["content"]) == 64
    stated = parts["model"].get("licenses")
    assert stated == ([{"license": {"name": "Apache-2.0"}}] if model.graph.name == "dense" else None)
    files = {part["name"]: part["hashes"][0]["content"] for part in sbom["metadata"]["component"]["components"]}
    assert files == {
        name: entry.sha256 for name, entry in artifact.manifest.files.items() if entry.role in ("payload", "weights")
    }


def test_the_serial_number_follows_from_the_contents() -> None:
    first, same, other = (vitrify.compile(model, targets="x86-64-v3") for model in (dense(), dense(), dense(6)))
    numbers = [documents(artifact)[0]["serialNumber"] for artifact in (first, same, other)]
    assert numbers[0] == numbers[1] != numbers[2]
    assert all("timestamp" not in artifact.read("sbom.json").decode() for artifact in (first, other))


def test_provenance_says_how_it_was_built() -> None:
    options: dict[str, Any] = {"targets": "x86-64-v3", "accurate": True, "specialize": [{"x": [4, 7]}]}
    artifact = vitrify.compile(dense(), **options)
    _, statement = documents(artifact)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    outer = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert outer["model"]["digest"]["sha256"] == hashlib.sha256(dense().SerializeToString()).hexdigest()
    assert outer["options"]["accurate"] is True and outer["options"]["specialize"] == [{"x": [4, 7]}]
    assert not {"cache_dir", "metadata"} & {*outer["options"], *statement["predicate"]["runDetails"]}
    named = {part["name"] for part in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert named == {"vitrify", "ziglang", "python", *PACKAGES}
    built = {part["name"]: part["digest"]["sha256"] for part in statement["subject"]}
    assert built == parse_provenance(artifact.read("provenance.json")).built
    assert built["payload/x86-64-v3.so"] == artifact.manifest.files["payload/x86-64-v3.so"].sha256


def test_the_signature_binds_both() -> None:
    artifact = vitrify.compile(dense(), targets="x86-64-v3")
    files = artifact.manifest.files
    assert artifact.seal is not None
    assert artifact.seal.sbom == files["sbom.json"].sha256
    assert artifact.seal.provenance == files["provenance.json"].sha256


def test_external_data_counts(tmp_path: Path) -> None:
    artifact = vitrify.compile(external(tmp_path), targets="x86-64-v3")
    sbom, statement = documents(artifact)
    digest = hashlib.sha256((tmp_path / "weights.bin").read_bytes()).hexdigest()
    assert components(sbom)["model-data/0"]["hashes"][0]["content"] == digest
    outer = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert outer["model"]["external"] == [{"name": "weights.bin", "digest": {"sha256": digest}}]


def test_options_are_read_as_they_were_written() -> None:
    feed = {"x": np.ones((2, 7), np.float32)}
    options = vitrify.CompileOptions(
        targets=("x86-64-v4+vnni",), optimization_level=vitrify.OptLevel.BASIC, input_shapes={"x": ["N", 7]},
        dim_overrides={"N": 3}, input_values={"k": np.array([[1.5, -0.0]], np.float32), "n": 3}, probes=[feed],
        specialize=[{"x": (4, 7)}],
    )  # fmt: skip
    record = record_options(options)
    again = recorded_options(json.loads(canonical.dumps(record)), [feed])
    assert again.identity() == options.identity()
    with pytest.raises(ManifestError):
        recorded_options({**record, "unknown": 1}, [])
    with pytest.raises(ManifestError):
        recorded_options({**record, "optimization_level": "most"}, [])


def test_changed_packages_change_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vitrify import model_key
    from vitrify.cache import Cache

    options, cache = vitrify.CompileOptions(), Cache(tmp_path / "keys")
    before = model_key.model_key(dense(), options, cache)
    assert before == model_key.model_key(dense(), options, cache)
    assert before != model_key.model_key(dense(), vitrify.CompileOptions(probes=1), cache)
    monkeypatch.setattr(model_key, "_packages", lambda: "another onnx")
    assert before != model_key.model_key(dense(), options, cache)

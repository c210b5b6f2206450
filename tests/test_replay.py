"""One file that reproduces a result or a failure."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import vitrify
from vitrify.cli.app import run as cli
from vitrify.replay import make_replay, run_replay

X = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))


def model(op: str = "Tanh") -> onnx.ModelProto:
    weights = np.random.default_rng(1).normal(3, 2, (40, 30)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(op, ["h"], ["y"], name="last")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", T.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("y", T.FLOAT, None)], [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_same_bits(tmp_path: Path) -> None:
    bundle = make_replay(tmp_path / "b.zip", model(), {"x": X}, options=vitrify.CompileOptions(accurate=True))
    found = run_replay(bundle)
    assert found.same and found.exact and found.found == "ran" and not found.versions
    assert found.differences == {"y": 0.0}


def test_external_data_is_folded_in(tmp_path: Path) -> None:
    proto = model()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    bundle = make_replay(tmp_path / "b.zip", tmp_path / "m.onnx", {"x": X})
    (tmp_path / "w.bin").unlink()
    assert run_replay(bundle).exact


def test_weights_stay_at_home(tmp_path: Path) -> None:
    bundle = make_replay(tmp_path / "b.zip", model(), {"x": X}, weights=False)
    with zipfile.ZipFile(bundle) as archive:
        kept = onnx.load_from_string(archive.read("model.onnx")).graph.initializer[0]
    theirs, ours = numpy_helper.to_array(kept), numpy_helper.to_array(model().graph.initializer[0])
    assert theirs.shape == ours.shape and not np.isin(theirs, ours).any()
    assert abs(theirs.mean() - ours.mean()) < 0.3 and abs(theirs.std() - ours.std()) < 0.3
    assert run_replay(bundle).exact


def test_a_failure(tmp_path: Path) -> None:
    for name, feed in (("wrong", {"x": X[:, :7]}), ("missing", {})):
        found = run_replay(make_replay(tmp_path / name, model(), feed))
        assert found.same and found.found.startswith("InvalidArgumentError")
    found = run_replay(make_replay(tmp_path / "op", model("NoSuchOp"), {"x": X}))
    assert found.same and "NoSuchOp" in found.found


def test_another_outcome(tmp_path: Path) -> None:
    bundle = make_replay(tmp_path / "b.zip", model(), {"x": X})
    changed = tmp_path / "c.zip"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(changed, "w") as new:
        for item in old.namelist():
            new.writestr(item, model("Sigmoid").SerializeToString() if item == "model.onnx" else old.read(item))
    found = run_replay(changed)
    assert not found.same and not found.exact and found.differences["y"] > 0.01


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(vitrify.NoSuchFileError):
        run_replay(tmp_path / "none")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(vitrify.InvalidArgumentError, match="cannot be read"):
        run_replay(tmp_path / "junk")
    with zipfile.ZipFile(tmp_path / "empty", "w") as archive:
        archive.writestr("replay.json", json.dumps({"format": 9}))
    with pytest.raises(vitrify.InvalidArgumentError, match="format 9"):
        run_replay(tmp_path / "empty")
    with pytest.raises(vitrify.InvalidArgumentError, match="exists"):
        make_replay(tmp_path / "junk", model(), {"x": X})


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    file = str(tmp_path / "b.zip")
    assert cli(["replay", "make", str(tmp_path / "m.onnx"), file, "--random", "3", "--dim", "n=4"]) == 0
    assert "kB" in capsys.readouterr().out
    assert cli(["replay", "run", file, "--threads", "1", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["same"] and shown["exact"] and shown["differences"] == {"y": 0.0}
    assert cli(["replay", "run", file]) == 0
    assert "the same bits" in capsys.readouterr().out

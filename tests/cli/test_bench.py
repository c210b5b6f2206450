"""``vitrify bench``: results first, then figures; what is refused; where nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import vitrify
from vitrify.benchmark import processes
from vitrify.benchmark.engines import ENGINES
from vitrify.cli import main

QUICK = ("--seconds", "0.01", "--threads", "1", "--callers", "1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def model(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``y = sum of x over its rows times s`` with x: float32 [n, 4] and s: float32 []."""
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(cache))
    monkeypatch.setenv("COLUMNS", "100")
    shapes: dict[str, list[int | str]] = {"x": ["n", 4], "s": [], "y": ["n", 4]}
    return saved([helper.make_node("Mul", ["x", "s"], ["y"])], shapes, tmp_path / "mul.onnx")


def saved(nodes: list[onnx.NodeProto], shapes: dict[str, list[int | str]], path: Path) -> Path:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    graph = helper.make_graph(nodes, "small", values[:-1], values[-1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer is installed."""
    monkeypatch.setattr("vitrify.benchmark.comparison.ENGINES", ENGINES[:1])


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    assert main([*map(str, arguments), "--format", "json"]) == status
    return json.loads(capsys.readouterr().out)


def test_all_figures(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("bench", model, "--dim", "n=3", "--seconds", 0.02, "--threads", "1,2", "--callers", 2)
    found = as_json(capsys, *given, "--json", tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert found["agrees"] and found["same_bits"] and found["defaults"] == {}
    assert found["inputs"][0] == {"name": "x", "dtype": "float32", "shape": [3, 4], "source": "random, seed 0"}
    assert {a["peer"] for a in found["agreements"]} >= {"onnxruntime"}
    assert all(o["elements"] == 12 and o["tolerance"] == 1e-4 for a in found["agreements"] for o in a["outputs"])
    ours = [row for row in found["latency"] if row["engine"] == "vitrify"]
    assert [row["threads"] for row in ours] == [1, 2] and all(row["ratio"] == 1 for row in ours)
    assert all(row["min_ms"] <= row["p50_ms"] <= row["p99_ms"] and row["calls"] > 1 for row in found["latency"])
    assert {row["callers"] for row in found["throughput"]} == {2}
    for row in found["throughput"]:
        assert row["samples_per_second"] == pytest.approx(3 * row["requests_per_second"])
    assert all(0 < m["load_ms"] + m["first_call_ms"] < m["start_ms"] for m in found["memory"])
    assert found["model"]["artifact_bytes"] > 0 and found["machine"]["cores"] >= 1
    assert found["machine"]["versions"]["onnxruntime"]
    assert {row["engine"] for row in found["memory"]} | found["absent"].keys() == {e.name for e in ENGINES}


def test_the_table(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, shown in (("100", True), ("80", False)):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["bench", str(model), *QUICK]) == 0
        text = capsys.readouterr().out
        assert max(len(line.rstrip()) for line in text.splitlines()) <= int(columns)
        assert "n = 1, since none was given" in text and "onnxruntime agrees" in text and "\x1b" not in text
        assert ("stddev" in text) == shown and "requests/s" in text and "peak MB" in text and "…" not in text


def test_without_peers(model: Path, alone: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), *QUICK]) == 0
    text = capsys.readouterr().out
    assert "p50" in text and "ratio:" not in text


def test_peers_that_are_not_installed(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrify.benchmark.engines.Engine.installed", False)
    found = as_json(capsys, "bench", model, *QUICK)
    assert found["absent"] == {"onnxruntime": "not installed", "openvino": "not installed"}
    assert found["agreements"] == [] and {row["engine"] for row in found["latency"]} == {"vitrify"}


def test_an_artifact(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vitrify.compile(model).save(tmp_path / "mul.vit")
    found = as_json(capsys, "bench", tmp_path / "mul.vit", *QUICK, "--dim", "n=2")
    assert {row["engine"] for row in found["latency"]} == {"vitrify"} and "model" not in found["model"]
    assert all("ONNX model" in reason for reason in found["absent"].values())
    assert main(["bench", str(tmp_path / "mul.vit"), "--bf16"]) == 1
    assert "compiled already" in capsys.readouterr().err


def test_nothing_is_timed_where_results_differ(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = ENGINES[1]

    class Wrong(type(peer)):  # type: ignore[misc]
        """A peer that adds 1 to one element."""

        def prepare(self, *arguments: Any, **more: Any) -> Any:
            run = super().prepare(*arguments, **more)

            def changed() -> list[Any]:
                (result,) = run()
                result[1, 2] += 1
                return [result]

            return changed

    monkeypatch.setattr("vitrify.benchmark.comparison.ENGINES", (ENGINES[0], Wrong()))
    given = ("bench", model, "-i", "s=1", "-i", "x=[[1,2,3,4],[5,6,7,8]]", *QUICK)
    found = as_json(capsys, *given, status=3)
    assert not found["agrees"] and found["latency"] == found["throughput"] == found["memory"] == []
    (output,) = found["agreements"][0]["outputs"]
    assert (output["differing"], output["index"], output["found"], output["expected"]) == (1, [1, 2], "7", "8")
    assert main([*map(str, given)]) == 3
    text = capsys.readouterr().out
    assert "'y': 1 of 8 elements differ, the most at [1, 2]: 7, not 8" in text and "p50" not in text
    assert as_json(capsys, *given, "--force", status=3)["latency"]
    assert as_json(capsys, *given, "--tolerance", 0.2)["agrees"]


def test_nan_is_no_agreement(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved([helper.make_node("Log", ["x"], ["y"])], {"x": [4], "y": [4]}, tmp_path / "log.onnx")
    found = as_json(capsys, "bench", path, "-i", "x=[1, 2, -1, 3]", *QUICK, status=3)
    assert found["agreements"][0]["outputs"][0]["differing"] == 1
    assert found["agreements"][0]["outputs"][0]["largest"] is None  # JSON has no infinity


def test_shapes_that_follow_fed_values(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 6]), ("y", None)))
    axes = helper.make_tensor_value_info("axes", TensorProto.INT64, [1])
    graph = helper.make_graph([helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)], "g", [x, axes], [y])
    path = tmp_path / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = as_json(capsys, "bench", path, "-i", "axes=[1]", "--dim", "N=5", *QUICK)
    assert found["agreements"][0]["outputs"][0]["elements"] == 5
    assert {row["engine"] for row in found["memory"]} >= {"vitrify", "onnxruntime"}


def test_types_that_numpy_lacks(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.BFLOAT16, [8, 8]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "b.onnx")
    found = as_json(capsys, "bench", tmp_path / "b.onnx", *QUICK)
    assert found["inputs"][0]["dtype"] == "bfloat16" and "vitrify" in {row["engine"] for row in found["memory"]}
    assert all(o["tolerance"] == 4 * 2**-7 for a in found["agreements"] for o in a["outputs"])


def test_a_process_that_fails(
    model: Path, alone: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(processes._SESSIONS, "vitrify", "raise SystemExit('gone')")
    assert main(["bench", str(model), *QUICK]) == 1
    assert "VitrifyError: vitrify has no result in a process of its own; got gone" in capsys.readouterr().err


def test_dims_come_from_what_is_given(
    model: Path, tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    found = as_json(capsys, "bench", model, "-i", f"x={tmp_path / 'x.npy'}", *QUICK, "--fresh")
    assert found["defaults"] == {} and found["model"]["compile_seconds"] > 0
    assert [row["source"] for row in found["inputs"]] == ["given", "random, seed 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "numbers from 1"),
        (["--threads", "1,,2"], "numbers from 1"),
        (["--callers", "two"], "numbers from 1"),
        (["--dim", "m=3"], "unknown dim; expected n; got m"),
        (["--shape", "z=3"], "expected one of x, s"),
        (["--chart", "chart.bmp"], "ends in .svg, .png, .pdf"),
        (["--chart", "no/such/folder/chart.svg"], "is no directory"),
        (["--json", "no/such/folder/found.json"], "is no directory"),
        (["-i", "x=[1,2,3]"], "x"),
    ],
)
def test_refused(model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), *QUICK, *arguments]) == 1
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_models_that_are_no_tensors(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.STRING, [2])
    y = helper.make_tensor_value_info("y", TensorProto.STRING, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "text.onnx")
    assert main(["bench", str(tmp_path / "text.onnx")]) == 1
    assert "a tensor of numbers" in capsys.readouterr().err


def test_the_chart(model: Path, tmp_path: Path, alone: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    chart = tmp_path / "chart.svg"
    assert main(["bench", str(model), *QUICK, "--chart", str(chart)]) == 0
    assert ElementTree.parse(chart).getroot().tag.endswith("svg")
    assert str(chart) in capsys.readouterr().out.replace("\n", "")

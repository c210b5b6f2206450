"""The commands: results as text and as JSON, inputs from files, errors and their exit status."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vitrify.artifact.amounts import evaluate, names
from vitrify.cli import main
from vitrify.errors import ArtifactError, InvalidArgumentError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def model(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``y = x + s`` with x: float32 [n, 4] and s: float32 []."""
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(cache))
    monkeypatch.setenv("COLUMNS", "120")
    shapes: dict[str, list[int | str]] = {"x": ["n", 4], "s": [], "y": ["n", 4]}
    x, s, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("Add", ["x", "s"], ["y"])], "add", [x, s], [y])
    path = tmp_path / "add.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compile(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "add.vit"
    result = as_json(capsys, "compile", model, "-o", out)
    assert result["artifact"] == str(out) and zipfile.is_zipfile(out)
    assert result["kernels"] >= 1 and result["bytes"] > 0 and len(result["targets"]) == 1
    assert main(["compile", str(model), "-o", str(out)]) == 11
    assert "already exists" in capsys.readouterr().err
    assert main(["compile", str(model), "-o", str(out), "--replace"]) == 0
    assert "found in the cache" in capsys.readouterr().out
    assert as_json(capsys, "run", out, "--random", 1)["outputs"][0]["name"] == "y"


def test_run_with_inputs_from_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.raw").write_bytes(x.tobytes())
    np.savez(tmp_path / "all.npz", x=x, s=np.float32(3))
    given: list[list[object]] = [
        ["-i", f"x={tmp_path / 'x.npy'}", "-i", "s=3"],
        ["-i", f"x={tmp_path / 'x.raw'}", "--dim", "n=2", "-i", "s=3.0"],
        ["-i", f"x={tmp_path / 'x.raw'}", "--shape", "x=2,4", "-i", "s=3"],
        ["-i", "x=[[0,1,2,3],[4,5,6,7]]", "-i", "s=3"],
        ["-i", tmp_path / "all.npz"],
    ]
    for arguments in given:
        saved = tmp_path / "out.npz"
        (output,) = as_json(capsys, "run", model, *arguments, "--save", saved)["outputs"]
        assert output["shape"] == [2, 4] and output["min"] == 3 and output["max"] == 10
        with np.load(saved) as arrays:
            np.testing.assert_array_equal(arrays["y"], x + 3)


def test_run_with_made_up_inputs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (
        as_json(capsys, "run", model, "--random", seed, "--dim", "n=5")["outputs"] for seed in (1, 1, 2)
    )
    assert first == again != other and first[0]["shape"] == [5, 4]
    assert main(["run", str(model), "--random", "1"]) == 0
    assert "first elements" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "z=3"], "does not exist"),
        ([], "inputs are missing"),
        (["--random", "1", "--shape", "x=2"], "expected 2 dims"),
        (["--random", "1", "--dim", "n"], "expected NAME=VALUE"),
        (["--random", "1", "--dim", "n=-3"], "expected a number"),
        (["--random", "1", "--shape", "x=2,5"], "x"),
        (["--random", "1", "--dim", "n=99999999999999"], "no memory for input 'x' of shape [99999999999999, 4]"),
    ],
)
def test_refused_inputs(
    model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(model), *arguments]) == 1
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x=text.npy", "cannot be read: it holds objects or no array"),
        ("x=objects.npy", "cannot be read: it holds objects or no array"),
        ("x=short.npy", "cannot be read"),
        ("x=zip.npy", "several arrays"),
        ("text.npz", "cannot be read"),
        ("array.npz", "one array without a name"),
        ("x=good.npz", "expected NAME=FILE, or FILE.npz"),
        ("good.npy", "expected NAME=FILE, or FILE.npz"),
    ],
)
def test_files_that_hold_no_inputs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    given: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("text.npy", "text.npz"):
        Path(name).write_text("no array")
    np.save("good.npy", np.zeros((1, 4), np.float32))
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    np.savez("good.npz", x=np.zeros((1, 4), np.float32))
    Path("short.npy").write_bytes(Path("good.npy").read_bytes()[:-1])
    Path("zip.npy").write_bytes(Path("good.npz").read_bytes())
    Path("array.npz").write_bytes(Path("good.npy").read_bytes())
    assert main(["run", str(model), "--input", given]) == 1
    shown = capsys.readouterr().err
    assert "InvalidArgumentError" in shown and message in shown


def test_raw_bytes_of_the_wrong_size(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.raw").write_bytes(b"123")
    assert main(["run", str(model), "-i", f"x={tmp_path / 'x.raw'}", "--format", "json"]) == 1
    error = json.loads(capsys.readouterr().err)
    assert error["error"] == "InvalidArgumentError" and "expected 16 bytes" in error["message"]


def test_inspect(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = as_json(capsys, "inspect", model, "--dim", "n=3")
    assert facts["dims"] == {"n": 3}
    assert facts["inputs"][0] == {"name": "x", "dtype": "f32", "dims": ["n", 4]}
    (target,) = facts["targets"]
    assert target["ops"]["Add"] == 1 and target["flops"] >= 12
    assert target["memory"]["peak"] >= target["memory"]["arena"] >= 0
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "n × 4" in shown and "figures are for n = 1" in shown
    assert main(["inspect", str(model), "--dim", "m=3"]) == 1
    assert "unknown dim" in capsys.readouterr().err


def test_doctor(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = as_json(capsys, "doctor")
    assert found["problems"] == {} and "clang" in found["facts"]["compiler"]["version"]
    assert main(["doctor"]) == 0
    assert "cache" in capsys.readouterr().out
    monkeypatch.setenv("VITRIFY_CC", "no-such-compiler")
    assert main(["doctor", "--format", "json"]) == 1
    assert "no-such-compiler" in json.loads(capsys.readouterr().out)["problems"]["compiler"]


def test_usage(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert main(["--help"]) == 0
    assert "inspect" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert "vitrify" in capsys.readouterr().out
    assert main(["run", str(model), "--random", "-1"]) == 2
    assert "--random" in capsys.readouterr().err
    assert main(["frobnicate"]) == 2
    assert "frobnicate" in capsys.readouterr().err
    assert main(["run", "none.onnx", "--random", "1"]) == 1
    assert "NoSuchFileError" in capsys.readouterr().err


def test_interruption(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitrify.compiled.compile", interrupt)
    monkeypatch.setattr("vitrify.compile", interrupt, raising=False)
    assert main(["compile", str(model)]) == 130


MORE = ["min(1)", "abs(1,2)", "-" * 60_000 + "1", "1" + "+1" * 30_000, "*".join(["9" * 4000] * 16), "9" * 5000]


def test_amounts() -> None:
    text = "4*n*((m+31)//(32))-max(n,2)+-1%3"
    assert evaluate(text, {"n": 5, "m": 33}) == 4 * 5 * 2 - 5 + -1 % 3
    assert names(text) == {"n", "m"} and names(7) == set() and evaluate(7, {}) == 7
    with pytest.raises(InvalidArgumentError, match="'n' is not given"):
        evaluate(text, {})
    for bad in ("__import__('os')", "n.real", "2**9999", "1/2", "n if n else 1", "1//0", "(" * 500, "max()", *MORE):
        with pytest.raises(ArtifactError, match="not an amount"):
            evaluate(bad, {"n": 1})

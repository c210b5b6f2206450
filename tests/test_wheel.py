"""The wheel and the source distribution, built and installed in empty environments, with and without the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

import vitrify

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vitrify"
MODEL = (
    '<ir_version: 8, opset_import: ["" : 17]>\n'
    "g (float[n, k] x) => (float[n, m] y) { s = Softmax <axis = -1> (x) t = Transpose <perm = [1, 0]> (s)"
    " y = MatMul(x, t) }"
)

# What runs artifacts may have, and nothing else.
ALONE = """
import importlib.metadata, sys
import numpy as np, vitrify
session = vitrify.InferenceSession("made.vit")
np.save("alone.npy", session.run(None, {"x": np.load("x.npy")})[0])
from vitrify import replay, benchmark
for package in ("ir", "frontends", "rewrite", "lower", "codegen", "toolchain", "compiler"):
    assert f"vitrify.{package}" not in sys.modules, package
for name in ("onnx", "ziglang", "ml_dtypes", "typer", "rich"):
    assert name not in sys.modules, name
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} is here")
installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
assert installed <= {"vitrify", "numpy", "cryptography", "cffi", "pycparser", "typing_extensions"}, installed
missing = [name for name in vitrify.__all__ if not hasattr(vitrify, name)]
assert not missing, missing
try:
    vitrify.InferenceSession("model.onnx")
except vitrify.ToolchainError as error:
    assert "pip install 'vitrify[compile]'" in str(error), error
else:
    raise AssertionError("compiled without a compiler")
"""

COMPILED = """
import numpy as np, vitrify
vitrify.compile("model.onnx").save("again.vit")
session = vitrify.InferenceSession("model.onnx")
np.save("compiled.npy", session.run(None, {"x": np.load("x.npy")})[0])
"""


def run(*command: str | Path, folder: Path, fails: bool = False) -> str:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VITRIFY", "VIRTUAL_ENV"))}
    variables["VITRIFY_CACHE_DIR"] = str(folder / "cache")
    done = subprocess.run([*map(str, command)], cwd=folder, env=variables, capture_output=True, text=True, timeout=170)
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two distributions; the wheel is made from the source distribution, as an index would have it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "source": source}


def environment(folder: Path, requirement: str) -> Path:
    """The Python of a new environment with that requirement."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", folder=folder)
    python = folder / "env" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", requirement, folder=folder)
    return python


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model, its artifact and an input."""
    (tmp_path / "model.onnx").write_bytes(parser.parse_model(MODEL).SerializeToString())
    vitrify.compile(tmp_path / "model.onnx", cache_dir=tmp_path / "first").save(tmp_path / "made.vit")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((5, 7), dtype=np.float32))
    return tmp_path


def expected(work: Path) -> np.ndarray:
    (y,) = vitrify.InferenceSession(work / "made.vit").run(None, {"x": np.load(work / "x.npy")})
    return y


@pytest.mark.slow
def test_contents(built: dict[str, Path]) -> None:
    """Every file of the package, and nothing else."""
    files = {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.rglob("*") if p.is_file()}
    files = {f for f in files if "__pycache__" not in f}
    assert {"vitrify/py.typed", "vitrify/codegen/c/native/abi.h", "vitrify/codegen/c/native/call.c"} <= files
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    assert {n for n in names if ".dist-info/" not in n} == files
    described = {n.split(".dist-info/")[1] for n in names if ".dist-info/" in n}
    assert described == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    with tarfile.open(built["source"]) as source:
        tops = {Path(n).parts[1] for n in source.getnames() if len(Path(n).parts) > 1}
    allowed = {"src", "tests", "demo", "examples", "bench", "docs"}
    allowed |= {"Makefile", "README.md", "LICENSE", "pyproject.toml"}
    assert tops - {"PKG-INFO", ".gitignore"} == allowed


@pytest.mark.slow
def test_without_extras(built: dict[str, Path], work: Path) -> None:
    """An artifact made elsewhere runs with NumPy and cryptography alone."""
    python = environment(work, str(built["wheel"]))
    run(python, "-W", "error", "-c", ALONE, folder=work)
    assert np.load(work / "alone.npy").tobytes() == expected(work).tobytes()
    said = run(python, "-m", "vitrify", "inspect", "made.vit", folder=work, fails=True)
    assert "pip install 'vitrify[cli]'" in said and "Traceback" not in said
    assert "pip install" in run(work / "env" / "bin" / "vitrify", "--help", folder=work, fails=True)


@pytest.mark.slow
def test_with_the_commands(built: dict[str, Path], work: Path) -> None:
    """A server that has the command line but no compiler."""
    python = environment(work, f"{built['wheel']}[cli]")
    assert "verified" in run(python, "-m", "vitrify", "verify", "made.vit", folder=work)
    assert "made.vit" in run(python, "-m", "vitrify", "inspect", "made.vit", folder=work)
    run(python, "-m", "vitrify", "run", "made.vit", "--random", "1", "--dim", "n=2", "--dim", "k=3", folder=work)
    said = run(python, "-m", "vitrify", "compile", "model.onnx", folder=work, fails=True)
    assert "pip install 'vitrify[compile]'" in said


@pytest.mark.slow(minutes=1)
def test_with_the_compiler(built: dict[str, Path], work: Path) -> None:
    python = environment(work, f"{built['wheel']}[compile]")
    run(python, "-W", "error", "-c", COMPILED, folder=work)
    assert np.load(work / "compiled.npy").tobytes() == expected(work).tobytes()
    found = vitrify.diff(work / "made.vit", work / "again.vit")
    assert not [one for one in found.differences if one.what != "file provenance.json"]  # other packages are there
    assert "again.vit" in run(python, "-m", "vitrify", "inspect", "again.vit", folder=work)

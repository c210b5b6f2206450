"""The examples: programs without Python that give, bit for bit, the probabilities that Python gives."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import vitrify
from tests.cpp.conftest import Build
from vitrify.include import include_directory

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "demo" / "speech.wav"


@pytest.fixture(scope="module")
def vad() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vad", ROOT / "demo" / "vad.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vad"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifact that examples/speech_artifact.py writes, in directories of its own."""
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRIFY_TRUST_DIR", str(folder / "trust"))
        patch.setenv("VITRIFY_CACHE_DIR", str(folder / "cache"))  # what is in the usual one is signed by another key
        path = folder / "speech.vit"
        subprocess.run([sys.executable, str(ROOT / "examples" / "speech_artifact.py"), str(path)], check=True)
        yield path


@pytest.fixture(scope="module")
def expected(vad: ModuleType, speech: Path) -> np.ndarray:
    session = vitrify.InferenceSession(str(speech), vitrify.SessionOptions(intra_op_num_threads=1))
    stream = vad.Stream(session.run)
    for chunk in vad.read_recording(RECORDING):
        stream.push(chunk)
    return np.array(stream.probabilities, np.float32)


def probabilities(program: Path, speech: Path) -> np.ndarray:
    done = subprocess.run([str(program), str(speech), str(RECORDING)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array([float(line) for line in done.stdout.split()], np.float32)


def refusals(program: Path, speech: Path, folder: Path) -> None:
    """Bad arguments and a damaged artifact have the exit statuses of the command line."""
    damaged = folder / "damaged.vit"
    data = bytearray(speech.read_bytes())
    data[data.index(b"\x7fELF") + 5000] ^= 1
    damaged.write_bytes(data)
    for arguments, status in (([], 2), ([str(damaged), str(RECORDING)], 13), ([str(speech), str(speech)], 1)):
        assert subprocess.run([str(program), *arguments], capture_output=True).returncode == status


def test_cpp(build: Build, speech: Path, expected: np.ndarray, tmp_path: Path) -> None:
    program = build(ROOT / "examples" / "cpp" / "vad.cpp", "vad", "-O1")
    assert probabilities(program, speech).tobytes() == expected.tobytes() and len(expected) == 871
    refusals(program, speech, tmp_path)


def test_rust(compiler: str, speech: Path, expected: np.ndarray, tmp_path: Path) -> None:
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo: the Rust example was not built")
    command = ["cargo", "build", "--offline", "--locked", "--manifest-path",
               str(ROOT / "examples" / "rust" / "Cargo.toml"), "--target-dir", str(tmp_path / "target")]  # fmt: skip
    variables = {**os.environ, "VITRIFY_INCLUDE": str(include_directory()), "RUSTFLAGS": "-Dwarnings"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    program = tmp_path / "target" / "debug" / "vad"
    assert probabilities(program, speech).tobytes() == expected.tobytes()
    refusals(program, speech, tmp_path)

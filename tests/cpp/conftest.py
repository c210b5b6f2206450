"""The C++ program that loads artifacts, built once for all tests of a session, plainly and with sanitizers."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vitrify.artifact.dtypes import BY_NAME
from vitrify.artifact.manifest import Port
from vitrify.include import include_directory

HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")
NEEDED = "g++ and libssl-dev (Debian: apt-get install g++ libssl-dev; `make test` does it)"
SANITIZED = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99", "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"
}  # fmt: skip


def missing() -> str:
    """What building against libcrypto lacks here; empty where nothing is."""
    if shutil.which("g++") is None:
        return "there is no g++"
    probe = subprocess.run(
        ["g++", "-E", "-x", "c++", "-", "-o", os.devnull], input="#include <openssl/evp.h>\n", text=True,
        capture_output=True,
    )  # fmt: skip
    return "" if probe.returncode == 0 else "there are no headers of libcrypto"


@pytest.fixture(scope="session")
def compiler() -> str:
    """g++, where it and libcrypto's headers are installed. Elsewhere the test is skipped, and in CI it fails."""
    lacking = missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"{lacking}: these tests need {NEEDED}")
    if lacking:
        pytest.skip(f"{lacking}: these tests need {NEEDED}")
    return "g++"


Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a C++ program that includes the loader, once for all workers; warnings are errors."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cpp"

    def make(source: Path, name: str, *options: str) -> Path:
        folder.mkdir(exist_ok=True)
        program = folder / name
        command = [compiler, "-std=c++17", *WARNINGS, *options, f"-I{include_directory()}", str(source), "-o",
                   str(program), "-lcrypto", "-pthread"]  # fmt: skip
        with open(folder / f"{name}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                done = subprocess.run(command, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr[-4000:]
        return program

    return make


@dataclass(frozen=True)
class Loader:
    """The program ``check.cpp``."""

    program: Path

    def __call__(
        self, stage: str, path: Path | str, *options: object, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Its exit status and what it said; a report of a sanitizer is an error here."""
        done = subprocess.run(
            [str(self.program), stage, str(path), *map(str, options)], capture_output=True, text=True,
            env={**os.environ, **SANITIZED, **(environment or {})}, timeout=60,
        )  # fmt: skip
        assert done.returncode != 99 and "runtime error" not in done.stderr, done.stderr[-4000:]
        assert done.returncode >= 0, f"signal {-done.returncode}: {done.stderr[-2000:]}"
        return done

    def run(
        self, path: Path | str, inputs: Sequence[Port], feed: Mapping[str, np.ndarray], folder: Path, *options: object
    ) -> list[np.ndarray]:
        """The outputs of one run, as their carriers' arrays."""
        folder.mkdir(exist_ok=True)
        for index, port in enumerate(inputs):
            array = np.ascontiguousarray(feed[port.name])
            shape = " ".join(map(str, array.shape))
            header = f"{port.name}\n{port.dtype} {shape}\n".encode()
            (folder / f"in.{index}").write_bytes(header + array.tobytes())
        done = self("run", path, "--feed", folder, *options)
        assert done.returncode == 0, done.stderr
        found = []
        while (file := folder / f"out.{len(found)}").exists():
            first, _, data = file.read_bytes().partition(b"\n")
            dtype, *dims = first.decode().split()
            found.append(np.frombuffer(data, BY_NAME[dtype].carrier).reshape([int(dim) for dim in dims]))
        return found


@pytest.fixture(scope="session")
def sanitized(build: Build) -> Loader:
    """The loader's program with the address, leak and undefined-behaviour sanitizers."""
    options = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return Loader(build(HERE / "check.cpp", "sanitized", *options))


@pytest.fixture(scope="session")
def clang() -> list[str]:
    """The other compiler: clang, in a wheel."""
    pytest.importorskip("ziglang")
    return [sys.executable, "-m", "ziglang", "c++"]

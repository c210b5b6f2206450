"""The same artifact, byte for byte, from every process; payloads of other machines compile too."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler.harness import COMPILER, Model, compile_artifact, sample
from tests.compiler.test_random import SMOOTH, graphs
from tests.compiler.test_threads import large
from tests.random_graphs import Case
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, F16, F32, F64, I8, I64, U8

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
from pathlib import Path
from tests.compiler import test_determinism
print(test_determinism.digest())
"""


def digest() -> str:
    """Of every file of the artifacts of two models."""
    whole = hashlib.sha256()
    for model in (large(Dim.symbol("n"), 30), many_dtypes()):
        folder = compile_artifact(model.graph(), target="x86-64-v3")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def many_dtypes() -> Model:
    m = Model()
    for dtype in (F64, F16, BF16, I8, U8, I64):
        x = m.input(sample(dtype, (5, 19)), (Dim.symbol("a"), Dim.symbol("b", 1)))
        m.result(m.map("add", x, x), m.reduce("max", x, (1,)), m.pad(x, (1, 0), (0, 1), 1), m.cast(x, F32))
        wide = m.cast(m.map("exp", m.cast(x, F32)), F64)
        m.result(m.cast(m.map("add", wide, m.map("sin", wide)), dtype), m.reduce("sum", wide, (1,)))
    return m


def test_hash_seeds_and_processes_change_nothing() -> None:
    found = set()
    for hash_seed in ("0", "1", "424242"):
        variables = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize("target", ["aarch64", "x86-64-v4"])
def test_payloads_of_other_machines(target: str) -> None:
    """They compile and link; nothing here runs them."""
    for model in (large(Dim.symbol("n"), 30), many_dtypes()):
        compile_artifact(model.graph(), target=target, compiler=COMPILER)

    def build(case: Case) -> None:
        compile_artifact(case.graph, target=target)

    graphs((F32, I64, U8), SMOOTH, 7, 6, build)

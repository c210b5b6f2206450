"""The node cases under the address and undefined-behaviour sanitizers: a few always, all with ``--runslow``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler.sanitized import environment

ROOT = Path(__file__).resolve().parents[2]
PARTS = 16  # processes for all of them; each keeps its kernels, so fewer share more


def check(first: int, step: int, least: int) -> None:
    command = [sys.executable, "-m", "tests.conformance.sanitized_nodes", str(first), str(step)]
    variables = {**environment(), "VITRIFY_DEBUG": "0"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=1200)
    reports = [line for line in done.stderr.splitlines() if "runtime error" in line or "Sanitizer" in line]
    lines = done.stdout.splitlines() or ["nothing"]
    assert not reports and done.returncode == 0, f"at {lines[-1]}\n{done.stderr[-6000:]}"
    assert lines[-1].startswith("done") and int(lines[-1].split()[1]) >= least, lines[-1]


def test_a_few() -> None:
    check(5, 250, 7)


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize("first", range(PARTS))
def test_all(first: int) -> None:
    check(first, PARTS, 100)

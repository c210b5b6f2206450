"""Generated code under the address and undefined-behaviour sanitizers, over buffers of exactly their size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler.sanitized import environment
from vitrify.errors import ToolchainError

ROOT = Path(__file__).resolve().parents[2]


def run_sanitized(number: int, count: int) -> None:
    try:
        variables = environment()
    except ToolchainError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "tests.compiler.sanitized", str(number), str(count)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)
    reports = [line for line in done.stderr.splitlines() if "runtime error" in line or "Sanitizer" in line]
    assert not reports and done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert int(done.stdout.split()[-1]) == count


def test_no_report() -> None:
    run_sanitized(0, 25)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 7))
def test_no_report_of_more(number: int) -> None:
    run_sanitized(number, 80)

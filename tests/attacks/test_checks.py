"""Every check of the artifact's path is needed: without it, some test fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import mutants

ROOT = Path(__file__).parents[2]
SAMPLE = (
    "artifact/loading.py:_judge", "artifact/trust/envelope.py:open_envelope", "artifact/trust/envelope.py:require",
    "artifact/trust/policy.py:Policy.accept", "artifact/trust/policy.py:parse",
    "artifact/trust/policy.py:open_policy",
)  # fmt: skip

#: Beginnings of names of checks that no test misses, and why they stay.
KEPT: dict[str, str] = {}


def survey(*arguments: str) -> dict[str, str]:
    found = subprocess.run(
        [sys.executable, "-m", "tests.attacks.mutants", *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    results: dict[str, str] = json.loads(found.stdout)
    return results


def test_a_sample() -> None:
    results = survey("--quick", *SAMPLE)
    assert len(results) >= 15
    assert {name: result for name, result in results.items() if result != "killed"} == {}


@pytest.mark.slow(minutes=12)
def test_every_check() -> None:
    results = survey()
    assert len(results) >= 350
    missed = [name for name, result in results.items() if result != "killed"]
    assert [name for name in missed if not name.startswith(tuple(KEPT))] == []


def test_what_is_kept_exists() -> None:
    names = [check.name for check in mutants.checks()]
    assert [kept for kept in KEPT if not any(name.startswith(kept) for name in names)] == []
    assert all(len(reason) > 10 for reason in KEPT.values())

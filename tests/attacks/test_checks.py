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
_BEHIND = "it stands behind checks that are always first, and bounds what they let through"
_TWO = "it takes changes in several tables that agree with each other; a linker could write such a library"
_ASKED = "a rule for those who change the policy or sign, not one of loading"
KEPT: dict[str, str] = {
    "artifact/gate/image.py:Image.array: self.bound": _BEHIND,
    "artifact/gate/image.py:Image.name: self.bound": _BEHIND,
    "artifact/gate/opcodes.py:_Bytes.__init__: image.bound": _BEHIND,
    "artifact/gate/opcodes.py:_Bytes.number: raise": _TWO,
    "artifact/gate/opcodes.py:check_rebasing: raise image.refused(\"the rebasing table wraps": _TWO,
    "artifact/gate/macho.py:examine: raise image.refused(\"the library has weak or lazy": _TWO,
    "artifact/gate/macho.py:_plain: raise": _TWO,
    "artifact/gate/macho.py:_segments: raise image.refused(\"the headers are not in __TEXT": _BEHIND,
    "artifact/gate/macho.py:_libraries: raise image.refused(\"the library has no name": _TWO,
    "artifact/gate/pe.py:_relocations: raise image.refused(\"base relocations are out of order": _TWO,
    "artifact/signing.py:envelope_of: raise LimitError": _ASKED,
    "artifact/trust/changes.py:check_reachable: raise PolicyError(\"no artifact could load": _ASKED,
    "artifact/trust/changes.py:_listed: check_public": _ASKED,
    "artifact/trust/changes.py:requiring.change: raise": _ASKED,
    "artifact/trust/keys.py:Signer.read: raise SignatureError(\"not an Ed25519": _ASKED,
    "artifact/trust/store.py:Store._read: raise PolicyError(f\"cannot be opened": "the directory goes in between",
    "artifact/validation.py:_file: check_name": "a name that is listed has been checked there",
    "artifact/writing.py:_complete: check_names": "names are checked again before anything is written",
    "artifact/writing.py:store_files: check_names": "names are checked before, and again by the container",
    "runtime/native.py:_array_table: raise": "no NumPy that can be installed lays out arrays in another way",
}


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

"""Changed models end in a documented error or in the right answer. A failure names the seed and the number of its
case; ``python -m tests.fuzz.worker SEED NUMBER 1 1 60 1`` repeats it."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import campaign

SECONDS = int(os.environ.get("VITRIFY_FUZZ_SECONDS", "300"))  # of the longer run


def check(findings: campaign.Findings, least: int) -> None:
    shown = "\n\n".join(findings.failures[:10])
    assert not findings.failures, f"{len(findings.failures)} failures\n{shown}\n{dict(findings.counts)}"
    assert findings.counts["cases"] >= least and findings.counts["compared"] >= least // 20, findings.counts


def test_a_fixed_sample() -> None:
    check(campaign.run(0, 0, 1, 1200, 200, 60), 600)


@pytest.mark.slow(minutes=5)
def test_more_of_them() -> None:
    seed = int.from_bytes(os.urandom(4))
    check(campaign.run(seed, 0, 1, 10**9, SECONDS, 50), SECONDS)

"""Runs workers, notes what they find, and goes on behind a model that ended one."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STALLED = 180  # seconds without a line: its own limits did not end a phase


@dataclass
class Findings:
    """What became of the cases; a failure names the seed and the number that reproduce it."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)  # from the reference alone, for a person to judge


def run(seed: int, first: int, step: int, count: int, seconds: int, compile_every: int) -> Findings:
    """The worker's cases. Where a peer ends the process, another goes on with the next case."""
    findings, end = Findings(), time.monotonic() + seconds
    left = count
    while left > 0:
        remaining = max(1, int(end - time.monotonic()))
        last = _worker(seed, first, step, left, remaining, compile_every, findings)
        if last is None or time.monotonic() > end:
            return findings
        left -= (last - first) // step + 1
        first = last + step
    return findings


def _worker(seed: int, first: int, step: int, count: int, seconds: int, every: int, findings: Findings) -> int | None:
    """The number of the case that ended the process; None where it came to its end."""
    arguments = [str(a) for a in (seed, first, step, count, seconds, every)]
    with tempfile.TemporaryFile() as errors:  # no pipe: nobody reads it meanwhile
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "ignore", "-m", "tests.fuzz.worker", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, "VITRIFY_DEBUG": "0"},
        )  # fmt: skip
        last = _followed(process, seed, findings, first)
        if last is None:
            return None
        number, phase = last
        errors.seek(0)
        text = errors.read().decode(errors="replace")[-3000:]
    findings.counts["ended by " + phase] += 1
    if phase != "peer":
        findings.failures.append(f"seed {seed}, case {number}: the process ended in phase {phase!r}\n{text}")
    return number


def _followed(process: subprocess.Popen[bytes], seed: int, findings: Findings, first: int) -> tuple[int, str] | None:
    """Notes what the worker says. The case and the phase it ended in, None where it came to its end."""
    number, phase = first, "start"
    try:
        for line in _lines(process):
            if "done" in line:
                findings.counts.update(line["done"])
                return None
            number, phase = line["number"], line.get("phase", phase)
            if "failure" in line:
                findings.failures.append(f"seed {seed}, case {number}: {line['failure']}")
            if "difference" in line:
                findings.differences.append(f"seed {seed}, case {number}: {line['difference']}")
    finally:
        process.kill()
        process.communicate()
    return number, phase


def _lines(process: subprocess.Popen[bytes]) -> Any:
    """What the worker prints, until it ends or stalls."""
    assert process.stdout is not None
    kept = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(STALLED):
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                return
            *whole, kept = (kept + data).split(b"\n")
            yield from map(json.loads, whole)


if __name__ == "__main__":
    found = run(*(int(a) for a in sys.argv[1:]))
    print(*found.differences, *found.failures, dict(found.counts), sep="\n\n")  # noqa: T201 (a program)

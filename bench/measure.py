"""Timing several engines against each other on a machine that does other things too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

_REST = 0.02  # seconds: an engine's workers spin for a while after its last call


@dataclass
class Times:
    """Seconds per call."""

    calls: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.calls)

    @property
    def best(self) -> float:
        return min(self.calls)


def interleaved(
    runs: Mapping[str, Callable[[], object]], *, seconds: float = 2.0, rounds: int = 8
) -> dict[str, Times]:
    """Each engine in turn for a slice of time, round after round, in an order that rotates; about
    ``seconds`` for each engine. The first call of a slice finds cold caches and is not counted."""
    estimates = {name: _estimate(run) for name, run in runs.items()}
    times = {name: Times() for name in runs}
    names = list(runs)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            run, calls = runs[name], times[name].calls
            count = max(2, min(5000, round(seconds / rounds / estimates[name])))
            time.sleep(_REST)
            run()
            clock = time.perf_counter
            for _ in range(count):
                start = clock()
                run()
                calls.append(clock() - start)
    return times


def _estimate(run: Callable[[], object]) -> float:
    run()
    start = time.perf_counter()
    run()
    return max(time.perf_counter() - start, 1e-7)


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest absolute difference of an output, relative to its largest element; infinite where shapes
    differ or a NaN is not met by a NaN."""
    worst = 0.0
    if len(found) != len(expected):
        return float("inf")
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        if b.size:
            scale = float(np.nanmax(np.abs(b))) or 1.0
            worst = max(worst, float(np.nanmax(np.abs(a.astype(np.float64) - b))) / scale)
    return worst

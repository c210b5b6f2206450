"""Measuring a session in its own process: latency, throughput, memory.

>>> bench = vitrify.benchmark.Benchmark(session, {"input": array})
>>> bench.measure_latency(seconds=2).p99
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from vitrify.errors import InvalidArgumentError

_FEWEST_CALLS = 10


class Runs(Protocol):
    """A session, ours or another's with the same call."""

    def run(self, output_names: Any, input_feed: Any, /) -> Any: ...


@dataclass(frozen=True)
class Latency:
    """Seconds per call, one call after the other."""

    calls: int
    mean: float
    minimum: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Throughput:
    """Calls (and items: their number times the leading dim of the first input) per second of ``callers`` threads."""

    callers: int
    calls: int
    seconds: float
    calls_per_second: float
    items_per_second: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class MemoryProfile:
    """Bytes. ``planned``: the plan's own peak where dims are fixed, else None. ``resident``: of the process
    after the calls; ``growth``: how much more than after the first half of them; ``peak``: the most the process
    has ever had."""

    planned: int | None
    weights: int | None
    resident: int
    growth: int
    peak: int

    def to_dict(self) -> dict[str, int | None]:
        return asdict(self)


class Benchmark:
    """``session`` on ``input_feed``; its first call is made here, and not counted. Raises what ``run`` raises."""

    def __init__(self, session: Runs, input_feed: Mapping[str, Any]) -> None:
        self._session, self._feed = session, dict(input_feed)
        session.run(None, self._feed)

    def measure_latency(self, *, seconds: float = 1.0, calls: int | None = None, warmup: int = 3) -> Latency:
        """``calls`` calls, or as many as take about ``seconds`` (ten at least)."""
        _check_positive("seconds", seconds)
        run, feed, clock = self._session.run, self._feed, time.perf_counter
        for _ in range(warmup):
            run(None, feed)
        times: list[float] = []
        end = clock() + seconds
        while len(times) < (calls or _FEWEST_CALLS) or (calls is None and clock() < end):
            start = clock()
            run(None, feed)
            times.append(clock() - start)
        p50, p90, p95, p99 = (float(v) for v in np.percentile(times, (50, 90, 95, 99)))
        return Latency(len(times), float(np.mean(times)), min(times), p50, p90, p95, p99, max(times))

    def measure_throughput(self, *, seconds: float = 1.0, callers: int = 1) -> Throughput:
        """``callers`` threads that call without pause for ``seconds``. A failure in one is raised here."""
        _check_positive("seconds", seconds)
        if not isinstance(callers, int) or callers < 1:
            raise InvalidArgumentError("callers", expected="a number from 1", actual=repr(callers))
        counts, failures, gate = [0] * callers, [], threading.Barrier(callers + 1)
        stop = threading.Event()

        def call(number: int) -> None:
            gate.wait()
            try:
                while not stop.is_set():
                    self._session.run(None, self._feed)
                    counts[number] += 1
            except Exception as error:  # noqa: BLE001  (raised again by the caller)
                failures.append(error)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(callers)]
        for thread in threads:
            thread.start()
        gate.wait()
        start = time.perf_counter()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - start
        if failures:
            raise failures[0]
        total = sum(counts)
        first = next((np.shape(v) for v in self._feed.values()), ())
        return Throughput(callers, total, took, total / took, total * (first[0] if first else 1) / took)

    def profile_memory(self, *, calls: int = 100) -> MemoryProfile:
        """Memory over ``calls`` calls."""
        target = getattr(self._session, "target", None)
        planned = getattr(target, "peak_bytes", None)
        artifact = getattr(self._session, "artifact", None)
        weights = None
        if target is not None and artifact is not None and target.weights is not None:
            weights = artifact.manifest.files[target.weights].size
        halves = []
        for _ in range(2):
            for _ in range(max(calls // 2, 1)):
                self._session.run(None, self._feed)
            halves.append(resident_bytes())
        peak = max(*halves, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # counted now and then
        fixed = planned if isinstance(planned, int) else None
        return MemoryProfile(fixed, weights, halves[1], halves[1] - halves[0], peak)


def resident_bytes() -> int:
    """What of this process is in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or not value > 0:
        raise InvalidArgumentError(name, expected="a number above 0", actual=repr(value))

"""One session measured in its own process: latency, throughput, memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from vitrify.benchmark.timing import Latency, Run, Throughput, at_once, check_count, check_positive
from vitrify.errors import InvalidArgumentError

_FEWEST_CALLS = 10


class Runs(Protocol):
    """A session, ours or another's with the same call."""

    def run(self, output_names: Any, input_feed: Any, /) -> Any: ...


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

    @property
    def peak_mb(self) -> float:
        """``peak`` in units of 10^6 bytes."""
        return self.peak / 1e6

    def to_dict(self) -> dict[str, int | None]:
        return asdict(self)


class Benchmark:
    """``session`` on ``input_feed``, which each measurement may replace by its own. A feed's first call is not
    counted. Raises what ``run`` raises, and InvalidArgumentError for a measurement without a feed."""

    def __init__(self, session: Runs, input_feed: Mapping[str, Any] | None = None) -> None:
        self._session, self._feed = session, None if input_feed is None else dict(input_feed)
        if self._feed is not None:
            session.run(None, self._feed)

    def measure_latency(
        self,
        input_feed: Mapping[str, Any] | None = None,
        *,
        warmup_runs: int = 10,
        benchmark_runs: int | None = None,
        duration_seconds: float = 1.0,
    ) -> Latency:
        """``benchmark_runs`` calls, or as many as take about ``duration_seconds`` (ten at least), after
        ``warmup_runs`` that do not count."""
        check_positive("duration_seconds", duration_seconds)
        check_count("warmup_runs", warmup_runs, 0)
        if benchmark_runs is not None:
            check_count("benchmark_runs", benchmark_runs)
        run, feed, clock = self._session.run, self._fed(input_feed), time.perf_counter
        for _ in range(warmup_runs):
            run(None, feed)
        times: list[float] = []
        end = clock() + duration_seconds
        while len(times) < (benchmark_runs or _FEWEST_CALLS) or (benchmark_runs is None and clock() < end):
            start = clock()
            run(None, feed)
            times.append(clock() - start)
        return Latency.of(times, warmup_runs)

    def measure_throughput(
        self,
        input_feed: Mapping[str, Any] | None = None,
        *,
        duration_seconds: float = 1.0,
        batch_size: int = 1,
        callers: int = 1,
    ) -> Throughput:
        """``callers`` threads that call without pause. With ``batch_size`` above 1 a call is ``run_batch`` of so
        many requests, joined where the model allows it; such a session has to have it."""
        check_positive("duration_seconds", duration_seconds)
        check_count("callers", callers)
        check_count("batch_size", batch_size)
        feed, session = self._fed(input_feed), self._session
        samples = samples_of(feed)
        run: Run = lambda: session.run(None, feed)  # noqa: E731
        if batch_size > 1:
            if (run_batch := getattr(session, "run_batch", None)) is None:
                raise InvalidArgumentError(
                    "batch_size", expected="1: this session has no run_batch", actual=batch_size,
                    hint="feed arrays of the batch's size",
                )  # fmt: skip
            feeds = [feed] * batch_size
            run = lambda: run_batch(None, feeds, max_batch_size=batch_size * samples)  # noqa: E731
            run()
        calls, took = at_once([run] * callers, duration_seconds)
        return Throughput.of(callers, calls * batch_size, took, samples)

    def profile_memory(
        self, input_feed: Mapping[str, Any] | None = None, *, benchmark_runs: int = 100
    ) -> MemoryProfile:
        """Memory over so many calls."""
        check_count("benchmark_runs", benchmark_runs)
        feed = self._fed(input_feed)
        target = getattr(self._session, "target", None)
        planned = getattr(target, "peak_bytes", None)
        artifact = getattr(self._session, "artifact", None)
        weights = None
        if target is not None and artifact is not None and target.weights is not None:
            weights = artifact.manifest.files[target.weights].size
        halves = []
        for _ in range(2):
            for _ in range(max(benchmark_runs // 2, 1)):
                self._session.run(None, feed)
            halves.append(resident_bytes())
        peak = max(*halves, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # counted now and then
        fixed = planned if isinstance(planned, int) else None
        return MemoryProfile(fixed, weights, halves[1], halves[1] - halves[0], peak)

    def _fed(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        if given is not None:
            self._session.run(None, given)
            return dict(given)
        if self._feed is None:
            raise InvalidArgumentError(
                "input_feed", expected="arrays by the inputs' names, here or where the Benchmark is made", actual="none"
            )
        return self._feed


def samples_of(feed: Mapping[str, Any]) -> int:
    """Rows of the first input; 1 for a scalar."""
    shape = next((np.shape(value) for value in feed.values()), ())
    return shape[0] if shape else 1


def resident_bytes() -> int:
    """What of this process is in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

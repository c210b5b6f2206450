"""Times of calls: of one caller after the other, of several engines in turn, of several callers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vitrify.errors import InvalidArgumentError

Run = Callable[[], Any]

_REST = 0.02  # seconds: an engine's workers spin for a while after its last call
_MOST_CALLS = 5000  # of a slice
_UNCOUNTED = 4  # calls that tell how long one takes


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call, one call after the other. ``warmup_calls`` came before and between, and do not count;
    ``stddev_ms`` is the population's."""

    calls: int
    warmup_calls: int
    mean_ms: float
    stddev_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float], warmup_calls: int) -> Latency:
        """Of calls that took so many seconds."""
        times = np.asarray(seconds) * 1e3
        p50, p90, p95, p99 = (float(v) for v in np.percentile(times, (50, 90, 95, 99)))
        mean, stddev, least, most = (float(v) for v in (times.mean(), times.std(), times.min(), times.max()))
        return cls(len(times), warmup_calls, mean, stddev, least, p50, p90, p95, p99, most)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Throughput:
    """What ``callers`` threads got done. A request is what one caller feeds; a sample is a row of its first input
    (a request without dims is one)."""

    callers: int
    requests: int
    seconds: float
    requests_per_second: float
    samples_per_second: float

    @classmethod
    def of(cls, callers: int, requests: int, seconds: float, samples: int) -> Throughput:
        """Of requests with so many samples each."""
        return cls(callers, requests, seconds, requests / seconds, samples * requests / seconds)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def interleaved(runs: Mapping[str, Run], *, seconds: float = 2.0, rounds: int = 8) -> dict[str, Latency]:
    """Each engine in turn for a slice of time, round after round, in an order that rotates; about
    ``seconds`` for each engine. The first call of a slice finds cold caches and is not counted."""
    estimates = {name: _estimate(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    clock = time.perf_counter
    for number in range(rounds):
        for name in _rotated(names, number):
            run, calls = runs[name], times[name]
            count = max(2, min(_MOST_CALLS, round(seconds / rounds / estimates[name])))
            time.sleep(_REST)
            run()
            for _ in range(count):
                start = clock()
                run()
                calls.append(clock() - start)
    return {name: Latency.of(found, rounds + _UNCOUNTED) for name, found in times.items()}


def _rotated(names: list[str], by: int) -> list[str]:
    return names[by % len(names) :] + names[: by % len(names)]


def _estimate(run: Run) -> float:
    """Seconds of a call: the best of some, since one alone may have been disturbed."""
    times = []
    for _ in range(_UNCOUNTED):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-7)


def interleaved_throughput(
    callers: Mapping[str, Sequence[Run]], samples: int, *, seconds: float = 2.0, rounds: int = 4
) -> dict[str, Throughput]:
    """For each engine one call per caller: all callers of one engine at once, the engines in turn."""
    done = dict.fromkeys(callers, 0)
    took = dict.fromkeys(callers, 0.0)
    for number in range(rounds):
        for name in _rotated(list(callers), number):
            time.sleep(_REST)
            calls, spent = at_once(callers[name], seconds / rounds)
            done[name] += calls
            took[name] += spent
    return {name: Throughput.of(len(runs), done[name], took[name], samples) for name, runs in callers.items()}


def at_once(runs: Sequence[Run], seconds: float) -> tuple[int, float]:
    """Calls that were made by one thread for each of ``runs``, without pause for ``seconds``, and the seconds it
    took until the last ended. A failure in a thread is raised here."""
    counts = [0] * len(runs)
    failures: list[Exception] = []
    gate, stop = threading.Barrier(len(runs) + 1), threading.Event()

    def call(number: int, run: Run) -> None:
        gate.wait()
        try:
            while not stop.is_set():
                run()
                counts[number] += 1
        except Exception as error:  # noqa: BLE001  (raised again by the caller)
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=call, args=given) for given in enumerate(runs)]
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
    return sum(counts), took


def check_positive(name: str, value: object) -> None:
    """InvalidArgumentError unless ``value`` is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise InvalidArgumentError(name, expected="a number above 0", actual=repr(value))


def check_count(name: str, value: object, least: int = 1) -> None:
    """InvalidArgumentError unless ``value`` is an integer from ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgumentError(name, expected=f"an integer from {least}", actual=repr(value))

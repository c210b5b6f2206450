"""What this machine can do at most, measured: what kernels' times are compared with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .native import NativeSession

_ROUNDS = 20_000
_CACHED_BYTES = 128 << 10  # the source of a copy within the first two levels of a core's cache
_CACHED_COPIES = 50
_COPY_BYTES = 64 << 20  # of all threads together
_LEAST_COPY = 2 << 20
_REPEATS = 20
_LARGE_REPEATS = 5


class Limits(NamedTuple):
    """On ``threads`` threads: float32 multiplies and adds in registers per second, and bytes read and written per
    second by copies, in the cores' own caches and in memory. The first two are those of one undisturbed thread,
    times the threads."""

    threads: int
    flops_per_second: float
    cached_bytes_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float, traffic: float) -> float:
        """The least time for so much work in one kernel call: bytes that fit the cores' caches may come from there."""
        cached = traffic <= self.threads << 20
        return max(
            flops / self.flops_per_second,
            traffic / (self.cached_bytes_per_second if cached else self.bytes_per_second),
        )


_known: dict[tuple[int, str], Limits] = {}
_lock = threading.Lock()


def limits(native: NativeSession, threads: int, target: str) -> Limits:
    """The best of several tries, measured once for each number of threads (about 0.1 s)."""
    key = (threads, target)
    with _lock:  # measured by one thread while the others wait: they would disturb it
        if key not in _known:
            _known[key] = _measured(native, threads)
    return _known[key]


def _measured(native: NativeSession, threads: int) -> Limits:
    done = 0

    def multiply(_: int) -> None:
        nonlocal done
        done = native.probe(_ROUNDS)

    near = (np.ones(_CACHED_BYTES, np.uint8), np.ones(_CACHED_BYTES, np.uint8))

    def copy_near(_: int) -> None:
        for _ in range(_CACHED_COPIES):
            np.copyto(*near)

    size = max(_COPY_BYTES // threads, _LEAST_COPY)
    far = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]

    def copy_far(index: int) -> None:
        np.copyto(*far[index])

    flops_time = min(_timed(multiply, 1) for _ in range(_REPEATS))
    near_time = min(_timed(copy_near, 1) for _ in range(_REPEATS))
    far_time = min(_timed(copy_far, threads) for _ in range(_LARGE_REPEATS))
    near_rate = threads * 2 * _CACHED_BYTES * _CACHED_COPIES / near_time
    far_rate = threads * 2 * size / far_time
    return Limits(threads, threads * done / flops_time, max(near_rate, far_rate), far_rate)


def _timed(work: Callable[[int], None], threads: int) -> float:
    """Seconds in which every thread did its share."""
    spans: list[tuple[float, float]] = []

    def run(index: int) -> None:
        start = time.perf_counter()
        work(index)
        spans.append((start, time.perf_counter()))

    others = [threading.Thread(target=run, args=(index,)) for index in range(1, threads)]
    for thread in others:
        thread.start()
    run(0)
    for thread in others:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)

"""What this machine can do at most, measured: what kernels' times are compared with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .native import NativeSession

_ROUNDS = 100_000
_COPY_BYTES = 32 << 20
_REPEATS = 5


class Limits(NamedTuple):
    """On ``threads`` threads: float32 multiplies and adds in registers per second, and bytes read and written
    per second by copies of 32 MiB on each thread. What lies in caches is faster than the latter."""

    threads: int
    flops_per_second: float
    bytes_per_second: float


_known: dict[tuple[int, str], Limits] = {}


def limits(native: NativeSession, threads: int, target: str) -> Limits:
    """The best of a few tries, measured once for each number of threads (about 0.1 s)."""
    key = (threads, target)
    if key not in _known:
        done = [0] * threads

        def multiply(index: int) -> None:
            done[index] = native.probe(_ROUNDS)

        arrays = [(np.ones(_COPY_BYTES, np.uint8), np.ones(_COPY_BYTES, np.uint8)) for _ in range(threads)]

        def copy(index: int) -> None:
            np.copyto(*arrays[index])

        flops_time = min(_timed(multiply, threads) for _ in range(_REPEATS))
        copy_time = min(_timed(copy, threads) for _ in range(_REPEATS))
        _known[key] = Limits(threads, sum(done) / flops_time, 2 * threads * _COPY_BYTES / copy_time)
    return _known[key]


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

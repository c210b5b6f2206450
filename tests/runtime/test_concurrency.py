"""Threads inside a run, threads around it, and processes forked after a load."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session

from .plans import Factory


def matvec_feed(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal(256, dtype=np.float32)}


def narrow_feed(n: int, value: float) -> dict[str, np.ndarray]:
    return {
        "b": np.full(n, int(value), np.uint16), "f": np.zeros(n, np.uint8), "i": np.zeros(n, np.int8),
        "x": np.full(n, value, np.float32),
    }  # fmt: skip


def test_the_same_bits_for_any_number_of_threads(artifact: Factory) -> None:
    sessions = [Session(artifact("matvec"), SessionOptions(intra_op_num_threads=n)) for n in (1, 2, 3, 8)]
    for seed in range(200):
        results = {session.run(None, matvec_feed(seed))[0].tobytes() for session in sessions}
        assert len(results) == 1


def test_more_threads_than_tasks(artifact: Factory) -> None:
    session = Session(artifact("dynamic_add"), SessionOptions(intra_op_num_threads=16))
    for n in (0, 1, 2, 3, 40):
        y, total = session.run(None, {"a": np.ones((n, 2), np.float32), "b": np.ones((2, 3), np.float32)})
        assert y.shape == (n, 2) and np.all(y == 4) and total.tolist() == [8, -8] * n


def test_thirty_two_threads_on_one_session(artifact: Factory) -> None:
    session = Session(artifact("matvec"), SessionOptions(intra_op_num_threads=2))
    feeds = [matvec_feed(seed) for seed in range(8)]
    expected = [session.run(None, feed)[0].tobytes() for feed in feeds]
    start = threading.Barrier(32)

    def work(worker: int) -> int:
        start.wait()
        return sum(
            session.run(None, feeds[i % 8])[0].tobytes() != expected[i % 8]
            for i in range(worker, worker + 200)
        )

    with ThreadPoolExecutor(32) as executor:
        assert sum(executor.map(work, range(32))) == 0


def test_overlapping_runs_do_not_share_their_arena(artifact: Factory) -> None:
    session = Session(artifact("narrow"))
    start = threading.Barrier(12)

    def work(worker: int) -> bool:
        start.wait()
        sizes = [100 * (1 + (worker + i) % 5) for i in range(60)]
        outs = [session.run(["b_out", "x_out"], narrow_feed(n, worker)) for n in sizes]
        return all(np.all(x == worker) and x.size == n for (_, x), n in zip(outs, sizes, strict=True))

    with ThreadPoolExecutor(12) as executor:
        assert all(executor.map(work, range(12)))


def test_arrays_dropped_while_they_are_read(artifact: Factory) -> None:
    session = Session(artifact("narrow"))
    feed = narrow_feed(20000, 3)
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            feed["x"] = np.full(20000, 3, np.float32)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(100):
            assert np.all(session.run(["x_out"], feed)[0] == 3)
    finally:
        stop.set()
        thread.join()


def test_other_threads_run_meanwhile(artifact: Factory) -> None:
    session = Session(artifact("narrow"))
    feed = narrow_feed(200000, 1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # so that a thread goes on only where another gives the lock up

    def overlapped() -> bool:
        done = threading.Event()
        thread = threading.Thread(target=lambda: (session.run(None, feed), done.set()))
        thread.start()
        meanwhile = not done.is_set()
        thread.join()
        return meanwhile

    try:
        assert any(overlapped() for _ in range(20))  # on a busy machine not every time
    finally:
        sys.setswitchinterval(interval)


def run_in_child(work: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)  # type: ignore[operator]
        except BaseException:  # noqa: BLE001  # the child must not return into pytest
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork_after_load(artifact: Factory) -> None:
    session = Session(artifact("matvec"), SessionOptions(intra_op_num_threads=3))
    feed = matvec_feed(5)
    expected = session.run(None, feed)[0].tobytes()

    def same() -> bool:
        return all(session.run(None, feed)[0].tobytes() == expected for _ in range(50))

    def child() -> bool:
        fresh = Session(artifact("matvec"), SessionOptions(intra_op_num_threads=2))
        return same() and fresh.run(None, feed)[0].tobytes() == expected and run_in_child(same) == 0

    for _ in range(5):
        assert run_in_child(child) == 0
        assert same()


def test_fork_while_others_run(artifact: Factory) -> None:
    session = Session(artifact("matvec"), SessionOptions(intra_op_num_threads=2))
    feed = matvec_feed(6)
    expected = session.run(None, feed)[0].tobytes()
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            session.run(None, feed)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert run_in_child(lambda: session.run(None, feed)[0].tobytes() == expected) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _child_result(path: str, feed: dict[str, np.ndarray]) -> bytes:
    return Session(path).run(None, feed)[0].tobytes()


def test_spawned_processes(artifact: Factory) -> None:
    made, feed = artifact("matvec"), matvec_feed(7)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_child_result, (made.path, feed)) == Session(made).run(None, feed)[0].tobytes()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="sets x86's control word")
def test_denormals_survive_a_caller_that_flushes_them(artifact: Factory) -> None:
    session = Session(artifact("add"))
    tiny = np.full(4, 1e-40, np.float32)
    libm = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint32 * 8)()  # fenv_t of x86-64: the last word is MXCSR
    libm.fegetenv(environment)
    saved = environment[7]
    try:
        environment[7] = saved | 0x8040  # flush results, read denormals as zero
        libm.fesetenv(environment)
        (y,) = session.run(None, {"a": tiny, "b": tiny})
        libm.fegetenv(environment)
        kept = environment[7]
    finally:
        environment[7] = saved
        libm.fesetenv(environment)
    assert kept & 0x8040 == 0x8040  # and the caller's setting is left as it was
    np.testing.assert_array_equal(y.view(np.uint32), (tiny + tiny).view(np.uint32))
    assert np.all(y.view(np.uint32) != 0)

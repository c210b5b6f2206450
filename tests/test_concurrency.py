"""Threads that share one session, through the public names: shapes, inputs and ways of running of their own, and the
bits that one thread alone gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify
from tests.test_soak import models

THREADS = 32
RUNS = 40
SHAPES = [(0, 3), (1, 1), (2, 5), (7, 3), (16, 16), (33, 17), (64, 48), (128, 65)]
Feeds = dict[str, np.ndarray]


@pytest.fixture(params=range(3), ids=["products", "sizes of a run", "loop"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> vitrify.InferenceSession:
    return made(request.param, tmp_path_factory.getbasetemp())


def made(number: int, folder: Path, threads: int = 2, **options: Any) -> vitrify.InferenceSession:
    settings = vitrify.SessionOptions()
    settings.intra_op_num_threads = threads
    for name, value in options.items():
        setattr(settings, name, value)
    cache = vitrify.CompileOptions(cache_dir=folder / "cache")
    return vitrify.InferenceSession(models()[number], settings, compile_options=cache)


def cases() -> list[Feeds]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for shape in SHAPES for _ in range(2)]


def together(work: Callable[[int], object]) -> None:
    """In all threads at once; raises the first error."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(begin, range(THREADS)))


def same(got: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(got, expected, strict=True))


def test_other_shapes_in_every_thread(session: vitrify.InferenceSession) -> None:
    feeds = cases()
    expected = [session.run(None, feed) for feed in feeds]

    def work(number: int) -> None:
        for i in range(RUNS):
            case = (number * 7 + i * 3) % len(feeds)
            assert same(session.run(None, feeds[case]), expected[case]), (number, i, SHAPES[case // 2])

    together(work)


def test_each_thread_binds_its_own(session: vitrify.InferenceSession) -> None:
    feeds = cases()
    expected = [session.run(None, feed) for feed in feeds]

    def work(number: int) -> None:
        binding = session.io_binding()
        for i in range(RUNS):
            case = (number + i) % len(feeds)
            binding.clear_binding_inputs()
            binding.bind_cpu_input("x", feeds[case]["x"])
            binding.bind_output("y")
            session.run_with_iobinding(binding)
            assert same(binding.copy_outputs_to_cpu(), expected[case]), (number, i)

    together(work)


def test_each_thread_writes_into_its_own_memory(tmp_path: Path) -> None:
    session, x = made(0, tmp_path), np.random.default_rng(1).standard_normal((24, 9)).astype(np.float32)
    expected = session.run(None, {"x": x})[0]

    def work(number: int) -> None:
        place = np.empty_like(expected)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, np.float32, place.shape, place.ctypes.data)
        for _ in range(RUNS):
            place.fill(np.nan)
            session.run_with_iobinding(binding)
            assert place.tobytes() == expected.tobytes()

    together(work)


def test_runs_while_other_sessions_go(tmp_path: Path) -> None:
    """Half of the threads run one session, half make sessions of the same models and drop them."""
    shared, feeds = made(0, tmp_path), cases()
    expected = [shared.run(None, feed) for feed in feeds]
    others = [[made(n, tmp_path).run(None, feed) for feed in feeds] for n in range(3)]

    def work(number: int) -> None:
        for i in range(RUNS // 2):
            case = (number + i) % len(feeds)
            if number % 2:
                assert same(shared.run(None, feeds[case]), expected[case])
                continue
            model = (number // 2 + i) % 3
            fresh = made(model, tmp_path, threads=1 + i % 3, enable_cpu_mem_arena=bool(i % 2))
            assert same(fresh.run(None, feeds[case]), others[model][case])
            del fresh

    together(work)


def test_the_last_reference_goes_during_a_run(tmp_path: Path) -> None:
    """A session that nothing but its run holds is whole until that run ends."""
    x = np.random.default_rng(2).standard_normal((700, 300)).astype(np.float32)
    expected = made(0, tmp_path).run(None, {"x": x})

    def work(number: int) -> None:
        for _ in range(3):
            assert same(made(0, tmp_path, threads=1 + number % 2).run(None, {"x": x}), expected)

    together(work)


def test_terminate_ends_the_runs_of_its_options_alone(tmp_path: Path) -> None:
    session, feeds = made(2, tmp_path), cases()
    expected = [session.run(None, feed) for feed in feeds]
    stopped, going = vitrify.RunOptions(), vitrify.RunOptions()
    begun = threading.Semaphore(0)

    def work(number: int) -> None:
        if number == 0:  # ends what runs under the other options, from outside
            for _ in range(THREADS // 2):
                begun.acquire()
            stopped.terminate = True
            return
        if number % 2 == 0:
            for i in range(RUNS):
                case = (number + i) % len(feeds)
                assert same(session.run(None, feeds[case], going), expected[case])
            return
        begun.release()
        with pytest.raises(vitrify.TerminatedError):
            while True:
                case = number % len(feeds)
                assert same(session.run(None, feeds[case], stopped), expected[case])

    together(work)
    stopped.terminate = False
    assert same(session.run(None, feeds[3], stopped), expected[3])

"""Limits of time and of trips, and Ctrl-C: what ends a loop that would not end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx.parser import parse_model

import vitrify
from vitrify import InferenceSession, RunOptions, SessionOptions
from vitrify.errors import InvalidArgumentError, RunLimitError, TerminatedError

HEADER = '<ir_version: 10, opset_import: ["": 21]>\nmodel '
LOOP = """(int64 limit, float[4] x) => (float[4] y) {{
  go = Constant <value = bool {{1}}> ()
  minus = Constant <value_int = -1> ()
  y = Loop <body = b (int64 i, bool c, float[4] a) => (bool c2, float[4] b) {{
    c2 = {again}
    b = Sin (a)
  }}> (limit, go, x)
}}"""
ALWAYS = ["Identity (c)", "Greater (i, minus)"]  # trips counted, and a condition that is computed
NESTED = """(int64 limit, float[4] x) => (float[4] y) {
  go = Constant <value = bool {1}> ()
  y = Loop <body = b (int64 i, bool c, float[4] a) => (bool d, float[4] b) {
    d = Identity (c)
    b = Loop <body = in (int64 j, bool e, float[4] p) => (bool f, float[4] q) {
      f = Identity (e)  q = Sin (p)
    }> (limit, c, a)
  }> (limit, go, x)
}"""
SCAN = """(float[t, 4] x, float[4] s) => (float[4] y) {
  m = Constant <value = float[4, 4] {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> ()
  y = Scan <num_scan_inputs = 1, body = b (float[4] a, float[4] e) => (float[4] b) {
    p = Sin (a)  b = MatMul (p, m) }> (s, x)
}"""
X = np.ones(4, np.float32)
ENDLESS = {"limit": np.asarray(2**60), "x": X}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def session(text: str, **options: Any) -> InferenceSession:
    return InferenceSession(parse_model(HEADER + text), SessionOptions(**options))


def sines(trips: int) -> np.ndarray[Any, Any]:
    value = X
    for _ in range(trips):
        value = np.sin(value)
    return value


@pytest.mark.parametrize("again", ALWAYS)
def test_time(again: str) -> None:
    text = LOOP.format(again=again)
    plain, limited = session(text), session(text, time_limit_seconds=0.1)
    for run in (
        lambda: limited.run(None, ENDLESS),
        lambda: limited.run(None, ENDLESS, RunOptions()),
        lambda: plain.run(None, ENDLESS, RunOptions(time_limit_seconds=0.1)),
        lambda: limited.run_with_profiling(ENDLESS),
        lambda: limited.run_into(None, ENDLESS, {limited.get_outputs()[0].name: np.empty(4, np.float32)}),
    ):
        began = time.monotonic()
        with pytest.raises(RunLimitError, match=r"longer than time_limit_seconds.*at most 0.1 s; got 0.1\d* s so far"):
            run()
        assert 0.1 <= time.monotonic() - began < 5
    few = {**ENDLESS, "limit": np.asarray(5)}
    np.testing.assert_allclose(limited.run(None, few)[0], sines(5), rtol=1e-6)
    with pytest.raises(RunLimitError, match=r"at most 0.2 s"):  # the run's option goes first
        limited.run(None, ENDLESS, RunOptions(time_limit_seconds=0.2))


@pytest.mark.parametrize("again", ALWAYS)
@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_trips(again: str, most: int) -> None:
    limited = session(LOOP.format(again=again), loop_trip_limit=most)
    for trips in (0, 1, most - 1, most):
        np.testing.assert_allclose(
            limited.run(None, {**ENDLESS, "limit": np.asarray(trips)})[0], sines(trips), rtol=1e-5
        )
    for trips in (most + 1, 2**60):
        with pytest.raises(RunLimitError, match=rf"Loop.*loop_trip_limit; expected at most {most} trips.*\n.*raise"):
            limited.run(None, {**ENDLESS, "limit": np.asarray(trips)})
    more = {**ENDLESS, "limit": np.asarray(most + 1)}
    np.testing.assert_allclose(
        limited.run(None, more, RunOptions(loop_trip_limit=most + 1))[0], sines(most + 1), rtol=1e-5
    )


def test_trips_of_nested_loops_and_scans_count_together() -> None:
    nested = session(NESTED, loop_trip_limit=12)
    np.testing.assert_allclose(nested.run(None, {"limit": np.asarray(3), "x": X})[0], sines(9), rtol=1e-5)
    for trips in (4, 2**40):
        with pytest.raises(RunLimitError, match="loop_trip_limit"):
            nested.run(None, {"limit": np.asarray(trips), "x": X})
    scan = session(SCAN, loop_trip_limit=5)
    np.testing.assert_allclose(scan.run(None, {"x": np.ones((5, 4), np.float32), "s": X})[0], sines(5), rtol=1e-5)
    with pytest.raises(RunLimitError, match="loop_trip_limit"):
        scan.run(None, {"x": np.ones((6, 4), np.float32), "s": X})


def test_models_without_loops_look_at_the_clock_before_each_kernel() -> None:
    body = "".join(f"  x{k + 1} = MatMul (x{k}, w)\n" for k in range(40))
    limited = session(f"(float[700, 700] x0, float[700, 700] w) => (float[700, 700] x40) {{\n{body}}}")
    square = np.zeros((700, 700), np.float32)
    with pytest.raises(RunLimitError, match="time_limit_seconds"):
        limited.run(None, {"x0": square, "w": square}, RunOptions(time_limit_seconds=1e-6))
    limited.run(None, {"x0": square, "w": square}, RunOptions(time_limit_seconds=1e9))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background, whose processes ignore it."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.mark.parametrize("options", [None, RunOptions()])
def test_ctrl_c_ends_a_loop(options: RunOptions | None, interruptible: None) -> None:
    endless = session(LOOP.format(again=ALWAYS[0]))
    before = np.zeros(4, np.float32)
    for _ in range(2):
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            endless.run(None, {**ENDLESS, "x": before}, options)
        timer.join()
    few = {**ENDLESS, "limit": np.asarray(3)}
    np.testing.assert_allclose(endless.run(None, few, options)[0], sines(3), rtol=1e-6)


def test_handlers_that_raise_nothing_let_the_run_go_on() -> None:
    seen: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(RunLimitError):
            session(LOOP.format(again=ALWAYS[0]), time_limit_seconds=0.5).run(None, ENDLESS)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seen == [signal.SIGUSR1]


def test_options() -> None:
    assert issubclass(vitrify.RunLimitError, TerminatedError)
    for kind in (SessionOptions, RunOptions):
        made = kind()
        assert made.time_limit_seconds is None and made.loop_trip_limit is None
        made.time_limit_seconds, made.loop_trip_limit = 2, 3
        assert (made.time_limit_seconds, made.loop_trip_limit) == (2.0, 3)
        for name, values in (
            ("time_limit_seconds", (0, -1, float("nan"), float("inf"), "1", True)),
            ("loop_trip_limit", (0, -1, 1.5, 1 << 63, "1", True)),
        ):
            for value in values:
                with pytest.raises(InvalidArgumentError, match=name):
                    setattr(made, name, value)

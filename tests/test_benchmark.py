"""A session measured in its own process, and outputs compared element by element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import vitrify
from tests.test_replay import X, model
from vitrify.benchmark import Benchmark, compare_output
from vitrify.benchmark.difference import default_tolerance, difference
from vitrify.benchmark.timing import interleaved, interleaved_throughput


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vitrify.InferenceSession:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    return vitrify.InferenceSession(model())


def test_latency(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session).measure_latency(input_feed={"x": X}, warmup_runs=5, benchmark_runs=200)
    assert (found.calls, found.warmup_calls) == (200, 5)
    assert 0 < found.min_ms <= found.p50_ms <= found.p90_ms <= found.p95_ms <= found.p99_ms <= found.max_ms
    assert found.min_ms <= found.mean_ms <= found.max_ms and found.stddev_ms >= 0
    assert Benchmark(session, {"x": X}).measure_latency(duration_seconds=0.01).calls >= 10


def test_throughput(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session, {"x": X}).measure_throughput(duration_seconds=0.05, callers=3)
    assert found.callers == 3 and found.requests >= 3 and found.seconds >= 0.05
    assert found.samples_per_second == pytest.approx(found.requests_per_second * len(X))
    batched = Benchmark(session).measure_throughput({"x": X}, duration_seconds=0.05, batch_size=8)
    assert batched.requests >= 8 and batched.requests % 8 == 0


def test_memory(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session, {"x": X}).profile_memory(benchmark_runs=20)
    assert found.weights is not None and found.weights >= 40 * 30 * 4
    assert 0 < found.resident <= found.peak and found.peak_mb == found.peak / 1e6


class Breaks:
    """Fails after a few calls."""

    calls = 0

    def run(self, names: Any, feed: Any) -> list[Any]:
        self.calls += 1
        if self.calls > 5:
            raise RuntimeError("broken")
        return []


def test_failures_are_raised(session: vitrify.InferenceSession) -> None:
    with pytest.raises(vitrify.InvalidArgumentError):
        Benchmark(session, {"x": X[:, :3]})
    with pytest.raises(RuntimeError, match="broken"):
        Benchmark(Breaks(), {"x": np.zeros(1)}).measure_throughput(duration_seconds=60, callers=2)
    bench = Benchmark(session, {"x": X})
    for wrong in ({"duration_seconds": 0}, {"duration_seconds": np.nan}, {"callers": 0}, {"batch_size": True}):
        with pytest.raises(vitrify.InvalidArgumentError, match=next(iter(wrong))):
            bench.measure_throughput(**wrong)
    for wrong in ({"warmup_runs": -1}, {"benchmark_runs": 0}, {"benchmark_runs": 2.5}):
        with pytest.raises(vitrify.InvalidArgumentError, match=next(iter(wrong))):
            bench.measure_latency(**wrong)  # type: ignore[arg-type]
    with pytest.raises(vitrify.InvalidArgumentError, match="run_batch"):
        Benchmark(Breaks()).measure_throughput({"x": np.zeros(1)}, batch_size=2)
    with pytest.raises(vitrify.InvalidArgumentError, match="input_feed"):
        Benchmark(session).profile_memory()


def test_engines_take_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "b", "c")}
    found = interleaved(runs, seconds=1e-9, rounds=6)
    slices = [order[12:][at] for at in range(0, len(order) - 12, 3)]  # a call that warms up and two that count
    assert "".join(slices) == "abcbcacab" * 2
    assert all(f.calls == 12 and f.warmup_calls == 10 for f in found.values())
    rates = interleaved_throughput({name: [run] * 2 for name, run in runs.items()}, 3, seconds=0.01)
    assert [f.callers for f in rates.values()] == [2, 2, 2]
    assert all(f.samples_per_second == pytest.approx(3 * f.requests_per_second) for f in rates.values())


def test_elements_that_differ() -> None:
    expected = np.array([[1.0, -4.0], [0.0, np.inf]], np.float32)
    assert compare_output("y", expected, expected).largest == 0
    found = expected.copy()
    found[0, 0] += 0.5
    wrong = compare_output("y", found, expected)
    assert (wrong.differing, wrong.elements, wrong.index) == (1, 4, (0, 0)) and not wrong.passes
    assert wrong.largest == pytest.approx(0.5 / 4)
    assert str(wrong) == "'y': 1 of 4 elements differ, the most at [0, 0]: 1.5, not 1"
    assert compare_output("y", found, expected, tolerance=0.13).passes
    for broken in (np.nan, -np.inf):
        found = expected.copy()
        found[1, 0] = broken
        assert compare_output("y", found, expected, tolerance=1e9).differing == 1
        assert difference([found], [expected]) == np.inf


def test_nan_never_passes() -> None:
    nan = np.array([np.nan, 1], np.float32)
    assert compare_output("y", nan, nan, tolerance=1e9).differing == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (np.zeros(3, np.float32), np.zeros((3, 1), np.float32)),
        (np.zeros(3, np.float32), np.zeros(3, np.float64)),
        (np.zeros(0, np.float32), np.zeros(1, np.float32)),
        (np.zeros(1, np.float32), np.zeros(0, np.float32)),
    ],
)
def test_other_shapes_and_dtypes_differ(found: Any, expected: Any) -> None:
    wrong = compare_output("y", found, expected, tolerance=1e9)
    assert not wrong.passes and wrong.largest == np.inf
    assert str(found.dtype) in str(wrong) and str(list(expected.shape)) in str(wrong)


def test_integers_are_exact() -> None:
    large = np.array([2**53, 2**53 + 1], np.int64)  # equal in double precision
    assert compare_output("y", large, large).passes
    assert compare_output("y", large[::-1], large).differing == 2
    assert not compare_output("y", np.array([True]), np.array([False])).passes
    assert compare_output("y", np.zeros((0, 3), np.int8), np.zeros((0, 3), np.int8)).passes


def test_tolerances_follow_types() -> None:
    allowed = [default_tolerance(np.dtype(t)) for t in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
    assert allowed == sorted(allowed) and allowed[1] == 1e-4 and allowed[3] == 4 * 2**-7
    assert default_tolerance(np.dtype(np.float32), bf16=True) == 0.1
    assert default_tolerance(np.dtype(ml_dtypes.int4)) == 0 == default_tolerance(np.dtype(bool))
    half = np.ones(3, ml_dtypes.bfloat16)
    assert compare_output("y", half, half).passes and not compare_output("y", half, 2 * half).passes

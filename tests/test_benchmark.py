"""A session measured in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify
from tests.test_replay import X, model
from vitrify.benchmark import Benchmark


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vitrify.InferenceSession:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    return vitrify.InferenceSession(model())


def test_latency(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session, {"x": X}).measure_latency(calls=200)
    assert found.calls == 200
    assert 0 < found.minimum <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.maximum
    assert found.minimum <= found.mean <= found.maximum
    assert Benchmark(session, {"x": X}).measure_latency(seconds=0.01).calls >= 10


def test_throughput(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session, {"x": X}).measure_throughput(seconds=0.05, callers=3)
    assert found.callers == 3 and found.calls >= 3 and found.seconds >= 0.05
    assert found.items_per_second == pytest.approx(found.calls_per_second * len(X))


def test_memory(session: vitrify.InferenceSession) -> None:
    found = Benchmark(session, {"x": X}).profile_memory(calls=20)
    assert found.weights is not None and found.weights >= 40 * 30 * 4
    assert 0 < found.resident <= found.peak


def test_failures_are_raised(session: vitrify.InferenceSession) -> None:
    with pytest.raises(vitrify.InvalidArgumentError):
        Benchmark(session, {"x": X[:, :3]})

    class Breaks:
        calls = 0

        def run(self, names: Any, feed: Any) -> list[Any]:
            self.calls += 1
            if self.calls > 5:
                raise RuntimeError("broken")
            return []

    with pytest.raises(RuntimeError, match="broken"):
        Benchmark(Breaks(), {"x": np.zeros(1)}).measure_throughput(seconds=1, callers=2)
    for wrong in ({"seconds": 0}, {"callers": 0}):
        with pytest.raises(vitrify.InvalidArgumentError):
            Benchmark(session, {"x": X}).measure_throughput(**wrong)  # type: ignore[arg-type]

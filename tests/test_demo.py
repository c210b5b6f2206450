"""The demo: what it finds in the recording, and that a wrong probability shows in the exit status."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "demo"


@pytest.fixture(scope="module")
def vad() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vad", FOLDER / "vad.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vad"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_segments_have_hysteresis_and_join_over_short_pauses(vad: ModuleType) -> None:
    quiet, speech, between = [0.1], [0.9], [0.4]
    found = vad.segments(quiet * 10 + between * 2 + speech * 10 + between * 5 + quiet * 3 + speech + quiet * 9)
    chunk = vad.CHUNK / vad.RATE
    assert found == [(12 * chunk, 31 * chunk)]
    assert vad.segments(speech * 3) == [(0.0, 3 * chunk)] and vad.segments(quiet * 5) == []


def test_the_demo(
    vad: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["vad.py"])
    assert vad.main() == 0
    shown = capsys.readouterr().out
    assert "871 probabilities equal onnxruntime's within 0.0001" in shown
    assert "compiled in" in shown and "second start" in shown and "times as fast" in shown
    # the voices of the recording, to a tenth of a second or so
    line = next(line for line in shown.splitlines() if "segments" in line)
    begins = [float(part.split("–")[0]) for part in line.split("segments")[1].split(",")]
    for begin in (1.5, 6.6, 12.2, 19.6, 24.0):
        assert min(abs(begin - b) for b in begins) < 0.2


def test_a_difference_is_told(vad: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vad, "second_start", lambda: 0.1)
    streams = [
        vad.Stream(run=lambda names, feed: [], probabilities=[p] * 2, seconds=[1e-5] * 2) for p in (0.5, 0.6)
    ]
    for difference in (0.1, float("nan")):
        (_, verdict), *_ = vad.figures(*streams, difference, "compiled", 1.0)
        assert "2 probabilities differ from onnxruntime's by more than 0.0001" in verdict

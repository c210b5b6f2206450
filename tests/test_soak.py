"""Sessions made, run with changing shapes and dropped for minutes: nothing that a process holds grows.

``VITRIFY_SOAK_SECONDS`` is how long the slow test takes.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

import vitrify
from tests.runtime.accounts import Account, account

SECONDS = float(os.environ.get("VITRIFY_SOAK_SECONDS", "600"))
MEMORY = 8 << 20  # bytes: allocators keep some pages that are partly in use

MODELS = [
    # an arena that follows the shapes, weights of constants, a reduction
    "g (float[n, k] x) => (float[n, m] y) { s = Softmax <axis = -1> (x) t = Transpose <perm = [1, 0]> (s)"
    " y = MatMul(x, t) }",
    # control flow, and a size only a run knows
    "g (float[n, k] x) => (int64[r, p] y) { h = Constant <value_float = 0.5> () b = Greater(x, h) y = NonZero(b) }",
    # a loop
    "g (float[n, k] x) => (float[n, k] y) { c = Constant <value_int = 3> () yes = Constant <value_int = 1> ()"
    " on = Cast <to = 9> (yes) y = Loop (c, on, x) <body = b (int64 i, bool go, float[n, k] v) =>"
    " (bool again, float[n, k] w) { again = Identity(go) w = Tanh(v) }> }",
]


def models() -> list[bytes]:
    head = '<ir_version: 8, opset_import: ["" : 17]>\n'
    return [parser.parse_model(head + text).SerializeToString() for text in MODELS]


class Round:
    """One round: each model in a session of its own, in all the ways that a session is run."""

    def __init__(self) -> None:
        self.models = models()
        self.count = 0

    def run(self) -> None:
        random = np.random.default_rng(self.count)
        self.count += 1
        for number, model in enumerate(self.models):
            options = vitrify.SessionOptions()
            options.intra_op_num_threads = 1 + self.count % 3
            options.enable_cpu_mem_arena = bool(self.count % 2)
            session = vitrify.InferenceSession(model, options)
            for _ in range(4):
                x = random.standard_normal(random.integers(0, 200, 2)).astype(np.float32)
                session.run(None, {"x": x})
            self._bind(session, x)
            self._fail(session)
            if number == 0:
                self._overlap(session, random)

    def _bind(self, session: vitrify.InferenceSession, x: np.ndarray) -> None:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        binding.copy_outputs_to_cpu()

    def _fail(self, session: vitrify.InferenceSession) -> None:
        stopped = vitrify.RunOptions()
        stopped.terminate = True
        with pytest.raises(vitrify.TerminatedError):
            session.run(None, {"x": np.ones((2, 2), np.float32)}, stopped)
        with pytest.raises(vitrify.InvalidArgumentError):
            session.run(None, {"x": np.ones((2, 2, 2), np.float32)})
        with pytest.raises(vitrify.InvalidModelError):
            vitrify.InferenceSession(self.models[0][:-3])

    def _overlap(self, session: vitrify.InferenceSession, random: np.random.Generator) -> None:
        """Threads that end while others run."""
        x = random.standard_normal((64, 64), dtype=np.float32)
        threads = [threading.Thread(target=session.run, args=(None, {"x": x})) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def soak(seconds: float, cache: Path) -> tuple[Account, Account, int]:
    """What the process holds after a tenth of the time, and at the end; the number of rounds."""
    rounds, start = Round(), time.monotonic()
    for _ in range(30):  # caches, pools and allocators fill
        rounds.run()
    while time.monotonic() < start + seconds / 10:
        rounds.run()
    before = account(cache)
    while time.monotonic() < start + seconds:
        rounds.run()
    return before, account(cache), rounds.count


def check(seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    temporary = account().files
    before, after, rounds = soak(seconds, tmp_path)
    grown = after.grown(before)
    assert rounds > seconds  # otherwise little was tried
    assert grown["resident"] <= MEMORY, (grown, before, after, rounds)
    assert grown["descriptors"] <= 0 and grown["threads"] <= 0 and grown["files"] <= 0, (grown, before, after)
    assert grown["mappings"] <= 8, (grown, before, after, rounds)  # arenas of the allocator come and go
    assert account().files <= temporary


def test_a_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(6, tmp_path, monkeypatch)


@pytest.mark.slow(minutes=10)
def test_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(SECONDS, tmp_path, monkeypatch)

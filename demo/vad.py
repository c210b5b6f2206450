"""Voice activity in a recording: a real speech model, compiled to native code and checked as it streams.

``make demo`` compiles the model of the ``silero-vad`` wheel, streams ``speech.wav`` through it in chunks of
32 ms with the model's state, and through onnxruntime beside it. Every probability is compared; the exit
status is 1 when one differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RATE = 16000
CHUNK, CONTEXT = 512, 64  # samples; each chunk is preceded by the end of the one before
TOLERANCE = 1e-4
THRESHOLD, RELEASE = 0.5, 0.35  # speech begins above the one and ends below the other
SHORTEST_PAUSE = 4  # chunks
WIDTH = 84  # columns of the time line
LEVELS = " ▁▂▃▄▅▆▇█"

#: Chunks of one recording at 16 kHz get code of their own; the model takes others as well.
SPECIALIZE = ({"input": (1, CONTEXT + CHUNK), "state": (2, 1, 128)},)

RECORDING = Path(__file__).with_name("speech.wav")


def speech_model() -> Path:
    """The model's file, found without importing its package (which wants PyTorch)."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the silero-vad wheel is missing: make demo installs it")
    return Path(spec.submodule_search_locations[0], "data", "silero_vad.onnx")


def read_recording(path: Path) -> np.ndarray:
    """Samples from -1 to 1, float32, cut to whole chunks."""
    try:
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                raise SystemExit(f"{path}: expected 16 kHz, one channel, 16 bits")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    except (OSError, EOFError, wave.Error) as error:
        raise SystemExit(f"{path}: not a WAV that can be read: {error}") from None
    if len(samples) < CHUNK:
        raise SystemExit(f"{path}: expected at least {CHUNK} samples, got {len(samples)}")
    return samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)


@dataclass
class Stream:
    """One session and what it carries from chunk to chunk."""

    run: Callable[[None, dict[str, np.ndarray]], list[np.ndarray]]
    state: np.ndarray = field(default_factory=lambda: np.zeros((2, 1, 128), np.float32))
    context: np.ndarray = field(default_factory=lambda: np.zeros((1, CONTEXT), np.float32))
    probabilities: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rate: np.ndarray = field(default_factory=lambda: np.array(RATE, np.int64))

    def push(self, chunk: np.ndarray) -> None:
        joined = np.concatenate([self.context, chunk[None]], axis=1)
        feed = {"input": joined, "state": self.state, "sr": self.rate}
        start = time.perf_counter()
        probability, self.state = self.run(None, feed)
        self.seconds.append(time.perf_counter() - start)
        self.context = joined[:, -CONTEXT:]
        self.probabilities.append(float(probability[0, 0]))


def segments(probabilities: list[float]) -> list[tuple[float, float]]:
    """Begin and end of each stretch of speech, in seconds."""
    found: list[tuple[int, int]] = []
    begin: int | None = None
    last = 0
    for index, probability in enumerate([*probabilities, *[0.0] * (SHORTEST_PAUSE + 1)]):
        if probability >= THRESHOLD or (begin is not None and probability >= RELEASE):
            begin = index if begin is None else begin
            last = index
        elif begin is not None and index - last > SHORTEST_PAUSE:
            found.append((begin, last + 1))
            begin = None
    return [(a * CHUNK / RATE, b * CHUNK / RATE) for a, b in found]


def our_session(progress: Callable[[str, int, int], None] | None = None) -> tuple[object, bool]:
    """A session on one thread, as the model's own wrapper uses; whether it had to be compiled."""
    import vitrify

    artifact = vitrify.compile(str(speech_model()), specialize=SPECIALIZE, progress=progress)
    options = vitrify.SessionOptions(intra_op_num_threads=1)
    return vitrify.InferenceSession(artifact.path, options), artifact.compiled


def first_result() -> None:
    """What a second process does: the time from its start to the first probability, in seconds."""
    import vitrify

    options = vitrify.SessionOptions(intra_op_num_threads=1)
    compiled = vitrify.CompileOptions(specialize=SPECIALIZE)
    session = vitrify.InferenceSession(str(speech_model()), options, compile_options=compiled)
    Stream(session.run).push(np.zeros(CHUNK, np.float32))
    print(time.time() - float(os.environ["STARTED"]))


FIRST = "from a new process to its first probability, the best of three"


def second_start() -> float:
    environment = dict(os.environ, STARTED=repr(time.time()))
    command = [sys.executable, __file__, "--first-result"]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def compiled_with_progress(console: object) -> tuple[object, bool, float]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    what_is_done = TextColumn("{task.description}")
    columns = TextColumn("[bold]compiling[/]"), BarColumn(24), MofNCompleteColumn(), what_is_done
    start = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as bar:  # type: ignore[arg-type]
        task = bar.add_task("", total=None)
        session, compiled = our_session(
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)
        )
    return session, compiled, time.perf_counter() - start


def peer_session() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(speech_model()), options, providers=["CPUExecutionProvider"])


def time_line(chunks: np.ndarray, probabilities: list[float], width: int) -> list[tuple[str, str]]:
    """Loudness, probability and speech over time, as rows of ``width`` columns."""
    loudness = np.abs(chunks).max(axis=1)
    loudness = loudness / max(float(loudness.max()), 1e-9)
    found = segments(probabilities)
    wave_row = probability_row = speech_row = ""
    for part in np.array_split(np.arange(len(chunks)), width):
        middle = part.mean() * CHUNK / RATE
        wave_row += LEVELS[round(float(loudness[part].max()) * 8)]
        probability_row += LEVELS[round(max(probabilities[i] for i in part) * 8)]
        speech_row += "[green]━[/]" if any(a <= middle < b for a, b in found) else "[dim]·[/]"
    length = len(chunks) * CHUNK / RATE
    marks = [" "] * (width + 4)
    for second in range(0, int(length) + 1, 5):
        at = int(second / length * width)
        marks[at : at + len(str(second))] = str(second)
    return [
        ("recording", f"[cyan]{wave_row}[/]"),
        ("probability", f"[magenta]{probability_row}[/]"),
        ("speech", speech_row),
        ("seconds", f"[dim]{''.join(marks).rstrip()}[/]"),
        ("segments", ", ".join(f"{a:.1f}–{b:.1f}" for a, b in found) or "none"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-result", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("recording", nargs="?", type=Path, default=RECORDING, help="a 16 kHz mono WAV")
    arguments = parser.parse_args()
    if arguments.first_result:
        first_result()
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    chunks = read_recording(arguments.recording)
    session, compiled, took = compiled_with_progress(console)
    ours, peer = Stream(session.run), Stream(peer_session().run)  # type: ignore[attr-defined]
    for index, chunk in enumerate(chunks):
        for stream in (ours, peer) if index % 2 else (peer, ours):
            stream.push(chunk)
    rows = time_line(chunks, ours.probabilities, max(20, min(WIDTH, console.width - 16)))
    difference = float(np.max(np.abs(np.array(ours.probabilities) - peer.probabilities)))
    equal = difference <= TOLERANCE  # False for a NaN
    rows += figures(ours, peer, difference, "compiled" if compiled else "found in the cache", took)
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column()
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return 0 if equal else 1


def figures(ours: Stream, peer: Stream, difference: float, how: str, took: float) -> list[tuple[str, str]]:
    """The comparison, then the times."""
    ours_us, peer_us = (statistics.median(s.seconds) * 1e6 for s in (ours, peer))
    ratio, real_time = peer_us / ours_us, CHUNK / RATE * 1e6 / ours_us
    count = f"{len(ours.probabilities)} probabilities"
    if difference <= TOLERANCE:
        verdict = f"{count} equal onnxruntime's [green]within {TOLERANCE:g}[/]"
    else:
        verdict = f"[bold red]{count} differ from onnxruntime's by more than {TOLERANCE:g}[/]"
    return [
        ("checked", verdict),
        ("", f"[dim]largest difference {difference:.1e}[/]"),
        ("a chunk", f"[bold green]{ours_us:.1f} µs[/], onnxruntime {peer_us:.1f} µs"),
        ("", f"[bold]{ratio:.1f} times as fast[/], {real_time:,.0f} times real time"),
        ("", "[dim]medians of interleaved calls, one thread[/]"),
        ("model", f"{how} in {took:.2f} s"),
        ("second start", f"{min(second_start() for _ in range(3)) * 1e3:.0f} ms {FIRST}"),
    ]


if __name__ == "__main__":
    sys.exit(main())

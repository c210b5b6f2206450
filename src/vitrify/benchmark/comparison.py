"""One model on Vitrify and its peers: results first, then times and memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vitrify.artifact.loading import Artifact
from vitrify.benchmark.difference import Difference, compare_output, default_tolerance
from vitrify.benchmark.engines import ENGINES, Engine, Feed, Run
from vitrify.benchmark.machine import machine_facts
from vitrify.benchmark.processes import Processes, ProcessFigures
from vitrify.benchmark.session import samples_of
from vitrify.benchmark.timing import (
    Latency,
    Throughput,
    check_count,
    check_positive,
    interleaved,
    interleaved_throughput,
)
from vitrify.errors import InvalidArgumentError

OURS = "vitrify"
T = TypeVar("T")
Told = Callable[[str], object]


@dataclass(frozen=True)
class Agreement:
    """Vitrify's outputs beside those of ``peer``, both on ``threads`` threads."""

    peer: str
    threads: int
    outputs: tuple[Difference, ...]

    @property
    def passes(self) -> bool:
        return all(output.passes for output in self.outputs)


@dataclass
class Comparison:
    """What :func:`compare` found. ``absent`` says why a peer has no figures. ``latency`` and ``throughput`` hold
    figures by engine for each number of threads and of callers; both are empty, and so is ``memory``, where results
    differ, unless they were asked for all the same. ``same_bits``: Vitrify's outputs on every number of threads."""

    machine: dict[str, Any]
    model: dict[str, Any]
    inputs: list[dict[str, Any]]
    absent: dict[str, str] = field(default_factory=dict)
    agreements: list[Agreement] = field(default_factory=list)
    same_bits: bool = True
    latency: dict[int, dict[str, Latency]] = field(default_factory=dict)
    throughput: dict[int, dict[str, Throughput]] = field(default_factory=dict)
    memory: dict[str, ProcessFigures] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every peer that ran has the same results, and every number of threads the same bits."""
        return self.same_bits and all(found.passes for found in self.agreements)

    def latency_ratio(self, threads: int, engine: str) -> float:
        """Vitrify's median time divided by the engine's: below 1 Vitrify is faster."""
        found = self.latency[threads]
        return found[OURS].p50_ms / found[engine].p50_ms

    def throughput_ratio(self, callers: int, engine: str) -> float:
        """Vitrify's requests per second divided by the engine's: above 1 Vitrify is faster."""
        found = self.throughput[callers]
        return found[OURS].requests_per_second / (found[engine].requests_per_second or math.nan)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what is not finite is None."""
        found = {
            "machine": self.machine, "model": self.model, "inputs": self.inputs, "absent": self.absent,
            "agrees": self.agrees, "same_bits": self.same_bits,
            "agreements": [
                {"peer": a.peer, "threads": a.threads, "passes": a.passes,
                 "outputs": [asdict(d) | {"passes": d.passes} for d in a.outputs]}
                for a in self.agreements
            ],
            "latency": [
                {"threads": n, "engine": name, **figures.to_dict(), "ratio": self.latency_ratio(n, name)}
                for n, row in self.latency.items() for name, figures in row.items()
            ],
            "throughput": [
                {"engine": name, **figures.to_dict(), "ratio": self.throughput_ratio(n, name)}
                for n, row in self.throughput.items() for name, figures in row.items()
            ],
            "memory": [{"engine": name, **figures.to_dict()} for name, figures in self.memory.items()],
        }  # fmt: skip
        return dict(_finite(found))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare(
    artifact: Artifact,
    feed: Feed,
    *,
    model: Path | None = None,
    threads: Sequence[int] = (1,),
    callers: Sequence[int] = (1,),
    duration_seconds: float = 2.0,
    tolerance: float | None = None,
    bf16: bool = False,
    constants: frozenset[str] = frozenset(),
    force: bool = False,
    told: Told = lambda what: None,
) -> Comparison:
    """``artifact`` beside the peers that are installed and take ``model``, the ONNX file it was made of (None: the
    artifact alone), on ``feed``.

    First the outputs on each number of ``threads``; where one differs by more than ``tolerance`` (None: by type,
    :func:`vitrify.benchmark.difference.default_tolerance`) nothing is timed unless ``force``. Then latencies on each
    number of ``threads``, engines in turn, and throughput of each number of ``callers`` whose calls run on one
    thread each: ``duration_seconds`` for each engine and number. Last one process of each engine. ``constants`` are
    inputs of the feed that the artifact holds as constants. ``told`` hears what is being done.

    Raises what a session of the artifact raises, InvalidArgumentError for arguments that mean nothing, and
    VitrifyError where Vitrify fails in a process of its own. What a peer raises is in ``absent``.
    """
    for name, counts in (("threads", threads), ("callers", callers)):
        if not counts and name == "threads":
            raise InvalidArgumentError(name, expected="at least one number", actual="none")
        for count in counts:
            check_count(name, count)
    check_positive("duration_seconds", duration_seconds)
    if tolerance is not None and not tolerance >= 0:
        raise InvalidArgumentError("tolerance", expected="0 or more", actual=repr(tolerance))
    inputs = [{"name": name, "dtype": str(a.dtype), "shape": list(a.shape)} for name, a in feed.items()]
    comparison = Comparison(machine_facts(), _described(artifact, model), inputs)
    compared = _Compared(comparison, artifact, feed, model, bf16, constants, told)
    compared.agree(threads, tolerance)
    if not comparison.agrees and not force:
        return comparison
    for count in dict.fromkeys(threads):
        compared.time(count, duration_seconds)
    for count in dict.fromkeys(callers):
        compared.time_callers(count, duration_seconds)
    compared.start_processes(threads[0])
    return comparison


def _described(artifact: Artifact, model: Path | None) -> dict[str, Any]:
    size = sum(entry.size for entry in artifact.manifest.files.values())
    described: dict[str, Any] = {"artifact": str(artifact.path), "artifact_bytes": size}
    if model is not None:
        described |= {"model": str(model), "model_bytes": model.stat().st_size}
    return described


class _Compared:
    """The engines that take part, and what each is given."""

    def __init__(
        self, comparison: Comparison, artifact: Artifact, feed: Feed, model: Path | None, bf16: bool,
        constants: frozenset[str], told: Told,
    ) -> None:  # fmt: skip
        self._comparison, self._bf16, self._constants, self._told = comparison, bf16, constants, told
        self._names = [port.name for port in artifact.manifest.outputs]
        rest = {name: array for name, array in feed.items() if name not in constants}
        self._feed = feed
        self._given: dict[str, tuple[Path, Feed]] = {}
        self._engines: list[Engine] = []
        for engine in ENGINES:
            if engine.name == OURS:
                self._given[OURS] = (Path(artifact.path), rest)
            elif model is None:
                comparison.absent[engine.name] = "an artifact was given: peers take the ONNX model"
                continue
            elif not engine.installed:
                comparison.absent[engine.name] = "not installed"
                continue
            else:
                self._given[engine.name] = (model, feed)
            self._engines.append(engine)

    def _load(self, engine: Engine, threads: int) -> Run | None:
        """One inference, tried once; None for a peer that fails, which takes no part any more."""
        model, feed = self._given[engine.name]
        return self._tried(engine, lambda: _once(engine.prepare(model, feed, threads, bf16=self._bf16)))

    def _tried(self, engine: Engine, work: Callable[[], T]) -> T | None:
        if engine.name == OURS:
            return work()
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (a peer may refuse a model with anything)
            self._comparison.absent[engine.name] = f"does not run this model: {_reason(error)}"
            self._engines.remove(engine)
            return None

    def agree(self, threads: Sequence[int], tolerance: float | None) -> None:
        """Runs every engine once on each number of threads."""
        found, first = self._comparison, None
        for count in dict.fromkeys(threads):
            self._told(f"results, threads: {count}")
            ours: list[np.ndarray] = []
            for engine in list(self._engines):
                if (run := self._load(engine, count)) is None:
                    continue
                if engine.name == OURS:
                    ours = run()
                    first = first or ours
                    found.same_bits &= all(a.tobytes() == b.tobytes() for a, b in zip(ours, first, strict=True))
                    continue
                outputs = self._tried(engine, partial(self._beside, ours, run, tolerance))
                if outputs is not None:
                    found.agreements.append(Agreement(engine.name, count, outputs))

    def _beside(self, ours: Sequence[np.ndarray], theirs: Run, tolerance: float | None) -> tuple[Difference, ...]:
        return tuple(
            compare_output(name, a, np.asarray(b), self._tolerance(a, tolerance))
            for name, a, b in zip(self._names, ours, theirs(), strict=True)
        )

    def _tolerance(self, array: np.ndarray, given: float | None) -> float:
        return default_tolerance(array.dtype, bf16=self._bf16) if given is None else given

    def time(self, threads: int, seconds: float) -> None:
        self._told(f"latency, threads: {threads}")
        runs = {engine.name: self._load(engine, threads) for engine in list(self._engines)}
        present = {name: run for name, run in runs.items() if run is not None}
        self._comparison.latency[threads] = interleaved(present, seconds=seconds)

    def time_callers(self, count: int, seconds: float) -> None:
        self._told(f"throughput, callers: {count}")
        runs: dict[str, list[Run]] = {}
        for engine in list(self._engines):
            model, feed = self._given[engine.name]

            loaded = self._tried(engine, partial(self._callers, engine, model, feed, count))
            if loaded is not None:
                runs[engine.name] = loaded
        found = interleaved_throughput(runs, samples_of(self._feed), seconds=seconds)
        self._comparison.throughput[count] = found

    def _callers(self, engine: Engine, model: Path, feed: Feed, count: int) -> list[Run]:
        return [_once(run) for run in engine.callers(model, feed, count, bf16=self._bf16)]

    def start_processes(self, threads: int) -> None:
        models: dict[str, bytes | Path] = {name: model for name, (model, _) in self._given.items()}
        with Processes(models, self._feed, threads=threads, bf16=self._bf16, dropped=self._constants) as processes:
            for engine in list(self._engines):
                self._told(f"a process of {engine.name}")
                figures = self._tried(engine, partial(_second, processes, engine.name))
                if figures is not None:
                    self._comparison.memory[engine.name] = figures


def _reason(error: Exception) -> str:
    """On one line, without the places in the peer's own source that it begins with."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"^(?:(?:Exception from|Check '[^']*' failed at) \S+: ?)+", "", text) or text


def _second(processes: Processes, engine: str) -> ProcessFigures:
    """The first start reads files from the disk, and writes bytecode that is missing."""
    processes.measure(engine)
    return processes.measure(engine)


def _once(run: Run) -> Run:
    run()
    return run

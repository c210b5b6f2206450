"""``vitrify bench``: a model beside the peers that are installed; results are compared before anything is timed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vitrify.artifact.loading import Artifact, is_artifact, load_artifact
from vitrify.artifact.manifest import Port
from vitrify.benchmark.chart import check_chart, draw_chart
from vitrify.benchmark.comparison import Comparison, compare
from vitrify.cli.compile import compile_with_progress
from vitrify.cli.feeds import Feed, complete, default_dims, model_ports, read_feed, tensor_ports
from vitrify.errors import InvalidArgumentError, NoSuchFileError, UnsupportedError
from vitrify.options import CompileOptions
from vitrify.runtime.threads import default_threads

#: Exit status where results differ, from a peer's or between numbers of threads.
DIFFERENT = 3


@dataclass(frozen=True)
class BenchOptions:
    """What the command line says. ``threads`` and ``callers`` are lists of numbers as text; empty for one, and one
    per core. ``fresh``: compile anew, so that compiling is timed."""

    inputs: Sequence[str] = ()
    seed: int = 0
    shapes: Sequence[str] = ()
    dims: Sequence[str] = ()
    threads: str = ""
    callers: str = ""
    seconds: float = 1.0
    tolerance: float | None = None
    bf16: bool = False
    force: bool = False
    fresh: bool = False
    chart: Path | None = None
    json: Path | None = None


def bench_model(model: Path, options: BenchOptions, *, as_json: bool) -> int:
    """Measures and shows; the exit status."""
    threads, callers = counts("--threads", options.threads), counts("--callers", options.callers)
    for path in (options.chart, options.json):
        if path is not None and not path.parent.is_dir():
            raise NoSuchFileError(f"{path} cannot be written: {path.parent} is no directory")
    if options.chart is not None:
        check_chart(options.chart)
    with tempfile.TemporaryDirectory() if options.fresh else nullcontext() as folder:
        prepared = _prepare(model, options, folder)
        found = _compared(prepared, threads, callers, options)
    result = found.to_dict() | {"threads": list(threads), "callers": list(callers), "defaults": prepared.defaults}
    text = json.dumps(result, indent=1)
    if options.json is not None:
        _write(options.json, text + "\n")
    if options.chart is not None and found.latency:
        draw_chart(found, options.chart)
    if as_json:
        print(text)
    else:
        from vitrify.cli.bench_table import show

        show(found, prepared.defaults, options)
    return 0 if found.agrees else DIFFERENT


def counts(option: str, text: str) -> tuple[int, ...]:
    """``"1,2"`` as numbers; for an empty text 1 and as many as there are cores."""
    if not text:
        return tuple(dict.fromkeys((1, default_threads())))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 16 for part in parts):
        raise InvalidArgumentError(f"option {option}", expected="numbers from 1, as in 1,2,4", actual=repr(text))
    return tuple(dict.fromkeys(map(int, parts)))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be written: {error.strerror}") from None


@dataclass(frozen=True)
class _Prepared:
    """``defaults`` are the sizes of dims that nobody gave; ``constants`` are inputs that the artifact does not take:
    shapes follow their values. ``compiled``: whether, and how long it took if so."""

    artifact: Artifact
    model: Path | None
    feed: Feed
    defaults: dict[str, int]
    constants: frozenset[str] = frozenset()
    compiled: dict[str, Any] | None = None


def _prepare(model: Path, options: BenchOptions, folder: str | None) -> _Prepared:
    """Inputs, and the artifact: compiled for their shapes where ``model`` is none."""
    if is_artifact(model):
        if options.bf16 or options.fresh:
            name = "--bf16" if options.bf16 else "--fresh"
            raise InvalidArgumentError(
                f"option {name}", expected="an ONNX model: this is compiled already", actual=str(model)
            )
        artifact = load_artifact(model)
        feed, defaults = _fed(tensor_ports(artifact.manifest), options)
        return _Prepared(artifact, None, feed, defaults)
    if not model.exists():
        raise NoSuchFileError(f"{model} does not exist", expected="an ONNX model, or an artifact")
    ports = model_ports(model)
    feed, defaults = _fed(ports, options)
    shapes = {name: array.shape for name, array in feed.items()}
    fixed = all(isinstance(dim, int) for port in ports for dim in port.dims)
    wanted = CompileOptions(bf16=options.bf16, specialize=() if fixed else (shapes,), cache_dir=folder)
    constants: frozenset[str] = frozenset()
    start = time.perf_counter()
    try:
        artifact = compile_with_progress(model, wanted)
    except UnsupportedError as error:
        if not error.inputs or not set(error.inputs) <= feed.keys():
            raise
        constants = frozenset(error.inputs)
        rest = {name: shape for name, shape in shapes.items() if name not in constants}
        values = {name: feed[name] for name in sorted(constants)}
        wanted = replace(wanted, input_values=values, specialize=() if fixed else (rest,))
        artifact = compile_with_progress(model, wanted)
    seconds = time.perf_counter() - start
    tensor_ports(artifact.manifest)
    compiled = {"compiled": artifact.compiled, "compile_seconds": round(seconds, 3) if artifact.compiled else None}
    return _Prepared(artifact, model, feed, defaults, constants, compiled)


def _fed(ports: Sequence[Port], options: BenchOptions) -> tuple[Feed, dict[str, int]]:
    """The inputs, and the sizes of dims that nobody gave."""
    given = read_feed(ports, options.inputs, options.shapes, options.dims)
    defaults = default_dims(given, ports, options.shapes, options.dims)
    return complete(given, ports, options.seed, options.shapes, options.dims), defaults


def _compared(prepared: _Prepared, threads: Sequence[int], callers: Sequence[int], options: BenchOptions) -> Comparison:
    errors = Console(stderr=True, highlight=False)
    status = errors.status("") if errors.is_terminal else nullcontext()
    with status as shown:
        found = compare(
            prepared.artifact, prepared.feed, model=prepared.model, threads=threads, callers=callers,
            duration_seconds=options.seconds, tolerance=options.tolerance, bf16=options.bf16,
            constants=prepared.constants, force=options.force,
            told=lambda what: shown.update(what) if shown is not None else None,
        )  # fmt: skip
    found.model |= prepared.compiled or {}
    given = {text.rpartition("=")[0] for text in options.inputs}
    for row in found.inputs:
        row["source"] = "given" if row["name"] in given or "" in given else f"random, seed {options.seed}"
    return found

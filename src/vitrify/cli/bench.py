"""``vitrify bench``: one model against the peers that are installed; results are compared before times."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from vitrify.cli.compile import artifact_of, counted
from vitrify.cli.feeds import Feed, make_feed, tensor_ports
from vitrify.options import CompileOptions
from vitrify.runtime.threads import default_threads

Run = Callable[[], Sequence[np.ndarray[Any, Any]]]
_ROUNDS = 8
_REST = 0.02  # seconds: a peer's workers spin for a while after its last call


def bench_model(
    model: Path,
    files: Sequence[str],
    seed: int | None,
    shapes: Sequence[str],
    dims: Sequence[str],
    threads: int,
    seconds: float,
    bf16: bool,
    as_json: bool,
) -> None:
    """Medians of interleaved calls, all engines on the same number of threads."""
    import vitrify

    threads = threads or default_threads()
    artifact = artifact_of(model, CompileOptions(bf16=bf16))
    feed = make_feed(tensor_ports(artifact.manifest), files, 0 if seed is None else seed, shapes, dims)
    session = vitrify.InferenceSession(artifact.path, vitrify.SessionOptions(intra_op_num_threads=threads))
    runs: dict[str, Run] = {"vitrify": lambda: session.run(None, feed)}
    if model.is_file():
        runs |= _peers(model, feed, threads, bf16)
    expected = runs.get("onnxruntime", runs["vitrify"])()
    results: list[dict[str, Any]] = [
        {"engine": name, "difference": _difference(run(), expected), **times}
        for (name, run), times in zip(runs.items(), _interleaved(runs, seconds), strict=True)
    ]
    if as_json:
        json.dump({"threads": threads, "results": results}, sys.stdout)
        print()
        return
    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    for head in ("engine", "median ms", "best ms", "p95 ms", "ratio", "difference"):
        table.add_column(head, justify="left" if head == "engine" else "right")
    ours = results[0]["median_ms"]
    for row in results:
        times = [f"{row[key]:.4g}" for key in ("median_ms", "best_ms", "p95_ms")]
        table.add_row(row["engine"], *times, f"{row['median_ms'] / ours:.2f}", f"{row['difference']:.1e}")
    console = Console(highlight=False)
    console.print(table)
    reference = "onnxruntime" if "onnxruntime" in runs else "vitrify"
    console.print(
        f"[dim]{counted(threads, 'thread')}, calls interleaved; ratios of medians to vitrify's; largest "
        f"differences relative to the largest element of {reference}'s outputs[/]"
    )


def _peers(model: Path, feed: Feed, threads: int, bf16: bool) -> dict[str, Run]:
    """Those that are installed and take the model."""
    runs: dict[str, Run] = {}
    for name, prepare in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        if importlib.util.find_spec(name) is None or (bf16 and name == "onnxruntime"):
            continue
        # A peer may refuse a model with any exception; the others are measured all the same.
        try:
            runs[name] = prepare(model, feed, threads, bf16)
            runs[name]()
        except Exception as error:  # noqa: BLE001
            runs.pop(name, None)
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            print(f"{name} does not run this model: {first[:160]}", file=sys.stderr)
    return runs


def _onnxruntime(model: Path, feed: Feed, threads: int, bf16: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def _openvino(model: Path, feed: Feed, threads: int, bf16: bool) -> Run:
    import openvino

    core = openvino.Core()
    read = core.read_model(str(model))
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }  # fmt: skip
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    count = len(read.outputs)

    def run() -> Sequence[np.ndarray[Any, Any]]:
        results = request.infer(feed, share_inputs=True, share_outputs=True)
        return [results[index] for index in range(count)]

    return run


def _interleaved(runs: dict[str, Run], seconds: float) -> list[dict[str, float]]:
    clock = time.perf_counter
    calls: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            time.sleep(_REST)
            run()  # finds cold caches
            end = clock() + seconds / _ROUNDS
            start = 0.0
            while start < end:
                start = clock()
                run()
                calls[name].append(clock() - start)
    return [
        {
            "median_ms": statistics.median(found) * 1e3,
            "best_ms": min(found) * 1e3,
            "p95_ms": sorted(found)[int(len(found) * 0.95)] * 1e3,
            "calls": len(found),
        }
        for found in calls.values()
    ]


def _difference(found: Sequence[np.ndarray[Any, Any]], expected: Sequence[np.ndarray[Any, Any]]) -> float:
    """The largest difference of an output relative to its largest element; NaN where NaNs differ."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("nan")
        if b.size and not np.isnan(b).all():
            wide = b.astype(np.float64)
            scale = float(np.nanmax(np.abs(wide))) or 1.0
            worst = max(worst, float(np.nanmax(np.abs(a.astype(np.float64) - wide))) / scale)
    return worst

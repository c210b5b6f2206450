"""``python -m bench [words of workloads' names]``: results are compared first, then timed."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from bench.flops import model_flops
from bench.limits import Limits, measure_limits
from bench.models import light_model, speech_model
from bench.report import Row, draw_chart, print_table, to_json
from bench.workloads import WORKLOADS, Workload
from vitrify.benchmark.difference import difference
from vitrify.benchmark.engines import ENGINES, Run
from vitrify.benchmark.machine import cpu_name
from vitrify.benchmark.processes import Processes
from vitrify.benchmark.timing import interleaved

RESULTS = Path(__file__).with_name("results")
_STARTS = 9


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="only workloads whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each engine (%(default)s)")
    parser.add_argument("--threads", type=int, help="only this number")
    arguments = parser.parse_args()
    limits = measure_limits()
    rows: list[Row] = []

    def wanted(name: str) -> bool:
        return not arguments.names or any(word.lower() in name.lower() for word in arguments.names)

    for workload in WORKLOADS:
        if wanted(workload.name):
            rows += measure(workload, limits, arguments.seconds, arguments.threads)
    for name, measured in (("process start", measure_start), ("peak memory", measure_memory)):
        if wanted(name):
            rows.append(measured())
            _say(rows[-1])
    facts = machine(limits)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "results.json").write_text(to_json(facts, rows))
    draw_chart(rows, RESULTS / "results.png")
    print_table(facts, rows)
    failed = [row for row in rows if row.notes]
    return 1 if failed else 0


def _say(row: Row) -> None:
    values = ", ".join(f"{name} {value:.4g}" for name, value in row.values.items())
    print(f"{row.name}, {row.threads}: {values} {row.unit}", file=sys.stderr, flush=True)


def measure(workload: Workload, limits: Limits, seconds: float, only: int | None) -> list[Row]:
    """The workload at each number of threads."""
    model, inputs = workload.model(), workload.inputs()
    flops = workload.flops or model_flops(model, inputs)
    expected = ENGINES[1].prepare(model, inputs, 1, bf16=False)()
    rows = []
    for threads in workload.threads:
        if only not in (None, threads):
            continue
        row = Row(workload.name, threads, "ms", workload.reach, workload.aim)
        runs: dict[str, Run] = {}
        for engine in ENGINES:
            if workload.bf16 and engine.name == "onnxruntime":
                continue
            # Whatever an engine raises is its result for this workload.
            try:
                run = engine.prepare(model, inputs, threads, bf16=workload.bf16)
                row.differences[engine.name] = difference(run(), expected)
            except Exception as error:  # noqa: BLE001
                reason = f"{engine.name}: {type(error).__name__}: {str(error).split(chr(10))[0][:200]}"
                if engine.name == "vitrify":
                    row.notes.append(reason)
                else:  # its column stays empty
                    print(f"{workload.name}: {reason}", file=sys.stderr)
                continue
            if row.differences[engine.name] > workload.tolerance:
                row.notes.append(f"{engine.name}: differs by {row.differences[engine.name]:.1e}")
                if engine.name == "vitrify":
                    continue
            runs[engine.name] = run
        for name, times in interleaved(runs, seconds=seconds).items():
            row.values[name], row.best[name] = times.p50_ms, times.min_ms
        if "vitrify" in row.values and flops and not workload.bf16:
            row.limit_share = flops / (row.values["vitrify"] * 1e6) / (limits.gflops * threads)
        rows.append(row)
        _say(row)
    return rows


def measure_start() -> Row:
    """From the start of a process to the first voice-activity result."""
    import vitrify

    row = Row("process start to first result", 1, "ms", 0.8, 0.6)
    inputs = next(w for w in WORKLOADS if w.name.startswith("voice")).inputs()
    shapes = {name: array.shape for name, array in inputs.items()}
    artifact = vitrify.compile(str(speech_model()), specialize=(shapes,))
    models = {"vitrify": Path(artifact.path), "onnxruntime": speech_model()}
    processes = Processes(models, inputs)
    times: dict[str, list[float]] = {"vitrify": [], "onnxruntime": []}
    for _ in range(_STARTS + 1):
        for name, found in times.items():
            found.append(processes.measure(name).start_ms)
    for name, found in times.items():  # the first start of each reads its files from the disk
        row.values[name], row.best[name] = statistics.median(found[1:]), min(found)
    return row


def measure_memory() -> Row:
    """Of a process that runs ResNet-50."""
    import vitrify

    row = Row("peak memory, ResNet-50", 1, "MB", 1.0, 0.7)
    inputs = {"gpu_0/data_0": np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)}
    model = light_model("resnet50")
    artifact = vitrify.compile(model)
    models = {engine.name: Path(artifact.path) if engine.name == "vitrify" else model for engine in ENGINES}
    processes = Processes(models, inputs)
    for engine in ENGINES:
        row.values[engine.name] = processes.measure(engine.name).peak_bytes / 1e6
    return row


def machine(limits: Limits) -> dict[str, Any]:
    """What the figures depend on."""
    from importlib.metadata import version

    import vitrify

    return {
        "date": date.today().isoformat(),
        "cpu": cpu_name(),
        "targets": ", ".join(vitrify.CompileOptions().resolved_targets()),
        "GFLOP/s per core": round(limits.gflops),
        "GB/s": round(limits.gbytes),
        "vitrify": vitrify.__version__,
        "onnxruntime": version("onnxruntime"),
        "openvino": version("openvino"),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())

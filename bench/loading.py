"""``python -m bench.loading``: what it takes until a signed artifact is ready to run, and where that time goes.

A fresh process each time, with the files in the page cache and bytecode written; figures begin after the import of
NumPy and are the least of many runs, since others use the machine. Prints a table and writes
``bench/results/loading.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table

from bench.models import light_model
from vitrify.benchmark.machine import cpu_name

RESULTS = Path(__file__).with_name("results")
SMALL = 240  # models of one process

_WHOLE = """
import sys, time, numpy
start = time.perf_counter()
import vitrify
session = vitrify.InferenceSession(sys.argv[1])
print((time.perf_counter() - start) * 1e3)
"""
_PEER = """
import sys, time, numpy
start = time.perf_counter()
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print((time.perf_counter() - start) * 1e3)
"""
_STAGES = """
import sys, time, numpy
times = [time.perf_counter()]
def stage(): times.append(time.perf_counter())
import vitrify
vitrify.InferenceSession
stage()
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
stage()
from vitrify.artifact.loading import load_artifact
artifact = load_artifact(sys.argv[1])
stage()
from vitrify.runtime.cpu import choose, detect
target = choose(artifact.manifest.targets, detect())
artifact.payload(target).close()
stage()
artifact.weights(target)
stage()
from vitrify.runtime.session import Session
session = Session(artifact)
stage()
session._native.check()
stage()
print(*((b - a) * 1e3 for a, b in zip(times, times[1:])))
"""
STAGES = (
    "imports of the runtime", "import of cryptography", "container, signature, policy, manifest",
    "payload: copy, SHA-256, native gate, leak scan", "weights: mapped, list of digests",
    "session: the payload again, loader, interface", "first run: all leaves of the weights",
)  # fmt: skip


@dataclass
class Figure:
    """``least`` and ``median`` of ``runs`` in ``unit``; ``aim`` is what was asked for."""

    name: str
    least: float
    median: float
    runs: int
    unit: str = "ms"
    aim: float | None = None


def figure(name: str, values: Sequence[float], unit: str = "ms", aim: float | None = None) -> Figure:
    return Figure(name, min(values), sorted(values)[len(values) // 2], len(values), unit, aim)


def small_model(seed: int) -> bytes:
    """A layer of 32 x 16, another one for each seed."""
    weights = np.random.default_rng(seed).normal(size=(32, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])], f"small{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 16])], [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def processes(program: str, argument: Path, runs: int, folder: Path) -> list[list[float]]:
    """What each of ``runs`` processes prints, after one that warms the caches."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    found = []
    for _ in range(runs + 1):
        command = [sys.executable, "-c", program, str(argument)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append([float(word) for word in done.stdout.split()])
    return found[1:]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_large(folder: Path, runs: int) -> tuple[list[Figure], int]:
    """ResNet-50: ready, checked at once, and beside SHA-256 alone. Bytes of the artifact, too."""
    import vitrify

    model = folder / "resnet50.onnx"
    model.write_bytes(light_model("resnet50"))
    path = folder / "resnet50.vit"
    vitrify.compile(model).save(path)
    size = path.stat().st_size
    whole = [values[0] for values in processes(_WHOLE, path, runs, folder)]
    rows = [figure("ResNet-50 ready: vitrify.InferenceSession(artifact)", whole, aim=25.0)]
    stages = processes(_STAGES, path, runs, folder)
    rows += [figure(f"  {name}", column) for name, column in zip(STAGES, zip(*stages, strict=True), strict=True)]
    again = [1e3 * seconds(lambda: vitrify.InferenceSession(path)) for _ in range(runs)]
    rows.append(figure("  a second session in the process", again))
    rows.append(figure("onnxruntime, from the ONNX file", [v[0] for v in processes(_PEER, model, 5, folder)]))
    data = path.read_bytes()
    alone = [1e3 * seconds(lambda: hashlib.sha256(data).digest()) for _ in range(runs)]
    eager = [1e3 * seconds(lambda: vitrify.verify(path)) for _ in range(runs)]
    rows.append(figure("eager check of everything: vitrify.verify", eager))
    rows.append(figure("SHA-256 of the file, one thread", alone))
    return rows, size


def measure_small(folder: Path) -> list[Figure]:
    """Many small models, loaded by one process."""
    import vitrify

    paths = []
    for seed in range(SMALL):
        paths.append(folder / f"{seed}.vit")
        vitrify.compile(small_model(seed), targets="x86-64-v3").save(paths[-1])
    times, kept = [], []
    for path in paths:
        times.append(1e3 * seconds(lambda path=path: kept.append(vitrify.InferenceSession(path))))  # type: ignore[misc]
    x = np.ones((2, 32), np.float32)
    first = [1e3 * seconds(lambda session=session: session.run(None, {"x": x})) for session in kept]  # type: ignore[misc]
    return [
        figure(f"{SMALL} small models in one process, together", [sum(times) / 1e3], "s", aim=10.0),
        figure("  one of them", times), figure("  its first run", first),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.loading", description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="processes of each figure (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrify-bench-") as name:
        folder = Path(name)
        os.environ["VITRIFY_TRUST_DIR"] = str(folder / "trust")
        os.environ["VITRIFY_CACHE_DIR"] = str(folder / "cache")
        large, size = measure_large(folder, arguments.runs)
        rows = large + measure_small(folder)
    facts = {
        "date": date.today().isoformat(), "cpu": cpu_name(), "python": sys.version.split()[0],
        "load average": round(os.getloadavg()[0], 1), "artifact bytes": size,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loading.json").write_text(json.dumps({"facts": facts, "rows": [asdict(row) for row in rows]}, indent=1))
    shown = Table(box=box.SIMPLE)
    for head in ("", "least", "median", "asked for", "runs"):
        shown.add_column(head, justify="left" if not head else "right")
    for row in rows:
        aim = "" if row.aim is None else f"{row.aim:g} {row.unit}"
        shown.add_row(row.name, f"{row.least:.2f} {row.unit}", f"{row.median:.2f} {row.unit}", aim, str(row.runs))
    console = Console(highlight=False)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()))
    console.print(shown)
    return 0 if all(row.aim is None or row.least <= row.aim for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What only a fresh process shows: the time from its start to the first result, and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vitrify.errors import VitrifyError

# Programs as short as a user's can be: what they import and how long that takes is part of what is measured.
# One .npy for each input: reading a zip file would import more than either engine does.
_PRELUDE = """
import sys, time
import numpy as np
model, threads, bf16, *inputs = sys.argv[1:]
threads, bf16 = int(threads), bf16 == "bf16"
feed = {name: np.load(file) for name, file in zip(inputs[::2], inputs[1::2])}
for name, file in zip(inputs[::2], inputs[1::2]):
    kind = file.split(".")[-2]
    if feed[name].dtype.name != kind:  # NumPy's files keep the bits of types that it lacks
        import ml_dtypes
        feed[name] = feed[name].view(getattr(ml_dtypes, kind))
start = time.perf_counter()
"""
_SESSIONS = {
    "vitrify": """
import vitrify
options = vitrify.SessionOptions(intra_op_num_threads=threads)
run = vitrify.InferenceSession(model, options).run
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
run = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run
""",
    "openvino": """
import openvino
core = openvino.Core()
read = core.read_model(model)
if any(port.partial_shape.is_dynamic for port in read.inputs):
    read.reshape({name: list(array.shape) for name, array in feed.items()})
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
request = core.compile_model(read, "CPU", settings).create_infer_request()
run = lambda names, feed: request.infer(feed)
""",
}
_CALLS = """
loaded = time.perf_counter()
run(None, feed)
print("first", flush=True)
first = time.perf_counter()
for _ in range(3):
    run(None, feed)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(loaded - start, first - loaded, peak)
"""
# As installed packages are: with their bytecode. The first start of each engine writes what is missing.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_LIMIT = 600  # seconds
_TAIL = 300  # characters of what a program that failed had to say


@dataclass(frozen=True)
class ProcessFigures:
    """Milliseconds from the process's start to the first result; of that the engine's import with the loading of
    the model, and the first call. ``peak_bytes``: the most memory that was resident, of the whole process:
    interpreter, libraries and model."""

    start_ms: float
    load_ms: float
    first_call_ms: float
    peak_bytes: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class Processes:
    """Runs one model in fresh processes. ``models`` says what each engine loads; bytes are those of a model."""

    def __init__(
        self, models: Mapping[str, bytes | Path], inputs: Mapping[str, np.ndarray], *, threads: int = 1,
        bf16: bool = False, dropped: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """``dropped`` are inputs that Vitrify's artifact holds as constants."""
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._models: dict[str, Path] = {}
        for engine, model in models.items():
            if isinstance(model, bytes):
                (folder / f"{engine}.onnx").write_bytes(model)
                model = folder / f"{engine}.onnx"
            self._models[engine] = model
        self._files: dict[str, str] = {}
        for index, (name, array) in enumerate(inputs.items()):
            file = folder / f"{index}.{array.dtype.name}.npy"
            np.save(file, array)
            self._files[name] = str(file)
        self._settings = [str(threads), "bf16" if bf16 else "f32"]
        self._dropped = dropped

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *what: object) -> None:
        self._folder.cleanup()

    def measure(self, engine: str) -> ProcessFigures:
        """One process. Raises VitrifyError with the end of what it wrote where it has no result."""
        left_out = self._dropped if engine == "vitrify" else frozenset()
        inputs = [text for pair in self._files.items() if pair[0] not in left_out for text in pair]
        script = _PRELUDE + _SESSIONS[engine] + _CALLS
        command = [sys.executable, "-c", script, str(self._models[engine]), *self._settings, *inputs]
        with tempfile.TemporaryFile("w+") as errors:
            start = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_ENVIRONMENT) as child:
                assert child.stdout is not None
                watchdog = threading.Timer(_LIMIT, child.kill)
                watchdog.start()
                line = child.stdout.readline()
                seconds = time.perf_counter() - start
                rest = child.stdout.read().split()
                watchdog.cancel()
            if line.strip() != "first" or len(rest) != 3:
                errors.seek(0)
                said = errors.read()[-_TAIL:].strip() or f"exit status {child.returncode}"
                raise VitrifyError(f"{engine} has no result in a process of its own", actual=said)
        load, first, peak = float(rest[0]), float(rest[1]), int(rest[2])
        return ProcessFigures(seconds * 1e3, load * 1e3, first * 1e3, peak * 1024)

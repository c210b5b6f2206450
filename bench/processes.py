"""What only a fresh process shows: the time from its start to the first result, and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# One .npy for each input: reading a zip file would import more than either engine does.
_PRELUDE = (
    "import sys\nimport numpy as np\nmodel, *inputs = sys.argv[1:]\n"
    "feed = {name: np.load(file) for name, file in zip(inputs[::2], inputs[1::2])}\n"
)
_SESSIONS = {
    "vitrify": (
        "import vitrify\n"
        "options = vitrify.SessionOptions(intra_op_num_threads=1)\n"
        "run = vitrify.InferenceSession(model, options).run\n"
    ),
    "onnxruntime": (
        "import onnxruntime\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.intra_op_num_threads = 1\n"
        "options.log_severity_level = 3\n"
        "run = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider']).run\n"
    ),
    "openvino": (
        "import openvino\n"
        "read = openvino.Core().read_model(model)\n"
        "settings = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': 1, 'NUM_STREAMS': 1,\n"
        "            'INFERENCE_PRECISION_HINT': 'f32'}\n"
        "request = openvino.Core().compile_model(read, 'CPU', settings).create_infer_request()\n"
        "run = lambda names, feed: request.infer(feed)\n"
    ),
}
_FIRST = "run(None, feed)\nprint('first', flush=True)\n"
_PEAK = (
    "for _ in range(3):\n    run(None, feed)\n"
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
)


# As installed packages are: with their bytecode. The first start of each engine writes what is missing.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Processes:
    """Runs one model in fresh processes. ``artifact`` is what Vitrify loads, ``model`` what the peers do."""

    def __init__(self, artifact: Path, model: bytes | Path, inputs: Mapping[str, np.ndarray]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        if isinstance(model, bytes):
            (folder / "model.onnx").write_bytes(model)
            model = folder / "model.onnx"
        self._inputs: list[str] = []
        for index, (name, array) in enumerate(inputs.items()):
            np.save(folder / f"{index}.npy", array)
            self._inputs += [name, str(folder / f"{index}.npy")]
        self._models = {"vitrify": artifact, "onnxruntime": model, "openvino": model}

    def _command(self, engine: str, rest: str) -> list[str]:
        script = _PRELUDE + _SESSIONS[engine] + rest
        return [sys.executable, "-c", script, str(self._models[engine]), *self._inputs]

    def first_result(self, engine: str) -> float:
        """Seconds from the start of the process until it has the first result."""
        command = self._command(engine, _FIRST)
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=pipe, stderr=null, env=_ENVIRONMENT) as child:
            assert child.stdout is not None
            line = child.stdout.readline()
            seconds = time.perf_counter() - start
        if line.strip() != b"first":
            raise RuntimeError(f"{engine} has no result")
        return seconds

    def peak_bytes(self, engine: str) -> int:
        """The most memory that was resident, of the whole process: interpreter, libraries and model."""
        command = self._command(engine, _PEAK)
        found = subprocess.run(command, capture_output=True, check=True, text=True, env=_ENVIRONMENT)
        return int(found.stdout) * 1024

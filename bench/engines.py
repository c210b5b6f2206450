"""The engines under one face: load a model with a number of threads, then call it."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Feed = Mapping[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]


class Engine(ABC):
    """``prepare`` loads ``model`` and returns one inference on ``feed``, as the engine's user calls it."""

    name = ""

    @abstractmethod
    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool) -> Run: ...


class Vitrify(Engine):
    name = "vitrify"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool) -> Run:
        import vitrify

        options = vitrify.SessionOptions(intra_op_num_threads=threads)
        shapes = {name: array.shape for name, array in feed.items()}
        compiled = vitrify.CompileOptions(bf16=bf16, specialize=(shapes,))
        source = model if isinstance(model, bytes) else str(model)
        session = vitrify.InferenceSession(source, options, compile_options=compiled)
        run, inputs = session.run, dict(feed)
        return lambda: run(None, inputs)


class Onnxruntime(Engine):
    """float32 only: its CPU provider has no bfloat16 products."""

    name = "onnxruntime"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        run, inputs = session.run, dict(feed)
        return lambda: run(None, inputs)


class OpenVino(Engine):
    """Latency hint, one stream, the precision stated: its default may be bfloat16."""

    name = "openvino"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool) -> Run:
        import openvino

        core = openvino.Core()
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            if isinstance(model, bytes):
                file.write(model)
                file.flush()
                model = Path(file.name)
            read = core.read_model(str(model))
        ports = {name: port for port in read.inputs for name in port.get_names()}
        if any(ports[name].partial_shape.is_dynamic for name in feed):
            # as its documentation advises for the best latency: shapes that do not change are fixed
            read.reshape({ports[name]: list(array.shape) for name, array in feed.items()})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        }
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        outputs = list(range(len(read.outputs)))
        inputs = dict(feed)

        def run() -> list[np.ndarray]:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
            return [results[index] for index in outputs]

        return run


ENGINES: tuple[Engine, ...] = (Vitrify(), Onnxruntime(), OpenVino())

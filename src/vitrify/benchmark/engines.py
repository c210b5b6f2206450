"""The engines under one face: load a model with a number of threads, then call it."""

from __future__ import annotations

import importlib.util
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Feed = Mapping[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]


class Engine(ABC):
    """``prepare`` loads ``model`` (for Vitrify an artifact, too) and returns one inference on ``feed``, as the
    engine's user calls it. ``callers`` returns one for each of several threads that call at once, set up for
    throughput: a call runs on one thread. Both raise what the engine raises."""

    name = ""

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.name) is not None

    @abstractmethod
    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool = False) -> Run: ...

    def callers(self, model: bytes | Path, feed: Feed, count: int, *, bf16: bool = False) -> list[Run]:
        return [self.prepare(model, feed, 1, bf16=bf16)] * count


class Vitrify(Engine):
    """With code for the feed's shapes."""

    name = "vitrify"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool = False) -> Run:
        import vitrify
        from vitrify.artifact.loading import is_artifact

        options = vitrify.SessionOptions(intra_op_num_threads=threads)
        compiled = None
        if not (isinstance(model, Path) and is_artifact(model)):
            shapes = {name: array.shape for name, array in feed.items()}
            compiled = vitrify.CompileOptions(bf16=bf16, specialize=(shapes,))
        source = model if isinstance(model, bytes) else str(model)
        session = vitrify.InferenceSession(source, options, compile_options=compiled)
        run, inputs = session.run, dict(feed)
        return lambda: run(None, inputs)


class Onnxruntime(Engine):
    """float32 products whatever ``bf16`` says: its CPU provider has no others."""

    name = "onnxruntime"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool = False) -> Run:
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
    """Shapes fixed to the feed's, the precision stated: its default may be bfloat16. The latency hint with one
    stream, or the throughput hint with a stream and a request for each caller."""

    name = "openvino"

    def prepare(self, model: bytes | Path, feed: Feed, threads: int, *, bf16: bool = False) -> Run:
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        return self._requests(model, feed, settings, bf16, 1)[0]

    def callers(self, model: bytes | Path, feed: Feed, count: int, *, bf16: bool = False) -> list[Run]:
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": count, "NUM_STREAMS": count}
        return self._requests(model, feed, settings, bf16, count)

    def _requests(self, model: bytes | Path, feed: Feed, settings: dict[str, Any], bf16: bool, count: int) -> list[Run]:
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
        precision = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
        compiled = core.compile_model(read, "CPU", settings | precision)
        types = [port.get_element_type().get_type_name() for port in compiled.outputs]
        return [self._run(compiled.create_infer_request(), types, dict(feed)) for _ in range(count)]

    @staticmethod
    def _run(request: Any, types: list[str], inputs: dict[str, np.ndarray]) -> Run:
        def run() -> list[np.ndarray]:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
            return [results[index] for index in range(len(types))]

        def run_narrow() -> list[np.ndarray]:
            import ml_dtypes

            # its Python interface shows the bits of bfloat16 as float16
            return [a.view(ml_dtypes.bfloat16) if t == "bf16" else a for a, t in zip(run(), types, strict=True)]

        return run_narrow if "bf16" in types else run


ENGINES: tuple[Engine, ...] = (Vitrify(), Onnxruntime(), OpenVino())

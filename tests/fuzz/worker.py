"""Imports, interprets and compiles changed models; a program, since a crash must end no test.

``python -m tests.fuzz.worker SEED FIRST STEP COUNT SECONDS COMPILE_EVERY`` takes ``COUNT`` cases from ``FIRST`` on,
or as many as the time allows, and compiles every so many (0: none). Each line it prints is ``{"number": …,
"phase": …}`` before a phase begins, ``{"number": …, "failure": …}`` for an error that is none of ours or a wrong
result, and ``{"done": counts}`` at the end.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import vitrify
from tests.fuzz import mutate
from vitrify.errors import VitrifyError
from vitrify.frontends.onnx import load_onnx
from vitrify.ir.dims import evaluate, symbols
from vitrify.ir.graph import Graph
from vitrify.ir.interpret import InterpretError, interpret
from vitrify.ir.verify import verify

Array = np.ndarray[Any, Any]

ADDRESS_SPACE = 6 << 30  # bytes
IMPORT_SECONDS = 10
RUN_SECONDS = 20
MOST_ELEMENTS = 1 << 14  # of an input that is fed
LARGEST_DECIDED = 1e9
MOST_BAKED = 64
RANDOM = {
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
}  # fmt: skip


class OutOfTime(BaseException):
    """A phase took too long. No ``Exception``, so that nothing takes it for one of its own."""


@contextmanager
def limited(seconds: float) -> Any:
    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Worker:
    """Counts what became of the cases."""

    def __init__(self, seed: int, compile_every: int) -> None:
        self.seed = seed
        self.compile_every = compile_every
        self.counts: Counter[str] = Counter()
        self.number = 0

    def say(self, **line: Any) -> None:
        print(json.dumps({"number": self.number, **line}), flush=True)  # noqa: T201 (a program)

    def fail(self, text: str) -> None:
        self.counts["failures"] += 1
        self.say(failure=text[:1000] + " … " + text[-3000:] if len(text) > 4000 else text)

    def take(self, number: int) -> None:
        self.number = number
        made = mutate.case(self.seed, number)
        self.counts["cases"] += 1
        graph = self.imported(made)
        if graph is None:
            return
        feeds = feeds_of(graph, made.inputs, number)
        results = None
        if feeds is not None:
            self.say(phase="interpret")
            results = self.interpreted(graph, feeds)
            if results is not None:
                self.say(phase="peer")
                self.compare_with_peers(made, feeds, results)
        if self.compile_every and number % self.compile_every == 0:
            self.say(phase="compile")
            self.compiled(made, feeds, results)

    def imported(self, made: mutate.Case) -> Graph | None:
        """The graph, verified; None where the model is refused, or has parts outside its graph."""
        self.say(phase="import")
        begun = time.monotonic()
        try:
            with limited(IMPORT_SECONDS):
                model = load_onnx(made.data)
                verify(model.graph)
        except VitrifyError as error:
            self.counts[type(error).__name__] += 1
            if len(str(error)) > 20000:
                self.fail(f"a message of {len(str(error))} characters: {str(error)[:300]}")
            return None
        except OutOfTime:
            self.fail(f"import of {made.name} took more than {IMPORT_SECONDS} s\n{traceback.format_exc()}")
            return None
        except BaseException:  # noqa: BLE001 (what is looked for)
            self.fail(f"import of {made.name}\n{traceback.format_exc()}")
            return None
        self.counts["slowest import, ms"] = max(
            self.counts["slowest import, ms"], int(1000 * (time.monotonic() - begun))
        )
        self.counts["imported"] += 1
        return model.graph if model.host is None else None

    def interpreted(self, graph: Graph, feeds: dict[str, Array]) -> list[Array] | None:
        try:
            with limited(RUN_SECONDS), warnings.catch_warnings():
                return interpret(graph, feeds)
        except (InterpretError, IndexError, VitrifyError, ZeroDivisionError):
            self.counts["refused by the run"] += 1
        except (MemoryError, OutOfTime):
            self.counts["beyond the interpreter"] += 1
        except BaseException:  # noqa: BLE001 (what is looked for)
            self.fail(f"interpretation\n{traceback.format_exc()}")
        return None

    def compare_with_peers(self, made: mutate.Case, feeds: dict[str, Array], results: Sequence[Array]) -> None:
        """A result is wrong if onnxruntime has another one and the reference does not have this one. The reference
        alone says nothing of models that it was not written for: where it differs, a person has to look."""
        if not decided(made.data):
            return
        others = {}
        for peer in (onnxruntime_results, reference_results):
            try:
                with limited(RUN_SECONDS):
                    others[peer] = peer(made.data, feeds)
            except OutOfTime:
                continue
            except Exception:  # noqa: BLE001 (a peer that refuses has no say)
                continue
        self.counts["compared"] += bool(others)
        if others and not any(alike(results, other) for other in others.values()):
            peers = [f"{peer.__name__} {brief(other)}" for peer, other in others.items()]
            text = "\n".join([f"{made.name}: results differ", f"ours {brief(results)}", *peers])
            if onnxruntime_results in others:
                self.fail(text)
            else:
                self.counts["unlike the reference"] += 1
                self.say(difference=text[:2000])

    def compiled(self, made: mutate.Case, feeds: dict[str, Array] | None, results: Sequence[Array] | None) -> None:
        try:
            session = vitrify.InferenceSession(made.data)
            if feeds is None:
                return
            with limited(RUN_SECONDS):
                got = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
        except VitrifyError as error:
            self.counts[f"compiled: {type(error).__name__}"] += 1
            return
        except OutOfTime:
            self.counts["compiled: out of time"] += 1
            return
        except BaseException:  # noqa: BLE001 (what is looked for)
            self.fail(f"compiled {made.name}\n{traceback.format_exc()}")
            return
        self.counts["compiled"] += 1
        if results is not None and not alike(got, results):
            self.fail(f"{made.name}: compiled {brief(got)}\ninterpreted {brief(results)}")


def feeds_of(graph: Graph, given: dict[str, Any], seed: int) -> dict[str, Array] | None:
    """The suite's values where they fit, others of a small size elsewhere; None for inputs that are too large."""
    random = np.random.default_rng(seed)
    sizes: dict[Any, int] = {}
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        array = given.get(value.name)
        if isinstance(array, np.ndarray) and array.dtype == value.dtype.numpy and array.ndim == len(value.shape):
            for n, size in zip(value.shape, array.shape, strict=True):
                for symbol in symbols(n):
                    sizes.setdefault(symbol.name, size)
    for value in graph.inputs:
        for n in value.shape:
            for symbol in symbols(n):
                sizes.setdefault(symbol.name, int(random.integers(0, 5)))
        shape = tuple(evaluate(n, sizes) for n in value.shape)
        array = given.get(value.name)
        if isinstance(array, np.ndarray) and array.dtype == value.dtype.numpy and array.shape == shape:
            feeds[value.name] = array
            continue
        count = 1
        for n in shape:
            count *= n
        if count > MOST_ELEMENTS:
            return None
        drawn = random.integers(-3, 4, shape) if value.dtype.is_float else random.integers(0, 4, shape)
        feeds[value.name] = np.asarray(drawn).astype(value.dtype.numpy)
    return feeds


def decided(data: bytes) -> bool:
    """Whether ONNX says what the results are: no random numbers, none that overflow or are not finite."""
    model = onnx.load_from_string(data)
    nodes = [node for graph in mutate.graphs(model.graph) for node in graph.node]
    numbers = [x for node in nodes for a in node.attribute for x in (a.f, *a.floats)]
    tensors = [t for graph in mutate.graphs(model.graph) for t in graph.initializer]
    for tensor in (*tensors, *(a.t for node in nodes for a in node.attribute if a.HasField("t"))):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind in "iu":
            numbers.extend(float(x) for x in array.reshape(-1)[:MOST_BAKED])
        elif array.dtype.kind == "f":
            numbers.extend(array.reshape(-1).astype(np.float64))
    finite = all(abs(x) < LARGEST_DECIDED for x in numbers)
    return finite and not any(node.op_type in RANDOM for node in nodes)


def onnxruntime_results(data: bytes, feeds: dict[str, Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(v) for v in session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})]


def reference_results(data: bytes, feeds: dict[str, Array]) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [np.asarray(v) for v in ReferenceEvaluator(onnx.load_from_string(data)).run(None, feeds)]


def alike(got: Sequence[Array], other: Sequence[Array]) -> bool:
    """Equal up to a few roundings of the narrower type, NaN where NaN is."""
    if len(got) != len(other):
        return False
    for a, b in zip(got, other, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype.kind in "biuOSU":
            if not np.array_equal(a, b):
                return False
            continue
        rtol = {8: 1e-4, 4: 1e-3, 2: 2**-6, 1: 0.5}[min(a.dtype.itemsize, 8)]
        with np.errstate(all="ignore"):
            wide = a.astype(np.float64), b.astype(np.float64)
            scale = float(np.max(np.abs(wide[1]), initial=0, where=np.isfinite(wide[1])))
            if not np.allclose(*wide, rtol=rtol, atol=rtol * max(scale, 1e-6), equal_nan=True):
                return False
    return True


def brief(arrays: Sequence[Array]) -> str:
    return "; ".join(f"{a.dtype}{list(a.shape)} {np.asarray(a).reshape(-1)[:8]}" for a in arrays)


def main(seed: int, first: int, step: int, count: int, seconds: int, compile_every: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    np.seterr(all="ignore")
    worker = Worker(seed, compile_every)
    mutate.seeds()
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        os.environ["VITRIFY_CACHE_DIR"] = folder
        end = time.monotonic() + seconds
        for number in range(first, first + count * step, step):
            if time.monotonic() > end:
                break
            worker.take(number)
    worker.say(done=dict(worker.counts))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))

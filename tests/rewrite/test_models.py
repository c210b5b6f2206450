"""Real models: optimised at every level they compute what they did, and no permute moves much any more."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.rewrite.checks import Array, assert_same, count
from tests.rewrite.test_layout import moving
from vitrify.frontends.onnx import import_onnx
from vitrify.ir import graph as g
from vitrify.ir.graph import Graph, Value, is_static
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.facts import static
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.rewriter import Results, Rewriter, rewrite, rule
from vitrify.rewrite.specialise import specialise

LEVELS = [Level.BASIC, Level.EXTENDED, Level.ALL]


def _light(name: str) -> Path:
    spec = find_spec("onnx")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "backend/test/data/light" / f"light_{name}.onnx"


@rule(g.Expand)
def _random_weights(rw: Rewriter, op: g.Expand, inputs: tuple[Value, ...]) -> Results:
    """The models carry constant weights: random ones, scaled by fan-in, show errors that those hide."""
    if not rw.source.startswith("ConstantOfShape") or not is_static(op.shape) or not inputs[0].dtype.is_float:
        return None
    shape = static(op.shape)
    rng = np.random.default_rng(len(rw.nodes))
    if len(shape) == 1:
        return rw.constant(rng.uniform(0.5, 1.5, shape).astype(np.float32))
    return rw.constant((rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32))


def _model(name: str) -> Graph:
    graph = import_onnx(_light(name))
    return rewrite(graph, [_random_weights])


def _image(graph: Graph) -> list[Array]:
    shape = static(graph.inputs[0].shape)
    return [np.random.default_rng(0).standard_normal(shape).astype(np.float32)]


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_results(name: str) -> None:
    graph = _model(name)
    arrays = _image(graph)
    expected = interpret(graph, arrays)
    assert np.ptp(expected[0]) > 0
    for level in LEVELS:
        after = optimize(graph, level, dump=lambda _, stage: verify(stage))
        assert_same(expected, interpret(after, arrays), 0 if level is Level.BASIC else 1e-4)


@pytest.mark.parametrize(
    "name", ["squeezenet", "shufflenet", "resnet50", "densenet121", "inception_v1", "inception_v2"]
)
def test_channels_last_throughout(name: str) -> None:
    graph = _model(name)
    start = time.perf_counter()
    after = optimize(graph, Level.ALL)
    seconds = time.perf_counter() - start
    assert not moving(after)
    assert all(n.inputs[1].constant is not None for n in after.nodes if isinstance(n.op, g.Contract))
    assert seconds < 10, f"the passes took {seconds:.1f} s"


def _wide(node: g.Node) -> bool:
    return node.output.rank == 4


def test_normalisations_of_resnet_cost_nothing() -> None:
    after = optimize(_model("resnet50"), Level.ALL)
    functions = [n.op.fn for n in after.nodes if isinstance(n.op, g.Map) and _wide(n)]
    assert functions.count("mul") <= 1 and functions.count("add") == 53 + 16


@pytest.mark.parametrize("level", LEVELS)
def test_voice_activity(level: Level) -> None:
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel silero-vad is not installed")
    graph = import_onnx(Path(spec.origin).parent / "data/silero_vad.onnx")
    rng = np.random.default_rng(1)
    for rate, samples in ((16000, 576), (8000, 288)):
        feeds = {
            "input": rng.standard_normal((1, samples)).astype(np.float32) * 0.1,
            "state": rng.standard_normal((2, 1, 128)).astype(np.float32),
            "sr": np.asarray(rate, np.int64),
        }
        arrays = [feeds[v.name] for v in graph.inputs]
        expected = interpret(graph, arrays)
        after = optimize(graph, level, dump=lambda _, stage: verify(stage))
        assert_same(expected, interpret(after, arrays), 0 if level is Level.BASIC else 1e-5)
        dims = {
            str(n): size
            for v, a in zip(graph.inputs, arrays, strict=True)
            for n, size in zip(v.shape, a.shape, strict=True)
            if not isinstance(n, int)
        }
        fixed = optimize(specialise(graph, dims), level, dump=lambda _, stage: verify(stage))
        assert_same(expected, interpret(fixed, arrays), 1e-5)
        assert level < Level.ALL or not moving(fixed)
        assert count(fixed, g.If) == 1

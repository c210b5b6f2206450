"""Real models, compiled, against onnxruntime: every element of every result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import vitrify
from bench.models import light_model, speech_model
from tests.conformance.node_cases import Array

#: Of the largest element of a result; Winograd's error is within it.
TOLERANCE = 5e-5


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "models"))


def _peer(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _assert_close(found: Sequence[Array], expected: Sequence[Array], tolerance: float) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))


def _check_image(name: str, options: vitrify.CompileOptions, tolerance: float = TOLERANCE) -> None:
    model = light_model(name)
    peer = _peer(model)
    port = peer.get_inputs()[0]
    feed = {port.name: np.random.default_rng(3).normal(size=port.shape).astype(np.float32)}
    expected = peer.run(None, feed)
    for threads in (1, 2, 3):
        session = vitrify.InferenceSession(
            model, vitrify.SessionOptions(intra_op_num_threads=threads), compile_options=options
        )
        _assert_close(session.run(None, feed), expected, tolerance)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_image_models(name: str) -> None:
    _check_image(name, vitrify.CompileOptions())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v1", "vgg19"])
def test_large_image_models(name: str) -> None:
    _check_image(name, vitrify.CompileOptions())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "resnet50"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels(name: str, level: int) -> None:
    _check_image(name, vitrify.CompileOptions(optimization_level=vitrify.OptLevel(level)))


def test_accurate() -> None:
    _check_image("squeezenet", vitrify.CompileOptions(accurate=True), 5e-6)


def test_bf16() -> None:
    _check_image("squeezenet", vitrify.CompileOptions(bf16=True), 0.1)


def _speech_feeds(batch: int, samples: int, rate: int) -> list[Mapping[str, Array]]:
    random = np.random.default_rng(rate + batch)
    state = np.zeros((2, batch, 128), np.float32)
    return [
        {"input": random.normal(scale=0.1, size=(batch, samples)).astype(np.float32), "state": state,
         "sr": np.array(rate, np.int64)}
        for _ in range(4)
    ]  # fmt: skip


@pytest.mark.parametrize(("batch", "samples", "rate"), [(1, 576, 16000), (1, 288, 8000), (3, 576, 16000)])
def test_speech_model(batch: int, samples: int, rate: int) -> None:
    """Streamed with its state; one shape has code of its own, the others take the general code."""
    path = speech_model()
    special = ({"input": (1, 576), "state": (2, 1, 128)},)
    session = vitrify.InferenceSession(str(path), compile_options=vitrify.CompileOptions(specialize=special))
    peer = _peer(str(path))
    ours = theirs = np.zeros((2, batch, 128), np.float32)
    for feed in _speech_feeds(batch, samples, rate):
        found = session.run(None, {**feed, "state": ours})
        expected = peer.run(None, {**feed, "state": theirs})
        _assert_close(found, expected, TOLERANCE)
        ours, theirs = found[1], expected[1]


def test_speech_model_refuses_other_lengths() -> None:
    """The model is only defined where its windows end in one frame; onnxruntime refuses as well."""
    session = vitrify.InferenceSession(str(speech_model()))
    feed = _speech_feeds(1, 1200, 16000)[0]
    with pytest.raises(Exception):  # noqa: B017  # the peer's class is its own
        _peer(str(speech_model())).run(None, dict(feed))
    with pytest.raises(vitrify.ShapeError):
        session.run(None, feed)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 16, 128])
def test_sentence_model(length: int, tmp_path: Path) -> None:
    from bench.sentence_model import sentence_model

    model = sentence_model()
    ids = np.random.default_rng(length).integers(1000, 29000, (2, length))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    _assert_close(vitrify.InferenceSession(model).run(None, feed), _peer(model).run(None, feed), TOLERANCE)

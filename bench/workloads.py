"""What is measured, and the ratios to reach: time of Vitrify divided by that of the faster peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import empty_model, light_model, speech_model
from bench.sentence_model import sentence_flops, sentence_model

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """``reach`` and ``aim`` are ratios; ``tolerance`` is relative to the largest element of an output;
    ``flops`` is stated where shape inference does not find it."""

    name: str
    model: Callable[[], bytes | Path]
    inputs: Callable[[], Inputs]
    reach: float
    aim: float
    threads: tuple[int, ...] = (1, 2)
    bf16: bool = False
    tolerance: float = 1e-4
    flops: int | None = None


def _image(name: str) -> Callable[[], Inputs]:
    return lambda: {name: np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)}


def _speech() -> Inputs:
    samples = np.random.default_rng(1).normal(scale=0.1, size=(1, 576)).astype(np.float32)
    return {"input": samples, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000, np.int64)}


def _tokens(length: int) -> Callable[[], Inputs]:
    def inputs() -> Inputs:
        ids = np.random.default_rng(1).integers(1000, 29000, (1, length))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    return inputs


def _network(label: str, name: str, port: str, reach: float, aim: float, **more: Any) -> Workload:
    return Workload(label, lambda: light_model(name), _image(port), reach, aim, **more)


def _sentence(tokens: int, suffix: str, reach: float, aim: float, **more: Any) -> Workload:
    name, flops = f"MiniLM-L6, {tokens} tokens{suffix}", sentence_flops(tokens)
    return Workload(name, sentence_model, _tokens(tokens), reach, aim, flops=flops, **more)


_ONE = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}

_BF16: dict[str, Any] = {"bf16": True, "tolerance": 0.1}

WORKLOADS = (
    Workload("voice activity, one chunk", speech_model, _speech, 0.5, 0.3, threads=(1,)),
    _network("ShuffleNet", "shufflenet", "gpu_0/data_0", 0.9, 0.6),
    _network("SqueezeNet", "squeezenet", "data_0", 0.9, 0.6),
    _network("ResNet-50", "resnet50", "gpu_0/data_0", 0.85, 0.7),
    _network("VGG-19", "vgg19", "data_0", 0.55, 0.4),
    _network("DenseNet-121", "densenet121", "data_0", 0.95, 0.8),
    _network("Inception v1", "inception_v1", "data_0", 0.95, 0.8),
    _sentence(16, "", 0.95, 0.87),
    _sentence(128, "", 0.95, 0.87),
    _network("ResNet-50, bf16", "resnet50", "gpu_0/data_0", 1.15, 1.0, **_BF16),
    _sentence(128, ", bf16", 1.15, 1.0, **_BF16),
    Workload("empty call", empty_model, lambda: dict(_ONE), 0.5, 0.25, threads=(1,)),
)

"""A model, the artifact that the command line makes of it, and artifacts that a trusted signer should not have made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitrify.artifact.loading import Artifact, open_artifact
from vitrify.artifact.manifest import Manifest
from vitrify.artifact.writing import write_artifact
from vitrify.cli import main

Files = dict[str, bytes]


def save_model(path: Path, factor: float = 2.0, *, columns: int = 4, producer: str = "") -> Path:
    """``y = x @ (factor * I)`` with x: float32 [n, columns]."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", columns]) for name in "xy")
    weights = numpy_helper.from_array(np.eye(columns, dtype=np.float32) * np.float32(factor), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g", [x], [y], [weights])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=producer), path)
    return path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    """What a command writes to standard output."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--format", "json"]) == status
    return json.loads(capsys.readouterr().out)


def remade(source: Path, target: Path, change: Callable[[Manifest, Files], Manifest]) -> Path:
    """The artifact as ``change`` has it (its files in place), listed, hashed and signed by this machine."""
    with Artifact(open_artifact(source), frozenset()) as artifact:
        kept = {n: artifact.read(n) for n, e in artifact.manifest.files.items() if e.role not in ("details", "leaves")}
        write_artifact(target, change(artifact.manifest, kept), kept).close()
    return target

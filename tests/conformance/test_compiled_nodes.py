"""The same node cases through the compiler: every sixth of each op always, all of them with ``--runslow``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import pytest

from tests.compiler.harness import COMPILER
from tests.conformance.node_cases import COMPOSITE, REFUSED, SUPPORTED, Array, backend_cases, check_case
from vitrify.compiler import build_artifact
from vitrify.frontends.onnx import import_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.session import Session

SAMPLE = 6


def _compiled(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    graph = import_onnx(model)
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        session = Session(build_artifact(graph, Path(folder, "model"), CompileOptions(), compiler=COMPILER))
        names = [i.name for i in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))


def _check_all(op: str, step: int, first: int) -> None:
    for number, case in enumerate(backend_cases().get(op, [])):
        if case.name in REFUSED or number % step != first:
            continue
        try:
            check_case(case, _compiled)
        except Exception as error:
            raise AssertionError(f"{case.name}: {error}") from error


@pytest.mark.parametrize("op", [*SUPPORTED, COMPOSITE])
def test_sample_of(op: str) -> None:
    _check_all(op, SAMPLE, 0)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SAMPLE))
@pytest.mark.parametrize("op", [*SUPPORTED, COMPOSITE])
def test_rest_of(op: str, first: int) -> None:
    _check_all(op, SAMPLE, first)

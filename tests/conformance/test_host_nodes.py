"""The node cases with sequences, optionals and strings: interpreted, and compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.compiler.harness import COMPILER
from tests.conformance.host_cases import GROUPS, host_cases, interpreted, run_case
from vitrify.compiler import build_artifact
from vitrify.frontends.onnx import load_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.session import Session


def compiled(model: onnx.ModelProto, feed: Mapping[str, Any], **options: Any) -> list[Any]:
    imported = load_onnx(model, **options)
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        path = Path(folder, "model")
        session = Session(
            build_artifact(imported.graph, path, CompileOptions(), host=imported.host, compiler=COMPILER)
        )
        return session.run(None, dict(feed))


@pytest.mark.parametrize("group", GROUPS)
def test_interpreted(group: str) -> None:
    for case in host_cases()[group]:
        try:
            run_case(case, interpreted)
        except Exception as error:
            raise AssertionError(f"{case.name}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_compiled(group: str) -> None:
    for case in host_cases()[group]:
        try:
            run_case(case, compiled)
        except Exception as error:
            raise AssertionError(f"{case.name}: {error}") from error


def test_count() -> None:
    """So that cases do not silently fall out."""
    assert sum(map(len, host_cases().values())) >= 70

"""The node cases that the onnx package carries, for every op that has a rule, through the interpreter."""

from __future__ import annotations

import onnx
import pytest

from tests.conformance.node_cases import (
    COMPOSITE,
    REFUSED,
    SUPPORTED,
    Array,
    array_of,
    backend_cases,
    check_case,
    run_case,
)
from vitrify.errors import UnsupportedError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify


def _interpreted(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    graph = import_onnx(model)
    verify(graph)
    return interpret(graph, inputs)


@pytest.mark.parametrize("op", [*SUPPORTED, COMPOSITE])
def test_cases_of(op: str) -> None:
    for case in backend_cases().get(op, []):
        if case.name in REFUSED:
            with pytest.raises(UnsupportedError, match=REFUSED[case.name]):
                run_case(case, [array_of(i) for i in case.data_sets[0][0]], _interpreted)
            continue
        try:
            check_case(case, _interpreted)
        except Exception as error:
            raise AssertionError(f"{case.name}: {error}") from error


def test_count() -> None:
    """So that cases do not silently fall out."""
    assert sum(map(len, backend_cases().values())) >= 1250

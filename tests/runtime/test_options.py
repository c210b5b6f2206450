from __future__ import annotations

import pytest

from vitrify.errors import InvalidArgumentError
from vitrify.runtime.options import ExecutionMode, GraphOptimizationLevel, SessionOptions


def test_defaults() -> None:
    options = SessionOptions()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (0, 0)
    assert options.execution_mode is ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level is GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.log_severity_level == 2 and options.memory_limit_mb is None
    assert options.memory_limit_bytes == 0


def test_values_are_kept() -> None:
    options = SessionOptions(intra_op_num_threads=3, memory_limit_mb=1.5)
    options.execution_mode = ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.intra_op_num_threads == 3 and options.memory_limit_bytes == 3 << 19
    assert options.execution_mode is ExecutionMode.ORT_PARALLEL
    assert options.graph_optimization_level is GraphOptimizationLevel.ORT_DISABLE_ALL


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown option 'enable_profile'"):
        SessionOptions().enable_profile = True  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgumentError, match="unknown option 'threads'"):
        SessionOptions(threads=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intra_op_num_threads", -1),
        ("intra_op_num_threads", 1.0),
        ("intra_op_num_threads", True),
        ("intra_op_num_threads", 1 << 20),
        ("inter_op_num_threads", "2"),
        ("execution_mode", 0),
        ("graph_optimization_level", 99),
        ("log_severity_level", 5),
        ("memory_limit_mb", 0),
        ("memory_limit_mb", -5),
        ("memory_limit_mb", float("nan")),
        ("memory_limit_mb", float("inf")),
        ("memory_limit_mb", True),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    options = SessionOptions()
    before = getattr(options, name)
    with pytest.raises(InvalidArgumentError, match=name):
        setattr(options, name, value)
    assert getattr(options, name) == before

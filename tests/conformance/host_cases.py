"""The node cases with sequences, optionals and strings, and how their values are fed and compared."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from vitrify.artifact.dtypes import BY_NAME
from vitrify.artifact.manifest import Port
from vitrify.errors import UnsupportedError
from vitrify.frontends.onnx import load_onnx
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.runtime.feed import native_dtype
from vitrify.runtime.host.edges import Edges

Run = Callable[..., list[Any]]  # model, feed, options of the import

#: Words in the names of the cases.
GROUPS = ("string", "strnorm", "regex", "sequence", "optional", "label_encoder", "identity_opt", "if_seq", "if_opt",
          "loop13_seq", "loop16_seq_none", "tfidf")  # fmt: skip


@cache
def host_cases() -> dict[str, list[Any]]:
    """By the word in their names; making them takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own references overflow and divide by zero
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    return {group: [case for case in cases if group in case.name] for group in GROUPS}


def plain(value: Any) -> Any:
    """Protos as arrays; lists of them as lists."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None else np.asarray(value)


def stated(value: Any) -> Any:
    """The shapes that ``input_shapes`` has for a value."""
    if isinstance(value, list):
        return [stated(item) for item in value]
    return None if value is None else list(value.shape)


def run_case(case: Any, run: Run) -> None:
    """Runs a case; lengths and numbers of trips are stated where only that can work."""
    model = case.model
    for inputs, outputs in case.data_sets:
        feed = {info.name: plain(value) for info, value in zip(model.graph.input, inputs, strict=True)}
        try:
            got = run(model, feed)
        except UnsupportedError as error:
            assert any("state" in p or "not a constant" in p or "branches" in p for p in error.problems), error
            tensors = {v.name for v in model.graph.input if v.type.HasField("tensor_type")}
            shapes = {name: stated(value) for name, value in feed.items() if name not in tensors}
            values = {name: value for name, value in feed.items() if name in tensors and value.dtype.kind in "ib"}
            fed = {name: value for name, value in feed.items() if name not in values}
            got = run(model, fed, input_shapes=shapes, input_values=values)
        compare(got, [plain(value) for value in outputs])


def compare(got: Any, expected: Any) -> None:
    """Every element, types and structure too."""
    if isinstance(expected, list):
        assert isinstance(got, list) and len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            compare(a, b)
    elif expected is None:
        assert got is None
    elif expected.dtype.kind in "OU":
        assert got.dtype == object and got.shape == expected.shape
        assert got.tolist() == expected.tolist()
    else:
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def interpreted(model: onnx.ModelProto, feed: Mapping[str, Any], **options: Any) -> list[Any]:
    """With the interpreter as the plan."""
    imported = load_onnx(model, **options)
    graph = imported.graph
    verify(graph)
    if imported.host is None:
        return list(interpret(graph, dict(feed)))
    ports = [
        Port(v.name, v.dtype.name, tuple(n if isinstance(n, int) else str(n) for n in v.shape)) for v in graph.inputs
    ]
    dtypes = [native_dtype(BY_NAME[port.dtype]) for port in ports]
    run = Edges(imported.host, ports, dtypes, len(graph.outputs), lambda arrays: interpret(graph, arrays))
    result: Sequence[Any] | int = run(feed)
    assert isinstance(result, list)
    return result

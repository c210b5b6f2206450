"""The node cases that the onnx package carries, for every op that has a rule."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.frontends.onnx.models import assert_same
from vitrify.errors import UnsupportedError
from vitrify.frontends.onnx.arrays import dtype_of
from vitrify.frontends.onnx.registry import supported_ops

Array = np.ndarray[Any, Any]
Cases = dict[str, list[Any]]
Run = Callable[[onnx.ModelProto, list[Array]], list[Array]]

COMPOSITE = "graphs of several nodes"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
SUPPORTED = sorted({name for domain, name in supported_ops() if domain in DOMAINS})

# Case: what the refusal must say.
REFUSED = {
    "test_affine_grid_3d_align_corners_expanded": "branches of different shapes",
}

# Cases whose results another generator drew: only their dtypes and shapes are asked for.
DRAWN = {
    *(f"test_bernoulli{kind}{form}" for kind in ("", "_double", "_seed") for form in ("", "_expanded")),
    *(f"test_training_dropout{kind}{mask}" for kind in ("", "_default") for mask in ("", "_mask")),
}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _has_row(info: onnx.ValueInfoProto) -> bool:
    return info.type.WhichOneof("value") == "tensor_type" and dtype_of(info.type.tensor_type.elem_type) is not None


def _covered(model: onnx.ModelProto) -> bool:
    """Whether all ops have rules and all types have rows."""
    graph = model.graph
    known = all(n.domain in DOMAINS and n.op_type in SUPPORTED for n in _nodes(graph))
    return known and not model.functions and all(map(_has_row, [*graph.input, *graph.output]))


@cache
def backend_cases() -> Cases:
    """The cases by op; making them computes all expected results, which takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own references overflow and divide by zero
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    grouped: Cases = {}
    for case in cases:
        if _covered(case.model):
            nodes = case.model.graph.node
            grouped.setdefault(nodes[0].op_type if len(nodes) == 1 else COMPOSITE, []).append(case)
    return grouped


def array_of(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _with_constants(model: onnx.ModelProto, inputs: Sequence[Array]) -> tuple[onnx.ModelProto, list[Array]]:
    """Small integer inputs (axes, sizes) as initializers: the suite feeds even those."""
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    fed: list[Array] = []
    for info, array in zip(model.graph.input, inputs, strict=True):
        if array.size <= 16 and array.dtype.kind in "iub":
            baked.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            fed.append(array)
    return baked, fed


def run_case(case: Any, inputs: list[Array], run: Run) -> list[Array]:
    """The case's results; small integer inputs are fed as constants where only that can work."""
    try:
        return run(case.model, inputs)
    except UnsupportedError as error:
        if not any("not a constant" in p or "only a run knows" in p for p in error.problems):
            raise
    model, fed = _with_constants(case.model, inputs)
    return run(model, fed)


def tolerance(outputs: Sequence[Any], relative: float) -> float:
    """The case's own; a few roundings of narrow floats where results are those."""
    names = {o.dtype.name for o in outputs if isinstance(o, np.ndarray)}
    return max(relative, 2**-6 if "bfloat16" in names else 2**-9 if "float16" in names else 0)


def smallest(model: onnx.ModelProto, outputs: Sequence[Any], absolute: float) -> float:
    """The case's own absolute tolerance. Bins of a Fourier transform that should be 0 hold what the suite's own
    sums leave of the others."""
    transforms = any(n.op_type in ("DFT", "STFT") for n in model.graph.node)
    noise = max(float(np.abs(o).max(initial=0)) for o in outputs) * 1e-6 if transforms else 0
    return max(absolute, 1e-7, noise)


def check_case(case: Any, run: Run) -> None:
    for inputs, outputs in case.data_sets:
        expected = [array_of(o) for o in outputs]
        got = run_case(case, [array_of(i) for i in inputs], run)
        if case.name in DRAWN:
            assert [(a.dtype, a.shape) for a in got] == [(a.dtype, a.shape) for a in expected]
            continue
        assert_same(got, expected, rtol=tolerance(expected, case.rtol), atol=smallest(case.model, expected, case.atol))

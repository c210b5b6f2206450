"""Losses over class scores, beside onnxruntime and ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.models import Array, assert_same, one_node, run
from tests.frontends.onnx.test_scatter import agree, compiled, floats, reference
from vitrify.errors import IndexOutOfRangeError, VitrifyError
from vitrify.frontends.onnx import import_onnx


def _feeds(op: str, shape: tuple[int, ...], weighted: bool, dtype: Any = np.float32) -> dict[str, Array]:
    scores = floats(*shape).astype(dtype)
    target = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    feeds = {"x": scores, "t": target}
    return {**feeds, "w": np.abs(floats(shape[1], seed=2)).astype(dtype)} if weighted else feeds


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, 2, -100])
def test_forms(op: str, reduction: str, weighted: bool, ignored: int | None) -> None:
    feeds = _feeds(op, (5, 7, 3), weighted)
    if ignored == -100:
        feeds["t"][0] = -100
    attributes: dict[str, Any] = {} if ignored is None else {"ignore_index": ignored}
    model = one_node(op, feeds, opset=13, reduction=reduction, **attributes)
    expected = reference(model, feeds)
    agree(model, feeds, [e.astype(np.float32) for e in expected][:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_dtypes(dtype: Any) -> None:
    feeds = _feeds("", (4, 6), True, dtype)
    model = one_node("SoftmaxCrossEntropyLoss", feeds, outputs=("y", "p"), opset=13)
    expected = [np.asarray(v).astype(dtype) for v in reference(model, feeds)]
    tolerance = 1e-12 if dtype is np.float64 else 5e-3
    agree(model, feeds, expected, rtol=tolerance, atol=tolerance)


def test_all_ignored() -> None:
    feeds = {"x": floats(3, 4), "t": np.full(3, 1)}
    model = one_node("NegativeLogLikelihoodLoss", feeds, opset=13, ignore_index=1)
    agree(model, feeds, [np.array(np.nan, np.float32)])


@pytest.mark.parametrize("bad", [4, -1])
def test_targets_that_are_no_classes(bad: int) -> None:
    feeds = {"x": floats(3, 4), "t": np.array([0, bad, 1])}
    model = one_node("NegativeLogLikelihoodLoss", feeds, opset=13)
    with pytest.raises(IndexError):
        run(model, feeds)
    with pytest.raises(IndexOutOfRangeError, match="NegativeLogLikelihoodLoss"):
        compiled(model, feeds)


def test_refused() -> None:
    x, t = floats(3, 4), np.zeros(3, np.int64)
    for message, feeds, attributes in [
        ("reduction is 'max'", {"x": x, "t": t}, {"reduction": "max"}),
        ("rank 2 or more", {"x": floats(3), "t": t}, {}),
        ("rank 2, not 1", {"x": x, "t": np.zeros((3, 1), np.int64)}, {}),
        ("differ", {"x": x, "t": t, "w": floats(5)}, {}),
    ]:
        with pytest.raises(VitrifyError, match=message):
            import_onnx(one_node("NegativeLogLikelihoodLoss", feeds, opset=13, **attributes))


def test_both_results() -> None:
    feeds = _feeds("", (6, 5, 2), False)
    model = one_node("SoftmaxCrossEntropyLoss", feeds, outputs=("y", "p"), opset=13, reduction="none")
    loss, log_probabilities = run(model, feeds)
    taken = np.take_along_axis(log_probabilities, feeds["t"][:, None], 1)[:, 0]
    assert_same([loss], [-taken])

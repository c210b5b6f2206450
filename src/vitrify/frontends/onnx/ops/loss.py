"""Losses over class scores."""

from __future__ import annotations

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.normalization import log_softmax_of
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value

_REDUCTIONS = ("none", "sum", "mean")


def _negative_log_likelihood(n: Call, scores: Value) -> Value:
    """``-weight[target] * scores[.., target, ..]`` with classes on axis 1, reduced as the node says: the mean is
    weighted. Entries of ``ignore_index`` count nothing. A target that is no class is an error of the run."""
    reduction = n.attributes.text("reduction", "mean")
    n.check(reduction in _REDUCTIONS, f"reduction is {reduction!r}, not one of {', '.join(_REDUCTIONS)}")
    n.check(scores.rank >= 2, f"scores of {scores.type}, not of rank 2 or more")
    shape = (scores.shape[0], *scores.shape[2:])
    target = n.b.cast(n.match(n.value(1), shape), I64)
    weights = n.optional(2)
    counted: Value | None = None
    if "ignore_index" in n.attributes:
        ignored = n.number(n.attributes.integer("ignore_index"), target)
        counted = n.map("ne", target, ignored)
        target = n.map("where", counted, target, n.number(0, target))
    places = [n.b.iota(shape, 0), target, *(n.b.iota(shape, a) for a in range(1, len(shape)))]
    loss = n.b.map("neg", n.b.gather(scores, 0, *places))
    weight: Value | None = None
    if weights is not None:
        n.check(weights.dtype is scores.dtype, f"weights of {weights.dtype} for scores of {scores.dtype}")
        weight = n.b.gather(n.match(weights, (scores.shape[1],)), 0, target)
        loss = n.b.map("mul", loss, weight)
    if counted is not None:
        one = n.number(1, loss) if weight is None else weight
        weight = n.map("where", counted, one, n.number(0, loss))
        loss = n.map("where", counted, loss, n.number(0, loss))
    if reduction == "none":
        return loss
    axes = range(loss.rank)
    total = n.b.reduce("sum", loss, axes)
    if reduction == "sum":
        return total
    weight = n.b.scalar(1, loss) if weight is None else weight
    return n.b.map("div", total, n.b.reduce("sum", weight, axes))


@op("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(n: Call) -> Value:
    return _negative_log_likelihood(n, n.value(0))


@op("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(n: Call) -> list[Value]:
    scores = n.value(0)
    n.check(scores.rank >= 2, f"scores of {scores.type}, not of rank 2 or more")
    log_probabilities = log_softmax_of(n, scores, 1)
    return [_negative_log_likelihood(n, log_probabilities), log_probabilities]

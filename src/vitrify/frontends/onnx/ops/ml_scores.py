"""ai.onnx.ml: from scores to labels and to what ``post_transform`` makes of them."""

from __future__ import annotations

import math

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term
from vitrify.ir.dtypes import I64

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
NEAR_ZERO = 1e-7  # scores as small as this keep no weight in SOFTMAX_ZERO


def post_transform_of(n: Call) -> str:
    kind = n.attributes.text("post_transform", "NONE")
    n.check(kind in TRANSFORMS, f"post_transform is {kind!r}, not one of {', '.join(TRANSFORMS)}")
    return kind


def transformed(scores: Term, kind: str) -> Term:
    """Scores [N, C] after the transform. Of one score alone only PROBIT makes another, as in onnxruntime."""
    last = scores.value.rank - 1
    if scores.value.shape[last] == 1 and kind != "PROBIT":
        return scores
    if kind == "LOGISTIC":
        return scores.apply("sigmoid")
    if kind == "PROBIT":
        return _probit(scores)
    if kind == "NONE":
        return scores
    most = scores.reduce("max", last, keepdims=True)
    weight = (scores - most).apply("exp")
    if kind == "SOFTMAX":
        return weight / weight.reduce("sum", last, keepdims=True)
    small = (scores <= NEAR_ZERO) & (scores >= -NEAR_ZERO)
    weight = small.pick(scores * (-most).apply("exp"), weight)
    total = weight.reduce("sum", last, keepdims=True)
    none = total.equals(0)
    return none.pick(number_term(scores.n, 0.5, scores.value.dtype), weight / total)


def _probit(score: Term) -> Term:
    """The quantile of the normal distribution, by Winitzki's approximation of the inverse of erf."""
    x = score * 2 - 1
    tail = (1 - x) * (x + 1)
    log = tail.apply("log")
    half = log * 0.5 + 2 / (math.pi * 0.147)
    root = ((half * half - log * (1 / 0.147)).apply("sqrt") - half).apply("sqrt")
    signed = (x < 0).pick(-root, root) * 1.41421356
    return tail.equals(0).pick(x * 0, signed)


def doubled(score: Term, kind: str, *, mirrored: bool) -> Term:
    """Scores of two classes [N, 2] from that of the second [N]: a probability has its complement beside it, a
    distance (``mirrored``) its negative."""
    if kind in ("LOGISTIC", "PROBIT"):
        other = -score if kind == "LOGISTIC" else 1 - score
        return transformed(side_by_side(other, score), kind)
    return side_by_side(-score if mirrored else 1 - score, score)


def side_by_side(*columns: Term) -> Term:
    """Vectors [N] as the columns of a matrix."""
    n = columns[0].n
    return Term(n, n.b.concat([c.unsqueeze(1).value for c in columns], 1))


def named(n: Call, index: Term, labels: list[int]) -> Term:
    """The labels at these positions; the positions themselves where there are no labels."""
    if not labels:
        return index.cast(I64)
    return Term(n, n.b.gather(n.b.constant(np.array(labels, np.int64)), 0, index.value))

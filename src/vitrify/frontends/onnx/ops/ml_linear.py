"""ai.onnx.ml: linear models and support vector machines."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from vitrify.frontends.onnx.body import Array
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term
from vitrify.frontends.onnx.ops.ml_coupling import coupled
from vitrify.frontends.onnx.ops.ml_features import DOMAIN, rows_of
from vitrify.frontends.onnx.ops.ml_labels import classifier
from vitrify.frontends.onnx.ops.ml_scores import doubled, named, post_transform_of, transformed
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Value

KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def _matrix(n: Call) -> Term:
    """The input as rows of f32, of f64 where that came in."""
    x = n.value(0)
    return Term(n, rows_of(n, x)).cast(F64 if x.dtype is F64 else F32)


def _numbers(n: Call, name: str) -> Array:
    return np.array(n.attributes.numbers(name) or [], np.float32)


def _folded(n: Call, name: str, rows: int) -> Array:
    """Coefficients as a matrix of so many rows."""
    values = _numbers(n, name)
    n.check(rows >= 1 and values.size > 0 and values.size % rows == 0, f"{values.size} {name} in {rows} rows")
    return values.reshape(rows, -1)


def _products(n: Call, x: Term, weights: Array) -> Term:
    """[N, K] by [M, K] to [N, M]."""
    value = n.match_axis(x.value, 1, weights.shape[1])
    return Term(n, n.b.contract(value, n.b.constant(weights.astype(value.dtype.numpy)), over=([1], [1])))


def _affine(n: Call, x: Term, weights: Array) -> Term:
    out = _products(n, x, weights)
    bias = _numbers(n, "intercepts")
    if not bias.size:
        return out
    n.check(bias.size == weights.shape[0], f"{bias.size} intercepts for {weights.shape[0]} results")
    return out + Term(n, n.b.constant(bias, out.value.dtype))


@op("LinearRegressor", domain=DOMAIN)
def linear_regressor(n: Call) -> Value:
    weights = _folded(n, "coefficients", n.attributes.integer("targets", 1))
    return transformed(_affine(n, _matrix(n), weights), post_transform_of(n)).cast(F32).value


@classifier("LinearClassifier", "classlabels_ints")
def linear_classifier(n: Call, labels: list[int]) -> tuple[Value, Value]:
    """The class of the largest score. One row of coefficients for two classes scores the second."""
    n.attributes.ignore("multi_class")
    kind = post_transform_of(n)
    x = _matrix(n)
    columns = x.value.shape[1]
    if not isinstance(columns, int):
        n.unsupported(f"{x.value.type} with columns that only a run knows")
    count = _numbers(n, "coefficients").size
    n.check(columns >= 1 and count >= columns and count % columns == 0, f"{count} coefficients for {columns} columns")
    scores = _affine(n, x, _folded(n, "coefficients", count // columns))
    rows = count // columns
    if rows == 1:
        return _one_score(n, scores.item(1, 0), labels, kind)
    n.check(not labels or len(labels) >= rows, f"{len(labels)} class labels for {rows} scores")
    best = scores.reduce("argmax", 1)
    return named(n, best, labels).value, transformed(scores, kind).cast(F32).value


def _one_score(n: Call, score: Term, labels: list[int], kind: str) -> tuple[Value, Value]:
    if len(labels) == 2:
        label = named(n, (score > 0).cast(I64), labels)
        return label.value, doubled(score, kind, mirrored=False).cast(F32).value
    n.check(len(labels) < 2, f"{len(labels)} class labels for one score, not 2")
    positive = number_term(n, labels[0] if labels else 1, I64)
    label = (score > 0).pick(positive, 0)
    return label.value, transformed(score.unsqueeze(1), kind).cast(F32).value


# Support vector machines
def _kernel(n: Call, x: Term, vectors: Array) -> Term:
    """[N, K] against vectors [S, K] to [N, S]."""
    kind = n.attributes.text("kernel_type", "LINEAR")
    n.check(kind in KERNELS, f"kernel_type is {kind!r}, not one of {', '.join(KERNELS)}")
    given = n.attributes.numbers("kernel_params") or [0.0, 0.0, 0.0]
    n.check(len(given) == 3, f"{len(given)} kernel_params, not gamma, coef0 and degree")
    gamma, coefficient, degree = given
    if kind == "RBF":
        value = Term(n, n.match_axis(x.value, 1, vectors.shape[1]))
        apart = value.unsqueeze(1) - Term(n, n.b.constant(vectors.astype(value.value.dtype.numpy)))
        return ((apart * apart).reduce("sum", 2) * -gamma).apply("exp")
    dot = _products(n, x, vectors)
    if kind == "LINEAR":
        return dot
    dot = dot * gamma + coefficient
    if kind == "SIGMOID":
        return dot.apply("tanh")
    return Term(n, n.map("pow", dot.value, n.number(degree, dot.value)))


@op("SVMRegressor", domain=DOMAIN)
def svm_regressor(n: Call) -> Value:
    a = n.attributes
    x, rho = _matrix(n), _numbers(n, "rho")
    kind = post_transform_of(n)
    supports = a.integer("n_supports", 0)
    n.check(rho.size >= 1 and supports >= 0, f"{rho.size} rho, {supports} supports")
    weights = _folded(n, "coefficients", 1)
    if supports:
        vectors = _folded(n, "support_vectors", supports)
        n.check(weights.size == supports, f"{weights.size} coefficients for {supports} support vectors")
        x = _kernel(n, x, vectors)
    else:
        a.ignore("support_vectors", "kernel_type", "kernel_params")
    score = _products(n, x, weights) + float(rho[0])
    if a.flag("one_class"):
        score = (score > 0).pick(number_term(n, 1, score.value.dtype), -1)
    return transformed(score, kind).cast(F32).value


@classifier("SVMClassifier", "classlabels_ints")
def svm_classifier(n: Call, labels: list[int]) -> tuple[Value, Value]:
    """With support vectors, each pair of classes votes; without, each class has a score of its own."""
    a = n.attributes
    kind = post_transform_of(n)
    x = _matrix(n)
    counts = a.integers("vectors_per_class") or []
    rho, prob_a, prob_b = (_numbers(n, name) for name in ("rho", "prob_a", "prob_b"))
    n.check(rho.size >= 1 and prob_a.size == prob_b.size, f"{rho.size} rho, {prob_a.size} prob_a, {prob_b.size} prob_b")
    n.check(min(counts, default=0) >= 0, f"vectors_per_class is {counts}")
    if sum(counts) == 0:
        a.ignore("support_vectors", "kernel_type", "kernel_params")
        scores = _products(n, x, _folded(n, "coefficients", max(len(labels), 1))) + float(rho[0])
        return _decided(n, scores, _best_of(n, scores, labels), labels, kind)
    classes = len(counts)
    n.check(classes >= 2, f"{classes} classes")
    n.check(not labels or len(labels) == classes, f"{len(labels)} class labels for {classes} classes")
    pairs = classes * (classes - 1) // 2
    fits = rho.size == pairs and prob_a.size in (0, pairs)
    n.check(fits, f"{rho.size} rho and {prob_a.size} prob_a for {pairs} pairs")
    scores, votes = _votes(n, x, counts, rho)
    if prob_a.size:
        scores = _probabilities(n, scores, classes, prob_a, prob_b)
    return _decided(n, scores, votes.reduce("argmax", 1), labels, kind)


def _votes(n: Call, x: Term, counts: list[int], rho: Array) -> tuple[Term, Term]:
    """The score of each pair of classes [N, pairs], and each class's votes [N, classes]."""
    classes, total = len(counts), sum(counts)
    weights = _folded(n, "coefficients", classes - 1)
    n.check(weights.shape[1] == total, f"{weights.size} coefficients for {total} vectors of {classes} classes")
    starts = np.concatenate([[0], np.cumsum(counts)])
    table = np.zeros((len(rho), total), np.float32)
    first = np.zeros((len(rho), classes), np.float32)
    second = np.zeros((len(rho), classes), np.float32)
    for pair, (i, j) in enumerate(combinations(range(classes), 2)):
        mine, other = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        table[pair, mine], table[pair, other] = weights[j - 1, mine], weights[i, other]
        first[pair, i] = second[pair, j] = 1
    kernels = _kernel(n, x, _folded(n, "support_vectors", total))
    dtype = kernels.value.dtype
    scores = _products(n, kernels, table) + Term(n, n.b.constant(rho, dtype))
    won = (scores > 0).cast(dtype)
    return scores, _products(n, won, first.T) + _products(n, 1 - won, second.T)


def _probabilities(n: Call, scores: Term, classes: int, prob_a: Array, prob_b: Array) -> Term:
    """Class probabilities from those of the pairs (Wu, Lin, Weng 2004, second method, as libsvm has it)."""
    dtype = scores.value.dtype
    a, b = (Term(n, n.b.constant(p, dtype)) for p in (prob_a, prob_b))
    pair = (-(scores * a + b)).apply("sigmoid").clip(1e-7, 1 - 1e-7)  # [N, pairs]
    place = np.zeros((classes, classes), np.int64)
    upper = np.triu_indices(classes, 1)
    place[upper] = range(len(prob_a))
    place = np.maximum(place, place.T)
    seen = Term(n, n.b.gather(pair.value, 1, n.b.constant(place)))  # [N, C, C]
    above = Term(n, n.b.constant(np.triu(np.ones((classes, classes), bool), 1)))
    below = Term(n, n.b.constant(np.tril(np.ones((classes, classes), bool), -1)))
    r = above.pick(seen, below.pick(1 - seen, 0))
    turned = Term(n, n.b.permute(r.value, [0, 2, 1]))
    diagonal = (r * r).reduce("sum", 1).unsqueeze(2)
    eye = Term(n, n.b.constant(np.eye(classes, dtype=bool)))
    q = eye.pick(Term(n, n.b.expand_to(diagonal.value, r.value.shape)), -(turned * r))
    return coupled(n, q, classes)


def _decided(n: Call, scores: Term, best: Term, labels: list[int], kind: str) -> tuple[Value, Value]:
    """Labels, and the scores as they are written: that of two classes becomes two."""
    label = named(n, best, labels)
    if scores.value.shape[1] == 1 and len(labels) == 2:
        both = doubled(scores.item(1, 0), kind, mirrored=kind == "NONE")
        return label.value, both.cast(F32).value
    return label.value, transformed(scores, kind).cast(F32).value


def _best_of(n: Call, scores: Term, labels: list[int]) -> Term:
    """The class of the largest score; of two classes the second where any score is high enough."""
    best = scores.reduce("argmax", 1)
    if len(labels) != 2:
        return best
    top = scores.reduce("max", 1)
    positive = bool((_numbers(n, "coefficients") >= 0).all())
    sure = top >= 0.5 if positive else top > 0
    return sure.pick(number_term(n, 1, I64), best)

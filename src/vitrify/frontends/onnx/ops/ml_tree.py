"""ai.onnx.ml: ensembles of decision trees, all walked at once, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrify.frontends.onnx.body import Array, Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, positions
from vitrify.frontends.onnx.ops.ml_features import DOMAIN, rows_of
from vitrify.frontends.onnx.ops.ml_labels import classifier
from vitrify.frontends.onnx.ops.ml_scores import doubled, named, post_transform_of, transformed
from vitrify.frontends.onnx.ops.ml_tree_table import Trees, trees_of_attributes, trees_of_ensemble
from vitrify.frontends.onnx.registry import op
from vitrify.ir.builder import parameter
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Scan, Value

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
LARGEST_TABLE = 2**28  # elements of the table of what leaves give


@dataclass(frozen=True)
class Leaves:
    """What each node gives to each target [nodes, targets], and whether it gives anything (leaves do)."""

    weight: Array
    given: Array


def _walk(n: Call, x: Value, trees: Trees) -> Term:
    """The leaf of each row in each tree: i64[N, T]."""
    n.check(trees.feature.max(initial=0) < _columns(n, x), f"a node reads column {trees.feature.max()} of {x.type}")
    roots = n.b.constant(trees.roots.astype(np.int64))
    start = n.b.expand_to(n.b.unsqueeze(roots, 0), (x.shape[0], len(trees.roots)))
    if not trees.depth:
        return Term(n, start)
    inner = Body(n.symbols, n.body)
    call = n.inside(inner)
    level, place = parameter("level", I64, ()), parameter("place", I64, start.shape)
    matrix = parameter("x", x.dtype, x.shape)
    after = _next(call, Term(call, matrix), Term(call, place), trees)
    graph = inner.builder.build([level, place, matrix], [after.value])
    (leaf,) = n.b.add(Scan(graph, trees.depth, 1, 0), start, x)
    return Term(n, leaf)


def _columns(n: Call, x: Value) -> int:
    columns = x.shape[1]
    if not isinstance(columns, int):
        n.unsupported(f"{x.type} with columns that only a run knows")
    return columns


def _next(n: Call, x: Term, place: Term, trees: Trees) -> Term:
    """One level down; leaves lead to themselves."""

    def at(table: Array) -> Term:
        if table.size and (table == table[0]).all():
            return Term(n, n.b.constant(table[0]))
        return Term(n, n.b.gather(n.b.constant(table), 0, place.value))

    batch = positions(n, x.value.shape[0], I64).unsqueeze(1)
    feature = n.broadcast(batch.value, Term(n, n.b.gather(n.b.constant(trees.feature), 0, place.value)).value)
    seen = Term(n, n.b.gather(x.value, 0, *feature))
    limit = at(trees.value.astype(x.value.dtype.numpy))
    answer = _answer(n, seen, limit, trees, at)
    yes, no = (Term(n, n.b.gather(n.b.constant(t), 0, place.value)) for t in (trees.yes, trees.no))
    return answer.pick(yes, no)


def _answer(n: Call, seen: Term, limit: Term, trees: Trees, at: object) -> Term:
    """The comparison of each node: the parts of it that any node has."""
    assert callable(at)
    inner = ~trees.leaf
    answer: Term | None = None
    parts = ((trees.below, "lt"), (trees.equal, "eq"), (trees.above, "gt"))
    kinds = [bool(flags[inner].all()) for flags, _ in parts]
    whole = {(True, True, False): "le", (False, True, True): "ge"}.get((kinds[0], kinds[1], kinds[2]))
    mixed = any(flags[inner].any() and not flags[inner].all() for flags, _ in parts)
    if whole is not None and not mixed:
        answer = seen <= limit if whole == "le" else seen >= limit
    else:
        for (flags, fn), everywhere in zip(parts, kinds, strict=True):
            if flags[inner].any():
                part = Term(n, n.map(fn, seen.value, limit.value))
                part = part if everywhere else part & at(flags)
                answer = part if answer is None else answer | part
    assert answer is not None, "every node compares somehow"
    if trees.missing[inner].any():
        missing = seen.apply("isnan")
        answer = answer | (missing if trees.missing[inner].all() else missing & at(trees.missing))
    return answer


def _leaves(n: Call, trees: Trees, targets: int, nodes: Array, ids: Array, weights: Array, how: str) -> Leaves:
    n.check(targets >= 1, f"{targets} targets")
    bad = ids[(ids < 0) | (ids >= targets)]
    n.check(not bad.size, f"a leaf gives to target {bad[:1]} of {targets}")
    if len(trees.feature) * targets > LARGEST_TABLE:
        n.unsupported(f"{len(trees.feature)} nodes by {targets} targets")
    start = {"MIN": np.inf, "MAX": -np.inf}.get(how, 0)
    table = np.full((len(trees.feature), targets), start, weights.dtype)
    joined = {"MIN": np.minimum, "MAX": np.maximum}.get(how, np.add)
    joined.at(table, (nodes, ids), weights)
    given = np.zeros(table.shape, bool)
    given[nodes, ids] = True
    return Leaves(table, given)


def _aggregated(n: Call, leaf: Term, leaves: Leaves, trees: Trees, how: str) -> Term:
    """What the trees give together: [N, targets]."""
    seen = Term(n, n.b.gather(n.b.constant(leaves.weight), 0, leaf.value))  # [N, T, targets]
    if how in ("SUM", "AVERAGE"):
        total = seen.reduce("sum", 1)
        return total / len(trees.roots) if how == "AVERAGE" else total
    best = seen.reduce("min" if how == "MIN" else "max", 1)
    if leaves.given[trees.leaf].all():
        return best
    given = Term(n, n.b.gather(n.b.constant(leaves.given), 0, leaf.value)).reduce("any", 1)
    return given.pick(best, 0)


def _matrix(n: Call) -> Value:
    x = rows_of(n, n.value(0))
    return n.b.cast(x, F64 if x.dtype is F64 else F32)


def _base(n: Call, array: Array | None, targets: Sequence[int]) -> Array | None:
    if array is None or not array.size:
        return None
    n.check(array.size in targets, f"{array.size} base values, not {' or '.join(map(str, targets))}")
    return array


def _numbers(n: Call, name: str) -> Array | None:
    """Floats, given as a list or as a tensor."""
    a = n.attributes
    tensor = a.tensor(f"{name}_as_tensor") if n.opset >= 3 else None
    if tensor is not None and tensor.size:
        return tensor.reshape(-1)
    values = a.numbers(name)
    return None if values is None else np.array(values, np.float32)


def _gives(n: Call, trees: Trees, prefix: str) -> tuple[Array, Array, Array]:
    """Node, target and weight of each entry."""
    a = n.attributes
    tree, node = a.integers(f"{prefix}_treeids") or [], a.integers(f"{prefix}_nodeids") or []
    ids, weights = np.array(a.integers(f"{prefix}_ids") or [], np.int64), _numbers(n, f"{prefix}_weights")
    weights = np.zeros(0, np.float32) if weights is None else weights
    same = len({len(tree), len(node), len(ids), len(weights)}) == 1
    n.check(same, f"{prefix}_treeids, _nodeids, _ids and _weights differ in length")
    nodes = [trees.number.get(key, -1) for key in zip(tree, node, strict=True)]
    lost = next((key for key, found in zip(zip(tree, node, strict=True), nodes, strict=True) if found < 0), None)
    n.check(lost is None, f"{prefix} names node {lost and lost[1]} of tree {lost and lost[0]}, which there is none of")
    at = np.array(nodes, np.int64)
    kept = trees.leaf[at] if len(at) else np.zeros(0, bool)  # what inner nodes are said to give is never reached
    return at[kept], ids[kept], weights[kept]


@op("TreeEnsembleRegressor", domain=DOMAIN)
def tree_ensemble_regressor(n: Call) -> Value:
    a, x = n.attributes, _matrix(n)
    how, kind = a.text("aggregate_function", "SUM"), post_transform_of(n)
    n.check(how in AGGREGATES, f"aggregate_function is {how!r}, not one of {', '.join(AGGREGATES)}")
    trees = trees_of_attributes(n, _numbers(n, "nodes_values"))
    targets = a.integer("n_targets")
    entries = _gives(n, trees, "target")
    leaves = _leaves(n, trees, targets, *_as(x, entries), how)
    scores = _aggregated(n, _walk(n, x, trees), leaves, trees, how)
    base = _base(n, _numbers(n, "base_values"), [targets])
    if base is not None:
        scores = scores + Term(n, n.b.constant(base.astype(x.dtype.numpy)))
    return transformed(scores, kind).cast(F32).value


def _as(x: Value, entries: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    return entries[0], entries[1], entries[2].astype(x.dtype.numpy)


@op("TreeEnsemble", domain=DOMAIN, since=5)
def tree_ensemble(n: Call) -> Value:
    a, x = n.attributes, n.value(0)
    n.check(x.rank == 2, f"a tensor of rank {x.rank}, not 2")
    how, kind = a.integer("aggregate_function", 1), a.integer("post_transform", 0)
    n.check(0 <= how < 4, f"aggregate_function is {how}, not 0 to 3")
    n.check(0 <= kind < 5, f"post_transform is {kind}, not 0 to 4")
    wide = n.b.cast(x, F64 if x.dtype is F64 else F32)
    trees, entries = trees_of_ensemble(n)
    leaves = _leaves(n, trees, a.integer("n_targets"), *_as(wide, entries), AGGREGATES[how])
    scores = _aggregated(n, _walk(n, wide, trees), leaves, trees, AGGREGATES[how])
    transform = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")[kind]
    return n.b.cast(transformed(scores, transform).value, x.dtype)


@classifier("TreeEnsembleClassifier", "classlabels_int64s")
def tree_ensemble_classifier(n: Call, labels: list[int]) -> tuple[Value, Value]:
    x = _matrix(n)
    kind = post_transform_of(n)
    trees = trees_of_attributes(n, _numbers(n, "nodes_values"))
    nodes, ids, weights = _as(x, _gives(n, trees, "class"))
    n.check(bool(labels), "no class labels")
    single = sorted(set(ids.tolist())) if len(labels) == 2 else []
    base = _base(n, _numbers(n, "base_values"), [1] if len(single) == 1 else [len(labels)])
    if single == [1] and base is not None:
        n.unsupported("base values where the trees score the second of two classes alone (ONNX does not say whose)")
    leaves = _leaves(n, trees, len(labels), nodes, ids, weights, "SUM")
    leaf = _walk(n, x, trees)
    scores = _aggregated(n, leaf, leaves, trees, "SUM")
    if base is not None:
        scores = scores + Term(n, n.b.constant(base.astype(x.dtype.numpy)))
    if len(single) == 1:
        return _by_one(n, scores, single[0], labels, kind, bool((weights >= 0).all()))
    if len(labels) == 1:
        label = (scores.item(1, 0) > 0).cast(I64)
    else:
        label = named(n, _best(n, scores, leaf, leaves, trees, known=base is not None), labels)
    return label.value, transformed(scores, kind).cast(F32).value


def _best(n: Call, scores: Term, leaf: Term, leaves: Leaves, trees: Trees, *, known: bool) -> Term:
    """The class of the largest score, among those that any tree or base value gives one."""
    if known or leaves.given[trees.leaf].all():
        return scores.reduce("argmax", 1)
    given = Term(n, n.b.gather(n.b.constant(leaves.given), 0, leaf.value)).reduce("any", 1)
    return given.pick(scores, float("-inf")).reduce("argmax", 1)


def _by_one(n: Call, scores: Term, column: int, labels: list[int], kind: str, positive: bool) -> tuple[Value, Value]:
    """Two classes where the trees score only one: a probability where no weight is negative. A score of the
    first class is taken for the second's, as converters write it."""
    score = scores.item(1, column)
    label = named(n, (score > (0.5 if positive else 0)).cast(I64), labels)
    both = transformed(scores, kind) if column == 1 else doubled(score, kind, mirrored=not positive)
    return label.value, both.cast(F32).value

"""ai.onnx.ml and ai.onnx.preview.training: against onnxruntime, interpreted and compiled; malformed models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.compiler.harness import compare_run, compile_graph
from tests.frontends.onnx.models import assert_same, value_info
from vitrify.errors import InvalidModelError, UnsupportedError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify

Array = np.ndarray[Any, Any]
FLOAT = (TensorProto.FLOAT,)
CLASSES = (TensorProto.INT64, TensorProto.FLOAT)
POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
X = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


def ml_model(op: str, feeds: Mapping[str, Array], results: Sequence[int], *, version: int = 3, **a: Any) -> Any:
    names = [f"y{i}" for i in range(len(results))]
    node = helper.make_node(op, list(feeds), names, "node", domain="ai.onnx.ml", **a)
    outputs = [helper.make_tensor_value_info(n, t, None) for n, t in zip(names, results, strict=True)]
    graph = helper.make_graph([node], "test", [value_info(k, v) for k, v in feeds.items()], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    graph = import_onnx(model)
    verify(graph)
    return interpret(graph, feeds)


def peer(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return [np.asarray(v) for v in onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)]


def check(op: str, feeds: Mapping[str, Array], results: Sequence[int], **a: Any) -> None:
    model = ml_model(op, feeds, results, **a)
    assert_same(run(model, feeds), peer(model, feeds), rtol=1e-4, atol=1e-5)


def numbers(*shape: int, seed: int = 1) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).standard_normal(shape).ravel()]


# Linear models
@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("targets", [1, 2, 3])
def test_linear(post: str, targets: int) -> None:
    model = {"coefficients": numbers(3 * targets), "intercepts": numbers(targets, seed=2), "post_transform": post}
    check("LinearRegressor", {"x": X}, FLOAT, targets=targets, **model)
    labels = {1: [5, 7], 2: [5, 7], 3: [5, 7, 9]}[targets]
    check("LinearClassifier", {"x": X}, CLASSES, classlabels_ints=labels, **model)
    check("LinearClassifier", {"x": (X * 4).astype(np.int64)}, CLASSES, classlabels_ints=labels, **model)


def test_probit() -> None:
    feeds = {"x": np.abs(X) * np.float32(0.1)}
    model = {"coefficients": [0.5] * 6, "intercepts": [0.2] * 2, "targets": 2}
    check("LinearRegressor", feeds, FLOAT, post_transform="PROBIT", **model)


# Support vector machines
@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel: str) -> None:
    shared = {"kernel_type": kernel, "kernel_params": [0.5, 0.1, 3.0], "support_vectors": numbers(15)}
    for one_class in (0, 1):
        check(
            "SVMRegressor", {"x": X}, FLOAT, n_supports=5, rho=[0.3], one_class=one_class,
            coefficients=numbers(5, seed=2), **shared,
        )  # fmt: skip
    for classes, counts in ((2, [2, 3]), (3, [2, 1, 2])):
        pairs = classes * (classes - 1) // 2
        for post in POST:
            for proba in ({}, {"prob_a": [-1.2, 0.7, -0.9][:pairs], "prob_b": [0.1, 0.2, -0.3][:pairs]}):
                check(
                    "SVMClassifier", {"x": X}, CLASSES, classlabels_ints=[4, 6, 9][:classes],
                    rho=numbers(pairs, seed=3), vectors_per_class=counts, post_transform=post,
                    coefficients=numbers(5 * (classes - 1), seed=4),
                    **proba, **shared,
                )  # fmt: skip


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_support_vectors_of_no_kernel(classes: int) -> None:
    for sign in (np.asarray, np.abs):
        weights = [float(v) for v in sign(numbers(3 * classes))]
        check(
            "SVMClassifier", {"x": X}, CLASSES, classlabels_ints=[4, 6, 9][:classes], rho=[0.2], coefficients=weights,
            kernel_params=[0.0, 0.0, 0.0],
        )  # fmt: skip
    weights = [0.1, 0.2, 0.3]
    check("SVMRegressor", {"x": X}, FLOAT, n_supports=0, rho=[0.3], coefficients=weights, kernel_params=[0.0] * 3)


# Trees
Leaf = tuple[int, int]


def forest(trees: int, depth: int, modes: Sequence[str], *, missing: bool) -> tuple[dict[str, Any], list[Leaf]]:
    """Random trees over 4 columns, and their leaves."""
    rng = np.random.default_rng(trees * 100 + depth)
    fields = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    nodes: dict[str, Any] = {f"nodes_{f}": [] for f in (*fields, "missing_value_tracks_true")}
    leaves: list[Leaf] = []

    def grow(tree: int, left: int, count: list[int]) -> int:
        here, at = count[0], len(nodes["nodes_treeids"])
        count[0] += 1
        for column in nodes.values():
            column.append(0)
        nodes["nodes_treeids"][at], nodes["nodes_nodeids"][at], nodes["nodes_values"][at] = tree, here, 0.0
        nodes["nodes_modes"][at] = "LEAF"
        if left == 0 or (left < depth and rng.random() < 0.25):
            leaves.append((tree, here))
            return here
        nodes["nodes_modes"][at] = modes[rng.integers(len(modes))]
        nodes["nodes_featureids"][at] = int(rng.integers(4))
        nodes["nodes_values"][at] = float(rng.integers(-3, 4)) / 2
        nodes["nodes_missing_value_tracks_true"][at] = int(missing and rng.integers(2))
        nodes["nodes_truenodeids"][at] = grow(tree, left - 1, count)
        nodes["nodes_falsenodeids"][at] = grow(tree, left - 1, count)
        return here

    for tree in range(trees):
        grow(tree, depth, [0])
    return nodes, leaves


def rows(count: int = 37) -> Array:
    rng = np.random.default_rng(count)
    x = (rng.integers(-4, 5, (count, 4)) / 2).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def targets_of(leaves: list[Leaf], targets: int) -> dict[str, Any]:
    each = [(tree, node, k) for tree, node in leaves for k in range(targets)]
    return {
        "target_treeids": [e[0] for e in each], "target_nodeids": [e[1] for e in each],
        "target_ids": [e[2] for e in each], "target_weights": numbers(len(each)), "n_targets": targets,
    }  # fmt: skip


@pytest.mark.parametrize("modes", [*([m] for m in MODES), MODES], ids=str)
@pytest.mark.parametrize("missing", [False, True])
def test_tree_regressor(modes: list[str], missing: bool) -> None:
    for trees, depth in ((1, 1), (7, 4)):
        nodes, leaves = forest(trees, depth, modes, missing=missing)
        for targets, aggregate in ((1, "SUM"), (3, "AVERAGE"), (2, "MIN"), (1, "MAX")):
            base = {"base_values": numbers(targets, seed=9)} if aggregate != "MIN" else {}
            check(
                "TreeEnsembleRegressor", {"x": rows()}, FLOAT, aggregate_function=aggregate,
                **nodes, **targets_of(leaves, targets), **base,
            )  # fmt: skip


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_tree_classifier(classes: int, post: str) -> None:
    nodes, leaves = forest(5, 4, MODES[:1], missing=False)
    rng = np.random.default_rng(3)
    ids = [0 if classes < 3 else int(rng.integers(classes)) for _ in leaves]
    for positive in (False, True):
        weights = [abs(w) / 25 if positive else w for w in numbers(len(leaves))]
        for base in ({}, {"base_values": numbers(1 if classes < 3 else 3, seed=5)}):
            check(
                "TreeEnsembleClassifier", {"x": rows()}, CLASSES, classlabels_int64s=[7, 3, 5][:classes],
                class_treeids=[t for t, _ in leaves], class_nodeids=[i for _, i in leaves], class_ids=ids,
                class_weights=weights, post_transform=post, **nodes, **base,
            )  # fmt: skip


def _tensor(values: Sequence[float], dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype))


def ensemble(**changed: Any) -> dict[str, Any]:
    """x0 <= 1 ? (x1 in {2, 3, 5} ? 10 : 20) : 30, and a tree that is one leaf."""
    nan = float("nan")
    given: dict[str, Any] = {
        "nodes_splits": _tensor([1, 0, 0]), "nodes_featureids": [0, 1, 0],
        "nodes_modes": _tensor([0, 6, 0], np.uint8), "nodes_truenodeids": [1, 0, 3],
        "nodes_falsenodeids": [2, 1, 3], "nodes_trueleafs": [0, 1, 1], "nodes_falseleafs": [1, 1, 1],
        "leaf_targetids": [0, 0, 0, 1], "leaf_weights": _tensor([10, 20, 30, 5]), "tree_roots": [0, 2],
        "membership_values": _tensor([5, 2, 3, nan]), "n_targets": 2,
    }  # fmt: skip
    return given | changed


@pytest.mark.parametrize("aggregate", range(4))
def test_tree_ensemble(aggregate: int) -> None:
    x = np.array([[0, 2], [0, 3], [1, 5], [0, 4], [0, np.nan], [2, 2], [np.nan, 2]], np.float32)
    model = ml_model("TreeEnsemble", {"x": x}, FLOAT, version=5, aggregate_function=aggregate, **ensemble())
    (got,) = run(model, {"x": x})
    part = 2 if aggregate == 0 else 1
    first = np.array([10, 10, 10, 20, 20, 30, 30], np.float32) / part
    np.testing.assert_array_equal(got, np.stack([first, np.full(7, 5 / part, np.float32)], 1))
    (tracked,) = run(
        ml_model("TreeEnsemble", {"x": x}, FLOAT, version=5, nodes_missing_value_tracks_true=[0, 1, 0], **ensemble()),
        {"x": x},
    )
    assert tracked[4, 0] == 10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 3]}, "node 0 is reached twice"),
        ({"nodes_truenodeids": [9, 0, 3]}, "node 0 leads to node 9"),
        ({"nodes_falsenodeids": [4, 1, 3]}, "node 0 leads to leaf 4"),
        ({"nodes_falsenodeids": [-1, 1, 3]}, "node 0 leads to leaf -1"),
        ({"tree_roots": [0, 7]}, "a root leads to node 7"),
        ({"leaf_targetids": [0, 0, 0, 2]}, "target"),
        ({"leaf_targetids": [0, 0]}, "2 leaf_targetids and 4 leaf_weights"),
        ({"membership_values": _tensor([5, 2])}, "0 sets for 1 nodes"),
        ({"nodes_modes": _tensor([7, 6, 0], np.uint8)}, "mode 7"),
        ({"nodes_featureids": [0, 2, 0]}, "column 2"),
        ({"nodes_featureids": [0, 1]}, "lengths"),
        ({"aggregate_function": 4}, "aggregate_function is 4"),
    ],
)
def test_malformed_ensemble(changed: dict[str, Any], message: str) -> None:
    x = np.zeros((1, 2), np.float32)
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(ml_model("TreeEnsemble", {"x": x}, FLOAT, version=5, **ensemble(**changed)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 0]}, "node 0 of tree 0 is reached twice"),
        ({"nodes_truenodeids": [2, 0, 0]}, "node 2 of tree 0 is reached twice"),
        ({"nodes_truenodeids": [5, 0, 0]}, "leads to node 5"),
        ({"nodes_nodeids": [0, 1, 1]}, "one id"),
        ({"nodes_modes": ["BRANCH_XX", "LEAF", "LEAF"]}, "BRANCH_XX"),
        ({"nodes_featureids": [4, 0, 0]}, "column 4"),
        ({"target_nodeids": [1, 3]}, "node 3 of tree 0"),
        ({"target_ids": [0, 1]}, "target"),
        ({"post_transform": "TANH"}, "post_transform is 'TANH'"),
    ],
)
def test_malformed_trees(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.0] * 3,
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [1.0, 2.0], "n_targets": 1,
    }  # fmt: skip
    feeds = {"x": np.zeros((1, 4), np.float32)}
    assert run(ml_model("TreeEnsembleRegressor", feeds, FLOAT, **given), feeds)[0].item() == 1
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(ml_model("TreeEnsembleRegressor", feeds, FLOAT, **(given | changed)))


# Features
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_features(dtype: Any) -> None:
    x = (X * 3).astype(dtype)
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    check("Scaler", {"x": x}, FLOAT, offset=[0.5, 1.0, 2.0], scale=[2.0, 0.3, 0.1])
    check("Scaler", {"x": x}, FLOAT, offset=[0.5], scale=[2.0])
    check("FeatureVectorizer", {"x": x, "z": x}, FLOAT, inputdimensions=[2, 5])
    check("ArrayFeatureExtractor", {"x": x, "at": np.array([2, 0])}, (code,))
    check("ArrayFeatureExtractor", {"x": x[0], "at": np.array([[2, 0]])}, (code,))
    for norm in ("MAX", "L1", "L2"):
        check("Normalizer", {"x": np.vstack([x, np.zeros((1, 3), dtype)])}, FLOAT, norm=norm)
    if dtype != np.int32:
        check("OneHotEncoder", {"x": np.abs(x[0])}, FLOAT, cats_int64s=[0, 1, 2], zeros=1)


def test_imputed_values() -> None:
    x = X.copy()
    x[0, 1], x[2, 2] = np.nan, 7
    check("Imputer", {"x": x}, FLOAT, imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))
    check("Imputer", {"x": x}, FLOAT, imputed_value_floats=[9.0], replaced_value_float=7.0)
    whole = (X * 2).astype(np.int64)
    check("Imputer", {"x": whole}, (TensorProto.INT64,), imputed_value_int64s=[9, 8, 7], replaced_value_int64=0)
    check("Binarizer", {"x": X}, FLOAT, threshold=0.5)


def test_unknown_category() -> None:
    feeds = {"x": np.array([1, 7])}
    with pytest.raises(IndexError, match="OneHotEncoder"):
        run(ml_model("OneHotEncoder", feeds, FLOAT, cats_int64s=[0, 1], zeros=0), feeds)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64])
def test_label_encoder(count: int) -> None:
    keys = np.random.default_rng(count).permutation(3 * count)[:count]
    x = np.arange(-1, 3 * count + 1)
    values = numbers(count)
    check("LabelEncoder", {"x": x}, FLOAT, keys_int64s=keys.tolist(), values_floats=values, default_float=-3.0)
    reals = [float(k) for k in keys[:-1]] + [float("nan")]
    feeds = {"x": np.append(x, np.nan).astype(np.float32)}
    check("LabelEncoder", feeds, (TensorProto.INT64,), version=4, keys_floats=reals, values_int64s=keys.tolist())


@pytest.mark.parametrize(
    ("op", "a", "message"),
    [
        ("Normalizer", {"norm": "L3"}, "norm is 'L3'"),
        ("Scaler", {"offset": [1.0, 2.0], "scale": [1.0]}, "2 offsets"),
        ("Scaler", {}, "needs an offset"),
        ("FeatureVectorizer", {"inputdimensions": [1, 2]}, "2 inputdimensions for 1 inputs"),
        ("Imputer", {}, "no imputed values"),
        ("OneHotEncoder", {}, "no categories"),
        ("LinearRegressor", {"coefficients": [1.0] * 5, "targets": 2}, "5 coefficients in 2 rows"),
        ("LinearClassifier", {"coefficients": [1.0] * 4}, "4 coefficients for 3 columns"),
        ("SVMRegressor", {"coefficients": [1.0], "n_supports": 1}, "0 rho"),
        ("SVMRegressor", {"coefficients": [1.0], "rho": [0.0], "n_supports": 1, "support_vectors": [1.0] * 3,
                          "kernel_type": "COSINE"}, "kernel_type is 'COSINE'"),
        ("SVMClassifier", {"coefficients": [1.0], "rho": [0.0], "vectors_per_class": [1]}, "1 classes"),
    ],
)  # fmt: skip
def test_refused(op: str, a: dict[str, Any], message: str) -> None:
    results = CLASSES if op.endswith("Classifier") else FLOAT
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(ml_model(op, {"x": X}, results, **a))


def test_gradient_is_refused() -> None:
    node = helper.make_node("Gradient", ["x"], ["y"], domain="ai.onnx.preview.training", xs=["x"], y="z")
    graph = helper.make_graph([node], "test", [value_info("x", X)], [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.preview.training", 1)]
    with pytest.raises(UnsupportedError, match="backward graph"):
        import_onnx(helper.make_model(graph, opset_imports=opsets, ir_version=8))


# Compiled
def _compiled() -> dict[str, tuple[Any, dict[str, Array]]]:
    nodes, leaves = forest(20, 5, MODES, missing=True)
    x = {"x": rows()}
    table = {"x": np.array([3, 9, 1, 4])}
    vectors: dict[str, Any] = {
        "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "support_vectors": numbers(15), "rho": numbers(3),
        "coefficients": numbers(10), "vectors_per_class": [2, 1, 2], "prob_a": [-1.2, -0.7, -0.9],
        "prob_b": [0.1, 0.2, -0.3], "classlabels_ints": [4, 6, 9],
    }  # fmt: skip
    return {
        "trees": (ml_model("TreeEnsembleRegressor", x, FLOAT, **nodes, **targets_of(leaves, 2)), x),
        "vectors": (ml_model("SVMClassifier", {"x": X}, CLASSES, **vectors), {"x": X}),
        "labels": (ml_model("LabelEncoder", table, FLOAT, keys_int64s=[1, 3, 4], values_floats=[1.0, 2.0, 3.0]), table),
    }


@pytest.mark.parametrize("name", ["trees", "vectors", "labels"])
def test_compiled(name: str) -> None:
    model, feeds = _compiled()[name]
    graph = import_onnx(model)
    got = compare_run(graph, compile_graph(graph), feeds, [64] * 2, [8] * 2)
    assert_same(got, peer(model, feeds), rtol=1e-4, atol=1e-4)


def test_no_rows() -> None:
    nodes, leaves = forest(3, 3, MODES[:1], missing=False)
    feeds = {"x": np.zeros((0, 4), np.float32)}
    (got,) = run(ml_model("TreeEnsembleRegressor", feeds, FLOAT, **nodes, **targets_of(leaves, 2)), feeds)
    assert got.shape == (0, 2)

"""Classifiers whose labels are strings, and maps of them: against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import vitrify
from tests.frontends.onnx.models import value_info
from tests.frontends.onnx.test_ml import MODES, POST, X, forest, numbers, rows
from vitrify.errors import IndexOutOfRangeError, InvalidModelError, UnsupportedError

Array = np.ndarray[Any, Any]
WORDS = ["no", "yes", "", "é\n", "yes"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def classifier(op: str, feeds: Mapping[str, Array], *, zipped: bool = False, **a: Any) -> onnx.ModelProto:
    """With ``zipped`` its scores become maps, as scikit-learn's converters write them."""
    nodes = [helper.make_node(op, list(feeds), ["label", "scores"], "node", domain="ai.onnx.ml", **a)]
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING, None)]
    if zipped:
        labels = {"classlabels_strings": a["classlabels_strings"]}
        nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **labels))
        kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
    else:
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, None))
    inputs = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), ["N", *v.shape[1:]])
              for k, v in feeds.items()]  # fmt: skip
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def check(op: str, feeds: Mapping[str, Array], **a: Any) -> None:
    for zipped in (False, True):
        model = classifier(op, feeds, zipped=zipped, **a)
        data = model.SerializeToString()
        session, peer = vitrify.InferenceSession(data), onnxruntime.InferenceSession(data)
        assert [(o.name, o.type) for o in session.get_outputs()] == [(o.name, o.type) for o in peer.get_outputs()]
        for count in (len(X), 1):
            few = {name: value[:count] for name, value in feeds.items()}
            (labels, scores), (expected, wanted) = session.run(None, few), peer.run(None, few)
            assert labels.dtype == object and labels.tolist() == expected.tolist()
            if not zipped:
                np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)
                continue
            assert isinstance(scores, list) and [list(row) for row in scores] == [list(row) for row in wanted]
            for row, other in zip(scores, wanted, strict=True):
                assert all(type(value) is float for value in row.values())
                np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize(("rows_of", "classes"), [(1, 2), (2, 2), (3, 3), (5, 5)])
def test_linear(post: str, rows_of: int, classes: int) -> None:
    shared = {"coefficients": numbers(3 * rows_of), "intercepts": numbers(rows_of, seed=2), "post_transform": post}
    check("LinearClassifier", {"x": X}, classlabels_strings=WORDS[:classes], **shared)


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("classes", [2, 3])
def test_trees(classes: int, post: str) -> None:
    nodes, leaves = forest(5, 4, MODES[:1], missing=False)
    rng = np.random.default_rng(3)
    ids = [0 if classes < 3 else int(rng.integers(classes)) for _ in leaves]
    for positive in (False, True):
        check(
            "TreeEnsembleClassifier", {"x": rows()[: len(X)]}, classlabels_strings=WORDS[:classes],
            class_treeids=[t for t, _ in leaves], class_nodeids=[i for _, i in leaves], class_ids=ids,
            class_weights=[abs(w) / 25 if positive else w for w in numbers(len(leaves))],
            post_transform=post, **nodes,
        )  # fmt: skip


@pytest.mark.parametrize(("classes", "counts"), [(2, [2, 3]), (3, [2, 1, 2])])
@pytest.mark.parametrize("proba", [False, True])
def test_support_vectors(classes: int, counts: Sequence[int], proba: bool) -> None:
    pairs = classes * (classes - 1) // 2
    extra = {"prob_a": [-1.2, 0.7, -0.9][:pairs], "prob_b": [0.1, 0.2, -0.3][:pairs]} if proba else {}
    check(
        "SVMClassifier", {"x": X}, classlabels_strings=WORDS[:classes], kernel_type="RBF",
        kernel_params=[0.5, 0.1, 3.0], support_vectors=numbers(15), rho=numbers(pairs, seed=3),
        vectors_per_class=counts, coefficients=numbers(5 * (classes - 1), seed=4), **extra,
    )  # fmt: skip


@pytest.mark.parametrize("sign", [np.asarray, np.abs])
@pytest.mark.parametrize("classes", [2, 3])
def test_support_vectors_of_no_kernel(classes: int, sign: Any) -> None:
    weights = [float(v) for v in sign(numbers(3 * classes))]
    check(
        "SVMClassifier", {"x": X}, classlabels_strings=WORDS[:classes], rho=[0.2], coefficients=weights,
        kernel_params=[0.0, 0.0, 0.0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "a", "message"),
    [
        (["only"], {"coefficients": numbers(3)}, "are two or more"),
        (["a", "b", "c"], {"coefficients": numbers(3)}, "3 class labels for one score"),
        (["a", "b"], {"coefficients": numbers(9)}, "2 class labels for 3 scores"),
        (["a", "b"], {"coefficients": numbers(6), "classlabels_ints": [1, 2]}, "labels twice.*or classlabels_strings"),
    ],
)
def test_refused(labels: list[str], a: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        vitrify.InferenceSession(classifier("LinearClassifier", {"x": X}, classlabels_strings=labels, **a))


def test_refused_where_only_a_run_chooses() -> None:
    a = {"coefficients": numbers(6), "classlabels_strings": ["a", "b"]}
    node = helper.make_node("LinearClassifier", ["x"], ["label", "s"], domain="ai.onnx.ml", **a)
    shown = [helper.make_tensor_value_info("s", TensorProto.FLOAT, None)]
    branch = helper.make_graph([node], "branch", [], shown)
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inputs = [value_info("x", X), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([chosen], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    with pytest.raises(UnsupportedError, match="classlabels_strings in a graph that only a run chooses"):
        vitrify.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def test_encoders_to_strings() -> None:
    x = np.array([3, 9, 1, 4, -7], np.int64)
    for op, a in (
        ("LabelEncoder", {"keys_int64s": [1, 3, 4], "values_strings": ["one", "three", ""], "default_string": "none"}),
        ("CategoryMapper", {"cats_int64s": [1, 3, 4], "cats_strings": ["one", "three", ""]}),
    ):
        node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **a)
        outputs = [helper.make_tensor_value_info("y", TensorProto.STRING, None)]
        graph = helper.make_graph([node], "g", [value_info("x", x)], outputs)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        (got,), (expected,) = (e.InferenceSession(data).run(None, {"x": x}) for e in (vitrify, onnxruntime))
        assert got.dtype == object and got.tolist() == expected.tolist()


def chosen(shape: Sequence[int]) -> bytes:
    """As converters of scikit-learn write other classifiers: the label of the greatest score."""
    words = helper.make_tensor("classes", TensorProto.STRING, shape, [b"a", b"b", b"c"])
    flat = helper.make_tensor("flat", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", ["classes", "i"], ["row"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["row", "flat"], ["label"]),
    ]
    outputs = [helper.make_tensor_value_info("label", TensorProto.STRING, None)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [words, flat])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize("shape", [[3], [1, 3]])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_labels_by_what_argmax_found(shape: Sequence[int], count: int) -> None:
    data = chosen(shape)
    (got,) = vitrify.InferenceSession(data).run(None, {"x": X[:count]})
    assert got.tolist() == ["abc"[k] for k in X[:count].argmax(1)]
    if count:  # of no columns onnxruntime says that they are out of range
        assert got.tolist() == onnxruntime.InferenceSession(data).run(None, {"x": X[:count]})[0].tolist()


@pytest.mark.parametrize("column", [3, -1])
def test_columns_out_of_range(column: int) -> None:
    words = helper.make_tensor("classes", TensorProto.STRING, [3], [b"a", b"b", b"c"])
    node = helper.make_node("ArrayFeatureExtractor", ["classes", "i"], ["y"], domain="ai.onnx.ml")
    outputs = [helper.make_tensor_value_info("y", TensorProto.STRING, None)]
    inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, ["K"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs, [words]), opset_imports=opsets)
    session = vitrify.InferenceSession(model)
    assert session.run(None, {"i": np.array([2, 0])})[0].tolist() == [["c", "a"]]
    with pytest.raises(IndexOutOfRangeError, match=f"columns from 0 to 2; got {column}"):
        session.run(None, {"i": np.array([0, column])})

"""TopK, NonZero, Compress, Unique, NonMaxSuppression and TfIdfVectorizer against onnxruntime and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import compile_graph
from tests.frontends.onnx.models import assert_same, check, one_node, run, run_peer
from vitrify.errors import InvalidModelError, VitrifyError
from vitrify.frontends.onnx import import_onnx

Array = np.ndarray[Any, Any]


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """With many equal ones."""
    return np.random.default_rng(seed).integers(-9, 9, shape).astype(dtype)


def check_both(model: Any, feeds: dict[str, Array]) -> None:
    """The interpreter and the compiled model against onnxruntime."""
    expected = run_peer(model, feeds)
    assert_same(run(model, feeds), expected)
    assert_same(compile_graph(import_onnx(model)).run(None, feeds), expected)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_top_k(axis: int, largest: int) -> None:
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        feeds = {"x": numbers(7, 5, 11, dtype=dtype)}
        k = {"k": np.array([3], np.int64)}
        check(one_node("TopK", feeds, constants=k, outputs=("y", "i"), axis=axis, largest=largest), feeds)


@pytest.mark.parametrize("k", [0, 1, 40, 200])
def test_top_k_of_the_run(k: int) -> None:
    feeds = {"x": numbers(3, 200), "k": np.array([k], np.int64)}
    check_both(one_node("TopK", feeds, outputs=("y", "i"), shapes={"x": ["a", "b"]}), feeds)


def test_top_k_of_old_opsets() -> None:
    feeds = {"x": numbers(3, 20)}
    check(one_node("TopK", feeds, outputs=("y", "i"), k=4, opset=9), feeds)
    check(one_node("TopK", feeds, constants={"k": np.array([4])}, outputs=("y", "i"), opset=10), feeds)


def test_top_k_refused() -> None:
    feeds = {"x": numbers(3, 20)}
    for k in (-1, 21):
        with pytest.raises(InvalidModelError, match=f"k is {k}"):
            run(one_node("TopK", feeds, constants={"k": np.array([k])}, outputs=("y", "i")), feeds)
    model = one_node("TopK", {**feeds, "k": np.array([1])}, outputs=("y", "i"))
    session = compile_graph(import_onnx(model))
    for k in (-1, 21):
        with pytest.raises(VitrifyError):
            session.run(None, {**feeds, "k": np.array([k])})


@pytest.mark.parametrize("shape", [(), (0,), (1,), (9,), (3, 0), (4, 5), (2, 3, 5)], ids=str)
def test_nonzero(shape: tuple[int, ...]) -> None:
    x = np.maximum(numbers(*shape), 0)
    model = one_node("NonZero", {"x": x})
    expected = np.array(np.nonzero(x), np.int64) if shape else np.zeros((0, int(x != 0)), np.int64)
    assert_same(run(model, {"x": x}), [expected])
    assert_same(compile_graph(import_onnx(model)).run(None, {"x": x}), [expected])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_compress(length: int, axis: int | None) -> None:
    feeds = {"x": numbers(3, 4), "c": np.array([True, False, True])[:length]}
    options = {} if axis is None else {"axis": axis}
    check_both(one_node("Compress", feeds, **options), feeds)
    constant = {"c": feeds.pop("c")}
    check(one_node("Compress", feeds, constants=constant, **options), feeds)


OUTPUTS = ("y", "first", "group", "count")


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(axis: int | None, ordered: int) -> None:
    options = {} if axis is None else {"axis": axis}
    for shape in ((30, 2), (2, 40), (1, 1)):
        feeds = {"x": numbers(*shape) // 4}
        check_both(one_node("Unique", feeds, outputs=OUTPUTS, sorted=ordered, **options), feeds)


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_unique_of_an_open_size(size: int) -> None:
    x = numbers(size, dtype=np.int64)
    model = one_node("Unique", {"x": x}, outputs=OUTPUTS, shapes={"x": ["n"]})
    expected = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    assert_same(compile_graph(import_onnx(model)).run(None, {"x": x}), [np.asarray(e) for e in expected])


def test_unique_counts_nan_once() -> None:
    x = np.array([np.nan, 1, np.nan, 0], np.float32)
    y, first, group, count = run(one_node("Unique", {"x": x}, outputs=OUTPUTS), {"x": x})
    np.testing.assert_array_equal(y, np.array([0, 1, np.nan], np.float32))
    assert (first.tolist(), group.tolist(), count.tolist()) == ([3, 1, 0], [2, 1, 2, 0], [1, 1, 2])


# ---- NonMaxSuppression


def scene(images: int, classes: int, count: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    ends = rng.random((images, count, 4)) * 3
    scores = np.round(rng.random((images, classes, count)), 2)  # some are equal
    return {"boxes": ends.astype(np.float32), "scores": scores.astype(np.float32)}


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("given", range(4))
def test_non_max_suppression(given: int, centred: int) -> None:
    """Every number of optional inputs."""
    options = {"most": np.array([6]), "overlap": np.array([0.3], np.float32), "score": np.array([0.4], np.float32)}
    extra = dict(list(options.items())[:given])
    for images, classes, count in ((2, 3, 40), (1, 1, 1), (1, 2, 0)):
        feeds = scene(images, classes, count)
        check_both(one_node("NonMaxSuppression", feeds, constants=extra, center_point_box=centred), feeds)


def test_non_max_suppression_of_an_open_size() -> None:
    extra = {"most": np.array(2**62), "overlap": np.array(0.5, np.float32), "score": np.array(0.9, np.float32)}
    shapes = {"boxes": ["i", "n", 4], "scores": ["i", "c", "n"]}
    feeds = {**scene(2, 5, 300), **extra}
    check_both(one_node("NonMaxSuppression", feeds, shapes=shapes), feeds)


def test_non_max_suppression_refused() -> None:
    feeds = scene(1, 1, 3)
    extra = {"most": np.array([6]), "overlap": np.array([1.5], np.float32)}
    with pytest.raises(InvalidModelError, match=r"iou_threshold is 1\.5"):
        run(one_node("NonMaxSuppression", feeds, constants=extra), feeds)


# ---- TfIdfVectorizer


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("shortest", [1, 2])
def test_tf_idf(shortest: int, mode: str) -> None:
    pool = {
        "ngram_counts": [0, 2, 6], "ngram_indexes": [3, 0, 2, 1, 4], "pool_int64s": [2, 3, 5, 4, 5, 6, 2, 3, 4],
        "weights": [0.5, 2.0, 1.0, 3.0, 7.0],
    }  # fmt: skip
    for shape in ((12,), (3, 9), (2, 1)):
        for dtype in (np.int32, np.int64):
            feeds = {"x": np.random.default_rng(1).integers(2, 7, shape).astype(dtype)}
            check_both(
                one_node(
                    "TfIdfVectorizer", feeds, mode=mode, min_gram_length=shortest, max_gram_length=3,
                    max_skip_count=2, **pool,
                ),
                feeds,
            )  # fmt: skip

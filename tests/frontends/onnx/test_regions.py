"""RoiAlign and MaxRoiPool of regions that are huge, that are no numbers, and of images that there are none of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.models import one_node, run
from vitrify import InferenceSession
from vitrify.errors import IndexOutOfRangeError

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
BINS = (2, 3)
HUGE = [
    [0, 0, 60, 40], [-30, -20, 30, 44.5], [-300, 1, 200, 3], [2, -150, 4.25, 150], [-200, -200, -100, -100],
    [0.5, 0.5, 100, 100], [6, 4, 250, 130], [-900, -50, 1e3, 60],
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def weighted(start: float, length: float, bins: int, size: int) -> list[tuple[int, list[Any]]]:
    """Of each bin: how many samples, and those inside as position weights and elements."""
    result = []
    for one in range(bins):
        count = math.ceil(np.float32(length) / np.float32(bins))
        kept = []
        for k in range(count):
            at = start + one * length / bins + (k + 0.5) * length / bins / count
            if -1 <= at <= size:
                at = min(max(at, 0), size - 1)
                low = math.floor(at)
                kept.append((1 - (at - low), at - low, low, min(low + 1, size - 1)))
        result.append((count, kept))
    return result


def reference(x: Array, box: list[float], mode: str) -> Array:
    """All samples, in float64."""
    rows = weighted(box[1], max(box[3] - box[1], 1), BINS[0], x.shape[1])
    columns = weighted(box[0], max(box[2] - box[0], 1), BINS[1], x.shape[2])
    out = np.zeros((x.shape[0], *BINS))
    for i, (high, ys) in enumerate(rows):
        for j, (wide, xs) in enumerate(columns):
            total, best = np.zeros(x.shape[0]), np.full(x.shape[0], -np.inf)
            if len(ys) * len(xs) < high * wide:
                best = best.clip(0)
            for a, b, y0, y1 in ys:
                for c, d, x0, x1 in xs:
                    weights = np.array([a * c, a * d, b * c, b * d])
                    parts = weights[:, None] * x[:, [y0, y0, y1, y1], [x0, x1, x0, x1]].T
                    total += parts.sum(0)
                    best = np.maximum(best, np.where(weights[:, None] != 0, parts, 0).max(0))
            out[:, i, j] = total / (high * wide) if mode == "avg" else best
    return out


def model(mode: str) -> Any:
    feeds = {"x": X, "rois": np.zeros((1, 4), np.float32), "batch": np.zeros(1, np.int64)}
    shapes: Any = {"x": ["n", 3, "h", "w"], "rois": ["r", 4], "batch": ["r"]}
    return one_node(
        "RoiAlign", feeds, shapes=shapes, opset=10, mode=mode, output_height=BINS[0], output_width=BINS[1],
        sampling_ratio=0,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_large_regions_are_sampled_in_full(mode: str) -> None:
    feeds = {"x": X, "rois": np.array(HUGE, np.float32), "batch": np.arange(len(HUGE)) % 2}
    expected = np.stack([reference(X[k % 2].astype(np.float64), box, mode) for k, box in enumerate(HUGE)])
    for got in (run(model(mode), feeds)[0], InferenceSession(model(mode)).run(None, feeds)[0]):
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_work_is_bounded_by_the_tensor(mode: str) -> None:
    """10^18 samples, and those of regions that are no numbers."""
    session = InferenceSession(model(mode))
    boxes = [[0, 0, 1e9, 1e9], [-1e9, -1e9, 1e9, 1e9], [-3e38, -3e38, 3e38, 3e38], [1e9, 1e9, 2e9, 2e9]]
    feeds = {"x": X, "rois": np.array(boxes, np.float32), "batch": np.array([0, 1, 0, 1])}
    (got,) = session.run(None, feeds)
    assert np.isfinite(got).all() and np.abs(got).max() <= np.abs(X).max()
    assert not got[3].any()
    if mode == "avg":
        assert np.abs(got).max() < 1e-6
    for value in (np.nan, np.inf, -np.inf):
        for corner in range(4):
            box = np.array([[1, 1, 3, 4]], np.float32)
            box[0, corner] = value
            (got,) = session.run(None, {"x": X, "rois": box, "batch": np.array([1])})
            if not np.isneginf(value) or corner < 2:  # a region that ends before it begins has the size 1
                np.testing.assert_array_equal(got, 0)
            assert np.isfinite(got).all()


@pytest.mark.parametrize("image", [2, -1, 2**40, -(2**62)])
def test_no_image(image: int) -> None:
    feeds = {"x": X, "rois": np.array([[0, 0, 3, 4]], np.float32), "batch": np.array([image])}
    with pytest.raises(IndexOutOfRangeError, match=r"RoiAlign.*index out of range"):
        InferenceSession(model("avg")).run(None, feeds)


def test_max_roi_pool() -> None:
    feeds = {"x": X, "rois": np.zeros((1, 5), np.float32)}
    session = InferenceSession(one_node("MaxRoiPool", feeds, opset=1, pooled_shape=list(BINS)))

    def pooled(*region: float) -> Array:
        return session.run(None, {"x": X, "rois": np.array([region], np.float32)})[0]

    np.testing.assert_array_equal(pooled(0, 0, 0, 1e9, 1e9)[0, :, 0, 0], X[0].max((1, 2)))
    assert not pooled(0, 0, 0, 1e9, 1e9)[0, :, 1:].any() and not pooled(1, 1e9, 1e9, 2e9, 2e9).any()
    for value in (np.nan, np.inf, -np.inf):
        for corner in range(1, 5):
            region = [0, 1, 1, 3, 4]
            region[corner] = value
            assert np.isfinite(pooled(*region)).all()
    for image in (2, -1, 1e30, -1e30, np.nan, np.inf, -np.inf):
        with pytest.raises(IndexOutOfRangeError, match=r"MaxRoiPool.*index out of range"):
            pooled(image, 0, 0, 3, 4)

"""Resize, GridSample, RoiAlign and their kin against onnxruntime: interpreted, compiled, with symbolic sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import compare_run, compile_graph
from tests.frontends.onnx.models import assert_same, one_node, run, run_peer
from vitrify import InferenceSession
from vitrify.errors import InvalidModelError, ShapeError, UnsupportedError
from vitrify.frontends.onnx import import_onnx

Array = np.ndarray[Any, Any]
TRANSFORMS = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
TARGETS = [((1, 2, 5, 7), (1, 2, 11, 5)), ((2, 1, 4, 4), (2, 1, 8, 8)), ((1, 1, 6, 8), (1, 1, 3, 2))]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _resize(x: Array, constants: Mapping[str, Array], *, dynamic: bool = False, opset: int = 19, **a: Any) -> Any:
    names = ["x", *(name if name in constants else "" for name in ("roi", "scales", "sizes"))]
    while not names[-1]:
        names.pop()
    shapes = {"x": [f"d{i}" for i in range(x.ndim)]} if dynamic else None
    return one_node("Resize", {"x": x}, constants=constants, names=names, shapes=shapes, opset=opset, **a)


def _against_peer(model: Any, feeds: Mapping[str, Array], tolerance: float = 1e-4) -> None:
    assert_same(run(model, feeds), run_peer(model, feeds), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_between_elements(mode: str, transform: str) -> None:
    roi = {"roi": np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.3], np.float32)} if transform == "tf_crop_and_resize" else {}
    options = itertools.product((False, True), (0, 1), (0, 1) if mode == "cubic" else (0,))
    for (shape, target), (dynamic, antialias, exclude) in itertools.product(TARGETS, options):
        x = floats(*shape)
        model = _resize(
            x, {**roi, "sizes": np.array(target)}, dynamic=dynamic, mode=mode, extrapolation_value=9.5,
            coordinate_transformation_mode=transform, antialias=antialias, exclude_outside=exclude,
        )  # fmt: skip
        _against_peer(model, {"x": x})


@pytest.mark.parametrize("rounding", NEAREST)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_resize_to_elements(transform: str, rounding: str) -> None:
    roi = {"roi": np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.3], np.float32)} if transform == "tf_crop_and_resize" else {}
    for (shape, target), dynamic in itertools.product(TARGETS, (False, True)):
        x = floats(*shape)
        model = _resize(
            x, {**roi, "sizes": np.array(target)}, dynamic=dynamic, mode="nearest", nearest_mode=rounding,
            coordinate_transformation_mode=transform,
        )  # fmt: skip
        _against_peer(model, {"x": x})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_by_scales_of_the_run(mode: str) -> None:
    x, scales = floats(1, 2, 5, 7), np.array([1, 1, 2, 0.5], np.float32)
    feeds = {"x": x, "scales": scales}
    shapes: dict[str, Any] = {"x": ["n", "c", "h", "w"], "scales": [4]}
    model = one_node("Resize", feeds, names=["x", "", "scales"], shapes=shapes, opset=19, mode=mode)
    _against_peer(model, feeds)
    with pytest.raises(ValueError, match="negative"):
        run(model, {**feeds, "scales": np.array([1, 1, np.nan, 1], np.float32)})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_by_what_is_no_size(mode: str) -> None:
    x = floats(1, 2, 5, 7)
    feeds = {"x": x, "scales": np.ones(4, np.float32)}
    shapes: dict[str, Any] = {"x": ["n", "c", "h", "w"], "scales": [4]}
    model = one_node("Resize", feeds, names=["x", "", "scales"], shapes=shapes, opset=19, mode=mode)
    session = InferenceSession(model)
    message = r"Resize.*negative, or larger than any memory\n.*scales \(finite"
    for scale in (3e38, 1e30, 1e15, 0, -1, -1e-30, np.nan, np.inf, -np.inf):
        scales = np.array([1, 1, scale, 1], np.float32)
        with pytest.raises(ValueError, match="negative"):
            run(model, {"x": x, "scales": scales})
        with pytest.raises(ShapeError, match=message):
            session.run(None, {"x": x, "scales": scales})
        with pytest.raises(InvalidModelError, match=r"a scale of"):
            constant = one_node("Resize", {"x": x}, names=["x", "", "scales"], constants={"scales": scales}, mode=mode)
            run(constant, {"x": x})
    assert session.run(None, {"x": x, "scales": np.array([1, 1, 1e-30, 1], np.float32)})[0].shape == (1, 2, 0, 7)


def test_resize_to_sizes_that_overflow() -> None:
    x = floats(1, 2, 5, 7)
    feeds = {"x": x, "sizes": np.ones(4, np.int64)}
    shapes: dict[str, Any] = {"x": ["n", "c", "h", "w"], "sizes": [4]}
    model = one_node("Resize", feeds, names=["x", "", "", "sizes"], shapes=shapes, opset=19, mode="linear")
    session = InferenceSession(model)
    for size in (-1, -(2**63), 2**62, 2**50):
        sizes = np.array([1, 2, size, 7])
        with pytest.raises((ValueError, MemoryError)):
            run(model, {"x": x, "sizes": sizes})
        with pytest.raises(ShapeError):
            session.run(None, {"x": x, "sizes": sizes})
    assert session.run(None, {"x": x, "sizes": np.array([1, 2, 0, 7])})[0].shape == (1, 2, 0, 7)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_resize_keeping_aspect(policy: str, dynamic: bool) -> None:
    x = floats(1, 2, 5, 7)
    model = _resize(
        x, {"sizes": np.array([11, 9])}, dynamic=dynamic, mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy
    )
    _against_peer(model, {"x": x})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_resize_dtypes(dtype: Any) -> None:
    x = (floats(1, 2, 3, 5) * 40).astype(np.int8).astype(dtype)
    for mode in ("nearest", "linear"):
        model = _resize(x, {"scales": np.array([1, 1, 2, 2], np.float32)}, mode=mode)
        _against_peer(model, {"x": x})


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("op", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_upsample(op: str, opset: int, mode: str) -> None:
    x, scales = floats(2, 3, 4, 5), np.array([1, 1, 2, 3], np.float32)
    if opset == 7:
        model = one_node(op, {"x": x}, opset=opset, mode=mode, scales=list(scales))
    else:
        model = one_node(op, {"x": x}, constants={"scales": scales}, opset=opset, mode=mode)
    _against_peer(model, {"x": x})


def test_resize_of_volumes_and_lines() -> None:
    x = floats(1, 2, 3, 4, 5)
    _against_peer(_resize(x, {"scales": np.array([1, 1, 2, 1.5, 0.6], np.float32)}, mode="linear"), {"x": x})
    line = floats(1, 1, 13)
    _against_peer(_resize(line, {"scales": np.array([1, 1, 2.5], np.float32)}, mode="linear"), {"x": line})


def test_resize_to_nothing() -> None:
    x = floats(1, 2, 3, 4)
    (got,) = run(_resize(x, {"sizes": np.array([1, 2, 0, 4])}), {"x": x})
    assert got.shape == (1, 2, 0, 4)
    empty = floats(1, 2, 0, 4)
    (got,) = run(_resize(empty, {"scales": np.array([1, 1, 2, 2], np.float32)}, mode="linear"), {"x": empty})
    assert got.shape == (1, 2, 0, 8)


@pytest.mark.parametrize(
    ("constants", "attributes", "message"),
    [
        ({"sizes": np.array([1, 1, 4])}, {}, "3 sizes for 4 axes"),
        ({"scales": np.ones(3, np.float32)}, {}, "scales of shape"),
        ({"scales": np.array([1, 1, -1, 1], np.float32)}, {}, "a scale of -1"),
        ({"scales": np.array([1, 1, np.inf, 1], np.float32)}, {}, "a scale of inf"),
        ({"sizes": np.array([1, 1, 4, -4])}, {}, "negative size"),
        ({"sizes": np.array([1, 1, 4, 4])}, {"mode": "area"}, "mode is 'area'"),
        ({"sizes": np.array([1, 1, 4, 4])}, {"nearest_mode": "up"}, "nearest_mode is 'up'"),
        ({"sizes": np.array([1, 1, 4, 4])}, {"coordinate_transformation_mode": "x"}, "coordinate_transformation"),
        ({"sizes": np.array([4, 4])}, {"axes": [2, 4]}, "axis 4"),
        ({"sizes": np.array([4, 4])}, {"axes": [2, 2]}, "repeat"),
        ({"sizes": np.array([1, 1, 4, 4])}, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "region"),
        ({"sizes": np.array([1, 1, 4, 4]), "scales": np.ones(4, np.float32)}, {}, "one of scales and sizes"),
        ({}, {}, "one of scales and sizes"),
    ],
)
def test_resize_refused(constants: dict[str, Array], attributes: dict[str, Any], message: str) -> None:
    x = floats(1, 1, 3, 3)
    with pytest.raises((InvalidModelError, UnsupportedError), match=message):
        import_onnx(_resize(x, constants, **attributes))


SAMPLES = list(itertools.product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (0, 1)))


@pytest.mark.parametrize(("mode", "padding", "align"), SAMPLES)
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    feeds = {"x": floats(2, 3, 4, 5), "grid": floats(2, 7, 3, 2, seed=1) * 1.3}
    names = {"linear": "bilinear", "cubic": "bicubic"}
    for opset, dynamic in itertools.product((16, 20), (False, True)):
        shapes: Any = {"x": ["n", 3, "h", "w"], "grid": ["n", "p", "q", 2]} if dynamic else None
        model = one_node(
            "GridSample", feeds, shapes=shapes, opset=opset, mode=names.get(mode, mode) if opset == 16 else mode,
            padding_mode=padding, align_corners=align,
        )  # fmt: skip
        _against_peer(model, feeds)
    if mode != "cubic":
        volume = {"x": floats(1, 2, 3, 4, 5), "grid": floats(1, 2, 3, 4, 3, seed=1)}
        model = one_node("GridSample", volume, opset=20, mode=mode, padding_mode=padding, align_corners=align)
        _against_peer(model, volume)


def test_grid_sample_keeps_what_lies_outside_out() -> None:
    """Infinities beside a sampled position do not reach it with a weight of 0 from outside the tensor."""
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    feeds = {"x": x, "grid": np.full((1, 1, 1, 2), 5, np.float32)}
    assert run(one_node("GridSample", feeds, opset=16), feeds)[0].item() == 0


def _regions() -> dict[str, Array]:
    rois = np.array([[0, 0, 7, 8], [2.5, 1.2, 5.1, 3.3], [-3, -2, 20, 4], [4, 4, 4, 4], [6, 6, 2, 2]], np.float32)
    return {"x": floats(2, 3, 9, 10), "rois": rois, "batch": np.array([0, 1, 1, 0, 1], np.int64)}


@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align(mode: str, ratio: int) -> None:
    feeds = _regions()
    shapes: Any = {"x": ["n", 3, "h", "w"], "rois": ["r", 4], "batch": ["r"]}
    for opset, half, scale in itertools.product((10, 16), (False, True), (1.0, 0.5)):
        if half and opset == 10:
            continue
        kind = "half_pixel" if half else "output_half_pixel"
        more = {"coordinate_transformation_mode": kind} if opset == 16 else {}
        model = one_node(
            "RoiAlign", feeds, shapes=shapes, opset=opset, mode=mode, output_height=3, output_width=2,
            sampling_ratio=ratio, spatial_scale=scale, **more,
        )  # fmt: skip
        _against_peer(model, feeds)


def test_no_regions() -> None:
    feeds = {"x": floats(1, 2, 4, 4), "rois": np.zeros((0, 4), np.float32), "batch": np.zeros(0, np.int64)}
    (got,) = run(one_node("RoiAlign", feeds, opset=16, output_height=2, output_width=2), feeds)
    assert got.shape == (0, 2, 2, 2)


def test_region_of_no_image() -> None:
    feeds = _regions() | {"batch": np.array([0, 1, 2, 0, 1], np.int64)}
    with pytest.raises(IndexError, match="outside"):
        run(one_node("RoiAlign", feeds, opset=16, output_height=2, output_width=2), feeds)


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_max_roi_pool(scale: float) -> None:
    rois = np.array([[0, 0, 0, 7, 8], [1, 2, 1, 5, 3], [1, 3, 2, 9, 8], [0, 4, 4, 4, 4]], np.float32)
    feeds = {"x": floats(2, 3, 9, 10), "rois": rois}
    model = one_node("MaxRoiPool", feeds, opset=1, pooled_shape=[3, 2], spatial_scale=scale)
    _against_peer(model, feeds)


@pytest.mark.parametrize(("group", "offset_group"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_deform_conv(group: int, offset_group: int) -> None:
    x, w = floats(2, 4, 6, 7), floats(6, 4 // group, 3, 2, seed=1)
    feeds = {
        "x": x, "w": w, "offset": floats(2, offset_group * 12, 3, 6, seed=2), "b": floats(6, seed=3),
        "mask": floats(2, offset_group * 6, 3, 6, seed=4),
    }  # fmt: skip
    model = one_node(
        "DeformConv", feeds, opset=19, group=group, offset_group=offset_group, strides=[2, 1], pads=[1, 0, 1, 0],
        dilations=[1, 1],
    )  # fmt: skip
    _against_peer(model, feeds)


def test_center_crop_pad() -> None:
    x = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    for shape, axes in (([5, 4, 2], [0, 1, 2]), ([7], [-1]), ([0, 3], [0, 2])):
        for feeds in ({"x": x}, {"x": x, "shape": np.array(shape)}):
            constants = {} if "shape" in feeds else {"shape": np.array(shape)}
            model = one_node(
                "CenterCropPad", feeds, constants=constants, names=["x", "shape"], opset=18, axes=axes
            )
            assert_same(run(model, feeds), run_peer(model, feeds), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("GridSample", {"mode": "area"}, "mode is 'area'"),
        ("GridSample", {"padding_mode": "wrap"}, "padding_mode is 'wrap'"),
        ("MaxRoiPool", {"pooled_shape": [2]}, "pooled_shape"),
        ("MaxRoiPool", {"pooled_shape": [2, 0]}, "pooled_shape"),
    ],
)
def test_refused(op: str, attributes: dict[str, Any], message: str) -> None:
    feeds = {"x": floats(1, 1, 3, 3), "grid": floats(1, 2, 2, 2) if op == "GridSample" else floats(1, 5)}
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(one_node(op, feeds, opset=16, **attributes))


def _compiled_cases() -> dict[str, tuple[Any, dict[str, Array]]]:
    x = floats(1, 3, 5, 7)
    sizes = {"sizes": np.array([1, 3, 8, 11])}
    grid = {"x": floats(2, 3, 4, 5), "grid": floats(2, 7, 3, 2, seed=1) * 1.3}
    regions = _regions()
    return {
        "nearest": (_resize(x, sizes, dynamic=True), {"x": x}),
        "doubled": (_resize(x, {"scales": np.array([1, 1, 2, 2], np.float32)}), {"x": x}),
        "linear": (_resize(x, sizes, mode="linear"), {"x": x}),
        "cubic": (_resize(x, sizes, dynamic=True, mode="cubic"), {"x": x}),
        "antialias": (_resize(x, {"sizes": np.array([1, 3, 2, 3])}, mode="linear", antialias=1), {"x": x}),
        "grid": (one_node("GridSample", grid, opset=20, mode="cubic", padding_mode="reflection"), grid),
        "roi": (one_node("RoiAlign", regions, opset=16, output_height=3, output_width=2), regions),
    }


@pytest.mark.parametrize("name", ["nearest", "doubled", "linear", "cubic", "antialias", "grid", "roi"])
def test_compiled(name: str) -> None:
    model, feeds = _compiled_cases()[name]
    graph = import_onnx(model)
    (got,) = compare_run(graph, compile_graph(graph), feeds, [16], [4])
    assert_same([got], run_peer(model, feeds), rtol=1e-4, atol=1e-4)

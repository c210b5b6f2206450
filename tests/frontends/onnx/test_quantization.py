"""QuantizeLinear, DequantizeLinear and products of integers, bit for bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.frontends.onnx.models import run
from tests.frontends.onnx.quantized import Array, agree, compiled, floats, identical, node, scale, whole
from vitrify.errors import InvalidModelError

BYTES = [np.uint8, np.int8]
POINTS = {np.uint8: (0, 7, 128, 255), np.int8: (-128, -3, 0, 127)}


def edges() -> Array:
    """Ties, both ends of every range, and far outside."""
    ties = np.arange(-40, 40, dtype=np.float32) / 2
    ends = np.array([0.0, -0.0, 127.5, -128.5, 255.5, 32767.5, 65535.5, 1e9, -1e9, np.inf, -np.inf], np.float32)
    return np.concatenate([ties, ends, -ends])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_ties_and_saturation(dtype: Any) -> None:
    info = np.iinfo(dtype)
    for point in (info.min, 3, info.max):
        agree("QuantizeLinear", {"x": edges(), "s": scale(1), "z": np.asarray(point, dtype)})
    agree("QuantizeLinear", {"x": floats(7, 13) * 300, "s": scale(0.037), "z": np.asarray(5, dtype)})


RANGES = {ml_dtypes.int4: (-8, 7), ml_dtypes.uint4: (0, 15), ml_dtypes.int2: (-2, 1), ml_dtypes.uint2: (0, 3)}


@pytest.mark.parametrize("dtype", RANGES, ids=lambda d: d.__name__)
def test_four_and_two_bits(dtype: Any) -> None:
    low, high = RANGES[dtype]
    x = edges()
    for point in (low, 1, high):
        want = np.clip(np.rint(x) + point, low, high).astype(np.int8).astype(dtype)
        inputs = {"x": x, "s": scale(1), "z": np.asarray(point, dtype)}
        model, feeds = node("QuantizeLinear", inputs, ("z",), version=25)
        for got in (run(model, feeds), compiled(model, feeds)):
            assert got[0].dtype == want.dtype
            identical([got[0].astype(np.int8)], [want.astype(np.int8)])


def test_per_axis_and_blocks() -> None:
    x = floats(6, 5, 7) * 40
    for axis, size in ((0, 6), (1, 5), (-1, 7)):
        scales, points = np.linspace(0.1, 0.9, size).astype(np.float32), whole(np.int8, size)
        agree("QuantizeLinear", {"x": x, "s": scales, "z": points}, axis=axis)
        agree("DequantizeLinear", {"x": whole(np.int8, 6, 5, 7), "s": scales, "z": points}, axis=axis)
    scales, points = np.linspace(0.1, 0.9, 90).reshape(6, 5, 3).astype(np.float32), whole(np.uint8, 6, 5, 3)
    agree("QuantizeLinear", {"x": x, "s": scales, "z": points}, axis=2, block_size=3)
    agree("DequantizeLinear", {"x": whole(np.uint8, 6, 5, 7), "s": scales, "z": points}, axis=2, block_size=3)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (17, 1, 3)])
def test_shapes(shape: tuple[int, ...]) -> None:
    agree("QuantizeLinear", {"x": np.asarray(floats(*shape)), "s": scale(0.02), "z": None})
    agree("DequantizeLinear", {"x": np.asarray(whole(np.uint8, *shape)), "s": scale(0.02), "z": np.uint8(9)})


def test_thirty_two_bits() -> None:
    agree("DequantizeLinear", {"x": whole(np.int32, 33), "s": scale(1e-3)})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("saturate", [0, 1])
def test_eight_bit_floats(dtype: str, saturate: int) -> None:
    kind = getattr(ml_dtypes, dtype)
    x = np.concatenate([floats(50) * 300, np.array([np.inf, -np.inf, 1e6, -1e6], np.float32)])
    model, feeds = node("QuantizeLinear", {"x": x, "s": scale(0.5), "z": kind(0)}, ("z",), saturate=saturate)
    greatest = float(ml_dtypes.finfo(kind).max)
    ratio = np.clip(x / np.float32(0.5), -greatest, greatest) if saturate else x / np.float32(0.5)
    want = ratio.astype(kind).view(np.uint8)
    for got in (run(model, feeds), compiled(model, feeds)):
        nan = np.isnan(want.view(kind).astype(np.float32))
        assert (np.isnan(got[0].astype(np.float32)) == nan).all()
        identical([got[0].view(np.uint8)[~nan]], [want[~nan]])


@pytest.mark.parametrize("x", [floats(4, 9), floats(4, 9) + 5, floats(3) - 9, np.zeros(5, np.float32)])
def test_dynamic(x: Array) -> None:
    agree("DynamicQuantizeLinear", {"x": x}, outputs=3)


@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_products_of_every_zero_point(left: Any, right: Any) -> None:
    a, b = whole(left, 9, 131), whole(right, 131, 37)
    for first, second in zip(POINTS[left], POINTS[right], strict=True):
        inputs = {"a": a, "b": b, "za": left(first), "zb": right(second)}
        want = [(a.astype(np.int32) - first) @ (b.astype(np.int32) - second)]
        agree("MatMulInteger", inputs, ("b", "za", "zb"), expected=want)
        agree("MatMulInteger", inputs, expected=want)
        agree("MatMulInteger", inputs, ("b", "zb"), expected=want)


@pytest.mark.parametrize("shapes", [((5,), (5,)), ((5,), (5, 3)), ((3, 5), (5,)), ((2, 3, 5), (5, 4)),
                                    ((2, 1, 3, 5), (4, 5, 7)), ((0, 5), (5, 3)), ((4, 0), (0, 3))])  # fmt: skip
def test_ranks_of_products(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = (whole(np.uint8, *s) for s in shapes)
    want = np.asarray((a.astype(np.int32) - 3) @ (b.astype(np.int32) - 200), np.int32)
    for constants in ((), ("b", "za", "zb")):
        inputs = {"a": a, "b": b, "za": np.uint8(3), "zb": np.uint8(200)}
        agree("MatMulInteger", inputs, constants, expected=[want])


def test_points_per_row_and_column() -> None:
    a, b = whole(np.uint8, 7, 20), whole(np.int8, 20, 11)
    rows, columns = whole(np.uint8, 7, seed=1), whole(np.int8, 11, seed=2)
    want = (a.astype(np.int32) - rows[:, None]) @ (b.astype(np.int32) - columns)
    for constants in ((), ("b", "zb")):
        agree("MatMulInteger", {"a": a, "b": b, "za": rows, "zb": columns}, constants, expected=[want])


def test_sums_wrap() -> None:
    a, b = np.full((2, 70000), 255, np.uint8), np.full((70000, 3), 127, np.int8)
    want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    assert want[0, 0] < 0
    agree("MatMulInteger", {"a": a, "b": b}, ("b",), expected=[want])


@pytest.mark.parametrize("dtype", BYTES)
def test_qlinear_products(dtype: Any) -> None:
    for columns in (1, 23):
        scales = np.linspace(0.01, 0.03, columns).astype(np.float32)
        inputs = {
            "a": whole(np.uint8, 2, 9, 64), "as": scale(0.02), "az": np.uint8(77),
            "b": whole(dtype, 64, columns), "bs": scales, "bz": whole(dtype, columns, seed=3),
            "ys": scale(0.9), "yz": np.uint8(111),
        }  # fmt: skip
        agree("QLinearMatMul", inputs, set(inputs) - {"a"})
        agree("QLinearMatMul", inputs)


CONVOLUTIONS = [
    {"pads": [1, 1, 1, 1]},
    {"pads": [2, 0, 1, 1], "strides": [2, 1]},
    {"dilations": [2, 2]},
    {"auto_pad": "SAME_UPPER"},
    {"group": 4, "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("attributes", CONVOLUTIONS, ids=str)
def test_qlinear_convolutions(dtype: Any, attributes: dict[str, Any]) -> None:
    group = attributes.get("group", 1)
    inputs = {
        "x": whole(np.uint8, 2, 4, 9, 7), "xs": scale(0.02), "xz": np.uint8(130),
        "w": whole(dtype, 12, 4 // group, 3, 3), "ws": np.linspace(0.01, 0.03, 12).astype(np.float32),
        "wz": np.full(12, 0 if dtype is np.int8 else 120, dtype), "ys": scale(0.4), "yz": np.uint8(99),
        "b": np.arange(-600, 600, 100, dtype=np.int32),
    }  # fmt: skip
    agree("QLinearConv", inputs, set(inputs) - {"x"}, **attributes)
    agree("QLinearConv", inputs, {"w", "wz"}, **attributes)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_integer_convolutions(channels: int) -> None:
    x, w = whole(np.uint8, 1, channels, 8, 9), whole(np.uint8, 5, channels, 3, 2)
    for constants in ((), ("w", "zx", "zw"), ("zx",)):
        inputs = {"x": x, "w": w, "zx": np.uint8(9), "zw": np.uint8(201)}
        agree("ConvInteger", inputs, constants, pads=[1, 0, 2, 1])


def byte_targets() -> list[str]:
    """Every target that this machine runs, with what it has for bytes."""
    from vitrify.options import CPU_FEATURES
    from vitrify.runtime.cpu import detect, request_amx, supported_targets

    names = supported_targets(detect())
    if "x86-64-v4" in names and CPU_FEATURES["vnni"] <= detect().features:
        names.append("x86-64-v4+vnni")
        if CPU_FEATURES["amx-int8"] <= detect().features and request_amx():
            names.append("x86-64-v4+vnni+amx-int8")
    return names


def test_targets_agree() -> None:
    names = byte_targets()
    for left, right in ((np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8), (np.int8, np.uint8)):
        a, b = whole(left, 33, 75), whole(right, 75, 70)
        model, feeds = node("MatMulInteger", {"a": a, "b": b}, ("b",))
        for name in names:
            identical(compiled(model, feeds, (name,)), [a.astype(np.int32) @ b.astype(np.int32)])


@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_matrices_of_bytes_on_any_number_of_threads(left: Any, right: Any) -> None:
    """Tails of every side, a zero point for each column: exact."""
    import vitrify

    a, b = whole(left, 77, 205), whole(right, 205, 163)
    points = {"za": left(7), "zb": whole(right, 163)}
    model, feeds = node("MatMulInteger", {"a": a, "b": b, **points}, ("b", "zb"))
    want = (a.astype(np.int32) - int(points["za"])) @ (b.astype(np.int32) - points["zb"].astype(np.int32))
    for threads in (1, 2, 5):
        options = vitrify.SessionOptions()
        options.intra_op_num_threads = threads
        session = vitrify.InferenceSession(model.SerializeToString(), options)
        identical(session.run(None, feeds), [want])


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("QuantizeLinear", {"x": floats(4, 5), "s": np.ones((4, 5), np.float32)}, {}, "without block_size"),
    ("QuantizeLinear", {"x": floats(4, 5), "s": np.ones(5, np.float32)}, {"axis": 2}, "axis 2"),
    ("QuantizeLinear", {"x": floats(4, 5), "s": np.ones(4, np.float32)}, {"axis": 1}, "sizes differ"),
    ("QuantizeLinear", {"x": floats(4, 5), "s": np.ones((4, 2), np.float32)}, {"block_size": 2}, "sizes differ"),
    ("QuantizeLinear", {"x": floats(4), "s": scale(1)}, {"block_size": -1}, "block_size is -1"),
    ("QuantizeLinear", {"x": floats(4), "s": scale(1), "z": np.uint8(0)}, {"output_dtype": 3}, "output_dtype differs"),
    ("MatMulInteger", {"a": whole(np.uint8, 3, 4), "b": whole(np.uint8, 5, 6)}, {}, "sizes differ"),
    ("MatMulInteger", {"a": whole(np.uint8, 3, 4), "b": whole(np.uint8, 4, 6), "z": whole(np.uint8, 4)}, {}, "differ"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input(op: str, inputs: dict[str, Any], attributes: dict[str, Any], message: str) -> None:
    model, feeds = node(op, inputs, **attributes)
    with pytest.raises(InvalidModelError, match=message):
        run(model, feeds)


@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_padding_is_the_zero_point_on_every_target(left: Any, right: Any) -> None:
    channels = 3 if left is right else 33
    inputs = {
        "x": whole(left, 2, channels, 9, 7), "xs": scale(0.02), "xz": left(100),
        "w": whole(right, 12, channels, 3, 3), "ws": np.linspace(0.01, 0.03, 12).astype(np.float32),
        "wz": np.full(12, 0 if right is np.int8 else 128, right), "ys": scale(2.4), "yz": left(9),
    }  # fmt: skip
    model, feeds = node("QLinearConv", inputs, set(inputs) - {"x"}, pads=[1, 2, 1, 0])
    want = run(model, feeds)
    for name in byte_targets():
        identical(compiled(model, feeds, (name,)), want)

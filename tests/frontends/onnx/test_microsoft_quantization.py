"""Quantised ops of com.microsoft against onnxruntime, bit for bit where its kernels round once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify
from tests.frontends.onnx.agreement import MICROSOFT
from tests.frontends.onnx.models import run
from tests.frontends.onnx.quantized import agree, compiled, floats, node, scale, whole
from vitrify.errors import InvalidModelError, UnsupportedError

BYTES = [np.uint8, np.int8]


def same(op: str, inputs: dict[str, Any], constants: Collection[str] = (), **options: Any) -> None:
    agree(op, inputs, constants, domain=MICROSOFT, **options)


def steps_of(inputs: dict[str, Any]) -> set[str]:
    """The scales and zero points, which models hold as constants."""
    return {name for name in inputs if len(name) == 2}


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("shapes", [((40, 37), (37,)), ((5,), (5,)), ((3, 1, 4), (1, 7, 1)), ((0, 3), (3,))], ids=str)
def test_sums_and_products(dtype: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for points in ((0, 0, 0), (3, 100, 11)):
        inputs = {
            "a": whole(dtype, *shapes[0]), "as": scale(0.037), "az": dtype(points[0]),
            "b": whole(dtype, *shapes[1], seed=1), "bs": scale(0.021), "bz": dtype(points[1]),
            "cs": scale(0.055), "cz": dtype(points[2]),
        }  # fmt: skip
        for op in ("QLinearAdd", "QLinearMul"):
            same(op, inputs, steps_of(inputs))
            same(op, inputs)


@pytest.mark.parametrize("dtype", BYTES)
def test_activations(dtype: Any) -> None:
    x = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    inputs = {"x": x, "xs": scale(0.05), "xz": dtype(3), "ys": scale(1 / 256), "yz": dtype(0)}
    same("QLinearSigmoid", inputs, steps_of(inputs))
    same("QLinearLeakyRelu", inputs | {"ys": scale(0.04)}, steps_of(inputs), alpha=0.1)
    same("QLinearLeakyRelu", inputs | {"xz": None, "yz": None}, steps_of(inputs))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize(("opset", "axis"), [(12, 1), (12, 2), (13, -1), (13, 1)])
def test_softmax(dtype: Any, opset: int, axis: int) -> None:
    """onnxruntime sums a table of rounded powers: a step apart at most."""
    inputs = {
        "x": whole(dtype, 3, 5, 20), "xs": scale(0.03), "xz": dtype(3), "ys": scale(1 / 256),
        "yz": dtype(np.iinfo(dtype).min),
    }  # fmt: skip
    same("QLinearSoftmax", inputs, steps_of(inputs), steps=1, opset=opset, axis=axis)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("last", [0, 1])
def test_means(dtype: Any, last: int) -> None:
    x = whole(dtype, 2, 5, 13, 11)
    inputs = {"x": x, "xs": scale(0.05), "xz": dtype(3), "ys": scale(0.033), "yz": dtype(7)}
    same("QLinearGlobalAveragePool", inputs, steps_of(inputs), channels_last=last)
    pool = {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 0], "channels_last": last}
    for include in (0, 1):  # its floats may fall to either side of a tie
        same("QLinearAveragePool", inputs, steps_of(inputs), steps=1, count_include_pad=include, **pool)
    exact = (x.astype(np.float64) - 3).mean((1, 3), keepdims=True) * np.float32(0.05) / np.float32(0.033)
    info = np.iinfo(dtype)
    want = np.clip(np.rint(exact) + 7, info.min, info.max).astype(dtype)
    same("QLinearReduceMean", inputs, steps_of(inputs), expected=[want], axes=[1, 3], keepdims=1)


@pytest.mark.parametrize("dtype", BYTES)
def test_concat_and_where(dtype: Any) -> None:
    inputs = {"ys": scale(0.04), "yz": dtype(5)}
    for name, size, step in (("a", 40, 0.037), ("b", 61, 0.09), ("c", 6, 0.04)):
        inputs |= {name: whole(dtype, 3, size), name + "s": scale(step), name + "z": dtype(5)}
    same("QLinearConcat", inputs, steps_of(inputs), axis=-1)
    chosen = {
        "c": np.random.default_rng(0).random((30, 40)) < 0.5,
        "x": whole(dtype, 30, 40), "xs": scale(0.037), "xz": dtype(9),
        "y": whole(dtype, 40), "ys": scale(0.09), "yz": dtype(0), "zs": scale(0.04), "zz": dtype(5),
    }  # fmt: skip
    same("QLinearWhere", chosen, steps_of(chosen))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("across", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(dtype: Any, across: tuple[int, int]) -> None:
    a = whole(np.uint8, *((70, 33) if across[0] else (33, 70)))
    b = whole(dtype, *((44, 70) if across[1] else (70, 44)))
    bias = np.arange(-2200, 2200, 100, dtype=np.int32)
    turned = {"transA": across[0], "transB": across[1]}
    for constants in ((), ("b", "bz")):
        for steps, points in ((scale(0.01), dtype(9)), (np.linspace(0.01, 0.02, 44), whole(dtype, 44))):
            inputs = {
                "a": a, "as": scale(0.02), "az": np.uint8(77), "b": b, "bs": np.asarray(steps, np.float32),
                "bz": points, "c": bias,
            }  # fmt: skip
            same("QGemm", inputs | {"ys": scale(0.5), "yz": np.uint8(100)}, constants, **turned)
            same("QGemm", inputs, constants, alpha=0.7, **turned)


@pytest.mark.parametrize("dtype", BYTES)
def test_products_to_floats(dtype: Any) -> None:
    b, steps = whole(dtype, 70, 44), np.linspace(0.01, 0.02, 44).astype(np.float32)
    inputs = {
        "a": whole(np.uint8, 2, 33, 70), "b": b, "as": scale(0.02), "bs": steps, "az": np.uint8(77),
        "bz": whole(dtype, 44), "bias": floats(44),
    }  # fmt: skip
    same("MatMulIntegerToFloat", inputs)
    same("MatMulIntegerToFloat", inputs | {"az": None, "bz": None, "bias": None}, ("b",))
    dynamic = {"a": floats(3, 5, 70), "b": b, "bs": steps, "bz": whole(dtype, 44), "bias": floats(44)}
    same("DynamicQuantizeMatMul", dynamic)
    same("DynamicQuantizeMatMul", dynamic | {"bs": scale(0.01), "bz": dtype(4), "bias": None}, ("b", "bz"))


def test_linear_ops() -> None:
    x = floats(40, 50) * 9
    same("QuantizeLinear", {"x": x, "s": scale(0.07), "z": np.uint8(5)}, ("s", "z"))
    rows = {"s": np.linspace(0.1, 0.2, 40).astype(np.float32), "z": whole(np.int8, 40)}
    same("QuantizeLinear", {"x": x, **rows}, axis=0)
    same("DequantizeLinear", {"x": whole(np.int8, 40, 50), **rows}, axis=0)


def nbits(bits: int, points: str, index: bool, block: int = 32, rows: int = 24, depth: int = 64) -> dict[str, Any]:
    blocks = -(-depth // block)
    zeros = {"none": None, "packed": whole(np.uint8, rows * (-(-blocks * bits // 8))),
             "float": np.abs(floats(rows, blocks)) * 4}[points]  # fmt: skip
    return {
        "a": floats(3, 5, depth), "b": whole(np.uint8, rows, blocks, block * bits // 8),
        "s": np.abs(floats(rows * blocks)), "z": zeros,
        "g": np.random.default_rng(1).integers(0, blocks, depth).astype(np.int32) if index else None,
        "bias": floats(rows),
    }  # fmt: skip


@pytest.mark.parametrize("points", ["none", "packed", "float"])
@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize(("bits", "depth"), [(4, 64), (4, 100), (8, 64), (8, 100)])
def test_weights_of_a_few_bits(bits: int, points: str, index: bool, depth: int) -> None:
    """Against the definition, in float64: onnxruntime lacks some forms, and rounds others more coarsely."""
    inputs, block = nbits(bits, points, index, depth=depth), 32
    sizes = {"K": depth, "N": 24, "bits": bits, "block_size": block}
    model, feeds = node("MatMulNBits", inputs, ("b", "s", "z", "g", "bias"), domain=MICROSOFT, **sizes)
    blocks = -(-depth // block)
    numbers = _unpacked(inputs["b"], bits).reshape(24, -1)[:, :depth]
    middle = np.full((24, blocks), 1 << (bits - 1), np.float64)
    zeros = inputs["z"] if points == "float" else middle
    if points == "packed":
        zeros = _unpacked(inputs["z"].reshape(24, -1), bits)[:, :blocks]
    at = inputs["g"] if index else np.arange(depth) // block
    weights = (numbers - zeros[:, at]) * inputs["s"].reshape(24, -1)[:, at]
    want = inputs["a"].astype(np.float64) @ weights.T + inputs["bias"]
    for got in (run(model, feeds), compiled(model, feeds)):
        np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=2e-4 * float(np.abs(weights).max()))


@pytest.mark.parametrize(("bits", "points"), [(4, "none"), (4, "packed"), (8, "packed"), (2, "none")])
def test_large_weights_stay_codes(bits: int, points: str, tmp_path: Path) -> None:
    rows, depth, block = 200, 512, 32
    inputs = nbits(bits, points, False, block, rows, depth) | {"g": None}
    sizes = {"K": depth, "N": rows, "bits": bits, "block_size": block}
    model, feeds = node("MatMulNBits", inputs, ("b", "s", "z", "bias"), domain=MICROSOFT, **sizes)
    np.testing.assert_allclose(compiled(model, feeds)[0], run(model, feeds)[0], rtol=1e-5, atol=2e-3)
    vitrify.compile(model.SerializeToString()).save(tmp_path / "model.vit")
    weights = sum(f.stat().st_size for f in (tmp_path / "model.vit").rglob("weights*"))
    assert weights < rows * depth * (1 if bits < 8 else 1.6)  # f32 takes 4


def _unpacked(packed: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    if bits == 8:
        return packed.astype(np.float64)
    both = np.stack([packed & 15, packed >> 4], -1)
    return both.reshape(*packed.shape[:-1], -1).astype(np.float64)


BAD: list[tuple[str, dict[str, Any], dict[str, Any], type[Exception], str]] = [
    ("QLinearAdd", {"a": whole(np.uint8, 3), "as": np.ones(3, np.float32), "az": np.uint8(0), "b": whole(np.uint8, 3),
                    "bs": scale(1), "bz": np.uint8(0), "cs": scale(1), "cz": np.uint8(0)}, {}, InvalidModelError,
     "not of one element"),
    ("QLinearConcat", {"ys": scale(1), "yz": np.uint8(0), "a": whole(np.uint8, 3)}, {"axis": 0}, InvalidModelError,
     "three for each part"),
    ("MatMulNBits", nbits(4, "none", False), {"K": 64, "N": 24, "bits": 3, "block_size": 32}, UnsupportedError,
     "3 bits"),
    ("MatMulNBits", nbits(4, "none", False), {"K": 64, "N": 24, "bits": 4, "block_size": 33}, InvalidModelError,
     "block_size"),
    ("MatMulNBits", nbits(4, "none", False), {"K": 64, "N": 25, "bits": 4, "block_size": 32}, InvalidModelError,
     "sizes differ"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(
    op: str, inputs: dict[str, Any], attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    model, feeds = node(op, inputs, domain=MICROSOFT, **attributes)
    with pytest.raises(error, match=message):
        run(model, feeds)

"""ConvTranspose against onnxruntime: interpreted and compiled, over ranks, phases, cuts and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.frontends.onnx.agreement import agree, compiled
from tests.frontends.onnx.models import Shape, one_node
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx import import_onnx
from vitrify.frontends.onnx.ops.transposed_convolution import Phases

Array = np.ndarray[Any, Any]
Case = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

CASES: list[Case] = [
    ((1, 3, 5), (3, 2, 4), {"strides": [2], "pads": [1, 1]}),
    ((2, 3, 7), (3, 5, 16), {"strides": [8], "pads": [4, 4]}),  # cut to whole blocks
    ((2, 3, 7), (3, 5, 3), {"strides": [5]}),  # phases without any element of the kernel
    ((1, 2, 6), (2, 3, 3), {"strides": [3], "dilations": [2], "output_padding": [1]}),
    ((1, 2, 6), (2, 3, 3), {"strides": [4], "dilations": [2]}),  # half of the phases are empty
    ((1, 2, 6), (2, 3, 1), {"strides": [3], "output_padding": [2]}),
    ((1, 4, 1, 1), (4, 6, 4, 4), {}),
    ((2, 4, 5, 6), (4, 16, 2, 2), {"strides": [2, 2]}),  # the phases are one product
    ((1, 4, 5, 6), (4, 24, 2, 2), {"strides": [2, 2]}),
    ((1, 4, 5, 6), (4, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 16, 9, 8), (16, 16, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),  # Winograd's windows
    ((1, 17, 6, 7), (17, 32, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ((1, 16, 4, 5), (16, 16, 3, 5), {"strides": [1, 3], "pads": [2, 0, 0, 3], "dilations": [2, 1]}),
    ((1, 4, 5, 4), (4, 3, 3, 2), {"strides": [2, 3], "auto_pad": "SAME_UPPER", "dilations": [1, 3]}),
    ((1, 4, 5, 4), (4, 3, 3, 4), {"strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    ((1, 4, 5, 4), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [9, 7]}),
    ((2, 6, 5, 4), (6, 16, 3, 3), {"strides": [2, 2], "group": 3}),
    ((1, 5, 6, 7), (5, 1, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 5}),
    ((1, 3, 3, 4, 2), (3, 2, 2, 3, 2), {"strides": [2, 1, 2], "pads": [0, 1, 0, 0, 1, 1]}),
]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(case: Case, form: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """``form``: constant weights, weights that are fed, or symbolic sizes."""
    shape, kernel, attributes = case
    feeds, constants = {"x": floats(*shape)}, {"w": floats(*kernel, seed=1)}
    constants["b"] = floats(kernel[1] * attributes.get("group", 1), seed=2)
    if form == "fed":
        feeds, constants = {"x": feeds["x"], "w": constants["w"]}, {"b": constants["b"]}
    symbolic: dict[str, Shape] = {"x": ["n", shape[1], *(f"s{i}" for i in range(len(shape) - 2))]}
    sizes = symbolic if form == "symbolic" else None
    names = ["x", "w", "b"]
    return one_node("ConvTranspose", feeds, constants=constants, names=names, shapes=sizes, **attributes), feeds


@pytest.mark.parametrize("form", ["constant", "fed", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: "x".join(map(str, c[1])) + f"-{list(CASES).index(c)}")
def test_against_onnxruntime(case: Case, form: str) -> None:
    agree(*model(case, form), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", [CASES[7], CASES[10], CASES[11]])
def test_what_follows_is_computed_with_it(case: Case) -> None:
    """Scale, activation, a concat with another value, and a convolution, as decoders have them."""
    shape, kernel, attributes = case
    rng = np.random.default_rng(3)
    filters = kernel[1]
    held = {
        "w": floats(*kernel, seed=1), "s": rng.uniform(0.5, 2, (filters, 1, 1)).astype(np.float32),
        "v": floats(8, 2 * filters, 3, 3, seed=4) / 8,
    }  # fmt: skip
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["up"], **attributes),
        helper.make_node("Mul", ["up", "s"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["act"]),
        helper.make_node("Concat", ["act", "scaled"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    x = floats(*shape)
    given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in ("y", "act")]
    initial = [onnx.numpy_helper.from_array(a, name) for name, a in held.items()]
    graph = helper.make_graph(nodes, "decoder", given, results, initial)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    agree(whole, {"x": x}, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype: type) -> None:
    x: Array = floats(1, 3, 5, 4).astype(dtype)
    w: Array = floats(3, 16, 3, 3, seed=1).astype(dtype)
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    wide = one_node("ConvTranspose", {"x": x.astype(np.float32)}, constants={"w": w.astype(np.float32)}, **attributes)
    (right,) = compiled(wide, {"x": x.astype(np.float32)})
    (found,) = compiled(one_node("ConvTranspose", {"x": x}, constants={"w": w}, **attributes), {"x": x})
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(np.float32), right, rtol=2e-3, atol=5e-3 if dtype == np.float16 else 1e-5)


def test_nothing_is_multiplied_by_zeros_between_elements() -> None:
    """Where the kernel is a multiple of the stride, windows hold as many elements as a phase takes."""
    assert Phases.of(4, 2, 1, 0) == Phases(2, -1, 1, ((2, 0), (3, 1)))
    assert Phases.of(4, 2, 1, 1).window == 3
    assert [Phases.of(k, s, 1, 0).window for k, s in ((2, 2), (3, 2), (16, 8), (1, 5))] == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strides": [0, 1]}, "strides is"),
        ({"group": 2}, "channels in 2 groups"),
        ({"pads": [1, 1, 1]}, "pads are"),
        ({"output_padding": [1]}, "output_padding is"),
        ({"output_shape": [1, 2, 3]}, "output_shape is"),
    ],
)
def test_what_does_not_fit_is_refused(attributes: dict[str, Any], message: str) -> None:
    bad = one_node("ConvTranspose", {"x": floats(1, 3, 4, 4)}, constants={"w": floats(3, 2, 3, 3)}, **attributes)
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(bad)

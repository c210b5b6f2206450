"""Named dims through the ops: shape arithmetic leaves no run-time tensor, and equal sizes become one dim."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from tests.frontends.onnx.models import assert_same, run_peer
from vitrify.errors import InvalidArgumentError, InvalidModelError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.graph import BindDim, Concat, DimValue, Graph, Reduce
from vitrify.ir.interpret import InterpretError, interpret

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def imported(text: str, **options: Any) -> Graph:
    return import_onnx(parser.parse_model(HEAD + text), **options)


def types(graph: Graph) -> list[str]:
    return [str(v.type) for v in graph.outputs]


SHAPES = [
    ("float[n, c] x", "y = Transpose(x)", "f32[c, n]"),
    ("float[n, 3, h, w] x", "y = Flatten(x)", "f32[n, 3*h*w]"),
    ("float[n, 8] x", "y = Reshape <allowzero = 0> (x, s)", "f32[n, 2, 4]"),
    ("float[n, 3, 8, 8] x", "y = GlobalAveragePool(x)", "f32[n, 3, 1, 1]"),
    (
        "float[n, 3, h] x", "y = MaxPool <kernel_shape = [3], strides = [2], pads = [1, 1]> (x)",
        "f32[n, 3, ((h+1)//(2))]",
    ),
    (
        "float[n, 3, h] x", 'y = AveragePool <kernel_shape = [2], auto_pad = "SAME_UPPER"> (x)',
        "f32[n, 3, h]",
    ),
    ("float[n, m] x", "y = Softmax(x)", "f32[n, m]"),
    ("float[n, m] x", "y = Concat <axis = 1> (x, x, x)", "f32[n, 3*m]"),
    ("float[n, m] x", "y = ReduceMean <axes = [1], keepdims = 0> (x)", "f32[n]"),
    ("float[n, m] x", "t = Shape(x) y = Cast <to = 1> (t)", "f32[2]"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "body", "expected"), SHAPES)
def test_inferred_shapes(inputs: str, body: str, expected: str) -> None:
    weights = "<int64[3] s = {0, 2, -1}>" if "(x, s)" in body else ""
    nodes = body.replace(") y", ")\n y")
    assert types(imported(f"agraph ({inputs}) => (float[] y) {weights} {{ {nodes} }}")) == [expected]


FOLD_HEADS = """agraph (float[b, s, 384] x) => (float[] y) {
    shape = Shape(x)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    heads = Constant <value_ints = [12]> ()
    rest = Constant <value_ints = [-1]> ()
    axes = Constant <value_ints = [0]> ()
    b0 = Gather(shape, zero)
    s0 = Gather(shape, one)
    b1 = Unsqueeze(b0, axes)
    s1 = Unsqueeze(s0, axes)
    target = Concat <axis = 0> (b1, s1, heads, rest)
    split = Reshape(x, target)
    y = Transpose <perm = [0, 2, 1, 3]> (split)
}"""

COMPUTED = """agraph (float[b, s] x) => (float[] y) {
    shape = Shape(x)
    size = Size(x)
    total = ReduceProd <keepdims = 0> (shape)
    same = Equal(size, total)
    two = Constant <value_int = 2> ()
    three = Constant <value_int = 3> ()
    doubled = Mul(total, two)
    half = Div(doubled, two)
    chosen = Where(same, half, three)
    axes = Constant <value_ints = [0]> ()
    flat = Unsqueeze(chosen, axes)
    y = Reshape(x, flat)
}"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [(FOLD_HEADS, "f32[b, 12, s, 32]"), (COMPUTED, "f32[b*s]")],
    ids=["heads", "computed"],
)
def test_shape_arithmetic_is_symbolic(text: str, expected: str) -> None:
    graph = imported(text)
    assert types(graph) == [expected]
    assert not any(isinstance(n.op, Concat | DimValue | BindDim | Reduce) for n in graph.walk())


def test_contents_are_made_only_for_those_who_compute_with_them() -> None:
    graph = imported("agraph (float[b, s] x) => (int64[2] y, float[] z) { y = Shape(x) z = Relu(x) }")
    assert sum(isinstance(n.op, DimValue) for n in graph.nodes) == 2
    (shape, _) = interpret(graph, [np.zeros((3, 5), np.float32)])
    assert shape.tolist() == [3, 5]


def test_sizes_without_a_name_are_called_after_their_input() -> None:
    text = "agraph (float[?, 3, k] x, float[N] lambda) => (float[] y) { y = Relu(x) }"
    graph = imported(text)
    assert [str(v.type) for v in graph.inputs] == ["f32[x_0, 3, k]", "f32[N]"]
    assert set(graph.symbols) == {"x_0", "k", "N"}


def test_equal_sizes_become_one_dim() -> None:
    graph = imported("agraph (float[a, 4] x, float[?, 4] z) => (float[] y) { y = Add(x, z) }")
    assert [str(v.type) for v in graph.inputs] == ["f32[a, 4]", "f32[a, 4]"]
    assert not graph.assumptions
    with pytest.raises(InterpretError):
        interpret(graph, [np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)])


def test_a_size_that_must_be_a_constant_becomes_it() -> None:
    graph = imported("agraph (float[a, k] x) => (float[] y) <float[4, 2] w = {0,1,2,3,4,5,6,7}> { y = MatMul(x, w) }")
    assert [str(v.type) for v in graph.inputs] == ["f32[a, 4]"]


def test_a_size_that_must_be_a_sum_becomes_it() -> None:
    text = """agraph (float[past, 4] p, float[new, 4] n, float[total, 4] m) => (float[] y) {
        c = Concat <axis = 0> (p, n)
        y = Add(c, m)
    }"""
    assert [str(v.type) for v in imported(text).inputs] == ["f32[past, 4]", "f32[new, 4]", "f32[new+past, 4]"]


def test_a_table_bounds_the_size_it_is_cut_to() -> None:
    text = """agraph (float[n, s] x) => (float[] y) <float[1, 6] table = {0,1,2,3,4,5}> {
        shape = Shape <start = 1> (x)
        from = Constant <value_ints = [0]> ()
        axis = Constant <value_ints = [1]> ()
        part = Slice(table, from, shape, axis)
        y = Add(x, part)
    }"""
    graph = imported(text)
    assert types(graph) == ["f32[n, s]"]
    assert not graph.assumptions
    ((symbol,), _), *_ = graph.symbols["s"].terms
    assert getattr(symbol, "hi", None) == 6


def test_broadcast_of_one_against_a_dim() -> None:
    graph = imported("agraph (float[a, 1] x, float[1, b] z) => (float[] y) { y = Mul(x, z) }")
    assert types(graph) == ["f32[a, b]"]


@pytest.mark.parametrize("sizes", [(1, 1), (2, 7), (0, 3), (5, 1)])
def test_dynamic_attention_mask(sizes: tuple[int, int]) -> None:
    text = """agraph (int64[b, s] mask) => (float[b, 1, s, s] y) {
        shape = Shape(mask)
        zero = Constant <value_ints = [0]> ()
        one = Constant <value_ints = [1]> ()
        b = Gather(shape, zero)
        s = Gather(shape, one)
        target = Concat <axis = 0> (b, one, s, s)
        axes = Constant <value_ints = [1, 2]> ()
        wide = Unsqueeze(mask, axes)
        full = Expand(wide, target)
        kept = Cast <to = 1> (full)
        y = Neg(kept)
    }"""
    model = parser.parse_model(HEAD + text)
    feeds = {"mask": np.arange(sizes[0] * sizes[1]).reshape(sizes) % 2}
    assert_same(interpret(import_onnx(model), feeds), run_peer(model, feeds))


# Shapes and numbers that the caller gives.
LINEAR = "agraph (float[n, ?, 4] x) => (float[] y) { y = Relu(x) }"


def test_input_shapes_replace_what_is_declared() -> None:
    assert types(imported(LINEAR, input_shapes={"x": [2, "k", 4]})) == ["f32[2, k, 4]"]
    assert types(imported(LINEAR, input_shapes={"x": (None, None, "m")})) == ["f32[x_0, x_1, m]"]


def test_dim_overrides_give_numbers() -> None:
    assert types(imported(LINEAR, dim_overrides={"n": 7})) == ["f32[7, x_1, 4]"]
    assert types(imported(LINEAR, dim_overrides={"x_1": 0})) == ["f32[n, 0, 4]"]


@pytest.mark.parametrize(
    "options",
    [
        {"input_shapes": {"z": [1]}},
        {"input_shapes": {"x": [1, 2]}},
        {"dim_overrides": {"m": 1}},
        {"dim_overrides": {"n": -1}},
        {"dim_overrides": {"n": "3"}},
        {"input_shapes": {"x": [1, -2, 4]}},
    ],
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidArgumentError, InvalidModelError)):
        imported(LINEAR, **options)


def test_an_input_without_a_rank_needs_one() -> None:
    model = parser.parse_model(HEAD + "agraph (float[2] x) => (float[] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert [str(v.type) for v in import_onnx(model, input_shapes={"x": [5]}).outputs] == ["f32[5]"]


def test_initializers_that_are_inputs_are_constants() -> None:
    model = parser.parse_model(
        HEAD + "agraph (float[2] x, float[2] w) => (float[] y) <float[2] w = {1, 2}> { y = Add(x, w) }"
    )
    assert isinstance(model, onnx.ModelProto)
    assert [v.name for v in import_onnx(model).inputs] == ["x"]

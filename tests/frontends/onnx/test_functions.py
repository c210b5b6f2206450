"""Functions of models, and ops without a rule through the functions that define them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper

import vitrify
from tests.frontends.onnx.agreement import agree, node_model
from tests.frontends.onnx.models import Array, assert_same, check, model_of, run, value_info
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx import import_onnx

HEAD = '<ir_version: 10, opset_import: ["" : 17, "local" : 1, "other" : 1]>\n'
LOCAL = '<domain: "local", opset_import: ["" : 17, "local" : 1, "other" : 1]>\n'
OTHER = '<domain: "other", opset_import: ["" : 17]>\n'
X = np.asarray([[-2.0, 0.5, 3.0], [1.0, -1.0, 0.0]], np.float32)


def model(graph: str, *functions: str) -> onnx.ModelProto:
    return onnx.parser.parse_model("\n".join([HEAD + graph, *functions]))


def test_functions_that_call_functions() -> None:
    proto = model(
        "g (float[n, 3] x) => (float[n, 3] y) { a = local.twice (x) y = local.twice (a) }",
        LOCAL + "twice (p) => (r) { q = other.step (p) r = other.step (q) }",
        OTHER + "step (p) => (r) { q = Sin (p) r = Add (p, q) }",
    )
    check(proto, {"x": X})


def test_attributes_and_their_defaults() -> None:
    proto = model(
        """g (float[n, 3] x) => (float[n, 3] y, float[n, 3] z, float[n, 3] w)
        { y = local.f <slope = 0.5> (x) z = local.f (x) w = local.f <slope = 0.25, axis = 0> (x) }""",
        LOCAL
        + """f <axis: int = 1, slope: float = 0.1> (p) => (r) {
            q = LeakyRelu <alpha: float = @slope> (p)
            r = local.h <axis: int = @axis> (q)
        }""",
        LOCAL + "h <axis> (p) => (r) { r = Softmax <axis: int = @axis> (p) }",
    )
    check(proto, {"x": X})


def test_attributes_inside_branches_of_functions() -> None:
    proto = model(
        "g (float[n, 3] x, bool c) => (float[n, 3] y) { y = local.f <slope = 0.5> (c, x) }",
        LOCAL
        + """f <slope> (c, p) => (r) {
            s = Neg (p)
            r = If (c) <
                then_branch = t () => (a) { a = LeakyRelu <alpha: float = @slope> (s) },
                else_branch = e () => (b) { b = LeakyRelu <alpha: float = @slope> (p) }
            >
        }""",
    )
    for c in (True, False):
        got = run(proto, {"x": X, "c": np.asarray(c)})
        x = -X if c else X
        assert_same(got, [np.where(x < 0, np.float32(0.5) * x, x)])


def test_inputs_and_outputs_that_calls_leave_out() -> None:
    proto = model(
        'g (float[n, 3] x) => (float[n, 3] y) { y = local.f (x, "", x) }',
        LOCAL + "f (p, low, high) => (r, s) { r = Clip (p, low, high) s = Neg (p) }".replace("high)  {", "high) {"),
    )
    proto.functions[0].node[0].input[2] = ""
    assert_same(run(proto, {"x": X}), [X])


def test_names_are_a_functions_own() -> None:
    proto = model(
        "g (float[n, 3] x) => (float[n, 3] z) { y = Exp (x) z = local.f (y) }",
        LOCAL + "f (x) => (z) { y = Neg (x) z = Mul (x, y) }",
    )
    check(proto, {"x": X})
    proto.functions[0].node[0].input[0] = "w"
    with pytest.raises(InvalidModelError, match="'w'"):
        import_onnx(proto)


def test_overloads() -> None:
    proto = model(
        "g (float[n, 3] x) => (float[n, 3] y, float[n, 3] z) { y = local.f (x) z = local.f (x) }",
        LOCAL + "f (p) => (r) { r = Neg (p) }",
        LOCAL + "f (p) => (r) { r = Exp (p) }",
    )
    proto.functions[1].overload = "exp"
    proto.graph.node[1].overload = "exp"
    assert_same(run(proto, {"x": X}), [-X, np.exp(X)])
    proto.functions[1].overload = ""
    with pytest.raises(InvalidModelError, match="defined twice"):
        import_onnx(proto)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (("f (p) => (r) { q = other.h (p) r = Neg (q) }", "h (p) => (r) { r = local.f (p) }"), "f -> h -> f"),
        (("f (p) => (r) { r = local.f (p) }", "h (p) => (r) { r = Neg (p) }"), "f -> f"),
    ],
)
def test_recursion_is_refused(functions: tuple[str, str], message: str) -> None:
    other = OTHER.replace("17]", '17, "local" : 1]')
    proto = model(
        "g (float[n, 3] x) => (float[n, 3] y) { y = local.f (x) }", LOCAL + functions[0], other + functions[1]
    )
    with pytest.raises(InvalidModelError, match=f"calls itself.*{message}"):
        import_onnx(proto)


def test_calls_that_multiply_are_refused() -> None:
    """Forty functions that call the next one twice would be a trillion nodes."""
    functions = [
        LOCAL + f"f{i} (p) => (r) {{ q = local.f{i + 1} (p) r = local.f{i + 1} (q) }}" for i in range(40)
    ]
    last = LOCAL + "f40 (p) => (r) { r = Neg (p) }"
    proto = model("g (float[n, 3] x) => (float[n, 3] y) { y = local.f0 (x) }", *functions, last)
    with pytest.raises(InvalidModelError, match="too many nodes"):
        import_onnx(proto)


def test_long_chains_of_calls_are_refused() -> None:
    functions = [LOCAL + f"f{i} (p) => (r) {{ r = local.f{i + 1} (p) }}" for i in range(1000)]
    last = LOCAL + "f1000 (p) => (r) { r = Neg (p) }"
    proto = model("g (float[n, 3] x) => (float[n, 3] y) { y = local.f0 (x) }", *functions, last)
    with pytest.raises(InvalidModelError, match="nested more than"):
        import_onnx(proto)


def test_calls_with_too_many_inputs() -> None:
    proto = model(
        "g (float[n, 3] x) => (float[n, 3] y) { y = local.f (x, x) }", LOCAL + "f (p) => (r) { r = Neg (p) }"
    )
    with pytest.raises(InvalidModelError, match="too many inputs"):
        import_onnx(proto)


def nested(depth: int) -> onnx.ModelProto:
    """Branches inside each other."""
    proto = helper.make_model(helper.make_graph([], "g", [value_info("c", np.asarray(True))], []), ir_version=8)
    graph = proto.graph
    for k in range(depth):
        node = graph.node.add(op_type="If", input=["c"], output=[f"y{k}"])
        graph.output.add(name=f"y{k}")
        other = node.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH).g
        other.node.add(op_type="Identity", input=["c"], output=[f"e{k}"])
        other.output.add(name=f"e{k}")
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    graph.node.add(op_type="Identity", input=["c"], output=["last"])
    graph.output.add(name="last")
    return proto


@pytest.mark.parametrize("depth", [100, 1000, 20000])
def test_graphs_nested_too_deep_are_refused(depth: int) -> None:
    for read in (import_onnx, vitrify.compile):
        with pytest.raises(InvalidModelError, match="nested more than"):
            read(nested(depth))


def test_graphs_nested_as_deep_as_allowed() -> None:
    c = np.asarray(True)
    assert_same(run(nested(32), {"c": c}), [c])


def scores(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("op", ["BlackmanWindow", "HammingWindow", "HannWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op: str, periodic: int) -> None:
    feeds = {"n": np.asarray(13)}
    agree(node_model(op, feeds, types={"y": np.dtype(np.float32)}, periodic=periodic), feeds)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("attributes", [{}, {"ignore_index": 2}])
def test_losses(reduction: str, attributes: dict[str, Any]) -> None:
    labels = np.asarray([[0, 2, 1], [3, 2, 0]])
    for weights in (None, scores(4)):
        for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"):
            feeds = {"x": scores(2, 4, 3), "labels": labels, "w": weights}
            agree(node_model(op, feeds, reduction=reduction, **attributes), feeds)


def test_a_definition_is_taken_where_there_is_no_rule() -> None:
    """FlexAttention has graphs as attributes, and a definition alone."""
    q = scores(1, 2, 3, 4)
    node = helper.make_node("FlexAttention", ["q", "q", "q"], ["y"], domain="ai.onnx.preview")
    proto = model_of([node], [value_info("q", q)], ["y"], opset=24, ir_version=10)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.preview", 1))
    weights = q @ q.swapaxes(-1, -2) / 2
    weights = np.exp(weights - weights.max(-1, keepdims=True))
    assert_same(run(proto, {"q": q}), [weights / weights.sum(-1, keepdims=True) @ q])

"""If: decided by constants, by shapes, by what the types allow, and at run time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from tests.frontends.onnx.models import assert_same, run_peer
from vitrify.errors import InvalidModelError, UnsupportedError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.graph import Graph, If
from vitrify.ir.interpret import InterpretError, interpret

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def model_of(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def branches(then: str, otherwise: str) -> str:
    return f"then_branch = t () => (float[] a) {{ {then} }}, else_branch = e () => (float[] b) {{ {otherwise} }}"


def has_if(graph: Graph) -> bool:
    return any(isinstance(n.op, If) for n in graph.walk())


def test_at_run_time_with_captures() -> None:
    model = model_of(f"""agraph (bool c, float[2, 3] x, float[3] z) => (float[2, 3] y)
    <float[3] w = {{1, 2, 3}}> {{
        s = Mul(x, w)
        y = If (c) <{branches("a = Add(s, z)", "u = Sub(x, w) b = Mul(u, s)")}>
    }}""")
    graph = import_onnx(model)
    assert has_if(graph)
    for c in (False, True):
        feeds = {
            "c": np.array(c),
            "x": np.arange(6, dtype=np.float32).reshape(2, 3),
            "z": np.ones(3, np.float32),
        }
        assert_same(interpret(graph, feeds), run_peer(model, feeds))


def test_branches_inside_branches() -> None:
    inner = branches("a = Relu(x)", "b = Neg(x)").replace("a =", "ia =").replace("(float[] a)", "(float[] ia)")
    inner = inner.replace("b =", "ib =").replace("(float[] b)", "(float[] ib)")
    model = model_of(f"""agraph (bool c, bool d, float[n] x) => (float[n] y) {{
        y = If (c) <{branches(f"a = If (d) <{inner}>", "b = Add(x, x)")}>
    }}""")
    graph = import_onnx(model)
    for c in (False, True):
        for d in (False, True):
            feeds = {"c": np.array(c), "d": np.array(d), "x": np.array([-1, 2], np.float32)}
            assert_same(interpret(graph, feeds), run_peer(model, feeds))


def test_a_constant_picks_the_branch() -> None:
    text = "agraph (float[2] x) => (float[] y) <bool c = {1}> {"
    graph = import_onnx(model_of(text + f" y = If (c) <{branches('a = Relu(x)', 'b = Unknown(x)')}> }}"))
    assert not has_if(graph)


def test_a_rank_picks_the_branch() -> None:
    text = """agraph (float[n, m] x) => (float[] y) <int64 two = {2}, int64[1] at = {0}> {
        s = Shape(x)
        rank = Size(s)
        c = Equal(rank, two)"""
    graph = import_onnx(model_of(text + f" y = If (c) <{branches('a = Unsqueeze(x, at)', 'b = Identity(x)')}> }}"))
    assert [str(v.type) for v in graph.outputs] == ["f32[1, n, m]"]
    assert not has_if(graph)


SQUEEZE = """agraph (float[n, k, 3] x) => (float[] y)
<int64[1] at = {{1}}, int64[1] one = {{1}}, float[3, 2] w = {{1,2,3,4,5,6}}> {{
    s = Shape(x)
    size = Gather(s, at)
    c = Equal(size, one)
    u = If (c) <{branches}>
    {rest}
}}"""


def test_types_decide_and_the_size_becomes_a_constant() -> None:
    graph = import_onnx(
        model_of(SQUEEZE.format(branches=branches("a = Squeeze(x, at)", "b = Identity(x)"), rest="y = MatMul(u, w)"))
    )
    assert [str(v.type) for v in graph.inputs] == ["f32[n, 1, 3]"]
    assert [str(v.type) for v in graph.outputs] == ["f32[n, 2]"]


def test_the_other_branch_where_the_first_does_not_fit() -> None:
    rest = "y = Conv <kernel_shape = [1]> (u, f)"
    text = SQUEEZE.format(branches=branches("a = Squeeze(x, at)", "b = Identity(x)"), rest=rest)
    text = text.replace("float[3, 2] w = {1,2,3,4,5,6}", "float[1, 2, 1] f = {1, 1}")
    graph = import_onnx(model_of(text))
    assert [str(v.type) for v in graph.inputs] == ["f32[n, 2, 3]"]
    assert [str(v.type) for v in graph.outputs] == ["f32[n, 1, 3]"]


def test_an_expression_is_assumed_and_checked_at_run_time() -> None:
    """The number of windows decides; it is no dim of its own."""
    text = f"""agraph (float[n, 1, t] x) => (float[] y)
    <int64[1] at = {{2}}, int64[1] one = {{1}}, float[2, 1, 3] f = {{1,2,3,4,5,6}}> {{
        v = Conv <strides = [2]> (x, f)
        s = Shape(v)
        size = Gather(s, at)
        c = Equal(size, one)
        y = If (c) <{branches("a = Squeeze(v, at)", "b = Identity(v)")}>
    }}"""
    graph = import_onnx(model_of(text))
    assert [str(v.type) for v in graph.outputs] == ["f32[n, 2]"]
    assert [str(b) for _, b in graph.assumptions] == ["1"]
    assert interpret(graph, [np.ones((2, 1, 4), np.float32)])[0].shape == (2, 2)
    with pytest.raises(InterpretError):
        interpret(graph, [np.ones((2, 1, 6), np.float32)])


def test_a_size_of_the_result_that_shapes_decide() -> None:
    """Both branches are kept where their results differ in size alone."""
    text = f"""agraph (float[n, 3] x) => (float[] y) <int64 four = {{4}}> {{
        s = Shape <start = 0, end = 1> (x)
        c = Less(s, four)
        y = If (c) <{branches("a = Concat <axis = 0> (x, x)", "b = Relu(x)")}>
    }}"""
    graph = import_onnx(model_of(text))
    assert has_if(graph)
    for n in (2, 3, 4, 5):
        (y,) = interpret(graph, [np.ones((n, 3), np.float32)])
        assert y.shape == (2 * n if n < 4 else n, 3)


def test_results_of_different_rank_at_run_time_are_refused() -> None:
    both = branches("a = ReduceSum(x)", "b = Concat <axis = 0> (x, x)")
    text = f"agraph (bool c, float[2] x) => (float[] y) {{ y = If (c) <{both}> }}"
    with pytest.raises(UnsupportedError, match="branches of different shapes"):
        import_onnx(model_of(text))


def test_no_choice_fits() -> None:
    rest = "y = Conv <kernel_shape = [1]> (u, f)"
    text = SQUEEZE.format(branches=branches("a = Squeeze(x, at)", "b = Squeeze(a0, at) "), rest=rest)
    text = text.replace("float[3, 2] w = {1,2,3,4,5,6}", "float[1, 2, 1] f = {1, 1}, float[5] a0 = {1,2,3,4,5}")
    with pytest.raises(InvalidModelError):
        import_onnx(model_of(text))


def test_functions_of_the_model() -> None:
    text = """agraph (float[n] x) => (float[n] y) { y = local.scaled <by = 3.0> (x, x) }
    <domain: "local", opset_import: ["" : 17]>
    scaled <by> (p, q) => (r) {
        k = Constant <value_float: float = @by> ()
        s = Add(p, q)
        r = Mul(s, k)
    }"""
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n' + text)
    (y,) = interpret(import_onnx(model), [np.array([1, 2], np.float32)])
    assert y.tolist() == [6.0, 12.0]

"""Graphs that no text can describe: the verifier names what is wrong and where."""

from __future__ import annotations

import numpy as np
import pytest

from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, F32, F64, I64
from vitrify.ir.graph import Graph, Node, Type, Value, make_node
from vitrify.ir.verify import IRError, verify


def _refuses(graph: Graph, *messages: str) -> str:
    with pytest.raises(IRError) as raised:
        verify(graph)
    for message in messages:
        assert message in str(raised.value)
    return str(raised.value)


def test_a_good_graph_passes() -> None:
    n, b = Dim.symbol("n", 1), Builder()
    x = parameter("x", F32, (n, 3))
    verify(b.build([x], [b.reduce("sum", b.map("exp", x), [1])], symbols={"n": n}))


def test_nodes_out_of_order() -> None:
    x = parameter("x", F32, (2,))
    first = make_node(g.Map("exp"), [x])
    second = make_node(g.Map("neg"), [first.output], "Neg 'n'")
    text = _refuses(Graph((x,), (second.output,), [second, first]), "input 0 is used before it is defined")
    lines = text.splitlines()
    caret = next(i for i, line in enumerate(lines) if "^" in line)
    assert "map.neg" in lines[caret - 1]
    assert "Neg 'n'" in lines[caret - 1]


def test_cycles() -> None:
    x = parameter("x", F32, (2,))
    first = make_node(g.Map("add"), [x, x])
    second = make_node(g.Map("neg"), [first.output])
    first.inputs = (x, second.output)
    _refuses(Graph((x,), (second.output,), [first, second]), "depends on this node: the graph is cyclic")


def test_a_graph_inside_itself() -> None:
    x, c = parameter("x", F32, (2,)), parameter("c", BOOL, ())
    graph = Graph((c, x), (x,), [])
    node = Node(g.If(graph, graph), (c, c, x), (), "If")
    node.outputs = (Value(x.type, "", node, 0),)
    graph.nodes.append(node)
    _refuses(graph, "a body holds the graph that it is part of", "the graph that holds it")


def test_values_of_other_graphs() -> None:
    x, c = parameter("x", F32, (2,)), parameter("c", BOOL, ())
    bodies = []
    for fn in ("exp", "neg"):
        inner = Builder()
        bodies.append(inner.build([], [inner.map(fn, x)]))
    b = Builder()
    (y,) = b.add(g.If(*bodies), c)
    text = _refuses(b.build([c, x], [y]), "input 0 (f32[2]) belongs to another graph")
    assert text.count("belongs to another graph") == 2


def test_an_output_that_nothing_defines() -> None:
    x = parameter("x", F32, (2,))
    _refuses(
        Graph((x,), (parameter("y", F32, (3,)),), []), "an output of the graph (f32[3]) is defined nowhere"
    )


def test_declared_types_are_checked() -> None:
    x = parameter("x", F32, (2,))
    node = make_node(g.Map("exp"), [x])
    node.output.type = Type(F64, (2,))
    _refuses(Graph((x,), (node.output,), [node]), "map gives f32[2], declared as f64[2]")


def test_strided_constants() -> None:
    value = np.zeros((4, 6), np.float32)[:, ::2]
    node = make_node(g.Constant(value), [])
    _refuses(Graph((), (node.output,), [node]), "the constant is not C-contiguous")


def test_constants_of_foreign_types() -> None:
    node = make_node(g.Constant(np.zeros(2, np.float32)), [])
    node.op = g.Constant(np.zeros(2, np.complex64))
    _refuses(Graph((), (node.output,), [node]), "complex64 is no element type of tensors")


def test_unknown_dims() -> None:
    x = parameter("x", F32, (Dim.symbol("n"),))
    _refuses(Graph((x,), (x,), []), "dim 'n' is not declared")


def test_dims_of_other_bounds() -> None:
    x = parameter("x", F32, (Dim.symbol("n", 1, 8),))
    graph = Graph((x,), (x,), [], symbols={"n": Dim.symbol("n")})
    _refuses(graph, "dim 'n' is 1..8 here and 0.. where it is declared")


@pytest.mark.parametrize("name", ["batch size", "lambda", "é", "1n", ""])
def test_names_of_dims(name: str) -> None:
    _refuses(Graph((), (), [], symbols={name: Dim.symbol(name)}), f"declares the dim {name!r}")


def test_a_run_time_dim_is_known_after_its_binding() -> None:
    b = Builder()
    x, k = parameter("x", I64, ()), Dim.symbol("k")
    bound = b.one(g.BindDim("k"), x)
    y = b.iota((k,), 0)
    verify(b.build([x], [bound, y]))
    b.nodes.reverse()
    _refuses(b.build([x], [bound, y]), "dim 'k' is not declared")


def test_names_of_outputs() -> None:
    x = parameter("x", F32, (2,))
    _refuses(Graph((x,), (x,), [], output_names=("a", "b")), "has 1 outputs and 2 names for them")


def test_a_value_given_twice() -> None:
    x = parameter("x", F32, (2,))
    _refuses(Graph((x, x), (x,), []), "the graph takes this value twice")


def test_a_node_listed_twice() -> None:
    x = parameter("x", F32, (2,))
    node = make_node(g.Map("exp"), [x])
    _refuses(Graph((x,), (node.output,), [node, node]), "result 0 is defined twice")


def test_structures_outside_the_closed_set() -> None:
    class Sort(g.Op):
        pass

    x = parameter("x", F32, (2,))
    node = Node(Sort(), (x,), ())
    node.outputs = (Value(x.type, "", node, 0),)
    _refuses(Graph((x,), (node.output,), [node]), "Sort is no structure of the graph IR")

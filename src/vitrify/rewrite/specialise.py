"""Shape specialisation: named dims become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from vitrify.errors import InvalidArgumentError, ShapeError
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, lower, substitute, upper
from vitrify.ir.graph import Graph, Node, Op, Type, Value, make_node


def specialise(graph: Graph, dims: Mapping[str, int]) -> Graph:
    """``graph`` for runs where the named dims have these values; optimise it afterwards.

    Input and output names stay. InvalidArgumentError for a dim the graph has not, or a size out of its
    bounds; ShapeError where the graph assumes something that these sizes contradict."""
    for name, size in dims.items():
        if name not in graph.symbols:
            known = ", ".join(graph.symbols) or "none"
            raise InvalidArgumentError(f"no dim {name!r}", expected=f"one of the graph's dims ({known})")
        low, high = lower(graph.symbols[name]), upper(graph.symbols[name])
        if size < (low or 0) or (high is not None and size > high):
            raise InvalidArgumentError(
                f"dim {name!r} is out of bounds", expected=f"{low} .. {high}", actual=size
            )
    assumptions = [(substitute(a, dims), substitute(b, dims)) for a, b in graph.assumptions]
    for left, right in assumptions:
        if isinstance(left, int) and isinstance(right, int) and left != right:
            raise ShapeError(
                "these dims contradict the model", expected=f"{left} == {right}", actual=dict(dims)
            )
    result = _graph(graph, dims)
    result.symbols = {name: dim for name, dim in graph.symbols.items() if name not in dims}
    result.assumptions = [(a, b) for a, b in assumptions if a != b]
    return result


def _graph(graph: Graph, dims: Mapping[str, int]) -> Graph:
    table: dict[Value, Value] = {}
    for value in graph.inputs:
        shape = tuple(substitute(n, dims) for n in value.shape)
        table[value] = Value(Type(value.dtype, shape), value.name)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = [table[v] for v in node.inputs]
        fresh = make_node(_op(node.op, dims), inputs, node.source, [v.name for v in node.outputs])
        nodes.append(fresh)
        table.update(zip(node.outputs, fresh.outputs, strict=True))
    outputs = tuple(table[v] for v in graph.outputs)
    return replace(graph, inputs=tuple(table[v] for v in graph.inputs), outputs=outputs, nodes=nodes)


def _op(op: Op, dims: Mapping[str, int]) -> Op:
    if isinstance(op, g.Constant):
        return op
    changed = {f.name: _field(getattr(op, f.name), dims) for f in fields(op)}
    return replace(op, **changed)


def _field(value: Any, dims: Mapping[str, int]) -> Any:
    if isinstance(value, Graph):
        return _graph(value, dims)
    if isinstance(value, Dim):
        return substitute(value, dims)
    if isinstance(value, tuple):
        return tuple(_size(v, dims) for v in value)
    return value


def _size(value: DimLike, dims: Mapping[str, int]) -> DimLike:
    return substitute(value, dims) if isinstance(value, Dim) else value

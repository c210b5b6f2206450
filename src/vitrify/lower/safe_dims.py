"""A model's dims under names that neither C nor the loops of kernels use: a user may call a dim ``for`` or ``i0``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, lower, substitute, upper
from vitrify.ir.graph import Graph, Node, Op, Type, Value, make_node


def with_safe_dims(graph: Graph) -> tuple[Graph, dict[str, Dim]]:
    """A copy of the graph, and the new symbol of each of its dims (those bound during the run included)."""
    dims = dict(graph.symbols)
    for node in graph.walk():
        sizes = node.op.sizes if isinstance(node.op, g.Loop) else ()
        for name in (*g.bound_dims(node.op), *sizes):
            dims.setdefault(name, Dim.symbol(name))
    table: dict[str, Dim] = {}
    for number, (name, dim) in enumerate(dims.items()):
        safe = f"n{number}_" + re.sub(r"\W", "_", name)
        while safe in dims:
            safe += "_"
        table[name] = Dim.symbol(safe, lower(dim) or 0, upper(dim))
    copied = _graph(graph, table)
    copied.symbols = {str(table[name]): table[name] for name in graph.symbols}
    return copied, table


def _graph(graph: Graph, dims: Mapping[str, Dim]) -> Graph:
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        shape = tuple(substitute(n, dims) for n in value.shape)
        values[value] = Value(Type(value.dtype, shape), value.name)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = [values[v] for v in node.inputs]
        fresh = make_node(_op(node.op, dims), inputs, node.source, [v.name for v in node.outputs])
        nodes.append(fresh)
        values.update(zip(node.outputs, fresh.outputs, strict=True))
    pairs = [(substitute(a, dims), substitute(b, dims)) for a, b in graph.assumptions]
    ends = [tuple(values[v] for v in part) for part in (graph.inputs, graph.outputs)]
    return replace(graph, inputs=ends[0], outputs=ends[1], nodes=nodes, assumptions=pairs, symbols={})


def _op(op: Op, dims: Mapping[str, Dim]) -> Op:
    if isinstance(op, g.Constant):
        return op
    if isinstance(op, g.BindDim):
        return g.BindDim(str(dims[op.symbol]))
    if isinstance(op, g.Loop):
        sizes, names = (tuple(str(dims[n]) for n in part) for part in (op.sizes, op.names))
        return g.Loop(_graph(op.body, dims), op.carried, str(dims[op.count]), sizes, names)
    return replace(op, **{f.name: _field(getattr(op, f.name), dims) for f in fields(op)})


def _field(value: Any, dims: Mapping[str, Dim]) -> Any:
    if isinstance(value, Graph):
        return _graph(value, dims)
    if isinstance(value, Dim):
        return substitute(value, dims)
    if isinstance(value, tuple):
        return tuple(_field(v, dims) for v in value)
    return value

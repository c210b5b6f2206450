"""Shape specialisation: named dims become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from vitrify.errors import InvalidArgumentError, ShapeError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.dims import Dim, lower, substitute, upper
from vitrify.ir.graph import Graph, Node, Op, Type, TypeRuleError, Value, make_node


def specialise(graph: Graph, dims: Mapping[str, int]) -> Graph:
    """``graph`` for runs where the named dims have these values; optimise it afterwards.

    Input and output names stay. A branch that cannot run at these sizes becomes one that refuses to.
    InvalidArgumentError for a dim the graph has not, or a size out of its bounds;
    ShapeError where the graph does not fit these sizes."""
    for name, size in dims.items():
        if name not in graph.symbols:
            known = ", ".join(graph.symbols) or "none"
            raise InvalidArgumentError(f"no dim {name!r}", expected=f"one of the graph's dims ({known})")
        low, high = lower(graph.symbols[name]), upper(graph.symbols[name])
        if size < (low or 0) or (high is not None and size > high):
            raise InvalidArgumentError(f"dim {name!r} is out of bounds", expected=f"{low} .. {high}", actual=size)
    try:
        return _graph(graph, dims)
    except _Contradiction as problem:
        where = f" ({problem.source})" if problem.source else ""
        raise ShapeError(f"these dims contradict the model{where}: {problem}", actual=dict(dims)) from None


def _graph(graph: Graph, dims: Mapping[str, int]) -> Graph:
    assumptions = [(substitute(a, dims), substitute(b, dims)) for a, b in graph.assumptions]
    for left, right in assumptions:
        if isinstance(left, int) and isinstance(right, int) and left != right:
            raise _Contradiction(f"it assumes {left} == {right}", "")
    table = {v: Value(_type(v, dims), v.name) for v in graph.inputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = [table[v] for v in node.inputs]
        try:
            fresh = make_node(_op(node.op, dims), inputs, node.source, [v.name for v in node.outputs])
        except TypeRuleError as error:
            raise _Contradiction(str(error), node.source) from None
        nodes.append(fresh)
        table.update(zip(node.outputs, fresh.outputs, strict=True))
    return replace(
        graph,
        inputs=tuple(table[v] for v in graph.inputs),
        outputs=tuple(table[v] for v in graph.outputs),
        nodes=nodes,
        symbols={name: dim for name, dim in graph.symbols.items() if name not in dims},
        assumptions=[(a, b) for a, b in assumptions if a != b],
    )


def _type(value: Value, dims: Mapping[str, int]) -> Type:
    return Type(value.dtype, tuple(substitute(n, dims) for n in value.shape))


class _Contradiction(Exception):
    """A node is ill-typed at these sizes."""

    def __init__(self, message: str, source: str) -> None:
        super().__init__(message)
        self.source = source


def _branch(graph: Graph, dims: Mapping[str, int]) -> Graph:
    try:
        return _graph(graph, dims)
    except _Contradiction as problem:
        return _refusal(graph, dims, problem.source)


def _refusal(graph: Graph, dims: Mapping[str, int], source: str) -> Graph:
    """A branch of the same type whose run fails as the original's would, naming the node that does not fit:
    two elements take a shape of one, which is only known to be one in the run."""
    build = Builder()
    build.source = source
    build.one(g.BindDim(_ONE), build.constant(np.asarray(1, np.int64)))
    results = []
    for value in graph.outputs:
        shape = tuple(substitute(n, dims) for n in value.shape)
        misfit = build.reshape(build.constant(np.zeros(2, value.dtype.numpy)), (Dim.symbol(_ONE),))
        results.append(build.expand_to(build.reshape(misfit, (1,) * len(shape)), shape))
    inputs = tuple(Value(_type(v, dims), v.name) for v in graph.inputs)
    return Graph(inputs, tuple(results), build.nodes, graph.name)


_ONE = "one_at_run_time"


def _op(op: Op, dims: Mapping[str, int]) -> Op:
    if isinstance(op, g.Constant):
        return op
    if isinstance(op, g.If):
        return g.If(_branch(op.then, dims), _branch(op.otherwise, dims))
    changed = {f.name: _field(getattr(op, f.name), dims) for f in fields(op)}
    return replace(op, **changed)


def _field(value: Any, dims: Mapping[str, int]) -> Any:
    if isinstance(value, Graph):
        return _graph(value, dims)
    if isinstance(value, Dim):
        return substitute(value, dims)
    if isinstance(value, tuple):
        return tuple(_field(v, dims) for v in value)
    return value

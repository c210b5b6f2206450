"""Weights that the graph computes from codes of a few bits, found before lowering.

``(codes - points) * scales`` of constants, read by contractions: f32 of them would take up to eight times
the memory, so no pass folds it, and a run would compute it again each time. Here it becomes one constant that knows
its codes; templates that can read them, the others the f32.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Graph, Node, Value, is_static, make_node
from vitrify.ir.interpret import InterpretError, evaluate_node
from vitrify.ir.node import Constant
from vitrify.lower.contract.codes import Codes

Array = np.ndarray[Any, Any]
PURE = (g.Map, g.Cast, g.Permute, g.Expand, g.Reshape, g.Slice, g.Gather)
LEAST = 1 << 16  # weights below which a constant of f32 is as good


@dataclass(frozen=True, eq=False)
class CodedConstant(Constant):
    """A constant of f32 whose elements come from ``codes``, of the same shape."""

    codes: Codes


def codes_of(value: Value) -> Codes | None:
    """What the elements of a constant come from, where it knows."""
    return value.node.op.codes if value.node is not None and isinstance(value.node.op, CodedConstant) else None


def with_coded_weights(graph: Graph) -> Graph:
    """``graph`` itself where no contraction reads such weights."""
    found: dict[Value, Value] = {}
    for node in graph.nodes:
        if isinstance(node.op, g.Contract):
            root = node.inputs[1]
            while root.node is not None and isinstance(root.node.op, g.Permute):
                root = root.node.inputs[0]
            codes = None if root in found else _recognised(root)
            if codes is not None and root.node is not None:
                real = (codes.numbers.astype(np.float32) - codes.points) * codes.scales
                found[root] = make_node(CodedConstant(real, codes), (), root.node.source, [root.name]).output
    return _replaced(graph, found) if found else graph


def _recognised(value: Value) -> Codes | None:
    """What a value of rank 2 is ``(numbers - points) * scales`` of, where constants tell."""
    node = value.node
    if node is None or node.op != g.Map("mul") or value.dtype is not F32 or value.rank != 2:
        return None
    rows, columns = value.shape
    if not isinstance(rows, int) or not isinstance(columns, int) or rows * columns < LEAST:
        return None
    memo: dict[Value, Array | None] = {}
    for less, scales in (node.inputs, node.inputs[::-1]):
        factor = _known(scales, memo) if _centred(less) else None
        for numbers, points, sign in _centred(less) if factor is not None else ():
            codes, other = _known(numbers, memo), _known(points, memo)
            if codes is None or other is None or factor is None or not np.isfinite(other).all():
                continue
            if not (codes.min() >= 0 and codes.max() <= 255):
                continue
            whole = codes.astype(np.uint8)
            if (whole == codes).all():
                return Codes(whole, other * np.float32(sign), factor)
    return None


def _centred(value: Value) -> list[tuple[Value, Value, int]]:
    """How the value may be numbers less points; simplification adds what is negative."""
    node = value.node
    if node is None or node.op not in (g.Map("sub"), g.Map("add")):
        return []
    a, b = node.inputs
    return [(a, b, 1)] if node.op == g.Map("sub") else [(a, b, -1), (b, a, -1)]


def _known(value: Value, memo: dict[Value, Array | None]) -> Array | None:
    """The value, where it only depends on constants."""
    if value.constant is not None:
        return value.constant
    if value not in memo:
        memo[value] = None
        node = value.node
        if node is not None and isinstance(node.op, PURE) and is_static(value.shape):
            arrays = [_known(v, memo) for v in node.inputs]
            known = [a for a in arrays if a is not None]
            if len(known) == len(arrays):
                with contextlib.suppress(InterpretError):  # an index outside its axis: the run says so
                    memo[value] = evaluate_node(node, known, {})[0]
    return memo[value]


def _replaced(graph: Graph, found: dict[Value, Value]) -> Graph:
    """The graph reading the constants, without what only computed them."""
    table = dict(found)
    nodes: list[Node] = [v.node for v in found.values() if v.node is not None]
    for node in graph.nodes:
        if any(v in found for v in node.outputs):
            continue
        inputs = tuple(table.get(v, v) for v in node.inputs)
        made = node
        if inputs != node.inputs:
            made = make_node(node.op, inputs, node.source, [v.name for v in node.outputs])
            table |= dict(zip(node.outputs, made.outputs, strict=True))
        nodes.append(made)
    outputs = tuple(table.get(v, v) for v in graph.outputs)
    needed, kept = set(outputs), list[Node]()
    for node in reversed(nodes):
        if isinstance(node.op, (*PURE, Constant)) and needed.isdisjoint(node.outputs):
            continue
        kept.append(node)
        needed.update(node.inputs)
    return replace(graph, outputs=outputs, nodes=kept[::-1])

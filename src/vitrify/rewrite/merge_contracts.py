"""Contractions of one input become one wider contraction."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.dims import DimLike, product, upper
from vitrify.ir.graph import Graph, Node, Value, is_static
from vitrify.rewrite.facts import Array
from vitrify.rewrite.rewriter import map_bodies


@dataclass(frozen=True)
class MergeContracts:
    """contract(x, a), contract(x, b) -> slices of contract(x, [a; b]), for constants a, b.

    Few rows leave a kernel waiting for weights: one wide contraction reads x once and streams one array. Many
    rows gain nothing, and every reader of a slice then walks rows that are further apart. So only where x has
    at most ``rows`` rows in every run, and each part at least ``columns`` columns."""

    name: str = "merge-contracts"
    rows: int = 512
    columns: int = 16

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing merges."""
        graph = _with_bodies(graph, self)
        groups: dict[Hashable, list[Node]] = {}
        nodes: list[Node] = []
        for node in graph.nodes:
            key = self._key(node)
            if key is not None:
                groups.setdefault(key, []).append(node)
        merged = [group for group in groups.values() if len(group) > 1]
        if not merged:
            return graph
        first = {group[0]: group for group in merged}
        table: dict[Value, Value] = {}
        for node in graph.nodes:
            inputs = tuple(table.get(v, v) for v in node.inputs)
            if node in first:
                wide, parts = _merge(first[node], inputs[0])
                nodes.extend(wide)
                table.update(parts)
            if node.outputs[0] in table:
                continue
            if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                old, node = node, g.make_node(node.op, inputs, node.source, [v.name for v in node.outputs])
                table.update(zip(old.outputs, node.outputs, strict=True))
            nodes.append(node)
        return replace(graph, nodes=nodes, outputs=tuple(table.get(v, v) for v in graph.outputs))

    def _key(self, node: Node) -> Hashable:
        """Equal for contractions that may merge; None where one must not."""
        op = node.op
        if not isinstance(op, g.Contract) or op.lhs_batch:
            return None
        lhs, rhs = node.inputs
        if rhs.constant is None or not is_static(rhs.shape):
            return None
        rows = upper(product(lhs.shape[a] for a in op.free(0, lhs.rank)))
        columns = product(rhs.shape[a] for a in op.free(1, rhs.rank))
        if rows is None or rows > self.rows or not isinstance(columns, int) or columns < self.columns:
            return None
        pairs = sorted(zip(op.lhs_contract, (rhs.shape[a] for a in op.rhs_contract), strict=True))
        return (lhs, tuple(pairs), op.dtype, rhs.dtype)


def _with_bodies(graph: Graph, entry: MergeContracts) -> Graph:
    """The graph with the pass applied to its bodies only."""
    if not any(node.op.bodies for node in graph.nodes):
        return graph
    nodes: list[Node] = []
    table: dict[Value, Value] = {}
    for node in graph.nodes:
        op = map_bodies(node.op, entry.run)
        inputs = tuple(table.get(v, v) for v in node.inputs)
        if op is not node.op or any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            old, node = node, g.make_node(op, inputs, node.source, [v.name for v in node.outputs])
            table.update(zip(old.outputs, node.outputs, strict=True))
        nodes.append(node)
    if not table:
        return graph
    return replace(graph, nodes=nodes, outputs=tuple(table.get(v, v) for v in graph.outputs))


def _merge(group: list[Node], lhs: Value) -> tuple[list[Node], dict[Value, Value]]:
    """The nodes of the wide contraction, and what stands for each result of ``group``."""
    build = Builder()
    build.source = group[0].source
    axes = sorted(_contracted(group[0]))
    columns = [_columns(node) for node in group]
    weights = build.constant(np.concatenate(columns, axis=0))
    op = group[0].op
    dtype = op.dtype if isinstance(op, g.Contract) else lhs.dtype
    wide = build.contract(lhs, weights, over=(axes, range(1, 1 + len(axes))), dtype=dtype)
    parts: dict[Value, Value] = {}
    offset: DimLike = 0
    for node, array in zip(group, columns, strict=True):
        with build.sourced(node.source):
            part = build.slice_axis(wide, wide.rank - 1, offset, array.shape[0])
            parts[node.output] = build.reshape(part, node.output.shape)
        offset = offset + array.shape[0]
    return build.nodes, parts


def _contracted(node: Node) -> tuple[int, ...]:
    """The contracted axes of the left side."""
    return node.op.lhs_contract if isinstance(node.op, g.Contract) else ()


def _columns(node: Node) -> Array:
    """The constant side as [columns, contracted..], the latter in the order of the left side's axes."""
    op, rhs = node.op, node.inputs[1]
    if not isinstance(op, g.Contract) or rhs.constant is None:
        raise TypeError(f"{op.name} is no contraction with a constant")
    contracted = [b for _, b in sorted(zip(op.lhs_contract, op.rhs_contract, strict=True))]
    array = rhs.constant.transpose(*op.free(1, rhs.rank), *contracted)
    return array.reshape(-1, *(array.shape[array.ndim - len(contracted) :]))

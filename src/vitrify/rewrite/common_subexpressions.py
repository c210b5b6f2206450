"""Common subexpressions: equal ops on equal inputs are computed once; equal constants are stored once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.graph import Graph, Node, Op, Value, make_node
from vitrify.ir.scalar import SCALAR
from vitrify.rewrite.rewriter import map_bodies

_SWAPPED = ("add", "mul", "and", "or", "xor", "eq", "ne")  # min and max choose between -0.0 and 0.0 by order


@dataclass(frozen=True)
class CommonSubexpressions:
    """Within one graph; each body for itself, since it cannot see the values around it."""

    name: str = "common-subexpressions"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing is repeated."""
        table: dict[Value, Value] = {}
        first: dict[Hashable, Node] = {}
        order: dict[Value, int] = {}
        nodes: list[Node] = []
        changed = False
        for node in graph.nodes:
            inputs = tuple(table.get(v, v) for v in node.inputs)
            op = map_bodies(node.op, self.run)
            key = _key(op, inputs, order) if g.is_pure(op) else node
            same = first.get(key)
            if same is not None:
                table.update(zip(node.outputs, same.outputs, strict=True))
                changed = True
                continue
            if op is not node.op or any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                old, node = node, make_node(op, inputs, node.source, [v.name for v in node.outputs])
                table.update(zip(old.outputs, node.outputs, strict=True))
                changed = True
            first[key] = node
            nodes.append(node)
        if not changed:
            return graph
        return replace(graph, nodes=nodes, outputs=tuple(table.get(v, v) for v in graph.outputs))


def _key(op: Op, inputs: tuple[Value, ...], order: dict[Value, int]) -> Hashable:
    """Equal exactly when the nodes compute the same. ``order`` numbers the values met so far."""
    numbers = [order.setdefault(v, len(order)) for v in inputs]
    if isinstance(op, g.Constant):
        return _Bits(op.value)
    if isinstance(op, g.Map) and op.fn in _SWAPPED and SCALAR[op.fn].commutative:
        numbers.sort()
    if isinstance(op, g.Pad):
        return (op, repr(op.value), *numbers)  # 0 == 0.0 == -0.0 == False
    return (op, *numbers)


class _Bits:
    """A constant's contents as a key: hashed by a sample, compared bit by bit."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.type = (array.dtype.name, array.shape)
        self.bits = np.atleast_1d(array).reshape(-1).view(np.uint8)
        step = max(1, self.bits.size // 4096)
        self.hash = hash((self.type, self.bits[:4096].tobytes(), self.bits[::step].tobytes()))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bits) and self.type == other.type and np.array_equal(self.bits, other.bits)

"""The order in which a value's axes lie in memory, where its readers care.

A convolution wants its channels next to one another, whatever the order of the axes in the graph.
"""

from __future__ import annotations

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape, symbols
from vitrify.ir.graph import Graph, Node, Value
from vitrify.lower.regions import contract_base, trace

Order = tuple[int, ...]  # axes, the last one contiguous


LEAST_CHANNELS = 16  # from which on a graph's input is copied into the order of a convolution that pads it


def storage_orders(graph: Graph) -> dict[Value, Order]:
    """Orders that differ from that of the axes, for values computed in this graph. All of them lie in memory: of a
    graph's input that a convolution reads with a border, the bordered value."""
    orders: dict[Value, Order] = {}
    for node in graph.nodes:
        if isinstance(node.op, g.Contract):
            base = contract_base(node.inputs[0])
            if base in graph.inputs:
                base = _bordered(node, node.op, base) or base
            computed = base.node is not None and base.constant is None
            if computed and base not in orders:
                order = _channels_last(node, node.op, base)
                if order is not None:
                    orders[base] = order
    return orders


def _bordered(node: Node, op: g.Contract, base: Value) -> Value | None:
    """The padded input of a convolution of many channels, which is worth a copy in its order."""
    value = node.inputs[0]
    while value.node is not None and value is not base:
        source = value.node.inputs[0]
        if isinstance(value.node.op, g.Pad) and source is base and not op.lhs_batch:
            order = _channels_last(node, op, value)
            many = order is not None and isinstance(size := value.shape[order[-1]], int) and size >= LEAST_CHANNELS
            return value if many else None
        value = source
    return None


def _channels_last(node: Node, op: g.Contract, base: Value) -> Order | None:
    """The order for a convolution over ``base``; None where it has no window or channels lie last already."""
    operand = node.inputs[0]
    found = trace(operand, {base})
    if found is None:
        return None
    left = {f"x{a}" for a in op.free(0, operand.rank)}
    channels: list[int] = []
    windowed = False
    for axis, position in enumerate(found.index):
        names = {s.name for s in symbols(position)} if isinstance(position, Dim) else set()
        if names & left and names - left:
            windowed = True
        elif names and not names & left:
            channels.append(axis)
    last = [a for a in range(base.rank) if base.shape[a] != 1][-1:]
    if not windowed or not channels or last == channels[-1:]:
        return None
    return tuple([a for a in range(base.rank) if a not in channels] + channels)


def strides_in_order(shape: Shape, order: Order) -> tuple[DimLike, ...]:
    """Strides of a dense block whose axes lie in ``order``."""
    strides: list[DimLike] = [0] * len(shape)
    step: DimLike = 1
    for axis in reversed(order):
        strides[axis] = step
        step = step * shape[axis]
    return tuple(strides)

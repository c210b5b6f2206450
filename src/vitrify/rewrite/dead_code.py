"""Dead code: what no output needs goes, results and captured values of bodies included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitrify.ir import graph as g
from vitrify.ir.graph import Graph, Node, Value, make_node
from vitrify.ir.text import used_symbols


@dataclass(frozen=True)
class DeadCode:
    """Removes nodes that nothing reads, and narrows ``if``, ``scan`` and ``loop`` to the results that are read. Inputs
    of the graph stay, and so does what binds dims that shapes may name."""

    name: str = "dead-code"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing is dead."""
        needed = set(graph.outputs)
        kept: list[_Kept] = []
        for node in reversed(graph.nodes):
            if needed.isdisjoint(node.outputs) and g.is_pure(node.op) and not _binds(node, graph, kept):
                continue
            entry = _narrow(node, [i for i, v in enumerate(node.outputs) if v in needed])
            kept.append(entry)
            needed.update(entry.inputs)
        kept.reverse()
        if len(kept) == len(graph.nodes) and all(entry.op is entry.node.op for entry in kept):
            return graph
        return _rebuilt(graph, kept)


def _binds(node: Node, graph: Graph, kept: Sequence[_Kept]) -> bool:
    """Whether the node names dims that stay: a loop's do where something after it shows them."""
    if not isinstance(node.op, g.Loop):
        return bool(g.bound_dims(node.op))
    shown = used_symbols(replace(graph, nodes=[entry.node for entry in kept]))
    return any(symbol.name in g.bound_dims(node.op) for symbol in shown)


@dataclass(frozen=True)
class _Kept:
    node: Node
    op: g.Op
    inputs: tuple[Value, ...]
    results: tuple[int, ...]  # which results of the node the new one has


def _rebuilt(graph: Graph, kept: Sequence[_Kept]) -> Graph:
    table: dict[Value, Value] = {}
    nodes: list[Node] = []
    for entry in kept:
        inputs = tuple(table.get(v, v) for v in entry.inputs)
        node = entry.node
        if entry.op is not node.op or any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            names = [node.outputs[i].name for i in entry.results]
            node = make_node(entry.op, inputs, node.source, names)
            table.update(zip((entry.node.outputs[i] for i in entry.results), node.outputs, strict=True))
        nodes.append(node)
    return replace(graph, nodes=nodes, outputs=tuple(table.get(v, v) for v in graph.outputs))


def _narrow(node: Node, used: list[int]) -> _Kept:
    op, inputs, results = node.op, node.inputs, tuple(range(len(node.outputs)))
    if isinstance(op, g.If):
        op, inputs, results = _narrow_if(op, inputs, used)
    elif isinstance(op, g.Scan):
        op, inputs, results = _narrow_scan(op, inputs, used)
    elif isinstance(op, g.Loop):
        op, inputs, results = _narrow_loop(op, inputs, used)
    return _Kept(node, op, inputs, results)


def _clean(body: Graph) -> Graph:
    return DeadCode().run(body)


def _read(body: Graph) -> set[Value]:
    """Everything that the body reads or gives."""
    return {v for node in body.nodes for v in node.inputs} | set(body.outputs)


def _pick(body: Graph, outputs: Sequence[int]) -> Graph:
    if len(outputs) == len(body.outputs):
        return _clean(body)
    return _clean(replace(body, outputs=tuple(body.outputs[i] for i in outputs), output_names=()))


def _narrow_if(op: g.If, inputs: tuple[Value, ...], used: list[int]) -> tuple[g.Op, tuple[Value, ...], tuple[int, ...]]:
    bodies = [_pick(body, used) for body in op.bodies]
    read = [_read(body) for body in bodies]
    live = [i for i in range(len(inputs) - 1) if any(b.inputs[i] in r for b, r in zip(bodies, read, strict=True))]
    if len(live) < len(inputs) - 1:
        bodies = [replace(b, inputs=tuple(b.inputs[i] for i in live)) for b in bodies]
    new = op if all(a is b for a, b in zip(bodies, op.bodies, strict=True)) else g.If(*bodies)
    return new, (inputs[0], *(inputs[1 + i] for i in live)), tuple(used)


def _narrow_scan(
    op: g.Scan, inputs: tuple[Value, ...], used: list[int]
) -> tuple[g.Op, tuple[Value, ...], tuple[int, ...]]:
    outputs = _live_results(op, used)
    body = _pick(op.body, outputs)
    read = _read(body)
    states = [i for i in outputs if i < op.carried]
    rest = [i for i in range(op.carried, len(inputs)) if body.inputs[1 + i] in read]
    kept = [*states, *rest]
    if len(kept) == len(inputs) and body is op.body:
        return op, inputs, tuple(outputs)
    body = replace(body, inputs=(body.inputs[0], *(body.inputs[1 + i] for i in kept)))
    scanned = sum(i < op.carried + op.scanned for i in rest)
    slim = g.Scan(body, op.trips, len(states), scanned)
    return slim, tuple(inputs[i] for i in kept), tuple(outputs)


def _narrow_loop(
    op: g.Loop, inputs: tuple[Value, ...], used: list[int]
) -> tuple[g.Op, tuple[Value, ...], tuple[int, ...]]:
    """Without stacked values that nothing reads, and without captured ones. Where the loop names extents of
    results, which shapes may show, all results stay."""
    results = [i for i in range(len(op.body.outputs) - 1) if op.names or i < op.carried or i in used]
    body = _pick(op.body, [0, *(1 + i for i in results)])
    read = _read(body)
    live = [i for i in range(1 + op.carried, len(body.inputs)) if body.inputs[i] in read]
    kept = range(2 + op.carried)
    if 1 + op.carried + len(live) < len(body.inputs):
        body = replace(body, inputs=(*body.inputs[: 1 + op.carried], *(body.inputs[i] for i in live)))
    new = op if body is op.body else replace(op, body=body)
    return new, (*(inputs[i] for i in kept), *(inputs[1 + i] for i in live)), tuple(results)


def _live_results(op: g.Scan, used: list[int]) -> list[int]:
    """The results that are read after the scan, or that a later trip needs for one that is."""
    needs = _needs(op)
    live = set(used)
    for value in needs[len(op.body.outputs)]:
        live.add(value)
    while True:
        more = {i for result in live for i in needs[result]} - live
        if not more:
            return sorted(live)
        live |= more


def _needs(op: g.Scan) -> list[set[int]]:
    """For each result of the body the carried values it depends on; last, those that ``bind_dim`` and calls with
    effects need."""
    table = {v: 1 << i for i, v in enumerate(op.body.inputs[1 : 1 + op.carried])}
    bound = 0
    for node in op.body.nodes:
        mask = 0
        for v in node.inputs:
            mask |= table.get(v, 0)
        for v in node.outputs:
            table[v] = mask
        if isinstance(node.op, g.BindDim) or not g.is_pure(node.op):
            bound |= mask
    masks = [*(table.get(v, 0) for v in op.body.outputs), bound]
    return [{i for i in range(op.carried) if mask >> i & 1} for mask in masks]

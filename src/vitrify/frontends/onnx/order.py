"""The nodes of a graph in an order in which every name is defined before it is read."""

from __future__ import annotations

from collections.abc import Iterator, Set

import onnx

from vitrify.errors import InvalidModelError


def source_of(node: onnx.NodeProto) -> str:
    """How messages name a node: its op, and its name or else its first output."""
    name = node.name or next((o for o in node.output if o), "")
    return f"{node.op_type} {name!r}"


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def captures(graph: onnx.GraphProto) -> set[str]:
    """The names that a graph reads from the graphs around it."""
    defined = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    read = {v.name for v in graph.output}
    for node in graph.node:
        read |= reads(node)
        defined |= set(node.output)
    return read - defined - {""}


def reads(node: onnx.NodeProto) -> set[str]:
    """The names a node needs, those that its graphs capture included."""
    names = set(node.input)
    for graph in subgraphs(node):
        names |= captures(graph)
    return names - {""}


def ordered_nodes(
    nodes: list[onnx.NodeProto], defined: Set[str], outputs: list[str], outer: Set[str], where: str
) -> list[tuple[int, onnx.NodeProto]]:
    """The nodes with their positions, sorted where the file is not.

    ``defined`` are the graph's inputs and initializers, ``outer`` the names around it. Raises
    :class:`InvalidModelError` for names defined twice, names defined nowhere, and cycles.
    """
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.output:
            if not name:
                continue
            if name in producer or name in defined:
                raise InvalidModelError(f"{where}: the name {name!r} is defined twice, again by {source_of(node)}")
            producer[name] = position
    known = defined | outer
    needs = [reads(node) for node in nodes]
    _check_defined(nodes, needs, producer, known, outputs, where)
    return _sorted(nodes, [{producer[n] for n in names if n in producer} for names in needs], where)


def _check_defined(
    nodes: list[onnx.NodeProto],
    needs: list[set[str]],
    producer: dict[str, int],
    known: Set[str],
    outputs: list[str],
    where: str,
) -> None:
    undefined = [
        f"{name!r} (read by {source_of(node)})"
        for node, names in zip(nodes, needs, strict=True)
        for name in sorted(names, key=str)
        if name not in producer and name not in known
    ]
    undefined += [f"{name!r} (an output)" for name in outputs if name not in producer and name not in known]
    if undefined:
        shown = ", ".join(undefined[:8]) + (f" and {len(undefined) - 8} more" if len(undefined) > 8 else "")
        raise InvalidModelError(f"{where} reads names that nothing defines: {shown}")


def _sorted(nodes: list[onnx.NodeProto], needs: list[set[int]], where: str) -> list[tuple[int, onnx.NodeProto]]:
    if all(max(before, default=-1) < position for position, before in enumerate(needs)):
        return list(enumerate(nodes))
    users: dict[int, list[int]] = {}
    for position, before in enumerate(needs):
        for producer in before:
            users.setdefault(producer, []).append(position)
    waiting = [len(before) for before in needs]
    ready = [position for position, count in enumerate(waiting) if count == 0]
    result = []
    for position in ready:
        result.append((position, nodes[position]))
        for user in users.get(position, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if len(result) < len(nodes):
        cyclic = [source_of(nodes[p]) for p, count in enumerate(waiting) if count]
        raise InvalidModelError(f"{where} has a cycle through {', '.join(cyclic[:8])}")
    return result

"""Control flow: branches that are known, scans of no or one trip, and what bodies capture for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.graph import Graph, Node, Value, is_static, make_node
from vitrify.rewrite.facts import number, static
from vitrify.rewrite.rewriter import Results, Rewriter, rule


@rule(g.If)
def known_branch(rw: Rewriter, op: g.If, inputs: tuple[Value, ...]) -> Results:
    """if(true) -> the nodes of the branch."""
    condition = number(inputs[0])
    return None if condition is None else rw.inline(op.then if condition else op.otherwise, inputs[1:])


@rule(g.If)
def constants_into_branches(rw: Rewriter, op: g.If, inputs: tuple[Value, ...]) -> Results:
    """A branch holds the constants it uses, so that they fold there."""
    keep = [i for i, v in enumerate(inputs[1:]) if not _rematerialised(v)]
    if len(keep) == len(inputs) - 1:
        return None
    bodies = [_sink(rw, body, inputs[1:]) for body in op.bodies]
    return rw.add(g.If(*bodies), inputs[0], *(inputs[1:][i] for i in keep))


@rule(g.Scan)
def constants_into_scans(rw: Rewriter, op: g.Scan, inputs: tuple[Value, ...]) -> Results:
    """A body holds the constants it captures, so that they fold there."""
    first = op.carried + op.scanned
    captured = inputs[first:]
    if not any(map(_rematerialised, captured)):
        return None
    body = _sink(rw, op.body, captured, 1 + first)
    kept = [v for v in captured if not _rematerialised(v)]
    return rw.add(replace(op, body=body), *inputs[:first], *kept)


@rule(g.Loop)
def constants_into_loops(rw: Rewriter, op: g.Loop, inputs: tuple[Value, ...]) -> Results:
    """A body holds the constants it captures, so that they fold there."""
    first = 2 + op.carried
    captured = inputs[first:]
    if not any(map(_rematerialised, captured)):
        return None
    body = _sink(rw, op.body, captured, first - 1)
    kept = [v for v in captured if not _rematerialised(v)]
    return rw.add(replace(op, body=body), *inputs[:first], *kept)


@rule(g.Loop)
def unchanged_by_loops(rw: Rewriter, op: g.Loop, inputs: tuple[Value, ...]) -> Results:
    """A carried value that the body hands on unchanged is a captured one."""
    takes, gives = op.body.inputs[1:], op.body.outputs[1:]
    fixed = [i for i in range(op.carried) if gives[i] is takes[i] and takes[i].type == inputs[2 + i].type]
    if not fixed:
        return None
    kept = [i for i in range(op.carried) if i not in fixed]
    order = [*kept, *fixed, *range(op.carried, len(takes))]
    results = [v for i, v in enumerate(gives) if i not in fixed]
    body = replace(
        op.body, inputs=(op.body.inputs[0], *(takes[i] for i in order)), outputs=(op.body.outputs[0], *results),
        output_names=(),
    )  # fmt: skip
    states = [inputs[2 + i] for i in order]
    left = iter(rw.add(replace(op, body=body, carried=len(kept)), *inputs[:2], *states))
    values = [inputs[2 + i] if i in fixed else next(left) for i in range(op.carried)]
    return (*values, *left)


def _rematerialised(value: Value) -> bool:
    """A constant, a size, or one of them expanded: a body can have its own for nothing."""
    node = value.node
    if node is not None and isinstance(node.op, g.Expand):
        node = node.inputs[0].node
    return node is not None and isinstance(node.op, (g.Constant, g.DimValue))


def _copies(value: Value) -> list[Node]:
    """The nodes of :func:`_rematerialised` again, the one that gives the value last."""
    node = value.node
    if node is None:
        return []
    before = [n for v in node.inputs for n in _copies(v)]
    return [*before, make_node(node.op, [n.output for n in before], node.source, [value.name])]


def _sink(rw: Rewriter, body: Graph, captured: Sequence[Value], first: int = 0) -> Graph:
    table = {body.inputs[first + i]: _copies(v) for i, v in enumerate(captured) if _rematerialised(v)}
    return rw.body(body, table)


@rule(g.Scan)
def unrepeated_scan(rw: Rewriter, op: g.Scan, inputs: tuple[Value, ...]) -> Results:
    """No trips: the initial values, and empty stacks. One trip: the nodes of the body."""
    carried, scanned = inputs[: op.carried], inputs[op.carried : op.carried + op.scanned]
    captured = inputs[op.carried + op.scanned :]
    if op.trips == 1:
        slices = [rw.reshape(v, v.shape[1:]) for v in scanned]
        results = rw.inline(op.body, [rw.constant(np.asarray(0, np.int64)), *carried, *slices, *captured])
        return (*results[: op.carried], *(rw.unsqueeze(v, 0) for v in results[op.carried :]))
    if op.trips == 0:
        stacks = op.body.outputs[op.carried :]
        if all(is_static(v.shape) for v in stacks):
            empty = [rw.constant(np.empty((0, *static(v.shape)), v.dtype.numpy), v.dtype) for v in stacks]
            return (*carried, *empty)
    return None


@rule(g.Scan)
def invariant_carried(rw: Rewriter, op: g.Scan, inputs: tuple[Value, ...]) -> Results:
    """A carried value that the body hands on unchanged is a captured one."""
    fixed = [i for i in range(op.carried) if op.body.outputs[i] is op.body.inputs[1 + i]]
    if not fixed:
        return None
    kept = [i for i in range(op.carried) if i not in fixed]
    rest = op.carried + op.scanned
    order = [*kept, *range(op.carried, rest), *fixed, *range(rest, len(inputs))]
    body = replace(
        op.body,
        inputs=(op.body.inputs[0], *(op.body.inputs[1 + i] for i in order)),
        outputs=tuple(v for i, v in enumerate(op.body.outputs) if i not in fixed),
        output_names=(),
    )
    slim = replace(op, body=body, carried=len(kept))
    results = iter(rw.add(slim, *(inputs[i] for i in order)))
    values = [inputs[i] if i in fixed else next(results) for i in range(op.carried)]
    return (*values, *results)


CONTROL = [
    known_branch, unrepeated_scan, constants_into_branches, constants_into_scans, constants_into_loops,
    invariant_carried, unchanged_by_loops,
]  # fmt: skip

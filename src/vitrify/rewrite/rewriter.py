"""How graphs are rewritten: rebuilt front to back through rules.

A rule sees one op and its (already rewritten) inputs before the node exists, and gives the values that take
its results' place, or None. What a rule builds goes through the same rules, so one sweep over the graph
reaches nearly the fixpoint and costs O(nodes). Graphs are never changed in place: nodes no rule touches are
shared by the old graph and the new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Union

from vitrify.errors import VerifyError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder
from vitrify.ir.graph import Graph, Node, Op, Value
from vitrify.rewrite.dead_code import DeadCode

Results = Union[Value, tuple[Value, ...], None]


@dataclass(frozen=True)
class Rule:
    """``apply(rewriter, op, inputs)`` for the ops of ``structures``; the result has the op's types."""

    name: str
    structures: tuple[type[Op], ...]
    apply: Callable[[Rewriter, Any, tuple[Value, ...]], Results]


def rule(*structures: type[Op]) -> Callable[[Callable[[Rewriter, Any, tuple[Value, ...]], Results]], Rule]:
    """Makes a :class:`Rule` of a function."""

    def make(apply: Callable[[Rewriter, Any, tuple[Value, ...]], Results]) -> Rule:
        return Rule(apply.__name__, structures, apply)

    return make


class Rewriter(Builder):
    """A builder whose ops pass through rules first. ``fired`` counts the rules that gave a result."""

    def __init__(self, rules: Mapping[type[Op], Sequence[Rule]], fired: Counter[str]) -> None:
        super().__init__()
        self.rules = rules
        self.fired = fired
        self.uses: Counter[Value] = Counter()

    def add(self, op: Op, *inputs: Value, names: Sequence[str] = ()) -> tuple[Value, ...]:
        found = self._rewritten(op, inputs)
        return super().add(op, *inputs, names=names) if found is None else found

    def unruled(self, op: Op, *inputs: Value) -> Value:
        """The op's result without asking the rules, for a rule that would apply to it forever."""
        (value,) = super().add(op, *inputs)
        return value

    def _rewritten(self, op: Op, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        for candidate in self.rules.get(type(op), ()):
            result = candidate.apply(self, op, inputs)
            if result is not None:
                self.fired[candidate.name] += 1
                return result if isinstance(result, tuple) else (result,)
        return None

    def used_once(self, value: Value) -> bool:
        """At most one node of the graph reads it: a rule may take its work along."""
        return self.uses[value] <= 1

    def carry_over(self, node: Node, op: Op, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """The values that stand for a node's results; the node itself where nothing changes."""
        found = self._rewritten(op, inputs)
        if found is None and op is node.op and all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            self.nodes.append(node)
            return node.outputs
        if found is None:
            fresh = g.make_node(op, inputs, node.source, [v.name for v in node.outputs])
            self.nodes.append(fresh)
            found = fresh.outputs
        for old, new in zip(node.outputs, found, strict=True):
            if old.type != new.type:
                where = f" ({node.source})" if node.source else ""
                raise VerifyError(f"rewriting {op.name}{where}", expected=old.type, actual=new.type)
        return found

    def inline(self, body: Graph, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """The nodes of ``body`` here, on these inputs."""
        table = dict(zip(body.inputs, inputs, strict=True))
        uses = Counter(v for node in body.nodes for v in node.inputs)
        uses.update(body.outputs)
        for node in body.nodes:
            with self.sourced(node.source):
                results = self.add(node.op, *(table[v] for v in node.inputs))
            for old, new in zip(node.outputs, results, strict=True):
                table[old] = new
                self.uses[new] += uses[old]
        return tuple(table[v] for v in body.outputs)

    def body(self, body: Graph, captured: Mapping[Value, Sequence[Node]]) -> Graph:
        """``body`` without the inputs that ``captured`` names; the last node of each list gives the value."""
        prefix = [node for nodes in captured.values() for node in nodes]
        known = {value: nodes[-1].output for value, nodes in captured.items()}
        inputs = tuple(v for v in body.inputs if v not in known)
        return sweep(body, self.rules, self.fired, inputs=inputs, prefix=prefix, known=known)


def index_rules(rules: Iterable[Rule]) -> dict[type[Op], list[Rule]]:
    result: dict[type[Op], list[Rule]] = {}
    for entry in rules:
        for structure in entry.structures:
            result.setdefault(structure, []).append(entry)
    return result


def rewrite(graph: Graph, rules: Iterable[Rule], fired: Counter[str] | None = None) -> Graph:
    """``graph`` and its bodies after one sweep of ``rules``, in their order; ``graph`` itself when none fits.

    What the rules replaced is gone from the result; ``graph`` must have no dead code either, or rules that
    ask whether a value is used once say no too often."""
    swept = sweep(graph, index_rules(rules), Counter() if fired is None else fired)
    return graph if swept is graph else DeadCode().run(swept)


def sweep(
    graph: Graph,
    rules: Mapping[type[Op], Sequence[Rule]],
    fired: Counter[str],
    *,
    inputs: tuple[Value, ...] | None = None,
    prefix: Sequence[Node] = (),
    known: Mapping[Value, Value] | None = None,
) -> Graph:
    """See :func:`rewrite`. ``prefix`` nodes come first; ``known`` values stand for some of the graph's."""
    rewriter = Rewriter(rules, fired)
    rewriter.nodes.extend(prefix)
    table: dict[Value, Value] = dict(known or {})
    uses = Counter(v for node in graph.nodes for v in node.inputs)
    uses.update(graph.outputs)
    for value in graph.inputs:
        rewriter.uses[table.get(value, value)] += uses[value]
    for node in graph.nodes:
        rewriter.source = node.source
        operands = tuple(table.get(v, v) for v in node.inputs)
        results = rewriter.carry_over(node, _with_bodies(node.op, rules, fired), operands)
        for old, new in zip(node.outputs, results, strict=True):
            rewriter.uses[new] += uses[old]
            if new is not old:
                table[old] = new
                new.name = new.name or (old.name if new.node is not None else "")
    nodes = rewriter.nodes
    if inputs is None and len(nodes) == len(graph.nodes) and all(map(_same, nodes, graph.nodes)):
        return graph
    outputs = tuple(table.get(v, v) for v in graph.outputs)
    return replace(graph, inputs=graph.inputs if inputs is None else inputs, outputs=outputs, nodes=nodes)


def _same(a: Node, b: Node) -> bool:
    return a is b


def _with_bodies(op: Op, rules: Mapping[type[Op], Sequence[Rule]], fired: Counter[str]) -> Op:
    if not op.bodies:
        return op
    return map_bodies(op, lambda body: sweep(body, rules, fired))


def map_bodies(op: Op, change: Callable[[Graph], Graph]) -> Op:
    """``op`` with ``change`` applied to its bodies; ``op`` itself where nothing changed."""
    changed: dict[str, Any] = {}
    for entry in fields(op):
        value = getattr(op, entry.name)
        if isinstance(value, Graph):
            new = change(value)
            if new is not value:
                changed[entry.name] = new
    return replace(op, **changed) if changed else op

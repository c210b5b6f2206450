"""The graph verifier: run at every boundary, it lists all that is wrong, with the text around each place."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitrify.ir.dims import Dim, Symbol, symbols
from vitrify.ir.graph import (
    STRUCTURES,
    BindDim,
    Call,
    Constant,
    Graph,
    Loop,
    Node,
    Scan,
    TypeRuleError,
    Value,
    bound_dims,
    bound_inside,
)
from vitrify.ir.text import GraphPrinter, op_symbols, type_symbols

_AROUND = 2  # lines shown before and after


class IRError(ValueError):
    """IR that is ill-formed: text that does not parse, or a graph that breaks a rule."""


@dataclass(frozen=True)
class Problem:
    message: str
    place: Node | Value | None  # None: the graph as a whole


def verify(graph: Graph) -> None:
    """Raises :class:`IRError` listing every problem, each with the lines around it and a caret."""
    found = list(problems(graph))
    if found:
        raise IRError(_report(graph, found))


def problems(graph: Graph) -> Iterator[Problem]:
    """Every broken rule, in the order of the text."""
    holder = _recursion(graph, ())
    if holder is not None:
        yield Problem("a body holds the graph that it is part of", holder)
        return
    yield from _graph(graph, {})


def _recursion(graph: Graph, around: tuple[Graph, ...]) -> Node | None:
    for node in graph.nodes:
        for body in node.op.bodies:
            if body in (*around, graph):
                return node
            found = _recursion(body, (*around, graph))
            if found is not None:
                return found
    return None


def _graph(graph: Graph, outer: dict[str, Symbol]) -> Iterator[Problem]:
    yield from _declarations(graph)
    declared = {s.name: s for dim in graph.symbols.values() for s in symbols(dim)}
    bound_here = bound_inside(graph)
    shown = {s.name for v in graph.inputs for s in type_symbols(v.type)}
    early = {name: s for name, s in declared.items() if name not in bound_here or name in shown}
    known = {**outer, **early}
    defined: dict[Value, Node | None] = {}
    for value in graph.inputs:
        if value in defined:
            yield Problem("the graph takes this value twice", value)
        if value.node is not None:
            yield Problem("an input of the graph is the result of a node", value)
        defined[value] = None
        yield from _known_symbols(type_symbols(value.type), known, declared, value)
    later = {v: n for n in graph.nodes for v in n.outputs}
    for node in graph.nodes:
        for name in bound_dims(node.op):
            known = {**known, **_bound_symbol(name, declared, graph)}
        yield from _node(node, defined, later, known, declared)
        defined.update(dict.fromkeys(node.outputs, node))
    for value in graph.outputs:
        if value not in defined:
            yield Problem(f"an output of the graph ({value.type}) is defined nowhere in it", None)
    for left, right in graph.assumptions:
        yield from _known_symbols(symbols(left) | symbols(right), {**declared, **known}, declared, None)


def _declarations(graph: Graph) -> Iterator[Problem]:
    label = f"graph {graph.name!r}" if graph.name else "the graph"
    seen: set[str] = set()
    for value in graph.inputs:
        if value.name and value.name in seen:
            yield Problem(f"{label} has two inputs named {value.name!r}", value)
        seen.add(value.name)
    if graph.output_names and len(graph.output_names) != len(graph.outputs):
        yield Problem(
            f"{label} has {len(graph.outputs)} outputs and {len(graph.output_names)} names for them", None
        )
    for name, dim in graph.symbols.items():
        found = symbols(dim)
        if {s.name for s in found} != {name} or dim != Dim([((next(iter(found)),), 1)]):
            yield Problem(f"{label} declares {name!r} as {dim}, no symbol of that name", None)
        if not _is_word(name):
            yield Problem(f"{label} declares the dim {name!r}, which is no identifier", None)


def _is_word(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _bound_symbol(name: str, declared: dict[str, Symbol], graph: Graph) -> dict[str, Symbol]:
    """What a node makes known: as declared, or as the graph uses it from here on."""
    if name in declared:
        return {name: declared[name]}
    pending = [graph]
    while pending:
        current = pending.pop()
        for other in current.nodes:
            used = op_symbols(other.op).union(*(type_symbols(v.type) for v in other.outputs))
            for symbol in used:
                if symbol.name == name:
                    return {name: symbol}
            pending += other.op.bodies
    return {name: Symbol(name)}


def _known_symbols(
    used: set[Symbol], known: dict[str, Symbol], declared: dict[str, Symbol], place: Node | Value | None
) -> Iterator[Problem]:
    for symbol in sorted(used, key=lambda s: s.name):
        if symbol.name not in known:
            why = "is used before bind_dim binds it" if symbol.name in declared else "is not declared"
            yield Problem(f"dim {symbol.name!r} {why}", place)
        elif known[symbol.name] != symbol:
            here, there = _bounds(symbol), _bounds(known[symbol.name])
            yield Problem(f"dim {symbol.name!r} is {here} here and {there} where it is declared", place)


def _bounds(symbol: Symbol) -> str:
    extent = "" if symbol.extent is None else f" below {symbol.extent}"
    return f"{symbol.lo}..{'' if symbol.hi is None else symbol.hi}{extent}"


def _node(
    node: Node,
    defined: dict[Value, Node | None],
    later: dict[Value, Node],
    known: dict[str, Symbol],
    declared: dict[str, Symbol],
) -> Iterator[Problem]:
    for i, value in enumerate(node.inputs):
        if value not in defined:
            yield Problem(f"input {i} {_absence(node, value, later)}", node)
    for i, value in enumerate(node.outputs):
        if value in defined:
            yield Problem(f"result {i} is defined twice", node)
        if value.node is not node or value.index != i:
            yield Problem(f"result {i} does not name this node as its origin", node)
    if type(node.op) not in STRUCTURES:
        yield Problem(f"{type(node.op).__name__} is no structure of the graph IR", node)
        return
    if isinstance(node.op, Constant) and not node.op.value.flags.c_contiguous:
        yield Problem("the constant is not C-contiguous", node)
    sizes = node.op.sizes if isinstance(node.op, Loop) else ()
    names = (*bound_dims(node.op), *sizes)
    for name in names:
        if not _is_word(name):
            yield Problem(f"{_binder(node)} binds {name!r}, which is no identifier", node)
    if len(set(names)) < len(names):
        yield Problem(f"{_binder(node)} binds a dim twice, of {', '.join(names)}", node)
    yield from _types(node)
    used = op_symbols(node.op).union(*(type_symbols(v.type) for v in node.outputs))
    yield from _known_symbols(used, known, declared, node)
    inside = {**known, **{name: Symbol(name) for name in sizes}}
    for body in node.op.bodies:
        yield from _graph(body, inside)


def _binder(node: Node) -> str:
    return "bind_dim" if isinstance(node.op, BindDim) else node.op.name


def _absence(node: Node, value: Value, later: dict[Value, Node]) -> str:
    if value not in later:
        return (
            f"({value.type}) belongs to another graph" if value.node or value.name else "is defined nowhere"
        )
    pending, seen = [later[value]], set()
    while pending:  # does the value depend on this very node?
        current = pending.pop()
        if current is node:
            return "depends on this node: the graph is cyclic"
        if current not in seen:
            seen.add(current)
            pending += [later[v] for v in current.inputs if v in later]
    return "is used before it is defined"


_ARITY = {"permute": 1, "cast": 1, "bitcast": 1, "contract": 2, "constant": 0, "iota": 0, "dimvalue": 0}
_ARITY |= dict.fromkeys(["expand", "reshape", "slice", "pad", "flip", "window", "reduce", "binddim", "sort"], 1)


def _types(node: Node) -> Iterator[Problem]:
    op, types = node.op, [v.type for v in node.inputs]
    arity = _ARITY.get(op.name)
    if arity is not None and len(types) != arity:
        yield Problem(f"{op.name} takes {arity} input{'s' * (arity != 1)}, got {len(types)}", node)
        return
    if isinstance(op, Loop) and not 0 <= op.carried <= len(types) - 2:
        yield Problem(f"loop of {op.carried} carried values takes 2 more inputs or more, got {len(types)}", node)
        return
    if arity is None and not types and not isinstance(op, (Scan, Call)):
        yield Problem(f"{op.name} takes one input or more, got none", node)
        return
    if isinstance(op, Scan) and not 0 <= op.carried <= op.carried + op.scanned <= len(types):
        yield Problem(f"scan of {op.carried} carried and {op.scanned} scanned values got {len(types)}", node)
        return
    try:
        expected = op.infer(types)
    except TypeRuleError as error:
        yield Problem(str(error), node)
        return
    except KeyError as error:
        yield Problem(f"{error.args[0]} is no element type of tensors", node)
        return
    got = tuple(v.type for v in node.outputs)
    if got != expected:
        listed = [", ".join(map(str, t)) or "nothing" for t in (expected, got)]
        yield Problem(f"{op.name} gives {listed[0]}, declared as {listed[1]}", node)


def _report(graph: Graph, found: Sequence[Problem]) -> str:
    printer = GraphPrinter()
    printer.graph(graph, f"graph {graph.name!r} ", "")
    count = f"{len(found)} problems" if len(found) > 1 else "1 problem"
    parts = [f"{count} in graph {graph.name!r}"]
    for problem in found:
        line = 0 if problem.place is None else printer.line_of.get(problem.place, 0)
        parts.append(f"error: {problem.message}\n" + _excerpt(printer.lines, line))
    return "\n".join(parts)


def _excerpt(lines: Sequence[str], line: int) -> str:
    shown = []
    for i in range(max(0, line - _AROUND), min(len(lines), line + _AROUND + 1)):
        shown.append(f"{i + 1:5} | {lines[i]}")
        if i == line:
            text = lines[i]
            start = len(text) - len(text.lstrip())
            shown.append("      | " + " " * start + "^" * max(1, len(text) - start))
    return "\n".join(shown)

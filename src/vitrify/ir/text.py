"""Graphs as text that :func:`vitrify.ir.text_parse.parse_graph` reads back.

::

    graph "head" {
      dim n: 1..512
      assume n == 2*k
      input %x: f32[n, 4]
      %w: f32[4] = constant [0.5, -1.0, nan, 2.0] from "Add 'bias'"
      %0: f32[n, 4] = expand(%w) shape=[n, 4]
      %1 "my result": f32[n, 4] = map.add(%x, %0)
      output %1 as "y"
    }

A value is called by its name where that is a word nobody else has, by a number elsewhere. An op's fields
follow its inputs, those at their default left out; its first text field follows the op's name after a dot.
Constants of more than 16 elements are shown by digest, their data goes to a side table.
"""

from __future__ import annotations

import json
import re
from collections.abc import MutableMapping
from dataclasses import MISSING, Field, fields
from hashlib import sha256
from typing import Any

import numpy as np

from vitrify.ir.dims import Dim, Symbol, symbols
from vitrify.ir.dtypes import DTYPES, DType, from_numpy
from vitrify.ir.graph import Graph, Node, Op, Type, Value

Array = np.ndarray[Any, Any]
INLINE = 16  # elements of a constant that are written out
_ELEMENTS = {t.numpy_name for t in DTYPES}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def print_graph(graph: Graph, constants: MutableMapping[str, Array] | None = None) -> str:
    """The text of ``graph``; ``constants`` receives the large constants by digest."""
    printer = GraphPrinter(constants)
    printer.graph(graph, f"graph {json.dumps(graph.name)} ", "")
    return "\n".join(printer.lines) + "\n"


def digest(array: Array) -> str:
    """What stands for a large constant: its dtype, shape and bytes."""
    head = f"{array.dtype.name}{list(array.shape)}".encode()
    return sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


class GraphPrinter:
    """Prints any graph, ill-formed ones too; ``line_of`` tells where each node begins."""

    def __init__(self, constants: MutableMapping[str, Array] | None = None) -> None:
        self.lines: list[str] = []
        self.line_of: dict[Node | Value, int] = {}
        self._constants = constants
        self._names: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._numbered = 0
        self._open: list[Graph] = []
        self._symbols: list[dict[str, Symbol]] = []

    def graph(self, graph: Graph, head: str, indent: str) -> None:
        """``head {``, the contents one level deeper, and ``}``."""
        self._append(f"{indent}{head}{{")
        if graph in self._open:
            self.lines[-1] += " the graph that holds it }"
            return
        self._open.append(graph)
        inner = indent + "  "
        self._header(graph, inner)
        for value in graph.inputs:
            self.line_of[value] = len(self.lines)
            self._append(f"{inner}input {self._definition(value)}")
        for node in graph.nodes:
            self._node(node, inner)
        names = graph.output_names if any(graph.output_names) else ()
        results = [
            self.name(value) + (f" as {json.dumps(names[i])}" if i < len(names) else "")
            for i, value in enumerate(graph.outputs)
        ]
        self._append(f"{inner}output {', '.join(results)}".rstrip())
        self._append(indent + "}")
        self._open.pop()
        self._symbols.pop()

    def name(self, value: Value) -> str:
        """How the text calls ``value``."""
        if value not in self._names:
            name = value.name
            if not _NAME.fullmatch(name) or name in self._taken:
                name = str(self._numbered)
                self._numbered += 1
            self._taken.add(name)
            self._names[value] = name
        return "%" + self._names[value]

    def _append(self, line: str) -> None:
        self.lines.append(line)

    def _header(self, graph: Graph, indent: str) -> None:
        """Dims that no graph around this one declares, those that only a ``BindDim`` names included."""
        known = dict(self._symbols[-1]) if self._symbols else {}
        found = [s for dim in graph.symbols.values() for s in symbols(dim)]
        outermost = not self._symbols
        found += sorted(used_symbols(graph), key=lambda s: s.name) if outermost else []
        for symbol in found:
            if symbol.name not in known:
                known[symbol.name] = symbol
                high = "" if symbol.hi is None else symbol.hi
                self._append(f"{indent}dim {symbol.name}: {symbol.lo}..{high}")
        for left, right in graph.assumptions:
            self._append(f"{indent}assume {left} == {right}")
        self._symbols.append(known)

    def _definition(self, value: Value) -> str:
        name = self.name(value)
        quoted = f" {json.dumps(value.name)}" if value.name and name != "%" + value.name else ""
        return f"{name}{quoted}: {value.type}"

    def _node(self, node: Node, indent: str) -> None:
        self.line_of[node] = len(self.lines)
        inputs = ", ".join(self.name(v) for v in node.inputs)
        results = ", ".join(self._definition(v) for v in node.outputs)
        op = node.op
        parts = [f"{indent}{results} = {op.name}"]
        shown = [f for f in fields(op) if f.repr and not _at_default(f, getattr(op, f.name))]
        if shown and shown[0].type == "str" and _WORD.fullmatch(getattr(op, shown[0].name)):
            parts[0] += "." + getattr(op, shown.pop(0).name)
        if inputs:
            parts[0] += f"({inputs})"
        bodies = [f for f in shown if f.type == "Graph"]
        parts += [self._field(op, f) for f in shown if f not in bodies]
        for field in bodies:
            body: Graph = getattr(op, field.name)
            label = f"{json.dumps(body.name)} " if body.name else ""
            self.graph(body, f"{' '.join(parts).lstrip()} {field.name}={label}", indent)
            parts = [self.lines.pop()]
        source = f" from {json.dumps(node.source)}" if node.source else ""
        self._append(" ".join(parts) + source)

    def _field(self, op: Op, field: Field[Any]) -> str:
        value = getattr(op, field.name)
        if isinstance(value, np.ndarray):
            return self._constant(value)
        return f"{field.name}={_text(value)}"

    def _constant(self, array: Array) -> str:
        if array.size <= INLINE and array.dtype.name in _ELEMENTS:
            return "[" + ", ".join(element_text(x) for x in array.reshape(-1)) + "]"
        key = digest(array)
        if self._constants is not None:
            self._constants[key] = array
        return "#" + key


def _at_default(field: Field[Any], value: object) -> bool:
    return field.default is not MISSING and value is field.default


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else json.dumps(value)
    if isinstance(value, np.generic):
        return _text(value.item())
    if isinstance(value, (DType, Dim)):
        return str(value)
    return repr(value)


def element_text(element: Any) -> str:
    """One element of an array exactly: the shortest decimal that reads back, or its bits."""
    dtype = from_numpy(element.dtype)
    if dtype.is_bool:
        return "true" if element else "false"
    if not dtype.is_float:
        return str(int(element))
    number = float(element)
    for digits in range(1, 18):
        text = f"{number:.{digits}g}"
        with np.errstate(all="ignore"):
            if np.asarray(float(text)).astype(element.dtype).tobytes() == element.tobytes():
                return text if any(c in text for c in ".en") else text + ".0"
    bits: bytes = element.tobytes()[::-1]
    return "bits:0x" + bits.hex()


def used_symbols(graph: Graph) -> set[Symbol]:
    """Every symbol in the types and fields of a graph and its bodies."""
    found: set[Symbol] = set()
    pending, seen = [graph], set()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for value in (*current.inputs, *(v for n in current.nodes for v in n.outputs)):
            found |= type_symbols(value.type)
        for left, right in current.assumptions:
            found |= symbols(left) | symbols(right)
        for node in current.nodes:
            found |= op_symbols(node.op)
            pending += node.op.bodies
    return found


def type_symbols(type_: Type) -> set[Symbol]:
    return {s for n in type_.shape for s in symbols(n)}


def op_symbols(op: Op) -> set[Symbol]:
    """The symbols in an op's own fields."""
    found: set[Symbol] = set()
    for field in fields(op):
        found |= _field_symbols(getattr(op, field.name))
    return found


def _field_symbols(value: object) -> set[Symbol]:
    if isinstance(value, tuple):
        return {s for part in value for s in _field_symbols(part)}
    return symbols(value) if isinstance(value, Dim) else set()

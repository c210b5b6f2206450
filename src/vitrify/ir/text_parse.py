"""Reading the text that :func:`vitrify.ir.text.print_graph` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from math import inf, nan
from typing import Any, TypeVar

import numpy as np

from vitrify.ir import dims
from vitrify.ir.call import Evaluate
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import BY_NAME, DType
from vitrify.ir.graph import STRUCTURES, BindDim, Call, Constant, Graph, Node, Op, Type, Value
from vitrify.ir.text import Array
from vitrify.ir.verify import IRError, verify

T = TypeVar("T")
_OPS = {cls.__name__.lower().rstrip("_"): cls for cls in STRUCTURES}
_NUMBER = re.compile(r"-?(?:nan|inf|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")


def parse_graph(
    text: str,
    constants: Mapping[str, Array] | None = None,
    ops: Mapping[tuple[str, int], Evaluate] | None = None,
) -> Graph:
    """The graph that ``text`` describes, verified; ``constants`` has the large constants by digest, ``ops`` what
    called ops compute by label and version.

    Raises :class:`vitrify.ir.verify.IRError` with line, column and a caret where the text is ill-formed, and
    as :func:`vitrify.ir.verify.verify` where the graph is.
    """
    reader = _Reader(text)
    reader.word("graph")
    graph = _GraphParser(reader, constants or {}, ops or {}).graph({})
    reader.space()
    if reader.at < len(text):
        raise reader.error("expected the end of the text")
    verify(graph)
    return graph


class _Reader:
    """A position in the text, and the tokens from there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, message: str, at: int | None = None) -> IRError:
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        shown = self.text[start : len(self.text) if end < 0 else end]
        caret = " " * (at - start) + "^"
        return IRError(
            f"line {line}, column {at - start + 1}: {message}\n{line:5} | {shown}\n      | {caret}"
        )

    def space(self) -> None:
        """Blanks, line ends, and comments that begin with ``//``."""
        match = re.compile(r"(?:\s+|//[^\n]*)*").match(self.text, self.at)
        self.at = match.end() if match else self.at

    def token(self, pattern: str) -> str | None:
        self.space()
        match = re.compile(pattern).match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def expect(self, pattern: str, what: str) -> str:
        found = self.token(pattern)
        if found is None:
            raise self.error(f"expected {what}")
        return found

    def accept(self, literal: str) -> bool:
        return self.token(re.escape(literal)) is not None

    def literal(self, literal: str) -> None:
        self.expect(re.escape(literal), f"'{literal}'")

    def word(self, word: str) -> None:
        self.expect(rf"{word}\b", f"'{word}'")

    def accept_word(self, word: str) -> bool:
        return self.token(rf"{word}\b") is not None

    def string(self) -> str | None:
        self.space()
        start = self.at
        quoted = self.token(r'"(?:[^"\\\n]|\\.)*"')
        if quoted is None:
            return None
        try:
            return str(json.loads(quoted))
        except ValueError:
            raise self.error("ill-formed string", start) from None

    def listed(self, item: Callable[[], T], close: str) -> list[T]:
        """Items between commas up to ``close``; the opening bracket is read already."""
        items: list[T] = []
        if self.accept(close):
            return items
        items.append(item())
        while self.accept(","):
            items.append(item())
        self.literal(close)
        return items

    def expression(self) -> str:
        """The text of a dim up to a comma, bracket, blank or line end outside its parentheses."""
        self.space()
        depth, start = 0, self.at
        while self.at < len(self.text):
            c = self.text[self.at]
            if depth == 0 and (c in ",])}=" or c.isspace()):
                break
            depth += (c == "(") - (c == ")")
            self.at += 1
        return self.text[start : self.at]


class _GraphParser:
    def __init__(
        self, reader: _Reader, constants: Mapping[str, Array], ops: Mapping[tuple[str, int], Evaluate]
    ) -> None:
        self.reader = reader
        self.constants = constants
        self.ops = ops

    def graph(self, outer: Mapping[str, Dim]) -> Graph:
        """``"name" { dims, assumptions, inputs, nodes, outputs }``; the dims of ``outer`` are known."""
        reader = self.reader
        graph = Graph((), (), [], reader.string() or "", dict(outer))
        scope: dict[str, Value] = {}
        reader.literal("{")
        while reader.accept_word("dim"):
            self._declaration(graph.symbols, outer)
        while reader.accept_word("assume"):
            left = self.dim(graph.symbols)
            reader.literal("==")
            graph.assumptions.append((left, self.dim(graph.symbols)))
        inputs = []
        while reader.accept_word("input"):
            inputs.append(self._definition(scope, graph.symbols))
        graph.inputs = tuple(inputs)
        while not reader.accept_word("output"):
            graph.nodes.append(self._node(scope, graph))
        self._outputs(graph, scope)
        return graph

    def _declaration(self, symbols: dict[str, Dim], outer: Mapping[str, Dim]) -> None:
        reader = self.reader
        reader.space()
        start = reader.at
        name = reader.expect(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a dim")
        if name in symbols:
            raise reader.error(f"dim {name!r} is declared already", start)
        reader.literal(":")
        low = int(reader.expect(r"-?\d+", "the least value"))
        reader.literal("..")
        high = (
            None if reader.text[reader.at : reader.at + 1].isspace() else reader.expect(r"-?\d+", "a bound")
        )
        symbols[name] = Dim.symbol(name, low, None if high is None else int(high))

    def _definition(self, scope: dict[str, Value], symbols: Mapping[str, Dim]) -> Value:
        reader = self.reader
        reader.space()
        start = reader.at
        name = reader.expect(r"%[A-Za-z0-9_.]+", "a value such as %x")[1:]
        if name in scope:
            raise reader.error(f"%{name} is defined already", start)
        quoted = reader.string()
        reader.literal(":")
        given = quoted if quoted is not None else "" if name[0].isdigit() else name
        scope[name] = Value(self._type(symbols), given)
        return scope[name]

    def _type(self, symbols: Mapping[str, Dim]) -> Type:
        dtype = self._dtype()
        self.reader.literal("[")
        return Type(dtype, tuple(self.reader.listed(lambda: self.dim(symbols), "]")))

    def _dtype(self) -> DType:
        reader = self.reader
        reader.space()
        start = reader.at
        name = reader.expect(r"[a-z][a-z0-9]*", "an element type such as f32")
        if name not in BY_NAME:
            raise reader.error(f"unknown element type {name!r}", start)
        return BY_NAME[name]

    def dim(self, symbols: Mapping[str, Dim]) -> DimLike:
        reader = self.reader
        reader.space()
        start = reader.at
        text = reader.expression()
        try:
            return dims.parse(text, symbols)
        except ValueError as error:
            raise reader.error(str(error), start) from None

    def _operand(self, scope: Mapping[str, Value]) -> Value:
        reader = self.reader
        reader.space()
        start = reader.at
        name = reader.expect(r"%[A-Za-z0-9_.]+", "a value such as %x")[1:]
        if name not in scope:
            raise reader.error(f"%{name} is not defined before its use", start)
        return scope[name]

    def _outputs(self, graph: Graph, scope: Mapping[str, Value]) -> None:
        reader = self.reader
        names: list[str | None] = []

        def output() -> Value:
            value = self._operand(scope)
            names.append(reader.string() if reader.accept_word("as") else None)
            return value

        start = reader.at
        graph.outputs = tuple(reader.listed(output, "}"))
        given = [n for n in names if n is not None]
        if given and len(given) != len(names):
            raise reader.error(f"{len(given)} of {len(names)} outputs are named", start)
        graph.output_names = tuple(given)

    def _node(self, scope: dict[str, Value], graph: Graph) -> Node:
        """``%results = op.detail(%inputs) field=value ... from "source"``."""
        reader = self.reader
        if not reader.text.startswith("%", self._position()):
            raise reader.error("expected a node, 'output' or '}'")
        outputs = [self._definition(scope, graph.symbols)]
        while reader.accept(","):
            outputs.append(self._definition(scope, graph.symbols))
        reader.literal("=")
        start = self._position()
        name = reader.expect(r"[a-z]+", "an op")
        if name not in _OPS:
            raise reader.error(f"unknown op {name!r}; there are {', '.join(sorted(_OPS))}", start)
        cls = _OPS[name]
        given: dict[str, Any] = {}
        if reader.accept("."):
            given[fields(cls)[0].name] = reader.expect(r"[A-Za-z_][A-Za-z0-9_]*", "a name")
        inputs_at = self._position()
        inputs = reader.listed(lambda: self._operand(scope), ")") if reader.accept("(") else []
        if any(v in outputs for v in inputs):
            raise reader.error("an op does not see its own results", inputs_at)
        if cls is Constant:
            given["value"] = self._constant(outputs[0].type)
        op = self._op(cls, given, graph, start)
        source = reader.string() or "" if reader.accept_word("from") else ""
        node = Node(op, tuple(inputs), tuple(outputs), source)
        for i, value in enumerate(outputs):
            value.node, value.index = node, i
        return node

    def _position(self) -> int:
        self.reader.space()
        return self.reader.at

    def _op(self, cls: type[Op], given: dict[str, Any], graph: Graph, start: int) -> Op:
        reader = self.reader
        known = {f.name: f for f in fields(cls) if f.repr}
        while (match := re.compile(r"([a-z_]+)=(?!=)").match(reader.text, self._position())) is not None:
            name = match.group(1)
            if name not in known or name in given:
                problem = "is given twice" if name in given else f"is no field of {cls.__name__.lower()}"
                raise reader.error(f"{name!r} {problem}")
            reader.at = match.end()
            given[name] = self._field(known[name], graph.symbols)
        missing = [f.name for f in known.values() if f.name not in given and f.default is MISSING]
        if missing:
            raise reader.error(f"{cls.__name__.lower()} needs {', '.join(missing)}", start)
        if cls is BindDim and given["symbol"] not in graph.symbols:
            raise reader.error(f"dim {given['symbol']!r} is not declared", start)
        if cls is Call:
            given["evaluate"] = self.ops.get((given["op"], given["version"]))
        return cls(**given)

    def _field(self, field: Field[Any], symbols: Mapping[str, Dim]) -> object:
        reader = self.reader
        match field.type:
            case "int":
                return self._int()
            case "bool":
                return reader.expect(r"true\b|false\b", "true or false") == "true"
            case "str":
                return self._name()
            case "DType":
                return self._dtype()
            case "DimLike":
                return self.dim(symbols)
            case "Shape":
                return self._shape(symbols)
            case "tuple[Shape, ...]":
                reader.literal("[")
                return tuple(reader.listed(lambda: self._shape(symbols), "]"))
            case "tuple[DType, ...]":
                reader.literal("[")
                return tuple(reader.listed(self._dtype, "]"))
            case "tuple[int, ...]":
                reader.literal("[")
                return tuple(reader.listed(self._int, "]"))
            case "tuple[str, ...]":
                reader.literal("[")
                return tuple(reader.listed(self._name, "]"))
            case "float | int | bool":
                return self._number()
            case "Graph":
                return self.graph(symbols)
        raise reader.error(f"fields of {field.type} have no text form")

    def _name(self) -> str:
        quoted = self.reader.string()
        return self.reader.expect(r"[A-Za-z_][A-Za-z0-9_]*", "a name") if quoted is None else quoted

    def _int(self) -> int:
        return int(self.reader.expect(r"-?\d+", "an integer"))

    def _shape(self, symbols: Mapping[str, Dim]) -> Shape:
        self.reader.literal("[")
        return tuple(self.reader.listed(lambda: self.dim(symbols), "]"))

    def _number(self) -> float | int | bool:
        text = self.reader.expect(rf"true\b|false\b|{_NUMBER.pattern}", "a number")
        special = {"true": True, "false": False, "nan": nan, "-nan": nan, "inf": inf, "-inf": -inf}
        if text in special:
            return special[text]
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)

    def _constant(self, declared: Type) -> Array:
        reader = self.reader
        start = self._position()
        key = reader.token(r"#[0-9a-f]+")
        if key is not None:
            if key[1:] not in self.constants:
                raise reader.error(f"the constant {key} is not among the {len(self.constants)} given", start)
            return self.constants[key[1:]]
        reader.literal("[")
        elements = reader.listed(lambda: self._element(declared.dtype), "]")
        shape = [n for n in declared.shape if isinstance(n, int)]
        if len(shape) != declared.rank or int(np.prod(shape)) != len(elements):
            raise reader.error(f"{len(elements)} elements do not fill {declared}", start)
        return np.frombuffer(b"".join(elements), declared.dtype.numpy).reshape(shape).copy()

    def _element(self, dtype: DType) -> bytes:
        reader = self.reader
        start = self._position()
        bits = reader.token(r"bits:0x[0-9a-f]+")
        if bits is not None:
            data = bytes.fromhex(bits[len("bits:0x") :])[::-1]
        else:
            number = self._number()
            integral = isinstance(number, int)
            if not dtype.is_float and not (integral and dtype.min() <= number <= dtype.max()):
                raise reader.error(f"{number!r} is no {dtype}", start)
            with np.errstate(all="ignore"):
                data = np.asarray(number).astype(dtype.numpy).tobytes()
        if len(data) != dtype.itemsize:
            raise reader.error(f"{len(data)} bytes are no {dtype}", start)
        return data

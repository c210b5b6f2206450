"""The walk over a model: every node through the rule of its op and opset, all that is unsupported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import AttributeProto

from vitrify.errors import InvalidArgumentError, InvalidModelError, UnsupportedError
from vitrify.frontends.onnx import ops  # noqa: F401  (registers the rules)
from vitrify.frontends.onnx.arrays import ArrayReader, UnsupportedDType, dtype_name, dtype_of
from vitrify.frontends.onnx.attributes import Attributes
from vitrify.frontends.onnx.body import Array, Body, Tensor, constant_tensor, known_tensor, short_sources
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.load import ModelSource, read_model
from vitrify.frontends.onnx.order import ordered_nodes, source_of, subgraphs
from vitrify.frontends.onnx.registry import Result, Unsupported, rule_of, symbolic_rule_of
from vitrify.frontends.onnx.schema import check_node, signature_of
from vitrify.frontends.onnx.symbols import Bound, Choices, Substitute, SymbolTable
from vitrify.ir.dims import INT64_MAX, Dim, DimLike, product, symbols
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Graph, Type, TypeRuleError, Value, bound_dims

LATEST_OPSET = onnx.defs.onnx_opset_version()
MAX_ATTEMPTS = 512
MAX_DEPTH = 64  # of functions and graphs inside each other
MOST_INPUT_VALUES = 4096  # of an input that may be asked for as a constant
PLACEHOLDER = Type(F32, ())  # of an input that is reported as unsupported


@dataclass(frozen=True)
class Metadata:
    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)
    overridable_initializers: tuple[str, ...] = ()  # inputs with a default; imported as constants


@dataclass(frozen=True)
class ImportedModel:
    graph: Graph
    metadata: Metadata


def import_onnx(
    model: ModelSource,
    *,
    input_shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    dim_overrides: Mapping[str, int] | None = None,
    input_values: Mapping[str, Array] | None = None,
) -> Graph:
    """The tensor graph of an ONNX model.

    ``input_shapes`` replaces the declared shapes of inputs: a number, a name, or None for a size of its own.
    ``dim_overrides`` gives numbers to named sizes; ``input_values`` makes inputs constants. Raises :class:`~vitrify.errors.NoSuchFileError`,
    :class:`~vitrify.errors.InvalidModelError`, :class:`~vitrify.errors.ExternalDataError`,
    :class:`~vitrify.errors.UnsupportedError` (listing everything at once) and, for wrong shapes or names,
    :class:`~vitrify.errors.InvalidArgumentError`.
    """
    return load_onnx(
        model, input_shapes=input_shapes, dim_overrides=dim_overrides, input_values=input_values
    ).graph


def load_onnx(
    model: ModelSource,
    *,
    input_shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    dim_overrides: Mapping[str, int] | None = None,
    input_values: Mapping[str, Array] | None = None,
) -> ImportedModel:
    """As :func:`import_onnx`, with what the model says of itself."""
    proto, directory = read_model(model)
    reader = ArrayReader(directory)
    importer = Importer(proto, reader, input_shapes or {}, dim_overrides or {}, input_values or {})
    return ImportedModel(importer.run(), model_metadata(proto))


def model_metadata(model: ModelSource) -> Metadata:
    proto = read_model(model)[0]
    initialized = {t.name for t in proto.graph.initializer}
    return Metadata(
        producer_name=proto.producer_name,
        graph_name=proto.graph.name,
        domain=proto.domain,
        description=proto.doc_string,
        graph_description=proto.graph.doc_string,
        version=proto.model_version,
        custom_metadata_map={p.key: p.value for p in proto.metadata_props},
        overridable_initializers=tuple(
            v.name for v in proto.graph.input if v.name in initialized and proto.ir_version >= 4
        ),
    )


Names = dict[str, Tensor | None]  # None: the result of something unsupported


@dataclass
class Scope:
    """The names visible to a graph's nodes, and what its attributes refer to inside a function."""

    names: Names
    parent: Scope | None
    opsets: Mapping[str, int]
    references: Mapping[str, AttributeProto]
    depth: int = 0

    def visible(self) -> set[str]:
        return set(self.names) | (self.parent.visible() if self.parent else set())

    def lookup(self, name: str) -> Tensor | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        raise InvalidModelError(f"the name {name!r} is not defined where it is used")


class Importer:
    """One import: attempts until no symbol has to be replaced and the choices made hold."""

    def __init__(
        self,
        model: onnx.ModelProto,
        reader: ArrayReader,
        input_shapes: Mapping[str, Sequence[int | str | None]],
        dim_overrides: Mapping[str, int],
        input_values: Mapping[str, Array],
    ) -> None:
        self._model = model
        self._input_values = input_values
        self._reader = reader
        self._input_shapes = input_shapes
        self._symbols = SymbolTable(_checked_overrides(dim_overrides), sizes_given=bool(input_shapes))
        self._choices = Choices()
        self._functions = {(f.domain, f.name): f for f in model.functions}
        self._opsets = _opsets(model.opset_import)
        self._problems: dict[str, None] = {}
        self._wanted: set[str] = set()  # inputs whose values nodes with problems lack
        self._explained: set[str] = set()  # the problems of such nodes

    def run(self) -> Graph:
        self._check_versions()
        for _ in range(MAX_ATTEMPTS):
            self._problems.clear()
            self._symbols.begin()
            try:
                graph = self._attempt()
            except Substitute as change:
                self._symbols.replace(change)
            except Bound as bound:
                self._symbols.restrict(bound)
            except InvalidModelError as error:
                if not self._choices.flip(error, self._symbols):
                    raise (self._choices.first_error or error) from None
            else:
                self._refuse_problems()
                self._check_arguments()
                return graph
        raise InvalidModelError(f"the model's sizes did not settle in {MAX_ATTEMPTS} attempts")

    def _refuse_problems(self) -> None:
        if self._problems:
            curable = self._explained.issuperset(self._problems)
            inputs = self._wanted.intersection(v.name for v in self._model.graph.input)
            raise UnsupportedError(list(self._problems), inputs=sorted(inputs) if curable else ())

    def _check_versions(self) -> None:
        version = self._opsets.get("", 0)
        if version > LATEST_OPSET:
            raise UnsupportedError([f"opset {version} of ai.onnx (the newest known is {LATEST_OPSET})"])

    def _check_arguments(self) -> None:
        if self._symbols.unused_overrides:
            known = ", ".join(self._symbols.open_dims()) or "none"
            raise InvalidArgumentError(
                f"dim_overrides names no dim of the model: {sorted(self._symbols.unused_overrides)}",
                hint=f"the inputs' dims that are open: {known}",
            )

    # One attempt.
    def _attempt(self) -> Graph:
        proto = self._model.graph
        body = Body(self._symbols)
        scope = Scope({}, None, self._opsets, {})
        constants = {t.name for t in proto.initializer}
        declared = [v for v in proto.input if v.name not in constants]
        self._check_input_names([v.name for v in declared])
        for info in declared:
            if info.name in self._input_values:
                scope.names[info.name] = self._input_value(info)
        inputs = [self._input(v, scope, body) for v in declared if v.name not in self._input_values]
        outputs = self._graph(proto, scope, body, "", f"graph {proto.name!r}")
        self._check_outputs(proto, outputs)
        if any(t is None for t in outputs):
            self._refuse_problems()
        values = [body.resolve(t) for t in outputs if t is not None]
        graph = body.builder.build(inputs, values, proto.name)
        graph.output_names = tuple(v.name for v in proto.output)
        graph.symbols = _symbols_of(graph)
        graph.assumptions = list(body.assumptions)
        return graph

    def _check_input_names(self, names: list[str]) -> None:
        unknown = sorted(set(self._input_shapes) - set(names))
        if unknown:
            raise InvalidArgumentError(
                f"input_shapes names no input of the model: {unknown}", expected=f"some of {names}"
            )
        if len(set(names)) != len(names):
            raise InvalidModelError("two inputs have one name", actual=names)
        if unknown := sorted(set(self._input_values) - set(names)):
            raise InvalidArgumentError(
                f"input_values names no input of the model: {unknown}", expected=f"some of {names}"
            )

    def _input_value(self, info: onnx.ValueInfoProto) -> Tensor:
        """The constant in an input's place."""
        declared, array = info.type.tensor_type, self._input_values[info.name]
        dtype = dtype_of(declared.elem_type) if info.type.WhichOneof("value") == "tensor_type" else None
        sizes = [d.dim_value or None for d in declared.shape.dim]
        fits = not declared.HasField("shape") or (
            len(sizes) == array.ndim and all(s in (None, n) for s, n in zip(sizes, array.shape, strict=True))
        )
        if dtype is None or array.dtype != dtype.numpy or not fits:
            raise InvalidArgumentError(
                f"input_values[{info.name!r}]",
                expected=f"{dtype_name(declared.elem_type)} of shape {sizes}",
                actual=f"{array.dtype} of shape {list(array.shape)}",
            )
        return constant_tensor(array, dtype)

    def _input(self, info: onnx.ValueInfoProto, scope: Scope, body: Body) -> Value:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            scope.names[info.name] = None
            self._problems.setdefault(f"input {info.name!r} is a {kind or 'value without a type'}")
            return Value(PLACEHOLDER, info.name)
        tensor_type = info.type.tensor_type
        dtype = dtype_of(tensor_type.elem_type)
        if dtype is None:
            scope.names[info.name] = None
            self._problems.setdefault(f"input {info.name!r} of type {dtype_name(tensor_type.elem_type)}")
            return Value(PLACEHOLDER, info.name)
        shape = self._input_shape(info.name, tensor_type)
        if shape is None:
            scope.names[info.name] = None
            self._problems.setdefault(f"input {info.name!r} has no declared rank (give it in input_shapes)")
            return Value(PLACEHOLDER, info.name)
        _check_size(shape, dtype.itemsize, f"input {info.name!r}")
        value = Value(Type(dtype, shape), info.name)
        scope.names[info.name] = Tensor(dtype, value.shape, value=value, home=body)
        return value

    def _input_shape(self, name: str, declared: onnx.TypeProto.Tensor) -> tuple[DimLike, ...] | None:
        given = self._input_shapes.get(name)
        if given is None:
            if not declared.HasField("shape"):
                return None
            sizes: list[int | str | None] = [
                d.dim_value if d.dim_value else (d.dim_param or None) for d in declared.shape.dim
            ]
        else:
            sizes = list(given)
            if declared.HasField("shape") and len(declared.shape.dim) != len(sizes):
                raise InvalidArgumentError(
                    f"input_shapes of {name!r} has the wrong rank",
                    expected=len(declared.shape.dim),
                    actual=len(sizes),
                )
        result: list[DimLike] = []
        for axis, size in enumerate(sizes):
            if isinstance(size, bool) or (isinstance(size, int) and size < 0):
                raise InvalidModelError(f"input {name!r} has the size {size} on axis {axis}")
            if isinstance(size, int):
                result.append(size)
            else:
                result.append(self._symbols.named(size) if size else self._symbols.fresh(f"{name}_{axis}"))
        return tuple(result)

    def _check_outputs(self, proto: onnx.GraphProto, outputs: list[Tensor | None]) -> None:
        if len({v.name for v in proto.output}) != len(proto.output):
            raise InvalidModelError("two outputs have one name", actual=[v.name for v in proto.output])
        for info, tensor in zip(proto.output, outputs, strict=True):
            code = info.type.tensor_type.elem_type
            if tensor is not None and code and dtype_of(code) is not tensor.dtype:
                raise InvalidModelError(
                    f"output {info.name!r} is declared with another type",
                    expected=dtype_name(code),
                    actual=tensor.dtype,
                )

    # Graphs, functions and nodes.
    def _graph(self, proto: onnx.GraphProto, scope: Scope, body: Body, path: str, where: str) -> list[Tensor | None]:
        """The outputs of a graph whose nodes go into ``body``."""
        if scope.depth > MAX_DEPTH:
            raise InvalidModelError(f"{where} is nested more than {MAX_DEPTH} deep")
        for sparse in proto.sparse_initializer:
            self._problems.setdefault(f"sparse initializer {sparse.values.name!r}")
            scope.names[sparse.values.name] = None
        for tensor in proto.initializer:
            self._initializer(tensor, scope)
        outputs = [v.name for v in proto.output]
        outer = scope.parent.visible() if scope.parent else set()
        self._nodes(list(proto.node), outputs, outer, scope, body, path, where)
        return [scope.lookup(name) for name in outputs]

    def _nodes(
        self,
        nodes: list[onnx.NodeProto],
        outputs: list[str],
        outer: set[str],
        scope: Scope,
        body: Body,
        path: str,
        where: str,
    ) -> None:
        for position, node in ordered_nodes(nodes, set(scope.names), outputs, outer, where):
            self._node(node, scope, body, f"{path}/{position}")

    def _initializer(self, tensor: onnx.TensorProto, scope: Scope) -> None:
        try:
            array = self._reader.read(tensor)
        except UnsupportedDType as error:
            self._problems.setdefault(f"initializer: {error}")
            scope.names[tensor.name] = None
            return
        dtype = dtype_of(tensor.data_type)
        assert dtype is not None
        scope.names[tensor.name] = constant_tensor(array, dtype)

    def _node(self, node: onnx.NodeProto, scope: Scope, body: Body, path: str) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        source = source_of(node)
        opset = scope.opsets.get(domain, 0)
        place = f"{source} ({domain or 'ai.onnx'} opset {opset})"
        inputs = [scope.lookup(name) if name else None for name in node.input]
        poisoned = any(name and tensor is None for name, tensor in zip(node.input, inputs, strict=True))
        function = self._functions.get((node.domain, node.op_type)) or self._functions.get((domain, node.op_type))
        rule = rule_of(domain, node.op_type, opset)
        if function is None and rule is None:
            self._problems.setdefault(f"{place}: the op is not supported{self._newer(domain, node.op_type, opset)}")
        if poisoned or (function is None and rule is None):
            self._scan(node, scope)
            scope.names.update({name: None for name in node.output if name})
            return
        signature = None if function is not None else signature_of(domain, node.op_type, opset)
        if signature is not None:
            check_node(signature, inputs, node.output, source)
        attributes = Attributes(_attributes(node, scope), self._reader, source)
        try:
            with body.builder.sourced(source):
                if function is not None:
                    results = self._function(function, node, inputs, scope, body, path)
                else:
                    call = self._call(node, inputs, attributes, scope, body, opset, path, source)
                    results = self._apply(call, domain, node.op_type, opset)
                    if attributes.unread():
                        raise Unsupported(f"attribute {', '.join(map(repr, attributes.unread()))}")
        except Unsupported as error:
            self._problems.setdefault(f"{place}: {error}")
            if wanted := short_sources(inputs, MOST_INPUT_VALUES):
                self._wanted |= wanted
                self._explained.add(f"{place}: {error}")
            results = [None] * len(node.output)
        except (TypeRuleError, ZeroDivisionError, OverflowError) as error:
            raise InvalidModelError(f"{source}: {error}") from error
        self._bind(node, results, scope, source)

    def _newer(self, domain: str, op_type: str, opset: int) -> str:
        newer = rule_of(domain, op_type, LATEST_OPSET)
        return f" in opset {opset}, only in later ones" if newer is not None and opset < LATEST_OPSET else ""

    def _scan(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Reports the unsupported ops inside a node that is not imported."""
        for graph in subgraphs(node):
            for inner in graph.node:
                domain = "" if inner.domain == "ai.onnx" else inner.domain
                opset = scope.opsets.get(domain, 0)
                known = rule_of(domain, inner.op_type, opset) or (inner.domain, inner.op_type) in self._functions
                if not known:
                    self._problems.setdefault(
                        f"{source_of(inner)} ({domain or 'ai.onnx'} opset {opset}): the op is not supported"
                    )
                self._scan(inner, scope)

    def _call(
        self,
        node: onnx.NodeProto,
        inputs: list[Tensor | None],
        attributes: Attributes,
        scope: Scope,
        body: Body,
        opset: int,
        path: str,
        source: str,
    ) -> Call:
        def branch(graph: onnx.GraphProto, inner: Body, name: str, given: Mapping[str, Tensor]) -> list[Tensor]:
            child = Scope(dict(given), scope, scope.opsets, scope.references, scope.depth + 1)
            results = self._graph(graph, child, inner, f"{path}.{name}", f"{source}: graph {graph.name!r}")
            if any(t is None for t in results):
                raise Poisoned
            return [t for t in results if t is not None]

        wanted = [bool(name) for name in node.output]
        return Call(source, inputs, wanted, attributes, body, opset, path, self._choices, branch)

    def _apply(self, call: Call, domain: str, op_type: str, opset: int) -> list[Tensor | None]:
        contents = self._contents(call, symbolic_rule_of(domain, op_type, opset))
        if contents is not None and not call.attributes.unread():
            return contents
        rule = rule_of(domain, op_type, opset)
        assert rule is not None
        try:
            results = rule(call)
        except Poisoned:
            return [None] * len(call.wanted)
        listed: Sequence[Result] = [results] if isinstance(results, Tensor | Value) or results is None else results
        return [_as_tensor(r, call) for r in listed]

    def _contents(self, call: Call, rule: Callable[..., Any] | None) -> list[Tensor | None] | None:
        """The results by what the inputs hold; None where the op has to compute."""
        if rule is None or not call.inputs:
            return None
        held = [None if t is None else t.contents for t in call.inputs]
        if any(t is not None and c is None for t, c in zip(call.inputs, held, strict=True)):
            return None
        result = rule(call, *held)
        if result is None:
            return None
        dtype = next(t.dtype for t in call.inputs if t is not None)
        if isinstance(result, Tensor):
            return [result]
        if isinstance(result, list):
            return [known_tensor(r, dtype) for r in result]
        return [known_tensor(result, dtype)]

    def _function(
        self,
        function: onnx.FunctionProto,
        node: onnx.NodeProto,
        inputs: list[Tensor | None],
        scope: Scope,
        body: Body,
        path: str,
    ) -> list[Tensor | None]:
        """A model's own function, imported where it is called."""
        given = _attributes(node, scope)
        references = {a.name: a for a in function.attribute_proto} | given
        padded = [*inputs, *([None] * (len(function.input) - len(inputs)))]
        inner = Scope({}, None, _opsets(function.opset_import) or scope.opsets, references, scope.depth + 1)
        if inner.depth > MAX_DEPTH:
            raise InvalidModelError(f"function {function.name!r} is nested more than {MAX_DEPTH} deep")
        absent = {name for name, tensor in zip(function.input, padded, strict=False) if tensor is None}
        inner.names = {name: t for name, t in zip(function.input, padded, strict=False) if t is not None}
        nodes = [_without(n, absent) for n in function.node] if absent else list(function.node)
        where = f"function {function.name!r}"
        self._nodes(nodes, list(function.output), set(), inner, body, f"{path}.{function.name}", where)
        return [inner.lookup(name) for name in function.output]

    def _bind(self, node: onnx.NodeProto, results: list[Tensor | None], scope: Scope, source: str) -> None:
        if len(results) < len([name for name in node.output if name]):
            raise InvalidModelError(f"{source} has too many outputs", expected=len(results), actual=len(node.output))
        for name, tensor in zip(node.output, results, strict=False):
            if tensor is not None:
                _check_size(tensor.shape, tensor.dtype.itemsize, source)
                if tensor.value is not None and not tensor.value.name:
                    tensor.value.name = name
            if name:
                scope.names[name] = tensor


class Poisoned(Exception):
    """A graph inside a node gives something unsupported, which is already reported."""


def _as_tensor(result: Result, call: Call) -> Tensor | None:
    if isinstance(result, Value):
        return Tensor(result.dtype, result.shape, value=result, home=call.body)
    return result


def _attributes(node: onnx.NodeProto, scope: Scope) -> dict[str, AttributeProto]:
    """The node's attributes, those that refer to a function's replaced by what the caller gave."""
    result: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            result[attribute.name] = attribute
        elif attribute.ref_attr_name in scope.references:
            result[attribute.name] = scope.references[attribute.ref_attr_name]
    return result


def _without(node: onnx.NodeProto, absent: set[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in absent else name for name in node.input]
    return copy


def _opsets(imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in imports}


def _checked_overrides(overrides: Mapping[str, int]) -> Mapping[str, int]:
    for name, size in overrides.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidArgumentError(f"dim_overrides[{name!r}] is no size", expected="an int >= 0", actual=size)
    return overrides


def _check_size(shape: tuple[DimLike, ...], itemsize: int, what: str) -> None:
    negative = [n for n in shape if isinstance(n, int) and n < 0]
    if negative:
        raise InvalidModelError(f"{what} has a negative size", actual=list(map(str, shape)))
    total = product(n for n in shape if isinstance(n, int) and n) * itemsize
    if isinstance(total, int) and total > INT64_MAX:
        raise InvalidModelError(f"{what}: the shape {list(map(str, shape))} overflows 64 bits")


def _symbols_of(graph: Graph) -> dict[str, Dim]:
    """Every named dim that the graph shows, inputs first."""
    found: dict[str, Dim] = {}
    shown: list[DimLike] = [n for v in graph.inputs for n in v.shape]
    for node in graph.walk():
        for name in bound_dims(node.op):
            found[name] = Dim.symbol(name)
        shown.extend(n for v in node.outputs for n in v.shape)
    shown.extend(side for pair in graph.assumptions for side in pair)
    for value in shown:
        for symbol in sorted(symbols(value), key=lambda s: s.name):
            found.setdefault(symbol.name, Dim([((symbol,), 1)]))
    return found

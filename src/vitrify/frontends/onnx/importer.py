"""The walk over a model: every node through the rule of its op and opset, all that is unsupported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from vitrify.artifact.manifest import Host
from vitrify.errors import InvalidArgumentError, InvalidModelError, UnsupportedError
from vitrify.frontends.onnx import ops  # noqa: F401  (registers the rules)
from vitrify.frontends.onnx.arrays import ArrayReader, UnsupportedDType, dtype_name, dtype_of
from vitrify.frontends.onnx.attributes import Attributes
from vitrify.frontends.onnx.body import Array, Body, Tensor, constant_tensor, known_tensor, short_sources
from vitrify.frontends.onnx.call import MAX_RANK, Call
from vitrify.frontends.onnx.custom import registering_hint
from vitrify.frontends.onnx.declared import warn_of, wrong_shapes
from vitrify.frontends.onnx.edges import UNSTATED, Layout, check_output, declare, flattened, regrouped, string_array
from vitrify.frontends.onnx.functions import (
    MAX_DEPTH,
    MAX_NODES,
    Definition,
    Functions,
    body_of,
    defining_function,
    is_defined,
    opsets_of,
)
from vitrify.frontends.onnx.host import Held, Program, kind_of, refusal
from vitrify.frontends.onnx.host_call import HostCall, HostRow, host_rule_of
from vitrify.frontends.onnx.load import ModelSource, read_model
from vitrify.frontends.onnx.metadata import Metadata, model_metadata
from vitrify.frontends.onnx.order import ordered_nodes, source_of, subgraphs
from vitrify.frontends.onnx.registry import Result, Unsupported, rule_of, symbolic_rule_of
from vitrify.frontends.onnx.schema import check_node, signature_of
from vitrify.frontends.onnx.scope import Names, Scope, Site, node_attributes
from vitrify.frontends.onnx.symbols import Bound, Choices, Substitute, SymbolTable
from vitrify.ir.dims import INT64_MAX, Dim, DimLike, TooManyTerms, product, symbols
from vitrify.ir.graph import Graph, TypeRuleError, Value, bound_dims

LATEST_OPSET = onnx.defs.onnx_opset_version()
MAX_ATTEMPTS = 512
MOST_INPUT_VALUES = 4096  # of an input that may be asked for as a constant


@dataclass(frozen=True)
class ImportedModel:
    """``host`` is what runs in Python around the graph, None where all inputs and outputs are the graph's."""

    graph: Graph
    metadata: Metadata
    host: Host | None = None


def import_onnx(
    model: ModelSource,
    *,
    input_shapes: Mapping[str, Any] | None = None,
    dim_overrides: Mapping[str, int] | None = None,
    input_values: Mapping[str, Array] | None = None,
) -> Graph:
    """The tensor graph of an ONNX model.

    ``input_shapes`` replaces the declared shapes of inputs: a number, a name, or None for a size of its own;
    of a sequence it is the list of the elements' shapes, of an optional without element None.
    ``dim_overrides`` gives numbers to named sizes; ``input_values`` makes inputs constants.
    Raises :class:`~vitrify.errors.NoSuchFileError`,
    :class:`~vitrify.errors.InvalidModelError`, :class:`~vitrify.errors.ExternalDataError`,
    :class:`~vitrify.errors.UnsupportedError` (listing everything at once) and, for wrong shapes or names,
    :class:`~vitrify.errors.InvalidArgumentError`.
    """
    imported = load_onnx(
        model, input_shapes=input_shapes, dim_overrides=dim_overrides, input_values=input_values
    )
    if imported.host is not None:
        raise UnsupportedError(
            ["inputs, outputs or ops on strings, sequences or optionals, which no tensor graph has"],
            hint="load_onnx gives the graph and what runs around it",
        )
    return imported.graph


def load_onnx(
    model: ModelSource,
    *,
    input_shapes: Mapping[str, Any] | None = None,
    dim_overrides: Mapping[str, int] | None = None,
    input_values: Mapping[str, Array] | None = None,
) -> ImportedModel:
    """As :func:`import_onnx`, with what the model says of itself."""
    proto, directory = read_model(model)
    reader = ArrayReader(directory)
    importer = Importer(proto, reader, input_shapes or {}, dim_overrides or {}, input_values or {})
    graph = importer.run()
    return ImportedModel(graph, model_metadata(proto), importer.host)


class Importer:
    """One import: attempts until no symbol has to be replaced and the choices made hold."""

    def __init__(
        self,
        model: onnx.ModelProto,
        reader: ArrayReader,
        input_shapes: Mapping[str, Any],
        dim_overrides: Mapping[str, int],
        input_values: Mapping[str, Array],
    ) -> None:
        self._model = model
        self._input_values = input_values
        self._reader = reader
        self._input_shapes = input_shapes
        self._symbols = SymbolTable(_checked_overrides(dim_overrides), sizes_given=bool(input_shapes))
        self._choices = Choices()
        self._functions = Functions(model)
        self._opsets = opsets_of(model.opset_import)
        self._budget = 0  # nodes that this attempt may still import
        self._problems: dict[str, None] = {}
        self.host: Host | None = None
        self._wanted: set[str] = set()  # inputs whose values nodes with problems lack
        self._explained: set[str] = set()  # the problems of such nodes
        self._misdeclared: list[str] = []  # shapes that the last attempt found otherwise

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
                if not (self._symbols.sizes_given or self._input_values):  # which make other shapes
                    warn_of(self._misdeclared)
                return graph
        raise InvalidModelError(f"the model's sizes did not settle in {MAX_ATTEMPTS} attempts")

    def _refuse_problems(self) -> None:
        if self._problems:
            curable = self._explained.issuperset(self._problems)
            inputs = self._wanted.intersection(v.name for v in self._model.graph.input)
            hint = registering_hint(self._problems)
            raise UnsupportedError(list(self._problems), inputs=sorted(inputs) if curable else (), hint=hint)

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
        self._budget = MAX_NODES
        body = Body(self._symbols)
        self._program = Program(body)
        scope = Scope({}, None, self._opsets, {})
        constants = {t.name for t in proto.initializer}
        declared = [v for v in proto.input if v.name not in constants]
        self._check_input_names([v.name for v in declared])
        for info in declared:
            if info.name in self._input_values:
                scope.names[info.name] = self._input_value(info)
        for info in declared:
            if info.name not in self._input_values:
                self._input(info, scope)
        outputs = self._graph(proto, scope, body, "", f"graph {proto.name!r}")
        self._check_outputs(proto, outputs)
        self._misdeclared = wrong_shapes(proto, scope.names)
        if any(t is None for t in outputs):
            self._refuse_problems()
        names = [v.name for v in proto.output]
        try:
            graph, self.host = self._program.finish(names, [t for t in outputs if t is not None], proto.name)
        except Unsupported as error:
            raise UnsupportedError([*self._problems, str(error)]) from None
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

    def _input(self, info: onnx.ValueInfoProto, scope: Scope) -> None:
        scope.names[info.name] = None
        tensor_type = info.type.tensor_type
        dtype = dtype_of(tensor_type.elem_type) if info.type.WhichOneof("value") == "tensor_type" else None
        if dtype is None:
            stated = self._input_shapes.get(info.name, UNSTATED)
            try:
                scope.names[info.name] = declare(info, stated, self._program, self._symbols)
            except Unsupported as error:
                self._problems.setdefault(f"input {info.name!r}: {error}")
            return
        shape = self._input_shape(info.name, tensor_type)
        if shape is None:
            self._problems.setdefault(f"input {info.name!r} has no declared rank (give it in input_shapes)")
            return
        _check_size(shape, dtype.itemsize, f"input {info.name!r}")
        given = self._program.input(info.name, f"tensor({dtype.onnx})", shape)
        scope.names[info.name] = self._program.feed(info.name, dtype, shape, given.slot, own=True)

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
            if not (size is None or isinstance(size, (int, str))):
                raise InvalidArgumentError(f"input_shapes of {name!r}", expected="sizes", actual=repr(size))
            if isinstance(size, bool) or (isinstance(size, int) and size < 0):
                raise InvalidModelError(f"input {name!r} has the size {size} on axis {axis}")
            if isinstance(size, int):
                result.append(size)
            else:
                result.append(self._symbols.named(size) if size else self._symbols.fresh(f"{name}_{axis}"))
        return tuple(result)

    def _check_outputs(self, proto: onnx.GraphProto, outputs: list[Held | None]) -> None:
        if len({v.name for v in proto.output}) != len(proto.output):
            raise InvalidModelError("two outputs have one name", actual=[v.name for v in proto.output])
        for info, tensor in zip(proto.output, outputs, strict=True):
            if tensor is not None:
                check_output(info, tensor)

    # Graphs, functions and nodes.
    def _graph(self, proto: onnx.GraphProto, scope: Scope, body: Body, path: str, where: str) -> list[Held | None]:
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
        if tensor.data_type == onnx.TensorProto.STRING:
            scope.names[tensor.name] = self._program.constant(string_array(tensor), "string")
            return
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
        site = Site(node, domain, opset, scope, body, path, source)
        place = f"{source} ({domain or 'ai.onnx'} opset {opset})"
        inputs = [scope.lookup(name) if name else None for name in node.input]
        poisoned = any(name and tensor is None for name, tensor in zip(node.input, inputs, strict=True))
        self._spend(source)
        function = self._functions.find(node)
        known = function or rule_of(domain, node.op_type, opset) or host_rule_of(domain, node.op_type, opset)
        if known is None and not poisoned:
            function = known = self._definition(node, domain, opset, inputs, scope)
        if known is None and not (poisoned and is_defined(domain, node.op_type, opset)):
            self._problems.setdefault(f"{place}: the op is not supported{self._newer(domain, node.op_type, opset)}")
        if poisoned or known is None:
            self._scan(node, scope)
            scope.names.update({name: None for name in node.output if name})
            return
        signature = None if function is not None else signature_of(domain, node.op_type, opset)
        if signature is not None:
            check_node(signature, inputs, node.output, source)
        try:
            with body.builder.sourced(source):
                if function is not None:
                    results = self._function(function, node, inputs, scope, body, path)
                else:
                    results = self._ruled_or_defined(site, inputs)
        except Unsupported as error:
            self._problems.setdefault(f"{place}: {error}")
            if wanted := short_sources([t for t in inputs if isinstance(t, Tensor)], MOST_INPUT_VALUES):
                self._wanted |= wanted
                self._explained.add(f"{place}: {error}")
            results = [None] * len(node.output)
        except (TypeRuleError, ZeroDivisionError, OverflowError) as error:
            raise InvalidModelError(f"{source}: {error}") from error
        self._bind(node, results, scope, source)

    def _spend(self, source: str) -> None:
        """Loops and functions import their graphs anew: bounded, whatever lies inside what."""
        self._budget -= 1
        if self._budget < 0:
            raise InvalidModelError(f"{source}: more than {MAX_NODES} nodes, graphs inside loops counted anew")

    def _definition(
        self, node: onnx.NodeProto, domain: str, opset: int, inputs: list[Held | None], scope: Scope
    ) -> Definition | None:
        """The function through which ONNX defines the op."""
        tensors = [t for t in inputs if t is None or isinstance(t, Tensor)]
        if len(tensors) < len(inputs):
            return None
        return defining_function(node, domain, opset, tensors, node_attributes(node, scope))

    def _ruled_or_defined(self, site: Site, inputs: list[Held | None]) -> list[Held | None]:
        """By the op's rules; where those refuse, by its definition if that has nothing unsupported."""
        try:
            return self._ruled(site, inputs)
        except Unsupported:
            definition = self._definition(site.node, site.domain, site.opset, inputs, site.scope)
            before = dict(self._problems)
            if definition is None:
                raise
            results = self._function(definition, site.node, inputs, site.scope, site.body, site.path)
            if self._problems != before:
                self._problems = before
                raise
            return results

    def _ruled(self, site: Site, inputs: list[Held | None]) -> list[Held | None]:
        """By the op's rule for tensors, or its rule for host values where that one cannot."""
        named = site.domain, site.node.op_type, site.opset
        row = host_rule_of(*named)
        tensors = [t for t in inputs if t is None or isinstance(t, Tensor)]
        refused: Unsupported | None = None
        try:
            if len(tensors) == len(inputs) and rule_of(*named) is not None:
                call = self._call(site, tensors, self._attributes(site))
                return _complete(self._apply(call, *named), call.attributes)
        except Unsupported as error:
            refused = error
        if row is None or (len(tensors) == len(inputs) and not row.alone):
            strange = next((t for t in inputs if t is not None and not isinstance(t, Tensor)), None)
            raise refused or Unsupported("takes tensors alone" if strange is None else refusal(strange))
        try:
            return self._hosted(row, site, inputs)
        except Unsupported:
            if refused is not None:
                raise refused from None
            raise

    def _attributes(self, site: Site) -> Attributes:
        return Attributes(node_attributes(site.node, site.scope), self._reader, site.source)

    def _inside(self, site: Site, graph: onnx.GraphProto, body: Body, name: str, given: Names) -> list[Held]:
        """The results of a node's graph. Raises :class:`Poisoned`."""
        scope = site.scope
        child = Scope(given, scope, scope.opsets, scope.references, scope.depth + 1)
        results = self._graph(graph, child, body, f"{site.path}.{name}", f"{site.source}: graph {graph.name!r}")
        if any(t is None for t in results):
            raise Poisoned
        return [t for t in results if t is not None]

    def _hosted(self, row: HostRow, site: Site, inputs: list[Held | None]) -> list[Held | None]:
        attributes = self._attributes(site)

        def call(tensors: Sequence[Tensor | None]) -> Call:
            return self._call(site, tensors, attributes)

        def inline(graph: onnx.GraphProto, name: str, given: Sequence[Held]) -> list[Held]:
            names = zip((info.name for info in graph.input), given, strict=False)
            return self._inside(site, graph, site.body, name, dict(names))

        names, body = list(site.node.output), site.body
        host_call = HostCall(
            site.source, inputs, names, attributes, body, self._program, site.opset, site.path, inline, call
        )
        try:
            results = row.rule(host_call)
        except Poisoned:
            return [None] * len(names)
        listed: Sequence[Held | Value] = results if isinstance(results, Sequence) else [results]
        held = [Tensor(r.dtype, r.shape, value=r, home=body) if isinstance(r, Value) else r for r in listed]
        return _complete(held, attributes)

    def _newer(self, domain: str, op_type: str, opset: int) -> str:
        newer = rule_of(domain, op_type, LATEST_OPSET)
        return f" in opset {opset}, only in later ones" if newer is not None and opset < LATEST_OPSET else ""

    def _scan(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Reports the unsupported ops inside a node that is not imported."""
        for graph in subgraphs(node):
            for inner in graph.node:
                domain = "" if inner.domain == "ai.onnx" else inner.domain
                opset = scope.opsets.get(domain, 0)
                ruled = rule_of(domain, inner.op_type, opset) or host_rule_of(domain, inner.op_type, opset)
                if not (ruled or self._functions.find(inner) or is_defined(domain, inner.op_type, opset)):
                    self._problems.setdefault(
                        f"{source_of(inner)} ({domain or 'ai.onnx'} opset {opset}): the op is not supported"
                    )
                self._scan(inner, scope)

    def _call(self, site: Site, inputs: Sequence[Tensor | None], attributes: Attributes) -> Call:
        layouts: list[list[Layout]] = []

        def branch(graph: onnx.GraphProto, inner: Body, name: str, given: Mapping[str, Tensor]) -> list[Tensor]:
            results = self._inside(site, graph, inner, name, dict(given))
            flat, layout = flattened(results)
            strange = next((t for t in results if not isinstance(t, Tensor)), None)
            if strange is not None and site.node.op_type != "If":
                raise Unsupported(f"a graph that gives {kind_of(strange)}")
            if inner is site.body:
                layouts.clear()  # this graph is in the node's place
            if layouts and layout != layouts[-1]:
                raise Unsupported("branches that give sequences of different lengths, or host values")
            layouts.append(layout)
            return flat

        wanted = [bool(name) for name in site.node.output]
        place = attributes, site.body, site.opset, site.path
        return Call(site.source, inputs, wanted, *place, self._choices, branch, layouts)

    def _apply(self, call: Call, domain: str, op_type: str, opset: int) -> list[Held | None]:
        contents = self._contents(call, symbolic_rule_of(domain, op_type, opset))
        if contents is not None and not call.attributes.unread():
            return list(contents)
        rule = rule_of(domain, op_type, opset)
        assert rule is not None
        try:
            results = rule(call)
        except Poisoned:
            return [None] * len(call.wanted)
        listed: Sequence[Result] = [results] if isinstance(results, Tensor | Value) or results is None else results
        tensors = [_as_tensor(r, call) for r in listed]
        return regrouped(tensors, call.layouts[-1]) if call.layouts and op_type == "If" else list(tensors)

    def _contents(self, call: Call, rule: Callable[..., Any] | None) -> list[Tensor | None] | None:
        """The results by what the inputs hold; None where the op has to compute."""
        if rule is None or not call.inputs:
            return None
        held = [None if t is None else t.contents for t in call.inputs]
        if any(t is not None and c is None for t, c in zip(call.inputs, held, strict=True)):
            return None
        try:
            result = rule(call, *held)
        except TooManyTerms:
            return None
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
        function: Definition,
        node: onnx.NodeProto,
        inputs: list[Held | None],
        scope: Scope,
        body: Body,
        path: str,
    ) -> list[Held | None]:
        """A function, imported where it is called."""
        name, source = function.proto.name, source_of(node)
        names, references, nodes = body_of(function, inputs, node_attributes(node, scope), source)
        opsets = opsets_of(function.proto.opset_import)
        if function.standard or not opsets:
            opsets = {"": LATEST_OPSET, **scope.opsets, **opsets}
        inner = Scope(names, None, opsets, references, scope.depth + 1)
        if inner.depth > MAX_DEPTH:
            raise InvalidModelError(f"function {name!r} is nested more than {MAX_DEPTH} deep")
        outputs = list(function.proto.output)
        self._nodes(nodes, outputs, set(), inner, body, f"{path}.{name}", f"function {name!r}")
        return [inner.lookup(output) for output in outputs]

    def _bind(self, node: onnx.NodeProto, results: list[Held | None], scope: Scope, source: str) -> None:
        if len(results) < len([name for name in node.output if name]):
            raise InvalidModelError(f"{source} has too many outputs", expected=len(results), actual=len(node.output))
        for name, tensor in zip(node.output, results, strict=False):
            if isinstance(tensor, Tensor):
                _check_size(tensor.shape, tensor.dtype.itemsize, source)
                if tensor.value is not None and not tensor.value.name:
                    tensor.value.name = name
            if name:
                scope.names[name] = tensor


class Poisoned(Exception):
    """A graph inside a node gives something unsupported, which is already reported."""


def _complete(results: Sequence[Held | None], attributes: Attributes) -> list[Held | None]:
    """The results, where every attribute was read."""
    if attributes.unread():
        raise Unsupported(f"attribute {', '.join(map(repr, attributes.unread()))}")
    return list(results)


def _as_tensor(result: Result, call: Call) -> Tensor | None:
    if isinstance(result, Value):
        return Tensor(result.dtype, result.shape, value=result, home=call.body)
    return result


def _checked_overrides(overrides: Mapping[str, int]) -> Mapping[str, int]:
    for name, size in overrides.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidArgumentError(f"dim_overrides[{name!r}] is no size", expected="an int >= 0", actual=size)
    return overrides


def _check_size(shape: tuple[DimLike, ...], itemsize: int, what: str) -> None:
    negative = [n for n in shape if isinstance(n, int) and n < 0]
    if negative:
        raise InvalidModelError(f"{what} has a negative size", actual=list(map(str, shape)))
    if len(shape) > MAX_RANK:
        raise InvalidModelError(f"{what}: a rank of {len(shape)}", expected=f"at most {MAX_RANK}")
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

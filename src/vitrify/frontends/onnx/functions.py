"""Functions: those that a model brings, and those through which ONNX defines ops that have no rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.body import Tensor
from vitrify.frontends.onnx.host import Held
from vitrify.frontends.onnx.order import subgraphs

MAX_DEPTH = 64  # of functions and graphs inside each other
MAX_NODES = 500_000  # after every function is put in place of its calls

Key = tuple[str, str, str]  # domain, name, overload


def domain_of(name: str) -> str:
    return "" if name == "ai.onnx" else name


def opsets_of(imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {domain_of(o.domain): o.version for o in imports}


@dataclass(frozen=True)
class Definition:
    """A function, and the values of the attributes that a call leaves out. ``standard``: ONNX's own, which names
    only some of the opsets that it uses."""

    proto: FunctionProto
    defaults: Mapping[str, AttributeProto]
    standard: bool = False


class Functions:
    """What a model calls. Raises :class:`InvalidModelError` for functions that call themselves, for graphs
    nested more than ``MAX_DEPTH`` deep, and for more than ``MAX_NODES`` nodes once all calls are expanded."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._protos: dict[Key, FunctionProto] = {}
        for f in model.functions:
            key = (domain_of(f.domain), f.name, f.overload)
            if key in self._protos:
                raise InvalidModelError(f"function {f.name!r} of domain {f.domain!r} is defined twice")
            self._protos[key] = f
        self._sizes: dict[Key, int] = {}
        self._calls = {
            key: _calls(f.node, f"function {f.name!r}", self._protos) for key, f in self._protos.items()
        }
        for key in self._calls:
            self._measure(key)
        _, calls = _calls(model.graph.node, f"graph {model.graph.name!r}", self._protos)
        self._check_size(calls, f"graph {model.graph.name!r}")

    def _measure(self, key: Key) -> None:
        """How many nodes a call of the function stands for, after those of the functions that it calls."""
        path: dict[Key, Iterator[Key]] = {key: iter(self._calls[key][1])}
        while path:
            current = next(reversed(path))
            if current in self._sizes:
                path.pop(current)
                continue
            callee = next(path[current], None)
            if callee is None:
                nodes, calls = self._calls[current]
                self._sizes[current] = nodes + self._check_size(calls, f"function {current[1]!r}")
                path.pop(current)
            elif callee in path:
                around = [name for _, name, _ in path][list(path).index(callee) :]
                chain = " -> ".join([*around, callee[1]])
                raise InvalidModelError(f"function {callee[1]!r} calls itself", actual=chain)
            elif callee not in self._sizes:
                path[callee] = iter(self._calls[callee][1])

    def _check_size(self, calls: Sequence[Key], where: str) -> int:
        total = sum(self._sizes[key] for key in calls)
        if total > MAX_NODES:
            raise InvalidModelError(f"{where} calls functions of too many nodes", expected=MAX_NODES, actual=total)
        return total

    def find(self, node: NodeProto) -> Definition | None:
        """The model's own function that a node calls."""
        proto = self._protos.get(_key(node))
        return None if proto is None else Definition(proto, {a.name: a for a in proto.attribute_proto})


def _key(node: NodeProto) -> Key:
    return domain_of(node.domain), node.op_type, node.overload


def _calls(nodes: Sequence[NodeProto], where: str, known: Mapping[Key, FunctionProto]) -> tuple[int, list[Key]]:
    """How many nodes there are, those of inner graphs included, and which functions they call. No recursion:
    nothing is known of the depth yet."""
    count, calls = 0, []
    pending = [(nodes, 0)]
    while pending:
        current, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidModelError(f"{where} holds graphs nested more than {MAX_DEPTH} deep")
        count += len(current)
        for node in current:
            if _key(node) in known:
                calls.append(_key(node))
            pending += [(graph.node, depth + 1) for graph in subgraphs(node)]
    return count, calls


def is_defined(domain: str, name: str, opset: int) -> bool:
    """Whether ONNX defines the op through a function."""
    schema = _schema(name, opset, domain)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def _schema(name: str, opset: int, domain: str) -> Any:  # onnx's type stubs leave out what it says of functions
    try:
        return onnx.defs.get_schema(name, opset, domain)
    except (onnx.defs.SchemaError, TypeError):  # a name that is not UTF-8 comes as bytes
        return None


def defining_function(
    node: NodeProto, domain: str, opset: int, inputs: Sequence[Tensor | None], attributes: Mapping[str, AttributeProto]
) -> Definition | None:
    """The function through which ONNX defines the op of a node; None where it does not."""
    schema = _schema(node.op_type, opset, domain)
    if schema is None or not attributes.keys() <= schema.attributes.keys():
        return None  # the definition would drop what it does not know
    text = _function_text(schema, node, opset, inputs, attributes)
    if not text:
        return None
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    proto = FunctionProto()
    proto.ParseFromString(text)
    return Definition(proto, defaults, standard=True)


def _function_text(
    schema: Any,
    node: NodeProto,
    opset: int,
    inputs: Sequence[Tensor | None],
    attributes: Mapping[str, AttributeProto],
) -> bytes:
    """The function's bytes, for the latest opset that is not after the model's; empty where there is none."""
    if schema.has_function:
        version = _latest(schema.function_opset_versions, opset)
        return bytes(schema.get_function_with_opset_version(version))
    if not schema.has_context_dependent_function:
        return b""
    version = _latest(schema.context_dependent_function_opset_versions, opset)
    plain = NodeProto()
    plain.CopyFrom(node)
    del plain.attribute[:]
    plain.attribute.extend(attributes.values())
    types = [_type_proto(t).SerializeToString() for t in inputs]
    return bytes(schema.get_context_dependent_function_with_opset_version(version, plain.SerializeToString(), types))


def _latest(versions: Sequence[int], opset: int) -> int:
    return max((v for v in versions if v <= opset), default=min(versions))


def _type_proto(tensor: Tensor | None) -> onnx.TypeProto:
    if tensor is None:
        return onnx.TypeProto()
    code = onnx.TensorProto.DataType.Value(tensor.dtype.onnx.upper())
    shape = [n if isinstance(n, int) else None for n in tensor.shape]
    return onnx.helper.make_tensor_type_proto(code, shape)


def body_of(
    definition: Definition, inputs: Sequence[Held | None], given: Mapping[str, AttributeProto], source: str
) -> tuple[dict[str, Held | None], dict[str, AttributeProto], list[NodeProto]]:
    """The names that a call defines inside the function, its attributes, and the nodes without the inputs that
    the call leaves out."""
    function = definition.proto
    if len(inputs) > len(function.input):
        raise InvalidModelError(f"{source}: too many inputs", expected=len(function.input), actual=len(inputs))
    padded = [*inputs, *([None] * (len(function.input) - len(inputs)))]
    names: dict[str, Held | None] = {
        name: tensor for name, tensor in zip(function.input, padded, strict=True) if tensor is not None
    }
    absent = set(function.input) - set(names)
    nodes = [_without(n, absent) for n in function.node] if absent else list(function.node)
    return names, {**definition.defaults, **given}, nodes


def _without(node: NodeProto, absent: set[str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in absent else name for name in node.input]
    return copy

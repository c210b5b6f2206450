"""Real models, changed: case ``number`` of a ``seed`` is always the same model.

The models are the node cases that the onnx package carries, of all op types. A change is one of those a broken
exporter or an attacker makes: numbers at their limits, other types, other names and wiring, other operators and
opsets, or other bytes of the serialised model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Random = np.random.Generator
Change = Callable[[ModelProto, Random], None]

INTEGERS = (0, 1, -1, 2, -2, 3, 7, 255, 2**31 - 1, -(2**31), 2**31, 2**40, -(2**62), 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, -1e38, float("inf"), -float("inf"), float("nan"))
TEXTS = (
    "", "\0", "a\0b", "x" * 2**20, "NOTSET", "SAME_UPPER", "linear", "ij,jk->ik", "...", "reflect", "é" * 9, "%s{}",
)  # fmt: skip
LONG = "n" * 2**20
MOST_BAKED = 16  # elements of an input that is fed as a constant: axes, sizes, counts
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "not.there", "a\0b")


@dataclass(frozen=True)
class Seed:
    """A model of the suite, with what the suite feeds it."""

    name: str
    model: ModelProto
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """``data`` is the changed model; ``inputs`` are those of the model it was made of."""

    name: str
    data: bytes
    inputs: dict[str, Any]


@cache
def seeds() -> tuple[Seed, ...]:
    """Every node case of the onnx package; making them takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own references overflow and divide by zero
        from onnx.backend.test.case.node import collect_testcases

        return tuple(Seed(c.name, c.model, tuple(c.data_sets[0][0])) for c in collect_testcases(None))


@cache
def op_types() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def case(seed: int, number: int) -> Case:
    """The model of this number, changed once to four times."""
    random = np.random.default_rng([seed, number])
    origin = seeds()[int(random.integers(len(seeds())))]
    model = ModelProto()
    model.CopyFrom(origin.model)
    inputs = dict(zip((i.name for i in model.graph.input), origin.inputs, strict=True))
    if random.random() < 0.6:
        bake_constants(model, inputs)
    if random.random() < 0.15:
        return Case(origin.name, changed_bytes(model.SerializeToString(), random), inputs)
    for _ in range(int(random.choice([1, 2, 4], p=[0.6, 0.25, 0.15]))):
        CHANGES[int(random.integers(len(CHANGES)))](model, random)
    return Case(origin.name, _serialised(model), inputs)


def bake_constants(model: ModelProto, inputs: dict[str, Any]) -> None:
    """Small integer inputs as initializers: what they say is then read at import."""
    for info in model.graph.input:
        array = inputs[info.name]
        if isinstance(array, np.ndarray) and array.dtype.kind in "iub" and array.size <= MOST_BAKED:
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))


def changed_bytes(data: bytes, random: Random) -> bytes:
    """Bytes set, cut out, doubled, moved, or taken from another model."""
    made = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        at, length = int(random.integers(len(made) + 1)), int(random.integers(1, 12))
        kind = int(random.integers(5))
        if kind == 0:
            made[at : at + 1] = bytes([int(random.integers(256))])
        elif kind == 1:
            del made[at : at + length]
        elif kind == 2:
            made[at:at] = made[at : at + length]
        elif kind == 3:
            made[at:at] = bytes([0xFF] * 9 + [int(random.integers(256))])
        else:
            other = seeds()[int(random.integers(len(seeds())))].model.SerializeToString()
            start = int(random.integers(len(other)))
            made[at : at + length] = other[start : start + 4 * length]
    return bytes(made)


def _serialised(model: ModelProto) -> bytes:
    data: bytes = model.SerializeToString()
    return data


# ---- what a model has


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(inner)


def _nodes(model: ModelProto) -> list[NodeProto]:
    inside = [node for graph in graphs(model.graph) for node in graph.node]
    return inside + [node for function in model.functions for node in function.node]


def _pick(things: Sequence[Any], random: Random) -> Any:
    return things[int(random.integers(len(things)))] if len(things) else None


def _tensors(model: ModelProto) -> list[TensorProto]:
    found = [t for graph in graphs(model.graph) for t in graph.initializer]
    return found + [a.t for node in _nodes(model) for a in node.attribute if a.HasField("t")]


def _types(model: ModelProto) -> list[Any]:
    infos = [i for graph in graphs(model.graph) for i in (*graph.input, *graph.output, *graph.value_info)]
    return [found for info in infos for found in _tensor_types(info.type)]


def _tensor_types(declared: TypeProto) -> list[Any]:
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return [getattr(declared, kind)]
    if kind in ("sequence_type", "optional_type"):
        return _tensor_types(getattr(declared, kind).elem_type)
    return []


def integer(random: Random) -> int:
    return int(_pick(INTEGERS, random)) if random.random() < 0.5 else int(random.integers(-6, 12))


def name(model: ModelProto, random: Random) -> str:
    """One that the model has, or a strange one."""
    used = sorted({n for node in _nodes(model) for n in (*node.input, *node.output)})
    strange = ("", "\0", "a\0b", LONG, "é")
    return str(_pick(used if random.random() < 0.7 else strange, random) or "")


# ---- changes


def attribute(model: ModelProto, random: Random) -> None:
    found = [a for node in _nodes(model) for a in node.attribute]
    chosen = _pick(found, random)
    if chosen is None:
        return new_attribute(model, random)
    if chosen.type == AttributeProto.INT:
        chosen.i = integer(random)
    elif chosen.type == AttributeProto.FLOAT:
        chosen.f = _pick(FLOATS, random)
    elif chosen.type == AttributeProto.STRING:
        chosen.s = str(_pick(TEXTS, random)).encode()
    elif chosen.type == AttributeProto.INTS:
        _change_list(chosen.ints, integer, random)
    elif chosen.type == AttributeProto.FLOATS:
        _change_list(chosen.floats, lambda r: _pick(FLOATS, r), random)
    elif chosen.type == AttributeProto.STRINGS:
        _change_list(chosen.strings, lambda r: str(_pick(TEXTS, r)).encode(), random)
    return None


def _change_list(values: Any, draw: Callable[[Random], Any], random: Random) -> None:
    kind = int(random.integers(4))
    if kind == 0 and len(values):
        values[int(random.integers(len(values)))] = draw(random)
    elif kind == 1 and len(values):
        del values[int(random.integers(len(values))) :]
    elif kind == 2:
        values.append(draw(random))
    else:
        values.extend([draw(random)] * int(random.integers(1, 70)))


def new_attribute(model: ModelProto, random: Random) -> None:
    """One of those the op has, or an unknown one, of any type."""
    node = _pick(_nodes(model), random)
    if node is None:
        return
    known: list[str] = []
    if onnx.defs.has(node.op_type, node.domain):
        known = sorted(onnx.defs.get_schema(node.op_type, domain=node.domain).attributes)
    label = str(_pick([*known, "speed"], random))
    values = (integer(random), float(_pick(FLOATS, random)), str(_pick(TEXTS, random)), [integer(random)] * 2, [1.5])
    node.attribute.append(helper.make_attribute(label, _pick(values, random)))


def lose_attribute(model: ModelProto, random: Random) -> None:
    holders = [node for node in _nodes(model) if node.attribute]
    if (node := _pick(holders, random)) is not None:
        at = int(random.integers(len(node.attribute)))
        if random.random() < 0.5:
            del node.attribute[at]
        elif random.random() < 0.5:
            node.attribute[at].type = int(random.integers(0, 15))
        else:
            node.attribute.append(node.attribute[at])


def element_type(model: ModelProto, random: Random) -> None:
    code = int(random.integers(0, 27))
    places = [(t, "elem_type") for t in _types(model)] + [(t, "data_type") for t in _tensors(model)]
    places += [(a, "i") for n in _nodes(model) for a in n.attribute if a.name in ("to", "dtype", "output_dtype")]
    if (place := _pick(places, random)) is not None:
        setattr(place[0], place[1], code)


def all_element_types(model: ModelProto, random: Random) -> None:
    """One type in place of another wherever it stands."""
    if not (found := _types(model)):
        return
    before, after = _pick(found, random).elem_type, int(random.integers(1, 24))
    for declared in found:
        if declared.elem_type == before:
            declared.elem_type = after


def shape(model: ModelProto, random: Random) -> None:
    declared = _pick(_types(model), random)
    if declared is None:
        return
    dims, kind = declared.shape.dim, int(random.integers(5))
    if kind == 0 and len(dims):
        _pick(dims, random).dim_value = integer(random)
    elif kind == 1 and len(dims):
        _pick(dims, random).dim_param = str(_pick(("n", "m", "", "a b", LONG), random))
    elif kind == 2:
        dims.add().dim_value = integer(random)
    elif kind == 3 and len(dims):
        del dims[-1]
    else:
        declared.ClearField("shape")


def named_shapes(model: ModelProto, random: Random) -> None:
    """All sizes of all inputs become names, equal sizes one name or each its own."""
    shared = random.random() < 0.5
    for info in (*model.graph.input, *model.graph.output):
        for declared in _tensor_types(info.type):
            for axis, dim in enumerate(declared.shape.dim):
                dim.dim_param = f"d{dim.dim_value}" if shared else f"{info.name}_{axis}"


_NUMERIC = [code for code in TensorProto.DataType.values() if code not in (TensorProto.UNDEFINED, TensorProto.STRING)]


def constant(model: ModelProto, random: Random) -> None:
    """Other numbers, or another shape, of a constant."""
    tensor = _pick(_tensors(model), random)
    if tensor is None:
        return
    if random.random() < 0.2:
        tensor.dims.append(integer(random))
        return
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type not in _NUMERIC:
        return
    try:
        array = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError):  # changed before
        return
    if array.dtype.kind in "iu" and array.size:
        info = np.iinfo(array.dtype)
        array.flat[int(random.integers(array.size))] = min(max(integer(random), info.min), info.max)
    elif array.dtype.kind == "f" and array.size:
        with np.errstate(over="ignore"):
            array.flat[int(random.integers(array.size))] = _pick(FLOATS, random)
    if random.random() < 0.3:
        flat = array.reshape(-1)
        array = (flat[:-1], np.concatenate([flat, flat]), array[None])[int(random.integers(3))]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def wiring(model: ModelProto, random: Random) -> None:
    """An input or an output of a node goes elsewhere, goes away, or comes twice."""
    node = _pick(_nodes(model), random)
    if node is None:
        return
    names, kind = (node.input if random.random() < 0.7 else node.output), int(random.integers(4))
    if kind == 0 and len(names):
        names[int(random.integers(len(names)))] = name(model, random)
    elif kind == 1 and len(names):
        names[int(random.integers(len(names)))] = ""
    elif kind == 2 and len(names):
        del names[-1]
    else:
        names.append(name(model, random))


def rename(model: ModelProto, random: Random) -> None:
    """One name becomes another wherever it stands."""
    before, after = name(model, random), name(model, random)
    for graph in graphs(model.graph):
        for thing in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            thing.name = after if thing.name == before else thing.name
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [after if n == before else n for n in names]


def operator(model: ModelProto, random: Random) -> None:
    if (node := _pick(_nodes(model), random)) is not None:
        if random.random() < 0.85:
            node.op_type = str(_pick(op_types(), random))
        else:
            node.domain = str(_pick(DOMAINS, random))


def append_node(model: ModelProto, random: Random) -> None:
    """One more node over what there is, in an output's place."""
    if not model.graph.output or not (found := _nodes(model)):
        return
    output = _pick(model.graph.output, random)
    names = [name(model, random) for _ in range(int(random.integers(1, 4)))]
    borrowed = _pick(found, random)
    made = model.graph.node.add(op_type=str(_pick(op_types(), random)), input=names, output=["more"])
    if random.random() < 0.5:
        made.op_type = borrowed.op_type
        made.attribute.extend(borrowed.attribute)
    output.name = "more"
    output.ClearField("type")


def order(model: ModelProto, random: Random) -> None:
    """A node twice, gone, or at another place."""
    graph = _pick(list(graphs(model.graph)), random)
    if not graph.node:
        return
    at, kind = int(random.integers(len(graph.node))), int(random.integers(3))
    node = NodeProto()
    node.CopyFrom(graph.node[at])
    if kind != 1:
        graph.node.insert(int(random.integers(len(graph.node) + 1)), node)
    if kind != 0:
        del graph.node[at if graph.node[at] == node else -1]


def version(model: ModelProto, random: Random) -> None:
    entry = _pick(model.opset_import, random)
    if entry is not None and random.random() < 0.9:
        entry.version = int(random.integers(1, 28)) if random.random() < 0.9 else integer(random)
    else:
        model.opset_import.add(domain=str(_pick(DOMAINS, random)), version=int(random.integers(0, 28)))


def interface(model: ModelProto, random: Random) -> None:
    """Inputs and outputs of a graph: fewer, more, twice, or what a node gives inside."""
    graph = _pick(list(graphs(model.graph)), random)
    infos, kind = (graph.input if random.random() < 0.5 else graph.output), int(random.integers(3))
    if kind == 0 and len(infos):
        del infos[int(random.integers(len(infos)))]
    elif kind == 1 and len(infos):
        infos.append(_pick(infos, random))
    else:
        infos.add(name=name(model, random))


def inside_a_branch(model: ModelProto, random: Random) -> None:
    """The whole graph as both branches of an ``If``."""
    graph = model.graph
    inner = GraphProto()
    inner.CopyFrom(graph)
    del inner.input[:]
    outputs = [o.name for o in graph.output]
    del graph.node[:]
    given = {t.name for t in graph.initializer}
    del inner.initializer[:]
    for info in inner.output:
        info.name = f"inner {info.name}"
        inner.node.add(op_type="Identity", input=[info.name[6:]], output=[info.name])
    if "cond" not in given:
        graph.initializer.append(numpy_helper.from_array(np.array(bool(random.integers(2))), "cond"))
    made = graph.node.add(op_type="If", input=["cond"], output=outputs)
    for branch in ("then_branch", "else_branch"):
        made.attribute.append(helper.make_attribute(branch, inner))


def external(model: ModelProto, random: Random) -> None:
    tensor = _pick(_tensors(model), random)
    if tensor is not None:
        tensor.data_location = TensorProto.EXTERNAL
        place = _pick(("../../etc/passwd", "/dev/zero", "", "w.bin", ".", "a\0b", LONG), random)
        tensor.external_data.add(key="location", value=place)


CHANGES: tuple[Change, ...] = (
    attribute, attribute, attribute, new_attribute, lose_attribute, element_type, all_element_types, shape, shape,
    named_shapes, constant, constant, constant, wiring, wiring, rename, operator, append_node, order, version,
    interface, inside_a_branch, external,
)  # fmt: skip

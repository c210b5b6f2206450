"""Loop and Scan: a graph repeated. A number of trips that sizes decide makes a scan, anything else a loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.body import Body, Contents, Tensor, constant_tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.builder import parameter
from vitrify.ir.dims import INT64_MAX, Dim, DimLike, maximum, symbols
from vitrify.ir.dtypes import BOOL, I64, DType
from vitrify.ir.graph import Graph, Type, Value

Sizes = dict[tuple[int, int], Dim]  # (carried value, axis): what its extent is called in the body


class _Part:
    """A graph imported into a body of its own, on inputs of these types."""

    def __init__(self, n: Call, proto: onnx.GraphProto, types: Sequence[Type], parent: Body | None = None) -> None:
        self.body = Body(n.symbols, parent or n.body)
        self.body.builder.source = n.source
        self.inside = n.inside(self.body)
        self.name = proto.name
        self.inputs = [parameter(f"in_{i}", t.dtype, t.shape) for i, t in enumerate(types)]
        self.tensors = [Tensor(v.dtype, v.shape, value=v, home=self.body) for v in self.inputs]

    def run(self, n: Call, proto: onnx.GraphProto, given: Sequence[Tensor]) -> list[Tensor]:
        names = [v.name for v in proto.input]
        n.check(len(set(names)) == len(names), f"graph {proto.name!r} has two inputs of one name")
        return n.branch(proto, self.body, "body", dict(zip(names, given, strict=True)))

    def value(self, tensor: Tensor) -> Value:
        return self.body.resolve(tensor)

    def build(self, outputs: Sequence[Value]) -> tuple[Graph, list[Value]]:
        """The graph, and the values of the outer body that it captures."""
        captured = list(self.body.captured)
        inputs = [*self.inputs, *(self.body.captured[v] for v in captured)]
        graph = self.body.builder.build(inputs, outputs, self.name)
        graph.assumptions = list(self.body.assumptions)
        return graph, captured


def _one_element(n: Call, info: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape that a graph declares for its iteration number or condition: [] or [1]."""
    rank = len(info.type.tensor_type.shape.dim) if info.type.tensor_type.HasField("shape") else 0
    n.check(rank <= 1, f"input {info.name!r} of the body has rank {rank}, not one element")
    return (1,) * rank


# Loop
class _LoopBody:
    """The body for carried values of these types; ``results`` are the condition, the carried, the stacked."""

    def __init__(self, n: Call, proto: onnx.GraphProto, types: Sequence[Type]) -> None:
        self.types = list(types)
        self.part = part = _Part(n, proto, [Type(I64, ()), *types])
        trip = part.body.builder.reshape(part.inputs[0], _one_element(n, proto.input[0]))
        true = constant_tensor(BOOL.numpy.type(True).reshape(_one_element(n, proto.input[1])), BOOL)
        given = [Tensor(I64, trip.shape, value=trip, home=part.body), true, *part.tensors[1:]]
        self.results = part.run(n, proto, given)
        condition = self.results[0]
        n.check(condition.dtype is BOOL, f"the body's condition is of type {condition.dtype}, not bool")
        for i, (tensor, type_) in enumerate(zip(self.results[1:], types, strict=False)):
            same = tensor.dtype is type_.dtype and tensor.rank == type_.rank
            n.check(same, f"carried value {i} begins as {type_} and becomes {Type(tensor.dtype, tensor.shape)}")

    def resized(self) -> list[tuple[int, int]]:
        """Carried values and axes whose extents a trip changes."""
        pairs = enumerate(zip(self.types, self.results[1:], strict=False))
        return [
            (i, axis)
            for i, (before, after) in pairs
            for axis, (a, b) in enumerate(zip(before.shape, after.shape, strict=True))
            if a != b
        ]

    @property
    def endless(self) -> bool:
        """Whether the body always asks for more."""
        return _only(self.results[0].contents) == 1


def _settled(n: Call, proto: onnx.GraphProto, starts: Sequence[Value]) -> tuple[_LoopBody, Sizes]:
    """The body, once every axis that a trip changes has a name for its extent."""
    sizes: Sizes = {}

    def attempt() -> _LoopBody:
        types = [
            Type(v.dtype, tuple(sizes.get((i, axis), size) for axis, size in enumerate(v.shape)))
            for i, v in enumerate(starts)
        ]
        return _LoopBody(n, proto, types)

    def resize(axes: Sequence[tuple[int, int]]) -> None:
        sizes.update({key: n.symbols.run_time("size") for key in axes if key not in sizes})

    try:
        body = attempt()
    except InvalidModelError as error:
        resize([(i, axis) for i, v in enumerate(starts) for axis in range(v.rank)])
        if not sizes:
            raise
        try:
            body = attempt()
        except InvalidModelError:
            raise error from None
    while changed := [key for key in body.resized() if key not in sizes]:
        resize(changed)
        body = attempt()
    return body, sizes


@op("Loop")
def loop(n: Call) -> list[Value]:
    proto = n.attributes.graph("body")
    starts = [n.value(i) for i in range(2, len(n.inputs))]
    takes, gives = len(proto.input), len(proto.output)
    n.check(takes == 2 + len(starts), f"the body takes {takes} values, the node gives it {2 + len(starts)}")
    n.check(gives > len(starts), f"the body gives {gives} values, of {len(starts)} carried and a condition")
    body, sizes = _settled(n, proto, starts)
    part = body.part
    again, *results = (part.value(t) for t in body.results)
    names = {str(d) for d in sizes.values()}
    inner = {name for node in part.body.builder.nodes for name in g.bound_dims(node.op)} | names
    late = [
        size
        for shape in [*(t.shape for t in body.types), *(v.shape for v in results[len(starts) :])]
        for size in shape
        if isinstance(size, Dim) and any(s.name in inner for s in symbols(size))
    ]
    trips = _trips(n, body)
    if trips is not None and not late:
        graph, captured = part.build(results)
        return list(n.b.add(g.Scan(graph, trips, len(starts), 0), *starts, *captured))
    again = part.body.builder.reshape(again, ())
    graph, captured = part.build([again, *results])
    named = tuple(str(n.symbols.run_time("extent")) for _ in late)
    op_ = g.Loop(graph, len(starts), str(n.symbols.run_time("trips")), tuple(sorted(names)), named)
    return list(n.b.add(op_, _scalar(n, 0, INT64_MAX, I64), _scalar(n, 1, 1, BOOL), *starts, *captured))


def _trips(n: Call, body: _LoopBody) -> DimLike | None:
    """How many, where constants and sizes say it."""
    if not body.endless or not n.has(0):
        return None
    limit = _only(n.contents(0))
    begin = _only(n.contents(1)) if n.has(1) else 1
    if limit is None or begin is None:
        return None
    limit, begin = n.body.simplify(limit), n.body.simplify(begin)
    return None if isinstance(begin, Dim) else maximum(0, limit) if begin else 0


def _only(contents: Contents | None) -> DimLike | None:
    """The one element of what is known to be in a tensor."""
    if contents is None or np.size(contents) != 1:
        return None
    item: DimLike = np.asarray(contents, object).reshape(-1)[0]
    return item


def _scalar(n: Call, index: int, default: int, dtype: DType) -> Value:
    """The limit or the first condition, also where it is left out (onnxruntime: no limit, true)."""
    if not n.has(index):
        return n.b.constant(default, dtype)
    value = n.value(index)
    n.check(value.dtype is dtype, f"input {index} is of type {value.dtype}, not {dtype}")
    return n.b.reshape(value, ())


# Scan
def _repeated(
    n: Call, parent: Body, proto: onnx.GraphProto, states: list[Value], xs: list[Value], length: Value | None = None
) -> list[Value]:
    """``proto`` over axis 0 of ``xs``, inside ``parent``: the last states, the results stacked on axis 0. From
    trip ``length`` on states stay as they are and results are 0."""
    outer = n.inside(parent)
    trips = xs[0].shape[0]
    xs = [outer.match_axis(x, 0, trips) for x in xs]
    slices = [Type(x.dtype, x.shape[1:]) for x in xs]
    part = _Part(n, proto, [Type(I64, ()), *(v.type for v in states), *slices], parent)
    values = [part.value(t) for t in part.run(n, proto, part.tensors[1:])]
    for i, state in enumerate(states):
        n.check(values[i].dtype is state.dtype, f"state {i} begins as {state.type} and becomes {values[i].type}")
        values[i] = part.inside.match(values[i], state.shape)
    inner = {name for node in part.body.builder.nodes for name in g.bound_dims(node.op)}
    for value in values[len(states) :]:
        if any(s.name in inner for size in value.shape for s in symbols(size)):
            n.unsupported(f"a scan of entries whose size only a run knows ({value.type})")
    if length is not None:
        live = part.inside.map("lt", part.inputs[0], part.body.capture(length, parent))
        kept = [*part.inputs[1 : 1 + len(states)], *(part.inside.number(0, v) for v in values[len(states) :])]
        values = [part.inside.map("where", live, v, k) for v, k in zip(values, kept, strict=True)]
    graph, captured = part.build(values)
    return list(parent.builder.add(g.Scan(graph, trips, len(states), len(xs)), *states, *xs, *captured))


def _turned(n: Call, x: Value, length: Value | None) -> Value:
    """[T, ..] with its first ``length`` entries in reverse order."""
    if length is None:
        return n.b.flip(x, 0)
    step = n.b.iota((x.shape[0],), 0)
    back = n.map("sub", n.map("sub", length, n.number(1, length)), step)
    return n.b.gather(x, 0, n.map("where", n.map("ge", back, n.number(0, back)), back, step))


def _flags(n: Call, name: str, count: int) -> list[int]:
    flags = n.attributes.integers(name)
    flags = [0] * count if flags is None else flags
    n.check(len(flags) == count and set(flags) <= {0, 1}, f"{name} is {flags}, not {count} of 0 and 1")
    return flags


def _counts(n: Call, proto: onnx.GraphProto, first: int) -> tuple[int, int, int]:
    """How many states, scanned inputs and scanned outputs."""
    count, given = n.attributes.integer("num_scan_inputs"), len(n.inputs) - first
    n.check(1 <= count <= given, f"num_scan_inputs is {count}, of {given} inputs")
    states, takes, gives = given - count, len(proto.input), len(proto.output)
    n.check(takes == given, f"the body takes {takes} values, the node gives it {given}")
    n.check(gives >= states, f"the body gives {gives} values, fewer than the {states} states")
    n.check(len(n.wanted) <= gives, f"the node has {len(n.wanted)} outputs, the body {gives}")
    return states, count, gives - states


def _moved(n: Call, x: Value, source: int, target: int) -> Value:
    order = [a for a in range(x.rank) if a != source]
    order.insert(target, source)
    return n.b.permute(x, order)


@op("Scan", since=9)
def scan(n: Call) -> list[Value]:
    proto = n.attributes.graph("body")
    states, count, stacked = _counts(n, proto, 0)
    ways, out_ways = _flags(n, "scan_input_directions", count), _flags(n, "scan_output_directions", stacked)
    axes, out_axes = n.attributes.integers("scan_input_axes"), n.attributes.integers("scan_output_axes")
    axes, out_axes = axes or [0] * count, out_axes or [0] * stacked
    n.check(len(axes) == count and len(out_axes) == stacked, f"{len(axes)} input and {len(out_axes)} output axes")
    starts, xs = [n.value(i) for i in range(states)], []
    for i, (axis, way) in enumerate(zip(axes, ways, strict=True)):
        x = n.value(states + i)
        x = _moved(n, x, n.axis(axis, x.rank), 0)
        xs.append(n.b.flip(x, 0) if way else x)
    results = _repeated(n, n.body, proto, starts, xs)
    for i, (axis, way) in enumerate(zip(out_axes, out_ways, strict=True), states):
        y = n.b.flip(results[i], 0) if way else results[i]
        results[i] = _moved(n, y, 0, n.axis(axis, y.rank))
    return results


@op("Scan", since=8)
def scan_batch(n: Call) -> list[Value]:
    """States are [B, ..], sequences [B, T, ..]: a scan over the batch, of scans over the steps."""
    proto = n.attributes.graph("body")
    states, count, _ = _counts(n, proto, 1)
    ways = _flags(n, "directions", count)
    lengths = n.optional(0)
    values = [n.value(1 + i) for i in range(states + count)]
    n.check(all(v.rank > (i >= states) for i, v in enumerate(values)), "states take a batch axis, sequences two")
    batch = values[0].shape[0]
    values = [n.match_axis(v, 0, batch) for v in values]
    scanned = values if lengths is None else [*values, n.match(n.b.cast(lengths, I64), (batch,))]
    outer = Body(n.symbols, n.body)
    outer.builder.source = n.source
    row = n.inside(outer)
    rows = [parameter(f"row_{i}", v.dtype, v.shape[1:]) for i, v in enumerate(scanned)]
    length = rows[-1] if lengths is not None else None
    xs = [_turned(row, x, length) if way else x for x, way in zip(rows[states : states + count], ways, strict=True)]
    results = _repeated(n, outer, proto, rows[:states], xs, length)
    captured = list(outer.captured)
    position = parameter("sequence", I64, ())
    inputs = [position, *rows, *(outer.captured[v] for v in captured)]
    graph = outer.builder.build(inputs, results, proto.name)
    graph.assumptions = list(outer.assumptions)
    return list(n.b.add(g.Scan(graph, batch, 0, len(scanned)), *scanned, *captured))

"""Sequences: lists of values at import where their length is known, steps of the host program where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from vitrify.frontends.onnx.arrays import dtype_name
from vitrify.frontends.onnx.body import Tensor
from vitrify.frontends.onnx.host import Held, HostValue, Items, Maybe, inner_kind, kind_of
from vitrify.frontends.onnx.host_call import HostCall, boolean_tensor, host, number_tensor
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.graph import Value

MAX_ITEMS = 1 << 16
MAX_TRIPS = 1024  # of a loop that carries sequences
UNKNOWN = "a sequence whose length only a run knows (state its elements' shapes in input_shapes)"


def _same(n: HostCall, kinds: Sequence[str]) -> str:
    for kind in kinds:
        n.check(kind == kinds[0], f"elements of different types, {kinds[0]} and {kind}")
    return kinds[0]


@host("SequenceConstruct", since=11, alone=True)
def construct(n: HostCall) -> Held:
    items = [n.held(i) for i in range(len(n.inputs))]
    return Items(_same(n, [kind_of(item) for item in items]), items)


@host("SequenceEmpty", since=11, alone=True)
def empty(n: HostCall) -> Held:
    return Items(f"tensor({dtype_name(n.attributes.integer('dtype', onnx.TensorProto.FLOAT))})", [])


def _place(n: HostCall, index: int, size: int, *, inserting: bool = False) -> int | None:
    """A constant position counted from the front, None where only a run knows it."""
    position = n.position(index)
    if position is None:
        return None
    last = size if inserting else size - 1
    if not -size <= position <= last:
        n.invalid(f"position {position} of a sequence of {size}", expected=f"{-size} to {last}", actual=position)
    return position + size if position < 0 else position


@host("SequenceInsert", since=11, alone=True)
def insert(n: HostCall) -> Held:
    kind = n.kind(0)
    _same(n, [inner_kind(kind), n.kind(1)])
    items = n.items(0)
    if items is not None:
        at = _place(n, 2, len(items.items), inserting=True) if n.has(2) else len(items.items)
        if at is not None:
            n.check(len(items.items) < MAX_ITEMS, f"a sequence of more than {MAX_ITEMS}")
            return Items(items.element, [*items.items[:at], n.held(1), *items.items[at:]])
    (result,) = n.step("SequenceInsert", [n.held(0), n.held(1), n.optional(2)], [(kind, None)])
    return result


@host("SequenceErase", since=11)
def erase(n: HostCall) -> Held:
    items = n.items(0)
    if items is not None:
        count = len(items.items)
        n.check(count > 0, "erases from a sequence without elements")
        at = _place(n, 1, count) if n.has(1) else count - 1
        if at is not None:
            return Items(items.element, [*items.items[:at], *items.items[at + 1 :]])
    (result,) = n.step("SequenceErase", [n.held(0), n.optional(1)], [(n.kind(0), _element_shape(n))])
    return result


def _element_shape(n: HostCall) -> Shape | None:
    """The rank that elements are declared with, with sizes of each run's own."""
    held = n.held(0)
    if not isinstance(held, HostValue) or held.shape is None:
        return None
    own = n.fresh(len(held.shape))
    return tuple(size if isinstance(size, int) else mine for size, mine in zip(held.shape, own, strict=True))


@host("SequenceAt", since=11)
def at(n: HostCall) -> Held:
    items = n.items(0)
    if items is not None:
        place = _place(n, 1, len(items.items))
        if place is not None:
            return items.items[place]
    (result,) = n.step("SequenceAt", [n.held(0), n.held(1)], [(inner_kind(n.kind(0)), _element_shape(n))])
    return result


@host("SequenceLength", since=11)
def length(n: HostCall) -> Held:
    items = n.items(0)
    if items is not None:
        return number_tensor(len(items.items))
    (result,) = n.step("SequenceLength", [n.held(0)], [("tensor(int64)", ())])
    return result


@host("ConcatFromSequence", since=11)
def concat(n: HostCall) -> Held | Value:
    axis, stacking = n.attributes.integer("axis"), n.attributes.flag("new_axis")
    items = n.items(0)
    if items is None or not all(isinstance(item, Tensor) for item in items.items):
        kind = inner_kind(n.kind(0))
        shape = _element_shape(n)
        made = None if shape is None else n.fresh(len(shape) + stacking)
        (result,) = n.step("ConcatFromSequence", [n.held(0)], [(kind, made)], axis=axis, new_axis=int(stacking))
        return result
    n.check(bool(items.items), "joins a sequence without elements")
    call = n.call([item for item in items.items if isinstance(item, Tensor)])
    values = call.values()
    over = call.axis(axis, values[0].rank + stacking)
    if stacking:
        values = [call.b.reshape(v, (*v.shape[:over], 1, *v.shape[over:])) for v in values]
    first = values[0].shape
    values = [call.match(v, (*first[:over], *v.shape[over : over + 1], *first[over + 1 :])) for v in values]
    return call.b.concat(values, over)


@host("SplitToSequence", since=11, alone=True)
def split(n: HostCall) -> Held:
    axis, keep = n.attributes.integer("axis", 0), n.attributes.flag("keepdims", True)
    held = n.held(0)
    element = kind_of(held)
    known = _tensor_parts(n, axis, keep) if isinstance(held, Tensor) else None
    if known is not None:
        return Items(element, list(known))
    settings = {"axis": axis, "keepdims": int(keep)}
    (result,) = n.step("SplitToSequence", [held, n.optional(1)], [(f"seq({element})", None)], **settings)
    return result


def _tensor_parts(n: HostCall, axis: int, keep: bool) -> list[Tensor] | None:
    """The parts of a tensor, None where their number is not known."""
    call = n.call([t if isinstance(t, Tensor) else None for t in n.inputs])
    rank = call.tensor(0).rank
    over = call.axis(axis, rank)
    size = n.body.simplify(call.tensor(0).shape[over])
    sizes = _part_sizes(n, call, size)
    if sizes is None:
        return None
    n.check(len(sizes) <= MAX_ITEMS, f"a sequence of {len(sizes)} elements, more than {MAX_ITEMS}")
    x, start, parts = call.value(0), 0, []
    for count in sizes:
        part = call.b.slice_axis(x, over, start, count)
        if not keep and not call.has(1):
            part = call.b.reshape(part, (*x.shape[:over], *x.shape[over + 1 :]))
        parts.append(Tensor(part.dtype, part.shape, value=part, home=n.body))
        start += count
    return parts


def _part_sizes(n: HostCall, call: Any, size: DimLike) -> list[int] | None:
    if not call.has(1):
        return None if isinstance(size, Dim) else [1] * min(size, MAX_ITEMS + 1)
    given = call.dims(1)
    if given is None or not all(isinstance(v, int) for v in given):
        return None
    if call.tensor(1).rank == 0:
        step = int(given[0])
        n.check(step > 0, f"parts of {step}")
        if isinstance(size, Dim):
            return None
        n.check(size // step < MAX_ITEMS, f"a sequence of more than {MAX_ITEMS} elements")
        return [min(step, size - start) for start in range(0, size, step)]
    sizes = [int(v) for v in given]
    n.check(all(v >= 0 for v in sizes), f"parts of negative sizes {sizes}")
    if isinstance(size, Dim):
        call.assume(size, sum(sizes))
    else:
        n.check(sum(sizes) == size, f"parts of {sizes}, in all {sum(sizes)}, not {size}")
    return sizes


# Graphs over sequences.
@host("SequenceMap", since=17)
def sequence_map(n: HostCall) -> list[Held]:
    graph = n.attributes.graph("body")
    n.check(len(graph.input) == len(n.inputs), f"the body takes {len(graph.input)} inputs, not {len(n.inputs)}")
    columns: list[list[Held] | Held] = []
    for index in range(len(n.inputs)):
        if not n.kind(index).startswith("seq("):
            columns.append(n.held(index))
            continue
        items = n.items(index)
        if items is None:
            n.unsupported(UNKNOWN)
        columns.append(items.items)
    first = columns[0]
    if not isinstance(first, list):
        n.invalid("input 0 has the wrong type", expected="a sequence", actual=n.kind(0))
    lengths = [len(column) for column in columns if isinstance(column, list)]
    n.check(len(set(lengths)) == 1, f"sequences of different lengths {lengths}")
    n.check(bool(first), "maps a sequence without elements, whose results have no known type")
    rows = [
        n.inline(graph, f"body{i}", [column[i] if isinstance(column, list) else column for column in columns])
        for i in range(len(first))
    ]
    return [Items(_same(n, [kind_of(item) for item in results]), list(results)) for results in zip(*rows, strict=True)]


@host("Loop")
def loop(n: HostCall) -> list[Held]:
    """A loop that carries sequences or optionals: every trip is imported."""
    graph = n.attributes.graph("body")
    carried = [n.held(i) for i in range(2, len(n.inputs))]
    n.check(len(graph.input) == len(carried) + 2, f"the body takes {len(graph.input)} inputs, not {len(carried) + 2}")
    stacked: list[list[Held]] = [[] for _ in graph.output[len(carried) + 1 :]]
    trips = _constant(n, 0) if n.has(0) else MAX_TRIPS + 1
    going = _constant(n, 1) if n.has(1) else 1
    trip = 0
    while going and trip < trips:
        if trip == MAX_TRIPS:
            n.unsupported(f"a loop that carries sequences for more than {MAX_TRIPS} trips")
        inputs = [number_tensor(trip), boolean_tensor(True), *carried]
        condition, *results = n.inline(graph, f"body{trip}", [*map(_declared, graph.input, inputs)])
        carried = results[: len(carried)]
        for column, item in zip(stacked, results[len(carried) :], strict=True):
            column.append(item)
        going = _plain(n, condition)
        trip += 1
    return [*carried, *(_stacked(n, column) for column in stacked)]


def _declared(info: onnx.ValueInfoProto, held: Held) -> Held:
    """As the optional that the body takes, where it takes one."""
    optional = info.type.WhichOneof("value") == "optional_type"
    return Maybe(kind_of(held), held) if optional and not kind_of(held).startswith("optional(") else held


def _constant(n: HostCall, index: int) -> int:
    return _plain(n, n.held(index))


def _plain(n: HostCall, held: Held) -> int:
    contents = held.contents if isinstance(held, Tensor) else None
    item = None if contents is None or contents.size != 1 else n.body.simplify(contents.reshape(-1)[0])
    if not isinstance(item, int):
        n.unsupported("a loop that carries sequences whose number of trips is not a constant")
    return item


def _stacked(n: HostCall, column: list[Held]) -> Tensor:
    tensors = [item for item in column if isinstance(item, Tensor)]
    if not tensors or len(tensors) < len(column):
        n.unsupported("a loop over sequences that stacks no tensors")
    call = n.call(tensors)
    values = [call.match(v, tensors[0].shape) for v in call.values()]
    result = call.b.concat([call.b.reshape(v, (1, *v.shape)) for v in values], 0)
    return Tensor(result.dtype, result.shape, value=result, home=n.body)


@host("Identity")
def identity(n: HostCall) -> Held:
    return n.held(0)



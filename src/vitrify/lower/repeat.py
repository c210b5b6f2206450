"""Loops that the run ends: carried values that may change their sizes, results stacked in blocks that grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, maximum, minimum, mod, product
from vitrify.ir.dtypes import BOOL
from vitrify.ir.graph import Node, Value
from vitrify.lower import plan as p
from vitrify.lower.control import half, hand_over, lower_body, slots_of
from vitrify.lower.plan import Placement
from vitrify.lower.views import row_major

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering


class _Carried:
    """A value of one size: two copies, one is read while the other is written."""

    def __init__(self, low: Lowering, start: Value, inner: Value, materialised: set[Value]) -> None:
        self.low, self.inner = low, inner
        self.slot = slots_of(low, inner)
        low.copy(start, self.slot, materialised)

    def before(self, t: DimLike) -> Placement:
        return half(self.slot, self.inner, mod(t, 2))

    def after(self, t: DimLike, given: Value) -> Placement:
        return half(self.slot, self.inner, mod(t + 1, 2))

    def end_trip(self) -> None:
        self.low.touch(self.slot.place)

    def end(self, value: Value, count: Dim) -> None:
        hand_over(self.low, value, half(self.slot, value, mod(count, 2)))


class _Resized:
    """A value whose size trips change: two late blocks that change places after each."""

    def __init__(self, low: Lowering, start: Value, inner: Value, materialised: set[Value]) -> None:
        self.low, self.inner = low, inner
        self.held, self.made = low.late_place(), low.late_place()
        self._reserve(self.held.number, start)
        low.copy(start, Placement(self.held, 0, row_major(start.shape), start.dtype), materialised)
        low.unsized.pop(self.held.number, None)

    def _reserve(self, number: int, value: Value) -> None:
        size = product(value.shape) * value.dtype.itemsize
        self.low.unsized[number] = p.Allocate(number, maximum(size, 1))

    def before(self, t: DimLike) -> Placement:
        return Placement(self.held, 0, row_major(self.inner.shape), self.inner.dtype)

    def after(self, t: DimLike, given: Value) -> Placement:
        self._reserve(self.made.number, given)
        return Placement(self.made, 0, row_major(given.shape), given.dtype)

    def end_trip(self) -> None:
        self.low.unsized.pop(self.made.number, None)
        self.low.emit(p.Swap(self.held.number, self.made.number))

    def end(self, value: Value, count: Dim) -> None:
        hand_over(self.low, value, Placement(self.held, 0, row_major(value.shape), value.dtype))


class _Stack:
    """Entries one after another, in the block of the result where that is one of its own."""

    def __init__(self, low: Lowering, value: Value) -> None:
        self.low = low
        where = low.placements.get(value)
        own = where is not None and where.place.kind == "late" and where.offset == 0
        if where is not None and own and where.strides == row_major(value.shape):
            self.place = where.place
            low.unsized.pop(self.place.number, None)
        else:
            self.place = low.late_place()

    def entry(self, t: Dim, given: Value) -> Placement:
        elements = product(given.shape)
        size, number = elements * given.dtype.itemsize, self.place.number
        self.low.unsized[number] = p.Grow(number, t * size, (t + 1) * size)
        return Placement(self.place, t * elements, row_major(given.shape), given.dtype)

    def end_trip(self) -> None:
        self.low.unsized.pop(self.place.number, None)

    def end(self, value: Value) -> None:
        where = self.low.placements.get(value)
        if where is None or where.place != self.place:
            hand_over(self.low, value, Placement(self.place, 0, row_major(value.shape), value.dtype))


def lower_loop(low: Lowering, node: Node, op: g.Loop, materialised: set[Value]) -> None:
    """Emits a Loop: what it carries is copied in, its body runs in place, its results are handed over."""
    body = op.body
    t = Dim.symbol(f"t{low.serial()}")
    starts = node.inputs[2 : 2 + op.carried]
    states: list[_Carried | _Resized] = []
    for start, inner in zip(starts, body.inputs[1:], strict=False):
        resized = any(str(n) in op.sizes for n in inner.shape)
        states.append((_Resized if resized else _Carried)(low, start, inner, materialised))
    stacks = [_Stack(low, v) for v in node.outputs[op.carried :]]
    captured = [low.placement(v) for v in node.inputs[2 + op.carried :]]
    limit, condition = (low.placement(v).operand() for v in node.inputs[:2])
    again = Placement(low.allocate(8), 0, (), BOOL)
    _start_dims(low, op, starts, node)
    begin, outer, bound = low.time, low.instructions, set(low.bound_symbols)
    low.instructions = []
    low.bound_symbols |= set(op.sizes)
    position = body.inputs[0]
    low.placements[position] = Placement(low.allocate(8), 0, (), position.dtype)
    low.emit(p.StoreInteger(low.placements[position].operand(), t))
    before = [s.before(t) for s in states]
    for inner, place in zip(body.inputs[1:], [*before, *captured], strict=True):
        low.placements[inner] = place
    given = body.outputs[1 : 1 + op.carried]
    after = [s.after(t, v) for s, v in zip(states, given, strict=True)]
    entries = [s.entry(t, v) for s, v in zip(stacks, body.outputs[1 + op.carried :], strict=True)]
    lower_body(low, body, [again, *after, *entries])
    for part in (*states, *stacks):
        part.end_trip()
    _end_trip_dims(low, op, node, t)
    low.touch(again.place)
    inside, low.instructions, low.bound_symbols = tuple(low.instructions), outer, bound
    numbers = tuple(s.place.number for s in stacks)
    count_name, source = low.model_names[op.count], low.node_id(node)
    low.emit(p.While(t, limit, condition, again.operand(), inside, count_name, numbers, source))
    for where in captured:
        low.touch(where.place)
    low.keep_through(begin)
    low.bound_symbols |= {op.count, *op.names}
    count = low.symbols[op.count]
    for state, value in zip(states, node.outputs, strict=False):
        state.end(value, count)
    for stack, value in zip(stacks, node.outputs[op.carried :], strict=True):
        stack.end(value)
    low.check_required()


def _named(op: g.Loop, value: Value) -> list[tuple[int, str]]:
    """The axes of a result whose extents the loop names."""
    return [(axis, str(n)) for axis, n in enumerate(value.shape) if str(n) in op.names]


def _start_dims(low: Lowering, op: g.Loop, starts: tuple[Value, ...], node: Node) -> None:
    """Before the first trip: the sizes that carried values come with, no trips, empty entries."""
    names, values = [], []
    for start, inner in zip(starts, op.body.inputs[1:], strict=False):
        for size, n in zip(start.shape, inner.shape, strict=True):
            if str(n) in op.sizes:
                names.append(low.model_names[str(n)])
                values.append(size)
    for i, value in enumerate(node.outputs):
        for axis, name in _named(op, value):
            names.append(low.model_names[name])
            values.append(starts[i].shape[axis] if i < op.carried else 0)
    if names:
        low.emit(p.SetDims(tuple(names), tuple(values)))


def _end_trip_dims(low: Lowering, op: g.Loop, node: Node, t: Dim) -> None:
    """After a trip: the sizes of what it gives. Entries must have those of the first one."""
    names: list[str] = []
    values: list[DimLike] = []
    for value, inner, given in zip(node.outputs, op.body.inputs[1:], op.body.outputs[1 : 1 + op.carried], strict=False):
        for axis, name in _named(op, value):
            for known in (str(inner.shape[axis]), name):
                names.append(low.model_names[known])
                values.append(given.shape[axis])
    for value, given in zip(node.outputs[op.carried :], op.body.outputs[1 + op.carried :], strict=True):
        for axis, name in _named(op, value):
            size = given.shape[axis - 1]
            later = minimum(t, 1)
            low.emit(p.Require(later * low.symbols[name], later * size, low.node_id(node)))
            names.append(low.model_names[name])
            values.append(size)
    if names:
        low.emit(p.SetDims(tuple(names), tuple(values)))

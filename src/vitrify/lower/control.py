"""Control structures in the plan: branches, repetition, dims that the run finds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, mod, product
from vitrify.ir.graph import Graph, Node, Value
from vitrify.lower import plan as p
from vitrify.lower.plan import Placement
from vitrify.lower.views import row_major

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering


def lower_control(low: Lowering, node: Node, materialised: set[Value]) -> None:
    """Emits one If, Scan, Loop or BindDim."""
    results = () if isinstance(node.op, g.Loop) else node.outputs  # whose sizes are known only after it
    for value in (*node.inputs, *results):
        if value in low.placements:
            low.reserve(low.placements[value].place)
    if isinstance(node.op, g.If):
        _branch(low, node, node.op)
    elif isinstance(node.op, g.Scan):
        _repeat(low, node, node.op, materialised)
    elif isinstance(node.op, g.Loop):
        from vitrify.lower.repeat import lower_loop

        lower_loop(low, node, node.op, materialised)
    elif isinstance(node.op, g.BindDim):
        source = low.placement(node.inputs[0])
        low.placements[node.output] = source
        name = node.op.symbol
        known = name in low.bound_symbols or name not in low.late_symbols
        low.emit(p.BindSymbol(low.model_names[name], source.operand(), low.node_id(node), known))
        low.bound_symbols.add(name)
        low.check_required()


def lower_body(low: Lowering, graph: Graph, results: list[Placement]) -> None:
    """The graph's instructions, its outputs computed into ``results``. Dims bound inside are unknown again
    after it."""
    bound = set(low.bound_symbols)
    for node in graph.nodes:  # a body may have been lowered before: as the other branch, or for another node
        for value in node.outputs:
            low.placements.pop(value, None)
    direct: list[tuple[Value, Placement]] = []
    copied: list[tuple[Value, Placement]] = []
    for value, where in zip(graph.outputs, results, strict=True):
        computed = value.node is not None and value.constant is None and value not in graph.inputs
        if computed and value not in low.placements:
            low.placements[value] = where
            direct.append((value, where))
        else:
            copied.append((value, where))
    low.lower(graph)
    low.bound_symbols = bound
    for value, where in direct:
        if low.placements[value] != where:
            copied.append((value, where))
    for value, where in copied:
        low.copy(value, where, {value} if value.constant is None else set())


def _branch(low: Lowering, node: Node, op: g.If) -> None:
    condition = low.placement(node.inputs[0]).operand()
    results = [low.placement(v) for v in node.outputs]
    outer = low.instructions
    parts: list[tuple[p.Instruction, ...]] = []
    for body in op.bodies:
        low.instructions = []
        for inner, value in zip(body.inputs, node.inputs[1:], strict=True):
            low.placements[inner] = low.placement(value)
        lower_body(low, body, results)
        parts.append(tuple(low.instructions))
    low.instructions = outer
    low.emit(p.Branch(condition, parts[0], parts[1]))
    for value in node.outputs:
        low.touch(low.placements[value].place)


def _repeat(low: Lowering, node: Node, op: g.Scan, materialised: set[Value]) -> None:
    body = op.body
    number = low.serial()
    t = Dim.index(f"t{number}", op.trips)
    slots = [slots_of(low, v) for v in node.outputs[: op.carried]]
    for value, slot in zip(node.inputs[: op.carried], slots, strict=True):
        low.copy(value, slot, materialised)
    stacked = [low.placement(v) for v in node.outputs[op.carried :]]
    captured = [low.placement(v) for v in node.inputs[op.carried + op.scanned :]]
    scanned = [low.placement(v) for v in node.inputs[op.carried : op.carried + op.scanned]]
    start, outer = low.time, low.instructions
    low.instructions = []
    position = body.inputs[0]
    low.placements[position] = Placement(low.allocate(8), 0, (), position.dtype)
    low.emit(p.StoreInteger(low.placements[position].operand(), t))
    places = [half(slot, v, mod(t, 2)) for slot, v in zip(slots, node.outputs, strict=False)]
    places += [_entry(whole, t) for whole in scanned]
    for inner, place in zip(body.inputs[1:], [*places, *captured], strict=True):
        low.placements[inner] = place
    after = [half(slot, v, mod(t + 1, 2)) for slot, v in zip(slots, node.outputs, strict=False)]
    lower_body(low, body, [*after, *(_entry(whole, t) for whole in stacked)])
    inside = tuple(low.instructions)
    low.instructions = outer
    low.emit(p.Repeat(t, op.trips, inside, low.node_id(node)))
    for place in [*slots, *stacked, *captured, *scanned]:
        low.touch(place.place)
    low.keep_through(start)
    for slot, value in zip(slots, node.outputs, strict=False):
        hand_over(low, value, half(slot, value, mod(op.trips, 2)))


def hand_over(low: Lowering, value: Value, final: Placement) -> None:
    """``final`` is where the value lies; copied where it has to lie elsewhere."""
    where = low.placements.get(value)
    low.placements[value] = final
    if where is not None:
        low.copy(value, where, {value})
        low.placements[value] = where


def slots_of(low: Lowering, value: Value) -> Placement:
    """Two copies of a carried value: one is read while the other is written."""
    place = low.allocate(2 * product(value.shape) * value.dtype.itemsize)
    return Placement(place, 0, row_major(value.shape), value.dtype)


def half(slot: Placement, value: Value, which: object) -> Placement:
    offset = product(value.shape) * which  # type: ignore[operator]
    return Placement(slot.place, offset, slot.strides, slot.dtype)


def _entry(whole: Placement, t: Dim) -> Placement:
    """Entry ``t`` along axis 0."""
    return Placement(whole.place, whole.offset + t * whole.strides[0], whole.strides[1:], whole.dtype)

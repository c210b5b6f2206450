"""From a tensor graph to a plan: steps become kernels, values get their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, maximum, product, symbols
from vitrify.ir.dtypes import BF16, DType
from vitrify.ir.graph import Graph, Node, Value
from vitrify.lower import plan as p
from vitrify.lower.contraction import lower_contract
from vitrify.lower.custom import lower_call
from vitrify.lower.emit import Leaf
from vitrify.lower.loop import Kernel, align64, scratch_bytes
from vitrify.lower.narrow import narrow_values
from vitrify.lower.nest import NestBuilder, Region, default_schedule
from vitrify.lower.plan import Block, Call, Instruction, Operand, Place, Placement, Shared, Weights
from vitrify.lower.regions import Step, partition
from vitrify.lower.require import requirements
from vitrify.lower.scatter import lower_scatter
from vitrify.lower.scope import KernelScope
from vitrify.lower.sort import lower_sort
from vitrify.lower.storage import Order, storage_orders, strides_in_order
from vitrify.lower.suppress import lower_suppress
from vitrify.lower.target import Target
from vitrify.lower.views import row_major


@dataclass(frozen=True)
class LowerOptions:
    """``accurate``: no algorithm with a larger error than plain summation. ``bf16``: products in bf16."""

    fuse: bool = True
    layout: bool = True  # values lie in memory as their readers want them
    accurate: bool = False
    bf16: bool = False
    reuse: bool = True  # values that are never needed at once share memory


@dataclass
class Lowering:
    """State of one lowering; bodies of control structures share it."""

    target: Target
    options: LowerOptions
    instructions: list[Instruction] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    calls: list[tuple[int, Call]] = field(default_factory=list)  # each with its time
    shared: Shared = field(default_factory=Shared)
    placements: dict[Value, Placement] = field(default_factory=dict)
    orders: dict[Value, Order] = field(default_factory=dict)
    narrow: dict[Value, DimLike] = field(default_factory=dict)  # bf16 in memory; elements read beyond the end
    time: int = 0
    late: int = 0
    symbols: dict[str, Dim] = field(default_factory=dict)
    model_names: dict[str, str] = field(default_factory=dict)  # what the model calls each of the symbols
    late_symbols: set[str] = field(default_factory=set)
    bound_symbols: set[str] = field(default_factory=set)  # of the late ones
    required: list[tuple[DimLike, DimLike, int]] = field(default_factory=list)
    scratch: DimLike = 0
    unsized: dict[int, Instruction] = field(default_factory=dict)  # what gives a late block its memory, when first used
    _serial: int = 0

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    # ---- places

    def node_id(self, node: Node) -> int:
        return self.shared.nodes.setdefault(node.source or node.op.name, len(self.shared.nodes))

    @property
    def weights(self) -> Weights:
        return self.shared.weights

    def is_late(self, size: DimLike) -> bool:
        return any(s.name in self.late_symbols for s in symbols(size))

    def allocate(self, size: DimLike) -> Place:
        """``size`` bytes, from now on."""
        if self.is_late(size):
            place = self.late_place()
            self.emit(p.Allocate(place.number, maximum(size, 1)))
            return place
        self.blocks.append(Block(size, self.time, self.time))
        return Place("arena", len(self.blocks) - 1)

    def late_place(self) -> Place:
        """A block whose memory the plan has yet to allocate."""
        self.late += 1
        return Place("late", self.late - 1)

    def placement(self, value: Value) -> Placement:
        if value not in self.placements:
            constant = value.constant
            if constant is not None:
                place = Place("weight", self.weights.add(constant))
            else:
                place = self.allocate(self.bytes(value))
            self.placements[value] = self.whole(value, place)
        return self.placements[value]

    def whole(self, value: Value, place: Place) -> Placement:
        """The value alone in ``place``."""
        room = self.narrow.get(value, 0)
        return Placement(place, 0, self.strides(value), self.stored(value), room)

    def stored(self, value: Value) -> DType:
        """What the value is in memory."""
        return BF16 if value in self.narrow else value.dtype

    def bytes(self, value: Value) -> DimLike:
        """Memory for the value, and for what is read beyond its end."""
        return (product(value.shape) + self.narrow.get(value, 0)) * self.stored(value).itemsize

    def strides(self, value: Value) -> tuple[DimLike, ...]:
        order = self.orders.get(value)
        return row_major(value.shape) if order is None else strides_in_order(value.shape, order)

    def emit(self, instruction: Instruction) -> None:
        for operand in _operands(instruction):
            self.reserve(operand.place)
        self.instructions.append(instruction)
        for operand in _operands(instruction):
            self.touch(operand.place)
        if isinstance(instruction, Call):
            self.calls.append((self.time, instruction))
        self.time += 1

    def reserve(self, place: Place) -> None:
        """A late block is allocated once, before the loop or the branch that first uses it."""
        if place.kind == "late" and place.number in self.unsized:
            self.instructions.append(self.unsized.pop(place.number))

    def touch(self, place: Place) -> None:
        """The block is needed now."""
        if place.kind == "arena":
            block = self.blocks[place.number]
            block.death = max(block.death, self.time)

    def keep_through(self, start: int) -> None:
        """A loop has run from ``start`` until now: what it reads from before must outlive it."""
        for block in self.blocks:
            if block.birth < start <= block.death:
                block.death = max(block.death, self.time)

    def note_scratch(self, kernel: Kernel) -> None:
        if kernel.tiles:
            self.scratch = maximum(self.scratch, align64(scratch_bytes(kernel)))

    # ---- graphs

    def lower(self, graph: Graph) -> None:
        """Appends the graph's instructions; its inputs are placed, its outputs' places are kept if set."""
        self._require(graph)
        if self.options.layout:
            self.orders |= storage_orders(graph)
        parts = partition(graph, fuse=self.options.fuse, stored=self.orders)
        self._place_results(graph, parts.turned)
        if self.options.bf16:
            self.narrow |= narrow_values(graph, parts.steps, self.target)
        self._place_concats(graph, parts.steps)
        for step in parts.steps:
            self._step(step, parts.materialised)

    def _require(self, graph: Graph) -> None:
        """What only the run can compare, now or once its dims are bound: assumptions, and sizes of nodes."""
        for left, right in graph.assumptions:
            self.required.append((left, right, self.node_id(graph.nodes[0]) if graph.nodes else 0))
        pairs: dict[tuple[DimLike, DimLike], Node] = {}
        for node in graph.nodes:
            for pair in requirements(node):
                pairs.setdefault(pair, node)
        self.required += [(left, right, self.node_id(node)) for (left, right), node in pairs.items()]
        self.check_required()

    def check_required(self) -> None:
        """Emits the checks whose dims are all known."""
        rest = []
        for left, right, node in self.required:
            if any(s.name in self.late_symbols - self.bound_symbols for x in (left, right) for s in symbols(x)):
                rest.append((left, right, node))
            else:
                self.emit(p.Require(left, right, node))
        self.required = rest

    def _place_results(self, graph: Graph, turned: set[Value]) -> None:
        """A view at the end: what it views is computed where the result lies."""
        for value in graph.outputs:
            current = value
            while current in self.placements and current.node is not None:
                op = current.node.op
                if not isinstance(op, (g.Reshape, g.Permute)) or current in turned:
                    break
                source = current.node.inputs[0]
                here = self.placements[current]
                if here.place.kind == "late":  # its size may be bound only after the source is computed
                    break
                if source in self.placements or source.constant is not None or source in graph.inputs:
                    break
                strides = _strides_through(op, here, current, source)
                if strides is None:
                    break
                self.placements[source] = Placement(here.place, here.offset, strides, here.dtype)
                current = source

    def _place_concats(self, graph: Graph, steps: Sequence[Step]) -> None:
        """Pieces of a concat lie inside its memory, so that joining them costs nothing."""
        made = {v for s in steps if s.kind != "control" for v in s.outputs}
        order = [s for s in steps if s.kind == "concat"]
        for step in reversed(order):
            node = step.anchor
            whole = node.output
            if self.is_late(product(whole.shape)):
                continue  # its size may be bound only after its pieces are computed
            if whole not in self.placements:
                self._defer(whole)
            base = self.placements[whole]
            assert isinstance(node.op, g.Concat)
            start: DimLike = 0
            for piece in node.inputs:
                if piece in made and piece not in self.placements and piece not in graph.inputs:
                    offset = base.offset + start * base.strides[node.op.axis]
                    self.placements[piece] = Placement(base.place, offset, base.strides, base.dtype)
                start = start + piece.shape[node.op.axis]

    def _defer(self, value: Value) -> None:
        """A place whose life begins with its first use."""
        self.blocks.append(Block(self.bytes(value), -1, -1))
        place = Place("arena", len(self.blocks) - 1)
        self.placements[value] = self.whole(value, place)

    # ---- steps

    def _step(self, step: Step, materialised: set[Value]) -> None:
        if step.kind not in ("control", "scatter", "call") and all(_is_empty(v) for v in step.outputs):
            return
        for value in step.outputs:
            place = self.placement(value).place
            if place.kind == "arena" and self.blocks[place.number].birth < 0:
                self.blocks[place.number].birth = self.time
        if step.kind == "contract":
            lower_contract(self, step, materialised)
        elif step.kind == "reduce":
            op = step.anchor.op
            assert isinstance(op, g.Reduce)
            self._nest(Region(step.anchor.inputs[0].shape, op.axes, step.members, step.outputs), step, materialised)
        elif step.kind == "map":
            self.materialise(step.anchor.output, self.placement(step.anchor.output), materialised)
        elif step.kind == "concat":
            self._concat(step, materialised)
        elif step.kind == "sort":
            lower_sort(self, step.anchor, materialised)
        elif step.kind == "suppress":
            lower_suppress(self, step.anchor, materialised)
        elif step.kind == "scatter":
            lower_scatter(self, step.anchor, materialised)
        elif step.kind == "call":
            lower_call(self, step.anchor, materialised)
        else:
            self._control(step, materialised)

    def _nest(self, region: Region, step: Step, materialised: set[Value]) -> None:
        scope = KernelScope(self, materialised - set(step.outputs))
        leaves = {v: scope.parameter(v, self.placement(v), written=True) for v in region.outputs}
        self._build(region, scope, leaves, step.anchor)

    def _build(self, region: Region, scope: KernelScope, leaves: dict[Value, Leaf], anchor: Node) -> None:
        schedule = default_schedule(region, scope, leaves, self.target)
        builder = NestBuilder(region, scope, leaves, schedule, self.target)
        tasks, body = builder.build()
        elements = product(region.space)
        self.call(
            scope, tasks, body, flops=elements * builder.flops(), anchor=anchor, schedule=builder.describe(),
            elementwise=builder.elementwise(),
        )  # fmt: skip

    def materialise(self, value: Value, where: Placement, materialised: set[Value]) -> None:
        """A kernel that computes the value, with all that is not in memory before it, into ``where``."""
        scope = KernelScope(self, materialised - {value}, computing=value)
        leaf = scope.parameter(value, where, written=True)
        members = _pulled(value, scope)
        region = Region(value.shape, (), members, [value])
        anchor = value.node if value.node is not None else Node(g.Reshape(value.shape), (value,), (value,), "copy")
        self._build(region, scope, {value: leaf}, anchor)

    def copy(self, value: Value, where: Placement, materialised: set[Value]) -> None:
        """``value`` as it is, once more, to another place."""
        twin = g.make_node(g.Permute(tuple(range(value.rank))), [value], "copy").output
        self.materialise(twin, where, materialised | {value})

    def call(
        self, scope: KernelScope, tasks: DimLike, body: tuple[object, ...], *, flops: DimLike, anchor: Node,
        schedule: tuple[tuple[str, int | str], ...] = (), elementwise: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        kernel, dims = scope.kernel(tasks, body, flops, schedule)  # type: ignore[arg-type]
        self.note_scratch(kernel)
        self.emit(Call(kernel, tuple(scope.operands), dims, anchor.source or anchor.op.name, elementwise))

    def _concat(self, step: Step, materialised: set[Value]) -> None:
        node = step.anchor
        base = self.placement(node.output)
        assert isinstance(node.op, g.Concat)
        start: DimLike = 0
        for piece in node.inputs:
            offset = base.offset + start * base.strides[node.op.axis]
            where = Placement(base.place, offset, base.strides, base.dtype)
            if self.placements.get(piece) != where:
                if piece in materialised or piece.constant is not None:
                    self.copy(piece, where, materialised)
                else:
                    self.materialise(piece, where, materialised)
            start = start + piece.shape[node.op.axis]

    def _control(self, step: Step, materialised: set[Value]) -> None:
        from vitrify.lower.control import lower_control

        lower_control(self, step.anchor, materialised)


def _is_empty(value: Value) -> bool:
    """No element at any run: there is nothing to compute."""
    return any(isinstance(n, int) and n == 0 for n in value.shape)


def _strides_through(op: g.Op, here: Placement, value: Value, source: Value) -> tuple[DimLike, ...] | None:
    """Strides of what a permute or reshape views, given those of the view."""
    if isinstance(op, g.Permute):
        strides: list[DimLike] = [0] * source.rank
        for at, axis in enumerate(op.perm):
            strides[axis] = here.strides[at]
        return tuple(strides)
    if here.strides == row_major(value.shape):
        return row_major(source.shape)
    return None


def _pulled(value: Value, scope: KernelScope) -> list[Node]:
    """The nodes that a kernel for ``value`` computes, in order."""
    found: dict[Node, None] = {}

    def visit(v: Value) -> None:
        if v.node is None or v.node in found or (v is not value and scope.is_leaf(v)):
            return
        for x in v.node.inputs:
            visit(x)
        found[v.node] = None

    visit(value)
    return list(found)


def _operands(instruction: Instruction) -> tuple[Operand, ...]:
    match instruction:
        case p.Call(operands=operands):
            return operands
        case p.BindSymbol(operand=operand) | p.StoreInteger(operand=operand) | p.Publish(operand=operand):
            return (operand,)
        case p.Branch(condition=condition):
            return (condition,)
        case p.While(limit=limit, condition=condition, again=again):
            return (limit, condition, again)
    return ()

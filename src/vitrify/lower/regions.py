"""Which values are computed together: every kernel's members, and what lies in memory between kernels.

Regions form by dataflow. A contraction takes in the elementwise values that follow it; a reduction takes in
those that follow it over the same space, further reductions over the same axes among them (softmax,
normalisation). What remains is computed where it is read, unless that would repeat costly work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, product, provably_less, provably_nonnegative, symbols
from vitrify.ir.graph import Graph, Node, Value
from vitrify.ir.scalar import SCALAR
from vitrify.lower.views import RENAMING, Index, axis_groups, linear_in, reshape_index, source_index

CHEAP = 2  # vector instructions that are repeated rather than stored
MOST_PIECES = 64  # of concats inside concats that one kernel chooses among
MOST_DEPTH = 100  # nodes of one kernel that read each other
LANES = 16  # the most that vectors of results have
VIEWS = (*RENAMING, g.Pad)
CONTROL = (g.If, g.Scan, g.Loop, g.BindDim)


@dataclass(eq=False)
class Step:
    """One or more kernels, or one control structure. ``members`` in order; ``outputs`` are materialised."""

    kind: str  # contract, reduce, map, concat, scatter, sort, suppress, call, control
    anchor: Node
    members: list[Node]
    outputs: list[Value] = field(default_factory=list)
    index: dict[Value, Index] = field(default_factory=dict)  # contract: where members are, in its axes
    parts: dict[str, Index] = field(default_factory=dict)  # contract: axes that a reshape after it divides, as sizes


@dataclass
class Partition:
    steps: list[Step]  # in an order that computes everything before it is read
    materialised: set[Value]
    turned: set[Value]  # views of results that are copied from them, since these are not stored in that order


Follows = Callable[[Step, Node], bool]


class Partitioner:
    def __init__(self, graph: Graph, fuse: bool = True, stored: Iterable[Value] = ()) -> None:
        self.graph, self.fuse = graph, fuse
        self.users = graph.users()
        self.at = {n: i for i, n in enumerate(graph.nodes)}
        self.step_of: dict[Node, Step] = {}
        self.steps: list[Step] = []
        self.materialised: set[Value] = {*graph.inputs, *stored}
        self.turned: set[Value] = set()
        self.live = self._live()

    def run(self) -> Partition:
        for node in self.live:
            if isinstance(node.op, g.Contract):
                self.materialised.update(contract_base(v) for v in node.inputs)
            elif isinstance(node.op, g.BitCast) and node.inputs[0].constant is None:
                self.materialised.add(node.inputs[0])  # read from memory as it is not
        for node in self.graph.nodes:
            if node not in self.live or node in self.step_of:
                continue
            if isinstance(node.op, CONTROL):
                self._control(node)
            elif isinstance(node.op, g.Contract):
                self._contract(node)
            elif isinstance(node.op, g.Reduce):
                self._reduce(node)
            elif isinstance(node.op, (g.Sort, g.Suppress, g.Call)):
                self._add(Step(node.op.name, node, [node], list(node.outputs)))
                self.materialised.update((*node.inputs, *node.outputs))
            elif isinstance(node.op, g.Scatter):
                self._add(Step("scatter", node, [node], [node.output]))
                self.materialised.add(node.output)
        self.materialised.update(v for v in self.graph.outputs if v.constant is None)
        self._materialise()
        for node in self.graph.nodes:
            pending = node in self.live and node not in self.step_of and not isinstance(node.op, g.Constant)
            if pending and node.outputs[0] in self.materialised:
                kind = "concat" if isinstance(node.op, g.Concat) else "map"
                self._add(Step(kind, node, [node], [node.outputs[0]]))
        return Partition(self._ordered(), self.materialised, self.turned)

    def _live(self) -> set[Node]:
        live: set[Node] = set()
        stack = [v.node for v in self.graph.outputs] + [
            n for n in self.graph.nodes if g.bound_dims(n.op) or not g.is_pure(n.op)
        ]
        while stack:
            node = stack.pop()
            if node is not None and node not in live and node in self.at:
                live.add(node)
                stack.extend(v.node for v in node.inputs)
        return live

    def _add(self, step: Step) -> Step:
        self.steps.append(step)
        for node in step.members:
            self.step_of[node] = step
        return step

    # ---- anchors

    def _control(self, node: Node) -> None:
        self._add(Step("control", node, [node], list(node.outputs)))
        self.materialised.update(node.outputs)
        self.materialised.update(node.inputs)

    def _contract(self, node: Node) -> None:
        axes: list[DimLike] = [0 if n == 1 else Dim.index(f"a{i}", n) for i, n in enumerate(node.output.shape)]
        step = Step("contract", node, [node], index={node.output: tuple(axes)})
        divided = self._divided(node) if self.fuse else None
        if divided is not None:
            axis, sizes = divided
            step.parts[f"a{axis}"] = sizes
            axes[axis] = merged_parts(f"a{axis}", sizes)
            step.index[node.output] = tuple(axes)
        if self.fuse:
            self._grow(step, self._follows_contract)
        self._add(step)
        self._turn(step)
        self._close(step)

    def _turn(self, step: Step) -> None:
        """A result in an order that takes the lanes of vectors apart is copied there by a kernel that turns squares."""
        last = step.members[-1]
        lanes = lane_axis(step)
        if not isinstance(last.op, g.Permute) or last.output not in self.graph.outputs or lanes is None:
            return
        (before, size), (after, length) = (
            next(((i, n) for i, n in zip(reversed(step.index[v]), reversed(v.shape), strict=True) if n != 1), (0, 1))
            for v in (last.inputs[0], last.output)
        )
        if str(before) == lanes != str(after) and all(isinstance(n, int) and n >= LANES for n in (size, length)):
            step.members.remove(last)
            self.step_of.pop(last)
            self.turned.add(last.output)

    def _reduce(self, node: Node) -> None:
        step = Step("reduce", node, [node])
        if self.fuse:
            self._grow(step, self._follows_reduce)
        self._add(step)
        self._close(step)

    def _close(self, step: Step) -> None:
        """Views at the end of a region are left to their readers, unless they must be in memory, or weave axes of
        a contraction: their readers' positions would be divided, while the stores are where they are."""
        results = set(self.graph.outputs) | self.materialised
        changed = True
        while changed:
            changed = False
            inside = set(step.members)
            for node in reversed(step.members[1:]):
                outside = not any(u in inside for u in self.users.get(node.output, []))
                view = isinstance(node.op, RENAMING) and not (step.parts and isinstance(node.op, g.Reshape))
                if outside and view and node.output not in results:
                    step.members.remove(node)
                    self.step_of.pop(node, None)
                    changed = True
                    break
        inside = set(step.members)
        for node in step.members:
            value = node.output
            if value in results or any(u not in inside and u in self.live for u in self.users.get(value, [])):
                step.outputs.append(value)
        self.materialised.update(step.outputs)

    def _grow(self, step: Step, follows: Follows) -> None:
        """Takes in later nodes whose inputs are inside or independent of the region."""
        inside = {v for n in step.members for v in n.outputs}
        tainted: set[Value] = set()
        for node in self.graph.nodes[self.at[step.anchor] + 1 :]:
            if not any(v in inside or v in tainted for v in node.inputs):
                continue
            free = (
                node in self.live and node not in self.step_of and not any(v in tainted for v in node.inputs)
            )
            if free and follows(step, node):
                step.members.append(node)
                inside.update(node.outputs)
            else:
                tainted.update(node.outputs)

    def _divided(self, node: Node) -> tuple[int, Index] | None:
        """The axis of a contraction's result that vectors run along, and the sizes of which a reshape after it makes
        it, where no vector reaches from one position of the others to the next. Only where another reshape joins some
        of them to other axes: else readers see through the first."""
        op, value = node.op, node.output
        assert isinstance(op, g.Contract)
        right = len(op.free(1, node.inputs[1].rank))
        wide = [a for a in range(value.rank - right, value.rank) if value.shape[a] != 1]
        if not wide:
            return None
        at = wide[-1]
        sizes: Index = ()
        while len(users := self.users.get(value, [])) == 1 and users[0] in self.live:
            user = users[0]
            if isinstance(user.op, g.Reshape):
                if sizes:
                    return wide[-1], sizes
                groups = axis_groups(value.shape, user.op.shape)
                found = next((ins for outs, ins in groups if outs == [at]), [])
                sizes = tuple(user.op.shape[a] for a in found)
                whole = all(isinstance(n, int) for n in sizes) and len(sizes) > 1
                if not whole or int(str(sizes[-1])) % LANES != 0:
                    return None
            elif isinstance(user.op, g.Permute):
                at = at if sizes else user.op.perm.index(at)
            elif not isinstance(user.op, (g.Map, g.Cast)):
                return None
            value = user.output
        return None

    def _follows_contract(self, step: Step, node: Node) -> bool:
        """Elementwise at the positions of the contraction's results."""
        known = [step.index[v] for v in node.inputs if v in step.index]
        if isinstance(node.op, (g.Map, g.Cast)):
            if any(index != known[0] for index in known[1:]):
                return False
            step.index[node.output] = known[0]
            return True
        if isinstance(node.op, g.Permute):
            step.index[node.output] = tuple(known[0][p] for p in node.op.perm)
            return True
        if isinstance(node.op, g.Reshape):
            index = reshape_index(known[0], node.inputs[0].shape, node.op.shape)
            back = reshape_index(index, node.op.shape, node.inputs[0].shape)
            names = [s.name for i in step.index[step.anchor.output] for s in symbols(i)]
            if back == known[0] and all(linear_in(i, names) is not None for i in index):
                step.index[node.output] = index
                return True
        return False

    def _follows_reduce(self, step: Step, node: Node) -> bool:
        """Over the same space and the same reduced axes."""
        op = step.anchor.op
        assert isinstance(op, g.Reduce)
        space = step.anchor.inputs[0].shape
        kept = tuple(1 if a in op.axes else n for a, n in enumerate(space))
        outer = tuple(n for a, n in enumerate(space) if a not in op.axes)
        if isinstance(node.op, g.Reduce):
            return node.inputs[0].shape == space and node.op.axes == op.axes
        if not isinstance(node.op, (g.Map, g.Cast, g.Reshape, g.Expand)):
            return False
        if isinstance(node.op, g.Reshape):
            return node.inputs[0].shape == outer and node.output.shape == kept
        if isinstance(node.op, g.Expand):
            return node.inputs[0].shape == kept and node.output.shape == space
        return node.output.shape in (space, kept, outer)

    # ---- the rest

    def _materialise(self) -> None:
        """From the last node to the first: what would be computed in several kernels, or over and over."""
        kernels: dict[Value, set[object]] = {}
        repeated: set[Value] = set()
        cost: dict[Value, int] = {}
        self._bound_kernels()
        for node in self.graph.nodes:
            own = SCALAR[node.op.fn].cost if isinstance(node.op, g.Map) else 0
            for value in node.outputs:
                stop = node in self.step_of or value in self.materialised
                cost[value] = 0 if stop else own + sum(cost.get(v, 0) for v in node.inputs)
        for node in reversed(self.graph.nodes):
            if node not in self.live or node in self.step_of:
                continue
            value = node.outputs[0]
            self._decide(node, value, kernels, repeated, cost)

    def _bound_kernels(self) -> None:
        """What one kernel computes for an element has bounds: on the nodes one after another, and on the pieces of
        concats, whose number doubles where concats hold concats."""
        pieces: dict[Value, int] = {}
        depth: dict[Value, int] = {}
        for node in self.graph.nodes:
            count = sum(pieces.get(v, 1) for v in node.inputs)
            most = max((pieces.get(v, 1) for v in node.inputs), default=1)
            below = max((depth.get(v, 0) for v in node.inputs), default=0)
            joins = isinstance(node.op, g.Concat)
            deep = below > MOST_DEPTH and isinstance(node.op, (g.Map, g.Cast))
            if deep or (joins and most > 1 and count > MOST_PIECES):
                self.materialised.add(node.outputs[0])
            for value in node.outputs:
                stored = node in self.step_of or value in self.materialised
                pieces[value] = 1 if stored else count if joins else most
                depth[value] = 0 if stored else below + 1

    def _decide(
        self,
        node: Node,
        value: Value,
        kernels: dict[Value, set[object]],
        repeated: set[Value],
        cost: dict[Value, int],
    ) -> None:
        homes: set[object] = set()
        again = False
        for user in self.users.get(value, []):
            if user not in self.live:
                continue
            if user in self.step_of:
                homes.add(self.step_of[user])
                again |= bool(user.outputs) and _grows(user, value)
                continue
            result = user.outputs[0]
            grows = _grows(user, value)
            if result in self.materialised:
                homes.add(user)
                again |= grows
            else:
                homes |= kernels.get(result, set())
                again |= grows or result in repeated
        kernels[value] = homes
        if again:
            repeated.add(value)
        if (isinstance(node.op, g.Concat) and self._joins_kernels(node)) or (
            isinstance(node.op, (g.Map, g.Cast)) and ((len(homes) > 1 or again) and cost[value] > CHEAP)
        ):
            self.materialised.add(value)
        elif isinstance(node.op, g.Gather):
            table = node.inputs[0]
            if table.constant is None and any(i.rank > 0 for i in node.inputs[1:]):
                self.materialised.add(table)

    def _joins_kernels(self, node: Node) -> bool:
        """A concat whose pieces come out of kernels: they write their parts of it in place."""
        return any(v.node in self.step_of or v in self.materialised for v in node.inputs)

    def _ordered(self) -> list[Step]:
        """Steps after those they read from; among several, the earliest first."""
        producer = {v: s for s in self.steps for v in s.outputs}
        binders = {name: s for s in self.steps for n in s.members for name in g.bound_dims(n.op)}
        needs = {s: self._needs(s, producer, binders) for s in self.steps}
        effects = [s for s in self.steps if not g.is_pure(s.anchor.op)]
        for before, after in pairwise(effects):
            needs[after].add(before)
        done: set[Step] = set()
        order: list[Step] = []
        remaining = sorted(self.steps, key=lambda s: self.at[s.members[-1]])
        while remaining:
            ready = next((s for s in remaining if needs[s] <= done), None)
            if ready is None:
                raise AssertionError("regions depend on each other in a circle")
            remaining.remove(ready)
            done.add(ready)
            order.append(ready)
        return order

    def _needs(self, step: Step, producer: dict[Value, Step], binders: dict[str, Step]) -> set[Step]:
        found: set[Step] = set()
        seen: set[Value] = set()
        stack = [v for n in step.members for v in n.inputs]
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            for size in value.shape:
                found.update(binders[s.name] for s in symbols(size) if s.name in binders)
            if value in producer and producer[value] is not step:
                found.add(producer[value])
            elif value.node is not None and producer.get(value) is not step:
                stack.extend(value.node.inputs)
        for value in step.outputs:
            for size in value.shape:
                found.update(binders[s.name] for s in symbols(size) if s.name in binders)
        found.discard(step)
        return found


def lane_axis(step: Step) -> str | None:
    """The axis of a contraction's results, or part of one, that vectors run along
    (:attr:`vitrify.lower.contract.problem.Contraction.lane_axis`)."""
    op, node = step.anchor.op, step.anchor
    assert isinstance(op, g.Contract)
    batch = len(op.lhs_batch)
    left = batch + len(op.free(0, node.inputs[0].rank))
    wide = [i for i, a in enumerate(step.index[node.output]) if isinstance(a, Dim)]
    found = [i for i in wide if i >= left] or [i for i in wide if i < batch]
    if not found:
        return None
    sizes = step.parts.get(f"a{found[-1]}")
    return f"a{found[-1]}_{len(sizes) - 1}" if sizes else f"a{found[-1]}"


def merged_parts(name: str, sizes: Sequence[DimLike]) -> DimLike:
    """A position on an axis, by those on the axes ``NAME_0``, ``NAME_1``, … of which it is made."""
    position: DimLike = 0
    for i, size in enumerate(sizes):
        position = position * size + (0 if size == 1 else Dim.index(f"{name}_{i}", size))
    return position


def _grows(user: Node, value: Value) -> bool:
    """Whether the user reads elements of the value more than once."""
    if isinstance(user.op, g.Scatter):
        return value in user.inputs[2:] and product(value.shape) != product(user.inputs[1].shape)
    if isinstance(user.op, g.Contract):
        return True
    if isinstance(user.op, (g.Expand, g.Window, g.Gather)):
        before, after = product(value.shape), product(user.outputs[0].shape)
        return before != after
    return False


def contract_base(value: Value) -> Value:
    """The farthest value of which the operand is an affine view; itself when there is none."""
    base = current = value
    while current.node is not None and isinstance(current.node.op, VIEWS):
        current = current.node.inputs[0]
        if trace(value, {current}) is not None:
            base = current
    return base


@dataclass(frozen=True)
class Traced:
    """``base[index]``, where every condition ``0 <= position < extent`` holds; otherwise ``fill``."""

    base: Value
    index: Index
    conditions: tuple[tuple[DimLike, DimLike], ...]
    fill: float | int | bool


def operand_axes(value: Value) -> tuple[DimLike, ...]:
    return tuple(0 if n == 1 else Dim.index(f"x{i}", n) for i, n in enumerate(value.shape))


def trace(value: Value, stop: set[Value] | None = None) -> Traced | None:
    """The operand followed through movement to what it views (or to one of ``stop``), with positions linear
    in the operand's axes ``x0, x1, …``; None when they are not."""
    index = operand_axes(value)
    names = [str(i) for i in index if isinstance(i, Dim)]
    conditions: list[tuple[DimLike, DimLike]] = []
    fill: float | int | bool = 0
    current = value
    while current.node is not None and isinstance(current.node.op, VIEWS) and not (stop and current in stop):
        op, source = current.node.op, current.node.inputs[0]
        if isinstance(op, g.Pad):
            index = tuple(i - p for i, p in zip(index, op.low, strict=True))
            new = [
                (i, n) for i, n in zip(index, source.shape, strict=True)
                if not (provably_nonnegative(i) and provably_less(i, n))
            ]  # fmt: skip
            if conditions and new and fill != op.value:
                return None
            conditions += new
            fill = op.value
        else:
            index = source_index(op, index, source.shape)
        current = source
    checked = [*index, *(c for c, _ in conditions)]
    if any(linear_in(i, names) is None for i in checked):
        return None
    return Traced(current, index, tuple(conditions), fill)


def partition(graph: Graph, *, fuse: bool = True, stored: Iterable[Value] = ()) -> Partition:
    """Steps for every live node, in order. ``stored`` values lie in memory."""
    return Partitioner(graph, fuse, stored).run()

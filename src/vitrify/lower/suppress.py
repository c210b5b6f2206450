"""Greedy suppression of overlapping boxes: a kernel of its own, one class of one image after another.

The corners and areas of the boxes selected so far lie side by side in a temporary, and each candidate is compared
with a vector of them at a time until one overlaps it.

Parameters: ``lanes`` (selected boxes compared at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, ceildiv, maximum, minimum
from vitrify.ir.dtypes import BOOL, F32, I64
from vitrify.ir.graph import Node, Value
from vitrify.lower import loop as L
from vitrify.lower.emit import ERROR_INDEX, Leaf
from vitrify.lower.loop import Buffer, Data, Literal, Register, Stmt, VType
from vitrify.lower.plan import Operand
from vitrify.lower.scope import KernelScope

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering

MAX_TASKS = 64
FIELDS = 5  # two corners and an area
Body = list[Stmt]


def lower_suppress(low: Lowering, node: Node, materialised: set[Value]) -> None:
    """Emits the kernel of one Suppress."""
    assert isinstance(node.op, g.Suppress)
    scope = KernelScope(low, materialised)
    leaves = [scope.parameter(v, low.placement(v)) for v in node.inputs]
    chosen = scope.parameter(node.output, low.placement(node.output), written=True)
    batch, classes, candidates = node.output.shape
    rows = batch * classes
    tasks = minimum(rows, MAX_TASKS)
    block = ceildiv(rows, maximum(tasks, 1))
    lanes = low.target.lanes(F32)
    room = candidates + lanes
    scope.buffers.append(Buffer("selected", F32, True))
    scope.operands.append(Operand(low.allocate(maximum(tasks, 1) * room * FIELDS * 4)))
    task, row = Dim.index("task", tasks), Dim.index("row", block)
    lane = Dim.symbol("lane")
    kernel = _Class(leaves, chosen, node, low.node_id(node), room, task * (room * FIELDS), lanes)
    body: Body = [
        L.Bind(lane, L.Position(task * block + row)),
        L.Bind(Dim.symbol("image"), L.Position(lane // classes)),
        L.Bind(Dim.symbol("kind"), L.Position(lane % classes)),
        *kernel.statements(),
    ]
    rest = minimum(block, rows - task * block)
    schedule = (("template", "suppress"), ("lanes", lanes))
    low.call(
        scope, tasks, (L.For(row, maximum(rest, 0), tuple(body)),), flops=rows * candidates * 16, anchor=node,
        schedule=schedule,
    )  # fmt: skip


class _Class:
    """The statements for one class of one image."""

    def __init__(
        self, leaves: list[Leaf], chosen: Leaf, node: Node, number: int, room: DimLike, base: DimLike, lanes: int
    ) -> None:
        self.boxes, self.order, self.valid, self.limit, self.threshold = leaves
        self.chosen, self.number, self.room, self.base, self.lanes = chosen, number, room, base, lanes
        self.count = node.output.shape[2]
        self.extent = node.inputs[0].shape[1]
        self.image, self.kind = Dim.symbol("image"), Dim.symbol("kind")

    def statements(self) -> Body:
        k, i, kept = Dim.index("k", self.count), _register("i"), _register("kept")
        last, limit, threshold = _register("last"), _register("limit"), Register("threshold", VType(F32))
        valid = L.Load(self.valid.buffer, self.valid.address((self.image, self.kind)), VType(I64))
        more = L.Apply("and", (L.Apply("lt", (i, last)), L.Apply("lt", (kept, limit))))
        candidate: Body = [
            *self._box(i),
            *self._overlapped(kept, threshold),
            L.If(L.Apply("not", (Register("hit", VType(BOOL)),)), tuple(self._keep(i, kept))),
            _advance(i, 1),
        ]
        return [
            L.For(k, self.count, (self._mark(k, False),)),
            L.Let(i, _number(0)), L.Let(kept, _number(0)),
            L.Let(last, L.Apply("min", (valid, L.Position(self.count)))),
            L.Let(limit, L.Load(self.limit.buffer, self.limit.address(()), VType(I64))),
            L.Let(threshold, L.Load(self.threshold.buffer, self.threshold.address(()), VType(F32))),
            L.While(more, tuple(candidate)),
        ]  # fmt: skip

    def _mark(self, at: DimLike, value: bool) -> Stmt:
        address = self.chosen.address((self.image, self.kind, at))
        return L.Store(self.chosen.buffer, address, Literal(value, VType(BOOL)))

    def _box(self, i: Register) -> Body:
        """The corners and the area of candidate ``i``."""
        at, box = Dim.symbol("at"), Dim.symbol("box")
        origin = L.Load(self.order.buffer, self.order.address((self.image, self.kind, at)), VType(I64))
        index = _register("index")
        outside = L.Apply(
            "or", (L.Apply("lt", (index, _number(0))), L.Apply("ge", (index, L.Position(self.extent))))
        )
        body: Body = [
            L.Bind(at, i), L.Let(index, origin), L.If(outside, (L.Fail(ERROR_INDEX, self.number),)), L.Bind(box, index),
        ]  # fmt: skip
        for field, corner in enumerate(_corners("own")):
            body.append(
                L.Let(corner, L.Load(self.boxes.buffer, self.boxes.address((self.image, box, field)), VType(F32)))
            )
        top, left, bottom, right = _corners("own")
        area = L.Apply("mul", (L.Apply("sub", (bottom, top)), L.Apply("sub", (right, left))))
        return [*body, L.Let(Register("area", VType(F32)), area)]

    def _overlapped(self, kept: Register, threshold: Register) -> Body:
        """``hit``: whether a selected box overlaps the candidate by more than the threshold."""
        j, hit, from_ = _register("j"), Register("hit", VType(BOOL)), Dim.symbol("from")
        wide = VType(F32, self.lanes)
        theirs, own = _corners("their", self.lanes), _corners("own")
        body: Body = [L.Bind(from_, j)]
        for field, register in enumerate((*theirs, Register("their_area", wide))):
            body.append(L.Let(register, L.Load("selected", self.base + field * self.room + from_, wide)))
        low = [L.Apply("max", (theirs[c], self._splat(own[c]))) for c in (0, 1)]
        high = [L.Apply("min", (theirs[c], self._splat(own[c]))) for c in (2, 3)]
        height, width = Register("height", wide), Register("width", wide)
        common, union = Register("common", wide), Register("union_", wide)
        areas = Register("their_area", wide), self._splat(Register("area", VType(F32)))
        zero = Literal(0.0, wide)
        rest = L.Splat(L.Apply("sub", (kept, j)), self.lanes)
        conditions: list[Data] = [
            L.Apply("lt", (L.Lanes(VType(I64, self.lanes)), rest)),
            *(L.Apply("gt", (v, zero)) for v in (height, width, *areas, union)),
            L.Apply("gt", (L.Apply("div", (common, union)), self._splat(threshold))),
        ]
        both = conditions[0]
        for condition in conditions[1:]:
            both = L.Apply("and", (both, condition))
        body += [
            L.Let(height, L.Apply("sub", (high[0], low[0]))), L.Let(width, L.Apply("sub", (high[1], low[1]))),
            L.Let(common, L.Apply("mul", (height, width))),
            L.Let(union, L.Apply("sub", (L.Apply("add", areas), common))),
            L.Assign(hit, L.Fold("or", both)),
            _advance(j, self.lanes),
        ]  # fmt: skip
        open_ = L.Apply("and", (L.Apply("lt", (j, kept)), L.Apply("not", (hit,))))
        return [L.Let(j, _number(0)), L.Let(hit, Literal(False, VType(BOOL))), L.While(open_, tuple(body))]

    def _splat(self, value: Data) -> Data:
        return L.Splat(value, self.lanes)

    def _keep(self, i: Register, kept: Register) -> Body:
        to, at = Dim.symbol("to"), Dim.symbol("spot")
        body: Body = [L.Bind(to, kept), L.Bind(at, i), self._mark(at, True)]
        for field, register in enumerate((*_corners("own"), Register("area", VType(F32)))):
            body.append(L.Store("selected", self.base + field * self.room + to, register))
        return [*body, _advance(kept, 1)]


def _corners(name: str, lanes: int = 1) -> tuple[Register, Register, Register, Register]:
    top, left, bottom, right = (
        Register(f"{name}_{side}", VType(F32, lanes)) for side in ("top", "left", "bottom", "right")
    )
    return top, left, bottom, right


def _register(name: str) -> Register:
    return Register(name, VType(I64))


def _number(value: int) -> Literal:
    return Literal(value, VType(I64))


def _advance(register: Register, by: int) -> Stmt:
    return L.Assign(register, L.Apply("add", (register, _number(by))))

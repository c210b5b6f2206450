"""Running totals of reductions, in registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I64, DType
from vitrify.ir.graph import Node
from vitrify.lower import loop as L
from vitrify.lower.emit import Emitter
from vitrify.lower.loop import Data, Literal, Register, Stmt, VType

if TYPE_CHECKING:
    from vitrify.lower.nest import NestBuilder

COMBINE = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "any": "or", "all": "and"}


def identity(combiner: str, dtype: DType) -> float | int | bool:
    """What changes nothing when combined."""
    if combiner in ("sum", "any"):
        return 0
    if combiner in ("prod", "all"):
        return 1
    return dtype.min() if combiner in ("max", "argmax") else dtype.max()


class Accumulator:
    """The total of one reduction; along inner vectors several copies hide the latency of the addition."""

    def __init__(self, builder: NestBuilder, node: Node, prefix: str, number: int) -> None:
        op = node.op
        assert isinstance(op, g.Reduce)
        self.builder, self.node, self.combiner = builder, node, op.combiner
        self.dtype = node.inputs[0].dtype.compute
        self.start = identity(op.combiner, node.inputs[0].dtype)  # 4-bit integers compute in 8 bits
        self.positional = op.combiner.startswith("arg")
        self.folding = builder.inner_vector
        self.lanes = builder.schedule.lanes if builder.vector else 1
        self.copies = builder.schedule.accumulators if self.folding else 1
        stem = f"a{prefix}_{number}"
        self.registers = [Register(f"{stem}_{c}", VType(self.dtype, self.lanes)) for c in range(self.copies)]
        self.place = Register(f"{stem}_at", VType(I64, self.lanes))

    def declare(self, statements: list[Stmt]) -> None:
        for register in self.registers:
            statements.append(L.Let(register, Literal(self.start, register.type)))
        if self.positional:
            statements.append(L.Let(self.place, Literal(-1, self.place.type)))

    def step(self, emitter: Emitter, copy: int) -> None:
        """Takes in the element (or vector) at the current position."""
        x = self.node.inputs[0]
        value = emitter.wide(emitter.read(x, tuple(self.builder.index)))
        if self.positional:
            self._step_position(emitter, value)
            return
        register = self.registers[copy]
        if emitter.count is not None:
            inside = emitter.apply("lt", L.Lanes(VType(I64, self.lanes)), L.Position(emitter.count))
            value = emitter.apply("where", inside, value, Literal(self.start, VType(self.dtype, 1)))
        emitter.statements.append(L.Assign(register, L.Apply(COMBINE[self.combiner], (register, value))))

    def _step_position(self, emitter: Emitter, value: Data) -> None:
        """The first position of the extreme; the first element wins over nothing, a NaN over numbers."""
        (best,) = self.registers
        here: DimLike = 0
        for axis in self.builder.region.reduced:
            here = here * self.builder.region.space[axis] + self.builder.index[axis]
        better = emitter.apply("gt" if self.combiner == "argmax" else "lt", value, best)
        better = emitter.apply("or", better, emitter.apply("lt", self.place, Literal(0, VType(I64, 1))))
        if self.dtype.is_float:
            fresh = emitter.apply(
                "and", emitter.apply("isnan", value), emitter.apply("not", emitter.apply("isnan", best))
            )
            better = emitter.apply("or", better, fresh)
        position = emitter.wide(L.Position(here))
        emitter.statements.append(L.Assign(self.place, emitter.let(L.Apply("where", (better, position, self.place)))))
        emitter.statements.append(L.Assign(best, emitter.let(L.Apply("where", (better, value, best)))))

    def finish(self, row: Emitter) -> None:
        """The result, known to the row from here on."""
        if self.positional:
            result: Data = self.place
        else:
            parts: list[Data] = list(self.registers)
            while len(parts) > 1:
                half = len(parts) // 2
                parts = [row.let(L.Apply(COMBINE[self.combiner], (parts[i], parts[i + half]))) for i in range(half)]
            result = parts[0]
            if self.folding and self.lanes > 1:
                result = row.let(L.Fold(COMBINE[self.combiner], result))
        output = self.node.output
        row.bound[output] = (self.builder.outer_index(), result)

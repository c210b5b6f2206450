"""The parameters of one kernel: which memory it reads and writes, under names of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vitrify.ir.dims import Dim, DimLike, product, symbols
from vitrify.ir.dtypes import I64, DType
from vitrify.ir.graph import Node, Value
from vitrify.lower import loop as L
from vitrify.lower.emit import STATUS, Leaf
from vitrify.lower.loop import Buffer, Kernel, Stmt
from vitrify.lower.plan import Operand, Place, Placement
from vitrify.lower.rewrite_loop import addresses

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering


def is_literal(value: Value) -> bool:
    """A constant that is printed rather than loaded."""
    constant = value.constant
    return constant is not None and constant.size == 1 and not constant.dtype.name.startswith("float8")


class KernelScope:
    """The environment of an emitter: values in memory become parameters ``b0``, ``b1`` … in order of use."""

    def __init__(self, lowering: Lowering, materialised: set[Value], computing: Value | None = None) -> None:
        self.lowering = lowering
        self.materialised = materialised
        self.computing = computing
        self.buffers: list[Buffer] = []
        self.operands: list[Operand] = []
        self.traffic: DimLike = 0  # bytes of everything read or written, each once
        self._leaves: dict[tuple[Value, bool, DType], Leaf] = {}

    def node_id(self, node: Node) -> int:
        return self.lowering.node_id(node)

    def is_leaf(self, value: Value) -> bool:
        if value is self.computing or is_literal(value):
            return False
        return value in self.materialised or value.constant is not None

    def leaf(self, value: Value) -> Leaf | None:
        return self.parameter(value, self.lowering.placement(value)) if self.is_leaf(value) else None

    def bits(self, value: Value, dtype: DType) -> Leaf:
        return self.parameter(value, replace(self.lowering.placement(value), dtype=dtype))

    def parameter(self, value: Value, placement: Placement, *, written: bool = False) -> Leaf:
        """A parameter for memory that holds the value; positions inside are relative to its place."""
        key = (value, written, placement.dtype)
        if key not in self._leaves:
            operand = placement.operand()
            name = f"b{len(self.buffers)}"
            self.buffers.append(Buffer(name, placement.dtype, written))
            self.operands.append(operand)
            self._leaves[key] = Leaf(name, 0, placement.strides, placement.dtype)
            self.traffic = self.traffic + product(value.shape) * placement.dtype.itemsize
        return self._leaves[key]

    def status(self) -> None:
        if all(b.name != STATUS for b in self.buffers):
            self.buffers.append(Buffer(STATUS, I64, True))
            self.operands.append(Operand(Place("status")))

    def kernel(
        self,
        tasks: DimLike,
        body: tuple[Stmt, ...],
        flops: DimLike,
        schedule: tuple[tuple[str, int | str], ...],
    ) -> tuple[Kernel, tuple[DimLike, ...]]:
        """The finished kernel, and the values of its dims."""
        if any(isinstance(s, L.Fail) for s in L.walk(body)):
            self.status()
        used = {s.name for a in [*addresses(body), tasks] if isinstance(a, Dim) for s in symbols(a)}
        dims = {name: dim for name, dim in self.lowering.symbols.items() if name in used}
        kernel = Kernel("kernel", tuple(self.buffers), tuple(dims), tasks, body, flops, self.traffic, schedule)
        return kernel, tuple(dims.values())

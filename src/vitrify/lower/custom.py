"""Calls of ops that the user gives: their operands laid out row by row, each in memory of exactly its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Node, Value
from vitrify.lower.emit import STATUS
from vitrify.lower.loop import Buffer, CustomCall, Kernel
from vitrify.lower.plan import Call, Operand, Place, Placement
from vitrify.lower.views import row_major

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering


def lower_call(low: Lowering, node: Node, materialised: set[Value]) -> None:
    """Emits the call of one op. Its dims are those of each input, then of each result, then the node's number."""
    op = node.op
    assert isinstance(op, g.Call)
    arguments = [_read(low, value, materialised) for value in node.inputs]
    results = [_written(low, value) for value in node.outputs]
    values = (*node.inputs, *node.outputs)
    taken = op.arguments([(v.dtype, v.rank) for v in node.inputs])
    custom = CustomCall(
        op.op, op.version, op.digest, op.attributes, tuple(taken), tuple((v.dtype, v.rank) for v in node.outputs),
        op.c_source, op.c_file, op.origin,
    )  # fmt: skip
    low.shared.custom_calls.setdefault(custom, len(low.shared.custom_calls))
    buffers = [Buffer(f"b{i}", v.dtype, i >= len(arguments)) for i, v in enumerate(values)]
    operands = [where.operand() for where in (*arguments, *results)]
    if op.c_source:
        buffers.append(Buffer(STATUS, I64, True))
        operands.append(Operand(Place("status")))
    dims: list[DimLike] = [n for v in values for n in v.shape] + [low.node_id(node)]
    names = tuple(f"d{i}" for i in range(len(dims)))
    traffic: DimLike = 0
    for value in values:
        traffic = traffic + product(value.shape) * value.dtype.itemsize
    schedule: tuple[tuple[str, int | str], ...] = (("template", f"custom_{op.op.replace('::', '_')}"),)
    kernel = Kernel("kernel", tuple(buffers), names, 1, (), 0, traffic, schedule, custom)
    low.emit(Call(kernel, tuple(operands), tuple(dims), node.source or op.op))
    for value, where in zip(node.outputs, results, strict=True):
        wanted = low.placements[value]
        if where is not wanted:
            low.placements[value] = where
            low.copy(value, wanted, {value})
            low.placements[value] = wanted


def _read(low: Lowering, value: Value, materialised: set[Value]) -> Placement:
    """Where the value lies as its declared dtype and order say; a copy where that is not so."""
    here = low.placement(value)
    if _plain(here, value):
        return here
    copy = _own(low, value)
    low.copy(value, copy, materialised)
    return copy


def _written(low: Lowering, value: Value) -> Placement:
    here = low.placement(value)
    return here if _plain(here, value) else _own(low, value)


def _own(low: Lowering, value: Value) -> Placement:
    place = low.allocate(product(value.shape) * value.dtype.itemsize)
    return Placement(place, 0, row_major(value.shape), value.dtype)


def _plain(where: Placement, value: Value) -> bool:
    return where.dtype is value.dtype and where.strides == row_major(value.shape)

"""A contract node and the elementwise values after it, put to the contraction templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import BF16, F32
from vitrify.ir.graph import Node, Value
from vitrify.lower.coded_weights import codes_of
from vitrify.lower.contract.choose import lower_contraction
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction, Lowered
from vitrify.lower.emit import Emitter, Leaf
from vitrify.lower.loop import Buffer, Data, Kernel, Stmt, align64
from vitrify.lower.plan import Call, Operand, Place
from vitrify.lower.regions import Step, lane_axis, trace
from vitrify.lower.rewrite_loop import rename
from vitrify.lower.scope import KernelScope
from vitrify.lower.views import linear_in, row_major

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering


class RegionEpilogue:
    """The members that follow a contraction, as its epilogue."""

    cost: int

    def __init__(self, step: Step, scope: KernelScope, leaves: dict[Value, Leaf]) -> None:
        self.step, self.scope, self.leaves = step, scope, leaves
        self.axes = step.index[step.anchor.output]
        self.lane_axis = lane_axis(step)
        self.serial = 0
        self.cost = len(step.members)
        self.names = [f"a{i}" for i, a in enumerate(self.axes) if isinstance(a, Dim)]
        dtype = step.anchor.output.dtype.compute
        from vitrify.lower.loop import Register, VType

        self.emit({n: Dim.symbol(n) for n in self.names}, Register("probe", VType(dtype, 1)), 1, None)
        self.buffers: tuple[Buffer, ...] = tuple(scope.buffers)
        self.dims: tuple[str, ...] = ()

    def emit(self, position: Mapping[str, DimLike], value: Data, lanes: int, count: DimLike | None) -> Sequence[Stmt]:
        """See :class:`vitrify.lower.contract.problem.Epilogue`."""
        vector = self.lane_axis if lanes > 1 else None
        self.serial += 1
        emitter = Emitter(self.scope, lanes, vector, count, f"e{self.serial}_")
        anchor = self.step.anchor.output
        result = emitter.convert(value, anchor.dtype, saturate=False)
        emitter.bound[anchor] = (self.axes, emitter.let(emitter.convert(result, anchor.dtype.compute)))
        for output in self.step.outputs:
            index = self.step.index[output]
            emitter.store(self.leaves[output], output.dtype, index, emitter.read(output, index))
        if emitter.used_status:
            self.scope.status()
        places: dict[str, DimLike] = {}
        for name in self.names:
            at = position[name]
            for i, size in reversed(list(enumerate(self.step.parts.get(name, ())))):
                places[f"{name}_{i}"], at = at % size, at // size
            if name not in self.step.parts:
                places[name] = at
        return rename(tuple(emitter.statements), places)


def lower_contract(low: Lowering, step: Step, materialised: set[Value]) -> None:
    """Emits the calls of one contraction with its epilogue."""
    node = step.anchor
    op = node.op
    assert isinstance(op, g.Contract)
    scope = KernelScope(low, (materialised - set(step.outputs)) - {node.output})
    leaves = {v: scope.parameter(v, low.placement(v), written=True) for v in step.outputs}
    epilogue = RegionEpilogue(step, scope, leaves)
    problem, operands = _problem(low, node, op, epilogue, scope, materialised)
    lowered = lower_contraction(problem, low.target, name="kernel")
    operands |= {b.name: o for b, o in zip(scope.buffers, scope.operands, strict=True)}
    _emit(low, lowered, operands, node)


def _problem(
    low: Lowering,
    node: Node,
    op: g.Contract,
    epilogue: RegionEpilogue,
    scope: KernelScope,
    materialised: set[Value],
) -> tuple[Contraction, dict[str, Operand]]:
    lhs, rhs = node.inputs
    out = [f"a{i}" for i in range(len(epilogue.axes))]
    n_batch, n_left = len(op.lhs_batch), len(op.free(0, lhs.rank))
    names = {
        "batch": out[:n_batch],
        "left": out[n_batch : n_batch + n_left],
        "right": out[n_batch + n_left :],
    }
    over = [f"k{i}" for i in range(len(op.lhs_contract))]
    lhs_axes = _axis_names(
        lhs.rank,
        (op.lhs_batch, names["batch"]),
        (op.free(0, lhs.rank), names["left"]),
        (op.lhs_contract, over),
    )
    rhs_axes = _axis_names(
        rhs.rank,
        (op.rhs_batch, names["batch"]),
        (op.free(1, rhs.rank), names["right"]),
        (op.rhs_contract, over),
    )
    extents = dict(zip(out, node.output.shape, strict=True))
    extents |= {n: lhs.shape[a] for n, a in zip(over, op.lhs_contract, strict=True)}
    left, left_operand = _access(low, lhs, "lhs", lhs_axes, scope, materialised)
    right, right_operand = _access(low, rhs, "rhs", rhs_axes, scope, materialised)
    granted = low.options.bf16 and lhs.dtype is F32 and rhs.dtype is F32
    problem = Contraction(
        _loops(names["batch"], extents),
        _loops(names["left"], extents),
        _loops(names["right"], extents),
        _loops(over, extents),
        left,
        right,
        op.dtype.compute,
        epilogue,
        tuple(low.symbols),
        accurate=low.options.accurate,
        precision=BF16 if granted else F32,
    )
    return problem, {"lhs": left_operand, "rhs": right_operand}


def _loops(names: Sequence[str], extents: Mapping[str, DimLike]) -> tuple[Axis, ...]:
    """Axes of one position are no loops."""
    return tuple(Axis(n, extents[n]) for n in names if extents[n] != 1)


def _axis_names(rank: int, *parts: tuple[Sequence[int], Sequence[str]]) -> list[str]:
    names = [""] * rank
    for axes, labels in parts:
        for axis, label in zip(axes, labels, strict=True):
            names[axis] = label
    return names


def _access(
    low: Lowering, value: Value, buffer: str, axes: list[str], scope: KernelScope, materialised: set[Value]
) -> tuple[Access, Operand]:
    """How the operand's elements are found in memory, by the problem's axes."""
    found = trace(value, materialised)
    assert found is not None, "an operand that is no view must be materialised"
    constant = found.base.constant
    # A constant operand is packed: as it is, it need not be kept.
    placement = None if constant is not None else low.placement(found.base)
    base_strides = row_major(found.base.shape) if placement is None else placement.strides
    variables = [f"x{i}" for i in range(value.rank)]
    address: DimLike = 0
    for i, stride in zip(found.index, base_strides, strict=True):
        address = address + i * stride
    form = linear_in(address, variables)
    assert form is not None
    loops = [(v, axes[i]) for i, v in enumerate(variables) if value.shape[i] != 1]
    strides = {name: form.coefficients.get(v, 0) for v, name in loops}
    bounds = []
    for position, extent in found.conditions:
        inside = linear_in(position, variables)
        assert inside is not None
        steps = {name: int(str(c)) for v, name in loops if (c := inside.coefficients.get(v, 0)) != 0}
        bounds.append(Bound(inside.offset, steps, extent))
    access = Access(
        buffer, value.dtype if placement is None else placement.dtype, form.offset, strides, tuple(bounds), found.fill,
        None if constant is None else np.ascontiguousarray(constant),
        0 if placement is None else placement.room,
        codes_of(found.base),
    )  # fmt: skip
    operand = Operand(Place("constant")) if placement is None else placement.operand()
    return access, operand


def _emit(low: Lowering, lowered: Lowered, operands: dict[str, Operand], node: Node) -> None:
    for temporary in lowered.temporaries:
        place = low.allocate(align64(temporary.size * temporary.dtype.itemsize))
        operands[temporary.name] = Operand(place)
    for name, array in lowered.constants.items():
        operands[name] = Operand(Place("weight", low.weights.add(array)))
    for kernel in lowered.kernels:
        _call(low, kernel, operands, node)


def _call(low: Lowering, kernel: Kernel, operands: dict[str, Operand], node: Node) -> None:
    used: list[Operand] = []
    for buffer in kernel.buffers:
        operand = operands[buffer.name]
        if operand.place.kind == "constant":
            base = node.inputs[0 if buffer.name == "lhs" else 1]
            found = trace(base)
            assert found is not None and found.base.constant is not None
            operand = Operand(Place("weight", low.weights.add(found.base.constant)))
        used.append(operand)
    low.note_scratch(kernel)
    low.emit(Call(kernel, tuple(used), tuple(low.symbols[d] for d in kernel.dims), node.source or node.op.name))

"""Values that lie in memory as bf16 although they are f32: those that contractions granted bf16 read anyway.

Their other readers get the rounded value too; arithmetic stays in f32.
"""

from __future__ import annotations

from collections.abc import Iterable

from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, maximum, product
from vitrify.ir.dtypes import F32
from vitrify.ir.graph import Graph, Node, Value
from vitrify.lower.contract import amx, dpbf16
from vitrify.lower.regions import CONTROL, Step, contract_base, trace
from vitrify.lower.target import Target


def narrow_values(graph: Graph, steps: Iterable[Step], target: Target) -> dict[Value, DimLike]:
    """The values, each with how many elements beyond its end contractions may read.

    Empty where the target has no matrix registers, or rounds by several instructions. A value that any
    contraction needs in f32, or that a control structure or the caller reads, stays as it is.
    """
    if not (target.has(amx.FEATURE) and target.has(dpbf16.FEATURE)):
        return {}
    made = {v for s in steps if s.kind != "control" for v in s.outputs if v.dtype is F32}
    fixed = {*graph.inputs, *graph.outputs}
    found: dict[Value, DimLike] = {}
    for node in graph.nodes:
        if isinstance(node.op, (*CONTROL, g.BitCast)):
            fixed.update(node.inputs)
        elif isinstance(node.op, g.Scatter):
            fixed.update(node.outputs)  # rounded once per update
        elif isinstance(node.op, g.Contract):
            base = contract_base(node.inputs[0])
            if _rounds(node, node.op):
                terms = product(node.inputs[0].shape[a] for a in node.op.lhs_contract)
                found[base] = maximum(found.get(base, 0), terms * amx.STEP_ROWS)
            else:
                fixed.add(base)
            fixed.add(contract_base(node.inputs[1]))
    return {v: room for v, room in found.items() if v in made and v not in fixed}


def _rounds(node: Node, op: g.Contract) -> bool:
    """Whether the contraction rounds its left operand on matrix registers, as far as shapes tell."""
    lhs, rhs = node.inputs
    if lhs.dtype is not F32 or rhs.dtype is not F32 or op.dtype is not F32 or op.lhs_batch:
        return False
    weights = trace(rhs)
    extents = [lhs.shape[a] for a in op.lhs_contract]
    groups = any(isinstance(n, int) and n % amx.TERMS == 0 for n in extents)
    return groups and weights is not None and weights.base.constant is not None

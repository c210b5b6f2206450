"""A plan as text, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitrify.lower import plan as p
from vitrify.lower.plan import Instruction, Operand, Plan


def plan_text(plan: Plan) -> str:
    """One line for each instruction, after what the plan takes and needs."""
    lines = [f"plan {plan.name!r}"]
    lines += [f"  input {name!r}: {type_}" for name, type_ in plan.inputs]
    lines += [f"  output {name!r}: {type_}" for name, type_ in plan.outputs]
    lines += [f"  requires {a} == {b}" for a, b in plan.checks]
    lines.append(
        f"  arena {plan.arena_bytes} bytes in {len(plan.blocks)} blocks, scratch {plan.scratch_bytes} a thread"
    )
    lines.append(f"  constants {plan.shared.weights.offsets()[-1]} bytes")
    return "\n".join([*lines, *_lines(plan, plan.instructions, 1)]) + "\n"


def _lines(plan: Plan, body: Sequence[Instruction], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for i in body:
        match i:
            case p.Call(kernel=kernel, operands=operands, source=source):
                template = dict(kernel.schedule).get("template", "kernel")
                where = ", ".join(
                    f"{'→ ' if b.written else ''}{_place(plan, o)}"
                    for b, o in zip(kernel.buffers, operands, strict=True)
                )
                yield f"{pad}{template} × {kernel.tasks} ({where})  flops {kernel.flops}  # {source}"
            case p.Branch(condition=condition, then=then, otherwise=otherwise):
                yield f"{pad}if {_place(plan, condition)}:"
                yield from _lines(plan, then, depth + 1)
                yield f"{pad}else:"
                yield from _lines(plan, otherwise, depth + 1)
            case p.Repeat(variable=variable, trips=trips, body=inner):
                yield f"{pad}for {variable} < {trips}:"
                yield from _lines(plan, inner, depth + 1)
            case p.While(variable=variable, limit=limit, condition=condition, again=again, body=inner):
                bounds = f"{_place(plan, limit)} and {_place(plan, condition)}, {_place(plan, again)}"
                yield f"{pad}while {variable} < {bounds}:"
                yield from _lines(plan, inner, depth + 1)
                yield f"{pad}{i.count} = trips"
            case p.Grow(number=number, used=used, size=size):
                yield f"{pad}late {number} grows from {used} to {size} bytes"
            case p.Swap(one=one, other=other):
                yield f"{pad}late {one} and late {other} change places"
            case p.SetDims(symbols=symbols, values=values):
                yield f"{pad}{', '.join(symbols)} = {', '.join(map(str, values))}"
            case p.BindSymbol(symbol=symbol, operand=operand):
                yield f"{pad}{symbol} = {_place(plan, operand)}"
            case p.Require(left=left, right=right):
                yield f"{pad}require {left} == {right}"
            case p.StoreInteger(operand=operand, value=value):
                yield f"{pad}{_place(plan, operand)} = {value}"
            case p.Allocate(number=number, size=size):
                yield f"{pad}late {number} = {size} bytes"
            case p.Publish(output=output, operand=operand, shape=shape):
                yield f"{pad}output {output} is {_place(plan, operand)} [{', '.join(map(str, shape))}]"


def _place(plan: Plan, operand: Operand) -> str:
    offset = operand.offset
    if operand.place.kind == "arena":
        return f"arena+{plan.blocks[operand.place.number].offset + offset}"
    name = (
        operand.place.kind
        if operand.place.kind == "status"
        else f"{operand.place.kind}{operand.place.number}"
    )
    return name if offset == 0 else f"{name}+{offset}"

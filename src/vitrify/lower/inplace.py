"""Results that overwrite an operand: where a kernel's last read of a block and its write are the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vitrify.ir.dims import DimLike
from vitrify.lower import loop as L
from vitrify.lower.plan import Block, Branch, Call, Instruction, Operand, Repeat
from vitrify.lower.rewrite_loop import find, straight_code


def share_blocks(calls: Iterable[tuple[int, Call]], blocks: list[Block]) -> dict[int, int]:
    """Blocks that can be the memory of another one: ``{block: block it lies in}``.

    ``calls`` come with their time. A result takes over an operand's block when the operand is needed no
    more, both have one size, and the kernel reads each element of it only just before it writes there.
    The block taken over lives as long as the result.
    """
    lies_in: dict[int, int] = {}
    for time, call in calls:
        for buffer, target in zip(call.kernel.buffers, call.operands, strict=True):
            if not buffer.written or target.place.kind != "arena" or target.place.number in lies_in:
                continue
            root = _takes_over(time, call, buffer, target, blocks, lies_in)
            if root is not None:
                lies_in[target.place.number] = root
                blocks[root].death = blocks[target.place.number].death
    return lies_in


def _takes_over(
    time: int, call: Call, buffer: L.Buffer, target: Operand, blocks: list[Block], lies_in: dict[int, int]
) -> int | None:
    """The block that the kernel's result can overwrite."""
    if dict(call.kernel.schedule).get("template") != "nest":
        return None  # the last tile of a contraction may compute results of the one before again
    result = blocks[target.place.number]
    roots = [root_block(lies_in, o.place.number) for o in call.operands if o.place.kind == "arena"]
    for other, operand in zip(call.kernel.buffers, call.operands, strict=True):
        if other.written or operand.place.kind != "arena" or other.name not in call.elementwise:
            continue  # a row that reads another's elements may find them overwritten
        root = root_block(lies_in, operand.place.number)
        before = blocks[root]
        ends = before.death == time == result.birth and before.size == result.size
        whole = operand.offset == target.offset and other.dtype.itemsize == buffer.dtype.itemsize
        if ends and whole and roots.count(root) == 1 and _overwrites_what_it_read(call.kernel, other.name, buffer.name):
            return root
    return None


def root_block(lies_in: dict[int, int], number: int) -> int:
    """The block in which ``number`` lies in the end."""
    while number in lies_in:
        number = lies_in[number]
    return number


Spot = tuple[DimLike, "DimLike | None", DimLike, int]


def without_idle_copies(instructions: Sequence[Instruction], lies_in: dict[int, int]) -> list[Instruction]:
    """The instructions but for calls that copy memory onto itself: a result took over what it copies, or lies where
    its source was computed."""
    kept: list[Instruction] = []
    for i in instructions:
        if isinstance(i, Branch):
            then, otherwise = (tuple(without_idle_copies(part, lies_in)) for part in (i.then, i.otherwise))
            i = replace(i, then=then, otherwise=otherwise)
        elif isinstance(i, Repeat):
            i = replace(i, body=tuple(without_idle_copies(i.body, lies_in)))
        if not (isinstance(i, Call) and _onto_itself(i, lies_in) and _copies(i.kernel)):
            kept.append(i)
    return kept


def _onto_itself(call: Call, lies_in: dict[int, int]) -> bool:
    if [b.written for b in call.kernel.buffers] not in ([True, False], [False, True]):
        return False
    a, b = call.operands
    if a == b:
        return True
    arena = a.place.kind == b.place.kind == "arena" and a.place != b.place
    return arena and a.offset == b.offset and root_block(lies_in, a.place.number) == root_block(lies_in, b.place.number)


def _copies(kernel: L.Kernel) -> bool:
    """Whether every element that is stored was loaded from the same position."""
    if len({b.dtype for b in kernel.buffers}) > 1:
        return False
    stores = 0
    for code in straight_code(kernel.body):
        spots: dict[str, Spot] = {}
        for statement in code:
            if isinstance(statement, L.Let):
                spot = _spot_of(statement.value, spots)
                if spot is not None:
                    spots[statement.register.name] = spot
            elif isinstance(statement, L.Store):
                stores += 1
                here = (statement.index, statement.count, statement.stride, statement.value.type.lanes)
                if _spot_of(statement.value, spots) != here:
                    return False
    return stores > 0


def _spot_of(value: L.Data, spots: dict[str, Spot]) -> Spot | None:
    """Where the value was loaded, unchanged but for a wider dtype in between."""
    if isinstance(value, L.Load) and value.mask is None:
        return (value.index, value.count, value.stride, value.type.lanes)
    if isinstance(value, L.Convert):
        return _spot_of(value.arg, spots)
    return spots.get(value.name) if isinstance(value, L.Register) else None


def _overwrites_what_it_read(kernel: L.Kernel, read: str, written: str) -> bool:
    """Whether no element of ``read`` is loaded after the same element of ``written`` was stored: blocks that
    only load come before those that store, and in the latter each load is followed by its store."""
    stored_before = False
    if any(d.buffer == read for d in find(kernel.body, L.GatherLoad)):
        return False
    for code in straight_code(kernel.body):
        waiting: list[Spot] = []
        stored: set[Spot] = set()
        for statement in code:
            for d in find(statement, L.Load):
                if d.buffer == read:
                    spot = (d.index, d.count, d.stride, d.type.lanes)
                    if d.mask is not None or spot in stored:
                        return False
                    waiting.append(spot)
            if isinstance(statement, L.Store) and statement.buffer == written:
                stored.add((statement.index, statement.count, statement.stride, statement.value.type.lanes))
        if waiting and (stored or stored_before) and not stored.issuperset(waiting):
            return False
        stored_before |= bool(stored)
    return stored_before

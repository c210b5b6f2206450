"""Loops around a piece of code: vectors with their partial end, merged neighbours, tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from vitrify.ir.dims import Dim, DimLike, ceildiv, maximum, minimum, product
from vitrify.ir.dtypes import I64
from vitrify.lower import loop as L
from vitrify.lower.loop import Stmt, VType
from vitrify.lower.rewrite_loop import find, mergeable, rename, suffixed
from vitrify.lower.views import linear_in

MAX_TASKS = 64
FEW_LINES = 128  # of memory that stay in the first cache while others are read and written
TAIL = Dim.symbol("tail")  # lanes of the partial vector
SweepPiece = Callable[[int, "DimLike | None"], list[Stmt]]  # (copy, lanes that exist) -> statements
Loops = list[tuple[str, DimLike]]
T = TypeVar("T")


def merge_loops(loops: Loops, body: Sequence[Stmt]) -> tuple[Loops, dict[str, DimLike]]:
    """Neighbouring loops made one wherever no position can tell the difference.

    Gives the loops, and what to replace in the body.
    """
    statements = tuple(body)
    done: Loops = []
    table: dict[str, DimLike] = {}
    for name, extent in loops:
        while done and mergeable(statements, done[-1][0], name, extent):
            outer, outer_extent = done.pop()
            extent = outer_extent * extent
            step: dict[str, DimLike] = {outer: 0, name: Dim.index(name, extent)}
            statements = rename(statements, step)
            table |= step
        done.append((name, extent))
    return done, table


def nested(loops: Loops, body: Sequence[Stmt]) -> list[Stmt]:
    """Serial loops, the first outermost."""
    statements = list(body)
    for name, extent in reversed(loops):
        statements = [L.For(Dim.index(name, extent), extent, tuple(statements))]
    return statements


def side_by_side(copies: Sequence[Sequence[Stmt]]) -> list[Stmt]:
    """Pieces of code of one form as one, with their loops made one: ``for …: a`` and ``for …: b`` become
    ``for …: a b``."""
    result: list[Stmt] = []
    for same in zip(*copies, strict=True):
        first = same[0]
        if isinstance(first, L.For):
            body = side_by_side([s.body for s in same if isinstance(s, L.For)])
            result.append(replace(first, body=tuple(body)))
        else:
            result.extend(same)
    return result


def vector_loops(
    variable: Dim, extent: DimLike, step: int, unroll: int, piece: SweepPiece, *, together: bool = False
) -> list[Stmt]:
    """``variable`` over ``extent`` in vectors: ``unroll`` copies at a time (``together``: in the same loops), then
    one, then the partial one."""
    name = str(variable)
    result: list[Stmt] = []
    wide = step * unroll
    done: DimLike = 0
    if unroll > 1 and not (isinstance(extent, int) and extent < wide):
        copies = [rename(tuple(piece(c, None)), {name: variable + c * step}) for c in range(unroll)]
        body = side_by_side(copies) if together else [s for copy in copies for s in copy]
        done = extent // wide * wide
        result.append(L.For(variable, done, tuple(body), wide))
    whole = extent // step * step
    if not (isinstance(whole - done, int) and whole - done == 0):
        moved = rename(tuple(piece(0, None)), {name: variable + done})
        result.append(L.For(variable, whole - done, moved, step))
    return result + _partial(name, extent, whole, step, piece(0, TAIL))


def _partial(name: str, extent: DimLike, whole: DimLike, step: int, body: list[Stmt]) -> list[Stmt]:
    rest = extent - whole
    if isinstance(rest, int) and rest == 0:
        return []
    bind = L.Bind(Dim.symbol("tail", 0, step - 1), L.Position(rest))
    end = (bind, *rename(tuple(body), {name: whole}))
    some = L.Apply("gt", (L.Position(rest), L.Literal(0, VType(I64, 1))))
    return [L.If(some, end)]


def with_count(node: T, count: DimLike) -> T:
    """Code for whole vectors made code for the first ``count`` lanes: loads, stores and tests."""
    if isinstance(node, tuple):
        return tuple(with_count(n, count) for n in node)  # type: ignore[return-value]
    if not hasattr(node, "__dataclass_fields__") or isinstance(node, (VType, Dim, L.Register)):
        return node
    updates: dict[str, Any] = {}
    for f in fields(node):  # type: ignore[arg-type]
        old = getattr(node, f.name)
        new = with_count(old, count)
        if new is not old:
            updates[f.name] = new
    if (isinstance(node, L.Load) and node.type.lanes > 1) or (
        isinstance(node, L.Store) and node.value.type.lanes > 1
    ):
        updates["count"] = count
    elif isinstance(node, L.GatherLoad) and node.type.lanes > 1:
        here = _below(count, node.type.lanes)
        updates["mask"] = here if node.mask is None else L.Apply("and", (node.mask, here))
    elif isinstance(node, L.Fold) and node.fn == "or":
        updates["arg"] = L.Apply("and", (node.arg, _below(count, node.arg.type.lanes)))
    return replace(node, **updates) if updates else node  # type: ignore[type-var]


def _below(count: DimLike, lanes: int) -> L.Data:
    return L.Apply("lt", (L.Lanes(VType(I64, lanes)), L.Splat(L.Position(count), lanes)))


def split_tasks(
    loops: Loops, body: list[Stmt], inner_work: DimLike, step: int, task_work: int, together: int = 1
) -> tuple[DimLike, list[Stmt]]:
    """Tasks of about ``task_work`` operations over ``loops``; with ``step`` > 1 the last loop runs in vectors, of
    which ``together`` share the loops in ``body``.

    Gives (tasks, body of one). The split depends on sizes alone.
    """
    total = product(n for _, n in loops) * inner_work
    if not loops or (isinstance(total, int) and total <= 2 * task_work):
        return 1, _row_loops(loops, body, step, together)
    if len(loops) == 1 and step > 1:
        return _chunks(loops[0], body, inner_work, step, task_work, together)
    rows = loops[:-1] if step > 1 else loops
    taken = _taken(rows)
    count = product(n for _, n in rows[:taken])
    rest = product(n for _, n in loops[taken:]) * inner_work
    block = _block(count, rest, task_work)
    tasks = ceildiv(count, block)
    task = Dim.index("task", tasks)
    decoded: list[Stmt] = []
    inside = Dim.index("row", block)
    position: DimLike = task if block == 1 else Dim.symbol("at")
    if block != 1:
        decoded.append(L.Bind(Dim.symbol("at"), L.Position(task * block + inside)))
    linear = position
    for name, extent in reversed(rows[1:taken]):
        decoded.append(L.Bind(Dim.index(name, extent), L.Position(linear % extent)))
        linear = linear // extent
    decoded.append(L.Bind(Dim.index(rows[0][0], rows[0][1]), L.Position(linear)))
    statements: list[Stmt] = [*decoded, *_row_loops(loops[taken:], body, step, together)]
    if block != 1:
        statements = [L.For(inside, minimum(block, count - task * block), tuple(statements))]
    return tasks, statements


def contiguous_across(loops: Loops, body: Sequence[Stmt]) -> int | None:
    """The number of the loop along which memory is contiguous that vectors (of the last loop) read in steps, as
    a transposition does; None where there is none, or the lines are few enough to stay as loops are."""
    if len(loops) < 2:
        return None
    names = [name for name, _ in loops]
    for load in find(tuple(body), L.Load):
        form = linear_in(load.index, names)
        if form is None or form.coefficients.get(names[-1], 0) in (0, 1):
            continue
        for number, (name, extent) in enumerate(loops[:-1]):
            if form.coefficients.get(name, 0) == 1 and extent != 1:
                lines = product(n for _, n in loops[number + 1 :])
                return None if isinstance(lines, int) and lines <= FEW_LINES else number
    return None


def block_tasks(
    loops: Loops, across: int, body: list[Stmt], inner_work: DimLike, step: int, task_work: int
) -> tuple[DimLike, list[Stmt]]:
    """As :func:`split_tasks`, in blocks of one vector of the last loop times :data:`FEW_LINES` positions of the
    loop ``across``: the lines that lanes read, and those that are written, stay in cache until they are done."""
    vector, extent = loops[-1]
    crossed, length = loops[across]
    column, row = Dim.index("column", ceildiv(extent, step)), Dim.index("band", ceildiv(length, FEW_LINES))
    inside = Dim.index(crossed, FEW_LINES)
    here = minimum(FEW_LINES, length - row * FEW_LINES)
    moved = {vector: column * step, crossed: row * FEW_LINES + inside}
    whole: list[Stmt] = [L.For(inside, here, rename(tuple(body), moved))]
    if extent % step != 0:
        bind = L.Bind(Dim.symbol("tail", 0, step - 1), L.Position(extent % step))
        part = L.For(inside, here, rename(with_count(tuple(body), TAIL), moved))
        full = L.Apply("lt", (L.Position(column), L.Position(extent // step)))
        whole = [L.If(full, tuple(whole), (bind, part))]
    outer = [loop for number, loop in enumerate(loops[:-1]) if number != across]
    blocks: Loops = [("band", ceildiv(length, FEW_LINES)), ("column", ceildiv(extent, step))]
    work = inner_work * minimum(FEW_LINES, length) * step
    return split_tasks([*outer, *blocks], whole, work, 1, task_work)


def _taken(rows: Loops) -> int:
    """How many of the outermost loops tasks are made of: the fewest that give enough of them."""
    for n in range(1, len(rows) + 1):
        count = product(e for _, e in rows[:n])
        if isinstance(count, int) and count >= MAX_TASKS:
            return n
    return len(rows)


def _block(count: DimLike, row_work: DimLike, task_work: int) -> DimLike:
    """Rows per task: enough work each, and not too many tasks."""
    least: DimLike = (
        ceildiv(task_work, maximum(row_work, 1))
        if not isinstance(row_work, int)
        else -(-task_work // max(row_work, 1))
    )
    few = ceildiv(count, MAX_TASKS)
    return maximum(maximum(least, few), 1)


def _chunks(
    loop: tuple[str, DimLike], body: list[Stmt], work: DimLike, step: int, task_work: int, together: int
) -> tuple[DimLike, list[Stmt]]:
    """One long vector loop cut into equal pieces."""
    name, extent = loop
    per = max(task_work // work, 1) if isinstance(work, int) else 1024
    chunk = -(-per // step) * step
    if isinstance(extent, int):
        wide = step * together
        chunk = max(chunk, -(-extent // (MAX_TASKS * wide)) * wide)
    tasks = ceildiv(extent, chunk)
    task = Dim.index("task", tasks)
    variable = Dim.index(name, chunk)
    moved = list(rename(tuple(body), {name: variable + task * chunk}))
    here = minimum(chunk, extent - task * chunk)
    if isinstance(extent, int) and extent % chunk == 0:
        here = chunk
    return tasks, _row_loops([(name, here)], moved, step, together)


def _row_loops(loops: Loops, body: list[Stmt], step: int, together: int) -> list[Stmt]:
    if step == 1 or not loops:
        return nested(loops, body)
    name, extent = loops[-1]

    def piece(copy: int, count: DimLike | None) -> list[Stmt]:
        if count is not None:
            return list(with_count(tuple(body), count))
        return list(suffixed(tuple(body), f"_{copy}")) if copy else body

    variable = Dim.index(name, extent)
    return nested(loops[:-1], vector_loops(variable, extent, step, together, piece, together=True))

"""Transpositions in registers: squares of ``lanes`` by ``lanes`` elements are read along one axis, turned by
shuffles, and used along another, so that memory is read and written by whole vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitrify.ir.dims import Dim, DimLike, ceildiv, minimum, substitute
from vitrify.ir.dtypes import BOOL, I64, U8, DType
from vitrify.lower import loop as L
from vitrify.lower.loop import Data, Register, Stmt, VType
from vitrify.lower.loops import Loops, split_tasks, with_count
from vitrify.lower.rewrite_loop import rename, suffixed
from vitrify.lower.views import linear_in

BLOCK = 128  # elements along both axes whose lines stay in cache while squares share them
LANE_BYTES = 16  # what shuffles of one instruction keep to
MOST_STATEMENTS = 16  # that are repeated for every vector of a square
ROWS, WIDE = "rows", "wide"  # of a square at the end


@dataclass(frozen=True)
class Transposition:
    """Loads that are contiguous along the loop numbered ``across`` while vectors run along the last one."""

    across: int
    loads: tuple[L.Let, ...]


def worth_turning(extent: DimLike, lanes: int) -> bool:
    """Whether squares along the axis are mostly full, as far as that can be told."""
    return not isinstance(extent, int) or 2 * extent >= lanes


def find_transposition(loops: Loops, body: Sequence[Stmt], lanes: int) -> Transposition | None:
    """The loads of straight code that a turn in registers serves, all across the same loop; None without any."""
    straight = all(isinstance(s, (L.Let, L.Store)) for s in body) and len(body) <= MOST_STATEMENTS
    if len(loops) < 2 or not straight or not worth_turning(loops[-1][1], lanes):
        return None
    names = [name for name, _ in loops]
    found: list[L.Let] = []
    where: set[int] = set()
    for s in body:
        if not isinstance(s, L.Let) or not isinstance(s.value, L.Load) or s.value.type.lanes != lanes:
            continue
        form = linear_in(s.value.index, names)
        if form is None or s.value.mask is not None or form.coefficients.get(names[-1], 0) in (0, 1):
            continue
        across = [n for n, name in enumerate(names[:-1]) if form.coefficients.get(name, 0) == 1]
        if across and worth_turning(loops[across[0]][1], lanes):
            found.append(s)
            where.add(across[0])
    return Transposition(where.pop(), tuple(found)) if len(where) == 1 else None


def transposition_tasks(
    loops: Loops, turned: Transposition, body: list[Stmt], inner_work: DimLike, lanes: int, task_work: int
) -> tuple[DimLike, list[Stmt]]:
    """As :func:`split_tasks`, in blocks of :data:`BLOCK` by :data:`BLOCK` elements of squares."""
    (vector, extent), (crossed, length) = loops[-1], loops[turned.across]
    square = _Square(turned, tuple(body), vector, crossed, lanes)
    column, band = Dim.index("column", ceildiv(extent, BLOCK)), Dim.index("band", ceildiv(length, BLOCK))
    down, along = Dim.index("down", BLOCK // lanes), Dim.index("along", BLOCK // lanes)
    first, start = column * BLOCK + down * lanes, band * BLOCK + along * lanes
    whole = square.whole(first, start)
    if extent % lanes != 0 or length % lanes != 0:
        rest = (_bind(ROWS, minimum(lanes, extent - first), lanes), _bind(WIDE, minimum(lanes, length - start), lanes))
        full = L.Apply("and", (_fits(first + lanes, extent), _fits(start + lanes, length)))
        whole = (L.If(full, whole, (*rest, *square.partial(first, start))),)
    inner = L.For(along, _squares(length - band * BLOCK, lanes), whole)
    block: list[Stmt] = [L.For(down, _squares(extent - column * BLOCK, lanes), (inner,))]
    outer = [loop for number, loop in enumerate(loops[:-1]) if number != turned.across]
    blocks: Loops = [("column", ceildiv(extent, BLOCK)), ("band", ceildiv(length, BLOCK))]
    work = inner_work * minimum(BLOCK, length) * minimum(BLOCK, extent)
    return split_tasks([*outer, *blocks], block, work, 1, task_work)


def _squares(rest: DimLike, lanes: int) -> DimLike:
    return ceildiv(minimum(BLOCK, rest), lanes)


def _bind(name: str, value: DimLike, lanes: int) -> L.Bind:
    return L.Bind(Dim.symbol(name, 1, lanes), L.Position(value))


def _fits(end: DimLike, extent: DimLike) -> Data:
    return L.Apply("le", (L.Position(end), L.Position(extent)))


@dataclass(frozen=True)
class _Square:
    """The code of ``lanes`` by ``lanes`` positions of ``vector`` and ``crossed``."""

    turned: Transposition
    body: tuple[Stmt, ...]
    vector: str
    crossed: str
    lanes: int

    def whole(self, first: DimLike, start: DimLike) -> tuple[Stmt, ...]:
        """The square that begins at ``first`` along the vectors and at ``start`` along what is read."""
        result: list[Stmt] = []
        columns = {s.register: self._columns(result, s, first, start, None) for s in self.turned.loads}
        for k in range(self.lanes):
            result += self._piece(self.body, columns, k, first, start)
        return tuple(result)

    def partial(self, first: DimLike, start: DimLike) -> tuple[Stmt, ...]:
        """The same where only ``ROWS`` by ``WIDE`` positions exist: nothing else is read or written."""
        rows, wide = Dim.symbol(ROWS, 1, self.lanes), Dim.symbol(WIDE, 1, self.lanes)
        result: list[Stmt] = []
        columns = {s.register: self._columns(result, s, first, start, (rows, wide)) for s in self.turned.loads}
        body = with_count(self.body, rows)
        for k in range(self.lanes):
            exists = L.Apply("lt", (L.Literal(k, VType(I64)), L.Position(wide)))
            result.append(L.If(exists, tuple(self._piece(body, columns, k, first, start))))
        return tuple(result)

    def _piece(
        self, body: tuple[Stmt, ...], columns: dict[Register, list[Register]], k: int, first: DimLike, start: DimLike
    ) -> list[Stmt]:
        """The statements at position ``k`` across, with the loads' results known."""
        result: list[Stmt] = []
        for s, original in zip(rename(body, {self.vector: first, self.crossed: start + k}), body, strict=True):
            piece = suffixed(s, f"_{k}")
            if isinstance(piece, L.Let) and isinstance(original, L.Let) and original.register in columns:
                piece = replace(piece, value=_taken(columns[original.register][k], piece.register.type.dtype))
            result.append(piece)
        return result

    def _columns(
        self, result: list[Stmt], s: L.Let, first: DimLike, start: DimLike, exist: tuple[Dim, Dim] | None
    ) -> list[Register]:
        """Rows read along ``crossed`` and turned; rows that do not exist repeat the last one."""
        load = s.value
        assert isinstance(load, L.Load)
        rows: list[Register] = []
        for r in range(self.lanes):
            row = r if exist is None or r == 0 else minimum(r, exist[0] - 1)
            index = substitute(load.index, {self.vector: first + row, self.crossed: start})
            value: Data = replace(load, index=index, stride=1, count=None if exist is None else exist[1])
            kept = L.Convert(value, U8) if load.type.dtype is BOOL else value
            rows.append(Register(f"{s.register.name}r{r}", kept.type))
            result.append(L.Let(rows[-1], kept))
        return _turn(result, rows, s.register.name)


def _taken(column: Register, dtype: DType) -> Data:
    return L.Convert(column, BOOL) if dtype is BOOL else column


def _turn(result: list[Stmt], rows: list[Register], stem: str) -> list[Register]:
    """``rows[i][j]`` becomes ``columns[j][i]``: inside lanes of 16 bytes by interleaving rows half a group apart,
    between them by parting neighbours' lanes into even and odd ones."""
    lanes = len(rows)
    unit = min(max(LANE_BYTES // rows[0].type.dtype.itemsize, 1), lanes)
    serial = 0

    def pair(a: Register, b: Register, choices: tuple[list[int], list[int]]) -> tuple[Register, Register]:
        nonlocal serial
        made = []
        for chosen in choices:
            made.append(Register(f"{stem}s{serial}", a.type))
            result.append(L.Let(made[-1], L.Shuffle(a, b, tuple(chosen))))
            serial += 1
        return made[0], made[1]

    steps = unit.bit_length() - 1
    groups = [rows[g : g + unit] for g in range(0, lanes, unit)]
    for _ in range(steps):
        groups = [
            [x for i in range(unit // 2) for x in pair(group[i], group[i + unit // 2], _interleaved(lanes, unit))]
            for group in groups
        ]
    count = lanes // unit
    columns: list[list[Register]] = [[group[i] for group in groups] for i in range(unit)]
    for _ in range(count.bit_length() - 1):
        for i, column in enumerate(columns):
            pairs = [pair(column[2 * k], column[2 * k + 1], _parted(lanes, unit)) for k in range(count // 2)]
            columns[i] = [p[0] for p in pairs] + [p[1] for p in pairs]
    return [columns[j % unit][j // unit] for j in range(lanes)]


def _interleaved(lanes: int, unit: int) -> tuple[list[int], list[int]]:
    """Lanes of two vectors (the second's numbered from ``lanes`` on): the lower halves of each unit alternating,
    and the upper halves."""
    low, high = (
        [u + half * unit // 2 + i // 2 + i % 2 * lanes for u in range(0, lanes, unit) for i in range(unit)]
        for half in (0, 1)
    )
    return low, high


def _parted(lanes: int, unit: int) -> tuple[list[int], list[int]]:
    """The units of two vectors with even numbers, and those with odd ones."""
    units = [list(range(u, u + unit)) for u in range(0, 2 * lanes, unit)]
    return [i for u in units[::2] for i in u], [i for u in units[1::2] for i in u]

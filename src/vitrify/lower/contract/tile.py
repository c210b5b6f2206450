"""The register tile: a few rows of the left operand times a few vectors of columns, summed over K.

Every accumulator is a named register. Each result is one ascending chain of fused multiply-adds, so how
results are tiled changes no bit of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vitrify.ir.dims import DimLike, symbols
from vitrify.ir.dtypes import U32
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import Fused
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.problem import Access, Contraction
from vitrify.lower.loop import (
    Assign,
    Bind,
    Data,
    For,
    Intrinsic,
    Let,
    Load,
    Prefetch,
    Register,
    Stmt,
    Store,
    Tile,
    VType,
    zero,
)
from vitrify.lower.rewrite_loop import find

PAIR = U32  # two or four neighbouring terms of a sum in one lane; the accumulator has 32 bits too
SPILL_COST = 6  # epilogues above this many instructions per vector are printed once, not once per vector


@dataclass(frozen=True)
class Rows:
    """``steps`` x ``inner`` rows. ``offset`` gives a row's address relative to the tile's first one, and
    ``position`` where it is in the left axes."""

    steps: int
    inner: int
    offset: Callable[[int, int], DimLike]
    position: Callable[[DimLike, DimLike], dict[str, DimLike]]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((i, j) for i in range(self.steps) for j in range(self.inner))

    def __len__(self) -> int:
        return self.steps * self.inner


@dataclass(frozen=True)
class Right:
    """Where a tile's columns are: ``buffer[base + k * row + column]``, with its own stride per K loop when
    it is used in place. ``count``: columns that exist in the last vector (None: all). ``ahead``: so many rows
    before their use they are fetched, where they come from beyond the second cache. ``following``: where this
    tile's share of the next panel begins, one of ``sharers``; it is fetched bit by bit with the rows, since so
    many lines can be under way at once and no more."""

    access: Access
    base: DimLike
    vectors: int
    strides: tuple[DimLike, ...]
    count: DimLike | None = None
    masked_loads: bool = False
    ahead: int = 0
    following: DimLike | None = None
    sharers: int = 1


class TileWriter:
    """Writes the tiles of one kernel."""

    def __init__(
        self, problem: Contraction, names: Names, loops: Sequence[Fused], lanes: int, spill: str,
        fetch: bool = False,
    ) -> None:  # fmt: skip
        self.problem = problem
        self.names = names
        self.loops = loops
        self.lanes = lanes
        self.spill = spill  # the local buffer for finished tiles
        self.fetch = fetch  # what follows the sums is fetched before them

    def tile(
        self,
        lhs: Access,
        base: DimLike,
        rows: Rows,
        right: Right,
        position: dict[str, DimLike],
        column: DimLike,
    ) -> Body:
        """The whole tile: sums, then the epilogue. ``column`` is the first one's position."""
        sums, body = self.sums(lhs, base, rows, right)
        finish = self._finish(rows, right, sums, position, column)
        return (*(_fetches(finish) if self.fetch else ()), *body, *finish)

    def sums(self, lhs: Access, base: DimLike, rows: Rows, right: Right) -> tuple[list[list[Register]], Body]:
        """The registers that hold the finished sums, per row and vector, and the code that computes them."""
        kind = VType(self.problem.accumulate, self.lanes)
        tag = self.names.fresh("t")
        sums = [[Register(f"{tag}_{i}_{v}", kind) for v in range(right.vectors)] for i in range(len(rows))]
        zeros = [Let(r, zero(kind.dtype, kind.lanes)) for row in sums for r in row]
        return sums, (*zeros, *self._sum(lhs, base, rows, right, sums))

    def _sum(
        self, lhs: Access, base: DimLike, rows: Rows, right: Right, sums: Sequence[Sequence[Register]]
    ) -> Body:
        def level(depth: int, at: DimLike, column: DimLike) -> Body:
            if depth == len(self.loops):
                return self._step(lhs, at, rows, right, column, sums)
            loop = self.loops[depth]

            def inner(k: DimLike) -> Body:
                return level(depth + 1, at + k * loop.strides[0], column + k * right.strides[depth])

            return self.names.loop("k", loop.extent, inner)

        if any(loop.extent == 0 for loop in self.loops):
            return ()
        return level(0, base, right.base)

    def _step(
        self, lhs: Access, at: DimLike, rows: Rows, right: Right, column: DimLike,
        sums: Sequence[Sequence[Register]],
    ) -> Body:  # fmt: skip
        """One value of k (or one group of them)."""
        acc = self.problem.accumulate
        paired = self.problem.paired
        dtype = PAIR if paired else acc
        body: list[Stmt] = []
        columns: list[Data] = []
        for v in range(right.vectors):
            count = right.count if right.masked_loads and v == right.vectors - 1 else None
            value = emit.convert(emit.load(right.access, column + v * self.lanes, self.lanes, count), dtype)
            held = self.names.register("b", dtype, self.lanes)
            body.append(Let(held, value))
            columns.append(held)
        if right.ahead:
            far = column + right.ahead * right.vectors * self.lanes
            body += [Prefetch(right.access.buffer, far + v * self.lanes) for v in range(right.vectors)]
        if right.following is not None:
            line = right.following + (column - right.base) // right.sharers
            count = -(-right.vectors // right.sharers)
            body += [Prefetch(right.access.buffer, line + v * self.lanes) for v in range(count)]
        for row, row_sums in zip(rows, sums, strict=True):
            held = self.names.register("a", dtype, self.lanes)
            value = emit.convert(emit.load(lhs, at + rows.offset(*row)), dtype)
            body.append(Let(held, emit.splat(value, self.lanes)))
            for total, b in zip(row_sums, columns, strict=True):
                if paired:
                    body.append(Assign(total, Intrinsic(self.problem.paired, (total, held, b), total.type)))
                else:
                    body.append(Assign(total, emit.multiply_add(held, b, total)))
        return tuple(body)

    def _finish(
        self, rows: Rows, right: Right, sums: Sequence[Sequence[Register]], position: dict[str, DimLike],
        column: DimLike,
    ) -> Body:  # fmt: skip
        epilogue, lanes = self.problem.epilogue, self.lanes
        lane = self.problem.lane_axis
        assert lane is not None

        def emit_one(where: dict[str, DimLike], v: int, value: Data) -> Sequence[Stmt]:
            count = right.count if v == right.vectors - 1 else None
            at = {**position, **where, lane.name: column + v * lanes}
            return epilogue.emit(at, value, lanes, count)

        if not self.spilled(len(rows), right.vectors):
            return tuple(
                s for row, values in zip(rows, sums, strict=True) for v, r in enumerate(values)
                for s in emit_one(rows.position(*row), v, r)
            )  # fmt: skip
        width, kind = right.vectors * lanes, VType(self.problem.accumulate, lanes)
        stores = [
            Store(self.spill, i * width + v * lanes, r)
            for i, row in enumerate(sums)
            for v, r in enumerate(row)
        ]

        def again(i: DimLike, j: DimLike) -> Body:
            where, at = rows.position(i, j), (i * rows.inner + j) * width
            return tuple(
                s for v in range(right.vectors)
                for s in emit_one(where, v, Load(self.spill, at + v * lanes, kind))
            )  # fmt: skip

        loops = self.names.loop(
            "r", rows.steps, lambda i: self.names.loop("r", rows.inner, lambda j: again(i, j))
        )
        return (*stores, *loops)

    def spilled(self, rows: int, vectors: int) -> bool:
        return self.problem.epilogue.cost > SPILL_COST and rows * vectors > 4


def _fetches(finish: Body) -> Body:
    """Every line that straight code reads or writes, asked for: the sums leave time for it to come."""
    bound = {str(b.variable) for b in find(finish, Bind)}
    if any(isinstance(s, For) for s in finish):
        return ()
    found: dict[tuple[str, DimLike], Prefetch] = {}
    parts: tuple[Load | Store, ...] = (*find(finish, Load), *find(finish, Store))
    for part in parts:
        if bound.isdisjoint(s.name for s in symbols(part.index)) and part.stride == 1:
            found[part.buffer, part.index] = Prefetch(part.buffer, part.index, isinstance(part, Store))
    return tuple(found.values())


def spill_tile(name: str, problem: Contraction, rows: int, vectors: int, lanes: int) -> Tile:
    return Tile(name, problem.accumulate, rows * vectors * lanes)

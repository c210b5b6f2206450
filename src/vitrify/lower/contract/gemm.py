"""Register-tiled contractions: matrix products, batched ones, and direct convolutions, by one template.

The left operand is read in place by broadcast loads (a convolution's windows overlap there: nothing is
copied), or from a copy with a friendlier layout (:mod:`copying`). The right one is in panels: packed when
compiled, packed by a kernel, or used where it is.

Parameters: ``rows`` (steps of the row axis per tile), ``inner`` (1: the last left axis is unrolled in every
tile, and the one before it is the row axis), ``vectors`` (per row of a tile), ``row_block`` (tiles, or whole
rows of tiles, per task), ``panel_block`` (panels per task), ``by_rows`` (1: neighbouring tasks share rows; 0:
panels), ``copy`` (0: left in place, 1: copied by a kernel, 2: copied by the task, which is the only one),
``right`` (0: packed when compiled, 1: in place, 2: packed by a kernel), ``prefetch`` (rows of a panel fetched
ahead of their use; 0: none), ``lookahead`` (so many tiles of a panel fetch the next one between them), ``fetch``
(1: what a tile's epilogue reads and writes is fetched before its sums).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from vitrify.ir.dims import DimLike, maximum, minimum
from vitrify.lower.contract import copying, emit
from vitrify.lower.contract.axes import Fused, contracted_order, fuse, offset_at, singles
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.panels import Packing, Panels, pack
from vitrify.lower.contract.problem import Access, Axis, Contraction, Lowered, Temporary
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.tile import PAIR, Right, Rows, TileWriter, spill_tile
from vitrify.lower.loop import Buffer, Data, Kernel, Stmt, Tile
from vitrify.lower.target import Target

PACKED, IN_PLACE, PACKED_BY_KERNEL = 0, 1, 2
NOT_COPIED, COPIED_BY_KERNEL, COPIED_BY_TASK = 0, 1, 2


def lanes_of(problem: Contraction, target: Target) -> int:
    """Lanes per vector: the target's, or fewer where there are not so many columns."""
    lanes = target.lanes(problem.accumulate)
    lane = problem.right[-1].extent if problem.right else 1
    while isinstance(lane, int) and lanes > 4 and lanes // 2 >= lane:
        lanes //= 2
    return lanes


@dataclass(frozen=True)
class Geometry:
    """The loops of a problem whose left operand has no bounds."""

    outer: tuple[Axis, ...]  # batch and all right axes but the last
    units: tuple[Fused, ...]  # left axes outside the row axis
    row: Fused
    inner: Fused | None  # unrolled in every tile
    loops: tuple[Fused, ...]  # contracted; strides: (lhs, rhs)
    order: tuple[Axis, ...]  # the contracted axes, outermost first

    @staticmethod
    def of(problem: Contraction, in_place: bool, inner: bool) -> Geometry:
        lhs, rhs = problem.lhs, problem.rhs
        left = fuse(problem.left, [lhs]) or [Fused(1, (), (0,))]
        order = contracted_order(problem.contracted, lhs)
        packed = Access("", rhs.dtype, 0, _row_strides(order))
        loops = fuse(order, [lhs, rhs if in_place else packed])
        unrolled = left.pop() if inner and len(left) > 1 else None
        outer = (*problem.batch, *problem.right[:-1])
        return Geometry(outer, tuple(left[:-1]), left[-1], unrolled, tuple(loops), tuple(order))

    @property
    def width(self) -> int:
        return 1 if self.inner is None else int(emit.known(self.inner.extent, 1))

    @property
    def k(self) -> DimLike:
        return emit.size(self.order)


def _row_strides(order: list[Axis]) -> dict[str, DimLike]:
    strides: dict[str, DimLike] = {}
    step: DimLike = 1
    for axis in reversed(order):
        strides[axis.name] = step
        step = step * axis.extent
    return strides


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The main kernel, after those that copy or pack what moves."""
    values = chosen.values
    lanes = lanes_of(problem, target)
    lowered = Lowered([])
    local: tuple[tuple[Stmt, ...], Tile] | None = None
    if values["copy"] == COPIED_BY_KERNEL:
        copy = copying.Copy.of(problem, f"{name}_lhs")
        lowered.kernels.append(copy.kernel(f"{name}_copy"))
        lowered.temporaries.append(Temporary(f"{name}_lhs", problem.accumulate, copy.size))
        problem = copy.moved()
    names = Names()
    if values["copy"] == COPIED_BY_TASK:
        copy = copying.Copy.of(problem, f"{name}_lhs")
        local = copy.body(names), Tile(f"{name}_lhs", problem.accumulate, copy.size)
        source = Buffer(problem.lhs.buffer, problem.lhs.dtype)
        problem = copy.moved()
    geometry = Geometry.of(problem, values["right"] == IN_PLACE, bool(values["inner"]))
    lane = problem.right[-1]
    panels = Panels(lane.extent, values["vectors"] * lanes, lanes, values["right"] == PACKED)
    right, right_outer = _place_right(problem, geometry, panels, values["right"], lowered, name)
    writer = TiledKernel(problem, chosen, geometry, panels, right, right_outer, names, lanes, name)
    prologue: Body = ()
    buffers = [Buffer(problem.lhs.buffer, problem.lhs.dtype)]
    if local is not None:
        prologue, buffers = (local[1], *local[0]), [source]
    lowered.kernels.append(writer.kernel(prologue, buffers))
    return lowered


def _place_right(
    problem: Contraction, geometry: Geometry, panels: Panels, mode: int, lowered: Lowered, name: str
) -> tuple[Access, dict[str, DimLike]]:
    """The right operand as tiles read it, and its strides over the outer axes."""
    rhs = problem.rhs
    if mode == IN_PLACE:
        return rhs, {}
    outer = tuple(a for a in geometry.outer if a.extent != 1 and rhs.strides.get(a.name, 0) != 0)
    buffer = f"{name}_rhs"
    stored = PAIR if problem.paired else problem.accumulate
    if mode == PACKED:
        lowered.constants[buffer] = pack(rhs, outer, geometry.order, problem.right[-1], panels, stored)
    else:
        packing = Packing(problem, outer, geometry.order, problem.right[-1], panels, buffer)
        lowered.kernels.append(packing.kernel(f"{name}_pack"))
        total = emit.size(outer) * panels.stride(geometry.k)
        lowered.temporaries.append(Temporary(buffer, problem.accumulate, total))
    strides: dict[str, DimLike] = {}
    step = panels.stride(geometry.k)
    for axis in reversed(outer):
        strides[axis.name] = step
        step = step * axis.extent
    return Access(buffer, stored, 0, strides), strides


class TiledKernel:
    """The main kernel of one lowering."""

    def __init__(
        self, problem: Contraction, chosen: Schedule, geometry: Geometry, panels: Panels, right: Access,
        right_outer: dict[str, DimLike], names: Names, lanes: int, name: str,
    ) -> None:  # fmt: skip
        self.problem = problem
        self.chosen = chosen
        self.values = chosen.values
        self.geometry = geometry
        self.panels = panels
        self.right = right
        self.right_outer = right_outer
        self.names = names
        self.lanes = lanes
        self.name = name
        self.in_place = self.values["right"] == IN_PLACE
        self.tiles = TileWriter(
            problem, names, geometry.loops, lanes, "finished", bool(self.values.get("fetch"))
        )

    def kernel(self, prologue: Body, buffers: list[Buffer]) -> Kernel:
        p, g = self.problem, self.geometry
        group, block = self._grid()
        by_rows = self.values["by_rows"]
        grid = (block, *g.outer, group) if by_rows else (*g.outer, group, block)
        position, bound = emit.decode(self.names, emit.TASK, grid)
        body = [*prologue, *self._spill(), *bound, *self._panels(position)]
        aligned = [Buffer(self.right.buffer, self.right.dtype, aligned=not self.in_place)]
        return Kernel(
            self.name, emit.kernel_buffers([*buffers, *aligned, *p.epilogue.buffers]), emit.all_dims(p),
            emit.size(grid), tuple(body), emit.flops(p), emit.traffic(p), self.chosen.record(),
        )  # fmt: skip

    def _spill(self) -> Body:
        rows = self.values["rows"] * self.geometry.width
        if not self.tiles.spilled(rows, self.values["vectors"]):
            return ()
        return (spill_tile("finished", self.problem, rows, self.values["vectors"], self.lanes),)

    # ---- tasks

    @property
    def _units(self) -> tuple[Axis, ...]:
        return tuple(a for u in self.geometry.units for a in u.parts)

    @property
    def _full_tiles(self) -> DimLike:
        return self.geometry.row.extent // self.values["rows"]

    def _grid(self) -> tuple[Axis, Axis]:
        """What tasks divide besides the outer axes: groups of panels, and blocks of rows."""
        groups = emit.blocks(self.panels.count, self.values["panel_block"])
        if self._units:
            blocks = emit.blocks(emit.size(self._units), self.values["row_block"])
        else:
            blocks = maximum(emit.blocks(self._full_tiles, self.values["row_block"]), 1)
        return Axis("@group", groups), Axis("@block", blocks)

    # ---- columns

    def _panels(self, position: dict[str, DimLike]) -> Body:
        """Every panel of the group: the full ones, and the last one where it holds fewer columns."""
        per_group, group = self.values["panel_block"], position["@group"]
        full, vectors = self.panels.full, self.values["vectors"]
        first = group * per_group
        base, bound = self.names.bind("right", self._right_base(position))
        body: list[Stmt] = [*bound]

        def one(i: DimLike) -> Body:
            return self._panel(position, first + i, base, vectors, None)

        if full != 0:
            body += self.names.loop("p", minimum(per_group, full - first), one)
        rest = self.panels.rest
        if rest != 0:
            tail: list[Stmt] = []
            for v in range(1, vectors + 1):
                tail += self._tail(position, base, v)
            last = isinstance(self.panels.count, int) and self.panels.count <= per_group
            body += tail if last else emit.when(emit.compare("eq", group, full // per_group), tuple(tail))
        return tuple(body)

    def _tail(self, position: dict[str, DimLike], base: DimLike, vectors: int) -> Body:
        """The last panel, when it takes ``vectors`` vectors."""
        rest = self.panels.rest
        needed = emit.blocks(rest, self.lanes)
        count: DimLike | None = rest - (vectors - 1) * self.lanes
        if isinstance(needed, int) and needed != vectors:
            return ()
        if count == self.lanes:
            count = None
        body = self._panel(position, self.panels.full, base, vectors, count)
        return body if isinstance(needed, int) else emit.when(emit.compare("eq", needed, vectors), body)

    def _right_base(self, position: dict[str, DimLike]) -> DimLike:
        outer = {a.name: position[a.name] for a in self.geometry.outer}
        if self.in_place:
            zeros = {a.name: 0 for a in (*self.geometry.order, self.problem.right[-1])}
            return offset_at(self.right, {**outer, **zeros})
        return offset_at(self.right, {n: p for n, p in outer.items() if n in self.right_outer})

    def _panel(
        self, position: dict[str, DimLike], panel: DimLike, base: DimLike, vectors: int, count: DimLike | None
    ) -> Body:
        column, bound = self.names.bind("n", panel * self.panels.columns)
        if self.in_place:
            at = base + column * self.right.strides.get(self.problem.right[-1].name, 0)
            strides = tuple(loop.strides[1] for loop in self.geometry.loops)
        else:
            at = base + column * self.geometry.k
            pitch = (
                self.panels.columns
                if count is None and vectors == self.values["vectors"]
                else self.panels.tail_columns
            )
            strides = tuple(loop.strides[1] * pitch for loop in self.geometry.loops)
        start, more = self.names.bind("b", at)
        right = Right(self.right, start, vectors, strides, count, self.in_place, self.values["prefetch"])
        return (*bound, *more, *self._blocks(position, right, column))

    # ---- rows

    def _blocks(self, position: dict[str, DimLike], right: Right, column: DimLike) -> Body:
        """Every row of the task's block."""
        block, per_block = position["@block"], self.values["row_block"]
        if not self._units:
            first = block * per_block
            count = minimum(per_block, self._full_tiles - first)
            last = (
                None if self._grid()[1].extent == 1 else emit.compare("eq", block, self._grid()[1].extent - 1)
            )
            return self._row_tiles(position, right, column, first, count, last)
        units = emit.size(self._units)

        def unit(i: DimLike) -> Body:
            where, bound = emit.decode(self.names, block * per_block + i, self._units)
            tiles = self._row_tiles({**position, **where}, right, column, 0, self._full_tiles, None)
            return (*bound, *tiles)

        return self.names.loop("u", minimum(per_block, units - block * per_block), unit)

    def _row_tiles(
        self,
        position: dict[str, DimLike],
        right: Right,
        column: DimLike,
        first: DimLike,
        count: DimLike,
        last: Data | None,
    ) -> Body:
        """Full tiles from number ``first``, then what remains of the row axis (only ``last`` has it)."""
        rows, extent = self.values["rows"], self.geometry.row.extent
        full = self._full_tiles

        def tile(start: DimLike, height: int) -> Body:
            return self._tile(position, right, column, start, height)

        def tile_at(start: DimLike, height: int, _: DimLike) -> Body:
            return tile(start, height)

        body: list[Stmt] = []
        if full != 0:
            body += self.names.loop("m", count, lambda t: tile((first + t) * rows, rows))
        rest = extent - full * rows
        tail: list[Stmt] = []
        if isinstance(rest, int):
            tail += tile(full * rows, rest) if rest else ()
        else:
            height = 1 << (rows - 1).bit_length() >> 1
            while height:
                at = full * rows + rest // (2 * height) * (2 * height)
                tail += self.names.loop("m", rest // height % 2, partial(tile_at, at, height))
                height //= 2
        if last is None or not tail:
            return (*body, *tail)
        return (*body, *emit.when(last, tuple(tail)))

    def _tile(
        self, position: dict[str, DimLike], right: Right, column: DimLike, start: DimLike, height: int
    ) -> Body:
        g, lhs = self.geometry, self.problem.lhs
        row, bound = self.names.bind("m", start)
        fixed = {a.name: position[a.name] for a in (*g.outer, *self._units) if a.name in position}
        base, more = self.names.bind("a", offset_at(lhs, fixed) + row * g.row.strides[0])
        inner_stride = g.inner.strides[0] if g.inner is not None else 0

        def where(i: DimLike, j: DimLike) -> dict[str, DimLike]:
            inner = g.inner.position(j) if g.inner is not None else {}
            return {**g.row.position(row + i), **inner}

        tiles = self.values.get("lookahead", 0)
        if tiles and height == self.values["rows"] and not self.in_place:
            # Each full tile of the block fetches its share of the next panel; the last panel's reach past the end.
            panel = g.k * self.tiles.lanes * right.vectors
            turn = start // self.values["rows"] - position["@block"] * self.values["row_block"]
            at, last = self.names.bind("f", right.base + panel + turn * (panel // tiles))
            right, more = replace(right, following=at, sharers=tiles), (*more, *last)
        rows = Rows(height, g.width, lambda i, j: i * g.row.strides[0] + j * inner_stride, where)
        zeros = singles((*self.problem.batch, *self.problem.left, *self.problem.right))
        outside = {n: p for n, p in position.items() if n not in ("@group", "@block")}
        body = self.tiles.tile(lhs, base, rows, right, {**zeros, **outside}, column)
        return (*bound, *more, *body)

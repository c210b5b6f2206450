"""Winograd convolution: 3x3, stride 1, one group, channels last, constant weights.

A task takes a block of tiles and a group of panels of output channels. It transforms the tiles (or finds
them transformed, ``ahead``), and then for each panel multiplies the ``n * n`` planes, each a small matrix
product whose operands and result stay in cache, and transforms back. Padding and what overhangs the output
are handled here; nothing is copied first.

Parameters: ``m`` (outputs per tile side: 2 or 4), ``block`` (tiles), ``rows``, ``vectors`` (of the register
tiles), ``panel_block`` (panels per task), ``ahead`` (1: a kernel of its own transforms the tiles),
``prefetch`` (rows of a panel fetched ahead of their use).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vitrify.ir.dims import DimLike, ceildiv, minimum
from vitrify.ir.dtypes import F32
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import Fused, offset_at, singles
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.panels import Array, Panels, dense
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction, Lowered, Temporary
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.tile import Right, Rows, TileWriter
from vitrify.lower.contract.transforms import TAPS, both_sides, winograd
from vitrify.lower.loop import Buffer, Data, Kernel, Let, Load, Stmt, Store, Tile, VType
from vitrify.lower.target import Target

TASK_TILES = 4


@dataclass(frozen=True)
class Plane:
    """One spatial direction: the output axis, its window axis, and where the input lies."""

    output: Axis
    window: Axis
    stride: DimLike  # of the input
    low: DimLike  # the least window coordinate that is inside
    high: DimLike  # the first one beyond

    def tiles(self, m: int) -> DimLike:
        return ceildiv(self.output.extent, m)


@dataclass(frozen=True)
class Shape:
    """A contraction that is a 3x3 convolution of stride 1."""

    images: tuple[Axis, ...]
    planes: tuple[Plane, Plane]
    channel: Axis

    @staticmethod
    def of(problem: Contraction) -> Shape | None:
        """None for any other contraction."""
        p = problem
        fits = p.lhs.dtype is F32 and p.accumulate is F32 and emit.packable(p) and not p.rhs.bounds
        if not fits or any(a.extent != 1 for a in (*p.batch, *p.right[:-1])) or not p.right:
            return None
        windows = [a for a in p.contracted if a.extent == TAPS and p.lhs.strides.get(a.name) != 1]
        rest = [a for a in p.contracted if a.extent != 1 and a not in windows]
        if len(windows) != 2 or len(rest) != 1 or p.lhs.strides.get(rest[0].name) != 1:
            return None
        planes = [_plane(p, w) for w in windows]
        if planes[0] is None or planes[1] is None or planes[0].output == planes[1].output:
            return None
        if sum(
            b.strides.keys() <= {x.output.name, x.window.name} for b in p.lhs.bounds for x in planes if x
        ) != len(p.lhs.bounds):
            return None
        outputs = {planes[0].output.name, planes[1].output.name}
        images = tuple(a for a in p.left if a.name not in outputs)
        return Shape(images, (planes[0], planes[1]), rest[0])


def _plane(problem: Contraction, window: Axis) -> Plane | None:
    stride = problem.lhs.strides.get(window.name, 0)
    for axis in problem.left:
        if problem.lhs.strides.get(axis.name, 0) != stride or axis.extent == 1:
            continue
        bound = next(
            (b for b in problem.lhs.bounds if window.name in b.strides), Bound(0, {}, axis.extent + TAPS - 1)
        )
        if bound.strides and dict(bound.strides) != {axis.name: 1, window.name: 1}:
            continue
        return Plane(axis, window, stride, -bound.offset, bound.extent - bound.offset)
    return None


def pack(problem: Contraction, shape: Shape, panels: Panels, m: int) -> Array:
    """Transformed weights ``[panel][n * n][channels][columns]``, computed in float64."""
    lane = problem.right[-1]
    axes = (shape.planes[0].window, shape.planes[1].window, shape.channel, lane)
    weights = dense(problem.rhs, axes)
    matrix = np.asarray(winograd(m).weights)
    n, channels, outputs = winograd(m).n, weights.shape[2], weights.shape[3]
    parts = []
    for start in range(0, outputs, panels.columns):  # a panel at a time stays in cache
        part = np.asarray(weights[..., start : start + panels.columns], np.float64)
        half = np.tensordot(matrix, part, (1, 0))  # a, kw, ic, columns
        whole = np.tensordot(matrix, half, (1, 1))  # b, a, ic, columns
        panel = np.zeros((n, n, channels, -(-part.shape[3] // panels.lanes) * panels.lanes), np.float32)
        panel[..., : part.shape[3]] = whole.transpose(1, 0, 2, 3)
        parts.append(panel.reshape(-1))
    return np.concatenate(parts)


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """The main kernel, after the one that transforms the input where that goes ahead. ValueError when the
    problem is no 3x3 convolution of stride 1."""
    shape = Shape.of(problem)
    if shape is None:
        raise ValueError("Winograd takes 3x3 convolutions of stride 1, channels last")
    return _Winograd(problem, shape, chosen, target.lanes(F32), name).lowered()


class _Winograd:
    def __init__(self, problem: Contraction, shape: Shape, chosen: Schedule, lanes: int, name: str) -> None:
        values = chosen.values
        self.problem = problem
        self.shape = shape
        self.chosen = chosen
        self.name = name
        self.lanes = lanes
        self.m, self.block = values["m"], values["block"]
        self.rows, self.vectors = values["rows"], values["vectors"]
        self.panel_block, self.ahead = values["panel_block"], bool(values["ahead"])
        self.algorithm = winograd(self.m)
        self.n = self.algorithm.n
        self.channels = int(emit.known(shape.channel.extent, 0))
        self.lane = problem.right[-1]
        self.panels = Panels(self.lane.extent, self.vectors * lanes, lanes, True)
        tiles = [Axis(f"@tile{i}", p.tiles(self.m)) for i, p in enumerate(shape.planes)]
        self.tile_axes = (*shape.images, *tiles)
        self.tiles = emit.size(self.tile_axes)
        self.blocks = ceildiv(self.tiles, self.block)
        self.kind = VType(F32, lanes)
        self.moved = f"{name}_tiles" if self.ahead else "tiles"
        self.plane = self.block * self.channels  # elements of one plane of a block

    def lowered(self) -> Lowered:
        weights = f"{self.name}_rhs"
        packed = pack(self.problem, self.shape, self.panels, self.m)
        lowered = Lowered([], [], {weights: packed})
        if self.ahead:
            size = self.blocks * (self.n * self.n * self.plane)
            lowered.temporaries.append(Temporary(self.moved, F32, size))
            lowered.kernels.append(self._ahead_kernel())
        lowered.kernels.append(self._main_kernel(weights))
        return lowered

    # ---- the input

    def _ahead_kernel(self) -> Kernel:
        p, names = self.problem, Names()

        def one(i: DimLike) -> Body:
            index = emit.TASK * TASK_TILES + i
            block = index // self.block
            base = block * (self.n * self.n * self.plane) + (index - block * self.block) * self.channels
            return self._transform(names, index, base)

        body = names.loop("t", minimum(TASK_TILES, self.tiles - emit.TASK * TASK_TILES), one)
        buffers = (Buffer(p.lhs.buffer, F32), Buffer(self.moved, F32, True, True))
        moved = 4 * self.tiles * (self.n * self.n * self.channels)
        return Kernel(
            f"{self.name}_tile",
            buffers,
            p.dims,
            ceildiv(self.tiles, TASK_TILES),
            (self._patch(), *body),
            0,
            2 * moved,
            (("template", "winograd input"),),
        )

    def _patch(self) -> Tile:
        return Tile("patch", F32, self.n * self.n * self.channels)

    def _transform(self, names: Names, tile: DimLike, to: DimLike) -> Body:
        """Tile number ``tile`` into every plane, from element ``to`` of the first one on. A tile over the
        border goes through a patch that holds the fill value where the input is not."""
        position, bound = emit.decode(names, tile, self.tile_axes)
        lhs, body, origin = self.problem.lhs, list(bound), []
        images = {a.name: position[a.name] for a in self.shape.images}
        source = offset_at(lhs, images)
        for i, plane in enumerate(self.shape.planes):
            start, code = names.bind("o", position[f"@tile{i}"] * self.m)
            body += code
            origin.append(start)
            source = source + start * plane.stride
        base, code = names.bind("x", source)
        target, more = names.bind("y", to)
        body += [*code, *more]
        strides = [plane.stride for plane in self.shape.planes]
        direct = self._channels(names, lhs.buffer, base, strides, target)
        patch_strides: list[DimLike] = [self.n * self.channels, self.channels]
        patched = (
            *self._fill_patch(names, base, origin),
            *self._channels(names, "patch", 0, patch_strides, target),
        )
        conditions: list[Data] = []
        for start, plane in zip(origin, self.shape.planes, strict=True):
            conditions.append(emit.compare("ge", start, plane.low))
            conditions.append(emit.compare("le", start + self.n, plane.high))
        return (*body, *emit.when(emit.every(conditions), direct, patched))

    def _fill_patch(self, names: Names, base: DimLike, origin: list[DimLike]) -> Body:
        fill = self.problem.lhs.fill
        planes = self.shape.planes

        def pixel(i: DimLike, j: DimLike) -> Body:
            at = (i * self.n + j) * self.channels
            source = base + i * planes[0].stride + j * planes[1].stride

            def copied(c: DimLike, count: DimLike | None) -> Body:
                return (
                    Store(
                        "patch", at + c, Load(self.problem.lhs.buffer, source + c, self.kind, count), count
                    ),
                )

            def filled(c: DimLike, count: DimLike | None) -> Body:
                return (Store("patch", at + c, emit.literal(fill, F32, self.lanes), count),)

            conditions: list[Data] = []
            for start, offset, plane in zip(origin, (i, j), planes, strict=True):
                conditions.append(emit.compare("ge", start + offset, plane.low))
                conditions.append(emit.compare("lt", start + offset, plane.high))
            return emit.when(
                emit.every(conditions), self._vectors(names, copied), self._vectors(names, filled)
            )

        return names.loop("i", self.n, lambda i: names.loop("j", self.n, lambda j: pixel(i, j)))

    def _vectors(self, names: Names, body: Callable[[DimLike, DimLike | None], Body]) -> Body:
        """Over the channels by vectors, the last one partial."""
        full, rest = divmod(self.channels, self.lanes)
        code: Body = names.loop("c", full, lambda c: body(c * self.lanes, None))
        return (*code, *body(full * self.lanes, rest)) if rest else code

    def _channels(
        self, names: Names, buffer: str, base: DimLike, strides: list[DimLike], to: DimLike
    ) -> Body:
        def vector(c: DimLike, count: DimLike | None) -> Body:
            body: list[Stmt] = []
            grid: list[list[Data]] = []
            for i in range(self.n):
                row: list[Data] = []
                for j in range(self.n):
                    at = base + i * strides[0] + j * strides[1] + c
                    register = names.register("x", F32, self.lanes)
                    body.append(Let(register, Load(buffer, at, self.kind, count)))
                    row.append(register)
                grid.append(row)
            result, code = both_sides(self.algorithm.input, names, self.kind, grid)
            body += code
            for i, values in enumerate(result):
                for j, value in enumerate(values):
                    body.append(Store(self.moved, to + (i * self.n + j) * self.plane + c, value, count))
            return tuple(body)

        return self._vectors(names, vector)

    # ---- products and the way back

    def _main_kernel(self, weights: str) -> Kernel:
        p, names = self.problem, Names()
        groups = ceildiv(self.panels.count, self.panel_block)
        grid = (Axis("@block", self.blocks), Axis("@group", groups))
        position, bound = emit.decode(names, emit.TASK, grid)
        block, group = position["@block"], position["@group"]
        count, more = names.bind("count", minimum(self.block, self.tiles - block * self.block))
        body: list[Stmt] = [
            Tile("products", F32, self.n * self.n * self.block * self.panels.columns),
            Tile("results", F32, self.m * self.m * self.lanes), *bound, *more,
        ]  # fmt: skip
        base: DimLike = block * (self.n * self.n * self.plane)
        if not self.ahead:
            body += [Tile("tiles", F32, self.n * self.n * self.plane), self._patch()]
            body += names.loop(
                "t", count, lambda t: self._transform(names, block * self.block + t, t * self.channels)
            )
            base = 0
        first = group * self.panel_block
        full = self.panels.full
        body += names.loop(
            "p", minimum(self.panel_block, full - first),
            lambda i: self._panel(names, weights, first + i, base, block, count, self.vectors, None),
        )  # fmt: skip
        rest = emit.known(self.panels.rest, 0)
        if rest:
            vectors = -(-rest // self.lanes)
            partial = rest - (vectors - 1) * self.lanes
            tail = self._panel(
                names, weights, full, base, block, count, vectors, None if partial == self.lanes else partial
            )
            body += emit.when(emit.compare("eq", group, full // self.panel_block), tail)
        buffers = [] if self.ahead else [Buffer(p.lhs.buffer, F32)]
        buffers += [Buffer(self.moved, F32, aligned=True)] if self.ahead else []
        buffers += [Buffer(weights, F32, aligned=True), *p.epilogue.buffers]
        return Kernel(
            self.name, emit.kernel_buffers(buffers), emit.all_dims(p), emit.size(grid), tuple(body),
            emit.flops(p), emit.traffic(p), self.chosen.record(),
        )  # fmt: skip

    def _panel(
        self,
        names: Names,
        weights: str,
        panel: DimLike,
        base: DimLike,
        block: DimLike,
        count: DimLike,
        vectors: int,
        partial: int | None,
    ) -> Body:
        """One panel of output channels for every tile of the block."""
        columns, planes = vectors * self.lanes, self.n * self.n
        start = panel * self.panels.columns
        stored = start * (planes * self.channels)

        def product(q: DimLike) -> Body:
            return self._product(
                names, weights, stored + q * (self.channels * columns), base + q * self.plane, q, vectors
            )

        def back(t: DimLike) -> Body:
            position, bound = emit.decode(names, block * self.block + t, self.tile_axes)
            whole = vectors if partial is None else vectors - 1
            body = names.loop(
                "v", whole, lambda v: self._back(names, position, t, v * self.lanes, columns, start, None)
            )
            if partial is not None:
                body += self._back(names, position, t, whole * self.lanes, columns, start, partial)
            return (*bound, *body)

        return (*names.loop("q", planes, product), *names.loop("t", count, back))

    def _product(
        self, names: Names, weights: str, right_base: DimLike, base: DimLike, q: DimLike, vectors: int
    ) -> Body:
        """One plane: tiles x channels times channels x columns."""
        columns = vectors * self.lanes
        loops = [Fused(self.channels, (self.shape.channel,), (1, columns))]
        writer = TileWriter(self.problem, names, loops, self.lanes, "")
        lhs, rhs = Access(self.moved, F32, 0, {}), Access(weights, F32, 0, {})
        right_at, bound = names.bind("b", right_base)
        to, more = names.bind("to", q * (self.block * columns))
        right = Right(rhs, right_at, vectors, (columns,), ahead=self.chosen.values["prefetch"])

        def tile(first: DimLike, height: int) -> Body:
            rows = Rows(height, 1, lambda i, _: i * self.channels, lambda i, _: {})
            at, code = names.bind("a", base + first * self.channels)
            here = right
            if right.ahead and height == self.rows:  # the tiles fetch the next plane's panel between them
                panel, sharers = self.channels * columns, self.block // self.rows
                share = first // self.rows * (panel // sharers)
                after, more = names.bind("f", right_at + panel + share)
                here, code = replace(right, following=after, sharers=sharers), (*code, *more)
            sums, body = writer.sums(lhs, at, rows, here)
            stores = [
                Store("products", to + (first + i) * columns + v * self.lanes, r)
                for i, row in enumerate(sums) for v, r in enumerate(row)
            ]  # fmt: skip
            return (*code, *body, *stores)

        full, rest = divmod(self.block, self.rows)
        body = names.loop("m", full, lambda i: tile(i * self.rows, self.rows))
        tail = tile(full * self.rows, rest) if rest else ()
        return (*bound, *more, *body, *tail)

    def _back(
        self,
        names: Names,
        position: dict[str, DimLike],
        tile: DimLike,
        column: DimLike,
        columns: int,
        start: DimLike,
        count: int | None,
    ) -> Body:
        """One vector of channels of one tile: back to outputs, and the epilogue of those that exist."""
        m, p = self.m, self.problem
        body: list[Stmt] = []
        grid: list[list[Data]] = []
        for i in range(self.n):
            row: list[Data] = []
            for j in range(self.n):
                at = ((i * self.n + j) * self.block + tile) * columns + column
                register = names.register("x", F32, self.lanes)
                body.append(Let(register, Load("products", at, self.kind)))
                row.append(register)
            grid.append(row)
        result, code = both_sides(self.algorithm.output, names, self.kind, grid)
        body += code
        body += [
            Store("results", (i * m + j) * self.lanes, v)
            for i, r in enumerate(result)
            for j, v in enumerate(r)
        ]
        zeros = singles((*p.batch, *p.left, *p.right))
        images = {a.name: position[a.name] for a in self.shape.images}
        first = [position[f"@tile{i}"] * m for i in range(2)]
        outputs = [plane.output for plane in self.shape.planes]

        def one(i: DimLike, j: DimLike) -> Body:
            where = {**zeros, **images, outputs[0].name: first[0] + i, outputs[1].name: first[1] + j}
            where[self.lane.name] = start + column
            value = Load("results", (i * m + j) * self.lanes, self.kind)
            return tuple(p.epilogue.emit(where, value, self.lanes, count))

        limits = [minimum(m, o.extent - f) for o, f in zip(outputs, first, strict=True)]
        body += names.loop("i", limits[0], lambda i: names.loop("j", limits[1], lambda j: one(i, j)))
        return tuple(body)

"""Depthwise convolution: one channel per group, vectors along the channels (the last batch axis).

A tile is ``pixels`` neighbouring outputs of one vector of channels; each input column is loaded once per row
of the window and used by every output it reaches. Rows of the window that lie outside are skipped and
columns outside are zero, so nothing is copied.

Parameters: ``pixels``, ``row_block`` (output rows per task).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from vitrify.ir.dims import DimLike, ceildiv, maximum, minimum
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import offset_at, singles
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.panels import dense
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.loop import Assign, Buffer, Kernel, Let, Load, Register, Stmt, VType, zero
from vitrify.lower.target import Target

TASK_BYTES = 1 << 17
MOST_TAPS = 11  # in the direction that is unrolled


@dataclass(frozen=True)
class Window:
    """A contracted axis, the output axis it slides along, in steps of ``step`` and with ``dilation``."""

    axis: Axis
    output: Axis | None
    step: int
    dilation: int
    bound: Bound | None


@dataclass(frozen=True)
class Shape:
    channel: Axis
    outer: tuple[Axis, ...]  # everything but the channels and the row axis
    row: Axis  # outputs along it make a tile
    windows: tuple[Window, ...]  # the last one along the row

    @staticmethod
    def of(problem: Contraction) -> Shape | None:
        """None for what this template does not compute."""
        p = problem
        if p.right or not p.batch or not p.accumulate.is_float or p.lhs.dtype is not p.accumulate:
            return None
        channel = p.batch[-1]
        if channel.extent == 1 or p.lhs.strides.get(channel.name) != 1 or (p.lhs.bounds and p.lhs.fill != 0):
            return None
        weights_fit = (emit.packable(p) and isinstance(channel.extent, int)) or (
            p.rhs.dtype is p.accumulate and p.rhs.strides.get(channel.name) == 1 and not p.rhs.bounds
        )
        if not weights_fit or any(channel.name in b.strides for b in (*p.lhs.bounds, *p.rhs.bounds)):
            return None
        windows = [
            _window(p, a)
            for a in p.contracted
            if a.extent != 1 or any(a.name in b.strides for b in p.lhs.bounds)
        ]
        if not windows or any(w is None for w in windows):
            return None
        found = [w for w in windows if w is not None]
        if sum(w.bound is not None for w in found) != len(p.lhs.bounds):
            return None
        last = found[-1]
        if last.output is None or not isinstance(last.axis.extent, int) or last.axis.extent > MOST_TAPS:
            return None
        outer = tuple(a for a in (*p.batch[:-1], *p.left) if a.name != last.output.name)
        return Shape(channel, outer, last.output, tuple(found))


def _window(problem: Contraction, axis: Axis) -> Window | None:
    """How a contracted axis slides; None when its bound is not of that kind."""
    bound = next((b for b in problem.lhs.bounds if axis.name in b.strides), None)
    strides = problem.lhs.strides
    if bound is not None:
        others = [n for n in bound.strides if n != axis.name]
        output = next((a for a in problem.left if others == [a.name]), None)
        dilation = bound.strides[axis.name]
        if dilation <= 0 or output is None or bound.strides[output.name] <= 0:
            return None
        return Window(axis, output, bound.strides[output.name], dilation, bound)
    own = strides.get(axis.name, 0)
    for other in problem.left:
        theirs = strides.get(other.name, 0)
        if isinstance(own, int) and isinstance(theirs, int) and own > 0 and theirs > 0:
            unit = gcd(own, theirs)
            if own // unit <= 8 and theirs // unit <= 8:
                return Window(axis, other, theirs // unit, own // unit, None)
    return Window(axis, None, 1, 1, None)


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """Tiles that divide the row where possible; None where the template does not apply."""
    shape = Shape.of(problem)
    if shape is None:
        return None
    most = 14 if target.vector_registers >= 32 else 7
    width = emit.known(shape.row.extent, 56)
    pixels = min(range(1, min(most, width) + 1), key=lambda p: (-(-width // p), p))
    item = problem.accumulate.itemsize
    channels = emit.known(shape.channel.extent, 64)
    per_row = max(1, width * channels * item * 2)
    return Schedule.of("depthwise", pixels=pixels, row_block=max(1, TASK_BYTES // per_row))


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """One kernel. ValueError when the problem is no depthwise convolution."""
    shape = Shape.of(problem)
    if shape is None:
        raise ValueError("not a depthwise convolution with channels last")
    lowered = Lowered([])
    if emit.packable(problem) and isinstance(shape.channel.extent, int):
        axes = (
            *(a for a in problem.batch[:-1] if a.name in problem.rhs.strides),
            *problem.contracted,
            shape.channel,
        )
        packed = np.ascontiguousarray(dense(problem.rhs, axes), problem.accumulate.numpy)
        lowered.constants[f"{name}_rhs"] = packed
        strides: dict[str, DimLike] = {}
        step = 1
        for axis, extent in zip(reversed(axes), reversed(packed.shape), strict=True):
            strides[axis.name] = step
            step *= extent
        rhs = Access(f"{name}_rhs", problem.accumulate, 0, strides)
    else:
        rhs = problem.rhs
    lowered.kernels.append(_Depthwise(problem, shape, rhs, chosen, target, name).kernel())
    return lowered


class _Depthwise:
    def __init__(
        self, problem: Contraction, shape: Shape, rhs: Access, chosen: Schedule, target: Target, name: str
    ) -> None:
        self.problem = problem
        self.shape = shape
        self.rhs = rhs
        self.chosen = chosen
        self.name = name
        self.names = Names()
        self.lanes = target.lanes(problem.accumulate)
        extent = shape.channel.extent
        while isinstance(extent, int) and self.lanes > 4 and self.lanes // 2 >= extent:
            self.lanes //= 2
        self.kind = VType(problem.accumulate, self.lanes)
        self.pixels = chosen.values["pixels"]

    def kernel(self) -> Kernel:
        p, rows = self.problem, emit.size(self.shape.outer)
        chunk = self.chosen.values["row_block"]
        if isinstance(rows, int):
            chunk = max(1, min(chunk, rows))
        first = emit.TASK * chunk

        def row(i: DimLike) -> Body:
            position, bound = emit.decode(self.names, first + i, self.shape.outer)
            return (*bound, *self._row(position))

        body = self.names.loop("u", minimum(chunk, rows - first), row)
        buffers = [Buffer(p.lhs.buffer, p.lhs.dtype), Buffer(self.rhs.buffer, self.rhs.dtype)]
        return Kernel(
            self.name,
            emit.kernel_buffers([*buffers, *p.epilogue.buffers]),
            emit.all_dims(p),
            ceildiv(rows, chunk),
            body,
            emit.flops(p),
            emit.traffic(p),
            self.chosen.record(),
        )

    def _row(self, position: dict[str, DimLike]) -> Body:
        """One row of outputs: tiles, and for each all channels."""
        width = self.shape.row.extent
        full = width // self.pixels
        rest = width - full * self.pixels
        body = self.names.loop("m", full, lambda t: self._pixels(position, t * self.pixels, self.pixels))
        if isinstance(rest, int):
            return (*body, *(self._pixels(position, full * self.pixels, rest) if rest else ()))
        one = self.names.loop("m", rest, lambda i: self._pixels(position, full * self.pixels + i, 1))
        return (*body, *one)

    def _pixels(self, position: dict[str, DimLike], start: DimLike, pixels: int) -> Body:
        begin, bound = self.names.bind("m", start)
        extent, lanes = self.shape.channel.extent, self.lanes
        full = extent // lanes
        rest = extent - full * lanes
        ranges, more = self._window_ranges(position)

        def channels(c: DimLike, count: DimLike | None) -> Body:
            return self._tile({**position, self.shape.channel.name: c}, ranges, begin, pixels, count)

        body = self.names.loop("c", full, lambda c: channels(c * lanes, None))
        if rest == 0:
            return (*bound, *more, *body)
        tail = channels(full * lanes, rest)
        if not isinstance(rest, int):
            tail = emit.when(emit.compare("gt", rest, 0), tail)
        return (*bound, *more, *body, *tail)

    def _window_ranges(self, position: dict[str, DimLike]) -> tuple[list[tuple[DimLike, DimLike]], Body]:
        """For each window axis but the last: its first tap inside, and how many there are."""
        ranges: list[tuple[DimLike, DimLike]] = []
        body: list[Stmt] = []
        for w in self.shape.windows[:-1]:
            if w.bound is None or w.output is None:
                ranges.append((0, w.axis.extent))
                continue
            at = w.bound.offset + position[w.output.name] * w.step
            low, code = self.names.bind("low", emit.clamp(ceildiv(-at, w.dilation), 0, w.axis.extent))
            body += code
            end = emit.clamp(ceildiv(w.bound.extent - at, w.dilation), 0, w.axis.extent)
            count, code = self.names.bind("taps", maximum(end - low, 0))
            body += code
            ranges.append((low, count))
        return ranges, tuple(body)

    def _tile(
        self,
        position: dict[str, DimLike],
        ranges: list[tuple[DimLike, DimLike]],
        start: DimLike,
        pixels: int,
        count: DimLike | None,
    ) -> Body:
        p, last, row = self.problem, self.shape.windows[-1], self.shape.row.name
        tag = self.names.fresh("t")
        sums = [Register(f"{tag}_{i}", self.kind) for i in range(pixels)]
        body: list[Stmt] = [Let(s, zero(self.kind.dtype, self.lanes)) for s in sums]

        def taps(depth: int, at: dict[str, DimLike]) -> Body:
            if depth == len(ranges):
                return self._columns({**position, **at}, start, sums, count)
            low, many = ranges[depth]
            axis = self.shape.windows[depth].axis.name
            return self.names.loop("k", many, lambda k: taps(depth + 1, {**at, axis: low + k}))

        zeros = singles((*p.batch, *p.left, *p.contracted))
        fixed = {**zeros, last.axis.name: 0, row: start}
        body += taps(0, fixed)
        for i, s in enumerate(sums):
            where = {**singles((*p.batch, *p.left)), **position, row: start + i}
            body += p.epilogue.emit(where, s, self.lanes, count)
        return tuple(body)

    def _columns(
        self, at: dict[str, DimLike], start: DimLike, sums: list[Register], count: DimLike | None
    ) -> Body:
        """One row of the window: every input column once."""
        p, last = self.problem, self.shape.windows[-1]
        many = int(emit.known(last.axis.extent, 1))
        stride = p.lhs.strides.get(last.axis.name, 0)
        unit = stride // last.dilation if many > 1 else p.lhs.strides.get(self.shape.row.name, 0) // last.step
        base, bound = self.names.bind("x", offset_at(p.lhs, at))
        weights, more = self.names.bind("w", offset_at(self.rhs, at))
        body: list[Stmt] = [*bound, *more]
        taps = [self.names.register("w", self.kind.dtype, self.lanes) for _ in range(many)]
        for k, register in enumerate(taps):
            index = weights + k * self.rhs.strides.get(last.axis.name, 0)
            body.append(Let(register, Load(self.rhs.buffer, index, self.kind, count)))
        columns: dict[int, list[tuple[int, int]]] = {}
        for i in range(len(sums)):
            for k in range(many):
                columns.setdefault(i * last.step + k * last.dilation, []).append((i, k))

        def walk(checked: bool) -> Body:
            code: list[Stmt] = []
            for column, uses in sorted(columns.items()):
                x = self.names.register("x", self.kind.dtype, self.lanes)
                value = Load(p.lhs.buffer, base + column * unit, self.kind, count)
                if checked and last.bound is not None:
                    place = last.bound.offset + start * last.step + column
                    inside = emit.every(
                        [emit.compare("ge", place, 0), emit.compare("lt", place, last.bound.extent)]
                    )
                    code.append(Let(x, zero(self.kind.dtype, self.lanes)))
                    code += emit.when(inside, (Assign(x, value),))
                else:
                    code.append(Let(x, value))
                code += [Assign(sums[i], emit.multiply_add(x, taps[k], sums[i])) for i, k in uses]
            return tuple(code)

        if last.bound is None:
            return (*body, *walk(False))
        first = last.bound.offset + start * last.step
        whole = emit.every(
            [emit.compare("ge", first, 0), emit.compare("lt", first + max(columns), last.bound.extent)]
        )
        return (*body, *emit.when(whole, walk(False), walk(True)))

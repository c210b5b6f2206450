"""Contractions with weights of a few bits: memory holds the codes, registers what they stand for.

A tile takes ``rows`` rows and ``vectors`` vectors of columns; each vector of codes is turned into weights once for
all rows of it, ``(code - point) * scale`` in f32 as the graph says. Sums go over the terms in order, whatever the
tile, so the bits depend on neither the number of rows nor that of threads.

Parameters: ``rows``, ``vectors``, ``block`` (terms that share a scale), ``bits`` (of a code), ``tiles`` (per task).
"""

from __future__ import annotations

from functools import partial

from vitrify.ir.dims import Dim, DimLike, ceildiv, minimum
from vitrify.ir.dtypes import BF16, F32, I32, U8
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import fuse, offset_at, singles
from vitrify.lower.contract.codes import Codes, packed, per_block
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.problem import Axis, Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.loop import (
    Apply,
    Assign,
    Buffer,
    Convert,
    Data,
    For,
    Kernel,
    Let,
    Load,
    Register,
    Stmt,
    VType,
    zero,
)
from vitrify.lower.target import Target

VECTORS = 2
TILES = 8
FEW_ROWS = 16  # up to which matrix registers in bf16 are no faster than reading a quarter of the memory


def _codes(problem: Contraction) -> Codes | None:
    """The right operand's codes, [terms, columns]."""
    p, codes = problem, problem.rhs.codes
    if codes is None or len(p.right) != 1 or len(p.contracted) != 1 or p.batch or p.rhs.offset != 0 or p.rhs.bounds:
        return None
    term, column = (p.rhs.strides.get(a.name, 0) for a in (p.contracted[0], p.right[0]))
    if (p.contracted[0].extent, p.right[0].extent) == codes.numbers.shape and (term, column) == (p.right[0].extent, 1):
        return codes
    codes = codes.turned
    whole = (p.contracted[0].extent, p.right[0].extent) == codes.numbers.shape
    return codes if whole and (term, column) == (1, p.contracted[0].extent) else None


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """None for weights that are no codes, blocks that do not divide the terms, and left operands with bounds."""
    p, codes = problem, _codes(problem)
    if codes is None or p.accumulate is not F32 or not p.lhs.dtype.is_float or p.lhs.bounds:
        return None
    rows = emit.size(p.left)
    if p.precision is BF16 and target.has("amx-bf16") and emit.known(rows, 1) > FEW_ROWS:
        return None
    block = codes.block()
    registers = 10 if target.vector_registers == 32 else 4
    height = min(registers, max(1, emit.known(rows, registers)))
    found = Schedule.of("coded", rows=height, vectors=VECTORS, block=block, bits=codes.bits, tiles=TILES)
    return found if block else None


def lower(problem: Contraction, target: Target, chosen: Schedule, name: str) -> Lowered:
    """One kernel, no temporaries. ValueError for weights that are no codes."""
    codes = _codes(problem)
    if codes is None:
        raise ValueError("coded takes weights that are codes")
    values = chosen.values
    columns = values["vectors"] * target.lanes(F32)
    constants = {
        f"{name}_codes": packed(codes, columns),
        f"{name}_scales": per_block(codes.scales, values["block"], columns),
    }
    point = float(codes.points.flat[0])
    if bool((codes.points != point).any()):
        constants[f"{name}_points"] = per_block(codes.points, values["block"], columns)
    writer = _Coded(problem, chosen, target.lanes(F32), name, None if f"{name}_points" in constants else point)
    return Lowered([writer.kernel()], [], constants)


class _Coded:
    """The kernel of one lowering. ``point``: the zero point of every block, where there is but one."""

    def __init__(self, problem: Contraction, chosen: Schedule, lanes: int, name: str, point: float | None) -> None:
        self.problem, self.chosen, self.lanes, self.name, self.point = problem, chosen, lanes, name, point
        self.values = chosen.values
        self.names = Names()
        self.kind = VType(F32, lanes)
        self.columns = lanes * self.values["vectors"]
        self.terms = emit.known(problem.contracted[0].extent, 1)
        self.rows = emit.size(problem.left)
        left = fuse(problem.left, [problem.lhs])
        self.pitch = 0 if not left else left[0].strides[0] if len(left) == 1 else None

    def kernel(self) -> Kernel:
        p, n = self.problem, emit.known(self.problem.right[0].extent, 1)
        each = self.values["rows"] * self.values["tiles"]
        panels, full = -(-n // self.columns), n // self.columns
        grid = (Axis("@panel", panels), Axis("@rows", ceildiv(self.rows, each)))
        position, bound = emit.decode(self.names, emit.TASK, grid)
        panel, start = position["@panel"], position["@rows"] * each
        count, more = self.names.bind("rows", minimum(each, self.rows - start))
        body = self._block(panel, start, count, self.values["vectors"], None)
        if full < panels:
            rest = n - full * self.columns
            vectors = -(-rest // self.lanes)
            last = self._block(panel, start, count, vectors, rest - (vectors - 1) * self.lanes)
            body = last if full == 0 else emit.when(emit.compare("lt", panel, full), body, last)
        buffers = [Buffer(p.lhs.buffer, p.lhs.dtype), Buffer(f"{self.name}_codes", U8)]
        buffers += [Buffer(f"{self.name}_scales", F32)]
        buffers += [Buffer(f"{self.name}_points", F32)] if self.point is None else []
        return Kernel(
            self.name, emit.kernel_buffers([*buffers, *p.epilogue.buffers]), emit.all_dims(p), emit.size(grid),
            (*bound, *more, *body), emit.flops(p), emit.traffic(p), self.chosen.record(),
        )  # fmt: skip

    def _block(self, panel: DimLike, start: DimLike, count: DimLike, vectors: int, last: int | None) -> Body:
        """Whole tiles, then halves of halves of one: every height is compiled."""
        height = self.values["rows"]

        def tile(at: DimLike, rows: int, i: DimLike) -> Body:
            return self._tile(panel, start + at + i * rows, rows, vectors, last)

        full = count // height
        body = self.names.loop("m", full, partial(tile, 0, height)) if full != 0 else ()
        rest = count - full * height
        if isinstance(rest, int):
            return (*body, *tile(full * height, rest, 0)) if rest else body
        rows = 1 << (height - 1).bit_length() >> 1
        while rows:
            at = full * height + rest // (2 * rows) * (2 * rows)
            body = (*body, *self.names.loop("m", rest // rows % 2, partial(tile, at, rows)))
            rows //= 2
        return body

    def _tile(self, panel: DimLike, start: DimLike, height: int, vectors: int, last: int | None) -> Body:
        p, block = self.problem, self.values["block"]
        row, bound = self.names.bind("row", start)
        where = [emit.split(row + i, p.left) if p.left else {} for i in range(height)]
        bases: list[DimLike] = []
        body: list[Stmt] = [*bound]
        for i, position in enumerate(where):
            if self.pitch is not None:
                at = p.lhs.offset + (row + i) * self.pitch
            else:
                at = offset_at(p.lhs, position)
            base, more = self.names.bind("a", at)
            bases.append(base)
            body += more
        sums = [[self.names.register("sum", F32, self.lanes) for _ in range(vectors)] for _ in range(height)]
        body += [Let(s, zero(F32, self.lanes)) for line in sums for s in line]
        variable = Dim.index(self.names.fresh("block"), self.terms // block)
        body.append(For(variable, self.terms // block, self._terms(panel, variable, bases, sums)))
        lane = p.right[0].name
        column, more = self.names.bind("n", panel * self.columns)
        body += more
        zeros = singles((*p.left, *p.right))
        for position, line in zip(where, sums, strict=True):
            for v, value in enumerate(line):
                count = last if v == vectors - 1 and last != self.lanes else None
                at_lane = {**zeros, **position, lane: column + v * self.lanes}
                body += p.epilogue.emit(at_lane, value, self.lanes, count)
        return tuple(body)

    def _terms(self, panel: DimLike, number: DimLike, bases: list[DimLike], sums: list[list[Register]]) -> Body:
        """The terms of one block: its scales and zero points stay in registers."""
        block, bits = self.values["block"], self.values["bits"]
        each = 8 // bits
        at = (panel * (self.terms // block) + number) * self.columns
        parts = range(len(sums[0]))
        body: list[Stmt] = []
        scales: list[list[Data]] = []
        points: list[list[Data]] = []
        for v in parts:
            scale = self._held(body, "scale", Load(f"{self.name}_scales", at + v * self.lanes, self.kind))
            point: Data
            if self.point is None:
                point = self._held(body, "point", Load(f"{self.name}_points", at + v * self.lanes, self.kind))
            else:
                point = emit.literal(self.point, F32, self.lanes)
            scales.append([scale])
            points.append([point])
            if each == 2:  # a high half stands for sixteen times its code
                sixteenth = Apply("mul", (scale, emit.literal(1 / 16, F32, self.lanes)))
                scales[v].append(self._held(body, "scale", sixteenth))
                if self.point is None:
                    more: Data = Apply("mul", (point, emit.literal(16, F32, self.lanes)))
                    points[v].append(self._held(body, "point", more))
                else:
                    points[v].append(emit.literal(16 * self.point, F32, self.lanes))
        step = Dim.index(self.names.fresh("k"), block // each)
        codes = (panel * (self.terms // each) + number * (block // each) + step) * self.columns
        inside: list[Stmt] = []
        bytes_: list[Register] = []
        for v in parts:
            loaded = Convert(Load(f"{self.name}_codes", codes + v * self.lanes, VType(U8, self.lanes)), I32)
            bytes_.append(self._held(inside, "codes", loaded))
        for half in range(each):
            term = number * block + step * each + half
            weights = [self._weight(inside, bytes_[v], half, points[v][half], scales[v][half]) for v in parts]
            self._add(inside, term, bases, weights, sums)
        return (*body, For(step, block // each, tuple(inside)))

    def _held(self, body: list[Stmt], stem: str, value: Data) -> Register:
        register = self.names.register(stem, value.type.dtype, self.lanes)
        body.append(Let(register, value))
        return register

    def _weight(self, body: list[Stmt], codes: Register, half: int, point: Data, scale: Data) -> Register:
        own: Data = codes
        if self.values["bits"] == 4:
            own = Apply("and", (codes, emit.literal(240 if half else 15, I32, self.lanes)))
        return self._held(body, "w", Apply("mul", (Apply("sub", (Convert(own, F32), point)), scale)))

    def _add(
        self, body: list[Stmt], term: DimLike, bases: list[DimLike], weights: list[Register], sums: list[list[Register]]
    ) -> None:  # fmt: skip
        lhs = self.problem.lhs
        stride = lhs.strides.get(self.problem.contracted[0].name, 0)
        for base, line in zip(bases, sums, strict=True):
            factor = self.names.register("x", F32)
            body.append(Let(factor, emit.convert(emit.load(lhs, base + term * stride), F32)))
            wide = emit.splat(factor, self.lanes)
            body += [Assign(s, emit.multiply_add(wide, w, s)) for s, w in zip(line, weights, strict=True)]

"""Parameters of the register-tiled template by a model of its cost: cycles of each tile shape that occurs,
whether the panels stay in cache, and how work divides into tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitrify.ir.dims import Dim
from vitrify.lower.contract import copying, emit, gemm
from vitrify.lower.contract.axes import fuse
from vitrify.lower.contract.problem import Contraction
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.target import Target

GUESS = 64  # what a symbolic extent is taken for
TASK_FLOPS = 3 << 19  # work worth handing to another thread
LEAST_FLOPS = 3 << 18  # some 4 us, worth being halved: to divide a kernel costs half a microsecond
MOST_TASKS = 24
STREAM = 5.0  # bytes per cycle and core from beyond the second cache
COLD_BYTES = 1 << 17  # weights below that may have stayed in the second cache
FEW_TILES = 24  # rows of tiles per panel up to which fetching weights ahead shows
VERY_FEW_TILES = 8  # up to which they are not divided among tasks
FEWEST_PANELS = 8  # that are tasks enough without
FETCH_TERMS = 32  # of a sum, from which on an epilogue's lines are fetched before it
PREFETCH = 12  # rows of a panel: some 200 cycles


@dataclass(frozen=True)
class Shape:
    """Extents as numbers: ``outer`` products of ``units`` x ``rows`` x ``inner`` rows, N columns, K terms."""

    outer: int
    units: int
    rows: int
    inner: int
    n: int
    k: int
    symbolic_rows: bool
    symbolic_columns: bool

    @property
    def flops(self) -> int:
        return 2 * self.outer * self.units * self.rows * self.inner * self.n * self.k


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """The cheapest tile and division; None where the template does not apply."""
    found = estimate(problem, target)
    return found[1] if found is not None else None


def estimate(problem: Contraction, target: Target) -> tuple[float, Schedule] | None:
    """The schedule, and the cycles it takes on one core."""
    if not problem.right or (problem.right[-1].extent == 1 and problem.rhs.constant is None):
        return None
    parts = copying.coordinates(problem.lhs, (*problem.batch, *problem.left, *problem.contracted))
    copied = bool(problem.lhs.bounds) or problem.lhs.dtype is not problem.accumulate
    if copied and parts is None:
        return None
    right = _right_mode(problem)
    best: tuple[float, Schedule] | None = None
    moved = copying.Copy.of(problem, "copy").moved() if copied else problem
    for inner in (False, True):
        geometry = gemm.Geometry.of(moved, right == gemm.IN_PLACE, inner)
        if inner and (geometry.inner is None or not isinstance(geometry.inner.extent, int)):
            continue
        shape = _shape(moved, geometry)
        for rows, vectors in _tiles(problem, target, shape):
            cycles = _cycles(problem, target, shape, rows, vectors)
            if best is None or cycles < best[0]:
                best = cycles, _divide(problem, target, shape, rows, vectors, right, copied, inner)
    return best


def _right_mode(problem: Contraction) -> int:
    rhs = problem.rhs
    if emit.packable(problem):
        return gemm.PACKED
    lane = problem.right[-1].name
    if rhs.bounds or rhs.strides.get(lane, 0) != 1 or rhs.dtype is not problem.accumulate:
        return gemm.PACKED_BY_KERNEL
    rows = emit.known(emit.size(problem.left), GUESS)
    k = [rhs.strides.get(a.name, 0) for a in problem.contracted if a.extent != 1]
    span = max((emit.known(a.extent, GUESS) * rhs.dtype.itemsize * emit.known(s, 1 << 10) for a, s in zip(
        [a for a in problem.contracted if a.extent != 1], k, strict=True)), default=0)  # fmt: skip
    return gemm.PACKED_BY_KERNEL if rows >= 64 and span > 1 << 18 else gemm.IN_PLACE


def _shape(problem: Contraction, g: gemm.Geometry) -> Shape:
    units = [a for u in g.units for a in u.parts]
    return Shape(
        emit.known(emit.size(g.outer), GUESS),
        emit.known(emit.size(units), GUESS),
        emit.known(g.row.extent, GUESS),
        g.width,
        emit.known(problem.right[-1].extent, GUESS),
        max(emit.known(g.k, GUESS), 1),
        isinstance(g.row.extent, Dim),
        isinstance(problem.right[-1].extent, Dim),
    )


def _tiles(problem: Contraction, target: Target, shape: Shape) -> Iterator[tuple[int, int]]:
    """Tile shapes that fit the registers: accumulators, one row of columns, one broadcast."""
    lanes = gemm.lanes_of(problem, target)
    most = max(-(-shape.n // lanes), 1)
    for vectors in range(1, min(most, 8) + 1):
        if shape.symbolic_columns and vectors > 3:
            break
        if shape.symbolic_rows and vectors < min(most, 3):
            continue  # rows may turn out to be one, and one row needs vectors to overlap
        for rows in range(1, shape.rows + 1):
            total = rows * shape.inner
            if total > 16 or (total * vectors + vectors + 1 > target.vector_registers):
                break
            if shape.symbolic_rows and rows & (rows - 1):
                continue
            yield rows, vectors


def tile_cycles(target: Target, item: int, rows: int, vectors: int, k: int, panel_columns: int) -> float:
    """Cycles of one register tile, without what follows the sums: two multiply-adds and two loads start per
    cycle, a chain waits four, and panels stream from the second cache where they exceed the first one."""
    panel_bytes = k * panel_columns * item
    streamed = panel_bytes > target.l1_bytes // 2
    slow = panel_bytes > target.l2_bytes * 0.7
    stream = vectors * target.vector_bytes / (12 if slow else 32) if streamed else 0.0
    compute, loads = rows * vectors / 2, (rows + vectors) / 2
    return k * (max(compute, loads, 4.0, stream) + 0.05 * loads + 0.125 * stream + 0.3) + 15


def _cycles(problem: Contraction, target: Target, shape: Shape, rows: int, vectors: int) -> float:
    """Cycles of the whole product with this tile."""
    lanes = gemm.lanes_of(problem, target)
    columns = vectors * lanes

    def tile(height: int, width: int) -> float:
        total = height * shape.inner
        sums = tile_cycles(target, problem.accumulate.itemsize, total, width, shape.k, columns)
        return sums + total * width * (1.5 + problem.epilogue.cost) / 2

    heights = pieces(shape.rows, rows, shape.symbolic_rows)
    widths = [(shape.n // columns, vectors)]
    rest = -(-(shape.n % columns) // lanes)
    if rest:
        widths.append((1, rest))
    cycles = shape.units * sum(p * q * tile(h, w) for p, h in heights for q, w in widths)
    if _cold(problem, shape) and heights:  # the first tile of each panel waits for memory
        first = heights[0][1] * shape.inner
        waits = sum(q * w * max(0.0, target.vector_bytes / STREAM - first / 2) for q, w in widths)
        cycles += shape.k * waits
    return shape.outer * cycles


def _cold(problem: Contraction, shape: Shape) -> bool:
    """Whether weights come from memory: other layers' have taken their place in the caches."""
    return problem.rhs.constant is not None and shape.k * shape.n * problem.accumulate.itemsize > COLD_BYTES


def pieces(extent: int, rows: int, ladder: bool) -> list[tuple[int, int]]:
    full, rest = divmod(extent, rows)
    pieces = [(full, rows)] if full else []
    if not ladder:
        return pieces + ([(1, rest)] if rest else [])
    step = 1 << (rows - 1).bit_length() >> 1
    while step:
        if rest & step:
            pieces.append((1, step))
        step >>= 1
    return pieces


def _divide(
    problem: Contraction,
    target: Target,
    shape: Shape,
    rows: int,
    vectors: int,
    right: int,
    copied: bool,
    inner: bool,
) -> Schedule:
    """Blocks of rows and panels such that tasks are many enough, large enough, and read little twice."""
    lanes = gemm.lanes_of(problem, target)
    panels = -(-shape.n // (vectors * lanes))
    steps = shape.units if shape.units > 1 or _has_units(problem, inner) else max(shape.rows // rows, 1)
    per_outer = shape.flops / max(shape.outer, 1)
    least = 2 if shape.flops >= LEAST_FLOPS else 1
    wanted = max(least, min(MOST_TASKS, round(shape.flops / TASK_FLOPS)))
    wanted = -(-wanted // max(shape.outer, 1)) if per_outer > TASK_FLOPS // 4 else 1
    item = problem.accumulate.itemsize
    lhs_bytes = shape.units * shape.rows * shape.inner * shape.k * item
    rhs_bytes = shape.k * shape.n * item
    ahead = shape.units == 1 and not shape.symbolic_rows and _cold(problem, shape)
    if ahead and steps <= VERY_FEW_TILES and panels >= FEWEST_PANELS:
        groups, blocks = min(panels, wanted), 1  # a panel is read by one task alone
    else:
        groups, blocks = _groups(target, panels, steps, wanted, lhs_bytes, rhs_bytes)
    row_block, panel_block = -(-steps // blocks), -(-panels // groups)
    if shape.symbolic_rows or any(isinstance(a.extent, Dim) for a in problem.left):
        row_block = max(1, round(TASK_FLOPS * groups / max(1.0, per_outer / steps)))
    alone = _single(problem, shape, panels, steps, row_block, panel_block)
    copy = (gemm.COPIED_BY_TASK if alone else gemm.COPIED_BY_KERNEL) if copied else gemm.NOT_COPIED
    tiles = max(steps if shape.units == 1 else shape.units * -(-shape.rows // rows), 1) / blocks
    far = _cold(problem, shape) and tiles <= FEW_TILES
    return Schedule.of(
        "gemm",
        rows=rows,
        inner=int(inner),
        vectors=vectors,
        row_block=row_block,
        panel_block=panel_block,
        by_rows=int(shape.outer * rhs_bytes <= target.l2_bytes),
        copy=copy,
        right=right,
        prefetch=PREFETCH if far else 0,
        lookahead=row_block if ahead and vectors <= row_block <= FEW_TILES else 0,
        fetch=int(_fetched(problem, target, shape)),
    )


def _groups(
    target: Target, panels: int, steps: int, wanted: int, lhs_bytes: int, rhs_bytes: int
) -> tuple[int, int]:
    """Groups of panels and blocks of rows that together are ``wanted`` tasks and read the least."""
    best: tuple[float, int, int] = (float("inf"), 1, 1)
    for groups in range(1, min(panels, wanted) + 1):
        blocks = min(-(-wanted // groups), steps)
        if groups * blocks < min(wanted, panels * steps) * 3 // 4:
            continue
        spill = 4.0 if lhs_bytes / blocks > target.l2_bytes / 2 and panels > groups else 1.0
        best = min(best, (blocks * rhs_bytes + groups * lhs_bytes * spill, groups, blocks))
    return best[1:]


def _fetched(problem: Contraction, target: Target, shape: Shape) -> bool:
    """Whether results (and what is added to them) come from beyond the first cache, and sums are long enough
    to hide that."""
    results = shape.outer * shape.units * shape.rows * shape.inner * shape.n
    return shape.k >= FETCH_TERMS and results * problem.accumulate.itemsize > target.l1_bytes


def _has_units(problem: Contraction, inner: bool) -> bool:
    return len(fuse(problem.left, [problem.lhs])) > (2 if inner else 1)


def _single(
    problem: Contraction, shape: Shape, panels: int, steps: int, row_block: int, panel_block: int
) -> bool:
    """Whether all of it is one task for sure, of a size that scratch memory can have."""
    axes = (*problem.batch, *problem.left, *problem.right, *problem.contracted)
    static = all(isinstance(a.extent, int) for a in axes)
    return static and shape.outer == 1 and panel_block >= panels and row_block >= steps

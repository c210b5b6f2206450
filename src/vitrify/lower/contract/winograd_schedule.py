"""Whether Winograd pays, with which tile, and how its work divides into tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitrify.lower.contract import emit, gemm_schedule
from vitrify.lower.contract.problem import Contraction
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.contract.transforms import winograd
from vitrify.lower.contract.winograd import Shape
from vitrify.lower.target import Target

LEAST_CHANNELS = 16
GUESS = 32  # a symbolic output extent
ITEM = 4
LOST_PER_TASK = 0.05  # of the time, for each task that a second and third core would miss
MOST_TILES = 64  # in a block
PREFETCH = 64  # rows of a panel: a row of it is used every eight cycles
MARGIN = 0.92  # of the direct time that Winograd has to stay under, for its loss of accuracy


@dataclass(frozen=True)
class _Sizes:
    channels: int
    outputs: int  # channels
    tiles: int
    planes: int  # n * n

    @property
    def weight_bytes(self) -> int:
        return self.planes * self.channels * self.outputs * ITEM


def schedule(problem: Contraction, target: Target) -> Schedule | None:
    """The faster of F(4, 3) and F(2, 3); None where plain summation is asked for, or is faster."""
    found = estimate(problem, target)
    direct = gemm_schedule.estimate(problem, target)
    if found is None or (direct is not None and found[0] > direct[0] * MARGIN):
        return None
    return found[1]


def estimate(problem: Contraction, target: Target) -> tuple[float, Schedule] | None:
    """The schedule, and the cycles it takes on one core; None where Winograd does not apply."""
    shape = None if problem.accurate else Shape.of(problem)
    if shape is None:
        return None
    channels, outputs = emit.known(shape.channel.extent, 0), emit.known(problem.right[-1].extent, 0)
    if channels < LEAST_CHANNELS or outputs < LEAST_CHANNELS:
        return None
    found: list[tuple[float, Schedule]] = []
    for m in (4, 2):
        tiles = emit.known(emit.size(shape.images), 1)
        for plane in shape.planes:
            tiles *= -(-emit.known(plane.output.extent, GUESS) // m)
        found.append(_best(problem, target, _Sizes(channels, outputs, tiles, winograd(m).n ** 2), m))
    return min(found, key=lambda f: f[0])


def _best(problem: Contraction, target: Target, sizes: _Sizes, m: int) -> tuple[float, Schedule]:
    lanes = target.lanes(problem.accumulate)
    best: tuple[float, Schedule] = (float("inf"), Schedule.of("winograd"))
    far = sizes.weight_bytes > target.l2_bytes // 2
    for vectors in range(1, min(4, -(-sizes.outputs // lanes)) + 1):
        if vectors > 2 and sizes.channels * vectors * lanes * ITEM > target.l1_bytes:
            break  # a plane's panel is read by every row of tiles: wide ones leave the first cache
        panels = -(-sizes.outputs // (vectors * lanes))
        for block in _blocks(sizes):
            groups = _groups(sizes, block, panels)
            for rows in range(2, min(block, 16) + 1):
                if rows * vectors + vectors + 1 > target.vector_registers:
                    break
                missing = max(0, min(4, _wanted(sizes)) - groups * -(-sizes.tiles // block))
                cycles = _cycles(problem, target, sizes, rows, vectors, block, groups)
                cycles *= 1 + LOST_PER_TASK * missing
                if cycles < best[0]:
                    best = (
                        cycles,
                        Schedule.of(
                            "winograd",
                            m=m,
                            block=block,
                            rows=rows,
                            vectors=vectors,
                            panel_block=-(-panels // groups),
                            ahead=int(groups > 1),
                            prefetch=PREFETCH if far else 0,
                        ),
                    )
    return best


def _blocks(sizes: _Sizes) -> list[int]:
    """Tiles per block, evenly divided."""
    counts = {1, 2, 3, 4, 6, 8, *range(10, 100, 6)} | {-(-sizes.tiles // most) for most in (14, 28, 56)}
    sizes_of = {-(-sizes.tiles // c) for c in counts if c <= sizes.tiles}
    return sorted(b for b in sizes_of if b <= MOST_TILES) or [min(sizes.tiles, MOST_TILES) or 1]


def _wanted(sizes: _Sizes) -> int:
    """Tasks that the work is worth."""
    work = 2 * sizes.planes * sizes.tiles * sizes.channels * sizes.outputs
    return max(1, min(8, work // gemm_schedule.TASK_FLOPS))


def _groups(sizes: _Sizes, block: int, panels: int) -> int:
    """Groups of panels, so that there are enough tasks together with the blocks."""
    blocks = -(-sizes.tiles // block)
    return max(1, min(-(-_wanted(sizes) // blocks), panels))


def _cycles(
    problem: Contraction, target: Target, sizes: _Sizes, rows: int, vectors: int, block: int, groups: int
) -> float:
    """The products, what they read from beyond the second cache, and the transforms."""
    lanes = target.lanes(problem.accumulate)
    columns = vectors * lanes
    blocks, panels = -(-sizes.tiles // block), max(1.0, sizes.outputs / columns)
    products = 0.0
    for count, height in gemm_schedule.pieces(block, rows, ladder=False):
        tile = gemm_schedule.tile_cycles(target, ITEM, height, vectors, sizes.channels, columns)
        products += count * (tile + 1.5 * height * vectors)
    resident = sizes.weight_bytes <= target.l2_bytes * 0.65
    # Meanwhile the next panel comes from memory: in every block, or once where the weights then stay.
    fetched = sizes.channels * vectors * target.vector_bytes / gemm_schedule.STREAM
    cold = 1 if resident else blocks
    products = sizes.planes * panels * (cold * max(products, fetched) + (blocks - cold) * products)
    moved = sizes.planes * block * sizes.channels * ITEM
    held = moved + sizes.planes * block * columns * ITEM
    room = target.l2_bytes - sizes.weight_bytes if resident else target.l2_bytes * 0.75
    streamed = 0.0
    if held > room:
        streamed += blocks * panels * moved / gemm_schedule.STREAM
    if groups > 1:
        streamed += 2 * sizes.planes * sizes.tiles * sizes.channels * ITEM / gemm_schedule.STREAM
    transforms = sizes.tiles * sizes.planes * (4.5 * sizes.channels + 6.0 * sizes.outputs) / lanes
    side = math.isqrt(sizes.planes) - 2  # outputs per tile side
    store = sizes.tiles * sizes.outputs / lanes * side**2 * (1 + problem.epilogue.cost)
    return max(products, streamed) + 0.25 * min(products, streamed) + transforms + store

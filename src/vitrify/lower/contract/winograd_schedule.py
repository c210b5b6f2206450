"""Whether Winograd pays, with which tile, and how its work divides into tasks."""

from __future__ import annotations

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
STREAM = 8.0  # bytes per cycle from beyond the second cache
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
    if problem.accurate:
        return None
    shape = Shape.of(problem)
    if shape is None:
        return None
    channels, outputs = emit.known(shape.channel.extent, 0), emit.known(problem.right[-1].extent, 0)
    if channels < LEAST_CHANNELS or outputs < LEAST_CHANNELS:
        return None
    direct = gemm_schedule.estimate(problem, target)
    best = direct[0] * MARGIN if direct is not None else float("inf")
    found: Schedule | None = None
    for m in (4, 2):
        tiles = emit.known(emit.size(shape.images), 1)
        for plane in shape.planes:
            tiles *= -(-emit.known(plane.output.extent, GUESS) // m)
        cycles, chosen = _best(problem, target, _Sizes(channels, outputs, tiles, winograd(m).n ** 2), m)
        if cycles < best:
            best, found = cycles, chosen
    return found


def _best(problem: Contraction, target: Target, sizes: _Sizes, m: int) -> tuple[float, Schedule]:
    lanes = target.lanes(problem.accumulate)
    best: tuple[float, Schedule] | None = None
    for vectors in range(1, 5):
        if vectors > max(1, -(-sizes.outputs // lanes)):
            break
        columns = vectors * lanes
        block = _block(target, sizes, columns)
        groups = _groups(sizes, block, columns, m)
        for rows in range(2, min(block, 16) + 1):
            if rows * vectors + vectors + 1 > target.vector_registers:
                break
            cycles = _cycles(problem, target, sizes, rows, vectors, block)
            panels = -(-sizes.outputs // columns)
            chosen = Schedule.of(
                "winograd", m=m, block=block, rows=rows, vectors=vectors, panel_block=-(-panels // groups),
                ahead=int(groups > 1), prefetch=gemm_schedule.PREFETCH if sizes.weight_bytes > target.l2_bytes // 2 else 0,
            )  # fmt: skip
            if best is None or cycles < best[0]:
                best = cycles, chosen
    if best is None:
        return float("inf"), Schedule.of("winograd")
    return best


def _block(target: Target, sizes: _Sizes, columns: int) -> int:
    """Tiles per block: those of a block and their products share the second cache with the weights, if the
    weights fit there; if not, blocks are large, since each one reads all weights."""
    resident = sizes.weight_bytes <= target.l2_bytes // 2
    room = target.l2_bytes // 4 if resident else target.l2_bytes * 5 // 8
    most = max(4, room // (sizes.planes * ITEM * (sizes.channels + columns)))
    blocks = -(-sizes.tiles // min(most, 64))
    return max(1, -(-sizes.tiles // max(blocks, 1)))


def _groups(sizes: _Sizes, block: int, columns: int, m: int) -> int:
    """Groups of panels, so that there are enough tasks together with the blocks."""
    work = 2 * sizes.planes * sizes.tiles * sizes.channels * sizes.outputs
    wanted = max(1, min(12, work // gemm_schedule.TASK_FLOPS))
    blocks = -(-sizes.tiles // block)
    return max(1, min(-(-wanted // blocks), -(-sizes.outputs // columns)))


def _cycles(problem: Contraction, target: Target, sizes: _Sizes, rows: int, vectors: int, block: int) -> float:
    lanes = target.lanes(problem.accumulate)
    columns = vectors * lanes
    blocks, panels = -(-sizes.tiles // block), sizes.outputs / columns
    products = 0.0
    for count, height in gemm_schedule.pieces(block, rows, ladder=False):
        tile = gemm_schedule.tile_cycles(target, ITEM, height, vectors, sizes.channels, columns)
        products += count * (tile + 1.5 * height * vectors)
    products *= sizes.planes * blocks * max(1.0, panels)
    streamed = 0.0 if sizes.weight_bytes <= target.l2_bytes // 2 else blocks * sizes.weight_bytes / STREAM
    transforms = sizes.tiles * sizes.planes * (4.5 * sizes.channels + 6.0 * sizes.outputs) / lanes
    store = sizes.tiles * sizes.outputs / lanes * (sizes.planes**0.5 - 2) ** 2 * (1 + problem.epilogue.cost)
    return max(products, streamed) + 0.25 * min(products, streamed) + transforms + store

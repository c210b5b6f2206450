"""Offsets in the arena: blocks that are never needed at once share memory."""

from __future__ import annotations

from vitrify.ir.dims import DimLike, provably_nonnegative
from vitrify.lower.loop import align64
from vitrify.lower.plan import Block


def assign_offsets(blocks: list[Block]) -> DimLike:
    """Sets every block's offset; gives the arena's size in bytes.

    Blocks of known size go first, the largest first, each at the lowest offset that is free for its whole
    life. Blocks of symbolic size follow: one takes over a slot whose size is provably enough.
    """
    static = [b for b in blocks if isinstance(b.size, int)]
    total: DimLike = _place_static(static)
    slots: list[tuple[DimLike, DimLike, list[Block]]] = []  # size, offset, tenants
    for block in sorted((b for b in blocks if not isinstance(b.size, int)), key=lambda b: b.birth):
        for size, offset, tenants in slots:
            fits = provably_nonnegative(size - block.size)
            if fits and all(not _overlap(block, t) for t in tenants):
                block.offset = offset
                tenants.append(block)
                break
        else:
            block.offset = total
            size = align64(block.size)
            slots.append((size, total, [block]))
            total = total + size
    return total


def _overlap(a: Block, b: Block) -> bool:
    return a.birth <= b.death and b.birth <= a.death


def _place_static(blocks: list[Block]) -> int:
    placed: list[tuple[int, int, Block]] = []
    end = 0
    for block in sorted(blocks, key=lambda b: (-int(str(b.size)), b.birth)):
        size = -(-int(str(block.size)) // 64) * 64
        busy = sorted((o, o + n) for o, n, other in placed if _overlap(block, other))
        offset = 0
        for low, high in busy:
            if offset + size <= low:
                break
            offset = max(offset, high)
        block.offset = offset
        placed.append((offset, size, block))
        end = max(end, offset + size)
    return end

"""Offsets in the arena: blocks needed at once never share a byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir.dims import Dim, DimLike, evaluate
from vitrify.lower.memory import assign_offsets
from vitrify.lower.plan import Block

N, K = Dim.symbol("n"), Dim.symbol("k", 1, 8)
SIZES: list[DimLike] = [0, 1, 64, 65, 4096, N, 4 * N, N * K, N * 64 + 1, 128 * K, (N + 3) // 4, N * N]


@st.composite
def block_lists(draw: st.DrawFn) -> list[Block]:
    blocks = []
    for _ in range(draw(st.integers(1, 14))):
        birth = draw(st.integers(0, 12))
        blocks.append(Block(draw(st.sampled_from(SIZES)), birth, birth + draw(st.integers(0, 6))))
    return blocks


@settings(max_examples=300)
@given(block_lists(), st.sampled_from([0, 1, 5, 64, 1000]), st.integers(1, 8))
def test_lives_that_overlap_share_nothing(blocks: list[Block], n: int, k: int) -> None:
    total = assign_offsets(blocks)
    dims = {"n": n, "k": k}
    end = evaluate(total, dims)
    spans = [(evaluate(b.offset, dims), evaluate(b.offset, dims) + evaluate(b.size, dims), b) for b in blocks]
    for i, (start, stop, block) in enumerate(spans):
        assert start >= 0 and stop <= end and start % 64 == 0
        for other_start, other_stop, other in spans[:i]:
            together = block.birth <= other.death and other.birth <= block.death
            assert not together or stop <= other_start or other_stop <= start


def test_lives_that_do_not_overlap_share() -> None:
    blocks = [Block(1000, t, t + 1) for t in range(20)]
    assert assign_offsets(blocks) == 2 * 1024
    symbolic = [Block(4 * N, t, t + 1) for t in range(20)]
    assert evaluate(assign_offsets(symbolic), {"n": 1024}) == 2 * 4096

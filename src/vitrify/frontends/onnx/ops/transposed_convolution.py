"""Transposed convolutions: each phase of the result is an ordinary convolution of the input.

With the stride ``s``, results ``s * q + p`` of one phase ``p`` take the same elements of the kernel, every ``s``-th
of them, at neighbouring elements of the input. All phases together are one convolution of stride 1 whose filters
are those of every phase, and whose results ``[.., q, p, ..]`` lie where they belong: nothing is multiplied by zeros
between elements of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import channels_first, channels_last, kernel_of, per_axis
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, ceildiv, floordiv, maximum
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value

WINOGRAD = 3  # taps of a window for which products are saved elsewhere
LANES = 16  # filters below which those of several phases are better off in one vector, and channels worth Winograd


@dataclass(frozen=True)
class Phases:
    """One axis: block ``q`` of results, ``stride`` of them, sees the input at ``q + first + step * t``.

    ``taps[p][t]`` is the element of the kernel that phase ``p`` takes there; the kernel's size where none."""

    stride: int
    first: int
    step: int
    taps: tuple[tuple[int, ...], ...]

    @property
    def window(self) -> int:
        return len(self.taps[0])

    @staticmethod
    def of(kernel: int, stride: int, dilation: int, start: int) -> Phases:
        """Of the results from number ``start`` on, counted before any are cut off."""
        met = {
            (p, k): (p + start - k * dilation) // stride
            for p in range(stride) for k in range(kernel) if (p + start - k * dilation) % stride == 0
        }  # fmt: skip
        first, last = min(met.values()), max(met.values())
        step = gcd(*(at - first for at in met.values())) or 1
        count = (last - first) // step + 1
        taps = [[kernel] * count for _ in range(stride)]
        for (p, k), at in met.items():
            taps[p][(at - first) // step] = k
        return Phases(stride, first, step, tuple(map(tuple, taps)))


@op("ConvTranspose")
def conv_transpose(n: Call) -> Value:
    x, w = n.value(0), n.value(1)
    rank = x.rank - 2
    n.check(rank >= 1 and w.rank == x.rank, f"a convolution of {x.type} with {w.type}")
    group = n.attributes.integer("group", 1)
    n.check(group >= 1, f"group is {group}")
    inner = floordiv(w.shape[0], group)
    n.check(inner * group == w.shape[0], f"{w.shape[0]} channels in {group} groups")
    if x.shape[1] != w.shape[0]:
        n.assume(x.shape[1], w.shape[0])
        x = n.match_axis(x, 1, w.shape[0])
    kernel, sizes = kernel_of(n, w), x.shape[2:]
    strides, dilations = per_axis(n, "strides", rank, 1), per_axis(n, "dilations", rank, 1)
    low, high = _cut(n, sizes, kernel, strides, dilations)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    wanted = [(m - 1) * s + r - a - b for m, s, r, a, b in zip(sizes, strides, reach, low, high, strict=True)]
    filters = w.shape[1] * prod(strides)
    wide = all(not isinstance(size, int) or size >= LANES for size in (inner, filters))
    starts, phases = _origin(kernel, strides, dilations, low, winograd=group == 1 and rank == 2 and wide)
    skipped = [a - start for a, start in zip(low, starts, strict=True)]
    blocks = [ceildiv(skip + size, s) for skip, size, s in zip(skipped, wanted, strides, strict=True)]
    before = [-p.first for p in phases]
    after = [q - 1 + p.first + (p.window - 1) * p.step - (m - 1) for q, p, m in zip(blocks, phases, sizes, strict=True)]
    framed = _fitted(n, channels_last(n, x), before, after)
    out = _convolved(n, framed, _filters(n, w, phases, group), phases, group)  # [N, Q, P, Q, P, .., M]
    bias = n.optional(2)
    if bias is not None:
        out = n.b.map("add", out, n.match(bias, (out.shape[-1],)))
    out = n.b.reshape(out, (out.shape[0], *(q * s for q, s in zip(blocks, strides, strict=True)), out.shape[-1]))
    for i, (skip, size) in enumerate(zip(skipped, wanted, strict=True)):
        out = n.b.slice_axis(out, i + 1, skip, size)
    return channels_first(n, out)


def _origin(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], low: Sequence[DimLike], *, winograd: bool
) -> tuple[list[int], list[Phases]]:
    """With which result blocks begin. From the first wanted one, where windows are then as small as they can be, or
    of a size for which there is a better algorithm; else from one before, of which some are cut off again."""
    here = [a if isinstance(a, int) else 0 for a in low]
    aligned = [a // s * s for a, s in zip(here, strides, strict=True)]
    at_once, later = (
        [Phases.of(k, s, d, a) for k, s, d, a in zip(kernel, strides, dilations, starts, strict=True)]
        for starts in (here, aligned)
    )
    windows = [p.window for p in at_once]
    if prod(windows) <= prod(p.window for p in later) or (winograd and windows == [WINOGRAD, WINOGRAD]):
        return here, at_once
    return aligned, later


def _filters(n: Call, w: Value, phases: Sequence[Phases], group: int) -> Value:
    """[C, M/G, *K] to [G, C/G, M/G, *P, *T]: each phase's elements of the kernel where it meets the input."""
    out = n.b.reshape(w, (group, floordiv(w.shape[0], group), *w.shape[1:]))
    for i, p in enumerate(phases):
        axis = 3 + 2 * i
        size = out.shape[axis]
        if any(size in row for row in p.taps):
            out = n.b.pad(out, [0] * out.rank, [int(a == axis) for a in range(out.rank)])
        out = n.b.gather(out, axis, n.b.constant(np.array(p.taps), I64))
    rank = len(phases)
    return n.b.permute(out, [0, 1, 2, *range(3, 3 + 2 * rank, 2), *range(4, 3 + 2 * rank, 2)])


def _convolved(n: Call, x: Value, filters: Value, phases: Sequence[Phases], group: int) -> Value:
    """x [N, *S, C], filters [G, C/G, M/G, *P, *T] to [N, Q, P, Q, P, .., M]."""
    rank = len(phases)
    strides = [p.stride for p in phases]
    outer, inner, each = filters.shape[:3]
    order = [0, *range(3, 3 + rank), 2, 1, *range(3 + rank, 3 + 2 * rank)]
    filters = n.b.permute(filters, order)  # [G, *P, M/G, C/G, *T]
    merged = isinstance(each, int) and (each < LANES or each % LANES == 0)
    if merged:
        filters = n.b.reshape(filters, (outer, prod(strides) * each, inner, *filters.shape[rank + 3 :]))
    axes, windows, steps = range(1, rank + 1), [p.window for p in phases], [p.step for p in phases]
    if group == 1:
        seen = n.b.window(x, axes, windows, [1] * rank, steps)  # [N, *Q, C, *T]
        filters = n.b.reshape(filters, filters.shape[1:])
        over = (range(rank + 1, seen.rank), range(filters.rank - rank - 1, filters.rank))
        out = n.b.contract(seen, filters, over=over)  # [N, *Q, *P, M]
        lead = 0
    else:
        split = n.b.reshape(x, (*x.shape[:-1], outer, inner))
        seen = n.b.window(split, axes, windows, [1] * rank, steps)  # [N, *Q, G, C/G, *T]
        over = (range(rank + 2, seen.rank), range(filters.rank - rank - 1, filters.rank))
        out = n.b.contract(seen, filters, batch=([rank + 1], [0]), over=over)  # [G, N, *Q, *P, M/G]
        lead = 1
    out = n.b.reshape(out, (*out.shape[: lead + 1 + rank], *strides, each))
    woven = [a for i in range(rank) for a in (lead + 1 + i, lead + 1 + rank + i)]
    out = n.b.permute(out, [lead, *woven, *range(lead), out.rank - 1])  # [N, Q, P, .., G, M/G]
    return n.b.reshape(out, (*out.shape[: 1 + 2 * rank], outer * each))


def _fitted(n: Call, x: Value, before: Sequence[DimLike], after: Sequence[DimLike]) -> Value:
    """A border on the spatial axes of [N, *S, C]; negative amounts cut."""
    for i, (lo, hi) in enumerate(zip(before, after, strict=True)):
        cut, off = maximum(0, -lo), maximum(0, -hi)
        x = n.b.slice_axis(x, i + 1, cut, x.shape[i + 1] - cut - off)
    return n.b.pad(x, [0, *(maximum(0, v) for v in before), 0], [0, *(maximum(0, v) for v in after), 0])


def _cut(
    n: Call,
    sizes: tuple[DimLike, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[list[DimLike], list[DimLike]]:
    """What is cut from the full result on each side, ``output_padding`` taken off the high side."""
    rank = len(sizes)
    extra = n.attributes.integers("output_padding") or [0] * rank
    wanted = n.attributes.integers("output_shape")
    n.check(len(extra) == rank, f"output_padding is {extra} for {rank} spatial axes")
    n.check(wanted is None or len(wanted) in (rank, rank + 2), f"output_shape is {wanted}")
    pads = n.attributes.integers("pads")
    auto = n.attributes.text("auto_pad", "NOTSET")
    n.check(auto in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad is {auto!r}")
    if wanted is None and not auto.startswith("SAME"):
        given = pads if pads is not None and auto == "NOTSET" else [0] * (2 * rank)
        n.check(len(given) == 2 * rank, f"pads are {given} for {rank} spatial axes")
        return list(given[:rank]), [p - e for p, e in zip(given[rank:], extra, strict=True)]
    low: list[DimLike] = []
    high: list[DimLike] = []
    for i, size in enumerate(sizes):
        target = size * strides[i] if wanted is None else wanted[len(wanted) - rank + i]
        full = (size - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
        total = full - target
        half = floordiv(total, 2)
        first, second = (half, total - half) if auto == "SAME_UPPER" else (total - half, half)
        low.append(first)
        high.append(second - extra[i])
    return low, high

"""Attention of the domain com.microsoft, as onnxruntime's transformer optimiser and builder write it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.attention import (
    Attended,
    appended,
    attended,
    conjunction,
    heads_merged,
    heads_of,
    keys_allowed,
    masked,
    rotated,
    same_sizes,
    scores_of,
    softcapped,
)
from vitrify.frontends.onnx.ops.microsoft_transformer import MICROSOFT, last_axis
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.dims import DimLike, floordiv, maximum
from vitrify.ir.dtypes import F32, I32, I64
from vitrify.ir.graph import Value

LOWEST = float(np.finfo(np.float32).min)  # of f32; what onnxruntime adds where causality hides a key
FILTER = -10000.0


def _scale(n: Call) -> float | None:
    """0 stands for the default."""
    return n.attributes.number("scale", 0.0) or None


# Masks as numbers that are added
def _padding(n: Call, mask: Value, rows: DimLike, keys: DimLike, batch: DimLike) -> Value | None:
    """Where keys count, [B or 1, 1, rows or 1, keys]; None for a mask that says nothing."""
    if mask.rank == 1:
        return _between(n, mask, keys, batch)
    on = n.map("gt", mask, n.number(0, mask))
    if mask.rank == 2:
        if mask.shape[1] == 1 and keys != 1:
            return None
        return n.b.reshape(n.match(on, (batch, keys)), (batch, 1, 1, keys))
    n.check(mask.rank == 3, f"a mask {mask.type} of rank {mask.rank}, not 1 to 3")
    return n.b.reshape(n.match(on, (batch, rows, keys)), (batch, 1, rows, keys))


def _between(n: Call, mask: Value, keys: DimLike, batch: DimLike) -> Value | None:
    """The ends of the keys that count, of every sample, and perhaps their starts after them."""
    key = n.b.iota((1, 1, 1, keys), 3, mask.dtype)
    if mask.shape[0] == batch:
        return n.map("lt", key, n.b.reshape(mask, (batch, 1, 1, 1)))
    if isinstance(mask.shape[0], int) and isinstance(batch, int) and mask.shape[0] == 3 * batch + 2:
        n.unsupported("a mask of cumulated lengths")
    ends, starts = (n.b.slice_axis(n.match(mask, (2 * batch,)), 0, i * batch, batch) for i in range(2))
    ends, starts = (n.b.reshape(v, (batch, 1, 1, 1)) for v in (ends, starts))
    return conjunction(n, [n.map("lt", key, ends), n.map("ge", key, starts)])


def _added(n: Call, mask: int, a: Attended, past: DimLike) -> Value | None:
    """What is added to the scores: the filter where the mask hides a key, the least number where causality does."""
    batch, _, rows, _ = a.query.shape
    keys = a.key.shape[2]
    total: Value | None = None
    filtered = n.attributes.number("mask_filter_value", FILTER)
    given = n.optional(mask)
    on = None if given is None else _padding(n, given, rows, keys, batch)
    zero = n.b.constant(0, F32)
    if on is not None:
        total = n.map("where", on, zero, n.b.constant(max(filtered, LOWEST), F32))
    if n.attributes.flag("unidirectional"):
        offset = n.b.cast(n.b.dim(past), I32)
        causal = keys_allowed(n, rows, keys, offset, -1, 0)
        assert causal is not None
        total = n.map("where", causal, zero if total is None else total, n.b.constant(LOWEST, F32))
    return total


def _finished(n: Call, a: Attended, mask: int, bias: int, past: DimLike) -> tuple[Value, Value]:
    """The heads' results [B, S, N * F], and the scores before softmax."""
    scores = scores_of(n, a, _scale(n))
    given = n.optional(bias)
    n.check(given is None or given.rank == 4, "a bias that is not of rank 4")
    for added in (_added(n, mask, a, past), given):
        scores = masked(n, scores, None, added)
    dtype = a.query.dtype
    return heads_merged(n, attended(n, scores, a.value, dtype)), n.b.cast(scores, dtype)


# Attention with its projection
@op("Attention", domain=MICROSOFT)
def attention(n: Call) -> Sequence[Result]:
    """Query, key and value as one product of the input; the past and present hold keys and values [2, B, N, T, H]."""
    for name in ("do_rotary", "past_present_share_buffer"):
        if n.attributes.flag(name):
            n.unsupported(f"attribute {name!r}")
    n.attributes.ignore("rotary_embedding_dim")
    x, weights, bias, heads = n.value(0), n.value(1), n.optional(2), n.attributes.integer("num_heads")
    n.check(x.rank == 3 and weights.rank == 2, f"a projection of {x.type} by {weights.type}")
    width = weights.shape[1]
    if not isinstance(width, int):
        n.unsupported(f"weights of the symbolic width {width}")
    sizes = n.attributes.integers("qkv_hidden_sizes") or [width // 3] * 3
    fits = len(sizes) == 3 and sum(sizes) == width and sizes[0] == sizes[1]
    n.check(fits, f"queries, keys and values of sizes {sizes} from weights {weights.type}")
    n.check(heads >= 1 and all(s % heads == 0 for s in sizes), f"sizes {sizes} in {heads} heads")
    x = n.match_axis(x, 2, weights.shape[0])
    projected = n.b.contract(x, weights, over=([2], [0]))
    if bias is not None:
        projected = n.map("add", projected, last_axis(n, bias, projected))
    starts = (0, sizes[0], sizes[0] + sizes[1])
    parts = [n.b.slice_axis(projected, 2, at, size) for at, size in zip(starts, sizes, strict=True)]
    query, key, value = (heads_of(n, part, heads) for part in parts)
    past = n.optional(4)
    before: DimLike = 0
    if past is not None:
        n.check(past.rank == 5, f"the past {past.type} has rank {past.rank}, not 5")
        n.check(sizes[0] == sizes[2], f"a past of keys and values of sizes {sizes}")
        before = past.shape[3]
        halves = [n.b.squeeze(n.b.slice_axis(n.match_axis(past, 0, 2), 0, i, 1), 0) for i in range(2)]
        key, value = appended(n, halves[0], key), appended(n, halves[1], value)
    out, _ = _finished(n, same_sizes(n, query, key, value), 3, 5, before)
    wanted = n.wanted[1:2] == [True]
    if wanted:
        n.check(sizes[0] == sizes[2], f"a present of keys and values of sizes {sizes}")
    return [out, n.b.concat([n.b.unsqueeze(v, 0) for v in (key, value)], 0) if wanted else None]


# Attention of given heads
def _unpacked(n: Call, x: Value, heads: int, parts: int) -> list[Value]:
    """[B, S, N, parts, H] to parts of [B, N, S, H]."""
    n.check(x.rank == 5, f"{x.type} has rank {x.rank}, not 5")
    x = n.match_axis(n.match_axis(x, 2, heads), 3, parts)
    return [n.b.permute(n.b.squeeze(n.b.slice_axis(x, 3, i, 1), 3), (0, 2, 1, 3)) for i in range(parts)]


def _heads_with_bias(n: Call, heads: int) -> list[Value]:
    """Query, key and value [B, N, S, H] from any of the forms that the inputs take, the bias added."""
    if not n.has(1):
        query = n.value(0)
        n.check(query.rank == 5, f"the query {query.type} without a key is not packed as [B, S, N, 3, H]")
        parts = _unpacked(n, query, heads, 3)
    elif not n.has(2):
        parts = [heads_of(n, n.value(0), heads), *_unpacked(n, n.value(1), heads, 2)]
    else:
        parts = [n.value(0), n.value(1), n.value(2)]
        n.check(parts[0].rank == 3, f"the query {parts[0].type} has rank {parts[0].rank}, not 3")
        n.check(parts[1].rank == parts[2].rank, f"key and value {parts[1].type} and {parts[2].type} differ in rank")
        parts = [x if x.rank == 4 else heads_of(n, x, heads) for x in parts]
    bias = n.optional(3)
    if bias is None:
        return parts
    sizes = [x.shape[3] for x in parts]
    widths = [size * heads for size in sizes]
    bias = n.match(bias, (widths[0] + widths[1] + widths[2],))
    starts = (0, widths[0], widths[0] + widths[1])
    rows = [n.b.slice_axis(bias, 0, at, width) for at, width in zip(starts, widths, strict=True)]
    shaped = [n.b.reshape(row, (heads, 1, size)) for row, size in zip(rows, sizes, strict=True)]
    return [n.map("add", x, row) for x, row in zip(parts, shaped, strict=True)]


@op("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(n: Call) -> Sequence[Result]:
    heads = n.attributes.integer("num_heads")
    n.check(heads >= 1, f"num_heads is {heads}")
    for index, name in ((8, "past_sequence_length"), (9, "cache_indirection")):
        if n.has(index):
            n.unsupported(f"the input {name}, of caches that are shared with the caller")
    query, key, value = _heads_with_bias(n, heads)
    past_key, past_value = n.optional(6), n.optional(7)
    n.check((past_key is None) == (past_value is None), "past_key and past_value are not given together")
    before: DimLike = 0 if past_key is None else past_key.shape[2]
    key, value = appended(n, past_key, key), appended(n, past_value, value)
    out, scores = _finished(n, same_sizes(n, query, key, value), 4, 5, before)
    return [out, key, value, scores]


# Attention with caches of several lengths
def _packed(n: Call, heads: int, shared: int) -> list[Value]:
    """Query, key and value [B, heads, S, H], perhaps packed one after the other."""
    n.check(n.has(1) == n.has(2), "key and value are not given together")
    x = n.value(0)
    if n.has(1):
        return [heads_of(n, v, h) for v, h in ((x, heads), (n.value(1), shared), (n.value(2), shared))]
    joined = heads_of(n, x, heads + 2 * shared)
    starts, counts = (0, heads, heads + shared), (heads, shared, shared)
    return [n.b.slice_axis(joined, 1, at, count) for at, count in zip(starts, counts, strict=True)]


class _Lengths:
    """Of each sample: how many entries its cache holds, and how many there are with the new ones."""

    def __init__(self, n: Call, batch: DimLike, steps: DimLike) -> None:
        lengths = n.match(n.b.reshape(n.value(5), (n.tensor(5).shape[0],)), (batch,))
        self.total = n.b.reshape(n.map("add", n.b.cast(lengths, I32), n.b.constant(1, I32)), (batch, 1))
        known = n.dims(6)
        self.most: DimLike = known[0] if known else n.bind(n.value(6))
        new = n.b.cast(n.b.dim(steps), I32)
        prompt = n.map("eq", n.b.cast(n.b.dim(self.most), I32), new)  # nothing is cached yet
        self.past = n.map("where", prompt, n.b.constant(0, I32), n.map("sub", self.total, new))  # [B, 1]


def _cached(n: Call, past: Value | None, new: Value, lengths: _Lengths) -> Value:
    """[B, H, P or more, D]: the past's entries that count, the new ones, zeros."""
    batch, heads = new.shape[:2]
    held: DimLike = 0
    if past is not None:
        n.check(past.rank == 4, f"the past {past.type} has rank {past.rank}, not 4")
        for axis in (0, 1, 3):
            past = n.match_axis(past, axis, new.shape[axis])
        held = past.shape[2]
    keys = maximum(held, lengths.most)
    every = (batch, heads, keys)
    at = n.b.iota(every, 2, I32)
    before = n.b.reshape(lengths.past, (batch, 1, 1))
    zero, nowhere = n.b.constant(0, I32), n.b.constant(-1, I32)
    first, count = (n.b.cast(n.b.dim(v), I32) for v in (held, new.shape[2]))
    behind = n.map("sub", at, before)
    old, fresh = n.map("lt", at, before), n.map("lt", behind, count)
    # An error of the run: a sample has more entries than the past holds or the total says, or fewer than the new ones.
    most = n.b.cast(n.b.dim(lengths.most), I32)
    more = n.map("gt", n.b.reshape(lengths.total, (batch, 1, 1)), most)
    lost = n.map("or", n.map("and", old, n.map("ge", at, first)), n.map("or", n.map("lt", before, zero), more))
    place = n.map("where", lost, nowhere, n.map("where", n.map("and", fresh, n.b.map("not", old)), behind, zero))
    row = n.b.pad(new, (0, 0, 0, 0), (0, 0, 1, 0))  # there is one, whatever the number of new ones
    row = n.b.gather(row, 0, n.b.iota(every, 0, I32), n.b.iota(every, 1, I32), place)
    row = n.map("where", n.b.unsqueeze(fresh, 3), row, n.number(0, row))
    if past is None:
        return row
    return n.map("where", n.b.unsqueeze(old, 3), n.b.pad(past, (0, 0, 0, 0), (0, 0, keys - held, 0)), row)


def _turned(n: Call, parts: list[Value], lengths: _Lengths) -> list[Value]:
    """Query and key by their positions."""
    interleaved = n.attributes.flag("rotary_interleaved")
    if not n.attributes.flag("do_rotary"):
        return parts
    cosine, sine = n.value(7), n.value(8)
    n.check(cosine.rank == sine.rank == 2, f"caches {cosine.type} and {sine.type}, not of rank 2")
    batch, _, steps, _ = parts[0].shape
    step = n.b.iota((batch, steps), 1, I32)
    at = n.map("add", step, lengths.past)
    at = n.map("where", n.map("lt", at, lengths.total), at, n.b.constant(1, I32))
    size = cosine.shape[1] * 2
    cosine, sine = (n.b.gather(c, 0, at) for c in (cosine, sine))
    return [rotated(n, x, cosine, sine, interleaved=interleaved, size=size) for x in parts[:2]] + parts[2:]


def _refuse_extras(n: Call) -> None:
    for name in ("sliding_window_cache", "kv_cache_bit_width"):
        if n.attributes.integer(name, 0):
            n.unsupported(f"attribute {name!r}")
    for name in ("k_quant_type", "v_quant_type"):
        if n.attributes.text(name, "NONE") != "NONE":
            n.unsupported(f"attribute {name!r}: caches that are quantised")
    n.attributes.ignore("qk_norm_epsilon")
    for index, name in ((9, "position_ids"), (12, "k_scale"), (13, "v_scale"), (14, "q_norm_weight")):
        if n.has(index):
            n.unsupported(f"the input {name}")


def _sink(n: Call, heads: int) -> Value | None:
    """What takes part in the sum of softmax beside the scores, [heads, 1, 1]."""
    smooth = n.attributes.integer("smooth_softmax", 0) == 1
    given = n.optional(11)
    if given is None:
        return n.b.constant(np.zeros((1, 1, 1), np.float32)) if smooth else None
    return n.b.reshape(n.b.cast(n.match(given, (heads,)), F32), (heads, 1, 1))


@op("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(n: Call) -> Sequence[Result]:
    """Causal attention over caches [B, kv_num_heads, T, H] of which every sample fills its own part."""
    _refuse_extras(n)
    heads, shared = n.attributes.integer("num_heads"), n.attributes.integer("kv_num_heads")
    n.check(heads >= 1 and shared >= 1 and heads % shared == 0, f"{heads} heads of the query, {shared} of the key")
    parts = _packed(n, heads, shared)
    batch, _, steps, _ = parts[0].shape
    lengths = _Lengths(n, batch, steps)
    query, key, value = _turned(n, parts, lengths)
    past_key, past_value = n.optional(3), n.optional(4)
    n.check((past_key is None) == (past_value is None), "past_key and past_value are not given together")
    a = same_sizes(n, query, _cached(n, past_key, key, lengths), _cached(n, past_value, value, lengths))
    keys = lengths.most  # a buffer has room for more
    seen = Attended(query, *(n.b.slice_axis(x, 2, 0, keys) for x in (a.key, a.value)))
    scores = softcapped(n, scores_of(n, seen, _scale(n)), n.attributes.number("softcap", 0.0))
    causal, window = n.attributes.flag("causal", True), n.attributes.integer("local_window_size", -1)
    n.check(window == -1 or (window >= 1 and causal), f"local_window_size is {window}, with causal={int(causal)}")
    offset = n.b.reshape(lengths.past, (batch, 1, 1, 1))
    allowed = keys_allowed(n, steps, keys, offset, window - 1 if window > 0 else -1, 0 if causal else -1)
    if not causal:
        allowed = n.map("lt", n.b.iota((1, keys), 1, I32), n.b.reshape(lengths.total, (batch, 1, 1, 1)))
    bias = n.optional(10)
    if bias is not None:
        n.check(bias.rank == 4, f"a bias {bias.type} of rank {bias.rank}, not 4")
        bias = n.match_axis(bias, 3, keys)
    shown = masked(n, scores, allowed, bias)
    out = heads_merged(n, attended(n, shown, seen.value, query.dtype, _sink(n, heads)))
    kind = n.attributes.integer("qk_output", 0)
    n.check(kind in (0, 1, 2), f"qk_output is {kind}, not 0 to 2")
    if n.wanted[3:4] == [True]:
        n.unsupported("the scores as a result")
    return [out, a.key, a.value]


@op("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(n: Call) -> Value:
    """Positions are one for each token, or the first of all."""
    if n.attributes.flag("is_packed_batching"):
        n.unsupported("attribute 'is_packed_batching'")
    scale = n.attributes.number("scale", 1.0)
    if scale != 1:
        n.unsupported(f"a scale of {scale}")
    x, positions, cosine, sine = (n.value(i) for i in range(4))
    n.check(x.rank in (3, 4), f"{x.type} has rank {x.rank}, not 3 or 4")
    n.check(cosine.rank == sine.rank == 2, f"caches {cosine.type} and {sine.type}, not of rank 2")
    heads, size = n.attributes.integer("num_heads", 0), n.attributes.integer("rotary_embedding_dim", 0)
    n.check(size == 0 or heads > 0, "rotary_embedding_dim is given without num_heads")
    turned: DimLike = size or cosine.shape[1] * 2
    if x.rank == 3 and not heads:
        width = floordiv(x.shape[2], turned)
        if not isinstance(width, int):
            n.unsupported(f"heads in {x.type} without num_heads")
        heads = width
    split = heads_of(n, x, heads) if x.rank == 3 else x
    batch, _, steps, _ = split.shape
    if positions.rank == 1:
        first = n.b.reshape(n.match(positions, (1,)), (1, 1))
        positions = n.map("add", n.b.iota((batch, steps), 1, I64), first)
    positions = n.match(positions, (batch, steps))
    cosine, sine = (n.b.gather(c, 0, positions) for c in (cosine, sine))
    out = rotated(n, split, cosine, sine, interleaved=n.attributes.flag("interleaved"), size=turned)
    return heads_merged(n, out) if x.rank == 3 else out

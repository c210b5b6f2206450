"""Attention, rotary positions, and the recurrences that take its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.body import Body, Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.convolution import channels_first, channels_last
from vitrify.frontends.onnx.ops.normalization import softmax_of
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir import graph as g
from vitrify.ir.builder import parameter
from vitrify.ir.dims import DimLike, floordiv, maximum
from vitrify.ir.dtypes import F16, F32, I32, I64, DType
from vitrify.ir.graph import Value

NEGATIVE_INFINITY = float("-inf")


# Heads
def heads_of(n: Call, x: Value, heads: int) -> Value:
    """[B, T, heads * D] to [B, heads, T, D]."""
    n.check(x.rank == 3, f"{x.type} has rank {x.rank}, not 3")
    n.check(heads >= 1, f"a number of heads of {heads}")
    size = floordiv(x.shape[2], heads)
    n.check(not isinstance(x.shape[2], int) or size * heads == x.shape[2], f"{x.type} in {heads} heads")
    return n.b.permute(n.b.reshape(x, (*x.shape[:2], heads, size)), (0, 2, 1, 3))


def heads_merged(n: Call, x: Value) -> Value:
    """[B, heads, T, D] to [B, T, heads * D]."""
    batch, heads, steps, size = x.shape
    return n.b.reshape(n.b.permute(x, (0, 2, 1, 3)), (batch, steps, heads * size))


def group_size(n: Call, heads: DimLike, shared: DimLike) -> int:
    """How many heads of the query share one of the key."""
    if heads == shared:
        return 1
    if not (isinstance(heads, int) and isinstance(shared, int)):
        n.assume(heads, shared)
        return 1
    n.check(shared >= 1 and heads % shared == 0, f"{heads} heads of the query share {shared} of the key")
    return heads // shared


def grouped_product(n: Call, x: Value, y: Value, over: int, dtype: DType) -> Value:
    """x [B, H, L, K] with y [B, H / G, .., ..] over axis ``over`` of y: every G heads of x share one of y."""
    group = group_size(n, x.shape[1], y.shape[1])
    if x.dtype is not y.dtype:
        wide = x.dtype if x.dtype.bits > y.dtype.bits else y.dtype if y.dtype.bits > x.dtype.bits else F32
        x, y = n.b.cast(x, wide), n.b.cast(y, wide)
    if group == 1:
        return n.b.contract(x, y, batch=([0, 1], [0, 1]), over=([3], [over]), dtype=dtype)
    split = n.b.reshape(x, (x.shape[0], y.shape[1], group, *x.shape[2:]))
    out = n.b.contract(split, y, batch=([0, 1], [0, 1]), over=([4], [over]), dtype=dtype)
    return n.b.reshape(out, (*x.shape[:3], out.shape[-1]))


# Masks
def keys_allowed(n: Call, rows: DimLike, keys: DimLike, offset: Value, left: int, right: int) -> Value | None:
    """Whether a query sees a key: ``p - left <= j <= p + right`` with ``p = i + offset``, None for no bound.

    ``offset`` is an i32 of shape [] or [B, 1, 1, 1]; the result broadcasts to [B, heads, rows, keys].
    """
    at = n.map("add", n.b.iota((rows, 1), 0, I32), offset)
    key = n.b.iota((1, keys), 1, I32)
    bounds: list[Value] = []
    if right >= 0:
        bounds.append(n.map("le", key, n.map("add", at, n.number(right, at)) if right else at))
    if left >= 0:
        bounds.append(n.map("ge", key, n.map("sub", at, n.number(left, at))))
    return conjunction(n, bounds)


def conjunction(n: Call, conditions: Sequence[Value | None]) -> Value | None:
    total: Value | None = None
    for condition in conditions:
        if condition is not None:
            total = condition if total is None else n.map("and", total, condition)
    return total


def masked(n: Call, scores: Value, allowed: Value | None, added: Value | None) -> Value:
    """``scores + added`` where allowed, else -inf."""
    if added is not None:
        scores = n.map("add", scores, n.expand(n.b.cast(added, scores.dtype), scores.shape))
    if allowed is None:
        return scores
    return n.map("where", n.expand(allowed, scores.shape), scores, n.number(NEGATIVE_INFINITY, scores))


def softmax_parts(n: Call, scores: Value, sink: Value | None = None) -> tuple[Value, Value]:
    """Softmax over the last axis as powers and, for each row, what they are to be multiplied by; a row of -inf
    gives zeros. ``sink`` takes part in the sum alone."""
    axis = scores.rank - 1
    top = n.b.reduce("max", scores, [axis], keepdims=True)
    if sink is not None:
        top = n.map("max", top, sink)
    hidden = n.map("eq", top, n.number(NEGATIVE_INFINITY, top))
    top = n.map("where", hidden, n.number(0, top), top)
    powers = n.b.map("exp", n.map("sub", scores, top))
    total = n.b.reduce("sum", powers, [axis], keepdims=True)
    if sink is not None:
        total = n.map("add", total, n.b.map("exp", n.map("sub", n.expand(sink, top.shape), top)))
    total = n.map("where", hidden, n.number(1, total), total)  # elsewhere 1 or more
    return powers, n.map("div", n.number(1, total), total)


def guarded_softmax(n: Call, scores: Value, sink: Value | None = None) -> Value:
    """As :func:`softmax_parts`, multiplied."""
    return n.map("mul", *softmax_parts(n, scores, sink))


def attended(n: Call, scores: Value, value: Value, dtype: DType, sink: Value | None = None) -> Value:
    """``softmax(scores) @ value`` [B, H, L, F]; rows are multiplied after the product, where they are short."""
    powers, factor = softmax_parts(n, scores, sink)
    if dtype.bits < 32:
        return weighted(n, n.b.cast(n.map("mul", powers, factor), dtype), value, dtype)
    out = weighted(n, n.b.cast(powers, dtype), value, dtype)
    return n.map("mul", out, n.b.cast(factor, dtype))


def softcapped(n: Call, scores: Value, cap: float) -> Value:
    if cap == 0:
        return scores
    limit = n.number(cap, scores)
    return n.map("mul", n.b.map("tanh", n.map("div", scores, limit)), limit)


# Attention
@dataclass(frozen=True)
class Attended:
    """What is attended: query [B, H, L, E], key [B, H', S, E], value [B, H', S, F]."""

    query: Value
    key: Value
    value: Value


def same_sizes(n: Call, query: Value, key: Value, value: Value) -> Attended:
    for x in (query, key, value):
        n.check(x.rank == 4, f"{x.type} has rank {x.rank}, not 4")
    key = n.match_axis(n.match_axis(key, 0, query.shape[0]), 3, query.shape[3])
    for axis in range(3):
        value = n.match_axis(value, axis, key.shape[axis])
    return Attended(query, key, value)


def scores_of(n: Call, a: Attended, scale: float | None) -> Value:
    """``scale * query @ key'`` [B, H, L, S] in the dtype that narrow floats are computed in."""
    size = a.query.shape[3]
    if scale is None:
        n.check(isinstance(size, int), f"heads of the symbolic size {size} without a scale")
        n.check(size != 0, "heads of size 0 without a scale")
        scale = 1 / sqrt(int(str(size)))
    scores = grouped_product(n, a.query, a.key, 3, a.query.dtype.compute)
    return n.map("mul", scores, n.number(scale, scores))


def weighted(n: Call, probabilities: Value, value: Value, dtype: DType) -> Value:
    """``probabilities @ value`` [B, H, L, F]."""
    return grouped_product(n, probabilities, value, 2, dtype)


def appended(n: Call, past: Value | None, new: Value) -> Value:
    """The entries of a cache [B, H, P, D], then the new ones."""
    if past is None:
        return new
    n.check(past.rank == 4, f"the past {past.type} has rank {past.rank}, not 4")
    for axis in (0, 1, 3):
        past = n.match_axis(past, axis, new.shape[axis])
    return n.b.concat([past, new], 2)


def _attention_inputs(n: Call) -> tuple[Attended, Value | None]:
    """The heads, those of the past put in front, and the past's key."""
    inputs = [n.value(i) for i in range(3)]
    ranks = {x.rank for x in inputs}
    n.check(ranks in ({3}, {4}), f"query, key and value have ranks {[x.rank for x in inputs]}, not all 3 or all 4")
    counts = [n.attributes.integer(name, 0) for name in ("q_num_heads", "kv_num_heads")]
    if ranks == {3}:
        n.check(min(counts) >= 1, f"q_num_heads and kv_num_heads are {counts} for inputs of rank 3")
        inputs = [heads_of(n, x, counts[min(i, 1)]) for i, x in enumerate(inputs)]
    n.check(ranks == {3} or n.opset < 25 or counts == [0, 0], "numbers of heads are given for inputs of rank 4")
    past_key, past_value = n.optional(4), n.optional(5)
    n.check((past_key is None) == (past_value is None), "past_key and past_value are not given together")
    key, value = appended(n, past_key, inputs[1]), appended(n, past_value, inputs[2])
    return same_sizes(n, inputs[0], key, value), past_key


def _given_mask(n: Call, keys: DimLike) -> tuple[Value | None, Value | None]:
    """The mask as a condition or as what is added; short ones hide the keys that they do not reach."""
    mask = n.optional(3)
    if mask is None:
        return None, None
    n.check(1 <= mask.rank <= 4, f"the mask {mask.type} has rank {mask.rank}, not 1 to 4")
    held = mask.shape[-1]
    if held != keys:
        if not (isinstance(held, int) and isinstance(keys, int)) and not n.has(6):
            mask = n.match_axis(mask, mask.rank - 1, keys)
        else:
            missing = keys - held
            n.check(not isinstance(missing, int) or missing > 0, f"the mask {mask.type} for {keys} keys")
            if mask.dtype.is_int:
                mask = n.b.cast(mask, n.tensor(0).dtype)
            high = [0] * (mask.rank - 1) + [maximum(0, missing)]
            mask = n.b.pad(mask, [0] * mask.rank, high, False if mask.dtype.is_bool else NEGATIVE_INFINITY)
            mask = n.match_axis(mask, mask.rank - 1, keys)
    return (mask, None) if mask.dtype.is_bool else (None, mask)


def _hidden_by_position(n: Call, rows: DimLike, keys: DimLike, past: Value | None) -> Value | None:
    """What causality, windows and the number of valid keys allow."""
    left, right = (n.attributes.integer(f"{side}_window_size", -1) for side in ("left", "right"))
    n.check(min(left, right) >= -1, f"windows of {left} and {right}, not -1 or more")
    if n.attributes.flag("is_causal"):
        right = 0
    valid: Value | None = None
    offset = n.b.cast(n.b.dim(past.shape[2]), I32) if past is not None else n.b.constant(0, I32)
    if n.has(6):
        n.check(past is None, "nonpad_kv_seqlen is given together with a past")
        count = n.b.cast(n.value(6), I32)
        count = n.b.reshape(n.match(count, (n.tensor(0).shape[0],)), (n.tensor(0).shape[0], 1, 1, 1))
        valid = n.map("lt", n.b.iota((1, keys), 1, I32), count)
        offset = n.map("sub", count, n.b.cast(n.b.dim(rows), I32))
    return conjunction(n, [keys_allowed(n, rows, keys, offset, left, right), valid])


@op("Attention", since=23)
def attention(n: Call) -> Sequence[Result]:
    """``softmax(softcap(scale * Q @ K') + bias) @ V`` by heads; rows without a key give zeros."""
    a, past = _attention_inputs(n)
    scale = n.attributes.number("scale") if "scale" in n.attributes else None
    cap = n.attributes.number("softcap", 0.0)
    mode = n.attributes.integer("qk_matmul_output_mode", 0)
    n.check(mode in range(4), f"qk_matmul_output_mode is {mode}, not 0 to 3")
    n.check(cap >= 0, f"softcap is {cap}, not 0 or more")
    dtype = a.query.dtype
    scores = scores_of(n, a, scale)
    capped = softcapped(n, scores, cap)
    condition, added = _given_mask(n, a.key.shape[2])
    allowed = conjunction(n, [condition, _hidden_by_position(n, a.query.shape[2], a.key.shape[2], past)])
    biased = masked(n, capped, allowed, added)
    wide = n.b.cast(biased, _precision(n, biased.dtype))
    if mode == 3 and n.wanted[3:4] == [True]:
        shown = n.b.cast(guarded_softmax(n, wide), dtype)
        out = weighted(n, shown, a.value, dtype)
    else:
        shown = n.b.cast((scores, capped, biased, biased)[mode], dtype)
        out = attended(n, wide, a.value, dtype)
    return [heads_merged(n, out) if n.tensor(0).rank == 3 else out, a.key, a.value, shown]


def _precision(n: Call, default: DType) -> DType:
    code = n.attributes.integer("softmax_precision", 0)
    dtype = dtype_of(code) if code else default
    if dtype is None or not dtype.is_float or dtype.bits < F16.bits:
        n.invalid("softmax_precision is no float type", expected="1, 10, 11 or 16", actual=dtype_name(code))
    return dtype


# Rotary positions
def rotated(n: Call, x: Value, cosine: Value, sine: Value, *, interleaved: bool, size: DimLike) -> Value:
    """The first ``size`` entries of each head of x [B, H, T, D] turned, as pairs next to each other or of the
    two halves; ``cosine`` and ``sine`` [B or 1, T, size / 2] broadcast."""
    half = floordiv(size, 2)
    n.check(not isinstance(size, int) or size % 2 == 0, f"{size} entries to turn, not an even number")
    within = not isinstance(x.shape[3] - size, int) or int(str(x.shape[3] - size)) >= 0
    n.check(within, f"{size} entries of heads of size {x.shape[3]}")
    cosine, sine = (n.b.unsqueeze(n.match_axis(c, 2, half), 1) for c in (cosine, sine))
    turned = n.b.slice_axis(x, 3, 0, size)
    if interleaved:
        pairs = n.b.reshape(turned, (*x.shape[:3], half, 2))
        first, second = (n.b.squeeze(n.b.slice_axis(pairs, 4, i, 1), 4) for i in range(2))
    else:
        first, second = (n.b.slice_axis(turned, 3, i * half, half) for i in range(2))
    real = n.map("sub", n.map("mul", first, cosine), n.map("mul", second, sine))
    imaginary = n.map("add", n.map("mul", first, sine), n.map("mul", second, cosine))
    if interleaved:
        both = [n.b.unsqueeze(part, 4) for part in (real, imaginary)]
        parts = [n.b.reshape(n.b.concat(both, 4), (*x.shape[:3], size))]
    else:
        parts = [real, imaginary]
    rest = x.shape[3] - size
    return n.b.concat([*parts, n.b.slice_axis(x, 3, size, rest)] if rest != 0 else parts, 3)


@op("RotaryEmbedding", since=23)
def rotary_embedding(n: Call) -> Value:
    x, caches = n.value(0), [n.value(1), n.value(2)]
    heads = n.attributes.integer("num_heads", 0)
    n.check(x.rank in (3, 4), f"{x.type} has rank {x.rank}, not 3 or 4")
    split = heads_of(n, x, heads) if x.rank == 3 else x
    size = n.attributes.integer("rotary_embedding_dim", 0) or split.shape[3]
    n.check(not isinstance(size, int) or size > 0 or split.shape[3] == 0, f"rotary_embedding_dim is {size}")
    rank = 2 if n.has(3) else 3
    n.check(all(c.rank == rank for c in caches), f"caches {caches[0].type} and {caches[1].type}, not of rank {rank}")
    if n.has(3):
        caches = [n.b.gather(c, 0, n.value(3)) for c in caches]
        n.check(caches[0].rank == 3, f"positions {n.value(3).type}, not of rank 2")
    cosine, sine = (n.match(c, (split.shape[0], split.shape[2], c.shape[2])) for c in caches)
    out = rotated(n, split, cosine, sine, interleaved=n.attributes.flag("interleaved"), size=size)
    return heads_merged(n, out) if x.rank == 3 else out


# Recurrences in place of attention
@dataclass(frozen=True)
class Rule:
    """How the state of linear attention is updated."""

    decays: bool
    corrects: bool


_RULES = {
    "linear": Rule(False, False),
    "gated": Rule(True, False),
    "delta": Rule(False, True),
    "gated_delta": Rule(True, True),
}


def _steps_first(n: Call, x: Value, heads: int) -> Value:
    """[B, T, heads * D] to [T, B, heads, D] in f32."""
    return n.b.permute(heads_of(n, n.b.cast(x, F32), heads), (2, 0, 1, 3))


def _gates(n: Call, rule: Rule, heads: int, size: DimLike) -> list[Value]:
    """The factor of the state [T, B, heads, D or 1] and of the correction [T, B, heads or 1, 1]."""
    found: list[Value] = []
    for index, name, wanted in ((4, "decay", rule.decays), (5, "beta", rule.corrects)):
        n.check(n.has(index) == wanted, f"{name} is {'missing' if wanted else 'given'} for this update_rule")
        if not wanted:
            continue
        x = n.value(index)
        n.check(x.rank == 3, f"{name} {x.type} has rank {x.rank}, not 3")
        last = x.shape[2]
        fits = last in (heads, heads * size) if name == "decay" else last in (heads, 1)
        n.check(fits, f"{name} {x.type} for {heads} heads of size {size}")
        gate = _steps_first(n, x, heads if last != 1 or heads == 1 else 1)
        found.append(n.b.map("exp", gate) if name == "decay" else gate)
    return found


def _linear_step(n: Call, rule: Rule, state: Value, entries: Sequence[Value]) -> tuple[Value, Value]:
    """One token: the state [B, H, D, F] and what the queries [B, H, G, D] read from it."""
    query, key, value, *gates = entries
    if rule.decays:
        state = n.map("mul", state, n.b.unsqueeze(gates[0], 3))
    if rule.corrects:
        retrieved = n.b.contract(key, state, batch=([0, 1], [0, 1]), over=([2], [2]))
        value = n.map("mul", gates[-1], n.b.map("sub", value, retrieved))
    state = n.b.map("add", state, n.map("mul", n.b.unsqueeze(key, 3), n.b.unsqueeze(value, 2)))
    return state, n.b.contract(query, state, batch=([0, 1], [0, 1]), over=([3], [2]))


def scanned(
    n: Call, state: Value, entries: Sequence[Value], step: Callable[[Call, Value, list[Value]], tuple[Value, Value]]
) -> tuple[Value, Value]:
    """``step`` over axis 0 of the entries: the last state, and what each step gives. It captures nothing."""
    body = Body(n.symbols, n.body)
    body.builder.source = n.source
    position, carried = parameter("step", I64, ()), parameter("state", state.dtype, state.shape)
    current = [parameter(f"entry_{i}", x.dtype, x.shape[1:]) for i, x in enumerate(entries)]
    new, shown = step(n.inside(body), carried, current)
    graph = body.builder.build([position, carried, *current], [new, shown], "steps")
    last, stacked = n.b.add(g.Scan(graph, entries[0].shape[0], 1, len(entries)), state, *entries)
    return last, stacked


@op("LinearAttention", since=27)
def linear_attention(n: Call) -> Sequence[Result]:
    """A state per head of the key, updated by every token and read by its queries, all in f32."""
    n.attributes.ignore("chunk_size")
    heads, shared = n.attributes.integer("q_num_heads"), n.attributes.integer("kv_num_heads")
    n.check(heads >= 1 and shared >= 1, f"{heads} heads of the query and {shared} of the key")
    group = group_size(n, heads, shared)
    name = n.attributes.text("update_rule", "gated_delta")
    n.check(name in _RULES, f"update_rule is {name!r}, not one of {', '.join(_RULES)}")
    rule = _RULES[name]
    dtype = n.tensor(0).dtype
    query = _steps_first(n, n.value(0), heads)
    steps, batch, _, size = query.shape
    key, value = (_steps_first(n, n.value(i), shared) for i in (1, 2))
    key = n.match(key, (steps, batch, shared, size))
    value = n.match(value, (steps, batch, shared, value.shape[3]))
    query = n.b.reshape(query, (steps, batch, shared, group, size))
    gates = [n.match(x, (steps, batch, *x.shape[2:])) for x in _gates(n, rule, shared, size)]
    shape = (batch, shared, size, value.shape[3])
    past = n.optional(3)
    state = n.b.fill(0, F32, shape) if past is None else n.b.cast(n.match(past, shape), F32)
    last, read = scanned(n, state, [query, key, value, *gates], lambda m, s, e: _linear_step(m, rule, s, e))
    scale = n.attributes.number("scale", 0.0) or (1 / sqrt(size) if isinstance(size, int) and size else 1.0)
    read = n.map("mul", read, n.number(scale, read))  # [T, B, H', G, F]
    out = n.b.reshape(n.b.permute(read, (1, 0, 2, 3, 4)), (batch, steps, heads * value.shape[3]))
    return [n.b.cast(out, dtype), n.b.cast(last, dtype if past is None else past.dtype)]


@op("CausalConvWithState", since=27)
def causal_convolution(n: Call) -> Sequence[Result]:
    """A convolution of each channel with what came before it; the last ``k - 1`` values are handed on."""
    x, weights, bias, past = n.value(0), n.value(1), n.optional(2), n.optional(3)
    activation = n.attributes.text("activation", "none")
    n.check(activation in ("none", "silu", "swish"), f"activation is {activation!r}, not none, silu or swish")
    n.check(x.rank == 3 and weights.rank == 3, f"a convolution of {x.type} with {weights.type}")
    batch, channels, length = x.shape
    size = weights.shape[2]
    if not isinstance(size, int):
        n.unsupported(f"a kernel of the symbolic size {size}")
    n.check(size >= 1, "a kernel of size 0")
    weights = n.b.squeeze(n.match(weights, (channels, 1, size)), 1)
    kept = (batch, channels, size - 1)
    line = n.b.pad(x, (0, 0, size - 1), (0, 0, 0)) if past is None else n.b.concat([n.match(past, kept), x], 2)
    seen = n.b.window(channels_last(n, line), [1], [size], [1], [1])  # [B, L, C, k]
    out = n.b.permute(n.b.contract(seen, weights, batch=([2], [0]), over=([3], [1])), (1, 2, 0))  # [B, L, C]
    if bias is not None:
        out = n.b.map("add", out, n.expand(n.match(bias, (channels,)), out.shape))
    if activation != "none":
        out = n.b.map("silu", out)
    return [channels_first(n, out), n.b.slice_axis(line, 2, length, size - 1)]


# Attention with graphs of the user's
def _modified(n: Call, x: Value, name: str) -> Value:
    """What the graph makes of ``x``: one input and one result of its dtype and shape."""
    if name not in n.attributes:
        return x
    proto = n.attributes.graph(name)
    n.check(len(proto.input) == 1 and len(proto.output) == 1, f"{name} has not one input and one result")
    given = Tensor(x.dtype, x.shape, value=x, home=n.body)
    (result,) = n.branch(proto, n.body, name, {proto.input[0].name: given})
    out = n.body.resolve(result)
    n.check(out.dtype is x.dtype, f"{name} gives {out.type} of {x.type}")
    return n.match(out, x.shape)


@op("FlexAttention", domain="ai.onnx.preview")
def flex_attention(n: Call) -> Value:
    """Attention whose scores and probabilities go through graphs."""
    a = same_sizes(n, n.value(0), n.value(1), n.value(2))
    dtype = a.query.dtype
    scores = scores_of(n, a, n.attributes.number("scale") if "scale" in n.attributes else None)
    wide = _precision(n, dtype.compute)
    scores = _modified(n, n.b.cast(scores, wide), "score_mod")
    probabilities = _modified(n, softmax_of(n, scores, 3), "prob_mod")
    return n.b.cast(weighted(n, probabilities, n.b.cast(a.value, wide), wide), dtype)

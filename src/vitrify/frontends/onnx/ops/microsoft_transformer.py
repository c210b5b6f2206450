"""Activations, normalisations, embeddings and fused products of the domain com.microsoft."""

from __future__ import annotations

from collections.abc import Sequence

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.activation import hard_sigmoid_of, select_positive, swish_of
from vitrify.frontends.onnx.ops.convolution import channels_first, convolve
from vitrify.frontends.onnx.ops.indexing import from_front
from vitrify.frontends.onnx.ops.math import clip_to
from vitrify.frontends.onnx.ops.matrix import gemm_of, matmul_of
from vitrify.frontends.onnx.ops.movement import trilu
from vitrify.frontends.onnx.ops.normalization import normalized, root_mean_square
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.dims import floordiv
from vitrify.ir.dtypes import I32
from vitrify.ir.graph import Value

MICROSOFT = "com.microsoft"
NEAR_ZERO = 1e-12  # what onnxruntime's fused normalisations take as epsilon


def last_axis(n: Call, parameter: Value, x: Value) -> Value:
    """A parameter of rank 1 with one element per entry of the last axis of ``x``."""
    n.check(x.rank >= 1 and parameter.rank == 1, f"{parameter.type} for the last axis of {x.type}")
    return n.match(parameter, x.shape[-1:])


def with_bias(n: Call, x: Value, index: int) -> Value:
    bias = n.optional(index)
    return x if bias is None else n.map("add", x, last_axis(n, bias, x))


# Activations
@op("Gelu", domain=MICROSOFT)
def gelu(n: Call) -> Value:
    return n.b.map("gelu", n.value(0))


@op("FastGelu", domain=MICROSOFT)
def fast_gelu(n: Call) -> Value:
    return n.b.map("gelu_tanh", with_bias(n, n.value(0), 1))


@op("BiasGelu", domain=MICROSOFT)
def bias_gelu(n: Call) -> Value:
    n.value(1)
    return n.b.map("gelu", with_bias(n, n.value(0), 1))


@op("QuickGelu", domain=MICROSOFT)
def quick_gelu(n: Call) -> Value:
    return swish_of(n, n.value(0), n.attributes.number("alpha", 1.702))


@op("BiasAdd", domain=MICROSOFT)
def bias_add(n: Call) -> Value:
    x = n.value(0)
    return n.map("add", n.map("add", x, last_axis(n, n.value(1), x)), n.match(n.value(2), x.shape))


@op("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(n: Call) -> Value:
    """The first half of the last axis times the gelu of the second."""
    n.value(1)
    x = with_bias(n, n.value(0), 1)
    size = x.shape[-1]
    n.check(not isinstance(size, int) or size % 2 == 0, f"{x.type} in two halves")
    half = floordiv(size, 2)
    left, right = (n.b.slice_axis(x, x.rank - 1, i * half, half) for i in range(2))
    return n.map("mul", left, n.b.map("gelu", right))


# Normalisation
def _skipped(n: Call, bias: int) -> Value:
    """``input + skip (+ bias)``; a skip may lack the batch."""
    x, skip = n.value(0), n.value(1)
    n.check(x.rank in (2, 3), f"{x.type} has rank {x.rank}, not 2 or 3")
    n.check(skip.rank in (2, x.rank), f"a skip {skip.type} for {x.type}")
    lone = skip.rank == 3 and skip.shape[0] == 1
    skip = n.match(skip, (1, *x.shape[1:]) if lone else x.shape[x.rank - skip.rank :])
    return with_bias(n, n.map("add", x, skip), bias)


@op("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(n: Call) -> Sequence[Result]:
    total = _skipped(n, 4)
    wide = n.b.cast(total, total.dtype.compute)
    out, mean, inverse = normalized(n, wide, [total.rank - 1], n.attributes.number("epsilon", NEAR_ZERO))
    out = n.map("mul", n.b.cast(out, total.dtype), last_axis(n, n.value(2), total))
    return [with_bias(n, out, 3), mean, inverse, total]


@op("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(n: Call) -> Sequence[Result]:
    total = _skipped(n, 3)
    epsilon = n.attributes.number("epsilon", NEAR_ZERO)
    scale = last_axis(n, n.value(2), total)
    out, inverse = root_mean_square(n, total, scale, total.rank - 1, total.dtype.compute, epsilon)
    return [out, None, inverse, total]


@op("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(n: Call) -> Sequence[Result]:
    """The embeddings of words, positions and segments, added and normalised; the number of words that count."""
    n.attributes.ignore("mask_index_type")
    words = n.value(0)
    n.check(words.rank == 2, f"the words {words.type} have rank {words.rank}, not 2")
    batch, steps = words.shape
    total = n.b.gather(n.value(2), 0, from_front(n, words, n.value(2).shape[0], n.constant(0)))
    positions = n.value(3)
    if n.has(8):
        given = n.value(8)
        n.check(given.rank == 2, f"the positions {given.type} have rank {given.rank}, not 2")
        given = n.match(given, (1 if given.shape[0] == 1 else batch, steps))
        placed = n.b.gather(positions, 0, from_front(n, given, positions.shape[0], n.constant(8)))
    else:
        placed = n.b.gather(positions, 0, n.b.iota((steps,), 0))
    total = n.map("add", total, placed)
    if n.has(1):
        segments = n.match(n.value(1), words.shape)
        table = n.value(4)
        total = n.map("add", total, n.b.gather(table, 0, from_front(n, segments, table.shape[0], n.constant(1))))
    wide = n.b.cast(total, total.dtype.compute)
    out, _, _ = normalized(n, wide, [2], n.attributes.number("epsilon", NEAR_ZERO))
    out = n.map("mul", n.b.cast(out, total.dtype), last_axis(n, n.value(5), total))
    n.value(6)
    mask = n.optional(7)
    if mask is None:
        counted = n.b.fill(0, I32, (batch,))
    else:
        hits = n.map("eq", n.match(mask, words.shape), n.number(1, mask))
        counted = n.b.reduce("sum", n.b.cast(hits, I32), [1])
    return [with_bias(n, out, 6), counted, total]


# Products
def _turned(n: Call, x: Value, side: str) -> Value:
    """The matrices of x as rows and columns; a transposed batch has its first axis among the last two."""
    swapped = n.attributes.flag(f"trans{side}")
    batch_last = n.attributes.flag(f"transBatch{side}")
    if x.rank < 2:
        return x
    perm = list(range(x.rank))
    if batch_last:
        n.check(x.rank >= 3, f"transBatch{side} of {x.type}")
        perm = [*range(1, x.rank - 1), 0, x.rank - 1]
    if swapped:
        perm[-2:] = [perm[-1], perm[-2]]
    return n.b.permute(x, perm)


@op("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(n: Call) -> Value:
    """``alpha * A' @ B'``."""
    a, b = _turned(n, n.value(0), "A"), _turned(n, n.value(1), "B")
    out = matmul_of(n, a, b)
    alpha = n.attributes.number("alpha", 1.0)
    return out if alpha == 1 else n.map("mul", out, n.number(alpha, out))


def _activated(n: Call, x: Value, parameters: Sequence[float]) -> Value:
    """The activation that an op was fused with."""
    name = n.attributes.text("activation", "")
    simple = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
    if name in simple or not name:
        return n.b.map(simple[name], x) if name else x
    wanted = {"LeakyRelu": 1, "Clip": 2, "HardSigmoid": 2}
    if name not in wanted:
        n.unsupported(f"the activation {name!r}")
    n.check(len(parameters) >= wanted[name], f"the activation {name} with the parameters {list(parameters)}")
    if name == "LeakyRelu":
        return select_positive(n, x, n.map("mul", x, n.number(parameters[0], x)))
    if name == "Clip":
        return clip_to(n, x, n.number(parameters[0], x), n.number(parameters[1], x))
    return hard_sigmoid_of(n, x, parameters[0], parameters[1])


@op("FusedConv", domain=MICROSOFT)
def fused_conv(n: Call) -> Value:
    """A convolution, plus what is added to it, through an activation."""
    out = convolve(n, n.value(0), n.value(1))
    out = channels_first(n, with_bias(n, out, 2))
    added = n.optional(3)
    if added is not None:
        out = n.map("add", out, n.match(added, out.shape))
    return _activated(n, out, n.attributes.numbers("activation_params") or ())


@op("FusedGemm", domain=MICROSOFT)
def fused_gemm(n: Call) -> Value:
    modern = n.inside(n.body)
    modern.opset = 13  # of ai.onnx, as which the product is meant
    given = [n.attributes.number(f"activation_{p}", 0.0) for p in ("alpha", "beta", "gamma")]
    return _activated(n, gemm_of(modern), given)


op("Trilu", domain=MICROSOFT)(trilu)

"""Contractions as models pose them: matrix products and convolutions, with random data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.lower.contract.harness import Case, Output
from vitrify.ir.dims import Dim, DimLike, evaluate, product
from vitrify.ir.dtypes import F32, F64, I32, DType
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction

Array = np.ndarray[Any, Any]


def accumulator(dtype: DType) -> DType:
    return F64 if dtype is F64 else F32 if dtype.is_float else dtype if dtype.itemsize == 8 else I32


def random_array(count: int, dtype: DType, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.is_float:
        return rng.standard_normal(count).astype(np.float32).astype(dtype.numpy)
    return rng.integers(max(dtype.min(), -100), min(dtype.max(), 100), count, endpoint=True).astype(
        dtype.numpy
    )


def row_major(extents: Sequence[DimLike]) -> list[DimLike]:
    """Strides of a contiguous array."""
    strides: list[DimLike] = []
    step: DimLike = 1
    for extent in reversed(extents):
        strides.insert(0, step)
        step = step * extent
    return strides


def numbers(values: Sequence[DimLike], sizes: dict[str, int]) -> int:
    return int(np.prod([evaluate(v, sizes) for v in values], dtype=np.int64))


def matmul(
    m: DimLike,
    k: DimLike,
    n: DimLike,
    *,
    batch: Sequence[DimLike] = (),
    dtype: DType = F32,
    weights: DType | None = None,
    constant: bool = True,
    shared: bool = True,
    transpose_lhs: bool = False,
    transpose_rhs: bool = False,
    sizes: dict[str, int] | None = None,
    seed: int = 0,
    pad: int = 0,
    **facts: Any,
) -> Case:
    """``[batch, m, k] @ [k, n]`` (``shared``) or ``@ [batch, k, n]``; ``pad``: gap between lhs rows."""
    sizes = sizes or {}
    weights = weights or dtype
    epilogue = {key: facts.pop(key) for key in ("bias", "residual", "relu", "cost") if key in facts}
    batch_axes = tuple(Axis(f"b{i}", e) for i, e in enumerate(batch))
    lhs_shape = [*batch, k, m + pad] if transpose_lhs else [*batch, m, k + pad]
    rhs_shape = ([] if shared else list(batch)) + ([n, k] if transpose_rhs else [k, n])
    ls, rs, os = row_major(lhs_shape), row_major(rhs_shape), row_major([*batch, m, n])
    names = [a.name for a in batch_axes]
    lhs_names = [*names, *(("k", "m") if transpose_lhs else ("m", "k"))]
    rhs_names = ([] if shared else names) + (["n", "k"] if transpose_rhs else ["k", "n"])
    arrays = {
        "lhs": random_array(numbers(lhs_shape, sizes), dtype, seed),
        "rhs": random_array(numbers(rhs_shape, sizes), weights, seed + 1),
    }
    accumulate = accumulator(dtype)
    if epilogue.get("bias"):
        arrays["bias"] = random_array(evaluate(n, sizes), accumulate, seed + 2)
    if epilogue.get("residual"):
        arrays["residual"] = random_array(numbers([*batch, m, n], sizes), accumulate, seed + 3)
    dims = tuple(sizes)
    out = Output(dict(zip([*names, "m", "n"], os, strict=True)), accumulate, "n", dims=dims, **epilogue)
    problem = Contraction(
        batch_axes,
        (Axis("m", m),),
        (Axis("n", n),),
        (Axis("k", k),),
        Access("lhs", dtype, 0, dict(zip(lhs_names, ls, strict=True))),
        Access(
            "rhs",
            weights,
            0,
            dict(zip(rhs_names, rs, strict=True)),
            constant=arrays["rhs"] if constant else None,
        ),
        accumulate,
        out,
        dims,
        **facts,
    )
    return Case(problem, arrays, product([*batch, m, n]), sizes)


def conv(
    n: DimLike,
    channels: int,
    spatial: Sequence[DimLike],
    out_channels: int,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[tuple[int, int]] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    channels_last: bool = True,
    out_last: bool = True,
    constant: bool = True,
    dtype: DType = F32,
    sizes: dict[str, int] | None = None,
    seed: int = 0,
    **facts: Any,
) -> Case:
    """A convolution; weights ``[out_channels, channels / groups, *kernel]``. One channel per group and as
    many outputs makes the channels the last batch axis, without right axes."""
    rank, sizes = len(spatial), sizes or {}
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [(0, 0)] * rank
    epilogue = {key: facts.pop(key) for key in ("bias", "residual", "relu", "cost") if key in facts}
    per, out_per = channels // groups, out_channels // groups
    depthwise = groups > 1 and per == 1 and out_per == 1
    outs = [
        (s + a + b - d * (k - 1) - 1) // t + 1
        for s, (a, b), d, k, t in zip(spatial, pads, dilations, kernel, strides, strict=True)
    ]
    in_shape = [n, *spatial, channels] if channels_last else [n, channels, *spatial]
    out_shape = [n, *outs, out_channels] if out_last else [n, out_channels, *outs]
    xs, ws, ys = row_major(in_shape), row_major([out_channels, per, *kernel]), row_major(out_shape)
    x_channel, x_space = (xs[-1], xs[1:-1]) if channels_last else (xs[1], xs[2:])
    y_channel, y_space = (ys[-1], ys[1:-1]) if out_last else (ys[1], ys[2:])
    lhs: dict[str, DimLike] = {"n": xs[0]}
    rhs: dict[str, DimLike] = {}
    out: dict[str, DimLike] = {"n": ys[0]}
    batch, right, contracted = [], [], []
    left = [Axis("n", n)]
    if groups > 1:
        batch.append(Axis("g", groups))
        lhs["g"], rhs["g"], out["g"] = x_channel * per, ws[0] * out_per, y_channel * out_per
    if not depthwise:
        right.append(Axis("oc", out_per))
        rhs["oc"], out["oc"] = ws[0], y_channel
        contracted.append(Axis("ic", per))
        lhs["ic"], rhs["ic"] = x_channel, ws[1]
    bounds, offset = [], 0
    for i in range(rank):
        left.append(Axis(f"o{i}", outs[i]))
        contracted.append(Axis(f"k{i}", kernel[i]))
        lhs[f"o{i}"], lhs[f"k{i}"] = x_space[i] * strides[i], x_space[i] * dilations[i]
        rhs[f"k{i}"], out[f"o{i}"] = ws[2 + i], y_space[i]
        if pads[i] != (0, 0):
            offset = offset - x_space[i] * pads[i][0]
            bounds.append(Bound(-pads[i][0], {f"o{i}": strides[i], f"k{i}": dilations[i]}, spatial[i]))
    accumulate = accumulator(dtype)
    arrays = {
        "lhs": random_array(numbers(in_shape, sizes), dtype, seed),
        "rhs": random_array(numbers([out_channels, per, *kernel], {}), dtype, seed + 1),
    }
    if epilogue.get("residual"):
        arrays["residual"] = random_array(numbers(out_shape, sizes), accumulate, seed + 3)
    lane = "g" if depthwise else "oc"
    if epilogue.get("bias"):
        arrays["bias"] = random_array(groups if depthwise else out_per, accumulate, seed + 2)
    problem = Contraction(
        tuple(batch), tuple(left), tuple(right), tuple(contracted),
        Access("lhs", dtype, offset, lhs, tuple(bounds)),
        Access("rhs", dtype, 0, rhs, constant=arrays["rhs"] if constant else None),
        accumulate, Output(out, accumulate, lane, dims=tuple(sizes), **epilogue), tuple(sizes), **facts,
    )  # fmt: skip
    return Case(problem, arrays, product(out_shape), sizes)


def dim(name: str, lo: int = 0, hi: int | None = None) -> Dim:
    return Dim.symbol(name, lo, hi)

"""Channels-first layers, as an importer writes them: to channels-last, compute, and back."""

from __future__ import annotations

import numpy as np

from tests.rewrite.checks import Model
from vitrify.ir.graph import Value


def to_last(m: Model, x: Value) -> Value:
    return m.permute(x, (0, *range(2, x.rank), 1))


def to_first(m: Model, x: Value) -> Value:
    return m.permute(x, (0, x.rank - 1, *range(1, x.rank - 1)))


def conv(m: Model, x: Value, filters: int, size: int, *, pad: int = 0, groups: int = 1, seed: int = 1) -> Value:
    channels = x.shape[1]
    assert isinstance(channels, int)
    weights = m.weights(filters, channels // groups, size, size, seed=seed)
    y = m.pad(to_last(m, x), (0, pad, pad, 0), (0, pad, pad, 0), 0.0)
    if groups == 1:
        y = m.window(y, (1, 2), (size, size), (1, 1), (1, 1))
        return to_first(m, m.contract(y, weights, over=((3, 4, 5), (1, 2, 3))))
    y = m.reshape(y, (*y.shape[:3], groups, channels // groups))
    y = m.window(y, (1, 2), (size, size), (1, 1), (1, 1))
    grouped = m.reshape(weights, (groups, filters // groups, *weights.shape[1:]))
    y = m.contract(y, grouped, batch=((3,), (0,)), over=((4, 5, 6), (2, 3, 4)))
    y = m.permute(y, (1, 2, 3, 0, 4))
    return to_first(m, m.reshape(y, (*y.shape[:3], filters)))


def norm(m: Model, x: Value, seed: int = 3) -> Value:
    channels = x.shape[1]
    assert isinstance(channels, int)
    mean, scale, shift = (m.channels(channels, x.rank, 1, seed=seed + i) for i in range(3))
    return m.map("add", m.map("mul", m.map("sub", x, mean), scale), shift)


def relu(m: Model, x: Value) -> Value:
    return m.map("relu", x)


def pool(m: Model, x: Value, size: int, stride: int) -> Value:
    y = m.window(to_last(m, x), (1, 2), (size, size), (stride, stride), (1, 1))
    return to_first(m, m.reduce("max", y, (4, 5)))


def local_response(m: Model, x: Value) -> Value:
    """Normalisation by the squares of 3 neighbouring channels."""
    squares = m.pad(m.map("mul", x, x), (0, 1, 0, 0), (0, 1, 0, 0), 0.0)
    total = m.reduce("sum", m.window(squares, (1,), (3,), (1,), (1,)), (4,))
    half = m.constant(np.float32(0.5))
    return m.map("div", x, m.map("exp", m.map("mul", total, half)))


def shuffle(m: Model, x: Value, groups: int) -> Value:
    n, c, h, w = x.shape
    assert isinstance(c, int)
    return m.reshape(m.permute(m.reshape(x, (n, groups, c // groups, h, w)), (0, 2, 1, 3, 4)), x.shape)


def softmax(m: Model, x: Value) -> Value:
    most = m.reduce("max", x, (x.rank - 1,), keepdims=True)
    e = m.map("exp", m.map("sub", x, most))
    return m.map("div", e, m.reduce("sum", e, (x.rank - 1,), keepdims=True))

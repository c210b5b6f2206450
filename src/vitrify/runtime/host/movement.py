"""Ops that move elements without looking into them, and comparisons of strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import IndexOutOfRangeError, ShapeError
from .ops import Apply, Array, Failure, Settings, host_op
from .strings import broadcast


@host_op("Equal")
def equal(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        a, b = broadcast(*inputs)
        same = [x == y for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)]
        return [np.array(same, bool).reshape(a.shape)]

    return apply


@host_op("Where")
def where(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        condition, a, b = broadcast(*inputs)
        return [np.where(condition, a, b)]

    return apply


@host_op("Shape")
def shape(settings: Settings) -> Apply:
    start = settings.integer("start", 0)

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        stop = settings.integer("end") if "end" in settings else None
        return [np.array(inputs[0].shape[start:stop], np.int64)]

    return apply


@host_op("Size")
def size(settings: Settings) -> Apply:
    return lambda inputs: [np.asarray(inputs[0].size, np.int64)]


@host_op("Reshape")
def reshape(settings: Settings) -> Apply:
    keep = settings.integer("allowzero", 0) == 1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        wanted = [int(n) for n in np.asarray(inputs[1]).reshape(-1)]
        if not keep:
            if any(n == 0 and axis >= x.ndim for axis, n in enumerate(wanted)):
                raise Failure(f"a size copied from an axis that is none of {list(x.shape)}", ShapeError, actual=wanted)
            wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
        try:
            if any(n < -1 for n in wanted):
                raise ValueError
            return [x.reshape(wanted)]
        except ValueError:
            raise Failure(f"shape {list(x.shape)} does not become {wanted}", ShapeError) from None

    return apply


@host_op("Unsqueeze")
def unsqueeze(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        axes = tuple(int(a) for a in np.asarray(inputs[1]).reshape(-1))
        return [_moved(lambda: np.expand_dims(inputs[0], axes), f"axes {list(axes)}")]

    return apply


@host_op("Squeeze")
def squeeze(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        given = len(inputs) > 1 and inputs[1] is not None
        axes = tuple(int(a) for a in np.asarray(inputs[1]).reshape(-1)) if given else None
        return [_moved(lambda: np.squeeze(inputs[0], axes), f"axes {axes}")]

    return apply


@host_op("Concat")
def concat(settings: Settings) -> Apply:
    axis = settings.integer("axis")
    return lambda inputs: [_moved(lambda: np.concatenate(list(inputs), axis), f"axis {axis}")]


@host_op("Transpose")
def transpose(settings: Settings) -> Apply:
    order = settings.integers("perm") if "perm" in settings else None
    return lambda inputs: [_moved(lambda: np.transpose(inputs[0], order), f"order {order}")]


@host_op("Expand")
def expand(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        wanted = [int(n) for n in np.asarray(inputs[1]).reshape(-1)]
        if any(n < 0 for n in wanted):
            raise Failure("negative sizes", ShapeError, actual=wanted)
        return [broadcast(inputs[0], np.broadcast_to(np.False_, wanted))[0].copy()]

    return apply


@host_op("Gather")
def gather(settings: Settings) -> Apply:
    axis = settings.integer("axis", 0)

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x, at = inputs[0], np.asarray(inputs[1])
        if not -x.ndim <= axis < x.ndim:
            raise Failure(f"axis {axis} of a tensor of rank {x.ndim}", ShapeError)
        extent = x.shape[axis]
        wrong = at[(at < -extent) | (at >= extent)]
        if wrong.size:
            raise Failure("index out of range", IndexOutOfRangeError, expected=f"below {extent}", actual=int(wrong[0]))
        return [np.asarray(np.take(x, at, axis), x.dtype)]

    return apply


@host_op("ArrayFeatureExtractor")
def array_feature_extractor(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x, at = inputs[0], np.asarray(inputs[1]).reshape(-1)
        if not x.ndim:
            raise Failure("a tensor of rank 0", ShapeError, expected="rank 1 or more")
        columns = x.shape[-1]
        wrong = at[(at < 0) | (at >= columns)]
        if wrong.size:
            expected = f"columns from 0 to {columns - 1}"
            raise Failure("column out of range", IndexOutOfRangeError, expected=expected, actual=int(wrong[0]))
        return [np.take(np.atleast_2d(x), at, -1)]

    return apply


def _moved(make: Any, what: str) -> Array:
    try:
        return np.asarray(make())
    except ValueError as error:  # numpy.exceptions.AxisError is one
        raise Failure(f"{what}: {error}", ShapeError) from None

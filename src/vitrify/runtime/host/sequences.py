"""Sequences and optionals: lists, and None where there is no element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from .ops import Apply, Array, Failure, Settings, host_op, position


@host_op("Identity")
def identity(settings: Settings) -> Apply:
    return lambda inputs: [inputs[0]]


@host_op("Absent")
def absent(settings: Settings) -> Apply:
    """An optional without an element."""
    return lambda inputs: [None]


@host_op("SequenceConstruct")
def construct(settings: Settings) -> Apply:
    return lambda inputs: [list(inputs)]


@host_op("Unpack")
def unpack(settings: Settings) -> Apply:
    """The elements of a sequence whose length was stated when the model was compiled."""
    count = settings.outputs

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        items = inputs[0]
        if items is None or len(items) != count:
            raise Failure(
                "a sequence of another length than was compiled for", ShapeError, expected=f"{count} elements",
                actual="no sequence" if items is None else len(items),
                hint="state the elements' shapes in input_shapes",
            )  # fmt: skip
        return list(items)

    return apply


@host_op("Present")
def present(settings: Settings) -> Apply:
    """The element of an optional, which the model was compiled to have or not to have."""
    wanted = settings.integer("present") == 1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        if (inputs[0] is not None) != wanted:
            names = ("no element", "an element")
            raise Failure(
                "an optional of another state than was compiled for", ShapeError, expected=names[wanted],
                actual=names[not wanted], hint="state its shape, or None, in input_shapes",
            )  # fmt: skip
        return [inputs[0]]

    return apply


@host_op("OptionalHasElement")
def has_element(settings: Settings) -> Apply:
    return lambda inputs: [np.asarray(bool(inputs) and inputs[0] is not None)]


@host_op("OptionalGetElement")
def get_element(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        if inputs[0] is None:
            raise Failure("the optional has no element", expected="an element", actual="None")
        return [inputs[0]]

    return apply


@host_op("SequenceLength")
def length(settings: Settings) -> Apply:
    return lambda inputs: [np.asarray(len(inputs[0]), np.int64)]


@host_op("SequenceAt")
def at(settings: Settings) -> Apply:
    return lambda inputs: [inputs[0][position(inputs[1], len(inputs[0]))]]


@host_op("SequenceErase")
def erase(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        items = list(inputs[0])
        del items[position(inputs[1] if len(inputs) > 1 and inputs[1] is not None else -1, len(items))]
        return [items]

    return apply


@host_op("SequenceInsert")
def insert(settings: Settings) -> Apply:
    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        items = list(inputs[0])
        given = len(inputs) > 2 and inputs[2] is not None
        items.insert(position(inputs[2], len(items), inserting=True) if given else len(items), inputs[1])
        return [items]

    return apply


@host_op("ConcatFromSequence")
def concat_from_sequence(settings: Settings) -> Apply:
    axis, stacking = settings.integer("axis"), settings.integer("new_axis", 0) == 1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        items: list[Array] = list(inputs[0])
        if not items:
            raise Failure("a sequence without elements has nothing to join", expected="at least 1 element", actual=0)
        try:
            return [np.stack(items, axis) if stacking else np.concatenate(items, axis)]
        except ValueError as error:  # numpy.exceptions.AxisError is one
            raise Failure(f"the elements cannot be joined: {error}", ShapeError) from None

    return apply


@host_op("SplitToSequence")
def split_to_sequence(settings: Settings) -> Apply:
    axis, keep = settings.integer("axis", 0), settings.integer("keepdims", 1) == 1

    def apply(inputs: Sequence[Any]) -> Sequence[Any]:
        x: Array = inputs[0]
        if not -x.ndim <= axis < x.ndim:
            raise Failure(f"axis {axis} of a tensor of rank {x.ndim}", ShapeError)
        size = x.shape[axis]
        if len(inputs) < 2 or inputs[1] is None:
            parts = [x.take(range(i, i + 1), axis) if keep else x.take(i, axis) for i in range(size)]
            return [[np.asarray(part) for part in parts]]
        sizes = split_sizes(np.asarray(inputs[1]), size)
        stops = np.cumsum([0, *sizes])
        cut = [x.take(range(a, b), axis) for a, b in zip(stops[:-1].tolist(), stops[1:].tolist(), strict=True)]
        return [cut]

    return apply


def split_sizes(split: Array, size: int) -> list[int]:
    """The sizes of the parts: equal ones but for the last where ``split`` is a scalar, else as listed."""
    if split.ndim == 0:
        step = int(split)
        if step <= 0:
            raise Failure(f"parts of {step}", ShapeError, expected="a positive size", actual=step)
        return [min(step, size - start) for start in range(0, size, step)]
    sizes = [int(n) for n in split.reshape(-1)]
    if any(n < 0 for n in sizes) or sum(sizes) != size:
        raise Failure("the parts' sizes do not fit the axis", ShapeError, expected=f"a sum of {size}", actual=sizes)
    return sizes

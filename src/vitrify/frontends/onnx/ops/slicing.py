"""Slice and Pad."""

from __future__ import annotations

from vitrify.frontends.onnx.body import Contents
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.symbolic import plain
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.frontends.onnx.symbols import less
from vitrify.ir.dims import DimLike, ceildiv, maximum, minimum, provably_nonnegative
from vitrify.ir.dtypes import BOOL, I64
from vitrify.ir.graph import Value

FAR = 2**31 - 1  # bounds at least this far away mean "to the end"


# Slice
def _clamped(n: Call, position: DimLike, extent: DimLike, low: DimLike, high: DimLike) -> DimLike:
    """A bound counted from the front and moved into ``low .. high``; negative ones count from the end."""
    if isinstance(position, int) and position >= FAR:
        return high
    if isinstance(position, int) and position < -FAR:
        return low
    if isinstance(position, int):
        front = position + extent if position < 0 else position
    elif provably_nonnegative(position):
        front = position
    else:
        front = position + n.body.simplify(less(position, 0)) * extent
    return minimum(maximum(front, low), high)


def slice_bounds(n: Call, start: DimLike, end: DimLike, step: int, extent: DimLike) -> tuple[DimLike, DimLike]:
    """``(first position, count)`` as ONNX clamps them."""
    if step > 0:
        last = _clamped(n, end, extent, 0, extent)
        if isinstance(start, int) and 0 <= start < FAR:  # beyond the end nothing is taken, wherever it starts
            return start, maximum(0, ceildiv(last - start, step))
        first = _clamped(n, start, extent, 0, extent)
        return first, maximum(0, ceildiv(last - first, step))
    first = _clamped(n, start, extent, 0 if extent == 0 else maximum(-1, minimum(0, extent - 1)), extent - 1)
    last = _clamped(n, end, extent, -1, extent - 1)
    return first, maximum(0, ceildiv(first - last, -step))


def _plan(n: Call, rank: int) -> tuple[list[int], list[int]] | None:
    """The axes and steps; None where only a run knows them."""
    n.check(n.tensor(1).rank == n.tensor(2).rank == 1, "starts and ends are not of rank 1")
    count = n.length(1)
    n.check(n.length(2) == count, "starts and ends differ in length")
    axes = n.dims(3) if n.has(3) else list(range(count))
    steps = n.dims(4) if n.has(4) else [1] * count
    if axes is None or steps is None or not all(isinstance(v, int) for v in (*axes, *steps)):
        return None
    plain_steps = [int(s) for s in steps if isinstance(s, int)]
    n.check(0 not in plain_steps, "a step is 0")
    resolved = n.axes([int(a) for a in axes if isinstance(a, int)], rank)
    n.check(len(resolved) == len(plain_steps) == count, "starts, ends, axes and steps differ in length")
    return list(resolved), plain_steps


def _sliced(n: Call, x: Value, axes: list[int], steps: list[int], bounds: list[tuple[DimLike, DimLike]]) -> Value:
    starts: list[DimLike] = [0] * x.rank
    strides, sizes = [1] * x.rank, list(x.shape)
    for axis, step, (first, count) in zip(axes, steps, bounds, strict=True):
        empty = count == 0
        starts[axis], strides[axis], sizes[axis] = (0 if empty else first), (1 if empty else step), count
    unchanged = tuple(sizes) == x.shape and all(s == 0 for s in starts) and all(s == 1 for s in strides)
    return x if unchanged else n.b.slice(x, starts, strides, sizes)


@op("Slice")
def slice_attributes(n: Call) -> Value:
    x = n.value(0)
    starts, ends = n.attributes.integers("starts"), n.attributes.integers("ends")
    if starts is None or ends is None:
        n.invalid("starts or ends are missing")
    axes = n.attributes.integers("axes")
    over = n.axes(list(range(len(starts))) if axes is None else axes, x.rank)
    n.check(len(starts) == len(ends) == len(over), "starts, ends and axes differ in length")
    bounds = [slice_bounds(n, s, e, 1, x.shape[a]) for s, e, a in zip(starts, ends, over, strict=True)]
    return _sliced(n, x, list(over), [1] * len(over), bounds)


@op("Slice", since=10)
def slice_inputs(n: Call) -> Value:
    x = n.value(0)
    plan = _plan(n, x.rank)
    if plan is None:
        n.unsupported("axes or steps that only a run knows")
    axes, steps = plan
    starts, ends = n.dims(1), n.dims(2)
    if starts is not None and ends is not None:
        n.check(len(starts) == len(ends), "starts and ends differ in length")
        bounds = [slice_bounds(n, s, e, t, x.shape[a]) for s, e, t, a in zip(starts, ends, steps, axes, strict=True)]
    else:
        bounds = [_run_time_bounds(n, i, t, x.shape[a]) for i, (t, a) in enumerate(zip(steps, axes, strict=True))]
    return _sliced(n, x, axes, steps, bounds)


def _run_time_bounds(n: Call, index: int, step: int, extent: DimLike) -> tuple[DimLike, DimLike]:
    """The same clamping on tensors; the first position and the count become symbols."""
    size = n.b.dim(extent) if not isinstance(extent, int) else n.b.constant(extent, I64)
    zero, one = n.b.constant(0, I64), n.b.constant(1, I64)
    top = size if step > 0 else n.b.map("sub", size, one)
    low = zero if step > 0 else n.b.constant(-1, I64)

    def bound(i: int) -> Value:
        at = n.b.cast(n.b.reshape(n.b.slice_axis(n.value(i), 0, index, 1), ()), I64)
        front = n.b.map("where", n.b.map("lt", at, zero), n.b.map("add", at, size), at)
        return n.b.map("min", n.b.map("max", front, low), top)

    first, last = bound(1), bound(2)
    span = n.b.map("sub", last, first) if step > 0 else n.b.map("sub", first, last)
    rounded = n.b.map("add", span, n.b.constant(abs(step) - 1, I64))
    count = n.b.map("quotient", n.b.map("max", rounded, zero), n.b.constant(abs(step), I64))
    return n.bind(n.b.map("max", first, zero)), n.bind(count)


@symbolic("Slice", since=10)
def slice_contents(
    n: Call,
    x: Contents,
    starts: Contents,
    ends: Contents,
    axes: Contents | None = None,
    steps: Contents | None = None,
) -> Contents | None:
    plan, first, last = _plan(n, x.ndim), plain(starts), plain(ends)
    if plan is None or first is None or last is None or len(first) != len(last):
        return None
    index = [slice(None)] * x.ndim
    for axis, step, s, e in zip(*plan, first, last, strict=True):
        at, count = slice_bounds(n, s, e, step, x.shape[axis])
        assert isinstance(at, int) and isinstance(count, int)
        stop = at + count * step
        index[axis] = slice(at, stop if stop >= 0 else None, step) if count else slice(0, 0)
    return x[tuple(index)]


# Pad
def _amounts(n: Call, rank: int) -> list[DimLike]:
    """All the amounts before each axis, then all those after."""
    if n.opset < 11:
        given = n.attributes.integers("paddings" if n.opset < 2 else "pads")
        pads: list[DimLike] | None = None if given is None else list(given)
    else:
        pads = n.dims(1)
    if pads is None:
        n.unsupported("amounts that only a run knows")
    if not n.has(3):
        n.check(len(pads) == 2 * rank, f"{len(pads)} amounts for a tensor of rank {rank}")
        return pads
    axes = n.dims(3)
    if axes is None or not all(isinstance(a, int) for a in axes):
        n.unsupported("axes that only a run knows")
    resolved = n.axes([int(a) for a in axes if isinstance(a, int)], rank)
    n.check(len(pads) == 2 * len(resolved), f"{len(pads)} amounts for {len(resolved)} axes")
    full: list[DimLike] = [0] * (2 * rank)
    for i, axis in enumerate(resolved):
        full[axis], full[rank + axis] = pads[i], pads[len(resolved) + i]
    return full


@op("Pad")
def pad(n: Call) -> Value:
    x = n.value(0)
    mode = n.attributes.text("mode", "constant")
    amounts = _amounts(n, x.rank)
    low, high = amounts[: x.rank], amounts[x.rank :]
    x, low, high = _cropped(n, x, low, high)
    if mode == "constant":
        return _constant_border(n, x, low, high)
    n.check(mode in _BORDERS, f"mode is {mode!r}, not constant, reflect, edge or wrap")
    for axis in range(x.rank):
        if low[axis] != 0 or high[axis] != 0:
            x = _mirrored(n, x, axis, low[axis], high[axis], mode)
    return x


def _cropped(n: Call, x: Value, low: list[DimLike], high: list[DimLike]) -> tuple[Value, list[DimLike], list[DimLike]]:
    """Negative amounts cut."""
    for axis in range(x.rank):
        before, after = low[axis], high[axis]
        cut_low = -before if isinstance(before, int) and before < 0 else 0
        cut_high = -after if isinstance(after, int) and after < 0 else 0
        if cut_low or cut_high:
            size = x.shape[axis] - cut_low - cut_high
            n.check(not isinstance(size, int) or size >= 0, f"cuts more than axis {axis} of {x.type} has")
            x = n.b.slice_axis(x, axis, cut_low, size)
    return x, [maximum(0, v) for v in low], [maximum(0, v) for v in high]


def _constant_border(n: Call, x: Value, low: list[DimLike], high: list[DimLike]) -> Value:
    if n.opset < 11:
        value: float | int | bool | None = n.attributes.number("value", 0.0)
    elif not n.has(2):
        value = 0
    else:
        held = n.constant(2)
        n.check(held is None or held.size == 1, f"the value of the border is {n.tensor(2).shape}, not one element")
        value = None if held is None else held.reshape(()).item()
    if value is not None:
        return n.b.pad(x, low, high, bool(value) if x.dtype.is_bool else value if x.dtype.is_float else int(value))
    inside = n.b.pad(n.b.fill(True, BOOL, x.shape), low, high, False)
    return n.map("where", inside, n.b.pad(x, low, high, False if x.dtype.is_bool else 0), n.b.reshape(n.value(2), ()))


def _reflect(n: Call, x: Value, axis: int, before: DimLike, after: DimLike) -> tuple[Value, Value]:
    size = x.shape[axis]
    head = x if before == 0 else n.b.slice_axis(x, axis, before, before, -1)
    return head, x if after == 0 else n.b.slice_axis(x, axis, size - 2, after, -1)


def _edge(n: Call, x: Value, axis: int, before: DimLike, after: DimLike) -> tuple[Value, Value]:
    def repeated(start: DimLike, count: DimLike) -> Value:
        one = n.b.slice_axis(x, axis, start, 1)
        return n.b.expand_to(one, (*x.shape[:axis], count, *x.shape[axis + 1 :]))

    return repeated(0, before), repeated(x.shape[axis] - 1, after)


def _wrap(n: Call, x: Value, axis: int, before: DimLike, after: DimLike) -> tuple[Value, Value]:
    size = x.shape[axis]
    return n.b.slice_axis(x, axis, size - before, before), n.b.slice_axis(x, axis, 0, after)


_BORDERS = {"reflect": (_reflect, 1), "edge": (_edge, None), "wrap": (_wrap, 0)}


def _mirrored(n: Call, x: Value, axis: int, low: DimLike, high: DimLike, mode: str) -> Value:
    """The borders of one axis made of its own elements, in rounds where they are longer than the axis."""
    border, missing = _BORDERS[mode]
    while low != 0 or high != 0:
        size = x.shape[axis]
        before, after = low, high
        if missing is not None:
            reach = size - missing
            n.check(not isinstance(reach, int) or reach > 0, f"mode {mode} of an axis of size {size}")
            if all(isinstance(v, int) for v in (reach, low, high)):
                before, after = minimum(low, reach), minimum(high, reach)
            for amount in (before, after):  # the border must lie inside
                if amount != 0 and not provably_nonnegative(reach - amount):
                    n.assume(minimum(0, reach - amount), 0)
        head, tail = border(n, x, axis, before, after)
        parts = [p for p, amount in ((head, before), (x, 1), (tail, after)) if amount != 0]
        x = n.b.concat(parts, axis)
        low, high = low - before, high - after
    return x

"""Resize and Upsample: each axis alone, by gathers whose positions and weights are constants where sizes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

import numpy as np

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, folded, held, number_term, positions, size_term
from vitrify.frontends.onnx.ops.generator import sizes_of
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import DimLike, floordiv
from vitrify.ir.dtypes import F32, F64, I64
from vitrify.ir.graph import Value

TRANSFORMS = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn", "tf_crop_and_resize",
)  # fmt: skip
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
POLICIES = ("stretch", "not_larger", "not_smaller")
MAX_TAPS = 2**16
LARGEST_SIZE = 2.0**47  # more elements than an address has bits for


@dataclass(frozen=True)
class Method:
    """How positions are found and elements joined."""

    mode: str
    transform: str = "asymmetric"
    nearest: str = "floor"
    cubic: float = -0.75
    exclude: bool = False
    antialias: bool = False
    outside: float = 0.0


@dataclass(frozen=True)
class Line:
    """One axis: ``size`` elements become ``out``. ``scale`` is f32 of rank 0, ``factor`` its value where it is
    a constant, ``width`` the size before it is made whole, and ``ends`` the region of a crop."""

    axis: int
    size: DimLike
    out: DimLike
    scale: Term
    factor: float | None
    width: Term
    ends: tuple[Term, Term] | None = None


def _coordinates(n: Call, line: Line, transform: str) -> Term:
    """Where each output position lies in the input: f32[out]."""
    i = positions(n, line.out)
    if transform == "asymmetric":
        return i / line.scale
    if transform == "tf_half_pixel_for_nn":
        return (i + 0.5) / line.scale
    last = size_term(n, line.size, F32) - 1
    if transform in ("align_corners", "tf_crop_and_resize"):
        single = line.width.equals(1)
        steps = single.pick(number_term(n, 1), line.width - 1)
        if line.ends is None:
            return single.pick(i * 0, i * last / steps)
        start, end = line.ends
        across = (end - start) * last
        return start * last + single.pick(across * 0.5 + i * 0, i * across / steps)
    centred = (i + 0.5) / line.scale - 0.5
    if transform == "half_pixel_symmetric":
        adjustment = size_term(n, line.out, F32) / line.width
        offset = size_term(n, line.size, F32) * 0.5 * (1 - adjustment)
        return offset + (i + 0.5) / line.scale - 0.5
    if transform == "pytorch_half_pixel":
        return (size_term(n, line.out) > 1).pick(centred, 0)
    return centred


def _nearest_index(n: Call, line: Line, at: Term, mode: str) -> Term:
    """The element that each output position takes: i64[out]."""
    low = at.apply("floor")
    rest = at - low
    if mode == "ceil":
        low = at.apply("ceil")
    elif mode == "round_prefer_floor":
        low = low + (rest > 0.5).cast(F32)
    elif mode == "round_prefer_ceil":
        low = low + (rest >= 0.5).cast(F32)
    return folded(low.clip(0, size_term(n, line.size, F32) - 1).cast(I64))


def _moved(n: Call, x: Value, line: Line, index: Term) -> Value | None:
    """A movement, where the positions repeat or step evenly."""
    known, axis, size = held(index), line.axis, line.size
    if known is None or not len(known) or not isinstance(size, int):
        return None
    times, step = len(known) // size, int(known[1] - known[0]) if len(known) > 1 else 1
    if len(known) == size * times and np.array_equal(known, np.arange(len(known)) // times):
        return repeated(n, x, axis, times)
    if step > 0 and np.array_equal(known, known[0] + step * np.arange(len(known))):
        return n.b.slice_axis(x, axis, int(known[0]), len(known), step)
    return None


def _gathered(n: Call, x: Value, indices: dict[int, Term]) -> Value:
    """Axes by positions, neighbours in one gather."""
    while indices:
        axis = last = min(indices)
        while last + 1 in indices:
            last += 1
        group = [indices.pop(a) for a in range(axis, last + 1)]
        places = [t.unsqueeze(*(k for k in range(len(group)) if k != i)).value for i, t in enumerate(group)]
        x = n.b.gather(x, axis, *n.broadcast(*places))
    return x


def repeated(n: Call, x: Value, axis: int, times: int) -> Value:
    """Each element ``times`` in a row."""
    if times == 1:
        return x
    split = n.b.unsqueeze(x, axis + 1)
    wide = n.b.expand_to(split, (*x.shape[: axis + 1], times, *x.shape[axis + 1 :]))
    return n.b.reshape(wide, (*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]))


def _cubic_weight(distance: Term, a: float) -> Term:
    """Keys' kernel at a distance of 0 or more (R. Keys, 1981)."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return (d <= 1).pick(near, (d < 2).pick(far, 0))


def _weights(n: Call, line: Line, at: Term, method: Method) -> tuple[Term, Term]:
    """Positions i64[out, taps] inside the axis, and their weights f32[out, taps]."""
    reach = 1 if method.mode == "linear" else 2
    shrink = line.scale.least(1) if method.antialias else number_term(n, 1)
    first = folded((-reach / shrink).apply("floor") + 1)
    taps = _taps(n, line, first)
    low = at.apply("floor").unsqueeze(1)
    near = low + (positions(n, taps) + first)
    distance = ((near - at.unsqueeze(1)) * shrink).apply("abs")
    weight = (1 - distance).most(0) if method.mode == "linear" else _cubic_weight(distance, method.cubic)
    last = size_term(n, line.size, F32) - 1
    if method.exclude:
        weight = ((near >= 0) & (near <= last)).pick(weight, 0)
    if method.exclude or method.antialias:
        total = weight.reduce("sum", 1, keepdims=True)
        weight = weight / total.equals(0).pick(number_term(n, 1), total)
    return folded(near.clip(0, last).cast(I64)), folded(weight)


def _taps(n: Call, line: Line, first: Term) -> DimLike:
    """How many elements each position joins, in symmetry around it: the first one lies at ``first``."""
    count = (2 - 2 * first).cast(I64)
    known = held(count)
    if known is None:  # a result that is not empty takes no more than these
        return n.bind(count.least(size_term(n, line.size) * 4 + 4).value)
    if known > MAX_TAPS:
        n.unsupported(f"antialias over {known} elements")
    return int(known)


def _joined(n: Call, x: Value, line: Line, at: Term, method: Method) -> Value:
    """The weighted sum of the elements around each position."""
    axis = line.axis
    index, weight = _weights(n, line, at, method)
    trailing = list(range(1, x.rank - axis))
    taps = index.value.shape[1]
    if isinstance(taps, int) and taps <= 4:
        total: Term | None = None
        for k in range(taps):
            part = Term(n, n.b.gather(x, axis, folded(index.item(1, k)).value))
            term = part * folded(weight.item(1, k)).cast(x.dtype).unsqueeze(*trailing)
            total = term if total is None else total + term
        assert total is not None
        return total.value
    seen = Term(n, n.b.gather(x, axis, index.value))
    return (seen * weight.cast(x.dtype).unsqueeze(*(a + 1 for a in trailing))).reduce("sum", axis + 1).value


def resized(n: Call, x: Value, lines: Sequence[Line], method: Method) -> Value:
    dtype = x.dtype
    narrow = method.mode != "nearest" and dtype is not F64
    out = n.b.cast(x, F32) if narrow else x
    outside: Term | None = None
    chosen: dict[int, Term] = {}
    for line in sorted(lines, key=_growth):
        at = _coordinates(n, line, method.transform)
        if method.transform == "tf_crop_and_resize":
            beyond = (at < 0) | (at > size_term(n, line.size, F32) - 1)
            beyond = folded(beyond).unsqueeze(*range(1, x.rank - line.axis))
            outside = beyond if outside is None else outside | beyond
        elif method.mode == "linear" and not method.antialias:
            at = at.clip(0, size_term(n, line.size, F32) - 1)
        if method.mode == "nearest":
            index = _nearest_index(n, line, at, method.nearest)
            moved = _moved(n, out, line, index)
            out = out if moved is None else moved
            if moved is None:
                chosen[line.axis] = index
        else:
            out = _joined(n, out, line, at, method)
    out = _gathered(n, out, chosen)
    if outside is not None:
        value = method.outside if out.dtype.is_float else int(method.outside)
        out = outside.pick(Term(n, n.number(value, out)), Term(n, out)).value
    return n.b.cast(out, dtype)


def _growth(line: Line) -> float:
    """Axes that shrink first, so that less is computed."""
    return 1.0 if line.factor is None else line.factor


# Sizes
def scaled_size(n: Call, size: DimLike, scale: float) -> DimLike:
    """``floor(size * scale)`` in f32; for a symbolic size, by the simplest fraction that is ``scale`` in f32."""
    n.check(isfinite(scale) and scale > 0, f"a scale of {scale}, not a finite number above 0")
    whole = float(size) * scale if isinstance(size, int) else scale
    n.check(whole < LARGEST_SIZE, f"a scale of {scale} makes an axis of {size} larger than any memory")
    if isinstance(size, int):
        return int(np.floor(np.float32(size) * np.float32(scale)))
    simple = Fraction(scale).limit_denominator(4096)
    exact = simple if np.float32(float(simple)) == np.float32(scale) else Fraction(scale)
    return floordiv(size * exact.numerator, exact.denominator)


def _by_scales(n: Call, x: Value, axes: Sequence[int], scales: Sequence[float]) -> list[Line]:
    lines = []
    for axis, scale in zip(axes, scales, strict=True):
        out = scaled_size(n, x.shape[axis], scale)
        factor = number_term(n, scale)
        width = folded(factor * size_term(n, x.shape[axis], F32))
        lines.append(Line(axis, x.shape[axis], out, factor, float(scale), width))
    return lines


def _by_run_time_scales(n: Call, x: Value, axes: Sequence[int], index: int) -> list[Line]:
    n.check(n.length(index) == len(axes), f"{n.length(index)} scales for {len(axes)} axes")
    lines = []
    scales = Term(n, n.value(index))
    for i, axis in enumerate(axes):
        scale = scales.item(0, i)
        width = scale * size_term(n, x.shape[axis], F32)
        size = ((scale > 0) & (width < LARGEST_SIZE)).pick(width.apply("floor"), -1)  # which the run refuses
        lines.append(Line(axis, x.shape[axis], n.bind(size.value), scale, None, width))
    return lines


def _by_sizes(n: Call, x: Value, axes: Sequence[int], sizes: Sequence[DimLike], policy: str) -> list[Line]:
    n.check(len(sizes) == len(axes), f"{len(sizes)} sizes for {len(axes)} axes")
    for axis, out in zip(axes, sizes, strict=True):
        n.check(x.shape[axis] != 0 or out == 0, f"axis {axis} of {x.type} has nothing to resize to {out}")
    if policy != "stretch":
        return _keeping_aspect(n, x, axes, sizes, policy)
    lines = []
    for axis, out in zip(axes, sizes, strict=True):
        scale = folded(size_term(n, out, F32) / size_term(n, x.shape[axis], F32))
        known = held(scale)
        factor = None if known is None else float(known)
        lines.append(Line(axis, x.shape[axis], out, scale, factor, size_term(n, out, F32)))
    return lines


def _keeping_aspect(n: Call, x: Value, axes: Sequence[int], sizes: Sequence[DimLike], policy: str) -> list[Line]:
    """One scale for all axes, the smallest or the largest; sizes round half up."""
    scale: Term | None = None
    for axis, out in zip(axes, sizes, strict=True):
        own = size_term(n, out, F64) / size_term(n, x.shape[axis], F64)
        scale = own if scale is None else scale.least(own) if policy == "not_larger" else scale.most(own)
    if scale is None:
        return []
    scale = folded(scale)
    known = held(scale)
    lines = []
    for axis in axes:
        whole = folded((scale * size_term(n, x.shape[axis], F64) + 0.5).apply("floor").cast(I64))
        number = held(whole)
        out = n.bind(whole.value) if number is None else int(number)
        factor = None if known is None else float(known)
        width = folded((scale * size_term(n, x.shape[axis], F64)).cast(F32))
        lines.append(Line(axis, x.shape[axis], out, folded(scale.cast(F32)), factor, width))
    return lines


def _cropped(n: Call, lines: list[Line], count: int) -> list[Line]:
    """The lines with the ends of the region of interest: all starts, then all ends."""
    n.check(n.has(1) and n.tensor(1).shape == (2 * count,), f"the region is not of {2 * count} numbers")
    roi = Term(n, n.value(1)).cast(F32)
    ends = [(folded(roi.item(0, i)), folded(roi.item(0, count + i))) for i in range(count)]
    return [
        Line(m.axis, m.size, m.out, m.scale, m.factor, m.width, e) for m, e in zip(lines, ends, strict=True)
    ]


def _changing(lines: Sequence[Line]) -> list[Line]:
    """Without the axes that stay as they are."""
    return [m for m in lines if m.ends is not None or not (m.factor == 1 or (m.out == m.size and m.factor is None))]


def _finished(n: Call, x: Value, lines: Sequence[Line], method: Method) -> Value:
    shape = list(x.shape)
    for line in lines:
        shape[line.axis] = line.out
    if 0 in shape:
        return n.b.fill(0, x.dtype, tuple(shape))
    return resized(n, x, lines, method)


def _present(n: Call, index: int) -> bool:
    """Whether an input is there; exporters leave one out by giving it no elements."""
    return n.has(index) and n.tensor(index).shape != (0,)


def _scale_lines(n: Call, x: Value, axes: Sequence[int], index: int) -> list[Line]:
    array = n.constant(index)
    if array is None:
        return _by_run_time_scales(n, x, axes, index)
    n.check(array.shape == (len(axes),), f"scales of shape {list(array.shape)} for {len(axes)} axes")
    return _by_scales(n, x, axes, [float(s) for s in array])


def _choice(n: Call, name: str, default: str, allowed: Sequence[str]) -> str:
    value = n.attributes.text(name, default)
    n.check(value in allowed, f"{name} is {value!r}, not one of {', '.join(allowed)}")
    return value


@op("Resize", since=11)
def resize(n: Call) -> Value:
    x = n.value(0)
    a = n.attributes
    method = Method(
        _choice(n, "mode", "nearest", ("nearest", "linear", "cubic")),
        _choice(n, "coordinate_transformation_mode", "half_pixel", TRANSFORMS),
        _choice(n, "nearest_mode", "round_prefer_floor", NEAREST),
        a.number("cubic_coeff_a", -0.75),
        a.flag("exclude_outside"),
        a.flag("antialias"),
        a.number("extrapolation_value", 0.0),
    )
    given = a.integers("axes")
    axes = list(range(x.rank)) if given is None else list(n.axes(given, x.rank))
    policy = _choice(n, "keep_aspect_ratio_policy", "stretch", POLICIES)
    n.check(_present(n, 2) != _present(n, 3) or not axes, "needs one of scales and sizes")
    if not axes:
        return x
    lines = _scale_lines(n, x, axes, 2) if _present(n, 2) else _by_sizes(n, x, axes, sizes_of(n, 3), policy)
    if method.transform == "tf_crop_and_resize":
        lines = _cropped(n, lines, len(axes))
    return _finished(n, x, _changing(lines), method)


def _early(n: Call, lines: Sequence[Line], mode: str) -> Value:
    """Resize before opset 11 and Upsample: asymmetric, and the element below."""
    n.check(mode in ("nearest", "linear", "bilinear"), f"mode is {mode!r}, not nearest or linear")
    kind = "nearest" if mode == "nearest" else "linear"
    return _finished(n, n.value(0), _changing(lines), Method(kind))


@op("Resize", since=10)
@op("Upsample", since=9)
def upsample_inputs(n: Call) -> Value:
    x = n.value(0)
    return _early(n, _scale_lines(n, x, range(x.rank), 1), n.attributes.text("mode", "nearest"))


@op("Upsample", since=7)
def upsample_attributes(n: Call) -> Value:
    x = n.value(0)
    scales = n.attributes.numbers("scales") or []
    n.check(len(scales) == x.rank, f"{len(scales)} scales for a tensor of rank {x.rank}")
    return _early(n, _by_scales(n, x, range(x.rank), scales), n.attributes.text("mode", "nearest"))


@op("Upsample")
def upsample_planes(n: Call) -> Value:
    x = n.value(0)
    n.check(x.rank == 4, f"a tensor of rank {x.rank}, not 4")
    scales = [n.attributes.number("height_scale"), n.attributes.number("width_scale")]
    return _early(n, _by_scales(n, x, [2, 3], scales), n.attributes.text("mode", "nearest"))

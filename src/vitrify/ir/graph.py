"""The tensor graph: SSA values, and a closed set of structures that relate them.

===========  =====================================================================================
map          ``fn(x, ...)`` element by element, ``fn`` a row of :mod:`vitrify.ir.scalar`
cast         change of dtype; bitcast: the same bits as another dtype of that size
movement     permute, expand, reshape, slice, pad, flip, window, concat
reduce       ``combiner`` over some axes, which disappear
contract     sum of products (dot-general): batch dims, free dims of both sides, contracted dims
gather       one or more adjacent axes replaced by the positions that index tensors name
scatter      a copy whose elements at the positions that index tensors name are combined with updates
sort         one axis in order, with where each element came from
suppress     boxes in order of preference, those left out that overlap one chosen before them
sources      constant, iota, dim (a symbolic integer as a tensor of rank 0)
control      if (two graphs), scan (a graph repeated over carried, scanned and stacked values), loop (the same
             while a condition holds)
call         an op that the user gives: a reference in Python, C where there is some
===========  =====================================================================================

An op is a frozen description; ``infer`` gives the types of its results, and refuses what is ill-typed.
Shapes are tuples of :data:`vitrify.ir.dims.DimLike`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrify.ir.call import Call as Call
from vitrify.ir.call import is_pure as is_pure
from vitrify.ir.control import BindDim as BindDim
from vitrify.ir.control import If as If
from vitrify.ir.control import Loop as Loop
from vitrify.ir.control import Scan as Scan
from vitrify.ir.control import bound_dims as bound_dims
from vitrify.ir.control import bound_inside as bound_inside
from vitrify.ir.dims import DimLike, Shape, ceildiv, floordiv, product, provably_nonnegative
from vitrify.ir.dtypes import BOOL, F32, I64, DType
from vitrify.ir.node import Constant as Constant
from vitrify.ir.node import Graph as Graph
from vitrify.ir.node import Node as Node
from vitrify.ir.node import Op as Op
from vitrify.ir.node import Type as Type
from vitrify.ir.node import TypeRuleError as TypeRuleError
from vitrify.ir.node import Value as Value
from vitrify.ir.node import listed, require
from vitrify.ir.node import make_node as make_node
from vitrify.ir.scalar import SCALAR

SCATTERS = ("replace", "sum", "prod", "min", "max")
COMBINERS = ("sum", "prod", "min", "max", "any", "all", "argmin", "argmax")


@dataclass(frozen=True)
class Map(Op):
    fn: str

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        require(self.fn in SCALAR, f"unknown scalar function {self.fn!r}")
        try:
            dtype = SCALAR[self.fn].result(tuple(t.dtype for t in inputs))
        except TypeError as error:
            raise TypeRuleError(str(error)) from None
        shape = inputs[0].shape
        require(all(t.shape == shape for t in inputs), f"{self.fn} needs equal shapes, got " + listed(inputs))
        return (Type(dtype, shape),)


@dataclass(frozen=True)
class Cast(Op):
    """Floats to integers truncate; saturating for f8 unless ``saturate`` is off; to bool is ``!= 0``."""

    dtype: DType
    saturate: bool = True

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        return (Type(self.dtype, inputs[0].shape),)


@dataclass(frozen=True)
class BitCast(Op):
    """The bits of each element as a number of ``dtype``, which takes as many bytes."""

    dtype: DType

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(x.dtype.bits == self.dtype.bits, f"bitcast of {x} to {self.dtype}, which has another size")
        require(BOOL not in (x.dtype, self.dtype), f"bitcast of {x} to {self.dtype}: a bool has no bits of its own")
        return (Type(self.dtype, x.shape),)


@dataclass(frozen=True)
class Permute(Op):
    perm: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(sorted(self.perm) == list(range(x.rank)), f"{self.perm} does not permute {x}")
        return (Type(x.dtype, tuple(x.shape[p] for p in self.perm)),)


@dataclass(frozen=True)
class Expand(Op):
    """Axes of size 1 repeated to ``shape`` (same rank)."""

    shape: Shape

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        fits = x.rank == len(self.shape) and all(
            a in (1, b) for a, b in zip(x.shape, self.shape, strict=False)
        )
        fits = fits and not _negative(self.shape)
        require(fits, f"{x} does not expand to [{', '.join(map(str, self.shape))}]")
        return (Type(x.dtype, self.shape),)


@dataclass(frozen=True)
class Reshape(Op):
    """Same elements in row-major order. Sizes that are not provably equal are checked at run time."""

    shape: Shape

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        before, after = product(x.shape), product(self.shape)
        clash = isinstance(before, int) and isinstance(after, int) and before != after
        require(not _negative(self.shape), f"{x} reshaped to negative sizes {list(self.shape)}")
        require(not clash, f"{x} has {before} elements, not the {after} of {list(self.shape)}")
        return (Type(x.dtype, self.shape),)


@dataclass(frozen=True)
class Slice(Op):
    """``out[i] = x[start + i * step]`` per axis; a negative step walks backwards from ``start``."""

    starts: Shape
    steps: tuple[int, ...]
    sizes: Shape

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        axes = {len(self.starts), len(self.steps), len(self.sizes)}
        require(axes == {x.rank}, f"slice of {x} needs {x.rank} starts, steps and sizes")
        require(0 not in self.steps, f"slice of {x} with a step of 0")
        require(not _negative(self.sizes), f"slice of {x} to negative sizes {list(self.sizes)}")
        for start, step, size, extent in zip(self.starts, self.steps, self.sizes, x.shape, strict=True):
            if isinstance(start, int) and isinstance(size, int) and isinstance(extent, int) and size:
                last = start + (size - 1) * step
                inside = min(start, last) >= 0 and max(start, last) < extent
                require(inside, f"slice of {size} from {start} by {step} leaves {x}")
        return (Type(x.dtype, self.sizes),)


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """A constant border: ``low`` before and ``high`` after, per axis, neither negative. Two are equal where
    their values are the same number to the bit: 0.0 is not -0.0, nan is nan."""

    low: Shape
    high: Shape
    value: float | int | bool

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pad) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Shape, Shape, str]:
        return (self.low, self.high, repr(self.value))

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(len(self.low) == len(self.high) == x.rank, f"pad of {x} needs {x.rank} axes")
        negative = _negative((*self.low, *self.high))
        require(not negative, f"pad of {x} by negative amounts {negative}")
        require(representable(self.value, x.dtype), f"pad of {x} with {self.value!r}, no {x.dtype}")
        sizes = zip(self.low, x.shape, self.high, strict=True)
        return (Type(x.dtype, tuple(low + n + high for low, n, high in sizes)),)


@dataclass(frozen=True)
class Flip(Op):
    axes: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(_distinct(self.axes, x.rank), f"flip axes {self.axes} of {x}")
        return (x,)


@dataclass(frozen=True)
class Window(Op):
    """Sliding windows over ``axes``, whose sizes become numbers of windows; the positions inside a window
    become new last axes: ``out[.., o, .., k] = x[.., o * stride + k * dilation, ..]``."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        lengths = {len(self.axes), len(self.sizes), len(self.strides), len(self.dilations)}
        require(len(lengths) == 1 and _distinct(self.axes, x.rank), f"window over axes {self.axes} of {x}")
        steps = (*self.sizes, *self.strides, *self.dilations)
        require(all(n >= 1 for n in steps), f"window of {x} takes sizes, strides and dilations of 1 or more")
        shape = list(x.shape)
        for axis, size, stride, dilation in zip(
            self.axes, self.sizes, self.strides, self.dilations, strict=True
        ):
            shape[axis] = windows(shape[axis], size, stride, dilation)
            require(not _negative((shape[axis],)), f"window of {size} does not fit {x} on axis {axis}")
        return (Type(x.dtype, (*shape, *self.sizes)),)


@dataclass(frozen=True)
class Concat(Op):
    axis: int

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        require(bool(inputs), "concat takes one input or more")
        first, axis = inputs[0], self.axis
        require(0 <= axis < first.rank, f"concat on axis {axis} of {first}")
        for t in inputs:
            same = t.rank == first.rank and t.dtype is first.dtype
            same = (
                same
                and t.shape[:axis] == first.shape[:axis]
                and t.shape[axis + 1 :] == first.shape[axis + 1 :]
            )
            require(same, "concat needs equal types off its axis, got " + listed(inputs))
        total: DimLike = 0
        for t in inputs:
            total = total + t.shape[axis]
        return (Type(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])),)


@dataclass(frozen=True)
class Reduce(Op):
    """``combiner`` over ``axes``, which disappear. Narrow floats accumulate in f32. ``argmin`` and
    ``argmax`` take one axis and give the first position, as i64."""

    combiner: str
    axes: tuple[int, ...]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(self.combiner in COMBINERS, f"unknown combiner {self.combiner!r}")
        require(_distinct(self.axes, x.rank), f"{self.combiner} over axes {self.axes} of {x}")
        positional = self.combiner.startswith("arg")
        require(not positional or len(self.axes) == 1, f"{self.combiner} takes one axis")
        if self.combiner in ("any", "all"):
            require(x.dtype is BOOL, f"{self.combiner} takes bool, got {x}")
        if self.combiner in ("sum", "prod"):
            require(x.dtype is not BOOL, f"{self.combiner} takes numbers, got {x}")
        shape = tuple(n for i, n in enumerate(x.shape) if i not in self.axes)
        return (Type(I64 if positional else x.dtype, shape),)


@dataclass(frozen=True)
class Contract(Op):
    """``out[b.., i.., j..] = sum over k of lhs[b, i, k] * rhs[b, j, k]``: dims paired by position.

    Integers accumulate in ``dtype``; narrow floats accumulate in f32 and round once to ``dtype``.
    """

    lhs_batch: tuple[int, ...]
    rhs_batch: tuple[int, ...]
    lhs_contract: tuple[int, ...]
    rhs_contract: tuple[int, ...]
    dtype: DType = F32

    def free(self, side: int, rank: int) -> tuple[int, ...]:
        used = (self.lhs_batch + self.lhs_contract) if side == 0 else (self.rhs_batch + self.rhs_contract)
        return tuple(i for i in range(rank) if i not in used)

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        lhs, rhs = inputs
        paired = len(self.lhs_batch) == len(self.rhs_batch)
        paired = paired and len(self.lhs_contract) == len(self.rhs_contract)
        left_axes, right_axes = self.lhs_batch + self.lhs_contract, self.rhs_batch + self.rhs_contract
        paired = paired and _distinct(left_axes, lhs.rank) and _distinct(right_axes, rhs.rank)
        require(paired, f"contract of {lhs} and {rhs} over axes {left_axes} and {right_axes}")
        for t in inputs:
            require(t.dtype is not BOOL, f"contract takes numbers, got {t}")
            fits = self.dtype.is_float or (t.dtype.is_int and self.dtype.is_int)
            require(fits, f"contract of {t} to {self.dtype}")
        for a, b in zip(left_axes, right_axes, strict=True):
            require(lhs.shape[a] == rhs.shape[b], f"contract of {lhs} and {rhs}: axis {a} against axis {b}")
        batch = tuple(lhs.shape[a] for a in self.lhs_batch)
        left = tuple(lhs.shape[a] for a in self.free(0, lhs.rank))
        right = tuple(rhs.shape[a] for a in self.free(1, rhs.rank))
        return (Type(self.dtype, batch + left + right),)


@dataclass(frozen=True)
class Gather(Op):
    """``x[.., i_1, .., i_k, ..]``: the adjacent axes ``axis .. axis + k - 1`` of the first input are replaced
    by the shape that the k index tensors (integers, one shape) share. A position outside its axis is an
    error of the run."""

    axis: int

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        x, *indices = inputs
        inside = bool(indices) and self.axis >= 0 and self.axis + len(indices) <= x.rank
        require(inside, f"gather of {len(indices)} axes from {self.axis} of {x}")
        same = all(i.dtype.is_int and i.shape == indices[0].shape for i in indices)
        require(same, "gather takes integer indices of one shape, got " + listed(indices))
        return (Type(x.dtype, x.shape[: self.axis] + indices[0].shape + x.shape[self.axis + len(indices) :]),)


@dataclass(frozen=True)
class Scatter(Op):
    """The mirror of :class:`Gather`: the inputs are x, updates, and k index tensors (integers, one shape) that
    name positions of the axes ``axis .. axis + k - 1`` of x; the updates have the shape that the gather of x
    would have. ``out[.., i_1, .., i_k, ..]`` becomes the update (``replace``), or is combined with it, one
    update after the other in row-major order; narrow floats round each time. A position outside its axis is
    an error of the run."""

    combiner: str
    axis: int

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        require(self.combiner in SCATTERS, f"unknown combiner {self.combiner!r} of a scatter")
        require(len(inputs) >= 3, f"scatter takes x, updates and indices, got {len(inputs)} inputs")
        x, updates, *indices = inputs
        inside = self.axis >= 0 and self.axis + len(indices) <= x.rank
        require(inside, f"scatter over {len(indices)} axes from {self.axis} of {x}")
        same = all(i.dtype.is_int and i.shape == indices[0].shape for i in indices)
        require(same, "scatter takes integer indices of one shape, got " + listed(indices))
        expected = Type(x.dtype, x.shape[: self.axis] + indices[0].shape + x.shape[self.axis + len(indices) :])
        require(updates == expected, f"scatter into {x} takes updates {expected}, got {updates}")
        numbers = self.combiner in ("replace", "min", "max") or x.dtype is not BOOL
        require(numbers, f"{self.combiner} takes numbers, got {x}")
        return (x,)


@dataclass(frozen=True)
class Sort(Op):
    """The first ``count`` elements along ``axis`` in order, and their positions there as i64: two results.

    Ascending, or ``descending``. NaN counts as greater than any number, and as equal to NaN; 0.0 and -0.0 are
    equal. Equal elements keep their order, in both directions. ``count`` is at most the size of the axis, which
    is checked at run time where it is not provable."""

    axis: int
    count: DimLike
    descending: bool = False

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(0 <= self.axis < x.rank, f"sort on axis {self.axis} of {x}")
        rest = x.shape[self.axis] - self.count
        require(not _negative((self.count, rest)), f"the first {self.count} of {x} in order on axis {self.axis}")
        shape = (*x.shape[: self.axis], self.count, *x.shape[self.axis + 1 :])
        return (Type(x.dtype, shape), Type(I64, shape))


@dataclass(frozen=True)
class Suppress(Op):
    """Greedy non-maximum suppression. Inputs, for images, boxes, classes and candidates:

    corners f32 [i, b, 4] (low y, low x, high y, high x), positions of boxes i64 [i, c, k] with the best first, how
    many of them count i64 [i, c], the most to choose i64 [], and the threshold f32 []. The result, bool [i, c, k],
    says of each candidate whether it is chosen: where no box chosen before it shares with it more than the
    threshold of their union. Boxes without area overlap nothing. A position outside is an error of the run."""

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        require(len(inputs) == 5, f"suppress takes 5 inputs, got {len(inputs)}")
        boxes, order, valid, limit, threshold = inputs
        fits = boxes.dtype is F32 and boxes.rank == 3 and boxes.shape[2] == 4
        require(fits, f"suppress takes corners f32[images, boxes, 4], got {boxes}")
        fits = order.dtype is I64 and order.rank == 3 and order.shape[0] == boxes.shape[0]
        require(fits, f"suppress takes positions i64[{boxes.shape[0]}, classes, candidates], got {order}")
        require(valid == Type(I64, order.shape[:2]), f"suppress takes counts i64{list(order.shape[:2])}, got {valid}")
        fits = limit == Type(I64, ()) and threshold == Type(F32, ())
        require(fits, f"suppress takes a limit i64[] and a threshold f32[], got {limit} and {threshold}")
        return (Type(BOOL, order.shape),)


@dataclass(frozen=True)
class Iota(Op):
    """``out[.., i, ..] = i`` along ``axis``."""

    shape: Shape
    axis: int
    dtype: DType = I64

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        inside = 0 <= self.axis < len(self.shape) and not _negative(self.shape)
        require(inside, f"iota axis {self.axis} of {list(self.shape)}")
        require(self.dtype is not BOOL, "iota counts in numbers, not bool")
        return (Type(self.dtype, self.shape),)


@dataclass(frozen=True)
class DimValue(Op):
    """A symbolic integer as an i64 tensor of rank 0."""

    value: DimLike

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        return (Type(I64, ()),)


STRUCTURES: tuple[type[Op], ...] = (
    Map, Cast, BitCast, Permute, Expand, Reshape, Slice, Pad, Flip, Window, Concat, Reduce, Contract, Gather, Scatter,
    Sort, Suppress, Constant, Iota, DimValue, BindDim, If, Scan, Loop, Call,
)  # fmt: skip
MOVEMENT = (Permute, Expand, Reshape, Slice, Pad, Flip, Window, Concat)


def _negative(sizes: Sequence[DimLike]) -> list[DimLike]:
    return [n for n in sizes if isinstance(n, int) and n < 0]


def _distinct(axes: Sequence[int], rank: int) -> bool:
    return len(set(axes)) == len(axes) and all(0 <= a < rank for a in axes)


def representable(value: float | int | bool, dtype: DType) -> bool:
    """Whether ``value`` is a number of ``dtype`` (floats may round)."""
    if dtype.is_bool:
        return value in (0, 1)
    if dtype.is_float:
        return True
    return value == value and dtype.min() <= value <= dtype.max() and int(value) == value


def windows(extent: DimLike, size: int, stride: int, dilation: int, *, ceil: bool = False) -> DimLike:
    """How many windows fit; with ``ceil``, also one that starts inside and ends outside."""
    span = extent - (size - 1) * dilation - 1
    return (ceildiv(span, stride) if ceil else floordiv(span, stride)) + 1


def is_static(shape: Shape) -> bool:
    return all(isinstance(n, int) for n in shape)


def may_be_empty(shape: Shape) -> bool:
    return any(not provably_nonnegative(n - 1) for n in shape)

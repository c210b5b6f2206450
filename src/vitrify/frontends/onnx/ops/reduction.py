"""Reductions over given axes."""

from __future__ import annotations

from collections.abc import Callable

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.pooling import mean_over
from vitrify.frontends.onnx.registry import op
from vitrify.ir.graph import Value

Reduction = Callable[[Call, Value, tuple[int, ...], bool], Value]


def _axes(n: Call, rank: int) -> tuple[int, ...]:
    """The axes as attribute or input; none given means all, unless ``noop_with_empty_axes``."""
    given = n.integers(1, "axes")
    noop = n.attributes.flag("noop_with_empty_axes")
    if given:
        return n.axes(given, rank)
    return () if noop else tuple(range(rank))


def _reduction(name: str, fn: Reduction) -> None:
    def rule(n: Call) -> Value:
        x = n.value(0)
        keep = n.attributes.flag("keepdims", True)
        return fn(n, x, _axes(n, x.rank), keep)

    op(name)(rule)


def _plain(combiner: str) -> Reduction:
    return lambda n, x, axes, keep: n.b.reduce(combiner, x, axes, keepdims=keep)


for _name, _combiner in (
    ("ReduceSum", "sum"),
    ("ReduceProd", "prod"),
    ("ReduceMax", "max"),
    ("ReduceMin", "min"),
):
    _reduction(_name, _plain(_combiner))


def _l1(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce("sum", n.b.map("abs", x), axes, keepdims=keep)


def sum_of_squares(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce("sum", n.b.map("mul", x, x), axes, keepdims=keep)


def _l2(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    total = sum_of_squares(n, x, axes, keep)
    if total.dtype.is_float:
        return n.b.map("sqrt", total)
    from vitrify.ir.dtypes import F64

    return n.b.cast(n.b.map("sqrt", n.b.cast(total, F64)), x.dtype)


def _log_sum(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.map("log", n.b.reduce("sum", x, axes, keepdims=keep))


def _log_sum_exp(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """The maximum taken off first; where it is infinite nothing is taken off."""
    top = n.b.reduce("max", x, axes, keepdims=True)
    finite = n.map("where", n.b.map("isinf", top), n.number(0, top), top)
    total = n.b.reduce("sum", n.b.map("exp", n.map("sub", x, finite)), axes, keepdims=True)
    result = n.b.map("add", n.b.map("log", total), finite)
    return result if keep or not axes else n.b.squeeze(result, *axes)


def _mean(n: Call, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return mean_over(n, x, axes, keepdims=keep) if axes else x


for _name, _rule in (
    ("ReduceMean", _mean), ("ReduceL1", _l1), ("ReduceL2", _l2), ("ReduceLogSum", _log_sum),
    ("ReduceLogSumExp", _log_sum_exp), ("ReduceSumSquare", sum_of_squares),
):  # fmt: skip
    _reduction(_name, _rule)


def _positional(name: str, combiner: str) -> None:
    def rule(n: Call) -> Value:
        x = n.value(0)
        axis = n.axis(n.attributes.integer("axis", 0), x.rank)
        keep, last = n.attributes.flag("keepdims", True), n.attributes.flag("select_last_index")
        found = n.b.reduce(combiner, n.b.flip(x, axis) if last else x, [axis], keepdims=keep)
        if not last:
            return found
        size = x.shape[axis]
        end = n.b.constant(size - 1, found.dtype) if isinstance(size, int) else n.b.dim(size - 1)
        return n.map("sub", end, found)

    op(name)(rule)


_positional("ArgMax", "argmax")
_positional("ArgMin", "argmin")

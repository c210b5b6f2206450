"""What elementwise ops, movements and reductions do to contents (arrays of integer expressions)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vitrify.frontends.onnx.body import CONTENTS_LIMIT, Contents, Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import symbolic
from vitrify.frontends.onnx.symbols import less
from vitrify.ir.dims import Dim, DimLike, floordiv, maximum, minimum, mod, product, provably_nonnegative
from vitrify.ir.dtypes import BOOL


def elementwise(fn: Callable[..., DimLike], *arrays: Contents) -> Contents:
    """``fn`` on the elements, broadcast."""
    result = np.frompyfunc(fn, len(arrays), 1)(*arrays)
    return objects(result)


def objects(value: Any) -> Contents:
    """An object array, also of one expression alone."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value
    array = np.empty((), object)
    array[()] = value
    return array


def _fits(n: Call, *arrays: Contents) -> bool:
    """Whether the arrays broadcast to something small; legacy broadcasting is left to the values."""
    try:
        size = int(np.prod(np.broadcast_shapes(*(a.shape for a in arrays))))
    except ValueError:
        return False
    return size <= CONTENTS_LIMIT and (n.opset >= 7 or len({a.shape for a in arrays}) == 1)


def _arithmetic(name: str, fn: Callable[..., DimLike]) -> None:
    symbolic(name)(lambda n, *xs: elementwise(fn, *xs) if _fits(n, *xs) else None)


_arithmetic("Add", lambda a, b: a + b)
_arithmetic("Sub", lambda a, b: a - b)
_arithmetic("Mul", lambda a, b: a * b)
_arithmetic("Neg", lambda a: -a)


@symbolic("Div")
def div(n: Call, x: Contents, y: Contents) -> Contents | None:
    """Division truncates; with an expression it must be provably of one sign."""
    if not _fits(n, x, y):
        return None

    def divide(a: DimLike, b: DimLike) -> DimLike:
        if isinstance(a, int) and isinstance(b, int):
            if b == 0:
                n.invalid("divides by zero")
            return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        if not provably_nonnegative(a) or not (b > 0 if isinstance(b, int) else provably_nonnegative(b)):
            raise _Undecided
        return floordiv(a, b)

    try:
        return elementwise(divide, x, y)
    except _Undecided:
        return None


@symbolic("Mod", since=10)
def modulo(n: Call, x: Contents, y: Contents) -> Contents | None:
    fmod = n.attributes.flag("fmod")
    if not _fits(n, x, y) or any(not isinstance(b, int) or b <= 0 for b in y.reshape(-1)):
        return None
    if fmod and not all(provably_nonnegative(a) for a in x.reshape(-1)):
        return None
    return elementwise(mod, x, y)


class _Undecided(Exception):
    pass


@symbolic("Abs")
def absolute(n: Call, x: Contents) -> Contents:
    return elementwise(lambda a: maximum(a, -a), x)


@symbolic("Relu")
def relu(n: Call, x: Contents) -> Contents:
    return elementwise(lambda a: maximum(a, 0), x)


def _variadic(name: str, fn: Callable[[DimLike, DimLike], DimLike]) -> None:
    def rule(n: Call, *xs: Contents) -> Contents | None:
        if not _fits(n, *xs):
            return None
        total = xs[0]
        for x in xs[1:]:
            total = elementwise(fn, total, x)
        return total

    symbolic(name)(rule)


_variadic("Min", minimum)
_variadic("Max", maximum)
_variadic("Sum", lambda a, b: a + b)


# Truth values are 0 and 1.
def _predicate(name: str, fn: Callable[[Call, DimLike, DimLike], DimLike]) -> None:
    def rule(n: Call, x: Contents, y: Contents) -> Tensor | None:
        return n.known(elementwise(lambda a, b: fn(n, a, b), x, y), BOOL) if _fits(n, x, y) else None

    symbolic(name)(rule)


_predicate("Equal", lambda n, a, b: n.symbols.equal(a, b))
_predicate("Less", lambda n, a, b: less(a, b))
_predicate("Greater", lambda n, a, b: less(b, a))
_predicate("LessOrEqual", lambda n, a, b: 1 - less(b, a))
_predicate("GreaterOrEqual", lambda n, a, b: 1 - less(a, b))
_predicate("And", lambda n, a, b: minimum(a, b))
_predicate("Or", lambda n, a, b: maximum(a, b))
_predicate("Xor", lambda n, a, b: a + b - 2 * a * b)


@symbolic("Not")
def logical_not(n: Call, x: Contents) -> Contents:
    return elementwise(lambda a: 1 - a, x)


@symbolic("Where", since=9)
def where(n: Call, condition: Contents, x: Contents, y: Contents) -> Tensor | None:
    if not _fits(n, condition, x, y):
        return None

    def select(c: DimLike, a: DimLike, b: DimLike) -> DimLike:
        c = n.body.simplify(c)
        if isinstance(c, int):
            return a if c else b
        return a if a == b else c * a + (1 - c) * b

    return n.known(elementwise(select, condition, x, y), n.tensor(1).dtype)


def _reduction(name: str, fn: Callable[[list[DimLike]], DimLike]) -> None:
    def rule(n: Call, x: Contents, axes: Contents | None = None) -> Contents | None:
        keep = n.attributes.flag("keepdims", True)
        empty_means_none = n.attributes.flag("noop_with_empty_axes")
        given = n.attributes.integers("axes") if axes is None else [int(a) for a in axes.reshape(-1)]
        if not given and empty_means_none:
            return x
        over = n.axes(given, x.ndim) if given else tuple(range(x.ndim))
        if 0 in x.shape:
            return None
        rest = tuple(i for i in range(x.ndim) if i not in over)
        rows = x.transpose(*rest, *over).reshape(*(x.shape[i] for i in rest), -1)
        result = np.empty(rows.shape[:-1], object)
        for position in np.ndindex(rows.shape[:-1]):
            result[position] = fn(list(rows[position]))
        return result.reshape([1 if i in over else s for i, s in enumerate(x.shape)]) if keep else result

    symbolic(name)(rule)


def _fold(fn: Callable[[DimLike, DimLike], DimLike]) -> Callable[[list[DimLike]], DimLike]:
    def folded(items: list[DimLike]) -> DimLike:
        total, *rest = items
        for item in rest:
            total = fn(total, item)
        return total

    return folded


_reduction("ReduceProd", product)
_reduction("ReduceSum", _fold(lambda a, b: a + b))
_reduction("ReduceMin", _fold(minimum))
_reduction("ReduceMax", _fold(maximum))


def plain(items: Contents | None) -> list[int] | None:
    """The integers, None where one is symbolic or there are none."""
    if items is None or any(isinstance(i, Dim) for i in items.reshape(-1)):
        return None
    return [int(i) for i in items.reshape(-1)]

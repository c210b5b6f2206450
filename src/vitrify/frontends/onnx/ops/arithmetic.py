"""Formulas over values, written with operators: they broadcast, and numbers take the other side's dtype."""

from __future__ import annotations

from typing import Union

from vitrify.frontends.onnx.body import Array, backward_slice
from vitrify.frontends.onnx.call import Call
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import F32, I64, DType
from vitrify.ir.graph import Graph, Value

Operand = Union["Term", float, int]


class Term:
    """A value in a formula. Comparisons give bools; ``&`` and ``|`` join those."""

    def __init__(self, n: Call, value: Value) -> None:
        self.n = n
        self.value = value

    def _map(self, fn: str, *others: Operand) -> Term:
        return Term(self.n, self.n.map(fn, self.value, *(self._same(o).value for o in others)))

    def _same(self, other: Operand) -> Term:
        return other if isinstance(other, Term) else Term(self.n, self.n.number(other, self.value))

    def __add__(self, other: Operand) -> Term:
        return self._map("add", other)

    def __sub__(self, other: Operand) -> Term:
        return self._map("sub", other)

    def __rsub__(self, other: float) -> Term:
        return self._same(other) - self

    def __mul__(self, other: Operand) -> Term:
        return self._map("mul", other)

    def __truediv__(self, other: Operand) -> Term:
        return self._map("div", other)

    def __rtruediv__(self, other: float) -> Term:
        return self._same(other) / self

    def __floordiv__(self, other: Operand) -> Term:
        """Integers divided towards zero."""
        return self._map("quotient", other)

    def __mod__(self, other: Operand) -> Term:
        """The remainder of integers, with the divisor's sign."""
        return self._map("floormod", other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Term:
        return self._map("neg")

    def __lt__(self, other: Operand) -> Term:
        return self._map("lt", other)

    def __le__(self, other: Operand) -> Term:
        return self._map("le", other)

    def __gt__(self, other: Operand) -> Term:
        return self._map("gt", other)

    def __ge__(self, other: Operand) -> Term:
        return self._map("ge", other)

    def equals(self, other: Operand) -> Term:
        return self._map("eq", other)

    def differs(self, other: Operand) -> Term:
        return self._map("ne", other)

    def __and__(self, other: Term) -> Term:
        return self._map("and", other)

    def __or__(self, other: Term) -> Term:
        return self._map("or", other)

    def __invert__(self) -> Term:
        return self._map("not")

    def apply(self, fn: str) -> Term:
        return self._map(fn)

    def least(self, other: Operand) -> Term:
        return self._map("min", other)

    def most(self, other: Operand) -> Term:
        return self._map("max", other)

    def clip(self, low: Operand, high: Operand) -> Term:
        """At least ``low``, and then at most ``high``."""
        return self.most(low).least(high)

    def pick(self, yes: Term, no: Operand) -> Term:
        """``yes`` where this is true, else ``no``."""
        return Term(self.n, self.n.map("where", self.value, yes.value, yes._same(no).value))

    def cast(self, dtype: DType) -> Term:
        return Term(self.n, self.n.b.cast(self.value, dtype))

    def reshape(self, *shape: DimLike) -> Term:
        return Term(self.n, self.n.b.reshape(self.value, shape))

    def unsqueeze(self, *axes: int) -> Term:
        return Term(self.n, self.n.b.unsqueeze(self.value, *axes)) if axes else self

    def reduce(self, combiner: str, *axes: int, keepdims: bool = False) -> Term:
        return Term(self.n, self.n.b.reduce(combiner, self.value, axes, keepdims=keepdims))

    def part(self, axis: int, start: int, size: DimLike = 1) -> Term:
        return Term(self.n, self.n.b.slice_axis(self.value, axis % self.value.rank, start, size))

    def item(self, axis: int, index: int) -> Term:
        """One position of an axis, which disappears."""
        return Term(self.n, self.n.b.squeeze(self.part(axis, index).value, axis))


def size_term(n: Call, size: DimLike, dtype: DType = I64) -> Term:
    """A size as a number of rank 0."""
    value = n.b.constant(size, dtype) if isinstance(size, int) else n.b.cast(n.b.dim(size), dtype)
    return Term(n, value)


def positions(n: Call, count: DimLike, dtype: DType = F32) -> Term:
    """0, 1, 2, .. below ``count``."""
    return Term(n, n.b.iota((count,), 0, dtype))


def number_term(n: Call, number: float, dtype: DType = F32) -> Term:
    return Term(n, n.b.constant(number, dtype))


def folded(term: Term) -> Term:
    """The constant that the formula is, where constants alone make it and it is small."""
    array = held(term)
    return term if array is None or term.value.constant is not None else Term(term.n, term.n.b.constant(array))


def held(term: Term) -> Array | None:
    """The elements, where constants alone make them and they are few."""
    if term.value.constant is not None:
        return term.value.constant
    nodes = backward_slice(term.value, 256)
    if nodes is None:
        return None
    from vitrify.ir.interpret import interpret

    (array,) = interpret(Graph((), (term.value,), nodes), {})
    return array

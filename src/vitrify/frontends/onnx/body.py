"""Tensors of the model, and the graph bodies they live in.

A :class:`Tensor` is a constant, or known by its contents (integers that depend on the sizes), or a value of
a body. Only a consumer that computes with it makes the first two into nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.symbols import SymbolTable, bare_symbol
from vitrify.ir.builder import Builder
from vitrify.ir.dims import Dim, DimLike, Shape, substitute
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Node, Value

Array = np.ndarray[Any, Any]
Contents = np.ndarray[Any, np.dtype[np.object_]]

CONTENTS_LIMIT = 1024  # elements; larger integer tensors are data, not shapes


@dataclass(eq=False)
class Tensor:
    """Exactly one of ``array``, ``known`` and ``value`` is its origin; ``home`` is the body of ``value``."""

    dtype: DType
    shape: Shape
    array: Array | None = None
    known: Contents | None = None
    value: Value | None = None
    home: Body | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def contents(self) -> Contents | None:
        """One integer expression per element, where they are known; booleans are 0 and 1."""
        if self.known is None and self.array is not None and (self.dtype.is_int or self.dtype.is_bool):
            if self.array.size <= CONTENTS_LIMIT:
                self.known = self.array.astype(np.int64 if self.dtype.bits < 64 else self.array.dtype).astype(object)
        return self.known


def constant_tensor(array: Array, dtype: DType) -> Tensor:
    return Tensor(dtype, array.shape, array=array)


def known_tensor(contents: Contents, dtype: DType) -> Tensor:
    """A tensor of integer expressions; of plain integers it is a constant. Integers wrap."""
    items = [_wrapped(item, dtype) for item in contents.reshape(-1)]
    if all(isinstance(item, int) for item in items):
        wide = np.array(items, dtype=np.uint64 if dtype.min() == 0 and dtype.bits == 64 else np.int64)
        return constant_tensor(wide.astype(dtype.numpy).reshape(contents.shape), dtype)
    wrapped = np.empty(len(items), object)
    wrapped[:] = items
    return Tensor(dtype, contents.shape, known=wrapped.reshape(contents.shape))


def _wrapped(item: DimLike, dtype: DType) -> DimLike:
    if isinstance(item, Dim):
        return item
    number = int(item)
    if dtype.is_bool:
        return int(number != 0)
    low, span = int(dtype.min()), 1 << dtype.bits
    return (number - low) % span + low


@dataclass(eq=False)
class Body:
    """A graph under construction. Values of the bodies around it enter as inputs."""

    symbols: SymbolTable
    parent: Body | None = None
    builder: Builder = field(default_factory=Builder)
    captured: dict[Value, Value] = field(default_factory=dict)
    assumptions: list[tuple[DimLike, DimLike]] = field(default_factory=list)
    _facts: dict[DimLike, DimLike] = field(default_factory=dict)
    _made: dict[Tensor, Value] = field(default_factory=dict)

    def resolve(self, tensor: Tensor) -> Value:
        """The tensor as a value of this body."""
        if tensor.value is not None and tensor.home is not None:
            return self.capture(tensor.value, tensor.home)
        if tensor not in self._made:
            made = self._materialise(tensor)
            self._made[tensor] = made
        return self._made[tensor]

    def capture(self, value: Value, home: Body) -> Value:
        if home is self:
            return value
        assert self.parent is not None, "a value is used outside the bodies that see it"
        outer = self.parent.capture(value, home)
        if outer not in self.captured:
            self.captured[outer] = Value(outer.type)  # unnamed: names repeat across calls
        return self.captured[outer]

    def _materialise(self, tensor: Tensor) -> Value:
        if tensor.array is not None:
            return self.builder.constant(tensor.array)
        assert tensor.known is not None
        parts: list[Value] = []
        items = list(tensor.known.reshape(-1))
        while items:
            plain = next((i for i, item in enumerate(items) if isinstance(item, Dim)), len(items))
            if plain:
                parts.append(self.builder.constant(np.array(items[:plain], np.int64)))
            else:
                parts.append(self.builder.reshape(self.builder.dim(items[0]), (1,)))
            items = items[max(plain, 1) :]
        flat = self.builder.concat(parts, 0)
        shaped = self.builder.reshape(flat, tensor.shape)
        return self.builder.cast(shaped, tensor.dtype)

    # What runs must find equal.
    def simplify(self, value: DimLike) -> DimLike:
        """``value`` under what this body and those around it assume."""
        body: Body | None = self
        while body is not None and not isinstance(value, int):
            value = body._facts.get(value, value)
            table = {s.name: v for k, v in body._facts.items() if (s := bare_symbol(k)) is not None}
            value = substitute(value, table) if table else value
            body = body.parent
        return value

    def assume(self, a: DimLike, b: DimLike, why: str) -> None:
        """Every run must find ``a == b``. Raises :class:`InvalidModelError` where it cannot be, and
        :class:`~vitrify.frontends.onnx.symbols.Substitute` where a symbol is to be replaced."""
        a, b = self.simplify(a), self.simplify(b)
        difference = a - b
        if isinstance(difference, int):
            if difference:
                raise InvalidModelError(f"{why}: sizes differ", expected=b, actual=a)
            return
        a, b = self.symbols.oriented(a, b)
        change: Exception | None = self.symbols.replaceable(a, b) or self.symbols.replaceable(b, a)
        bound = self.symbols.bound(a, b)
        if self.parent is None and (change is not None or bound is not None):
            raise change or bound or AssertionError
        self._facts[a] = b
        self.assumptions.append((a, b))

    def hoist(self, others: list[tuple[DimLike, DimLike]], mine: list[tuple[DimLike, DimLike]], why: str) -> None:
        """What both branches assume holds around them."""
        for pair in others:
            if pair in mine:
                self.assume(*pair, why)


def element_count(shape: Shape) -> int | None:
    """The number of elements, None where it is symbolic."""
    return prod(n for n in shape if isinstance(n, int)) if all(isinstance(n, int) for n in shape) else None


def backward_slice(value: Value, limit: int) -> list[Node] | None:
    """The nodes that compute ``value`` from constants alone, in order; None where it depends on more."""
    order: list[Node] = []
    seen: set[Node] = set()

    def visit(v: Value) -> bool:
        if v.node is None:
            return False
        if v.node in seen:
            return True
        seen.add(v.node)
        if len(seen) > limit or v.node.op.bodies or v.node.op.name in ("binddim", "dimvalue", "call"):
            return False
        if any((element_count(o.shape) or 0) > 65536 or element_count(o.shape) is None for o in v.node.outputs):
            return False
        if not all(visit(i) for i in v.node.inputs):
            return False
        order.append(v.node)
        return True

    return order if visit(value) else None


def short_sources(operands: Sequence[object], most: int) -> set[str]:
    """The graph inputs that the short tensors of a node (rank 0 or 1, at most ``most`` elements where that is
    known) depend on through short tensors alone; those of integers where there are any."""
    found: dict[str, Value] = {}
    for tensor in operands:
        if isinstance(tensor, Tensor) and tensor.array is None and tensor.value is not None:
            found.update(_short_inputs(tensor.value, most, {}))
    integers = {name for name, v in found.items() if v.dtype.is_int or v.dtype.is_bool}
    return integers or set(found)


def _short_inputs(value: Value, most: int, seen: dict[Value, None]) -> dict[str, Value]:
    if value in seen or len(seen) > 256 or value.rank > 1 or (element_count(value.shape) or 0) > most:
        return {}
    seen[value] = None
    if value.node is None:
        return {value.name: value} if value.name else {}
    found: dict[str, Value] = {}
    for source in value.node.inputs:
        found.update(_short_inputs(source, most, seen))
    return found

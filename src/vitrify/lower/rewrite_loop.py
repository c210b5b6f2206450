"""Changing Loop IR: positions replaced everywhere, and neighbouring loops merged into one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar

from vitrify.ir.dims import Dim, DimLike, substitute
from vitrify.ir.dtypes import DType
from vitrify.lower import loop as L
from vitrify.lower.loop import Stmt
from vitrify.lower.views import linear_in

T = TypeVar("T")
_ATOMIC = (str, bool, type(None), float, L.VType)
_POSITIONAL = {
    L.Load: ("index", "count", "stride"), L.GatherLoad: ("index",), L.Position: ("value",),
    L.Store: ("index", "count", "stride"), L.For: ("extent",), L.Tile: ("size",), L.Prefetch: ("index",),
    L.Matrix: ("index", "stride"),
}  # fmt: skip


@cache
def _fields(kind: Hashable) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))  # type: ignore[arg-type]  # a class of Loop IR


def map_positions(node: T, change: Callable[[DimLike], DimLike]) -> T:
    """``node`` (data, a statement, or a tuple of them) with every position changed."""
    if isinstance(node, tuple):
        return tuple(map_positions(n, change) for n in node)  # type: ignore[return-value]
    if isinstance(node, int):
        return node
    kind: type[Any] = type(node)
    positional = _POSITIONAL.get(kind, ())
    updates: dict[str, Any] = {}
    for name in _fields(kind):  # type: ignore[arg-type]  # classes are hashable
        old = getattr(node, name)
        if name in positional:
            new = old if old is None else change(old)
        elif isinstance(old, (*_ATOMIC, Dim, int, DType)) or name == "register":
            continue
        else:
            new = map_positions(old, change)
        if new is not old:
            updates[name] = new
    return replace(node, **updates) if updates else node  # type: ignore[type-var]


def rename(body: tuple[Stmt, ...], table: dict[str, DimLike]) -> tuple[Stmt, ...]:
    """Symbols replaced in all positions."""
    return map_positions(body, lambda value: substitute(value, table))


def suffixed(node: T, suffix: str) -> T:
    """``node`` (data, a statement, or a tuple of them) with every register of another name."""
    if isinstance(node, L.Register):
        return replace(node, name=node.name + suffix)
    if isinstance(node, tuple):
        return tuple(suffixed(n, suffix) for n in node)  # type: ignore[return-value]
    if isinstance(node, (*_ATOMIC, Dim, int, DType)):
        return node
    updates: dict[str, Any] = {}
    for name in _fields(type(node)):  # type: ignore[arg-type]
        old = getattr(node, name)
        new = suffixed(old, suffix)
        if new is not old:
            updates[name] = new
    return replace(node, **updates) if updates else node  # type: ignore[type-var]


def addresses(body: Sequence[Stmt]) -> Iterator[DimLike]:
    """Every position in the statements."""
    found: list[DimLike] = []

    def note(value: DimLike) -> DimLike:
        found.append(value)
        return value

    map_positions(tuple(body), note)
    yield from found


def mergeable(body: Sequence[Stmt], outer: str, inner: str, extent: DimLike) -> bool:
    """Whether stepping ``outer`` by one is everywhere the same as stepping ``inner`` by ``extent``."""
    for value in addresses(body):
        form = linear_in(value, [outer, inner])
        if form is None:
            return False
        if form.coefficients.get(outer, 0) != form.coefficients.get(inner, 0) * extent:
            return False
    return True


def find(node: Any, kind: type[T]) -> Iterator[T]:
    """Every part of ``node`` (data, a statement, or a tuple of them) that is a ``kind``, in order."""
    if isinstance(node, kind):
        yield node
    if isinstance(node, tuple):
        for part in node:
            yield from find(part, kind)
    elif not isinstance(node, (*_ATOMIC, Dim, int, DType)):
        for name in _fields(type(node)):  # type: ignore[arg-type]
            yield from find(getattr(node, name), kind)


def straight_code(body: tuple[Stmt, ...]) -> Iterator[tuple[Stmt, ...]]:
    """The statements of every block, without those nested in them, in order."""
    nested = (L.For, L.While, L.If)
    yield tuple(s for s in body if not isinstance(s, nested))
    for s in body:
        if isinstance(s, (L.For, L.While)):
            yield from straight_code(s.body)
        elif isinstance(s, L.If):
            yield from straight_code(s.then)
            yield from straight_code(s.otherwise)

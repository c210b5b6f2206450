"""The left operand copied into a layout that tiles read without bounds: padding written out, the
accumulator's dtype, rows contiguous.

Axes that share a coordinate of the source (an output position and a window position along the height) share
one in the copy, so a convolution's input is copied once, not once per window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd

from vitrify.ir.dims import DimLike, ceildiv, minimum, product
from vitrify.ir.dtypes import U8, DType
from vitrify.lower.contract import emit
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.problem import Access, Axis, Bound, Contraction
from vitrify.lower.loop import Apply, Buffer, Data, Kernel, Stmt, Store

TASK_ELEMENTS = 1 << 14
LANES = 16  # elements moved at once; narrower machines take several registers


@dataclass(frozen=True)
class Coordinate:
    """``sum(factors[a] * a)``, ``stride`` elements apart in the source; the source has ``extent`` of them
    from ``-offset`` on where it is bounded."""

    name: str
    count: DimLike
    factors: tuple[tuple[str, int], ...]
    stride: DimLike
    offset: DimLike = 0
    extent: DimLike | None = None


def coordinates(access: Access, axes: Sequence[Axis]) -> list[Coordinate] | None:
    """The coordinates of an operand, least stride last; None where its strides do not follow its bounds."""
    extents = {a.name: a.extent for a in axes}
    free = {n: s for n, s in access.strides.items() if extents[n] != 1 and s != 0}
    found: list[Coordinate] = []
    for i, bound in enumerate(access.bounds):
        one = _bounded(f"c{i}", bound, access, extents)
        if one is None or any(n not in free and extents[n] != 1 for n in bound.strides):
            return None
        if any(n in [f for c in found for f, _ in c.factors] for n in bound.strides):
            return None
        found.append(one)
    taken = {n for c in found for n, _ in c.factors}
    rest = [n for n in extents if n in free and n not in taken]
    while rest:
        name = rest.pop(0)
        partner = next((m for m in rest if _share(name, m, free, extents)), None)
        if partner is None:
            found.append(Coordinate(name, extents[name], ((name, 1),), free[name]))
            continue
        rest.remove(partner)
        a, b = free[name], free[partner]
        assert isinstance(a, int) and isinstance(b, int)
        unit = gcd(a, b)
        factors = ((name, a // unit), (partner, b // unit))
        found.append(Coordinate(name, _count(factors, extents), factors, unit))
    order = {n: i for i, n in enumerate(extents)}
    return sorted(found, key=lambda c: _rank(c, order))


def _rank(c: Coordinate, order: dict[str, int]) -> tuple[int, int, int]:
    first = min((order[n] for n, _ in c.factors), default=0)
    if isinstance(c.stride, int):
        return (1, -abs(c.stride), first)
    return (0, 0, first)  # a symbolic stride is that of an outer axis


def _count(factors: Sequence[tuple[str, int]], extents: dict[str, DimLike]) -> DimLike:
    total: DimLike = 1
    for name, factor in factors:
        total = total + factor * (extents[name] - 1)
    return total


def _bounded(name: str, bound: Bound, access: Access, extents: dict[str, DimLike]) -> Coordinate | None:
    if any(f <= 0 for f in bound.strides.values()):
        return None
    factors = tuple(bound.strides.items())
    stride: DimLike | None = None
    for axis, factor in factors:
        whole = access.strides.get(axis, 0)
        if extents[axis] == 1:
            continue
        unit = whole // factor
        if unit * factor != whole or (stride is not None and unit != stride):
            return None
        stride = unit
    return Coordinate(
        name, _count(factors, extents), factors, 0 if stride is None else stride, bound.offset, bound.extent
    )


def _share(a: str, b: str, strides: dict[str, DimLike], extents: dict[str, DimLike]) -> bool:
    """Whether two axes overlap in the source, as an output position and a window position do."""
    s, t, m, n = strides[a], strides[b], extents[a], extents[b]
    if not all(isinstance(x, int) and x > 0 for x in (s, t)):
        return False
    assert isinstance(s, int) and isinstance(t, int)
    unit = gcd(s, t)
    if s // unit > 8 or t // unit > 8:
        return False
    if not (isinstance(m, int) and isinstance(n, int)):
        return s // unit < 8 and t // unit < 8
    together = (s // unit) * (m - 1) + (t // unit) * (n - 1) + 1
    return together < m * n


@dataclass(frozen=True)
class Copy:
    """A copy of ``problem``'s left operand in ``buffer``."""

    problem: Contraction
    buffer: str
    parts: tuple[Coordinate, ...]
    dtype: DType
    interleaved: bool = False
    flipped: bool = False  # bytes with their sign bit turned: i8 as u8 from 128 on, or back

    @staticmethod
    def of(
        problem: Contraction, buffer: str, dtype: DType | None = None, interleave: str | None = None
    ) -> Copy:
        """The copy; ``interleave`` names a short axis, the only one of its coordinate, whose elements lie next
        to each other in it. ValueError where :func:`coordinates` finds none."""
        parts = coordinates(problem.lhs, (*problem.batch, *problem.left, *problem.contracted))
        if parts is None:
            raise ValueError(f"the bounds of {problem.lhs.buffer} do not follow its strides")
        if interleave is not None:
            parts.sort(key=lambda c: dict(c.factors).get(interleave, 0))
        return Copy(problem, buffer, tuple(parts), dtype or problem.accumulate, interleave is not None)

    @property
    def size(self) -> DimLike:
        return product(c.count for c in self.parts)

    def strides(self) -> list[DimLike]:
        steps: list[DimLike] = []
        step: DimLike = 1
        for c in reversed(self.parts):
            steps.insert(0, step)
            step = step * c.count
        return steps

    def moved(self) -> Contraction:
        """The problem, reading the copy."""
        strides: dict[str, DimLike] = {}
        for c, step in zip(self.parts, self.strides(), strict=True):
            for name, factor in c.factors:
                strides[name] = strides.get(name, 0) + factor * step
        lhs = Access(self.buffer, self.dtype, 0, strides)
        return replace(self.problem, lhs=lhs)

    # ---- code

    def _split(self) -> tuple[tuple[Coordinate, ...], tuple[Coordinate, ...]]:
        """The coordinates tasks walk, and those of a row, which one piece of code copies."""
        parts = self.parts
        if self.interleaved:
            return parts[:-2], parts[-2:]
        start = max(len(parts) - 1, 0)
        while (
            start > 0
            and parts[start].extent is None
            and self._contiguous(start - 1)
            and self._small(start - 1)
        ):
            start -= 1
        return parts[:start], parts[start:]

    def _contiguous(self, start: int) -> bool:
        """Whether the source holds the coordinates from ``start`` on without gaps."""
        step: DimLike = 1
        for c in reversed(self.parts[start:]):
            if c.stride != step:
                return False
            step = step * c.count
        return True

    def _small(self, start: int) -> bool:
        length = product(c.count for c in self.parts[start:])
        return not isinstance(length, int) or length < TASK_ELEMENTS

    def kernel(self, name: str) -> Kernel:
        p, names = self.problem, Names()
        lead, row = self._split()
        rows = product(c.count for c in lead)
        length = emit.known(product(c.count for c in row), 1024)
        chunk = max(1, TASK_ELEMENTS // max(length, 1))
        first = emit.TASK * chunk
        body = names.loop("u", minimum(chunk, rows - first), lambda i: self._one(names, first + i, lead, row))
        moved = self.size * (p.lhs.dtype.itemsize + self.dtype.itemsize)
        buffers = (Buffer(p.lhs.buffer, p.lhs.dtype), Buffer(self.buffer, self.dtype, True, True))
        return Kernel(name, buffers, p.dims, ceildiv(rows, chunk), body, 0, moved, (("template", "copy"),))

    def body(self, names: Names) -> Body:
        """The copy inside a task."""
        lead, row = self._split()
        rows = product(c.count for c in lead)
        return names.loop("u", rows, lambda i: self._one(names, i, lead, row))

    def _one(
        self, names: Names, index: DimLike, lead: Sequence[Coordinate], row: Sequence[Coordinate]
    ) -> Body:
        """The row at ``index`` of a walk over ``lead``."""
        position, bound = emit.decode(names, index, [Axis(c.name, c.count) for c in lead])
        source = self.problem.lhs.offset
        for c in lead:
            source = source + position[c.name] * c.stride
        start, more = names.bind("x", source)
        to, rest = names.bind("y", index * product(c.count for c in row))
        conditions = [
            emit.compare(fn, position[c.name] + c.offset, limit)
            for c in lead if c.extent is not None for fn, limit in (("ge", 0), ("lt", c.extent))
        ]  # fmt: skip
        copied = self._row(names, start, to, row)
        if conditions:
            filled = self._fill(names, to, product(c.count for c in row))
            copied = emit.when(emit.every(conditions), copied, filled)
        return (*bound, *more, *rest, *copied)

    def _row(self, names: Names, source: DimLike, to: DimLike, row: Sequence[Coordinate]) -> Body:
        if not row:
            return self._move(names, source, to, 1, 1)
        c = row[0]
        step = product(r.count for r in row[1:])
        if self.interleaved:
            return self._interleave(names, source, to, c, row[1])
        if c.extent is None:
            return self._move(names, source, to, c.count * step, 1 if len(row) > 1 else c.stride)
        low = emit.clamp(-c.offset, 0, c.count)
        high = emit.clamp(c.extent - c.offset, low, c.count)
        low, bound = names.bind("low", low)
        high, more = names.bind("high", high)
        body: list[Stmt] = [*bound, *more, *self._fill(names, to, low * step)]
        stride = 1 if len(row) > 1 else c.stride
        body += self._move(names, source + low * c.stride, to + low * step, (high - low) * step, stride)
        body += self._fill(names, to + high * step, (c.count - high) * step)
        return tuple(body)

    def _interleave(self, names: Names, source: DimLike, to: DimLike, outer: Coordinate, inner: Coordinate) -> Body:
        """Positions of ``outer`` one by one, each with all of ``inner``."""
        width = emit.known(inner.count, 1)
        exist = width if inner.extent is None else emit.known(inner.extent, width)
        limit = outer.count if outer.extent is None else outer.extent
        low = emit.clamp(-outer.offset, 0, outer.count)
        high = emit.clamp(limit - outer.offset, low, outer.count)
        low, bound = names.bind("low", low)
        high, more = names.bind("high", high)

        def one(i: DimLike) -> Body:
            at, start = to + (low + i) * width, source + (low + i) * outer.stride
            values = [emit.load(self.problem.lhs, start + c * inner.stride) for c in range(exist)]
            stores = [Store(self.buffer, at + c, self._kept(v)) for c, v in enumerate(values)]
            empty = emit.constant(0, self.dtype, 1)
            return (*stores, *(Store(self.buffer, at + c, empty) for c in range(exist, width)))

        body = (*bound, *more, *self._fill(names, to, low * width), *names.loop("c", high - low, one))
        return (*body, *self._fill(names, to + high * width, (outer.count - high) * width))

    def _move(self, names: Names, source: DimLike, to: DimLike, count: DimLike, stride: DimLike) -> Body:
        def vector(i: DimLike, lanes: int, some: DimLike | None) -> Body:
            loaded = emit.load(self.problem.lhs, source + i * stride, lanes, some, stride)
            return (Store(self.buffer, to + i, self._kept(loaded), some),)

        if stride != 1:
            return names.loop("c", count, lambda i: vector(i, 1, None))
        return _vectors(names, count, vector)

    def _kept(self, loaded: Data) -> Data:
        value = emit.convert(loaded, self.dtype)
        return Apply("xor", (value, emit.literal(128, U8, value.type.lanes))) if self.flipped else value

    def _fill(self, names: Names, to: DimLike, count: DimLike) -> Body:
        def vector(i: DimLike, lanes: int, some: DimLike | None) -> Body:
            return (
                Store(self.buffer, to + i, emit.constant(self.problem.lhs.fill, self.dtype, lanes), some),
            )

        return _vectors(names, count, vector)


def _vectors(names: Names, count: DimLike, vector: Callable[[DimLike, int, DimLike | None], Body]) -> Body:
    """``count`` elements by whole vectors, then the rest by one partial vector."""
    full = count // LANES
    rest = count - full * LANES
    body: Body = names.loop("c", full, lambda i: vector(i * LANES, LANES, None))
    if rest != 0:
        body = (*body, *vector(full * LANES, LANES, rest))
    return body

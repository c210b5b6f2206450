"""The right operand in panels: ``[outer][N / columns][K][columns]``, so that a tile reads one stream.

A last panel that holds fewer columns is only as wide, in whole vectors, as it has to be when N is known;
columns beyond N are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrify.ir.dims import DimLike, ceildiv, minimum
from vitrify.ir.dtypes import DType
from vitrify.lower.contract import emit
from vitrify.lower.contract.axes import offset_at
from vitrify.lower.contract.emit import Body, Names
from vitrify.lower.contract.problem import Access, Axis, Contraction
from vitrify.lower.loop import Apply, Assign, Buffer, Data, Kernel, Let, Load, Stmt, Store, VType

Array = np.ndarray[Any, Any]
TASK_ELEMENTS = 1 << 14


@dataclass(frozen=True)
class Panels:
    """How ``n`` columns fall into panels of ``columns``, in vectors of ``lanes``. ``narrow``: the last
    panel is stored only as wide as it has to be (n known)."""

    n: DimLike
    columns: int
    lanes: int
    narrow: bool

    @property
    def full(self) -> DimLike:
        return self.n // self.columns

    @property
    def rest(self) -> DimLike:
        return self.n - self.full * self.columns

    @property
    def count(self) -> DimLike:
        return ceildiv(self.n, self.columns)

    @property
    def tail_columns(self) -> int:
        """Stored columns of the last, partial panel."""
        if self.narrow and isinstance(self.rest, int):
            return -(-self.rest // self.lanes) * self.lanes
        return self.columns

    def stride(self, k: DimLike) -> DimLike:
        """Elements of all panels of one outer position."""
        tail = (self.count - self.full) * self.tail_columns
        return (self.full * self.columns + tail) * k


def dense(access: Access, axes: Sequence[Axis]) -> Array:
    """A constant operand as an array over ``axes``, fill values where it is out of bounds."""
    assert access.constant is not None
    flat = access.constant.reshape(-1)
    shape = tuple(int(emit.known(a.extent, 0)) for a in axes)
    if not access.bounds and all(s > 0 for s in shape):
        item = flat.itemsize
        steps = tuple(int(emit.known(access.strides.get(a.name, 0), 0)) * item for a in axes)
        start = flat[int(emit.known(access.offset, 0)) :]
        return np.lib.stride_tricks.as_strided(start, shape, steps, writeable=False)
    index: Any = np.int64(emit.known(access.offset, 0))
    ok: Any = np.bool_(True)
    grid = dict(zip((a.name for a in axes), np.ogrid[tuple(slice(0, s) for s in shape)], strict=True))
    for name, step in access.strides.items():
        index = index + grid.get(name, 0) * emit.known(step, 0)
    for bound in access.bounds:
        where: Any = np.int64(emit.known(bound.offset, 0))
        for name, step in bound.strides.items():
            where = where + grid.get(name, 0) * step
        ok = ok & (where >= 0) & (where < emit.known(bound.extent, 0))
    if not flat.size:
        return np.full(shape, access.fill, flat.dtype)
    filled = np.where(ok, flat[np.where(ok, index, 0)], np.asarray(access.fill).astype(flat.dtype))
    return np.broadcast_to(filled, shape)


def pack(
    access: Access,
    outer: Sequence[Axis],
    contracted: Sequence[Axis],
    lane: Axis,
    panels: Panels,
    dtype: DType,
) -> Array:
    """A constant operand in panels, one row per outer position."""
    whole = dense(access, (*outer, *contracted, lane))
    count = int(np.prod(whole.shape[: len(outer)], dtype=np.int64))
    k = int(np.prod(whole.shape[len(outer) : -1], dtype=np.int64))
    n = whole.shape[-1]
    array = np.asarray(whole, dtype.numpy).reshape(count, k, n)
    full = n // panels.columns
    split = full * panels.columns
    # written where it stays: copies of hundreds of megabytes take seconds
    packed = np.zeros((count, k * (split + (panels.tail_columns if split < n else 0))), dtype.numpy)
    whole_panels = packed[:, : k * split].reshape(count, full, k, panels.columns)
    whole_panels[...] = array[:, :, :split].reshape(count, k, full, panels.columns).transpose(0, 2, 1, 3)
    if split < n:
        packed[:, k * split :].reshape(count, k, panels.tail_columns)[:, :, : n - split] = array[:, :, split:]
    return packed


@dataclass(frozen=True)
class Packing:
    """A kernel that packs a moving right operand into a temporary."""

    problem: Contraction
    outer: tuple[Axis, ...]
    contracted: tuple[Axis, ...]
    lane: Axis
    panels: Panels
    buffer: str

    def kernel(self, name: str) -> Kernel:
        names, panels, p = Names(), self.panels, self.problem
        count = emit.size(self.outer)
        k = emit.size(self.contracted)
        rows = count * panels.count
        per_row = emit.known(k, 256) * panels.columns
        chunk = max(1, TASK_ELEMENTS // max(per_row, 1))
        panel_axis = Axis("@panel", panels.count)

        def unit(i: DimLike) -> Body:
            position, bound = emit.decode(names, emit.TASK * chunk + i, (*self.outer, panel_axis))
            return (*bound, *self._panel(names, position))

        body = names.loop("u", minimum(chunk, rows - emit.TASK * chunk), unit)
        elements = rows * k * panels.columns
        return Kernel(
            name,
            (Buffer(p.rhs.buffer, p.rhs.dtype), Buffer(self.buffer, p.accumulate, written=True)),
            p.dims, ceildiv(rows, chunk), body, 0,
            elements * (p.rhs.dtype.itemsize + p.accumulate.itemsize), (("template", "pack"),),
        )  # fmt: skip

    def _panel(self, names: Names, position: dict[str, DimLike]) -> Body:
        panels = self.panels
        k = emit.size(self.contracted)
        outer: DimLike = 0
        for axis in self.outer:
            outer = outer * axis.extent + position[axis.name]
        panel = position["@panel"]
        base, bound = names.bind("to", outer * panels.stride(k) + panel * (k * panels.columns))
        width, more = names.bind("width", minimum(panels.columns, panels.n - panel * panels.columns))
        body: list[Stmt] = [*bound, *more]

        def row(at: dict[str, DimLike]) -> Body:
            index: DimLike = 0
            for axis in self.contracted:
                index = index * axis.extent + at[axis.name]
            return self._row(names, {**position, **at}, base, index, width)

        body += emit.nest(names, self.contracted, row)
        return tuple(body)

    def _row(
        self, names: Names, position: dict[str, DimLike], base: DimLike, k: DimLike, width: DimLike
    ) -> Body:
        """One row of a panel: vectors of it, or its elements one by one where a bound cuts the lane axis."""
        start, to = position["@panel"] * self.panels.columns, base + k * self.panels.columns
        if any(self.lane.name in b.strides for b in self.problem.rhs.bounds):
            return self._elements(names, position, to, start)
        return self._vectors(names, position, to, start, width)

    def _vectors(
        self, names: Names, position: dict[str, DimLike], to: DimLike, start: DimLike, width: DimLike
    ) -> Body:
        p, lanes = self.problem, self.panels.lanes
        stride = p.rhs.strides.get(self.lane.name, 0)
        condition = emit.inside(p.rhs, {**position, self.lane.name: start})
        body: list[Stmt] = []
        for v in range(self.panels.columns // lanes):
            index = offset_at(p.rhs, {**position, self.lane.name: start + v * lanes})
            count = None if width == self.panels.columns else width - v * lanes
            loaded: Data = Load(p.rhs.buffer, index, VType(p.rhs.dtype, lanes), count, stride)
            value = emit.convert(loaded, p.accumulate)
            if condition is not None:
                held = names.register("b", p.accumulate, lanes)
                body.append(Let(held, emit.literal(p.rhs.fill, p.accumulate, lanes)))
                body += emit.when(condition, (Assign(held, value),))
                value = held
            body.append(Store(self.buffer, to + v * lanes, value))
        return tuple(body)

    def _elements(self, names: Names, position: dict[str, DimLike], to: DimLike, start: DimLike) -> Body:
        p = self.problem

        def element(i: DimLike) -> Body:
            where = {**position, self.lane.name: start + i}
            held = names.register("b", p.accumulate)
            exists = emit.compare("lt", start + i, self.panels.n)
            bounds = emit.inside(p.rhs, where)
            ok = exists if bounds is None else Apply("and", (exists, bounds))
            value = emit.convert(emit.load(p.rhs, offset_at(p.rhs, where)), p.accumulate)
            return (
                Let(held, emit.literal(p.rhs.fill, p.accumulate)),
                *emit.when(ok, (Assign(held, value),)),
                Store(self.buffer, to + i, held),
            )

        return names.loop("n", self.panels.columns, element)

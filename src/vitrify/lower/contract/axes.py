"""Axes as a template walks them: neighbours that memory lets it walk as one are fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrify.ir.dims import DimLike
from vitrify.lower.contract import emit
from vitrify.lower.contract.problem import Access, Axis


@dataclass(frozen=True)
class Fused:
    """One loop over ``parts`` (the last one fastest); ``strides`` of each operand that walks them."""

    extent: DimLike
    parts: tuple[Axis, ...]
    strides: tuple[DimLike, ...]

    def position(self, index: DimLike) -> dict[str, DimLike]:
        return emit.split(index, self.parts)


def fuse(axes: Sequence[Axis], accesses: Sequence[Access]) -> list[Fused]:
    """``axes`` without those of one element, and neighbours as one where every access steps evenly."""
    fused: list[Fused] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        strides = tuple(a.strides.get(axis.name, 0) for a in accesses)
        if fused and fused[-1].strides == tuple(s * axis.extent for s in strides):
            last = fused.pop()
            fused.append(Fused(last.extent * axis.extent, (*last.parts, axis), strides))
        else:
            fused.append(Fused(axis.extent, (axis,), strides))
    return fused


def singles(axes: Sequence[Axis]) -> dict[str, DimLike]:
    """Where every axis of one element is."""
    return {a.name: 0 for a in axes if a.extent == 1}


def contracted_order(axes: Sequence[Axis], lhs: Access) -> list[Axis]:
    """The order of summation: by falling stride, so that whole lines of the left operand are used."""
    live = [a for a in axes if a.extent != 1]

    def key(item: tuple[int, Axis]) -> tuple[bool, int, int]:
        stride = lhs.strides.get(item[1].name, 0)
        static = isinstance(stride, int) and stride != 0
        return (static, -abs(stride) if isinstance(stride, int) else 0, item[0])

    return [a for _, a in sorted(enumerate(live), key=key)]


def offset_at(access: Access, position: Mapping[str, DimLike]) -> DimLike:
    """The part of the address that the axes in ``position`` decide, with the access' offset."""
    total = access.offset
    for name, stride in access.strides.items():
        if name in position:
            total = total + position[name] * stride
    return total

"""What a contraction template is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import F32, DType
from vitrify.lower.contract.codes import Codes
from vitrify.lower.loop import Buffer, Data, Kernel, Stmt


@dataclass(frozen=True)
class Axis:
    """A loop of the problem."""

    name: str
    extent: DimLike


@dataclass(frozen=True)
class Bound:
    """The access is inside only where ``0 <= offset + sum(strides[a] * a) < extent``."""

    offset: DimLike
    strides: Mapping[str, int]
    extent: DimLike


@dataclass(frozen=True)
class Access:
    """Where an operand's element lies: ``buffer[offset + sum(strides[a] * a)]`` over the axes named in
    ``strides`` (elements, not bytes; an axis it lacks does not matter), or ``fill`` outside a bound.

    ``constant`` is the whole buffer, when it is known at compile time: pack it then, with NumPy.
    ``room``: elements after the last one that may be read, whatever they hold. ``codes``: what a constant's
    elements come from, in two axes.
    """

    buffer: str
    dtype: DType
    offset: DimLike
    strides: Mapping[str, DimLike]
    bounds: tuple[Bound, ...] = ()
    fill: float | int = 0
    constant: np.ndarray[Any, Any] | None = None
    room: DimLike = 0
    codes: Codes | None = None


class Epilogue(Protocol):
    """What happens to a finished sum: bias, activation, residual, the store."""

    buffers: tuple[Buffer, ...]
    dims: tuple[str, ...]
    cost: int  # vector instructions per vector of results, roughly

    def emit(
        self, position: Mapping[str, DimLike], value: Data, lanes: int, count: DimLike | None
    ) -> Sequence[Stmt]:
        """Statements for ``lanes`` neighbouring results along :attr:`Contraction.lane_axis`.

        ``position`` gives every batch, left and right axis (the lane axis: of lane 0); only the first
        ``count`` lanes exist. ``value`` has the accumulator's dtype; registers the statements declare have
        fresh names."""
        ...


@dataclass(frozen=True)
class Contraction:
    """``out[batch, left, right] = sum over contracted of lhs * rhs``, then the epilogue.

    A convolution is one whose lhs strides are shared between a left axis and a contracted one.
    ``accurate``: no algorithm whose error exceeds that of plain summation (no Winograd).
    ``precision``: f32, or bf16 where the user granted it (operands rounded, sums in f32).
    """

    batch: tuple[Axis, ...]
    left: tuple[Axis, ...]
    right: tuple[Axis, ...]
    contracted: tuple[Axis, ...]
    lhs: Access
    rhs: Access
    accumulate: DType
    epilogue: Epilogue
    dims: tuple[str, ...] = ()  # symbols that extents, strides and offsets mention
    accurate: bool = False
    precision: DType = F32
    paired: str = ""  # the instruction, where both operands hold several neighbouring terms in each u32

    @property
    def lane_axis(self) -> Axis | None:
        """What vectors of results run along: the last right axis, or where there is none (a depthwise
        convolution) the last batch axis."""
        return self.right[-1] if self.right else self.batch[-1] if self.batch else None


@dataclass(frozen=True)
class Temporary:
    """Memory that lives between the steps of one lowering; ``size`` in elements."""

    name: str
    dtype: DType
    size: DimLike
    zeroed: bool = False


@dataclass
class Lowered:
    """Kernels in order. Their buffers are named as operands, epilogue buffers, ``temporaries`` or
    ``constants`` (packed operands, C-contiguous)."""

    kernels: list[Kernel]
    temporaries: list[Temporary] = field(default_factory=list)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

"""The plan: one model (or one body) as calls of kernels over one arena, with its control flow.

Byte offsets are expressions over the model's dims, the dims bound during the run, and the positions of
enclosing loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Type
from vitrify.lower.loop import CustomCall, Kernel


@dataclass(frozen=True)
class Place:
    """Memory: ``kind`` is input, output, weight, arena, late or status; ``number`` says which."""

    kind: str
    number: int = 0


@dataclass(frozen=True)
class Operand:
    place: Place
    offset: DimLike = 0  # bytes


@dataclass(frozen=True)
class Call:
    kernel: Kernel
    operands: tuple[Operand, ...]
    dims: tuple[DimLike, ...]
    source: str
    elementwise: tuple[str, ...] = ()  # buffers that each row reads only its own elements of


@dataclass(frozen=True)
class Allocate:
    """A block whose size is known only now."""

    number: int
    size: DimLike


@dataclass(frozen=True)
class BindSymbol:
    """``symbol`` is the i64 at ``operand`` from here on; negative is an error of ``node``, and so is another
    value than before where it is ``known``."""

    symbol: str
    operand: Operand
    node: int
    known: bool = False


@dataclass(frozen=True)
class StoreInteger:
    operand: Operand
    value: DimLike


@dataclass(frozen=True)
class Branch:
    condition: Operand  # a bool
    then: tuple[Instruction, ...]
    otherwise: tuple[Instruction, ...]


@dataclass(frozen=True)
class Repeat:
    variable: Dim
    trips: DimLike
    body: tuple[Instruction, ...]
    node: int


@dataclass(frozen=True)
class While:
    """``body`` for ``variable`` = 0, 1, .. below the i64 at ``limit``, while ``condition`` holds before the first
    trip and ``again`` after each. Afterwards ``count`` is the number of trips. ``stacks`` are late blocks that
    :class:`Grow` enlarges inside."""

    variable: Dim
    limit: Operand
    condition: Operand
    again: Operand
    body: tuple[Instruction, ...]
    count: str
    stacks: tuple[int, ...]
    node: int


@dataclass(frozen=True)
class Grow:
    """Room for ``size`` bytes in a late block, of which the first ``used`` are kept."""

    number: int
    used: DimLike
    size: DimLike


@dataclass(frozen=True)
class Swap:
    """Two late blocks change places."""

    one: int
    other: int


@dataclass(frozen=True)
class SetDims:
    """Each symbol becomes its value, all at once."""

    symbols: tuple[str, ...]
    values: tuple[DimLike, ...]


@dataclass(frozen=True)
class Publish:
    """A result whose shape was not known before: its block and its sizes."""

    output: int
    operand: Operand
    shape: tuple[DimLike, ...]


@dataclass(frozen=True)
class Require:
    """Sizes that must be equal for ``node`` to make sense; else the run fails."""

    left: DimLike
    right: DimLike
    node: int


Instruction = Union[
    Call, Require, Allocate, BindSymbol, StoreInteger, Branch, Repeat, While, Grow, Swap, SetDims, Publish
]  # fmt: skip


@dataclass
class Block:
    """Arena memory, needed from instruction ``birth`` to instruction ``death`` (both included)."""

    size: DimLike  # bytes
    birth: int
    death: int
    offset: DimLike = 0


@dataclass
class Plan:
    """``dims`` names every symbol, those that the inputs bind first; ``checks`` must be equal pairs."""

    name: str
    inputs: list[tuple[str, Type]]
    outputs: list[tuple[str, Type]]
    late_outputs: set[int]
    dims: list[str]
    bound: int
    checks: list[tuple[DimLike, DimLike]]
    instructions: list[Instruction]
    blocks: list[Block]
    shared: Shared
    late: int
    safe_names: dict[str, DimLike] = field(default_factory=dict)  # how kernels and C know the dims
    arena_bytes: DimLike = 0
    scratch_bytes: DimLike = 0

    def calls(self) -> Iterator[Call]:
        yield from _calls(self.instructions)


def _calls(instructions: list[Instruction] | tuple[Instruction, ...]) -> Iterator[Call]:
    for i in instructions:
        if isinstance(i, Call):
            yield i
        elif isinstance(i, Branch):
            yield from _calls(i.then)
            yield from _calls(i.otherwise)
        elif isinstance(i, Repeat | While):
            yield from _calls(i.body)


@dataclass(frozen=True)
class Placement:
    """Where a value lies: element ``index`` at ``offset + sum(index * strides)``, in elements. The next ``room``
    elements after it may be read."""

    place: Place
    offset: DimLike
    strides: tuple[DimLike, ...]
    dtype: DType
    room: DimLike = 0

    def operand(self) -> Operand:
        return Operand(self.place, self.offset * self.dtype.itemsize)


@dataclass
class Weights:
    """Constants, each content once."""

    arrays: list[np.ndarray[Any, Any]] = field(default_factory=list)
    _seen: dict[tuple[str, tuple[int, ...], bytes], int] = field(default_factory=dict)
    _known: dict[int, int] = field(default_factory=dict)
    _alive: list[np.ndarray[Any, Any]] = field(default_factory=list)  # identities are valid while these live

    def add(self, array: np.ndarray[Any, Any]) -> int:
        if id(array) in self._known:
            return self._known[id(array)]
        from hashlib import sha256

        raw = np.ascontiguousarray(array)
        key = (raw.dtype.name, raw.shape, sha256(_bytes(raw)).digest())
        if key not in self._seen:
            self._seen[key] = len(self.arrays)
            self.arrays.append(raw)
        self._known[id(array)] = self._seen[key]
        self._alive.append(array)
        return self._seen[key]

    def pieces(self) -> Iterator[memoryview]:
        """What the weights file has, array after array."""
        for array in self.arrays:
            yield _bytes(array)
            yield memoryview(bytes(-array.nbytes % 64))

    def offsets(self) -> list[int]:
        """Where each array lies in the weights file, in bytes; then the file's size."""
        offsets = [0]
        for array in self.arrays:
            offsets.append(offsets[-1] + -(-array.nbytes // 64) * 64)
        return offsets


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


@dataclass
class Shared:
    """What the variants of one model have in common: constants, the table of nodes that failures name, and the
    custom calls by number."""

    weights: Weights = field(default_factory=Weights)
    nodes: dict[str, int] = field(default_factory=dict)
    custom_calls: dict[CustomCall, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A plan for the runs in which the dims have these values."""

    dims: tuple[tuple[str, int], ...]
    plan: Plan

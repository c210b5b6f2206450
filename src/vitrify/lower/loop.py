"""Loop IR: typed imperative loops over buffers. Everything a back end prints is this.

Positions and sizes are :data:`~vitrify.ir.dims.DimLike` over the kernel's dims and the loop variables in
scope; data are scalars or vectors of 1 to 64 lanes in named registers. A kernel is run once per task,
``0 <= task < tasks``; ``task`` is in scope as the symbol ``task``. Tasks never write the same element.

==========  ======================================================================================
data        Literal, Register, Load, Apply (a scalar-table row), Convert, Splat, Position, Lanes,
            Fold (lanes to a scalar), Shuffle, Intrinsic
statements  Let, Assign, Store, For, If, While, Break, Tile (local memory), Fail, Bind (a position
            read from data), Prefetch, Matrix, Comment
==========  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import BOOL, I64, DType
from vitrify.ir.scalar import SCALAR


@dataclass(frozen=True)
class VType:
    """``lanes`` elements in one register; 1 is a scalar."""

    dtype: DType
    lanes: int = 1

    def __str__(self) -> str:
        return f"{self.dtype}x{self.lanes}"


# ---- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    value: float | int | bool
    type: VType


@dataclass(frozen=True)
class Register:
    name: str
    type: VType


@dataclass(frozen=True)
class Load:
    """Elements ``index .. index + lanes - 1`` of a buffer, or with ``stride`` every stride-th one (0: the
    same one in all lanes). Only the first ``count`` lanes, and those where ``mask`` holds, are read where these
    are given; the others are 0."""

    buffer: str
    index: DimLike
    type: VType
    count: DimLike | None = None
    stride: DimLike = 1
    mask: Data | None = None


@dataclass(frozen=True)
class GatherLoad:
    """``buffer[index + positions[lane]]`` where ``mask`` holds (all lanes when None), else 0."""

    buffer: str
    index: DimLike
    positions: Data  # i32 or i64 lanes
    type: VType
    mask: Data | None = None


@dataclass(frozen=True)
class Apply:
    fn: str  # a row of vitrify.ir.scalar
    args: tuple[Data, ...]

    @property
    def type(self) -> VType:
        last = self.args[-1].type
        return VType(BOOL, last.lanes) if SCALAR[self.fn].predicate else last


@dataclass(frozen=True)
class Convert:
    """A change of dtype, lane by lane, as :class:`vitrify.ir.graph.Cast` defines it."""

    arg: Data
    dtype: DType
    saturate: bool = True

    @property
    def type(self) -> VType:
        return VType(self.dtype, self.arg.type.lanes)


@dataclass(frozen=True)
class Splat:
    """A scalar in every lane."""

    arg: Data
    lanes: int

    @property
    def type(self) -> VType:
        return VType(self.arg.type.dtype, self.lanes)


@dataclass(frozen=True)
class Position:
    """An integer expression over dims and loop variables, as a scalar of ``dtype``."""

    value: DimLike
    dtype: DType = I64

    @property
    def type(self) -> VType:
        return VType(self.dtype, 1)


@dataclass(frozen=True)
class Lanes:
    """0, 1, 2, …"""

    type: VType


@dataclass(frozen=True)
class Fold:
    """All lanes combined into a scalar, halving pairwise (lane i with lane i + n/2), a fixed order."""

    fn: str
    arg: Data

    @property
    def type(self) -> VType:
        return VType(self.arg.type.dtype, 1)


@dataclass(frozen=True)
class Shuffle:
    """Lanes chosen from two vectors of one type, those of ``b`` numbered after those of ``a``."""

    a: Data
    b: Data
    chosen: tuple[int, ...]

    @property
    def type(self) -> VType:
        return VType(self.a.type.dtype, len(self.chosen))


@dataclass(frozen=True)
class Intrinsic:
    """An instruction of the target that no operator expresses, such as ``dpbf16``; the printer's table of
    intrinsics has its text."""

    name: str
    args: tuple[Data, ...]
    type: VType


Data = Union[Literal, Register, Load, GatherLoad, Apply, Convert, Splat, Position, Lanes, Fold, Shuffle, Intrinsic]


# ---- statements ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Let:
    """Declares a register."""

    register: Register
    value: Data


@dataclass(frozen=True)
class Assign:
    register: Register
    value: Data


@dataclass(frozen=True)
class Store:
    """The value's lanes to ``index ..`` (every ``stride``-th element), the first ``count`` lanes only."""

    buffer: str
    index: DimLike
    value: Data
    count: DimLike | None = None
    stride: DimLike = 1


@dataclass(frozen=True)
class For:
    """``variable`` (a :meth:`Dim.index`) from 0 below ``extent`` by ``step``; ``unrolled`` asks the
    printer to repeat the body instead (``extent`` must then be an int)."""

    variable: Dim
    extent: DimLike
    body: tuple[Stmt, ...]
    step: int = 1
    unrolled: bool = False


@dataclass(frozen=True)
class If:
    condition: Data  # a bool scalar
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class While:
    condition: Data
    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Break:
    pass


@dataclass(frozen=True)
class Tile:
    """``size`` elements (an int, or bounded above by ``bound``) of local memory as a buffer, 64-byte aligned,
    in the worker's scratch."""

    name: str
    dtype: DType
    size: DimLike


@dataclass(frozen=True)
class Bind:
    """``variable`` stands for an integer scalar from here on."""

    variable: Dim
    value: Data


@dataclass(frozen=True)
class Fail:
    """Records a failure (abi.h's codes) of a source node in the buffer ``status``, and ends the task."""

    code: int
    node: int


@dataclass(frozen=True)
class Prefetch:
    buffer: str
    index: DimLike
    write: bool = False


@dataclass(frozen=True)
class Matrix:
    """An instruction on the eight matrix registers of AMX: ``configure`` (registers 0 to 5 with ``rows`` rows, 4
    and 5 of ``terms`` bf16, 6 and 7 with ``terms / 2`` rows, all others of 64 bytes), ``release``, ``zero``,
    ``load`` and ``store`` (rows ``stride`` elements apart in ``buffer``), ``multiply`` (adds the bf16 product of
    registers 1 and 2 given to the first), ``dpbusd`` and its like (of bytes instead, twice as many terms, the left
    ones unsigned, the right ones signed)."""

    operation: str
    registers: tuple[int, ...] = ()
    rows: int = 0
    buffer: str = ""
    index: DimLike = 0
    stride: DimLike = 0
    terms: int = 32


@dataclass(frozen=True)
class Comment:
    text: str


Stmt = Union[Let, Assign, Store, For, If, While, Break, Tile, Bind, Fail, Prefetch, Matrix, Comment]


# ---- kernels ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """A parameter: memory of ``dtype`` elements. ``aligned``: to 64 bytes at least."""

    name: str
    dtype: DType
    written: bool = False
    aligned: bool = False


#: An argument or a result of an op: its dtype and rank.
Slot = tuple[DType, int]


@dataclass(frozen=True)
class CustomCall:
    """A custom op for arguments (None: left out) and results of these forms. ``label``, ``version``,
    ``digest``, ``attributes`` and the rest are those of :class:`vitrify.ir.call.Call`."""

    label: str
    version: int
    digest: str
    attributes: str
    arguments: tuple[Slot | None, ...]
    results: tuple[Slot, ...]
    c_source: str = ""
    c_file: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Kernel:
    """``buffers`` and ``dims`` are the parameters, in the order of the native call. ``flops`` and
    ``traffic`` (bytes that must move) are of all tasks together. The body is empty where ``custom`` computes it."""

    name: str
    buffers: tuple[Buffer, ...]
    dims: tuple[str, ...]
    tasks: DimLike
    body: tuple[Stmt, ...]
    flops: DimLike = 0
    traffic: DimLike = 0
    schedule: tuple[tuple[str, int | str], ...] = field(default=())
    custom: CustomCall | None = None

    @property
    def tiles(self) -> tuple[Tile, ...]:
        return tuple(s for s in walk(self.body) if isinstance(s, Tile))


def walk(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Every statement, outer ones first."""
    for statement in body:
        yield statement
        if isinstance(statement, (For, While)):
            yield from walk(statement.body)
        elif isinstance(statement, If):
            yield from walk(statement.then)
            yield from walk(statement.otherwise)


def align64(size: DimLike) -> DimLike:
    return (size + 63) // 64 * 64


def scratch_bytes(kernel: Kernel) -> DimLike:
    """Scratch one worker needs: tiles lie one after the other, each rounded up to 64 bytes."""
    total: DimLike = 0
    for tile in kernel.tiles:
        total = total + align64(tile.size * tile.dtype.itemsize)
    return total


def zero(dtype: DType, lanes: int = 1) -> Literal:
    return Literal(0 if not dtype.is_bool else False, VType(dtype, lanes))

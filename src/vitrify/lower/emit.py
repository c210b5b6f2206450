"""Statements that compute one element (or one vector) of a value, pulled through everything that is not
materialised: movement becomes arithmetic on positions, maps become registers, the rest are loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Symbol, provably_less, provably_nonnegative, symbols
from vitrify.ir.dtypes import BF16, F32, I64, DType
from vitrify.ir.graph import Node, Value
from vitrify.ir.scalar import SCALAR
from vitrify.lower import loop as L
from vitrify.lower.loop import Data, Literal, Register, Stmt, VType
from vitrify.lower.views import RENAMING, Index, linear_in, source_index

ERROR_INDEX, ERROR_DIVIDE = 1, 5  # abi.h
STATUS = "status"
ROUNDED = 16  # lanes of the instruction that rounds f32 to bf16


class NotFusable(Exception):
    """The value cannot be computed inside this kernel; it must be materialised first."""


@dataclass(frozen=True)
class Leaf:
    """A materialised value: ``buffer[offset + sum(index * strides)]``, as ``dtype`` where that is not its own."""

    buffer: str
    offset: DimLike
    strides: Index
    dtype: DType | None = None

    def address(self, index: Index) -> DimLike:
        total = self.offset
        for i, stride in zip(index, self.strides, strict=True):
            total = total + i * stride
        return total


class Environment(Protocol):
    """What an emitter asks of the region it works for."""

    def leaf(self, value: Value) -> Leaf | None:
        """Where the value lies in memory; None when it is to be computed here."""
        ...

    def bits(self, value: Value, dtype: DType) -> Leaf:
        """A value in memory, read as another dtype of the same size."""
        ...

    def node_id(self, node: Node) -> int:
        """The node's place in the table that a run's failures refer to."""
        ...


@dataclass
class Emitter:
    """One straight piece of code, for ``lanes`` neighbours along the loop index ``vector``.

    Values that do not change along ``vector`` are scalars. ``count``: only so many lanes exist. What
    mentions none of ``variables`` (the loop indices of this piece) is computed in ``parent``, outside the
    loop. ``bound`` values are known registers, ``tiles`` lie in local memory; both at one index only.
    """

    env: Environment
    lanes: int = 1
    vector: str | None = None
    count: DimLike | None = None
    prefix: str = "v"
    statements: list[Stmt] = field(default_factory=list)
    bound: dict[Value, tuple[Index, Data]] = field(default_factory=dict)
    memo: dict[tuple[Value, Index, Data | None], Data] = field(default_factory=dict)
    tiles: dict[Value, tuple[Index, str, DimLike]] = field(default_factory=dict)
    reads: dict[str, set[Index]] = field(default_factory=dict)  # of every buffer, where it is read
    parent: Emitter | None = None
    variables: frozenset[str] = frozenset()
    used_status: bool = False
    serial: int = 0

    # ---- registers

    def let(self, value: Data) -> Register:
        """A new register, unless the value is one already."""
        if isinstance(value, Register):
            return value
        register = Register(f"{self.prefix}{self.serial}", value.type)
        self.serial += 1
        self.statements.append(L.Let(register, value))
        return register

    def wide(self, value: Data) -> Data:
        """In all lanes."""
        if value.type.lanes == self.lanes:
            return value
        if isinstance(value, Literal):
            return Literal(value.value, VType(value.type.dtype, self.lanes))
        return L.Splat(value, self.lanes)

    def apply(self, fn: str, *args: Data) -> Data:
        if any(a.type.lanes > 1 for a in args):
            args = tuple(self.wide(a) for a in args)
        return self.let(L.Apply(fn, args))

    def convert(self, value: Data, dtype: DType, saturate: bool = True) -> Data:
        if value.type.dtype is dtype:
            return value
        if isinstance(value, Literal) and not dtype.is_float and not value.type.dtype.is_float:
            return Literal(value.value, VType(dtype, value.type.lanes))
        return L.Convert(value, dtype, saturate)

    # ---- positions

    def along(self, value: DimLike) -> Data:
        """A position, as i64: a scalar where it does not depend on the vector index."""
        if self.vector is None or self.lanes == 1:
            return L.Position(value)
        form = linear_in(value, [self.vector])
        if form is None:
            return self._divided(value)
        step = form.coefficients.get(self.vector, 0)
        if step == 0:
            return L.Position(value)
        ramp: Data = L.Lanes(VType(I64, self.lanes))
        if step != 1:
            ramp = L.Apply("mul", (ramp, L.Splat(L.Position(step), self.lanes)))
        return L.Apply("add", (ramp, L.Splat(L.Position(value), self.lanes)))

    def _divided(self, value: DimLike) -> Data:
        """A position in which the vector index is divided: lane by lane."""
        assert isinstance(value, Dim)
        total: Data | None = None
        for monomial, coefficient in value.terms:
            part: Data = Literal(coefficient, VType(I64, self.lanes))
            for atom in monomial:
                if isinstance(atom, Symbol):
                    factor = self.along(Dim([((atom,), 1)]))
                else:
                    fn = {"floordiv": "quotient", "mod": "floormod"}.get(atom.kind, atom.kind)
                    a, b = (self.wide(self.along(x)) for x in atom.args)
                    if atom.kind == "floordiv" and not provably_nonnegative(atom.args[0]):
                        # floor(a / b) = (a - (a mod b)) / b
                        a = self.apply("sub", a, self.apply("floormod", a, b))
                    factor = self.apply(fn, a, b)
                part = self.apply("mul", part, factor)
            total = part if total is None else self.apply("add", total, part)
        assert total is not None
        return total

    def inside(self, position: DimLike, extent: DimLike, mask: Data | None) -> Data | None:
        """``mask`` and ``0 <= position < extent``, proving what can be proved."""
        if not provably_nonnegative(position):
            mask = self.both(mask, self.apply("ge", self.along(position), Literal(0, VType(I64, 1))))
        if not provably_less(position, extent):
            mask = self.both(mask, self.apply("lt", self.along(position), L.Position(extent)))
        return mask

    def both(self, a: Data | None, b: Data) -> Data:
        return b if a is None else self.apply("and", a, b)

    # ---- values

    def read(self, value: Value, index: Index, mask: Data | None = None) -> Data:
        """The value at ``index`` in its compute dtype, where ``mask`` holds (elsewhere: anything)."""
        if self.parent is not None and mask is None and not self._varies(index):
            return self.parent.read(value, index)
        key = (value, index, mask)
        if key not in self.memo:
            self.memo[key] = self._read(value, index, mask)
        return self.memo[key]

    def _varies(self, index: Index) -> bool:
        return any(isinstance(i, Dim) and any(s.name in self.variables for s in symbols(i)) for i in index)

    def _read(self, value: Value, index: Index, mask: Data | None) -> Data:
        if value in self.bound:
            canonical, data = self.bound[value]
            if index != canonical:
                raise NotFusable(value.name)
            return data
        if value in self.tiles:
            canonical, buffer, address = self.tiles[value]
            if index == canonical:
                return self._load(Leaf(buffer, address, ()), value.dtype.compute, (), mask)
        constant = value.constant
        if constant is not None and constant.size == 1 and not constant.dtype.name.startswith("float8"):
            return self._literal(constant.reshape(-1)[0].item(), value.dtype)
        leaf = self.env.leaf(value)
        if leaf is not None:
            return self._load(leaf, value.dtype, index, mask)
        if value.node is None:
            raise NotFusable(value.name)
        return self._compute(value.node, index, mask)

    def _literal(self, number: float | int | bool, dtype: DType) -> Data:
        if dtype.is_float and dtype.bits < 32:
            number = float(np.asarray(number, np.float32).astype(dtype.numpy))
        return Literal(number, VType(dtype.compute, 1))

    def _load(self, leaf: Leaf, dtype: DType, index: Index, mask: Data | None) -> Data:
        address, dtype = leaf.address(index), leaf.dtype or dtype
        self.reads.setdefault(leaf.buffer, set()).add(index)
        form = linear_in(address, [self.vector]) if self.vector else None
        if self.vector and self.lanes > 1 and form is None:
            zero_based = L.GatherLoad(
                leaf.buffer,
                0,
                self.wide(self.along(address)),
                VType(dtype, self.lanes),
                self._lane_mask(mask),
            )
            loaded: Data = zero_based
        else:
            step = form.coefficients.get(self.vector or "", 0) if form else 0
            moving = step != 0 and self.lanes > 1
            if mask is not None and mask.type.lanes > 1:
                moving = True
            if moving and mask is not None:
                mask = self.wide(mask)
            type_ = VType(dtype, self.lanes if moving else 1)
            loaded = L.Load(leaf.buffer, address, type_, self.count if moving else None, step if moving else 1, mask)
        return self.let(self.convert(self.let(loaded), dtype.compute))

    def _lane_mask(self, mask: Data | None) -> Data | None:
        """``mask`` and the lanes below ``count``."""
        if self.count is not None and self.lanes > 1:
            lanes = L.Lanes(VType(I64, self.lanes))
            mask = self.both(mask, self.apply("lt", lanes, L.Position(self.count)))
        return None if mask is None else self.wide(mask)

    def _compute(self, node: Node, index: Index, mask: Data | None) -> Data:
        op, inputs = node.op, node.inputs
        match op:
            case g.Map(fn=fn):
                return self._map(node, fn, [self.read(x, index, mask) for x in inputs])
            case g.Cast(dtype=dtype, saturate=saturate):
                value = self.convert(self.read(inputs[0], index, mask), dtype, saturate)
                return self.let(self.convert(value, dtype.compute))
            case g.BitCast(dtype=dtype):
                return self._load(self.env.bits(inputs[0], dtype), dtype, index, mask)
            case _ if isinstance(op, RENAMING):
                return self.read(inputs[0], source_index(op, index, inputs[0].shape), mask)
            case g.Pad(low=low, value=fill):
                return self._pad(inputs[0], tuple(i - p for i, p in zip(index, low, strict=True)), fill, mask)
            case g.Concat(axis=axis):
                return self._concat(inputs, axis, index, mask)
            case g.Gather(axis=axis):
                return self._gather(node, axis, index, mask)
            case g.Iota(axis=axis, dtype=dtype):
                return self.let(self.convert(self.let(self.along(index[axis])), dtype.compute))
            case g.DimValue(value=number):
                return L.Position(number)
            case g.BindDim():
                return self.read(inputs[0], index, mask)
        raise NotFusable(op.name)

    def _map(self, node: Node, fn: str, args: list[Data]) -> Data:
        dtype = node.inputs[-1].dtype
        if fn in ("quotient", "floormod") or (fn == "fmod" and not dtype.is_float):
            self._check_divisor(node, args[1])
        result = self.apply(fn, *args)
        if dtype.bits < 8 and not SCALAR[fn].predicate:
            result = self.let(self.convert(self.let(L.Convert(result, dtype)), dtype.compute))
        return result

    def _check_divisor(self, node: Node, divisor: Data) -> None:
        if isinstance(divisor, Literal) and divisor.value != 0:
            return
        zero = self.apply("eq", divisor, Literal(0, VType(divisor.type.dtype, 1)))
        self._fail_where(zero, ERROR_DIVIDE, node, None)

    def _fail_where(self, bad: Data, code: int, node: Node, mask: Data | None) -> None:
        if bad.type.lanes > 1:
            valid = self._lane_mask(mask)
            bad = L.Fold("or", self.apply("and", bad, valid) if valid is not None else bad)
        elif mask is not None:
            bad = self.apply("and", bad, mask if mask.type.lanes == 1 else L.Fold("or", mask))
        self.used_status = True
        self.statements.append(L.If(bad, (L.Fail(code, self.env.node_id(node)),)))

    def _pad(self, x: Value, index: Index, fill: float | int | bool, mask: Data | None) -> Data:
        inside = None
        for position, extent in zip(index, x.shape, strict=True):
            inside = self.inside(position, extent, inside)
        if inside is None:
            return self.read(x, index, mask)
        inner = self.read(x, index, inside if mask is None else self.both(mask, inside))
        return self.apply("where", inside, inner, self._literal(fill, x.dtype))

    def _concat(self, inputs: tuple[Value, ...], axis: int, index: Index, mask: Data | None) -> Data:
        """The pieces from the last to the first, each chosen below its end."""
        starts: list[DimLike] = [0]
        for x in inputs[:-1]:
            starts.append(starts[-1] + x.shape[axis])
        result: Data | None = None
        for x, start in reversed(list(zip(inputs, starts, strict=True))):
            position = index[axis] - start
            here = self.inside(position, x.shape[axis], None)
            moved = (*index[:axis], position, *index[axis + 1 :])
            if here is None:
                return self.read(x, moved, mask)
            piece = self.read(x, moved, here if mask is None else self.both(mask, here))
            result = piece if result is None else self.apply("where", here, piece, result)
        assert result is not None
        return result

    def _gather(self, node: Node, axis: int, index: Index, mask: Data | None) -> Data:
        x, *tables = node.inputs
        rank = tables[0].rank
        chosen = index[axis : axis + rank]
        positions = [
            self._checked(node, self.read(t, chosen, mask), x.shape[axis + k], mask) for k, t in enumerate(tables)
        ]
        before, after = index[:axis], index[axis + rank :]
        if all(p.type.lanes == 1 for p in positions):
            named = [self._named(p, x.shape[axis + k]) for k, p in enumerate(positions)]
            return self.read(x, (*before, *named, *after), mask)
        leaf = self.env.leaf(x)
        if leaf is None and all(x.shape[axis + k] == 1 for k in range(len(positions))):
            return self.read(x, (*before, *(0 for _ in positions), *after), mask)  # a literal
        if leaf is None:
            raise NotFusable(x.name)
        self.reads.setdefault(leaf.buffer, set()).add(())  # anywhere
        at: Data = self.wide(self.along(leaf.address((*before, *(0 for _ in positions), *after))))
        for k, p in enumerate(positions):
            stride = L.Position(leaf.strides[axis + k])
            at = self.apply("add", at, self.apply("mul", p, stride))
        kind = VType(leaf.dtype or x.dtype, self.lanes)
        loaded = self.let(L.GatherLoad(leaf.buffer, 0, at, kind, self._lane_mask(mask)))
        return self.let(self.convert(loaded, x.dtype.compute))

    def _checked(self, node: Node, position: Data, extent: DimLike, mask: Data | None) -> Data:
        """The position as i64; one outside ``0 <= position < extent`` is reported and replaced by 0."""
        wide = self.let(self.convert(position, I64))
        bad = self.apply(
            "or",
            self.apply("lt", wide, Literal(0, VType(I64, 1))),
            self.apply("ge", wide, L.Position(extent)),
        )
        self._fail_where(bad, ERROR_INDEX, node, mask)
        return self.apply("where", bad, Literal(0, VType(I64, 1)), wide)

    def _named(self, position: Data, extent: DimLike) -> DimLike:
        variable = Dim.index(f"{self.prefix}g{self.serial}", extent)
        self.serial += 1
        self.variables |= {str(variable)}  # what is read there stays behind the binding
        self.statements.append(L.Bind(variable, position))
        return variable

    def position_of(self, node: Node, table: Value, index: Index, extent: DimLike) -> DimLike:
        """The integer at ``index`` of ``table``, in all lanes the same, as a position inside ``extent``."""
        return self._named(self._checked(node, self.read(table, index), extent, None), extent)

    def update(self, leaf: Leaf, dtype: DType, index: Index, fn: str, value: Data) -> None:
        """``fn`` of what is stored and ``value``, to the same place."""
        self.store(leaf, dtype, index, self.apply(fn, self._load(leaf, dtype, index, None), value))

    def store(self, leaf: Leaf, dtype: DType, index: Index, value: Data) -> None:
        """The value (in compute dtype) to its place."""
        address = leaf.address(index)
        if leaf.dtype is BF16 and dtype is F32 and self.lanes == ROUNDED:
            stored: Data = L.Intrinsic("round_bf16", (self.wide(value),), VType(BF16, ROUNDED))
        else:
            stored = self.convert(value, leaf.dtype or dtype, saturate=False)  # overflows; only casts saturate
        if self.lanes == 1 or self.vector is None:
            self.statements.append(L.Store(leaf.buffer, address, stored))
            return
        form = linear_in(address, [self.vector])
        if form is None:
            raise NotFusable("a store whose positions are not evenly spaced")
        step = form.coefficients.get(self.vector, 0)
        self.statements.append(L.Store(leaf.buffer, address, self.wide(stored), self.count, step))

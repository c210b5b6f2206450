"""The verifier of Loop IR: run on every kernel before it is printed, where ``VITRIFY_DEBUG`` is 1 or more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vitrify.errors import VerifyError
from vitrify.ir.dims import DimLike, symbols
from vitrify.ir.dtypes import BOOL, I64, DType
from vitrify.ir.scalar import SCALAR
from vitrify.lower import loop as L
from vitrify.lower.emit import STATUS
from vitrify.lower.loop import Data, Kernel, Stmt, VType

MAX_LANES = 64
_SHOWN = 240  # characters of a statement in a message


def verify_kernel(kernel: Kernel, source: str = "") -> None:
    """VerifyError lists every broken rule with its statement; ``source`` is what the kernel computes."""
    found = list(problems(kernel))
    if found:
        label = f"kernel {kernel.name!r}" + (f" of {source}" if source else "")
        raise VerifyError(f"{label} breaks {len(found)} rules:\n" + "\n".join(f"  - {p}" for p in found))


def problems(kernel: Kernel) -> Iterator[str]:
    """Every broken rule."""
    names = [b.name for b in kernel.buffers] + [t.name for t in kernel.tiles]
    for name in {n for n in names if names.count(n) > 1}:
        yield f"memory {name!r} is declared twice"
    dims = frozenset(kernel.dims)
    for what, value in [
        ("the number of tasks", kernel.tasks),
        *((f"tile {t.name!r}", t.size) for t in kernel.tiles),
    ]:
        loose = {s.name for s in symbols(value)} - dims
        if loose:
            yield f"{what} mentions {sorted(loose)}, no dims of the kernel"
    checker = _Checker(kernel)
    scope = _Scope(positions=dims | {"task"})
    yield from _block(checker, kernel.body, scope, False)


@dataclass
class _Scope:
    """What is known at a statement. ``own``: registers of the innermost block."""

    positions: frozenset[str]
    registers: dict[str, VType] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)

    def inner(self, *positions: str) -> _Scope:
        return _Scope(self.positions | set(positions), dict(self.registers), set())


class _Checker:
    def __init__(self, kernel: Kernel) -> None:
        self.memory: dict[str, DType] = {b.name: b.dtype for b in kernel.buffers}
        self.memory |= {t.name: t.dtype for t in kernel.tiles}
        self.written = {b.name for b in kernel.buffers if b.written} | {t.name for t in kernel.tiles}

    # ---- parts of statements

    def position(self, value: DimLike | None, scope: _Scope) -> Iterator[str]:
        loose = set() if value is None else {s.name for s in symbols(value)} - scope.positions
        if loose:
            yield f"{value} mentions {', '.join(sorted(loose))}, not in scope"

    def access(self, buffer: str, dtype: DType) -> Iterator[str]:
        if buffer not in self.memory:
            yield f"no memory is called {buffer!r}"
        elif self.memory[buffer] is not dtype:
            yield f"{buffer!r} holds {self.memory[buffer]}, not {dtype}"

    def data(self, d: Data, scope: _Scope) -> Iterator[str]:
        """Problems of an expression, those of its parts first."""
        for part in _parts(d):
            yield from self.data(part, scope)
        if not (1 <= d.type.lanes <= MAX_LANES and d.type.lanes & (d.type.lanes - 1) == 0):
            yield f"{d.type.lanes} lanes are no power of two up to {MAX_LANES}"
        match d:
            case L.Register(name=name, type=type_):
                known = scope.registers.get(name)
                if known != type_:
                    yield f"register {name!r} is {'not declared' if known is None else f'{known}, not {type_}'}"
            case L.Load(buffer=buffer, index=index, type=type_, count=count, stride=stride, mask=mask):
                yield from self.access(buffer, type_.dtype)
                for value in (index, count, stride):
                    yield from self.position(value, scope)
                yield from _mask(mask, type_.lanes)
            case L.GatherLoad(buffer=buffer, index=index, positions=positions, type=type_, mask=mask):
                yield from self.access(buffer, type_.dtype)
                yield from self.position(index, scope)
                yield from _mask(mask, type_.lanes)
                if not positions.type.dtype.is_int or positions.type.lanes != type_.lanes:
                    yield f"positions of {type_} are {positions.type}"
            case L.Apply(fn=fn, args=args):
                yield from _applied(fn, [a.type for a in args])
            case L.Splat(arg=arg):
                if arg.type.lanes != 1:
                    yield f"a splat of {arg.type}"
            case L.Position(value=value):
                yield from self.position(value, scope)
            case L.Fold(fn=fn, arg=arg):
                yield from _applied(fn, [arg.type, arg.type])
            case L.Shuffle(a=a, b=b, chosen=chosen):
                if a.type != b.type or not all(0 <= i < 2 * a.type.lanes for i in chosen):
                    yield f"lanes {chosen} of {a.type} and {b.type}"

    # ---- statements

    def statement(self, s: Stmt, scope: _Scope, in_loop: bool) -> Iterator[str]:
        """Problems of the statement itself; it changes what is known after it."""
        match s:
            case L.Let(register=register, value=value):
                yield from self.data(value, scope)
                yield from _assigned(register.type, value.type)
                if register.name in scope.own:
                    yield f"register {register.name!r} is declared twice in one block"
                scope.registers[register.name] = register.type
                scope.own.add(register.name)
            case L.Assign(register=register, value=value):
                yield from self.data(register, scope)
                yield from self.data(value, scope)
                yield from _assigned(register.type, value.type)
            case L.Store(buffer=buffer, index=index, value=value, count=count, stride=stride):
                yield from self.data(value, scope)
                yield from self.access(buffer, value.type.dtype)
                for position in (index, count, stride):
                    yield from self.position(position, scope)
                if buffer in self.memory and buffer not in self.written:
                    yield f"{buffer!r} is only read"
            case L.For(extent=extent, step=step, unrolled=unrolled):
                yield from self.position(extent, scope)
                if step < 1 or (unrolled and not isinstance(extent, int)):
                    yield f"a loop to {extent} by {step}{', unrolled' if unrolled else ''}"
            case L.If(condition=condition) | L.While(condition=condition):
                yield from self.data(condition, scope)
                if condition.type != VType(BOOL):
                    yield f"the condition is {condition.type}"
            case L.Break():
                if not in_loop:
                    yield "a break outside any loop"
            case L.Bind(variable=variable, value=value):
                yield from self.data(value, scope)
                if value.type != VType(I64):
                    yield f"{variable} is bound to {value.type}"
                scope.positions |= {str(variable)}
            case L.Prefetch(buffer=buffer, index=index):
                yield from self.position(index, scope)
                if buffer not in self.memory:
                    yield f"no memory is called {buffer!r}"
            case L.Matrix(operation=operation, buffer=buffer, index=index, stride=stride):
                yield from self.position(index, scope)
                yield from self.position(stride, scope)
                if operation in ("load", "store") and buffer not in self.memory:
                    yield f"no memory is called {buffer!r}"
                if operation == "store" and buffer in self.memory and buffer not in self.written:
                    yield f"{buffer!r} is only read"
            case L.Fail():
                if self.memory.get(STATUS) is not I64 or STATUS not in self.written:
                    yield f"a failure without a buffer {STATUS!r} to record it in"


def _block(checker: _Checker, body: tuple[Stmt, ...], scope: _Scope, in_loop: bool) -> Iterator[str]:
    for s in body:
        for problem in checker.statement(s, scope, in_loop):
            yield f"{problem}; in {_text(s)}"
        if isinstance(s, L.For):
            yield from _block(checker, s.body, scope.inner(str(s.variable)), True)
        elif isinstance(s, L.While):
            yield from _block(checker, s.body, scope.inner(), True)
        elif isinstance(s, L.If):
            yield from _block(checker, s.then, scope.inner(), in_loop)
            yield from _block(checker, s.otherwise, scope.inner(), in_loop)


def _parts(d: Data) -> tuple[Data, ...]:
    match d:
        case L.Load(mask=mask):
            return () if mask is None else (mask,)
        case L.GatherLoad(positions=positions, mask=mask):
            return (positions,) if mask is None else (positions, mask)
        case L.Apply(args=args) | L.Intrinsic(args=args):
            return args
        case L.Convert(arg=arg) | L.Splat(arg=arg) | L.Fold(arg=arg):
            return (arg,)
        case L.Shuffle(a=a, b=b):
            return (a, b)
    return ()


def _mask(mask: Data | None, lanes: int) -> Iterator[str]:
    if mask is not None and mask.type != VType(BOOL, lanes):
        yield f"the mask of {lanes} lanes is {mask.type}"


def _applied(fn: str, types: list[VType]) -> Iterator[str]:
    if fn not in SCALAR:
        yield f"unknown scalar function {fn!r}"
        return
    if len({t.lanes for t in types}) > 1:
        yield f"{fn} of {', '.join(map(str, types))}: the lanes differ"
    narrow = [t for t in types if t.dtype.compute is not t.dtype]
    if narrow:
        yield f"{fn} computes with {narrow[0]}, which is only a storage type"
    try:
        SCALAR[fn].result(tuple(t.dtype for t in types))
    except TypeError as error:
        yield str(error)


def _assigned(register: VType, value: VType) -> Iterator[str]:
    if register != value:
        yield f"a register of {register} is given {value}"


def _text(s: Stmt) -> str:
    """The statement without the blocks inside it."""
    if isinstance(s, (L.For, L.While)):
        s = replace(s, body=())
    elif isinstance(s, L.If):
        s = replace(s, then=(), otherwise=())
    text = repr(s)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

"""Loop nests as expressions: what every contraction template writes its kernels with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vitrify.ir.dims import Dim, DimLike, Symbol, ceildiv, maximum, minimum, product
from vitrify.ir.dtypes import DType
from vitrify.lower.contract.problem import Access, Axis, Contraction
from vitrify.lower.loop import (
    Apply,
    Bind,
    Buffer,
    Convert,
    Data,
    For,
    If,
    Kernel,
    Literal,
    Load,
    Position,
    Register,
    Splat,
    Stmt,
    VType,
)

TASK = Dim.symbol("task")
Body = tuple[Stmt, ...]


@dataclass
class Names:
    """Fresh names for registers and loop variables of one kernel."""

    taken: dict[str, int] = field(default_factory=dict)

    def fresh(self, stem: str) -> str:
        count = self.taken.get(stem, 0)
        self.taken[stem] = count + 1
        return f"{stem}_{count}"

    def register(self, stem: str, dtype: DType, lanes: int = 1) -> Register:
        return Register(self.fresh(stem), VType(dtype, lanes))

    def loop(
        self, stem: str, extent: DimLike, body: Callable[[DimLike], Iterable[Stmt]], step: int = 1
    ) -> Body:
        """``body`` once per multiple of ``step`` below ``extent``; no loop around a single round."""
        if isinstance(extent, int):
            if extent <= 0:
                return ()
            if extent <= step:
                return tuple(body(0))
        variable = Dim.index(self.fresh(stem), extent)
        return (For(variable, extent, tuple(body(variable)), step),)

    def bind(self, stem: str, value: DimLike, extent: DimLike | None = None) -> tuple[DimLike, Body]:
        """A name for an expression, known to lie in ``[0, extent)`` where that is given."""
        if isinstance(value, int) or is_name(value):
            return value, ()
        name = self.fresh(stem)
        variable = Dim.symbol(name) if extent is None else Dim.index(name, extent)
        return variable, (Bind(variable, Position(value)),)


def is_name(value: Dim) -> bool:
    """Whether an expression is one symbol, nothing more."""
    (monomial, coefficient), *more = value.terms
    return not more and coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol)


def nest(names: Names, axes: Sequence[Axis], body: Callable[[dict[str, DimLike]], Iterable[Stmt]]) -> Body:
    """A loop per axis, the first one outermost."""

    def level(depth: int, position: dict[str, DimLike]) -> Iterable[Stmt]:
        if depth == len(axes):
            return body(position)
        axis = axes[depth]
        return names.loop("i", axis.extent, lambda i: level(depth + 1, {**position, axis.name: i}))

    return tuple(level(0, {}))


def decode(names: Names, index: DimLike, axes: Sequence[Axis]) -> tuple[dict[str, DimLike], Body]:
    """The position of element ``index`` of a row-major walk over ``axes``, each part bound to a name."""
    position: dict[str, DimLike] = {}
    body: list[Stmt] = []
    live = [a for a in axes if a.extent != 1]
    position.update({a.name: 0 for a in axes if a.extent == 1})
    rest = index
    for i, axis in reversed(list(enumerate(live))):
        if i == 0:
            position[axis.name] = rest
            break
        outer, bound = names.bind("q", rest // axis.extent)
        body += bound
        inner, bound = names.bind("i", rest - axis.extent * outer, axis.extent)
        body += bound
        position[axis.name], rest = inner, outer
    return position, tuple(body)


def split(index: DimLike, parts: Sequence[Axis]) -> dict[str, DimLike]:
    """As :func:`decode`, as expressions in which ``a // n * n + a % n`` folds back to ``a``."""
    position: dict[str, DimLike] = {}
    rest = index
    for i, axis in reversed(list(enumerate(parts))):
        if i == 0:
            position[axis.name] = rest
        else:
            outer = rest // axis.extent
            position[axis.name] = rest - axis.extent * outer
            rest = outer
    return position


def size(axes: Iterable[Axis]) -> DimLike:
    return product(a.extent for a in axes)


def known(value: DimLike, guess: int) -> int:
    """The value, or what a cost model should take it for."""
    if isinstance(value, int):
        return value
    return guess


def address(access: Access, position: Mapping[str, DimLike]) -> DimLike:
    total = access.offset
    for name, stride in access.strides.items():
        total = total + position[name] * stride
    return total


def clamp(value: DimLike, low: DimLike, high: DimLike) -> DimLike:
    return maximum(low, minimum(value, high))


def compare(fn: str, a: DimLike, b: DimLike) -> Data:
    return Apply(fn, (Position(a), Position(b)))


def when(condition: Data, then: Body, otherwise: Body = ()) -> Body:
    return (If(condition, then, otherwise),) if then or otherwise else ()


def convert(value: Data, dtype: DType) -> Data:
    return value if value.type.dtype is dtype else Convert(value, dtype)


def splat(value: Data, lanes: int) -> Data:
    return value if lanes == 1 else Splat(value, lanes)


def literal(value: float, dtype: DType, lanes: int = 1) -> Literal:
    return Literal(float(value) if dtype.is_float else int(value), VType(dtype, lanes))


def constant(value: float, dtype: DType, lanes: int = 1) -> Data:
    """A literal, converted where the dtype has none of its own."""
    return convert(literal(value, dtype.compute, lanes), dtype)


def load(
    access: Access, index: DimLike, lanes: int = 1, count: DimLike | None = None, stride: DimLike = 1
) -> Load:
    return Load(access.buffer, index, VType(access.dtype, lanes), count, stride)


def multiply_add(a: Data, b: Data, total: Data) -> Data:
    """``a * b + total``: fused for floats, wrapping for integers."""
    if total.type.dtype.is_float:
        return Apply("fma", (a, b, total))
    return Apply("add", (Apply("mul", (a, b)), total))


def inside(access: Access, position: Mapping[str, DimLike]) -> Data | None:
    """Whether the access lies within its bounds there; None when it always does."""
    conditions: list[Data] = []
    for bound in access.bounds:
        where = bound.offset
        for axis, stride in bound.strides.items():
            where = where + position[axis] * stride
        conditions.append(compare("ge", where, 0))
        conditions.append(compare("lt", where, bound.extent))
    return every(conditions) if conditions else None


def every(conditions: Sequence[Data]) -> Data:
    whole = conditions[0]
    for condition in conditions[1:]:
        whole = Apply("and", (whole, condition))
    return whole


def blocks(total: DimLike, block: int) -> DimLike:
    return ceildiv(total, block)


def packable(problem: Contraction) -> bool:
    """Whether the right operand is known when compiled, in every axis it has."""
    axes = (*problem.batch, *problem.right, *problem.contracted)
    moving = {*problem.rhs.strides, *(n for b in problem.rhs.bounds for n in b.strides)}
    moving |= {a.name for a in (*problem.right[-1:], *problem.contracted)}
    return problem.rhs.constant is not None and all(
        isinstance(a.extent, int) for a in axes if a.name in moving
    )


def kernel_buffers(buffers: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """Each buffer once; written if any mention is."""
    found: dict[str, Buffer] = {}
    for b in buffers:
        seen = found.get(b.name)
        if seen is not None:
            b = Buffer(b.name, b.dtype, seen.written or b.written, seen.aligned or b.aligned)
        found[b.name] = b
    return tuple(found.values())


def all_dims(problem: Contraction) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*problem.dims, *problem.epilogue.dims)))


def flops(problem: Contraction) -> DimLike:
    axes = (*problem.batch, *problem.left, *problem.right, *problem.contracted)
    return 2 * size(axes)


def traffic(problem: Contraction) -> DimLike:
    """Bytes of both operands and the result, each once."""
    batch = size(problem.batch)
    left, right = size(problem.left), size(problem.right)

    def operand(access: Access, own: DimLike) -> DimLike:
        if access.constant is not None:
            return access.constant.nbytes
        return batch * own * access.dtype.itemsize

    shared = [b for b in problem.contracted if not _slides(problem, b)]
    lhs = operand(problem.lhs, left * size(shared))
    rhs = operand(problem.rhs, right * size(problem.contracted))
    return lhs + rhs + batch * left * right * problem.accumulate.itemsize


def _slides(problem: Contraction, axis: Axis) -> bool:
    """Whether a contracted axis is a window that slides over what a left axis walks."""
    if any(axis.name in b.strides for b in problem.lhs.bounds):
        return True
    stride = problem.lhs.strides.get(axis.name, 0)
    return any(_divides(stride, problem.lhs.strides.get(a.name, 0)) for a in problem.left) and stride != 1


def _divides(a: DimLike, b: DimLike) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != 0 and b != 0 and b % a == 0


def empty_kernel(problem: Contraction, name: str) -> Kernel:
    """The kernel of a result without elements."""
    return Kernel(name, kernel_buffers(problem.epilogue.buffers), all_dims(problem), 0, ())

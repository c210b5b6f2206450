"""Small random graphs over all structures and dtypes, with feeds that fit: a Hypothesis strategy.

Graphs are well typed by construction, and every run of them succeeds: windows fit, positions lie inside
their axis, positional reductions see one element or more. ``random_graphs`` narrows what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from vitrify.custom_ops import CustomOp, TensorSpec, custom_op
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim, DimLike, Shape, evaluate
from vitrify.ir.dtypes import BOOL, DTYPES, F32, I64, NUMBERS, DType
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import cast
from vitrify.ir.scalar import SCALAR

Array = np.ndarray[Any, Any]
T = TypeVar("T")
SIZES = (0, 1, 2, 3, 5, 7)
ELEMENTS = 2048  # of the largest value
WELL_CONDITIONED = tuple(  # functions through which rounding errors do not grow much
    "add sub mul neg abs min max relu sin cos atan asinh tanh sigmoid erf softplus gelu silu where".split()
)
STRUCTURES = tuple(cls.__name__.lower().rstrip("_") for cls in g.STRUCTURES)


@dataclass(frozen=True)
class Case:
    """A graph, one array per input in order, and the sizes of all dims in this run."""

    graph: Graph
    feeds: list[Array]
    dims: dict[str, int]

    def __repr__(self) -> str:
        from vitrify.ir.text import print_graph

        return f"{print_graph(self.graph)}dims {self.dims}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@st.composite
def random_graphs(
    draw: st.DrawFn,
    *,
    dtypes: Sequence[DType] = DTYPES,
    functions: Sequence[str] = tuple(SCALAR),
    structures: Sequence[str] = STRUCTURES,
    max_nodes: int = 7,
    specials: bool = False,
) -> Case:
    """``specials`` puts infinities, NaN, signed zeros and the extremes of integers among the elements."""
    grower = _Grower(draw, tuple(dtypes), tuple(functions), tuple(structures))
    grower.symbols = {"n": Dim.symbol("n", 0, 64), "m": Dim.symbol("m", 1)}
    grower.dims = {"n": draw(st.sampled_from(SIZES)), "m": draw(st.sampled_from(SIZES[1:]))}
    inputs = [
        parameter(f"x{i}", draw(st.sampled_from(grower.dtypes)), grower.shape(3))
        for i in range(draw(st.integers(1, 3)))
    ]
    unbound = [name for name, dim in grower.symbols.items() if not any(dim in v.shape for v in inputs)]
    inputs += [parameter(f"of_{name}", grower.dtypes[0], (grower.symbols[name],)) for name in unbound]
    grower.pool = list(inputs)
    for _ in range(draw(st.integers(1, max_nodes))):
        grower.step()
    candidates = [v for v in grower.pool if v.node is not None] or inputs
    unused = [v for v in candidates if not any(v in n.inputs for n in grower.builder.nodes)] or candidates[
        -1:
    ]
    symbols = {k: d for k, d in grower.symbols.items() if k in ("n", "m")}
    graph = grower.builder.build(inputs, unused[:4], "random", symbols)
    graph.output_names = tuple(f"y{i}" for i in range(len(graph.outputs)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    feeds = [elements(random, v.dtype, grower.concrete(v.shape), specials) for v in inputs]
    return Case(graph, feeds, {name: grower.dims[name] for name in ("n", "m")})


def elements(
    random: np.random.Generator, dtype: DType, shape: Sequence[int], specials: bool = False
) -> Array:
    """Random elements: floats near 1 in size, small integers, and the special values where asked for."""
    wide: Array
    if dtype.is_float:
        wide = random.normal(0, 1.5, shape)
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-40])
    else:
        low, high = int(dtype.min()), int(dtype.max())
        wide = random.integers(max(low, -9), min(high, 9) + 1, shape)
        special = np.array([low, high, 0, min(1, high)], np.uint64 if low == 0 else np.int64)
        wide = wide.astype(special.dtype)
    if specials:
        wide = np.where(random.random(shape) < 0.3, random.choice(special, shape), wide)
    with np.errstate(all="ignore"):
        return cast(np.asarray(wide), dtype, saturate=False).reshape(tuple(shape))


@dataclass
class _Grower:
    draw: st.DrawFn
    dtypes: tuple[DType, ...]
    functions: tuple[str, ...]
    structures: tuple[str, ...]
    builder: Builder = field(default_factory=Builder)
    pool: list[Value] = field(default_factory=list)
    symbols: dict[str, Dim] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)

    def concrete(self, shape: Shape) -> tuple[int, ...]:
        return tuple(evaluate(n, self.dims) for n in shape)

    def size(self, value: DimLike) -> int:
        return evaluate(value, self.dims)

    def one_of(self, items: Sequence[T]) -> T:
        return self.draw(st.sampled_from(items))

    def dim(self) -> DimLike:
        choices: list[DimLike] = [*SIZES, *self.symbols.values(), *self.symbols.values()]
        return self.one_of(choices)

    def shape(self, max_rank: int) -> Shape:
        return tuple(self.dim() for _ in range(self.draw(st.integers(0, max_rank))))

    def array(self, dtype: DType, shape: Sequence[int]) -> Array:
        return elements(np.random.default_rng(self.draw(st.integers(0, 99))), dtype, shape)

    def step(self) -> None:
        """Adds one structure (and what prepares its inputs) over a value of the pool, where one fits."""
        name, x = self.one_of(self.structures), self.one_of(self.pool)
        nodes = len(self.builder.nodes)
        with self.builder.sourced(f"step {len(self.pool)}: {name}"):
            result = _STEPS[name](self, x)
        if result is None or prod(self.concrete(result.shape)) > ELEMENTS or result.rank > 6:
            del self.builder.nodes[nodes:]
        elif result not in self.pool:
            self.pool.append(result)

    def typed_like(self, x: Value) -> Value:
        """A value of the type of ``x``: one of the pool, a constant repeated, or itself."""
        others = [v for v in self.pool if v.type == x.type]
        if self.draw(st.booleans()):
            return self.one_of(others or [x])
        return self.builder.expand_to(self.builder.constant(self.array(x.dtype, ()), x.dtype), x.shape)

    def flag(self) -> Value:
        """A bool of rank 0 that depends on a dim."""
        b = self.builder
        return b.map("gt", b.dim(self.symbols["n"]), b.constant(self.one_of([0, 2, 4]), I64))


def _map(s: _Grower, x: Value) -> Value | None:
    fitting = [f for f in s.functions if x.dtype in SCALAR[f].dtypes]
    if not fitting:
        return None
    fn = s.one_of(fitting)
    operands = [x, *(s.typed_like(x) for _ in range(SCALAR[fn].arity - 1))]
    if fn == "where":
        operands[0] = s.builder.map("ne" if x.dtype is BOOL else "lt", x, s.typed_like(x))
    return s.builder.map(fn, *operands)


def _cast(s: _Grower, x: Value) -> Value | None:
    return s.builder.cast(x, s.one_of(s.dtypes), saturate=s.draw(st.booleans()))


def _permute(s: _Grower, x: Value) -> Value | None:
    return s.builder.permute(x, s.draw(st.permutations(range(x.rank))))


def _expand(s: _Grower, x: Value) -> Value | None:
    axis = s.draw(st.integers(0, x.rank))
    wide = s.builder.unsqueeze(x, axis)
    return s.builder.expand_to(wide, (*wide.shape[:axis], s.dim(), *wide.shape[axis + 1 :]))


def _reshape(s: _Grower, x: Value) -> Value | None:
    if x.rank < 2:
        return s.builder.reshape(x, (1, *x.shape))
    axis = s.draw(st.integers(0, x.rank - 2))
    return s.builder.reshape(x, (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))


def _axis(s: _Grower, x: Value) -> int:
    return s.draw(st.integers(0, x.rank - 1))


def _slice(s: _Grower, x: Value) -> Value | None:
    if x.rank == 0:
        return None
    axis = _axis(s, x)
    extent = x.shape[axis]
    if not isinstance(extent, int):
        start, size, step = s.one_of(
            [(0, extent // 2, 1), (0, (extent + 1) // 2, 2), (extent - 1, extent, -1)]
        )
        return s.builder.slice_axis(x, axis, start, size, step)
    if extent == 0:
        return s.builder.slice_axis(x, axis, 0, 0, 2)
    first, step = s.draw(st.integers(0, extent - 1)), s.one_of([1, 2, 3, -1, -2])
    room = (extent - 1 - first) // step if step > 0 else first // -step
    return s.builder.slice_axis(x, axis, first, s.draw(st.integers(0, room + 1)), step)


def _pad(s: _Grower, x: Value) -> Value | None:
    amounts: list[DimLike] = [0, 0, 1, 2, s.symbols["m"]]
    low, high = ([s.one_of(amounts) for _ in range(x.rank)] for _ in range(2))
    values: list[float | int | bool] = [0.0, -1.5, float("inf"), float("nan")]
    if not x.dtype.is_float:
        values = [False, True] if x.dtype is BOOL else [0, 1, int(x.dtype.max()), int(x.dtype.min())]
    return s.builder.pad(x, low, high, s.one_of(values))


def _flip(s: _Grower, x: Value) -> Value | None:
    return s.builder.flip(x, _axis(s, x)) if x.rank else None


def _window(s: _Grower, x: Value) -> Value | None:
    axes = [a for a in range(x.rank) if s.size(x.shape[a]) > 0]
    if not axes:
        return None
    chosen = sorted(s.draw(st.sets(st.sampled_from(axes), min_size=1, max_size=2)))
    sizes, dilations = [], []
    for axis in chosen:
        sizes.append(s.draw(st.integers(1, min(3, s.size(x.shape[axis])))))
        widest = (s.size(x.shape[axis]) - 1) // max(1, sizes[-1] - 1)
        dilations.append(s.draw(st.integers(1, max(1, min(2, widest)))))
    return s.builder.window(x, chosen, sizes, [s.one_of([1, 2, 3]) for _ in chosen], dilations)


def _concat(s: _Grower, x: Value) -> Value | None:
    if x.rank == 0:
        return None
    axis = _axis(s, x)
    return s.builder.concat([x, s.typed_like(x), x][: s.draw(st.integers(2, 3))], axis)


def _reduce(s: _Grower, x: Value) -> Value | None:
    if x.rank == 0:
        return None
    axes = s.draw(st.sets(st.integers(0, x.rank - 1), min_size=1))
    combiners = ["min", "max"] + (["any", "all"] if x.dtype is BOOL else ["sum", "prod"])
    if len(axes) == 1 and s.size(x.shape[min(axes)]) > 0:
        combiners += ["argmin", "argmax"]
    return s.builder.reduce(s.one_of(combiners), x, sorted(axes), keepdims=s.draw(st.booleans()))


def _contract(s: _Grower, x: Value) -> Value | None:
    """Against itself permuted, or against a weight that shares the contracted axes."""
    if x.rank == 0 or x.dtype is BOOL:
        return None
    roles = [s.one_of(["batch", "over", "over", "free"]) for _ in range(x.rank)]
    batch = [i for i, r in enumerate(roles) if r == "batch"]
    over = [i for i, r in enumerate(roles) if r == "over"]
    shape = [x.shape[i] for i in (*batch, *over)]
    if s.draw(st.booleans()) and all(isinstance(n, int) for n in shape):
        columns = s.one_of(SIZES)
        rhs = s.builder.constant(s.array(x.dtype, (*s.concrete(tuple(shape)), columns)))
        right = (list(range(len(batch))), list(range(len(batch), len(shape))))
    else:
        perm = s.draw(st.permutations(range(x.rank)))
        rhs = s.builder.permute(x, perm)
        right = ([perm.index(i) for i in batch], [perm.index(i) for i in over])
    same_kind = [d for d in s.dtypes if d.is_float or (d.is_int and x.dtype.is_int)] or [x.dtype]
    dtype = s.one_of([x.dtype, s.one_of(same_kind)])
    return s.builder.contract(x, rhs, batch=(batch, right[0]), over=(over, right[1]), dtype=dtype)


def _bit_cast(s: _Grower, x: Value) -> Value | None:
    fitting = [d for d in s.dtypes if d.bits == x.dtype.bits and x.dtype.bits >= 8 and BOOL not in (d, x.dtype)]
    return s.builder.bit_cast(x, s.one_of(fitting)) if fitting else None


def _indices(s: _Grower, x: Value) -> tuple[int, list[Value]] | None:
    """An axis, and positions inside the axes from there on."""
    axes = s.draw(st.integers(1, 2))
    if x.rank < axes:
        return None
    axis = s.draw(st.integers(0, x.rank - axes))
    extents = s.concrete(x.shape[axis : axis + axes])
    if 0 in extents:
        return None
    shape = [s.draw(st.integers(0, 3)) for _ in range(s.draw(st.integers(0, 2)))]
    dtype = s.one_of([d for d in s.dtypes if d.is_int and d.bits >= 8] or [I64])
    random = np.random.default_rng(s.draw(st.integers(0, 99)))
    lows = [n if isinstance(n, int) else 1 for n in x.shape[axis : axis + axes]]
    positions = [random.integers(0, min(low, 100), shape).astype(dtype.numpy) for low in lows]
    return axis, [s.builder.constant(p, dtype) for p in positions]


def _gather(s: _Grower, x: Value) -> Value | None:
    found = _indices(s, x)
    return None if found is None else s.builder.gather(x, found[0], *found[1])


def _scatter(s: _Grower, x: Value) -> Value | None:
    found = _indices(s, x)
    if found is None:
        return None
    axis, indices = found
    combiner = s.one_of(["replace", "min", "max"] + (["sum", "prod"] if x.dtype is not BOOL else []))
    shape = (*x.shape[:axis], *indices[0].shape, *x.shape[axis + len(indices) :])
    if prod(s.concrete(shape)) > ELEMENTS:
        return None
    sources = [s.builder.gather(x, axis, *indices)]
    sources.append(s.builder.expand_to(s.builder.constant(s.array(x.dtype, ()), x.dtype), shape))
    return s.builder.scatter(x, axis, s.one_of(sources), *indices, combiner=combiner)


def _constant(s: _Grower, x: Value) -> Value | None:
    return s.builder.constant(
        s.array(s.one_of(s.dtypes), [s.one_of(SIZES) for _ in range(s.one_of([0, 1, 2]))])
    )


def _iota(s: _Grower, x: Value) -> Value | None:
    shape = (*s.shape(2), s.dim())
    numbers = [d for d in s.dtypes if d in NUMBERS] or [F32]
    return s.builder.iota(shape, s.draw(st.integers(0, len(shape) - 1)), s.one_of(numbers))


def _dim_value(s: _Grower, x: Value) -> Value | None:
    n, m = s.symbols["n"], s.symbols["m"]
    value = s.one_of([n, n * m - 3, (n + 5) // 2, n % 3, 7])
    return s.builder.dim(value)


def _bind_dim(s: _Grower, x: Value) -> Value | None:
    b, name = s.builder, f"k{len(s.symbols)}"
    added = s.one_of([0, 1, 3])
    b.one(g.BindDim(name), b.map("add", b.dim(s.symbols["m"]), b.constant(added, I64)))
    s.symbols[name] = Dim.symbol(name)
    s.dims[name] = s.dims["m"] + added
    return b.iota((s.symbols[name],), 0)


def _body(s: _Grower, inputs: list[Value], count: int, results: Callable[[_Grower], list[Value]]) -> Graph:
    inner = _Grower(s.draw, s.dtypes, s.functions, tuple(n for n in s.structures if n in ("map", "flip")))
    inner.symbols, inner.dims, inner.pool = dict(s.symbols), s.dims, list(inputs)
    for _ in range(count if inner.structures else 0):
        inner.step()
    return inner.builder.build(inputs, results(inner))


def _sort(s: _Grower, x: Value) -> Value | None:
    """Of integers, and of floats as they are fed: what rounds may come in another order."""
    if x.rank == 0 or (x.dtype.is_float and x.node is not None):
        return None
    axis = s.one_of(range(x.rank))
    count = s.one_of([n for n in (0, 1, x.shape[axis]) if s.size(n) <= s.size(x.shape[axis])])
    values, positions = s.builder.sort(x, axis, count=count, descending=s.one_of([False, True]))
    if prod(s.concrete(values.shape)) <= ELEMENTS:
        s.pool.append(positions)
    return values


def _suppress(s: _Grower, x: Value) -> Value | None:
    b, count = s.builder, s.one_of([0, 1, 3, 17])
    boxes = b.constant(np.sort(s.array(F32, (2, count, 2, 2)), axis=2).reshape(2, count, 4))
    order = b.iota((2, 3, count), 2)
    valid = b.constant(s.array(I64, (2, 3)))
    return b.suppress(boxes, order, valid, b.constant(s.one_of([0, 2, 99]), I64), b.constant(0.25, F32))


def _if(s: _Grower, x: Value) -> Value | None:
    bodies = []
    for _ in range(2):
        inputs = [parameter("x", x.dtype, x.shape), parameter("y", x.dtype, x.shape)]
        bodies.append(_body(s, inputs, 2, lambda b: [next(v for v in b.pool[::-1] if v.type == x.type)]))
    return s.builder.add(g.If(*bodies), s.flag(), x, s.typed_like(x))[0]


def _scan(s: _Grower, x: Value) -> Value | None:
    """Carries a slice of ``x``, replaced at each trip; stacks the slices and the positions."""
    if x.rank == 0:
        return None
    trips, slice_shape = x.shape[0], x.shape[1:]
    start = s.builder.expand_to(s.builder.constant(s.array(x.dtype, ()), x.dtype), slice_shape)
    inputs = [
        parameter("position", I64, ()),
        parameter("carried", x.dtype, slice_shape),
        parameter("slice", x.dtype, slice_shape),
        parameter("captured", x.dtype, slice_shape),
    ]

    def results(inner: _Grower) -> list[Value]:
        carried = [v for v in inner.pool if v.type == inputs[1].type]
        return [carried[-1], carried[0], inputs[0]]

    body = _body(s, inputs, 3, results)
    outputs = s.builder.add(g.Scan(body, trips, 1, 1), start, x, start)
    s.pool += [v for v in outputs[1:] if prod(s.concrete(v.shape)) <= ELEMENTS]
    return outputs[0]


def _loop(s: _Grower, x: Value) -> Value | None:
    """At most three trips, as long as a position is below a limit; carries ``x``, stacks what it was."""
    b, trips = s.builder, s.one_of([0, 1, 3])
    name = f"k{len(s.symbols)}"
    inputs = [parameter("position", I64, ()), parameter("x", x.dtype, x.shape), parameter("last", I64, ())]

    def results(inner: _Grower) -> list[Value]:
        carried = [v for v in inner.pool if v.type == x.type]
        return [inner.builder.map("lt", inputs[0], inputs[2]), carried[-1], carried[0]]

    body = _body(s, inputs, 3, results)
    limit, last = b.constant(3, I64), b.constant(trips - 1, I64)
    outputs = b.add(g.Loop(body, 1, name), limit, b.constant(trips > 0), x, last)
    s.symbols[name] = Dim.symbol(name)
    s.dims[name] = trips
    s.pool += [v for v in outputs[1:] if prod(s.concrete(v.shape)) <= ELEMENTS]
    return outputs[0]


BACKWARDS_IN_C = """
int BackwardsInC(const in0_t *restrict x, const int64_t *dims, out0_t *restrict y, const int64_t *results) {
    int64_t count = 1;
    for (int axis = 0; axis < IN0_RANK; axis++) count *= dims[axis];
    for (int64_t i = 0; i < count; i++) y[i] = x[count - 1 - i];
    return 0;
}
"""


def _backwards(x: Array) -> Array:
    return x.reshape(-1)[::-1].reshape(x.shape)


BACKWARDS = [
    custom_op("tests", name, infer=lambda x: TensorSpec(x.dtype, x.shape), reference=_backwards, c_source=source)
    for name, source in (("Backwards", None), ("BackwardsInC", BACKWARDS_IN_C))
]


def called(op: CustomOp, x: Value, builder: Builder, *, pure: bool = True) -> Value:
    """One of BACKWARDS."""
    call = g.Call(
        op.label, 1, op.digest, (x.dtype,), (x.shape,), pure=pure, c_source=op.c_source, evaluate=op.evaluate
    )  # fmt: skip
    return builder.one(call, x)


def _call(s: _Grower, x: Value) -> Value | None:
    return called(s.one_of(BACKWARDS), x, s.builder)


_STEPS: dict[str, Callable[[_Grower, Value], Value | None]] = {
    "map": _map, "cast": _cast, "permute": _permute, "expand": _expand, "reshape": _reshape, "slice": _slice,
    "pad": _pad, "flip": _flip, "window": _window, "concat": _concat, "reduce": _reduce,
    "contract": _contract, "gather": _gather, "scatter": _scatter, "bitcast": _bit_cast,
    "sort": _sort, "suppress": _suppress,
    "constant": _constant, "iota": _iota, "dimvalue": _dim_value,
    "binddim": _bind_dim, "if": _if, "scan": _scan, "loop": _loop, "call": _call,
}  # fmt: skip

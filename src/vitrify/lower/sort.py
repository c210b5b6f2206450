"""Sorting: kernels of their own, one lane of the axis after another, lanes shared out among tasks.

Three algorithms, all stable:

- ``partition``: a bool key has two classes, which two passes collect; the second ends as soon as enough is found.
- ``select``: few elements of many are kept in order while the others are only compared with the last of them.
- ``merge``: runs ordered by insertion are merged from the bottom up, keys and positions side by side, between two
  halves of a temporary.

Parameters: ``run`` (elements that insertion orders), ``select`` (the most elements that are selected).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, ceildiv, maximum, minimum, product
from vitrify.ir.dtypes import BOOL, I32, I64, DType
from vitrify.ir.graph import Node, Value
from vitrify.lower import loop as L
from vitrify.lower.emit import Leaf
from vitrify.lower.loop import Buffer, Data, Literal, Register, Stmt, VType
from vitrify.lower.plan import Operand
from vitrify.lower.scope import KernelScope

if TYPE_CHECKING:
    from vitrify.lower.build import Lowering

RUN = 16
SELECT = 64
SELECT_FROM = 8  # at least so many times as many elements
MAX_TASKS = 64
TASK_WORK = 1 << 15  # comparisons worth handing to another thread
INDEX = VType(I64)
Body = list[Stmt]


@dataclass(frozen=True)
class SortSchedule:
    """``algorithm`` is partition, select or merge."""

    algorithm: str
    run: int = RUN

    def record(self) -> tuple[tuple[str, int | str], ...]:
        return (("template", f"sort-{self.algorithm}"), ("run", self.run))


def schedule(op: g.Sort, x: Value) -> SortSchedule:
    """Select where few of many are kept; a size that only the run knows counts as many."""
    extent = x.shape[op.axis]
    if x.dtype is BOOL:
        return SortSchedule("partition")
    few = isinstance(op.count, int) and op.count <= SELECT
    many = not isinstance(extent, int) or (isinstance(op.count, int) and extent >= SELECT_FROM * op.count)
    return SortSchedule("select" if few and many else "merge")


def lower_sort(low: Lowering, node: Node, materialised: set[Value]) -> None:
    """Emits the kernel of one Sort."""
    assert isinstance(node.op, g.Sort)
    (x,) = node.inputs
    scope = KernelScope(low, materialised)
    source = scope.parameter(x, low.placement(x))
    values, positions = (scope.parameter(v, low.placement(v), written=True) for v in node.outputs)
    chosen = schedule(node.op, x)
    lane = _Lane(node, node.op, source, values, positions, chosen)
    rows = product(n for a, n in enumerate(x.shape) if a != node.op.axis)
    each = maximum(x.shape[node.op.axis] * lane.comparisons(), 1)
    block = maximum(maximum(ceildiv(rows, MAX_TASKS), ceildiv(TASK_WORK, each)), 1)
    tasks = ceildiv(rows, block)
    if chosen.algorithm == "merge":
        size = 2 * x.shape[node.op.axis] * tasks
        for name, dtype in (("keys", lane.key), ("order", lane.index)):
            place = low.allocate(maximum(size, 1) * dtype.itemsize)
            scope.buffers.append(Buffer(name, dtype, True))
            scope.operands.append(Operand(place))
    row = Dim.index("row", block)
    tiles, body = lane.statements(rows, Dim.index("task", tasks), block, row)
    rest = minimum(block, rows - Dim.index("task", tasks) * block)
    low.call(
        scope, tasks, (*tiles, L.For(row, rest, tuple(body))), flops=rows * each, anchor=node, schedule=chosen.record()
    )


class _Lane:
    """The statements that put one lane in order."""

    def __init__(
        self, node: Node, op: g.Sort, source: Leaf, values: Leaf, positions: Leaf, chosen: SortSchedule
    ) -> None:
        self.x = node.inputs[0]
        self.op, self.source, self.values, self.positions, self.chosen = op, source, values, positions, chosen
        self.extent, self.count = self.x.shape[op.axis], op.count
        self.key = self.x.dtype.compute
        small = isinstance(self.extent, int) and self.extent < 1 << 31
        self.index: DType = I32 if small else I64
        self.outer: list[DimLike] = []

    def comparisons(self) -> int:
        """About how many per element."""
        if self.chosen.algorithm != "merge":
            return 2
        return 4 + self.extent.bit_length() if isinstance(self.extent, int) else 16

    def statements(self, rows: DimLike, task: Dim, block: DimLike, row: Dim) -> tuple[Body, Body]:
        """Local memory, and the body of the loop over ``row``."""
        linear: DimLike = Dim.symbol("lane")
        body: Body = [L.Bind(Dim.symbol("lane"), L.Position(task * block + row))]
        outer: list[DimLike] = []
        for axis in reversed([a for a in range(self.x.rank) if a != self.op.axis]):
            extent = self.x.shape[axis]
            at = Dim.index(f"at{axis}", extent)
            body.append(L.Bind(at, L.Position(linear % extent)))
            outer.insert(0, at)
            linear = linear // extent
        self.outer = outer
        match self.chosen.algorithm:
            case "partition":
                return [], [*body, *self._partition()]
            case "select":
                assert isinstance(self.count, int)
                size = max(self.count, 1)
                tiles: Body = [L.Tile("kept", self.key, size), L.Tile("from", I64, size)]
                return tiles, [*body, *self._select(self.count)]
        base = task * (2 * self.extent)
        return [], [*body, *self._runs(base), *self._merges(base)]

    # ---- memory

    def at(self, position: DimLike) -> tuple[DimLike, ...]:
        return (*self.outer[: self.op.axis], position, *self.outer[self.op.axis :])

    def load(self, position: DimLike) -> Data:
        dtype = self.source.dtype or self.x.dtype
        loaded = L.Load(self.source.buffer, self.source.address(self.at(position)), VType(dtype))
        return loaded if dtype is self.key else L.Convert(loaded, self.key)

    def store(self, position: DimLike, key: Data, origin: Data) -> Body:
        dtype = self.values.dtype or self.x.dtype
        value = key if dtype is self.key else L.Convert(key, dtype, False)
        wide = origin if origin.type.dtype is I64 else L.Convert(origin, I64)
        return [
            L.Store(self.values.buffer, self.values.address(self.at(position)), value),
            L.Store(self.positions.buffer, self.positions.address(self.at(position)), wide),
        ]

    def before(self, a: Data, b: Data) -> Data:
        """Whether ``a`` must stand before ``b`` wherever they lie now: NaN is the greatest."""
        fn = "gt" if self.op.descending else "lt"
        plain = L.Apply(fn, (a, b))
        if not self.key.is_float:
            return plain
        nan_a, nan_b = L.Apply("isnan", (a,)), L.Apply("isnan", (b,))
        first, second = (nan_a, nan_b) if self.op.descending else (nan_b, nan_a)
        return L.Apply("or", (plain, L.Apply("and", (first, L.Apply("not", (second,))))))

    # ---- two classes

    def _partition(self) -> Body:
        """Those of the first class, then those of the second, each in the order in which they lie."""
        kept = _register("kept")
        body: Body = [L.Let(kept, _number(0))]
        for number in range(2):
            first = self.op.descending ^ bool(number)  # the class, as a bool
            i, key = _register(f"i{number}"), Register(f"key{number}", VType(BOOL))
            here, to = Dim.symbol(f"here{number}"), Dim.symbol(f"to{number}")
            wanted: Data = key if first else L.Apply("not", (key,))
            found: Body = [L.Bind(to, kept), *self.store(to, key, i), _advance(kept)]
            step: Body = [L.Bind(here, i), L.Let(key, self.load(here)), L.If(wanted, tuple(found)), _advance(i)]
            more = L.Apply("and", (_below(i, self.extent), _below(kept, self.count)))
            body += [L.Let(i, _number(0)), L.While(more, tuple(step))]
        return body

    # ---- few of many

    def _select(self, count: int) -> Body:
        """The first ``count`` in order so far lie in ``kept``; a new one goes where it belongs, or nowhere."""
        if count == 0:
            return []
        i, key = Dim.index("i", self.extent), Register("key", VType(self.key))
        filled, last = _register("filled"), Register("last", VType(self.key))
        place, full, enters = _register("place"), Register("full", VType(BOOL)), Register("enters", VType(BOOL))
        at, end = Dim.symbol("at"), count - 1
        previous = Register("previous", VType(self.key))
        shift: Body = [
            L.Bind(at, place),
            L.Let(previous, L.Load("kept", at - 1, VType(self.key))),
            L.If(L.Apply("not", (self.before(key, previous),)), (L.Break(),)),
            L.Store("kept", at, previous),
            L.Store("from", at, L.Load("from", at - 1, INDEX)),
            L.Assign(place, L.Apply("sub", (place, _number(1)))),
        ]
        insert: Body = [
            L.Let(place, L.Apply("min", (filled, _number(end)))),
            L.While(L.Apply("gt", (place, _number(0))), tuple(shift)),
            L.Bind(Dim.symbol("spot"), place),
            L.Store("kept", Dim.symbol("spot"), key),
            L.Store("from", Dim.symbol("spot"), L.Position(i)),
            L.If(L.Apply("not", (full,)), (_advance(filled),)),
            L.Assign(last, L.Load("kept", end, VType(self.key))),
        ]
        each: Body = [
            L.Let(key, self.load(i)),
            L.Let(full, L.Apply("ge", (filled, _number(count)))),
            L.Let(enters, L.Apply("or", (L.Apply("not", (full,)), self.before(key, last)))),
            L.If(enters, tuple(insert)),
        ]
        o = Dim.index("o", count)
        out = self.store(o, L.Load("kept", o, VType(self.key)), L.Load("from", o, INDEX))
        clear = L.For(o, count, (L.Store("kept", o, L.zero(self.key)),))
        return [
            clear, L.Let(filled, _number(0)), L.Let(last, L.zero(self.key)),
            L.For(i, self.extent, tuple(each)), L.For(o, count, tuple(out)),
        ]  # fmt: skip

    # ---- all in order

    def _runs(self, base: DimLike) -> Body:
        """Every ``run`` neighbours ordered by insertion, in the first half of the temporary."""
        i, key, j = Dim.index("i", self.extent), Register("key", VType(self.key)), _register("j")
        at, spot = Dim.symbol("at"), Dim.symbol("spot")
        previous = Register("previous", VType(self.key))
        start = _register("start")
        shift: Body = [
            L.Bind(at, j),
            L.Let(previous, L.Load("keys", base + at - 1, VType(self.key))),
            L.If(L.Apply("not", (self.before(key, previous),)), (L.Break(),)),
            L.Store("keys", base + at, previous),
            L.Store("order", base + at, L.Load("order", base + at - 1, VType(self.index))),
            L.Assign(j, L.Apply("sub", (j, _number(1)))),
        ]
        body: Body = [
            L.Let(key, self.load(i)),
            L.Let(j, L.Position(i)),
            L.Let(start, L.Position(i // self.chosen.run * self.chosen.run)),
            L.While(L.Apply("gt", (j, start)), tuple(shift)),
            L.Bind(spot, j),
            L.Store("keys", base + spot, key),
            L.Store("order", base + spot, L.Position(i, self.index)),
        ]
        return [L.For(i, self.extent, tuple(body))]

    def _merges(self, base: DimLike) -> Body:
        """Neighbouring runs merged from one half into the other until one run is left, which is then stored."""
        width, low = _register("width"), _register("low")
        source, target, spare = _register("source"), _register("target"), _register("spare")
        wide, start = Dim.symbol("wide"), Dim.symbol("start")
        middle, end = Dim.symbol("middle"), Dim.symbol("end")
        src, dst = Dim.symbol("src"), Dim.symbol("dst")
        pair: Body = [
            L.Bind(start, low),
            L.Bind(middle, L.Position(minimum(start + wide, self.extent))),
            L.Bind(end, L.Position(minimum(start + 2 * wide, self.extent))),
            *self._merge(base + src, base + dst, start, middle, end),
            L.Assign(low, L.Position(end)),
        ]
        sweep: Body = [
            L.Bind(wide, width), L.Bind(src, source), L.Bind(dst, target),
            L.Let(low, _number(0)),
            L.While(_below(low, self.extent), tuple(pair)),
            L.Let(spare, source), L.Assign(source, target), L.Assign(target, spare),
            L.Assign(width, L.Apply("add", (width, width))),
        ]  # fmt: skip
        o, final = Dim.index("o", self.count), Dim.symbol("final")
        key, origin = (L.Load(b, base + final + o, VType(d)) for b, d in (("keys", self.key), ("order", self.index)))
        return [
            L.Let(width, _number(self.chosen.run)), L.Let(source, _number(0)), L.Let(target, L.Position(self.extent)),
            L.While(_below(width, self.extent), tuple(sweep)),
            L.Bind(final, source), L.For(o, self.count, tuple(self.store(o, key, origin))),
        ]  # fmt: skip

    def _merge(self, source: DimLike, target: DimLike, start: DimLike, middle: DimLike, end: DimLike) -> Body:
        """``source[start:middle]`` and ``source[middle:end]`` into ``target[start:end]``, without branches on keys."""
        i, j, o = _register("i"), _register("j"), _register("o")
        a, b, to = Dim.symbol("a"), Dim.symbol("b"), Dim.symbol("to")
        left, right = Register("left", VType(self.key)), Register("right", VType(self.key))
        later = Register("later", VType(BOOL))
        origins = [L.Load("order", source + at, VType(self.index)) for at in (b, a)]
        choose: Body = [
            L.Bind(a, i), L.Bind(b, j), L.Bind(to, o),
            L.Let(left, L.Load("keys", source + a, VType(self.key))),
            L.Let(right, L.Load("keys", source + b, VType(self.key))),
            L.Let(later, self.before(right, left)),
            L.Store("keys", target + to, L.Apply("where", (later, right, left))),
            L.Store("order", target + to, L.Apply("where", (later, *origins))),
            L.Assign(j, L.Apply("add", (j, L.Convert(later, I64)))),
            L.Assign(i, L.Apply("add", (i, L.Convert(L.Apply("not", (later,)), I64)))),
            _advance(o),
        ]  # fmt: skip
        both = L.Apply("and", (_below(i, middle), _below(j, end)))
        body: Body = [
            L.Let(i, L.Position(start)), L.Let(j, L.Position(middle)), L.Let(o, L.Position(start)),
            L.While(both, tuple(choose)),
        ]  # fmt: skip
        for at, limit in ((i, middle), (j, end)):
            copy: Body = [
                L.Bind(a, at), L.Bind(to, o),
                L.Store("keys", target + to, L.Load("keys", source + a, VType(self.key))),
                L.Store("order", target + to, L.Load("order", source + a, VType(self.index))),
                _advance(at), _advance(o),
            ]  # fmt: skip
            body.append(L.While(_below(at, limit), tuple(copy)))
        return body


def _register(name: str) -> Register:
    return Register(name, INDEX)


def _number(value: int) -> Literal:
    return Literal(value, INDEX)


def _below(value: Data, limit: DimLike) -> Data:
    return L.Apply("lt", (value, L.Position(limit)))


def _advance(register: Register) -> Stmt:
    return L.Assign(register, L.Apply("add", (register, _number(1))))

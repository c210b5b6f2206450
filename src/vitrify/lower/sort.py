"""Sorting: kernels of their own, one lane of the axis after another, lanes shared out among tasks.

Three algorithms, all stable:

- ``partition``: a bool key has two classes, which two passes collect; the second ends as soon as enough is found.
- ``merge``: runs ordered by insertion are merged from the bottom up, keys and positions side by side, between two
  halves of a temporary.
- ``select``: what comes before the last of the best so far is collected, and merged with them when the temporary
  is full. Few of many are found in little more than one comparison each, since a first pass over groups of elements
  finds a bound before which as many groups as are kept have their best one: what is not before it need not be kept.

Parameters: ``run`` (elements that insertion orders), ``block`` (neighbours in memory that are passed over together
where none of them matters; 1 where they do not lie side by side).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

RUN = 32
FLAG_BLOCK = 64  # bools passed over together
BLOCK = 16  # other elements
SELECT_FROM = 4  # at least so many times as many elements as are kept
GROUPS = 4  # as many times as elements are kept, whose best ones bound what is kept
SAMPLES = 32  # of these best ones, tried as the bound
LANES = 16  # of the vectors that find them
SIDE_BY_SIDE = 4  # vectors
SPARE = 3  # blocks collected beside as many elements as are kept
MAX_TASKS = 64
TASK_WORK = 1 << 15  # comparisons worth handing to another thread
INDEX = VType(I64)
Body = list[Stmt]
Each = Callable[["DimLike"], Body]


@dataclass(frozen=True)
class SortSchedule:
    """``algorithm`` is partition, select or merge."""

    algorithm: str
    run: int = RUN
    block: int = 1

    def record(self) -> tuple[tuple[str, int | str], ...]:
        return (("template", f"sort-{self.algorithm}"), ("run", self.run), ("block", self.block))


def schedule(op: g.Sort, x: Value, stride: DimLike) -> SortSchedule:
    """Select where few of many are kept, or where only the run knows how many; ``stride`` is that of the axis."""
    extent, block = x.shape[op.axis], BLOCK if stride == 1 else 1
    if x.dtype is BOOL:
        return SortSchedule("partition", block=FLAG_BLOCK if stride == 1 else 1)
    few = not isinstance(op.count, int) or not isinstance(extent, int) or SELECT_FROM * op.count <= extent
    whole = op.count == extent
    return SortSchedule("select", block=block) if few and not whole else SortSchedule("merge")


def lower_sort(low: Lowering, node: Node, materialised: set[Value]) -> None:
    """Emits the kernel of one Sort."""
    assert isinstance(node.op, g.Sort)
    (x,) = node.inputs
    scope = KernelScope(low, materialised)
    source = scope.parameter(x, low.placement(x))
    values, positions = (scope.parameter(v, low.placement(v), written=True) for v in node.outputs)
    chosen = schedule(node.op, x, source.strides[node.op.axis])
    lane = _Lane(node, node.op, source, values, positions, chosen)
    rows = product(n for a, n in enumerate(x.shape) if a != node.op.axis)
    each = maximum(x.shape[node.op.axis] * lane.comparisons(), 1)
    block = maximum(maximum(ceildiv(rows, MAX_TASKS), ceildiv(TASK_WORK, each)), 1)
    tasks = ceildiv(rows, block)
    if chosen.algorithm != "partition":
        size = 2 * lane.room * tasks
        for name, dtype in (("keys", lane.key), ("order", lane.index)):
            place = low.allocate(maximum(size, 1) * dtype.itemsize)
            scope.buffers.append(Buffer(name, dtype, True))
            scope.operands.append(Operand(place))
    row = Dim.index("row", block)
    body = lane.statements(Dim.index("task", tasks), block, row)
    rest = minimum(block, rows - Dim.index("task", tasks) * block)
    low.call(
        scope, tasks, (L.For(row, rest, tuple(body)),), flops=rows * each, anchor=node, schedule=chosen.record()
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
        self.room = self.extent  # of one half of the temporary
        if chosen.algorithm == "select":
            self.room = 2 * self.count + (SPARE + 1) * chosen.block + 1
        self.base: DimLike = 0

    @property
    def groups(self) -> DimLike:
        """Groups of elements that bound what is selected; the temporary has room for them."""
        wide = LANES * SIDE_BY_SIDE
        return maximum(ceildiv(GROUPS * self.count, wide), 1) * wide

    def comparisons(self) -> int:
        """About how many per element."""
        if self.chosen.algorithm != "merge":
            return 2
        return 4 + self.extent.bit_length() if isinstance(self.extent, int) else 16

    def statements(self, task: Dim, block: DimLike, row: Dim) -> Body:
        """The body of the loop over ``row``."""
        linear: DimLike = Dim.symbol("lane")
        body: Body = [L.Bind(Dim.symbol("lane"), L.Position(task * block + row))]
        outer: list[DimLike] = []
        for axis in reversed([a for a in range(self.x.rank) if a != self.op.axis]):
            extent = self.x.shape[axis]
            at = Dim.index(f"at{axis}", extent)
            body.append(L.Bind(at, L.Position(linear % extent)))
            outer.insert(0, at)
            linear = linear // extent
        self.outer, self.base = outer, task * (2 * self.room)
        match self.chosen.algorithm:
            case "partition":
                return [*body, *self._partition()]
            case "select":
                return [*body, *self._select()]
        i = Dim.index("i", self.extent)
        return [*body, *self._ordered(self.extent, self.load(i), L.Position(i, self.index)), *self._stored()]

    # ---- memory

    def at(self, position: DimLike) -> tuple[DimLike, ...]:
        return (*self.outer[: self.op.axis], position, *self.outer[self.op.axis :])

    def load(self, position: DimLike, lanes: int = 1) -> Data:
        dtype = self.source.dtype or self.x.dtype
        loaded = L.Load(self.source.buffer, self.source.address(self.at(position)), VType(dtype, lanes))
        return loaded if dtype is self.key else L.Convert(loaded, self.key)

    def kept_key(self, position: DimLike, lanes: int = 1) -> Data:
        return L.Load("keys", self.base + position, VType(self.key, lanes))

    def kept_origin(self, position: DimLike) -> Data:
        return L.Load("order", self.base + position, VType(self.index))

    def keep(self, position: DimLike, key: Data, origin: Data) -> Body:
        return [L.Store("keys", self.base + position, key), L.Store("order", self.base + position, origin)]

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
            key, to = Register("key", VType(BOOL)), Dim.symbol("to")

            def each(i: DimLike, first: bool = first, key: Register = key, to: Dim = to) -> Body:
                wanted: Data = key if first else L.Apply("not", (key,))
                found: Body = [L.Bind(to, kept), *self.store(to, key, L.Position(i)), _advance(kept)]
                takes = L.Apply("and", (wanted, _below(kept, self.count)))
                return [L.Let(key, self.load(i)), L.If(takes, tuple(found))]

            def some(start: DimLike, first: bool = first) -> Data:
                block = self.load(start, self.chosen.block)
                return L.Fold("or", block if first else L.Apply("not", (block,)))

            begin = _register(f"begin{number}")
            body += self._blocks(begin, each, some, (), _below(kept, self.count))
        return body

    def _blocks(
        self, begin: Register, each: Each, some: Callable[[DimLike], Data], after: Sequence[Stmt], more: Data
    ) -> Body:
        """``each`` element while ``more`` holds, in blocks from ``begin`` on; a whole block is passed over unless
        ``some`` holds of it. ``after`` follows every block."""
        step = self.chosen.block
        some_here = Register("some", VType(BOOL))
        start, length = Dim.symbol("start"), Dim.symbol("length")
        inner = Dim.index("inner", step)
        decide: Body = [L.Let(some_here, Literal(True, VType(BOOL)))]
        if step > 1:
            whole = L.Apply("eq", (L.Position(length), _number(step)))
            decide.append(L.If(whole, (L.Assign(some_here, some(start)),)))
        body: Body = [
            L.Bind(start, begin), L.Bind(length, L.Position(minimum(self.extent - start, step))),
            *decide,
            L.If(some_here, (L.For(inner, length, tuple(each(start + inner))),)),
            *after,
            L.Assign(begin, L.Apply("add", (begin, _number(step)))),
        ]  # fmt: skip
        return [L.Let(begin, _number(0)), L.While(L.Apply("and", (_below(begin, self.extent), more)), tuple(body))]

    # ---- few of many

    def _select(self) -> Body:
        filled, last = _register("filled"), Register("last", VType(self.key))
        known, key = Register("known", VType(BOOL)), Register("key", VType(self.key))
        to, amount, i = Dim.symbol("to"), Dim.symbol("amount"), Dim.index("i", self.room)

        def each(at: DimLike) -> Body:
            """Stored behind the others in any case; it stays if the next one is stored behind it."""
            stays = L.Apply("or", (L.Apply("not", (known,)), self.before(key, last)))
            move = L.Assign(filled, L.Apply("add", (filled, L.Convert(stays, I64))))
            origin = L.Position(at, self.index)
            return [L.Bind(to, filled), L.Let(key, self.load(at)), *self.keep(to, key, origin), move]

        def some(start: DimLike) -> Data:
            earlier = self.before(self.load(start, self.chosen.block), L.Splat(last, self.chosen.block))
            return L.Apply("or", (L.Apply("not", (known,)), L.Fold("or", earlier)))

        shrink: Body = [
            L.Bind(amount, filled),
            *self._ordered(amount, self.kept_key(i), self.kept_origin(i)),
            L.If(L.Apply("gt", (L.Position(Dim.symbol("final")), _number(0))), (self._moved_back(),)),
            L.Assign(filled, L.Position(self.count)),
            L.If(
                L.Apply("gt", (filled, _number(0))),
                (L.Assign(last, self.kept_key(self.count - 1)), L.Assign(known, Literal(True, VType(BOOL)))),
            ),
        ]
        full = L.Apply("ge", (filled, L.Position(self.room - self.chosen.block - 1)))
        always = Literal(True, VType(BOOL))
        return [
            L.Let(filled, _number(0)), L.Let(last, L.zero(self.key)), L.Let(known, Literal(False, VType(BOOL))),
            *self._bound(last, known),
            *self._blocks(_register("begin"), each, some, (L.If(full, tuple(shrink)),), always),
            L.Bind(amount, filled),
            *self._ordered(amount, self.kept_key(i), self.kept_origin(i)),
            *self._stored(),
        ]  # fmt: skip

    def _bound(self, last: Register, known: Register) -> Body:
        """Sets ``last`` to an element that at least as many others as are kept must stand before, where neighbours
        lie side by side and groups are large enough to find one (among equals, there may be none)."""
        each = self.extent // self.groups  # vectors that groups take their elements from
        large = each > 1 if isinstance(each, int) else None
        if large is False or self.chosen.block == 1:
            return []
        body = (*self._best_of_groups(each), *self._tightest(last, known))
        if large:
            return list(body)
        return [L.If(L.Apply("gt", (L.Position(each), _number(1))), body)]

    def _best_of_groups(self, each: DimLike) -> Body:
        """The first element of every group, kept as ``keys``. Which of several, where NaN is among them, is open."""
        bests = [Register(f"best{j}", VType(self.key, LANES)) for j in range(SIDE_BY_SIDE)]
        wide, step = Dim.index("wide", self.groups // LANES // SIDE_BY_SIDE), Dim.index("step", each)
        starts = [(wide * SIDE_BY_SIDE + j) * each for j in range(SIDE_BY_SIDE)]
        fn = "gt" if self.op.descending else "lt"
        more: Body = []
        for j, (best, start) in enumerate(zip(bests, starts, strict=True)):
            one = Register(f"one{j}", best.type)
            more.append(L.Let(one, self.load((start + step) * LANES, LANES)))
            more.append(L.Assign(best, L.Apply("where", (L.Apply(fn, (one, best)), one, best))))
        body: Body = [L.Let(b, self.load(s * LANES, LANES)) for b, s in zip(bests, starts, strict=True)]
        body.append(L.For(step, each, tuple(more)))
        for j, best in enumerate(bests):
            body.append(L.Store("keys", self.base + (wide * SIDE_BY_SIDE + j) * LANES, best))
        return [L.For(wide, self.groups // LANES // SIDE_BY_SIDE, tuple(body))]

    def _tightest(self, last: Register, known: Register) -> Body:
        """Of some of the groups' best, the one that fewest others but enough stand before."""
        sample, group = Dim.index("sample", SAMPLES), Dim.index("group", self.groups // LANES)
        tried, counts = Register("tried", VType(self.key)), Register("counts", VType(I32, LANES))
        total, least = Register("total", VType(I32)), Register("least", VType(I32))
        better = Register("better", VType(BOOL))
        earlier = self.before(self.kept_key(group * LANES, LANES), L.Splat(tried, LANES))
        count = L.Apply("add", (counts, L.Convert(earlier, I32)))
        enough = L.Apply("ge", (L.Convert(total, I64), L.Position(self.count)))
        body: Body = [
            L.Let(tried, self.kept_key(sample * (self.groups // SAMPLES))),
            L.Let(counts, L.zero(I32, LANES)),
            L.For(group, self.groups // LANES, (L.Assign(counts, count),)),
            L.Let(total, L.Fold("add", counts)),
            L.Let(better, L.Apply("and", (enough, L.Apply("lt", (total, least))))),
            L.Assign(least, L.Apply("where", (better, total, least))),
            L.Assign(last, L.Apply("where", (better, tried, last))),
            L.Assign(known, L.Apply("or", (known, better))),
        ]
        return [L.Let(least, Literal(I32.max(), VType(I32))), L.For(sample, SAMPLES, tuple(body))]

    def _moved_back(self) -> Stmt:
        o, final = Dim.index("o", self.count), Dim.symbol("final")
        return L.For(o, self.count, tuple(self.keep(o, self.kept_key(final + o), self.kept_origin(final + o))))

    # ---- all in order

    def _ordered(self, extent: DimLike, key: Data, origin: Data) -> Body:
        """``extent`` elements, of which ``key`` and ``origin`` are those at ``i``, in order from ``final`` on."""
        return [*self._runs(extent, key, origin), *self._merges(extent)]

    def _stored(self) -> Body:
        o, final = Dim.index("o", self.count), Dim.symbol("final")
        return [L.For(o, self.count, tuple(self.store(o, self.kept_key(final + o), self.kept_origin(final + o))))]

    def _runs(self, extent: DimLike, element: Data, from_: Data) -> Body:
        """Every ``run`` neighbours ordered by insertion, in the first half of the temporary."""
        i, key, j = Dim.index("i", extent), Register("key", VType(self.key)), _register("j")
        at, spot = Dim.symbol("at"), Dim.symbol("spot")
        previous, origin = Register("previous", VType(self.key)), Register("origin", VType(self.index))
        start = _register("start")
        shift: Body = [
            L.Bind(at, j),
            L.Let(previous, self.kept_key(at - 1)),
            L.If(L.Apply("not", (self.before(key, previous),)), (L.Break(),)),
            *self.keep(at, previous, self.kept_origin(at - 1)),
            L.Assign(j, L.Apply("sub", (j, _number(1)))),
        ]
        body: Body = [
            L.Let(key, element), L.Let(origin, from_),
            L.Let(j, L.Position(i)),
            L.Let(start, L.Position(i // self.chosen.run * self.chosen.run)),
            L.While(L.Apply("gt", (j, start)), tuple(shift)),
            L.Bind(spot, j),
            *self.keep(spot, key, origin),
        ]  # fmt: skip
        return [L.For(i, extent, tuple(body))]

    def _merges(self, extent: DimLike) -> Body:
        """Neighbouring runs merged from one half into the other until one run is left, from ``final`` on."""
        width, low = _register("width"), _register("low")
        source, target, spare = _register("source"), _register("target"), _register("spare")
        wide, start = Dim.symbol("wide"), Dim.symbol("from")
        middle, end = Dim.symbol("middle"), Dim.symbol("end")
        src, dst = Dim.symbol("src"), Dim.symbol("dst")
        pair: Body = [
            L.Bind(start, low),
            L.Bind(middle, L.Position(minimum(start + wide, extent))),
            L.Bind(end, L.Position(minimum(start + 2 * wide, extent))),
            *self._merge(src, dst, start, middle, end),
            L.Assign(low, L.Position(end)),
        ]
        sweep: Body = [
            L.Bind(wide, width), L.Bind(src, source), L.Bind(dst, target),
            L.Let(low, _number(0)),
            L.While(_below(low, extent), tuple(pair)),
            L.Let(spare, source), L.Assign(source, target), L.Assign(target, spare),
            L.Assign(width, L.Apply("add", (width, width))),
        ]  # fmt: skip
        return [
            L.Let(width, _number(self.chosen.run)), L.Let(source, _number(0)), L.Let(target, L.Position(self.room)),
            L.While(_below(width, extent), tuple(sweep)),
            L.Bind(Dim.symbol("final"), source),
        ]  # fmt: skip

    def _merge(self, source: DimLike, target: DimLike, start: DimLike, middle: DimLike, end: DimLike) -> Body:
        """``source[start:middle]`` and ``source[middle:end]`` into ``target[start:end]``, without branches on keys."""
        i, j, o = _register("i"), _register("j"), _register("o")
        a, b, to = Dim.symbol("a"), Dim.symbol("b"), Dim.symbol("to")
        left, right = Register("left", VType(self.key)), Register("right", VType(self.key))
        later = Register("later", VType(BOOL))
        origins = (self.kept_origin(source + b), self.kept_origin(source + a))
        chosen = [L.Apply("where", (later, right, left)), L.Apply("where", (later, *origins))]
        choose: Body = [
            L.Bind(a, i), L.Bind(b, j), L.Bind(to, o),
            L.Let(left, self.kept_key(source + a)), L.Let(right, self.kept_key(source + b)),
            L.Let(later, self.before(right, left)),
            *self.keep(target + to, *chosen),
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
                *self.keep(target + to, self.kept_key(source + a), self.kept_origin(source + a)),
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

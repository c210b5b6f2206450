"""The structures that hold graphs, and the dims that nodes name during a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrify.ir.dims import Dim, DimLike, symbols
from vitrify.ir.dtypes import BOOL, I64
from vitrify.ir.node import Graph, Op, Type, listed, require


@dataclass(frozen=True)
class BindDim(Op):
    """Names a run-time integer: from here on ``symbol`` stands for the input's value (an integer of rank 0),
    which must be >= 0. The result is the input."""

    symbol: str

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        (x,) = inputs
        require(x.dtype is I64 and x.rank == 0, f"bind_dim takes an i64 of rank 0, got {x}")
        return (x,)


@dataclass(frozen=True, eq=False)
class If(Op):
    """Inputs: a bool of rank 0, then what the branches use; each branch takes all of the latter."""

    then: Graph
    otherwise: Graph

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        condition = inputs[0]
        require(
            condition.dtype is BOOL and condition.rank == 0, f"if takes a bool of rank 0, got {condition}"
        )
        types = [tuple(v.type for v in g.outputs) for g in self.bodies]
        require(types[0] == types[1], f"branches differ: {listed(types[0])} and {listed(types[1])}")
        for g in self.bodies:
            require([v.type for v in g.inputs] == list(inputs[1:]), "a branch's inputs differ from the if's")
        return types[0]

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.then, self.otherwise)


@dataclass(frozen=True, eq=False)
class Scan(Op):
    """``body`` repeated ``trips`` times.

    Inputs: ``carried`` initial values, ``scanned`` tensors whose axis 0 has ``trips`` entries, then
    captured values. The body takes (position i64 [], carried.., slices.., captured..) and gives
    (carried.., stacked..). Results: the last carried values, then the stacked ones (axis 0 = ``trips``).
    """

    body: Graph
    trips: DimLike
    carried: int
    scanned: int

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        carried, scanned = list(inputs[: self.carried]), inputs[self.carried : self.carried + self.scanned]
        entries = all(t.rank > 0 and t.shape[0] == self.trips for t in scanned)
        require(entries, f"scanned inputs need {self.trips} entries, got {listed(scanned)}")
        slices = [Type(t.dtype, t.shape[1:]) for t in scanned]
        expected = [Type(I64, ()), *carried, *slices, *inputs[self.carried + self.scanned :]]
        same = [v.type for v in self.body.inputs] == expected
        require(same, "the body's inputs differ from " + listed(expected))
        results = [v.type for v in self.body.outputs]
        require(results[: self.carried] == carried, "the body changes the type of a carried value")
        return (*carried, *(Type(t.dtype, (self.trips, *t.shape)) for t in results[self.carried :]))

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)


@dataclass(frozen=True, eq=False)
class Loop(Op):
    """``body`` repeated while a condition holds, at most as often as the limit says.

    Inputs: limit i64 [], condition bool [], ``carried`` initial values, then captured values. The body takes
    (position i64 [], carried.., captured..) and gives (condition bool [], carried.., stacked..). Results: the
    last carried values, then the stacked ones, whose axis 0 is the number of trips.

    The loop names dims as a ``BindDim`` does. In the body, ``sizes`` are the axes that carried values change:
    their extents at the beginning of a trip. After it, ``count`` is the number of trips, and ``names`` are, in
    order, the results' extents that the body decides: of the axes in ``sizes``, and of entries of stacked
    values (equal in every trip, 0 without one).
    """

    body: Graph
    carried: int
    count: str
    sizes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        fits = 0 <= self.carried <= len(inputs) - 2 and inputs[0] == Type(I64, ()) and inputs[1] == Type(BOOL, ())
        require(fits, f"loop takes i64[], bool[] and {self.carried} carried values or more, got {listed(inputs)}")
        starts, captured = inputs[2 : 2 + self.carried], inputs[2 + self.carried :]
        takes, gives = [v.type for v in self.body.inputs], [v.type for v in self.body.outputs]
        same = takes[:1] == [Type(I64, ())] and takes[1 + self.carried :] == list(captured)
        require(same, "the body's inputs differ from the loop's")
        require(gives[:1] == [Type(BOOL, ())], "the body gives no bool[] first")
        require(len(gives) > self.carried, f"the body gives {len(gives)} values, of {self.carried} carried")
        inside = takes[1 : 1 + self.carried]
        for start, taken, given in zip(starts, inside, gives[1:], strict=False):
            kept = [self._fixed(t, taken) for t in (start, taken, given)]
            require(kept[0] == kept[1] == kept[2], f"carried values differ: {listed((start, taken, given))}")
        return self._results(inside, gives[1 + self.carried :])

    def _fixed(self, type_: Type, pattern: Type) -> object:
        """What no trip may change."""
        sizes = [n if str(p) not in self.sizes else None for n, p in zip(type_.shape, pattern.shape, strict=False)]
        return type_.dtype, type_.rank, sizes

    def _results(self, carried: Sequence[Type], stacked: Sequence[Type]) -> tuple[Type, ...]:
        names = iter(self.names)
        inner = bound_inside(self.body) | set(self.sizes)

        def outside(size: DimLike) -> DimLike:
            if not any(s.name in inner for s in symbols(size)):
                return size
            name = next(names, None)
            require(name is not None, f"loop names {len(self.names)} extents of its results, too few")
            return Dim.symbol(str(name))

        results = [Type(t.dtype, tuple(map(outside, t.shape))) for t in carried]
        count = Dim.symbol(self.count)
        results += [Type(t.dtype, (count, *map(outside, t.shape))) for t in stacked]
        require(next(names, None) is None, f"loop names {len(self.names)} extents of its results, too many")
        return tuple(results)

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)


def bound_dims(op: Op) -> tuple[str, ...]:
    """The dims that a node names for those that follow it."""
    if isinstance(op, Loop):
        return (op.count, *op.names)
    return (op.symbol,) if isinstance(op, BindDim) else ()


def bound_inside(graph: Graph) -> set[str]:
    """The dims that the nodes of ``graph`` name."""
    return {name for node in graph.nodes for name in bound_dims(node.op)}

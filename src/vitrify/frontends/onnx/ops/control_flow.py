"""If: decided at import where shapes decide it, else two graphs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.body import Body, Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Graph, Type, Value


@op("If")
def if_(n: Call) -> Sequence[Tensor | Value]:
    then, otherwise = n.attributes.graph("then_branch"), n.attributes.graph("else_branch")
    n.check(len(then.output) == len(otherwise.output), "the branches give different numbers of results")
    condition = _condition(n)
    if isinstance(condition, int):
        return _inline(n, then if condition else otherwise, condition)
    known = n.choices.known(n.path)
    if condition is not None and known is not None:
        _suppose(n, condition, known)
        return _inline(n, then if known else otherwise, int(known))
    bodies = _import_both(n, then, otherwise, condition)
    merged = None if bodies is None else _merged(n, bodies, condition)
    if bodies is not None and merged is not None:
        return _node(n, bodies, merged)
    assert condition is not None
    value = n.choices.choose(n.path, n.symbols)
    _suppose(n, condition, value)
    return _inline(n, then if value else otherwise, int(value))


def _condition(n: Call) -> DimLike | None:
    """0 or 1 where it is decided, an expression where sizes decide it, None where the data does."""
    contents = n.contents(0)
    if contents is None:
        return None
    n.check(contents.size == 1, f"the condition has shape {list(contents.shape)}, not one element")
    return n.body.simplify(contents.reshape(-1)[0])


def _inline(n: Call, graph: onnx.GraphProto, value: int) -> list[Tensor]:
    return n.branch(graph, n.body, "then" if value else "else", {})


def _suppose(n: Call, condition: DimLike, value: bool) -> None:
    equal = n.symbols.equality(condition, value)
    n.assume(*(equal if equal is not None else (condition, int(value))))


class _Branch:
    def __init__(self, n: Call, graph: onnx.GraphProto | None, name: str) -> None:
        self.body = Body(n.symbols, n.body)
        self.body.builder.source = n.source
        self.tensors = [] if graph is None else n.branch(graph, self.body, name, {})
        self.name = name if graph is None else graph.name
        self.values: list[Value] = []

    @classmethod
    def refusing(cls, n: Call, other: _Branch, error: InvalidModelError) -> _Branch:
        """A branch with the results of ``other`` whose run fails, naming the node that does not fit: two
        elements take a shape of one, which only the run knows to be one."""
        branch = cls(n, None, "refusal")
        build = branch.body.builder
        build.source = str(error).partition(": ")[0]
        inside = n.inside(branch.body)
        one = inside.bind(build.constant(1, I64))
        for tensor in other.tensors:
            misfit = build.reshape(build.constant([0, 0], tensor.dtype), (one,))
            value = build.expand_to(build.reshape(misfit, (1,) * tensor.rank), tensor.shape)
            branch.tensors.append(Tensor(tensor.dtype, tensor.shape, value=value, home=branch.body))
        return branch

    def shaped(self, types: list[Type]) -> None:
        values = [self.body.resolve(t) for t in self.tensors]
        self.values = [self.body.builder.reshape(v, t.shape) for v, t in zip(values, types, strict=True)]

    def graph(self, captured: list[Value]) -> Graph:
        inputs = [self.body.captured.get(v) or Value(v.type) for v in captured]
        result = self.body.builder.build(inputs, self.values, self.name)
        result.assumptions = list(self.body.assumptions)
        return result


def _import_both(
    n: Call, then: onnx.GraphProto, otherwise: onnx.GraphProto, condition: DimLike | None
) -> tuple[_Branch, _Branch] | None:
    """Both branches; None where sizes decide and one of them is ill-typed (for these sizes it never runs)."""
    found: list[_Branch | InvalidModelError] = []
    for graph, name in ((then, "then"), (otherwise, "else")):
        try:
            found.append(_Branch(n, graph, name))
        except InvalidModelError as error:
            found.append(error)
    errors = [f for f in found if isinstance(f, InvalidModelError)]
    branches = [f for f in found if isinstance(f, _Branch)]
    if not errors:
        return branches[0], branches[1]
    if condition is not None and branches:
        return None
    if not branches or not n.symbols.sizes_given:
        raise errors[0]
    # The caller's sizes leave one branch; a run that takes the other is refused.
    refusal = _Branch.refusing(n, branches[0], errors[0])
    return (branches[0], refusal) if isinstance(found[0], _Branch) else (refusal, branches[0])


def _merged(n: Call, bodies: tuple[_Branch, _Branch], condition: DimLike | None) -> list[Type] | None:
    """The types of the results, sizes that differ weighed by the condition; None where a choice is needed."""
    types: list[Type] = []
    for a, b in zip(bodies[0].tensors, bodies[1].tensors, strict=True):
        if a.dtype is not b.dtype:
            n.invalid("the branches' results differ in dtype", expected=a.dtype, actual=b.dtype)
        same = a.rank == b.rank
        sizes = [_either(x, y, condition) for x, y in zip(a.shape, b.shape, strict=False)] if same else [None]
        if any(s is None for s in sizes):
            if condition is None:
                n.unsupported(f"branches of different shapes, {list(map(str, a.shape))} and {list(map(str, b.shape))}")
            return None
        types.append(Type(a.dtype, tuple(s for s in sizes if s is not None)))
    return types


def _either(a: DimLike, b: DimLike, condition: DimLike | None) -> DimLike | None:
    if a == b:
        return a
    return None if condition is None else condition * a + (1 - condition) * b


def _node(n: Call, bodies: tuple[_Branch, _Branch], types: list[Type]) -> list[Tensor | Value]:
    then, otherwise = bodies
    n.body.hoist(then.body.assumptions, otherwise.body.assumptions, n.source)
    for branch in bodies:
        branch.shaped(types)
    captured = list(dict.fromkeys([*then.body.captured, *otherwise.body.captured]))
    condition = n.b.reshape(n.value(0), ())
    results = n.b.add(g.If(then.graph(captured), otherwise.graph(captured)), condition, *captured)
    return [_same_contents(a, b) or r for a, b, r in zip(then.tensors, otherwise.tensors, results, strict=True)]


def _same_contents(a: Tensor, b: Tensor) -> Tensor | None:
    """What both branches give, where it is known and the same."""
    x, y = a.contents, b.contents
    if x is None or y is None or x.shape != y.shape:
        return None
    return a if all(p == q for p, q in zip(x.reshape(-1), y.reshape(-1), strict=True)) else None

"""What the tests of rewrites share: a case is a rule and a graph it fires on; results stay what they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dtypes import F32, I64, DType
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.rewrite.rewriter import Rule, rewrite

Array = np.ndarray[Any, Any]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -3.4e38, 0.5]


class Model(Builder):
    """A builder with inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Value] = []

    def input(self, *shape: Any, dtype: DType = F32) -> Value:
        value = parameter(f"x{len(self.inputs)}", dtype, shape)
        self.inputs.append(value)
        return value

    def graph(self, *outputs: Value) -> Graph:
        symbols = {}
        for value in self.inputs:
            for n in value.shape:
                if not isinstance(n, int):
                    symbols[str(n)] = n
        return self.build(self.inputs, outputs, symbols=symbols)

    def weights(self, *shape: int, seed: int = 7, low: float = -1.0) -> Value:
        return self.constant(np.random.default_rng(seed).uniform(low, 1.5, shape).astype(np.float32))

    def channels(self, count: int, rank: int, axis: int, seed: int = 5) -> Value:
        """One constant in [0.5, 1.5) per channel, broadcastable."""
        values = np.random.default_rng(seed).uniform(0.5, 1.5, count).astype(np.float32)
        return self.constant(values.reshape([-1 if i == axis else 1 for i in range(rank)]))


@dataclass(frozen=True)
class Case:
    rule: Rule
    build: Callable[[Model], Value | tuple[Value, ...]]
    gone: tuple[type[g.Op], ...] = ()  # structures that nothing of is left
    tolerance: float = 0.0  # relative to the largest result
    special: bool = False  # infinities, NaN and -0.0 among the inputs
    dims: tuple[tuple[str, int], ...] = ()
    only: bool = True  # the rule alone, without those that clear up after it
    name: str = ""

    def __str__(self) -> str:
        return f"{self.rule.name}{self.name and '-' + self.name}"


def feeds(graph: Graph, *, special: bool = False, dims: Sequence[tuple[str, int]] = ()) -> list[Array]:
    """Random inputs; the first elements of floats are special values where asked."""
    from vitrify.ir.dims import evaluate

    rng = np.random.default_rng(3)
    arrays = []
    for value in graph.inputs:
        shape = tuple(evaluate(n, dict(dims)) for n in value.shape)
        if value.dtype.is_float:
            array = rng.standard_normal(shape).astype(value.dtype.numpy)
            if special:
                flat = array.reshape(-1)
                with np.errstate(over="ignore"):
                    flat[: len(SPECIAL)] = np.asarray(SPECIAL)[: flat.size].astype(array.dtype)
        elif value.dtype.is_bool:
            array = rng.random(shape) < 0.5
        else:
            array = rng.integers(0, 3 if value.dtype is I64 else 100, shape).astype(value.dtype.numpy)
        arrays.append(np.asarray(array))
    return arrays


def assert_same(before: Sequence[Array], after: Sequence[Array], tolerance: float = 0.0) -> None:
    """Every element; with tolerance 0 the same bits, but for the payload of NaN."""
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        if old.dtype.kind in "biu":
            np.testing.assert_array_equal(new, old)
            continue
        a, b = old.astype(np.float64), new.astype(np.float64)
        np.testing.assert_array_equal(np.isnan(b), np.isnan(a))
        if tolerance == 0:
            np.testing.assert_array_equal(np.where(np.isnan(b), 0, b), np.where(np.isnan(a), 0, a))
            np.testing.assert_array_equal(np.signbit(b) | np.isnan(b), np.signbit(a) | np.isnan(a))
        else:
            scale = np.max(np.abs(a[np.isfinite(a)]), initial=1e-30)
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * scale)


def check_rule(case: Case, clean: Sequence[Rule]) -> Graph:
    """Applies the rule (with ``clean`` after it unless it is to stand alone); gives the graph it leaves."""
    model = Model()
    outputs = case.build(model)
    graph = model.graph(*(outputs if isinstance(outputs, tuple) else (outputs,)))
    verify(graph)
    fired: Counter[str] = Counter()
    rules = [case.rule] if case.only else [case.rule, *clean]
    after = rewrite(graph, rules, fired)
    assert fired[case.rule.name] > 0, f"{case.rule.name} did not fire"
    verify(after)
    arrays = feeds(graph, special=case.special, dims=case.dims)
    assert_same(interpret(graph, arrays), interpret(after, arrays), case.tolerance)
    left = {type(n.op) for n in after.walk()}
    assert not left & set(case.gone), f"left: {left & set(case.gone)}"
    return after


def count(graph: Graph, structure: type[g.Op]) -> int:
    return sum(isinstance(n.op, structure) for n in graph.walk())

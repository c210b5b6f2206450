"""Random graphs over all structures, compiled at every level, against the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.compiler.harness import Array, assert_close, compile_graph
from tests.random_graphs import WELL_CONDITIONED, Case, random_graphs
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, FLOATS, I8, I32, I64, INTS, U8, DType, from_numpy
from vitrify.ir.interpret import interpret
from vitrify.ir.scalar import SCALAR

# Division by zero is an error of the run, and tested elsewhere.
WHOLE = tuple(
    n for n, row in SCALAR.items() if set(row.dtypes) & set(INTS) and n not in ("quotient", "floormod", "fmod")
)
# Where rounding errors do not become other numbers: no casts to integers, no comparisons of floats.
SMOOTH = tuple(n for n in WELL_CONDITIONED if n not in ("where",))

# Structures that make other numbers of a rounding error.
INEXACT = ("cast", "bitcast")


def run_all(case: Case, levels: Sequence[int], **options: Any) -> None:
    feeds = {v.name: a for v, a in zip(case.graph.inputs, case.feeds, strict=True)}
    wanted = interpret(case.graph, feeds)
    for level in levels:
        session = compile_graph(case.graph, level=level, **options)
        for _ in range(2):
            compare(case, session.run(None, feeds), wanted)


def compare(case: Case, got: list[Array], wanted: list[Array]) -> None:
    """Floats to a tolerance that the narrowest of them allows, at the size of the largest result."""
    narrow = [v.dtype for n in case.graph.walk() for v in (*n.inputs, *n.outputs) if v.dtype.is_float]
    mantissa = min((d.mantissa for d in narrow), default=52)
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        dtype = from_numpy(b.dtype)
        if not dtype.is_float:
            assert_close(a, b, what=f"y{i}")
            continue
        wide = b.astype(np.float64)
        largest = float(np.max(np.abs(wide[np.isfinite(wide)]), initial=1))
        assert_close(a, b, ulps=64 * 2.0 ** (dtype.mantissa - mantissa), scale=largest, what=f"y{i}: {case!r}"[:6000])


def graphs(
    dtypes: Sequence[DType],
    functions: Sequence[str],
    number: int,
    examples: int,
    act: Callable[[Case], None],
    *,
    exclude: Sequence[str] = (),
    nodes: int = 7,
) -> None:
    """``act`` on ``examples`` graphs that the seed ``number`` alone decides."""
    from tests.random_graphs import STRUCTURES

    structures = tuple(s for s in STRUCTURES if s not in exclude)

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(random_graphs(dtypes=dtypes, functions=functions, structures=structures, max_nodes=nodes))
    def run(case: Case) -> None:
        act(case)

    run()


@pytest.mark.parametrize("number", range(2))
def test_integers_are_exact(number: int) -> None:
    graphs((*INTS, BOOL), WHOLE, number, 10, lambda case: run_all(case, (0, 3)))


@pytest.mark.parametrize("number", range(2))
def test_floats(number: int) -> None:
    graphs((F32, F64), SMOOTH, number, 10, lambda case: run_all(case, (number, 3)), exclude=INEXACT)


def test_narrow_floats() -> None:
    graphs((F32, BF16, F16), SMOOTH, 1, 10, lambda case: run_all(case, (2,)), exclude=INEXACT)


def test_another_target() -> None:
    graphs((F32, I64, U8), SMOOTH, 5, 10, lambda case: run_all(case, (3,), target="x86-64-v3"), exclude=INEXACT)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10, 30))
@pytest.mark.parametrize(
    "dtypes", [(*INTS, BOOL), (F32, F64), (F32, I64, I32, I8)], ids=["integers", "floats", "mixed"]
)
def test_more(dtypes: tuple[DType, ...], number: int) -> None:
    exact = not set(dtypes) & set(FLOATS)
    levels = (number % 4,)
    exclude = () if exact else INEXACT
    graphs(
        dtypes, WHOLE if exact else SMOOTH, number, 15, lambda case: run_all(case, levels), exclude=exclude, nodes=12
    )

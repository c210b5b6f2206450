"""The dims algebra against Python's integers: every simplification, bound and proof on random values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir import dims as d
from vitrify.ir.dims import Dim, DimLike

N, M = Dim.symbol("n", 1), Dim.symbol("m", 0, 9)
A, B = Dim.symbol("a", -6, 7), Dim.symbol("b", 1, 12)
ROWS = d.ceildiv(N, 4)
EXTENTS: dict[str, DimLike] = {"i": N, "j": 5, "k": ROWS, "l": N * B}
INDICES = {name: Dim.index(name, extent) for name, extent in EXTENTS.items()}
SYMBOLS = {"n": N, "m": M, "a": A, "b": B, **INDICES}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, int]:
    """Values inside the bounds; indices inside their extents."""
    table = {
        "n": draw(st.integers(1, 13)),
        "m": draw(st.integers(0, 9)),
        "a": draw(st.integers(-6, 7)),
        "b": draw(st.integers(1, 12)),
    }
    for name, extent in EXTENTS.items():
        table[name] = draw(st.integers(0, d.evaluate(extent, table) - 1))
    return table


@dataclass(frozen=True)
class Pair:
    """An expression in normal form and as it was written."""

    dim: DimLike
    naive: str


def _leaf() -> st.SearchStrategy[Pair]:
    symbols = st.sampled_from(sorted(SYMBOLS)).map(lambda name: Pair(SYMBOLS[name], name))
    return symbols | st.integers(-9, 9).map(lambda c: Pair(c, f"({c})"))


POSITIVE = ["n", "b", "n*b", "n+m", "b*4", "n+b", "2*n-1"]


def _divisor() -> st.SearchStrategy[Pair]:
    constants = st.integers(1, 9) | st.sampled_from([-1, -2, -4])
    symbolic = st.sampled_from(POSITIVE).map(lambda text: Pair(d.parse(text, SYMBOLS), f"({text})"))
    return constants.map(lambda c: Pair(c, f"({c})")) | symbolic


def _grow(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def sums(x: Pair, y: Pair, sign: str) -> Pair:
        operation = {"+": lambda: x.dim + y.dim, "-": lambda: x.dim - y.dim, "*": lambda: x.dim * y.dim}
        return Pair(operation[sign](), f"({x.naive}{sign}{y.naive})")

    def divisions(x: Pair, y: Pair, kind: str) -> Pair:
        if kind == "ceil":
            return Pair(d.ceildiv(x.dim, y.dim), f"(-(-{x.naive}//{y.naive}))")
        return Pair(
            d.floordiv(x.dim, y.dim) if kind == "//" else d.mod(x.dim, y.dim), f"({x.naive}{kind}{y.naive})"
        )

    def extremes(x: Pair, y: Pair, kind: str) -> Pair:
        return Pair((d.minimum if kind == "min" else d.maximum)(x.dim, y.dim), f"{kind}({x.naive},{y.naive})")

    def rejoined(x: Pair, y: Pair) -> Pair:
        dim = d.floordiv(x.dim, y.dim) * y.dim + d.mod(x.dim, y.dim)
        return Pair(dim, f"(({x.naive}//{y.naive})*{y.naive}+{x.naive}%{y.naive})")

    return (
        st.builds(sums, inner, inner, st.sampled_from("+-*"))
        | st.builds(divisions, inner, _divisor(), st.sampled_from(["//", "%", "ceil"]))
        | st.builds(extremes, inner, inner, st.sampled_from(["min", "max"]))
        | st.builds(rejoined, inner, _divisor())
    )


EXPRESSIONS = st.recursive(_leaf(), _grow, max_leaves=7)


def _naive(pair: Pair, table: Mapping[str, int]) -> int:
    names: dict[str, Any] = {"min": min, "max": max, "__builtins__": {}, **table}
    return int(eval(pair.naive, names))


@settings(max_examples=600)
@given(EXPRESSIONS, st.lists(tables(), min_size=3, max_size=3))
def test_normal_form_keeps_the_value(pair: Pair, samples: list[dict[str, int]]) -> None:
    for table in samples:
        assert d.evaluate(pair.dim, table) == _naive(pair, table), (str(pair.dim), table)


@settings(max_examples=600)
@given(EXPRESSIONS, st.lists(tables(), min_size=3, max_size=3))
def test_bounds_hold(pair: Pair, samples: list[dict[str, int]]) -> None:
    low, high = d.lower(pair.dim), d.upper(pair.dim)
    for table in samples:
        value = _naive(pair, table)
        assert low is None or low <= value, (str(pair.dim), table)
        assert high is None or value <= high, (str(pair.dim), table)


@settings(max_examples=600)
@given(EXPRESSIONS, EXPRESSIONS, st.lists(tables(), min_size=4, max_size=4))
def test_proofs_are_never_wrong(x: Pair, y: Pair, samples: list[dict[str, int]]) -> None:
    nonnegative, less = d.provably_nonnegative(x.dim), d.provably_less(x.dim, y.dim)
    for table in samples:
        assert not nonnegative or _naive(x, table) >= 0, (str(x.dim), table)
        assert not less or _naive(x, table) < _naive(y, table), (str(x.dim), str(y.dim), table)


@settings(max_examples=600)
@given(EXPRESSIONS)
def test_text_parses_back(pair: Pair) -> None:
    assert d.parse(str(pair.dim), SYMBOLS) == pair.dim


@settings(max_examples=400)
@given(EXPRESSIONS, EXPRESSIONS, st.sampled_from(["i", "j", "a", "m"]), tables())
def test_substitution_is_evaluation_of_the_replacement(
    pair: Pair, replacement: Pair, name: str, table: dict[str, int]
) -> None:
    value = _naive(replacement, table)
    symbol = next(iter(d.symbols(SYMBOLS[name])))
    if value < symbol.lo or (symbol.hi is not None and value > symbol.hi):
        return  # outside its bounds a symbol promises nothing
    if isinstance(symbol.extent, Dim) and value >= d.evaluate(symbol.extent, table):
        return
    replaced = d.substitute(pair.dim, {name: replacement.dim})
    assert d.evaluate(replaced, table) == _naive(pair, {**table, name: value}), (str(pair.dim), table)


@settings(max_examples=300)
@given(EXPRESSIONS, EXPRESSIONS)
def test_ring_laws_give_equal_objects_without_divisions(x: Pair, y: Pair) -> None:
    if "%" in x.naive + y.naive or "//" in x.naive + y.naive:
        return  # pairs of quotient and remainder rejoin in the order in which they meet
    assert x.dim + y.dim == y.dim + x.dim
    assert x.dim * y.dim == y.dim * x.dim
    assert (x.dim + y.dim) - y.dim == x.dim
    assert hash(x.dim + y.dim) == hash(y.dim + x.dim)


SIMPLER: list[tuple[DimLike, DimLike]] = [
    ((N * 4) // N, 4),
    ((N * B + B) % B, 0),
    (d.floordiv(INDICES["j"], 5), 0),
    ((INDICES["i"] * B + Dim.index("t", B)) // B, INDICES["i"]),
    ((INDICES["i"] * B + Dim.index("t", B)) % B, Dim.index("t", B)),
    ((INDICES["i"] // 4) * 4 + INDICES["i"] % 4, INDICES["i"]),
    ((INDICES["i"] // 4) // 3, INDICES["i"] // 12),
    ((2 * N + 1) // 4, N // 2),
    ((6 * N) % 4, (N % 2) * 2),
    ((N + 8) % 8, N % 8),
    (d.minimum(N, N + M), N),
    (d.maximum(N, N + M), N + M),
    (d.ceildiv(8 * N, 8), N),
    (N - N, 0),
]


@pytest.mark.parametrize(("got", "expected"), SIMPLER, ids=[str(e) for _, e in SIMPLER])
def test_simplifies(got: DimLike, expected: DimLike) -> None:
    assert got == expected


TRUE: list[tuple[DimLike, DimLike]] = [
    (INDICES["i"], N),
    (INDICES["i"] * B + Dim.index("t", B), N * B),
    (INDICES["k"] * 4, N),
    (d.minimum(INDICES["k"] * 4 + Dim.index("t", 4), N - 1), N),
    (N % B, B),
    ((N // 4) * 4, N + 1),
    (N - 1 - (N // 4) * 4, 4),
    (-d.ceildiv(N, 8), 0),
    (-((7 * N) // 8), 1),
]


@pytest.mark.parametrize(("smaller", "larger"), TRUE, ids=[f"{a}<{b}" for a, b in TRUE])
def test_proves(smaller: DimLike, larger: DimLike) -> None:
    assert d.provably_less(smaller, larger)


def test_a_remainder_of_an_index_is_not_monotone() -> None:
    index = Dim.index("i", 4 * N + 1)
    assert not d.provably_nonnegative(2 - index % 4)
    assert not d.provably_nonnegative(-(index - d.floordiv(index, 2)))


@pytest.mark.parametrize(
    "text",
    ["", "n+", "n**2", "n/2", "q", "min(n)", "f(n,m)", "n//0", "n%0", "1.5", "True", "n if n else m", "n[0]"],
)
def test_ill_formed_text(text: str) -> None:
    with pytest.raises(ValueError, match="dim"):
        d.parse(text, SYMBOLS)


def test_the_truth_of_a_dim_is_refused() -> None:
    with pytest.raises(TypeError, match="provably_"):
        bool(N)

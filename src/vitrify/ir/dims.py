"""Symbolic integers: the sizes of tensors, and the positions inside them.

An expression is a polynomial over atoms (named symbols, floor divisions, remainders, minima, maxima)
in one normal form, so equal polynomials are equal objects. Symbols carry their bounds; a loop index
carries its extent, which may itself be symbolic. Floor division and remainder are Python's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Union

INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Symbol:
    """A named integer: ``lo <= symbol <= hi``, and ``symbol < extent`` when it is a loop index."""

    name: str
    lo: int = 0
    hi: int | None = None
    extent: DimLike | None = None


@dataclass(frozen=True)
class Compound:
    """``floordiv(a, b)``, ``mod(a, b)``, ``min(a, b)``, ``max(a, b)``."""

    kind: str
    args: tuple[DimLike, ...]


Atom = Union[Symbol, Compound]
Monomial = tuple[Atom, ...]  # sorted by text


@lru_cache(maxsize=65536)
def _atom_key(atom: Atom) -> str:
    return atom.name if isinstance(atom, Symbol) else f"{atom.kind}({','.join(map(str, atom.args))})"


def _order(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return (-len(monomial), tuple(_atom_key(a) for a in monomial))


class Dim:
    """A non-constant expression; constants are plain ``int`` (see :data:`DimLike`)."""

    __slots__ = ("_hash", "terms")
    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, terms: Iterable[tuple[Monomial, int]]) -> None:
        self.terms = tuple(terms)
        self._hash = hash(self.terms)

    @staticmethod
    def symbol(name: str, lo: int = 0, hi: int | None = None) -> Dim:
        return Dim([((Symbol(name, lo, hi),), 1)])

    @staticmethod
    def index(name: str, extent: DimLike) -> Dim:
        """A loop index: ``0 <= index < extent``."""
        hi = extent - 1 if isinstance(extent, int) else upper(extent)
        if isinstance(extent, Dim) and hi is not None:
            hi -= 1
        return Dim([((Symbol(name, 0, hi, extent),), 1)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: DimLike) -> DimLike:
        return _collect([*self.terms, *_terms(other)])

    def __neg__(self) -> DimLike:
        return _collect([(m, -c) for m, c in self.terms])

    def __sub__(self, other: DimLike) -> DimLike:
        return _collect([*self.terms, *((m, -c) for m, c in _terms(other))])

    def __rsub__(self, other: int) -> DimLike:
        return _collect([*_terms(other), *((m, -c) for m, c in self.terms)])

    def __mul__(self, other: DimLike) -> DimLike:
        product = [
            (tuple(sorted((*m, *n), key=_atom_key)), c * d) for m, c in self.terms for n, d in _terms(other)
        ]
        return _collect(product)

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return mod(self, other)

    def __rmod__(self, other: int) -> DimLike:
        return mod(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of the symbolic dim {self} is not known; compare it with provably_*")

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __str__(self) -> str:
        return _text(self)


DimLike = Union[int, Dim]
Shape = tuple[DimLike, ...]


def _terms(value: DimLike) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(value, Dim):
        return value.terms
    return (((), int(value)),) if value else ()


def _collect(terms: Iterable[tuple[Monomial, int]]) -> DimLike:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=lambda t: _order(t[0]))
    return Dim(kept)


def _compound(kind: str, *args: DimLike) -> Dim:
    return Dim([((Compound(kind, args),), 1)])


def constant_part(value: DimLike) -> int:
    return next((c for m, c in _terms(value) if not m), 0)


def _divide_monomial(monomial: Monomial, by: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in by:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _split(value: DimLike, divisor: DimLike) -> tuple[DimLike, DimLike]:
    """``(q, r)`` with ``value == q * divisor + r``, moving as much as possible into ``q``."""
    if isinstance(divisor, int):
        quotient = [(m, c // divisor) for m, c in _terms(value)]
        rest = [(m, c % divisor) for m, c in _terms(value)]
        return _collect(quotient), _collect(rest)
    lead, factor = divisor.terms[0]
    quotient_total: DimLike = 0
    rest_value: DimLike = value
    for monomial, coefficient in _terms(value):
        reduced = _divide_monomial(monomial, lead)
        if reduced is None or coefficient % factor:
            continue
        q = _collect([(reduced, coefficient // factor)])
        quotient_total = quotient_total + q
        rest_value = rest_value - q * divisor
    return quotient_total, rest_value


@lru_cache(maxsize=262144)
def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """``a // b``; b must be positive where it is symbolic."""
    if isinstance(b, int):
        if b == 0:
            raise ZeroDivisionError(f"{a} // 0")
        if isinstance(a, int):
            return a // b
        if b == 1:
            return a
        if b < 0:
            return floordiv(-a, -b)
    quotient, rest = _split(a, b)
    if provably_nonnegative(rest) and provably_less(rest, b):
        return quotient
    if isinstance(b, int):  # floor((g*x + c) / (g*h)) = floor((x + c // g) / h)
        folded = _cancel_common(rest, b)
        if folded is not None:
            return quotient + folded
        nested = _nested_division(rest, b)
        if nested is not None:
            return quotient + nested
    return quotient + _compound("floordiv", rest, b)


def _cancel_common(rest: DimLike, b: int) -> DimLike | None:
    from math import gcd

    coefficients = [c for m, c in _terms(rest) if m]
    common = gcd(b, *coefficients)
    if common == 1 or not coefficients:
        return None
    reduced = _collect([(m, c // common) for m, c in _terms(rest)])
    return floordiv(reduced, b // common)


def _nested_division(rest: DimLike, b: int) -> DimLike | None:
    """``(x // c) // b = x // (c * b)``."""
    if isinstance(rest, Dim) and len(rest.terms) == 1:
        monomial, coefficient = rest.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Compound):
            atom = monomial[0]
            if atom.kind == "floordiv" and isinstance(atom.args[1], int):
                return floordiv(atom.args[0], atom.args[1] * b)
    return None


@lru_cache(maxsize=262144)
def mod(a: DimLike, b: DimLike) -> DimLike:
    """``a % b`` with the sign of ``b``, which must be positive where it is symbolic."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if b == 1:
        return 0
    _, rest = _split(a, b)
    if isinstance(rest, int) and isinstance(b, int):
        return rest % b
    if provably_nonnegative(rest) and provably_less(rest, b):
        return rest
    return _compound("mod", rest, b)


def minimum(a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    if provably_nonnegative(b - a):
        return a
    if provably_nonnegative(a - b):
        return b
    return _compound("min", *sorted((a, b), key=str))


def maximum(a: DimLike, b: DimLike) -> DimLike:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if provably_nonnegative(a - b):
        return a
    if provably_nonnegative(b - a):
        return b
    return _compound("max", *sorted((a, b), key=str))


def ceildiv(a: DimLike, b: DimLike) -> DimLike:
    return -floordiv(-a, b)


def product(values: Iterable[DimLike]) -> DimLike:
    result: DimLike = 1
    for value in values:
        result = result * value
    return result


def _atom_bounds(atom: Atom) -> tuple[int | None, int | None]:
    if isinstance(atom, Symbol):
        return atom.lo, atom.hi
    low = [lower(a) for a in atom.args]
    high = [upper(a) for a in atom.args]
    if atom.kind == "mod":
        return 0, None if high[1] is None else high[1] - 1
    if atom.kind == "floordiv":
        divisor_lo, divisor_hi = low[1], high[1]
        lo = None
        if low[0] is not None:
            lo = low[0] // (divisor_lo or 1) if low[0] < 0 else (low[0] // divisor_hi if divisor_hi else 0)
        hi = None if high[0] is None else (high[0] // (divisor_lo or 1) if high[0] >= 0 else -1)
        return lo, hi
    if atom.kind == "min":
        known = [h for h in high if h is not None]
        return (None if None in low else min(v for v in low if v is not None)), min(known, default=None)
    known = [v for v in low if v is not None]
    return max(known, default=None), (None if None in high else max(v for v in high if v is not None))


def _bound(value: DimLike, want_upper: bool) -> int | None:
    total = 0
    for monomial, coefficient in _terms(value):
        lo: int | None = 1
        hi: int | None = 1
        for atom in monomial:
            atom_lo, atom_hi = _atom_bounds(atom)
            if atom_lo is None or atom_lo < 0 or lo is None:
                if len(monomial) > 1:
                    return None
                lo, hi = atom_lo, atom_hi
                continue
            lo *= atom_lo
            hi = None if hi is None or atom_hi is None else hi * atom_hi
        part = hi if (coefficient > 0) == want_upper else lo
        if part is None:
            return None
        total += coefficient * part
    return total


@lru_cache(maxsize=262144)
def lower(value: DimLike) -> int | None:
    """A constant lower bound, None where there is none."""
    return _bound(value, want_upper=False)


@lru_cache(maxsize=262144)
def upper(value: DimLike) -> int | None:
    """A constant upper bound, None where there is none."""
    return _bound(value, want_upper=True)


def _maximised(value: DimLike) -> DimLike:
    """``value`` with every loop index of symbolic extent at its end: at least ``value``."""
    indices = {a for m, c in _terms(value) if c > 0 for a in m if isinstance(a, Symbol) and isinstance(a.extent, Dim)}
    blocked = {a for m, c in _terms(value) if c < 0 for a in m if isinstance(a, Symbol)}
    table = {s.name: s.extent - 1 for s in indices - blocked if s.extent is not None}
    return substitute(value, table) if table else value


@lru_cache(maxsize=262144)
def provably_nonnegative(value: DimLike) -> bool:
    if isinstance(value, int):
        return value >= 0
    lo = lower(value)
    if lo is not None and lo >= 0:
        return True
    negated = _maximised(-value)
    if negated == -value:
        return False
    hi = upper(negated)
    return hi is not None and hi <= 0


def provably_less(a: DimLike, b: DimLike) -> bool:
    return provably_nonnegative(b - a - 1)


def symbols(value: DimLike) -> set[Symbol]:
    """Every symbol inside, those of compounds too."""
    found: set[Symbol] = set()
    for monomial, _ in _terms(value):
        for atom in monomial:
            if isinstance(atom, Symbol):
                found.add(atom)
            else:
                for arg in atom.args:
                    found |= symbols(arg)
    return found


_COMPOUND: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum,
}  # fmt: skip


def substitute(value: DimLike, table: Mapping[str, DimLike]) -> DimLike:
    """Symbols replaced by name, the result in normal form."""
    if isinstance(value, int):
        return value
    total: DimLike = 0
    for monomial, coefficient in value.terms:
        part: DimLike = coefficient
        for atom in monomial:
            if isinstance(atom, Symbol):
                part = part * table.get(atom.name, Dim([((atom,), 1)]))
            else:
                part = part * _COMPOUND[atom.kind](*(substitute(a, table) for a in atom.args))
        total = total + part
    return total


def evaluate(value: DimLike, table: Mapping[str, int]) -> int:
    """The value under ``table``; KeyError names a symbol that is missing."""
    if isinstance(value, int):
        return value
    total = 0
    for monomial, coefficient in value.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                coefficient *= table[atom.name]
            else:
                a, b = (evaluate(x, table) for x in atom.args)
                coefficient *= {"floordiv": lambda: a // b, "mod": lambda: a % b,
                                "min": lambda: min(a, b), "max": lambda: max(a, b)}[atom.kind]()  # fmt: skip
        total += coefficient
    return total


def _text(value: DimLike) -> str:
    parts: list[str] = []
    for monomial, coefficient in _terms(value):
        factors = [_atom_text(a) for a in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+" if parts else ""
        parts.append(sign + "*".join(factors))
    return "".join(parts) or "0"


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    a, b = (str(x) for x in atom.args)
    if atom.kind == "floordiv":
        return f"(({a})//({b}))"
    if atom.kind == "mod":
        return f"(({a})%({b}))"
    return f"{atom.kind}({a},{b})"


def parse(text: str, known: Mapping[str, Dim]) -> DimLike:
    """The expression that :class:`Dim` prints; ``known`` holds its symbols. ValueError when ill-formed."""
    try:
        return _from_ast(ast.parse(text.strip(), mode="eval").body, known)
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"not a dim expression: {text!r}") from error


_OPERATORS: dict[type[ast.operator], Callable[[DimLike, DimLike], DimLike]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: floordiv, ast.Mod: mod,
}  # fmt: skip


def _from_ast(node: ast.expr, known: Mapping[str, Dim]) -> DimLike:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise ValueError(f"unknown dim {node.id!r}")
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_from_ast(node.operand, known)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_from_ast(node.left, known), _from_ast(node.right, known))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        if node.func.id in ("min", "max") and not node.keywords:
            return _COMPOUND[node.func.id](*(_from_ast(a, known) for a in node.args))
    raise ValueError(f"not a dim expression: {ast.unparse(node)!r}")

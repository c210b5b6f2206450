"""Symbolic integers: the sizes of tensors, and the positions inside them.

An expression is a polynomial over atoms (named symbols, floor divisions, remainders, minima, maxima)
in one normal form, so equal polynomials are equal objects. Symbols carry their bounds; a loop index
carries its extent, which may itself be symbolic. Floor division and remainder are Python's.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, inf
from typing import Union

from vitrify.errors import InvalidModelError

INT64_MAX = 2**63 - 1
MAX_WEIGHT = 1000  # atoms and terms of one expression: those of real models have a few dozen


class TooManyTerms(InvalidModelError, OverflowError):
    """An expression that grew out of all proportion: each squaring doubles a polynomial's degree."""

    def __init__(self, weight: int) -> None:
        super().__init__("a size is too long an expression", expected=f"at most {MAX_WEIGHT} terms", actual=weight)


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


Atom = Symbol | Compound
Monomial = tuple[Atom, ...]  # sorted by text


@lru_cache(maxsize=65536)
def _atom_key(atom: Atom) -> str:
    return atom.name if isinstance(atom, Symbol) else f"{atom.kind}({','.join(map(str, atom.args))})"


def _weight(monomial: Monomial) -> int:
    args = (arg for atom in monomial if isinstance(atom, Compound) for arg in atom.args)
    return 1 + len(monomial) + sum(arg.weight for arg in args if isinstance(arg, Dim))


def _order(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return (-len(monomial), tuple(_atom_key(a) for a in monomial))


class Dim:
    """A non-constant expression; constants are plain ``int`` (see :data:`DimLike`)."""

    __slots__ = ("_hash", "terms", "weight")
    terms: tuple[tuple[Monomial, int], ...]
    weight: int

    def __init__(self, terms: Iterable[tuple[Monomial, int]]) -> None:
        self.terms = tuple(terms)
        self.weight = sum(_weight(monomial) for monomial, _ in self.terms)
        if self.weight > MAX_WEIGHT:
            raise TooManyTerms(self.weight)
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
        if isinstance(other, Dim) and len(self.terms) * len(other.terms) > 4 * MAX_WEIGHT:  # before like terms meet
            raise TooManyTerms(len(self.terms) * len(other.terms))
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
    rejoined = _rejoined(total) if len(kept) > 1 else None
    if rejoined is not None:
        return rejoined
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    if len(kept) > 1:
        kept.sort(key=lambda t: _order(t[0]))
    return Dim(kept)


def _rejoined(total: Mapping[Monomial, int]) -> DimLike | None:
    """``c * b * (x // b) + c * (x % b)`` as ``c * x``, None where there is no such pair."""
    for monomial, coefficient in total.items():
        for i, atom in enumerate(monomial):
            if not coefficient or not isinstance(atom, Compound) or atom.kind != "mod":
                continue
            x, b = atom.args
            others = (*monomial[:i], *monomial[i + 1 :])
            quotient = tuple(sorted((*others, Compound("floordiv", (x, b))), key=_atom_key))
            if isinstance(b, int) and total.get(quotient) == coefficient * b:
                rest = [(m, c) for m, c in total.items() if m not in (monomial, quotient)]
                joined = Dim([(others, coefficient)]) * x if others else x * coefficient
                return _collect([*rest, *_terms(joined)])
    return None


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
        parts = [(m, *_quotient(c, divisor, bool(m))) for m, c in _terms(value)]
        return _collect([(m, q) for m, q, _ in parts]), _collect([(m, r) for m, _, r in parts])
    lead, factor = divisor.terms[0]
    quotient: DimLike = 0
    rest: DimLike = value
    for _ in range(16):  # division of polynomials; each round lowers the leading terms
        step: DimLike = 0
        for monomial, coefficient in _terms(rest):
            reduced = _divide_monomial(monomial, lead)
            if reduced is not None and coefficient % factor == 0:
                step = step + _collect([(reduced, coefficient // factor)])
        if step == 0:
            break
        quotient, rest = quotient + step, rest - step * divisor
    return quotient, rest


def _quotient(coefficient: int, divisor: int, symbolic: bool) -> tuple[int, int]:
    """Remainders are in ``0 .. divisor - 1``, but -1 for a symbol's last one: ``-n // 8`` stays as it is."""
    quotient, rest = divmod(coefficient, divisor)
    return (quotient + 1, -1) if symbolic and divisor > 2 and rest == divisor - 1 else (quotient, rest)


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
    if rest == 0 or (provably_nonnegative(rest) and provably_less(rest, b)):
        return quotient
    if isinstance(b, int):
        common = _common_factor(rest, b)
        if common > 1:  # floor((g*x + c) / (g*h)) = floor((x + c // g) / h)
            reduced = _collect([(m, c // common) for m, c in _terms(rest)])
            return quotient + floordiv(reduced, b // common)
        nested = _nested_division(rest, b)
        if nested is not None:
            return quotient + nested
    return quotient + _compound("floordiv", rest, b)


def _common_factor(value: DimLike, b: int) -> int:
    """The greatest factor of ``b`` and of all coefficients of symbols; 1 where there are none."""
    coefficients = [c for m, c in _terms(value) if m]
    return gcd(b, *coefficients) if coefficients else 1


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
    if isinstance(b, int):
        if b == 0:
            raise ZeroDivisionError(f"{a} % 0")
        if b < 0:
            return -mod(-a, -b)
        if isinstance(a, int):
            return a % b
        if b == 1:
            return 0
    _, rest = _split(a, b)
    if rest == 0 or (provably_nonnegative(rest) and provably_less(rest, b)):
        return rest
    if isinstance(b, int):
        common = _common_factor(rest, b)
        if common > 1:  # (g*x + c) % (g*h) = g * ((x + c // g) % h) + c % g
            reduced = _collect([(m, c // common) for m, c in _terms(rest)])
            return mod(reduced, b // common) * common + constant_part(rest) % common
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
    """``a / b`` rounded up; b must be positive where it is symbolic."""
    if isinstance(b, int) and b < 0:
        return ceildiv(-a, -b)
    return floordiv(a + b - 1, b)


def product(values: Iterable[DimLike]) -> DimLike:
    result: DimLike = 1
    for value in values:
        result = result * value
    return result


Interval = tuple[float | int, float | int]  # exact integers, or an infinity


def _interval(value: DimLike) -> Interval:
    low: float | int = 0
    high: float | int = 0
    for monomial, coefficient in _terms(value):
        part: Interval = (coefficient, coefficient)
        for atom in monomial:
            part = _times(part, _atom_interval(atom))
        low, high = low + part[0], high + part[1]
    return low, high


def _times(a: Interval, b: Interval) -> Interval:
    corners = [x * y if x and y else 0 for x in a for y in b]  # 0 times an infinity is 0 here
    return min(corners), max(corners)


@lru_cache(maxsize=262144)
def _atom_interval(atom: Atom) -> Interval:
    if isinstance(atom, Symbol):
        return atom.lo, inf if atom.hi is None else atom.hi
    a, b = (_interval(x) for x in atom.args)
    if atom.kind == "min":
        return min(a[0], b[0]), min(a[1], b[1])
    if atom.kind == "max":
        return max(a[0], b[0]), max(a[1], b[1])
    divisor = max(b[0], 1), max(b[1], 1)
    if atom.kind == "mod":
        return 0, min(a[1], divisor[1] - 1) if a[0] >= 0 else divisor[1] - 1
    quotients = [_floor(x, d) for x in a for d in divisor]
    return min(quotients), max(quotients)


def _floor(x: float | int, divisor: float | int) -> float | int:
    if x in (inf, -inf):
        return x
    return (0 if x >= 0 else -1) if divisor == inf else x // divisor


@lru_cache(maxsize=262144)
def lower(value: DimLike) -> int | None:
    """A constant lower bound, None where there is none."""
    bound = _interval(value)[0]
    return bound if isinstance(bound, int) else None


@lru_cache(maxsize=262144)
def upper(value: DimLike) -> int | None:
    """A constant upper bound, None where there is none."""
    bound = _interval(value)[1]
    return bound if isinstance(bound, int) else None


_DEPTH = 6  # rewrites that one proof may chain


@lru_cache(maxsize=262144)
def provably_nonnegative(value: DimLike) -> bool:
    """Whether ``value >= 0`` follows from the bounds of its symbols; False where that is not found."""
    return value >= 0 if isinstance(value, int) else _prove(value, _DEPTH)


def _prove(value: DimLike, depth: int) -> bool:
    """``value >= 0``, by an expression that is at most ``value`` where its own interval is not enough."""
    if isinstance(value, int):
        return value >= 0
    if _interval(value)[0] >= 0:
        return True
    if depth == 0:
        return False
    for atom in dict.fromkeys(a for m, _ in value.terms for a in m):
        if isinstance(atom, Symbol):
            simpler = _at_least_end(value, atom)
        elif atom.kind in ("min", "max"):
            simpler = None
            parts = _linear(value, atom)
            if parts is not None:  # the atom is one of its arguments, and no more (min) or no less than both
                bounded_by_each = _sign(parts[0]) == (-1 if atom.kind == "min" else 1)
                cases = (_prove(parts[0] * x + parts[1], depth - 1) for x in atom.args)
                return any(cases) if bounded_by_each else all(cases)
        else:
            simpler = _without(value, atom)
        if simpler is not None:
            return _prove(simpler, depth - 1)
    shifted = _from_zero(value)
    return shifted is not None and _interval(shifted)[0] >= 0


def _linear(value: Dim, atom: Atom) -> tuple[DimLike, DimLike] | None:
    """``(c, r)`` with ``value == c * atom + r``, both free of the atom; None where there are none."""
    factor: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    for monomial, coefficient in value.terms:
        reduced = _divide_monomial(monomial, (atom,))
        (rest if reduced is None else factor).append((monomial if reduced is None else reduced, coefficient))
    c, r = _collect(factor), _collect(rest)
    return None if any(_mentions(part, atom) for part in (c, r)) else (c, r)


def _mentions(value: DimLike, atom: Atom) -> bool:
    return any(
        a == atom or (isinstance(a, Compound) and any(_mentions(x, atom) for x in a.args))
        for m, _ in _terms(value)
        for a in m
    )


def _sign(value: DimLike) -> int:
    low, high = _interval(value)
    return 1 if low >= 0 else -1 if high <= 0 else 0


def _at_least_end(value: Dim, index: Symbol) -> DimLike | None:
    """``value`` with a loop index of symbolic extent at the end where it is least."""
    parts = _linear(value, index) if isinstance(index.extent, Dim) else None
    sign = _sign(parts[0]) if parts is not None else 0
    if parts is None or index.extent is None or sign == 0:
        return None
    return parts[1] if sign > 0 else parts[1] + parts[0] * (index.extent - 1)


def _without(value: Dim, atom: Compound) -> DimLike | None:
    """An expression that is nonnegative only where ``value`` is, free of this quotient or remainder.

    ``b * (x // b) = x - x % b`` with ``0 <= x % b < b``; and ``value >= 0`` if ``b * value > -b``.
    """
    parts = _linear(value, atom)
    sign = _sign(parts[0]) if parts is not None else 0
    if parts is None or sign == 0:
        return None
    c, rest = parts
    x, b = atom.args
    if atom.kind == "mod":
        return rest + (c * (b - 1) if sign < 0 else 0)
    return b * rest + c * x - (c * (b - 1) if sign > 0 else 0) + b - 1


def _from_zero(value: Dim) -> DimLike | None:
    """Symbols written as their lower bound plus a nonnegative rest: ``n*m - n`` shows its sign so."""
    raised = {a for m, _ in value.terms for a in m if isinstance(a, Symbol) and a.lo != 0}
    if not raised:
        return None
    table = {s: Dim.symbol(s.name + "'", 0, None if s.hi is None else s.hi - s.lo) + s.lo for s in raised}
    total: DimLike = 0
    for monomial, coefficient in value.terms:
        part: DimLike = coefficient
        for atom in monomial:
            known = table.get(atom) if isinstance(atom, Symbol) else None
            part = part * (Dim([((atom,), 1)]) if known is None else known)
        total = total + part
    return total


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


_ON_INTEGERS: dict[str, Callable[[int, int], int]] = {
    "floordiv": operator.floordiv, "mod": operator.mod, "min": min, "max": max,
}  # fmt: skip


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
                coefficient *= _ON_INTEGERS[atom.kind](*(evaluate(x, table) for x in atom.args))
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
    except (SyntaxError, RecursionError, MemoryError, ZeroDivisionError) as error:
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

"""Named dims during an import: declared, made equal where types demand it, and chosen between.

Two named sizes that an op needs equal become one symbol, and a size that must lie inside another gets a
bound. That changes values already built, so the import starts again with the substitution made
(:class:`Substitute`, :class:`Bound`). A condition on shapes that decides between results of different types
is first taken as true, then, when the rest of the import fails, as false (:class:`Choices`).
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vitrify.errors import InvalidModelError
from vitrify.ir.dims import (
    Compound,
    Dim,
    DimLike,
    Symbol,
    constant_part,
    lower,
    maximum,
    minimum,
    provably_nonnegative,
    substitute,
    symbols,
    upper,
)

SymbolState = tuple[dict[str, DimLike], dict[str, tuple[int, int | None]]]


class Substitute(Exception):
    """The import must start again with ``name`` replaced by ``value``."""

    def __init__(self, name: str, value: DimLike) -> None:
        super().__init__(f"{name} := {value}")
        self.name = name
        self.value = value


class Bound(Exception):
    """The import must start again with ``low <= name <= high``."""

    def __init__(self, name: str, low: int, high: int | None) -> None:
        super().__init__(f"{low} <= {name} <= {high}")
        self.name = name
        self.low = low
        self.high = high


def bare_symbol(value: DimLike) -> Symbol | None:
    """The symbol, where the expression is that alone."""
    if isinstance(value, Dim) and len(value.terms) == 1:
        monomial, coefficient = value.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def _only_compound(value: DimLike) -> Compound | None:
    if isinstance(value, Dim) and len(value.terms) == 1:
        monomial, coefficient = value.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Compound):
            return monomial[0]
    return None


class SymbolTable:
    """The symbols of one import; substitutions outlive its attempts."""

    def __init__(self, overrides: Mapping[str, int], *, sizes_given: bool = False) -> None:
        self.sizes_given = sizes_given or bool(overrides)  # the caller's sizes, which may rule out a branch
        self.overrides = dict(overrides)
        self.unused_overrides = set(overrides)
        self.substitutions: dict[str, DimLike] = {}
        self._bounds: dict[str, tuple[int, int | None]] = {}
        self._named: set[str] = set()
        self._names: dict[tuple[str, bool], str] = {}
        self._taken: set[str] = set()
        self._order: list[str] = []
        self._counter = 0
        self.equalities: dict[Dim, tuple[DimLike, DimLike]] = {}

    def begin(self) -> None:
        """A new attempt; run-time dims are numbered afresh."""
        self._counter = 0
        self.equalities.clear()

    def named(self, text: str) -> DimLike:
        """The size that the model or the caller calls ``text``."""
        if text in self.overrides:
            self.unused_overrides.discard(text)
            return self.overrides[text]
        return self._declare(text, named=True)

    def fresh(self, text: str) -> DimLike:
        """A size without a name, called after its input."""
        if text in self.overrides:
            self.unused_overrides.discard(text)
            return self.overrides[text]
        return self._declare(text, named=False)

    def open_dims(self) -> list[str]:
        """Names of the inputs' sizes that nothing has fixed yet, as the model has them."""
        return sorted(text for (text, _), name in self._names.items() if name not in self.substitutions)

    def run_time(self, hint: str) -> Dim:
        """A symbol that a node binds."""
        self._counter += 1
        return Dim.symbol(f"{_identifier(hint)}_dim{self._counter}")

    def state(self) -> SymbolState:
        return dict(self.substitutions), dict(self._bounds)

    def restore(self, state: SymbolState) -> None:
        self.substitutions, self._bounds = dict(state[0]), dict(state[1])

    def _declare(self, text: str, *, named: bool) -> DimLike:
        key = (text, named)
        if key not in self._names:
            name, base, n = _identifier(text), _identifier(text), 1
            while name in self._taken:
                n += 1
                name = f"{base}_{n}"
            self._taken.add(name)
            self._names[key] = name
            self._order.append(name)
            if named:
                self._named.add(name)
        name = self._names[key]
        if name in self.substitutions:
            return substitute(self.substitutions[name], {n: Dim.symbol(n, *b) for n, b in self._bounds.items()})
        return Dim.symbol(name, *self._bounds.get(name, (0, None)))

    def declared(self, name: str) -> bool:
        """Whether an input shows this symbol, so that it may be replaced everywhere."""
        return name in self._taken and name not in self.substitutions

    def replace(self, change: Substitute) -> None:
        table = {change.name: change.value}
        other = bare_symbol(change.value)
        if change.name in self._bounds and other is not None:
            self.restrict(Bound(other.name, *self._bounds[change.name]))
        self.substitutions = {k: substitute(v, table) for k, v in self.substitutions.items()}
        self.substitutions[change.name] = change.value

    def restrict(self, change: Bound) -> None:
        low, high = self._bounds.get(change.name, (0, None))
        highs = [h for h in (high, change.high) if h is not None]
        self._bounds[change.name] = (max(low, change.low), min(highs, default=None))
        if highs and min(highs) < max(low, change.low):
            raise InvalidModelError(f"no size {change.name!r} fits", expected=str(change), actual=f"{low} .. {high}")

    def bound(self, a: DimLike, b: DimLike) -> Bound | None:
        """The bound of an input's symbol that ``a == b`` says.

        One side is then the minimum or maximum of the other and something else.
        """
        for whole, part in ((a, b), (b, a)):
            atom = _only_compound(whole)
            if atom is None or atom.kind not in ("min", "max") or part not in atom.args:
                continue
            other = atom.args[1] if atom.args[0] == part else atom.args[0]
            room = other - part if atom.kind == "min" else part - other  # must be >= 0
            return self._linear_bound(room)
        return None

    def _linear_bound(self, room: DimLike) -> Bound | None:
        constant = constant_part(room)
        symbol = bare_symbol(room - constant)
        if symbol is not None and self.declared(symbol.name) and symbol.lo < -constant:
            return Bound(symbol.name, -constant, symbol.hi)
        symbol = bare_symbol(constant - room)
        if symbol is not None and self.declared(symbol.name) and (symbol.hi is None or symbol.hi > constant):
            return Bound(symbol.name, symbol.lo, constant)
        return None

    def oriented(self, a: DimLike, b: DimLike) -> tuple[DimLike, DimLike]:
        """The pair as (what is replaced, by what).

        Constants are never replaced, names the user gave rather not, older symbols less than younger ones.
        """
        return (b, a) if self._weight(a) > self._weight(b) else (a, b)

    def _weight(self, value: DimLike) -> tuple[int, int, int]:
        if isinstance(value, int):
            return (3, 0, 0)
        symbol = bare_symbol(value)
        if symbol is None or not self.declared(symbol.name):
            return (2, 0, -len(value.terms))
        return (1 if symbol.name in self._named else 0, -self._order.index(symbol.name), 0)

    def replaceable(self, a: DimLike, b: DimLike) -> Substitute | None:
        """The substitution that makes ``a`` equal ``b``: ``a`` is an input's symbol, ``b`` made of others."""
        symbol = bare_symbol(a)
        if symbol is None or not self.declared(symbol.name):
            return None
        inside = symbols(b)
        if symbol in inside or not all(self.declared(s.name) for s in inside):
            return None
        if isinstance(b, int) and b < 0:
            return None
        return Substitute(symbol.name, b)

    # Truth values are the integers 0 and 1, so that conditions on sizes stay sizes.
    def equal(self, a: DimLike, b: DimLike) -> DimLike:
        difference = a - b
        if isinstance(difference, int):
            return int(difference == 0)
        low, high = lower(difference), upper(difference)
        if (low is not None and low > 0) or (high is not None and high < 0):
            return 0
        differs = minimum(1, maximum(difference, -difference))
        truth = 1 - differs
        if isinstance(truth, Dim):
            self.equalities[truth] = (a, b)
        return truth

    def equality(self, truth: DimLike, value: bool) -> tuple[DimLike, DimLike] | None:
        """The sizes that are equal when the condition ``truth`` has this value."""
        condition = truth if value else 1 - truth
        return self.equalities.get(condition) if isinstance(condition, Dim) else None


def less(a: DimLike, b: DimLike) -> DimLike:
    """1 where ``a < b``, else 0."""
    difference = b - a
    if provably_nonnegative(difference - 1):
        return 1
    if provably_nonnegative(-difference):
        return 0
    return minimum(1, maximum(0, difference))


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", str(text)) or "dim"  # names that are not UTF-8 come as bytes
    if not name.isascii():
        name = "".join(c if c.isascii() else f"u{ord(c):x}" for c in name)
    if name[0].isdigit():
        name = f"_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in ("min", "max") else name


@dataclass
class Choice:
    path: str
    value: bool
    before: SymbolState
    flipped: bool = False


class Choices:
    """What each undecided condition on shapes was taken to be, in the order they were met."""

    def __init__(self) -> None:
        self._taken: list[Choice] = []
        self.first_error: InvalidModelError | None = None

    def choose(self, path: str, symbols: SymbolTable) -> bool:
        self._taken.append(Choice(path, True, symbols.state()))
        return True

    def known(self, path: str) -> bool | None:
        return next((c.value for c in self._taken if c.path == path), None)

    def flip(self, error: InvalidModelError, symbols: SymbolTable) -> bool:
        """Takes the last choice that can still be changed the other way, and what followed from it back.

        False where there is none.
        """
        self.first_error = self.first_error or error
        while self._taken and self._taken[-1].flipped:
            self._taken.pop()
        if not self._taken:
            return False
        self._taken[-1].value = not self._taken[-1].value
        self._taken[-1].flipped = True
        symbols.restore(self._taken[-1].before)
        return True

"""C text of symbolic integers, in int64."""

from __future__ import annotations

from vitrify.ir.dims import Atom, Dim, DimLike, Symbol, provably_nonnegative


def position(value: DimLike) -> str:
    """An int64 expression. Division of what may be negative goes through vt_floordiv and vt_floormod."""
    if isinstance(value, int):
        return str(value) if abs(value) < 2**31 else f"INT64_C({value})"
    text = ""
    for monomial, coefficient in _positive_first(value):
        factors = [_atom(a) for a in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.append(position(abs(coefficient)))
        sign = " - " if coefficient < 0 else " + "
        text += (sign if text else sign.strip().replace("+", "")) + " * ".join(factors)
    return f"({text})" if len(value.terms) > 1 else text


def _positive_first(value: Dim) -> list[tuple[tuple[Atom, ...], int]]:
    return sorted(value.terms, key=lambda t: t[1] < 0)


def _atom(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    a, b = (position(x) for x in atom.args)
    if atom.kind in ("floordiv", "mod"):
        if provably_nonnegative(atom.args[0]):
            return f"({a} {'/' if atom.kind == 'floordiv' else '%'} {b})"
        return f"vt_{'floordiv' if atom.kind == 'floordiv' else 'floormod'}({a}, {b})"
    return f"vt_{atom.kind}({a}, {b})"


PRELUDE = """\
static inline int64_t vt_floordiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
static inline int64_t vt_floormod(int64_t a, int64_t b) { return a - vt_floordiv(a, b) * b; }
static inline int64_t vt_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t vt_max(int64_t a, int64_t b) { return a > b ? a : b; }
"""

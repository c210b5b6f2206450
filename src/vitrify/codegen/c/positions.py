"""C text of symbolic integers, in int64."""

from __future__ import annotations

from vitrify.ir.dims import INT64_MAX, Atom, Dim, DimLike, Symbol, provably_nonnegative


def position(value: DimLike) -> str:
    """An int64 expression. Division of what may be negative goes through vt_floordiv and vt_floormod."""
    if isinstance(value, int):
        # A factor beyond int64 only multiplies 0: checks in floating point come before.
        return str(value) if abs(value) < 2**31 else f"INT64_C({max(min(value, INT64_MAX), -INT64_MAX)})"
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
            b = f"({b})" if " * " in b else b
            return f"({a} {'/' if atom.kind == 'floordiv' else '%'} {b})"
        return f"vt_{'floordiv' if atom.kind == 'floordiv' else 'floormod'}({a}, {b})"
    return f"vt_{atom.kind}({a}, {b})"


def real(value: DimLike) -> str:
    """The same in double, in which nothing overflows: quotients not rounded, remainders by their bound."""
    if isinstance(value, int):
        return f"{float(value)!r}" if abs(value) < 2**1000 else "1e300"
    terms = [" * ".join([real(c), *map(_real_atom, m)]) for m, c in value.terms]
    return f"({' + '.join(terms)})"


def _real_atom(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return f"(double){atom.name}"
    a, b = (real(x) for x in atom.args)
    if atom.kind == "floordiv":
        return f"({a} / {b})"
    return f"vt_real_{'max' if atom.kind == 'max' else 'min'}({a}, {b})"


PRELUDE = """\
static inline int64_t vt_floordiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
static inline int64_t vt_floormod(int64_t a, int64_t b) { return a - vt_floordiv(a, b) * b; }
static inline int64_t vt_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t vt_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline double vt_real_min(double a, double b) { return a < b ? a : b; }
static inline double vt_real_max(double a, double b) { return a > b ? a : b; }
"""

"""The scalar functions: one row each, all that is known about it.

``reference`` is NumPy on arrays of one dtype. ``c`` is the expression a C back end prints, with ``{0}``,
``{1}``, ``{2}`` for the arguments; ``vt_NAME`` alone means a call of our vector math. The operators work
on scalars and on vectors alike. ``ulp`` bounds the error of the compiled form against the exact result
(0: exact or correctly rounded); ``derivative`` is written in ``x``, ``y`` (arguments) and ``r`` (result).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from vitrify.ir.dtypes import BOOL, DTYPES, FLOATS, INTS, NUMBERS, DType

Array = np.ndarray[Any, Any]
Reference = Callable[..., Any]


@dataclass(frozen=True)
class ScalarFunction:
    name: str
    arity: int
    dtypes: tuple[DType, ...]  # of the arguments (for `where`: of the last two)
    predicate: bool  # the result is bool
    reference: Reference
    c_float: str
    c_int: str
    ulp: float = 0.0
    derivative: str | None = None
    commutative: bool = False
    associative: bool = False
    cost: int = 1  # vector instructions, roughly

    def result(self, dtypes: tuple[DType, ...]) -> DType:
        """The result's dtype. TypeError when the arguments' dtypes do not fit the row."""
        if len(dtypes) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} arguments, got {len(dtypes)}")
        values = dtypes[1:] if self.name == "where" else dtypes
        if self.name == "where" and dtypes[0] is not BOOL:
            raise TypeError(f"where takes a bool condition, got {dtypes[0]}")
        if any(d is not values[0] for d in values):
            raise TypeError(f"{self.name} takes arguments of one dtype, got {', '.join(map(str, dtypes))}")
        if values[0] not in self.dtypes:
            raise TypeError(f"{self.name} is not defined on {values[0]}")
        return BOOL if self.predicate else values[0]


SCALAR: dict[str, ScalarFunction] = {}
_LOGIC = (BOOL, *INTS)


def _row(
    name: str,
    arity: int,
    dtypes: tuple[DType, ...],
    reference: Reference,
    c_float: str = "",
    c_int: str = "",
    **facts: Any,
) -> None:
    predicate = facts.pop("predicate", False)
    c_int = c_int or c_float
    SCALAR[name] = ScalarFunction(name, arity, dtypes, predicate, reference, c_float, c_int, **facts)


def _math(name: str, reference: Reference, ulp: float, cost: int, derivative: str | None = None) -> None:
    _row(name, 1, FLOATS, reference, f"vt_{name}", ulp=ulp, cost=cost, derivative=derivative)


_erf64 = np.vectorize(math.erf, otypes=[np.float64])
_erfc64 = np.vectorize(math.erfc, otypes=[np.float64])


def _erf(x: Array) -> Array:
    return np.asarray(_erf64(x), x.dtype)


def _sigmoid64(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(_sigmoid64(np.asarray(x, np.float64)), x.dtype)


def _times(x: Array, factor: Array, dtype: np.dtype[Any]) -> Array:
    """``x * factor``, the limit -0.0 where ``x`` is -inf and the factor 0."""
    return np.asarray(np.where(x == -np.inf, -0.0, x * factor), dtype)


def _silu(x: Array) -> Array:
    wide = np.asarray(x, np.float64)
    return _times(wide, _sigmoid64(wide), x.dtype)


def _gelu(x: Array) -> Array:
    """``erfc`` keeps the digits that ``1 + erf`` loses where the result is small."""
    wide = np.asarray(x, np.float64)
    return _times(wide, 0.5 * _erfc64(wide * -np.sqrt(0.5)), x.dtype)


def _gelu_tanh(x: Array) -> Array:
    """``(1 + tanh(u)) / 2 = sigmoid(2u)``."""
    wide = np.asarray(x, np.float64)
    return _times(wide, _sigmoid64(np.sqrt(8 / np.pi) * (wide + 0.044715 * wide**3)), x.dtype)


def _fma(x: Array, y: Array, z: Array) -> Array:
    """Rounded once: through f64, and exactly by rationals for f64 itself."""
    if x.dtype != np.float64:
        return np.asarray(np.asarray(x, np.float64) * y + z, x.dtype)
    return np.asarray(_fma64(x, y, z), np.float64)


def _exact_fma(x: float, y: float, z: float) -> float:
    if not all(map(math.isfinite, (x, y, z))):
        return x * y + z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    try:
        return float(exact) if exact else x * y + z  # the sum of floats knows the sign of a zero
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_fma64 = np.vectorize(_exact_fma, otypes=[np.float64])


def _quotient(x: Array, y: Array) -> Array:
    """Truncated; 0 where ``y`` is 0, and the least value over -1 wraps to itself."""
    if np.issubdtype(x.dtype, np.unsignedinteger):
        return np.asarray(x // y)
    quotient = x // y
    return np.asarray(quotient + ((x % y != 0) & ((x < 0) != (y < 0))), x.dtype)


def _power(x: Array, y: Array) -> Array:
    """Integers wrap, and truncate toward zero where the exponent is negative (0 to such a power is 0)."""
    if not np.issubdtype(x.dtype, np.integer):
        return np.asarray(np.power(x, y))
    odd = np.asarray(y) % 2 != 0
    fraction = np.where(x == 1, 1, np.where(x == x.dtype.type(0) - 1, np.where(odd, x, 1), 0))
    return np.asarray(np.where(y < 0, fraction, np.power(x, np.maximum(y, 0))), x.dtype)


# Arithmetic. Integers wrap; division of integers truncates, as C and ONNX have it.
_row("add", 2, NUMBERS, np.add, "({0} + {1})", commutative=True, associative=True, derivative="1, 1")
_row("sub", 2, NUMBERS, np.subtract, "({0} - {1})", derivative="1, -1")
_row("mul", 2, NUMBERS, np.multiply, "({0} * {1})", commutative=True, associative=True, derivative="y, x")
_row("div", 2, FLOATS, np.divide, "({0} / {1})", cost=4, derivative="1/y, -r/y")
_row("exact_div", 2, FLOATS, np.divide, "({0} / {1})", cost=4)  # no rule makes it a product: its rounding decides
_row("quotient", 2, INTS, _quotient, "({0} / {1})", cost=20)
_row("fma", 3, FLOATS, _fma, "vt_fma", derivative="y, x, 1")
_row("neg", 1, NUMBERS, np.negative, "(-{0})", derivative="-1")
_row("abs", 1, NUMBERS, np.abs, "vt_abs", derivative="sign(x)")
_row("sign", 1, NUMBERS, np.sign, "vt_sign", derivative="0")
_row("min", 2, (*NUMBERS, BOOL), np.minimum, "vt_min", commutative=True, associative=True)
_row("max", 2, (*NUMBERS, BOOL), np.maximum, "vt_max", commutative=True, associative=True)
_row("relu", 1, NUMBERS, lambda x: np.maximum(x, x.dtype.type(0)), "vt_relu", derivative="x > 0")
_row("floormod", 2, INTS, np.remainder, "vt_floormod", cost=20)
_row("fmod", 2, NUMBERS, np.fmod, "vt_fmod", "({0} % {1})", cost=20)
_row("pow", 2, NUMBERS, _power, "vt_pow", "vt_ipow", ulp=2, cost=60, derivative="y*r/x, log(x)*r")
_row("atan2", 2, FLOATS, np.arctan2, "vt_atan2", ulp=4, cost=30)

# Rounding.
_ROUNDING: dict[str, Reference] = {"floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc}
for _name, _reference in _ROUNDING.items():
    _row(_name, 1, FLOATS, _reference, f"vt_{_name}", derivative="0")

# Roots, exponentials, logarithms.
_math("sqrt", np.sqrt, 0, 6, "0.5/r")
_math("rsqrt", lambda x: (1 / np.sqrt(np.asarray(x, np.float64))).astype(x.dtype), 2, 6, "-0.5*r/x")
_math("exp", np.exp, 2, 12, "r")
_math("exp2", np.exp2, 2, 12, "0.6931471805599453*r")
_math("expm1", np.expm1, 2, 20, "r+1")
_math("log", np.log, 2, 20, "1/x")
_math("log2", np.log2, 2, 20)
_math("log10", np.log10, 2, 20)
_math("log1p", np.log1p, 2, 25, "1/(1+x)")

# Trigonometry.
_math("sin", np.sin, 2, 25, "cos(x)")
_math("cos", np.cos, 2, 25, "-sin(x)")
_math("tan", np.tan, 4, 35, "1+r*r")
_math("asin", np.arcsin, 4, 30)
_math("acos", np.arccos, 4, 30)
_math("atan", np.arctan, 4, 25, "1/(1+x*x)")
_math("sinh", np.sinh, 4, 25, "cosh(x)")
_math("cosh", np.cosh, 4, 25, "sinh(x)")
_math("asinh", np.arcsinh, 4, 40)
_math("acosh", np.arccosh, 4, 40)
_math("atanh", np.arctanh, 4, 40)

# Activations that pay as one function: shared subexpressions and no cancellation.
_math("tanh", np.tanh, 2, 20, "1-r*r")
_math("sigmoid", _sigmoid, 2, 16, "r*(1-r)")
_math("erf", _erf, 2, 25, "1.1283791670955126*exp(-x*x)")
_math("softplus", lambda x: np.logaddexp(0, np.asarray(x, np.float64)).astype(x.dtype), 4, 35, "sigmoid(x)")
_math("gelu", _gelu, 5, 28)
_math("gelu_tanh", _gelu_tanh, 4, 28)
_math("silu", _silu, 4, 18)

# Comparisons.
_COMPARISONS: dict[str, tuple[Reference, str]] = {
    "eq": (np.equal, "=="), "ne": (np.not_equal, "!="), "lt": (np.less, "<"),
    "le": (np.less_equal, "<="), "gt": (np.greater, ">"), "ge": (np.greater_equal, ">="),
}  # fmt: skip
for _name, (_reference, _sign) in _COMPARISONS.items():
    _row(
        _name,
        2,
        DTYPES,
        _reference,
        f"({{0}} {_sign} {{1}})",
        predicate=True,
        commutative=_name in ("eq", "ne"),
    )
_row("isnan", 1, FLOATS, np.isnan, "({0} != {0})", predicate=True)
_row("isinf", 1, FLOATS, np.isinf, "vt_isinf", predicate=True)

# Logic: on bool, and bit by bit on integers.
_row("and", 2, _LOGIC, np.bitwise_and, "({0} & {1})", commutative=True, associative=True)
_row("or", 2, _LOGIC, np.bitwise_or, "({0} | {1})", commutative=True, associative=True)
_row("xor", 2, _LOGIC, np.bitwise_xor, "({0} ^ {1})", commutative=True, associative=True)
_row("not", 1, _LOGIC, np.invert, "vt_not")
_row("shl", 2, INTS, np.left_shift, "vt_shl")
_row("shr", 2, INTS, np.right_shift, "vt_shr")
_row("where", 3, DTYPES, np.where, "vt_where")

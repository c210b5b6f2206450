"""What the vector math offers: functions, casts, lane counts and error bounds."""

from __future__ import annotations

from typing import Final

LANES: Final[dict[str, tuple[int, ...]]] = {"f32": (1, 4, 8, 16), "f64": (1, 2, 4, 8), "cast": (1, 4, 8, 16)}

ARITY: Final[dict[str, int]] = {
    "acos": 1, "acosh": 1, "asin": 1, "asinh": 1, "atan": 1, "atan2": 2, "atanh": 1, "cbrt": 1, "ceil": 1,
    "cos": 1, "cosh": 1, "erf": 1, "erfc": 1, "exp": 1, "exp2": 1, "expm1": 1, "floor": 1, "fmod": 2, "gelu": 1,
    "gelu_tanh": 1, "log": 1, "log10": 1, "log1p": 1, "log2": 1, "pow": 2, "round": 1, "rsqrt": 1, "sigmoid": 1,
    "silu": 1, "sin": 1, "sinh": 1, "softplus": 1, "sqrt": 1, "tan": 1, "tanh": 1, "trunc": 1,
}  # fmt: skip
"""Number of arguments of every function; each exists for f32 and f64."""

CASTS: Final[dict[str, tuple[str, str]]] = {}
"""Element types (argument, result) of every cast; narrow floats travel as their bits."""

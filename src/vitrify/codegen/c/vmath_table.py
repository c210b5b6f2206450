"""What the vector math offers: functions, casts, lane counts and error bounds."""

from __future__ import annotations

from typing import Final

LANES: Final[dict[str, tuple[int, ...]]] = {"f32": (1, 4, 8, 16), "f64": (1, 2, 4, 8), "cast": (1, 4, 8, 16)}

ARITY: Final[dict[str, int]] = {
    "acos": 1, "acosh": 1, "asin": 1, "asinh": 1, "atan": 1, "atan2": 2, "atanh": 1, "cbrt": 1, "ceil": 1,
    "cos": 1, "cosh": 1, "erf": 1, "erfc": 1, "exp": 1, "exp2": 1, "expm1": 1, "floor": 1, "fmod": 2,
    "gelu": 1, "gelu_tanh": 1, "log": 1, "log10": 1, "log1p": 1, "log2": 1, "pow": 2, "round": 1, "rsqrt": 1,
    "sigmoid": 1, "silu": 1, "sin": 1, "sinh": 1, "softplus": 1, "sqrt": 1, "tan": 1, "tanh": 1, "trunc": 1,
}  # fmt: skip
"""Number of arguments of every function; each exists for f32 and f64."""

_BOUNDS_ULP: Final[dict[str, tuple[float, float]]] = {
    "acos": (0.51, 1.5), "acosh": (0.51, 2.5), "asin": (0.51, 2.5), "asinh": (0.51, 2.5), "atan": (0.51, 2.0),
    "atan2": (0.51, 2.0), "atanh": (0.51, 2.5), "cbrt": (0.51, 0.51), "ceil": (0.0, 0.0), "cos": (1.6, 1.0),
    "cosh": (1.5, 1.6), "erf": (1.8, 1.5), "erfc": (5.0, 4.0), "exp": (0.95, 1.0), "exp2": (0.95, 1.0),
    "expm1": (1.5, 2.0), "floor": (0.0, 0.0), "fmod": (0.0, 0.0), "gelu": (5.0, 4.0), "gelu_tanh": (3.0, 3.0),
    "log": (0.95, 1.0), "log10": (2.0, 1.0), "log1p": (1.5, 1.5), "log2": (1.1, 1.0), "pow": (0.51, 2.0),
    "round": (0.0, 0.0), "rsqrt": (1.5, 1.5), "sigmoid": (2.0, 2.0), "silu": (3.0, 3.0), "sin": (1.6, 1.0),
    "sinh": (2.2, 2.5), "softplus": (1.9, 2.0), "sqrt": (0.5, 0.5), "tan": (0.51, 2.5), "tanh": (1.5, 3.0),
    "trunc": (0.0, 0.0),
}  # fmt: skip

BOUNDS: Final[dict[tuple[str, str], float]] = {
    (name, dtype): bounds[i] for name, bounds in _BOUNDS_ULP.items() for i, dtype in enumerate(("f32", "f64"))
}
"""Largest error of every function and element type, in units in the last place of the exact result."""

_F8 = ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz")

CASTS: Final[dict[str, tuple[str, str]]] = {
    "cast_f16_f32": ("u16", "f32"),
    "cast_f32_f16": ("f32", "u16"),
    "cast_bf16_f32": ("u16", "f32"),
    "cast_f32_bf16": ("f32", "u16"),
    **{f"cast_{f8}_f32": ("u8", "f32") for f8 in _F8},
    **{f"cast_f32_{f8}": ("f32", "u8") for f8 in _F8},
    **{f"cast_f32_{f8}_nosat": ("f32", "u8") for f8 in _F8},
}
"""Element types (argument, result) of every cast; narrow floats travel as their bits.

``cast_f32_f8...`` saturates to the largest finite value, as ONNX Cast does by default; ``..._nosat`` gives
NaN, or an infinity where the format has one.
"""

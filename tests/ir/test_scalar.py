"""The scalar table: each row's reference against exact arithmetic, on ordinary and special values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from vitrify.ir.dtypes import BOOL, DTYPES, F16, F32, F64, INTS, NUMBERS, U8, DType
from vitrify.ir.graph import Map as MapOp
from vitrify.ir.graph import Type, TypeRuleError
from vitrify.ir.scalar import SCALAR

Exact = Callable[..., Any]
GELU_TANH = mpmath.sqrt(2 / mpmath.pi)
EXACT: dict[str, Exact] = {
    "sqrt": mpmath.sqrt, "rsqrt": lambda x: 1 / mpmath.sqrt(x), "exp": mpmath.exp,
    "exp2": lambda x: mpmath.mpf(2) ** x, "expm1": mpmath.expm1, "log": mpmath.log,
    "log2": lambda x: mpmath.log(x, 2), "log10": mpmath.log10, "log1p": mpmath.log1p,
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "asin": mpmath.asin, "acos": mpmath.acos,
    "atan": mpmath.atan, "sinh": mpmath.sinh, "cosh": mpmath.cosh, "asinh": mpmath.asinh,
    "acosh": mpmath.acosh, "atanh": mpmath.atanh, "tanh": mpmath.tanh, "erf": mpmath.erf,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * (1 + mpmath.tanh(GELU_TANH * (x + mpmath.mpf(0.044715) * x**3))) / 2,
    "floor": mpmath.floor, "ceil": mpmath.ceil, "round": mpmath.nint,
    "trunc": lambda x: mpmath.sign(x) * mpmath.floor(abs(x)),
    "neg": lambda x: -x, "abs": abs, "sign": mpmath.sign, "relu": lambda x: max(x, 0),
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y, "min": min, "max": max,
    "fmod": lambda x, y: mpmath.sign(x) * mpmath.fmod(abs(x), abs(y)),
    "pow": lambda x, y: x**y, "atan2": mpmath.atan2, "fma": lambda x, y, z: x * y + z,
}  # fmt: skip
DOMAIN = {
    "rsqrt": (1e-3, 50), "sqrt": (0, 50), "log": (1e-3, 50), "log2": (1e-3, 50), "log10": (1e-3, 50),
    "log1p": (-0.99, 50), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.99, 0.99), "acosh": (1, 50),
    "pow": (0.01, 8), "gelu": (-8, 8), "gelu_tanh": (-4, 8),
}  # fmt: skip
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan]


def _reference(name: str, *arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        return np.asarray(SCALAR[name].reference(*arrays))


@pytest.mark.parametrize("name", sorted(EXACT))
def test_floats_against_exact_arithmetic(name: str) -> None:
    """f64: within 4 ulp, the formulas of several roundings within 2^10."""
    row, random = SCALAR[name], np.random.default_rng(3)
    low, high = DOMAIN.get(name, (-9, 9))
    arrays = [random.uniform(low, high, 200) for _ in range(row.arity)]
    got = _reference(name, *arrays)
    with mpmath.workdps(60):
        exact = [
            float(EXACT[name](*map(mpmath.mpf, map(float, values)))) for values in zip(*arrays, strict=True)
        ]
    composed = name in ("gelu", "gelu_tanh", "softplus", "silu", "sigmoid", "rsqrt")
    ulps = 0 if row.ulp == 0 else 1024 if composed else 4
    for value, expected in zip(got, exact, strict=True):
        assert abs(float(value) - expected) <= ulps * math.ulp(expected), (name, value, expected)


@pytest.mark.parametrize("name", sorted(set(EXACT) - {"fma"}))
def test_special_values_follow_the_limits(name: str) -> None:
    """NaN in, NaN out (but where a limit does not depend on the argument); infinities follow the limit."""
    if SCALAR[name].arity > 1:
        return
    got = dict(zip(map(str, SPECIAL), _reference(name, np.array(SPECIAL)), strict=True))
    assert math.isnan(got["nan"])
    limits = {
        "exp": (math.inf, 0.0), "exp2": (math.inf, 0.0), "expm1": (math.inf, -1.0), "sigmoid": (1.0, 0.0),
        "tanh": (1.0, -1.0), "erf": (1.0, -1.0), "softplus": (math.inf, 0.0),
        "atan": (math.pi / 2, -math.pi / 2),
        "relu": (math.inf, 0.0), "sqrt": (math.inf, math.nan), "log": (math.inf, math.nan),
        "rsqrt": (0.0, math.nan), "sign": (1.0, -1.0), "abs": (math.inf, math.inf),
        "floor": (math.inf, -math.inf),
        "gelu": (math.inf, 0.0), "gelu_tanh": (math.inf, 0.0), "silu": (math.inf, 0.0),
        "sin": (math.nan, math.nan),
    }  # fmt: skip
    if name in limits:
        np.testing.assert_array_equal([got["inf"], got["-inf"]], limits[name])


def _wrap(value: int, dtype: DType) -> int:
    low, span = int(dtype.min()), 1 << dtype.bits
    return (value - low) % span + low


def _truncated(x: int, y: int) -> int:
    return 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _integer_power(x: int, y: int) -> int:
    if y >= 0:
        return int(x**y)
    return 1 if x == 1 else (-1 if y % 2 else 1) if x == -1 else 0


ON_INTEGERS: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda x, y, bits: x + y, "sub": lambda x, y, bits: x - y, "mul": lambda x, y, bits: x * y,
    "quotient": lambda x, y, bits: _truncated(x, y), "floormod": lambda x, y, bits: x % y if y else 0,
    "fmod": lambda x, y, bits: x - y * _truncated(x, y) if y else 0,
    "pow": lambda x, y, bits: _integer_power(x, y), "min": lambda x, y, bits: min(x, y),
    "max": lambda x, y, bits: max(x, y), "and": lambda x, y, bits: x & y, "or": lambda x, y, bits: x | y,
    "xor": lambda x, y, bits: x ^ y,
    "shl": lambda x, y, bits: x << y if 0 <= y < bits else 0,
    "shr": lambda x, y, bits: x >> (y if 0 <= y < bits else bits),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [t for t in INTS if t.bits >= 8], ids=str)
@pytest.mark.parametrize("name", sorted(ON_INTEGERS))
def test_integers_wrap(name: str, dtype: DType) -> None:
    low, high = int(dtype.min()), int(dtype.max())
    values = [v for v in (low, low + 1, -7, -2, -1, 0, 1, 2, 3, 7, 8, 63, high - 1, high) if low <= v <= high]
    exponents = [v for v in values if name != "pow" or abs(v) < 100]
    pairs = [(x, y) for x in values for y in exponents]
    x, y = (np.array(column, dtype.numpy) for column in zip(*pairs, strict=True))
    got = _reference(name, x, y)
    assert got.dtype == dtype.numpy
    expected = [_wrap(ON_INTEGERS[name](a, b, dtype.bits), dtype) for a, b in pairs]
    assert got.tolist() == expected


@pytest.mark.parametrize("name", sorted(SCALAR))
def test_dtype_rules(name: str) -> None:
    row = SCALAR[name]
    for dtype in DTYPES:
        dtypes = (dtype,) * row.arity
        if name == "where":
            dtypes = (BOOL, dtype, dtype)
        shaped = [Type(d, (2, 3)) for d in dtypes]
        if dtype in row.dtypes:
            (result,) = MapOp(name).infer(shaped)
            assert result == Type(BOOL if row.predicate else dtype, (2, 3))
        else:
            with pytest.raises(TypeRuleError, match=f"{name} is not defined on {dtype}"):
                MapOp(name).infer(shaped)


def test_arguments_of_mixed_dtypes() -> None:
    with pytest.raises(TypeError, match="one dtype, got f32, f16"):
        SCALAR["add"].result((F32, F16))
    with pytest.raises(TypeError, match="add takes 2 arguments, got 1"):
        SCALAR["add"].result((F32,))
    with pytest.raises(TypeError, match="where takes a bool condition, got u8"):
        SCALAR["where"].result((U8, F32, F32))


@pytest.mark.parametrize("name", [n for n, row in SCALAR.items() if row.commutative])
def test_commutative_rows_are(name: str) -> None:
    random = np.random.default_rng(5)
    for dtype in (F64, *(t for t in INTS if t.bits >= 8)):
        if dtype in SCALAR[name].dtypes:
            x, y = (random.integers(0, 100, 50).astype(dtype.numpy) for _ in range(2))
            np.testing.assert_array_equal(_reference(name, x, y), _reference(name, y, x))


@pytest.mark.parametrize("name", [n for n, row in SCALAR.items() if row.derivative and row.arity == 1])
def test_derivatives(name: str) -> None:
    """Against a central difference: relative 1e-5."""
    row = SCALAR[name]
    assert row.derivative is not None
    low, high = DOMAIN.get(name, (-3, 3))
    x = np.random.default_rng(7).uniform(low + 0.1 * (high - low), high - 0.1 * (high - low), 64)
    names = {n: r.reference for n, r in SCALAR.items()} | {"x": x, "r": _reference(name, x)}
    got = np.broadcast_to(np.asarray(eval(row.derivative, {"__builtins__": {}}, names), np.float64), x.shape)
    step = 1e-6
    expected = (_reference(name, x + step) - _reference(name, x - step)) / (2 * step)
    smooth = np.abs(expected) < 1e4  # a difference across a step says nothing
    np.testing.assert_allclose(got[smooth], expected[smooth], rtol=1e-5, atol=1e-7)


def test_every_row_is_callable_on_all_its_dtypes_and_on_nothing() -> None:
    for name, row in SCALAR.items():
        for dtype in row.dtypes:
            if dtype.compute is not dtype:
                continue
            empty = np.zeros(0, dtype.numpy)
            arrays = [np.zeros(0, bool), empty, empty] if name == "where" else [empty] * row.arity
            result = _reference(name, *arrays)
            assert result.shape == (0,)
            assert result.dtype == (np.dtype(bool) if row.predicate else dtype.numpy), (name, dtype)
    assert set(NUMBERS) <= set(DTYPES)

"""Every movement, with odd, prime, 1 and 0 sizes, static and symbolic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.compiler.harness import Model, kernel_count, sample
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import BF16, BOOL, F16, F32, F64, I8, I64, U4, DType
from vitrify.ir.graph import Value
from vitrify.lower.loop import align64  # noqa: F401 (the package under test is importable on its own)

N = Dim.symbol("n")
SIZES = [(3, 5, 7), (2, 17, 33), (1, 19, 1), (5, 1, 64), (0, 3, 5), (4, 0, 7), (2, 3, 0), (1, 1, 1), (3, 4, 130)]


def movements(m: Model, x: Value) -> list[Value]:
    """One of each kind that fits the sizes."""
    a, b, c = (n if isinstance(n, int) else 3 for n in x.shape)
    n, p, q = x.shape
    found = [m.permute(x, perm) for perm in ((2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0))]
    found += [m.reshape(x, shape) for shape in ((n * p, q), (n, p * q), (q, n, p), (n * p * q,), (1, n, 1, p, q, 1))]
    found += [m.flip(x, 0), m.flip(x, 2), m.flip(x, 0, 1, 2)]
    found += [
        m.pad(x, low, high, v)
        for low, high, v in [
            ((0, 0, 3), (0, 0, 2), 1),
            ((2, 0, 0), (0, 1, 0), -3),
            ((1, 2, 3), (4, 5, 6), 2),
            ((0, 0, 17), (0, 0, 0), 0),
        ]
    ]
    found += [
        m.permute(m.pad(m.flip(x, 2), (1, 0, 1), (0, 1, 2), 5), (2, 1, 0)),
        m.flip(m.pad(m.permute(x, (2, 0, 1)), (1, 1, 1), (1, 1, 1), 4), 0),
    ]
    if b and c and a:
        found += [
            m.slice(x, (0, b - 1, c - 1), (1, -1, -1), x.shape),
            m.slice(x, (a - 1, 0, 0), (-1, 2, 3), (n, -(-b // 2), -(-c // 3))),
        ]
        found += [
            m.slice(x, (0, 0, c - 1), (1, 1, -2), (n, p, -(-c // 2))),
            m.slice(x, (0, b // 2, 0), (1, 1, 1), (n, b - b // 2, c)),
        ]
        found += [m.slice(x, (0, 0, 0), (1, 1, 1), (n, 0, q))]
    if b >= 3 and c >= 5:
        found += [
            m.window(x, (1, 2), (3, 2), (2, 1), (1, 3)),
            m.window(x, (2,), (3,), (2,), (2,)),
            m.permute(m.window(x, (1,), (3,), (1,), (1,)), (0, 3, 1, 2)),
        ]
    if a == 1 or b == 1 or c == 1:
        found += [m.expand_to(x, tuple(4 + i if isinstance(s, int) and s == 1 else s for i, s in enumerate(x.shape)))]
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_static(size: tuple[int, ...]) -> None:
    m = Model()
    x = m.input(sample(F32, size))
    m.result(*movements(m, x))
    m.check()


@pytest.mark.parametrize("size", [(3, 5, 7), (3, 1, 1), (3, 3, 20)], ids=str)
def test_first_dim_symbolic(size: tuple[int, ...]) -> None:
    m = Model()
    x = m.input(sample(F32, size), (N, *size[1:]))
    m.result(*movements(m, x))
    m.check({"x0": sample(F32, (3, *size[1:]), 1)})


@pytest.mark.parametrize("dtype", [F64, F16, BF16, I64, I8, U4, BOOL], ids=str)
def test_dtypes(dtype: DType) -> None:
    m = Model()
    x = m.input(sample(dtype, (3, 5, 21)))
    one = True if dtype is BOOL else 1
    m.result(
        m.permute(x, (2, 0, 1)), m.pad(x, (0, 0, 2), (0, 1, 0), one), m.flip(x, 2),
        m.slice(x, (0, 0, 20), (1, 2, -1), (3, 3, 21)), m.concat([x, m.flip(x, 2), x], 2),
        m.window(x, (2,), (3,), (2,), (1,)),
    )  # fmt: skip
    m.check()


def symbolic_cases(m: Model, x: Value, n: DimLike, k: DimLike) -> list[Value]:
    return [
        m.permute(x, (1, 0)), m.reshape(x, (n * k,)), m.flip(x, 0), m.flip(x, 1), m.pad(x, (1, 2), (2, n), 7),
        m.slice(x, (n - 1, k - 1), (-1, -1), (n, k)), m.slice(x, (0, 1), (2, 3), ((n + 1) // 2, (k + 1) // 3)),
        m.window(m.pad(x, (0, 2), (0, 2), 0), (1,), (3,), (2,), (1,)), m.concat([x, m.map("neg", x)], 0),
        m.concat([x, m.map("exp", x), x], 1), m.map("add", x, m.reshape(m.reduce("sum", x, (1,)), (n, 1))),
        m.reshape(m.permute(x, (1, 0)), (n, k)),
        m.map("mul", m.reshape(m.permute(x, (1, 0)), (n * k,)), m.reshape(x, (n * k,))),
        m.pad(m.flip(x, 1), (0, k), (0, 1), -1), m.cast(m.dim(n * k + 7), F32),
    ]  # fmt: skip


def test_symbolic() -> None:
    m = Model()
    n, k = Dim.symbol("n", 1), Dim.symbol("k", 1)
    x = m.input(sample(F32, (5, 19)), (n, k))
    for value in symbolic_cases(m, x, n, k):
        m.result(value, ulps=6, scale=8)
    m.check(*({"x0": sample(F32, size, 2)} for size in ((1, 1), (1, 16), (17, 2), (4, 64), (33, 3))))


PIECES: list[Callable[[Model, Value], Value]] = [
    lambda m, x: x, lambda m, x: m.map("neg", x), lambda m, x: m.flip(x, 1), lambda m,
    x: m.constant(sample(F32, (3, 5, 7), 9)),
    lambda m, x: m.map("exp", m.pad(x, (0, 0, 0), (0, 0, 0), 0)), lambda m,
    x: m.permute(m.permute(x, (2, 0, 1)), (1, 2, 0)),
]  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis: int) -> None:
    m = Model()
    x = m.input(sample(F32, (3, 5, 7)))
    whole = m.concat([piece(m, x) for piece in PIECES], axis)
    m.result(whole, ulps=3)
    m.result(
        m.map(
            "abs",
            m.concat(
                [
                    m.map("neg", x),
                    x,
                    m.slice(x, (0, 0, 0), (1, 1, 1), tuple(0 if i == axis else s for i, s in enumerate(x.shape))),
                ],
                axis,
            ),
        )
    )
    m.result(m.concat([m.concat([m.map("exp", x), x], axis), m.concat([x, m.map("tanh", x)], axis)], axis), ulps=3)
    m.check()


def test_concat_of_kernels_is_made_in_place() -> None:
    m = Model()
    x = m.input(sample(F32, (6, 40)))
    weights = m.constant(sample(F32, (40, 24), 1))
    pieces = [m.contract(x, weights, over=((1,), (0,))), m.map("mul", x, m.reduce("sum", x, (1,), keepdims=True))]
    whole = m.concat(pieces, 1)
    m.result(whole, ulps=16, scale=32)
    assert kernel_count(m.check()) == 2


def test_concat_with_one_piece_used_twice_and_elsewhere() -> None:
    m = Model()
    x = m.input(sample(F32, (4, 9)))
    s = m.map("exp", m.map("sub", x, m.reduce("max", x, (1,), keepdims=True)))
    m.result(m.concat([s, s], 0), m.concat([s, x], 1), m.map("neg", s), ulps=3)
    m.check()


@pytest.mark.parametrize("reverse", [False, True])
def test_views_of_one_result(reverse: bool) -> None:
    m = Model()
    x = m.input(sample(F32, (3, 4, 5)))
    y = m.map("exp", x)
    values = [
        y,
        m.reshape(y, (12, 5)),
        m.permute(y, (2, 1, 0)),
        y,
        m.reshape(m.permute(y, (1, 0, 2)), (60,)),
        m.flip(y, 0),
    ]
    m.result(*(values[::-1] if reverse else values), ulps=3)
    m.check()


def test_inputs_and_constants_as_results() -> None:
    m = Model()
    x = m.input(sample(F32, (3, 4)))
    k = m.constant(sample(I8, (2, 5)))
    one = m.constant(np.asarray(2.5, np.float32))
    m.result(
        x, x, k, k, one, m.reshape(x, (12,)), m.permute(k, (1, 0)), m.fill(7, I64, (3,)), m.fill(True, BOOL, (2, 1))
    )
    m.check()
    m.check(level=0)


def test_no_inputs() -> None:
    m = Model()
    m.result(
        m.iota((3, 7), 1),
        m.map("mul", m.iota((5,), 0, F32), m.fill(0.5, F32, (5,))),
        m.iota((2, 3, 4), 0, I8),
        m.dim(12),
    )
    m.check()


def test_transposes_large_enough_to_be_split() -> None:
    m = Model()
    x = m.input(sample(F32, (130, 257)))
    m.result(m.permute(x, (1, 0)), m.reshape(m.permute(x, (1, 0)), (130, 257)), m.flip(x, 0, 1))
    m.result(m.map("add", m.permute(x, (1, 0)), m.constant(sample(F32, (130,), 3))))
    m.check(threads=2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("i0", "i1"),
        ("task", "tail"),
        ("row", "at"),
        ("a1", "k0"),
        ("x0", "x1"),
        ("dims", "bufs"),
        ("int32_t", "n0_n1_"),
    ],
    ids=str,
)
def test_dims_may_have_any_name(first: str, second: str) -> None:
    m = Model()
    n, k = Dim.symbol(first), Dim.symbol(second)
    x, w = m.input(sample(F32, (30, 17)), (n, k)), m.input(sample(F32, (17, 33)), (k, 33))
    m.result(
        m.permute(x, (1, 0)),
        m.reduce("sum", x, (1,)),
        m.pad(x, (1, n), (k, 2), 1),
        m.contract(x, w, over=((1,), (0,))),
        ulps=64,
        scale=16,
    )
    m.check()

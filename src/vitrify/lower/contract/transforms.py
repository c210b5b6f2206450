"""Winograd's minimal filtering F(m, r): its three matrices, and their products as straight-line code.

Cook and Toom's construction: a polynomial product, evaluated at chosen points and at infinity. The points
of F(4, 3) are 0, ±3/4, ±3/2, which lose less accuracy than the usual 0, ±1, ±2 (a third of its error on
random data); each row of the input transform is scaled by a power of two, the weights' by its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import log2

from vitrify.lower.contract.emit import Body, Names, literal
from vitrify.lower.loop import Apply, Data, Let, Register, Stmt, VType

Matrix = tuple[tuple[float, ...], ...]
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}
TAPS = 3


@dataclass(frozen=True)
class Winograd:
    """``output @ ((weights @ w) * (input @ x))`` are the ``m`` sums ``sum_j w[j] * x[i + j]``."""

    m: int
    input: Matrix  # n x n
    weights: Matrix  # n x 3
    output: Matrix  # m x n

    @property
    def n(self) -> int:
        return self.m + TAPS - 1


@lru_cache
def winograd(m: int) -> Winograd:
    """The matrices of F(m, 3); ``m`` is 2 or 4."""
    points = POINTS[m]
    n = m + TAPS - 1
    at_infinity = [Fraction(0)] * (TAPS - 1) + [Fraction(1)]
    weights, inputs = [], []
    for i, p in enumerate(points):
        others = [q for j, q in enumerate(points) if j != i]
        denominator = Fraction(1)
        for q in others:
            denominator *= p - q
        weights.append([p**j / denominator for j in range(TAPS)])
        inputs.append([*_roots(others), Fraction(0)])
    weights.append(at_infinity)
    inputs.append(_roots(list(points)))
    for i in range(n):
        scale = Fraction(2) ** round(log2(max(abs(float(v)) for v in inputs[i])))
        inputs[i] = [v / scale for v in inputs[i]]
        weights[i] = [v * scale for v in weights[i]]
    output = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    return Winograd(m, _floats(inputs), _floats(weights), _floats(output))


def _roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, constant first, of the monic polynomial with these roots."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _floats(matrix: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(float(v) for v in row) for row in matrix)


class Product:
    """Code for ``matrix @ values``; rows that mirror each other share their even and odd halves."""

    def __init__(self, matrix: Matrix, names: Names, kind: VType) -> None:
        self.matrix = matrix
        self.names = names
        self.kind = kind

    def emit(self, values: Sequence[Data]) -> tuple[list[Data], Body]:
        results: list[Data | None] = [None] * len(self.matrix)
        body: list[Stmt] = []
        for i, row in enumerate(self.matrix):
            if results[i] is not None:
                continue
            mirror = next((j for j in range(i + 1, len(self.matrix)) if self._mirrors(i, j)), None)
            if mirror is None:
                results[i] = self._sum(list(enumerate(row)), values, body)
                continue
            other = self.matrix[mirror]
            even = self._sum([(c, v) for c, v in enumerate(row) if v == other[c]], values, body)
            odd = self._sum([(c, v) for c, v in enumerate(row) if v != other[c]], values, body)
            results[i] = self._name(Apply("add", (even, odd)), body)
            results[mirror] = self._name(Apply("sub", (even, odd)), body)
        return [r for r in results if r is not None], tuple(body)

    def _mirrors(self, i: int, j: int) -> bool:
        a, b = self.matrix[i], self.matrix[j]
        same = sum(x == y != 0 for x, y in zip(a, b, strict=True))
        opposite = sum(x == -y != 0 for x, y in zip(a, b, strict=True))
        return same > 0 and opposite > 0 and all(x in (y, -y) for x, y in zip(a, b, strict=True))

    def _sum(self, terms: Sequence[tuple[int, float]], values: Sequence[Data], body: list[Stmt]) -> Data:
        """The terms with factor ±1 first, so that the others fuse."""
        live = sorted((t for t in terms if t[1]), key=lambda t: (abs(t[1]) != 1, t[1] < 0))
        total: Data | None = None
        for column, factor in live:
            value = values[column]
            if total is None:
                total = value if factor == 1 else Apply("mul", (value, self._constant(factor)))
            elif abs(factor) == 1:
                total = Apply("add" if factor == 1 else "sub", (total, value))
            else:
                total = Apply("fma", (value, self._constant(factor), total))
        assert total is not None
        return self._name(total, body)

    def _constant(self, value: float) -> Data:
        return literal(value, self.kind.dtype, self.kind.lanes)

    def _name(self, value: Data, body: list[Stmt]) -> Register:
        register = Register(self.names.fresh("w"), self.kind)
        body.append(Let(register, value))
        return register


def both_sides(
    matrix: Matrix, names: Names, kind: VType, grid: Sequence[Sequence[Data]]
) -> tuple[list[list[Data]], Body]:
    """Code for ``matrix @ grid @ matrix.T``."""
    product = Product(matrix, names, kind)
    body: list[Stmt] = []
    columns: list[list[Data]] = []
    for j in range(len(grid[0])):
        column, code = product.emit([row[j] for row in grid])
        body += code
        columns.append(column)
    result: list[list[Data]] = []
    for i in range(len(matrix)):
        row, code = product.emit([column[i] for column in columns])
        body += code
        result.append(row)
    return result, tuple(body)

"""Bits read as another dtype of the same size."""

from __future__ import annotations

import pytest

from tests.compiler.harness import Model, sample
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F8E4M3FN, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, DType
from vitrify.ir.graph import TypeRuleError


@pytest.mark.parametrize(
    ("source", "target"),
    [(F32, I32), (I32, F32), (F64, I64), (I64, F64), (F16, U16), (I16, BF16), (BF16, F16),
     (F8E4M3FN, U8), (I8, F8E4M3FN)],
    ids=str,
)  # fmt: skip
def test_dtypes(source: DType, target: DType) -> None:
    m = Model()
    x = m.input(sample(source, (7, 19)))
    m.result(m.bit_cast(x, target), m.permute(m.bit_cast(x, target), (1, 0)))
    m.result(m.bit_cast(m.constant(sample(source, (1,))), target))
    m.check()


def test_of_what_is_computed() -> None:
    m = Model()
    x = m.input(sample(F32, (5, 18)), (Dim.symbol("n"), 18))
    absolute = m.map("and", m.bit_cast(m.map("mul", x, m.scalar(3, x)), U32), m.constant(0x7FFFFFFF, U32))
    m.result(m.bit_cast(absolute, F32), m.reduce("sum", m.bit_cast(m.bit_cast(x, I32), F32), (1,)), ulps=8, scale=64)
    total = m.contract(x, m.constant(sample(F32, (18, 4))), over=([1], [0]))
    m.result(m.map("shr", m.bit_cast(total, U32), m.constant(31, U32)))
    m.check({"x0": sample(F32, (0, 18))}, {"x0": sample(F32, (1, 18))})


def test_ill_typed() -> None:
    m = Model()
    with pytest.raises(TypeRuleError, match="another size"):
        m.bit_cast(m.input(sample(F32, (3,))), I64)
    with pytest.raises(TypeRuleError, match="no bits of its own"):
        m.bit_cast(m.input(sample(BOOL, (3,))), U8)

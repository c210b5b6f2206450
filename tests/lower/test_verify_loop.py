"""The verifier of Loop IR: each rule broken once, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitrify.errors import VerifyError
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F32, F64, I32, I64
from vitrify.lower import loop as L
from vitrify.lower.loop import Buffer, Kernel, Literal, Register, Stmt, VType, zero
from vitrify.lower.verify_loop import verify_kernel

N, INDEX = Dim.symbol("n"), Dim.index("i", 8)
X = Register("x", VType(F32, 8))
LOAD = L.Load("a", INDEX * 8, VType(F32, 8))
COPY = (L.Let(X, LOAD), L.Store("b", INDEX * 8, X))


def kernel(*body: Stmt, status: bool = False) -> Kernel:
    buffers = [Buffer("a", F32), Buffer("b", F32, True), Buffer("c", BF16)]
    buffers += [Buffer("status", I64, True)] if status else []
    return Kernel("copy", tuple(buffers), ("n",), 1, body)


def loop(*body: Stmt) -> L.For:
    return L.For(INDEX, 8, body)


def test_what_is_well_formed_passes() -> None:
    bound = L.Bind(Dim.symbol("at"), L.Position(N))
    some = L.Apply("gt", (L.Position(Dim.symbol("at")), zero(I64)))
    verify_kernel(kernel(bound, loop(*COPY, L.If(some, (L.Fail(1, 0), L.Break()))), status=True))


BROKEN: dict[str, tuple[tuple[Stmt, ...], str]] = {
    "register": ((loop(L.Store("b", INDEX, X)),), "register 'x' is not declared"),
    "scope": ((loop(L.Let(X, LOAD)), L.Store("b", 0, X)), "register 'x' is not declared"),
    "twice": ((loop(L.Let(X, LOAD), L.Let(X, LOAD)),), "declared twice in one block"),
    "type of a register": ((L.Let(Register("x", VType(F64, 8)), LOAD),), "a register of f64x8 is given f32x8"),
    "buffer": ((L.Let(X, L.Load("z", 0, VType(F32, 8))),), "no memory is called 'z'"),
    "dtype of a buffer": ((L.Let(Register("x", VType(I32)), L.Load("a", 0, VType(I32))),), "'a' holds f32, not i32"),
    "read only": ((L.Store("a", 0, zero(F32)),), "'a' is only read"),
    "position": ((L.Store("b", Dim.symbol("m") + INDEX, zero(F32)),), "mentions i, m, not in scope"),
    "position after a loop": ((loop(), L.Store("b", INDEX, zero(F32))), "mentions i, not in scope"),
    "count": ((L.Store("b", 0, zero(F32, 8), Dim.symbol("tail")),), "tail mentions tail"),
    "lanes": ((L.Store("b", 0, L.Apply("add", (zero(F32), zero(F32, 8)))),), "the lanes differ"),
    "dtypes": ((L.Store("b", 0, L.Apply("add", (zero(F32), zero(F64)))),), "one dtype"),
    "storage type": ((L.Store("c", 0, L.Apply("add", (zero(BF16), zero(BF16)))),), "only a storage type"),
    "row": ((L.Store("b", 0, L.Apply("quotient", (zero(F32), zero(F32)))),), "not defined on f32"),
    "unknown row": ((L.If(L.Apply("lt", (L.Fold("plus", X), zero(F32))), ()),), "'plus'"),
    "mask": ((L.Let(X, replace(LOAD, index=0, mask=zero(BOOL))),), "the mask of 8 lanes is boolx1"),
    "gather": ((L.Let(X, L.GatherLoad("a", 0, zero(I64, 4), VType(F32, 8))),), "positions of f32x8 are i64x4"),
    "splat": ((L.Store("b", 0, L.Splat(zero(F32, 4), 8)),), "a splat of f32x4"),
    "number of lanes": ((L.Store("b", 0, zero(F32, 12)),), "12 lanes are no power of two"),
    "condition": ((L.If(zero(I64), ()),), "the condition is i64x1"),
    "break": ((L.Break(),), "a break outside any loop"),
    "bind": ((L.Bind(INDEX, zero(F32)),), "i is bound to f32x1"),
    "loop": ((L.For(INDEX, N, (), 1, True),), "a loop to n by 1, unrolled"),
    "failure": ((L.Fail(1, 0),), "without a buffer 'status'"),
    "prefetch": ((L.Prefetch("z", 0),), "no memory is called 'z'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name: str) -> None:
    body, message = BROKEN[name]
    with pytest.raises(VerifyError) as caught:
        verify_kernel(kernel(*body), "Relu 'act'")
    text = str(caught.value)
    assert "kernel 'copy' of Relu 'act'" in text and message in text
    assert any(f"in {type(s).__name__}(" in text for s in L.walk(body))


def test_parameters() -> None:
    good = kernel()
    twice = replace(good, buffers=(*good.buffers, Buffer("a", F64)))
    tile = replace(good, body=(L.Tile("t", F32, INDEX),))
    for broken, message in (
        (twice, "'a' is declared twice"),
        (replace(good, tasks=INDEX), "number of tasks"),
        (tile, "tile 't'"),
    ):
        with pytest.raises(VerifyError, match=message):
            verify_kernel(broken)


def test_literals_of_every_shape_are_fine() -> None:
    verify_kernel(kernel(L.Store("b", N, Literal(1.5, VType(F32, 16)), N, 2)))

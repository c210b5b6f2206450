"""What the printer makes of Loop IR that graphs seldom give: run, and held against NumPy."""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrify.codegen.c.printer import kernel_source, literal
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BF16, BOOL, F32, F64, I8, I32, I64, U8, U64, DType
from vitrify.lower import loop as L
from vitrify.lower.loop import Buffer, Kernel, Literal, Register, Stmt, VType
from vitrify.lower.target import V3
from vitrify.lower.verify_loop import verify_kernel
from vitrify.toolchain.zig import Compiler

Array = np.ndarray[Any, Any]
COMPILER = Compiler()
N = Dim.symbol("n")


def run(body: Sequence[Stmt], arrays: Sequence[Array], dims: dict[str, int] | None = None, scratch: int = 0) -> None:
    """The kernel over ``arrays`` (the last one written), in this process."""
    from vitrify.ir.dtypes import from_numpy

    dims = dims or {}
    buffers = [Buffer(f"b{i}", from_numpy(a.dtype), i == len(arrays) - 1) for i, a in enumerate(arrays)]
    kernel = Kernel("k_test", tuple(buffers), tuple(dims), 1, tuple(body))
    verify_kernel(kernel)
    source = kernel_source(kernel, V3).replace("void k_test", '__attribute__((visibility("default"))) void k_test')
    pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    values = (ctypes.c_int64 * max(len(dims), 1))(*dims.values())
    memory = np.zeros(scratch + 64, np.uint8)
    aligned = memory.ctypes.data + (-memory.ctypes.data) % 64
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        path = Path(folder, "kernel.so")
        path.write_bytes(COMPILER.link(COMPILER.compile_objects({"k_test": source}, V3), V3))
        library = ctypes.CDLL(str(path))
    library.k_test(pointers, values, ctypes.c_int64(0), ctypes.c_void_p(aligned))


def register(name: str, dtype: DType, lanes: int = 1) -> Register:
    return Register(name, VType(dtype, lanes))


def load(index: Any, lanes: int = 1, dtype: DType = F32, buffer: str = "b0", **options: Any) -> L.Load:
    return L.Load(buffer, index, VType(dtype, lanes), **options)


def test_while_break_and_assignment() -> None:
    """Counts down by halves until below one, at most twenty times."""
    x, i = register("x", F32), register("i", I32)
    one = Literal(1, VType(I32))
    loop = L.While(
        L.Apply("ge", (x, Literal(1.0, VType(F32)))),
        (
            L.Assign(x, L.Apply("mul", (x, Literal(0.5, VType(F32))))),
            L.Assign(i, L.Apply("add", (i, one))),
            L.If(L.Apply("ge", (i, Literal(20, VType(I32)))), (L.Break(),)),
        ),
    )
    out = np.zeros(2, np.float32)
    for start, count in ((100.0, 7), (1e30, 20), (0.5, 0)):
        body = [L.Let(x, load(0)), L.Let(i, Literal(0, VType(I32))), loop, L.Store("b1", 0, x)]
        body.append(L.Store("b1", 1, L.Convert(i, F32)))
        run(body, [np.asarray([start], np.float32), out])
        assert out[1] == count and out[0] == np.float32(start * 0.5**count)


@pytest.mark.parametrize("count", [0, 1, 5, 8])
@pytest.mark.parametrize("stride", [1, 3])
def test_partial_loads_and_stores_touch_nothing_else(count: int, stride: int) -> None:
    source = np.arange(1, 30, dtype=np.float32)
    out = np.full(30, -1, np.float32)
    x = register("x", F32, 8)
    run([L.Let(x, load(2, 8, count=N, stride=stride)), L.Store("b1", 3, x, N, stride)], [source, out], {"n": count})
    wanted = np.full(30, -1, np.float32)
    wanted[3 : 3 + count * stride : stride] = source[2 : 2 + count * stride : stride]
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("dtype", [F32, F64, I8, U8, I64, BF16, BOOL], ids=str)
def test_lanes_that_are_not_read_are_zero(dtype: DType) -> None:
    source = np.ones(16, dtype.numpy)
    out = np.ones(16, dtype.numpy)
    mask = L.Apply("lt", (L.Lanes(VType(I64, 16)), L.Splat(L.Position(N), 16)))
    for read in (
        load(0, 16, dtype, mask=mask, stride=1),
        load(0, 16, dtype, count=N),
        load(0, 16, dtype, mask=mask, count=9),
    ):
        for n in (0, 3, 16):
            run([L.Store("b1", 0, read)], [source, out], {"n": n})
            limit = min(n, 9) if read.mask is not None and read.count is not None else n
            assert (out.astype(np.float32) == (np.arange(16) < limit)).all()


def before_a_wall(values: Array) -> Array:
    """A copy that ends where readable memory does."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    array = np.frombuffer(memory, values.dtype, len(values), page - values.nbytes)
    array[:] = values
    libc = ctypes.CDLL(None, use_errno=True)
    start = np.frombuffer(memory, np.uint8).ctypes.data
    assert libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 0) == 0
    return array


@pytest.mark.parametrize("dtype", [F32, F64, I8, I64, BF16, BOOL], ids=str)
@pytest.mark.parametrize("stride", [2, 3, 4, 5])
def test_loads_in_steps_read_nothing_beyond_the_last_lane(dtype: DType, stride: int) -> None:
    for lanes in (2, 8, 16):
        last = (lanes - 1) * stride
        source = before_a_wall(
            (np.arange(last + 1) % 7 % 2 if dtype is BOOL else np.arange(last + 1)).astype(dtype.numpy)
        )
        first = L.Apply("lt", (L.Lanes(VType(I64, lanes)), L.Splat(L.Position(N), lanes)))
        out = np.zeros(lanes, dtype.numpy)
        whole = load(0, lanes, dtype, stride=stride)
        run([L.Store("b1", 0, whole)], [source, out])
        np.testing.assert_array_equal(out, source[::stride])
        for n in (0, lanes // 2, lanes - 1):
            skip = (lanes - n) * stride  # the lanes that are read end at the wall
            for some in (
                load(skip, lanes, dtype, stride=stride, mask=first),
                load(skip, lanes, dtype, stride=stride, count=N),
            ):
                run([L.Store("b1", 0, some)], [source, out], {"n": n})
                np.testing.assert_array_equal(out[:n], source[skip::stride])
                assert not out[n:].any()


def test_gathers_where_a_mask_holds() -> None:
    source = np.arange(10, dtype=np.float32) + 1
    positions = L.Apply("mul", (L.Lanes(VType(I64, 8)), L.Splat(L.Position(1 << 40), 8)))
    mask = L.Apply("lt", (L.Lanes(VType(I64, 8)), L.Splat(Literal(1, VType(I64)), 8)))
    out = np.full(8, -1, np.float32)
    run([L.Store("b1", 0, L.GatherLoad("b0", 4, positions, VType(F32, 8), mask))], [source, out])
    assert out.tolist() == [5, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fn", "dtype"), [("add", F32), ("mul", F64), ("min", F32), ("max", I32), ("or", U8), ("and", I64)]
)
def test_folds_pair_lanes_by_halves(fn: str, dtype: DType) -> None:
    rng = np.random.default_rng(0)
    source = (rng.uniform(0.5, 1.5, 16) * 100).astype(dtype.numpy)
    numpy = {
        "add": np.add,
        "mul": np.multiply,
        "min": np.minimum,
        "max": np.maximum,
        "or": np.bitwise_or,
        "and": np.bitwise_and,
    }
    wanted = source
    while wanted.size > 1:
        wanted = numpy[fn](wanted[: wanted.size // 2], wanted[wanted.size // 2 :])
    out = np.zeros(1, dtype.numpy)
    run([L.Store("b1", 0, L.Fold(fn, load(0, 16, dtype)))], [source, out])
    assert out[0] == wanted[0]


def test_tiles_are_apart_and_aligned() -> None:
    a, b = L.Tile("first", F32, 3), L.Tile("second", F64, 5)
    i = Dim.index("i", 3)
    total = L.Apply("add", (load(i, buffer="first"), L.Convert(load(i, 1, F64, "second"), F32)))
    fill = L.For(i, 3, (L.Store("first", i, load(i)), L.Store("second", i, L.Convert(load(i), F64))))
    body = [a, b, fill, L.For(i, 3, (L.Store("b1", i, total),), unrolled=True)]
    source, out = np.asarray([1, 2, 3], np.float32), np.zeros(3, np.float32)
    run(body, [source, out], scratch=128)
    assert out.tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(0.1, F32), (1e-45, F32), (-0.0, F64), (float("inf"), F32), (float("-inf"), F64), (float("nan"), F32),
     (5e-324, F64), (-(2**63), I64), (2**63 - 1, I64), (2**64 - 1, U64), (-128, I8), (-(2**31), I32), (True, BOOL)],
)  # fmt: skip
def test_literals_are_exact(value: float, dtype: DType) -> None:
    out = np.zeros(1, dtype.numpy)
    run([L.Store("b0", 0, Literal(value, VType(dtype)))], [out])
    wanted = np.asarray([value], dtype.numpy)
    assert out.tobytes() == wanted.tobytes() or (np.isnan(value) and np.isnan(out[0]))


def test_literals_of_narrow_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="bf16"):
        literal(1.0, BF16)


def test_text_depends_on_the_kernel_alone() -> None:
    kernel = Kernel("k", (Buffer("b0", F32), Buffer("b1", F32, True)), (), 1, (L.Store("b1", 0, load(0)),))
    assert kernel_source(kernel, V3) == kernel_source(kernel, V3)
    with pytest.raises(ValueError, match="tasks mentions"):
        kernel_source(Kernel("k", (), (), N, ()), V3)


def test_vector_math_on_two_lanes() -> None:
    """What has no form for two lanes goes through four, with the same results."""
    source = np.asarray([0.5, 2.0, -1.25, 3.5], np.float32)
    two, four = np.zeros(4, np.float32), np.zeros(4, np.float32)
    for lanes, out in ((2, two), (4, four)):
        body: list[Stmt] = []
        for at in range(0, 4, lanes):
            x = register(f"x{at}", F32, lanes)
            body.append(L.Let(x, load(at, lanes)))
            rounded = L.Convert(L.Convert(L.Apply("exp", (x,)), BF16), F32)
            body.append(L.Store("b1", at, L.Apply("pow", (rounded, x))))
        run(body, [source, out])
    assert two.tobytes() == four.tobytes() and (two > 0).all()

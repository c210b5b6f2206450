"""Lowered contractions compiled, run between guard pages on poisoned memory, and their float64 reference."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.codegen.c.printer import kernel_source
from vitrify.ir.dims import DimLike, evaluate
from vitrify.ir.dtypes import F32, DType
from vitrify.lower.contract.choose import lower_contraction
from vitrify.lower.contract.problem import Access, Axis, Contraction, Lowered
from vitrify.lower.contract.schedule import Schedule
from vitrify.lower.loop import (
    Apply,
    Buffer,
    Convert,
    Data,
    Kernel,
    Let,
    Load,
    Register,
    Stmt,
    Store,
    VType,
    scratch_bytes,
)
from vitrify.lower.target import EXTENSIONS, V3, V4, Target, with_extensions
from vitrify.lower.verify_loop import verify_kernel

Array = np.ndarray[Any, Any]
PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FOLDER = tempfile.TemporaryDirectory(prefix="contract-")


def cpu_flags() -> set[str]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    line = next((row for row in text.splitlines() if row.startswith("flags")), "")
    return set(line.split())


def request_amx() -> bool:
    """Linux grants a process tile data on request (arch_prctl ARCH_REQ_XCOMP_PERM)."""
    return bool(_LIBC.syscall(158, 0x1023, 18) == 0)


def runnable_targets() -> list[Target]:
    """Every target whose code this machine executes."""
    flags = cpu_flags()
    targets = []
    if {"avx2", "fma", "f16c"} <= flags:
        targets.append(V3)
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        targets.append(V4)
        if "avx512_bf16" in flags:
            targets.append(with_extensions(V4, "bf16"))
            if "amx_bf16" in flags and request_amx():
                targets.append(with_extensions(V4, "bf16", "amx-bf16"))
    return targets


@dataclass
class Output:
    """An epilogue: scale and bias along the lane axis, a residual laid out as the result, relu, the store."""

    strides: Mapping[str, DimLike]
    dtype: DType = F32
    lane: str | None = None
    bias: bool = False
    residual: bool = False
    relu: bool = False
    cost: int = 1
    offset: DimLike = 0
    dims: tuple[str, ...] = ()
    serial: int = 0
    buffers: tuple[Buffer, ...] = field(init=False)

    def __post_init__(self) -> None:
        extra = [Buffer("bias", self.dtype)] if self.bias else []
        extra += [Buffer("residual", self.dtype)] if self.residual else []
        self.buffers = (Buffer("out", self.dtype, written=True), *extra)

    def emit(
        self, position: Mapping[str, DimLike], value: Data, lanes: int, count: DimLike | None
    ) -> Sequence[Stmt]:
        index = self.offset
        for axis, stride in self.strides.items():
            index = index + position[axis] * stride
        stride = self.strides.get(self.lane, 1) if self.lane is not None and lanes > 1 else 1
        if value.type.dtype is not self.dtype:
            value = Convert(value, self.dtype)
        kind = VType(self.dtype, lanes)
        if self.bias and self.lane is not None:
            value = Apply("add", (value, Load("bias", position[self.lane], kind, count)))
        if self.residual:
            value = Apply("add", (value, Load("residual", index, kind, count, stride)))
        if self.relu:
            value = Apply("relu", (value,))
        self.serial += 1
        result = Register(f"result_{self.serial}", kind)
        return [Let(result, value), Store("out", index, result, count, stride)]


class Guarded:
    """Memory that ends at a page nobody may touch; what lies before it is watched."""

    def __init__(self, nbytes: int, itemsize: int, poison: int = 0xFF) -> None:
        pages = -(-max(nbytes, 1) // PAGE) + 1
        self.map = mmap.mmap(-1, (pages + 1) * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.end = self.base + pages * PAGE
        assert _LIBC.mprotect(self.end, PAGE, 0) == 0
        self.start = (self.end - nbytes) // itemsize * itemsize
        self.nbytes = nbytes
        ctypes.memset(self.base, poison, pages * PAGE)

    def write(self, data: Array) -> None:
        flat = np.ascontiguousarray(data)
        ctypes.memmove(self.start, flat.ctypes.data, flat.nbytes)

    def array(self, dtype: np.dtype[Any]) -> Array:
        raw = (ctypes.c_char * self.nbytes).from_address(self.start)
        return np.frombuffer(raw, dtype=dtype).copy()

    def poison(self) -> None:
        ctypes.memset(self.start, 0xFF, self.nbytes)

    def intact(self) -> bool:
        before = (ctypes.c_ubyte * (self.start - self.base)).from_address(self.base)
        return bool((np.frombuffer(before, np.uint8) == 0xFF).all())

    def close(self) -> None:
        _LIBC.mprotect(self.end, PAGE, 3)


@lru_cache(maxsize=4096)
def _library(sources: tuple[str, ...], target: Target) -> ctypes.CDLL:
    key = hashlib.sha256("\0".join((target.name, *sources)).encode()).hexdigest()[:24]
    folder = Path(_FOLDER.name)
    paths = []
    for i, text in enumerate(sources):
        path = folder / f"{key}_{i}.c"
        path.write_text(text)
        paths.append(str(path))
    library = folder / f"{key}.so"
    cpu = "+".join((target.cpu, *(EXTENSIONS[f].replace("-", "_") for f in target.features)))
    command = [
        sys.executable, "-m", "ziglang", "cc", "-target", target.triple, f"-mcpu={cpu}", "-O3", "-std=gnu17",
        "-ffp-contract=off", "-ffreestanding", "-fno-math-errno", "-fPIC", "-shared", "-nostdlib", "-s",
        "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable", *target.flags,
        "-o", str(library), *paths,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return ctypes.CDLL(str(library))


@dataclass
class Case:
    """A contraction with its data. ``sizes`` gives symbolic dims their values."""

    problem: Contraction
    arrays: dict[str, Array]
    out_size: DimLike
    sizes: dict[str, int] = field(default_factory=dict)


class Program:
    """A lowering, compiled; runs on any data that fits its dims."""

    def __init__(self, problem: Contraction, target: Target, schedule: Schedule | None = None) -> None:
        self.problem = problem
        self.lowered: Lowered = lower_contraction(problem, target, schedule, name="kernel")
        for kernel in self.lowered.kernels:
            verify_kernel(kernel)
        sources = tuple(kernel_source(k, target) for k in self.lowered.kernels)
        self.sources = sources
        library = _library(sources, target)
        self.functions = [getattr(library, k.name) for k in self.lowered.kernels]
        for f in self.functions:
            f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
            f.restype = None

    def run(self, case: Case, seed: int | None = None) -> Array:
        """The output buffer. ``seed``: tasks in a random order instead of ascending."""
        memory: dict[str, Guarded] = {}

        def place(name: str, array: Array, itemsize: int) -> None:
            memory[name] = Guarded(array.nbytes, itemsize)
            memory[name].write(array)

        for name, array in case.arrays.items():
            place(name, array, array.itemsize)
        for name, array in self.lowered.constants.items():
            place(name, array, 1 if array.nbytes % 64 else 64)
        for t in self.lowered.temporaries:
            nbytes = evaluate(t.size, case.sizes) * t.dtype.itemsize
            memory[t.name] = Guarded(-(-nbytes // 64) * 64, 64)
            if t.zeroed:
                ctypes.memset(memory[t.name].start, 0, nbytes)
        out = next(b for b in self.problem.epilogue.buffers if b.name == "out")
        memory["out"] = Guarded(evaluate(case.out_size, case.sizes) * out.dtype.itemsize, out.dtype.itemsize)
        for kernel, function in zip(self.lowered.kernels, self.functions, strict=True):
            self._run_kernel(kernel, function, memory, case.sizes, seed)
        result = memory["out"].array(out.dtype.numpy)
        for name, block in memory.items():
            assert block.intact(), f"something wrote before the start of {name}"
            block.close()
        for name, array in case.arrays.items():
            assert memory[name].array(array.dtype).tobytes() == array.tobytes(), f"{name} was overwritten"
        return result

    def _run_kernel(
        self,
        kernel: Kernel,
        function: Any,
        memory: dict[str, Guarded],
        sizes: dict[str, int],
        seed: int | None,
    ) -> None:
        bufs = (ctypes.c_void_p * max(len(kernel.buffers), 1))(
            *(memory[b.name].start for b in kernel.buffers)
        )
        dims = (ctypes.c_int64 * max(len(kernel.dims), 1))(*(sizes[d] for d in kernel.dims))
        scratch = Guarded(evaluate(scratch_bytes(kernel), sizes), 64)
        order = np.arange(evaluate(kernel.tasks, sizes))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        for task in order:
            scratch.poison()
            function(bufs, dims, int(task), scratch.start)
        assert scratch.intact(), f"{kernel.name} wrote before its scratch"
        scratch.close()


def reference(case: Case) -> dict[str, Any]:
    """The sums in float64 (or int64) on the grid batch + left + right, and the sum of absolute products."""
    p = case.problem
    sizes = case.sizes
    axes = {a.name: evaluate(a.extent, sizes) for a in (*p.batch, *p.left, *p.right, *p.contracted)}
    exact = np.float64 if p.accumulate.is_float else np.int64

    def operand(a: Access, names: list[str]) -> Array:
        data = case.arrays.get(a.buffer, a.constant)
        assert data is not None
        grids = np.meshgrid(*(np.arange(axes[n]) for n in names), indexing="ij") if names else []
        at = dict(zip(names, grids, strict=True))
        shape = tuple(axes[n] for n in names)
        index = np.full(shape, evaluate(a.offset, sizes), np.int64)
        for n in names:
            index = index + at[n] * evaluate(a.strides.get(n, 0), sizes)
        ok = np.ones(shape, bool)
        for b in a.bounds:
            where = np.full(shape, evaluate(b.offset, sizes), np.int64)
            for n, s in b.strides.items():
                where = where + at[n] * s
            ok &= (where >= 0) & (where < evaluate(b.extent, sizes))
        flat = data.reshape(-1).astype(exact)
        return np.where(ok, flat[np.where(ok, index, 0)] if flat.size else exact(0), exact(a.fill))

    def used(a: Access) -> list[str]:
        mentioned = set(a.strides) | {n for b in a.bounds for n in b.strides}
        return [n for n in axes if n in mentioned]

    letters = {n: chr(97 + i) for i, n in enumerate(axes)}
    result_axes = [a.name for a in (*p.batch, *p.left, *p.right)]
    free = [n for n in axes if n not in set(used(p.lhs)) | set(used(p.rhs))]
    ones = [np.ones(axes[n], exact) for n in free]
    spec = ",".join(
        ["".join(letters[n] for n in used(a)) for a in (p.lhs, p.rhs)] + [letters[n] for n in free]
    )
    spec += "->" + "".join(letters[n] for n in result_axes)
    x, y = operand(p.lhs, used(p.lhs)), operand(p.rhs, used(p.rhs))
    total = np.einsum(spec, x, y, *ones, optimize=True)
    magnitude = np.einsum(spec, np.abs(x), np.abs(y), *ones, optimize=True)
    return {"sum": total, "magnitude": magnitude}


def expected(case: Case) -> tuple[Array, Array, Array]:
    """Output buffer positions, their exact values, and the sums of absolute products there."""
    p, sizes = case.problem, case.sizes
    output = p.epilogue
    assert isinstance(output, Output)
    sums = reference(case)
    axes: tuple[Axis, ...] = (*p.batch, *p.left, *p.right)
    extents = [evaluate(a.extent, sizes) for a in axes]
    index = np.full(extents, evaluate(output.offset, sizes), np.int64)
    values = sums["sum"]
    for i, a in enumerate(axes):
        shape = [1] * len(axes)
        shape[i] = extents[i]
        along = np.arange(extents[i]).reshape(shape)
        index = index + along * evaluate(output.strides.get(a.name, 0), sizes)
        if output.bias and a.name == output.lane:
            values = values + case.arrays["bias"].astype(values.dtype)[along]
    if output.residual:
        values = values + case.arrays["residual"].astype(values.dtype)[index]
    if output.relu:
        values = np.maximum(values, 0)
    return index, values, sums["magnitude"]


def check(case: Case, got: Array, tolerance: float = 4e-6) -> None:
    """Every element within ``tolerance`` of the sum of its absolute products; nothing else written."""
    index, values, magnitude = expected(case)
    out = got[index] if index.size else np.empty(index.shape, got.dtype)
    if values.dtype == np.int64:
        wrapped = values.astype(got.dtype)
        np.testing.assert_array_equal(out, wrapped)
    else:
        error = np.abs(out.astype(np.float64) - values)
        limit = tolerance * np.maximum(magnitude, 1e-3)
        limit = limit + tolerance * np.abs(values)
        bad = ~(error <= limit)
        assert not bad.any(), (
            f"{bad.sum()} of {bad.size} wrong, first at {np.argwhere(bad)[0]}: got {out[bad][0]}, "
            f"expected {values[bad][0]}, limit {limit[bad][0]}"
        )
    untouched = np.ones(got.shape, bool)
    untouched[index.reshape(-1)] = False
    raw = got.view(np.uint8).reshape(len(got), -1) if got.size else np.zeros((0, 1), np.uint8)
    assert (raw[untouched] == 0xFF).all(), "elements that are no results were written"


def verify(
    case: Case,
    target: Target,
    schedule: Schedule | None = None,
    tolerance: float = 4e-6,
    program: Program | None = None,
) -> Program:
    """Compiles and runs the case in order and in a random order of tasks: right, and the same bits."""
    program = program or Program(case.problem, target, schedule)
    first = program.run(case)
    check(case, first, tolerance)
    again = program.run(case, seed=1)
    assert first.tobytes() == again.tobytes(), "the order of tasks changed the result"
    return program

"""What this machine could do at most: measured, since the clock under vector load is written nowhere."""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitrify.options import CompileOptions
from vitrify.toolchain.zig import Compiler

_CHAINS = 12  # independent sums: more than latency times throughput of the multiply-add
_STEPS = 2_000_000
_STREAM_BYTES = 256 << 20


@dataclass(frozen=True)
class Limits:
    """One core's float32 rate in GFLOP/s, and its reads from memory in GB/s."""

    gflops: float
    gbytes: float


def _source(lanes: int) -> str:
    chains = range(_CHAINS)
    declared = "\n".join(f"    v a{i} = x + {i}.0f;" for i in chains)
    steps = "\n".join(f"        a{i} = __builtin_elementwise_fma(a{i}, x, y);" for i in chains)
    total = " + ".join(f"a{i}" for i in chains)
    sums = "\n".join(f"        s{i} += p[{i}];" for i in range(8))
    return f"""
#include <stdint.h>
#define EXPORT __attribute__((visibility("default")))
typedef float v __attribute__((ext_vector_type({lanes})));
EXPORT void multiply_add(float *out, int64_t steps) {{
    v x = *(v *)out, y = x;
{declared}
    for (int64_t i = 0; i < steps; i++) {{
{steps}
    }}
    *(v *)out = {total};
}}
EXPORT void read_all(float *out, const v *p, int64_t vectors) {{
    v {", ".join(f"s{i} = 0" for i in range(8))};
    for (const v *end = p + vectors; p < end; p += 8) {{
{sums}
    }}
    *(v *)out = {" + ".join(f"s{i}" for i in range(8))};
}}
"""


def measure_limits() -> Limits:
    from vitrify.compiler import resolve_target

    target = resolve_target(CompileOptions().resolved_targets()[0])
    lanes = target.vector_bytes // 4
    compiler = Compiler()
    library = compiler.link(compiler.compile_objects({"limits": _source(lanes)}, target), target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "limits.so")
        path.write_bytes(library)
        loaded = ctypes.CDLL(str(path))
    block = (ctypes.c_char * (_STREAM_BYTES + 128))()
    base = (ctypes.addressof(block) + 127) // 64 * 64
    ctypes.memset(base, 0, _STREAM_BYTES)
    flops = _best(lambda: loaded.multiply_add(ctypes.c_void_p(base), ctypes.c_int64(_STEPS)))
    vectors = ctypes.c_int64(_STREAM_BYTES // (4 * lanes) // 8 * 8)
    out = (ctypes.c_char * 192)()
    result = (ctypes.addressof(out) + 63) // 64 * 64
    read = _best(lambda: loaded.read_all(ctypes.c_void_p(result), ctypes.c_void_p(base), vectors))
    return Limits(2 * lanes * _CHAINS * _STEPS / flops / 1e9, _STREAM_BYTES / read / 1e9)


def _best(call: Callable[[], object], repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


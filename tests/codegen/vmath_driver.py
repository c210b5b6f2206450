"""C programs around the vector math: run it over arrays, measure it against the C library's wider type."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrify.codegen.c.vmath import vmath_source
from vitrify.codegen.c.vmath_table import ARITY, CASTS

TARGET = "x86_64-linux-gnu.2.36"
FLAGS = (
    "-O2", "-std=gnu17", "-ffp-contract=off", "-fno-math-errno", "-mprefer-vector-width=512", "-Wno-psabi",
)  # fmt: skip
C_TYPES = {"f32": "float", "f64": "double", "u16": "unsigned short", "u8": "unsigned char"}
WIDER = {"f32": "double", "f64": "long double"}
NUMPY = {"f32": np.float32, "f64": np.float64, "u16": np.uint16, "u8": np.uint8}
UNSIGNED = {"f32": np.uint32, "f64": np.uint64}

# What the C library has under another name or not at all; {l} is the suffix of the wider type's functions.
_REFERENCES = {
    "round": "rint{l}(x)",
    "rsqrt": "1 / sqrt{l}(x)",
    "sigmoid": "1 / (1 + exp{l}(-x))",
    "silu": "x == -INFINITY ? -0.0 : x / (1 + exp{l}(-x))",
    "softplus": "(x > 0 ? x : x == x ? 0 : x) + log1p{l}(exp{l}(-fabs{l}(x)))",
    "gelu": "x == -INFINITY ? -0.0 : x * (erfc{l}(-x * 0.707106781186547524400844362104849L) * 0.5)",
    "gelu_tanh": "x == -INFINITY ? -0.0 : x / (1 + exp{l}(-1.5957691216057307117597842397375L * x"
    " * (1 + 0.044715L * x * x)))",
}

_ULP = """
/* |y - r| in units in the last place of r; 1e30 for a wrong NaN, infinity or sign of an exact zero. */
static double ulp_error({ct} y, {wt} r) {{
  {ct} n = ({ct})r;
  if (r != r || y != y) return r != r && y != y ? 0 : 1e30;
  if (n - n != 0 || y - y != 0) return y == n ? 0 : 1e30;
  if (r == 0 && (y != 0 || !signbit(y) != !signbit(r))) return 1e30;
  int e;
  frexp{l}(r, &e);
  e -= {digits};
  if (e < {lowest} || r == 0) e = {lowest};
  return (double)(fabs{l}(({wt})y - r) * ldexp{l}(1, -e));
}}
"""

_ERROR = """
double error_{n}(const {ct} *x, const {ct} *w, const {ct} *y, long n, long *at) {{
  double worst = 0;
  for (long i = 0; i < n; i++) {{
    double e = ulp_error(y[i], reference_{n}(x[i], w[i]));
    if (e > worst) worst = e, *at = i;
  }}
  return worst;
}}
"""


def reference(name: str, dtype: str) -> str:
    """The exact value as a C expression of the wider type."""
    suffix = {"f32": "", "f64": "l"}[dtype]
    expression = _REFERENCES.get(name, name + "{l}(x, w)" if ARITY[name] == 2 else name + "{l}(x)")
    return expression.replace("{l}", suffix)


def run_source(dtype: str, lanes: int) -> str:
    """``run_NAME(x, w, y, n)`` for every function, n a multiple of the lane count."""
    source = vmath_source((name, dtype, lanes) for name in ARITY)
    ctype, vector = C_TYPES[dtype], f"vt_{dtype}x{lanes}"
    size = np.dtype(NUMPY[dtype]).itemsize * lanes
    source += (
        f"typedef {ctype} loose __attribute__((vector_size({size}), aligned(1)));\n"
        if lanes > 1
        else (f"typedef {vector} loose;\n")
    )
    for name, arity in ARITY.items():
        second = ", *(const loose *)(w + i)" if arity == 2 else ""
        call = f"vt_{name}_{dtype}x{lanes}(*(const loose *)(x + i){second})"
        source += (
            f"void run_{name}(const {ctype} *x, const {ctype} *w, {ctype} *y, long n) {{\n"
            f"  (void)w;\n  for (long i = 0; i < n; i += {lanes}) *(loose *)(y + i) = {call};\n}}\n"
        )
    return source


def error_source(dtype: str) -> str:
    """``error_NAME(x, w, y, n, &at)``: the largest error of y and where it is."""
    ctype, wide, suffix = C_TYPES[dtype], WIDER[dtype], {"f32": "", "f64": "l"}[dtype]
    digits, lowest = {"f32": (24, -149), "f64": (53, -1074)}[dtype]
    source = "#include <math.h>\n" + _ULP.format(ct=ctype, wt=wide, l=suffix, digits=digits, lowest=lowest)
    for name in ARITY:
        value = reference(name, dtype)
        source += f"static {wide} reference_{name}({wide} x, {wide} w) {{ (void)w; return {value}; }}"
        source += _ERROR.format(n=name, ct=ctype)
    return source


def cast_source(lanes: int) -> str:
    """``run_NAME(x, y, n)`` for every cast."""
    source = vmath_source((name, "cast", lanes) for name in CASTS)
    for name, (origin, target) in CASTS.items():
        for role, dtype in (("in", origin), ("out", target)):
            size = np.dtype(NUMPY[dtype]).itemsize * lanes
            attribute = f" __attribute__((vector_size({size}), aligned(1)))" if lanes > 1 else ""
            source += f"typedef {C_TYPES[dtype]} {role}_{name}{attribute};\n"
        source += (
            f"void run_{name}(const {C_TYPES[origin]} *x, {C_TYPES[target]} *y, long n) {{\n"
            f"  for (long i = 0; i < n; i += {lanes})\n"
            f"    *(out_{name} *)(y + i) = vt_{name}x{lanes}(*(const in_{name} *)(x + i));\n}}\n"
        )
    return source


def compile_c(source: str, output: Path, *flags: str) -> Path:
    """Compile C text to ``output``; the compiler's messages are the assertion's."""
    text = output.with_suffix(".c")
    text.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *flags, "-o", str(output), str(text), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@functools.cache
def load(source: str, folder: Path, *flags: str) -> ctypes.CDLL:
    """A shared library of ``source``, compiled once per content."""
    key = hashlib.sha256("\0".join((source, *flags)).encode()).hexdigest()[:16]
    return ctypes.CDLL(
        str(compile_c(source, folder / f"{key}.so", "-target", TARGET, "-shared", "-fPIC", *flags))
    )


def pointers(*arrays: NDArray[np.generic]) -> Sequence[ctypes.c_void_p]:
    """Addresses of the arrays' data."""
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]

"""The vector math: error bounds, special values, the same bits in every lane count, no library behind it."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from vitrify.codegen.c.vmath import BOUNDS, vmath_source
from vitrify.codegen.c.vmath_table import ARITY, CASTS, LANES
from vitrify.errors import InvalidArgumentError

from . import vmath_driver as driver

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not sys.platform.startswith("linux"),
    reason="runs code for x86-64 Linux",
)

Array = NDArray[np.generic]
UNARY = sorted(name for name, arity in ARITY.items() if arity == 1)
BINARY = sorted(name for name, arity in ARITY.items() if arity == 2)
FLAGS = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
CPUS = ["x86_64_v3", *(["x86_64_v4"] if "avx512vl" in FLAGS else [])]
BEST = CPUS[-1]
WIDEST = {"f32": 16, "f64": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vmath")


def run(library: ctypes.CDLL, name: str, x: Array, w: Array) -> Array:
    y = np.zeros_like(x)
    getattr(library, f"run_{name}")(*driver.pointers(x, w, y), ctypes.c_long(len(x)))
    return y


def check(folder: Path, name: str, dtype: str, x: Array, w: Array) -> float:
    """Largest error over the samples in ulp; fails above the bound."""
    x, w = (np.ascontiguousarray(a[: len(a) // 16 * 16]) for a in (x, w))
    library = driver.load(driver.run_source(dtype, WIDEST[dtype]), folder, f"-mcpu={BEST}")
    errors = driver.load(driver.error_source(dtype), folder)
    y = run(library, name, x, w)
    measure = getattr(errors, f"error_{name}")
    measure.restype = ctypes.c_double
    at = ctypes.c_long(0)
    worst = float(measure(*driver.pointers(x, w, y), ctypes.c_long(len(x)), ctypes.byref(at)))
    arguments = (x[at.value], w[at.value])[: ARITY[name]]
    bound = BOUNDS[name, dtype]
    assert worst <= bound, f"{name}{arguments} = {y[at.value]!r}: {worst:.4g} ulp, at most {bound} stated"
    return worst


def specials(dtype: str) -> Array:
    real = driver.NUMPY[dtype]
    info = np.finfo(real)
    positive = [0.0, np.inf, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 1e10, 2.0**23 + 1, 2.0**31, 2.0**52 + 1]
    limits = [info.max, info.tiny, info.smallest_subnormal, info.tiny / 2, 1 - info.epsneg, 1 + info.eps]
    values = np.array([*positive, *limits, 2.0**53, 2.0**100 if dtype == "f32" else 2.0**1000], real)
    values = np.concatenate([values, -values, np.array([np.nan], real)])
    return np.concatenate([values, np.ones(-len(values) % 16, real)])


def spread(dtype: str, count: int, seed: int) -> Array:
    """Samples of every exponent and sign, and denser ones where functions bend."""
    rng = np.random.default_rng(seed)
    real = driver.NUMPY[dtype]
    bits = driver.UNSIGNED[dtype]
    parts = [rng.integers(0, np.iinfo(bits).max, count, dtype=bits, endpoint=True).view(real)]
    parts += [rng.uniform(-scale, scale, count // 2).astype(real) for scale in (1, 2, 6, 30, 110, 760)]
    parts += [(1 + rng.uniform(-1, 1, count // 2) * np.exp(rng.uniform(-36, -0.5, count // 2))).astype(real)]
    parts += [(rng.choice([-1, 1], count // 2) * np.exp(rng.uniform(-40, 3, count // 2))).astype(real)]
    return np.concatenate([specials(dtype), *parts])


@pytest.mark.parametrize("name", UNARY)
def test_f32_unary_error_over_the_whole_range(folder: Path, name: str) -> None:
    patterns = np.arange(0, 2**32, 4099, dtype=np.uint32).view(np.float32)
    check(folder, name, "f32", patterns, patterns)
    x = spread("f32", 100_000, seed=1)
    check(folder, name, "f32", x, x)


@pytest.mark.parametrize("name", UNARY)
def test_f64_unary_error(folder: Path, name: str) -> None:
    x = spread("f64", 60_000, seed=2)
    check(folder, name, "f64", x, x)


def pairs(name: str, dtype: str, count: int) -> tuple[Array, Array]:
    """Every pair of special values, unrelated pairs, and pairs on which the function is hard."""
    rng = np.random.default_rng(3)
    real = driver.NUMPY[dtype]
    grid = specials(dtype)
    x, w = np.repeat(grid, len(grid)), np.tile(grid, len(grid))
    a = spread(dtype, count, seed=4)
    b = rng.permutation(a)
    if name == "pow":
        a = np.concatenate([a, np.abs(a), np.exp(rng.uniform(-3, 3, count)).astype(real)])
        reach = {"f32": 88, "f64": 709}[dtype]
        last = rng.uniform(-reach, reach, count) / np.log(a[-count:].astype(np.float64))
        b = np.concatenate([b, b, last.astype(real)])
    else:
        near = np.abs(b) < 1e30
        a = np.concatenate([a, b[near] * rng.uniform(-3, 3, near.sum()).astype(real)])
        b = np.concatenate([b, b[near]])
    return np.concatenate([x, a]), np.concatenate([w, b])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_error(folder: Path, name: str, dtype: str) -> None:
    check(folder, name, dtype, *pairs(name, dtype, 60_000))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles_and_near_multiples_of_half_pi(folder: Path, name: str, dtype: str) -> None:
    real = driver.NUMPY[dtype]
    k = np.concatenate([np.arange(1, 60_000), 2 ** np.arange(16, 62)]).astype(np.longdouble)
    centre = (k * np.longdouble("1.5707963267948966192313216916397514")).astype(real)
    edge = np.array({"f32": [2.0**17], "f64": [2.0**20]}[dtype], real)
    around = [np.nextafter(v, real(s)) for v in (centre, edge) for s in (np.inf, 0)]
    huge = (2.0 ** np.linspace(17, {"f32": 127.9, "f64": 1023.9}[dtype], 40_000)).astype(real)
    x = np.concatenate([centre, edge, *around, huge])
    check(folder, name, dtype, np.concatenate([x, -x]), np.concatenate([x, -x]))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_same_bits_in_every_lane_count_and_target(folder: Path, dtype: str) -> None:
    x = spread(dtype, 8_000, seed=5)[: 40_000 // 16 * 16]
    w = np.random.default_rng(6).permutation(x)
    expected: dict[str, Array] = {}
    for cpu in CPUS:
        for lanes in LANES[dtype]:
            library = driver.load(driver.run_source(dtype, lanes), folder, f"-mcpu={cpu}")
            for name in ARITY:
                y = run(library, name, x, w)
                want = expected.setdefault(name, y)
                bits = driver.UNSIGNED[dtype]
                same = (y.view(bits) == want.view(bits)) | (np.isnan(y) & np.isnan(want))
                assert same.all(), f"{name}({x[~same][0]!r}) {dtype}x{lanes} {cpu}: {y[~same][0]!r}"


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_same_bits_at_every_position(folder: Path, dtype: str) -> None:
    lanes = WIDEST[dtype]
    library = driver.load(driver.run_source(dtype, lanes), folder, f"-mcpu={BEST}")
    x = spread(dtype, 1_000, seed=7)
    x = x[: len(x) // lanes * lanes]
    w = np.random.default_rng(8).permutation(x)
    for name in ARITY:
        y, shifted = run(library, name, x, w), run(library, name, np.roll(x, 3), np.roll(w, 3))
        np.testing.assert_array_equal(np.roll(y, 3), shifted, err_msg=name)


_UBSAN_MAIN = """
#include <stdlib.h>
int main(void) {{
  static {ct} x[{count}], w[{count}], y[{count}];
  FILE *f = fopen("{data}", "rb");
  if (!f || fread(x, sizeof x, 1, f) != 1 || fread(w, sizeof w, 1, f) != 1) return 2;
  {calls}
  return 0;
}}
"""


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_no_undefined_behaviour(folder: Path, dtype: str, lanes: int) -> None:
    x = spread(dtype, 1_000, seed=9)
    x = x[: len(x) // 16 * 16]
    w = np.random.default_rng(10).permutation(x)
    data = folder / f"{dtype}.bin"
    data.write_bytes(x.tobytes() + w.tobytes())
    calls = "\n  ".join(f"run_{name}(x, w, y, {len(x)});" for name in ARITY)
    main = _UBSAN_MAIN.format(ct=driver.C_TYPES[dtype], count=len(x), data=data, calls=calls)
    source = "#include <stdio.h>\n" + driver.run_source(dtype, lanes) + main
    sanitize = ("-fsanitize=undefined", "-fsanitize-trap=undefined", "-target", driver.TARGET)
    program = driver.compile_c(source, folder / f"ubsan_{dtype}_{lanes}", f"-mcpu={BEST}", *sanitize)
    done = subprocess.run([program], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("target", "cpu"),
    [("x86_64-linux-gnu", "x86_64_v3"), ("x86_64-linux-gnu", "x86_64_v4"), ("aarch64-linux-gnu", "generic")],
)
def test_links_without_any_library(folder: Path, target: str, cpu: str) -> None:
    sources = [driver.run_source(dtype, lanes).replace("run_", f"run_{dtype}_{lanes}_").replace(
        "loose", f"loose_{dtype}_{lanes}") for dtype in ("f32", "f64") for lanes in LANES[dtype]]  # fmt: skip
    for number, source in enumerate([*sources, driver.cast_source(1), driver.cast_source(16)]):
        output = folder / f"{target}_{cpu}_{number}.so"
        driver.compile_c(
            source, output, "-target", target, f"-mcpu={cpu}", "-ffreestanding", "-fno-builtin", "-nostdlib",
            "-shared", "-fPIC", "-Wl,-z,defs", "-Wall", "-Wextra", "-Werror",
        )  # fmt: skip


NARROW = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8e5m2": ml_dtypes.float8_e5m2, "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip


def run_cast(folder: Path, name: str, x: Array, lanes: int, cpu: str) -> Array:
    library = driver.load(driver.cast_source(lanes), folder, f"-mcpu={cpu}")
    y = np.zeros(len(x), driver.NUMPY[CASTS[name][1]])
    getattr(library, f"run_{name}")(*driver.pointers(x, y), ctypes.c_long(len(x)))
    return y


@pytest.mark.parametrize("lanes", LANES["cast"])
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("narrow", NARROW)
def test_widening_every_pattern(folder: Path, narrow: str, cpu: str, lanes: int) -> None:
    bits = np.dtype(f"u{np.dtype(NARROW[narrow]).itemsize}")
    x = np.arange(2 ** (8 * bits.itemsize)).astype(bits)
    y = run_cast(folder, f"cast_{narrow}_f32", x, lanes, cpu)
    want = x.view(NARROW[narrow]).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_array_equal(np.signbit(y), np.signbit(want))
    np.testing.assert_array_equal(y, want)


def narrowing_samples(narrow: str) -> Array:
    """All exponents, every value of the narrow type, every midpoint and its neighbours, and the limits."""
    bits = np.dtype(f"u{np.dtype(NARROW[narrow]).itemsize}")
    values = np.arange(2 ** (8 * bits.itemsize)).astype(bits).view(NARROW[narrow]).astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    ends = np.array([values[-1] + (values[-1] - values[-2]) / 2, values[-1] * 2, 3e38])
    middle = np.concatenate([(values[1:] + values[:-1]) / 2, ends, -ends]).astype(np.float32)
    around = [np.nextafter(middle, np.float32(s)) for s in (-np.inf, np.inf)]
    patterns = np.arange(0, 2**32, 9973, dtype=np.uint32).view(np.float32)
    x = np.concatenate([specials("f32"), values.astype(np.float32), middle, *around, patterns])
    return np.concatenate([x, np.zeros(-len(x) % 16, np.float32)])


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
@pytest.mark.parametrize("lanes", LANES["cast"])
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", [name for name in CASTS if name.startswith("cast_f32_")])
def test_narrowing(folder: Path, name: str, cpu: str, lanes: int) -> None:
    narrow = name.split("_")[2]
    dtype = NARROW[narrow]
    x = narrowing_samples(narrow)
    y = run_cast(folder, name, x, lanes, cpu).view(dtype)
    saturates = narrow.startswith("f8") and not name.endswith("_nosat")
    limit = float(ml_dtypes.finfo(dtype).max)
    want = (np.clip(x, -limit, limit) if saturates else x).astype(dtype)
    nan = np.isnan(want.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(y.astype(np.float32)), nan)
    unsigned = f"u{np.dtype(dtype).itemsize}"
    np.testing.assert_array_equal(y.view(unsigned)[~nan], want.view(unsigned)[~nan])


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY)
def test_f32_every_value(folder: Path, name: str) -> None:
    for start in range(0, 2**32, 2**24):
        x = np.arange(start, start + 2**24, dtype=np.uint32).view(np.float32)
        check(folder, name, "f32", x, x)


def test_source_holds_only_what_is_used_once() -> None:
    source = vmath_source([("tanh", "f32", 16), ("exp", "f32", 16), ("exp", "f32", 16)])
    assert source == vmath_source([("exp", "f32", 16), ("tanh", "f32", 16)])
    assert source.count("vt_exp_poly_f32x16(vt_f32x16 r)") == 1
    for absent in ("log", "f64", "x8", "#include", "/*", "_erf"):
        assert absent not in source
    assert len(vmath_source([("exp", "f32", 16)])) < 5_000
    assert vmath_source([]) == ""


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (("exq", "f32", 4), "exq in f32"),
        (("exp", "f16", 4), "exp in f16"),
        (("exp", "cast", 4), "exp in cast"),
        (("exp", "f32", 3), "got 3"),
        (("exp", "f64", 16), "got 16"),
    ],
)
def test_unknown_function_is_refused(use: tuple[str, str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        vmath_source([use])


def test_every_function_states_a_bound() -> None:
    assert set(BOUNDS) == {(name, dtype) for name in ARITY for dtype in ("f32", "f64")}

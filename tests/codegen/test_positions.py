"""Symbolic integers as C: compiled, and held against their values."""

from __future__ import annotations

import ctypes
import itertools
import tempfile
from pathlib import Path

from vitrify.codegen.c.positions import PRELUDE, position, real
from vitrify.ir.dims import Dim, DimLike, evaluate, floordiv, maximum, minimum, mod
from vitrify.lower.target import V3
from vitrify.toolchain.zig import Compiler

N, K, Z = Dim.symbol("n", 1), Dim.symbol("k", 1), Dim.symbol("z", -50)
X = N * 3 + K
EXPRESSIONS: list[DimLike] = [
    0, -7, 1 << 40, N, -N, N - K, 2 * N * K - 3 * N + 5, X // (N * K), X % (N * K), (N * N * K) // (K * K),
    N * K % (N * N) * K,
    N * (X // (2 * K)), N - (X % (N * N)) * 2, (X // N) // K, (X % K) // 2, (X * X) // (N + K), (X * X) % (N + K),
    floordiv(Z, 7), mod(Z, 7), floordiv(Z * N, N * K), mod(Z - N, N * K), floordiv(-N, 8),
    minimum(N, K * 2) * 3 - maximum(N * K, Z),
    minimum(N * K, K * K) // (N * K), (N + 63) // 64 * 64, floordiv(Z - 1, maximum(N, 16 // K + 1)) + 1,
    mod(N * K, minimum(N, K)),
    (N * K - 1) // (N * (K + 1)), maximum((16383 // N) + 1, (N * N * 3 + 63) // 64) * K,
]  # fmt: skip
VALUES = [(n, k, z) for n, k, z in itertools.product((1, 2, 7, 33), (1, 3, 16), (-50, -7, 0, 5, 100))]


def library() -> ctypes.CDLL:
    head = "const long n, const long k, const long z"
    whole = "".join(f"long p{i}({head}) {{ return {position(e)}; }}\n" for i, e in enumerate(EXPRESSIONS))
    floating = "".join(f"double r{i}({head}) {{ return {real(e)}; }}\n" for i, e in enumerate(EXPRESSIONS))
    compiler = Compiler()
    flags = ["-fvisibility=default"]
    text = "#include <stdint.h>\n" + PRELUDE + whole + floating
    objects = compiler.compile_objects({"positions": text}, V3, flags=flags)
    path = Path(tempfile.mkdtemp(), "positions.so")
    path.write_bytes(compiler.link(objects, V3))
    return ctypes.CDLL(str(path))


def test_every_expression_has_its_value() -> None:
    loaded = library()
    for i, expression in enumerate(EXPRESSIONS):
        function = loaded[f"p{i}"]
        function.restype = ctypes.c_long
        function.argtypes = [ctypes.c_long] * 3
        for n, k, z in VALUES:
            wanted = evaluate(expression, {"n": n, "k": k, "z": z})
            assert function(n, k, z) == wanted, f"{expression} = {position(expression)} at {(n, k, z)}"


def test_the_same_in_double_is_near() -> None:
    """Sizes in double decide whether memory could be had: quotients are not rounded, remainders bounded."""
    loaded = library()
    sizes = [i for i, e in enumerate(EXPRESSIONS) if "%" not in str(e) and "//" not in str(e)]
    for i in sizes:
        function = loaded[f"r{i}"]
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_long] * 3
        for n, k, z in VALUES:
            assert function(n, k, z) == evaluate(EXPRESSIONS[i], {"n": n, "k": k, "z": z})
    assert real(Dim.symbol("n") * (1 << 2000)).startswith("(1e300")

"""The C that every payload carries, by itself: the pool under sanitizers, memory functions, symbols."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitrify.codegen.c.native import include_directory

from .plans import MACHINE, PAYLOAD, Factory

SOURCES = include_directory()


def compile_c(output: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run([*command, *map(str, arguments), "-o", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def stress(tmp_path: Path, *flags: str) -> None:
    program = tmp_path / "stress"
    here = Path(__file__).with_name("pool_stress.c")
    compile_c(program, *flags, "-I", SOURCES, SOURCES / "pool.c", here)
    for cpus in (1, 2, 8):
        done = subprocess.run([program, str(cpus)], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stdout, done.stderr) == (0, "every task ran once\n", "")


def test_pool(tmp_path: Path) -> None:
    stress(tmp_path, "-O2")


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "undefined"])
def test_pool_under_a_sanitizer(tmp_path: Path, sanitizer: str) -> None:
    stress(tmp_path, "-O1", "-g", f"-fsanitize={sanitizer}")


def dynamic_symbols(library: Path) -> dict[str, bool]:
    """The names in an ELF library's dynamic symbol table, and whether each is defined there."""
    data = library.read_bytes()
    (sections,), (size, count) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<HH", data, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, sections + size * i) for i in range(count)]
    symbols: dict[str, bool] = {}
    for _, kind, _, _, offset, length, link, _, _, _ in headers:
        if kind == 11:  # SHT_DYNSYM
            names = headers[link][4]
            for at in range(offset + 24, offset + length, 24):
                name, _, _, section = struct.unpack_from("<IBBH", data, at)
                end = data.index(b"\0", names + name)
                symbols[data[names + name : end].decode()] = section != 0
    return symbols


def test_a_payload_exports_one_symbol_and_imports_none(artifact: Factory) -> None:
    for name in ("add", "dynamic_add", "narrow"):
        payload = Path(artifact(name).path, PAYLOAD)
        assert dynamic_symbols(payload) == {"vt_payload": True}


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("mem") / "mem.so"
    flags = ["-O3", "-shared", "-fPIC", "-nostdlib", "-ffreestanding", "-fno-builtin", *MACHINE]
    compile_c(library, *flags, SOURCES / "mem.c")
    loaded = ctypes.CDLL(str(library))
    for name in ("memcpy", "memmove", "memcmp", "bcmp"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    loaded.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    for name in ("memcpy", "memmove", "memset"):
        getattr(loaded, name).restype = ctypes.c_void_p
    return loaded


SIZES = [*range(140), 191, 192, 193, 1000, 4099]


def test_memcpy_and_memset(memory: ctypes.CDLL) -> None:
    source = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
    for size in SIZES:
        for start in (0, 1, 7):
            target, expected = np.full(5000, 9, np.uint8), np.full(5000, 9, np.uint8)
            at = target.ctypes.data + 64
            assert memory.memcpy(at, source.ctypes.data + start, size) == at
            expected[64 : 64 + size] = source[start : start + size]
            np.testing.assert_array_equal(target, expected)
            assert memory.memset(at + start, 0x1AB, size) == at + start
            expected[64 + start : 64 + start + size] = 0xAB
            np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("distance", [-300, -65, -64, -63, -16, -1, 0, 1, 15, 16, 63, 64, 65, 300])
def test_memmove(memory: ctypes.CDLL, distance: int) -> None:
    original = np.random.default_rng(1).integers(0, 256, 6000, np.uint8)
    for size in SIZES:
        data, expected = original.copy(), original.copy()
        memory.memmove(data.ctypes.data + 500 + distance, data.ctypes.data + 500, size)
        expected[500 + distance : 500 + distance + size] = original[500 : 500 + size]
        np.testing.assert_array_equal(data, expected)


def test_memcmp(memory: ctypes.CDLL) -> None:
    for a, b, sign in ((b"", b"", 0), (b"abc", b"abc", 0), (b"ab\x01", b"ab\xff", -1), (b"b", b"a", 1)):
        assert np.sign(memory.memcmp(a, b, len(a))) == sign and (memory.bcmp(a, b, len(a)) == 0) == (
            sign == 0
        )

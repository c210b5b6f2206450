"""The compiler: objects, the store, errors, linking, interruption."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vitrify.codegen.c.native import include_directory, support_sources
from vitrify.errors import InvalidArgumentError, ToolchainError
from vitrify.lower.target import AARCH64, V3, V4, Target, with_extensions
from vitrify.toolchain.locate import CC_VARIABLE
from vitrify.toolchain.zig import Compiler, sanitizer_libraries

EXPORT = '__attribute__((visibility("default"))) '


class MemoryStore:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def read_object(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def write_object(self, key: str, data: bytes) -> None:
        self.objects[key] = data


def loaded(library: bytes, folder: Path) -> ctypes.CDLL:
    path = folder / "library.so"
    path.write_bytes(library)
    return ctypes.CDLL(str(path))


def test_compiles_and_links(tmp_path: Path) -> None:
    compiler = Compiler()
    sources = {name: f"{EXPORT}int {name}(void) {{ return {n}; }}" for n, name in ((1, "one"), (2, "two"))}
    objects = compiler.compile_objects(sources, V3)
    assert list(objects) == ["one", "two"]
    library = loaded(compiler.link(objects, V3), tmp_path)
    assert (library.one(), library.two()) == (1, 2)


def test_same_bytes_every_time() -> None:
    source = {"f": f"{EXPORT}float f(float x) {{ return x * x + 1; }}"}
    first, second = Compiler(), Compiler()
    objects = first.compile_objects(source, V4)
    assert objects == second.compile_objects(source, V4)
    assert first.link(objects, V4) == second.link(objects, V4)


def test_products_and_sums_are_not_contracted(tmp_path: Path) -> None:
    compiler = Compiler()
    objects = compiler.compile_objects(
        {"f": f"{EXPORT}double f(double x, double y, double z) {{ return x * y + z; }}"}, V3
    )
    f = loaded(compiler.link(objects, V3), tmp_path).f
    f.restype, f.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    x = 1 + 2**-30
    assert f(x, x, -(x * x)) == 0.0  # a fused multiply-add would give the rounding error


def test_equal_texts_are_compiled_once_and_kept() -> None:
    store, reports = MemoryStore(), []
    compiler = Compiler(store=store)
    sources = {"a": "int f(void) { return 1; }", "b": "int f(void) { return 1; }"}
    first = compiler.compile_objects(sources, V3, on_done=lambda name, made: reports.append((name, made)))
    assert first["a"] == first["b"] and len(store.objects) == 1
    assert reports == [("a", True), ("b", True)]
    reports.clear()
    again = Compiler(store=store).compile_objects(
        sources, V3, on_done=lambda name, made: reports.append((name, made))
    )
    assert again == first and reports == [("a", False), ("b", False)]


def test_what_the_store_tells_apart(tmp_path: Path) -> None:
    header = tmp_path / "value.h"
    store = MemoryStore()
    source = {"f": '#include "value.h"\nint f(void) { return VALUE; }'}
    for text in ("#define VALUE 1\n", "#define VALUE 2\n"):
        header.write_text(text)
        Compiler(store=store).compile_objects(source, V3, include=[tmp_path])
    Compiler(store=store).compile_objects(source, V4, include=[tmp_path])
    Compiler(store=store).compile_objects(source, V4, include=[tmp_path], flags=["-DX=1"])
    assert len(store.objects) == 4


def test_errors_name_the_kernel_and_show_the_diagnostics() -> None:
    sources = {"good": "int g;", "k_bad": "int f(void) { return missing; }", "k_worse": "int f( {"}
    with pytest.raises(ToolchainError) as caught:
        Compiler().compile_objects(sources, V3)
    message = str(caught.value)
    assert "k_bad.c:1:" in message and "undeclared identifier 'missing'" in message
    assert "k_worse.c:1:" in message and "good" not in message


def test_undefined_symbols_are_refused() -> None:
    compiler = Compiler()
    objects = compiler.compile_objects({"k": f"void other(void); {EXPORT}void f(void) {{ other(); }}"}, V3)
    with pytest.raises(ToolchainError, match=r"undefined symbol: other"):
        compiler.link(objects, V3)


@pytest.mark.parametrize(
    "target", [V3, V4, AARCH64, with_extensions(V4, "vnni", "bf16", "amx-bf16")], ids=lambda t: t.name
)
def test_support_sources_compile_for_every_target(target: Target) -> None:
    compiler = Compiler()
    sources = {path.name: path.read_text() for path in support_sources()}
    plan = Path(__file__).parents[1] / "runtime" / "plans" / "add.c"
    sources["plan"] = plan.read_text()
    library = compiler.link(compiler.compile_objects(sources, target, include=[include_directory()]), target)
    assert library[:4] == b"\x7fELF"
    assert b"GLIBC" not in library


def test_missing_and_unfit_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CC_VARIABLE, "no-such-compiler")
    with pytest.raises(ToolchainError, match="'no-such-compiler'"):
        Compiler()
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho gcc 12\n")
    fake.chmod(0o755)
    with pytest.raises(ToolchainError, match=r"expected a clang; got gcc 12"):
        Compiler(str(fake))
    monkeypatch.delenv(CC_VARIABLE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"pip install 'vitrify\[compile\]'"):
        Compiler()


def test_fingerprint_follows_the_program(tmp_path: Path) -> None:
    clang = tmp_path / "clang"
    clang.write_text("#!/bin/sh\necho clang version 99\n")
    clang.chmod(0o755)
    before = Compiler(str(clang)).fingerprint
    clang.write_text("#!/bin/sh\necho clang version 100\n")
    assert Compiler(str(clang)).fingerprint != before
    assert Compiler().fingerprint == Compiler().fingerprint != before


def test_unknown_sanitizer() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown sanitizer"):
        Compiler().compile_objects({"f": "int f;"}, V3, sanitize=["thread"])


def test_sanitized_code_reports(tmp_path: Path) -> None:
    compiler, sanitize = Compiler(), ("address", "undefined")
    source = f"""
        {EXPORT}int shift(int by) {{ return 1 << by; }}
        {EXPORT}int at(const int *p, int i) {{ return p[i]; }}
    """
    objects = compiler.compile_objects({"f": source}, V3, sanitize=sanitize)
    (tmp_path / "library.so").write_bytes(compiler.link(objects, V3, sanitize=sanitize))
    script = """
        import ctypes, sys
        library, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        block = ctypes.c_void_p(libc.malloc(40))
        library.at(block, 9)
        library.shift(40)
        print("inside", flush=True)
        library.at(block, 10)
        print("outside", flush=True)
    """
    preload = ":".join(map(str, sanitizer_libraries()))
    environment = dict(os.environ, LD_PRELOAD=preload, ASAN_OPTIONS="detect_leaks=0")
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "library.so")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode != 0 and found.stdout == "inside\n"
    assert "shift exponent 40 is too large" in found.stderr and "heap-buffer-overflow" in found.stderr


def test_interruption_ends_the_compilers() -> None:
    # a source that keeps clang busy for long: its error is that it never finishes in time
    script = """
        import signal
        from vitrify.lower.target import V3
        from vitrify.toolchain.zig import Compiler
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        deep = "int f(int x) { " + "".join(f"x = x * {i} ^ (x >> {i % 31}); if (x == {i}) x += f(x);"
                                           for i in range(30000)) + " return x; }"
        print("started", flush=True)
        Compiler().compile_objects({"slow": deep, "slower": deep + " "}, V3)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.7)
    pids = _children(child.pid)
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = child.communicate(timeout=30)
    assert pids, "no compiler was running"
    assert "KeyboardInterrupt" in err and time.monotonic() - start < 5
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found

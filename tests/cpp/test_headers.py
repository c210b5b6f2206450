"""What is shipped for programs in C and C++: written from one truth, and free of warnings in both languages."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cpp.conftest import HERE, WARNINGS
from vitrify.codegen.c.headers import generated
from vitrify.codegen.c.native import include_directory as native_directory
from vitrify.include import include_directory
from vitrify.runtime import native

HEADERS = sorted(path.relative_to(include_directory()).as_posix() for path in include_directory().rglob("*.h*"))


@pytest.mark.parametrize("name", generated())
def test_generated_headers_are_current(name: str) -> None:
    found = (include_directory() / name).read_text(encoding="utf-8")
    assert found == generated()[name], "write them anew: python -m vitrify.codegen.c.headers"


def test_the_interface_is_the_payloads() -> None:
    text = (include_directory() / "vitrify.h").read_text(encoding="utf-8")
    digest = hashlib.sha256((native_directory() / "abi.h").read_bytes()).hexdigest()
    assert f'#define VT_ABI_DIGEST "{digest}"' in text and digest == native.ABI_DIGEST
    assert f"#define VT_ABI_VERSION {native.ABI_VERSION}u" in text
    declared = set(re.findall(r"^(?:typedef )?struct (vt_\w+) \{", text, re.MULTILINE))
    assert {"vt_payload_table", "vt_request", "vt_config", "vt_os", "vt_model", "vt_watch"} <= declared


def test_where_they_are_is_printed() -> None:
    done = subprocess.run([sys.executable, "-m", "vitrify.include"], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == include_directory() and (include_directory() / "vitrify.hpp").is_file()


@pytest.mark.parametrize("language", ["c11", "c++17", "c++20"])
def test_the_interface_is_c_and_cpp(language: str, compiler: str, tmp_path: Path) -> None:
    """Structs have the sizes that Python's loader knows."""
    structs = {
        "vt_payload_table": native._Table, "vt_config": native._Config, "vt_request": native._Request,
        "vt_os": native._Os, "vt_model": native._Model, "vt_watch": native.Watch, "vt_arg": native._Arg,
    }  # fmt: skip
    keyword = "_Static_assert" if language == "c11" else "static_assert"
    source = tmp_path / ("a.c" if language == "c11" else "a.cpp")
    checks = [f'{keyword}(sizeof({name}) == {ctypes.sizeof(one)}, "{name}");' for name, one in structs.items()]
    source.write_text("\n".join(["#include <vitrify.h>", *checks, ""]))
    command = [compiler if language != "c11" else "gcc", f"-std={language}", *WARNINGS, f"-I{include_directory()}"]
    done = subprocess.run([*command, "-fsyntax-only", str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", [name for name in HEADERS if name.endswith(".hpp")])
def test_headers_are_of_a_size_to_be_read(name: str) -> None:
    lines = (include_directory() / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 600
    assert max(map(len, lines)) <= 120


def test_clang_has_nothing_to_say(clang: list[str], compiler: str, tmp_path: Path) -> None:
    folders = [option for folder in ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu")
               for option in ("-idirafter", folder)]  # fmt: skip
    command = [*clang, "-std=c++17", *WARNINGS, *folders, f"-I{include_directory()}", "-c", str(HERE / "check.cpp"),
               "-o", str(tmp_path / "check.o")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr[-3000:]


def test_two_translation_units_link(compiler: str, tmp_path: Path) -> None:
    """Everything is inline: a program may include the loader wherever it wants to."""
    (tmp_path / "one.cpp").write_text("#include <vitrify.hpp>\nint other();\nint main() { return other(); }\n")
    (tmp_path / "two.cpp").write_text(
        "#include <vitrify.hpp>\nint other();\n"
        "int other() {\n"
        '    try { vitrify::load("/nowhere"); } catch (const vitrify::Error &error) { return error.code(); }\n'
        "    return 1;\n}\n"
    )
    program = tmp_path / "program"
    command = [compiler, "-std=c++17", *WARNINGS, f"-I{include_directory()}", str(tmp_path / "one.cpp"),
               str(tmp_path / "two.cpp"), "-o", str(program), "-lcrypto", "-pthread"]  # fmt: skip
    subprocess.run(command, check=True)
    assert subprocess.run([str(program)]).returncode == 11

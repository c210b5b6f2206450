"""Libraries of all targets, each built once: what payloads are, and what they must not be."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from vitrify.artifact.gate import Platform, examine
from vitrify.codegen.c.native import include_directory, support_sources
from vitrify.lower.target import TARGETS, Target
from vitrify.toolchain.zig import Compiler

PLAN = Path(__file__).parents[2] / "runtime" / "plans" / "add.c"
EXPORTED = '__attribute__((visibility("default"))) '
PLAIN = EXPORTED + "int vt_payload(int x) { return x + 1; }\n"
EXPORTS = ("vt_payload",)

_LINKERS = {
    "linux": ["ld.lld", "-shared", "-nostdlib", "--gc-sections", "-z", "relro", "-s", "-o", "library"],
    "windows": ["lld-link", "-dll", "-machine:x64", "-lldmingw", "-nodefaultlib", "-timestamp:0", "-out:library"],
    "macos": ["cc", "-nostdlib", "-Wl,-s", "-o", "library"],
}


def platform(target: Target) -> Platform:
    return Platform(target.os, target.arch)


@cache
def payload(name: str) -> bytes:
    """What the compiler makes of the support code and a plan, for the target ``name``."""
    compiler, target = Compiler(), TARGETS[name]
    sources = {path.name: path.read_text() for path in support_sources()} | {"plan": PLAN.read_text()}
    objects = compiler.compile_objects(sources, target, include=[include_directory()])
    return compiler.link(objects, target)


@cache
def library(
    name: str, source: str, link: tuple[str, ...] = (), *, flags: tuple[str, ...] = (), other: tuple[str, ...] = (),
) -> bytes:  # fmt: skip
    """``source`` for the target ``name``, linked with the options ``link``. With ``other``, a second library with the
    function ``other`` is made by these options, and the first needs it."""
    compiler, target = Compiler(), TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:

        def run(text: str, options: Sequence[str]) -> None:
            Path(folder, "source.o").write_bytes(compiler.compile_objects({"f": text}, target, flags=flags)["f"])
            command = [str(compiler.program), *_LINKERS[target.os]]
            if target.os == "macos":
                command += ["-target", f"{target.arch}-macos.11.0"]
            subprocess.run([*command, "source.o", *options], cwd=folder, check=True, capture_output=True, timeout=60)

        if other:
            run(EXPORTED + "int other(void) { return 1; }", other)
        run(source, link)
        return Path(folder, "library").read_bytes()


def check(image: bytes, name: str, exports: tuple[str, ...] = EXPORTS) -> None:
    """Examines ``image`` as a library of the target ``name``."""
    examine(image, platform(TARGETS[name]), exports, path="lib")

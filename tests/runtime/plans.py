"""Artifacts around the hand-written plans of ``plans/``, compiled as the compiler compiles its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrify.artifact.loading import Artifact
from vitrify.artifact.manifest import Kernel, Manifest, Meta, Node, Port, Target
from vitrify.artifact.writing import Content, write_artifact
from vitrify.codegen.c.native import include_directory, support_sources
from vitrify.lower.target import TARGETS
from vitrify.runtime.cpu import detect
from vitrify.runtime.native import ABI_DIGEST
from vitrify.toolchain.zig import Compiler

SOURCES = Path(__file__).with_name("plans")
TARGET, MACHINE = {
    "x86-64": ("x86-64-v3", ["-target", "x86_64-linux-gnu", "-mcpu=x86_64_v3"]),
    "aarch64": ("aarch64", ["-target", "aarch64-linux-gnu"]),
}[detect().architecture]
PAYLOAD, WEIGHTS = f"payload/{TARGET}.so", f"weights/{TARGET}.bin"

MATRIX = np.random.default_rng(7).standard_normal((512, 256), dtype=np.float32)
TABLE = np.array([10, -20, 30, -40, 50], np.int64)

Factory = Callable[[str], Artifact]


def _ports(*specs: tuple[str, str, tuple[int | str, ...]]) -> tuple[Port, ...]:
    return tuple(Port(*spec) for spec in specs)


#: plan: inputs, outputs, weights, source nodes
PLANS: dict[str, tuple[tuple[Port, ...], tuple[Port, ...], bytes | None, tuple[Node, ...]]] = {
    "add": (
        _ports(("a", "f32", (4,)), ("b", "f32", (4,))),
        _ports(("y", "f32", (4,))),
        None,
        (Node("add_0", "Add"),),
    ),
    "dynamic_add": (
        _ports(("a", "f32", ("N", "M")), ("b", "f32", ("M", 3))),
        _ports(("y", "f32", ("N", "M")), ("total", "f32", ("2*N",))),
        None,
        (Node("sum_0", "ReduceSum"), Node("add_1", "Add")),
    ),
    "matvec": (
        _ports(("x", "f32", (256,))),
        _ports(("y", "f32", (512,))),
        MATRIX.tobytes(),
        (Node("", "MatMul"),),
    ),
    "gather": (
        _ports(("index", "i64", ("N",)), ("divisor", "i32", ())),
        _ports(("y", "i64", ("N",)), ("z", "i64", ("N",))),
        TABLE.tobytes(),
        (Node("gather_0", "Gather"), Node("div_1", "Div")),
    ),
    "nonzero": (
        _ports(("x", "bool", ("N",))),
        _ports(("where", "i64", ("K",)), ("n", "i64", (1,))),
        None,
        (Node("nonzero_0", "NonZero"),),
    ),
    "narrow": (
        _ports(("b", "bf16", ("N",)), ("f", "f8e4m3fn", ("N",)), ("i", "i4", ("N",)), ("x", "f32", ("N",))),
        _ports(
            ("b_out", "bf16", ("N",)),
            ("f_out", "f8e4m3fn", ("N",)),
            ("i_out", "i4", ("N",)),
            ("x_out", "f32", ("N",)),
        ),
        None,
        (Node("copy_0", "Identity"),),
    ),
}


def compile_plan(name: str, folder: Path) -> Path:
    """The payload of one plan."""
    sources = {path.name: path.read_text() for path in (SOURCES / f"{name}.c", *support_sources())}
    compiler, target = Compiler(), TARGETS[TARGET]
    objects = compiler.compile_objects(sources, target, flags=["-Wall", "-Wextra"], include=[include_directory()])
    payload = folder / f"{name}.so"
    payload.write_bytes(compiler.link(objects, target))
    return payload


def describe(name: str) -> Manifest:
    """The manifest of one plan, without its files."""
    inputs, outputs, weights, nodes = PLANS[name]
    files = PAYLOAD, None if weights is None else WEIGHTS
    target = Target(TARGET, (), *files, 0, 64, 4096, (Kernel(name, (0,)),))
    meta = Meta("tests", name, "local", "hand-written", 3, {"key": "värde"})
    return Manifest("0.1", ABI_DIGEST, meta, inputs, outputs, (target,), nodes)


def write(name: str, payload: Path, path: Path) -> Artifact:
    """The artifact of one plan at ``path``."""
    files: dict[str, Content] = {PAYLOAD: payload}
    weights = PLANS[name][2]
    if weights is not None:
        files[WEIGHTS] = weights
    return write_artifact(path, describe(name), files)

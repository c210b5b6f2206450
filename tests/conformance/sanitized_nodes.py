"""Compiles and runs node cases with the sanitizers in the generated code; a program, since they must be loaded first.

``python -m tests.conformance.sanitized_nodes FIRST STEP`` takes every ``STEP``-th case from ``FIRST`` on and prints
the name of each before it runs, then ``done`` and their number, or dies with a report.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import onnx

from tests.compiler.harness import Objects, SanitizingCompiler, opened
from tests.conformance.node_cases import REFUSED, Array, backend_cases, check_case
from vitrify.compiler import build_artifact
from vitrify.frontends.onnx import import_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session
from vitrify.toolchain.zig import Compiler


def _compiled(compiler: Compiler, model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    graph = import_onnx(model)
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        path = Path(folder, "model")
        build_artifact(graph, path, CompileOptions(), compiler=compiler)
        # No arena is kept: each run's is memory of exactly its size, with guards around it.
        session = Session(opened(path, compiler), SessionOptions(intra_op_num_threads=1, enable_cpu_mem_arena=False))
        return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))


def main(first: int, step: int) -> int:
    os.environ.pop("LD_PRELOAD", None)  # for this process alone, not for the C compiler
    run = partial(_compiled, SanitizingCompiler(store=Objects()))
    cases = [case for op in sorted(backend_cases()) for case in backend_cases()[op] if case.name not in REFUSED]
    chosen = cases[first::step]
    for case in chosen:
        print(case.name, flush=True)  # noqa: T201 (a program)
        check_case(case, run)
    return len(chosen)


if __name__ == "__main__":
    print("done", main(int(sys.argv[1]), int(sys.argv[2])))  # noqa: T201 (a program)

"""Compiles and runs graphs with the sanitizers in the generated code; a program, since they must be loaded first.

``python -m tests.compiler.sanitized SEED COUNT`` prints the number of graphs run, or dies with a report.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from tests.compiler import test_movement, test_random, test_reduce
from tests.compiler.harness import Model, Objects, SanitizingCompiler, compile_graph, sample
from tests.random_graphs import BACKWARDS, called
from vitrify.errors import TerminatedError
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, F32, I64, U8
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.run_options import RunOptions
from vitrify.runtime.session import Session
from vitrify.toolchain.zig import Compiler, sanitizer_libraries


def environment() -> dict[str, str]:
    """What the program needs around it."""
    preload = ":".join(str(path) for path in sanitizer_libraries())
    options = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return {**os.environ, "LD_PRELOAD": preload, "PYTHONMALLOC": "malloc", **options}


def movement(compiler: Compiler, size: tuple[int, ...]) -> None:
    m = Model()
    x = m.input(sample(F32, size), (Dim.symbol("n"), *size[1:]))
    m.result(*test_movement.movements(m, x)[::3])
    m.check(compiler=compiler)


def reductions(compiler: Compiler) -> None:
    m = Model()
    n, k = Dim.symbol("n"), Dim.symbol("k")
    x = m.input(sample(F32, (3, 5)), (n, k))
    for axes in ((0,), (1,), (0, 1)):
        m.result(m.reduce("max", x, axes), m.reduce("sum", x, axes), ulps=64, scale=64)
    m.result(test_reduce.softmax(m, x, 1), test_reduce.softmax(m, x, 0), ulps=64, scale=1)
    m.check(*({"x0": sample(F32, (a, b))} for a in (0, 1, 17) for b in (1, 16, 33)), compiler=compiler)


def gathers(compiler: Compiler) -> None:
    m = Model()
    x, i = m.input(sample(U8, (0, 5)), (Dim.symbol("n"), 5)), m.input(sample(I64, (0,)), (Dim.symbol("k"),))
    m.result(m.gather(x, 0, i), m.gather(m.map("not", x), 0, i), m.pad(m.gather(x, 0, i), (1, 2), (0, 3), 7))
    session = compile_graph(m.graph(), compiler=compiler)
    for rows, positions in ((3, [2, 0, 1] * 9), (1, []), (0, [])):
        session.run(None, {"x0": sample(U8, (rows, 5)), "x1": np.asarray(positions, np.int64)})
    for rows, positions in ((3, [0] * 20 + [3]), (0, [0]), (2, [-1])):
        try:
            session.run(None, {"x0": sample(U8, (rows, 5)), "x1": np.asarray(positions, np.int64)})
        except IndexError:
            continue
        raise AssertionError("a position outside its axis was not reported")


def sorts(compiler: Compiler) -> None:
    """All three algorithms, and boxes, over sizes that end inside vectors and blocks."""
    m = Model()
    n = Dim.symbol("n")
    x = m.input(sample(F32, (2, 5)), (2, n))
    m.result(*m.sort(x, 1), *m.sort(x, 1, count=n // 3, descending=True))
    places = m.sort(m.map("lt", x, m.scalar(0, x)), 1, count=n // 2, descending=True)[1]
    m.result(places, m.sort(m.permute(x, [1, 0]), 0, count=n // 2)[1])
    boxes = m.input(sample(F32, (1, 5, 4)), (1, n, 4))
    order, valid = m.iota((1, 2, n), 2), m.constant([[99, 3]], I64)
    m.result(m.suppress(boxes, order, valid, m.constant(50, I64), m.constant(0.1, F32)))
    sizes = (0, 1, 15, 16, 17, 63, 64, 65, 500)
    m.check(*({"x0": sample(F32, (2, s)), "x1": sample(F32, (1, s, 4))} for s in sizes), compiler=compiler)


def watched(compiler: Compiler) -> None:
    """Runs that are timed, ended, or write where they are told, with each way of keeping memory."""
    m = Model()
    x = m.input(sample(F32, (3, 5)), (Dim.symbol("n"), 5))
    m.result(test_reduce.softmax(m, x, 1), m.reduce("sum", m.map("exp", x), (0,)))
    made = compile_graph(m.graph(), compiler=compiler)
    name = made.get_outputs()[0].name
    stopped = RunOptions()
    vars(stopped)["stop"].value = 1  # as if another thread set terminate just after the run began
    for options in ({}, {"share_memory": True}, {"enable_cpu_mem_arena": False}, {"share_memory": True}):
        session = Session(made.artifact, SessionOptions(intra_op_num_threads=2, **options))
        for rows in (17, 1, 0, 300):
            values, place = sample(F32, (rows, 5)), np.zeros((rows, 5), np.float32)
            expected = session.run([name], {"x0": values})[0]
            session.run_into([name], {"x0": values}, {name: place}, RunOptions())
            np.testing.assert_array_equal(place, expected)
            session.run_with_profiling({"x0": values})
            try:
                session.run(None, {"x0": values}, stopped)
            except TerminatedError:
                continue
            raise AssertionError("the run did not end")


def custom_calls(compiler: Compiler) -> None:
    """Custom ops in C and in Python, between kernels and alone over inputs and outputs of exactly their size."""
    m = Model()
    x = m.input(sample(F32, (3, 5)), (Dim.symbol("n"), 5))
    for op in BACKWARDS:
        m.result(called(op, x, m), called(op, m.permute(m.map("neg", called(op, x, m)), (1, 0)), m))
    m.check(*({"x0": sample(F32, (rows, 5))} for rows in (0, 1, 17)), compiler=compiler)


def main(number: int, count: int) -> int:
    os.environ.pop("LD_PRELOAD", None)  # for this process alone, not for the C compiler
    compiler = SanitizingCompiler(store=Objects())
    movement(compiler, (3, 5, 7))
    movement(compiler, (3, 3, 17))
    reductions(compiler)
    gathers(compiler)
    sorts(compiler)
    watched(compiler)
    custom_calls(compiler)
    done = 0

    def run(case: test_random.Case) -> None:
        nonlocal done
        done += 1
        test_random.run_all(case, (3,), compiler=compiler)

    test_random.graphs((F32, I64, U8, BOOL), test_random.SMOOTH, number, count, run, exclude=("cast",))
    return done


if __name__ == "__main__":
    print(main(int(sys.argv[1]), int(sys.argv[2])))  # noqa: T201 (a program)

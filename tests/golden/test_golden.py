"""Generated C as it stands: a change of the compiler shows as a change of these files.

``--update-golden`` rewrites them. What the C computes is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.compiler.harness import Model, sample
from vitrify.codegen.c.plan_printer import print_plan
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import F32, I64
from vitrify.lower.model import lower_model
from vitrify.lower.target import AARCH64, V3, Target
from vitrify.rewrite.pipeline import Level, optimize

FILES = Path(__file__).parent / "files"
N = Dim.symbol("n")


def broadcast(m: Model) -> None:
    x, y = m.input(sample(F32, (3, 7, 33)), (N, 7, 33)), m.input(sample(F32, (7, 1)))
    m.result(m.map("relu", m.map("add", x, y)))


def softmax(m: Model) -> None:
    x = m.input(sample(F32, (3, 67)), (N, 67))
    e = m.map("exp", m.map("sub", x, m.reduce("max", x, (1,), keepdims=True)))
    m.result(m.map("div", e, m.reduce("sum", e, (1,), keepdims=True)))


def pooling(m: Model) -> None:
    x = m.input(sample(F32, (2, 11, 11, 19)))
    padded = m.pad(x, (0, 1, 1, 0), (0, 1, 1, 0), float("-inf"))
    m.result(m.reduce("max", m.window(padded, (1, 2), (3, 3), (2, 2), (1, 1)), (4, 5)))


def epilogue(m: Model) -> None:
    x = m.input(sample(F32, (8, 32)))
    weights, bias = m.constant(sample(F32, (32, 24), 1)), m.constant(sample(F32, (24,), 2))
    m.result(m.map("relu", m.map("add", m.contract(x, weights, over=((1,), (0,))), bias)))


def late_dims(m: Model) -> None:
    count = m.input(np.asarray(5))
    with m.sourced("Range 'steps'"):
        m.one(g.BindDim("steps"), count)
        line = m.iota((Dim.symbol("steps"),), 0)
    index = m.input(sample(I64, (3,)), (N,))
    with m.sourced("Gather 'pick'"):
        m.result(m.map("mul", m.gather(line, 0, index), m.gather(line, 0, index)))
    m.result(line, m.reduce("sum", line, (0,)))


MODELS: dict[str, tuple[Callable[[Model], None], Target]] = {
    "broadcast": (broadcast, V3), "softmax": (softmax, V3), "pooling": (pooling, V3), "epilogue": (epilogue, V3),
    "late_dims": (late_dims, V3), "softmax_aarch64": (softmax, AARCH64),
}  # fmt: skip


def generated(name: str) -> str:
    """All C of the model but what the headers of the vector math hold."""
    build, target = MODELS[name]
    m = Model()
    build(m)
    printed = print_plan(lower_model(optimize(m.graph(name), Level.ALL), target), target)
    parts = []
    for file, text in printed.sources.items():
        start = text.find("void k_") if file != "plan" else 0
        parts.append(f"/* ---- {file} */\n{text[start:]}")
    return "\n".join(parts)


@pytest.mark.parametrize("name", MODELS)
def test_text_is_as_recorded(name: str, request: pytest.FixtureRequest) -> None:
    path = FILES / f"{name}.c"
    text = generated(name)
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: run with --update-golden"
    recorded = path.read_text(encoding="utf-8")
    assert text == recorded, f"the C of {name} changed: look at the difference after --update-golden"

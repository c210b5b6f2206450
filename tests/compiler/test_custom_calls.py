"""Ops of the user in compiled plans: every dtype, every place that operands and results may lie in, effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import Model, body, compile_artifact, compile_graph, interpret, sample
from tests.random_graphs import BACKWARDS, called
from vitrify.artifact.loading import load_artifact
from vitrify.custom_ops import CustomOp, TensorSpec, custom_op
from vitrify.errors import ArtifactError
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim
from vitrify.ir.dtypes import BOOL, DTYPES, F32, I64, DType
from vitrify.ir.graph import Value
from vitrify.ir.text import print_graph
from vitrify.ir.verify import IRError, verify
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.specialise import specialise
from vitrify.runtime.session import Session

N = Dim.symbol("n")
KINDS = pytest.mark.parametrize("op", BACKWARDS, ids=lambda op: op.name)


@KINDS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(op: CustomOp, dtype: DType) -> None:
    m = Model()
    m.result(called(op, m.input(sample(dtype, (3, 5)), (N, 5), dtype), m))
    m.check(*({"x0": sample(dtype, (rows, 5), rows)} for rows in (0, 1, 7)))


@KINDS
@pytest.mark.parametrize("level", [0, 3])
def test_operands_that_lie_elsewhere(op: CustomOp, level: int) -> None:
    """Permuted, sliced, constant, expanded and computed inputs; results in a concat, permuted, and read twice."""
    m = Model()
    x = m.input(sample(F32, (4, 6)), (N, 6))
    parts = [called(op, m.permute(x, (1, 0)), m), m.constant(sample(F32, (6, 2), 3))]
    joined = m.concat([*parts, called(op, parts[1], m, pure=False)], 1)
    m.result(joined, m.permute(called(op, joined, m), (1, 0)))
    cut = called(op, m.slice_axis(x, 1, 1, 4), m)
    m.result(m.map("add", cut, cut), m.reshape(cut, (4 * N,)))
    m.result(called(op, m.expand_to(m.constant(np.float32(2)), (N, 3)), m))
    scalar = m.reduce("sum", called(op, x, m), (0, 1))
    m.result(scalar, called(op, scalar, m), ulps=4, scale=100)
    for rows in (0, 1, 5):
        m.check({"x0": sample(F32, (rows, 6), rows)}, level=level)


@KINDS
def test_images_between_convolutions(op: CustomOp) -> None:
    """Convolutions keep images channels last; the op sees them as the graph says."""
    m = Model()
    x = m.input(sample(F32, (1, 3, 8, 8)))

    def convolution(y: Value, seed: int) -> Value:
        weights = m.constant(sample(F32, (3, 3, 3, 3), seed, low=-0.3, high=0.3))
        windows = m.window(m.pad(y, (0, 0, 1, 1), (0, 0, 1, 1)), (2, 3), (3, 3), (1, 1), (1, 1))
        product = m.contract(windows, weights, over=((1, 4, 5), (1, 2, 3)))
        return m.permute(product, (0, 3, 1, 2))

    m.result(convolution(called(op, m.map("relu", convolution(x, 1)), m), 2), ulps=200, scale=8)
    m.check(batch_invariant=True)


@KINDS
def test_dims_that_only_the_run_knows(op: CustomOp) -> None:
    m = Model()
    count = m.input(np.int64(3))
    m.one(g.BindDim("late"), count)
    late = Dim.symbol("late")
    m.result(called(op, m.iota((late, 2), 0), m))
    m.check({"x0": np.int64(0)}, {"x0": np.int64(11)})


@KINDS
def test_specialised_forms(op: CustomOp) -> None:
    m = Model()
    m.result(called(op, m.map("neg", m.input(sample(F32, (4, 2)), (N, 2))), m))
    assert specialise(m.graph(), {"n": 4}).nodes[-1].output.shape == (4, 2)
    m.check({"x0": sample(F32, (9, 2))}, specialize=({"x0": (4, 2)},))


def recorder(seen: list[Any]) -> CustomOp:
    """An op with an effect."""

    def reference(x: Any) -> Any:
        seen.append(x.copy())
        return x

    return custom_op(
        "tests", f"Recorder{id(seen)}", infer=lambda x: TensorSpec(x.dtype, x.shape), reference=reference, pure=False
    )


def test_effects_happen_as_often_and_in_the_order_that_the_graph_says() -> None:
    seen: list[Any] = []
    op, m = recorder(seen), Model()
    x = m.input(sample(F32, (3,)))
    first, again, _ = (called(op, m.map(fn, x), m, pure=False) for fn in ("neg", "neg", "abs"))
    nothing = body([("x", F32, (3,))], lambda b, v: v)
    records = body([("x", F32, (3,))], lambda b, v: called(op, b.map("neg", v), b, pure=False))
    m.add(g.If(records, nothing), m.map("lt", m.constant(0.0, F32), m.reduce("sum", m.map("abs", x), (0,))), x)
    loop = body(
        [("i", I64, ()), ("v", F32, (3,))],
        lambda b, i, v: (b.constant(True), b.map("add", called(op, v, b, pure=False), v)),
    )
    m.add(g.Loop(loop, 1, "trips"), m.constant(2, I64), m.constant(True), x)
    m.result(m.map("add", first, again))
    session = compile_graph(m.graph())
    data = m.feeds["x0"]
    seen.clear()
    session.run(None, m.feeds)
    wanted = [-data, -data, np.abs(data), -data, data, data * 2]
    assert len(seen) == len(wanted) and all(map(np.array_equal, seen, wanted))
    seen.clear()
    interpret(m.graph(), m.feeds)
    assert len(seen) == len(wanted) and all(map(np.array_equal, seen, wanted))
    op.unregister()


def test_effects_keep_what_they_read_of_a_scan() -> None:
    seen: list[Any] = []
    op, m = recorder(seen), Model()
    x = m.input(sample(F32, (3,)))

    def trip(b: Builder, i: Value, state: Value, captured: Value) -> tuple[Value, Value]:
        called(op, state, b, pure=False)
        return b.map("add", state, captured), b.map("neg", captured)

    inside = body([("i", I64, ()), ("s", F32, (3,)), ("x", F32, (3,))], trip)
    m.result(m.add(g.Scan(inside, 3, 1, 0), x, x)[1])  # the last state is read by nobody
    session = compile_graph(m.graph())
    seen.clear()
    np.testing.assert_array_equal(session.run(None, m.feeds)[0], np.stack([-m.feeds["x0"]] * 3))
    assert len(seen) == 3
    for number, state in enumerate(seen):
        np.testing.assert_allclose(state, m.feeds["x0"] * (1 + number), rtol=1e-6)
    op.unregister()


def test_pure_calls_are_shared_and_dropped() -> None:
    m = Model()
    x = m.input(sample(F32, (3,)))
    one, two, _ = (called(BACKWARDS[0], x, m) for _ in range(3))
    m.result(m.map("add", one, two))
    assert sum(isinstance(n.op, g.Call) for n in optimize(m.graph(), Level.BASIC).nodes) == 1


def test_graphs_that_are_refused() -> None:
    x = parameter("x", F32, (3,))
    right = g.Call("a::b", 1, "0" * 64, (F32,), ((3,),))
    for changed, message in (
        ({"op": "b"}, "no domain::name"), ({"version": 0}, "version 0"), ({"dtypes": (F32, F32)}, "2 dtypes and 1"),
        ({"absent": (2,)}, "leaves out"), ({"shapes": ((-1,),)}, "negative"), ({"attributes": "[]"}, "JSON object"),
    ):  # fmt: skip
        with pytest.raises(g.TypeRuleError, match=message):
            g.Call(**{**vars(right), **changed}).infer([x.type])
    b = Builder()
    graph = b.build([x], [b.one(right, x)])
    verify(graph)
    assert 'call(%x) op="a::b" version=1' in print_graph(graph)
    graph.outputs[0].type = g.Type(BOOL, (3,))
    with pytest.raises(IRError, match="declared as"):
        verify(graph)


def test_what_the_interpreter_lacks() -> None:
    x = parameter("x", F32, (3,))
    b = Builder()
    graph = b.build([x], [b.one(g.Call("a::b", 1, "0" * 64, (F32,), ((3,),)), x)])
    with pytest.raises(ValueError, match=r"a::b \(version 1\) is not registered"):
        interpret(graph, {"x": np.zeros(3, np.float32)})


def test_attributes_in_a_manifest_are_checked_at_load() -> None:
    m = Model()
    m.result(called(BACKWARDS[0], m.input(sample(F32, (3,))), m))
    artifact = load_artifact(compile_artifact(m.graph()))
    (op,) = artifact.manifest.custom_calls
    wrong = op._replace(attributes='{"a": {"data": "", "dims": [1], "dtype": "float32"}}')
    artifact.manifest = artifact.manifest._replace(custom_calls=(wrong,))
    with pytest.raises(ArtifactError, match="attributes of tests::Backwards"):
        Session(artifact)

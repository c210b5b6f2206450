"""Graphs as text: what is printed reads back as the same graph, and ill-formed files say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.random_graphs import BACKWARDS, Case, random_graphs
from vitrify.ir import graph as g
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim, ceildiv
from vitrify.ir.dtypes import DTYPES, F32, I64, DType
from vitrify.ir.graph import Graph
from vitrify.ir.interpret import interpret
from vitrify.ir.text import print_graph
from vitrify.ir.text_parse import parse_graph
from vitrify.ir.verify import IRError, verify

INVALID = sorted((Path(__file__).parent / "invalid").glob("*.vir"))


def round_trip(graph: Graph) -> Graph:
    constants: dict[str, np.ndarray[Any, Any]] = {}
    text = print_graph(graph, constants)
    back = parse_graph(text, constants, {(op.label, op.version): op.evaluate for op in BACKWARDS})
    assert print_graph(back) == text
    return back


@settings(max_examples=250)
@given(random_graphs(specials=True))
def test_random_graphs_read_back_and_compute_the_same(case: Case) -> None:
    verify(case.graph)
    back = round_trip(case.graph)
    expected, got = interpret(case.graph, case.feeds), interpret(back, case.feeds)
    for a, b in zip(expected, got, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_bit_pattern_of_inline_constants_survives(dtype: DType) -> None:
    random = np.random.default_rng(1)
    patterns = random.integers(0, 256, (64, dtype.itemsize), np.uint8)
    if dtype.bits < 8:
        patterns &= (1 << dtype.bits) - 1
    if dtype.is_bool:
        patterns &= 1
    for chunk in patterns.reshape(16, -1):
        b = Builder()
        array = np.frombuffer(chunk.tobytes(), dtype.numpy)
        back = round_trip(b.build([], [b.constant(array)]))
        read = back.outputs[0].constant
        assert read is not None
        with np.errstate(all="ignore"):
            expected = array.astype(np.int64 if dtype.bits < 8 else dtype.numpy)
            assert read.astype(expected.dtype).tobytes() == expected.tobytes()


def test_the_whole_form() -> None:
    n = Dim.symbol("n", 1, 512)
    b = Builder()
    x = parameter("x", F32, (n, 4))
    with b.sourced("Add 'a \"quoted\"\nname'"):
        bias = b.constant([0.5, -0.0, float("nan"), float("inf")], F32)
        y = b.map("add", x, bias)
    padded = b.pad(y, (0, 0), (ceildiv(n, 2), 1), float("-inf"))
    padded.name = "not a word"
    graph = b.build([x], [padded], "head", {"n": n})
    graph.assumptions.append((n * 2, n + 8))
    assert (
        print_graph(graph)
        == """\
graph "head" {
  dim n: 1..512
  assume 2*n == n+8
  input %x: f32[n, 4]
  %0: f32[4] = constant [0.5, -0.0, nan, inf] from "Add 'a \\"quoted\\"\\nname'"
  %1: f32[1, 4] = reshape(%0) shape=[1, 4] from "Add 'a \\"quoted\\"\\nname'"
  %2: f32[n, 4] = expand(%1) shape=[n, 4] from "Add 'a \\"quoted\\"\\nname'"
  %3: f32[n, 4] = map.add(%x, %2) from "Add 'a \\"quoted\\"\\nname'"
  %4 "not a word": f32[((n+1)//(2))+n, 5] = pad(%3) low=[0, 0] high=[((n+1)//(2)), 1] value=-inf
  output %4 as "not a word"
}
"""
    )
    back = round_trip(graph)
    assert back.assumptions == graph.assumptions
    assert back.symbols == graph.symbols
    assert [v.name for v in back.outputs] == ["not a word"]
    assert [n.source for n in back.nodes] == [n.source for n in graph.nodes]


def test_bodies() -> None:
    b, inner = Builder(), Builder()
    x, start = parameter("x", F32, (7, 3)), parameter("start", F32, (3,))
    position, carried, row = parameter("i", I64, ()), parameter("c", F32, (3,)), parameter("row", F32, (3,))
    body = inner.build([position, carried, row], [inner.map("add", carried, row), position])
    results = b.add(g.Scan(body, 7, 1, 1), start, x, names=("last", "positions"))
    graph = round_trip(b.build([x, start], results, "running sum"))
    data = np.arange(21, dtype=np.float32).reshape(7, 3)
    last, positions = interpret(graph, {"x": data, "start": np.ones(3, np.float32)})
    np.testing.assert_array_equal(last, data.sum(0) + 1)
    np.testing.assert_array_equal(positions, np.arange(7))


def test_loops() -> None:
    b, inner = Builder(), Builder()
    size = Dim.symbol("size")
    limit, start = parameter("limit", I64, ()), parameter("start", F32, (2,))
    position, kept, captured = parameter("i", I64, ()), parameter("kept", F32, (size,)), parameter("c", F32, (2,))
    longer = inner.concat([kept, captured], 0)
    body = inner.build([position, kept, captured], [inner.constant(True), longer, position])
    op = g.Loop(body, 1, "trips", ("size",), ("length",))
    results = b.add(op, limit, b.constant(True), start, start, names=("last", "positions"))
    graph = round_trip(b.build([limit, start], results, "growth"))
    assert 'count=trips sizes=[size] names=[length]' in print_graph(graph)
    last, positions = interpret(graph, {"limit": np.asarray(3), "start": np.ones(2, np.float32)})
    assert last.shape == (8,)
    np.testing.assert_array_equal(positions, np.arange(3))


def test_large_constants_go_to_the_side_table() -> None:
    b = Builder()
    weight = np.arange(100, dtype=np.float32).reshape(10, 10)
    graph = b.build([], [b.constant(weight)])
    table: dict[str, np.ndarray[Any, Any]] = {}
    text = print_graph(graph, table)
    assert next(iter(table.values())) is weight
    assert f"#{next(iter(table))}" in text
    with pytest.raises(IRError, match="is not among the 0 given"):
        parse_graph(text)
    with pytest.raises(IRError, match=r"declared as f32\[10, 10\]"):
        parse_graph(text, {next(iter(table)): weight[:5]})


def test_text_does_not_depend_on_what_was_built_before() -> None:
    def build() -> str:
        b = Builder()
        x = parameter("x", F32, (2,))
        return print_graph(b.build([x], [b.map("exp", b.map("neg", x))]))

    assert build() == build()


@pytest.mark.parametrize("path", INVALID, ids=[p.stem for p in INVALID])
def test_invalid_files(path: Path) -> None:
    """The comment lines at the head of each file are parts of the message, in order."""
    text = path.read_text()
    expected = [line[len("// expect: ") :] for line in text.splitlines() if line.startswith("// expect: ")]
    assert expected, "the file states no message"
    with pytest.raises(IRError) as raised:
        parse_graph(text)
    message, at = str(raised.value), 0
    for part in expected:
        found = message.find(part, at)
        assert found >= 0, f"{part!r} is not in\n{message}"
        at = found + len(part)
    assert "^" in message


def test_there_are_invalid_files() -> None:
    assert len(INVALID) >= 20

"""Loop and Scan: interpreter, compiled models on one and two threads, and onnxruntime agree."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from tests.compiler.harness import COMPILER, compile_artifact
from tests.frontends.onnx.models import Array, assert_same, run_peer
from vitrify.errors import InvalidModelError, ShapeError, TerminatedError, UnsupportedError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir import graph as g
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.run_options import RunOptions
from vitrify.runtime.session import Session


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> test {text}')


def agree(proto: onnx.ModelProto, *feeds: Mapping[str, Any], expected: Sequence[Sequence[Array]] = ()) -> g.Graph:
    """Compares all ways to run the model, or with ``expected`` where onnxruntime does not run it."""
    graph = import_onnx(proto)
    verify(graph)
    path = compile_artifact(graph, compiler=COMPILER)
    sessions = [Session(path, SessionOptions(intra_op_num_threads=n)) for n in (1, 2)]
    for i, given in enumerate(feeds):
        arrays = {k: np.asarray(v) for k, v in given.items()}
        mine = interpret(graph, arrays)
        wanted = list(expected[i]) if expected else _entries_known(run_peer(proto, arrays), mine)
        assert_same(mine, wanted)
        one, two = (s.run(None, arrays) for s in sessions)
        assert_same(one, wanted)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))
    return graph


def _entries_known(theirs: Sequence[Array], mine: Sequence[Array]) -> list[Array]:
    """Without a trip, onnxruntime makes every entry's symbolic sizes 0, also those that inputs decide."""
    return [a.reshape(b.shape) if a.shape[:1] == b.shape[:1] == (0,) else a for a, b in zip(theirs, mine, strict=True)]


def structures(graph: g.Graph) -> list[str]:
    return [n.op.name for n in graph.walk() if isinstance(n.op, (g.If, g.Scan, g.Loop))]


SUMS = """(int64 {limit}, bool go, float[n] x) => (float[n] last, float[t, n] all)
{{
  last, all = Loop <body = body (int64 i, bool c, float[n] total) => (bool c2, float[n] next, float[n] shown) {{
    step = Cast <to = 1> (i)
    more = Add (x, step)
    next = Add (total, more)
    shown = Mul (next, total)
    first = ReduceMax <keepdims = 0> (next)
    bound = Constant <value_float = 40.0> ()
    c2 = {again}
  }}> ({limit}, go, x)
}}"""


@pytest.mark.parametrize("again", ["Less (first, bound)", "Identity (c)"])
def test_limits_and_conditions(again: str) -> None:
    proto = model(SUMS.format(limit="limit", again=again))
    graph = agree(
        proto,
        *(
            {"limit": np.int64(limit), "go": go, "x": np.arange(n, dtype=np.float32)}
            for limit, go, n in [(5, True, 3), (0, True, 3), (5, False, 4), (-3, True, 1), (19, True, 17), (1, True, 1)]
        ),
    )
    assert structures(graph) == ["loop"]


def test_conditions_that_are_left_out() -> None:
    text = SUMS.format(limit="limit", again="Less (first, bound)").replace("go, x)", '"", x)').replace("bool go, ", "")
    agree(model(text), *({"limit": np.int64(k), "x": np.ones(3, np.float32)} for k in (0, 2, 9)))


def test_no_limit() -> None:
    proto = model(
        """(int64 start) => (int64 last, int64[t] all)
        {
          go = Constant <value = bool {1}> ()
          last, all = Loop <body = body (int64 i, bool c, int64 a) => (bool c2, int64 b, int64 shown) {
            two = Constant <value_int = 2> ()
            three = Constant <value_int = 3> ()
            one = Constant <value_int = 1> ()
            half = Div (a, two)
            odd = Mod (a, two)
            triple = Mul (a, three)
            up = Add (triple, one)
            even = Equal (odd, zero)
            b = Where (even, half, up)
            shown = Identity (a)
            over = Equal (b, one)
            c2 = Not (over)
          }> ("", go, start)
        }""".replace("two = Constant", "zero = Constant <value_int = 0> ()\n two = Constant", 1)
    )
    agree(proto, *({"start": np.int64(k)} for k in (2, 7, 27, 97)))


def test_sizes_that_decide_how_often() -> None:
    proto = model(
        """(float[n, 3] x) => (float[3] last, float[n, 3] all)
        {
          shape = Shape <start = 0, end = 1> (x)
          go = Constant <value = bool {1}> ()
          zero = Constant <value_floats = [0.0, 0.0, 0.0]> ()
          last, all = Loop <body = body (int64 i, bool c, float[3] a) => (bool c, float[3] b, float[3] e) {
            row = Gather <axis = 0> (x, i)
            b = Add (a, row)
            e = Exp (b)
          }> (shape, go, zero)
        }"""
    )
    rng = np.random.default_rng(0)
    graph = agree(proto, *({"x": rng.standard_normal((n, 3)).astype(np.float32)} for n in (4, 1, 0)))
    assert structures(graph) == ["scan"]


GROWS = """(int64 limit, float[n] x) => (float[m] last, int64[t] sizes)
{
  go = Constant <value = bool {1}> ()
  last, sizes = Loop <body = body (int64 i, bool c, float[a] kept) => (bool c2, float[b] longer, int64 size) {
    c2 = Identity (c)
    f = Cast <to = 1> (i)
    y = Add (x, f)
    longer = Concat <axis = 0> (kept, y)
    size = Size (longer)
  }> (limit, go, x)
}"""


def test_carried_values_that_grow() -> None:
    graph = agree(
        model(GROWS),
        *({"limit": np.int64(k), "x": np.arange(n, dtype=np.float32)} for k, n in [(4, 3), (0, 2), (1, 0), (33, 5)]),
    )
    (loop,) = [n.op for n in graph.walk() if isinstance(n.op, g.Loop)]
    assert loop.sizes and loop.names


def test_a_constant_number_of_trips_that_grow() -> None:
    text = GROWS.replace("(int64 limit, ", "(").replace("go = C", "limit = Constant <value_int = 5> ()\ngo = C")
    agree(model(text), {"x": np.arange(4, dtype=np.float32)})


def test_carried_values_that_shrink() -> None:
    proto = model(
        """(float[n] x) => (float[m] last)
        {
          go = Constant <value = bool {1}> ()
          last = Loop <body = body (int64 i, bool c, float[a] kept) => (bool c2, float[b] shorter) {
            mean = ReduceMean <keepdims = 0> (kept)
            above = Greater (kept, mean)
            shorter = Compress <axis = 0> (kept, above)
            size = Size (shorter)
            one = Constant <value_int = 1> ()
            c2 = Greater (size, one)
          }> ("", go, x)
        }"""
    )
    rng = np.random.default_rng(1)
    agree(proto, *({"x": rng.standard_normal(n).astype(np.float32)} for n in (17, 2, 100)))


def test_entries_whose_size_only_the_run_knows() -> None:
    proto = model(
        """(int64 limit, float[n] x) => (int64[t, w] found)
        {
          go = Constant <value = bool {1}> ()
          found = Loop <body = body (int64 i, bool c) => (bool c2, int64[w] where) {
            c2 = Identity (c)
            zero = Constant <value_float = 0.0> ()
            positive = Greater (x, zero)
            at = NonZero (positive)
            axis = Constant <value_ints = [0]> ()
            flat = Squeeze (at, axis)
            where = Add (flat, i)
          }> (limit, go)
        }"""
    )
    x = np.asarray([1, -1, 2, 0, 5], np.float32)
    agree(proto, {"limit": np.int64(3), "x": x}, {"limit": np.int64(1), "x": -x})


def test_entries_that_differ_are_refused() -> None:
    proto = model(
        """(int64 limit) => (int64[t, w] found)
        {
          go = Constant <value = bool {1}> ()
          found = Loop <body = body (int64 i, bool c) => (bool c2, int64[w] where) {
            c2 = Identity (c)
            zero = Constant <value_int = 0> ()
            one = Constant <value_int = 1> ()
            where = Range (zero, i, one)
          }> (limit, go)
        }"""
    )
    graph = import_onnx(proto)
    session = Session(compile_artifact(graph))
    assert session.run(None, {"limit": np.asarray(1)})[0].shape == (1, 0)
    with pytest.raises(ShapeError, match="Loop"):
        session.run(None, {"limit": np.asarray(3)})
    with pytest.raises(ValueError, match="do not stack"):
        interpret(graph, {"limit": np.asarray(3)})


def test_loops_inside_loops_with_captures() -> None:
    proto = model(
        """(int64 limit, float[n] x) => (float[n] last, float[t] sums)
        {
          go = Constant <value = bool {1}> ()
          y = Exp (x)
          last, sums = Loop <body = outer (int64 i, bool c, float[n] a) => (bool c2, float[n] b, float sum) {
            c2 = Identity (c)
            one = Constant <value_int = 1> ()
            many = Add (i, one)
            z = Mul (a, y)
            b, all = Loop <body = inner (int64 j, bool d, float[n] p) => (bool d2, float[n] q, float[n] r) {
              d2 = Identity (d)
              both = Add (i, j)
              f = Cast <to = 1> (both)
              g = Add (z, f)
              r = Sin (g)
              q = Add (p, r)
            }> (many, c, a)
            axes = Constant <value_ints = [0, 1]> ()
            sum = ReduceSum <keepdims = 0> (all, axes)
          }> (limit, go, x)
        }"""
    )
    rng = np.random.default_rng(2)
    agree(proto, *({"limit": np.int64(k), "x": rng.standard_normal(n).astype(np.float32)} for k, n in [(3, 4), (1, 1)]))


def test_a_body_that_hands_on_what_it_gets() -> None:
    """Carried values change places, outer values and constants become results."""
    proto = model(
        """(int64 limit, float[3] x, float[3] y) => (float[3] a, float[3] b, float[t, 3] c, float[t] d)
        {
          go = Constant <value = bool {1}> ()
          a, b, c, d = Loop <body = body (int64 i, bool go, float[3] p, float[3] q)
              => (bool go, float[3] q, float[3] p, float[3] x, float k) {
            k = Constant <value_float = 2.5> ()
          }> (limit, go, x, y)
        }"""
    )
    x, y = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    for k in (0, 1, 4):
        feeds = {"limit": np.int64(k), "x": x, "y": y}
        pair = [y, x] if k % 2 else [x, y]
        agree(proto, feeds, expected=[[*pair, np.tile(x, (k, 1)), np.full(k, 2.5, np.float32)]])


SCAN = """(float[3] s, float{shape} x, float[5, 2] w) => (float[3] last, float[p, q] y, float[r, 2] z)
{{
  last, y, z = Scan <body = step (float[3] a, float[3] u, float[2] v) => (float[3] b, float[3] c, float[2] d) {{
    b = Add (a, u)
    c = Mul (b, a)
    d = Exp (v)
  }}, num_scan_inputs = 2, {attributes}> (s, x, w)
}}"""


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((5, 3), "scan_input_directions = [0, 0]"),
        ((5, 3), "scan_input_directions = [1, 0], scan_output_directions = [0, 1]"),
        ((3, 5), "scan_input_axes = [1, 0], scan_output_axes = [1, 0], scan_output_directions = [1, 1]"),
        ((3, 5), "scan_input_axes = [-1, 0], scan_output_axes = [-1, -2], scan_input_directions = [1, 1]"),
    ],
)
@pytest.mark.parametrize("opset", [9, 11, 16])
def test_scan(shape: tuple[int, int], attributes: str, opset: int) -> None:
    rng = np.random.default_rng(3)
    text = SCAN.format(shape=list(shape), attributes=attributes)
    feeds = {"s": (3,), "x": shape, "w": (5, 2)}
    agree(model(text, opset), {k: rng.standard_normal(n).astype(np.float32) for k, n in feeds.items()})


def test_scan_of_a_batch() -> None:
    proto = model(
        """(int64[b] lengths, float[b, 2] s, float[b, t, 2] x, float[b, t, 2] w) => (float[b, 2] last, float[b, t, 2] y)
        {
          last, y = Scan <body = step (float[2] a, float[2] u, float[2] v) => (float[2] c, float[2] d) {
            c = Add (a, u)
            d = Mul (c, v)
          }, num_scan_inputs = 2, directions = [0, 1]> (lengths, s, x, w)
        }""",
        8,
    )
    rng = np.random.default_rng(4)
    for lengths in ([4, 1, 2], [4], [0, 4]):
        b, t = len(lengths), 4
        s, x, w = (rng.standard_normal(n).astype(np.float32) for n in ((b, 2), (b, t, 2), (b, t, 2)))
        last, y = s.copy(), np.zeros((b, t, 2), np.float32)
        for i, length in enumerate(lengths):
            for k in range(length):
                last[i] += x[i, k]
                y[i, k] = last[i] * w[i, length - 1 - k]
        agree(proto, {"lengths": np.asarray(lengths), "s": s, "x": x, "w": w}, expected=[[last, y]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_scan_inputs = 2", "num_scan_inputs = 7"), "num_scan_inputs is 7"),
        (("num_scan_inputs = 2", "num_scan_inputs = 1"), "not 1 of 0 and 1"),
        (("_directions = [0, 0]", "_directions = [0, 2]"), "not 2 of 0 and 1"),
        (("_directions = [0, 0]", "_axes = [2, 0]"), "axis 2"),
        (("[5, 2] w", "[6, 2] w"), "differ"),
        (("float[3] b, float[3] c", "float[3] b"), "outputs"),
    ],
)
def test_scans_that_do_not_fit(change: tuple[str, str], message: str) -> None:
    text = SCAN.format(shape=[5, 3], attributes="scan_input_directions = [0, 0]")
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(model(text.replace(*change)))


def test_loops_that_do_not_fit() -> None:
    text = SUMS.format(limit="limit", again="Identity (c)")
    for old, new, message in [
        ("(limit, go, x)", "(limit, go)", "takes 3 values"),
        ("(bool c2, float[n] next, float[n] shown)", "(bool c2)", "outputs|gives 1 values"),
        ("(bool c2, float", "(float first, float", "condition is of type"),
        ("next = Add (total, more)", "next = Cast <to = 11> (total)", "begins as|differ"),
    ]:
        with pytest.raises(InvalidModelError, match=message):
            import_onnx(model(text.replace(old, new)))


def test_scan_of_entries_whose_size_only_the_run_knows() -> None:
    proto = model(
        """(float[5, 3] x) => (int64[t, w] found)
        {
          found = Scan <body = body (float[3] row) => (int64[1, w] at) { at = NonZero (row) }, num_scan_inputs = 1> (x)
        }"""
    )
    with pytest.raises(UnsupportedError, match="only a run knows"):
        import_onnx(proto)


ENDLESS = """(int64 limit, float[4] x) => (float[4] y)
{{
  go = Constant <value = bool {{1}}> ()
  y = Loop <body = b (int64 i, bool c, float[4] a) => (bool c2, float[4] b) {{
    minus = Constant <value_int = -1> ()
    c2 = {again}
    b = Sin (a)
  }}> ({limit}, go, x)
}}"""


@pytest.mark.parametrize("again", ["Identity (c)", "Greater (i, minus)"])
@pytest.mark.parametrize("trips", ["limit", '""', "1152921504606846976"])
def test_endless_loops_can_be_ended(again: str, trips: str) -> None:
    text = ENDLESS.format(again=again, limit="limit" if trips == "limit" else '""' if trips == '""' else "many")
    if trips[0] == "1":
        text = text.replace("go =", f"many = Constant <value_int = {trips}> ()\n  go =")
    session = Session(compile_artifact(import_onnx(model(text))))
    options = RunOptions()
    feeds = {"limit": np.asarray(2**60), "x": np.ones(4, np.float32)}
    timer = threading.Timer(0.2, setattr, (options, "terminate", True))
    timer.start()
    with pytest.raises(TerminatedError):
        session.run(None, feeds, options)
    timer.join()
    if trips == "limit":
        (y,) = session.run(None, {**feeds, "limit": np.asarray(1)}, RunOptions())
        np.testing.assert_allclose(y, np.sin(feeds["x"]), rtol=1e-6)


def test_stacks_that_overflow_are_refused() -> None:
    """2^60 entries of 16 bytes."""
    proto = model(
        """(float[4] x) => (float[t, 4] all)
        {
          go = Constant <value = bool {1}> ()
          many = Constant <value_int = 1152921504606846976> ()
          all = Loop <body = b (int64 i, bool c) => (bool c, float[4] y) { y = Sin (x) }> (many, go)
        }"""
    )
    with pytest.raises(InvalidModelError, match="overflows"):
        import_onnx(proto)

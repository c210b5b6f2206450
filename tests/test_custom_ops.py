"""Custom ops through the public API: defined, compiled into models, saved with them, refused where they lack."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import vitrify
from vitrify import TensorSpec
from vitrify.cli.app import run as cli
from vitrify.custom_ops import CustomOp, custom_op
from vitrify.replay import make_replay, run_replay

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 3
SOURCE = """
int NAME(const in0_t *restrict x, const int64_t *x_dims, out0_t *restrict y, const int64_t *y_dims) {
    int64_t count = 1;
    for (int axis = 0; axis < IN0_RANK; axis++) count *= x_dims[axis];
    if (y_dims[0] != x_dims[0]) return 3;
    for (int64_t i = 0; i < count; i++) y[i] = x[i] > ATTR_limit ? ATTR_limit : x[i] < -ATTR_limit ? -ATTR_limit : x[i];
    return 0;
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ops of one test are not those of the next."""
    monkeypatch.setattr("vitrify.custom_ops._ops", {})
    yield


def same(x: TensorSpec, **attributes: Any) -> TensorSpec:
    return TensorSpec(x.dtype, x.shape)


def clip(x: Any, limit: float) -> Any:
    return np.clip(x, x.dtype.type(-limit), x.dtype.type(limit))


def define(name: str = "Clip", *, c: bool = False, version: int = 1, **more: Any) -> CustomOp:
    source = SOURCE.replace("NAME", name) if c else None
    given = {"infer": same, "reference": clip, "attributes": {"limit": 1.0}, "c_source": source, **more}
    return custom_op("acme", name, version, **given)


def node(op: str = "Clip", inputs: Any = ("x",), outputs: Any = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name="mine", domain="acme", **attributes)


def model(
    *nodes: onnx.NodeProto, dtype: int = T.FLOAT, shape: Any = ("n", 3), version: int = 1, out: Any = None,
    inputs: Any = ("x",), outputs: Any = ("y",), constants: Any = (),
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        list(nodes) or [node(limit=2.0)], "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name in inputs],
        [helper.make_tensor_value_info(name, dtype if out is None else out, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(proto: onnx.ModelProto, *arrays: Any, threads: int = 1) -> list[Any]:
    session = vitrify.InferenceSession(proto, vitrify.SessionOptions(intra_op_num_threads=threads))
    return session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)})


# ---- what runs


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("c", [False, True], ids=["python", "c"])
def test_between_kernels_at_every_size(c: bool, threads: int) -> None:
    define(c=c)
    proto = model(
        helper.make_node("Add", ["x", "x"], ["a"]), node(inputs=["a"], outputs=["b"], limit=2.0),
        node(inputs=["b"], outputs=["c"], limit=1.5), helper.make_node("Mul", ["b", "c"], ["y"]),
    )  # fmt: skip
    session = vitrify.InferenceSession(proto, vitrify.SessionOptions(intra_op_num_threads=threads))
    for rows in (0, 1, 5, 257):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32) * 2
        (y,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, clip(x + x, 2.0) * clip(clip(x + x, 2.0), 1.5))
    profile = session.run_with_profiling({"x": X})
    np.testing.assert_array_equal(profile.outputs[0], session.run(None, {"x": X})[0])


@pytest.mark.parametrize("c", [False, True], ids=["python", "c"])
def test_several_results_optional_inputs_and_all_attributes(c: bool) -> None:
    source = """
    int All(const in0_t *restrict x, const int64_t *x_dims, const in1_t *restrict left_out, const int64_t *none,
            const in2_t *restrict bias, const int64_t *bias_dims, out0_t *restrict y, const int64_t *y_dims,
            out1_t *restrict n, const int64_t *n_dims) {
    #if IN1_GIVEN || !defined IN0_f32 || !defined OUT1_i64
    #error
    #endif
        if (left_out || none || ATTR_names_COUNT != 2 || ATTR_names[1][0] != 'c' || ATTR_mode[0] != 'f') return 1;
        if (ATTR_table_COUNT != 2 || ATTR_table_DIMS[0] != 2 || ATTR_scales_COUNT != 2) return 2;
        for (int64_t i = 0; i < x_dims[0]; i++)
            for (int64_t k = 0; k < x_dims[1]; k++)
                y[k * y_dims[1] + i] = x[i * x_dims[1] + k] * (float)ATTR_scales[1] + bias[k] + ATTR_table[1];
        n[0] = ATTR_count + ATTR_axes[2] + n_dims[0];
        return 0;
    }
    """

    def infer(x: TensorSpec, weights: Any, bias: TensorSpec, **_: Any) -> Any:
        assert weights is None and bias.value.shape == (3,)
        return TensorSpec(x.dtype, x.shape[::-1]), TensorSpec("int64", (1,))

    def reference(x: Any, weights: Any, bias: Any, count: Any, mode: Any, axes: Any, **more: Any) -> Any:
        assert weights is None and mode == "fast" and more["names"] == ["b", "cd"] and x.flags.writeable
        y = (x * np.float32(more["scales"][1]) + bias + more["table"][1]).T
        return y, np.array([count + axes[2] + 1])

    declared = {
        "count": int, "mode": "fast", "axes": list[int], "scales": [1.0, 2.0], "names": list[str], "table": np.ndarray,
    }  # fmt: skip
    op = custom_op(
        "acme", "All", infer=infer, reference=reference, attributes=declared, c_source=source if c else None
    )
    table = np.array([0.5, 0.25], np.float32)
    given = {"count": 40, "axes": [7, 8, 9], "scales": [1.0, 4.0], "names": ["b", "cd"]}
    bias = np.array([1, 2, 3], np.float32)
    made = node("All", ["x", "", "bias"], ["y", "n"], table=numpy_helper.from_array(table), **given)
    got = run(model(made, outputs=["y"], constants=[("bias", bias)]), X)
    np.testing.assert_allclose(got[0], (X * 4 + bias + np.float32(0.25)).T, rtol=1e-6)
    wanted = op(X, None, bias, mode="fast", table=table, **given)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-6)
    proto = model(made, outputs=["n"], out=T.INT64, constants=[("bias", bias)])
    assert run(proto, X)[0].tolist() == wanted[1].tolist() == [50]


def test_the_latest_version_that_the_model_imports() -> None:
    for version in (1, 2, 5):
        define(version=version, reference=lambda x, limit, version=version: x * np.float32(version))
    for imported, factor in ((1, 1), (3, 2), (9, 5)):
        np.testing.assert_array_equal(run(model(version=imported), X)[0], X * np.float32(factor))


@pytest.mark.parametrize("c", [False, True], ids=["python", "c"])
def test_inside_branches_and_loops(c: bool) -> None:
    define(c=c)

    def body(nodes: Any, inputs: Any, outputs: Any) -> onnx.GraphProto:
        infos = [[helper.make_tensor_value_info(n, k, s) for n, k, s in part] for part in (inputs, outputs)]
        return helper.make_graph(nodes, "body", *infos)

    entry = ("t", T.FLOAT, ["n", 3])
    then = body([node(outputs=["t"], limit=1.0)], [], [entry])
    other = body([helper.make_node("Neg", ["x"], ["t"])], [], [entry])
    trip = body(
        [helper.make_node("Add", ["v", "x"], ["s"]), node(inputs=["s"], outputs=["w"], limit=4.0),
         helper.make_node("Identity", ["more"], ["again"])],
        [("i", T.INT64, []), ("more", T.BOOL, []), ("v", T.FLOAT, ["n", 3])],
        [("again", T.BOOL, []), ("w", T.FLOAT, ["n", 3])],
    )  # fmt: skip
    proto = model(
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("Greater", ["sum", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["b"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["trips", "", "b"], ["y"], body=trip),
        constants=[("trips", np.array(3)), ("zero", np.array(0, np.float32))],
    )  # fmt: skip
    for x in (np.abs(X), -np.abs(X)):
        value = clip(x, 1.0) if x.sum() > 0 else -x
        for _ in range(3):
            value = clip(value + x, 4.0)
        np.testing.assert_array_equal(run(proto, x)[0], value)


@pytest.mark.parametrize("c", [False, True], ids=["python", "c"])
def test_an_op_without_inputs(c: bool) -> None:
    source = "int Ones(out0_t *restrict y, const int64_t *d) { for (int i = 0; i < d[0]; i++) y[i] = 1; return 0; }"
    custom_op(
        "acme", "Ones", infer=lambda: TensorSpec(np.float32, (3,)), reference=lambda: np.ones(3, np.float32),
        c_source=source if c else None, pure=False,
    )  # fmt: skip
    proto = model(node("Ones", [], ["a"]), helper.make_node("Add", ["x", "a"], ["y"]))
    np.testing.assert_array_equal(run(proto, X)[0], X + 1)


def test_many_threads_at_once() -> None:
    define()
    define("InC", c=True)
    proto = model(node(outputs=["a"], limit=2.0), node("InC", ["a"], limit=1.0))
    session = vitrify.InferenceSession(proto)
    wrong: list[int] = []

    def work(number: int) -> None:
        for k in range(40):
            x = np.full((number + k, 3), number - 4, np.float32)
            if not np.array_equal(session.run(None, {"x": x})[0], clip(x, 1.0)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_references_may_keep_and_change_their_inputs() -> None:
    kept = []

    def reference(x: Any, limit: float) -> Any:
        kept.append(x)
        x += 1
        return x

    define(reference=reference, pure=False)
    nodes = [helper.make_node("Neg", ["x"], ["a"]), node(inputs=["a"], outputs=["b"])]
    proto = model(*nodes, helper.make_node("Sub", ["b", "a"], ["y"]))
    session = vitrify.InferenceSession(proto)
    for _ in range(3):
        np.testing.assert_allclose(session.run(None, {"x": X})[0], 1, rtol=1e-5)
    del session
    assert all(np.array_equal(x, 1 - X) for x in kept) and len(kept) == 3


def test_calls_of_constants_are_folded_and_equal_calls_made_once() -> None:
    calls: list[int] = []

    def reference(x: Any, limit: float) -> Any:
        calls.append(1)
        return x

    define(reference=reference)
    twice = [node(inputs=["a"], outputs=["b"]), node(inputs=["a"], outputs=["c"]), node(inputs=["w"], outputs=["d"])]
    proto = model(
        helper.make_node("Neg", ["x"], ["a"]), *twice, helper.make_node("Sum", ["b", "c", "d"], ["y"]),
        constants=[("w", np.ones((1, 3), np.float32))],
    )  # fmt: skip
    session = vitrify.InferenceSession(proto)
    calls.clear()
    np.testing.assert_allclose(session.run(None, {"x": X})[0], 1 - 2 * X, rtol=1e-5)
    assert len(calls) == 1
    define("Impure", reference=reference, pure=False)
    for made in twice:
        made.op_type = "Impure"
    del proto.graph.node[:]
    proto.graph.node.extend(
        [helper.make_node("Neg", ["x"], ["a"]), *twice, helper.make_node("Sum", ["b", "c", "d"], ["y"])]
    )
    session = vitrify.InferenceSession(proto)
    calls.clear()
    session.run(None, {"x": X})
    assert len(calls) == 3


def test_references_that_run_sessions() -> None:
    inner = vitrify.InferenceSession(model(helper.make_node("Neg", ["x"], ["y"])))
    outer: list[vitrify.InferenceSession] = []

    def reference(x: Any, limit: float) -> Any:
        if len(x) > 1:
            return np.concatenate([outer[0].run(None, {"x": x[:1]})[0], inner.run(None, {"x": x[1:]})[0]])
        return x

    define(reference=reference)
    outer.append(vitrify.InferenceSession(model(node(outputs=["a"]), helper.make_node("Add", ["a", "x"], ["y"]))))
    np.testing.assert_array_equal(outer[0].run(None, {"x": X})[0], np.concatenate([3 * X[:1], 0 * X[1:]]))


def test_inside_functions_of_the_model_and_in_place_of_our_ops() -> None:
    define()
    twice = helper.make_function(
        "local", "Twice", ["a"], ["c"], [node(inputs=["a"], outputs=["b"], limit=2.0),
        helper.make_node("Add", ["b", "b"], ["c"])],
        [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)],
    )  # fmt: skip
    call = helper.make_node("Twice", ["x"], ["a"], domain="local")
    proto = model(call, helper.make_node("Gelu", ["a"], ["y"], domain="com.microsoft"))
    proto.functions.append(twice)
    proto.opset_import.extend([helper.make_opsetid("local", 1), helper.make_opsetid("com.microsoft", 1)])
    assert not np.array_equal(run(proto, X)[0], 2 * clip(X, 2.0))
    custom_op("com.microsoft", "Gelu", infer=same, reference=lambda x: x)
    np.testing.assert_array_equal(run(proto, X)[0], 2 * clip(X, 2.0))


def test_requests_in_batches_and_in_the_background() -> None:
    define()
    session = vitrify.InferenceSession(model())
    for got, x in zip(session.run_batch(None, [{"x": X}, {"x": X[:1]}]), (X, X[:1]), strict=True):
        np.testing.assert_array_equal(got[0], clip(x, 2.0))
    found: list[Any] = []
    done = threading.Event()
    session.run_async(None, {"x": X}, lambda *given: (found.extend(given), done.set()), "mine")
    assert done.wait(20) and found[1:] == ["mine", ""]
    np.testing.assert_array_equal(found[0][0], clip(X, 2.0))


# ---- what goes wrong


def test_what_a_reference_raises_is_raised_by_the_run() -> None:
    class Odd(BaseException):
        pass

    def reference(x: Any, limit: float) -> Any:
        if x.size and x[0, 0] < 0:
            raise Odd("negative")
        return x

    define(reference=reference)
    session = vitrify.InferenceSession(model())
    for options in (None, vitrify.RunOptions()):
        with pytest.raises(Odd, match="negative") as info:
            session.run(None, {"x": -np.ones((2, 3), np.float32)}, options)
        assert "'mine'" in info.value.__notes__[0]
        assert session.run(None, {"x": np.abs(X)}, options)[0].shape == X.shape


@pytest.mark.parametrize(
    "reference, message",
    [
        (lambda x, limit: x.astype(np.float64), r"expected float32 of shape \[5, 3\]; got float64 of shape \[5, 3\]"),
        (lambda x, limit: x[:2], r"got float32 of shape \[2, 3\]"),
        (lambda x, limit: (x, x), "expected an array; got ndarray, ndarray"),
        (lambda x, limit: None, "got NoneType"),
    ],
    ids=["dtype", "shape", "count", "nothing"],
)
def test_results_other_than_the_rule_says(reference: Any, message: str) -> None:
    define(reference=reference)
    with pytest.raises(vitrify.CustomOpError, match=message):
        run(model(), X)


def test_c_that_fails() -> None:
    define(c=True, c_source="int Clip(const in0_t *x, const int64_t *a, out0_t *y, const int64_t *b) { return 77; }")
    with pytest.raises(vitrify.CustomOpError, match=r"node 'mine' \(Clip\).* 77"):
        run(model(), X)


@pytest.mark.parametrize(
    "source, message",
    [
        ("\nint Clip(const in0_t *x, const int64_t *a, out0_t *y, const int64_t *b) {\n  return y[0] +;\n}", r":3:\d+"),
        ("int Clip(const in0_t *x) { return 0; }", "conflicting types for 'Clip'"),
        ("#include <math.h>\n", "math.h"),
        ("int other(void) { return 0; }", "Clip"),
        ("float sinf(float);\nint Clip(const in0_t *x, const int64_t *a, out0_t *y, const int64_t *b)"
         "{ y[0] = sinf(x[0]); return 0; }", "undefined symbol: sinf"),
    ],
    ids=["syntax", "signature", "libc", "missing", "link"],
)  # fmt: skip
def test_c_that_does_not_compile(source: str, message: str) -> None:
    define(c_source=source)
    with pytest.raises(vitrify.ToolchainError, match=message) as info:
        run(model(), X)
    assert "acme" in str(info.value)


def test_c_from_a_file_is_named_in_diagnostics(tmp_path: Path) -> None:
    path = tmp_path / "clip.c"
    path.write_text("int Clip(const in0_t *x, const int64_t *a, out0_t *y, const int64_t *b) {\n  oops\n}\n")
    define(c_source=path)
    with pytest.raises(vitrify.ToolchainError, match=r"clip\.c:2"):
        run(model(), X)


def test_nodes_that_do_not_fit() -> None:
    define(attributes={"limit": float})
    with pytest.raises(vitrify.InvalidModelError, match="'limit' is missing"):
        run(model(node()), X)
    with pytest.raises(vitrify.InvalidModelError, match=r"'limit' has the wrong type.*\n?.*FLOAT"):
        run(model(node(limit=[1.0])), X)
    with pytest.raises(vitrify.UnsupportedError, match="attribute 'other'"):
        run(model(node(limit=1.0, other=1)), X)
    with pytest.raises(vitrify.InvalidModelError, match="rule of acme::Clip refuses the node: TypeError"):
        run(model(node(inputs=["x", "x"], limit=1.0)), X)
    with pytest.raises(vitrify.InvalidModelError, match="too many outputs"):
        run(model(node(outputs=["y", "z"], limit=1.0)), X)


@pytest.mark.parametrize(
    "rule, error, message",
    [
        (lambda x, limit: 1 / 0, vitrify.InvalidModelError, "ZeroDivisionError"),
        (lambda x, limit: None, vitrify.InvalidModelError, "a TensorSpec for each output"),
        (lambda x, limit: TensorSpec("complex64", x.shape), vitrify.InvalidModelError, "a dtype of tensors"),
        (lambda x, limit: TensorSpec(x.dtype, (-1,)), vitrify.InvalidModelError, "sizes from 0"),
        (lambda x, limit: TensorSpec(x.dtype, 3), vitrify.InvalidModelError, "a tuple"),
        (lambda x, limit: TensorSpec(x.dtype, (None, 3)), vitrify.UnsupportedError, "leaves to the run"),
    ],
    ids=["raises", "nothing", "dtype", "negative", "shape", "open"],
)
def test_rules_that_do_not_say(rule: Any, error: Any, message: str) -> None:
    define(infer=rule)
    with pytest.raises(error, match=message):
        run(model(), X)


def test_sizes_that_a_run_makes_negative() -> None:
    define(infer=lambda x, limit: TensorSpec(x.dtype, (x.shape[0] - 2, 3)), reference=lambda x, limit: x[2:])
    session = vitrify.InferenceSession(model())
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], X[2:])
    with pytest.raises(vitrify.ShapeError):
        session.run(None, {"x": X[:1]})


def test_unknown_ops_are_listed_at_once_with_what_to_do() -> None:
    define(version=3)
    nodes = [node("One", outputs=["a"]), node("Two", ["a"], ["b"]), node(inputs=["b"])]
    with pytest.raises(vitrify.UnsupportedError, match=r"vitrify\.custom_op") as info:
        vitrify.compile(model(*nodes))
    assert [re.sub(r".*?(\w+) 'mine'.*", r"\1", p) for p in info.value.problems] == ["One", "Two", "Clip"]
    with pytest.raises(vitrify.UnsupportedError, match="in opset 1, only in later ones"):
        vitrify.compile(model())


@pytest.mark.parametrize(
    "given, message",
    [
        ({"domain": ""}, "domain"), ({"domain": "ai.onnx.ml"}, "domain"), ({"name": "a b"}, "identifier"),
        ({"version": 0}, "from 1"), ({"attributes": {"a": {}}}, "attribute 'a'"), ({"c_source": " "}, "C text"),
        ({"attributes": {"a b": 1}}, "identifier"), ({"c_source": Path("nowhere.c")}, "No such file"),
        ({"infer": None}, "callables"), ({"attributes": {"a": []}}, "attribute 'a'"),
    ],
)  # fmt: skip
def test_definitions_that_are_refused(given: Any, message: str) -> None:
    arguments = {"domain": "acme", "name": "Op", "version": 1, "infer": same, "reference": clip, **given}
    with pytest.raises(vitrify.InvalidArgument, match=message):
        custom_op(**arguments)


def test_one_name_is_one_op() -> None:
    first = define()
    define()  # the same once more, as when a module is loaded again
    with pytest.raises(vitrify.InvalidArgument, match=r"registered already.*\n.*version"):
        define(reference=lambda x, limit: x)
    first.unregister()
    define(reference=lambda x, limit: x)


# ---- saved with the model


def test_python_ops_have_to_be_there_when_an_artifact_is_loaded(tmp_path: Path) -> None:
    op = define()
    path = tmp_path / "m.vit"
    vitrify.compile(model()).save(path)
    np.testing.assert_array_equal(vitrify.InferenceSession(path).run(None, {"x": X})[0], clip(X, 2.0))
    op.unregister()
    with pytest.raises(vitrify.MissingCustomOpError, match=r"acme::Clip version 1 is not registered") as info:
        vitrify.InferenceSession(path)
    assert __name__ in str(info.value) and "custom_op" in str(info.value)
    define(version=2)
    with pytest.raises(vitrify.MissingCustomOpError, match="version 1 is not registered"):
        vitrify.InferenceSession(path)
    define(attributes={"limit": 1.0, "more": 2}, reference=lambda x, limit, more: x)
    with pytest.raises(vitrify.MissingCustomOpError, match="with another signature"):
        vitrify.InferenceSession(path)


LOADS = """
import sys
import numpy as np
from vitrify.runtime.session import Session
x = np.load(sys.argv[2])
np.save(sys.argv[3], Session(sys.argv[1]).run(None, {"x": x})[0])
loaded = [m for m in sys.modules if m.startswith(("vitrify.ir", "vitrify.compiler", "onnx", "ziglang"))]
assert not loaded, loaded
"""


def test_c_runs_where_nobody_knows_the_op(tmp_path: Path) -> None:
    define(c=True).unregister()
    define(c=True)
    artifact = vitrify.compile(model())
    assert "ATTR_limit" in artifact.manifest.custom_calls[0].c_source
    artifact.save(tmp_path / "m.vit")
    np.save(tmp_path / "x.npy", X)
    names = [str(tmp_path / n) for n in ("m.vit", "x.npy", "y.npy")]
    done = subprocess.run([sys.executable, "-c", LOADS, *names], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), clip(X, 2.0))


def test_the_cache_knows_the_ops_of_the_models_domains(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(), path)
    op = define()
    assert vitrify.compile(path).compiled and not vitrify.compile(path).compiled
    custom_op("elsewhere", "Clip", infer=same, reference=clip)
    assert not vitrify.compile(path).compiled
    op.unregister()
    define(reference=lambda x, limit: x - np.float32(limit))
    assert vitrify.compile(path).compiled
    np.testing.assert_array_equal(vitrify.InferenceSession(path).run(None, {"x": X})[0], X - np.float32(2))
    op.unregister()
    define(c=True)
    assert vitrify.compile(path).compiled and not vitrify.compile(model().SerializeToString()).compiled


def test_a_registry_that_changes_during_a_compile_is_noticed() -> None:
    def infer(x: TensorSpec, limit: float) -> TensorSpec:
        op.unregister()
        return same(x)

    op = define(infer=infer)
    with pytest.raises(vitrify.InvalidArgument, match="while the model was compiled"):
        vitrify.compile(model())


def test_a_replay_names_the_ops_it_needs(tmp_path: Path) -> None:
    op = define()
    bundle = make_replay(tmp_path / "run.zip", model(), {"x": X})
    assert run_replay(bundle).exact
    op.unregister()
    found = run_replay(bundle)
    assert not found.same and "Clip" in found.found and "acme::Clip (version 1)" in found.versions

    def fails(x: Any, limit: float) -> Any:
        raise ValueError("as recorded")

    define(reference=fails)
    failing = make_replay(tmp_path / "failing.zip", model(), {"x": X})
    again = run_replay(failing)
    assert again.same and "as recorded" in again.found


def test_inspect_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define()
    define("InC", c=True)
    vitrify.compile(model(node(outputs=["a"]), node("InC", ["a"]))).save(tmp_path / "m.vit")
    assert cli(["inspect", str(tmp_path / "m.vit")]) == 0
    shown = capsys.readouterr().out
    assert f"acme::Clip version 1, needs Python: module {__name__}" in shown and "acme::InC version 1, in C" in shown


def test_a_library_of_custom_ops_is_refused_with_the_way_that_works() -> None:
    with pytest.raises(vitrify.UnsupportedError, match=r"vitrify\.custom_op"):
        vitrify.SessionOptions().register_custom_ops_library("ops.so")


def test_the_documentations_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "custom-ops.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    onnx.save(model(node("SoftClip", limit=2.0)), "model.onnx")
    names: dict[str, Any] = {"__name__": "example"}
    for example in examples:
        exec(example, names)
    (y,) = names["session"].run(None, {"x": X})
    np.testing.assert_array_equal(y, names["soft_clip"](X, limit=2.0))
    np.testing.assert_array_equal(run(model(node("Scaled", factor=0.5)), X)[0], X / 2)

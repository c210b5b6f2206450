"""What sessions do beyond one run: batches, profiles, bound memory, ends on request, memory options, changed models."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitrify
from vitrify.errors import BindingError, InvalidArgumentError, OutOfMemoryError, TerminatedError
from vitrify.runtime.native import _process

RNG = np.random.default_rng(5)
W = RNG.standard_normal((16, 16), dtype=np.float32)
X = RNG.standard_normal((7, 16), dtype=np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def info(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def proto(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def layers(count: int = 3, rows: int | str = "N") -> onnx.ModelProto:
    """``count`` times softmax(x @ w)."""
    nodes = []
    for k in range(count):
        nodes.append(helper.make_node("MatMul", [f"v{k}" if k else "x", "w"], [f"m{k}"], name=f"product{k}"))
        last = f"v{k + 1}" if k + 1 < count else "y"
        nodes.append(helper.make_node("Softmax", [f"m{k}"], [last], name=f"softmax{k}"))
    return proto(nodes, [info("x", [rows, 16])], [info("y", [rows, 16])], {"w": W})


# ---- batches


@pytest.mark.parametrize("most", [None, 1, 3, 100])
def test_batches_give_what_each_request_gives(most: int | None) -> None:
    session = vitrify.InferenceSession(layers())
    requests = [{"x": X[at : at + rows]} for at, rows in ((0, 1), (1, 0), (1, 3), (4, 2), (0, 7), (6, 1))]
    results = session.run_batch(["y"], requests, max_batch_size=most)
    assert len(results) == len(requests)
    for request, (y,) in zip(requests, results, strict=True):
        np.testing.assert_allclose(y, session.run(["y"], request)[0], rtol=1e-6)
        assert y.flags.owndata
    assert session.run_batch(None, []) == []


def test_batches_of_models_that_cannot_be_joined() -> None:
    fixed = vitrify.InferenceSession(layers(rows=7))
    one, two = fixed.run_batch(None, [{"x": X}, {"x": X + 1}])
    np.testing.assert_array_equal(one[0], fixed.run(None, {"x": X})[0])
    np.testing.assert_array_equal(two[0], fixed.run(None, {"x": X + 1})[0])
    # The sum over axis 0 has no dim N: requests must not be added up.
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)
    session = vitrify.InferenceSession(proto([node], [info("x", ["N", 2])], [info("y", [1, 1])], {}))
    results = session.run_batch(None, [{"x": np.ones((n, 2), np.float32)} for n in (1, 2, 3)])
    assert [y.item() for (y,) in results] == [2, 4, 6]


def test_errors_of_batches_name_the_request() -> None:
    node = helper.make_node("Gather", ["table", "i"], ["y"], name="pick")
    model = proto([node], [info("i", ["N"], TensorProto.INT64)], [info("y", ["N"])], {"table": W[0]})
    session = vitrify.InferenceSession(model)
    good = {"i": np.array([1, 2])}
    with pytest.raises(IndexError, match=r"request 2: .*pick"):
        session.run_batch(None, [good, good, {"i": np.array([99])}, good])
    with pytest.raises(InvalidArgumentError, match=r"(?s)request 1: .*missing"):
        session.run_batch(None, [good, {}])
    for wrong in (good, 3, "abc"):
        with pytest.raises(InvalidArgumentError):
            session.run_batch(None, wrong)  # type: ignore[arg-type]
    for most in (0, -1, 1.5, True):
        with pytest.raises(InvalidArgumentError, match="max_batch_size"):
            session.run_batch(None, [good], max_batch_size=most)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="output_names"):
        session.run_batch(["q"], [good])


# ---- profiles


def test_a_profile_has_every_kernel(tmp_path: Path) -> None:
    session = vitrify.InferenceSession(layers())
    profile = session.run_with_profiling({"x": X})
    np.testing.assert_array_equal(profile.outputs[0], session.run(None, {"x": X})[0])
    assert sum(k.calls for k in profile.kernels) == len(session.target.kernels)
    seen = " ".join(node for k in profile.kernels for node in k.nodes)
    assert all(f"product{k}" in seen and f"softmax{k}" in seen for k in range(3))
    products = [k for k in profile.kernels if any("product" in node for node in k.nodes)]
    assert all(k.flops is not None and k.flops >= 2 * 7 * 16 * 16 for k in products)
    assert sum(k.nanoseconds for k in profile.kernels) + profile.other_nanoseconds == profile.nanoseconds
    assert all(0 <= k.share <= 1 and k.limit_fraction is not None and k.limit_fraction >= 0 for k in profile.kernels)
    assert profile.limits.flops_per_second > 1e8 and profile.limits.bytes_per_second > 1e7
    assert "product0" in str(profile)
    profile.save_trace(tmp_path / "trace.json")
    check_trace(tmp_path / "trace.json", runs=1, kernels=len(session.target.kernels))


def check_trace(path: Path, runs: int, kernels: int) -> None:
    events = [e for e in json.loads(path.read_text(encoding="utf-8")) if e["ph"] == "X"]
    whole = [e for e in events if e["cat"] == "Session"]
    parts = [e for e in events if e["cat"] == "Node"]
    assert len(whole) == runs and len(parts) == runs * kernels
    assert all(e["dur"] >= 0 and e["ts"] >= 0 and {"pid", "tid", "name"} <= e.keys() for e in events)
    for part in parts:
        assert any(r["ts"] <= part["ts"] and part["ts"] + part["dur"] <= r["ts"] + r["dur"] + 1 for r in whole)
        assert part["args"]["nodes"] and part["args"]["kernel"]


def test_kernels_in_loops_are_counted_and_sizes_of_the_run_are_not_guessed() -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["a", "w"], ["p"], name="inner"), helper.make_node("Identity", ["c"], ["d"])],
        "body", [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("a", [7, 16])],
        [info("d", [], TensorProto.BOOL), info("p", [7, 16])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)
    inputs = [info("x", [7, 16]), info("n", [], TensorProto.INT64)]
    session = vitrify.InferenceSession(proto([loop], inputs, [info("y", [7, 16])], {"t": True, "w": W / 8}))
    profile = session.run_with_profiling({"x": X, "n": np.int64(5)})
    inner = [k for k in profile.kernels if any("inner" in node for node in k.nodes)]
    assert sum(k.calls for k in inner) >= 5
    # A run of 2**40 trips ends soon after it is told to.
    options = vitrify.RunOptions()
    timer = threading.Timer(0.1, setattr, (options, "terminate", True))
    timer.start()
    with pytest.raises(TerminatedError, match="terminate"):
        session.run(None, {"x": X, "n": np.int64(1 << 40)}, options)
    timer.join()
    options.terminate = False
    session.run(None, {"x": X, "n": np.int64(2)}, options)
    node = helper.make_node("NonZero", ["x"], ["y"])
    nonzero = proto([node], [info("x", ["N", 16])], [info("y", [2, "K"], TensorProto.INT64)], {})
    late = vitrify.InferenceSession(nonzero).run_with_profiling({"x": X})
    np.testing.assert_array_equal(late.outputs[0], np.nonzero(X))


def test_sessions_that_profile(tmp_path: Path) -> None:
    options = vitrify.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = vitrify.InferenceSession(layers(), options)
    assert session.get_profiling_start_time_ns() > 0
    for _ in range(3):
        session.run(["y"], {"x": X})
    path = session.end_profiling()
    assert Path(path).parent == tmp_path
    check_trace(Path(path), runs=3, kernels=len(session.target.kernels))
    session.run(None, {"x": X})
    assert session.end_profiling() == "" and session.get_profiling_start_time_ns() == 0
    options.profile_file_prefix = str(tmp_path / "no such folder" / "profile")
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        vitrify.InferenceSession(layers(), options).end_profiling()


# ---- bound memory


def test_outputs_are_written_where_they_are_bound() -> None:
    session = vitrify.InferenceSession(layers())
    expected = session.run(None, {"x": X})[0]
    binding, place = session.io_binding(), np.zeros((7, 16), np.float32)
    binding.bind_cpu_input("x", X)
    binding.bind_ortvalue_output("y", vitrify.OrtValue.ortvalue_from_numpy(place))
    for _ in range(2):
        place[:] = 0
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(place, expected)
    assert binding.get_outputs()[0].data_ptr() == place.ctypes.data
    # In the memory of the input itself.
    both = X.copy()
    value = vitrify.OrtValue.ortvalue_from_numpy(both)
    binding.bind_ortvalue_input("x", value)
    binding.bind_ortvalue_output("y", value)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(both, expected)


def test_late_outputs_and_empty_ones_are_bound() -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    model = proto([node], [info("x", ["N"])], [info("y", [1, "K"], TensorProto.INT64)], {})
    session = vitrify.InferenceSession(model)
    for found in (2, 0):
        binding, place = session.io_binding(), np.full((1, found), -1, np.int64)
        binding.bind_cpu_input("x", np.array([0, 1, 0, 5], np.float32) * (found > 0))
        binding.bind_ortvalue_output("y", vitrify.OrtValue.ortvalue_from_numpy(place))
        session.run_with_iobinding(binding)
        assert place.tolist() == [[1, 3][:found]]
    with pytest.raises(BindingError, match="memory of shape"):
        binding.bind_cpu_input("x", np.ones(3, np.float32))
        session.run_with_iobinding(binding)


def test_wrong_bindings() -> None:
    session = vitrify.InferenceSession(layers())
    frozen = np.zeros((7, 16), np.float32)
    frozen.flags.writeable = False
    binding = session.io_binding()
    for wrong in (np.zeros((7, 16)), frozen, np.zeros((16, 7), np.float32).T):
        with pytest.raises(BindingError, match="output 'y'"):
            binding.bind_ortvalue_output("y", vitrify.OrtValue(wrong))
    with pytest.raises(BindingError, match="buffer_ptr"):
        binding.bind_output("y", "cpu", 0, np.float32, [7, 16], 3)
    with pytest.raises(BindingError, match="device"):
        binding.bind_output("y", "cuda")
    with pytest.raises(BindingError, match="shape"):
        binding.bind_input("x", "cpu", 0, np.float32, [-1, 16], X.ctypes.data)
    other = vitrify.InferenceSession(layers())
    binding.bind_output("y")
    with pytest.raises(BindingError, match="this session"):
        other.run_with_iobinding(binding)


def test_places_are_checked_by_every_run() -> None:
    session = vitrify.InferenceSession(layers())
    frozen = np.zeros((7, 16), np.float32)
    frozen.flags.writeable = False
    flipped = np.zeros((16, 7), np.float32).T
    for wrong in (np.zeros((7, 16), np.float16), np.zeros((6, 16), np.float32), flipped, frozen):
        with pytest.raises(BindingError, match="output 'y'"):
            session.run_into(None, {"x": X}, {"y": wrong})


def test_shapes_that_follow_fed_values() -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    inputs = [info("x", ["N", 16]), info("axes", [1], TensorProto.INT64)]
    graph = helper.make_graph([node], "g", inputs, [info("y", ["M"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = vitrify.InferenceSession(model)
    for axis in (0, 1):
        whole = np.round(4 * X)  # whose sums are exact
        feed = {"x": whole, "axes": np.array([axis])}
        expected = whole.sum(axis)
        np.testing.assert_array_equal(session.run(["y"], feed, vitrify.RunOptions())[0], expected)
        np.testing.assert_array_equal(session.run_with_profiling(feed).outputs[0], expected)
        np.testing.assert_array_equal(session.run_batch(None, [feed])[0][0], expected)
        binding, place = session.io_binding(), np.zeros(expected.shape, np.float32)
        for name, value in feed.items():
            binding.bind_cpu_input(name, value)
        binding.bind_ortvalue_output("y", vitrify.OrtValue.ortvalue_from_numpy(place))
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(place, expected)
        binding.bind_ortvalue_output("y", vitrify.OrtValue.ortvalue_from_numpy(np.zeros(expected.shape, np.int8)))
        with pytest.raises(BindingError, match="memory of float32"):
            session.run_with_iobinding(binding)
    with pytest.raises(InvalidArgumentError, match="axes"):
        session.run_batch(None, [{"x": X}])
    assert "axes" in repr(session) and session.end_profiling() == ""


def test_profiles_of_specialised_models() -> None:
    options = vitrify.CompileOptions(specialize=[{"x": [7, 16]}])
    session = vitrify.InferenceSession(layers(), compile_options=options)
    for rows in (7, 5):
        profile = session.run_with_profiling({"x": X[:rows]})
        nodes = " ".join(n for k in profile.kernels for n in k.nodes)
        assert all(f"product{k}" in nodes and f"softmax{k}" in nodes for k in range(3))
        assert 0 < sum(k.calls for k in profile.kernels) < len(session.target.kernels)


def test_runs_on_other_threads() -> None:
    session = vitrify.InferenceSession(layers())
    done, found = threading.Semaphore(0), []

    def callback(results: list[Any], user_data: int, error: str) -> None:
        found.append((results, user_data, error))
        done.release()

    for number in range(20):
        session.run_async(["y"], {"x": X if number else X[:, :3]}, callback, number)
    for _ in range(20):
        assert done.acquire(timeout=30)
    assert sorted(number for _, number, _ in found) == list(range(20))
    for results, number, error in found:
        assert (error == "") == (number > 0) and len(results) == (number > 0)
    with pytest.raises(ValueError, match="'x'"):
        session.run_async(None, {}, callback, 0)


# ---- memory


def test_memory_options_change_no_result() -> None:
    expected = vitrify.InferenceSession(layers()).run(None, {"x": X})[0]
    shared = vitrify.SessionOptions()
    shared.add_session_config_entry("session.use_env_allocators", "1")
    for options in (
        vitrify.SessionOptions(enable_cpu_mem_arena=False), vitrify.SessionOptions(share_memory=True), shared,
        vitrify.SessionOptions(share_memory=True, enable_cpu_mem_arena=False, intra_op_num_threads=2),
    ):  # fmt: skip
        for session in [vitrify.InferenceSession(layers(), options) for _ in range(2)]:
            for rows in (7, 1, 0, 7):
                np.testing.assert_array_equal(session.run(None, {"x": X[:rows]})[0], expected[:rows])


def test_shared_memory_is_one_block_for_runs_that_follow_each_other() -> None:
    gc.collect()
    assert _process.arenas.users == 0
    options = vitrify.SessionOptions(share_memory=True)
    sessions = [vitrify.InferenceSession(layers(k), options) for k in (2, 3, 4)]
    for session in sessions:
        session.run(None, {"x": X})
    assert _process.arenas.users == 3 and sum(bool(b) for b in _process.arenas.slots) == 1
    del session
    sessions.clear()
    gc.collect()
    assert _process.arenas.users == 0 and not any(_process.arenas.slots)


def test_memory_without_reuse_and_its_limit() -> None:
    plain = vitrify.InferenceSession(layers(6, rows=7))
    apart = vitrify.InferenceSession(layers(6, rows=7), vitrify.SessionOptions(enable_mem_reuse=False))
    assert int(apart.target.arena_bytes) > int(plain.target.arena_bytes)
    np.testing.assert_array_equal(apart.run(None, {"x": X})[0], plain.run(None, {"x": X})[0])
    limit = vitrify.SessionOptions(memory_limit_mb=1)
    session = vitrify.InferenceSession(layers(), limit)
    session.run(None, {"x": X})
    with pytest.raises(OutOfMemoryError, match=r"at most 1 MB; got .* bytes"):
        session.run(None, {"x": np.zeros((100_000, 16), np.float32)})
    with pytest.raises(OutOfMemoryError):
        session.run(None, {"x": np.zeros((100_000, 16), np.float32)}, vitrify.RunOptions())


# ---- models changed by options


def test_initial_values_from_options(tmp_path: Path) -> None:
    other = RNG.standard_normal((16, 16), dtype=np.float32)
    direct = layers()
    direct.graph.initializer[0].CopyFrom(numpy_helper.from_array(other, "w"))
    expected = vitrify.InferenceSession(direct).run(None, {"x": X})[0]
    path = tmp_path / "model.onnx"
    onnx.save_model(layers(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    value = vitrify.OrtValue.ortvalue_from_numpy(other)
    options = vitrify.SessionOptions()
    options.add_external_initializers(["w"], [value])
    np.testing.assert_array_equal(vitrify.InferenceSession(path, options).run(None, {"x": X})[0], expected)
    options = vitrify.SessionOptions()
    options.add_initializer("w", value)
    options.add_initializer("not in the model", value)
    np.testing.assert_array_equal(vitrify.InferenceSession(layers(), options).run(None, {"x": X})[0], expected)
    for wrong in (other[:3].copy(), other.astype(np.float64)):
        options = vitrify.SessionOptions()
        options.add_initializer("w", vitrify.OrtValue.ortvalue_from_numpy(wrong))
        with pytest.raises(InvalidArgumentError, match="initializer 'w'"):
            vitrify.InferenceSession(layers(), options)
    options = vitrify.SessionOptions()
    options.add_external_initializers(["q"], [value])
    with pytest.raises(InvalidArgumentError, match="external initializers"):
        vitrify.InferenceSession(layers(), options)


def test_sizes_from_options() -> None:
    options = vitrify.SessionOptions()
    options.add_free_dimension_override_by_name("N", 3)
    options.add_free_dimension_override_by_name("not in the model", 3)
    session = vitrify.InferenceSession(layers(), options)
    assert session.get_inputs()[0].shape == [3, 16]
    with pytest.raises(InvalidArgumentError, match="expected 3, got 7"):
        session.run(None, {"x": X})
    model = layers()
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    options = vitrify.SessionOptions()
    options.add_free_dimension_override_by_denotation("DATA_BATCH", 5)
    assert vitrify.InferenceSession(model, options).get_inputs()[0].shape == [5, 16]


def test_from_onnx_and_its_options(tmp_path: Path) -> None:
    folder = tmp_path / "own cache"
    options = vitrify.CompileOptions(cache_dir=folder, dynamic_batch=True)
    session = vitrify.from_onnx(layers(rows=7), optimization_level=1, compile_options=options)
    assert session.get_inputs()[0].shape == ["batch", 16] and any(folder.iterdir())
    assert session.run(None, {"x": X[:2]})[0].shape == (2, 16)
    shaped = vitrify.from_onnx(layers(), compile_options=vitrify.CompileOptions(input_shapes={"x": [3, 16]}))
    assert shaped.get_inputs()[0].shape == [3, 16]
    for wrong in (4, -1, "all"):
        with pytest.raises(InvalidArgumentError, match="optimization_level"):
            vitrify.from_onnx(layers(), optimization_level=wrong)  # type: ignore[arg-type]


def test_the_compiled_artifact_is_written(tmp_path: Path) -> None:
    options = vitrify.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized")
    expected = vitrify.InferenceSession(layers(), options).run(None, {"x": X})[0]
    again = vitrify.InferenceSession(tmp_path / "optimized")
    np.testing.assert_array_equal(again.run(None, {"x": X})[0], expected)
    assert again.get_overridable_initializers() == []
    vitrify.InferenceSession(layers(2), options)  # replaces it
    changed = vitrify.SessionOptions()
    changed.add_free_dimension_override_by_name("N", 3)
    with pytest.raises(InvalidArgumentError, match="compiled already"):
        vitrify.InferenceSession(tmp_path / "optimized", changed)


def test_cancelled_loads() -> None:
    options = vitrify.SessionOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(vitrify.ModelLoadCanceled):
        vitrify.InferenceSession(layers(), options)
    options.set_load_cancellation_flag(False)
    vitrify.InferenceSession(layers(), options)

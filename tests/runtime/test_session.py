"""Whole runs through a session: exact results, outputs of every kind, failures, memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import ClassVar

import ml_dtypes
import numpy as np
import pytest

from vitrify.artifact.loading import Artifact
from vitrify.artifact.manifest import Port
from vitrify.artifact.writing import write_artifact
from vitrify.benchmark import resident_bytes
from vitrify.errors import (
    ArtifactError,
    DivisionError,
    IndexOutOfRangeError,
    InvalidArgumentError,
    NativeCodeError,
    OutOfMemoryError,
    PlatformError,
    ShapeError,
)
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import ModelMetadata, NodeArg, Session

from .plans import MATRIX, PAYLOAD, TABLE, Factory, describe


def add_feed() -> dict[str, np.ndarray]:
    return {"a": np.arange(4, dtype=np.float32), "b": np.full(4, 0.5, np.float32)}


def test_add_is_exact(artifact: Factory) -> None:
    (y,) = Session(artifact("add")).run(None, add_feed())
    assert y.dtype == np.float32 and y.flags.owndata and y.flags.writeable
    np.testing.assert_array_equal(y, np.array([0.5, 1.5, 2.5, 3.5], np.float32))


def test_a_path_serves_as_well_as_an_artifact(artifact: Factory) -> None:
    session = Session(artifact("add").path)
    assert session.run(["y"], add_feed())[0].tolist() == [0.5, 1.5, 2.5, 3.5]


def test_outputs_are_new_each_time(artifact: Factory) -> None:
    session = Session(artifact("add"))
    first = session.run(None, add_feed())[0]
    second = session.run(None, {"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)})[0]
    assert first.tolist() == [0.5, 1.5, 2.5, 3.5] and second.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (17, 1000), (0, 4), (2, 0), (0, 0), (64, 31)])
def test_dynamic_dims(artifact: Factory, n: int, m: int) -> None:
    rng = np.random.default_rng(n * 1000 + m)
    a = rng.integers(-8, 8, (n, m)).astype(np.float32)  # sums of small integers are exact
    b = rng.integers(-8, 8, (m, 3)).astype(np.float32)
    y, total = Session(artifact("dynamic_add")).run(None, {"a": a, "b": b})
    expected = a + b.sum(1)
    np.testing.assert_array_equal(y, expected)
    sums = expected.sum(1)
    np.testing.assert_array_equal(total, np.stack([sums, -sums], 1).ravel())


def test_selected_outputs_in_the_asked_order(artifact: Factory) -> None:
    session = Session(artifact("dynamic_add"))
    feed = {"a": np.ones((2, 3), np.float32), "b": np.zeros((3, 3), np.float32)}
    total, y = session.run(["total", "y"], feed)
    assert total.tolist() == [3, -3, 3, -3] and y.shape == (2, 3)
    assert [out.shape for out in session.run(("y", "y"), feed)] == [(2, 3), (2, 3)]
    assert len(session.run([], feed)) == 2  # all, as in onnxruntime


@pytest.mark.parametrize("names", ["y", ["z"], ["y", "z"], [1], 5, [["y"]]])
def test_wrong_output_names(artifact: Factory, names: object) -> None:
    with pytest.raises(InvalidArgumentError, match="output_names"):
        Session(artifact("add")).run(names, add_feed())  # type: ignore[arg-type]


def test_run_options_are_refused(artifact: Factory) -> None:
    with pytest.raises(InvalidArgumentError, match="run_options"):
        Session(artifact("add")).run(None, add_feed(), object())  # type: ignore[arg-type]


def test_weights(artifact: Factory) -> None:
    x = np.random.default_rng(1).standard_normal(256, dtype=np.float32)
    (y,) = Session(artifact("matvec")).run(None, {"x": x})
    expected = MATRIX.astype(np.float64) @ x
    # 256 products in 16 partial sums: well under 64 roundings of the largest partial sum
    bound = 64 * np.finfo(np.float32).eps * (np.abs(MATRIX) @ np.abs(x))
    assert np.all(np.abs(y - expected) <= bound)


def test_late_outputs(artifact: Factory) -> None:
    session = Session(artifact("nonzero"))
    for x in ([True, False, True, True], [False] * 5, [], [True] * 300):
        where, n = session.run(None, {"x": np.array(x, bool)})
        assert where.tolist() == np.flatnonzero(x).tolist() and n.tolist() == [len(x)]


def test_failures_name_their_node(artifact: Factory) -> None:
    session = Session(artifact("gather"))
    one = np.array(3, np.int32)
    y, z = session.run(None, {"index": np.array([4, -5, 0]), "divisor": one})
    assert y.tolist() == TABLE[[4, -5, 0]].tolist() and z.tolist() == [16, 3, 3]
    for _ in range(3):
        with pytest.raises(IndexOutOfRangeError, match=r"node 'gather_0' \(Gather\)"):
            session.run(None, {"index": np.array([0, 5]), "divisor": one})
        with pytest.raises(DivisionError, match=r"node 'div_1' \(Div\)"):
            session.run(["z"], {"index": np.array([0]), "divisor": np.array(0, np.int32)})
    with pytest.raises(ShapeError, match=r"node 'add_1' \(Add\)"):
        Session(artifact("dynamic_add")).run(
            None, {"a": np.zeros((1, 1001), np.float32), "b": np.zeros((1001, 3), np.float32)}
        )
    with pytest.raises(OutOfMemoryError):
        Session(artifact("nonzero")).run(None, {"x": np.zeros(13, bool)})


def test_types_that_numpy_lacks(artifact: Factory) -> None:
    session = Session(artifact("narrow"))
    feed = {
        "b": np.array([1.5, -2.0], ml_dtypes.bfloat16),
        "f": np.array([0.5, 448.0], ml_dtypes.float8_e4m3fn),
        "i": np.array([-8, 7], ml_dtypes.int4),
        "x": np.array([1.0, -1.0], np.float32),
    }
    for name, out in zip(feed, session.run(None, feed), strict=True):
        assert out.dtype == feed[name].dtype
        np.testing.assert_array_equal(out.astype(np.float32), feed[name].astype(np.float32))
    raw = {
        **feed,
        "b": feed["b"].view(np.uint16),
        "f": feed["f"].view(np.uint8),
        "i": feed["i"].view(np.int8),
    }
    for name, out in zip(feed, session.run(None, raw), strict=True):
        np.testing.assert_array_equal(out.astype(np.float32), feed[name].astype(np.float32))


def test_description(artifact: Factory) -> None:
    session = Session(artifact("dynamic_add"))
    assert session.get_inputs() == [
        NodeArg("a", ["N", "M"], "tensor(float)"),
        NodeArg("b", ["M", 3], "tensor(float)"),
    ]
    assert session.get_outputs() == [
        NodeArg("y", ["N", "M"], "tensor(float)"),
        NodeArg("total", [None], "tensor(float)"),
    ]
    assert session.get_inputs()[0].name == "a" and session.get_inputs()[1].shape == ["M", 3]
    meta = ModelMetadata("tests", "dynamic_add", "local", "hand-written", 3, {"key": "värde"})
    assert session.get_modelmeta() == meta
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 0
    assert [arg.type for arg in Session(artifact("narrow")).get_inputs()] == [
        "tensor(bfloat16)", "tensor(float8e4m3fn)", "tensor(int4)", "tensor(float)",
    ]  # fmt: skip


def test_memory_limit_is_enforced_before_the_run(artifact: Factory) -> None:
    options = SessionOptions(memory_limit_mb=0.01, intra_op_num_threads=1)
    session = Session(artifact("dynamic_add"), options)

    def feed(n: int) -> dict[str, np.ndarray]:
        return {"a": np.ones((n, 2), np.float32), "b": np.ones((2, 3), np.float32)}

    assert session.run(None, feed(100))[0].shape == (100, 2)
    # arena 2 floats, one worker's scratch, y of 1000 x 2 and total of 2000 floats
    with pytest.raises(OutOfMemoryError, match=rf"\({8 + 64 + 8000 + 8000} bytes\)"):
        session.run(None, feed(1000))
    with pytest.raises(OutOfMemoryError, match="memory_limit_mb"):
        Session(artifact("add"), SessionOptions(memory_limit_mb=0.001))  # the stated peak is 4096 bytes


def test_memory_that_cannot_be_had(artifact: Factory) -> None:
    x = np.broadcast_to(np.float32(0), (1 << 44, 0))
    with pytest.raises(OutOfMemoryError):
        # total has 2 * 2**44 elements
        Session(artifact("dynamic_add")).run(None, {"a": x, "b": np.zeros((0, 3), np.float32)})


def test_memory_stays_flat(artifact: Factory) -> None:
    made = artifact("matvec")
    x = {"x": np.ones(256, np.float32)}
    failing = Session(artifact("gather"))
    late = Session(artifact("nonzero"))

    def work(count: int) -> None:
        for _ in range(count):
            session = Session(made)
            for _ in range(20):
                session.run(None, x)
            with pytest.raises(IndexOutOfRangeError):
                failing.run(None, {"index": np.full(1000, 9), "divisor": np.array(1, np.int32)})
            late.run(None, {"x": np.ones(1000, bool)})
            with pytest.raises(InvalidArgumentError):
                session.run(None, {"x": np.ones(255, np.float32)})
        gc.collect()

    work(100)
    # A leak grows in every round; an allocator that takes another arena, or a huge page, grows in one.
    growth = []
    for _ in range(5):
        before = resident_bytes()
        work(250)
        growth.append(resident_bytes() - before)
    assert min(growth) < 64 << 10, growth


class _CallsWhenCollected:
    """Runs its session from a finalizer, in a reference cycle with it."""

    results: ClassVar[list[list[float]]] = []

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cycle = self

    def __del__(self) -> None:
        self.results.append(self.session.run(None, add_feed())[0].tolist())


def test_sessions_in_reference_cycles(artifact: Factory) -> None:
    artifact("matvec"), Session(artifact("matvec"))  # so that the next is not the first payload
    for _ in range(5):
        _CallsWhenCollected(Session(artifact("add")))
    gc.collect()
    assert _CallsWhenCollected.results == [[0.5, 1.5, 2.5, 3.5]] * 5


def test_a_session_that_dies_while_an_exception_is_raised(artifact: Factory) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="by zero"):
            [Session(artifact("add")), Session(artifact("gather")), 1 // 0]
    assert Session(artifact("add")).run(None, add_feed())[0].tolist() == [0.5, 1.5, 2.5, 3.5]


def test_the_process_ends_cleanly_with_live_sessions(artifact: Factory) -> None:
    program = f"""
import threading, numpy as np
from vitrify.runtime.session import Session, SessionOptions
keep = [Session({artifact("matvec").path!r}, SessionOptions(intra_op_num_threads=3)) for _ in range(3)]
other = Session({artifact("add").path!r})
x = {{"x": np.ones(256, np.float32)}}
def work():
    while True: keep[0].run(None, x)
threading.Thread(target=work, daemon=True).start()
for _ in range(100): keep[1].run(None, x)
print("done")
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_payload_and_manifest_must_agree(artifact: Factory, tmp_path: object) -> None:
    made: Artifact = artifact("add")
    files = {PAYLOAD: f"{made.path}/{PAYLOAD}"}
    for inputs in (
        made.manifest.inputs[:1],
        (Port("a", "f32", (4,)), Port("c", "f32", (4,))),
        (Port("a", "f32", (4,)), Port("b", "i32", (4,))),
        (Port("a", "f32", (4, 1)), Port("b", "f32", (4,))),
    ):
        other = write_artifact(f"{tmp_path}/a", describe("add")._replace(inputs=inputs), files, replace=True)
        with pytest.raises(ArtifactError, match="disagree"):
            Session(other)


def test_replacing_an_artifact_under_a_live_session(artifact: Factory, tmp_path: object) -> None:
    path = f"{tmp_path}/model.vit"
    write_artifact(path, describe("add"), {PAYLOAD: f"{artifact('add').path}/{PAYLOAD}"})
    old = Session(path)
    write_artifact(
        path, describe("nonzero"), {PAYLOAD: f"{artifact('nonzero').path}/{PAYLOAD}"}, replace=True
    )
    new = Session(path)
    assert new.run(["where"], {"x": np.array([False, True])})[0].tolist() == [1]
    assert old.run(None, add_feed())[0].tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(100)])
def test_a_payload_that_is_no_library(tmp_path: object, content: bytes) -> None:
    made = write_artifact(f"{tmp_path}/a", describe("add"), {PAYLOAD: content})
    with pytest.raises((NativeCodeError, PlatformError)):
        Session(made)


def test_no_fitting_target(artifact: Factory, tmp_path: object) -> None:
    manifest = describe("add")
    strange = manifest.targets[0]._replace(features=("a_feature_of_the_future",))
    made = write_artifact(
        f"{tmp_path}/a", manifest._replace(targets=(strange,)),
        {strange.payload: f"{artifact('add').path}/{strange.payload}"},
    )  # fmt: skip
    with pytest.raises(PlatformError, match="misses a_feature_of_the_future"):
        Session(made)


def test_wrong_options_object(artifact: Factory) -> None:
    with pytest.raises(InvalidArgumentError, match="options"):
        Session(artifact("add"), {"intra_op_num_threads": 1})  # type: ignore[arg-type]

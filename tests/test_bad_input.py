"""What goes wrong between a model and its results, through the public names: each a documented error, and
nothing left behind. What one layer alone refuses is tested beside that layer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import vitrify

X = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.ones(4, np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model(text: str) -> bytes:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}').SerializeToString()


def session(text: str) -> vitrify.InferenceSession:
    return vitrify.InferenceSession(model(text))


ADD = "g (float[N,4] x, float[4] b) => (float[N,4] y) { y = Add(x, b) }"


# ---- models


def test_truncated_files(tmp_path: Path, cache: Path) -> None:
    data = model(ADD)
    path = tmp_path / "model.onnx"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(vitrify.InvalidModelError):
            vitrify.InferenceSession(path)
    assert not list((cache / "artifacts").iterdir()) and not list((cache / "staging").iterdir())


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would block
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(vitrify.InvalidModelError, match="is not a regular file"):
            vitrify.InferenceSession(path)
        with pytest.raises(vitrify.InvalidModelError, match="is not a regular file"):
            vitrify.compile(path)
    with pytest.raises(vitrify.InvalidModelError, match="is a directory"):
        vitrify.compile(tmp_path)
    with pytest.raises(vitrify.ArtifactError, match="not an artifact"):
        vitrify.InferenceSession(tmp_path)
    for name in ("no\0name", "x" * 5000):
        with pytest.raises(vitrify.InvalidModelError, match="cannot be read"):
            vitrify.InferenceSession(name)


def test_a_pipe_where_custom_ops_are_registered(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with registered("pipes::Same"), pytest.raises(vitrify.InvalidModelError, match="is not a regular file"):
        vitrify.compile(tmp_path / "pipe")


@contextmanager
def registered(label: str) -> Iterator[None]:
    """A custom op for as long as the block."""
    domain, _, name = label.partition("::")
    op = vitrify.custom_op(domain, name, infer=lambda x: x, reference=np.copy)
    try:
        yield
    finally:
        op.unregister()


def test_everything_unsupported_at_once() -> None:
    with pytest.raises(vitrify.UnsupportedError) as caught:
        session("""g (float[4] x, string[3] q) => (float[4] y) {
            [first] a = Foo(x)  [second] b = Relu(a)  [third] c = my.domain.Bar(b)  [fourth] y = Det(c) }""")
    assert len(caught.value.problems) == 2
    for part in ("Foo 'first'", "Bar 'third' (my.domain"):
        assert part in str(caught.value)


# ---- what a run is given


def test_initializers_are_constants_until_they_are_fed() -> None:
    found = session("g (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }")
    assert [i.name for i in found.get_inputs()] == ["x"]
    np.testing.assert_array_equal(found.run(None, {"x": B})[0], [2, 3, 4, 5])
    np.testing.assert_array_equal(found.run(None, {"x": B, "w": B})[0], B + B)
    with pytest.raises(vitrify.InvalidArgumentError, match="'w': axis 0: expected 4, got 3"):
        found.run(None, {"x": B, "w": B[:3]})
    with pytest.raises(vitrify.InvalidArgumentError, match="'v': not an input"):
        found.run(None, {"x": B, "w": B, "v": B})
    held = session("g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Add(x, w) }")
    with pytest.raises(vitrify.InvalidArgumentError, match=r"'w': not an input.*\n.*initializers are constants"):
        held.run(None, {"x": B, "w": B})


def test_forms_of_arrays() -> None:
    run = session(ADD).run
    read_only = X.copy()
    read_only.flags.writeable = False
    misaligned = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape)
    misaligned[:] = X
    wide = np.repeat(X, 2, axis=1)
    forms = (X, read_only, misaligned, wide[:, ::2], np.asfortranarray(X), X.astype(">f4"), X.view(np.memmap), X[:0])
    for x in forms:
        np.testing.assert_array_equal(run(None, {"x": x, "b": B})[0], np.asarray(x) + 1)
    np.testing.assert_array_equal(run(None, {"x": np.ma.masked_array(X), "b": B})[0], X + 1)
    with pytest.raises(vitrify.InvalidArgumentError, match="masked"):
        run(None, {"x": np.ma.masked_array(X, X > 5), "b": B})


def test_more_elements_than_memory() -> None:
    endless = np.broadcast_to(X[:1], (1 << 44, 4))
    with pytest.raises(vitrify.OutOfMemoryError, match="no memory for a copy of input 'x'"):
        session(ADD).run(None, {"x": endless, "b": B})


SIZES = {
    "Expand": "g (float[4] x, int64[2] s) => (float[N,M] y) { [it] y = Expand(x, s) }",
    "ConstantOfShape": "g (float[4] x, int64[2] s) => (float[N,M] y) { [it] y = ConstantOfShape(s) }",
    "Reshape": "g (float[K] x, int64[2] s) => (float[N,M] y) { [it] y = Reshape(x, s) }",
}


@pytest.mark.parametrize("op", SIZES)
def test_sizes_that_a_run_cannot_have(op: str) -> None:
    run = session(SIZES[op]).run
    assert run(None, {"x": B, "s": np.array([1, 4])})[0].shape == (1, 4)
    for sizes in ([-3, 4], [1 << 62, 4], [2**63 - 1, 2**63 - 1], [-(2**63), 4], [1 << 45, 4]):
        with pytest.raises((vitrify.ShapeError, vitrify.OutOfMemoryError)) as caught:
            run(None, {"x": B, "s": np.array(sizes)})
        assert sizes == [1 << 45, 4] or f"node 'it' ({op})" in str(caught.value)
    assert run(None, {"x": B, "s": np.array([1, 4])})[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("dtype", "numbers", "length"),
    [
        ("int64", (0, 7, 2), 4),
        ("int64", (2**63 - 6, 2**63 - 1, 2), 3),
        ("int64", (2**63 - 1, -(2**63), 1), 0),
        ("int64", (-(2**63), 2**63 - 1, 1), None),
        ("int64", (2**63 - 1, -(2**63), -3), None),
        ("int16", (-(2**15), 2**15 - 1, 2), 2**15),
        ("int32", (2**31 - 1, -(2**31), -(2**30)), 4),
        ("float", (0, 5, 0.25), 20),
        ("float", (0, 5, 0), None),
        ("float", (0, np.inf, 1), None),
        ("float", (np.nan, 1, 1), 0),
        ("double", (0, 1e300, 1), None),
    ],
)
def test_ranges(dtype: str, numbers: tuple[float, ...], length: int | None) -> None:
    run = session(f"g ({dtype} a, {dtype} b, {dtype} d) => ({dtype}[N] y) {{ y = Range(a, b, d) }}").run
    kind = {"float": np.float32, "double": np.float64}.get(dtype) or np.dtype(dtype).type
    feed = {name: kind(number) for name, number in zip("abd", numbers, strict=True)}
    if length is None:
        with pytest.raises(vitrify.ShapeError, match="overflows"):
            run(None, feed)
        return
    (y,) = run(None, feed)
    np.testing.assert_array_equal(y, kind(numbers[0]) + np.arange(length).astype(kind) * kind(numbers[2]))


@pytest.mark.parametrize("index", [4, -5, 2**62, -(2**63)])
def test_indices_out_of_range(index: int) -> None:
    run = session("g (float[4] x, int64[K] i) => (float[K] y) { [it] y = Gather(x, i) }").run
    with pytest.raises(vitrify.IndexOutOfRangeError, match=r"node 'it' \(Gather\)"):
        run(None, {"x": B, "i": np.array([0, index])})
    np.testing.assert_array_equal(run(None, {"x": X[1], "i": np.array([-4, 3])})[0], X[1][[0, 3]])


def test_dims_that_contradict_the_model() -> None:
    run = session("g (float[N] x, float[M] z) => (float[K] y) { y = Add(x, z) }").run
    with pytest.raises(vitrify.InvalidArgumentError, match="expected N = 3 as in 'x', got 4"):
        run(None, {"x": B[:3], "z": B})


# ---- the machine


CLANG = "#!/bin/sh\n[ \"$1\" = --version ] && echo clang version 99 && exit 0\necho 'out of registers' >&2\nexit 3\n"


def test_a_compiler_that_fails(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "clang"
    fake.write_text(CLANG)
    fake.chmod(0o755)
    for cc, message in ((fake, "out of registers"), ("/bin/false", "does not run"), ("/none", "is missing")):
        monkeypatch.setenv("VITRIFY_CC", str(cc))
        with pytest.raises(vitrify.ToolchainError, match=message):
            session(ADD)
    assert not list((cache / "artifacts").iterdir()) and not list((cache / "staging").iterdir())


@pytest.mark.parametrize("package", ["onnx", "ziglang"])
def test_compiling_without_the_extra(package: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model(ADD))
    script = f"""
import sys
sys.modules[{package!r}] = None
import vitrify
try:
    vitrify.InferenceSession("model.onnx")
except vitrify.ToolchainError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert package in done.stdout and "pip install 'vitrify[compile]'" in done.stdout


def test_a_cache_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        monkeypatch.setenv("VITRIFY_CACHE_DIR", str(where))
        with pytest.warns(vitrify.CacheWarning, match="cannot be written"):
            found = session(ADD)
        np.testing.assert_array_equal(found.run(None, {"x": X, "b": B})[0], X + 1)


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(vitrify.ToolchainError, match="linking needs temporary files"):
        session(ADD)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(vitrify.CacheError, match="neither"), pytest.warns(vitrify.CacheWarning):
        session(ADD)


@pytest.mark.parametrize(("name", "value"), [("VITRIFY_DEBUG", "yes"), ("VITRIFY_DUMP", "/proc/none")])
def test_debugging_variables(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(vitrify.InvalidArgumentError, match=name):
        session(ADD)


def layers(count: int) -> bytes:
    """A model with many kernels that differ, so that its compile takes a while."""
    nodes = "".join(
        f"w{i} = Constant <value = float[{i + 2}] {{{', '.join(['0.5'] * (i + 2))}}}> ()\n"
        f"a{i} = Mul(x{i}, w{i})\n y{i} = Softmax <axis = 1> (a{i})\n" for i in range(count)
    )  # fmt: skip
    inputs = ", ".join(f"float[3,{i + 2}] x{i}" for i in range(count))
    outputs = ", ".join(f"float[3,{i + 2}] y{i}" for i in range(count))
    return model(f"g ({inputs}) => ({outputs}) {{ {nodes} }}")


def children(pid: int) -> list[int]:
    """Processes that ``pid`` started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_an_interrupted_compile_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(layers(30))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = """
import signal
import vitrify
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
try:
    vitrify.compile("model.onnx")
except KeyboardInterrupt:
    print("interrupted")
"""
    environment = {**os.environ, "TMPDIR": str(temporary), "VITRIFY_DEBUG": ""}
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
    )
    until = time.monotonic() + 60
    while not (compilers := children(child.pid)) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert compilers and (out, err) == ("interrupted\n", "")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in compilers)
    left = [p for folder in ("artifacts", "staging") for p in (cache / folder).iterdir()]
    assert not left and not list(temporary.iterdir())
    # what is there is whole: the same compile then finishes
    assert vitrify.compile(tmp_path / "model.onnx").compiled


def test_external_data(tmp_path: Path) -> None:
    loaded = onnx.load_model_from_string(model("g (float[4] x, float[4] w) => (float[4] y) { y = Add(x, w) }"))
    loaded.graph.input.pop()
    loaded.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(1, 5, dtype=np.float32), "w"))
    path = tmp_path / "model.onnx"
    onnx.save_model(loaded, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    np.testing.assert_array_equal(vitrify.InferenceSession(path).run(None, {"x": B})[0], [2, 3, 4, 5])
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(vitrify.ExternalDataError):
        vitrify.InferenceSession(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(vitrify.ExternalDataError):
        vitrify.InferenceSession(path)
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(vitrify.ExternalDataError):
        vitrify.InferenceSession(path)

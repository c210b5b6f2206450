"""Runs of the C++ loader: the same bits as Python's, on any number of threads, and errors that say what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import vitrify
from tests.attacks import forge
from tests.cpp.conftest import Loader
from vitrify.artifact.loading import load_artifact

RNG = np.random.default_rng(7)

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
MODELS = {
    "static": "g (float[3, 5] x, float[5] b) => (float[3, 5] y) { s = Add(x, b) y = Tanh(s) }",
    "dynamic": "g (float[n, k] x) => (float[n, m] y) { s = Softmax <axis = -1> (x) t = Transpose <perm = [1, 0]> (s)"
    " y = MatMul(x, t) }",
    "types": "g (int64[n] a, uint8[n] b, bool[n] c, double[n] d, float16[n] e, int8[n] f) => "
    "(int64[n] p, uint8[n] q, bool[n] r, double[n] s, float16[n] t, int8[n] u) "
    "{ p = Add(a, a) q = Max(b, b) r = Not(c) s = Neg(d) t = Mul(e, e) u = Neg(f) }",
    "late": "g (float[n] x) => (int64[1, m] y, float[n] z) { y = NonZero(x) z = Abs(x) }",
    "two": "g (float[n, 4] x) => (float[n, 2] y, float[n, 2] z) { y, z = Split <axis = 1, num_outputs = 2> (x) }",
}
FEEDS = {
    "static": {"x": RNG.standard_normal((3, 5), dtype=np.float32), "b": RNG.standard_normal(5, dtype=np.float32)},
    "dynamic": {"x": RNG.standard_normal((7, 13), dtype=np.float32)},
    "types": {
        "a": RNG.integers(-(2**62), 2**62, 11), "b": RNG.integers(0, 256, 11).astype(np.uint8),
        "c": RNG.integers(0, 2, 11).astype(bool), "d": RNG.standard_normal(11),
        "e": RNG.standard_normal(11).astype(np.float16), "f": RNG.integers(-128, 128, 11).astype(np.int8),
    },
    "late": {"x": np.array([0, 1, 0, 2, -3], np.float32)},
    "two": {"x": RNG.standard_normal((5, 4), dtype=np.float32)},
}  # fmt: skip


def saved(text: str, path: Path) -> str:
    model = parser.parse_model(HEADER + text)
    onnx = path.with_suffix(".onnx")
    onnx.write_bytes(model.SerializeToString())
    vitrify.compile(onnx).save(path)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def _own_trust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("own")
    patch = pytest.MonkeyPatch()
    patch.setenv("VITRIFY_TRUST_DIR", str(folder / "trust"))
    patch.setenv("VITRIFY_CACHE_DIR", str(folder / "cache"))
    yield
    patch.undo()


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    pairs = list(zip(found, expected, strict=True))
    return all(f.shape == e.shape and f.tobytes() == np.ascontiguousarray(e).tobytes() for f, e in pairs)


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits_as_python(name: str, kind: str, sanitized: Loader, tmp_path: Path) -> None:
    path = saved(MODELS[name], tmp_path / ("a.vit" if kind == "file" else "a"))
    session = vitrify.InferenceSession(path)
    expected = session.run(None, FEEDS[name])
    for threads in (1, 3):
        folder = tmp_path / f"run{threads}"
        found = sanitized.run(path, load_artifact(path).manifest.inputs, FEEDS[name], folder, "--threads", threads)
        assert same(found, expected)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_sizes(size: int, sanitized: Loader, tmp_path: Path) -> None:
    path = saved(MODELS["late"], tmp_path / "a.vit")
    feed = {"x": RNG.standard_normal(size, dtype=np.float32)}
    expected = vitrify.InferenceSession(path).run(None, feed)
    assert same(sanitized.run(path, load_artifact(path).manifest.inputs, feed, tmp_path / "run"), expected)


def weighted(path: Path) -> str:
    """A model with 3 MB of weights and enough work for several threads."""
    weights = [RNG.standard_normal((512, 768), dtype=np.float32), RNG.standard_normal((768, 512), dtype=np.float32)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]), helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 512])], [value("y", TensorProto.FLOAT, ["n", 512])],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx = path.with_suffix(".onnx")
    onnx.write_bytes(model.SerializeToString())
    vitrify.compile(onnx).save(path)
    return str(path)


def test_weights_and_many_callers(sanitized: Loader, tmp_path: Path) -> None:
    path = weighted(tmp_path / "a.vit")
    feed = {"x": RNG.standard_normal((33, 512), dtype=np.float32)}
    expected = vitrify.InferenceSession(path).run(None, feed)
    inputs = load_artifact(path).manifest.inputs
    options = ("--threads", 2, "--callers", 4, "--rounds", 20)
    assert same(sanitized.run(path, inputs, feed, tmp_path / "run", *options), expected)


def test_weights_that_change_are_not_read(sanitized: Loader, tmp_path: Path) -> None:
    path = weighted(tmp_path / "a")
    folder = Path(path) / "weights"
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (tmp_path / "in.0").write_bytes(b"x\nf32 1 512\n" + bytes(2048))
    assert sanitized("load", path).returncode == 0  # they are looked at before the first run
    done = sanitized("run", path, "--feed", tmp_path)
    assert done.returncode == 13 and "the SHA-256 of leaf" in done.stderr


BAD_FEEDS = {
    "missing": ([b"b\nf32 5\n" + bytes(20)], "'x': missing"),
    "unknown": (
        [b"x\nf32 3 5\n" + bytes(60), b"b\nf32 5\n" + bytes(20), b"q\nf32 5\n" + bytes(20)], "'q': not an input"
    ),
    "type": ([b"x\nf64 3 5\n" + bytes(120), b"b\nf32 5\n" + bytes(20)], "'x': expected f32, got f64"),
    "rank": ([b"x\nf32 15\n" + bytes(60), b"b\nf32 5\n" + bytes(20)], r"'x': expected rank 2, got [15]"),
    "dim": ([b"x\nf32 3 5\n" + bytes(60), b"b\nf32 4\n" + bytes(16)], "'b': axis 0: expected 5, got 4"),
    "negative": ([b"x\nf32 -3 5\n"], "none below 0"),
    "huge": ([b"x\nf32 9223372036854775807 5\n"], "fewer elements"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FEEDS)
def test_bad_feeds(name: str, sanitized: Loader, tmp_path: Path) -> None:
    path = saved(MODELS["static"], tmp_path / "a.vit")
    for index, content in enumerate(BAD_FEEDS[name][0]):
        (tmp_path / f"in.{index}").write_bytes(content)
    done = sanitized("run", path, "--feed", tmp_path)
    assert done.returncode == 1 and BAD_FEEDS[name][1] in done.stderr, done.stderr


def test_dims_with_one_name_have_one_size(sanitized: Loader, tmp_path: Path) -> None:
    path = saved("g (float[n] x, float[n] b) => (float[n] y) { y = Add(x, b) }", tmp_path / "a.vit")
    (tmp_path / "in.0").write_bytes(b"x\nf32 5\n" + bytes(20))
    (tmp_path / "in.1").write_bytes(b"b\nf32 4\n" + bytes(16))
    done = sanitized("run", path, "--feed", tmp_path)
    assert done.returncode == 1 and "'b': axis 0: expected n = 5 as in 'x', got 4" in done.stderr


FAILING = {
    "index": ("g (float[4] x, int64[1] i) => (float[1] y) { y = Gather(x, i) }",
              [b"x\nf32 4\n" + bytes(16), b"i\ni64 1\n" + (9).to_bytes(8, "little")], "IndexOutOfRangeError"),
    "divide": ("g (int64[2] x, int64[2] i) => (int64[2] y) { y = Div(x, i) }",
               [b"x\ni64 2\n" + bytes(16), b"i\ni64 2\n" + bytes(16)], "DivisionError"),
    "loop": ("g (int64 n, bool c, float[1] x) => (float[1] y) { y = Loop (n, c, x) <body = b "
             "(int64 i, bool k, float[1] v) => (bool q, float[1] w) { q = Identity(k) w = Add(v, v) }> }",
             [b"n\ni64 \n" + (10**12).to_bytes(8, "little"), b"c\nbool \n\1", b"x\nf32 1\n" + bytes(4)],
             "RunLimitError"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_runs_that_fail(name: str, sanitized: Loader, tmp_path: Path) -> None:
    text, feed, error = FAILING[name]
    path = saved(text, tmp_path / "a.vit")
    for index, content in enumerate(feed):
        (tmp_path / f"in.{index}").write_bytes(content)
    limits = [("--trips", 1000), ("--milliseconds", 50)] if name == "loop" else [()]
    for options in limits:
        done = sanitized("run", path, "--feed", tmp_path, *options)
        assert done.returncode == 1 and done.stderr.startswith(f"{error}: "), done.stderr


def test_a_memory_limit_is_kept(sanitized: Loader, tmp_path: Path) -> None:
    path = weighted(tmp_path / "a.vit")
    (tmp_path / "in.0").write_bytes(b"x\nf32 8 512\n" + bytes(16384))
    done = sanitized("run", path, "--feed", tmp_path, "--memory", 1 << 20)
    assert done.returncode == 1 and "OutOfMemoryError" in done.stderr, done.stderr


def test_what_needs_python_is_refused(sanitized: Loader, tmp_path: Path) -> None:
    text = 'g (string[n] s) => (string[n] t) { t = StringNormalizer <case_change_action = "UPPER"> (s) }'
    path = saved(text, tmp_path / "a.vit")
    done = sanitized("run", path, "--feed", tmp_path)
    assert done.returncode == 17 and "strings, sequences or maps" in done.stderr, done.stderr


def test_what_the_classes_promise(sanitized: Loader, tmp_path: Path) -> None:
    done = sanitized("api", saved(MODELS["dynamic"], tmp_path / "a.vit"))
    assert done.returncode == 0, done.stderr


def test_development_lets_unsigned_artifacts_load_and_says_so(
    sanitized: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vit"
    members = forge.base().members()
    del members["signature.json"]
    forge.write_file(path, members)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(path)))
    document = forge.policy(development=True)
    forge.write_trust(path, forge.envelope(forge.dumps(document), kind=forge.POLICY))
    done = sanitized("load", path)
    assert done.returncode == 0 and "is not signed" in done.stderr


def test_another_digest_is_refused(sanitized: Loader, tmp_path: Path) -> None:
    path = saved(MODELS["static"], tmp_path / "a.vit")
    digest = load_artifact(path).digest
    assert sanitized("digest", path).stdout.strip() == digest
    assert sanitized("load", path, "--digest", digest).returncode == 0
    assert sanitized("load", path, "--digest", "0" * 64).returncode == 13
    for wrong in ("", "0" * 63, "G" * 64):  # one that is empty would let any artifact pass
        assert sanitized("load", path, "--digest", wrong).returncode == 1


def test_releases_are_remembered_for_both(sanitized: Loader, tmp_path: Path) -> None:
    """What one of the loaders has seen, the other one knows."""
    path = saved(MODELS["static"], tmp_path / "a.vit")
    state = Path(os.environ["VITRIFY_TRUST_DIR"], "state.json")
    before = state.read_bytes()
    state.unlink()
    assert sanitized("load", path).returncode == 0
    assert len(state.read_bytes()) == len(before) and state.stat().st_mode & 0o777 == 0o600
    load_artifact(path)
    state.write_bytes(b'{"releases":{"":9},"seen":0}')
    state.chmod(0o600)
    assert sanitized("load", path).returncode == 14
    with pytest.raises(vitrify.VitrifyError, match="released later"):
        load_artifact(path)
    state.unlink()

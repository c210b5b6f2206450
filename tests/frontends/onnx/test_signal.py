"""Fourier transforms, windows and the mel scale, beside NumPy in f64 and onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import compile_graph
from tests.frontends.onnx.models import Array, assert_same, one_node, run, run_peer
from vitrify.errors import InvalidModelError, VitrifyError
from vitrify.frontends.onnx import import_onnx


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(0, 1, shape)).astype(dtype)


def compiled(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    graph = import_onnx(model)
    return compile_graph(graph).run(None, {v.name: feeds[v.name] for v in graph.inputs})


def agree(model: Any, feeds: Mapping[str, Array], expected: Array, tolerance: float = 1e-6) -> None:
    """To a part of the largest element."""
    atol = tolerance * float(np.abs(expected.astype(np.float64)).max(initial=0)) + 1e-30
    assert_same(run(model, feeds), [expected], rtol=0, atol=atol)
    assert_same(compiled(model, feeds), [expected], rtol=0, atol=atol)


def _complex(x: Array) -> Array:
    wide = x.astype(np.float64)
    return np.asarray(wide[..., 0] + (1j * wide[..., 1] if x.shape[-1] == 2 else 0))


def _parts(z: Array, dtype: Any = np.float32) -> Array:
    return np.stack([z.real, z.imag], -1).astype(dtype)


def _dft(x: Array, **attributes: Any) -> Any:
    return one_node("DFT", {"x": x}, opset=17, **attributes)


SIZES = [1, 2, 7, 30, 128, 129, 131, 200, 256, 262, 360, 509, 521, 1000, 1024, 1031, 2310, 4096]


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: int) -> None:
    """Products, factors, two stages and three, primes."""
    real, z = floats(3, size, 1), floats(2, size, 2, seed=1)
    agree(_dft(real), {"x": real}, _parts(np.fft.fft(_complex(real), axis=1)))
    agree(_dft(z), {"x": z}, _parts(np.fft.fft(_complex(z), axis=1)))
    agree(_dft(real, onesided=1), {"x": real}, _parts(np.fft.rfft(real[..., 0].astype(np.float64), axis=1)))
    agree(_dft(z, inverse=1), {"x": z}, _parts(np.fft.ifft(_complex(z), axis=1)))


@pytest.mark.parametrize("size", [20000, 65536])
def test_long(size: int) -> None:
    x = floats(1, size, 1)
    assert len(import_onnx(_dft(x)).nodes) < 100
    (got,) = compiled(_dft(x), {"x": x})
    expected = _parts(np.fft.fft(_complex(x), axis=1))
    assert_same([got], [expected], rtol=0, atol=2e-6 * float(np.abs(expected).max()))


@pytest.mark.parametrize("length", [None, 5, 8, 16, 64])
def test_inverse_of_half_a_spectrum(length: int | None) -> None:
    half = _parts(np.fft.rfft(floats(3, 16), axis=1))
    half[:, 0, 1] = 7  # the imaginary part of a bin that is its own conjugate counts nothing
    feeds = {"x": half}
    constants = {} if length is None else {"n": np.array(length)}
    model = one_node("DFT", feeds, constants=constants, opset=17, inverse=1, onesided=1)
    expected = np.fft.irfft(_complex(half), n=length, axis=1)[..., None].astype(np.float32)
    agree(model, feeds, expected)


@pytest.mark.parametrize("length", [3, 9, 20])
@pytest.mark.parametrize("given", ["constant", "input"])
def test_length(length: int, given: str) -> None:
    x, n = floats(2, 9, 4, 1), np.array(length)
    feeds = {"x": x, "n": n}
    constants = {"n": feeds.pop("n")} if given == "constant" else {}
    model = one_node("DFT", feeds, constants=constants, names=["x", "n"], opset=17, axis=1)
    agree(model, feeds, _parts(np.fft.fft(_complex(x), n=length, axis=1)))


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -4])
def test_axis_as_input(axis: int) -> None:
    x = floats(4, 6, 5, 2)
    model = one_node("DFT", {"x": x}, constants={"a": np.array(axis)}, names=["x", "", "a"], opset=20)
    agree(model, {"x": x}, _parts(np.fft.fft(_complex(x), axis=axis if axis >= 0 else axis + 1)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float16", 2e-3)])
@pytest.mark.parametrize("size", [12, 300])
def test_dtypes(dtype: str, tolerance: float, size: int) -> None:
    x = floats(2, size, 2, dtype=dtype)
    agree(_dft(x), {"x": x}, _parts(np.fft.fft(_complex(x), axis=1), dtype), tolerance)


def test_size_of_the_run() -> None:
    x = floats(2, 8, 2)
    model = one_node("DFT", {"x": x}, shapes={"x": ["b", "n", 2]}, opset=17)
    back = one_node("DFT", {"x": x}, shapes={"x": ["b", "n", 2]}, opset=17, inverse=1)
    forward, inverse = (compile_graph(import_onnx(m)) for m in (model, back))
    for shape in ((2, 8, 2), (1, 1, 2), (3, 37, 2), (2, 0, 2), (0, 5, 2)):
        fed = floats(*shape)
        z = _complex(fed)
        wanted = np.fft.fft(z, axis=1) if z.size else z
        assert_same(forward.run(None, {"x": fed}), [_parts(wanted)], rtol=0, atol=1e-4)
        wanted = np.fft.ifft(z, axis=1) if z.size else z
        assert_same(inverse.run(None, {"x": fed}), [_parts(wanted)], rtol=0, atol=1e-5)


def test_beside_onnxruntime() -> None:
    x = floats(2, 96, 1)
    for attributes in ({}, {"onesided": 1}):
        (expected,) = run_peer(_dft(x, **attributes), {"x": x})
        agree(_dft(x, **attributes), {"x": x}, expected, 1e-4)  # its sums are that far from f64


@pytest.mark.parametrize(
    ("x", "attributes", "message"),
    [
        ((2, 8, 3), {}, "no last axis of 1 or 2"),
        ((2, 8, 2), {"onesided": 1}, "takes real input"),
        ((2, 8, 1), {"onesided": 1, "inverse": 1}, "takes complex input"),
        ((2, 8, 2), {"axis": 2}, "real and imaginary"),
        ((2, 8, 2), {"axis": 5}, "axis 5"),
    ],
)
def test_refused(x: tuple[int, ...], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(_dft(floats(*x), **attributes))


@pytest.mark.parametrize("points", [0, -3, 1 << 40])
def test_impossible_lengths(points: int) -> None:
    model = one_node("DFT", {"x": floats(1, 8, 1)}, constants={"n": np.array(points)}, opset=17)
    with pytest.raises(VitrifyError, match="points"):
        import_onnx(model)


# STFT
def _frames(x: Array, step: int, length: int, window: Array | None, onesided: bool) -> Array:
    z = _complex(x)
    count = (z.shape[1] - length) // step + 1
    weights = np.ones(length) if window is None else window.astype(np.float64)
    frames = np.stack([z[:, i * step : i * step + length] * weights for i in range(count)], 1)
    spectrum = np.fft.fft(frames, axis=-1)
    return _parts(spectrum[..., : length // 2 + 1] if onesided else spectrum)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("step", "length"), [(1, 4), (7, 16), (160, 400), (100, 600), (3, 1)])
def test_stft(step: int, length: int, known: bool) -> None:
    x, window = floats(2, 1000, 1), np.hanning(length + 1)[:-1].astype(np.float32) + np.float32(0.1)
    feeds = {"x": x, "w": window}
    constants: dict[str, Array] = {"s": np.array(step), "n": np.array(length)}
    names = ["x", "s", "w", "n"]
    if known:
        constants["w"] = feeds.pop("w")
    elif length < 500:
        feeds |= {"s": constants.pop("s")}
    model = one_node("STFT", feeds, constants=constants, names=names, opset=17)
    agree(model, feeds, _frames(x, step, length, window, True))


def test_stft_forms() -> None:
    z, x = floats(2, 100, 2), floats(2, 100, 1)
    step, length = {"s": np.array(10)}, {"n": np.array(24)}
    model = one_node("STFT", {"x": z}, constants={**step, **length}, names=["x", "s", "", "n"], onesided=0)
    agree(model, {"x": z}, _frames(z, 10, 24, None, False))
    model = one_node("STFT", {"x": x}, constants=step)
    agree(model, {"x": x}, _frames(x, 10, 100, None, True))
    window = floats(24)
    model = one_node(
        "STFT", {"x": x}, constants={**step, "w": window}, names=["x", "s", "w"], shapes={"x": ["b", "n", 1]}
    )
    agree(model, {"x": x}, _frames(x, 10, 24, window, True))


def test_stft_refused() -> None:
    x = floats(1, 20, 1)
    sizes = {"s": np.array(4), "n": np.array(30)}
    names = ["x", "s", "", "n"]
    cases: list[tuple[str, Any]] = [
        ("frames of 30", one_node("STFT", {"x": x}, constants=sizes, names=names)),
        ("frame_step is 0", one_node("STFT", {"x": x}, constants={"s": np.array(0)})),
        ("real signal", one_node("STFT", {"x": floats(1, 20, 2)}, constants={"s": np.array(4)})),
        ("not of rank 3", one_node("STFT", {"x": floats(20, 1)}, constants={"s": np.array(4)})),
        ("differ", one_node("STFT", {"x": x}, constants={"s": np.array(4), "w": floats(7), "n": np.array(8)})),
    ]
    for message, model in cases:
        with pytest.raises(InvalidModelError, match=message):
            import_onnx(model)


# Windows and the mel scale
@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("given", ["constant", "input"])
def test_windows(op: str, periodic: int, given: str) -> None:
    for size in (0, 2, 9, 400):
        feeds = {"n": np.array(size)}
        constants = {"n": feeds.pop("n")} if given == "constant" else {}
        model = one_node(op, feeds, constants=constants, periodic=periodic)
        turn = 2 * np.pi * np.arange(size) / (size if periodic else size - 1)
        expected = {
            "HannWindow": 0.5 - 0.5 * np.cos(turn),
            "HammingWindow": 25 / 46 - 21 / 46 * np.cos(turn),
            "BlackmanWindow": 0.42 - 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn),
        }[op].astype(np.float32)
        agree(model, feeds, expected)


def test_windows_of_other_types() -> None:
    for code, dtype in ((11, np.float64), (10, np.float16), (6, np.int32)):
        model = one_node("HannWindow", {}, constants={"n": np.array(8)}, output_datatype=code)
        expected = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)).astype(dtype)
        assert_same(run(model, {}), [expected], rtol=1e-3, atol=1e-12)
    for size, message in ((-1, "below 0"), (np.array([2, 3]), "2 elements")):
        with pytest.raises(InvalidModelError, match=message):
            import_onnx(one_node("HannWindow", {}, constants={"n": np.asarray(size)}))


@pytest.mark.parametrize(
    ("bands", "points", "rate", "low", "high"), [(8, 16, 8192, 0, 4096), (80, 400, 16000, 20, 7600)]
)
def test_mel_weight_matrix(bands: int, points: int, rate: int, low: float, high: float) -> None:
    feeds = {"low": np.array(low, np.float32), "high": np.array(high, np.float32)}
    constants = {"bands": np.array(bands), "points": np.array(points), "rate": np.array(rate)}
    names = [*constants, *feeds]
    model = one_node("MelWeightMatrix", feeds, constants=constants, names=names)
    agree(model, feeds, run_peer(model, feeds)[0], 1e-6)
    held = one_node("MelWeightMatrix", {}, constants={**constants, **feeds}, names=names)
    agree(held, {}, run_peer(model, feeds)[0], 1e-6)


def test_stft_of_any_signal() -> None:
    """Batch, length and step are the run's; a signal shorter than a frame is refused."""
    window = np.hanning(400).astype(np.float32)
    feeds = {"x": floats(1, 1000, 1), "s": np.array(160)}
    model = one_node("STFT", feeds, constants={"w": window}, names=["x", "s", "w"], shapes={"x": ["b", "t", 1]})
    session = compile_graph(import_onnx(model))
    for shape, step in (((1, 1000, 1), 160), ((2, 400, 1), 7), ((0, 500, 1), 33)):
        x = floats(*shape)
        wanted = _frames(x, step, 400, window, True)
        assert_same(session.run(None, {"x": x, "s": np.array(step)}), [wanted], rtol=0, atol=1e-4)
    for length, step in ((399, 160), (100, 1), (1000, 0), (1000, -3)):
        with pytest.raises(VitrifyError):
            session.run(None, {"x": floats(1, length, 1), "s": np.array(step)})

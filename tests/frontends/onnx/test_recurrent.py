"""LSTM, GRU and RNN in all their variants against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import compile_artifact
from tests.frontends.onnx.models import assert_same, check, one_node, run, run_peer
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.graph import Scan
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session

Array = np.ndarray[Any, Any]
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


def floats(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(np.float32)


def network(
    op: str,
    gates: int,
    *,
    steps: int = STEPS,
    extras: tuple[str, ...] = (),
    direction: str = "forward",
    **attributes: Any,
) -> tuple[Any, dict[str, Array]]:
    """The model and its feeds. ``extras`` of bias, lengths, h, c and peepholes are given."""
    d = 2 if direction == "bidirectional" else 1
    states = 2 if op == "LSTM" else 1
    feeds = {"x": floats(steps, BATCH, INPUT)}
    constants = {
        "w": floats(d, gates * HIDDEN, INPUT, seed=1),
        "r": floats(d, gates * HIDDEN, HIDDEN, seed=2),
    }
    optional = {
        "bias": floats(d, 2 * gates * HIDDEN, seed=3),
        "lengths": np.array([steps, 1, max(steps - 2, 1)], np.int32),
        "h": floats(d, BATCH, HIDDEN, seed=4),
        "c": floats(d, BATCH, HIDDEN, seed=5),
        "peepholes": floats(d, 3 * HIDDEN, seed=6),
    }
    order = ["bias", "lengths", "h", "c", "peepholes"] if op == "LSTM" else ["bias", "lengths", "h"]
    for name in extras:
        target = feeds if name in ("lengths", "h", "c") else constants
        target[name] = optional[name]
    names = ["x", "w", "r", *(name if name in extras else "" for name in order)]
    while names[-1] == "":
        names.pop()
    outputs = ["y", "y_h", "y_c"][: states + 1]
    model = one_node(
        op, feeds, constants=constants, names=names, outputs=outputs,
        hidden_size=HIDDEN, direction=direction, **attributes,
    )  # fmt: skip
    return model, feeds


EXTRAS = [(), ("bias",), ("bias", "h"), ("bias", "lengths", "h")]
DIRECTIONS = ["forward", "reverse", "bidirectional"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("extras", [*EXTRAS, ("bias", "lengths", "h", "c", "peepholes"), ("peepholes",)])
@pytest.mark.parametrize("steps", [1, STEPS])
def test_lstm(direction: str, extras: tuple[str, ...], steps: int) -> None:
    check(*network("LSTM", 4, steps=steps, extras=extras, direction=direction))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("linear", [0, 1])
def test_gru(direction: str, extras: tuple[str, ...], linear: int) -> None:
    check(*network("GRU", 3, extras=extras, direction=direction, linear_before_reset=linear))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("extras", EXTRAS)
def test_rnn(direction: str, extras: tuple[str, ...]) -> None:
    check(*network("RNN", 1, extras=extras, direction=direction))


def test_clip() -> None:
    check(*network("LSTM", 4, extras=("bias",), clip=0.2))
    check(*network("GRU", 3, extras=("bias",), clip=0.2))


def test_input_forget() -> None:
    check(*network("LSTM", 4, extras=("bias",), input_forget=1))


@pytest.mark.parametrize(
    ("activations", "alpha", "beta"),
    [
        (["HardSigmoid", "Tanh", "Relu"], [0.3], [0.4]),
        (["Sigmoid", "ScaledTanh", "LeakyRelu"], [1.5, 0.05], [0.7]),
        (["Sigmoid", "Softsign", "Elu"], [0.8], []),
        (["Sigmoid", "Affine", "Tanh"], [0.5], [0.1]),
        (["Sigmoid", "Softplus", "ThresholdedRelu"], [0.1], []),
    ],
)
def test_activations(activations: list[str], alpha: list[float], beta: list[float]) -> None:
    attributes: dict[str, Any] = {"activation_alpha": alpha} | ({"activation_beta": beta} if beta else {})
    check(*network("LSTM", 4, extras=("bias",), activations=activations, **attributes))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_batch_first(direction: str) -> None:
    """onnxruntime runs layout 0 alone: the same network with its axes moved."""
    first, feeds = network("LSTM", 4, extras=("bias", "h", "c"), direction=direction)
    second, _ = network("LSTM", 4, extras=("bias", "h", "c"), direction=direction, layout=1)
    moved = {k: np.ascontiguousarray(np.moveaxis(v, 1, 0)) for k, v in feeds.items()}
    for info in second.graph.input:
        del info.type.tensor_type.shape.dim[:]
        for size in moved[info.name].shape:
            info.type.tensor_type.shape.dim.add().dim_value = size
    y, h, c = run_peer(first, feeds)
    expected = [y.transpose(2, 0, 1, 3), h.transpose(1, 0, 2), c.transpose(1, 0, 2)]
    assert_same(run(second, moved), expected)


def test_one_step_needs_no_scan() -> None:
    model, _ = network("LSTM", 4, steps=1, extras=("bias",))
    assert not any(isinstance(n.op, Scan) for n in import_onnx(model).walk())
    model, _ = network("LSTM", 4, steps=2, extras=("bias",))
    assert any(isinstance(n.op, Scan) for n in import_onnx(model).walk())


def test_dynamic_steps_and_batch() -> None:
    model, feeds = network("LSTM", 4, extras=("bias", "h", "c"), direction="bidirectional")
    for info in model.graph.input:
        names = ["steps", "batch", None] if info.name == "x" else [None, "batch", None]
        for dim, name in zip(info.type.tensor_type.shape.dim, names, strict=True):
            if name:
                dim.dim_param = name
    check(model, feeds)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_compiled(op: str, gates: int, direction: str) -> None:
    """As interpreted, the same bits on one thread and two; no steps, one step, one sequence, one of no length."""
    extras = ("bias", "lengths", "h", *(("c", "peepholes") if op == "LSTM" else ()))
    model, feeds = network(op, gates, extras=extras, direction=direction)
    for info in model.graph.input:
        names = {"x": ["t", "n", ""], "lengths": ["n"]}.get(info.name, ["", "n", ""])
        for dim, name in zip(info.type.tensor_type.shape.dim, names, strict=True):
            if name:
                dim.dim_param = name
    graph = import_onnx(model)
    artifact = compile_artifact(graph)
    sessions = [Session(artifact, SessionOptions(intra_op_num_threads=n)) for n in (1, 2)]
    d = 2 if direction == "bidirectional" else 1
    for steps, lengths in [(0, [0]), (1, [1]), (1, [1, 0]), (7, [7, 3, 0, 1, 6])]:
        batch = len(lengths)
        given = {"x": floats(steps, batch, INPUT), "lengths": np.asarray(lengths, np.int32)}
        given |= {k: floats(d, batch, HIDDEN, seed=9) for k in feeds if k in ("h", "c")}
        one, two = (s.run(None, given) for s in sessions)
        assert_same(one, run(model, given))
        assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))
        if min(lengths) > 0:
            assert_same(one, run_peer(model, given))

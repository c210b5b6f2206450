"""Artifacts with a host program: sessions, and manifests that were changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from tests.compiler.harness import COMPILER
from vitrify.artifact.loading import Artifact, load_artifact
from vitrify.artifact.manifest import Edge, Host, Literal, Manifest, Setting, Step, encode, encode_details, parse
from vitrify.compiler import build_artifact
from vitrify.errors import ArtifactError, InvalidArgumentError
from vitrify.frontends.onnx import load_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.session import Session

TEXT = """<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 3]>
g (string[N] s, float[N] x) => (string[N] t, seq(float[N]) q, float[N] y) {
    i = ai.onnx.ml.LabelEncoder <keys_strings: strings = ["a", "b"], values_floats: floats = [1.5, 2.5]> (s)
    y = Mul(i, x)
    q = SequenceConstruct(x, y)
    t = Cast <to = 8> (y)
}"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    imported = load_onnx(parser.parse_model(TEXT))
    path = Path(tmp_path_factory.mktemp("host"), "model")
    build_artifact(imported.graph, path, CompileOptions(), host=imported.host, compiler=COMPILER)
    return load_artifact(path)


def feed(count: int = 2) -> dict[str, Any]:
    return {"s": np.array(["a", "b"] * count, object)[:count], "x": np.arange(count, dtype=np.float32)}


def test_a_session_shows_and_runs_the_models_own_edges(artifact: Artifact) -> None:
    session = Session(artifact)
    assert [tuple(arg) for arg in session.get_inputs()] == [
        ("s", ["N"], "tensor(string)"), ("x", ["N"], "tensor(float)"),
    ]  # fmt: skip
    assert [(arg.name, arg.type) for arg in session.get_outputs()] == [
        ("t", "tensor(string)"), ("q", "seq(tensor(float))"), ("y", "tensor(float)"),
    ]  # fmt: skip
    text, pair, y = session.run(None, feed())
    assert text.tolist() == ["0", "2.5"] and y.tolist() == [0, 2.5]
    assert [item.tolist() for item in pair] == [[0, 1], [0, 2.5]]
    (only,) = session.run(["y"], feed(3))
    assert only.tolist() == [0, 2.5, 3]


def test_empty_inputs(artifact: Artifact) -> None:
    text, pair, y = Session(artifact).run(None, feed(0))
    assert text.shape == y.shape == (0,) and [item.shape for item in pair] == [(0,), (0,)]


def test_dims_are_compared_across_strings_and_numbers(artifact: Artifact) -> None:
    with pytest.raises(InvalidArgumentError, match="'x': axis 0: expected N = 2 as in 's', got 3"):
        Session(artifact).run(None, {**feed(), "x": np.zeros(3, np.float32)})


def test_threads_share_a_session(artifact: Artifact) -> None:
    session, wrong = Session(artifact), []

    def work(count: int) -> None:
        for _ in range(50):
            if session.run(["y"], feed(count))[0].shape != (count,):
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Manifests
def changed(artifact: Artifact, **fields: Any) -> Manifest:
    host = artifact.manifest.host
    assert host is not None
    return artifact.manifest._replace(host=host._replace(**fields))


def test_manifests_come_back(artifact: Artifact) -> None:
    literals = (Literal("string", (2,), ("é", "\0")), Literal("f32", (), ("AACAPw==",)))
    settings = {"a": Setting("float", ("nan", "0x1.0p+0")), "b": Setting("int", (-1,)), "c": Setting("string", ())}
    step = Step("Identity", "node", (0,), 1, settings)
    edge = Edge("i", "optional(seq(tensor(float)))", None)
    host = Host((edge,), (edge,), literals, (step,), (0, 1), (), (3,))
    manifest = artifact.manifest._replace(host=host)
    assert parse(encode(manifest), lambda _: encode_details(manifest)) == manifest


def _step(host: Host, **fields: Any) -> dict[str, Any]:
    return {"prologue": (host.prologue[0]._replace(**fields), *host.prologue[1:])}


DAMAGES: list[tuple[Callable[[Host], dict[str, Any]], str]] = [
    (lambda h: {"inputs": (h.inputs[0], h.inputs[0])}, "names that differ"),
    (lambda h: {"inputs": (h.inputs[0]._replace(type="tensor(complex64)"), h.inputs[1])}, "a type such as"),
    (lambda h: {"inputs": (h.inputs[0]._replace(type="seq(seq(tensor(float)))"), h.inputs[1])}, "a type such as"),
    (lambda h: {"feeds": h.feeds[:1]}, "one for each input of the plan"),
    (lambda h: {"feeds": (99, *h.feeds[1:])}, "values from 0"),
    (lambda h: {"results": (0,)}, "one for each output"),
    (lambda h: {"results": (0, 1, 99)}, "values from 0"),
    (lambda h: _step(h, inputs=(50,)), "values from -1"),
    (lambda h: _step(h, outputs=1 << 30), "results"),
    (lambda h: _step(h, settings={"keys": Setting("code", ("x",))}), "one of int float string"),
    (lambda h: _step(h, settings={"keys": Setting("int", ("x",))}), "decimal"),
    (lambda h: _step(h, settings={"keys": Setting("float", ("x",))}), "hexadecimal"),
    (lambda h: {"constants": (Literal("object", (), ()),)}, "one of"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_ill_formed_programs(artifact: Artifact, damage: Callable[[Host], dict[str, Any]], words: str) -> None:
    assert artifact.manifest.host is not None
    with pytest.raises(ArtifactError, match=words):
        manifest = changed(artifact, **damage(artifact.manifest.host))
        encode_details(manifest)
        encode(manifest)


UNKNOWN: list[tuple[Callable[[Host], dict[str, Any]], str]] = [
    (lambda h: _step(h, op="Exec"), "host step 'Exec' is unknown"),
    (lambda h: _step(h, settings={}), "setting 'keys'"),
    (lambda h: _step(h, settings={**h.prologue[0].settings, "dtype": Setting("string", ("f99",))}), "dtype"),
    (lambda h: _step(h, settings={**h.prologue[0].settings, "default": Setting("int", ())}), "the default"),
]


@pytest.mark.parametrize(("damage", "words"), UNKNOWN)
def test_programs_no_session_runs(artifact: Artifact, damage: Callable[[Host], dict[str, Any]], words: str) -> None:
    assert artifact.manifest.host is not None
    manifest = changed(artifact, **damage(artifact.manifest.host))
    other = Artifact(artifact.opened._replace(manifest=manifest), artifact.signers)
    with pytest.raises(ArtifactError, match=words):
        Session(other)

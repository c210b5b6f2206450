"""One quantised node: the interpreter, the compiled model and onnxruntime give the same bits."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.compiler.harness import COMPILER
from tests.frontends.onnx.agreement import MICROSOFT, peer
from tests.frontends.onnx.models import run, value_info
from vitrify.compiler import build_artifact
from vitrify.frontends.onnx import import_onnx
from vitrify.options import CompileOptions
from vitrify.runtime.session import Session

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Any]


def whole(dtype: Any, *shape: int, seed: int = 0) -> Array:
    """Integers of the whole range."""
    info = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def scale(number: float) -> Array:
    return np.asarray(number, np.float32)


def node(
    op: str, inputs: Inputs, constants: Collection[str] = (), *, domain: str = "", version: int = 21, outputs: int = 1,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:  # fmt: skip
    """The model and its feeds. ``inputs`` in order, None for what is left out; ``constants`` names initializers."""
    arrays = {name: None if value is None else np.asarray(value) for name, value in inputs.items()}
    given = {name: array for name, array in arrays.items() if array is not None}
    results = [f"y{i}" for i in range(outputs)]
    made = helper.make_node(op, [k if v is not None else "" for k, v in arrays.items()], results, "node", domain=domain)
    for key, value in attributes.items():
        made.attribute.append(helper.make_attribute(key, value))
    feeds = {k: v for k, v in given.items() if k not in constants}
    graph = helper.make_graph(
        [made], "test", [value_info(k, v) for k, v in feeds.items()], [onnx.ValueInfoProto(name=r) for r in results],
        [numpy_helper.from_array(given[k], k) for k in given if k in constants],
    )  # fmt: skip
    imports = [helper.make_opsetid("", version), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), feeds


def compiled(model: onnx.ModelProto, feeds: Mapping[str, Array], targets: tuple[str, ...] = ()) -> list[Array]:
    options = CompileOptions(targets=targets)
    with tempfile.TemporaryDirectory(prefix="vitrify-tests-") as folder:
        session = Session(build_artifact(import_onnx(model), Path(folder, "model"), options, compiler=COMPILER))
        return list(session.run(None, dict(feeds)))


def identical(got: list[Array], want: list[Array], steps: int = 0) -> None:
    """The same bits, or integers at most ``steps`` apart."""
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind in "iu":
            assert not a.size or np.abs(a.astype(np.int64) - b.astype(np.int64)).max() <= steps
        else:
            np.testing.assert_array_equal(a, b)


def agree(
    op: str, inputs: Inputs, constants: Collection[str] = (), *, expected: list[Array] | None = None, steps: int = 0,
    **options: Any,
) -> None:  # fmt: skip
    """``expected`` stands for onnxruntime's results where it has no kernel."""
    model, feeds = node(op, inputs, constants, **options)
    want = peer(model, feeds) if expected is None else expected
    identical(run(model, feeds), want, steps)
    identical(compiled(model, feeds), want, steps)

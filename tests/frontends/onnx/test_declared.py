"""Declared types and shapes of outputs and of values inside, against what the nodes give."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from onnx.parser import parse_model

from vitrify.errors import DeclaredShapeWarning, InvalidModelError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.interpret import interpret

HEADER = '<ir_version: 10, opset_import: ["": 21]>\nmodel '
X = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("(float[3] x) => (float[4] z) { z = Neg(x) }", r"'z' is declared as \[4\], and is \[3\]"),
        ("(float[3] x) => (float[3, 1] z) { z = Neg(x) }", r"'z' is declared as \[3, 1\], and is \[3\]"),
        ("(float[n] x) => (float[n, 2] z) { z = Neg(x) }", r"'z' is declared as \[n, 2\], and is \[n\]"),
        ("(float[3] x) => (float[3] z) <float[4] y> { y = Neg(x) z = Neg(y) }", r"'y' is declared as \[4\], and is"),
        ("(float[3] x) => (float[3] z) <float y> { y = Neg(x) z = Neg(y) }", r"'y' is declared as \[\], and is"),
    ],
)
def test_wrong_shapes_are_named_and_not_used(text: str, wrong: str) -> None:
    with pytest.warns(DeclaredShapeWarning, match=wrong):
        graph = import_onnx(parse_model(HEADER + text))
    assert interpret(graph, [X])[0].shape == (3,)


@pytest.mark.parametrize(
    "text",
    [
        "(float[3] x) => (float[3] z) { z = Neg(x) }",
        "(float[3] x) => (float[n] z) <float[m] y> { y = Neg(x) z = Neg(y) }",
        "(float[n] x) => (float[3] z) { z = Neg(x) }",
        "(float[3] x) => (float[] z) { z = Neg(x) }",
    ],
)
def test_open_dims_fit_any_size(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_onnx(parse_model(HEADER + text))


def test_one_warning_for_all() -> None:
    names = [f"y{k}" for k in range(9)]
    body = " ".join(f"{b} = Neg({a})" for a, b in zip(["x", *names], [*names, "z"], strict=False))
    values = ", ".join(f"float[4] {name}" for name in names)
    model = parse_model(f"{HEADER}(float[3] x) => (float[3] z) <{values}> {{ {body} }}")
    with pytest.warns(DeclaredShapeWarning, match=r"'y4' is declared[^\n]*\n  - and 4 more$") as caught:
        import_onnx(model)
    assert len(caught) == 1


def test_shapes_that_the_caller_changed_are_expected_to_differ() -> None:
    model = parse_model(HEADER + "(float[3] x) => (float[3] z) { z = Neg(x) }")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import_onnx(model, input_shapes={"x": [5]})


def test_wrong_types_are_refused() -> None:
    for text in (
        "(float[3] x) => (double[3] z) { z = Neg(x) }",
        "(float[3] x) => (float[3] z) <double[3] y> { y = Neg(x) z = Neg(y) }",
    ):
        with pytest.raises(InvalidModelError, match=r"declared with another type; expected tensor\(double\)"):
            import_onnx(parse_model(HEADER + text))

"""What changed models have found, one case each."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from tests.frontends.onnx.agreement import compiled
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx import import_onnx
from vitrify.ir.interpret import interpret

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'

REFUSED = [
    ("y = ReduceSum <keepdims = 7> (x)", "attribute 'keepdims' is out of range; expected 0 or 1; got 7"),
    ("y = Mod <fmod = 2> (x, x)", "attribute 'fmod' is out of range"),
    ("y = Softmax <axis = 0, axis = 1> (x)", "attributes are given twice: 'axis'"),
    ("y = Range(two, one, one)", "2 elements, not the 1 of"),
    ("y = Range(nan, f, f)", "counts from nan"),
    ("y = Pad <mode = \"constant\"> (x, four, pair)", "the value of the border"),
    ("y = DFT(c, , two)", "axis has shape"),
    ("y = OneHot(two, nan, pair)", "depth is no number"),
    ("y = MatMulInteger(q2, q2, three8)", "sizes differ"),
    ("y = MatMulInteger(q2, q2, wide8)", "a zero point of"),
]  # fmt: skip
CONSTANTS = (
    "<int64[2] two = {1, 2}, int64 one = {1}, float nan = {nan}, float f = {1.0}, int64[4] four = {1, 1, 1, 1},"
    " float[2] pair = {0, 1}, float[1, 8, 1] c = {1, 2, 3, 4, 5, 6, 7, 8},"
    " uint8[3, 2] wide8 = {1, 1, 1, 1, 1, 1}, uint8[2, 2] q2 = {1, 2, 3, 4}, uint8[3] three8 = {1, 2, 3}>"
)


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(text: str, message: str) -> None:
    constants = CONSTANTS.replace("{nan}", "{0}")
    model = parser.parse_model(HEAD + f"g (float[2, 3] x) => (y) {constants} {{ {text} }}")
    for tensor in model.graph.initializer:
        if tensor.name == "nan":
            tensor.float_data[0] = float("nan")
    with pytest.raises(InvalidModelError, match=message):
        import_onnx(model)


def check(text: str, feeds: dict[str, np.ndarray], expected: np.ndarray) -> None:
    model = parser.parse_model(HEAD + text)
    for got in (interpret(import_onnx(model), feeds), compiled(model, feeds)):
        np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize("k", [2**63 - 1, -(2**63), 3, -2, 0])
@pytest.mark.parametrize("upper", [0, 1])
def test_diagonals_far_out(k: int, upper: int) -> None:
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    near = max(min(k, 9), -9)
    expected = np.triu(x, near) if upper else np.tril(x, near)
    check(f"g (float[n, m] x, int64 k) => (float[n, m] y) {{ y = Trilu <upper = {upper}> (x, k) }}",
          {"x": x, "k": np.array(k)}, expected)  # fmt: skip


@pytest.mark.parametrize("k", [2**63 - 1, -(2**63) + 1, 1])
def test_identity_far_out(k: int) -> None:
    x = np.zeros((2, 3), np.float32)
    check(f"g (float[n, m] x) => (float[n, m] y) {{ y = EyeLike <k = {k}> (x) }}", {"x": x},
          np.eye(2, 3, max(min(k, 9), -9), dtype=np.float32))  # fmt: skip


def test_integers_times_a_fraction() -> None:
    a = np.arange(1, 7, dtype=np.int32).reshape(2, 3)
    inside = "y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (a, a, c)"
    text = f"g (int32[n, 3] a, int32[n, n] c) => (int32[n, n] y) {{ {inside} }}"
    c = np.array([[1, 2], [3, 4]], np.int32)
    check(text, {"a": a, "c": c}, (0.5 * (a @ a.T)).astype(np.int32) + 2 * c)


def test_large_integers_to_a_power_of_floats() -> None:
    x = np.array([6, 25495, -3], np.int64)
    check("g (int64[n] x, float[n] e) => (int64[n] y) { y = Pow(x, e) }",
          {"x": x, "e": np.array([2, 3, 3], np.float32)}, x ** np.array([2, 3, 3]))  # fmt: skip


def test_an_empty_constant_of_a_huge_shape() -> None:
    model = parser.parse_model(HEAD + "g (float[2] x) => (y) <float[0] w = {}> { y = Add(x, w) }")
    model.graph.initializer[0].dims[:] = [2**62, 0, 2**62]
    with pytest.raises(InvalidModelError, match="impossible shape"):
        import_onnx(model)


def test_a_boolean_constant_without_dims() -> None:
    model = parser.parse_model(HEAD + "g () => (bool y) <bool[1] w = {1}> { y = Identity(w) }")
    del model.graph.initializer[0].dims[:], model.graph.initializer[0].int32_data[:]
    model.graph.initializer[0].raw_data = b"\1"
    assert [value.shape for value in import_onnx(model).outputs] == [()]


def test_integers_shrunk_by_fractions() -> None:
    x = np.array([-2, -1, 0, 1, 2], np.int16)
    check("g (int16[n] x) => (int16[n] y) { y = Shrink <bias = 1.5, lambd = 1.5> (x) }", {"x": x},
          np.array([0, 0, 0, 0, 0], np.int16))  # fmt: skip
    check("g (int16[n] x) => (int16[n] y) { y = Shrink <bias = 0.25, lambd = 0.5> (x) }", {"x": x},
          np.array([-1, 0, 0, 0, 1], np.int16))  # fmt: skip


def test_a_product_along_no_axis() -> None:
    text = "g (float[3] x) => (float[3] y) <int64[0] a = {}> { y = CumSum(x, a) }"
    with pytest.raises(InvalidModelError, match="0 axes, not one"):
        import_onnx(parser.parse_model(HEAD + text))


def test_a_version_of_a_domain_that_no_table_has() -> None:
    text = '<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 4294967296]>'
    with pytest.raises(InvalidModelError):
        import_onnx(parser.parse_model(text + "g (float[3] x) => (float[3] y) { y = ai.onnx.ml.Scaler(x) }"))


def test_tokens_a_billion_places_apart() -> None:
    attributes = 'mode = "TF", min_gram_length = 2, max_gram_length = 2, max_skip_count = 2147483646, ' \
        "ngram_counts = [0, 0], ngram_indexes = [0], pool_int64s = [1, 2]"  # fmt: skip
    text = f"g (int64[5] x) => (float[1] y) {{ y = TfIdfVectorizer <{attributes}> (x) }}"
    x = np.array([1, 0, 2, 2, 1], np.int64)
    check(text, {"x": x}, np.array([2], np.float32))
    with pytest.raises(InvalidModelError, match="distances"):
        import_onnx(parser.parse_model(HEAD + text.replace("[5]", "[n]")))

"""Sequences, optionals and strings: against onnxruntime, by their refusals, and with feeds that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from tests.conformance.host_cases import compare, interpreted
from vitrify.errors import (
    IndexOutOfRangeError,
    InvalidArgumentError,
    InvalidModelError,
    ShapeError,
    UnsupportedError,
    VitrifyError,
)
from vitrify.frontends.onnx import load_onnx
from vitrify.ir.graph import Graph

WORDS = np.array(["a", "b", "zz"], object)
X = np.array([0.5, 1, 7], np.float32)


def model_of(text: str, opset: int = 20) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>\n' + text)


def graph_of(text: str, **options: Any) -> Graph:
    return load_onnx(model_of(text), **options).graph


CASES: list[tuple[str, Mapping[str, Any]]] = [
    ('g (string[N] s) => (float[N] y) { i = ai.onnx.ml.LabelEncoder <keys_strings: strings = ["a", "b"], '
     "values_floats: floats = [1.5, 2.5], default_float = 7.0> (s)\n y = Mul(i, i) }", {"s": WORDS}),
    ("g (float[N] x) => (string[N] y, float[N] z) { z = Add(x, x)\n i = Cast <to = 7> (z)\n y = ai.onnx.ml."
     'LabelEncoder <keys_int64s: ints = [1, 2], values_strings: strings = ["one", "two"], default_string = "?"> (i) }',
     {"x": X}),
    ("g (string[N] s, string[1] t) => (bool[N] e, string[N] w, int64[1] n, string[2] k) { e = Equal(s, t)\n"
     "w = Where(e, s, t)\n n = Shape(s)\n c = Constant <value_ints: ints = [0, 2]> ()\n k = Gather(s, c) }",
     {"s": WORDS, "t": np.array(["b"], object)}),
    ("g (float[3] x) => (seq(float[3]) q) { y = Relu(x)\n q = SequenceConstruct(x, y) }", {"x": -X}),
    ("g (seq(float[3]) q) => (float[3] y) { i = Constant <value_int: int = -1> ()\n a = SequenceAt(q, i)\n"
     "y = Relu(a) }", {"q": [X, -X]}),
    ("g (seq(float[N]) q) => (float[M] y) { a = ConcatFromSequence <axis = 0> (q)\n y = Neg(a) }", {"q": [X, -X[:1]]}),
    ("g (float[N, 3] x) => (float[M, 1] y) { q = SplitToSequence <axis = 1> (x)\n"
     "y = ConcatFromSequence <axis = 0> (q) }", {"x": X.reshape(1, 3)}),
    ("g (float[N, 3] x) => (float[3, N] y) { q = SplitToSequence <axis = 1, keepdims = 0> (x)\n"
     "y = ConcatFromSequence <axis = 0, new_axis = 1> (q) }", {"x": np.stack([X, -X])}),
    ("g (float[3] x) => (float[3] y, int64 n) { a = Neg(x)\n q = SequenceConstruct(x, a)\n"
     "i = Constant <value_int: int = 0> ()\n r = SequenceErase(q, i)\n t = SequenceInsert(r, x)\n"
     "y = SequenceAt(t, i)\n n = SequenceLength(t) }", {"x": X}),
    ("g (float[N, 3] x) => (seq(map(int64, float)) z, float[N, 3] p) { p = Softmax(x)\n"
     "z = ai.onnx.ml.ZipMap <classlabels_int64s: ints = [3, 5, 9]> (p) }", {"x": X.reshape(1, 3)}),
    ("g (float[N] x) => (string[N] y) { y = Cast <to = 8> (x) }",
     {"x": np.array([1.5, 1e10, np.nan, np.inf, 0.1, -3, -0.0], np.float32)}),
    ("g (double[N] x) => (string[N] y) { y = Cast <to = 8> (x) }", {"x": np.array([1 / 3, 1e10, -np.inf, 1e-7])}),
    ("g (bool[N] x) => (string[N] y) { y = Cast <to = 8> (x) }", {"x": np.array([True, False])}),
    ("g (string[N] x) => (float[N] y) { y = Cast <to = 1> (x) }",
     {"x": np.array(["1.5", "NaN", "-INF", " 2", "1e-3"], object)}),
    ("g (int64[N] x, string[N] t) => (string[2, N] y) { a = Cast <to = 8> (x)\n"
     "ax = Constant <value_ints: ints = [0]> ()\n b = Unsqueeze(a, ax)\n c = Unsqueeze(t, ax)\n"
     "y = Concat <axis = 0> (b, c) }", {"x": np.array([1, -5]), "t": np.array(["x", "é"])}),
    ("g (string[2, 3] s) => (string[3, 2] y, string[6] r) { y = Transpose(s)\n"
     "n = Constant <value_ints: ints = [-1]> ()\n r = Reshape(s, n) }", {"s": np.array([list("abc"), list("def")])}),
    ('g (string[N] s) => (float[N, 2] y) { y = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["zz", "a"]> (s) }',
     {"s": WORDS}),
    ('g (string[N] s) => (int64[N] y) { y = ai.onnx.ml.CategoryMapper <cats_strings: strings = ["zz", "a"], '
     "cats_int64s: ints = [4, 5]> (s) }", {"s": WORDS}),
    ('g (map(string, float) m) => (float[1, 3] y) { y = ai.onnx.ml.DictVectorizer <string_vocabulary: strings = '
     '["u", "v", "w"]> (m) }', {"m": {"v": 2.5, "q": 1.0}}),
    ('g (string[N] s) => (float[3] y) { y = TfIdfVectorizer <mode = "TFIDF", min_gram_length = 1, '
     "max_gram_length = 2, max_skip_count = 1, ngram_counts: ints = [0, 2], ngram_indexes: ints = [0, 1, 2], "
     'pool_strings: strings = ["a", "b", "a", "zz"], weights: floats = [2.0, 3.0, 0.5]> (s) }', {"s": WORDS}),
    ('g () => (string[2] y) { y = Constant <value_strings: strings = ["p", "q"]> () }', {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "feed"), CASES, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_as_onnxruntime(text: str, feed: Mapping[str, Any]) -> None:
    model = model_of(text)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, dict(feed))
    got = interpreted(model, feed)
    if "ZipMap" in text:
        assert [list(row) for row in got[0]] == [list(row) for row in expected[0]]
        np.testing.assert_allclose([list(r.values()) for r in got[0]], [list(r.values()) for r in expected[0]], 1e-6)
        got, expected = got[1:], expected[1:]
    compare(got, expected)


def test_known_structure_leaves_no_trace() -> None:
    imported = load_onnx(model_of(
        "g (float[3] x) => (float[3] y) { a = Neg(x)\n q = SequenceConstruct(x, a)\n o = Optional(q)\n"
        "h = OptionalHasElement(o)\n r = OptionalGetElement(o)\n i = Constant <value_int: int = 1> ()\n"
        "y = SequenceAt(r, i) }"
    ))  # fmt: skip
    assert imported.host is None
    assert [type(node.op).__name__ for node in imported.graph.nodes].count("Map") == 1


def test_stated_lengths_make_inputs_of_the_plan() -> None:
    body = "b (float[N] e) => (float[N] r) { r = Neg(e) }"
    text = f"g (seq(float[N]) q) => (seq(float[N]) y) {{ y = SequenceMap <body = {body}> (q) }}"
    with pytest.raises(UnsupportedError, match="state its elements' shapes in input_shapes"):
        graph_of(text)
    shapes = {"q": [[2], [None]]}
    assert [v.name for v in graph_of(text, input_shapes=shapes).inputs] == ["q[0]", "q[1]"]
    model = model_of(text)
    compare(interpreted(model, {"q": [X[:2], X]}, input_shapes=shapes), [[-X[:2], -X]])
    with pytest.raises(ShapeError, match="expected 2 elements; got 3"):
        interpreted(model, {"q": [X[:2], X, X]}, input_shapes=shapes)
    with pytest.raises(InvalidArgumentError, match=r"q\[0\].*axis 0: expected 2, got 3"):
        interpreted(model, {"q": [X, X]}, input_shapes=shapes)


def test_optional_inputs_may_be_left_out_or_stated() -> None:
    text = "g (optional(float[3]) o) => (bool h) { h = OptionalHasElement(o) }"
    model = model_of(text)
    for feed, present in (({"o": X}, True), ({"o": None}, False), ({}, False)):
        compare(interpreted(model, feed), [np.array(present)])
    compare(interpreted(model, {"o": None}, input_shapes={"o": None}), [np.array(False)])
    with pytest.raises(ShapeError, match="another state than was compiled for; expected no element; got an element"):
        interpreted(model, {"o": X}, input_shapes={"o": None})


REFUSALS = [
    ("g (float[3] x) => (float[3] y) { s = Cast <to = 8> (x)\n z = Neg(x)\n t = Cast <to = 8> (z)\n"
     "y = Cast <to = 1> (t)\n w = Neg(y) }", "host ops run before or after it"),
    ("g (string[3] s) => (string[3] y) { y = Relu(s) }", "wrong type|takes tensors alone|tensor.string."),
    ("g (bool c, string[3] s) => (string[3] y) { y = If (c) <then_branch = t () => (string[3] p) "
     "{ p = StringConcat(s, s) }, else_branch = e () => (string[3] q) { q = Identity(s) }> }", "only a run chooses"),
    ('g (string[3] s) => (bool[3] y) { y = RegexFullMatch <pattern = "(a"> (s) }', "regular expression of RE2"),
    ('g (string[3] s) => (bool[3] y) { y = RegexFullMatch <pattern = "(?=a)b"> (s) }', "regular expression of RE2"),
    ('g (string[3] s) => (string[3] y) { y = StringNormalizer <case_change_action = "TITLE"> (s) }', "LOWER, UPPER"),
    ("g (string[2] s, string[3] t) => (string[3] y) { y = StringConcat(s, t) }", "do not broadcast"),
    ("g (float[3] x, int64[3] z) => (seq(float[3]) y) { y = SequenceConstruct(x, z) }", "types differ|different types"),
    ("g (float[3] x) => (float[3] y) { q = SequenceConstruct(x)\n i = Constant <value_int: int = 1> ()\n"
     "y = SequenceAt(q, i) }", "position 1 of a sequence of 1; expected -1 to 0"),
    ("g (float[3] x) => (seq(float[3]) y) { q = SequenceEmpty <dtype = 7> ()\n y = SequenceInsert(q, x) }", "type"),
    ("g () => (float[3] y) { q = SequenceEmpty()\n y = ConcatFromSequence <axis = 0> (q) }", "without elements"),
    ("g (float[3] x) => (seq(float[3]) y) { n = Constant <value_int: int = 0> ()\n y = SplitToSequence(x, n) }",
     "parts of 0"),
    ("g (float[3] x) => (seq(float[3]) y) { n = Constant <value_ints: ints = [1, 1]> ()\n"
     "y = SplitToSequence(x, n) }", "in all 2, not 3"),
    ("g (string[3] s) => (float[1] y) { y = ai.onnx.ml.LabelEncoder <keys_strings: strings = [\"a\"], "
     "values_floats: floats = [1.0, 2.0]> (s) }", "1 keys and 2 values"),
    ('g (string[N] s) => (float[3] y) { y = TfIdfVectorizer <mode = "TF", min_gram_length = 2, max_gram_length = 1, '
     'max_skip_count = 1, ngram_counts: ints = [0], ngram_indexes: ints = [0], pool_strings: strings = ["a"]> (s) }',
     "min_gram_length <= max_gram_length"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSALS, ids=lambda v: v[:40])
def test_refusals(text: str, words: str) -> None:
    with pytest.raises((InvalidModelError, UnsupportedError), match=words):
        load_onnx(model_of(text))


FEEDS: list[tuple[str, Any, str]] = [
    ("string[3]", np.array(["a", 1, "b"], object), r"expected strings, got int at \[1\]"),
    ("string[3]", np.array(["a", None, "b"], object), "got NoneType"),
    ("string[3]", None, "got None, which only an optional may be"),
    ("string[3]", np.zeros(3, np.float32), "expected strings, got float32"),
    ("string[3]", np.array([b"a", b"b", b"c"]), r"expected strings, got \|S1"),
    ("string[3]", ["a", "b"], "axis 0: expected 3, got 2"),
    ("string[3]", np.array([["a"]], object), "expected rank 1"),
    ("seq(float[2])", np.zeros((3, 2), np.float32), r"expected a list of tensor\(float\), got ndarray"),
    ("seq(float[2])", [np.zeros(2, np.float32), np.zeros(2, np.int64)], "element 1: expected f32"),
    ("seq(float[2])", [np.zeros(2, np.float32), None], "element 1: expected .*got None"),
    ("seq(float[2])", [np.zeros((2, 2), np.float32)], "element 0: expected rank 1"),
    ("seq(string[2])", [np.array(["a", 3], object)], "element 0: expected strings, got int"),
    ("optional(seq(float[2]))", [np.zeros(2)], "element 0: expected f32"),
    ("optional(seq(float[2]))", np.zeros(2, np.float32), "expected a list"),
]


@pytest.mark.parametrize(("kind", "value", "words"), FEEDS)
def test_feeds_that_do_not_fit(kind: str, value: Any, words: str) -> None:
    model = model_of(f"g ({kind} v) => ({kind} y) {{ y = Identity(v) }}")
    with pytest.raises(InvalidArgumentError, match=words):
        interpreted(model, {"v": value})


def test_all_that_is_wrong_with_a_feed() -> None:
    model = model_of("g (string[1] s, float[1] x) => (string[1] y) { y = Identity(s) }")
    words = r"(?s)3 problems.*'other': not an input.*'s': missing.*'x': expected"
    with pytest.raises(InvalidArgumentError, match=words):
        interpreted(model, {"x": np.zeros(1), "other": 1})
    with pytest.raises(InvalidArgumentError, match="expected a dict"):
        interpreted(model, 3)  # type: ignore[arg-type]


FAILURES: list[tuple[str, Mapping[str, Any], type[VitrifyError], str]] = [
    ("g (seq(float[3]) q, int64 i) => (float[3] y) { y = SequenceAt(q, i) }", {"q": [X], "i": np.array(4)},
     IndexOutOfRangeError, "position 4 of a sequence of 1"),
    ("g (string[N] s, int64[1] i) => (string[1] y) { y = Gather(s, i) }", {"s": WORDS, "i": np.array([3])},
     IndexOutOfRangeError, "expected below 3; got 3"),
    ("g (string[N] s) => (float[N] y) { y = Cast <to = 1> (s) }", {"s": WORDS}, InvalidArgumentError, "got 'a'"),
    ("g (optional(float[3]) o) => (float[3] y) { y = OptionalGetElement(o) }", {"o": None}, InvalidArgumentError,
     "the optional has no element"),
    ("g (seq(float[N]) q) => (float[N] y) { y = ConcatFromSequence <axis = 0> (q) }", {"q": []}, InvalidArgumentError,
     "without elements"),
    ("g (string[N] s, string[M] t) => (string[K] y) { y = StringConcat(s, t) }", {"s": WORDS, "t": WORDS[:2]},
     ShapeError, r"shapes \[3\] and \[2\] do not broadcast"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "feed", "kind", "words"), FAILURES, ids=range(len(FAILURES)))
def test_failures_of_a_run(text: str, feed: Mapping[str, Any], kind: type[VitrifyError], words: str) -> None:
    with pytest.raises(kind, match=words):
        interpreted(model_of(text), feed)


def test_results_are_new_arrays() -> None:
    model = model_of("g (seq(float[3]) q) => (seq(float[3]) y, float[3] a) { y = Identity(q)\n"
                     "i = Constant <value_int: int = 0> ()\n a = SequenceAt(q, i) }")  # fmt: skip
    fed = [X.copy()]
    whole, first = interpreted(model, {"q": fed})
    whole[0][:] = 9
    first[:] = 8
    compare(fed, [X])


@pytest.mark.parametrize("text", ["", "a", "\u00e9\U0001f600", "\0", "x" * 10_000])
def test_strings_of_every_kind(text: str) -> None:
    model = model_of("g (string s, string[0, 2] e) => (string y, string[0, 2] z) { y = StringConcat(s, s)\n"
                     "z = StringConcat(e, s) }")  # fmt: skip
    y, z = interpreted(model, {"s": np.array(text, object), "e": np.empty((0, 2), object)})
    assert y.item() == text + text and z.shape == (0, 2)

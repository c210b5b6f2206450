"""Regular expressions: what RE2 says of random patterns, refusals, and patterns that other matchers choke on."""

from __future__ import annotations

import random

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from vitrify.runtime.host.re2 import Pattern, PatternError

PIECES = [
    "a", "b", "ab", "(", "(?:", ")", "|", "*", "+", "?", "{2}", "{1,}", "{0,2}", ".", "[ab]", "[^a]", "[a-c]",
    "\\d", "\\w", "\\W", "\\s", "^", "$", "\\b", "\\B", "\\A", "\\z", "(?i)", "(?i:", "(?s)", "(?m)", "\n",
    "[[:alpha:]]", "\\pL", "\\PL", "\\p{Lu}", "[\\d_]", "-", "{", "}", "]", "\\Qa*\\E", "\\x61", "\\x{e9}",
    "\\101", "(?P<n>", "(?<m>", "(?=", "\\1", "*?", "++", "[]a]", "[^]a]", "[a-]", "\\n", "é", "A",
    "[[:^digit:]]", "\\.", "(?-i)", "(?U)", "\\Z", "(?", "\\", "[",
]  # fmt: skip
TEXTS = ["", "a", "b", "ab", "aab", "ba", "A", "AB", "1", "a1", " ", "a b", "\n", "a\nb", "é", "É", "a*", "_", "-",
         "aa", "aaa", "]", "{", "a.b"]  # fmt: skip


def peer(pattern: str) -> list[bool] | None:
    """RE2's own answers, None where it refuses the pattern."""
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    x, y = helper.make_tensor_value_info("x", 8, ["N"]), helper.make_tensor_value_info("y", 9, ["N"])
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except state.Fail:
        return None
    answers: list[bool] = session.run(None, {"x": np.array(TEXTS, object)})[0].tolist()
    return answers


def mine(pattern: str) -> list[bool] | None:
    try:
        compiled = Pattern(pattern)
    except PatternError:
        return None
    return [compiled.fullmatch(text) for text in TEXTS]


@pytest.mark.parametrize("seed", range(4))
def test_random_patterns_as_re2(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(150):
        pattern = "".join(source.choice(PIECES) for _ in range(source.randint(1, 6)))
        assert mine(pattern) == peer(pattern), pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", r"missing \)"), ("a)", "unexpected"), ("[a", "missing ]"), ("*a", "repetition of nothing"),
        ("a**", "repetition of a repetition"), ("a{1001}", "repetition size"), ("a{3,2}", "repetition size"),
        ("(?=a)", "which RE2 lacks"), (r"(a)\1", "back reference"), ("[b-a]", "range"), (r"\y", "escape"),
        (r"\p{Klingon}", "no general category"), ("(?P<n>a)(?P<n>b)", "name 'n'"), ("[[:nope:]]", "class"),
        ("\\", "trailing backslash"), (r"\x{110000}", "escape"), ("(" * 300 + ")" * 300, "nested"),
        ("((a{1000}){1000}){1000}", "states"),
    ],
)  # fmt: skip
def test_refusals(pattern: str, words: str) -> None:
    with pytest.raises(PatternError, match=words):
        Pattern(pattern)


def test_time_is_linear_in_the_text() -> None:
    for pattern in ("(a|a)*b", "(a*)*b", "(a+)+$b", "(a|aa)+b"):
        assert not Pattern(pattern).fullmatch("a" * 20_000)
        assert Pattern(pattern.replace("$", "")).fullmatch("a" * 20_000 + "b")

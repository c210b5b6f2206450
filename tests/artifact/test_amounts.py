"""Amounts: expressions of a manifest, which cost little whatever they say."""

from __future__ import annotations

import time

import pytest

from vitrify.artifact.amounts import evaluate, names
from vitrify.errors import ArtifactError, InvalidArgumentError

DIMS = {"n": 7, "m": 1 << 62}


def test_what_they_are() -> None:
    assert evaluate(12, {}) == 12
    assert evaluate("n * 4 + 64", DIMS) == 92
    assert evaluate("max(n // 2, 1) % 2 - -n", DIMS) == 8
    assert evaluate("min(abs(-n), 3)", DIMS) == 3
    assert names("n*max(m, 1)") == {"n", "m"} and names(3) == names("n ?") == set()
    with pytest.raises(InvalidArgumentError, match="'k' is not given"):
        evaluate("k", DIMS)


@pytest.mark.parametrize(
    "text",
    [
        "", "n +", "n ** n", "9 ** 9 ** 9", "n << 60", "n / 2", "1.5", "True", "'a' * 99", "[n] * 9", "n.real",
        "n[0]", "(lambda: 1)()", "__import__('os')", "open('/etc/passwd')", "max()", "max(n, key=n)", "max(*n)",
        "n if n else n", "n < 2", "n // 0", "n % (n - n)", "not n", "~n", "n; n", "n = 1", "(n := 1)", "\0",
        "n" * 70_000,
        "-" * 60_000 + "n",
        "(" * 5000 + "n" + ")" * 5000, "abs(" * 5000 + "n" + ")" * 5000, "+".join(["n"] * 20_000),
        "9" * 5000,
        "*".join(["m"] * 20_000), "max(" + ",".join(["m"] * 9000) + ",)*" * 3, "\ud800",
    ],
    ids=lambda text: ascii(text[:20]),
)  # fmt: skip
def test_what_they_are_not(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ArtifactError, match="not an amount"):
        evaluate(text, DIMS)
    names(text)
    assert time.process_time() - start < 1

"""Digests of Python functions: equal between processes, different where the code is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from vitrify.code_digest import code_digest

TABLE = (1, 2.5, "three", frozenset({"a", "b", "c"}))
PROGRAM = """
import tests.test_code_digest as t
print(*(t.code_digest(f) for f in t.FUNCTIONS))
"""


def _helper(x: Any) -> Any:
    return x + TABLE[0]


def _uses_helper(x: Any, *, among: Any = ("p", "q")) -> Any:
    return [_helper(y) for y in x if y in {"left", "right", "up", "down"} or y in among]


def _recursive(n: int) -> int:
    return n * _recursive(n - 1) if n else 1


def _closed(value: Any) -> Callable[[Any], Any]:
    return lambda x: x * value


class _Callable:
    def __call__(self, x: Any) -> Any:
        return x

    def method(self, x: Any) -> Any:
        return -x


FUNCTIONS: list[Any] = [
    _helper, _uses_helper, _recursive, _closed(2), _closed(3), _closed(2.0), _closed(np.arange(3)),
    _closed(np.arange(4)), _closed(np.arange(3.0)), _closed(_helper), partial(_helper, 1), partial(_helper, 2),
    _Callable(), _Callable().method, np.add, np.multiply, len, _closed({"a": 1}), _closed([1]), _closed((1,)),
]  # fmt: skip


def test_all_differ() -> None:
    assert len({code_digest(f) for f in FUNCTIONS}) == len(FUNCTIONS)


def test_other_processes_agree() -> None:
    own = [code_digest(f) for f in FUNCTIONS]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
        assert done.stdout.split() == own, done.stderr


def test_what_a_function_calls_counts() -> None:
    def with_helper(text: str) -> Any:
        names: dict[str, Any] = {"__name__": "made"}
        exec(f"LIMIT = 3\n{text}\ndef outer(x):\n    return inner(x) + LIMIT", names)
        return names["outer"]

    first = with_helper("def inner(x):\n    return x")
    assert code_digest(first) == code_digest(with_helper("def inner(x):\n    return x"))
    assert code_digest(first) != code_digest(with_helper("def inner(x):\n    return -x"))
    changed = with_helper("def inner(x):\n    return x")
    changed.__globals__["LIMIT"] = 4
    assert code_digest(first) != code_digest(changed)

"""Each check of the artifact's path removed in turn: does a test then fail?

``python -m tests.attacks.mutants [--quick] [NAMES]`` runs the suite once and notes which tests meet which check with an
exception. Then, for each check, a forked process replaces the statement in the code of the functions that have it and
runs some of these tests. It prints JSON: by check, "killed", "survived" (with the tests that passed all the same) or
"unreached".
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest

import vitrify
from vitrify import errors

ROOT = Path(vitrify.__file__).parent
#: What stands between a file and its run, besides all of ``artifact``.
PATHS = [*sorted(ROOT.glob("artifact/**/*.py")), *(ROOT / "runtime" / name for name in ("cpu.py", "native.py"))]
SUITE = [
    "tests/attacks/test_attacks.py", "tests/attacks/test_races.py", "tests/artifact", "tests/origin/test_probes.py",
    "tests/cli/test_trust_commands.py", "tests/cli/test_artifact_commands.py", "tests/runtime/test_cpu.py",
]  # fmt: skip
QUICK = ["tests/attacks/test_attacks.py", "-k", "signatures or trust or policies"]
MOST_FAILED = 5
SECONDS = 20  # a check whose absence makes a loop endless is missed as well
TESTS = 6  # of those that meet a check, at most so many are run without it
#: Tests that meet many checks and would miss few of them are run last: random changes, then other tests than attacks.
_WEAKER = ("mutations", "extreme", "noise", "truncation", "every_bit", "every_refusal", "tests/artifact/", "test_races")
_CLASSES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ArtifactError)
}
#: Functions and methods that make the error to raise, or raise it themselves.
_MAKERS = {"_bad", "_refuse", "refusal", "refused", "elsewhere", "_leak", "_unwritable"}
_CHECKS = {"require", "bound", "scan", "examine", "check", "judge", "_compare"}


class Check(NamedTuple):
    """A statement that refuses, or calls what refuses. ``text`` is its first line: with the function's name, what names
    it in reports and in lists, since line numbers change."""

    path: Path
    function: str
    first: int
    last: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.function}: {self.text}"


def checks() -> list[Check]:
    """All of them, in the order of the source."""
    return [check for path in PATHS for check in _checks(path)]


@cache
def _source(path: Path) -> str:
    return path.read_text()


def _checks(path: Path) -> Iterator[Check]:
    source = _source(path)
    lines = source.splitlines()

    def visit(node: ast.AST, function: str) -> Iterator[Check]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            function = f"{function}.{node.name}".lstrip(".")
        if isinstance(node, ast.stmt) and _refuses(node):
            text = " ".join(line.strip() for line in lines[node.lineno - 1 : node.end_lineno])
            yield Check(path, function, node.lineno, node.end_lineno or 0, text[:100])
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    yield from visit(ast.parse(source), "")


def _called(node: ast.expr | None) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _refuses(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise):
        return _called(node.exc) in _CLASSES | _MAKERS
    name = _called(node.value) if isinstance(node, ast.Expr) else ""
    return name in _CHECKS or name.lstrip("_").startswith(("check_", "accept"))


class _Remover(ast.NodeTransformer):
    """``if False: statement``: the names in it stay, so that functions keep their closures."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.stmt) and node.lineno == self._check.first and _refuses(node):
            return ast.copy_location(ast.If(ast.copy_location(ast.Constant(False), node), [node], []), node)
        return self.generic_visit(node)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


_Key = tuple[str, str, int]


def _key(code: CodeType) -> _Key:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def remove(check: Check, functions: dict[_Key, list[FunctionType]]) -> None:
    """In this process, wherever the code is in use."""
    tree = ast.fix_missing_locations(_Remover(check).visit(ast.parse(_source(check.path))))
    for code in _codes(compile(tree, str(check.path), "exec", dont_inherit=True)):
        for function in functions.get(_key(code), ()):
            function.__code__ = code


def loaded() -> dict[_Key, list[FunctionType]]:
    """The functions that exist, by their code."""
    found: dict[_Key, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            found.setdefault(_key(thing.__code__), []).append(thing)
    return found


class Recorder:
    """Which lines of the path each test meets with an exception."""

    def __init__(self) -> None:
        self._files = {str(path) for path in PATHS}
        self.met: dict[tuple[str, int], list[str]] = {}
        self._test = ""
        self.failed: set[str] = set()  # tests that measure time may, while they are traced

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        self._test = item.nodeid
        sys.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_lines = False
        return self._inside

    def _inside(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "exception":
            tests = self.met.setdefault((frame.f_code.co_filename, frame.f_lineno), [])
            if self._test not in tests:
                tests.append(self._test)
        return self._inside

    def tests(self, check: Check) -> list[str]:
        """Those that meet the check, the attacks first."""
        lines = range(check.first, check.last + 1)
        met = dict.fromkeys(test for line in lines for test in self.met.get((str(check.path), line), ()))
        found = [test for test in met if test not in self.failed]
        return sorted(found, key=lambda test: [text in test for text in _WEAKER])


def run(arguments: Sequence[str], *plugins: object) -> int:
    """The exit status of pytest, which says nothing."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments], list(plugins)))


def is_missed(check: Check, tests: Sequence[str], functions: dict[_Key, list[FunctionType]]) -> bool:
    """Whether one of the tests fails without the check."""
    child = os.fork()
    if not child:
        status = 0
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            remove(check, functions)
            status = run(["-x", *tests])
        finally:
            os._exit(1 if status else 0)
    return os.waitpid(child, 0)[1] != 0


def survey(suite: Sequence[str], wanted: Sequence[str] = ()) -> dict[str, str]:
    """What becomes of each check whose name begins with one of ``wanted`` when tests of ``suite`` run without it."""
    for path in PATHS:  # all at once: what is examined is what runs
        _source(path)
        importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"))
    recorder = Recorder()
    run(suite, recorder)
    if not recorder.met or len(recorder.failed) > MOST_FAILED:
        raise SystemExit(f"the suite fails with every check in its place: {sorted(recorder.failed)[:20]}")
    functions = loaded()
    results = {}
    for check in checks():
        if wanted and not check.name.startswith(tuple(wanted)):
            continue
        tests = recorder.tests(check)[:TESTS]
        if not tests:
            results[check.name] = "unreached"
        else:
            results[check.name] = "killed" if is_missed(check, tests, functions) else f"survived {tests}"
    return results


if __name__ == "__main__":
    quick = sys.argv[1:2] == ["--quick"]
    json.dump(survey(QUICK if quick else SUITE, sys.argv[1 + quick :]), sys.stdout, indent=1)

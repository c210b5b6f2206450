"""``python -m tests.conformance.report``: every backend case of the onnx package through a session; writes
``docs/conformance.md``.

The cases are those of ``onnx.backend.test``: an op or a few ("node"), small graphs ("simple"), exports of PyTorch
modules and operators, and the models with constant weights ("light"). A case passes when every element of every
output agrees within the tolerance that the case states. Nothing is skipped: what does not pass is refused, with
the reason, or wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import vitrify
from tests.conformance.host_cases import compare, plain
from tests.conformance.node_cases import DRAWN, smallest, tolerance
from tests.frontends.onnx.models import assert_same

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
PASSED, RANDOM, REFUSED, WRONG = "passed", "random", "refused", "wrong"
REFUSALS = (vitrify.UnsupportedError,)
SHOWN = 4  # names of cases in a row
SECONDS = 10.0  # a case that compiles for longer is listed
PEER = "onnxruntime 1.31.1 passes 1,334 of the 1,884 node cases in a harness that feeds every input as it stands."


@dataclass(frozen=True)
class Outcome:
    kind: str
    case: str
    op: str
    status: str
    reason: str = ""
    seconds: float = 0.0


@cache
def cases_of(kind: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite's own references overflow and divide by zero
        if kind == "node":
            from onnx.backend.test.case.node import collect_testcases

            return list(collect_testcases(None))
        from onnx.backend.test.loader import DATA_DIR, load_model_tests

        if kind != "light":
            return sorted(load_model_tests(kind=kind), key=lambda c: str(c.name))
        return sorted(Path(DATA_DIR, kind).glob("*.onnx"))


def _loaded(case: Any) -> tuple[str, onnx.ModelProto, list[tuple[list[Any], list[Any]]], float, float]:
    """Name, model, pairs of inputs and outputs, tolerances."""
    if isinstance(case, Path):
        model = onnx.load(case)
        held = {t.name for t in model.graph.initializer}
        (fed,) = (i for i in model.graph.input if i.name not in held)
        shape = [d.dim_value for d in fed.type.tensor_type.shape.dim]
        stored = onnx.load_tensor(str(case.with_name(f"{case.stem}_output_0.pb")))
        return case.stem, model, [([_ones(shape)], [stored])], 1e-3, 1e-5
    if case.model is not None:
        return case.name, case.model, case.data_sets, case.rtol, case.atol
    model = onnx.load(Path(case.model_dir, "model.onnx"))
    pairs = []
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        sides = [
            [_stored(folder / f"{side}_{i}.pb", info) for i, info in enumerate(infos)]
            for side, infos in (("input", model.graph.input), ("output", model.graph.output))
        ]
        pairs.append((sides[0], sides[1]))
    return case.name, model, pairs, case.rtol, case.atol


def _ones(shape: Sequence[int]) -> Any:
    return np.ones(shape, np.float32)  # what the stored results of these models were made with


def _stored(path: Path, info: onnx.ValueInfoProto) -> Any:
    kind = info.type.WhichOneof("value")
    if not path.exists():
        return None
    if kind == "sequence_type":
        proto = onnx.SequenceProto()
        proto.ParseFromString(path.read_bytes())
        return numpy_helper.to_list(proto)
    if kind == "optional_type":
        optional = onnx.OptionalProto()
        optional.ParseFromString(path.read_bytes())
        return numpy_helper.to_optional(optional)
    return onnx.load_tensor(str(path))


def _check(case: Any) -> str:
    """The case's name; whatever goes wrong is raised."""
    name, model, pairs, rtol, atol = _loaded(case)
    options = vitrify.SessionOptions(intra_op_num_threads=1)
    session = vitrify.InferenceSession(model.SerializeToString(), options)
    held = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input]
    if len(pairs[0][0]) < len(names):  # weights may be inputs too
        names = [n for n in names if n not in held]
    for inputs, outputs in pairs:
        fed = {n: plain(v) for n, v in zip(names, inputs, strict=False) if v is not None and n not in held}
        expected = [plain(o) for o in outputs]
        got = session.run(None, fed)
        if name in DRAWN:
            assert [(g.shape, g.dtype) for g in got] == [(e.shape, e.dtype) for e in expected]
        elif not all(isinstance(e, np.ndarray) and e.dtype.kind not in "OU" for e in expected):
            compare(got, expected)
        else:
            assert_same(got, expected, rtol=tolerance(expected, rtol), atol=smallest(model, expected, atol))
    return name


def _op_of(case: Any) -> str:
    model = getattr(case, "model", None)
    if model is None or len(model.graph.node) != 1:
        return "several ops"
    node = model.graph.node[0]
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _outcome(numbered: tuple[str, int]) -> Outcome:
    kind, number = numbered
    case = cases_of(kind)[number]
    name = case.stem if isinstance(case, Path) else str(case.name)
    status, reason, start = RANDOM if name in DRAWN else PASSED, "", time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check(case)
    except REFUSALS as error:
        problems = getattr(error, "problems", None) or [str(error)]
        status, reason = REFUSED, "; ".join(problems)
    except Exception as error:  # noqa: BLE001  (whatever a case raises is its outcome)
        status, reason = WRONG, f"{type(error).__name__}: {error}"
    short = " ".join(reason.split())[:160]
    return Outcome(kind, name, _op_of(case), status, short, time.perf_counter() - start)


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["| cases | all | passed | random | refused | wrong |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        found = [o for o in outcomes if o.kind == kind]
        counts = [sum(o.status == s for o in found) for s in (PASSED, RANDOM, REFUSED, WRONG)]
        if found:
            lines.append(f"| {kind} | {len(found)} | " + " | ".join(map(str, counts)) + " |")
    return lines


def _grouped(outcomes: Sequence[Outcome], status: str) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for o in outcomes:
        if o.status == status:
            groups[o.op, o.reason].append(o.case)
    lines = []
    for (op, reason), cases in sorted(groups.items()):
        named = ", ".join(sorted(cases)[:SHOWN]) + (" …" if len(cases) > SHOWN else "")
        lines.append(f"| {op} | {len(cases)} | {reason.replace('|', '/')} | {named} |")
    return lines


def document(outcomes: Sequence[Outcome]) -> str:
    """The page, from all outcomes."""
    slow = sorted((o for o in outcomes if o.seconds > SECONDS), key=lambda o: -o.seconds)
    head = ["| op | cases | reason | such as |", "|---|---|---|---|"]
    refused, wrong = _grouped(outcomes, REFUSED), _grouped(outcomes, WRONG)
    parts = [
        "# Conformance",
        f"The backend test cases of onnx {onnx.__version__}, each compiled and run through `vitrify.InferenceSession`, "
        "every element compared within the case's own tolerance (2 ulp of bfloat16 and float16 at least). "
        "`make conformance` writes this page anew.",
        "\n".join(_table(outcomes)),
        PEER,
        "Random cases draw from the reference's own generator: their shapes and dtypes are compared; distributions "
        "are tested by themselves (docs/random.md).",
        "## Refused",
        "\n".join(head + refused) if refused else "None.",
        "## Wrong",
        "\n".join(head + wrong) if wrong else "None.",
        f"## Slower than {SECONDS:.0f} s to compile and run",
        "\n".join(f"- {o.case}: {o.seconds:.1f} s" for o in slow) or "None.",
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.report", description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose names contain one of these; nothing is written")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args(arguments)
    todo = [
        (kind, i) for kind in chosen.kinds for i, c in enumerate(cases_of(kind))
        if not chosen.words or any(w in (c.stem if isinstance(c, Path) else c.name) for w in chosen.words)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="vitrify-conformance-") as folder:
        os.environ["VITRIFY_CACHE_DIR"] = folder
        with multiprocessing.get_context("fork").Pool(chosen.jobs) as pool:
            outcomes = []
            for outcome in pool.imap_unordered(_outcome, todo, chunksize=4):
                outcomes.append(outcome)
                if outcome.status == WRONG or chosen.words:
                    sys.stdout.write(f"{outcome.status} {outcome.case} {outcome.reason}\n")
    sys.stdout.write("\n".join(_table(outcomes)) + "\n")
    if not chosen.words and len(chosen.kinds) == len(KINDS):
        DOCUMENT.write_text(document(outcomes))
    return int(any(o.status == WRONG for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())

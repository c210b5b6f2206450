"""``python -m bench.families``: one op at a time against onnxruntime, on sizes that models have.

Results are compared first; then both take turns on one and on two threads. Prints a table with the geometric mean
of the ratios of medians, and writes ``bench/results/families.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table

from vitrify.benchmark.difference import difference
from vitrify.benchmark.engines import ENGINES, Run
from vitrify.benchmark.timing import interleaved

RESULTS = Path(__file__).with_name("results")
GOAL, LIMIT = 0.8, 1.5  # geometric mean; what a row above has to explain
TOLERANCE = 2e-3  # of the largest element
PEERS = ("vitrify", "onnxruntime")
Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)

# Why a row is slower than LIMIT, beside it.
REASONS: dict[str, str] = {
    "batch 8": "on two threads a step of 6 us is divided three times, at half a microsecond each",
}


@dataclass(frozen=True)
class Case:
    """A node with its constants, and what is fed to it."""

    family: str
    name: str
    op: str
    feed: dict[str, Array]
    constants: dict[str, Array]
    attributes: dict[str, Any]
    outputs: int = 1
    domain: str = ""

    def model(self) -> bytes:
        """The model. Names may end in ``@`` and their place among the node's inputs; others follow in order."""
        names = [*self.feed, *self.constants]
        places = {_place(name, number): name for number, name in enumerate(names)}
        named = [places.get(number, "") for number in range(max(places) + 1)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, named, outputs, domain=self.domain, **self.attributes)
        given = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.feed.items()
        ]
        results = [helper.make_empty_tensor_value_info(o) for o in outputs]
        held = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph([node], self.name, given, results, held)
        domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        return bytes(helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString())


def _place(name: str, number: int) -> int:
    return int(name.rsplit("@", 1)[1]) if "@" in name else number


def floats(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def case(
    family: str, name: str, op: str, feed: dict[str, Array], constants: dict[str, Array] | None = None,
    outputs: int = 1, domain: str = "", **attributes: Any,
) -> Case:  # fmt: skip
    return Case(family, name, op, feed, constants or {}, attributes, outputs, domain)


def resizes() -> list[Case]:
    x = floats(1, 64, 56, 56)
    scales = {"scales@2": np.array([1, 1, 2, 2], np.float32)}
    shrink = {"scales@2": np.array([1, 1, 0.5, 0.5], np.float32)}
    return [
        case("Resize", "nearest x2", "Resize", {"x@0": x}, scales, mode="nearest"),
        case("Resize", "linear x2", "Resize", {"x@0": x}, scales, mode="linear"),
        case("Resize", "cubic x2", "Resize", {"x@0": x}, scales, mode="cubic"),
        case("Resize", "linear x0.5", "Resize", {"x@0": x}, shrink, mode="linear"),
    ]


def pools() -> list[Case]:
    x = floats(1, 64, 112, 112)
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    return [
        case("pooling", "max 3x3/2", "MaxPool", {"x": x}, **window),
        case("pooling", "average 3x3/2", "AveragePool", {"x": x}, **window),
        case("pooling", "global average", "GlobalAveragePool", {"x": floats(1, 1024, 14, 14)}),
    ]


def recurrent() -> list[Case]:
    hidden, width, steps = 128, 64, 50
    shapes = {"w": (1, 4 * hidden, width), "r": (1, 4 * hidden, hidden), "b": (1, 8 * hidden)}
    weights = {name: floats(*shape) / 8 for name, shape in shapes.items()}
    return [
        case("LSTM", "50 steps of 128", "LSTM", {"x": floats(steps, 1, width)}, weights, 3, hidden_size=hidden),
        case("LSTM", "batch 8", "LSTM", {"x": floats(steps, 8, width)}, weights, 3, hidden_size=hidden),
    ]


def reductions() -> list[Case]:
    x = floats(128, 196, 256)
    rows = [
        case("reductions", f"{op} over axis {axis}", op, {"x": x}, {"axes": np.array([axis])}, keepdims=0)
        for op in ("ReduceSum", "ReduceMax") for axis in range(3)
    ]  # fmt: skip
    return [*rows, case("reductions", "mean over all", "ReduceMean", {"x": x}, keepdims=0)]


def transposes() -> list[Case]:
    x = floats(1, 64, 112, 112)
    return [
        case("transposes", "NCHW to NHWC", "Transpose", {"x": x}, perm=[0, 2, 3, 1]),
        case("transposes", "NHWC to NCHW", "Transpose", {"x": floats(1, 112, 112, 64)}, perm=[0, 3, 1, 2]),
        case("transposes", "heads", "Transpose", {"x": floats(8, 128, 12, 64)}, perm=[0, 2, 1, 3]),
        case("transposes", "matrix", "Transpose", {"x": floats(1000, 1003)}, perm=[1, 0]),
    ]


def gathers() -> list[Case]:
    ids = RANDOM.integers(0, 30000, (8, 128))
    return [
        case("Gather", "embedding", "Gather", {"i@1": ids}, {"t@0": floats(30000, 384)}),
        case("Gather", "last axis", "Gather", {"x": floats(256, 1000), "i": RANDOM.integers(0, 1000, 64)}, axis=1),
    ]


def selections() -> list[Case]:
    boxes = np.sort(RANDOM.uniform(0, 100, (1, 1000, 4)).astype(np.float32), axis=2)[..., [0, 1, 2, 3]]
    limits: dict[str, Any] = {
        "m": np.array([100]), "o": np.array([0.5], np.float32), "s": np.array([0.3], np.float32),
    }  # fmt: skip
    return [
        case("TopK", "5 of 1000, 64 rows", "TopK", {"x": floats(64, 1000)}, {"k": np.array([5])}, 2),
        case("TopK", "100 of 30000", "TopK", {"x": floats(1, 30000)}, {"k": np.array([100])}, 2),
        case("NMS", "1000 boxes", "NonMaxSuppression",
             {"b": boxes, "c": RANDOM.uniform(size=(1, 4, 1000)).astype(np.float32)}, limits),
    ]  # fmt: skip


def convolutions() -> list[Case]:
    return [
        case("ConvTranspose", "2x2/2, 128 to 64", "ConvTranspose", {"x": floats(1, 128, 28, 28)},
             {"w": floats(128, 64, 2, 2)}, strides=[2, 2]),
        case("ConvTranspose", "4x4/2, 64 to 32", "ConvTranspose", {"x": floats(1, 64, 32, 32)},
             {"w": floats(64, 32, 4, 4)}, strides=[2, 2], pads=[1, 1, 1, 1]),
        case("DFT", "256 x 512", "DFT", {"x": floats(256, 512, 1)}, axis=1),
        case("DFT", "64 x 1000", "DFT", {"x": floats(64, 1000, 1)}, axis=1),
    ]  # fmt: skip


def integers() -> list[Case]:
    def some(dtype: Any, *shape: int) -> Array:
        return RANDOM.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape).astype(dtype)

    zero, scale = np.array(128, np.uint8), np.array(0.02, np.float32)
    quantised: dict[str, Array] = {"xs@1": scale, "xz@2": zero, "w@3": some(np.int8, 64, 64, 3, 3), "ws@4": scale,
                 "wz@5": np.array(0, np.int8), "ys@6": np.array(0.3, np.float32), "yz@7": zero}  # fmt: skip
    return [
        case("int8", "MatMulInteger 512", "MatMulInteger", {"a@0": some(np.uint8, 512, 512)},
             {"b@1": some(np.int8, 512, 512), "z@2": zero}),
        case("int8", "QLinearConv 56x56x64", "QLinearConv", {"x@0": some(np.uint8, 1, 64, 56, 56)}, quantised,
             pads=[1, 1, 1, 1]),
    ]  # fmt: skip


def trees(count: int = 100, depth: int = 6) -> list[Case]:
    """A forest of full binary trees."""
    inner = 2**depth - 1
    nodes = 2 ** (depth + 1) - 1
    ids = np.tile(np.arange(nodes), count)
    tree = np.repeat(np.arange(count), nodes)
    leaf = ids >= inner
    attributes: dict[str, Any] = {
        "nodes_treeids": tree.tolist(), "nodes_nodeids": ids.tolist(),
        "nodes_featureids": np.where(leaf, 0, RANDOM.integers(0, 30, len(ids))).tolist(),
        "nodes_values": np.where(leaf, 0.0, RANDOM.normal(size=len(ids))).astype(np.float32).tolist(),
        "nodes_modes": ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        "nodes_truenodeids": np.where(leaf, 0, 2 * ids + 1).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, 2 * ids + 2).tolist(),
        "target_treeids": tree[leaf].tolist(), "target_nodeids": ids[leaf].tolist(),
        "target_ids": [0] * int(leaf.sum()), "n_targets": 1,
        "target_weights": RANDOM.normal(size=int(leaf.sum())).astype(np.float32).tolist(),
    }  # fmt: skip
    return [
        case("trees", f"{count} of depth {depth}, batch {batch}", "TreeEnsembleRegressor", {"x": floats(batch, 30)},
             domain="ai.onnx.ml", **attributes)
        for batch in (1, 256)
    ]  # fmt: skip


FAMILIES: tuple[Callable[[], list[Case]], ...] = (
    resizes, pools, recurrent, reductions, transposes, gathers, selections, convolutions, integers, trees,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    family: str
    name: str
    threads: int
    vitrify: float  # milliseconds, median
    onnxruntime: float
    difference: float
    reason: str = ""

    @property
    def ratio(self) -> float:
        return self.vitrify / self.onnxruntime


def measure(found: Case, threads: int, seconds: float) -> Row:
    """ValueError where results differ."""
    model = found.model()
    engines = {e.name: e for e in ENGINES if e.name in PEERS}
    runs: dict[str, Run] = {n: engines[n].prepare(model, found.feed, threads, bf16=False) for n in PEERS}
    worst = difference(runs["vitrify"](), runs["onnxruntime"]())
    if not worst <= TOLERANCE:
        raise ValueError(f"{found.family}, {found.name}: results differ by {worst}")
    times = interleaved(runs, seconds=seconds, rounds=4)
    ours, theirs = (times[n].p50_ms for n in PEERS)
    return Row(found.family, found.name, threads, ours, theirs, worst, REASONS.get(found.name, ""))


def geometric_mean(rows: Sequence[Row]) -> float:
    return math.exp(sum(math.log(r.ratio) for r in rows) / len(rows)) if rows else math.nan


def show(rows: Sequence[Row]) -> None:
    table = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    for head in ("family", "case", "threads", "vitrify ms", "onnxruntime ms", "ratio", "difference", "why"):
        table.add_column(head, justify="left" if head in ("family", "case", "why") else "right")
    for r in rows:
        style = "red" if r.ratio > LIMIT else "green" if r.ratio <= GOAL else ""
        ratio = f"[{style}]{r.ratio:.2f}[/]" if style else f"{r.ratio:.2f}"
        figures = (f"{r.vitrify:.4g}", f"{r.onnxruntime:.4g}", ratio)
        table.add_row(r.family, r.name, str(r.threads), *figures, f"{r.difference:.0e}", r.reason)
    console = Console(highlight=False, width=140)
    console.print(table)
    console.print(f"geometric mean of {len(rows)} ratios: {geometric_mean(rows):.2f} (goal {GOAL})")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.families", description=__doc__)
    parser.add_argument("words", nargs="*", help="only families whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=0.6, help="for each engine (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args(arguments)
    rows: list[Row] = []
    failed: list[str] = []
    for found in (c for family in FAMILIES for c in family()):
        if chosen.words and not any(w.lower() in found.family.lower() for w in chosen.words):
            continue
        for threads in chosen.threads:
            # One case that an engine refuses leaves the others to be measured.
            try:
                rows.append(measure(found, threads, chosen.seconds))
            except Exception as error:  # noqa: BLE001
                failed.append(f"{found.family}, {found.name}: {type(error).__name__}: {str(error)[:300]}")
                break
    show(rows)
    for line in failed:
        sys.stderr.write(line + "\n")
    RESULTS.mkdir(exist_ok=True)
    record = {"goal": GOAL, "mean": geometric_mean(rows), "rows": [asdict(r) | {"ratio": r.ratio} for r in rows]}
    (RESULTS / "families.json").write_text(json.dumps(record, indent=1))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

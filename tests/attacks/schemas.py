"""SchemaError: interfaces that runtime, manifest and payload do not agree on, or that no run could have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrify.errors import SchemaError

from .forge import PAYLOAD, WEIGHTS, Parts, dumps
from .table import attack, changed

_DISAGREE = "payload and manifest disagree"


def _input(**members: Any) -> Callable[[Path], None]:
    return changed(lambda parts: parts.manifest["inputs"][0].update(members))


def _output(**members: Any) -> Callable[[Path], None]:
    return changed(lambda parts: parts.manifest["outputs"][0].update(members))


def _fewer_weights(parts: Parts) -> None:
    parts.files[WEIGHTS] = parts.files[WEIGHTS][: 1 << 16]
    parts.list_leaves()
    parts.list_files()


attack("schemas/abi", SchemaError, "made for another runtime", changed(
    lambda parts: parts.manifest.update(abi="ab" * 32)), stage="run")  # fmt: skip
# what the payload says of itself is known only once it is mapped; nothing of it runs
attack("schemas/dtype", SchemaError, _DISAGREE, _input(dtype="f64"), stage="run", mapped=True)
attack("schemas/dtype-of-output", SchemaError, _DISAGREE, _output(dtype="i32"), stage="run", mapped=True)
attack("schemas/rank", SchemaError, _DISAGREE, _input(dims=["n", 240, 1]), stage="run", mapped=True)
attack("schemas/rank-of-output", SchemaError, _DISAGREE, _output(dims=[]), stage="run", mapped=True)
attack("schemas/name", SchemaError, _DISAGREE, _input(name="other"), stage="run", mapped=True)
attack("schemas/one-more-input", SchemaError, _DISAGREE, changed(lambda parts: parts.manifest["inputs"].append(
    {"name": "b", "dtype": "f32", "dims": []})), stage="run", mapped=True)  # fmt: skip
attack("schemas/no-output", SchemaError, _DISAGREE, changed(
    lambda parts: parts.manifest.update(outputs=[])), stage="run", mapped=True)  # fmt: skip
def _another_library(source: str, name: str) -> Callable[[Path], None]:
    """A plain library with one export, which is no payload's."""

    def change(parts: Parts) -> None:
        from tests.artifact.gate.libraries import EXPORTED, library

        parts.files[PAYLOAD] = library("x86-64-v3", EXPORTED + source, ("-z", "noexecstack"))
        parts.target["exports"] = [name]
        parts.list_files()

    return changed(change)


attack("schemas/no-payload", SchemaError, "vt_payload is not in it", _another_library(
    "int vt_other(int x) { return x; }", "vt_other"), stage="run", mapped=True)  # fmt: skip
attack("schemas/another-table", SchemaError, "made for another runtime", _another_library(
    "int vt_payload(int x) { return x; }", "vt_payload"), stage="run", mapped=True)  # fmt: skip
attack("schemas/weights", SchemaError, "disagree on their size", changed(_fewer_weights), stage="run", mapped=True)
attack("schemas/dim", SchemaError, _DISAGREE, _input(dims=["n", 60]), stage="run", mapped=True)
attack("schemas/stride", SchemaError, _DISAGREE, _input(dims=[240, "n"]), stage="run", mapped=True)
for _name, _dims in {
    "product": [1 << 32, 1 << 32], "product-of-many": [1 << 16] * 5, "product-after-zero": [0, 1 << 52, 1 << 52],
    "bytes": [1 << 31, 1 << 30],
}.items():  # fmt: skip
    attack(f"schemas/overflow-{_name}", SchemaError, "more bytes than can be addressed", _input(dims=_dims))
    attack(f"schemas/overflow-{_name}-of-output", SchemaError, "more bytes than can be addressed", _output(dims=_dims))
def _constant(dims: list[int], dtype: str) -> Callable[[Path], None]:
    """A constant of the steps around the plan."""

    def change(parts: Parts) -> None:
        document = json.loads(parts.files["details.json"])
        constant = {"dtype": dtype, "dims": dims, "values": [] if dtype == "string" else [""]}
        document["host"] = {
            "inputs": [{"name": "x0", "type": "tensor(float)", "dims": ["n", 240]}], "constants": [constant],
            "outputs": [{"name": "y0", "type": "tensor(float)", "dims": ["n", 240]}], "prologue": [], "feeds": [0],
            "epilogue": [], "results": [2],
        }  # fmt: skip
        parts.files["details.json"] = dumps(document)
        parts.list_files()

    return changed(change)


for _dtype in ("string", "f32"):
    attack(f"schemas/constant-overflow-{_dtype}", SchemaError, "more bytes than can be addressed", _constant(
        [0, 1 << 52, 1 << 52], _dtype))  # fmt: skip
    attack(f"schemas/constant-rank-{_dtype}", SchemaError, "more dims than an array", _constant([0] * 65, _dtype))
attack("schemas/rank-65", SchemaError, "more dims than an array has", _input(dims=[1] * 65))

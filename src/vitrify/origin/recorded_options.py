"""Compile options as canonical JSON, and back: what provenance says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from vitrify.errors import ManifestError
from vitrify.options import CompileOptions, OptLevel

_LOCAL = frozenset({"cache_dir"})  # of the machine, not of the artifact
Array = np.ndarray[Any, Any]


def record_options(options: CompileOptions) -> dict[str, Any]:
    """Every option. Probes that were given lie in the artifact: here is their number."""
    record = {f.name: _plain(getattr(options, f.name)) for f in fields(options) if f.name not in _LOCAL}
    record["optimization_level"] = options.optimization_level.name.lower()
    record["input_values"] = {name: _array(array) for name, array in options.input_values.items()}
    if not isinstance(options.probes, int):
        record["probes"] = {"given": len(options.probes)}
    return record


def recorded_options(record: Any, probes: Sequence[dict[str, Array]]) -> CompileOptions:
    """The options of a record; ``probes`` are those that were given. ManifestError where it is none of this version."""
    known = {f.name for f in fields(CompileOptions)} - _LOCAL
    if not isinstance(record, dict) or record.keys() != known:
        raise ManifestError("the provenance's options", expected=sorted(known), actual=record)
    try:
        values = {
            name: np.frombuffer(bytes.fromhex(v["bits"]), v["dtype"]).reshape(v["dims"])
            for name, v in record["input_values"].items()
        }
        changed: dict[str, Any] = {
            "targets": tuple(record["targets"]), "input_values": values,
            "optimization_level": OptLevel[record["optimization_level"].upper()],
        }  # fmt: skip
        if not isinstance(record["probes"], int):
            changed["probes"] = list(probes)
        return CompileOptions(**{**record, **changed})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestError("the provenance's options are none", actual=error) from None


def _array(array: Array) -> dict[str, Any]:
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "dims": list(array.shape), "bits": little.tobytes().hex()}


def _plain(value: Any) -> Any:
    """Lists for sequences, dicts for mappings."""
    if isinstance(value, np.ndarray):
        return None  # input_values and probes are recorded apart
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value

"""A replay bundle: one file that reproduces a result or a failure.

A zip archive without compression of its own: ``replay.json`` (format, options, versions, machine, what came out),
``model.onnx`` with external data folded in, or a model whose large weights are replaced by seeded numbers,
``inputs/<n>.npy`` and ``outputs/<n>.npy`` in the order that ``replay.json`` names. Only data is read back: arrays
without objects, JSON, and a model.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.errors import InvalidArgumentError, NoSuchFileError
from vitrify.options import CompileOptions, OptLevel

FORMAT = 1
LOCAL_OPTIONS = frozenset({"cache_dir", "probes", "probe_dims"})  # which change no result
KEPT_ELEMENTS = 256  # of an initializer that is never replaced: shapes, axes and the like
MOST_BYTES = 16 << 30  # of a member, unpacked
Array = np.ndarray[Any, Any]
Feed = Mapping[str, Any]


@dataclass(frozen=True)
class Replayed:
    """What a replay found. ``same``: the recorded outcome again; ``exact``: bit for bit."""

    same: bool
    exact: bool
    expected: str
    found: str
    differences: dict[str, float] = field(default_factory=dict)
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)  # those that differ: recorded, now


def make_replay(
    path: str | os.PathLike[str],
    model: Any,
    feed: Feed,
    *,
    options: CompileOptions | None = None,
    threads: int = 0,
    weights: bool = True,
) -> Path:
    """Runs ``model`` (a path, bytes, or a ``ModelProto``) on ``feed`` and records all of it in the file ``path``.

    Failures are recorded as results are. Without ``weights``, large weights are replaced by numbers made from a seed
    before the run, so that nothing of them leaves the house. Custom ops are named with their digests: who replays
    the bundle registers them first.
    Raises NoSuchFileError, InvalidModelError, ExternalDataError; InvalidArgumentError for a file that is there.
    """
    target = Path(path)
    if target.exists():
        raise InvalidArgumentError(f"{target} exists", expected="a new file", hint="choose another name")
    chosen = options or CompileOptions()
    data = _self_contained(model, weights)
    arrays = {name: np.asarray(value) for name, value in feed.items()}
    outcome, outputs = _run(data, arrays, chosen, threads)
    record = {
        "format": FORMAT, "options": _options_record(chosen), "threads": threads, "weights": weights,
        "versions": _versions(data), "outcome": outcome, "inputs": list(arrays), "outputs": list(outputs),
    }  # fmt: skip
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr("replay.json", json.dumps(record, indent=1))
            archive.writestr("model.onnx", data)
            for folder, values in (("inputs", arrays), ("outputs", outputs)):
                for number, array in enumerate(values.values()):
                    archive.writestr(f"{folder}/{number}.npy", _npy(array))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def run_replay(path: str | os.PathLike[str], *, threads: int | None = None) -> Replayed:
    """Runs a bundle here and compares: the same failure, or every element of every output.

    Raises NoSuchFileError, and InvalidArgumentError for a file that is no bundle."""
    record, data, feed, expected = _read(Path(path))
    options = _options_of(record["options"])
    outcome, outputs = _run(data, feed, options, record["threads"] if threads is None else threads)
    differences = {name: _difference(outputs.get(name), array) for name, array in expected.items()}
    alike = outcome == record["outcome"] and list(outputs) == list(expected)
    exact = alike and all(outputs[name].tobytes() == array.tobytes() for name, array in expected.items())
    now = _versions(data)
    changed = {k: (str(v), now.get(k, "")) for k, v in record["versions"].items() if now.get(k) != v}
    same = alike and all(d <= 1e-5 for d in differences.values())
    return Replayed(same, exact, str(record["outcome"]), outcome, differences, changed)


def _run(data: bytes, feed: Mapping[str, Array], options: CompileOptions, threads: int) -> tuple[str, dict[str, Array]]:
    """What came of it in one line, and the outputs by name."""
    from vitrify.runtime.options import SessionOptions
    from vitrify.session import InferenceSession

    try:
        session = InferenceSession(data, SessionOptions(intra_op_num_threads=threads), compile_options=options)
        found = session.run(None, dict(feed))
    except Exception as error:  # noqa: BLE001  (custom ops raise what they will, and all of it is to be replayed)
        return f"{type(error).__name__}: {error}", {}
    names = [o.name for o in session.get_outputs()]
    return "ran", {n: np.asarray(v) for n, v in zip(names, found, strict=True)}


def _self_contained(model: Any, weights: bool) -> bytes:
    """The model with external data folded in; without its weights if asked."""
    from onnx import numpy_helper

    from vitrify.frontends.onnx.arrays import ArrayReader
    from vitrify.frontends.onnx.load import read_model

    proto, directory = read_model(model)
    reader = ArrayReader(directory)
    result = type(proto)()
    result.CopyFrom(proto)
    for tensor in _tensors(result.graph):
        name = tensor.name
        large = int(np.prod(tuple(tensor.dims), dtype=np.int64)) > KEPT_ELEMENTS
        if not weights and large and (held := reader.read(tensor)).dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(_stand_in(name, held), name))
        elif tensor.external_data:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(reader.read(tensor)), name))
    return bytes(result.SerializeToString())


def _tensors(graph: Any) -> Iterator[Any]:
    """Initializers and constants, those of graphs inside nodes too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def _stand_in(name: str, array: Array) -> Array:
    """Numbers of the array's mean and spread, from a seed that its name gives."""
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")
    wide = array.astype(np.float64)
    spread = float(wide.std()) or 1.0
    numbers: Array = np.random.default_rng(seed).normal(float(wide.mean()), spread, array.shape or (1,))
    return numbers.reshape(array.shape).astype(array.dtype)


def _options_record(options: CompileOptions) -> dict[str, Any]:
    record = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in LOCAL_OPTIONS}
    record["optimization_level"] = int(options.optimization_level)
    values = options.input_values
    record["input_values"] = {k: {"dtype": v.dtype.str, "elements": v.tolist()} for k, v in values.items()}
    return record


def _options_of(record: Any) -> CompileOptions:
    values = {k: np.array(v["elements"], v["dtype"]) for k, v in record["input_values"].items()}
    level = OptLevel(record["optimization_level"])
    changed = {"targets": tuple(record["targets"]), "optimization_level": level, "input_values": values}
    return CompileOptions(**{**record, **changed})


def _versions(model: bytes) -> dict[str, str]:
    """Of everything that has a part in the result, custom ops included."""
    import vitrify
    from vitrify.model_key import custom_ops_of
    from vitrify.runtime.cpu import detect

    names = {"vitrify": vitrify.__version__, "python": platform.python_version(), "numpy": np.__version__}
    for module in ("onnx", "ziglang"):
        try:
            from importlib.metadata import version

            names[module] = version(module)
        except ImportError:
            names[module] = "absent"
    for label, number, identity in custom_ops_of(model):
        names[f"{label} (version {number})"] = identity[:12]
    names["platform"] = f"{platform.system()} {platform.machine()}"
    names["cpu"] = hashlib.sha256(" ".join(sorted(detect().features)).encode()).hexdigest()[:12]
    return names


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read(path: Path) -> tuple[dict[str, Any], bytes, dict[str, Array], dict[str, Array]]:
    if not path.is_file():
        raise NoSuchFileError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.file_size > MOST_BYTES for info in archive.infolist()):
                raise ValueError("a member is too large")
            record = json.loads(archive.read("replay.json"))
            if not isinstance(record, dict) or record.get("format") != FORMAT:
                raise ValueError(f"format {record.get('format') if isinstance(record, dict) else record!r}")
            sides = [_arrays(archive, side, record[side]) for side in ("inputs", "outputs")]
            return record, archive.read("model.onnx"), sides[0], sides[1]
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(
            f"{path} cannot be read: {error}", expected="a bundle that vitrify replay make wrote"
        ) from None


def _arrays(archive: zipfile.ZipFile, side: str, names: Sequence[str]) -> dict[str, Array]:
    return {
        str(name): np.lib.format.read_array(io.BytesIO(archive.read(f"{side}/{number}.npy")), allow_pickle=False)
        for number, name in enumerate(names)
    }


def _difference(found: Array | None, expected: Array) -> float:
    """The largest difference relative to the largest element; infinite for other shapes, dtypes or NaNs."""
    if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if found.tobytes() == expected.tobytes():
        return 0.0
    if expected.dtype.kind not in "fbiu":
        return float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    scale = float(np.abs(b[finite]).max(initial=0)) or 1.0
    return float(np.abs(a[finite] - b[finite]).max(initial=0)) / scale

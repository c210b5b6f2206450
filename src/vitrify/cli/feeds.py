"""Inputs of a run: from files, or made up from a seed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.artifact.dtypes import BY_NAME
from vitrify.artifact.manifest import Manifest, Port
from vitrify.cli.compile import dims_of, shapes_of
from vitrify.errors import InvalidArgumentError, NoSuchFileError, OutOfMemoryError
from vitrify.runtime.feed import native_dtype

_DEFAULT_DIM = 1
Feed = dict[str, np.ndarray[Any, Any]]


def tensor_ports(manifest: Manifest) -> tuple[Port, ...]:
    """The inputs of a model that has tensors of numbers alone. Raises InvalidArgumentError for other models."""
    if manifest.host is not None:
        kinds = [f"{edge.name}: {edge.type}" for edge in (*manifest.host.inputs, *manifest.host.outputs)]
        raise InvalidArgumentError(
            "a model with strings, sequences or optionals", expected="inputs and outputs that are tensors of numbers",
            actual=", ".join(kinds), hint="run it from Python with vitrify.InferenceSession",
        )  # fmt: skip
    return manifest.inputs


def model_ports(model: Path) -> tuple[Port, ...]:
    """The inputs that an ONNX model declares; a dim without name and number is called after its input and axis, as
    in the compiled form. Raises what reading the model does, and InvalidArgumentError for inputs and outputs that are
    no tensors of numbers, or of unknown rank."""
    from vitrify.frontends.onnx.arrays import dtype_of
    from vitrify.frontends.onnx.load import read_model

    proto = read_model(model)[0]
    held = {tensor.name for tensor in proto.graph.initializer}
    ports = []
    for info in proto.graph.input:
        if info.name in held:
            continue
        declared = info.type.tensor_type
        row = dtype_of(declared.elem_type) if info.type.WhichOneof("value") == "tensor_type" else None
        if row is None or not declared.HasField("shape"):
            raise InvalidArgumentError(
                f"input {info.name!r}", expected="a tensor of numbers with a declared rank",
                actual=" ".join(str(info.type).split()), hint="run the model from Python with vitrify.InferenceSession",
            )  # fmt: skip
        dims = (d.dim_value or d.dim_param or f"{info.name}_{axis}" for axis, d in enumerate(declared.shape.dim))
        ports.append(Port(info.name, row.name, tuple(dims)))
    return tuple(ports)


def make_feed(
    ports: Sequence[Port], files: Sequence[str], seed: int | None, shapes: Sequence[str], dims: Sequence[str]
) -> Feed:
    """An array for each port: from ``files`` (``NAME=FILE``, or one ``.npz``), the others from ``seed``.

    Raises InvalidArgumentError naming the inputs that are neither given nor may be made up.
    """
    return complete(read_feed(ports, files, shapes, dims), ports, seed, shapes, dims)


def read_feed(ports: Sequence[Port], files: Sequence[str], shapes: Sequence[str], dims: Sequence[str]) -> Feed:
    """The arrays that ``files`` give."""
    feed: Feed = {}
    by_name = {port.name: port for port in ports}
    fixed, sizes = shapes_of(shapes), dims_of(dims)
    _check_names(by_name, fixed, sizes)
    for text in files:
        feed |= _read(text, by_name, fixed, sizes)
    return feed


def complete(
    feed: Feed, ports: Sequence[Port], seed: int | None, shapes: Sequence[str], dims: Sequence[str]
) -> Feed:
    """``feed`` with an array from ``seed`` for each port that it lacks."""
    fixed, sizes = shapes_of(shapes), _sizes(feed, ports, dims)
    missing = [port for port in ports if port.name not in feed]
    if missing and seed is None:
        raise InvalidArgumentError(
            "inputs are missing", expected="--input for each, or --random SEED",
            actual="none for " + ", ".join(f"{p.name}: {p.dtype} {list(p.dims)}" for p in missing),
        )  # fmt: skip
    random = np.random.default_rng(seed)
    made: Feed = {}
    for port in missing:
        shape = _shape(port, fixed, sizes)
        try:
            made[port.name] = _made_up(port, shape, random)
        except (MemoryError, ValueError):
            raise OutOfMemoryError(f"no memory for input {port.name!r} of shape {shape}") from None
    found = feed | made
    return {port.name: found[port.name] for port in ports} | found


def default_dims(feed: Feed, ports: Sequence[Port], shapes: Sequence[str], dims: Sequence[str]) -> dict[str, int]:
    """The sizes that :func:`complete` takes for dims which neither the options nor the arrays of ``feed`` tell."""
    fixed, sizes = shapes_of(shapes), _sizes(feed, ports, dims)
    made = [fixed.get(port.name, port.dims) for port in ports if port.name not in feed]
    return {d: _DEFAULT_DIM for shape in made for d in shape if isinstance(d, str) and d not in sizes}


def _sizes(feed: Feed, ports: Sequence[Port], dims: Sequence[str]) -> dict[str, int]:
    """Of dims by name: what ``dims`` says, else what arrays have."""
    given = [(port, feed[port.name].shape) for port in ports if port.name in feed]
    seen = {d: n for port, shape in given for d, n in zip(port.dims, shape, strict=False) if isinstance(d, str)}
    return seen | dims_of(dims)


def _check_names(
    ports: Mapping[str, Port], fixed: Mapping[str, list[int | str]], sizes: Mapping[str, int]
) -> None:
    """A size that nothing reads is a slip of the pen."""
    for name in fixed:
        if name not in ports:
            raise InvalidArgumentError(f"--shape {name}", expected=f"one of {', '.join(ports)}", actual=repr(name))
    known = {d for p in ports.values() for d in fixed.get(p.name, p.dims) if isinstance(d, str)}
    if unknown := sorted(sizes.keys() - known):
        names = ", ".join(sorted(known)) or "none: all dims are numbers"
        raise InvalidArgumentError("unknown dim", expected=names, actual=unknown[0])


def _read(
    text: str, ports: Mapping[str, Port], fixed: Mapping[str, list[int | str]], sizes: Mapping[str, int]
) -> Feed:
    name, _, file = text.rpartition("=")
    path = Path(file)
    if not path.is_file():
        if name in ports and (numbers := _numbers(file, ports[name])) is not None:
            return {name: numbers}
        raise NoSuchFileError(f"{path} does not exist", hint="--input NAME=FILE, or --input FILE.npz")
    if path.suffix == ".npz" and not name:
        return _load(path, zipped=True)
    if not name or path.suffix == ".npz":
        raise InvalidArgumentError("option --input", expected="NAME=FILE, or FILE.npz", actual=repr(text))
    if name not in ports:
        raise InvalidArgumentError(
            f"unknown input {name!r}", expected=f"one of {', '.join(ports)}", hint="--input NAME=FILE"
        )
    if path.suffix == ".npy":
        return {name: _load(path, zipped=False)[""]}
    port = ports[name]
    dtype, shape = native_dtype(BY_NAME[port.dtype]), _shape(port, fixed, sizes)
    expected, size = int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
    if expected != size:
        raise InvalidArgumentError(
            f"{path}: raw bytes of input {name!r}", expected=f"{expected} bytes: {port.dtype} {shape}",
            actual=f"{size} bytes", hint="name its dims with --shape or --dim",
        )  # fmt: skip
    return {name: np.fromfile(path, dtype).reshape(shape)}


def _load(path: Path, *, zipped: bool) -> Feed:
    """The arrays of an .npz by their names, or that of an .npy without one."""
    try:
        found = np.load(path, allow_pickle=False)
        if zipped != isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it holds " + ("one array without a name" if zipped else "several arrays"))
        if not zipped:
            return {"": found}
        with found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        reason = "it holds objects or no array" if "pickle" in str(error) else str(error)
        raise InvalidArgumentError(
            f"{path} cannot be read: {reason}", expected=f"arrays of numbers, as np.save{'z' * zipped} writes them"
        ) from None


def _numbers(text: str, port: Port) -> np.ndarray[Any, Any] | None:
    """``16000`` or ``[[1, 2]]``; None for what is no JSON array of numbers that fit the dtype."""
    try:
        values = np.asarray(json.loads(text))
        if values.dtype.kind in "biuf":
            return values.astype(native_dtype(BY_NAME[port.dtype]), casting="same_kind")
    except (ValueError, TypeError):
        pass
    return None


def _shape(port: Port, fixed: Mapping[str, list[int | str]], sizes: Mapping[str, int]) -> list[int]:
    """Numbers for the dims; those that nothing says are 1."""
    dims: Sequence[int | str] = fixed.get(port.name, port.dims)
    if len(dims) != len(port.dims):
        raise InvalidArgumentError(
            f"--shape {port.name}", expected=f"{len(port.dims)} dims: {list(port.dims)}", actual=list(dims)
        )
    return [d if isinstance(d, int) else sizes.get(d, _DEFAULT_DIM) for d in dims]


def _made_up(port: Port, shape: list[int], random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Normal numbers; small ones for integers, which are often indices."""
    dtype = native_dtype(BY_NAME[port.dtype])
    if port.dtype == "bool":
        return random.integers(0, 2, shape).astype(dtype)
    if port.dtype[0] in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    return random.normal(size=shape).astype(dtype)

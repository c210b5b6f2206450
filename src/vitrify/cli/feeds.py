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


def make_feed(
    ports: Sequence[Port], files: Sequence[str], seed: int | None, shapes: Sequence[str], dims: Sequence[str]
) -> Feed:
    """An array for each port: from ``files`` (``NAME=FILE``, or one ``.npz``), the others from ``seed``.

    Raises InvalidArgumentError naming the inputs that are neither given nor may be made up.
    """
    feed: Feed = {}
    by_name = {port.name: port for port in ports}
    fixed, sizes = shapes_of(shapes), dims_of(dims)
    for text in files:
        feed |= _read(text, by_name, fixed, sizes)
    missing = [port for port in ports if port.name not in feed]
    if missing and seed is None:
        raise InvalidArgumentError(
            "inputs are missing", expected="--input for each, or --random SEED",
            actual="none for " + ", ".join(f"{p.name}: {p.dtype} {list(p.dims)}" for p in missing),
        )  # fmt: skip
    random = np.random.default_rng(seed)
    for port in missing:
        shape = _shape(port, fixed, sizes)
        try:
            feed[port.name] = _made_up(port, shape, random)
        except (MemoryError, ValueError):
            raise OutOfMemoryError(f"no memory for input {port.name!r} of shape {shape}") from None
    return {port.name: feed[port.name] for port in ports} | feed


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

"""Probes made: inputs, and what the interpreter makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitrify.artifact.dtypes import BY_NAME
from vitrify.artifact.loading import Artifact
from vitrify.artifact.validation import Awaited, Given, Probe
from vitrify.benchmark.difference import default_tolerance
from vitrify.errors import InvalidArgumentError, PlatformError, VitrifyError
from vitrify.ir.dims import evaluate, symbols
from vitrify.ir.graph import Graph, Value
from vitrify.ir.interpret import interpret
from vitrify.options import CompileOptions
from vitrify.runtime.cpu import choose, detect
from vitrify.runtime.probes import array_digest, numbers
from vitrify.runtime.session import Session

Array = np.ndarray[Any, Any]
_DEFAULT_SIZE = 2  # of an open dim: 1 would broadcast where others do not
_STEPS = 1 << 12  # made-up numbers are multiples of its inverse: exact in f32, and no libm has a part in them


def make_probes(graph: Graph, options: CompileOptions) -> tuple[tuple[Probe, ...], dict[str, bytes]]:
    """The probes that ``options`` ask for, and their files. Expected outputs are the interpreter's.

    Raises InvalidArgumentError for inputs that do not fit, for a run that fails, and where a NaN comes out.
    """
    if isinstance(options.probes, int):
        feeds: Sequence[Mapping[str, Array]] = [_made_up(graph, options.probe_dims, n) for n in range(options.probes)]
    else:
        feeds = options.probes
    files: dict[str, bytes] = {}
    return tuple(_probe(graph, feed, n, options, files) for n, feed in enumerate(feeds)), files


def run_probes(artifact: Artifact) -> int:
    """Runs the probes on the code of every target that runs on this machine; of how many. Raises ProbeError."""
    manifest = artifact.manifest
    done = 0
    for target in manifest.targets:
        try:
            choose((target,), detect())
        except PlatformError:
            continue
        alone = artifact.opened._replace(manifest=manifest._replace(targets=(target,)))
        Session(Artifact(alone, artifact.signers))
        done += 1
    return done


def _made_up(graph: Graph, dims: Mapping[str, int], seed: int) -> dict[str, Array]:
    """Numbers from -1 to 1; small ones for integers, which are often indices."""
    known = {symbol.name: symbol for value in graph.inputs for size in value.shape for symbol in symbols(size)}
    if unknown := sorted(dims.keys() - known.keys()):
        raise InvalidArgumentError(
            "probe_dims", expected=", ".join(sorted(known)) or "none: all dims are numbers", actual=unknown[0]
        )
    sizes = {
        name: dims.get(name, min(max(_DEFAULT_SIZE, symbol.lo), _DEFAULT_SIZE if symbol.hi is None else symbol.hi))
        for name, symbol in known.items()
    }
    random = np.random.default_rng(seed)
    return {value.name: _array(value, sizes, random) for value in graph.inputs}


def _array(value: Value, sizes: Mapping[str, int], random: np.random.Generator) -> Array:
    shape = tuple(int(evaluate(size, sizes)) for size in value.shape)
    if value.dtype.is_float:
        return (random.integers(-_STEPS, _STEPS, shape) / _STEPS).astype(value.dtype.numpy)
    return random.integers(0, 2, shape).astype(value.dtype.numpy)


def _probe(
    graph: Graph, feed: Mapping[str, Array], index: int, options: CompileOptions, files: dict[str, bytes]
) -> Probe:
    arrays = [_fitting(feed, value, index) for value in graph.inputs]
    if unknown := sorted(feed.keys() - {value.name for value in graph.inputs}):
        raise InvalidArgumentError(f"probe {index}", expected=[v.name for v in graph.inputs], actual=unknown)
    try:
        results = interpret(graph, arrays)
    except (VitrifyError, ValueError, IndexError) as error:
        raise InvalidArgumentError(
            f"probe {index} does not run", actual=error,
            hint="state sizes of open dims with probe_dims, or give the probes' inputs",
        ) from None  # fmt: skip
    inputs = []
    for number, (value, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
        file = f"probe/{index}-input-{number}"
        files[file] = _raw(array, value).tobytes()
        inputs.append(Given(value.name, value.dtype.name, array.shape, file))
    names = graph.output_names or tuple(v.name for v in graph.outputs)
    outputs = []
    for number, (name, value, result) in enumerate(zip(names, graph.outputs, results, strict=True)):
        file = f"probe/{index}-output-{number}"
        outputs.append(_awaited(name, value, result, file, options, files))
    return Probe(tuple(inputs), tuple(outputs))


def _fitting(feed: Mapping[str, Array], value: Value, index: int) -> Array:
    array = feed.get(value.name)
    if array is None or array.dtype != value.dtype.numpy or array.ndim != value.rank:
        given = "none" if array is None else f"{array.dtype.name} {list(array.shape)}"
        raise InvalidArgumentError(f"probe {index}: input {value.name!r}", expected=value.type, actual=given)
    return array


def _awaited(
    name: str, value: Value, result: Array, file: str, options: CompileOptions, files: dict[str, bytes]
) -> Awaited:
    bits, kind = _raw(result, value), value.dtype.name
    tolerance = default_tolerance(result.dtype, bf16=options.bf16)
    if tolerance == 0:
        return Awaited(name, kind, result.shape, None, None, array_digest(bits))
    if np.isnan(numbers(bits, kind)).any():
        raise InvalidArgumentError(
            f"a probe's output {name!r} has NaN, which equals nothing", hint="give the probes' inputs"
        )
    files[file] = bits.tobytes()
    return Awaited(name, kind, result.shape, file, tolerance.hex(), None)


def _raw(array: Array, value: Value) -> Array:
    """The elements' bits, little-endian."""
    carrier = np.dtype(BY_NAME[value.dtype.name].carrier)
    return np.ascontiguousarray(array).reshape(array.shape).view(carrier).astype(carrier.newbyteorder("<"))

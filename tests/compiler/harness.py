"""Compiles graphs and holds every element of their results against the interpreter's.

Tolerances are stated in units in the last place of the result's dtype, measured at the larger of the expected
value and ``scale`` (the size of what a sum added up, where there was cancellation). Infinities and NaN must be
where they are expected; integers and bools are equal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.artifact.loading import Artifact, load_artifact
from vitrify.artifact.manifest import Target as ArtifactTarget
from vitrify.artifact.payload import Payload
from vitrify.compiler import build_artifact
from vitrify.ir.builder import Builder, parameter
from vitrify.ir.dims import Dim, DimLike, symbols
from vitrify.ir.dtypes import F32, DType, from_numpy
from vitrify.ir.graph import Graph, Type, Value
from vitrify.ir.interpret import interpret
from vitrify.ir.verify import verify
from vitrify.lower.target import Target
from vitrify.options import CompileOptions, OptLevel
from vitrify.runtime.options import SessionOptions
from vitrify.runtime.session import Session
from vitrify.toolchain.zig import Compiler

SANITIZERS = ("address", "undefined")

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


class Objects:
    """Compiled objects, kept for this process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read_object(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def write_object(self, key: str, data: bytes) -> None:
        self.kept[key] = data


COMPILER = Compiler(store=Objects())
_FOLDER = tempfile.TemporaryDirectory(prefix="vitrify-tests-")
_count = 0


class Model(Builder):
    """A builder that keeps the inputs, their values, and the results with their tolerances."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Value] = []
        self.feeds: dict[str, Array] = {}
        self.results: list[Value] = []
        self.ulps: list[float] = []
        self.scales: list[float] = []

    def input(self, array: Any, shape: Sequence[DimLike] | None = None, dtype: DType | None = None) -> Value:
        """An input with a value; ``shape`` where dims are symbolic."""
        value = np.asarray(array, dtype.numpy if dtype else None)
        name = f"x{len(self.inputs)}"
        made = parameter(name, from_numpy(value.dtype), value.shape if shape is None else tuple(shape))
        self.inputs.append(made)
        self.feeds[name] = value
        return made

    def result(self, *values: Value, ulps: float = 0, scale: float = 0) -> None:
        for value in values:
            self.results.append(value)
            self.ulps.append(ulps)
            self.scales.append(scale)

    def graph(self, name: str = "test") -> Graph:
        used = {s for v in self.inputs for n in v.shape for s in symbols(n)}
        graph = self.build(self.inputs, self.results, name, {s.name: Dim([((s,), 1)]) for s in used})
        graph.symbols = dict(sorted(graph.symbols.items()))
        graph.output_names = tuple(f"y{i}" for i in range(len(self.results)))
        return graph

    def check(self, *more: Feeds, **options: Any) -> Session:
        """Compiles, runs with the inputs' values (and with ``more``), compares everything."""
        graph = self.graph()
        session = compile_graph(graph, **options)
        for feeds in (self.feeds, *more):
            compare_run(graph, session, feeds, self.ulps, self.scales)
        return session


class SanitizingCompiler(Compiler):
    """Every payload with checks of addresses and of undefined behaviour."""

    def compile_objects(self, sources: Mapping[str, str], target: Target, **options: Any) -> dict[str, bytes]:
        return super().compile_objects(sources, target, **{**options, "sanitize": SANITIZERS})

    def link(self, objects: Mapping[str, bytes], target: Target, **options: Any) -> bytes:
        return super().link(objects, target, **{**options, "sanitize": SANITIZERS})


class Instrumented(Artifact):
    """An artifact whose payloads call the sanitizers, which no payload may that is not of a test."""

    def payload(self, target: ArtifactTarget) -> Payload:
        entry = self.manifest.files[target.payload]
        return Payload(*self.locate(target.payload), entry.size, entry.sha256, self.name(target.payload))


def compile_graph(
    graph: Graph,
    *,
    level: int = OptLevel.ALL,
    target: str | None = None,
    threads: int = 1,
    compiler: Compiler = COMPILER,
    **options: Any,
) -> Session:
    """A session of the graph, of the given compile options."""
    verify(graph)
    path = compile_artifact(graph, level=level, target=target, compiler=compiler, **options)
    return Session(opened(path, compiler), SessionOptions(intra_op_num_threads=threads))


def opened(path: Path, compiler: Compiler) -> Artifact:
    """The artifact that ``compiler`` made."""
    artifact = load_artifact(path)
    if isinstance(compiler, SanitizingCompiler):
        return Instrumented(artifact.opened, artifact.signers)
    return artifact


def compile_artifact(
    graph: Graph,
    *,
    level: int = OptLevel.ALL,
    target: str | None = None,
    compiler: Compiler = COMPILER,
    **options: Any,
) -> Path:
    """The directory of the graph's artifact."""
    global _count  # noqa: PLW0603 (a folder of its own for every artifact)
    _count += 1
    path = Path(_FOLDER.name, str(_count))
    targets = () if target is None else (target,)
    wanted = CompileOptions(targets=targets, optimization_level=OptLevel(level), **options)
    build_artifact(graph, path, wanted, compiler=compiler)
    return path


def compare_run(
    graph: Graph, session: Session, feeds: Feeds, ulps: Sequence[float] = (), scales: Sequence[float] = ()
) -> list[Array]:
    """Runs both ways and compares; gives what the session returned."""
    wanted = interpret(graph, feeds)
    got = session.run(None, feeds)
    assert len(got) == len(wanted)
    for i, (value, one, other) in enumerate(zip(graph.outputs, wanted, got, strict=True)):
        assert_close(other, one, ulps[i] if ulps else 0, scales[i] if scales else 0, describe(value, i))
    return got


def describe(value: Value, number: int) -> str:
    node = value.node
    return f"y{number}: {value.type} of {node.op if node is not None else value.name}"[:300]


def assert_close(got: Array, want: Array, ulps: float = 0, scale: float = 0, what: str = "") -> None:
    """Every element; ``ulps`` of the dtype at ``max(|want|, scale)``."""
    assert got.dtype == want.dtype and got.shape == want.shape, f"{what}: {got.dtype}{got.shape}"
    dtype = from_numpy(want.dtype)
    if not dtype.is_float:
        bad = got.astype(object) != want.astype(object) if dtype.bits == 64 else got != want
        bad = np.asarray(bad, bool)
    else:
        a, b = got.astype(np.float64), want.astype(np.float64)
        bad = np.isnan(a) != np.isnan(b)
        finite = np.isfinite(a) & np.isfinite(b)
        with np.errstate(all="ignore"):
            allowed = ulps * unit(np.maximum(np.abs(b), scale), dtype)
            bad |= finite & (np.abs(a - b) > allowed)
            near = ulps > 0  # an overflow either way is within the rounding of the largest number
            largest = _largest(dtype) * (1 - 2.0 ** -(dtype.mantissa - 2)) if near else np.inf
            other = np.where(np.isfinite(a), a, b)
            infinite = ~np.isnan(a) & ~np.isnan(b) & ~finite & (a != b)
            bad |= infinite & ~((np.abs(other) >= largest) & (np.sign(a) == np.sign(b)))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0]) if got.ndim else ()
        count = int(bad.sum())
        raise AssertionError(f"{what}: {count} of {bad.size} differ, first at {at}: {got[at]} for {want[at]}")


def unit(x: Array, dtype: DType) -> Array:
    """The distance between neighbouring numbers of ``dtype`` at ``x``."""
    exponent = np.floor(np.log2(np.maximum(np.abs(x), _smallest(dtype))))
    return np.asarray(np.exp2(exponent - dtype.mantissa))


def _info(dtype: DType) -> Any:
    if dtype.bits >= 32 or dtype.name == "f16":
        return np.finfo(dtype.numpy)
    import ml_dtypes

    return ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]


def _smallest(dtype: DType) -> float:
    return float(_info(dtype).smallest_normal)


def _largest(dtype: DType) -> float:
    return float(_info(dtype).max)


def sample(dtype: DType, shape: Sequence[int], seed: int = 0, *, low: float = -4, high: float = 4) -> Array:
    """Numbers of ``dtype`` in a range (cut to the dtype's)."""
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return np.asarray(rng.random(tuple(shape)) < 0.5)
    if dtype.is_float:
        return (
            np.asarray(rng.uniform(low, high, tuple(shape)))
            .astype(np.float32 if dtype.bits < 64 else np.float64)
            .astype(dtype.numpy)
        )
    first, last = max(int(low), int(dtype.min())), min(int(high), int(dtype.max()))
    return np.asarray(rng.integers(first, last + 1, tuple(shape))).astype(dtype.numpy)


def body(inputs: Sequence[tuple[str, DType, Sequence[DimLike]]], build: Any) -> Graph:
    """A graph for a control structure: ``build(builder, *values)`` gives its outputs."""
    builder = Builder()
    values = [parameter(name, dtype, shape) for name, dtype, shape in inputs]
    outputs = build(builder, *values)
    return builder.build(values, outputs if isinstance(outputs, (tuple, list)) else [outputs])


def kernel_count(session: Session) -> int:
    return len(session.target.kernels)


__all__ = [
    "COMPILER", "F32", "Model", "Type", "assert_close", "body", "compare_run", "compile_artifact",
    "compile_graph", "kernel_count", "sample",
]  # fmt: skip

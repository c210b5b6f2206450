"""The pipeline from a tensor graph to an artifact on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vitrify.artifact.loading import Artifact
from vitrify.artifact.manifest import CustomCall as ManifestCall
from vitrify.artifact.manifest import Host, Kernel, Manifest, Meta, Node, Port, Slot
from vitrify.artifact.manifest import Target as ManifestTarget
from vitrify.artifact.writing import Content, digests, write_artifact
from vitrify.codegen.c.native import include_directory, support_sources
from vitrify.codegen.c.plan_printer import print_plan
from vitrify.debug import Debug
from vitrify.errors import InvalidArgumentError
from vitrify.ir.dims import INT64_MAX, Dim, DimLike, maximum, substitute
from vitrify.ir.graph import Graph
from vitrify.lower.build import LowerOptions
from vitrify.lower.contract import amx_int8
from vitrify.lower.loop import CustomCall
from vitrify.lower.model import lower_model
from vitrify.lower.plan import Plan, Shared, Variant, Weights
from vitrify.lower.plan_text import plan_text
from vitrify.lower.target import TARGETS, V4, Target, with_extensions
from vitrify.options import CPU_FEATURES, CompileOptions, Progress
from vitrify.origin.materials import Materials
from vitrify.origin.probes import make_probes, run_probes
from vitrify.origin.provenance import provenance
from vitrify.origin.sbom import sbom
from vitrify.rewrite.pipeline import Level, optimize
from vitrify.rewrite.specialise import specialise
from vitrify.toolchain.zig import Compiler


def resolve_target(name: str) -> Target:
    """The target of a payload's name. Raises InvalidArgumentError for one that does not exist."""
    base, *extensions = name.split("+")
    if base not in TARGETS:
        raise InvalidArgumentError(f"unknown target {name!r}", expected=" or ".join(TARGETS), actual=base)
    return with_extensions(TARGETS[base], *extensions) if extensions else TARGETS[base]


@dataclass
class Payload:
    """One target's shared library and packed constants, and the plans they came from."""

    target: Target
    library: bytes
    weights: Weights
    plan: Plan
    variants: list[Variant]
    kernel_names: list[str]
    weights_file: str | None = None  # which may be another target's, where that has the same

    @property
    def plans(self) -> list[Plan]:
        return [self.plan, *(v.plan for v in self.variants)]


@dataclass
class Graphs:
    """The optimised graph, and its specialised forms by the sizes they are for."""

    general: Graph
    special: list[tuple[dict[str, int], Graph]]


def compile_payload(
    graphs: Graphs, target: Target, options: CompileOptions, compiler: Compiler, debug: Debug,
    nodes: dict[str, int], custom_calls: dict[CustomCall, int], progress: Progress | None = None,
) -> Payload:  # fmt: skip
    """The optimised graphs as native code for one target; ``nodes`` is the table that failures name, ``custom_calls``
    that of the custom ops' forms."""
    level = options.optimization_level
    lowering = LowerOptions(
        level >= Level.EXTENDED, level >= Level.ALL, options.accurate, options.bf16, options.reuse_memory
    )
    shared = Shared(nodes=nodes, custom_calls=custom_calls)
    with debug.stage(f"lowering for {target.name}"):
        plan = lower_model(graphs.general, target, lowering, shared)
        variants = [
            Variant(tuple(sorted(dims.items())), lower_model(g, target, lowering, shared))
            for dims, g in graphs.special
        ]
    if not options.targets:
        target = _needed(target, [plan, *(v.plan for v in variants)])
    for one in (plan, *(v.plan for v in variants)):
        debug.text("plan", partial(plan_text, one), level=2)
    with debug.stage("printing"):
        printed = print_plan(plan, target, variants)
    for name, text in printed.sources.items():
        debug.text(name, partial(str, text), level=4, suffix="c")
    sources = {path.name: path.read_text(encoding="utf-8") for path in support_sources()}
    sources |= printed.sources
    done = 0

    def report(name: str, compiled: bool) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(f"{target.name}: {name}", done, len(sources))

    with debug.stage(f"compiling {len(sources)} sources"):
        objects = compiler.compile_objects(sources, target, include=[include_directory()], on_done=report)
        library = compiler.link(objects, target)
    return Payload(target, library, shared.weights, plan, variants, printed.names)


def _needed(target: Target, plans: Sequence[Plan]) -> Target:
    """The target without the extension for matrices of bytes, which few machines have, where no kernel uses it."""
    rest = [f for f in target.features if f != amx_int8.FEATURE]
    schedules = (dict(call.kernel.schedule) for plan in plans for call in plan.calls())
    if len(rest) == len(target.features) or any(s.get("template") == amx_int8.TEMPLATE for s in schedules):
        return target
    return with_extensions(V4, *rest)


def specialised(graph: Graph, options: CompileOptions, debug: Debug) -> list[tuple[dict[str, int], Graph]]:
    """The graph for each set of input shapes that the options ask for."""
    found: list[tuple[dict[str, int], Graph]] = []
    for shapes in options.specialize:
        dims: dict[str, int] = {}
        for value in graph.inputs:
            for size, given in zip(value.shape, shapes.get(value.name, value.shape), strict=False):
                if isinstance(size, Dim) and isinstance(given, int) and str(size) in graph.symbols:
                    if dims.setdefault(str(size), given) != given:
                        raise InvalidArgumentError(
                            f"specialize: dim {size}",
                            expected="one size",
                            actual=f"{dims[str(size)]} and {given}",
                        )
        _check_specialization(graph, shapes)
        if dims and all(dims != known for known, _ in found):
            special = optimize(specialise(graph, dims), Level(options.optimization_level))
            debug.graph("specialised", special)
            found.append((dims, special))
    return found


def _check_specialization(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> None:
    inputs = {v.name: v for v in graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise InvalidArgumentError(f"specialize: no input {name!r}", expected=", ".join(inputs))
        own = inputs[name].shape
        fits = len(own) == len(shape) and all(
            not isinstance(n, int) or n == m for n, m in zip(own, shape, strict=True)
        )
        if not fits:
            raise InvalidArgumentError(
                f"specialize: input {name!r}", expected=list(map(str, own)), actual=list(shape)
            )


def _amount(value: DimLike) -> int | str:
    return value if isinstance(value, int) else str(value)


def _work(value: DimLike) -> int | str:
    """As :func:`_amount`; windows of 2^62 take more operations than a manifest can say."""
    return _amount(min(value, INT64_MAX) if isinstance(value, int) else value)


def build_artifact(
    graph: Graph,
    path: str | os.PathLike[str],
    options: CompileOptions,
    *,
    meta: Meta | None = None,
    host: Host | None = None,
    compiler: Compiler | None = None,
    progress: Progress | None = None,
    replace: bool = False,
    materials: Materials | None = None,
    targets: tuple[str, ...] | None = None,
) -> Artifact:
    """Optimises, lowers and compiles ``graph`` and writes the artifact ``path``. ``host`` is what sessions run
    around it, ``targets`` are those that the options leave to this machine. With ``materials`` the artifact has a list
    of parts and its provenance. Raises ProbeError where a target's code, run here, does not give what its probes
    have to."""
    from vitrify import __version__

    debug = Debug()
    probes, files = make_probes(graph, options) if options.probes else ((), {})
    debug.graph("imported", graph)
    if progress is not None:
        progress("optimising the graph", 0, 0)
    with debug.stage("optimising"):
        special = specialised(graph, options, debug)
        graph = optimize(graph, Level(options.optimization_level), dump=debug.graph)
    graphs = Graphs(graph, special)
    names = targets or options.resolved_targets()
    compiler = compiler or Compiler()
    nodes: dict[str, int] = {}
    custom_calls: dict[CustomCall, int] = {}
    tables = nodes, custom_calls
    payloads = [
        compile_payload(graphs, resolve_target(n), options, compiler, debug, *tables, progress) for n in names
    ]
    contents: dict[str, Content] = {**files, **_contents(payloads)}
    meta = meta or Meta(graph_name=graph.name)
    manifest = _manifest(graph, payloads, nodes, meta, __version__)
    manifest = manifest._replace(
        host=host, custom_calls=tuple(map(_manifest_call, custom_calls)), validation=probes
    )
    if materials is not None:
        built = digests(contents)
        contents["sbom.json"] = sbom(meta, materials, built)
        contents["provenance.json"] = provenance(options, names, materials, built)
    artifact = write_artifact(path, manifest, contents, replace=replace)
    if probes:
        run_probes(artifact)
    return artifact


def _contents(payloads: list[Payload]) -> dict[str, Content]:
    """Code and constants by the names of their files; constants that targets have in common, once."""
    contents: dict[str, Content] = {}
    known: dict[str, str] = {}
    for payload in payloads:
        contents[_file("payload", payload.target, "so")] = payload.library
        if payload.weights.arrays:
            name = _file("weights", payload.target, "bin")
            if len(payloads) > 1:
                name = known.setdefault(digests({name: payload.weights.pieces})[name], name)
            payload.weights_file = name
            contents.setdefault(name, payload.weights.pieces)
    return contents


def _manifest(
    graph: Graph, payloads: list[Payload], nodes: dict[str, int], meta: Meta, version: str
) -> Manifest:
    names = graph.output_names or tuple(v.name for v in graph.outputs)
    for payload in payloads:
        for plan in payload.plans:
            for call in plan.calls():
                nodes.setdefault(call.source, len(nodes))
    return Manifest(
        vitrify=version,
        abi=hashlib.sha256((include_directory() / "abi.h").read_bytes()).hexdigest(),
        meta=meta,
        inputs=tuple(Port(v.name, v.dtype.name, tuple(_amount(n) for n in v.shape)) for v in graph.inputs),
        outputs=tuple(
            Port(n, v.dtype.name, tuple(_amount(s) for s in v.shape))
            for n, v in zip(names, graph.outputs, strict=True)
        ),
        targets=tuple(_manifest_target(payload, nodes) for payload in payloads),
        nodes=tuple(Node(text.partition(" ")[2].strip("'\""), text.partition(" ")[0]) for text in nodes),
    )


def _manifest_call(op: CustomCall) -> ManifestCall:
    arguments, results = (
        tuple(None if slot is None else Slot(slot[0].name, slot[1]) for slot in slots)
        for slots in (op.arguments, op.results)
    )
    return ManifestCall(
        op.label, op.version, op.digest, op.origin, op.attributes, arguments,
        tuple(slot for slot in results if slot is not None), op.c_source,
    )  # fmt: skip


def _file(kind: str, target: Target, suffix: str) -> str:
    """A name that any file system takes."""
    return f"{kind}/{target.name.replace('+', '-')}.{suffix}"


def _manifest_target(payload: Payload, nodes: dict[str, int]) -> ManifestTarget:
    plan, name = payload.plan, payload.target.name
    calls = [(call, _original(one)) for one in payload.plans for call in one.calls()]
    kernels = tuple(
        Kernel(
            kernel,
            (nodes[call.source],),
            _work(substitute(call.kernel.flops, back)),
            _work(substitute(call.kernel.traffic, back)),
        )
        for kernel, (call, back) in zip(payload.kernel_names, calls, strict=True)
    )
    scratch = max(int(str(one.scratch_bytes)) for one in payload.plans)
    arena = plan.arena_bytes
    for variant in payload.variants:
        arena = maximum(arena, variant.plan.arena_bytes)
    packed = payload.weights.offsets()[-1]
    return ManifestTarget(
        target=name.partition("+")[0],
        features=tuple(sorted(set().union(*(CPU_FEATURES[f] for f in payload.target.features)))),
        payload=_file("payload", payload.target, "so"),
        weights=payload.weights_file,
        arena_bytes=_amount(arena),
        scratch_bytes=scratch,
        peak_bytes=_amount(arena + scratch + packed),
        kernels=kernels,
        os=payload.target.os,
        architecture=payload.target.arch,
    )


def _original(plan: Plan) -> dict[str, DimLike]:
    """The model's names for the dims, by those that kernels use."""
    return {str(s): Dim.symbol(original) for original, s in plan.safe_names.items()}

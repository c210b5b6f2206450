"""``vitrify inspect``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vitrify.artifact.amounts import evaluate
from vitrify.artifact.loading import is_artifact
from vitrify.artifact.manifest import Edge, Manifest, Port, Target
from vitrify.cli.compile import artifact_of, counted, dims_of, scaled
from vitrify.cli.console import console, escape, table
from vitrify.cli.seal import print_seal
from vitrify.errors import ArtifactError, InvalidArgumentError
from vitrify.options import CompileOptions

_WIDE = 90  # columns that a table with all figures takes


def inspect_model(model: Path, dims: Sequence[str], top: int, trust: str | None, as_json: bool) -> None:
    """Shows an artifact, whoever made it, or a model once it is compiled. Named dims that are not given count as 1."""
    import vitrify

    found = vitrify.inspect(model, trust) if is_artifact(model) else None
    artifact = found or artifact_of(model, CompileOptions())
    manifest = artifact.manifest
    given = dims_of(dims)
    known = {d for port in manifest.inputs for d in port.dims if isinstance(d, str)}
    if unknown := sorted(given.keys() - known):
        names = ", ".join(sorted(known)) or "none: all dims are numbers"
        raise InvalidArgumentError("unknown dim", expected=names, actual=unknown[0])
    sizes = dict.fromkeys(sorted(known), 1) | given
    try:
        facts = describe(manifest, sizes)
    except ArtifactError as error:  # an amount that is none
        error.path = error.path or artifact.path
        raise
    if found is not None:
        facts["artifact"] = found.as_dict()
    if as_json:
        json.dump(facts, sys.stdout, indent=1)
        print()
        return
    out = console()
    out.print(f"[bold]{escape(str(model))}[/]", soft_wrap=True)
    if Path(artifact.path) != model:
        out.print(f"[dim]{escape(artifact.path)}[/]", soft_wrap=True)
    if found is not None:
        print_seal(out, found, vitrify.trust.policy(trust))
    _print_ports(out, manifest, sizes)
    for op in facts["custom_ops"]:
        where = "in C" if op["in_c"] else f"needs Python: module {op['module'] or 'unknown'}"
        out.print(f"[dim]custom op[/] {escape(op['name'])} version {op['version']}, {escape(where)}", soft_wrap=True)
    for target in facts["targets"]:
        _print_target(out, target, top)


def describe(manifest: Manifest, dims: Mapping[str, int]) -> dict[str, Any]:
    """The manifest with its amounts as numbers for ``dims``."""
    return {
        "vitrify": manifest.vitrify,
        "meta": {**manifest.meta._asdict(), "custom_metadata_map": dict(manifest.meta.custom_metadata_map)},
        "dims": dict(dims),
        "inputs": [_port(port) for port in (manifest.host or manifest).inputs],
        "outputs": [_port(port) for port in (manifest.host or manifest).outputs],
        "custom_ops": _custom_ops(manifest),
        "targets": [_target(manifest, target, dims) for target in manifest.targets],
        "files": {name: entry.size for name, entry in manifest.files.items()},
    }


def _custom_ops(manifest: Manifest) -> list[dict[str, Any]]:
    found = {(op.label, op.version): op for op in manifest.custom_calls}
    return [
        {"name": label, "version": version, "in_c": bool(op.c_source), "module": op.origin}
        for (label, version), op in sorted(found.items())
    ]


def _port(port: Port | Edge) -> dict[str, Any]:
    return {"name": port.name, "dtype": _kind(port), "dims": None if port.dims is None else list(port.dims)}


def _kind(port: Port | Edge) -> str:
    return port.type if isinstance(port, Edge) else port.dtype


def _target(manifest: Manifest, target: Target, dims: Mapping[str, int]) -> dict[str, Any]:
    kernels: dict[str, dict[str, Any]] = {}
    ops: Counter[str] = Counter()
    for call in target.kernels:
        entry = kernels.setdefault(
            call.name, {"name": call.name, "calls": 0, "flops": 0, "bytes": 0, "ops": Counter()}
        )
        entry["calls"] += 1
        entry["flops"] += max(evaluate(call.flops, dims), 0)  # below 0: the model takes no such dims
        entry["bytes"] += max(evaluate(call.bytes, dims), 0)
        kinds = [manifest.nodes[index].op for index in call.nodes]
        entry["ops"].update(kinds)
        ops.update(kinds)
    weights = manifest.files[target.weights].size if target.weights else 0
    ordered = sorted(kernels.values(), key=lambda k: (-k["flops"], -k["bytes"], k["name"]))
    return {
        "target": target.target,
        "features": list(target.features),
        "memory": {
            "peak": evaluate(target.peak_bytes, dims),
            "weights": weights,
            "arena": evaluate(target.arena_bytes, dims),
            "scratch_per_thread": target.scratch_bytes,
            "code": manifest.files[target.payload].size,
        },
        "ops": dict(ops.most_common()),
        "flops": sum(k["flops"] for k in ordered),
        "bytes": sum(k["bytes"] for k in ordered),
        "kernels": [{**k, "ops": dict(k["ops"])} for k in ordered],
    }


def _print_ports(out: Console, manifest: Manifest, dims: Mapping[str, int]) -> None:
    shown = table("", "name", "dtype", "dims")
    edges = manifest.host or manifest
    for kind, ports in (("input", edges.inputs), ("output", edges.outputs)):
        for port in ports:
            shape = "" if port.dims is None else " × ".join(map(str, port.dims)) or "scalar"
            shown.add_row(f"[dim]{kind}[/]", escape(port.name), _kind(port), escape(shape))
    out.print(shown)
    if dims:
        sizes = ", ".join(f"{name} = {size}" for name, size in dims.items())
        out.print(f"[dim]figures are for {escape(sizes)} (--dim NAME=N sets them)[/]")


def _print_target(out: Console, target: dict[str, Any], top: int) -> None:
    memory = target["memory"]
    out.print()
    out.print(f"[bold cyan]{escape(' + '.join([target['target'], *target['features']]))}[/]")
    calls = sum(k["calls"] for k in target["kernels"])
    facts = Table.grid(padding=(0, 2))
    parts = [f"{part.replace('_', ' ')} {scaled(size, 'B')}" for part, size in memory.items()]
    facts.add_row("memory", ", ".join(parts[:3]))
    facts.add_row("", ", ".join(parts[3:]))
    what = f"{counted(calls, 'call')} of {counted(len(target['kernels']), 'kernel')}"
    facts.add_row("work", f"{scaled(target['flops'], 'FLOP')} in {what}")
    facts.add_row("ops", escape(", ".join(f"{op} {count}" for op, count in target["ops"].items() if op)))
    out.print(facts)
    heads: tuple[str, ...] = ("calls", "FLOP", "share", "bytes", "FLOP/B")
    if out.width < _WIDE:
        heads = heads[:-1]
    shown = table("kernel", "ops", right=heads)
    for kernel in target["kernels"][:top]:
        share = kernel["flops"] / target["flops"] if target["flops"] else 0.0
        intensity = f"{kernel['flops'] / kernel['bytes']:.1f}" if kernel["bytes"] else ""
        figures = (
            str(kernel["calls"]), scaled(kernel["flops"]), f"{share:.1%}",
            scaled(kernel["bytes"]) if kernel["bytes"] else "", intensity,
        )  # fmt: skip
        shown.add_row(escape(kernel["name"]), escape(", ".join(kernel["ops"])), *figures[: len(heads)])
    out.print(shown)
    if (rest := len(target["kernels"]) - top) > 0:
        out.print(f"[dim]… and {rest} more (--top)[/]")

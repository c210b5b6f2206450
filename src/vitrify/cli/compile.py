"""``vitrify compile``, and what other commands need of it: options, and a session with progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vitrify.cli.console import console, escape
from vitrify.errors import InvalidArgumentError, NoSuchFileError
from vitrify.options import CompileOptions, OptLevel, Progress

if TYPE_CHECKING:
    from vitrify.artifact.loading import Artifact
    from vitrify.compiled import CompiledArtifact


def options_of(
    target: Sequence[str] | None,
    level: str,
    accurate: bool,
    bf16: bool,
    shape: Sequence[str] | None,
    dim: Sequence[str] | None,
    probes: int = 0,
    probe_dim: Sequence[str] | None = None,
) -> CompileOptions:
    """Compile options from those of the command line."""
    return CompileOptions(
        targets=tuple(target or ()),
        optimization_level=OptLevel[level.upper()],
        accurate=accurate,
        bf16=bf16,
        input_shapes=shapes_of(shape or ()),
        dim_overrides=dims_of(dim or ()),
        probes=probes,
        probe_dims=dims_of(probe_dim or (), "--probe-dim"),
    )


def dims_of(given: Sequence[str], option: str = "--dim") -> dict[str, int]:
    """``["N=4"]`` as numbers by name."""
    return {name: _number(option, value) for name, value in (_pair(option, text) for text in given)}


def shapes_of(given: Sequence[str]) -> dict[str, list[int | str]]:
    """``["x=1,3,N"]`` as dims by the inputs' names; what is not a number is a named dim."""
    shapes: dict[str, list[int | str]] = {}
    for name, value in (_pair("--shape", text) for text in given):
        parts = [part.strip() for part in value.split(",")] if value.strip() else []
        shapes[name] = [p if p.isidentifier() else _number("--shape", p) for p in parts]
    return shapes


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise InvalidArgumentError(f"option {option}", expected="NAME=VALUE", actual=repr(text))
    return name, value


def _number(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidArgumentError(f"option {option}", expected="a number, 0 or more", actual=repr(text))
    return int(text)


def compile_with_progress(model: Path, options: CompileOptions) -> CompiledArtifact:
    """The artifact, from the cache or compiled; on a terminal with a bar that says what is compiled."""
    import vitrify

    errors = Console(stderr=True)
    if not errors.is_terminal:
        return vitrify.compile(model, options=options)
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    what_is_done = TextColumn("{task.description}")
    columns = TextColumn("[bold]compiling"), BarColumn(30), MofNCompleteColumn(), what_is_done
    with Bar(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        report: Progress = progress
        return vitrify.compile(model, options=options, progress=report)


def scaled(amount: float, unit: str = "") -> str:
    """``12.3 M``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= 0.9995 * factor:
            return f"{amount / factor:.3g} {prefix}{unit}"
    return f"{amount:.0f} {unit}".rstrip()


def counted(number: int, noun: str) -> str:
    """``2 kernels``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def artifact_of(model: Path, options: CompileOptions) -> Artifact:
    """An artifact as it is, a model compiled. Raises NoSuchFileError for neither."""
    from vitrify.artifact.loading import is_artifact, load_artifact

    if is_artifact(model):
        return load_artifact(model)
    if not model.exists():
        raise NoSuchFileError(f"{model} does not exist", expected="an ONNX model, or an artifact")
    return compile_with_progress(model, options)


def compile_model(
    model: Path, output: Path | None, options: CompileOptions, said: Mapping[str, Any], *, replace: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """``vitrify compile``. ``said`` are what :meth:`CompiledArtifact.save` takes besides."""
    start = time.perf_counter()
    artifact = compile_with_progress(model, options)
    path = artifact.path if output is None else artifact.save(output, replace=replace, **said).path
    seconds = time.perf_counter() - start
    manifest = artifact.manifest
    targets = ["+".join((t.target, *t.features)) for t in manifest.targets]
    kernels = {k.name for t in manifest.targets for k in t.kernels}
    size = sum(entry.size for entry in manifest.files.values())
    result = {
        "artifact": str(path),
        "compiled": artifact.compiled,
        "seconds": round(seconds, 3),
        "targets": targets,
        "kernels": len(kernels),
        "bytes": size,
        "digest": artifact.digest,
    }
    if as_json:
        json.dump(result, sys.stdout)
        print()
        return
    how = "compiled" if artifact.compiled else "found in the cache"
    out = console()
    out.print(
        f"[bold green]✓[/] {how} in {seconds:.2f} s: {counted(len(kernels), 'kernel')}, "
        f"{scaled(size, 'B')}, {', '.join(targets)}"
    )
    out.print(f"  {escape(str(path))}", soft_wrap=True)

"""Commands and their options. What a command does is in the module of its name, imported when it runs."""

from __future__ import annotations

import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitrify.cli import artifact_app, trust_app
from vitrify.cli.artifact_app import Expires, Licence, NotBefore, Product, Release
from vitrify.cli.trust_app import AsFormat, Directory, Format
from vitrify.errors import VitrifyError

app = typer.Typer(
    name="vitrify",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Level(StrEnum):
    """Names of :class:`vitrify.OptLevel`."""

    none = "none"
    basic = "basic"
    extended = "extended"
    all = "all"


Model = Annotated[Path, typer.Argument(help="An ONNX model, or an artifact.", show_default=False)]
Threads = Annotated[int, typer.Option(min=0, help="Threads of a run; 0: one per core.")]
Random = Annotated[
    int | None,
    typer.Option("--random", min=0, help="Make up the inputs that are not given.", metavar="SEED"),
]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", help="A number for a named dim; may be repeated.", metavar="NAME=N"),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Dims of an input; may be repeated.", metavar="INPUT=N,N,…"),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="NAME=FILE",
        help="An input from .npy, from raw bytes in any other file, or as numbers (sr=16000); "
        "or inputs from one .npz.",
    ),
]  # fmt: skip
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="x86-64-v3, x86-64-v4, x86-64-v4+bf16, aarch64 …; may be repeated."),
]
OptionLevel = Annotated[Level, typer.Option("--level", help="How much the compiler may do.")]
Accurate = Annotated[bool, typer.Option("--accurate", help="No algorithm with more rounding error.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Allow products in bfloat16.")]


def _version(asked: bool) -> None:
    if asked:
        from vitrify import __version__

        print(f"vitrify {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Compile models to native code, look at them, run and measure them."""


@app.command("compile")
def compile_command(
    model: Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The artifact to write; only the cache without it.")
    ] = None,
    target: Targets = None,
    level: OptionLevel = Level.all,
    accurate: Accurate = False,
    bf16: Bf16 = False,
    shape: Shapes = None,
    dim: Dims = None,
    probe: Annotated[
        int, typer.Option(min=0, help="How many made-up inputs each session runs first, and compares.", metavar="N")
    ] = 0,
    probe_dim: Annotated[
        list[str] | None,
        typer.Option("--probe-dim", help="A number for an open dim of the probes; may be repeated.", metavar="NAME=N"),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an artifact.")] = False,
    product: Product = None,
    release: Release = None,
    not_before: NotBefore = None,
    expires: Expires = None,
    licence: Licence = None,
    key: artifact_app.SigningKey = None,
    format: AsFormat = Format.text,
) -> None:
    """Compile a model to an artifact, and sign it."""
    from vitrify.cli.compile import compile_model, options_of

    options = options_of(target, level.value, accurate, bf16, shape, dim, probe, probe_dim)
    said = {
        "product": product, "release": release, "not_before": not_before, "expires": expires, "licence": licence,
        "key": key,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    if said and output is None:
        raise typer.BadParameter(f"--{next(iter(said)).replace('_', '-')} is for what --output writes")
    compile_model(model, output, options, said, replace=replace, as_json=format is Format.json)


@app.command("run")
def run_command(
    model: Model,
    input: Inputs = None,
    random: Random = None,
    shape: Shapes = None,
    dim: Dims = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the outputs to this .npz.")] = None,
    threads: Threads = 0,
    level: OptionLevel = Level.all,
    accurate: Accurate = False,
    bf16: Bf16 = False,
    trust: Directory = None,
    digest: Annotated[
        str | None, typer.Option("--require-digest", metavar="SHA256", help="Of the manifest that will do.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Run a model once and show its outputs."""
    from vitrify.cli.compile import options_of
    from vitrify.cli.run import run_once

    options = options_of(None, level.value, accurate, bf16, None, None)
    run_once(
        model, options, input or [], random, shape or [], dim or [], save, threads, (trust, digest),
        format is Format.json,
    )  # fmt: skip


@app.command("inspect")
def inspect_command(
    model: Model,
    dim: Dims = None,
    top: Annotated[int, typer.Option(min=1, help="How many kernels to list.")] = 15,
    trust: Directory = None,
    format: AsFormat = Format.text,
) -> None:
    """Show ops, dims, memory, kernels, and where the work is. An artifact may come from anybody: nothing of it runs."""
    from vitrify.cli.inspect import inspect_model

    inspect_model(model, dim or [], top, trust, format is Format.json)


app.add_typer(artifact_app.app)
app.add_typer(trust_app.app, name="trust")


@app.command("rebuild")
def rebuild_command(
    artifact: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)],
    model: Annotated[Path, typer.Argument(help="The model that it was made of.", show_default=False)],
    module: Annotated[
        list[str] | None,
        typer.Option("--import", help="A Python module that registers custom ops; may be repeated.", metavar="MODULE"),
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Make an artifact once more, in other surroundings, and compare every byte but the signature's.

    The exit status is 1 where they differ.
    """
    from vitrify.cli.rebuild import rebuild_artifact

    if not rebuild_artifact(artifact, model, module or [], format is Format.json):
        raise typer.Exit(1)


@app.command("bench")
def bench_command(
    model: Model,
    input: Inputs = None,
    random: Annotated[int, typer.Option("--random", min=0, help="Seed of inputs not given.", metavar="SEED")] = 0,
    shape: Shapes = None,
    dim: Dims = None,
    threads: Annotated[str, typer.Option(help="Threads of a call; default 1 and one per core.", metavar="N,…")] = "",
    callers: Annotated[str, typer.Option(help="How many call at once; same default.", metavar="N,…")] = "",
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="Of each engine and number.")] = 1.0,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="How far elements may differ, in parts of the largest; default by type."),
    ] = None,
    bf16: Bf16 = False,
    force: Annotated[bool, typer.Option("--force", help="Time even where results differ.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compile anew, and tell how long it took.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Draw a chart: .svg, .png or .pdf.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write everything to this file, too.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Measure a model, beside onnxruntime and OpenVINO where they are installed.

    Results are compared first; where they differ nothing is timed, and the exit status is 3.
    """
    from vitrify.cli.bench import BenchOptions, bench_model

    options = BenchOptions(
        input or [], random, shape or [], dim or [], threads, callers, seconds, tolerance, bf16, force, fresh, chart,
        json,
    )  # fmt: skip
    if status := bench_model(model, options, as_json=format is Format.json):
        raise typer.Exit(status)


replay = typer.Typer(no_args_is_help=True, help="Record a run in one file, and run it again.")
app.add_typer(replay, name="replay")
Bundle = Annotated[Path, typer.Argument(help="The bundle: one file.", show_default=False)]


@replay.command("make")
def replay_make(
    model: Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)],
    bundle: Bundle,
    input: Inputs = None,
    random: Random = None,
    shape: Shapes = None,
    dim: Dims = None,
    threads: Threads = 0,
    level: OptionLevel = Level.all,
    accurate: Accurate = False,
    bf16: Bf16 = False,
    weights: Annotated[bool, typer.Option(help="Keep the weights, or put seeded numbers in their place.")] = True,
    format: AsFormat = Format.text,
) -> None:
    """Run a model and record model, inputs, options, versions, and what came out."""
    from vitrify.cli import replay as command
    from vitrify.cli.compile import options_of

    options = options_of(None, level.value, accurate, bf16, None, None)
    command.make(
        model, bundle, input or [], random, shape or [], dim or [], options, threads, weights, format is Format.json
    )


@replay.command("run")
def replay_run(
    bundle: Bundle,
    threads: Annotated[int | None, typer.Option(min=0, help="Other than recorded.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Run a bundle here; the exit status is 1 when something else comes out."""
    from vitrify.cli import replay as command

    if not command.run(bundle, threads, format is Format.json):
        raise typer.Exit(1)


@app.command()
def doctor(format: AsFormat = Format.text) -> None:
    """Tell CPU, targets, threads, compiler and cache; the exit status is 1 when something is wrong."""
    from vitrify.cli.doctor import examine

    if not examine(format is Format.json):
        raise typer.Exit(1)


def run(arguments: list[str] | None = None) -> int:
    """The exit status of ``vitrify`` with ``arguments``."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "json" in given or "--format=json" in given
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        return _run(given, as_json)


def _run(given: list[str], as_json: bool) -> int:
    try:
        status = app(given, standalone_mode=False)
    except VitrifyError as error:
        from vitrify.cli.failures import show as show_failure
        from vitrify.cli.failures import status_of

        show_failure(error, as_json)
        return status_of(error)
    except BrokenPipeError:  # the reader of the output went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except typer.Abort:
        return 130
    except Exception as error:
        show = getattr(error, "show", None)  # click's usage errors show themselves
        if show is None:
            from vitrify.cli.failures import INTERNAL, show_internal

            show_internal(error, as_json)
            if os.environ.get("VITRIFY_DEBUG", "0") != "0":
                raise
            return INTERNAL
        show()
        return int(getattr(error, "exit_code", 2))
    return status if isinstance(status, int) else 0

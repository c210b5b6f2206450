"""``vitrify replay make`` and ``vitrify replay run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.markup import escape

from vitrify.cli.compile import artifact_of, scaled
from vitrify.cli.console import console
from vitrify.cli.feeds import Feed, make_feed
from vitrify.errors import InvalidArgumentError, VitrifyError
from vitrify.options import CompileOptions
from vitrify.replay import make_replay, run_replay

_RAN = "ran"  # the outcome of a run without an error


def make(
    model: Path, bundle: Path, files: Sequence[str], seed: int | None, shapes: Sequence[str], dims: Sequence[str],
    options: CompileOptions, threads: int, weights: bool, as_json: bool,
) -> None:  # fmt: skip
    """Writes the bundle, and tells how large it is."""
    feed = _feed(model, files, seed, shapes, dims, options)
    made = make_replay(bundle, model, feed, options=options, threads=threads, weights=weights)
    size = made.stat().st_size
    if as_json:
        json.dump({"bundle": str(made), "bytes": size}, sys.stdout)
        print()
        return
    how = f"[bold]vitrify replay run {escape(made.name)}[/] runs it"
    console().print(f"{escape(str(made))}: {scaled(size, 'B')}; {how}", soft_wrap=True)


def _feed(
    model: Path, files: Sequence[str], seed: int | None, shapes: Sequence[str], dims: Sequence[str],
    options: CompileOptions,
) -> Feed:  # fmt: skip
    try:
        ports = artifact_of(model, options).manifest.inputs
    except VitrifyError:
        return _stored(files)  # what fails to compile is worth a bundle too
    return make_feed(ports, files, seed, shapes, dims)


def _stored(files: Sequence[str]) -> Feed:
    """Arrays of .npy files by name, of an .npz by its own names."""
    feed: Feed = {}
    for text in files:
        name, _, file = text.rpartition("=")
        try:
            found = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(
                f"{file} cannot be read: {error}", expected="NAME=FILE.npy, or FILE.npz"
            ) from None
        feed |= {name: found} if name else dict(found)
    return feed


def run(bundle: Path, threads: int | None, as_json: bool) -> bool:
    """Whether the recorded outcome came again."""
    found = run_replay(bundle, threads=threads)
    if as_json:
        json.dump({**vars(found), "differences": {k: _number(v) for k, v in found.differences.items()}}, sys.stdout)
        print()
        return found.same
    out = console()
    word = "the same bits" if found.exact else "the same within 1e-5" if found.same else "[bold red]not the same[/]"
    what = f": recorded {_short(found.expected)}, now {_short(found.found)}"
    out.print(word if found.expected == found.found == _RAN else word + what)
    for name, difference in found.differences.items():
        out.print(f"  output {escape(name)}: largest relative difference {difference:.2g}")
    for name, (then, now) in found.versions.items():
        out.print(f"  [dim]{name}: recorded with {then}, now {now}[/]")
    return found.same


def _short(outcome: str) -> str:
    return escape(outcome.split("\n")[0][:200])


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None

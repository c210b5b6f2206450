"""Errors as the command line shows them, and the exit status of each."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitrify.artifact.examination import error_as_dict
from vitrify.cli.console import printable
from vitrify.errors import ArtifactError, VitrifyError

INTERNAL = 70  # a mistake of this program, as sysexits.h has it


def status_of(error: VitrifyError) -> int:
    """10 to 19 for artifacts, by what is wrong; 1 for everything else."""
    return error.code if isinstance(error, ArtifactError) else 1


def show(error: VitrifyError, as_json: bool) -> None:
    """Prints to standard error: what is wrong, where, what was expected and what came, what to do."""
    if as_json:
        print(json.dumps(as_dict(error)), file=sys.stderr)
        return
    out = Console(stderr=True, highlight=False)
    if isinstance(error, ArtifactError):
        print_refusal(out, error)
        return
    out.print(Text.assemble((type(error).__name__, "bold red"), f": {printable(str(error))}"), soft_wrap=True)


def as_dict(error: VitrifyError) -> dict[str, Any]:
    """As JSON has it; ``message`` is all of the text."""
    if not isinstance(error, ArtifactError):
        return {"error": type(error).__name__, "code": status_of(error), "message": str(error)}
    return {**error_as_dict(error), "message": str(error)}


def print_refusal(out: Console, error: ArtifactError) -> None:
    """An error about an artifact, part by part."""
    kind = (f"✗ {type(error).__name__}", "bold red")
    out.print(Text.assemble(kind, (f" ({error.code})", "dim"), f": {printable(error.message)}"), soft_wrap=True)
    parts = Table.grid(padding=(0, 2))
    parts.add_column(style="dim", no_wrap=True)
    parts.add_column(overflow="fold")
    for name in ("path", "expected", "actual", "hint"):
        value = getattr(error, name)
        if value is not None:
            parts.add_row(f"  {name}", Text(printable(shortened(str(value)))))
    out.print(parts)


def shortened(text: str) -> str:
    """At most some lines of a terminal."""
    return text if len(text) <= 600 else f"{text[:400]} … {text[-100:]}"


def show_internal(error: Exception, as_json: bool) -> None:
    """A mistake of this program: one line, and where it happened."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_globals.get('__name__')}:{last.tb_lineno}"
    message = f"internal error: {type(error).__name__}: {error}{where}"
    if as_json:
        print(json.dumps({"error": "InternalError", "code": INTERNAL, "message": message}), file=sys.stderr)
        return
    print(f"{message}\n  hint: this is a bug; VITRIFY_DEBUG=1 shows where it comes from", file=sys.stderr)

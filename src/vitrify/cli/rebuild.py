"""``vitrify rebuild``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from vitrify.cli.console import console, table


def rebuild_artifact(artifact: Path, model: Path, modules: Sequence[str], as_json: bool) -> bool:
    """Shows whether a second build gives the same bytes, and what differs where it does not; whether it does."""
    from vitrify.origin.rebuild import rebuild

    found = rebuild(artifact, model, modules=modules)
    if as_json:
        json.dump(found.as_dict(), sys.stdout, indent=1)
        print()
        return found.same
    out = console()
    where = ", ".join(f"{name} {found.surroundings[name]}" for name in ("TZ", "LC_ALL", "umask", "PYTHONHASHSEED"))
    if found.same:
        out.print(f"[bold green]✓[/] the same bytes again: manifest {found.digest}", soft_wrap=True)
    else:
        out.print(f"[bold red]✗[/] other bytes: {escape(', '.join(found.files))}", soft_wrap=True)
    out.print(f"[dim]built again in another directory, without a cache, with {where}[/]", soft_wrap=True)
    if found.differences:
        shown = table("", "what", "artifact", "rebuilt")
        for area, what, before, after in found.differences:
            shown.add_row(f"[dim]{area}[/]", escape(what), escape(before or "–"), escape(after or "–"))
        out.print(shown)
    return found.same

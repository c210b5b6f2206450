"""``vitrify sign``, ``vitrify pack`` and ``vitrify diff``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vitrify.artifact.schema import moment
from vitrify.cli.console import console, escape, table
from vitrify.cli.failures import shortened

if TYPE_CHECKING:
    from vitrify.artifact.comparison import Comparison
    from vitrify.artifact.examination import Inspection
    from vitrify.artifact.trust.envelope import Seal
    from vitrify.artifact.trust.policy import Policy


def sign(path: Path, key: Path | None, said: dict[str, Any], trust: str | None, as_json: bool) -> None:
    """Signs in place, and tells what the artifact says now."""
    import vitrify

    before = vitrify.inspect(path, trust)
    found = vitrify.sign(path, key, trust=trust, **said)
    dropped = len(set(before.signatures) - set(found.signatures))
    if as_json:
        json.dump({**found.as_dict(), "dropped_signatures": dropped}, sys.stdout, indent=1)
        print()
        return
    out = console()
    out.print(f"[bold green]✓[/] signed {escape(str(path))}", soft_wrap=True)
    print_seal(out, found, vitrify.trust.policy(trust))
    if dropped:
        noun = "signature was" if dropped == 1 else "signatures were"
        out.print(f"[yellow]![/] {dropped} {noun} of what it said before, and went")


def print_seal(out: Console, found: Inspection, policy: Policy) -> None:
    """What an artifact's signatures say, and what the policy makes of it."""
    from vitrify.cli.trust import names_of

    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    shown.add_row("  digest", found.digest)
    if found.seal is not None:
        for name, value in _words(found.seal):
            shown.add_row(f"  {name}", escape(value))
        shown.add_row("  signed by", escape(", ".join(names_of(policy, found.signatures))))
    out.print(shown)
    if found.refusal is None:
        why = "" if found.seal is not None else " although nobody signed it: the policy is one for development"
        out.print(f"  [green]✓[/] this machine's policy accepts it{why}")
        return
    name, code = type(found.refusal).__name__, found.refusal.code
    out.print(f"  [yellow]✗[/] this machine would refuse it: {name} ({code}), {escape(found.refusal.message)}")


def _words(seal: Seal) -> list[tuple[str, str]]:
    since = "" if not seal.not_before else f"from {moment(seal.not_before)} "
    until = "without end" if seal.expires is None else f"until {moment(seal.expires)}"
    return [
        ("product", seal.product or "–"), ("release", str(seal.release)), ("valid", since + until),
        ("licence", seal.licence or "–"),
    ]  # fmt: skip


def pack(source: Path, target: Path, replace: bool, as_json: bool) -> None:
    """Copies, and tells where to."""
    import vitrify

    vitrify.pack(source, target, replace=replace)
    if as_json:
        json.dump({"source": str(source), "target": str(target)}, sys.stdout)
        print()
        return
    console().print(f"[bold green]✓[/] {escape(str(target))}", soft_wrap=True)


def diff(before: Path, after: Path, as_json: bool) -> int:
    """The exit status: 0 where they are the same, 1 where they are not."""
    import vitrify

    found = vitrify.diff(before, after)
    if as_json:
        json.dump(found.as_dict(), sys.stdout, indent=1)
        print()
    else:
        _print_differences(console(), found)
    return 0 if found.same else 1


def _print_differences(out: Console, found: Comparison) -> None:
    if found.same:
        out.print("[bold green]=[/] the same interface, code, weights, words and seal")
        return
    out.print(f"[red]-[/] {escape(found.before)}", soft_wrap=True)
    out.print(f"[green]+[/] {escape(found.after)}", soft_wrap=True)
    shown = table("", "what", "before", "after")
    last = ""
    for area, what, before, after in found.differences:
        cells = (_cell(before, "red"), _cell(after, "green"))
        shown.add_row("" if area == last else f"[bold]{area}[/]", escape(shortened(what)), *cells)
        last = area
    out.print(shown)
    if found.digests[0] == found.digests[1]:
        out.print("[dim]the contents are the same: the seal alone differs[/]")


def _cell(value: str | None, style: str) -> str:
    return "[dim]–[/]" if value is None else f"[{style}]{escape(shortened(value))}[/]"

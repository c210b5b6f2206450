"""``vitrify verify``: what was examined, or what is wrong, as text, JSON or SARIF."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from vitrify import errors
from vitrify.cli.console import console, escape
from vitrify.cli.failures import as_dict, print_refusal
from vitrify.errors import ArtifactError

if TYPE_CHECKING:
    from vitrify.artifact.examination import Verification

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def verify_artifact(path: Path, trust: str | None, form: str) -> int:
    """The exit status: 0, or the code of what is wrong."""
    import vitrify

    found: Verification | None = None
    error: ArtifactError | None = None
    try:
        found = vitrify.verify(path, trust)
    except ArtifactError as refusal:
        error = refusal
    if form == "sarif":
        json.dump(sarif(path, found, error), sys.stdout, indent=1)
        print()
    elif form == "json":
        said = {"error": as_dict(error)} if error else found.as_dict() if found else {}
        json.dump({"verified": error is None, **said}, sys.stdout, indent=1)
        print()
    elif error is not None:
        print_refusal(Console(stderr=True, highlight=False), error)
    elif found is not None:
        _print(found, trust)
    return 0 if error is None else error.code


def _print(found: Verification, trust: str | None) -> None:
    from vitrify.artifact.trust.store import Store
    from vitrify.cli.trust import names_of

    out = console()
    out.print(f"[bold]{escape(found.path)}[/]", soft_wrap=True)
    shown = Table.grid(padding=(0, 2))
    for check in found.checks:
        shown.add_row("  [green]✓[/]", check.what, f"[dim]{escape(check.found)}[/]")
    out.print(shown)
    if not found.signers:
        out.print("[bold yellow]![/] unsigned: it passes only because the policy is one for development")
        return
    signers = ", ".join(names_of(Store(trust).policy(), sorted(found.signers)))
    out.print(f"[bold green]✓[/] verified, signed by {escape(signers)}")


def sarif(path: Path, found: Verification | None, error: ArtifactError | None) -> dict[str, Any]:
    """The log of one run in SARIF 2.1.0: each class of errors is a rule, the refusal is the one result."""
    from vitrify import __version__

    classes = sorted(
        (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, ArtifactError)),
        key=lambda c: (c.code, c.__name__),
    )
    rules = [
        {
            "id": c.__name__, "name": c.__name__, "shortDescription": {"text": " ".join((c.__doc__ or "").split())},
            "defaultConfiguration": {"level": "error"}, "properties": {"exitStatus": c.code},
        }
        for c in classes
    ]  # fmt: skip
    where: dict[str, Any] = {"location": {"uri": quote(path.as_posix())}}
    if found is not None:
        where |= {"properties": {"manifestSha256": found.digest, "signers": sorted(found.signers)}}
    results = [] if error is None else [_result(path, error, [c.__name__ for c in classes])]
    run = {
        "tool": {"driver": {"name": "vitrify", "version": __version__, "rules": rules}},
        "invocations": [{"executionSuccessful": True, "exitCode": 0 if error is None else error.code}],
        "artifacts": [where], "results": results, "columnKind": "utf16CodeUnits",
    }  # fmt: skip
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(path: Path, error: ArtifactError, rules: list[str]) -> dict[str, Any]:
    location = {"physicalLocation": {"artifactLocation": {"uri": quote(path.as_posix()), "index": 0}}}
    name = type(error).__name__
    return {
        "ruleId": name, "ruleIndex": rules.index(name), "level": "error", "message": {"text": str(error)},
        "locations": [location], "properties": {k: v for k, v in as_dict(error).items() if v is not None},
    }  # fmt: skip

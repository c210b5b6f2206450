"""Commands and options about sealed artifacts, beside those that models have too."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitrify.cli.trust_app import AsFormat, Directory, Format

app = typer.Typer()


class VerifyFormat(StrEnum):
    """How the result of an examination is shown."""

    text = "text"
    json = "json"
    sarif = "sarif"


Artifact = Annotated[Path, typer.Argument(help="An artifact: a file, or a directory.", show_default=False)]
Product = Annotated[str | None, typer.Option(help="Which product it is, by the name the policy has for it.")]
Release = Annotated[int | None, typer.Option(min=0, help="A number that only grows; older ones are refused.")]
NotBefore = Annotated[str | None, typer.Option(metavar="MOMENT", help="From when on: 2026-01-31, or with T00:00:00Z.")]
Expires = Annotated[str | None, typer.Option(metavar="MOMENT", help="Until when; never: without end.")]
Licence = Annotated[str | None, typer.Option(help="Such as Apache-2.0.")]
SigningKey = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="A private key; without it, this machine's.")
]


@app.command()
def verify(
    artifact: Artifact,
    trust: Directory = None,
    format: Annotated[VerifyFormat, typer.Option("--format", help="How to show the result.")] = VerifyFormat.text,
) -> None:
    """Examine all of an artifact; nothing of it runs. The exit status says what is wrong (docs/artifacts.md)."""
    from vitrify.cli.verify import verify_artifact

    if status := verify_artifact(artifact, trust, format.value):
        raise typer.Exit(status)


@app.command()
def sign(
    artifact: Artifact,
    key: SigningKey = None,
    product: Product = None,
    release: Release = None,
    not_before: NotBefore = None,
    expires: Expires = None,
    licence: Licence = None,
    trust: Directory = None,
    format: AsFormat = Format.text,
) -> None:
    """Sign an artifact in place. What is not given stays; signatures of the same statement stay, too."""
    from vitrify.cli.seal import sign as command

    said = {
        "product": product, "release": release, "not_before": not_before, "expires": expires, "licence": licence,
    }  # fmt: skip
    command(artifact, key, said, trust, format is Format.json)


@app.command()
def pack(
    source: Artifact,
    target: Annotated[Path, typer.Argument(help="One file where it ends in .vit, else a directory.")],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an artifact.")] = False,
    format: AsFormat = Format.text,
) -> None:
    """Copy an artifact, signatures and all, as a file or as a directory."""
    from vitrify.cli.seal import pack as command

    command(source, target, replace, format is Format.json)


@app.command()
def diff(
    before: Artifact,
    after: Artifact,
    format: AsFormat = Format.text,
) -> None:
    """Tell two artifacts apart: interface, kernels, weights, seal. The exit status is 1 where they differ."""
    from vitrify.cli.seal import diff as command

    if status := command(before, after, format is Format.json):
        raise typer.Exit(status)

"""Commands and options of ``vitrify trust``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vitrify.artifact.trust.policy import Policy
    from vitrify.trust import How

app = typer.Typer(no_args_is_help=True, help="Say whose artifacts this machine loads.")


class Format(StrEnum):
    """How results are shown."""

    text = "text"
    json = "json"


class Switch(StrEnum):
    """On or off."""

    on = "on"
    off = "off"


AsFormat = Annotated[Format, typer.Option("--format", help="How to show the result.")]
Directory = Annotated[
    str | None, typer.Option("--trust", metavar="DIR", help="Where key and policy lie, if not $VITRIFY_TRUST_DIR.")
]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="A root key that signs the policy, too; may be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Even where a product could not load any more.")]
Draft = Annotated[
    Path | None, typer.Option("--draft", metavar="FILE", help="Write the policy here, for others to sign first.")
]
Undo = Annotated[bool, typer.Option("--undo", help="Take it back.")]


def _how(trust: str | None, key: list[Path] | None, force: bool, draft: Path | None) -> How:
    return {"signers": key or [], "trust": trust, "force": force, "draft": draft}


def _change(name: str, arguments: tuple[Any, ...], options: dict[str, Any], how: How, format: Format) -> None:
    """One of ``vitrify.trust``'s changes, made and shown."""
    import vitrify.trust
    from vitrify.cli.trust import changed

    before: Policy = vitrify.trust.policy(how["trust"])
    after: Policy = getattr(vitrify.trust, name)(*arguments, **options, **how)
    draft = how["draft"]
    changed(after, before, None if draft is None else Path(draft), format is Format.json)


@app.command()
def show(trust: Directory = None, format: AsFormat = Format.text) -> None:
    """Show the policy: products, keys, releases, what is denied."""
    from vitrify.cli.trust import show as command

    command(trust, format is Format.json)


@app.command("list")
def list_command(trust: Directory = None, format: AsFormat = Format.text) -> None:
    """List the keys, and what each may sign."""
    from vitrify.cli.trust import list_keys

    list_keys(trust, format is Format.json)


@app.command()
def add(
    public: Annotated[str, typer.Argument(metavar="KEY", help="A public key: its file, or its digits.")],
    product: Annotated[str, typer.Option(help="What it may sign; default: all products without own keys.")] = "*",
    threshold: Annotated[int | None, typer.Option(min=1, help="How many of the product's keys have to sign.")] = None,
    comment: Annotated[str, typer.Option(help="Whose it is.")] = "",
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Trust a key. A product with keys of its own is signed by those alone."""
    options = {"product": product, "threshold": threshold, "comment": comment}
    _change("add", (public,), options, _how(trust, key, force, draft), format)


@app.command()
def revoke(
    public: Annotated[str, typer.Argument(metavar="ID", help="A key's id, or 8 or more of its first digits.")],
    undo: Undo = False, key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Trust a key no more, wherever it is listed."""
    _change("revoke", (public,), {"undo": undo}, _how(trust, key, force, draft), format)


@app.command()
def rotate(
    root: Annotated[
        list[Path] | None, typer.Argument(metavar="[KEY]...", help="New root keys; none: a new key of this machine.")
    ] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys have to sign.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Refuse what this machine's old key signed.")] = False,
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Exchange the keys that sign the policy: both the old and the new ones sign this one."""
    options = {"threshold": threshold, "revoke": revoke}
    _change("rotate", (root or [],), options, _how(trust, key, force, draft), format)


@app.command()
def deny(
    artifact: Annotated[str, typer.Argument(help="An artifact, or the SHA-256 of its manifest.")],
    undo: Undo = False, key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Refuse one artifact, whoever signed it."""
    _change("deny", (artifact,), {"undo": undo}, _how(trust, key, force, draft), format)


@app.command("min-release")
def min_release(
    product: Annotated[str, typer.Argument(help="The product.")],
    release: Annotated[int, typer.Argument(min=0, help="The least that loads.")],
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Refuse releases of a product before this one."""
    _change("min_release", (product, release), {}, _how(trust, key, force, draft), format)


@app.command()
def development(
    allowed: Annotated[Switch, typer.Argument(help="on or off")],
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Let unsigned artifacts load, with a warning each time; or not."""
    _change("development", (allowed is Switch.on,), {}, _how(trust, key, force, draft), format)


@app.command()
def licences(
    allowed: Annotated[list[str] | None, typer.Argument(metavar="[LICENCE]...", help="Such as Apache-2.0.")] = None,
    every: Annotated[bool, typer.Option("--any", help="Any licence, and none.")] = False,
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Load artifacts under these licences alone."""
    if every == bool(allowed):
        raise typer.BadParameter("either licences, or --any")
    _change("licences", (None if every else allowed,), {}, _how(trust, key, force, draft), format)


@app.command()
def expires(
    moment: Annotated[str, typer.Argument(help="A date, a moment in UTC, or never.")],
    key: Keys = None, trust: Directory = None, force: Force = False, draft: Draft = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Say until when the policy itself holds."""
    _change("expires", (None if moment == "never" else moment,), {}, _how(trust, key, force, draft), format)


@app.command()
def install(
    policy: Annotated[Path, typer.Argument(help="What 'trust export' or 'trust cosign' wrote.", show_default=False)],
    trust: Directory = None, force: Force = False, format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Take over a policy: the first one as it is, later ones where the present root keys signed them."""
    import vitrify.trust
    from vitrify.cli.trust import changed

    before = vitrify.trust.policy(trust)
    changed(vitrify.trust.install(policy, trust=trust, force=force), before, None, format is Format.json)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)], trust: Directory = None,
    format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Write the policy to a file, for 'trust install' on other machines."""
    import vitrify.trust

    _write(file, vitrify.trust.export(trust), format)


@app.command()
def cosign(
    policy: Annotated[Path, typer.Argument(help="A draft; it gets one more signature.", show_default=False)],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="A root key.")],
    format: AsFormat = Format.text,
) -> None:
    """Sign a policy that another machine drafted."""
    import vitrify.trust

    _write(policy, vitrify.trust.cosign(vitrify.trust.read_file(policy), key), format, replace=True)


@app.command("key")
def key_command(
    new: Annotated[Path | None, typer.Option("--new", metavar="FILE", help="Make a private key in a new file.")] = None,
    trust: Directory = None, format: AsFormat = Format.text,
) -> None:  # fmt: skip
    """Print this machine's public key, for 'trust add' on others; or make another key."""
    import vitrify.trust
    from vitrify.cli.trust import print_key

    if new is None:
        print_key(vitrify.trust.machine_key(trust), "this machine's key", format is Format.json)
    else:
        print_key(vitrify.trust.new_key(new), f"{new} and {new}.pub", format is Format.json)


def _write(path: Path, data: bytes, format: Format, *, replace: bool = False) -> None:
    """All of it or nothing."""
    import os

    from vitrify.cli.trust import print_written
    from vitrify.errors import PolicyError

    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not replace and path.exists():
            raise FileExistsError(17, "it exists already")
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise PolicyError(f"cannot be written: {error.strerror}", path=str(path)) from None
    print_written(path, data, format is Format.json)

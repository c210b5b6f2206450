"""The table of attacks: what each writes, and how it has to be refused."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vitrify.errors import ArtifactError

from . import forge

MODULES = (
    "containers", "limits", "manifests", "integrity", "signatures", "trust", "policies", "platforms", "native",
    "races", "schemas", "leaks",
)  # fmt: skip

#: Writes an artifact at a path that does not exist.
Write = Callable[[Path], None]


class Attack(NamedTuple):
    """``write`` writes the artifact at a path, and at ``forge.trust_of(path)`` the trust directory
    (``VITRIFY_TRUST_DIR``) to examine it with. ``error`` is the class of the refusal, ``code`` its exit status,
    ``message`` an expression that is found in its text.

    ``stage`` is what meets it first: "load" (it is opened), "run" (a session is made and run), or "verify" (everything
    is examined, for other systems' targets too). ``mapped``: it shows only in what was loaded, which ran nothing.
    """

    name: str
    write: Write
    error: type[ArtifactError]
    code: int
    message: str
    stage: str
    mapped: bool


_found: list[Attack] = []


def attack(
    name: str, error: type[ArtifactError], message: str, write: Write, *, stage: str = "load", mapped: bool = False
) -> None:
    """Adds one."""

    def complete(path: Path) -> None:
        write(path)
        if not forge.trust_of(path).exists():
            forge.write_trust(path)

    assert name not in {other.name for other in _found}, name
    _found.append(Attack(name, complete, error, error.code, message, stage, mapped))


def attacks() -> Iterator[Attack]:
    """All of them."""
    for module in MODULES:
        importlib.import_module(f"{__package__}.{module}")
    yield from _found


def changed(change: Callable[[forge.Parts], object], *, folder: bool = False) -> Write:
    """Writes the artifact with its parts changed, listed and signed."""

    def write(path: Path) -> None:
        parts = forge.base()
        change(parts)
        (forge.write_folder if folder else forge.write_file)(path, parts.members())

    return write


def members(change: Callable[[dict[str, bytes]], object], *, folder: bool = False) -> Write:
    """Writes the artifact with its files changed after it was signed."""

    def write(path: Path) -> None:
        found = forge.base().members()
        change(found)
        (forge.write_folder if folder else forge.write_file)(path, found)

    return write

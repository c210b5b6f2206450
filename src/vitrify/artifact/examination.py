"""Artifacts looked at without being run: what one says, whether the policy takes it, and whether all of it is sound."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..errors import ArtifactError
from . import schema as s
from .archive import Archive
from .loading import Artifact, Opened, accept, check_abi, open_artifact
from .manifest import Manifest
from .trust.envelope import Seal
from .trust.store import Store


class Inspection(NamedTuple):
    """What an artifact says of itself, which need not be true of its files, and what this machine makes of it.

    ``form`` is file or directory, ``size`` its bytes, ``digest`` the SHA-256 of its manifest. ``signatures`` are the
    ids of the keys that it names, ``signers`` those of the trusted keys that did sign it. ``refusal`` is what the
    policy has against it, None where it would be accepted.
    """

    path: str
    form: str
    size: int
    digest: str
    manifest: Manifest
    seal: Seal | None
    signatures: tuple[str, ...]
    signers: frozenset[str]
    refusal: ArtifactError | None

    @property
    def accepted(self) -> bool:
        """Whether the policy would let it load."""
        return self.refusal is None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, but for the manifest."""
        error = self.refusal
        return {
            "path": self.path, "form": self.form, "size": self.size, "digest": self.digest,
            "seal": seal_as_dict(self.seal), "signatures": list(self.signatures), "signers": sorted(self.signers),
            "accepted": self.accepted, "refusal": None if error is None else error_as_dict(error),
        }  # fmt: skip


class Check(NamedTuple):
    """Something that was examined and is as it should be."""

    what: str
    found: str


class Verification(NamedTuple):
    """An artifact all of which is sound: by whom it is signed, and what was examined, in that order. ``signers`` is
    empty where a policy for development let an unsigned one pass."""

    path: str
    form: str
    digest: str
    seal: Seal | None
    signers: frozenset[str]
    targets: tuple[str, ...]
    checks: tuple[Check, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "path": self.path, "form": self.form, "digest": self.digest, "seal": seal_as_dict(self.seal),
            "signers": sorted(self.signers), "targets": list(self.targets),
            "checks": [check._asdict() for check in self.checks],
        }  # fmt: skip


def seal_as_dict(seal: Seal | None) -> dict[str, Any] | None:
    """A seal with its moments as documents have them."""
    if seal is None:
        return None
    expires = None if seal.expires is None else s.moment(seal.expires)
    return {**seal._asdict(), "not_before": s.moment(seal.not_before), "expires": expires}


def error_as_dict(error: ArtifactError) -> dict[str, Any]:
    """An error's class, exit status and parts, as text."""
    parts = {name: getattr(error, name) for name in ("path", "expected", "actual", "hint")}
    plain = {name: value if value is None else str(value) for name, value in parts.items()}
    return {"error": type(error).__name__, "code": error.code, "message": error.message, **plain}


def inspect_artifact(path: str | os.PathLike[str], store: Store) -> Inspection:
    """What is at ``path``: its container, documents and list of files are read, nothing is mapped, nothing is
    remembered. Raises ArtifactError for what is no artifact, or is a damaged one."""
    opened = open_artifact(path)
    try:
        signers, refusal = frozenset[str](), None
        try:
            signers = accept(opened, store, note=False)
        except ArtifactError as error:
            refusal = error
        form, size = _form(opened)
        signatures = () if opened.signed is None else tuple(sorted(opened.signed.signatures))
        found = opened.source.path, form, size, opened.digest, opened.manifest, opened.seal
        return Inspection(*found, signatures, signers, refusal)
    finally:
        opened.source.close()


def verify_artifact(path: str | os.PathLike[str], store: Store, abi: str) -> Verification:
    """Examines all of what is at ``path``, maps no code of it, and remembers no release. ``abi`` is the digest of the
    runtime's interface.

    Raises ArtifactError, of the class that says what is wrong, for the first thing that is.
    """
    opened = open_artifact(path)
    try:
        unsigned = opened.seal is None
        signers = accept(opened, store, note=unsigned)  # which warns of development
        check_abi(opened.manifest, abi, opened.source.path)
        Artifact(opened, signers).verify()
        files, targets = opened.manifest.files, opened.manifest.targets
        form, size = _form(opened)
        leaves = sum(files[name].size // 32 for name in {t.leaves for t in targets if t.leaves})
        seal = opened.seal
        signed = "none: the policy is one for development" if seal is None else _many(len(signers), "trusted key")
        release = "" if seal is None else f"release {seal.release} of {seal.product or 'no product'}"
        checks = (
            Check("container", f"{form}, {_many(len(opened.source.entries), 'member')}, {size:,} bytes"),
            Check("signature", signed),
            *([] if seal is None else [Check("policy", release + _validity(seal))]),
            Check("interface", f"ABI {abi[:16]}…, {_many(len(targets), 'target')}"),
            Check("files", f"{_many(len(files), 'file')} with their SHA-256"),
            Check("native code", ", ".join(f"{t.target} ({t.os}-{t.architecture})" for t in targets)),
            Check("leaks", "no path of the machine that built it"),
            Check("weights", _many(leaves, "leaf", "leaves") if leaves else "none"),
        )
        names = tuple("+".join((t.target, *t.features)) for t in targets)
        return Verification(opened.source.path, form, opened.digest, seal, signers, names, checks)
    finally:
        opened.source.close()


def _form(opened: Opened) -> tuple[str, int]:
    source = opened.source
    if isinstance(source, Archive):
        return "file", source.size
    return "directory", sum(entry.size for entry in source.entries.values())


def _validity(seal: Seal) -> str:
    until = "" if seal.expires is None else f", until {s.moment(seal.expires)}"
    return f", from {s.moment(seal.not_before)}{until}" if seal.not_before else until


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"

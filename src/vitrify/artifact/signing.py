"""Signatures put to artifacts that exist, and artifacts carried from one form to the other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from ..errors import ArtifactError, InvalidArgumentError, LimitError
from . import schema as s
from .folder import Folder
from .loading import Artifact, Opened, open_artifact
from .manifest import SIGNATURE
from .trust.envelope import MAX_SIGNATURES, STATEMENT_TYPE, Seal, sign, statement
from .trust.keys import Signer
from .writing import copy_artifact, unwritable

Moment = int | str | datetime
_DAY = "T00:00:00Z"
_MOMENT = "2026-01-31 or 2026-01-31T00:00:00Z (UTC)"


def moment_of(name: str, value: Moment) -> int:
    """Seconds since 1970 of a number of them, a date or moment in UTC as text, or a datetime with a zone.
    InvalidArgumentError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, str, datetime)):
        raise InvalidArgumentError(name, expected=_MOMENT, actual=repr(value))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidArgumentError(name, expected="a datetime with a time zone", actual=value)
        value = int(value.astimezone(UTC).timestamp())
    if isinstance(value, int):
        if not 0 <= value < 1 << 37:  # the year 6325: moments are written with four digits
            raise InvalidArgumentError(name, expected="seconds since 1970", actual=value)
        return value
    try:
        return int(s.instant(value if "T" in value else value + _DAY, name))
    except ArtifactError:
        raise InvalidArgumentError(name, expected=_MOMENT, actual=repr(value)) from None


def stated(
    present: Seal, *, product: str | None = None, release: int | None = None, not_before: Moment | None = None,
    expires: Moment | None = None, licence: str | None = None,
) -> Seal:  # fmt: skip
    """The seal with what is given in place of what it says; ``expires="never"`` takes an end away.

    InvalidArgumentError for a product, a release, a licence or a moment that is none, and where it would expire before
    it is valid.
    """
    if product is not None:
        present = present._replace(product=check_text("product", product))
    if licence is not None:
        present = present._replace(licence=check_text("licence", licence))
    if release is not None:
        if isinstance(release, bool) or not isinstance(release, int) or not 0 <= release < 1 << 53:
            raise InvalidArgumentError("release", expected="an integer from 0 to 2**53 - 1", actual=repr(release))
        present = present._replace(release=release)
    if not_before is not None:
        present = present._replace(not_before=moment_of("not_before", not_before))
    if expires is not None:
        present = present._replace(expires=None if expires == "never" else moment_of("expires", expires))
    if present.expires is not None and present.expires < present.not_before:
        raise InvalidArgumentError(
            "expires", expected=f"a moment from not_before, {s.moment(present.not_before)}, on",
            actual=s.moment(present.expires),
        )  # fmt: skip
    return present


def check_text(name: str, value: object) -> str:
    """The value, where it is a name that people can read. InvalidArgumentError for anything else."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200 or value == "*":
        raise InvalidArgumentError(name, expected="at most 200 characters that can be printed", actual=repr(value))
    return value


def envelope_of(opened: Opened, seal: Seal, signer: Signer) -> bytes:
    """The envelope of ``seal`` with the signature of ``signer``, beside those that say the same already.
    LimitError for the seventeenth."""
    payload = statement(seal)
    same = opened.signed is not None and opened.signed.payload == payload
    present = dict(opened.signed.signatures) if opened.signed is not None and same else {}
    if len({*present, signer.id}) > MAX_SIGNATURES:
        raise LimitError("too many signatures", path=opened.source.path, expected=f"at most {MAX_SIGNATURES}")
    return sign(STATEMENT_TYPE, payload, [signer], present)


def seal_of(opened: Opened) -> Seal:
    """What is said of the artifact; of an unsigned one, what a signature would say by itself."""
    if opened.seal is not None:
        return opened.seal
    documents = {entry.role: entry.sha256 for entry in opened.manifest.files.values()}
    return Seal(opened.digest, "", 0, 0, None, "", documents.get("sbom"), documents.get("provenance"))


def sign_artifact(path: str | os.PathLike[str], signer: Signer, **said: object) -> None:
    """Signs the artifact in place; ``said`` are arguments of :func:`stated`.

    Everything in it is examined first. Signatures of the same statement stay beside the new one; where ``said``
    changes the statement, those of the old one go. Two who sign at once both do. Raises ArtifactError for what is
    wrong with the artifact, and where it cannot be written.
    """
    name = os.path.abspath(path)
    try:
        with _alone(name):
            opened = open_artifact(path)
            try:
                seal = stated(seal_of(opened), **said)  # type: ignore[arg-type]  # which checks them
                artifact = Artifact(opened, frozenset())
                fresh = envelope_of(opened, seal, signer)
                if isinstance(opened.source, Folder):
                    artifact.verify()
                    _put(fresh, name)
                else:
                    copy_artifact(artifact, path, replace=True, envelope=fresh, one_file=True)
            finally:
                opened.source.close()
    except OSError as error:
        if isinstance(error, ArtifactError):
            raise
        raise unwritable(name, error) from None


def pack_artifact(source: str | os.PathLike[str], target: str | os.PathLike[str], *, replace: bool = False) -> None:
    """The same artifact, signatures and all, at ``target``: one file where that ends in ``.vit``, else a directory.
    Everything in it is examined first, but for who signed. Raises ArtifactError."""
    opened = open_artifact(source)
    try:
        copy_artifact(Artifact(opened, frozenset()), target, replace=replace)
    finally:
        opened.source.close()


def _put(envelope: bytes, folder: str) -> None:
    """The signature's file of a directory, exchanged in one step. It is written beside the directory, since a reader
    refuses a file more in it."""
    fresh = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.{os.getpid()}-{os.urandom(6).hex()}")
    try:
        with open(fresh, "xb") as file:
            file.write(envelope)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, os.path.join(folder, SIGNATURE))
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh)
        raise


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """No other process signs what is at ``path`` meanwhile. A file is locked, and still there when it is; a path that
    cannot be opened is left to who opens it next."""
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            here, there = os.fstat(fd), os.stat(path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                yield
                return
        finally:
            os.close(fd)

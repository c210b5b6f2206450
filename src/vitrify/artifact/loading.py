"""Artifacts as sessions see them: opened, believed only after the signature and the policy, mapped after that.

The order is fixed. Container, envelope, manifest's digest, policy, list of files, and only then the contents of a
file, each when it is first asked for. Nothing that has not passed is given to the system's loader or to a run.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Mapping
from zlib import crc32

from ..errors import (
    ArtifactError,
    ContainerError,
    IntegrityError,
    LimitError,
    SchemaError,
    SignatureError,
    UnsignedError,
)
from .archive import Archive
from .canonical import MAX_BYTES as MAX_MANIFEST
from .container import DAMAGED, MARK, SUFFIX, read_exactly
from .digest import sha256
from .folder import Folder
from .gate import Platform, examine
from .leaks import scan
from .manifest import DETAILS, MANIFEST, MAX_DETAILS, SIGNATURE, FileEntry, Manifest, Target, parse
from .payload import Payload
from .record import Record
from .trust.envelope import MAX_BYTES as MAX_ENVELOPE
from .trust.envelope import STATEMENT_TYPE, Seal, Signed, open_envelope, parse_statement
from .trust.store import State, Store, TrustWarning
from .weights import Weights

_BLOCK = 1 << 20
SCANNED = ("details", "sbom", "provenance")  # roles of texts, which name no paths of the builder's machine
Source = Archive | Folder
#: Gets the manifest's digest and what signed it.
Judge = Callable[[str, "Seal | None", "Signed | None"], None]
_MAX_READ = 1 << 31  # bytes of a file that is read into memory


class Opened(Record):
    """An artifact whose encoding has been checked and whose signature, if it has one, is of this manifest. Nobody
    has said yet that its signers are trusted. ``digest`` is the SHA-256 of the manifest."""

    source: Source
    manifest: Manifest
    digest: str
    seal: Seal | None
    signed: Signed | None


class Artifact:
    """An artifact that the policy accepts. Its files are compared with the manifest when they are first used.

    ``seal`` is None for an unsigned one, which only a policy for development accepts; ``signers`` are the ids of the
    trusted keys that signed. :meth:`verify` examines everything at once.
    """

    def __init__(self, opened: Opened, signers: frozenset[str]) -> None:
        self.opened = opened
        self.path = opened.source.path
        self.manifest = opened.manifest
        self.digest = opened.digest
        self.seal = opened.seal
        self.signers = signers
        self._source = opened.source

    def payload(self, target: Target) -> Payload:
        """The native code for ``target``, in a file that cannot change any more.

        Raises IntegrityError where it is not what the manifest lists, PlatformError and NativeCodeError for what its
        headers say, LeakError where it names a path of the machine that it was made on.
        """
        entry = self.manifest.files[target.payload]
        fd, start = self._source.locate(target.payload)
        name = self.name(target.payload)
        payload = Payload(fd, start, entry.size, entry.sha256, name)
        try:
            examine(payload.image, Platform(target.os, target.architecture), target.exports, path=name)
            scan(payload.image, name=name)
        except BaseException:
            payload.close()
            raise
        return payload

    def weights(self, target: Target) -> Weights | None:
        """The constants for ``target``, mapped; :meth:`Weights.check` compares them before they are used. None for
        a model without. IntegrityError where their list of digests is not what the manifest lists."""
        if target.weights is None or target.leaves is None:
            return None
        fd, start = self._source.locate(target.weights)
        size = self.manifest.files[target.weights].size
        return Weights(fd, start, size, self.read(target.leaves), self.name(target.weights))

    def read(self, name: str) -> bytes:
        """All of a file. IntegrityError where it is not what the manifest lists."""
        return _read(self._source, name, self.manifest.files[name])

    def verify(self) -> None:
        """Examines everything that loading would, for all targets, and compares every leaf of the weights with its
        digest. IntegrityError, NativeCodeError or LeakError for the first thing that is amiss."""
        from concurrent.futures import ThreadPoolExecutor

        files = self.manifest.files
        weights = list(map(self.weights, self.manifest.targets))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            digests = pool.map(self._digest, files)
            leaves = [pool.submit(one.check) for one in weights if one is not None]
            for name, digest in zip(files, digests, strict=True):
                _compare(digest, files[name], self.name(name))
            for one in leaves:
                one.result()
        for name, entry in files.items():
            if entry.role in SCANNED:
                scan(self._source.read(name), name=self.name(name))
        for target in self.manifest.targets:
            self.payload(target).close()

    def _digest(self, name: str) -> str:
        """SHA-256 of a file, as it is now."""
        import hashlib  # which lets other threads work meanwhile

        fd, start = self._source.locate(name)
        found, rest = hashlib.sha256(), self.manifest.files[name].size
        while rest:
            block = read_exactly(fd, start, min(rest, _BLOCK), self.name(name))
            found.update(block)
            start, rest = start + len(block), rest - len(block)
        return found.hexdigest()

    def envelope(self) -> bytes | None:
        """The signature as it is stored; None for an unsigned artifact."""
        return self._source.read(SIGNATURE) if SIGNATURE in self._source.entries else None

    def locate(self, name: str) -> tuple[int, int]:
        """The descriptor of the file that has a member, and where in it the member begins."""
        return self._source.locate(name)

    def name(self, member: str) -> str:
        """How messages call a member."""
        return f"{self.path}/{member}"

    def close(self) -> None:
        """Closes the artifact's files; sessions made of it go on."""
        self._source.close()

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Artifact({self.path!r})"


def is_artifact(path: str | os.PathLike[str]) -> bool:
    """Whether a path is to be opened as an artifact: a directory, or a file that is named like one or begins like an
    archive."""
    if os.path.isdir(path) or (os.fspath(path).endswith(SUFFIX) and os.path.lexists(path)):
        return True
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, len(MARK), 0) == MARK
    finally:
        os.close(fd)


def load_artifact(
    path: str | os.PathLike[str], *, trust: Store | str | None = None, require_digest: str | None = None
) -> Artifact:
    """The artifact in the file or directory ``path``, if the policy accepts it.

    ``trust`` is the directory of another policy than this user's. ``require_digest`` is the SHA-256 of the only
    manifest that will do. Raises ContainerError, LimitError, ManifestError, IntegrityError, UnsignedError,
    SignatureError, UntrustedKeyError or PolicyError; all are ArtifactErrors.
    """
    store = trust if isinstance(trust, Store) else Store(trust)
    verdicts: list[_Verdict] = []

    def judge(digest: str, seal: Seal | None, signed: Signed | None) -> None:
        if require_digest is not None and digest != require_digest:
            raise IntegrityError("this is another artifact", expected=require_digest, actual=digest)
        verdicts.append(_judge(seal, signed, store))

    opened = open_artifact(path, judge)
    try:
        _remember(opened, store, verdicts[0])
    except BaseException:
        opened.source.close()
        raise
    return Artifact(opened, verdicts[0].signers)


def open_artifact(path: str | os.PathLike[str], judge: Judge | None = None) -> Opened:
    """The artifact in the file or directory ``path``, whoever made it: to look at, never to run. ``judge`` gets the
    manifest's digest and the signature, and raises what is against them before anything else is read."""
    name = os.fspath(path)
    try:
        return _open(_source(name), judge)
    except ArtifactError as error:
        error.path = error.path or name
        raise


def _open(source: Source, judge: Judge | None) -> Opened:
    try:
        entries = source.entries
        if MANIFEST not in entries:
            raise ContainerError(f"not an artifact: there is no {MANIFEST} in it", path=source.path)
        seal, signed, envelope = None, None, b""
        if SIGNATURE in entries:
            envelope = _whole(source, SIGNATURE, MAX_ENVELOPE, "the signature's envelope")
            signed = open_envelope(envelope, STATEMENT_TYPE)
            seal = parse_statement(signed.payload)
        encoded = _whole(source, MANIFEST, MAX_MANIFEST, MANIFEST)
        digest = sha256(encoded).hex()
        if seal is not None and seal.manifest != digest:
            raise SignatureError(
                "the signature is that of another manifest", path=source.path, expected=seal.manifest, actual=digest,
                hint=DAMAGED,
            )  # fmt: skip
        if judge is not None:
            judge(digest, seal, signed)
        if isinstance(source, Archive):  # the manifest has the checksums of all other files
            _check_sum(source, MANIFEST, encoded)
            if signed is not None:
                _check_sum(source, SIGNATURE, envelope)
        manifest = parse(encoded, lambda entry: _read(source, DETAILS, entry, MAX_DETAILS))
        _check_files(source, manifest.files)
        if seal is not None:
            _check_documents(seal, manifest)
    except BaseException:
        source.close()
        raise
    return Opened(source, manifest, digest, seal, signed)


def _source(path: str) -> Source:
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise ContainerError(f"cannot be opened: {error.strerror}", path=path, hint="check the path") from None
    except ValueError as error:
        raise ContainerError(f"cannot be opened: {error}", path=repr(path), hint="check the path") from None
    if is_directory and not os.path.lexists(os.path.join(path, MANIFEST)):
        raise ContainerError(f"not an artifact: there is no {MANIFEST} in it", path=path)
    return Folder(path) if is_directory else Archive(path)


class _Verdict(Record):
    """The trusted keys that signed, and what was known of time and releases when that was decided."""

    signers: frozenset[str]
    now: int
    state: State


def accept(opened: Opened, store: Store, *, note: bool = True) -> frozenset[str]:
    """The trusted keys that signed. With ``note`` the release and the time are remembered, and development is warned
    of; without it, that was a question and changes nothing. Raises what the policy has against the artifact."""
    try:
        verdict = _judge(opened.seal, opened.signed, store)
        if note:
            _remember(opened, store, verdict)
    except ArtifactError as error:
        error.path = error.path or opened.source.path
        raise
    return verdict.signers


def _judge(seal: Seal | None, signed: Signed | None, store: Store) -> _Verdict:
    policy = store.policy()
    if seal is None or signed is None:
        if not policy.development:
            raise UnsignedError(
                "nobody signed this artifact",
                hint="sign it: vitrify sign ARTIFACT; or, to develop, allow it: vitrify trust development on",
            )  # fmt: skip
        return _Verdict(frozenset(), 0, State(0, {}))
    state = store.state()
    now = store.now(policy, state)
    highest = state.releases.get(seal.product, 0)
    return _Verdict(policy.accept(seal, signed, STATEMENT_TYPE, now, highest), now, state)


def _remember(opened: Opened, store: Store, verdict: _Verdict) -> None:
    """Once nothing is amiss: a damaged artifact shall not end the use of older releases."""
    if opened.seal is not None:
        store.note(verdict.state, verdict.now, opened.seal.product, opened.seal.release)
        return
    warnings.warn(
        f"{opened.source.path} is not signed, and the policy is one for development: anybody may have made it",
        TrustWarning, stacklevel=3,
    )  # fmt: skip


def check_abi(manifest: Manifest, abi: str, path: str) -> None:
    """Raises SchemaError where the artifact is for a runtime with another interface than ``abi``, a digest."""
    if manifest.abi != abi:
        raise SchemaError(
            "the artifact was made for another runtime", path=path, expected=abi, actual=manifest.abi,
            hint="compile the model again with this version",
        )  # fmt: skip


def _check_files(source: Source, files: Mapping[str, FileEntry]) -> None:
    """Exactly the manifest's files are there, each of its size and, in an archive, with its checksum."""
    found = source.entries.keys() - {MANIFEST, SIGNATURE}
    if found != files.keys():
        missing, extra = sorted(files.keys() - found), sorted(found - files.keys())
        raise IntegrityError(
            "the files are not those of the manifest", path=source.path, expected=f"{len(files)} files",
            actual=f"missing {missing}, unlisted {extra}", hint=DAMAGED,
        )  # fmt: skip
    for name, entry in files.items():
        place = source.entries[name]
        if place.size != entry.size:
            raise IntegrityError(
                f"{name}: wrong size", path=source.path, expected=f"{entry.size} bytes", actual=place.size, hint=DAMAGED
            )
        if isinstance(source, Archive) and place.crc32 != entry.crc32:
            raise ContainerError(
                f"{name}: the archive's checksum is not the manifest's", path=source.path, hint=DAMAGED
            )


def _check_documents(seal: Seal, manifest: Manifest) -> None:
    """What the signature says of the list of parts and of the build is what lies in the artifact."""
    for role, stated in (("sbom", seal.sbom), ("provenance", seal.provenance)):
        found = next((entry.sha256 for entry in manifest.files.values() if entry.role == role), None)
        if found != stated:
            raise SignatureError(f"the signature speaks of another {role}", expected=stated, actual=found, hint=DAMAGED)


def _whole(source: Source, name: str, limit: int, what: str) -> bytes:
    """All of a file that is at most so long."""
    size = source.entries[name].size
    if size > limit:
        raise LimitError(f"{what} is too large", path=source.path, expected=f"at most {limit} bytes", actual=size)
    return source.read(name)


def _check_sum(source: Archive, name: str, content: bytes) -> None:
    if source.entries[name].crc32 != crc32(content):
        raise ContainerError(f"{name}: the archive's checksum is wrong", path=source.path, hint=DAMAGED)


def _read(source: Source, name: str, entry: FileEntry, limit: int = _MAX_READ) -> bytes:
    if name not in source.entries:
        raise IntegrityError(f"{name} is missing", path=source.path, hint=DAMAGED)
    if source.entries[name].size != entry.size:
        actual = source.entries[name].size
        raise IntegrityError(f"{name}: wrong size", path=source.path, expected=entry.size, actual=actual, hint=DAMAGED)
    data = _whole(source, name, limit, name)
    _compare(sha256(data).hex(), entry, f"{source.path}/{name}")
    return data


def _compare(found: str, entry: FileEntry, path: str) -> None:
    if found != entry.sha256:
        expected = entry.sha256
        raise IntegrityError("this is not what was signed", path=path, expected=expected, actual=found, hint=DAMAGED)

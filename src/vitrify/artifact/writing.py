"""Artifacts written: in one step or not at all, complete, and signed."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Union

from ..errors import ArtifactError, ManifestError
from .archive import Archive
from .container import SUFFIX, Entry, check_names, read_exactly, write_archive
from .loading import Artifact, load_artifact
from .manifest import DETAILS, MANIFEST, SIGNATURE, FileEntry, Manifest, encode, encode_details
from .trust.envelope import STATEMENT_TYPE, Seal, sign, statement
from .trust.keys import Signer
from .trust.store import Store
from .weights import leaves

# shutil and pathlib are imported where they are needed: together they take longer to import than a small
# artifact takes to load.


class Part(NamedTuple):
    """``size`` bytes of an open file from ``start`` on."""

    fd: int
    start: int
    size: int


#: Contents of a file to write: bytes in memory, what makes them piece by piece as often as it is called, the path of
#: another file to copy, or a part of an open one.
Content = Union[bytes, bytearray, memoryview, Callable[[], Iterable[memoryview]], Part, str, "os.PathLike[str]"]

_BLOCK = 1 << 20


class Sealing(NamedTuple):
    """What signatures will say of an artifact besides its contents. Moments are seconds since 1970."""

    product: str = ""
    release: int = 0
    not_before: int = 0
    expires: int | None = None
    licence: str = ""


def write_artifact(
    path: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, Content], *, replace: bool = False,
    sealing: Sealing | None = None, signers: Iterable[Signer] | None = None, trust: Store | None = None,
) -> Artifact:  # fmt: skip
    """Writes an artifact, signs it, and returns it as loaded.

    It is one file where ``path`` ends in ``.vit``, else a directory. ``files`` maps each payload and weights file
    that the manifest's targets use, and documents by their role ("sbom.json", "provenance.json"), to its contents;
    ``manifest.files`` and the lists of digests are made here. ``signers`` are this machine's key unless given; with
    none at all the artifact stays unsigned. ``trust`` is where the key and the policy lie.

    Everything is written beside ``path`` and renamed into place, so a reader sees the whole artifact or none, and a
    failure or an interruption leaves nothing. Raises ArtifactError when ``path`` exists (an artifact there is
    replaced if ``replace``), when it cannot be written, or when manifest and files do not fit together.
    """
    trust = trust or Store()
    try:
        contents, manifest = _complete(manifest, files)
        contents[MANIFEST] = encoded = encode(manifest)
        signed = [trust.machine_key()] if signers is None else list(signers)
        if signed:
            said = statement(_seal(sealing or Sealing(), encoded, manifest.files))
            contents[SIGNATURE] = sign(STATEMENT_TYPE, said, signed)
        store_files(path, contents, replace=replace)
    except OSError as error:
        raise unwritable(os.path.abspath(path), error) from None
    return load_artifact(path, trust=trust)


def _complete(manifest: Manifest, files: Mapping[str, Content]) -> tuple[dict[str, Content], Manifest]:
    """All files but the manifest and the signature, and the manifest that lists them."""
    contents = dict(files)
    roles = {f"{role}.json": role for role in ("sbom", "provenance")}
    targets = []
    for target in manifest.targets:
        roles[target.payload] = "payload"
        if target.weights is not None and target.weights in contents:
            listed = target.weights.removesuffix(".bin").replace("weights/", "leaves/", 1)
            roles |= {target.weights: "weights", listed: "leaves"}
            contents[listed] = leaves(_pieces(contents[target.weights]))
            target = target._replace(leaves=listed)
        targets.append(target)
    for probe in manifest.validation:
        roles |= dict.fromkeys(probe.files, "probe")
    manifest = manifest._replace(targets=tuple(targets))
    contents[DETAILS] = encode_details(manifest)
    roles[DETAILS] = "details"
    check_names(contents)
    unknown = sorted(contents.keys() - roles.keys())
    if unknown:
        raise ManifestError("files that no target uses", expected=sorted(roles), actual=unknown)
    return contents, manifest._replace(files={name: _describe(contents[name], roles[name]) for name in contents})


def _seal(sealing: Sealing, encoded: bytes, entries: Mapping[str, FileEntry]) -> Seal:
    documents = {one.role: one.sha256 for one in entries.values()}
    digest = hashlib.sha256(encoded).hexdigest()
    return Seal(digest, *sealing, documents.get("sbom"), documents.get("provenance"))


def copy_artifact(
    artifact: Artifact, path: str | os.PathLike[str], *, replace: bool = False, envelope: bytes | None = None,
    one_file: bool | None = None,
) -> None:  # fmt: skip
    """Writes the same artifact to ``path``, as one file where it ends in ``.vit`` (or ``one_file`` says so), else as a
    directory. It keeps its signature unless there is another ``envelope``. Raises ArtifactError as
    :func:`write_artifact` does, and IntegrityError where it is damaged."""
    artifact.verify()
    files = artifact.manifest.files
    contents: dict[str, Content] = {name: Part(*artifact.locate(name), files[name].size) for name in files}
    contents[MANIFEST] = encode(artifact.manifest)
    envelope = artifact.envelope() if envelope is None else envelope
    if envelope is not None:
        contents[SIGNATURE] = envelope
    try:
        store_files(path, contents, replace=replace, one_file=one_file)
    except OSError as error:
        raise unwritable(os.path.abspath(path), error) from None




def store_files(
    path: str | os.PathLike[str], contents: Mapping[str, Content], *, replace: bool, one_file: bool | None = None
) -> None:
    """Writes an artifact's files, all or none. OSError where it cannot be done."""
    root = os.path.abspath(path)
    parent, name = os.path.split(root)
    check_names(contents)
    os.makedirs(parent, exist_ok=True)
    staged = os.path.join(parent, f".{name}.{os.getpid()}-{os.urandom(6).hex()}")
    try:
        if name.endswith(SUFFIX) if one_file is None else one_file:
            _write_one(staged, contents)
        else:
            _write_many(staged, contents)
        _move_into_place(staged, root, replace)
    except BaseException:
        _remove(staged)
        raise


def _write_one(path: str, contents: Mapping[str, Content]) -> None:
    described = {name: _describe(content, "") for name, content in contents.items()}
    members = {
        name: (Entry(name, described[name].size, described[name].crc32), _pieces(content))
        for name, content in contents.items()
    }
    with open(path, "xb") as file:
        write_archive(file, members)
        file.flush()
        os.fsync(file.fileno())


def _write_many(path: str, contents: Mapping[str, Content]) -> None:
    os.mkdir(path)
    for name in sorted(contents):
        target = os.path.join(path, *name.split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as file:
            for piece in _pieces(contents[name]):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())


def _pieces(content: Content) -> Iterator[bytes | memoryview]:
    if isinstance(content, Part):
        for at in range(0, content.size, _BLOCK):
            yield read_exactly(content.fd, content.start + at, min(_BLOCK, content.size - at), "the artifact")
    elif callable(content):
        yield from content()
    elif isinstance(content, (str, os.PathLike)):
        with open(content, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    else:
        yield memoryview(content)


def digests(contents: Mapping[str, Content]) -> dict[str, str]:
    """SHA-256 of each."""
    return {name: _describe(content, "").sha256 for name, content in contents.items()}


def _describe(content: Content, role: str) -> FileEntry:
    """The entry of a file, read once."""
    size, crc, digest = 0, 0, hashlib.sha256()
    for piece in _pieces(content):
        size, crc = size + len(piece), zlib.crc32(piece, crc)
        digest.update(piece)
    return FileEntry(size, digest.hexdigest(), crc, role)


def _move_into_place(staged: str, path: str, replace: bool) -> None:
    """Renames ``staged`` to ``path``; an artifact in its place goes only when ``replace`` says so."""
    if os.path.lexists(path) and not replace:
        raise ArtifactError("already exists", path=path, hint="choose another path, or ask to replace it")
    if replace and not _replaceable(path):
        raise ArtifactError("is in the way", path=path, hint="only an artifact is ever replaced")
    try:
        os.rename(staged, path)  # onto nothing, an empty directory, or a file by a file
        return
    except OSError:
        if not replace:
            raise
    old = staged + ".old"
    os.rename(path, old)
    os.rename(staged, path)
    _remove(old)


def _replaceable(path: str) -> bool:
    if not os.path.lexists(path):
        return True
    if os.path.isdir(path) and not os.path.islink(path):
        return not os.listdir(path) or os.path.isfile(os.path.join(path, MANIFEST))
    try:
        Archive(path).close()
    except ArtifactError:
        return False
    return True


def _remove(path: str) -> None:
    if os.path.isdir(path):
        from shutil import rmtree

        rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def unwritable(path: str, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"cannot be written: {error.strerror}", path=path, hint="check the disk's space and permissions"
    )

"""Artifact directories: written in one step or not at all, mapped only after their digests are checked."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Union

from ..errors import ArtifactError
from .manifest import LEAF_BYTES, MANIFEST_NAME, MAX_BYTES, FileEntry, Manifest, encode, parse

#: Contents of a file to write: bytes in memory, or another file to copy.
Content = Union[bytes, bytearray, memoryview, Path]

_DAMAGED = "the artifact is damaged; compile the model again or fetch a fresh copy"
_PARALLEL_LEAVES = 8  # below this a thread costs more than it saves
_MAX_HASH_THREADS = 8


def _leaf_digests(data: memoryview, expected: tuple[str, ...] | None = None) -> list[str]:
    """SHA-256 of each MiB, on several threads when there are many (hashing releases the lock). Given
    what is expected, the rest is skipped after the first difference."""
    count = -(-len(data) // LEAF_BYTES)
    digests = [""] * count
    pending = iter(range(count))
    different = False

    def work() -> None:
        nonlocal different
        for index in pending:  # advancing a range iterator is atomic
            if different:
                return
            leaf = data[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
            digests[index] = hashlib.sha256(leaf).hexdigest()
            if expected is not None and digests[index] != expected[index]:
                different = True

    extra = min(count // _PARALLEL_LEAVES, _MAX_HASH_THREADS, len(os.sched_getaffinity(0))) - 1
    threads = [threading.Thread(target=work) for _ in range(extra)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return digests


class MappedFile:
    """A file of an artifact, checked, mapped read-only and kept open. ``data`` is page-aligned."""

    def __init__(self, path: Path, entry: FileEntry) -> None:
        self.path = path
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            found = os.fstat(self.fd)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be opened: {error.strerror}", hint=_DAMAGED) from None
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError(f"{path}: not a regular file", hint=_DAMAGED)
        if found.st_size != entry.size:
            raise ArtifactError(
                f"{path}: wrong size", expected=f"{entry.size} bytes", actual=found.st_size, hint=_DAMAGED
            )
        self._map = mmap.mmap(self.fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) if entry.size else b""
        self.data = memoryview(self._map)
        digests = _leaf_digests(self.data, entry.sha256)
        for index, (digest, expected) in enumerate(zip(digests, entry.sha256, strict=True)):
            if digest and digest != expected:
                raise ArtifactError(
                    f"{path}: the SHA-256 of MiB {index} differs", expected=expected, actual=digest,
                    hint=_DAMAGED,
                )  # fmt: skip

    def __del__(self) -> None:
        # The mapping goes with its last reader; only the descriptor is closed here.
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Artifact:
    """A directory whose manifest has been checked and whose list of files is exactly the manifest's.

    A file's digest is checked when it is first mapped, so a session pays for its own target only;
    :meth:`verify` checks them all.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def map(self, name: str) -> MappedFile:
        """The file, checked against its digests. Raises ArtifactError when it differs."""
        return MappedFile(self.path / name, self.manifest.files[name])

    def verify(self) -> None:
        """Checks every file; ArtifactError for the first that differs."""
        for name in self.manifest.files:
            self.map(name)

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r})"


def load_artifact(path: str | os.PathLike[str]) -> Artifact:
    """The artifact in the directory ``path``.

    Checks the manifest, and that the directory holds exactly the files it lists, each of the stated
    size. Raises ArtifactError when it is missing, damaged, incomplete or holds anything more.
    """
    root = Path(path)
    try:
        with open(root / MANIFEST_NAME, "rb") as file:
            encoded = file.read(MAX_BYTES + 1)
        found = {entry.name: entry for entry in os.scandir(root)}
    except OSError as error:
        raise ArtifactError(
            f"{root}: not an artifact: {error.strerror}: {Path(error.filename or root).name}",
            hint=f"an artifact is a directory with a {MANIFEST_NAME}",
        ) from None
    manifest = parse(encoded)
    found.pop(MANIFEST_NAME, None)
    if found.keys() != manifest.files.keys():
        missing = sorted(manifest.files.keys() - found.keys())
        extra = sorted(found.keys() - manifest.files.keys())
        raise ArtifactError(
            f"{root}: the files are not the manifest's", expected=f"{len(manifest.files)} files",
            actual=f"missing {missing}, unlisted {extra}", hint=_DAMAGED,
        )  # fmt: skip
    for name, entry in manifest.files.items():
        size = found[name].stat(follow_symlinks=False).st_size
        if size != entry.size:
            raise ArtifactError(
                f"{root / name}: wrong size", expected=f"{entry.size} bytes", actual=size, hint=_DAMAGED
            )
    return Artifact(root, manifest)


def _write_file(path: Path, content: Content) -> FileEntry:
    """Writes and flushes one file; its entry."""
    with open(path, "xb") as file:
        if isinstance(content, Path):
            with open(content, "rb") as source:
                shutil.copyfileobj(source, file, LEAF_BYTES)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if not size:
        return FileEntry(0, ())
    with (
        open(path, "rb") as written,
        mmap.mmap(written.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return FileEntry(size, tuple(_leaf_digests(view)))


def _move_into_place(staged: Path, path: Path, replace: bool) -> None:
    """Renames ``staged`` to ``path``; an artifact in its place goes only when ``replace`` says so."""
    if os.path.lexists(path) and not replace:
        raise ArtifactError(f"{path}: already exists", hint="choose another path, or ask to replace it")
    try:
        os.rename(staged, path)  # onto nothing, or onto an empty directory
        return
    except OSError as error:
        if not replace or not (path / MANIFEST_NAME).is_file():
            raise ArtifactError(
                f"{path}: cannot be written: {error.strerror}", hint="only an artifact is ever replaced"
            ) from None
    old = staged.with_name(staged.name + ".old")
    os.rename(path, old)
    os.rename(staged, path)
    shutil.rmtree(old, ignore_errors=True)


def write_artifact(
    path: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, Content], *, replace: bool = False
) -> Artifact:
    """Writes the directory ``path`` and returns it as loaded.

    ``files`` maps each file name that the manifest's targets use to its contents; the digests in
    ``manifest.files`` are computed here. Everything is written beside ``path`` and renamed into place,
    so a reader sees the whole artifact or none, and a failure or an interruption leaves nothing.
    Raises ArtifactError when ``path`` exists (an artifact there is replaced if ``replace``), when it
    cannot be written, or when manifest and files do not fit together.
    """
    root = Path(os.path.abspath(path))
    staged = root.with_name(f".{root.name}.{os.getpid()}-{os.urandom(6).hex()}")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        staged.mkdir()
        try:
            entries = {name: _write_file(staged / name, files[name]) for name in sorted(_plain_names(files))}
            _write_file(staged / MANIFEST_NAME, encode(manifest._replace(files=entries)))
            _move_into_place(staged, root, replace)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise ArtifactError(
            f"{root}: cannot be written: {error.strerror}", hint="check the disk's space and permissions"
        ) from None
    return load_artifact(root)


def _plain_names(files: Iterable[str]) -> list[str]:
    names = list(files)
    for name in names:
        if os.sep in name or name in ("", ".", "..", MANIFEST_NAME):
            raise ArtifactError(f"{name!r}: not a file name of an artifact", hint="use plain names")
    return names

"""Artifact directories: written in one step or not at all, mapped only after their digests are checked."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from _thread import LockType, allocate_lock, start_new_thread  # threading takes a millisecond to import
from collections.abc import Callable, Iterable, Mapping
from typing import Union

from ..errors import ArtifactError
from .manifest import LEAF_BYTES, MANIFEST_NAME, MAX_BYTES, FileEntry, Manifest, encode, parse

# shutil and pathlib are imported where they are needed: together they take longer to import than a small
# artifact takes to load.

#: Contents of a file to write: bytes in memory, or the path of another file to copy.
Content = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]"]

_DAMAGED = "the artifact is damaged; compile the model again or fetch a fresh copy"
_PARALLEL_LEAVES = 2  # for each thread: with fewer it costs more than it saves
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
    ends = [_in_thread(work) for _ in range(extra)]
    work()
    for end in ends:
        end.acquire()
    return digests


def _in_thread(work: Callable[[], None]) -> LockType:
    """Starts ``work``; the lock can be had once it is done. Where no thread can be started, it does nothing:
    what there is to do is done by the others."""
    end = allocate_lock()
    end.acquire()

    def run() -> None:
        try:
            work()
        finally:
            end.release()

    try:
        start_new_thread(run, ())
    except RuntimeError:
        end.release()
    return end


class MappedFile:
    """A file of an artifact, checked, mapped read-only and kept open. ``data`` is page-aligned."""

    def __init__(self, path: str, entry: FileEntry) -> None:
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
        self._map = _mapped(self.fd) if entry.size else b""
        self.data = memoryview(self._map)
        digests = _leaf_digests(self.data, entry.sha256)
        different = [i for i, digest in enumerate(digests) if digest != entry.sha256[i]]
        if different:  # those that were skipped after the first have no digest
            index = next((i for i in different if digests[i]), different[0])
            raise ArtifactError(
                f"{path}: the SHA-256 of MiB {index} differs", expected=entry.sha256[index],
                actual=digests[index] or "none: it could not be computed", hint=_DAMAGED,
            )  # fmt: skip

    def __del__(self) -> None:
        # The mapping goes with its last reader; only the descriptor is closed here.
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _mapped(fd: int) -> mmap.mmap:
    """The whole file, read only. In huge pages where the system has them for files: a pass over 150 MB of weights
    meets 80 pages instead of 40,000, which is 1 to 2 % of the time of a run that reads them once."""
    mapped = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


class Artifact:
    """A directory whose manifest has been checked and whose list of files is exactly the manifest's.

    A file's digest is checked when it is first mapped, so a session pays for its own target only;
    :meth:`verify` checks them all.
    """

    def __init__(self, path: str, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def map(self, name: str) -> MappedFile:
        """The file, checked against its digests. Raises ArtifactError when it differs."""
        return MappedFile(os.path.join(self.path, name), self.manifest.files[name])

    def verify(self) -> None:
        """Checks every file; ArtifactError for the first that differs."""
        for name in self.manifest.files:
            self.map(name)

    def __repr__(self) -> str:
        return f"Artifact({self.path!r})"


def load_artifact(path: str | os.PathLike[str]) -> Artifact:
    """The artifact in the directory ``path``.

    Checks the manifest, and that the directory holds exactly the files it lists, each of the stated
    size. Raises ArtifactError when it is missing, damaged, incomplete or holds anything more.
    """
    root = os.fspath(path)
    try:
        with open(os.path.join(root, MANIFEST_NAME), "rb") as file:
            encoded = file.read(MAX_BYTES + 1)
        found = {entry.name: entry for entry in os.scandir(root)}
    except OSError as error:
        raise ArtifactError(
            f"{root}: not an artifact: {error.strerror}: {os.path.basename(error.filename or root)}",
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
                f"{os.path.join(root, name)}: wrong size",
                expected=f"{entry.size} bytes",
                actual=size,
                hint=_DAMAGED,
            )
    return Artifact(root, manifest)


def _write_file(path: str, content: Content) -> FileEntry:
    """Writes and flushes one file; its entry."""
    with open(path, "xb") as file:
        if isinstance(content, (str, os.PathLike)):
            with open(content, "rb") as source:
                while block := source.read(LEAF_BYTES):
                    file.write(block)
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


def _move_into_place(staged: str, path: str, replace: bool) -> None:
    """Renames ``staged`` to ``path``; an artifact in its place goes only when ``replace`` says so."""
    if os.path.lexists(path) and not replace:
        raise ArtifactError(f"{path}: already exists", hint="choose another path, or ask to replace it")
    try:
        os.rename(staged, path)  # onto nothing, or onto an empty directory
        return
    except OSError as error:
        if not replace or not os.path.isfile(os.path.join(path, MANIFEST_NAME)):
            raise ArtifactError(
                f"{path}: cannot be written: {error.strerror}", hint="only an artifact is ever replaced"
            ) from None
    old = staged + ".old"
    os.rename(path, old)
    os.rename(staged, path)
    _remove(old)


def _remove(directory: str) -> None:
    from shutil import rmtree

    rmtree(directory, ignore_errors=True)


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
    root = os.path.abspath(path)
    parent, name = os.path.split(root)
    staged = os.path.join(parent, f".{name}.{os.getpid()}-{os.urandom(6).hex()}")
    _check_names(files)
    try:
        os.makedirs(parent, exist_ok=True)
        os.mkdir(staged)
        try:
            entries = {file: _write_file(os.path.join(staged, file), files[file]) for file in sorted(files)}
            encoded = encode(manifest._replace(files=entries))
            _write_file(os.path.join(staged, MANIFEST_NAME), encoded)
            _move_into_place(staged, root, replace)
        except BaseException:
            _remove(staged)
            raise
    except OSError as error:
        raise ArtifactError(
            f"{root}: cannot be written: {error.strerror}", hint="check the disk's space and permissions"
        ) from None
    return load_artifact(root)


def _check_names(files: Iterable[str]) -> None:
    for name in files:
        if os.path.basename(name) != name or name in ("", ".", "..", MANIFEST_NAME):
            raise ArtifactError(f"{name!r}: not a file name of an artifact", hint="use plain names")

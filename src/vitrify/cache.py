"""The compile cache: artifacts and objects, found by a digest of everything they depend on.

::

    artifacts/<key>/      an artifact directory, complete: it was renamed into place
    objects/<k>/<key>     a compiled object and its digest
    locks/<key>           one lock per artifact: shared while it is read, exclusive while it is built
    staging/              what is being written

Any number of processes and threads may use one directory: of those that want the same artifact one
builds it and the others wait for it. A build that is interrupted or killed leaves nothing that counts.
The least recently used entries go when the sizes add up to more than the limit; what a process holds
open stays. A damaged entry is built again, with a warning.

A cache never stands in the way of a result: where the directory cannot be written (read-only, full),
:meth:`Cache.fetch` warns, and the artifact lives in a temporary directory. Only a directory that the
caller named and that cannot be a cache at all raises CacheError.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from vitrify.errors import ArtifactError, CacheError, PlatformError, PolicyError

DIRECTORY_VARIABLE = "VITRIFY_CACHE_DIR"
LIMIT_VARIABLE = "VITRIFY_CACHE_LIMIT_MB"
DEFAULT_LIMIT_MB = 10_000
_DIGEST_BYTES = 32

T = TypeVar("T")
#: Writes a finished build as the artifact directory it is given (which does not exist yet).
Write = Callable[[Path], None]


class CacheWarning(UserWarning):
    """The cache could not be used as it should; results are not affected."""


def default_directory() -> Path:
    """``$VITRIFY_CACHE_DIR``, else ``vitrify`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if named := os.environ.get(DIRECTORY_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "vitrify")


def default_limit() -> int:
    """Bytes: ``$VITRIFY_CACHE_LIMIT_MB`` times 10**6, else 10 GB. CacheError when it is not a number."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT_MB * 10**6
    try:
        megabytes = float(text)
        if not megabytes >= 0:
            raise ValueError
        return int(megabytes * 1e6)
    except (ValueError, OverflowError):
        raise CacheError(f"${LIMIT_VARIABLE}", expected="megabytes, 0 or more", actual=repr(text)) from None


class Entry:
    """An artifact directory that stays while this object is open: it is neither evicted nor replaced.

    ``compiled``: made by this call. ``temporary``: not in the cache, and gone when closed.
    """

    def __init__(
        self, path: Path, *, lock: int | None, compiled: bool, temporary: Path | None = None
    ) -> None:
        self.path = path
        self.compiled = compiled
        self.temporary = temporary is not None
        self._close = weakref.finalize(self, _release, lock, temporary, os.getpid())

    def close(self) -> None:
        """Lets the entry go. Files that are mapped or open already stay readable."""
        self._close()


def _release(lock: int | None, temporary: Path | None, owner: int) -> None:
    if lock is not None:
        os.close(lock)
    if temporary is not None and os.getpid() == owner:  # a forked child must not take it from its parent
        _remove_tree(temporary)


class Cache:
    """``directory`` defaults to :func:`default_directory`, ``limit`` (bytes) to :func:`default_limit`.

    Raises CacheError when a ``directory`` that was passed exists and is not a directory.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, limit: int | None = None) -> None:
        self.directory = Path(directory) if directory is not None else default_directory()
        self.limit = default_limit() if limit is None else limit
        if directory is not None and self.directory.exists() and not self.directory.is_dir():
            raise CacheError(
                f"{self.directory}: not a cache", expected="a directory, or a path where one can be made",
                actual="a file",
            )  # fmt: skip

    # ---- artifacts

    def fetch(self, key: str, build: Callable[[], Write], load: Callable[[Path], T]) -> tuple[T, Entry]:
        """What ``load`` makes of the artifact directory of ``key``, and its open :class:`Entry`.

        ``build`` is called where there is none and returns the function that writes it: of all processes
        that ask at once, one builds. An ArtifactError of ``load`` counts as damage: the entry is removed
        with a :class:`CacheWarning` and built again. Errors of ``build`` pass through; nothing is kept.
        """
        found = self._find(key, load)
        if found is not None:
            return found
        try:
            self._make_folders()
            lock = self._lock(key, fcntl.LOCK_EX)
        except OSError as error:
            return self._uncached(build(), load, error)
        try:
            # Somebody else may have built it while this process waited for the lock.
            path = self._artifact(key)
            if path.is_dir():
                try:
                    result = load(path)
                except (PlatformError, PolicyError):
                    raise
                except ArtifactError as error:
                    _warn(f"a damaged entry of the compile cache is built again: {error}")
                    self._remove(path)
                else:
                    return result, self._share(key, lock, compiled=False)
            write = build()
            try:
                self._store(key, write)
            except (OSError, ArtifactError) as error:
                if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
                    raise  # not the disk's doing
                os.close(lock)
                lock = -1
                return self._uncached(write, load, error)
            result = load(path)
            entry = self._share(key, lock, compiled=True)
        except BaseException:
            if lock >= 0:
                os.close(lock)
            raise
        self.evict()
        return result, entry

    def _find(self, key: str, load: Callable[[Path], T]) -> tuple[T, Entry] | None:
        """The entry where it is complete and sound."""
        path = self._artifact(key)
        if not path.is_dir():
            return None
        try:
            lock: int | None = self._lock(key, fcntl.LOCK_SH)
        except OSError:
            lock = None  # a cache that can only be read: nobody here evicts from it
        try:
            result = load(path)
        except BaseException as error:
            if lock is not None:
                os.close(lock)
            if not isinstance(error, ArtifactError) or isinstance(error, (PlatformError, PolicyError)):
                raise
            if lock is None:
                _warn(f"a damaged entry of the compile cache cannot be replaced: {error}")
            return None  # examined again under the exclusive lock
        with suppress(OSError):
            os.utime(path)  # the time of last use
        return result, Entry(path, lock=lock, compiled=False)

    def _share(self, key: str, lock: int, *, compiled: bool) -> Entry:
        """The entry under a shared lock instead of the exclusive one."""
        fcntl.flock(lock, fcntl.LOCK_SH)  # not atomic: an eviction may come in between
        path = self._artifact(key)
        if not path.is_dir():
            raise CacheError(f"{path}: removed while it was opened", hint="try again, or raise the limit")
        return Entry(path, lock=lock, compiled=compiled)

    def _store(self, key: str, write: Write) -> None:
        staged = self.directory / "staging" / f"{key}.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            write(staged)
            os.rename(staged, self._artifact(key))
        except BaseException:
            _remove_tree(staged)
            raise

    def _uncached(self, write: Write, load: Callable[[Path], T], error: Exception) -> tuple[T, Entry]:
        """The artifact in a temporary directory, since the cache refused it."""
        disk = error if isinstance(error, OSError) else error.__context__
        reason = disk.strerror if isinstance(disk, OSError) else str(error)
        _warn(f"the compile cache {self.directory} cannot be written ({reason}); the artifact is not kept")
        import tempfile

        try:
            folder = Path(tempfile.mkdtemp(prefix="vitrify-"))
        except OSError as refused:
            raise CacheError(
                f"neither the compile cache nor a temporary directory can be written: {refused.strerror}",
                hint="free space, or set VITRIFY_CACHE_DIR or TMPDIR",
            ) from None
        try:
            write(folder / "artifact")
            result = load(folder / "artifact")
        except BaseException:
            _remove_tree(folder)
            raise
        return result, Entry(folder / "artifact", lock=None, compiled=True, temporary=folder)

    def _remove(self, path: Path) -> None:
        """In two steps: a reader sees the whole artifact or none."""
        away = self.directory / "staging" / f"{path.name}.removed-{os.urandom(4).hex()}"
        try:
            os.rename(path, away)
        except OSError:
            away = path
        _remove_tree(away)

    # ---- objects

    def read_object(self, key: str) -> bytes | None:
        """The bytes kept under ``key``; None when there are none, or when they are damaged."""
        path = self._object(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        body = data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
            return None
        with suppress(OSError):
            os.utime(path)
        return body

    def write_object(self, key: str, data: bytes) -> None:
        """Keeps ``data``; does nothing where the directory cannot be written."""
        path = self._object(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_folders()
            staged = self.directory / "staging" / f"{key}.{os.getpid()}-{os.urandom(4).hex()}"
            try:
                staged.write_bytes(hashlib.sha256(data).digest() + data)
                os.rename(staged, path)
            except BaseException:
                with suppress(OSError):
                    staged.unlink()
                raise

    # ---- size

    def size(self) -> tuple[int, int]:
        """Entries (artifacts and objects) and their bytes."""
        entries = list(self._entries())
        return len(entries), sum(size for _, size, _ in entries)

    def evict(self, limit: int | None = None) -> int:
        """Removes the least recently used entries until at most ``limit`` bytes are left; how many went.
        Entries that are in use stay. Left-overs of killed builds go too."""
        limit = self.limit if limit is None else limit
        self._clear_staging()
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        removed = 0
        for _, size, path in entries:
            if total <= limit:
                break
            if self._evict_one(path):
                total -= size
                removed += 1
        return removed

    def _evict_one(self, path: Path) -> bool:
        if path.parent.parent.name == "objects":
            with suppress(OSError):
                path.unlink()
                return True
            return False
        with self._exclusive_now(path.name) as held:
            if held:
                self._remove(path)
                with suppress(OSError):
                    (self.directory / "locks" / path.name).unlink()
            return held

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """(time of last use, bytes, path)."""
        for path in _listing(self.directory / "artifacts"):
            with suppress(OSError):
                size = sum(file.stat().st_size for file in path.rglob("*"))
                yield path.stat().st_mtime, size, path
        for folder in _listing(self.directory / "objects"):
            for path in _listing(folder):
                with suppress(OSError):
                    found = path.stat()
                    yield found.st_mtime, found.st_size, path

    def _clear_staging(self) -> None:
        """What is staged for a key belongs to the holder of its lock, or to nobody any more."""
        for path in _listing(self.directory / "staging"):
            key, _, owner = path.name.lstrip(".").partition(".")
            pid = owner.partition("-")[0]
            if path.is_dir():
                with self._exclusive_now(key) as held:
                    if held:
                        _remove_tree(path)
            elif pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                with suppress(OSError):
                    path.unlink()

    # ---- locks and paths

    def _artifact(self, key: str) -> Path:
        return self.directory / "artifacts" / key

    def _object(self, key: str) -> Path:
        return self.directory / "objects" / key[:2] / key

    def _make_folders(self) -> None:
        for name in ("artifacts", "objects", "locks", "staging"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)

    def _lock(self, key: str, mode: int) -> int:
        """A descriptor that holds the lock; it is released by closing. OSError when there can be none."""
        path = self.directory / "locks" / key
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, mode)
                # Eviction removes lock files: a lock on a removed one protects nothing.
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    @contextmanager
    def _exclusive_now(self, key: str) -> Iterator[bool]:
        """Whether the exclusive lock could be had at once; it is held inside."""
        try:
            fd = self._lock(key, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            os.close(fd)


def _remove_tree(path: Path) -> None:
    """As far as it can be removed."""
    import shutil  # not needed to find what is cached

    shutil.rmtree(path, ignore_errors=True)


def _listing(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)]
    except OSError:
        return []


def _warn(message: str) -> None:
    """Points at the first caller outside this package."""
    package = os.path.dirname(os.path.abspath(__file__)) + os.sep
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CacheWarning, stacklevel=level)

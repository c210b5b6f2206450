"""Weights: mapped where they lie, and compared with their list of digests before a run first reads them.

The list has a SHA-256 for each leaf of 64 KiB and is itself a file of the manifest, so mapping 100 MB costs the
check of 50 KB. Hashing all of it takes as long as SHA-256 takes, on as many threads as there are processors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from _thread import LockType, allocate_lock, start_new_thread  # threading takes a millisecond to import
from collections.abc import Callable, Iterable

from ..errors import IntegrityError, RaceError
from .container import DAMAGED

LEAF_BYTES = 1 << 16
_DIGEST = 32
_PER_THREAD = 32  # leaves; with fewer a thread costs more than it saves
_MAX_THREADS = 8


def leaves(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The SHA-256 of each leaf of what the pieces are together, one after the other."""
    import hashlib

    found, digest, room = [], hashlib.sha256(), LEAF_BYTES
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= room:
            digest.update(rest[:room])
            found.append(digest.digest())
            rest, digest, room = rest[room:], hashlib.sha256(), LEAF_BYTES
        digest.update(rest)
        room -= len(rest)
    return b"".join(found) + (digest.digest() if room < LEAF_BYTES else b"")


class Weights:
    """``size`` bytes of an open file from ``start`` on (a multiple of a page), mapped read only as ``data``.

    Nothing has been compared yet: :meth:`check` has to be called before ``data`` is used. Raises IntegrityError where
    ``expected``, the digests of all leaves, is of another length, and where the file is shorter.
    """

    def __init__(self, fd: int, start: int, size: int, expected: bytes, path: str) -> None:
        self.path = path
        self._fd = os.dup(fd)  # others may close theirs
        self._expected = expected
        self._checked = False
        self._lock = allocate_lock()
        self._state = self._status()
        if len(expected) != -(-size // LEAF_BYTES) * _DIGEST or self._state[0] < start + size:
            raise IntegrityError(
                "the weights are not as long as their list of digests", path=path,
                expected=f"{len(expected) // _DIGEST} leaves", actual=f"{size} bytes", hint=DAMAGED,
            )  # fmt: skip
        self._map = _mapped(self._fd, start, size) if size else b""
        self.data = memoryview(self._map)

    def check(self) -> None:
        """Compares every leaf, the first time; threads that come meanwhile wait.

        Raises IntegrityError for the first leaf that differs, RaceError where the file was written to while it was
        read.
        """
        if self._checked:
            return
        with self._lock:
            if self._checked:
                return
            if self._status() != self._state:  # what is no longer there would end the process when it is read
                raise RaceError("the file was changed since it was opened", path=self.path)
            import hashlib  # lets threads work side by side

            wrong: list[int] = []

            def work(index: int) -> bool:
                leaf = self.data[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
                if hashlib.sha256(leaf).digest() != self._expected[index * _DIGEST : (index + 1) * _DIGEST]:
                    wrong.append(index)
                return not wrong

            checked = _in_parallel(work, len(self._expected) // _DIGEST)
            if wrong or not checked:
                index = min(wrong, default=0)
                expected = self._expected[index * _DIGEST : (index + 1) * _DIGEST].hex()
                raise IntegrityError(
                    f"the SHA-256 of leaf {index} ({LEAF_BYTES} bytes from {index * LEAF_BYTES}) differs",
                    path=self.path, expected=expected, hint=DAMAGED,
                )  # fmt: skip
            if self._status() != self._state:
                raise RaceError("the file was changed while it was examined", path=self.path)
            self._checked = True

    def _status(self) -> tuple[int, int]:
        found = os.fstat(self._fd)  # not the time of the last change of its names: another artifact may take its place
        return found.st_size, found.st_mtime_ns

    def __del__(self) -> None:
        # The mapping goes with its last reader; only the descriptor is closed here.
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            os.close(fd)


def _mapped(fd: int, start: int, size: int) -> mmap.mmap:
    """Part of a file, read only. In huge pages where the system has them for files: a pass over 150 MB of weights
    meets 80 pages instead of 40,000, which is 1 to 2 % of the time of a run that reads them once."""
    mapped = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, offset=start)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


def _in_parallel(work: Callable[[int], bool], count: int) -> bool:
    """``work`` of each index below ``count`` on several threads (hashing releases the lock), until one is false.
    Whether all were done and true: an exception in a thread makes it false."""
    pending = iter(range(count))
    done = [0]
    stop = False

    def some() -> None:
        nonlocal stop
        mine = 0
        try:
            for index in pending:  # advancing a range iterator is atomic
                if stop:
                    return
                if not work(index):
                    stop = True
                    return
                mine += 1
        finally:
            done.append(mine)

    extra = min(count // _PER_THREAD, _MAX_THREADS, len(os.sched_getaffinity(0))) - 1
    ends = [_in_thread(some) for _ in range(extra)]
    some()
    for end in ends:
        end.acquire()
    return sum(done) == count


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

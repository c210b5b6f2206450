"""Native code between the file it lies in and the loader: copied, sealed against change, hashed, then loaded.

The copy is an anonymous file in memory that the kernel seals: nobody can write to it or replace it any more, and
what is hashed is what the loader maps. Where there are no such files, it is a fresh file in a directory that only
its owner can enter, and the hash is that of what was written to it: that owner's other processes are trusted then.
"""

from __future__ import annotations

import os

from ..errors import IntegrityError, RaceError
from .container import DAMAGED, read_exactly
from .digest import sha256

_ADD_SEALS, _GET_SEALS = 1033, 1034  # fcntl.F_ADD_SEALS and F_GET_SEALS, from Python 3.13 on
_SEALS = 1 | 2 | 4 | 8  # no more seals, no shrinking, no growing, no writing
_EXECUTABLE = 0x10  # MFD_EXEC: where the system makes files in memory that cannot be mapped as code by default


class Payload:
    """A native library in a file that cannot change any more, of which ``digest`` is the SHA-256.

    ``location`` is where the loader finds it; the descriptor stays open for as long as this object, since loaders
    remember libraries by that name. Raises IntegrityError where the bytes have another digest.
    """

    def __init__(self, fd: int, start: int, size: int, digest: str, path: str) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.fd, self._folder = -1, ""
        try:
            image = read_exactly(fd, start, size, path)
            try:
                self.fd = _sealed(image)
            except OSError:  # the system has none, or forbids them
                self.fd, self._folder, self.location = _written(image)
                self.image = image
            else:
                self.location = f"/proc/self/fd/{self.fd}"
                self.image = read_exactly(self.fd, 0, size, path)
            found = sha256(self.image).hex()
            if found != digest or os.fstat(self.fd).st_size != size:
                raise IntegrityError(
                    "the payload is not the one that was signed", path=path, expected=digest, actual=found, hint=DAMAGED
                )
        except BaseException:
            self.close()
            raise

    def check_mapped(self, address: int) -> None:
        """Raises RaceError where the code at ``address`` is not mapped from this file."""
        found = os.fstat(self.fd)
        with open("/proc/self/maps", encoding="ascii", errors="surrogateescape") as maps:
            for line in maps:
                span, _, _, device, inode = line.split(None, 5)[:5]
                low, _, high = span.partition("-")
                if int(low, 16) <= address < int(high, 16):
                    major, _, minor = device.partition(":")
                    if (int(inode), int(major, 16), int(minor, 16)) == (
                        found.st_ino, os.major(found.st_dev), os.minor(found.st_dev),
                    ):  # fmt: skip
                        return
                    break
        raise RaceError("the loader mapped another file than the one that was checked", path=self.path)

    def close(self) -> None:
        """Closes the file; what is mapped stays."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()


def _sealed(image: bytes) -> int:
    """A descriptor of a file in memory that has these bytes for ever."""
    import fcntl

    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("payload", flags | _EXECUTABLE)
    except OSError:  # a kernel before 6.3, where all of them can be mapped as code
        fd = os.memfd_create("payload", flags)
    try:
        rest = memoryview(image)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
        if fcntl.fcntl(fd, _GET_SEALS) & _SEALS != _SEALS:
            raise RaceError("the copy in memory cannot be sealed")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _written(image: bytes) -> tuple[int, str, str]:
    """A descriptor of a new file with these bytes, the directory of its own that it is in, and its path."""
    import tempfile

    folder = tempfile.mkdtemp(prefix="vitrify-")  # mode 700
    path = os.path.join(folder, "payload")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags, 0o500)
    try:
        rest = memoryview(image)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd, folder, path

"""Reading an artifact that is one file: nothing is believed that is not written again and compared."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ..errors import ContainerError, LimitError
from .container import (
    CENTRAL,
    DAMAGED,
    END,
    MAX_BYTES,
    MAX_MEMBERS,
    Entry,
    Place,
    check_names,
    check_place,
    check_writers,
    directory,
    local_header,
    places,
    read_exactly,
)  # fmt: skip

_MAX_DIRECTORY = 1 << 20  # bytes: 4096 members with names of 200
_STORED = 0


class Archive:
    """An artifact's file, opened; its layout is the one valid encoding of ``entries``, its contents are unread.

    Raises ContainerError for anything else, LimitError for more members or bytes than an archive has.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = open_regular(path)
        try:
            status = os.fstat(self.fd)
            check_writers(status, path)
            check_place(path)
            self.size = status.st_size
            start, table = self._table()
            entries = list(self._entries(table))
            names = [entry.name for entry in entries]
            check_names(names)
            found, expected_start = places(entries)
            if names != sorted(set(names)):
                raise self._bad("members are not in the order of their names, or a name repeats", names[:20])
            if start != expected_start:
                raise self._bad(f"the directory is at byte {start} instead of {expected_start}")
            if directory(found, start) != table:
                raise self._bad("the directory differs from the one valid encoding")
            self._check_headers(found)
        except BaseException:
            self.close()
            raise
        self.entries = {entry.name: entry for entry in entries}
        self._data = {place.entry.name: place.data for place in found}

    def locate(self, name: str) -> tuple[int, int]:
        """The descriptor of the file that has the member, and the byte in it where the member begins."""
        return self.fd, self._data[name]

    def read(self, name: str) -> bytes:
        """All of the member. RaceError where the file has become shorter."""
        return read_exactly(self.fd, self._data[name], self.entries[name].size, self.path)

    def close(self) -> None:
        """Closes the file; what is mapped stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()

    # ---- layout

    def _table(self) -> tuple[int, bytes]:
        """Where the archive's directory begins, and its bytes with the end record."""
        if self.size > MAX_BYTES:
            raise LimitError(
                "the file is too large", path=self.path, expected=f"at most {MAX_BYTES} bytes", actual=self.size
            )
        if self.size < END.size:
            raise self._bad("the file is too short for an archive", f"{self.size} bytes")
        last = read_exactly(self.fd, self.size - END.size, END.size, self.path)
        mark, disk, disk_too, here, count, length, start, comment = END.unpack(last)
        if mark != b"PK\5\6":
            raise self._bad("the file does not end with the end record of an archive", last)
        if 0xFFFF in (here, count) or 0xFFFFFFFF in (length, start):
            raise self._bad("the end record is that of a zip64 archive", last)
        if disk or disk_too or comment or here != count:
            raise self._bad("the end record speaks of other disks, or of a comment", last)
        if count > MAX_MEMBERS or length > _MAX_DIRECTORY:
            raise LimitError("too many members", path=self.path, expected=f"at most {MAX_MEMBERS}", actual=count)
        if start + length + END.size != self.size:
            raise self._bad("the directory does not lie just before the end record", f"{start} + {length}")
        return start, read_exactly(self.fd, start, length + END.size, self.path)

    def _entries(self, table: bytes) -> Iterator[Entry]:
        """The directory's records; what they say besides names, sizes and checksums is compared later."""
        at, end = 0, len(table) - END.size
        while at < end:
            if end - at < CENTRAL.size or table[at : at + 4] != b"PK\1\2":
                raise self._bad("a record of the directory is cut off or has no mark", table[at : at + 4])
            record = CENTRAL.unpack_from(table, at)
            flags, method, crc32, stored, size, name_length, extra, comment = (*record[3:5], *record[7:13])
            if method != _STORED or stored != size:
                raise self._bad("a member is compressed", f"method {method}")
            if flags or extra or comment:
                raise self._bad("a member has flags, extra fields or a comment", f"{flags:#x}, {extra}, {comment}")
            at += CENTRAL.size
            try:
                name = table[at : min(at + name_length, end)].decode("ascii")
            except UnicodeDecodeError:
                raise self._bad("a member's name is not ASCII", table[at : at + name_length]) from None
            at += name_length
            yield Entry(name, size, crc32)

    def _check_headers(self, found: list[Place]) -> None:
        """Every member's header, and the zeros before it."""
        at = 0
        for entry, header, data in found:
            between = read_exactly(self.fd, at, data - at, self.path)
            if between != bytes(header - at) + local_header(entry):
                raise self._bad(f"what precedes {entry.name} differs from the one valid encoding")
            at = data + entry.size

    def _bad(self, message: str, actual: object = None) -> ContainerError:
        return ContainerError(message, path=self.path, actual=actual, hint=DAMAGED)


def open_regular(path: str, folder: int | None = None) -> int:
    """A descriptor of the regular file at ``path`` itself: ContainerError for a link, a pipe or a device there,
    and where it cannot be opened. It is relative to the directory ``folder`` where that is given."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise ContainerError(
            f"cannot be opened: {error.strerror}", path=path, expected="a regular file that is no link"
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ContainerError("not a regular file", path=path)
    return fd

"""Reading an artifact that is a directory: for development, and for what is too large for one file."""

from __future__ import annotations

import os
import stat

from ..errors import ContainerError, LimitError, RaceError
from .archive import open_regular
from .container import DAMAGED, MAX_MEMBERS, Entry, check_name, check_place, check_writers, read_exactly

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An artifact's directory: every file below it by name, each opened as it is first asked for.

    ``entries`` have no checksums (0): a directory keeps none. Raises ContainerError for links (hard ones too),
    pipes, devices, deeper directories and names that no member has; LimitError for too many files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._files: dict[str, int] = {}
        try:
            self.fd = os.open(path, _FOLDER)
        except OSError as error:
            raise ContainerError(
                f"cannot be opened: {error.strerror}", path=path, expected="a directory that is no link"
            ) from None
        try:
            check_place(path)
            self.entries: dict[str, Entry] = {}
            self._list(self.fd, "")
        except BaseException:
            self.close()
            raise

    def locate(self, name: str) -> tuple[int, int]:
        """The descriptor of the file that has the member, and the byte in it where the member begins: 0. RaceError
        where it is not the file that was found at first, or anybody may write to it."""
        if name not in self._files:
            folder, _, last = name.rpartition("/")
            if folder:
                inner = self._inside(folder)
                try:
                    fd = open_regular(last, inner)
                finally:
                    os.close(inner)
            else:
                fd = open_regular(last, self.fd)
            self._files[name] = fd  # closed with the others, whatever is found now
            status = os.fstat(fd)
            if status.st_nlink != 1 or status.st_size != self.entries[name].size:
                raise RaceError(
                    "the file was exchanged since the directory was read", path=os.path.join(self.path, name),
                    expected=f"{self.entries[name].size} bytes, one name",
                    actual=f"{status.st_size} bytes, {status.st_nlink} names",
                )  # fmt: skip
            check_writers(status, os.path.join(self.path, name))
        return self._files[name], 0

    def read(self, name: str) -> bytes:
        """All of the member. RaceError where the file has become shorter."""
        fd, start = self.locate(name)
        return read_exactly(fd, start, self.entries[name].size, os.path.join(self.path, name))

    def close(self) -> None:
        """Closes all files; what is mapped stays."""
        for fd in (*self._files.values(), self.fd):
            if fd >= 0:
                os.close(fd)
        self._files.clear()
        self.fd = -1

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()

    def _inside(self, name: str) -> int:
        """The descriptor of a directory in this one."""
        try:
            return os.open(name, _FOLDER, dir_fd=self.fd)
        except OSError as error:
            raise ContainerError(
                f"cannot be opened: {error.strerror}", path=os.path.join(self.path, name),
                expected="a directory that is no link",
            ) from None  # fmt: skip

    def _list(self, folder: int, prefix: str) -> None:
        check_writers(os.fstat(folder), os.path.join(self.path, prefix))
        with os.scandir(folder) as found:
            for item in found:
                name = prefix + item.name
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    raise RaceError(
                        f"{name!r} went while the directory was read", path=self.path
                    ) from None
                if stat.S_ISDIR(status.st_mode) and not prefix:
                    check_name(item.name)
                    inner = self._inside(item.name)
                    try:
                        self._list(inner, f"{item.name}/")
                    finally:
                        os.close(inner)
                    continue
                check_name(name)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    raise ContainerError(
                        "not a regular file with one name", path=os.path.join(self.path, name), hint=DAMAGED
                    )
                check_writers(status, os.path.join(self.path, name))
                self.entries[name] = Entry(name, status.st_size, 0)
                if len(self.entries) > MAX_MEMBERS:
                    raise LimitError("too many files", path=self.path, expected=f"at most {MAX_MEMBERS}")


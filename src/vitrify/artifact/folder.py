"""Reading an artifact that is a directory: for development, and for what is too large for one file."""

from __future__ import annotations

import os
import stat

from ..errors import ContainerError, LimitError
from .archive import open_regular
from .container import DAMAGED, MAX_MEMBERS, Entry, check_name, read_exactly


class Folder:
    """An artifact's directory: every file below it by name, each opened as it is first asked for.

    ``entries`` have no checksums (0): a directory keeps none. Raises ContainerError for links (hard ones too),
    pipes, devices, deeper directories and names that no member has; LimitError for too many files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._files: dict[str, int] = {}
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ContainerError(f"cannot be opened: {error.strerror}", path=path) from None
        try:
            self.entries: dict[str, Entry] = {}
            self._list(self.fd, "")
        except BaseException:
            self.close()
            raise

    def locate(self, name: str) -> tuple[int, int]:
        """The descriptor of the file that has the member, and the byte in it where the member begins: 0."""
        if name not in self._files:
            folder, _, last = name.rpartition("/")
            if folder:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
                try:
                    self._files[name] = open_regular(last, inner)
                finally:
                    os.close(inner)
            else:
                self._files[name] = open_regular(last, self.fd)
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

    def _list(self, folder: int, prefix: str) -> None:
        with os.scandir(folder) as found:
            for item in found:
                name = prefix + item.name
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and not prefix:
                    check_name(item.name)
                    inner = os.open(
                        item.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
                    )
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
                self.entries[name] = Entry(name, status.st_size, 0)
                if len(self.entries) > MAX_MEMBERS:
                    raise LimitError("too many files", path=self.path, expected=f"at most {MAX_MEMBERS}")


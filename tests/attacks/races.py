"""RaceError: places where others may write, which no check of the contents outlives. What has to be done while an
artifact is open is in ``test_races.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vitrify.errors import RaceError

from .forge import LEAVES, WEIGHTS, base, write_file, write_folder
from .table import attack

_OTHERS = "others can write"


def _open_to_all(change: Callable[[Path], object], *, folder: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (write_folder if folder else write_file)(path, base().members())
        change(path)

    return write


attack("races/writable-file", RaceError, _OTHERS, _open_to_all(lambda path: path.chmod(0o646)))
attack("races/writable-folder", RaceError, _OTHERS, _open_to_all(lambda path: path.chmod(0o777), folder=True))
attack("races/writable-inner-folder", RaceError, _OTHERS, _open_to_all(
    lambda path: (path / "weights").chmod(0o777), folder=True))  # fmt: skip
attack("races/writable-weights", RaceError, _OTHERS, _open_to_all(
    lambda path: (path / WEIGHTS).chmod(0o666), folder=True))  # fmt: skip
attack("races/writable-list", RaceError, _OTHERS, _open_to_all(
    lambda path: (path / LEAVES).chmod(0o602), folder=True))  # fmt: skip
attack("races/writable-parent", RaceError, _OTHERS, _open_to_all(lambda path: path.parent.chmod(0o777)))
attack("races/writable-parent-of-folder", RaceError, _OTHERS, _open_to_all(
    lambda path: path.parent.chmod(0o777), folder=True))  # fmt: skip

"""What a process holds: memory, descriptors, threads, mappings and temporary files."""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """``resident`` in bytes, of which ``mapped`` lie in files; the rest are counts."""

    resident: int
    descriptors: int
    threads: int
    mappings: int
    files: int

    def grown(self, before: Account) -> dict[str, int]:
        return {name: value - getattr(before, name) for name, value in asdict(self).items()}


def account(folder: Path | None = None) -> Account:
    """Now, once what nobody holds is gone. ``files`` are those in ``folder`` (else in the temporary folder) whose
    names begin as ours do."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what the C library keeps for later is no leak
    where = folder or Path(tempfile.gettempdir())
    return Account(
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=len(os.listdir("/proc/self/task")),
        mappings=len(Path("/proc/self/maps").read_text().splitlines()),
        files=_count(where, "" if folder else "vitrify"),
    )


def _count(folder: Path, prefix: str) -> int:
    """Entries below ``folder``. Those of other processes may vanish meanwhile."""
    found = 0
    for _, folders, files in os.walk(folder, onerror=None):
        found += sum(name.startswith(prefix) for name in (*folders, *files))
    return found

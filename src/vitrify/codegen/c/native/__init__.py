"""The C that every payload carries besides its generated plan: thread pool, call path, memory functions."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def support_sources() -> list[Path]:
    """The C files to compile and link into a payload together with the plan, in a fixed order.

    They need ``-ffreestanding -fno-builtin -fvisibility=hidden -nostdlib -shared -fPIC -std=gnu17``
    and :func:`include_directory` on the include path. A linked payload exports ``vt_payload`` and
    imports nothing.
    """
    return [_HERE / "call.c", _HERE / "mem.c", _HERE / "pool.c", _HERE / "watch.c"]


def include_directory() -> Path:
    """Where ``abi.h``, the header of plans and kernels, is found."""
    return _HERE

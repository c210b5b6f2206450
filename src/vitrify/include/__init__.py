"""C and C++ headers for programs that run artifacts without Python: ``python -m vitrify.include`` prints where."""

from __future__ import annotations

from pathlib import Path


def include_directory() -> Path:
    """The directory to pass to a compiler as ``-I``: ``vitrify.h`` is the C interface of payloads, ``vitrify.hpp``
    the C++17 loader."""
    return Path(__file__).resolve().parent

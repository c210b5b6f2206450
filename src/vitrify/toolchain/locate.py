"""Which C compiler is used, and what tells it from another: found without starting it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from vitrify.errors import ToolchainError

#: Names a clang to use instead of the one in the ``ziglang`` wheel.
CC_VARIABLE = "VITRIFY_CC"


class Program(NamedTuple):
    """``zig``: the one of the wheel. ``fingerprint`` changes when the program does."""

    path: Path
    zig: bool
    fingerprint: str


def locate(cc: str | None = None) -> Program:
    """The compiler ``cc``, else ``$VITRIFY_CC``, else that of the ``ziglang`` wheel; no other is ever
    taken. Raises ToolchainError when it is missing."""
    named = cc or os.environ.get(CC_VARIABLE)
    path = _system(named) if named else _zig()
    binary = path.resolve()
    found = binary.stat()
    parts = repr((str(binary), found.st_size, found.st_mtime_ns))
    return Program(path, not named, hashlib.sha256(parts.encode()).hexdigest())


def _zig() -> Path:
    spec = importlib.util.find_spec("ziglang")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        binary = Path(place) / "zig"
        if binary.is_file():
            return binary
    raise ToolchainError(
        "the C compiler is missing",
        expected="the ziglang wheel",
        actual=f"ziglang without its program in {places[0]}" if places else "no module named ziglang",
        hint=f"pip install 'vitrify[compile]', or set {CC_VARIABLE} to a clang",
    )


def _system(cc: str) -> Path:
    import shutil

    found = shutil.which(cc)
    if found is None:
        raise ToolchainError(
            "the C compiler that was asked for is missing", expected="a clang", actual=repr(cc),
            hint=f"correct {CC_VARIABLE}, or unset it to use the ziglang wheel",
        )  # fmt: skip
    return Path(found)

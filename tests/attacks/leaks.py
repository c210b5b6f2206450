"""LeakError: files that tell where they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrify.errors import LeakError

from .forge import PAYLOAD, Parts, dumps
from .table import attack, changed


def _details(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(parts: Parts) -> None:
        document = json.loads(parts.files["details.json"])
        change(document)
        parts.files["details.json"] = dumps(document)
        parts.list_files()

    return changed(write)


def _described(text: str) -> Callable[[Path], None]:
    return _details(lambda d: d["meta"].update(description=text))


def _in_payload(text: bytes) -> Callable[[Path], None]:
    """Bytes between the code and the tables, which nothing reads."""

    def write(parts: Parts) -> None:
        image = parts.files[PAYLOAD]
        room = image.index(bytes(len(text) + 2), 0x400)
        parts.files[PAYLOAD] = image[: room + 1] + text + image[room + 1 + len(text) :]
        parts.list_files()

    return changed(write)


_PATH = "a local path"
attack("leaks/home", LeakError, _PATH, _described("see /home/user/model"), stage="verify")
attack("leaks/windows", LeakError, _PATH, _described("C:\\Users\\me\\model"), stage="verify")
attack("leaks/share", LeakError, _PATH, _described("\\\\server\\share\\model"), stage="verify")
attack("leaks/payload", LeakError, _PATH, _in_payload(b"/root/build/x.c"), stage="run")
attack("leaks/payload-wide", LeakError, _PATH, _in_payload("\0/home/user/x".encode("utf-16-le")), stage="run")

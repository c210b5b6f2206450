"""Paths of the machine that built an artifact: none may leave it, in text or in code.

An absolute path names a user, a project or a layout of disks. It is looked for as ASCII (UTF-8) and as UTF-16, in
text, JSON and machine code. Three expressions, each of which begins with one fixed byte that the search jumps to;
a path begins where no word goes on, so that ``src/home/page`` and ``https://home/page`` are none, but ``file:///home/me``
and ``-I/home/me`` are. Weights are not scanned: any bytes may be numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import LeakError

#: Folders of local absolute paths; under the last ones modules of a model may be named as well.
FOLDERS = (
    "home", "root", "Users", "tmp", "work", "workspace", "workspaces", "builds", "opt", "mnt", "Volumes",
    "private/var", "private/tmp", *(f"var/{name}" for name in (
        "cache", "folders", "home", "jenkins", "lib", "local", "log", "mnt", "opt", "root", "run", "spool", "srv",
        "tmp", "www",
    )),
)  # fmt: skip
_SHORTEST, _SHOWN = 4, 120
_NAMED = rb"""[^\0-\x20"'<>|*?:;,/\\)}\]\x7f]"""  # in the name of a file, whatever the encoding


def _wide(pattern: str) -> bytes:
    return pattern.encode("utf-16-le")


# behind a byte of a name or of an URL's host nothing begins, but behind a compiler's option it does
_BEGINS = rb"(?:(?<![\w.~*@\])-]/)(?<![^/]//)(?<!://)|(?<=-[ILFB]/))"
_NARROW_FOLDERS = b"|".join(map(re.escape, (f.encode() for f in FOLDERS)))
_WIDE_FOLDERS = b"|".join(re.escape(_wide(f)) for f in FOLDERS)
_POSIX = re.compile(
    rb"/(?:" + _BEGINS + rb"(?:" + _NARROW_FOLDERS + rb")/" + _NAMED
    + rb"|(?<![\w.~*@\])/-]\0/)\0(?:" + _WIDE_FOLDERS + rb")/\0" + _NAMED + rb"\0)"
)  # fmt: skip
# random code has a letter, a colon and a slash now and then, but hardly with a name behind
_DRIVE = re.compile(
    rb":(?:(?<=[A-Za-z]:)(?<!\w[A-Za-z]:)(?:\\\\?|/(?!/))[\w.+@~$ -]{3}[\w.+@~$ \\/-]{2}"
    rb"|\0(?<=[A-Za-z]\0:\0)[\\/]\0(?:[\w.+@~$ -]\0){2})"
)
_SHARE = re.compile(
    rb"\\(?:\\(?:\\\\[\w.-]{2,64}\\\\|[\w.-]{2,64}\\)[\w$.-]{2}[\w$.\\-]"
    rb"|\0\\\0(?:[\w.-]\0){2,64}\\\0(?:[\w$.-]\0){2})"
)


def scan(data: bytes | memoryview, *, name: str, also: Iterable[str] = ()) -> None:
    """Raises LeakError where ``data``, the contents of ``name``, holds a local absolute path, or one of ``also``:
    what else the builder knows of its machine, such as its working directory."""
    for expression in (_POSIX, _DRIVE, _SHARE):
        if found := expression.search(data):
            raise _leak(data, found.start(), name)
    known = [text for text in also if len(text) >= _SHORTEST]
    if not known:
        return
    whole = bytes(data)
    for text in known:
        for encoded in (text.encode(errors="surrogateescape"), _wide(text)):
            if (at := whole.find(encoded)) >= 0:
                raise _leak(data, at, name)


def _leak(data: bytes | memoryview, at: int, name: str) -> LeakError:
    """The error that shows the path around byte ``at``."""
    wide = bytes(data[at + 1 : at + 2]) == b"\0"
    start = max(at - (2 if wide else 1), 0) if bytes(data[at : at + 1]) == b":" else at
    shown = bytes(data[start : start + _SHOWN * (2 if wide else 1)])
    text = shown.decode("utf-16-le" if wide else "utf-8", "replace")
    path = re.split(r"[\0-\x1f\"'<>|*?\ufffd]", text)[0]
    return LeakError(
        f"a local path at byte {start}", path=name, expected="no absolute paths of the machine that builds",
        actual=path, hint="rename it in the model, or build from a relative path",
    )  # fmt: skip

"""The command line: each command is a thin function over the public API."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs ``vitrify`` with ``arguments`` (default: the process's) and returns the exit status: 0 done,
    1 refused or failed (of ``diff``: they differ), 2 wrong usage, 10 to 19 for artifacts (docs/artifacts.md), 70 a bug,
    130 interrupted."""
    try:
        from vitrify.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print(
            f"the command line needs {error.name}: pip install 'vitrify[cli]' (to compile, too: 'vitrify[compile]'); "
            "from Python, vitrify.verify(path) and the others need neither", file=sys.stderr,
        )  # fmt: skip
        return 1
    return run(arguments)

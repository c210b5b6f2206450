"""What the compiler shows of itself.

``VITRIFY_DUMP=directory`` writes every stage there, numbered. ``VITRIFY_DEBUG`` tells on standard error: 1, the
time of each stage (and graphs are verified between passes); 2, also the plan; 3, also the graph after every
pass; 4, also the C text of every kernel.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vitrify.errors import InvalidArgumentError

if TYPE_CHECKING:
    from vitrify.ir.graph import Graph


def debug_level() -> int:
    """``VITRIFY_DEBUG``, 0 when it is not set. InvalidArgumentError when it is not a number."""
    text = os.environ.get("VITRIFY_DEBUG") or "0"
    if not text.isascii() or not text.isdigit():
        raise InvalidArgumentError("$VITRIFY_DEBUG", expected="0 to 4", actual=repr(text))
    return int(text)


class Debug:
    """Where one compile's stages go; silent when neither variable is set."""

    def __init__(self) -> None:
        folder = os.environ.get("VITRIFY_DUMP")
        self.folder = Path(folder) if folder else None
        self.level = debug_level()
        self.number = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Tells how long the stage took."""
        start = time.perf_counter()
        yield
        if self.level >= 1:
            sys.stderr.write(f"vitrify: {name}: {(time.perf_counter() - start) * 1e3:.1f} ms\n")

    def text(self, name: str, text: Callable[[], str], *, level: int, suffix: str = "txt") -> None:
        """One stage's text; ``level`` is what shows it on standard error."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / f"{self.number:02d}_{name}.{suffix}").write_text(text(), encoding="utf-8")
            except OSError as error:
                raise InvalidArgumentError(
                    "$VITRIFY_DUMP", expected="a directory that can be written", actual=str(error)
                ) from None
            self.number += 1
        if self.level >= level:
            sys.stderr.write(f"--- {name}\n{text()}\n")

    def graph(self, name: str, graph: Graph) -> None:
        def text() -> str:
            from vitrify.ir.text import print_graph

            return print_graph(graph)

        self.text(name, text, level=3)

"""Where commands print: terminals as wide as they are, pipes and files as wide as a page."""

from __future__ import annotations

import os

from rich import box
from rich import markup as rich_markup
from rich.console import Console
from rich.table import Table

_PAGE = 100  # columns


def console() -> Console:
    """Of standard output. ``COLUMNS`` and ``NO_COLOR`` count."""
    found = Console(highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        return Console(highlight=False, width=_PAGE)
    return found


def printable(text: str) -> str:
    """The text with what moves cursors, colours or reverses lines spelled out: names come out of models and artifacts
    that anybody may have made."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """The text as rich's markup shows it, :func:`printable`."""
    return rich_markup.escape(printable(text))


def table(*left: str, right: tuple[str, ...] = ()) -> Table:
    """With columns of text, which give way on narrow terminals, then columns of numbers, which do not."""
    made = Table(box=box.SIMPLE, header_style="bold", pad_edge=False)
    for head in left:
        made.add_column(head, overflow="fold")
    for head in right:
        made.add_column(head, justify="right", no_wrap=True)
    return made


def significant(value: float | None, digits: int = 3) -> str:
    """``0.0123``, ``1.23``, ``123``, ``12,300``: without exponents down to a millionth."""
    if value is None or value != value:
        return "–"
    if value and abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}"
    whole = len(f"{int(abs(value))}") if abs(value) >= 1 else 0
    if whole:
        return f"{value:,.{max(digits - whole, 0)}f}"
    shown = f"{value:.{digits - 1}e}"  # for the place of the first digit
    return f"{value:.{digits - 1 - int(shown.partition('e')[2])}f}" if value else "0"

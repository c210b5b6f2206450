"""Closed schemas of documents: a parser for each kind of value, which refuses everything that is not of the kind.

A parser takes a value out of canonical JSON and the place where it stands, and gives what Python works with.
All of them raise ManifestError; no member is optional, unknown, or left unread.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from ..errors import ManifestError

T = TypeVar("T")
Parser = Callable[[Any, str], T]

_HEX = frozenset("0123456789abcdef")
_DIGITS = re.compile("[0-9]+")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SHOWN = 80


def refusal(where: str, expected: str, actual: object) -> ManifestError:
    """What a parser raises."""
    shown = repr(actual)
    return ManifestError(
        f"{where} is ill-formed", expected=expected, actual=shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…",
        hint="the artifact is damaged or was not written by this version; build it again",
    )  # fmt: skip


def text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise refusal(where, "a string", value)
    return value


def integer(value: Any, where: str) -> int:
    if type(value) is not int:
        raise refusal(where, "an integer", value)
    return value


def count(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise refusal(where, "an integer that is not negative", value)
    return value


def truth(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise refusal(where, "true or false", value)
    return value


def digest(value: Any, where: str) -> str:
    """A SHA-256 in lower-case hexadecimal."""
    if type(value) is not str or len(value) != 64 or not _HEX.issuperset(value):
        raise refusal(where, "64 lower-case hexadecimal digits", value)
    return value


def base64(value: Any, where: str) -> bytes:
    """Bytes in the one base64 spelling they have."""
    try:
        found = a2b_base64(value, strict_mode=True) if type(value) is str else None
    except (Base64Error, ValueError):
        found = None
    if found is None or b2a_base64(found, newline=False).decode() != value:
        raise refusal(where, "base64 with padding", value)
    return found


def instant(value: Any, where: str) -> int:
    """A moment in UTC such as ``2026-01-31T00:00:00Z``, as seconds since 1970."""
    if type(value) is str and _INSTANT.fullmatch(value):
        try:
            year, month, day, hour, minute, seconds = map(int, _DIGITS.findall(value))
            if seconds < 62:  # leap seconds, as C's calendar has them
                since = datetime(year, month, day, hour, minute) - datetime(1970, 1, 1)
                return since.days * 86400 + since.seconds + seconds
        except ValueError:
            pass
    raise refusal(where, "a moment in UTC such as 2026-01-31T00:00:00Z", value)


def moment(seconds: int) -> str:
    """How :func:`instant` writes a moment."""
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


def constant(expected: str | int) -> Parser[str | int]:
    def parse(value: Any, where: str) -> str | int:
        if type(value) is not type(expected) or value != expected:
            raise refusal(where, repr(expected), value)
        return expected

    return parse


def one_of(*choices: str) -> Parser[str]:
    def parse(value: Any, where: str) -> str:
        if type(value) is not str or value not in choices:
            raise refusal(where, "one of " + " ".join(choices), value)
        return value

    return parse


def optional(item: Parser[T]) -> Parser[T | None]:
    return lambda value, where: None if value is None else item(value, where)


def several(item: Parser[T]) -> Parser[tuple[T, ...]]:
    def parse(value: Any, where: str) -> tuple[T, ...]:
        if type(value) is not list:
            raise refusal(where, "a list", value)
        return tuple([item(element, f"{where}[{index}]") for index, element in enumerate(value)])

    return parse


def mapping(key: Parser[str], item: Parser[T]) -> Parser[dict[str, T]]:
    def parse(value: Any, where: str) -> dict[str, T]:
        if type(value) is not dict:
            raise refusal(where, "an object", value)
        return {key(name, where): item(element, f"{where}[{name!r}]") for name, element in value.items()}

    return parse


def record(make: Callable[..., T], **members: Parser[Any]) -> Parser[T]:
    """An object with exactly these members; their values are passed to ``make`` in the order given here."""

    def parse(value: Any, where: str) -> T:
        if type(value) is not dict or value.keys() != members.keys():
            raise refusal(where, f"an object with the members {', '.join(sorted(members))}", value)
        return make(*[parser(value[name], f"{where}.{name}") for name, parser in members.items()])

    return parse

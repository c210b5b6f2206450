"""Canonical JSON (RFC 8785) without floats: one spelling for a document, and nothing else is read.

Reading parses, writes the result again and compares the bytes, which refuses what Python's ``json`` lets pass:
members that repeat, NaN, lone surrogates, other encodings, spaces, other spellings of numbers and strings.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import LimitError, ManifestError

MAX_BYTES = 1 << 20  # of a document
MAX_DEPTH = 16
MAX_INTEGER = (1 << 53) - 1  # what every reader of JSON holds exactly
_MAX_DIGITS = 17  # of an integer with its sign


def dumps(document: object) -> bytes:
    """The canonical bytes of ``document``: dicts with string keys, lists, strings, integers, booleans and None.

    Raises ManifestError for anything else (floats among it), and for strings that are not text; LimitError for
    integers beyond 2**53 - 1 and for more than 16 levels.
    """
    ordered = _ordered(document, 0)
    try:
        return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        surrogate = error.object[error.start]
        raise ManifestError("a string is not text", actual=f"the lone surrogate {surrogate!a}") from None


def loads(encoded: bytes, *, what: str, limit: int) -> Any:
    """The document whose canonical form is ``encoded``.

    Raises LimitError for more than ``limit`` bytes, 16 levels, or integers beyond 2**53 - 1; ManifestError for
    anything but canonical JSON. ``what`` names the document in messages.
    """
    if len(encoded) > limit:
        raise LimitError(f"{what} is too large", expected=f"at most {limit} bytes", actual=len(encoded))
    try:
        text = encoded.decode("utf-8")
        document = json.loads(text, parse_int=_integer, parse_float=_no_float, parse_constant=_no_float)
    except RecursionError:
        raise LimitError(f"{what} is nested too deeply", expected=f"at most {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ManifestError(f"{what} is not canonical JSON", expected="JSON in UTF-8", actual=error) from None
    again = dumps(document)
    if again != encoded:
        shorter = min(len(again), len(encoded))
        at = next((i for i in range(shorter) if again[i] != encoded[i]), shorter)
        raise ManifestError(
            f"{what} is not canonical JSON: it differs at byte {at}",
            expected=again[at : at + 40],
            actual=encoded[at : at + 40],
            hint="members are sorted and unique, nothing is spaced, and numbers are integers (RFC 8785)",
        )
    return document


def _ordered(value: object, depth: int) -> object:
    """The same with members in order of their UTF-16 units, as RFC 8785 asks."""
    if value is None or value is True or value is False or type(value) is str:
        return value
    if type(value) is int:
        if abs(value) > MAX_INTEGER:
            raise LimitError("an integer is too large", expected=f"at most {MAX_INTEGER}", actual=value)
        return value
    if depth == MAX_DEPTH:
        raise LimitError("a document is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    if type(value) is list:
        return [_ordered(item, depth + 1) for item in value]
    if type(value) is dict:
        if not all(type(key) is str for key in value):
            raise ManifestError("a member's name is not a string", actual=[k for k in value if type(k) is not str])
        return {key: _ordered(value[key], depth + 1) for key in sorted(value, key=_units)}
    raise ManifestError("a value has no canonical form", actual=type(value).__name__)


def _units(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise LimitError("an integer is too large", expected=f"at most {MAX_INTEGER}", actual=f"{len(text)} digits")
    return int(text)


def _no_float(text: str) -> int:
    raise ManifestError("a number is not an integer", expected="integers alone", actual=text[:40])

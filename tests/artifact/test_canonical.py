"""Canonical JSON: RFC 8785 without floats, one spelling for a document."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrify.artifact import canonical
from vitrify.errors import LimitError, ManifestError

integers = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
documents = st.recursive(
    st.none() | st.booleans() | integers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def read(encoded: bytes) -> object:
    return canonical.loads(encoded, what="document", limit=1 << 20)


@given(documents)
def test_round_trip(document: object) -> None:
    encoded = canonical.dumps(document)
    assert read(encoded) == document
    assert json.loads(encoded) == document


@given(documents)
def test_another_spelling_is_refused(document: object) -> None:
    other = json.dumps(document, indent=1).encode()
    if other != canonical.dumps(document):
        with pytest.raises(ManifestError):
            read(other)


def test_members_are_in_order_of_their_utf_16_units() -> None:
    # the example of RFC 8785, section 3.2.3
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]
    encoded = canonical.dumps(dict.fromkeys(keys, 0)).decode()
    assert list(json.loads(encoded)) == ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    "encoded",
    [
        b"", b"[", b"[]\0", b" []", b"[] ", b"[1.0]", b"[1e3]", b"[1e999]", b"[NaN]", b"[-Infinity]", b"[-0]", b"[01]",
        b'{"a":1,"a":1}', b'{"b":1,"a":2}', b'["\\u00e9"]', b'["\\ud800"]', b'{"\\ud800":1}', b'["\\/"]',
        b'["\\u000a"]', b'["\\u001F"]', b"\xef\xbb\xbf[]", "[]".encode("utf-16"), b'["\xff"]', b"['a']", b"[1,]",
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_refused(encoded: bytes) -> None:
    with pytest.raises(ManifestError):
        read(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"[" * 100_000, b"[" * 17 + b"]" * 17, b'{"a":' * 100_000, b"[" + b"9" * 5000 + b"]", b"[9007199254740992]",
        b"[-9007199254740992]", b"[" + b"0," * (1 << 20) + b"0]",
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused(encoded: bytes) -> None:
    with pytest.raises(LimitError):
        read(encoded)


@pytest.mark.parametrize("value", [1.0, b"a", (1,), {1: 2}, "\ud800", {"\ud800": 1}, object()])
def test_what_has_no_canonical_form_is_not_written(value: object) -> None:
    with pytest.raises(ManifestError):
        canonical.dumps([value])


def test_the_deepest_document_is_read() -> None:
    encoded = b"[" * 16 + b"]" * 16
    assert canonical.dumps(read(encoded)) == encoded

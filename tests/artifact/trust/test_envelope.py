"""Envelopes and statements: what was signed, by whom, and what is no signature at all."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from vitrify.artifact import canonical
from vitrify.artifact.trust import envelope
from vitrify.artifact.trust.envelope import STATEMENT_TYPE, Seal, Signed
from vitrify.artifact.trust.keys import Signer
from vitrify.errors import LimitError, ManifestError, SignatureError, UnsignedError, UntrustedKeyError

SEAL = Seal("ab" * 32, "speech", 3, 1795219200, None, "Apache-2.0", None, "cd" * 32)
ONE, TWO = Signer.generate(), Signer.generate()
KEYS = {ONE.id: ONE.public, TWO.id: TWO.public}


def signed(*signers: Signer) -> bytes:
    return envelope.sign(STATEMENT_TYPE, envelope.statement(SEAL), signers)


def changed(encoded: bytes, **members: Any) -> bytes:
    return canonical.dumps({**json.loads(encoded), **members})


def opened(encoded: bytes) -> Signed:
    return envelope.open_envelope(encoded, STATEMENT_TYPE)


def test_round_trip() -> None:
    found = opened(signed(ONE, TWO))
    assert envelope.parse_statement(found.payload) == SEAL
    assert envelope.require(found, STATEMENT_TYPE, KEYS, 2) == KEYS.keys()


def test_signatures_are_added() -> None:
    first = opened(signed(ONE))
    both = opened(envelope.sign(STATEMENT_TYPE, first.payload, [TWO], first.signatures))
    assert envelope.require(both, STATEMENT_TYPE, KEYS, 2) == KEYS.keys()


def test_the_encoding_that_is_signed() -> None:
    # the example of the DSSE specification
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_thresholds_count_keys() -> None:
    one = opened(signed(ONE))
    assert envelope.require(one, STATEMENT_TYPE, KEYS, 1) == {ONE.id}
    for keys, threshold in ((KEYS, 2), ({}, 1), ({TWO.id: TWO.public}, 1), ({}, 0)):
        with pytest.raises(UntrustedKeyError):
            envelope.require(one, STATEMENT_TYPE, keys, threshold)


def test_a_key_that_signs_twice() -> None:
    entry = json.loads(signed(ONE))["signatures"][0]
    with pytest.raises(SignatureError, match="twice"):
        opened(changed(signed(ONE), signatures=[entry, entry]))


def test_no_signature() -> None:
    with pytest.raises(UnsignedError):
        opened(changed(signed(ONE), signatures=[]))


def test_too_many_signatures() -> None:
    entries = [{"keyid": f"{i:064x}", "sig": ""} for i in range(17)]
    with pytest.raises(LimitError):
        opened(changed(signed(ONE), signatures=entries))


def test_another_kind_of_document() -> None:
    with pytest.raises(SignatureError, match="kind"):
        opened(changed(signed(ONE), payloadType="application/json"))
    # the same payload under another type has other signatures
    other = envelope.open_envelope(changed(signed(ONE), payloadType="application/json"), "application/json")
    with pytest.raises(SignatureError):
        envelope.require(other, "application/json", KEYS, 1)


def test_wrong_signatures() -> None:
    right = json.loads(signed(ONE))["signatures"][0]
    wrong = [
        {"keyid": ONE.id, "sig": json.loads(signed(TWO))["signatures"][0]["sig"]},
        {"keyid": ONE.id, "sig": b64encode(bytes(64)).decode()},
        {"keyid": ONE.id, "sig": ""},
    ]
    for entry in wrong:
        with pytest.raises(SignatureError):
            envelope.require(opened(changed(signed(ONE), signatures=[entry])), STATEMENT_TYPE, KEYS, 1)
    payload = envelope.statement(SEAL._replace(release=4))
    with pytest.raises(SignatureError):
        envelope.require(opened(changed(signed(ONE), payload=b64encode(payload).decode())), STATEMENT_TYPE, KEYS, 1)
    # a second, wrong signature of a trusted key is not ignored
    bad = {"keyid": TWO.id, "sig": right["sig"]}
    entries = sorted([right, bad], key=lambda e: str(e["keyid"]))
    with pytest.raises(SignatureError):
        envelope.require(opened(changed(signed(ONE), signatures=entries)), STATEMENT_TYPE, KEYS, 1)


@pytest.mark.parametrize(
    "members",
    [
        {"payload": "e30"}, {"payload": "e31="}, {"payload": "e30=\n"}, {"payload": 1}, {"payloadType": None},
        {"more": 1}, {"signatures": {}}, {"signatures": [{}]}, {"signatures": [{"keyid": "AB" * 32, "sig": ""}]},
        {"signatures": [{"keyid": "ab" * 32, "sig": "===="}]},
    ],
)  # fmt: skip
def test_what_is_no_envelope(members: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        opened(changed(signed(ONE), **members))


@pytest.mark.parametrize(
    "path, value",
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"), (("predicateType",), "x"), (("subject",), []),
        (("subject", 0, "name"), "weights"), (("subject", 0, "digest"), {"md5": "ab" * 16}),
        (("subject", 0, "digest", "sha256"), "ab"), (("predicate", "release"), -1), (("predicate", "release"), True),
        (("predicate", "not_before"), "2026-11-21T00:00:00"), (("predicate", "expires"), "2026-13-01T00:00:00Z"),
        (("predicate", "expires"), "2026-11-21T00:00:00+01:00"), (("predicate", "sbom"), ""),
    ],
)  # fmt: skip
def test_what_is_no_statement(path: tuple[Any, ...], value: Any) -> None:
    document: Any = json.loads(envelope.statement(SEAL))
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(ManifestError):
        envelope.parse_statement(canonical.dumps(document))


def test_two_subjects() -> None:
    document = json.loads(envelope.statement(SEAL))
    document["subject"] *= 2
    with pytest.raises(ManifestError):
        envelope.parse_statement(canonical.dumps(document))

"""Signed documents: DSSE envelopes, and the in-toto statement that binds an artifact's manifest.

What is signed is the pre-authentication encoding of the payload's type and bytes, so a signature of one kind of
document is never one of another kind. (https://github.com/secure-systems-lab/dsse)
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Mapping

from ...errors import LimitError, SignatureError, UnsignedError, UntrustedKeyError
from .. import canonical
from .. import schema as s
from ..record import Record
from .keys import Signer, verify

MAX_BYTES = 1 << 18
MAX_SIGNATURES = 16
STATEMENT_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://vitrify.dev/attestation/seal/v1"


class Seal(Record):
    """What a signature says of an artifact: ``manifest`` is the digest of ``manifest.json``. Moments are seconds
    since 1970; ``expires`` is None where it never does. ``release`` only ever grows."""

    manifest: str
    product: str
    release: int
    not_before: int
    expires: int | None
    licence: str
    sbom: str | None
    provenance: str | None


class Signed(Record):
    """An envelope's payload and its signatures by key id."""

    payload: bytes
    signatures: dict[str, bytes]


def pae(kind: str, payload: bytes) -> bytes:
    """The bytes that are signed."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def sign(kind: str, payload: bytes, signers: Iterable[Signer], present: Mapping[str, bytes] | None = None) -> bytes:
    """The envelope of ``payload`` with a signature by each signer beside those ``present``."""
    signatures = {**(present or {}), **{signer.id: signer.sign(pae(kind, payload)) for signer in signers}}
    return canonical.dumps(
        {
            "payload": _base64(payload),
            "payloadType": kind,
            "signatures": [
                {"keyid": key, "sig": _base64(signature)} for key, signature in sorted(signatures.items())
            ],
        }
    )


_signature = s.record(lambda key, signature: (key, signature), keyid=s.digest, sig=s.base64)


def open_envelope(encoded: bytes, kind: str) -> Signed:
    """What an envelope of this kind carries; no signature has been verified.

    Raises UnsignedError where it has none, SignatureError for another kind and for a key that appears twice,
    LimitError for too many signatures, ManifestError for what is no envelope.
    """
    document = canonical.loads(encoded, what="the signature's envelope", limit=MAX_BYTES)
    actual = document.get("payloadType") if isinstance(document, dict) else None
    if isinstance(actual, str) and actual != kind:
        raise SignatureError("what was signed is another kind of document", expected=kind, actual=actual)
    parse = s.record(
        lambda payload, _, signatures: (payload, signatures),
        payload=s.base64, payloadType=s.constant(kind), signatures=s.several(_signature),
    )  # fmt: skip
    payload, signatures = parse(document, "envelope")
    if not signatures:
        raise UnsignedError("nobody signed this", hint="sign it: vitrify sign ARTIFACT --key KEY")
    if len(signatures) > MAX_SIGNATURES:
        raise LimitError("too many signatures", expected=f"at most {MAX_SIGNATURES}", actual=len(signatures))
    found = dict(signatures)
    if len(found) != len(signatures):
        raise SignatureError("a key signed twice", expected="one signature of each key")
    return Signed(payload, found)


def require(signed: Signed, kind: str, keys: Mapping[str, bytes], threshold: int) -> frozenset[str]:
    """The ids of those ``keys`` (public keys by id) that signed.

    Raises SignatureError where a signature that names one of them is not its own, UntrustedKeyError where fewer
    than ``threshold`` signed. Signatures of other keys do not count.
    """
    message = pae(kind, signed.payload)
    valid = set()
    for key, signature in signed.signatures.items():
        if key not in keys:
            continue
        if not verify(keys[key], signature, message):
            raise SignatureError(
                "a signature is wrong", expected=f"one by key {key}", actual=signature.hex(),
                hint="the artifact was changed after it was signed; fetch it again",
            )  # fmt: skip
        valid.add(key)
    if len(valid) < max(threshold, 1):
        known = ", ".join(sorted(keys)) or "no key"
        raise UntrustedKeyError(
            "too few trusted keys signed this", expected=f"{max(threshold, 1)} of {known}",
            actual=f"{len(valid)}; it was signed by {', '.join(sorted(signed.signatures))}",
            hint="vitrify trust add KEY, if you trust its owner",
        )  # fmt: skip
    return frozenset(valid)


def statement(seal: Seal) -> bytes:
    """The in-toto statement that says it."""
    members = seal._asdict()
    manifest = members.pop("manifest")
    members["not_before"] = s.moment(seal.not_before)
    members["expires"] = None if seal.expires is None else s.moment(seal.expires)
    return canonical.dumps(
        {
            "_type": _STATEMENT,
            "predicate": members,
            "predicateType": _PREDICATE,
            "subject": [{"digest": {"sha256": manifest}, "name": "manifest.json"}],
        }
    )


_predicate = s.record(
    lambda *members: members,
    product=s.text, release=s.count, not_before=s.instant, expires=s.optional(s.instant), licence=s.text,
    sbom=s.optional(s.digest), provenance=s.optional(s.digest),
)  # fmt: skip
_subject = s.record(
    lambda digest, _: digest,
    digest=s.record(lambda digest: digest, sha256=s.digest), name=s.constant("manifest.json"),
)  # fmt: skip
_statement = s.record(
    lambda _, predicate, __, subjects: (predicate, subjects),
    _type=s.constant(_STATEMENT), predicate=_predicate, predicateType=s.constant(_PREDICATE),
    subject=s.several(_subject),
)  # fmt: skip


def parse_statement(payload: bytes) -> Seal:
    """The seal in a statement. ManifestError where it is not one about exactly one manifest."""
    predicate, subjects = _statement(canonical.loads(payload, what="the statement", limit=MAX_BYTES), "statement")
    if len(subjects) != 1:
        raise s.refusal("statement.subject", "one manifest", subjects)
    return Seal(subjects[0], *predicate)

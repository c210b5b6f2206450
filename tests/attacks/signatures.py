"""UnsignedError and SignatureError: envelopes that are missing, empty, or not of this manifest by their keys."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrify.errors import ManifestError, SignatureError, UnsignedError

from .forge import OWNER, POLICY, STATEMENT, STRANGER, Parts, base, dumps, envelope, pae, signature, write_file
from .table import attack, changed, members

_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the curve's base point


def _envelope(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """The envelope's document, changed after it was signed."""

    def write(files: dict[str, bytes]) -> None:
        document = json.loads(files["signature.json"])
        change(document)
        files["signature.json"] = dumps(document)

    return members(write)


def _resigned(make: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Another envelope for the same statement."""

    def write(files: dict[str, bytes]) -> None:
        files["signature.json"] = make(base64.b64decode(json.loads(files["signature.json"])["payload"]))

    return members(write)


def _sig(change: Callable[[bytes], bytes]) -> Callable[[Any], None]:
    def edit(document: Any) -> None:
        found = document["signatures"][0]
        found["sig"] = base64.b64encode(change(base64.b64decode(found["sig"]))).decode()

    return edit


def _malleable(found: bytes) -> bytes:
    """S + L: the same signature to who does not reduce it."""
    return found[:32] + (int.from_bytes(found[32:], "little") + _ORDER).to_bytes(32, "little")


def _statement(document: Any, change: Callable[[Any], object]) -> None:
    said = json.loads(base64.b64decode(document["payload"]))
    change(said)
    document["payload"] = base64.b64encode(dumps(said)).decode()


def _another(path: Path) -> None:
    """The envelope of another artifact of the same owner."""
    other = base()
    other.manifest["vitrify"] = "9.9.9"
    write_file(path, {**base().members(), "signature.json": other.members()["signature.json"]})


def _rewritten(parts: Parts) -> None:
    """The signature is of another list of parts."""
    parts.statement["predicate"]["sbom"] = hashlib.sha256(b"").hexdigest()


def _rewritten_provenance(parts: Parts) -> None:
    parts.statement["predicate"]["provenance"] = hashlib.sha256(b"").hexdigest()


attack("signatures/stripped", UnsignedError, "nobody signed", members(lambda files: files.pop("signature.json")))
attack("signatures/stripped-folder", UnsignedError, "nobody signed", members(
    lambda files: files.pop("signature.json"), folder=True))  # fmt: skip
attack("signatures/none", UnsignedError, "nobody signed", _envelope(lambda e: e.update(signatures=[])))
attack("signatures/empty-file", ManifestError, "is not canonical JSON", members(
    lambda files: files.update({"signature.json": b""})))  # fmt: skip

_WRONG = "a signature is wrong"
for _name, _message, _write in (
    ("payload-type", "another kind of document", _envelope(lambda e: e.update(payloadType=POLICY))),
    ("payload-type-signed", "another kind of document", _resigned(lambda p: envelope(p, kind=POLICY))),
    ("type-not-in-signature", _WRONG, _resigned(lambda p: envelope(p, kind=POLICY, said=STATEMENT))),
    ("no-encoding", _WRONG, _resigned(
        lambda p: envelope(p, signatures=[signature(OWNER.id, OWNER.sign(p))]))),
    ("length-moved", _WRONG, _resigned(lambda p: envelope(p, signatures=[
        signature(OWNER.id, OWNER.sign(pae(STATEMENT + " 1", p)))]))),
    ("another-manifest", "that of another manifest", _another),
    ("statement-changed", _WRONG, _envelope(
        lambda e: _statement(e, lambda s: s["predicate"].update(release=99)))),
    ("expiry-removed", _WRONG, _envelope(
        lambda e: _statement(e, lambda s: s["predicate"].update(licence="any")))),
    ("flipped", _WRONG, _envelope(_sig(lambda s: bytes([s[0] ^ 1]) + s[1:]))),
    ("malleable", _WRONG, _envelope(_sig(_malleable))),
    ("zero", _WRONG, _envelope(_sig(lambda s: bytes(64)))),
    ("identity", _WRONG, _envelope(_sig(lambda s: b"\1" + bytes(63)))),
    ("short", _WRONG, _envelope(_sig(lambda s: s[:63]))),
    ("long", _WRONG, _envelope(_sig(lambda s: s + b"\0"))),
    ("empty", _WRONG, _envelope(_sig(lambda s: b""))),
    ("twice", "a key signed twice", _envelope(lambda e: e.update(signatures=e["signatures"] * 2))),
    ("wrong-key", _WRONG, _resigned(lambda p: envelope(
        p, signatures=[signature(OWNER.id, STRANGER.sign(pae(STATEMENT, p)))]))),
    ("beside-a-wrong-one", _WRONG, _resigned(lambda p: envelope(p, signatures=sorted(
        [signature(OWNER.id, bytes(64)), signature(STRANGER.id, STRANGER.sign(pae(STATEMENT, p)))],
        key=lambda s: s["keyid"])))),
    ("sbom", "speaks of another sbom", changed(_rewritten)),
    ("provenance", "speaks of another provenance", changed(_rewritten_provenance)),
):  # fmt: skip
    attack(f"signatures/{_name}", SignatureError, _message, _write)
attack("signatures/manifest-changed", SignatureError, "that of another manifest", members(
    lambda files: files.update({"manifest.json": files["manifest.json"].replace(b"0.1.0", b"0.1.1")})))  # fmt: skip

"""A real artifact in pieces that can be changed, and the writers that put changed pieces together again.

Nothing here uses the writers of the product: JSON, zip, envelopes and policies are written anew, so that they may be
wrong. The private keys are those of tests, made of their names.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

STATEMENT = "application/vnd.in-toto+json"
POLICY = "application/vnd.vitrify.trust+json"
PAYLOAD, WEIGHTS, LEAVES = "payload/x86-64-v3.so", "weights/x86-64-v3.bin", "leaves/x86-64-v3"
LEAF = 1 << 16
SIZE = 240  # of the model's matrix: four leaves
FEED = {"x0": np.linspace(-1, 1, 3 * SIZE, dtype=np.float32).reshape(3, SIZE)}


# ---- keys and envelopes


class Key:
    """A key pair that is always the same for a name."""

    def __init__(self, name: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public = self._private.public_key().public_bytes_raw()
        self.id = hashlib.sha256(self.public).hexdigest()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


OWNER, SECOND, STRANGER = Key("owner"), Key("second"), Key("stranger")


def dumps(document: object) -> bytes:
    """JSON with sorted members and no spaces; anything that Python writes, floats and NaN too."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def pae(kind: str, payload: bytes) -> bytes:
    return b" ".join([b"DSSEv1", b"%d" % len(kind), kind.encode(), b"%d" % len(payload), payload])


def signature(key_id: str, signed: bytes) -> dict[str, str]:
    return {"keyid": key_id, "sig": base64.b64encode(signed).decode()}


def envelope(
    payload: bytes, keys: Iterable[Key] = (OWNER,), *, kind: str = STATEMENT, said: str | None = None,
    signatures: list[dict[str, str]] | None = None,
) -> bytes:  # fmt: skip
    """The envelope of ``payload`` as signed by ``keys``; ``said`` is the type that it states, ``signatures`` replace
    those of the keys."""
    made = [signature(key.id, key.sign(pae(kind, payload))) for key in sorted(keys, key=lambda key: key.id)]
    document = {
        "payload": base64.b64encode(payload).decode(), "payloadType": said or kind,
        "signatures": made if signatures is None else signatures,
    }  # fmt: skip
    return dumps(document)


# ---- the artifact


@dataclass
class Parts:
    """The files of an artifact; ``manifest`` and ``statement`` are documents that :meth:`members` writes."""

    files: dict[str, bytes]
    manifest: dict[str, Any]
    statement: dict[str, Any]
    keys: list[Key] = field(default_factory=lambda: [OWNER])

    def list_files(self, *but: str) -> None:
        """Makes the manifest speak of ``files`` as they are; roles stay."""
        for name, content in self.files.items():
            if name not in but:
                self.manifest["files"][name] |= described(content)

    def list_leaves(self) -> None:
        """Makes the list of digests that of the weights."""
        data = self.files[WEIGHTS]
        pieces = [data[at : at + LEAF] for at in range(0, len(data), LEAF)]
        self.files[LEAVES] = b"".join(hashlib.sha256(piece).digest() for piece in pieces)

    def members(self, manifest: bytes | None = None) -> dict[str, bytes]:
        """All files, signed: ``manifest`` is this text where it is given."""
        manifest = dumps(self.manifest) if manifest is None else manifest
        self.statement["subject"] = [
            {"digest": {"sha256": hashlib.sha256(manifest).hexdigest()}, "name": "manifest.json"}
        ]
        signed = envelope(dumps(self.statement), self.keys)
        return {**self.files, "manifest.json": manifest, "signature.json": signed}

    @property
    def target(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest["targets"][0]
        return found


DETAILS_ROLE = {"size": 2, "sha256": "ab" * 32, "crc32": "00000000", "role": "details"}


def described(content: bytes) -> dict[str, Any]:
    crc = f"{zlib.crc32(content):08x}"
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "crc32": crc}


def base() -> Parts:
    """y = x W, in f32, with 230 kB of weights, for x86-64-v3; signed by OWNER."""
    files, manifest, statement = _base()
    return Parts(dict(files), copy.deepcopy(manifest), copy.deepcopy(statement))


@cache
def _base() -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    from tests.compiler.harness import Model, compile_artifact
    from vitrify.ir.dims import Dim

    model = Model()
    weights = np.random.default_rng(5).standard_normal((SIZE, SIZE)).astype(np.float32)
    x = model.input(FEED["x0"], (Dim.symbol("n"), SIZE))
    model.result(model.contract(x, model.constant(weights), over=((1,), (0,))))
    with tempfile.TemporaryDirectory() as trust, patch.dict(os.environ, {"VITRIFY_TRUST_DIR": trust}):
        path = compile_artifact(model.graph(), target="x86-64-v3")
    files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    statement = json.loads(base64.b64decode(json.loads(files.pop("signature.json"))["payload"]))
    statement["predicate"] |= {"product": "attacked", "release": 3}
    return files, manifest, statement


# ---- one file


class Member(NamedTuple):
    """A member of an archive: fields of its headers may be replaced, and bytes put before its header and after its
    content."""

    name: bytes
    content: bytes
    local: Mapping[str, Any] = MappingProxyType({})
    central: Mapping[str, Any] = MappingProxyType({})
    before: bytes | None = None
    after: bytes = b""


_LOCAL = ("mark", "needed", "flags", "method", "time", "date", "crc", "stored", "size", "name_length", "extra_length")
_CENTRAL = (
    "mark", "made_by", "needed", "flags", "method", "time", "date", "crc", "stored", "size", "name_length",
    "extra_length", "comment_length", "disk", "internal", "external", "header",
)  # fmt: skip
_END = ("mark", "disk", "first_disk", "here", "count", "length", "start", "comment_length")


def zipped(
    members: list[Member], *, prefix: bytes = b"", gap: bytes = b"", trailing: bytes = b"",
    end: dict[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """The archive of the members in this order; ``gap`` is before its directory."""
    body, table = bytearray(prefix), bytearray()
    for member in members:
        if member.before is not None:
            body += member.before
        elif member.name.startswith(b"weights/"):
            body += bytes(-(len(body) + 30 + len(member.name)) % LEAF)
        header = len(body)
        common = {
            "needed": 10, "flags": 0, "method": 0, "time": 0, "date": 33, "crc": zlib.crc32(member.content),
            "stored": len(member.content), "size": len(member.content), "name_length": len(member.name),
            "extra_length": 0,
        }  # fmt: skip
        local = {"mark": b"PK\3\4", **common, **member.local}
        body += struct.pack("<4s5H3I2H", *[local[key] for key in _LOCAL])
        body += member.local.get("name", member.name) + member.local.get("extra", b"") + member.content + member.after
        central = {
            "mark": b"PK\1\2", "made_by": 0x314, **common, "comment_length": 0, "disk": 0, "internal": 0,
            "external": 0o100644 << 16, "header": header, **member.central,
        }  # fmt: skip
        table += struct.pack("<4s6H3I5H2I", *[central[key] for key in _CENTRAL])
        table += member.central.get("name", member.name) + member.central.get("extra", b"")
    body += gap
    said = {
        "mark": b"PK\5\6", "disk": 0, "first_disk": 0, "here": len(members), "count": len(members),
        "length": len(table), "start": len(body), "comment_length": 0, **(end or {}),
    }  # fmt: skip
    return bytes(body + table + struct.pack("<4s4H2IH", *[said[key] for key in _END]) + trailing)


def listed(members: dict[str, bytes]) -> list[Member]:
    """The members in their order."""
    return [Member(name.encode(), members[name]) for name in sorted(members)]


def write_file(path: Path, members: dict[str, bytes]) -> None:
    """The artifact as one file."""
    path.write_bytes(zipped(listed(members)))


def write_folder(path: Path, members: dict[str, bytes]) -> None:
    """The artifact as a directory."""
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


# ---- what the machine trusts


def trust_of(path: Path) -> Path:
    """The directory of the policy with which the artifact at ``path`` is to be examined."""
    return path.with_name(path.name + ".trust")


def policy(**changes: Any) -> dict[str, Any]:
    """OWNER's: any product by OWNER."""
    return {
        "format": "vitrify-trust/1", "version": 1, "issued": "2026-11-21T00:00:00Z", "expires": None,
        "development": False, "root": {"keys": [OWNER.id], "threshold": 1},
        "keys": [{"public": OWNER.public.hex(), "comment": "owner"}],
        "products": {"*": {"keys": [OWNER.id], "threshold": 1, "min_release": 0}}, "revoked": [], "denied": [],
        "licences": None, **changes,
    }  # fmt: skip


def write_trust(path: Path, document: bytes | None = None, state: dict[str, Any] | None = None) -> None:
    """The trust directory of the artifact at ``path``, with this policy's envelope."""
    folder = trust_of(path)
    folder.mkdir(mode=0o700)
    write_private(folder / "policy.json", envelope(dumps(policy()), kind=POLICY) if document is None else document)
    if state is not None:
        write_private(folder / "state.json", dumps(state))


def write_private(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)

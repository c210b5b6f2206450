"""Ed25519 keys: made, kept in files that others cannot read, named by a digest, and refused where they are weak.

The private key of a signer is a file in PKCS #8 PEM; a public key is 32 bytes, written in hexadecimal. A key's id
is the SHA-256 of its 32 bytes, so that no id can stand for two keys.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import InvalidArgumentError, SignatureError, UntrustedKeyError
from ..archive import open_regular
from ..container import read_exactly
from ..digest import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIME = 2**255 - 19
_MAX_FILE = 1 << 16
# y of the points whose order divides 8. A library that checks S*B = R + h*A without multiplying by the cofactor
# accepts S = 0 and R = the identity for whatever message makes h*A vanish.
SMALL_ORDER = frozenset(
    {
        0, 1, _PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)  # fmt: skip


def key_id(public: bytes) -> str:
    """The name of a public key."""
    return sha256(public).hex()


def check_public(public: bytes) -> bytes:
    """The 32 bytes, where they are a public key in its one encoding and of a large order; else UntrustedKeyError."""
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    if len(public) != 32 or y >= _PRIME or y in SMALL_ORDER:
        raise UntrustedKeyError(
            "this is no key that can be trusted", expected="32 bytes of an Ed25519 point of large order",
            actual=public.hex(), hint="signatures under such a key can be forged without its owner",
        )  # fmt: skip
    return public


def parse_public(text: str) -> bytes:
    """The key in 64 hexadecimal digits, or in a PEM file's text. InvalidArgumentError for anything else,
    UntrustedKeyError for a key that is weak."""
    stripped = text.strip()
    try:
        if stripped.startswith("-----BEGIN"):
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
            from cryptography.hazmat.primitives.serialization import load_pem_public_key

            key = load_pem_public_key(stripped.encode())
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(type(key).__name__)
            return check_public(key.public_bytes_raw())
        return check_public(bytes.fromhex(stripped))
    except ValueError as error:
        raise InvalidArgumentError(
            "a public key", expected="64 hexadecimal digits, or PEM of an Ed25519 public key", actual=error
        ) from None


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` is one of ``message`` by the key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(check_public(public)).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        self.id = key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    @staticmethod
    def generate() -> Signer:
        """A new key of the system's randomness."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Signer(Ed25519PrivateKey.generate())

    @staticmethod
    def read(path: str | os.PathLike[str]) -> Signer:
        """The key in a PEM file that only its owner can read. SignatureError where it is no such file."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        name = os.fspath(path)
        fd = open_regular(name)
        try:
            status = os.fstat(fd)
            if status.st_mode & 0o077:
                raise SignatureError(
                    "others can read or change this private key", path=name, expected="mode 600",
                    actual=f"mode {status.st_mode & 0o777:o}", hint=f"chmod 600 {name}, if it has not leaked",
                )  # fmt: skip
            encoded = read_exactly(fd, 0, min(status.st_size, _MAX_FILE), name)
        finally:
            os.close(fd)
        try:
            key = load_pem_private_key(encoded, password=None)
        except (ValueError, TypeError) as error:
            raise SignatureError("no private key can be read", path=name, actual=error) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError("not an Ed25519 key", path=name, actual=type(key).__name__)
        return Signer(key)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a new file that only its owner can read. OSError where it exists or cannot be written."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        encoded = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(fd)

"""Ed25519 keys: names, files, and those that nobody should trust."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vitrify.artifact.trust.keys import Signer, check_public, key_id, parse_public, verify
from vitrify.errors import ContainerError, InvalidArgumentError, SignatureError, UntrustedKeyError

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int]


def add(p: Point, q: Point) -> Point:
    """On the twisted Edwards curve of RFC 8032."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    k = d * p[0] * q[0] * p[1] * q[1] % PRIME
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + k, -1, PRIME)
    return x % PRIME, (p[1] * q[1] + p[0] * q[0]) * pow(1 - k, -1, PRIME) % PRIME


def times(n: int, p: Point) -> Point:
    total = (0, 1)
    while n:
        if n & 1:
            total = add(total, p)
        p, n = add(p, p), n >> 1
    return total


def x_of(y: int) -> int | None:
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return x if (x * x - square) % PRIME == 0 else None


def small_order_points() -> set[int]:
    """y of every point whose order divides 8: the largest prime order times any point."""
    found: set[int] = set()
    y = 2
    while len(found) < 5:
        x = x_of(y)
        if x is not None:
            found.add(times(ORDER, (x, y))[1])
        y += 1
    return found


def test_keys_of_small_order_are_refused() -> None:
    for y in small_order_points():
        for sign in (0, 1 << 255):
            with pytest.raises(UntrustedKeyError):
                check_public((y | sign).to_bytes(32, "little"))


def test_the_library_alone_would_accept_a_forgery() -> None:
    # why keys are checked: R = the identity and S = 0 sign any message under the identity
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    identity = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"anything")
    with pytest.raises(UntrustedKeyError):
        verify(identity, identity + bytes(32), b"anything")


@pytest.mark.parametrize("y", [PRIME, PRIME + 1, PRIME + 3, 2**255 - 1])
def test_second_spellings_of_a_key_are_refused(y: int) -> None:
    with pytest.raises(UntrustedKeyError):
        check_public(y.to_bytes(32, "little"))


def test_signatures() -> None:
    signer, other = Signer.generate(), Signer.generate()
    signature = signer.sign(b"message")
    assert verify(signer.public, signature, b"message")
    assert not verify(signer.public, signature, b"massage")
    assert not verify(other.public, signature, b"message")
    larger = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(signer.public, signature[:32] + larger, b"message")


def test_a_key_file(tmp_path: Path) -> None:
    signer = Signer.generate()
    path = tmp_path / "key.pem"
    signer.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.read(path).id == signer.id == key_id(signer.public)
    with pytest.raises(OSError, match="exists"):
        signer.write(path)
    path.chmod(0o644)
    with pytest.raises(SignatureError, match="600"):
        Signer.read(path)


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(SignatureError):
        Signer.read(path)
    os.symlink(path, tmp_path / "link.pem")
    for name in ("link.pem", "missing.pem"):
        with pytest.raises(ContainerError):
            Signer.read(tmp_path / name)


def test_public_keys_as_text() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    signer = Signer.generate()
    info = PublicFormat.SubjectPublicKeyInfo
    pem = Ed25519PublicKey.from_public_bytes(signer.public).public_bytes(Encoding.PEM, info).decode()
    assert parse_public(signer.public.hex() + "\n") == parse_public(pem) == signer.public
    other = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, info).decode()
    for text in ("", "12", "zz" * 32, "-----BEGIN PUBLIC KEY-----", other):
        with pytest.raises((InvalidArgumentError, UntrustedKeyError)):
            parse_public(text)

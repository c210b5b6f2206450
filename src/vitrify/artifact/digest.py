"""SHA-256 of what loading reads, by the library that verifies signatures as well.

The standard library's would bring a second OpenSSL into the process, which takes 2 ms: weights, which are hashed on
several threads before the first run, are worth that.
"""

from __future__ import annotations


def sha256(data: bytes | memoryview) -> bytes:
    """The 32 bytes."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash

    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize()

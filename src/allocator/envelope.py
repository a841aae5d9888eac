"""Seal something to one person's key: HPKE (RFC 9180), X25519 with HKDF-SHA-256 and AES-256-GCM.

The library draws the ephemeral key; the context goes into `info`, so that an envelope opens only for the study, the
sealing and the person it was made for. Plaintexts are padded: the length of an envelope tells nothing of a design.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from allocator.canonical import prefixed, tag
from allocator.errors import CredentialError

PAD = 1024


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def context(name: str, fingerprint: bytes, sealing: bytes, person: str) -> bytes:
    """HPKE info: tag(name) ‖ study fingerprint ‖ sealing id ‖ prefixed person id (docs/spec.md §7.5)."""
    return tag(name) + fingerprint + sealing + prefixed(person.encode("ascii"))


def seal_to(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """enc (32 bytes) ‖ ciphertext, for a raw 32-byte X25519 public key."""
    return bytes(_suite().encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info=info))


def open_sealed(private_key: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """The plaintext of `seal_to`; CredentialError when the key or the context is another's."""
    try:
        return bytes(_suite().decrypt(sealed, private_key, info=info))
    except (InvalidTag, ValueError) as error:
        raise CredentialError(
            "envelope-does-not-open",
            "an envelope in this study does not open with your key",
            "It was made for another key or sealing: ask the statistician to run `allocator grant` for you.",
        ) from error


def padded(plaintext: bytes) -> bytes:
    """Prefixed plaintext, zeros up to a multiple of `PAD` bytes."""
    data = prefixed(plaintext)
    return data + bytes(-len(data) % PAD)


def unpadded(data: bytes) -> bytes:
    """The plaintext of `padded`."""
    return data[2 : 2 + int.from_bytes(data[:2], "big")]

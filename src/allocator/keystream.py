"""Seed -> independent streams of unbiased integers (docs/spec.md §4).

A stream belongs to one purpose and one stratum, so that adding a stratum or drawing more sizes moves no other stream.
Keystream: AES-256-CTR with a zero initial counter block (NIST SP 800-38A), keys by HKDF-SHA-256 (RFC 5869).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from allocator.canonical import prefixed, tag, u8

PURPOSES = ("size", "shuffle", "draw", "salt")
WORD = 2**32
_CHUNK = 4096  # bytes drawn at a time by `words`


def pseudorandom_key(
    fingerprint: bytes, design_commitment: bytes, shares: Sequence[bytes], beacon: bytes = b""
) -> bytes:
    """HKDF-Extract of the seed shares, 32 bytes (RFC 5869 §2.2; docs/spec.md §4.1).

    salt = study fingerprint ‖ design commitment; input = tag("prk") ‖ u8 n ‖ S_1 … S_n ‖ u16 length ‖ beacon. The
    study and the design are in the salt: the same shares under another design give an unrelated list.
    """
    if not shares or any(len(share) != 32 for share in shares):
        raise RuntimeError("seed shares are 32 bytes each, one at least")
    material = tag("prk") + u8(len(shares)) + b"".join(shares) + prefixed(beacon)
    return HKDF.extract(SHA256(), fingerprint + design_commitment, material)


def stream_key(prk: bytes, purpose: str, label: str) -> bytes:
    """Key of one stream: HKDF-Expand(PRK, tag("stream") ‖ prefixed purpose ‖ prefixed stratum label, 32)."""
    if purpose not in PURPOSES:
        raise RuntimeError(f"no stream has the purpose {purpose!r}")
    info = tag("stream") + prefixed(purpose.encode("ascii")) + prefixed(label.encode("utf-8"))
    return HKDFExpand(SHA256(), 32, info).derive(prk)


def keystream_bytes(key: bytes, start: int, count: int) -> bytes:
    """`count` bytes of the keystream from byte `start` on."""
    block, skip = divmod(start, 16)
    encryptor = Cipher(AES(key), CTR(block.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(skip + count))[skip:]


def words(key: bytes) -> Iterator[int]:
    """The stream as unsigned 32-bit big-endian integers, without end."""
    start = 0
    while True:
        chunk = keystream_bytes(key, start, _CHUNK)
        for offset in range(0, _CHUNK, 4):
            yield int.from_bytes(chunk[offset : offset + 4], "big")
        start += _CHUNK


def draw_below(stream: Iterator[int], n: int) -> int:
    """An integer of 0..n-1, each exactly equally likely: redraw while it is in the incomplete last run.

    x of k words, first word highest, k the fewest with 2^(32k) ≥ n; limit = 2^(32k) − (2^(32k) mod n); redraw while
    x ≥ limit; x mod n (docs/spec.md §4.3). n is at least 1.
    """
    if n < 1:
        raise RuntimeError(f"there is no integer below {n}")
    count = max(1, ((n - 1).bit_length() + 31) // 32)
    limit = (1 << 32 * count) - (1 << 32 * count) % n
    while True:
        drawn = 0
        for _ in range(count):
            drawn = drawn << 32 | next(stream)
        if drawn < limit:
            return drawn % n

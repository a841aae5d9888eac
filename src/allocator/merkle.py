"""The Merkle tree of RFC 6962 §2.1: one 32-byte root fixes an ordered list of leaves (docs/spec.md §7.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 ‖ leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The tree head over the leaf hashes in order; SHA-256("") for none.

    Keeps one hash for each set bit of the count, so that a list of any length needs no more than 64 of them.
    """
    peaks: list[tuple[int, bytes]] = []  # (height, hash) of complete subtrees, left to right
    for leaf in leaf_hashes:
        height, digest = 0, leaf
        while peaks and peaks[-1][0] == height:
            digest = node_hash(peaks.pop()[1], digest)
            height += 1
        peaks.append((height, digest))
    if not peaks:
        return hashlib.sha256(b"").digest()
    digest = peaks.pop()[1]
    while peaks:
        digest = node_hash(peaks.pop()[1], digest)
    return digest

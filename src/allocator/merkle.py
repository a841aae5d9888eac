"""The Merkle tree of RFC 6962 §2.1: one 32-byte root fixes an ordered list of leaves (docs/spec.md §7.6, §16.1).

Two trees are made with it: over the entries of a schedule, and over the records of a log. Nothing of a tree is ever
read from a disk: roots and proofs are made from the leaves, each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from allocator.errors import EvidenceError

EMPTY = hashlib.sha256(b"").digest()  # the root over no leaf
Side = str  # "L" or "R": on which side of the path a sibling stands


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 ‖ leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows at its end. Keeps one hash for each set bit of its size: 64 at most, whatever its length."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []  # (height, root) of complete subtrees, left to right

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf; as many nodes as its number has trailing ones are hashed: two on average."""
        height, digest = 0, leaf
        while self._peaks and self._peaks[-1][0] == height:
            digest = node_hash(self._peaks.pop()[1], digest)
            height += 1
        self._peaks.append((height, digest))
        self.size += 1

    def copy(self) -> Tree:
        """Another tree that begins with these leaves."""
        tree = Tree()
        tree.size, tree._peaks = self.size, self._peaks.copy()
        return tree

    def root(self) -> bytes:
        """The tree head over all leaves so far; SHA-256("") for none."""
        digest = b""
        for _, peak in reversed(self._peaks):
            digest = node_hash(peak, digest) if digest else peak
        return digest or EMPTY

    def next_path(self) -> list[bytes]:
        """The inclusion proof that the *next* leaf will have once it is the last one: these subtrees, right to left."""
        return [peak for _, peak in reversed(self._peaks)]


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The tree head over the leaf hashes in order; SHA-256("") for none."""
    tree = Tree()
    for leaf in leaf_hashes:
        tree.append(leaf)
    return tree.root()


class WholeTree:
    """All nodes of a tree, level above level, for many paths at a logarithmic cost each; 64 bytes a leaf."""

    def __init__(self, leaf_hashes: Iterable[bytes]) -> None:
        level = b"".join(leaf_hashes)
        self._levels = [level]
        while len(level) > 32:
            pairs = range(0, len(level) - 32, 64)
            # a last node without a sibling is moved up as it is: so RFC 6962 splits at powers of two
            alone = level[-32:] if len(level) % 64 else b""
            level = b"".join(hashlib.sha256(b"\x01" + level[at : at + 64]).digest() for at in pairs) + alone
            self._levels.append(level)

    def path(self, index: int) -> list[tuple[Side, bytes]]:
        """Siblings of a leaf and of the nodes above it, upwards, each with its side.

        With the sides it can be folded by who does not know how many leaves there are.
        """
        if not 0 <= 32 * index < len(self._levels[0]):
            raise RuntimeError(f"there is no leaf {index}")
        path = []
        for level in self._levels[:-1]:
            sibling = 32 * (index ^ 1)
            if sibling < len(level):
                path.append(("L" if index & 1 else "R", level[sibling : sibling + 32]))
            index >>= 1
        return path


def inclusion_proof(leaf_hashes: Iterable[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf, from its sibling upwards (RFC 6962 §2.1.1); `leaf_hashes` are those of all leaves."""
    return [digest for _, digest in WholeTree(leaf_hashes).path(index)]


def fold(leaf: bytes, path: Iterable[tuple[Side, bytes]]) -> bytes:
    """The root to which a path with sides leads."""
    for side, sibling in path:
        leaf = node_hash(sibling, leaf) if side == "L" else node_hash(leaf, sibling)
    return leaf


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """That the tree over the first `old` leaves is the beginning of the tree over all (RFC 6962 §2.1.2)."""
    if not 0 < old <= len(leaves):
        raise RuntimeError(f"no consistency proof from {old} to {len(leaves)}")
    proof: list[bytes] = []
    start, end, whole = 0, len(leaves), True  # whole: the old tree is a subtree whose root the verifier has
    while old != end - start:
        middle = _split(end - start)
        if old <= middle:
            proof.append(root(leaves[start + middle : end]))
            end = start + middle
        else:
            proof.append(root(leaves[start : start + middle]))
            start, old, whole = start + middle, old - middle, False
    if not whole:
        proof.append(root(leaves[start:end]))
    return proof[::-1]


def _split(count: int) -> int:
    """The largest power of two smaller than the count."""
    return 1 << (count - 1).bit_length() - 1


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_: bytes) -> None:
    """That a leaf stands at its index in the tree of this size and root (RFC 9162 §2.1.3.2). EvidenceError."""
    if not 0 <= index < size:
        raise EvidenceError("proof", f"record {index} cannot be among {size}")
    node, last, digest = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise EvidenceError("proof", "the inclusion proof is too long")
        if node & 1 or node == last:
            digest = node_hash(sibling, digest)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        node, last = node >> 1, last >> 1
    if last or digest != root_:
        raise EvidenceError(
            "proof",
            "the inclusion proof does not lead to the checkpoint's root",
            details={"expected": root_.hex(), "found": digest.hex()},
        )


def check_consistency(old: int, old_root: bytes, size: int, root_: bytes, proof: Sequence[bytes]) -> None:
    """That the first `old` leaves of a tree are those of the older one (RFC 9162 §2.1.4.2). EvidenceError."""
    if not 0 < old <= size:
        raise EvidenceError("proof", f"a tree of {size} does not grow from one of {old}")
    if old == size:
        if proof or old_root != root_:
            raise EvidenceError("proof", "two trees of one size with different roots: a fork")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if not path:
        raise EvidenceError("proof", "the consistency proof is too short")
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise EvidenceError("proof", "the consistency proof is too long")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last or first != old_root or second != root_:
        raise EvidenceError("proof", "the consistency proof does not join the two roots: the older log is another one")

"""The Merkle tree of RFC 6962: published roots, and the recursive definition for every other size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.merkle import leaf_hash, node_hash, root

# leaves and tree heads of the reference tests of Certificate Transparency (cpp/merkletree/merkle_tree_test.cc)
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def defined(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + defined(leaves[:k]) + defined(leaves[k:])).digest()


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    leaves = [bytes.fromhex(leaf) for leaf in LEAVES[:size]]
    assert root(leaf_hash(leaf) for leaf in leaves).hex() == ROOTS[size]
    assert defined(leaves).hex() == ROOTS[size]


@pytest.mark.requirement("C06")
@given(st.lists(st.binary(max_size=3), max_size=70))
def test_the_recursive_definition(leaves: list[bytes]) -> None:
    assert root(map(leaf_hash, leaves)) == defined(leaves)


@given(st.lists(st.binary(min_size=1, max_size=2), min_size=2, max_size=20, unique=True), st.data())
def test_order_and_number_of_leaves_count(leaves: list[bytes], data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    i, j = data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=2, max_size=2, unique=True))
    swapped = list(hashes)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert len({root(hashes), root(swapped), root(hashes[:-1]), root([*hashes, hashes[-1]])}) == 4


def test_a_node_is_no_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)

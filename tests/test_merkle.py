"""The Merkle tree of RFC 6962: published roots and proofs, and the recursive definitions for every other size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.errors import EvidenceError
from allocator.merkle import (
    EMPTY,
    Tree,
    WholeTree,
    check_consistency,
    check_inclusion,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
)

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


# The nodes of the same tree by level and place, and proofs made of them: transparency-dev/merkle, testonly/constants.go
# and the happy paths of its testdata/. (leaf, size): audit path; (old size, size): consistency proof.
NODES = {
    "00": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "01": "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "04": "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "06": "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "10": "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "11": "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "12": "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "13": "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "20": "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "21": "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
}
INCLUSION = {(0, 1): "", (0, 8): "01 11 21", (5, 8): "04 13 20", (2, 3): "10", (1, 5): "00 11 04"}
CONSISTENCY = {(1, 1): "", (1, 8): "01 11 21", (6, 8): "12 13 20", (2, 5): "11 04", (6, 7): "12 06 20"}


def hashes(size: int) -> list[bytes]:
    """Leaf hashes of a tree of this size, each another one."""
    return [leaf_hash(index.to_bytes(4, "big")) for index in range(size)]


def published(size: int) -> list[bytes]:
    """Leaf hashes of the published leaves."""
    return [leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size]]


def nodes(names: str) -> list[bytes]:
    """Published nodes by their names."""
    return [bytes.fromhex(NODES[name]) for name in names.split()]


def split(count: int) -> int:
    """The largest power of two smaller than the count."""
    power = 1
    while 2 * power < count:
        power *= 2
    return power


def defined(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + defined(leaves[:k]) + defined(leaves[k:])).digest()


def defined_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1, word by word."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*defined_path(m, leaves[:k]), defined(leaves[k:])]
    return [*defined_path(m - k, leaves[k:]), defined(leaves[:k])]


def defined_proof(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """PROOF and SUBPROOF of RFC 6962 §2.1.2, word by word."""
    if m == len(leaves):
        return [] if whole else [defined(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*defined_proof(m, leaves[:k], whole), defined(leaves[k:])]
    return [*defined_proof(m - k, leaves[k:], False), defined(leaves[:k])]


def bent(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """The proof with one hash changed, added or left out, or with two others in each other's place."""
    how = data.draw(st.sampled_from(["changed", "added", "left out", "exchanged"]))
    place = data.draw(st.integers(0, max(0, len(proof) - 1)))
    if how == "changed" and proof:
        bit = data.draw(st.integers(0, 255))
        changed = (int.from_bytes(proof[place], "big") ^ 1 << bit).to_bytes(32, "big")
        return [*proof[:place], changed, *proof[place + 1 :]]
    if how == "left out" and proof:
        return [*proof[:place], *proof[place + 1 :]]
    if how == "exchanged" and len(proof) > 1:
        place = min(place, len(proof) - 2)
        return [*proof[:place], proof[place + 1], proof[place], *proof[place + 2 :]]
    added = data.draw(st.sampled_from([EMPTY, bytes(32), *proof]))
    return [*proof[:place], added, *proof[place:]]


def assert_refused(check: Callable[[], None]) -> None:
    """The check says that the proof proves nothing."""
    with pytest.raises(EvidenceError) as refusal:
        check()
    assert refusal.value.code == "proof"


# ---- roots ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root(published(size)).hex() == ROOTS[size]
    assert defined([bytes.fromhex(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size]


@pytest.mark.requirement("C06")
@given(st.lists(st.binary(max_size=3), max_size=70))
def test_the_recursive_definition(leaves: list[bytes]) -> None:
    assert root(map(leaf_hash, leaves)) == defined(leaves)


@given(st.lists(st.binary(min_size=1, max_size=2), min_size=2, max_size=20, unique=True), st.data())
def test_order_and_number_of_leaves_count(leaves: list[bytes], data: st.DataObject) -> None:
    given_hashes = [leaf_hash(leaf) for leaf in leaves]
    i, j = data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=2, max_size=2, unique=True))
    swapped = list(given_hashes)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    trees = (given_hashes, swapped, given_hashes[:-1], [*given_hashes, given_hashes[-1]])
    assert len({root(tree) for tree in trees}) == 4


def test_a_node_is_no_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)


# ---- a tree that grows ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("L03")
def test_a_growing_tree_is_the_whole_one_at_each_size() -> None:
    tree = Tree()
    assert (tree.size, tree.root(), tree.next_path()) == (0, EMPTY, [])
    leaves = hashes(200)
    for index, leaf in enumerate(leaves):
        path = tree.next_path()
        tree.append(leaf)
        assert (tree.size, tree.root()) == (index + 1, root(leaves[: index + 1]))
        assert path == inclusion_proof(leaves[: index + 1], index)
        check_inclusion(leaf, index, index + 1, path, tree.root())


@pytest.mark.requirement("L03")
@given(st.integers(0, 300))
def test_a_growing_tree_keeps_one_hash_for_each_set_bit_of_its_size(size: int) -> None:
    tree = Tree()
    for leaf in hashes(size):
        tree.append(leaf)
    assert len(tree.next_path()) == size.bit_count()


def test_a_copy_of_a_tree_grows_by_itself() -> None:
    tree = Tree()
    for leaf in hashes(5):
        tree.append(leaf)
    before, copy = tree.root(), tree.copy()
    copy.append(leaf_hash(b"more"))
    assert (tree.size, tree.root()) == (5, before)
    assert (copy.size, copy.root()) == (6, root([*hashes(5), leaf_hash(b"more")]))


# ---- inclusion ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A09")
@pytest.mark.parametrize("index, size", INCLUSION)
def test_published_inclusion_proofs(index: int, size: int) -> None:
    leaves, proof = published(size), nodes(INCLUSION[index, size])
    assert inclusion_proof(leaves, index) == proof
    check_inclusion(leaves[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize("index, names", [(0, "b h l"), (3, "c g l"), (4, "f j k"), (6, "i k")])
def test_the_audit_paths_drawn_in_rfc_6962(index: int, names: str) -> None:
    """§2.1.3: seven leaves, whose nodes are named a to l."""
    assert inclusion_proof(hashes(7), index) == drawn(names)


def drawn(names: str) -> list[bytes]:
    """Nodes of the tree of seven leaves by their letters in RFC 6962 §2.1.3."""
    node = dict(zip("abcdefj", hashes(7), strict=True))
    for name, below in {"g": "ab", "h": "cd", "i": "ef", "k": "gh", "l": "ij"}.items():
        node[name] = node_hash(node[below[0]], node[below[1]])
    return [node[name] for name in names.split()]


@pytest.mark.requirement("A09")
def test_every_proof_is_the_one_defined_and_leads_to_the_root() -> None:
    for size in range(1, 40):
        leaves = [index.to_bytes(4, "big") for index in range(size)]
        leaf_hashes, whole = hashes(size), WholeTree(hashes(size))
        for index in range(size):
            proof = inclusion_proof(leaf_hashes, index)
            assert proof == defined_path(index, leaves)
            check_inclusion(leaf_hashes[index], index, size, proof, defined(leaves))
            assert fold(leaf_hashes[index], whole.path(index)) == defined(leaves)


@given(st.integers(1, 5000), st.data())
def test_proofs_in_larger_trees(size: int, data: st.DataObject) -> None:
    index, leaves = data.draw(st.integers(0, size - 1)), hashes(size)
    check_inclusion(leaves[index], index, size, inclusion_proof(leaves, index), root(leaves))


@pytest.mark.requirement("A09")
@given(st.integers(1, 70), st.data())
def test_a_bent_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    index, leaves = data.draw(st.integers(0, size - 1)), hashes(size)
    proof = bent(inclusion_proof(leaves, index), data)
    assert_refused(lambda: check_inclusion(leaves[index], index, size, proof, root(leaves)))


@pytest.mark.requirement("A09")
@given(st.integers(2, 70), st.data())
def test_a_leaf_is_at_its_own_place_only(size: int, data: st.DataObject) -> None:
    """With the root of the size stated: which size a root has, only its signature says."""
    leaves = hashes(size)
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    proof, head = inclusion_proof(leaves, index), root(leaves)
    assert_refused(lambda: check_inclusion(leaves[index], other, size, proof, head))
    assert_refused(lambda: check_inclusion(leaves[other], index, size, proof, head))
    assert_refused(lambda: check_inclusion(leaves[index], index, size, proof, root(leaves[:-1])))


@pytest.mark.parametrize("index, size", [(-1, 1), (0, 0), (1, 1), (2, 1), (8, 8)])
def test_a_leaf_beyond_the_tree_is_refused(index: int, size: int) -> None:
    assert_refused(lambda: check_inclusion(EMPTY, index, size, [], EMPTY))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_path_of_no_leaf_is_our_own_error(index: int) -> None:
    with pytest.raises(RuntimeError):
        WholeTree(hashes(3)).path(index)


@pytest.mark.parametrize("size", [1, 2**32, 2**64])
def test_of_a_proof_of_a_million_hashes_no_more_are_hashed_than_a_tree_has_levels(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = Counter[str]()

    def counting(left: bytes, right: bytes) -> bytes:
        hashed["nodes"] += 1
        return node_hash(left, right)

    monkeypatch.setattr("allocator.merkle.node_hash", counting)
    proof = [EMPTY] * 1_000_000
    assert_refused(lambda: check_inclusion(EMPTY, 0, size, proof, EMPTY))
    assert_refused(lambda: check_consistency(1, EMPTY, size + 1, EMPTY, proof))
    assert hashed["nodes"] <= 2 * 65


# ---- consistency ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("old, size", CONSISTENCY)
def test_published_consistency_proofs(old: int, size: int) -> None:
    proof = nodes(CONSISTENCY[old, size])
    assert consistency_proof(published(size), old) == proof
    check_consistency(old, bytes.fromhex(ROOTS[old]), size, bytes.fromhex(ROOTS[size]), proof)


@pytest.mark.parametrize("old, names", [(3, "c d g l"), (4, "l"), (6, "i j k")])
def test_the_consistency_proofs_drawn_in_rfc_6962(old: int, names: str) -> None:
    assert consistency_proof(hashes(7), old) == drawn(names)


@pytest.mark.requirement("L03")
def test_any_two_sizes_are_joined_by_the_proof_defined() -> None:
    for size in range(1, 36):
        leaves = [index.to_bytes(4, "big") for index in range(size)]
        for old in range(1, size + 1):
            proof = consistency_proof(hashes(size), old)
            assert proof == defined_proof(old, leaves)
            check_consistency(old, defined(leaves[:old]), size, defined(leaves), proof)


@pytest.mark.requirement("L03")
@given(st.integers(1, 70), st.data())
def test_a_bent_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    old, leaves = data.draw(st.integers(1, size)), hashes(size)
    proof = bent(consistency_proof(leaves, old), data)
    assert_refused(lambda: check_consistency(old, root(leaves[:old]), size, root(leaves), proof))


@pytest.mark.requirement("L03")
@given(st.integers(2, 70), st.data())
def test_a_log_that_parted_from_the_older_one_has_no_proof(size: int, data: st.DataObject) -> None:
    """One old record is another one: no proof of the new tree joins it to the old root, nor any of the old."""
    old = data.draw(st.integers(1, size))
    place, honest = data.draw(st.integers(0, old - 1)), hashes(size)
    forked = [*honest[:place], leaf_hash(b"another"), *honest[place + 1 :]]
    for leaves in (honest, forked):
        proof = consistency_proof(leaves, old)
        assert_refused(lambda proof=proof: check_consistency(old, root(honest[:old]), size, root(forked), proof))


# sizes and proofs that join nothing: transparency-dev/merkle, testdata/consistency/additional
@pytest.mark.parametrize(
    "old, size, roots, proof",
    [
        (0, 1, "same", [EMPTY]),
        (0, 0, "same", []),
        (0, 0, "same", [EMPTY]),
        (0, 1, "others", []),
        (1, 0, "others", []),
        (2, 1, "others", []),
        (1, 1, "others", []),
        (1, 2, "others", []),
        (1, 1, "same", [EMPTY]),
        (-1, 1, "same", []),
    ],
)
def test_what_joins_nothing_is_refused(old: int, size: int, roots: str, proof: list[bytes]) -> None:
    second = EMPTY if roots == "same" else leaf_hash(b"another")
    assert_refused(lambda: check_consistency(old, EMPTY, size, second, proof))


def test_two_heads_of_one_size_are_a_fork() -> None:
    with pytest.raises(EvidenceError, match="fork"):
        check_consistency(3, root(hashes(3)), 3, root(hashes(4)[1:]), [])


@pytest.mark.parametrize("old", [0, 4])
def test_a_proof_from_no_tree_is_our_own_error(old: int) -> None:
    with pytest.raises(RuntimeError):
        consistency_proof(hashes(3), old)


@pytest.mark.requirement("L03")
@given(st.lists(st.integers(1, 90), min_size=2, max_size=6, unique=True))
def test_checkpoints_one_after_another_are_joined(sizes: list[int]) -> None:
    leaves = hashes(90)
    for old, size in pairwise(sorted(sizes)):
        check_consistency(old, root(leaves[:old]), size, root(leaves[:size]), consistency_proof(leaves[:size], old))

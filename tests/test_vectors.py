"""The package against the test vectors of docs/spec.md (tests/vectors/README.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from allocator import merkle
from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical
from allocator.checkpoint import check_note, parse_checkpoint, parse_hash, verifier_key
from allocator.continuity import SharePaper
from allocator.design import RandomizationDesign
from allocator.errors import EvidenceError
from allocator.keystream import draw_below
from allocator.log import Record, parse_record
from allocator.methods import METHODS, draw_stratum
from allocator.person import check_ed25519, check_signature
from allocator.receipt import check_receipt, file_name, parse_receipt
from allocator.schedule import generate_schedule
from allocator.seed import Seed

VECTORS = Path(__file__).parent / "vectors"


def _load_make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _load_make()


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_bytes())


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
@pytest.mark.parametrize("name", sorted(MAKE.MAKERS))
def test_package_makes_the_same_vectors(name: str) -> None:
    """Changed vectors are changed bytes: lists and logs made before would no longer verify."""
    assert MAKE.made(name) == (VECTORS / f"{name}.json").read_bytes()


def test_every_file_has_its_maker_and_its_line_in_the_readme() -> None:
    names = {path.stem for path in VECTORS.glob("*.json")}
    assert names == set(MAKE.MAKERS)
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name}.json |" in readme for name in names)


def test_make_overwrites_nothing_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MAKE, "HERE", tmp_path)
    monkeypatch.setattr(MAKE, "MAKERS", {"design": MAKE.designs})
    assert MAKE.main([]) == 0
    good = (tmp_path / "design.json").read_bytes()
    (tmp_path / "design.json").write_bytes(b"{}")
    assert MAKE.main([]) == 1
    assert (tmp_path / "design.json").read_bytes() == b"{}"
    assert MAKE.main(["--replace", "design"]) == 0
    assert (tmp_path / "design.json").read_bytes() == good


def test_canonical_bytes_are_read_back() -> None:
    for case in vectors("canonical")["encoded"]:
        data = bytes.fromhex(case["bytes"])
        assert parse_canonical(data) == case["value"]
        assert canonical_bytes(case["value"]) == data


@pytest.mark.parametrize("case", vectors("canonical")["refused"], ids=lambda case: case["why"])
def test_ambiguous_bytes_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(CanonicalError):
        parse_canonical(bytes.fromhex(case["bytes"]))


@pytest.mark.requirement("S02")
def test_records_link_and_their_signatures_hold() -> None:
    given = vectors("record")
    for case in given["records"]:
        record = parse_record(bytes.fromhex(case["prev"]), case["body"].encode())
        assert record.hash.hex() == case["hash"]
        assert record.unsigned_body().decode() == case["unsigned_body"]
        check_signature(bytes.fromhex(given["sign_key"]), case["signature"], record.prev, record.unsigned_body())


# ---- methods.json ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("case", vectors("methods")["integers"], ids=lambda case: str(case["n"]))
def test_integers_of_several_words(case: dict[str, Any]) -> None:
    assert draw_below(iter(case["words"]), case["n"]) == case["drawn"]


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
@pytest.mark.parametrize("case", vectors("methods")["lists"], ids=lambda case: f"{case['algorithm']} {case['stratum']}")
def test_each_method_draws_the_list_of_the_vectors(case: dict[str, Any]) -> None:
    """From the design as it lies in an opening, so that reading it is part of the promise."""
    design = RandomizationDesign.from_tables(case["design"])
    assert design.algorithm == case["algorithm"]
    prk = bytes.fromhex(case["prk"])
    assert draw_stratum(design.method, design, prk, case["label"], case["stratum"]).hex() == case["arms"]


def test_the_vectors_hold_every_method() -> None:
    assert {case["design"]["method"] for case in vectors("methods")["lists"]} == set(METHODS) - {"permuted-block"}
    assert {case["stratum"] for case in vectors("methods")["lists"]} == {0, 1}


# ---- evidence.json --------------------------------------------------------------------------------------------------

EVIDENCE = vectors("evidence")


def little_log() -> list[Record]:
    """The records of evidence.json."""
    log = EVIDENCE["log"]["records"]
    return [parse_record(bytes.fromhex(case["prev"]), case["body"].encode("utf-8")) for case in log]


@pytest.mark.requirement("L03")
def test_trees_have_their_roots_and_proofs() -> None:
    trees = EVIDENCE["trees"]
    leaves = [bytes.fromhex(leaf) for leaf in trees["leaf_hashes"]]
    roots = {case["size"]: bytes.fromhex(case["root"]) for case in trees["roots"]}
    assert list(roots) == list(range(1, len(leaves) + 1))
    for case in trees["inclusion"]:
        proof = [bytes.fromhex(digest) for digest in case["proof"]]
        merkle.check_inclusion(leaves[case["index"]], case["index"], case["size"], proof, roots[case["size"]])
    for case in trees["consistency"]:
        proof = [bytes.fromhex(digest) for digest in case["proof"]]
        merkle.check_consistency(case["old"], roots[case["old"]], case["size"], roots[case["size"]], proof)
    count = len(leaves)
    assert (len(trees["inclusion"]), len(trees["consistency"])) == (count * (count + 1) // 2, count * (count - 1) // 2)


@pytest.mark.requirement("L02")
def test_the_little_log_is_one_chain_signed_by_its_people() -> None:
    records, prev = little_log(), bytes(32)
    keys = {r.fields["person"]: r.fields["sign_key"] for r in records if "sign_key" in r.fields}
    for record, case in zip(records, EVIDENCE["log"]["records"], strict=True):
        assert (record.prev, record.hash.hex()) == (prev, case["hash"])
        if record.fields["person"] in keys:
            key = bytes.fromhex(keys[record.fields["person"]])
            check_signature(key, record.fields["signature"], record.prev, record.unsigned_body())
        prev = record.hash
    assert records[0].fields["log_key"] == EVIDENCE["log"]["log_key"]


@pytest.mark.requirement("L03")
def test_checkpoints_are_signed_and_joined() -> None:
    given, key = EVIDENCE["checkpoints"], bytes.fromhex(EVIDENCE["log"]["log_key"])
    hashes, read = [record.hash for record in little_log()], {}
    for name in ("older", "newer"):
        checkpoint = read[name] = parse_checkpoint(given[name]["note"].encode("utf-8"))
        check_note(checkpoint, key)
        assert (checkpoint.origin, checkpoint.size) == (given["origin"], given[name]["size"])
        assert checkpoint.root.hex() == given[name]["root"] == merkle.root(hashes[: checkpoint.size]).hex()
    check_note(parse_checkpoint(given["with_signatures_unknown_here"].encode("utf-8")), key)
    assert verifier_key(given["origin"], key) == given["verifier_key"]
    head, _, note = given["consistency"].partition("\n\n")
    first, *proof = head.split("\n")
    assert (first, note) == (f"old {read['older'].size}", given["newer"]["note"])
    older, newer = read["older"], read["newer"]
    merkle.check_consistency(older.size, older.root, newer.size, newer.root, [parse_hash(line) for line in proof])


@pytest.mark.requirement("A09")
@pytest.mark.requirement("A10")
def test_a_receipt_and_its_copy_hold() -> None:
    records, given = little_log(), EVIDENCE["receipts"]
    first, copy = (parse_receipt(given[name].encode("utf-8")) for name in ("first", "copy"))
    for receipt in (first, copy):
        check_receipt(receipt)
        assert receipt.record == records[4] and receipt.root.hex() == vectors("schedule")["root"]
    assert first.copy is None and copy == first.as_copy(records[5])
    assert file_name(first.record) == given["name"]


@pytest.mark.requirement("C06")
def test_what_is_disclosed_draws_the_list_of_schedule_json() -> None:
    given = EVIDENCE["opening"]
    share = SharePaper.from_bytes(given["share"]["file"].encode("utf-8"))
    seed = Seed.from_bytes(given["seed"]["file"].encode("utf-8"))
    assert (share.share, share.design, share.salt) == (seed.shares[0], seed.design, seed.salt)
    shares = [bytes.fromhex(text) for text in seed.shares]
    drawn = generate_schedule(MAKE.STUDY, MAKE.FIRST_DESIGN, bytes.fromhex(seed.salt), shares)
    assert drawn.strata[0].arms.hex() == vectors("schedule")["arms"]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("case", EVIDENCE["refused_checkpoints"], ids=lambda case: case["why"])
def test_checkpoints_that_every_reader_refuses(case: dict[str, str]) -> None:
    with pytest.raises(EvidenceError):
        check_note(parse_checkpoint(case["note"].encode("utf-8")), bytes.fromhex(case["log_key"]))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("case", EVIDENCE["refused_receipts"], ids=lambda case: case["why"])
def test_receipts_that_every_reader_refuses(case: dict[str, str]) -> None:
    assert case["receipt"] not in (EVIDENCE["receipts"]["first"], EVIDENCE["receipts"]["copy"])
    with pytest.raises(EvidenceError):
        check_receipt(parse_receipt(case["receipt"].encode("utf-8")))


@pytest.mark.requirement("L02")
def test_a_signature_that_holds_only_times_the_cofactor_is_refused() -> None:
    """[8][S]B = [8]R + [8][k]A and yet [S]B ≠ R + [k]A: libraries differ (docs/spec.md §8.4)."""
    secret, message = bytes(range(32)), b"message"
    public = MAKE.public(MAKE.Ed25519PrivateKey.from_private_bytes(secret))
    signature = MAKE.cofactored_only(secret, message)
    assert holds_times_the_cofactor(public, signature, message)
    with pytest.raises(InvalidSignature):
        check_ed25519(public, signature, message)


def holds_times_the_cofactor(public: bytes, signature: bytes, message: bytes) -> bool:
    """The equation of RFC 8032 §5.1.7 multiplied by 8, by the curve's own law."""
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little")
    left = times(8 * int.from_bytes(signature[32:], "little"), decoded(BASE))
    right = added(times(8, decoded(signature[:32])), times(8 * k, decoded(public)))
    return left == right


BASE = (4 * pow(5, -1, MAKE.FIELD) % MAKE.FIELD).to_bytes(32, "little")
D = -121665 * pow(121666, -1, MAKE.FIELD) % MAKE.FIELD
Point = tuple[int, int]


def decoded(encoding: bytes) -> Point:
    """A point from its encoding (RFC 8032 §5.1.3)."""
    field, number = MAKE.FIELD, int.from_bytes(encoding, "little")
    y, sign = number & (2**255 - 1), number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, field) % field
    x = pow(square, (field + 3) // 8, field)
    if (x * x - square) % field:
        x = x * pow(2, (field - 1) // 4, field) % field
    assert (x * x - square) % field == 0
    return (x if x & 1 == sign else field - x, y)


def added(one: Point, other: Point) -> Point:
    """Their sum on −x² + y² = 1 + d x² y²."""
    field, cross = MAKE.FIELD, D * one[0] * other[0] * one[1] * other[1]
    x = (one[0] * other[1] + one[1] * other[0]) * pow(1 + cross, -1, field) % field
    y = (one[1] * other[1] + one[0] * other[0]) * pow(1 - cross, -1, field) % field
    return x, y


def times(count: int, point: Point) -> Point:
    """A multiple of a point."""
    total = (0, 1)
    while count:
        total = added(total, point) if count & 1 else total
        count, point = count >> 1, added(point, point)
    return total

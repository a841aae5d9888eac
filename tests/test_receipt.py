"""Receipts: one participant's proof, the same bytes whenever it is made, and nothing of it can be changed unseen."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator import merkle, sealing
from allocator.canonical import canonical_bytes
from allocator.checkpoint import check_note, origin_of, parse_checkpoint, parse_hash, sign_checkpoint
from allocator.errors import EvidenceError, Refused
from allocator.keys import ONLY_FOR_TESTS
from allocator.log import MAX_BODY, Record, link, new_record
from allocator.person import sign
from allocator.receipt import MAX_RECEIPT, MAX_STEPS, Receipt, check_receipt, file_name, parse_receipt
from allocator.restoring import read_digest, restore
from allocator.verdict import Given
from allocator.verify import verify_receipt
from support import PASSPHRASE, Trial, TrialFactory
from test_person import FIELD, ORDER, SMALL_ORDER_Y, encodings

SOMEBODY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SOMEBODYS = SOMEBODY.public_key().public_bytes_raw()
OTHER = bytes(31) + b"\x07"  # another digest than any in a receipt


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    """The second of three allocations in a study with two strata of seven entries."""
    factory = TrialFactory(tmp_path_factory.mktemp("templates"), tmp_path_factory.mktemp("homes"), {})
    trial = factory("active", stratified=True, length=7)
    trial.allocate("P-001", stratum={"site": "A"})
    [allocation] = trial.allocate("P-002", stratum={"site": "B"})
    trial.allocate("P-003", stratum={"site": "B"})
    made = trial.service.receipt(allocation.record)
    factory.close()
    return made


def assert_holds(receipt: Receipt) -> None:
    """It is read as written, and is of one piece."""
    data = receipt.to_bytes()
    read = parse_receipt(data)
    assert read == receipt and read.to_bytes() == data
    check_receipt(read)


def assert_none(data: bytes, said: str = "this is no receipt") -> None:
    """It cannot be read as a receipt, and why is said."""
    with pytest.raises(EvidenceError, match=said) as refusal:
        parse_receipt(data)
    assert refusal.value.code in ("receipt", "checkpoint")


def assert_not_of_one_piece(receipt: Receipt, code: str, said: str) -> None:
    """It is a receipt in form, and does not hold."""
    read = parse_receipt(receipt.to_bytes())
    with pytest.raises(EvidenceError, match=said) as refusal:
        check_receipt(read)
    assert refusal.value.code == code


def allocation_of(trial: Trial, participant: str) -> Record:
    """The participant's allocation."""
    record = trial.service.history.allocation(participant)
    assert record is not None
    return record


# ---- made -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A09")
@pytest.mark.requirement("C06")
def test_a_receipt_holds_what_it_says(receipt: Receipt) -> None:
    assert_holds(receipt)
    fields = receipt.record.fields
    assert (fields["participant"], fields["number"], fields["stratum"]) == ("P-002", 2, {"site": "B"})
    assert receipt.copy is None and receipt.made is receipt.record
    assert receipt.arm["code"] == ("IL2-GCV", "GCV")[fields["arm"]]
    assert receipt.checkpoint.size == receipt.record.seq + 1


@pytest.mark.requirement("A09")
@pytest.mark.requirement("L03")
def test_to_others_a_receipt_is_a_proof_of_a_transparency_log(receipt: Receipt) -> None:
    """Read by C2SP tlog-proof alone, with no more of ours than the hash of the record."""
    head, _, note = receipt.to_bytes().decode("utf-8").partition("\n\n")
    first, extra, index, *proof = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    assert extra.startswith("extra ") and index == f"index {receipt.record.seq}"
    record = json.loads(base64.b64decode(extra.removeprefix("extra ")))["record"]
    leaf = merkle.leaf_hash(bytes.fromhex(record["prev"]) + record["body"].encode("utf-8"))
    checkpoint = parse_checkpoint(note.encode("utf-8"))
    check_note(checkpoint, receipt.log_key)
    hashes = [parse_hash(line) for line in proof]
    merkle.check_inclusion(leaf, receipt.record.seq, checkpoint.size, hashes, checkpoint.root)


@pytest.mark.requirement("A09")
def test_each_allocation_has_its_own(trials: TrialFactory) -> None:
    """Odd numbers of entries: some nodes of the schedule's tree have no sibling."""
    trial = trials("active", stratified=True, length=5, block_sizes=(2,))
    places = [("P-001", "A"), ("P-002", "B"), ("P-003", "A"), ("P-004", "B"), ("P-005", "A"), ("P-006", "B")]
    for participant, site in places:
        trial.allocate(participant, stratum={"site": site})
    roots = set()
    for participant, _ in places:
        made = trial.service.receipt(allocation_of(trial, participant))
        assert_holds(made)
        roots.add(made.root.hex())
    assert roots == {trial.service.history.sealing.fields["root"]}  # type: ignore[union-attr]


def test_a_list_of_one_entry_has_a_path_of_no_step(trials: TrialFactory) -> None:
    trial = trials("active", length=1, block_sizes=(2,))
    [allocation] = trial.allocate("P-001")
    made = trial.service.receipt(allocation.record)
    assert made.path == ()
    assert_holds(made)


@pytest.mark.requirement("A10")
def test_the_bytes_are_the_same_whenever_it_is_made(trial: Trial) -> None:
    [allocation] = trial.allocate("P-001")
    kept = trial.service.keep_receipt(allocation.record)
    first = kept.read_bytes()
    assert kept == trial.place.receipts / "000001-P-001.tlog-proof"
    trial.allocate("P-002", "P-003")
    trial.service.change_state(trial.actor("SP"), "closed", "done")
    assert trial.service.receipt(allocation.record).to_bytes() == first
    kept.unlink()
    trial.again()
    assert trial.service.keep_receipt(allocation_of(trial, "P-001")).read_bytes() == first


@pytest.mark.requirement("A10")
def test_a_receipt_outlives_the_sealing_it_was_made_under(trial: Trial) -> None:
    """Sealed again, the list is the same and so is its root."""
    [allocation] = trial.allocate("P-001")
    before = trial.service.receipt(allocation.record).to_bytes()
    papers = [trial.service.copy_share(trial.actor(person))[1] for person in ("ST", "CU")]
    trial.service.reseal(trial.actor("ST"), papers, "keys lost")
    assert trial.service.receipt(allocation.record).to_bytes() == before


def test_a_receipt_that_is_kept_is_left_as_it_is(trial: Trial) -> None:
    [allocation] = trial.allocate("P-001")
    kept = trial.service.keep_receipt(allocation.record)
    copy = replace(
        parse_receipt(kept.read_bytes()), copy={"seq": 9, "time": "2026-11-20T04:00:00.000Z", "person": "PH"}
    )
    kept.write_bytes(copy.to_bytes())
    assert trial.service.keep_receipt(allocation.record).read_bytes() == copy.to_bytes()


@pytest.mark.parametrize("left", [b"", b"c2sp.org/tlog-proof@v1\nextra "], ids=["empty", "half"])
def test_what_a_crash_left_of_a_receipt_is_made_again(left: bytes, trial: Trial) -> None:
    [allocation] = trial.allocate("P-001")
    kept = trial.service.keep_receipt(allocation.record)
    whole = kept.read_bytes()
    kept.write_bytes(left)
    assert trial.service.keep_receipt(allocation.record).read_bytes() == whole
    assert [path.name for path in trial.place.receipts.iterdir()] == [kept.name]


@pytest.mark.requirement("A04")
def test_a_receipt_that_cannot_be_written_undoes_nothing(trial: Trial) -> None:
    [allocation] = trial.allocate("P-001")
    trial.place.receipts.write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError):
        trial.service.keep_receipt(allocation.record)
    assert trial.reveal("P-001").number == 1


@pytest.mark.parametrize(
    "number, participant, name",
    [
        (1, "P-001", "000001-P-001.tlog-proof"),
        (999_999, "X", "999999-X.tlog-proof"),
        (1_234_567, "P-1.2_3", "1234567-P-1.2_3.tlog-proof"),
    ],
)
def test_names_of_files(number: int, participant: str, name: str) -> None:
    record = Record(prev=bytes(32), body=b"", fields={"number": number, "participant": participant})
    assert file_name(record) == name


# ---- kinds of allocation --------------------------------------------------------------------------------------------


@pytest.mark.requirement("A11")
def test_a_late_entry_has_a_receipt(trial: Trial) -> None:
    trial.confirm("P-001")
    event = trial.clock.now
    trial.clock.advance(hours=1)
    allocation = trial.service.late(trial.actor("PH"), "P-001", event, "power cut")
    made = trial.service.receipt(allocation.record)
    assert made.record.kind == "late"
    assert_holds(made)


@pytest.mark.requirement("L03")
@pytest.mark.requirement("A09")
def test_an_allocation_entered_again_has_a_receipt_of_its_own(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    file = tmp_path / "backup.tar"
    trial.service.backup(trial.actor("SP"), file)
    [lost] = trial.allocate("P-002")
    before = trial.service.receipt(lost.record)
    _lose_what_came_after(trial, file)
    original = {"prev": before.record.prev.hex(), "body": before.record.body.decode("utf-8")}
    trial.service.recover(trial.actor("ST"), "disk failed", receipts=[original])
    made = trial.service.receipt(allocation_of(trial, "P-002"))
    assert (made.record.kind, made.made) == ("receipt-entered", before.record)
    assert (made.arm, made.root, made.path) == (before.arm, before.root, before.path)
    assert_holds(made)
    assert_holds(before)  # by itself; that the log lost its record, only the log tells
    _an_original_that_says_something_else(made)


def _lose_what_came_after(trial: Trial, file: Path) -> None:
    trial.service.close_files()
    trial.place.log_file.unlink()
    restore(
        trial.home,
        file,
        read_digest(file),
        lambda service: service.authenticate("SP", lambda: PASSPHRASE, "restored"),
        "disk failed",
        clock=trial.clock,
        stretching=ONLY_FOR_TESTS,
    )
    trial.again()


def _an_original_that_says_something_else(made: Receipt) -> None:
    """Signed by somebody, so that nothing else fails."""
    original = json.loads(made.record.fields["original"]["body"])
    for name, value in (("participant", "P-009"), ("number", 7), ("position", 3)):
        said = canonical_bytes({**original, name: value}).decode("utf-8")
        forged = signed_again(made, {"original": {**made.record.fields["original"], "body": said}})
        assert_not_of_one_piece(forged, "receipt", "something else than its original")
    no_record = signed_again(made, {"original": {**made.record.fields["original"], "body": "{}"}})
    assert_not_of_one_piece(no_record, "receipt", "holds no record")


def signed_again(receipt: Receipt, changes: dict[str, Any]) -> Receipt:
    """A receipt of a log that somebody made up: its record changed and signed by them, under a head that they sign."""
    fields = {name: value for name, value in receipt.record.fields.items() if name != "signature"} | changes
    fields["signature"] = sign(SOMEBODY, receipt.record.prev, canonical_bytes(fields))
    return standing_in_own_log(receipt, new_record(receipt.record.prev, fields))


def standing_in_own_log(receipt: Receipt, record: Record) -> Receipt:
    """The receipt of another record in a log of the same size, whose key and whose person's key are somebody's."""
    root_ = record.hash
    for sibling in receipt.proof:  # the last leaf of a tree has siblings on its left only
        root_ = merkle.node_hash(sibling, root_)
    origin = origin_of(receipt.checkpoint.origin.split("/")[1], receipt.first)
    checkpoint = sign_checkpoint(origin, record.seq + 1, root_, SOMEBODY, SOMEBODYS)
    return replace(receipt, record=record, sign_key=SOMEBODYS, log_key=SOMEBODYS, checkpoint=checkpoint)


def test_a_receipt_of_a_log_made_up_is_of_one_piece_too(receipt: Receipt) -> None:
    """It names the first record it likes, beside a key of its own: whose log it is, only the log can tell (§17.3)."""
    assert_holds(signed_again(receipt, {"participant": "P-009"}))


@pytest.mark.requirement("L03")
def test_only_the_hash_of_its_own_record_anchors_a_receipt(receipt: Receipt) -> None:
    """The first record, the one before and the root are in every receipt: a forger states them beside his own keys."""
    forged = Given("forged", signed_again(receipt, {"participant": "P-009"}).to_bytes())
    true = Given("true", receipt.to_bytes())
    for stated in (receipt.first, receipt.record.prev):
        assert verify_receipt(forged, (stated,)).verdict == "intact-unanchored"
    assert verify_receipt(forged, (), (receipt.root,)).verdict == "intact-unanchored"
    assert verify_receipt(forged, (receipt.record.hash,)).verdict == "broken"
    assert verify_receipt(true, (receipt.record.hash,)).verdict == "intact"


# ---- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A10")
@pytest.mark.parametrize("person", ["PH", "AU"])
def test_a_copy_says_so_and_is_recorded(person: str, trial: Trial) -> None:
    [allocation] = trial.allocate("P-001")
    first = trial.service.receipt(allocation.record)
    trial.clock.advance(days=3)
    copy = trial.service.copy_receipt(trial.actor(person), "P-001")
    record = trial.last
    assert (record.kind, record.fields["allocation"]) == ("receipt-copied", allocation.record.seq)
    assert copy.copy == {"seq": record.seq, "time": record.fields["time"], "person": person}
    assert replace(copy, copy=None) == first
    assert_holds(copy)


@pytest.mark.requirement("A10")
@pytest.mark.parametrize(
    "person, participant, cause", [("IN", "P-001", "not-permitted"), ("PH", "P-002", "not-allocated")]
)
def test_a_copy_that_is_refused_is_recorded_too(person: str, participant: str, cause: str, trial: Trial) -> None:
    trial.allocate("P-001")
    with pytest.raises(Refused) as refusal:
        trial.service.copy_receipt(trial.actor(person), participant)
    assert refusal.value.code == cause
    fields = trial.last.fields
    assert (fields["kind"], fields["action"], fields["cause"]) == ("refused", "receipt-copied", cause)


@pytest.mark.requirement("X06")
def test_the_copy_of_an_allocation_that_was_moved_is_of_its_own_record(trial: Trial) -> None:
    """Under the right id the allocation is still the one record, made under the wrong one."""
    [allocation] = trial.allocate("P-001")
    trial.confirm("P-002")
    for person in ("PH", "IN"):
        trial.service.reassign(trial.actor(person), "P-001", "P-002", "typed wrongly")
    copy = trial.service.copy_receipt(trial.actor("PH"), "P-002")
    assert copy.record == allocation.record
    assert_holds(copy)
    with pytest.raises(Refused):
        trial.service.copy_receipt(trial.actor("PH"), "P-001")


# ---- changed: each part is held by another --------------------------------------------------------------------------


def _changed_body(receipt: Receipt, old: bytes, new: bytes) -> Record:
    body = receipt.record.body
    assert body.count(old) == 1
    body = body.replace(old, new)
    return Record(prev=receipt.record.prev, body=body, fields=json.loads(body))


CHANGES: dict[str, tuple[Callable[[Receipt], Receipt], str, str]] = {
    "the participant": (
        lambda r: replace(r, record=_changed_body(r, b"P-002", b"P-003")), "signature", "not this person's"),
    "the arm": (
        lambda r: replace(r, record=_changed_body(r, b'"arm":%d' % r.record.fields["arm"],
                                                  b'"arm":%d' % (1 - r.record.fields["arm"]))),
        "signature", "not this person's"),
    "the record before": (
        lambda r: replace(r, record=Record(prev=OTHER, body=r.record.body, fields=r.record.fields)),
        "signature", "not this person's"),
    "the person's key": (lambda r: replace(r, sign_key=SOMEBODYS), "signature", "not this person's"),
    "the study": (lambda r: replace(r, fingerprint=OTHER), "receipt", "does not lead to the root of the schedule"),
    "the first record": (lambda r: replace(r, first=OTHER), "receipt", "origin of its checkpoint"),
    "the log's key": (lambda r: replace(r, log_key=SOMEBODYS), "checkpoint", "not signed by the key of this log"),
    "the root of the list": (lambda r: replace(r, root=OTHER), "receipt", "does not lead to the root of the schedule"),
    "a step": (
        lambda r: replace(r, path=((r.path[0][0], OTHER), *r.path[1:])), "receipt", "does not lead to the root"),
    "the side of a step": (
        lambda r: replace(r, path=(({"L": "R", "R": "L"}[r.path[0][0]], r.path[0][1]), *r.path[1:])),
        "receipt", "does not lead to the root"),
    "a step less": (lambda r: replace(r, path=r.path[:-1]), "receipt", "does not lead to the root"),
    "a step more": (lambda r: replace(r, path=(*r.path, ("R", OTHER))), "receipt", "does not lead to the root"),
    "a hash of the proof": (lambda r: replace(r, proof=(OTHER, *r.proof[1:])), "proof", "does not lead to the"),
    "a hash less": (lambda r: replace(r, proof=r.proof[:-1]), "proof", "does not lead to the"),
    "a hash more": (lambda r: replace(r, proof=(*r.proof, OTHER)), "proof", "too long"),
    "no proof": (lambda r: replace(r, proof=()), "proof", "does not lead to the"),
    "a larger head": (
        lambda r: replace(r, checkpoint=sign_checkpoint(
            r.checkpoint.origin, r.checkpoint.size + 1, r.checkpoint.root, SOMEBODY, SOMEBODYS)),
        "receipt", "its checkpoint is of"),
    "another head": (
        lambda r: replace(r, checkpoint=sign_checkpoint(
            r.checkpoint.origin, r.checkpoint.size, OTHER, SOMEBODY, SOMEBODYS)),
        "proof", "does not lead to the"),
    "a head of another key": (
        lambda r: replace(r, checkpoint=sign_checkpoint(
            r.checkpoint.origin, r.checkpoint.size, r.checkpoint.root, SOMEBODY, SOMEBODYS)),
        "checkpoint", "not signed by the key of this log"),
}  # fmt: skip


@pytest.mark.requirement("A09")
@pytest.mark.requirement("L02")
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_is_refused_and_said(change: str, receipt: Receipt) -> None:
    how, code, said = CHANGES[change]
    assert_not_of_one_piece(how(receipt), code, said)


@pytest.mark.requirement("L02")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_byte_changed_anywhere_is_noticed(data: st.DataObject, receipt: Receipt) -> None:
    """All but what only the study and the log can hold (§17.3): the arm in words, the mark of a copy, and more of the
    first record than the origin names."""
    changed = bytearray(receipt.to_bytes())
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] = data.draw(st.integers(0, 255).filter(lambda value: value != changed[place]))
    try:
        read = parse_receipt(bytes(changed))
        check_receipt(read)
    except EvidenceError:
        return
    assert replace(read, arm=receipt.arm, copy=None, first=receipt.first) == receipt
    assert read.first[:8] == receipt.first[:8]


@pytest.mark.requirement("C06")
@pytest.mark.parametrize(
    "changes, said",
    [
        (lambda fields: {"arm": 1 - fields["arm"]}, "does not lead to the root"),
        (lambda _: {"arm": 2}, "does not lead to the root"),
        (lambda _: {"arm": 256}, "of no study"),
        (lambda _: {"arm": 2**32 - 1}, "of no study"),
        (lambda _: {"salt": OTHER.hex()}, "does not lead to the root"),
        (lambda fields: {"position": fields["position"] + 1}, "does not lead to the root"),
        (lambda _: {"position": 2**32 - 1}, "does not lead to the root"),
        (lambda _: {"stratum": {"site": "A"}}, "does not lead to the root"),
        (lambda _: {"stratum": {f"{n:039d}": "x" for n in range(2000)}}, "of no study"),
        (lambda _: {"sealing": "00" * 16}, "does not lead to the root"),
    ],
)
def test_a_receipt_signed_by_somebody_opens_no_other_arm(
    changes: Callable[[Any], dict[str, Any]], said: str, receipt: Receipt
) -> None:
    """All signatures hold: the entry is what was fixed before the first participant."""
    assert_not_of_one_piece(signed_again(receipt, changes(receipt.record.fields)), "receipt", said)


def test_a_path_made_to_another_root_is_of_another_list(receipt: Receipt) -> None:
    """The arm exchanged, with a path to a root of its own: of one piece, and the root is not the one deposited."""
    fields = receipt.record.fields
    other = signed_again(receipt, {"arm": 1 - fields["arm"]})
    committed = sealing.commitment(
        bytes.fromhex(fields["salt"]), receipt.fingerprint, bytes.fromhex(fields["sealing"]), '{"site":"B"}',
        fields["position"], 1 - fields["arm"],
    )  # fmt: skip
    leaf = merkle.leaf_hash(sealing.schedule_leaf('{"site":"B"}', fields["position"], committed))
    forged = replace(other, root=merkle.fold(leaf, receipt.path))
    assert_holds(forged)
    assert forged.root != receipt.root


@pytest.mark.parametrize("kind", ["confirmed", "shown-again", "person-added", "study-opened"])
def test_a_record_of_another_kind_has_no_receipt(kind: str, receipt: Receipt, trial: Trial) -> None:
    trial.allocate("P-001")
    trial.reveal("P-001")
    record = next(record for record in trial.records if record.kind == kind)
    assert_not_of_one_piece(replace(receipt, record=record), "receipt", f"of kind {kind}")


# ---- encodings on which libraries disagree (docs/spec.md §8.4) ------------------------------------------------------

SMALL = [point for y in SMALL_ORDER_Y for point in encodings(y)]
BEYOND = [(y + FIELD | sign << 255).to_bytes(32, "little") for y in range(19) for sign in (0, 1)]


def with_signature(receipt: Receipt, signature: bytes) -> Receipt:
    """Another signature in the record, which then stands in a log of its own."""
    fields = {**receipt.record.fields, "signature": signature.hex()}
    return standing_in_own_log(receipt, new_record(receipt.record.prev, fields))


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("point", [*SMALL, *BEYOND], ids=lambda point: point.hex()[:8])
def test_points_of_small_order_or_beyond_the_field_sign_no_receipt(point: bytes, receipt: Receipt) -> None:
    """With such a key, R the identity and S 0, a lax library takes any record as signed."""
    identity = (1).to_bytes(32, "little")
    forged = replace(with_signature(receipt, identity + bytes(32)), sign_key=point)
    assert_not_of_one_piece(forged, "signature", "not this person's")
    own = bytes.fromhex(receipt.record.fields["signature"])
    forged = replace(with_signature(receipt, point + own[32:]), sign_key=receipt.sign_key)
    assert_not_of_one_piece(forged, "signature", "not this person's")
    assert_not_of_one_piece(replace(receipt, log_key=point), "checkpoint", "not signed by the key")


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("times", [1, 2, 7, 15])
def test_an_s_that_is_not_reduced_signs_no_receipt(times: int, receipt: Receipt) -> None:
    own = bytes.fromhex(receipt.record.fields["signature"])
    s = int.from_bytes(own[32:], "little") + times * ORDER
    forged = replace(with_signature(receipt, own[:32] + s.to_bytes(32, "little")), sign_key=receipt.sign_key)
    assert_not_of_one_piece(forged, "signature", "not this person's")


# ---- read strictly --------------------------------------------------------------------------------------------------


def lines_of(receipt: Receipt) -> list[bytes]:
    """The lines before the checkpoint, and the checkpoint."""
    head, _, note = receipt.to_bytes().partition(b"\n\n")
    return [*head.split(b"\n"), note]


def with_lines(*lines: bytes) -> bytes:
    """A file of these lines before the checkpoint, and the checkpoint."""
    return b"\n".join([*lines[:-1], b"", lines[-1]])


def with_extra(receipt: Receipt, changes: dict[str, Any], without: str = "") -> bytes:
    """The file with other extra data, canonical."""
    first, extra, *rest = lines_of(receipt)
    plain = json.loads(base64.b64decode(extra.removeprefix(b"extra "))) | changes
    plain.pop(without, None)
    return with_lines(first, b"extra " + base64.b64encode(canonical_bytes(plain)), *rest)


def test_what_is_no_file_of_a_proof_is_none(receipt: Receipt) -> None:
    first, extra, index, *rest = lines_of(receipt)
    whole = receipt.to_bytes()
    wrong = {
        "nothing": b"",
        "another file": b"{}",
        "a later version": whole.replace(b"proof@v1", b"proof@v2", 1),
        "a byte order mark": b"\xef\xbb\xbf" + whole,
        "an empty line first": b"\n" + whole,
        "carriage returns": whole.replace(b"\n", b"\r\n"),
        "no extra data": with_lines(first, index, *rest),
        "empty extra data": with_lines(first, b"extra ", index, *rest),
        "extra data twice": with_lines(first, extra, extra, index, *rest),
        "no index": with_lines(first, extra, *rest),
        "another word": with_lines(first, extra.replace(b"extra", b"Extra"), index, *rest),
        "two blanks": with_lines(first, extra, index.replace(b" ", b"  "), *rest),
        "an index with a zero": with_lines(first, extra, index.replace(b" ", b" 0"), *rest),
        "an index with a sign": with_lines(first, extra, index.replace(b" ", b" +"), *rest),
        "an index of many digits": with_lines(first, extra, b"index " + b"9" * 10_000, *rest),
        "an index in other digits": with_lines(first, extra, "index ٣".encode(), *rest),
        "an index less": with_lines(first, extra, b"index %d" % (receipt.record.seq - 1), *rest),
        "no base64": with_lines(first, b"extra ####", index, *rest),
        "a hash that is none": with_lines(first, extra, index, b"AAAA", *rest),
        "a hash in hexadecimal": with_lines(first, extra, index, OTHER.hex().encode(), *rest),
        "a hash with a blank": with_lines(first, extra, index, rest[0] + b" ", *rest[1:]),
        "no checkpoint": with_lines(first, extra, index, *rest[:-1], b""),
        "no empty line": whole.replace(b"\n\n", b"\n", 1),
        "something after the end": whole + b"more\n",
        "bytes": bytes(range(256)),
    }
    for name, data in wrong.items():
        with pytest.raises(EvidenceError) as refusal:
            parse_receipt(data)
        assert refusal.value.code in ("receipt", "checkpoint"), name


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "allocator-receipt/2"},
        {"format": None},
        {"note": ""},
        {"record": None},
        {"record": {"prev": "00" * 32}},
        {"record": {"prev": "00" * 31, "body": "{}"}},
        {"record": {"prev": "00" * 32, "body": "{}"}},
        {"record": {"prev": "00" * 32, "body": {}}},
        {"record": {"prev": "00" * 32, "body": "{}", "more": 1}},
        {"record": {"prev": "00" * 32, "body": "x" * (MAX_BODY + 1)}},
        {"sign_key": "AB" * 32},
        {"sign_key": "ab" * 31},
        {"sign_key": None},
        {"fingerprint": 7},
        {"first": ["ab" * 32]},
        {"log_key": "ab" * 33},
        {"schedule": None},
        {"schedule": {"root": "ab" * 32}},
        {"schedule": {"root": "ab" * 31, "path": []}},
        {"schedule": {"root": "ab" * 32, "path": {}}},
        {"schedule": {"root": "ab" * 32, "path": ["ab" * 32]}},
        {"schedule": {"root": "ab" * 32, "path": ["l" + "ab" * 32]}},
        {"schedule": {"root": "ab" * 32, "path": ["L" + "AB" * 32]}},
        {"schedule": {"root": "ab" * 32, "path": ["L" + "ab" * 32 + "\n"]}},
        {"schedule": {"root": "ab" * 32, "path": [7]}},
        {"schedule": {"root": "ab" * 32, "path": ["L" + "ab" * 32] * (MAX_STEPS + 1)}},
        {"schedule": {"root": "ab" * 32, "path": [], "more": 1}},
        {"arm": None},
        {"arm": {"code": "GCV", "label": "x"}},
        {"arm": {"code": "a b", "label": "x", "interventions": []}},
        {"arm": {"code": "GCV", "label": "", "interventions": []}},
        {"arm": {"code": "GCV", "label": "x\u202ey", "interventions": []}},
        {"arm": {"code": "GCV", "label": "x" * 501, "interventions": []}},
        {"arm": {"code": "GCV", "label": "x", "interventions": ["\x1b[2J"]}},
        {"arm": {"code": "GCV", "label": "x", "interventions": "x"}},
        {"arm": {"code": "GCV", "label": 1, "interventions": []}},
        {"copy": {}},
        {"copy": {"seq": -1, "time": "2026-11-20T04:00:00.000Z", "person": "PH"}},
        {"copy": {"seq": 1, "time": "2026-11-20T04:00:00Z", "person": "PH"}},
        {"copy": {"seq": 1, "time": "2026-11-20T04:00:00.000Z", "person": None}},
        {"copy": {"seq": True, "time": "2026-11-20T04:00:00.000Z", "person": "PH"}},
        {"copy": False},
    ],
    ids=lambda changes: json.dumps(changes)[:50],
)
def test_extra_data_of_another_form_is_no_receipt(changes: dict[str, Any], receipt: Receipt) -> None:
    assert_none(with_extra(receipt, changes))


@pytest.mark.parametrize(
    "name", ["format", "record", "sign_key", "fingerprint", "first", "log_key", "schedule", "arm", "copy"]
)
def test_no_extra_data_may_be_missing(name: str, receipt: Receipt) -> None:
    parse_receipt(with_extra(receipt, {}))
    assert_none(with_extra(receipt, {}, without=name), "not of allocator-receipt/1")


def test_extra_data_have_one_form_of_bytes(receipt: Receipt) -> None:
    first, extra, *rest = lines_of(receipt)
    raw = base64.b64decode(extra.removeprefix(b"extra "))
    for other in (raw + b" ", raw.replace(b":", b": ", 1), raw[:-1] + b',"copy":null}', b"[" + raw + b"]", raw[:-1]):
        assert_none(with_lines(first, b"extra " + base64.b64encode(other), *rest))
    padded = base64.b64encode(raw + b" " * (-(len(raw) + 1) % 3))
    for text in (extra + b"=", extra + b"\x00", b"extra " + padded.replace(b"=", b"")[:-1]):
        assert_none(with_lines(first, text, *rest))


def test_a_file_beyond_its_bound_is_not_read(receipt: Receipt) -> None:
    assert_none(receipt.to_bytes() + b"x" * MAX_RECEIPT, f"more than {MAX_RECEIPT} bytes")


def test_a_body_in_the_receipt_is_the_one_hashed(receipt: Receipt) -> None:
    read = parse_receipt(receipt.to_bytes())
    assert read.record.hash == link(read.record.prev, read.record.body) == receipt.record.hash

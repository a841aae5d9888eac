"""What is known from outside the log, held to it: heads, checkpoints, receipts (docs/spec.md §11.2, checks 21 to 24).

A chain by itself survives truncation, a restored backup or a full rewrite. Only what lived elsewhere tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from allocator.checkpoint import Checkpoint, check_note, origin_of, parse_checkpoint
from allocator.errors import EvidenceError
from allocator.history import History
from allocator.log import SEALING_KINDS, Record, link
from allocator.merkle import Tree
from allocator.receipt import Receipt, arm_words, check_receipt, parse_receipt
from allocator.store import Store
from allocator.study import Study
from allocator.verdict import Evidence, Finding, Given

LOST = "records were lost or rewritten"


class Anchors:
    """Everything given from elsewhere, and what the log has at its places; takes the log's hashes one by one.

    Of the hashes only those are kept that somebody asks for, so that a log of any length needs the same memory.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.findings: list[Finding] = []
        self._checkpoints = list(self._parsed_checkpoints())
        self._receipts = list(self._parsed_receipts())
        self._heads_wanted = set(evidence.given_heads)
        self._sizes_wanted = {checkpoint.size for _, checkpoint in self._checkpoints}
        self._sizes_wanted |= {receipt.checkpoint.size for _, receipt in self._receipts}
        self._heads_found: set[bytes] = set()
        self._roots: dict[int, bytes] = {}
        self._at_local_head: bytes | None = None
        self.head = b""  # hash of the last record followed
        self.tree = Tree()

    def take(self, digest: bytes) -> None:
        """The hash of the next record."""
        self.head = digest
        local = self._evidence.local_head
        if local is not None and local[0] == self.tree.size:
            self._at_local_head = digest
        if digest in self._heads_wanted:
            self._heads_found.add(digest)
        self.tree.append(digest)
        if self.tree.size in self._sizes_wanted:
            self._roots[self.tree.size] = self.tree.root()

    def judge(self, study: Study, store: Store, *, complete: bool) -> list[Finding]:
        """All findings; where the log could not be followed to its end, nothing is said of what lies beyond."""
        history = History(store)
        self.findings += self._local_head(complete=complete)
        self.findings += self._given_heads(store, complete=complete)
        self.findings += self._given_roots(store, complete=complete)
        for given, checkpoint in self._checkpoints:
            try:
                self._check_checkpoint(checkpoint, history, complete=complete)
            except EvidenceError as error:
                self._add("23 checkpoint", given, error)
        for given, receipt in self._receipts:
            try:
                self._check_receipt(receipt, study, history, complete=complete)
            except EvidenceError as error:
                self._add("24 receipt", given, error, receipt.record.seq)
        return self.findings

    def _parsed_checkpoints(self) -> Iterator[tuple[Given, Checkpoint]]:
        for given in (*self._evidence.own_checkpoints, *self._evidence.given_checkpoints):
            try:
                yield given, parse_checkpoint(given.data)
            except EvidenceError as error:
                self._add("23 checkpoint", given, error)

    def _parsed_receipts(self) -> Iterator[tuple[Given, Receipt]]:
        for given in (*self._evidence.own_receipts, *self._evidence.given_receipts):
            try:
                yield given, parse_receipt(given.data)
            except EvidenceError as error:
                self._add("24 receipt", given, error)

    def _add(self, check: str, given: Given, error: EvidenceError, seq: int | None = None) -> None:
        self.findings.append(Finding.of(check, error, seq=seq, file=given.name))

    # ---- heads --------------------------------------------------------------------------------------------------

    def _local_head(self, *, complete: bool) -> Iterator[Finding]:
        if self._evidence.local_head is None:
            return
        seq, digest = self._evidence.local_head
        found = self._at_local_head
        if found != digest and (complete or found is not None):
            said = "is not in the log: records were lost" if found is None else "is another one in the log"
            yield Finding(
                check="21 local head",
                seq=seq,
                message=f"record {seq}, which this home has seen, {said}",
                expected=digest.hex(),
                found=found.hex() if found else None,
            )

    def _given_heads(self, store: Store, *, complete: bool) -> Iterator[Finding]:
        missing = [digest for digest in self._evidence.given_heads if digest not in self._heads_found]
        if not missing or not complete:
            return
        entered = {link(bytes.fromhex(o["prev"]), o["body"].encode("utf-8")) for o in _originals(store)}
        last = store.last()
        for digest in missing:
            if digest not in entered:
                stated = _stated_loss(store, digest)
                said = f"the head given is the hash of no record of this log: {LOST}"
                yield Finding(
                    check="22 given head",
                    message=said + (f"; record {stated} states its loss" if stated is not None else ""),
                    expected=digest.hex(),
                    found=last.hash.hex() if last else None,
                )

    def _given_roots(self, store: Store, *, complete: bool) -> Iterator[Finding]:
        """The root that was deposited at the activation is that of the list (C06)."""
        newest = store.newest(SEALING_KINDS)
        found = newest.fields["root"] if newest else None
        for root in self._evidence.given_roots if complete or newest else ():
            if root.hex() != found:
                said = "the root given is not that of the list: it is another list than the one deposited"
                yield Finding(check="22 given head", message=said, expected=root.hex(), found=found)

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def _check_checkpoint(self, checkpoint: Checkpoint, history: History, *, complete: bool) -> None:
        """It is one of this log, not larger than it, and its root is that of the first records."""
        opening = history.opening
        if opening is None:
            return  # no record could be followed, which is said already
        origin = origin_of(opening.fields["study"], opening.hash)
        if checkpoint.origin != origin:
            raise _differs("it is of another log", origin, checkpoint.origin)
        check_note(checkpoint, bytes.fromhex(opening.fields["log_key"]))
        found = self._roots.get(checkpoint.size)
        if found is None and not complete:
            return
        if found is None:
            raise _differs(f"the log has fewer records than it signed: {LOST}", checkpoint.size, self.tree.size)
        if found != checkpoint.root:
            said = f"the first {checkpoint.size} records are other ones than it signed: {LOST}"
            raise _differs(said, checkpoint.root.hex(), found.hex())

    # ---- receipts -----------------------------------------------------------------------------------------------

    def _check_receipt(self, receipt: Receipt, study: Study, history: History, *, complete: bool) -> None:
        """It holds in itself, and is the log's (docs/spec.md §17.2, §17.3)."""
        check_receipt(receipt)
        opening, record = history.opening, receipt.record
        if opening is None:
            return
        stated = {
            "first": (opening.hash.hex(), receipt.first.hex()),
            "log_key": (opening.fields["log_key"], receipt.log_key.hex()),
            "fingerprint": (opening.fields["fingerprint"], receipt.fingerprint.hex()),
        }
        for name, (expected, found) in stated.items():
            if expected != found:
                raise _differs(f"its {name} is not that of this log", expected, found)
        stored = history.store.record(record.seq)
        if stored is None and not complete:
            return
        if stored is not None and stored.hash == record.hash:
            person = history.person(record.fields["person"])
            if person is None or person.sign_key != receipt.sign_key:
                raise EvidenceError("receipt", "it is signed with another key than that of its person")
            self._check_checkpoint(receipt.checkpoint, history, complete=complete)
            _check_copy(receipt, history.store)
        elif not _is_entered_again(record, history.store):
            raise _differs(
                f"the log lacks its record: {LOST}", record.hash.hex(), stored.hash.hex() if stored else None
            )
        _check_words(receipt, study, history.store)


def _check_copy(receipt: Receipt, store: Store) -> None:
    if receipt.copy is None:
        return
    copied = store.record(receipt.copy["seq"])
    expected = {"kind": "receipt-copied", "allocation": receipt.record.seq}
    expected |= {name: receipt.copy[name] for name in ("time", "person")}
    if copied is None or any(copied.fields.get(name) != value for name, value in expected.items()):
        raise EvidenceError("receipt", "it says that it is a copy, which the log does not say")


def _check_words(receipt: Receipt, study: Study, store: Store) -> None:
    """Root and arm are those of the list and of the study."""
    sealings = [r for r in store.records(SEALING_KINDS) if r.seq < receipt.record.seq]
    root = sealings[-1].fields["root"] if sealings else None
    if receipt.root.hex() != root:
        raise _differs("its root is not that of the list sealed before it", root, receipt.root.hex())
    index = receipt.record.fields["arm"]
    arm = arm_words(study.arms[index]) if index < len(study.arms) else None
    if receipt.arm != arm:
        raise _differs("its arm is not that of the study", arm, dict(receipt.arm))


def _is_entered_again(record: Record, store: Store) -> bool:
    """Whether a lost record came back whole, by a receipt."""
    return any(o["body"].encode("utf-8") == record.body and o["prev"] == record.prev.hex() for o in _originals(store))


def _originals(store: Store) -> Iterator[dict[str, str]]:
    for record in store.records(("receipt-entered",)):
        yield record.fields["original"]


def _stated_loss(store: Store, digest: bytes) -> int | None:
    """The record in which the sponsor stated that this one is lost."""
    for record in store.records(("restored",)):
        if (lost := record.fields["lost"]) is not None and lost["hash"] == digest.hex():
            return record.seq
    return None


def _differs(message: str, expected: object, found: object) -> EvidenceError:
    return EvidenceError("evidence", message, details={"expected": expected, "found": found})

"""The rules of the way back after a loss: what is entered late, and what is never given again (docs/spec.md §10.11).

A log that was put back in time may lack allocations that were told. What receipts prove is entered; every position
that may have been used is reserved, for its participant where that is known, for nobody where it is not.
"""

from __future__ import annotations

from typing import Any

from allocator import sealing
from allocator.canonical import CanonicalError
from allocator.case import Case, evidence
from allocator.errors import EvidenceError, Refused
from allocator.history import History
from allocator.log import ALLOCATION_KINDS, Record, RecordError, parse_record
from allocator.person import Role, check_signature
from allocator.study import stratum_label

RECEIPT_KINDS = ("allocated", "late")  # what a receipt can be of
PROVED = ("participant", "stratum", "position", "number", "sealing", "arm", "salt")
_Place = tuple[str, int]  # stratum label, position


def original_record(fields: dict[str, Any]) -> Record:
    """The record a receipt holds, parsed; EvidenceError when it is no allocation."""
    try:
        record = parse_record(bytes.fromhex(fields["prev"]), fields["body"].encode("utf-8"))
    except (CanonicalError, RecordError, ValueError) as error:
        raise EvidenceError(
            "receipt", f"the receipt holds no record: {error}", "Is it the file of a receipt?"
        ) from error
    if record.kind not in RECEIPT_KINDS:
        raise EvidenceError(
            "receipt", f"the receipt is of a record of kind {record.kind}", "Give one of an allocation."
        )
    return record


def proved_fields(record: Record) -> dict[str, Any]:
    """What a ``receipt-entered`` record takes over from the receipt's own."""
    return {name: record.fields[name] for name in PROVED} | {
        "original": {"prev": record.prev.hex(), "body": record.body.decode("utf-8")}
    }


def implied(history: History, hours: int) -> dict[_Place, str | None]:
    """What a recovery must reserve, whoever says otherwise.

    A participant whose confirmation held when the log broke off may have been told the arm of the position bound to
    them: it stays theirs. Below a position that a receipt proves, every other one was bound or used by then.

    Args:
        history: up to the end of the log, which is being recovered.
        hours: how long a confirmation holds.
    """
    loss = _first_loss(history)
    last = history.store.record(loss.seq - 1)
    if last is None:
        return {}
    places: dict[_Place, str | None] = {}
    for record in history.store.records(("confirmed",)):
        participant, place = record.fields["participant"], _place(record)
        attempt = history.latest_attempt(participant)
        held = attempt is not None and attempt.seq == record.seq and not attempt.withdrawn and not attempt.void
        fresh = held and attempt is not None and attempt.holds(last.time, hours)
        if fresh and history.allocation(participant) is None and not history.is_allocated(*place):
            places[place] = participant
    for record in history.store.records(("receipt-entered",), since=loss.seq):
        label, top = _place(record)
        for position in range(top):
            if not history.is_allocated(label, position) and (label, position) not in history.reserved:
                places.setdefault((label, position), None)
    return places


def _loss(history: History) -> Record:
    record = history.store.newest(("restored",))
    if record is None:
        raise evidence("restored", "nothing was restored")
    return record


def _first_loss(history: History) -> Record:
    """Where this recovery began: a log may be put back again before it has been recovered."""
    first: Record | None = None
    for record in history.store.records(("restored", "recovered")):
        if record.kind == "recovered":
            first = None
        elif first is None and record.fields["state"] == "recovering":
            first = record
    return first or _loss(history)


def _place(record: Record) -> _Place:
    return stratum_label(record.fields["stratum"]), int(record.fields["position"])


def lost_allocations(history: History) -> int | None:
    """How many lost allocations nothing explains, at most; None when it is not known how many records are missing.

    An allocation on an entry that no surviving confirmation binds took two records. Each receipt explains its own
    record, and its confirmation where that was lost too.
    """
    first = _first_loss(history)
    losses = list(history.store.records(("restored",), since=first.seq))
    if any(record.fields["missing"] == "unknown" for record in losses):
        return None
    beyond = [(record.seq, record.fields["lost"]["seq"]) for record in losses if record.fields["lost"] is not None]
    if any(lost < seq for seq, lost in beyond):
        return None  # the lost record stood in another log that parted from this one, nobody knows where
    missing = max((lost - seq + 1 for seq, lost in beyond), default=0)
    for record in history.store.records(("receipt-entered",), since=first.seq):
        original = original_record(record.fields["original"])
        missing -= 2 if original.fields["confirmation"] >= first.seq else 1
    return max(0, missing) // 2


def count_allocations(history: History) -> int:
    """How many allocations the log holds, counted."""
    return sum(1 for _ in history.store.records(ALLOCATION_KINDS))


def check_restored(case: Case) -> None:
    """What is missing is stated: a record known to be lost, or that nobody knows."""
    fields, history = case.record.fields, case.history
    if (fields["missing"] == "known") != (fields["lost"] is not None):
        raise evidence("restored", "a record known to be lost is named if, and only if, one is known")
    before = state_before(history)
    if fields["before"] != before:
        raise EvidenceError(
            "restored", "the state to return to is another", details={"expected": before, "found": fields["before"]}
        )
    stays = fields["missing"] == "none" and history.state != "recovering"
    expected = before if stays else "recovering"
    if fields["state"] != expected:
        raise EvidenceError(
            "restored", "it leads to another state", details={"expected": expected, "found": fields["state"]}
        )


def state_before(history: History) -> str:
    """The state to return to after a recovery: today's, or the one before the loss that is being recovered from."""
    return history.state if history.state != "recovering" else str(_loss(history).fields["before"])


def check_receipt(case: Case, stratum: sealing.SealedStratum) -> None:
    """A receipt proves itself: signed by a pharmacist of this study, opening its commitment, and not in the log yet."""
    fields, history = case.record.fields, case.history
    original = original_record(fields["original"])
    if any(fields[name] != original.fields[name] for name in PROVED):
        raise evidence("receipt", "the record entered says something else than its receipt")
    person = history.person(original.fields["person"])
    if person is None or Role.PHARMACIST not in person.roles or not person.enrolled:
        raise Refused(
            "receipt-signer",
            f"{original.fields['person']}, who signed the receipt, is no pharmacist in this log",
            "The statistician reserves its position instead: allocator recover --position STRATUM=N@PARTICIPANT.",
        )
    check_signature(person.sign_key, original.fields["signature"], original.prev, original.unsigned_body())
    history.check_unallocated(fields["participant"])
    if history.is_allocated(stratum.label, fields["position"]):
        raise Refused("position-used", f"the position of the receipt of {fields['participant']} is another's already")
    if any(record.fields["number"] == fields["number"] for record in history.store.records(ALLOCATION_KINDS)):
        raise Refused("number-used", f"randomization number {fields['number']} is another participant's already")
    sealing.check_opened(
        stratum,
        fields["position"],
        fields["arm"],
        bytes.fromhex(fields["salt"]),
        case.fingerprint,
        bytes.fromhex(fields["sealing"]),
    )


def check_recovered(case: Case) -> None:
    """Everything that may have been used is reserved, no number is given again, and the state is the one before."""
    fields, history = case.record.fields, case.history
    loss = _loss(history)
    if (fields["restored"], fields["state"]) != (loss.seq, loss.fields["before"]):
        raise evidence("recovered", f"it is not of the loss in record {loss.seq}, or leads to another state")
    given: dict[_Place, str | None] = {}
    for item in fields["reserved"]:
        place, participant = (stratum_label(item["stratum"]), item["position"]), item["participant"]
        if item["stratum"] not in case.study.strata or place in given:
            raise evidence("recovered", f"position {place[1]} of stratum {place[0]} is unknown or named twice")
        if history.is_allocated(*place):
            raise Refused("position-used", f"position {place[1]} of stratum {place[0]} is allocated already")
        if participant is not None and not case.study.is_participant(participant):
            raise evidence("participant", "a participant id is not of the study's pattern")
        given[place] = participant
    for place, participant in implied(history, case.study.confirmation_hours).items():
        if place not in given or (participant is not None and given[place] != participant):
            whose = participant or "nobody"
            raise evidence("recovered", f"position {place[1]} of stratum {place[0]} is not reserved for {whose}")
    if fields["allocated"] != count_allocations(history):
        raise evidence("recovered", f"the log holds {count_allocations(history)} allocations")
    if fields["number"] < history.last_number:
        raise evidence("recovered", f"randomization number {history.last_number} was given already")

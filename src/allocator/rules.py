"""What each record requires of the records before it: one set of rules for writing and for verifying.

The service holds a record to these rules before it appends it; the verifier holds every stored record to the same
ones, replaying the log. Each rule raises; `RULES` numbers them as docs/spec.md §11 does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from allocator import allocation, sealing
from allocator.answers_form import parse_stored_form
from allocator.canonical import CanonicalError, prefixed, tag
from allocator.eligibility import is_eligible
from allocator.errors import AllocatorError, EvidenceError, Refused
from allocator.history import History
from allocator.log import GENESIS, KINDS, Detail, Record, detail_commitment
from allocator.permuted_block import ALGORITHM
from allocator.person import Role, acting_role, check_signature, roles_of
from allocator.study import Study, stratum_label

SignatureCheck = Callable[[bytes, str, bytes, bytes], None]
AnswersCheck = Callable[[Study, str, datetime, bool], None]


def check_answers(study: Study, answers: str, moment: datetime, qualify: bool) -> None:
    """The answers of a form, judged again as of its time, qualify or not as its record says (E04).

    Raises:
        EvidenceError: they do not.
        InputError: they are no form at all.
    """
    if is_eligible(study, parse_stored_form(answers.encode("utf-8")), moment) == qualify:
        return
    if qualify:
        raise EvidenceError("eligibility", "a confirmation on answers that do not qualify")
    raise EvidenceError("eligibility", "a screen failure on answers that qualify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One record with all that its rules look at; `history` ends just before it.

    `sealed` is the sealed schedule the log's newest ``generated`` record names; None when there is none, or when it
    could not be read (the verifier reports that on its own).
    """

    study: Study
    history: History
    sealed: sealing.SealedSchedule | None
    record: Record
    details: Mapping[str, Detail]
    check_signature: SignatureCheck = check_signature
    check_answers: AnswersCheck = check_answers

    @property
    def fingerprint(self) -> bytes:
        """Of the study as opened: record 0 is held to the study file, every later record to record 0."""
        opening = self.history.opening
        return bytes.fromhex(opening.fields["fingerprint"]) if opening else self.study.fingerprint


def check_record(case: Case) -> None:
    """Hold one record to every rule; raises the first AllocatorError."""
    for _, rule in RULES:
        rule(case)


def code_digest(study_fingerprint: bytes, person: str, code: str) -> str:
    """SHA-256(tag("code") ‖ study fingerprint ‖ prefixed person ‖ prefixed code), hex: an invitation's commitment."""
    data = tag("code") + study_fingerprint + prefixed(person.encode("ascii")) + prefixed(code.encode("utf-8"))
    return hashlib.sha256(data).hexdigest()


def _evidence(code: str, message: str) -> EvidenceError:
    return EvidenceError(code, message)


def _sequence(case: Case) -> None:
    last = case.history.store.last()
    expected = 0 if last is None else last.seq + 1
    if case.record.seq != expected:
        raise EvidenceError(
            "sequence",
            f"this record says it is record {case.record.seq}, the next one is record {expected}",
            details={"expected": expected, "found": case.record.seq},
        )
    if (case.record.kind == "study-opened") != (expected == 0):
        raise EvidenceError("sequence", "study-opened stands at record 0 and nowhere else")


def _links(case: Case) -> None:
    last = case.history.store.last()
    expected = GENESIS if last is None else last.hash
    if case.record.prev != expected:
        raise EvidenceError(
            "link",
            "prev is not the hash of the record before",
            details={"expected": expected.hex(), "found": case.record.prev.hex()},
        )


def _study(case: Case) -> None:
    fields, opening = case.record.fields, case.history.opening
    if opening is None:
        if fields["study"] != case.study.id:
            raise _evidence("study", f"the log is of study {fields['study']}, the study file of {case.study.id}")
    elif fields["mode"] != opening.fields["mode"]:
        raise _evidence("mode", f"mode is {fields['mode']}, the study was opened in mode {opening.fields['mode']}")
    if fields.get("fingerprint", case.fingerprint.hex()) != case.fingerprint.hex():
        said = "record 0's" if opening else "that of the study file: study.toml was changed, or is another one"
        raise EvidenceError(
            "fingerprint",
            f"the fingerprint is not {said}",
            details={"expected": case.fingerprint.hex(), "found": fields["fingerprint"]},
        )


def _time_order(case: Case) -> None:
    last = case.history.store.last()
    if last is not None and case.record.time < last.time:
        found, before = case.record.fields["time"], last.fields["time"]
        raise EvidenceError("time-order", f"time {found} is before the previous record's {before}")


def _authority(case: Case) -> None:
    """The person is enrolled, active and of the role at this time (21 CFR 11.10(g))."""
    kind, fields = case.record.kind, case.record.fields
    if not KINDS[kind].meaning:
        person = None if fields["person"] is None else case.history.person(fields["person"])
        if fields["person"] is not None and person is None:
            raise _evidence("person", f"person {fields['person']} is not in this study")
        return
    if kind == "study-opened":
        if fields["role"] != Role.SPONSOR:
            raise _evidence("role", "a study is opened by its sponsor")
        return
    person = case.history.person(fields["person"]) if fields["person"] else None
    if person is None or not person.active or (not person.enrolled and kind != "person-enrolled"):
        raise _evidence("person", f"person {fields['person']} is not enrolled and active at this record")
    role = acting_role(person, kind)
    if fields["role"] != role:
        raise _evidence("role", f"role is {fields['role']}; {person.id} acts as {role}")


def _signature(case: Case) -> None:
    fields = case.record.fields
    if not KINDS[case.record.kind].meaning:
        return
    if case.record.kind in ("study-opened", "person-enrolled"):
        key = bytes.fromhex(fields["sign_key"])
    else:
        person = case.history.person(fields["person"])
        key = person.sign_key if person else b""
    case.check_signature(key, fields["signature"], case.record.prev, case.record.unsigned_body())


def _details(case: Case) -> None:
    """Every private detail the body names is there and is the value committed to; no other is there."""
    committed = case.record.fields.get("details", {})
    if committed.keys() != case.details.keys():
        named, found = sorted(committed), sorted(case.details)
        raise EvidenceError("details", f"private details named {named}, found {found}")
    for name, detail in case.details.items():
        if len(detail.salt) != 32:
            raise _evidence("details", f"the salt of private detail {name} has not 32 bytes")
        digest = detail_commitment(detail.salt, case.record.seq, name, detail.value)
        if not hmac.compare_digest(digest, committed[name]):
            raise _evidence("details", f"private detail {name} is not the value committed to")


def _state(case: Case) -> None:
    allocation.check_state(case.record.kind, case.history.state)


def _own_rule(case: Case) -> None:
    rule = _OF_KIND.get(case.record.kind)
    if rule is not None:
        rule(case)


def _person_added(case: Case) -> None:
    fields = case.record.fields
    if case.history.person(fields["added"]) is not None:
        raise Refused(
            "person-exists",
            f"{fields['added']} is already in this study; an id is never reused",
            "Give the person another id.",
        )
    roles_of(fields["roles"])


def _person_enrolled(case: Case) -> None:
    fields, person = case.record.fields, case.history.person(case.record.fields["person"])
    if person is None or person.enrolled:
        raise Refused("enrolled-already", f"{fields['person']} is enrolled already", "Sign with your passphrase.")
    if code_digest(case.fingerprint, person.id, fields["code"]) != person.code_digest:
        raise Refused("wrong-code", "this is not the one-time code of this person", "Ask the sponsor for the code.")
    if any(other.sign_key.hex() == fields["sign_key"] for other in case.history.people.values()):
        raise Refused("key-reused", "this key belongs to another person", "Enrol with keys of your own.")


def _person_deactivated(case: Case) -> None:
    person = case.history.person(case.record.fields["deactivated"])
    if person is None or not person.active:
        raise Refused("no-such-person", f"{case.record.fields['deactivated']} is not an active person of this study")
    others = [p for p in case.history.people.values() if Role.SPONSOR in p.roles and p.active and p.enrolled]
    if [p.id for p in others] == [person.id]:
        raise Refused("last-sponsor", "the last sponsor cannot be deactivated", "Add and enrol another sponsor first.")


def _decided(case: Case) -> None:
    opening = case.history.opening
    findings = [f["id"] for f in opening.fields["findings"]] if opening else []
    if case.record.fields["finding"] not in findings:
        raise Refused(
            "no-such-finding",
            f"{case.record.fields['finding']} is no finding recorded when the study was opened",
            f"Recorded: {', '.join(findings) or 'none'}.",
        )


def _generated(case: Case) -> None:
    fields, history = case.record.fields, case.history
    if fields["algorithm"] != ALGORITHM:
        raise _evidence("algorithm", f"algorithm {fields['algorithm']!r} is unknown to this version")
    if history.sealing is not None and "reason" not in fields["details"]:
        raise Refused("reason-missing", "a list was generated before; another one needs a reason", "Add --reason TEXT.")
    if fields["seed_origin"] == "given" and fields["mode"] != "test":
        raise Refused("seed-given", "a given seed is for mode test only", "Leave --seed away: the system draws it.")
    holders = [history.person(holder) for holder in fields["holders"]]
    if len(holders) != 2 or len(fields["seed_commitments"]) != 2 or fields["holders"][0] != fields["person"]:
        raise _evidence("holders", "the seed has two shares: the generating statistician's and a custodian's")
    custodian = holders[1]
    if custodian is None or not custodian.enrolled or not custodian.active or Role.CUSTODIAN not in custodian.roles:
        raise Refused("no-custodian", "no enrolled custodian can hold the second share of the seed")


def _granted(case: Case) -> None:
    fields, newest = case.record.fields, case.history.sealing
    if newest is None or newest.fields["sealing"] != fields["sealing"]:
        raise _evidence("sealing", "the grant is not of the newest sealing")
    grantee = case.history.person(fields["grantee"])
    if grantee is None or not grantee.enrolled or not grantee.active or Role(fields["half"]) not in grantee.roles:
        raise Refused(
            "cannot-grant",
            f"{fields['grantee']} is no enrolled, active {fields['half']} of this study",
            "Only pharmacists and investigators are granted a half, after they have enrolled.",
        )


def _activated(case: Case) -> None:
    history, fields = case.history, case.record.fields
    if blockers := history.undecided_blockers():
        raise Refused(
            "undecided",
            f"{len(blockers)} blocking finding{'s' if len(blockers) > 1 else ''} not decided: {', '.join(blockers)}",
            "The sponsor decides each: allocator decide FINDING --reading TEXT --reason TEXT.",
            {"findings": blockers},
        )
    newest = history.sealing
    if newest is None:
        raise Refused("not-sealed", "no list is sealed", "The statistician runs `allocator generate` first.")
    if (fields["sealing"], fields["root"]) != (newest.fields["sealing"], newest.fields["root"]):
        raise _evidence("sealing", "the activation is not of the newest sealing")
    for role in (Role.PHARMACIST, Role.INVESTIGATOR):
        if not history.granted(role, fields["sealing"]):
            raise Refused(
                "not-granted",
                f"no {role} has been granted their half of this sealing",
                "The statistician runs `allocator grant PERSON`.",
            )


def _attempt(case: Case) -> None:
    """Participant, stratum, and how this attempt follows the one before it."""
    fields, history = case.record.fields, case.history
    participant = _participant(case)
    if fields["stratum"] not in case.study.strata:
        raise Refused("unknown-stratum", f"no stratum {fields['stratum']} in this study")
    previous = history.store.newest(("allocated",), participant=participant)
    allocation.check_unallocated(participant, previous.seq if previous else None)
    allocation.check_attempt(
        participant=participant,
        previous=history.latest_attempt(participant),
        attempt_type=fields["attempt"]["type"],
        of=fields["attempt"]["of"],
        reason="reason" in fields["details"],
    )


def _confirmed(case: Case) -> None:
    """The answers are judged again, and the lowest free position is the one bound."""
    _attempt(case)
    case.check_answers(case.study, _answers(case), case.record.time, True)
    fields = case.record.fields
    stratum = _sealed_stratum(case)
    expected = case.history.lowest_free(
        stratum.label,
        length=len(stratum.entries),
        now=case.record.time,
        hours=case.study.confirmation_hours,
        participant=fields["participant"],
    )
    if fields["position"] != expected:
        raise EvidenceError(
            "binding",
            "the position bound is not the lowest free one of its stratum",
            details={"expected": expected, "found": fields["position"]},
        )


def _screen_failed(case: Case) -> None:
    _attempt(case)
    case.check_answers(case.study, _answers(case), case.record.time, False)


def _answers(case: Case) -> str:
    if "answers" not in case.details:
        raise _evidence("details", "the answers are not there to be judged again")
    return case.details["answers"].value


def _withdrawn(case: Case) -> None:
    participant = _participant(case)
    previous = case.history.allocation(participant)
    allocation.check_unallocated(participant, previous.seq if previous else None)
    attempt = allocation.check_withdrawal(participant, case.history.latest_attempt(participant))
    if case.record.fields["confirmation"] != attempt.seq:
        raise _evidence("confirmation", f"the confirmation to withdraw is record {attempt.seq}")


def _allocated(case: Case) -> None:
    """Once a participant, in its bound position, after a confirmation that holds, as committed to."""
    fields, history = case.record.fields, case.history
    participant = _participant(case)
    previous = history.allocation(participant)
    allocation.check_unallocated(participant, previous.seq if previous else None)
    confirmation = allocation.check_request(
        participant=participant,
        requester=fields["person"],
        attempt=history.latest_attempt(participant),
        allocated=history.allocated,
        enrollment=case.study.enrollment,
        hours=case.study.confirmation_hours,
        now=case.record.time,
    )
    bound = history.store.record(confirmation.seq)
    if bound is None or fields["confirmation"] != bound.seq:
        raise _evidence("confirmation", f"the confirmation that holds is record {confirmation.seq}")
    for name in ("stratum", "position", "sealing"):
        if fields[name] != bound.fields[name]:
            raise EvidenceError(
                "binding",
                f"{name} is not the one bound by the confirmation",
                details={"expected": bound.fields[name], "found": fields[name]},
            )
    if fields["number"] != history.allocated + 1:
        raise _evidence("number", f"randomization number {fields['number']}, the next one is {history.allocated + 1}")
    if fields["arm"] >= len(case.study.arms):
        raise _evidence("arm", "the arm index is of no arm of the study")
    _check_opened(case)


def _check_opened(case: Case) -> None:
    """The opened entry is the one committed to before the first participant (C06)."""
    fields, stratum = case.record.fields, _sealed_stratum(case)
    if fields["position"] >= len(stratum.entries):
        raise _evidence("position", "the position is of no sealed entry")
    committed = stratum.commitment(fields["position"])
    opened = sealing.commitment(
        bytes.fromhex(fields["salt"]),
        case.fingerprint,
        bytes.fromhex(fields["sealing"]),
        stratum.label,
        fields["position"],
        fields["arm"],
    )
    if not hmac.compare_digest(opened, committed):
        raise EvidenceError("commitment", "the opened entry is not the one committed to")


def _sealed_stratum(case: Case) -> sealing.SealedStratum:
    fields, newest = case.record.fields, case.history.sealing
    if case.sealed is None or newest is None:
        raise _evidence("sealed-file", "there is no sealed schedule to hold this record to")
    if fields["sealing"] != newest.fields["sealing"] or case.sealed.sealing.hex() != fields["sealing"]:
        raise _evidence("sealing", "the record is not of the sealing that was activated")
    stratum = case.sealed.stratum(stratum_label(fields["stratum"]))
    if stratum is None:
        raise _evidence("sealed-file", "the stratum is not in the sealed schedule")
    return stratum


def _about_allocation(case: Case) -> None:
    """The record is about the participant's own allocation."""
    participant = _participant(case)
    record = case.history.allocation(participant)
    if record is None:
        raise Refused("not-allocated", f"{participant} has no allocation", "Look with `allocator show`.")
    if case.record.fields["allocation"] != record.seq:
        raise _evidence("allocation", f"the allocation of {participant} is record {record.seq}")


def _corrected(case: Case) -> None:
    _about_allocation(case)
    fields = case.record.fields
    if fields["what"] != "in-error":
        return
    for record in case.history.store.records(("corrected",), participant=fields["participant"]):
        if record.fields["what"] == "in-error":  # X04: irreversible, so a second mark says nothing
            raise Refused("in-error-already", f"{fields['participant']} is already marked as randomized in error")


def _refused_rule(case: Case) -> None:
    if case.record.fields["participant"] is not None:
        _participant(case)


def _participant(case: Case) -> str:
    participant = case.record.fields["participant"]
    if not isinstance(participant, str) or not case.study.is_participant(participant):
        raise _evidence("participant", "the participant id is not of the study's pattern")
    return participant


_OF_KIND: dict[str, Callable[[Case], None]] = {
    "person-added": _person_added,
    "person-enrolled": _person_enrolled,
    "person-deactivated": _person_deactivated,
    "decided": _decided,
    "generated": _generated,
    "granted": _granted,
    "activated": _activated,
    "confirmed": _confirmed,
    "screen-failed": _screen_failed,
    "confirmation-withdrawn": _withdrawn,
    "allocated": _allocated,
    "shown-again": _about_allocation,
    "looked-up": _about_allocation,
    "unblinded": _about_allocation,
    "corrected": _corrected,
    "refused": _refused_rule,
}

# Numbered as in docs/spec.md §11.2.
RULES: tuple[tuple[str, Callable[[Case], None]], ...] = (
    ("11 sequence", _sequence),
    ("12 link", _links),
    ("13 study", _study),
    ("14 time order", _time_order),
    ("15 authority", _authority),
    ("16 signature", _signature),
    ("17 private details", _details),
    ("18 state", _state),
    ("19 rule of the kind", _own_rule),
)

__all__ = ["RULES", "AllocatorError", "CanonicalError", "Case", "check_record", "code_digest"]

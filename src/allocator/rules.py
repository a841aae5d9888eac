"""The rules that every record keeps, given the records before it: one set for writing and for verifying.

The service holds a record to these rules before it appends it; the verifier holds every stored record to the same
ones, replaying the log. Each rule raises; `RULES` numbers them as docs/spec.md §11 does.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from allocator import allocation
from allocator.case import Case, evidence
from allocator.errors import EvidenceError
from allocator.kind_rules import RULE_OF_KIND
from allocator.log import GENESIS, KINDS, detail_commitment
from allocator.person import Role, acting_role


def check_record(case: Case) -> None:
    """Hold one record to every rule; raises the first AllocatorError."""
    for _, rule in RULES:
        rule(case)


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
            raise evidence("study", f"the log is of study {fields['study']}, the study file of {case.study.id}")
    elif fields["mode"] != opening.fields["mode"]:
        raise evidence("mode", f"mode is {fields['mode']}, the study was opened in mode {opening.fields['mode']}")
    if fields.get("fingerprint", case.fingerprint.hex()) != case.fingerprint.hex():
        said = "record 0's" if opening else "that of the study file: study.toml was changed, or is another one"
        raise EvidenceError(
            "fingerprint",
            f"the fingerprint is not {said}",
            details={"expected": case.fingerprint.hex(), "found": fields["fingerprint"]},
        )


def _time_order(case: Case) -> None:
    last = case.history.store.last()
    if case.record.kind == "clock-set":
        return  # times may go down only here
    if last is not None and case.record.time < last.time:
        found, before = case.record.fields["time"], last.fields["time"]
        raise EvidenceError("time-order", f"time {found} is before the previous record's {before}")


def _authority(case: Case) -> None:
    """The person is enrolled, active and of the role at this time (21 CFR 11.10(g))."""
    kind, fields = case.record.kind, case.record.fields
    if not KINDS[kind].meaning:
        named = fields.get("person")
        if named is not None and case.history.person(named) is None:
            raise evidence("person", f"person {named} is not in this study")
        return
    if kind == "study-opened":
        if fields["role"] != Role.SPONSOR:
            raise evidence("role", "a study is opened by its sponsor")
        return
    person = case.history.person(fields["person"]) if fields["person"] else None
    if person is None or not person.active or (not person.enrolled and kind != "person-enrolled"):
        raise evidence("person", f"person {fields['person']} is not enrolled and active at this record")
    role = acting_role(person, kind)
    if fields["role"] != role:
        raise evidence("role", f"role is {fields['role']}; {person.id} acts as {role}")


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
    if case.withheld:
        return
    committed = case.record.fields.get("details", {})
    if committed.keys() != case.details.keys():
        named, found = sorted(committed), sorted(case.details)
        raise EvidenceError("details", f"private details named {named}, found {found}")
    for name, detail in case.details.items():
        if len(detail.salt) != 32:
            raise evidence("details", f"the salt of private detail {name} has not 32 bytes")
        digest = detail_commitment(detail.salt, case.record.seq, name, detail.value)
        if not hmac.compare_digest(digest, committed[name]):
            raise evidence("details", f"private detail {name} is not the value committed to")


def _state(case: Case) -> None:
    allocation.check_state(case.record.kind, case.history.state)


def _own_rule(case: Case) -> None:
    rule = RULE_OF_KIND.get(case.record.kind)
    if rule is not None:
        rule(case)


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

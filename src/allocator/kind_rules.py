"""What a record of each kind requires of the records before it (docs/spec.md §10)."""

from __future__ import annotations

from collections.abc import Callable

from allocator import allocation, recovery, relocation, sealing
from allocator.canonical import parse_time
from allocator.case import Case, code_digest, evidence
from allocator.errors import EvidenceError, Refused
from allocator.imported_list import ALGORITHM as IMPORTED
from allocator.log import Record
from allocator.methods import ALGORITHMS
from allocator.person import Role, roles_of
from allocator.study import stratum_label

DRAWN = frozenset(ALGORITHMS.values()) - {IMPORTED}


def _person_added(case: Case) -> None:
    fields = case.record.fields
    if case.history.person(fields["added"]) is not None:
        raise Refused(
            "person-exists",
            f"{fields['added']} is already in this study; an id is never reused",
            "Give the person another id.",
        )
    # ids that differ in case or in a dot, hyphen or underscore are one name to the eye, and one file to some disks
    if alike := [other for other in case.history.people if _folded(other) == _folded(fields["added"])]:
        raise Refused("person-alike", f"{fields['added']} looks like {alike[0]}", "Give an id that nobody can mistake.")
    roles_of(fields["roles"])


def _folded(person_id: str) -> str:
    return "".join(character for character in person_id.casefold() if character not in "._-")


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
    imported = fields["kind"] == "imported"
    if fields["algorithm"] not in ((IMPORTED,) if imported else DRAWN):
        raise evidence("algorithm", f"algorithm {fields['algorithm']!r} is unknown to this version")
    if history.sealing is not None and "reason" not in fields["details"]:
        raise Refused("reason-missing", "a list was generated before; another one needs a reason", "Add --reason TEXT.")
    if fields["seed_origin"] == "given" and fields["mode"] != "test":
        raise Refused("seed-given", "a given seed is for mode test only", "Leave --seed away: the system draws it.")
    _holders(case)


def _holders(case: Case) -> None:
    """The seed's two shares: the signing statistician's, and a custodian's."""
    fields, history = case.record.fields, case.history
    holders = [history.person(holder) for holder in fields["holders"]]
    if len(holders) != 2 or len(fields["seed_commitments"]) != 2 or fields["holders"][0] != fields["person"]:
        raise evidence("holders", "the seed has two shares: the generating statistician's and a custodian's")
    custodian = holders[1]
    if custodian is None or not custodian.enrolled or not custodian.active or Role.CUSTODIAN not in custodian.roles:
        raise Refused("no-custodian", "no enrolled custodian can hold the second share of the seed")


def _granted(case: Case) -> None:
    fields, newest = case.record.fields, case.history.sealing
    if newest is None or newest.fields["sealing"] != fields["sealing"]:
        raise evidence("sealing", "the grant is not of the newest sealing")
    passing_on = fields["role"] != Role.STATISTICIAN
    if passing_on and (fields["half"] != fields["role"] or case.history.grant_of(fields["person"]) is None):
        raise Refused(
            "not-your-half",
            f"{fields['person']} can pass on only the half of the key that {fields['person']} was granted",
            "The statistician grants any half: allocator grant PERSON.",
        )
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
        raise evidence("sealing", "the activation is not of the newest sealing")
    for role in (Role.PHARMACIST, Role.INVESTIGATOR):
        if not history.granted(role):
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
    history.check_unallocated(participant)
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
    _judge_again(case, qualify=True)
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
    _judge_again(case, qualify=False)


def _judge_again(case: Case, *, qualify: bool) -> None:
    if case.withheld:
        return
    if "answers" not in case.details:
        raise evidence("details", "the answers are not there to be judged again")
    case.check_answers(case.study, case.details["answers"].value, case.record.time, qualify)


def _withdrawn(case: Case) -> None:
    participant = _participant(case)
    case.history.check_unallocated(participant)
    attempt = allocation.check_withdrawal(participant, case.history.latest_attempt(participant))
    if case.record.fields["confirmation"] != attempt.seq:
        raise evidence("confirmation", f"the confirmation to withdraw is record {attempt.seq}")


def _allocated(case: Case) -> None:
    """Once a participant, in its bound position, after a confirmation that holds, as committed to."""
    fields, history = case.record.fields, case.history
    participant = _participant(case)
    history.check_unallocated(participant)
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
        raise evidence("confirmation", f"the confirmation that holds is record {confirmation.seq}")
    for name in ("stratum", "position", "sealing"):
        if fields[name] != bound.fields[name]:
            raise EvidenceError(
                "binding",
                f"{name} is not the one bound by the confirmation",
                details={"expected": bound.fields[name], "found": fields[name]},
            )
    if fields["number"] != history.last_number + 1:
        raise evidence("number", f"randomization number {fields['number']}, the next one is {history.last_number + 1}")
    if fields["arm"] >= len(case.study.arms):
        raise evidence("arm", "the arm index is of no arm of the study")
    sealing.check_opened(
        _sealed_stratum(case),
        fields["position"],
        fields["arm"],
        bytes.fromhex(fields["salt"]),
        case.fingerprint,
        bytes.fromhex(fields["sealing"]),
    )


def _late(case: Case) -> None:
    """As an allocation; what was done on paper was done after the activation and before it was entered (A11)."""
    _allocated(case)
    activation = case.history.store.newest(("activated",))
    event = parse_time(case.record.fields["event_time"])
    if activation is None or event < activation.time or event > case.record.time:
        raise Refused(
            "event-time",
            "the time of the allocation on paper is before the activation, or after now",
            "Give the time on the paper, with its zone: --time 2026-11-20T03:10:00+08:00.",
        )
    if (told := case.record.fields["told"]) is not None and told >= len(case.study.arms):
        raise evidence("arm", "the arm told on paper is no arm of the study")


def _receipt_entered(case: Case) -> None:
    _participant(case)
    recovery.check_receipt(case, _sealed_stratum(case))


def _resealed(case: Case) -> None:
    """The list of the sealing again: whatever names it is unchanged, only keys and envelopes are new."""
    fields, newest = case.record.fields, case.history.sealing
    if newest is None:
        raise Refused("not-sealed", "no list was sealed before", "The statistician runs `allocator generate` first.")
    for name in ("sealing", "algorithm", "root", "design_commitment", "seed_commitments", "seed_origin"):
        if fields[name] != newest.fields[name]:
            raise EvidenceError(
                "resealed",
                f"the {name} is not that of the list sealed before",
                "Nothing was sealed. Are these the shares of this list?",
                {"expected": newest.fields[name], "found": fields[name]},
            )
    _holders(case)


def _share_of(case: Case) -> None:
    _of_sealing(case)


def _opened(case: Case) -> None:
    """The second of two people: each of the holders gave their own share (U05: after the close, two people)."""
    newest = _of_sealing(case)
    fields = case.record.fields
    if fields["root"] != newest.fields["root"]:
        raise evidence("root", "the root is not that of the sealing")
    given = {r.fields["person"] for r in case.history.store.records(("share-given",), since=newest.seq)}
    if missing := sorted(set(newest.fields["holders"]) - given - {fields["person"]}):
        raise Refused("share-missing", f"{missing[0]} has not given their share", "They run `allocator open` first.")


def _reviewed(case: Case) -> None:
    fields = case.record.fields
    if not parse_time(fields["since"]) <= parse_time(fields["until"]) <= case.record.time:
        raise Refused(
            "period",
            "the period ends before it begins, or after now",
            "Give --from and --to; --to is a moment that has passed, and a date alone is its midnight.",
        )


def _of_sealing(case: Case) -> Record:
    """The record is of the sealing, by one of its holders."""
    newest, fields = case.history.sealing, case.record.fields
    if newest is None or fields["sealing"] != newest.fields["sealing"]:
        raise evidence("sealing", "the record is not of the newest sealing")
    if fields["person"] not in newest.fields["holders"]:
        raise Refused("no-share", f"{fields['person']} holds no share of the seed of this list")
    return newest


def _sealed_stratum(case: Case) -> sealing.SealedStratum:
    fields, newest = case.record.fields, case.history.sealing
    if case.sealed is None or newest is None:
        raise evidence("sealed-file", "there is no sealed schedule to hold this record to")
    if fields["sealing"] != newest.fields["sealing"] or case.sealed.sealing.hex() != fields["sealing"]:
        raise evidence("sealing", "the record is not of the sealing that was activated")
    stratum = case.sealed.stratum(stratum_label(fields["stratum"]))
    if stratum is None:
        raise evidence("sealed-file", "the stratum is not in the sealed schedule")
    return stratum


def _about_allocation(case: Case) -> None:
    """The record is about the participant's own allocation."""
    participant = _participant(case)
    record = case.history.allocation(participant)
    if record is None:
        raise Refused("not-allocated", f"{participant} has no allocation", "Look with `allocator show`.")
    if case.record.fields["allocation"] != record.seq:
        raise evidence("allocation", f"the allocation of {participant} is record {record.seq}")


def _corrected(case: Case) -> None:
    _about_allocation(case)
    fields = case.record.fields
    if fields["what"] != "in-error":
        return
    for record in case.history.store.records(("corrected",), participant=fields["participant"]):
        if record.fields["what"] == "in-error":  # X04: irreversible, so a second mark says nothing
            raise Refused("in-error-already", f"{fields['participant']} is already marked as randomized in error")


def _reassignment(case: Case) -> None:
    """The first of two signatures: whose an allocation under a wrong id is, by somebody who noticed (X06)."""
    _about_allocation(case)
    fields, to = case.record.fields, case.record.fields["to"]
    if not case.study.is_participant(to) or to == fields["participant"]:
        raise evidence("participant", "the right id is of another pattern, or the same")
    case.history.check_unallocated(to)


def _check_target(case: Case, to: str) -> None:
    history = case.history
    history.check_unallocated(to)
    attempt = history.latest_attempt(to)
    if attempt is None or not attempt.holds(case.record.time, case.study.confirmation_hours):
        raise Refused(
            "not-confirmed",
            f"the eligibility of {to} is not confirmed: an allocation is moved only to a participant who may have one",
            "The investigator confirms it under the right id first.",
        )


def _reassigned(case: Case) -> None:
    """The second of two signatures, by another person, once the right participant is confirmed to be eligible."""
    fields, history = case.record.fields, case.history
    _participant(case)
    proposal = history.proposal(fields["from"])
    if proposal is None or proposal.seq != fields["proposal"] or proposal.fields["to"] != fields["participant"]:
        raise Refused("no-proposal", f"nobody has stated that the allocation of {fields['from']} is another one's")
    if proposal.fields["person"] == fields["person"]:
        raise Refused(
            "two-people", "the same person cannot give both signatures", "Another person repeats the command."
        )
    own = history.allocation(fields["from"])
    if own is None or not own.seq == proposal.fields["allocation"] == fields["allocation"]:
        raise Refused("not-allocated", f"{fields['from']} has no such allocation any more")
    _check_target(case, fields["participant"])


def _refused_rule(case: Case) -> None:
    if case.record.fields["participant"] is not None:
        _participant(case)


def _participant(case: Case) -> str:
    participant = case.record.fields["participant"]
    if not isinstance(participant, str) or not case.study.is_participant(participant):
        raise evidence("participant", "the participant id is not of the study's pattern")
    return participant


RULE_OF_KIND: dict[str, Callable[[Case], None]] = {
    "person-added": _person_added,
    "person-enrolled": _person_enrolled,
    "person-deactivated": _person_deactivated,
    "decided": _decided,
    "generated": _generated,
    "imported": _generated,
    "list-checked": _share_of,
    "list-read": _share_of,
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
    "late": _late,
    "reassignment-proposed": _reassignment,
    "reassigned": _reassigned,
    "share-copied": _share_of,
    "resealed": _resealed,
    "restored": recovery.check_restored,
    "receipt-entered": _receipt_entered,
    "recovered": recovery.check_recovered,
    "moved": relocation.check_moved,
    "arrived": relocation.check_arrived,
    "receipt-copied": _about_allocation,
    "share-given": _share_of,
    "opened": _opened,
    "reviewed": _reviewed,
    "refused": _refused_rule,
}

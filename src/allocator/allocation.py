"""The rules of binding and allocation: values in; a position out, or Refused and why (docs/spec.md §10).

Only positions are decided here. No function of this module receives an arm, so none can leak one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from allocator.errors import Refused
from allocator.log import ALLOWED_STATES

CLOCK_TOLERANCE = timedelta(seconds=5)  # so far back a time service may correct a clock without a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A participant's latest attempt at eligibility.

    Attributes:
        seq: its record.
        confirmed: True for a confirmation, False for a screen failure.
        withdrawn: the confirmation was withdrawn afterwards.
        void: the list was sealed again since, or the allocation made on it was moved to another participant.
        time: when it was recorded, UTC.
        person: who signed it.
    """

    seq: int
    confirmed: bool
    withdrawn: bool
    time: datetime
    person: str
    void: bool = False

    def holds(self, now: datetime, hours: int) -> bool:
        """True while this is a confirmation that is neither withdrawn, void, nor older than `hours`.

        One made later than now was made by a clock that was wrong: how old it is nobody knows, so it does not hold.
        """
        age = now - self.time
        fresh = -CLOCK_TOLERANCE <= age <= timedelta(hours=hours)
        return self.confirmed and not self.withdrawn and not self.void and fresh


def check_state(kind: str, state: str) -> None:
    """Refused unless a record of this kind may be written in this state of the study (21 CFR 11.10(f))."""
    allowed = ALLOWED_STATES.get(kind)
    if (allowed is None and state != "moved") or (allowed is not None and state in allowed):
        return
    if allowed is None or state == "moved":
        raise Refused(
            "moved",
            "the log was moved to another place: nothing is written where it was",
            "Go on in its new place; the last record says where.",
        )
    if kind in ("opened", "share-given") and state != "opened":
        raise Refused(
            "not-closed", f"the study is {state}: a list is opened after the close", "The sponsor closes it first."
        )
    if state == "paused" and "active" in allowed:  # else it is too late for it
        raise Refused(
            "paused", "allocation is paused in this study", "Look-ups go on. Ask the sponsor when it resumes."
        )
    if state == "opened":
        said = "already" if kind == "opened" else "and nothing can be allocated any more"
        raise Refused("opened", f"the list is opened {said}", "Look-ups go on; `allocator verify` draws it again.")
    if state == "closed":
        raise Refused("closed", "allocation is closed in this study", "Look-ups go on; nothing new is allocated.")
    if state == "recovering":
        raise Refused(
            "recovering",
            "this log was put back in time and may lack records: nothing new is allocated until that is settled",
            "The statistician ends this with `allocator recover`. Look-ups go on; enter what is done on paper later.",
        )
    if state == "open" and "sealed" in allowed:
        raise Refused("not-sealed", "no list is sealed yet", "The statistician runs `allocator generate` first.")
    if state in ("open", "sealed") and "active" in allowed:
        raise Refused("not-active", f"the study is {state}, not yet active", "The sponsor activates it first.")
    raise Refused("wrong-state", f"not possible while the study is {state}", f"Possible while {' or '.join(allowed)}.")


def check_request(
    *,
    participant: str,
    requester: str,
    attempt: Attempt | None,
    allocated: int,
    enrollment: int,
    hours: int,
    now: datetime,
) -> Attempt:
    """May this participant, who has no allocation yet, be allocated now? Gives the confirmation that says so.

    The words are for the pharmacist: they say what to do, and never the medical reason.

    Args:
        participant: id.
        requester: the person who asks; must not be the one who confirmed (E07).
        attempt: the participant's latest attempt, None when there is none.
        allocated: allocations in the study so far.
        enrollment: the approved number.
        hours: how long a confirmation holds.
        now: time of the request.

    Raises:
        Refused: enrolment complete, not confirmed, withdrawn, expired, or confirmed by the requester.
    """
    if allocated >= enrollment:
        raise Refused(
            "enrolment-complete",
            f"Enrolment complete: {allocated} of {enrollment}",
            "No further participant can be allocated. Tell the sponsor that a request was made.",
        )
    if attempt is None:
        raise Refused(
            "not-confirmed",
            f"the eligibility of {participant} is not confirmed",
            "Ask the investigator to confirm it, then ask again.",
        )
    if not attempt.confirmed:
        raise Refused(
            "not-eligible",
            f"{participant} has no confirmation: the investigator's latest form did not qualify",
            "Ask the investigator. Nothing was allocated.",
        )
    if attempt.withdrawn:
        raise Refused(
            "confirmation-withdrawn",
            f"the investigator withdrew the confirmation of {participant}",
            "Ask the investigator. Nothing was allocated.",
        )
    if attempt.void:
        raise Refused(
            "confirmation-void",
            f"the confirmation of {participant} is of an earlier sealing, or was of an allocation that was moved",
            "Ask the investigator to confirm again.",
        )
    if attempt.time - now > CLOCK_TOLERANCE:
        raise Refused(
            "confirmation-later",
            f"the confirmation of {participant} was made by a clock that was ahead: its age is not known",
            "Ask the investigator to confirm again.",
        )
    if not attempt.holds(now, hours):
        raise Refused(
            "confirmation-expired",
            f"the confirmation of {participant} is older than {hours} hours",
            "Ask the investigator to confirm again, with current values.",
        )
    if attempt.person == requester:
        raise Refused(
            "two-people",
            "the person who confirmed eligibility cannot request the allocation",
            "Another pharmacist must ask.",
        )
    return attempt


def check_attempt(
    *, participant: str, previous: Attempt | None, attempt_type: str, of: int | None, reason: bool
) -> None:
    """May this attempt at eligibility follow the previous one?

    After a screen failure a new measurement is ``rescreen`` and a typing error ``correcting`` (with the record it
    corrects), each with a reason: FDA's electronic-systems guidance of 2024, question 13, wants the first answer, the
    check that fired and the change all kept. ``again`` follows a confirmation that expired, was withdrawn or is
    renewed. Raises Refused.
    """
    if previous is None:
        if attempt_type != "first" or of is not None:
            raise Refused(
                "nothing-to-rescreen",
                f"{participant} has no earlier attempt",
                "Leave --rescreen and --correcting away for a first attempt.",
            )
        return
    if attempt_type == "first" or (attempt_type == "again" and not previous.confirmed):
        raise Refused(
            "attempt-before",
            f"the latest attempt of {participant} (record {previous.seq}) did not qualify",
            f"A new measurement: add --rescreen. A typing error: --correcting {previous.seq}. Each with --reason.",
        )
    if of != previous.seq:
        raise Refused(
            "not-the-latest",
            f"record {of} is not the latest attempt of {participant}",
            f"The latest attempt is record {previous.seq}.",
        )
    if attempt_type in ("rescreen", "correcting") and not reason:
        raise Refused("reason-missing", "a rescreening or a correction needs its reason", "Add --reason TEXT.")


def check_withdrawal(participant: str, attempt: Attempt | None) -> Attempt:
    """The confirmation that can be withdrawn; Refused when the latest attempt is none, or is withdrawn already."""
    if attempt is None or not attempt.confirmed or attempt.withdrawn:
        raise Refused(
            "nothing-to-withdraw",
            f"{participant} has no confirmation to withdraw",
            "Look with `allocator show`: without a confirmation nothing can be allocated.",
        )
    return attempt


def check_unallocated(participant: str, allocation: int | None) -> None:
    """Refused when the participant already has an allocation: what was confirmed then is never changed."""
    if allocation is not None:
        raise Refused(
            "already-allocated",
            f"{participant} is already allocated (record {allocation})",
            "Nothing is undone: state what is wrong with `allocator correct`.",
        )


def lowest_free(taken: Callable[[int], bool], length: int, start: int = 0) -> int:
    """The lowest position that is neither allocated nor bound, never one that anybody chooses.

    Args:
        taken: whether a position is allocated or bound by a confirmation that holds.
        length: entries of the stratum.
        start: a position below which all are known to be taken.

    Raises:
        Refused: every entry is used or bound. The words tell no length.
    """
    position = start
    while position < length and taken(position):
        position += 1
    if position >= length:
        raise Refused(
            "list-exhausted",
            "no entry is left in this stratum",
            "Nothing was allocated. Speak to the statistician of the study.",
        )
    return position


def stratum_of(given: dict[str, str], strata: tuple[dict[str, str], ...]) -> dict[str, str]:
    """The stratum of these levels, keys in declared order; Refused when the study has no such combination."""
    for stratum in strata:
        if stratum == given:
            return stratum
    names = {name: sorted({s[name] for s in strata}) for name in strata[0]}
    wanted = ", ".join(f"{name}={'|'.join(levels)}" for name, levels in names.items()) or "none"
    said = ", ".join(f"{name}={level}" for name, level in given.items()) or "without factors"
    raise Refused("unknown-stratum", f"this study has no stratum {said}", f"Factors: {wanted}.")

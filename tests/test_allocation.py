"""The rules of binding and allocation, at their limits and one step past."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.allocation import (
    Attempt,
    check_attempt,
    check_request,
    check_state,
    check_unallocated,
    lowest_free,
    stratum_of,
)
from allocator.errors import Refused
from allocator.log import ALLOWED_STATES, KINDS, STATES
from support import START

CONFIRMED = Attempt(seq=7, confirmed=True, withdrawn=False, time=START, person="IN")
FAILED = replace(CONFIRMED, confirmed=False)
REQUEST: dict[str, Any] = {
    "participant": "P-001",
    "requester": "PH",
    "attempt": CONFIRMED,
    "allocated": 0,
    "enrollment": 10,
    "hours": 72,
    "now": START,
}


def refusal_of(**changes: Any) -> str:
    """The code of the refusal of a request with these changes, "" when it is granted."""
    try:
        assert check_request(**(REQUEST | changes)) == (REQUEST | changes)["attempt"]
    except Refused as refusal:
        assert refusal.hint
        return refusal.code
    return ""


@pytest.mark.requirement("A01")
@pytest.mark.parametrize(
    "changes, code",
    [
        ({}, ""),
        ({"now": START + timedelta(hours=72)}, ""),
        ({"now": START + timedelta(hours=72, milliseconds=1)}, "confirmation-expired"),
        ({"allocated": 9}, ""),
        ({"allocated": 10}, "enrolment-complete"),
        ({"allocated": 11}, "enrolment-complete"),
        ({"attempt": None}, "not-confirmed"),
        ({"attempt": FAILED}, "not-eligible"),
        ({"attempt": replace(CONFIRMED, withdrawn=True)}, "confirmation-withdrawn"),
        ({"attempt": replace(CONFIRMED, void=True)}, "confirmation-void"),
        ({"requester": "IN"}, "two-people"),
    ],
)
def test_a_request_at_each_limit(changes: dict[str, Any], code: str) -> None:
    assert refusal_of(**changes) == code


def test_enrolment_complete_says_how_many_of_how_many() -> None:
    with pytest.raises(Refused, match="Enrolment complete: 10 of 10"):
        check_request(**(REQUEST | {"allocated": 10}))


@pytest.mark.requirement("L05")
def test_a_confirmation_by_a_clock_that_was_ahead_does_not_hold() -> None:
    """After the clock was set back its age is unknown; a correction of five seconds is none."""
    assert CONFIRMED.holds(START - timedelta(seconds=5), 72)
    assert not CONFIRMED.holds(START - timedelta(seconds=5, milliseconds=1), 72)
    assert refusal_of(now=START - timedelta(hours=1)) == "confirmation-later"


@given(st.integers(1, 2160), st.integers(-5, 5))
def test_a_confirmation_holds_exactly_its_hours(hours: int, milliseconds: int) -> None:
    now = START + timedelta(hours=hours, milliseconds=milliseconds)
    assert CONFIRMED.holds(now, hours) == (milliseconds <= 0)


@pytest.mark.parametrize("change", [{"confirmed": False}, {"withdrawn": True}, {"void": True}])
def test_what_is_no_confirmation_never_holds(change: dict[str, bool]) -> None:
    assert not replace(CONFIRMED, **change).holds(START, 72)


# ---- attempts -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("E03")
@pytest.mark.parametrize(
    "previous, attempt_type, of, reason, code",
    [
        (None, "first", None, False, ""),
        (None, "again", None, False, "nothing-to-rescreen"),
        (None, "rescreen", None, True, "nothing-to-rescreen"),
        (None, "correcting", 7, True, "nothing-to-rescreen"),
        (None, "first", 7, False, "nothing-to-rescreen"),
        (FAILED, "first", None, False, "attempt-before"),
        (FAILED, "again", 7, True, "attempt-before"),
        (FAILED, "rescreen", 7, True, ""),
        (FAILED, "rescreen", 7, False, "reason-missing"),
        (FAILED, "correcting", 7, True, ""),
        (FAILED, "correcting", 7, False, "reason-missing"),
        (FAILED, "correcting", 6, True, "not-the-latest"),
        (FAILED, "rescreen", None, True, "not-the-latest"),
        (CONFIRMED, "again", 7, False, ""),
        (CONFIRMED, "again", 6, False, "not-the-latest"),
        (CONFIRMED, "first", None, False, "attempt-before"),
        (CONFIRMED, "rescreen", 7, True, ""),
        (CONFIRMED, "correcting", 7, False, "reason-missing"),
        (replace(CONFIRMED, withdrawn=True), "again", 7, False, ""),
    ],
)
def test_which_attempt_may_follow_which(
    previous: Attempt | None, attempt_type: str, of: int | None, reason: bool, code: str
) -> None:
    try:
        check_attempt(participant="P-001", previous=previous, attempt_type=attempt_type, of=of, reason=reason)
        found = ""
    except Refused as refusal:
        found = refusal.code
    assert found == code


@pytest.mark.requirement("X03")
def test_who_is_allocated_is_never_allocated_again() -> None:
    check_unallocated("P-001", None)
    for record in (0, 9):
        with pytest.raises(Refused) as refusal:
            check_unallocated("P-001", record)
        assert refusal.value.code == "already-allocated"


# ---- states ---------------------------------------------------------------------------------------------------------

# which kinds are possible in which state, by hand
LOOKS = ("shown-again", "looked-up", "unblinded", "receipt-copied")
CORRECTIONS = ("corrected", "reassignment-proposed", "reassigned")
BESIDE = (*CORRECTIONS, "share-copied", "resealed")
POSSIBLE = {
    "open": {"decided", "generated", "imported"},
    "sealed": {
        *("share-copied", "resealed", "decided", "generated", "imported", "granted", "activated"),
        *("list-read", "list-checked"),
    },
    "active": {
        "list-read",
        "decided",
        "granted",
        "paused",
        "closed",
        "confirmed",
        "screen-failed",
        "confirmation-withdrawn",
        "allocated",
        "late",
        *LOOKS,
        *BESIDE,
    },
    "paused": {"list-read", "decided", "granted", "resumed", "closed", *LOOKS, *BESIDE},
    "closed": {"list-read", *LOOKS, *BESIDE, "share-given", "opened"},
    "opened": {"list-read", *LOOKS, *CORRECTIONS},
    "recovering": {*LOOKS, "receipt-entered", "recovered"},
    "moved": {"arrived"},
}
ALWAYS = {  # but for "moved", where nothing else may follow
    "moved",
    "backed-up",
    "restored",
    "clock-set",
    "clock-jump",
    "study-opened",
    "person-added",
    "person-enrolled",
    "person-deactivated",
    "passphrase-changed",
    "log-read",
    "refused",
    "attempt-failed",
    "exported",
    "reviewed",
}


@pytest.mark.requirement("A07")
@pytest.mark.parametrize("state", POSSIBLE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_possible_in_which_state(kind: str, state: str) -> None:
    if kind in POSSIBLE[state] | (ALWAYS if state != "moved" else set()):
        check_state(kind, state)
    else:
        with pytest.raises(Refused) as refusal:
            check_state(kind, state)
        known = {
            "moved",
            "paused",
            "closed",
            "opened",
            "not-active",
            "not-closed",
            "wrong-state",
            "not-sealed",
            "recovering",
        }
        assert refusal.value.code in known
        assert refusal.value.hint
        too_late = kind in POSSIBLE["open"] | POSSIBLE["sealed"] and kind not in POSSIBLE["active"]
        assert not (state == "paused" and too_late) or refusal.value.code == "wrong-state"  # it is not to be awaited


def test_the_table_by_hand_names_every_state_and_kind() -> None:
    assert set(POSSIBLE) == {*STATES.values(), "recovering"}
    assert set(ALLOWED_STATES) | ALWAYS == set(KINDS)


@pytest.mark.requirement("A07")
@pytest.mark.parametrize("state, code", [("open", "not-active"), ("sealed", "not-active"), ("paused", "paused")])
def test_the_pharmacist_is_told_what_stops_an_allocation(state: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_state("allocated", state)
    assert refusal.value.code == code


# ---- positions ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A02")
@given(st.sets(st.integers(0, 30)), st.integers(1, 30))
def test_the_lowest_free_position_and_no_other(taken: set[int], length: int) -> None:
    free = [position for position in range(length) if position not in taken]
    if free:
        assert lowest_free(taken.__contains__, length) == free[0]
    else:
        with pytest.raises(Refused) as refusal:
            lowest_free(taken.__contains__, length)
        assert refusal.value.code == "list-exhausted"


@given(st.sets(st.integers(0, 30)), st.integers(1, 30))
def test_a_start_below_which_all_is_taken_changes_nothing(taken: set[int], length: int) -> None:
    start = next(position for position in range(40) if position not in taken)
    if start < length:
        assert lowest_free(taken.__contains__, length, start) == lowest_free(taken.__contains__, length)


@pytest.mark.requirement("A08")
@pytest.mark.requirement("C03")
def test_an_exhausted_list_tells_no_length() -> None:
    with pytest.raises(Refused) as refusal:
        lowest_free(lambda _: True, 20)
    assert not any(character.isdigit() for character in f"{refusal.value} {refusal.value.hint}")
    assert refusal.value.details is None


def test_strata() -> None:
    strata = ({"site": "A"}, {"site": "B"})
    assert stratum_of({"site": "B"}, strata) == {"site": "B"}
    assert stratum_of({}, ({},)) == {}
    for given_levels in ({}, {"site": "C"}, {"site": "A", "sex": "F"}, {"Site": "A"}):
        with pytest.raises(Refused) as refusal:
            stratum_of(given_levels, strata)
        assert refusal.value.code == "unknown-stratum"
        assert "site=A|B" in refusal.value.hint
    with pytest.raises(Refused):
        stratum_of({"site": "A"}, ({},))

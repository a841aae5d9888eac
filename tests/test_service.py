"""The acts of a study, from its opening to its closing: what is granted, what is refused, what the log keeps."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from allocator import sealing
from allocator.design import RandomizationDesign
from allocator.errors import AllocatorError, CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.evidence import read_evidence
from allocator.keys import KeyFolder
from allocator.sqlite_store import SqliteStore
from allocator.verify import verify
from support import PASSPHRASE, START, Trial, TrialFactory, design, eligible_form, finding, ineligible_form, study

SEEDS = [bytes([1]) * 32, bytes([2]) * 32]


@contextmanager
def refused(code: str, kind: type[AllocatorError] = Refused) -> Iterator[None]:
    """The block is refused with this code."""
    with pytest.raises(kind) as refusal:
        yield
    assert refusal.value.code == code
    assert refusal.value.message


def verdict(trial: Trial) -> str:
    """What an auditor would say of the home."""
    with read_evidence(trial.place) as evidence:
        result = verify(evidence)
    assert result.findings == ()
    return result.verdict


def refusals(trial: Trial) -> list[tuple[str, str, str | None]]:
    """(action, cause, participant) of every refusal in the log."""
    records = trial.store.records(("refused",))
    return [(r.fields["action"], r.fields["cause"], r.fields["participant"]) for r in records]


# ---- the way through ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A02")
def test_ten_participants_and_the_eleventh_is_refused(trial: Trial) -> None:
    allocations = trial.allocate(*(f"P-{n:03d}" for n in range(1, 11)))
    assert [a.number for a in allocations] == list(range(1, 11))
    assert [a.record.fields["position"] for a in allocations] == list(range(10))
    assert not any(a.repeated for a in allocations)
    trial.confirm("P-011")
    with refused("enrolment-complete"):
        trial.reveal("P-011")
    assert trial.service.status()["allocated"] == 10
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("G01")
def test_what_is_revealed_is_the_list_of_the_seed(trials: TrialFactory) -> None:
    trial = trials("enrolled")
    trial.service.generate(trial.actor("ST"), design(), seeds=SEEDS)
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.service.activate(trial.actor("SP"), "ethics file")
    shown = [a.record.fields["arm"] for a in trial.allocate(*(f"P-{n:03d}" for n in range(1, 11)))]
    assert shown == opened_list(trial, SEEDS)[:10]


def opened_list(trial: Trial, seeds: list[bytes]) -> list[int]:
    """The list of these seeds with the design and salt that the statistician's own envelope holds."""
    import json

    from allocator.envelope import context, open_sealed, unpadded
    from allocator.schedule import generate_schedule

    sealed = sealing.SealedSchedule.from_bytes(trial.place.sealed_file.read_bytes())
    info = context("share", trial.service.study.fingerprint, sealed.sealing, "ST")
    data = unpadded(open_sealed(trial.actor("ST").keys.opening, bytes.fromhex(sealed.shares[0].envelope), info))
    plain = json.loads(data)
    assert plain["share"] == seeds[0].hex()
    how = RandomizationDesign.from_tables(plain["design"])
    return list(generate_schedule(trial.service.study, how, bytes.fromhex(plain["salt"]), seeds).strata[0].arms)


@pytest.mark.requirement("E01")
def test_a_screen_failure_is_recorded_and_uses_no_entry(trial: Trial) -> None:
    record, judgement = trial.confirm("P-101", ineligible_form())
    assert record.kind == "screen-failed" and not judgement.eligible
    assert "position" not in record.fields and "release" not in record.fields
    with refused("not-eligible"):
        trial.reveal("P-101")
    assert trial.allocate("P-001")[0].record.fields["position"] == 0


@pytest.mark.requirement("E04")
def test_the_answers_used_are_kept_and_judged_the_same_again(trial: Trial) -> None:
    record, _ = trial.confirm("P-001")
    from allocator.eligibility import judge, parse_form

    kept = parse_form(trial.store.details(record.seq)["answers"].value.encode())
    assert kept == eligible_form("P-001")
    assert judge(trial.service.study, kept, record.time).eligible


def test_strata_have_lists_and_numbers_of_their_own(trials: TrialFactory) -> None:
    trial = trials(stratified=True)
    a = trial.allocate("P-001", "P-002", stratum={"site": "A"})
    b = trial.allocate("P-003", stratum={"site": "B"})
    assert [x.record.fields["position"] for x in (*a, *b)] == [0, 1, 0]
    assert [x.number for x in (*a, *b)] == [1, 2, 3]
    for stratum in ({}, {"site": "C"}, {"site": "A", "sex": "F"}):
        with refused("unknown-stratum"):
            trial.confirm("P-004", stratum=stratum)
    assert verdict(trial) == "intact-local"


# ---- before an allocation -------------------------------------------------------------------------------------------


@pytest.mark.requirement("E01")
def test_reveal_before_confirmation(trial: Trial) -> None:
    with refused("not-confirmed"):
        trial.reveal("P-001")
    assert refusals(trial) == [("allocated", "not-confirmed", "P-001")]


@pytest.mark.requirement("A07")
@pytest.mark.parametrize("stage", ["opened", "enrolled", "sealed", "granted"])
def test_nothing_is_confirmed_or_allocated_before_activation(trials: TrialFactory, stage: str) -> None:
    trial = trials(stage)
    if stage == "opened":
        with refused("not-permitted"):
            trial.service.reveal(trial.actor("SP"), "P-001", "P-001")
        return
    with refused("not-active"):
        trial.confirm("P-001")
    with refused("not-active"):
        trial.reveal("P-001")
    assert trial.kinds[-2:] == ["refused", "refused"]


@pytest.mark.requirement("E07")
def test_who_confirms_cannot_request(trial: Trial) -> None:
    """Roles keep the two apart; and the halves of the key do so without our code."""
    trial.confirm("P-001")
    with refused("not-permitted"):
        trial.reveal("P-001", by="IN")
    with refused("not-permitted"):
        trial.confirm("P-002", by="PH")
    assert [r[1] for r in refusals(trial)] == ["not-permitted", "not-permitted"]


@pytest.mark.requirement("A06")
@pytest.mark.parametrize("person", ["SP", "ST", "CU", "IN", "AU"])
def test_only_a_pharmacist_requests(trial: Trial, person: str) -> None:
    trial.confirm("P-001")
    with refused("not-permitted"):
        trial.reveal("P-001", by=person)
    assert refusals(trial) == [("allocated", "not-permitted", "P-001")]
    assert trial.last.fields["person"] == person
    assert trial.reveal("P-001").number == 1


@pytest.mark.requirement("A06")
@pytest.mark.parametrize("person", ["ST", "CU", "IN", "PH", "AU"])
def test_only_the_sponsor_manages_people_and_states(trial: Trial, person: str) -> None:
    service, actor = trial.service, trial.actor(person)
    acts: list[Callable[[], object]] = [
        lambda: service.add_person(actor, "X1", "Dr X", ["auditor"]),
        lambda: service.deactivate_person(actor, "AU", "left"),
        lambda: service.activate(actor, "nowhere"),
        lambda: service.change_state(actor, "resumed", "because"),
        lambda: service.change_state(actor, "closed", "because"),
        lambda: service.decide(actor, "K06", "so", "because"),
    ]
    for act in acts:
        with refused("not-permitted"):
            act()
    assert len(refusals(trial)) == len(acts)


@pytest.mark.requirement("C02")
def test_a_pharmacist_without_a_grant_opens_nothing(trial: Trial) -> None:
    trial.enrol("PH2", "pharmacist")
    trial.confirm("P-001")
    with refused("not-granted"):
        trial.reveal("P-001", by="PH2")
    trial.service.grant(trial.actor("ST"), "PH2")
    assert trial.reveal("P-001", by="PH2").number == 1


@pytest.mark.requirement("C02")
@pytest.mark.parametrize("person", ["SP", "CU", "AU", "ST", "X9"])
def test_only_site_roles_are_granted_a_half(trial: Trial, person: str) -> None:
    with refused("cannot-grant"):
        trial.service.grant(trial.actor("ST"), person)


@pytest.mark.requirement("C02")
def test_another_statistician_cannot_grant_keys_they_do_not_hold(trial: Trial) -> None:
    trial.enrol("ST2", "statistician")
    with refused("not-the-holder"):
        trial.service.grant(trial.actor("ST2"), "PH")


@pytest.mark.requirement("E09")
def test_a_wrong_retype_uses_no_entry(trial: Trial) -> None:
    trial.confirm("P-001")
    with refused("retype-differs"):
        trial.service.reveal(trial.actor("PH"), "P-001", "P-010")
    assert trial.reveal("P-001").record.fields["position"] == 0


@pytest.mark.requirement("L09")
@pytest.mark.parametrize(
    "participant", ["", "p-001", "P-1", "Zhang San", "P-００１", "P‐001", "P-001\n", "../P-001", "P-0001111"]
)
def test_what_is_no_participant_id_is_refused_and_not_recorded(trial: Trial, participant: str) -> None:
    before = trial.last
    for act in (trial.reveal, trial.confirm):
        with refused("participant", InputError):
            act(participant, **({"form": eligible_form()} if act == trial.confirm else {}))  # type: ignore[operator]
    assert trial.last == before


# ---- confirmations that end -----------------------------------------------------------------------------------------


@pytest.mark.requirement("E07")
def test_a_confirmation_holds_to_its_last_millisecond(trials: TrialFactory) -> None:
    for past, allowed in ((0, True), (1, False)):
        trial = trials()
        trial.confirm("P-001")
        trial.clock.advance(hours=72, milliseconds=past)
        if allowed:
            assert trial.reveal("P-001").number == 1
        else:
            with refused("confirmation-expired"):
                trial.reveal("P-001")
        assert verdict(trial) == "intact-local"


@pytest.mark.requirement("A02")
def test_an_expired_confirmation_frees_its_position(trial: Trial) -> None:
    first, _ = trial.confirm("P-001")
    trial.clock.advance(hours=72)
    second, _ = trial.confirm("P-002")
    trial.clock.advance(milliseconds=1)
    third, _ = trial.confirm("P-003")
    assert [r.fields["position"] for r in (first, second, third)] == [0, 1, 0]
    again, _ = trial.confirm("P-001")
    assert again.fields["position"] == 2 and again.fields["attempt"] == {"type": "again", "of": first.seq}
    assert [trial.reveal(p).record.fields["position"] for p in ("P-001", "P-002", "P-003")] == [2, 1, 0]
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("A02")
def test_a_withdrawn_confirmation_frees_its_position(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.service.withdraw(trial.actor("IN"), "P-001", "consent withdrawn")
    assert trial.service.participant_state("P-001") == "withdrawn"
    with refused("confirmation-withdrawn"):
        trial.reveal("P-001")
    with refused("nothing-to-withdraw"):
        trial.service.withdraw(trial.actor("IN"), "P-001", "again")
    assert trial.confirm("P-002")[0].fields["position"] == 0
    assert trial.confirm("P-001")[0].fields["position"] == 1


def test_nobody_withdraws_what_is_allocated(trial: Trial) -> None:
    trial.allocate("P-001")
    with refused("already-allocated"):
        trial.service.withdraw(trial.actor("IN"), "P-001", "too late")
    with refused("already-allocated"):
        trial.confirm("P-001")


@pytest.mark.requirement("E03")
def test_a_later_attempt_supersedes_an_earlier_one(trial: Trial) -> None:
    trial.confirm("P-001")
    failed, judgement = trial.confirm("P-001", ineligible_form())
    assert failed.kind == "screen-failed" and not judgement.eligible
    with refused("not-eligible"):
        trial.reveal("P-001")
    assert trial.confirm("P-002")[0].fields["position"] == 0
    again, _ = trial.confirm("P-001", correcting=failed.seq, reason="typing error")
    assert again.fields["position"] == 1
    assert trial.reveal("P-001").record.fields["position"] == 1


@pytest.mark.requirement("E03")
def test_after_a_screen_failure_only_a_rescreening_or_a_correction_with_its_reason(trial: Trial) -> None:
    failed, _ = trial.confirm("P-001", ineligible_form())
    for flags, code in [
        ({}, "attempt-before"),
        ({"rescreen": True}, "reason-missing"),
        ({"correcting": failed.seq}, "reason-missing"),
        ({"correcting": failed.seq - 1, "reason": "typing error"}, "not-the-latest"),
    ]:
        with refused(code):
            trial.confirm("P-001", **flags)
    record, _ = trial.confirm("P-001", rescreen=True, reason="new measurement")
    assert record.fields["attempt"] == {"type": "rescreen", "of": failed.seq}
    assert trial.store.details(record.seq)["reason"].value == "new measurement"
    attempts = [r.kind for r in trial.store.records(participant="P-001") if r.kind in ("screen-failed", "confirmed")]
    assert attempts == ["screen-failed", "confirmed"]
    assert trial.reveal("P-001").number == 1


@pytest.mark.parametrize("flags", [{"rescreen": True, "reason": "x"}, {"correcting": 3, "reason": "x"}])
def test_a_first_attempt_corrects_nothing(trial: Trial, flags: dict[str, Any]) -> None:
    with refused("nothing-to-rescreen"):
        trial.confirm("P-001", **flags)


# ---- repeats, look-ups, states --------------------------------------------------------------------------------------


@pytest.mark.requirement("A01")
@pytest.mark.requirement("A05")
def test_a_repeat_shows_the_same_allocation_and_says_so(trial: Trial) -> None:
    first, again = trial.allocate("P-001")[0], trial.reveal("P-001")
    assert again.repeated and not first.repeated
    assert (again.number, again.arm, again.time, again.record) == (first.number, first.arm, first.time, first.record)
    assert trial.kinds[-1] == "shown-again" and trial.kinds.count("allocated") == 1


@pytest.mark.requirement("A07")
def test_paused_and_closed_stop_allocations_but_not_look_ups(trial: Trial) -> None:
    trial.allocate("P-001")
    trial.confirm("P-002")
    trial.service.change_state(trial.actor("PH"), "paused", "a question of safety")
    for code, act in [("paused", lambda: trial.reveal("P-002")), ("paused", lambda: trial.confirm("P-003"))]:
        with refused(code):
            act()
    assert trial.reveal("P-001").repeated
    assert trial.service.look_up(trial.actor("IN"), "P-001").number == 1
    with refused("not-permitted"):
        trial.service.change_state(trial.actor("PH"), "resumed", "all is well")
    trial.service.change_state(trial.actor("SP"), "resumed", "all is well")
    assert trial.reveal("P-002").number == 2
    trial.service.change_state(trial.actor("SP"), "closed", "the last participant is in")
    with refused("closed"):
        trial.confirm("P-003")
    assert trial.reveal("P-001").repeated
    assert trial.service.unblind(trial.actor("IN"), "P-002", "an emergency").number == 2
    for kind in ("resumed", "paused", "closed"):
        with pytest.raises(Refused):
            trial.service.change_state(trial.actor("SP"), kind, "anew")
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("L06")
def test_look_ups_are_recorded_and_need_an_allocation(trial: Trial) -> None:
    trial.allocate("P-001")
    for person in ("PH", "IN"):
        assert trial.service.look_up(trial.actor(person), "P-001").number == 1
        assert (trial.last.kind, trial.last.fields["person"]) == ("looked-up", person)
    with refused("not-permitted"):
        trial.service.look_up(trial.actor("AU"), "P-001")
    with refused("not-allocated"):
        trial.service.look_up(trial.actor("PH"), "P-002")


def test_the_states_of_a_participant(trial: Trial) -> None:
    state = trial.service.participant_state
    assert state("P-001") == "unknown"
    with refused("not-confirmed"):
        trial.reveal("P-001")
    assert state("P-001") == "waiting"
    trial.confirm("P-001", ineligible_form())
    assert state("P-001") == "refused"
    trial.confirm("P-001", rescreen=True, reason="new measurement")
    assert state("P-001") == "confirmed"
    trial.clock.advance(hours=73)
    assert state("P-001") == "expired"
    trial.confirm("P-001")
    trial.reveal("P-001")
    assert state("P-001") == "allocated"


# ---- the end of the list --------------------------------------------------------------------------------------------


@pytest.mark.requirement("A08")
def test_an_exhausted_list_is_said_without_its_length(trials: TrialFactory) -> None:
    trial = trials(length=4)
    for n in range(1, 5):
        trial.confirm(f"P-{n:03d}")
    with pytest.raises(Refused) as refusal:
        trial.confirm("P-005")
    assert refusal.value.code == "list-exhausted"
    assert "4" not in f"{refusal.value} {refusal.value.hint} {refusal.value.details}"
    trial.service.withdraw(trial.actor("IN"), "P-002", "consent withdrawn")
    assert trial.confirm("P-005")[0].fields["position"] == 1
    assert [trial.reveal(f"P-{n:03d}").record.fields["position"] for n in (1, 3, 4, 5)] == [0, 2, 3, 1]
    with refused("list-exhausted"):
        trial.confirm("P-006")


def test_enrolment_at_the_limit_and_one_past(trials: TrialFactory) -> None:
    trial = trials(enrollment=2)
    trial.confirm("P-003")
    trial.allocate("P-001", "P-002")
    with pytest.raises(Refused, match="Enrolment complete: 2 of 2"):
        trial.reveal("P-003")
    assert trial.reveal("P-002").repeated


# ---- unblinding and corrections -------------------------------------------------------------------------------------


@pytest.mark.requirement("U01")
@pytest.mark.requirement("U02")
def test_unblinding_shows_one_participant_and_keeps_the_reason(trial: Trial) -> None:
    first = trial.allocate("P-001", "P-002")[0]
    told = trial.service.unblind(trial.actor("IN"), "P-001", "anaphylaxis")
    assert (told.participant, told.arm) == ("P-001", first.arm)
    assert trial.last.kind == "unblinded" and trial.store.details(trial.last.seq)["reason"].value == "anaphylaxis"
    with refused("not-allocated"):
        trial.service.unblind(trial.actor("IN"), "P-003", "anaphylaxis")
    with pytest.raises(InputError):
        trial.service.unblind(trial.actor("IN"), "P-001", " ")


@pytest.mark.requirement("X04")
def test_a_second_mark_in_error_is_refused(trial: Trial) -> None:
    trial.allocate("P-001", "P-002")
    correct = trial.service.correct
    correct(trial.actor("SP"), "P-001", "in-error", "randomized twice", "same person as P-002")
    with refused("in-error-already"):
        correct(trial.actor("SP"), "P-001", "in-error", "randomized twice", "once more")
    correct(trial.actor("SP"), "P-002", "in-error", "randomized twice", "same person as P-001")
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("X03")
def test_an_error_frees_no_position_and_no_number(trial: Trial) -> None:
    trial.allocate("P-001")
    trial.service.correct(trial.actor("SP"), "P-001", "in-error", "wrong participant", "misread")
    assert trial.allocate("P-002")[0].record.fields["position"] == 1
    assert trial.reveal("P-001").number == 1
    with refused("already-allocated"):
        trial.confirm("P-001")


@pytest.mark.requirement("X02")
@pytest.mark.requirement("X05")
@pytest.mark.parametrize("what, value", [("ineligible", "viral load"), ("treatment", "GCV was given")])
def test_corrections_stand_beside_the_allocation(trial: Trial, what: str, value: str) -> None:
    first = trial.allocate("P-001")[0]
    for person in ("PH", "IN", "SP"):
        record = trial.service.correct(trial.actor(person), "P-001", what, value, "found at monitoring")
        assert record.fields["allocation"] == first.record.seq
        assert trial.store.details(record.seq)["value"].value == value
    assert trial.reveal("P-001").arm == first.arm
    with refused("not-permitted"):
        trial.service.correct(trial.actor("AU"), "P-001", what, value, "no")


@pytest.mark.requirement("X01")
def test_a_wrong_stratum_keeps_its_allocation(trials: TrialFactory) -> None:
    trial = trials(stratified=True)
    first = trial.allocate("P-001", stratum={"site": "A"})[0]
    trial.service.correct(trial.actor("IN"), "P-001", "stratum", "site=B", "typed wrongly")
    assert trial.reveal("P-001").stratum == first.stratum == {"site": "A"}
    with refused("unknown-stratum"):
        trial.service.correct(trial.actor("IN"), "P-001", "stratum", "site=C", "typed wrongly")


@pytest.mark.requirement("X06")
def test_a_correction_of_the_participant_names_a_participant(trial: Trial) -> None:
    trial.allocate("P-001")
    with refused("participant", InputError):
        trial.service.reassign(trial.actor("SP"), "P-001", "Zhang San", "misread")


# ---- people ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("S03")
def test_an_id_is_never_used_again(trial: Trial) -> None:
    trial.service.deactivate_person(trial.actor("SP"), "PH", "left the site")
    with refused("person-exists"):
        trial.invite("PH", "pharmacist")


@pytest.mark.requirement("S06")
def test_who_is_deactivated_can_do_nothing_any_more(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.service.deactivate_person(trial.actor("SP"), "PH", "left the site")
    with refused("no-longer", CredentialError):
        trial.reveal("P-001")
    with refused("deactivated", CredentialError):
        trial.service.authenticate("PH", lambda: PASSPHRASE, "reveal")
    assert (trial.last.kind, trial.last.fields["failure"]) == ("attempt-failed", "deactivated")
    with refused("cannot-grant"):
        trial.service.grant(trial.actor("ST"), "PH")


def test_the_last_sponsor_stays(trial: Trial) -> None:
    with refused("last-sponsor"):
        trial.service.deactivate_person(trial.actor("SP"), "SP", "by mistake")
    trial.enrol("SP2", "sponsor")
    trial.service.deactivate_person(trial.actor("SP"), "SP", "left the company")
    with refused("no-longer", CredentialError):
        trial.service.change_state(trial.actor("SP"), "closed", "no")


@pytest.mark.requirement("S03")
def test_who_is_not_enrolled_can_do_nothing_yet(trial: Trial) -> None:
    code = trial.invite("PH2", "pharmacist")
    with refused("not-enrolled", CredentialError):
        trial.service.authenticate("PH2", lambda: PASSPHRASE, "reveal")
    with refused("cannot-grant"):
        trial.service.grant(trial.actor("ST"), "PH2")
    with refused("wrong-code", CredentialError):
        trial.service.enrol("PH2", code[::-1], lambda: PASSPHRASE)
    assert trial.last.fields["failure"] == "wrong-code"
    with refused("unknown-person", CredentialError):
        trial.service.enrol("PH3", code, lambda: PASSPHRASE)
    trial.service.enrol("PH2", f" {code.lower()} ", lambda: PASSPHRASE)
    with refused("enrolled-already"):
        trial.service.enrol("PH2", code, lambda: PASSPHRASE)


@pytest.mark.requirement("C02")
@pytest.mark.parametrize(
    "roles", [("investigator", "pharmacist"), ("statistician", "pharmacist"), ("auditor", "sponsor")]
)
def test_roles_that_are_never_together(trial: Trial, roles: tuple[str, ...]) -> None:
    with refused("roles-together"):
        trial.invite("X1", *roles)


@pytest.mark.requirement("S05")
@pytest.mark.requirement("L06")
def test_wrong_passphrases_are_recorded_and_delayed_but_never_lock(trial: Trial) -> None:
    for _ in range(8):
        with refused("wrong-passphrase", CredentialError):
            trial.service.authenticate("PH", lambda: "wrong", "reveal")
    failures = [r.fields for r in trial.store.records(("attempt-failed",))]
    assert [(f["person"], f["action"], f["failure"]) for f in failures] == [("PH", "reveal", "wrong-passphrase")] * 8
    assert trial.pauses == [1.0, 2.0, 4.0]
    assert trial.service.authenticate("PH", lambda: PASSPHRASE, "reveal").person == "PH"
    assert trial.pauses == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.requirement("S05")
def test_a_delay_is_bounded_is_ones_own_and_ends(trial: Trial) -> None:
    for _ in range(14):
        with pytest.raises(CredentialError):
            trial.service.authenticate("PH", lambda: "wrong", "reveal")
    assert max(trial.pauses) == 30.0
    trial.pauses.clear()
    trial.service.authenticate("IN", lambda: PASSPHRASE, "confirm")
    trial.clock.advance(minutes=15, milliseconds=1)
    trial.service.authenticate("PH", lambda: PASSPHRASE, "reveal")
    assert trial.pauses == []


@pytest.mark.requirement("L06")
@pytest.mark.parametrize("person", ["X9", "", "PH'; --", "\x1b[2J"])
def test_an_unknown_person_is_recorded_without_the_name_given(trial: Trial, person: str) -> None:
    with refused("unknown-person", CredentialError):
        trial.service.authenticate(person, lambda: PASSPHRASE, "reveal")
    assert trial.last.fields["failure"] == "unknown-person" and trial.last.fields["person"] is None


@pytest.mark.requirement("S06")
def test_a_passphrase_is_changed_and_the_old_one_opens_nothing(trial: Trial) -> None:
    trial.service.change_passphrase(trial.actor("PH"), lambda: "another one")
    assert trial.last.kind == "passphrase-changed"
    with refused("wrong-passphrase", CredentialError):
        trial.service.authenticate("PH", lambda: PASSPHRASE, "reveal")
    assert (
        trial.service.authenticate("PH", lambda: "another one", "reveal").keys.sign_key
        == trial.actor("PH").keys.sign_key
    )
    with refused("passphrase-short", CredentialError):
        trial.service.change_passphrase(trial.actor("PH"), lambda: "")


# ---- generating and activating --------------------------------------------------------------------------------------


@pytest.mark.requirement("G06")
def test_generating_again_needs_a_reason_and_both_stay_in_the_log(trials: TrialFactory) -> None:
    trial = trials("sealed")
    with refused("reason-missing"):
        trial.service.generate(trial.actor("ST"), design())
    record = trial.service.generate(trial.actor("ST"), design(), reason="another length was decided")
    assert trial.kinds.count("generated") == 2
    assert trial.store.details(record.seq)["reason"].value == "another length was decided"
    assert trial.service.status()["root"] == record.fields["root"]
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("G08")
def test_a_grant_of_an_older_sealing_activates_nothing(trials: TrialFactory) -> None:
    trial = trials("granted")
    trial.service.generate(trial.actor("ST"), design(), reason="drawn anew")
    with refused("not-granted"):
        trial.service.activate(trial.actor("SP"), "ethics file")


@pytest.mark.requirement("G09")
def test_no_list_is_drawn_after_activation(trial: Trial) -> None:
    with pytest.raises(Refused):
        trial.service.generate(trial.actor("ST"), design(), reason="I do not like it")
    assert trial.kinds.count("generated") == 1


@pytest.mark.requirement("G03")
@pytest.mark.parametrize("seeds", [[b"42"], [bytes(32)], [bytes(32), bytes(31)], [bytes(32)] * 3])
def test_a_seed_of_another_length_is_refused(trials: TrialFactory, seeds: list[bytes]) -> None:
    trial = trials("enrolled")
    with refused("seed", InputError):
        trial.service.generate(trial.actor("ST"), design(), seeds=seeds)


@pytest.mark.requirement("G03")
def test_a_given_seed_is_for_tests_only(tmp_path: Path) -> None:
    from support import open_home, open_service

    secret = "a long passphrase"
    open_home(tmp_path / "home", mode="production", passphrase=secret)
    service = open_service(tmp_path / "home")
    sponsor = service.authenticate("SP", lambda: secret, "open")
    for person, role in (("ST", "statistician"), ("CU", "custodian")):
        _, code = service.add_person(sponsor, person, f"Dr {person}", [role])
        with refused("passphrase-short", CredentialError):
            service.enrol(person, code, lambda: "short")
        service.enrol(person, code, lambda: secret)
    statistician = service.authenticate("ST", lambda: secret, "generate")
    with refused("seed-given"):
        service.generate(statistician, design(), seeds=SEEDS)
    assert service.generate(statistician, design()).fields["seed_origin"] == "system"
    service.close_files()


def test_a_list_needs_a_custodian(trials: TrialFactory) -> None:
    trial = trials("opened")
    trial.enrol("ST", "statistician")
    trial.invite("CU", "custodian")
    with refused("no-custodian"):
        trial.service.generate(trial.actor("ST"), design())


@pytest.mark.requirement("P01")
def test_activation_waits_for_every_blocking_decision(trials: TrialFactory) -> None:
    trial = trials("granted", findings=[finding("K06"), finding("K02"), finding("K11", "warn")])
    activate = lambda: trial.service.activate(trial.actor("SP"), "ethics file")  # noqa: E731
    for undecided in (["K06", "K02"], ["K02"]):
        with pytest.raises(Refused) as refusal:
            activate()
        assert refusal.value.code == "undecided" and refusal.value.details == {"findings": undecided}
        trial.service.decide(trial.actor("SP"), undecided[0], "equal shares", "the protocol's team met")
    with refused("no-such-finding"):
        trial.service.decide(trial.actor("SP"), "K99", "so", "because")
    assert activate().fields["root"] == trial.service.status()["root"]


@pytest.mark.requirement("A07")
def test_activation_needs_a_list_and_both_halves_granted(trials: TrialFactory) -> None:
    trial = trials("enrolled")
    activate = lambda: trial.service.activate(trial.actor("SP"), "ethics file")  # noqa: E731
    with pytest.raises(Refused):
        activate()
    trial.service.generate(trial.actor("ST"), design())
    for person, missing in (("PH", "pharmacist"), ("IN", "investigator")):
        with pytest.raises(Refused, match=missing):
            activate()
        trial.service.grant(trial.actor("ST"), person)
    activate()
    with pytest.raises(Refused):
        activate()


def test_a_half_granted_to_somebody_who_left_does_not_count(trials: TrialFactory) -> None:
    trial = trials("granted")
    trial.service.deactivate_person(trial.actor("SP"), "PH", "left the site")
    with refused("not-granted"):
        trial.service.activate(trial.actor("SP"), "ethics file")


# ---- clock, head, files ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("L05")
def test_a_clock_a_little_behind_keeps_the_order_and_further_behind_is_refused(trial: Trial) -> None:
    trial.confirm("P-001")
    trial.clock.advance(seconds=-3)
    assert trial.confirm("P-002")[0].time == START
    trial.clock.advance(seconds=-2)
    assert trial.confirm("P-003")[0].time == START
    trial.clock.advance(milliseconds=-1)
    before = trial.last
    with refused("clock-behind", StorageError):
        trial.reveal("P-001")
    trial.clock.advance(seconds=-1)
    with refused("clock-behind", StorageError):
        trial.reveal("P-001")
    assert trial.kinds[before.seq + 1 :] == ["clock-jump"]  # the jump is an event, once; nothing else is written
    trial.clock.now = START
    assert trial.reveal("P-001").number == 1
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("L03")
def test_a_log_older_than_its_head_is_refused(trial: Trial) -> None:
    yesterday = trial.place.log_file.read_bytes()
    trial.confirm("P-001")
    trial.service.close_files()
    trial.place.log_file.write_bytes(yesterday)
    trial.again()
    with refused("log-behind-head", EvidenceError):
        trial.confirm("P-001")
    with refused("log-behind-head", EvidenceError):
        trial.reveal("P-001")
    assert trial.place.log_file.read_bytes() == yesterday


@pytest.mark.requirement("L03")
def test_another_history_of_the_same_length_is_refused(trial: Trial) -> None:
    yesterday = trial.place.log_file.read_bytes()
    trial.confirm("P-001")
    head = (trial.place.keys / "head").read_bytes()
    trial.service.close_files()
    trial.place.log_file.write_bytes(yesterday)
    (trial.place.keys / "head").unlink()
    trial.again()
    trial.confirm("P-002")
    (trial.place.keys / "head").write_bytes(head)
    with refused("log-behind-head", EvidenceError):
        trial.reveal("P-002")


def test_a_damaged_head_is_refused_and_a_missing_one_made_again(trial: Trial) -> None:
    head = trial.place.keys / "head"
    head.write_text("x")
    with refused("head-damaged", EvidenceError):
        trial.confirm("P-001")
    head.unlink()
    record, _ = trial.confirm("P-001")
    assert KeyFolder(trial.place.keys).read_head() == (record.seq, record.hash)


@pytest.mark.requirement("A04")
def test_a_head_that_cannot_be_written_is_only_a_notice(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.confirm("P-001")
    head = (trial.place.keys / "head").read_bytes()

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(KeyFolder, "write_head", fails)
    assert trial.reveal("P-001").number == 1
    assert trial.notices == ["recorded, but the local head could not be written: No space left on device"]
    monkeypatch.undo()
    assert (trial.place.keys / "head").read_bytes() == head
    assert trial.reveal("P-001").repeated  # a head behind the log is an ancestor: nothing is wrong
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("V02")
def test_a_study_file_changed_after_the_opening_is_refused(trial: Trial) -> None:
    text = trial.place.study_file.read_text()
    for changed in (
        text.replace("> 1000", "> 100"),
        text.replace("enrollment = 10", "enrollment = 11"),
        "format = 1",
        "",
    ):
        assert changed != text
        trial.place.study_file.write_text(changed)
        with pytest.raises(EvidenceError):
            trial.again()
    trial.place.study_file.write_text(text + "\n# a comment changes no meaning\n")
    trial.again()
    assert trial.allocate("P-001")[0].number == 1


def test_a_log_without_a_record_is_refused(trial: Trial) -> None:
    from allocator.sqlite_store import create_log

    trial.service.close_files()
    trial.place.log_file.unlink()
    create_log(trial.place.log_file)
    with refused("empty-log", EvidenceError):
        trial.again()


@pytest.mark.requirement("G09")
@pytest.mark.parametrize("damage", ["swapped", "bit", "older", "missing", "empty", "symlink"])
def test_a_sealed_schedule_that_is_not_the_one_in_the_log_allocates_nothing(trial: Trial, damage: str) -> None:
    trial.confirm("P-001")
    path = trial.place.sealed_file
    data = path.read_bytes()
    entries = sealing.SealedSchedule.from_bytes(data).strata[0].entries
    if damage == "swapped":
        a, b = entries[0].encode(), entries[1].encode()
        path.write_bytes(data.replace(a, b"?").replace(b, a).replace(b"?", b))
    elif damage == "bit":
        path.write_bytes(data.replace(b"a", b"b", 1))
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"{}")
    trial.again()
    with refused("sealed-file", EvidenceError):
        trial.reveal("P-001")
    assert "allocated" not in trial.kinds
    path.write_bytes(data)
    trial.again()
    assert trial.reveal("P-001").number == 1


@pytest.mark.requirement("U01")
def test_without_the_sealed_schedule_allocated_participants_are_still_looked_up(trial: Trial) -> None:
    first = trial.allocate("P-001")[0]
    trial.confirm("P-002")
    trial.place.sealed_file.unlink()
    trial.again()
    assert trial.service.unblind(trial.actor("IN"), "P-001", "an emergency").arm == first.arm
    assert trial.reveal("P-001").repeated
    with refused("sealed-file", EvidenceError):
        trial.reveal("P-002")
    assert refusals(trial) == [("allocated", "sealed-file", "P-002")]
    trial.service.change_state(trial.actor("SP"), "paused", "the sealed schedule is gone")


@pytest.mark.requirement("A04")
def test_a_crash_between_commit_and_rename_is_finished_by_the_next_start(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trials("sealed")
    older = trial.place.sealed_file.read_bytes()
    crash_after_commit(trial, monkeypatch, reason="drawn anew")
    assert trial.kinds.count("generated") == 2 and trial.place.sealed_file.read_bytes() == older
    assert verdict(trial) == "intact-local"
    trial.again()
    trial.service.grant(trial.actor("ST"), "PH")
    assert trial.place.sealed_file.read_bytes() != older
    assert not trial.place.sealed_file.with_name("sealed.json.next").exists()


@pytest.mark.requirement("A04")
def test_a_crash_before_the_commit_leaves_the_older_list(trials: TrialFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trials("sealed")
    older = trial.place.sealed_file.read_bytes()
    monkeypatch.setattr(SqliteStore, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trial.service.generate(trial.actor("ST"), design(), reason="drawn anew")
    monkeypatch.undo()
    assert trial.place.sealed_file.with_name("sealed.json.next").exists()
    trial.again()
    trial.service.grant(trial.actor("ST"), "PH")
    assert trial.place.sealed_file.read_bytes() == older and trial.kinds.count("generated") == 1


def crash_after_commit(trial: Trial, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Generate, and die once the record is durable."""
    monkeypatch.setattr(KeyFolder, "write_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trial.service.generate(trial.actor("ST"), design(), **given)
    monkeypatch.undo()


@pytest.mark.requirement("A04")
def test_generating_again_after_such_a_crash_loses_no_list(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trials("enrolled")
    crash_after_commit(trial, monkeypatch)
    trial.again()
    with refused("reason-missing"):
        trial.service.generate(trial.actor("ST"), design())
    assert verdict(trial) == "intact-local"
    trial.again()
    trial.service.grant(trial.actor("ST"), "PH")
    trial.service.generate(trial.actor("ST"), design(), reason="drawn anew")
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("A04")
def test_an_interruption_before_the_commit_allocates_nothing(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.confirm("P-001")
    before = trial.last
    appended = SqliteStore.append

    def dies(*given: Any) -> None:
        appended(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(SqliteStore, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        trial.reveal("P-001")
    monkeypatch.undo()
    assert trial.last == before
    assert trial.reveal("P-001").record.fields["position"] == 0


@pytest.mark.requirement("A04")
def test_an_interruption_after_the_commit_shows_the_same_again(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.confirm("P-001")
    monkeypatch.setattr(KeyFolder, "write_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trial.reveal("P-001")
    monkeypatch.undo()
    assert trial.last.kind == "allocated"
    again = trial.reveal("P-001")
    assert again.repeated and again.number == 1


def test_a_log_that_cannot_be_written_is_said_and_nothing_is_shown(trial: Trial) -> None:
    trial.confirm("P-001")
    connection = sqlite3.connect(trial.place.log_file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    trial.store._connection.execute("PRAGMA busy_timeout = 20")
    with refused("busy", StorageError):
        trial.reveal("P-001")
    connection.execute("ROLLBACK")
    connection.close()
    assert trial.reveal("P-001").number == 1


# ---- refusals and silence -------------------------------------------------------------------------------------------


@pytest.mark.requirement("E08")
@pytest.mark.requirement("A06")
def test_a_refusal_is_a_signed_record_and_consumes_nothing(trial: Trial) -> None:
    with refused("not-confirmed"):
        trial.reveal("P-001")
    record = trial.last
    assert (record.kind, record.fields["action"], record.fields["cause"]) == ("refused", "allocated", "not-confirmed")
    assert len(bytes.fromhex(record.fields["signature"])) == 64
    assert (record.fields["participant"], record.fields["person"], record.fields["role"]) == (
        "P-001",
        "PH",
        "pharmacist",
    )
    assert trial.service.status()["allocated"] == 0 and trial.service.status()["waiting"] == 0
    assert trial.allocate("P-001")[0].record.fields["position"] == 0
    assert verdict(trial) == "intact-local"


@pytest.mark.requirement("C03")
def test_medical_reasons_never_reach_the_pharmacist(trial: Trial) -> None:
    from allocator.eligibility import judge

    form = ineligible_form()
    failed = [c for c in judge(study(), form, START).criteria if not c.met]
    trial.confirm("P-101", form)
    with pytest.raises(Refused) as refusal:
        trial.reveal("P-101")
    told = f"{refusal.value} {refusal.value.hint} {refusal.value.details}"
    for outcome in failed:
        criterion = study().criterion(outcome.id)
        assert criterion is not None
        assert not any(
            text in told for text in (outcome.id, criterion.datum, criterion.text, form.answers[outcome.id].value)
        )


@pytest.mark.requirement("C03")
def test_nothing_of_the_design_is_in_the_status(trials: TrialFactory) -> None:
    trial = trials(length=17, block_sizes=(4, 6))
    trial.allocate("P-001", "P-002", "P-003")
    status = trial.service.status()
    assert not {"length", "block_sizes", "positions", "remaining", "arms"} & set(status)
    assert 17 not in status.values() and 14 not in status.values()
    assert not any(arm.code in str(status) for arm in study().arms)


@pytest.mark.requirement("C01")
def test_no_future_arm_stands_in_any_file_of_the_home(trial: Trial) -> None:
    """Not its code, not its label, and not the secrets from which it could be drawn."""
    trial.allocate("P-001", "P-002")
    trial.confirm("P-003")
    tokens = [re.escape(text) for arm in study().arms for text in (arm.code, arm.label)]
    # three letters may stand anywhere in base64 or in a one-time code; a word of their own they are only if written
    told = re.compile(
        rf"(?<![\w+/])({'|'.join(tokens)}|block_sizes|\"share\"|\"ratio\")(?![\w+/])".encode(), re.IGNORECASE
    )
    assert told.search(trial.place.study_file.read_bytes())
    for path in (p for p in trial.home.rglob("*") if p.is_file() and p.name not in ("study.toml", "registry.json")):
        assert told.search(path.read_bytes()) is None, path.name
    shown = [r.fields for r in trial.records if "arm" in r.fields]
    assert [f["participant"] for f in shown] == ["P-001", "P-002"]


@pytest.mark.requirement("C01")
def test_the_seed_and_the_keys_stand_in_no_file_of_the_home(trials: TrialFactory) -> None:
    trial = trials("enrolled")
    drawn: list[bytes] = []

    def entropy(count: int) -> bytes:
        import os

        drawn.append(os.urandom(count))
        return drawn[-1]

    trial.service._entropy = entropy
    trial.service.generate(trial.actor("ST"), design())
    secrets_drawn = [value for value in drawn if len(value) == 32]
    assert len(secrets_drawn) >= 5  # two shares, the salt of the design, K_p, K_i
    for path in (p for p in trial.home.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for value in secrets_drawn:
            assert value not in data and value.hex().encode() not in data, path.name


@pytest.mark.requirement("E07")
def test_with_all_files_one_half_opens_nothing_that_is_not_confirmed(trial: Trial) -> None:
    """Our code taken away: a pharmacist with a copy of everything, and the investigator's releases in the log."""
    from allocator.envelope import context, open_sealed

    trial.confirm("P-001")
    sealed = sealing.SealedSchedule.from_bytes(trial.place.sealed_file.read_bytes())
    grant = next(r for r in trial.store.records(("granted",)) if r.fields["grantee"] == "PH")
    info = context("grant", sealed.fingerprint, sealed.sealing, "PH")
    key_p = open_sealed(trial.actor("PH").keys.opening, bytes.fromhex(grant.fields["envelope"]), info)
    released = [bytes.fromhex(r.fields["release"]) for r in trial.store.records(("confirmed",))]
    opened = []
    for position in range(20):
        half_p = sealing.half_key(key_p, sealed.sealing, "{}", position)
        for half_i in (*released, half_p, bytes(32)):
            try:
                sealing.open_entry(sealed.strata[0], position, half_p, half_i, sealed.fingerprint, sealed.sealing)
                opened.append(position)
            except EvidenceError:
                pass
    assert opened == [0]


def test_a_copied_home_goes_on_by_itself_and_the_head_tells(trial: Trial, tmp_path: Path) -> None:
    trial.allocate("P-001")
    shutil.copytree(trial.home, tmp_path / "copy")
    original = trial.allocate("P-002")[0].record.hash
    from allocator.evidence import read_evidence as read
    from allocator.home import study_place

    with read(study_place(tmp_path / "copy", None), (original,)) as evidence:
        assert verify(evidence).verdict == "broken"


# ---- any order of acts ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("A02")
@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_acts_leaves_a_log_that_verifies(trials: TrialFactory, seed: int) -> None:
    trial = trials(enrollment=12, length=12, stratified=True)
    drawn = random.Random(seed)
    people = [f"P-{n:03d}" for n in range(1, 16)]
    for _ in range(120):
        participant, stratum = drawn.choice(people), {"site": drawn.choice("AB")}
        flags = drawn.choice([{}, {}, {"rescreen": True, "reason": "x"}, {"correcting": trial.last.seq, "reason": "x"}])
        form = ineligible_form(trial.clock.now) if drawn.random() < 0.2 else None
        acts: list[Callable[[], object]] = [
            lambda p=participant, f=form, s=stratum, k=flags: trial.confirm(p, f, stratum=s, **k),
            lambda p=participant: trial.reveal(p),
            lambda p=participant: trial.reveal(p),
            lambda p=participant: trial.service.withdraw(trial.actor("IN"), p, "x"),
            lambda p=participant: trial.service.look_up(trial.actor("PH"), p),
            lambda: trial.clock.advance(hours=drawn.choice([0, 1, 30, 73])),
            lambda: trial.service.change_state(trial.actor("SP"), drawn.choice(["paused", "resumed", "resumed"]), "x"),
        ]
        try:
            drawn.choice(acts)()
        except Refused:
            assert trial.kinds[-1] == "refused"
    allocated = [r.fields for r in trial.records if r.kind == "allocated"]
    assert [f["number"] for f in allocated] == list(range(1, len(allocated) + 1))
    places = [(str(f["stratum"]), f["position"]) for f in allocated]
    assert len(set(places)) == len(places) == len({f["participant"] for f in allocated})
    assert verdict(trial) == "intact-local"
    assert timedelta(0) <= trial.clock.now - START


def test_two_enrolments_at_once_leave_the_keys_that_were_enrolled(trials: TrialFactory) -> None:
    trial = trials("opened")
    code = trial.invite("PH", "pharmacist")
    first, second = trial.service, trial.again()

    def interrupted() -> str:  # between the check of the code and the record, somebody with the same code enrols
        first.enrol("PH", code, lambda: PASSPHRASE)
        return "another"

    with refused("enrolled-already"):
        second.enrol("PH", code, interrupted)
    assert first.authenticate("PH", lambda: PASSPHRASE, "looked-up").person == "PH"


@pytest.mark.parametrize("code", ["\ud800", "A" * 70_000, "ПАРОЛЬ", ""])
def test_a_code_that_is_none_is_refused(trials: TrialFactory, code: str) -> None:
    trial = trials("opened")
    trial.invite("PH", "pharmacist")
    with refused("wrong-code", CredentialError):
        trial.service.enrol("PH", code, lambda: PASSPHRASE)


def test_a_passphrase_is_the_same_on_every_keyboard(trials: TrialFactory) -> None:
    trial = trials("opened")
    trial.service.enrol("PH", trial.invite("PH", "pharmacist"), lambda: "re\u0301veil")
    assert trial.service.authenticate("PH", lambda: "r\u00e9veil", "looked-up").person == "PH"

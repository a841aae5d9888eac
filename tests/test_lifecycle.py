"""A study's whole life, step by step in any order, against a small model of what must have come of it.

After each step the log is verified from outside. `ALLOCATOR_SOAK=20 pytest tests/test_lifecycle.py` tells twenty times
as many lives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from allocator.canonical import parse_time
from allocator.envelope import context, open_sealed, unpadded
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused
from allocator.log import KINDS
from allocator.receipt import check_receipt, parse_receipt
from allocator.record_form import PURPOSES
from allocator.schedule import generate_schedule
from allocator.sealing import SealedSchedule
from allocator.seed import draw_again
from allocator.service import Allocation
from allocator.study import stratum_label
from attacks import judged
from support import PASSPHRASE, Trial, TrialFactory, design, eligible_form, finding, ineligible_form

SOAK = int(os.environ.get("ALLOCATOR_SOAK", "1"))
ENROLLMENT, LENGTH, HOURS = 4, 2, 48  # small, so that both limits are met: two entries a stratum, four participants
DESIGN = design(length=LENGTH, block_sizes=(2,))
PARTICIPANTS = [f"P-{n:03d}" for n in range(1, 6)]
ROLES = {
    "SP": "sponsor",
    "ST": "statistician",
    "CU": "custodian",
    "IN": "investigator",
    "PH": "pharmacist",
    "AU": "auditor",
    "IN2": "investigator",
    "PH2": "pharmacist",
    "SP2": "sponsor",
    "ST2": "statistician",
    "NN": "auditor",
}
MAY = {
    "person-added": "SP SP2",
    "person-deactivated": "SP SP2",
    "decided": "SP SP2",
    "generated": "ST ST2",
    "list-checked": "ST ST2",
    "list-read": "ST ST2",
    "granted": "IN IN2 PH PH2 ST ST2",
    "activated": "SP SP2",
    "paused": " ".join(ROLES),
    "resumed": "SP SP2",
    "closed": "SP SP2",
    "confirmed": "IN IN2",
    "confirmation-withdrawn": "IN IN2",
    "allocated": "PH PH2",
    "looked-up": "IN IN2 PH PH2",
    "unblinded": "IN IN2 PH PH2",
    "corrected": "IN IN2 PH PH2 SP SP2",
    "receipt-copied": "AU NN PH PH2",
    "opened": "CU ST ST2",
    "exported": "AU NN SP SP2",
    "reviewed": "AU NN",
}
# tests/test_way_back.py, tests/test_moving.py and the simulation live through these
WAY_BACK = {
    *("late", "reassignment-proposed", "reassigned", "share-copied", "resealed", "backed-up", "restored"),
    *("receipt-entered", "recovered", "clock-set", "imported", "moved", "arrived"),
}
SEALED_STATES = ("sealed", "active", "paused", "closed", "opened")
SET_UP = ["generate", "grant", "grant", "decide", "activate", "close", "read", "sign off"]
READERS = ["ST", "ST", "ST2", "CU", "PH"]
persons = st.sampled_from(sorted(ROLES))
participants = st.sampled_from(PARTICIPANTS)
investigators = st.sampled_from(["IN", "IN", "IN", "IN", "IN2", "PH"])
pharmacists = st.sampled_from(["PH", "PH", "PH", "PH", "PH2", "IN"])
POOL = ["IN2", "PH2", "SP2", "ST2", "IN", "PH", "SP", "NN"]
ODD_ROLES = ["investigator pharmacist", "auditor sponsor", "custodian statistician", "king", ""]
NO_IDS = ["P-1", "p-001", "P\u2010001", "P-\uff10\uff10\uff11", "Wang Wei", ""]
sites = st.sampled_from(["A", "A", "B", "C"])


@cache
def _factory() -> TrialFactory:
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
    _FOLDERS.append(folder)
    (folder / "homes").mkdir()
    return TrialFactory(folder / "templates", folder / "homes", {})


_FOLDERS: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _no_folder_is_left() -> Any:
    yield
    _factory.cache_clear()
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop())


@dataclass
class Attempted:
    """The latest attempt of a participant, as the model has it."""

    seq: int
    confirmed: bool
    time: datetime
    by: str
    stratum: str
    position: int = -1
    withdrawn: bool = False

    def holds(self, now: datetime) -> bool:
        """Neither withdrawn nor older than the study allows."""
        return self.confirmed and not self.withdrawn and now - self.time <= timedelta(hours=HOURS)


@dataclass
class Given:
    """An allocation, as the model has it."""

    number: int
    stratum: str
    position: int
    arm: str
    in_error: bool = False


class Life(RuleBasedStateMachine):
    """One study from its opening on."""

    stratified = False

    @initialize(ready=st.sampled_from([True, True, True, False]), ahead=st.integers(0, 3))
    def open(self, ready: bool, ahead: int) -> None:
        """Open the study; most lives begin when it is active, with some participants allocated."""
        self.trial: Trial = _factory()(
            "enrolled",
            length=LENGTH,
            block_sizes=(2,),
            enrollment=ENROLLMENT,
            hours=HOURS,
            stratified=self.stratified,
            findings=[finding("K06")],
        )
        self.study, self.clock = self.trial.service.study, self.trial.clock
        self.people = dict.fromkeys(("SP", "ST", "CU", "IN", "PH", "AU"), "active")
        self.state, self.decided, self.granted, self.holder = "open", False, set[str](), ""
        self.checked = ""  # the digest signed off of this list
        self.shares: set[str] = set()  # who gave theirs
        self.attempts: dict[str, Attempted] = {}
        self.given: dict[str, Given] = {}
        self.lists: dict[str, list[str]] = {}
        self.records, self.seeds = len(self.trial.records), count()
        self.asked: set[str] = set()
        if ready:
            self.generate("ST", "")
            for person in ("PH", "IN"):
                self.grant("ST", person)
            self.decide("SP")
            self.activate("SP")
            for participant, site in zip(PARTICIPANTS[:ahead], "AAB", strict=False):
                self.a_participant_comes(participant, site)

    def teardown(self) -> None:
        """Close the log."""
        if hasattr(self, "trial"):
            self.trial.close()
            shutil.rmtree(self.trial.home)

    # ---- the model's own rules --------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time a record gets: never before the last one's."""
        return max(self.clock.now, self.trial.last.time)

    def act(self, expected: str, do: Callable[[], Any], participant: str | None = None) -> Any:
        """Do something; it is refused exactly with this code, or not at all for "". Counts its record."""
        try:
            result, code, recorded = do(), "", True
        except AllocatorError as error:
            result, code = None, error.code
            recorded = isinstance(error, Refused | EvidenceError) or error.code in ATTEMPTS_RECORDED
            recorded = recorded and error.code != "no-longer"
        assert code == expected, f"{code or 'done'} where the model says {expected or 'done'}"
        self.records += recorded
        self.asked |= {participant} if recorded and participant else set()
        return result

    def role_fault(self, by: str, kind: str) -> str:
        """Why a person may not do this at all."""
        if self.people.get(by) != "active":
            return "no-longer"
        return "" if by in MAY[kind].split() else "not-permitted"

    def state_fault(self, *allowed: str) -> str:
        """What is said when the study is in none of these states."""
        if self.state in allowed:
            return ""
        if self.state in ("paused", "closed", "opened"):
            return self.state
        if self.state == "open" and "sealed" in allowed:
            return "not-sealed"
        return "not-active" if self.state in ("open", "sealed") and "active" in allowed else "wrong-state"

    def lowest(self, stratum: str, participant: str) -> int:
        """The lowest position of a stratum that nobody else has, LENGTH when there is none."""
        taken = {given.position for given in self.given.values() if given.stratum == stratum}
        for other, attempt in self.attempts.items():
            if other not in self.given and other != participant and attempt.holds(self.now):
                taken |= {attempt.position} if attempt.stratum == stratum else set()
        return min(set(range(LENGTH + 1)) - taken)

    def stratum(self, site: str) -> dict[str, str]:
        """The stratum of a site, or the only one."""
        return {"site": site} if self.stratified else {}

    def actor(self, person: str) -> Any:
        """Somebody's keys; a person never enrolled has none, and somebody else's do not help."""
        return self.trial.actors.get(person) or self.trial.actors["AU"]

    def by(self, person: str) -> str:
        """Who really signs."""
        return person if person in self.trial.actors else "AU"

    # ---- people ------------------------------------------------------------------------------------------------

    def add(self, by: str, person: str) -> None:
        """Invite somebody: an id stands once for ever."""
        fault = self.role_fault(self.by(by), "person-added") or ("person-exists" if person in self.people else "")
        added = self.act(fault, lambda: self.trial.service.add_person(self.actor(by), person, "Dr X", [ROLES[person]]))
        if added:
            self.people[person], self.trial.codes[person] = "invited", added[1]

    def add_roles_that_are_never_together(self, roles: str) -> None:
        """No person has both."""
        code = {"king": "unknown-role", "": "no-role"}.get(roles, "roles-together")
        fault = self.role_fault("SP", "person-added") or code
        self.act(fault, lambda: self.trial.service.add_person(self.actor("SP"), "XX", "Dr X", roles.split()))

    def enrol(self, person: str, right: bool) -> None:
        """Make one's own keys by the code handed over."""
        status = self.people.get(person, "unknown")
        fault = {"invited": "" if right else "wrong-code", "active": "enrolled-already"}.get(status, "unknown-person")
        code = self.trial.codes.get(person, "") if right else "AAAA-AAAA"
        before = len(self.trial.records)
        self.act(fault, lambda: self.trial.service.enrol(person, code, lambda: PASSPHRASE))
        if not fault:
            self.people[person] = "active"
            self.trial.actors[person] = self.trial.service.authenticate(person, lambda: PASSPHRASE, "enrol")
        assert len(self.trial.records) == before + 1  # every try is in the log

    def deactivate(self, by: str, person: str) -> None:
        """Nobody is removed, and the last sponsor stays."""
        sponsors = [p for p in ("SP", "SP2") if self.people.get(p) == "active"]
        fault = self.role_fault(self.by(by), "person-deactivated")
        if not fault and self.people.get(person) not in ("active", "invited"):
            fault = "no-such-person"
        fault = fault or ("last-sponsor" if sponsors == [person] else "")
        if self.act(fault, lambda: self.trial.service.deactivate_person(self.actor(by), person, "left")):
            self.people[person] = "left"

    def sign_in(self, person: str, right: bool) -> None:
        """A wrong passphrase is recorded and does nothing."""
        status = self.people.get(person, "unknown")
        faults = {"unknown": "unknown-person", "left": "deactivated", "invited": "not-enrolled"}
        fault = faults.get(status, "" if right else "wrong-passphrase")
        self.act(
            fault, lambda: self.trial.service.authenticate(person, lambda: PASSPHRASE if right else "x", "allocated")
        )
        self.records -= not fault  # signing in by itself is no record

    # ---- the list and the states -------------------------------------------------------------------------------

    def generate(self, by: str, reason: str) -> None:
        """Draw and seal; the model draws the same from the same seeds."""
        seeds = [hashlib.sha256(f"{next(self.seeds)} {n}".encode()).digest() for n in (1, 2)]
        fault = self.role_fault(self.by(by), "generated") or self.state_fault("open", "sealed")
        fault = fault or ("reason-missing" if self.lists and not reason else "")
        if self.act(fault, lambda: self.trial.service.generate(self.actor(by), DESIGN, reason=reason, seeds=seeds)):
            self.state, self.holder, self.granted, self.checked = "sealed", by, set(), ""
            self.lists = self._drawn(by, seeds)

    def _drawn(self, by: str, seeds: list[bytes]) -> dict[str, list[str]]:
        """The list regenerated from the seeds and the design's salt, which the statistician's envelope holds."""
        sealed = SealedSchedule.from_bytes(self.trial.place.sealed_file.read_bytes())
        info = context("share", sealed.fingerprint, sealed.sealing, by)
        envelope = open_sealed(self.trial.actors[by].keys.opening, bytes.fromhex(sealed.shares[0].envelope), info)
        plain = json.loads(unpadded(envelope))
        assert plain["share"] == seeds[0].hex()
        drawn = generate_schedule(self.study, DESIGN.for_study(self.study), bytes.fromhex(plain["salt"]), seeds)
        codes = [arm.code for arm in self.study.arms]
        return {stratum.label: [codes[arm] for arm in stratum.arms] for stratum in drawn.strata}

    def grant(self, by: str, person: str) -> None:
        """Give a half of the key."""
        fault = self.role_fault(self.by(by), "granted") or self.state_fault("sealed", "active", "paused")
        enrolled = person in self.trial.actors and person[:2] in ("IN", "PH")
        if not fault and not enrolled:
            fault = "cannot-grant"
        if not fault and self.holder != by:  # a half is passed on by who was granted it
            same = by[:2] == person[:2]
            fault = "not-the-holder" if not same else "" if by in self.granted else "not-granted"
        fault = fault or ("cannot-grant" if self.people.get(person) != "active" else "")
        if self.act(fault, lambda: self.trial.service.grant(self.actor(by), person)):
            self.granted.add(person)

    def read_list(self, by: str, purpose: str) -> None:
        """The holder sees the list, as the model has it; nobody else sees any of it."""
        fault = self.role_fault(self.by(by), "list-read") or self.state_fault(*SEALED_STATES)
        fault = fault or ("" if by == self.holder else "not-the-holder")
        read = self.act(fault, lambda: self.trial.service.read_list(self.actor(by), purpose))
        assert self.trial.service.holds_list(by) == (by == self.holder)
        if read:
            codes = [arm.code for arm in self.study.arms]
            assert self.lists == {stratum.label: [codes[arm] for arm in stratum.arms] for stratum in read.strata}
            assert (read.record.seq, read.record.fields["purpose"]) == (self.trial.last.seq, purpose)

    def sign_off(self, by: str) -> None:
        """Before the activation; of the list as it is sealed now."""
        fault = self.role_fault(self.by(by), "list-checked") or self.state_fault("sealed")
        fault = fault or ("" if by == self.holder else "not-the-holder")
        digest = hashlib.sha256(str(self.records).encode()).hexdigest()
        newest = self.trial.service.history.sealing
        of = newest.fields["sealing"] if newest else ""
        if self.act(fault, lambda: self.trial.service.sign_off(self.actor(by), digest, sealing=of)):
            self.checked = digest
        found = self.trial.service.list_checked()
        assert self.checked == (found.fields["report_digest"] if found else "")

    def decide(self, by: str) -> None:
        """The signed decision on the finding of the opening."""
        fault = self.role_fault(by, "decided") or self.state_fault("open", "sealed", "active", "paused")
        if self.act(fault, lambda: self.trial.service.decide(self.actor(by), "K06", "1:1", "as the protocol says")):
            self.decided = True

    def activate(self, by: str) -> None:
        """Nothing is allocated before."""
        fault = self.role_fault(self.by(by), "activated") or ("" if self.lists else "not-sealed")
        fault = fault or self.state_fault("sealed") or ("" if self.decided else "undecided")
        ready = {p[:2] for p in self.granted if self.people[p] == "active"}
        fault = fault or ("" if ready == {"IN", "PH"} else "not-granted")
        if self.act(fault, lambda: self.trial.service.activate(self.actor(by), "ethics file 12")):
            self.state = "active"

    def stop(self, by: str, kind: str) -> None:
        """Anybody may stop, the sponsor lets it go on."""
        self._change(by, kind)

    def close(self, by: str) -> None:
        """For good."""
        self._change(by, "closed")

    def _change(self, by: str, kind: str) -> None:
        fault = self.role_fault(self.by(by), kind)
        fault = fault or self.state_fault(
            *{"paused": ["active"], "resumed": ["paused"]}.get(kind, ["active", "paused"])
        )
        if self.act(fault, lambda: self.trial.service.change_state(self.actor(by), kind, "as decided")):
            self.state = {"resumed": "active"}.get(kind, kind)

    # ---- participants ------------------------------------------------------------------------------------------

    @rule(
        by=investigators,
        participant=participants,
        site=sites,
        eligible=st.sampled_from([True, True, True, False]),
        how=st.sampled_from(["plain", "plain", "rescreen", "correcting", "no reason"]),
    )
    def confirm(self, by: str, participant: str, site: str, eligible: bool, how: str) -> None:
        """File answers."""
        previous, chosen = self.attempts.get(participant), self.stratum(site)
        form = eligible_form("P-001", self.clock.now) if eligible else ineligible_form(self.clock.now)
        flags: dict[str, Any] = {"reason": "measured again"} if how in ("rescreen", "correcting") else {}
        if how == "correcting":
            flags["correcting"] = previous.seq if previous else 1
        elif how != "plain":
            flags["rescreen"] = True
        fault = self.role_fault(self.by(by), "confirmed") or self.state_fault("active")
        fault = fault or ("unknown-stratum" if self.stratified and site == "C" else "")
        fault = fault or ("already-allocated" if participant in self.given else "")
        fault = fault or self._attempt_fault(previous, how)
        label, position = stratum_label(chosen), -1
        if not fault and eligible:
            position = self.lowest(label, participant)
            fault = "list-exhausted" if position == LENGTH else "" if by in self.granted else "not-granted"
        filed = self.act(
            fault, lambda: self.trial.service.confirm(self.actor(by), participant, form, chosen, **flags), participant
        )
        if filed:
            record, judgement = filed
            assert judgement.eligible == eligible and record.fields.get("position", -1) == position
            self.attempts[participant] = Attempted(record.seq, eligible, record.time, by, label, position)

    def _attempt_fault(self, previous: Attempted | None, how: str) -> str:
        if previous is None:
            return "" if how == "plain" else "nothing-to-rescreen"
        if how == "plain" and not previous.confirmed:
            return "attempt-before"
        return "reason-missing" if how == "no reason" else ""

    @rule(by=investigators, participant=participants)
    def withdraw(self, by: str, participant: str) -> None:
        """Before the allocation only."""
        attempt = self.attempts.get(participant)
        fault = self.role_fault(self.by(by), "confirmation-withdrawn")
        fault = fault or ("already-allocated" if participant in self.given else "")
        if not fault and (attempt is None or not attempt.confirmed or attempt.withdrawn):
            fault = "nothing-to-withdraw"
        fault = fault or self.state_fault("active")
        if self.act(
            fault, lambda: self.trial.service.withdraw(self.actor(by), participant, "a new value"), participant
        ):
            assert attempt
            attempt.withdrawn = True

    @rule(by=pharmacists, participant=participants, typed=st.sampled_from(["same", "same", "same", "P-999"]))
    def reveal(self, by: str, participant: str, typed: str) -> None:
        """The next arm, or the same again."""
        attempt, given = self.attempts.get(participant), self.given.get(participant)
        fault = self.role_fault(self.by(by), "allocated") or ("" if typed == "same" else "retype-differs")
        if not fault and not given:
            fault = self.state_fault("active") or self._request_fault(attempt)
            fault = fault or ("" if by in self.granted else "not-granted")
        retyped = participant if typed == "same" else typed
        told = self.act(fault, lambda: self.trial.service.reveal(self.actor(by), participant, retyped), participant)
        if told and not given:
            assert attempt and not told.repeated
            arm = self.lists[attempt.stratum][attempt.position]
            given = Given(len(self.given) + 1, attempt.stratum, attempt.position, arm)
            self.given[participant] = given
        if told:
            self._is_told(told, participant)

    def _request_fault(self, attempt: Attempted | None) -> str:
        if len(self.given) >= ENROLLMENT:
            return "enrolment-complete"
        if attempt is None:
            return "not-confirmed"
        if not attempt.confirmed:
            return "not-eligible"
        if attempt.withdrawn:
            return "confirmation-withdrawn"
        return "" if attempt.holds(self.now) else "confirmation-expired"

    def _is_told(self, told: Allocation, participant: str) -> None:
        given = self.given[participant]
        assert (told.number, told.arm.code, stratum_label(dict(told.stratum))) == (
            given.number,
            given.arm,
            given.stratum,
        )

    @rule(
        by=st.sampled_from(["PH", "IN", "AU"]),
        participant=participants,
        kind=st.sampled_from(["looked-up", "unblinded"]),
    )
    def look(self, by: str, participant: str, kind: str) -> None:
        """One participant's arm, again."""
        service = self.trial.service
        fault = self.role_fault(by, kind) or ("" if participant in self.given else "not-allocated")
        told = self.act(
            fault,
            lambda: (
                service.look_up(self.actor(by), participant)
                if kind == "looked-up"
                else service.unblind(self.actor(by), participant, "rash")
            ),
            participant,
        )
        if told:
            self._is_told(told, participant)

    @rule(
        by=st.sampled_from(["PH", "SP", "CU"]),
        participant=participants,
        what=st.sampled_from(["in-error", "treatment"]),
    )
    def correct(self, by: str, participant: str, what: str) -> None:
        """Beside the allocation, which stands."""
        given = self.given.get(participant)
        fault = self.role_fault(by, "corrected") or ("" if given else "not-allocated")
        fault = fault or ("in-error-already" if given and given.in_error and what == "in-error" else "")
        if self.act(
            fault, lambda: self.trial.service.correct(self.actor(by), participant, what, "GCV", "x"), participant
        ):
            assert given
            given.in_error |= what == "in-error"

    def ask_for_what_is_no_id(self, participant: str) -> None:
        """Nothing is recorded of it."""
        for act in (
            lambda: self.trial.service.reveal(self.actor("PH"), participant, participant),
            lambda: self.trial.service.confirm(self.actor("IN"), participant, eligible_form(), {}),
        ):
            self.act("participant", act)

    # ---- evidence ----------------------------------------------------------------------------------------------

    def copy_receipt(self, by: str, participant: str) -> None:
        """A receipt made again holds by itself, and is of the participant's own allocation."""
        given = self.given.get(participant)
        fault = self.role_fault(self.by(by), "receipt-copied") or ("" if given else "not-allocated")
        receipt = self.act(fault, lambda: self.trial.service.copy_receipt(self.actor(by), participant), participant)
        if receipt:
            assert given and receipt.record.fields["number"] == given.number
            assert (receipt.arm["code"], receipt.copy["seq"]) == (given.arm, self.trial.last.seq)
            check_receipt(parse_receipt(receipt.to_bytes()))

    def export(self, by: str) -> None:
        """That an export is made is recorded, in any state."""
        fault = self.role_fault(self.by(by), "exported")
        self.act(fault, lambda: self._export(by))

    def _export(self, by: str) -> None:
        with self.trial.service.exporting(self.actor(by), "evidence") as record:
            assert record.fields["scope"] == "evidence"

    def review(self, by: str) -> None:
        """The trail up to now, by an auditor, in any state."""
        start, now = self.trial.records[0].time, self.now
        fault = self.role_fault(self.by(by), "reviewed")
        self.act(fault, lambda: self.trial.service.review(self.actor(by), start, now, "nothing amiss"))

    def open_list(self, by: str) -> None:
        """Two people open the list after the close, each by their own share; what is disclosed draws the list."""
        early = "not-closed" if self.state in ("open", "sealed", "active", "paused") else self.state_fault("closed")
        fault = self.role_fault(self.by(by), "opened") or early
        fault = fault or ("" if by in (self.holder, "CU") else "no-share")
        done = self.act(fault, lambda: self.trial.service.open_list(self.actor(by)))
        if not done:
            return
        self.shares.add(by)
        if len(self.shares) < 2:
            assert (done[0].kind, done[1]) == ("share-given", None)
            return
        assert done[0].kind == "opened"
        self.state = "opened"
        drawn = draw_again(done[1], self.study, self.trial.service.history.sealing)
        codes = [arm.code for arm in self.study.arms]
        assert self.lists == {stratum.label: [codes[arm] for arm in stratum.arms] for stratum in drawn.strata}

    # ---- time and processes ------------------------------------------------------------------------------------

    @rule(delta=st.sampled_from([{"minutes": 7}, {"hours": 24}, {"hours": 24}, {"hours": 48, "milliseconds": 1}]))
    def time_passes(self, delta: dict[str, float]) -> None:
        """Forty-eight hours later a confirmation still holds; a millisecond more and it does not."""
        self.clock.now = self.now
        self.clock.advance(**delta)

    def the_clock_is_set_back_a_little(self) -> None:
        """Up to five seconds the order is kept."""
        self.clock.now = self.trial.last.time - timedelta(seconds=5)

    def the_clock_is_set_back_far(self, participant: str) -> None:
        """Nothing else is written until it is right again."""
        self.records += self.trial.last.kind != "clock-jump"  # the jump is an event, once
        right, self.clock.now = self.now, self.trial.last.time - timedelta(seconds=5, milliseconds=1)
        self.act("clock-behind", lambda: self.trial.service.reveal(self.actor("PH"), participant, participant))
        self.act("clock-behind", lambda: self.trial.service.change_state(self.actor("SP"), "paused", "x"))
        self.clock.now = right

    @rule()
    def another_process_goes_on(self) -> None:
        """What is known is in the files."""
        self.trial.service.close_files()
        self.trial.again()

    # ---- which of these come next ------------------------------------------------------------------------------

    @rule(data=st.data())
    def somebody_comes_or_goes(self, data: st.DataObject) -> None:
        """People are added, enrol, sign in, leave."""
        by, person = data.draw(st.sampled_from(["SP", "SP", "SP", "SP2", "IN"])), data.draw(st.sampled_from(POOL))
        what = data.draw(st.sampled_from(["add", "add", "enrol", "enrol", "leave", "sign in", "odd"]))
        if what == "add":
            self.add(by, person)
        elif what == "enrol":
            self.enrol(person, data.draw(st.sampled_from([True, True, False])))
        elif what == "leave":
            self.deactivate(by, person)
        elif what == "sign in":
            self.sign_in(person, data.draw(st.booleans()))
        else:
            self.add_roles_that_are_never_together(data.draw(st.sampled_from(ODD_ROLES)))

    @rule(data=st.data(), what=st.sampled_from(SET_UP))
    def the_study_is_set_up(self, data: st.DataObject, what: str) -> None:
        """By the statistician and the sponsor, in any order."""
        if what == "generate":
            by = data.draw(st.sampled_from(["ST", "ST", "ST2", "PH"]))
            self.generate(by, data.draw(st.sampled_from(["", "block size decided again"])))
        elif what == "grant":
            self.grant(data.draw(st.sampled_from(["ST", "ST", "ST2", "SP"])), data.draw(st.sampled_from(POOL)))
        elif what == "read":
            self.read_list(data.draw(st.sampled_from(READERS)), data.draw(st.sampled_from(PURPOSES)))
        elif what == "sign off":
            self.sign_off(data.draw(st.sampled_from(READERS)))
        elif what == "decide":
            self.decide(data.draw(st.sampled_from(["SP", "ST"])))
        elif what == "activate":
            self.activate(data.draw(st.sampled_from(["SP", "SP2", "IN"])))
        elif len(self.given) >= 2:
            self.close(data.draw(st.sampled_from(["SP", "PH"])))

    @rule(by=persons, again=st.sampled_from([True, True, True, False]))
    def it_is_paused(self, by: str, again: bool) -> None:
        """By anybody; resumed by the sponsor."""
        self.stop(by, "paused")
        self.stop("SP" if again else by, "resumed")

    @rule(data=st.data(), what=st.sampled_from(["copy", "copy", "export", "review", "close", "open", "open"]))
    def somebody_wants_evidence(self, data: st.DataObject, what: str) -> None:
        """Receipts, exports and reviews at any time; the list when the study is closed."""
        if what == "copy":
            self.copy_receipt(data.draw(st.sampled_from(["PH", "AU", "PH2", "IN"])), data.draw(participants))
        elif what == "export":
            self.export(data.draw(st.sampled_from(["AU", "SP", "PH"])))
        elif what == "review":
            self.review(data.draw(st.sampled_from(["AU", "NN", "SP"])))
        elif what == "close" and len(self.given) >= 2:
            self.close("SP")
        else:
            self.open_list(data.draw(st.sampled_from(["ST", "ST", "CU", "CU", "ST2", "SP"])))

    @rule(participant=participants, site=sites)
    def a_participant_comes(self, participant: str, site: str) -> None:
        """Confirmed and allocated, as on most days."""
        self.confirm("IN", participant, site, True, "plain")
        self.reveal("PH", participant, "same")

    @rule(participant=participants, what=st.sampled_from(["no id", "a little", "far"]), odd=st.sampled_from(NO_IDS))
    def something_odd(self, participant: str, what: str, odd: str) -> None:
        """An id that is none; a clock set back."""
        if what == "no id":
            self.ask_for_what_is_no_id(odd)
        elif what == "a little":
            self.the_clock_is_set_back_a_little()
        else:
            self.the_clock_is_set_back_far(participant)

    # ---- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def the_log_holds(self) -> None:
        """Verified from outside after every step; one record an act."""
        if hasattr(self, "trial"):
            verdict = judged(self.trial.home)
            assert (verdict.verdict, verdict.records, verdict.findings) == ("intact-local", self.records, ())

    @invariant()
    def each_participant_has_one_allocation_and_each_position_one_participant(self) -> None:
        """By the log: consecutive numbers, no position twice, and the list's own arm."""
        if not hasattr(self, "trial"):
            return
        allocated = [record.fields for record in self.trial.records if record.kind == "allocated"]
        assert [fields["number"] for fields in allocated] == list(range(1, len(allocated) + 1))
        places = [(stratum_label(fields["stratum"]), fields["position"]) for fields in allocated]
        assert len(set(places)) == len(places) == len({fields["participant"] for fields in allocated})
        arms = [self.study.arms[fields["arm"]].code for fields in allocated]
        assert arms == [self.lists[label][position] for label, position in places]
        assert {fields["participant"] for fields in allocated} == self.given.keys()

    @invariant()
    def what_is_told_of_it_is_what_happened(self) -> None:
        """The state, the counts, and what became of each participant."""
        if not hasattr(self, "trial"):
            return
        status, now = self.trial.service.status(), self.clock.now
        waiting = [p for p, a in self.attempts.items() if p not in self.given and a.holds(now)]
        assert (status["state"], status["allocated"], status["waiting"]) == (self.state, len(self.given), len(waiting))
        for participant in PARTICIPANTS:
            assert self.trial.service.participant_state(participant) == self._became(participant)

    def _became(self, participant: str) -> str:
        attempt = self.attempts.get(participant)
        if participant in self.given:
            return "allocated"
        if attempt is None:
            return "waiting" if participant in self.asked else "unknown"
        if not attempt.confirmed:
            return "refused"
        if attempt.withdrawn:
            return "withdrawn"
        return "confirmed" if attempt.holds(self.clock.now) else "expired"


ATTEMPTS_RECORDED = ("unknown-person", "not-enrolled", "deactivated", "wrong-code", "wrong-passphrase")


class StratifiedLife(Life):
    """The same with two strata."""

    stratified = True


HOW = settings(
    max_examples=12 * SOAK,
    stateful_step_count=30,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestLife = pytest.mark.requirement("A01")(pytest.mark.requirement("A02")(Life.TestCase))
TestLife.settings = HOW
TestStratifiedLife = pytest.mark.requirement("A01")(pytest.mark.requirement("A02")(StratifiedLife.TestCase))
TestStratifiedLife.settings = HOW


@pytest.mark.requirement("A08")
@pytest.mark.requirement("A07")
@pytest.mark.parametrize("kind", [Life, StratifiedLife])
def test_a_life_that_meets_every_limit(kind: type[Life]) -> None:
    """Steps to what chance seldom reaches: the end of the list and of the enrolment, expiry to the millisecond."""
    life = kind()
    try:
        life.open(False, 0)
        for person in ("ST", "PH"):
            life.read_list(person, "check")  # nothing is sealed
            life.sign_off(person)
        for reason in ("", "block size decided again"):
            life.generate("ST", reason)
            life.read_list("ST", "check")
            life.sign_off("ST")
        assert life.checked
        for person in ("PH", "IN"):
            life.grant("ST", person)
        life.decide("SP")
        life.activate("SP")
        life.sign_off("ST")  # too late
        life.confirm("IN", "P-001", "A", True, "plain")
        life.time_passes({"hours": 48})
        life.confirm("IN", "P-002", "A", True, "plain")  # P-001 still holds: the next position
        life.confirm("IN", "P-003", "A", True, "plain")  # none is left
        assert "P-003" not in life.attempts
        life.time_passes({"milliseconds": 1})
        life.reveal("PH", "P-001", "same")  # expired
        life.confirm("IN", "P-003", "A", True, "plain")  # what P-001 had
        assert life.attempts["P-003"].position == 0
        life.reveal("PH", "P-003", "same")
        life.reveal("PH", "P-002", "same")
        life.confirm("IN", "P-004", "A", True, "plain")  # the list is used up
        assert len(life.given) == 2
        life.confirm("IN", "P-004", "B", False, "plain")
        life.confirm("IN", "P-004", "B", True, "plain")  # neither rescreened nor corrected
        life.confirm("IN", "P-004", "B", True, "correcting")
        life.confirm("IN", "P-001", "B", True, "rescreen")
        if life.stratified:
            life.withdraw("IN", "P-004")
            life.confirm("IN", "P-004", "B", True, "plain")
            for participant in ("P-004", "P-001", "P-005"):
                life.reveal("PH", participant, "same")
            assert len(life.given) == ENROLLMENT
            life.reveal("PH", "P-005", "same")
        life.correct("PH", "P-003", "in-error")
        life.correct("PH", "P-003", "in-error")
        life.close("SP")
        life.reveal("PH", "P-003", "same")
        life.confirm("IN", "P-005", "A", True, "plain")
        for person in ("ST", "ST", "SP", "CU", "CU"):  # one's share twice is one share; opened, it is not opened again
            life.open_list(person)
        assert life.state == "opened"
        life.read_list("ST", "balance")
        life.read_list("CU", "balance")
        life.confirm("IN", "P-005", "A", True, "plain")
        life.reveal("PH", "P-003", "same")
        life.copy_receipt("AU", "P-003")
        life.another_process_goes_on()
        life.the_log_holds()
        life.each_participant_has_one_allocation_and_each_position_one_participant()
        life.what_is_told_of_it_is_what_happened()
    finally:
        life.teardown()


def test_the_model_knows_every_kind_of_act() -> None:
    unsigned_or_own = {"study-opened", "attempt-failed", "refused", "person-enrolled", "passphrase-changed"}
    derived = {"screen-failed", "shown-again", "share-given"}
    elsewhere = {"log-read", "clock-jump", *WAY_BACK}  # the second: counted where the clock is set back
    assert MAY.keys() <= KINDS.keys() and {*KINDS} - {*MAY} - unsigned_or_own - derived <= elsewhere


@pytest.mark.requirement("L08")
def test_a_review_is_of_a_period_that_has_passed(trial: Trial) -> None:
    """By an auditor, with findings; its ends are recorded, its findings stand beside."""
    service, start, now = trial.service, trial.records[0].time, trial.clock.now
    record = service.review(trial.actor("AU"), start, now, "two late entries, both explained")
    assert record.kind == "reviewed" and record.fields["role"] == "auditor"
    assert [parse_time(record.fields[name]) for name in ("since", "until")] == [start, now]
    assert service.private_details(record.seq) == {"findings": "two late entries, both explained"}
    later = now + timedelta(milliseconds=1)
    for since, until, findings, error in (
        (start, later, "none", Refused),
        (later, now, "none", InputError),
        (start, now, " ", InputError),
        (start, now, "none\u202e", InputError),
    ):
        with pytest.raises(error):
            service.review(trial.actor("AU"), since, until, findings)
    assert trial.kinds.count("reviewed") == 1
    assert judged(trial.home).findings == ()

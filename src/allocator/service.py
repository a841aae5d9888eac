"""AllocationService: every act of a study. The only place where clock, entropy, keys and store meet.

Each method is one act: it builds a draft from values, `writer` holds it to the rules and makes it durable, and only
then is anything returned.
"""

from __future__ import annotations

import hashlib
import os
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from allocator import allocation, sealing
from allocator.canonical import canonical_bytes
from allocator.design import RandomizationDesign
from allocator.eligibility import AnswersForm, Judgement, form_bytes, judge, parse_form, summary_lines
from allocator.envelope import context, open_sealed, padded, seal_to
from allocator.errors import CredentialError, EvidenceError, InputError, Refused
from allocator.history import History
from allocator.home import StudyPlace, sync_folder, write_durably
from allocator.keys import STANDARD, KeyFolder, KeyStretching, PrivateKeys
from allocator.log import ATTEMPT_KINDS, Record
from allocator.permuted_block import ALGORITHM
from allocator.person import Role, roles_of
from allocator.rules import code_digest
from allocator.schedule import generate_schedule
from allocator.sqlite_store import SqliteStore
from allocator.study import Arm, Study, StudyError, stratum_label
from allocator.text import is_identifier, shown, text_fault
from allocator.writer import Actor, Draft, RecordWriter

FAILURES_BEFORE_DELAY = 4
DELAY_WINDOW = timedelta(minutes=15)
MOST_DELAY = 30.0  # seconds; a lock would keep the on-call pharmacist out, a delay keeps a guesser out
_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # 32 characters, none mistaken for another


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """An allocation that is logged, and may be shown."""

    participant: str
    number: int
    arm: Arm
    stratum: Mapping[str, str]
    time: str
    repeated: bool
    mode: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a pharmacist checks before the participant is retyped (E09)."""

    study: str
    mode: str
    home: str
    participant: str
    answers: tuple[tuple[str, str], ...]
    stratum: Mapping[str, str]
    confirmed_by: str
    confirmed_at: datetime


def system_clock() -> datetime:
    """Now, UTC, in whole milliseconds as records hold it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class AllocationService:
    """The acts of one study in one home."""

    def __init__(
        self,
        place: StudyPlace,
        study: Study,
        store: SqliteStore,
        keys: KeyFolder,
        *,
        clock: Callable[[], datetime] = system_clock,
        entropy: Callable[[int], bytes] = os.urandom,
        pause: Callable[[float], None] = time.sleep,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.place, self.study, self._store, self._keys = place, study, store, keys
        self._clock, self._entropy, self._pause = clock, entropy, pause
        self._sealed_cache: tuple[str, sealing.SealedSchedule] | None = None
        self._writer = RecordWriter(
            study=study, store=store, keys=keys, sealed=self._sealed, clock=clock, entropy=entropy, notify=notify
        )
        self.history: History = self._writer.history

    @classmethod
    def open(cls, place: StudyPlace, *, stretching: KeyStretching = STANDARD, **givens: Any) -> AllocationService:
        """Open a study that `open_study` made.

        Raises:
            EvidenceError: the study file is not the one whose fingerprint is in record 0; the log is damaged.
            StorageError: the files cannot be read.
        """
        store = SqliteStore(place.log_file)
        try:
            study = read_study_copy(place)
            opening = store.record(0)
            if opening is None:
                raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
            if opening.fields.get("fingerprint") != study.fingerprint.hex():
                raise EvidenceError(
                    "study-file-changed",
                    f"{place.study_file.name} was changed after the study was opened",
                    "Put the original file back: its fingerprint is in record 0. Nothing was done.",
                    {"expected": opening.fields.get("fingerprint"), "found": study.fingerprint.hex()},
                )
        except BaseException:
            store.close()
            raise
        return cls(place, study, store, KeyFolder(place.keys, stretching=stretching), **givens)

    def close_files(self) -> None:
        """Close the log."""
        self._store.close()

    @property
    def mode(self) -> str:
        """production or test."""
        opening = self.history.opening
        return str(opening.fields["mode"]) if opening else "test"

    # ---- who acts ---------------------------------------------------------------------------------------------

    def authenticate(self, person_id: str, passphrase: Callable[[], str], action: str) -> Actor:
        """Unlock a person's keys; every failure is recorded, and repeated ones are delayed, never locked (S05).

        Raises:
            CredentialError: unknown, not enrolled, deactivated, or a wrong passphrase.
        """
        person = self.history.person(person_id)
        if person is None:
            self._writer.write_failure(None, action, "unknown-person")
            raise CredentialError(
                "unknown-person", f"{shown(person_id)} is no person of this study", "See `allocator person list`."
            )
        if not person.active:
            self._writer.write_failure(person.id, action, "deactivated")
            raise CredentialError("deactivated", f"{person.id} is deactivated in this study", "Ask the sponsor.")
        if not person.enrolled:
            self._writer.write_failure(person.id, action, "not-enrolled")
            raise CredentialError(
                "not-enrolled",
                f"{person.id} is not enrolled and can do nothing yet",
                f"Enrol with the one-time code: allocator --as {person.id} person enrol --code CODE",
            )
        self._delay(person.id)
        try:
            keys = self._keys.unlock(self.study.id, person.id, passphrase())
        except CredentialError as error:
            if error.code == "wrong-passphrase":
                self._writer.write_failure(person.id, action, "wrong-passphrase")
            raise
        if keys.sign_key != person.sign_key:
            raise CredentialError(
                "key-file", f"the key file of {person.id} holds other keys than those enrolled", "Restore keys/."
            )
        return Actor(person=person.id, keys=keys)

    def _delay(self, person_id: str) -> None:
        since = self._clock() - DELAY_WINDOW
        failures = sum(
            1
            for record in self._store.records(("attempt-failed",))
            if record.fields["person"] == person_id and record.time >= since
        )
        if failures > FAILURES_BEFORE_DELAY:
            self._pause(min(2.0 ** (failures - FAILURES_BEFORE_DELAY - 1), MOST_DELAY))

    # ---- sponsor ----------------------------------------------------------------------------------------------

    def add_person(self, actor: Actor, person_id: str, name: str, roles: Sequence[str]) -> tuple[Record, str]:
        """Invite a person; returns the record and the one-time code to hand over."""
        _require_id(person_id)
        _require_text("name", name)
        code = one_time_code(self._entropy)
        digest = code_digest(self.study.fingerprint, person_id, code)

        def build(_: datetime) -> Draft:
            fields = {"added": person_id, "roles": [str(r) for r in roles_of(roles)], "code_digest": digest}
            return Draft(kind="person-added", fields=fields, details={"name": name})

        return self._writer.write(actor, "person-added", build), code

    def deactivate_person(self, actor: Actor, person_id: str, reason: str) -> Record:
        """The person may no longer act; nothing of theirs is removed."""
        _require_id(person_id)
        draft = Draft(kind="person-deactivated", fields={"deactivated": person_id}, details=_reason(reason))
        return self._writer.write(actor, draft.kind, lambda _: draft)

    def decide(self, actor: Actor, finding: str, reading: str, reason: str) -> Record:
        """The signed decision on a finding recorded when the study was opened."""
        _require_id(finding)
        _require_text("reading", reading)
        draft = Draft(kind="decided", fields={"finding": finding}, details={"reading": reading, **_reason(reason)})
        return self._writer.write(actor, draft.kind, lambda _: draft)

    def activate(self, actor: Actor, deposit: str) -> Record:
        """Start allocation; `deposit` says where the root and record 0's hash were put outside."""
        _require_text("deposit", deposit)

        def build(_: datetime) -> Draft:
            newest = self.history.sealing
            if newest is None:
                raise Refused("not-sealed", "no list is sealed", "The statistician runs `allocator generate` first.")
            fields = {"sealing": newest.fields["sealing"], "root": newest.fields["root"]}
            return Draft(kind="activated", fields=fields, details={"deposit": deposit})

        return self._writer.write(actor, "activated", build)

    def change_state(self, actor: Actor, kind: str, reason: str) -> Record:
        """Pause, resume or close: kind ``paused``, ``resumed`` or ``closed``."""
        draft = Draft(kind=kind, details=_reason(reason))
        return self._writer.write(actor, kind, lambda _: draft)

    # ---- one's own keys ---------------------------------------------------------------------------------------

    def enrol(self, person_id: str, code: str, passphrase: Callable[[], str]) -> Record:
        """Make one's own keys under one's own passphrase. A wrong code is recorded and refused."""
        person = self.history.person(person_id)
        if person is None or not person.active:
            self._writer.write_failure(None, "person-enrolled", "unknown-person")
            raise CredentialError(
                "unknown-person", f"{shown(person_id)} was not invited to this study", "Ask the sponsor."
            )
        if person.enrolled:
            raise Refused("enrolled-already", f"{person_id} is enrolled already", "Sign with your passphrase.")
        code = code.strip().upper()
        if code_digest(self.study.fingerprint, person_id, code) != person.code_digest:
            self._writer.write_failure(person_id, "person-enrolled", "wrong-code")
            raise CredentialError("wrong-code", "this is not the one-time code of this person", "Ask the sponsor.")
        secret = passphrase()
        check_passphrase(secret, self.mode)
        keys = PrivateKeys.from_entropy(self._entropy(64))
        # The key file first: a record without it would bind the person to keys that nobody has.
        self._keys.write(self.study.id, person_id, keys, secret, self._entropy)
        fields = {"sign_key": keys.sign_key.hex(), "seal_key": keys.seal_key.hex(), "code": code}
        draft = Draft(kind="person-enrolled", fields=fields)
        return self._writer.write(Actor(person=person_id, keys=keys), draft.kind, lambda _: draft)

    def change_passphrase(self, actor: Actor, passphrase: Callable[[], str]) -> Record:
        """Encrypt one's keys under another passphrase; recorded first, so that no change goes unrecorded."""
        secret = passphrase()
        check_passphrase(secret, self.mode)
        record = self._writer.write(actor, "passphrase-changed", lambda _: Draft(kind="passphrase-changed"))
        self._keys.write(self.study.id, actor.person, actor.keys, secret, self._entropy)
        return record

    # ---- statistician -----------------------------------------------------------------------------------------

    def generate(
        self, actor: Actor, design: RandomizationDesign, *, reason: str = "", seeds: Sequence[bytes] = ()
    ) -> Record:
        """Draw the seed, generate, seal, commit. No arm leaves this call, and none reaches a disk in plain.

        sealed.json is written beside the old one first and takes its name after the commit; `_sealed` finishes the
        renaming after a crash between the two.
        """
        design = design.for_study(self.study)
        if seeds and (len(seeds) != 2 or any(len(seed) != 32 for seed in seeds)):
            raise InputError("seed", "--seed takes 64 hexadecimal digits, twice: one for each share of the seed")
        if reason:
            _require_text("reason", reason)

        def build(_: datetime) -> Draft:
            allocation.check_state("generated", self.history.state)
            if seeds and self.mode != "test":
                raise Refused("seed-given", "a given seed is for mode test only", "Leave --seed away.")
            sealed = self._seal(actor, design, list(seeds) or [self._entropy(32), self._entropy(32)])
            data = sealed.to_bytes()
            _write_next(self.place.sealed_file, data)
            fields = {
                "sealing": sealed.sealing.hex(),
                "algorithm": ALGORITHM,
                "root": sealed.root.hex(),
                "sealed_digest": hashlib.sha256(data).hexdigest(),
                "design_commitment": sealed.design_commitment.hex(),
                "seed_commitments": [share.commitment for share in sealed.shares],
                "holders": [share.person for share in sealed.shares],
                "seed_origin": "given" if seeds else "system",
            }
            return Draft(kind="generated", fields=fields, details={"reason": reason} if reason else {})

        record = self._writer.write(actor, "generated", build)
        self._sealed()
        return record

    def _seal(self, actor: Actor, design: RandomizationDesign, shares: Sequence[bytes]) -> sealing.SealedSchedule:
        custodian = next(
            (p for p in self.history.people.values() if Role.CUSTODIAN in p.roles and p.enrolled and p.active), None
        )
        if custodian is None:
            raise Refused(
                "no-custodian",
                "no enrolled custodian can hold the second share of the seed",
                "The sponsor adds one, someone outside the trial team, who then enrols.",
            )
        sealing_id, salt = self._entropy(16), self._entropy(32)
        schedule = generate_schedule(self.study, design, salt, shares)
        key_p, key_i = self._entropy(32), self._entropy(32)
        nonces = self._entropy(12 * sum(len(stratum.arms) for stratum in schedule.strata))
        strata, root = sealing.seal_schedule(schedule, self.study.fingerprint, sealing_id, key_p, key_i, nonces)
        holders = ((actor.person, actor.keys.seal_key), (custodian.id, custodian.seal_key))
        envelopes = []
        for (person, public_key), share in zip(holders, shares, strict=True):
            plain = canonical_bytes({"share": share.hex(), "design": design.plain(), "salt": salt.hex()})
            info = context("share", self.study.fingerprint, sealing_id, person)
            envelopes.append(
                sealing.Envelope(
                    person=person,
                    commitment=sealing.seed_commitment(share).hex(),
                    envelope=seal_to(public_key, padded(plain), info).hex(),
                )
            )
        info = context("keys", self.study.fingerprint, sealing_id, actor.person)
        return sealing.SealedSchedule(
            study=self.study.id,
            fingerprint=self.study.fingerprint,
            sealing=sealing_id,
            design_commitment=schedule.design_commitment,
            root=root,
            strata=strata,
            shares=tuple(envelopes),
            keys=sealing.Envelope(
                person=actor.person,
                commitment="",
                envelope=seal_to(actor.keys.seal_key, key_p + key_i, info).hex(),
            ),
        )

    def grant(self, actor: Actor, person_id: str) -> Record:
        """Give a pharmacist K_p or an investigator K_i, sealed to that person's key."""
        _require_id(person_id)

        def build(_: datetime) -> Draft:
            allocation.check_state("granted", self.history.state)
            sealed, grantee = self._required_sealed(), self.history.person(person_id)
            role = next(
                (r for r in (grantee.roles if grantee else ()) if r in (Role.PHARMACIST, Role.INVESTIGATOR)), None
            )
            if grantee is None or role is None or not grantee.enrolled:
                raise Refused(
                    "cannot-grant",
                    f"{person_id} is no enrolled pharmacist or investigator of this study",
                    "Only pharmacists and investigators are granted a half, after they have enrolled.",
                )
            if sealed.keys.person != actor.person:
                raise Refused(
                    "not-the-holder", f"{sealed.keys.person} generated this list and holds its keys", "Ask them."
                )
            info = context("keys", self.study.fingerprint, sealed.sealing, actor.person)
            both = open_sealed(actor.keys.opening, bytes.fromhex(sealed.keys.envelope), info)
            half = both[:32] if role == Role.PHARMACIST else both[32:]
            info = context("grant", self.study.fingerprint, sealed.sealing, person_id)
            fields = {
                "grantee": person_id,
                "half": str(role),
                "sealing": sealed.sealing.hex(),
                "envelope": seal_to(grantee.seal_key, half, info).hex(),
            }
            return Draft(kind="granted", fields=fields)

        return self._writer.write(actor, "granted", build)

    # ---- investigator -----------------------------------------------------------------------------------------

    def confirm(
        self,
        actor: Actor,
        participant: str,
        form: AnswersForm,
        stratum: Mapping[str, str],
        *,
        rescreen: bool = False,
        correcting: int | None = None,
        reason: str = "",
    ) -> tuple[Record, Judgement]:
        """Judge a participant's answers; an eligible participant's confirmation binds the next entry of the stratum.

        The record is ``confirmed`` with the investigator's half for the bound position, or ``screen-failed``.
        """
        self.require_participant(participant)
        if reason:
            _require_text("reason", reason)
        outcome: list[Judgement] = []

        def build(now: datetime) -> Draft:
            allocation.check_state("confirmed", self.history.state)
            chosen = allocation.stratum_of(dict(stratum), self.study.strata)
            previous = self.history.allocation(participant)
            allocation.check_unallocated(participant, previous.seq if previous else None)
            attempt = self._attempt(participant, rescreen=rescreen, correcting=correcting, reason=bool(reason))
            judgement = judge(self.study, form, now)
            outcome.append(judgement)
            fields: dict[str, Any] = {
                "participant": participant,
                "stratum": chosen,
                "fingerprint": self.study.fingerprint.hex(),
                "attempt": attempt,
            }
            details = {"answers": form_bytes(form).decode("utf-8"), **({"reason": reason} if reason else {})}
            if not judgement.eligible:
                return Draft(kind="screen-failed", fields=fields, details=details)
            fields |= self._binding(actor, participant, stratum_label(chosen), now)
            return Draft(kind="confirmed", fields=fields, details=details)

        record = self._writer.write(actor, "confirmed", build, participant=participant)
        return record, outcome[-1]

    def _attempt(self, participant: str, *, rescreen: bool, correcting: int | None, reason: bool) -> dict[str, Any]:
        previous = self.history.latest_attempt(participant)
        if rescreen:
            attempt_type, of = "rescreen", previous.seq if previous else None
        elif correcting is not None:
            attempt_type, of = "correcting", correcting
        else:
            attempt_type, of = ("again", previous.seq) if previous else ("first", None)
        allocation.check_attempt(
            participant=participant, previous=previous, attempt_type=attempt_type, of=of, reason=reason
        )
        return {"type": attempt_type, "of": of}

    def _binding(self, actor: Actor, participant: str, label: str, now: datetime) -> dict[str, Any]:
        """The lowest free position of the stratum and the investigator's half for it."""
        sealed = self._required_sealed()
        stratum = self._sealed_stratum(sealed, label)
        position = self.history.lowest_free(
            label,
            length=len(stratum.entries),
            now=now,
            hours=self.study.confirmation_hours,
            participant=participant,
        )
        half = sealing.half_key(self._granted_key(actor, sealed), sealed.sealing, label, position)
        return {"position": position, "sealing": sealed.sealing.hex(), "release": half.hex()}

    def withdraw(self, actor: Actor, participant: str, reason: str) -> Record:
        """Withdraw a confirmation before the allocation; its position is free for the next one."""
        self.require_participant(participant)

        def build(_: datetime) -> Draft:
            previous, attempt = self.history.allocation(participant), self.history.latest_attempt(participant)
            allocation.check_unallocated(participant, previous.seq if previous else None)
            if attempt is None or not attempt.confirmed or attempt.withdrawn:
                raise Refused("nothing-to-withdraw", f"{participant} has no confirmation to withdraw")
            fields = {"participant": participant, "confirmation": attempt.seq}
            return Draft(kind="confirmation-withdrawn", fields=fields, details=_reason(reason))

        return self._writer.write(actor, "confirmation-withdrawn", build, participant=participant)

    # ---- pharmacist -------------------------------------------------------------------------------------------

    def reveal(self, actor: Actor, participant: str, retyped: str) -> Allocation:
        """Allocate a participant and reveal the arm; a repeat reveals the same allocation again and says so.

        The entry is opened in memory and held to its commitment, the record is durable, and only then does this
        return. A crash before the commit allocates nothing; after it, the same request shows the same allocation.
        """
        self.require_participant(participant)

        def build(now: datetime) -> Draft:
            if retyped != participant:
                raise Refused(
                    "retype-differs",
                    f"the participant retyped is not {participant}",
                    "Nothing was allocated. Check the participant, then ask again.",
                )
            again = self.history.allocation(participant)
            if again is not None:
                return Draft(kind="shown-again", fields={"participant": participant, "allocation": again.seq})
            return self._allocate(actor, participant, now)

        record = self._writer.write(actor, "allocated", build, participant=participant)
        return self._reveal_logged(record)

    def check_reveal(self, actor: Actor, participant: str) -> None:
        """Whether a request would be granted now; writes nothing, opens nothing. Raises Refused."""
        self.require_participant(participant)
        self._writer.check_role(actor, "allocated")
        if self.history.allocation(participant) is None:
            self._check_request(actor, participant, self._clock())

    def _check_request(self, actor: Actor, participant: str, now: datetime) -> Record:
        allocation.check_state("allocated", self.history.state)
        attempt = allocation.check_request(
            participant=participant,
            requester=actor.person,
            attempt=self.history.latest_attempt(participant),
            allocated=self.history.allocated,
            enrollment=self.study.enrollment,
            hours=self.study.confirmation_hours,
            now=now,
        )
        confirmation = self._store.record(attempt.seq)
        if confirmation is None:
            raise RuntimeError("an attempt without its record")
        return confirmation

    def _allocate(self, actor: Actor, participant: str, now: datetime) -> Draft:
        confirmation = self._check_request(actor, participant, now).fields
        sealed, position = self._required_sealed(), confirmation["position"]
        label = stratum_label(confirmation["stratum"])
        arm, salt = sealing.open_entry(
            self._sealed_stratum(sealed, label),
            position,
            sealing.half_key(self._granted_key(actor, sealed), sealed.sealing, label, position),
            bytes.fromhex(confirmation["release"]),
            sealed.fingerprint,
            sealed.sealing,
        )
        return Draft(
            kind="allocated",
            fields={
                "participant": participant,
                "stratum": confirmation["stratum"],
                "position": position,
                "number": self.history.allocated + 1,
                "sealing": sealed.sealing.hex(),
                "confirmation": confirmation["seq"],
                "arm": arm,
                "salt": salt.hex(),
            },
        )

    def _reveal_logged(self, record: Record) -> Allocation:
        """Show what is already durable in the log, and nothing else."""
        logged = record if record.kind == "allocated" else self.history.allocation(record.fields["participant"])
        if logged is None:
            raise RuntimeError("nothing is logged that could be shown")
        return Allocation(
            participant=logged.fields["participant"],
            number=logged.fields["number"],
            arm=self.study.arms[logged.fields["arm"]],
            stratum=logged.fields["stratum"],
            time=logged.fields["time"],
            repeated=record.kind != "allocated",
            mode=logged.fields["mode"],
            record=record if record.kind == "allocated" else logged,
        )

    def look_up(self, actor: Actor, participant: str) -> Allocation:
        """The allocation of a participant who has one; the look-up is recorded (L06)."""
        return self._about(actor, participant, "looked-up", {})

    def unblind(self, actor: Actor, participant: str, reason: str) -> Allocation:
        """One participant's arm, nobody else's, with the reason recorded (U01, U02)."""
        return self._about(actor, participant, "unblinded", _reason(reason))

    def _about(self, actor: Actor, participant: str, kind: str, details: Mapping[str, str]) -> Allocation:
        self.require_participant(participant)

        def build(_: datetime) -> Draft:
            fields = {"participant": participant, "allocation": self._allocation_seq(participant)}
            return Draft(kind=kind, fields=fields, details=details)

        return self._reveal_logged(self._writer.write(actor, kind, build, participant=participant))

    def correct(self, actor: Actor, participant: str, what: str, value: str, reason: str) -> Record:
        """A correction beside the allocation, which stands: nothing is ever undone (X01–X06)."""
        self.require_participant(participant)
        _require_text("value", value)
        if what == "participant":
            self.require_participant(value)
        if what == "stratum":
            parse_stratum(value.split(","), self.study)

        def build(_: datetime) -> Draft:
            fields = {"participant": participant, "allocation": self._allocation_seq(participant), "what": what}
            return Draft(kind="corrected", fields=fields, details={"value": value, **_reason(reason)})

        return self._writer.write(actor, "corrected", build, participant=participant)

    def _allocation_seq(self, participant: str) -> int:
        record = self.history.allocation(participant)
        if record is None:
            raise Refused("not-allocated", f"{participant} has no allocation", "Look with `allocator show`.")
        return record.seq

    # ---- looking ----------------------------------------------------------------------------------------------

    def summary(self, participant: str) -> Summary | None:
        """What a pharmacist checks before the reveal; None when the latest attempt is no confirmation."""
        self.require_participant(participant)
        record = self._store.newest(ATTEMPT_KINDS, participant=participant)
        if record is None or record.kind != "confirmed":
            return None
        form = parse_form(self._store.details(record.seq)["answers"].value.encode("utf-8"))
        return Summary(
            study=f"{self.study.id}  {self.study.title}",
            mode=self.mode,
            home=str(self.place.home),
            participant=participant,
            answers=tuple(summary_lines(self.study, form)),
            stratum=record.fields["stratum"],
            confirmed_by=self.name_of(record.fields["person"]),
            confirmed_at=record.time,
        )

    def name_of(self, person_id: str) -> str:
        """A person's id with the name given when added."""
        for record in self._store.records(("study-opened", "person-added")):
            if record.fields.get("added", record.fields["person"]) == person_id:
                return f"{person_id} ({self._store.details(record.seq)['name'].value})"
        return person_id

    def participant_state(self, participant: str) -> str:
        """allocated, confirmed, expired, withdrawn, refused, waiting (asked for, not yet confirmed), or unknown."""
        self.require_participant(participant)
        if self.history.allocation(participant) is not None:
            return "allocated"
        attempt = self.history.latest_attempt(participant)
        if attempt is None:
            return "waiting" if any(self._store.records(participant=participant)) else "unknown"
        if not attempt.confirmed:
            return "refused"
        if attempt.withdrawn:
            return "withdrawn"
        return "confirmed" if attempt.holds(self._clock(), self.study.confirmation_hours) else "expired"

    def participant_records(self, participant: str) -> list[Record]:
        """All records that name a participant, in order."""
        return list(self._store.records(participant=participant))

    def records(self, *, follow: bool = False, pause: Callable[[float], None] = time.sleep) -> Iterator[Record]:
        """All records in order; with `follow` waits for further ones, without end."""
        following = 0
        while True:
            for record in list(self._store.records(since=following)):
                yield record
                following = record.seq + 1
            if not follow:
                return
            pause(1.0)

    def status(self) -> dict[str, Any]:
        """State and counts; no arm totals, block sizes, positions or list length (C03)."""
        last, opening = self._store.last(), self.history.opening
        newest = self.history.sealing
        return {
            "study": self.study.id,
            "mode": self.mode,
            "state": self.history.state,
            "allocated": self.history.allocated,
            "enrollment": self.study.enrollment,
            "waiting": self.history.waiting(now=self._clock(), hours=self.study.confirmation_hours),
            "undecided": self.history.undecided_blockers(),
            "opened": opening.fields["time"] if opening else None,
            "records": last.seq + 1 if last else 0,
            "head": last.hash.hex() if last else None,
            "root": newest.fields["root"] if newest else None,
            "first_record": opening.hash.hex() if opening else None,
        }

    def require_participant(self, participant: str) -> None:
        """InputError unless this is a participant id of the study (L09: a pattern, so that no name is taken)."""
        if not self.study.is_participant(participant):
            raise InputError(
                "participant",
                f"{shown(participant[:60])!r} is no participant id of {self.study.id}",
                f"Ids match {self.study.participant} in plain ASCII. Nothing was recorded.",
            )

    # ---- the sealed schedule ----------------------------------------------------------------------------------

    def _sealed(self) -> sealing.SealedSchedule | None:
        """The sealed schedule of the newest ``generated`` record, held to the digest in the log, kept in memory."""
        newest = self.history.sealing
        if newest is None:
            return None
        digest = newest.fields["sealed_digest"]
        if self._sealed_cache is None or self._sealed_cache[0] != digest:
            self._sealed_cache = digest, read_sealed(self.place.sealed_file, digest)
        return self._sealed_cache[1]

    def _required_sealed(self) -> sealing.SealedSchedule:
        sealed = self._sealed()
        if sealed is None:
            raise Refused("not-sealed", "no list is sealed", "The statistician runs `allocator generate` first.")
        return sealed

    def _sealed_stratum(self, sealed: sealing.SealedSchedule, label: str) -> sealing.SealedStratum:
        stratum = sealed.stratum(label)
        if stratum is None:
            raise EvidenceError("sealed-file", "the stratum is not in the sealed schedule", "Run `allocator verify`.")
        return stratum

    def _granted_key(self, actor: Actor, sealed: sealing.SealedSchedule) -> bytes:
        """This person's K_p or K_i."""
        record = self.history.grant_of(actor.person, sealed.sealing.hex())
        if record is None:
            raise Refused(
                "not-granted",
                f"{actor.person} has not been granted a half of the key",
                "Ask the statistician to run `allocator grant`.",
            )
        info = context("grant", self.study.fingerprint, sealed.sealing, actor.person)
        return open_sealed(actor.keys.opening, bytes.fromhex(record.fields["envelope"]), info)


def read_study_copy(place: StudyPlace) -> Study:
    """The study from the home's own copy; EvidenceError when it is no study any more."""
    try:
        return Study.from_tables(tomllib.loads(place.study_file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, StudyError) as error:
        raise EvidenceError(
            "study-file",
            f"the home's study.toml cannot be read: {error}",
            "Put the original file back. Nothing was done.",
        ) from error


def read_sealed(path: Path, digest: str) -> sealing.SealedSchedule:
    """sealed.json, held to the digest in the log. EvidenceError when it is another file."""
    following = path.with_name(path.name + ".next")
    try:
        if following.exists() and hashlib.sha256(following.read_bytes()).hexdigest() == digest:
            following.replace(path)  # a crash came between the commit and this renaming
            sync_folder(path.parent)
        data = path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            "sealed-file", f"sealed.json cannot be read: {error.strerror}", "Restore the file from a backup."
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise EvidenceError(
            "sealed-file", "sealed.json is not the file sealed in the log", "Restore the file from a backup."
        )
    return sealing.SealedSchedule.from_bytes(data)


def one_time_code(entropy: Callable[[int], bytes]) -> str:
    """100 random bits in five groups of four characters, to read over a telephone."""
    number = int.from_bytes(entropy(13), "big")
    characters = [_CODE_ALPHABET[(number >> (5 * i)) & 31] for i in range(20)]
    return "-".join("".join(characters[i : i + 4]) for i in range(0, 20, 4))


def check_passphrase(passphrase: str, mode: str) -> None:
    """CredentialError for a passphrase that is too short: 8 characters in production, 1 in mode test."""
    least = 8 if mode == "production" else 1
    if len(passphrase) < least:
        raise CredentialError(
            "passphrase-short",
            f"a passphrase needs at least {least} character{'s' if least > 1 else ''}",
            "Several words are easy to remember and hard to guess.",
        )


def parse_stratum(pairs: Sequence[str], study: Study) -> dict[str, str]:
    """FACTOR=LEVEL texts as a stratum in declared order; InputError or Refused otherwise."""
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, level = pair.partition("=")
        if not equals or name.strip() in given:
            raise InputError("stratum", f"{shown(pair)!r} is not FACTOR=LEVEL, each factor once")
        given[name.strip()] = level.strip()
    return allocation.stratum_of(given, study.strata)


def _write_next(path: Path, data: bytes) -> None:
    write_durably(path.with_name(path.name + ".next"), data)


def _reason(reason: str) -> dict[str, str]:
    _require_text("reason", reason)
    return {"reason": reason}


def _require_text(name: str, value: str) -> None:
    if fault := text_fault(value):
        raise InputError(name, f"the {name} {fault}", "Write up to 500 printable characters.")


def _require_id(value: str) -> None:
    if not is_identifier(value):
        raise InputError(
            "id", f"{shown(value[:60])!r} is no id", "Ids are ASCII letters, digits and . _ -, at most 40 characters."
        )

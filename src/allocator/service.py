"""AllocationService: every act of a study; here those about participants: confirm, allocate, reveal, correct.

Each method is one act: it builds a draft from values, `writer` holds it to the rules and makes it durable, and only
then is anything returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allocator import allocation, sealing
from allocator.canonical import format_time, parse_time
from allocator.eligibility import AnswersForm, Judgement, form_bytes, judge, parse_form, summary_lines
from allocator.errors import EvidenceError, InputError, Refused
from allocator.listing import ListingService
from allocator.log import ALLOCATION_KINDS, ATTEMPT_KINDS, Record
from allocator.person import check_signature
from allocator.recovery import original_record
from allocator.session import reason_detail, require_text
from allocator.study import Arm, Study, stratum_label
from allocator.text import shown
from allocator.writer import Actor, Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """An allocation that is logged, and may be shown.

    `record` is the allocation's own; `act` is that of the request which shows it now: the same one, or a repeat, a
    look-up, an unblinding.
    """

    participant: str
    number: int
    arm: Arm
    stratum: Mapping[str, str]
    time: str
    repeated: bool
    mode: str
    record: Record
    act: Record

    @property
    def made(self) -> Record:
        """The record by which it was made: the lost one where this was entered from its receipt."""
        return original_record(self.record.fields["original"]) if "original" in self.record.fields else self.record


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


class AllocationService(ListingService):
    """The acts of one study in one home."""

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
            require_text("reason", reason)
        outcome: list[Judgement] = []

        def build(now: datetime) -> Draft:
            allocation.check_state("confirmed", self.history.state)
            self.check_undisclosed()
            chosen = allocation.stratum_of(dict(stratum), self.study.strata)
            self.history.check_unallocated(participant)
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

    def check_confirm(
        self,
        actor: Actor,
        participant: str,
        stratum: Mapping[str, str],
        *,
        rescreen: bool,
        correcting: int | None,
        reason: str,
    ) -> None:
        """Whether a form would be taken at all, asked before a person fills it in; a refusal is recorded. Refused."""
        self.require_participant(participant)
        try:
            self._writer.check_role(actor, "confirmed")
            allocation.check_state("confirmed", self.history.state)
            allocation.stratum_of(dict(stratum), self.study.strata)
            self.history.check_unallocated(participant)
            self._attempt(participant, rescreen=rescreen, correcting=correcting, reason=bool(reason))
            self._granted_key(actor, self._required_sealed())
        except Refused as refusal:
            self._writer.refuse(actor, "confirmed", refusal, participant)
            raise

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
            self.history.check_unallocated(participant)
            attempt = allocation.check_withdrawal(participant, self.history.latest_attempt(participant))
            fields = {"participant": participant, "confirmation": attempt.seq}
            return Draft(kind="confirmation-withdrawn", fields=fields, details=reason_detail(reason))

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

    def late(
        self, actor: Actor, participant: str, event_time: datetime, reason: str, *, told: str | None = None
    ) -> Allocation:
        """Enter an allocation that was made on paper while the system was down (A11); it takes the bound entry.

        Args:
            actor: a pharmacist.
            participant: confirmed in the system by now, as for a request.
            event_time: when it was done on paper.
            reason: recorded.
            told: code of the arm told on paper; recorded beside the entry's own, whether or not they agree.
        """
        self.require_participant(participant)
        codes = [arm.code for arm in self.study.arms]
        if told is not None and told not in codes:
            raise InputError("arm", f"{shown(told)!r} is no arm of this study", f"Arms: {', '.join(codes)}.")
        event = event_time.replace(microsecond=event_time.microsecond // 1000 * 1000)

        def build(now: datetime) -> Draft:
            self.history.check_unallocated(participant)
            allocated = self._allocate(actor, participant, now)
            fields = {
                **allocated.fields,
                "event_time": format_time(event),
                "told": None if told is None else codes.index(told),
            }
            return Draft(kind="late", fields=fields, details=reason_detail(reason))

        record = self._writer.write(actor, "late", build, participant=participant)
        return self._reveal_logged(record)

    def later_than_its_successor(self, allocation_: Allocation) -> bool:
        """Whether the paper used an entry after one that follows it: the slots on paper were out of order (A11)."""
        event = allocation_.record.fields.get("event_time")
        if event is None:
            return False
        own = allocation_.record.fields
        return any(
            record.fields["stratum"] == own["stratum"]
            and (record.fields["position"] < own["position"]) != (_event_time(record) < parse_time(event))
            for record in self._store.records(ALLOCATION_KINDS)
            if record.seq != allocation_.record.seq
        )

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
        confirmed = self._check_request(actor, participant, now)
        self.check_undisclosed()
        if "answers" not in self.history.details(confirmed):
            raise EvidenceError(
                "answers-missing",
                f"the answers on which {participant} was confirmed are gone",
                "Nothing was allocated. The investigator confirms again; the sponsor runs `allocator verify`.",
            )
        confirmation = confirmed.fields
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
                "number": self.history.last_number + 1,
                "sealing": sealed.sealing.hex(),
                "confirmation": confirmation["seq"],
                "arm": arm,
                "salt": salt.hex(),
            },
        )

    def _reveal_logged(self, record: Record) -> Allocation:
        """Show what is already durable in the log, and nothing else."""
        new = record.kind in ALLOCATION_KINDS
        logged = record if new else self.history.allocation(record.fields["participant"])
        if logged is None:
            raise RuntimeError("nothing is logged that could be shown")
        if logged is not record:
            self._check_unchanged(logged)
        made = original_record(logged.fields["original"]) if "original" in logged.fields else logged
        return Allocation(
            participant=record.fields["participant"],
            number=logged.fields["number"],
            arm=self.study.arms[logged.fields["arm"]],
            stratum=logged.fields["stratum"],
            time=made.fields["time"],
            repeated=not new,
            mode=logged.fields["mode"],
            record=logged,
            act=record,
        )

    def _check_unchanged(self, logged: Record) -> None:
        """A stored allocation is held to its signature before it is shown again: never a wrong arm from a changed file.

        To its commitment too, where the sealed file is there: a look-up must not depend on it.
        """
        fields, person = logged.fields, self.history.person(logged.fields["person"])
        try:
            check_signature(
                person.sign_key if person else b"", fields["signature"], logged.prev, logged.unsigned_body()
            )
            if (stratum := self._sealed_stratum_if_there(fields)) is not None:
                sealing.check_opened(
                    stratum,
                    fields["position"],
                    fields["arm"],
                    bytes.fromhex(fields["salt"]),
                    self.study.fingerprint,
                    bytes.fromhex(fields["sealing"]),
                )
        except EvidenceError as error:
            raise EvidenceError(
                "allocation-changed",
                f"the stored allocation of {logged.fields['participant']} was changed after it was signed",
                "Give nothing on the word of this screen. Call the sponsor; run `allocator verify`.",
            ) from error

    def _sealed_stratum_if_there(self, fields: Mapping[str, Any]) -> sealing.SealedStratum | None:
        try:
            sealed = self._sealed()
        except EvidenceError:
            return None
        return sealed.stratum(stratum_label(fields["stratum"])) if sealed else None

    def look_up(self, actor: Actor, participant: str) -> Allocation:
        """The allocation of a participant who has one; the look-up is recorded (L06)."""
        return self._about(actor, participant, "looked-up", {})

    def unblind(self, actor: Actor, participant: str, reason: str) -> Allocation:
        """One participant's arm, nobody else's, with the reason recorded (U01, U02)."""
        return self._about(actor, participant, "unblinded", reason_detail(reason))

    def _about(self, actor: Actor, participant: str, kind: str, details: Mapping[str, str]) -> Allocation:
        self.require_participant(participant)

        def build(_: datetime) -> Draft:
            fields = {"participant": participant, "allocation": self._allocation_seq(participant)}
            return Draft(kind=kind, fields=fields, details=details)

        return self._reveal_logged(self._writer.write(actor, kind, build, participant=participant))

    def reassign(self, actor: Actor, participant: str, to: str, reason: str) -> tuple[Record, bool]:
        """Move an allocation made under a wrong id to the participant whose it is: two signatures (X06).

        The first states it, the second, by another person, makes it so; returns the record and whether it is so now.
        """
        self.require_participant(participant)
        self.require_participant(to)

        def build(_: datetime) -> Draft:
            own, details = self._allocation_seq(participant), reason_detail(reason)
            proposal = self.history.proposal(participant)
            stands = proposal is not None and (proposal.fields["to"], proposal.fields["allocation"]) == (to, own)
            if proposal is None or not stands:
                fields: dict[str, Any] = {"participant": participant, "to": to, "allocation": own}
                return Draft(kind="reassignment-proposed", fields=fields, details=details)
            fields = {"participant": to, "from": participant, "proposal": proposal.seq, "allocation": own}
            return Draft(kind="reassigned", fields=fields, details=details)

        record = self._writer.write(actor, "reassigned", build, participant=participant)
        return record, record.kind == "reassigned"

    def correct(self, actor: Actor, participant: str, what: str, value: str, reason: str) -> Record:
        """A correction beside the allocation, which stands: nothing is ever undone (X01–X06)."""
        self.require_participant(participant)
        require_text("value", value)
        if what == "stratum":
            parse_stratum(value.split(","), self.study)

        def build(_: datetime) -> Draft:
            fields = {"participant": participant, "allocation": self._allocation_seq(participant), "what": what}
            return Draft(kind="corrected", fields=fields, details={"value": value, **reason_detail(reason)})

        return self._writer.write(actor, "corrected", build, participant=participant)

    def _allocation_seq(self, participant: str) -> int:
        record = self.history.allocation(participant)
        if record is None:
            raise Refused("not-allocated", f"{participant} has no allocation", "Look with `allocator show`.")
        return record.seq

    # ---- looking ----------------------------------------------------------------------------------------------

    def summary(self, participant: str) -> Summary | None:
        """What a pharmacist checks before the reveal; None without a confirmation that holds, or an allocation."""
        if self.participant_state(participant) not in ("confirmed", "allocated"):
            return None
        record = self._store.newest(ATTEMPT_KINDS, participant=participant)
        if record is None or record.kind != "confirmed":
            return None
        stored = self.history.details(record).get("answers")
        answers = summary_lines(self.study, parse_form(stored.encode("utf-8"))) if stored else []
        return Summary(
            study=f"{self.study.id}  {self.study.title}",
            mode=self.mode,
            home=str(self.place.home),
            participant=participant,
            answers=tuple(answers),
            stratum=record.fields["stratum"],
            confirmed_by=self.name_of(record.fields["person"]),
            confirmed_at=record.time,
        )

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
        """All records that name a participant, in order; also those of another id whose allocation is theirs (X06)."""
        found = [r for name in self.ids_of(participant) for r in self._store.records(participant=name)]
        return sorted(found, key=lambda record: record.seq)

    def ids_of(self, participant: str) -> set[str]:
        """This id, and every other one under which an allocation was made that was moved to it."""
        moves = self._store.records(("reassigned",), participant=participant)
        return {participant, *(str(record.fields["from"]) for record in moves)}

    def require_participant(self, participant: str) -> None:
        """InputError unless this is a participant id of the study (L09: a pattern, so that no name is taken)."""
        if not self.study.is_participant(participant):
            raise InputError(
                "participant",
                f"{shown(participant[:60])!r} is no participant id of {self.study.id}",
                f"Ids match {self.study.participant} in plain ASCII. Nothing was recorded.",
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


def _event_time(record: Record) -> datetime:
    """When an allocation was made: on paper, where it was entered late."""
    return parse_time(record.fields["event_time"]) if "event_time" in record.fields else record.time

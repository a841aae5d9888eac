"""AllocationService: every act of a study; here those about allocations: reveal, enter late, look up, correct.

Each method is one act: it builds a draft from values, `writer` holds it to the rules and makes it durable, and only
then is anything returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allocator import allocation, sealing
from allocator.canonical import format_time, parse_time
from allocator.confirming import ConfirmingService, parse_stratum
from allocator.errors import EvidenceError, InputError, Refused
from allocator.log import ALLOCATION_KINDS, Record
from allocator.person import check_signature
from allocator.recovery import original_record
from allocator.session import reason_detail, require_text
from allocator.study import Arm, stratum_label
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


class AllocationService(ConfirmingService):
    """The acts of one study in one home."""

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


def _event_time(record: Record) -> datetime:
    """When an allocation was made: on paper, where it was entered late."""
    return parse_time(record.fields["event_time"]) if "event_time" in record.fields else record.time

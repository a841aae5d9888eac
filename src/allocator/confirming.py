"""ConfirmingService: what is asked, answered and confirmed of a participant before the allocation; and who is known.

Each method is one act, as in `service`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allocator import allocation, sealing
from allocator.eligibility import AnswersForm, Judgement, form_bytes, judge, parse_form, summary_lines
from allocator.errors import InputError, Refused
from allocator.listing import ListingService
from allocator.log import ATTEMPT_KINDS, Record
from allocator.session import reason_detail, require_text
from allocator.study import Study, stratum_label
from allocator.text import shown
from allocator.writer import Actor, Draft


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


class ConfirmingService(ListingService):
    """The acts up to a confirmation, and what is known of a participant."""

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

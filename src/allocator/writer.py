"""Write one record: lock, transaction, rules, signature, durable commit, head. In this order, for every act.

Nothing is shown before `RecordWriter.write` returns: log first, reveal second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from allocator import PROGRAM
from allocator.allocation import CLOCK_TOLERANCE
from allocator.canonical import canonical_bytes, format_time
from allocator.case import Case
from allocator.errors import AllocatorError, CredentialError, EvidenceError, Refused, StorageError
from allocator.history import History
from allocator.keys import KeyFolder, PrivateKeys
from allocator.log import FORMAT, KINDS, Detail, Record, detail_commitment, new_record
from allocator.person import Role, acting_role, sign
from allocator.relocation import check_here
from allocator.rules import check_record
from allocator.sealing import SealedSchedule
from allocator.store import Store
from allocator.study import Study

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # no record of this format is older: such a clock was never set
# What stands on everything before it. A look-up, a pause or an unblinding must not wait for a log to be mended.
NEED_WHOLE_LOG = (
    *(
        "generated",
        "imported",
        "granted",
        "activated",
        "resumed",
        "confirmed",
        "allocated",
        "late",
        "reassigned",
        "resealed",
    ),
    *("receipt-entered", "recovered", "moved", "arrived"),
)
NEED_SEALED = ("confirmed", "allocated", "late", "receipt-entered")  # kinds whose rules look into the sealed schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person who has given their passphrase."""

    person: str
    keys: PrivateKeys = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an act wants recorded: a kind, its own fields, its private details."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


class RecordWriter:
    """The one way into a log."""

    def __init__(
        self,
        *,
        study: Study,
        store: Store,
        keys: KeyFolder,
        sealed: Callable[[], SealedSchedule | None],
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes],
        notify: Callable[[str], None],
    ) -> None:
        self._study, self._store, self._keys, self._sealed = study, store, keys, sealed
        self._clock, self._entropy, self._notify = clock, entropy, notify
        self.history = History(store)

    def write(
        self, actor: Actor, action: str, build: Callable[[datetime], Draft], *, participant: str | None = None
    ) -> Record:
        """Perform one signed act and return its record, durable.

        Args:
            actor: who acts.
            action: the kind of record intended; its role table decides, and a refusal names it.
            build: makes the draft from the time of the act, inside the transaction; may raise Refused.
            participant: named in a refusal.

        Raises:
            Refused, EvidenceError: a rule says no; a ``refused`` record says so in the log. Nothing else was written.
            StorageError: nothing was written.
        """
        with self.writing(actor, action, build, participant=participant) as record:
            return record

    @contextmanager
    def writing(
        self, actor: Actor, action: str, build: Callable[[datetime], Draft], *, participant: str | None = None
    ) -> Iterator[Record]:
        """As `write`; nobody else writes until the context is left."""
        if action in NEED_WHOLE_LOG and not self.history.was_followed:
            with suppress(
                EvidenceError
            ):  # a long log is followed before others wait; what is wrong is said in one's turn
                self.history.follow()
        with self._keys.lock():
            try:
                with self._store.transaction(participant):
                    now = self._now(action)
                    role = self.check_role(actor, action)
                    draft = build(now)
                    record = self._append(actor, role, draft, now)
                # ==== POINT OF NO RETURN: the commit is durable. From here on nothing may fail the act. ====
            except (Refused, EvidenceError) as refusal:
                # what a newer program goes on writing, or what went to another place, is not ours to write into
                if refusal.code not in ("newer-log", "moved"):
                    self._record_refusal(actor, action, refusal, participant)
                raise
            except StorageError as error:
                if error.code == "clock-behind":
                    self._record_jump()
                raise
            self._advance_head(record)
            yield record

    def refuse(self, actor: Actor, action: str, refusal: Refused, participant: str | None) -> None:
        """Record a refusal that was found before the act was tried."""
        with self._keys.lock():
            self._record_refusal(actor, action, refusal, participant)

    def write_failure(self, person: str | None, action: str, failure: str) -> None:
        """Record a failed attempt, unsigned: nobody proved who they are. Not where the log left: nothing follows."""
        if (last := self._store.last()) is not None and last.kind == "moved":
            return
        with self._keys.lock():
            with self._store.transaction():
                now = self._now("attempt-failed")
                fields = {"person": person, "action": action, "failure": failure}
                record = self._append(None, None, Draft(kind="attempt-failed", fields=fields), now)
            self._advance_head(record)

    def check_head(self) -> None:
        """A log behind the local head lost records: a rollback, a restored backup, a cut tail (L03).

        Raises:
            EvidenceError: the head's record is not in the log.
        """
        head = self._keys.read_head()
        if head is None:
            self._notify("there is no local head (keys/<study>/head): an older log would go unnoticed here")
            return
        seq, digest = head
        last = self._store.last()
        record = last if last is not None and last.seq == seq else self._store.record(seq)
        if record is None or record.hash != digest:
            raise EvidenceError(
                "log-behind-head",
                f"the log lacks record {seq}, which this home has seen: it is older than its head, or was changed",
                "Do not go on. The sponsor puts the newest log back (`allocator restore`), "
                "or states what was lost (`allocator recover`).",
                {"expected": {"seq": seq, "hash": digest.hex()}, "found": last.seq if last else None},
            )

    def _now(self, action: str) -> datetime:
        """The time of an act, from a clock that does not contradict the log, in a log that is not behind its head."""
        last = self._store.last()
        if action != "arrived":
            check_here(last)
        if action != "restored":  # the one act that says so itself
            self.check_head()
        now = self._clock()
        if now < EARLIEST:
            raise StorageError(
                "clock-unset",
                f"the clock says {format_time(now)}: it was never set",
                "Nothing was written. Set the clock right, then ask again.",
            )
        if last is None or now >= last.time or action == "clock-set":
            return now
        if action == "arrived":  # a clock that was ahead at the sealing does not stop the arrival (docs/spec.md §10.12)
            return last.time
        if last.time - now <= CLOCK_TOLERANCE:  # a small correction by the time service: keep the order
            return last.time
        raise StorageError(
            "clock-behind",
            f"the clock says {format_time(now)}, before the last record ({last.fields['time']})",
            "Nothing was done. Set the clock right and ask again. If it is right, the sponsor runs `allocator clock`.",
        )

    def _record_jump(self) -> None:
        """A clock that went back is an event of the log (L05), once a jump, at the time of the record before it."""
        try:
            with self._store.transaction():
                last = self._store.last()
                if last is None or last.kind == "clock-jump":
                    return
                fields = {"clock": format_time(self._clock())}
                record = self._append(None, None, Draft(kind="clock-jump", fields=fields), last.time)
            self._advance_head(record)
        except AllocatorError as error:
            self._notify(f"the jump of the clock could not be recorded: {error.message}")

    def check_role(self, actor: Actor, action: str) -> Role:
        """The role in which this person may act now; Refused, or CredentialError for keys that are not theirs."""
        person = self.history.person(actor.person)
        enrolling = action == "person-enrolled"  # the keys become theirs by this very record
        if person is None or not person.active or not (enrolling or person.sign_key == actor.keys.sign_key):
            raise CredentialError("no-longer", f"{actor.person} may no longer act in this study", "Ask the sponsor.")
        return acting_role(person, action)

    def _append(self, actor: Actor | None, role: Role | None, draft: Draft, now: datetime) -> Record:
        last, opening = self._store.last(), self.history.opening
        if last is None or opening is None:
            raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
        seq, prev, mode = last.seq + 1, last.hash, opening.fields["mode"]
        record, details = make_record(draft, seq, prev, now, mode, actor, role, self._entropy)
        # a look-up, a pause or an unblinding must not fail for a sealed schedule that is damaged or away
        if draft.kind in NEED_WHOLE_LOG:
            self.history.follow()
        sealed = self._sealed() if draft.kind in NEED_SEALED else None
        case = Case(
            study=self._study,
            history=self.history,
            sealed=sealed,
            record=record,
            details=details,
            check_signature=_made_here,
        )
        check_record(case)
        self._store.append(record, details)
        return record

    def _record_refusal(self, actor: Actor, action: str, refusal: AllocatorError, participant: str | None) -> None:
        """A refusal is a record too, and consumes nothing. If it cannot be written, the refusal still stands."""
        try:
            with self._store.transaction():
                now = self._now("refused")
                person = self.history.person(actor.person)
                if person is None or person.sign_key != actor.keys.sign_key:
                    return
                fields = {"action": action, "cause": refusal.code, "participant": participant}
                record = self._append(actor, person.roles[0], Draft(kind="refused", fields=fields), now)
            self._advance_head(record)
        except AllocatorError as error:
            if error.code != "moved":
                self._notify(f"the refusal could not be recorded: {error.message}")

    def _advance_head(self, record: Record) -> None:
        self.history.wrote(record)
        try:
            self._keys.write_head(record.seq, record.hash)
        except OSError as error:
            self._notify(f"recorded, but the local head could not be written: {error.strerror}")


def _made_here(*_: object) -> None:
    """The signature was made a moment ago, by a key that `check_role` held to the enrolled one."""


def make_record(
    draft: Draft,
    seq: int,
    prev: bytes,
    now: datetime,
    mode: str,
    actor: Actor | None,
    role: Role | None,
    entropy: Callable[[int], bytes],
) -> tuple[Record, dict[str, Detail]]:
    """Build and sign one record with its private details; `actor` None only for a kind without a signer."""
    kind = KINDS[draft.kind]
    details = {name: Detail(salt=entropy(32), value=value) for name, value in draft.details.items()}
    fields: dict[str, Any] = {
        "format": FORMAT,
        "seq": seq,
        "kind": draft.kind,
        "time": format_time(now),
        "mode": mode,
        "program": PROGRAM,
        **draft.fields,
    }
    if kind.details or kind.optional_details:
        fields["details"] = {n: detail_commitment(d.salt, seq, n, d.value) for n, d in details.items()}
    if kind.meaning:
        if actor is None or role is None:
            raise RuntimeError(f"{draft.kind} needs a signer")
        fields |= {"person": actor.person, "role": str(role), "meaning": kind.meaning}
        fields["signature"] = sign(actor.keys.signing, prev, canonical_bytes(fields))
    return new_record(prev, fields), details

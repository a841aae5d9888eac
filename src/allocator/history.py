"""What the log says: the study's state, its people, attempts, bindings and allocations, read from a store.

The log is the state. Nothing here is kept beside it except what can never change once true.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from allocator.allocation import Attempt, check_unallocated, lowest_free
from allocator.canonical import CanonicalError, parse_strict
from allocator.errors import EvidenceError
from allocator.log import (
    ALLOCATION_KINDS,
    ATTEMPT_KINDS,
    GENESIS,
    KINDS,
    MAX_BODY,
    PERSON_KINDS,
    SEALING_KINDS,
    STATE_KINDS,
    Record,
    detail_commitment,
    link,
    state_of,
)
from allocator.merkle import Tree
from allocator.person import Person, Role, check_signature
from allocator.store import Store, Stored
from allocator.study import stratum_label
from allocator.text import shown

NEWEST_SIGNED = 8  # signatures checked when a log is followed: the newest ones cover all before them
NEWEST_SINCE = 2  # and when it is followed further by the same process, beside others that write
UNSIGNED = frozenset(name for name, kind in KINDS.items() if not kind.meaning)


class History:
    """Questions to the records of one study. Each answer costs the same on a short log and on a long one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._people: dict[str, Person] = {}
        self._people_at = (-1, GENESIS)  # the last record that changed one of them, and its hash
        self._followed = (-1, GENESIS)  # the last record followed and its hash
        self.tree = Tree()  # over the records followed
        self.last_path: list[bytes] = []  # inclusion proof of the record that this process wrote last
        self._reserved: dict[tuple[str, int], str | None] = {}
        self._reserved_at: bytes | None = None
        self._all_allocated_below: dict[str, int] = {}  # an allocation is for good, so this only ever grows

    def follow(self) -> None:
        """Follow the chain over the records this process has not followed yet, before something new stands on them.

        Every record links to the one before and stands beside its own guard columns, and the newest few are signed
        as they are: a signature covers `prev`, so it covers all before it. The rest of verification is `verify`'s.

        Raises:
            EvidenceError: a record was changed, hidden, added or taken out.
        """
        seq, digest = self._followed
        if seq >= 0 and ((record := self.store.record(seq)) is None or record.hash != digest):
            raise _changed(seq)
        newest: deque[int] = deque(maxlen=NEWEST_SIGNED if seq < 0 else NEWEST_SINCE)
        tree = self.tree.copy()
        for row in self.store.rows(seq + 1):
            seq += 1
            if row.seq != seq or row.prev != digest or not _stands_beside_itself(row):
                raise _changed(seq)
            if row.kind not in KINDS:
                raise _of_a_newer_program(seq, row.kind)
            if row.kind not in UNSIGNED:
                newest.append(seq)
            digest = link(row.prev, row.body)
            tree.append(digest)
        for signed in newest:
            self._check_signed(signed)
        self._followed, self.tree = (seq, digest), tree

    @property
    def was_followed(self) -> bool:
        """Whether this process followed the log before, so that only what came since is left."""
        return self._followed[0] >= 0

    def wrote(self, record: Record) -> None:
        """This process wrote the record that follows, by the rules: it need not be followed again."""
        if self._followed == (record.seq - 1, record.prev):
            self._followed = record.seq, record.hash
            self.last_path = self.tree.next_path()
            self.tree.append(record.hash)

    def hashes(self, size: int) -> list[bytes]:
        """Hashes of the first `size` records, linked one to the other: what a tree is made of again.

        Raises:
            EvidenceError: a record was changed, or there are fewer.
        """
        digests, digest = [], GENESIS
        for seq, row in zip(range(size), self.store.rows(0), strict=False):
            if row.seq != seq or row.prev != digest:
                raise _changed(seq)
            digest = link(row.prev, row.body)
            digests.append(digest)
        if len(digests) < size:
            raise _changed(len(digests))
        return digests

    def _check_signed(self, seq: int) -> None:
        record = self.store.record(seq)
        person = self.person(record.fields["person"]) if record else None
        if record is None or person is None:
            raise _changed(seq)
        check_signature(person.sign_key, record.fields["signature"], record.prev, record.unsigned_body())

    def details(self, record: Record) -> dict[str, str]:
        """The private details of a record, each held to the record's commitment; one that was removed is not there.

        Raises:
            EvidenceError: a detail was changed.
        """
        committed, values = record.fields.get("details", {}), {}
        for name, detail in self.store.details(record.seq).items():
            planted = name not in committed
            if planted or detail_commitment(detail.salt, record.seq, name, detail.value) != committed[name]:
                raise EvidenceError(
                    "detail-changed",
                    f"the {name} of record {record.seq} was changed after it was signed",
                    "Do not rely on it. Run `allocator verify` and tell the sponsor.",
                )
            values[name] = detail.value
        return values

    @property
    def opening(self) -> Record | None:
        """Record 0, None in an empty log."""
        return self.store.record(0)

    @property
    def state(self) -> str:
        """open, sealed, active, paused, closed or recovering; "none" for an empty log."""
        record = self.store.newest(STATE_KINDS)
        return state_of(record.fields) if record else "none"

    @property
    def people(self) -> dict[str, Person]:
        """Everybody ever added, by id, with their roles and keys as of the last record."""
        newest = self.store.newest(PERSON_KINDS)
        if newest is None:
            return {}
        if newest.hash != self._people_at[1]:
            self._follow_people(newest)
        return self._people

    def _follow_people(self, newest: Record) -> None:
        """From the last change that is known, where it still stands, so that many people cost no more than few."""
        seq, digest = self._people_at
        known = self.store.record(seq) if 0 <= seq < newest.seq else None
        if known is None or known.hash != digest:
            seq, self._people = -1, {}
        self._people = _people_of(self.store.records(PERSON_KINDS, since=seq + 1), self._people)
        self._people_at = newest.seq, newest.hash

    def people_until(self, moment: datetime) -> dict[str, Person]:
        """Everybody added until a time, as they were then."""
        return _people_of((record for record in self.store.records(PERSON_KINDS) if record.time <= moment), {})

    def person(self, person_id: str) -> Person | None:
        """A person by id, or None."""
        return self.people.get(person_id)

    @property
    def sealing(self) -> Record | None:
        """The newest ``generated`` or ``resealed`` record, or None."""
        return self.store.newest(SEALING_KINDS)

    def _grants(self) -> Iterator[Record]:
        """The grants of the sealing: those after it, for each sealing has keys of its own."""
        newest = self.sealing
        return self.store.records(("granted",), since=newest.seq) if newest else iter(())

    def grant_of(self, person_id: str) -> Record | None:
        """The newest grant of the sealing to this person, or None."""
        found = None
        for record in self._grants():
            if record.fields["grantee"] == person_id:
                found = record
        return found

    def granted(self, role: Role) -> list[str]:
        """Active persons of a role who were granted their half of the sealing's keys."""
        grantees = {record.fields["grantee"] for record in self._grants() if record.fields["half"] == role}
        return sorted(p.id for p in self.people.values() if p.id in grantees and p.active and role in p.roles)

    def decisions(self) -> dict[str, Record]:
        """The newest decision on each finding."""
        return {record.fields["finding"]: record for record in self.store.records(("decided",))}

    def undecided_blockers(self) -> list[str]:
        """Ids of the findings recorded at the opening that block activation and are not decided."""
        if self.opening is None:
            return []
        decided = self.decisions()
        return [f["id"] for f in self.opening.fields["findings"] if f["level"] == "block" and f["id"] not in decided]

    def allocation(self, participant: str) -> Record | None:
        """The participant's allocation, or None: made under this id or moved to it, and not moved away since."""
        own = self.store.newest((*ALLOCATION_KINDS, "reassigned"), participant=participant)
        if own is None or self._moved_away(participant, own.seq):
            return None
        return own if own.kind != "reassigned" else self.store.record(own.fields["allocation"])

    def proposal(self, participant: str) -> Record | None:
        """The newest statement that this participant's allocation is another one's, or None."""
        return self.store.newest(("reassignment-proposed",), participant=participant)

    def _moved_away(self, participant: str, since: int) -> bool:
        """Whether two people moved what this id held at `since` to another participant."""
        proposal = self.proposal(participant)
        if proposal is None or proposal.seq < since:
            return False
        moved = self.store.records(("reassigned",), participant=proposal.fields["to"], since=proposal.seq)
        return any(record.fields["proposal"] == proposal.seq for record in moved)

    def check_unallocated(self, participant: str) -> None:
        """Refused when the participant already has an allocation."""
        record = self.allocation(participant)
        check_unallocated(participant, record.seq if record else None)

    @property
    def allocated(self) -> int:
        """How many allocations the log holds. Numbers run without a gap, but for those a recovery left out."""
        newest, recovered = self.store.newest(ALLOCATION_KINDS), self.store.newest(("recovered",))
        if recovered is None:
            return int(newest.fields["number"]) if newest else 0
        since = int(newest.fields["number"]) - recovered.fields["number"] if newest else 0
        return int(recovered.fields["allocated"]) + max(0, since)

    @property
    def last_number(self) -> int:
        """The highest randomization number that was, or may have been, given."""
        newest, recovered = self.store.newest(ALLOCATION_KINDS), self.store.newest(("recovered",))
        numbers = [int(record.fields["number"]) for record in (newest, recovered) if record is not None]
        return max(numbers, default=0)

    def latest_attempt(self, participant: str) -> Attempt | None:
        """The participant's latest attempt at eligibility, or None."""
        record = self.store.newest(ATTEMPT_KINDS, participant=participant)
        return self._attempt(record) if record else None

    def _attempt(self, record: Record) -> Attempt:
        participant, sealing = record.fields["participant"], self.sealing
        withdrawal = self.store.newest(("confirmation-withdrawn",), participant=participant)
        return Attempt(
            seq=record.seq,
            confirmed=record.kind == "confirmed",
            withdrawn=withdrawal is not None and withdrawal.seq > record.seq,
            void=(sealing is not None and sealing.seq > record.seq) or self._moved_away(participant, record.seq),
            time=record.time,
            person=record.fields["person"],
        )

    @property
    def reserved(self) -> dict[tuple[str, int], str | None]:
        """Positions that recoveries reserved because they may have been used: for a participant, or for nobody."""
        newest = self.store.newest(("recovered",))
        if newest is None:
            return {}
        if newest.hash != self._reserved_at:
            self._reserved = {
                (stratum_label(item["stratum"]), item["position"]): item["participant"]
                for record in self.store.records(("recovered",))
                for item in record.fields["reserved"]
            }
            self._reserved_at = newest.hash
        return self._reserved

    def is_allocated(self, label: str, position: int) -> bool:
        """Whether a position is somebody's for good."""
        return self.store.newest(ALLOCATION_KINDS, stratum=label, position=position) is not None

    def is_taken(self, label: str, position: int, *, now: datetime, hours: int, except_for: str) -> bool:
        """Whether a position is allocated, reserved, or bound by another participant's confirmation that holds."""
        if self.is_allocated(label, position):
            return True
        if (label, position) in self.reserved:
            return self.reserved[label, position] != except_for
        binding = self.store.newest(("confirmed",), stratum=label, position=position)
        if binding is None or binding.fields["participant"] == except_for:
            return False
        attempt = self.latest_attempt(binding.fields["participant"])
        return (
            attempt is not None
            and attempt.seq == binding.seq  # a later attempt supersedes the binding
            and attempt.holds(now, hours)
            and self.allocation(binding.fields["participant"]) is None
        )

    def lowest_free(self, label: str, *, length: int, now: datetime, hours: int, participant: str) -> int:
        """The position a confirmation of this participant binds now; Refused when the list is exhausted.

        What a recovery reserved for this participant comes first: they may have been told its arm.
        """
        own = (at for (where, at), whose in self.reserved.items() if (where, whose) == (label, participant))
        for position in sorted(own):
            if position < length and not self.is_allocated(label, position):
                return position
        if (start := self._all_allocated_below.get(label, -1)) < 0:  # this process was never asked: maybe a long way
            start = min(self.store.first_unallocated(label, 0), length)
        while start < length and self.is_allocated(label, start):
            start += 1
        self._all_allocated_below[label] = start
        return lowest_free(
            lambda position: self.is_taken(label, position, now=now, hours=hours, except_for=participant),
            length,
            start,
        )

    def waiting(self, *, now: datetime, hours: int) -> int:
        """How many participants hold a confirmation and have no allocation yet."""
        participants = {record.fields["participant"] for record in self.store.records(("confirmed",))}
        return sum(
            1
            for participant in participants
            if self.allocation(participant) is None
            and (attempt := self.latest_attempt(participant)) is not None
            and attempt.holds(now, hours)
        )


def _people_of(records: Iterable[Record], before: Mapping[str, Person]) -> dict[str, Person]:
    """Everybody there was before, and whom these records are about, as they leave them."""
    people = dict(before)
    for record in records:
        try:
            person = _apply(people, record)
        except (KeyError, ValueError) as error:  # a record that no rule would have let pass
            raise _changed(record.seq) from error
        people[person.id] = person
    return people


def _apply(people: dict[str, Person], record: Record) -> Person:
    """The person a record is about, as it leaves them; RuntimeError for a record the rules would have refused."""
    fields = record.fields
    if record.kind == "person-added":
        roles = tuple(Role(name) for name in fields["roles"])
        return Person(id=fields["added"], roles=roles, code_digest=fields["code_digest"])
    if record.kind == "study-opened":
        person = Person(id=fields["person"], roles=(Role.SPONSOR,))
    else:
        person = people[fields["deactivated" if record.kind == "person-deactivated" else "person"]]
    if record.kind == "person-deactivated":
        return replace(person, active=False)
    return replace(person, sign_key=bytes.fromhex(fields["sign_key"]), seal_key=bytes.fromhex(fields["seal_key"]))


def _stands_beside_itself(row: Stored) -> bool:
    """Whether the guard columns are the body's: by its bytes, which is many times as fast as parsing it."""
    beside = (("kind", row.kind), ("participant", row.participant), ("position", row.position))
    for name, value in beside:
        said = b'"%s":' % name.encode() + json.dumps(value).encode()
        if (value is not None and said not in row.body) or (value is None and b'"%s":' % name.encode() in row.body):
            return _parsed_columns(row)
    if (row.stratum is None) == (b'"stratum":' in row.body):
        return _parsed_columns(row)
    return row.stratum is None or b'"stratum":' + row.stratum.encode("utf-8", "replace") in row.body


def _parsed_columns(row: Stored) -> bool:
    try:
        record = Record(prev=row.prev, body=row.body, fields=parse_strict(row.body, limit=MAX_BODY))
        return record.columns == (row.kind, row.participant, row.stratum, row.position)
    except (CanonicalError, KeyError, AttributeError):
        return False


def _changed(seq: int) -> EvidenceError:
    return EvidenceError(
        "log-changed",
        f"the log was changed at record {seq}: nothing new can stand on it",
        "Nothing was allocated. Run `allocator verify`, keep the file, and tell the sponsor.",
    )


def _of_a_newer_program(seq: int, kind: str) -> EvidenceError:
    return EvidenceError(
        "newer-log",
        f"record {seq} is of the kind {shown(kind)!r}, which this program does not know: a newer one wrote it",
        "Nothing was written. Use the newer program here, too.",
    )

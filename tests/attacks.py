"""Ways to attack a study's files, each as one who owns them could: for test_attacks.py.

The attackers: whoever owns the log (`as_owner`, `dump`, `rebuild`), whoever also holds some people's keys
(`rechained`), and people who collude and write past the service with their own keys (`Forger`).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from allocator import sealing
from allocator.answers_form import AnswersForm, form_bytes
from allocator.canonical import canonical_bytes, prefixed, tag, u32
from allocator.case import code_digest
from allocator.envelope import context, open_sealed
from allocator.errors import AllocatorError
from allocator.evidence import read_evidence
from allocator.home import StudyPlace
from allocator.keys import PrivateKeys
from allocator.log import GENESIS, Record, detail_commitment, link
from allocator.person import PERMITTED, Role, sign
from allocator.sqlite_store import SqliteStore, schema_text
from allocator.study import stratum_label
from allocator.verdict import Verdict
from allocator.verify import verify
from allocator.writer import Actor, Draft, make_record
from support import STUDY_ID, Trial, eligible_form, example_form

# ---- what the verifier says ----------------------------------------------------------------------------------------


def place(home: Path) -> StudyPlace:
    """The study's place in a home, unchecked."""
    return StudyPlace(home=home, study=STUDY_ID)


def judged(home: Path, *heads: bytes) -> Verdict:
    """The verdict on a home, with heads known from elsewhere; with the work handed to others it is the same one."""
    with read_evidence(place(home), heads) as evidence:
        verdict = verify(evidence)
    with read_evidence(place(home), heads) as evidence:
        handed = verify(evidence, submit=lambda worker, jobs: lambda: worker(jobs))
    assert handed.verdict == verdict.verdict
    assert {(f.check, f.seq) for f in handed.findings} == {(f.check, f.seq) for f in verdict.findings}
    json.dumps(verdict.as_json(), allow_nan=False)  # whatever was found can be told
    return verdict


def named(home: Path, *heads: bytes) -> list[tuple[str, int | None]]:
    """(number of the check, record) of every finding; [] only when the verdict is not broken."""
    verdict = judged(home, *heads)
    assert (verdict.verdict == "broken") == bool(verdict.findings)
    return [(finding.check[:2], finding.seq) for finding in verdict.findings]


# ---- whoever owns the log ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One record as stored: any of it may be a lie."""

    prev: bytes
    body: bytes
    columns: tuple[Any, ...]
    details: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)

    @property
    def hash(self) -> bytes:
        """Its hash, from prev and body."""
        return link(self.prev, self.body)

    @property
    def fields(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    def with_fields(self, **changes: Any) -> Stored:
        """The same record with some fields of its body changed; not signed again."""
        return self.of({**self.fields, **changes})

    def of(self, fields: Mapping[str, Any]) -> Stored:
        """The same place and details with another body, and the columns that go with it."""
        record = Record(prev=self.prev, body=canonical_bytes(dict(fields)), fields=fields)
        return replace(self, body=record.body, columns=record.columns)


def log_of(home: Path) -> Path:
    """The log."""
    return place(home).log_file


def dump(home: Path) -> list[Stored]:
    """All records of a log with their details."""
    with closing(sqlite3.connect(log_of(home))) as connection:
        details: dict[int, dict[str, tuple[bytes, str]]] = {}
        for seq, name, salt, value in connection.execute("SELECT * FROM detail"):
            details.setdefault(seq, {})[name] = (salt, value)
        rows = connection.execute("SELECT * FROM record ORDER BY seq").fetchall()
    return [
        Stored(prev=prev, body=body.encode("utf-8"), columns=tuple(columns), details=details.get(seq, {}))
        for seq, prev, body, *columns in rows
    ]


def rebuild(home: Path, rows: Iterable[Stored]) -> None:
    """A database of exactly our schema with any rows at all: its triggers are made last, as its owner can."""
    log = log_of(home)
    log.unlink(missing_ok=True)
    tables, triggers = schema_text().split("-- INSERT OR REPLACE", 1)
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(tables)
        for seq, row in enumerate(rows):
            connection.execute(
                "INSERT INTO record VALUES (?,?,?,?,?,?,?)", (seq, row.prev, row.body.decode("utf-8"), *row.columns)
            )
            for name, (salt, value) in row.details.items():
                connection.execute("INSERT INTO detail VALUES (?,?,?,?)", (seq, name, salt, value))
        connection.commit()
        connection.executescript(f"-- {triggers}")


@contextmanager
def as_owner(log: Path) -> Iterator[sqlite3.Connection]:
    """Edit a log as its owner can: without its triggers, which stand again afterwards."""
    with closing(sqlite3.connect(log, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # what is to be ruined need not be durable
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)


def edit(home: Path, sql: str, *values: Any) -> None:
    """One statement by the log's owner."""
    with as_owner(log_of(home)) as connection:
        connection.execute(sql, values)


def rechained(rows: Iterable[Stored], actors: Mapping[str, Actor] | None = None) -> list[Stored]:
    """The records numbered, committed and linked anew, and signed anew by those whose keys are given."""
    done: list[Stored] = []
    for seq, row in enumerate(rows):
        fields, prev = {**row.fields, "seq": seq}, done[-1].hash if done else GENESIS
        if "details" in fields:
            fields["details"] = {
                name: detail_commitment(salt, seq, name, value) for name, (salt, value) in row.details.items()
            }
        actor = (actors or {}).get(fields.get("person") or "")
        if actor and "signature" in fields:
            del fields["signature"]
            fields["signature"] = sign(actor.keys.signing, prev, canonical_bytes(fields))
        done.append(replace(row, prev=prev).of(fields))
    return done


def write_head(home: Path, seq: int, digest: bytes) -> None:
    """The local head, by whoever owns the home."""
    (place(home).keys / "head").write_text(f"{seq:>10} {digest.hex()}", encoding="ascii")


def journal_that_restores(log: Path, older: bytes) -> bytes:
    """A rollback journal that turns `log` back into the file `older` (sqlite.org/fileformat2.html §3)."""
    page = struct.unpack(">H", older[16:18])[0]
    newer, count, nonce = log.read_bytes(), len(older) // page, 7
    pages = [n for n in range(count) if older[n * page : (n + 1) * page] != newer[n * page : (n + 1) * page]]
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", len(pages), nonce, count, 512, page)
    journal = header.ljust(512, b"\0")
    for number in pages:
        data = older[number * page : (number + 1) * page]
        checksum = nonce + sum(data[i] for i in range(page - 200, 0, -200))
        journal += struct.pack(">I", number + 1) + data + struct.pack(">I", checksum & 0xFFFFFFFF)
    return journal


def copied(home: Path, name: str) -> Path:
    """A copy of a home beside it."""
    return Path(shutil.copytree(home, home.with_name(f"{home.name}-{name}"), symlinks=True))


# ---- people who write past the service -----------------------------------------------------------------------------


class Forger:
    """People with their own keys and our library, and without our service: nothing they write is held to a rule.

    They hold both halves of the entries' keys: what they write is wrong in the one way that a test makes it wrong.
    """

    def __init__(self, trial: Trial) -> None:
        self.home, self.actors, self.now = trial.home, trial.actors, trial.clock.now
        self._store = SqliteStore(trial.place.log_file)
        holder = self.actors["ST"]
        self.sealed = sealing.SealedSchedule.from_bytes(trial.place.sealed_file.read_bytes())
        info = context("keys", self.sealed.fingerprint, self.sealed.sealing, "ST")
        both = open_sealed(holder.keys.opening, bytes.fromhex(self.sealed.keys.envelope), info)
        self._key_p, self._key_i = both[:32], both[32:]
        self.study = trial.service.study

    def close(self) -> None:
        """Close the log."""
        self._store.close()

    def records(self, kind: str, participant: str | None = None) -> list[Record]:
        """The records of a kind, in order."""
        return list(self._store.records((kind,), participant=participant))

    def last(self, kind: str, participant: str | None = None) -> Record:
        """The newest record of a kind."""
        return self.records(kind, participant)[-1]

    def write(
        self,
        kind: str,
        fields: Mapping[str, Any],
        details: Mapping[str, str] | None = None,
        *,
        by: str | None,
        role: str | None = None,
        mode: str = "test",
        at: datetime | None = None,
        actor: Actor | None = None,
        columns: tuple[Any, ...] | None = None,
    ) -> int:
        """Sign and append one record, whatever it says and whatever stands beside it; returns its seq."""
        last = self._store.last()
        assert last is not None
        signer = actor or (self.actors[by] if by else None)
        given = Role(role or self._role(by, kind)) if by else None
        self.now = max(self.now, last.time) if at is None else at
        record, written = make_record(
            Draft(kind=kind, fields=fields, details=details or {}),
            last.seq + 1,
            last.hash,
            self.now,
            mode,
            signer,
            given,
            os.urandom,
        )
        if columns is not None:
            return self.append_body(record.body, columns)
        with self._store.transaction():
            self._store.append(record, written)
        return record.seq

    def write_raw(self, fields: Mapping[str, Any], *, by: str = "PH") -> int:
        """Sign and append a body that is none of ours: other fields, another version, another kind."""
        last = self._store.last()
        assert last is not None
        whole = {**fields, "seq": last.seq + 1}
        whole["signature"] = sign(self.actors[by].keys.signing, last.hash, canonical_bytes(whole))
        participant = whole["participant"] if isinstance(whole["participant"], str) else None
        return self.append_body(canonical_bytes(whole), (whole["kind"], participant, None, None))

    def append_body(self, body: bytes | str, columns: tuple[Any, ...] = ("refused", None, None, None)) -> int:
        """Append any bytes as the body of the next record."""
        last = self._store.last()
        assert last is not None
        with closing(sqlite3.connect(log_of(self.home))) as connection, connection:
            connection.execute(
                "INSERT INTO record VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, ?)",
                (last.seq + 1, last.hash, body, *columns),
            )
        return last.seq + 1

    def half(self, key: bytes, label: str, position: int) -> bytes:
        """One half of one entry's key."""
        return sealing.half_key(key, self.sealed.sealing, label, position)

    def resealed(self, position: int) -> sealing.SealedSchedule:
        """The schedule with the other arm under an entry's old commitment, sealed with the right keys."""
        arm, salt = self.opened(position)
        label, entries = "{}", self.sealed.strata[0]
        halves = self.half(self._key_p, label, position), self.half(self._key_i, label, position)
        committed, nonce = entries.commitment(position), os.urandom(12)
        place_of_entry = self.sealed.sealing + prefixed(label.encode()) + u32(position)
        plaintext = bytes([1 - arm]) + bytes.fromhex(salt)
        data = tag("entry-data") + place_of_entry + committed
        blob = committed + nonce + AESGCM(sealing.entry_key(*halves)).encrypt(nonce, plaintext, data)
        text = list(entries.entries)
        text[position] = base64.b64encode(blob).decode("ascii")
        return replace(self.sealed, strata=(replace(entries, entries=tuple(text)), *self.sealed.strata[1:]))

    def opened(
        self,
        position: int,
        stratum: Mapping[str, str] | None = None,
        sealed: sealing.SealedSchedule | None = None,
    ) -> tuple[int, str]:
        """(arm index, salt) of an entry; both halves together open it."""
        label = stratum_label(dict(stratum or {}))
        entries = (sealed or self.sealed).stratum(label)
        assert entries is not None
        halves = self.half(self._key_p, label, position), self.half(self._key_i, label, position)
        arm, salt = sealing.open_entry(entries, position, *halves, self.sealed.fingerprint, self.sealed.sealing)
        return arm, salt.hex()

    def confirm(
        self,
        participant: str,
        position: int,
        *,
        by: str = "IN",
        form: AnswersForm | None = None,
        attempt: Mapping[str, Any] | None = None,
        stratum: Mapping[str, str] | None = None,
        at: datetime | None = None,
        **changes: Any,
    ) -> int:
        """A confirmation that binds a position."""
        chosen = dict(stratum or {})
        fields = {
            "participant": participant,
            "stratum": chosen,
            "position": position,
            "sealing": self.sealed.sealing.hex(),
            "fingerprint": self.study.fingerprint.hex(),
            "attempt": dict(attempt or {"type": "first", "of": None}),
            "release": self.half(self._key_i, stratum_label(chosen), position).hex(),
            **changes,
        }
        if at is None:
            at = max(self.now, self._store.last().time)  # type: ignore[union-attr]
        answers = form_bytes(form or eligible_form("P-001", at)).decode("utf-8")
        return self.write("confirmed", fields, {"answers": answers}, by=by, at=at)

    def allocate(
        self,
        participant: str,
        *,
        by: str = "PH",
        at: datetime | None = None,
        columns: tuple[Any, ...] | None = None,
        **changes: Any,
    ) -> int:
        """The allocation that follows the participant's newest confirmation, but for the fields given."""
        confirmed = self.records("confirmed", participant)
        bound = confirmed[-1].fields if confirmed else {"stratum": {}, "position": 0, "seq": 0}
        position = changes.get("position", bound["position"])
        entries = self.sealed.stratum(stratum_label(bound["stratum"]))
        arm, salt = (
            self.opened(position, bound["stratum"]) if entries and position < len(entries.entries) else (0, "00" * 32)
        )
        fields = {
            "participant": participant,
            "stratum": bound["stratum"],
            "position": position,
            "number": len(self.records("allocated")) + 1,
            "sealing": self.sealed.sealing.hex(),
            "confirmation": bound["seq"],
            "arm": arm,
            "salt": salt,
            **changes,
        }
        return self.write("allocated", fields, by=by, at=at, columns=columns)

    def enrol(self, person: str, roles: list[str], actor: Actor) -> int:
        """Add a person by SP and enrol them with these keys."""
        code = os.urandom(8).hex().upper()
        digest = code_digest(self.study.fingerprint, person, code)
        self.write("person-added", {"added": person, "roles": roles, "code_digest": digest}, {"name": "Dr X"}, by="SP")
        keys = {"sign_key": actor.keys.sign_key.hex(), "seal_key": actor.keys.seal_key.hex(), "code": code}
        return self.write("person-enrolled", keys, by=person, actor=actor, role=roles[0] if roles else "sponsor")

    def enrol_both(self, person: str, roles: list[str]) -> int:
        """A person in roles that are never together, who then acts by name."""
        self.actors = {**self.actors, person: Actor(person=person, keys=PrivateKeys.from_entropy(os.urandom(64)))}
        return self.enrol(person, roles, self.actors[person])

    def _role(self, person: str, kind: str) -> str:
        roles: list[str] = []
        for record in self._store.records(("study-opened", "person-added")):
            if record.fields.get("added", record.fields["person"]) == person:
                roles = record.fields.get("roles", ["sponsor"])
        return next((role for role in roles if role in PERMITTED[kind]), roles[0])


def tell_story(trial: Trial) -> None:
    """A study's life with a bit of everything; 3 of 4 are allocated, P-003 waits.

    P-001, P-002 and P-004 are allocated; P-101 does not qualify; P-003 was withdrawn and confirmed again.
    """
    service, sponsor, clock = trial.service, trial.actor("SP"), trial.clock
    trial.allocate("P-001", "P-002")
    for attempt in (lambda: trial.reveal("P-009"), lambda: service.authenticate("PH", lambda: "wrong", "allocated")):
        with suppress(AllocatorError):
            attempt()
    clock.advance(hours=1)
    trial.confirm("P-101", example_form("P-101", clock.now))
    trial.confirm("P-003")
    service.withdraw(trial.actor("IN"), "P-003", "new laboratory value")
    service.change_state(trial.actor("IN"), "paused", "pharmacy closed")
    service.change_state(sponsor, "resumed", "pharmacy open")
    trial.reveal("P-001")
    service.unblind(trial.actor("IN"), "P-001", "rash")
    service.correct(trial.actor("PH"), "P-002", "treatment", "GCV", "given by mistake")
    clock.advance(hours=1)
    trial.allocate("P-004")
    trial.confirm("P-003")


LATER = timedelta(hours=73)

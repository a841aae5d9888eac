"""A published audit log: auditchain 0.3.0, in its strictest use.

SQLite, each record signed with Ed25519 by the person who acts (unsigned kinds by the log's own key), every signature
demanded when it verifies, a signed checkpoint beside the log. `make attacks` installs it into a folder of its own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from victim import CHECKPOINT, EVERYBODY, FIRST, HEAD, LOG, RECEIPT, TRAIL, NotApplicable, Outcome, Rival, Victim

FOLDER = Path(__file__).parent.parent / ".venv" / "attacks"
sys.path.append(str(FOLDER))

try:
    import auditchain
    from auditchain.signing import sign_record
except ImportError:
    auditchain = None

OWN = {"person": "actor", "kind": "action", "participant": "subject", "time": "timestamp"}  # our field: its own
COLUMNS = ("seq", "ts", "actor", "action", "subject", "meta", "prev_hash", "hash", "key_id", "signer_id", "signature")


def version() -> str:
    """Its name and version; "" when it is not installed."""
    return f"auditchain {auditchain.__version__}" if auditchain else ""


class Keys(dict[str, tuple[bytes, bytes]]):
    """Ed25519 seed and public key of each person, 32 bytes each, made when first asked for."""

    def __missing__(self, person: str) -> tuple[bytes, bytes]:
        self[person] = auditchain.generate_keypair()
        return self[person]


@dataclass(frozen=True, kw_only=True)
class LibraryRow:
    """One of its records; `spelling` is the text stored for its metadata."""

    record: Any
    spelling: str

    @property
    def fields(self) -> dict[str, Any]:
        """What it says, in our words."""
        own = {ours: getattr(self.record, theirs) for ours, theirs in OWN.items()}
        return {**self.record.metadata, **own, "person": own["person"] if own["person"] != LOG else None}

    def with_fields(self, **changes: Any) -> LibraryRow:
        """Something else under the old hash and signature."""
        columns = {OWN[name]: value for name, value in changes.items() if name in OWN}
        metadata = self.record.metadata | {name: value for name, value in changes.items() if name not in OWN}
        return LibraryRow(record=replace(self.record, metadata=metadata, **columns), spelling=_text(metadata))

    @property
    def columns(self) -> tuple[Any, ...]:
        """As its table has them."""
        one = self.record
        what = (one.seq, one.timestamp, one.actor, one.action, one.subject, self.spelling)
        return (*what, one.prev_hash, one.hash, one.key_id, one.signer_id, one.signature)


class Library(Rival):
    """Its log with our records in it."""

    table = "audit_records"

    def __init__(self, folder: Path, source: Callable[[], Victim], keys: Keys) -> None:
        self.folder, self.source, self.keys = folder, source, keys

    @property
    def log(self) -> Path:
        return self.folder / "log.sqlite3"

    @property
    def _anchor(self) -> Path:
        return self.folder / "checkpoint"

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        asyncio.run(self._write(records))
        self.keep(CHECKPOINT, self.folder)

    async def _write(self, records: Iterable[Mapping[str, Any]]) -> None:
        backend = auditchain.SqliteBackend(self.log)
        try:
            for fields in records:
                person = fields.get("person") or LOG
                log = self._by(person, backend)
                metadata = {name: value for name, value in fields.items() if name not in OWN}
                subject = fields.get("participant") or ""
                await log.append(person, fields["kind"], subject, metadata=metadata, timestamp=fields["time"])
        finally:
            await backend.close()

    def _by(self, person: str, backend: Any) -> Any:
        lock = self.folder / "lock"
        return auditchain.AuditLog(backend, signing_key=self.keys[person][0], signer_id=person, lock_path=lock)

    def respell(self, seq: int, old: str, new: str) -> None:
        rows = self.rows()
        spelling = rows[seq].spelling.replace(old, new)
        record = replace(rows[seq].record, metadata=json.loads(spelling))
        rows[seq] = LibraryRow(record=record, spelling=spelling)
        self.rebuild(self.rechained(rows, frozenset({record.signer_id})))
        self.keep(CHECKPOINT, self.folder)

    # ---- what it says -------------------------------------------------------------------------------------------

    def verdict(self) -> Outcome:
        report = asyncio.run(self._verdict())
        return Outcome(verdict="OK") if report is None else Outcome(verdict="FAILED", findings=(report,))

    def screen(self) -> str:
        return "\n".join(str(finding) for finding in self.verdict().findings)

    async def _verdict(self) -> tuple[str, int | None] | None:
        signers = {person: self.keys[person][1] for person in (*EVERYBODY, "XX")}  # XX: who is added
        try:
            anchors = [*([self._anchor] if self._anchor.exists() else []), *sorted(self.kept.glob("*checkpoint*"))]
            checkpoints = [auditchain.load_checkpoint(file, public_key=signers[LOG]) for file in anchors]
            proofs = [auditchain.InclusionProof.load(file) for file in sorted(self.kept.glob(RECEIPT))]
        except ValueError as error:
            return _said(str(error)), None
        backend = auditchain.SqliteBackend(self.log)
        log = auditchain.AuditLog(backend)
        try:
            for checkpoint in checkpoints or [None]:
                report = await log.verify(checkpoint=checkpoint, signers=signers)
                if not report.ok:
                    return _said(report.reason), report.first_error_seq
        finally:
            await backend.close()
        roots = [checkpoint.merkle_root for checkpoint in checkpoints]
        held = all(any(proof.verify(root) for root in roots) for proof in proofs)
        return None if held else ("proof does not match the trusted root", None)

    def keep(self, what: str, folder: Path | None = None) -> None:
        """A checkpoint of the newest record has the tree's root; of an older one none, for it fits no longer log."""
        if what == TRAIL:
            raise NotApplicable("has no readable copy")
        folder, rows = folder or self.kept, self.rows()
        records, seed = [row.record for row in rows], self.keys[LOG][0]
        hashes = [record.hash for record in records]
        if what == RECEIPT:
            number = max(record.seq for record in records if record.action == "allocated")
            auditchain.merkle_proof(hashes, number).save(folder / what)
        if what in (FIRST, HEAD):
            made = auditchain.make_checkpoint(records[0 if what == FIRST else -1])
        else:
            root = auditchain.merkle_root(hashes)
            made = auditchain.make_checkpoint(records[-1], None, root, signing_key=seed, signer_id=LOG)
        name = "checkpoint" if what == CHECKPOINT else f"{what}'s checkpoint"
        auditchain.save_checkpoint(made, folder / name)

    def keep_a_lie(self) -> None:
        last, seed = self.rows()[-1].record, self.keys[LOG][0]
        lie = auditchain.make_checkpoint(last, None, "ab" * 32, signing_key=seed, signer_id=LOG)
        auditchain.save_checkpoint(lie, self.kept / CHECKPOINT)

    # ---- whoever can write the files ----------------------------------------------------------------------------

    def rows(self) -> list[LibraryRow]:
        with closing(sqlite3.connect(self.log)) as connection:
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM audit_records ORDER BY seq").fetchall()
        return [self._row(dict(zip(COLUMNS, row, strict=True))) for row in rows]

    def _row(self, columns: dict[str, Any]) -> LibraryRow:
        stored = {**columns, "meta": json.loads(columns["meta"])}
        return LibraryRow(record=auditchain.AuditRecord.from_stored(stored), spelling=columns["meta"])

    def rebuild(self, rows: Sequence[LibraryRow]) -> None:
        values = [(seq, *row.columns[1:]) for seq, row in enumerate(rows)]
        with closing(sqlite3.connect(self.log)) as connection, connection:
            connection.execute("DELETE FROM audit_records")
            connection.executemany(f"INSERT INTO audit_records VALUES ({', '.join('?' * len(COLUMNS))})", values)

    def rechained(self, rows: Sequence[LibraryRow], keys: frozenset[str]) -> list[LibraryRow]:
        done: list[LibraryRow] = []
        for seq, row in enumerate(rows):
            signer = LOG if keys == {LOG} else row.record.signer_id
            prev = done[-1].record.hash if done else auditchain.GENESIS_HASH
            record = replace(row.record, seq=seq, prev_hash=prev, signer_id=signer)
            record = replace(record, hash=auditchain.compute_record_hash(record, None))
            if signer in keys:
                record = replace(record, signature=sign_record(record, self.keys[signer][0]))
            done.append(replace(row, record=record))
        return done

    def move_anchor(self) -> None:
        """An unsigned one, as whoever has no key can write; it is taken."""
        auditchain.save_checkpoint(auditchain.make_checkpoint(self.rows()[-1].record), self._anchor)

    def drop_anchor(self) -> None:
        self._anchor.unlink()

    def column(self, seq: int) -> None:
        self.sql(f"UPDATE {{table}} SET subject = 'P-002' WHERE seq = {seq}")

    def signature(self, seq: int, change: Callable[[bytes, list[bytes]], bytes]) -> None:
        signatures = [bytes.fromhex(row.record.signature) for row in self.rows()]
        changed = change(signatures[seq], signatures).hex()
        self.sql(f"UPDATE {{table}} SET signature = '{changed}' WHERE seq = {seq}")


def installed() -> bool:
    """Whether it can be attacked here."""
    return auditchain is not None


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _said(reason: str) -> str:
    """The first part of what it says, without what it quotes."""
    return reason.split(":")[0].split("'")[0].strip()

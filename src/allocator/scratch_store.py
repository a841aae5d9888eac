"""A store in a scratch file: what the verifier replays a log into, in memory that does not grow with the log.

It answers the same questions as the log's own store, from a file that nobody else has and that is thrown away: no
journal, no sync, one transaction from beginning to end. Private details are not kept: no rule asks a store for them,
and participants' answers need no second copy. What was asked or appended lately is kept in memory, up to a bound.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allocator.errors import StorageError
from allocator.log import GENESIS, Detail, Record
from allocator.remembered import Owner, Remembered
from allocator.sqlite_store import RecordQueries

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16000; -- KiB
CREATE TABLE record (
    seq INTEGER PRIMARY KEY, prev BLOB, body BLOB, kind TEXT, participant TEXT, stratum TEXT, position INTEGER);
CREATE INDEX record_of_kind ON record (kind);
CREATE INDEX record_of_participant ON record (participant, kind) WHERE participant IS NOT NULL;
CREATE INDEX record_of_position ON record (stratum, position, kind) WHERE position IS NOT NULL;
BEGIN;
"""
_NEWEST = "SELECT kind, max(seq) FROM record WHERE {} GROUP BY kind"


@contextmanager
def scratch_store() -> Iterator[ScratchStore]:
    """A store in a folder of its own, which is gone afterwards. StorageError when there is no place for it."""
    with tempfile.TemporaryDirectory(prefix="allocator-verify-") as folder:
        store = ScratchStore(Path(folder) / "scratch.sqlite3")
        try:
            yield store
        finally:
            store.close()


class ScratchStore(RecordQueries):
    """See `allocator.store.Store`; as durable as the process, for one thread, and never rolled back."""

    def __init__(self, path: Path) -> None:
        with self._translated():
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.executescript(_SCHEMA)
        self._remembered = Remembered()

    def close(self) -> None:
        """Close the file; what is in it is not needed any more."""
        self._connection.close()

    @contextmanager
    def transaction(self, participant: str | None = None) -> Iterator[None]:  # noqa: ARG002 (all is at hand)
        """Without a journal nothing can be taken back: after an exception the store is closed."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:  # noqa: ARG002 (they are not kept)
        """Append the record that links to the last one."""
        last, seq = self._remembered.last, record.seq
        if seq != (last.seq + 1 if last else 0) or record.prev != (last.hash if last else GENESIS):
            raise RuntimeError(f"record {seq} does not follow the last one")
        kind, participant, stratum, position = record.columns
        row = (seq, record.prev, record.body, kind, participant, stratum, position)
        with self._translated():
            self._connection.execute("INSERT INTO record VALUES (?,?,?,?,?,?,?)", row)
        self._remembered.follow(record)

    def last(self) -> Record | None:
        """The newest record."""
        return self._remembered.last

    def record(self, seq: int) -> Record | None:
        """The record at this place."""
        return self._remembered.record(seq) or super().record(seq)

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """From memory, after one index look-up for a participant or a position that was not asked for lately."""
        if participant is not None:
            known = self._known((participant,))
        elif position is not None:
            known = self._known((stratum, position))
        else:
            known = self._remembered.of_log
        newest = max([known.get(kind, -1) for kind in kinds], default=-1)
        return None if newest < 0 else self.record(newest)

    def details(self, seq: int) -> dict[str, Detail]:
        """They are not kept: to ask for them is our own mistake."""
        raise RuntimeError(f"the private details of record {seq} are not in a scratch store")

    def _known(self, owner: Owner) -> dict[str, int]:
        """The newest record of each kind of an owner; known from now on, until others push it out."""
        if (known := self._remembered.of_owner(owner)) is not None:
            return known
        sql = _NEWEST.format("participant = ?" if len(owner) == 1 else "stratum = ? AND position = ?")
        with self._translated():
            known = dict(self._connection.execute(sql, owner).fetchall())
        self._remembered.know(owner, known)
        return known

    def _made(self, row: tuple[Any, ...]) -> Record:
        prev, body = row[:2]
        record = Record(prev=prev, body=body, fields=json.loads(body))  # it was parsed strictly before it was appended
        self._remembered.keep(record)
        return record

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever fails here says nothing of the log."""
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                "scratch",
                f"the scratch file of the verification failed: {error}",
                "This says nothing of the log. Free some space where temporary files lie (TMPDIR), then verify again.",
            ) from error

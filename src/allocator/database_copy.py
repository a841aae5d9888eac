"""The records of a log carried into PostgreSQL, each with its private details, in one transaction (docs/postgres.md).

What the database has of the log stays, and the rest follows it: its triggers take the next record of the chain and no
other, and private details right after their record. So both go there in the order of the log, many statements on the
way at a time ("pipeline mode", postgresql.org/docs, "libpq").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from allocator.errors import EvidenceError, StorageError
from allocator.known_servers import KnownServers
from allocator.log import GENESIS, Detail, Record, link
from allocator.postgres_connection import Bounded, connect, refuse_standby, translated
from allocator.relocation import lacks_seal
from allocator.verdict import Row

BUSY_SECONDS = 10.0
BATCH = 500  # records on the way before an answer is awaited
_ROOM = b"INSERT INTO allocator.study (study) VALUES (%s) ON CONFLICT DO NOTHING"
_TURN = b"SELECT turn FROM allocator.study WHERE study = %s FOR UPDATE"
_LAST = b"""SELECT seq, sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8')) FROM allocator.record
WHERE study = %s ORDER BY seq DESC LIMIT 1"""
_RECORD = b"""INSERT INTO allocator.record (study, seq, prev, body, kind, participant, stratum, position)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_DETAIL = b"INSERT INTO allocator.detail (study, seq, field, salt, value) VALUES (%s, %s, %s, %s, %s)"


class Copy:
    """A log on its way into a database, in one transaction that holds the study's row: nobody else sees it yet."""

    def __init__(self, connection: Bounded, study: str, known: KnownServers) -> None:
        self.connection, self._study, self._known = connection, study, known

    def add(self, rows: Iterable[Row]) -> int:
        """The rows that the database does not have, of all from record 0 on; how many these were.

        Raises:
            EvidenceError: the database holds another log of this study, or more of this one.
        """
        return _fill(self.connection, self._study, rows, self._last())

    def seal(self, moved: Record, details: Mapping[str, Detail]) -> None:
        """The record that seals the other place after the rest, where it is not there yet; durable on return."""
        last = self._last()
        if lacks_seal(last[1] if last else None, moved):
            body = moved.body.decode("utf-8")
            self.connection.execute(_RECORD, (self._study, moved.seq, moved.prev, body, *moved.columns))
            for name, detail in details.items():
                self.connection.execute(_DETAIL, (self._study, moved.seq, name, detail.salt, detail.value))
        self._known.remember(self.connection.server)
        if self.connection.execute(b"COMMIT").statusmessage != "COMMIT":
            raise StorageError("unavailable", "the database took the records back", "Ask again.")

    def _last(self) -> tuple[Any, ...] | None:
        return self.connection.execute(_LAST, (self._study,)).fetchone()


@contextmanager
def copying(address: str, study: str, known: KnownServers) -> Iterator[Copy]:
    """Room for a log in a database, and its turn; nothing of it stays there unless it was sealed.

    Args:
        address: of the database.
        study: its id.
        known: what this home knows of its servers.

    Raises:
        EvidenceError: an old primary.
        InputError, StorageError: it cannot be written; somebody else has the turn.
    """
    connection, server = connect(address, busy_seconds=BUSY_SECONDS)
    with closing(connection), translated(address):
        refuse_standby(server)
        known.check(server)
        connection.execute(_ROOM, (study,))
        connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        connection.execute(_TURN, (study,))
        yield Copy(connection, study, known)


def _fill(connection: Bounded, study: str, rows: Iterable[Row], there: tuple[Any, ...] | None) -> int:
    """Add the rows after the last one that is there; that one must be one of these."""
    last, digest = there or (-1, GENESIS)
    count, seq = 0, -1
    with connection.pipeline() as pipeline, connection.cursor() as cursor:
        for row in rows:
            seq = row.rowid
            if seq == last and link(row.prev, row.body) != digest:
                raise _other_log(study, last)
            if seq <= last:
                continue
            cursor.execute(_RECORD, (study, seq, row.prev, row.body.decode("utf-8"), *(row.columns or ())))
            for name, detail in row.details.items():
                cursor.execute(_DETAIL, (study, seq, name, detail.salt, detail.value))
            count += 1
            if count % BATCH == 0:
                pipeline.sync()
    if seq < last:
        raise _other_log(study, last)
    return count


def _other_log(study: str, last: int) -> EvidenceError:
    return EvidenceError(
        "other-log",
        f"the database holds a log of {study} up to record {last}, of which this one is no continuation",
        "Nothing was moved. Is it the right database? Is this home an old copy?",
    )

"""The logs of many studies in one PostgreSQL database, one study a store (postgres.sql, docs/postgres.md).

Writers wait in line for the row of their study in `allocator.study`: SELECT … FOR UPDATE, at READ COMMITTED. What the
row's holder reads after that is all that was committed. Advisory locks, LISTEN and sequences are not used.

What a commit means. Where the wait for a synchronous standby is cancelled, PostgreSQL answers COMMIT all the same, with
a warning ("The transaction has already committed locally, but might not have been replicated to the standby"): it is
unknown then. Where the connection is lost, a new one takes the same row lock first: while the old transaction may still
become a commit it holds that lock, so what is seen after it is final.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from allocator.errors import AllocatorError, StorageError
from allocator.known_servers import KnownServers
from allocator.log import GENESIS, Detail, Record
from allocator.postgres_connection import (
    AGAIN_STATES,
    COMMIT_SECONDS,
    as_ours,
    connect,
    refuse_standby,
    said_by,
    translated,
    unknown,
)
from allocator.store import Stored, stored_record

BUSY_SECONDS = 10.0
TRIES = 4  # of taking one's turn, where the database asked for another try or the connection was gone
PAGE = 1_000  # rows read at a time
_COLUMNS = "prev, body, kind, participant, stratum, position"
_TURN = b"SELECT turn FROM allocator.study WHERE study = %s FOR UPDATE"
_INSERT = b"""INSERT INTO allocator.record (study, seq, prev, body, kind, participant, stratum, position)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_DETAIL = b"INSERT INTO allocator.detail (study, seq, field, salt, value) VALUES (%s, %s, %s, %s, %s)"
_Values = tuple[str | int | None, ...]


def schema_text() -> str:
    """The text of the schema, for the administrator to run."""
    return Path(__file__).with_name("postgres.sql").read_text(encoding="utf-8")


def create_log(url: str, study: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
    """Make room for a study's log, a deliberate act of its own; nothing where there is room already.

    Raises:
        InputError, StorageError: as `connect`, or this user may not.
    """
    connection, _ = connect(url, busy_seconds=busy_seconds)
    with connection, translated(url):
        connection.execute(b"INSERT INTO allocator.study (study) VALUES (%s) ON CONFLICT DO NOTHING", (study,))


class PostgresStore:
    """See `allocator.store.Store`. One connection, made anew when it was lost; close it, or use it as a context."""

    def __init__(
        self, url: str, study: str, *, busy_seconds: float = BUSY_SECONDS, known: KnownServers | None = None
    ) -> None:
        self._url, self._study, self._busy_seconds, self._known = url, study, busy_seconds, known
        self._answers: dict[tuple[str, _Values], Record | None] | None = None  # inside a transaction only
        self._appended: tuple[int, bytes] | None = None  # seq and hash of the newest record of the transaction
        self._warnings: list[str] = []
        self._connect()
        try:
            if not self._fetch("SELECT study FROM allocator.study WHERE study = %s", (study,)):
                raise StorageError("no-log", f"the database has no log of study {study}", "Is it the right one?")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self._connection, self._server = connect(self._url, busy_seconds=self._busy_seconds)
        self._connection.add_notice_handler(self._noticed)
        try:
            refuse_standby(self._server)
            if self._known:
                self._known.check(self._server)
        except BaseException:
            self.close()
            raise

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized not in ("NOTICE", "INFO", "LOG", "DEBUG"):
            self._warnings.append(" ".join((notice.message_primary or "a warning").split()))

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing it twice does nothing."""
        self._connection.close()

    # ---- writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN, this study's turn, … COMMIT."""
        if self._answers is not None:
            raise RuntimeError("a transaction inside a transaction")
        self._take_turn()
        self._answers, self._appended = {}, None
        try:
            yield
            self._commit()
        finally:
            self._answers = None
            self._roll_back()

    def _take_turn(self) -> None:
        """Wait in line; once more where the database says so, or the connection was lost: nothing is written yet."""
        for left in reversed(range(TRIES)):
            if self._connection.closed:
                self._connect()
            try:
                self._connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
                if self._connection.execute(_TURN, (self._study,)).fetchone() is None:
                    raise StorageError("no-log", f"study {self._study} is gone from the database", "Restore it.")
                return
            except psycopg.Error as error:
                again = error.sqlstate in AGAIN_STATES or self._is_lost()
                self._roll_back()
                if not (left and again):
                    raise as_ours(self._url, error) from None
                time.sleep(0.01 * (TRIES - left))
            except BaseException:
                self._roll_back()
                raise

    def _commit(self) -> None:
        if self._known and self._appended:
            self._known.remember(self._server)
        self._warnings.clear()
        self._connection.answer_seconds, usual = COMMIT_SECONDS, self._connection.answer_seconds
        try:
            tag = self._connection.execute(b"COMMIT").statusmessage
        except psycopg.Error as error:
            raise self._after_failed_commit(error) from None
        self._connection.answer_seconds = usual
        if tag != "COMMIT":  # of a transaction that had failed, the answer is ROLLBACK, and no error
            raise StorageError("unavailable", "the database took the record back", "Nothing was written. Ask again.")
        if self._warnings and self._appended:
            raise unknown(f"the database committed with a warning ({self._warnings[0]})")

    def _after_failed_commit(self, error: psycopg.Error) -> AllocatorError:
        """An error that the server sent means no commit; a lost connection means: find out by a new one."""
        known = as_ours(self._url, error)
        if self._appended is None or not (self._is_lost() or error.sqlstate == "40003"):
            return known
        seq, digest = self._appended
        said, before = said_by(self._url, error), self._server
        self._connection.close()
        self._answers = {}  # nothing remembered, and no other connection than the one that has the turn
        try:
            self._take_turn()
            record = self.record(seq)
        except AllocatorError:
            return unknown(f"the connection to the database was lost ({said})")
        if record is not None and record.hash == digest:
            return unknown(f"the connection was lost while it was made durable ({said})")
        if self._server != before:
            return unknown("another server answers now, or the same one after a restart")
        return known

    def _is_lost(self) -> bool:
        """Whether no further answer can be had on this connection: gone, or in the middle of one that did not come."""
        state = self._connection.info.transaction_status
        return bool(self._connection.closed) or state in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)

    def _roll_back(self) -> None:
        """Leave no transaction behind; a connection that will not say so is closed, which ends it as well."""
        with suppress(psycopg.Error):
            if not self._is_lost() and self._connection.info.transaction_status != TransactionStatus.IDLE:
                self._connection.execute(b"ROLLBACK")
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            self._connection.close()

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """One INSERT for the record and its guard columns, one for the private details."""
        if self._answers is None:
            raise RuntimeError("append outside a transaction")
        last = self.last()
        if record.seq != (last.seq + 1 if last else 0) or record.prev != (last.hash if last else GENESIS):
            raise RuntimeError(f"record {record.seq} does not follow the last one")
        self._answers.clear()
        self._appended = record.seq, record.hash
        body = record.body.decode("utf-8")
        with translated(self._url):
            self._connection.execute(_INSERT, (self._study, record.seq, record.prev, body, *record.columns))
            rows = [(self._study, record.seq, name, detail.salt, detail.value) for name, detail in details.items()]
            if rows:
                with self._connection.cursor() as cursor:
                    cursor.executemany(_DETAIL, rows)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def last(self) -> Record | None:
        """The newest record."""
        return self._one("study = %s ORDER BY seq DESC LIMIT 1", (self._study,))

    def record(self, seq: int) -> Record | None:
        """The record at this place."""
        return self._one("study = %s AND seq = %s", (self._study, seq))

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """One index look-up a kind, all in one statement."""
        of, own = "kind", ()  # type: str, _Values
        if participant is not None:
            of, own = "participant", (participant,)
        elif position is not None:
            of, own = "position", (stratum, position)
        values = tuple(value for kind in kinds for value in (self._study, kind, *own))
        return self._one(_newest_clause(len(kinds), of), (self._study, *values))

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order, as of the first page."""
        where, values = "", ()  # type: str, _Values
        if kinds:
            where, values = f" AND kind IN ({', '.join(['%s'] * len(kinds))})", kinds
        if participant is not None:
            where, values = f"{where} AND participant = %s", (*values, participant)
        for row in self._pages(where, values, since):
            yield stored_record(row[1], row[2].encode(), *row[3:])

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record, as of the first page."""
        for seq, prev, body, *columns in self._pages("", (), since):
            yield Stored(seq, prev, body.encode(), *columns)

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record."""
        sql = "SELECT field, salt, value FROM allocator.detail WHERE study = %s AND seq = %s"
        return {name: Detail(salt=salt, value=value) for name, salt, value in self._fetch(sql, (self._study, seq))}

    def _pages(self, where: str, values: _Values, since: int) -> Iterator[tuple[Any, ...]]:
        """Rows page by page. The first page also says where the log ended then: what came later is left out."""
        end = "(SELECT max(seq) FROM allocator.record WHERE study = %s)"
        top: int | None = None
        while True:
            until, bound = (end, self._study) if top is None else ("%s", top)
            sql = f"SELECT seq, {_COLUMNS}, {until}::bigint FROM allocator.record WHERE study = %s AND seq >= %s"
            limit = "" if top is None else f" AND seq <= {top:d}"
            page = self._fetch(f"{sql}{limit}{where} ORDER BY seq LIMIT {PAGE}", (bound, self._study, since, *values))
            for row in page:
                yield row[:-1]
            if len(page) < PAGE:
                return
            since, top = page[-1][0] + 1, page[-1][-1]

    def _one(self, clause: str, values: _Values) -> Record | None:
        question = clause, values
        if self._answers is not None and question in self._answers:
            return self._answers[question]
        rows = self._fetch(f"SELECT {_COLUMNS} FROM allocator.record WHERE {clause}", values)
        answer = stored_record(rows[0][0], rows[0][1].encode(), *rows[0][2:]) if rows else None
        if self._answers is not None:
            self._answers[question] = answer
        return answer

    def _fetch(self, sql: str, values: _Values) -> list[tuple[Any, ...]]:
        """All rows of one statement; outside a transaction once more by a new connection when this one was lost."""
        for left in (True, False):
            if self._connection.closed and self._answers is None:
                self._connect()
            try:
                return self._connection.execute(sql.encode(), values).fetchall()
            except psycopg.Error as error:
                if self._answers is None and self._is_lost():
                    self._connection.close()
                    if left:
                        continue
                raise as_ours(self._url, error) from None
        raise RuntimeError("no try was made")


@cache
def _newest_clause(kinds: int, of: str) -> str:
    """The newest of so many kinds: at all, of a participant, or of a position."""
    where = {"kind": "", "participant": " AND participant = %s", "position": " AND stratum = %s AND position = %s"}[of]
    own = f"study = %s AND kind = %s{where}"
    look_up = f"SELECT (SELECT seq FROM allocator.record WHERE {own} ORDER BY seq DESC LIMIT 1) AS found"
    return f"study = %s AND seq = (SELECT max(found) FROM ({' UNION ALL '.join([look_up] * kinds)}) AS each)"


if __name__ == "__main__":  # python -m allocator.postgres_store | psql
    print(schema_text(), end="")

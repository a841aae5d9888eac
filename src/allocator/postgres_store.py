"""The logs of many studies in one PostgreSQL database, one study a store (postgres.sql, docs/postgres.md).

Writers wait in line for the row of their study in `allocator.study`: SELECT … FOR UPDATE, at READ COMMITTED. What the
row's holder reads after that is all that was committed. Advisory locks, LISTEN and sequences are not used.

An act is two round trips: one takes the turn and reads what others wrote since this process had its own, and what an
act asks about the participant; one inserts and commits (docs/adr/0020).

What a commit means. Where the wait for a synchronous standby is cancelled, PostgreSQL answers COMMIT all the same, with
a warning ("The transaction has already committed locally, but might not have been replicated to the standby"): it is
unknown then. Where the connection is lost, a new one takes the same row lock first: while the old transaction may still
become a commit it holds that lock, so what is seen after it is final.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from allocator import postgres_statements as statements
from allocator.errors import AllocatorError, Refused, StorageError
from allocator.known_servers import KnownServers
from allocator.log import GENESIS, Detail, Record
from allocator.postgres_batch import Cells, NoAnswer, Statement, together
from allocator.postgres_connection import (
    AGAIN_STATES,
    COMMIT_SECONDS,
    TURN_SECONDS,
    as_ours,
    connect,
    refuse_forgetful,
    refuse_standby,
    said_by,
    translated,
    unknown,
)
from allocator.postgres_queries import PostgresQueries, Values, number, stored, text

if TYPE_CHECKING:
    from allocator.postgres_pool import PostgresPool  # not on the way of a command

BUSY_SECONDS = 10.0
TRIES = 4  # of taking one's turn, where the database asked for another try or the connection was gone


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


class PostgresStore(PostgresQueries):
    """See `allocator.store.Store`. One connection, made anew when it was lost; close it, or use it as a context.

    With a pool, the connection is taken from it for each act and each question, and given back.
    """

    def __init__(
        self,
        url: str,
        study: str,
        *,
        busy_seconds: float = BUSY_SECONDS,
        known: KnownServers | None = None,
        pool: PostgresPool | None = None,
    ) -> None:
        super().__init__(study)
        self._url, self._busy_seconds, self._known, self._pool = url, busy_seconds, known, pool
        self._has = False  # a connection, which may be lost
        self._unsent: list[tuple[Statement, Values]] = []  # INSERTs that go with the COMMIT
        self._appended: tuple[int, bytes] | None = None  # seq and hash of the newest record of the transaction
        self._warnings: list[str] = []
        self._connect()
        try:
            if not self._fetch(statements.STUDY, (study,)):
                raise StorageError("no-log", f"the database has no log of study {study}", "Is it the right one?")
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        if self._pool is None:
            self._connection, _ = connect(self._url, busy_seconds=self._busy_seconds)
        else:
            self._release()
            self._connection = self._pool.take()
        self._has, self._server = True, self._connection.server
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
        """Close the connection, or give it back; closing it twice does nothing."""
        if self._pool is None:
            self._connection.close()
        self._release()

    def _release(self) -> None:
        """Give the connection back where it came from a pool."""
        if self._pool is not None and self._has:
            self._has = False
            self._connection.remove_notice_handler(self._noticed)
            self._pool.give(self._connection)

    def _others_are_lost(self) -> None:
        """Where this connection was, the others of the pool are likely to be as well."""
        if self._pool is not None and self._connection.closed:
            self._pool.replace_all()

    # ---- writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, participant: str | None = None) -> Iterator[None]:
        """BEGIN, this study's turn, … COMMIT."""
        if self._within:
            raise RuntimeError("a transaction inside a transaction")
        self._within = True  # from here on no other connection than the one with the turn
        self._appended, self._details = None, (-1, [])
        try:
            self._take_turn(participant)
            yield
            self._commit()
        except Refused:
            raise
        except BaseException:  # an answer may have come in part
            self._forget()
            raise
        finally:
            self._within = False
            self._unsent.clear()
            self._roll_back()
            self._release()

    def _take_turn(self, participant: str | None = None) -> None:
        """Wait in line; once more where the database says so, or the connection was lost: nothing is written yet."""
        until = time.monotonic() + self._busy_seconds + TURN_SECONDS
        for left in reversed(range(TRIES)):
            if not self._has or self._connection.closed:
                self._connect()
            try:
                self._begin(participant, max(until - time.monotonic(), 0.1))
                return
            except NoAnswer:
                self._roll_back()
                said = "no turn came in time: others are writing, or the database does not answer"
                raise StorageError("busy", said, "Nothing was written. Ask again.") from None
            except psycopg.Error as error:
                again = error.sqlstate in AGAIN_STATES or self._is_lost()
                self._roll_back()
                if not (left and again):
                    raise as_ours(self._url, error) from None
                time.sleep(0.01 * (TRIES - left))
                self._others_are_lost()
            except BaseException:
                self._roll_back()
                raise

    def _begin(self, participant: str | None, seconds: float) -> None:
        """One round trip: the turn, then what others wrote since this process had its own, and the participant's.

        Each statement sees what was committed before it began, so those after the lock see all there is.
        """
        last = self._remembered.last
        new: tuple[Statement, Values] = (statements.LAST, (self._study,))
        if participant is not None and last is not None:  # the rules follow the log to its end
            new = statements.SINCE, (self._study, last.seq)
        batch: list[tuple[Statement, Values]] = [(statements.BEGIN, ()), (statements.TURN, (self._study,)), new]
        if participant is not None:
            about = (statements.BOUND_DETAILS, statements.OF_PARTICIPANT, statements.OF_BOUND_POSITION)
            batch += [(statement, (self._study, participant)) for statement in about]
        _, turn, since, *own = together(self._connection, batch, seconds)
        if not turn.rows:
            raise StorageError("no-log", f"study {self._study} is gone from the database", "Restore it.")
        refuse_forgetful(*map(text, turn.rows[0]))
        if new[0] == statements.SINCE:
            self._catch_up(since.rows)
        else:
            self._found_last(since.rows)
        if participant is not None:
            details, theirs, bound = own
            self._know((participant,), theirs.rows)
            if bound.rows:
                first = stored(bound.rows[0])
                self._know((first.stratum, first.position), bound.rows)
            if details.rows:
                self._details = number(details.rows[0][-1]), [row[:-1] for row in details.rows]

    def _commit(self) -> None:
        """One round trip: what was appended, and COMMIT."""
        if self._known and self._appended:
            self._known.remember(self._server)
        self._warnings.clear()
        try:
            *_, done = together(self._connection, [*self._unsent, (statements.COMMIT, ())], COMMIT_SECONDS)
        except psycopg.Error as error:
            raise self._after_failed_commit(error) from None
        if done.tag != "COMMIT":  # of a transaction that had failed, the answer is ROLLBACK, and no error
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
        self._forget()  # nothing remembered, and no other connection than the one that has the turn
        self._unsent.clear()
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
        state = self._connection.pgconn.transaction_status
        return bool(self._connection.closed) or state in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)

    def _roll_back(self) -> None:
        """Leave no transaction behind; a connection that will not say so is closed, which ends it as well."""
        if not self._has or self._connection.pgconn.transaction_status == TransactionStatus.IDLE:
            return
        with suppress(psycopg.Error):
            if not self._is_lost():
                self._connection.execute(b"ROLLBACK")
        if self._connection.pgconn.transaction_status != TransactionStatus.IDLE:
            self._connection.close()

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """One INSERT for the record and its guard columns, one for each private detail; they go with the COMMIT."""
        if not self._within:
            raise RuntimeError("append outside a transaction")
        last = self.last()
        if record.seq != (last.seq + 1 if last else 0) or record.prev != (last.hash if last else GENESIS):
            raise RuntimeError(f"record {record.seq} does not follow the last one")
        self._appended = record.seq, record.hash
        body = record.body.decode("utf-8")
        self._unsent.append((statements.INSERT, (self._study, record.seq, record.prev, body, *record.columns)))
        for name, detail in details.items():
            self._unsent.append((statements.DETAIL, (self._study, record.seq, name, detail.salt, detail.value)))
        self._follow(record)

    def _fetch(self, statement: Statement, values: Values) -> list[Cells]:
        """All rows of one statement; outside a transaction once more by a new connection when this one was lost."""
        for left in (True, False):
            if not self._within and (not self._has or self._connection.closed):
                self._connect()
            try:
                *_, answer = together(
                    self._connection, [*self._unsent, (statement, values)], self._connection.answer_seconds
                )
                self._unsent.clear()
                return answer.rows
            except psycopg.Error as error:
                if not self._within and self._is_lost():
                    self._connection.close()
                    if left:
                        self._others_are_lost()
                        continue
                raise as_ours(self._url, error) from None
            finally:
                if not self._within:
                    self._release()
        raise RuntimeError("no try was made")


if __name__ == "__main__":  # python -m allocator.postgres_store | psql
    print(schema_text(), end="")

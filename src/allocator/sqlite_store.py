"""The log in one SQLite file (docs/spec.md §12). Plain `sqlite3`: sqlite-utils has no BEGIN IMMEDIATE.

`journal_mode=DELETE, synchronous=FULL`: the rollback journal is durable before the commit; that its removal is durable
too is seen to here. EXTRA would do it as well, but takes a folder that cannot be opened for one that was synced.
WAL is not used: SQLite before 3.51.3 can corrupt a WAL database written by two connections (sqlite.org/wal.html).
"""

from __future__ import annotations

import errno
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from allocator.errors import AllocatorError, EvidenceError, StorageError
from allocator.log import GENESIS, Detail, Record
from allocator.store import Stored, stored_record

BUSY_SECONDS = 10.0
SCHEMA_VERSION = 2  # user_version in schema.sql
# secure_delete: what a rolled-back page held is overwritten, and nothing lingers in free space
_PRAGMAS = ("synchronous=FULL", "recursive_triggers=1", "foreign_keys=1", "trusted_schema=0", "secure_delete=1")
PAGE = 1_000  # rows read at a time
_ROWS = """SELECT seq, prev, CAST(body AS BLOB), kind, participant, stratum, position
FROM record NOT INDEXED WHERE seq BETWEEN ? AND ? ORDER BY seq"""
_HELD = """SELECT count(*) FROM (
SELECT position, row_number() OVER (ORDER BY position) AS number FROM record
WHERE kind IN ('allocated', 'late', 'receipt-entered') AND stratum = ? AND position >= ?)
WHERE position = ? + number - 1"""
_COLUMNS = "prev, CAST(body AS BLOB), kind, participant, stratum, position"


def schema_text() -> str:
    """The text of the one schema file."""
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def create_log(path: Path) -> None:
    """Make an empty log: a deliberate act of its own, never done by opening. StorageError if it cannot be."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rwc", uri=True)) as connection:
            connection.executescript(f"BEGIN EXCLUSIVE; {schema_text()} COMMIT;")
    except sqlite3.Error as error:
        raise StorageError("cannot-create", f"{path.name} could not be made: {error}") from error


class RecordQueries(ABC):
    """The questions that a store answers, put to the table `record` of one connection (see `allocator.store.Store`)."""

    _connection: sqlite3.Connection

    def last(self) -> Record | None:
        """The newest record."""
        return self._one("ORDER BY seq DESC LIMIT 1", ())

    def record(self, seq: int) -> Record | None:
        """The record at this place."""
        return self._one("WHERE seq = ?", (seq,))

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """One index look-up a kind, all in one statement."""
        own: tuple[str | int | None, ...] = ()
        if participant is not None:
            clause, own = _newest_clause(len(kinds), "participant"), (participant,)
        elif position is not None:
            clause, own = _newest_clause(len(kinds), "position"), (stratum, position)
        else:
            clause = _newest_clause(len(kinds), "kind")
        return self._one(clause, tuple(value for kind in kinds for value in (kind, *own)))

    def first_unallocated(self, stratum: str, start: int) -> int:
        """Positions held, numbered from `start`: those that are their own number come before the first hole."""
        with self._translated():
            return start + int(self._connection.execute(_HELD, (stratum, start, start)).fetchone()[0])

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order."""
        clauses = ["seq >= ?"]
        if kinds:
            clauses.append(f"kind IN ({', '.join('?' * len(kinds))})")
        if participant is not None:
            clauses.append("participant = ?")
        where = f"WHERE {' AND '.join(clauses)} "
        values = (since, *kinds, *(() if participant is None else (participant,)))
        with self._translated():
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM record {where}ORDER BY seq", values)
            for row in rows:
                yield self._made(row)

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record up to now, page by page: a writer waits for a page, not for the whole log."""
        with self._translated():
            last = self._connection.execute("SELECT max(seq) FROM record").fetchone()[0]
            for start in range(since, -1 if last is None else last + 1, PAGE):
                values = (start, min(start + PAGE - 1, last))
                for row in self._connection.execute(_ROWS, values).fetchall():
                    yield Stored(*row)

    def _one(self, clause: str, values: tuple[str | int | None, ...]) -> Record | None:
        with self._translated():
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM record {clause}", values).fetchone()
        return self._made(row) if row else None

    def _made(self, row: tuple[Any, ...]) -> Record:
        """The record of a row of `_COLUMNS`."""
        return stored_record(*row)

    @abstractmethod
    def _translated(self) -> AbstractContextManager[None]:
        """Turns errors of sqlite3 into those that a store may raise."""


class SqliteStore(RecordQueries):
    """See `allocator.store.Store`. One connection; close it, or use it as a context manager."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path, self._busy_seconds = path, busy_seconds
        self._answers: dict[tuple[str, tuple[Any, ...]], Record | None] | None = None  # inside a transaction only
        self._appended: bytes | None = None  # hash of the newest record appended in the transaction
        self._folder = _open_folder(path)
        try:
            self._connection = self._connect()
        except BaseException:
            os.close(self._folder)
            raise

    def _connect(self) -> sqlite3.Connection:
        _refuse_foreign_files(self._path)
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        with _translated(self._path):
            connection = sqlite3.connect(uri, uri=True, timeout=self._busy_seconds, isolation_level=None)
        try:
            with _translated(self._path):
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
                version = connection.execute("PRAGMA user_version").fetchone()[0]
            _check_made_for_us(self._path, mode, version)
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing it twice does nothing."""
        self._connection.close()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    @contextmanager
    def transaction(self, participant: str | None = None) -> Iterator[None]:  # noqa: ARG002 (all is at hand)
        """BEGIN IMMEDIATE … COMMIT: a plain BEGIN would let two writers read the same state and fail late."""
        with _translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
        # nobody else writes until COMMIT, so a question asked twice has one answer until something is appended
        self._answers, self._appended = {}, None
        try:
            yield
            try:
                self._connection.execute("COMMIT")
                os.fsync(self._folder)  # the journal's removal: until it is durable, a power cut would roll back
            except (sqlite3.Error, OSError) as error:
                raise self._after_failed_commit(error) from error
        finally:
            self._answers = None
            if self._connection.in_transaction:
                # closing the connection, or the next one, rolls back as well: the first error is the one to tell
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def _after_failed_commit(self, error: sqlite3.Error | OSError) -> AllocatorError:
        """A COMMIT that failed may have happened: find out with a connection of its own, which rolls a journal back.

        Where the record stands after all, its durability is what failed: a sync that succeeds when it is tried again
        may have lost the pages (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So it is
        unknown, and nothing is shown until somebody asks again.
        """
        if isinstance(error, OSError):
            return _unknown(error)
        known = _as_ours(self._path, error)
        if known.code == "busy":
            return known
        try:
            self._connection.close()
            self._connection = self._connect()
            last = self.last()
        except AllocatorError:
            return _unknown(error)
        stands = last is not None and last.hash == self._appended
        return _unknown(error) if stands else known

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """One INSERT for the record and its guard columns, one for each private detail."""
        if not self._connection.in_transaction:
            raise RuntimeError("append outside a transaction")
        last = self.last()
        if record.seq != (last.seq + 1 if last else 0) or record.prev != (last.hash if last else GENESIS):
            raise RuntimeError(f"record {record.seq} does not follow the last one")
        if self._answers is not None:
            self._answers.clear()
        self._appended = record.hash
        with _translated(self._path):
            self._connection.execute(
                "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)",
                (record.seq, record.prev, record.body.decode("utf-8"), *record.columns),
            )
            self._connection.executemany(
                "INSERT INTO detail (seq, field, salt, value) VALUES (?,?,?,?)",
                [(record.seq, name, detail.salt, detail.value) for name, detail in details.items()],
            )

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record."""
        with _translated(self._path):
            rows = self._connection.execute("SELECT field, salt, value FROM detail WHERE seq = ?", (seq,)).fetchall()
        return {name: Detail(salt=salt, value=value) for name, salt, value in rows}

    def _one(self, clause: str, values: tuple[str | int | None, ...]) -> Record | None:
        question = clause, values
        if self._answers is not None and question in self._answers:
            return self._answers[question]
        answer = super()._one(clause, values)
        if self._answers is not None:
            self._answers[question] = answer
        return answer

    def _translated(self) -> AbstractContextManager[None]:
        return _translated(self._path)


@cache
def _newest_clause(kinds: int, of: str) -> str:
    """The newest of so many kinds: at all, of a participant, or of a position."""
    where = {"kind": "", "participant": " AND participant = ?", "position": " AND stratum = ? AND position = ?"}[of]
    look_up = f"SELECT (SELECT seq FROM record WHERE kind = ?{where} ORDER BY seq DESC LIMIT 1) AS found"
    return f"WHERE seq = (SELECT max(found) FROM ({' UNION ALL '.join([look_up] * kinds)}))"


def _refuse_foreign_files(path: Path) -> None:
    """A -wal or -shm beside our file was put there by somebody: opening would replay it (formats: planted journal)."""
    if not path.exists():
        raise StorageError("no-log", f"{path} is not there", "Check --home and --study, or restore the file.")
    for suffix in ("-wal", "-shm"):
        foreign = path.with_name(path.name + suffix)
        if foreign.exists():
            raise EvidenceError(
                "foreign-file",
                f"{foreign.name} lies beside the log, which is never written that way",
                "Do not open the log with other programs. Run `allocator verify` and tell the sponsor.",
            )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """sqlite3's errors as ours: busy, unavailable, or damaged."""
    try:
        yield
    except sqlite3.Error as error:
        raise _as_ours(path, error) from error


def _as_ours(path: Path, error: sqlite3.Error) -> AllocatorError:
    if isinstance(error, sqlite3.IntegrityError):
        return EvidenceError(
            "append-only", f"{path.name} refused the record: {error}", "Nothing was written. Run `allocator verify`."
        )
    if isinstance(error, sqlite3.OperationalError):
        return _storage_error(path, error)
    return EvidenceError(
        "log-damaged",
        f"{path.name} is damaged or not a log: {error}",
        "Nothing was written. Run `allocator verify`, then restore the file from a backup.",
    )


def _open_folder(path: Path) -> int:
    """The log's folder, held open: when it must be synced, no limit on open files is in the way."""
    try:
        return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise StorageError(
            "no-log", f"{path} is not there", "Check --home and --study, or restore the file."
        ) from error
    except OSError as error:
        raise StorageError("unavailable", f"{path.parent.name}: {error.strerror}", "Nothing was written.") from error


def _unknown(error: Exception) -> StorageError:
    return StorageError(
        "unknown",
        f"it is not known whether this was recorded: the disk failed while it was made durable ({error})",
        "Ask again: the same request is safe. What was recorded is shown again, what was not is done then.",
    )


def _check_made_for_us(path: Path, mode: str, version: int) -> None:
    if mode != "delete":
        raise EvidenceError(
            "journal-mode",
            f"{path.name} is in journal mode {mode}; this program writes it in mode delete only",
            "Somebody changed the file. Run `allocator verify` and tell the sponsor.",
        )
    if version != SCHEMA_VERSION:
        older = version < SCHEMA_VERSION
        raise EvidenceError(
            "log-version",
            f"{path.name} has schema version {version}, this program writes version {SCHEMA_VERSION}",
            f"Use the program that made it, an {'older' if older else 'newer'} one. Nothing was written.",
        )


def _storage_error(path: Path, error: sqlite3.OperationalError) -> StorageError | EvidenceError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageError("busy", "the log is busy: somebody else is writing", "Nothing was written. Ask again.")
    if name.startswith("SQLITE_FULL") or getattr(error, "errno", None) == errno.ENOSPC:
        return StorageError("disk-full", "the disk is full", "Nothing was written. Free some space, then ask again.")
    if name.startswith("SQLITE_READONLY"):
        return StorageError(
            "read-only", f"{path.name} cannot be written", "Nothing was written. Check the permissions."
        )
    if name in ("SQLITE_ERROR", "SQLITE_SCHEMA"):
        return EvidenceError("log-schema", f"{path.name} is not as made: {error}", "Run `allocator verify`.")
    return StorageError("unavailable", f"{path.name}: {error}", "Nothing was written. Ask again, or tell the sponsor.")

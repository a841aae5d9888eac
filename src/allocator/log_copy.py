"""A log that lies in PostgreSQL as one SQLite file: for a backup, an export, a move (docs/postgres.md).

The file is of one moment of the database, made record by record and page by page, so that no log is too long for the
memory. Its tables and triggers are those of any log (docs/spec.md §12); its chain is followed while it is made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.errors import EvidenceError, StorageError
from allocator.home import sync_folder
from allocator.log import GENESIS, link
from allocator.sqlite_store import create_log
from allocator.stores import need_postgres

if TYPE_CHECKING:
    from allocator.known_servers import KnownServers
    from allocator.postgres_connection import Bounded

BUSY_SECONDS = 10.0
_RECORD = "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)"
_DETAIL = "INSERT INTO detail (seq, field, salt, value) VALUES (?,?,?,?)"


@contextmanager
def this_moment(address: str, known: KnownServers | None = None) -> Iterator[Bounded]:
    """A read-only connection to the server that is written to, never to a standby: it sees the database as of now.

    Raises:
        EvidenceError: it is an old primary, by what this home knows of its servers.
        InputError, StorageError: the database cannot be read.
    """
    need_postgres()
    from allocator.postgres_connection import connect, refuse_standby, translated

    connection, server = connect(address, busy_seconds=BUSY_SECONDS)
    with closing(connection), translated(address):
        refuse_standby(server)
        if known is not None:
            known.check(server)
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(b"SELECT version FROM allocator.version")  # the first query is what fixes the moment
        yield connection


def copy_to_file(address: str, study: str, path: Path, *, until: int | None = None) -> tuple[int, bytes]:
    """Copy the log of a study in PostgreSQL, as of now, into a new file.

    Args:
        address: of the database.
        study: its id.
        until: the last record wanted, where others may have written after it; None for all.
        path: of the file, which must not be there. It is whole and durable on return, and gone after an error; a crash
            may leave a part of it, so give it its real name afterwards.

    Returns:
        How many records it has, and the hash of the last one (32 bytes).

    Raises:
        InputError, StorageError: the database cannot be read; it has no record of this study; the disk refused.
        EvidenceError: the chain breaks, or the records do not hold together.
    """
    with this_moment(address) as connection:
        return copy_snapshot(connection, study, path, until=until)


def copy_snapshot(connection: Bounded, study: str, path: Path, *, until: int | None = None) -> tuple[int, bytes]:
    """As `copy_to_file`, from a connection of `this_moment`: of the moment when that was taken."""
    if os.path.lexists(path):
        raise StorageError("file-exists", f"{path.name} is there already", "Nothing was done.")
    try:
        with _as_storage(path):
            create_log(path)
            count, head = _filled(path, connection, study, until)
            _sync(path)
    except BaseException:
        for left in (path, path.with_name(path.name + "-journal")):
            left.unlink(missing_ok=True)
        raise
    return count, head


def _filled(path: Path, connection: Bounded, study: str, until: int | None) -> tuple[int, bytes]:
    """Fill an empty log in one transaction; it is synced afterwards, once."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as file:
        for pragma in ("synchronous=OFF", "foreign_keys=1", "trusted_schema=0"):
            file.execute(f"PRAGMA {pragma}")
        file.execute("BEGIN EXCLUSIVE")
        count, head = _fill(file, connection, study, until)
        file.execute("COMMIT")
    if count <= (until or 0):
        said = f"lacks record {count}" if count else f"has no log of study {study}"
        raise StorageError("no-log", f"the database {said}", "Is it the right one?")
    return count, head


def _fill(file: sqlite3.Connection, connection: Bounded, study: str, until: int | None) -> tuple[int, bytes]:
    """Every record and its private details, in order; the details beside one pass over the records."""
    from allocator.postgres_evidence import scan

    count, head = 0, GENESIS
    details = scan(connection, "seq, field, salt, value", "detail", study)
    following = next(details, None)
    for row in scan(connection, "seq, prev, body, kind, participant, stratum, position", "record", study):
        seq, prev, body = row[:3]
        if until is not None and seq > until:
            return count, head
        if seq != count or prev != head:
            raise _changed(f"the chain breaks at record {count}")
        file.execute(_RECORD, row)
        count, head = count + 1, link(prev, body.encode())
        following = _fill_details(file, seq, following, details)
    if following is not None:
        raise _changed(f"a private detail of record {following[0]}, which is not there")
    return count, head


def _fill_details(
    file: sqlite3.Connection, seq: int, following: tuple[Any, ...] | None, details: Iterator[tuple[Any, ...]]
) -> tuple[Any, ...] | None:
    """The private details of one record; returns the first one of a later record."""
    while following is not None and following[0] <= seq:
        if following[0] != seq:
            raise _changed(f"a private detail of record {following[0]}, which is not there")
        file.execute(_DETAIL, following)
        following = next(details, None)
    return following


def _changed(said: str) -> EvidenceError:
    return EvidenceError(
        "log-changed",
        f"the log in the database does not hold together: {said}",
        "Run `allocator verify`. A copy of a changed log would only keep the change.",
    )


@contextmanager
def _as_storage(path: Path) -> Iterator[None]:
    """Errors of the file as ours."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise _changed(str(error)) from error
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            "cannot-write", f"{path.name} could not be written: {error}", "Free some space, then ask again."
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)

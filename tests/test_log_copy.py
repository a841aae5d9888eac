"""A log in PostgreSQL as one file: every byte of it, of one moment, followed, whole or not at all."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from allocator import log_copy, postgres_connection
from allocator.errors import EvidenceError, StorageError
from allocator.postgres_store import PostgresStore, create_log
from allocator.sqlite_store import SqliteStore, schema_text
from postgres_server import Server
from test_stores import append

RECORDS = 7


@pytest.fixture
def study(postgres: Server) -> str:
    """A study with seven records, each with a private detail."""
    study = uuid.uuid4().hex
    create_log(postgres.writer, study)
    with PostgresStore(postgres.writer, study) as store:
        for kind in ("paused", "paused", "allocated", "paused", "paused", "paused", "paused"):
            append(store, kind)
    return study


def in_file(path: Path, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table, as they are stored."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()


def in_database(server: Server, study: str, table: str) -> list[tuple[Any, ...]]:
    """The same of a study in the database."""
    with psycopg.connect(server.admin) as connection:
        sql = f"SELECT * FROM allocator.{table} WHERE study = %s ORDER BY 2, 3"
        return [row[1:] for row in connection.execute(sql.encode(), (study,))]


@pytest.mark.requirement("R03")
def test_every_byte_of_every_row_is_in_the_file(
    postgres: Server, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocator.postgres_evidence.PAGE", 2)
    path = tmp_path / "copy"
    count, head = log_copy.copy_to_file(postgres.auditor, study, path)
    for table in ("record", "detail"):
        assert in_file(path, table) == in_database(postgres, study, table) != []
    with SqliteStore(path) as store, PostgresStore(postgres.writer, study) as original:
        assert count == RECORDS and store.last() == original.last()
        assert (last := store.last()) is not None and last.hash == head
        assert list(store.rows(0)) == list(original.rows(0))
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(schema_text())
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        assert set(connection.execute(schema)) == set(ours.execute(schema))
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]


def test_the_file_is_of_the_moment_of_the_snapshot_and_nobody_waits(
    postgres: Server, study: str, tmp_path: Path
) -> None:
    with log_copy.this_moment(postgres.auditor) as connection:
        with PostgresStore(postgres.writer, study) as store:
            append(store)
        count, _ = log_copy.copy_snapshot(connection, study, tmp_path / "then")
    assert count == RECORDS
    assert log_copy.copy_to_file(postgres.auditor, study, tmp_path / "now")[0] == RECORDS + 1
    assert log_copy.copy_to_file(postgres.auditor, study, tmp_path / "part", until=4)[0] == 5
    assert [row[0] for row in in_file(tmp_path / "part", "detail")] == [0, 1, 3, 4]  # an allocation has none
    with pytest.raises(StorageError, match="lacks record 8"):
        log_copy.copy_to_file(postgres.auditor, study, tmp_path / "more", until=8)


CHANGES = {
    "a record's body": ("UPDATE allocator.record SET body = body || ' ' WHERE study = %s AND seq = 2", "record 3"),
    "a record gone": ("DELETE FROM allocator.record WHERE study = %s AND seq = 3", "record 3"),
    "a detail of nothing": (
        "INSERT INTO allocator.detail SELECT %s, 99, 'reason', decode(repeat('00', 32), 'hex'), 'x'",
        "detail of record 99",
    ),
    "two allocations": (
        "UPDATE allocator.record SET kind = 'allocated', participant = 'P-001' WHERE study = %s AND seq = 6",
        "one participant, one allocation",
    ),
}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_does_not_hold_together_is_not_copied(
    postgres: Server, study: str, tmp_path: Path, change: str
) -> None:
    statement, said = CHANGES[change]
    with psycopg.connect(postgres.admin, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode(), (study,))
    with pytest.raises(EvidenceError) as refusal:
        log_copy.copy_to_file(postgres.auditor, study, tmp_path / "copy")
    assert refusal.value.code == "log-changed" and said in refusal.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("R03")
def test_a_standby_is_not_copied_from_whatever_the_address_says(
    postgres: Server, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = postgres_connection.connect

    def to_a_standby(*given: Any, **named: Any) -> Any:
        connection, server = connect(*given, **named)
        return connection, replace(server, timeline=None)

    monkeypatch.setattr(postgres_connection, "connect", to_a_standby)
    with pytest.raises(StorageError) as refusal:
        log_copy.copy_to_file(postgres.auditor, study, tmp_path / "copy")
    assert refusal.value.code == "standby" and list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_leaves_nothing(
    postgres: Server, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "there").write_bytes(b"mine")
    for path, wanted, code in (
        (tmp_path / "there", study, "file-exists"),
        (tmp_path / "no-folder" / "copy", study, "cannot-create"),
        (tmp_path / "copy", "another", "no-log"),
    ):
        with pytest.raises(StorageError) as refusal:
            log_copy.copy_to_file(postgres.auditor, wanted, path)
        assert refusal.value.code == code
    monkeypatch.setattr(log_copy, "_sync", full)
    with pytest.raises(StorageError, match="No space left"):
        log_copy.copy_to_file(postgres.auditor, study, tmp_path / "copy")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"mine"]

"""The contract of a store, held by each of them; and the guard rails of the SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from allocator.errors import EvidenceError, StorageError
from allocator.log import FORMAT, GENESIS, KINDS, Detail, Record, detail_commitment, new_record
from allocator.memory_store import MemoryStore
from allocator.postgres_store import PostgresStore
from allocator.postgres_store import create_log as create_postgres_log
from allocator.scratch_store import scratch_store
from allocator.sqlite_store import SqliteStore, create_log, schema_text
from allocator.store import Store
from postgres_server import Server

SALT = bytes(range(32))


def next_record(store: Store, kind: str = "paused", **fields: Any) -> Record:
    """A record that links to the last one; its form is good, its signature is none."""
    last = store.last()
    seq = last.seq + 1 if last else 0
    rule = KINDS[kind]
    common = {"format": FORMAT, "seq": seq, "kind": kind, "time": "2026-11-20T04:00:00.000Z", "mode": "test"}
    signed = {"person": "PH", "role": "pharmacist", "meaning": rule.meaning, "signature": "00" * 64}
    details = {name: detail_commitment(SALT, seq, name, name) for name in rule.details}
    allocated = {
        "stratum": {},
        "position": 0,
        "number": 1,
        "sealing": "00" * 16,
        "confirmation": 0,
        "arm": 0,
        "salt": "00" * 32,
        "participant": "P-001",
    }
    own = {"allocated": allocated, "looked-up": {"participant": "P-001", "allocation": 0}}.get(kind, {})
    body = {**common, "program": "x", **signed, **own, **({"details": details} if rule.details else {}), **fields}
    return new_record(last.hash if last else GENESIS, body)


def append(store: Store, kind: str = "paused", **fields: Any) -> Record:
    """Append one record in a transaction of its own."""
    record = next_record(store, kind, **fields)
    with store.transaction():
        store.append(record, {name: Detail(salt=SALT, value=name) for name in KINDS[kind].details})
    return record


def postgres_log(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Address and study of an empty log in the test server, this test's own."""
    address, study = request.getfixturevalue("postgres").writer, uuid.uuid4().hex
    create_postgres_log(address, study)
    return address, study


def study_of_three(server: Server) -> str:
    """A study in a server, with three records: two pauses and an allocation of P-001 at position 0."""
    study = uuid.uuid4().hex
    create_postgres_log(server.writer, study)
    with PostgresStore(server.writer, study) as store:
        append(store), append(store), append(store, "allocated")
    return study


@contextmanager
def opened(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A store of this kind, empty."""
    kind = request.param
    if kind == "memory":
        yield MemoryStore()
    elif kind == "scratch":
        with scratch_store() as scratch:
            yield scratch
    elif kind == "postgres":
        with PostgresStore(*postgres_log(request)) as postgres:
            yield postgres
    else:
        create_log(folder / "log.sqlite3")
        with SqliteStore(folder / "log.sqlite3") as sqlite:
            yield sqlite


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store that keeps the whole contract."""
    with opened(request, tmp_path) as store:
        yield store


# what is read is the same from a store that cannot be rolled back and keeps no private details, too
of_every_kind = pytest.mark.parametrize("store", ["memory", "sqlite", "postgres", "scratch"], indirect=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with three records: two pauses and an allocation of P-001 at position 0."""
    create_log(tmp_path / "log.sqlite3")
    with SqliteStore(tmp_path / "log.sqlite3") as sqlite:
        append(sqlite), append(sqlite), append(sqlite, "allocated")
    return tmp_path / "log.sqlite3"


# ---- the contract ---------------------------------------------------------------------------------------------------


@of_every_kind
def test_an_empty_store(store: Store) -> None:
    assert store.last() is None and store.record(0) is None and store.newest(("paused",)) is None
    assert store.newest(("paused",), participant="P-001") is None
    assert store.newest(("paused",), stratum="{}", position=0) is None
    assert list(store.records()) == [] and list(store.rows(0)) == []


@pytest.mark.requirement("A03")
@of_every_kind
def test_the_first_position_that_no_allocation_holds(store: Store) -> None:
    assert store.first_unallocated("{}", 0) == 0
    for number, position in enumerate((0, 1, 2, 4, 5, 7)):
        about = {"participant": f"P-{number:03d}", "position": position, "number": number + 1}
        append(store, "allocated", **about), append(store, "paused")
    expected = {0: 3, 1: 3, 2: 3, 3: 3, 4: 6, 5: 6, 6: 6, 7: 8, 8: 8, 20: 20}
    assert {start: store.first_unallocated("{}", start) for start in expected} == expected
    assert store.first_unallocated('{"site":"A"}', 0) == 0
    with store.transaction():
        assert store.first_unallocated("{}", 4) == 6


@pytest.mark.requirement("L02")
@of_every_kind
def test_records_come_back_as_they_were_appended(store: Store) -> None:
    written = [append(store) for _ in range(5)]
    assert list(store.records()) == written
    assert [store.record(seq) for seq in range(5)] == written
    assert store.last() == written[-1]
    assert all(after.prev == before.hash for before, after in pairwise(written))


@pytest.mark.parametrize("seq", [-1, 1, 99])
@of_every_kind
def test_a_record_that_is_not_there(store: Store, seq: int) -> None:
    append(store)
    assert store.record(seq) is None


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("change", [{"seq": 0}, {"seq": 2}, {"seq": 7}])
def test_only_the_next_number_is_appended(store: Store, change: dict[str, int]) -> None:
    append(store)
    record = next_record(store, **change)
    with pytest.raises(RuntimeError), store.transaction():
        store.append(record, {})
    assert len(list(store.records())) == 1


@pytest.mark.requirement("L02")
def test_only_what_links_to_the_last_record_is_appended(store: Store) -> None:
    append(store)
    foreign = new_record(b"\x01" * 32, dict(next_record(store).fields))
    with pytest.raises(RuntimeError), store.transaction():
        store.append(foreign, {})
    assert len(list(store.records())) == 1


@pytest.mark.requirement("A04")
def test_an_exception_leaves_nothing(store: Store) -> None:
    first = append(store)
    with pytest.raises(KeyError), store.transaction():
        store.append(next_record(store), {"reason": Detail(salt=SALT, value="reason")})
        store.append(next_record(store, "allocated"), {})
        raise KeyError
    assert list(store.records()) == [first] and store.last() == first
    assert store.details(1) == {} and store.record(1) is None
    assert store.newest(("allocated",), participant="P-001") is None
    assert list(store.records(participant="P-001")) == []


def test_after_a_rollback_the_same_place_is_written_again(store: Store) -> None:
    append(store)
    with pytest.raises(KeyError), store.transaction():
        store.append(next_record(store), {})
        raise KeyError
    assert append(store, "looked-up").seq == 1
    assert [record.kind for record in store.records()] == ["paused", "looked-up"]


def test_inside_a_transaction_its_own_records_are_seen(store: Store) -> None:
    with store.transaction():
        record = next_record(store)
        store.append(record, {"reason": Detail(salt=SALT, value="because")})
        assert store.last() == record
        assert store.details(0)["reason"].value == "because"


def test_private_details_stand_beside_the_body(store: Store) -> None:
    append(store)
    assert store.details(0) == {"reason": Detail(salt=SALT, value="reason")}
    assert store.details(1) == {} and store.details(99) == {}


@of_every_kind
def test_the_newest_of_some_kinds(store: Store) -> None:
    append(store), append(store, "looked-up"), append(store), append(store, "looked-up", participant="P-002")
    assert getattr(store.newest(("paused",)), "seq", None) == 2
    assert getattr(store.newest(("paused", "looked-up")), "seq", None) == 3
    assert getattr(store.newest(("looked-up",), participant="P-001"), "seq", None) == 1
    assert store.newest(("looked-up",), participant="P-003") is None
    assert store.newest(("paused",), participant="P-001") is None
    assert store.newest(("allocated",)) is None


@of_every_kind
def test_the_newest_at_a_position_of_a_stratum(store: Store) -> None:
    append(store, "allocated")
    append(store, "allocated", participant="P-002", stratum={"site": "A"})
    append(store, "allocated", participant="P-003", position=1)
    found = store.newest(("allocated",), stratum="{}", position=0)
    assert found is not None and found.fields["participant"] == "P-001"
    found = store.newest(("allocated",), stratum='{"site":"A"}', position=0)
    assert found is not None and found.fields["participant"] == "P-002"
    assert store.newest(("allocated",), stratum='{"site":"A"}', position=1) is None
    assert store.newest(("confirmed",), stratum="{}", position=0) is None


@of_every_kind
def test_records_of_kinds_and_of_a_participant(store: Store) -> None:
    append(store), append(store, "looked-up"), append(store, "looked-up", participant="P-002"), append(store)
    assert [record.seq for record in store.records(("paused",))] == [0, 3]
    assert [record.seq for record in store.records(("looked-up", "paused"))] == [0, 1, 2, 3]
    assert [record.seq for record in store.records(participant="P-002")] == [2]
    assert [record.seq for record in store.records(("paused",), participant="P-002")] == []
    assert [record.seq for record in store.records(participant="' OR 1=1 --")] == []


# ---- the contract, where a second store is open on the same log -----------------------------------------------------


Another = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Another]]:
    """A store, and a way to open further ones on its log: for every kind that more than one process can open."""
    opened: list[SqliteStore | PostgresStore] = []
    address, study = ("", "") if request.param == "sqlite" else postgres_log(request)
    if request.param == "sqlite":
        create_log(tmp_path / "log.sqlite3")

    def another() -> Store:
        store = (
            PostgresStore(address, study, busy_seconds=0.05)
            if address
            else SqliteStore(tmp_path / "log.sqlite3", busy_seconds=0.05)
        )
        opened.append(store)
        return store

    yield another(), another
    for store in opened:
        store.close()


@pytest.mark.requirement("A04")
def test_what_is_durable_is_there_for_the_next_one(both: tuple[Store, Another]) -> None:
    store, another = both
    record = append(store)
    assert another().last() == record and another().details(0)["reason"].value == "reason"


def test_others_see_committed_records_only_and_always_the_first_ones(both: tuple[Store, Another]) -> None:
    store, another = both
    append(store)
    reader = another()
    with store.transaction():
        store.append(next_record(store, "looked-up"), {})
        assert [record.seq for record in reader.records()] == [0]
    assert [record.seq for record in reader.records()] == [0, 1]
    reading = iter(reader.records())
    next(reading)
    assert [row.seq for row in reader.rows(0)] == [0, 1]
    assert [record.seq for record in reading] == [1]


@pytest.mark.requirement("A03")
def test_the_second_writer_waits_a_bounded_time_and_nothing_of_it_is_written(both: tuple[Store, Another]) -> None:
    store, another = both
    second = another()
    with store.transaction():
        store.append(next_record(store, "looked-up"), {})
        with pytest.raises(StorageError) as refusal, second.transaction():
            raise AssertionError("both write")
    assert refusal.value.code == "busy"
    assert append(second).seq == 1  # and it can be used again


@pytest.mark.requirement("A03")
def test_nobody_appends_after_the_same_record(both: tuple[Store, Another]) -> None:
    store, another = both
    second = another()
    append(store)
    stale = next_record(second)
    append(store)
    with pytest.raises(RuntimeError), second.transaction():
        second.append(stale, {"reason": Detail(salt=SALT, value="reason")})
    assert [record.seq for record in second.records()] == [0, 1]


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("both", ["sqlite"], indirect=True)
def test_a_commit_whose_durability_failed_is_unknown_and_the_store_goes_on(
    both: tuple[Store, Another], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, another = both

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("allocator.sqlite_store.os.fsync", fails)
        with pytest.raises(StorageError) as refusal:
            append(store)
    assert refusal.value.code == "unknown" and "nothing was written" not in refusal.value.hint.lower()
    assert another().last() is not None
    assert append(store, "looked-up").seq == 1


class Failing:
    """A connection whose COMMIT fails, before or after it was done."""

    def __init__(self, real: sqlite3.Connection, *, done: bool) -> None:
        self._real, self._done = real, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *values: Any) -> Any:
        """As the real one, but for COMMIT."""
        if sql != "COMMIT":
            return self._real.execute(sql, *values)
        if self._done:
            self._real.execute(sql)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.requirement("A04")
@pytest.mark.parametrize(("done", "code", "records"), [(True, "unknown", [0, 1]), (False, "unavailable", [0])])
def test_a_commit_that_failed_is_looked_into(path: Path, done: bool, code: str, records: list[int]) -> None:
    path.unlink()
    create_log(path)
    with SqliteStore(path) as store:
        append(store)
        store._connection = Failing(store._connection, done=done)  # type: ignore[assignment]
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert refusal.value.code == code
        assert [record.seq for record in store.records()] == records
        assert append(store).seq == len(records)


@pytest.mark.parametrize("version", [1, 99])
def test_a_log_of_another_program_is_not_written(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(EvidenceError, match=f"schema version {version}") as refusal:
        SqliteStore(path)
    assert ("newer" if version == 99 else "older") in refusal.value.hint


# ---- SQLite: what the file itself refuses ---------------------------------------------------------------------------

BY_HAND: list[str] = [
    "UPDATE record SET body = '{}'",
    "UPDATE record SET participant = 'P-009' WHERE seq = 2",
    "UPDATE record SET seq = 9 WHERE seq = 2",
    "DELETE FROM record WHERE seq = 2",
    "DELETE FROM record",
    "REPLACE INTO record SELECT * FROM record WHERE seq = 2",
    "INSERT OR REPLACE INTO record (seq, prev, body, kind) VALUES (1, zeroblob(32), '{}', 'paused')",
    "INSERT OR IGNORE INTO record (seq, prev, body, kind) VALUES (4, zeroblob(32), '{}', 'paused')",
    "INSERT INTO record (seq, prev, body, kind) VALUES (4, zeroblob(32), '{}', 'paused')",
    "INSERT INTO record (seq, prev, body, kind) VALUES (-1, zeroblob(32), '{}', 'paused')",
    "INSERT INTO record (seq, prev, body, kind) VALUES (3, zeroblob(31), '{}', 'paused')",
    "INSERT INTO record (seq, prev, body, kind) VALUES (3, zeroblob(32), x'7b7d', 'paused')",
    "INSERT INTO record (seq, prev, body, kind) VALUES (3, zeroblob(32), NULL, 'paused')",
    "UPDATE OR REPLACE record SET body = '{}' WHERE seq = 1",
    "UPDATE detail SET value = 'x'",
    "DELETE FROM detail",
    "INSERT OR REPLACE INTO detail VALUES (0, 'reason', zeroblob(32), 'x')",
    "INSERT INTO detail VALUES (1, 'more', zeroblob(32), 'x')",
    "INSERT INTO detail VALUES (3, 'reason', zeroblob(32), 'x')",
    "INSERT INTO record (seq, prev, body, kind, participant) VALUES (3, zeroblob(32), '{}', 'allocated', 'P-001')",
    "INSERT INTO record (seq, prev, body, kind, stratum, position)"
    " VALUES (3, zeroblob(32), '{}', 'allocated', '{}', 0)",
]


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Everything in the file."""
    connection = sqlite3.connect(path)
    try:
        return (
            connection.execute("SELECT * FROM record").fetchall()
            + connection.execute("SELECT * FROM detail").fetchall()
        )
    finally:
        connection.close()


@pytest.mark.requirement("G09")
@pytest.mark.requirement("L04")
@pytest.mark.parametrize("recursive", [0, 1])
@pytest.mark.parametrize("statement", BY_HAND)
def test_the_file_refuses_edits_by_hand(path: Path, statement: str, recursive: int) -> None:
    before = rows(path)
    connection = sqlite3.connect(path)
    try:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.Error):
            connection.execute(statement)
        connection.commit()
    finally:
        connection.close()
    assert rows(path) == before


@pytest.mark.requirement("A01")
@pytest.mark.parametrize("change", [{"position": 1}, {"participant": "P-002"}])
def test_the_second_guard_refuses_a_second_allocation(path: Path, change: dict[str, Any]) -> None:
    with SqliteStore(path) as store:
        with pytest.raises(EvidenceError) as refusal:
            append(store, "allocated", **change)
        assert refusal.value.code == "append-only"
        assert append(store, "allocated", participant="P-002", position=1).seq == 3


def test_appending_outside_a_transaction_is_our_own_mistake(path: Path) -> None:
    with SqliteStore(path) as store, pytest.raises(RuntimeError):
        store.append(next_record(store), {})


@pytest.mark.requirement("A04")
def test_the_file_is_written_durably(path: Path) -> None:
    with SqliteStore(path) as store:
        pragma: Callable[[str], Any] = lambda name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]  # noqa: E731
        assert (pragma("journal_mode"), pragma("synchronous")) == ("delete", 2)
        assert (pragma("recursive_triggers"), pragma("foreign_keys"), pragma("trusted_schema")) == (1, 1, 0)


def test_a_log_is_never_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as refusal:
        SqliteStore(tmp_path / "log.sqlite3")
    assert refusal.value.code == "no-log" and list(tmp_path.iterdir()) == []


def test_a_log_is_made_once(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError):
        create_log(path)
    assert path.read_bytes() == before


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_planted_file_beside_the_log_is_refused(path: Path, suffix: str) -> None:
    path.with_name(path.name + suffix).write_bytes(b"")
    with pytest.raises(EvidenceError) as refusal:
        SqliteStore(path)
    assert refusal.value.code == "foreign-file"


def test_a_log_turned_to_another_journal_mode_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    with pytest.raises(EvidenceError) as refusal:
        SqliteStore(path)
    assert refusal.value.code == "journal-mode"


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 20])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.sqlite3").write_bytes(content)
    with pytest.raises(EvidenceError), SqliteStore(tmp_path / "log.sqlite3") as store:
        store.last()


@pytest.mark.requirement("L02")
def test_a_record_that_cannot_be_read_is_evidence(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER record_no_update; UPDATE record SET body = '{\"a\":1.5}' WHERE seq = 2;")
    connection.close()
    with SqliteStore(path) as store, pytest.raises(EvidenceError) as refusal:
        store.last()
    assert refusal.value.code == "log-damaged"


@pytest.mark.requirement("A03")
def test_while_one_writes_the_other_is_told_busy(path: Path) -> None:
    with SqliteStore(path) as first, SqliteStore(path, busy_seconds=0.05) as second:
        with first.transaction():
            first.append(next_record(first), {})
            with pytest.raises(StorageError) as refusal, second.transaction():
                pytest.fail("two writers at once")
            assert refusal.value.code == "busy"
        assert append(second).seq == 4


def errors_of_four_writers(open_store: Callable[[], AbstractContextManager[Store]]) -> list[BaseException]:
    """Four threads append ten records each, by stores of their own; whatever any of them raised."""
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with open_store() as store:
                for _ in range(10):
                    with store.transaction():
                        store.append(next_record(store, "looked-up"), {})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.requirement("A03")
def test_threads_with_stores_of_their_own_leave_no_gap(path: Path) -> None:
    assert errors_of_four_writers(lambda: SqliteStore(path, busy_seconds=30)) == []
    with SqliteStore(path) as store:
        records = list(store.records())
    assert [record.seq for record in records] == list(range(43))
    assert all(after.prev == before.hash for before, after in pairwise(records))


def test_the_schema_of_a_log_is_that_of_the_one_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    connection.close()
    assert len(made) == 13 and all(sql in schema_text() for sql in made)

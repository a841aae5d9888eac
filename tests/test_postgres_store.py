"""What is PostgreSQL's own in its store: what a commit means, lost connections, rights, guards, secrets.

The contract that it shares with the other stores is in tests/test_stores.py.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from allocator import postgres_connection, postgres_queries, postgres_store
from allocator import postgres_statements as statements
from allocator.errors import AllocatorError, EvidenceError, InputError, StorageError
from allocator.log import Detail, Record
from allocator.postgres_batch import NoAnswer, Statement, together
from allocator.postgres_store import PostgresStore, create_log
from postgres_proxy import proxy
from postgres_server import PASSWORD, Server
from test_stores import SALT, append, errors_of_four_writers, next_record, study_of_three


@pytest.fixture
def study(postgres: Server) -> str:
    """A study of this test's own, with three records: two pauses and an allocation of P-001 at position 0."""
    return study_of_three(postgres)


@contextmanager
def admin(server: Server) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A superuser, each of whose statements counts at once."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        yield connection


def seqs(server: Server, study: str) -> list[int]:
    """Places of the records of a study, whose chain must hold."""
    with PostgresStore(server.writer, study) as store:
        records = list(store.records())
        assert all(after.prev == before.hash for before, after in pairwise(records))
        return [record.seq for record in records]


# ---- a connection that is cut ---------------------------------------------------------------------------------------


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_connection_cut_at_any_message_of_an_append_tells_the_truth(
    postgres: Server, study: str, answered: bool
) -> None:
    told: list[tuple[list[bytes], str]] = []  # messages up to the cut, and what the store said
    with (
        proxy(postgres.host, postgres.port) as between,
        PostgresStore(postgres.through(between.port), study) as store,
        PostgresStore(postgres.writer, study) as beside,
    ):
        at, was_cut = 0, True
        while was_cut:
            assert _attempt(beside, store)[1] == ""  # the store can be used again
            between.arm(at, answered=answered)
            record, code = _attempt(beside, store)
            was_cut = len(between.messages) > at
            told.append((between.messages[: at + 1], code))
            between.arm(-1, answered=False)
            stands = beside.last() == record
            assert code == "unknown" or stands == (code == ""), (at, code)
            at += 1
    assert seqs(postgres, study)[-1] >= len(told)
    assert told.pop()[1] == ""
    codes = [code for _, code in told]
    assert len(codes) > 15 and set(codes) <= {"", "unavailable", "unknown"} and codes[0] == ""
    # INSERT and COMMIT go as one group of messages: cut within it, the server may have read COMMIT or not
    assert "unavailable" in codes and (codes[-1] == "unknown" or not answered), told


def _attempt(beside: PostgresStore, store: PostgresStore) -> tuple[Record, str]:
    """Append a record with its detail; the code of the StorageError, or ""."""
    record = next_record(beside)
    try:
        with store.transaction():
            store.append(record, {"reason": Detail(salt=SALT, value="reason")})
    except StorageError as error:
        assert error.code == "unknown" or "Nothing was written" in error.hint
        return record, error.code
    return record, ""


# ---- what a commit means --------------------------------------------------------------------------------------------


WAITING = "pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"


@contextmanager
def waiting_for_a_standby(
    server: Server, study: str, settings: str = ""
) -> Iterator[tuple[Any, list[BaseException], threading.Thread]]:
    """A writer in a thread whose COMMIT waits; gives (a superuser, its errors, the thread), then the process id."""
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with PostgresStore(server.replicated + settings, study, busy_seconds=0.2) as store:
                append(store, "looked-up")
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    with admin(server) as superuser:
        writer.start()
        try:
            yield superuser, errors, writer
        finally:
            superuser.execute(f"SELECT pg_terminate_backend(pid) FROM {WAITING}".encode())
            writer.join(30)
            assert not writer.is_alive()


def who_waits(superuser: Any) -> int:
    """The process that waits for a standby."""
    for _ in range(500):
        found = superuser.execute(f"SELECT pid FROM {WAITING}".encode()).fetchone()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError("nobody waits for a standby")


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("settings", ["", "%20-cclient_min_messages%3Derror"], ids=["as usual", "warnings turned off"])
@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_unknown(
    postgres: Server, study: str, how: str, settings: str
) -> None:
    with waiting_for_a_standby(postgres, study, settings) as (superuser, errors, writer):
        superuser.execute(f"SELECT {how}({who_waits(superuser)})".encode())
        writer.join(30)
    (error,) = errors
    assert isinstance(error, StorageError) and error.code == "unknown"
    assert "nothing was written" not in (error.message + error.hint).lower()
    assert seqs(postgres, study) == [0, 1, 2, 3]  # committed here, and perhaps nowhere else


@pytest.mark.requirement("A04")
def test_a_commit_without_an_answer_is_unknown_while_its_server_still_holds_it(
    postgres: Server, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "COMMIT_SECONDS", 0.3)
    with waiting_for_a_standby(postgres, study) as (superuser, errors, writer):
        who_waits(superuser)
        writer.join(30)
        assert seqs(postgres, study) == [0, 1, 2]  # a look alone would have said that nothing was written
        (error,) = errors
    assert isinstance(error, StorageError) and error.code == "unknown"
    for _ in range(100):
        if seqs(postgres, study) == [0, 1, 2, 3]:
            return
        time.sleep(0.02)
    raise AssertionError("the commit that was waited for is gone")


class Answering:
    """One statement of the store fails a few times, or is answered with another word; in place of `together`."""

    def __init__(self, name: str, *, error: Exception | None = None, times: int = 1) -> None:
        self._name, self._error, self.left = name, error, times

    def __call__(self, connection: Any, statements: Any, seconds: float) -> Any:
        """As the real one, but for that statement."""
        if not self.left or self._name not in [statement.name for statement, _ in statements]:
            return together(connection, statements, seconds)
        self.left -= 1
        if self._error is not None:
            raise self._error
        instead = Statement("instead", "ROLLBACK")
        return together(connection, [(instead if s.name == self._name else s, v) for s, v in statements], seconds)


def answering(monkeypatch: pytest.MonkeyPatch, name: str, **how: Any) -> Answering:
    """Put it in its place."""
    made = Answering(name, **how)
    monkeypatch.setattr(postgres_store, "together", made)
    return made


@pytest.mark.requirement("A03")
@pytest.mark.parametrize("error", [psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()])
def test_a_turn_is_taken_again_where_the_database_says_so_and_not_for_ever(
    postgres: Server, study: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresStore(postgres.writer, study) as store:
        made = answering(monkeypatch, "turn", error=error, times=2)
        assert append(store).seq == 3 and made.left == 0
        made.left = 99
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert refusal.value.code == "busy"
        made.left = 0
        assert append(store).seq == 4


@pytest.mark.requirement("A04")
def test_a_commit_that_is_answered_with_rollback_wrote_nothing(
    postgres: Server, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresStore(postgres.writer, study) as store:
        answering(monkeypatch, "commit")
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert refusal.value.code == "unavailable" and "Nothing was written" in refusal.value.hint
        assert append(store).seq == 3


@pytest.mark.requirement("A04")
def test_a_commit_that_the_server_refused_wrote_nothing(
    postgres: Server, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresStore(postgres.writer, study) as store:
        answering(monkeypatch, "commit", error=psycopg.errors.SerializationFailure())
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert refusal.value.code == "busy" and seqs(postgres, study) == [0, 1, 2]
        assert append(store).seq == 3


@pytest.mark.requirement("A04")
@pytest.mark.parametrize(("same", "code"), [(True, "unavailable"), (False, "unknown")])
def test_a_record_that_another_server_lacks_is_not_said_to_be_unwritten(
    postgres: Server, study: str, same: bool, code: str
) -> None:
    with PostgresStore(postgres.writer, study) as store:
        if not same:
            store._server = replace(store._server, started="an earlier start, or another server's")
        record = next_record(store, "looked-up")
        with pytest.raises(StorageError) as refusal, store.transaction():
            store.append(record, {})
            store._connection.close()
        assert refusal.value.code == code and seqs(postgres, study) == [0, 1, 2]
        assert append(store, "looked-up") == record


@pytest.mark.requirement("A04")
@pytest.mark.parametrize(("setting", "shown"), [("off", "on"), ("on", "on"), ("local", "local")])
def test_a_session_never_commits_without_waiting_for_its_own_disk(
    postgres: Server, study: str, setting: str, shown: str
) -> None:
    with PostgresStore(f"{postgres.writer}?options=-csynchronous_commit%3D{setting}", study) as store:
        assert store._fetch(Statement("show", "SHOW synchronous_commit"), ()) == [(shown.encode(),)]


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_was_told_to_forget_meanwhile_is_refused(
    postgres: Server, study: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = statements.TURN
    asked = turn.sql.replace(f"current_setting('{setting}')", "'off'")
    with PostgresStore(postgres.writer, study) as store:
        monkeypatch.setattr(statements, "TURN", turn._replace(name="turn_off", sql=asked))
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert asked != turn.sql and refusal.value.code == "not-durable" and seqs(postgres, study) == [0, 1, 2]


@pytest.mark.requirement("A03")
def test_nobody_waits_longer_for_their_turn_than_is_said(
    postgres: Server, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "TURN_SECONDS", 0.2)
    tries: list[float] = []

    def silent(_: object, __: object, seconds: float) -> None:
        tries.append(seconds)
        time.sleep(seconds)
        raise NoAnswer("no answer came in time")

    with PostgresStore(postgres.writer, study, busy_seconds=0.3) as store:
        with monkeypatch.context() as patch, pytest.raises(StorageError) as refusal:
            patch.setattr(postgres_store, "together", silent)
            with store.transaction():
                pass
        assert refusal.value.code == "busy" and len(tries) == 1 and tries[0] <= 0.5
        assert append(store).seq == 3


@pytest.mark.requirement("A03")
@pytest.mark.parametrize("setting", ["isolation%3Dserializable", "deferrable%3Don"])
def test_a_turn_sees_what_was_committed_before_it_whatever_the_role_is_set_to(
    postgres: Server, study: str, setting: str
) -> None:
    with PostgresStore(f"{postgres.writer}?options=-cdefault_transaction_{setting}", study) as store:
        with store.transaction():
            shown = store._fetch(Statement("isolation", "SHOW transaction_isolation"), ())
            assert shown == [(b"read committed",)]
            assert store._fetch(Statement("reading", "SHOW transaction_read_only"), ()) == [(b"off",)]
        assert append(store).seq == 3


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("setting", [b"fsync", b"full_page_writes"])
def test_a_server_that_forgets_is_refused(
    postgres: Server, study: str, setting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = postgres_connection._SETTINGS.replace(b"current_setting('" + setting + b"')", b"'off'")
    monkeypatch.setattr(postgres_connection, "_SETTINGS", asked)
    with pytest.raises(StorageError) as refusal:
        PostgresStore(postgres.writer, study)
    assert refusal.value.code == "not-durable"


# ---- several writers ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A03")
def test_threads_with_stores_of_their_own_leave_no_gap(postgres: Server, study: str) -> None:
    errors = errors_of_four_writers(lambda: PostgresStore(postgres.writer, study, busy_seconds=30))
    assert errors == [] and seqs(postgres, study) == list(range(43))


def test_studies_do_not_wait_for_one_another(postgres: Server, study: str) -> None:
    other = uuid.uuid4().hex
    create_log(postgres.writer, other)
    with (
        PostgresStore(postgres.writer, study) as first,
        PostgresStore(postgres.writer, other, busy_seconds=0.05) as second,
        first.transaction(),
    ):
        first.append(next_record(first, "looked-up"), {})
        assert append(second).seq == 0
        assert [record.seq for record in second.records()] == [0]


def test_a_lost_connection_is_made_anew_for_a_question(postgres: Server, study: str) -> None:
    with PostgresStore(postgres.writer, study) as store, admin(postgres) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s)", (store._connection.info.backend_pid,))
        time.sleep(0.05)
        assert [record.seq for record in store.records()] == [0, 1, 2]
        assert append(store).seq == 3


def test_records_are_read_page_by_page_as_of_the_first(
    postgres: Server, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_queries, "PAGE", 2)
    with PostgresStore(postgres.writer, study) as store:
        reading = store.records()
        assert next(reading).seq == 0
        append(store)
        assert [record.seq for record in reading] == [1, 2]
        assert [row.seq for row in store.rows(1)] == [1, 2, 3]
        assert [record.seq for record in store.records(("paused",))] == [0, 1, 3]


# ---- what the database itself refuses -------------------------------------------------------------------------------

BY_HAND = [
    "UPDATE allocator.record SET body = '{}' WHERE study = %(study)s",
    "UPDATE allocator.record SET participant = 'P-009' WHERE study = %(study)s AND seq = 2",
    "DELETE FROM allocator.record WHERE study = %(study)s AND seq = 2",
    "DELETE FROM allocator.record WHERE study = 'none'",
    "TRUNCATE allocator.record CASCADE",
    "UPDATE allocator.detail SET value = 'x' WHERE study = %(study)s",
    "DELETE FROM allocator.detail WHERE study = %(study)s",
    "TRUNCATE allocator.detail",
    "UPDATE allocator.study SET turn = 1 WHERE study = %(study)s",
    "DELETE FROM allocator.study WHERE study = %(study)s",
    "UPDATE allocator.version SET version = 2",
    "INSERT INTO allocator.detail VALUES (%(study)s, 0, 'more', decode(repeat('00', 32), 'hex'), 'x')",
    "INSERT INTO allocator.record SELECT study, seq, prev, body, kind FROM allocator.record WHERE study = %(study)s"
    " AND seq = 2 ON CONFLICT (study, seq) DO UPDATE SET body = '{}'",
    *(
        "INSERT INTO allocator.record (study, seq, prev, body, kind, participant, stratum, position)"
        f" SELECT study, {seq}, {prev}, '{{}}', {columns} FROM allocator.record WHERE study = %(study)s AND seq = 2"
        for seq, prev, columns in (
            (3, "decode(repeat('00', 32), 'hex')", "'paused', NULL, NULL, NULL"),
            (3, "prev", "'paused', NULL, NULL, NULL"),
            (4, "sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8'))", "'paused', NULL, NULL, NULL"),
            (2, "prev", "'paused', NULL, NULL, NULL"),
            (3, "sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8'))", "'allocated', 'P-001', '{}', 1"),
            (3, "sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8'))", "'allocated', 'P-002', '{}', 0"),
        )
    ),
]


@pytest.mark.requirement("G09")
@pytest.mark.requirement("L04")
@pytest.mark.parametrize("who", ["writer", "admin"])
def test_the_database_refuses_edits_by_hand(postgres: Server, study: str, who: str) -> None:
    everything = "SELECT r, d FROM allocator.record AS r LEFT JOIN allocator.detail AS d USING (study, seq)"
    with psycopg.connect(getattr(postgres, who), autocommit=True) as connection:
        before = connection.execute(f"{everything} WHERE study = %s ORDER BY seq".encode(), (study,)).fetchall()
        for statement in BY_HAND:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.IntegrityError)):
                connection.execute(statement.encode(), {"study": study})
        after = connection.execute(f"{everything} WHERE study = %s ORDER BY seq".encode(), (study,)).fetchall()
    assert before == after and len(before) == 3


@pytest.mark.requirement("A01")
@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (BY_HAND[-6], "one chain"),
        (BY_HAND[-5], "one chain"),
        (BY_HAND[-4], "not the next one"),
        (BY_HAND[-3], "not the next one"),
        (BY_HAND[-2], "one participant, one allocation"),
        (BY_HAND[-1], "one_allocation_a_position"),
    ],
)
def test_what_a_writer_inserts_by_hand_is_refused_for_what_it_is(
    postgres: Server, study: str, statement: str, said: str
) -> None:
    with psycopg.connect(postgres.writer) as connection, pytest.raises(psycopg.IntegrityError, match=said):
        connection.execute(statement.encode(), {"study": study})


@pytest.mark.requirement("A01")
@pytest.mark.parametrize("change", [{"position": 1}, {"participant": "P-002"}])
def test_the_second_guard_refuses_a_second_allocation(postgres: Server, study: str, change: dict[str, Any]) -> None:
    with PostgresStore(postgres.writer, study) as store:
        with pytest.raises(EvidenceError) as refusal:
            append(store, "allocated", **change)
        assert refusal.value.code == "append-only"
        assert append(store, "allocated", participant="P-002", position=1).seq == 3


@pytest.mark.requirement("S02")
def test_an_auditor_reads_and_writes_nothing(postgres: Server, study: str) -> None:
    with PostgresStore(postgres.auditor, study) as store:
        assert len(list(store.records())) == 3 and store.details(0)
        with pytest.raises(StorageError) as refusal:
            append(store)
        assert refusal.value.code == "read-only"
    with psycopg.connect(postgres.auditor, autocommit=True) as connection:
        for statement in (
            "INSERT INTO allocator.study (study) VALUES ('x')",
            "INSERT INTO allocator.record SELECT * FROM allocator.record",
            "INSERT INTO allocator.detail SELECT * FROM allocator.detail",
            "CREATE TABLE allocator.mine (x INTEGER)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


# ---- opening, and what is said then ---------------------------------------------------------------------------------


def test_the_schema_is_printed_for_the_administrator() -> None:
    command = [sys.executable, "-m", "allocator.postgres_store"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == postgres_store.schema_text()


def test_a_log_is_never_made_by_opening_it(postgres: Server) -> None:
    with pytest.raises(StorageError) as refusal:
        PostgresStore(postgres.writer, "not-opened")
    assert refusal.value.code == "no-log"


def test_a_database_without_the_schema_or_with_a_later_one_is_not_written(postgres: Server) -> None:
    with postgres.database(schema=False) as bare:
        with pytest.raises(InputError) as refusal:
            create_log(bare.writer, "S")
        assert refusal.value.code == "no-schema"
    with postgres.database() as later, admin(later) as superuser:
        superuser.execute("INSERT INTO allocator.version VALUES (99)")
        with pytest.raises(EvidenceError) as evidence:
            create_log(later.writer, "S")
        assert evidence.value.code == "log-version"


@pytest.mark.requirement("S04")
@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://u:{PASSWORD}@[/none",
        f"postgresql://u:{PASSWORD}%zz@127.0.0.1/none",
        f"postgresql://u:{PASSWORD}@127.0.0.1/none?nonsense=1",
        f"postgresql://127.0.0.1/none?password={PASSWORD}&sslmode={PASSWORD}",
        f"postgresql://u:{PASSWORD}@127.0.0.1:{PASSWORD}/none",
        f"mysql://u:{PASSWORD}@127.0.0.1/none",
        f"host=127.0.0.1 password={PASSWORD}",
        PASSWORD,
    ],
)
def test_a_password_is_never_said(address: str) -> None:
    with pytest.raises(AllocatorError) as refusal:
        PostgresStore(address, "S")
    error = refusal.value
    told = f"{error.as_json()} {chr(10).join(traceback.format_exception(error))}"
    assert PASSWORD not in told


@pytest.mark.requirement("S04")
def test_a_password_is_never_said_of_a_database_that_is_not_there(postgres: Server) -> None:
    with pytest.raises(StorageError) as refusal:
        PostgresStore(f"{postgres.writer}-none", "S")
    assert PASSWORD not in "".join(traceback.format_exception(refusal.value))

"""Connections shared by the stores of one process, and what a process remembers of a log between its turns."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import postgres_batch, postgres_store
from allocator.errors import EvidenceError, StorageError
from allocator.postgres_batch import Statement, together
from allocator.postgres_connection import connect
from allocator.postgres_pool import PostgresPool
from allocator.postgres_store import PostgresStore, create_log
from allocator.store import Store
from postgres_server import Server
from test_stores import append, next_record


@pytest.fixture
def studies(postgres: Server) -> list[str]:
    """Three studies with two records each."""
    studies = [uuid.uuid4().hex for _ in range(3)]
    for study in studies:
        create_log(postgres.writer, study)
        with PostgresStore(postgres.writer, study) as store:
            append(store), append(store, "allocated")
    return studies


@pytest.fixture
def pool(postgres: Server) -> Iterator[PostgresPool]:
    """Two connections."""
    with PostgresPool(postgres.writer, most=2, busy_seconds=2.0) as pool:
        yield pool


# ---- the pool -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A03")
def test_many_stores_share_few_connections(postgres: Server, pool: PostgresPool, studies: list[str]) -> None:
    errors: list[BaseException] = []

    def write(study: str) -> None:
        try:
            with PostgresStore(postgres.writer, study, pool=pool) as store:
                for _ in range(5):
                    append(store, "looked-up")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(study,)) for study in studies]
    [thread.start() for thread in threads], [thread.join(30) for thread in threads]
    assert not errors
    for study in studies:
        with PostgresStore(postgres.writer, study, pool=pool) as store:
            assert [record.seq for record in store.records()] == list(range(7))
    with psycopg.connect(postgres.admin) as admin:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'allocator' AND usename = 'test_writer'"
        assert admin.execute(asked).fetchone() == (2,)


@pytest.mark.requirement("A04")
def test_who_gets_no_connection_is_told_busy_and_wrote_nothing(
    postgres: Server, studies: list[str], pool: PostgresPool
) -> None:
    first, second, third = (PostgresStore(postgres.writer, study, pool=pool) for study in studies)
    with first.transaction(), second.transaction(), pytest.raises(StorageError) as refusal:
        append(third)
    assert refusal.value.code == "busy" and "Nothing was written" in refusal.value.hint
    assert append(third).seq == 2


@pytest.mark.requirement("A04")
def test_connections_that_all_were_lost_are_made_anew(postgres: Server, studies: list[str], pool: PostgresPool) -> None:
    stores = [PostgresStore(postgres.writer, study, pool=pool) for study in studies]
    with stores[0].transaction(), stores[1].transaction():
        pass
    with psycopg.connect(postgres.admin, autocommit=True) as admin:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'allocator'"
        assert admin.execute(ended).rowcount >= 2
    assert append(stores[2]).seq == 2
    assert [store.last() is not None for store in stores] == [True, True, True]


@pytest.mark.requirement("A04")
def test_a_connection_lost_in_a_turn_is_not_taken_for_another_one(
    postgres: Server, studies: list[str], pool: PostgresPool
) -> None:
    with PostgresStore(postgres.writer, studies[0], pool=pool) as store:
        with pytest.raises(StorageError) as refusal, store.transaction():
            store._connection.close()
            store.details(0)
        assert "Nothing was written" in refusal.value.hint
        assert append(store).seq == 2


def test_a_pool_says_at_once_what_is_wrong_with_its_address(postgres: Server) -> None:
    with pytest.raises(StorageError) as refusal:
        PostgresPool(postgres.writer.replace(str(postgres.port), "1"), most=2)
    assert refusal.value.code == "unavailable"


def test_a_closed_pool_says_so(postgres: Server, studies: list[str], pool: PostgresPool) -> None:
    store = PostgresStore(postgres.writer, studies[0], pool=pool)
    pool.close()
    with pytest.raises(StorageError):
        append(store)


# ---- statements that go together ------------------------------------------------------------------------------------


def test_a_statement_that_failed_is_prepared_once_and_those_after_it_are_not_done(postgres: Server) -> None:
    connection, _ = connect(postgres.writer, busy_seconds=2.0)
    one, bad = Statement("one", "SELECT $1::bigint"), Statement("bad", "SELECT 1 / $1::int")
    with connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                together(connection, [(one, (7,)), (bad, (0,)), (Statement("never", "SELECT nothing"), ())], 5.0)
            (answer,) = together(connection, [(one, (-7,))], 5.0)
            assert answer.tag == "SELECT 1" and answer.rows == [((-7).to_bytes(8, "big", signed=True),)]
        assert connection.prepared == {b"one", b"bad"}


def test_no_answer_in_time_is_an_error_and_the_connection_is_known_to_be_of_no_use(postgres: Server) -> None:
    connection, _ = connect(postgres.writer, busy_seconds=2.0)
    try:
        with pytest.raises(psycopg.OperationalError, match="in time"):
            together(connection, [(Statement("sleep", "SELECT pg_sleep(5)"), ())], 0.1)
        assert connection.closed
    finally:
        connection.close()


@given(data=st.binary(max_size=3_000), text=st.text(st.characters(exclude_characters="\0", codec="utf-8")))
@settings(max_examples=10)
def test_values_come_back_as_they_were_sent(postgres: Server, data: bytes, text: str) -> None:
    connection, _ = connect(postgres.writer, busy_seconds=2.0)
    with connection:
        asked = Statement("echo", "SELECT $1::bytea, $2::text, $3::text")
        (answer,) = together(connection, [(asked, (data, text, None))], 5.0)
    assert answer.rows == [(data, text.encode(), None)]


@pytest.mark.parametrize("value", ["P-001\0evil", "\ud800"])
def test_a_text_that_would_be_cut_is_not_sent_and_the_next_question_is_answered(
    postgres: Server, studies: list[str], value: str
) -> None:
    with PostgresStore(postgres.writer, studies[0]) as store:
        with pytest.raises(StorageError):
            store.newest(("allocated",), participant=value)
        assert store.newest(("allocated",), participant="P-001") == store.record(1)


def test_answers_that_an_interrupt_left_behind_are_not_taken_for_others(
    postgres: Server, studies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with PostgresStore(postgres.writer, studies[0]) as store:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(postgres_batch, "_wait", interrupted)
            store.record(0)
        assert [store.record(seq).kind for seq in (0, 1)] == ["paused", "allocated"]  # type: ignore[union-attr]


# ---- what is remembered ---------------------------------------------------------------------------------------------

KINDS = ("paused", "allocated", "looked-up")


@pytest.mark.requirement("A03")
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from([*KINDS, "aborted"]), st.integers(0, 3)), max_size=12),
)
@settings(max_examples=12)
def test_stores_that_remember_answer_as_one_that_does_not(postgres: Server, steps: list[tuple[int, str, int]]) -> None:
    """Three stores write in turn, each remembering what it read; each answer is that of a store opened anew."""
    study, position = uuid.uuid4().hex, 0
    create_log(postgres.writer, study)
    with PostgresPool(postgres.writer, most=1) as pool:
        stores = [PostgresStore(postgres.writer, study, pool=pool) for _ in range(3)]
        for who, kind, number in steps:
            store, participant = stores[who], f"P-{number:03d}"
            before = answers(PostgresStore(postgres.writer, study, pool=pool), participant, position)
            with store.transaction(participant if number % 2 else None):
                if number < 2:  # else the last record is asked for alone, as the writer does
                    assert answers(store, participant, position) == before
                assert store.last() == before["last"]
            assert answers(store, participant, position) == before
            if kind == "aborted":
                with pytest.raises(KeyError), store.transaction():
                    raise KeyError
            elif kind == "looked-up":
                append(store, kind, participant=participant)
            elif kind == "paused":
                append(store)
            elif not before["allocated"]:
                append(store, kind, participant=participant, position=position, number=position + 1)
                position += 1


def answers(store: Store, participant: str, position: int) -> dict[str, object]:
    """What the rules ask."""
    last = store.last()
    return {
        "last": last,
        "record": store.record(last.seq) if last else None,
        "newest": [store.newest((kind,)) for kind in KINDS],
        "either": store.newest(KINDS),
        "theirs": [store.newest((kind,), participant=participant) for kind in KINDS],
        "held": [store.newest(("allocated",), stratum="{}", position=at) for at in range(position + 1)],
        "free": store.first_unallocated("{}", 0),
        "allocated": list(store.records(("allocated",), participant=participant)),
        "all": list(store.rows(0)),
        "listed": list(store.records(KINDS, since=1)),
    }


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("hint", [None, "P-001"])
@pytest.mark.parametrize("how", ["shorter", "other"])
def test_what_was_remembered_of_a_log_that_was_put_back_is_forgotten(
    postgres: Server, how: str, hint: str | None
) -> None:
    study = uuid.uuid4().hex
    with postgres.database() as database:
        create_log(database.writer, study)
        with PostgresStore(database.writer, study) as store, PostgresStore(database.writer, study) as other:
            for _ in range(4):
                append(store)
            with psycopg.connect(database.admin) as admin:
                admin.execute("SET session_replication_role = replica")
                admin.execute("DELETE FROM allocator.record WHERE seq > 1")
            if how == "other":
                append(other, "looked-up"), append(other, "looked-up")
            with store.transaction(hint):
                last = store.last()
                assert last == other.last() and last is not None
                assert store.newest(("looked-up",)) == (last if how == "other" else None)
                assert store.record(3) == (last if how == "other" else None)


@pytest.mark.requirement("L02")
def test_a_damaged_record_stops_those_who_ask_for_it_and_nobody_else(postgres: Server) -> None:
    study = uuid.uuid4().hex
    with postgres.database() as database:
        create_log(database.writer, study)
        with PostgresStore(database.writer, study) as store:
            append(store), append(store, "allocated"), append(store)
            with psycopg.connect(database.admin) as admin:
                admin.execute("SET session_replication_role = replica")
                admin.execute("UPDATE allocator.record SET kind = 'late' WHERE seq = 1")
        with PostgresStore(database.writer, study) as store:
            with store.transaction("P-001"):
                assert store.newest(("paused",)) == store.last()
                with pytest.raises(EvidenceError):
                    store.newest(("late",), participant="P-001")
            assert append(store).seq == 3


@pytest.mark.requirement("A03")
def test_a_question_that_was_not_answered_is_asked_again_in_the_next_turn(
    postgres: Server, studies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise psycopg.OperationalError("lost")

    with PostgresStore(postgres.writer, studies[0]) as store:
        with store.transaction():
            pass
        with pytest.raises(StorageError), store.transaction(), monkeypatch.context() as patch:
            patch.setattr(postgres_store, "together", lost)
            store.newest(("paused",))
        with store.transaction():
            assert store.newest(("paused",)) == store.record(0) is not None


@pytest.mark.requirement("A03")
def test_what_an_interrupt_left_half_remembered_is_forgotten(
    postgres: Server, studies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with PostgresStore(postgres.writer, studies[0]) as store, PostgresStore(postgres.writer, studies[0]) as other:
        with store.transaction():
            assert store.newest(("looked-up",)) is None
        record = append(other, "looked-up")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), store.transaction("P-001"):
            patch.setattr(store._remembered, "keep", interrupted)
            store._follow(record)
        with store.transaction():
            assert store.newest(("looked-up",)) == record == store.last()


@pytest.mark.requirement("L02")
def test_a_last_record_that_was_mended_is_found_so(postgres: Server) -> None:
    study = uuid.uuid4().hex
    with postgres.database() as database:
        create_log(database.writer, study)
        with PostgresStore(database.writer, study) as store:
            append(store), append(store, "allocated")
        with psycopg.connect(database.admin, autocommit=True) as admin, PostgresStore(database.writer, study) as store:
            admin.execute("SET session_replication_role = replica")
            admin.execute("UPDATE allocator.record SET kind = 'late' WHERE seq = 1")
            with pytest.raises(EvidenceError), store.transaction():
                store.last()
            admin.execute("UPDATE allocator.record SET kind = 'allocated' WHERE seq = 1")
            assert append(store).seq == 2


@pytest.mark.requirement("A04")
def test_what_was_appended_and_not_committed_is_not_remembered(postgres: Server, studies: list[str]) -> None:
    with PostgresStore(postgres.writer, studies[0]) as store:
        with pytest.raises(KeyError), store.transaction():
            store.append(next_record(store, "looked-up"), {})
            raise KeyError
        with store.transaction():
            assert store.newest(("looked-up",)) is None and store.last() == store.record(1)
        assert append(store, "looked-up").seq == 2


def test_two_servers_are_one_only_since_the_same_start(postgres: Server) -> None:
    connection, server = connect(postgres.writer, busy_seconds=2.0)
    connection.close()
    assert server == replace(server, where="another name") and server != replace(server, started="later")

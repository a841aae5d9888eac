"""A study whose log lies in PostgreSQL: from init to verify, never mixed with a file, and tampering that is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import support
from allocator import stores
from allocator.cli import run
from allocator.errors import AllocatorError, EvidenceError, InputError, StorageError
from allocator.home import StudyPlace
from allocator.postgres_connection import connect
from allocator.postgres_evidence import expected_catalog, found_catalog
from allocator.postgres_store import PostgresStore
from allocator.sqlite_store import SqliteStore
from postgres_server import PASSWORD, Server
from support import STUDY_ID, Clock, Trial, finish_worker, ineligible_form, open_home, open_service


@pytest.fixture(scope="module")
def template(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Trial]]:
    """An active trial with its log in a database of its own; P-001 is allocated."""
    with postgres.database() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv(stores.VARIABLE, database.writer)
        folder = tmp_path_factory.mktemp("postgres")
        _, actors, _ = support._build(folder, support.study_bytes(), support.design(), ())
        home = folder / "home"
        trial = Trial(home=home, service=open_service(home), actors=actors, clock=Clock())
        trial.allocate("P-001")
        trial.close()
        yield database, trial


@pytest.fixture
def database(template: tuple[Server, Trial], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A copy of that database, chosen by the environment."""
    with template[0].copy() as copy:
        monkeypatch.setenv(stores.VARIABLE, copy.writer)
        yield copy


@pytest.fixture
def trial(database: Server, template: tuple[Server, Trial], tmp_path: Path) -> Iterator[Trial]:
    """A copy of that trial."""
    assert stores.address_given() == database.writer
    home = Path(shutil.copytree(template[1].home, tmp_path / "home"))
    trial = Trial(home=home, service=open_service(home), actors=template[1].actors, clock=Clock())
    yield trial
    trial.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Another folder, empty."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


def told(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result of a command with --json."""
    capsys.readouterr()
    code = run(["--json", "--home", str(home), *arguments])
    out = capsys.readouterr().out
    assert PASSWORD not in out
    return code, json.loads(out.splitlines()[-1])


def verdict(capsys: pytest.CaptureFixture[str], home: Path) -> tuple[str, set[str]]:
    """What `verify` says, and the checks of its findings."""
    code, said = told(capsys, home, "verify")
    assert (code == 3) == (said["verdict"] in ("broken", "intact-unanchored"))
    return said["verdict"], {finding["check"] for finding in said["findings"]}


# ---- the way of a study ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("A01")
def test_allocations_are_made_and_shown_again(trial: Trial) -> None:
    first, second = trial.allocate("P-002", "P-003")
    assert (first.number, second.number) == (2, 3)
    assert trial.reveal("P-002").arm == first.arm and trial.kinds.count("allocated") == 3
    trial.confirm("P-101", ineligible_form(trial.clock.now))
    with pytest.raises(AllocatorError):
        trial.reveal("P-101")
    assert trial.kinds[-1] == "refused"
    assert not trial.place.log_file.exists() and trial.place.postgres_file.is_file()


@pytest.mark.requirement("A03")
def test_two_processes_tell_the_same_of_the_same_participants(trial: Trial) -> None:
    for participant in ("P-003", "P-004"):
        trial.confirm(participant)
    workers = [support.start_worker(trial.home, "reveal", ("P-003", "P-004")) for _ in range(2)]
    lines = [finish_worker(worker)[1:] for worker in workers]
    assert lines[0] == lines[1] and [line["number"] for line in lines[0]] == [2, 3]
    assert trial.kinds.count("allocated") == 3


def test_the_log_is_read_and_the_study_verified(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, trial.home) == ("intact-local", set())
    code, status = told(capsys, trial.home, "status")
    assert (code, status["state"], status["allocated"], status["records"]) == (0, "active", 1, len(trial.records))
    assert told(capsys, trial.home, "verify", str(trial.place.schedules))[0] == 0


def test_a_long_log_is_verified_page_by_page_by_several_processes(
    trial: Trial, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocator.cli.verifying.PARALLEL_FROM", 5)
    monkeypatch.setattr("allocator.cli.verifying.SCRATCH_FROM", 5)
    monkeypatch.setattr("allocator.postgres_evidence.PAGE", 3)
    code, said = told(capsys, trial.home, "verify", "--jobs", "2")
    assert (code, said["verdict"], said["records"]) == (0, "intact-local", len(trial.records))


def test_an_auditor_of_the_database_verifies(
    trial: Trial, database: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.VARIABLE, database.auditor)
    assert verdict(capsys, trial.home) == ("intact-local", set())


def test_the_two_places_are_never_mixed(
    trial: Trial, elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(stores.VARIABLE)
    for command in ("status", "verify"):
        code, said = told(capsys, trial.home, command)
        assert (code, said["error"]["code"]) == (2, "no-store")
    with pytest.raises(InputError, match="opened already"):
        open_home(trial.home)
    open_home(elsewhere)  # in a file
    monkeypatch.setenv(stores.VARIABLE, "postgresql://nobody@127.0.0.1:1/none")
    for command in ("status", "verify"):
        code, said = told(capsys, elsewhere, command)
        assert (code, said["error"]["code"]) == (2, "other-store")
    log = trial.place.log_file
    log.write_bytes(b"")
    try:
        assert told(capsys, trial.home, "status")[1]["error"]["code"] == "two-logs"
    finally:
        log.unlink()


def test_a_study_is_opened_once_in_a_database(trial: Trial, elsewhere: Path) -> None:
    for home, code in ((trial.home, "opened-already"), (elsewhere, "study-taken")):
        with pytest.raises(InputError) as refusal:
            open_home(home)
        assert refusal.value.code == code
    assert list((elsewhere / "keys" / STUDY_ID).iterdir()) == []


def test_init_goes_on_where_it_was_cut_off(
    postgres: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("unavailable", "cut off")

    with postgres.database() as other:
        monkeypatch.setenv(stores.VARIABLE, other.writer)
        with monkeypatch.context() as patch:
            patch.setattr("allocator.postgres_store.PostgresStore._commit", fails)
            with pytest.raises(StorageError):
                open_home(tmp_path)
        assert told(capsys, tmp_path, "status")[1]["error"]["code"] == "other-log"  # nothing is in it yet
        open_home(tmp_path)
        assert told(capsys, tmp_path, "status")[1]["state"] == "open"
        assert verdict(capsys, tmp_path) == ("intact-local", set())


def test_of_two_homes_that_open_a_study_at_once_the_later_one_leaves_nothing_behind(
    postgres: Server, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database() as other:
        monkeypatch.setenv(stores.VARIABLE, other.writer)
        open_home(tmp_path)
        with PostgresStore(other.writer, STUDY_ID) as store:
            record = store.record(0)
        place = StudyPlace(home=elsewhere, study=STUDY_ID)
        place.schedules.mkdir(parents=True)
        assert record is not None
        with pytest.raises(InputError) as refusal:  # both looked before either wrote
            stores.make_log(place, record, {}, lambda _: None)
        assert refusal.value.code == "study-taken" and list(place.schedules.iterdir()) == []


def test_another_database_with_a_study_of_this_name_is_seen(
    trial: Trial, postgres: Server, elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.database() as other:
        monkeypatch.setenv(stores.VARIABLE, other.writer)
        open_home(elsewhere)
        assert told(capsys, trial.home, "status")[1]["error"]["code"] == "other-log"
        found, checks = verdict(capsys, trial.home)
        assert found == "broken" and {"01 files", "21 local head"} <= checks


@pytest.mark.requirement("L03")
def test_a_database_put_back_in_time_is_noticed(
    trial: Trial, database: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.service.close_files()
    with database.copy() as older:
        trial.again()
        trial.confirm("P-002")
        monkeypatch.setenv(stores.VARIABLE, older.writer)
        trial.again()
        with pytest.raises(EvidenceError) as refusal:
            trial.reveal("P-002")
        assert refusal.value.code == "log-behind-head"
        assert verdict(capsys, trial.home) == ("broken", {"21 local head"})
        trial.service.recover(trial.actor("SP"), "the database was put back to an earlier hour")
        trial.service.recover(trial.actor("ST"), "all sites were asked", none_used=True)
        assert trial.allocate("P-002")[0].number == 2
        assert verdict(capsys, trial.home) == ("intact-local", set())
        trial.close()


TAMPERED = {
    "body": ("UPDATE allocator.record SET body = replace(body, 'P-001', 'P-009') WHERE seq = %(seq)s", "12"),
    "tail": (
        "DELETE FROM allocator.detail WHERE seq >= %(seq)s; DELETE FROM allocator.record WHERE seq >= %(seq)s",
        "21",
    ),
    "middle": (
        "DELETE FROM allocator.detail WHERE seq = %(seq)s; DELETE FROM allocator.record WHERE seq = %(seq)s",
        "05",
    ),
    "guard": ("UPDATE allocator.record SET participant = 'P-009' WHERE seq = %(seq)s", "07"),
    "right": ("GRANT UPDATE ON allocator.record TO allocator_writer", "03"),
    "trigger": ("DROP TRIGGER record_next ON allocator.record", "03"),
    "function": (
        "CREATE OR REPLACE FUNCTION allocator.append_only() RETURNS TRIGGER LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "03",
    ),
    "view": ("CREATE VIEW allocator.more AS SELECT 1", "03"),
    "unlogged": ("ALTER TABLE allocator.detail SET UNLOGGED", "03"),
}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_by_the_owner_of_the_tables_is_seen(
    trial: Trial, database: Server, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, check = TAMPERED[how]
    seq = next(record.seq for record in trial.records if record.kind == "confirmed")
    trial.service.close_files()  # a copy is made while nobody is connected
    with database.copy() as copy:
        with psycopg.connect(copy.admin, autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute((statement.replace("%(seq)s", str(seq))).encode())
        monkeypatch.setenv(stores.VARIABLE, copy.writer)
        found, checks = verdict(capsys, trial.home)
    assert found == "broken" and any(each.startswith(check) for each in checks), checks


def test_the_list_is_opened_and_all_of_it_verified(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    trial.service.change_state(trial.actor("SP"), "closed", "enrolment ended")
    for person in ("ST", "CU"):
        trial.service.open_list(trial.actor(person))
    assert trial.kinds[-1] == "opened" and trial.place.seed_file.is_file()
    assert verdict(capsys, trial.home) == ("intact-local", set())


# ---- beside the study -----------------------------------------------------------------------------------------------


def test_the_catalog_of_the_schema_is_the_one_that_verify_expects(database: Server) -> None:
    connection, _ = connect(database.auditor, busy_seconds=1)
    with connection:
        assert found_catalog(connection) == expected_catalog()


def test_columns_and_indexes_are_those_of_the_file(database: Server, tmp_path: Path) -> None:
    from allocator.sqlite_store import create_log

    create_log(tmp_path / "log.sqlite3")
    with SqliteStore(tmp_path / "log.sqlite3") as store, psycopg.connect(database.admin) as connection:
        for table in ("record", "detail"):
            ours = [row[1] for row in store._connection.execute(f"PRAGMA table_info({table})")]
            sql = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
            assert [name for (name,) in connection.execute(sql, (f"allocator.{table}",))] == ["study", *ours]
        names = {row[0] for row in store._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        sql = "SELECT indexname FROM pg_indexes WHERE schemaname = 'allocator'"
        assert {n for n in names if not n.startswith("sqlite_")} <= {n for (n,) in connection.execute(sql)}


def test_a_file_needs_no_postgres_and_a_missing_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; sys.modules['psycopg'] = None\nfrom allocator.cli import main; main(['--json', 'status'])"
    address = "postgresql://nobody@127.0.0.1:1/none"
    environment = {**os.environ, "ALLOCATOR_HOME": str(tmp_path), stores.VARIABLE: address}
    monkeypatch.delenv(stores.VARIABLE, raising=False)
    open_home(tmp_path)
    (tmp_path / "schedules" / STUDY_ID / "log.sqlite3").unlink()
    (tmp_path / "schedules" / STUDY_ID / "log.postgresql").write_text('{"first_record":"00"}')
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "no-postgres"


def test_a_damaged_statement_of_the_place_is_evidence(tmp_path: Path) -> None:
    place = support.StudyPlace(home=tmp_path, study=STUDY_ID)
    place.schedules.mkdir(parents=True)
    place.postgres_file.write_bytes(b"{}")
    with pytest.raises(EvidenceError) as refusal:
        stores.first_record(place)
    assert refusal.value.code == "store-file"


@pytest.mark.requirement("S04")
def test_a_command_never_prints_the_password(
    trial: Trial, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (f"postgresql://u:{PASSWORD}@127.0.0.1:1/none", f"postgresql://u:{PASSWORD}@[/none"):
        monkeypatch.setenv(stores.VARIABLE, address)
        for command in ("status", "verify"):
            assert run(["--home", str(trial.home), command]) in (2, 5)
    said = capsys.readouterr()
    assert PASSWORD not in said.out + said.err and "Traceback" not in said.err

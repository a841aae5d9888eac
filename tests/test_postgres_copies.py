"""What works with a file works with PostgreSQL: a backup, an export, a restore, a self-test."""
# ruff: noqa: F811 (fixtures are taken from another module, and are the parameters of the same names)

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from allocator import log_copy, restoring, stores
from allocator.backup import read_backup
from allocator.cli import run
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused, StorageError
from allocator.exporting import export_study
from allocator.keys import ONLY_FOR_TESTS, KeyFolder
from allocator.log_end import DatabaseEnd, FileEnd
from allocator.moving import Move
from allocator.restoring import read_digest
from allocator.writer import Draft
from postgres_server import Server
from support import PASSPHRASE, STUDY_ID, Trial, open_home
from test_postgres_study import database, template, told, trial, verdict  # noqa: F401


def rows_of(log: Path) -> list[tuple[Any, ...]]:
    """seq, prev and body of every record in a file."""
    with closing(sqlite3.connect(log)) as connection:
        return connection.execute("SELECT seq, prev, CAST(body AS BLOB) FROM record ORDER BY seq").fetchall()


# ---- backup ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R03")
def test_a_backup_holds_the_log_as_a_file_and_verifies_without_the_database(
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, file = trial.records, tmp_path / "backup.tar"
    manifest, record = trial.service.backup(trial.actor("SP"), file)
    assert (manifest.records, manifest.head) == (len(before), before[-1].hash)
    assert read_backup(file) == manifest and record.fields["backup"] == read_digest(file)
    assert (record.kind, verdict(capsys, trial.home)) == ("backed-up", ("intact-local", set()))
    with tarfile.open(file) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    names = {path.name for path in (tmp_path / "unpacked" / "schedules" / STUDY_ID).iterdir()}
    assert "log.sqlite3" in names and "log.postgresql" not in names
    log = tmp_path / "unpacked" / "schedules" / STUDY_ID / "log.sqlite3"
    assert rows_of(log) == [(record.seq, record.prev, record.body) for record in before]
    monkeypatch.delenv(stores.VARIABLE)
    code, said = told(capsys, tmp_path / "unpacked", "verify", "--head", before[-1].hash.hex())
    assert (code, said["verdict"], said["records"]) == (0, "intact", len(before)), said


@pytest.mark.requirement("R03")
def test_others_write_while_the_log_is_copied_and_the_backup_is_of_the_moment_before(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, copy = [], log_copy.copy_snapshot

    def late(connection: Any, *given: Any) -> tuple[int, bytes]:
        trial.confirm("P-002")  # nobody holds the lock any more
        copied.append(copy(connection, *given))
        return copied[-1]

    before, actor = trial.records, trial.actor("SP")
    monkeypatch.setattr("allocator.study_copy.copy_snapshot", late)
    manifest, record = trial.service.backup(actor, tmp_path / "backup.tar")
    assert copied == [(len(before), before[-1].hash)] == [(manifest.records, manifest.head)]
    assert record.seq == len(before) + 1


def test_a_backup_of_another_database_or_of_none_is_not_made(
    trial: Trial, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, raised in ((postgres.writer, "no-log"), ("postgresql://nobody@127.0.0.1:1/none", "unavailable")):
        monkeypatch.setenv(stores.VARIABLE, address)
        with pytest.raises(StorageError) as refusal:
            trial.service.backup(trial.actor("SP"), tmp_path / "backup.tar")
        assert refusal.value.code == raised and not (tmp_path / "backup.tar").exists()


@pytest.mark.requirement("L02")
def test_a_backup_of_an_old_primary_is_not_made(trial: Trial, tmp_path: Path) -> None:
    known = trial.place.keys / "servers"
    plain = json.loads(known.read_bytes())
    plain["servers"][-1]["timeline"] += 1
    kept, _ = known.read_bytes(), known.write_text(json.dumps(plain))
    with pytest.raises(EvidenceError) as refusal:
        trial.service.backup(trial.actor("SP"), tmp_path / "backup.tar")
    assert refusal.value.code == "old-primary" and not (tmp_path / "backup.tar").exists()
    known.write_bytes(kept)


# ---- export ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L01")
@pytest.mark.parametrize("scope", ["evidence", "inspection"])
def test_an_export_needs_no_database(
    trial: Trial, tmp_path: Path, scope: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    exported = export_study(trial.service, trial.actor("SP"), folder, scope)
    trial.service.close_files()
    monkeypatch.delenv(stores.VARIABLE)
    assert (folder / "log.sqlite3").exists() == (scope == "inspection")
    if scope == "inspection":
        assert rows_of(folder / "log.sqlite3")[-1] == (exported.record.seq, exported.record.prev, exported.record.body)
    code, said = told(capsys, trial.home, "verify", str(folder))
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "verify.py"), str(folder), "--json"], capture_output=True, text=True
    )
    theirs = json.loads(done.stdout)
    assert (code, done.returncode) == (0, 0), (said, done)
    assert said["verdict"] == theirs["verdict"] == "intact-local" and said["records"] == theirs["records"]


# ---- restore: the table of docs/postgres.md -------------------------------------------------------------------------


@pytest.fixture
def backed_up(trial: Trial, tmp_path: Path) -> Path:
    """A backup of the trial, recorded in it."""
    trial.service.backup(trial.actor("SP"), tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def put_back(trial: Trial, file: Path, noticed: list[str] | None = None) -> restoring.Restored:
    """Restore as SP."""
    trial.service.close_files()
    return restoring.restore(
        trial.home,
        file,
        read_digest(file),
        lambda service: service.authenticate("SP", lambda: PASSPHRASE, "restored"),
        "the disk failed",
        clock=trial.clock,
        stretching=ONLY_FOR_TESTS,
        notify=(trial.notices if noticed is None else noticed).append,
    )


def refused_restore(trial: Trial, file: Path, raised: type[AllocatorError]) -> AllocatorError:
    """The error of a restore that does nothing: every file of the home stays as it was."""
    before = {path: path.read_bytes() for path in trial.home.rglob("*") if path.is_file()}
    with pytest.raises(raised) as refusal:
        put_back(trial, file)
    assert {path: path.read_bytes() for path in trial.home.rglob("*") if path.is_file()} == before
    return refusal.value


def where(done: restoring.Restored) -> tuple[bool, bool, bool, str]:
    """The log that was there was kept; it lies in PostgreSQL; it did before; what is missing."""
    return done.kept_log, done.in_postgres, done.was_in_postgres, done.missing


@pytest.mark.requirement("R03")
def test_a_newer_log_in_the_database_stays_there_and_the_files_come_back(
    trial: Trial, backed_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told_before = trial.allocate("P-002")[0]
    count = len(trial.records)
    for lost in (trial.place.sealed_file, trial.place.keys / "PH.json"):
        lost.unlink()
    trial.place.postgres_file.write_bytes(b"{}")
    done = put_back(trial, backed_up)
    assert where(done) == (True, True, True, "none") and done.record.seq == count
    assert not trial.place.log_file.exists() and done.aside is not None
    assert verdict(capsys, trial.home) == ("intact-local", set())
    trial.again()
    assert trial.reveal("P-002").arm == told_before.arm and trial.allocate("P-003")[0].number == 3


@pytest.mark.requirement("R03")
def test_a_lost_home_is_put_back_beside_the_log_in_the_database(
    trial: Trial, backed_up: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.service.close_files()
    shutil.rmtree(trial.home)
    done = put_back(trial, backed_up)
    assert where(done) == (True, True, True, "unknown")  # without a head nobody can tell
    assert verdict(capsys, trial.home) == ("intact-local", set())
    trial.again()
    assert trial.service.history.state == "recovering" and trial.reveal("P-001").repeated


def test_a_home_lost_with_its_database_comes_back_as_files(
    trial: Trial, backed_up: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.service.close_files()
    shutil.rmtree(trial.home)
    monkeypatch.delenv(stores.VARIABLE)
    done = put_back(trial, backed_up)
    assert where(done) == (False, False, False, "unknown") and done.record.fields["state"] == "recovering"
    assert verdict(capsys, trial.home) == ("intact-local", set())


def test_a_log_that_was_moved_out_of_the_database_does_not_go_on_there(
    trial: Trial, database: Server, backed_up: Path
) -> None:
    draft = Draft(kind="moved", fields={"to": "file"})
    trial.service._writer.write(trial.actor("SP"), "moved", lambda _: draft)
    trial.place.sealed_file.unlink()
    before = in_database(database)
    noticed: list[str] = []
    assert where(put_back(trial, backed_up, noticed)) == (False, False, True, "known")
    assert in_database(database) == before
    sealed = max(row[1] for row in before)
    assert f"to record {sealed}, which sealed it" in noticed[0] and "look for the place" in noticed[0]


def test_a_log_on_its_way_is_not_put_back_before_its_move_is_ended(trial: Trial, backed_up: Path) -> None:
    draft = Draft(kind="moved", fields={"to": "file"})
    trial.service._writer.write(trial.actor("SP"), "moved", lambda _: draft)
    trial.place.moving_file.write_bytes(b"{}")
    assert "`allocator move` again" in (refused_restore(trial, backed_up, Refused).hint or "")
    trial.place.moving_file.unlink()
    assert where(put_back(trial, backed_up)) == (False, False, True, "known")


def test_a_study_in_the_database_that_holds_is_not_put_back_by_mistake(trial: Trial, backed_up: Path) -> None:
    assert refused_restore(trial, backed_up, Refused).code == "nothing-to-restore"


def test_a_database_that_is_not_reached_stops_the_restore(
    trial: Trial, backed_up: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.place.sealed_file.unlink()
    monkeypatch.setenv(stores.VARIABLE, "postgresql://nobody@127.0.0.1:1/none")
    error = refused_restore(trial, backed_up, StorageError)
    assert error.code == "unavailable" and "unset ALLOCATOR_STORE" in (error.hint or "")
    with postgres.database(schema=False) as empty:
        monkeypatch.setenv(stores.VARIABLE, empty.admin)
        assert refused_restore(trial, backed_up, InputError).code == "no-schema"


@pytest.mark.requirement("L03", "R03")
@pytest.mark.parametrize("later", [False, True])
def test_without_the_database_the_log_is_a_file_and_the_head_tells_what_is_missing(
    trial: Trial, tmp_path: Path, later: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup.tar"
    trial.service.backup(trial.actor("SP"), file)
    if later:
        trial.confirm("P-002")
    else:  # the record of the backup itself is never in it
        KeyFolder(trial.place.keys).write_head(trial.records[-2].seq, trial.records[-2].hash)
    trial.service.close_files()
    monkeypatch.delenv(stores.VARIABLE)
    done = put_back(trial, file)
    assert where(done) == (False, False, True, "known" if later else "none")
    assert trial.place.log_file.is_file() and not trial.place.postgres_file.exists()
    assert done.aside is not None and (done.aside / "log.postgresql").is_file()
    assert verdict(capsys, trial.home) == ("intact-local", set())
    trial.again()
    assert trial.service.history.state == ("recovering" if later else "active")


@pytest.mark.requirement("L03", "R03")
@pytest.mark.parametrize("how", ["older", "changed", "another", "none"])
def test_a_log_in_the_database_that_is_not_the_newer_one_or_does_not_hold_is_left_alone(
    trial: Trial, database: Server, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.service.close_files()
    with database.copy() as older, database.database() as other:
        trial.again()
        trial.confirm("P-002")
        file = tmp_path / "backup.tar"
        trial.service.backup(trial.actor("SP"), file)
        chosen = {"older": older, "changed": older, "another": other, "none": other}[how]
        with psycopg.connect(older.admin, autocommit=True) as superuser:
            if how == "changed":
                superuser.execute("SET session_replication_role = replica")
                superuser.execute("UPDATE allocator.record SET participant = 'P-009' WHERE seq = 1")
        monkeypatch.setenv(stores.VARIABLE, chosen.writer)
        if how == "another":
            (tmp_path / "another").mkdir()
            open_home(tmp_path / "another")
        trial.service.close_files()
        before = in_database(chosen)
        done = put_back(trial, file)
        assert where(done) == (False, False, True, "known") and in_database(chosen) == before
    assert trial.place.log_file.is_file() and not trial.place.postgres_file.exists()
    monkeypatch.delenv(stores.VARIABLE)
    assert trial.again().history.state == "recovering"


@pytest.mark.requirement("R03", "R04")
def test_a_database_put_back_in_time_gets_what_it_lacks_by_a_restore_and_a_move(
    trial: Trial, database: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.service.close_files()
    with database.copy() as older:
        trial.again()
        told_after = trial.allocate("P-002")[0]
        file = tmp_path / "backup.tar"
        trial.service.backup(trial.actor("SP"), file)
        monkeypatch.setenv(stores.VARIABLE, older.writer)
        assert where(put_back(trial, file)) == (False, False, True, "known")
        monkeypatch.delenv(stores.VARIABLE)
        trial.again()
        trial.service.recover(trial.actor("ST"), "the record of the backup was lost, nothing else", none_used=True)
        trial.close()
        move = Move(
            place=trial.place,
            source=FileEnd(place=trial.place),
            target=DatabaseEnd(place=trial.place, address=older.writer),
            clock=trial.clock,
        )
        move.run(lambda service, action: service.authenticate("SP", lambda: PASSPHRASE, action))
        monkeypatch.setenv(stores.VARIABLE, older.writer)
        assert verdict(capsys, trial.home) == ("intact-local", set())
        trial.again()
        assert trial.reveal("P-002").arm == told_after.arm and trial.allocate("P-003")[0].number == 3
        trial.place.sealed_file.unlink()
        assert where(put_back(trial, file)) == (True, True, True, "none")
        trial.close()


def in_database(server: Server) -> list[tuple[Any, ...]]:
    """Every record in a database."""
    with psycopg.connect(server.admin) as connection:
        return connection.execute("SELECT * FROM allocator.record ORDER BY study, seq").fetchall()


def test_a_log_that_is_a_file_here_is_not_mixed_with_the_database(
    trial: Trial, backed_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = stores.address_given()
    assert address is not None
    monkeypatch.delenv(stores.VARIABLE)
    put_back(trial, backed_up)
    monkeypatch.setenv(stores.VARIABLE, address)
    assert refused_restore(trial, backed_up, InputError).code == "other-store"
    trial.place.postgres_file.write_bytes(b"{}")
    assert refused_restore(trial, backed_up, InputError).code == "two-logs"


def test_a_restore_beside_the_database_that_was_cut_off_is_done_again(
    trial: Trial, backed_up: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StorageError("cannot-write", "cut off")

    trial.place.sealed_file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_put_in_place", fails)
        assert refused_restore(trial, backed_up, StorageError).code == "cannot-write"
    assert where(put_back(trial, backed_up)) == (True, True, True, "none")
    trial.again()
    assert trial.kinds[-2:] == ["restored", "restored"]
    assert verdict(capsys, trial.home) == ("intact-local", set())


def test_the_command_says_where_the_log_is(
    trial: Trial, backed_up: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOCATOR_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(restoring, "STANDARD", ONLY_FOR_TESTS)
    trial.service.close_files()
    command = ["--home", str(trial.home), "--as", "SP", "restore", str(backed_up), "--reason", "lost"]
    trial.place.sealed_file.unlink()
    assert run(command) == 0
    assert "The log in the database was the newer one and holds: it was kept, and stays" in capsys.readouterr().out
    monkeypatch.delenv(stores.VARIABLE)
    assert run(["--json", *command]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["log"], said["kept_log"], said["missing"]) == ("file", False, "known")
    shutil.rmtree(trial.place.schedules)
    (trial.place.schedules).mkdir()
    trial.place.postgres_file.write_bytes(b"{}")
    assert run(command) == 0
    assert "The log is a file in this home now: unset ALLOCATOR_STORE" in capsys.readouterr().out

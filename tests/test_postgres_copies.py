"""What works with a file works with PostgreSQL: a backup, an export, a restore, a self-test."""
# ruff: noqa: F811 (fixtures are taken from another module, and are the parameters of the same names)

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from allocator import log_copy, stores
from allocator.backup import read_backup
from allocator.errors import EvidenceError, StorageError
from allocator.exporting import export_study
from allocator.restoring import read_digest
from postgres_server import Server
from support import STUDY_ID, Trial
from test_postgres_study import database, template, told, trial, verdict  # noqa: F401

VERIFY_PY = Path(__file__).parent.parent / "verifier" / "verify.py"


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
    monkeypatch.setattr("allocator.backup.copy_snapshot", late)
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

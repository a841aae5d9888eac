"""The self-test qualifies the database of ALLOCATOR_STORE, and fails where it must; it leaves nothing there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from allocator import database_check, stores
from allocator.cli import run
from allocator.database_check import CHECKS, Database, is_local
from allocator.qualification import Check
from allocator.self_test import CHECKS as DRILL
from allocator.session import system_clock
from postgres_server import PASSWORD, Server


def checked(address: str) -> dict[str, Check]:
    """The checks of a database, by name."""
    found = {check.name.removeprefix("database "): check for check in Database(address).run()}
    assert PASSWORD not in repr(found) and len(found) == len(CHECKS)
    return found


def failed(address: str) -> dict[str, str]:
    """What the checks say that failed."""
    return {name: check.said for name, check in checked(address).items() if not check.passed}


@pytest.fixture
def database(postgres: Server) -> Iterator[Server]:
    """A database of this test's own."""
    with postgres.database() as database:
        yield database


@pytest.mark.requirement("V01")
def test_the_report_has_the_drill_on_files_and_the_database(
    database: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.VARIABLE, database.writer)
    report = tmp_path / "report.md"
    assert run(["--json", "self-test", "--to", str(report), "--on", str(tmp_path)]) == 0
    out, text = capsys.readouterr().out, report.read_text()
    said = json.loads(out)
    assert (said["passed"], said["failed"]) == (len(DRILL) + len(CHECKS), 0)
    assert all(f"| database {name} |" in text for name in ("reached", "rights", "connection", "clock"))
    assert f"- **Database**: {database.writer.rpartition('/')[2]} at {database.host}:{database.port}" in text
    assert PASSWORD not in out + text
    with psycopg.connect(database.admin) as connection:
        assert connection.execute("SELECT FROM allocator.study").fetchall() == []


@pytest.mark.requirement("V01")
def test_a_database_that_is_not_reached_fails_every_check_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"postgresql://u:{PASSWORD}@127.0.0.1:1/none"
    found = failed(address)
    assert len(found) == len(CHECKS) and found["rights"] == "AssertionError: there is no connection to ask"
    monkeypatch.setenv(stores.VARIABLE, address)
    monkeypatch.setattr("allocator.self_test.CHECKS", [])
    assert run(["self-test", "--to", str(tmp_path / "report.md")]) == 3
    said = capsys.readouterr().out + (tmp_path / "report.md").read_text()
    assert "FAILED  database reached" in said and "**Database**: not reached" in said and PASSWORD not in said


@pytest.mark.requirement("L04")
def test_rights_beyond_a_writers_or_short_of_them_fail(database: Server) -> None:
    assert failed(database.writer) == {}
    assert "may not insert records" in failed(database.auditor)["rights"]
    assert "be a superuser" in failed(database.admin)["rights"]
    for grant, said in (
        ("GRANT DELETE ON allocator.detail TO {}", "DELETE on detail"),
        ("GRANT UPDATE (body) ON allocator.record TO {}", "UPDATE of record.body"),
        ("GRANT CREATE ON SCHEMA allocator TO {}", "make things in the schema"),
        ("GRANT allocator_owner TO test_writer", "become allocator_owner"),
    ):
        with psycopg.connect(database.admin, autocommit=True) as superuser:
            superuser.execute(grant.format("test_writer").encode())
            try:
                assert said in failed(database.writer)["rights"]
            finally:
                undo = grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ").format("test_writer")
                superuser.execute(undo.encode())


@pytest.mark.requirement("L02")
def test_a_schema_that_was_changed_fails(database: Server) -> None:
    with psycopg.connect(database.admin, autocommit=True) as superuser:
        superuser.execute("DROP TRIGGER record_next ON allocator.record")
    found = failed(database.writer)
    assert "trigger CREATE TRIGGER record_next" in found["schema"] and "out of order was taken" in found["guards"]
    with psycopg.connect(database.admin) as connection:
        assert connection.execute("SELECT FROM allocator.record").fetchall() == []


@pytest.mark.requirement("A04")
def test_whether_a_commit_waits_for_a_standby_is_told(postgres: Server) -> None:
    assert checked(postgres.writer)["standbys"].said.startswith("no commit waits for a standby")
    waiting = checked(postgres.replicated)
    with psycopg.connect(postgres.admin) as connection:
        (named,) = connection.execute("SHOW synchronous_standby_names").fetchone() or ("",)
    said = f"each commit waits (on) for {named}" if named else "no commit waits for a standby"
    assert waiting["standbys"].said.startswith(said) and waiting["standbys"].passed
    assert waiting["durable"].said.endswith("synchronous_commit on")


@pytest.mark.requirement("L05", "S04")
def test_another_clock_a_connection_in_the_clear_and_an_old_version_fail(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_check, "system_clock", lambda: system_clock() - timedelta(seconds=9))
    monkeypatch.setattr(database_check, "is_local", lambda *_: False)
    monkeypatch.setattr(database_check, "OLDEST", 99)
    found = failed(postgres.writer)
    assert found.keys() == {"reached", "connection", "clock"}
    assert "+9.0 s" in found["clock"] and "neither encrypted nor local" in found["connection"]


def test_local_is_a_socket_or_loopback() -> None:
    here = [("/run/postgresql", ""), ("@abstract", ""), ("", ""), ("localhost", "::1"), ("db", "127.0.0.1")]
    assert all(is_local(*where) for where in [*here, ("localhost", "")])
    assert not any(is_local(*where) for where in [("db.example.org", "192.0.2.1"), ("db.example.org", "")])

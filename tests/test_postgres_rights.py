"""Least rights, tried as an attacker would who has the password of a writer or of an auditor of the database.

Everything in the tables is refused; what PostgreSQL lets anybody do (temporary tables, a search path) is shown to be
harmless. Edits by hand and rows that do not follow are in tests/test_postgres_store.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from allocator.errors import InputError
from allocator.postgres_connection import connect
from allocator.postgres_evidence import expected_catalog, found_catalog
from allocator.postgres_store import PostgresStore
from postgres_server import PASSWORD, Server
from test_stores import append, study_of_three

NEXT = "sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8'))"
REFUSED = [  # for both: no right to it
    "ALTER TABLE allocator.record DISABLE TRIGGER ALL",
    "ALTER TABLE allocator.record DISABLE TRIGGER record_append_only",
    "ALTER TABLE allocator.record ENABLE REPLICA TRIGGER record_next",
    "ALTER TABLE allocator.record OWNER TO CURRENT_USER",
    "ALTER TABLE allocator.record ALTER COLUMN prev DROP NOT NULL",
    "ALTER TABLE allocator.record DROP CONSTRAINT record_pkey CASCADE",
    "ALTER TABLE allocator.record SET SCHEMA public",
    "ALTER TABLE allocator.record ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE allocator.record RENAME TO other",
    "ALTER SCHEMA allocator OWNER TO CURRENT_USER",
    "ALTER FUNCTION allocator.append_only() SET session_replication_role = replica",
    "ALTER TRIGGER record_next ON allocator.record RENAME TO other",
    "ALTER INDEX allocator.record_of_kind RENAME TO other",
    "ALTER DATABASE {database} SET session_replication_role = replica",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE CURRENT_USER SET session_replication_role = replica",
    "ALTER ROLE allocator_owner LOGIN PASSWORD 'x'",
    "ALTER SYSTEM SET fsync = off",
    "ALTER DEFAULT PRIVILEGES FOR ROLE allocator_owner GRANT UPDATE ON TABLES TO PUBLIC",
    "SET ROLE allocator_owner",
    "SET ROLE {superuser}",
    "SET SESSION AUTHORIZATION allocator_owner",
    "SET session_replication_role = replica",
    "REASSIGN OWNED BY allocator_owner TO CURRENT_USER",
    "DROP OWNED BY allocator_owner",
    "GRANT allocator_owner TO CURRENT_USER",
    "GRANT pg_write_server_files TO CURRENT_USER",
    "CREATE ROLE more",
    "CREATE DATABASE more",
    "CREATE SCHEMA more",
    "CREATE SCHEMA more AUTHORIZATION allocator_owner",
    "CREATE EVENT TRIGGER more ON ddl_command_start EXECUTE FUNCTION allocator.append_only()",
    "CREATE PUBLICATION more FOR TABLE allocator.record",
    "CREATE TABLE allocator.more (x INTEGER)",
    "CREATE TABLE public.record (x INTEGER)",
    "CREATE VIEW allocator.more AS SELECT 1",
    "CREATE FUNCTION allocator.more() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION public.sha256(BYTEA) RETURNS BYTEA LANGUAGE sql AS 'SELECT $1'",
    "CREATE OR REPLACE FUNCTION allocator.append_only() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE OR REPLACE TRIGGER record_next BEFORE INSERT ON allocator.record FOR EACH ROW"
    " EXECUTE FUNCTION allocator.detail_next()",
    "CREATE TRIGGER more AFTER INSERT ON allocator.record FOR EACH ROW EXECUTE FUNCTION allocator.append_only()",
    "CREATE RULE more AS ON INSERT TO allocator.record DO INSTEAD NOTHING",
    "CREATE POLICY more ON allocator.record USING (false)",
    "CREATE INDEX more ON allocator.record (body)",
    "CREATE STATISTICS allocator.more ON seq, kind FROM allocator.record",
    "DROP TRIGGER record_next ON allocator.record",
    "DROP INDEX allocator.one_allocation_a_position",
    "DROP FUNCTION allocator.append_only() CASCADE",
    "DROP TABLE allocator.detail",
    "DROP SCHEMA allocator CASCADE",
    "DROP DATABASE template0",
    "DROP EXTENSION plpgsql CASCADE",
    "COMMENT ON TABLE allocator.record IS 'x'",
    "CLUSTER allocator.record USING record_pkey",
    "REINDEX TABLE allocator.record",
    "DO $$ BEGIN LOCK TABLE allocator.record IN ACCESS EXCLUSIVE MODE; END $$",
    "DO $$ BEGIN LOCK TABLE allocator.study IN ACCESS EXCLUSIVE MODE; END $$",
    "COPY allocator.record FROM '/dev/null'",
    "COPY allocator.record FROM PROGRAM 'true'",
    "COPY allocator.record TO '/dev/null'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{superuser}'",
    "SELECT pg_reload_conf()",
    "SELECT rolpassword FROM pg_authid",
    "INSERT INTO allocator.version VALUES (2)",
    "INSERT INTO allocator.study (study, turn) VALUES ('more', 1)",
    "MERGE INTO allocator.record AS r USING (SELECT 1) AS s ON r.study = '{study}' WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM allocator.record RETURNING *) SELECT count(*) FROM gone",
    "EXPLAIN ANALYZE DELETE FROM allocator.record",
    "DO $$ BEGIN DELETE FROM allocator.record; END $$",
]
# for a writer, who may insert: rows that follow by number, and break a rule beside another row of the same statement
ZERO, AFTER = "decode(repeat('00', 32), 'hex')", f"sha256('\\x00'::bytea || {NEXT} || '{{}}'::bytea)"
TWO = f"""INSERT INTO allocator.record SELECT study, 3 + n, CASE n WHEN 0 THEN {NEXT} ELSE {AFTER} END, '{{}}',
    'allocated', 'P-00' || 3 + n * %s, '{{}}', 5 + n * %s
    FROM allocator.record, generate_series(0, 1) AS n WHERE study = %s AND seq = 2"""
GUARDED = {
    "the same participant twice": (TWO, (0, 1), "one participant, one allocation"),
    "the same place twice": (TWO, (1, 0), "one_allocation_a_position"),
    "a detail of an older record": (
        f"""WITH more AS (INSERT INTO allocator.record SELECT study, 3, {NEXT}, '{{}}', 'paused' FROM allocator.record
            WHERE study = %s AND seq = 2 RETURNING study)
            INSERT INTO allocator.detail SELECT study, 0, 'more', {ZERO}, 'x' FROM more""",
        (),
        "details are written with their record",
    ),
    "a log that was never opened": (
        f"INSERT INTO allocator.record SELECT %s || 'x', 0, {ZERO}, '{{}}', 'paused'",
        (),
        "record_study_fkey",
    ),
    "no study": (
        f"INSERT INTO allocator.record SELECT NULL, 0, {ZERO}, '', '' FROM allocator.study WHERE study = %s",
        (),
        "null value",
    ),
    "a turn": ("UPDATE allocator.study SET turn = turn WHERE study = %s", (), "nothing is edited"),
}


@pytest.fixture
def study(postgres: Server) -> str:
    """Three records, the last of which allocates P-001."""
    return study_of_three(postgres)


@pytest.fixture
def unchanged(postgres: Server, study: str) -> Iterator[None]:
    """Afterwards nothing is other than before: rows, and all that `verify` holds of the catalog."""
    before = rows(postgres, study)
    yield
    assert rows(postgres, study) == before
    connection, _ = connect(postgres.auditor, busy_seconds=1)
    with connection:
        assert found_catalog(connection) == expected_catalog()


def rows(server: Server, study: str) -> list[Any]:
    """Everything of a study."""
    sql = "SELECT r, d FROM allocator.record AS r LEFT JOIN allocator.detail AS d USING (study, seq) WHERE r.study = %s"
    with psycopg.connect(server.admin) as connection:
        return connection.execute(f"{sql} ORDER BY r.seq".encode(), (study,)).fetchall()


@pytest.mark.requirement("L04")
@pytest.mark.parametrize("who", ["writer", "auditor"])
@pytest.mark.usefixtures("unchanged")
def test_what_neither_may_is_refused(postgres: Server, study: str, who: str) -> None:
    let_through = []
    known = psycopg.conninfo.conninfo_to_dict(postgres.admin)
    names = {"study": study, "database": known["dbname"], "superuser": known["user"]}
    with psycopg.connect(getattr(postgres, who), autocommit=True) as connection, psycopg.connect(postgres.admin):
        for statement in REFUSED:
            try:
                connection.execute(statement.format(**names).encode())
            except (errors.InsufficientPrivilege, errors.IntegrityError):
                continue
            except psycopg.Error as error:
                let_through.append((statement, repr(error)))
            else:
                let_through.append((statement, "done"))
    assert not let_through, "\n".join(map(str, let_through))


@pytest.mark.requirement("A01")
@pytest.mark.parametrize("how", GUARDED)
@pytest.mark.usefixtures("unchanged")
def test_rows_of_one_statement_are_held_to_each_other(postgres: Server, study: str, how: str) -> None:
    statement, values, said = GUARDED[how]
    with (
        psycopg.connect(postgres.writer, autocommit=True) as connection,
        pytest.raises(psycopg.IntegrityError, match=said),
    ):
        connection.execute(statement.encode(), (*values, study))


@pytest.mark.requirement("L02")
@pytest.mark.usefixtures("unchanged")
def test_rows_copied_in_are_held_to_the_rules(postgres: Server, study: str) -> None:
    line = f"{study}\t3\t\\\\x{'00' * 32}\t{{}}\tpaused\t\\N\t\\N\t\\N\n".encode()
    with (
        psycopg.connect(postgres.writer, autocommit=True) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg.IntegrityError, match="one chain"),
        cursor.copy(b"COPY allocator.record FROM STDIN") as into,
    ):
        into.write(line)


@pytest.mark.requirement("A03")
@pytest.mark.usefixtures("unchanged")
def test_who_does_not_stand_in_line_is_refused_all_the_same(postgres: Server, study: str) -> None:
    row = f"INSERT INTO allocator.record SELECT study, 3, {NEXT}, '{{}}', 'allocated', %s, '{{}}', %s"
    row += " FROM allocator.record WHERE study = %s AND seq = 2"
    with psycopg.connect(postgres.writer) as first, psycopg.connect(postgres.writer) as second:
        second.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        second.execute("SET LOCAL lock_timeout = '5s'")
        second.execute("SELECT count(*) FROM allocator.record")  # its moment is now
        first.execute(row.encode(), ("P-003", 5, study))
        first.commit()
        with pytest.raises((psycopg.IntegrityError, errors.SerializationFailure)):
            second.execute(row.encode(), ("P-003", 5, study))
    with psycopg.connect(postgres.admin, autocommit=True) as superuser:  # what a test may
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("DELETE FROM allocator.record WHERE study = %s AND seq = 3", (study,))


# ---- what PostgreSQL lets anybody do --------------------------------------------------------------------------------

SHADOWS = (
    "CREATE TEMPORARY TABLE record (LIKE allocator.record)",
    "CREATE TEMPORARY TABLE study (study TEXT, turn INTEGER)",
    "CREATE FUNCTION pg_temp.sha256(BYTEA) RETURNS BYTEA LANGUAGE sql AS 'SELECT decode(repeat(''00'', 32), ''hex'')'",
    "CREATE FUNCTION pg_temp.same(BYTEA, BYTEA) RETURNS BOOLEAN LANGUAGE sql AS 'SELECT true'",
    "CREATE OPERATOR pg_temp.= (LEFTARG = BYTEA, RIGHTARG = BYTEA, FUNCTION = pg_temp.same)",
    "SET search_path = pg_temp, pg_catalog, allocator",
    "SET check_function_bodies = off",
    "SET default_transaction_isolation = 'read uncommitted'",
)


@pytest.mark.requirement("L02")
@pytest.mark.usefixtures("unchanged")
def test_names_of_one_s_own_shadow_nothing(postgres: Server, study: str) -> None:
    with psycopg.connect(postgres.writer, autocommit=True) as connection:
        for statement in SHADOWS:
            connection.execute(statement.encode())
        row = f"INSERT INTO allocator.record VALUES ('{study}', 3, {ZERO}, '{{}}', 'paused')"
        with pytest.raises(psycopg.IntegrityError, match="one chain"):
            connection.execute(row.encode())
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (0,)


@pytest.mark.requirement("L02")
def test_a_program_whose_user_has_shadows_by_default_reads_the_log(postgres: Server, study: str) -> None:
    options = "options=-csearch_path%3Dpg_temp%2Cpublic%20-cdefault_transaction_read_only%3Doff"
    with PostgresStore(f"{postgres.writer}?{options}", study) as store:
        store._connection.execute(b"CREATE TEMPORARY TABLE record (LIKE allocator.record)")
        assert [record.seq for record in store.records()] == [0, 1, 2]
        assert append(store, "looked-up").seq == 3


def test_in_a_database_set_up_as_documented_a_stranger_does_not_come_in(postgres: Server) -> None:
    with postgres.database() as database, psycopg.connect(database.admin, autocommit=True) as superuser:
        name = database.admin.rpartition("/")[2]
        superuser.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC".encode())
        superuser.execute(f"GRANT CONNECT ON DATABASE {name} TO test_writer".encode())
        with psycopg.connect(database.writer, autocommit=True) as connection:
            for statement in (
                "CREATE TEMPORARY TABLE record (x INTEGER)",
                "CREATE SCHEMA more",
                "CREATE TABLE public.x ()",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(database.auditor)


def test_who_is_in_neither_role_sees_nothing(postgres: Server, study: str) -> None:
    stranger = f"stranger_{study[:8]}"
    with psycopg.connect(postgres.admin, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD '{PASSWORD}'".encode())
        try:
            address = postgres.writer.replace("test_writer", stranger)
            with psycopg.connect(address, autocommit=True) as connection:
                for table in ("record", "detail", "study", "version"):
                    with pytest.raises(errors.InsufficientPrivilege):
                        connection.execute(f"SELECT count(*) FROM allocator.{table}".encode())
            with pytest.raises(InputError) as refusal:
                PostgresStore(address, study)
            assert refusal.value.code == "no-schema"
        finally:
            superuser.execute(f"DROP ROLE {stranger}".encode())

"""schema.sql and postgres.sql are one design, read from live databases: what differs is `study`, and nothing else.

Columns, keys, guards and indexes are compared as each engine states them; the triggers by what they let in.
"""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from math import log2
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import sqlite_store
from allocator.criterion import StudyError
from allocator.log import KINDS
from allocator.postgres_store import PostgresStore, create_log
from allocator.study import MAX_STRATA, Factor, stratum_label
from postgres_server import Server
from test_stores import append

TYPES = {"INTEGER": "bigint", "BLOB": "bytea", "TEXT": "text"}
TABLES = ("record", "detail")
GENESIS = bytes(32)


class Column(NamedTuple):
    """A column, in PostgreSQL's words."""

    name: str
    type: str
    required: bool


class Index(NamedTuple):
    """An index: its key without `study`, and the words of its condition."""

    name: str
    unique: bool
    key: tuple[str, ...]
    condition: frozenset[str]


class Key(NamedTuple):
    """A foreign key without `study`: columns, the table they lead to, its columns."""

    columns: tuple[str, ...]
    table: str
    to: tuple[str, ...]


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    """An empty log as a file makes it, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(sqlite_store.schema_text())
        yield connection


@pytest.fixture
def database(postgres: Server) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A superuser of the test server."""
    with psycopg.connect(postgres.admin, autocommit=True) as connection:
        yield connection


def words(condition: str | None) -> frozenset[str]:
    """The columns and values that a condition names, whatever grammar stands between them."""
    text = re.sub(r"::\w+|\bANY\b|\bARRAY\b|\bIN\b|\"", " ", condition or "")
    return frozenset(re.findall(r"[\w-]+", text))


def without_study(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns after `study`, which must be the first."""
    assert columns[0] == "study"
    return columns[1:]


# ---- as SQLite states it --------------------------------------------------------------------------------------------


def file_columns(file: sqlite3.Connection, table: str) -> list[Column]:
    """In order; what is in the primary key is required, whatever the engine says of a rowid."""
    rows = file.execute(f"PRAGMA table_info({table})").fetchall()
    return [Column(name, TYPES[kind], bool(required or key)) for _, name, kind, required, _, key in rows]


def file_key(file: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The primary key."""
    rows = [row for row in file.execute(f"PRAGMA table_info({table})") if row[5]]
    return tuple(row[1] for row in sorted(rows, key=lambda row: row[5]))


def file_indexes(file: sqlite3.Connection, table: str) -> set[Index]:
    """Those that were asked for. An index that is not unique ends with the rowid, which is seq."""
    found = set()
    for _, name, unique, origin, _ in file.execute(f"PRAGMA index_list({table})").fetchall():
        if origin == "c":
            rows = file.execute(f"PRAGMA index_xinfo({name})").fetchall()
            key = tuple("seq" if cid == -1 else column for _, cid, column, _, _, own in rows if own or not unique)
            (sql,) = file.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
            found.add(Index(name, bool(unique), key, words(sql.partition("WHERE")[2])))
    return found


def file_foreign_keys(file: sqlite3.Connection, table: str) -> set[Key]:
    """Each of one column."""
    rows = file.execute(f"PRAGMA foreign_key_list({table})").fetchall()
    return {Key((row[3],), row[2], (row[4],)) for row in rows}


# ---- as PostgreSQL states it ----------------------------------------------------------------------------------------


def database_columns(database: psycopg.Connection[Any], table: str) -> list[Column]:
    """In order."""
    sql = """SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
    return [Column(*row) for row in database.execute(sql, (f"allocator.{table}",))]


def database_indexes(database: psycopg.Connection[Any], table: str, *, primary: bool) -> set[Index]:
    """The primary key, or all others."""
    sql = """SELECT c.relname, i.indisunique,
            array(SELECT a.attname FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)::text[],
            pg_get_expr(i.indpred, i.indrelid)
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = %s::regclass AND i.indisprimary = %s"""
    rows = database.execute(sql, (f"allocator.{table}", primary)).fetchall()
    return {Index(name, unique, without_study(tuple(key)), words(text)) for name, unique, key, text in rows}


def database_foreign_keys(database: psycopg.Connection[Any], table: str) -> set[Key]:
    """Those beyond the one to the row of the study."""
    names = """array(SELECT a.attname FROM unnest({keys}) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = {table} AND a.attnum = k.attnum ORDER BY k.place)::text[]"""
    sql = f"""SELECT {names.format(keys="conkey", table="conrelid")}, confrelid::regclass::text,
        {names.format(keys="confkey", table="confrelid")} FROM pg_constraint
        WHERE conrelid = %s::regclass AND contype = 'f'"""
    rows = database.execute(sql.encode(), (f"allocator.{table}",)).fetchall()
    keys = {Key(without_study(tuple(own)), table, without_study(tuple(to))) for own, table, to in rows}
    return {key._replace(table=key.table.removeprefix("allocator.")) for key in keys if key.columns}


# ---- one design -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_the_same_in_the_same_order(
    file: sqlite3.Connection, database: psycopg.Connection[Any], table: str
) -> None:
    assert database_columns(database, table) == [Column("study", "text", True), *file_columns(file, table)]


@pytest.mark.parametrize("table", TABLES)
def test_keys_are_the_same_with_the_study_in_front(
    file: sqlite3.Connection, database: psycopg.Connection[Any], table: str
) -> None:
    (primary,) = database_indexes(database, table, primary=True)
    assert primary.key == file_key(file, table)
    ours = file_foreign_keys(file, table)
    assert database_foreign_keys(database, table) == ours and len(ours) == (table == "detail")


@pytest.mark.parametrize("table", TABLES)
def test_indexes_are_the_same_with_the_study_in_front(
    file: sqlite3.Connection, database: psycopg.Connection[Any], table: str
) -> None:
    ours = file_indexes(file, table)
    assert database_indexes(database, table, primary=False) == ours and len(ours) == (4 if table == "record" else 0)


def test_there_are_no_other_tables(file: sqlite3.Connection, database: psycopg.Connection[Any]) -> None:
    ours = {name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    found = {name for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'allocator'")}
    assert ours == set(TABLES) and found == ours | {"study", "version"}


def test_key_columns_are_compared_byte_by_byte_in_both(
    file: sqlite3.Connection, database: psycopg.Connection[Any]
) -> None:
    sql = """SELECT attname, collname FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND attnum = ANY (indkey)
        JOIN pg_collation AS c ON c.oid = attcollation WHERE attrelid = ANY (%s::regclass[])"""
    found = set(database.execute(sql, ([f"allocator.{table}" for table in TABLES],)).fetchall())
    assert {name for name, _ in found} == {"study", "kind", "participant", "stratum", "field"}
    assert {collation for _, collation in found} == {"C"}
    for table in TABLES:
        for _, name, *_ in file.execute(f"PRAGMA index_list({table})").fetchall():
            rows = file.execute(f"PRAGMA index_xinfo({name})").fetchall()
            assert {row[4] for row in rows} == {"BINARY"}


def test_guards_name_the_same_kinds(file: sqlite3.Connection, database: psycopg.Connection[Any]) -> None:
    guard = "one_allocation_a_participant"
    (ours,) = file.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (guard,)).fetchone()
    sql = """SELECT pg_get_triggerdef(t.oid) || p.prosrc FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = tgfoid
        WHERE tgname = %s"""
    ((theirs,),) = database.execute(sql, (guard,)).fetchall()
    kinds = [set(re.findall(r"'([a-z-]+)'", text)) for text in (ours, theirs)]
    assert kinds[0] == kinds[1] and kinds[0] <= set(KINDS)


# ---- and one behaviour ----------------------------------------------------------------------------------------------

Row = tuple[int, str, str | None, str | None, int | None]  # by how much seq is off, then the guard columns
ROWS = st.tuples(
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
    st.sampled_from(["allocated", "late", "receipt-entered", "reassigned", "reassignment-proposed", "paused"]),
    st.sampled_from([None, "P-001", "P-002", "p-001"]),
    st.sampled_from([None, "{}", '{"site":"1"}']),
    st.sampled_from([None, 0, 1]),
)


def taken(connection: Any, sql: str, values: tuple[Any, ...], refusals: tuple[type[Exception], ...]) -> bool:
    """Whether the database takes this row."""
    try:
        connection.execute(sql, values)
    except refusals:
        return False
    return True


@pytest.mark.requirement("A01")
@pytest.mark.requirement("L02")
def test_both_take_and_refuse_the_same_rows(postgres: Server) -> None:
    into = "INSERT INTO {} (seq, prev, body, kind, participant, stratum, position{}) VALUES ({})"
    here, there = (
        into.format("record", "", "?, ?, ?, ?, ?, ?, ?"),
        into.format("allocator.record", ", study", "%s, %s, %s, %s, %s, %s, %s, %s"),
    )
    seen: set[bool] = set()

    @settings(max_examples=40)
    @given(st.lists(ROWS, min_size=1, max_size=12))
    def compare(rows: list[Row]) -> None:
        study = uuid.uuid4().hex
        create_log(postgres.writer, study)
        with (
            closing(sqlite3.connect(":memory:", isolation_level=None)) as file,
            psycopg.connect(postgres.writer, autocommit=True) as database,
        ):
            file.executescript(sqlite_store.schema_text())
            seq, prev = 0, GENESIS
            for off, *columns in rows:
                values = (seq + off, prev, "{}", *columns)
                answers = (
                    taken(file, here, values, (sqlite3.IntegrityError,)),
                    taken(database, there, (*values, study), (psycopg.IntegrityError,)),
                )
                assert answers[0] == answers[1], values
                seen.add(answers[0])
                if answers[0]:
                    seq, prev = seq + 1, sha256(b"\x00" + prev + b"{}").digest()

    compare()
    assert seen == {True, False}


DETAILS = [  # by how much seq is off, field, salt, value; whether it is taken
    (0, "reason", bytes(32), "x", True),
    (0, "reason", bytes(32), "y", False),
    (0, "more", bytes(31), "x", False),
    (0, "more", None, "x", False),
    (0, "more", bytes(32), None, False),
    (-1, "more", bytes(32), "x", False),
    (1, "more", bytes(32), "x", False),
    (0, "more", bytes(32), "x", True),
]


@pytest.mark.requirement("L02")
def test_both_take_and_refuse_the_same_details(postgres: Server, file: sqlite3.Connection) -> None:
    study = uuid.uuid4().hex
    create_log(postgres.writer, study)
    record = "INSERT INTO {} (seq, prev, body, kind{}) VALUES ({})"
    with psycopg.connect(postgres.writer, autocommit=True) as database:
        prev = GENESIS
        for seq in range(2):
            file.execute(record.format("record", "", "?, ?, '{}', 'paused'"), (seq, prev))
            sql = record.format("allocator.record", ", study", "%s, %s, '{}', 'paused', %s")
            database.execute(sql.encode(), (seq, prev, study))
            prev = sha256(b"\x00" + prev + b"{}").digest()
        for off, *rest, expected in DETAILS:
            here = taken(file, "INSERT INTO detail VALUES (?, ?, ?, ?)", (1 + off, *rest), (sqlite3.IntegrityError,))
            sql = "INSERT INTO allocator.detail VALUES (%s, %s, %s, %s, %s)"
            there = taken(database, sql, (study, 1 + off, *rest), (psycopg.IntegrityError,))
            assert here == there == expected, rest


# ---- what fits ------------------------------------------------------------------------------------------------------


def longest_stratum() -> dict[str, str]:
    """A stratum as long as a study can have: MAX_STRATA by factors of two levels, each name and level of 40 letters.

    Hexadecimal digests, since an index stores what repeats itself in less room.
    """
    names = [sha256(bytes([index])).hexdigest()[:40] for index in range(int(log2(MAX_STRATA)))]
    factors = [Factor(name=name, levels=(name[::-1], "b")) for name in names]
    return {factor.name: factor.levels[0] for factor in factors}


def test_the_longest_stratum_fits_the_index_of_a_database(postgres: Server) -> None:
    stratum = longest_stratum()
    assert len(stratum) == 13 and len(stratum_label(stratum)) == 1119  # PostgreSQL's index takes some 2,600
    with pytest.raises(StudyError):
        Factor(name="n" * 41, levels=("a", "b"))
    study = sha256(uuid.uuid4().bytes).hexdigest()[:40]
    create_log(postgres.writer, study)
    with PostgresStore(postgres.writer, study) as store:
        written = append(store, "allocated", participant="P" * 40, stratum=stratum)
        assert store.newest(("allocated",), stratum=stratum_label(stratum), position=0) == written

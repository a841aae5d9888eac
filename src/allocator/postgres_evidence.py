"""Read a log in PostgreSQL for verification: one snapshot, read-only, the schema held to what it should be.

The expected catalog is a file (postgres_catalog.txt), since a reader may make no table to compare with. What the
database says of itself is a guard; the chain and a head from outside are the security (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from allocator.chain import Chain, follow_links
from allocator.errors import EvidenceError, StorageError
from allocator.home import StudyPlace
from allocator.known_servers import KnownServers
from allocator.log import Detail
from allocator.postgres_connection import Bounded, connect, said_by, translated
from allocator.text import shown
from allocator.verdict import Finding, LogRead, Row

BUSY_SECONDS = 10.0
PAGE = 2_000
_OF = "WHERE study = %s ORDER BY seq"
# One line of text for each thing in the schema: what is there, how it is made, whose it is, who may do more than read.
_CATALOG = """
WITH own AS (SELECT * FROM pg_class WHERE relnamespace = 'allocator'::regnamespace)
SELECT format('relation %s kind %s persistence %s row security %s owner %s', relname, relkind, relpersistence,
    relrowsecurity, relowner::regrole) FROM own
UNION ALL SELECT format('schema owner %s', nspowner::regrole) FROM pg_namespace WHERE nspname = 'allocator'
UNION ALL SELECT format('right on schema: %s %s', grantee::regrole, privilege_type)
    FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'allocator' AND grantee <> nspowner
UNION ALL SELECT format('column %s.%s %s not null %s collation %s default %s', relname, attname,
    format_type(atttypid, atttypmod), attnotnull, coalesce(collname, '-'), coalesce(pg_get_expr(adbin, adrelid), '-'))
    FROM own JOIN pg_attribute AS a ON attrelid = own.oid LEFT JOIN pg_collation AS c ON c.oid = attcollation
    LEFT JOIN pg_attrdef ON adrelid = own.oid AND adnum = attnum
    WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT format('constraint %s on %s %s valid %s', conname, relname, pg_get_constraintdef(k.oid), convalidated)
    FROM own JOIN pg_constraint AS k ON conrelid = own.oid WHERE contype <> 'n'
UNION ALL SELECT format('index %s valid %s', pg_get_indexdef(indexrelid), indisvalid)
    FROM own JOIN pg_index ON indrelid = own.oid
UNION ALL SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), tgenabled)
    FROM own JOIN pg_trigger AS t ON tgrelid = own.oid WHERE NOT tgisinternal
UNION ALL SELECT format('triggers of foreign keys on %s: %s, enabled %s', relname, count(*), tgenabled)
    FROM own JOIN pg_trigger ON tgrelid = own.oid WHERE tgisinternal GROUP BY relname, tgenabled
UNION ALL SELECT format('rule %s on %s', rulename, relname) FROM own JOIN pg_rewrite ON ev_class = own.oid
UNION ALL SELECT format('function %s owner %s definer %s settings %s: %s', p.oid::regprocedure, proowner::regrole,
    prosecdef, proconfig, regexp_replace(prosrc, '\\s+', ' ', 'g'))
    FROM pg_proc AS p WHERE pronamespace = 'allocator'::regnamespace
UNION ALL SELECT format('right on %s: %s %s', relname, grantee::regrole, privilege_type)
    FROM own, aclexplode(relacl) WHERE grantee <> relowner AND privilege_type <> 'SELECT'
UNION ALL SELECT format('right on %s.%s: %s %s', relname, attname, grantee::regrole, privilege_type)
    FROM own JOIN pg_attribute ON attrelid = own.oid, aclexplode(attacl)
    WHERE grantee <> relowner AND privilege_type <> 'SELECT'
UNION ALL SELECT format('acts as the owner: %s', rolname) FROM pg_roles
    WHERE NOT rolsuper AND rolname <> 'allocator_owner' AND pg_has_role(oid, 'allocator_owner',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'USAGE, SET' END)
UNION ALL SELECT format('version %s', version) FROM allocator.version
"""


@contextmanager
def snapshot(address: str) -> Iterator[Bounded]:
    """A read-only connection that sees the database as of now; a standby serves as well.

    Raises:
        InputError, StorageError: the database cannot be read.
    """
    try:
        connection, _ = connect(address, busy_seconds=BUSY_SECONDS)
    except StorageError:  # of several, the one that can be written is the one to read
        connection, _ = connect(address, busy_seconds=BUSY_SECONDS, target_session_attrs="any")
    with closing(connection), translated(address):
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(b"SELECT version FROM allocator.version")  # the first query is what fixes the moment
        yield connection


def read_log(connection: Bounded, address: str, place: StudyPlace, first: bytes) -> LogRead:
    """The log of a study in a snapshot; its rows are read later.

    Args:
        connection: of `snapshot`.
        address: of the database.
        place: of the study.
        first: hash of record 0, as the home states it.
    """
    study = place.study
    findings = [*_server_findings(connection, place), *catalog_findings(connection)]
    links = ((seq, prev, body.encode()) for seq, prev, body in scan(connection, "seq, prev, body", "record", study))
    chain = follow_links(links)
    count = connection.execute(b"SELECT count(*) FROM allocator.record WHERE study = %s", (study,)).fetchone()
    findings += _row_findings(connection, study, chain, first)
    return LogRead(
        rows=_rows(connection, address, study),
        row_count=int(count[0]) if count else 0,
        chain=chain,
        findings=tuple(findings),
    )


def _server_findings(connection: Bounded, place: StudyPlace) -> list[Finding]:
    """Check 21, of the server: it is no old primary. A reader who may not look into keys/ knows of none."""
    try:
        KnownServers(place.keys).check(connection.server)
    except EvidenceError as error:
        return [Finding.of("21 local head", error)]
    except StorageError as error:
        if not isinstance(error.__cause__, PermissionError):
            return [Finding(check="21 local head", message=error.message)]
    return []


def expected_catalog() -> list[str]:
    """The lines that the catalog of the schema gives, sorted."""
    return Path(__file__).with_name("postgres_catalog.txt").read_text(encoding="utf-8").splitlines()


def found_catalog(connection: Bounded) -> list[str]:
    """The same of a database."""
    return sorted(line for (line,) in connection.execute(_CATALOG.encode()))


def catalog_findings(connection: Bounded) -> list[Finding]:
    """Check 03: each line of the catalog that is missing, and each that does not belong there."""
    expected, found = set(expected_catalog()), set(found_catalog(connection))
    missing = [Finding(check="03 schema", message="is missing", expected=line) for line in sorted(expected - found)]
    said = "does not belong there"
    return missing + [Finding(check="03 schema", message=said, found=shown(line)) for line in sorted(found - expected)]


def _row_findings(connection: Bounded, study: str, chain: Chain, first: bytes) -> list[Finding]:
    """Checks 05 and 20, and that the log begins as the home states."""
    findings = []
    if chain.after_gap is not None:
        said = f"record {chain.rows} is missing"
        findings.append(
            Finding(check="05 rows", message=said, expected=chain.rows, found=chain.after_gap, seq=chain.rows)
        )
    elif not chain.rows:
        findings.append(Finding(check="05 rows", message="the log holds no record"))
    sql = b"""SELECT DISTINCT seq FROM allocator.detail AS d WHERE study = %s AND NOT EXISTS
        (SELECT FROM allocator.record AS r WHERE r.study = d.study AND r.seq = d.seq) LIMIT 100"""
    for (seq,) in connection.execute(sql, (study,)):
        findings.append(Finding(check="20 details", message="a private detail without its record", seq=seq))
    sql = b"SELECT sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8')) FROM allocator.record"
    row = connection.execute(sql + b" WHERE study = %s AND seq = 0", (study,)).fetchone()
    if row is not None and row[0] != first:
        said = "the database holds another log than the one of this home"
        findings.append(Finding(check="01 files", message=said, expected=first.hex(), found=row[0].hex(), seq=0))
    return findings


def scan(connection: Bounded, columns: str, table: str, study: str) -> Iterator[tuple[Any, ...]]:
    """Rows in order, page by page from a cursor of the server."""
    with connection.cursor(name=f"{table}_{columns.partition(',')[0]}_{len(columns)}") as cursor:
        cursor.itersize = PAGE
        cursor.execute(f"SELECT {columns} FROM allocator.{table} {_OF}".encode(), (study,))
        yield from cursor


def _rows(connection: Bounded, address: str, study: str) -> Iterator[Row]:
    """Rows with their details, by one pass over each table; where reading ends early, the last row says so."""
    place = -1
    try:
        details = scan(connection, "seq, field, salt, value", "detail", study)
        following = next(details, None)
        columns = "seq, prev, body, kind, participant, stratum, position"
        for seq, prev, body, *guards in scan(connection, columns, "record", study):
            own: dict[str, Detail] = {}
            while following is not None and following[0] <= seq:
                if following[0] == seq:
                    own[following[1]] = Detail(salt=following[2], value=following[3])
                following = next(details, None)
            place = seq
            columns_of = (guards[0], guards[1], guards[2], guards[3])
            yield Row(rowid=seq, seq=seq, prev=prev, body=body.encode(), columns=columns_of, details=own)
    except psycopg.Error as error:
        said = f"the record or its private details cannot be read: {shown(said_by(address, error))}"
        nothing = (None, None, None, None)
        yield Row(rowid=place + 1, seq=None, prev=None, body=None, columns=nothing, details={}, fault=said)

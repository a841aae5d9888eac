"""Qualify a database for logs: what `self-test` asks of the one in ALLOCATOR_STORE (docs/postgres.md).

Nothing is left behind in it: the one thing written is rolled back.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from ipaddress import ip_address

import psycopg

from allocator.allocation import CLOCK_TOLERANCE
from allocator.log import GENESIS
from allocator.postgres_connection import Bounded, connect, refuse_standby
from allocator.postgres_evidence import catalog_findings
from allocator.qualification import Check, Checks, carried_out, registry, require
from allocator.session import system_clock

OLDEST = 15  # first version that is tested
BUSY_SECONDS = 10.0
CHECKS: Checks = []
_check = registry(CHECKS)
_DURABLE = b"""SELECT current_setting('fsync'), current_setting('full_page_writes'),
current_setting('synchronous_commit'), current_setting('synchronous_standby_names')"""
_NEEDED = b"""SELECT 'insert records', has_table_privilege('allocator.record', 'INSERT')
UNION ALL SELECT 'insert private details', has_table_privilege('allocator.detail', 'INSERT')
UNION ALL SELECT 'insert studies', has_column_privilege('allocator.study', 'study', 'INSERT')
UNION ALL SELECT 'wait in line', has_column_privilege('allocator.study', 'turn', 'UPDATE')"""
# whoever owns a thing, or may become its owner, may do anything with it; a superuser always
_TOO_MUCH = b"""SELECT 'be a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL SELECT format('become %s', rolname) FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') AND (
    oid IN (SELECT relowner FROM pg_class WHERE relnamespace = 'allocator'::regnamespace)
    OR oid IN (SELECT nspowner FROM pg_namespace WHERE nspname = 'allocator'))
UNION ALL SELECT 'make things in the schema' WHERE has_schema_privilege('allocator', 'CREATE')
UNION ALL SELECT format('%s on %s', wanted, relname)
    FROM pg_class, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS wanted
    WHERE relnamespace = 'allocator'::regnamespace AND relkind = 'r' AND has_table_privilege(pg_class.oid, wanted)
UNION ALL SELECT format('UPDATE of %s.%s', relname, attname)
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = 'allocator'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    AND has_column_privilege(pg_class.oid, attnum, 'UPDATE') AND (relname, attname) <> ('study', 'turn')"""
_RECORD = b"INSERT INTO allocator.record (study, seq, prev, body, kind) VALUES (%s, %s, %s, '{}', 'study-opened')"


class Database:
    """The database of an address, as its user finds it.

    Attributes:
        words: which one it is, once reached; never with a password.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.words = "not reached"
        self._connection: Bounded | None = None

    def run(self) -> list[Check]:
        """Every check in order."""
        try:
            return carried_out(CHECKS, self)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _asked(self) -> Bounded:
        require(self._connection is not None, "there is no connection to ask")
        assert self._connection is not None
        return self._connection

    def _row(self, sql: bytes) -> tuple[str, ...]:
        return tuple(str(value) for value in self._asked().execute(sql).fetchone() or ())

    @_check("A04")
    def _database_reached(self) -> str:
        """The database of ALLOCATOR_STORE answers, can be written, and is PostgreSQL 15 or later."""
        self._connection, server = connect(self._address, busy_seconds=BUSY_SECONDS)
        refuse_standby(server)
        info, version = self._connection.info, self._connection.info.server_version
        self.words = f"{info.dbname} at {server.where}, as {info.user}"
        require(version // 10_000 >= OLDEST, f"it is PostgreSQL {version // 10_000}")
        return f"PostgreSQL {version // 10_000}.{version % 10_000}: {self.words}"

    @_check("A04")
    def _database_durable(self) -> str:
        """What the database commits survives a power cut: fsync and full_page_writes are on, no commit goes ahead."""
        fsync, whole_pages, commit, _ = self._row(_DURABLE)
        require((fsync, whole_pages) == ("on", "on"), f"fsync {fsync}, full_page_writes {whole_pages}")
        require(commit != "off", "synchronous_commit is off")
        return f"fsync on, full_page_writes on, synchronous_commit {commit}"

    @_check("A04")
    def _database_standbys(self) -> str:
        """Whether a commit waits for a standby is told; without, a failover may lose what was shown."""
        *_, commit, standbys = self._row(_DURABLE)
        if not standbys or commit == "local":
            return "no commit waits for a standby: after a failover, the heads kept outside tell what is missing"
        return f"each commit waits ({commit}) for {standbys}"

    @_check("L02", "L04")
    def _database_schema(self) -> str:
        """Encoding, tables, triggers, owners and rights are those of postgres.sql, and nothing is beside them."""
        (encoding,) = self._row(b"SELECT current_setting('server_encoding')")
        require(encoding == "UTF8", f"the encoding is {encoding}")
        findings = catalog_findings(self._asked())
        first = [f"{finding.expected or finding.found} {finding.message}" for finding in findings[:2]]
        require(not findings, f"{len(findings)} differences: {'; '.join(first)}")
        return "UTF8, and every line of the catalog"

    @_check("L02", "L04")
    def _database_rights(self) -> str:
        """This user may insert records, and neither change nor remove one, nor what guards them."""
        lacking = [what for what, may in self._asked().execute(_NEEDED) if not may]
        require(not lacking, f"this user may not {', '.join(lacking)}")
        too_much = [what for (what,) in self._asked().execute(_TOO_MUCH)]
        require(not too_much, f"this user may {', '.join(too_much[:4])}")
        return "insert, and nothing else"

    @_check("L02")
    def _database_guards(self) -> str:
        """A record is inserted, one out of order is refused, and all of it is rolled back."""
        connection, study = self._asked(), f"self-test-{uuid.uuid4()}"
        with connection.transaction(force_rollback=True):
            connection.execute(b"INSERT INTO allocator.study (study) VALUES (%s)", (study,))
            connection.execute(_RECORD, (study, 0, GENESIS))
            try:
                with connection.transaction():
                    connection.execute(_RECORD, (study, 2, GENESIS))
            except psycopg.errors.IntegrityError as error:
                said = error.diag.message_primary or ""
            else:
                raise AssertionError("a record out of order was taken")
        left = connection.execute(b"SELECT FROM allocator.study WHERE study = %s", (study,)).fetchall()
        require(not left, "something was left behind")
        return said

    @_check("S04")
    def _database_connection(self) -> str:
        """What is said to the database is encrypted, or does not leave this machine."""
        connection = self._asked()
        mode = connection.info.get_parameters().get("sslmode", "prefer")
        if connection.pgconn.ssl_in_use:
            version, cipher = self._row(b"SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return f"{version} with {cipher}, sslmode={mode}"
        local = is_local(connection.info.host, connection.info.hostaddr)
        require(local, "it is neither encrypted nor local")
        return "not encrypted; it does not leave this machine"

    @_check("L05")
    def _database_clock(self) -> str:
        """The clock of the database agrees with this machine's, by which records are dated."""
        before = system_clock()
        row = self._asked().execute(b"SELECT clock_timestamp()").fetchone()
        after = system_clock()
        assert row is not None
        ahead = row[0] - (before + (after - before) / 2)
        seconds = ahead / timedelta(seconds=1)
        require(abs(ahead) <= CLOCK_TOLERANCE + (after - before), f"{seconds:+.1f} s: one of the two clocks is wrong")
        return f"{seconds:+.2f} s"


def is_local(host: str, address: str) -> bool:
    """Whether libpq reached the server by a socket file or by loopback."""
    if host.startswith(("/", "@")) or not (host or address):
        return True
    try:
        return ip_address(address or host).is_loopback
    except ValueError:
        return host == "localhost"

"""A connection to PostgreSQL as the log needs it: durable, bounded in time, its errors said in our words.

Passwords, TLS and the rest follow libpq's own conventions (postgresql.org/docs, "libpq"): the address goes to it as
given. Nothing that libpq says of a malformed address is passed on, since it quotes it, password and all.

psycopg is imported here at once: who imports this module needs it, and only `stores` does, when it is chosen.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from allocator.errors import AllocatorError, EvidenceError, InputError, StorageError
from allocator.postgres_address import next_step, refuse_open, secured

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it would say of a lost connection, we say
SCHEMA_VERSION = 1  # allocator.version in postgres.sql
ANSWER_SECONDS = 40.0  # the client's own limit: a server that says nothing is as good as gone
TURN_SECONDS = 5.0  # the same for one's turn, beyond the wait for others
COMMIT_SECONDS = 15.0  # the same for a commit, which may wait for a standby without end
IDLE_SECONDS = 120  # an open transaction whose client fell silent ends, so that the next writer can go on
STATEMENT_SECONDS = 30  # beyond the wait for others
_DEFAULTS = {"connect_timeout": "5", "tcp_user_timeout": "20000", "target_session_attrs": "read-write"}
_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT", "target_session_attrs": "PGTARGETSESSIONATTRS"}
_SETTINGS = b"""SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),
set_config('idle_in_transaction_session_timeout', %s, false), set_config('search_path', 'pg_catalog', false),
set_config('default_transaction_isolation', 'read committed', false),
set_config('default_transaction_read_only', 'off', false),
set_config('client_min_messages', 'warning', false), set_config('client_connection_check_interval', '2s', false),
CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
current_setting('fsync'), current_setting('full_page_writes'), current_setting('server_encoding'),
pg_postmaster_start_time()::text, (SELECT system_identifier::text FROM pg_control_system()),
CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END"""
BUSY_STATES = {
    *("40001", "40P01", "55P03", "57014"),  # serialization, deadlock, lock not available, cancelled
    *("53300", "57P03"),  # too many connections, cannot connect now
}
AGAIN_STATES = {"40001", "40P01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answered. Two are equal when it is the same one since the same start.

    Attributes:
        started: when it was started, as it says.
        system: its system identifier, which a standby shares with its primary.
        timeline: the one that it writes on, one more at each promotion; None for a standby.
        where: host and port, as connected.
    """

    started: str
    system: str
    timeline: int | None
    where: str = field(compare=False)


class Bounded(psycopg.Connection[tuple[Any, ...]]):
    """Waits for each answer a bounded time; statement_timeout does not bound the wait for a standby."""

    answer_seconds = ANSWER_SECONDS
    server: Server
    prepared: set[bytes]  # names of statements, for `postgres_batch`

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's, but for the bound."""
        return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)


def connect(url: str, *, busy_seconds: float, **given: str) -> tuple[Bounded, Server]:
    """Connect and set the limits; returns the connection and its server.

    Raises:
        InputError: no address that libpq understands, or one that lets anybody answer; no schema there.
        StorageError: no connection, or a server that does not make commits durable.
    """
    with translated(url):
        connection = Bounded.connect(make_conninfo("", **address_parts(url, **given)), autocommit=True)
    try:
        with translated(url):
            server = set_up(connection, busy_seconds)
    except BaseException:
        connection.close()
        raise
    connection.server = server
    return connection, server


def address_parts(url: str, **given: str) -> dict[str, Any]:
    """What libpq is told: an address, what is `given` instead, and what must be so. InputError when it is none."""
    return {**secured(parsed(url)), **given, "client_encoding": "UTF8", "application_name": "allocator"}


def refuse_forgetful(fsync: str, whole_pages: str) -> None:
    """StorageError when fsync or full_page_writes is off."""
    if (fsync, whole_pages) != ("on", "on"):
        raise StorageError(
            "not-durable",
            "the database runs with fsync or full_page_writes off: what it commits can be lost",
            "Nothing was written. Its administrator turns both on.",
        )


def refuse_standby(server: Server) -> None:
    """StorageError for a standby: it may lag behind, and what it has not heard of is not to be told as not done."""
    if server.timeline is None:
        raise StorageError(
            "standby",
            f"the database server {server.where} is a standby: it cannot be written, and may lag behind",
            "Nothing was written. Put target_session_attrs=read-write into ALLOCATOR_STORE, or promote it.",
        )


def parsed(url: str) -> dict[str, Any]:
    """The parameters in an address, and ours where it is silent. InputError when it is none."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise _no_address()
    try:
        given = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeError):
        raise _no_address() from None  # its message quotes the address
    ours = {name: value for name, value in _DEFAULTS.items() if _ENVIRONMENT.get(name, "") not in os.environ}
    return {**ours, **given}


def _no_address() -> InputError:
    return InputError(
        "store-address",
        "ALLOCATOR_STORE is no address of a PostgreSQL database",
        "Write postgresql://USER@HOST/DATABASE; a password belongs into ~/.pgpass (docs/postgres.md).",
    )


def set_up(connection: Bounded, busy_seconds: float) -> Server:
    """Limits of this connection; StorageError unless what is committed here is durable and whole."""
    connection.prepared = set()
    refuse_open(connection.info.get_parameters())
    busy = int(busy_seconds * 1000)
    limits = (f"{busy}ms", f"{busy + STATEMENT_SECONDS * 1000}ms", f"{IDLE_SECONDS}s")
    row = connection.execute(_SETTINGS, limits).fetchone() or ()
    fsync, whole_pages, encoding, started, system, segment = row[9:]
    refuse_forgetful(fsync, whole_pages)
    if encoding != "UTF8":
        raise InputError("encoding", f"the database's encoding is {encoding}", "Make one with encoding UTF8.")
    try:
        row = connection.execute(b"SELECT max(version) FROM allocator.version").fetchone() or (None,)
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege) as error:
        raise InputError(
            "no-schema",
            "the database has no schema `allocator` that this user may read",
            "Its administrator sets it up once: docs/postgres.md.",
        ) from error
    if row[0] != SCHEMA_VERSION:
        raise EvidenceError(
            "log-version",
            f"the database has schema version {row[0]}, this program writes version {SCHEMA_VERSION}",
            "Use the program that it was made for. Nothing was written.",
        )
    timeline = int(segment[:8], 16) if segment else None  # the name of a WAL file begins with it
    where = f"{connection.info.host}:{connection.info.port}"
    return Server(started=started, system=system, timeline=timeline, where=where)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """psycopg's errors as ours; the cause is not chained, since it may quote what is secret."""
    try:
        yield
    except psycopg.Error as error:
        raise as_ours(url, error) from None


def as_ours(url: str, error: psycopg.Error) -> AllocatorError:
    """What an error of the database means for who asked; never with a password in it."""
    state, said = error.sqlstate or "", said_by(url, error)
    if isinstance(error, errors.IntegrityError):
        return EvidenceError("append-only", f"the database refused the record: {said}", _CHECK)
    if state in BUSY_STATES:
        return StorageError("busy", "the log is busy: somebody else is writing", "Nothing was written. Ask again.")
    if state.startswith("53"):
        return StorageError(
            "disk-full", f"the database is out of room: {said}", "Nothing was written. Ask again later."
        )
    if state == "42501":
        return StorageError(
            "read-only", f"this user of the database may not: {said}", "Nothing was written. Ask its administrator."
        )
    if state == "25006":
        return StorageError("read-only", "the database can only be read", "Nothing was written. Is it a standby?")
    if state.startswith("42"):
        return EvidenceError("log-schema", f"the database is not as made: {said}", "Run `allocator verify`.")
    return StorageError("unavailable", f"the database: {said}", next_step(said))


_CHECK = "Nothing was written. Run `allocator verify`."


def said_by(url: str, error: psycopg.Error) -> str:
    """The first line of what was said, without the password of the address."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    said = " ".join(text.split("\n")[0].split())
    password = str(parsed(url).get("password") or "")
    return said.replace(password, "…") if password else said


def unknown(said: str) -> StorageError:
    """The one answer to a commit of which nobody can tell."""
    return StorageError(
        "unknown",
        f"it is not known whether this was recorded: {said}",
        "Ask again: the same request is safe. What was recorded is shown again, what was not is done then.",
    )

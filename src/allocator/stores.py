"""Where a study's log lies: in its home, or in PostgreSQL when ALLOCATOR_STORE gives an address (docs/postgres.md).

All else of a study stays in its home: keys, sealed schedule, receipts, local head. A home whose log lies in PostgreSQL
says so in schedules/<study>/log.postgresql, with the hash of record 0. So a study is never opened in the wrong one of
the two, nor in a database that holds another log of the same name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from allocator.canonical import CanonicalError, canonical_bytes, parse_strict
from allocator.errors import EvidenceError, InputError, StorageError
from allocator.home import StudyPlace, sync_folder, write_durably
from allocator.known_servers import KnownServers
from allocator.log import Detail, Record
from allocator.sqlite_store import SqliteStore, create_log
from allocator.store import OpenStore, Store

if TYPE_CHECKING:
    from allocator.postgres_store import PostgresStore

VARIABLE = "ALLOCATOR_STORE"


_FILES_ONLY = ContextVar("files_only", default=False)


def address_given() -> str | None:
    """The address in ALLOCATOR_STORE, None without one."""
    return None if _FILES_ONLY.get() else os.environ.get(VARIABLE) or None


@contextmanager
def files_only() -> Iterator[None]:
    """Inside, ALLOCATOR_STORE counts as not set: for a copy, or a drill, whose log is a file of its own."""
    token = _FILES_ONLY.set(True)
    try:
        yield
    finally:
        _FILES_ONLY.reset(token)


def state_place(place: StudyPlace, first: bytes) -> None:
    """Say in the home that its log lies in PostgreSQL, and begins with the record of this hash."""
    write_durably(place.postgres_file, canonical_bytes({"first_record": first.hex()}))


def address_of(place: StudyPlace) -> str | None:
    """The address of the database with this study's log; None where the log is a file in the home.

    Raises:
        InputError: the log is in the one, and ALLOCATOR_STORE says the other; or both are there.
    """
    address, in_postgres = address_given(), os.path.lexists(place.postgres_file)
    if in_postgres and os.path.lexists(place.log_file):
        raise two_logs(place)
    if in_postgres and address is None:
        raise InputError(
            "no-store",
            f"the log of {place.study} is in PostgreSQL",
            f"Give its address in {VARIABLE}; ask the sponsor for it.",
        )
    if address is not None and not in_postgres:
        raise InputError(
            "other-store",
            f"{VARIABLE} is set, but the log of {place.study} is a file in this home",
            f"Unset {VARIABLE} for this study; or the sponsor moves its log there: allocator move ADDRESS.",
        )
    return address


def two_logs(place: StudyPlace) -> InputError:
    """The home names both places."""
    return InputError(
        "two-logs",
        f"schedules/{place.study}/ holds a log, and says that the log is in PostgreSQL",
        "Nothing was done. If a move was cut off, the sponsor gives the same command again. If not, find out which one "
        "is the study's, and put the other file away.",
    )


def open_log(place: StudyPlace) -> OpenStore:
    """The log of a study that was opened.

    Raises:
        InputError: as `address_of`; no address, no schema there.
        EvidenceError: the database holds another log of this study.
        StorageError: it cannot be reached or read.
    """
    address = address_of(place)
    if address is None:
        return SqliteStore(place.log_file)
    store = _postgres(address, place)
    try:
        check_first(place, store.record(0))
    except BaseException:
        store.close()
        raise
    return store


def check_first(place: StudyPlace, record: Record | None) -> None:
    """EvidenceError unless the log in the database begins as this home says."""
    expected, found = first_record(place), record.hash if record else None
    if found != expected:
        raise EvidenceError(
            "other-log",
            f"the log of {place.study} in this database does not begin as the one of this home",
            f"Is {VARIABLE} the right address? Nothing was done.",
            {"expected": expected.hex(), "found": found.hex() if found else None},
        )


def first_record(place: StudyPlace) -> bytes:
    """Hash of record 0, as the home states it."""
    try:
        return bytes.fromhex(parse_strict(place.postgres_file.read_bytes(), limit=4096)["first_record"])
    except OSError as error:
        said = f"{place.postgres_file.name} cannot be read: {error.strerror}"
        raise StorageError("unavailable", said, "Nothing was written. Check the permissions.") from error
    except (CanonicalError, KeyError, TypeError, ValueError) as error:
        said = f"{place.postgres_file.name} is not as it was made"
        raise EvidenceError("store-file", said, "Put the original file back. Nothing was done.") from error


def check_unopened(place: StudyPlace) -> None:
    """InputError when this study has a log already, here or in the database."""
    address, opened = address_given(), os.path.lexists(place.log_file)
    if not opened and address is not None:
        _create(address, place.study)
        with _postgres(address, place) as store:
            first = store.record(0)
        if first is not None and not os.path.lexists(place.postgres_file):
            raise InputError(
                "study-taken", f"the database holds a log of {place.study} already", "Nothing was changed."
            )
        opened = first is not None
    elif not opened:
        opened = os.path.lexists(place.postgres_file)
    if opened:
        raise InputError("opened-already", f"{place.study} is opened already in this home", "Nothing was changed.")


def make_log(place: StudyPlace, record: Record, details: Mapping[str, Detail], check: Callable[[Store], None]) -> None:
    """Make the log of a study, with record 0 in it: all of it or nothing.

    Args:
        place: after `check_unopened`.
        record: record 0.
        details: its private details.
        check: holds the record to the rules, in the empty store.
    """
    address = address_given()
    if address is not None:
        _create(address, place.study)
        with _postgres(address, place) as postgres:
            check(postgres)
            with postgres.transaction():
                if postgres.last() is not None:
                    said = f"the database holds a log of {place.study} already"
                    raise InputError("study-taken", said, "Somebody opened it at the same moment.")
                postgres.append(record, details)
                # before the commit: after a crash in between, `init` finds no record in the database yet, and goes on
                state_place(place, record.hash)
        return
    unfinished = place.log_file.with_name(place.log_file.name + ".new")
    unfinished.unlink(missing_ok=True)
    create_log(unfinished)
    with SqliteStore(unfinished) as store:
        check(store)
        with store.transaction():
            store.append(record, details)
    unfinished.rename(place.log_file)
    sync_folder(place.schedules)


def _create(address: str, study: str) -> None:
    need_postgres()
    from allocator.postgres_store import create_log as create_room

    create_room(address, study)


def _postgres(address: str, place: StudyPlace) -> PostgresStore:
    need_postgres()
    from allocator.postgres_store import PostgresStore

    return PostgresStore(address, place.study, known=KnownServers(place.keys))


def need_postgres() -> None:
    """InputError where the extra is not installed."""
    try:
        import psycopg  # noqa: F401 (400 ms, for those only who use it)
    except ImportError as error:
        raise InputError(
            "no-postgres", f"PostgreSQL cannot be used: {error}", "Install it: pip install 'allocator[postgres]'"
        ) from error

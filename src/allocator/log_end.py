"""One end of a move: a log as a file in its home, or as rows in a database (docs/postgres.md, "Moving").

A home names the end that it goes on in by one file: log.sqlite3 itself, or log.postgresql. Each step here is durable,
and may be done again.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from allocator.errors import StorageError
from allocator.evidence import read_file
from allocator.home import StudyPlace, sync_folder
from allocator.known_servers import KnownServers
from allocator.log import Detail, Record
from allocator.log_copy import copy_snapshot, this_moment
from allocator.relocation import FILE, POSTGRESQL, lacks_seal
from allocator.sqlite_store import SqliteStore
from allocator.store import OpenStore
from allocator.stores import check_first, need_postgres, state_place
from allocator.verdict import LogRead

if TYPE_CHECKING:
    from allocator.database_copy import Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd(ABC):
    """An end of a move, for who holds the lock of the study."""

    place: StudyPlace

    @property
    @abstractmethod
    def name(self) -> str:
        """As a ``moved`` record names it."""

    @property
    @abstractmethod
    def mark(self) -> Path:
        """The file by which the home says that its log is here."""

    @property
    def is_named(self) -> bool:
        """Whether the home says that its log is here."""
        return os.path.lexists(self.mark)

    @abstractmethod
    def open(self) -> OpenStore:
        """The log here."""

    @abstractmethod
    def read(self, first: bytes) -> AbstractContextManager[LogRead]:
        """The log here as a verifier reads it; `first` is the hash that record 0 must have."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """What tells this end from every other one; no address, which may change."""

    @abstractmethod
    def fill(self, source: LogEnd, first: bytes) -> AbstractContextManager[Filling]:
        """Bring here what the other end has and this one lacks: to be compared, then sealed, or it does not count.

        Raises:
            EvidenceError: another log is here.
        """

    @abstractmethod
    def settle(self, first: bytes) -> None:
        """Let the home name this end."""

    def leave(self, seq: int) -> Path:
        """Let the home name this end no more: its file is put aside, under a name that it returns."""
        aside = self.mark.with_name(f"{self.mark.name}.moved-{seq}")
        with _as_storage(self.mark):
            if self.is_named:
                self.mark.rename(aside)
            sync_folder(aside.parent)
        return aside


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEnd(LogEnd):
    """log.sqlite3; until it is whole, a file beside it."""

    @property
    def name(self) -> str:
        """As a ``moved`` record names it."""
        return FILE

    @property
    def mark(self) -> Path:
        """The log itself."""
        return self.place.log_file

    @property
    def _arriving(self) -> Path:
        return self.mark.with_name(self.mark.name + ".arriving")

    @property
    def _file(self) -> Path:
        return self.mark if self.is_named else self._arriving

    def open(self) -> OpenStore:
        """The file, or the one that is to become it."""
        return SqliteStore(self._file)

    def read(self, first: bytes) -> AbstractContextManager[LogRead]:  # noqa: ARG002 (the rows are compared)
        """From a copy of the file."""
        return read_file(self._file)

    def identity(self) -> dict[str, str]:
        """The home is this one, or it would not have the note."""
        return {"to": FILE}

    @contextmanager
    def fill(self, source: LogEnd, first: bytes) -> Iterator[Filling]:  # noqa: ARG002 (the chain is followed)
        """A new file, from one moment of the database."""
        assert isinstance(source, DatabaseEnd)
        with _as_storage(self._arriving):
            for left in (self._arriving, self._arriving.with_name(self._arriving.name + "-journal")):
                left.unlink(missing_ok=True)
        with source.moment() as connection:
            copy_snapshot(connection, self.place.study, self._arriving)
        with SqliteStore(self._arriving):  # as it will be written; what fails here fails before the sealing
            pass
        yield FileFilling(self._arriving)

    def settle(self, first: bytes) -> None:  # noqa: ARG002
        """The file gets its name."""
        with _as_storage(self.mark):
            if not self.is_named:
                self._arriving.rename(self.mark)
            sync_folder(self.mark.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseEnd(LogEnd):
    """The rows of the study in the database at an address."""

    address: str

    @property
    def name(self) -> str:
        """As a ``moved`` record names it."""
        return POSTGRESQL

    @property
    def mark(self) -> Path:
        """The file that says so."""
        return self.place.postgres_file

    @property
    def _known(self) -> KnownServers:
        return KnownServers(self.place.keys)

    def open(self) -> OpenStore:
        """A store of the rows. EvidenceError: the home says that another log is there."""
        need_postgres()
        from allocator.postgres_store import PostgresStore

        store = PostgresStore(self.address, self.place.study, known=self._known)
        try:
            if self.is_named:
                check_first(self.place, store.record(0))
        except BaseException:
            store.close()
            raise
        return store

    def moment(self) -> AbstractContextManager:  # type: ignore[type-arg]
        """A read-only connection to one moment of it."""
        return this_moment(self.address, self._known)

    @contextmanager
    def read(self, first: bytes) -> Iterator[LogRead]:
        """From one moment of the database."""
        with self.moment() as connection:
            from allocator.postgres_evidence import read_log

            yield read_log(connection, self.address, self.place, first)

    def identity(self) -> dict[str, str]:
        """The cluster's own identifier, and the name of the database in it."""
        with self.moment() as connection:
            return {"to": POSTGRESQL, "system": connection.server.system, "database": connection.info.dbname}

    @contextmanager
    def fill(self, source: LogEnd, first: bytes) -> Iterator[Filling]:
        """The records that are not there yet, in one transaction."""
        need_postgres()
        from allocator.database_copy import copying

        with copying(self.address, self.place.study, self._known) as copy:
            with source.read(first) as log:
                copy.add(log.rows)
            yield DatabaseFilling(self, copy)

    def settle(self, first: bytes) -> None:
        """The home states it."""
        state_place(self.place, first)


class Filling(Protocol):
    """A copy that is there and does not count yet."""

    def read(self, first: bytes) -> AbstractContextManager[LogRead]:
        """It, as a verifier reads it."""

    def seal(self, moved: Record, details: Mapping[str, Detail]) -> None:
        """The record that seals the source comes after the rest, where it is not there yet; durable on return."""


class FileFilling:
    """The file that is to become the log."""

    def __init__(self, arriving: Path) -> None:
        self._arriving = arriving

    def read(self, first: bytes) -> AbstractContextManager[LogRead]:  # noqa: ARG002 (the rows are compared)
        """From a copy of the file."""
        return read_file(self._arriving)

    def seal(self, moved: Record, details: Mapping[str, Detail]) -> None:
        """As any record is appended."""
        with SqliteStore(self._arriving) as store, store.transaction():
            last = store.last()
            if lacks_seal(last.hash if last else None, moved):
                store.append(moved, details)


class DatabaseFilling:
    """The rows of a transaction that is not committed."""

    def __init__(self, end: DatabaseEnd, copy: Copy) -> None:
        self._end, self._copy = end, copy

    @contextmanager
    def read(self, first: bytes) -> Iterator[LogRead]:
        """In the same transaction."""
        from allocator.postgres_evidence import read_log

        yield read_log(self._copy.connection, self._end.address, self._end.place, first)

    def seal(self, moved: Record, details: Mapping[str, Detail]) -> None:
        """And COMMIT."""
        self._copy.seal(moved, details)


@contextmanager
def _as_storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{path.name}: {error.strerror}", "Check the home, then ask again."
        ) from error

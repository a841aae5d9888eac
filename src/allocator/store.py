"""What a store must promise. The back-ends share this contract and its tests (tests/test_stores.py), not code.

1.  **Durable on return.** When `transaction()` is left normally, what was appended in it survives a kill, a crash and a
    power cut. Only then may anything be shown.
2.  **All or nothing.** When it is left by an exception, nothing was appended, with the one exception of 5.
3.  **Serializable.** There is one order of all transactions, and each record links to the one before it: no two
    transactions append after the same record. Reads inside a transaction see everything committed before it began and
    what it appended itself; nobody else appends meanwhile. Reads outside see committed records only, and each read sees
    the log of one moment: always the first n records, never a gap.
4.  **Used at once.** Any number of stores, in any number of processes, may be open on one log; one store belongs to one
    thread. A transaction waits for the one before it, at most a bounded time: then StorageError ``busy``.
5.  **A lost answer.** When the commit itself fails in a way that may have happened, the store finds out by a new
    connection. If the record is not there, nothing was written, and the error says so. If it is there, or nobody can
    tell, the error is StorageError ``unknown``: nothing is shown; the same request, made again, shows what was recorded
    or does what was not. "Nothing was written" is never said of it.
6.  **After an error** the store can be used again, or says that it cannot.
7.  **Append only.** There is no way to change or remove a record or a private detail. What is read is held to its guard
    columns: EvidenceError for a row whose columns are not its body's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import NamedTuple, Protocol

from allocator.canonical import CanonicalError, parse_strict
from allocator.errors import EvidenceError
from allocator.log import MAX_BODY, Detail, Record


class Stored(NamedTuple):
    """One record as stored, with the guard columns beside its body."""

    seq: int
    prev: bytes
    body: bytes
    kind: str
    participant: str | None
    stratum: str | None
    position: int | None


class Store(Protocol):
    """An append-only sequence of records with their private details, as promised above.

    Every method may raise StorageError: nothing was written, and asking again is safe; or ``unknown`` (5).
    """

    def transaction(self, participant: str | None = None) -> AbstractContextManager[None]:
        """One writer at a time (1 to 5). Not entered twice by one store.

        Args:
            participant: whom the act is about; what is known of them may be read along, where that saves a round trip.
        """

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """Compare and append, inside a transaction: the record must link to the last one, or RuntimeError."""

    def last(self) -> Record | None:
        """The newest record, None for an empty log."""

    def record(self, seq: int) -> Record | None:
        """The record at this place, or None."""

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """The newest record of these kinds, for a participant or for a position of a stratum; a cost that does not
        grow with the log."""

    def first_unallocated(self, stratum: str, start: int) -> int:
        """The lowest position from `start` on that no allocation of this stratum holds, in one statement."""

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order from seq `since` on; of these kinds and this participant where given."""

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record from seq `since` on, unparsed: for following the chain."""

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record by name; empty when it has none."""


class OpenStore(Store, Protocol):
    """A store that holds something open: a file, a connection."""

    def close(self) -> None:
        """Let go of it; closing it twice does nothing."""


def parsed(row: Stored) -> Record:
    """What is stored of a record, as a record. EvidenceError as `stored_record`."""
    return stored_record(row.prev, row.body, *row[3:])


@lru_cache(maxsize=256)  # a record never changes, and each act asks for the same few
def stored_record(prev: bytes, body: bytes, *columns: str | int | None) -> Record:
    """A stored row as a record; EvidenceError when the guard columns, by which it was found, are not the body's."""
    try:
        record = Record(prev=prev, body=body, fields=parse_strict(body, limit=MAX_BODY))
        if record.columns == columns:
            return record
        raise CanonicalError("the columns beside a body are not the body's")
    except (CanonicalError, KeyError) as error:
        raise EvidenceError(
            "log-damaged",
            f"a record of the log cannot be read: {error}",
            "Run `allocator verify`; nothing was written.",
        ) from error

"""What a store must promise. Two back-ends share this contract and its tests, not code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from allocator.log import Detail, Record


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
    """An append-only sequence of records with their private details.

    Every method may raise StorageError: nothing was written, asking again is safe.
    """

    def transaction(self) -> AbstractContextManager[None]:
        """One writer at a time. Leaving it normally means: what was appended is durable. Leaving it by an exception
        means: nothing was appended. Reads inside see the newest record of all, and nobody else appends meanwhile."""

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

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order from seq `since` on; of these kinds and this participant where given."""

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record from seq `since` on, unparsed: for following the chain."""

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record by name; empty when it has none."""

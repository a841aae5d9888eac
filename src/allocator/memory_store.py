"""A store in memory: what the verifier replays a log into, and the fastest store for tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from allocator.log import ALLOCATION_KINDS, GENESIS, Detail, Record
from allocator.store import Stored


class MemoryStore:
    """See `allocator.store.Store`. Durable as long as the process; for one thread."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._details: dict[int, dict[str, Detail]] = {}
        self._of_kind: dict[str, list[Record]] = defaultdict(list)
        self._of_participant: dict[str, list[Record]] = defaultdict(list)
        self._newest: dict[tuple[str, object], Record] = {}

    @contextmanager
    def transaction(self, participant: str | None = None) -> Iterator[None]:  # noqa: ARG002 (all is at hand)
        """All or nothing: what was appended before an exception is forgotten."""
        before = len(self._records)
        try:
            yield
        except BaseException:
            self._rebuild(self._records[:before])
            raise

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """Append the record that links to the last one."""
        last = self.last()
        if record.seq != len(self._records) or record.prev != (last.hash if last else GENESIS):
            raise RuntimeError(f"record {record.seq} does not follow the last one")
        self._details[record.seq] = dict(details)
        self._index(record)

    def last(self) -> Record | None:
        """The newest record."""
        return self._records[-1] if self._records else None

    def record(self, seq: int) -> Record | None:
        """The record at this place."""
        return self._records[seq] if 0 <= seq < len(self._records) else None

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """The newest record of these kinds for a participant, a position, or at all."""
        key = participant if position is None else (stratum, position)
        newest = None
        for kind in kinds:
            record = self._newest.get((kind, key))
            if record is not None and (newest is None or record.seq > newest.seq):
                newest = record
        return newest

    def first_unallocated(self, stratum: str, start: int) -> int:
        """One look-up a position."""
        while self.newest(ALLOCATION_KINDS, stratum=stratum, position=start) is not None:
            start += 1
        return start

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order."""
        if participant is not None:
            return iter(
                [r for r in self._of_participant[participant] if r.seq >= since and r.kind in (kinds or [r.kind])]
            )
        if not kinds:
            return iter(self._records[since:])
        return iter(sorted((r for kind in kinds for r in self._of_kind[kind] if r.seq >= since), key=lambda r: r.seq))

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record."""
        return (Stored(r.seq, r.prev, r.body, *r.columns) for r in self._records[since:])

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record."""
        return self._details.get(seq, {})

    def _index(self, record: Record) -> None:
        self._records.append(record)
        kind, participant, stratum, position = record.columns
        self._of_kind[kind].append(record)
        self._newest[kind, None] = record
        if participant is not None:
            self._of_participant[participant].append(record)
            self._newest[kind, participant] = record
        if position is not None:
            self._newest[kind, (stratum, position)] = record

    def _rebuild(self, records: list[Record]) -> None:
        details = {record.seq: self._details[record.seq] for record in records}
        self.__init__()  # type: ignore[misc]  # the empty state is stated once
        self._details = details
        for record in records:
            self._index(record)

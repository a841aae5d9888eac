"""What a process remembers of a log that only grows: records by place, and the newest of each kind by owner.

Bounded in memory. A record never changes, so what is remembered stays true as long as the last record is still the one
remembered; whoever reads from a log that others write to finds that out first, or forgets.
"""

from __future__ import annotations

from allocator.log import Record
from allocator.store import Stored, parsed

Owner = (
    tuple[()] | tuple[str] | tuple[str | None, int | None]
)  # the log; a participant; a stratum's label and a position
LOG: Owner = ()
_MOST_BYTES = 1 << 21  # of bodies whose records stay in memory: some thousand, or a few of the longest
_MOST_OWNERS = 1 << 13  # participants and positions whose newest records are known


class Remembered:
    """The last record of a log, some records by place, and for some owners the newest record of each kind.

    Attributes:
        of_log: by kind, seq of the newest record of it; -1 where there is known to be none.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing any more."""
        self.of_log: dict[str, int] = {}
        self._last: Stored | Record | None = None
        self._recent: dict[int, Stored | Record] = {}  # by seq, the longest there first
        self._recent_bytes = 0
        self._of_owner: dict[Owner, dict[str, int]] = {}  # the longest there first

    @property
    def last(self) -> Record | None:
        """The newest record, None before the first or after `forget`. EvidenceError where it is damaged."""
        if isinstance(self._last, Stored):
            self._last = parsed(self._last)
        return self._last

    def follow(self, record: Stored | Record) -> None:
        """The record that follows the last one; what is stored of it is parsed when it is asked for."""
        kind, participant, stratum, position = record[3:] if isinstance(record, Stored) else record.columns
        self._last = record
        self.keep(record)
        self.of_log[kind] = record.seq
        for owner in ((participant,), (stratum, position)):
            if owner in self._of_owner:
                self._of_owner[owner][kind] = record.seq

    def keep(self, record: Stored | Record) -> None:
        """A record that was read from its place."""
        if self._recent.setdefault(record.seq, record) is not record:
            return
        self._recent_bytes += len(record.body)
        while self._recent_bytes > _MOST_BYTES:
            longest_there = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= len(longest_there.body)

    def stored(self, seq: int) -> Stored | None:
        """What is stored of the record at this place, None where it is not remembered."""
        found = self._recent.get(seq)
        return Stored(found.seq, found.prev, found.body, *found.columns) if isinstance(found, Record) else found

    def record(self, seq: int) -> Record | None:
        """The record at this place, None where it is not remembered. EvidenceError where it is damaged."""
        found = self._recent.get(seq)
        if isinstance(found, Stored):
            self._recent[seq] = found = parsed(found)
        return found

    def of_owner(self, owner: Owner) -> dict[str, int] | None:
        """By kind, seq of the newest record of a participant or a position; None where that is not known."""
        return self._of_owner.get(owner)

    def know(self, owner: Owner, newest: dict[str, int]) -> None:
        """All there is of an owner: by kind, seq of the newest record; known until others push it out."""
        self._of_owner[owner] = newest
        if len(self._of_owner) > _MOST_OWNERS:
            del self._of_owner[next(iter(self._of_owner))]

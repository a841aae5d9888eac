"""What is asked of a log in PostgreSQL, and what a process remembers of the answers (docs/adr/0020).

What was read is remembered from one turn to the next (`remembered`), and used in one's turn only, after the last record
was found to be the one remembered. The database holds each record to the one before it by a trigger, so a memory that
is wrong would be refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain, islice

from allocator import postgres_statements as statements
from allocator.log import Detail, Record
from allocator.postgres_batch import Cells, Statement, Value
from allocator.postgres_statements import PAGE
from allocator.remembered import LOG, Owner, Remembered
from allocator.store import Stored, parsed

_MOST_LISTED = 100  # records in a list that is remembered, and lists
Values = tuple[Value, ...]
_Question = tuple[tuple[str, ...], str | None, int]  # of `records`: kinds, participant, since


class PostgresQueries(ABC):
    """The questions that a store answers, put to one study's records (see `allocator.store.Store`)."""

    def __init__(self, study: str) -> None:
        self._study = study
        self._within = False  # one's turn
        self._remembered = Remembered()
        self._newer: Stored | None = None  # the last record, in a turn, when those before it are not read yet
        self._lists: dict[_Question, list[Record]] = {}
        # seq and private details of the participant's confirmation, in a turn
        self._details: tuple[int, list[Cells]] = (-1, [])

    @abstractmethod
    def _fetch(self, statement: Statement, values: Values) -> list[Cells]:
        """All rows of one statement."""

    def last(self) -> Record | None:
        """The newest record."""
        if not self._within:
            return self._one(statements.LAST, (self._study,))
        if self._newer is not None:
            return parsed(self._newer)
        return self._remembered.last

    def record(self, seq: int) -> Record | None:
        """The record at this place."""
        if self._within:
            self._read_between()  # before it nobody knows whether what is remembered still stands
            if (known := self._remembered.record(seq)) is not None:
                return known
        return self._one(statements.PLACE, (self._study, seq))

    def newest(
        self,
        kinds: tuple[str, ...],
        *,
        participant: str | None = None,
        stratum: str | None = None,
        position: int | None = None,
    ) -> Record | None:
        """From memory in one's turn, after one statement for an owner or a kind not asked for before."""
        owner = LOG  # type: Owner
        if participant is not None:
            owner = (participant,)
        elif position is not None:
            owner = (stratum, position)
        if not self._within:
            rows = [row for row in map(stored, self._read_newest(owner, kinds)) if row.kind in kinds]
            newest = max(rows, default=None)
            return parsed(newest) if newest else None
        self._read_between()
        known = self._newest_of(owner, kinds)
        seq = max((known.get(kind, -1) for kind in kinds), default=-1)
        return self.record(seq) if seq >= 0 else None

    def _newest_of(self, owner: Owner, kinds: tuple[str, ...]) -> dict[str, int]:
        """By kind, seq of the newest record of an owner, for these kinds at least."""
        if owner != LOG:
            known = self._remembered.of_owner(owner)
            return self._know(owner, self._read_newest(owner, kinds)) if known is None else known
        of_log = self._remembered.of_log
        if missing := tuple(kind for kind in kinds if kind not in of_log):
            of_log |= dict.fromkeys(missing, -1) | self._kept(self._read_newest(LOG, missing))
        return of_log

    def _know(self, owner: Owner, rows: list[Cells]) -> dict[str, int]:
        known = self._kept(rows)
        self._remembered.know(owner, known)
        return known

    def _kept(self, rows: list[Cells]) -> dict[str, int]:
        """Rows remembered as records; by kind, the seq of each."""
        kept = [stored(row) for row in rows]
        for row in kept:
            self._remembered.keep(row)
        return {row.kind: row.seq for row in kept}

    def _read_newest(self, owner: Owner, kinds: tuple[str, ...]) -> list[Cells]:
        """The newest of these kinds in the log; the newest of each kind of a participant or a position."""
        if owner == LOG:
            return self._fetch(statements.OF_LOG, (self._study, " ".join(kinds)))
        return self._fetch(
            statements.OF_PARTICIPANT if len(owner) == 1 else statements.OF_POSITION, (self._study, *owner)
        )

    def first_unallocated(self, stratum: str, start: int) -> int:
        """Positions held, numbered from `start`: those that are their own number come before the first hole."""
        (row,) = self._fetch(statements.HELD, (self._study, stratum, start))
        return start + number(row[0])

    def records(
        self, kinds: tuple[str, ...] = (), *, participant: str | None = None, since: int = 0
    ) -> Iterator[Record]:
        """Records in order, as of the first page; a short list of some kinds is remembered."""
        question = kinds, participant, since
        self._read_between()
        if self._within and question in self._lists:
            return iter(tuple(self._lists[question]))
        found = map(parsed, self._pages(since, kinds, participant))
        if not (self._within and kinds and len(self._lists) < _MOST_LISTED):
            return found
        listed = list(islice(found, _MOST_LISTED))
        if len(listed) < _MOST_LISTED:
            self._lists[question] = listed
        return chain(tuple(listed), found)

    def rows(self, since: int) -> Iterator[Stored]:
        """What is stored of each record, as of the first page."""
        self._read_between()
        last = self._remembered.last
        if self._within and last is not None and last.seq - since < PAGE:
            known = [row for seq in range(since, last.seq + 1) if (row := self._remembered.stored(seq)) is not None]
            if len(known) == last.seq + 1 - since:
                yield from known
                return
        yield from self._pages(since)

    def details(self, seq: int) -> dict[str, Detail]:
        """The private details of a record."""
        known, rows = self._details
        if not (self._within and seq == known):
            rows = self._fetch(statements.DETAILS, (self._study, seq))
        return {text(name): Detail(salt=salt or b"", value=text(value)) for name, salt, value in rows}

    def _pages(self, since: int, kinds: tuple[str, ...] = (), participant: str | None = None) -> Iterator[Stored]:
        """Rows page by page, up to where the log ended when the first was asked for."""
        ((end,),) = self._fetch(statements.END, (self._study,))
        top = -1 if end is None else number(end)
        if not kinds and participant is None:
            for start in range(since, top + 1, PAGE):
                between = self._study, start, min(start + PAGE - 1, top)
                yield from map(stored, self._fetch(statements.BETWEEN, between))
            return
        statement = statements.page(PAGE, bool(kinds), participant is not None)
        of_kinds = (" ".join(dict.fromkeys(kinds)),) if kinds else ()
        own = (*of_kinds, *(() if participant is None else (participant,)))
        while True:
            page = self._fetch(statement, (self._study, since, top, *own))
            yield from map(stored, page)
            if len(page) < PAGE:
                return
            since = number(page[-1][0]) + 1

    def _one(self, statement: Statement, values: Values) -> Record | None:
        rows = self._fetch(statement, values)
        if not rows:
            return None
        row = stored(rows[0])
        if self._within:
            self._remembered.keep(row)
        return parsed(row)

    # ---- remembering ------------------------------------------------------------------------------------------------

    def _found_last(self, rows: list[Cells]) -> None:
        """The last record, or none, as found with the turn: what came before it is read when it is asked for."""
        known, found = self._remembered.last, stored(rows[0]) if rows else None
        if known is None or found is None:
            self._forget()  # of an empty log, that there is nothing
            if found is not None:
                self._remembered.follow(found)
        elif found[:3] != (known.seq, known.prev, known.body):
            self._newer = found

    def _read_between(self) -> None:
        """What others wrote between the last record remembered and the last one."""
        if self._newer is not None and (known := self._remembered.last) is not None:
            self._newer = None
            self._catch_up(self._fetch(statements.SINCE, (self._study, known.seq)))

    def _catch_up(self, rows: list[Cells]) -> None:
        """Remember what was written since; or forget, when the last record is not where it was, or too much came."""
        known, new = self._remembered.last, [stored(row) for row in rows]
        if known is not None and new and new[0][:3] == (known.seq, known.prev, known.body) and len(new) < PAGE:
            for row in new[1:]:
                self._follow(row)
        else:
            self._forget()
            self._found_last(self._fetch(statements.LAST, (self._study,)))

    def _follow(self, record: Stored | Record) -> None:
        """Remember the record that follows the last one."""
        if self._newer is not None:  # what came between is not known
            self._forget()
        self._remembered.follow(record)
        kind, whose = (record.kind, record.participant) if isinstance(record, Stored) else record.columns[:2]
        for question in [q for q in self._lists if kind in q[0] and q[1] in (None, whose)]:
            del self._lists[question]

    def _forget(self) -> None:
        self._newer = None
        self._remembered.forget()
        self._lists.clear()


def stored(row: Cells) -> Stored:
    """A row of `_COLUMNS`, as stored."""
    seq, prev, body, kind, participant, stratum, position = row
    return Stored(
        number(seq),
        prev or b"",
        body or b"",
        text(kind),
        None if participant is None else text(participant),
        None if stratum is None else text(stratum),
        None if position is None else number(position),
    )


def number(cell: bytes | None) -> int:
    """BIGINT in PostgreSQL's binary form."""
    return int.from_bytes(cell or b"", "big", signed=True)


def text(cell: bytes | None) -> str:
    return (cell or b"").decode("utf-8")

"""What is attacked: a log and what stands around it. Three of them take the same attacks: ours, and two to compare.

A victim is a copy that may be ruined. Its people are those of tests/support.py; where keys are named, LOG stands for
the log's own.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]

from attacks import Forger, Stored  # noqa: E402

LOG = "log"
EVERYBODY = frozenset({LOG, "SP", "ST", "CU", "IN", "PH", "AU"})
FIRST, HEAD, CHECKPOINT, RECEIPT, TRAIL = "first", "head", "checkpoint", "receipt", "trail"  # what is kept elsewhere

Forgery = Callable[[Forger], int]


class NotApplicable(Exception):
    """The victim has nothing of the kind that is attacked; the text says what it lacks."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A verdict in the victim's own words, and (check or reason, record or None) of each finding."""

    verdict: str
    findings: tuple[tuple[str, int | None], ...] = ()


class Victim(ABC):
    """A `folder` with a `log` in it (a SQLite file), and a folder `kept` with what somebody keeps elsewhere.

    `table` is the log's table. Its rows have `fields`, what a record says, and `with_fields(**changes)`, the same row
    saying something else, with nothing about it made good.
    """

    table: str
    folder: Path
    kept: Path
    stranger: Callable[[], Victim]  # one of its kind that others made anew, with other keys

    @property
    @abstractmethod
    def log(self) -> Path:
        """The SQLite file."""

    @abstractmethod
    def verdict(self) -> Outcome:
        """What its verifier says, given what is kept elsewhere."""

    @abstractmethod
    def screen(self) -> str:
        """The same as a terminal gets it."""

    @abstractmethod
    def keep(self, what: str, folder: Path | None = None) -> None:
        """Keep something elsewhere: record 0's hash, the newest one's, a checkpoint, a receipt, a readable copy."""

    @abstractmethod
    def keep_a_lie(self) -> None:
        """Keep a checkpoint of this size with another root, validly signed with the log's key."""

    @abstractmethod
    def go_on(self, participant: str) -> None:
        """A participant is confirmed and allocated, by its own writer: two records."""

    @abstractmethod
    def forge(self, forgery: Forgery) -> int:
        """People with their own keys write past the program; returns the record that is wrong."""

    @abstractmethod
    def respell(self, seq: int, old: str, new: str) -> None:
        """Whoever wrote a record spelt its text so; what a lenient reader makes of it is hashed and signed."""

    # ---- whoever can write the files ----------------------------------------------------------------------------

    @abstractmethod
    def rows(self) -> list[Any]:
        """All records as stored."""

    @abstractmethod
    def rebuild(self, rows: Sequence[Any]) -> None:
        """Store these instead, in this order."""

    @abstractmethod
    def rechained(self, rows: Sequence[Any], keys: frozenset[str]) -> list[Any]:
        """These numbered and linked anew, and signed anew by those whose keys are given."""

    @abstractmethod
    def move_anchor(self) -> None:
        """Let the head that lies beside the log follow it."""

    @abstractmethod
    def drop_anchor(self) -> None:
        """Take that head away."""

    @abstractmethod
    def column(self, seq: int) -> None:
        """Another participant in the column beside a record's body."""

    @abstractmethod
    def detail(self, seq: int, value: str | None) -> None:
        """Another value for a record's private detail; None takes it away."""

    @abstractmethod
    def signature(self, seq: int, change: Callable[[bytes, list[bytes]], bytes]) -> None:
        """Another signature: made from the record's own and, by record, those of all."""

    def sql(self, *statements: str) -> None:
        """Run statements as anybody can who may write the file; `{table}` is its table."""
        with closing(sqlite3.connect(self.log, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement.format(table=self.table))

    def close(self) -> None:  # noqa: B027 (nothing to do for those that open a file each time)
        """Let go of its files."""

    def copy_to(self, folder: Path) -> Self:
        """A copy of it, with nothing kept elsewhere."""
        self.close()
        other = copy(self)
        other.folder = Path(shutil.copytree(self.folder, folder))
        other.kept = folder.with_name(f"{folder.name}-kept")
        other.kept.mkdir()
        return other

    def beside(self) -> Self:
        """A copy beside it."""
        return self.copy_to(self.folder.with_name(f"{self.folder.name}-beside"))

    def replace(self, other: Victim) -> None:
        """Put another one's files in the place of its own."""
        self.close()
        other.close()
        shutil.rmtree(self.folder)
        shutil.copytree(other.folder, self.folder)


class Rival(Victim):
    """A log without a study around it. Each of our records is one of its own, written by its own writer."""

    source: Callable[[], Victim]  # a home as the one that this was written from

    @abstractmethod
    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records as its users do; where it signs, each person signs their own."""

    def go_on(self, participant: str) -> None:
        """Two records that say so."""
        common = {"participant": participant, "time": self.rows()[-1].fields["time"]}
        self.write([{"kind": kind, "person": by, **common} for kind, by in (("confirmed", "IN"), ("allocated", "PH"))])

    def forge(self, forgery: Forgery) -> int:
        """What these people write into our log they write into this one."""
        home = self.source()
        seq = home.forge(forgery)
        self.write(map(plain, home.rows()[len(self.rows()) :]))
        return seq

    def detail(self, seq: int, value: str | None) -> None:
        """What we keep beside a body stands in its record."""
        rows = self.rows()
        details = {name: value for name in rows[seq].fields["details"] if value is not None}
        rows[seq] = rows[seq].with_fields(details=details)
        self.rebuild(rows)


def plain(row: Stored) -> dict[str, Any]:
    """What one of our records says, with its private details, for a log that has no such thing."""
    fields = {name: value for name, value in row.fields.items() if name not in ("signature", "seq")}
    return {**fields, "details": {name: value for name, (_, value) in row.details.items()}}

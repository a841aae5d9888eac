"""A plain hash chain, honestly made: SHA-256 over the previous hash and the record's JSON, in a SQLite table.

Its last hash lies in a file beside it, and somebody may keep one elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from victim import FIRST, HEAD, NotApplicable, Outcome, Rival, Victim

GENESIS = "0" * 64
SCHEMA = "CREATE TABLE log (seq INTEGER PRIMARY KEY, prev TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL)"


def link(prev: str, body: str) -> str:
    """The hash of a record, in hexadecimal."""
    return hashlib.sha256(f"{prev}{body}".encode()).hexdigest()


def check(log: Path, heads: Iterable[str]) -> tuple[str, int | None] | None:
    """The first thing that does not hold, and at which record; None when all does. `heads` are hashes known."""
    try:
        with closing(sqlite3.connect(log)) as connection:
            rows = connection.execute("SELECT seq, prev, body, hash FROM log ORDER BY seq").fetchall()
    except sqlite3.Error as error:
        return str(error), None
    last, hashes = GENESIS, set()
    for number, (seq, prev, body, digest) in enumerate(rows):
        if seq != number:
            return "gap", number
        if prev != last or digest != link(prev, body):
            return "hash", seq
        hashes.add(last := digest)
    return None if hashes.issuperset(heads) else ("head", None)


@dataclass(frozen=True, kw_only=True)
class ChainRow:
    """One row; seq is its place."""

    prev: str
    body: str
    hash: str

    @property
    def fields(self) -> dict[str, Any]:
        """The body, parsed."""
        return dict(json.loads(self.body))

    def with_fields(self, **changes: Any) -> ChainRow:
        """Another body under the old hash."""
        return replace(self, body=_body({**self.fields, **changes}))


class Chain(Rival):
    """A plain hash chain with our records in it."""

    table = "log"

    def __init__(self, folder: Path, source: Callable[[], Victim]) -> None:
        self.folder, self.source = folder, source

    @property
    def log(self) -> Path:
        return self.folder / "log.sqlite3"

    @property
    def _head(self) -> Path:
        return self.folder / "head"

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        with closing(sqlite3.connect(self.log)) as connection, connection:
            connection.execute(SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS", 1))
            for body in map(_body, records):
                last = connection.execute("SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1").fetchone()
                seq, prev = (last[0] + 1, last[1]) if last else (0, GENESIS)
                connection.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (seq, prev, body, link(prev, body)))
        self.move_anchor()

    def respell(self, seq: int, old: str, new: str) -> None:
        rows = self.rows()
        rows[seq] = replace(rows[seq], body=rows[seq].body.replace(old, new))
        self.rebuild(self.rechained(rows, frozenset()))
        self.move_anchor()

    def verdict(self) -> Outcome:
        files = [*([self._head] if self._head.exists() else []), *sorted(self.kept.iterdir())]
        found = check(self.log, [file.read_text(encoding="ascii") for file in files])
        return Outcome(verdict="broken", findings=(found,)) if found else Outcome(verdict="intact")

    def screen(self) -> str:
        raise NotApplicable("shows nothing of a record")

    def keep(self, what: str, folder: Path | None = None) -> None:
        if what not in (FIRST, HEAD):
            raise NotApplicable(f"has no {what}s")
        row = self.rows()[0 if what == FIRST else -1]
        ((folder or self.kept) / what).write_text(row.hash, encoding="ascii")

    def keep_a_lie(self) -> None:
        raise NotApplicable("has no checkpoints")

    def rows(self) -> list[ChainRow]:
        with closing(sqlite3.connect(self.log)) as connection:
            rows = connection.execute("SELECT prev, body, hash FROM log ORDER BY seq").fetchall()
        return [ChainRow(prev=prev, body=body, hash=digest) for prev, body, digest in rows]

    def rebuild(self, rows: Sequence[ChainRow]) -> None:
        values = [(seq, row.prev, row.body, row.hash) for seq, row in enumerate(rows)]
        with closing(sqlite3.connect(self.log)) as connection, connection:
            connection.execute("DELETE FROM log")
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", values)

    def rechained(self, rows: Sequence[ChainRow], keys: frozenset[str]) -> list[ChainRow]:  # noqa: ARG002 (it has none)
        done: list[ChainRow] = []
        for row in rows:
            prev = done[-1].hash if done else GENESIS
            done.append(replace(row, prev=prev, hash=link(prev, row.body)))
        return done

    def move_anchor(self) -> None:
        self._head.write_text(self.rows()[-1].hash, encoding="ascii")

    def drop_anchor(self) -> None:
        self._head.unlink()

    def column(self, seq: int) -> None:  # noqa: ARG002 (it has none)
        raise NotApplicable("has no columns beside a body")

    def signature(self, seq: int, change: Callable[[bytes, list[bytes]], bytes]) -> None:  # noqa: ARG002
        raise NotApplicable("has no signatures")


def _body(fields: Mapping[str, Any]) -> str:
    return json.dumps(dict(fields), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

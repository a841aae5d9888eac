"""One reveal against a bare durable transaction that writes the same bytes, on a short log and on a long one."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Iterator
from pathlib import Path

from homes import active_trial, fill, participant
from measure import Row, seconds

from allocator.log import Record
from allocator.sqlite_store import create_log
from support import Trial, eligible_form

FIRST = 900_000  # numbers of the participants measured: none of them was used while filling


class Bare:
    """The same INSERT into the same schema with the same pragmas, and nothing else."""

    def __init__(self, path: Path) -> None:
        create_log(path)
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=EXTRA", "recursive_triggers=1", "foreign_keys=1", "trusted_schema=0"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._next = 0

    def write(self, record: Record) -> None:
        """One durable transaction."""
        kind, who, stratum, _ = record.columns
        values = (self._next, record.prev, record.body.decode(), kind, who, stratum, self._next)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)", values
        )
        self._connection.execute("COMMIT")
        self._next += 1


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """Reveals on a short log, on a long one, and each against the bare transaction."""
    count, long = (30, 3_000) if quick else (150, 100_000)
    short_log = active_trial(folder / "short", length=2_000)
    fill(short_log, 100)
    long_log = active_trial(folder / "long", length=long // 2 + 2_000)
    fill(long_log, long)
    measured: dict[str, list[float]] = {"short": [], "long": [], "bare": []}
    confirms: dict[str, list[float]] = {"short": [], "long": []}
    bare = Bare(folder / "bare.sqlite3")
    for number in range(FIRST, FIRST + count):
        for name, trial in (("short", short_log), ("long", long_log)):
            confirms[name].append(seconds(lambda t=trial, n=number: confirm(t, n)))
            measured[name].append(seconds(lambda t=trial, n=number: reveal(t, n)))
        record = short_log.last
        measured["bare"].append(seconds(lambda r=record: bare.write(r)))
    short, far, plain = (statistics.median(measured[name]) for name in ("short", "long", "bare"))
    yield Row(what="reveal / one bare durable transaction of the same bytes", ours=short, peer=plain, goal="<= 2")
    yield Row(what=f"reveal on {long:,} records / on 100", ours=far, peer=short, goal="0.8..1.2")
    near_confirm, far_confirm = (statistics.median(confirms[name]) for name in ("short", "long"))
    yield Row(what=f"confirm on {long:,} records / on 100", ours=far_confirm, peer=near_confirm, goal="0.8..1.2")
    for trial in (short_log, long_log):
        trial.close()


def confirm(trial: Trial, number: int) -> None:
    """One confirmation."""
    trial.confirm(participant(number), eligible_form("P-001", trial.clock.now))


def reveal(trial: Trial, number: int) -> None:
    """One reveal."""
    trial.reveal(participant(number))

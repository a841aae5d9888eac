"""One reveal against a bare durable transaction that writes the same bytes, on a short log and on a long one."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import verifying  # noqa: E402
from homes import active_trial, allocate, fill, participant  # noqa: E402
from measure import Row, compare, seconds  # noqa: E402

from allocator.backup import write_backup  # noqa: E402
from allocator.log import Record  # noqa: E402
from allocator.sqlite_store import create_log  # noqa: E402
from support import PASSPHRASE, Trial, eligible_form, open_service  # noqa: E402

FIRST = 900_000  # numbers of the participants measured: none of them was used while filling


class Bare:
    """The same INSERT into the same schema with the same pragmas, and nothing else."""

    def __init__(self, path: Path) -> None:
        create_log(path)
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=FULL", "recursive_triggers=1", "foreign_keys=1", "trusted_schema=0"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._next = 0

        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)

    def write(self, record: Record) -> None:
        """One durable transaction."""
        kind, who, stratum, _ = record.columns
        values = (self._next, record.prev, record.body.decode(), kind, who, stratum, self._next)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)", values
        )
        self._connection.execute("COMMIT")
        os.fsync(self._folder)  # the journal's removal is durable
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
    kept: dict[str, list[float]] = {"short": [], "long": []}
    bare = Bare(folder / "bare.sqlite3")
    for number in range(FIRST, FIRST + count):
        for name, trial in (("short", short_log), ("long", long_log)):
            confirms[name].append(seconds(lambda t=trial, n=number: confirm(t, n)))
            measured[name].append(seconds(lambda t=trial, n=number: reveal(t, n)))
            kept[name].append(seconds(lambda t=trial, r=trial.last: t.service.keep_receipt(r)))
        record = short_log.last
        measured["bare"].append(seconds(lambda r=record: bare.write(r)))
    short, far, plain = (statistics.median(measured[name]) for name in ("short", "long", "bare"))
    yield Row(what="reveal / one bare durable transaction of the same bytes", ours=short, peer=plain, goal="<= 2")
    yield Row(what=f"reveal on {long:,} records / on 100", ours=far, peer=short, goal="0.8..1.2")
    near_confirm, far_confirm = (statistics.median(confirms[name]) for name in ("short", "long"))
    yield Row(what=f"confirm on {long:,} records / on 100", ours=far_confirm, peer=near_confirm, goal="0.8..1.2")
    for name, alone, records in (("short", short, 100), ("long", far, long)):
        what = f"reveal on {records:,} records with its receipt and checkpoint / without"
        yield Row(what=what, ours=alone + statistics.median(kept[name]), peer=alone, goal="<= 1.25")
    for trial in (short_log, long_log):
        trial.close()


def confirm(trial: Trial, number: int) -> None:
    """One confirmation."""
    trial.confirm(participant(number), eligible_form("P-001", trial.clock.now))


def reveal(trial: Trial, number: int) -> None:
    """One reveal."""
    trial.reveal(participant(number))


def long_rows(folder: Path, quick: bool) -> Iterator[Row]:
    """Reveals on 10^2 and on 10^6 records; a backup of the long log against SQLite's own; its verification."""
    count, long = (20, 12_000) if quick else (100, 1_000_000)
    short_log = active_trial(folder / "short", length=2_000)
    fill(short_log, 100)
    long_log = active_trial(folder / "long", length=long // 2 + 2_000)
    fill(long_log, long)
    near, far = [], []
    for number in range(FIRST, FIRST + count):
        for trial, times in ((short_log, near), (long_log, far)):
            confirm(trial, number)
            times.append(seconds(lambda t=trial, n=number: reveal(t, n)))
    yield Row(
        what=f"reveal on {long:,} records / on 100",
        ours=statistics.median(far),
        peer=statistics.median(near),
        goal="0.8..1.2",
    )
    yield compare(
        f"backup of {long:,} records, checked / SQLite's own, synced",
        lambda: write_backup(long_log.place, _fresh(folder / "ours.tar"), long_log.clock.now),
        lambda: own_backup(long_log.place.log_file, _fresh(folder / "own.sqlite3")),
        goal="<= 2",
        repeats=3,
    )
    for trial in (short_log, long_log):
        trial.close()
    (folder / "ours.tar").unlink()
    (folder / "own.sqlite3").unlink()
    yield from verifying.memory_rows(folder, long_log.home, long)


def own_backup(log: Path, target: Path) -> None:
    """SQLite's backup, whole in one step, then synced."""
    with closing(sqlite3.connect(log)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _fresh(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def crowd_rows(folder: Path, quick: bool) -> Iterator[Row]:
    """Sixteen processes that reveal at once, against sixteen that write the same bytes under the same kind of lock."""
    processes, each = 16, 5 if quick else 40
    trial = active_trial(folder / "crowd", length=processes * each + 10)
    allocate(trial, 1, 1)
    record = trial.last
    everybody = [participant(number) for number in range(10, 10 + processes * each)]
    for number in range(10, 10 + processes * each):
        confirm(trial, number)
    trial.close()
    ours = _together([_started("reveal", trial.home, *everybody[n::processes]) for n in range(processes)])
    bare = folder / "bare.sqlite3"
    create_log(bare)
    body = folder / "body"
    body.write_bytes(record.body)
    peers = _together([_started("bare", bare, str(each), str(body)) for _ in range(processes)])
    yield Row(what="16 processes reveal / 16 bare durable transactions at once", ours=ours, peer=peers, goal="<= 2")


def _started(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__)), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _together(workers: list[subprocess.Popen[str]]) -> float:
    """Seconds from the word "go" to the end of the last one: all are ready before."""
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"

    def go() -> None:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "done\n"

    taken = seconds(go)
    for worker in workers:
        worker.communicate()
    return taken


def work(kind: str, place: Path, arguments: list[str]) -> None:
    """One of many processes: gets ready, waits for the word, does its share."""
    if kind == "reveal":
        service = open_service(place)
        actor = service.authenticate("PH", lambda: PASSPHRASE, "benchmark")
        service.history.follow()
        share = [lambda w=who: service.reveal(actor, w, w) for who in arguments]
    else:
        bare = Crowded(place, Path(arguments[1]).read_bytes())
        share = [bare.write] * int(arguments[0])
    print("ready", flush=True)
    sys.stdin.readline()
    for one in share:
        one()
    print("done", flush=True)


class Crowded:
    """The bare durable transaction under a lock like ours: append after the newest row, whoever wrote it."""

    def __init__(self, path: Path, body: bytes) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        for pragma in ("synchronous=FULL", "recursive_triggers=1", "foreign_keys=1", "trusted_schema=0"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._body, self._path = body.decode(), path
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)

    def write(self) -> None:
        """One durable transaction."""
        lock = os.open(self._path.with_name("lock"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._connection.execute("BEGIN IMMEDIATE")
        following = self._connection.execute("SELECT coalesce(max(seq) + 1, 0) FROM record").fetchone()[0]
        self._connection.execute(
            "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)",
            (following, bytes(32), self._body, "allocated", participant(following), "{}", following),
        )
        self._connection.execute("COMMIT")
        os.fsync(self._folder)
        os.close(lock)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

"""What `scale.py` measures of room and time: bytes of a record, verify, backups and dumps, memory of a connection."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import psycopg
from reveals import FIRST, confirm, reveal
from scale_clients import append
from scale_server import Source, asked, chosen, client_program
from scale_tables import Measured, Plan, Study, Table, told, whole

from allocator.postgres_store import PostgresStore
from postgres_server import Server
from support import PASSPHRASE, STUDY_ID

IDLE = 20  # connections whose memory is measured


def bytes_of(server: Server) -> dict[str, int]:
    """Bytes of the database, its tables (with what belongs to them) and each index."""
    found = {"database": int(asked(server, "SELECT pg_database_size(current_database())")[0])}
    with psycopg.connect(server.admin) as connection:
        sql = b"""SELECT relname, relkind, pg_total_relation_size(oid) FROM pg_class
            WHERE relnamespace = 'allocator'::regnamespace AND relkind IN ('r', 'i')"""
        rows = connection.execute(sql).fetchall()
    indexes = {name: int(size) for name, kind, size in rows if kind == "i"}
    of_all = sum(int(size) for _, kind, size in rows if kind == "r")
    return {**found, **indexes, "indexes": sum(indexes.values()), "tables": of_all - sum(indexes.values())}


def space(study: Study, size: dict[str, int], source: Source, plan: Plan, measured: Measured) -> Table:
    """Bytes a record and a participant, and the WAL of an act, on the longest log; the file beside it.

    `size` is of `bytes_of`, before anything was measured on it.
    """
    records, head = study.records, ("what", "B/record", "B/participant", "of all")
    assert records == source.records
    whole_size = size["tables"] + size["indexes"]
    names = ["tables", *sorted(name for name in size if name.startswith(("record_", "detail_", "one_")))]
    rows = [(name if name != "tables" else "tables (record, detail)", size[name]) for name in names]
    rows += [("PostgreSQL, all", whole_size), ("the same log in SQLite, all", source.log.stat().st_size)]
    cells = [(name, whole(of / records), whole(2 * of / records), f"{of / whole_size:.0%}") for name, of in rows]
    for name, wal in zip(
        ("WAL of a confirmation", "WAL of a reveal"), wal_of(study, plan.repeats // 4 or 5), strict=True
    ):
        cells.append((name, whole(wal), "", ""))
        measured.facts["wal"] = measured.facts.get("wal", 0.0) + wal
    measured.facts.update({"bytes": whole_size / records, "index-bytes": size["indexes"] / records})
    return Table(name="bytes", head=head, rows=cells)


def wal_of(study: Study, count: int) -> tuple[float, float]:
    """Bytes of WAL of a confirmation and of a reveal: medians, so that whole pages after a checkpoint do not count."""
    where = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    found = []
    for act in (confirm, reveal):
        marks = [int(asked(study.server, where)[0])]
        for number in range(FIRST + 50_000, FIRST + 50_000 + count):
            act(study.trial, number)
            marks.append(int(asked(study.server, where)[0]))
        found.append(statistics.median(after - before for before, after in pairwise(marks)))
    return found[0], found[1]


def copies(made: list[Study], folder: Path, measured: Measured) -> Table:
    """verify, allocator backup, pg_dump of the longest logs; a base backup of the whole server."""
    head = ("records", "verify, s", "records/s", "allocator backup, s", "MB", "pg_dump -Fc, s", "MB")
    rows = []
    for study in made[-2:]:
        with chosen(study.server):
            verifying = command("verify", study.trial.home)
            backup = folder / "backup.tar"
            backing = command("backup", study.trial.home, str(backup))
        dump = folder / "dump"
        program = client_program("pg_dump")
        dumping = run([program, "-Fc", "-f", str(dump), study.server.admin]) if program else None
        assert verifying is not None, "verify found a fault in a true log"
        cells = (f"{verifying:.1f}", whole(study.records / verifying), *timed(backing, backup), *timed(dumping, dump))
        rows.append((whole(study.records), *cells))
        measured.facts.update({"verify": study.records / verifying})
        measured.facts.update({"dump": study.records / dumping} if dumping else {})
        told(f"{study.records:,} records verified and dumped")
    return Table(name="copies", head=head, rows=rows)


def base_backup(server: Server, folder: Path, measured: Measured) -> Table:
    """pg_basebackup of the server with all its databases."""
    program, target = client_program("pg_basebackup"), folder / "base"
    address = server.admin.rpartition("/")[0] + "/"
    taken = run([program, "-D", str(target), "-c", "fast", "-d", address]) if program else None
    rows = []
    if taken:
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        rows = [(f"{size / 1e6:.0f}", f"{taken:.1f}", whole(size / 1e6 / taken))]
        measured.facts["base"] = size / taken
    told("base backup")
    return Table(name="base", head=("whole server, MB", "pg_basebackup, s", "MB/s"), rows=rows or [("–", "–", "–")])


def command(name: str, home: Path, *arguments: str) -> float | None:
    """Seconds of a command of the program; None where it refuses."""
    environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE, "PYTHONWARNINGS": ""}
    who = ["--as", "SP"] if name == "backup" else []
    return run([sys.executable, "-m", "allocator", "--home", str(home), *who, name, *arguments], environment)


def run(line: list[str], environment: dict[str, str] | None = None) -> float | None:
    """Seconds of a program; None when it fails."""
    start = time.perf_counter()
    done = subprocess.run(line, capture_output=True, env=environment)
    taken = time.perf_counter() - start
    if done.returncode:
        told(f"exit {done.returncode}: {' '.join(line[:5])} … {done.stderr.decode()[-200:].strip()}")
    return None if done.returncode else taken


def timed(taken: float | None, file: Path) -> tuple[str, str]:
    """Seconds and MB of what a command wrote; the file is removed."""
    size = f"{file.stat().st_size / 1e6:.0f}" if taken and file.exists() else "–"
    file.unlink(missing_ok=True)
    return (f"{taken:.1f}" if taken else "–"), size


def connections(server: Server, body: bytes, measured: Measured) -> Table:
    """Memory of a server process for one connection that has appended, its share of shared pages counted once."""
    with ExitStack() as stack:
        stores = [stack.enter_context(PostgresStore(server.writer, STUDY_ID)) for _ in range(IDLE)]
        for store in stores:
            append(store, body)
        with psycopg.connect(server.admin) as connection:
            sql = b"""SELECT pid FROM pg_stat_activity
                WHERE application_name = 'allocator' AND datname = current_database()"""
            pids = [int(pid) for (pid,) in connection.execute(sql)]
        own = sorted(memory for pid in pids for memory in _memory(pid))
    rows = [("–", "–", "–")]
    if own:  # the server is on this machine, and we may look
        pss, private = statistics.median(p for p, _ in own), statistics.median(p for _, p in own)
        rows = [(whole(len(own)), f"{pss / 1024:.1f}", f"{private / 1024:.1f}")]
        measured.facts["connection"] = pss * 1024
    return Table(name="connections", head=("idle connections", "MB each (PSS)", "MB each, private"), rows=rows)


def _memory(pid: int) -> Iterator[tuple[int, int]]:
    """Proportional and private kB of a process, where they can be read."""
    with suppress(OSError):
        found = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0])
        yield found["Pss"], found["Private_Clean"] + found["Private_Dirty"]

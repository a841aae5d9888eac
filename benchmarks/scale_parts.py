"""What `scale.py` measures of work: growth of one study, of many studies, of the clients."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path

import psycopg
from measure import seconds
from reveals import FIRST, confirm, reveal
from scale_clients import Crowd, append, ours, pgbench
from scale_server import Source, asked, client_program, copied_home, copy_studies
from scale_space import bytes_of
from scale_tables import Measured, Plan, Study, Table, ms, told, whole

from allocator.postgres_store import PostgresStore
from postgres_server import Server
from support import STUDY_ID

RECORDS_A_STUDY = 100  # in the tables of many studies
CROWD = 8  # clients in the table of many studies


def opened(source: Source, server: Server, folder: Path, plan: Plan, stack: ExitStack) -> list[Study]:
    """One study of each size, in a database of its own."""
    made = []
    for size in plan.sizes:
        told(f"a log of {size:,} records into PostgreSQL")
        database = stack.enter_context(server.database())
        trial = copied_home(source, database, folder / f"home-{size}", size)
        stack.callback(trial.close)
        made.append(Study(server=database, trial=trial, records=size))
    return made


# ---- one study --------------------------------------------------------------------------------------------------


def reveals(made: list[Study], plan: Plan, measured: Measured) -> dict[int, tuple[float, float]]:
    """Median confirmation and reveal of each size, in turn; and how often PostgreSQL read a whole table for them."""
    waits: dict[int, tuple[list[float], list[float]]] = {study.records: ([], []) for study in made}
    warm = max(3, plan.repeats // 10)
    for turn in range(warm + plan.repeats):
        for study in made:
            confirmed = seconds(lambda t=study.trial, n=FIRST + turn: confirm(t, n))
            revealed = seconds(lambda t=study.trial, n=FIRST + turn: reveal(t, n))
            if turn == 0:  # the process follows the chain from its first record, before its turn
                measured.facts[f"first-{study.records}"] = confirmed
            if turn >= warm:
                waits[study.records][0].append(confirmed)
                waits[study.records][1].append(revealed)
    told("confirmations and reveals on each size")
    medians = {size: (statistics.median(c), statistics.median(r)) for size, (c, r) in waits.items()}
    measured.curves["reveal"] = [(size, r) for size, (_, r) in medians.items()]
    measured.facts["act"] = sum(medians[made[-1].records])
    return medians


def appends(made: list[Study], body: bytes, plan: Plan, measured: Measured) -> dict[int, float]:
    """Median append through the store of each size, in turn. The log is no true one afterwards."""
    waits: dict[int, list[float]] = {study.records: [] for study in made}
    with ExitStack() as stack:
        stores = [stack.enter_context(PostgresStore(study.server.writer, STUDY_ID)) for study in made]
        for turn in range(plan.repeats + 10):
            for study, store in zip(made, stores, strict=True):
                taken = seconds(lambda s=store: append(s, body))
                if turn >= 10:
                    waits[study.records].append(taken)
    told("appends on each size")
    medians = {size: statistics.median(own) for size, own in waits.items()}
    measured.curves["append"] = list(medians.items())
    return medians


def growth(
    made: list[Study],
    medians: tuple[dict[int, tuple[float, float]], dict[int, float]],
    scans: dict[int, int],
    measured: Measured,
) -> Table:
    """Waits by the length of the log, and each against the shortest one."""
    head = (
        "records",
        "append, ms",
        "×",
        "confirm, ms",
        "reveal, ms",
        "×",
        "open, first answer, ms",
        "first act of a process, s",
        "whole-table reads",
    )
    acts, plain = medians
    first, rows = made[0].records, []
    for study in made:
        size = study.records
        cells = (
            *(ms(plain[size]), f"{plain[size] / plain[first]:.2f}", ms(acts[size][0]), ms(acts[size][1])),
            *(f"{acts[size][1] / acts[first][1]:.2f}", ms(first_answer(study.server, STUDY_ID))),
            *(f"{measured.facts[f'first-{size}']:.2f}", whole(scans[size])),
        )
        rows.append((whole(size), *cells))
    return Table(name="growth", head=head, rows=rows)


def first_answer(server: Server, study: str, times: int = 9) -> float:
    """Median of connecting and asking for the last record."""

    def ask() -> None:
        with PostgresStore(server.writer, study) as store:
            assert store.last() is not None

    return statistics.median(seconds(ask) for _ in range(times))


def whole_reads(server: Server) -> int:
    """How often the table of records was read from end to end since the server counts."""
    with psycopg.connect(server.admin, autocommit=True) as connection:
        sql = b"SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'record'"
        row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


# ---- many studies, many clients ---------------------------------------------------------------------------------


def many_studies(source: Source, server: Server, body: bytes, plan: Plan) -> Table:
    """1 to 1,000 studies in a database: what eight clients reach, bytes a record, the time to open one."""
    head = ("studies", "records", f"appends/s, {CROWD} clients", "p50, ms", "p99, ms", "open, first answer, ms")
    head += ("whole-table reads", "database, MB", "tables, B/record", "indexes, B/record")
    with ExitStack() as stack:
        made = []
        for count in plan.studies:
            made.append(stack.enter_context(server.database()))
            copy_studies(source, made[-1], count, RECORDS_A_STUDY)
        sizes = [bytes_of(database) for database in made]
        scans = [whole_reads(database) for database in made]
        told("studies side by side: filled")
        crowds: list[list[Crowd]] = [[] for _ in made]
        for _ in range(3):
            for n, database in enumerate(made):
                share = {"clients": CROWD, "studies": plan.studies[n], "seconds": plan.seconds / 2}
                crowds[n].append(ours(database.writer, body, **share))
        told("studies side by side: appended")
        rows = []
        for count, database, size, own, before in zip(plan.studies, made, sizes, crowds, scans, strict=True):
            crowd = sorted(own, key=lambda c: c.rate)[1]
            records = count * RECORDS_A_STUDY
            opening = first_answer(database, f"study-{count}")
            cells = (whole(records), whole(crowd.rate), ms(crowd.p50), ms(crowd.p99), ms(opening))
            space = (f"{size['database'] / 1e6:.0f}", whole(size["tables"] / records), whole(size["indexes"] / records))
            rows.append((whole(count), *cells, whole(whole_reads(database) - before), *space))
    return Table(name="studies", head=head, rows=rows)


def many_clients(source: Source, server: Server, body: bytes, plan: Plan, measured: Measured) -> Table:
    """1 to 64 clients, on one study and on fifty; pgbench with the same statements after each."""
    program = client_program("pgbench")
    head = (
        "clients",
        "studies",
        "appends/s",
        "p50, ms",
        "p99, ms",
        "pgbench/s",
        "p50, ms",
        "p99, ms",
        "ours / pgbench",
    )
    limit = int(asked(server, "SELECT current_setting('max_connections')::int")[0]) - 10
    rows = []
    with server.database() as database:
        copy_studies(source, database, plan.many, RECORDS_A_STUDY)
        for clients in (count for count in plan.clients if count <= limit):
            for studies in (1, plan.many):
                share = {"clients": clients, "studies": studies, "seconds": plan.seconds}
                crowd = ours(database.writer, body, **share)
                peer = pgbench(program, database.writer, body, **share) if program else None
                cells = (whole(clients), whole(studies), whole(crowd.rate), ms(crowd.p50), ms(crowd.p99))
                beside = (
                    (whole(peer.rate), ms(peer.p50), ms(peer.p99), f"{crowd.rate / peer.rate:.2f}")
                    if peer
                    else ("–",) * 4
                )
                rows.append((*cells, *beside))
                where = "one" if studies == 1 else "fifty"
                measured.curves.setdefault(f"ours-{where}", []).append((clients, crowd.rate))
                if peer:
                    measured.curves.setdefault(f"pgbench-{where}", []).append((clients, peer.rate))
                best = f"rate-{where}"
                measured.facts[best] = max(measured.facts.get(best, 0.0), crowd.rate)
            told(f"{clients} clients")
    return Table(name="clients", head=head, rows=rows)

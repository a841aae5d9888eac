"""Growth in PostgreSQL, measured: `python benchmarks/scale.py [--quick] [--write docs/scale.md]`.

Records of one study, studies in one database, clients at once; bytes, checks and copies; then the calculation to a
thousand studies, from these figures. Writes tables between the markers of the page, and the picture beside it.
A quarter of an hour on two cores; the server is the tests' (tests/postgres_server.py), with settings as for use.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import scale_parts as parts  # noqa: E402
import scale_space as room  # noqa: E402
from scale_clients import body_with_places  # noqa: E402
from scale_server import asked, scale_server, true_log  # noqa: E402
from scale_tables import Measured, Plan, Table, told, whole  # noqa: E402

from postgres_server import Server  # noqa: E402

FULL = Plan(
    sizes=(100, 1_000, 10_000, 100_000, 1_000_000),
    studies=(1, 10, 100, 1_000),
    clients=(1, 2, 4, 8, 16, 32, 64),
    repeats=200,
    seconds=3.0,
)
QUICK = Plan(sizes=(100, 400, 1_600), studies=(1, 10), clients=(1, 4), repeats=10, seconds=1.0, many=5)
BLOCK = re.compile(r"(<!-- (?:measured|calculated): ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
# what the calculation assumes; it stands on the page, too
STUDIES, SITES, PARTICIPANTS = 1_000, 100, 100_000
PEOPLE_A_SITE, RECORDS_A_PERSON, RECORDS_A_PARTICIPANT = 2, 3, 3
YEARS, DAYS_A_YEAR, HOURS_A_DAY, PEAK = 2, 250, 10, 10


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, 40 seconds: to see that it runs")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="RECORDS", help="records of one study")
    parser.add_argument("--studies", type=int, nargs="+", metavar="N", help="studies in one database")
    parser.add_argument("--clients", type=int, nargs="+", metavar="N", help="clients at once")
    parser.add_argument("--repeats", type=int, help="of each append and reveal")
    parser.add_argument("--seconds", type=float, help="of each load")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the tables between the markers of this page")
    given = parser.parse_args()
    base = QUICK if given.quick else FULL
    plan = Plan(
        sizes=tuple(sorted(given.sizes or base.sizes)),
        studies=tuple(sorted(given.studies or base.studies)),
        clients=tuple(sorted(given.clients or base.clients)),
        repeats=given.repeats or base.repeats,
        seconds=given.seconds or base.seconds,
        many=base.many,
    )
    with tempfile.TemporaryDirectory(prefix="allocator-scale-") as folder, scale_server() as server:
        measured = measure(server, Path(folder), plan)
    measured.tables.extend([assumed(), calculated(measured)])
    for table in measured.tables:
        print(f"\n{table.name}\n{table}")
    if given.write:
        write(given.write, measured)
    told("done")


def measure(server: Server, folder: Path, plan: Plan) -> Measured:
    """Everything, in an order in which nothing is measured on what was spoilt before."""
    measured = Measured()
    measured.tables.append(machine(server))
    told(f"a log of {plan.sizes[-1]:,} true records in a file")
    source = true_log(folder / "source", plan.sizes[-1], plan.repeats * 2 + 500)
    body = body_with_places(source.allocated())
    with ExitStack() as stack:
        made = parts.opened(source, server, folder, plan, stack)
        size = room.bytes_of(made[-1].server)
        before = {study.records: parts.whole_reads(study.server) for study in made}
        acts = parts.reveals(made, plan, measured)
        scans = {study.records: parts.whole_reads(study.server) - before[study.records] for study in made}
        measured.tables.append(room.space(made[-1], size, source, plan, measured))
        measured.tables.append(room.copies(made, folder, measured))
        measured.tables.append(room.base_backup(server, folder, measured))
        plain = parts.appends(made, body, plan, measured)
        measured.tables.append(parts.growth(made, (acts, plain), scans, measured))
        measured.tables.append(room.connections(made[0].server, body, measured))
    measured.tables.append(parts.many_studies(source, server, body, plan))
    measured.tables.append(parts.many_clients(source, server, body, plan, measured))
    return measured


def machine(server: Server) -> Table:
    """Where it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = asked(server, "SELECT current_setting('server_version')")[0]
    names = ("shared_buffers", "max_connections", "fsync", "synchronous_commit")
    settings = [f"{name} {asked(server, 'SELECT current_setting(%s)', name)[0]}" for name in names]
    rows = [
        ("cores, memory", f"{len(os.sched_getaffinity(0))}, {memory:.0f} GiB"),
        ("other work on it: processes that wanted to run in the minute before", f"{os.getloadavg()[0]:.1f}"),
        ("Python, PostgreSQL", f"{platform.python_version()}, {str(version).split()[0]}"),
        ("server", "on the same machine, over TCP on loopback; " + ", ".join(settings)),
    ]
    return Table(name="machine", head=("", "of the run"), rows=rows)


def assumed() -> Table:
    """What the calculation takes for granted."""
    rows = [
        ("studies; sites of each", f"{STUDIES:,}; {SITES:,}"),
        ("people a site", f"{PEOPLE_A_SITE:,}"),
        ("records a person: added, enrolled, granted", f"{RECORDS_A_PERSON:,}"),
        ("records a participant: confirmed, allocated, one more", f"{RECORDS_A_PARTICIPANT:,}"),
        ("a record's size", "as measured, on average"),
        ("recruiting", f"{YEARS} years, {DAYS_A_YEAR} days a year, {HOURS_A_DAY} hours a day"),
        ("the busiest hour", f"{PEAK} times the mean"),
    ]
    return Table(name="assumed", head=("assumed", ""), rows=rows)


def calculated(measured: Measured) -> Table:
    """From the figures measured to a thousand studies: 100,000 participants in all, and in each."""
    facts = measured.facts
    columns = []
    for participants in (PARTICIPANTS, PARTICIPANTS * STUDIES):
        people = STUDIES * SITES * PEOPLE_A_SITE * RECORDS_A_PERSON
        records = people + participants * RECORDS_A_PARTICIPANT
        mean = participants / (YEARS * DAYS_A_YEAR * HOURS_A_DAY * 3600)
        peak = PEAK * mean * RECORDS_A_PARTICIPANT
        each = records / STUDIES
        columns.append(
            (
                whole(participants),
                whole(records),
                whole(each),
                f"{records * facts['bytes'] / 1e9:,.1f} GB",
                f"{records * facts['index-bytes'] / 1e9:,.1f} GB",
                f"{records * facts['wal'] / 2 / 1e9:,.1f} GB",
                f"{mean:.4f}/s",
                f"{peak:.2f}/s",
                f"{PEAK * mean * facts['act']:.2f}",
                _share(peak / facts["rate-fifty"]),
                _share(peak / STUDIES / facts["rate-one"]),
                f"{each / facts['verify']:,.1f} s",
                _hours(records / facts["verify"]),
                _hours(records / facts["dump"]) if "dump" in facts else "–",
                _hours(records * facts["bytes"] / facts["base"]) if "base" in facts else "–",
                f"{1_000 * facts['connection'] / 1e9:,.1f} GB" if "connection" in facts else "–",
            )
        )
    names = (
        *("participants in all", "records in all", "records in one study", "tables and indexes", "of it indexes"),
        *("WAL written over the years, without whole pages", "participants arriving, mean"),
        *(
            "records to be written at peak",
            "application processes busy with confirmations and reveals at peak",
            "that peak / rate reached on fifty studies",
        ),
        *("one study's peak / rate reached on one study", "verify one study", "verify every study, one after another"),
        *("pg_dump of everything", "base backup of everything", "memory of 1,000 connections"),
    )
    head = ("calculated", f"{PARTICIPANTS:,} in all", f"{PARTICIPANTS:,} in each study")
    return Table(name="thousand", head=head, rows=list(zip(names, *columns, strict=True)))


def _share(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 else "below 0.01%"


def _hours(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:,.1f} h"


def write(page: Path, measured: Measured) -> None:
    """Tables into the page, between their markers; all else of it stays. KeyError for a marker without a table."""
    from scale_plot import draw

    tables = {table.name: f"\n{table}\n\n" for table in measured.tables}
    text = page.read_text("utf-8")
    assert set(tables) == {name for _, name, _ in BLOCK.findall(text)}, "the page's markers are not the tables"
    page.write_text(BLOCK.sub(lambda m: m[1] + tables[m[2]] + m[3], text), "utf-8")
    draw(measured.curves, page.with_name("scale-curves.svg"))


if __name__ == "__main__":
    main()

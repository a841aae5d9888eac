"""Every fault, and what comes of it: `python faults/run.py [--quick] [--write docs/faults.md]`. Needs strace.

Exits 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from acts import ACTS, Sites  # noqa: E402
from calls import Call, Row, available, calls_of, faults_of, try_fault  # noqa: E402
from conditions import CONDITIONS, try_condition  # noqa: E402

INTRO = """# Faults

Made by `make faults`: a real `reveal` and a real `confirm`, each on a home of its own, with one thing going wrong.
Nothing in the program knows of it: `strace` makes one system call fail, or kills the process before it (a kill before a
call is a kill after the one above it).

After each fault: `allocator verify` finds nothing; what was shown is in the log; "nothing was written" is said only
when that is so; no position and no number is lost or used twice; and **the same request, made again, is answered**,
with the same arm where one was shown.

A row stands for a call on one file, or for several in a row. *Unknown* is the answer when the disk failed while the
record was made durable and it stands there all the same: nothing is shown until somebody asks again.
"""


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one call of each sort and file, no conditions of the disk"
    )
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the table as Markdown")
    given = parser.parse_args()
    if not available():
        sys.exit("strace is needed: install it by that name.")
    with tempfile.TemporaryDirectory(prefix="allocator-faults-") as folder:
        sites = Sites(Path(folder))
        rows, missing = every_call(sites, quick=given.quick)
        text = [INTRO, *call_tables(rows)]
        table, broken_conditions, left_out = condition_table(sites, quick=given.quick)
        text += table
    broken = [(f"{row.act} {row.call.name} {row.call.file} {row.fault}", row.outcome.broken) for row in rows]
    broken = [item for item in (*broken, *broken_conditions) if item[1]]
    text.append(f"\n{len(rows)} faults of system calls; {len(broken)} broken promises." + left_out + missing)
    print("\n".join(text))
    for what, promises in broken:
        print(f"BROKEN  {what}: {'; '.join(promises)}")
    if given.write:
        given.write.write_text("\n".join(text) + "\n", encoding="utf-8")
    sys.exit(1 if broken else 0)


def every_call(sites: Sites, *, quick: bool) -> tuple[list[Row], str]:
    """Each call of each act with each of its faults; two at a time."""
    jobs = [
        (act, call, fault) for act in ACTS for call in _chosen(sites, act, quick=quick) for fault in faults_of(call)
    ]
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda job: try_fault(sites, *job), jobs))
    return rows, ""


def _chosen(sites: Sites, act: str, *, quick: bool) -> list[Call]:
    calls = calls_of(sites.new(), act)
    if not quick:
        return calls
    first = {(call.sort, call.file): call for call in reversed(calls)}
    return [call for call in calls if first[call.sort, call.file] is call]


def call_tables(rows: list[Row]) -> list[str]:
    """One table an act: a line for each run of calls on one file."""
    lines = []
    for act in ACTS:
        lines += [
            f"\n## {act}\n",
            "| call | file | fault | seen | in the log | asked again |",
            "|---|---|---|---|---|---|",
        ]
        own = [row for row in rows if row.act == act]
        for (name, file), group in groupby(own, key=lambda row: (row.call.name, row.call.file)):
            lines += _lines_of(name, file, list(group))
    return lines


def _lines_of(name: str, file: str, rows: list[Row]) -> list[str]:
    count = len({row.call.ordinal for row in rows})
    label = f"`{name}`" + (f" ×{count}" if count > 1 else "")
    by_outcome: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        outcome = (row.outcome.seen, row.outcome.logged, row.outcome.after)
        faults = by_outcome.setdefault(outcome, [])
        if row.fault not in faults:
            faults.append(row.fault)
    return [
        f"| {label} | {file} | {', '.join(faults)} | {seen} | {logged} | {after} |"
        for (seen, logged, after), faults in by_outcome.items()
    ]


def condition_table(sites: Sites, *, quick: bool) -> tuple[list[str], list[tuple[str, tuple[str, ...]]], str]:
    """The conditions, for both acts; which promises they broke, and what could not be made here."""
    lines = ["\n## The place\n", "| what | act | seen | in the log | asked again |", "|---|---|---|---|---|"]
    broken, left_out = [], set()
    for name, condition in CONDITIONS.items():
        if quick and name in ("terminal dies", "lock held by a stopped process"):
            continue
        for act in ACTS:
            outcome = try_condition(sites, act, name)
            if outcome is None:
                left_out.add(name)
                continue
            lines.append(f"| {name} | {act} | {outcome.seen} | {outcome.logged} | {outcome.after} |")
            broken.append((f"{act} {name} ({condition.__doc__})", outcome.broken))
    said = f" Not possible on this machine: {', '.join(sorted(left_out))}." if left_out else ""
    return lines, broken, said


if __name__ == "__main__":
    main()

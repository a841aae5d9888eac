"""Many processes on the same studies at once, in files or in PostgreSQL.

    python load/at_once.py                                            32 processes on one study, its log a file
    python load/at_once.py --postgres                                 the same in PostgreSQL
    python load/at_once.py --postgres --processes 64 --studies 50     over fifty studies of one home
    python load/at_once.py --postgres --homes 2                       two application hosts: copies of the home

Each process confirms and reveals participants of its own, over two strata; two pharmacists ask for the same participant
at the same moment; beside them `verify` and `backup` run again and again, and `log --follow` all the time. Prints how
long each act waited. Nothing is given twice, no place is left out, every answer is the log's, or it exits 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from at_faults import Load, Told, faults, report  # noqa: E402
from at_work import SITES, confirm, opened, participant  # noqa: E402

import support  # noqa: E402
from allocator.session import system_clock  # noqa: E402
from support import PASSPHRASE, Clock, Trial  # noqa: E402

PAIR = 999  # the worker's number of the participants for whom two ask
FOLLOWED = 3  # studies whose log is followed, at most
CATCH_UP = 30.0  # seconds in which who follows must have seen the end
TURNS = ("verify", "backup")  # again and again
BESIDE = (*TURNS, "log --follow")


def build(folder: Path, *, processes: int, each: int, pairs: int, studies: int = 1, homes: int = 1) -> Load:
    """Studies with room for all, active, with two pharmacists: in PostgreSQL where ALLOCATOR_STORE says so."""
    names = tuple(f"LOAD-{number:03d}" for number in range(studies))
    room = -(-processes // studies) * each + pairs
    first = folder / "home-0"
    for name in names:
        data = support.study_bytes(stratified=True, enrollment=room).replace(
            f'id = "{support.STUDY_ID}"'.encode(), f'id = "{name}"'.encode(), 1
        )
        stages, actors, _ = support._build(folder / name, data, support.design(length=room), [])
        shutil.copytree(stages["active"], first, dirs_exist_ok=True)
        shutil.rmtree(folder / name)
        trial = Trial(home=first, service=opened(first, name), actors=actors, clock=Clock(system_clock()))
        trial.enrol("PH2", "pharmacist")
        trial.service.grant(actors["ST"], "PH2")
        trial.close()
    copies = [Path(shutil.copytree(first, folder / f"home-{number}")) for number in range(1, homes)]
    return Load(homes=(first, *copies), studies=names, processes=processes, each=each, pairs=pairs)


# ---- at once --------------------------------------------------------------------------------------------------------


def run(load: Load, *, beside: tuple[str, ...] = BESIDE) -> Told:
    """All processes to their end; RuntimeError with its words where one failed."""
    told, workers, observers = Told(), list[subprocess.Popen[str]](), dict[str, subprocess.Popen[str]]()
    try:
        # a thread for each process: one whose lines nobody took would stand still
        with ThreadPoolExecutor(load.processes + 1) as pool, _followed(load, told, "log --follow" in beside):
            for number in range(load.processes):
                home, study = load.homes[number % len(load.homes)], load.studies[number % len(load.studies)]
                workers.append(_start("work", home, study, number, load.each))
            for worker in workers:
                _answer(worker)  # it is ready
            observers |= {kind: _start(kind, load.homes[0], *load.studies) for kind in beside if kind in TURNS}
            begin = threading.Barrier(2, timeout=120)
            pairs = pool.submit(ask_side_by_side, load, begin)
            begin.wait()
            started = time.perf_counter()
            for worker in workers:
                _say(worker, "go")
            for lines in pool.map(_ended, workers):
                told.acts += lines
            told.acts += pairs.result()
            told.seconds = time.perf_counter() - started
            for observer in observers.values():
                observer.terminate()
            for kind, observer in observers.items():
                _add_turns(told, kind, _ended(observer))
    finally:
        for process in (*workers, *observers.values()):
            process.kill()  # nothing where it has ended
    return told


def _add_turns(told: Told, kind: str, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        told.turns[kind] += "turn" in line
        told.found += [f"{kind}: {line['found']}"] if "found" in line else []


def _start(*arguments: object) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, str(Path(__file__).with_name("at_work.py")), *map(str, arguments)], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _ended(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=3_600)
    if process.returncode or err:
        raise RuntimeError(err)
    return [json.loads(line) for line in out.splitlines()]


def ask_side_by_side(load: Load, begin: threading.Barrier) -> list[dict[str, Any]]:
    """Two pharmacists, each a process, on two hosts where there are two, ask for one participant at one moment."""
    study, homes = load.studies[0], (load.homes[0], load.homes[-1])
    askers = [_start("ask", home, study, who) for home, who in zip(homes, ("PH", "PH2"), strict=True)]
    service, lines = opened(homes[0], study), []
    actor = service.authenticate("IN", lambda: PASSPHRASE, "load")
    try:
        for asker in askers:
            _answer(asker)  # it is ready
        begin.wait()
        for number in range(load.pairs):
            who = participant(PAIR, number)
            lines.append(confirm(service, actor, who, SITES[number % 2]))
            for asker in askers:
                _say(asker, who)
            lines += [_answer(asker) for asker in askers]
    finally:
        service.close_files()
        for asker in askers:
            asker.communicate(timeout=60)  # closes its input, which ends it
    return lines


def _answer(asker: subprocess.Popen[str]) -> dict[str, Any]:
    assert asker.stdout is not None and asker.stderr is not None
    line = asker.stdout.readline()
    if not line:
        raise RuntimeError(asker.stderr.read())
    return dict(json.loads(line))


@contextmanager
def _followed(load: Load, told: Told, really: bool) -> Iterator[None]:
    """`log --follow` all the while: its lines are the log's, in order, none missing and none twice."""
    step = max(1, len(load.studies) // FOLLOWED)
    studies = load.studies[::step][:FOLLOWED] if really else ()
    with tempfile.TemporaryDirectory() as folder:
        followers = []
        for study in studies:
            command = [sys.executable, "-m", "allocator", "--home", str(load.homes[-1]), "--study", study, "--json"]
            with (Path(folder) / study).open("wb") as stream:
                process = subprocess.Popen([*command, "log", "--follow"], stdout=stream, stderr=subprocess.PIPE)
            followers.append(process)
        try:
            yield
            for study in studies:
                told.found += _check_followed(load.homes[0], study, Path(folder) / study)
                told.turns["log followed"] += 1
        finally:
            for process in followers:
                process.send_signal(signal.SIGINT)
            errors = [process.communicate(timeout=60)[1].decode() for process in followers]
        told.found += [f"log --follow: {error[-800:]}" for error in errors if "Traceback" in error]


def _check_followed(home: Path, study: str, file: Path) -> list[str]:
    service = opened(home, study)
    logged = [(record.seq, record.kind) for record in service.records()]
    service.close_files()
    end, seen = time.monotonic() + CATCH_UP, list[Any]()
    while len(seen) < len(logged) and time.monotonic() < end:
        time.sleep(0.2)
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        seen = [(line["seq"], line["kind"]) for line in lines]
    return [] if seen == logged else [f"log --follow of {study}: {len(seen)} lines of {len(logged)}, or another order"]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--each", type=int, default=200, help="participants of each process")
    parser.add_argument("--studies", type=int, default=1)
    parser.add_argument("--homes", type=int, default=1, help="application hosts on the same database")
    parser.add_argument("--pairs", type=int, default=50, help="participants for whom two ask at the same moment")
    parser.add_argument("--postgres", action="store_true", help="the logs in a PostgreSQL server of its own")
    parser.add_argument("--alone", action="store_true", help="without verify, log and backup beside them")
    given = parser.parse_args()
    if given.homes > 1 and not given.postgres:
        parser.error("several homes have one log only in PostgreSQL: add --postgres")
    from in_postgres import Connections, in_postgres

    sizes = {name: getattr(given, name) for name in ("processes", "each", "studies", "homes", "pairs")}
    with (
        tempfile.TemporaryDirectory(prefix="allocator-load-") as folder,
        in_postgres(given.processes) if given.postgres else nullcontext() as server,
    ):
        load = build(Path(folder), **sizes)
        with Connections(server) if server else nullcontext() as connections:
            told = run(load, beside=() if given.alone else BESIDE)
        found = faults(load, told)
    print("\n".join(report(load, told)))
    if connections:
        print(f"PostgreSQL {connections.version}, at most {connections.most} connections at once")
    for fault in found:
        print("FAULT", fault)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

"""Many processes on one home at once: `python load/at_once.py [--processes 32] [--each 200]`.

Each confirms and reveals participants of its own, over two strata; beside them `verify`, `log --follow` and `backup`
run all the time. Prints how long each act waited. Nothing is given twice, no place is left out, or it exits 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from allocator.errors import StorageError  # noqa: E402
from allocator.evidence import read_evidence  # noqa: E402
from allocator.session import system_clock  # noqa: E402
from allocator.verify import verify  # noqa: E402
from support import PASSPHRASE, Trial, TrialFactory, eligible_form, open_service  # noqa: E402

SITES = ("A", "B")


def participant(worker: int, number: int) -> str:
    """An id of this worker's own."""
    return f"P-{worker:03d}{number:03d}"


def work(home: Path, worker: int, each: int) -> None:
    """One process: its participants, one after another, each act timed."""
    service = open_service(home, system_clock)  # type: ignore[arg-type]
    actors = {who: service.authenticate(who, lambda: PASSPHRASE, "load") for who in ("IN", "PH")}
    form = eligible_form("P-001", system_clock())
    for number in range(each):
        who, stratum = participant(worker, number), {"site": SITES[number % 2]}
        for name, act in (
            ("confirm", lambda w=who, s=stratum: service.confirm(actors["IN"], w, form, s)),
            ("reveal", lambda w=who: service.reveal(actors["PH"], w, w)),
        ):
            told: dict[str, Any] = {"participant": who, "act": name}
            for attempt in range(5):
                started = time.perf_counter()
                try:
                    done = act()  # type: ignore[no-untyped-call]
                    told |= {"seconds": time.perf_counter() - started, "tries": attempt + 1}
                    told |= (
                        {"number": done.number, "position": done.record.fields["position"]} if name == "reveal" else {}
                    )
                    break
                except StorageError as error:
                    told |= {"error": error.code, "seconds": time.perf_counter() - started}
            print(json.dumps(told), flush=True)
    service.close_files()


def build(factory: TrialFactory, participants: int) -> Trial:
    """A study with room for them all, ready."""
    trial = factory(stratified=True, enrollment=participants, length=participants)
    trial.service.close_files()
    trial.clock.now = system_clock()
    return trial


def run(trial: Trial, processes: int, each: int, *, beside: bool) -> list[dict[str, Any]]:
    """All processes to their end; what each act told."""
    workers = [_start("work", str(trial.home), str(worker), str(each)) for worker in range(processes)]
    observers = [_start("beside", str(trial.home), kind) for kind in ("verify", "log", "backup")] if beside else []
    lines: list[dict[str, Any]] = []
    for worker in workers:
        out, err = worker.communicate(timeout=3_600)
        if worker.returncode:
            raise RuntimeError(err)
        lines += [json.loads(line) for line in out.splitlines()]
    for observer in observers:
        observer.terminate()
        _, err = observer.communicate(timeout=60)
        if "FOUND" in err or "Traceback" in err:
            raise RuntimeError(err)
    return lines


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__)), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stand_beside(home: Path, kind: str) -> None:
    """Verify, follow the log, or back up, again and again; says FOUND when something does not hold."""
    command = [sys.executable, "-m", "allocator", "--home", str(home), "--json"]
    environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE}
    for turn in range(100_000):
        with tempfile.TemporaryDirectory() as folder:
            arguments = {
                "verify": ["verify", "--jobs", "1"],
                "log": ["log"],
                "backup": ["--as", "SP", "backup", str(Path(folder) / "b.tar")],
            }[kind]
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
            if done.returncode not in (0, 5):
                print(f"FOUND in turn {turn}: {done.stdout[-800:]} {done.stderr[-800:]}", file=sys.stderr, flush=True)
                return
        time.sleep(0.3)


def faults(trial: Trial, lines: list[dict[str, Any]]) -> list[str]:
    """Whatever does not hold: two of one, a gap, an answer that is not the log's, an error but busy."""
    found = []
    if errors := {line["error"] for line in lines if "error" in line} - {"busy"}:
        found.append(f"errors {errors}")
    with read_evidence(trial.place) as evidence:
        verdict = verify(evidence)
    if verdict.verdict != "intact-local":
        found.append(f"verdict {verdict.verdict} {verdict.findings[:3]}")
    service = trial.again()
    logged = [record.fields for record in service.records() if record.kind == "allocated"]
    told = {line["participant"]: line for line in lines if line["act"] == "reveal" and "number" in line}
    if [fields["number"] for fields in logged] != list(range(1, len(logged) + 1)):
        found.append("numbers are not 1, 2, 3, …")
    if max(Counter(fields["participant"] for fields in logged).values(), default=1) > 1:
        found.append("a participant has two")
    for site in SITES:
        positions = sorted(f["position"] for f in logged if f["stratum"]["site"] == site)
        if len(told) == len(lines) // 2 and positions != list(range(len(positions))):
            found.append(f"a gap in stratum {site}")
    for fields in logged:
        line = told.get(fields["participant"])
        if line is not None and (line["number"], line["position"]) != (fields["number"], fields["position"]):
            found.append(f"{fields['participant']} was told something else than the log holds")
    return found


def main() -> None:
    """Run and print."""
    if sys.argv[1:2] == ["work"]:
        work(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    if sys.argv[1:2] == ["beside"]:
        stand_beside(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--alone", action="store_true", help="without verify, log and backup beside them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allocator-load-") as folder:
        (Path(folder) / "homes").mkdir()
        trial = build(TrialFactory(Path(folder) / "t", Path(folder) / "homes", {}), given.processes * given.each)
        started = time.perf_counter()
        lines = run(trial, given.processes, given.each, beside=not given.alone)
        seconds = time.perf_counter() - started
        found = faults(trial, lines)
        trial.close()
    waits = sorted(line["seconds"] for line in lines)
    median, last = statistics.median(waits), waits[-1]
    busy = sum("error" in line for line in lines)
    print(f"{len(lines)} acts by {given.processes} processes in {seconds:.0f} s, {len(lines) / seconds:.0f}/s")
    print(f"waiting: median {median * 1e3:.0f} ms, 99 % {waits[int(len(waits) * 0.99)] * 1e3:.0f} ms, "
          f"longest {last * 1e3:.0f} ms = {last / median:.1f} times the median; busy {busy}")  # fmt: skip
    for fault in found:
        print("FAULT", fault)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

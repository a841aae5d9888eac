"""A multi-site study from its first to its last participant, drawn from a seed and lived at speed.

`python load/simulation.py [--seed N] [--participants 300] [--commands 6] [--postgres]`. Arrivals, screening failures,
retries, double clicks, wrong retypes, expired and withdrawn confirmations, staff changes, pauses, outages with entries
on paper, a clock that jumps, backups and lost disks; beside it a model of who has what. At the end the log must say the
same as the model, and `verify` must find nothing.

With `--postgres` the log is in a database. Instead of a lost disk, the database is put back to where it was at the last
backup, which the home must notice; the home is lost and restored beside the database; connections are ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from life import HOURS, Life  # noqa: E402

from allocator.session import system_clock  # noqa: E402
from postgres_server import Server  # noqa: E402
from support import PASSPHRASE, TrialFactory, eligible_form  # noqa: E402


def live(seed: int, participants: int, folder: Path, database: Server | None = None) -> Life:
    """One life; AssertionError where the log and the model part.

    Args:
        seed: decides everything.
        participants: that arrive.
        folder: for homes and backups.
        database: with the log, empty, chosen by ALLOCATOR_STORE: which is changed where the database is put back.
    """
    (folder / "homes").mkdir(parents=True)
    factory = TrialFactory(folder / "templates", folder / "homes", {})
    trial = factory(stratified=True, enrollment=4 * participants + 100, length=6 * participants + 100, hours=HOURS)
    life = Life(trial=trial, random=random.Random(seed), folder=folder, database=database)
    with life.databases:
        for _ in range(participants):
            life.participant_arrives()
            life.something_else_happens()
        life.check()
        factory.close()
    return life


def live_by_commands(seed: int, participants: int, folder: Path) -> Counter[str]:
    """A short life through the commands, some of which are killed at a moment drawn from the seed."""
    (folder / "homes").mkdir(parents=True)
    factory = TrialFactory(folder / "templates", folder / "homes", {})
    trial, chance = factory(enrollment=participants + 1, length=participants + 20), random.Random(seed)
    trial.close()
    events: Counter[str] = Counter()
    told: dict[str, Any] = {}

    def command(who: str, *arguments: str, killed_after: float | None = None) -> tuple[int, dict[str, Any]]:
        line = [sys.executable, "-m", "allocator", "--home", str(trial.home), "--json", "--as", who, *arguments]
        environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE}
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        if killed_after is not None:
            time.sleep(killed_after)
            process.kill()
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err
        return process.returncode, json.loads(out) if out.strip() else {}

    for number in range(1, participants + 1):
        who, answers = f"P-{number:03d}", folder / "answers.json"
        from allocator.answers_form import form_bytes

        answers.write_bytes(form_bytes(eligible_form("P-001", system_clock())))
        assert command("IN", "confirm", who, "--answers", str(answers))[0] == 0
        request = ("reveal", who, "--retype", who)
        if chance.random() < 0.5:
            events["killed"] += 1
            _, said = command("PH", *request, killed_after=chance.uniform(0.0, 0.5))
            told |= {who: said["arm"]} if "arm" in said else {}
        code, said = command("PH", *request)
        assert code == 0 and said["number"] == number, said
        assert told.get(who, said["arm"]) == said["arm"], "another arm than the one shown"
        events["asked"] += 1
    code, verdict = command("AU", "verify")
    assert (code, verdict["verdict"]) == (0, "intact-local"), verdict
    return events


def main() -> None:
    """Live one and tell of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--participants", type=int, default=300)
    parser.add_argument("--commands", type=int, default=6, help="participants of the short life through commands")
    parser.add_argument("--postgres", action="store_true", help="the logs in a PostgreSQL server of its own")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    from in_postgres import in_postgres

    with tempfile.TemporaryDirectory(prefix="allocator-simulation-") as folder:
        with in_postgres(2) if given.postgres else nullcontext() as database:
            started = time.perf_counter()
            life = live(seed, given.participants, Path(folder) / "service", database)
            days, seconds = (life.trial.clock.now - system_clock()).days, time.perf_counter() - started
            print(f"{len(life.given)} allocated in {days} days, lived in {seconds:.0f} s")
            print("  " + ", ".join(f"{what} {count}" for what, count in sorted(life.events.items())))
        with in_postgres(2) if given.postgres else nullcontext():
            events = live_by_commands(seed, given.commands, Path(folder) / "commands")
            print("through the commands: " + ", ".join(f"{what} {count}" for what, count in sorted(events.items())))


if __name__ == "__main__":
    main()

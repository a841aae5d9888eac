"""The state machine and the simulated study, with a new seed each turn, for as long as asked: `make soak SECONDS=600`.

Every seed is printed before its turn; `python load/soak.py --seed N` lives one turn again. Exits 1 at the first fault.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def turn(seed: int, *, postgres: bool = False) -> int:
    """One life of the simulated study, then many of the state machine; the exit code of the first that failed."""
    lives = [sys.executable, str(ROOT / "load" / "simulation.py"), "--seed", str(seed), "--commands", "3"]
    lives += ["--postgres"] * postgres
    machine = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}", str(ROOT / "tests/test_lifecycle.py")]
    environment = {**os.environ, "ALLOCATOR_SOAK": "4"}
    environment.pop("CI", None)  # there the state machine lives the same lives each time
    return subprocess.call(lives) or subprocess.call(machine, cwd=ROOT, env=environment)


def main() -> None:
    """Turn after turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--postgres", action="store_true", help="the simulated study's log in PostgreSQL")
    given = parser.parse_args()
    end, turns = time.monotonic() + given.seconds, 0
    while turns == 0 or (given.seed is None and time.monotonic() < end):
        seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "big")
        print(f"turn {turns + 1}: seed {seed}", flush=True)
        if code := turn(seed, postgres=given.postgres):
            print(f"FAULT with seed {seed}: python load/soak.py --seed {seed}{' --postgres' * given.postgres}")
            sys.exit(code)
        turns += 1
    print(f"{turns} turns without a fault")


if __name__ == "__main__":
    main()

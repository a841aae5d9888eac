"""A long log moved to PostgreSQL and back, by the command: how long it takes, and how much memory.

    python load/moving.py --records 100000

It starts a server of its own, as the tests do, makes a true log of so many records, and prints a line for each way.
Exits 1 where a verdict is not `intact-local`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from homes import active_trial, fill  # noqa: E402

from allocator.stores import VARIABLE  # noqa: E402
from postgres_server import postgres_server  # noqa: E402
from support import PASSPHRASE  # noqa: E402


def main() -> int:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, metavar="N", help="length of the log")
    wanted = parser.parse_args().records
    os.environ.pop(VARIABLE, None)
    with tempfile.TemporaryDirectory(prefix="allocator-moving-") as folder, postgres_server() as server:
        if server is None:
            print("no PostgreSQL: install the extra `dev`, or set ALLOCATOR_TEST_POSTGRES")
            return 1
        home = Path(folder) / "home"
        trial = active_trial(home, length=wanted // 2 + 2_000)
        fill(trial, wanted)
        trial.close()
        password = server.writer.partition("//")[2].partition("@")[0].partition(":")[2]
        address = server.writer.replace(f":{password}@", "@")
        given = {"ALLOCATOR_PASSPHRASE": PASSPHRASE, "PGPASSWORD": password}
        ways: tuple[tuple[str, dict[str, str]], ...] = ((address, {}), ("file", {VARIABLE: address}))
        return max(_moved(home, to, {**os.environ, **given, **more}) for to, more in ways)


def _moved(home: Path, to: str, environment: dict[str, str]) -> int:
    """Run the command, and print what it took."""
    command = [sys.executable, "-m", "allocator", "--json", "--home", str(home), "--as", "SP", "move", to]
    begun, (reading, writing) = time.monotonic(), os.pipe()
    process = os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)],
    )
    os.close(writing)
    with os.fdopen(reading) as stream:
        result = json.loads(stream.read())
    _, _, used = os.wait4(process, 0)
    verdict = result.get("verdict", {})
    print(
        f"to {'a file' if to == 'file' else 'PostgreSQL':<10}  {verdict.get('records', 0):>9,} records  "
        f"{time.monotonic() - begun:6.1f} s  {used.ru_maxrss / 1024:6.0f} MiB  {verdict.get('verdict', result)}",
        flush=True,
    )
    return 0 if verdict.get("verdict") == "intact-local" else 1


if __name__ == "__main__":
    sys.exit(main())

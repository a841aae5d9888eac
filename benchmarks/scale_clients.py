"""Many clients at once: processes that append through the store, and pgbench with the same statements.

    python benchmarks/scale_clients.py ADDRESS CLIENTS STUDIES SECONDS BODY   → one line of JSON

Each append is to one of study-1 … study-STUDIES, drawn anew. All are connected, and have appended to each of the first
fifty, before the first one is timed. pgbench sends the plain four statements of `benchmarks/postgres.py`.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from allocator.log import Record
from allocator.postgres_pool import PostgresPool
from allocator.postgres_store import PostgresStore

FREE = 10_000_000  # positions from here on are nobody's
FOLLOWED = 50  # studies that each client has appended to before it is timed
PGBENCH = r"""\set study random(1, {studies})
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT turn FROM allocator.study WHERE study = 'study-' || :study FOR UPDATE;
INSERT INTO allocator.record (study, seq, prev, body, kind, participant, stratum, position)
SELECT study, seq + 1, sha256('\x00'::bytea || prev || convert_to(body, 'UTF8')),
    replace(replace(replace(:body, '@seq', (seq + 1)::text), '@participant', 'X-' || (seq + 1)),
    '@position', (seq + 1 + {free})::text), 'allocated', 'X-' || (seq + 1), '{{}}', seq + 1 + {free}
FROM allocator.record WHERE study = 'study-' || :study ORDER BY seq DESC LIMIT 1;
COMMIT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What so many clients reached: appends a second; their waits in seconds, half and 99 of 100 below."""

    rate: float
    p50: float
    p99: float

    @classmethod
    def of(cls, waits: list[float], seconds: float) -> Crowd:
        """From the wait of each append."""
        waits = sorted(waits)
        at = lambda share: waits[min(len(waits) - 1, math.ceil(share * len(waits)) - 1)]  # noqa: E731
        return cls(rate=len(waits) / seconds, p50=at(0.5), p99=at(0.99))


def body_with_places(body: bytes) -> bytes:
    """A true `allocated` body with places for what differs between records."""
    fields = json.loads(body)
    for name in ("participant", "position", "seq"):
        old = json.dumps({name: fields[name]}, separators=(",", ":"))[1:-1].encode()
        new = b'"%s":"@%s"' if name == "participant" else b'"%s":@%s'
        body = body.replace(b"," + old, b"," + new % (name.encode(), name.encode()))
    return body


def append(store: PostgresStore, body: bytes) -> None:
    """The whole contract of a log: one's turn, the last record read, the next one linked to it, durable."""
    with store.transaction():
        last = store.last()
        assert last is not None
        fields = {
            "seq": last.seq + 1,
            "kind": "allocated",
            "participant": f"X-{last.seq + 1}",
            "stratum": {},
            "position": last.seq + 1 + FREE,
        }
        for name in ("seq", "participant", "position"):
            body = body.replace(b"@" + name.encode(), str(fields[name]).encode())
        store.append(Record(prev=last.hash, body=body, fields=fields), {})


def ours(address: str, body: bytes, *, clients: int, studies: int, seconds: float) -> Crowd:
    """So many processes through the store, in a process of its own."""
    command = [sys.executable, __file__, address, str(clients), str(studies), str(seconds), body.decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    return Crowd.of(told["waits"], told["seconds"])


def pgbench(program: str, address: str, body: bytes, *, clients: int, studies: int, seconds: float) -> Crowd:
    """So many clients of pgbench with the same statements, prepared, in threads of one process."""
    with tempfile.TemporaryDirectory(prefix="allocator-pgbench-") as folder:
        script = Path(folder) / "append.sql"
        script.write_text(PGBENCH.format(studies=studies, free=FREE), "utf-8")
        command = [program, "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-T"]
        command += [str(max(1, round(seconds))), "-f", str(script), "-l", "-D", f"body={body.decode()}", address]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        found = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
        assert found is not None, done.stdout
        lines = [line for log in Path(folder).glob("pgbench_log.*") for line in log.read_text().splitlines()]
        waits = [int(line.split()[2]) / 1e6 for line in lines]
    return Crowd.of(waits, len(waits) / float(found[1]))


def main() -> None:
    """Fork, get ready, go, gather."""
    address, body = sys.argv[1], sys.argv[5].encode()
    clients, studies, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    context = get_context("fork")  # psycopg is imported once, and not sixty-four times
    barrier, answers = context.Barrier(clients), context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(address, studies, body, seconds, barrier, answers)) for n in range(clients)
    ]
    for worker in workers:
        worker.start()
    told = []
    for _ in workers:
        told.append(answers.get())
        if isinstance(told[-1], str):
            for worker in workers:
                worker.kill()
            sys.exit(told[-1])
    for worker in workers:
        worker.join()
    waits = [wait for own, _ in told for wait in own]
    print(json.dumps({"waits": waits, "seconds": max(taken for _, taken in told)}))


def _work(address: str, studies: int, body: bytes, seconds: float, barrier: Any, answers: Any) -> None:
    try:
        with PostgresPool(address, most=1) as pool:
            stores: dict[int, PostgresStore] = {}

            def once(number: int) -> None:
                if number not in stores:
                    stores[number] = PostgresStore(address, f"study-{number}", pool=pool)
                append(stores[number], body)

            for number in range(1, min(studies, FOLLOWED) + 1):
                once(number)
            barrier.wait(300)
            waits, start = [], time.perf_counter()
            before = start
            while before - start < seconds:
                once(random.randint(1, studies))
                now = time.perf_counter()
                waits.append(now - before)
                before = now
            answers.put((waits, before - start))
    except Exception as error:
        answers.put(f"client {os.getpid()}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

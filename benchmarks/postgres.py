"""Appends through `PostgresStore`, against what PostgreSQL itself reaches: pgbench with the same statements.

Ours are the clients of a service: threads with a connection each, of a pool, in two processes; pgbench's are in two
threads. Each makes a record that links to the last one, and appends it in a transaction of the store, as a reveal does.
Each client of pgbench sends the plain four statements one by one, prepared:
BEGIN, the study's row FOR UPDATE, an INSERT of as long a record that links to the last one, COMMIT. Both write into the
same database, each into studies of its own, for the same time, in turn. Then a whole reveal, rules and signature
included, and the length of the log.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

from measure import Row  # noqa: E402

from allocator.canonical import canonical_bytes  # noqa: E402
from allocator.log import FORMAT, GENESIS, KINDS, Record  # noqa: E402
from allocator.postgres_pool import PostgresPool  # noqa: E402
from allocator.postgres_store import PostgresStore, create_log  # noqa: E402
from allocator.store import Store  # noqa: E402
from postgres_server import Server, postgres_server  # noqa: E402

CLIENTS = (1, 8, 32)
STUDIES = 50
FIELDS = {
    "format": FORMAT,
    "seq": 0,
    "kind": "looked-up",
    "time": "2026-11-20T04:00:00.000Z",
    "mode": "test",
    "person": "PH",
    "role": "pharmacist",
    "meaning": KINDS["looked-up"].meaning,
    "signature": "00" * 64,
    "participant": "P-001",
    "allocation": 0,
    "program": "allocator " + "x" * 180,
}
BODY = canonical_bytes(FIELDS)
PEER = """\\set study random(1, {studies})
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT turn FROM allocator.study WHERE study = 'peer-' || :study FOR UPDATE;
INSERT INTO allocator.record (study, seq, prev, body, kind, participant, stratum, position)
SELECT study, seq + 1, sha256('\\x00'::bytea || prev || convert_to(body, 'UTF8')), body, kind, participant, stratum,
position FROM allocator.record WHERE study = 'peer-' || :study ORDER BY seq DESC LIMIT 1;
COMMIT;
"""


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """One row for each number of clients, on one study and on fifty."""
    seconds, repeats = (0.5, 1) if quick else (3.0, 5)
    with server(max_connections="120") as found:
        if found is None:
            print("no PostgreSQL here: its rows are left out", file=sys.stderr)
            return
        make_studies(found, "ours"), make_studies(found, "peer")
        rates: dict[tuple[int, int], tuple[float, float]] = {}
        for studies in (1, STUDIES):
            for clients in CLIENTS:
                pairs = [
                    (
                        append_rate(found, clients, studies, seconds),
                        pgbench_rate(found, folder, clients, studies, seconds),
                    )
                    for _ in range(repeats)
                ]
                ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
                rates[clients, studies] = ours, peer
                of, by = "studies" if studies > 1 else "study", "clients" if clients > 1 else "client"
                what = f"{studies} {of}, {clients} {by}: one append / pgbench's"
                yield Row(what=what, ours=1 / ours, peer=1 / peer, goal="<= 1.43 (70 %)")
        grouped = [
            (append_rate(found, 1, 1, seconds, grouped=8), pgbench_rate(found, folder, 1, 1, seconds))
            for _ in range(repeats)
        ]
        ours, peer = (statistics.median(pair[side] for pair in grouped) for side in (0, 1))
        what = "1 study, 1 client, eight appends a commit: one append / pgbench's, alone"
        yield Row(what=what, ours=1 / ours, peer=1 / peer, goal="< 1")
        yield processor_row(found, folder, seconds)
        for name, side in (("appends", 0), ("pgbench", 1)):
            fifty, one = rates[8, STUDIES][side], rates[8, 1][side]
            goal = "<= 0.43 (2.3 times)" if side == 0 else ""
            yield Row(what=f"{name}, 8 clients: fifty studies / one study", ours=1 / fifty, peer=1 / one, goal=goal)


def processor_row(found: Server, folder: Path, seconds: float) -> Row:
    """Processor time of the clients alone, eight on fifty studies: what they take from a server on the same machine."""
    _, ours = append_run(found, 8, STUDIES, seconds)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    count = pgbench_rate(found, folder, 8, STUDIES, seconds) * max(1, round(seconds))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peer = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count
    what = "50 studies, 8 clients, processor time of the clients: one append / pgbench's"
    return Row(what=what, ours=ours, peer=peer, goal="")


@contextmanager
def server(**settings: str) -> Iterator[Server | None]:
    """A server that commits as a trial unit's would, one machine, its memory as small as the tests'."""
    with postgres_server(synchronous_commit="on", synchronous_standby_names="", **settings) as found:
        yield found


def make_studies(found: Server, name: str) -> None:
    """Studies `name`-1 to `name`-50 with a first record each."""
    for number in range(1, STUDIES + 1):
        create_log(found.writer, f"{name}-{number}")
        with PostgresStore(found.writer, f"{name}-{number}") as store:
            append(store)


def append(store: Store, records: int = 1) -> None:
    """One durable transaction: a record as long as an allocation, linked to the last one; its signature is none."""
    with store.transaction():
        for _ in range(records):
            last = store.last()
            seq, prev = (last.seq + 1, last.hash) if last else (0, GENESIS)
            fields = {**FIELDS, "seq": seq}
            store.append(Record(prev=prev, body=BODY.replace(b'"seq":0', b'"seq":%d' % seq), fields=fields), {})


def append_rate(found: Server, clients: int, studies: int, seconds: float, grouped: int = 1) -> float:
    """Appends a second by so many processes, over so many studies, `grouped` in each transaction."""
    return append_run(found, clients, studies, seconds, grouped)[0]


def append_run(found: Server, clients: int, studies: int, seconds: float, grouped: int = 1) -> tuple[float, float]:
    """The same, and the processor time of the clients for each, in seconds."""
    shares = [clients // 2 + (clients % 2), clients // 2] if clients > 1 else [1]
    with ExitStack() as stack:
        workers = []
        for share in shares:
            command = [sys.executable, str(Path(__file__)), found.writer, str(studies), str(grouped), str(share)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            workers.append(stack.enter_context(worker))
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{seconds}\n")
            worker.stdin.close()
        done = [worker.stdout.read().split() for worker in workers if worker.stdout is not None]
    processor = sum(float(busy) for _, _, busy in done) / sum(int(count) for count, _, _ in done)
    return sum(int(count) / float(took) for count, took, _ in done), processor


def work(address: str, studies: int, grouped: int, clients: int) -> None:
    """One process of a service: its clients are threads that share a pool. Ready, it waits for the word."""
    with PostgresPool(address, most=clients) as pool, ThreadPoolExecutor(clients) as threads:
        own = [
            [PostgresStore(address, f"ours-{number}", pool=pool) for number in range(1, studies + 1)]
            for _ in range(clients)
        ]
        for stores in own:
            for store in stores:
                append(store)
        print("ready", flush=True)
        seconds = float(sys.stdin.readline())
        started, busy = time.perf_counter(), time.process_time()

        def client(stores: list[PostgresStore]) -> int:
            count = 0
            while time.perf_counter() - started < seconds:
                append(stores[int.from_bytes(os.urandom(4)) % studies], grouped)
                count += grouped
            return count

        count = sum(threads.map(client, own))
        print(count, time.perf_counter() - started, time.process_time() - busy)


def pgbench_rate(found: Server, folder: Path, clients: int, studies: int, seconds: float) -> float:
    """Transactions a second of pgbench, waiting for nobody."""
    script = folder / f"peer-{studies}.sql"
    script.write_text(PEER.format(studies=studies))
    command = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-f", str(script)]
    seconds = max(1, round(seconds))
    done = subprocess.run(
        [pgbench(), *command, "-T", str(seconds), found.writer], capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps ="))
    return float(line.split()[2])


def pgbench() -> str:
    """The program, from where the server's came."""
    import shutil
    import tempfile

    from postgres_server import _binaries

    if found := shutil.which("pgbench"):
        return found
    with tempfile.TemporaryDirectory() as scratch:
        return str(next(_binaries(Path(scratch))) / "pgbench")


if __name__ == "__main__":
    work(sys.argv[1], *map(int, sys.argv[2:]))

"""Verification against reading and hashing the same rows, and against the bare loop of what it must do; its memory."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import rfc8785
from homes import active_trial, fill
from measure import Row, compare, run
from processes import ENTRY

from allocator import sqlite_evidence
from allocator.evidence import read_evidence
from allocator.home import study_place
from allocator.person import check_signature
from allocator.replay import Submit
from allocator.scratch_store import scratch_store
from allocator.verify import verify


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """A log as long as the one of a large trial."""
    records, repeats = (2_000, 3) if quick else (20_000, 5)
    home = folder / "home"
    trial = active_trial(home, length=records)
    fill(trial, records)
    keys = {person.id: person.sign_key for person in trial.service.history.people.values()}
    trial.close()
    place = study_place(home, None)

    def stored() -> Iterator[tuple[bytes, bytes]]:
        with closing(sqlite3.connect(place.log_file)) as connection:
            yield from connection.execute("SELECT prev, CAST(body AS BLOB) FROM record ORDER BY rowid")

    def hashed() -> None:
        for prev, body in stored():
            hashlib.sha256(b"\x00" + prev + body).digest()

    def chain() -> None:
        """The verifier's own chain pass, over a connection such as it opens its private copy by."""
        with closing(sqlite_evidence._connect(place.log_file)) as connection:
            found, _ = sqlite_evidence._chain(connection)
        assert found.records == records

    def bare() -> None:
        for prev, body in stored():
            hashlib.sha256(b"\x00" + prev + body).digest()
            fields = json.loads(body)
            signature, person = fields.pop("signature", None), fields.get("person")
            rfc8785.dumps(json.loads(body))
            if signature:
                check_signature(keys[person], signature, prev, rfc8785.dumps(fields))

    def whole(submit: Submit | None = None) -> None:
        with read_evidence(place) as read, scratch_store() as store:
            verdict = verify(read, submit=submit, store=store)
        assert verdict.verdict == "intact-local", verdict.findings[:3]

    yield compare(
        f"chain pass over {records:,} records / rows read and hashed", chain, hashed,
        goal="<= 1.67", repeats=4 * repeats + 1,
    )  # fmt: skip
    yield compare(
        "verify, one process / hash, parse, re-encode and one signature check each", whole, bare, goal="<= 1.5",
        repeats=repeats,
    )  # fmt: skip
    jobs = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        submit = lambda worker, jobs: pool.submit(worker, jobs).result  # noqa: E731
        whole(submit)
        yield compare(
            f"verify with {jobs} processes / with one", functools.partial(whole, submit), whole,
            goal="< 1", repeats=repeats,
        )  # fmt: skip


def memory_rows(folder: Path, home: Path, records: int) -> Iterator[Row]:
    """The command on a long log against the same on a hundredth of it, by one process and by several."""
    few = max(2_000, records // 100)
    short = active_trial(folder / "few", length=few)
    fill(short, few)
    short.close()
    alone = {}
    for jobs in (1, 2):
        ours, peer = (
            run([sys.executable, "-c", ENTRY, "verify", str(path), "--jobs", str(jobs)]) for path in (home, short.home)
        )
        alone[jobs] = ours.seconds
        what = f"verify of {records:,} records / of {few:,}, --jobs {jobs}: MB of the largest process"
        yield Row(what=what, ours=ours.largest, peer=peer.largest, goal="< 200 MB", unit="MB")
    what = f"verify of {records:,} records / of {few:,}, --jobs 2: MB of all processes"
    yield Row(what=what, ours=ours.together, peer=peer.together, goal="", unit="MB")
    yield Row(what=f"verify of {records:,} records, --jobs 2 / --jobs 1", ours=alone[2], peer=alone[1], goal="< 1")

"""Verification against reading and hashing the same rows, and against the bare loop of what it must do."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import rfc8785
from homes import active_trial, fill
from measure import Row, compare

from allocator.evidence import read_evidence
from allocator.home import StudyPlace, study_place
from allocator.log import GENESIS, link
from allocator.person import check_signature
from allocator.replay import Submit
from allocator.verify import verify


def rows(folder: Path, quick: bool) -> Iterator[Row]:
    """A log as long as the one of a large trial."""
    records, repeats = (2_000, 3) if quick else (20_000, 3)
    home = folder / "home"
    trial = active_trial(home, length=records)
    fill(trial, records)
    keys = {person.id: person.sign_key for person in trial.service.history.people.values()}
    trial.close()
    place = study_place(home, None)

    def stored() -> Iterator[tuple[bytes, bytes]]:
        connection = sqlite3.connect(place.log_file)
        try:
            yield from connection.execute("SELECT prev, CAST(body AS BLOB) FROM record ORDER BY rowid")
        finally:
            connection.close()

    def hashed() -> None:
        for prev, body in stored():
            hashlib.sha256(b"\x00" + prev + body).digest()

    def bare() -> None:
        for prev, body in stored():
            hashlib.sha256(b"\x00" + prev + body).digest()
            fields = json.loads(body)
            signature, person = fields.pop("signature", None), fields.get("person")
            rfc8785.dumps(json.loads(body))
            if signature:
                check_signature(keys[person], signature, prev, rfc8785.dumps(fields))

    def whole(submit: Submit | None = None) -> None:
        with read_evidence(place) as evidence:
            verdict = verify(evidence, submit=submit)
        assert verdict.verdict == "intact-local", verdict.findings[:3]

    yield compare(
        f"chain of {records:,} records / rows read and hashed", lambda: chain(place), hashed,
        goal="<= 4", repeats=repeats,
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


def chain(place: StudyPlace) -> None:
    """The verifier's own reading, on a copy and with its schema checks, and the links between the rows."""
    with read_evidence(place) as evidence:
        head = GENESIS
        for row in evidence.rows:
            assert row.prev == head
            head = link(row.prev, row.body)

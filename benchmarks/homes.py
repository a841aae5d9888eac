"""Homes for measuring: the real study with a large enrolment, and logs filled quickly through the real writer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path

from allocator.eligibility import form_bytes, parse_form
from allocator.log import Detail, Record
from allocator.person import Role
from allocator.sealing import half_key, open_entry
from allocator.service import AllocationService
from allocator.writer import Draft, make_record
from support import PEOPLE, Clock, Trial, design, eligible_form, open_home, open_service, study_bytes


def active_trial(home: Path, *, length: int) -> Trial:
    """An active trial with everybody enrolled, and a list of this length."""
    open_home(home, study_bytes(enrollment=1_000_000))
    clock = Clock()
    service = open_service(home, clock)
    trial = Trial(home=home, service=service, actors={}, clock=clock)
    trial.actors["SP"] = service.authenticate("SP", lambda: "pw", "open")
    for person, role in PEOPLE.items():
        trial.enrol(person, role)
    service.generate(trial.actor("ST"), design(length=length))
    service.grant(trial.actor("ST"), "PH")
    service.grant(trial.actor("ST"), "IN")
    service.activate(trial.actor("SP"), "nowhere")
    return trial


def participant(number: int) -> str:
    """The id of the participant of this number, from 1."""
    return f"P-{number:06d}"


def allocate(trial: Trial, first: int, last: int) -> None:
    """Confirm and allocate participants first..last through the service."""
    form = parse_form(form_bytes(eligible_form("P-001", trial.clock.now)))
    service: AllocationService = trial.service
    for number in range(first, last + 1):
        service.confirm(trial.actor("IN"), participant(number), form, {})
        service.reveal(trial.actor("PH"), participant(number), participant(number))


def fill(trial: Trial, records: int) -> None:
    """Lengthen the log to so many records by true confirmations and allocations, as the service makes them one by one.

    The rules are not asked and the disk is not waited for, which takes a tenth of the time; `verify` holds the records
    to every rule. For a log that `active_trial` has just made.
    """
    connection = trial.store._connection
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("BEGIN")
    record = trial.last
    for record, details in islice(_acts(trial), records - trial.last.seq - 1):
        connection.execute(
            "INSERT INTO record (seq, prev, body, kind, participant, stratum, position) VALUES (?,?,?,?,?,?,?)",
            (record.seq, record.prev, record.body.decode(), *record.columns),
        )
        connection.executemany(
            "INSERT INTO detail (seq, field, salt, value) VALUES (?,?,?,?)",
            [(record.seq, name, *detail) for name, detail in details.items()],
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA synchronous=FULL")
    trial.service._keys.write_head(record.seq, record.hash)
    trial.again()
    trial.clock.now += timedelta(seconds=1)


def _acts(trial: Trial) -> Iterator[tuple[Record, dict[str, Detail]]]:
    """A confirmation and an allocation of one participant after another, linked to the last record."""
    service, last, now = trial.service, trial.last, trial.clock.now
    sealed = service._required_sealed()
    stratum, fingerprint = sealed.strata[0], service.study.fingerprint
    actors = {kind: trial.actor(person) for kind, person in (("confirmed", "IN"), ("allocated", "PH"))}
    keys = {kind: service._granted_key(actor, sealed) for kind, actor in actors.items()}
    roles = {"confirmed": Role.INVESTIGATOR, "allocated": Role.PHARMACIST}
    answers = form_bytes(eligible_form("P-001", now)).decode()

    def act(draft: Draft) -> tuple[Record, dict[str, Detail]]:
        nonlocal last
        kind, common = draft.kind, (last.seq + 1, last.hash, now, service.mode)
        last, details = make_record(draft, *common, actors[kind], roles[kind], os.urandom)
        return last, details

    for position in range(len(stratum.entries)):
        who, sealing_id = participant(position + 1), sealed.sealing.hex()
        half_i, half_p = (half_key(keys[kind], sealed.sealing, stratum.label, position) for kind in keys)
        bound = {"participant": who, "stratum": {}, "position": position, "sealing": sealing_id}
        form = {"fingerprint": fingerprint.hex(), "attempt": {"type": "first", "of": None}, "release": half_i.hex()}
        yield act(Draft(kind="confirmed", fields={**bound, **form}, details={"answers": answers}))
        arm, salt = open_entry(stratum, position, half_p, half_i, fingerprint, sealed.sealing)
        told = {"number": position + 1, "confirmation": last.seq, "arm": arm, "salt": salt.hex()}
        yield act(Draft(kind="allocated", fields={**bound, **told}))

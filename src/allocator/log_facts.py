"""What a log says that a report of a trial needs: numbers, dates, deviations, who generated, enrolled, assigned. Pure.

Counted from the public fields of records alone: no name, no reason, no answer is read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from allocator.canonical import parse_time
from allocator.errors import EvidenceError
from allocator.log import ALLOCATION_KINDS, SEALING_KINDS, STATE_KINDS, Record, state_of
from allocator.recovery import original_record

GENERATING = ("generated", "imported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The sealed list was read: by whom, when, for what; `replaced` when another list was made afterwards."""

    person: str
    purpose: str
    time: datetime
    replaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """What the records of a log add up to.

    Attributes:
        records: how many; `head` is the hash of the last one, 32 bytes.
        state: of the study after the last record.
        test: the study is in mode test.
        generated: the newest record of a generated or imported list, None before the first.
        sealing: the newest record that sealed a list, `generated` itself unless it was sealed again.
        checked: somebody signed that this list was checked against its design, before activation.
        lists: how many lists were generated or imported, one after another.
        allocated: allocations by arm index, those entered late or from receipts too.
        first, last: when the first and the last allocation were made; on paper at the time on the paper.
        enrolled_by, assigned_by: ids of who confirmed the allocated participants, and of who requested them.
        programs: the program versions by which allocations were made or entered, in order of use.
        counts: how many of each kind of record there are.
        corrected: allocations by what was corrected (a key of `record_form.CORRECTIONS`), each counted once.
        told_otherwise: late entries for which the paper had told another arm than the list.
        reserved: entries of the list that recoveries took out of use.
        readings: of the sealed list, in order.
    """

    records: int
    head: bytes
    state: str
    test: bool
    generated: Record | None
    sealing: Record | None
    checked: bool
    lists: int
    allocated: Mapping[int, int]
    first: datetime | None
    last: datetime | None
    enrolled_by: tuple[str, ...]
    assigned_by: tuple[str, ...]
    programs: tuple[str, ...]
    counts: Mapping[str, int]
    corrected: Mapping[str, int]
    told_otherwise: int
    reserved: int
    readings: tuple[Reading, ...]
    closed: datetime | None
    opened: datetime | None

    @property
    def total(self) -> int:
        """All allocations."""
        return sum(self.allocated.values())


class _Tally:
    """Takes records one by one."""

    def __init__(self) -> None:
        self.last: Record | None = None
        self.state = "none"
        self.generated: Record | None = None
        self.sealing: Record | None = None
        self.checked: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.arms: Counter[int] = Counter()
        self.times: list[datetime] = []
        self.confirming: dict[int, str] = {}
        self.enrolled_by: dict[str, None] = {}  # dictionaries for their order
        self.assigned_by: dict[str, None] = {}
        self.programs: dict[str, None] = {}
        self.corrected: dict[str, set[int]] = defaultdict(set)
        self.told_otherwise = self.reserved = 0
        self.readings: list[Reading] = []
        self.ends: dict[str, datetime] = {}

    def take(self, record: Record) -> None:
        fields, kind = record.fields, record.kind
        self.last = record
        self.counts[kind] += 1
        if kind in STATE_KINDS:
            self.state = state_of(fields)
        if kind in SEALING_KINDS:
            self.sealing = record
        if kind in GENERATING:
            self.generated = record
            self.readings = [replace(reading, replaced=True) for reading in self.readings]
        elif kind == "confirmed":
            self.confirming[record.seq] = fields["person"]
        elif kind in ALLOCATION_KINDS:
            self.allocation(record)
        elif kind == "corrected":
            self.corrected[fields["what"]].add(fields["allocation"])
        elif kind == "recovered":
            self.reserved += len(fields["reserved"])
        elif kind == "list-checked":
            self.checked.add(fields["sealing"])
        elif kind == "list-read":
            self.readings.append(Reading(person=fields["person"], purpose=fields["purpose"], time=record.time))
        elif kind in ("closed", "opened"):
            self.ends[kind] = record.time

    def allocation(self, record: Record) -> None:
        made: Mapping[str, Any] = record.fields
        if record.kind == "receipt-entered":  # who confirmed it is in the records that were lost
            made = original_record(record.fields["original"]).fields
        elif confirmed_by := self.confirming.get(made["confirmation"]):
            self.enrolled_by[confirmed_by] = None
        self.arms[record.fields["arm"]] += 1
        self.times.append(parse_time(made.get("event_time", made["time"])))
        self.assigned_by[made["person"]] = None
        self.programs[made["program"]] = None
        self.told_otherwise += made.get("told") is not None and made["told"] != made["arm"]


def facts_of(records: Iterable[Record]) -> LogFacts:
    """Count the records of one log, from its first to its last. EvidenceError for a log without records."""
    tally = _Tally()
    for record in records:
        tally.take(record)
    if tally.last is None:
        raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
    return LogFacts(
        records=tally.last.seq + 1,
        head=tally.last.hash,
        state=tally.state,
        test=tally.last.fields["mode"] == "test",
        generated=tally.generated,
        sealing=tally.sealing,
        checked=tally.generated is not None and tally.generated.fields["sealing"] in tally.checked,
        lists=sum(tally.counts[kind] for kind in GENERATING),
        allocated=dict(tally.arms),
        first=min(tally.times, default=None),
        last=max(tally.times, default=None),
        enrolled_by=tuple(tally.enrolled_by),
        assigned_by=tuple(tally.assigned_by),
        programs=tuple(tally.programs),
        counts=dict(tally.counts),
        corrected={what: len(allocations) for what, allocations in tally.corrected.items()},
        told_otherwise=tally.told_otherwise,
        reserved=tally.reserved,
        readings=tuple(tally.readings),
        closed=tally.ends.get("closed"),
        opened=tally.ends.get("opened"),
    )

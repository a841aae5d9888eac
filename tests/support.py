"""What many tests share: a clock that stands still, a trial in a temporary home, and answers that qualify or do not.

A `Trial` is the real study NCT04225780 opened in mode test, with cheap key stretching. Its people are SP (sponsor),
ST (statistician), CU (custodian), IN (investigator), PH (pharmacist) and AU (auditor); everybody's passphrase is
`PASSPHRASE`. `TrialFactory` builds each variant once and hands out copies, so that a test pays a few milliseconds.

    trial = trials(until="active", enrollment=3)
    trial.confirm("P-001")
    assert trial.reveal("P-001").number == 1
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from allocator.answers_form import AnswersForm, parse_form
from allocator.design import RandomizationDesign
from allocator.eligibility import Judgement
from allocator.errors import StorageError
from allocator.example_answers import redated
from allocator.home import StudyPlace, study_place
from allocator.keys import ONLY_FOR_TESTS
from allocator.log import Record
from allocator.opening import Opening, open_study
from allocator.service import Allocation, AllocationService
from allocator.sqlite_store import SqliteStore
from allocator.study import Study
from allocator.toml_files import read_study
from allocator.writer import Actor

ROOT = Path(__file__).parent.parent
STUDY_ID = "NCT04225780"
STUDY_BYTES = (ROOT / "schedules" / STUDY_ID / "study.toml").read_bytes()
REGISTRY_BYTES = (ROOT / "schedules" / STUDY_ID / "registry.json").read_bytes()
ANSWERS = ROOT / "examples" / STUDY_ID / "answers"
DESIGN_FILE = ROOT / "examples" / STUDY_ID / "design.toml"

START = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
PASSPHRASE = "pw"
PEOPLE = {
    "ST": "statistician",
    "CU": "custodian",
    "IN": "investigator",
    "PH": "pharmacist",
    "AU": "auditor",
}
STAGES = ("opened", "enrolled", "sealed", "granted", "active")
INELIGIBLE = ("P-101", "P-102", "P-103")  # examples whose answers do not qualify, each for its own reason


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        """Move by a timedelta's arguments, such as ``hours=72``; negative ones move back."""
        self.now += timedelta(**delta)


@cache
def study_bytes(*, stratified: bool = False, enrollment: int = 10, hours: int = 72) -> bytes:
    """The real study.toml; with a factor site A/B, another enrolment or another life of confirmations if asked."""
    text = STUDY_BYTES.decode("utf-8")
    text = text.replace("enrollment = 10", f"enrollment = {enrollment}")
    text = text.replace("confirmation_hours = 72", f"confirmation_hours = {hours}")
    if stratified:
        text += '\n[[factor]]\nname = "site"\nlevels = ["A", "B"]\n'
    return text.encode("utf-8")


@cache
def study(**variant: Any) -> Study:
    """The study of `study_bytes`, parsed."""
    return read_study("study.toml", study_bytes(**variant))


def design(*, length: int = 20, block_sizes: tuple[int, ...] = (4, 6)) -> RandomizationDesign:
    """A design for the real study: 1:1."""
    return RandomizationDesign(
        method="permuted-block", block_sizes=block_sizes, length=length, ratio=(("IL2-GCV", 1), ("GCV", 1))
    )


def example_form(name: str, now: datetime = START) -> AnswersForm:
    """A committed example form with its dates moved, so that it can be filed at `now`."""
    return parse_form(redated((ANSWERS / f"{name}.json").read_bytes(), now.astimezone(study().zone).date()))


def eligible_form(participant: str = "P-001", now: datetime = START) -> AnswersForm:
    """Answers that qualify: the participant's own example where there is one, else the first."""
    known = participant[-3:].isdigit() and 1 <= int(participant[2:]) <= 11
    return example_form(f"P-{int(participant[2:]):03d}" if known else "P-001", now)


def ineligible_form(now: datetime = START, name: str = "P-101") -> AnswersForm:
    """Answers that do not qualify; P-101 has a viral load on the boundary."""
    return example_form(name, now)


@dataclass
class Trial:
    """One study in one home with everybody's keys at hand."""

    home: Path
    service: AllocationService
    actors: dict[str, Actor]
    clock: Clock
    notices: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    _services: list[AllocationService] = field(default_factory=list)

    @property
    def place(self) -> StudyPlace:
        """Where the study lies."""
        return self.service.place

    @property
    def store(self) -> SqliteStore:
        """The service's own store."""
        return self.service._store

    @property
    def records(self) -> list[Record]:
        """The whole log."""
        return list(self.store.records())

    @property
    def kinds(self) -> list[str]:
        """The kinds of all records, in order."""
        return [record.kind for record in self.records]

    @property
    def last(self) -> Record:
        """The newest record."""
        record = self.store.last()
        assert record is not None
        return record

    def again(self) -> AllocationService:
        """A further service on the same home, as a second process would have; it becomes the trial's own."""
        self.service = open_service(self.home, self.clock, self.notices, self.pauses)
        self._services.append(self.service)
        return self.service

    def actor(self, person: str) -> Actor:
        """A person who has given their passphrase."""
        return self.actors[person]

    def invite(self, person: str, *roles: str) -> str:
        """Add a person who is not enrolled yet; returns the one-time code."""
        _, code = self.service.add_person(self.actors["SP"], person, f"Dr {person}", roles)
        self.codes[person] = code
        return code

    def enrol(self, person: str, *roles: str) -> Actor:
        """Add a person and enrol them."""
        self.service.enrol(person, self.invite(person, *roles), lambda: PASSPHRASE)
        self.actors[person] = self.service.authenticate(person, lambda: PASSPHRASE, "enrol")
        return self.actors[person]

    def confirm(
        self,
        participant: str,
        form: AnswersForm | None = None,
        *,
        by: str = "IN",
        stratum: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> tuple[Record, Judgement]:
        """File a form, an eligible one unless another is given."""
        form = form or eligible_form(participant, self.clock.now)
        return self.service.confirm(self.actors[by], participant, form, stratum or {}, **flags)

    def reveal(self, participant: str, *, by: str = "PH") -> Allocation:
        """Ask for the participant's allocation, retyped correctly."""
        return self.service.reveal(self.actors[by], participant, participant)

    def allocate(self, *participants: str, stratum: Mapping[str, str] | None = None) -> list[Allocation]:
        """Confirm and reveal, one participant after another."""
        allocations = []
        for participant in participants:
            self.confirm(participant, stratum=stratum)
            allocations.append(self.reveal(participant))
        return allocations

    def close(self) -> None:
        """Close every log this trial opened."""
        for service in {id(s): s for s in (*self._services, self.service)}.values():
            service.close_files()


class TrialFactory:
    """Builds each variant of a trial once, and hands out copies of its home."""

    def __init__(self, templates: Path, folder: Path, cache_: dict[Any, Any]) -> None:
        self._templates, self._folder, self._cache = templates, folder, cache_
        self._made: list[Trial] = []

    def __call__(
        self,
        until: str = "active",
        *,
        length: int = 20,
        block_sizes: tuple[int, ...] = (4, 6),
        findings: Iterable[dict[str, Any]] = (),
        how: RandomizationDesign | None = None,
        **variant: Any,
    ) -> Trial:
        """A trial of its own, as far as `until`: opened, enrolled, sealed, granted or active.

        Args:
            until: the last stage done.
            length: entries of each stratum.
            block_sizes: of the design.
            findings: recorded at the opening, as `check` gives them.
            how: another design than permuted blocks, instead of length and block_sizes; an imported list is imported.
            variant: stratified, enrollment, hours of `study_bytes`.
        """
        findings = list(findings)
        how = how or design(length=length, block_sizes=block_sizes)
        key = json.dumps([how.plain(), findings, sorted(variant.items())])
        if key not in self._cache:
            folder = self._templates / str(len(self._cache))
            self._cache[key] = _build(folder, study_bytes(**variant), how, findings)
        stages, actors, codes = self._cache[key]
        home = self._folder / f"home-{len(self._made)}"
        shutil.copytree(stages[until], home)
        clock, notices, pauses = Clock(), [], []
        service = open_service(home, clock, notices, pauses)
        trial = Trial(home=home, service=service, actors=dict(actors), clock=clock, notices=notices, pauses=pauses)
        trial.codes.update(codes)
        self._made.append(trial)
        return trial

    def close(self) -> None:
        """Close all that was handed out."""
        for trial in self._made:
            trial.close()


def open_home(
    home: Path,
    data: bytes = STUDY_BYTES,
    *,
    findings: Iterable[dict[str, Any]] = (),
    mode: str = "test",
    passphrase: str = PASSPHRASE,
    **givens: Any,
) -> Record:
    """Open the study of these bytes in a home, by SP."""
    opening = Opening(
        study=read_study("study.toml", data),
        study_bytes=data,
        registry_bytes=REGISTRY_BYTES,
        findings=list(findings),
        person="SP",
        name="Sponsor One",
        mode=mode,
    )
    return open_study(home, opening, passphrase, stretching=ONLY_FOR_TESTS, **{"clock": Clock(), **givens})


def open_service(
    home: Path, clock: Clock | None = None, notices: list[str] | None = None, pauses: list[float] | None = None
) -> AllocationService:
    """The service of the only study in a home; notices and pauses go to the lists."""
    return AllocationService.open(
        study_place(home, None),
        stretching=ONLY_FOR_TESTS,
        clock=clock or Clock(),
        notify=(notices if notices is not None else []).append,
        pause=(pauses if pauses is not None else []).append,
    )


def _build(
    folder: Path, data: bytes, how: RandomizationDesign, findings: list[dict[str, Any]]
) -> tuple[dict[str, Path], dict[str, Actor], dict[str, str]]:
    """Every stage of one variant, each kept in a folder of its own."""
    home, stages, actors = folder / "home", {}, {}
    open_home(home, data, findings=findings)
    service = open_service(home)
    trial = Trial(home=home, service=service, actors=actors, clock=Clock())

    def keep(stage: str) -> None:
        stages[stage] = Path(shutil.copytree(home, folder / stage))

    actors["SP"] = service.authenticate("SP", lambda: PASSPHRASE, "open")
    keep("opened")
    for person, role in PEOPLE.items():
        trial.enrol(person, role)
    keep("enrolled")
    if how.method == "imported-list":
        service.import_list(actors["ST"], how, origin="drawn by hand", source=b"drawn by hand")
    else:
        service.generate(actors["ST"], how)
    keep("sealed")
    service.grant(actors["ST"], "PH")
    service.grant(actors["ST"], "IN")
    keep("granted")
    for finding in findings:
        if finding["level"] == "block":
            service.decide(actors["SP"], finding["id"], "as the protocol says", "read with the investigator")
    service.activate(actors["SP"], "ethics file 12, page 3")
    keep("active")
    trial.close()
    return stages, actors, trial.codes


def finding(finding_id: str = "K06", level: str = "block") -> dict[str, Any]:
    """A finding as `check` gives it."""
    return {"id": finding_id, "level": level, "message": "the record states no ratio", "quotes": ["Randomized"]}


def with_share(how: RandomizationDesign, **changes: Any) -> RandomizationDesign:
    """The design with some fields changed."""
    return replace(how, **changes)


# ---- several processes on one home ----------------------------------------------------------------------------------


def start_worker(home: Path, action: str, participants: Iterable[str]) -> subprocess.Popen[str]:
    """Start a process that does `action` (reveal or confirm) for each participant, and prints one JSON line for each.

    The line holds participant and number, or the participant and the code of the StorageError; any other error ends
    the process with a traceback. Each line is written only after the act returned, so a line is a promise.
    """
    command = [sys.executable, str(Path(__file__)), str(home), action, *participants]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""}
    )


def finish_worker(worker: subprocess.Popen[str], *, killed: bool = False) -> list[dict[str, Any]]:
    """The lines of a worker that has ended, whole ones only; its traceback fails the test unless it was killed."""
    out, err = worker.communicate(timeout=120)
    assert killed or worker.returncode == 0, err
    return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]


def _work(home: Path, action: str, participants: list[str]) -> None:
    service = open_service(home)
    actor = service.authenticate("PH" if action == "reveal" else "IN", lambda: PASSPHRASE, action)
    print(json.dumps({"ready": True}), flush=True)
    for participant in participants:
        try:
            if action == "reveal":
                done: dict[str, Any] = {"number": service.reveal(actor, participant, participant).number}
            else:
                done = {"seq": service.confirm(actor, participant, eligible_form(participant), {})[0].seq}
        except StorageError as error:
            done = {"error": error.code}
        print(json.dumps({"participant": participant, **done}), flush=True)
    service.close_files()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

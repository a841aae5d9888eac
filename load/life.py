"""The life of a simulated study (`simulation.py`): what happens in it, and the model of who has what."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from allocator import restoring, stores  # noqa: E402
from allocator.errors import AllocatorError  # noqa: E402
from allocator.evidence import read_evidence  # noqa: E402
from allocator.keys import ONLY_FOR_TESTS  # noqa: E402
from allocator.restoring import Restored, read_digest  # noqa: E402
from allocator.service import Allocation  # noqa: E402
from allocator.verify import verify  # noqa: E402
from postgres_server import Server  # noqa: E402
from support import PASSPHRASE, Trial, eligible_form, ineligible_form  # noqa: E402

SITES = ("A", "B")
HOURS = 72


@dataclass(kw_only=True)
class Life:
    """One study, its model, and what happened in it.

    `database` has the log, where that is in PostgreSQL; `older` is a copy of it from the moment of the last backup, and
    `databases` ends the copies.
    """

    trial: Trial
    random: random.Random
    folder: Path
    database: Server | None = None
    older: Server | None = None
    databases: ExitStack = field(default_factory=ExitStack)
    given: dict[str, tuple[int, str]] = field(default_factory=dict)  # participant -> number, arm
    receipts: dict[str, Allocation] = field(default_factory=dict)  # since the last backup
    events: Counter[str] = field(default_factory=Counter)
    staff: dict[str, str] = field(default_factory=lambda: {"investigator": "IN", "pharmacist": "PH"})
    backup_file: Path | None = None
    backup_holds_all_but_allocations: bool = False
    number: int = 0

    def happens(self, share: float, what: str) -> bool:
        """Whether this happens now; counted."""
        if self.random.random() >= share:
            return False
        self.events[what] += 1
        return True

    def refused(self, code: str, act: Callable[[], Any]) -> None:
        """The act must be refused for this reason."""
        try:
            act()
        except AllocatorError as error:
            assert error.code == code, (code, error.code, error.message)
        else:
            raise AssertionError(f"not refused: {code}")

    # ---- a participant -----------------------------------------------------------------------------------------

    def participant_arrives(self) -> None:
        """From the door to the arm."""
        trial = self.trial
        trial.clock.advance(seconds=int(self.random.expovariate(1 / 72_000)))
        self.number += 1
        who, site = f"P-{self.number:05d}", {"site": self.random.choice(SITES)}
        if self.happens(0.15, "screening failure"):
            trial.confirm(who, ineligible_form(trial.clock.now), by=self.staff["investigator"], stratum=site)
            self.refused("not-eligible", lambda: self.ask(who))
            if not self.happens(0.4, "rescreening"):
                return
            trial.clock.advance(days=3)
            self.confirm(who, site, rescreen=True, reason="a new measurement")
        else:
            self.confirm(who, site)
        if self.happens(0.05, "withdrawn confirmation"):
            trial.service.withdraw(trial.actor(self.staff["investigator"]), who, "consent withdrawn, then given again")
            self.refused("confirmation-withdrawn", lambda: self.ask(who))
            self.confirm(who, site)
        if self.happens(0.05, "expired confirmation"):
            trial.clock.advance(hours=HOURS, seconds=1)
            self.refused("confirmation-expired", lambda: self.ask(who))
            self.confirm(who, site)
        if self.happens(0.05, "wrong retype"):
            actor = trial.actor(self.staff["pharmacist"])
            self.refused("retype-differs", lambda: trial.service.reveal(actor, who, "P-99999"))
        if self.happens(0.04, "allocation on paper"):
            event = trial.clock.now
            trial.clock.advance(hours=2)
            allocation = trial.service.late(trial.actor(self.staff["pharmacist"]), who, event, "no power")
        else:
            allocation = self.ask(who)
        assert not allocation.repeated and who not in self.given
        self.given[who] = (allocation.number, allocation.arm.code)
        self.receipts[who] = allocation
        self.afterwards(who)

    def confirm(self, who: str, site: dict[str, str], **flags: Any) -> None:
        """An eligible form."""
        form = eligible_form("P-001", self.trial.clock.now)
        self.trial.confirm(who, form, by=self.staff["investigator"], stratum=site, **flags)

    def ask(self, who: str) -> Allocation:
        """A request by the pharmacist on duty."""
        return self.trial.reveal(who, by=self.staff["pharmacist"])

    def afterwards(self, who: str) -> None:
        """Asked again, answers lost, corrections, a wrong id."""
        if self.happens(0.15, "asked again"):
            self.check_again(who)
        if self.happens(0.1, "answer lost, asked by another process"):
            self.trial.service.close_files()
            self.trial.again()
            self.check_again(who)
        if self.database is not None and self.happens(0.05, "connections lost"):
            self.end_connections(self.database)
            self.check_again(who)
        if self.happens(0.05, "correction"):
            actor = self.trial.actor(self.staff["pharmacist"])
            self.trial.service.correct(actor, who, "ineligible", "viral load misread", "monitoring")
        if self.happens(0.03, "wrong id, moved"):
            self.move(who)

    def end_connections(self, database: Server) -> None:
        """The database ends the connections of everybody, as in a restart."""
        import psycopg

        with psycopg.connect(database.admin, autocommit=True) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def check_again(self, who: str) -> None:
        """The same arm and number."""
        again = self.ask(who)
        assert again.repeated and (again.number, again.arm.code) == self.given[who], who

    def move(self, who: str) -> None:
        """The id was mistyped: two people move the allocation to the right one."""
        self.number += 1
        right = f"P-{self.number:05d}"
        self.confirm(right, dict(self.receipts[who].stratum))
        for person in (self.staff["investigator"], self.staff["pharmacist"]):
            self.trial.service.reassign(self.trial.actor(person), who, right, "typed wrong")
        self.given[right] = self.given.pop(who)
        self.check_again(right)
        self.backup_holds_all_but_allocations = False

    # ---- the study ---------------------------------------------------------------------------------------------

    def something_else_happens(self) -> None:
        """What does not come from a participant."""
        trial = self.trial
        if self.happens(0.03, "staff change"):
            self.staff_changes()
        if self.happens(0.02, "pause"):
            trial.service.change_state(trial.actor("SP"), "paused", "a question of safety")
            self.refused("paused", lambda: self.confirm("P-99998", {"site": "A"}))
            trial.clock.advance(hours=5)
            trial.service.change_state(trial.actor("SP"), "resumed", "answered")
        if self.happens(0.02, "clock jumped back"):
            right = trial.clock.now
            trial.clock.now = trial.last.time - timedelta(hours=6)
            self.refused("clock-behind", lambda: self.confirm("P-99998", {"site": "A"}))
            if self.happens(0.5, "clock accepted"):
                trial.service.set_clock(trial.actor("SP"), "the clock was wrong before")
            else:
                trial.clock.now = right
        if self.happens(0.06, "backup"):
            self.back_up()
        if self.backup_file and self.backup_holds_all_but_allocations and self.happens(0.04, "disk lost"):
            self.disk_is_lost(self.backup_file)
        elif (
            self.database
            and self.backup_file
            and self.backup_holds_all_but_allocations
            and self.happens(0.05, "home lost")
        ):
            self.home_is_lost(self.backup_file)

    def back_up(self) -> None:
        """A backup, from which everything can be put back but for what is allocated later."""
        self.backup_file = self.folder / f"backup-{self.number}.tar"
        if self.database is not None:  # its own tools make a copy; nobody may be connected meanwhile
            self.trial.service.close_files()
            self.older = self.databases.enter_context(self.database.copy())
            self.trial.again()
        self.trial.service.backup(self.trial.actor("SP"), self.backup_file)
        self.receipts, self.backup_holds_all_but_allocations = {}, True

    def staff_changes(self) -> None:
        """Somebody new, granted by who leaves."""
        role = self.random.choice(sorted(self.staff))
        leaving, coming = self.staff[role], f"{role[:2].upper()}-{self.number}"
        if coming in self.trial.actors:
            return
        self.trial.enrol(coming, role)
        by = self.random.choice([leaving, "ST"])
        self.trial.service.grant(self.trial.actor(by), coming)
        self.trial.service.deactivate_person(self.trial.actor("SP"), leaving, "left")
        self.staff[role] = coming
        self.backup_holds_all_but_allocations = False

    def disk_is_lost(self, file: Path) -> None:
        """Restore the last backup, enter every receipt since, go on: nobody is told anything else."""
        trial = self.trial
        trial.service.close_files()
        if self.older is not None:
            self.database_is_put_back(self.older)
        else:
            self.log_is_restored(file)
        receipts = [{"prev": a.record.prev.hex(), "body": a.record.body.decode()} for a in self.receipts.values()]
        trial.service.recover(trial.actor("ST"), "after the disk", receipts=receipts)
        for who in self.receipts:
            self.check_again(who)
        self.receipts, self.backup_file, self.older = {}, None, None

    def database_is_put_back(self, older: Server) -> None:
        """The database stands as it did; the home has seen more, and the sponsor states it."""
        self.database = older
        os.environ[stores.VARIABLE] = older.writer
        service = self.trial.again()
        self.refused("log-behind-head", lambda: self.confirm("P-99998", {"site": "A"}))
        service.recover(self.trial.actor("SP"), "the database was put back to an earlier hour")

    def log_is_restored(self, file: Path) -> None:
        """The sponsor restores the log from the backup."""
        self.trial.place.log_file.unlink()
        assert not self.restore(file).kept_log

    def home_is_lost(self, file: Path) -> None:
        """The application's host, or its schedules/ only: the backup brings the files, the database has the log."""
        trial = self.trial
        trial.service.close_files()
        shutil.rmtree(trial.place.schedules)
        if head_too := self.random.random() < 0.5:
            shutil.rmtree(trial.place.keys)
        restored = self.restore(file)
        assert restored.kept_log and restored.in_postgres and restored.missing == ("unknown" if head_too else "none")
        if head_too:  # nobody knows then that the log is whole, and two people say so
            self.refused("recovering", lambda: self.confirm("P-99998", {"site": "A"}))
            trial.service.recover(trial.actor("ST"), "the database is whole", none_used=True)

    def restore(self, file: Path) -> Restored:
        """By the sponsor."""
        restored = restoring.restore(
            self.trial.home,
            file,
            read_digest(file),
            lambda service: service.authenticate("SP", lambda: PASSPHRASE, "restored"),
            "disk lost",
            clock=self.trial.clock,
            stretching=ONLY_FOR_TESTS,
        )
        self.trial.again()
        return restored

    # ---- at the end --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The log says what the model says, and verifies."""
        with read_evidence(self.trial.place) as evidence:
            verdict = verify(evidence)
        assert (verdict.verdict, verdict.findings) == ("intact-local", ()), verdict.findings[:3]
        service = self.trial.again()
        for who, (number, arm) in self.given.items():
            record = service.history.allocation(who)
            assert record is not None, who
            assert (record.fields["number"], service.study.arms[record.fields["arm"]].code) == (number, arm), who
        assert len({number for number, _ in self.given.values()}) == len(self.given)
        assert service.history.allocated == len(self.given)
        self.events["records"] = verdict.records

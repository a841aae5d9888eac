"""Self-test: installation qualification. A drill of every promise on this machine, in a home of its own.

Each check is a method that raises when it fails; its docstring says what it shows, and its requirements are beside it
(docs/requirements.md). Nothing of the user's own studies is touched.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from allocator.answers_form import parse_form
from allocator.backup import read_backup
from allocator.errors import EvidenceError, Refused, StorageError
from allocator.evidence import read_evidence
from allocator.example_answers import redated
from allocator.home import StudyPlace, study_place
from allocator.keys import ONLY_FOR_TESTS, STANDARD, KeyFolder
from allocator.keystream import pseudorandom_key
from allocator.log import Record
from allocator.opening import Opening, open_study
from allocator.permuted_block import draw_stratum
from allocator.qualification import Check, Checks, carried_out, registry, require
from allocator.restoring import read_digest, restore
from allocator.service import Allocation, AllocationService
from allocator.session import system_clock
from allocator.stores import files_only
from allocator.toml_files import read_design, read_study
from allocator.verify import verify
from allocator.writer import Actor

PASSPHRASE = "drill"
PEOPLE = {"ST": "statistician", "CU": "custodian", "IN": "investigator", "PH": "pharmacist", "PH-2": "pharmacist"}
# docs/spec.md §4, §5: fingerprint and design commitment zero, S_1 zero, S_2 = 00 01 … 1f; 1:1 in blocks of 4 and 6
GOLDEN = [1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 1]
CHECKS: Checks = []
_check = registry(CHECKS)


@dataclass(kw_only=True)
class Drill:
    """One study, from its opening to its recovery, on this machine's disk and clock."""

    folder: Path
    files: Mapping[str, Path]
    drift: timedelta = timedelta(0)
    actors: dict[str, Actor] = field(default_factory=dict)
    told: dict[str, Allocation] = field(default_factory=dict)
    service: AllocationService = field(init=False)

    def run(self) -> list[Check]:
        """Every check in order; after one that failed, the ones that stand on it fail too and say so."""
        with files_only():
            return carried_out(CHECKS, self)

    # ---- what the checks use ------------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The drill's own home."""
        return self.folder / "home"

    @property
    def place(self) -> StudyPlace:
        """Where its study lies."""
        return study_place(self.home, None)

    def clock(self) -> datetime:
        """This machine's clock, set wrong where a check wants it so."""
        return system_clock() + self.drift

    def open(self) -> None:
        """A new service on the home, as another process would have."""
        if hasattr(self, "service"):
            self.service.close_files()
        self.service = AllocationService.open(self.place, stretching=ONLY_FOR_TESTS, clock=self.clock)

    def signed_in(self, service: AllocationService, person: str) -> Actor:
        """A person who gives the drill's passphrase."""
        return service.authenticate(person, lambda: PASSPHRASE, "drill")

    def confirm(self, participant: str) -> Record:
        """An eligible form for this participant."""
        today = self.clock().astimezone(self.service.study.zone).date()
        form = parse_form(redated((self.files["answers"] / "P-001.json").read_bytes(), today))
        return self.service.confirm(self.actors["IN"], participant, form, {})[0]

    def reveal(self, participant: str, by: str = "PH") -> Allocation:
        """The participant's allocation."""
        return self.service.reveal(self.actors[by], participant, participant)

    def allocate(self, participant: str) -> Allocation:
        """Confirm and reveal."""
        self.confirm(participant)
        self.told[participant] = self.reveal(participant)
        return self.told[participant]

    def verdict(self, *heads: bytes) -> str:
        """The auditor's verdict; AssertionError with the first finding."""
        with read_evidence(self.place, heads) as evidence:
            found = verify(evidence)
        require(not found.findings, "; ".join(f.message for f in found.findings[:2]))
        return found.verdict

    def refused(self, code: str, act: Callable[[], Any]) -> None:
        """The act must be refused, for this reason."""
        try:
            act()
        except (Refused, EvidenceError, StorageError) as error:
            require(error.code == code, f"refused as {error.code}, not as {code}")
        else:
            raise AssertionError(f"not refused ({code})")

    # ---- the checks, in order -----------------------------------------------------------------------------------

    @_check("G01", "G02")
    def _drawing(self) -> str:
        """The list drawn from a known seed is the one of the specification, entry for entry."""
        prk = pseudorandom_key(bytes(32), bytes(32), [bytes(32), bytes(range(32))])
        arms = draw_stratum(prk, "{}", (1, 1), (4, 6), 20)
        require(list(arms) == GOLDEN, f"drawn {list(arms)}")
        return f"20 entries as expected on Python {platform.python_version()}"

    @_check("S04")
    def _keys_at_rest(self) -> str:
        """A key under the stretching of production opens with its passphrase and with no other."""
        from allocator.errors import CredentialError
        from allocator.keys import PrivateKeys

        (self.folder / "keys").mkdir()
        keys, own = KeyFolder(self.folder / "keys", stretching=STANDARD), PrivateKeys.from_entropy(os.urandom(64))
        keys.write("DRILL", "P1", own, PASSPHRASE, os.urandom)
        require(keys.unlock("DRILL", "P1", PASSPHRASE).sign_key == own.sign_key, "another key came out")
        try:
            keys.unlock("DRILL", "P1", PASSPHRASE + "x")
        except CredentialError:
            return f"Argon2id with {STANDARD.memory_kib // 1024} MiB"
        raise AssertionError("a wrong passphrase opened the key")

    @_check("P01", "C02", "C06", "A07")
    def _opening_to_activation(self) -> str:
        """A study is opened, people enrol, a list is drawn, sealed and committed to, halves are granted; active."""
        data = self.files["study"].read_bytes()
        study = read_study("study.toml", data)
        opening = Opening(
            study=study, study_bytes=data, registry_bytes=None, findings=[], person="SP", name="Sponsor", mode="test"
        )
        open_study(self.home, opening, PASSPHRASE, stretching=ONLY_FOR_TESTS, clock=self.clock)
        self.open()
        self.actors["SP"] = self.signed_in(self.service, "SP")
        for person, role in PEOPLE.items():
            self._enrol(person, role)
        design = read_design("design.toml", self.files["design"].read_bytes())
        self.service.generate(self.actors["ST"], design)
        for person in ("PH", "IN"):
            self.service.grant(self.actors["ST"], person)
        self.refused("not-active", lambda: self.confirm("P-001"))
        self.service.activate(self.actors["SP"], "drill")
        return self.verdict()

    def _enrol(self, person: str, role: str) -> None:
        _, code = self.service.add_person(self.actors["SP"], person, f"{role} of the drill", [role])
        self.service.enrol(person, code, lambda: PASSPHRASE)
        self.actors[person] = self.signed_in(self.service, person)

    @_check("A01", "A02", "A04", "A05", "E07")
    def _reveal_and_repeat(self) -> str:
        """The record is durable before the arm is shown; asking again, also from another process, shows the same."""
        self.refused("not-confirmed", lambda: self.reveal("P-001"))
        first = self.allocate("P-001")
        self.open()
        again = self.reveal("P-001")
        require((again.arm, again.number, again.repeated) == (first.arm, 1, True), "the repeat differs")
        self.allocate("P-002")
        return self.verdict()

    @_check("L02")
    def _changed_byte(self) -> str:
        """One changed byte of a record is found, by verify and before anything new stands on it."""
        log = self.place.log_file
        kept = log.read_bytes()
        at = kept.index(b'"kind":"activated"') + 3
        log.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        with read_evidence(self.place) as evidence:
            found = verify(evidence).verdict
        log.write_bytes(kept)
        require(found == "broken", f"the verdict was {found}")
        return "broken, as it must be; intact again with the byte put back"

    @_check("R03", "L03")
    def _backup_loss_and_restore(self) -> str:
        """A backup is read again; a loss after it is noticed, and stops allocation."""
        self.service.backup(self.actors["SP"], self.folder / "backup.tar")
        read_backup(self.folder / "backup.tar")
        self.allocate("P-003")
        self.allocate("P-004")
        self.service.close_files()
        self.place.log_file.unlink()
        file = self.folder / "backup.tar"
        done = restore(
            self.home,
            file,
            read_digest(file),
            lambda service: self.signed_in(service, "SP"),
            "drill",
            clock=self.clock,
            stretching=ONLY_FOR_TESTS,
        )
        self.open()
        require(done.missing == "known", "the loss was not noticed")
        self.refused("recovering", lambda: self.confirm("P-005"))
        return f"{done.record.fields['lost']['seq'] - done.record.seq + 1} lost records noticed"

    @_check("A01", "A04")
    def _recovery(self) -> str:
        """A receipt is entered; what may have been used besides is never given again; nobody gets two."""
        told = self.told["P-003"].record
        receipt = {"prev": told.prev.hex(), "body": told.body.decode()}
        _, reserved = self.service.recover(self.actors["ST"], "drill", receipts=[receipt])
        again = self.reveal("P-003")
        require((again.arm, again.number) == (self.told["P-003"].arm, 3), "the receipt gave something else")
        lost = self.told["P-004"].record.fields
        require(lost["position"] in [item["position"] for item in reserved], "a used entry is not reserved")
        fifth = self.allocate("P-005")
        require(fifth.record.fields["position"] > lost["position"], "a used entry was given again")
        require(fifth.number > lost["number"], "a number was given again")
        return f"{len(reserved)} entries reserved; {self.verdict(told.hash)}"

    @_check("A11", "U04")
    def _late_entry(self) -> str:
        """What was done on paper is entered with both times, at the entry that the list has for it."""
        self.confirm("P-006")
        event = self.service.history.opening.time if self.service.history.opening else self.clock()
        self.refused("event-time", lambda: self.service.late(self.actors["PH"], "P-006", event, "drill"))
        entered = self.service.late(self.actors["PH"], "P-006", self.clock(), "drill")
        return f"entered as number {entered.number}; {self.verdict()}"

    @_check("X06")
    def _wrong_participant_id(self) -> str:
        """Two people move an allocation to the right participant; the wrong id is free again."""
        self.allocate("P-070")
        self.confirm("P-007")
        for person in ("IN", "PH"):
            record, moved = self.service.reassign(self.actors[person], "P-070", "P-007", "drill")
        require(moved and self.reveal("P-007").arm == self.told["P-070"].arm, "it was not moved")
        require(self.service.history.allocation("P-070") is None, "the wrong id is not free")
        return f"moved by record {record.seq}; {self.verdict()}"

    @_check("G01", "C06")
    def _lost_list(self) -> str:
        """A lost list is sealed again from both shares of its seed, to the root committed to before."""
        papers = [self.service.copy_share(self.actors[person])[1] for person in ("ST", "CU")]
        self.place.sealed_file.unlink()
        self.open()
        record = self.service.reseal(self.actors["ST"], papers, "drill")
        for person in ("PH", "IN"):
            self.service.grant(self.actors["ST"], person)
        self.allocate("P-008")
        return f"root {record.fields['root'][:16]}…; {self.verdict()}"

    @_check("S06")
    def _lost_key(self) -> str:
        """A pharmacist who lost the key, and a statistician who is gone, are replaced."""
        self.service.grant(self.actors["PH"], "PH-2")
        for person in ("PH", "ST"):
            self.service.deactivate_person(self.actors["SP"], person, "drill")
        self.confirm("P-009")
        return f"PH-2 allocated number {self.reveal('P-009', by='PH-2').number}; {self.verdict()}"

    @_check("L05")
    def _clock(self) -> str:
        """A clock that went back stops the study until the sponsor signs for it; the jump is an event."""
        self.drift = timedelta(hours=-1)
        self.refused("clock-behind", lambda: self.confirm("P-010"))
        self.service.set_clock(self.actors["SP"], "drill")
        self.confirm("P-010")
        return self.verdict()

    @_check("A07", "A08")
    def _close(self) -> str:
        """After the close nothing new is allocated, and look-ups go on."""
        self.service.change_state(self.actors["SP"], "closed", "drill")
        self.refused("closed", lambda: self.reveal("P-010", by="PH-2"))
        require(self.reveal("P-001", by="PH-2").repeated, "a look-up failed")
        self.service.close_files()
        return self.verdict()

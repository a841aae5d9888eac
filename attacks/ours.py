"""Our own homes to be attacked. Each is told once; what is handed out are copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from victim import CHECKPOINT, FIRST, LOG, RECEIPT, TRAIL, Forgery, Outcome, Victim

from allocator.checkpoint import sign_checkpoint
from allocator.cli.verifying import verdict_text
from allocator.evidence import read_evidence
from allocator.export import CERTIFICATE, MANIFEST, RECORDS, SUMS, File, Manifest, parse_record_line, sums
from allocator.export_evidence import read_export
from allocator.exporting import export_study
from allocator.keys import PrivateKeys
from allocator.log import ALLOCATION_KINDS, link
from allocator.merkle import root
from allocator.trail import csv_lines, trail_row
from allocator.verdict import Evidence, Given, Verdict
from allocator.verify import verify
from allocator.writer import Actor
from attacks import Forger, Stored, dump, edit, log_of, place, rebuild, rechained, tell_story, write_head
from support import STUDY_ID, Clock, Trial, TrialFactory, open_service


class Home(Victim):
    """A home with its study."""

    table = "record"

    def __init__(self, told: Trial) -> None:
        self.folder, self.actors, self._now = told.home, told.actors, told.clock.now

    @cached_property
    def trial(self) -> Trial:
        """Its people at work; closed by `close`."""
        clock = Clock(self._now)
        return Trial(home=self.folder, service=open_service(self.folder, clock), actors=self.actors, clock=clock)

    def close(self) -> None:
        """Let go of its files."""
        if trial := self.__dict__.pop("trial", None):
            trial.close()

    @property
    def log(self) -> Path:
        return log_of(self.folder)

    def judged(self) -> Verdict:
        """The whole verdict."""
        self.close()
        kept = sorted(self.kept.iterdir())
        heads = tuple(bytes.fromhex(file.read_text(encoding="ascii")) for file in kept if "hash" in file.name)
        given = {
            f"given_{what}s": tuple(Given(file.name, file.read_bytes()) for file in kept if what in file.name)
            for what in (CHECKPOINT, RECEIPT, TRAIL)
        }
        with self._read(heads, **given) as evidence:
            return verify(evidence)

    def _read(self, heads: tuple[bytes, ...], **given: tuple[Given, ...]) -> AbstractContextManager[Evidence]:
        return read_evidence(place(self.folder), heads, **given)

    def verdict(self) -> Outcome:
        found = self.judged()
        return Outcome(verdict=found.verdict, findings=tuple((one.check, one.seq) for one in found.findings))

    def screen(self) -> str:
        return verdict_text(self.judged(), STUDY_ID)

    def keep(self, what: str, folder: Path | None = None) -> None:
        service, folder = self.trial.service, folder or self.kept
        if what == CHECKPOINT:
            (folder / what).write_text(service.checkpoint().note, encoding="utf-8")
        elif what == RECEIPT:
            allocated = [record for record in self.trial.records if record.kind in ALLOCATION_KINDS][-1]
            (folder / what).write_bytes(service.receipt(allocated).to_bytes())
        elif what == TRAIL:
            details = service.history.details
            rows = (trail_row(record, details(record)) for record in self.trial.records)
            (folder / f"{what}.csv").write_text("".join(csv_lines(rows, whole=True)), encoding="utf-8", newline="")
        else:
            record = self.trial.records[0] if what == FIRST else self.trial.last
            (folder / f"{what} hash").write_text(record.hash.hex(), encoding="ascii")

    def keep_a_lie(self) -> None:
        true = self.trial.service.checkpoint()
        secret = bytes.fromhex((place(self.folder).keys / "log.key").read_text(encoding="ascii"))
        key = Ed25519PrivateKey.from_private_bytes(secret)
        lie = sign_checkpoint(true.origin, true.size, bytes(32), key, key.public_key().public_bytes_raw())
        (self.kept / CHECKPOINT).write_text(lie.note, encoding="utf-8")

    def go_on(self, participant: str) -> None:
        self.trial.allocate(participant)

    def forge(self, forgery: Forgery) -> int:
        forger = Forger(self.trial)
        try:
            return forgery(forger)
        finally:
            forger.close()
            self.close()

    def respell(self, seq: int, old: str, new: str) -> None:
        rows = self.rows()
        rows[seq] = replace(rows[seq], body=rows[seq].body.replace(old.encode(), new.encode()))
        self.rebuild(rows)

    # ---- whoever can write the files ----------------------------------------------------------------------------

    def rows(self) -> list[Stored]:
        return dump(self.folder)

    def rebuild(self, rows: Sequence[Stored]) -> None:
        self.close()
        rebuild(self.folder, rows)

    def rechained(self, rows: Sequence[Stored], keys: frozenset[str]) -> list[Stored]:
        return rechained(rows, {person: self._signer(person, keys) for person in self.actors if keys & {person, LOG}})

    def _signer(self, person: str, keys: frozenset[str]) -> Actor:
        """A person, with their own key or else with the log's."""
        if person in keys:
            return self.actors[person]
        secret = bytes.fromhex((place(self.folder).keys / "log.key").read_text(encoding="ascii"))
        return Actor(person=person, keys=PrivateKeys.from_entropy(secret + bytes(32)))

    def move_anchor(self) -> None:
        rows = dump(self.folder)
        write_head(self.folder, len(rows) - 1, rows[-1].hash)

    def drop_anchor(self) -> None:
        (place(self.folder).keys / "head").unlink()

    def column(self, seq: int) -> None:
        edit(self.folder, "UPDATE record SET participant = 'P-002' WHERE seq = ?", seq)

    def detail(self, seq: int, value: str | None) -> None:
        if value is None:
            edit(self.folder, "DELETE FROM detail WHERE seq = ?", seq)
        else:
            edit(self.folder, "UPDATE detail SET value = ? WHERE seq = ?", value, seq)

    def signature(self, seq: int, change: Callable[[bytes, list[bytes]], bytes]) -> None:
        rows = self.rows()
        signatures = [bytes.fromhex(row.fields.get("signature", "")) for row in rows]
        rows[seq] = rows[seq].with_fields(signature=change(signatures[seq], signatures).hex())
        self.rebuild(rows)


class Export(Home):
    """An export of a study, in a stranger's hands."""

    def __init__(self, told: Trial, scope: str) -> None:
        super().__init__(told)
        self.folder = told.home.with_name(f"{told.home.name}-{scope}")
        export_study(told.service, told.actor("AU"), self.folder, scope)

    def _read(self, heads: tuple[bytes, ...], **given: tuple[Given, ...]) -> AbstractContextManager[Evidence]:
        return read_export(self.folder, heads, **given)

    def keep(self, what: str, folder: Path | None = None) -> None:
        """Record 0's hash is all that is kept of an export."""
        first = (self.folder / RECORDS).read_bytes().splitlines(keepends=True)[0]
        ((folder or self.kept) / f"{what} hash").write_text(link(*parse_record_line(first)).hex(), encoding="ascii")

    def pack_again(self) -> None:
        """Manifest and sums of the files as they are now; the certificate stays, for it needs a key."""
        names = sorted(file.name for file in self.folder.iterdir())
        files = {name: self._file(name) for name in names if name not in (MANIFEST, CERTIFICATE, SUMS)}
        lines = (self.folder / RECORDS).read_bytes().splitlines(keepends=True)
        hashes = [link(*parse_record_line(line)) for line in lines]
        manifest = Manifest.from_bytes((self.folder / MANIFEST).read_bytes())
        manifest = replace(manifest, files=files, records=len(hashes), head=hashes[-1].hex(), tree=root(hashes).hex())
        (self.folder / MANIFEST).write_bytes(manifest.to_bytes())
        (self.folder / SUMS).write_bytes(sums({name: self._file(name) for name in names if name != SUMS}))

    def _file(self, name: str) -> File:
        data = (self.folder / name).read_bytes()
        return File(size=len(data), sha256=hashlib.sha256(data).hexdigest())


# ---- the homes, untouched ------------------------------------------------------------------------------------------


def _story(factory: TrialFactory) -> Trial:
    trial = factory("active", enrollment=4, length=6)
    tell_story(trial)
    return trial


def _closed(factory: TrialFactory) -> Trial:
    trial = factory("active", enrollment=3, length=4, block_sizes=(2, 4))
    trial.allocate("P-001")
    trial.service.change_state(trial.actor("SP"), "closed", "all visits are done")
    trial.service.open_list(trial.actor("CU"))
    return trial


def _opened(factory: TrialFactory) -> Trial:
    trial = _closed(factory)
    trial.service.open_list(trial.actor("ST"))
    return trial


# by the name of a base
TOLD: dict[str, Callable[[TrialFactory], Trial]] = {
    "story": _story,
    "active": lambda factory: factory("active", enrollment=3, length=4, block_sizes=(2, 4)),
    "stratified": lambda factory: factory("active", stratified=True),
    "closed": _closed,
    "opened": _opened,
}
EXPORTED = ("evidence", "inspection")  # scopes: the base is an export of the story


def untouched(base: str, factory: TrialFactory) -> Home:
    """A home told, or an export of the story."""
    told = TOLD["story" if base in EXPORTED else base](factory)
    made = Export(told, base) if base in EXPORTED else Home(told)
    told.close()
    return made

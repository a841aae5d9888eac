"""StudySession: one study opened in one home, and who acts in it. Clock, entropy, keys and store are held here.

`setup` and `service` build their acts on it; nothing else touches a clock, a key file or a store.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from allocator import sealing
from allocator.allocation import CLOCK_TOLERANCE
from allocator.canonical import CanonicalError, parse_strict
from allocator.envelope import context, open_sealed
from allocator.errors import CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.history import History
from allocator.home import StudyPlace, inside_git, is_file, is_passing, sync_folder
from allocator.keys import STANDARD, KeyFolder, KeyStretching
from allocator.log import Record
from allocator.person import Person, Role
from allocator.relocation import check_here
from allocator.store import OpenStore
from allocator.stores import open_log
from allocator.study import MAX_FILE, Study, toml_tables
from allocator.text import is_identifier, shown, text_fault
from allocator.writer import Actor, Draft, RecordWriter

FAILURES_BEFORE_DELAY = 4
DELAY_WINDOW = timedelta(minutes=15)
DELAY_RECORDS = 1_000  # looked at, so that many failures do not make the delay itself slow
MOST_DELAY = 30.0  # seconds; a lock would keep the on-call pharmacist out, a delay keeps a guesser out


def system_clock() -> datetime:
    """Now, UTC, in whole milliseconds as records hold it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class StudySession:
    """One study in one home, opened."""

    def __init__(
        self,
        place: StudyPlace,
        study: Study,
        store: OpenStore,
        keys: KeyFolder,
        *,
        clock: Callable[[], datetime] = system_clock,
        entropy: Callable[[int], bytes] = os.urandom,
        pause: Callable[[float], None] = time.sleep,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.place, self.study, self._store, self._keys = place, study, store, keys
        self._clock, self._entropy, self._pause = clock, entropy, pause
        self._opened_grants: dict[str, bytes] = {}
        self._sealed_cache: tuple[str, sealing.SealedSchedule] | None = None
        self._writer = RecordWriter(
            study=study, store=store, keys=keys, sealed=self._sealed, clock=clock, entropy=entropy, notify=notify
        )
        self.history: History = self._writer.history

    @classmethod
    def open(
        cls,
        place: StudyPlace,
        *,
        stretching: KeyStretching = STANDARD,
        store: OpenStore | None = None,
        keys: KeyFolder | None = None,
        **givens: Any,
    ) -> Self:
        """Open a study that `open_study` made; with another store or other keys than its place has, where given.

        Raises:
            EvidenceError: the study file is not the one whose fingerprint is in record 0; the log is damaged.
            StorageError: the files cannot be read.
        """
        store = store or open_log(place)
        try:
            study = read_study_copy(place)
            opening = store.record(0)
            if opening is None:
                raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
            if opening.fields.get("fingerprint") != study.fingerprint.hex():
                raise EvidenceError(
                    "study-file-changed",
                    f"{place.study_file.name} was changed after the study was opened",
                    "Put the original file back: its fingerprint is in record 0. Nothing was done.",
                    {"expected": opening.fields.get("fingerprint"), "found": study.fingerprint.hex()},
                )
            if opening.fields.get("mode") == "production" and inside_git(place.home):
                raise Refused(
                    "inside-git",
                    f"{shown(str(place.home))} is now inside a git work tree: a checkout turns back time",
                    "Move the home out of the work tree, or take the .git folder away.",
                )
        except BaseException:
            store.close()
            raise
        return cls(place, study, store, keys or KeyFolder(place.keys, stretching=stretching), **givens)

    def close_files(self) -> None:
        """Close the log."""
        self._store.close()

    @property
    def mode(self) -> str:
        """production or test."""
        opening = self.history.opening
        return str(opening.fields["mode"]) if opening else "test"

    # ---- who acts ---------------------------------------------------------------------------------------------------

    def authenticate(self, person_id: str, passphrase: Callable[[], str], action: str) -> Actor:
        """Unlock a person's keys; every failure is recorded, and repeated ones are delayed, never locked (S05).

        Raises:
            CredentialError: unknown, not enrolled, deactivated, or a wrong passphrase.
            Refused: the log was moved away, so that nothing but its arrival can be signed.
        """
        last = self._store.last()
        if action != "arrived":
            check_here(last)
        person = self.history.person(person_id)
        if person is None:
            self._writer.write_failure(None, action, "unknown-person")
            raise CredentialError(
                "unknown-person", f"{shown(person_id)} is no person of this study", "See `allocator person list`."
            )
        if not person.active:
            self._writer.write_failure(person.id, action, "deactivated")
            raise CredentialError("deactivated", f"{person.id} is deactivated in this study", "Ask the sponsor.")
        if not person.enrolled:
            self._writer.write_failure(person.id, action, "not-enrolled")
            raise CredentialError(
                "not-enrolled",
                f"{person.id} is not enrolled and can do nothing yet",
                f"Enrol with the one-time code: allocator --as {person.id} person enrol --code CODE",
            )
        self._delay(person.id, last)
        try:
            keys = self._keys.unlock(self.study.id, person.id, passphrase())
        except CredentialError as error:
            if error.code == "wrong-passphrase":
                self._writer.write_failure(person.id, action, "wrong-passphrase")
            raise
        if keys.sign_key != person.sign_key:
            raise CredentialError(
                "key-file", f"the key file of {person.id} holds other keys than those enrolled", "Restore keys/."
            )
        return Actor(person=person.id, keys=keys)

    def _delay(self, person_id: str, last: Record | None) -> None:
        since = self._clock() - DELAY_WINDOW
        recent = max(0, last.seq - DELAY_RECORDS) if last else 0
        failures = sum(
            1
            for record in self._store.records(("attempt-failed",), since=recent)
            if record.fields["person"] == person_id and record.time >= since
        )
        if failures > FAILURES_BEFORE_DELAY:
            self._pause(min(2.0 ** (failures - FAILURES_BEFORE_DELAY - 1), MOST_DELAY))

    # ---- looking ----------------------------------------------------------------------------------------------

    def name_of(self, person_id: str) -> str:
        """A person's id with the name given when added."""
        for record in self._store.records(("study-opened", "person-added")):
            if record.fields.get("added", record.fields["person"]) == person_id:
                return f"{person_id} ({self._name_in(record)})"
        return person_id

    def _name_in(self, record: Record) -> str:
        """The name in a record; it may have been removed, and never fails what is shown after a commit."""
        try:
            return self.history.details(record).get("name", "name removed")
        except EvidenceError:
            return "name changed after it was signed"

    def people_at(self, moment: datetime | None) -> dict[str, Person]:
        """Everybody of the study as of a time, None for now: who had which rights (FDA Q&A 2024, Q11)."""
        if moment is None:
            return self.history.people
        return self.history.people_until(moment)

    def records(self, *, follow: bool = False, pause: Callable[[float], None] = time.sleep) -> Iterator[Record]:
        """All records in order; with `follow` waits for further ones, without end."""
        following = 0
        while True:
            for record in list(self._store.records(since=following)):
                yield record
                following = record.seq + 1
            if not follow:
                return
            pause(1.0)

    def read_log_whole(self, actor: Actor) -> Record:
        """Record that this person reads every record whole, with its private details (L06)."""
        return self._writer.write(actor, "log-read", lambda _: Draft(kind="log-read"))

    def private_details(self, seq: int) -> dict[str, str]:
        """The private details of one record, by name."""
        record = self._store.record(seq)
        return self.history.details(record) if record else {}

    def status(self) -> dict[str, Any]:
        """State and counts; no arm totals, block sizes, positions or list length (C03)."""
        last, opening = self._store.last(), self.history.opening
        newest = self.history.sealing
        return {
            "study": self.study.id,
            "mode": self.mode,
            "state": self.history.state,
            "allocated": self.history.allocated,
            "enrollment": self.study.enrollment,
            "sponsors": self._active_sponsors(),
            "clock_behind": self._clock_behind(),
            "waiting": self.history.waiting(now=self._clock(), hours=self.study.confirmation_hours),
            "undecided": self.history.undecided_blockers(),
            "opened": opening.fields["time"] if opening else None,
            "records": last.seq + 1 if last else 0,
            "last_time": last.fields["time"] if last else None,
            "head": last.hash.hex() if last else None,
            "root": newest.fields["root"] if newest else None,
            "first_record": opening.hash.hex() if opening else None,
        }

    def _active_sponsors(self) -> int:
        return sum(Role.SPONSOR in p.roles and p.active and p.enrolled for p in self.history.people.values())

    def _clock_behind(self) -> bool:
        """Whether the clock contradicts the log, so that nothing can be written now."""
        last = self._store.last()
        return last is not None and last.time - self._clock() > CLOCK_TOLERANCE

    def known_loss(self) -> tuple[str, dict[str, Any] | None]:
        """What this log lacks, by the local head: ``none``; ``known``, with the newest record lost; ``unknown``."""
        return self.loss_by(self._keys.read_head())

    def loss_by(self, head: tuple[int, bytes] | None) -> tuple[str, dict[str, Any] | None]:
        """The same by a head from elsewhere."""
        if head is None:
            return "unknown", None
        seq, digest = head
        record = self._store.record(seq)
        if record is not None and record.hash == digest:
            return "none", None
        return "known", {"seq": seq, "hash": digest.hex()}

    def check_undisclosed(self) -> None:
        """Nothing is allocated from a list of which a share was given: a restore may have undone the close (U05).

        Raises:
            Refused: seed.json, or a share given, of this list lies in the home.
        """
        newest = self.history.sealing
        if self.history.state in ("closed", "opened"):
            return  # refused as what it is: after the close shares are given as they should be
        committed = set(newest.fields["seed_commitments"]) if newest else set()
        for file in (self.place.seed_file, *self.place.schedules.glob("share-*.json")):
            if is_file(file) and committed & _commitments(file):
                raise Refused(
                    "disclosed",
                    f"{file.name} discloses the seed of this list, or a share of it: nothing more is allocated from it",
                    "The sponsor closes the study (allocator close), and says what happened.",
                )

    # ---- the sealed schedule ----------------------------------------------------------------------------------

    def _sealed(self) -> sealing.SealedSchedule | None:
        """The sealed schedule of the newest ``generated`` record, held to the digest in the log, kept in memory."""
        newest = self.history.sealing
        if newest is None:
            return None
        digest = newest.fields["sealed_digest"]
        if self._sealed_cache is None or self._sealed_cache[0] != digest:
            self._sealed_cache = digest, read_sealed(self.place.sealed_file, digest)
        return self._sealed_cache[1]

    def _required_sealed(self) -> sealing.SealedSchedule:
        sealed = self._sealed()
        if sealed is None:
            raise Refused("not-sealed", "no list is sealed", "The statistician runs `allocator generate` first.")
        return sealed

    def _sealed_stratum(self, sealed: sealing.SealedSchedule, label: str) -> sealing.SealedStratum:
        stratum = sealed.stratum(label)
        if stratum is None:
            raise EvidenceError("sealed-file", "the stratum is not in the sealed schedule", "Run `allocator verify`.")
        return stratum

    def _granted_key(self, actor: Actor, sealed: sealing.SealedSchedule) -> bytes:
        """This person's K_p or K_i."""
        record = self.history.grant_of(actor.person)
        if record is None:
            raise Refused(
                "not-granted",
                f"{actor.person} has not been granted a half of the key",
                "Ask the statistician to run `allocator grant`.",
            )
        envelope = record.fields["envelope"]
        if envelope not in self._opened_grants:
            info = context("grant", self.study.fingerprint, sealed.sealing, actor.person)
            self._opened_grants[envelope] = open_sealed(actor.keys.opening, bytes.fromhex(envelope), info)
        return self._opened_grants[envelope]


def _commitments(file: Path) -> set[str]:
    """Commitments to the shares of the seed that a file holds; none when it holds no share."""
    try:
        plain = parse_strict(file.read_bytes(), limit=1 << 20)
        shares = [*plain.get("shares", ()), plain.get("share", "")]
        return {sealing.seed_commitment(bytes.fromhex(share)).hex() for share in shares if share}
    except (OSError, CanonicalError, ValueError, TypeError):
        return set()


def read_study_copy(place: StudyPlace) -> Study:
    """The study from the home's own copy; EvidenceError when it is no study any more."""
    try:
        with place.study_file.open("rb") as stream:
            return Study.from_tables(toml_tables(stream.read(MAX_FILE + 1)))
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, OSError) and is_passing(error):
            raise StorageError(
                "unavailable", f"study.toml cannot be read: {error.strerror}", "Nothing was written. Ask again."
            ) from error
        raise EvidenceError(
            "study-file",
            f"the home's study.toml cannot be read: {error}",
            "Put the original file back. Nothing was done.",
        ) from error


def next_file(path: Path) -> Path:
    """Where a sealed schedule waits until its record is durable."""
    return path.with_name(path.name + ".next")


def finish_renaming(path: Path, digest: str) -> None:
    """Give the waiting file its name when it is the one of this digest, which is in the log (docs/spec.md §13.5)."""
    following = next_file(path)
    try:
        if hashlib.sha256(following.read_bytes()).hexdigest() == digest:
            following.replace(path)
            sync_folder(path.parent)
    except FileNotFoundError:
        return  # none is waiting, or another process was faster
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{following.name} could not be renamed: {error.strerror}", "Check the home's permissions."
        ) from error


def read_sealed(path: Path, digest: str) -> sealing.SealedSchedule:
    """sealed.json, held to the digest in the log. EvidenceError when it is another file."""
    try:
        finish_renaming(path, digest)
        data = path.read_bytes()
    except OSError as error:
        if is_passing(error):
            raise StorageError(
                "unavailable", f"sealed.json cannot be read: {error.strerror}", "Nothing was written. Ask again."
            ) from error
        raise EvidenceError(
            "sealed-file",
            f"sealed.json cannot be read: {error.strerror}",
            "The sponsor puts it back from a backup (allocator restore FILE), or the statistician seals it again.",
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise EvidenceError(
            "sealed-file", "sealed.json is not the file sealed in the log", "Restore the file from a backup."
        )
    return sealing.SealedSchedule.from_bytes(data)


def check_passphrase(passphrase: str, mode: str) -> None:
    """CredentialError for a passphrase that is too short: 8 characters in production, 1 in mode test."""
    least = 8 if mode == "production" else 1
    if len(passphrase) < least:
        raise CredentialError(
            "passphrase-short",
            f"a passphrase needs at least {least} character{'s' if least > 1 else ''}",
            "Several words are easy to remember and hard to guess.",
        )


def reason_detail(reason: str) -> dict[str, str]:
    require_text("reason", reason)
    return {"reason": reason}


def require_text(name: str, value: str) -> None:
    if fault := text_fault(value):
        raise InputError(name, f"the {name} {fault}", "Write up to 500 printable characters.")


def require_id(value: str) -> None:
    if not is_identifier(value):
        raise InputError(
            "id", f"{shown(value[:60])!r} is no id", "Ids are ASCII letters, digits and . _ -, at most 40 characters."
        )

"""Restore: put a study back from a backup, recorded, and noticed where something newer was shown (docs/spec.md §15).

Everything is done on a copy first: unpacked, verified, signed for. Only then does it take its place, and what stood
there is moved aside, never removed. The local head is not put back: it tells what the restored log lacks.

A log in PostgreSQL that holds and is the newer one stays where it is, and the record is written there; the files beside
it are put back. Otherwise the log of the backup becomes a file of this home (docs/postgres.md).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from allocator.backup import Manifest, unpack
from allocator.errors import CredentialError, EvidenceError, InputError, StorageError
from allocator.home import StudyPlace, is_file, refuse_symlink, sync_folder
from allocator.keys import STANDARD, KeyFolder, KeyStretching
from allocator.log import Record
from allocator.newer_log import check_needed, database_to_ask, judge, keep_newer_log
from allocator.service import AllocationService
from allocator.session import system_clock
from allocator.stores import files_only
from allocator.text import shown
from allocator.writer import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did.

    Attributes:
        record: that says so.
        manifest: of the backup.
        missing: ``none``, ``known`` or ``unknown``.
        kept_log: whether the log that was there was the newer one, and goes on.
        in_postgres: whether the log that goes on lies in PostgreSQL.
        was_in_postgres: whether it was to be found there before.
        aside: where what stood in the home lies now.
    """

    record: Record
    manifest: Manifest
    missing: str
    kept_log: bool
    in_postgres: bool
    was_in_postgres: bool
    aside: Path | None


def restore(
    home: Path,
    file: Path,
    digest: str,
    authenticate: Callable[[AllocationService], Actor],
    reason: str,
    *,
    clock: Callable[[], datetime] = system_clock,
    stretching: KeyStretching = STANDARD,
    notify: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Put back the study that a backup holds.

    The log that stands in the home, or in the database of ALLOCATOR_STORE, is kept when it holds and is the newer one:
    only what is missing or damaged beside it comes from the backup then.

    Args:
        home: where; its keys/ are kept, and files missing there are put back.
        file: the backup.
        digest: SHA-256 of the file, for the record.
        authenticate: gives the sponsor, from the service of the copy.
        reason: recorded.
        clock: time of the record.
        stretching: of key files.
        notify: takes warnings.

    Raises:
        Refused: there is nothing to put back, or this person may not.
        EvidenceError: the backup does not verify.
        StorageError: the disk refused, or the database cannot be asked; what stood in the home still stands there.
    """
    for path in (home, home / "schedules", home / "keys"):
        refuse_symlink(path)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as folder:
        staged_home = Path(folder)
        manifest = unpack(file, staged_home)
        place = StudyPlace(home=home, study=manifest.study)
        staged = StudyPlace(home=staged_home, study=manifest.study)
        address = database_to_ask(place)
        was_in_postgres = address is not None or os.path.lexists(place.postgres_file)
        check_needed(place, staged, address)
        place.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        with KeyFolder(place.keys).lock():
            _clear_killed_restores(home, staged_home)
            _copy_disclosed(place, staged)
            _copy_keys(place, staged)
            kept = keep_newer_log(place, staged, address, notify)
            in_postgres = is_file(staged.postgres_file)
            with nullcontext() if in_postgres else files_only():
                _check_holds(staged)
                record, missing = _sign(
                    place, staged, digest, authenticate, reason, clock=clock, stretching=stretching, notify=notify
                )
            aside = _put_in_place(place, staged, record)
            KeyFolder(place.keys).write_head(record.seq, record.hash)
    return Restored(
        record=record,
        manifest=manifest,
        missing=missing,
        kept_log=kept,
        in_postgres=in_postgres,
        was_in_postgres=was_in_postgres,
        aside=aside,
    )


def _clear_killed_restores(home: Path, own: Path) -> None:
    """Copies that a killed restore left; nobody else restores now, for the lock is held."""
    for left in home.glob(".restore-*"):
        if left != own and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


def _check_holds(staged: StudyPlace) -> None:
    """EvidenceError unless what was unpacked verifies."""
    if (verdict := judge(staged)).findings:
        raise EvidenceError(
            "backup-broken",
            f"the backup does not verify: {verdict.findings[0].message}",
            "Nothing was put back. Try another backup.",
            [finding.as_json() for finding in verdict.findings[:5]],
        )


def _copy_disclosed(place: StudyPlace, staged: StudyPlace) -> None:
    """What was disclosed since the backup stays disclosed: seed.json and shares given are never put back in time."""
    for own in (place.seed_file, place.next_seed_file, *sorted(place.schedules.glob("share-*.json"))):
        target = staged.schedules / own.name
        if is_file(own) and not target.exists():
            shutil.copyfile(own, target)


def _copy_keys(place: StudyPlace, staged: StudyPlace) -> None:
    """The home's own key files go before those of the backup: a passphrase may have been changed since."""
    for own in sorted(place.keys.iterdir()):
        if own.is_file() and own.name not in ("head", "lock"):
            shutil.copyfile(own, staged.keys / own.name)


def _sign(
    place: StudyPlace,
    staged: StudyPlace,
    digest: str,
    authenticate: Callable[[AllocationService], Actor],
    reason: str,
    *,
    clock: Callable[[], datetime],
    stretching: KeyStretching,
    notify: Callable[[str], None],
) -> tuple[Record, str]:
    """The sponsor's record in the copy, so that no log is put back without it."""
    service = AllocationService.open(staged, clock=clock, stretching=stretching, notify=notify)
    try:
        actor = authenticate(service)
        service.check_may(actor, "restored")
        missing, lost = service.loss_by(KeyFolder(place.keys).read_head())
        record = service.state_loss(actor, reason, backup=digest, missing=missing, lost=lost)
    except CredentialError as error:
        if error.code == "no-key":
            error.hint = "The backup holds no key of this person. Put the key file into keys/, then restore again."
        raise
    finally:
        service.close_files()
    return record, missing


def _put_in_place(place: StudyPlace, staged: StudyPlace, record: Record) -> Path | None:
    """The copy takes the study's place; what stood there is moved aside. A crash in between: restore again."""
    aside: Path | None = None
    try:
        for key in sorted(staged.keys.iterdir()):
            if key.name not in ("head", "lock") and not (place.keys / key.name).exists():
                key.rename(place.keys / key.name)
        sync_folder(place.keys)
        place.schedules.parent.mkdir(parents=True, exist_ok=True)
        if place.schedules.exists():
            stamp = record.fields["time"].replace(":", "").replace(".", "")
            replaced = place.home / "replaced"
            replaced.mkdir(exist_ok=True)
            aside = _unused(replaced, f"{place.study}-{stamp}")
            _keep_receipts(place, staged)
            place.schedules.rename(aside)
        staged.schedules.rename(place.schedules)
        sync_folder(place.schedules.parent)
        sync_folder(place.home)
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{shown(str(place.schedules))}: {error.strerror}", "Free the folder, then restore again."
        ) from error
    return aside


def _unused(folder: Path, name: str) -> Path:
    """A name in a folder that nothing has: what was moved aside before is never overwritten."""
    return next(path for n in count() if not (path := folder / (f"{name}-{n}" if n else name)).exists())


def _keep_receipts(place: StudyPlace, staged: StudyPlace) -> None:
    """Receipts written since the backup: the recovery needs them."""
    if place.receipts.is_dir():
        staged.receipts.mkdir(exist_ok=True)
        for receipt in place.receipts.iterdir():
            if receipt.is_file() and not (staged.receipts / receipt.name).exists():
                shutil.copyfile(receipt, staged.receipts / receipt.name)


def read_digest(file: Path) -> str:
    """SHA-256 of a backup's file, in hexadecimal. InputError when it cannot be read."""
    import hashlib

    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError("cannot-read", f"{shown(str(file))}: {error.strerror}", "Check the file's name.") from error

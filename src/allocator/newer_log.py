"""Which log goes on after a restore: that of the backup, or a newer one that is there and holds (docs/spec.md §15.2).

The one that is there is a file of the home, or lies in the database of ALLOCATOR_STORE (docs/postgres.md).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from allocator.errors import EvidenceError, InputError, Refused, StorageError
from allocator.evidence import read_evidence
from allocator.home import StudyPlace
from allocator.sqlite_store import SqliteStore
from allocator.stores import VARIABLE, address_given, address_of, files_only, state_place
from allocator.text import shown
from allocator.verdict import Verdict
from allocator.verify import verify


def judge(place: StudyPlace) -> Verdict:
    """The verdict on a study in a home."""
    with read_evidence(place) as evidence:
        return verify(evidence)


def _judge_in_postgres(place: StudyPlace) -> Verdict:
    """As `judge`; a database that cannot be asked stops the restore, for it may hold what the backup lacks."""
    try:
        return judge(place)
    except (StorageError, InputError) as error:
        error.hint = (
            "Nothing was put back: the database may hold what the backup lacks. Reach it first. "
            f"If it is gone for good, unset {VARIABLE} and restore again: the log is a file then."
        )
        raise


def database_to_ask(place: StudyPlace) -> str | None:
    """The database that may hold a newer log, None where there is none to ask. InputError: the log is a file here."""
    return address_of(place) if os.path.lexists(place.log_file) else address_given()


def check_needed(place: StudyPlace, staged: StudyPlace, address: str | None) -> None:
    """A study that holds and reaches its own head needs nothing: an older log would only lose records."""
    if not (place.log_file.exists() or (address and place.postgres_file.exists())):
        return
    try:
        verdict = _judge_in_postgres(place) if address else judge(place)
    except EvidenceError as error:
        if error.code != "store-file":  # that one is put back, too
            raise
        return
    if verdict.moved and place.moving_file.exists():
        raise Refused(
            "moved",
            f"the log of {place.study} is on its way to another place, and nothing of it is lost",
            "End that first: the sponsor gives the same `allocator move` again. Then restore, if still needed.",
        )
    if verdict.verdict == "intact-local" and not verdict.moved and not _missing_keys(place, staged):
        raise Refused(
            "nothing-to-restore",
            f"{place.study} in {shown(str(place.home))} holds, and reaches its head: nothing is missing",
            "If it was put back with the whole machine, state the loss instead: allocator recover --reason TEXT.",
        )


def _missing_keys(place: StudyPlace, staged: StudyPlace) -> bool:
    return any(not (place.keys / key.name).is_file() for key in staged.keys.iterdir())


def keep_newer_log(
    place: StudyPlace, staged: StudyPlace, address: str | None, notify: Callable[[str], None] = lambda _: None
) -> bool:
    """Take the log that is there into the copy where, with the other files of the backup, it holds and is no shorter.

    Args:
        place: the study's.
        staged: the copy, with the log of the backup.
        address: of the database that has the study's log, None where it is a file.
        notify: takes warnings.

    Returns:
        Whether it was kept. A log in PostgreSQL is not copied: the copy says then that it lies there.
    """
    if address is not None:
        return _keep_log_in_postgres(staged, notify)
    if not place.log_file.is_file() or place.log_file.is_symlink():
        return False
    of_backup = staged.log_file.with_name("log.of-backup")
    theirs = judge(staged)
    staged.log_file.rename(of_backup)
    journal = place.log_file.with_name(place.log_file.name + "-journal")
    shutil.copyfile(place.log_file, staged.log_file)
    if journal.exists():
        shutil.copyfile(journal, staged.log_file.with_name(journal.name))
    ours = judge(staged)
    if not ours.findings and ours.records >= theirs.records and not _left(ours, theirs, notify):
        of_backup.unlink()
        return True
    for left in (staged.log_file, staged.log_file.with_name(journal.name)):
        left.unlink(missing_ok=True)
    of_backup.rename(staged.log_file)
    return False


def _keep_log_in_postgres(staged: StudyPlace, notify: Callable[[str], None]) -> bool:
    """Let the copy go on with the log in the database, under the same condition; the backup's own log goes then."""
    with files_only():
        theirs = judge(staged)
        with SqliteStore(staged.log_file) as store:
            first = store.record(0)
    if first is None:
        return False
    of_backup = staged.log_file.with_name("log.of-backup")
    staged.log_file.rename(of_backup)
    state_place(staged, first.hash)
    ours = _judge_in_postgres(staged)
    if not ours.findings and ours.records >= theirs.records and not _left(ours, theirs, notify):
        of_backup.unlink()
        return True
    staged.postgres_file.unlink()
    of_backup.rename(staged.log_file)
    return False


def _left(ours: Verdict, theirs: Verdict, notify: Callable[[str], None]) -> bool:
    """Whether the newer log left its place by its last record, so that nothing follows it there; said where it did."""
    if ours.moved:
        notify(
            f"the log here reaches to record {ours.records - 1}, which sealed it when it was moved away; the backup "
            f"ends at record {theirs.records - 1}. What is between is not in the log that is put back: look for the "
            "place that it was moved to, before anything is allocated here"
        )
    return bool(ours.moved)

"""The files of a study at one moment, copied while others write: what a backup is made of (docs/spec.md §15.1).

Everything of schedules/<study>/ and keys/<study>/ that has a place in a backup: never the head, never a lock.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.errors import EvidenceError
from allocator.home import StudyPlace
from allocator.keys import KeyFolder
from allocator.known_servers import KnownServers
from allocator.log import GENESIS, link
from allocator.log_copy import copy_snapshot, this_moment
from allocator.sqlite_store import SqliteStore
from allocator.stores import address_of, check_first

if TYPE_CHECKING:
    from allocator.postgres_connection import Bounded

_KEY_FILE = re.compile(r"(?:log\.key|[A-Za-z0-9._-]{1,40}\.json)", re.ASCII)
_RECEIPT = re.compile(r"[A-Za-z0-9._-]{1,120}", re.ASCII)
_SCHEDULE_FILES = ("study.toml", "registry.json", "sealed.json", "sealed.json.next", "log.sqlite3", "seed.json")
_SHARE = re.compile(r"share-[A-Za-z0-9._-]{1,40}\.json", re.ASCII)


def has_a_place(path: str, study: str) -> bool:
    """Whether a path is one that a backup of this study may hold."""
    parts = path.split("/")
    if parts[:2] == ["keys", study] and len(parts) == 3:
        return _KEY_FILE.fullmatch(parts[2]) is not None
    if parts[:2] != ["schedules", study] or len(parts) not in (3, 4):
        return False
    if len(parts) == 4:
        return parts[2] == "receipts" and _RECEIPT.fullmatch(parts[3]) is not None and parts[3] not in (".", "..")
    return parts[2] in _SCHEDULE_FILES or _SHARE.fullmatch(parts[2]) is not None


def copy_study(place: StudyPlace, folder: Path) -> dict[str, Path]:
    """Copies of the study's files at one moment, by their path in a home; a log in PostgreSQL is a file among them."""
    with ExitStack() as stack:
        copies, moment = _copy_files(place, folder, stack)
        if moment is not None:  # nobody waits for it
            log = folder / str(len(copies))
            copy_snapshot(moment, place.study, log)
            with SqliteStore(log) as store:
                check_first(place, store.record(0))
            copies[str(place.log_file.relative_to(place.home))] = log
    return copies


def _copy_files(place: StudyPlace, folder: Path, stack: ExitStack) -> tuple[dict[str, Path], Bounded | None]:
    """Copy what lies in the home, while nobody writes; and what sees the log of that moment where it lies elsewhere."""
    copies: dict[str, Path] = {}
    with KeyFolder(place.keys).lock():
        address = address_of(place)  # asked here: while the lock was waited for, the log may have moved
        for source in _sources(place):
            path = str(source.relative_to(place.home))
            copies[path] = Path(shutil.copyfile(source, folder / str(len(copies))))
        journal = place.log_file.with_name(place.log_file.name + "-journal")
        if journal.exists():  # a crash left it: the copy is rolled back, as the next writer would do with the log
            log = copies[str(place.log_file.relative_to(place.home))]
            shutil.copyfile(journal, log.with_name(log.name + "-journal"))
        moment = this_moment(address, KnownServers(place.keys)) if address else None
        return copies, stack.enter_context(moment) if moment else None


def _sources(place: StudyPlace) -> Iterator[Path]:
    for name in _SCHEDULE_FILES:
        if (place.schedules / name).is_file():
            yield place.schedules / name
    yield from (path for path in sorted(place.schedules.iterdir()) if _SHARE.fullmatch(path.name) and path.is_file())
    receipts = place.receipts.iterdir() if place.receipts.is_dir() else iter(())
    yield from (path for path in sorted(receipts) if _RECEIPT.fullmatch(path.name) and path.is_file())
    yield from (path for path in sorted(place.keys.iterdir()) if _KEY_FILE.fullmatch(path.name) and path.is_file())


def follow(log: Path) -> tuple[int, bytes]:
    """Number of records and hash of the last one, every link followed. EvidenceError where the chain breaks."""
    count, digest = 0, GENESIS
    try:
        with closing(sqlite3.connect(f"{log.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            query = "SELECT seq, prev, CAST(body AS BLOB) FROM record NOT INDEXED ORDER BY seq"
            for seq, prev, body in connection.execute(query):
                if seq != count or prev != digest:
                    raise EvidenceError(
                        "log-changed",
                        f"the chain of the log breaks at record {count}",
                        "Run `allocator verify`. A backup of a changed log would only keep the change.",
                    )
                count, digest = count + 1, link(prev, body)
    except sqlite3.Error as error:
        raise EvidenceError("log-damaged", f"the log cannot be read: {error}", "Run `allocator verify`.") from error
    return count, digest

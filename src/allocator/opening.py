"""Open a study: make its folders, keys and log, with record 0. Done once, by the sponsor (docs/spec.md §13.2).

The log takes its name last, when record 0 is in it: a crash before that leaves no study, and `init` can run again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from allocator.case import Case
from allocator.errors import InputError, Refused, StorageError
from allocator.history import History
from allocator.home import StudyPlace, inside_git, refuse_symlink, write_durably
from allocator.keys import STANDARD, KeyFolder, KeyStretching, PrivateKeys
from allocator.log import GENESIS, Record
from allocator.person import Role
from allocator.record_form import MODES
from allocator.rules import check_record
from allocator.session import check_passphrase, system_clock
from allocator.store import Store
from allocator.stores import check_unopened, make_log
from allocator.study import Study
from allocator.text import is_identifier, shown, text_fault
from allocator.writer import EARLIEST, Actor, Draft, make_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the sponsor gives to open a study.

    Attributes:
        study: parsed from `study_bytes`.
        study_bytes: study.toml as given; the home keeps this copy.
        registry_bytes: the registry record, or None.
        findings: of the protocol check, as JSON objects {id, level, message, quotes}.
        person: id of the first person, the sponsor.
        name: that person's name.
        mode: ``production`` or ``test``.
    """

    study: Study
    study_bytes: bytes
    registry_bytes: bytes | None
    findings: Sequence[dict[str, Any]]
    person: str
    name: str
    mode: str


def open_study(
    home: Path,
    opening: Opening,
    passphrase: str,
    *,
    clock: Callable[[], datetime] = system_clock,
    entropy: Callable[[int], bytes] = os.urandom,
    stretching: KeyStretching = STANDARD,
) -> Record:
    """Make the study in this home and return record 0.

    Raises:
        InputError: a bad id or name, a home that cannot be used, a study that is there already.
        CredentialError: a passphrase that is too short.
        StorageError: the disk refused; there is no study.
    """
    place = StudyPlace(home=home, study=opening.study.id)
    _check_given(opening, place)
    check_passphrase(passphrase, opening.mode)
    _make_folders(place)
    _check_unopened(place, opening)
    keys = KeyFolder(place.keys, stretching=stretching)
    own = PrivateKeys.from_entropy(entropy(64))
    keys.write(opening.study.id, opening.person, own, passphrase, entropy)
    log_key = keys.write_log_key(entropy(32))
    write_durably(place.study_file, opening.study_bytes)
    if opening.registry_bytes is not None:
        write_durably(place.registry_file, opening.registry_bytes)
    draft = _first_draft(opening, own, log_key)
    now = clock()
    if now < EARLIEST:
        raise StorageError(
            "clock-unset", f"the clock says {now}: it was never set", "Set it right, then run init again."
        )
    record, details = make_record(
        draft, 0, GENESIS, now, opening.mode, Actor(person=opening.person, keys=own), Role.SPONSOR, entropy
    )

    def check(store: Store) -> None:
        check_record(Case(study=opening.study, history=History(store), sealed=None, record=record, details=details))

    make_log(place, record, details, check)
    keys.write_head(record.seq, record.hash)
    return record


def _first_draft(opening: Opening, own: PrivateKeys, log_key: bytes) -> Draft:
    registry = opening.registry_bytes
    return Draft(
        kind="study-opened",
        fields={
            "study": opening.study.id,
            "fingerprint": opening.study.fingerprint.hex(),
            "registry": hashlib.sha256(registry).hexdigest() if registry is not None else None,
            "findings": list(opening.findings),
            "log_key": log_key.hex(),
            "sign_key": own.sign_key.hex(),
            "seal_key": own.seal_key.hex(),
        },
        details={"name": opening.name},
    )


def _check_given(opening: Opening, place: StudyPlace) -> None:
    if not is_identifier(opening.person):
        raise InputError(
            "id", f"{shown(opening.person[:60])!r} is no id", "ASCII letters, digits and . _ -, at most 40."
        )
    if fault := text_fault(opening.name):
        raise InputError("name", f"the name {fault}", "Write up to 500 printable characters.")
    if opening.mode not in MODES:
        raise RuntimeError(f"no mode {opening.mode!r}")
    if opening.mode == "production" and inside_git(place.home):
        raise Refused(
            "inside-git",
            f"{shown(str(place.home))} is inside a git work tree: a checkout there would put the log back in time",
            "Give --home a folder of its own, or use --mode test.",
        )


def _make_folders(place: StudyPlace) -> None:
    for path in (place.home, place.schedules.parent, place.keys.parent, place.schedules, place.keys):
        refuse_symlink(path)
    try:
        for folder in (place.schedules, place.keys):
            folder.mkdir(parents=True, exist_ok=True)
        place.keys.chmod(0o700)
    except OSError as error:
        raise StorageError(
            "cannot-write", f"{shown(str(place.home))}: {error.strerror}", "Nothing was opened. Check the permissions."
        ) from error


def _check_unopened(place: StudyPlace, opening: Opening) -> None:
    check_unopened(place)
    own = (f"{opening.person}.json", "log.key", "lock", "servers")
    others = [f.name for f in place.keys.iterdir() if f.name not in own]
    if others:
        raise InputError(
            "keys-without-log",
            f"keys/{opening.study.id}/ holds {', '.join(sorted(others))}, but there is no log",
            "If a log was here, stop: restore it. If not, move these files away and run init again.",
        )
    for path, data in ((place.study_file, opening.study_bytes), (place.registry_file, opening.registry_bytes)):
        if path.exists() and data is not None and path.read_bytes() != data:
            raise InputError(
                "other-file", f"{path.name} in this home is not the file given", "Move it away, then run init again."
            )

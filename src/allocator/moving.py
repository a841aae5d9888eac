"""A study's log carried from its file to PostgreSQL, or back: copied, compared, sealed, and only then gone on with.

Each step may be done again. Until the record ``moved`` the log goes on where it was; from then on nowhere, until the
same command, made again if need be, has ended with ``arrived`` (docs/spec.md §10.12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from allocator import transit
from allocator.departure import DepartureService, busy
from allocator.errors import AllocatorError, EvidenceError, InputError, Refused
from allocator.evidence import read_beside, with_log
from allocator.home import StudyPlace
from allocator.keys import KeyFolder
from allocator.log import Detail, Record
from allocator.log_end import Filling, LogEnd
from allocator.relocation import left
from allocator.session import system_clock
from allocator.store import OpenStore, Store
from allocator.stores import two_logs
from allocator.verdict import Evidence, Verdict
from allocator.verify import verify
from allocator.writer import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move did.

    Attributes:
        moved, arrived: its two records.
        aside: what the home has left of the old place.
        verdict: on the study in the new place.
    """

    moved: Record
    arrived: Record
    aside: Path
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A log on its way.

    Attributes:
        source, target: the end that it leaves, the end where it goes.
        judge: gives the verdict on evidence.
    """

    place: StudyPlace
    source: LogEnd
    target: LogEnd
    reason: str = ""
    clock: Callable[[], datetime] = system_clock
    notify: Callable[[str], None] = lambda _: None
    judge: Callable[[Evidence], Verdict] = verify

    def run(self, authenticate: Callable[[DepartureService, str], Actor]) -> Moved:
        """Move the log, or end a move that was cut off.

        Args:
            authenticate: gives the sponsor, from a service and the kind of record to be signed.

        Raises:
            Refused: this person may not; the log is sealed for another place.
            InputError: the log is there already.
            EvidenceError: the log, or its copy, does not hold; another log is there.
            StorageError: somebody writes, or a place cannot be reached. Where the log is sealed already, its hint says
                so.
        """
        actor = self._sponsor(authenticate)
        with KeyFolder(self.place.keys).lock():
            if self.source.is_named:
                moved, aside = self._carry(actor)
            else:
                moved, aside = self._left_here()
            with _sealed_already(moved):
                arrived = self._arrive(actor)
            transit.end(self.place)
            with _done_already(arrived), self._read(self.target) as evidence:
                verdict = self.judge(evidence)
        return Moved(moved=moved, arrived=arrived, aside=aside, verdict=verdict)

    # ---- before anything is written ----------------------------------------------------------------------------------

    def _sponsor(self, authenticate: Callable[[DepartureService, str], Actor]) -> Actor:
        here = self.source if self.source.is_named else self.target
        with closing(here.open()) as store:
            service = self._service(store, KeyFolder(self.place.keys))
            if _is_sealed(store):
                self._sealing(store)
                return authenticate(service, "arrived")
            if here is self.target:
                raise self._there_already(store)
            if self.target.is_named:
                raise two_logs(self.place)
            actor = authenticate(service, "moved")
            service.check_may(actor, "moved")
        return actor

    def _there_already(self, store: Store) -> InputError:
        arrived = store.newest(("arrived",))
        since = f", since record {arrived.seq}" if arrived else ""
        return InputError(
            "there-already",
            f"the log of {self.place.study} is {_in(self.target.name)} already{since}",
            "Nothing was done.",
        )

    def _service(self, store: Any, keys: KeyFolder) -> DepartureService:
        return DepartureService.open(self.place, store=store, keys=keys, clock=self.clock, notify=self.notify)

    # ---- from here on the lock is held -------------------------------------------------------------------------------

    def _carry(self, actor: Actor) -> tuple[Record, Path]:
        """Copy, compare, seal, and let the home name the new place."""
        with closing(self.source.open()) as store:
            opening = store.record(0)
            if opening is None:
                raise EvidenceError("empty-log", "the log is empty: its records are gone", "Restore it from a backup.")
            first = opening.hash
            if _is_sealed(store):
                moved = self._sealing(store)
                with _sealed_already(moved):
                    self._carry_again(moved, store.details(moved.seq), first)
            else:
                moved = self._seal(store, actor, first)
        with _sealed_already(moved):
            self.target.settle(first)
            return moved, self.source.leave(moved.seq)

    def _seal(self, store: OpenStore, actor: Actor, first: bytes) -> Record:
        """Verify, copy, compare; then the last record of this place, and the same there."""
        verified, target = self._verified(first), self.target.identity()
        with self.target.fill(self.source, first) as copy:
            if self._compared(copy, first) != verified:
                raise busy()
            noting = _Noting(store, lambda record: transit.set_out(self.place, record.hash, target))
            service = self._service(noting, _HeldKeys(self.place.keys))
            moved = service.leave(actor, self.target.name, self.reason, verified)
            # ==== POINT OF NO RETURN: the log is sealed here. From here on it can only arrive. ====
            with _sealed_already(moved):
                copy.seal(moved, store.details(moved.seq))
        return moved

    def _carry_again(self, moved: Record, details: Mapping[str, Detail], first: bytes) -> None:
        """What a move that was cut off has not brought there."""
        if not self.target.is_named:
            with self.target.fill(self.source, first) as copy:
                copy.seal(moved, details)
        with closing(self.target.open()) as store:
            carried = store.record(moved.seq)
        if carried is None or carried.hash != moved.hash:
            raise _another_copy(f"record {moved.seq} is another one there")

    def _verified(self, first: bytes) -> tuple[int, bytes]:
        """How many records the source has, and the hash of the last one. EvidenceError unless every check holds."""
        with self._read(self.source, first) as evidence:
            verdict = self.judge(evidence)
        if verdict.findings:
            raise EvidenceError(
                "source-broken",
                f"the log does not verify: {verdict.findings[0].message}",
                "Nothing was moved. Run `allocator verify`.",
                [finding.as_json() for finding in verdict.findings[:5]],
            )
        return verdict.records, verdict.head

    @contextmanager
    def _read(self, end: LogEnd, first: bytes | None = None) -> Iterator[Evidence]:
        if first is None:
            with closing(end.open()) as store:
                opening = store.record(0)
                first = opening.hash if opening else b""
        beside = read_beside(self.place)
        with end.read(first) as log:
            yield with_log(beside, log)

    def _compared(self, copy: Filling, first: bytes) -> tuple[int, bytes]:
        """Hold the copy to the source in every record and private detail; its number of records, and its head."""
        with self.source.read(first) as ours, copy.read(first) as theirs:
            for finding in theirs.findings:
                raise _another_copy(finding.message)
            for own, copied in zip_longest(ours.rows, theirs.rows):
                if own != copied:
                    raise _another_copy(f"record {(own or copied).rowid} is another one there")
            if theirs.chain is None:
                raise _another_copy("it cannot be read")
            return theirs.chain.records, theirs.chain.head

    def _sealing(self, store: Store) -> Record:
        """The record that seals the source; Refused when it went elsewhere than where it is now to go."""
        moved, _ = left(store)
        if moved is None or moved.fields["to"] != self.target.name:
            raise Refused(
                "moved",
                f"the log was moved {_to(moved.fields['to'] if moved else '')}, not {_to(self.target.name)}",
                "End that move first.",
            )
        transit.check_own(self.place, moved, self.target.identity())
        return moved

    def _left_here(self) -> tuple[Record, Path]:
        """The move that the target ends with, where the home names the target already."""
        with closing(self.target.open()) as store:
            moved = self._sealing(store)
        return moved, self.source.leave(moved.seq)

    def _arrive(self, actor: Actor) -> Record:
        with closing(self.target.open()) as store:
            if not _is_sealed(store):
                raise self._there_already(store)
            return self._service(store, _HeldKeys(self.place.keys)).arrive(actor)


class _Noting:
    """A store that has each record noted before it is durable."""

    def __init__(self, store: OpenStore, note: Callable[[Record], None]) -> None:
        self._store, self._note = store, note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, record: Record, details: Mapping[str, Detail]) -> None:
        """As the store's, and the note."""
        self._store.append(record, details)
        if record.kind == "moved":
            self._note(record)


class _HeldKeys(KeyFolder):
    """The keys of a study for who holds their lock already."""

    @contextmanager
    def lock(self, seconds: float = 0.0) -> Iterator[None]:  # noqa: ARG002
        """Held."""
        yield


def _is_sealed(store: Store) -> bool:
    last = store.last()
    return last is not None and last.kind == "moved"


@contextmanager
def _sealed_already(moved: Record) -> Iterator[None]:
    """What fails from the sealing on is said with what to do: nothing is lost, nothing goes on until it is ended."""
    try:
        yield
    except AllocatorError as error:
        if error.code not in ("there-already", "moved", "other-log", "clock-unset"):
            error.hint = (
                f"The log is sealed by record {moved.seq}, and nothing of it is lost. "
                "Nothing goes on until the sponsor gives the same command again."
            )
        raise


@contextmanager
def _done_already(arrived: Record) -> Iterator[None]:
    """The move is done; that it could not be verified afterwards is another thing."""
    try:
        yield
    except AllocatorError as error:
        error.hint = f"The log has arrived by record {arrived.seq} and goes on there. Run `allocator verify`."
        raise


def _to(place: str) -> str:
    return {"file": "to a file", "postgresql": "to PostgreSQL"}.get(place, "elsewhere")


def _in(place: str) -> str:
    return {"file": "a file", "postgresql": "in PostgreSQL"}[place]


def _another_copy(said: str) -> EvidenceError:
    return EvidenceError(
        "copy-broken", f"the copy is not the log: {said}", "Nothing was moved. Ask again, or tell the administrator."
    )

"""Replay a log record by record, held to every rule; signatures and answers may be checked by other processes.

Whatever a hostile log holds becomes a finding, never an error (docs/spec.md §11).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from allocator import sealing
from allocator.canonical import CanonicalError
from allocator.case import AnswersCheck, Case, check_answers
from allocator.errors import AllocatorError, EvidenceError, StorageError
from allocator.first_findings import FirstFindings
from allocator.history import History
from allocator.log import SEALING_KINDS, Record, RecordError, parse_record
from allocator.packed_schedule import read_packed
from allocator.person import check_signature
from allocator.rules import RULES
from allocator.store import Store
from allocator.study import Study
from allocator.verdict import Finding, Row

BATCH, BATCH_BYTES = 512, 1 << 20  # jobs handed over at a time, whichever is reached first
BACKLOG = 8  # batches of a kind that may wait for other processes: what they need of memory does not grow with the log
SignatureJob = tuple[bytes, str, bytes, bytes]  # public key, signature, prev, unsigned body
AnswersJob = tuple[str, datetime, bool]  # answers, time of the record, whether it says that they qualify
Worker = Callable[[list[Any]], list[tuple[int, str]]]  # (place, what is wrong) of each job that does not hold
Submit = Callable[[Worker, list[Any]], Callable[[], list[tuple[int, str]]]]


def bad_signatures(jobs: list[SignatureJob]) -> list[tuple[int, str]]:
    """The jobs whose signature does not hold."""
    return _failing(jobs, check_signature)


def misjudged(study: Study, jobs: list[AnswersJob]) -> list[tuple[int, str]]:
    """The jobs whose answers do not say what their record says."""
    return _failing(jobs, partial(check_answers, study))


def _failing(jobs: list[Any], check: Callable[..., None]) -> list[tuple[int, str]]:
    failing = []
    for index, job in enumerate(jobs):
        try:
            check(*job)
        except Exception as error:  # whatever a hostile log holds, the verifier reports it
            failing.append((index, _said(error)))
    return failing


class _Deferred:
    """Jobs of one kind that other processes do, in batches, while the replay goes on; it waits when too many wait."""

    def __init__(self, check: str, worker: Worker, submit: Submit, found: Callable[[Finding], None]) -> None:
        self._check, self._worker, self._submit, self._found = check, worker, submit, found
        self._seqs: list[int] = []
        self._jobs: list[Any] = []
        self._bytes = 0
        self._waiting: deque[tuple[list[int], Callable[[], list[tuple[int, str]]]]] = deque()

    def put(self, seq: int, *job: Any) -> None:
        """One more job, about the record of this seq."""
        self._seqs.append(seq)
        self._jobs.append(job)
        self._bytes += sum(len(part) for part in job if isinstance(part, bytes | str))
        if len(self._jobs) >= BATCH or self._bytes >= BATCH_BYTES:
            self._hand_over()
            self._take_back(until=BACKLOG)

    def finish(self) -> None:
        """Hand over the rest and wait for all."""
        self._hand_over()
        self._take_back(until=0)

    def _hand_over(self) -> None:
        if self._jobs:
            with _not_of_the_log():
                self._waiting.append((self._seqs, self._submit(self._worker, self._jobs)))
            self._seqs, self._jobs, self._bytes = [], [], 0

    def _take_back(self, *, until: int) -> None:
        while len(self._waiting) > until:
            seqs, result = self._waiting.popleft()
            with _not_of_the_log():
                failing = result()
            for index, message in failing:
                self._found(Finding(check=self._check, seq=seqs[index], message=message))


@contextmanager
def _not_of_the_log() -> Iterator[None]:
    """A worker names what is wrong with its jobs; when one fails beyond that, it was killed, or had no memory."""
    try:
        yield
    except Exception as error:
        raise StorageError(
            "processes",
            f"another process of the verification failed: {_said(error)}",
            "This says nothing of the log. Verify again, with --jobs 1 if need be.",
        ) from error


class Replay:
    """Replays rows into a store of its own, one rule after another; one use."""

    def __init__(
        self,
        *,
        study: Study,
        store: Store,
        sealed_files: tuple[bytes, ...],
        submit: Submit | None,
        withheld: bool = False,
    ) -> None:
        self._study, self._store, self._history = study, store, History(store)
        self._sealed_files, self._withheld = sealed_files, withheld
        self._sealed: sealing.SealedSchedule | None = None
        self._findings = FirstFindings()
        self._sealed_findings: list[Finding] = []
        found, judge = self._findings.add, partial(misjudged, study)
        self._signatures = _Deferred("16 signature", bad_signatures, submit, found) if submit else None
        self._answers = _Deferred("19 rule of the kind", judge, submit, found) if submit else None
        self.complete = True

    def take(self, row: Row) -> bool:
        """Check one row; False when nothing after it can be judged."""
        self.complete = False
        record = self._parse(row)
        if record is None:
            return False
        self._columns(row, record)
        broken = self._rules(record, row)
        if broken & {"11 sequence", "12 link"}:
            return False
        try:
            self._store.append(record, row.details)
            if record.kind in SEALING_KINDS:
                self._open_sealed(record)
            _ = self._history.people if record.kind in _PEOPLE_CHANGE else None
        except StorageError:  # our own scratch file or process failed, which says nothing of the log
            raise
        except Exception as error:  # whatever a hostile log holds, the verifier reports it
            self._add("19 rule of the kind", record.seq, f"the record cannot be followed: {_said(error)}")
            return False
        self.complete = True
        return True

    def finish(self) -> list[Finding]:
        """The first findings, in order of the records; `left_out` says how many more there are."""
        for deferred in (self._signatures, self._answers):
            if deferred:
                deferred.finish()
        for finding in self._sealed_findings:
            self._findings.add(finding)
        self._sealed_findings = []
        return self._findings.first()

    @property
    def left_out(self) -> int:
        """How many findings `finish` did not give: of a log that is wrong at every record it gives the first ones."""
        return self._findings.left_out

    def _parse(self, row: Row) -> Record | None:
        if row.fault:
            self._add(row.fault_check, row.rowid, row.fault)
            return None
        if not isinstance(row.prev, bytes) or len(row.prev) != 32 or not isinstance(row.body, bytes):
            self._add("06 encoding", row.rowid, "prev or body is not stored as bytes")
            return None
        try:
            return parse_record(row.prev, row.body)
        except (CanonicalError, RecordError) as error:
            self._add("06 encoding", row.rowid, str(error))
        return None

    def _columns(self, row: Row, record: Record) -> None:
        if row.columns is None:
            return  # nothing stands beside a body in an export
        if row.rowid != record.seq or row.seq != record.seq:
            self._add("07 columns", row.rowid, "seq beside the body is not the body's", record.seq, row.seq)
        if row.columns != record.columns:
            expected, found = ([_short(value) for value in columns] for columns in (record.columns, row.columns))
            self._add("07 columns", record.seq, "the columns beside the body are not the body's", expected, found)

    def _rules(self, record: Record, row: Row) -> set[str]:
        case = Case(
            study=self._study,
            history=self._history,
            sealed=self._sealed,
            record=record,
            details=row.details,
            withheld=self._withheld,
            check_signature=partial(self._signatures.put, record.seq) if self._signatures else check_signature,
            check_answers=self._later_answers(record.seq),
        )
        broken = set()
        for name, rule in RULES:
            try:
                rule(case)
            except StorageError:  # as above
                raise
            except AllocatorError as error:
                if error.code == "sealed-file" and self._sealed_findings:
                    continue  # said once, by check 09
                given = error.details if isinstance(error.details, dict) else {}
                seq = row.rowid if name == "11 sequence" else record.seq  # where it stands, not where it says it does
                self._add(name, seq, error.message, given.get("expected"), given.get("found"))
                broken.add(name)
                if name in ("11 sequence", "12 link"):
                    break
            except Exception as error:  # whatever a hostile log holds, the verifier reports it
                self._add(name, record.seq, f"the record cannot be judged: {_said(error)}")
                broken.add(name)
        return broken

    def _later_answers(self, seq: int) -> AnswersCheck:
        if self._answers is None:
            return check_answers
        put = self._answers.put
        return lambda _, answers, moment, qualify: put(seq, answers, moment, qualify)

    def _open_sealed(self, generated: Record) -> None:
        """Check 09: the file of this sealing is there, and its root is recomputed from every entry.

        Only the newest sealing's file is kept, so what an older one lacks is forgotten when a newer one comes.
        """
        self._sealed, self._sealed_findings = None, []
        digest = generated.fields["sealed_digest"]
        data = next((d for d in self._sealed_files if hashlib.sha256(d).hexdigest() == digest), None)
        try:
            if not self._sealed_files:
                raise EvidenceError("sealed-file", "sealed.json is not there")
            if data is None:
                found = hashlib.sha256(self._sealed_files[0]).hexdigest()
                said = "sealed.json is not the file whose digest is in the log"
                raise EvidenceError("sealed-file", said, details={"expected": digest, "found": found})
            sealed = read_packed(data)
            _check_sealed(sealed, generated, self._study, self._fingerprint())
            self._sealed = sealed
        except EvidenceError as error:
            given = error.details if isinstance(error.details, dict) else {}
            self._sealed_findings.append(
                Finding(
                    check="09 sealed schedule",
                    seq=generated.seq,
                    message=f"{error.message}; no binding or allocation can be held to it",
                    expected=given.get("expected", digest),
                    found=given.get("found"),
                )
            )

            self._sealed = self._same_list(generated)

    def _same_list(self, generated: Record) -> sealing.SealedSchedule | None:
        """The same list sealed again later: its commitments are these, whatever became of the first file."""
        for data in self._sealed_files:
            try:
                sealed = read_packed(data)
                named = (sealed.sealing.hex(), sealed.root.hex(), sealing.schedule_root(sealed.strata).hex())
            except EvidenceError:
                continue
            if named == (generated.fields["sealing"], generated.fields["root"], generated.fields["root"]):
                return sealed
        return None

    def _fingerprint(self) -> str:
        opening = self._history.opening
        return str(opening.fields["fingerprint"]) if opening else self._study.fingerprint.hex()

    def _add(self, check: str, seq: int | None, message: str, expected: Any = None, found: Any = None) -> None:
        self._findings.add(Finding(check=check, seq=seq, message=message, expected=expected, found=found))


def _short(value: Any) -> Any:
    """What a finding says of a column, which may hold anything and megabytes of it."""
    if isinstance(value, str):
        return value[:500]
    return value if isinstance(value, int | None) else repr(value)[:80]


def _said(error: Exception) -> str:
    return error.message if isinstance(error, AllocatorError) else f"{type(error).__name__} {error}"


_PEOPLE_CHANGE = ("study-opened", "person-added", "person-enrolled", "person-deactivated")


def _check_sealed(sealed: sealing.SealedSchedule, generated: Record, study: Study, fingerprint: str) -> None:
    """The sealed schedule says what the log says, and its root is that of its entries. EvidenceError otherwise."""
    fields = generated.fields
    stated = {
        "study": (study.id, sealed.study),
        "fingerprint": (fingerprint, sealed.fingerprint.hex()),
        "sealing": (fields["sealing"], sealed.sealing.hex()),
        "design commitment": (fields["design_commitment"], sealed.design_commitment.hex()),
        "root": (fields["root"], sealed.root.hex()),
        "seed commitments": (fields["seed_commitments"], [share.commitment for share in sealed.shares]),
        "holders": (fields["holders"], [share.person for share in sealed.shares]),
        "strata": (list(study.strata), [stratum.stratum for stratum in sealed.strata]),
    }
    for name, (expected, found) in stated.items():
        if expected != found:
            raise EvidenceError(
                "sealed-file",
                f"the {name} of the sealed schedule is not the one in the log",
                details={"expected": expected, "found": found},
            )
    computed = sealing.schedule_root(sealed.strata).hex()
    if computed != fields["root"]:
        raise EvidenceError(
            "sealed-file",
            "the root recomputed from the sealed entries is not the one in the log",
            details={"expected": fields["root"], "found": computed},
        )

"""The auditor's numbered checks (docs/spec.md §11). Needs no service, no passphrase, no disk: values in, verdict out.

What must be established, in this order (the numbers are those of findings):

    01-05  the files and the database are what they should be      (`evidence` reads them and reports)
    06     every body is a canonical record of this version
    07     the guard columns beside a body say what the body says
    08     the study file is the one whose fingerprint is in record 0
    09     the sealed schedule is the one committed to in the log
    10     the registry record is the one given at the opening
    11-19  every record keeps the rules, given the records before it (`rules`)
    20     no private detail is without its record
    21-22  the log reaches the heads that are known from outside it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from allocator import sealing
from allocator.canonical import CanonicalError
from allocator.errors import AllocatorError, EvidenceError
from allocator.history import History
from allocator.log import Detail, Record, RecordError, parse_record
from allocator.memory_store import MemoryStore
from allocator.person import check_signature
from allocator.rules import RULES, AnswersCheck, Case, check_answers
from allocator.study import Study

BATCH = 512  # signatures handed over at a time

Columns = tuple[Any, Any, Any, Any]
SignatureJob = tuple[bytes, str, bytes, bytes]  # public key, signature, prev, unsigned body
AnswersJob = tuple[str, datetime, bool]  # answers, time of the record, whether it says that they qualify
Worker = Callable[[list[Any]], list[tuple[int, str]]]  # (place, what is wrong) of each job that does not hold
Submit = Callable[[Worker, list[Any]], Callable[[], list[tuple[int, str]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold: the check, the record (None: the whole), what was expected and what was found."""

    check: str
    message: str
    seq: int | None = None
    expected: Any = None
    found: Any = None

    def as_json(self) -> dict[str, Any]:
        """The finding object of the command line."""
        return {
            "check": self.check,
            "seq": self.seq,
            "expected": self.expected,
            "found": self.found,
            "message": self.message,
        }


class Row(NamedTuple):
    """One stored row, as scanned by rowid: nothing in it is believed yet. `fault`: why it could not be read."""

    rowid: int
    seq: Any
    prev: Any
    body: Any
    columns: Columns
    details: Mapping[str, Detail]
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a verification looks at.

    Attributes:
        study: parsed from the home's study.toml, None when it is not there or is no study.
        rows: the stored rows in order of rowid, read once.
        sealed_files: bytes of sealed.json (and of sealed.json.next, left by a crash).
        registry: bytes of registry.json, or None.
        local_head: (seq, hash) of keys/<study>/head, or None.
        given_heads: hashes of records known from elsewhere.
        row_count: how many rows there are to read.
        readable: False when the rows could not be read at all; no head is judged then.
        findings: of reading, checks 01 to 05, 08 and 20.
    """

    study: Study | None
    rows: Iterable[Row]
    sealed_files: tuple[bytes, ...] = ()
    registry: bytes | None = None
    local_head: tuple[int, bytes] | None = None
    given_heads: tuple[bytes, ...] = ()
    row_count: int = 0
    readable: bool = True
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result: ``intact``, ``intact-local``, ``intact-unanchored`` or ``broken``, and why."""

    verdict: str
    records: int
    head: bytes
    root: str | None
    findings: tuple[Finding, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """The result object of `allocator verify`."""
        return {
            "verdict": self.verdict,
            "records": self.records,
            "head": self.head.hex(),
            "root": self.root,
            "findings": [finding.as_json() for finding in self.findings],
        }


def verify(evidence: Evidence, *, submit: Submit | None = None) -> Verdict:
    """Establish everything above and give the verdict; every finding is listed, the first broken record first.

    Args:
        evidence: what was read.
        submit: hands signatures and answers to other processes: takes a worker and a batch of jobs for it, gives a
            function that returns what does not hold. None checks each at once.
    """
    findings = list(evidence.findings)
    if evidence.study is None or not evidence.readable:
        return _verdict(evidence, findings, [], None)
    store = MemoryStore()
    replay = _Replay(study=evidence.study, store=store, sealed_files=evidence.sealed_files, submit=submit)
    for row in evidence.rows:
        if not replay.take(row):
            break
    findings += replay.finish()
    hashes = [record.hash for record in store.records()]
    newest = store.newest(("generated",))
    findings += _registry(evidence, store)
    findings += _heads(evidence, hashes, complete=replay.complete)
    return _verdict(evidence, findings, hashes, newest)


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
    """Jobs of one kind that other processes do, in batches, while the replay goes on."""

    def __init__(self, check: str, worker: Worker, submit: Submit) -> None:
        self._check, self._worker, self._submit = check, worker, submit
        self._seqs: list[int] = []
        self._jobs: list[Any] = []
        self._results: list[tuple[list[int], Callable[[], list[tuple[int, str]]]]] = []

    def put(self, seq: int, *job: Any) -> None:
        """One more job, about the record of this seq."""
        self._seqs.append(seq)
        self._jobs.append(job)
        if len(self._jobs) >= BATCH:
            self._hand_over()

    def findings(self) -> Iterator[Finding]:
        """What did not hold; waits for the processes."""
        self._hand_over()
        for seqs, result in self._results:
            for index, message in result():
                yield Finding(check=self._check, seq=seqs[index], message=message)

    def _hand_over(self) -> None:
        if self._jobs:
            self._results.append((self._seqs, self._submit(self._worker, self._jobs)))
            self._seqs, self._jobs = [], []


class _Replay:
    """Replays rows into a store of its own, one rule after another; one use."""

    def __init__(
        self, *, study: Study, store: MemoryStore, sealed_files: tuple[bytes, ...], submit: Submit | None
    ) -> None:
        self._study, self._store, self._history = study, store, History(store)
        self._sealed_files = sealed_files
        self._sealed: sealing.SealedSchedule | None = None
        self._findings: list[Finding] = []
        self._signatures = _Deferred("16 signature", bad_signatures, submit) if submit else None
        self._answers = _Deferred("19 rule of the kind", partial(misjudged, study), submit) if submit else None
        self._sealed_findings: list[Finding] = []
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
            if record.kind == "generated":
                self._open_sealed(record)
            _ = self._history.people if record.kind in _PEOPLE_CHANGE else None
        except Exception as error:  # whatever a hostile log holds, the verifier reports it
            self._add("19 rule of the kind", record.seq, f"the record cannot be followed: {_said(error)}")
            return False
        self.complete = True
        return True

    def finish(self) -> list[Finding]:
        """All findings, in order of the records."""
        for deferred in (self._signatures, self._answers):
            self._findings += deferred.findings() if deferred else ()
        return sorted(self._sealed_findings + self._findings, key=lambda f: -1 if f.seq is None else f.seq)

    def _parse(self, row: Row) -> Record | None:
        if row.fault:
            self._add("04 integrity", row.rowid, row.fault)
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
        if row.rowid != record.seq or row.seq != record.seq:
            self._add("07 columns", row.rowid, "seq beside the body is not the body's", record.seq, row.seq)
        if row.columns != record.columns:
            found = [value if isinstance(value, str | int | None) else repr(value)[:80] for value in row.columns]
            self._add(
                "07 columns", record.seq, "the columns beside the body are not the body's", list(record.columns), found
            )

    def _rules(self, record: Record, row: Row) -> set[str]:
        case = Case(
            study=self._study,
            history=self._history,
            sealed=self._sealed,
            record=record,
            details=row.details,
            check_signature=partial(self._signatures.put, record.seq) if self._signatures else check_signature,
            check_answers=self._later_answers(record.seq),
        )
        broken = set()
        for name, rule in RULES:
            try:
                rule(case)
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
            sealed = sealing.SealedSchedule.from_bytes(data)
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

    def _fingerprint(self) -> str:
        opening = self._history.opening
        return str(opening.fields["fingerprint"]) if opening else self._study.fingerprint.hex()

    def _add(self, check: str, seq: int | None, message: str, expected: Any = None, found: Any = None) -> None:
        self._findings.append(Finding(check=check, seq=seq, message=message, expected=expected, found=found))


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


def _registry(evidence: Evidence, store: MemoryStore) -> list[Finding]:
    opening = store.record(0)
    if opening is None or opening.fields["registry"] is None:
        return []
    found = hashlib.sha256(evidence.registry).hexdigest() if evidence.registry is not None else None
    if found == opening.fields["registry"]:
        return []
    return [
        Finding(
            check="10 registry",
            seq=0,
            message="registry.json is not the record given when the study was opened",
            expected=opening.fields["registry"],
            found=found,
        )
    ]


def _heads(evidence: Evidence, hashes: list[bytes], *, complete: bool) -> list[Finding]:
    """A chain by itself survives truncation, a restored backup or a full rewrite: only an outside head tells."""
    findings = []
    if evidence.local_head is not None:
        seq, digest = evidence.local_head
        found = hashes[seq] if 0 <= seq < len(hashes) else None
        if found != digest and (complete or found is not None):
            said = "is not in the log: records were lost" if found is None else "is another one in the log"
            findings.append(
                Finding(
                    check="21 local head",
                    seq=seq,
                    message=f"record {seq}, which this home has seen, {said}",
                    expected=digest.hex(),
                    found=found.hex() if found else None,
                )
            )
    known = set(hashes)
    for digest in evidence.given_heads:
        if digest not in known and complete:
            findings.append(
                Finding(
                    check="22 given head",
                    message="the head given is the hash of no record of this log: records were lost or rewritten",
                    expected=digest.hex(),
                    found=hashes[-1].hex() if hashes else None,
                )
            )
    return findings


def _verdict(evidence: Evidence, findings: list[Finding], hashes: list[bytes], newest: Record | None) -> Verdict:
    if findings:
        verdict = "broken"
    elif evidence.given_heads:
        verdict = "intact"
    elif evidence.local_head is not None:
        verdict = "intact-local"
    else:
        verdict = "intact-unanchored"
    return Verdict(
        verdict=verdict,
        records=len(hashes),
        head=hashes[-1] if hashes else b"",
        root=newest.fields["root"] if newest else None,
        findings=tuple(findings),
    )

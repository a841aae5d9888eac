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
from collections.abc import Iterator

from allocator.log import SEALING_KINDS, Record, link
from allocator.memory_store import MemoryStore
from allocator.replay import Replay, Submit
from allocator.verdict import Evidence, Finding, Verdict


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
    replay = Replay(study=evidence.study, store=store, sealed_files=evidence.sealed_files, submit=submit)
    for row in evidence.rows:
        if not replay.take(row):
            break
    findings += replay.finish()
    hashes = [record.hash for record in store.records()]
    newest = store.newest(SEALING_KINDS)
    findings += _registry(evidence, store)
    findings += _heads(evidence, store, hashes, complete=replay.complete)
    return _verdict(evidence, findings, hashes, newest)


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


def _entered_again(store: MemoryStore) -> Iterator[bytes]:
    """Hashes of lost records that receipts brought back whole."""
    for record in store.records(("receipt-entered",)):
        original = record.fields["original"]
        yield link(bytes.fromhex(original["prev"]), original["body"].encode("utf-8"))


def _stated_loss(store: MemoryStore, digest: bytes) -> int | None:
    """The record in which the sponsor stated that this one is lost."""
    for record in store.records(("restored",)):
        if (lost := record.fields["lost"]) is not None and lost["hash"] == digest.hex():
            return record.seq
    return None


def _heads(evidence: Evidence, store: MemoryStore, hashes: list[bytes], *, complete: bool) -> list[Finding]:
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
    known = {*hashes, *_entered_again(store)}
    for digest in evidence.given_heads:
        if digest not in known and complete:
            stated = _stated_loss(store, digest)
            said = "the head given is the hash of no record of this log: records were lost or rewritten"
            findings.append(
                Finding(
                    check="22 given head",
                    message=said + (f"; record {stated} states its loss" if stated is not None else ""),
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
        records=max(evidence.row_count, len(hashes)),
        followed=len(hashes),
        head=hashes[-1] if hashes else b"",
        root=newest.fields["root"] if newest else None,
        findings=tuple(findings),
    )

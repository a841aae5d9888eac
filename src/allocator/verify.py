"""The auditor's numbered checks (docs/spec.md §11). Needs no service, no passphrase, no disk: values in, verdict out.

What must be established, in this order (the numbers are those of findings):

    01-05  the files and the database are what they should be      (`evidence` and `export_evidence` read and report)
    06     every body is a canonical record of this version
    07     the guard columns beside a body say what the body says
    08     the study file is the one whose fingerprint is in record 0
    09     the sealed schedule is the one committed to in the log
    10     the registry record is the one given at the opening
    11-19  every record keeps the rules, given the records before it (`rules`)
    20     no private detail is without its record
    21-24  the log reaches the heads, checkpoints and receipts that are known from outside it (`anchors`)
    25     the list drawn again from the disclosed seed is the sealed one
    26     an export is what its manifest says, and certified (`export`)
    27     a trail written elsewhere has the log's own records (`trail`)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from allocator.anchors import Anchors
from allocator.errors import AllocatorError, EvidenceError
from allocator.export import FILE_CHECKS, LOG_CHECKS, Carried, Export, Manifest
from allocator.history import History
from allocator.log import ALLOCATION_KINDS, SEALING_KINDS
from allocator.memory_store import MemoryStore
from allocator.packed_schedule import read_packed
from allocator.receipt import check_receipt, parse_receipt
from allocator.replay import Replay, Submit
from allocator.seed import Seed, check_opening
from allocator.store import Store
from allocator.study import Study
from allocator.trail import Trails
from allocator.verdict import Evidence, Finding, Given, Verdict


def verify(evidence: Evidence, *, submit: Submit | None = None, store: Store | None = None) -> Verdict:
    """Establish everything above and give the verdict; findings are listed, the first broken record first.

    Args:
        evidence: what was read.
        submit: hands signatures and answers to other processes: takes a worker and a batch of jobs for it, gives a
            function that returns what does not hold. None checks each at once.
        store: an empty one to replay the records into; None for one in memory.
    """
    anchors, trails, findings = Anchors(evidence), Trails(evidence.given_trails), list(evidence.findings)
    if evidence.study is None or not evidence.readable:
        findings += _export(evidence.export, None, anchors)
        return _verdict(evidence, findings, anchors, None)
    store = store or MemoryStore()
    replay = Replay(
        study=evidence.study,
        store=store,
        sealed_files=evidence.sealed_files,
        submit=submit,
        withheld=evidence.withheld,
    )
    for row in evidence.rows:
        if not replay.take(row):
            break
        if (last := store.last()) is not None:
            anchors.take(last.hash)
            trails.take(last, row.details)
    findings += replay.finish()
    findings += _registry(evidence, store)
    findings += anchors.judge(evidence.study, store, complete=replay.complete)
    findings += _opening(evidence, evidence.study, store)
    findings += _export(evidence.export, store, anchors)
    findings += trails.judge(complete=replay.complete)
    return _verdict(evidence, findings, anchors, store, left_out=replay.left_out)


def verify_receipt(given: Given, heads: tuple[bytes, ...] = (), roots: tuple[bytes, ...] = ()) -> Verdict:
    """One receipt by itself (docs/spec.md §17.2): that it is of one piece, and the one whose own hash was kept.

    `first`, `prev`, root, keys and the arm's words are stated by a receipt, not proved: anybody can write them beside
    keys of their own. So only the hash of the allocation's own record anchors it; the others are compared.

    Args:
        given: the receipt.
        heads: hash of record 0, of the allocation's record or of the one before it.
        roots: root of the list, as deposited.
    """
    facts: dict[str, Any] = {}
    try:
        receipt = parse_receipt(given.data)
        fields, checkpoint = receipt.record.fields, receipt.checkpoint
        if receipt.record.kind not in ALLOCATION_KINDS:
            check_receipt(receipt)  # which says so: such a record has none of what follows
        facts = {
            "mode": fields["mode"],
            "participant": fields["participant"],
            "number": fields["number"],
            "arm": f"index {fields['arm']}, here called {receipt.arm['code']} ({receipt.arm['label']})",
            "time": receipt.made.fields["time"],
            "person": fields["person"],
            "record": receipt.record.seq,
            "hash": receipt.record.hash.hex(),
            "log": checkpoint.origin,
            "first record": receipt.first.hex(),
            "root": receipt.root.hex(),
            **({"copy": receipt.copy["time"]} if receipt.copy else {}),
        }
        check_receipt(receipt)
        known = {receipt.first, receipt.record.prev, receipt.record.hash, receipt.made.hash}
        if not known.issuperset(heads):
            raise EvidenceError("receipt", "no record that this receipt names has the head given")
        if not {receipt.root}.issuperset(roots):
            raise EvidenceError("receipt", "the root given is not that of the list it is of")
    except AllocatorError as error:
        finding = Finding.of("24 receipt", error, seq=facts.get("record"), file=given.name)
        return Verdict(
            verdict="broken", records=0, followed=0, head=b"", root=facts.get("root"), findings=(finding,), facts=facts
        )
    return Verdict(
        verdict="intact" if {receipt.record.hash, receipt.made.hash} & set(heads) else "intact-unanchored",
        records=receipt.checkpoint.size,
        followed=0,
        head=receipt.record.hash,
        root=facts["root"],
        facts=facts,
    )


def _registry(evidence: Evidence, store: Store) -> list[Finding]:
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


def _opening(evidence: Evidence, study: Study, store: Store) -> Iterator[Finding]:
    """Check 25: whoever has the seed draws the list again, and holds every sealed entry to it (U05, C06)."""
    opened = store.newest(("opened",))
    if opened is None:
        return
    try:
        _check_opened(evidence, opened.fields["seed_digest"], study, store)
    except AllocatorError as error:
        yield Finding.of("25 opening", error)
    except Exception as error:  # whatever a hostile seed holds, the verifier reports it
        yield Finding(check="25 opening", message=f"the seed cannot be judged: {type(error).__name__} {error}")


def _check_opened(evidence: Evidence, digest: str, study: Study, store: Store) -> None:
    found = {hashlib.sha256(data).hexdigest(): data for data in evidence.seeds}
    if not found:
        raise EvidenceError("seed", "seed.json is not there, although the list was opened")
    if digest not in found:
        said = "seed.json is not the file whose digest is in the log"
        raise EvidenceError("seed", said, details={"expected": digest, "found": next(iter(found))})
    data, newest = found[digest], store.newest(SEALING_KINDS)
    if newest is None:
        raise EvidenceError("seed", "no list was sealed")
    for sealed in evidence.sealed_files:
        if hashlib.sha256(sealed).hexdigest() == newest.fields["sealed_digest"]:
            check_opening(Seed.from_bytes(data), study, newest, read_packed(sealed))
            return
    raise EvidenceError("seed", "the sealed schedule to hold the seed to is not there")


def _export(export: Export | None, store: Store | None, anchors: Anchors) -> Iterator[Finding]:
    """Check 26, by its parts; those about the log only where a record of it could be followed."""
    if export is None:
        return
    try:
        manifest = Manifest.from_bytes(export.manifest)
    except EvidenceError as error:
        yield Finding.of("26 export", error)
        return
    checks: list[Callable[[], None]] = [partial(check, export, manifest) for check in FILE_CHECKS]
    if (carried := _carried(store, anchors)) is not None:
        checks += [partial(check, export, manifest, carried) for check in LOG_CHECKS]
    for check in checks:
        try:
            check()
        except EvidenceError as error:
            yield Finding.of("26 export", error)


def _carried(store: Store | None, anchors: Anchors) -> Carried | None:
    last, opening = (store.record(anchors.tree.size - 1), store.record(0)) if store else (None, None)
    if store is None or last is None or opening is None:
        return None
    try:
        person = History(store).person(last.fields.get("person") or "")
    except EvidenceError:  # a record of people that no rule let pass, which is said already
        person = None
    return Carried(
        study=opening.fields["study"],
        records=anchors.tree.size,
        tree=anchors.tree.root(),
        last=last,
        sign_key=person.sign_key if person and person.enrolled else None,
    )


def _verdict(
    evidence: Evidence, findings: list[Finding], anchors: Anchors, store: Store | None, *, left_out: int = 0
) -> Verdict:
    newest, last = (store.newest(SEALING_KINDS), store.last()) if store else (None, None)
    if findings:
        verdict = "broken"
    elif evidence.is_anchored:
        verdict = "intact"
    elif evidence.local_head is not None:
        verdict = "intact-local"
    else:
        verdict = "intact-unanchored"
    return Verdict(
        verdict=verdict,
        records=max(evidence.row_count, anchors.tree.size),
        followed=anchors.tree.size,
        head=anchors.head,
        root=newest.fields["root"] if newest else None,
        moved=last.fields["to"] if last and last.kind == "moved" else None,
        findings=tuple(findings),
        left_out=left_out,
    )

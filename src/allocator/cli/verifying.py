"""The auditor's verification: of a home, an export, or one receipt by itself. No passphrase, and nothing is changed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, hex_32, pass_call
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.chain import Chain
    from allocator.replay import Submit, Worker
    from allocator.store import Store
    from allocator.verdict import Evidence, Finding, Given, Verdict

PARALLEL_FROM = 4_000  # records; below it, starting processes costs more than it saves
SCRATCH_FROM = 2_000  # records; fewer are kept in memory
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("path", required=False, type=_FILE)
@click.option("--head", "heads", multiple=True, metavar="HEX", help="Hash of a record, known from outside this home.")
@click.option("--root", "roots", multiple=True, metavar="HEX", help="Root of the list, as deposited elsewhere.")
@click.option(
    "--receipt", "receipts", multiple=True, metavar="FILE", type=_FILE, help="A receipt, or a folder of them."
)
@click.option(
    "--checkpoint", "checkpoints", multiple=True, metavar="FILE", type=_FILE, help="A checkpoint kept elsewhere."
)
@click.option("--trail", "trails", multiple=True, metavar="FILE", type=_FILE, help="A log exported as .csv or .json.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Processes for signatures; default: the cores.")
@pass_call
def verify(
    call: Call,
    path: Path | None,
    heads: tuple[str, ...],
    roots: tuple[str, ...],
    receipts: tuple[Path, ...],
    checkpoints: tuple[Path, ...],
    trails: tuple[Path, ...],
    jobs: int | None,
) -> int:
    """Check everything that can be checked with no passphrase: files, chain, signatures, roles, rules, commitments.

    PATH is a home, a study's folder or its log, an export, or one receipt, which is then checked by itself. Nothing in
    it is changed: a copy is read. What was kept elsewhere (--head, --receipt, --checkpoint) shows what no log can show
    by itself: that nothing was cut off or made anew.
    """
    from allocator.verify import verify_receipt

    wanted = "--head takes 64 hexadecimal digits: the hash of a record"
    given_heads = tuple(hex_32(text, "head", wanted) for text in heads)
    given_roots = tuple(
        hex_32(text, "root", "--root takes 64 hexadecimal digits: the root of a list") for text in roots
    )
    piles = {"given_receipts": receipts, "given_checkpoints": checkpoints, "given_trails": trails}
    given = {name: tuple(_given(files)) for name, files in piles.items()}
    if path is not None and path.is_file() and path.suffix == RECEIPT_SUFFIX:
        if any(given.values()):
            said = "a receipt by itself is held to --head and --root only"
            raise InputError("alone", said, "Give a home or an export as PATH to hold receipts and checkpoints to.")
        verdict = verify_receipt(next(_given((path,))), given_heads, given_roots)
        call.show(verdict.as_json(), receipt_text(verdict, path.name))
        return _exit_code(verdict)
    evidence_of, what, name = _evidence_of(call, path)
    with evidence_of(given_heads, given_roots=given_roots, **given) as evidence:
        records, compared = evidence.row_count, evidence.is_anchored
        if records >= PARALLEL_FROM and evidence.chain is not None:
            call.talk(_chain_text(evidence.chain, records))
        verdict = judged(evidence, jobs)
    call.show(verdict.as_json(), verdict_text(verdict, name, what=what, compared=compared))
    return _exit_code(verdict)


RECEIPT_SUFFIX = ".tlog-proof"


def judged(evidence: Evidence, jobs: int | None = None) -> Verdict:
    """The verdict on evidence, a long log's by several processes."""
    from allocator.verify import verify as verify_evidence

    with _signature_processes(evidence.row_count, jobs) as submit, _store(evidence.row_count) as store:
        return verify_evidence(evidence, submit=submit, store=store)


def _chain_text(chain: Chain, records: int) -> str:
    """What is known of a long log at once, while signatures and rules take their time."""
    if chain.records == records:
        return f"{records} records are one chain. Now every signature and rule: this takes a while."
    return f"The chain holds for {chain.records} of {records} records, and no further. Now signatures and rules."


def _exit_code(verdict: Verdict) -> int:
    return 3 if verdict.verdict in ("broken", "intact-unanchored") else 0


def _evidence_of(call: Call, path: Path | None) -> tuple[Callable[..., AbstractContextManager[Evidence]], str, str]:
    """What reads the evidence, and whether it is a study in a home or an export, with its name."""
    from functools import partial

    from allocator.evidence import place_of, read_evidence
    from allocator.export_evidence import is_export, read_export

    if path is not None and path.is_dir() and is_export(path):
        return partial(read_export, path), "export", path.resolve().name
    place = place_of(path, call.study) if path else call.place_unchecked()
    return partial(read_evidence, place), "study", place.study


def _given(paths: tuple[Path, ...]) -> Iterator[Given]:
    """Files given, and every receipt in a folder given."""
    from allocator.home import is_file, read_input
    from allocator.verdict import Given

    for path in paths:
        files = sorted(f for f in path.glob(f"*{RECEIPT_SUFFIX}") if is_file(f)) if path.is_dir() else [path]
        if not files:
            raise InputError("no-receipts", f"{shown(str(path))} holds no file *{RECEIPT_SUFFIX}", "Is it the folder?")
        for file in files:
            yield Given(shown(file.name), read_input(file, limit=1 << 31))


@contextmanager
def _signature_processes(records: int, jobs: int | None) -> Iterator[Submit | None]:
    import os

    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1 or records < PARALLEL_FROM:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:

        def submit(worker: Worker, jobs: list[Any]) -> Callable[[], list[tuple[int, str]]]:
            return pool.submit(worker, jobs).result

        yield submit


@contextmanager
def _store(records: int) -> Iterator[Store]:
    """Where the records are replayed: in memory while that is little, else in a scratch file."""
    from allocator.memory_store import MemoryStore
    from allocator.scratch_store import scratch_store

    if records < SCRATCH_FROM:
        yield MemoryStore()
        return
    with scratch_store() as store:
        yield store


VERDICT_WORDS = {
    "intact": "INTACT: every check holds, and so does what you gave from elsewhere.",
    "intact-local": "INTACT, anchored only by this home's own head: whoever restores the whole machine restores it "
    "too. Compare with a head kept elsewhere (--head) to be sure that nothing was cut off.",
    "intact-unanchored": "UNANCHORED: the chain holds, but no head from outside is known, so a cut tail or an older "
    "backup would look the same. Give one with --head.",
    "broken": "BROKEN: what is stored does not hold together.",
}
EXPORT_WORDS = (
    "INTACT, anchored only by the export's own head: whoever made the whole export anew made that anew too. Compare "
    "with a head, a checkpoint or a receipt kept elsewhere (--head, --checkpoint, --receipt)."
)
COMPARED = "BROKEN: what is stored does not hold together, or is not what you gave from elsewhere."
RECEIPT_WORDS = {
    "intact": "OF ONE PIECE, and the one whose hash you gave. That the arm's words are the study's only the log or an "
    "export shows (allocator verify --receipt FILE).",
    "intact-unanchored": "OF ONE PIECE: signed record, place in the log, and opened entry hold together. By itself a "
    "receipt does not show that it is genuine: anybody can make one with keys of their own. Give the hash that the "
    "screen or the page of this allocation had (--head), or hold it to the log (allocator verify --receipt FILE).",
    "broken": "BROKEN: this receipt does not hold.",
}


def verdict_text(verdict: Verdict, name: str, *, what: str = "study", compared: bool = False) -> str:
    """The verdict for the eye: one plain sentence, then the findings, the first broken record first."""
    words = VERDICT_WORDS | ({"broken": COMPARED} if compared else {})
    words |= {"intact-local": EXPORT_WORDS} if what == "export" else {}
    lines = [
        *textwrap.wrap(words[verdict.verdict], 100),
        f"  {what:<8} {shown(name)}",
        f"  records  {verdict.records}"
        + ("" if verdict.followed == verdict.records else f", of which the first {verdict.followed} can be followed"),
        *([f"  head     {verdict.head.hex()}"] if verdict.head else []),
        *([f"  root     {verdict.root}"] if verdict.root else []),
        *([f"  moved    to {shown(verdict.moved)}, by the last record: nothing follows here"] if verdict.moved else []),
    ]
    return "\n".join([*lines, *_findings_lines(verdict)])


def receipt_text(verdict: Verdict, name: str) -> str:
    """The verdict on one receipt by itself."""
    rows = [("receipt", name), *verdict.facts.items()]
    lines = [*textwrap.wrap(RECEIPT_WORDS[verdict.verdict], 100)]
    lines += [f"  {label:<13} {shown(str(value))}" for label, value in rows]
    return "\n".join([*lines, *_findings_lines(verdict)])


def _findings_lines(verdict: Verdict) -> list[str]:
    count = len(verdict.findings) + verdict.left_out
    lines = [f"{count} finding{'s' if count > 1 else ''}, by check number:"] if count else []
    for finding in verdict.findings:
        lines += _finding_lines(finding)
    if verdict.left_out:
        lines.append(f"  … and {verdict.left_out} more, which are not listed")
    return lines


def _finding_lines(finding: Finding) -> list[str]:
    where = "" if finding.seq is None else f"record {finding.seq}: "
    lines = [f"  [{finding.check}] {where}{shown(finding.message)}"]
    if finding.expected is not None:
        lines.append(f"      expected  {shown(str(finding.expected))}")
    if finding.found is not None:
        lines.append(f"      found     {shown(str(finding.found))}")
    return lines

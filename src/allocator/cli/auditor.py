"""What everybody may look at: status, the log, and the auditor's verification."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, hex_32, json_text, pass_call
from allocator.cli.pharmacist import local_time
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.log import Record
    from allocator.replay import Submit, Worker
    from allocator.service import AllocationService
    from allocator.verdict import Finding, Verdict

# What those at the site do not see in the log: it would help to predict the next arm (C03, SPIRIT 21b).
_HIDDEN_AT_SITE = (
    *("position", "release", "salt", "arm", "envelope", "sealed_digest", "design_commitment", "findings"),
    *("told", "original", "reserved"),
)
_SHOWN_FIELDS = (
    "participant",
    "number",
    "added",
    "roles",
    "deactivated",
    "finding",
    "grantee",
    "what",
    "action",
    "cause",
    "failure",
    "from",
    "to",
    "missing",
    "event_time",
    "clock",
)
PARALLEL_FROM = 4_000  # records; below it, starting processes costs more than it saves


_ATTENTION = {
    "clock_behind": "ATTENTION   the clock is behind the last record: nothing can be written. Set it right; if it is\n"
    "              right, the sponsor runs `allocator clock`",
    "recovering": "ATTENTION   records may be missing: the statistician ends this with `allocator recover`",
    "sponsors": "ATTENTION   one sponsor only: if that key is lost, nobody can add people or resume. Add a second",
}


def _needs(key: str, status_: dict[str, Any]) -> bool:
    if key == "recovering":
        return bool(status_["state"] == "recovering")
    return bool(status_["sponsors"] == 1) if key == "sponsors" else bool(status_[key])


@click.command()
@pass_call
def status(call: Call) -> None:
    """State and counts; never arm totals, block sizes, positions or the list's length."""
    with call.service() as service:
        result = service.status()
    undecided = ", ".join(result["undecided"])
    told = [text for key, text in _ATTENTION.items() if _needs(key, result)]
    lines = [
        f"{result['study']}   mode {result['mode']}   {result['state'].upper()}",
        f"  allocated   {result['allocated']} of {result['enrollment']}",
        f"  waiting     {result['waiting']} confirmed, not yet allocated",
        *([f"  undecided   {undecided}"] if undecided else []),
        f"  records     {result['records']}",
        f"  head        {result['head']}",
        *([f"  root        {result['root']}"] if result["root"] else []),
        *(f"  {text}" for text in told),
    ]
    call.show(result, "\n".join(lines))


@click.command("log")
@click.option("--participant", metavar="P", help="Only this participant's records.")
@click.option("--kind", metavar="K", help="Only records of this kind.")
@click.option("--person", "by", metavar="ID", help="Only what this person did.")
@click.option("--since", metavar="T", help="From this time on (ISO 8601; without offset: the study's time zone).")
@click.option("--at", metavar="T", help="The log as it was at this time.")
@click.option("--follow", is_flag=True, help="Go on with new records as they come; end with Ctrl-C.")
@click.option(
    "--to", "target", metavar="FILE", type=click.Path(path_type=Path), help="Export: .csv, .json or .sqlite3."
)
@pass_call
def log_command(
    call: Call,
    participant: str | None,
    kind: str | None,
    by: str | None,
    since: str | None,
    at: str | None,
    follow: bool,
    target: Path | None,
) -> None:
    """The log, readable, without positions, arms, key halves and private details.

    An auditor or sponsor (--as, with passphrase) sees every record whole, with reasons, names and answers; that they
    looked is a record too.
    """
    from allocator.log import KINDS

    if kind is not None and kind not in KINDS:
        raise InputError("kind", f"{shown(kind)!r} is no kind of record", f"Kinds: {', '.join(KINDS)}.")
    with call.service() as service:
        whole = _sees_all(call, service)
        ids = None if participant is None else service.ids_of(participant)
        start, end = _moment(service, "since", since), _moment(service, "at", at)

        def wanted(record: Record) -> bool:
            return (
                (ids is None or not ids.isdisjoint(record.fields.get(name) for name in ("participant", "from", "to")))
                and (kind is None or record.kind == kind)
                and (by is None or record.fields.get("person") == by)
                and (start is None or record.time >= start)
                and (end is None or record.time <= end)
            )

        def view(record: Record) -> dict[str, Any]:
            return record_view(record, service.private_details(record.seq) if whole else None)

        records = (record for record in service.records(follow=follow, pause=time.sleep) if wanted(record))
        if target is not None:
            from allocator.cli.log_export import export_log

            count = export_log(target, [view(record) for record in records])
            call.show({"file": str(target), "records": count}, f"{count} records written to {shown(str(target))}.")
            return
        for record in records:
            if call.as_json:
                click.echo(json_text(view(record)))
            else:
                click.echo(record_line(record, service))
                for name, value in service.private_details(record.seq).items() if whole else ():
                    click.echo(f"         {shown(name)}: {shown(value)}")


def record_view(record: Record, private: dict[str, str] | None) -> dict[str, Any]:
    """A record as JSON with its hash: whole with its private details, or without what must not be seen at a site."""
    whole = private is not None
    fields = {k: v for k, v in record.fields.items() if whole or k not in _HIDDEN_AT_SITE}
    return {**fields, **({"private": private} if private else {}), "prev": record.prev.hex(), "hash": record.hash.hex()}


def record_line(record: Record, service: AllocationService) -> str:
    """A record in one line."""
    fields = record.fields
    said = [_word(name, fields[name]) for name in _SHOWN_FIELDS if fields.get(name) is not None]
    when = local_time(record.time, service.study.zone)
    person, kind = shown(str(fields.get("person") or "-")), shown(record.kind)
    return f"{record.seq:>5}  {when}  {person:<8} {kind:<23} {'  '.join(said)}".rstrip()


def _word(name: str, value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return shown(text) if name in ("participant", "added", "finding", "grantee") else f"{name} {shown(text)}"


def _sees_all(call: Call, service: AllocationService) -> bool:
    from allocator.person import PERMITTED

    person = service.history.person(call.person) if call.person else None
    if person is None or not PERMITTED["log-read"] & set(person.roles):
        return False
    service.read_log_whole(call.actor(service, "log-read"))
    return True


def _moment(service: AllocationService, name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(name, f"{shown(text)!r} is no time", "Write 2026-11-20 or 2026-11-20T09:30+08:00.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=service.study.zone)


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--head", "heads", multiple=True, metavar="HEX", help="Hash of a record, known from outside this home.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Processes for signatures; default: the cores.")
@pass_call
def verify(call: Call, path: Path | None, heads: tuple[str, ...], jobs: int | None) -> int:
    """Check everything that can be checked with no passphrase: files, chain, signatures, roles, rules, commitments.

    PATH is a home, a study's folder or its log. Nothing in it is changed: a copy is read.
    """
    from allocator.evidence import place_of, read_evidence
    from allocator.verify import verify as verify_evidence

    place = place_of(path, call.study) if path else call.place_unchecked()
    wanted = "--head takes 64 hexadecimal digits: the hash of a record"
    given = tuple(hex_32(text, "head", wanted) for text in heads)
    with read_evidence(place, given) as evidence, _signature_processes(evidence.row_count, jobs) as submit:
        verdict = verify_evidence(evidence, submit=submit)
    call.show(verdict.as_json(), verdict_text(verdict, place.study))
    return 3 if verdict.verdict in ("broken", "intact-unanchored") else 0


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


VERDICT_WORDS = {
    "intact": "INTACT: every check holds, and the log reaches the head you gave.",
    "intact-local": "INTACT, anchored only by this home's own head: whoever restores the whole machine restores it "
    "too. Compare with a head kept elsewhere (--head) to be sure that nothing was cut off.",
    "intact-unanchored": "UNANCHORED: the chain holds, but no head from outside is known, so a cut tail or an older "
    "backup would look the same. Give one with --head.",
    "broken": "BROKEN: what is stored does not hold together.",
}


def verdict_text(verdict: Verdict, study: str) -> str:
    """The verdict for the eye: one plain sentence, then the findings, the first broken record first."""
    lines = [
        *textwrap.wrap(VERDICT_WORDS[verdict.verdict], 100),
        f"  study    {shown(study)}",
        f"  records  {verdict.records}"
        + ("" if verdict.followed == verdict.records else f", of which the first {verdict.followed} can be followed"),
        *([f"  head     {verdict.head.hex()}"] if verdict.head else []),
        *([f"  root     {verdict.root}"] if verdict.root else []),
    ]
    if verdict.findings:
        lines.append(f"{len(verdict.findings)} finding{'s' if len(verdict.findings) > 1 else ''}, by check number:")
    for finding in verdict.findings:
        lines += _finding_lines(finding)
    return "\n".join(lines)


def _finding_lines(finding: Finding) -> list[str]:
    where = "" if finding.seq is None else f"record {finding.seq}: "
    lines = [f"  [{finding.check}] {where}{shown(finding.message)}"]
    if finding.expected is not None:
        lines.append(f"      expected  {shown(str(finding.expected))}")
    if finding.found is not None:
        lines.append(f"      found     {shown(str(finding.found))}")
    return lines

"""What everybody may look at: status and the log."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, json_text, pass_call
from allocator.cli.pharmacist import local_time
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.log import Record
    from allocator.service import AllocationService

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
    "scope",
    "since",
    "until",
)

_ATTENTION = {
    "clock_behind": "ATTENTION   the clock is behind the last record: nothing can be written. Set it right; if it is\n"
    "              right, the sponsor runs `allocator clock`",
    "moved": "ATTENTION   the log was moved to another place by its last record: nothing is written here",
    "recovering": "ATTENTION   records may be missing: the statistician ends this with `allocator recover`",
    "sponsors": "ATTENTION   one sponsor only: if that key is lost, nobody can add people or resume. Add a second",
}


ENDED = ("closed", "opened", "moved")  # nobody waits any more, and nobody needs to be added


def _needs(key: str, status_: dict[str, Any]) -> bool:
    if key in ("moved", "recovering"):
        return bool(status_["state"] == key)
    if key == "sponsors":
        return bool(status_["sponsors"] == 1 and status_["state"] not in ENDED)
    return bool(status_[key])


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
        *([] if result["state"] in ENDED else [f"  waiting     {result['waiting']} confirmed, not yet allocated"]),
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
    from allocator.trail import trail_row, view

    if kind is not None and kind not in KINDS:
        raise InputError("kind", f"{shown(kind)!r} is no kind of record", f"Kinds: {', '.join(KINDS)}.")
    if target is not None:
        from allocator.cli.log_export import check_target

        check_target(target)  # before a reading is recorded
    with call.service() as service:
        whole = _sees_all(call, service)
        ids = None if participant is None else service.ids_of(participant)
        start, end = moment_of(service, "since", since), moment_of(service, "at", at)

        def wanted(record: Record) -> bool:
            return (
                (ids is None or not ids.isdisjoint(record.fields.get(name) for name in ("participant", "from", "to")))
                and (kind is None or record.kind == kind)
                and (by is None or record.fields.get("person") == by)
                and (start is None or record.time >= start)
                and (end is None or record.time <= end)
            )

        def private(record: Record) -> dict[str, str] | None:
            return service.private_details(record.seq) if whole else None

        records = (record for record in service.records(follow=follow, pause=time.sleep) if wanted(record))
        if target is not None:
            from allocator.cli.log_export import export_log

            count = export_log(target, (trail_row(record, private(record)) for record in records), whole=whole)
            call.show({"file": str(target), "records": count}, f"{count} records written to {shown(str(target))}.")
            return
        for record in records:
            if call.as_json:
                click.echo(json_text(view(record, private(record))))
            else:
                click.echo(record_line(record, service))
                for name, value in service.private_details(record.seq).items() if whole else ():
                    click.echo(f"         {shown(name)}: {shown(value)}")


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


def moment_of(service: AllocationService, name: str, text: str | None) -> datetime | None:
    """A time as typed; without an offset it is in the study's time zone. InputError when it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=service.study.zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(name, f"{shown(text)!r} is no time", "Write 2026-11-20 or 2026-11-20T09:30+08:00.") from error

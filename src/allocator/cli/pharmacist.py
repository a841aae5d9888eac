"""The pharmacist's commands: reveal, show, unblind, correct."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, on_terminal, pass_call, record_json
from allocator.errors import AllocatorError, InputError
from allocator.record_form import CORRECTIONS
from allocator.text import TEST_NOTICE, shown

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from allocator.confirming import Summary
    from allocator.service import Allocation, AllocationService

WIDTH = 72


@click.command()
@click.argument("participant")
@click.option("--retype", metavar="PARTICIPANT", help="The participant once more; asked for on a terminal.")
@click.option("--dry-run", is_flag=True, help="Check whether the request would be granted; nothing is written.")
@pass_call
def reveal(call: Call, participant: str, retype: str | None, dry_run: bool) -> None:
    """Request the next allocation for a participant and show the arm, in large plain words.

    A repeat shows the same allocation again. If you do not know whether a request went through, ask again or
    look with `allocator show`: no participant is ever allocated twice.
    """
    call.required_person()
    with call.service() as service:
        service.require_participant(participant)
        if retype is None and not dry_run and not on_terminal():
            raise InputError(
                "retype-missing",
                "the participant is not retyped and there is no terminal to ask on",
                f"Add --retype {participant}.",
            )
        actor = call.actor(service, "allocated")
        if _may(call, service, "allocated"):
            call.talk(_summary_text(service, participant, service.summary(participant)))
        if dry_run:
            service.check_reveal(actor, participant)
            granted = {"participant": participant, "would_be_granted": True}
            call.show(granted, f"The request for {participant} would be granted. Nothing was written.")
            return
        if retype is None:
            retype = click.prompt("Retype the participant", default="", show_default=False, err=True)
        allocation = service.reveal(actor, participant, retype.strip())
        again = "ALREADY ALLOCATED: this is the same allocation, shown again" if allocation.repeated else ""
        show_allocation(call, service, allocation, again, receipt=keep_receipt(call, service, allocation))


@click.command()
@click.argument("participant")
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def unblind(call: Call, participant: str, reason: str) -> None:
    """Show one participant's arm and nobody else's; reason and signature are recorded."""
    with call.service() as service:
        allocation = service.unblind(call.actor(service, "unblinded"), participant, reason)
        show_allocation(call, service, allocation, "UNBLINDED: who looked, when and why is recorded")


@click.command()
@click.argument("participant")
@click.option("--what", type=click.Choice([*CORRECTIONS, "participant"]), required=True, help="What was wrong.")
@click.option("--value", required=True, help="What is true: the stratum as FACTOR=LEVEL, the arm given, the right id.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def correct(call: Call, participant: str, what: str, value: str, reason: str) -> None:
    """State a correction beside an allocation. The allocation itself stands: nothing is ever undone.

    A wrong participant id (--what participant, --value the right one) takes two signatures: a second person, who
    gives the same command, makes the allocation the right participant's. The wrong id is free again.
    """
    if what == "participant":
        _reassign(call, participant, value, reason)
        return
    with call.service() as service:
        record = service.correct(call.actor(service, "corrected"), participant, what, value, reason)
    call.show(
        {"participant": participant, "record": record_json(record)},
        f"Recorded beside the allocation of {participant}: {what} is {shown(value)}.  [record {record.seq}]\n"
        "The allocation stands as it was made.",
    )


def _reassign(call: Call, participant: str, to: str, reason: str) -> None:
    with call.service() as service:
        record, moved = service.reassign(call.actor(service, "reassigned"), participant, to, reason)
    said = (
        f"The allocation made as {participant} is {to}'s.  [record {record.seq}]\n"
        f"{participant} is free again; its history is kept, and is found by either id."
        if moved
        else f"Stated: the allocation of {participant} is {to}'s.  [record {record.seq}]\n"
        "Nothing has changed yet: a second person gives the same command to make it so."
    )
    call.show({"participant": participant, "to": to, "moved": moved, "record": record_json(record)}, said)


@click.command()
@click.argument("participant")
@pass_call
def show(call: Call, participant: str) -> None:
    """What became of a participant's request, and its history; the arm for those who may see it (with --as)."""
    with call.service() as service:
        state = service.participant_state(participant)
        history = [
            {"seq": r.seq, "time": r.fields["time"], "kind": r.kind, "person": r.fields.get("person")}
            | {name: r.fields[name] for name in ("action", "cause") if name in r.fields}
            for r in service.participant_records(participant)
        ]
        result: dict[str, Any] = {"participant": participant, "state": state, "history": history}
        allocation = None
        if state == "allocated" and _may(call, service, "looked-up"):
            allocation = service.look_up(call.actor(service, "looked-up"), participant)
            result |= allocation_json(allocation)
        lines = [f"{participant}: {STATE_WORDS[state]}"]
        lines += [_history_line(h, service.study.zone) for h in history]
        if allocation is not None:
            lines.append(allocation_text(service, allocation, "LOOKED UP: this participant is allocated"))
        elif state == "allocated":
            lines.append("The arm is shown only to a pharmacist or an investigator, who give --as PERSON.")
        call.show(result, "\n".join(lines))


def _may(call: Call, service: AllocationService, kind: str) -> bool:
    """Whether the person named is of a role that may write this kind; their passphrase is asked for after this."""
    from allocator.person import PERMITTED

    person = service.history.person(call.person) if call.person else None
    return person is not None and bool(PERMITTED[kind] & set(person.roles))


STATE_WORDS = {
    "allocated": "allocated.",
    "confirmed": "eligibility confirmed; not yet allocated. The pharmacist may request it.",
    "expired": "the confirmation has expired; the investigator confirms again.",
    "withdrawn": "the confirmation was withdrawn.",
    "refused": "the latest eligibility form did not qualify.",
    "waiting": "requested, but eligibility is not confirmed: waiting for the investigator.",
    "unknown": "nothing is recorded about this participant.",
}


def _history_line(entry: dict[str, Any], zone: ZoneInfo) -> str:
    asked = f"{entry['action']}: {entry['cause']}" if "cause" in entry else ""
    when, person = local_time(_time(entry), zone), entry["person"] or "-"
    return f"  {entry['seq']:>5}  {when}  {entry['kind']:<23} {person:<8} {asked}".rstrip()


def show_allocation(
    call: Call, service: AllocationService, allocation: Allocation, banner: str, receipt: str | None = None
) -> None:
    """Print an allocation that is already logged; the banner says why it is shown, where it is not new."""
    call.show(allocation_json(allocation, receipt), allocation_text(service, allocation, banner))


def keep_receipt(call: Call, service: AllocationService, allocation: Allocation) -> str | None:
    """Keep a receipt beside the log: from it a lost allocation is entered again. It never fails what is recorded."""
    try:
        return str(service.keep_receipt(allocation.record))
    except (OSError, AllocatorError) as error:
        said = error.message if isinstance(error, AllocatorError) else error.strerror
        call.warn(f"recorded, but its receipt could not be kept: {said}. It can be made again: `allocator receipt`")
        return None


def allocation_json(allocation: Allocation, receipt: str | None = None) -> dict[str, Any]:
    """The JSON of an allocation, with its record as signed; in mode test with its notice."""
    result: dict[str, Any] = {
        "participant": allocation.participant,
        "number": allocation.number,
        "arm": {"code": allocation.arm.code, "label": allocation.arm.label},
        "stratum": dict(allocation.stratum),
        "time": allocation.time,
        "repeated": allocation.repeated,
        "mode": allocation.mode,
        "record": record_json(allocation.record),
        "act": {**record_json(allocation.act), **{k: allocation.act.fields[k] for k in ("kind", "person", "time")}},
        # in base64, for it names the position, which is nothing to read at a site (C03)
        "signed_record": {
            "prev": allocation.made.prev.hex(),
            "body": base64.b64encode(allocation.made.body).decode("ascii"),
        },
        "receipt": receipt,
    }
    if allocation.mode == "test":
        result["notice"] = TEST_NOTICE
    return result


def allocation_text(service: AllocationService, allocation: Allocation, banner: str) -> str:
    """An allocation for the eye: the arm stands alone, in capitals, between rules."""
    from allocator.canonical import parse_time

    zone, made = service.study.zone, allocation.made
    fields, entered = made.fields, allocation.record.fields
    notice = [TEST_NOTICE.center(WIDTH).rstrip()] if allocation.mode == "test" else []
    stratum = ", ".join(f"{name} {level}" for name, level in allocation.stratum.items())
    rows = [
        ("Participant", allocation.participant),
        ("Randomization no.", str(allocation.number)),
        *([("Stratum", stratum)] if stratum else []),
        *([("On paper", local_time(parse_time(fields["event_time"]), zone))] if "event_time" in fields else []),
        ("Allocated", local_time(made.time, zone)),
        ("Signed by", f"{service.name_of(fields['person'])}, {fields['role']}"),
        ("Meaning", fields["meaning"]),
        *(
            [
                ("From its receipt", f"by {service.name_of(entered['person'])}, {entered['role']}"),
                ("", local_time(allocation.record.time, zone)),
            ]
            if made is not allocation.record and made.hash != allocation.record.hash
            else []
        ),
        ("Record", str(allocation.record.seq)),
    ]
    shown_now = []
    if allocation.act.seq != allocation.record.seq:
        act = allocation.act.fields
        shown_now = [
            ("Shown now", local_time(allocation.act.time, zone)),
            ("To", f"{service.name_of(act['person'])}, {act['role']}"),
            ("Meaning", act["meaning"]),
            *((name.capitalize(), text) for name, text in service.private_details(allocation.act.seq).items()),
            ("Record", str(allocation.act.seq)),
        ]
    return "\n".join(
        [
            "=" * WIDTH,
            *notice,
            *([banner.center(WIDTH).rstrip()] if banner else []),
            "",
            *(line.center(WIDTH).rstrip() for line in _large(allocation.arm.code)),
            "",
            shown(allocation.arm.label).center(WIDTH).rstrip(),
            shown("give: " + " + ".join(allocation.arm.interventions)).center(WIDTH).rstrip(),
            "",
            *_lines(rows),
            f"  Hash {allocation.record.hash.hex()}",  # whole: a printed one is a head known from outside
            *_lines(shown_now),
            *notice,
            "=" * WIDTH,
        ]
    )


def _lines(rows: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<19}{shown(value)}" for name, value in rows]


def _large(code: str) -> list[str]:
    """The arm's code in a box of its own, letters apart, so that two codes are not taken for each other."""
    text = "   ".join(code.upper()) if len(code) <= 14 else code.upper()
    edge = "+" + "-" * (len(text) + 6) + "+"
    return [edge, f"|   {text}   |", edge]


def _summary_text(service: AllocationService, participant: str, summary: Summary | None) -> str:
    if summary is None:
        return f"{participant}: there is no confirmation of eligibility that holds.\n"
    stratum = ", ".join(f"{name} {level}" for name, level in summary.stratum.items()) or "none"
    rows = [
        ("Study", summary.study),
        ("Mode", summary.mode + (f"   {TEST_NOTICE}" if summary.mode == "test" else "")),
        ("Home", summary.home),
        ("Participant", summary.participant),
        *summary.answers,
        ("Stratum", stratum),
        ("Eligibility", f"confirmed by {summary.confirmed_by}"),
        ("", local_time(summary.confirmed_at, service.study.zone)),
    ]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"  {shown(name):<{width}}{shown(value)}" for name, value in rows) + "\n"


def local_time(moment: datetime, zone: ZoneInfo) -> str:
    """The study's local time beside UTC: ``2026-11-20 09:30:00 Asia/Shanghai (01:30:00 UTC)``."""
    from datetime import UTC

    there, utc = moment.astimezone(zone), moment.astimezone(UTC)
    day = "" if there.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{there:%Y-%m-%d %H:%M:%S} {zone.key} ({day}{utc:%H:%M:%S} UTC)"


def _time(entry: dict[str, Any]) -> datetime:
    from allocator.canonical import parse_time

    return parse_time(entry["time"])

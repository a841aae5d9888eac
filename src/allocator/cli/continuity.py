"""The commands of the way back: backup, restore, recover, clock, late, share, reseal."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, json_text, pass_call, record_json
from allocator.errors import EvidenceError, InputError
from allocator.text import shown

if TYPE_CHECKING:
    from datetime import datetime

    from allocator.qualification import Check
    from allocator.restoring import Restored
    from allocator.study import Study


@click.command()
@click.option("--reason", required=True, help="Why the clock is right now; it is recorded.")
@pass_call
def clock(call: Call, reason: str) -> None:
    """Let time go on after the clock was found behind the last record. First see that it is right now."""
    from allocator.cli.pharmacist import local_time

    with call.service() as service:
        before = service.status()["last_time"]
        record = service.set_clock(call.actor(service, "clock-set"), reason)
        now = local_time(record.time, service.study.zone)
    call.show(
        {"record": record_json(record), "time": record.fields["time"], "before": before},
        f"Time goes on from {now}.  [record {record.seq}]\n"
        "Confirmations that were made by a clock further ahead no longer hold: the investigator confirms again.",
    )


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@pass_call
def backup(call: Call, file: Path) -> None:
    """Copy the study into one tar file, also while others write; it is read again, and recorded.

    It holds the log, the sealed list, receipts and the encrypted keys, and a manifest. Keep it on another disk.
    """
    with call.service() as service:
        manifest, record = service.backup(call.actor(service, "backed-up"), file)
    call.show(
        {
            "file": str(file),
            "records": manifest.records,
            "head": manifest.head.hex(),
            "sha256": record.fields["backup"],
            "record": record_json(record),
        },
        f"{manifest.records} records are in {shown(str(file))}, read again and whole.  [record {record.seq}]\n"
        f"  head    {manifest.head.hex()}\n"
        f"  sha256  {record.fields['backup']}\n"
        "Keep it away from this machine, and the head apart from it.",
    )


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="What was lost, and why it is put back; it is recorded.")
@pass_call
def restore(call: Call, file: Path, reason: str) -> None:
    """Put a study back from a backup. What stands there now is moved aside, never removed.

    Where something newer than the backup may have been shown, nothing new is allocated until `recover`.
    """
    from allocator.restoring import read_digest
    from allocator.restoring import restore as put_back

    home = Path(call.home) if call.home else call.home_folder()
    done = put_back(home, file, read_digest(file), lambda s: call.actor(s, "restored"), reason, notify=call.warn)
    missing = {
        "none": "Nothing is missing: the log reaches the newest record this home has seen.",
        "known": "RECORDS ARE MISSING that this home has seen. Nothing new is allocated until that is settled.",
        "unknown": "Whether records are missing nobody can tell: this home has no head. Nothing new is allocated until "
        "that is settled.",
    }[done.missing]
    lines = [
        f"{done.manifest.study} is put back from {shown(str(file))}.  [record {done.record.seq}]",
        *_where_the_log_is(done),
        *([f"  What stood there is in {shown(str(done.aside))}."] if done.aside else []),
        missing,
    ]
    if done.missing != "none":
        lines.append("Collect receipts and printed screens from every site. Then the statistician runs")
        lines.append("`allocator recover`.")
    call.show(
        {
            "file": str(file),
            "records": done.record.seq + 1,
            "head": done.record.hash.hex(),
            "missing": done.missing,
            "lost": done.record.fields["lost"],
            "kept_log": done.kept_log,
            "log": "postgresql" if done.in_postgres else "file",
            "aside": str(done.aside) if done.aside else None,
            "state": done.record.fields["state"],
            "record": record_json(done.record),
        },
        "\n".join(lines),
    )


def _where_the_log_is(done: Restored) -> list[str]:
    if done.in_postgres:
        return ["  The log in the database was the newer one and holds: it was kept, and stays there."]
    lines = ["  The log of this home was the newer one and holds: it was kept."] if done.kept_log else []
    if done.was_in_postgres:
        lines.append("  The log is a file in this home now: unset ALLOCATOR_STORE; `allocator move` takes it back.")
    return lines


@click.command()
@click.option("--reason", required=True, help="What happened; it is recorded.")
@click.option(
    "--receipt",
    "receipts",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Receipt of a lost allocation, or what `reveal --json` printed.",
)
@click.option(
    "--position",
    "positions",
    multiple=True,
    metavar="STRATUM=N[@PARTICIPANT]",
    help="An entry that may have been used: the stratum as FACTOR=LEVEL,… ({} without factors), its position from 0.",
)
@click.option(
    "--none-used", is_flag=True, help="Nothing was used beyond what the receipts prove: every site was asked."
)
@pass_call
def recover(call: Call, reason: str, receipts: tuple[Path, ...], positions: tuple[str, ...], none_used: bool) -> None:
    """After a loss: the sponsor states it, then the statistician reserves what may have been used, and ends it.

    Receipts enter the allocations they prove. Entries that may have been used are never given again.
    """
    originals = [_read_receipt(path) for path in receipts]
    with call.service() as service:
        places = dict(_place(text, service.study) for text in positions)
        actor = call.actor(service, "recovered")
        record, reserved = service.recover(actor, reason, receipts=originals, places=places, none_used=none_used)
        state, restored = service.history.state, record.kind != "recovered"
    if restored and positions:
        call.warn("positions are stated by the statistician, who ends the recovery: give them again there")
    text = [_RECOVERED[record.kind] + f"  [record {record.seq}]"]
    text += [_reservation_line(item) for item in reserved]
    text.append(f"The study is {state}." + ("" if restored else " Tell every site what was entered and what was lost."))
    call.show(
        {"record": record_json(record), "kind": record.kind, "skipped": reserved, "state": state}, "\n".join(text)
    )


_RECOVERED = {
    "restored": "The loss is stated; nothing new is allocated until the statistician ends the recovery.",
    "receipt-entered": "The receipts are entered; the statistician ends the recovery.",
    "recovered": "The recovery is ended. What may have been used is reserved, and never given again:",
}


def _reservation_line(item: dict[str, Any]) -> str:
    stratum = ", ".join(f"{name} {level}" for name, level in item["stratum"].items()) or "the study"
    whose = f"for {item['participant']}, who may have been told it" if item["participant"] else "for nobody"
    return f"  entry {item['position']} of {stratum}: {whose}"


def _read_receipt(path: Path) -> dict[str, Any]:
    """The signed record in a receipt, or in what `reveal --json` printed. InputError when there is none."""
    from allocator.home import read_input
    from allocator.receipt import MAX_RECEIPT, PROOF, parse_receipt

    data = read_input(path, limit=MAX_RECEIPT)
    try:
        if data.startswith(PROOF.encode("ascii")):
            made = parse_receipt(data).made
            return {"prev": made.prev.hex(), "body": made.body.decode("utf-8")}
        original = json.loads(data)["signed_record"]
        body = base64.b64decode(original["body"], validate=True).decode("utf-8")
        return {"prev": str(original["prev"]), "body": body}
    except EvidenceError as error:
        raise InputError("receipt", f"{shown(path.name)}: {error.message}", "Is the file whole?") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(
        "receipt",
        f"{shown(path.name)} holds no signed record of an allocation",
        "Give a file of schedules/STUDY/receipts/, or what `allocator --json reveal` printed.",
    )


def _place(text: str, study: Study) -> tuple[tuple[str, int], str | None]:
    from allocator.confirming import parse_stratum
    from allocator.study import stratum_label

    place, _, participant = text.partition("@")
    named, equals, number = place.rpartition("=")
    if not equals or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise InputError(
            "position", f"{shown(text)!r} is not STRATUM=N", "Such as site=A=6, or {}=6 in a study without factors."
        )
    if participant and not study.is_participant(participant):
        raise InputError("participant", f"{shown(participant)!r} is no participant id of {study.id}")
    pairs = [] if named.strip() in ("", "{}") else named.strip("{}").split(",")
    return (stratum_label(parse_stratum(pairs, study)), int(number)), participant or None


@click.command()
@click.argument("participant")
@click.option("--time", "event", required=True, metavar="T", help="When it was done: 2026-11-20T03:10:00+08:00.")
@click.option("--reason", required=True, help="Why it was done on paper; it is recorded.")
@click.option("--arm", metavar="CODE", help="The arm told on paper; it is recorded beside the entry's own.")
@pass_call
def late(call: Call, participant: str, event: str, reason: str, arm: str | None) -> None:
    """Enter an allocation that was made on paper while the system was down. The investigator confirms first."""
    from allocator.cli.pharmacist import allocation_json, allocation_text, keep_receipt

    moment = parse_moment(event)
    with call.service() as service:
        service.require_participant(participant)
        allocation = service.late(call.actor(service, "late"), participant, moment, reason, told=arm)
        out_of_order = service.later_than_its_successor(allocation)
        told = allocation.record.fields["told"]
        agrees = told is None or told == allocation.record.fields["arm"]
        if not agrees:
            call.warn(
                f"the paper told {arm}, the list says {allocation.arm.code}: tell the sponsor now, and state what was "
                f"given: allocator correct {participant} --what treatment --value {arm} --reason TEXT"
            )
        if out_of_order:
            call.warn("the allocations on paper were not made in the order of the list; it is told here and in `log`")
        receipt = keep_receipt(call, service, allocation)
        entry = {"event_time": allocation.record.fields["event_time"], "agrees": agrees, "in_order": not out_of_order}
        call.show(
            allocation_json(allocation, receipt) | {"late": entry},
            allocation_text(service, allocation, "ENTERED LATE: this was done on paper at the time stated"),
        )


def parse_moment(text: str) -> datetime:
    """A date and time with its zone. InputError otherwise."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            _ = moment.astimezone(tz=None)
            return moment
    except (ValueError, OverflowError):
        pass
    raise InputError("time", f"{shown(text)!r} is no time with its zone", "Such as 2026-11-20T03:10:00+08:00.")


@click.command()
@click.option(
    "--to", "file", metavar="FILE", type=click.Path(path_type=Path), help="Write it here, readable by you only."
)
@pass_call
def share(call: Call, file: Path | None) -> None:
    """A copy of your share of the seed, to be kept on paper in a safe. It is recorded that you took it.

    With both shares the list can be sealed again, and opened at the end: never keep the two together.
    """
    if file is not None and file.exists():
        raise InputError("file-exists", f"{shown(str(file))} is there already", "Give another name.")
    with call.service() as service:
        record, paper = service.copy_share(call.actor(service, "share-copied"))
    plain = json.loads(paper.to_bytes())
    if file is not None:
        from allocator.home import write_durably

        write_durably(file, paper.to_bytes() + b"\n", mode=0o600)
        said = {"file": str(file), "record": record_json(record)}
        call.show(said, f"Your share is in {shown(str(file))}.  [record {record.seq}]\nPut it where nobody else looks.")
        return
    call.show(
        {**plain, "record": record_json(record)},
        "SECRET: your share of the seed. Keep this on paper, away from the other share.\n"
        + shown(json_text(plain))
        + f"\n[record {record.seq}]",
    )


@click.command()
@click.argument("shares", nargs=2, metavar="SHARE SHARE", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="Why the list is sealed again; it is recorded.")
@pass_call
def reseal(call: Call, shares: Sequence[Path], reason: str) -> None:
    """Seal the same list again from both shares of its seed: for a list, or the keys to it, that are lost.

    The root stays the one committed to. Everybody is granted anew, and waiting participants are confirmed again.
    """
    from allocator.continuity import read_share

    papers = [read_share(path) for path in shares]
    with call.service() as service:
        record = service.reseal(call.actor(service, "resealed"), papers, reason)
    fields = record.fields
    call.show(
        {"sealing": fields["sealing"], "root": fields["root"], "record": record_json(record)},
        f"The list is sealed again, to the same root.  [record {record.seq}]\n"
        f"  root     {fields['root']}\n"
        "Now grant every pharmacist and investigator anew (allocator grant PERSON), take paper copies of the shares\n"
        "again, and have participants who wait confirmed again. Destroy the share files used here.",
    )


@click.command("self-test")
@click.option("--to", "file", metavar="FILE", type=click.Path(path_type=Path), help="Where the report goes.")
@click.option("--on", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Drill on this folder's disk.")
@pass_call
def self_test(call: Call, file: Path | None, folder: Path | None) -> int:
    """Qualify this installation: a drill of the whole life of a study, its losses included, with a report.

    It runs in a folder of its own, which it removes; studies are not touched. With ALLOCATOR_STORE set, that database
    is qualified too, and nothing is left in it. Exit 3 if a check failed.
    """
    import tempfile

    from allocator.cli.demo import first_study_files
    from allocator.home import write_durably
    from allocator.qualification import free_text, report_text
    from allocator.self_test import Drill
    from allocator.session import system_clock
    from allocator.stores import address_given, need_postgres
    from allocator.toml_files import read_study

    moment = system_clock()
    file = file or Path(f"allocator-self-test-{moment:%Y%m%dT%H%M%SZ}.md")
    if file.exists():
        raise InputError("file-exists", f"{shown(str(file))} is there already", "Give another name with --to.")
    if (address := address_given()) is not None:
        need_postgres()
    files = first_study_files()
    with tempfile.TemporaryDirectory(prefix="allocator-self-test-", dir=folder) as place:
        checks, database = Drill(folder=Path(place), files=files).run(), None
        if address is not None:
            more, database = _check_database(address)
            checks += more
        study = read_study("study.toml", files["study"].read_bytes())
        text = report_text(checks, study, moment, free_text(Path(place)), database)
    write_durably(file, text.encode("utf-8"))
    failed = [check for check in checks if not check.passed]
    lines = [f"  {'passed' if check.passed else 'FAILED'}  {check.name:<28} {shown(check.said)}" for check in checks]
    lines.append(f"{len(checks) - len(failed)} passed, {len(failed)} failed. The report is in {shown(str(file))}.")
    result = {
        "passed": len(checks) - len(failed),
        "failed": len(failed),
        "report": str(file),
        "checks": [
            {"name": c.name, "requirements": list(c.requirements), "passed": c.passed, "said": c.said} for c in checks
        ],
    }
    call.show(result, "\n".join(lines))
    return 3 if failed else 0


def _check_database(address: str) -> tuple[list[Check], str]:
    from allocator.database_check import Database

    database = Database(address)
    checks = database.run()
    return checks, database.words

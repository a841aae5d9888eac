"""The commands of what leaves the building: checkpoint, receipt, export, open, review."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from allocator.cli.call import Call, check_new_file, pass_call, record_json
from allocator.errors import EvidenceError, InputError
from allocator.record_form import SCOPES
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.checkpoint import Checkpoint
    from allocator.receipt import Receipt
    from allocator.receipt_pdf import ReceiptPage
    from allocator.service import AllocationService

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--to", "target", metavar="FILE", type=_FILE, help="Write the note here.")
@click.option("--since", "older", metavar="FILE", type=_FILE, help="An older checkpoint: proves that it only grew.")
@click.option("--size", type=click.IntRange(min=1), metavar="N", help="Of the first N records; default: of all.")
@pass_call
def checkpoint(call: Call, target: Path | None, older: Path | None, size: int | None) -> None:
    """A signed head of the log, to be kept where its owner cannot reach it: mail it, print it, give it to a witness.

    `allocator verify --checkpoint FILE` shows later that nothing signed here was cut off or rewritten. Any reader of
    C2SP signed notes can check the signature; openssl can, too (docs/auditor.md).
    """
    before = _older(older) if older else None
    check_new_file(target)
    with call.service() as service:
        proof = service.consistency(before, size) if before else None
        current = service.checkpoint(size)
        key = service.verifier_key()
    note = proof or current.note
    if target is not None:
        _write(target, note.encode("utf-8"))
    # `root` is the list's everywhere else
    result = {"note": note, "origin": current.origin, "size": current.size, "tree": current.root.hex(), "key": key}
    said = note.rstrip("\n")
    if target is not None:
        what = f"The checkpoint of {current.size} records"
        if before is not None:
            what = f"The proof that the log grew from {before.size} to {current.size} records, with its checkpoint,"
        said = f"{what} is in {shown(str(target))}."
    call.show(result | ({"file": str(target)} if target else {}), said)
    call.talk(f"\nVerifier key of this log, for other programs:\n{key}")


@click.command()
@click.argument("participant")
@click.option("--pdf", metavar="FILE", type=_FILE, help="One page for the pharmacy file.")
@click.option("--text", "as_text", is_flag=True, help="In words, instead of the proof.")
@click.option("--to", "target", metavar="FILE", type=_FILE, help="Write the proof here.")
@pass_call
def receipt(call: Call, participant: str, pdf: Path | None, as_text: bool, target: Path | None) -> None:
    """A participant's receipt again, marked COPY; that it was made is recorded.

    The receipt is a proof in one text file: the signed record of the allocation, its place in the log, and the opened
    entry of the list that was sealed before the first participant. `allocator verify --receipt FILE` checks it.
    """
    from allocator.receipt import file_name
    from allocator.receipt_pdf import render_pdf, require_report

    for file in (pdf, target):
        check_new_file(file)
    if pdf is not None:
        require_report()  # before anything is recorded
    with call.service() as service:
        service.require_participant(participant)
        copy = service.copy_receipt(call.actor(service, "receipt-copied"), participant)
        page = _page(service, copy, participant)
    if pdf is not None:
        _write(pdf, render_pdf(page))
    if target is not None:
        _write(target, copy.to_bytes())
    files = {name: str(file) for name, file in (("file", target), ("pdf", pdf)) if file}
    proof = copy.to_bytes().decode("utf-8")
    result = {
        "participant": participant,
        "number": copy.record.fields["number"],
        "arm": {"code": copy.arm["code"], "label": copy.arm["label"]},
        "name": file_name(copy.record),
        "receipt": proof,
        "record": {"seq": copy.record.seq, "hash": copy.record.hash.hex()},
        "copy": dict(copy.copy or {}),
        **files,
    }
    written = "".join(
        f"The {'page' if name == 'pdf' else 'proof'} is in {shown(file)}.\n" for name, file in files.items()
    )
    call.show(result, (written + (page_text(page) if as_text or files else proof)).rstrip("\n"))


def page_text(page: ReceiptPage) -> str:
    """A page of the pharmacy file for the eye, on a terminal."""
    rows = [
        ("", page.notice),
        ("COPY", f"made {page.copied} by {page.copied_by}" if page.copied else None),
        ("Study", f"{page.study}  {page.title}"),
        ("Participant", page.participant),
        ("Now of", page.reassigned_to),
        ("Randomization no.", str(page.number)),
        ("Arm", f"{page.arm_code}   {page.arm_label}"),
        ("Give", " + ".join(page.interventions) or None),
        ("Stratum", page.stratum),
        ("On paper", page.on_paper),
        ("Allocated", page.allocated),
        ("Signed by", page.signed_by),
        ("Meaning", page.meaning),
        ("From its receipt", f"{page.entered}, by {page.entered_by}" if page.entered else None),
        ("Record", str(page.seq)),
        ("Hash", page.hash),
        ("Root of the list", page.schedule_root),
        ("Log", f"{page.origin}, its first {page.size} records"),
    ]
    return "\n".join(f"  {name:<19}{shown(text)}" for name, text in rows if text)


@click.command()
@click.argument("folder", metavar="DIR", type=_FILE)
@click.option(
    "--scope", type=click.Choice(SCOPES), default=SCOPES[0], show_default=True, help="inspection: private details too."
)
@pass_call
def export(call: Call, folder: Path, scope: str) -> None:
    """Everything a stranger needs to check the study, in one new folder, with two verifiers that are not this program.

    Scope evidence holds no answers, names or reasons, and no arm that is not yet allocated (once the list is opened:
    the whole list). Look at the strata before you give it away. Scope inspection holds all.

    The export is certified by your signature, and is a record of the log.
    """
    from allocator.exporting import check_target, export_study

    with call.service() as service:
        check_target(service.place, folder)
        done = export_study(service, call.actor(service, "exported"), folder, scope)
    names = sorted([*done.manifest.files, "certificate.json", "manifest.json", "SHA256SUMS"])
    where = shown(str(folder))
    call.show(
        {
            "folder": str(folder),
            "scope": scope,
            "files": names,
            "records": done.manifest.records,
            "head": done.manifest.head,
            "record": record_json(done.record),
        },
        f"{done.manifest.records} records and all that belongs to them are in {where}, scope {scope}.  "
        f"[record {done.record.seq}]\n"
        f"  head  {done.manifest.head}\n"
        "Check it with any of these, which share no code with each other:\n"
        f"  allocator verify {where}\n"
        f"  python3 {where}/verify.py {where}\n"
        f"  open {where}/index.html in a browser and drop the folder's files on it"
        + ("\nIt holds private details: keep it as the study itself." if scope == "inspection" else ""),
    )


@click.command("open")
@click.option(
    "--share", metavar="FILE", type=_FILE, help="Your share from its paper copy; you still sign with your key."
)
@pass_call
def open_command(call: Call, share: Path | None) -> None:
    """Open the list after the close: statistician and custodian each give their share of the seed.

    The second share discloses the seed. The whole list is drawn from it again and held to the sealed one, entry by
    entry; whoever has the file seed.json can do the same.
    """
    from allocator.continuity import read_share

    paper = read_share(share) if share else None
    with call.service() as service:
        record, seed = service.open_list(call.actor(service, "opened"), paper)
        sealing = service.history.sealing
        holders = sealing.fields["holders"] if sealing else []
        file = service.place.seed_file
    root = sealing.fields["root"] if sealing else None
    if seed is None:
        others = " and ".join(holder for holder in holders if holder != record.fields["person"])
        call.show(
            {"matches": None, "root": root, "record": record_json(record), "waiting_for": others},
            f"Your share is given.  [record {record.seq}]\nThe list opens when {others} gives theirs: "
            f"allocator --as {others} open",
        )
        return
    call.show(
        {"matches": True, "root": root, "record": record_json(record), "seed": str(file)},
        f"OPENED: the list drawn again from the seed is the sealed one, in every entry.  [record {record.seq}]\n"
        f"  root  {root}\n"
        f"  seed  {shown(str(file))}, whose digest is in the log\n"
        "Nothing can be allocated any more. `allocator verify` draws the list again each time from now on.",
    )


@click.command()
@click.option("--from", "since", required=True, metavar="T", help="Beginning of the period reviewed.")
@click.option("--to", "until", required=True, metavar="T", help="Its end.")
@click.option("--findings", required=True, help="What was found; recorded.")
@pass_call
def review(call: Call, since: str, until: str, findings: str) -> None:
    """Sign that you reviewed the trail of a period, with your findings (ICH E6(R3) 4.2.3)."""
    from allocator.cli.auditor import moment_of
    from allocator.cli.pharmacist import local_time

    with call.service() as service:
        start, end = moment_of(service, "from", since), moment_of(service, "to", until)
        if start is None or end is None:
            raise InputError("period", "a period has two ends", "Give --from and --to.")
        record = service.review(call.actor(service, "reviewed"), start, end, findings)
    call.show(
        {"record": record_json(record), "since": record.fields["since"], "until": record.fields["until"]},
        f"The review is signed.  [record {record.seq}]\n"
        f"  from  {local_time(start, service.study.zone)}\n  to    {local_time(end, service.study.zone)}",
    )


def _older(file: Path) -> Checkpoint:
    from allocator.checkpoint import MAX_NOTE, parse_checkpoint
    from allocator.home import read_input

    try:
        return parse_checkpoint(read_input(file, limit=MAX_NOTE))
    except EvidenceError as error:
        hint = "Give a file of `allocator checkpoint --to FILE`."
        raise InputError("checkpoint", f"{shown(file.name)}: {error.message}", hint) from error


def _write(file: Path, data: bytes) -> None:
    from allocator.home import write_durably

    write_durably(file, data)


def _page(service: AllocationService, copy: Receipt, participant: str) -> ReceiptPage:
    """The page of a receipt: its values in words."""
    from allocator.canonical import parse_time
    from allocator.checkpoint import hash_line
    from allocator.cli.pharmacist import local_time
    from allocator.receipt import file_name
    from allocator.receipt_pdf import ReceiptPage

    def when(time: str) -> str:
        return local_time(parse_time(time), service.study.zone)

    made, record, study = copy.made.fields, copy.record.fields, service.study
    entered, late = "original" in record, "event_time" in made
    told = study.arms[made["told"]].code if late and made["told"] is not None else None
    return ReceiptPage(
        study=study.id,
        title=study.title,
        protocol_version=study.protocol_version,
        mode=made["mode"],
        participant=made["participant"],
        number=record["number"],
        arm_code=copy.arm["code"],
        arm_label=copy.arm["label"],
        interventions=tuple(copy.arm["interventions"]),
        stratum=", ".join(f"{name} {level}" for name, level in made["stratum"].items()) or None,
        allocated=when(made["time"]),
        on_paper=when(made["event_time"]) if late else None,
        told=told,
        signed_by=f"{service.name_of(made['person'])}, {made['role']}",
        meaning=made["meaning"],
        entered=when(record["time"]) if entered else None,
        entered_by=f"{service.name_of(record['person'])}, {record['role']}" if entered else None,
        reassigned_to=participant if participant != made["participant"] else None,
        copied=when(copy.copy["time"]) if copy.copy else None,
        copied_by=service.name_of(copy.copy["person"]) if copy.copy else None,
        seq=copy.record.seq,
        hash=copy.record.hash.hex(),
        schedule_root=copy.root.hex(),
        origin=copy.checkpoint.origin,
        size=copy.checkpoint.size,
        tree_root=hash_line(copy.checkpoint.root),
        file=file_name(copy.record),
        timestamp=int(copy.record.time.timestamp()),
    )

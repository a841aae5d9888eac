"""The sponsor's commands: open a study, decide findings, activate, pause, resume, close."""

from __future__ import annotations

from pathlib import Path

import click

from allocator.cli.call import Call, pass_call, record_json
from allocator.text import shown


@click.command()
@click.argument("study_file", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--person", "person_id", required=True, metavar="ID", help="The first person: the sponsor.")
@click.option("--name", required=True, help="That person's name.")
@click.option("--registry", metavar="FILE.json", type=click.Path(path_type=Path), help="The registry's record.")
@click.option(
    "--mode",
    type=click.Choice(["production", "test"]),
    default="production",
    show_default=True,
    help="test: to rehearse; every arm shown says that it is for no patient.",
)
@pass_call
def init(call: Call, study_file: Path, person_id: str, name: str, registry: Path | None, mode: str) -> None:
    """Open a study in the home; record 0 holds its fingerprint and the findings of `check`."""
    from allocator.home import read_input
    from allocator.opening import Opening, open_study
    from allocator.protocol_check import check_protocol, parse_registry
    from allocator.study import MAX_FILE
    from allocator.toml_files import read_study

    study_bytes = read_input(study_file, limit=MAX_FILE)
    study = read_study(study_file.name, study_bytes)
    registry_bytes = read_input(registry, limit=MAX_FILE) if registry else None
    record_of_registry = parse_registry(registry_bytes) if registry_bytes is not None else None
    findings = check_protocol(study, record_of_registry, None)
    opening = Opening(
        study=study,
        study_bytes=study_bytes,
        registry_bytes=registry_bytes,
        findings=[{"id": f.id, "level": f.level, "message": f.message, "quotes": list(f.quotes)} for f in findings],
        person=person_id,
        name=name,
        mode=mode,
    )
    home = call.home_folder()
    record = open_study(home, opening, call.passphrase(f"New passphrase of {person_id}", twice=True))
    blockers = [f.id for f in findings if f.level == "block"]
    text = [
        f"{study.id} is opened in mode {mode} by {person_id}.  [record {record.seq}]",
        f"  hash of record 0  {record.hash.hex()}",
        f"{len(findings)} findings of the protocol check are recorded.",
    ]
    if blockers:
        text.append(f"Before activation the sponsor decides: {', '.join(blockers)}.")
    call.show({"study": study.id, "record": record_json(record)}, "\n".join(text))


@click.command()
@click.argument("finding", metavar="FINDING")
@click.option("--reading", required=True, help="How the study reads what the protocol leaves open.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def decide(call: Call, finding: str, reading: str, reason: str) -> None:
    """Sign the decision on a finding that was recorded when the study was opened."""
    with call.service() as service:
        record = service.decide(call.actor(service, "decided"), finding, reading, reason)
    call.show(
        {"finding": finding, "record": record_json(record)},
        f"{finding} is decided by {record.fields['person']}: {shown(reading)}  [record {record.seq}]",
    )


@click.command()
@click.option("--deposit", required=True, help="Where root and record 0's hash were put outside: ethics file, mail.")
@pass_call
def activate(call: Call, deposit: str) -> None:
    """Start allocation. Needs: blockers decided, a sealed list, a granted pharmacist and investigator.

    Says who signed the list off (`balance --sign`), or that nobody did.
    """
    from allocator.cli.balance import signed_json, signed_words

    with call.service() as service:
        record = service.activate(call.actor(service, "activated"), deposit)
        status, checked = service.status(), service.list_checked()
        signed = signed_words(service, checked).replace(", record", "\n  record", 1) if checked else "by nobody"
    call.show(
        {"state": status["state"], "list_checked": signed_json(checked), "record": record_json(record)},
        f"The study is active.  [record {record.seq}]\n"
        f"The list was checked and signed off {signed}.\n"
        f"Deposited outside ({shown(deposit)}):\n"
        f"  root of the sealed list   {status['root']}\n"
        f"  hash of record 0          {status['first_record']}",
    )


def _change(call: Call, kind: str, reason: str) -> None:
    with call.service() as service:
        record = service.change_state(call.actor(service, kind), kind, reason)
        state = service.history.state
    call.show(
        {"state": state, "record": record_json(record)},
        f"Allocation is {kind}: {shown(reason)}  [record {record.seq}]",
    )


@click.command()
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def pause(call: Call, reason: str) -> None:
    """Pause allocation; look-ups go on. Any role may."""
    _change(call, "paused", reason)


@click.command()
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def resume(call: Call, reason: str) -> None:
    """Resume allocation after a pause."""
    _change(call, "resumed", reason)


@click.command()
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def close(call: Call, reason: str) -> None:
    """Close allocation for good; look-ups go on."""
    _change(call, "closed", reason)

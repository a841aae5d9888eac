"""People: the sponsor invites and deactivates; each person enrols with their own keys and passphrase."""

from __future__ import annotations

import click

from allocator.cli.call import Call, ask_passphrase, given_passphrase, pass_call, record_json
from allocator.person import Role
from allocator.text import shown


@click.group()
def person() -> None:
    """Add, enrol, deactivate and list people."""


@person.command()
@click.argument("person_id", metavar="ID")
@click.option("--name", required=True, help="The person's name, as in the delegation log.")
@click.option("--role", "roles", multiple=True, required=True, help=f"One or more of: {', '.join(Role)}.")
@pass_call
def add(call: Call, person_id: str, name: str, roles: tuple[str, ...]) -> None:
    """Invite a person (sponsor). Prints a one-time code to hand over, by which they enrol."""
    with call.service() as service:
        record, code = service.add_person(call.actor(service, "person-added"), person_id, name, roles)
    result = {"person": person_id, "roles": record.fields["roles"], "code": code, "record": record_json(record)}
    call.show(
        result,
        f"{person_id} ({shown(name)}) is added: {', '.join(record.fields['roles'])}.  [record {record.seq}]\n"
        f"One-time code, to hand over in person:  {code}\n"
        f"They enrol with:  allocator --as {person_id} person enrol --code {code}",
    )


@person.command()
@click.option("--code", required=True, help="The one-time code the sponsor handed over.")
@pass_call
def enrol(call: Call, code: str) -> None:
    """Make one's own keys under one's own passphrase (with --as); nobody else ever has them."""
    person_id = call.required_person()
    with call.service() as service:
        record = service.enrol(person_id, code, lambda: call.passphrase(f"New passphrase of {person_id}", twice=True))
    call.show(
        {"person": person_id, "record": record_json(record)},
        f'{person_id} is enrolled.  [record {record.seq}]\nSigned: "{record.fields["meaning"]}"',
    )


@person.command("passphrase")
@click.option("--new-passphrase-file", metavar="FILE", help="Read the new passphrase from a file.")
@pass_call
def change_passphrase(call: Call, new_passphrase_file: str | None) -> None:
    """Change one's own passphrase; the new one is asked for, or taken from ALLOCATOR_NEW_PASSPHRASE."""
    person_id = call.required_person()

    def new_passphrase() -> str:
        given = given_passphrase("ALLOCATOR_NEW_PASSPHRASE", new_passphrase_file)
        return given or ask_passphrase(f"New passphrase of {person_id}", twice=True)

    with call.service() as service:
        record = service.change_passphrase(call.actor(service, "passphrase-changed"), new_passphrase)
    call.show(
        {"person": person_id, "record": record_json(record)},
        f"The passphrase of {person_id} is changed.  [record {record.seq}]",
    )


@person.command()
@click.argument("person_id", metavar="ID")
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def deactivate(call: Call, person_id: str, reason: str) -> None:
    """The person may no longer act (sponsor); nothing of theirs is removed and the id is never reused."""
    with call.service() as service:
        record = service.deactivate_person(call.actor(service, "person-deactivated"), person_id, reason)
    call.show(
        {"person": person_id, "record": record_json(record)},
        f"{person_id} may no longer act in this study.  [record {record.seq}]",
    )


@person.command("list")
@click.option(
    "--at", metavar="T", help="Who had which roles at this time (ISO 8601; without offset: the study's zone)."
)
@pass_call
def list_people(call: Call, at: str | None) -> None:
    """Everybody in this study with their roles: now, or as it was at a time (ICH E6(R3) 4.3.8)."""
    from allocator.cli.auditor import moment_of

    with call.service() as service:
        moment = moment_of(service, "at", at)
        people = [
            {
                "person": p.id,
                "name": service.name_of(p.id).removeprefix(f"{p.id} (").removesuffix(")"),
                "roles": [str(role) for role in p.roles],
                "state": "active" if p.active and p.enrolled else "invited" if p.active else "deactivated",
            }
            for p in service.people_at(moment).values()
        ]
    lines = [f"{p['person']:<12} {p['state']:<12} {', '.join(p['roles']):<30} {shown(str(p['name']))}" for p in people]
    call.show({"people": people}, "\n".join(lines) or "Nobody was in this study yet.")

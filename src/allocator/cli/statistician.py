"""The statistician's commands: generate and seal the list, grant the halves of its keys."""

from __future__ import annotations

from pathlib import Path

import click

from allocator.cli.call import Call, hex_32, pass_call, record_json


@click.command()
@click.argument("design_file", metavar="DESIGN.toml", type=click.Path(path_type=Path))
@click.option("--reason", default="", help="Why the list is generated again; needed from the second time on.")
@click.option("--seed", "seeds", multiple=True, metavar="HEX64", help="Only in mode test: the two shares of the seed.")
@pass_call
def generate(call: Call, design_file: Path, reason: str, seeds: tuple[str, ...]) -> None:
    """Draw the seed, generate the list, seal it and commit to it. No arm is shown, to nobody."""
    from allocator.home import read_input
    from allocator.study import MAX_FILE
    from allocator.toml_files import read_design

    design = read_design(design_file.name, read_input(design_file, limit=MAX_FILE))
    wanted = "--seed takes 64 hexadecimal digits, twice: one for each share of the seed"
    shares = [hex_32(text, "seed", wanted) for text in seeds]
    with call.service() as service:
        record = service.generate(call.actor(service, "generated"), design, reason=reason, seeds=shares)
        strata = len(service.study.strata)
    fields = record.fields
    call.show(
        {"sealing": fields["sealing"], "root": fields["root"], "strata": strata, "record": record_json(record)},
        f"The list is generated and sealed; no arm was shown or written in plain.  [record {record.seq}]\n"
        f"  strata   {strata}\n"
        f"  sealing  {fields['sealing']}\n"
        f"  root     {fields['root']}\n"
        f"  the seed has two shares: {fields['holders'][0]} and {fields['holders'][1]} hold one each\n"
        f"Keep the design file where nobody who enrols can read it.",
    )


@click.command()
@click.argument("person_id", metavar="PERSON")
@pass_call
def grant(call: Call, person_id: str) -> None:
    """Give a pharmacist K_p, or an investigator K_i: one half of every entry's key, useless without the other."""
    with call.service() as service:
        record = service.grant(call.actor(service, "granted"), person_id)
    call.show(
        {"person": person_id, "record": record_json(record)},
        f"{person_id} has the {record.fields['half']}s' half of the key, sealed to their own.  [record {record.seq}]",
    )

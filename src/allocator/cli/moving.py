"""The command that moves a study's log: to PostgreSQL, or back to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from allocator.cli.call import Call, pass_call, record_json
from allocator.errors import InputError
from allocator.text import shown_lines

if TYPE_CHECKING:
    from allocator.home import StudyPlace
    from allocator.log_end import LogEnd
    from allocator.moving import Moved

FILE = "file"


@click.command()
@click.argument("to", metavar="TO")
@click.option("--reason", default="", help="Why; it is recorded.")
@pass_call
def move(call: Call, to: str, reason: str) -> int:
    """Carry the log, with its private details, from its file to PostgreSQL, or back. Nobody may write meanwhile.

    TO is postgresql://USER@HOST/DATABASE, or the word `file`. The log is verified, copied and compared; then a last
    record seals the place that it leaves. Cut off at any moment, the same command again goes on.
    """
    from allocator.cli.verifying import judged, verdict_text
    from allocator.moving import Move

    place = call.place()
    source, target = _ends(place, to)
    done = Move(place=place, source=source, target=target, reason=reason, notify=call.warn, judge=judged).run(
        call.actor
    )
    result = {
        "to": target.name,
        "moved": record_json(done.moved),
        "arrived": record_json(done.arrived),
        "state": done.arrived.fields["state"],
        "aside": done.aside.name,
        "verdict": done.verdict.as_json(),
    }
    call.show(result, f"{_text(done, to)}\n{verdict_text(done.verdict, place.study)}")
    return 3 if done.verdict.findings else 0


def _ends(place: StudyPlace, to: str) -> tuple[LogEnd, LogEnd]:
    """Where the log comes from, and where it goes."""
    from allocator.log_end import DatabaseEnd, FileEnd
    from allocator.stores import VARIABLE, address_given

    file, given = FileEnd(place=place), address_given()
    if to == FILE:
        database = DatabaseEnd(place=place, address=given or "")
        if database.is_named and not given:
            said = f"the log of {place.study} is in PostgreSQL"
            raise InputError("no-store", said, f"Give its address in {VARIABLE}, then move it.")
        return database, file
    check_address(to, given)
    return file, DatabaseEnd(place=place, address=given or to)


def check_address(to: str, given: str | None) -> None:
    """InputError unless `to` is the address of a database, without a password, and the one given already, if one is."""
    from allocator.stores import VARIABLE, need_postgres

    need_postgres()
    from allocator.postgres_address import secured
    from allocator.postgres_connection import parsed

    try:
        wanted = parsed(to)
    except InputError:
        raise InputError(
            "place",
            "TO is neither the word `file` nor an address of a PostgreSQL database",
            "Write postgresql://USER@HOST/DATABASE, or file.",
        ) from None  # what was typed may hold a password
    if {"password", "sslpassword"} & wanted.keys():
        raise InputError(
            "password-shown",
            "the address holds a password: everybody on this machine can read it in the list of processes",
            "Nothing was done. Change the password; then put it into ~/.pgpass or PGPASSWORD, and leave it out here.",
        )
    known, wanted = secured(parsed(given) if given else wanted), secured(wanted)
    if {**known, "password": None, "sslpassword": None} != {**wanted, "password": None, "sslpassword": None}:
        said = f"{VARIABLE} is set to another address than TO"
        raise InputError("other-store", said, f"Unset {VARIABLE}, or give the same address.")


def _text(done: Moved, to: str) -> str:
    from allocator.stores import VARIABLE, address_given

    if to == FILE:
        where, then = "in a file of this home", [f"Unset {VARIABLE} for this study."]
    elif address_given():
        where, then = "in PostgreSQL", []
    else:
        where, then = "in PostgreSQL", ["Wherever this home is used, set:", f"  export {VARIABLE}='{to}'"]
    moved, arrived = done.moved.seq, done.arrived.seq
    lines = [
        f"The log is {where}, each record and private detail compared.  [records {moved}, {arrived}]",
        f"The study is {done.arrived.fields['state']}. {done.aside.name} is its old place, sealed by record {moved}.",
        *then,
    ]
    return shown_lines("\n".join(lines))

"""The command self-test: qualify an installation, and the database of ALLOCATOR_STORE where one is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from allocator.cli.call import Call, pass_call
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.qualification import Check


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

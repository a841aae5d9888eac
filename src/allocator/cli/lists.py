"""Lists that come from elsewhere, and the sealed list written out: import, list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, pass_call, record_json
from allocator.errors import InputError
from allocator.list_layout import COLUMNS
from allocator.text import TEST_NOTICE, shown

if TYPE_CHECKING:
    from allocator.home import StudyPlace
    from allocator.list_file import ListFile
    from allocator.log import Record
    from allocator.study import Study

_FILE = click.Path(path_type=Path)
_WORDS = (
    click.option("--map", "arms", multiple=True, metavar="WORD=CODE", help="A word of the file for an arm."),
    click.option("--level", "levels", multiple=True, metavar="FACTOR:WORD=LEVEL", help="A word for a level."),
    click.option("--column", "columns", multiple=True, metavar="NAME=ROLE", help="What a column says; - is not read."),
)


def _words(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a file's own words are told."""
    for option in reversed(_WORDS):
        command = option(command)
    return command


@click.command("import")
@click.argument("file", metavar="FILE.csv", type=_FILE)
@click.option("--origin", required=True, metavar="TEXT", help="Who made the list, with what; recorded.")
@click.option("--ratio", multiple=True, metavar="CODE=N", help="Once for each arm; without it, equal shares.")
@click.option("--length", type=click.IntRange(min=1), metavar="N", help="Only the first N entries of each stratum.")
@_words
@click.option("--reason", default="", help="Why, where the list raises doubts or another was sealed before; recorded.")
@pass_call
def import_list_command(
    call: Call,
    file: Path,
    origin: str,
    ratio: tuple[str, ...],
    length: int | None,
    arms: tuple[str, ...],
    levels: tuple[str, ...],
    columns: tuple[str, ...],
    reason: str,
) -> None:
    """Check a list made elsewhere, and seal it as one drawn here. Its origin stands in the record.

    Known are the lists of blockrand and randomizeR (R), of Sealed Envelope, REDCap's allocation table, and a numbered
    list as SAS writes it. Whoever made or had the file may know the arms: docs/lists.md.
    """
    from allocator.home import read_input
    from allocator.list_file import doubtful, read_list_file
    from allocator.list_layout import Words, parse_ratio
    from allocator.list_table import MAX_LIST

    data = read_input(file, limit=MAX_LIST)
    with call.service() as service:
        words = Words.parse(service.study, arms, levels, columns)
        found = read_list_file(file.name, data, service.study, words, parse_ratio(ratio), length=length)
        if found.is_test and service.mode != "test":
            said = f"{shown(file.name)} is a list of a study in mode test"
            raise InputError("test-list", said, "Export the list of the real study, or make another one.")
        if found.doubts and not reason:
            raise doubtful(found.doubts)
        actor = call.actor(service, "imported")
        record = service.import_list(actor, found.design, origin=origin, source=data, reason=reason)
        study = service.study
        home = service.place.home
    for said in _open_to_others(file, home):
        call.warn(f"{shown(str(file))} {said}")
    for doubt in found.doubts:
        call.warn(f"taken for the reason given: {doubt}")
    result = {
        "sealing": record.fields["sealing"],
        "root": record.fields["root"],
        "layout": found.layout,
        "strata": len(study.strata),
        "length": found.design.length,
        "doubts": [str(doubt) for doubt in found.doubts],
        "source_digest": record.fields["source_digest"],
        "record": record_json(record),
    }
    call.show(result, _imported_text(found, record, study))


def _open_to_others(file: Path, home: Path) -> list[str]:
    """By what ways others may read the file that was imported, or find it again when it is removed."""
    from allocator.home import inside_git

    folder, found = file.resolve().parent, []
    if file.stat().st_mode & 0o077:
        found.append("can be read by others on this machine: its arms are known to whoever has looked")
    if folder.is_relative_to(home.resolve()):
        found.append("lies in the home: everybody there reads it, and backups keep it")
    if inside_git(folder):
        found.append("lies in a git work tree: what was committed once stays")
    return found


def _imported_text(found: ListFile, record: Record, study: Study) -> str:
    fields, strata = record.fields, len(study.strata)
    return (
        f"The list is checked and sealed; no arm was shown or written in plain.  [record {record.seq}]\n"
        f"  layout   {found.layout}\n"
        f"  strata   {strata}, each of {found.design.length} entries\n"
        f"  sealing  {fields['sealing']}\n"
        f"  root     {fields['root']}\n"
        f"  digest   {fields['source_digest']}\n"
        f"  {fields['holders'][0]} and {fields['holders'][1]} hold one share each of what opens it at the end\n"
        "SOMEBODY MAY KNOW THIS LIST: whoever made, sent or stored the file, or has the seed it was made from. From\n"
        "now on it is concealed as well as that file is, and no better. Nothing here can tell whether it was drawn at\n"
        "random. Destroy the file and each copy (mail, backup, bin, workspace), and note who had it.\n"
        "The digest is keyed by the salt of the design, which the opening discloses: whoever can make the file again\n"
        "can then show that it was this one."
    )


@click.command("list")
@click.option("--columns", "wanted", type=click.Choice(COLUMNS), required=True, help="Whose columns.")
@click.option("--to", "target", metavar="FILE", type=_FILE, help="A new file, for your eyes only.")
@_words
@pass_call
def list_command(
    call: Call,
    wanted: str,
    target: Path | None,
    arms: tuple[str, ...],
    levels: tuple[str, ...],
    columns: tuple[str, ...],
) -> None:
    """Write out the sealed list, with all arms still to come. For the statistician who sealed it; recorded.

    For a study that allocates elsewhere. One that allocates here needs no such file, and is safer without.
    """
    from allocator.list_layout import Words, csv_text, written_rows

    with call.service() as service:
        if target is not None:
            check_secret_target(service.place, target)
        words = Words.parse(service.study, arms, levels, columns)
        read = service.read_list(call.actor(service, "list-read"), "export")
        notice = TEST_NOTICE if service.mode == "test" else ""
        sizes = read.design.block_sizes
        block = sizes[0] if len(sizes) == 1 else None
        lists = [stratum.arms for stratum in read.strata]
        rows = written_rows(wanted, service.study, lists, words, block=block, notice=notice)
        text = csv_text(rows)
    entries = sum(map(len, lists))
    result = {"columns": wanted, "entries": entries, "record": record_json(read.record)}
    if target is None:
        call.show({**result, "list": text}, text.rstrip("\n"))
    else:
        from allocator.home import write_durably

        write_durably(target, text.encode("utf-8"), mode=0o600)
        said = f"{entries} entries are in {shown(str(target))}, in {wanted}'s columns.  [record {read.record.seq}]"
        call.show({**result, "file": str(target)}, said)
    call.talk(
        "\nThis is the list in plain, with every arm still to come. Whoever reads it can choose who gets what. Give it "
        "to\nnobody who enrols, treats or measures outcomes, and destroy it when it is where it belongs."
        + (f"\nIt is of mode test, for rehearsals: {TEST_NOTICE}." if notice else "")
    )


def check_secret_target(place: StudyPlace, target: Path) -> None:
    """InputError unless a file of this name can be made where a list in plain may lie: no home, no work tree."""
    from allocator.home import inside_git

    if target.exists() or target.is_symlink():
        raise InputError("file-exists", f"{shown(str(target))} is there already", "Give another name.")
    if not target.parent.is_dir():
        raise InputError("no-folder", f"{shown(str(target.parent))} is no folder", "Make it first.")
    parent = target.parent.resolve()
    if parent.is_relative_to(place.home.resolve()):
        said = "a list in plain has no place in the home: everybody there reads it, and backups keep it"
        raise InputError("inside-home", said, "Give another folder.")
    if inside_git(parent):
        said = "a list in plain has no place in a git work tree: what is committed once stays"
        raise InputError("inside-git", said, "Give another folder.")

"""The command of what a protocol and a report say of randomization: statement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from allocator.cli.call import Call, check_new_file, pass_call
from allocator.errors import EvidenceError, InputError, Refused
from allocator.statements import KINDS
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.design import RandomizationDesign
    from allocator.log_facts import LogFacts
    from allocator.service import AllocationService
    from allocator.statements import Statement

_FILE = click.Path(path_type=Path)
_ADD = {
    "public": "Add what the study file does not say: the allocation ratio (with the trial design), and names.",
    "restricted": "Keep it where nobody reads it who enrols or assigns. Print it, or give --to FILE, outside the home.",
    "consort": "Add names, and what no log knows: deviations that nobody recorded.",
}


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.option("--design", "design_file", metavar="DESIGN.toml", type=_FILE, help="The design; never for public.")
@click.option("--to", "target", metavar="FILE", type=_FILE, help="Write the text here.")
@pass_call
def statement(call: Call, kind: str, design_file: Path | None, target: Path | None) -> None:
    """The text on randomization for a protocol (public, restricted), and for the report after the close (consort).

    \b
    public      for protocol and registry: SPIRIT 2025 items 21a, 22, 23; tells nothing that helps to predict
    restricted  the whole design: SPIRIT 2025 item 21b; for nobody who enrols or assigns
    consort     CONSORT 2025 items 17a to 19, with numbers and deviations from the log; after the close

    The design is that of --design, or the sealed one: from your own share of the seed (--as a holder of a share), or
    from the opened seed. Each text ends with what it is bound to; its own SHA-256 is in the JSON.
    """
    from allocator import PROGRAM
    from allocator.statements import consort_paragraph, public_statement, restricted_statement

    _check_call(kind, design_file, target)
    given = _read(design_file) if design_file else None
    with call.service() as service:
        study, facts = service.study, _facts(service)
        if kind == "public":
            made = public_statement(study, facts, PROGRAM)
        else:
            _check_time(kind, facts)
            given = given.for_study(study) if given else None
            design, compared = _design(call, service, facts, given, required=kind == "consort")
            if kind == "restricted":
                made = restricted_statement(study, design, facts, PROGRAM, compared=compared)
            else:
                made = consort_paragraph(study, design, facts, PROGRAM)
        numbers = _numbers(service, facts) if kind == "consort" else {}
    if target is not None:
        from allocator.home import write_durably

        write_durably(target, made.text.encode("utf-8"))
    _show(call, made, target, numbers)


def _show(call: Call, made: Statement, target: Path | None, numbers: dict[str, object]) -> None:
    result = {"statement": made.kind, "text": made.text, "sha256": made.sha256, "bound": made.bound, **numbers}
    where = f"The {made.kind} statement is in {shown(str(target))}." if target else made.text.rstrip("\n")
    call.show(result | ({"file": str(target)} if target else {}), where)
    call.talk(f"\nSHA-256 of the text: {made.sha256}\n{_ADD[made.kind]}")


def _check_call(kind: str, design_file: Path | None, target: Path | None) -> None:
    if kind == "public" and design_file is not None:
        raise InputError(
            "design", "the public statement tells nothing of a design, so it takes none", "Leave --design away."
        )
    check_new_file(target)


def _read(file: Path) -> RandomizationDesign:
    from allocator.home import read_input
    from allocator.study import MAX_FILE
    from allocator.toml_files import read_design

    return read_design(file.name, read_input(file, limit=MAX_FILE))


def _facts(service: AllocationService) -> LogFacts:
    """What the log says, once its chain was followed to the head that is known here."""
    from allocator.log_facts import facts_of

    service.history.follow()
    if service.known_loss()[0] == "known":
        raise EvidenceError(
            "behind-head",
            "the log is behind its head: records are missing",
            "Run `allocator verify`. Nothing was written.",
        )
    return facts_of(service.history.store.records())


def _check_time(kind: str, facts: LogFacts) -> None:
    if kind == "consort" and facts.state not in ("closed", "opened"):
        raise Refused(
            "not-closed",
            f"the study is {facts.state}: the report tells the restriction and is written after the close",
            "Until then: allocator statement public.",
        )
    if kind == "consort" and facts.generated is None:
        raise Refused("not-sealed", "no list was sealed in this study: there is nothing to report")


def _design(
    call: Call, service: AllocationService, facts: LogFacts, given: RandomizationDesign | None, *, required: bool
) -> tuple[RandomizationDesign, bool]:
    """The design, and whether it is the sealed one; `required` when it must be."""
    from allocator.sealed_design import check_is_sealed

    sealed = _sealed_design(call, service, facts)
    if sealed is not None:
        if given is not None:
            check_is_sealed(given, sealed)
        return sealed, True
    if given is None or required:
        said = "whether this is the sealed design only a share of the seed can tell"
        holder = (
            "A holder of a share of the seed takes it from there: --as PERSON. Once the list is opened, anybody can."
        )
        raise InputError(
            "design",
            said if given else "a design is needed for this text",
            holder if required else f"Give --design DESIGN.toml. {holder}",
        )
    return given, False


def _sealed_design(call: Call, service: AllocationService, facts: LogFacts) -> RandomizationDesign | None:
    """From the opened seed, else from the share of who acts; None without either."""
    from allocator.home import read_input
    from allocator.sealed_design import design_in_seed, design_in_share
    from allocator.seed import MAX_SEED
    from allocator.session import read_sealed

    if facts.generated is None or facts.sealing is None:
        return None
    if facts.state == "opened":
        opened = service.history.store.newest(("opened",))
        if opened is None:
            raise EvidenceError("seed", "the log has no opening", "Run `allocator verify`.")
        try:
            data = read_input(service.place.seed_file, limit=MAX_SEED)
        except InputError as error:
            raise EvidenceError("seed", error.message, "Restore seed.json from a backup or an export.") from error
        return design_in_seed(service.study, data, facts.generated, opened)
    if not call.person:
        return None
    sealed = read_sealed(service.place.sealed_file, facts.sealing.fields["sealed_digest"])
    actor = call.actor(service, "statement")
    return design_in_share(service.study, sealed, actor.person, actor.keys.opening)


def _numbers(service: AllocationService, facts: LogFacts) -> dict[str, object]:
    """What the report counts, for a program."""
    from allocator.canonical import format_time
    from allocator.consort import by_arm, deviations

    times = {"first": facts.first, "last": facts.last, "closed": facts.closed, "opened": facts.opened}
    readings = [
        {"person": reading.person, "purpose": reading.purpose, "time": format_time(reading.time)}
        for reading in facts.readings
    ]
    return {
        "allocated": facts.total,
        "arms": by_arm(service.study, facts),
        **{name: format_time(time) if time else None for name, time in times.items()},
        "deviations": deviations(facts),
        "readings": readings,
    }

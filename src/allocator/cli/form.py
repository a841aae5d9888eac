"""Ask an eligibility form on a terminal, one criterion at a time, in the protocol's own words. No answer is preset."""

from __future__ import annotations

import click

from allocator.criterion import Criterion
from allocator.eligibility import UNIT_WORDS, Answer, AnswersForm
from allocator.study import Study
from allocator.text import is_number, shown

_ASKED = {
    "text": "Which (name it)",
    "specimen": "Specimen",
    "uln": "Upper limit of normal, same unit",
    "date": "Date of the result (YYYY-MM-DD)",
}


def ask_form(study: Study, participant: str) -> AnswersForm:
    """The completed form. An empty line leaves an answer blank: a blank never passes."""
    click.echo(f"\nEligibility of {participant} in {study.id}: {len(study.criteria)} criteria, then consent.", err=True)
    click.echo("UNKNOWN is an answer; it never passes. Interrupt with Ctrl-C: nothing is recorded.\n", err=True)
    answers = {}
    for number, criterion in enumerate(study.criteria, start=1):
        click.echo(f"{number:>2}/{len(study.criteria)}  {criterion.category}  {criterion.id}", err=True)
        click.echo(f"      “{shown(criterion.text)}”", err=True)
        answers[criterion.id] = _ask(criterion)
    click.echo("Consent", err=True)
    consent = _line("Date and time of consent (2026-11-20T09:30:00+08:00)")
    return AnswersForm(consent=consent, answers=answers)


def _ask(criterion: Criterion) -> Answer:
    value = _value(criterion)
    unit = criterion.units[0] if len(criterion.units) == 1 and value else None
    if len(criterion.units) > 1 and value:
        unit = _line(f"      Unit ({' or '.join(criterion.units)})")
    needed = {need: _line(f"      {_ASKED[need]}") for need in criterion.needs} if value else {}
    return Answer(
        value=value,
        unit=unit,
        text=needed.get("text"),
        specimen=needed.get("specimen"),
        date=needed.get("date"),
        uln=needed.get("uln"),
    )


def _value(criterion: Criterion) -> str:
    """The answer itself, asked again while it is none that could stand there: a slip of the finger is no refusal."""
    while True:
        value = _line(f"      {shown(criterion.datum)}{_choices(criterion)}")
        listed = _listed(criterion)
        if not value or value in listed or (not listed and is_number(value)) or value == "UNKNOWN":
            return value
        wanted = f"one of {', '.join(listed)}" if listed else "a number such as 45 or 0.5, or UNKNOWN"
        click.echo(f"      {shown(value[:40])} is not an answer here: {wanted}.", err=True)


def _listed(criterion: Criterion) -> tuple[str, ...]:
    if criterion.type == "yes-no":
        return ("Y", "N", "UNKNOWN", *(("NA",) if criterion.not_applicable else ()))
    return criterion.codes


def _choices(criterion: Criterion) -> str:
    if listed := _listed(criterion):
        return f" [{'/'.join(listed)}]"
    return f" in {' or '.join(UNIT_WORDS.get(unit, unit) for unit in criterion.units)}"


def _line(prompt: str) -> str:
    answer: str = click.prompt(prompt, default="", show_default=False, err=True)
    return answer.strip()

"""The investigator's commands: confirm eligibility, withdraw a confirmation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, on_terminal, pass_call, record_json
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.eligibility import AnswersForm, Judgement
    from allocator.study import Study


@click.command()
@click.argument("participant")
@click.option("--answers", metavar="FILE.json", type=click.Path(path_type=Path), help="The completed form.")
@click.option("--stratum", multiple=True, metavar="FACTOR=LEVEL", help="Once for each stratification factor.")
@click.option("--rescreen", is_flag=True, help="A new measurement after a refused attempt.")
@click.option("--correcting", type=click.IntRange(min=0), metavar="SEQ", help="A typing error in that record.")
@click.option("--reason", default="", help="Why; needed with --rescreen and --correcting.")
@pass_call
def confirm(
    call: Call,
    participant: str,
    answers: Path | None,
    stratum: tuple[str, ...],
    rescreen: bool,
    correcting: int | None,
    reason: str,
) -> int:
    """Record a participant's eligibility form; if every criterion is met, it is your confirmation.

    Without --answers the form is asked for criterion by criterion, in the protocol's own words.
    """
    from allocator.confirming import parse_stratum

    if rescreen and correcting is not None:
        raise InputError(
            "usage", "--rescreen and --correcting exclude each other", "A new measurement, or a typing error?"
        )
    call.required_person()
    with call.service() as service:
        service.require_participant(participant)
        levels = parse_stratum(stratum, service.study)
        given = _form(call, answers)
        actor = call.actor(service, "confirmed")
        how: dict[str, Any] = {"rescreen": rescreen, "correcting": correcting, "reason": reason}
        if given is None:  # nobody answers 24 questions for a form that would not be taken
            service.check_confirm(actor, participant, levels, **how)
        form = given or _asked(service.study, participant)
        record, judgement = service.confirm(actor, participant, form, levels, **how)
        hours = service.study.confirmation_hours
        full = service.history.allocated >= service.study.enrollment
    result = {"participant": participant, **judgement.as_json(), "record": record_json(record)}
    call.show(result, _words(participant, judgement, record.seq, hours, full=full))
    return 0 if judgement.eligible else 1


def _form(call: Call, answers: Path | None) -> AnswersForm | None:
    """The form of the file given; None when it is to be asked for on the terminal."""
    from allocator.eligibility import parse_form
    from allocator.home import read_input

    if answers is not None:
        return parse_form(read_input(answers, limit=1 << 16))
    if call.as_json or not on_terminal():
        raise InputError(
            "no-answers", "the form is not given and there is no terminal to ask on", "Add --answers FILE."
        )
    return None


def _asked(study: Study, participant: str) -> AnswersForm:
    from allocator.cli.form import ask_form

    return ask_form(study, participant)


def _words(participant: str, judgement: Judgement, seq: int, hours: int, *, full: bool) -> str:
    failed = [c for c in (judgement.consent, *judgement.criteria) if not c.met]
    if not failed and full:
        return (
            f"{participant} is eligible: consent and all {len(judgement.criteria)} criteria met.  [record {seq}]\n"
            "Enrolment is complete, though: a request for allocation will be refused. Tell the sponsor."
        )
    if not failed:
        return (
            f"{participant} is eligible: consent and all {len(judgement.criteria)} criteria met.  [record {seq}]\n"
            f"Your confirmation holds for {hours} hours; the pharmacist may now request the allocation."
        )
    lines = [f"{participant} is NOT eligible.  [record {seq}]"]
    lines += [f"  {c.id:<8} {shown(c.reason)}" for c in failed]
    lines.append(
        f"Nothing was released. A new measurement: --rescreen. A typing error: --correcting {seq}. Each with --reason."
    )
    return "\n".join(lines)


@click.command()
@click.argument("participant")
@click.option("--reason", required=True, help="Why; it is recorded.")
@pass_call
def withdraw(call: Call, participant: str, reason: str) -> None:
    """Withdraw your confirmation of a participant before the allocation."""
    with call.service() as service:
        record = service.withdraw(call.actor(service, "confirmation-withdrawn"), participant, reason)
    call.show(
        {"participant": participant, "record": record_json(record)},
        f"The confirmation of {participant} is withdrawn.  [record {record.seq}]",
    )

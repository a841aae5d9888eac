"""Example answers kept fresh: results expire, so the dates of a committed form are moved before use. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

from allocator.answers_form import Answer, AnswersForm, form_bytes, parse_form


def redated(data: bytes, today: date) -> bytes:
    """The form `data` with every date moved by the same number of days: the latest is the day before `today`.

    Consent moves with them; its time of day and offset stay. A form without dates keeps its consent.

    Args:
        data: the bytes of an answers.json whose dates and consent are well-formed.
        today: the day in the study's time zone on which the form will be used.

    Raises:
        InputError: `data` is no eligibility form.
        ValueError: a date of the form is none.
    """
    form = parse_form(data)
    days = [date.fromisoformat(answer.date) for answer in form.answers.values() if answer.date]
    if not days:
        return form_bytes(form)
    shift = today - timedelta(days=1) - max(days)
    return form_bytes(
        AnswersForm(
            consent=(datetime.fromisoformat(form.consent) + shift).isoformat() if form.consent else "",
            answers={name: _moved(answer, shift) for name, answer in form.answers.items()},
        )
    )


def _moved(answer: Answer, shift: timedelta) -> Answer:
    return replace(answer, date=(date.fromisoformat(answer.date) + shift).isoformat()) if answer.date else answer

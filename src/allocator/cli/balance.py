"""`balance`: the statistician's report on the list, signed off before activation; for all others a blinded view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.call import Call, check_new_file, pass_call, record_json
from allocator.errors import InputError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.balance_words import BlindedView, Table
    from allocator.list_words import RestrictedView
    from allocator.listing import ListRead
    from allocator.log import Record
    from allocator.service import AllocationService

_FILE = click.Path(path_type=Path)
_WIDTH = 110  # of a table on the terminal; a wider one is written row by row


@click.command()
@click.option("--sign", is_flag=True, help="Before activation: sign that the list was checked and has no fault.")
@click.option("--html", metavar="FILE", type=_FILE, help="Write the view as one page for a browser, with plots.")
@click.option("--pdf", metavar="FILE", type=_FILE, help="Write it as PDF, with plots.")
@pass_call
def balance(call: Call, sign: bool, html: Path | None, pdf: Path | None) -> int:
    """Allocations by stratum and time; for the statistician who holds the list, the report on the list itself.

    The holder (--as, with passphrase) sees the whole list checked before activation, later what was allocated against
    it; that they looked is a record. Everybody else, and who gives no --as, sees no arm, position, block or length.
    Exit code 3 when the report finds a fault.
    """
    with call.service() as service:
        restricted = sign or service.holds_list(call.person)
        files = _Files(service, html, pdf, restricted=restricted)
        view, result = _restricted(call, service, sign=sign) if restricted else _blinded(service)
        result |= files.write(view)
    faults = result.get("report", {}).get("faults", [])
    call.show(result, view_text(view) + "".join(f"\nWritten: {shown(name)}" for name in files.names))
    return 3 if faults else 0


class _Files:
    """The pages asked for: refused before anything is recorded, written when all is known."""

    def __init__(self, service: AllocationService, html: Path | None, pdf: Path | None, *, restricted: bool) -> None:
        self._html, self._pdf, self._mode = html, pdf, 0o600 if restricted else 0o644
        for file in (html, pdf):
            _check_new(service, file)
        if html or pdf:
            from allocator.balance_page import require_page

            require_page(*(["jinja2"] if html else []), *(["typst"] if pdf else []))

    @property
    def names(self) -> list[str]:
        """The files, as given."""
        return [str(file) for file in (self._html, self._pdf) if file]

    def write(self, view: BlindedView) -> dict[str, Any]:
        """Write each; what restricted ones hold is the owner's alone to read."""
        from allocator.home import write_durably

        if self._html or self._pdf:
            from allocator.balance_page import render_html, render_pdf

            if self._html:
                write_durably(self._html, render_html(view), mode=self._mode)
            if self._pdf:
                write_durably(self._pdf, render_pdf(view), mode=self._mode)
        return {"html": str(self._html) if self._html else None, "pdf": str(self._pdf) if self._pdf else None}


def _check_new(service: AllocationService, file: Path | None) -> None:
    check_new_file(file)
    if file is None:
        return
    parent = file.parent.resolve()
    if any(parent.is_relative_to(own.resolve().parent) for own in (service.place.schedules, service.place.keys)):
        hint = "Give a folder that nobody who enrols can read."
        raise InputError("inside-home", "a page has no place inside the study's own folders", hint)


def _blinded(service: AllocationService) -> tuple[BlindedView, dict[str, Any]]:
    from allocator.balance import SEEN_KINDS, enrolled
    from allocator.balance_words import BlindedView

    view = BlindedView(**_frame(service), seen=tuple(enrolled(service.history.store.records(SEEN_KINDS))))
    result = {
        "view": "blinded",
        **_common(view),
        "strata": [
            {"stratum": stratum, "allocated": sum(one.stratum == label for one in view.seen)}
            for stratum, label in _labelled(view)
        ],
    }
    return view, result


def _restricted(call: Call, service: AllocationService, *, sign: bool) -> tuple[RestrictedView, dict[str, Any]]:
    from allocator.balance import SEEN_KINDS, allocated, list_report
    from allocator.list_words import RestrictedView

    before = service.history.state == "sealed"
    actor = call.actor(service, "list-checked" if sign else "list-read")
    if sign:
        service.check_sign_off(actor)
    read = service.read_list(actor, "check" if before else "balance")
    sealing = service.history.sealing
    if sealing is None:
        raise RuntimeError("a list was read that is not sealed")
    report = list_report(service.study, sealing.fields["sealing"], sealing.fields["root"], read.design, read.strata)
    signed = service.sign_off(actor, report.digest, faults=len(report.faults)) if sign else service.list_checked()
    view = RestrictedView(
        **_frame(service),
        seen=tuple(allocated(service.history.store.records(SEEN_KINDS))),
        report=report,
        read=f"by {service.name_of(actor.person)} for the purpose {read.record.fields['purpose']}, "
        f"record {read.record.seq}",
        signed=signed_words(service, signed) if signed else "",
        drawn_again=service.drawn_again(read),
    )
    return view, _restricted_result(view, read, signed)


def _restricted_result(view: RestrictedView, read: ListRead, signed: Record | None) -> dict[str, Any]:
    from allocator.balance import difference
    from allocator.block_ledger import counts_of

    design = view.report.design
    codes, strata = [code for code, _ in design.ratio], []
    for (stratum, label), listed in zip(_labelled(view), view.report.strata, strict=True):
        own = [one for one in view.seen if one.stratum == label]
        counts = counts_of([one.arm for one in own], len(codes))
        planned = counts_of(listed.arms[: len(own)], len(codes))
        strata.append(
            {
                "stratum": stratum,
                "allocated": len(own),
                "arms": dict(zip(codes, counts, strict=True)),
                "list": dict(zip(codes, planned, strict=True)),
                "difference": str(difference(counts, design.shares)),
                "in_error": sum(one.in_error for one in own),
                "late": sum(one.late for one in own),
            }
        )
    return {
        "view": "restricted",
        **_common(view),
        "strata": strata,
        "report": view.report.plain(),
        "digest": view.report.digest,
        "signed": signed_json(signed),
        "drawn_again": view.drawn_again,
        "record": record_json(read.record),
    }


def _frame(service: AllocationService) -> dict[str, Any]:
    """What both views have in common, as of the last record and now."""
    from allocator.cli.pharmacist import local_time
    from allocator.session import system_clock

    now = system_clock()
    return {
        "study": service.study,
        "mode": service.mode,
        "state": service.history.state,
        "made": local_time(now, service.study.zone),
        "timestamp": int(now.timestamp()),
    }


def _common(view: BlindedView) -> dict[str, Any]:
    months: dict[str, int] = {}
    for one in sorted(view.seen, key=lambda one: one.time):
        month = f"{one.time.astimezone(view.study.zone):%Y-%m}"
        months[month] = months.get(month, 0) + 1
    return {
        "study": view.study.id,
        "mode": view.mode,
        "state": view.state,
        "allocated": len(view.seen),
        "enrollment": view.study.enrollment,
        "months": [{"month": month, "allocated": count} for month, count in months.items()],
    }


def _labelled(view: BlindedView) -> list[tuple[dict[str, str], str]]:
    from allocator.study import stratum_label

    return [(stratum, stratum_label(stratum)) for stratum in view.study.strata]


def signed_json(signed: Record | None) -> dict[str, Any] | None:
    """Who signed the list off, when, and the report's digest."""
    if signed is None:
        return None
    fields = signed.fields
    return {
        "person": fields["person"],
        "time": fields["time"],
        "report_digest": fields["report_digest"],
        "record": record_json(signed),
    }


def signed_words(service: AllocationService, signed: Record) -> str:
    """The same in words."""
    from allocator.cli.pharmacist import local_time

    return (
        f"by {service.name_of(signed.fields['person'])}, {local_time(signed.time, service.study.zone)}, "
        f"record {signed.seq}, report {signed.fields['report_digest']}"
    )


def view_text(view: BlindedView) -> str:
    """A view for the terminal: the same words and tables as on its page, without plots."""
    lines = [*([view.notice] if view.notice else []), f"{view.title}   {view.kind}"]
    lines += [f"  {name:<12}{shown(text)}" for name, text in view.facts()]
    for section in view.sections():
        if section.figure and not section.table:  # of which the plot is the point
            continue
        lines += ["", section.title, *(f"  {line}" for words in section.words for line in _wrapped(words))]
        lines += [f"  {line}".rstrip() for line in (_table_lines(section.table) if section.table else [])]
    return "\n".join(lines)


def _wrapped(words: str) -> list[str]:
    import textwrap

    return textwrap.wrap(shown(words), width=98, break_long_words=False, break_on_hyphens=False)


def _table_lines(table: Table) -> list[str]:
    widths = [max(len(row[column]) for row in (table.head, *table.rows)) for column in range(len(table.head))]
    if sum(widths) + 2 * len(widths) > _WIDTH:
        return (
            [
                f"{row[0] if column == 1 else '':<{widths[0]}}  {table.head[column]}: {row[column]}"
                for row in table.rows
                for column in range(1, len(row))
                if row[column]
            ]
            if table.rows
            else []
        )
    return [
        "  ".join(
            text.ljust(width) if column < table.left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (table.head, *table.rows)
    ]

"""Allocations by stratum and time in words and tables, for the terminal, a page and paper alike (C03). Pure.

The blinded view is made of `Enrolled` alone: it cannot name an arm, a position, a block or the list's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allocator.balance import Enrolled
from allocator.study import Study, stratum_label
from allocator.text import TEST_NOTICE

MOST_ROWS = 60  # of one table on a page; the JSON object has them all
MOST_COLUMNS = 6  # strata beside each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Texts in rows below a head; the first `left` columns are words, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a page, in this order: words, table, plot.

    Attributes:
        figure: the plot's name, or "" for none: cumulative, difference or arms.
        alt: what the plot shows, for who does not see it.
    """

    title: str
    words: tuple[str, ...] = ()
    table: Table | None = None
    figure: str = ""
    alt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindedView:
    """What everybody may see.

    Attributes:
        study: as it was opened.
        mode, state: of the log.
        made: when this was made, in words.
        timestamp: the same in POSIX seconds, UTC.
        seen: every allocation, without its arm and position.
    """

    study: Study
    mode: str
    state: str
    made: str
    timestamp: int
    seen: tuple[Enrolled, ...]

    @property
    def title(self) -> str:
        """Of the page."""
        return "Allocations by stratum and time"

    @property
    def kind(self) -> str:
        """Who may read it."""
        return "BLINDED: no arms"

    @property
    def notice(self) -> str:
        """The notice of mode test, or "" in production."""
        return "" if self.mode == "production" else TEST_NOTICE

    def facts(self) -> list[tuple[str, str]]:
        """What stands under the title: names and texts."""
        return [
            ("Study", f"{self.study.id}  {self.study.title}"),
            ("State", f"{self.state}, mode {self.mode}"),
            ("Made", self.made),
        ]

    def sections(self) -> list[Section]:
        """Allocations by stratum, then by month."""
        labels = [stratum_label(stratum) for stratum in self.study.strata]
        rows = [
            (stratum_words(stratum), str(sum(one.stratum == label for one in self.seen)))
            for stratum, label in zip(self.study.strata, labels, strict=True)
        ]
        table = Table(head=("Stratum", "Allocated"), rows=tuple(rows))
        return [Section(title="Allocated", words=(so_far(self.seen, self.study),), table=table), *by_time(self)]


def stratum_words(stratum: dict[str, str]) -> str:
    """``site A, sex F``; "all" where the study has no factors."""
    return ", ".join(f"{name} {level}" for name, level in stratum.items()) or "all"


def so_far(seen: Sequence[Enrolled], study: Study) -> str:
    wrong, late = sum(one.in_error for one in seen), sum(one.late for one in seen)
    marked = f"; {wrong} marked as randomized in error" if wrong else ""
    entered = f"; {late} entered late" if late else ""
    return f"{len(seen)} of {study.enrollment} planned{marked}{entered}."


def by_time(view: BlindedView) -> list[Section]:
    """By month of the study's own time."""
    if not view.seen:
        return []
    months: dict[str, list[str]] = {}
    for one in sorted(view.seen, key=lambda one: one.time):
        months.setdefault(f"{one.time.astimezone(view.study.zone):%Y-%m}", []).append(one.stratum)
    strata = view.study.strata if 2 <= len(view.study.strata) <= MOST_COLUMNS else ()
    rows, total = [], 0
    for month, labels in months.items():
        total += len(labels)
        own = (str(labels.count(stratum_label(stratum))) for stratum in strata)
        rows.append((month, *own, str(len(labels)), f"{total} of {view.study.enrollment}"))
    head = ("Month", *map(stratum_words, strata), "Allocated", "So far")
    return [
        Section(
            title="By month",
            table=Table(head=head, rows=fitting(rows, len(head))),
            figure="cumulative",
            alt=f"Allocations over time: {len(view.seen)} of {view.study.enrollment} planned.",
        )
    ]


def fitting(rows: Sequence[tuple[str, ...]], columns: int) -> tuple[tuple[str, ...], ...]:
    """As many rows as one reads, and how many are left out."""
    if len(rows) <= MOST_ROWS:
        return tuple(rows)
    more = (f"… and {len(rows) - MOST_ROWS} more (--json)", *[""] * (columns - 1))
    return (*rows[:MOST_ROWS], more)

"""The restricted view in words and tables: the verification report, and what was allocated (G07; Downs 2010). Pure.

For the statistician who holds the list, and for nobody at a site: before activation it tells the whole list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from allocator.balance import Allocated, ListReport, StratumReport, difference, furthest_allowed
from allocator.balance_words import BlindedView, Section, Table, by_time, fitting, so_far, stratum_words
from allocator.block_ledger import Segment, counts_of
from allocator.imported_list import NAME as IMPORTED
from allocator.study import stratum_label

_HELD = "The design can give this list, in every stratum."
_DRAWN_AGAIN = {
    True: "The seed is opened: drawn again from it, the list is the same in every entry.",
    False: "That the seed drew it cannot be shown yet, for nobody holds both its shares: an exchange that gives "
    'another list of the same design is not seen here. After the close, "allocator open" draws the list again and '
    "compares every entry.",
}
_ELSEWHERE = (
    "The list was made elsewhere: its length, counts, order and runs are held to its ratio, and no method to it."
)
_SHOWN_AGAIN = {
    True: "The list is opened: what was disclosed is the same in every entry.",
    False: "Nothing here shows that it was drawn at random, or that it is as it was when it was made: compare the "
    "digest of its arm codes below with that of those who made it.",
}
_OF_SEVERAL = "The plot shows for each arm how much more it has than its share of all, where the limit is smaller."


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictedView(BlindedView):
    """What the statistician who holds the list sees: before activation the whole of it, then what was allocated.

    Attributes:
        seen: every allocation, with its arm.
        report: of the whole list.
        read: in words, the record by which it was read.
        signed: in words, who signed the list off; "" for nobody.
        drawn_again: whether the opened seed was found to draw this list.
    """

    seen: tuple[Allocated, ...]
    report: ListReport = field(repr=False)
    read: str
    signed: str
    drawn_again: bool

    @property
    def title(self) -> str:
        """Of the page."""
        return "Balance of the list"

    @property
    def kind(self) -> str:
        """Who may read it."""
        return "RESTRICTED: for the statistician who holds the list"

    @property
    def before_activation(self) -> bool:
        """Whether nobody can have been allocated yet: then the whole list is shown."""
        return self.state == "sealed"

    def facts(self) -> list[tuple[str, str]]:
        """What stands under the title: names and texts."""
        return [
            *BlindedView.facts(self),
            ("Read", self.read),
            ("Design", design_words(self.report)),
            ("Root", self.report.root),
            ("Report", f"SHA-256 {self.report.digest}"),
            ("Signed off", self.signed or "by nobody"),
        ]

    def sections(self) -> list[Section]:
        """The verification report; during the trial what was allocated comes first."""
        during = [] if self.before_activation else [self._allocated(), *by_time(self)]
        return [*during, self._verdict(), *self._counts(), *self._ledger(), self._digests()]

    def _allocated(self) -> Section:
        codes = [code for code, _ in self.report.design.ratio]
        rows, most = [], Fraction(0)
        for stratum in self.report.strata:
            label = stratum_label(stratum.stratum)
            own = [one for one in self.seen if one.stratum == label]
            counts = counts_of([one.arm for one in own], len(codes))
            planned = counts_of(stratum.arms[: len(own)], len(codes))
            apart = difference(counts, self.report.design.shares)
            most = max(most, apart)
            rows.append(
                (
                    stratum_words(stratum.stratum),
                    str(len(own)),
                    *(f"{count} / {plan}" for count, plan in zip(counts, planned, strict=True)),
                    number(apart),
                    str(sum(one.in_error for one in own)),
                    str(sum(one.late for one in own)),
                )
            )
        head = ("Stratum", "Allocated", *(f"{code} / list" for code in codes), "Difference", "In error", "Late")
        return Section(
            title="Allocated against the list",
            words=(
                so_far(self.seen, self.study),
                "For each arm: allocated / in as many first entries of the list. They differ while confirmed "
                "participants hold entries that are not allocated yet.",
                *([] if len(codes) == 2 else [_OF_SEVERAL]),
            ),
            table=Table(head=head, rows=fitting(rows, len(head))),
            figure="difference" if self.seen else "",
            alt=f"Running difference of the arms in each stratum as allocated; now at most {number(most)}.",
        )

    def _verdict(self) -> Section:
        faults = self.report.faults
        found = tuple(f"FAULT {fault.code}{_where(fault.stratum)}: {fault}" for fault in faults)
        said = (
            "Every entry was opened and is the one committed to; the root computed from them by a second way is the "
            "one in the log."
        )
        elsewhere = self.report.design.method == IMPORTED
        held, known = (_ELSEWHERE, _SHOWN_AGAIN) if elsewhere else (_HELD, _DRAWN_AGAIN)
        said, drawn = f"{said} {held}", known[self.drawn_again]
        return Section(title="Verdict: no fault found" if not faults else f"Verdict: {_faults(len(faults))}",
                       words=found or (said, drawn))  # fmt: skip

    def _counts(self) -> list[Section]:
        design, codes = self.report.design, [code for code, _ in self.report.design.ratio]
        limit, runs = furthest_allowed(design), any(stratum.run for stratum in self.report.strata)
        rows = [
            (
                stratum_words(stratum.stratum),
                str(len(stratum.arms)),
                *map(str, stratum.counts),
                number(stratum.furthest),
                "none" if limit is None else str(limit),
                *([_run(stratum, codes)] if runs else []),
            )
            for stratum in self.report.strata
        ]
        head = ("Stratum", "Entries", *codes, "Largest difference", "Limit", *(["Rarest run"] if runs else []))
        tables = Section(
            title="Arms of the whole list",
            words=(
                f"Ratio {' : '.join(f'{code} {share}' for code, share in design.ratio)}. The difference is of counts "
                "divided by shares, the largest less the smallest, at any entry; the limit is the largest that the "
                "design can give." + (" A run's chance is that of any as rare in the list." if runs else ""),
            ),
            table=Table(head=head, rows=fitting(rows, len(head))),
            figure="arms",
            alt="Arms of each stratum as parts of a bar, beside the ratio: "
            + "; ".join(f"{stratum_words(s.stratum)} {', '.join(map(str, s.counts))}" for s in self.report.strata[:12])
            + ".",
        )
        if not self.before_activation:
            return [tables]
        largest = max((stratum.furthest for stratum in self.report.strata), default=Fraction(0))
        return [
            tables,
            Section(
                title="Running difference of the whole list",
                words=(
                    "This line is the list. It is drawn before activation only; then it goes as far as allocated.",
                    *([] if len(codes) == 2 else [_OF_SEVERAL]),
                ),
                figure="difference",
                alt=f"Running difference of the arms in each stratum, at most {number(largest)}.",
            ),
        ]

    def _ledger(self) -> list[Section]:
        design, codes = self.report.design, [code for code, _ in self.report.design.ratio]
        rows = [
            (
                stratum_words(stratum.stratum),
                f"{segment.start} to {segment.end - 1}",
                segment_words(segment),
                *map(str, segment.counts),
            )
            for stratum in self.report.strata
            for segment in (stratum.ledger.segments if stratum.ledger else ())
        ]
        if not design.block_sizes or not rows:
            return []
        sizes = " or ".join(map(str, design.block_sizes))
        words = (
            f"Blocks of {sizes}, found without the seed: each row lies between two ends of blocks that are certain. "
            "Entries are counted from 0.",
        )
        head = ("Stratum", "Entries", "Blocks", *codes)
        return [
            Section(title="Block ledger", words=words, table=Table(head=head, rows=fitting(rows, len(head)), left=3))
        ]

    def _digests(self) -> Section:
        rows = [
            (stratum_words(stratum.stratum), of, digest)
            for stratum in self.report.strata
            for of, digest in (("arm codes", stratum.digest), ("arms and salts", stratum.opening))
        ]
        return Section(
            title="Digests of the list",
            words=(
                "That of the arm codes, a line each, is the same for the same list drawn or kept elsewhere. The other "
                "is with the secret salts: they are in the report so that nobody finds the list by trying which one "
                "gives the report's digest, which the log shows to all.",
            ),
            table=Table(head=("Stratum", "Of", "SHA-256"), rows=fitting(rows, 3), left=3),
        )


def design_words(report: ListReport) -> str:
    """The design in one line."""
    plain = report.design.plain()
    taken = {key: value for key, value in plain.items() if key not in ("format", "method", "length", "ratio", "arms")}
    said = [f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}" for key, value in taken.items()]
    return "; ".join([report.design.method, *said, f"{report.design.length} entries a stratum"])


def segment_words(segment: Segment) -> str:
    """How many blocks a segment is, and where they may end."""
    if segment.blocks == 1:
        return "one block" if segment.whole else "one block, cut by the end of the list"
    ends = ", ".join(map(str, segment.ends[:8])) + (", …" if len(segment.ends) > 8 else "")
    return f"several ways: one may end before {ends}"


def number(value: Fraction) -> str:
    """A difference: whole, or with two places."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.2f}"


def _run(stratum: StratumReport, codes: Sequence[str]) -> str:
    run = stratum.run
    return "" if run is None else f"{run.length} {codes[run.arm]}, chance {run.chance:.2g}"


def _where(label: str) -> str:
    return f" in stratum {label}" if label and label != "{}" else ""


def _faults(count: int) -> str:
    return "one fault found" if count == 1 else f"{count} faults found"

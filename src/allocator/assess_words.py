"""What is good and what is bad about a design, in words a statistician can hold against the study. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allocator.assess import Assessment
    from allocator.design_report import DesignReport

UNLIMITED = ("complete", "biased-coin", "urn")  # methods under which one arm can lead by any number
NOTICEABLE = 0.005  # a share below it is not worth a sentence


def words_about(report: DesignReport) -> Iterator[tuple[str, str]]:
    """("good", "bad" or "note", sentence), the ones on balance first."""
    assessed = report.exact
    if assessed is None:
        if report.rough is None:
            yield "note", "Too many states to be exact, and strata are not simulated: assess each stratum by itself."
            return
        yield (
            "note",
            (
                f"Too many states to be exact: simulated from {report.rough.guesses.count} lists; standard error of "
                f"the guesses {100 * report.rough.guesses.standard_error:.2f} percentage points."
            ),
        )
        return
    yield from _on_balance(assessed, limits=report.design.method not in UNLIMITED)
    yield from _on_guessing(assessed)
    yield from _on_the_test(assessed)
    yield from _on_bias(report)
    if assessed.entropy_bits is None:
        yield "note", "Entropy, sequences and smallest p would need too many states: they are left out."


def _on_balance(assessed: Assessment, *, limits: bool) -> Iterator[tuple[str, str]]:
    on_the_way = "" if assessed.max_imbalance is None else f", and on the way never above {assessed.max_imbalance:g}"
    if assessed.probability_balanced > 1 - 1e-9:
        people = "participants" if assessed.n > 1 else "participant"
        yield "good", f"Always ends as balanced as {assessed.n} {people} can be{on_the_way}."
        return
    worst = assessed.final_imbalance[-1][0]
    words = f"Ends balanced with probability {_percent(assessed.probability_balanced)}"
    if not limits:
        yield (
            "bad",
            f"{words}; nothing limits the imbalance, which is {assessed.expected_final_imbalance:.2f} expected.",
        )
    else:
        mark = "good" if assessed.loss < 0.05 else "note"
        yield mark, f"{words}; the imbalance at the end is at most {worst:g}{on_the_way}."
    if assessed.loss >= NOTICEABLE:
        yield (
            "bad" if assessed.loss >= 0.05 else "note",
            f"Imbalance costs {_percent(assessed.loss)} of the information on the difference, on average.",
        )


def _on_guessing(assessed: Assessment) -> Iterator[tuple[str, str]]:
    excess = assessed.excess_guesses
    if excess < NOTICEABLE:
        how = "no better" if excess < 1e-9 else f"hardly better (by {100 * excess:.1f} percentage points)"
        yield "good", f"One who sees every past assignment guesses {how} than one who sees none."
    else:
        mark = "bad" if excess >= 0.1 else "note"
        yield (
            mark,
            (
                f"One who sees every past assignment guesses {_percent(assessed.correct_guesses)} of the next ones, "
                f"{100 * excess:.1f} percentage points more than one who sees none."
            ),
        )
    if assessed.certain >= NOTICEABLE:
        mark = "bad" if assessed.certain >= 0.1 else "note"
        yield (
            mark,
            (
                f"{_percent(assessed.certain)} of all assignments, {assessed.certain * assessed.n:.1f} of "
                f"{assessed.n}, are certain in advance to one who knows the design and the past."
            ),
        )
    else:
        yield "good", "No assignment is certain in advance." if assessed.certain < 1e-12 else "Hardly any is certain."


def _on_the_test(assessed: Assessment) -> Iterator[tuple[str, str]]:
    if assessed.log10_smallest_p is not None and assessed.log10_smallest_p > math.log10(0.05):
        yield "bad", "A randomization test can never reach p < 0.05: too few sequences are possible."


def _on_bias(report: DesignReport) -> Iterator[tuple[str, str]]:
    bias = report.bias
    if bias.missing:
        yield "note", bias.missing
    if bias.selection_size is not None and bias.selection_size.value >= 0.075:
        yield (
            "bad",
            (
                f"Where recruiters shift prognosis by {bias.eta:g} SD with the arm they guess, a 5% t-test of arms "
                f"that do not differ rejects in {_percent(bias.selection_size.value)} of studies."
            ),
        )
    if bias.trend_size is not None and bias.trend_size.value >= 0.06:
        yield (
            "bad",
            (
                f"Under a drift of {bias.trend:g} SD over the study the 5% t-test rejects in "
                f"{_percent(bias.trend_size.value)}."
            ),
        )


def _percent(value: float) -> str:
    return f"{value:.1%}"

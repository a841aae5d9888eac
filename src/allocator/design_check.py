"""The design held against the study: how much of it can be guessed, and what big stick would leave (G05).

Restricted, as the design itself is. Every figure is computed for this study, by `assess` and `t_test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from allocator.assess import Assessment, assess
from allocator.design import RandomizationDesign
from allocator.finding import Finding
from allocator.states import TooManyStates
from allocator.study import Study
from allocator.t_test import LEAST, NoScipy, bias_of_difference, size_under_selection_bias

SMALL_STUDY = 200  # Schulz & Grimes, Lancet 2002: below it, open studies do better without blocks
MAX_LENGTH = 1_000  # of a list of several block sizes whose chance of a cut block is computed
EXACT_BIAS = 20  # participants up to which bias is exact at once
GUESSED = 0.05  # share above the blind guess that is worth a warning where big stick is not defined


def check_design(study: Study, design: RandomizationDesign) -> list[Finding]:
    """The findings K21 to K23 that hold for this design in this study."""
    return [finding for rule in (_k21, _k22, _k23) if (finding := rule(study, design)) is not None]


def _k21(study: Study, design: RandomizationDesign) -> Finding | None:
    """A small open study whose list can be guessed: who enrols sees the past, and the past tells the future."""
    if study.enrollment >= SMALL_STUDY or study.masking != "none":
        return None
    n = min(design.length, max(1, study.enrollment // len(study.strata)))
    try:
        chosen = assess(design, n)
    except TooManyStates:
        return None
    stick = _big_stick(design)
    other = assess(stick, n) if stick else None
    if chosen.excess_guesses <= (other.excess_guesses if other else GUESSED) + 1e-9:
        return None
    parts = [
        f"An open study of fewer than {SMALL_STUDY} participants can be guessed. Over {n} assignments, somebody who "
        f"knows the design and all past assignments is expected to guess {chosen.correct_guesses:.1%} of them "
        f"({chosen.blind_guess:.1%} without knowing any), and {chosen.certain:.1%} are certain in advance."
    ]
    if stick and other:
        parts.append(_price(chosen, other))
        if 2 * LEAST < n <= EXACT_BIAS:
            parts.append(_bias(design, stick, n))
    parts.append("The choice is the study's, and is signed.")
    return Finding(id="K21", level="warn", message=" ".join(parts), quotes=())


def _big_stick(design: RandomizationDesign) -> RandomizationDesign | None:
    """Big stick with limit 3 for the same list, where it is defined: two arms with equal shares."""
    if len(design.ratio) != 2 or len(set(design.shares)) != 1:
        return None
    bare = dict.fromkeys(("probability", "alpha", "beta", "lambda_"))
    return replace(design, method="big-stick", limit=3, block_sizes=(), arms=(), **bare)  # type: ignore[arg-type]


def _price(chosen: Assessment, stick: Assessment) -> str:
    return (
        f"Big stick with limit 3 would leave {stick.correct_guesses:.1%} and {stick.certain:.1%}; its price is an "
        f"expected difference of {stick.expected_final_imbalance:.2f} at the end instead of "
        f"{chosen.expected_final_imbalance:.2f}."
    )


def _bias(design: RandomizationDesign, stick: RandomizationDesign, n: int) -> str:
    """What guessing does, if the recruiter shifts prognosis: by 0.5 SD for the bias, by 1 SD for the test."""
    shifts = [bias_of_difference(each.method, each, n, 0.5).value for each in (design, stick)]
    said = f"If prognosis is shifted by 0.5 SD with the guess, the difference is biased by {shifts[0]:.2f} SD"
    try:
        sizes = [size_under_selection_bias(each.method, each, n, 1.0).value for each in (design, stick)]
    except NoScipy:
        return f"{said}, with big stick by {shifts[1]:.2f} SD."
    return (
        f"{said}, and if by 1 SD, a nominal 5 % t-test rejects in {sizes[0]:.1%} of studies without any effect; with "
        f"big stick {shifts[1]:.2f} SD and {sizes[1]:.1%}."
    )


def _k22(_: Study, design: RandomizationDesign) -> Finding | None:
    """One fixed block of the smallest possible size."""
    if design.block_sizes != (design.ratio_sum,):
        return None
    size = design.ratio_sum
    message = (
        f"Every block has the smallest possible size, {size}: the last assignment of each, at least one in {size} of "
        "all, is certain in advance to whoever sees the others. Declare larger sizes, more than one."
    )
    return Finding(id="K22", level="warn", message=message, quotes=())


def _k23(_: Study, design: RandomizationDesign) -> Finding | None:
    """A last block that is, or may be, cut."""
    if not design.block_sizes:
        return None
    chance = cut_probability(design.block_sizes, design.length)
    sizes = ", ".join(str(size) for size in design.block_sizes)
    if chance == 0:
        return None
    if len(design.block_sizes) == 1:
        rest = design.length % design.block_sizes[0]
        what = f"The last block is cut: {design.length} entries end after {rest} of a block of {sizes}"
    else:
        odds = "" if chance is None else f", in {float(chance):.1%} of all lists"
        what = (
            f"The last block may be cut: it is whenever the sizes drawn from {sizes} do not sum to {design.length}"
            f" entries{odds}"
        )
    message = f"{what}. The arms of a list that is used up can then differ by more than the ratio says."
    return Finding(id="K23", level="info", message=message, quotes=())


def cut_probability(sizes: Sequence[int], length: int) -> Fraction | None:
    """Chance that the last block of a list is cut, sizes drawn uniformly; None beyond MAX_LENGTH for several sizes."""
    if len(sizes) == 1:
        return Fraction(1 if length % sizes[0] else 0)
    if length > MAX_LENGTH:
        return None
    reached = [Fraction(1)]
    for n in range(1, length + 1):
        reached.append(sum((reached[n - size] for size in sizes if size <= n), Fraction(0)) / len(sizes))
    return 1 - reached[length]

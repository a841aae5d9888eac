"""The design held against the study: what its blocks let people guess. Restricted, as the design itself is."""

from __future__ import annotations

from allocator.design import RandomizationDesign
from allocator.finding import Finding
from allocator.predictability import big_stick_share, cut_probability, guess_share
from allocator.study import Study

SMALL_STUDY = 200  # Schulz & Grimes, Lancet 2002: below it, open studies do better without blocks
# Selection bias, exact enumeration for 10 participants, 1:1: (procedure, bias of the difference in SD when a
# recruiter shifts prognosis by 0.5 SD with the predicted arm, size in % of a nominal 5 % t-test when it is 1 SD)
SELECTION_BIAS = (
    ("permuted blocks of 4", "0.38", "12.9"),
    ("permuted blocks of 4 and 6", "0.37", "12.1"),
    ("big stick with limit 3", "0.19", "6.0"),
)


def check_design(study: Study, design: RandomizationDesign) -> list[Finding]:
    """The findings K21 to K23 that hold for this design in this study."""
    return [finding for rule in (_k21, _k22, _k23) if (finding := rule(study, design)) is not None]


def _k21(study: Study, design: RandomizationDesign) -> Finding | None:
    """A small open study with blocks: who enrols sees the past, and blocks tell the future."""
    if study.enrollment >= SMALL_STUDY or study.masking != "none" or design.method != "permuted-block":
        return None
    n = max(1, study.enrollment // len(study.strata))
    equal = design.shares in ((1, 1),)
    share = guess_share(design.shares, design.block_sizes, n)
    parts = [f"An open study of fewer than {SMALL_STUDY} participants with permuted blocks can be guessed."]
    if share is not None:
        knows = "past assignments" if equal else "past assignments and the size of each block"
        blind = max(design.shares) / design.ratio_sum
        parts.append(
            f"Over {n} assignments, somebody who knows all {knows} is expected to guess {float(share):.1%} of them "
            f"({blind:.1%} without knowing any)."
        )
    if equal:
        parts.append(f"Big stick with limit 3 would leave {float(big_stick_share(3, n)):.1%}.")
        bias = "; ".join(f"{name} {shift} SD and {size} %" for name, shift, size in SELECTION_BIAS)
        parts.append(
            "Selection bias for 10 participants, 1:1, by exact enumeration (bias of the difference if prognosis is "
            "shifted by 0.5 SD with the guess, and size of a nominal 5 % t-test if by 1 SD): " + bias + "."
        )
    parts.append("The choice is the study's, and is signed.")
    return Finding(id="K21", level="warn", message=" ".join(parts), quotes=())


def _k22(_: Study, design: RandomizationDesign) -> Finding | None:
    """One fixed block of the smallest possible size."""
    if design.block_sizes != (design.ratio_sum,):
        return None
    size = design.ratio_sum
    message = (
        f"Every block has the smallest possible size, {size}: the last assignment of each, one in {size} of all, is "
        "certain in advance to whoever sees the others. Declare larger sizes, more than one."
    )
    return Finding(id="K22", level="warn", message=message, quotes=())


def _k23(_: Study, design: RandomizationDesign) -> Finding | None:
    """A last block that is, or may be, cut."""
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

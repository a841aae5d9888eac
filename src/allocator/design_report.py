"""A design's properties as `assess` reports them: exact where that can be, else simulated, and which is said. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from allocator.assess import Assessment, assess, assess_strata, check_entries
from allocator.design import RandomizationDesign
from allocator.simulate import Estimate, Simulated, sequences_of, simulated
from allocator.states import TooManyStates
from allocator.t_test import (
    NoScipy,
    NotDefined,
    bias_of_difference,
    size_under_selection_bias,
    size_under_time_trend,
)

NOT_EXACT = ("correct_guesses", "expected_final_imbalance", "expected_max_imbalance")  # what is simulated then

MAX_BITS = 14_000  # of the number of sequences; no reader of JSON need take a longer one


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """What bias does to a two-arm comparison by the two-sided t-test at 5 %; each None where it does not apply.

    Attributes:
        eta: by how many standard deviations a recruiter shifts prognosis with the arm they guess.
        trend: by how many standard deviations prognosis drifts from the first participant to the last.
        difference: expected difference of the means under eta, in standard deviations, with no treatment effect.
        selection_size, trend_size: size of the test under each.
        missing: why a size is not there; "" where it is, or does not apply.
    """

    eta: float
    trend: float
    difference: Estimate | None = None
    selection_size: Estimate | None = None
    trend_size: Estimate | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignReport:
    """One design over n entries.

    Attributes:
        exact: its properties, of all strata together where there are parts; None where they could only be simulated.
        rough: the simulated ones then.
        parts: of each stratum, in the order given.
    """

    design: RandomizationDesign
    n: int
    exact: Assessment | None
    rough: Simulated | None
    parts: tuple[Assessment, ...]
    bias: Bias

    def as_json(self) -> dict[str, Any]:
        """The object of one design (docs/designs.md)."""
        plain = {key: value for key, value in self.design.plain().items() if key != "format"}
        figures = assessment_json(self.exact) if self.exact else _simulated_json(self.rough)
        parts = {"strata": [assessment_json(part) for part in self.parts]} if self.parts else {}
        return {
            **plain,
            "n": self.n,
            "exact": self.exact is not None,
            **figures,
            **parts,
            "bias": _bias_json(self.bias),
        }


def report_on(
    design: RandomizationDesign, n: int, parts: Sequence[int] = (), *, eta: float = 1.0, trend: float = 1.0
) -> DesignReport:
    """Assess one design.

    Args:
        design: any that is drawn.
        n: entries; the sum of the parts where there are any.
        parts: participants in each stratum.
        eta: of `Bias`, in standard deviations.
        trend: of `Bias`, in standard deviations.

    Raises:
        DesignError: n, or a part, is not between 1 and the length.
    """
    each: list[Assessment] = []
    exact: Assessment | None = None
    rough: Simulated | None = None
    for entries in parts or (n,):
        check_entries(design, entries)
    try:
        if parts:
            each, exact = assess_strata(design, parts)
        else:
            exact = assess(design, n)
    except TooManyStates:
        if not parts:
            rough = simulated(design.method, design, n, sequences_of(design, n))
    bias = Bias(eta=eta, trend=trend) if parts else _biased(design, n, eta, trend)
    return DesignReport(design=design, n=n, exact=exact, rough=rough, parts=tuple(each), bias=bias)


def _biased(design: RandomizationDesign, n: int, eta: float, trend: float) -> Bias:
    if len(design.ratio) != 2:
        return Bias(eta=eta, trend=trend)
    try:
        difference = bias_of_difference(design.method, design, n, eta)
    except NotDefined:
        return Bias(eta=eta, trend=trend)
    try:
        return Bias(
            eta=eta,
            trend=trend,
            difference=difference,
            selection_size=size_under_selection_bias(design.method, design, n, eta),
            trend_size=size_under_time_trend(design.method, design, n, trend),
        )
    except NoScipy as error:
        return Bias(eta=eta, trend=trend, difference=difference, missing=str(error))


# ---- as JSON -------------------------------------------------------------------------------------------------------


def assessment_json(assessed: Assessment) -> dict[str, Any]:
    """The figures by name; a p too small for a float is null beside its logarithm, and so is a number too long."""
    figures = {name: getattr(assessed, name) for name in assessed.__slots__ if name != "final_imbalance"}
    distribution = [{"imbalance": value, "probability": chance} for value, chance in assessed.final_imbalance]
    log10 = assessed.log10_smallest_p
    p = 10**log10 if log10 is not None and log10 > -300 else None
    if assessed.sequences is not None and assessed.sequences.bit_length() > MAX_BITS:
        figures["sequences"] = None
    return {**figures, "excess_guesses": assessed.excess_guesses, "final_imbalance": distribution, "smallest_p": p}


def _simulated_json(rough: Simulated | None) -> dict[str, Any]:
    if rough is None:
        return dict.fromkeys(NOT_EXACT) | {"certain": None}
    estimates = dict(zip(NOT_EXACT, (rough.guesses, rough.final_imbalance, rough.max_imbalance), strict=True))
    values = {name: estimate.value for name, estimate in estimates.items()}
    errors = {name: estimate.standard_error for name, estimate in estimates.items()}
    return {**values, "certain": None, "simulated": rough.guesses.count, "standard_errors": errors}


def _bias_json(bias: Bias) -> dict[str, Any]:
    def one(estimate: Estimate | None) -> dict[str, Any] | None:
        if estimate is None or math.isnan(estimate.value):
            return None
        return {
            "value": estimate.value,
            "exact": estimate.exact,
            "standard_error": estimate.standard_error,
            "simulated": estimate.count,
            "left_out": estimate.left_out,
        }

    return {
        "eta": bias.eta,
        "trend": bias.trend,
        "difference": one(bias.difference),
        "selection_size": one(bias.selection_size),
        "trend_size": one(bias.trend_size),
        **({"missing": bias.missing} if bias.missing else {}),
    }

"""The t-test's size under bias: against noncentral distributions, brute force, Monte Carlo, reference figures."""

from __future__ import annotations

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from allocator import t_test
from allocator.method import Parameters
from allocator.methods import METHODS
from allocator.simulate import SEED, draw_many
from allocator.t_test import (
    NoScipy,
    NotDefined,
    bias_of_difference,
    rejection_probability,
    size_under_selection_bias,
    size_under_time_trend,
)

PAIR = (("A", 1), ("B", 1))
FOUR = {"block_sizes": (4,)}
FOUR_SIX = {"block_sizes": (4, 6)}
STICK = {"limit": 3}
COIN: dict[str, object] = {}


def parameters(n: int, taken: dict[str, object]) -> Parameters:
    return Parameters(length=n, ratio=PAIR, **taken)  # type: ignore[arg-type]


def probability(delta: float, lambda_: float, freedom: int, level: float = 0.05) -> float:
    return float(rejection_probability(np.array([delta**2]), np.array([lambda_]), freedom, level)[0])


@pytest.mark.parametrize("freedom", [1, 2, 8, 98, 998])
def test_without_bias_the_size_is_the_level(freedom: int) -> None:
    for level in (0.05, 0.01):
        assert probability(0, 0, freedom, level) == pytest.approx(level, abs=1e-12)


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("freedom", [2, 8, 98])
def test_with_a_central_denominator_it_is_noncentral_f(delta: float, freedom: int) -> None:
    quantile = stats.f.isf(0.05, 1, freedom)
    assert probability(delta, 0, freedom) == pytest.approx(stats.ncf.sf(quantile, 1, freedom, delta**2), abs=1e-10)
    noncentral_t = stats.nct(freedom, delta)
    both_sides = noncentral_t.sf(quantile**0.5) + noncentral_t.cdf(-(quantile**0.5))
    assert probability(delta, 0, freedom) == pytest.approx(both_sides, abs=1e-9)


def by_noncentral_t(delta: float, lambda_: float, freedom: int) -> float:
    """Doubly noncentral t as a Poisson mixture of noncentral t, which is randomizeR's way (Kennes et al. 2011)."""
    quantile = stats.t.isf(0.025, freedom)
    k = np.arange(int(lambda_ / 2 + 10 * lambda_**0.5 + 30))
    scaled = quantile * (1 + 2 * k / freedom) ** 0.5
    given = stats.nct(freedom + 2 * k, delta)
    return float(stats.poisson.pmf(k, lambda_ / 2) @ (given.sf(scaled) + given.cdf(-scaled)))


@pytest.mark.parametrize("delta, lambda_, freedom", [(0.3, 1, 4), (1.2, 6.5, 8), (2.5, 30, 22), (3, 120, 98)])
def test_it_is_the_mixture_of_noncentral_t_that_randomizer_computes(delta: float, lambda_: float, freedom: int) -> None:
    assert probability(delta, lambda_, freedom) == pytest.approx(by_noncentral_t(delta, lambda_, freedom), abs=1e-9)


def test_many_sequences_at_once_are_each_as_if_alone() -> None:
    lambdas, deltas = np.linspace(0, 400, 2_500), np.linspace(0, 5, 2_500)[::-1]
    together = rejection_probability(deltas**2, lambdas, 50)
    for place in (0, 999, 1_000, 1_700, 2_499):
        alone = probability(float(deltas[place]), float(lambdas[place]), 50)
        assert together[place] == pytest.approx(alone, abs=1e-12)


def test_responses_drawn_at_random_are_rejected_as_often() -> None:
    """One sequence, its responses simulated by another program's generator and tested by scipy's t-test."""
    arms = np.array([0, 1, 1, 0, 0, 0, 1, 0, 1, 0])
    expected = np.array([0, -1, -1, 1, 0, 1, 1, -1, 0, 1.0])
    drawn = expected + np.random.Generator(np.random.PCG64(5)).standard_normal((40_000, 10))
    rejected = stats.ttest_ind(drawn[:, arms == 0], drawn[:, arms == 1], axis=1).pvalue < 0.05
    first, second = expected[arms == 0], expected[arms == 1]
    delta = (first.mean() - second.mean()) / (1 / len(first) + 1 / len(second)) ** 0.5
    within = first.var() * len(first) + second.var() * len(second)
    exact = probability(float(delta), float(within), 8)
    assert abs(rejected.mean() - exact) < 4 * (exact * (1 - exact) / len(drawn)) ** 0.5


def one_by_one(name: str, taken: dict[str, object], n: int, eta: float, theta: float) -> tuple[float, float, float]:
    """Bias of the difference, and size under either bias, sequence by sequence, for designs without block sizes."""
    weights = METHODS[name].weights(parameters(n, taken), n)
    bias = guessed = drifted = share = 0.0
    for arms in itertools.product((0, 1), repeat=n):
        counts, chance, expected = [0, 0], 1.0, []
        for arm in arms:
            weighed = weights(counts) if chance else (1, 1)
            chance *= weighed[arm] / sum(weighed)
            expected.append(eta * ((counts[0] < counts[1]) - (counts[1] < counts[0])))
            counts[arm] += 1
        if chance and min(counts) >= 2:
            share += chance
            of_arms, trend = np.array(arms), theta * np.arange(n) / (n - 1)
            bias += chance * (np.mean(np.array(expected)[of_arms == 0]) - np.mean(np.array(expected)[of_arms == 1]))
            guessed += chance * _size(of_arms, np.array(expected))
            drifted += chance * _size(of_arms, trend)
    return bias / share, guessed / share, drifted / share


def _size(arms: np.ndarray, expected: np.ndarray) -> float:
    first, second = expected[arms == 0], expected[arms == 1]
    delta = (first.mean() - second.mean()) / (1 / len(first) + 1 / len(second)) ** 0.5
    within = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    return probability(float(delta), within, len(arms) - 2)


DESIGNS = [
    ("complete", COIN),
    ("big-stick", STICK),
    ("biased-coin", {"probability": Fraction(2, 3)}),
    ("random-allocation-rule", {}),
    ("urn", {"alpha": 0, "beta": 1}),
    ("maximal-procedure", {"limit": 2}),
    ("truncated-binomial", {}),
    ("chen", {"limit": 2, "probability": Fraction(3, 4)}),
    ("block-urn", {"lambda_": 2}),
]


@pytest.mark.parametrize("name, taken", DESIGNS)
def test_merging_sequences_that_are_alike_changes_nothing(name: str, taken: dict[str, object]) -> None:
    given, n = parameters(8, taken), 8
    bias, guessed, drifted = one_by_one(name, taken, n, 0.7, 1.3)
    assert bias_of_difference(name, given, n, 0.7).value == pytest.approx(bias, abs=1e-12)
    assert size_under_selection_bias(name, given, n, 0.7).value == pytest.approx(guessed, abs=1e-10)
    assert size_under_time_trend(name, given, n, 1.3).value == pytest.approx(drifted, abs=1e-10)


# Reference figures at n = 10 as printed: bias of the difference at eta = 0.5, size of a nominal 5 % test at eta = 1;
# then both exactly. Every bias agrees as printed where sequences with fewer than two participants in an arm are left
# out; with one in an arm allowed the coin's would be 0.163. The sizes of the blocks do not round to what was printed
# (exact: 12.8 and 12.2, not 12.9 and 12.1): a simulation would leave that open, and no other convention tried (random
# guesses on a tie, Welch's test, an empty arm as no rejection) brings them nearer.
AT_TEN = [
    ("permuted-block", FOUR, 0.38, 12.9, 0.3768518519, 0.1284752927),
    ("permuted-block", FOUR_SIX, 0.37, 12.1, 0.3660092593, 0.1215301647),
    ("big-stick", STICK, 0.19, 6.0, 0.1910807292, 0.0595401097),
    ("complete", COIN, 0.17, 5.7, 0.1659395495, 0.0568510459),
]


@pytest.mark.requirement("G05")
@pytest.mark.parametrize("name, taken, bias, size, exact_bias, exact_size", AT_TEN)
def test_reference_figures_at_ten(
    name: str, taken: dict[str, object], bias: float, size: float, exact_bias: float, exact_size: float
) -> None:
    given = parameters(10, taken)
    found_bias = bias_of_difference(name, given, 10, 0.5)
    found_size = size_under_selection_bias(name, given, 10, 1)
    assert found_bias.exact and found_size.exact
    assert round(found_bias.value, 2) == bias
    assert abs(100 * found_size.value - size) < 0.055
    assert found_bias.value == pytest.approx(exact_bias, abs=1e-9)
    assert found_size.value == pytest.approx(exact_size, abs=1e-9)


def test_the_coin_without_two_in_each_arm_is_left_out() -> None:
    assert bias_of_difference("complete", parameters(10, COIN), 10, 0.5).left_out == pytest.approx(22 / 1024, abs=1e-12)
    assert bias_of_difference("permuted-block", parameters(10, FOUR), 10, 0.5).left_out == 0


@pytest.mark.parametrize("name, taken", [("complete", COIN), ("permuted-block", FOUR_SIX), ("big-stick", STICK)])
def test_simulated_where_states_are_too_many_and_it_says_so(
    name: str, taken: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, n = parameters(12, taken), 12
    calls = [(bias_of_difference, 0.5), (size_under_selection_bias, 1.0), (size_under_time_trend, 1.0)]
    exact = [call(name, given, n, by) for call, by in calls]
    monkeypatch.setattr(t_test, "MAX_MERGED", 20)
    t_test._summaries.cache_clear()
    try:
        for (call, by), right in zip(calls, exact, strict=True):
            found = call(name, given, n, by, 4_000)
            assert right.exact and not found.exact and found.standard_error > 0
            assert abs(found.value - right.value) < 4 * found.standard_error
            assert found.count == round(4_000 * (1 - found.left_out))
    finally:
        t_test._summaries.cache_clear()


def test_the_simulation_is_of_the_generators_own_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    given = parameters(20, COIN)
    monkeypatch.setattr(t_test, "MAX_MERGED", 20)
    t_test._summaries.cache_clear()
    found = bias_of_difference("complete", given, 20, 1, 300)
    t_test._summaries.cache_clear()
    arms = draw_many("complete", given, 300, 20, SEED)
    leads = np.cumsum(1 - 2 * arms.astype(int), axis=1) - (1 - 2 * arms.astype(int))
    guesses = -np.sign(leads)
    differences = [row[of == 0].mean() - row[of == 1].mean() for row, of in zip(guesses, arms, strict=True)]
    assert found.value == pytest.approx(np.mean(differences), abs=1e-12)


def test_long_lists_are_simulated_fewer_times_and_it_says_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t_test, "MAX_MERGED", 20)
    monkeypatch.setattr(t_test, "MAX_DRAWN", 12_000)
    t_test._summaries.cache_clear()
    counts = [bias_of_difference("complete", parameters(n, COIN), n, 1).count for n in (40, 100)]
    t_test._summaries.cache_clear()
    assert counts == [300, t_test.FEWEST]


def test_for_unequal_shares_the_arm_behind_is_behind_in_units_of_the_ratio() -> None:
    given = Parameters(length=6, ratio=(("A", 2), ("B", 1)), block_sizes=(3,))
    # in a block of AAB: after A the counts are 1:0, so B is behind and A is not; after AA 2:0; after B 0:1 and AB 1:1
    found = bias_of_difference("permuted-block", given, 6, 1)
    differences = []
    blocks = {(0, 0, 1): (0, -1, -1), (0, 1, 0): (0, -1, 1), (1, 0, 0): (0, 1, 1)}
    for one, two in itertools.product(blocks, repeat=2):
        arms, guesses = np.array(one + two), np.array(blocks[one] + blocks[two])
        differences.append(guesses[arms == 0].mean() - guesses[arms == 1].mean())
    assert found.value == pytest.approx(np.mean(differences), abs=1e-12)


@pytest.mark.parametrize(
    "given, n, said",
    [
        (Parameters(length=9, ratio=(("A", 1), ("B", 1), ("C", 1))), 9, "compares two arms"),
        (Parameters(length=9, ratio=PAIR), 3, "needs 2 of each arm"),
        (Parameters(length=9, ratio=PAIR), 10, "of a list of 9"),
    ],
)
def test_no_test_where_there_is_none(given: Parameters, n: int, said: str) -> None:
    for call in (size_under_selection_bias, size_under_time_trend, bias_of_difference):
        with pytest.raises(NotDefined, match=said):
            call("complete", given, n, 1)


def test_unequal_shares_may_never_have_two_of_the_smaller_arm() -> None:
    given = Parameters(length=6, ratio=(("A", 5), ("B", 1)), block_sizes=(6,))
    with pytest.raises(NotDefined, match="no sequence has 2"):
        size_under_time_trend("permuted-block", given, 6, 1)


def test_without_scipy_the_size_is_refused_and_the_bias_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(NoScipy):
        size_under_selection_bias("big-stick", parameters(10, STICK), 10, 1)
    assert bias_of_difference("big-stick", parameters(10, STICK), 10, 0.5).value > 0.19

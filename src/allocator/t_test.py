"""The t-test under bias: how often it rejects, with no effect at all, when responses drift or recruiters guess. Pure.

Two arms, responses normal with variance 1, no effect of treatment. Given the sequence of arms, the expected responses
make the square of Student's two-sample t doubly noncentral F with 1 and n − 2 degrees of freedom: δ² for the
numerator, from the difference of the arms' expected means, and λ for the denominator, from what varies within the
arms (Johnson, Kotz & Balakrishnan, Continuous univariate distributions 2, 1995, chapters 30 and 31). Kennes, Cramer,
Hilgers & Heussen 2011 and Langer 2014 for selection bias, Tamm & Hilgers 2014 for time trends, as in randomizeR.
The mean over sequences is exact, over merged states, where these are few enough; else over simulated sequences.

A sequence with fewer than two participants in an arm is left out: nobody makes that analysis. (randomizeR counts a
sequence with an empty arm as no rejection, and takes one with a single participant.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from allocator.method import Parameters
from allocator.methods import METHODS
from allocator.simulate import COUNT, Estimate, draw_steps, estimate
from allocator.states import Step, TooManyStates, drawn_chain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.05  # of the two-sided test
LEAST = 2  # participants of each arm that an analysis needs
MAX_MERGED = 2_000_000  # states, over all steps; beyond it sequences are simulated
MAX_DRAWN = 20_000_000  # entries simulated: fewer sequences where they are long, but FEWEST
FEWEST = 200
_CHUNK = 1_000  # sequences at a time; bounds the memory of the double sum
# Expected responses in whole units, (states,), by step from 0, counts so far, (states, 2), and the ratio.
Responses = Callable[[int, "NDArray[np.int64]", tuple[int, ...]], "NDArray[np.int64]"]


class NoScipy(Exception):
    """The size of a test needs scipy, which the extra ``statistics`` installs."""


class NotDefined(ValueError):
    """There is no such test: not two arms, or never two participants in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summaries:
    """What the test needs of each sequence (or of many at once), all of shape (sequences,).

    Attributes:
        first, second: participants of each arm.
        first_sum, second_sum: sums of expected responses.
        squares: sum of squares of all expected responses.
        chance: the probability of each; they sum to 1.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    first_sum: NDArray[np.int64]
    second_sum: NDArray[np.int64]
    squares: NDArray[np.int64]
    chance: NDArray[np.float64]


def size_under_selection_bias(method_name: str, given: Parameters, n: int, eta: float, count: int = COUNT) -> Estimate:
    """Probability that the test rejects when a recruiter who guesses the next arm chooses whom to ask.

    Expected responses are +eta where the arm that is behind (in units of the ratio) is the first, −eta where it is the
    second, 0 on a tie: the convergence strategy of Blackwell & Hodges 1957.

    Args:
        method_name: a key of `METHODS`.
        given: its parameters, of two arms.
        n: participants, at most the length of the list.
        eta: in standard deviations of a response.
        count: sequences, where they are simulated; fewer where they are very long.

    Raises:
        NotDefined, NoScipy.
    """
    return _mean(method_name, given, n, _guessed, lambda found: _rejections(found, eta), count)


def size_under_time_trend(method_name: str, given: Parameters, n: int, theta: float, count: int = COUNT) -> Estimate:
    """The same where the expected response of participant i (from 1) is theta × (i − 1)/(n − 1), whatever the arm."""
    unit = theta / (n - 1) if n > 1 else 0.0
    return _mean(method_name, given, n, _drift, lambda found: _rejections(found, unit), count)


def bias_of_difference(method_name: str, given: Parameters, n: int, eta: float, count: int = COUNT) -> Estimate:
    """Expected mean of the first arm minus that of the second under the same guessing, in standard deviations."""

    def differences(found: Summaries) -> NDArray[np.float64]:
        return eta * (found.first_sum / found.first - found.second_sum / found.second)

    return _mean(method_name, given, n, _guessed, differences, count)


def rejection_probability(
    delta_squared: NDArray[np.float64], lambda_: NDArray[np.float64], freedom: int, level: float = LEVEL
) -> NDArray[np.float64]:
    """P(F > c) for doubly noncentral F with 1 and `freedom` degrees, c the central quantile of `level`; to 1e-10.

    Σ_j Σ_k Poisson(j; δ²/2) Poisson(k; λ/2) P(Beta(1/2 + j, freedom/2 + k) > x), x = c/(c + freedom).

    Args:
        delta_squared: noncentrality of the numerator, shape (sequences,).
        lambda_: noncentrality of the denominator, shape (sequences,).
        freedom: at least 1.
        level: of the two-sided test.

    Raises:
        NoScipy.
    """
    import numpy as np

    special = _special()
    quantile = float(special.stdtrit(freedom, 1 - level / 2)) ** 2
    found = np.empty(len(delta_squared))
    for start in range(0, len(found), _CHUNK):  # sorted by the caller, so that the sums of a chunk are short
        part = slice(start, start + _CHUNK)
        j, of_j = _poisson(delta_squared[part] / 2)
        k, of_k = _poisson(lambda_[part] / 2)
        beyond = special.betainc(freedom / 2 + k[None, :], 0.5 + j[:, None], freedom / (freedom + quantile))
        found[part] = ((of_j @ beyond) * of_k).sum(axis=1)
    return found


def _special() -> Any:
    try:
        import scipy.special  # type: ignore[import-untyped]
    except ImportError as error:
        raise NoScipy("scipy is not installed") from error
    return scipy.special


def _poisson(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values that matter for any of these means, (values,), and their probabilities, (means, values)."""
    import numpy as np

    special = _special()
    low, high = float(means.min()), float(means.max())
    values = np.arange(max(0, int(low - 9 * low**0.5 - 20)), int(high + 9 * high**0.5 + 20), dtype=np.float64)
    chances: NDArray[np.float64] = np.exp(
        special.xlogy(values, means[:, None]) - means[:, None] - special.gammaln(values + 1)
    )
    return values, chances


def _rejections(found: Summaries, unit: float) -> NDArray[np.float64]:
    """The rejection probability of each, its expected responses in these units."""
    import numpy as np

    first, second = found.first_sum / found.first, found.second_sum / found.second
    within = found.squares - found.first * first**2 - found.second * second**2
    delta_squared = unit**2 * (first - second) ** 2 / (1 / found.first + 1 / found.second)
    lambda_ = unit**2 * within.clip(0)  # clipped: a rounding error below 0
    order = np.lexsort((delta_squared, lambda_))
    values = np.empty(len(order))
    freedom = int(found.first[0] + found.second[0]) - 2
    values[order] = rejection_probability(delta_squared[order], lambda_[order], freedom)
    return values


def _guessed(_: int, counts: NDArray[np.int64], shares: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    ahead: NDArray[np.int64] = counts[:, 1] * shares[0] - counts[:, 0] * shares[1]
    return np.sign(ahead)


def _drift(step: int, counts: NDArray[np.int64], _: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    return np.full(len(counts), step)


def _mean(
    method_name: str,
    given: Parameters,
    n: int,
    responses: Responses,
    figure: Callable[[Summaries], NDArray[np.float64]],
    count: int,
) -> Estimate:
    """The mean of a figure over the sequences that allow an analysis."""
    import numpy as np

    if len(given.ratio) != 2:
        raise NotDefined("the test compares two arms")
    if not 2 * LEAST <= n <= given.length:
        raise NotDefined(f"{n} participants of a list of {given.length}: a test needs {LEAST} of each arm")
    found, exact = _summaries(method_name, given, n, responses, count)
    kept = (found.first >= LEAST) & (found.second >= LEAST)
    if not kept.any():
        raise NotDefined(f"no sequence has {LEAST} participants in each arm")
    names = ("first", "second", "first_sum", "second_sum", "squares", "chance")
    analysed = Summaries(**{name: getattr(found, name)[kept] for name in names})
    values, share = figure(analysed), float(analysed.chance.sum())
    if exact:
        left_out = 0.0 if kept.all() else 1 - share
        return Estimate(value=float(values @ analysed.chance) / share, left_out=left_out)
    return replace(estimate(values), left_out=float(np.mean(~kept)))


@lru_cache(maxsize=2)
def _summaries(method_name: str, given: Parameters, n: int, responses: Responses, count: int) -> tuple[Summaries, bool]:
    """What the test needs of every sequence, and whether it is exact; kept, for the figures that follow."""
    try:
        return _merged(method_name, given, n, responses), True
    except TooManyStates:
        fewer = min(count, max(FEWEST, MAX_DRAWN // n))
        return _simulated(draw_steps(method_name, given, fewer, n), fewer, responses, given.shares), False


def _merged(method_name: str, given: Parameters, n: int, responses: Responses) -> Summaries:
    """All sequences, those alike in everything the test needs merged at every step; TooManyStates beyond MAX_MERGED."""
    import numpy as np

    chain = drawn_chain(METHODS[method_name], given, n)
    sums, chance = np.zeros((1, 3), dtype=np.int64), np.ones(1)  # sums: of the first arm, of the second, of squares
    states, total = np.zeros(1, dtype=np.int64), 0
    for entry, step in enumerate(chain.steps):
        expected = responses(entry, chain.counts[entry], given.shares)[states]
        source, move = _moves(step, states)
        response, arm = expected[source], step.arm[move]
        sums = sums[source] + np.stack((response * (arm == 0), response * (arm == 1), response**2), axis=1)
        states, sums, chance = _alike(step.target[move], sums, chance[source] * step.chance[move])
        total += len(states)
        if total > MAX_MERGED:
            raise TooManyStates(f"more than {MAX_MERGED} states")
    first, sums, chance = _alike(chain.counts[-1][states, 0], sums, chance)  # whatever block they ended in
    return Summaries(
        first=first, second=n - first, first_sum=sums[:, 0], second_sum=sums[:, 1], squares=sums[:, 2], chance=chance
    )


def _moves(step: Step, states: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every move that leaves one of these states: the place of the state, and the index of the move."""
    import numpy as np

    order = np.argsort(step.source, kind="stable")
    starts = np.searchsorted(step.source[order], states)
    numbers = np.searchsorted(step.source[order], states, side="right") - starts
    source = np.repeat(np.arange(len(states)), numbers)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    return source, order[starts[source] + nth]


def _alike(
    states: NDArray[np.int64], sums: NDArray[np.int64], chance: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows that agree in state and sums as one, their chances added."""
    import numpy as np

    key = states
    for column in sums.T:
        low = int(column.min())
        key = key * (int(column.max()) - low + 1) + (column - low)
    _, first, places = np.unique(key, return_index=True, return_inverse=True)
    return states[first], sums[first], np.bincount(places, chance, len(first)).astype(np.float64)


def _simulated(
    steps: Iterator[NDArray[np.intp]], count: int, responses: Responses, shares: tuple[int, ...]
) -> Summaries:
    """The same of drawn sequences, given step by step."""
    import numpy as np

    counts, sums, squares = (np.zeros(shape, dtype=np.int64) for shape in ((count, 2), (count, 2), count))
    rows = np.arange(count)
    for entry, arms in enumerate(steps):
        response = responses(entry, counts, shares)
        counts[rows, arms] += 1
        sums[rows, arms] += response
        squares += response**2
    return Summaries(
        first=counts[:, 0],
        second=counts[:, 1],
        first_sum=sums[:, 0],
        second_sum=sums[:, 1],
        squares=squares,
        chance=np.full(count, 1 / count),
    )

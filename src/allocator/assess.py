"""What a design does over its first n entries: how well it balances, how much of it can be guessed. Exact. Pure.

Everything is summed over the states of `states`, never over sequences. Definitions, with their sources, stand in
docs/designs.md; the figures are exact but for the rounding of floating point (about 1e-12).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.design import RandomizationDesign
from allocator.method import DesignError
from allocator.methods import METHODS
from allocator.states import Chain, TooManyStates, drawn_chain, guessing_chain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ENTRIES = 20_000
MAX_TOGETHER = 3_000_000_000  # additions to put strata together
MAX_FOLLOWED = 1_500_000_000  # states, over all limits, on the way to the largest imbalance
_CHUNK = 64  # limits of the running imbalance tried at once
_NOTHING = 1e-12
_CERTAIN = 1 - 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The exact properties of one design.

    Attributes:
        n: entries assessed.
        correct_guesses: expected share of right guesses by somebody who knows the design and every past arm, guesses
            the most probable arm and splits ties evenly (Blackwell & Hodges 1957).
        blind_guess: the same for somebody who always names the arm with the largest expected count.
        certain: expected share of assignments that are fully determined for the first one.
        expected_final_imbalance: of the imbalance after n entries.
        expected_max_imbalance: of the largest on the way; None for several strata, whose order nobody knows, and
            where very many imbalances are possible.
        final_imbalance: (imbalance, probability), ascending.
        max_imbalance: the largest that can occur on the way; None for several strata.
        probability_balanced: of the smallest imbalance that the design gives after n entries.
        loss: expected share of the information on the differences between arms that imbalance costs.
        entropy_bits: of the sequence; None where too many states would be needed.
        sequences: how many sequences are possible; None as the entropy.
        log10_smallest_p: of the smallest p that a randomization test can reach, which tells apart only arms of
            unequal shares; p itself is never 0, but may be too small for a float.
    """

    n: int
    correct_guesses: float
    blind_guess: float
    certain: float
    expected_final_imbalance: float
    expected_max_imbalance: float | None
    final_imbalance: tuple[tuple[float, float], ...]
    max_imbalance: float | None
    probability_balanced: float
    loss: float
    entropy_bits: float | None
    sequences: int | None
    log10_smallest_p: float | None

    @property
    def excess_guesses(self) -> float:
        """What knowing the past adds to the blind guess."""
        return self.correct_guesses - self.blind_guess


def assess(design: RandomizationDesign, n: int) -> Assessment:
    """The exact properties over the first n entries of one stratum.

    Raises:
        DesignError: n is not between 1 and the length of the list, or the list was not drawn.
        TooManyStates: `simulate` is the way then.
    """
    return _assessed(design, n)[0]


def _assessed(design: RandomizationDesign, n: int) -> tuple[Assessment, FinalCounts]:
    check_entries(design, n)
    method = METHODS[design.method]
    drawn = drawn_chain(method, design, n)
    guessing = drawn if len(design.blocks) == 1 else guessing_chain(method, design, n)
    final = final_counts(drawn)
    balance = balance_of(final, design.shares)
    expected_max, largest = _running(drawn, design.shares)
    assessed = Assessment(
        n=n,
        **_guessed(guessing, n),
        **_sequences(guessing, design.shares),
        blind_guess=balance.blind_guess,
        expected_final_imbalance=balance.expected,
        expected_max_imbalance=expected_max,
        final_imbalance=balance.distribution,
        max_imbalance=largest,
        probability_balanced=balance.probability_balanced,
        loss=balance.loss,
    )
    return assessed, final


def assess_strata(design: RandomizationDesign, parts: Sequence[int]) -> tuple[list[Assessment], Assessment]:
    """Each stratum by the number of its participants, and the study as a whole; the lists are independent.

    Raises:
        DesignError, TooManyStates: as `assess`.
    """
    once = {n: _assessed(design, n) for n in sorted(set(parts))}
    each = [once[n][0] for n in parts]
    balance = balance_of(of_strata([once[n][1] for n in parts]), design.shares)
    n, alike = sum(parts), math.log10(_alike(design.shares))
    entropies = [part.entropy_bits for part in each if part.entropy_bits is not None]
    sequences = [part.sequences for part in each if part.sequences is not None]
    logs = [part.log10_smallest_p - alike for part in each if part.log10_smallest_p is not None]
    known = len(entropies) == len(each)
    return each, Assessment(
        n=n,
        correct_guesses=sum(part.correct_guesses * part.n for part in each) / n,
        blind_guess=balance.blind_guess,
        certain=sum(part.certain * part.n for part in each) / n,
        expected_final_imbalance=balance.expected,
        expected_max_imbalance=None,
        final_imbalance=balance.distribution,
        max_imbalance=None,
        probability_balanced=balance.probability_balanced,
        loss=balance.loss,
        entropy_bits=sum(entropies) if known else None,
        sequences=math.prod(sequences) if known else None,
        log10_smallest_p=min(0.0, sum(logs) + alike) if known else None,
    )


def check_entries(design: RandomizationDesign, n: int) -> None:
    """DesignError when these entries cannot be assessed."""
    if not 1 <= n <= design.length:
        raise DesignError("length", f"{n} entries of a list of {design.length} cannot be assessed")
    if n > MAX_ENTRIES:
        raise DesignError("length", f"{n} entries are too many to assess; give --enrollment up to {MAX_ENTRIES}")


# ---- balance -------------------------------------------------------------------------------------------------------

FinalCounts = Mapping[tuple[int, ...], float]  # counts by arm -> probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What comes of the counts at the end."""

    blind_guess: float
    expected: float
    distribution: tuple[tuple[float, float], ...]
    probability_balanced: float
    loss: float


def final_counts(drawn: Chain) -> FinalCounts:
    """The distribution of the counts after the last entry."""
    *_, last = drawn.reached()
    total: dict[tuple[int, ...], float] = {}
    for counts, chance in zip(map(tuple, drawn.counts[-1].tolist()), last.tolist(), strict=True):
        total[counts] = total.get(counts, 0.0) + chance
    return total


def of_strata(parts: Sequence[FinalCounts]) -> FinalCounts:
    """The counts of all strata together; their lists are independent.

    Raises:
        TooManyStates: with many arms and participants.
    """
    import numpy as np

    n, work = sum(sum(next(iter(part))) for part in parts), 0
    low = np.zeros(len(next(iter(parts[0]))) - 1, dtype=np.int64)  # of the counts of all arms but the last
    total = np.ones((1,) * len(low))
    for part in parts:
        counts = np.array(list(part))[:, :-1]
        least = counts.min(axis=0)
        shape = tuple(np.array(total.shape) + counts.max(axis=0) - least)
        work += len(part) * math.prod(shape)
        if work > MAX_TOGETHER:
            raise TooManyStates(f"more than {MAX_TOGETHER} pairs of counts")
        together = np.zeros(shape)
        for at, chance in zip(counts - least, part.values(), strict=True):
            together[tuple(slice(a, a + size) for a, size in zip(at, total.shape, strict=True))] += chance * total
        low, total = low + least, together
    found = np.argwhere(total > 0)
    chances = total[tuple(found.T)].tolist()
    return {(*row, n - sum(row)): chance for row, chance in zip((found + low).tolist(), chances, strict=True)}


def imbalance(counts: Sequence[int], shares: Sequence[int]) -> float:
    """Largest minus smallest of count ÷ share: for two equal arms the difference of their counts."""
    scaled = [count / share for count, share in zip(counts, shares, strict=True)]
    return max(scaled) - min(scaled)


def balance_of(final: FinalCounts, shares: Sequence[int]) -> Balance:
    """The figures of a distribution of final counts."""
    equal = len(set(shares)) == 1
    scale = shares[0] if equal else 1  # 2:2 is 1:1
    unit = [share / scale for share in shares] if equal else list(shares)
    by_value: dict[float, float] = {}
    for counts, chance in final.items():
        value = round(imbalance(counts, unit), 9)  # type: ignore[arg-type]
        by_value[value] = by_value.get(value, 0.0) + chance
    distribution = tuple(sorted(by_value.items()))
    n = sum(next(iter(final)))
    expected = [sum(chance * counts[arm] for counts, chance in final.items()) for arm in range(len(shares))]
    return Balance(
        blind_guess=max(expected) / n,
        expected=sum(value * chance for value, chance in distribution),
        distribution=distribution,
        probability_balanced=distribution[0][1],
        loss=sum(chance * _loss(counts, shares) for counts, chance in final.items()),
    )


def _loss(counts: Sequence[int], shares: Sequence[int]) -> float:
    """1 − planned ÷ actual variance, summed over arms (variance of a mean ∝ 1/n_k); for 1:1 it is D²/N².

    An empty arm leaves nothing to compare: all is lost.
    """
    if not all(counts):
        return 1.0
    n, whole = sum(counts), sum(shares)
    planned = sum(whole / (share * n) for share in shares)
    return 1 - planned / sum(1 / count for count in counts)


def _running(drawn: Chain, shares: Sequence[int]) -> tuple[float | None, float]:
    """Expected largest imbalance on the way, and the largest possible: E max = Σ over limits of P(max > limit).

    For each possible limit the chain is followed as long as it stays within; all limits of a chunk at once. Nothing is
    expected where there are too many limits: large unequal shares give almost every state one of its own.
    """
    import numpy as np

    scale = shares[0] if len(set(shares)) == 1 else 1
    scaled = [counts / (np.array(shares) / scale) for counts in drawn.counts]
    imbalances = [np.round(layer.max(axis=1) - layer.min(axis=1), 9) for layer in scaled]
    limits = np.unique(np.concatenate(imbalances))
    expected, largest = 0.0, float(limits[-1])
    each = _CHUNK * sum(map(len, drawn.counts))
    for start in range(0, len(limits) - 1, _CHUNK):
        if start // _CHUNK * each > MAX_FOLLOWED:
            return None, largest
        chunk = limits[start : start + _CHUNK]
        beyond = 1 - _within(drawn, imbalances, chunk)
        gaps = np.diff(limits[start : start + _CHUNK + 1])
        expected += float((beyond[: len(gaps)] * gaps).sum())
        if beyond[-1] < _NOTHING:
            break
    return expected, largest


def _within(
    drawn: Chain, imbalances: Sequence[NDArray[np.float64]], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each limit the probability that the imbalance never exceeds it, shape (limits,)."""
    import numpy as np

    here: NDArray[np.float64] = (imbalances[0] <= limits[:, None]).astype(np.float64)
    for step, values in zip(drawn.steps, imbalances[1:], strict=True):
        here = step.forward(here, len(values)) * (values <= limits[:, None])
    return np.asarray(here.sum(axis=1))


# ---- predictability ------------------------------------------------------------------------------------------------


def _guessed(guessing: Chain, n: int) -> dict[str, Any]:
    import numpy as np

    reached = list(guessing.reached())[:-1]
    starts = np.cumsum([0, *map(len, reached)])[:-1]
    source = np.concatenate([step.source + start for step, start in zip(guessing.steps, starts, strict=True)])
    chance = np.concatenate([step.chance for step in guessing.steps])
    here = np.concatenate(reached)
    best = np.zeros(len(here))
    np.maximum.at(best, source, chance)
    correct = float(here @ best)
    certain = float(here[best > _CERTAIN].sum())
    entropy = -float((here[source] * chance) @ np.log2(chance))
    return {
        "correct_guesses": correct / n,
        "certain": certain / n,
        "entropy_bits": abs(entropy) if guessing.whole else None,  # never -0.0
    }


def _sequences(guessing: Chain, shares: Sequence[int]) -> dict[str, Any]:
    """How many sequences are possible, and the least probable one, times the relabellings that leave the test alone.

    The statistic of a two-sided test does not change when arms of equal shares are exchanged; so at least that many
    sequences are as extreme as the observed one, and the least probable one gives the smallest p.
    """
    import numpy as np

    if not guessing.whole:
        return {"sequences": None, "log10_smallest_p": None}
    ways, least = [1] * len(guessing.counts[-1]), np.zeros(len(guessing.counts[-1]))
    for step, counts in zip(reversed(guessing.steps), reversed(guessing.counts[:-1]), strict=True):
        before, smallest = [0] * len(counts), np.full(len(counts), np.inf)
        for source, target in zip(step.source.tolist(), step.target.tolist(), strict=True):
            before[source] += ways[target]
        np.minimum.at(smallest, step.source, np.log(step.chance) + least[step.target])
        ways, least = before, smallest
    log10 = math.log10(_alike(shares)) + float(least[0]) / math.log(10)
    return {"sequences": ways[0], "log10_smallest_p": min(0.0, log10)}


def _alike(shares: Sequence[int]) -> int:
    """In how many ways arms of equal shares can be exchanged."""
    return math.prod(math.factorial(shares.count(share)) for share in set(shares))

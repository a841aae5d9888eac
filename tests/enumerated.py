"""Properties of a design by enumerating its sequences: slow, plain, and written apart from `allocator.assess`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

Law = dict[tuple[int, ...], Fraction]  # sequence of arms -> probability
Next = Callable[[tuple[int, ...]], Sequence[Fraction]]  # past -> probability of each arm


def law_of(following: Next, n: int) -> Law:
    """Every sequence of n assignments, by the probability of each next arm after a past."""
    law: Law = {(): Fraction(1)}
    for _ in range(n):
        law = {
            (*past, arm): chance * share
            for past, chance in law.items()
            for arm, share in enumerate(following(past))
            if share
        }
    return law


def law_of_blocks(sizes: Iterable[Sequence[int]], block: Callable[[int], Law], n: int) -> Law:
    """Blocks after one another by equally likely plans of sizes, each plan at least n long, cut at n."""
    plans = list(sizes)
    law: Law = {}
    for plan in plans:
        for blocks in itertools.product(*(block(size).items() for size in plan)):
            sequence = tuple(itertools.chain.from_iterable(arms for arms, _ in blocks))[:n]
            chance = math.prod((share for _, share in blocks), start=Fraction(1, len(plans)))
            law[sequence] = law.get(sequence, Fraction(0)) + chance
    return law


def uniform(sequences: Iterable[tuple[int, ...]]) -> Law:
    """All equally likely."""
    listed = sorted(set(sequences))
    return dict.fromkeys(listed, Fraction(1, len(listed)))


def marginal(law: Law, n: int) -> Law:
    """The law of the first n assignments."""
    shorter: Law = {}
    for sequence, chance in law.items():
        shorter[sequence[:n]] = shorter.get(sequence[:n], Fraction(0)) + chance
    return shorter


def differences(sequence: Sequence[int], shares: Sequence[int]) -> list[Fraction]:
    """Largest minus smallest count ÷ share after each assignment."""
    counts, found = [0] * len(shares), []
    for arm in sequence:
        counts[arm] += 1
        scaled = [Fraction(count, share) for count, share in zip(counts, shares, strict=True)]
        found.append(max(scaled) - min(scaled))
    return found


def properties(law: Law, shares: Sequence[int]) -> dict[str, float | int]:
    """The same names as `allocator.assess.Assessment`, where a definition by sequences is as plain as this."""
    n, arms = len(next(iter(law))), len(shares)
    prefixes = [marginal(law, length) for length in range(n + 1)]
    correct = certain = Fraction(0)
    for before, after in itertools.pairwise(prefixes):
        for past, chance in before.items():
            shares_next = [after.get((*past, arm), Fraction(0)) / chance for arm in range(arms)]
            correct += chance * max(shares_next)
            certain += chance * (max(shares_next) == 1)
    walks = {sequence: differences(sequence, shares) for sequence in law}
    final = {sequence: walk[-1] for sequence, walk in walks.items()}
    expected = [sum(chance * sequence.count(arm) for sequence, chance in law.items()) for arm in range(arms)]
    alike = math.prod(math.factorial(list(shares).count(share)) for share in set(shares))
    return {
        "correct_guesses": float(correct / n),
        "certain": float(certain / n),
        "blind_guess": float(max(expected) / n),
        "expected_final_imbalance": float(sum(chance * final[s] for s, chance in law.items())),
        "expected_max_imbalance": float(sum(chance * max(walks[s]) for s, chance in law.items())),
        "max_imbalance": float(max(max(walk) for walk in walks.values())),
        "probability_balanced": float(sum(chance for s, chance in law.items() if final[s] == min(final.values()))),
        "entropy_bits": -sum(float(chance) * math.log2(chance) for chance in law.values()),
        "sequences": len(law),
        "log10_smallest_p": min(0.0, math.log10(alike * min(law.values()))),
        "loss": float(sum(chance * _loss(s, shares) for s, chance in law.items())),
    }


def _loss(sequence: Sequence[int], shares: Sequence[int]) -> Fraction:
    counts = [sequence.count(arm) for arm in range(len(shares))]
    if 0 in counts:
        return Fraction(1)
    planned = sum(Fraction(sum(shares), share * len(sequence)) for share in shares)
    return 1 - planned / sum(Fraction(1, count) for count in counts)

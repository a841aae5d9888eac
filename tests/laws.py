"""The law of each method over all lists of one length, from the words of its paper, with balls, coins and sets.

Nothing here calls the package: `tests/test_methods.py` holds the drawn lists against it. A law maps every list that can
come (a tuple of arm indices) to its exact probability.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

List = tuple[int, ...]
Law = dict[List, Fraction]
HALF = Fraction(1, 2)


def by_steps(arms: int, length: int, step: Callable[[List], Sequence[Fraction]]) -> Law:
    """The law of a list whose next arm has probabilities `step(arms so far)`."""
    law: Law = {(): Fraction(1)}
    for _ in range(length):
        law = {
            (*past, arm): so_far * chance
            for past, so_far in law.items()
            for arm, chance in zip(range(arms), step(past), strict=True)
            if chance
        }
    return law


def uniform(lists: set[List]) -> Law:
    """Each of them equally likely."""
    return {one: Fraction(1, len(lists)) for one in lists}


def lead(past: List) -> int:
    """By how many the first of two arms leads."""
    return past.count(0) - past.count(1)


def greatest_lead(one: List) -> int:
    """The largest difference of two arms at any time."""
    return max(abs(lead(one[:end])) for end in range(len(one) + 1))


def complete(shares: Sequence[int], length: int) -> Law:
    """Independent, by the ratio (Rosenberger & Lachin 2016, §3.2)."""
    chances = [Fraction(share, sum(shares)) for share in shares]
    return by_steps(len(shares), length, lambda _: chances)


def arrangements(shares: Sequence[int], size: int) -> set[List]:
    """Every different order of a block that honours the ratio."""
    block = [arm for arm, share in enumerate(shares) for _ in range(share * size // sum(shares))]
    found: set[List] = {()}
    for _ in range(size):
        found = {(*past, arm) for past in found for arm in set(block) if past.count(arm) < block.count(arm)}
    return found


def random_allocation_rule(shares: Sequence[int], length: int) -> Law:
    """Every list with exactly these counts equally likely (Lachin 1988)."""
    return uniform(arrangements(shares, length))


def in_blocks(blocks: dict[int, Law], length: int) -> Law:
    """Blocks of sizes drawn with equal chances, each by the law of its size; cut at `length`."""
    law: Law = {(): Fraction(1)}
    while any(len(one) < length for one in law):
        longer: Counter[List] = Counter()
        for past, so_far in law.items():
            if len(past) >= length:
                longer[past] += so_far  # type: ignore[assignment]
                continue
            for of_size in blocks.values():
                for block, chance in of_size.items():
                    longer[(*past, *block)[:length]] += so_far * chance / len(blocks)  # type: ignore[assignment]
        law = dict(longer)  # type: ignore[arg-type]
    return law


def permuted_block(shares: Sequence[int], sizes: Sequence[int], length: int) -> Law:
    """Every order of each block equally likely (Zelen 1974)."""
    return in_blocks({size: uniform(arrangements(shares, size)) for size in sizes}, length)


def big_stick(limit: int, length: int) -> Law:
    """2^-(tosses): a coin is tossed at every step that does not start at the limit (Soares & Wu 1983)."""
    allowed = {one for one in itertools.product((0, 1), repeat=length) if greatest_lead(one) <= limit}
    return {one: HALF ** sum(abs(lead(one[:n])) < limit for n in range(length)) for one in allowed}


def biased_coin(probability: Fraction, length: int, limit: int | None = None) -> Law:
    """The arm behind with `probability`, 1/2 on a tie (Efron 1971); with certainty at the limit (Chen 1999)."""

    def chances(past: List) -> tuple[Fraction, Fraction]:
        ahead = lead(past)
        if ahead == 0:
            return HALF, HALF
        behind = Fraction(1) if limit and abs(ahead) >= limit else probability
        return (1 - behind, behind) if ahead > 0 else (behind, 1 - behind)

    return by_steps(2, length, chances)


def urn(arms: int, alpha: int, beta: int, length: int) -> Law:
    """With balls: one is drawn and put back, and `beta` of every other colour are added (Wei 1978)."""

    def chances(past: List) -> list[Fraction]:
        balls = [arm for arm in range(arms) for _ in range(alpha)]
        for drawn in past:
            balls += [arm for arm in range(arms) if arm != drawn for _ in range(beta)]
        return [Fraction(balls.count(arm), len(balls)) if balls else Fraction(1, arms) for arm in range(arms)]

    return by_steps(arms, length, chances)


def truncated_binomial(length: int) -> Law:
    """2^-(tosses): a coin is tossed until one arm has its half (Blackwell & Hodges 1957)."""
    half = length // 2
    balanced = {one for one in itertools.product((0, 1), repeat=length) if sum(one) == half}
    return {
        one: HALF ** sum(one[:n].count(0) < half and one[:n].count(1) < half for n in range(length)) for one in balanced
    }


def maximal_procedure(limit: int, length: int) -> Law:
    """Every list that stays within the limit and ends balanced equally likely (Berger, Ivanova & Knoll 2003)."""
    every = itertools.product((0, 1), repeat=length)
    return uniform({one for one in every if greatest_lead(one) <= limit and lead(one) == 0})


def block_urn(shares: Sequence[int], sets: int, length: int) -> Law:
    """With balls and two urns: what is drawn lies aside until a balanced set is whole, then the set goes back.

    Zhao & Weng 2011, the two urns of section 2.
    """
    arms = range(len(shares))

    def chances(past: List) -> list[Fraction]:
        active = Counter({arm: shares[arm] * sets for arm in arms})
        aside: Counter[int] = Counter()
        for drawn in past:
            active[drawn] -= 1
            aside[drawn] += 1
            if all(aside[arm] >= shares[arm] for arm in arms):
                for arm in arms:
                    aside[arm] -= shares[arm]
                    active[arm] += shares[arm]
        return [Fraction(active[arm], active.total()) for arm in arms]

    return by_steps(len(shares), length, chances)


def counts_before(drawn: Sequence[int], arm_count: int) -> Iterator[tuple[int, ...]]:
    """How often each arm came before each entry, and at the end."""
    counts = [0] * arm_count
    yield tuple(counts)
    for arm in drawn:
        counts[arm] += 1
        yield tuple(counts)


def within_the_block_urn(shares: Sequence[int], sets: int, counts: Sequence[int]) -> bool:
    """No arm is more than `sets` balanced sets ahead of the sets that are whole (Zhao & Weng 2011, section 2)."""
    whole = min(count // share for count, share in zip(counts, shares, strict=True))
    return all(count <= share * (whole + sets) for count, share in zip(counts, shares, strict=True))


def figures(law: Law) -> tuple[Fraction, Fraction, Fraction]:
    """Of a law of 1:1: share of right guesses of the arm behind, E|D_N|, E max|D| (reference cases at N = 8)."""
    length = len(next(iter(law)))
    right, final, greatest = Fraction(0), Fraction(0), Fraction(0)
    for one, chance in law.items():
        right += chance * sum(map(_guessed, _prefixes(one), one))
        final += chance * abs(lead(one))
        greatest += chance * greatest_lead(one)
    return right / length, final, greatest


def _prefixes(one: List) -> Iterator[List]:
    return (one[:n] for n in range(len(one)))


def _guessed(past: List, arm: int) -> Fraction:
    ahead = lead(past)
    return HALF if ahead == 0 else Fraction(int((ahead > 0) == (arm == 1)))

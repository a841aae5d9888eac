"""How much of a list somebody can guess who sees every past assignment: exact, by counting, never by simulation. Pure.

The guess is the arm with most places left in the current block; on a tie the chance is shared. For 1:1 lists that
is the arm that is behind, whatever the block sizes (Blackwell & Hodges 1957, for a single size).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

MAX_STATES = 20_000  # of one step of one block; beyond it a figure is not worth its time
MAX_LENGTH = 1_000  # of a list whose figures are computed


def guess_share(shares: Sequence[int], sizes: Sequence[int], length: int) -> Fraction | None:
    """Expected share of right guesses in a list of permuted blocks, sizes drawn uniformly, the last block cut.

    For two equal shares nothing but the past assignments is needed for it. For other ratios the guesser also knows
    each block's size, so that the figure is the most anybody can reach.

    Args:
        shares: the ratio, whole numbers of at least 1, by arm.
        sizes: the block sizes, each a multiple of the ratio's sum.
        length: number of assignments that are guessed.

    Returns:
        The share, between 0 and 1; None when it would take too long (MAX_STATES, MAX_LENGTH).
    """
    if not 1 <= length <= MAX_LENGTH:
        return None
    in_block = [_right_in_block(shares, size, length) for size in sizes]
    right = [Fraction(0)]
    for n in range(1, length + 1):
        total = Fraction(0)
        for size, expected in zip(sizes, in_block, strict=True):
            if expected is None:
                return None
            used = min(size, n)
            total += expected[used] + right[n - used]
        right.append(total / len(sizes))
    return right[length] / length


def _right_in_block(shares: Sequence[int], size: int, length: int) -> list[Fraction] | None:
    """Expected right guesses among the first 0, 1, 2, … assignments of one block."""
    repeats = size // sum(shares)
    ways: dict[tuple[int, ...], int] = {tuple(sorted(share * repeats for share in shares)): 1}
    expected = [Fraction(0)]
    for left in range(size, max(size - length, 0), -1):
        if len(ways) > MAX_STATES:
            return None
        weight = sum(ways.values())
        expected.append(expected[-1] + Fraction(sum(n * max(rest) for rest, n in ways.items()), weight * left))
        following: dict[tuple[int, ...], int] = defaultdict(int)
        for rest, n in ways.items():
            for arm, count in enumerate(rest):
                if count:
                    following[tuple(sorted((*rest[:arm], count - 1, *rest[arm + 1 :])))] += n * count
        ways = following
    return expected


def big_stick_share(limit: int, length: int) -> Fraction:
    """The same share for the big stick design, two equal arms: a fair coin until one arm leads by `limit`."""
    leads = {0: Fraction(1)}
    right = Fraction(0)
    for _ in range(length):
        following: dict[int, Fraction] = defaultdict(Fraction)
        for lead, chance in leads.items():
            if lead == limit:
                right += chance
                following[lead - 1] += chance
            else:
                right += chance / 2
                following[lead + 1] += chance / (1 if lead == 0 else 2)
                if lead:
                    following[lead - 1] += chance / 2
        leads = following
    return right / length


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

"""Every list that can come, counted at fixed public seeds, against its exact probability (chi-square).

Seeds are public and fixed: a run gives the same counts always, so nothing is tried until it passes. All tests together
reject a right generator with probability 0.1 % at most (`ALPHA`, shared out evenly: Bonferroni). What each would find
with 99 % power is computed here (`effect_found`) and stands as a table in docs/generator.md: an effect of w means that
the probabilities of the lists are off by w times themselves, as a root mean square weighted by how often they come
(Cohen 1988, chapter 7). The tests are tested too: four generators with faults that programs have had are rejected.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

import laws
from allocator.design import RandomizationDesign
from allocator.keystream import draw_below, stream_key, words
from allocator.methods import METHODS, draw_by_weights, draw_stratum
from allocator.permuted_block import FAST_FROM, block_of, draw_sequence
from test_methods import ODDS, PAGE, arms, called, designed

ALPHA = 0.001  # for all tests of this file together
POWER = 0.99
DRAWN = 10_000  # lists of each design with each seed
VECTORISED = 100_000  # the same, where drawing is fast
PAIRS = 2_000  # the same, of two lists beside each other
SEEDS = [hashlib.sha256(f"allocator, public seed {number}".encode("ascii")).digest() for number in (1, 2, 3)]

Counts = Counter[laws.List]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is counted, its law, and how one counts with one seed."""

    name: str
    law: laws.Law
    count: Callable[[bytes], Counts]
    drawn: int = DRAWN

    @property
    def total(self) -> int:
        """Lists drawn with all seeds."""
        return self.drawn * len(SEEDS)


def one_after_another(how: RandomizationDesign) -> Callable[[bytes], Counts]:
    """Lists drawn one after another from one stratum's streams."""

    def count(prk: bytes) -> Counts:
        sizes, draws, shuffles = (words(stream_key(prk, purpose, "{}")) for purpose in ("size", "draw", "shuffle"))
        if how.method == "permuted-block":
            shares, block_sizes, length = how.shares, how.block_sizes, how.length
            lists = (draw_sequence(shares, block_sizes, length, sizes, shuffles) for _ in range(DRAWN))
        else:
            lists = (draw_by_weights(METHODS[how.method], how, sizes, draws) for _ in range(DRAWN))
        return Counter(map(tuple, lists))

    return count


def vectorised(shares: Sequence[int], size: int) -> Callable[[bytes], Counts]:
    """Blocks of one list that is long enough for the fast way."""
    assert VECTORISED * size >= FAST_FROM

    def count(prk: bytes) -> Counts:
        how = designed("permuted-block", VECTORISED * size, arms(*shares), block_sizes=(size,))
        blocks = np.frombuffer(draw_stratum(how.method, how, prk, "{}", 0), dtype=np.uint8).reshape(-1, size)
        found, times = np.unique(blocks, axis=0, return_counts=True)
        return Counter({tuple(block): int(n) for block, n in zip(found.tolist(), times, strict=True)})

    return count


def beside_each_other(how: RandomizationDesign) -> Callable[[bytes], Counts]:
    """The lists of two strata of one seed, side by side: as often as two lists that know nothing of each other."""

    def count(prk: bytes) -> Counts:
        pairs = (
            [draw_stratum(how.method, how, prk, f'{{"site":"{number}","sex":"{sex}"}}', 0) for sex in "FM"]
            for number in range(PAIRS)
        )
        return Counter((*first, *second) for first, second in pairs)

    return count


def two_of(law: laws.Law) -> laws.Law:
    """The law of two independent lists."""
    return {(*a, *b): law[a] * law[b] for a, b in itertools.product(law, law)}


THREE_FIFTHS = Fraction(3, 5)
DESIGNS = [
    (designed("complete", 6), laws.complete((1, 1), 6)),
    (designed("complete", 3, arms(2, 1, 3)), laws.complete((2, 1, 3), 3)),
    (designed("random-allocation-rule", 8), laws.random_allocation_rule((1, 1), 8)),
    (designed("random-allocation-rule", 4, arms(2, 1, 1)), laws.random_allocation_rule((2, 1, 1), 4)),
    (designed("permuted-block", 8, block_sizes=(4,)), laws.permuted_block((1, 1), (4,), 8)),
    (designed("permuted-block", 7, block_sizes=(2, 4)), laws.permuted_block((1, 1), (2, 4), 7)),
    (designed("permuted-block", 6, arms(1, 1, 1), block_sizes=(6,)), laws.permuted_block((1, 1, 1), (6,), 6)),
    (designed("big-stick", 7, limit=2), laws.big_stick(2, 7)),
    (designed("biased-coin", 6, probability=ODDS), laws.biased_coin(ODDS, 6)),
    (designed("biased-coin", 6, probability=THREE_FIFTHS), laws.biased_coin(THREE_FIFTHS, 6)),
    (designed("chen", 7, limit=2, probability=ODDS), laws.biased_coin(ODDS, 7, limit=2)),
    (designed("urn", 6, alpha=1, beta=1), laws.urn(2, 1, 1, 6)),
    (designed("urn", 4, arms(1, 1, 1), alpha=0, beta=1), laws.urn(3, 0, 1, 4)),
    (designed("truncated-binomial", 8), laws.truncated_binomial(8)),
    (designed("maximal-procedure", 8, limit=2), laws.maximal_procedure(2, 8)),
    (designed("maximal-procedure", 8, limit=3), laws.maximal_procedure(3, 8)),
    (designed("block-urn", 6, arms(2, 1), lambda_=2), laws.block_urn((2, 1), 2, 6)),
]


SAMPLES = [
    *(Sample(name=called(how), law=law, count=one_after_another(how)) for how, law in DESIGNS),
    *(
        Sample(
            name=f"permuted-block, vectorised, {':'.join(map(str, shares))}, one block of {size}",
            law=laws.uniform(laws.arrangements(shares, size)),
            count=vectorised(shares, size),
            drawn=VECTORISED,
        )
        for shares, size in (((1, 1), 8), ((2, 1, 1), 4))
    ),
    *(
        Sample(name=f"two strata, {called(how)}", law=two_of(law), count=beside_each_other(how), drawn=PAIRS)
        for how, law in (
            (designed("permuted-block", 4, block_sizes=(4,)), laws.permuted_block((1, 1), (4,), 4)),
            (designed("complete", 3), laws.complete((1, 1), 3)),
        )
    ),
]
EACH = ALPHA / len(SAMPLES)  # Bonferroni


def p_value(counts: Counts, law: laws.Law) -> float:
    """Pearson's chi-square of the lists that came against their probabilities; 0 where an impossible one came."""
    if not set(counts) <= set(law):
        return 0.0
    drawn = counts.total()
    expected = np.array([float(chance) * drawn for chance in law.values()])
    assert expected.min() >= 5  # Cochran 1954: below it the chi-square law is no good approximation
    observed = np.array([counts[one] for one in law])
    return float(stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), len(law) - 1))


def effect_found(cells: int, drawn: int, alpha: float = EACH, power: float = POWER) -> float:
    """The effect w that a chi-square test over so many cells finds with this power (noncentral chi-square)."""
    degrees = cells - 1
    critical = stats.chi2.isf(alpha, degrees)
    noncentral = optimize.brentq(lambda nc: stats.ncx2.sf(critical, degrees, nc) - power, 1e-6, 10_000)
    return float((noncentral / drawn) ** 0.5)


def coin_found(effect: float, length: int) -> float:
    """A coin that falls on one side with this probability makes lists of `length` tosses off by `effect`.

    With probability 1/2 + d at each toss, 1 + w² = (1 + 4 d²)^length.
    """
    return float(0.5 + (((1 + effect**2) ** (1 / length) - 1) / 4) ** 0.5)


def power_table() -> str:
    """For docs/generator.md."""
    rows = [
        f"| {sample.name} | {len(sample.law)} | {sample.total:,} | {effect_found(len(sample.law), sample.total):.3f} |"
        for sample in SAMPLES
    ]
    return "\n".join(["| counted | lists that can come | drawn | w found with 99 % |", "|---|---|---|---|", *rows])


@pytest.mark.requirement("G02")
@pytest.mark.requirement("G04")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_lists_come_as_often_as_they_must(sample: Sample) -> None:
    counts: Counts = sum(map(sample.count, SEEDS), Counter())
    assert counts.total() == sample.total
    assert p_value(counts, sample.law) > EACH


def test_every_method_that_draws_is_counted() -> None:
    assert {how.method for how, _ in DESIGNS} == set(METHODS) - {"imported-list"}


# ---- what the tests find --------------------------------------------------------------------------------------------


def test_the_table_of_effects_is_on_the_page() -> None:
    table = power_table()
    assert table in PAGE.read_text(encoding="utf-8"), f"put this table into docs/generator.md:\n{table}"


def test_the_page_names_the_coin_that_would_be_found() -> None:
    coin = coin_found(effect_found(64, DRAWN * len(SEEDS)), 6)
    assert f"a coin that falls on one side {100 * coin:.1f} % of the time" in PAGE.read_text(encoding="utf-8")


def test_the_effect_is_found_as_often_as_said() -> None:
    """By simulation of the counts alone, with the smallest coin that is said to be found: 99 % of 400, give or take."""
    law = laws.complete((1, 1), 6)
    drawn = DRAWN * len(SEEDS)
    coin = coin_found(effect_found(len(law), drawn), 6)
    chances = [coin ** one.count(0) * (1 - coin) ** one.count(1) for one in law]
    simulated = np.random.default_rng(1).multinomial(drawn, chances, size=400)
    found = sum(p_value(Counter(dict(zip(law, map(int, row), strict=True))), law) <= EACH for row in simulated)
    assert 388 <= found <= 400


def naive_shuffle(block: list[int], draws: Iterator[int]) -> list[int]:
    """Each place exchanged with any place: n^n ways on n! orders."""
    mixed = list(block)
    for place in range(len(mixed)):
        other = draw_below(draws, len(mixed))
        mixed[place], mixed[other] = mixed[other], mixed[place]
    return mixed


def short_range_shuffle(block: list[int], draws: Iterator[int]) -> list[int]:
    """An integer range whose maximum never comes (Sattolo's algorithm: every element moves)."""
    mixed = list(block)
    for last in range(len(mixed) - 1, 0, -1):
        other = draw_below(draws, last)
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


def one_pass_less(block: list[int], draws: Iterator[int]) -> list[int]:
    """Fisher-Yates that stops before the last exchange."""
    mixed = list(block)
    for last in range(len(mixed) - 1, 1, -1):
        other = draw_below(draws, last + 1)
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


def modulo_of_four_bits(block: list[int], draws: Iterator[int]) -> list[int]:
    """Integers by remainder, no word redrawn, from words too short."""
    mixed = list(block)
    for last in range(len(mixed) - 1, 0, -1):
        other = next(draws) % 16 % (last + 1)
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


@pytest.mark.parametrize("shuffled", [naive_shuffle, short_range_shuffle, one_pass_less, modulo_of_four_bits])
def test_faults_that_programs_have_had_are_found(shuffled: Callable[[list[int], Iterator[int]], list[int]]) -> None:
    counts: Counts = Counter()
    for prk in SEEDS:
        draws = words(stream_key(prk, "shuffle", "{}"))
        counts.update(tuple(shuffled(block_of((1, 1, 1), 3), draws)) for _ in range(DRAWN))
    assert p_value(counts, laws.uniform(laws.arrangements((1, 1, 1), 3))) <= EACH

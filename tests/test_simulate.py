"""Simulated sequences have the law of the generator: exact frequencies, rows by the same words, known figures."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2

from allocator.canonical import tag
from allocator.keystream import draw_below, keystream_bytes, stream_key
from allocator.maximal_procedure import ways_on
from allocator.method import Parameters
from allocator.methods import METHODS, draw_by_weights
from allocator.simulate import draw_many, simulated
from allocator.transitions import Transitions

PAIR = (("A", 1), ("B", 1))
THREE = (("A", 1), ("B", 1), ("C", 1))
UNEQUAL = (("A", 2), ("B", 1))
TWO_THIRDS = Fraction(2, 3)
DESIGNS = [
    ("permuted-block", Parameters(length=6, ratio=PAIR, block_sizes=(4,))),
    ("permuted-block", Parameters(length=6, ratio=PAIR, block_sizes=(2, 4, 6))),
    ("permuted-block", Parameters(length=20, ratio=UNEQUAL, block_sizes=(3, 6))),
    ("permuted-block", Parameters(length=6, ratio=THREE, block_sizes=(3,))),
    ("complete", Parameters(length=6, ratio=PAIR)),
    ("complete", Parameters(length=9, ratio=(("A", 2), ("B", 1), ("C", 1)))),
    ("random-allocation-rule", Parameters(length=6, ratio=PAIR)),
    ("random-allocation-rule", Parameters(length=9, ratio=THREE)),
    ("big-stick", Parameters(length=6, ratio=PAIR, limit=2)),
    ("biased-coin", Parameters(length=6, ratio=PAIR, probability=TWO_THIRDS)),
    ("urn", Parameters(length=6, ratio=PAIR, alpha=0, beta=1)),
    ("urn", Parameters(length=6, ratio=THREE, alpha=1, beta=2)),
    ("truncated-binomial", Parameters(length=8, ratio=PAIR)),
    ("truncated-binomial", Parameters(length=6, ratio=PAIR, block_sizes=(2, 4))),
    ("chen", Parameters(length=6, ratio=PAIR, limit=2, probability=TWO_THIRDS)),
    ("maximal-procedure", Parameters(length=8, ratio=PAIR, limit=2)),
    ("block-urn", Parameters(length=6, ratio=UNEQUAL, lambda_=2)),
    ("block-urn", Parameters(length=6, ratio=(("A", 1), ("B", 2), ("C", 1)), lambda_=2)),
]
NAMED = [pytest.param(name, given, id=f"{name}-{index}") for index, (name, given) in enumerate(DESIGNS)]


def law(name: str, given: Parameters, n: int) -> dict[tuple[int, ...], Fraction]:
    """The exact probability of every sequence of n entries, by the definition and nothing else."""
    found: dict[tuple[int, ...], Fraction] = {}
    weights = {size: METHODS[name].weights(given, size) for size in given.blocks}

    def go(sequence: tuple[int, ...], block: list[int], size: int, chance: Fraction) -> None:
        if len(sequence) == n:
            found[sequence] = found.get(sequence, Fraction(0)) + chance
            return
        if sum(block) == size:
            for other in given.blocks:
                go(sequence, [0] * len(block), other, chance / len(given.blocks))
            return
        weighed = weights[size](block)
        for arm, weight in enumerate(weighed):
            if weight:
                after = [count + (arm == other) for other, count in enumerate(block)]
                go((*sequence, arm), after, size, chance * weight / sum(weighed))

    go((), [0] * len(given.ratio), 0, Fraction(1))
    return found


def fits(observed: np.ndarray, expected: dict[tuple[int, ...], Fraction]) -> bool:
    """Chi-square at one in 10,000 for rows against a law; no row may be impossible."""
    rows, counts = np.unique(observed, axis=0, return_counts=True)
    seen = dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True))
    assert set(seen) <= set(expected)
    means = {sequence: float(chance) * len(observed) for sequence, chance in expected.items()}
    statistic = sum((seen.get(sequence, 0) - mean) ** 2 / mean for sequence, mean in means.items())
    return bool(statistic < chi2.isf(1e-4, len(means) - 1))


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("name, given", NAMED)
def test_every_sequence_of_six_comes_as_often_as_its_chance_says(name: str, given: Parameters) -> None:
    expected = law(name, given, 6)
    assert sum(expected.values()) == 1
    assert fits(draw_many(name, given, 30_000, 6, b"law"), expected)


def test_the_chi_square_sees_a_wrong_law() -> None:
    coin = law("biased-coin", Parameters(length=6, ratio=PAIR, probability=TWO_THIRDS), 6)
    near = Parameters(length=6, ratio=PAIR, probability=Fraction(7, 10))
    assert not fits(draw_many("biased-coin", near, 30_000, 6, b"law"), coin)


def own_word(purpose: str, row: int, count: int, step: int) -> int:
    """The word of one sequence at one step, as the module says: word t × count + i is for sequence i at step t."""
    key = stream_key(hashlib.sha256(tag("simulation") + b"rows").digest(), purpose, "step")
    return int.from_bytes(keystream_bytes(key, 4 * (step * count + row), 4), "big")


def size_words(given: Parameters, row: int, count: int) -> Iterator[int]:
    """Those of the steps at which a block begins."""
    step = 0
    while True:
        word = own_word("size", row, count, step)
        yield word
        step += given.block_sizes[word % len(given.block_sizes)]


@pytest.mark.requirement("G01")
@pytest.mark.parametrize("name, given", NAMED)
def test_a_row_is_what_the_generator_draws_from_the_same_words(name: str, given: Parameters) -> None:
    n, count = given.length, 20
    drawn = draw_many(name, given, count, n, b"rows")
    assert drawn.shape == (count, n) and drawn.dtype == np.uint8
    for row in (0, 7, 19):
        draws = (own_word("draw", row, count, step) for step in range(n + 6))
        assert draw_by_weights(METHODS[name], given, size_words(given, row, count), draws) == drawn[row].tobytes()


def test_words_of_the_incomplete_last_run_are_drawn_again_from_the_spare_stream() -> None:
    given = Parameters(length=6, ratio=THREE, alpha=1, beta=0)
    table = Transitions(METHODS["urn"], given)
    top = 2**32 - 1  # 2^32 mod 3 is 1: this word is the incomplete last run
    states = np.full(5, table.roots[0])
    table.expand(states)
    drawn = table.draw(states, np.array([4, top, 5, top, top - 1], dtype=np.uint32), iter([top, 8, 6, 9]))
    assert drawn.tolist() == [1, 2, 2, 0, 2]
    assert draw_below(iter([top, 8]), 3) == 2


def test_weights_beyond_a_word_keep_their_law() -> None:
    given = Parameters(length=40, ratio=PAIR, limit=3)  # 2^32 ways and more at the start
    drawn = draw_many("maximal-procedure", given, 4_000, 40, b"law")
    leads = np.cumsum(1 - 2 * drawn.astype(int), axis=1)
    assert np.abs(leads).max() == 3 and not leads[:, -1].any()
    ways = ways_on(40, 3)
    assert ways[40][0] >= 2**32
    expected = {}
    for start in itertools.product((0, 1), repeat=4):
        lead = abs(4 - 2 * sum(start))
        if lead <= 3:
            expected[start] = Fraction(ways[36][lead], ways[40][0])
    assert fits(drawn[:, :4], expected)


def test_a_word_on_the_bound_between_two_arms_is_settled_exactly() -> None:
    given = Parameters(length=40, ratio=PAIR, limit=3)
    weighed = METHODS["maximal-procedure"].weights(given, 40)([1, 0])
    table = Transitions(METHODS["maximal-procedure"], given)
    states = np.full(1, table.roots[0])
    table.expand(states)
    states = table.after(states, np.zeros(1, dtype=np.intp))
    table.expand(states)
    whole = sum(weighed)
    assert whole >= 2**32
    bound, left = divmod(weighed[0] * 2**32, whole)
    for word, spare, arm in [(bound - 1, [], 0), (bound + 1, [], 1), (bound, [left - 1], 0), (bound, [left], 1)]:
        two_words = iter([part for value in spare for part in divmod(value, 2**32)])
        assert table.draw(states, np.array([word], dtype=np.uint32), two_words).tolist() == [arm]


@pytest.mark.requirement("G04")
def test_a_part_of_a_list_is_the_start_of_the_whole() -> None:
    for name, given in DESIGNS:
        whole = draw_many(name, given, 50, given.length, b"x")
        assert np.array_equal(draw_many(name, given, 50, 3, b"x"), whole[:, :3]), name


def test_another_seed_gives_other_sequences() -> None:
    given = Parameters(length=40, ratio=PAIR)
    one, other = (draw_many("complete", given, 20, 40, seed) for seed in (b"1", b"2"))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("count, n", [(0, 5), (5, 0), (5, 11)])
def test_what_cannot_be_drawn_is_misuse(count: int, n: int) -> None:
    with pytest.raises(RuntimeError, match="cannot come from lists of 10"):
        draw_many("complete", Parameters(length=10, ratio=PAIR), count, n, b"")


def near(estimate: object, exact: float) -> bool:
    """Within four standard errors, and exactly where there is no error."""
    return abs(estimate.value - exact) <= 4 * estimate.standard_error + 1e-9  # type: ignore[attr-defined]


# reference figures over the full set of sequences at N = 8 (randomizeR 3.0.2): share, E|D_N|, E max|D|
AT_EIGHT = [
    ("complete", {}, 0.5, 2.1875, 3.1171875),
    ("random-allocation-rule", {}, 0.6660714286, 0, 2.0285714286),
    ("permuted-block", {"block_sizes": (4,)}, 0.7083333333, 0, 1.5555555556),
    ("big-stick", {"limit": 2}, 0.59375, 1, 1.9375),
    ("big-stick", {"limit": 3}, 0.5556640625, 1.328125, 2.515625),
    ("biased-coin", {"probability": TWO_THIRDS}, 0.6079389575, 1.0919067215, 2.2597165066),
    ("maximal-procedure", {"limit": 2}, 0.6875, 0, 1.7037037037),
    ("chen", {"limit": 3, "probability": TWO_THIRDS}, 0.6237711477, 0.8550525834, 2.1001371742),
    ("truncated-binomial", {"block_sizes": (4,)}, 0.6875, 0, 1.75),
    ("truncated-binomial", {}, 0.63671875, 0, 2.4375),
    ("urn", {"alpha": 1, "beta": 1}, 0.5865465168, 1.3112874780, 2.3392085538),
]


@pytest.mark.requirement("P02")
@pytest.mark.parametrize("name, taken, share, final, most", AT_EIGHT, ids=lambda value: str(value)[:20])
def test_known_figures_at_eight(name: str, taken: dict[str, object], share: float, final: float, most: float) -> None:
    found = simulated(name, Parameters(length=8, ratio=PAIR, **taken), 8)  # type: ignore[arg-type]
    assert near(found.guesses, share) and near(found.final_imbalance, final) and near(found.max_imbalance, most)
    assert not found.guesses.exact and found.guesses.count == 10_000


@pytest.mark.parametrize(
    "ratio, sizes, n, share",
    [
        (PAIR, (4, 6), 24, 0.6863932292),
        (PAIR, (2, 4), 24, 0.7191365560),
        (UNEQUAL, (3, 6), 12, 0.750),  # knowing the sizes that a block may have, not this block's
        (UNEQUAL, (6,), 12, 0.744444),
        ((("A", 2), ("B", 1), ("C", 1)), (4,), 12, 0.645833),
    ],
)
def test_known_shares_of_right_guesses_in_blocks(
    ratio: tuple[tuple[str, int], ...], sizes: tuple[int, ...], n: int, share: float
) -> None:
    found = simulated("permuted-block", Parameters(length=n, ratio=ratio, block_sizes=sizes), n)
    assert abs(found.guesses.value - share) < 4 * found.guesses.standard_error + 5e-4


def test_imbalance_of_unequal_shares_is_in_units_of_the_ratio() -> None:
    given = Parameters(length=5, ratio=UNEQUAL, block_sizes=(6,))
    drawn = draw_many("permuted-block", given, 500, 5, b"u").astype(int)
    seconds = drawn.sum(axis=1)
    found = simulated("permuted-block", given, 5, 500, b"u")
    assert found.final_imbalance.value == pytest.approx(np.abs((5 - seconds) / 2 - seconds).mean(), abs=1e-12)


def test_forgotten_states_change_nothing() -> None:
    given = Parameters(length=30, ratio=THREE, alpha=1, beta=1)
    table = Transitions(METHODS["urn"], given)
    states = np.full(40, table.roots[0])
    for step in range(30):
        table.expand(states)
        chances = table.chance[states]
        kept, states = states, table.trimmed(states, most=10)
        table.expand(states)
        assert np.array_equal(table.chance[states], chances), kept
        states = table.after(states, (np.arange(40) + step) % 3)
        assert all(sum(table.counts(state)) == step + 1 for state in states.tolist())

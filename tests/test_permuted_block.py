"""Permuted blocks: a proof for small blocks, statistics at public seeds for long lists, and one list by two ways."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import keystream, permuted_block
from allocator.keystream import stream_key, words
from allocator.permuted_block import FAST_FROM, block_of, draw_sequence, draw_sequence_fast, draw_stratum, shuffle

SIZE_KEY, SHUFFLE_KEY = bytes([1]) * 32, bytes([2]) * 32
# chi-square quantiles at 99.9 %, by degrees of freedom
CHI_SQUARE = {1: 10.83, 2: 13.82, 5: 20.52, 19: 43.82}


def multisets(size: int) -> Iterator[list[int]]:
    """Every multiset of this size over arms 0, 1, 2, … with no arm left out: 0…0 1…1 2…2."""
    for cuts in itertools.product((0, 1), repeat=size - 1):
        yield list(itertools.accumulate(cuts, initial=0))


def all_shuffles(items: list[int]) -> Counter[tuple[int, ...]]:
    """How often each arrangement comes out over all equally likely draws of Fisher-Yates."""
    choices = (range(last + 1) for last in range(len(items) - 1, 0, -1))
    return Counter(tuple(shuffle(items, iter(draws))) for draws in itertools.product(*choices))


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("size", range(1, 7))
def test_proof_every_arrangement_of_every_multiset_is_equally_likely(size: int) -> None:
    for items in multisets(size):
        outcomes = all_shuffles(items)
        assert set(outcomes) == set(itertools.permutations(items))
        assert set(outcomes.values()) == {math.factorial(size) // len(outcomes)}


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("size, arrangements", [(2, 2), (4, 6), (6, 20), (8, 70)])
def test_two_arms_one_to_one_have_as_many_blocks_as_there_are(size: int, arrangements: int) -> None:
    outcomes = all_shuffles(block_of((1, 1), size))
    assert len(outcomes) == arrangements
    assert len(set(outcomes.values())) == 1


def test_shuffling_leaves_the_given_block_alone() -> None:
    items = [0, 0, 1, 1]
    shuffle(items, iter([0, 0, 0]))
    assert items == [0, 0, 1, 1]


def test_fisher_yates_goes_from_the_last_index_down() -> None:
    # draws 0, 1, 0: swap 3 with 0, 2 with 1, 1 with 0
    assert shuffle([0, 1, 2, 3], iter([0, 1, 0])) == [2, 3, 1, 0]


@pytest.mark.parametrize(
    "shares, size, counts", [((1, 1), 4, [2, 2]), ((2, 1), 6, [4, 2]), ((3, 4, 4), 55, [15, 20, 20])]
)
def test_a_block_honours_the_ratio(shares: tuple[int, ...], size: int, counts: list[int]) -> None:
    block = block_of(shares, size)
    assert len(block) == size
    assert [block.count(arm) for arm in range(len(shares))] == counts
    assert block == sorted(block)


DESIGNS = st.tuples(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sets(st.integers(1, 4), min_size=1)).map(
    lambda given: (tuple(given[0]), tuple(sorted(sum(given[0]) * times for times in given[1])))
)


@pytest.mark.requirement("G01")
@given(DESIGNS, st.integers(1, 400), st.binary(min_size=32, max_size=32))
def test_the_fast_way_gives_the_same_bytes(
    design: tuple[tuple[int, ...], tuple[int, ...]], length: int, key: bytes
) -> None:
    shares, sizes = design
    size_key, shuffle_key = stream_key(key, "size", "{}"), stream_key(key, "shuffle", "{}")
    plain = draw_sequence(shares, sizes, length, words(size_key), words(shuffle_key))
    assert draw_sequence_fast(shares, sizes, length, size_key, shuffle_key) == plain


@pytest.mark.requirement("G01")
@settings(max_examples=40)
@given(DESIGNS, st.integers(1, 300), st.integers(0, 2**32), st.sampled_from([0.02, 0.3, 0.9]))
def test_the_same_bytes_where_many_words_are_redrawn(
    design: tuple[tuple[int, ...], tuple[int, ...]], length: int, seed: int, refused: float
) -> None:
    """A true stream redraws once in millions; here a large part of the words is at the top of the range."""
    shares, sizes = design

    def stream(key: bytes, start: int, count: int) -> bytes:
        drawn = random.Random(f"{seed} {key.hex()}")
        total = -(-(start + count) // 4)
        chosen = (
            0xFFFFFFFF - drawn.randrange(5) if drawn.random() < refused else drawn.getrandbits(32) for _ in range(total)
        )
        return b"".join(word.to_bytes(4, "big") for word in chosen)[start : start + count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystream, "keystream_bytes", stream)
        patch.setattr(permuted_block, "keystream_bytes", stream)
        plain = draw_sequence(shares, sizes, length, words(SIZE_KEY), words(SHUFFLE_KEY))
        assert draw_sequence_fast(shares, sizes, length, SIZE_KEY, SHUFFLE_KEY) == plain


@pytest.mark.requirement("G01")
@pytest.mark.parametrize("length", [FAST_FROM - 1, FAST_FROM, FAST_FROM + 1])
def test_where_the_ways_meet_nothing_changes(length: int) -> None:
    drawn = draw_stratum(bytes(32), "{}", (1, 1), (4, 6), length)
    assert drawn == draw_stratum(bytes(32), "{}", (1, 1), (4, 6), FAST_FROM + 50)[:length]
    assert len(drawn) == length


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("shares, size", [((1, 1), 4), ((1, 1), 6), ((2, 1), 9), ((3, 4, 4), 55)])
def test_every_complete_block_is_balanced(shares: tuple[int, ...], size: int) -> None:
    drawn = draw_stratum(bytes(32), "{}", shares, (size,), 40 * size)
    expected = Counter(block_of(shares, size))
    assert all(Counter(drawn[start : start + size]) == expected for start in range(0, len(drawn), size))


@pytest.mark.requirement("G04")
def test_with_several_sizes_every_complete_block_is_balanced() -> None:
    sizes, stream = [], words(stream_key(bytes(32), "size", "{}"))
    drawn = draw_stratum(bytes(32), "{}", (1, 1), (2, 4, 6), 1800)
    start = 0
    while start < len(drawn):
        sizes.append((2, 4, 6)[keystream.draw_below(stream, 3)])
        block = drawn[start : start + sizes[-1]]
        assert len(block) < sizes[-1] or block.count(0) == block.count(1)
        start += sizes[-1]
    assert set(sizes) == {2, 4, 6}


def test_three_four_four_in_a_block_of_fifty_five() -> None:
    drawn = draw_stratum(bytes(32), "{}", (3, 4, 4), (55,), 55)
    assert len(drawn) == 55
    assert [drawn.count(arm) for arm in range(3)] == [15, 20, 20]


@pytest.mark.parametrize("length", [1, 3, 7, 15, 16, 17])
def test_the_last_block_is_cut_and_what_stands_before_it_is_the_same(length: int) -> None:
    whole = draw_stratum(bytes(32), "{}", (1, 1), (16,), 160)
    assert draw_stratum(bytes(32), "{}", (1, 1), (16,), length) == whole[:length]


def test_the_sequence_of_a_stratum_is_its_own() -> None:
    labels = ["{}", '{"site":"A"}', '{"site":"B"}', '{"site":"C"}']
    drawn = {label: draw_stratum(bytes(32), label, (1, 1), (4, 6), 200) for label in labels}
    assert len(set(drawn.values())) == len(labels)
    # drawn alone, in another order, or beside further strata: the same
    assert all(draw_stratum(bytes(32), label, (1, 1), (4, 6), 200) == drawn[label] for label in reversed(labels))


def test_more_sizes_move_no_word_of_the_shuffles() -> None:
    sizes = iter([0] * 50)
    of_four = draw_sequence((1, 1), (4,), 40, words(SIZE_KEY), words(SHUFFLE_KEY))
    assert draw_sequence((1, 1), (4, 6), 40, sizes, words(SHUFFLE_KEY)) == of_four


def chi_square(counts: Counter[object], categories: int) -> float:
    """Pearson's statistic against equal probabilities."""
    assert len(counts) == categories
    expected = sum(counts.values()) / categories
    return sum((observed - expected) ** 2 / expected for observed in counts.values())


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size, arrangements", [(2, 2), (4, 6), (6, 20)])
def test_arrangements_are_equally_frequent_at_public_seeds(seed: int, size: int, arrangements: int) -> None:
    drawn = draw_stratum(bytes([seed]) * 32, "{}", (1, 1), (size,), 100_000 * size)
    counts: Counter[object] = Counter(drawn[start : start + size] for start in range(0, len(drawn), size))
    assert chi_square(counts, arrangements) < CHI_SQUARE[arrangements - 1]


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("seed", range(5))
def test_block_sizes_are_equally_frequent_at_public_seeds(seed: int) -> None:
    stream = words(stream_key(bytes([seed]) * 32, "size", "{}"))
    counts: Counter[object] = Counter(keystream.draw_below(stream, 3) for _ in range(100_000))
    assert chi_square(counts, 3) < CHI_SQUARE[2]


@pytest.mark.requirement("G04")
def test_every_position_of_a_block_has_each_arm_half_of_the_time() -> None:
    drawn = np.frombuffer(draw_stratum(bytes(32), "{}", (1, 1), (6,), 600_000), dtype=np.uint8).reshape(-1, 6)
    counts = drawn.sum(axis=0, dtype=np.int64)
    # 100,000 draws of probability 1/2: standard deviation 158; five of them
    assert np.all(np.abs(counts - 50_000) < 5 * 158.2)

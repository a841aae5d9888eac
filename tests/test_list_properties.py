"""What holds for every list of a method, whatever the seed; and what a list shares with a longer one."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

import laws
from allocator import keystream
from allocator.design import RandomizationDesign
from allocator.imported_list import source_digest
from allocator.keystream import PURPOSES, draw_below, pseudorandom_key, stream_key, words
from allocator.maximal_procedure import MAX_LENGTH
from allocator.method import DesignError, Parameters
from allocator.methods import METHODS, draw_by_weights, draw_stratum
from allocator.schedule import generate_schedule
from allocator.study import stratum_label
from support import study
from test_methods import EVERY, ODDS, PRK, arms, designed, every_design, lists_of

seeds = st.binary(min_size=32, max_size=32)


@given(seeds, st.integers(1, 200), st.integers(1, 9), st.sampled_from(["big-stick", "chen"]))
def test_the_limit_is_never_passed(prk: bytes, length: int, limit: int, method: str) -> None:
    odds = {"probability": Fraction(51, 100)} if method == "chen" else {}
    drawn = lists_of(designed(method, length, limit=limit, **odds), prk)
    assert laws.greatest_lead(tuple(drawn)) <= limit


@given(seeds, st.integers(1, 60), st.integers(1, 9))
def test_the_maximal_procedure_keeps_its_limit_and_ends_balanced(prk: bytes, half: int, limit: int) -> None:
    drawn = lists_of(designed("maximal-procedure", 2 * half, limit=limit), prk)
    assert laws.greatest_lead(tuple(drawn)) <= limit
    assert drawn.count(0) == drawn.count(1) == half


def test_the_longest_maximal_procedure_keeps_its_limit_and_ends_balanced() -> None:
    drawn = lists_of(designed("maximal-procedure", MAX_LENGTH, limit=50))
    assert laws.greatest_lead(tuple(drawn)) <= 50
    assert drawn.count(0) == drawn.count(1) == MAX_LENGTH // 2


SHARES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@pytest.mark.requirement("G04")
@given(seeds, SHARES, st.integers(1, 30))
def test_the_random_allocation_rule_ends_with_the_ratio_s_counts(
    prk: bytes, shares: tuple[int, ...], times: int
) -> None:
    drawn = lists_of(designed("random-allocation-rule", times * sum(shares), arms(*shares)), prk)
    assert [drawn.count(arm) for arm in range(len(shares))] == [share * times for share in shares]


@given(seeds, st.integers(1, 100), st.sets(st.sampled_from([2, 4, 6, 8]), min_size=1))
def test_the_truncated_binomial_ends_balanced(prk: bytes, half: int, sizes: set[int]) -> None:
    drawn = lists_of(designed("truncated-binomial", 2 * half), prk)
    assert drawn.count(0) == drawn.count(1) == half
    cut = lists_of(designed("truncated-binomial", half, block_sizes=tuple(sorted(sizes))), prk)
    assert len(cut) == half
    assert laws.greatest_lead(tuple(cut)) <= max(sizes) // 2


@given(seeds, SHARES, st.integers(1, 4), st.integers(1, 200))
def test_the_block_urn_keeps_its_bound(prk: bytes, shares: tuple[int, ...], sets: int, length: int) -> None:
    drawn = lists_of(designed("block-urn", length, arms(*shares), lambda_=sets), prk)
    assert all(laws.within_the_block_urn(shares, sets, counts) for counts in laws.counts_before(drawn, len(shares)))


@given(seeds, st.integers(2, 120))
def test_one_ball_of_each_other_arm_in_an_empty_urn_never_gives_one_arm_twice_at_the_start(
    prk: bytes, length: int
) -> None:
    drawn = lists_of(designed("urn", length, alpha=0, beta=1), prk)
    assert drawn[0] != drawn[1]


@given(seeds, SHARES, st.integers(1, 60))
def test_a_block_urn_of_one_set_is_a_permuted_block_of_one_set(prk: bytes, shares: tuple[int, ...], n: int) -> None:
    drawn = lists_of(designed("block-urn", n * sum(shares), arms(*shares), lambda_=1), prk)
    for start in range(0, len(drawn), sum(shares)):
        block = drawn[start : start + sum(shares)]
        assert [block.count(arm) for arm in range(len(shares))] == list(shares)


LONGER = [
    designed("complete", 80, arms(2, 1, 3)),
    designed("permuted-block", 80, arms(2, 1), block_sizes=(3, 9)),
    designed("big-stick", 80, limit=3),
    designed("biased-coin", 80, probability=ODDS),
    designed("urn", 80, arms(1, 1, 1), alpha=1, beta=2),
    designed("truncated-binomial", 80, block_sizes=(4, 6)),
    designed("chen", 80, limit=2, probability=ODDS),
    designed("block-urn", 80, arms(3, 2), lambda_=2),
]


@pytest.mark.requirement("G01")
@settings(max_examples=60)
@given(seeds, st.integers(1, 79), st.sampled_from(LONGER))
def test_a_longer_list_starts_with_the_shorter(prk: bytes, length: int, how: RandomizationDesign) -> None:
    """For every method whose weights do not know the length; the others are `ENDING`."""
    assert lists_of(replace(how, length=length), prk) == lists_of(how, prk)[:length]


ENDING = [
    designed("random-allocation-rule", 80),
    designed("truncated-binomial", 80),
    designed("maximal-procedure", 80, limit=3),
]


@pytest.mark.parametrize("how", ENDING, ids=lambda how: how.method)
def test_where_the_end_is_balanced_the_length_counts(how: RandomizationDesign) -> None:
    """Another length is another law, so that a list made longer is a new one: at some seed it starts differently."""
    keys = [bytes([seed]) * 32 for seed in range(20)]
    assert any(lists_of(replace(how, length=40), prk) != lists_of(how, prk)[:40] for prk in keys)


def test_every_method_stands_in_one_of_the_two() -> None:
    assert {how.method for how in (*LONGER, *ENDING)} == set(METHODS) - {"imported-list"}


# ---- streams --------------------------------------------------------------------------------------------------------


def info_of(purpose: str, label: str) -> bytes:
    """What the key of a stream is expanded with, caught where it is used."""
    caught = []

    class Expand:
        def __init__(self, algorithm: object, length: int, info: bytes) -> None:
            assert isinstance(algorithm, SHA256) and length == 32
            caught.append(info)

        def derive(self, prk: bytes) -> bytes:
            return prk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystream, "HKDFExpand", Expand)
        assert stream_key(PRK, purpose, label) == PRK
    return caught[0]


def read_back(info: bytes) -> tuple[str, str]:
    """Purpose and label, from the bytes alone: who can read them back cannot have mixed two of them up."""
    rest = info.removeprefix(b"allocator/v1/stream\x00")
    assert len(rest) < len(info)
    fields = []
    while rest:
        size = int.from_bytes(rest[:2], "big")
        fields.append(rest[2 : 2 + size])
        assert len(fields[-1]) == size
        rest = rest[2 + size :]
    purpose, label = fields
    return purpose.decode("ascii"), label.decode("utf-8")


LABELS = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "{}",
        "size",
        "draw",
        "drawdraw",
        "\x00\x04draw",
        '{"draw":"{}"}',
        '\x00\x00{"site":"A"}',
        "北京",
        "x" * 21_000,
    ]
)


@pytest.mark.requirement("G02")
@given(st.sampled_from(PURPOSES), LABELS)
def test_the_key_of_a_stream_names_its_purpose_and_its_stratum_and_no_other(purpose: str, label: str) -> None:
    """Distinct by construction: two streams with one key would be two pairs with one encoding, and it is read back."""
    assert read_back(info_of(purpose, label)) == (purpose, label)


@pytest.mark.requirement("G02")
@given(st.tuples(st.sampled_from(PURPOSES), LABELS), st.tuples(st.sampled_from(PURPOSES), LABELS))
def test_two_streams_have_two_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (stream_key(PRK, *one) == stream_key(PRK, *other)) == (one == other)


def test_a_label_that_its_length_field_cannot_hold_is_no_stream() -> None:
    assert len(stream_key(PRK, "draw", "x" * 65_535)) == 32
    with pytest.raises(OverflowError):
        stream_key(PRK, "draw", "x" * 65_536)


LEVELS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)


@given(LEVELS, LEVELS)
def test_two_strata_have_two_labels(one: dict[str, str], other: dict[str, str]) -> None:
    """Factors and levels with quotes, colons and braces in them, or none: a label says which they were."""
    assert json.loads(stratum_label(one)) == one
    assert (stratum_label(one) == stratum_label(other)) == (one == other)


def test_purposes_are_different() -> None:
    assert PURPOSES == ("size", "shuffle", "draw", "salt")
    assert len({stream_key(PRK, purpose, "{}") for purpose in PURPOSES}) == len(PURPOSES)


@pytest.mark.requirement("G01")
@every_design
def test_each_stratum_has_a_list_of_its_own_and_always_the_same(how: RandomizationDesign) -> None:
    labels = ["{}", '{"site":"A"}', '{"site":"B"}', '{"site":"A","sex":"F"}']
    drawn = {label: lists_of(how, label=label) for label in labels}
    assert len(set(drawn.values())) == len(labels)
    assert all(lists_of(how, label=label) == drawn[label] for label in reversed(labels))
    assert all(draw_stratum(how.method, how, PRK, "{}", place) == drawn["{}"] for place in range(3))
    assert all(len(one) == how.length for one in drawn.values())


def test_the_arms_are_drawn_from_the_draw_stream_and_the_sizes_from_their_own() -> None:
    for how in EVERY:
        sizes, draws = words(stream_key(PRK, "size", "{}")), words(stream_key(PRK, "draw", "{}"))
        assert draw_by_weights(METHODS[how.method], how, sizes, draws) == lists_of(how)


def test_an_imported_list_is_given_back_by_stratum() -> None:
    how = designed("imported-list", 4, arms=(bytes([0, 1, 1, 0]), bytes([1, 1, 0, 0])))
    assert [draw_stratum(how.method, how, PRK, "{}", place) for place in (0, 1)] == list(how.arms)
    with pytest.raises(DesignError) as raised:
        METHODS["imported-list"].weights(how, 4)
    words = "a list made elsewhere was not drawn here: there is nothing to assess"
    assert (raised.value.field, str(raised.value)) == ("method", words)


def test_the_digest_of_an_imported_file_by_hand() -> None:
    salt, file = bytes(range(32)), b"id,arm\n1,A\n"
    keyed = b"allocator/v1/source\x00" + file
    assert source_digest(salt, file) == hmac.digest(salt, keyed, "sha256").hex()
    assert len({source_digest(salt, file), source_digest(bytes(32), file), source_digest(salt, file + b"\n")}) == 3


def test_a_schedule_has_each_imported_list_at_its_stratum() -> None:
    ratio = tuple((arm.code, 1) for arm in study().arms)
    how = designed("imported-list", 4, ratio, arms=(bytes([0, 1, 1, 0]), bytes([1, 1, 0, 0])))
    schedule = generate_schedule(study(stratified=True), how, bytes(32), [bytes(32)])
    assert [stratum.arms for stratum in schedule.strata] == list(how.arms)


def test_what_can_only_be_our_own_mistake_is_said_in_words() -> None:
    """No file and no request comes so far: each would be refused before."""
    other_order = designed("complete", 4, tuple((arm.code, 1) for arm in reversed(study().arms)))
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: pseudorandom_key(b"", b"", []), "seed shares are 32 bytes each, one at least"),
        (lambda: stream_key(PRK, "sizes", "{}"), "no stream has the purpose 'sizes'"),
        (lambda: draw_below(iter([1]), 0), "there is no integer below 0"),
        (
            lambda: generate_schedule(study(), other_order, bytes(32), [bytes(32)]),
            "the ratio is not in the study's arm order",
        ),
    ]
    for mistake, said in mistakes:
        with pytest.raises(RuntimeError) as raised:
            mistake()
        assert str(raised.value) == said


def test_parameters_give_the_ratio_in_parts() -> None:
    given_ratio = Parameters(length=12, ratio=arms(2, 1, 3))
    assert (given_ratio.ratio_sum, given_ratio.shares, given_ratio.blocks) == (6, (2, 1, 3), (12,))
    assert replace(given_ratio, block_sizes=(6, 12)).blocks == (6, 12)

"""What each method refuses, in its own words, and what it takes at the very bound of a rule."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from allocator import complete, permuted_block, random_allocation_rule
from allocator.design import MAX_LENGTH, MAX_RATIO, TAKEN, RandomizationDesign
from allocator.method import DesignError, Parameters, block_size_faults, whole_number
from allocator.methods import ALGORITHMS, METHODS
from test_methods import TWO, arms

GOOD: dict[str, dict[str, Any]] = {
    "permuted-block": {"block_sizes": (4, 6)},
    "complete": {},
    "random-allocation-rule": {},
    "big-stick": {"limit": 3},
    "biased-coin": {"probability": Fraction(2, 3)},
    "urn": {"alpha": 1, "beta": 1},
    "truncated-binomial": {},
    "chen": {"limit": 3, "probability": Fraction(2, 3)},
    "maximal-procedure": {"limit": 3},
    "block-urn": {"lambda_": 2},
    "imported-list": {"arms": (bytes([0, 1] * 6),)},
}
VALUES: dict[str, Any] = {
    "block_sizes": (4,),
    "limit": 3,
    "probability": Fraction(2, 3),
    "alpha": 1,
    "beta": 1,
    "lambda": 2,
    "arms": (bytes([0, 1] * 6),),
}


def faults(method: str, **changes: Any) -> list[tuple[str, str]]:
    """Field and words of every fault of a good design of 12 entries with these changes."""
    given = {"length": 12, "ratio": TWO, **GOOD[method], **changes}
    return [(fault.field, str(fault)) for fault in RandomizationDesign.faults(method, Parameters(**given))]


def test_every_method_has_a_good_design() -> None:
    assert list(GOOD) == list(METHODS) == list(ALGORITHMS)
    assert [faults(method) for method in GOOD] == [[]] * len(GOOD)
    assert list(ALGORITHMS.values()) == [f"{method}/1" for method in GOOD]
    assert {method: METHODS[method].ALGORITHM for method in GOOD} == ALGORITHMS


# ---- arms and ratio -------------------------------------------------------------------------------------------------

ANY = ("permuted-block", "complete", "random-allocation-rule", "block-urn")


@pytest.mark.parametrize("method", ["big-stick", "biased-coin", "truncated-binomial", "chen", "maximal-procedure"])
@pytest.mark.parametrize("shares", [(1,), (2, 1), (1, 1, 1), (1, 1, 2)])
def test_two_arms_with_equal_shares_alone(method: str, shares: tuple[int, ...]) -> None:
    words = f"{method} is defined for two arms with equal shares; block-urn takes others"
    assert faults(method, ratio=arms(*shares)) == [("ratio", words)]
    assert faults(method, ratio=arms(3, 3)) == []


@pytest.mark.parametrize("shares", [(2, 1), (1, 1, 2)])
def test_the_urn_has_equal_shares(shares: tuple[int, ...]) -> None:
    words = "urn is defined for equal shares; block-urn takes others"
    assert faults("urn", ratio=arms(*shares)) == [("ratio", words)]
    assert [faults("urn", ratio=arms(*equal)) for equal in ((1,), (2, 2), (1, 1, 1, 1))] == [[], [], []]


@pytest.mark.parametrize("method", ANY)
@pytest.mark.parametrize("shares", [(1,), (2, 1), (1, 1, 1), (2, 1, 1), (1, 2, 3)])
def test_any_arms_and_ratio(method: str, shares: tuple[int, ...]) -> None:
    sizes = {"block_sizes": (sum(shares), 2 * sum(shares))} if method == "permuted-block" else {}
    assert faults(method, ratio=arms(*shares), **sizes) == []


# ---- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "key", "least", "most"),
    [
        ("big-stick", "limit", 1, 1000),
        ("chen", "limit", 1, 1000),
        ("maximal-procedure", "limit", 1, 50),
        ("urn", "alpha", 0, 1000),
        ("urn", "beta", 0, 1000),
        ("block-urn", "lambda", 1, 1000),
    ],
)
def test_a_number_at_its_bounds_and_one_past_them(method: str, key: str, least: int, most: int) -> None:
    name = TAKEN[key]
    for value in (least, most):
        assert faults(method, **{name: value}) == []
    for value in (least - 1, most + 1):
        assert faults(method, **{name: value}) == [(key, f"{value} is outside {least}..{most}")]


def test_a_number_that_is_not_given_breaks_no_bound() -> None:
    assert list(whole_number("limit", None, 1)) == []


@pytest.mark.parametrize("method", ["biased-coin", "chen"])
def test_a_probability_at_its_bounds_and_past_them(method: str) -> None:
    for good in (Fraction(501, 1000), Fraction(999, 1000), Fraction(2, 3)):
        assert faults(method, probability=good) == []
    for bad in (Fraction(1, 2), Fraction(1), Fraction(1, 3), Fraction(3, 2)):
        assert faults(method, probability=bad) == [("probability", f"{bad} is not above 1/2 and below 1")]
    words = "502/1001 has a denominator above 1000"
    assert faults(method, probability=Fraction(502, 1001)) == [("probability", words)]


def test_an_urn_is_never_without_balls() -> None:
    assert faults("urn", alpha=0, beta=1) == faults("urn", alpha=1, beta=0) == []
    words = "alpha and beta are both 0: the urn would stay empty"
    assert faults("urn", alpha=0, beta=0) == [("beta", words)]


# ---- length ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in GOOD if name not in ("maximal-procedure", "imported-list")])
def test_the_length_at_its_bounds_and_past_them(method: str) -> None:
    assert faults(method, length=MAX_LENGTH) == []
    for length in (0, -2, MAX_LENGTH + 2):
        assert faults(method, length=length) == [("length", f"{length} is outside 1..10000000")]


@pytest.mark.parametrize(
    "method", ["complete", "permuted-block", "big-stick", "biased-coin", "urn", "chen", "block-urn"]
)
def test_any_other_length(method: str) -> None:
    assert [faults(method, length=length) for length in (1, 7)] == [[], []]


def test_the_random_allocation_rule_needs_a_whole_number_of_ratios() -> None:
    assert faults("random-allocation-rule", length=7) == [("length", "7 is not a multiple of 2 (the sum of the ratio)")]
    three = {"ratio": arms(2, 1, 1)}
    assert faults("random-allocation-rule", length=8, **three) == []
    words = "6 is not a multiple of 4 (the sum of the ratio)"
    assert faults("random-allocation-rule", length=6, **three) == [("length", words)]
    assert list(random_allocation_rule.faults(Parameters(length=7, ratio=()))) == []  # told by the design itself


def test_the_truncated_binomial_needs_two_halves_where_the_list_is_one_block() -> None:
    words = "7 is not even: the list is one block with two halves"
    assert faults("truncated-binomial", length=7) == [("length", words)]
    assert faults("truncated-binomial", length=7, block_sizes=(4,)) == []


def test_the_maximal_procedure_ends_balanced_and_is_not_too_long() -> None:
    assert faults("maximal-procedure", length=2) == faults("maximal-procedure", length=2000) == []
    for length in (7, 2001, 2002):
        words = f"{length} is not an even number up to 2000: the list ends balanced"
        assert faults("maximal-procedure", length=length) == [("length", words)]


# ---- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["permuted-block", "truncated-binomial"])
def test_block_sizes_at_their_bounds_and_past_them(method: str) -> None:
    for good in ((2,), (10_000,), (2, 4, 6)):
        assert faults(method, block_sizes=good) == []
    for bad in (5, 0, -2, 10_002):
        words = f"{bad} is not a multiple of 2 (the sum of the ratio) up to 10000"
        assert faults(method, block_sizes=(4, bad)) == [("block_sizes", words)]
    assert faults(method, block_sizes=(4, 4)) == [("block_sizes", "sizes must be different from each other")]


def test_block_sizes_go_by_the_sum_of_the_ratio() -> None:
    assert list(block_size_faults(Parameters(length=9, ratio=arms(3, 4, 4), block_sizes=(11, 55)))) == []
    found = [str(fault) for fault in block_size_faults(Parameters(length=9, ratio=arms(2, 1), block_sizes=(4, 3)))]
    assert found == ["4 is not a multiple of 3 (the sum of the ratio) up to 10000"]


@pytest.mark.parametrize("module", [complete, permuted_block])
def test_two_methods_have_no_rule_of_their_own(module: Any) -> None:
    assert list(module.faults(Parameters(length=0, ratio=()))) == []


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", GOOD)
@pytest.mark.parametrize("key", TAKEN)
def test_a_missing_key_and_a_foreign_one(method: str, key: str) -> None:
    name, how = TAKEN[key], METHODS[method]
    empty: Any = () if key in ("block_sizes", "arms") else None
    if key in how.KEYS:
        assert faults(method, **{name: empty}) == [(key, f"is missing or empty: {method} needs it")]
    elif key in how.MAY:
        assert faults(method, **{name: VALUES[key]}) == faults(method, **{name: empty}) == []
    else:
        assert faults(method, **{name: VALUES[key]}) == [(key, f"{method} takes no {key}")]


def test_which_keys_each_method_takes() -> None:
    """By hand, so that a change of a method's keys is seen."""
    assert {name: (METHODS[name].KEYS, METHODS[name].MAY) for name in METHODS} == {
        "permuted-block": (("block_sizes",), ()),
        "complete": ((), ()),
        "random-allocation-rule": ((), ()),
        "big-stick": (("limit",), ()),
        "biased-coin": (("probability",), ()),
        "urn": (("alpha", "beta"), ()),
        "truncated-binomial": ((), ("block_sizes",)),
        "chen": (("limit", "probability"), ()),
        "maximal-procedure": (("limit",), ()),
        "block-urn": (("lambda",), ()),
        "imported-list": (("arms",), ()),
    }


# ---- lists made elsewhere -------------------------------------------------------------------------------------------


def test_an_imported_list_is_whole_and_names_arms_of_the_ratio() -> None:
    short, strange, good = bytes([0, 1]), bytes([0, 1] * 5 + [0, 2]), bytes([0, 1] * 6)
    assert faults("imported-list", arms=(good, short, strange)) == [
        ("arms.1", "2 entries where the length is 12"),
        ("arms.2", "an entry is no arm of the ratio"),
    ]
    assert faults("imported-list", arms=(strange,), ratio=arms(1, 1, 1)) == []


def test_an_imported_list_fits_its_envelope() -> None:
    half = bytes(10_000)
    assert faults("imported-list", length=10_000, arms=(half, half)) == []
    words = "the list has more than 20000 entries"
    assert faults("imported-list", length=10_000, arms=(half, half, half)) == [("arms", words)]
    assert faults("imported-list", length=20_001, arms=(bytes(20_001),)) == [("arms", words)]


# ---- the design as a whole ------------------------------------------------------------------------------------------


def test_shares_are_whole_numbers_from_one() -> None:
    assert faults("complete", ratio=arms(MAX_RATIO, 1)) == []
    for share in (0, -1, MAX_RATIO + 1):
        words = f"{share} is outside 1..1000; ratios are whole numbers"
        assert faults("complete", ratio=arms(1, share)) == [("ratio.B", words)]
    assert faults("complete", ratio=()) == [("ratio", "no arm has a share")]


def test_every_fault_is_named_and_the_first_is_raised() -> None:
    given: dict[str, Any] = {"length": 0, "ratio": arms(2, 1), "limit": 0, "alpha": 1}
    found = [fault.field for fault in RandomizationDesign.faults("big-stick", Parameters(**given))]
    assert found == ["length", "alpha", "ratio", "limit"]
    with pytest.raises(DesignError, match="outside 1") as raised:
        RandomizationDesign(method="big-stick", **given)
    assert raised.value.field == "length"


def test_an_unknown_method_is_refused_with_those_that_can_be_written() -> None:
    [fault] = RandomizationDesign.faults("coin", Parameters(length=12, ratio=TWO))
    known = ", ".join(name for name in GOOD if name != "imported-list")
    assert (fault.field, str(fault)) == ("method", f"'coin' is no method of this version; known: {known}")

"""Each method proved for short lists: every combination of drawn integers, against the law of its paper.

The real code draws; only `draw_below` is replaced by a source that walks through every value below each n, each with
exact probability 1/n. What comes out is the exact distribution over lists; tests/laws.py computes what it must be, from
the words of the papers. What this leaves open is shown elsewhere: that the integers are unbiased
(tests/test_keystream.py), and that a stream is a stream (tests/test_arrangements.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import laws
from allocator import methods, permuted_block
from allocator.design import RandomizationDesign
from allocator.maximal_procedure import ways_on
from allocator.method import Parameters, Weights
from allocator.methods import METHODS, draw_by_weights, draw_stratum
from support import ROOT

TWO = (("A", 1), ("B", 1))
ODDS = Fraction(2, 3)
PRK = bytes(range(32))
PAGE = ROOT / "docs" / "generator.md"


def arms(*shares: int) -> tuple[tuple[str, int], ...]:
    """A ratio over arms A, B, C, …"""
    return tuple(zip("ABCDEFGH", shares, strict=False))


def designed(method: str, length: int, ratio: tuple[tuple[str, int], ...] = TWO, **more: Any) -> RandomizationDesign:
    """A design without faults."""
    return RandomizationDesign(method=method, length=length, ratio=ratio, **more)


# ---- the walk -------------------------------------------------------------------------------------------------------


class Walk:
    """Stands for `draw_below`: gives the values of a path, then 0, and keeps the bound of each draw."""

    made = 0  # runs so far

    def __init__(self, path: Sequence[int]) -> None:
        Walk.made += 1
        self.path = path
        self.bounds: list[int] = []

    def __call__(self, _: Iterator[int], n: int) -> int:
        place = len(self.bounds)
        self.bounds.append(n)
        value = self.path[place] if place < len(self.path) else 0
        assert 0 <= value < n
        return value


Draw = Callable[[], bytes]


def drawing(design: RandomizationDesign) -> Draw:
    """The real code that draws a list of this design, without its streams."""
    none: Iterator[int] = iter(())
    if design.method == "permuted-block":
        shares, sizes = design.shares, design.block_sizes
        return lambda: permuted_block.draw_sequence(shares, sizes, design.length, none, none)
    return lambda: draw_by_weights(METHODS[design.method], design, none, none)


def walked(draw: Draw, path: Sequence[int]) -> tuple[laws.List, list[int]]:
    """One run: the list, and the bounds of all its draws."""
    walk = Walk(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "draw_below", walk)
        patch.setattr(permuted_block, "draw_below", walk)
        return tuple(draw()), walk.bounds


def whole_walk(draw: Draw) -> laws.Law:
    """The exact distribution: every combination of values, none left out."""
    law: dict[laws.List, Fraction] = {}
    path: list[int] = []
    while True:
        drawn, bounds = walked(draw, path)
        law[drawn] = law.get(drawn, Fraction(0)) + Fraction(1, math.prod(bounds))
        path += [0] * (len(bounds) - len(path))
        while path and path[-1] == bounds[len(path) - 1] - 1:
            path.pop()
        if not path:
            return law
        path[-1] += 1


def merged_walk(draw: Draw) -> laws.Law:
    """The same where each entry takes one integer: values that gave the same arm are walked on once.

    That the rest of a list depends on the arms so far and on nothing else is what the whole walk of a shorter list
    and `test_weights_depend_on_the_counts_alone` show.
    """
    law: laws.Law = {}
    todo: list[tuple[list[int], Fraction]] = [([], Fraction(1))]
    while todo:
        path, so_far = todo.pop()
        drawn, bounds = walked(draw, path)
        place = len(path)
        if place == len(drawn):
            law[drawn] = so_far
            continue
        by_arm: dict[int, list[int]] = {}
        for value in range(bounds[place]):
            by_arm.setdefault(walked(draw, [*path, value])[0][place], []).append(value)
        todo += [([*path, same[-1]], so_far * Fraction(len(same), bounds[place])) for same in by_arm.values()]
    return law


# ---- the proof ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """A design, the law it must have, and how many lists can come."""

    design: RandomizationDesign
    law: laws.Law
    lists: int
    merge: bool = False  # where the whole walk would take millions of runs


def case(lists: int, law: laws.Law, method: str, length: int, *shares: int, merge: bool = False, **more: Any) -> Case:
    """One row of `CASES`."""
    design = designed(method, length, arms(*(shares or (1, 1))), **more)
    return Case(design=design, law=law, lists=lists, merge=merge)


# How many lists can come is a number from elsewhere: the reference cases, or a count by hand. Blocks of 2 and 4: with
# f(n) = 2 f(n-2) + 2 f(n-4) balanced lists of n, of 7 entries there are 2 f(6) + 2 f(4) = 44. Urn without a ball: the
# second arm is never the first, 2 x 2^(n-2). Block urn: `test_the_block_urn_gives_every_list_within_its_bound`.
CASES = [
    case(256, laws.complete((1, 1), 8), "complete", 8),
    case(81, laws.complete((2, 1, 3), 4), "complete", 4, 2, 1, 3),
    case(70, laws.random_allocation_rule((1, 1), 8), "random-allocation-rule", 8),
    case(12, laws.random_allocation_rule((2, 1, 1), 4), "random-allocation-rule", 4, 2, 1, 1),
    case(15, laws.random_allocation_rule((4, 2), 6), "random-allocation-rule", 6, 2, 1),
    case(90, laws.random_allocation_rule((2, 2, 2), 6), "random-allocation-rule", 6, 1, 1, 1),
    case(420, laws.random_allocation_rule((2, 1, 1), 8), "random-allocation-rule", 8, 2, 1, 1, merge=True),
    case(36, laws.permuted_block((1, 1), (4,), 8), "permuted-block", 8, block_sizes=(4,)),
    case(44, laws.permuted_block((1, 1), (2, 4), 7), "permuted-block", 7, block_sizes=(2, 4)),
    case(3, laws.permuted_block((2, 1), (3,), 3), "permuted-block", 3, 2, 1, block_sizes=(3,)),
    case(15, laws.permuted_block((2, 1), (6,), 6), "permuted-block", 6, 2, 1, block_sizes=(6,)),
    case(6, laws.permuted_block((1, 1, 1), (3,), 3), "permuted-block", 3, 1, 1, 1, block_sizes=(3,)),
    case(90, laws.permuted_block((1, 1, 1), (6,), 6), "permuted-block", 6, 1, 1, 1, block_sizes=(6,)),
    case(12, laws.permuted_block((2, 1, 1), (4,), 4), "permuted-block", 4, 2, 1, 1, block_sizes=(4,)),
    case(108, laws.big_stick(2, 8), "big-stick", 8, limit=2),
    case(164, laws.big_stick(3, 8), "big-stick", 8, limit=3),
    case(16, laws.big_stick(1, 8), "big-stick", 8, limit=1),
    case(256, laws.biased_coin(ODDS, 8), "biased-coin", 8, probability=ODDS),
    case(64, laws.biased_coin(Fraction(3, 5), 6), "biased-coin", 6, 3, 3, probability=Fraction(3, 5)),
    case(164, laws.biased_coin(ODDS, 8, limit=3), "chen", 8, limit=3, probability=ODDS),
    case(16, laws.biased_coin(ODDS, 8, limit=1), "chen", 8, limit=1, probability=ODDS),
    case(256, laws.urn(2, 1, 1, 8), "urn", 8, alpha=1, beta=1, merge=True),
    case(64, laws.urn(2, 1, 1, 6), "urn", 6, alpha=1, beta=1),
    case(128, laws.urn(2, 0, 1, 8), "urn", 8, alpha=0, beta=1, merge=True),
    case(32, laws.urn(2, 0, 1, 6), "urn", 6, alpha=0, beta=1),
    case(64, laws.urn(2, 3, 0, 6), "urn", 6, alpha=3, beta=0, merge=True),
    case(243, laws.urn(3, 2, 1, 5), "urn", 5, 1, 1, 1, alpha=2, beta=1, merge=True),
    case(81, laws.urn(3, 1, 2, 4), "urn", 4, 1, 1, 1, alpha=1, beta=2),
    case(70, laws.truncated_binomial(8), "truncated-binomial", 8),
    case(
        36,
        laws.in_blocks({4: laws.truncated_binomial(4)}, 8),
        *("truncated-binomial", 8),
        block_sizes=(4,),
    ),
    case(
        44,
        laws.in_blocks({2: laws.truncated_binomial(2), 4: laws.truncated_binomial(4)}, 7),
        *("truncated-binomial", 7),
        block_sizes=(2, 4),
    ),
    case(54, laws.maximal_procedure(2, 8), "maximal-procedure", 8, limit=2, merge=True),
    case(68, laws.maximal_procedure(3, 8), "maximal-procedure", 8, limit=3, merge=True),
    case(18, laws.maximal_procedure(2, 6), "maximal-procedure", 6, limit=2),
    case(20, laws.maximal_procedure(3, 6), "maximal-procedure", 6, limit=3),
    case(8, laws.maximal_procedure(1, 6), "maximal-procedure", 6, limit=1),
    case(16, laws.block_urn((1, 1), 1, 8), "block-urn", 8, lambda_=1),
    case(108, laws.block_urn((1, 1), 2, 8), "block-urn", 8, lambda_=2, merge=True),
    case(9, laws.block_urn((2, 1), 1, 6), "block-urn", 6, 2, 1, lambda_=1),
    case(107, laws.block_urn((2, 1), 2, 8), "block-urn", 8, 2, 1, lambda_=2, merge=True),
    case(12, laws.block_urn((2, 1, 1), 1, 4), "block-urn", 4, 2, 1, 1, lambda_=1),
    case(126, laws.block_urn((1, 1, 1), 2, 5), "block-urn", 5, 1, 1, 1, lambda_=2),
]


def called(how: RandomizationDesign) -> str:
    """A design in a few words."""
    numbers = {"limit": how.limit, "p": how.probability, "alpha": how.alpha, "beta": how.beta, "lambda": how.lambda_}
    blocks = [f"blocks of {' and '.join(map(str, how.block_sizes))}"] if how.block_sizes else []
    keys = [f"{name} {value}" for name, value in numbers.items() if value is not None]
    return ", ".join([f"{how.method} {':'.join(map(str, how.shares))}", *blocks, *keys, f"length {how.length}"])


def named(row: Case) -> str:
    """How a case is called in the report."""
    return called(row.design)


@pytest.mark.requirement("G02")
@pytest.mark.requirement("G04")
@pytest.mark.parametrize("row", CASES, ids=named)
def test_proof_every_combination_of_integers_gives_the_law_of_the_paper(row: Case) -> None:
    before = Walk.made
    law = (merged_walk if row.merge else whole_walk)(drawing(row.design))
    assert sum(law.values()) == 1
    assert len(law) == row.lists
    assert law == row.law
    kind = "those that differ" if row.merge else "every one"
    line = f"| {named(row)} | {row.lists} | {Walk.made - before:,} | {kind} |"
    assert line in page_lines(), f"put this line into docs/generator.md: {line}"


def page_lines() -> list[str]:
    """docs/generator.md, where each proof has its line."""
    return PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_no_proof_that_is_not_here() -> None:
    said = [line for line in page_lines() if line.endswith(("| every one |", "| those that differ |"))]
    assert [line.split(" | ")[0].removeprefix("| ") for line in said] == [named(row) for row in CASES]


def test_every_method_that_draws_is_proved() -> None:
    assert {row.design.method for row in CASES} == set(METHODS) - {"imported-list"}


@pytest.mark.parametrize("row", [row for row in CASES if row.design.method == "block-urn"], ids=named)
def test_the_block_urn_gives_every_list_within_its_bound(row: Case) -> None:
    shares, sets = row.design.shares, row.design.lambda_ or 0
    every = itertools.product(range(len(shares)), repeat=row.design.length)
    inside = {
        one
        for one in every
        if all(laws.within_the_block_urn(shares, sets, counts) for counts in laws.counts_before(one, len(shares)))
    }
    assert len(inside) == row.lists and set(row.law) == inside


# share of right guesses, E|D_N| and E max|D| at N = 8, 1:1; equal to randomizeR 3.0.2 over its full set
@pytest.mark.requirement("G04")
@pytest.mark.parametrize(
    ("how", "share", "final", "greatest"),
    [
        (designed("complete", 8), 0.5, 2.1875, 3.1171875),
        (designed("random-allocation-rule", 8), 0.6660714286, 0, 2.0285714286),
        (designed("permuted-block", 8, block_sizes=(4,)), 0.7083333333, 0, 1.5555555556),
        (designed("big-stick", 8, limit=2), 0.59375, 1, 1.9375),
        (designed("big-stick", 8, limit=3), 0.5556640625, 1.328125, 2.515625),
        (designed("biased-coin", 8, probability=ODDS), 0.6079389575, 1.0919067215, 2.2597165066),
        (designed("maximal-procedure", 8, limit=2), 0.6875, 0, 1.7037037037),
        (designed("maximal-procedure", 8, limit=3), 0.6691176471, 0, 1.9705882353),
        (designed("chen", 8, limit=3, probability=ODDS), 0.6237711477, 0.8550525834, 2.1001371742),
        (designed("truncated-binomial", 8, block_sizes=(4,)), 0.6875, 0, 1.75),
        (designed("truncated-binomial", 8), 0.6367187500, 0, 2.4375),
        (designed("urn", 8, alpha=1, beta=1), 0.5865465168, 1.3112874780, 2.3392085538),
    ],
    ids=lambda value: value.method if isinstance(value, RandomizationDesign) else str(value),
)
def test_what_is_drawn_has_the_published_figures(
    how: RandomizationDesign, share: float, final: float, greatest: float
) -> None:
    found = laws.figures((whole_walk if how.block_sizes else merged_walk)(drawing(how)))
    assert [float(figure) for figure in found] == pytest.approx([share, final, greatest], abs=1e-9)


# ---- weights --------------------------------------------------------------------------------------------------------

EVERY = [
    designed("complete", 60, arms(2, 1, 3)),
    designed("random-allocation-rule", 60, arms(2, 1, 3)),
    designed("big-stick", 60, limit=3),
    designed("biased-coin", 60, probability=ODDS),
    designed("urn", 60, arms(1, 1, 1), alpha=1, beta=2),
    designed("truncated-binomial", 60),
    designed("truncated-binomial", 60, block_sizes=(4, 6)),
    designed("chen", 60, limit=2, probability=ODDS),
    designed("maximal-procedure", 60, limit=3),
    designed("block-urn", 60, arms(3, 2), lambda_=2),
]
every_design = pytest.mark.parametrize("how", EVERY, ids=lambda how: f"{how.method} {how.shares}")


def lists_of(how: RandomizationDesign, prk: bytes = PRK, label: str = "{}") -> bytes:
    """The list of one stratum, by the way the service takes."""
    return draw_stratum(how.method, how, prk, label, 0)


@every_design
def test_weights_depend_on_the_counts_alone(how: RandomizationDesign) -> None:
    """Asked in another order, again, and of another object: the same."""
    size = how.blocks[-1]
    ways = {
        counts
        for label in "abcdefgh"
        for counts in laws.counts_before(lists_of(how, label=label)[:size], len(how.ratio))
    }
    method = METHODS[how.method]
    asked: Weights = method.weights(how, size)
    once = {counts: asked(counts) for counts in sorted(ways) if sum(counts) < size}
    again = {counts: method.weights(how, size)(list(counts)) for counts in sorted(once, reverse=True)}
    assert once == again == {counts: asked(counts) for counts in once}
    assert all(len(w) == len(how.ratio) and min(w) >= 0 and sum(w) >= 1 for w in once.values())


@pytest.mark.requirement("G04")
@pytest.mark.parametrize("shares, size", [((1, 1), 6), ((2, 1), 6), ((2, 1, 1), 4)])
def test_the_weights_of_a_permuted_block_are_its_shuffle(shares: tuple[int, ...], size: int) -> None:
    """`assess` computes by the weights what the shuffle draws: one law, two ways."""
    how = designed("permuted-block", size, arms(*shares), block_sizes=(size,))
    one_block = Parameters(length=size, ratio=how.ratio)
    by_weights = merged_walk(lambda: draw_by_weights(permuted_block, one_block, iter(()), iter(())))
    assert by_weights == laws.uniform(laws.arrangements(shares, size)) == whole_walk(drawing(how))


def test_each_entry_takes_one_integer_and_each_block_one_more_of_its_own_stream() -> None:
    for how in EVERY:
        drawn, bounds = walked(drawing(how), [])
        blocks = math.ceil(how.length / how.block_sizes[0]) if how.block_sizes else 0
        assert len(bounds) == len(drawn) + blocks


def test_the_last_block_is_drawn_whole_and_cut() -> None:
    how = designed("truncated-binomial", 5, block_sizes=(4,))
    drawn, bounds = walked(drawing(how), [0, 0, 1, 1])
    assert drawn == (0, 1, 1, 0, 0)
    assert bounds == [1, 2, 2, 2, 1, 1, 2, 2, 1, 1]


# ---- ways on of the maximal procedure -------------------------------------------------------------------------------


@given(st.integers(0, 12), st.integers(1, 6))
def test_ways_on_are_the_ways_on(size: int, limit: int) -> None:
    """Counted one by one, from every lead and for every number of steps left."""
    for left, by_lead in enumerate(ways_on(size, limit)):
        for start in range(limit + 2):
            walks = (itertools.accumulate(steps, initial=start) for steps in itertools.product((1, -1), repeat=left))
            inside = sum(1 for walk in map(list, walks) if walk[-1] == 0 and max(map(abs, walk)) <= limit)
            assert by_lead.get(start, 0) == inside
        assert all(by_lead.values())


@pytest.mark.requirement("G02")
def test_the_ways_on_pass_one_word_from_thirty_eight_entries_at_limit_three() -> None:
    assert ways_on(36, 3)[36][0] < 2**32 < ways_on(38, 3)[38][0]
    how = designed("maximal-procedure", 38, limit=3)
    assert walked(drawing(how), [])[1][0] == ways_on(38, 3)[38][0]

"""The report on a list: each fault is named with its place, no list of a design is faulty, bounds are bounds."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from math import comb
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import merkle
from allocator.balance import (
    _tree_hash,
    allocated,
    check_root,
    difference,
    enrolled,
    furthest_allowed,
    list_report,
    running_counts,
)
from allocator.block_ledger import ListFault, block_ledger
from allocator.design import RandomizationDesign
from allocator.list_fault import chance_of_count, chance_sorted, check_positions, faults_of, one_in, rarest_run
from allocator.methods import METHODS
from allocator.schedule import StratumSchedule, generate_schedule
from allocator.study import stratum_label
from support import Trial, TrialFactory, study

ONE_TO_ONE = (("IL2-GCV", 1), ("GCV", 1))
DESIGNS: dict[str, dict[str, Any]] = {
    "permuted-block": {"block_sizes": (4, 6)},
    "complete": {},
    "random-allocation-rule": {},
    "big-stick": {"limit": 3},
    "biased-coin": {"probability": Fraction(2, 3)},
    "urn": {"alpha": 0, "beta": 1},
    "truncated-binomial": {},
    "chen": {"limit": 3, "probability": Fraction(2, 3)},
    "maximal-procedure": {"limit": 3},
    "block-urn": {"lambda_": 2},
}


def how(method: str = "permuted-block", length: int = 20, **given: Any) -> RandomizationDesign:
    """A design of these values, else of `DESIGNS`."""
    given = given or DESIGNS[method]
    return RandomizationDesign(method=method, length=length, ratio=given.pop("ratio", ONE_TO_ONE), **given)


def listed(text: str, label: str = "{}") -> StratumSchedule:
    """A stratum whose arms are given as letters A, B, …; the salts are all different."""
    arms = bytes(ord(letter) - ord("A") for letter in text)
    salts = b"".join(position.to_bytes(32, "big") for position in range(len(arms)))
    return StratumSchedule(label=label, stratum={}, arms=arms, salts=salts)


def drawn(design: RandomizationDesign, number: int) -> StratumSchedule:
    """The list of this seed."""
    return generate_schedule(study(), design, bytes(32), [number.to_bytes(32, "big"), bytes(32)]).strata[0]


def faults(text: str, design: RandomizationDesign) -> dict[str, str]:
    """What the checks find in a list given as letters, by code."""
    return {fault.code: str(fault) for fault in faults_of(listed(text), design)}


# ---- faults ---------------------------------------------------------------------------------------------------------

FAULTS = {
    "a swapped arm": ("ABBAABABBABA" + "ABBB", how(length=16, block_sizes=(4,)), "sequence", "entry 15"),
    "a swapped arm, several sizes": ("ABABABBA" + "AAABAB" + "BABABA", how(), "sequence", "no blocks of 4 or 6"),
    "missing": ("ABBAABABBABAABBABA", how(block_sizes=(2,)), "missing", "entries 18 to 19"),
    "missing one": ("ABBAABABBABAABBABAB", how(block_sizes=(2,)), "missing", "entry 19"),
    "one too many": ("ABBA" * 5 + "A", how(block_sizes=(4,)), "additional", "21 entries, 1 too many"),
    "no such arm": ("ABBA" * 4 + "ABCA", how(block_sizes=(4,)), "arm", "entry 18"),
    "sorted": ("A" * 10 + "B" * 10, how("complete"), "sorted", "1 list in 26,000"),
    "sorted with a rule": ("B" * 10 + "A" * 10, how("random-allocation-rule"), "sorted", "1 list in 92,000"),
    "one arm alone": (
        "B" * 20,
        how("complete"),
        "sorted",
        "has one arm only, GCV: by complete at most 1 list in 26,000",
    ),
    "one block, sorted": ("A" * 10 + "B" * 10, how(block_sizes=(20,)), "sorted", "1 list in 92,000"),
    "one block or two": ("A" * 10 + "B" * 10, how(block_sizes=(18, 20)), "sorted", "by permuted-block at most 1 list"),
    "sorted, blocks": ("A" * 10 + "B" * 10, how(), "sequence", "entry 3"),
    "a long run": ("AB" * 80 + "A" * 40, how("complete", length=200), "run", "entries 160 to 199"),
    "unshuffled blocks": ("AABB" * 15, how(length=60, block_sizes=(4,)), "alike", "all 15 blocks"),
    "wrong ratio": ("AAB" * 90, how("complete", length=270), "ratio", "180 of 270 entries are IL2-GCV"),
    "wrong ratio, blocks": ("AABABA" * 3 + "AB", how(), "sequence", "entry"),
    "beyond the limit": ("ABAAABABBABABABABBAB", how("big-stick", limit=2), "sequence", "cannot follow 3 IL2-GCV, 1"),
    "not balanced at its end": ("AABB" * 4 + "AABA", how("maximal-procedure"), "sequence", "entry 19"),
    "beyond its half": ("A" * 6 + "B" * 2 + "A" * 6 + "B" * 6, how("truncated-binomial"), "sequence", "entry 12"),
}


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_caught_and_says_where(name: str) -> None:
    text, design, code, said = FAULTS[name]
    found = faults(text, design)
    assert code in found and said in found[code]


@pytest.mark.requirement("G07")
@pytest.mark.parametrize("length", [20, 100])
@pytest.mark.parametrize("method", DESIGNS)
def test_no_list_that_a_design_gives_is_faulty(method: str, length: int) -> None:
    design = how(method, length)
    for number in range(60):
        stratum = drawn(design, number)
        assert list(faults_of(stratum, design)) == []
        reached = max(difference(counts, design.shares) for counts in running_counts(stratum.arms, 2))
        assert reached <= (furthest_allowed(design) or length)


def test_unequal_shares_and_several_arms_have_no_fault_either() -> None:
    ratio = (("IL2-GCV", 2), ("GCV", 1))
    for method, taken in (
        ("permuted-block", {"block_sizes": (3, 6)}), ("complete", {}), ("block-urn", {"lambda_": 2}),
    ):  # fmt: skip
        design = how(method, 60, ratio=ratio, **taken)
        for number in range(20):
            assert list(faults_of(drawn(design, number), design)) == []


def test_an_entry_that_is_there_twice_is_seen_by_its_salt() -> None:
    stratum = listed("ABBA")
    twice = replace(stratum, salts=stratum.salts[:96] + stratum.salts[32:64])
    design = how(length=4, block_sizes=(4,))
    assert [str(fault) for fault in faults_of(twice, design)] == ["entry 3 is entry 1 again: their salts are one"]


@pytest.mark.parametrize(
    ("positions", "code", "said"),
    [
        ([0, 1, 2], "missing", "entry 3"), ([0, 1, 1, 3], "twice", "entry 1"), ([1, 2, 3, 4], "additional", "entry 4"),
        ([0, 2, 3, 3], "twice", "entry 3"), ([-1, 0, 1, 2], "additional", "entry -1"),
    ],
)  # fmt: skip
def test_rows_have_each_position_once(positions: list[int], code: str, said: str) -> None:
    with pytest.raises(ListFault) as fault:
        check_positions("{}", positions, 4)
    assert fault.value.code == code and said in str(fault.value)
    check_positions("{}", [3, 1, 0, 2], 4)


def test_a_list_made_elsewhere_is_held_to_its_ratio_alone() -> None:
    def imported(text: str) -> set[str]:
        design = how("imported-list", len(text), arms=(listed(text).arms,))
        return {fault.code for fault in faults_of(listed(text), design)}

    assert imported("ABAABBBABA") == set()
    assert imported("A" * 10 + "B" * 10) == imported("A" * 20) == {"sorted"}
    assert imported("AAB" * 90) == {"ratio"}


def test_what_the_ledger_cannot_see_is_said_in_figures() -> None:
    """One wrong entry in a list of 20 by blocks of 4 or 6: what docs/balance.md says, over all entries of 100 lists."""
    design, seen = how(), Counter[bool]()
    for number in range(100):
        stratum = drawn(design, number)
        for position, arm in enumerate(stratum.arms):
            changed = stratum.arms[:position] + bytes([1 - arm]) + stratum.arms[position + 1 :]
            seen[any(f.code == "sequence" for f in faults_of(replace(stratum, arms=changed), design))] += 1
    assert (seen[True], seen.total()) == (1513, 2000)


# ---- the ledger -----------------------------------------------------------------------------------------------------


def _cuttings(arms: bytes, sizes: tuple[int, ...]) -> set[tuple[int, ...]]:
    """Every way to cut a list into balanced blocks, by its ends; the last block may be cut."""
    if not arms:
        return {()}
    ways = set()
    for size in sizes:
        block = arms[:size]
        if max(block.count(0), block.count(1)) <= size // 2:
            rest = _cuttings(arms[size:], sizes)
            ways |= {(len(block), *(len(block) + end for end in way)) for way in rest}
    return ways


@settings(max_examples=150, deadline=None)
@given(
    text=st.text("AB", min_size=1, max_size=14), sizes=st.sampled_from([(2,), (4,), (2, 4), (4, 6), (2, 4, 6)])
)  # fmt: skip
def test_the_ledger_is_what_all_cuttings_have_in_common(text: str, sizes: tuple[int, ...]) -> None:
    arms = listed(text).arms
    ways = _cuttings(arms, sizes)
    design = how(length=len(text), block_sizes=sizes)
    if not ways:
        with pytest.raises(ListFault):
            block_ledger("{}", arms, design)
        return
    segments = block_ledger("{}", arms, design).segments
    assert {segment.end for segment in segments} == set.intersection(*map(set, ways))
    between = {end for segment in segments for end in segment.ends}
    assert between | {segment.end for segment in segments} == set.union(*map(set, ways))
    assert [segment.start for segment in segments] == [0, *(segment.end for segment in segments[:-1])]
    for segment in segments:
        assert segment.counts == tuple(arms[segment.start : segment.end].count(arm) for arm in (0, 1))
        assert segment.blocks == (not segment.ends)
        assert not segment.whole or segment.counts[0] == segment.counts[1]


# ---- chances --------------------------------------------------------------------------------------------------------


def _all_lists(design: RandomizationDesign) -> dict[bytes, float]:
    """Every list of a design without blocks, with its probability."""
    weigh, found = METHODS[design.method].weights(design, design.length), {}
    for arms in itertools.product(range(len(design.ratio)), repeat=design.length):
        chance, counts = 1.0, [0] * len(design.ratio)
        for arm in arms:
            weighed = weigh(counts)
            chance *= weighed[arm] / sum(weighed)
            counts[arm] += 1
            if not chance:
                break
        else:
            found[bytes(arms)] = chance
    assert sum(found.values()) == pytest.approx(1)
    return found


@pytest.mark.parametrize("method", ["complete", "big-stick", "urn", "maximal-procedure", "block-urn"])
def test_a_run_is_as_rare_as_is_said_or_rarer(method: str) -> None:
    """Over all lists of 10: the lists with a run said to be so rare are together no likelier than that."""
    design = how(method, 10)
    chances = [(rarest_run(arms, design).chance, chance) for arms, chance in _all_lists(design).items()]  # type: ignore[union-attr]
    for bound in {bound for bound, _ in chances}:
        assert sum(chance for other, chance in chances if other <= bound) <= bound + 1e-12


@pytest.mark.parametrize("method", ["complete", "big-stick", "random-allocation-rule", "block-urn"])
def test_the_chance_of_a_sorted_list_is_exact(method: str) -> None:
    design = how(method, 8)
    exact = sum(
        chance for arms, chance in _all_lists(design).items() if len(set(arms)) == 1 + sum(
            first != second for first, second in itertools.pairwise(arms)
        )
    )  # fmt: skip
    assert chance_sorted(METHODS[method].weights(design, 8), 2, 8) == pytest.approx(exact)


@given(length=st.integers(1, 60), count=st.integers(0, 60), share=st.sampled_from([0.5, 1 / 3, 0.9]))
def test_a_count_is_as_rare_as_is_said_or_rarer(length: int, count: int, share: float) -> None:
    count = min(count, length)
    tail = range(count, length + 1) if count >= length * share else range(count + 1)
    exact = sum(comb(length, k) * share**k * (1 - share) ** (length - k) for k in tail)
    assert chance_of_count(count, length, share) >= exact - 1e-12


def test_a_chance_in_words() -> None:
    assert [one_in(chance) for chance in (0.5, 3.8e-5, 1e-6, 1e-13, 0.0)] == [
        "2", "26,000", "1,000,000", "a million million", "a million million",
    ]  # fmt: skip


# ---- the report -----------------------------------------------------------------------------------------------------


def test_the_second_way_to_a_root_is_that_of_rfc_6962() -> None:
    for size in range(40):
        leaves = [number.to_bytes(3, "big") for number in range(size)]
        assert _tree_hash(leaves) == merkle.root(merkle.leaf_hash(leaf) for leaf in leaves)


def _report(trial: Trial) -> Any:
    read, sealing = trial.service.read_list(trial.actor("ST"), "check"), trial.service.history.sealing
    assert sealing is not None
    fields = sealing.fields
    return read, list_report(trial.service.study, fields["sealing"], fields["root"], read.design, read.strata)


@pytest.mark.requirement("G07")
@pytest.mark.requirement("C06")
def test_the_report_of_a_sealed_list_leads_to_the_root_in_the_log(trials: TrialFactory) -> None:
    trial = trials("sealed", stratified=True)
    read, report = _report(trial)
    assert report.faults == () and report.digest == _report(trial)[1].digest
    assert [stratum.counts for stratum in report.strata] == [
        (stratum.arms.count(0), stratum.arms.count(1)) for stratum in read.strata
    ]
    sealing, root = report.sealing, report.root
    exchanged = (replace(read.strata[0], arms=read.strata[0].arms[::-1]), read.strata[1])
    for strata, code in ((exchanged, "root"), (read.strata[::-1], "strata"), (read.strata[:1], "strata")):
        with pytest.raises(ListFault) as fault:
            check_root(trial.service.study, sealing, root, strata)
        assert fault.value.code == code
    wrong = list_report(trial.service.study, sealing, "0" * 64, read.design, read.strata)
    assert [fault.code for fault in wrong.faults] == ["root"] and wrong.digest != report.digest


@pytest.mark.requirement("C01")
def test_the_list_cannot_be_found_by_trying_reports(trials: TrialFactory) -> None:
    """The report's digest is public: with the same arms and other salts it is another one, and no arm is in it."""
    read, report = _report(trials("sealed"))
    salts = bytes(reversed(read.strata[0].salts))
    other = list_report(study(), report.sealing, report.root, read.design, (replace(read.strata[0], salts=salts),))
    plain, others = report.plain(), other.plain()
    assert plain["strata"][0]["sha256"] == others["strata"][0]["sha256"]
    assert plain["strata"][0]["sha256_with_salts"] != others["strata"][0]["sha256_with_salts"]
    assert report.digest != other.digest
    assert read.strata[0].arms.hex() not in str(plain) and str(list(read.strata[0].arms)) not in str(plain)


def test_a_report_is_made_of_a_list_that_no_design_gives() -> None:
    design = how(length=4, block_sizes=(4,))
    for text in ("AAAA", "ABC", "ABBAA"):
        report = list_report(study(), "00" * 16, "00" * 32, design, (listed(text),))
        assert report.faults and report.digest and report.strata[0].ledger is None


def test_limits_that_designs_set() -> None:
    limits = {method: furthest_allowed(how(method)) for method in DESIGNS}
    assert limits == {
        "permuted-block": 3, "complete": None, "random-allocation-rule": 10, "big-stick": 3, "biased-coin": None,
        "urn": None, "truncated-binomial": 10, "chen": 3, "maximal-procedure": 3, "block-urn": 2,
    }  # fmt: skip
    assert difference((4, 2, 0), (2, 1, 1)) == 2


# ---- during the trial -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("C03")
def test_what_was_allocated_with_and_without_arms(trials: TrialFactory) -> None:
    trial = trials("active", stratified=True)
    given = trial.allocate("P-001", "P-002", stratum={"site": "B"})
    trial.service.correct(trial.actor("PH"), "P-002", "in-error", "P-001", "the same person")
    trial.clock.advance(hours=5)
    trial.confirm("P-003", stratum={"site": "A"})
    on_paper = trial.clock.now - timedelta(hours=2)
    late = trial.service.late(trial.actor("PH"), "P-003", on_paper, "power cut")
    seen = allocated(trial.records)
    codes = [arm.code for arm in trial.service.study.arms]
    assert [codes[one.arm] for one in seen] == [a.arm.code for a in (*given, late)]
    assert [one.position for one in seen] == [0, 1, 0]
    assert [(one.number, one.stratum, one.late, one.in_error) for one in seen] == [
        (1, stratum_label({"site": "B"}), False, False),
        (2, stratum_label({"site": "B"}), False, True),
        (3, stratum_label({"site": "A"}), True, False),
    ]
    assert seen[2].time == on_paper
    blinded = enrolled(trial.records)
    assert [(one.number, one.time) for one in blinded] == [(one.number, one.time) for one in seen]
    assert not any(hasattr(one, name) for one in blinded for name in ("arm", "position"))

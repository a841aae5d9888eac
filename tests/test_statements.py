"""The texts on randomization: what each tells, that the public one predicts nothing, and that their words are true."""

from __future__ import annotations

import copy
import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator import PROGRAM
from allocator.consort import by_arm
from allocator.design import RandomizationDesign
from allocator.errors import EvidenceError
from allocator.log_facts import LogFacts, Reading, facts_of
from allocator.method_words import WORDS
from allocator.methods import METHODS
from allocator.statements import Statement, consort_paragraph, public_statement, restricted_statement
from support import START, Trial, TrialFactory, study

TWO = (("IL2-GCV", 1), ("GCV", 1))
UNEQUAL = (("IL2-GCV", 2), ("GCV", 1))
STUDY = study()
HEX = re.compile("[0-9a-f]{64}")
# parameters that stand nowhere else in a statement, so that their digits can be hunted
HUNTED: dict[str, dict[str, Any]] = {
    "permuted-block": {"block_sizes": (33, 39), "ratio": UNEQUAL, "length": 314},
    "complete": {"ratio": UNEQUAL, "length": 314},
    "random-allocation-rule": {"ratio": UNEQUAL, "length": 318},
    "big-stick": {"limit": 37, "length": 314},
    "biased-coin": {"probability": Fraction(41, 59), "length": 314},
    "urn": {"alpha": 43, "beta": 47, "length": 314},
    "truncated-binomial": {"block_sizes": (34, 46), "length": 314},
    "chen": {"limit": 37, "probability": Fraction(41, 59), "length": 314},
    "maximal-procedure": {"limit": 37, "length": 314},
    "block-urn": {"lambda_": 53, "ratio": UNEQUAL, "length": 314},
    "imported-list": {"arms": (bytes([0, 1]) * 157,), "length": 314},
}
SMALL: list[tuple[str, dict[str, Any]]] = [
    ("permuted-block", {"block_sizes": (4,)}),
    ("permuted-block", {"block_sizes": (3, 6), "ratio": UNEQUAL}),
    ("random-allocation-rule", {}),
    ("random-allocation-rule", {"ratio": UNEQUAL, "length": 9}),
    ("biased-coin", {"probability": Fraction(2, 3)}),
    ("urn", {"alpha": 1, "beta": 1}),
    ("urn", {"alpha": 0, "beta": 2}),
    ("chen", {"limit": 2, "probability": Fraction(3, 4)}),
    ("maximal-procedure", {"limit": 2}),
]


def design(method: str, **given: Any) -> RandomizationDesign:
    """A design of the real study: 1:1, ten entries, unless said otherwise."""
    return RandomizationDesign(method=method, **{"ratio": TWO, "length": 10, **given})


def facts(trial: Trial) -> LogFacts:
    """What the trial's log says."""
    return facts_of(trial.records)


def closed(trial: Trial) -> LogFacts:
    """The same after the sponsor closed the study."""
    trial.service.change_state(trial.actor("SP"), "closed", "enough")
    return facts(trial)


def numbers(text: str) -> set[str]:
    """All whole numbers of a text outside digests."""
    return set(re.findall(r"\d+", HEX.sub("", text)))


def assert_well_written(statement: Statement) -> None:
    """Paragraphs of whole sentences; no slip that a machine can see."""
    text = statement.text
    assert text.endswith(".\n") and "\n\n\n" not in text
    assert not re.search(r"  | [.,;:](?! [A-Z])| \.|\.\.|\(\)|None|True|False|\bnan\b|, and \.|\bor \.", text), text
    assert not re.search(r"\b1 (participants|allocations|entries|balls|balanced sets)|\bone \w+s were\b", text), text
    _, *paragraphs = text.rstrip("\n").split("\n\n")
    for paragraph in paragraphs:
        assert "\n" not in paragraph and paragraph.endswith(".") and paragraph[0].isupper(), paragraph
        for sentence in re.split(r"(?<=[a-z)0-9])\. ", paragraph):
            assert sentence[0].isupper() or sentence[0].isdigit(), sentence


# ---- the public statement -------------------------------------------------------------------------------------------

TELLING = re.compile(
    r"\bblock|permut|\blimit|\bcoin|\burn\b|\bratio\b|toleranc|\bbalanc|\bmaximal|truncat|\bstick|lambda|length|"
    r"\bentries\b|probabilit|algorithm|\d/\d",
    re.IGNORECASE,
)


@pytest.mark.requirement("P02", "G04", "C03")
@pytest.mark.parametrize("method", METHODS)
def test_the_public_statement_tells_no_design(method: str, trials: TrialFactory) -> None:
    how = design(method, **HUNTED[method])
    sealed = facts(trials("sealed", how=how))
    public = public_statement(STUDY, sealed, PROGRAM)
    assert TELLING.findall(public.text) == []
    hunted = numbers(repr(list(HUNTED[method].values()))) - {"0", "1", "2"}
    assert hunted and hunted & numbers(public.text) == set()
    assert "design_commitment" not in public.bound
    assert sealed.generated is not None and sealed.generated.fields["design_commitment"] not in public.text
    restricted = restricted_statement(STUDY, how, sealed, PROGRAM, compared=True).text
    assert TELLING.search(restricted) or method == "imported-list"  # the hunt finds what there is to find
    assert hunted & numbers(restricted)
    assert_well_written(public)


@pytest.mark.requirement("P02")
def test_the_public_statement_is_one_for_all_restricted_methods(trials: TrialFactory) -> None:
    """Whatever the method and its parameters: only digests differ."""
    texts = {
        method: HEX.sub("", public_statement(STUDY, facts(trials("sealed", how=how)), PROGRAM).text)
        for method, how in {name: design(name, **given) for name, given in HUNTED.items()}.items()
    }
    simple, imported = texts.pop("complete"), texts.pop("imported-list")
    assert len(set(texts.values())) == 1
    assert "Randomization is restricted and not stratified." in texts["urn"] and "a separate document" in texts["urn"]
    assert "Randomization is simple (unrestricted) and not stratified." in simple and "separate document" not in simple
    assert "prepared outside the randomization program" in imported and "any restriction" in imported


@pytest.mark.requirement("P02", "C01", "C02")
def test_the_public_statement_has_every_item(trials: TrialFactory) -> None:
    text = public_statement(study(stratified=True), facts(trials("sealed", stratified=True)), PROGRAM).text
    for item in ("21a", "21b", "22", "23"):
        assert re.search(rf"\(SPIRIT 2025 items? [^)]*\b{item}\b", text), item
    for said in (
        "one of two arms: Low-dose IL-2 and ganciclovir (IL2-GCV) or Ganciclovir (GCV)",
        "generated by computer (allocator ",
        "on 20 November 2026, before the first allocation, by a statistician who takes no part",
        "512 random bits taken from the operating system",
        "stratified by site (A or B)",
        "key in two halves",
        "commitment to every entry",
        "Neither group has access to the allocation sequence",
        "open label",
    ):
        assert said in text
    assert "TEST STUDY" in text  # as these trials are
    assert "(ST)" not in text  # nobody is named


def test_before_a_list_the_public_statement_looks_ahead(trials: TrialFactory) -> None:
    statement = public_statement(STUDY, facts(trials("opened")), PROGRAM)
    assert "will be generated by computer" in statement.text and "commitment" not in statement.text
    assert statement.bound["root"] is None and "simple" not in statement.text
    assert_well_written(statement)


def test_a_given_seed_and_a_test_are_told(trials: TrialFactory) -> None:
    trial = trials("enrolled")
    trial.service.generate(trial.actor("ST"), design("complete"), seeds=[bytes(32), bytes(32)])
    assert "The seed was given, as only a test allows." in public_statement(STUDY, facts(trial), PROGRAM).text
    real = replace(facts(trial), test=False)
    assert "TEST" not in public_statement(STUDY, real, PROGRAM).text


# ---- the restricted statement ---------------------------------------------------------------------------------------


def test_every_method_has_its_words_and_its_paper() -> None:
    assert list(WORDS) == list(METHODS)
    for name, words in WORDS.items():
        module = importlib.import_module(METHODS[name].__name__)  # type: ignore[attr-defined]
        if name == "imported-list":
            assert words.paper == ""
            continue
        surname, year = words.paper.split()[0], re.search(r"\. (\d{4});", words.paper)
        assert year and re.search(r";\d+\(\d+\):\d+-\d+\.$", words.paper), name
        if name != "permuted-block":  # its module cites the shuffle
            assert module.__doc__ and surname in module.__doc__


@pytest.mark.requirement("P02", "G04")
@pytest.mark.parametrize("method", METHODS)
def test_the_restricted_statement_tells_all(method: str, trials: TrialFactory) -> None:
    how = design(method, **HUNTED[method])
    sealed = facts(trials("sealed", how=how))
    statement = restricted_statement(STUDY, how, sealed, PROGRAM, compared=True)
    text = statement.text
    wanted = {key: value for key, value in HUNTED[method].items() if key not in ("ratio", "arms")}
    assert numbers(repr(list(wanted.values()))) <= numbers(text)
    ratio = ":".join(map(str, how.shares))
    assert f"The allocation ratio is {ratio} (IL2-GCV : GCV)." in text
    assert WORDS[method].paper in text and "SPIRIT 2025 item 21b" in text and "RESTRICTED" in text
    assert (f"The algorithm ({how.algorithm}) is specified in public" in text) == (method != "imported-list")
    assert ("5d" * 32 in text) == (method == "imported-list")
    assert "by a statistician (ST) who takes no part" in text
    assert sealed.generated is not None and sealed.generated.fields["design_commitment"] in text
    assert re.search(r"[01]{20}", HEX.sub("", text)) is None and "00010001" not in text  # a list itself stands nowhere
    assert_well_written(statement)


@pytest.mark.requirement("P02")
def test_the_restricted_statement_says_whether_the_design_was_compared(trials: TrialFactory) -> None:
    how, sealed = design("big-stick", limit=3), facts(trials("sealed"))
    told = {compared: restricted_statement(STUDY, how, sealed, PROGRAM, compared=compared).text for compared in (0, 1)}
    assert "This is the design of the sealed list" in told[1]
    assert "was not checked" in told[0]
    before = restricted_statement(STUDY, how, facts(trials("enrolled")), PROGRAM, compared=False)
    assert "No list was sealed when this was written." in before.text and before.bound["root"] is None
    assert_well_written(before)


@pytest.mark.requirement("G06")
def test_every_list_that_was_sealed_shows(trials: TrialFactory) -> None:
    trial, how = trials("sealed"), design("big-stick", limit=3)
    assert "No other list was sealed" in restricted_statement(STUDY, how, facts(trial), PROGRAM, compared=False).text
    trial.service.generate(trial.actor("ST"), how, reason="the first was a rehearsal")
    trial.service.sign_off(trial.actor("ST"), "5e" * 32)
    again = facts(trial)
    text = restricted_statement(STUDY, how, again, PROGRAM, compared=True).text
    assert "Two lists were sealed one after another before activation; the last one is the list of the trial" in text
    assert "signed off, before activation" in text
    assert again.lists == 2 and again.checked


def test_strata_are_named_while_they_are_few(trials: TrialFactory) -> None:
    many = study(stratified=True)
    how = design("permuted-block", block_sizes=(4, 6), length=20)
    sealed = facts(trials("sealed", stratified=True))
    text = restricted_statement(many, how, sealed, PROGRAM, compared=True).text
    assert (
        "Each of the two strata (site A; site B) has a sequence of its own, drawn independently, of 20 entries" in text
    )
    assert "All of this holds within each stratum." in text
    assert "40 in all; the last block may be cut short to fit." in text


# ---- the words on prediction, held to the weights by which lists are drawn ------------------------------------------


def states(how: RandomizationDesign, size: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(counts, weights) of every state of a block that can be reached, by counting on."""
    weights = METHODS[how.method].weights(how, size)
    reached = {(0,) * len(how.ratio)}
    for _ in range(size):
        following = set()
        for counts in sorted(reached):
            weighed = weights(counts)
            yield counts, weighed
            following |= {
                tuple(n + (i == arm) for i, n in enumerate(counts)) for arm, weight in enumerate(weighed) if weight
            }
        reached = following


@pytest.mark.requirement("G05")
@pytest.mark.parametrize(("method", "given_"), SMALL, ids=lambda value: str(value))
def test_the_guess_that_is_called_best_is_best(method: str, given_: dict[str, Any]) -> None:
    how = design(method, **given_)
    behind = "fewer allocations so far" in WORDS[method].risk(how)
    assert behind or "of which most is left" in WORDS[method].risk(how)
    for size in how.blocks:
        for counts, weighed in states(how, size):
            left = [size * share // how.ratio_sum - n for share, n in zip(how.shares, counts, strict=True)]
            by_words = [-n for n in counts] if behind else left
            best = {arm for arm, value in enumerate(by_words) if value == max(by_words)}
            assert {arm for arm, weight in enumerate(weighed) if weight == max(weighed)} == best


@pytest.mark.requirement("G05")
def test_what_is_called_certain_is_certain_and_nothing_else_is() -> None:
    stick, chen = design("big-stick", limit=2), design("chen", limit=2, probability=Fraction(2, 3))
    assert "When one arm leads by 2, the next allocation is certain" in WORDS["big-stick"].risk(stick)
    for how in (stick, chen):
        for (first, second), weighed in states(how, 10):
            assert (0 in weighed) == (abs(first - second) == 2)
    assert all(len(set(w)) == 1 or 0 in w for _, w in states(stick, 10))
    assert all(0 not in w for _, w in states(design("biased-coin", probability=Fraction(2, 3)), 10))
    truncated = design("truncated-binomial")
    assert all((0 in w) == (5 in counts) and (0 in w or len(set(w)) == 1) for counts, w in states(truncated, 10))
    assert all(w == (1, 1) for _, w in states(design("complete"), 10))
    empty = design("urn", alpha=0, beta=1)
    assert "the second allocation is certain to be the other arm" in WORDS["urn"].risk(empty)
    assert [w for counts, w in states(empty, 2) if sum(counts) == 1] == [(1, 0), (0, 1)]
    still = design("urn", alpha=3, beta=0)
    assert "no allocation can be foretold" in WORDS["urn"].risk(still)
    assert all(len(set(w)) == 1 for _, w in states(still, 10))
    for size, sizes in ((4, (4,)), (10, ())):
        method = "permuted-block" if sizes else "random-allocation-rule"
        how = design(method, block_sizes=sizes) if sizes else design(method)
        assert all((0 in w) == (size // 2 in counts) for counts, w in states(how, size))


def test_the_urn_of_several_arms_and_a_block_urn_in_words() -> None:
    three = (("A", 1), ("B", 1), ("C", 1))
    assert "certain not to be the first arm again" in WORDS["urn"].risk(design("urn", alpha=0, beta=1, ratio=three))
    assert "starts with 1 balanced set (2:1)" in WORDS["block-urn"].how(design("block-urn", lambda_=1, ratio=UNEQUAL))
    fixed = design("truncated-binomial", block_sizes=(4,), length=10)
    assert "within blocks with a fixed block size of 4" in WORDS["truncated-binomial"].how(fixed)


# ---- the report after the close -------------------------------------------------------------------------------------


@pytest.mark.requirement("P02", "X01", "X02", "X03", "A11")
def test_the_report_counts_what_the_log_has(trials: TrialFactory) -> None:
    trial = trials("active", stratified=True)
    trial.service.read_list(trial.actor("ST"), "balance")
    for participant in ("P-001", "P-002", "P-003"):
        trial.allocate(participant, stratum={"site": "A"})
    trial.clock.advance(hours=30)
    trial.confirm("P-004", stratum={"site": "B"})
    on_paper = trial.clock.now
    trial.clock.advance(hours=20)
    late = trial.service.late(trial.actor("PH"), "P-004", on_paper, "power cut", told="GCV")
    for participant, what, value in (
        ("P-001", "stratum", "site=B"),
        ("P-001", "stratum", "site=A"),
        ("P-002", "ineligible", "I2b"),
        ("P-003", "in-error", "P-002"),
    ):
        trial.service.correct(trial.actor("PH"), participant, what, value, "found later")
    counted = closed(trial)
    many = study(stratified=True)
    how = design("permuted-block", block_sizes=(4, 6), length=20)
    statement = consort_paragraph(many, how, counted, PROGRAM)
    text = statement.text
    for item in ("17a", "17b", "18", "19"):
        assert f"(CONSORT 2025 item {item})" in text
    assert counted.total == 4 and counted.last == on_paper
    by_code = {item["code"]: item["allocated"] for item in by_arm(many, counted) or []}
    arms = [record.fields["arm"] for record in trial.records if record.kind in ("allocated", "late")]
    assert by_code == {"IL2-GCV": arms.count(0), "GCV": arms.count(1)}
    words = ("no", "one", "two", "three", "four")
    split = (
        f"{words[arms.count(0)]} to Low-dose IL-2 and ganciclovir (IL2-GCV) and {words[arms.count(1)]} to "
        "Ganciclovir (GCV)"
    )
    assert (
        f"Between 20 November 2026 and 21 November 2026, four participants were allocated (planned: ten): {split}."
        in text
    )
    assert f"The allocations were made with {PROGRAM}." in text
    for said in (
        "One allocation was marked as made in error.",
        "One participant was found to be ineligible after allocation.",
        "One participant was allocated in a stratum that was later corrected.",
        "One allocation was made on paper",
        "The log records no allocation followed by another treatment or made under a wrong participant number.",
        "the sealed sequence was read by ST to watch its balance (once, on 20 November 2026)",
        "enrolled by one investigator (IN) and assigned to interventions by one pharmacist (PH)",
        "block sizes of 4 and 6",
        "a custodian (CU) held the other share",
    ):
        assert said in text
    told = late.record.fields["arm"] != 1
    assert ("For one of those made on paper" in text) == told == bool(counted.told_otherwise)
    assert_well_written(statement)


def test_the_report_of_a_study_in_which_nothing_happened(trials: TrialFactory) -> None:
    how = design("permuted-block", block_sizes=(4, 6), length=20)
    statement = consort_paragraph(STUDY, how, closed(trials("active")), PROGRAM)
    assert "No participant was allocated." in statement.text and "no investigator" in statement.text
    assert "The log records no reading of the sealed sequence." in statement.text
    assert "in a wrong stratum" not in statement.text  # there are none
    assert_well_written(statement)


@pytest.mark.requirement("C06", "U05")
def test_the_report_tells_of_the_opening(trials: TrialFactory) -> None:
    trial = trials("active")
    trial.allocate("P-001")
    closed(trial)
    for person in ("ST", "CU"):
        trial.service.open_list(trial.actor(person))
    statement = consort_paragraph(STUDY, design("complete"), facts(trial), PROGRAM)
    assert "agreed with the sealed one in every entry" in statement.text
    assert facts(trial).state == "opened"
    assert_well_written(statement)


def test_a_list_sealed_again_and_its_keepers(trials: TrialFactory) -> None:
    trial = trials("active")
    papers = [trial.service.copy_share(trial.actor(person))[1] for person in ("ST", "CU")]
    trial.enrol("ST2", "statistician")
    trial.service.reseal(trial.actor("ST2"), papers, "the key of ST is lost")
    text = consort_paragraph(STUDY, design("complete"), closed(trial), PROGRAM).text
    assert "sealed again under new keys once, to the same root" in text
    assert "The statistician who sealed the sequence (ST and ST2)" in text and "a custodian (CU)" in text
    assert "No other list was sealed" in text


@pytest.mark.requirement("C04")
def test_no_count_by_arm_in_a_masked_study_before_the_opening(trials: TrialFactory) -> None:
    trial = trials("active")
    trial.allocate("P-001")
    counted, masked = closed(trial), copy.copy(STUDY)
    object.__setattr__(masked, "masking", "double")
    statement = consort_paragraph(masked, design("complete"), counted, PROGRAM)
    assert by_arm(masked, counted) is None and " to Ganciclovir" not in statement.text
    assert by_arm(masked, replace(counted, state="opened")) is not None
    assert "open label" not in statement.text and "open label" not in public_statement(masked, counted, PROGRAM).text
    assert_well_written(statement)


def test_a_report_before_the_close_is_a_fault_of_ours(trials: TrialFactory) -> None:
    with pytest.raises(RuntimeError):
        consort_paragraph(STUDY, design("complete"), facts(trials("active")), PROGRAM)


def test_an_empty_log_has_no_facts() -> None:
    with pytest.raises(EvidenceError):
        facts_of(())


@pytest.mark.requirement("A11")
def test_what_receipts_gave_back_is_counted_with_its_own_time(trials: TrialFactory) -> None:
    trial = trials("active")
    trial.allocate("P-001")
    records = trial.records
    allocated = records[-1]
    fields = {
        **{name: allocated.fields[name] for name in ("arm", "time", "mode", "program", "seq")},
        "kind": "receipt-entered",
        "person": "SP",
        "original": {"prev": allocated.prev.hex(), "body": allocated.body.decode("utf-8")},
    }
    entered = replace(allocated, fields={**fields, "time": "2026-12-01T00:00:00.000Z"})
    counted = facts_of([*records[:-1], entered])
    assert (counted.total, counted.assigned_by, counted.first) == (1, ("PH",), allocated.time)
    assert counted.counts["receipt-entered"] == 1


# ---- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("V02")
def test_each_ends_with_what_it_is_bound_to(trials: TrialFactory) -> None:
    trial = trials("active")
    how = design("permuted-block", block_sizes=(4, 6), length=20)
    counted = closed(trial)
    root = trial.service.history.sealing
    assert root is not None
    for statement in (
        public_statement(STUDY, counted, PROGRAM),
        restricted_statement(STUDY, how, counted, PROGRAM, compared=True),
        consort_paragraph(STUDY, how, counted, PROGRAM),
    ):
        ending = statement.text.rstrip("\n").rsplit("\n\n", 1)[1]
        digests = [STUDY.fingerprint.hex(), root.fields["root"], trial.last.hash.hex()]
        if statement.kind != "public":
            digests.insert(2, root.fields["design_commitment"])
        assert HEX.findall(ending) == digests
        assert f"({trial.last.seq + 1} records). Written by {PROGRAM}." in ending
        assert statement.sha256 == hashlib.sha256(statement.text.encode()).hexdigest()
        assert statement.bound["records"] == trial.last.seq + 1


@pytest.fixture(scope="module")
def one_closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogFacts]:
    """The facts of a closed study, to be varied."""
    factory = TrialFactory(tmp_path_factory.mktemp("templates"), tmp_path_factory.mktemp("homes"), {})
    yield closed(factory("active"))
    factory.close()


SMALL_COUNT = st.integers(0, 12)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_the_numbers_the_sentences_are_whole(data: st.DataObject, one_closed: LogFacts) -> None:
    draw = data.draw
    kinds = ("reassigned", "late", "receipt-entered", "restored", "resealed")
    times = [START + timedelta(days=draw(st.integers(0, 400))) for _ in range(2)]
    people = st.lists(st.sampled_from(["A", "B", "C"]), unique=True).map(tuple)
    readings = st.builds(
        Reading,
        person=st.sampled_from(["ST", "ST2"]),
        purpose=st.sampled_from(["check", "balance", "export"]),
        time=st.sampled_from(times),
    )
    varied = replace(
        one_closed,
        lists=draw(st.integers(1, 12)),
        checked=draw(st.booleans()),
        allocated={0: draw(SMALL_COUNT), 1: draw(SMALL_COUNT)},
        first=min(times),
        last=max(times),
        enrolled_by=draw(people),
        assigned_by=draw(people),
        programs=draw(st.lists(st.sampled_from([PROGRAM, "allocator 9.9.9"]), min_size=1, unique=True).map(tuple)),
        counts={kind: draw(SMALL_COUNT) for kind in kinds},
        corrected={what: draw(SMALL_COUNT) for what in ("stratum", "ineligible", "in-error", "treatment")},
        told_otherwise=draw(SMALL_COUNT),
        reserved=draw(SMALL_COUNT),
        readings=tuple(draw(st.lists(readings, max_size=4))),
        opened=draw(st.sampled_from([None, START])),
    )
    method, given_ = draw(st.sampled_from([*SMALL, ("complete", {}), ("big-stick", {"limit": 1})]))
    for of in (STUDY, study(stratified=True)):
        statement = consort_paragraph(of, design(method, **given_), varied, PROGRAM)
        assert_well_written(statement)
        assert statement == consort_paragraph(of, design(method, **given_), varied, PROGRAM)


def test_every_arm_is_told_apart(trials: TrialFactory) -> None:
    """Labels that run into each other: the code follows each."""
    text = public_statement(STUDY, facts(trials("sealed")), PROGRAM).text
    assert all(f"{arm.label} ({arm.code})" in text for arm in STUDY.arms)

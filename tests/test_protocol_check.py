"""The protocol check: the first study's findings, and each rule alone, firing and silent."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.boundary import boundary_conflict
from allocator.criterion import Criterion
from allocator.design import RandomizationDesign
from allocator.design_check import cut_probability
from allocator.errors import InputError
from allocator.protocol_check import Finding, check_protocol, parse_registry
from allocator.study import Factor, Question, Study
from allocator.t_test import NoScipy
from allocator.toml_files import read_design, read_study

ROOT = Path(__file__).parent.parent
STUDY = read_study("study.toml", (ROOT / "schedules/NCT04225780/study.toml").read_bytes())
RECORD = (ROOT / "schedules/NCT04225780/registry.json").read_bytes()
REGISTRY = parse_registry(RECORD)
DESIGN = read_design("design.toml", (ROOT / "examples/NCT04225780/design.toml").read_bytes())
BLOCKERS = ["K01", "K02", "K03", "K04", "K05", "K06"]
WARNINGS = ["K07", "K08", "K09", "K10", "K11", "K12", "K13"]
INFOS = ["K14", "K15", "K16"]
STRINGS = json.loads(RECORD)


def found(
    study: Study = STUDY,
    registry: dict[str, Any] | None = REGISTRY,
    design: RandomizationDesign | None = None,
) -> dict[str, Finding]:
    """The findings by id; every id stands once."""
    findings = check_protocol(study, registry, design)
    by_id = {finding.id: finding for finding in findings}
    assert len(by_id) == len(findings)
    return by_id


def record(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The registry record with values at dotted paths below protocolSection replaced."""
    value = copy.deepcopy(STRINGS)
    for path, new in changes:
        at: Any = value["protocolSection"]
        *parents, last = path.split(".")
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        at[int(last) if isinstance(at, list) else last] = new
    return parse_registry(json.dumps(value).encode())


def design(*sizes: int, length: int = 20, shares: tuple[int, ...] = (1, 1)) -> RandomizationDesign:
    ratio = tuple(zip(("IL2-GCV", "GCV"), shares, strict=True))
    return RandomizationDesign(method="permuted-block", block_sizes=sizes, length=length, ratio=ratio)


def criterion(name: str, **changes: Any) -> Criterion:
    known = STUDY.criterion(name)
    assert known is not None
    return replace(known, **changes)


def with_criterion(changed: Criterion) -> Study:
    return replace(STUDY, criteria=tuple(changed if c.id == changed.id else c for c in STUDY.criteria))


# ------------------------------------------------------------------------------------------------- the first study


@pytest.mark.requirement("P01")
def test_the_first_study_has_k01_to_k16_and_nothing_else() -> None:
    findings = check_protocol(STUDY, REGISTRY, None)
    assert [f.id for f in findings] == BLOCKERS + WARNINGS + INFOS
    assert [f.id for f in findings if f.level == "block"] == BLOCKERS
    assert [f.id for f in findings if f.level == "info"] == INFOS


@pytest.mark.requirement("G05")
@pytest.mark.requirement("P01")
def test_the_design_adds_predictability_and_the_cut_block() -> None:
    assert found(design=DESIGN).keys() - found().keys() == {"K21", "K23"}


@pytest.mark.requirement("P01")
def test_every_quote_stands_in_the_record_word_for_word() -> None:
    whole = json.dumps(STRINGS, ensure_ascii=False)
    for finding in check_protocol(STUDY, REGISTRY, None):
        assert finding.quotes
        assert [q for q in finding.quotes if json.dumps(q, ensure_ascii=False)[1:-1] not in whole] == []


def test_a_finding_survives_json() -> None:
    for finding in check_protocol(STUDY, REGISTRY, DESIGN):
        plain = json.loads(json.dumps(finding.as_json(decided=True)))
        assert list(plain) == ["id", "level", "message", "quotes", "decided"]
        assert Finding.from_json(plain) == finding


def test_a_question_shows_its_proposed_reading() -> None:
    question = STUDY.questions[0]
    finding = found()[question.id]
    assert finding.message == f"{question.message} Proposed reading: {question.reading}"
    assert (finding.level, finding.quotes) == (question.level, question.quotes)


def test_without_a_record_only_that_is_said() -> None:
    findings = found(registry=None)
    assert "K27" in findings
    assert findings["K27"].level == "info"
    assert not findings.keys() & {"K01", "K02", "K03", "K06", "K10", "K16", "K26", "K28"}


# -------------------------------------------------------------------------------------------- each rule of the record


@pytest.mark.requirement("P01")
@pytest.mark.parametrize(
    ("rule", "path", "value"),
    [
        ("K01", "designModule.designInfo.allocation", "RANDOMIZED"),
        ("K02", "armsInterventionsModule.armGroups.1.type", "ACTIVE_COMPARATOR"),
        ("K02", "designModule.designInfo.maskingInfo.masking", "DOUBLE"),
        ("K02", "armsInterventionsModule.armGroups.1.interventionNames", ["Drug: Ganciclovir", "Drug: Placebo"]),
        ("K03", "armsInterventionsModule.armGroups.1.interventionNames", ["Drug: Ganciclovir"]),
        ("K03", "armsInterventionsModule.armGroups.1.label", "Control"),
        ("K05", "descriptionModule.briefSummary", "More than 10^3 copies per mL of plasma."),
        ("K05", "descriptionModule.briefSummary", "More than 1000 copies/mL of plasma."),
        ("K06", "descriptionModule.briefSummary", "Participants are randomized 1:1."),
        ("K06", "descriptionModule.briefSummary", "They are randomly allocated to groups of equal size."),
        ("K06", "descriptionModule.briefSummary", "The allocation ratio is two to one."),
        ("K10", "armsInterventionsModule.armGroups.1.interventionNames", ["Drug: Ganciclovir"]),
        ("K16", "statusModule.overallStatus", "RECRUITING"),
    ],
)  # fmt: skip
def test_a_rule_is_silent_when_the_record_is_right(rule: str, path: str, value: Any) -> None:
    assert rule in found()
    assert rule not in found(registry=record((path, value)))


@pytest.mark.parametrize("allocation", ["NA", "NON_RANDOMIZED"])
def test_k01_fires_for_each_allocation_that_is_not_at_random(allocation: str) -> None:
    finding = found(registry=record(("designModule.designInfo.allocation", allocation)))["K01"]
    assert finding.level == "block"
    assert finding.quotes[0] == allocation
    assert "randomly" in finding.quotes[1]


@pytest.mark.parametrize(
    "text",
    ["The hazard ratio is estimated.", "Doses greater than or equal to 1 mg.", "A titre of 1:80.", "Visit at 10:30."],
)
def test_k06_is_not_silenced_by_other_ratios(text: str) -> None:
    assert "K06" in found(registry=record(("descriptionModule.briefSummary", text)))


@pytest.mark.parametrize("status", ["WITHDRAWN", "TERMINATED", "SUSPENDED", "COMPLETED", "NO_LONGER_AVAILABLE"])
def test_k16_blocks_a_study_that_is_over(status: str) -> None:
    finding = found(registry=record(("statusModule.overallStatus", status)))["K16"]
    assert (finding.level, finding.quotes) == ("block", (status,))


def test_k26_names_quotes_that_are_nowhere() -> None:
    question = Question(id="Q01", level="info", quotes=("cmv-dna are positive",), message="m", reading="r")
    finding = found(replace(STUDY, questions=(*STUDY.questions, question)))["K26"]
    assert (finding.level, finding.quotes) == ("block", ("cmv-dna are positive",))
    assert "Q01" in finding.message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("designModule.enrollmentInfo.count", 40, "enrollment: 40 in the registry, 10 in the study file"),
        ("eligibilityModule.minimumAge", "21 Years", "minimum age: 21 Years"),
        ("eligibilityModule.maximumAge", "75 Years", "maximum age: 75 Years"),
        ("eligibilityModule.sex", "FEMALE", "sex: FEMALE in the registry, ALL"),
        ("eligibilityModule.healthyVolunteers", True, "healthy volunteers: accepted in the registry"),
    ],
)
def test_k28_names_plain_facts_that_differ(path: str, value: Any, words: str) -> None:
    finding = found(registry=record((path, value)))["K28"]
    assert finding.level == "warn"
    assert words in finding.message


def test_the_record_of_another_study_is_refused() -> None:
    other = record(("identificationModule.nctId", "NCT00000000"))
    with pytest.raises(InputError, match="NCT00000000"):
        check_protocol(STUDY, other, None)


def test_a_question_may_not_carry_the_id_of_a_rule() -> None:
    question = Question(id="K01", level="info", quotes=("HIV",), message="m", reading="r")
    with pytest.raises(InputError, match="K01"):
        check_protocol(replace(STUDY, questions=(question,)), None, None)


# ------------------------------------------------------------------------------------ rules of the study and design


@pytest.mark.parametrize("text", ["more than 10^3 copies/mL", "more than 10^3 copies per mL", "viral load"])
def test_k05_is_silent_where_the_words_say_per_what(text: str) -> None:
    assert "K05" not in found(with_criterion(criterion("I2b", text=text)))


def test_k05_works_without_a_record() -> None:
    assert found(registry=None)["K05"].quotes == ("CMV-DNA are more than 10^3 copies",)


@pytest.mark.requirement("G05")
def test_k21_carries_figures_that_are_computed() -> None:
    message = found(design=DESIGN)["K21"].message
    for figure in ("67.9%", "50.0%", "6.0%", "56.1% and 12.2%", "1.33", "0.38", "0.37 SD", "0.19 SD and 6.0%"):
        assert figure in message
    assert "68.3%" in found(design=design(4))["K21"].message
    assert "71.5%" in found(design=design(2, 4))["K21"].message


@pytest.mark.requirement("G05")
@pytest.mark.parametrize(
    ("method", "keys", "fires"),
    [
        ("complete", {}, False),
        ("big-stick", {"limit": 3}, False),
        ("big-stick", {"limit": 5}, False),
        ("big-stick", {"limit": 2}, True),
        ("random-allocation-rule", {}, False),
        ("urn", {"alpha": 0, "beta": 1}, True),
        ("maximal-procedure", {"limit": 3}, True),
    ],
)
def test_k21_compares_any_method_with_big_stick(method: str, keys: dict[str, Any], fires: bool) -> None:
    other = RandomizationDesign(method=method, length=20, ratio=(("IL2-GCV", 1), ("GCV", 1)), **keys)
    findings = found(design=other)
    assert ("K21" in findings) is fires
    assert not {"K22", "K23"} & findings.keys()


def test_k21_without_scipy_leaves_out_the_test_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_scipy(*_: Any) -> None:
        raise NoScipy("not installed")

    monkeypatch.setattr("allocator.design_check.size_under_selection_bias", no_scipy)
    message = found(design=DESIGN)["K21"].message
    assert "0.37 SD" in message and "t-test" not in message


def test_k21_is_for_small_studies() -> None:
    assert "K21" in found(replace(STUDY, enrollment=199), registry=None, design=DESIGN)
    assert "K21" not in found(replace(STUDY, enrollment=200), registry=None, design=DESIGN)


def test_k21_for_an_unequal_ratio_has_no_big_stick_to_compare_with() -> None:
    message = found(design=design(3, length=21, shares=(2, 1)))["K21"].message
    assert "66.7%" in message
    assert "Big stick" not in message


@pytest.mark.requirement("G05")
@pytest.mark.parametrize(
    ("sizes", "shares", "fires"),
    [((2,), (1, 1), True), ((3,), (2, 1), True), ((4,), (1, 1), False), ((2, 4), (1, 1), False)],
)
def test_k22_blocks_a_fixed_smallest_block(sizes: tuple[int, ...], shares: tuple[int, ...], fires: bool) -> None:
    findings = found(design=design(*sizes, length=24, shares=shares))
    assert ("K22" in findings) is fires


@pytest.mark.parametrize(("sizes", "length", "fires"), [((4,), 20, False), ((6,), 20, True), ((4, 6), 20, True)])
def test_k23_says_when_the_last_block_is_cut(sizes: tuple[int, ...], length: int, fires: bool) -> None:
    assert ("K23" in found(design=design(*sizes, length=length))) is fires


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("I2b", {"pass_rule": ">= 1000"}),
        ("I2b", {"pass_rule": "> 100"}),
        ("I3", {"pass_rule": "<= 1.0"}),
        ("E4.2", {"pass_rule": ">= 30"}),
        ("E4.2", {"pass_rule": "<= 30"}),
        ("E4.2", {"category": "inclusion"}),
        ("E4.3a", {"pass_rule": "< 3"}),
        ("E4.3c", {"pass_rule": "< 1"}),
        ("E4.3c", {"pass_rule": "<= 3"}),
        ("E4.1", {"pass_rule": "<= III"}),
        ("E4.1", {"pass_rule": "<= I"}),
        ("I0-AGE", {"pass_rule": "18..69"}),
        ("I0-AGE", {"pass_rule": "> 18"}),
        ("I2b", {"text": "at least 1,000 copies"}),
        ("I2b", {"text": "no more than 1000 copies"}),
        ("I2b", {"text": "1000 copies or more"}),
    ],
)  # fmt: skip
def test_k24_compares_words_and_limit(name: str, changes: dict[str, Any]) -> None:
    assert boundary_conflict(criterion(name)) == ""
    changed = criterion(name, **changes)
    assert boundary_conflict(changed)
    assert found(with_criterion(changed))["K24"].quotes == (changed.text,)


@pytest.mark.parametrize("text", ["high viral load", "viral load over 10\\^3 copies", "more than 1000 IU or 2 log"])
def test_k24_is_silent_where_the_words_agree_or_say_nothing(text: str) -> None:
    assert boundary_conflict(criterion("I2b", text=text)) == ""


def test_k25_counts_participants_in_each_stratum() -> None:
    factors = (Factor(name="site", levels=("A", "B")), Factor(name="age", levels=("Y", "O")))
    assert found(replace(STUDY, factors=factors))["K25"].level == "warn"
    assert "K25" not in found(replace(STUDY, factors=factors[:1]))
    assert "K25" in found(replace(STUDY, factors=factors[:1]), design=DESIGN)
    assert "K25" not in found(replace(STUDY, factors=factors, enrollment=400))


def test_the_design_of_other_arms_is_refused() -> None:
    other = replace(DESIGN, ratio=(("A", 1), ("B", 1)))
    with pytest.raises(InputError, match="design names"):
        check_protocol(STUDY, REGISTRY, other)


# --------------------------------------------------------------------------------------------------- the figures


def test_the_chance_of_a_cut_block() -> None:
    assert cut_probability((4, 6), 100_000) is None
    assert cut_probability((4,), 20) == 0
    assert cut_probability((4, 6), 10) == Fraction(1, 2)
    assert cut_probability((4, 6), 8) == Fraction(3, 4)


# ---------------------------------------------------------------------------------------------- reading the record


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "no protocolSection"),
        (b"{}", "no protocolSection"),
        (b'{"protocolSection": {}}', "nctId"),
        (b'{"protocolSection": {"identificationModule": {"nctId": "04225780"}}}', "nctId"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "no JSON number"),
        (RECORD.replace(b'"UNKNOWN"', b"5"), "overallStatus is not a string"),
        (RECORD.replace(b'"count": 10', b'"count": true'), "count is not a whole number"),
        (RECORD.replace(b'"EXPERIMENTAL"', b"[]"), "armGroups.0 is no arm group"),
        (RECORD[:-40], "not JSON"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_registry(data)
    assert caught.value.code == "registry-file"
    assert words in caught.value.message


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(RECORD)), st.integers(0, 40))
def test_a_damaged_record_reads_or_is_refused(patch: bytes, at: int, cut: int) -> None:
    try:
        check_protocol(STUDY, parse_registry(RECORD[:at] + patch + RECORD[at + cut :]), None)
    except InputError as error:
        assert error.code in ("registry-file", "registry-mismatch")

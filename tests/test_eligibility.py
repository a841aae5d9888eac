"""Eligibility: what lets a participant in, and everything that does not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.eligibility import Answer, AnswersForm, form_bytes, is_eligible, judge, parse_form, summary_lines
from allocator.errors import InputError
from allocator.example_answers import redated
from allocator.study import Study
from allocator.text import shown
from allocator.toml_files import read_study

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "NCT04225780" / "answers"
STUDY: Study = read_study("study.toml", (ROOT / "schedules/NCT04225780/study.toml").read_bytes())
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
COMPLETE = b"""{"consent": "2026-11-20T09:30:00+08:00", "answers": {
 "I0-AGE": {"value": "45", "unit": "a"}, "I0-SEX": {"value": "F"}, "I0-HV": {"value": "N"},
 "I1": {"value": "Y", "text": "SLE, EULAR/ACR 2019"}, "I2a": {"value": "POSITIVE", "date": "2026-11-19"},
 "I2b": {"value": "5200", "unit": "{copies}/mL", "specimen": "plasma", "date": "2026-11-19"},
 "I3": {"value": "0.5", "unit": "mg/kg/d"}, "E1": {"value": "POSITIVE", "date": "2026-11-19"},
 "E2a": {"value": "N"}, "E2b": {"value": "N"}, "E2c": {"value": "N"}, "E2d": {"value": "N"},
 "E2e": {"value": "N"}, "E2f": {"value": "N"}, "E3": {"value": "N"}, "E4.1": {"value": "none"},
 "E4.2": {"value": "75", "unit": "mL/min", "date": "2026-11-19"},
 "E4.3a": {"value": "30", "unit": "U/L", "uln": "40", "date": "2026-11-19"},
 "E4.3b": {"value": "30", "unit": "U/L", "uln": "40", "date": "2026-11-19"},
 "E4.3c": {"value": "10", "unit": "umol/L", "uln": "21", "date": "2026-11-19"},
 "E4.4": {"value": "N"}, "E5": {"value": "N"}, "E6": {"value": "N"}, "E7": {"value": "N"}}}"""
FORM = parse_form(COMPLETE)
IDS = [criterion.id for criterion in STUDY.criteria]
FAILING: dict[str, dict[str, str]] = {
    "I0-AGE": {"value": "71"},
    "I0-SEX": {"value": "X"},
    "I0-HV": {"value": "Y"},
    "I1": {"value": "N"},
    "I2a": {"value": "NEGATIVE"},
    "I2b": {"value": "1000"},
    "I3": {"value": "1.0"},
    "E1": {"value": "INDETERMINATE"},
    "E4.1": {"value": "III"},
    "E4.2": {"value": "30"},
    "E4.3a": {"value": "121"},
    "E4.3b": {"value": "120.000000000001"},
    "E4.3c": {"value": "21.1"},
} | {name: {"value": "Y"} for name in IDS if name.startswith(("E2", "E3", "E4.4", "E5", "E6", "E7"))}
CHANGES = {
    "I0-AGE": {"17": False, "18": True, "70": True, "71": False, "45.5": False, "-45": False, "٤٥": False},
    "I2b": {"1000": False, "1001": True, "1000.000000000001": True, "1e4": False, "５２００": False, "": False},
    "I3": {"1.0": False, "1": False, "0.99": True, "0": True, "-0": False, "-0.5": False},
    "E4.2": {"30": False, "30.1": True, "30.0": False},
    "E4.3a": {"120": True, "121": False, "120.1": False},
    "E4.3b": {"120": True, "121": False},
    "E4.3c": {"21": True, "21.01": False},
    "E4.1": {"none": True, "I": True, "II": True, "III": False, "IV": False, "ii": False, "2": False},
    "I0-SEX": {"F": True, "U": True, "f": False, "UNKNOWN": False},
    "E2c": {"N": True, "Y": False, "UNKNOWN": False, "NA": False, "n": False, "No": False, " N": False},
    "I2a": {"POSITIVE": True, "INDETERMINATE": False, "positive": False, "DETECTED": False},
}


def changed(criterion: str, **fields: str | None) -> AnswersForm:
    """The complete form with some fields of one answer changed."""
    return replace(FORM, answers={**FORM.answers, criterion: replace(FORM.answers[criterion], **fields)})


def failing(form: AnswersForm, now: datetime = NOW) -> dict[str, str]:
    """The reasons of what is not met, by criterion id."""
    judgement = judge(STUDY, form, now)
    return {r.id: r.reason for r in (judgement.consent, *judgement.criteria) if not r.met}


@pytest.mark.requirement("E01")
def test_the_complete_form_is_eligible() -> None:
    judgement = judge(STUDY, FORM, NOW)
    assert judgement.eligible, failing(FORM)
    assert [result.id for result in judgement.criteria] == IDS
    assert len(IDS) == 24


@pytest.mark.requirement("E01")
@pytest.mark.parametrize("criterion", IDS)
def test_each_criterion_alone_refuses(criterion: str) -> None:
    assert list(failing(changed(criterion, **FAILING[criterion]))) == [criterion]


@pytest.mark.requirement("E02")
@pytest.mark.parametrize("criterion", IDS)
@pytest.mark.parametrize("value", ["", "  ", "UNKNOWN", "unknown", "?"])
def test_blank_and_unknown_never_pass(criterion: str, value: str) -> None:
    assert list(failing(changed(criterion, value=value))) == [criterion]


@pytest.mark.requirement("E02")
@pytest.mark.parametrize("criterion", IDS)
def test_a_missing_answer_never_passes(criterion: str) -> None:
    rest = {name: answer for name, answer in FORM.answers.items() if name != criterion}
    assert list(failing(replace(FORM, answers=rest))) == [criterion]


@pytest.mark.requirement("E02")
def test_an_untouched_form_is_refused_everywhere() -> None:
    assert set(failing(parse_form(b"{}"))) == {"consent", *IDS}


@pytest.mark.requirement("E06")
@pytest.mark.parametrize(("criterion", "value"), [(c, v) for c, values in CHANGES.items() for v in values])
def test_boundaries(criterion: str, value: str) -> None:
    assert (failing(changed(criterion, value=value)) == {}) is CHANGES[criterion][value]


@pytest.mark.requirement("E06")
@pytest.mark.parametrize(
    ("criterion", "unit"),
    [
        ("I2b", "[IU]/mL"), ("I2b", "{copies}/ml"), ("I2b", "{cells}/mL"), ("I2b", None), ("I2b", " "),
        ("E4.2", "mL/min/{1.73_m2}"), ("E4.3c", "g/L"), ("I0-AGE", "mo"), ("E2a", "1"), ("I0-SEX", "a"),
    ],
)  # fmt: skip
def test_units_are_compared_to_the_letter(criterion: str, unit: str | None) -> None:
    assert list(failing(changed(criterion, unit=unit))) == [criterion]


@pytest.mark.requirement("E06")
@pytest.mark.parametrize("criterion", IDS)
def test_what_a_criterion_needs_is_needed(criterion: str) -> None:
    needs = next(c.needs for c in STUDY.criteria if c.id == criterion)
    for need in needs:
        for blank in (None, "", " "):
            assert list(failing(changed(criterion, **{need: blank}))) == [criterion]


@pytest.mark.parametrize("uln", ["0", "0.000", "-40", "forty", "40 ", "４０"])
def test_an_upper_limit_is_a_number_above_zero(uln: str) -> None:
    assert list(failing(changed("E4.3a", uln=uln))) == ["E4.3a"]


def test_ratios_are_exact_where_floats_are_not() -> None:
    assert not failing(changed("E4.3a", value="0.3", uln="0.1"))
    assert failing(changed("E4.3a", value="999999999999.000000000001", uln="333333333333"))


@pytest.mark.requirement("E06")
@pytest.mark.parametrize(
    ("day", "passes"),
    [
        ("2026-11-20", True), ("2026-11-21", False), ("2026-11-06", True), ("2026-11-05", False),
        ("2026-02-30", False), ("19.11.2026", False), ("20261119", False), ("２０26-11-19", False),
        ("2026-11-19T08:00:00Z", False), ("0000-01-01", False), ("9999-12-31", False), ("0001-01-01", False),
    ],
)  # fmt: skip
def test_dates_are_fresh_and_not_in_the_future(day: str, passes: bool) -> None:
    assert (failing(changed("I2b", date=day)) == {}) is passes


@pytest.mark.requirement("L05")
def test_dates_are_read_in_the_time_zone_of_the_study() -> None:
    early = datetime(2026, 11, 19, 19, 0, tzinfo=UTC)  # 03:00 of the 20th in Beijing
    form = replace(changed("I2b", date="2026-11-20"), consent="2026-11-20T02:00:00+08:00")
    assert not failing(form, early)
    assert list(failing(form, early - timedelta(hours=4))) == ["consent", "I2b"]


@pytest.mark.requirement("E05")
@pytest.mark.parametrize(
    ("consent", "passes"),
    [
        ("2026-11-20T12:00:00+08:00", True), ("2026-11-20T12:00:00.000001+08:00", False), ("", False),
        ("2026-11-20T04:00:00Z", True), ("2026-11-20T09:30:00", False), ("2026-11-20", False),
        ("2026-11-20 09:30:00+08:00", False), ("2026-13-20T09:30:00+08:00", False), ("  ", False),
        ("0001-01-01T00:00:00+14:00", True), ("9999-12-31T23:59:59-14:00", False), ("yes", False),
    ],
)  # fmt: skip
def test_consent_comes_first(consent: str, passes: bool) -> None:
    assert list(failing(replace(FORM, consent=consent))) == ([] if passes else ["consent"])


@pytest.mark.requirement("E02")
def test_not_applicable_only_where_the_criterion_says() -> None:
    male = changed("I0-SEX", value="M")
    exempt = replace(male, answers={**male.answers, "E7": Answer(value="NA")})
    assert not failing(exempt)
    for sex in ("F", "U", "", "m"):
        other = replace(exempt, answers={**exempt.answers, "I0-SEX": Answer(value=sex)})
        assert "E7" in failing(other)


def test_an_answer_to_no_criterion_refuses_and_names_the_nearest() -> None:
    form = replace(FORM, answers={**FORM.answers, "E4.3d": Answer(value="N")})
    assert "did you mean E4.3" in failing(form)["E4.3d"]


@pytest.mark.parametrize("text", ["a" * 501, "SLE\u202e9102", "SLE\x1b[2J", "SLE\x00"])
def test_free_text_is_bounded_and_printable(text: str) -> None:
    result = failing(changed("I1", text=text))
    assert list(result) == ["I1"]
    assert result["I1"].isprintable()


def test_reasons_are_sentences_a_doctor_understands() -> None:
    reason = "CMV DNA viral load is 1000 {copies}/mL; the protocol needs more than 1000 {copies}/mL"
    assert failing(changed("I2b", value="1000"))["I2b"] == reason
    assert "71 years; the protocol needs 18 to 70 years" in failing(changed("I0-AGE", value="71"))["I0-AGE"]
    assert "at most the upper limit of normal" in failing(changed("E4.3c", value="22"))["E4.3c"]


def test_the_summary_is_age_and_sex() -> None:
    assert summary_lines(STUDY, FORM) == [("age", "45 years"), ("sex", "F")]
    assert summary_lines(STUDY, AnswersForm()) == [("age", "not answered"), ("sex", "not answered")]


def test_the_result_object() -> None:
    result = judge(STUDY, FORM, NOW).as_json()
    assert list(result) == ["eligible", "consent", "criteria"]
    assert all(list(item) == ["id", "met", "answer", "reason"] for item in result["criteria"])


def test_a_moment_without_a_time_zone_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError):
        judge(STUDY, FORM, datetime(2026, 11, 20))


@pytest.mark.requirement("E04")
def test_the_stored_form_gives_the_same_decision() -> None:
    form = replace(FORM, answers={"zz": Answer(value="1"), **FORM.answers, "aa": Answer(value="N")})
    again = parse_form(form_bytes(form))
    assert again == form
    assert judge(STUDY, again, NOW) == judge(STUDY, form, NOW)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "an object was expected"),
        (b'{"consent": "x", "consent": "y"}', "duplicate key"),
        (b'{"answer": {}}', "did you mean 'answers'?"),
        (b'{"answers": {"I2b": {"value": "1", "unti": "a"}}}', "answers.I2b.unti: unknown field; did you mean 'unit'?"),
        (b'{"answers": {"I0-AGE": {"value": 45}}}', "answers.I0-AGE.value: a string was expected, int"),
        (b'{"answers": {"I0-AGE": {"value": null}}}', "answers.I0-AGE.value"),
        (b'{"answers": {"I0-AGE": "45"}}', "answers.I0-AGE: an object"),
        (b'{"answers": []}', "answers: an object"),
        (b'{"consent": true}', "consent: a string"),
        (b'{"consent": "\\ud800"}', "surrogate"),
        (b'{"answers": {"\\ud800": {}}}', "surrogate"),
        (b'{"consent": "' + b"x" * 70_000 + b'"}', "at most 65536"),
        (json.dumps({"answers": {str(n): {} for n in range(501)}}).encode(), "at most 500"),
        (b'{"answers": {"a": {"value": 1.5}}}', "not an integer"),
        (b"[" * 60_000, "nested"),
    ],
)
def test_what_is_no_form_says_what_and_where(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_form(data)
    assert caught.value.code == "answers-file"
    assert caught.value.exit_code == 2
    assert words in caught.value.message


def test_every_fault_of_a_form_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_form(b'{"consnt": "x", "answers": {"E1": {"vale": "N"}, "E5": {"value": 1}}}')
    assert len(caught.value.details) == 3


# ------------------------------------------------------------------------------------------------ the example files


@pytest.mark.requirement("E01")
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("P-*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("now", [NOW, datetime(2031, 3, 1, 0, 5, tzinfo=UTC), datetime(2027, 1, 1, 16, tzinfo=UTC)])
def test_example_forms(path: Path, now: datetime) -> None:
    wanted = {"P-101": ["I2b"], "P-102": ["E2c", "E4.1"], "P-103": ["I2b"]}
    form = parse_form(redated(path.read_bytes(), now.astimezone(STUDY.zone).date()))
    assert list(failing(form, now)) == wanted.get(path.stem, [])


def test_redating_moves_every_date_by_the_same_number_of_days() -> None:
    before = parse_form((EXAMPLES / "P-005.json").read_bytes())
    after = parse_form(redated((EXAMPLES / "P-005.json").read_bytes(), date(2030, 3, 1)))
    assert max(a.date for a in after.answers.values() if a.date) == "2030-02-28"
    shift = date(2030, 2, 28) - date(2026, 11, 19)
    for name, answer in before.answers.items():
        if answer.date:
            assert after.answers[name].date == (date.fromisoformat(answer.date) + shift).isoformat()
    assert datetime.fromisoformat(after.consent) - datetime.fromisoformat(before.consent) == shift


def test_redating_a_form_without_dates_changes_nothing() -> None:
    assert redated(b'{"answers": {"E5": {"value": "N"}}}', date(2030, 3, 1)) == form_bytes(
        AnswersForm(answers={"E5": Answer(value="N")})
    )


# -------------------------------------------------------------------------------------------------- whatever comes

ANY_TEXT = st.text(st.characters(), max_size=12)
FIELDS = st.dictionaries(st.sampled_from(["value", "unit", "text", "specimen", "date", "uln", "x"]), ANY_TEXT)
JSONISH: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_parse_form_meets_any_bytes(data: bytes) -> None:
    try:
        parse_form(data)
    except InputError as error:
        assert error.code == "answers-file"


@given(st.fixed_dictionaries({}, optional={"consent": JSONISH, "answers": JSONISH | st.dictionaries(ANY_TEXT, FIELDS)}))
def test_parse_form_meets_any_json(value: dict[str, Any]) -> None:
    try:
        form = parse_form(json.dumps(value).encode())
    except InputError:
        return
    assert parse_form(form_bytes(form)) == form
    assert not judge(STUDY, form, NOW).eligible


ANSWERS = st.builds(
    Answer,
    value=ANY_TEXT | st.sampled_from(["N", "Y", "NA", "UNKNOWN", "POSITIVE", "5200", "-1", "II"]),
    unit=st.none() | ANY_TEXT | st.sampled_from(["a", "{copies}/mL", "U/L"]),
    text=st.none() | ANY_TEXT,
    specimen=st.none() | ANY_TEXT,
    date=st.none() | ANY_TEXT | st.dates().map(str),
    uln=st.none() | ANY_TEXT | st.sampled_from(["40", "0", "-1"]),
)


@given(
    st.builds(
        AnswersForm,
        consent=ANY_TEXT | st.datetimes().map(lambda d: d.isoformat() + "+08:00"),
        answers=st.dictionaries(st.sampled_from(IDS) | ANY_TEXT, ANSWERS, max_size=8),
    )
)
def test_judge_meets_any_form(form: AnswersForm) -> None:
    judgement = judge(STUDY, form, NOW)
    assert not judgement.eligible
    assert all(shown(text) == text for r in judgement.criteria for text in (r.id, r.answer, r.reason))


@given(st.sampled_from(IDS), ANY_TEXT)
def test_no_bad_value_is_ever_eligible(criterion: str, value: str) -> None:
    rule = STUDY.criterion(criterion)
    assert rule is not None
    good = {"yes-no": {"Y", "N"}, "code": set(rule.codes), "ordinal": set(rule.codes)}.get(rule.type)
    result = judge(STUDY, changed(criterion, value=value), NOW)
    if good is None:
        assert not result.eligible or (value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdigit())
    elif value not in good:
        assert not result.eligible


@pytest.mark.requirement("E04")
@given(st.sampled_from(IDS), ANY_TEXT | st.sampled_from(["Y", "N", "NA", "UNKNOWN", "45", "POSITIVE", "II", "5200"]))
def test_the_short_judgement_says_what_the_long_one_says(criterion: str, value: str) -> None:
    form = changed(criterion, value=value)
    assert is_eligible(STUDY, form, NOW) == judge(STUDY, form, NOW).eligible
    assert (
        is_eligible(STUDY, replace(form, consent=value), NOW)
        == judge(STUDY, replace(form, consent=value), NOW).eligible
    )


def test_the_short_judgement_of_every_example() -> None:
    for path in sorted(EXAMPLES.glob("*.json")):
        form = parse_form(redated(path.read_bytes(), date(2026, 11, 20)))
        assert is_eligible(STUDY, form, NOW) == judge(STUDY, form, NOW).eligible == (path.stem < "P-100")

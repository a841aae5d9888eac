"""study.toml and design.toml: the real study, and errors with line and nearest right name, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.criterion import Criterion, StudyError
from allocator.design import RandomizationDesign
from allocator.errors import FileProblems
from allocator.methods import METHODS
from allocator.study import Study
from allocator.toml_files import read_design, read_study

ROOT = Path(__file__).parent.parent
STUDY_FILE = ROOT / "schedules/NCT04225780/study.toml"
SOURCE = STUDY_FILE.read_text("utf-8")
PAGE = (STUDY_FILE.parent / "registry-page.txt").read_text("utf-8")
STUDY = read_study("study.toml", SOURCE.encode())
DESIGN = (ROOT / "examples/NCT04225780/design.toml").read_text("utf-8")
IDS = [
    "I0-AGE",
    "I0-SEX",
    "I0-HV",
    "I1",
    "I2a",
    "I2b",
    "I3",
    "E1",
    "E2a",
    "E2b",
    "E2c",
    "E2d",
    "E2e",
    "E2f",
    "E3",
    "E4.1",
    "E4.2",
    "E4.3a",
    "E4.3b",
    "E4.3c",
    "E4.4",
    "E5",
    "E6",
    "E7",
]


def problems(text: str) -> list[str]:
    """What read_study reports of a text, one line a problem; [] when nothing."""
    try:
        read_study("study.toml", text.encode())
    except FileProblems as error:
        return [str(problem) for problem in error.problems]
    return []


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.requirement("P01")
def test_the_first_study_has_its_criteria_arms_and_questions() -> None:
    assert [criterion.id for criterion in STUDY.criteria] == IDS
    assert [(arm.code, arm.label) for arm in STUDY.arms] == [
        ("IL2-GCV", "Low-dose IL-2 and ganciclovir"),
        ("GCV", "Ganciclovir"),
    ]
    assert [q.id for q in STUDY.questions] == ["K04", "K07", "K08", "K09", "K11", "K12", "K13", "K14", "K15"]
    assert [c.id for c in STUDY.criteria if c.summary] == ["I0-AGE", "I0-SEX"]


@pytest.mark.requirement("P01")
def test_criteria_are_in_the_protocol_s_own_words() -> None:
    assert [c.id for c in STUDY.criteria if c.text not in PAGE] == []


@pytest.mark.requirement("P01")
def test_every_quote_of_a_question_is_on_the_registry_page() -> None:
    assert [quote for q in STUDY.questions for quote in q.quotes if quote not in PAGE] == []


def test_plain_form_survives_json() -> None:
    plain = json.loads(json.dumps(STUDY.plain()))
    assert plain == STUDY.plain()
    assert len(STUDY.fingerprint) == 32


def test_the_example_design() -> None:
    design = read_design("design.toml", DESIGN.encode()).for_study(STUDY)
    assert (design.block_sizes, design.length, design.shares) == ((4, 6), 20, (1, 1))


def test_several_errors_are_reported_at_once_with_their_lines() -> None:
    text = (
        SOURCE.replace('title = "Low-dose', 'titel = "Low-dose')
        .replace('type = "experimental"', 'type = "experimentel"')
        .replace('datum = "HIV"', "datum = 5")
        .replace('pass = "> 1000"', 'pass = "about 1000"')
        .replace("summary = true", "sumary = true", 1)
    )
    found = "\n".join(problems(text))
    assert f"study.toml:{line_of(text, 'titel')}:" in found
    assert "did you mean 'title'?" in found
    assert f"study.toml:{line_of(text, 'experimentel')}:" in found
    assert f"study.toml:{line_of(text, 'about 1000')}:" in found
    assert 'write "> 1000"' in found
    assert f"study.toml:{line_of(text, 'sumary')}:" in found
    assert "did you mean 'summary'?" in found


def test_errors_are_sorted_by_line() -> None:
    text = SOURCE.replace('"yes-no"', '"yesno"')
    lines = [int(line.split(":")[1]) for line in problems(text)]
    assert len(lines) > 5
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('masking = "none"', 'masking = "double"', "not yet supported"),
        ("enrollment = 10", "enrollment = 0", "outside 1..1000000"),
        ("enrollment = 10", "enrollment = true", "valid integer"),
        ("enrollment = 10", "enrollment = " + "9" * 5000, "TOML"),
        ('time_zone = "Asia/Shanghai"', 'time_zone = "Asia/Peking"', "IANA"),
        ('"P-[0-9]{3,6}"', '"(a+)+b"', "repeated group"),
        ('"P-[0-9]{3,6}"', '"a*a*a*a*a*a*a*b"', "more than 6 of"),
        ('"P-[0-9]{3,6}"', '"[0-9]*"', "empty id"),
        ('code = "GCV"', 'code = "IL2-GCV"', "more than once"),
        ('id = "E2b"', 'id = "E2a"', "more than once"),
        ('unit = "{copies}/mL"', "", "needs its unit"),
        ('unit = "{copies}/mL"', "unit = 5", "a string, or a list of strings"),
        ('pass = "<= II"', 'pass = "<= V"', "is not in codes"),
        ('pass = "18..70"', 'pass = "70..18"', "holds no value"),
        ('needs = ["specimen", "date"]', 'needs = ["specimen"]', "an age limit needs a date"),
        ('criterion = "I0-SEX", answer = "M"', 'criterion = "I0-SEKS", answer = "M"', "no other criterion"),
        ('criterion = "I0-SEX", answer = "M"', 'criterion = "I0-SEX", answer = "male"', "no answer of I0-SEX"),
        ('answer = "M" }', 'anser = "M" }', "did you mean 'answer'?"),
        ('level = "block"', 'level = "stop"', "none of block, warn, info"),
        ('format = "allocator-study/1"', 'format = "allocator-study/2"', "allocator-study/1"),
        ('datum = "HIV', 'datum = "\u202eHIV', "unprintable"),
        ("[study]", "[study", "not TOML"),
    ],
)  # fmt: skip
def test_each_rule_names_its_fault(old: str, new: str, words: str) -> None:
    text = SOURCE.replace('"other infection: HIV"', '"HIV"')
    assert old in text
    assert words in "\n".join(problems(text.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[4, 6]", "[4, 5]", "a multiple of 2"),
        ("[4, 6]", "[]", "is missing or empty: permuted-block needs it"),
        ("[4, 6]", "[4, 4]", "different from each other"),
        ("length = 20", "length = 0", "outside 1.."),
        ('"GCV" = 1', '"GCV" = 1.5', "integer"),
        ('"GCV" = 1', '"GCV" = 0', "whole numbers"),
        ("block_sizes", "blocksizes", "did you mean 'block_sizes'?"),
        ('"permuted-block"', '"coin"', "no method of this version"),
        ('"permuted-block"', '"urn"', "urn takes no block_sizes"),
    ],
)
def test_each_rule_of_a_design_names_its_fault(old: str, new: str, words: str) -> None:
    with pytest.raises(FileProblems) as caught:
        read_design("design.toml", DESIGN.replace(old, new, 1).encode())
    assert words in str(caught.value)


# ---- every method in design.toml ------------------------------------------------------------------------------------

WRITTEN = {
    "permuted-block": "block_sizes = [4, 6]",
    "complete": "",
    "random-allocation-rule": "",
    "big-stick": "limit = 3",
    "biased-coin": 'probability = "2/3"',
    "urn": "alpha = 0\nbeta = 1",
    "truncated-binomial": "block_sizes = [4]",
    "chen": 'limit = 3\nprobability = "2/3"',
    "maximal-procedure": "limit = 3",
    "block-urn": "lambda = 2",
}


def design_text(method: str, keys: str, length: int = 12, ratio: str = "A = 1\nB = 1") -> bytes:
    """A design.toml: the method on line 2, the length on line 3, its keys from line 4 on, then the ratio."""
    head = f'format = "allocator-design/1"\nmethod = "{method}"\nlength = {length}\n{keys}\n'
    return f"{head}[ratio]\n{ratio}\n".encode()


def design_problems(data: bytes) -> list[tuple[int, str, str]]:
    """Line, field and words of each problem; [] when the design is read."""
    try:
        read_design("design.toml", data)
    except FileProblems as error:
        return [(problem.line, problem.field, problem.message) for problem in error.problems]
    return []


@pytest.mark.parametrize("method", WRITTEN)
def test_a_design_of_every_method_is_read_and_written_again(method: str) -> None:
    design = read_design("design.toml", design_text(method, WRITTEN[method]))
    assert (design.method, design.length, design.shares) == (method, 12, (1, 1))
    assert RandomizationDesign.from_tables(json.loads(json.dumps(design.plain()))) == design


def test_every_method_that_is_written_in_a_file_is_tried_here() -> None:
    assert set(WRITTEN) == set(METHODS) - {"imported-list"}


@pytest.mark.parametrize(
    ("data", "line", "field", "words"),
    [
        (design_text("big-stick", ""), 1, "limit", "is missing or empty: big-stick needs it"),
        (design_text("big-stick", "limit = 1001"), 4, "limit", "1001 is outside 1..1000"),
        (design_text("big-stick", "limit = 3\nalpha = 1"), 5, "alpha", "big-stick takes no alpha"),
        (
            design_text("big-stick", "limit = 3", ratio="A = 2\nB = 1"),
            *(5, "ratio", "big-stick is defined for two arms with equal shares; block-urn takes others"),
        ),
        (
            design_text("biased-coin", 'probability = "1/2"'),
            *(4, "probability", "1/2 is not above 1/2 and below 1"),
        ),
        (
            design_text("biased-coin", 'probability = "0.7"'),
            *(4, "probability", "'0.7' is no fraction of whole numbers such as \"2/3\""),
        ),
        (
            design_text("biased-coin", 'probability = "2/0"'),
            *(4, "probability", "'2/0' is no fraction of whole numbers such as \"2/3\""),
        ),
        (design_text("biased-coin", "probability = 0.7"), 4, "probability", "Input should be a valid string"),
        (
            design_text("chen", 'limit = 2\nprobability = "502/1001"'),
            *(5, "probability", "502/1001 has a denominator above 1000"),
        ),
        (
            design_text("urn", "alpha = 0\nbeta = 0"),
            *(5, "beta", "alpha and beta are both 0: the urn would stay empty"),
        ),
        (
            design_text("urn", "alpha = 0\nbeta = 1", ratio="A = 1\nB = 2"),
            *(6, "ratio", "urn is defined for equal shares; block-urn takes others"),
        ),
        (
            design_text("random-allocation-rule", "", length=7),
            *(3, "length", "7 is not a multiple of 2 (the sum of the ratio)"),
        ),
        (
            design_text("truncated-binomial", "", length=7),
            *(3, "length", "7 is not even: the list is one block with two halves"),
        ),
        (
            design_text("truncated-binomial", "block_sizes = [3]"),
            *(4, "block_sizes", "3 is not a multiple of 2 (the sum of the ratio) up to 10000"),
        ),
        (
            design_text("maximal-procedure", "limit = 3", length=2002),
            *(3, "length", "2002 is not an even number up to 2000: the list ends balanced"),
        ),
        (design_text("maximal-procedure", "limit = 51"), 4, "limit", "51 is outside 1..50"),
        (design_text("block-urn", "lambda = 0"), 4, "lambda", "0 is outside 1..1000"),
        (design_text("block-urn", "lamda = 2"), 4, "lamda", "unknown key; did you mean 'lambda'?"),
        (
            design_text("imported-list", ""),
            *(2, "method", "imported-list is sealed by `allocator import`, not drawn from a design file"),
        ),
    ],
)
def test_what_a_method_refuses_stands_at_its_line(data: bytes, line: int, field: str, words: str) -> None:
    assert design_problems(data) == [(line, field, words)]


@pytest.mark.parametrize(
    "data",
    [
        design_text("big-stick", "limit = 1000"),
        design_text("maximal-procedure", "limit = 50", length=2000),
        design_text("urn", "alpha = 0\nbeta = 1", ratio="A = 1\nB = 1\nC = 1"),
        design_text("block-urn", "lambda = 1000", ratio="A = 3\nB = 4\nC = 4"),
        design_text("chen", 'limit = 1\nprobability = "999/1000"', length=1),
        design_text("biased-coin", 'probability = "4/6"'),
        design_text("complete", "", ratio="A = 1000\nB = 1"),
    ],
)
def test_what_lies_at_a_bound_is_read(data: bytes) -> None:
    assert design_problems(data) == []


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a = 1\n" * 200_000, b"", b"x = [[[[", b"\x00"])
def test_what_is_no_study_file_is_no_crash(data: bytes) -> None:
    with pytest.raises(FileProblems):
        read_study("study.toml", data)


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(0, len(SOURCE)), st.integers(0, 60))
def test_a_damaged_file_reads_or_is_refused(patch: str, at: int, cut: int) -> None:
    damaged = (SOURCE[:at] + patch + SOURCE[at + cut :]).encode("utf-8", "surrogatepass")
    try:
        assert isinstance(read_study("study.toml", damaged), Study)
    except FileProblems as error:
        assert error.problems


def test_tables_that_are_none_are_a_study_error() -> None:
    with pytest.raises(StudyError):
        Study.from_tables({"format": "allocator-study/1", "study": 5})


def test_every_error_of_the_study_table_stands_in_one_list() -> None:
    wrong = SOURCE.replace('masking = "none"', 'masking = "double"').replace(
        "confirmation_hours = 72", "confirmation_hours = 0"
    )
    wrong = wrong.replace("Asia/Shanghai", "Asia/Shangai").replace("enrollment = 10", "enrollment = -1")
    wrong = wrong.replace('pass = "> 1000"', 'pass = "above"').replace('type = "experimental"', 'type = "experimentl"')
    with pytest.raises(FileProblems) as found:
        read_study("study.toml", wrong.encode())
    said = {problem.field: problem.message for problem in found.value.problems}
    assert len(said) == 6
    assert "did you mean 'Asia/Shanghai'?" in said["study.time_zone"]
    assert "did you mean 'experimental'?" in said["arm.0.type"]


def test_every_error_of_a_design_stands_in_one_list() -> None:
    design = (
        b'format = "allocator-design/1"\nmethod = "blocks"\nblock_sizes = [3, -1]\nlength = 0\n[ratio]\nA = 1\nB = 1\n'
    )
    with pytest.raises(FileProblems) as found:
        read_design("design.toml", design)
    assert [problem.field for problem in found.value.problems] == ["method", "block_sizes", "block_sizes", "length"]


def test_a_study_that_names_no_codes_has_the_usual_closed_lists() -> None:
    criterion = {"id": "C1", "category": "inclusion", "text": "t", "source": "s", "datum": "d"}
    result = Criterion.from_table({**criterion, "type": "code", "pass": ["POSITIVE"]})
    assert result.codes == ("POSITIVE", "NEGATIVE", "INDETERMINATE")
    assert Criterion.from_table({**criterion, "type": "ordinal", "pass": "<= II"}).passing_codes == ("none", "I", "II")
    assert Criterion.from_table({**criterion, "type": "code", "pass": ["F", "M"]}).codes == ("F", "M")
    assert Criterion.from_table({**criterion, "type": "ratio", "unit": "U/L", "pass": "<= 3"}).needs == ("uln",)

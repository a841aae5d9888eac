"""Text that people write: what is refused coming in, and what is escaped going out."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import support
from allocator.text import MAX_TEXT, is_identifier, is_number, shown, shown_lines, text_fault


@pytest.mark.parametrize(
    "text",
    ["", "   ", "\u3000", "a\x1b[31mred", "a\u202eb", "zero\u200bwidth", "line\nbreak", "tab\t", "\ue000", "\u2028x"],
)
def test_hidden_or_blank_text_is_refused(text: str) -> None:
    assert text_fault(text) != ""


@pytest.mark.parametrize("text", ["Dr Wang", "王医生", "naïve – “quoted” 5 µg/mL", "a" * MAX_TEXT])
def test_ordinary_text_of_any_script_is_taken(text: str) -> None:
    assert text_fault(text) == ""


def test_text_at_the_limit_is_taken_and_one_past_it_refused() -> None:
    assert text_fault("x" * 7, limit=7) == ""
    assert "8 characters" in text_fault("x" * 8, limit=7)


def test_the_fault_names_the_character_and_its_place() -> None:
    assert text_fault("ab\u202ec") == "holds the unprintable character U+202E at place 3"


@pytest.mark.requirement("L09")
@pytest.mark.parametrize("text", ["P-001", "a", "9", "IL2-GCV", "E4.3a", "A" * 40, "x_y"])
def test_identifiers(text: str) -> None:
    assert is_identifier(text)


@pytest.mark.requirement("L09")
@pytest.mark.parametrize(
    "text",
    ["", "-a", ".a", "..", "a/b", "a b", "A" * 41, "é", "P‐001", "P-００１", "a\n", "../x", "Р-1", "a\x00", "_x"],
)
def test_look_alikes_and_paths_are_no_identifiers(text: str) -> None:
    assert not is_identifier(text)


@pytest.mark.requirement("L09")
def test_no_other_dash_digit_or_letter_stands_in_an_id() -> None:
    """Every dash and minus, every digit, and every letter that Unicode folds to an ASCII one: refused, never folded."""
    everything = [chr(code) for code in range(0x80, 0x110000)]
    dashes = [c for c in everything if unicodedata.category(c) == "Pd" or "MINUS" in unicodedata.name(c, "")]
    digits = [c for c in everything if unicodedata.category(c) == "Nd"]
    letters = [c for c in everything if unicodedata.normalize("NFKC", c).upper() == "P"]
    assert min(map(len, (dashes, digits, letters))) > 20
    participant = support.study().is_participant
    assert participant("P-001") and is_identifier("P-001")
    for taken in (participant, is_identifier):
        assert [c for c in dashes if taken(f"P{c}001")] == []
        assert [c for c in digits if taken(f"P-00{c}")] == []
        assert [c for c in [*letters, "Р", "Ρ"] if taken(f"{c}-001")] == []  # the last two: Cyrillic and Greek
    assert [text for text in ("P-1", "P001", "p-001", "P-OO1", "P-00l", "P_001") if participant(text)] == []


@pytest.mark.parametrize("text", ["0", "-1", "1000.0", "1" * 12, "-0.5", "1." + "2" * 12])
def test_numbers(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize(
    "text", ["", "+1", "1e3", ".5", "5.", "1,000", "１２", "٣", "0x10", "1" * 13, "NaN", "inf", " 1", "1\n", "--1"]
)
def test_what_only_looks_like_a_number_is_none(text: str) -> None:
    assert not is_number(text)


@given(st.text())
def test_nothing_shown_can_steer_a_terminal(text: str) -> None:
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not {unicodedata.category(character) for character in shown(text)} & hidden


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_escapes_are_written_out() -> None:
    assert shown("a\x1b[2J\u202e") == "a\\u{1b}[2J\\u{202e}"


@given(st.text())
def test_several_lines_are_shown_line_by_line_and_a_second_time_alike(text: str) -> None:
    once = shown_lines(text)
    assert once == "\n".join(shown(line) for line in text.split("\n")) == shown_lines(once)
    assert once.count("\n") == text.count("\n")

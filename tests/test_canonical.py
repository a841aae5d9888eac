"""The one byte encoding: RFC 8785 where it matters to us, and a parser that believes nothing ambiguous."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.canonical import (
    MAX_INTEGER,
    CanonicalError,
    canonical_bytes,
    format_time,
    parse_canonical,
    parse_strict,
    parse_time,
    prefixed,
    tag,
    u8,
    u16,
    u32,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
BMP = st.text(st.characters(exclude_categories=("Cs",), max_codepoint=0xFFFF))
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT


def documents(keys: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Canonical documents: objects with such keys."""
    values = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))
    return st.dictionaries(keys, values, max_size=5)


@given(documents(BMP))
def test_equals_json_dumps_for_keys_of_the_basic_plane(document: dict[str, Any]) -> None:
    plain = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    assert canonical_bytes(document) == plain


@given(documents(TEXT))
def test_what_was_encoded_parses_to_itself(document: dict[str, Any]) -> None:
    assert parse_canonical(canonical_bytes(document)) == document


@given(documents(TEXT))
def test_white_space_is_never_canonical(document: dict[str, Any]) -> None:
    spaced = b" " + canonical_bytes(document)
    assert parse_strict(spaced) == document
    with pytest.raises(CanonicalError):
        parse_canonical(spaced)


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused_and_never_crash(data: bytes) -> None:
    try:
        assert canonical_bytes(parse_canonical(data)) == data
    except CanonicalError as error:
        assert str(error)


@given(documents(TEXT).filter(bool), st.data())
def test_a_flipped_bit_never_parses_to_the_same_document(document: dict[str, Any], data: st.DataObject) -> None:
    encoded = bytearray(canonical_bytes(document))
    place = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[place // 8] ^= 1 << place % 8
    with contextlib.suppress(CanonicalError):
        assert parse_canonical(bytes(encoded)) != document


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0.0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":01}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\n"}',
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b"[1]",
        b"1",
        b'"a"',
        b"null",
        b"",
        b"{" * 100_000,
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_ambiguous_or_foreign_documents_are_refused(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        parse_strict(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"\\u0061":1}',
        b'{"a":"\\/"}',
        b'{"a":"\\u000A"}',
        b'{"a":"\\u00e9"}',
        b'{"a":-0}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
    ],
)
def test_other_spellings_of_a_document_are_not_canonical(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        parse_canonical(data)


@pytest.mark.parametrize("value", [1.0, {"a": 0.5}, [1, [2.0]], {"a": float("nan")}, (1.5,)])
def test_a_float_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(CanonicalError, match="float"):
        canonical_bytes(value)


@pytest.mark.parametrize("value", [MAX_INTEGER + 1, -MAX_INTEGER - 1, "\ud800", {"\udfff": 1}, {1: 2}, b"x", object()])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(CanonicalError):
        canonical_bytes(value)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CanonicalError):
        canonical_bytes(value)


def test_the_largest_integers_are_taken() -> None:
    data = b'{"a":9007199254740991,"b":-9007199254740991}'
    assert parse_canonical(data) == {"a": MAX_INTEGER, "b": -MAX_INTEGER}


def test_length_is_bounded_before_parsing() -> None:
    data = b'{"a":"' + b"x" * 10 + b'"}'
    assert parse_canonical(data, limit=len(data))
    with pytest.raises(CanonicalError, match="at most"):
        parse_canonical(data, limit=len(data) - 1)


def test_keys_are_sorted_by_utf_16_units_as_in_rfc_8785_section_3_2_3() -> None:
    document = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical_bytes(document))) == order


def test_strings_are_escaped_as_in_rfc_8785_section_3_2_2_2() -> None:
    # the string of the RFC's own example: a euro sign, $, U+000F, a line feed, A'B"\\"/
    document = {"string": '\u20ac$\u000f\nA\'B"\\\\"/', "literals": [None, True, False]}
    expected = '{"literals":[null,true,false],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical_bytes(document) == expected.encode("utf-8")


def test_control_characters_take_their_short_form() -> None:
    assert canonical_bytes({"a": "\b\t\n\f\r\x00\x1f\x7f"}) == b'{"a":"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f"}'


def test_lengths_and_integers_of_byte_strings() -> None:
    assert (u8(255), u16(258), u32(16909060)) == (b"\xff", b"\x01\x02", b"\x01\x02\x03\x04")
    assert prefixed(b"abc") == b"\x00\x03abc"
    assert tag("seed") == b"allocator/v1/seed\x00"


@pytest.mark.parametrize("encode, value", [(u8, 256), (u16, 65536), (u32, 2**32), (u8, -1), (prefixed, bytes(65536))])
def test_what_does_not_fit_is_never_cut(encode: Any, value: Any) -> None:
    with pytest.raises(OverflowError):
        encode(value)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30)), st.integers(-720, 720))
def test_times_are_utc_whatever_their_zone(moment: datetime, minutes: int) -> None:
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    elsewhere = whole.astimezone(timezone(timedelta(minutes=minutes))) if 1 < whole.year < 9999 else whole
    assert parse_time(format_time(elsewhere)) == whole
    assert format_time(elsewhere).endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T01:30:00Z",
        "2026-11-20T01:30:00.000+00:00",
        "2026-11-20T01:30:00.0000Z",
        "2026-11-20 01:30:00.000Z",
        "2026-11-20T01:30:60.000Z",
        "2026-02-30T01:30:00.000Z",
        "2026-11-20T09:30:00.000+08:00",
        "20261120T013000.000Z",
        "2026-11-20T01:30:00.000",
        "0001-01-01T00:00:00.000+14:00",
        "",
    ],
)
def test_one_form_of_a_time_and_no_other(text: str) -> None:
    with pytest.raises(CanonicalError):
        parse_time(text)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 11, 20))

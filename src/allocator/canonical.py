"""The one byte encoding of all that is hashed or signed, and its strict parser (docs/spec.md §1).

Objects, arrays, strings, integers below 2^53, booleans and null; never a float. Encoding is RFC 8785 (JSON
Canonicalization Scheme) by the `rfc8785` library. Integers in byte strings are big-endian; every field of variable
length has its length in front.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NoReturn

MAX_INTEGER = 2**53 - 1
MAX_BYTES = 1 << 24  # no document of ours comes near 16 MiB but a sealed schedule, which has its own bound


class CanonicalError(ValueError):
    """The bytes or the value are outside the canonical form; the message says where."""


def tag(name: str) -> bytes:
    """Domain separation: ``"allocator/v1/" name 0x00`` (docs/spec.md §1.2)."""
    return b"allocator/v1/" + name.encode("ascii") + b"\x00"


def u8(value: int) -> bytes:
    """One unsigned byte."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Two bytes, big-endian."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return value.to_bytes(4, "big")


def prefixed(data: bytes) -> bytes:
    """A field of variable length: its length as u16, then its bytes. Raises OverflowError beyond 65,535 bytes."""
    return u16(len(data)) + data


def canonical_bytes(value: Any) -> bytes:
    """Encode a value; raise CanonicalError for floats, big integers, lone surrogates and foreign types."""
    try:
        _refuse_unsafe(value)
    except RecursionError as error:
        raise CanonicalError("nested too deeply") from error
    return encode_parsed(value)


def encode_parsed(value: Any) -> bytes:
    """Encode a value that `parse_canonical` gave: it holds no float, so the walk of `canonical_bytes` is spared.

    Where all is ASCII, the standard library's encoder gives the same bytes, ten times as fast: the two differ only
    in numbers that are no safe integers and in keys beyond the Basic Multilingual Plane. A test holds them together.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        if text.isascii():
            return text.encode("ascii")
        import rfc8785  # the way of a reveal is ASCII, and starts faster without it

        return rfc8785.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CanonicalError(f"not encodable: {error}") from error


def parse_canonical(data: bytes, *, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Parse one object strictly: ``canon(parse(b)) == b`` or CanonicalError.

    Refused: duplicate keys, floats, NaN, integers beyond 2^53 − 1, lone surrogates, invalid UTF-8, other white space
    or key order than the canonical one, a top level that is no object, more than `limit` bytes.
    """
    value = _parse_object(_PLAIN_DECODER, data, limit)  # a duplicate key is lost in parsing, so the bytes differ
    if encode_parsed(value) != data:
        raise CanonicalError("the bytes are not the canonical encoding of their own content")
    return value


def parse_strict(data: bytes, *, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Parse one JSON object without believing anything ambiguous, but with free white space and key order."""
    return _parse_object(_STRICT_DECODER, data, limit)


def _parse_object(decoder: json.JSONDecoder, data: bytes, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        raise CanonicalError(f"{len(data)} bytes where at most {limit} are read")
    try:
        value = decoder.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CanonicalError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CanonicalError(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise CanonicalError("nested too deeply") from error
    if not isinstance(value, dict):
        raise CanonicalError(f"an object was expected, {type(value).__name__} found")
    return value


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-11-20T01:30:00.000Z``. Raises ValueError for a naive time."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """Read a time that `format_time` wrote; CanonicalError for any other form of it."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or format_time(moment) != text:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise CanonicalError(f"{text!r} is not a UTC time like 2026-11-20T01:30:00.000Z") from error
    return moment


def _refuse_unsafe(value: Any) -> None:
    if isinstance(value, float):
        raise CanonicalError("a float has no place in a canonical document; write a decimal as a string")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise CanonicalError(f"integer {value} is beyond 2^53 - 1")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError(f"key {key!r} is no string")
            _refuse_unsafe(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_unsafe(item)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise CanonicalError(f"duplicate key {next(k for k in keys if keys.count(k) > 1)!r}")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise CanonicalError(f"{text} is not an integer")


def _safe_integer(text: str) -> int:
    # 2^53 - 1 has 16 digits; longer text is refused before int() does quadratic work on it
    if len(text) > 17 or abs(value := int(text)) > MAX_INTEGER:
        raise CanonicalError(f"integer {text[:24]} is beyond 2^53 - 1")
    return value


_STRICT_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_float=_refuse_number,
    parse_constant=_refuse_number,
    parse_int=_safe_integer,
)
_PLAIN_DECODER = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number, parse_int=_safe_integer)

"""§1: integers, tags, canonical JSON, strict parsing."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any

TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)


class Refused(ValueError):
    """The bytes are not what the specification asks for."""


def uint(value: int, size: int) -> bytes:
    """§1.1."""
    return value.to_bytes(size, "big")


def prefixed(data: str | bytes) -> bytes:
    """§1.1."""
    data = data.encode() if isinstance(data, str) else data
    return uint(len(data), 2) + data


def tag(name: str) -> bytes:
    """§1.2."""
    return b"allocator/v1/" + name.encode() + b"\0"


def sha256(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256."""
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-Expand, RFC 5869 §2.3."""
    out, block, count = b"", b"", 0
    while len(out) < length:
        count += 1
        block = mac(key, block + info + bytes([count]))
        out += block
    return out[:length]


def canon(value: Any) -> bytes:
    """§1.3: RFC 8785 for what a canonical document may hold."""
    return _write(value).encode("utf-8", "strict")


def parse(data: bytes) -> dict[str, Any]:
    """§1.3: canonical parsing."""
    value = parse_free(data)
    try:
        if canon(value) != data:
            raise Refused("not canonical")
    except UnicodeEncodeError as error:
        raise Refused("lone surrogate") from error
    return value


def parse_free(data: bytes) -> dict[str, Any]:
    """§1.3: strict parsing, white space and key order free."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_no_number,
            parse_constant=_no_number,
            parse_int=_integer,
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Refused(str(error)) from error
    if not isinstance(value, dict):
        raise Refused("no object")
    return value


def _write(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        if abs(value) >= 2**53:
            raise Refused("integer beyond the range")
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_write(key)}:{_write(value[key])}" for key in keys) + "}"
    raise Refused(f"{type(value).__name__} has no place in a canonical document")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Refused("a key twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise Refused(f"{text} is no integer")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 2**53:
        raise Refused("integer beyond the range")
    return int(text)

"""A study's record of ClinicalTrials.gov, in the shape of its API v2: the strict reader, and what the checks ask of it.

Pure. Only the fields that the protocol check reads are held to their types; others may be anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from allocator.errors import InputError
from allocator.text import shown

MAX_RECORD = 8 << 20  # bytes; the largest records hold results and reach a few MiB

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_NCT_ID = re.compile(r"NCT[0-9]{8}", re.ASCII)
_TYPES: tuple[tuple[str, type], ...] = (
    ("statusModule.overallStatus", str),
    ("designModule.designInfo.allocation", str),
    ("designModule.designInfo.maskingInfo.masking", str),
    ("designModule.enrollmentInfo.count", int),
    ("armsInterventionsModule.armGroups", list),
    ("armsInterventionsModule.interventions", list),
    ("eligibilityModule.minimumAge", str),
    ("eligibilityModule.maximumAge", str),
    ("eligibilityModule.sex", str),
    ("eligibilityModule.healthyVolunteers", bool),
)
_JSON_NAMES = {str: "a string", int: "a whole number", list: "an array", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryArm:
    """One arm group of the record."""

    label: str
    type: str
    description: str
    interventions: tuple[str, ...]


def parse_registry(data: bytes) -> dict[str, Any]:
    """Read one study record of ClinicalTrials.gov API v2.

    Raises:
        InputError: ``registry-file``: no JSON, duplicate keys, no such record, or a field of another type.
    """
    if len(data) > MAX_RECORD:
        raise _no_record(f"it has {len(data)} bytes; at most {MAX_RECORD} are read")
    try:
        record = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _no_record(f"it is not JSON that can be read: {shown(str(error))}") from error
    if not isinstance(record, dict) or not isinstance(record.get("protocolSection"), dict):
        raise _no_record("it has no protocolSection")
    name = registry_id(record)
    if not isinstance(name, str) or _NCT_ID.fullmatch(name) is None:
        raise _no_record("protocolSection.identificationModule.nctId is no id such as NCT04225780")
    for path, kind in _TYPES:
        value = field_of(record, path)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise _no_record(f"protocolSection.{path} is not {_JSON_NAMES[kind]}")
    registry_arms(record)
    return record


def field_of(record: dict[str, Any], path: str) -> Any:
    """The value at a dotted path below protocolSection, or None where any part of the path is absent."""
    value: Any = record.get("protocolSection")
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def registry_id(record: dict[str, Any]) -> Any:
    """The record's nctId, or None."""
    return field_of(record, "identificationModule.nctId")


def registry_arms(record: dict[str, Any]) -> tuple[RegistryArm, ...]:
    """The arm groups. Raises InputError ``registry-file`` for one that is none."""
    arms = []
    for index, group in enumerate(field_of(record, "armsInterventionsModule.armGroups") or ()):
        names = group.get("interventionNames", []) if isinstance(group, dict) else None
        if (
            not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or not all(isinstance(group.get(key, ""), str) for key in ("label", "type", "description"))
        ):
            raise _no_record(f"protocolSection.armsInterventionsModule.armGroups.{index} is no arm group")
        arms.append(
            RegistryArm(
                label=group.get("label", ""),
                type=group.get("type", ""),
                description=group.get("description", ""),
                interventions=tuple(names),
            )
        )
    return tuple(arms)


def strings_of(record: dict[str, Any]) -> Iterator[str]:
    """Every string value of the record, in the order in which it stands there; keys are not values."""
    stack: list[Any] = [record]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def sentences_with(record: dict[str, Any], pattern: str) -> tuple[str, ...]:
    """The sentences of the record, each once, in which the pattern is found (case ignored), word for word."""
    wanted = re.compile(pattern, re.IGNORECASE)
    found = (
        sentence.strip()
        for text in strings_of(record)
        for sentence in _SENTENCE_END.split(text)
        if wanted.search(sentence)
    )
    return tuple(dict.fromkeys(found))


def _no_record(what: str) -> InputError:
    hint = "Take the record from https://clinicaltrials.gov/api/v2/studies/<NCT id> and give it unchanged."
    return InputError("registry-file", f"The registry file is no study record of ClinicalTrials.gov: {what}", hint)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")

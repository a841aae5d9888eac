"""Study, Arm, Factor, Criterion, Question: the trial as its protocol states it. Public.

Built from the tables of study.toml (files.md); each value validates itself. The fingerprint binds all of it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from allocator.canonical import canonical_bytes, tag
from allocator.criterion import (
    Criterion,
    StudyError,
    nearest,
    require_choice,
    require_identifier,
    require_text,
    require_unique,
)
from allocator.text import is_identifier

FORMAT = "allocator-study/1"
MASKINGS = ("none",)
ARM_TYPES = (
    "experimental",
    "active-comparator",
    "placebo-comparator",
    "sham-comparator",
    "no-intervention",
    "other",
)
LEVELS = ("block", "warn", "info")
MAX_ARMS = 100  # an arm index is one byte of a sealed entry
MAX_STRATA = 10_000
MAX_REPEATS = 6  # in the pattern of participant ids
_CLASS = re.compile(r"\\.|\[\^?\]?[^\]]*\]")  # what stands for one character: an escape, a class
_REPEAT = re.compile(r"(?<!\()(?:[*+?]|\{[0-9]*,[0-9]*\})[?+]?")  # of no fixed count; not the mark of a (?: group
# bounds of a file in TOML: nested tables and the places of tables are found in the square of their number
MAX_FILE = 1 << 20  # bytes
MAX_LINE = 2_000  # characters; the longest text of a study has 1000
MAX_TABLES = 1_000
_NESTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*"|'[^'\n]*')[ \t]*+\.[ \t]*+){16}""")


def toml_tables(data: bytes) -> dict[str, Any]:
    """The tables of a study.toml or design.toml. ValueError or RecursionError where there are none."""
    if len(data) > MAX_FILE:
        raise ValueError(f"more than {MAX_FILE} bytes")
    text = data.decode("utf-8")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE or _NESTED.search(line):
            said = f"more than {MAX_LINE} characters in one line" if len(line) > MAX_LINE else "nested too deeply"
            raise ValueError(f"{said} (at line {number}, column 1)")
    if sum(line.lstrip().startswith("[") for line in lines) > MAX_TABLES:
        raise ValueError(f"more than {MAX_TABLES} tables")
    return tomllib.loads(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm: its code (as allocated), label (as shown), registry type and interventions."""

    code: str
    label: str
    type: str
    interventions: tuple[str, ...]

    def __post_init__(self) -> None:
        require_identifier("code", self.code)
        require_text("label", self.label)
        require_choice("type", self.type, ARM_TYPES)
        for index, intervention in enumerate(self.interventions):
            require_text(f"interventions.{index}", intervention)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Arm:
        """Build from one ``[[arm]]`` table."""
        return cls(
            code=table["code"],
            label=table["label"],
            type=table["type"],
            interventions=tuple(table.get("interventions", ())),
        )

    def plain(self) -> dict[str, Any]:
        """The canonical object of this arm."""
        return {
            "code": self.code,
            "label": self.label,
            "type": self.type,
            "interventions": list(self.interventions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A stratification factor with its levels, in declared order."""

    name: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        require_identifier("name", self.name)
        if len(self.levels) < 2:
            raise StudyError("levels", "a factor needs at least two levels")
        for index, level in enumerate(self.levels):
            require_identifier(f"levels.{index}", level)
        require_unique("levels", self.levels)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Factor:
        """Build from one ``[[factor]]`` table."""
        return cls(name=table["name"], levels=tuple(table["levels"]))

    def plain(self) -> dict[str, Any]:
        """The canonical object of this factor."""
        return {"name": self.name, "levels": list(self.levels)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the protocol leaves open: quotes from the registry record, and the study's proposed reading."""

    id: str
    level: str
    quotes: tuple[str, ...]
    message: str
    reading: str

    def __post_init__(self) -> None:
        require_identifier("id", self.id)
        require_choice("level", self.level, LEVELS)
        require_text("message", self.message, limit=1000)
        require_text("reading", self.reading, limit=1000)
        if not self.quotes:
            raise StudyError("quotes", "a question quotes at least one passage of the registry record")
        for index, quote in enumerate(self.quotes):
            require_text(f"quotes.{index}", quote)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Question:
        """Build from one ``[[question]]`` table."""
        return cls(
            id=table["id"],
            level=table["level"],
            quotes=tuple(table["quotes"]),
            message=table["message"],
            reading=table["reading"],
        )

    def plain(self) -> dict[str, Any]:
        """The canonical object of this question."""
        return {
            "id": self.id,
            "level": self.level,
            "quotes": list(self.quotes),
            "message": self.message,
            "reading": self.reading,
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """The whole study definition.

    Attributes:
        enrollment: the approved number of participants; the request after it is refused.
        participant: regular expression of participant ids, ASCII, matched in full.
        time_zone: IANA name; dates of answers are read in it.
        confirmation_hours: how long a confirmation of eligibility holds.
    """

    id: str
    title: str
    protocol_version: str
    masking: str
    enrollment: int
    participant: str
    time_zone: str
    confirmation_hours: int
    arms: tuple[Arm, ...]
    factors: tuple[Factor, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    questions: tuple[Question, ...] = ()
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_head(self)
        check_uniqueness(self)
        object.__setattr__(self, "_compiled", re.compile(self.participant, re.ASCII))

    @classmethod
    def from_tables(cls, tables: dict[str, Any]) -> Study:
        """Build from the tables of study.toml; raises StudyError at the first wrong field.

        A file whose fingerprint is in the log was validated when the study was opened, so the reveal path can
        rebuild it with this alone, without the slower reader that reports every error with its line.
        """
        try:
            if tables["format"] != FORMAT:
                raise StudyError("format", f"{tables['format']!r} is not {FORMAT!r}")
            head = tables["study"]
            return cls(
                **{name: head[name] for name in HEAD_CHECKS},
                arms=tuple(Arm.from_table(t) for t in tables["arm"]),
                factors=tuple(Factor.from_table(t) for t in tables.get("factor", ())),
                criteria=tuple(Criterion.from_table(t) for t in tables["criterion"]),
                questions=tuple(Question.from_table(t) for t in tables.get("question", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise StudyError("", f"not a study definition: {type(error).__name__} {error}") from error

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Study:
        """Build from the canonical object (docs/spec.md §2.1); StudyError unless it is one, to the letter."""
        named = {"study": plain, "arm": "arms", "factor": "factors", "criterion": "criteria", "question": "questions"}
        tables = {name: plain.get(of) if isinstance(of, str) else of for name, of in named.items()}
        study = cls.from_tables({"format": plain.get("format"), **tables})
        if study.plain() != plain:
            raise StudyError("", "it is not the canonical object of a study")
        return study

    def plain(self) -> dict[str, Any]:
        """The canonical object: every field, defaults included (docs/spec.md §2)."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in HEAD_CHECKS},
            "arms": [arm.plain() for arm in self.arms],
            "factors": [factor.plain() for factor in self.factors],
            "criteria": [criterion.plain() for criterion in self.criteria],
            "questions": [question.plain() for question in self.questions],
        }

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256(tag("study") ‖ canonical bytes), 32 bytes (docs/spec.md §2)."""
        return hashlib.sha256(tag("study") + canonical_bytes(self.plain())).digest()

    @cached_property
    def zone(self) -> ZoneInfo:
        """The study's time zone."""
        return ZoneInfo(self.time_zone)

    @cached_property
    def strata(self) -> tuple[dict[str, str], ...]:
        """Every combination of factor levels in declared order; one empty stratum when there is no factor."""
        names = [factor.name for factor in self.factors]
        return tuple(
            dict(zip(names, levels, strict=True)) for levels in itertools.product(*(f.levels for f in self.factors))
        )

    def is_participant(self, text: str) -> bool:
        """True when the text is a participant id of this study (L09: no names, a pattern that is enforced)."""
        return is_identifier(text) and self._compiled.fullmatch(text) is not None

    def criterion(self, criterion_id: str) -> Criterion | None:
        """The criterion of this id, or None."""
        return next((c for c in self.criteria if c.id == criterion_id), None)


def stratum_label(stratum: dict[str, str]) -> str:
    """Canonical JSON of {factor: level}; ``{}`` when there is no factor (formats.md, stream of a stratum)."""
    return canonical_bytes(stratum).decode("utf-8")


def check_head(study: Study) -> None:
    """The rules of the ``[study]`` table; raises StudyError for the first one broken."""
    for name, check in HEAD_CHECKS.items():
        check(getattr(study, name))


def check_masking(masking: str) -> None:
    """StudyError for any masking but the one this version supports."""
    if masking not in MASKINGS:
        raise StudyError("masking", f'{masking!r} is not yet supported; only "none" (open label) is')


def check_enrollment(enrollment: int) -> None:
    """StudyError outside 1..1,000,000."""
    if not 1 <= enrollment <= 1_000_000:
        raise StudyError("enrollment", f"{enrollment} is outside 1..1000000")


def check_confirmation_hours(hours: int) -> None:
    """StudyError outside 1..2160 (90 days)."""
    if not 1 <= hours <= 24 * 90:
        raise StudyError("confirmation_hours", f"{hours} is outside 1..2160")


def check_time_zone(name: str) -> None:
    """StudyError unless the name is one of the IANA time zone database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = sorted(available_timezones())
        raise StudyError("time_zone", f"{name!r} is no IANA time zone{nearest(name, known)}") from error


def check_participant_pattern(pattern: str) -> None:
    """A regular expression in ASCII that matches no blank; StudyError otherwise."""
    if not pattern.isascii() or not pattern.isprintable() or not 1 <= len(pattern) <= 100:
        raise StudyError("participant", "the pattern must be printable ASCII, 1 to 100 characters")
    # a repeat of a group, or many repeats in a row, can take exponential time on a hostile id; ids need a few of them
    if len(_REPEAT.findall(_CLASS.sub("x", pattern))) > MAX_REPEATS:
        raise StudyError(
            "participant", f"more than {MAX_REPEATS} of * + ? and {{m,n}}; write what an id has, literally"
        )
    if re.search(r"\)[*+{]", pattern):
        raise StudyError("participant", "a repeated group is not taken; repeat classes such as [0-9]{3,6} instead")
    try:
        compiled = re.compile(pattern, re.ASCII)
    except re.error as error:
        raise StudyError("participant", f"{pattern!r} is no regular expression: {error}") from error
    if compiled.fullmatch(""):
        raise StudyError("participant", "the pattern matches an empty id")


def check_uniqueness(study: Study) -> None:
    """Codes, names and ids stand once each; references name what exists. StudyError otherwise."""
    if not 2 <= len(study.arms) <= MAX_ARMS:
        raise StudyError("arm", f"{len(study.arms)} arms where 2 to {MAX_ARMS} are possible")
    if not study.criteria:
        raise StudyError("criterion", "a study needs at least one eligibility criterion")
    require_unique("arm.code", [arm.code for arm in study.arms])
    require_unique("arm.label", [arm.label for arm in study.arms])
    require_unique("factor.name", [factor.name for factor in study.factors])
    require_unique("criterion.id", [criterion.id for criterion in study.criteria])
    require_unique("question.id", [question.id for question in study.questions])
    count = 1
    for factor in study.factors:
        count *= len(factor.levels)
    if count > MAX_STRATA:
        raise StudyError("factor", f"{count} strata where at most {MAX_STRATA} are possible")
    for criterion in study.criteria:
        if criterion.not_applicable:
            _check_exemption(study, criterion.id, *criterion.not_applicable)


def _check_exemption(study: Study, criterion_id: str, other_id: str, answer: str) -> None:
    other = study.criterion(other_id)
    if other is None or other.id == criterion_id:
        message = f"{criterion_id} refers to {other_id!r}, which is no other criterion"
        raise StudyError("criterion.not_applicable", message)
    choices = other.codes or (("Y", "N") if other.type == "yes-no" else ())
    if answer not in choices:
        message = f"{criterion_id}: {answer!r} is no answer of {other_id} ({', '.join(choices) or 'a number'})"
        raise StudyError("criterion.not_applicable", message)


HEAD_CHECKS: dict[str, Callable[[Any], None]] = {
    "id": partial(require_identifier, "id"),
    "title": partial(require_text, "title"),
    "protocol_version": partial(require_text, "protocol_version", limit=40),
    "masking": check_masking,
    "enrollment": check_enrollment,
    "participant": check_participant_pattern,
    "time_zone": check_time_zone,
    "confirmation_hours": check_confirmation_hours,
}

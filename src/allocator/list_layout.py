"""Layouts of lists made elsewhere: which column says what, and a sealed list written in such columns. Pure.

Known by their header: `blockrand` (R, its data frame by `write.csv`), `saveRand` of randomizeR, the lists of Sealed
Envelope, REDCap's allocation table, and a plain numbered list as SAS writes it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from allocator.errors import InputError
from allocator.study import Study
from allocator.text import shown, text_fault
from allocator.trail import csv_cell

# What a column may say. `label` is unique and no more; `notice` marks a list of mode test; "-" is not read.
ROLES = ("treatment", "position", "label", "block", "block_size", "in_block", "stratum", "notice", "-")
STRATUM = "stratum"
_NOT_PLAIN = re.compile("[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way of writing a list.

    Attributes:
        name: what people call it.
        roles: what each column says, by its name in lower case, all else but letters and digits as one ``_``.
        needs: the roles without which it is another layout.
    """

    name: str
    roles: Mapping[str, str]
    needs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.roles)})"


_BLOCKS = {"block_size": "block_size", "treatment": "treatment", "notice": "notice"}
LAYOUTS = (
    Layout(
        name="Sealed Envelope",
        roles={"block_identifier": "block", "sequence_within_block": "in_block", **_BLOCKS, "code": "label"},
        needs=("block", "block_size", "in_block", "treatment"),
    ),
    Layout(
        name="Sealed Envelope",
        roles={"sequence": "position", "block": "block", **_BLOCKS, "code": "label"},
        needs=("position", "block", "block_size", "treatment"),
    ),
    Layout(
        name="blockrand",
        roles={"id": "position", "stratum": STRATUM, "block_id": "block", **_BLOCKS},
        needs=("block", "block_size", "treatment"),
    ),
    Layout(
        name="randomizeR",
        roles={"allocation": "position", "treatment": "treatment"},
        needs=("position", "treatment"),
    ),
    Layout(
        name="numbered list",
        roles={
            **dict.fromkeys(("position", "seqno", "sequence", "seq", "no", "id"), "position"),
            **dict.fromkeys(("treatment", "trt", "arm"), "treatment"),
            "stratum": STRATUM,
            "block": "block",
            "block_size": "block_size",
            "notice": "notice",
        },
        needs=("position", "treatment"),
    ),
    Layout(
        name="REDCap",
        roles={
            "redcap_randomization_group": "treatment",
            "redcap_randomization_number": "label",
            "notice": "notice",
        },
        needs=("treatment",),
    ),
)
KNOWN = "; ".join(str(layout) for layout in LAYOUTS)
COLUMNS = ("redcap", "blockrand")  # what a list can be written in


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of a file, where they are not the study's own.

    Attributes:
        arms: arm code by word.
        levels: by factor, or ``stratum`` for the one column of that name: level (or levels) by word.
        columns: role, factor name or "-" by column name.
    """

    arms: Mapping[str, str]
    levels: Mapping[str, Mapping[str, str]]
    columns: Mapping[str, str]

    @classmethod
    def parse(cls, study: Study, arms: Sequence[str], levels: Sequence[str], columns: Sequence[str]) -> Words:
        """From WORD=CODE, FACTOR:WORD=LEVEL and NAME=ROLE as typed. InputError where one says nothing clear."""
        factors = {factor.name: factor.levels for factor in study.factors}
        codes = [arm.code for arm in study.arms]
        taken = {text: arm.code for arm in study.arms for text in (arm.code, arm.label)}
        of_arms = dict(_pairs("map", arms, "WORD=CODE"))
        for word, code in of_arms.items():
            if code not in codes:
                raise InputError("map", f"--map {word}={code}: {code} is no arm; arms: {', '.join(codes)}")
            if taken.get(word, code) != code:
                raise InputError("map", f"--map {word}={code}: {word} is {taken[word]} already", "Is the map turned?")
        of_levels: dict[str, dict[str, str]] = {}
        for left, level in _pairs("level", levels, "FACTOR:WORD=LEVEL"):
            name, colon, word = left.partition(":")
            if not colon or not word or (name not in factors and name != STRATUM):
                known = ", ".join([*factors, STRATUM])
                raise InputError("level", f"--level {left}={level}: FACTOR:WORD=LEVEL; factors: {known}")
            if name == STRATUM and levels_of(level, study) is None:
                form = "/".join(factors) or "nothing: the study has one stratum"
                raise InputError("level", f"--level {left}={level}: {level} is no stratum of the form {form}")
            if level not in factors.get(name, (level,)):
                known = ", ".join(factors[name])
                raise InputError("level", f"--level {left}={level}: {level} is no level; levels: {known}")
            if word in factors.get(name, ()) and word != level:
                raise InputError("level", f"--level {left}={level}: {word} is a level itself", "Is it turned?")
            of_levels.setdefault(name, {})[word] = level
        of_columns = dict(_pairs("column", columns, "NAME=ROLE"))
        for name, role in of_columns.items():
            if role not in ROLES and role not in factors:
                known = ", ".join([*ROLES, *factors])
                raise InputError("column", f"--column {name}={role}: {role} is nothing a column says; known: {known}")
        return cls(arms=of_arms, levels=of_levels, columns=of_columns)

    def arm_word(self, code: str) -> str:
        """The word for an arm in a file that is written."""
        return next((word for word, of in self.arms.items() if of == code), code)

    def level_word(self, factor: str, level: str) -> str:
        """The word for a level in a file that is written."""
        return next((word for word, of in self.levels.get(factor, {}).items() if of == level), level)

    def column_name(self, role: str) -> str:
        """The name of a factor's column in a file that is written."""
        return next((name for name, of in self.columns.items() if of == role), role)


def parse_ratio(texts: Sequence[str]) -> dict[str, int]:
    """Whole numbers by arm code, from CODE=N as typed. InputError for what is no number."""
    shares = {}
    for code, number in _pairs("ratio", texts, "CODE=N"):
        if not re.fullmatch("[0-9]{1,4}", number):
            raise InputError(
                "ratio", f"--ratio {shown(code)}={shown(number)}: a share is a whole number from 1 to 1000"
            )
        shares[code] = int(number)
    return shares


def _pairs(option: str, texts: Sequence[str], form: str) -> Iterator[tuple[str, str]]:
    """Each at its last ``=``: codes and levels have none. InputError for one without, or a word given twice."""
    seen = set()
    for text in texts:
        word, equals, meaning = text.rpartition("=")
        if not equals or not word or not meaning or text_fault(text):
            raise InputError(option, f"--{option} {text!r} is not {form}")
        if word in seen:
            raise InputError(option, f"--{option}: {word} is given twice")
        seen.add(word)
        yield word, meaning


def plain_name(name: str) -> str:
    """A column's name as layouts know it: ``block.id`` and ``Block ID`` are ``block_id``."""
    return _NOT_PLAIN.sub("_", name.lower()).strip("_")


def layout_of(
    header: Sequence[str], factors: Iterable[str], given: Mapping[str, str]
) -> tuple[Layout, list[str]] | None:
    """The layout of a header and what each of its columns says; "" where nothing is known of it. None: no layout.

    Args:
        header: column names as they stand.
        factors: of the study; a column of such a name gives its level.
        given: roles by column name, which go before all else.
    """
    factors = set(factors)
    found = []
    for layout in LAYOUTS:
        roles = []
        for index, name in enumerate(header):
            role = layout.roles.get(plain_name(name), "-" if index == 0 and not name else "")  # R's row names
            if name in factors and role not in layout.needs:
                role = name
            roles.append(given.get(name, role))
        if set(layout.needs) <= set(roles):
            found.append((layout, roles))
    return min(found, key=lambda fit: fit[1].count(""), default=None)  # the first of those that know most columns


def stratum_word(stratum: Mapping[str, str], words: Words) -> str:
    """The stratum in one cell: ``site=A/sex=F``, or the word that `words` has for its levels."""
    levels = "/".join(stratum.values())
    own = "/".join(f"{name}={level}" for name, level in stratum.items())
    return next((word for word, of in words.levels.get(STRATUM, {}).items() if of in (levels, own)), own)


def levels_of(text: str, study: Study) -> dict[str, str] | None:
    """The stratum that one cell names, as `A/F` or `site=A/sex=F` in the order of the factors; None when none."""
    parts = text.split("/")
    if len(parts) != len(study.factors):
        return None
    stratum = {}
    for factor, part in zip(study.factors, parts, strict=True):
        level = part.removeprefix(f"{factor.name}=")
        if level not in factor.levels:
            return None
        stratum[factor.name] = level
    return stratum


def written_rows(
    columns: str, study: Study, arms: Sequence[bytes], words: Words, *, block: int | None, notice: str
) -> Iterator[list[str]]:
    """A list as rows of text, the header first; entries are numbered through all strata from 1.

    Args:
        columns: one of `COLUMNS`.
        study: its strata, in order.
        arms: arm indices by position, one string for each stratum.
        words: other words for arms, levels and columns.
        block: the one size of all blocks; None where the sizes are not known, and each stratum is written as one block.
        notice: stands in a last column of its own, unless "".
    """
    names = [factor.name for factor in study.factors]
    redcap = columns == "redcap"
    if redcap:
        head = ["redcap_randomization_group", "redcap_randomization_number", *map(words.column_name, names)]
    else:
        head = ["id", *(["stratum"] if names else []), "block.id", "block.size", "treatment"]
    yield [*head, *(["notice"] if notice else [])]
    number = blocks = 0
    for stratum, of_stratum in zip(study.strata, arms, strict=True):
        size = block or len(of_stratum)
        for position, arm in enumerate(of_stratum):
            number += 1
            blocks += position % size == 0
            word = words.arm_word(study.arms[arm].code)
            if redcap:
                row = [word, str(number), *(words.level_word(name, stratum[name]) for name in names)]
            else:
                where = [stratum_word(stratum, words)] if names else []
                row = [str(number), *where, str(blocks), str(size), word]
            yield [*row, *([notice] if notice else [])]


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV; what a spreadsheet would run as a formula is put behind an apostrophe."""
    lines: list[str] = []
    csv.writer(SimpleNamespace(write=lines.append), lineterminator="\n").writerows(map(csv_cell, row) for row in rows)
    return "".join(lines)

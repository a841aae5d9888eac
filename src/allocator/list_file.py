"""A list made elsewhere, read from its CSV file and held to the study: every fault at once, line and column. Pure.

Which layouts are known: `list_layout`. How the cells are read: `list_table`. What is a fault and what a doubt:
`import_faults`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from allocator.canonical import canonical_bytes
from allocator.criterion import nearest
from allocator.design import RandomizationDesign
from allocator.errors import FileProblems, InputError, Problem
from allocator.import_faults import Expected, Fault, Row, arms_of, by_stratum, doubts, faults, label_doubts
from allocator.imported_list import NAME as IMPORTED
from allocator.list_layout import KNOWN, STRATUM, Words, layout_of, levels_of
from allocator.list_table import MAX_PROBLEMS, ListTable, cell_fault, read_table, refused
from allocator.study import Study, stratum_label
from allocator.text import TEST_NOTICE

MAX_SHARE = 65_535  # bytes of the plaintext in an envelope (docs/spec.md §7.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFile:
    """A list without a fault.

    Attributes:
        layout: what it was written by.
        design: ready to be sealed; holds the list. Secret.
        doubts: what only a reason can explain; empty for most lists.
        is_test: the file says that its list is of a study in mode test.
    """

    layout: str
    design: RandomizationDesign = field(repr=False)
    doubts: tuple[Problem, ...]
    is_test: bool


def read_list_file(
    name: str, data: bytes, study: Study, words: Words, shares: Mapping[str, int], *, length: int | None = None
) -> ListFile:
    """The list of a file; `name` is what errors call it.

    Args:
        name: of the file.
        data: its bytes, UTF-8 with or without a byte order mark; comma, semicolon or tab between the cells.
        study: whose arms, factors and strata it must have.
        words: the file's own words for them.
        shares: whole numbers by arm code, which its counts are held to; empty for equal shares.
        length: entries to take of each stratum, where the file has more; None to take all.

    Raises:
        FileProblems: every fault, `MAX_PROBLEMS` at most.
        InputError: shares that are none of this study, or a list too long to be sealed.
    """
    ratio = _ratio(study, shares)
    table = read_table(name, data)
    layout, indexes = _header(table, study, words)
    rows, problems = _rows(table, indexes, study, words)
    titles = dict(zip(indexes, (table.rows[0][1][index] for index in indexes.values()), strict=True))

    def placed(row: Row, role: str, message: str) -> Problem:
        role = role if role in indexes else "treatment"
        return table.problem(row.line, indexes[role], titles[role], message)

    if len(rows) == len(table.rows) - 1 and not table.problems:  # else what follows a lost row would seem wrong
        found = chain(_length_problems(rows, study, length) if not problems else (), faults(rows))
        problems += [placed(fault.row, fault.role, fault.message) for fault in islice(found, MAX_PROBLEMS + 1)]
    if problems:
        raise refused("list-file", problems)
    taken = [row for of_stratum in by_stratum(rows).values() for row in of_stratum[:length]]
    names = tuple(stratum_label(stratum) for stratum in study.strata)
    expected = Expected(
        strata=names,
        arms=tuple(code for code, _ in ratio),
        shares=tuple(n for _, n in ratio),
        enrollment=study.enrollment,
    )
    doubted = islice(chain(label_doubts(rows), doubts(taken, expected)), MAX_PROBLEMS)
    notices = indexes.get("notice")
    return ListFile(
        layout=layout,
        design=_design(taken, study, ratio),
        doubts=tuple(placed(doubt.row, doubt.role, doubt.message) for doubt in doubted),
        is_test=notices is not None and any(TEST_NOTICE in cells[notices] for _, cells in table.rows[1:]),
    )


def doubtful(problems: Sequence[Problem]) -> FileProblems:
    """The error of a list that needs a reason and has none."""
    error = refused("list-doubtful", problems)
    error.hint = "If the list is right as it is, say why with --reason TEXT, which is recorded; else correct the file."
    return error


def _ratio(study: Study, shares: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    codes = [arm.code for arm in study.arms]
    if shares and set(shares) != set(codes):
        said = f"--ratio names {', '.join(sorted(shares))}; the arms of {study.id} are {', '.join(codes)}"
        raise InputError("ratio", said, "Give every arm its whole number, or no --ratio for equal shares.")
    if any(not 1 <= share <= 1_000 for share in shares.values()):
        raise InputError("ratio", "a share is a whole number from 1 to 1000")
    return tuple((code, shares.get(code, 1)) for code in codes)


# ---- what it says ---------------------------------------------------------------------------------------------------


def _header(table: ListTable, study: Study, words: Words) -> tuple[str, dict[str, int]]:
    """The name of the layout, and the column of each role that is read. FileProblems otherwise."""
    line, header = table.rows[0]
    factors = [factor.name for factor in study.factors]
    problems = [
        table.problem(line, index, name, "stands twice in the header")
        for index, name in enumerate(header)
        if name in header[:index]
    ]
    problems += [
        table.problem(line, 0, name, "--column names it, and the header does not")
        for name in words.columns
        if name not in header
    ]
    fit = layout_of(header, factors, words.columns)
    if fit is None:
        said = f"no list that is known by its header; known: {KNOWN}. Another name of a column: --column NAME=ROLE"
        raise refused("list-file", [*table.problems, *problems, table.problem(line, 0, "", said)])
    layout, roles = fit
    indexes: dict[str, int] = {}
    for index, role in enumerate(roles):
        if not role:
            said = "what does this column say? --column NAME=ROLE, or NAME=- to leave it out"
            if factors:
                said += f"; factors of the study: {', '.join(factors)}"
            problems.append(table.problem(line, index, header[index], said))
        elif role != "-" and indexes.setdefault(role, index) != index:
            said = f"says {role} as {header[indexes[role]]!r} does"
            problems.append(table.problem(line, index, header[index], said))
    missing = [factor for factor in factors if factor not in indexes]
    if missing and (STRATUM not in indexes or len(missing) < len(factors)):
        said = f"no column gives the level of {', '.join(missing)}; a column of another name: --column NAME=FACTOR"
        problems.append(table.problem(line, 0, "", said))
    if problems:
        raise refused("list-file", [*table.problems, *problems])
    return layout.name, indexes


class _Reader:
    """Rows of cells turned into entries; what is wrong with a word is said once, where it stands first."""

    def __init__(self, table: ListTable, indexes: Mapping[str, int], study: Study, words: Words) -> None:
        self._table, self._indexes, self._study, self._words = table, indexes, study, words
        own = {text: code for code, text in ((a.code, t) for a in study.arms for t in (a.code, a.label))}
        arms = {arm.code: index for index, arm in enumerate(study.arms)}
        self._arms = {word: arms[code] for word, code in {**own, **words.arms}.items()}
        self._strata = {tuple(stratum.values()): index for index, stratum in enumerate(study.strata)}
        self._said: set[tuple[str, str]] = set()
        self._only: str | None = None

    def read(self, line: int, cells: Sequence[str]) -> Iterator[Problem | Row]:
        """The entry of a row, or what is wrong with it."""
        of = {role: cells[index] for role, index in self._indexes.items()}
        wrong = [
            self._problem(line, role, fault)
            for role, text in of.items()
            if role != "notice" and (fault := cell_fault(text))
        ]
        arm, stratum = self._arms.get(of["treatment"]), None
        if not wrong:
            if arm is None:
                wrong += self._once(line, "treatment", of["treatment"], self._no_arm(of["treatment"]))
            role, stratum = self._stratum(of)
            if stratum is None:
                wrong += self._once(line, role, of[role], self._no_level(role, of[role]))
        yield from wrong
        if stratum is not None:
            yield Row(line=line, stratum=stratum, arm=arm or 0, cells=of)  # of an unknown arm, for its place alone

    def _stratum(self, of: Mapping[str, str]) -> tuple[str, int | None]:
        """The place of a row's stratum, or the role of the cell that names none."""
        factors, levels = self._study.factors, []
        if not factors:
            if self._only is None:
                self._only = of.get(STRATUM)
            return STRATUM, 0 if of.get(STRATUM) == self._only else None
        if factors[0].name not in self._indexes:
            word = of[STRATUM]
            found = levels_of(self._words.levels.get(STRATUM, {}).get(word, word), self._study)
            return STRATUM, None if found is None else self._strata[tuple(found.values())]
        for factor in factors:
            word = of[factor.name]
            levels.append(self._words.levels.get(factor.name, {}).get(word, word))
            if levels[-1] not in factor.levels:
                return factor.name, None
        return "", self._strata[tuple(levels)]

    def _no_arm(self, word: str) -> str:
        codes = [arm.code for arm in self._study.arms]
        return f"{word!r} is no arm{nearest(word, codes)}; arms: {', '.join(codes)}; another word: --map WORD=CODE"

    def _no_level(self, role: str, word: str) -> str:
        if not self._study.factors:
            return f"{word!r} is another stratum, and the study has one only"
        if role == STRATUM:
            form = "/".join(f"{factor.name}=LEVEL" for factor in self._study.factors)
            return f"{word!r} is no stratum of the form {form}; another word: --level {STRATUM}:WORD=LEVEL"
        levels = next(factor.levels for factor in self._study.factors if factor.name == role)
        return f"{word!r} is no level; levels: {', '.join(levels)}; another word: --level {role}:WORD=LEVEL"

    def _once(self, line: int, role: str, word: str, message: str) -> Iterator[Problem]:
        if (role, word) not in self._said:
            self._said.add((role, word))
            yield self._problem(line, role, message)

    def _problem(self, line: int, role: str, message: str) -> Problem:
        index = self._indexes[role]
        return self._table.problem(line, index, self._table.rows[0][1][index], message)


def _rows(table: ListTable, indexes: Mapping[str, int], study: Study, words: Words) -> tuple[list[Row], list[Problem]]:
    reader = _Reader(table, indexes, study, words)
    rows: list[Row] = []
    problems = [*table.problems]
    width = len(table.rows[0][1])
    for line, cells in table.rows[1:]:
        if len(cells) != width:
            said = f"{len(cells)} cells where the header has {width}"
            problems.append(table.problem(line, min(len(cells), width) - 1, "", said))
        else:
            for found in reader.read(line, cells):
                rows.append(found) if isinstance(found, Row) else problems.append(found)
        if len(problems) > MAX_PROBLEMS:
            break
    problems += _unused(table, indexes, words) if not problems else []
    return rows, problems


def _unused(table: ListTable, indexes: Mapping[str, int], words: Words) -> Iterator[Problem]:
    """Words given for cells that no row has: a slip, or another file."""
    given: Iterable[tuple[str, str, str]] = [("map", "treatment", word) for word in words.arms]
    given = [*given, *(("level", role, word) for role, of in words.levels.items() for word in of)]
    for option, role, word in given:
        index = indexes.get(role)
        if index is None or all(cells[index] != word for _, cells in table.rows[1:]):
            yield table.problem(table.rows[0][0], index or 0, "", f"--{option} names {word!r}, which no row has")


# ---- the list -------------------------------------------------------------------------------------------------------


def _length_problems(rows: Sequence[Row], study: Study, length: int | None) -> Iterator[Fault]:
    """Arms and strata without a row, and strata of different lengths."""
    strata = by_stratum(rows)
    counts = [len(strata.get(index, ())) for index in range(len(study.strata))]
    least, most = counts.index(min(counts)), counts.index(max(counts))
    missing = [arm.code for index, arm in enumerate(study.arms) if all(row.arm != index for row in rows)]
    short = f"stratum {stratum_label(study.strata[least])} has {counts[least]} entries"
    said = ""
    if missing:
        said = f"no row is of arm {', '.join(missing)}"
    elif length is not None and counts[least] < length:
        said = f"{short}, and --length asks for {length}"
    elif length is None and counts[least] < counts[most]:
        said = (
            f"{short} and {stratum_label(study.strata[most])} has {counts[most]}; a sealed list has the same length in "
            f"all strata: --length {counts[least] or 'N'} takes the first entries of each"
        )
    if said:
        yield Fault(row=strata.get(least, rows)[-1], role="treatment", message=said)


def _design(rows: Sequence[Row], study: Study, ratio: tuple[tuple[str, int], ...]) -> RandomizationDesign:
    """The list as a design; InputError where it does not fit into the envelopes of the shares."""
    strata = by_stratum(rows)
    arms = tuple(arms_of(strata[index]) for index in range(len(study.strata)))
    design = RandomizationDesign(method=IMPORTED, arms=arms, length=len(arms[0]), ratio=ratio)
    size = len(canonical_bytes({"share": "0" * 64, "design": design.plain(), "salt": "0" * 64}))
    if size > MAX_SHARE:
        said = f"the list takes {size} bytes in the envelope of a share, and {MAX_SHARE} fit"
        raise InputError("list-too-long", said, "Take fewer entries of each stratum: --length N.")
    return design

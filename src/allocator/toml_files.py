"""Read study.toml and design.toml: every error at once, with file, line and nearest right name.

Shapes are checked by pydantic models of the files' tables; the rules themselves live once, in `study` and
`design`, and are called from here for each table. Slow to import: `check`, `init` and `generate` use it, a
reveal never does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any, Literal

from parse_errors import toml_source_map
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allocator.criterion import Criterion, StudyError
from allocator.design import RandomizationDesign, parameters
from allocator.errors import FileProblems, Problem
from allocator.imported_list import NAME as IMPORTED
from allocator.method import DesignError
from allocator.study import HEAD_CHECKS, MAX_FILE, Arm, Factor, Question, Study, toml_tables
from allocator.text import shown

MAX_PROBLEMS = 20  # listed at once: to find the line of one takes the whole file
MAX_DEPTH = 16

Strings = list[str]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _StudyTable(_Table):
    id: str
    title: str
    protocol_version: str
    masking: str
    enrollment: int
    participant: str
    time_zone: str
    confirmation_hours: int


class _ArmTable(_Table):
    code: str
    label: str
    type: str
    interventions: Strings


class _FactorTable(_Table):
    name: str
    levels: Strings


class _NotApplicableTable(_Table):
    criterion: str
    answer: str


class _CriterionTable(_Table):
    id: str
    category: str
    text: str
    source: str
    datum: str
    type: str
    unit: str | Strings = ""
    passes: Annotated[str | Strings, Field(alias="pass")]
    needs: Strings = []
    max_age_days: int | None = None
    codes: Strings = []
    whole_number: bool = False
    summary: bool = False
    not_applicable: _NotApplicableTable | None = None


class _QuestionTable(_Table):
    id: str
    level: str
    quotes: Strings
    message: str
    reading: str


class _StudyFile(_Table):
    format: Literal["allocator-study/1"]
    study: _StudyTable
    arm: list[_ArmTable]
    factor: list[_FactorTable] = []
    criterion: list[_CriterionTable]
    question: list[_QuestionTable] = []


class _DesignFile(_Table):
    format: Literal["allocator-design/1"]
    method: str
    length: int
    ratio: dict[str, int]
    block_sizes: list[int] = []
    limit: int | None = None
    probability: str | None = None
    alpha: int | None = None
    beta: int | None = None
    lambda_: Annotated[int | None, Field(alias="lambda")] = None


def read_study(name: str, data: bytes) -> Study:
    """Parse the bytes of a study.toml; `name` is what errors call the file.

    Raises:
        FileProblems: every error of the file, with line, column, field and, for an unknown key, the nearest.
    """
    text, tables = _parse_toml(name, data)
    errors = _shape_errors(tables, _StudyFile)
    problems = _shape_problems(name, text, errors, _StudyFile)
    problems += _rule_problems(name, text, tables, {_table_of(_path_of(item)) for item in errors})
    if problems:
        raise FileProblems("study-file", problems)
    return Study.from_tables(tables)


def read_design(name: str, data: bytes) -> RandomizationDesign:
    """Parse the bytes of a design.toml. Raises FileProblems with every error of the file."""
    text, tables = _parse_toml(name, data)
    problems = _shape_problems(name, text, _shape_errors(tables, _DesignFile), _DesignFile)
    if problems:
        raise FileProblems("design-file", problems)
    faults = _design_faults(tables)
    if problems := [_problem(name, text, fault.field, str(fault)) for fault in islice(faults, MAX_PROBLEMS)]:
        raise FileProblems("design-file", problems)
    return RandomizationDesign.from_tables(tables)


def _design_faults(tables: dict[str, Any]) -> Iterator[DesignError]:
    if tables["method"] == IMPORTED:  # it comes with a list, by `import`
        yield DesignError("method", f"{IMPORTED} is sealed by `allocator import`, not drawn from a design file")
        return
    try:
        given = parameters(tables)
    except DesignError as error:
        yield error
    else:
        yield from RandomizationDesign.faults(tables["method"], given)


def _parse_toml(name: str, data: bytes) -> tuple[str, dict[str, Any]]:
    if len(data) > MAX_FILE:
        raise FileProblems("too-large", [_bare(name, f"{len(data)} bytes; at most {MAX_FILE} are read")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileProblems("not-utf8", [_bare(name, f"byte {error.start} is not UTF-8", line=line)]) from error
    try:
        tables = toml_tables(data)
        _check_depth(name, tables)
        return text, tables
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or an integer of too many digits
        line = int(m) if (m := str(error).partition("at line ")[2].partition(",")[0]).isdigit() else 0
        raise FileProblems("not-toml", [_bare(name, f"not TOML: {error}", line=line)]) from error


def _check_depth(name: str, tables: dict[str, Any]) -> None:
    """FileProblems for tables in tables in tables: no file of ours goes deeper than four."""
    level: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise FileProblems("not-toml", [_bare(name, "tables are nested too deeply")])


def _shape_errors(tables: dict[str, Any], model: type[BaseModel]) -> list[Any]:
    try:
        model.model_validate(tables)
    except ValidationError as error:
        return error.errors()
    return []


def _shape_problems(name: str, text: str, errors: list[Any], model: type[BaseModel]) -> list[Problem]:
    return _merged(_shape_problem(name, text, item, model) for item in errors[:MAX_PROBLEMS])


def _path_of(item: Any) -> str:
    """Where an error stands, without the branches of a union."""
    return ".".join(str(part) for part in item["loc"] if part not in ("str", "list[str]"))


def _merged(problems: Any) -> list[Problem]:
    """One problem a place: pydantic names each branch of a union (a unit that is neither text nor list)."""
    return list({(p.line, p.column, p.field): p for p in problems}.values())


def _shape_problem(name: str, text: str, item: Any, model: type[BaseModel]) -> Problem:
    path = [part for part in item["loc"] if part not in ("str", "list[str]")]
    message = item["msg"]
    if item["type"] == "extra_forbidden":
        message = f"unknown key{_nearest(str(path[-1]), _known_keys(model, path[:-1]))}"
    elif item["type"] == "missing":
        message = "is missing"
    elif len(path) < len(item["loc"]):
        message = "a string, or a list of strings, was expected"
    return _problem(name, text, _path_of(item), message)


def _known_keys(model: type[BaseModel], path: list[Any]) -> list[str]:
    for part in path:
        if isinstance(part, int):
            continue
        annotation = str(model.model_fields[part].annotation)
        model = next(m for m in _TABLES if m.__name__ in annotation)
    return [info.alias or key for key, info in model.model_fields.items()]


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    listed = ", ".join(known) if len(known) <= 8 else ", ".join([*known[:4], "…"])
    return f"; did you mean {close[0]!r}?" if close else f"; known: {listed}"


def _table_of(path: str) -> str:
    """The table of a field: ``criterion.3`` for ``criterion.3.codes.1``, ``study`` for ``study.id``."""
    parts = path.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]


def _rule_problems(name: str, text: str, tables: dict[str, Any], misshapen: set[str]) -> list[Problem]:
    """Well-shaped tables that break a rule of their own; the study's rules when no table has an error."""
    problems: list[Problem] = []
    for key, check in HEAD_CHECKS.items() if "study" not in misshapen else ():
        try:
            check(tables["study"][key])
        except StudyError as error:
            problems.append(_problem(name, text, f"study.{error.field}", str(error)))
    builders: dict[str, Callable[[dict[str, Any]], object]] = {
        "arm": Arm.from_table,
        "factor": Factor.from_table,
        "criterion": Criterion.from_table,
        "question": Question.from_table,
    }
    for key, build in builders.items():
        for index, table in enumerate(tables.get(key, ()) if key not in misshapen else ()):
            if f"{key}.{index}" in misshapen or len(problems) >= MAX_PROBLEMS:
                continue
            try:
                build(table)
            except StudyError as error:
                problems.append(_problem(name, text, f"{key}.{index}.{error.field}", str(error)))
    if not problems and not misshapen:
        try:
            Study.from_tables(tables)
        except StudyError as error:
            path = error.field if error.field.split(".")[0] in tables else f"study.{error.field}"
            problems.append(_problem(name, text, path, str(error)))
    return problems


def _problem(name: str, text: str, path: str, message: str) -> Problem:
    pointer = "/" + path.replace(".", "/")
    entry = None
    while pointer and entry is None:
        entry = toml_source_map.locate(text, pointer)
        pointer = pointer.rpartition("/")[0]
    if entry is None:
        return Problem(file=name, line=0, column=0, field=path, message=shown(message))
    start = entry.value_start
    return Problem(file=name, line=start.line + 1, column=start.column + 1, field=path, message=shown(message))


def _bare(name: str, message: str, *, line: int = 0) -> Problem:
    return Problem(file=name, line=line, column=1 if line else 0, field="", message=shown(message))


_TABLES: tuple[type[BaseModel], ...] = (
    _StudyTable,
    _ArmTable,
    _FactorTable,
    _NotApplicableTable,
    _CriterionTable,
    _QuestionTable,
)

"""docs/spec.md against the code: its tables are rendered from the code, its hex values stand in the vectors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from allocator.log import ALLOWED_STATES, COMMON, KINDS, RESERVED, SIGNED, STATES
from allocator.permuted_block import ALGORITHM
from allocator.person import _SMALL_ORDER, PERMITTED, Role
from allocator.record_form import _FORMS
from allocator.rules import RULES
from allocator.sqlite_store import schema_text

ROOT = Path(__file__).parent.parent
SPEC = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "allocator").rglob("*.py"))}


def _ticked(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"  # type: ignore[attr-defined]


def kinds_table() -> str:
    """§9.4: every kind with its own fields, private details and states."""
    lines = [
        "| kind | fields of its own | private details (may be left out) | states | leads to |",
        "|---|---|---|---|---|",
    ]
    for name, kind in KINDS.items():
        details = ", ".join([*(f"`{d}`" for d in kind.details), *(f"(`{d}`)" for d in kind.optional_details)]) or "–"
        states = ", ".join(ALLOWED_STATES[name]) if name in ALLOWED_STATES else "every"
        leads = STATES.get(name, "–")
        lines.append(f"| `{name}` | {_ticked(kind.fields)} | {details} | {states} | {leads} |")
    return "\n".join(lines)


def meanings_table() -> str:
    """§9.4: what each signature means, to the letter."""
    lines = ["| kind | `meaning` |", "|---|---|"]
    return "\n".join(lines + [f"| `{name}` | {kind.meaning or 'not signed'} |" for name, kind in KINDS.items()])


def roles_table() -> str:
    """§8.2: which role may write which kind."""
    lines = [f"| kind | {' | '.join(Role)} |", f"|---|{'---|' * len(Role)}"]
    for kind, roles in PERMITTED.items():
        lines.append(f"| `{kind}` | {' | '.join('yes' if role in roles else '–' for role in Role)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("table", [kinds_table, meanings_table, roles_table])
def test_tables_are_those_of_the_code(table: object) -> None:
    expected = table()  # type: ignore[operator]
    assert expected in SPEC, f"put this table into docs/spec.md:\n{expected}"


def test_the_schema_is_printed_to_the_letter() -> None:
    assert schema_text() in SPEC


def test_checks_of_the_rules_are_numbered_as_in_the_code() -> None:
    section = SPEC.split("### 11.2", 1)[1].split("### 11.3", 1)[0]
    numbered = re.findall(r"^\| (\d\d) \| ([a-z -]+) \|", section, re.MULTILINE)
    assert [number for number, _ in numbered] == [f"{n:02d}" for n in range(1, len(numbered) + 1)]
    assert [f"{number} {name}" for number, name in numbered if 11 <= int(number) <= 19] == [name for name, _ in RULES]


def test_every_field_has_its_form() -> None:
    section = SPEC.split("### 9.2", 1)[1].split("### 9.3", 1)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named == set(_FORMS)
    used = {*COMMON, *SIGNED, "details", *(field for kind in KINDS.values() for field in kind.fields)}
    assert used == set(_FORMS)


def test_names_of_the_code_stand_in_the_spec() -> None:
    tags = set(re.findall(r'(?:tag|(?<!_)context)\("([a-z-]+)"', "".join(SOURCES.values())))
    section = SPEC.split("### 1.2", 1)[1].split("### 1.3", 1)[0]
    assert tags <= set(re.findall(r"`([a-z-]+)`", section)), "a tag without its meaning"
    formats = set(re.findall(r'"(allocator-[a-z]+/1)"', "".join(SOURCES.values())))
    for text in (*formats, ALGORITHM, *RESERVED):
        assert f"`{text}`" in SPEC or f'"{text}"' in SPEC, text
    assert all(point.hex() in SPEC for point in _SMALL_ORDER)


def test_every_hex_value_comes_from_a_vector() -> None:
    """A worked example that no command makes would rot unseen."""
    known = "".join(path.read_text() for path in sorted((ROOT / "tests" / "vectors").glob("*.json")))
    known += "".join(SOURCES.values()).lower()
    values = re.findall(r"\b[0-9a-f]{20,}\b", SPEC)
    assert len(values) > 20
    for value in values:
        assert value in known or set(value) <= {"0"}, value


def test_the_checkpoint_printed_is_that_of_the_vectors() -> None:
    given = json.loads((ROOT / "tests" / "vectors" / "evidence.json").read_bytes())["checkpoints"]
    for printed in (given["older"]["note"], given["verifier_key"]):
        assert f"```\n{printed.rstrip()}\n```" in SPEC, f"put this into docs/spec.md §16.2:\n{printed}"


def test_sections_cited_in_the_code_exist() -> None:
    headings = set(re.findall(r"^#+ (?:§)?(\d+(?:\.\d+)?)\b", SPEC, re.MULTILINE))
    for path, text in SOURCES.items():
        for cited in re.findall(r"spec\.md §(\d+(?:\.\d+)?)", text):
            assert cited in headings, f"{path.name} cites §{cited}"

"""Each attack of `make attacks`, on a home and on a plain hash chain; docs/attacks.md is what a run gives.

The column of the published library is compared where `make attacks` has installed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import library
import pytest
from page import row
from scenes import Scenes, line_of, not_intact
from table import SECTIONS, Attack

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
ATTACKS = [(name, number, attack) for name, group in SECTIONS.items() for number, attack in enumerate(group)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """Victims, each made once."""
    yield Scenes(tmp_path_factory.mktemp("attacks"))


def lines_of(section: str) -> list[str]:
    """The lines of one table of the page."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


@pytest.mark.requirement("L02")
@pytest.mark.requirement("L03")
@pytest.mark.parametrize(
    ("section", "number", "attack"), ATTACKS, ids=[f"{name} {number}" for name, number, _ in ATTACKS]
)
def test_an_attack_is_named_as_the_page_says(scenes: Scenes, section: str, number: int, attack: Attack) -> None:
    line = line_of(scenes, attack)
    assert line.wrong == ""
    said = lines_of(section)[number]
    cells = row(line).split(" | ")
    assert cells[:-1] == said.split(" | ")[:-1]
    assert not library.installed() or cells == said.split(" | ")


@pytest.mark.requirement("L02")
def test_what_nobody_touched_is_intact_with_all_that_is_kept_of_it(scenes: Scenes) -> None:
    assert not_intact(scenes) == []


def test_every_attack_is_on_the_page_once() -> None:
    assert {name: len(lines_of(name)) for name in SECTIONS} == {name: len(group) for name, group in SECTIONS.items()}


@pytest.mark.requirement("L02")
def test_every_check_of_the_specification_names_an_attack() -> None:
    spec = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8").split("### 11.2")[1].split("### 11.3")[0]
    checks = set(re.findall(r"^\| (\d\d) \|", spec, re.M))
    assert len(checks) >= 26 and {attack.check for _, _, attack in ATTACKS} - {""} == checks

"""docs/mutants.md: each mutant that no test finds has its reason, and the line it changes is still there."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from support import ROOT

PAGE = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    """A module of the folder mutants."""
    spec = importlib.util.spec_from_file_location(f"mutants_{name}", ROOT / "mutants" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REASONS = [(why, *one) for why, keys in load("explained").EXPLAINED.items() for one in keys]


@pytest.mark.requirement("V01")
def test_no_surviving_mutant_is_unexplained() -> None:
    assert "**Not explained:**" not in PAGE
    [survived] = re.findall(r"are found, (\d+) are not\.", PAGE.replace("\n", " "))
    assert int(survived) == len(REASONS) == len(re.findall(r"^\| `\w+[.\w]*` \| `` ", PAGE, re.M))


@pytest.mark.parametrize(("why", "module", "function", "before", "after"), REASONS)
def test_an_explained_mutant_is_on_the_page_and_in_the_code(
    why: str, module: str, function: str, before: str, after: str
) -> None:
    source = (ROOT / "src" / "allocator" / f"{module}.py").read_text(encoding="utf-8")
    assert before in " ".join(line.strip() for line in source.splitlines())
    assert function.split(".")[-1] in source
    assert before != after and len(why) > 20
    escaped = [text.replace("|", "\\|") for text in (before, after)]
    assert f"| `` {escaped[0]} `` | `` {escaped[1]} `` |" in PAGE


@pytest.mark.requirement("V01")
def test_every_module_that_draws_is_on_the_page() -> None:
    from allocator.methods import METHODS

    modules = {method.__name__.rpartition(".")[2] for method in METHODS.values()}  # type: ignore[attr-defined]
    for module in (*modules, "keystream", "method", "methods", "schedule"):
        assert f"| `{module}.py` |" in PAGE

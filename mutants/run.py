"""Every small fault one could make in the drawing modules, and whether a test finds it: `python mutants/run.py`.

A copy of this folder is changed, one mutant at a time, and the tests that draw are run on it: mutmut makes the mutants
within functions, `mutants/rest.py` those it does not make (constants of modules, defaults, properties). No statistics
are needed for any of it: `tests/test_arrangements.py` is left out. Exits 1 when a mutant survives that is not explained
in `mutants/explained.py`, or when an explained one does not survive any more. ``--write docs/mutants.md`` keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import rest  # noqa: E402
from mutant import SECONDS, Mutant, Outcome, outcome  # noqa: E402
from page import page, unexplained  # noqa: E402

ROOT = Path(__file__).parent.parent
OUTCOMES = Path(__file__).parent / "outcomes.json"  # of the last run of each module
FOLDER = ROOT / ".venv" / "mutants"  # where `make mutants` installs mutmut
METHODS = (
    *("permuted_block", "complete", "random_allocation_rule", "big_stick", "biased_coin", "urn"),
    *("truncated_binomial", "chen", "maximal_procedure", "block_urn", "imported_list"),
)
MODULES = ("keystream", "method", *METHODS, "methods", "schedule")
TESTS = [
    f"tests/test_{name}.py"
    for name in (
        *("design_faults", "keystream", "schedule", "vectors", "list_properties", "methods", "permuted_block"),
    )
]
NOTHING_RUN = ("exit code 4", "BadTestExecutionCommands")  # of pytest, in what mutmut prints
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{modules}]
pytest_add_cli_args = ["-p", "no:cacheprovider", "--timeout={seconds}", "--timeout-method=thread"]
pytest_add_cli_args_test_selection = [{tests}]
debug = true
also_copy = ["schedules", "examples", "verifier", "docs", "attacks", "faults", "load", "README.md"]
"""


def main() -> int:
    """Make the mutants, run the tests, print and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules to change, the others as they were; all by default")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to FILE")
    parser.add_argument("--only-page", action="store_true", help="no run: the page from what the last one found")
    given = parser.parse_args()
    outcomes = json.loads(OUTCOMES.read_text(encoding="utf-8")) if OUTCOMES.exists() else {}
    if not given.only_page:
        if not (FOLDER / "mutmut").is_dir():
            print(f"mutmut is not in {FOLDER}: `make mutants` installs it there")
            return 2
        outcomes |= ran(tuple(given.modules or MODULES))
        OUTCOMES.write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    ordered = {module: outcomes[module] for module in MODULES if module in outcomes}
    text = page(ordered)
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    faults = unexplained(ordered)
    print("\n".join(faults))
    return int(bool(faults))


def ran(modules: tuple[str, ...]) -> dict[str, Outcome]:
    """By module: how many mutants were made, and those that were not found."""
    with tempfile.TemporaryDirectory(prefix="allocator-mutants-") as folder:
        tree = copied(Path(folder) / "tree")
        found = rest.of_modules(tree, modules, TESTS, environment(tree / "src")) + within_functions(tree, modules)
    return {module: outcome([mutant for mutant in found if mutant.module == module]) for module in modules}


def copied(tree: Path) -> Path:
    """The working folder without what is hidden, and without this one, whose name mutmut uses for its own."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "mutants")
    return Path(shutil.copytree(ROOT, tree, ignore=left_out))


def environment(*paths: Path) -> dict[str, str]:
    """Found first: these folders. Hypothesis draws the same examples in each run."""
    search = os.pathsep.join(map(str, (*paths, FOLDER)))
    return {**os.environ, "CI": "1", "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": ""}


def within_functions(tree: Path, modules: tuple[str, ...]) -> list[Mutant]:
    """What became of each mutant that mutmut makes."""
    changed = ", ".join(f'"src/allocator/{module}.py"' for module in modules)
    with (tree / "pyproject.toml").open("a", encoding="utf-8") as settings:
        settings.write(
            SETTINGS.format(modules=changed, seconds=SECONDS, tests=", ".join(f'"{test}"' for test in TESTS))
        )
    if any(sign in mutmut(tree, "run", "--max-children", "1") for sign in NOTHING_RUN):
        raise SystemExit("mutmut asked for a test that pytest did not find: it would count as failed")
    lines = re.findall(r"^\s+(allocator\.\S+): (.+)$", mutmut(tree, "results", "--all", "true"), re.M)
    return [_mutant(tree, name, status) for name, status in lines]


def mutmut(tree: Path, *arguments: str) -> str:
    """One command of mutmut in the copy, its output. SystemExit when it fails."""
    command = [sys.executable, "-W", "ignore", "-m", "mutmut", *arguments]
    done = subprocess.run(
        command, cwd=tree, env=environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise SystemExit(f"mutmut {arguments[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def _mutant(tree: Path, name: str, status: str) -> Mutant:
    """Where it is; and its change, where it was not killed."""
    module, function = re.fullmatch(r"allocator\.(\w+)\.(.+)__mutmut_\d+", name).groups()  # type: ignore[union-attr]
    before = after = ""
    if status != "killed":
        lines = mutmut(tree, "show", name).splitlines()
        before, after = (
            " ".join(line[1:].strip() for line in lines if line.startswith(sign) and not line.startswith(3 * sign))
            for sign in "-+"
        )
    where = re.sub(r"^x_|^xǁ(\w+?)ǁ", lambda m: f"{m[1]}." if m[1] else "", function)
    return Mutant(module=module, function=where, status=status, before=before, after=after)


if __name__ == "__main__":
    sys.exit(main())

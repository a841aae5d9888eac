"""Fixtures and rules of the whole suite.

`trials` makes trials of any stage and variant, `trial` is an active one. With ALLOCATOR_REQUIRE=all in the environment
no test may be skipped: a skip fails. Every skip is listed at the end of a run with its reason.

A mark `requirement` with an id that docs/requirements.md does not have ends the run. ``--matrix=FILE`` writes which
tests carry which ids, and what became of them (tests/matrix.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from matrix import unknown_ids, worse
from postgres_server import Server, postgres_server
from support import Clock, Trial, TrialFactory

# durations differ between machines and say nothing about right or wrong; randomness is fixed in CI runs
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
os.environ.pop("ALLOCATOR_STORE", None)  # never the database of whoever runs the tests


@pytest.fixture(scope="session")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Any, Any]]:
    return tmp_path_factory.mktemp("templates"), {}


@pytest.fixture
def trials(_templates: tuple[Path, dict[Any, Any]], tmp_path: Path) -> Iterator[TrialFactory]:
    """Makes trials: ``trials("sealed", stratified=True)``. They are closed after the test."""
    folder, cache = _templates
    factory = TrialFactory(folder, tmp_path, cache)
    yield factory
    factory.close()


@pytest.fixture
def trial(trials: TrialFactory) -> Trial:
    """An active trial: ten participants may be allocated from a list of twenty entries."""
    return trials("active")


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at the start of the trial."""
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this process, with the schema in it; its tests each have a study of their own."""
    with postgres_server() as server:
        if server is None:
            pytest.skip("no PostgreSQL: install the extra `dev`, or set ALLOCATOR_TEST_POSTGRES")
        yield server


def _nothing_may_be_skipped() -> bool:
    return os.environ.get("ALLOCATOR_REQUIRE") == "all"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails where all are required; an expected failure is none."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _nothing_may_be_skipped():
        report.outcome, report.longrepr = "failed", f"ALLOCATOR_REQUIRE=all, but skipped: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module skipped as a whole."""
    report = yield
    if report.skipped and _nothing_may_be_skipped():
        report.outcome, report.longrepr = "failed", f"ALLOCATOR_REQUIRE=all, but skipped: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were skipped, and why."""
    skipped = terminalreporter.getreports("skipped")
    if skipped:
        terminalreporter.section("skipped: not shown by this run")
    for report in skipped:
        terminalreporter.write_line(f"{report.nodeid}: {_reason(report)}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr).removeprefix("Skipped: ")


# ---- which tests show which requirement -----------------------------------------------------------------------------

_RUN = pytest.StashKey[dict[str, dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--matrix FILE."""
    parser.addoption("--matrix", metavar="FILE", help="Write each test's requirement ids and outcome to FILE, as JSON.")


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes in the process that writes them: with xdist, the controller."""
    config.stash[_RUN] = {}
    if config.getoption("--matrix"):
        config.pluginmanager.register(_Matrix(config.stash[_RUN]), "matrix")


class _Matrix:
    """Keeps the worst outcome of all phases and all cases of each test function."""

    def __init__(self, run: dict[str, dict[str, Any]]) -> None:
        self._run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one case; reports of other processes arrive here too."""
        ids = dict(report.user_properties).get("requirements")
        if not ids:
            return
        entry = self._run.setdefault(_function(report.nodeid), {"ids": [], "outcome": report.outcome})
        entry["ids"] = sorted({*entry["ids"], *ids})
        entry["outcome"] = worse(entry["outcome"], report.outcome)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its ids to carry to its report. UsageError for an id that no row has."""
    marks = []
    for item in items:
        ids = [id_ for mark in item.iter_markers("requirement") for id_ in mark.args]
        marks.append((_function(item.nodeid), ids))
        item.user_properties.append(("requirements", ids))
        if config.option.collectonly and ids:
            entry = config.stash[_RUN].setdefault(_function(item.nodeid), {"ids": [], "outcome": "collected"})
            entry["ids"] = sorted({*entry["ids"], *ids})
    if unknown := unknown_ids(marks):
        raise pytest.UsageError("no such id in docs/requirements.md: " + "; ".join(unknown))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file; not in a worker of xdist."""
    target = session.config.getoption("--matrix")
    if target and not hasattr(session.config, "workerinput"):
        Path(target).write_text(json.dumps(session.config.stash[_RUN], indent=1, sort_keys=True) + "\n", "utf-8")


def _function(node: str) -> str:
    """A test function's node id, without the case."""
    return node.partition("[")[0]

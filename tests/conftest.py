"""Fixtures and rules of the whole suite.

`trials` makes trials of any stage and variant, `trial` is an active one. With ALLOCATOR_REQUIRE=all in the environment
no test may be skipped: a skip fails. Every skip is listed at the end of a run with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support import Clock, Trial, TrialFactory

# durations differ between machines and say nothing about right or wrong; randomness is fixed in CI runs
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


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

"""Checks that qualify an installation, and the report of them. What is checked: `self_test`, `database_check`.

Each check is a method that raises when it fails; its docstring says what it shows, and its requirements are beside it
(docs/requirements.md).
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from allocator import PROGRAM
from allocator.canonical import format_time
from allocator.study import Study

Method = Callable[[Any], str]
Checks = list[tuple[tuple[str, ...], Method]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check that was carried out, as the report has it."""

    name: str
    requirements: tuple[str, ...]
    shows: str
    passed: bool
    said: str


def registry(checks: Checks) -> Callable[..., Callable[[Method], Method]]:
    """A decorator that takes the ids of requirements, and puts the method at the end of these checks."""

    def check(*requirements: str) -> Callable[[Method], Method]:
        def register(method: Method) -> Method:
            checks.append((requirements, method))
            return method

        return register

    return check


def require(holds: bool, what: str) -> None:
    """AssertionError with these words unless it holds."""
    if not holds:
        raise AssertionError(what)


def carried_out(checks: Checks, subject: object) -> list[Check]:
    """Every check in order; after one that failed, the ones that stand on it fail too and say so."""
    results = []
    for requirements, method in checks:
        try:
            said, passed = method(subject), True
        except Exception as error:  # whatever goes wrong here is a failed check, and stands in the report
            said, passed = f"{type(error).__name__}: {error}", False
        name = method.__name__.strip("_").replace("_", " ")
        shows = " ".join((method.__doc__ or "").split())
        results.append(Check(name=name, requirements=requirements, shows=shows, passed=passed, said=said))
    return results


def report_text(checks: Sequence[Check], study: Study, moment: datetime, place: str, database: str | None) -> str:
    """The installation-qualification report, in Markdown: what is installed, what was checked, what came of it.

    Args:
        checks: in order.
        study: of the drill.
        moment: of the report, UTC.
        place: of the drill, in words.
        database: the one qualified, in words; None where none was chosen.
    """
    import click
    import cryptography
    import numpy

    failed = sum(not check.passed for check in checks)
    rows = [
        ("Program", PROGRAM),
        ("Made", format_time(moment)),
        ("Machine", f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors"),
        ("Python", sys.version.split()[0]),
        ("SQLite", sqlite3.sqlite_version),
        ("cryptography, numpy, click", f"{cryptography.__version__}, {numpy.__version__}, {click_version(click)}"),
        ("Disk of the drill", place),
        *([("Database", database)] if database else []),
        ("Study of the drill", f"{study.id}, fingerprint {study.fingerprint.hex()}"),
        ("Result", f"{len(checks) - failed} passed, {failed} failed"),
    ]
    lines = ["# Installation qualification", "", *(f"- **{name}**: {value}" for name, value in rows), ""]
    lines += ["| check | requirements | shows | result |", "|---|---|---|---|"]
    for check in checks:
        result = ("passed: " if check.passed else "**FAILED**: ") + check.said.replace("|", "/").replace("\n", " ")
        lines.append(f"| {check.name} | {', '.join(check.requirements)} | {check.shows} | {result} |")
    lines += ["", "Checked by (name, date, signature): ____________________________________", ""]
    return "\n".join(lines)


def click_version(click: Any) -> str:
    """Version of click, which tells it through its package metadata only."""
    from importlib.metadata import version

    return version(str(click.__name__))


def free_text(folder: Path) -> str:
    """Size and free space of the disk on which the drill ran."""
    usage = shutil.disk_usage(folder)
    return f"{usage.free >> 20} of {usage.total >> 20} MiB free"

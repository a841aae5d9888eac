"""The two acts that must not fail badly, as real commands on a real home: a confirmation and a reveal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from allocator.evidence import read_evidence  # noqa: E402
from allocator.home import study_place  # noqa: E402
from allocator.session import system_clock  # noqa: E402
from allocator.verify import verify  # noqa: E402
from support import PASSPHRASE, TrialFactory, eligible_form, open_service  # noqa: E402

# `run`, not `main`: that one first closes the process to others of its account, and to strace unless root runs it
PROGRAM = [sys.executable, "-c", "import sys; from allocator.cli import run; sys.exit(run(sys.argv[1:]))"]
ACTS = ("confirm", "reveal")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command left: its exit code, None when it was killed or never ended, and what it said."""

    code: int | None
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on standard output; empty when none came."""
        try:
            return dict(json.loads(self.out))
        except ValueError:
            return {}

    @property
    def error(self) -> dict[str, Any]:
        """The error object."""
        return dict(self.result.get("error", {}))


@dataclass(kw_only=True)
class Site:
    """A home with one participant confirmed (P-001), and one to be confirmed (P-002)."""

    home: Path
    answers: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, act: str) -> list[str]:
        """The command line of an act."""
        person = "IN" if act == "confirm" else "PH"
        start = [*PROGRAM, "--home", str(self.home), "--json", "--as", person]
        if act == "confirm":
            return [*start, "confirm", "P-002", "--answers", str(self.answers)]
        return [*start, "reveal", "P-001", "--retype", "P-001"]

    def run(self, act: str, *, under: tuple[str, ...] = (), timeout: float = 60, **given: Any) -> Ran:
        """Run an act to its end, under another program if asked."""
        environment = {**os.environ, "ALLOCATOR_PASSPHRASE": PASSPHRASE, **self.environment}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # compiled modules of its own: files are counted as they are opened, and others compile beside us
        environment["PYTHONPYCACHEPREFIX"] = str(self.home.parent / "compiled")
        done = subprocess.run(
            [*under, *self.command(act)], capture_output=True, text=True, timeout=timeout, env=environment, **given
        )
        return Ran(code=done.returncode if 0 <= done.returncode < 128 else None, out=done.stdout, err=done.stderr)

    def records(self) -> list[dict[str, Any]]:
        """All records of the log as they can be read now."""
        service = open_service(self.home, system_clock)  # type: ignore[arg-type]
        try:
            return [dict(record.fields) for record in service.records()]
        finally:
            service.close_files()

    def verdict(self) -> tuple[str, list[str]]:
        """The auditor's verdict and its findings."""
        with read_evidence(study_place(self.home, None)) as evidence:
            verdict = verify(evidence)
        return verdict.verdict, [finding.message for finding in verdict.findings]


class Sites:
    """Builds one site, and hands out copies of it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        factory = TrialFactory(folder / "templates", folder / "homes", {})
        (folder / "homes").mkdir()
        trial = factory("active")
        service = open_service(trial.home, system_clock)  # type: ignore[arg-type]
        service.confirm(trial.actor("IN"), "P-001", eligible_form("P-001", system_clock()), {})
        service.close_files()
        factory.close()
        self._template = trial.home
        from allocator.example_answers import redated
        from support import ANSWERS, study

        self._answers = folder / "answers.json"
        today = system_clock().astimezone(study().zone).date()
        self._answers.write_bytes(redated((ANSWERS / "P-002.json").read_bytes(), today))
        for act in ACTS:  # so that every module is compiled: a first run opens more files, and calls are counted
            self.new().run(act)

    def new(self) -> Site:
        """A home of its own."""
        self._count += 1
        home = self._folder / f"site-{os.getpid()}-{self._count}"
        shutil.copytree(self._template, home)
        return Site(home=home, answers=self._answers)

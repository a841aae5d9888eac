"""Signatures and answers checked by other processes: the same verdict, finding for finding."""

from __future__ import annotations

import json

import pytest

from allocator.cli import run, verifying
from support import TrialFactory


@pytest.mark.requirement("L02")
def test_two_processes_find_what_one_finds(
    trials: TrialFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = trials()
    trial.allocate("P-001", "P-002")
    log = trial.place.log_file
    log.write_bytes(log.read_bytes().replace(b'"number":2', b'"number":3'))
    monkeypatch.setattr(verifying, "PARALLEL_FROM", 1)
    said = []
    for jobs in ("1", "2"):
        assert run(["--json", "verify", str(trial.home), "--jobs", jobs]) == 3
        said.append(json.loads(capsys.readouterr().out))
    assert sorted(map(str, said[0].pop("findings"))) == sorted(map(str, said[1].pop("findings")))
    assert said[0] == said[1]

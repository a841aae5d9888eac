"""`allocator move`: what is typed, what is said, and that no password is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from allocator import stores
from allocator.cli import run
from allocator.departure import DepartureService
from postgres_server import PASSWORD, Server
from support import PASSPHRASE, Trial, TrialFactory


@pytest.fixture
def database(postgres: Server) -> Iterator[Server]:
    """A database with the schema."""
    with postgres.database() as database:
        yield database


@pytest.fixture
def address(database: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address without the password, which stands in the environment."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("ALLOCATOR_PASSPHRASE", PASSPHRASE)
    monkeypatch.delenv(stores.VARIABLE, raising=False)
    return database.writer.replace(f":{PASSWORD}", "")


@pytest.fixture
def trial(trials: TrialFactory) -> Trial:
    """An active trial whose log is closed."""
    trial = trials("active")
    trial.allocate("P-001")
    trial.close()
    return trial


def said(capsys: pytest.CaptureFixture[str], trial: Trial, *arguments: str) -> tuple[int, str]:
    """Exit code and all that a command says."""
    capsys.readouterr()
    code = run(["--home", str(trial.home), *arguments])
    captured = capsys.readouterr()
    assert PASSWORD not in captured.out + captured.err
    return code, captured.out + captured.err


def told(capsys: pytest.CaptureFixture[str], trial: Trial, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result with --json."""
    code, text = said(capsys, trial, "--json", *arguments)
    return code, json.loads(text.splitlines()[-1])


@pytest.mark.requirement("L01", "L06")
def test_there_and_back_by_the_command(
    trial: Trial, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = said(capsys, trial, "--as", "SP", "move", address, "--reason", "the unit's own database")
    assert code == 0 and text.startswith("The log is in PostgreSQL") and "INTACT, anchored only" in text
    assert f"export {stores.VARIABLE}='{address}'" in text
    assert told(capsys, trial, "status")[1]["error"]["code"] == "no-store"
    monkeypatch.setenv(stores.VARIABLE, address)
    code, text = said(capsys, trial, "--as", "AU", "log")
    assert code == 0 and "to postgresql" in text and "reason: the unit's own database" in text
    assert told(capsys, trial, "--as", "SP", "move", address)[1]["error"]["code"] == "there-already"
    code, done = told(capsys, trial, "--as", "SP", "move", "file")
    assert (code, done["to"], done["state"], done["verdict"]["verdict"]) == (0, "file", "active", "intact-local")
    assert done["arrived"]["seq"] == done["moved"]["seq"] + 1
    assert done["aside"] == f"log.postgresql.moved-{done['moved']['seq']}"
    assert told(capsys, trial, "status")[1]["error"]["code"] == "other-store"
    monkeypatch.delenv(stores.VARIABLE)
    assert told(capsys, trial, "verify")[1]["verdict"] == "intact-local"
    assert told(capsys, trial, "--as", "PH", "reveal", "P-001", "--retype", "P-001")[0] == 0
    code, text = said(capsys, trial, "--as", "SP", "move", "file")
    assert code == 2 and "a file already, since record" in text
    monkeypatch.setenv(stores.VARIABLE, address)
    code, text = said(capsys, trial, "--as", "SP", "move", address)
    assert code == 0 and "export" not in text


@pytest.mark.requirement("L03")
def test_a_move_cut_off_is_told_of_and_ended_by_the_same_command(
    trial: Trial, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("allocator.log_end.DatabaseFilling.seal", interrupted)
        assert said(capsys, trial, "--as", "SP", "move", address)[0] == 130
    code, text = said(capsys, trial, "status")
    assert code == 0 and "MOVED" in text and "nothing is written here" in text and "one sponsor" not in text
    code, text = said(capsys, trial, "verify")
    assert code == 0 and "moved    to postgresql, by the last record" in text
    assert told(capsys, trial, "verify")[1]["moved"] == "postgresql"
    code, text = said(capsys, trial, "show", "P-001")
    assert code == 0 and "P-001" in text
    for command in (["pause", "--reason", "x"], ["--as", "PH", "reveal", "P-001", "--retype", "P-001"]):
        code, text = said(capsys, trial, *(["--as", "SP"] if command[0] == "pause" else []), *command)
        assert code == 1 and "the log was moved to PostgreSQL by record" in text and "`allocator move` again" in text
    assert said(capsys, trial, "--as", "SP", "move", address)[0] == 0


def test_the_exit_code_is_that_of_the_verdict(
    trial: Trial, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive = DepartureService.arrive

    def and_lose_the_list(service: DepartureService, actor: Any) -> Any:
        record = arrive(service, actor)
        service.place.sealed_file.unlink()
        return record

    monkeypatch.setattr(DepartureService, "arrive", and_lose_the_list)
    code, done = told(capsys, trial, "--as", "SP", "move", address)
    assert (code, done["verdict"]["verdict"]) == (3, "broken") and done["arrived"]["seq"]


@pytest.mark.requirement("S04")
@pytest.mark.parametrize(
    "to",
    [
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://u@127.0.0.1:1/none?password={PASSWORD}",
        f"postgresql://u:{PASSWORD}@[/none",
        f"postgresql://u:{PASSWORD}%zz@127.0.0.1/none",
        f"mysql://u:{PASSWORD}@127.0.0.1/none",
        f"host=127.0.0.1 password={PASSWORD}",
        PASSWORD,
        "FILE",
        "",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    trial: Trial, to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOCATOR_PASSPHRASE", PASSPHRASE)
    code, result = told(capsys, trial, "--as", "SP", "move", to)
    assert (code, result["error"]["code"]) in ((2, "place"), (2, "password-shown"))
    trial.again()
    assert "moved" not in trial.kinds


@pytest.mark.requirement("S04")
def test_the_variable_may_hold_the_password_and_must_be_the_same_database(
    trial: Trial,
    database: Server,
    address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv(stores.VARIABLE, database.writer.replace("/test_", "/other_"))
    code, result = told(capsys, trial, "--as", "SP", "move", address)
    assert (code, result["error"]["code"]) == (2, "other-store")
    monkeypatch.setenv(stores.VARIABLE, database.writer)
    assert told(capsys, trial, "--as", "SP", "move", address)[0] == 0


@pytest.mark.requirement("A06")
def test_who_may_not_is_refused(trial: Trial, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, trial, "--as", "PH", "move", address)[1]["error"]["code"] == "not-permitted"
    code, result = told(capsys, trial, "--as", "SP", "move", "postgresql://nobody@127.0.0.1:1/none")
    assert (code, result["error"]["code"]) == (5, "unavailable")
    assert told(capsys, trial, "verify")[1]["verdict"] == "intact-local"

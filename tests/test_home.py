"""A home: where it is, what it refuses to be, and opening a study in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.errors import CredentialError, EvidenceError, InputError, Refused, StorageError
from allocator.home import StudyPlace, find_home, inside_git, read_input, studies_in, study_place, write_durably
from allocator.keys import KeyFolder
from allocator.opening import open_study
from allocator.sqlite_store import SqliteStore
from support import REGISTRY_BYTES, STUDY_BYTES, STUDY_ID, open_home, open_service, study_bytes


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the real study opened in it."""
    open_home(tmp_path / "home")
    return tmp_path / "home"


def code_of(call: Any, *given: Any, **named: Any) -> str:
    """The code of the InputError that the call raises."""
    with pytest.raises(InputError) as refusal:
        call(*given, **named)
    return refusal.value.code


def test_opening_makes_what_a_home_has(home: Path) -> None:
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert files == {
        f"schedules/{STUDY_ID}/study.toml",
        f"schedules/{STUDY_ID}/registry.json",
        f"schedules/{STUDY_ID}/log.sqlite3",
        f"keys/{STUDY_ID}/SP.json",
        f"keys/{STUDY_ID}/log.key",
        f"keys/{STUDY_ID}/head",
    }
    place = study_place(home, None)
    assert (place.study_file.read_bytes(), place.registry_file.read_bytes()) == (STUDY_BYTES, REGISTRY_BYTES)


def test_the_home_is_the_nearest_folder_upwards(home: Path, tmp_path: Path) -> None:
    deep = home / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home(deep) == find_home(home) == home
    (home / "a" / "schedules").mkdir()
    assert find_home(deep) == home
    (home / "a" / "keys").mkdir()
    assert find_home(deep) == home / "a"
    assert code_of(find_home, tmp_path) == "no-home"


def test_the_only_study_is_chosen_and_one_of_several_is_asked_for(home: Path) -> None:
    assert study_place(home, None).study == study_place(home, STUDY_ID).study == STUDY_ID
    other = STUDY_BYTES.replace(STUDY_ID.encode(), b"NCT00000001")
    open_home(home, other)
    assert studies_in(home) == ["NCT00000001", STUDY_ID]
    assert code_of(study_place, home, None) == "no-study"
    assert study_place(home, "NCT00000001").study == "NCT00000001"


@pytest.mark.parametrize("study", ["NCT99999999", "", "..", "../home", "NCT04225780/..", "/etc", "\x1b[2J"])
def test_a_study_that_is_not_there(home: Path, study: str) -> None:
    assert code_of(study_place, home, study) == "no-study"


def test_no_home_at_all(tmp_path: Path) -> None:
    assert code_of(study_place, tmp_path, None) == "no-home"


def test_a_study_without_its_log_is_not_opened(home: Path) -> None:
    place = study_place(home, None)
    place.log_file.unlink()
    with pytest.raises(EvidenceError, match="had a log here, and it is gone"):  # it was opened once: its head is there
        study_place(home, None)
    place.keys.joinpath("head").unlink()
    assert code_of(study_place, home, None) == "not-opened"


@pytest.mark.requirement("L03")
@pytest.mark.parametrize(
    "name",
    ["", "schedules", "keys", f"schedules/{STUDY_ID}", f"keys/{STUDY_ID}"]
    + [f"schedules/{STUDY_ID}/{file}" for file in ("study.toml", "log.sqlite3", "sealed.json")],
)
def test_a_symbolic_link_anywhere_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    path = home / name
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert code_of(study_place, home, None) == "symbolic-link"


@pytest.mark.requirement("V03")
def test_production_inside_a_git_work_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    deep = tmp_path / "a" / "home"
    with pytest.raises(Refused) as refusal:
        open_home(deep, mode="production", passphrase="a long passphrase")
    assert refusal.value.code == "inside-git" and not deep.exists()
    open_home(deep, mode="test")
    assert inside_git(deep)


@pytest.mark.requirement("V03")
def test_a_git_file_of_a_worktree_counts_too(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    with pytest.raises(Refused):
        open_home(tmp_path, mode="production", passphrase="a long passphrase")


# ---- opening a study ------------------------------------------------------------------------------------------------


def test_a_study_is_opened_once(home: Path) -> None:
    before = study_place(home, None).log_file.read_bytes()
    assert code_of(open_home, home) == "opened-already"
    assert study_place(home, None).log_file.read_bytes() == before


@pytest.mark.requirement("L03")
def test_keys_without_their_log_are_never_opened_anew(home: Path) -> None:
    study_place(home, None).log_file.unlink()
    assert code_of(open_home, home) == "keys-without-log"


def test_another_study_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    place = StudyPlace(home=tmp_path, study=STUDY_ID)
    place.schedules.mkdir(parents=True)
    place.study_file.write_bytes(study_bytes(enrollment=11))
    assert code_of(open_home, tmp_path) == "other-file"
    assert place.study_file.read_bytes() == study_bytes(enrollment=11)


@pytest.mark.requirement("A04")
def test_after_a_crash_while_opening_it_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    for target, name in ((KeyFolder, "write_log_key"), (SqliteStore, "append")):
        monkeypatch.setattr(target, name, dies)
        with pytest.raises(KeyboardInterrupt):
            open_home(tmp_path / "home")
        monkeypatch.undo()
        assert code_of(study_place, tmp_path / "home", None) in ("not-opened", "no-study")
    assert open_home(tmp_path / "home").seq == 0
    service = open_service(tmp_path / "home")
    assert service.authenticate("SP", lambda: "pw", "open").person == "SP"
    service.close_files()


@pytest.mark.parametrize(
    "change, code", [({"person": "S P"}, "id"), ({"person": ""}, "id"), ({"name": "\x1b"}, "name")]
)
def test_a_bad_id_or_name_opens_nothing(tmp_path: Path, change: dict[str, str], code: str) -> None:
    from dataclasses import replace

    from allocator.opening import Opening
    from allocator.toml_files import read_study

    opening = Opening(
        study=read_study("study.toml", STUDY_BYTES),
        study_bytes=STUDY_BYTES,
        registry_bytes=None,
        findings=[],
        person="SP",
        name="Sponsor One",
        mode="test",
    )
    assert code_of(open_study, tmp_path / "home", replace(opening, **change), "pw") == code
    assert not (tmp_path / "home").exists()


@pytest.mark.requirement("S05")
def test_production_asks_for_a_passphrase_of_eight(tmp_path: Path) -> None:
    with pytest.raises(CredentialError) as refusal:
        open_home(tmp_path / "home", mode="production", passphrase="seven77")
    assert refusal.value.code == "passphrase-short" and not (tmp_path / "home").exists()
    assert open_home(tmp_path / "home", mode="production", passphrase="eight888").fields["mode"] == "production"


def test_a_symbolic_link_is_no_home_to_open_in(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert code_of(open_home, tmp_path / "link") == "symbolic-link"
    assert list((tmp_path / "real").iterdir()) == []


# ---- writing and reading files --------------------------------------------------------------------------------------


@pytest.mark.requirement("A04")
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("allocator.home.os.fsync", fails)
    with pytest.raises(StorageError):
        write_durably(path, b"new and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_given_by_a_user_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_input(tmp_path / "file", limit=5) == b"12345"
    assert code_of(read_input, tmp_path / "file", limit=4) == "too-large"
    assert code_of(read_input, tmp_path / "none", limit=4) == "cannot-read"
    assert code_of(read_input, tmp_path, limit=4) == "cannot-read"

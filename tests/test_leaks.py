"""What must stay secret stands nowhere: files, journals, free pages, temporary files, screens, JSON, errors, memory.

Each hunt knows every secret byte string (tests/canaries.py) and is shown to find one that is planted.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support
from allocator import evidence, sqlite_evidence
from allocator.cli import cli
from allocator.cli.call import ask_passphrase, json_text, written
from allocator.errors import AllocatorError, EvidenceError
from allocator.schedule import generate_schedule
from allocator.verify import verify
from canaries import Drawn, Hunt, forms, private_keys, secrets_of, told_by
from support import PASSPHRASE, STUDY_ID, Trial, TrialFactory, eligible_form
from test_bad_input import CODES, assert_nothing_obeyed
from test_cli_contract import OPTIONS, PROGRAM, Ran, Site, _bare_environment, _command, site_at

LONG = "correct horse battery staple 4711"  # a passphrase that can be hunted, unlike "pw"


def _draws(label: str, drawn: list[bytes]) -> Callable[[int], bytes]:
    """Entropy that is the same for the same label, and keeps what it gave."""

    def entropy(count: int) -> bytes:
        drawn.append(hashlib.shake_256(f"{label} {len(drawn)}".encode()).digest(count))
        return drawn[-1]

    return entropy


def _known_list(trials: TrialFactory, label: str = "canary") -> tuple[Trial, Hunt]:
    """An active trial whose every secret is known, and the hunt for them."""
    trial, drawn = trials("enrolled"), []
    trial.service._entropy = _draws(label, drawn)
    trial.service.generate(trial.actor("ST"), support.design())
    for person in ("PH", "IN"):
        trial.service.grant(trial.actor("ST"), person)
    trial.service.activate(trial.actor("SP"), "ethics file 12, page 3")
    secrets = secrets_of(trial.home, Drawn.of(drawn), trial.service.study, support.design())
    return trial, Hunt(secrets | private_keys(trial.home, dict.fromkeys(support.PEOPLE, PASSPHRASE)))


def _told(trial: Trial) -> set[str]:
    """What the log gives away by now, as it must."""
    return {name for record in trial.records for name in told_by(record.fields)}


# ---- the hunt itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize(
    "form",
    [bytes, bytes.hex, lambda v: v.hex().upper(), base64.b64encode, base64.urlsafe_b64encode],
    ids=["raw", "hex", "HEX", "base64", "base64url"],
)
def test_a_planted_secret_is_found(form: Callable[[bytes], bytes | str], before: int, tmp_path: Path) -> None:
    secret = hashlib.sha256(b"secret").digest()
    planted = form(b"x" * before + secret + b"y" * 5)
    tmp_path.joinpath("file").write_bytes(planted if isinstance(planted, bytes) else planted.encode())
    assert Hunt({"it": secret}).files(tmp_path) == {"it"}
    assert Hunt({"it": hashlib.sha256(b"other").digest()}).files(tmp_path) == set()
    assert len(list(forms(secret))) == 9


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("C01")
def test_the_files_of_a_home_hold_only_what_was_released(trials: TrialFactory) -> None:
    """Step by step: never more than the halves of those confirmed and the openings of those allocated."""
    trial, hunt = _known_list(trials)
    assert hunt.files(trial.home) == set()
    for number in (1, 2, 3):
        trial.confirm(f"P-{number:03d}")
        assert hunt.files(trial.home) == _told(trial)
    trial.reveal("P-002")
    trial.service.withdraw(trial.actor("IN"), "P-003", "consent withdrawn")
    with pytest.raises(AllocatorError):
        trial.reveal("P-003")
    trial.service.unblind(trial.actor("PH"), "P-002", "an emergency")
    found = hunt.files(trial.home)
    assert found == _told(trial)
    assert found == {"salt of entry 1", *(f"investigators' half of entry {n}" for n in range(3))}


@contextlib.contextmanager
def _at_commit(trial: Trial, act: Callable[[], Any]) -> Iterator[None]:
    """Do `act` just before each COMMIT, with changed pages and journal on the disk: the cache has room for one page."""
    store, connection = trial.store, trial.store._connection
    append = store.append

    def appended(*given: Any) -> None:
        append(*given)
        for table in ("record", "detail"):  # reading other pages drives the changed ones out
            connection.execute(f"SELECT count(*), max(length(hex({table}.seq))) FROM {table} NOT INDEXED").fetchall()

    for pragma in ("cache_size=1", "cache_spill=1"):
        connection.execute(f"PRAGMA {pragma}")
    store.append = appended  # type: ignore[method-assign]
    connection.set_trace_callback(lambda sql: act() if sql == "COMMIT" else None)
    yield
    connection.set_trace_callback(None)
    store.append = append  # type: ignore[method-assign]


@pytest.mark.requirement("C01")
def test_in_the_middle_of_a_transaction_the_disk_holds_no_more(trials: TrialFactory) -> None:
    """Journal, log, key folder and temporary files as they are when the power fails just before the commit."""
    trial, hunt = _known_list(trials)
    seen: list[tuple[bool, set[str]]] = []
    journal = trial.place.log_file.with_name("log.sqlite3-journal")

    def look() -> None:
        seen.append((journal.exists() and journal.stat().st_size > 0, hunt.files(trial.home)))

    with _at_commit(trial, look):
        trial.confirm("P-001")
        trial.confirm("P-002")
        trial.reveal("P-001")
        trial.reveal("P-001")
    assert [there for there, _ in seen] == [True] * 4
    assert [found for _, found in seen] == [
        {"investigators' half of entry 0"},
        {f"investigators' half of entry {n}" for n in (0, 1)},
        {"salt of entry 0", *(f"investigators' half of entry {n}" for n in (0, 1))},
        {"salt of entry 0", *(f"investigators' half of entry {n}" for n in (0, 1))},
    ]


@pytest.mark.requirement("C01")
def test_while_a_list_is_generated_the_disk_holds_nothing_of_it(trials: TrialFactory) -> None:
    trial, drawn = trials("enrolled"), []
    trial.service._entropy = _draws("generating", drawn)
    snapshots: list[Path] = []

    def keep() -> None:
        snapshots.append(Path(shutil.copytree(trial.home, trial.home.parent / f"snapshot-{len(snapshots)}")))

    with _at_commit(trial, keep):
        trial.service.generate(trial.actor("ST"), support.design())
    hunt = Hunt(secrets_of(trial.home, Drawn.of(drawn), trial.service.study, support.design()))
    assert [
        sorted(p.name for p in (s / "schedules" / STUDY_ID).iterdir() if "sealed" in p.name) for s in snapshots
    ] == [["sealed.json.next"]]
    assert hunt.files(snapshots[0]) == set() == hunt.files(trial.home)


@pytest.mark.requirement("C01")
@pytest.mark.requirement("A04")
def test_a_reveal_killed_before_its_commit_leaves_nothing_behind(trials: TrialFactory) -> None:
    """The opened entry may reach the file before the commit; the roll-back takes it away, free pages and all."""
    trial, hunt = _known_list(trials)
    trial.confirm("P-001")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, for the threads of a test runner
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            trial.again()  # a connection of its own
            with _at_commit(trial, lambda: os._exit(9)):
                trial.reveal("P-001")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    written = hunt.files(trial.home)
    assert "salt of entry 0" in written  # what this test is about
    service = trial.again()
    assert service.participant_state("P-001") == "confirmed"
    assert hunt.files(trial.home) == {"investigators' half of entry 0"}
    assert trial.reveal("P-001").record.fields["position"] == 0


@pytest.mark.parametrize("ours", [True, False], ids=["as opened", "without secure_delete"])
def test_what_is_deleted_is_overwritten(ours: bool, trial: Trial) -> None:
    """A private detail that is removed one day leaves no copy in free pages; without the pragma it would."""
    connection, log = trial.store._connection, trial.place.log_file
    if not ours:
        connection.execute("PRAGMA secure_delete=0")
    for trigger in ("detail_next", "detail_no_delete"):
        connection.execute(f"DROP TRIGGER {trigger}")
    values = [(f"f{number:02d}", bytes(32), f"CANARY{number:03d}" + "x" * 900) for number in range(60)]
    connection.executemany("INSERT INTO detail VALUES (0, ?, ?, ?)", values)
    assert b"CANARY" in log.read_bytes()
    connection.execute("DELETE FROM detail WHERE field GLOB 'f[0-9]*'")
    assert (b"CANARY" not in log.read_bytes()) == ours


# ---- the program ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Hunt]:
    """A site whose every secret is known: its list is drawn from given entropy. PH has a passphrase worth a hunt."""
    site = site_at(tmp_path_factory.mktemp("known"), "used")
    assert site.typed("--as PH person passphrase", ALLOCATOR_NEW_PASSPHRASE=LONG).code == 0
    drawn = Drawn.of(hashlib.shake_256(b"%d" % n).digest(16 if n == 2 else 32) for n in range(6))
    service = site.service()
    secrets = secrets_of(site.home, drawn, service.study, support.design())
    service.close_files()
    people = {**dict.fromkeys(support.PEOPLE, PASSPHRASE), "PH": LONG}
    return site, Hunt({**secrets, **private_keys(site.home, people), "code of NEW": site.codes["NEW"].encode()})


LINES = [
    "status", "log", "verify", "person list", "show P-001", "show P-002", "show P-101", "check study.toml",
    "check study.toml --design design.toml --registry registry.json",
    "--as PH reveal P-002 --dry-run", "--as PH reveal P-003 --retype P-003", "--as PH reveal P-002 --retype P-003",
    "--as IN reveal P-002 --retype P-002", "--as ST generate design.toml",
    "--as ST generate design.toml --reason again",
    "--as PH list --columns redcap", "--as AU list --columns blockrand",
    "--as ST import design.toml --origin elsewhere",
    "statement public", "--as ST statement restricted --design design.toml", "--as PH statement restricted",
    "statement consort --design design.toml",
    "balance", "--as PH balance", "--as IN balance", "--as PH balance --sign",
    "--as ST balance", "--as ST balance --sign",
    "--as ST grant NEW", "--as ST grant PH", "--as NEW person enrol --code AAAA-AAAA-AAAA-AAAA-AAAA",
    "--as PH reveal P-101 --retype P-101", "--as PH show P-001", "--as PH reveal P-001 --retype P-001",
    "--as IN unblind P-001 --reason emergency", "--as IN unblind P-002 --reason emergency",
    "--as PH correct P-002 --what in-error --value P-003 --reason typing", "--as SP activate --deposit file",
    "--as IN confirm P-101 --answers gone.json", "--as IN confirm P-102 --answers {P-102}", "revael", "--as PH log",
]  # fmt: skip


@pytest.mark.requirement("C01")
@pytest.mark.requirement("C03")
def test_no_command_prints_or_leaves_a_secret(known: tuple[Site, Hunt], tmp_path: Path) -> None:
    """Each command for the eye and as JSON, in a folder for temporary files that is empty again afterwards."""
    site, hunt = known
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    log = json.loads("[" + ",".join(site.typed("--json --as AU log").out.splitlines()) + "]")
    told = {name for record in log for name in told_by(record)}
    for line in LINES:
        for name in re.findall("{(.*?)}", line):
            line = line.replace(f"{{{name}}}", site.form(name))
        for option in ("", "--json "):
            passphrase = LONG if "--as PH" in line else PASSPHRASE
            with _temporary(temporary):
                ran = site.typed(option + line, ALLOCATOR_PASSPHRASE=passphrase)
            assert "Traceback" not in ran.said
            assert hunt.within(ran.said) == set(), line
            assert list(temporary.iterdir()) == [], line
    with _temporary(temporary):
        for wrong in (LONG[:-1], LONG + " ", LONG.upper()):
            assert wrong not in site.typed("--as PH show P-001", ALLOCATOR_PASSPHRASE=wrong).said
    assert hunt.files(site.home) == told
    assert hunt.files(site.desk) == set()


@pytest.mark.requirement("R03")
@pytest.mark.requirement("L07")
def test_backup_export_and_whole_log_hold_what_the_log_tells_and_no_more(known: tuple[Site, Hunt]) -> None:
    site, hunt = known
    assert site.typed("--as SP backup copy.tar").code == 0
    for ending in ("csv", "json", "sqlite3"):
        assert site.typed(f"--as AU log --to whole.{ending}").code == 0
        assert site.typed(f"log --to reduced.{ending}").code == 0
    told = {"salt of entry 0", "investigators' half of entry 0", "investigators' half of entry 1"}
    assert hunt.within(site.typed("--json --as AU log").out) == told
    for name in os.listdir(site.desk):  # noqa: PTH208
        path = site.desk / name
        expected = told if name.startswith(("copy", "whole")) else set()
        assert path.is_dir() or hunt.within(path.read_bytes()) == expected, name
        if path.is_file() and name.startswith(("copy", "whole", "reduced")):
            path.unlink()


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, RuntimeError], ids=["done", "interrupted", "a fault"])
def test_the_copy_that_verify_reads_is_its_own_and_goes_away(
    end: type[BaseException] | None, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.allocate("P-001")
    temporary, seen = tmp_path / "temporary", []
    temporary.mkdir()
    opened = sqlite_evidence._open_copy

    def watched(copy: Path) -> Any:
        seen.append((copy.parent.parent == temporary, stat.S_IMODE(copy.parent.stat().st_mode)))
        if end is not None:
            raise end
        return opened(copy)

    monkeypatch.setattr(sqlite_evidence, "_open_copy", watched)
    with _temporary(temporary), contextlib.suppress(*([end] if end else [])), evidence.read_evidence(trial.place) as e:
        assert verify(e).verdict == "intact-local"
    assert seen == [(True, 0o700)]
    assert list(temporary.iterdir()) == []


def test_key_files_are_their_owners(trial: Trial) -> None:
    trial.service.change_passphrase(trial.actor("PH"), lambda: "another")
    keys = trial.place.keys
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in keys.iterdir() if p.suffix in (".json", ".key")} == {
        **{f"{person}.json": 0o600 for person in ("SP", *support.PEOPLE)},
        "log.key": 0o600,
    }


# ---- both arms alike ------------------------------------------------------------------------------------------------


def _trial_of(trials: TrialFactory, arm: int) -> Trial:
    """A trial whose first entry has this arm."""
    study, how = support.study(), support.design().for_study(support.study())
    for number in range(64):
        drawn: list[bytes] = []
        entropy = _draws(f"arm {number}", drawn)
        for size in (32, 32, 16, 32):
            entropy(size)
        if generate_schedule(study, how, drawn[3], drawn[:2]).strata[0].arms[0] == arm:
            return _known_list(trials, f"arm {number}")[0]
    raise AssertionError("64 lists begin with the other arm")


def _alike(text: str) -> str:
    """Without what differs between two homes anyway: digests and the home's own name."""
    return re.sub(r"home-\d+", "HOME", re.sub("[0-9a-f]{16,}", "HEX", text))


def _refusals(trial: Trial) -> list[str]:
    """Every refusal and error that can be met while an entry waits, as code, text, hint and details."""
    service, said = trial.service, []
    acts: dict[str, Callable[[], Any]] = {
        "not confirmed": lambda: trial.reveal("P-002"),
        "retyped wrongly": lambda: service.reveal(trial.actor("PH"), "P-001", "P-010"),
        "not permitted": lambda: service.reveal(trial.actor("IN"), "P-001", "P-001"),
        "not allocated": lambda: service.unblind(trial.actor("PH"), "P-001", "emergency"),
        "no correction": lambda: service.correct(trial.actor("PH"), "P-001", "treatment", "GCV", "shelf"),
        "another form": lambda: service.confirm(trial.actor("PH"), "P-001", eligible_form("P-001"), {}),
    }
    for name, act in acts.items():
        with pytest.raises(AllocatorError) as refused:
            act()
        said.append(f"{name}: {refused.value.exit_code} {json.dumps(refused.value.as_json())}")
    service.change_state(trial.actor("SP"), "paused", "a question")
    with pytest.raises(AllocatorError) as refused:
        trial.reveal("P-001")
    said.append(json.dumps(refused.value.as_json()))
    service.change_state(trial.actor("SP"), "resumed", "answered")
    return said


@pytest.mark.requirement("C05")
def test_nothing_but_the_arm_itself_tells_the_arms_apart(trials: TrialFactory) -> None:
    """Refusals, records, their lengths, the files and their sizes: for both arms the same."""
    stories = []
    for arm in (0, 1):
        trial = _trial_of(trials, arm)
        trial.confirm("P-001")
        refusals = [_alike(text) for text in _refusals(trial)]
        before = [(record.kind, len(record.body)) for record in trial.records]
        allocated = trial.reveal("P-001")
        assert allocated.record.fields["arm"] == arm
        sizes = {p.relative_to(trial.home): p.stat().st_size for p in sorted(trial.home.rglob("*")) if p.is_file()}
        stories.append((refusals, before, len(allocated.record.body), trial.kinds, sizes, trial.notices))
    assert stories[0] == stories[1]


@pytest.mark.requirement("C05")
@pytest.mark.parametrize(
    ("damage", "code"),
    [("entry", "entry-does-not-open"), ("half", "entry-does-not-open"), ("sealed file", "sealed-file")],
)
def test_an_entry_that_does_not_open_says_the_same_for_both_arms(damage: str, code: str, trials: TrialFactory) -> None:
    said = []
    for arm in (0, 1):
        trial = _trial_of(trials, arm)
        trial.confirm("P-001")
        if damage == "sealed file":
            trial.place.sealed_file.write_bytes(b"{}")
        else:
            _damaged_opening(trial, damage)
        with pytest.raises(EvidenceError) as broken:
            trial.again().reveal(trial.actor("PH"), "P-001", "P-001")
        assert broken.value.code == code
        said.append(_alike(json.dumps(broken.value.as_json())))
        assert trial.kinds[-1] == "refused"
    assert said[0] == said[1]


def _damaged_opening(trial: Trial, damage: str) -> None:
    """Make the bound entry fail to open in memory: what an exchanged entry or half does once other guards are gone."""
    from allocator import sealing

    service = trial.again()
    sealed = service._sealed()
    assert sealed is not None
    stratum = sealed.strata[0]
    if damage == "entry":
        swapped = (stratum.entries[1], stratum.entries[0], *stratum.entries[2:])
        object.__setattr__(stratum, "entries", swapped)
    else:
        service._granted_key = lambda *_: sealing.half_key(bytes(32), bytes(16), "{}", 0)  # type: ignore[method-assign]
    trial.again = lambda: service  # type: ignore[method-assign]


# ---- what a terminal would obey, wherever it was planted -------------------------------------------------------------

OBEYED = st.characters(categories=("Cc", "Cf", "Zl", "Zp", "Co"))
HOSTILE = st.lists(
    st.one_of(OBEYED, st.sampled_from("aP0-\u2010Р٠０\x1b\x9b\x7f\u202e\u2066\u200b")), min_size=1, max_size=12
).map("".join)
LOOKS = ["status", "balance", "log", "verify", "person list", "show P-001", "--as PH show P-001", "--as AU log",
         "--json log", "check study.toml --registry registry.json", "--as PH reveal P-002 --retype P-002",
         "--json --as AU log", "--as PH reveal P-001 --retype P-001"]  # fmt: skip
FIELDS = {
    *("kind", "format", "participant", "person", "role", "meaning", "mode", "program", "cause", "action", "time"),
    *("added", "roles", "finding", "grantee", "what", "number", "stratum", "failure", "findings", "deactivated"),
}


def _in_body(seq: int, field: str, text: str) -> Callable[[sqlite3.Connection], None]:
    def plant(log: sqlite3.Connection) -> None:
        (body,) = log.execute("SELECT body FROM record WHERE seq = ?", (seq,)).fetchone()
        changed = json.dumps(
            {**json.loads(body), field: text}, ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )
        log.execute("UPDATE record SET body = ? WHERE seq = ?", (changed, seq))

    return plant


@settings(max_examples=60)
@given(data=st.data(), text=HOSTILE)
def test_nothing_planted_in_a_log_moves_a_terminal(data: st.DataObject, text: str, used_once: Site) -> None:
    """Any field of any record, any column of both tables: every command prints none of it raw."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(home=Path(shutil.copytree(used_once.home, Path(folder, "home"))), desk=used_once.desk, codes={})
        with contextlib.closing(sqlite3.connect(site.home / "schedules" / STUDY_ID / "log.sqlite3")) as log:
            for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                log.execute(f"DROP TRIGGER {name}")
            seq = data.draw(st.integers(0, log.execute("SELECT max(seq) FROM record").fetchone()[0]), label="seq")
            where = data.draw(st.sampled_from(["body", "record", "detail"]), label="where")
            if where == "body":
                _in_body(seq, data.draw(st.sampled_from(sorted(FIELDS)), label="field"), text)(log)
            else:
                columns = ("kind", "participant", "stratum") if where == "record" else ("field", "value")
                column = data.draw(st.sampled_from(columns), label="column")
                with contextlib.suppress(sqlite3.IntegrityError):
                    log.execute(f"UPDATE {where} SET {column} = ? WHERE seq = ?", (text, seq))
            log.commit()
        for line in LOOKS:
            _nothing_obeyed(site.typed(line), line)


@pytest.fixture(scope="module")
def used_once(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_at(tmp_path_factory.mktemp("used"), "used")


def _nothing_obeyed(ran: Ran, line: str) -> None:
    assert_nothing_obeyed(ran)
    assert "Traceback" not in ran.said, line
    assert ran.code in CODES, line
    if "--json" in line:
        assert ran.out.replace("\n", "").isascii() and ran.out.replace("\n", "").isprintable(), line


@settings(max_examples=25)
@given(data=st.data(), text=HOSTILE)
def test_nothing_planted_in_a_file_moves_a_terminal(data: st.DataObject, text: str, used_once: Site) -> None:
    """The home's files and those that people give: a title, an arm's label, a quote, an answer, a file's name."""
    files = [
        "study.toml",
        "registry.json",
        "sealed.json",
        "../../keys/NCT04225780/PH.json",
        "../../keys/NCT04225780/head",
    ]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(shutil.copytree(used_once.home, Path(folder, "home")))
        desk = Path(shutil.copytree(used_once.desk, Path(folder, "desk")))
        site = Site(home=home, desk=desk, codes={})
        path = home / "schedules" / STUDY_ID / data.draw(st.sampled_from(files), label="file")
        spoilt = _spoilt(data, path.read_text(), text)
        path.write_text(spoilt, encoding="utf-8", errors="surrogatepass")
        for line in LOOKS:
            _nothing_obeyed(site.typed(line), line)
        name = text.replace("/", "").replace("\0", "").encode("utf-8", "ignore")[:200].decode("utf-8", "ignore") or "x"
        for given_file in ("study.toml", "design.toml", "registry.json", site.form("P-003")):
            spoilt = _spoilt(data, desk.joinpath(given_file).read_text(), text)
            desk.joinpath(name).write_text(spoilt, encoding="utf-8")
            quoted = "'" + name.replace("'", "'\"'\"'") + "'"
            for line in ("check {}", "check study.toml --design {}", "check study.toml --registry {}",
                         "--as ST generate {}", "--as IN confirm P-004 --answers {}", "verify {}"):  # fmt: skip
                _nothing_obeyed(site.typed(line.format(f"./{quoted}")), line)


def _spoilt(data: st.DataObject, content: str, text: str) -> str:
    """The text put inside a quoted value, raw or escaped as JSON and TOML do."""
    places = [match.end() for match in re.finditer(r'(?:[=:] ?|\[)"', content)] or [0]
    planted = text if data.draw(st.booleans(), label="raw") else json.dumps(text)[1:-1]
    place = data.draw(st.sampled_from(places), label="place")
    return content[:place] + planted + content[place:]


@pytest.mark.parametrize("option", ["--home", "--study", "--as", "--passphrase-file"])
@pytest.mark.parametrize("line", ["status", "--as PH reveal P-002 --retype P-002", "'--non\x1b[2Jsense'"])
def test_what_is_typed_is_shown_without_what_a_terminal_obeys(option: str, line: str, used_once: Site) -> None:
    typed = f"{option} 'x\x1b[2J\u202e' {line}"
    _nothing_obeyed(used_once.typed(typed, ALLOCATOR_PASSPHRASE="wrong"), line)


def test_the_last_way_out_holds_back_what_was_forgotten_before(capsys: pytest.CaptureFixture[str]) -> None:
    for err in (False, True):
        assert written("a\x1b[2J\u202e\nb\x7f", err=err) == ""
    assert tuple(capsys.readouterr()) == ("a\\u{1b}[2J\\u{202e}\nb\\u{7f}\n",) * 2
    assert json_text({"a": "\x7f\x1b\u202e"}) == '{"a": "\\u007f\\u001b\\u202e"}'


def test_a_prompt_obeys_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("allocator.cli.call.on_terminal", lambda: True)
    monkeypatch.setattr(click, "prompt", lambda text, **_: asked.append(text) or "answer")
    assert ask_passphrase("New passphrase of x\x1b[2J") == "answer"
    assert asked == ["New passphrase of x\\u{1b}[2J"]


# ---- the process ----------------------------------------------------------------------------------------------------

BOUND = "-sys_ptrace,-perfmon,-sys_admin"  # the capabilities by which root looks into any process


def _same_account() -> tuple[str, ...]:
    """How to run a command as somebody who may look into processes of this account only."""
    if os.geteuid() != 0:
        return ()
    tool = shutil.which("setpriv")
    if tool is None:
        pytest.skip("setpriv is needed to test memory as root")
    return tool, f"--bounding-set={BOUND}", f"--inh-caps={BOUND}"


def _cores_allowed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.fixture
def following(used_once: Site) -> Iterator[subprocess.Popen[str]]:
    """A process of the program that has a passphrase and waits for more records, in a folder of its own."""
    environment = {**_bare_environment(), **used_once._variables()}
    process = subprocess.Popen(
        [*_same_account(), str(PROGRAM), "--as", "AU", "log", "--follow"], cwd=used_once.desk, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=_cores_allowed,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline().startswith("    0  ")
    yield process
    process.kill()
    process.communicate(timeout=60)


def _look(process: subprocess.Popen[str], file: str) -> int:
    """Whether another process of the same account can open a file of /proc; its exit code."""
    code = f"open('/proc/{process.pid}/{file}', 'rb').read({0 if file == 'mem' else 100_000})"
    return subprocess.run([*_same_account(), sys.executable, "-c", code], capture_output=True, check=False).returncode


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_DUMPABLE is Linux's")
def test_others_of_the_account_cannot_look_into_the_process(following: subprocess.Popen[str]) -> None:
    plain = subprocess.Popen([*_same_account(), sys.executable, "-c", "import time; time.sleep(60)"], text=True)
    time.sleep(0.2)
    try:
        assert _look(plain, "environ") == 0  # what this test is about
        assert (_look(following, "environ"), _look(following, "mem")) == (1, 1)
    finally:
        plain.kill()
        plain.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="core dumps are told of by wait(2) as on Linux")
def test_a_process_that_crashes_leaves_no_core(following: subprocess.Popen[str], used_once: Site) -> None:
    os.kill(following.pid, signal.SIGABRT)
    _, status = os.waitpid(following.pid, 0)
    following.returncode = -signal.SIGABRT
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    assert [path.name for path in used_once.desk.iterdir() if path.name.startswith("core")] == []


STARTS = """
import os, sys
names = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn")
sys.addaudithook(lambda event, _: event in names and (print("STARTED", event, flush=True), os._exit(77)))
from allocator.cli import main
main()
"""


@pytest.mark.parametrize(
    "line", ["--as PH show P-001", "--as PH reveal P-001 --retype P-001", "verify --jobs 2", "--as AU log --to out.csv"]
)
def test_no_other_program_is_started(line: str, used_once: Site) -> None:
    """So nobody inherits ALLOCATOR_PASSPHRASE."""
    environment = {**_bare_environment(), **used_once._variables()}
    done = subprocess.run(
        [sys.executable, "-c", STARTS, *line.split()], cwd=used_once.desk, env=environment, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    used_once.desk.joinpath("out.csv").unlink(missing_ok=True)
    assert (done.returncode, "STARTED" in done.stdout) == (0, False), done.stdout + done.stderr


@pytest.mark.requirement("S04")
def test_no_option_takes_a_passphrase(used_once: Site) -> None:
    """What is typed stands in the shell's history and in the list of processes: files, environment or a prompt only."""
    options = [
        (path, option)
        for path in ("", *OPTIONS)
        for option in (_command(path) if path else cli).params
        if isinstance(option, click.Option)
        and {"passphrase", "password", "secret"} & set(re.split("[-_]", option.opts[0]))
    ]
    assert {(path, option.opts[0], option.metavar) for path, option in options} == {
        ("", "--passphrase-file", "FILE"),
        ("person passphrase", "--new-passphrase-file", "FILE"),
    }
    assert used_once.typed(f"--passphrase {LONG} status").code == 2

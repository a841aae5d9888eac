"""Hostile and broken input: one clear message, the right exit code, nothing lost and nothing shown.

Whatever is typed, filed, damaged or taken away: no traceback reaches a user, no arm is shown that was not asked for
rightly, and the log stands as it stood.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import support
from allocator.cli import run
from support import STUDY_ID
from test_cli_contract import OPTIONS, PROGRAM, SECONDS, Ran, Site, _bare_environment, site_at

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, bidirectional marks, surrogates, line separators
CODES = {0, 1, 2, 3, 4, 5, 130}
SWITCHED_OFF = "-dac_override,-dac_read_search"  # what lets root read a file of mode 000


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path, "used")


def quoted(word: str) -> str:
    return shlex.quote(word)


def assert_clear(ran: Ran, code: int) -> None:
    """One message, the right code, and nothing shown."""
    assert ran.code == code, ran.said
    assert ran.out == ""
    assert sum(line.startswith(("Error: ", "Refused: ")) for line in ran.err.splitlines()) == 1
    assert "Traceback" not in ran.said
    assert "a fault in the program" not in ran.said
    assert_nothing_shown(ran)


def assert_nothing_shown(ran: Ran) -> None:
    """No arm, neither code nor label; the study's own title is public."""
    said = ran.said.replace("Low-dose IL-2 and ganciclovir in cytomegalovirus infection", "")
    assert "GCV" not in said
    assert "anciclovir" not in said
    assert_nothing_obeyed(ran)


def assert_nothing_obeyed(ran: Ran) -> None:
    """No character that a terminal obeys or hides, but the newline."""
    assert {unicodedata.category(c) for c in ran.said if c != "\n"}.isdisjoint(HIDDEN), ran.said


# ---- what is typed --------------------------------------------------------------------------------------------------

PARTICIPANTS = {
    "too short": "P-1",
    "full-width digits": "P-００１",
    "Arabic digits": "P-٠٠١",
    "Cyrillic P": "Р-001",
    "en dash": "P–001",
    "lower case": "p-001",
    "trailing newline": "P-001\n",
    "leading blank": " P-001",
    "escape sequence": "P-001\x1b[2J",
    "right-to-left override": "P-\u202e100",
    "zero-width joiner": "P-0\u200d01",
    "surrogate": "P-\udce9",
    "null, percent-encoded": "P-001%00",
    "null picture": "P-001\u2400",
    "path": "../../etc/passwd",
    "path from a participant": "P-001/../P-002",
    "a name": "Zhang Wei",
    "an option": "-rf",
    "SQL": "P-001' OR '1'='1",
    "a pattern": "P-[0-9]{3}",
    "ten kilobytes": "P-" + "9" * 10_000,
    "empty": "",
}


@pytest.mark.requirement("L09")
@pytest.mark.parametrize("participant", PARTICIPANTS.values(), ids=list(PARTICIPANTS))
def test_what_is_no_participant_is_refused_everywhere(participant: str, site: Site) -> None:
    before, p = site.kinds(), quoted(participant)
    form = site.form("P-003")
    for line in (
        f"--as PH reveal --retype {p} -- {p}",
        f"--as IN confirm --answers {form} -- {p}",
        f"--as PH unblind --reason emergency -- {p}",
        f"--as IN withdraw --reason mistake -- {p}",
        f"--as PH correct --what treatment --value GCV --reason shelf -- {p}",
        f"--as PH correct --what participant --value={p} --reason typing -- P-001",
        f"show -- {p}",
    ):
        ran = site.typed(line)
        assert_clear(ran, 2)
        assert len(ran.err) < 1_000
    assert site.kinds() == before


@pytest.mark.parametrize("person", ["../PH", "PH\n", "ＰＨ", "P" * 10_000, "\x1b[2J", "PH.json", "log.key", "ph"])
def test_who_is_nobody_is_4_and_is_not_shown(person: str, site: Site) -> None:
    assert_clear(site.typed(f"--as={quoted(person)} reveal P-002 --retype P-002"), 4)
    assert site.kinds()[-1] == "attempt-failed"


@pytest.mark.parametrize("person", ["../PH", "PH\n", "ＰＨ", "P" * 41, "\x1b[2J", "", ".", "-x", "a/b", "Ünal"])
def test_an_id_that_would_be_a_path_is_no_id(person: str, site: Site) -> None:
    before = site.kinds()
    assert_clear(site.typed(f"--as SP person add --name Somebody --role pharmacist -- {quoted(person)}"), 2)
    assert site.kinds() == before
    assert sorted(site.home.joinpath("keys", STUDY_ID).glob("**/*.json")) != []


@pytest.mark.parametrize(
    "study", ["../..", ".", "..", "NCT04225780/", "NCT04225780\n", "/etc", "x" * 10_000, "\x1b[2J"]
)
def test_a_study_that_is_not_there(study: str, site: Site) -> None:
    assert_clear(site.typed(f"--study {quoted(study)} status"), 2)
    ran = site.typed(f"--study {quoted(study)} verify")
    assert_clear(ran, 2)


@pytest.mark.parametrize("home", ["nowhere", "study.toml", "x" * 5_000, ".", "/dev/null", "\x1b[2J", "a\nb"])
def test_a_home_that_is_none(home: str, site: Site) -> None:
    for command in ("status", "verify", "--as PH reveal P-002 --retype P-002"):
        assert_clear(site.typed(f"--home {quoted(home)} {command}"), 2)
    assert_clear(site.typed(f"verify {quoted(home)}"), 2)


@pytest.mark.parametrize(
    ("text", "code"), [("", 2), (" ", 2), ("x" * 501, 2), ("a\u202eb", 2), ("a\x1b[2Jb", 2), ("a\nb", 2), ("药错了", 0)]
)
def test_free_text_is_printable(text: str, code: int, site: Site) -> None:
    before = site.kinds()
    ran = site.typed(f"--as SP pause --reason {quoted(text)}")
    assert ran.code == code
    if code:
        assert_clear(ran, code)
        assert site.kinds() == before


@pytest.mark.parametrize("seed", ["42", "zz" * 32, "00" * 31, "", "００" * 32])
def test_a_typed_seed_has_its_length(seed: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "enrolled")
    assert_clear(site.typed(f"--as ST generate design.toml --seed {quoted(seed)} --seed {quoted(seed)}"), 2)
    assert "generated" not in site.kinds()


KNOWN_WORDS = [
    *("P-001", "P-002", "P-003", "PH", "IN", "SP", "--json", "--as", "--retype", "--reason", "--home", "--", "-", "-h"),
    *("study.toml", "design.toml", "registry.json", ".", "0001-01-01", "9999-12-31", "99999999999999999999", "nan"),
    *sorted(PARTICIPANTS.values()),
    *sorted({option for options in OPTIONS.values() for option in options}),
]
WORDS = st.one_of(st.text(st.characters(exclude_characters="\0"), max_size=30), st.sampled_from(KNOWN_WORDS))
FUZZED = [path for path in OPTIONS if path != "demo"]  # the demo takes seconds; it has its own tests


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_at(tmp_path_factory.mktemp("fuzz"), "used")


@settings(max_examples=150)
@given(
    before=st.lists(WORDS, max_size=3),
    person=st.sampled_from(["PH", "IN", "SP", "AU", "XX"]),
    path=st.sampled_from(FUZZED),
    after=st.lists(WORDS, max_size=6),
)
def test_any_words_end_with_a_known_code(
    before: list[str], person: str, path: str, after: list[str], fuzzed: Site
) -> None:
    arguments = [*before, "--as", person, *path.split(), *after]
    if {"--follow", "--to", "demo"} & set(arguments):
        return
    ran = fuzzed.typed(shlex.join(arguments), ALLOCATOR_PASSPHRASE="wrong")
    assert ran.code in CODES
    assert "Traceback" not in ran.said
    assert "a fault in the program" not in ran.said
    assert_nothing_obeyed(ran)
    if ran.code == 0 and path in ("reveal", "unblind"):
        assert "--help" in arguments or "-h" in arguments


def test_run_takes_no_words_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) in CODES
    assert "Pharmacist" in "".join(capsys.readouterr())


# ---- what is filed --------------------------------------------------------------------------------------------------

STUDY = support.STUDY_BYTES
FILES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "UTF-16": STUDY.decode().encode("utf-16"),
    "byte-order mark": b"\xef\xbb\xbf" + STUDY,
    "Latin-1": "title = 'é'".encode("latin-1"),
    "two megabytes": b"#" * (2 << 20),
    "deep list": b"a=" + b"[" * 60_000,
    "deep JSON": b"[" * 60_000,
    "deeper JSON": b'{"answers":' * 10_000,
    "key twice": b"a = 1\na = 2\n",
    "JSON key twice": b'{"consent": "a", "consent": "b"}',
    "not a number": b"enrollment = nan\n",
    "JSON not a number": b'{"consent": NaN}',
    "large integer": b"a = " + b"9" * 10_000,
    "large JSON integer": b'{"answers": ' + b"9" * 10_000 + b"}",
    "wrong types": b'format = 3\nstudy = "x"\narm = 1\ncriterion = {}\n',
    "wrong JSON types": b'{"consent": 1, "answers": [{"value": {}}]}',
    "tables of numbers": b'format = "allocator-study/1"\nstudy = [1]\narm = [3]\ncriterion = [[1]]\n',
    "escapes": b'"a\\u001b[2J" = 1\n',
    "JSON escapes": b'{"a\\u001b[2J\\u202e": 1}',
    "half a surrogate": b'{"consent": "\\ud800"}',
    "a list": b"[]",
    "text": b"hello\n",
    "null": b"null",
}
READERS = {
    "study": "check {}",
    "study to open": "--home fresh init {} --person SP --name Li --mode test",
    "design": "check study.toml --design {}",
    "design to draw": "--as ST generate {}",
    "list to seal": "--as ST import {} --origin elsewhere",
    "registry": "check study.toml --registry {}",
    "answers": "--as IN confirm P-003 --answers {}",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_a_file_that_is_none(reader: str, site: Site) -> None:
    before = site.kinds()
    for name, data in FILES.items():
        file = site.desk / "given"
        file.write_bytes(data)
        ran = site.typed(reader.format("given"))
        assert ran.code == 2, (name, ran.said[:500])
        assert_clear(ran, 2)
        assert ran.err.count("\n") < 40, name
    for path in (".", "gone", "gone/deeper", "x" * 5_000, "study.toml/below"):
        assert_clear(site.typed(reader.format(path)), 2)
    assert site.kinds() == before
    assert not site.desk.joinpath("fresh").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("enrollment = 10", "enrolment = 10", "did you mean 'enrollment'?"),
        ("masking =", "maskin =", "did you mean 'masking'?"),
        ("enrollment = 10", 'enrollment = "10"', "study.enrollment"),
        ("enrollment = 10", "enrollment = nan", "study.enrollment"),
        ("enrollment = 10", "enrollment = -1", "study.enrollment"),
        ('masking = "none"', 'masking = "double"', "study.masking"),
        ('time_zone = "Asia/Shanghai"', 'time_zone = "../../etc/passwd"', "study.time_zone"),
        ('participant = "P-[0-9]{3,6}"', 'participant = "("', "study.participant"),
        ('id = "NCT04225780"', 'id = "../NCT"', "study.id"),
    ],
)
def test_a_wrong_line_of_a_study_is_named(old: str, new: str, named: str, site: Site) -> None:
    text = STUDY.decode()
    assert old in text
    site.desk.joinpath("given.toml").write_text(text.replace(old, new, 1))
    line = text[: text.index(old)].count("\n") + 1
    ran = site.typed("check given.toml")
    assert_clear(ran, 2)
    assert named in ran.err
    assert f"given.toml:{line}:" in ran.err or "is missing" in ran.err


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("block_sizes", "block_size", "did you mean 'block_sizes'?"),
        ("length = 20", "length = 20.5", "length"),
        ("length = 20", "length = 0", "length"),
        ("length = 20", "length = 99999999999", "length"),
        ("block_sizes = [4, 6]", "block_sizes = [3]", "block_sizes"),
        ("block_sizes = [4, 6]", "block_sizes = []", "block_sizes"),
        ('"GCV" = 1', '"GVC" = 1', "ratio"),
        ('"GCV" = 1', '"GCV" = 0', "ratio"),
        ('"permuted-block"', '"coin"', "method"),
    ],
)
def test_a_wrong_line_of_a_design_is_named(old: str, new: str, named: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "enrolled")
    text = site.desk.joinpath("design.toml").read_text()
    assert old in text
    site.desk.joinpath("given.toml").write_text(text.replace(old, new, 1))
    ran = site.typed("--as ST generate given.toml")
    assert ran.code == 2, ran.said
    assert "Traceback" not in ran.said
    assert named in ran.err
    assert "generated" not in site.kinds()


def test_an_answers_file_with_an_unknown_field_names_the_right_one(site: Site) -> None:
    form = json.loads(site.desk.joinpath(site.form("P-003")).read_text())
    form["answers"]["I2b"]["unitt"] = "{copies}/mL"
    site.desk.joinpath("given.json").write_text(json.dumps(form))
    ran = site.typed("--as IN confirm P-003 --answers given.json")
    assert_clear(ran, 2)
    assert "did you mean 'unit'?" in ran.err


# ---- what is damaged ------------------------------------------------------------------------------------------------

GARBAGE = bytes(range(256)) * 40
SCHEDULES, KEYS = f"schedules/{STUDY_ID}", f"keys/{STUDY_ID}"


def _garbage(path: Path) -> None:
    path.write_bytes(GARBAGE)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


DAMAGES = {f.__name__.strip("_"): f for f in (_garbage, _empty, _half, _gone, _folder, _linked)}
ACTS = ("--as PH reveal P-002 --retype P-002", "--as IN confirm P-003 --answers answers/P-003.json")
# file: exit codes of an act upon it, damaged in any way
DAMAGED = {
    f"{SCHEDULES}/log.sqlite3": {2, 3, 5},
    f"{SCHEDULES}/study.toml": {2, 3},
    f"{SCHEDULES}/sealed.json": {2, 3},
    f"{KEYS}/PH.json": {4},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_file_stops_the_act(file: str, damage: str, site: Site) -> None:
    if (damage, file) == ("linked", f"{KEYS}/PH.json"):
        return  # the keys inside are the person's own, or open nothing
    kept = site.home / SCHEDULES / "log.sqlite3"
    before = kept.read_bytes()
    DAMAGES[damage](site.home / file)
    ran = site.typed(ACTS[0])
    assert ran.code in DAMAGED[file], ran.said
    assert_nothing_shown(ran)
    assert "Traceback" not in ran.said
    assert "a fault in the program" not in ran.said
    if not file.endswith("log.sqlite3") and ran.code == 2:
        assert kept.read_bytes() == before
    verified = site.typed("--json verify")
    assert verified.code == (0 if file.startswith(KEYS) else 3)
    assert_nothing_shown(verified)


@pytest.mark.requirement("L03")
@pytest.mark.parametrize("damage", ["garbage", "empty", "half", "folder"])
def test_a_damaged_head_stops_the_act_and_is_found(damage: str, site: Site) -> None:
    DAMAGES[damage](site.home / KEYS / "head")
    before = site.kinds()
    for act in ACTS:
        site.form("P-003")
        ran = site.typed(act)
        assert ran.code in (3, 5), ran.said
        assert_nothing_shown(ran)
    assert site.kinds() == before
    assert site.typed("verify").code == 3


@pytest.mark.requirement("L03")
def test_yesterdays_log_is_noticed(site: Site) -> None:
    log = site.home / SCHEDULES / "log.sqlite3"
    yesterday = log.read_bytes()
    assert site.typed(ACTS[0]).code == 0
    log.write_bytes(yesterday)
    ran = site.typed(ACTS[0])
    assert ran.code == 3
    assert_nothing_shown(ran)
    assert site.verdict() == "broken"


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("line", ["--as PH show P-001", "--as PH reveal P-001 --retype P-001"])
def test_an_arm_changed_on_the_disk_is_not_shown(line: str, site: Site) -> None:
    log = site.home / SCHEDULES / "log.sqlite3"
    data = log.read_bytes()
    (arm,) = (arm for arm in (0, 1) if b'"arm":%d' % arm in data)
    log.write_bytes(data.replace(b'"arm":%d' % arm, b'"arm":%d' % (1 - arm)))
    assert site.verdict() == "broken"
    assert site.typed(line).code == 3


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_planted_journal_is_not_replayed(suffix: str, site: Site) -> None:
    planted = site.home / SCHEDULES / f"log.sqlite3{suffix}"
    planted.write_bytes(GARBAGE)
    for line in ("status", ACTS[0], "show P-001"):
        assert_clear(site.typed(line), 3)
    assert site.verdict() == "broken"
    assert planted.read_bytes() == GARBAGE
    planted.unlink()
    assert site.verdict() == "intact-local"


def test_a_study_file_changed_after_the_opening(site: Site) -> None:
    file = site.home / SCHEDULES / "study.toml"
    file.write_bytes(file.read_bytes().replace(b"enrollment = 10", b"enrollment = 99"))
    for line in ("status", ACTS[0], "show P-001"):
        assert_clear(site.typed(line), 3)
    assert site.verdict() == "broken"


@pytest.mark.parametrize("field", ["memory_kib", "iterations", "lanes"])
@pytest.mark.parametrize("value", [0, -1, 1 << 40, "64", None, []])
def test_a_key_file_with_impossible_parameters(field: str, value: object, site: Site) -> None:
    file = site.home / KEYS / "PH.json"
    key = json.loads(file.read_bytes())
    key["argon2id"][field] = value
    file.write_text(json.dumps(key))
    ran = site.typed(ACTS[0])
    assert ran.code == 4
    assert_nothing_shown(ran)


# ---- what is somebody else's ----------------------------------------------------------------------------------------


def test_another_persons_key_file(site: Site) -> None:
    shutil.copy(site.home / KEYS / "IN.json", site.home / KEYS / "PH.json")
    ran = site.typed(ACTS[0])
    assert ran.code == 4
    assert_nothing_shown(ran)


@pytest.fixture
def other(site: Site) -> Site:
    """The same study, opened by others in another home."""
    (site.desk / "other").mkdir()
    home = site.desk / "other" / "home"
    support.open_home(home, clock=support.Clock(support.datetime.now(support.UTC)))
    return Site(home=home, desk=site.desk, codes={})


def test_the_keys_of_another_home(site: Site, other: Site) -> None:
    shutil.copy(other.home / KEYS / "SP.json", site.home / KEYS / "SP.json")
    ran = site.typed("--as SP pause --reason question")
    assert ran.code == 4
    assert "paused" not in site.kinds()


def test_the_log_of_another_home(site: Site, other: Site) -> None:
    shutil.copy(other.home / SCHEDULES / "log.sqlite3", site.home / SCHEDULES / "log.sqlite3")
    ran = site.typed(ACTS[0])
    assert ran.code in (3, 4)
    assert_nothing_shown(ran)
    assert site.typed("verify").code == 3


def test_the_sealed_list_of_another_home(site: Site, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = site_at(tmp_path / "second", "enrolled")
    assert second.typed("--as ST generate design.toml").code == 0
    shutil.copy(second.home / SCHEDULES / "sealed.json", site.home / SCHEDULES / "sealed.json")
    ran = site.typed(ACTS[0])
    assert ran.code == 3
    assert_nothing_shown(ran)


def test_a_registry_record_of_another_study(site: Site) -> None:
    record = json.loads(support.REGISTRY_BYTES)
    record["protocolSection"]["identificationModule"]["nctId"] = "NCT00000000"
    site.desk.joinpath("other.json").write_text(json.dumps(record))
    checked = site.typed("--json check study.toml --registry other.json")
    assert checked.code in (1, 2)
    assert "NCT00000000" in checked.said


@pytest.mark.parametrize("part", ["", "schedules", "keys", SCHEDULES, KEYS])
def test_a_linked_home_is_refused(part: str, site: Site) -> None:
    folder = site.home / part if part else site.home
    moved = site.desk / "moved"
    folder.rename(moved)
    folder.symlink_to(moved)
    for line in ("status", ACTS[0]):
        assert_clear(site.typed(line), 2)


@pytest.mark.requirement("G03")
def test_no_given_seed_in_production(tmp_path: Path) -> None:
    site, words = site_at(tmp_path, "none"), "several words"
    seeds = " ".join(f"--seed {digit * 64}" for digit in "12")
    assert site.typed("init study.toml --person SP --name Li", ALLOCATOR_PASSPHRASE=words).code == 0
    for person, role in (("ST", "statistician"), ("CU", "custodian")):
        line = f"--json --as SP person add {person} --name {person} --role {role}"
        code = site.typed(line, ALLOCATOR_PASSPHRASE=words).result["code"]
        assert site.typed(f"--as {person} person enrol --code {code}", ALLOCATOR_PASSPHRASE=words).code == 0
    assert_clear(site.typed(f"--as ST generate design.toml {seeds}", ALLOCATOR_PASSPHRASE=words), 1)
    assert "generated" not in site.kinds()


@pytest.mark.parametrize("marker", ["folder", "file"])
def test_no_production_home_inside_git(marker: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "none")
    git = tmp_path / ".git"  # a file in a work tree of its own
    git.mkdir() if marker == "folder" else git.write_text("gitdir: elsewhere\n")
    line = "init study.toml --person SP --name Li"
    assert_clear(site.typed(line, ALLOCATOR_PASSPHRASE="several words"), 1)
    assert not site.home.exists()
    assert site.typed(f"{line} --mode test").code == 0


def test_a_short_passphrase_opens_no_production_study(tmp_path: Path) -> None:
    site = site_at(tmp_path, "none")
    assert_clear(site.typed("init study.toml --person SP --name Li", ALLOCATOR_PASSPHRASE="short"), 4)
    assert not site.home.joinpath(SCHEDULES, "log.sqlite3").exists()


# ---- what may not be read or written --------------------------------------------------------------------------------


@pytest.fixture
def ordinary() -> tuple[str, ...]:
    """How to run a command as one whom permissions bind, also where the tests run as root."""
    if os.geteuid() != 0:
        return ()
    tool = shutil.which("setpriv")
    if tool is None:
        pytest.skip("setpriv is needed to test permissions as root")
    within = (tool, f"--bounding-set={SWITCHED_OFF}", f"--inh-caps={SWITCHED_OFF}")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("setpriv may not drop capabilities here")
    return within


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_a_file_that_may_not_be_read(reader: str, site: Site, ordinary: tuple[str, ...]) -> None:
    site.desk.joinpath("given").write_bytes(STUDY)
    site.desk.joinpath("given").chmod(0)
    assert_clear(site.spawned(reader.format("given"), within=ordinary), 2)


@pytest.mark.parametrize(
    ("path", "mode", "codes"),
    [
        (f"{SCHEDULES}/log.sqlite3", 0, {3, 5}),
        (f"{SCHEDULES}/log.sqlite3", 0o444, {5}),
        (f"{SCHEDULES}/study.toml", 0, {3, 5}),
        (f"{SCHEDULES}/sealed.json", 0, {3, 5}),
        (SCHEDULES, 0, {2, 5}),
        (SCHEDULES, 0o555, {5}),
        (f"{KEYS}/PH.json", 0, {4}),
        (f"{KEYS}/head", 0, {5}),
        (KEYS, 0, {4, 5}),
        ("schedules", 0, {2, 5}),
        ("", 0, {2, 5}),
    ],
)
def test_a_home_that_may_not_be_read_or_written(
    path: str, mode: int, codes: set[int], site: Site, ordinary: tuple[str, ...]
) -> None:
    before, target = site.kinds(), site.home / path
    kept = target.stat().st_mode
    target.chmod(mode)
    ran = site.spawned(ACTS[0], within=ordinary)
    target.chmod(kept)
    assert ran.code in codes, ran.said
    assert "Traceback" not in ran.said
    assert "a fault in the program" not in ran.said
    assert_nothing_shown(ran)
    assert [kind for kind in site.kinds() if kind not in ("refused", "attempt-failed")] == before
    assert site.verdict() == "intact-local"


def test_a_head_that_cannot_be_written_fails_no_reveal(site: Site, ordinary: tuple[str, ...]) -> None:
    head = site.home / KEYS / "head"
    head.chmod(0o444)
    ran = site.spawned(ACTS[0], within=ordinary)
    head.chmod(0o644)
    assert ran.code == 0, ran.said
    assert "the local head could not be written" in ran.err
    assert "Randomization no.  2" in ran.out
    assert site.kinds()[-1] == "allocated"


def test_a_study_cannot_be_opened_where_nothing_may_be_written(tmp_path: Path, ordinary: tuple[str, ...]) -> None:
    site = site_at(tmp_path, "none")
    site.home.mkdir()
    site.home.chmod(0o555)
    assert_clear(site.spawned("init study.toml --person SP --name Li --mode test", within=ordinary), 5)
    assert list(site.home.iterdir()) == []


@pytest.mark.requirement("A04")
@pytest.mark.parametrize("free", [0, 600, 4_096])
def test_a_full_disk_allocates_nothing_or_says_so(free: int, site: Site) -> None:
    """No file may grow beyond the size of the log and a little more: SQLite and the rest of the program meet EFBIG."""
    before = site.kinds()
    size = site.home.joinpath(SCHEDULES, "log.sqlite3").stat().st_size + free
    ran = _limited(site, ACTS[0], size)
    assert "Traceback" not in ran.said
    assert ran.code in (0, 5), ran.said
    if ran.code == 5:
        assert_nothing_shown(ran)
        assert site.kinds() == before
    assert site.verdict() == "intact-local"
    again = site.typed(ACTS[0].replace("--as", "--json --as", 1)).result
    assert again["number"] == 2
    assert site.kinds().count("allocated") == 2


def _limited(site: Site, line: str, size: int) -> Ran:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [PROGRAM, *shlex.split(line)], cwd=site.desk, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**_bare_environment(), **site._variables()}, timeout=SECONDS, preexec_fn=limit, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def test_everybodys_passphrase_is_not_in_any_output(site: Site) -> None:
    secret = "correct horse battery staple"
    for line in (ACTS[0], "--as NEW person enrol --code AAAA", "--json --as PH show P-001"):
        assert secret not in site.typed(line, ALLOCATOR_PASSPHRASE=secret).said
